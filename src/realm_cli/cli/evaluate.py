"""realm eval: accuracies with confidence intervals, bare and routed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from realm_cli.cli.options import ForceOpt, JsonOpt, ProblemsOpt, RecipeOpt, ResumeOpt, RunOpt, SetOpt


def evaluate(
    recipe: RecipeOpt = None,
    run: RunOpt = None,
    adapter: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--adapter", "-a", metavar="[LABEL=]DIR", help="Adapter on the recipe's student. Repeatable."),
    ] = None,
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", "-m", help="Other models: hf:MODEL, vllm:MODEL, openai:URL#MODEL, ... Repeatable."),
    ] = None,
    base: Annotated[
        bool, typer.Option("--base/--no-base", help="Evaluate the student without an adapter, too.")
    ] = True,
    mode: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--mode", help="bare, routed, routed_hidden, or ruled (with the rules shown). Repeatable."),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Paired differences between all models.")] = False,
    routes: Annotated[Optional[Path], typer.Option(help="Routes for routed modes. Default: the run's.")] = None,  # noqa: UP045
    rules: Annotated[Path | None, typer.Option(help="Rules for mode ruled. Default: the run's rules.md.")] = None,
    reliance: Annotated[
        bool, typer.Option("--reliance", help="How much right routed solutions lean on the routes (local models).")
    ] = False,
    n: Annotated[Optional[int], typer.Option("--n", min=1, help="Samples per problem; 1 = greedy.")] = None,  # noqa: UP045
    split: Annotated[Optional[str], typer.Option(help="dev or test.")] = None,  # noqa: UP045
    limit: Annotated[Optional[int], typer.Option(min=1, help="Use at most this many problems.")] = None,  # noqa: UP045
    problems: ProblemsOpt = None,
    set_: SetOpt = None,
    resume: ResumeOpt = False,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Accuracy with 95 % CIs on held-out problems, bare and with routes; paired comparison of several models.

    Without --adapter, the run's distill/adapter and train_rl/adapter are evaluated where they exist.

    \b
    Example: realm eval --run runs/demo --compare
    Example: realm eval --recipe mine --adapter sft=runs/a/distill/adapter --adapter runs/b/train_rl/adapter
    """
    from realm_cli.checking import checking
    from realm_cli.cli.console import progress, say, show
    from realm_cli.cli.context import existing, keep_recipe, load_context, problems_path, read_text
    from realm_cli.cli.models import as_scorer, eval_models
    from realm_cli.run_folder import open_stage
    from realm_cli.stages.evaluate import run_eval
    from realm_cli.stages.problems import load_problems, pick

    given = {"n": n, "split": split, "limit": limit, "modes": f"[{','.join(mode)}]" if mode else None}
    overrides = [*(set_ or []), *[f"eval.{key}={value}" for key, value in given.items() if value is not None]]
    context = load_context(recipe, run, overrides)
    config = context.recipe.eval
    path = problems_path(context, problems)
    rows = load_problems(path)
    chosen = pick(rows, config.split, path, config.limit)
    models, adapters = eval_models(context, adapter or [], model or [], base=base)
    routes_path = existing(routes, context.run / "rollout" / "routes.jsonl")
    routed = any(m.startswith("routed") for m in config.modes)
    rules_text = (
        read_text(rules or context.recipe.data.rules, context.run / "rules.md", "rules")
        if "ruled" in config.modes
        else ""
    )
    inputs = {
        "problems": path,
        "routes": routes_path if routed else None,
        **{f"adapter {k}": v for k, v in adapters.items()},
    }
    stage = open_stage(context.run, "eval", context.recipe, inputs, resume=resume, force=force)
    keep_recipe(context, None, begun=True)
    if resume and stage.done:
        say(f"{stage.folder}: complete; reading its predictions")
    many = compare or len(models) > 1
    with checking(context.recipe.checks, say):
        summary = run_eval(
            stage,
            chosen,
            models,
            routes_path,
            modes=config.modes,
            compare=many,
            progress=progress,
            training=[p for p in rows if p.split == "train"],
            rules=rules_text,
            scorer=as_scorer if reliance and routed else None,
        )
    stage.finish()
    keep_recipe(context, None)
    show(summary, as_json)
