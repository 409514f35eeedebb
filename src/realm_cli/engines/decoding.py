"""Forward passes of a batch in decoding: with prompts shared by their rows, or plainly, a prompt a row.

    admit(prompts) -> next-token logits of new rows      step(tokens) -> of all rows      keep(rows): drop the others

`SharedDecoder` computes each distinct prompt once and takes new rows at any time; `PlainDecoder` is the reference and
serves models whose attention we do not: it pads prompts, copies nothing clever, and starts a batch when the last ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Protocol

import torch

from realm_cli.engines.cache import DecodeCache, States
from realm_cli.engines.grouped_attention import LAYOUT, NO_MASK, PackedGroup, PackedLayout, causal_model

PREFILL_TOKENS = 8192  # prompt tokens in one forward

Prompt = tuple[int, ...]


class Decoder(Protocol):
    """A batch of rows in decoding."""

    refills: bool  # new rows may join while others are on their way
    shares: bool  # equal prompts are held once

    def admit(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Add rows at the end of the batch; equal prompts stand together. Logits (rows, V) of their first token."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Feed one token a row (B,); logits (B, V) of the next, in float32."""

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these, given in increasing order."""


class SharedDecoder:
    """Decoder over engines/cache.py: P + n tokens of keys and values for n rows, in place of n * P."""

    refills = shares = True

    def __init__(self, model: Any, room: int) -> None:
        net = causal_model(model)
        self.body, self.head = net, net.get_output_embeddings()
        self.device = next(net.parameters()).device
        self.cache = DecodeCache(room)
        self.prompts: list[Prompt] = []  # of each row

    def admit(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """See `Decoder`."""
        groups = [(prompt, len(list(same))) for prompt, same in groupby(prompts)]
        logits = []
        if groups and groups[0][0] in self.prompts[-1:]:  # the rest of a group of which rows are on their way
            prompt, count = groups.pop(0)
            row = len(self.prompts) - 1
            self.cache.share(row, count)
            self.prompts += [prompt] * count
            logits.append(self._prefill([(prompt, count)], join=False))
        chunk: list[tuple[Prompt, int]] = []
        for i, group in enumerate(groups):
            chunk.append(group)
            following = len(groups[i + 1][0]) if i + 1 < len(groups) else PREFILL_TOKENS
            if sum(len(prompt) for prompt, _ in chunk) + following > PREFILL_TOKENS:
                logits.append(self._prefill(chunk, join=True))
                self.prompts += [prompt for prompt, count in chunk for _ in range(count)]
                chunk = []
        return torch.cat(logits)

    def _prefill(self, chunk: Sequence[tuple[Prompt, int]], *, join: bool) -> torch.Tensor:
        packed, start = [], 0
        for prompt, _ in chunk:
            packed.append(PackedGroup(start, len(prompt)))
            start += len(prompt)
        kept: States = []
        ids = torch.tensor([[token for prompt, _ in chunk for token in prompt]], device=self.device)
        places = torch.cat([torch.arange(len(prompt)) for prompt, _ in chunk])[None].to(self.device)
        last = torch.tensor([group.start + group.prompt - 1 for group in packed], device=self.device)
        layout = PackedLayout(packed, kept if join else None)
        out = self._forward(ids, places, layout, last)[0]
        counts = [count for _, count in chunk]
        if join:
            self.cache.join(kept, packed, counts)
        return out.repeat_interleave(torch.tensor(counts, device=self.device), dim=0)

    def _forward(self, ids: torch.Tensor, places: torch.Tensor, layout: Any, keep: torch.Tensor | int) -> torch.Tensor:
        out = self.body(
            input_ids=ids,
            position_ids=places,
            attention_mask=NO_MASK,
            use_cache=False,
            logits_to_keep=keep,
            **{LAYOUT: layout},
        )
        logits: torch.Tensor = out.logits.float()
        return logits

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See `Decoder`."""
        self.cache.begin()
        logits = self._forward(tokens[:, None], self.cache.lengths[:, None], self.cache, 1)[:, -1]
        self.cache.end()
        return logits

    def keep(self, rows: torch.Tensor) -> None:
        """See `Decoder`."""
        self.cache.keep(rows)
        self.prompts = [self.prompts[row] for row in rows.tolist()]


class PlainDecoder:
    """Decoder over transformers' own cache: each row has its whole prompt, padded on the left."""

    refills = shares = False

    def __init__(self, model: Any, pad_id: int) -> None:
        self.net, self.pad_id = causal_model(model), pad_id
        self.device = next(self.net.parameters()).device
        self.cache: Any = None
        self.mask = torch.zeros(0, 0)
        self.longest = getattr(self.net.config.get_text_config(), "max_position_embeddings", None) or 1 << 30

    def admit(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """See `Decoder`; the batch must be empty."""
        width = max(len(prompt) for prompt in prompts)
        ids = [[self.pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self.mask, self.cache = torch.tensor(mask, device=self.device), None
        return self._forward(torch.tensor(ids, device=self.device), (self.mask.cumsum(-1) - 1).clamp(min=0))

    def _forward(self, ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        out = self.net(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=places,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = out.past_key_values
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See `Decoder`."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        places = (self.mask.sum(-1, keepdim=True) - 1).clamp(max=self.longest - 1)
        return self._forward(tokens[:, None], places)

    def keep(self, rows: torch.Tensor) -> None:
        """See `Decoder`."""
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]
