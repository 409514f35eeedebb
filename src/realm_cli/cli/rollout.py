"""realm rollout: collect routes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from realm_cli.cli.options import ForceOpt, JsonOpt, ProblemsOpt, RecipeOpt, ResumeOpt, RunOpt, SetOpt, ShardOpt


def rollout(
    recipe: RecipeOpt = None,
    run: RunOpt = None,
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--model",
            "-m",
            help="student, solver:NAME, hf:MODEL, vllm:MODEL, openai:URL#MODEL, jsonl:FILE. Repeatable.",
        ),
    ] = None,
    n: Annotated[Optional[int], typer.Option("--n", min=1, help="Routes per problem and model.")] = None,  # noqa: UP045
    adapter: Annotated[Optional[Path], typer.Option(help="Adapter folder for `student`.")] = None,  # noqa: UP045
    routed: Annotated[
        bool, typer.Option("--routed", help="Show routes in the prompt; keep the own solutions.")
    ] = False,
    sets: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Route sets for --routed. Default: the run's verify/sets.jsonl."),
    ] = None,
    problems: ProblemsOpt = None,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Use at most this many problems.")] = None,  # noqa: UP045
    shard: ShardOpt = None,
    set_: SetOpt = None,
    resume: ResumeOpt = False,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Sample routes of the student and of external models. A rerun adds only what is missing.

    \b
    Example: realm rollout --recipe demo --model student --model solver:hasty --n 4
    Example: realm rollout --problems my.jsonl --model openai:http://localhost:8000/v1#Qwen2.5-7B --n 4
    Example: realm rollout --run runs/rft --routed --sets runs/demo/verify/sets.jsonl --model student
    """
    from realm_cli.checking import checking
    from realm_cli.cli.console import progress, say, show
    from realm_cli.cli.context import keep_recipe, load_context, problems_path
    from realm_cli.engines.budget import Budget
    from realm_cli.engines.build import build_generator
    from realm_cli.errors import ConfigError
    from realm_cli.run_folder import open_stage
    from realm_cli.stages.problems import load_problems, spread
    from realm_cli.stages.rollout import load_sets, run_rollout
    from realm_cli.stages.sharding import Shard

    overrides = [*(set_ or []), *([f"rollout.n={n}"] if n else []), *([f"rollout.limit={limit}"] if limit else [])]
    context = load_context(recipe, run, overrides)
    config = context.recipe.rollout
    path = problems_path(context, problems)
    rows = [p for p in load_problems(path) if p.split in config.splits]
    if not rows:
        raise ConfigError(f"{path}: no problem in splits {', '.join(config.splits)}; change rollout.splits")
    part = Shard.parse(shard) if shard else None
    chosen = spread(rows, config.limit)
    chosen = part.take(chosen) if part else chosen
    specs = model or config.models
    if len(set(specs)) < len(specs):
        raise ConfigError(f"rollout: a model is named twice in {', '.join(specs)}; name each once")
    shown = load_sets(sets or context.run / "verify" / "sets.jsonl", rows) if routed else None
    budget = Budget(context.recipe.engine.server)
    generators = [
        build_generator(s, context.recipe, adapter=adapter if s == "student" else None, budget=budget) for s in specs
    ]
    stage = open_stage(
        context.run,
        "rollout",
        context.recipe,
        {"problems": path},
        resume=resume,
        force=force,
        append=True,
        shard=str(part) if part else None,
    )
    keep_recipe(context, problems, begun=True)
    own = {g.name for g, s in zip(generators, specs, strict=True) if s == "student"}
    own |= set(stage.earlier.get("student_sources", []))  # also where this rerun adds other models only
    stage.note(student_sources=sorted(own))
    with checking(context.recipe.checks, say):
        summary = run_rollout(
            stage,
            chosen,
            generators,
            self_names=frozenset(own),
            progress=progress,
            sets=shown,
        )
    stage.finish(sources=sorted(summary.data["sources"]))
    keep_recipe(context, problems)
    show(summary, as_json)
