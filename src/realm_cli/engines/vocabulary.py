"""Ids that a model has and its tokenizer has not: rows of a vocabulary padded to a round number, and holes in it.

They stand for no text: drawn, they would vanish from what is read and stay in what is trained. So they have probability
0, in sampling as in the log-probabilities of training, which agree by that. Where there are none, nothing changes.

Usage: `note_unused(model, tokenizer)` once; then `without_unused(model, logits)`
"""

from __future__ import annotations

from typing import Any

import torch

from realm_cli.engines.grouped_attention import causal_model

_UNUSED = "_realm_unused_ids"  # on the model


def note_unused(model: Any, tokenizer: Any) -> None:
    """Find the model's ids that are no token, and keep them on it."""
    config = getattr(causal_model(model), "config", None)
    if config is None or tokenizer is None:
        return
    missing = missing_ids(config.get_text_config().vocab_size, tokenizer)
    causal_model(model).__dict__[_UNUSED] = torch.tensor(missing) if missing else None


def missing_ids(size: int, tokenizer: Any) -> list[int]:
    """The ids below `size` that are no token, in rising order."""
    used = set(tokenizer.get_vocab().values())
    return [i for i in range(size) if i not in used]


def unused_ids(model: Any) -> torch.Tensor | None:
    """The ids (U,) in rising order; None where every id is a token."""
    net = causal_model(model)
    found: torch.Tensor | None = net.__dict__.get(_UNUSED)
    if found is not None:
        device = next(net.parameters()).device
        if found.device != device:
            found = net.__dict__[_UNUSED] = found.to(device)
    return found


def without_unused(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """Logits (..., V) with the least finite number at those ids; the same tensor where there are none."""
    unused = unused_ids(model)
    return logits if unused is None else logits.index_fill(-1, unused, torch.finfo(logits.dtype).min)


def some_used(model: Any, wanted: torch.Tensor) -> torch.Tensor:
    """The ids with tokens in place of those that are none."""
    unused = unused_ids(model)
    if unused is None:
        return wanted
    size = causal_model(model).config.get_text_config().vocab_size
    gone = set(unused.tolist())
    used = torch.tensor([i for i in range(size) if i not in gone])
    return used[wanted % len(used)]
