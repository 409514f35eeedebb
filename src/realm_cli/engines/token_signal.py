"""What right and wrong routes say of sampled tokens (the token signal; formula in method/members.py).

The same completion is scored beside a right route and beside each wrong one, without gradient; `Contrast.weigh` turns
the differences into factors of the tokens' advantage. 1 + J forward passes a group.

Usage: `rows = signalled(model, rows, contrast, tokenizer, pad_id, micro_tokens=4096, shared=True)`
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from realm_cli.engines.batches import TokenRow, micro_batches
from realm_cli.engines.loading import encode_prompt
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.protocols import Contrast
from realm_cli.records import Message


def signalled(
    model: Any,
    rows: Sequence[TokenRow],
    contrast: Contrast,
    tokenizer: Any,
    pad_id: int,
    *,
    micro_tokens: int,
    shared: bool,
) -> list[TokenRow]:
    """The rows (completions of one group) with `factors` set, one a completion token."""

    def beside(messages: Sequence[Message]) -> list[list[float]]:
        prompt = tuple(encode_prompt(tokenizer, messages))
        asked = [TokenRow(prompt, row.completion_ids, 1.0) for row in rows]
        return _logprobs(model, asked, pad_id, micro_tokens, shared)

    right, wrong = beside(contrast.right), [beside(messages) for messages in contrast.wrong]
    return [
        dataclasses.replace(row, factors=tuple(contrast.weigh(row.weight, right[i], [found[i] for found in wrong])))
        for i, row in enumerate(rows)
    ]


def _logprobs(model: Any, rows: Sequence[TokenRow], pad_id: int, micro_tokens: int, shared: bool) -> list[list[float]]:
    """Nats per completion token of each row, in the order given."""
    found: dict[int, list[float]] = {}
    with torch.no_grad():
        for packs in micro_batches(rows, micro_tokens, shared=shared):
            logps, _ = row_logprobs(model, packs, pad_id, shared=shared)
            chunk = [row for pack in packs for row in pack]
            for row, values in zip(chunk, logps, strict=True):
                found[id(row)] = values[: len(row.completion_ids)].tolist()
    return [found[id(row)] for row in rows]
