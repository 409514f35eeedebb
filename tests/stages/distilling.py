"""Running the distill stage on the toy world, and reading what it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fakes import no_progress
from realm_cli.records import GuidedCoT, Problem, SFTSample
from realm_cli.stages.distill import Extras, Guide, run_distill
from realm_cli.stages.summary import Summary
from stages.helpers import RULES, cot, gold, load, right, stage_in

NOTES = "Mind the one that is sold."


def good(i: int) -> str:
    return cot(right(i), gold(i))


def worded(i: int) -> str:
    """A second right derivation in other words."""
    lines = [f"first the bags hold together {right(i)[0]}", f"with the loose ones {right(i)[1]}", right(i)[2]]
    return cot(lines, gold(i))


def distill(
    folder: Path,
    problems: Sequence[Problem],
    teacher: Any,
    *,
    extras: Extras | None = None,
    trainer: Any = None,
    progress: Any = no_progress,
    resume: bool = False,
    guide: dict[str, Any] | None = None,
    **config: Any,
) -> Summary:
    stage = stage_in(folder, "distill", resume=resume, distill={"n": 1, "nll_drop": 0.0, **config})
    parts = {"rules": RULES, "notes": NOTES, "count_tokens": lambda text: len(text.split()), **(guide or {})}
    return run_distill(
        stage, problems, Guide(teacher, **parts), extras or Extras(), trainer, progress=progress, resume=resume
    )


def guided(folder: Path) -> dict[str, GuidedCoT]:
    return {row["id"]: GuidedCoT.model_validate(row) for row in load(folder / "distill" / "guided.jsonl")}


def sft(folder: Path) -> list[SFTSample]:
    return [SFTSample.model_validate(row) for row in load(folder / "distill" / "sft.jsonl")]
