"""realm refine: a round of routed RFT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from realm_cli.cli.options import ForceOpt, ProblemsOpt, RecipeOpt, ResumeOpt, RunOpt, SetOpt


def refine(
    recipe: RecipeOpt = None,
    run: RunOpt = None,
    adapter: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Adapter to sample from and to fine-tune further. Default: the run's distill/adapter."),
    ] = None,
    sets: Annotated[Path | None, typer.Option(help="Route sets. Default: the run's verify/sets.jsonl.")] = None,
    positives: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Routes whose correct ones join (refine.positives). Default: the run's rollout/routes.jsonl."
        ),
    ] = None,
    problems: ProblemsOpt = None,
    set_: SetOpt = None,
    resume: ResumeOpt = False,
    force: ForceOpt = False,
) -> None:
    """Sample solutions with routes in the prompt, keep the right ones, learn them for the bare prompt (routed RFT).

    Two steps, each with its own files: refine/rollout/routes.jsonl, then refine/distill/{guided,sft}.jsonl and
    refine/distill/adapter, which train-rl and eval then take by themselves. `accelerate launch` shares the second one's
    fine-tuning.

    \b
    Example: realm refine --run runs/demo
    Example: realm refine --run runs/mine --set refine.n=8 --set refine.positives=false
    """
    from realm_cli.cli.console import say
    from realm_cli.cli.context import existing, follows, load_context
    from realm_cli.cli.distill import distill
    from realm_cli.cli.rollout import rollout
    from realm_cli.errors import ArtifactError

    context = load_context(recipe, run, set_)
    folder, config = context.run / "refine", context.recipe.refine
    start = adapter or context.run / "distill" / "adapter"
    if not (start / "adapter_config.json").exists():
        raise ArtifactError(f"{start}: no adapter_config.json; run `realm distill` first, or give --adapter DIR")
    sets_path = sets or context.run / "verify" / "sets.jsonl"
    if not sets_path.exists():
        raise ArtifactError(f"{sets_path}: not found; make it with `realm rollout` and `realm verify`, or give --sets")
    found = existing(positives, context.run / "rollout" / "routes.jsonl") if config.positives else None
    common: dict[str, Any] = {
        "recipe": recipe or (str(context.run / "recipe.json") if (context.run / "recipe.json").exists() else None),
        "run": folder,
        "problems": problems or existing(None, context.run / "rollout" / "problems.jsonl"),
        "adapter": start,
        "sets": sets_path,
        "resume": resume,
        "force": force,
    }
    given = list(set_ or [])
    sampling = {"n": config.n, "self_n": "null", "temperature": config.temperature, "splits": "[train]"}
    sampling |= {"max_tokens": context.recipe.train_rl.max_tokens, "limit": "null"}
    asked = [*given, *(f"rollout.{key}={value}" for key, value in sampling.items())]
    if not follows():
        say("solutions with routes in the prompt")
        rollout(**common, model=["student"], routed=True, set_=asked)
    fitting = {"problems": "train", "buckets": "null", "limit": "null", "keep_per_problem": config.keep_per_problem}
    fitting |= {"rule_check": "false", "nll_drop": 0, "rules_in_prompt": 0}
    fitting |= {"sft.epochs": config.epochs} if config.epochs is not None else {}
    if not follows():
        say("the right ones, learned for the bare prompt")
    distill(
        **common,
        teacher=f"jsonl:{folder / 'rollout' / 'routes.jsonl'}",
        positives=found,
        scored=existing(None, context.run / "verify" / "scored.jsonl"),
        set_=[*given, *(f"distill.{k}={v}" for k, v in fitting.items())],
    )
