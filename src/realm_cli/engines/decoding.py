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

from realm_cli.engines.batches import pad_left, positions
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
        self.net, self.device = net, next(net.parameters()).device
        self.cache = DecodeCache(room)
        self.prompts: list[Prompt] = []  # of each row
        self.newest: Prompt = ()  # the prompt computed last, and the logits (1, V) of the token after it
        self.first = torch.zeros(0, 0)

    def admit(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """See `Decoder`."""
        groups = [(prompt, len(list(same))) for prompt, same in groupby(prompts)]
        logits = []
        if groups and groups[0][0] == self.newest and self.newest in self.prompts[-1:]:  # the rest of a split group
            prompt, count = groups.pop(0)
            self.cache.share(len(self.prompts) - 1, count)
            self.prompts += [prompt] * count
            logits.append(self.first.expand(count, -1))
        chunk: list[tuple[Prompt, int]] = []
        for i, group in enumerate(groups):
            chunk.append(group)
            following = len(groups[i + 1][0]) if i + 1 < len(groups) else PREFILL_TOKENS
            if sum(len(prompt) for prompt, _ in chunk) + following > PREFILL_TOKENS:
                logits.append(self._prefill(chunk))
                self.prompts += [prompt for prompt, count in chunk for _ in range(count)]
                chunk = []
        return torch.cat(logits)

    def _prefill(self, chunk: Sequence[tuple[Prompt, int]]) -> torch.Tensor:
        packed, start = [], 0
        for prompt, _ in chunk:
            packed.append(PackedGroup(start, len(prompt)))
            start += len(prompt)
        kept: States = []
        ids = torch.tensor([[token for prompt, _ in chunk for token in prompt]], device=self.device)
        places = torch.cat([torch.arange(len(prompt)) for prompt, _ in chunk])[None].to(self.device)
        last = torch.tensor([group.start + group.prompt - 1 for group in packed], device=self.device)
        out = self._forward(ids, places, PackedLayout(packed, kept), last)[0]
        counts = [count for _, count in chunk]
        self.cache.join(kept, packed, counts)
        self.newest, self.first = chunk[-1][0], out[-1:]
        return out.repeat_interleave(torch.tensor(counts, device=self.device), dim=0)

    def _forward(self, ids: torch.Tensor, places: torch.Tensor, layout: Any, keep: torch.Tensor | int) -> torch.Tensor:
        out = self.net(
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
        ids, self.mask = pad_left(prompts, self.pad_id, self.device)
        self.cache = None
        return self._forward(ids, positions(self.mask))

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
