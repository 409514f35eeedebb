"""Token rows, micro-batches, and the log-probabilities of completions with a shared prompt computed once.

Every completion of a group has the same prompt, so a group is one packed sequence

    prompt[:-1]  [prompt[-1] c_1]  [prompt[-1] c_2] ...  [prompt[-1] c_G]

in which a token sees the prompt and its own segment only and positions restart at each segment: P + sum |c_j| + G
tokens instead of G * P + sum |c_j|. It is exact. (The repeated token lets each first completion token be predicted
from a position of its own.) Models whose attention takes no free mask get one row per completion.

Usage: `for packs in micro_batches(rows, 8, pair_cost=pair_cost_of(model)): row_logprobs(model, packs, pad_id)`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class TokenRow:
    """A prompt and its completion as token ids, and a weight: the bridge's w_j or the policy's advantage."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    weight: float
    logprobs: tuple[float, ...] = ()  # nats per completion token as sampled, where known


Pack = list[TokenRow]  # rows with one prompt, to be computed as one sequence


@dataclass(frozen=True)
class TokenBatch:
    """B rows, prompts padded on the left and completions on the right, as TRL wants them; long tensors."""

    prompt_ids: torch.Tensor  # (B, P)
    prompt_mask: torch.Tensor  # (B, P)
    completion_ids: torch.Tensor  # (B, C)
    completion_mask: torch.Tensor  # (B, C)


