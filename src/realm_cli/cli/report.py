"""realm report: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from realm_cli.cli.options import JsonOpt


def report(
    run: Annotated[Optional[Path], typer.Argument(metavar="DIR", help="Run folder.")] = None,  # noqa: UP045
    lab: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--lab", metavar="FILE", help="Results of `make lab` (runs.jsonl) instead of a run."),
    ] = None,
    out: Annotated[Optional[Path], typer.Option("--out", help="The page. Default: DIR/report.html.")] = None,  # noqa: UP045
    problems: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--problems", help="Problems (JSONL), for their questions. Default: the run's own."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is no report.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Write one HTML page about a run: tables with intervals, curves, routes, examples, alarms, manifest, limits.

    The page needs no network, follows the reader's light or dark scheme, and prints. It replaces an earlier one.

    \b
    Example: realm report runs/demo
    Example: realm report runs/mine --problems problems.jsonl --out mine.html
    Example: realm report --lab benchmarks/results/lab/runs.jsonl --out lab.html
    """
    from realm_cli.artifacts import write_text
    from realm_cli.cli.console import progress, show
    from realm_cli.errors import ArtifactError, ConfigError
    from realm_cli.report.page import MARK, render
    from realm_cli.stages.report import run_report
    from realm_cli.stages.report_examples import RULE
    from realm_cli.stages.report_lab import lab_report
    from realm_cli.stages.summary import Summary

    if (run is None) == (lab is None):
        raise ConfigError("report: give a run folder, such as runs/demo, or --lab FILE")
    path = out or (run / "report.html" if run is not None else None)
    if path is None:
        raise ConfigError("report: --lab needs --out FILE.html")
    data = run_report(run, problems=problems, progress=progress) if run is not None else lab_report(lab or Path())
    if path.is_dir():
        raise ArtifactError(f"{path}: is a folder; name a file, such as {path / 'report.html'}")
    if path.exists() and not force:
        with path.open("rb") as file:
            if MARK.encode() not in file.read(4096):
                raise ArtifactError(f"{path}: is no report of realm; choose another --out, or replace it with --force")
    page = render({**data, "rule": RULE})
    write_text(path, page)
    told = {"file": str(path), "bytes": len(page.encode()), "missing": data["missing"], "limits": data["limits"]}
    show(Summary("report", told, notes=data["missing"], files=[str(path)]), as_json)
