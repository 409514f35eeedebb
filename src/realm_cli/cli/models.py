"""The models that `realm eval` compares, each built only when its turn comes, and those that probe routes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from realm_cli.cli.context import Context
    from realm_cli.protocols import Generator, NllScorer
    from realm_cli.recipe import Recipe


def eval_models(
    context: Context, adapters: list[str], specs: list[str], *, base: bool
) -> tuple[dict[str, Callable[[], Generator]], dict[str, Path]]:
    """Label -> factory in the order base, adapters, other models; and label -> adapter folder."""
    from realm_cli.engines.budget import Budget
    from realm_cli.engines.build import build_generator
    from realm_cli.errors import ConfigError
    from realm_cli.recipe import refuse_secret

    folders: dict[str, Path] = {}
    for text in adapters or _own_adapters(context.run):
        label, sep, folder = text.rpartition("=")
        path = Path(folder)
        name = label if sep else path.parent.name if path.name == "adapter" else path.name
        if name in folders or name == "base":
            raise ConfigError(f"--adapter {text}: label {name!r} is taken; write --adapter LABEL=DIR")
        if not (path / "adapter_config.json").exists():
            raise ConfigError(f"--adapter {text}: {path} holds no adapter_config.json; give an adapter folder")
        folders[name] = path
    models: dict[str, Callable[[], Generator]] = {}
    if base:
        models["base"] = partial(build_generator, "student", context.recipe)
    for name, path in folders.items():
        models[name] = partial(build_generator, "student", context.recipe, adapter=path)
    budget = Budget(context.recipe.engine.server)
    for spec in specs:
        refuse_secret(spec)  # before the stage is opened: the label is written to files
        if spec in models:
            raise ConfigError(f"--model {spec}: named twice")
        models[spec] = partial(build_generator, spec, context.recipe, budget=budget)
    if not models:
        raise ConfigError("eval: nothing to evaluate; give --adapter, --model or --base")
    return models, folders


def _own_adapters(run: Path) -> list[str]:
    places = {"distilled": run / "distill", "refined": run / "refine" / "distill", "rl": run / "train_rl"}
    places = {label: path / "adapter" for label, path in places.items()}
    return [f"{label}={path}" for label, path in places.items() if (path / "adapter_config.json").exists()]


def as_scorer(model: Generator) -> NllScorer:
    """A local model as a scorer of given text; ConfigError for any other kind."""
    from realm_cli.engines.sampler import LocalGenerator
    from realm_cli.errors import ConfigError

    if not isinstance(model, LocalGenerator):
        raise ConfigError(f"--reliance: {model.name} gives no probabilities of a text; leave it out, or --reliance")
    return model


def probe_models(recipe: Recipe, belief: str | None, mc: str | None) -> tuple[NllScorer | None, Generator | None]:
    """The local models of --belief and --mc, loaded once where they are the same. ConfigError for any other kind."""
    from realm_cli.engines.build import build_generator
    from realm_cli.engines.sampler import LocalGenerator
    from realm_cli.errors import ConfigError

    loaded = {}
    for option, spec in (("--belief", belief), ("--mc", mc)):
        if spec is None or spec in loaded:
            continue
        kind, sep, _ = spec.partition(":")
        model = (
            None
            if spec == "oracle" or (sep and kind in ("openai", "vllm", "jsonl", "solver"))
            else build_generator(spec, recipe)
        )
        if not isinstance(model, LocalGenerator):
            raise ConfigError(
                f"{option} {spec}: reads inside an answer, which only local models do; give hf:MODEL or student"
            )
        loaded[spec] = model
    return (loaded[belief] if belief else None), (loaded[mc] if mc else None)
