"""realm merge: shards put together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from realm_cli.cli.options import ForceOpt, JsonOpt, ProblemsOpt


def merge(
    shards: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders, one for each shard.")],
    run: Annotated[Path, typer.Option("--run", help="Run folder to write.")],
    problems: ProblemsOpt = None,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Join what `rollout --shard I/N` and `distill --shard I/N` have sampled, as if it had never been divided.

    A merged rollout is complete; a merged distill is continued by `realm distill --run RUN --resume`.

    \b
    Example: realm merge runs/part-1 runs/part-2 --run runs/whole
    """
    from realm_cli.cli.console import show
    from realm_cli.cli.context import Context, keep_recipe
    from realm_cli.errors import ArtifactError
    from realm_cli.run_folder import open_stage
    from realm_cli.stages.problems import load_problems
    from realm_cli.stages.sharding import ROWS, find_parts, merge_stage, problems_of, shared_recipe

    found = {name: parts for name in ROWS if (parts := find_parts(shards, name))}
    if not found:
        raise ArtifactError(f"{shards[0]}: no shard in it; make some with `realm rollout --shard 1/2 --run DIR`")
    for name, parts in found.items():
        path, recipe = problems_of(parts, problems), shared_recipe(parts[0])
        inputs = {key: Path(entry["path"]) for key, entry in parts[0].manifest.get("inputs", {}).items()}
        there = {key: given for key, given in inputs.items() if given.exists()} | {"problems": path}
        stage = open_stage(run, name, recipe, there, force=force)
        summary = merge_stage(stage, parts, load_problems(path))
        if name == "rollout":
            stage.finish()
        keep_recipe(Context(recipe, run), path)
        show(summary, as_json)
