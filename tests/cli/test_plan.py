"""`realm plan` on real recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.helpers import Realm


def test_the_demo_is_planned_without_writing_anything(
    realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = realm("plan", "--recipe", "demo", "--gpu", "8")
    assert result.code == 0
    text = " ".join(result.out.split())
    assert "8 GB GPU: fits" in text
    assert "problems: 1,200 train, 160 dev, 600 test" in text
    assert "add --calibrate" in text
    assert list(tmp_path.iterdir()) == []


def test_calibrated_with_the_lengths_of_a_run(realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--recipe", "demo", "--run", "r", "--set", "data.n_train=24", "--set", "data.n_dev=4"]
    assert realm("rollout", *small, "--set", "data.n_test=4").code == 0
    assert realm("verify", *small).code == 0
    result = realm("plan", *small, "--tokens", 40, "--calibrate", "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["problems"] == {"train": 24, "dev": 4, "test": 4}
    assert told["lengths"]["source"] == "as in r/verify/sets.jsonl"
    assert told["lengths"]["routed"] > told["lengths"]["bare"]
    assert told["speeds"]["sampled"] > 0
    rl = next(row for row in told["work"] if row["stage"] == "train-rl")
    assert rl["samples"] == 60 * 16 * 8 + 3 * (4 + 60)
    assert rl["sampled"] == 40 * rl["samples"]
    assert rl["seconds"] == pytest.approx(
        rl["sampled"] / told["speeds"]["sampled"] + rl["trained"] / told["speeds"]["trained"], abs=1
    )


def test_what_is_wrong_is_one_line(realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, word in (
        (["--recipe", "demo", "--gpu", "0"], "--gpu: memory in GiB"),
        (["--recipe", "demo", "--set", "student.model=tiny"], "did you mean tiny-student"),
        ([], "give --problems FILE"),
    ):
        result = realm("plan", *arguments)
        assert result.code == 1
        assert word in result.lines[-1]
        assert result.lines[-1].startswith("error: ")
