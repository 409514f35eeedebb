"""The state of a run as its files tell it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from realm_cli.recipe import Recipe
from realm_cli.stages.watching import Tail, Watch, newest, past_alarms


def add(path: Path, *rows: dict[str, Any], cut: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as out:
        out.write("".join(json.dumps(row) + "\n" for row in rows) + cut)


def steps(of: Tail) -> list[int]:
    return [row["step"] for row in of.rows()]


def test_new_whole_lines_come_once(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    tail = Tail(path)
    assert steps(tail) == []
    add(path, {"step": 1}, {"step": 2}, cut='{"step"')
    assert steps(tail) == [1, 2] and steps(tail) == []
    add(path, cut=': 3}\nbroken\n[4]\n{"step": 5}\n')
    assert steps(tail) == [3, 5] and not tail.restarted


def test_a_file_that_was_cut_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    add(path, *({"step": n} for n in range(9)))
    tail = Tail(path)
    assert len(steps(tail)) == 9
    path.write_text("")
    add(path, {"step": 0}, {"step": 1})
    assert steps(tail) == [0, 1] and tail.restarted
    assert steps(tail) == [] and not tail.restarted


def test_only_the_end_of_a_large_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    add(path, *({"step": n} for n in range(1000)))
    assert steps(Tail(path, last=30)) == [998, 999]  # what begins inside a line is left out
    assert steps(Tail(path, last=1 << 20)) == list(range(1000))


def row(step: int, **more: float) -> dict[str, Any]:
    return {"step": step, "total_steps": 10, "loss": 0.5, "lam": 1.0, "tokens_sampled": 300.0, **more}


def test_speed_shares_and_what_is_left(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    assert (watch.poll(), watch.eta(), watch.shares(), watch.best()) == ([], None, {}, None)
    add(
        tmp_path / "metrics.jsonl",
        {"step": 0, "total_steps": 10, "dev_bare": 0.25},
        row(1),
        row(2, dev_bare=0.75),
        row(3),
    )
    times = {"seconds_sample": 1.0, "seconds_score": 0.5, "seconds_update": 1.5}
    add(tmp_path / "timing.jsonl", {"step": 0, "seconds_eval": 7.0}, *({"step": n, **times} for n in (1, 2, 3)))
    add(tmp_path / "samples.jsonl", {"id": "a", "completion": "x"}, {"id": "b", "completion": "y"})
    assert [r["step"] for r in watch.poll()] == [0, 1, 2, 3]
    assert (watch.step, watch.total, watch.tokens) == (3, 10, 900.0)
    assert watch.seconds_per_step() == 3.0 and watch.eta() == 21.0 and watch.tokens_per_second() == 100.0
    assert watch.shares() == {"sample": 1 / 3, "score": 1 / 6, "update": 1 / 2}
    assert watch.best() == (2, 0.75) and watch.sample["id"] == "b"
    (tmp_path / "metrics.jsonl").write_text("")
    add(tmp_path / "metrics.jsonl", row(1))
    watch.poll()
    assert (watch.step, watch.tokens, watch.curve) == (1, 300.0, {})  # it went on from a checkpoint


def test_the_stage_that_wrote_last_and_its_alarms(tmp_path: Path) -> None:
    assert newest(tmp_path, ("train_rl", "distill")) is None
    add(tmp_path / "distill" / "metrics.jsonl", row(1))
    assert newest(tmp_path, ("train_rl", "distill")) == tmp_path / "distill"
    folder = tmp_path / "train_rl"
    rows = [row(n, reward=0.0, truncated=1.0, zero_variance_bare=0.0) for n in range(1, 40)]
    add(folder / "metrics.jsonl", *rows, row(40, grad_norm=float("nan")))
    assert past_alarms(folder) == []  # no recipe, no limits
    (folder / "recipe.json").write_text(Recipe().model_dump_json())
    cut, stop = past_alarms(folder)
    assert "100% of the completions are cut off" in cut and "stopped at step 40" in stop
