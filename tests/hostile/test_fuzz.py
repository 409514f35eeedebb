"""The short form of `make fuzz`, every large text through every parser, and that the harness can fail."""

from __future__ import annotations

import pytest

from hostile import fuzz
from hostile.corpus import LARGE, cases
from hostile.fuzz import Found
from hostile.parsers import MODEL
from realm_cli.errors import DataError


def test_two_thousand_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--cases", "2000", "--seed", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2000 texts, 22") and lines[-1] == "no crash, no hang"


def test_texts_differ_and_come_again() -> None:
    found = list(cases(500, 3))
    assert found == list(cases(500, 3)) and len(set(found)) > 450 and max(map(len, found)) >= 400_000


@pytest.mark.parametrize("at", range(0, len(LARGE), 7))
def test_a_megabyte_of_anything_is_read_in_time(at: int) -> None:
    found = Found()
    for text in LARGE[at : at + 7]:
        for name, parse in MODEL.items():
            found.one(name, parse, text, loader=False)
    assert found.failures == []


def test_crashes_hangs_and_errors_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "LIMIT", 0.1)
    monkeypatch.setattr(fuzz, "PACES", 0.5)

    def spin(text: str) -> None:
        for _ in range(40_000_000):
            pass

    def refuse(text: str) -> None:
        raise DataError("x: broken")

    found = Found()
    found.one("spin", spin, "a", loader=False)
    found.one("int", lambda text: [][1], "b", loader=True)  # type: ignore[arg-type]
    found.one("refuse", refuse, "c", loader=False)
    found.one("refuse", refuse, "d", loader=True)
    assert [text.partition(":")[0] for text in found.failures] == ["spin", "int", "refuse"] and found.refused == 2
