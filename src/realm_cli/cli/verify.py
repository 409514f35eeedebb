"""realm verify: score routes, build route sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from realm_cli.cli.options import ForceOpt, JsonOpt, ProblemsOpt, RecipeOpt, ResumeOpt, RunOpt, SetOpt


def verify(
    recipe: RecipeOpt = None,
    run: RunOpt = None,
    routes: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--routes", help="Routes (JSONL). Default: the run's rollout/routes.jsonl."),
    ] = None,
    belief: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--belief", metavar="MODEL", help="Local model whose belief in the answer is taken after each step."
        ),
    ] = None,
    mc: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--mc", metavar="MODEL", help="Local model that continues routes after each step (Monte Carlo)."),
    ] = None,
    explain: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--explain", metavar="ID", help="Show one problem's scored routes with the evidence for each step."
        ),
    ] = None,
    problems: ProblemsOpt = None,
    set_: SetOpt = None,
    resume: ResumeOpt = False,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Score routes step by step against each other (MRPV) and build contrastive route sets. Needs no model.

    \b
    Example: realm verify --run runs/demo
    Example: realm verify --run runs/demo --belief student --mc student --set "verify.weights=[1, 0.5, 0]"
    Example: realm verify --run runs/demo --explain rulebook-train-00003
    Example: realm verify --problems my.jsonl --routes routes.jsonl --run runs/mine --set verify.k=3
    """
    from realm_cli.checking import checking
    from realm_cli.cli.console import progress, say, show
    from realm_cli.cli.context import keep_recipe, load_context, problems_path
    from realm_cli.run_folder import open_stage
    from realm_cli.stages.problems import load_problems
    from realm_cli.stages.verify import read_summary, run_verify

    context = load_context(recipe, run, set_)
    path = problems_path(context, problems, measured=True)
    rows = load_problems(path)
    if explain is not None:
        from realm_cli.stages.explain import explain as explained

        show(explained(context.run / "verify" / "scored.jsonl", rows, explain), as_json)
        return
    routes_path = routes or context.run / "rollout" / "routes.jsonl"
    if not routes_path.exists():
        from realm_cli.errors import DataError

        raise DataError(f"{routes_path}: not found; make it with `realm rollout --run {context.run}` or give --routes")
    inputs = {"problems": path, "routes": routes_path}
    stage = open_stage(context.run, "verify", context.recipe, inputs, resume=resume, force=force)
    keep_recipe(context, problems, begun=True)
    if resume and stage.done:
        say(f"{stage.folder}: already complete")
        summary = read_summary(stage)
    else:
        probes = None
        if belief or mc:
            from realm_cli.cli.models import probe_models
            from realm_cli.stages.probes import run_probes

            scorer, continuer = probe_models(context.recipe, belief, mc)
            by_id = {row.id: row for row in rows}
            with checking(context.recipe.checks, say):
                probes = run_probes(stage, by_id, routes_path, belief=scorer, mc=continuer, progress=progress)
        summary = run_verify(stage, rows, routes_path, progress=progress, probes=probes)
        stage.finish()
    keep_recipe(context, problems)
    show(summary, as_json)
