"""realm train-rl: GRPO with fading routes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from realm_cli.cli.options import ForceOpt, JsonOpt, LogToOpt, ProblemsOpt, RecipeOpt, ResumeOpt, RunOpt, SetOpt

if TYPE_CHECKING:
    from realm_cli.cli.context import Context
    from realm_cli.stages.train_rl import RlInputs


def train_rl(
    recipe: RecipeOpt = None,
    run: RunOpt = None,
    steps: Annotated[Optional[int], typer.Option("--steps", help="RL steps T.")] = None,  # noqa: UP045
    eaai_steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--eaai-steps", help="Steps until no route is shown any more. Default: 0.6 T."),
    ] = None,
    schedule: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="asymptotic, linear, cosine, step, abrupt, none or zero (plain GRPO)."),
    ] = None,
    adapter: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Adapter to continue (ReaLM-R1); `none` = raw model (ReaLM-Zero). Default: the run's "
            "refine/distill/adapter, else distill/adapter."
        ),
    ] = None,
    sets: Annotated[Optional[Path], typer.Option(help="Route sets. Default: the run's verify/sets.jsonl.")] = None,  # noqa: UP045
    problems: ProblemsOpt = None,
    log_to: LogToOpt = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Write plan.jsonl and stop.")] = False,
    set_: SetOpt = None,
    resume: ResumeOpt = False,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """GRPO on bare and routed prompts; the routes fade to none over --eaai-steps (EAAI).

    A terminal shows how it goes; `realm watch` shows the same elsewhere. `accelerate launch` shares the work.

    \b
    Example: realm train-rl --recipe demo --steps 200 --eaai-steps 120
    Example: realm train-rl --run runs/mine --adapter none --schedule linear --plan-only
    """
    import sys
    from dataclasses import replace
    from functools import partial

    from realm_cli.checking import checking
    from realm_cli.cli.adapters import with_own_lora
    from realm_cli.cli.console import progress, say, show
    from realm_cli.cli.context import existing, follows, keep_recipe, load_context, problems_path
    from realm_cli.cli.live import live, tracked
    from realm_cli.cli.trackers import open_trackers
    from realm_cli.errors import ArtifactError
    from realm_cli.run_folder import finished, open_stage
    from realm_cli.stages.plan import plan_summary, run_plan
    from realm_cli.stages.problems import load_problems, pick
    from realm_cli.stages.shown_routes import load_routes, shown_for_test
    from realm_cli.stages.train_rl import RlInputs, run_train_rl

    given = {"steps": steps, "eaai_steps": eaai_steps, "schedule": schedule}
    overrides = [*(set_ or []), *[f"train_rl.{key}={value}" for key, value in given.items() if value is not None]]
    context = load_context(recipe, run, overrides)
    path = problems_path(context, problems, measured=True)
    rows = load_problems(path)
    train, dev = pick(rows, "train", path), pick(rows, "dev", path)
    routes = context.run / "rollout" / "routes.jsonl"
    shown = {}
    if context.recipe.train_rl.dev_routed and routes.exists():
        k, long = context.recipe.eval.k, context.recipe.verify.k_long_tokens
        shown = shown_for_test(dev, load_routes(routes, dev), k, context.recipe.seed, long)
    inputs = RlInputs(train, dev, shown)
    sets_path = existing(sets, context.run / "verify" / "sets.jsonl")
    refined = context.run / "refine" / "distill" / "adapter"
    own = refined if refined.exists() else context.run / "distill" / "adapter"
    start = None if adapter == "none" else existing(Path(adapter) if adapter else None, own)
    if start is not None and not (start / "adapter_config.json").exists():
        raise ArtifactError(
            f"{start}: no adapter_config.json; give an adapter folder, or --adapter none for the raw model"
        )
    asked, context = context, replace(context, recipe=with_own_lora(context.recipe, start, "train_rl", overrides))
    if follows():
        if not plan_only and not (resume and finished(context.run / "train_rl")):
            _follow(context, inputs, start)
        return
    files = {"problems": path, "sets": sets_path, "adapter": start}
    stage = open_stage(context.run, "train_rl", context.recipe, files, resume=resume, force=force)
    keep_recipe(asked, problems, begun=True)
    if resume and stage.done:
        say(f"{stage.folder}: already complete; nothing to do (use --force to redo it)")
        return
    plan = run_plan(stage, inputs.train, sets_path)
    if plan_only:
        stage.finish("planned")
        keep_recipe(asked, problems)
        show(plan_summary(stage, plan), as_json)
        return
    from realm_cli.engines.build import load_student
    from realm_cli.engines.grpo import RouteGrpoTrainer

    loaded = load_student(context.recipe, adapter=start, trainable=True)
    stage.same_model(loaded.label, loaded.digest)
    trainer = RouteGrpoTrainer(loaded, context.recipe.train_rl, context.recipe.seed, context.recipe.engine)
    view = partial(live, stage.folder) if sys.stderr.isatty() else progress
    with checking(context.recipe.checks, say), open_trackers(log_to or [], context.run, stage.folder) as track:
        summary = run_train_rl(stage, inputs, plan, trainer, progress=tracked(view, track), resume=resume, say=say)
    stage.finish()
    keep_recipe(asked, problems)
    show(summary, as_json)


def _follow(context: Context, inputs: RlInputs, adapter: Path | None) -> None:
    """Help the process that runs the stage (engines/parallel.py)."""
    from realm_cli.engines.build import load_student
    from realm_cli.engines.grpo import RouteGrpoTrainer
    from realm_cli.stages.train_rl import follower_job

    loaded = load_student(context.recipe, adapter=adapter, trainable=True)
    trainer = RouteGrpoTrainer(loaded, context.recipe.train_rl, context.recipe.seed, context.recipe.engine)
    trainer.follow(follower_job(context.run / "train_rl", context.recipe, inputs))