def pad_rows(rows: Sequence[TokenRow], pad_id: int, device: torch.device | str) -> TokenBatch:
    """Rows as one padded batch."""
    width = max(len(row.prompt_ids) for row in rows)
    length = max(len(row.completion_ids) for row in rows)
    gaps = [(width - len(row.prompt_ids), length - len(row.completion_ids)) for row in rows]

    def tensor(values: list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return TokenBatch(
        tensor([[pad_id] * left + list(row.prompt_ids) for row, (left, _) in zip(rows, gaps, strict=True)]),
        tensor([[0] * left + [1] * (width - left) for left, _ in gaps]),
        tensor([list(row.completion_ids) + [pad_id] * right for row, (_, right) in zip(rows, gaps, strict=True)]),
        tensor([[1] * (length - right) + [0] * right for _, right in gaps]),
    )


def pad_id_of(tokenizer: Any) -> int:
    """The id to pad with; padding is masked everywhere, so the end-of-sequence id serves where there is none."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return int(tokenizer.eos_token_id or 0)


def packed_length(pack: Sequence[TokenRow]) -> int:
    """Tokens of a packed group."""
    return len(pack[0].prompt_ids) - 1 + sum(1 + len(row.completion_ids) for row in pack)


def packs_of(rows: Sequence[TokenRow], size: int, pair_cost: float) -> list[Pack]:
    """Neighbouring rows with one prompt in packs of at most `size`.

    A packed row saves its prompt but is masked against the pack so far: it joins while that costs less, in units of
    one token's linear layers (`pair_cost` per pair of positions). `pair_cost` inf = one row a pack.
    """
    packs: list[Pack] = []
    for row in rows:
        pack = packs[-1] if packs else []
        if pack and len(pack) < size and pack[0].prompt_ids == row.prompt_ids:
            extra = 2 * packed_length(pack) * (1 + len(row.completion_ids)) * pair_cost
            if extra < len(row.prompt_ids):
                pack.append(row)
                continue
        packs.append([row])
    return packs


def micro_batches(
    rows: Sequence[TokenRow], size: int, *, pair_cost: float = 0.0, waste: float = 1.25
) -> list[list[Pack]]:
    """Rows, packed, in batches of at most `size` rows, by length; one ends early where padding would exceed `waste`.

    Batches under 512 tokens are filled regardless: there a forward's fixed cost outweighs the padding.
    """
    ordered = sorted(rows, key=lambda row: (len(row.prompt_ids), row.prompt_ids, len(row.completion_ids)))
    batches: list[list[Pack]] = []
    filled = tokens = 0
    for pack in sorted(packs_of(ordered, size, pair_cost), key=packed_length):
        length = packed_length(pack)  # packs come in rising length, so this one sets the width
        full = not batches or filled + len(pack) > size
        if full or (tokens >= 512 and length * (len(batches[-1]) + 1) > waste * (tokens + length)):
            batches.append([])
            filled = tokens = 0
        batches[-1].append(pack)
        filled, tokens = filled + len(pack), tokens + length
    return batches


def pair_cost_of(model: Any) -> float:
    """Attention per pair of positions over linear layers per token, in multiply-adds: about 2 / (4 d + 3 d_ff).

    inf where the attention does not take the packed mask: other than SDPA with full attention in every layer.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    sliding = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    takes_mask = getattr(config, "_attn_implementation", "") == "sdpa" and hasattr(config, "rope_parameters")
    if kinds != {"full_attention"} or sliding or not takes_mask:
        return float("inf")
    return 2 / (4 * config.hidden_size + 3 * (getattr(config, "intermediate_size", None) or 4 * config.hidden_size))


def row_logprobs(
    model: Any,
    packs: Sequence[Pack],
    pad_id: int,
    *,
    temperature: float = 1.0,
    fused: bool = False,
    entropy: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log pi (nats) of the completion tokens of the packs' rows in order, (B, C), 0 where padded; entropies if asked.

    `fused`: use the head that TRL patched in (its temperature
    is then the one given to TRL); it never holds all logits, which matters for large vocabularies.
    """
    device = next(model.parameters()).device
    rows = [row for pack in packs for row in pack]
    width = max(packed_length(pack) for pack in packs)
    ids = torch.full((len(packs), width), pad_id)
    segment = torch.full((len(packs), width), -1)  # -1 padding, 0 prompt, j the j-th completion
    position = torch.zeros((len(packs), width), dtype=torch.long)
    picks = []  # per row: (pack, column of its first completion token)
    for i, pack in enumerate(packs):
        prompt = pack[0].prompt_ids
        at = width - packed_length(pack)
        start = len(prompt) - 1
        ids[i, at : at + start] = torch.tensor(prompt[:-1], dtype=torch.long)
        segment[i, at : at + start] = 0
        position[i, at : at + start] = torch.arange(start)
        at += start
        for j, row in enumerate(pack, 1):
            n = 1 + len(row.completion_ids)
            ids[i, at : at + n] = torch.tensor([prompt[-1], *row.completion_ids])
            segment[i, at : at + n] = j
            position[i, at : at + n] = torch.arange(start, start + n)
            picks.append((i, at + 1))
            at += n
    keep = width - min(column for _, column in picks)  # columns from the first completion token on
    length = max(len(row.completion_ids) for row in rows)
    ids, segment, position = ids.to(device), segment.to(device), position.to(device)
    attention = _mask(segment) if any(len(pack) > 1 for pack in packs) else (segment >= 0).long()
    inputs = {"input_ids": ids, "attention_mask": attention, "position_ids": position, "use_cache": False}
    steps = torch.arange(length)
    lengths = torch.tensor([len(row.completion_ids) for row in rows])
    columns = torch.tensor([column for _, column in picks])[:, None] + steps
    columns = columns.clamp(max=width - 1).to(device)
    which = torch.tensor([i for i, _ in picks])[:, None].expand_as(columns).to(device)
    padded = (steps >= lengths[:, None]).to(device)
    entropies = None
    if fused:
        inputs.pop("use_cache")
        out = model(**inputs, labels=_labels(ids, columns, which, padded), fused_lm_head=True)
        logps = out.log_probs[which, columns - 1]
        if entropy:
            entropies = out.entropy[which, columns - 1].detach()
    else:
        logits = model(**inputs, logits_to_keep=keep + 1).logits[:, :-1].float()  # row k predicts column width-keep+k
        first = width - keep
        chosen = logits[which, columns - first] / temperature
        logp_all = chosen.log_softmax(-1)
        logps = logp_all.gather(-1, ids[which, columns, None]).squeeze(-1)
        if entropy:
            with torch.no_grad():
                entropies = -(logp_all.exp() * logp_all).sum(-1).masked_fill(padded, 0.0)
    return logps.masked_fill(padded, 0.0), entropies


def _mask(segment: torch.Tensor) -> torch.Tensor:
    """(B, 1, T, T) bool: earlier or equal, of the prompt or the own segment; padding sees itself only."""
    size = segment.size(1)
    causal = torch.ones(size, size, dtype=torch.bool, device=segment.device).tril()
    query, key = segment[:, :, None], segment[:, None, :]
    seen = causal & ((key == query) | ((key == 0) & (query > 0))) & (key >= 0)
    return (seen | torch.eye(size, dtype=torch.bool, device=segment.device))[:, None]


def _labels(ids: torch.Tensor, columns: torch.Tensor, which: torch.Tensor, padded: torch.Tensor) -> torch.Tensor:
    """Labels for TRL's fused head: -100 but for completion tokens."""
    labels = torch.full_like(ids, -100)
    labels[which[~padded], columns[~padded]] = ids[which[~padded], columns[~padded]]
    return labels
