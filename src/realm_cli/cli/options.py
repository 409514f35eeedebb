"""Options shared by the stage commands, so that each reads the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

_FILES, _WORK = "Files", "Run"

RecipeOpt = Annotated[
    Optional[str],  # noqa: UP045 - Typer reads the annotation at run time on Python 3.10
    typer.Option(
        "--recipe",
        "-r",
        help="Recipe YAML, or a name in recipes/. Default: the run's own recipe.",
        rich_help_panel=_WORK,
    ),
]
RunOpt = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--run", help="Run folder; holds one folder per stage. Default: runs/<recipe name>.", rich_help_panel=_WORK
    ),
]
SetOpt = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a recipe key, e.g. --set train_rl.lr=2e-5. Repeatable.",
        rich_help_panel=_WORK,
    ),
]
ResumeOpt = Annotated[
    bool,
    typer.Option("--resume", help="Continue an interrupted stage (same recipe and inputs).", rich_help_panel=_WORK),
]
ForceOpt = Annotated[bool, typer.Option("--force", help="Empty the stage's folder and redo it.", rich_help_panel=_WORK)]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=_WORK)]
ProblemsOpt = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--problems",
        help="Problems (JSONL). Default: the recipe's, else the run's problems.jsonl.",
        rich_help_panel=_FILES,
    ),
]
LogToOpt = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--log-to",
        metavar="NAME",
        help="Send the metrics to tensorboard, wandb or trackio too. Repeatable.",
        rich_help_panel=_WORK,
    ),
]
ShardOpt = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only every N-th problem, from the I-th on; `realm merge` joins the runs.",
        rich_help_panel=_WORK,
    ),
]
