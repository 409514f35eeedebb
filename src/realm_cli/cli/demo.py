"""realm demo: the whole method on the built-in domain and the tiny student, on a laptop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from realm_cli.cli.options import SetOpt

_NEXT = (
    ("eval/report.json", "every figure above, with confidence intervals"),
    ("verify/scored.jsonl", "routes with support per step and first errors"),
    ("refine/rollout/routes.jsonl", "own solutions found with routes in the prompt"),
    ("train_rl/plan.jsonl", "what each prompt showed, and how it faded"),
    ("train_rl/samples.jsonl", "each completion with its reward parts"),
    ("train_rl/adapter", "the adapter; plain peft loads it"),
)


def demo(
    run: Annotated[Path, typer.Option("--run", help="Run folder.")] = Path("runs/demo"),
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="Recipe to run.")] = "demo",
    force: Annotated[bool, typer.Option("--force", help="Start again from nothing.")] = False,
    set_: SetOpt = None,
) -> None:
    """Run all stages on the rulebook domain: base -> distilled -> refined -> RL, in minutes, without a GPU.

    \b
    Example: realm demo
    Example: realm demo --run runs/longer --set train_rl.steps=400
    """
    import time

    from realm_cli.cli.console import say
    from realm_cli.cli.distill import distill
    from realm_cli.cli.evaluate import evaluate
    from realm_cli.cli.refine import refine
    from realm_cli.cli.rollout import rollout
    from realm_cli.cli.train_rl import train_rl
    from realm_cli.cli.verify import verify

    started = time.monotonic()
    common: dict[str, Any] = {"recipe": recipe, "run": run, "set_": set_, "resume": not force, "force": force}
    stages: tuple[tuple[str, Callable[[], None]], ...] = (
        ("1/6 rollout: routes of four noisy solvers, which stand in for external models", lambda: rollout(**common)),
        ("2/6 verify: score the routes step by step, build contrastive sets", lambda: verify(**common)),
        ("3/6 distill: the oracle sees the rules, the student learns without them", lambda: distill(**common)),
        (
            "4/6 refine: its own right solutions, found with routes in the prompt, learned for the bare prompt",
            lambda: refine(**common),
        ),
        (
            "5/6 train-rl: GRPO, while the routes fade from the prompt",
            lambda: train_rl(**common),
        ),
        ("6/6 eval: held-out problems, bare and with routes", lambda: evaluate(**common, compare=True, reliance=True)),
    )
    for title, stage in stages:
        say("")
        say(title)
        stage()
    say("")
    say(f"done in {time.monotonic() - started:.0f} s")
    print("\nLook next at")
    for file, what in _NEXT:
        print(f"  {run / file!s:<34} {what}")
    print("Then bring your own problems: README.md, and `realm distill --help`.")
