"""realm verify-run: is a run what its manifests say?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from realm_cli.cli.options import JsonOpt


def verify_run(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder.")],
    as_json: JsonOpt = False,
) -> None:
    """Compare every file of a run with the digests in its manifests; exit code 1 names what was changed by hand.

    \b
    Example: realm verify-run runs/demo
    """
    from realm_cli.cli.console import show
    from realm_cli.stages.verify_run import run_verify_run

    summary = run_verify_run(run)
    show(summary, as_json)
    if summary.data["problems"]:
        raise typer.Exit(1)
