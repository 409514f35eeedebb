"""Work that an older version began, whose prompts did not show choices, is not continued with prompts that do.

A stage's manifest says `choices_shown` from its beginning on. Where it does not, and rows of a problem with choices are
there, going on would mix answers to two prompts.
Usage: `same_choices(stage, problems, {row.problem_id for row in rows})`
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from realm_cli.errors import ArtifactError
from realm_cli.prompts import options_text
from realm_cli.records import Problem
from realm_cli.run_folder import Stage


def same_choices(stage: Stage, problems: Sequence[Problem], begun: Container[str]) -> None:
    """Record that prompts show choices. ArtifactError where one of the problems whose ids are `begun` was asked without
    its choices; work on other problems goes on."""
    if shown(stage.earlier):
        return
    old = next((p.id for p in problems if p.id in begun and options_text(p)), None)
    if old is not None:
        raise ArtifactError(
            f"{stage.folder}: begun by an older version, which asked {old} without showing its choices; use --force to "
            "redo the stage, or another --run"
        )
    stage.note(choices_shown=True)


def shown(manifest: Mapping[str, Any]) -> bool:
    """Whether the prompts of a stage with this manifest show choices; {} = a stage that begins."""
    return not manifest or bool(manifest.get("choices_shown"))
