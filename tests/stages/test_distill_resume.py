"""Continuing an interrupted teacher, and what the trainer is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes import FakeSftTrainer, ScriptedGenerator
from realm_cli.protocols import MetricSink, TrainResult
from realm_cli.records import SFTSample
from stages.distilling import distill, good, sft, worded
from stages.helpers import apples, cot, load, slip


def test_ctrl_c_keeps_the_teachers_work_and_resume_asks_for_the_rest(tmp_path: Path) -> None:
    problems = [apples(i) for i in range(5)]
    script = {f"p{i}": [good(i), worded(i)] for i in range(4)} | {"p4": [cot(*slip(4, 1))], "p4/label": [good(4)]}
    distill(tmp_path / "whole", problems, ScriptedGenerator(script), n=2)
    stopped = ScriptedGenerator(script, fail_after=3)
    with pytest.raises(KeyboardInterrupt):
        distill(tmp_path / "cut", problems, stopped, n=2)
    assert len(load(tmp_path / "cut" / "distill" / "teacher.jsonl")) == 6
    rest = ScriptedGenerator(script)
    distill(tmp_path / "cut", problems, rest, n=2, resume=True)
    assert [r.key for r in rest.asked] == ["p3", "p4", "p4/label"]
    for file in ("teacher.jsonl", "guided.jsonl", "sft.jsonl"):
        assert (tmp_path / "cut/distill" / file).read_bytes() == (tmp_path / "whole/distill" / file).read_bytes()
    again = ScriptedGenerator(script)
    distill(tmp_path / "cut", problems, again, n=2, resume=True)
    assert again.asked == []


def test_a_cut_last_line_is_asked_again(tmp_path: Path) -> None:
    problems = [apples(i) for i in range(3)]
    script = {f"p{i}": [good(i)] for i in range(3)}
    distill(tmp_path, problems, ScriptedGenerator(script))
    path = tmp_path / "distill" / "teacher.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    again = ScriptedGenerator(script)
    distill(tmp_path, problems, again, resume=True)
    assert [r.key for r in again.asked] == ["p2"]
    assert path.read_bytes() == whole


def test_a_half_written_problem_is_continued(tmp_path: Path) -> None:
    script = {"p0": [good(0), worded(0), cot(*slip(0, 1))]}
    distill(tmp_path, [apples(0)], ScriptedGenerator(script), n=3)
    path = tmp_path / "distill" / "teacher.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\n") + 20])
    again = ScriptedGenerator(script)
    distill(tmp_path, [apples(0)], again, n=3, resume=True)
    assert [(r.key, r.n, r.first_sample) for r in again.asked] == [("p0", 2, 1)]
    assert path.read_bytes() == whole


# ---- training


def test_the_trainer_gets_the_samples_and_its_metrics_are_kept(tmp_path: Path) -> None:
    trainer = FakeSftTrainer(steps=3)
    teacher = ScriptedGenerator({f"p{i}": [good(i)] for i in range(4)})
    summary = distill(tmp_path, [apples(i) for i in range(4)], teacher, trainer=trainer)
    assert trainer.samples == sft(tmp_path) and trainer.resumed is False
    assert load(tmp_path / "distill" / "metrics.jsonl") == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 0.5},
        {"step": 3, "loss": 1 / 3},
    ]
    assert summary.data["adapter"] == str(tmp_path / "distill" / "adapter")
    assert (tmp_path / "distill" / "adapter" / "adapter_model.safetensors").exists()
    assert summary.data["loss"] == 1 / 3
    assert summary.notes[1] == "last loss 0.333 after 3 steps"
    assert [Path(f).name for f in summary.files] == ["guided.jsonl", "sft.jsonl", "metrics.jsonl", "adapter"]


def test_samples_that_came_later_are_trained_from_the_start(tmp_path: Path) -> None:
    script = {f"p{i}": [good(i)] for i in range(4)}
    teacher = ScriptedGenerator(script)
    distill(tmp_path, [apples(i) for i in range(3)], teacher, trainer=FakeSftTrainer())
    checkpoint = tmp_path / "distill" / "checkpoints" / "step-2"
    checkpoint.mkdir(parents=True)
    same, more = FakeSftTrainer(), FakeSftTrainer()
    distill(tmp_path, [apples(i) for i in range(3)], teacher, trainer=same, resume=True)
    assert same.resumed and checkpoint.exists()
    distill(tmp_path, [apples(i) for i in range(4)], teacher, trainer=more, resume=True)
    assert not more.resumed and not checkpoint.exists() and len(more.samples) == 4


class Counted:
    """A trainer that tells how many steps there are."""

    def train(
        self, samples: Sequence[SFTSample], *, out_dir: Path, on_metrics: MetricSink, **given: bool
    ) -> TrainResult:
        for step in (1, 2, 4):
            on_metrics({"step": step, "total_steps": 4, "loss": 0.5})
        on_metrics({"step": 4, "total_steps": 4, "seconds": 1.0})
        return TrainResult(out_dir, 4)


def test_progress_runs_to_the_end_of_training(tmp_path: Path) -> None:
    moves: dict[str, list[tuple[int, str]]] = {}

    @contextmanager
    def progress(label: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
        moves[f"{label}/{total}"] = []

        def advance(n: int, note: str = "") -> None:
            moves[f"{label}/{total}"].append((n, note))

        yield advance

    teacher = ScriptedGenerator({f"p{i}": [good(i)] for i in range(4)}, name="t")
    distill(tmp_path, [apples(i) for i in range(4)], teacher, trainer=Counted(), progress=progress, sft={"epochs": 2})
    assert moves == {
        "teacher t/4": [(1, "")] * 4,
        "fine-tuning on 4 of 4 solutions, rows/8": [(2, "loss 0.500"), (2, "loss 0.500"), (4, "loss 0.500"), (0, "")],
    }
