"""An adapter that is trained further keeps its own LoRA settings: what they are is said, and recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realm_cli.recipe import Recipe

_NAMES = {"r": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}


def with_own_lora(recipe: Recipe, adapter: Path | None, block: str, given: Sequence[str]) -> Recipe:
    """The recipe with the adapter's LoRA settings in `block` (train_rl or distill.sft), said where they differ.

    given: --set overrides. ConfigError where one of these asks for other values: they hold for new adapters only.
    """
    from realm_cli.cli.console import say
    from realm_cli.errors import ConfigError

    own = _settings(adapter) if adapter is not None else {}
    asked = recipe.train_rl.lora if block == "train_rl" else recipe.distill.sft.lora
    other = {name: value for name, value in own.items() if getattr(asked, name) != value}
    if not other:
        return recipe
    values = ", ".join(f"{name} {value:g}" for name, value in own.items())
    for text in given:
        key = text.partition("=")[0].strip()
        if key == f"{block}.lora" or key.removeprefix(f"{block}.lora.") in other:
            raise ConfigError(
                f"--set {text}: {adapter} has {values}, and it is that adapter which is trained further; leave the "
                "setting out, or start a new adapter (train-rl: --adapter none)"
            )
    say(f"{adapter}: trained further as it is, with {values}; {block}.lora is for new adapters")
    lora = asked.model_copy(update=other)
    if block == "train_rl":
        return recipe.model_copy(update={"train_rl": recipe.train_rl.model_copy(update={"lora": lora})})
    sft = recipe.distill.sft.model_copy(update={"lora": lora})
    return recipe.model_copy(update={"distill": recipe.distill.model_copy(update={"sft": sft})})


def _settings(adapter: Path) -> dict[str, Any]:
    """r, alpha and dropout of an adapter folder, as far as they can be read; what is wrong is said on loading."""
    try:
        data = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        found = {name: data[key] for name, key in _NAMES.items() if isinstance(data.get(key), int | float)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return {name: float(value) if name == "dropout" else int(value) for name, value in found.items()}
