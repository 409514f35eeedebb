"""Token rows, and the micro-batches in which they go through the model.

Rows with one prompt form a *pack*, whose prompt is computed once: P + sum |c_j| + G tokens in place of G * P +
sum |c_j| (engines/logprobs.py). A micro-batch holds packs up to a number of tokens, so its memory has a bound whatever
the lengths are. Where prompts are not shared, each row is a pack of its own, and tokens are counted with padding.

Usage: `for packs in micro_batches(rows, 8192, shared=True): row_logprobs(model, packs, pad_id, shared=True)`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from realm_cli.errors import TooLong


@dataclass(frozen=True)
class TokenRow:
    """A prompt and its completion as token ids, and a weight: the bridge's w_j or the policy's advantage."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    weight: float
    logprobs: tuple[float, ...] = ()  # nats per completion token as sampled, where known
    start: int = 0  # completion tokens before it are context without loss (bridge and members)
    factors: tuple[float, ...] = ()  # of the weight, per completion token; () = 1 (token signal)


Pack = list[TokenRow]  # rows with one prompt, to be computed as one sequence


@dataclass(frozen=True)
class TokenBatch:
    """B rows, prompts padded on the left and completions on the right, as TRL wants them; long tensors."""

    prompt_ids: torch.Tensor  # (B, P)
    prompt_mask: torch.Tensor  # (B, P)
    completion_ids: torch.Tensor  # (B, C)
    completion_mask: torch.Tensor  # (B, C)


def pad_left(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, T) padded on the left, and their mask."""
    width = max(len(row) for row in rows)
    ids = [[pad_id] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """The position of each token of a padded batch (B, T); 0 where there is none."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def pad_rows(rows: Sequence[TokenRow], pad_id: int, device: torch.device | str) -> TokenBatch:
    """Rows as one padded batch."""
    prompts = pad_left([row.prompt_ids for row in rows], pad_id, device)
    ids, mask = pad_left([row.completion_ids[::-1] for row in rows], pad_id, device)
    return TokenBatch(*prompts, ids.flip(-1), mask.flip(-1))


SHORTER = "show fewer or shorter routes, or choose a model with a longer context"


def fitting(
    lengths: Sequence[int], room: int, model: str, what: Callable[[int], str], hint: str = SHORTER
) -> list[int]:
    """Indices of what takes at most `room` positions. TooLong, naming the shortest by `what`, where nothing does."""
    fits = [i for i, length in enumerate(lengths) if length <= room]
    if lengths and not fits:
        first = min(range(len(lengths)), key=lengths.__getitem__)
        count = f"all {len(lengths)} are too long, e.g. " if len(lengths) > 1 else ""
        raise TooLong(
            f"model {model}: {count}{what(first)} takes {lengths[first]} of {room} token positions; {hint}",
            reason=too_long(model, room),
        )
    return fits


def too_long(model: str, room: int) -> str:
    """The failure of a prompt that leaves no room for an answer."""
    return f"its prompt is longer than the {room:,} tokens that {model} can read"


def pad_id_of(tokenizer: Any) -> int:
    """The id to pad with; padding is masked everywhere, so the end-of-sequence id serves where there is none."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return int(tokenizer.eos_token_id or 0)


def packed_length(pack: Sequence[TokenRow]) -> int:
    """Tokens of a pack: the prompt but its last token, which stands before each completion to predict its first."""
    return len(pack[0].prompt_ids) - 1 + sum(1 + len(row.completion_ids) for row in pack)


def micro_batches(rows: Sequence[TokenRow], tokens: int, *, shared: bool) -> list[list[Pack]]:
    """All rows, by length, in batches of at most `tokens` tokens (more only where a single row is longer).

    Padded rows differ in length by half at most.
    """
    ordered = sorted(rows, key=lambda row: (len(row.prompt_ids), row.prompt_ids, len(row.completion_ids)))
    return _packed(ordered, tokens) if shared else _padded(ordered, tokens)


def _packed(ordered: Sequence[TokenRow], tokens: int) -> list[list[Pack]]:
    batches: list[list[Pack]] = []
    left = 0
    for _, group in groupby(ordered, key=lambda row: row.prompt_ids):
        pack: Pack = []
        for row in group:
            joins = pack and packed_length([*pack, row]) <= tokens
            if pack and not joins:
                left = _place(batches, pack, left, tokens)
                pack = []
            pack.append(row)
        left = _place(batches, pack, left, tokens)
    return batches


def _place(batches: list[list[Pack]], pack: Pack, left: int, tokens: int) -> int:
    """Put the pack into the last batch if it fits into the `left` tokens, else into a new one; what is left then."""
    size = packed_length(pack)
    if not batches or size > left:
        batches.append([])
        left = tokens
    batches[-1].append(pack)
    return left - size


def _padded(ordered: Sequence[TokenRow], tokens: int) -> list[list[Pack]]:
    batches: list[list[Pack]] = []
    for row in sorted(ordered, key=lambda row: len(row.prompt_ids) + len(row.completion_ids)):
        width = packed_length([row])  # rows come in rising length, so this one sets it
        if not batches or width * (len(batches[-1]) + 1) > tokens or width > 1.5 * packed_length(batches[-1][0]):
            batches.append([])
        batches[-1].append([row])
    return batches
