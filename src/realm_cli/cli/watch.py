"""realm watch: what a run does now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from realm_cli.cli.options import LogToOpt

STAGES = ("train_rl", "refine/distill", "distill")  # that train, the last ones first


def watch(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder.")],
    stage: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="train_rl, refine/distill or distill. Default: the one that wrote last."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show it once and stop.")] = False,
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="How often the files are read.")] = 2.0,
    log_to: LogToOpt = None,
) -> None:
    """Show steps, speed, rewards, the fade, dev accuracy and samples of a run that works, or of one that has ended.

    It reads the run's files, so it can stand in another terminal. Ctrl-C ends the view, not the run.

    \b
    Example: realm watch runs/demo
    Example: realm watch runs/demo --once --log-to tensorboard
    """
    import time

    from rich.console import Console

    from realm_cli.cli.live import panel, showing
    from realm_cli.cli.trackers import open_trackers
    from realm_cli.errors import ArtifactError
    from realm_cli.stages.watching import Watch, newest, past_alarms

    folder = newest(run, STAGES) if stage is None else run / stage
    if stage is not None and stage not in STAGES:
        raise ArtifactError(f"--stage {stage}: unknown; choose one of {', '.join(STAGES)}")
    if folder is None or not (folder / "metrics.jsonl").exists():
        raise ArtifactError(
            f"{folder or run}: nothing has been trained here yet; start with `realm distill` or train-rl"
        )
    console, seen = Console(highlight=False), Watch(folder)
    with open_trackers(log_to or [], run, folder) as track:
        if once or not console.is_terminal:
            seen.poll()
            track()
            console.print(f"{folder}", style="bold", soft_wrap=True)
            console.print(panel(seen, past_alarms(folder), seen.sample))
            return
        with showing(seen, console) as look:
            while True:
                look(past_alarms(folder))
                track()
                time.sleep(every)
