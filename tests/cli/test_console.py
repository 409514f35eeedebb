"""What people see: tables, JSON, progress lines with the time left, and how `main` ends."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest

from cli.helpers import Realm
from realm_cli.cli import app, console
from realm_cli.stages.summary import Summary, Table

SUMMARY = Summary(
    "verify",
    {"share": 0.5, "name": "Gebühr"},
    [Table("Numbers", ["name", "count"], [["[red] apples", "3"], ["pears", "12"]])],
    notes=["a remark [with brackets]"],
    files=["runs/x/a.jsonl", "runs/x/b.json"],
)


def test_tables_notes_and_files(capsys: pytest.CaptureFixture[str]) -> None:
    console.show(SUMMARY, as_json=False)
    out = capsys.readouterr().out
    assert out.startswith("Numbers")
    assert "[red] apples" in out and "a remark [with brackets]" in out  # no markup is read
    assert out.rstrip().endswith("files: runs/x/a.jsonl  runs/x/b.json")


def test_json_is_the_data_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console.show(SUMMARY, as_json=True)
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == (SUMMARY.data, "")
    assert "Gebühr" in out


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test moves: clock[0] is now."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_lines_tell_the_time_left(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with console.progress("routes", 10) as advance:
        clock[0] += 10
        advance(2, "")  # not yet: a line every 15 seconds
        clock[0] += 10
        advance(2, "loss 0.5")
        clock[0] += 10
        advance(6, "")
    assert capsys.readouterr().err.splitlines() == [
        "routes: 4/10 after 20 s, 30 s left, loss 0.5",
        "routes: 10/10 after 30 s, loss 0.5",
    ]


def test_the_first_few_of_many_tell_no_time_left(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with console.progress("routes", 1000) as advance:
        clock[0] += 45
        advance(2, "")
        clock[0] += 45
        advance(98, "")
    assert capsys.readouterr().err.splitlines()[:2] == [
        "routes: 2/1000 after 45 s",
        "routes: 100/1000 after 90 s, 810 s left",
    ]


def test_short_work_is_silent_and_an_unknown_total_has_no_eta(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with console.progress("quick", 5) as advance:
        clock[0] += 1
        advance(5, "")
    assert capsys.readouterr().err == ""
    with console.progress("long", None) as advance:
        clock[0] += 20
        advance(3, "")
    assert capsys.readouterr().err.splitlines()[0] == "long: 3/? after 20 s"


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with console.progress("train-rl [x]", 4) as advance:
        advance(1, "reward 0.50")
        advance(3, "")
    out, err = capsys.readouterr()
    assert out == ""
    for part in ("train-rl [x]", "4/4", "eta", "reward 0.50"):
        assert part in err


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(**given: Any) -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)


def test_ctrl_c_is_130_and_says_what_to_do(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    result = realm("verify")
    assert result.code == 130
    assert result.lines == [
        "interrupted; what was written is kept: the same command with --resume goes on (pipeline.sh: as it is)"
    ]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "runs/x"), "error: runs/x: No space left on device; check the path,"),
        (OSError("odd"), "error: odd; check the path, its permissions and free space"),
    ],
)
def test_system_errors_are_one_line(error: OSError, line: str, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, error)
    result = realm("verify")
    assert result.code == 1 and len(result.lines) == 1
    assert result.lines[0].startswith(line)


def test_a_bug_of_ours_is_not_hidden(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError, match="ours"):
        realm("verify")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_too_little_memory_is_one_line(error: Exception, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, error)
    result = realm("verify")
    assert result.code == 1 and len(result.lines) == 1
    assert result.lines[0].startswith(
        "error: out of memory; what was written is kept: free some, or lower engine.batch"
    )
