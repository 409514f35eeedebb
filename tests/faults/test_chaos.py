"""The short form of `make chaos`, and that it can fail."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from faults import chaos
from faults.kinds import FAULTS
from faults.world import STAGES, Done, Outcome, World, compare


def test_disturbed_stages_lose_and_double_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--kills", "4", "--tries", "2", "--stages", "rollout,verify", "--jobs", "1"]
    assert chaos.main(words) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("all ")]
    tries, faults, *bad = map(int, lines[0][1:7])
    assert tries >= 2 * (len(FAULTS) - 3) and faults >= 4 and bad == [0, 0, 0, 0]


def test_every_fault_says_what_it_promises() -> None:
    assert all(fault.__doc__ and set(stages) <= set(STAGES) for fault, stages, _ in FAULTS.values())


def test_the_comparison_sees_lost_doubled_and_changed_rows(tmp_path: Path) -> None:
    for name, ids in (("whole", "abc"), ("cut", "aab")):
        place = tmp_path / name
        place.mkdir()
        values = [{"id": i, "x": 1 if name == "whole" or i != "b" else 2} for i in ids]
        (place / "routes.jsonl").write_text("".join(json.dumps(v) + "\n" for v in values))
        (place / "problems.jsonl").write_text(name)
    out = Outcome()
    compare("rollout", tmp_path / "whole", tmp_path / "cut", out)
    assert (out.lost, out.doubled, out.different) == (1, 1, 2) and out.bad
    assert out.notes == ["rollout/routes.jsonl: 1 rows differ, e.g. b", "rollout/problems.jsonl differs"]
    out = Outcome()
    compare("rollout", tmp_path / "whole", tmp_path / "cut", out, exact=False)
    assert (out.lost, out.doubled, out.different) == (1, 1, 0)


@pytest.mark.parametrize(
    ("done", "good"),
    [
        (Done(0, ""), True),
        (Done(1, "said\nerror: x: full; free some space"), True),
        (Done(1, "error: y"), False),  # it does not say what was asked for
        (Done(1, "Traceback (most recent call last):\nOSError: x"), False),
        (Done(0, "Traceback in a thread\n"), False),
        (Done(-9, ""), False),
    ],
)
def test_what_was_not_promised_is_counted(done: Done, good: bool, tmp_path: Path) -> None:
    out = Outcome()
    World(tmp_path).expect("verify", done, out, (0, 1), says="x")
    assert out.bad != good and len(out.notes) == (not good)


def test_commands_that_fail_are_seen(tmp_path: Path) -> None:
    world = World(tmp_path)
    out = Outcome()
    run = tmp_path / "whole"
    run.mkdir()
    (run / "verify").write_text("a file")
    done = world.run("verify", run)
    world.judge("verify", run, done, out)
    assert done.code == 1 and out.unexpected == 1 and "verify: exit 1: error: " in out.notes[0]
    assert isinstance(world.start("verify", run), subprocess.Popen)
