"""Rows in decoding, and those that wait for their place: what one model draws at a time (engines/sampler.py).

Usage: `batch = Batch(generator, rows, params, shared)`; `batch.advance()` until nothing is left in it
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from realm_cli.engines.decoding import Decoder
from realm_cli.engines.drawing import choose, stream
from realm_cli.engines.loading import LoadedModel
from realm_cli.engines.vocabulary import without_unused
from realm_cli.protocols import SamplingParams

DROP_SHARE, REFILL_SHARE = 4, 8  # finished rows leave when they are 1/4 of the batch, 1/8 if others wait


@dataclass(frozen=True)
class Row:
    """One sample to draw: of request `request`, with sample index `sample`."""

    request: int
    sample: int
    prompt: tuple[int, ...]
    key: str


class Owner(Protocol):
    """The generator that a batch draws for."""

    loaded: LoadedModel
    batch_rows: int

    @property
    def device(self) -> torch.device:
        """Where the model is."""

    def decoder(self, room: int, shared: bool) -> Decoder:
        """A fresh decoder for rows of at most `room` new tokens."""

    def kv_tokens(self) -> int:
        """Tokens whose keys and values fit into the memory given."""

    def over(
        self, chosen: torch.Tensor, tokens: torch.Tensor, steps: torch.Tensor, stop: Sequence[str]
    ) -> torch.Tensor:
        """Which rows (B,) have ended."""

    def max_length(self) -> int:
        """Positions that the model has."""


class Batch:
    """Rows in decoding, row b of every tensor being `rows[b]`, and those that wait."""

    def __init__(self, owner: Owner, rows: Sequence[Row], params: SamplingParams, shared: bool) -> None:
        self.owner, self.params = owner, params
        self.waiting = deque(rows)
        self.rows: list[Row] = []
        self.decoder = owner.decoder(params.max_tokens, shared)
        device = owner.device
        self.logits = torch.zeros(0, 0, device=device)
        self.tokens = torch.zeros(0, params.max_tokens, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(0, params.max_tokens, device=device)
        self.draws = torch.zeros(0, params.max_tokens, dtype=torch.double, device=device)
        self.at = torch.zeros(0, dtype=torch.long, device=device)  # tokens drawn so far
        self.limits = torch.zeros(0, dtype=torch.long, device=device)
        self.live = torch.zeros(0, dtype=torch.bool, device=device)
        self.capacity = owner.kv_tokens()
        self.most = 1  # rows that were in it at once

    def advance(self) -> list[tuple[Row, list[int], list[float], bool]]:
        """Decode until some rows have finished: (row, token ids, log-probabilities, ended by itself)."""
        while True:
            if not self.rows:
                self._admit()
            finished = self._draw()
            dead = len(self.rows) - int(self.live.sum())
            refill = self.waiting and self.decoder.refills and dead * REFILL_SHARE >= len(self.rows)
            if dead == len(self.rows):
                self._keep([])
            elif refill or dead * DROP_SHARE >= len(self.rows):
                self._keep(self.live.nonzero().squeeze(-1).tolist())
            if self.rows:
                last = self.tokens.gather(1, self.at[:, None] - 1)
                self.logits = self.decoder.step(last.squeeze(1))
                if refill:
                    self._admit()
            if finished:
                return finished

    def _draw(self) -> list[tuple[Row, list[int], list[float], bool]]:
        every = torch.arange(len(self.rows), device=self.at.device)
        place = self.at.clamp(max=self.params.max_tokens - 1)  # rows that are done go on until they are dropped
        draws = self.draws[every, place] if self.params.temperature > 0 else None
        chosen, logprobs = choose(without_unused(self.owner.loaded.model, self.logits), self.params, draws)
        self.tokens[every, place], self.logprobs[every, place] = chosen, logprobs
        over = self.owner.over(chosen, self.tokens, place, self.params.stop)
        self.at = place + 1
        gone = self.live & (over | (self.at >= self.limits))
        self.live &= ~gone
        finished = []
        for b in gone.nonzero().squeeze(-1).tolist():
            n = int(self.at[b])
            finished.append((self.rows[b], self.tokens[b, :n].tolist(), self.logprobs[b, :n].tolist(), bool(over[b])))
        return finished

    def _keep(self, kept: list[int]) -> None:
        index = torch.tensor(kept, dtype=torch.long, device=self.at.device)
        if kept:
            self.decoder.keep(index)
        else:
            self.decoder = self.owner.decoder(self.params.max_tokens, self.decoder.shares)
        self.rows = [self.rows[b] for b in kept]
        self.tokens, self.logprobs, self.draws = self.tokens[index], self.logprobs[index], self.draws[index]
        self.at, self.limits, self.live = self.at[index], self.limits[index], self.live[index]

    def _admit(self) -> None:
        """Take waiting rows while there is room, at least one if the batch is empty."""
        new: list[Row] = []
        used = self._tokens_held()
        last = self.rows[-1].prompt if self.rows else None
        while self.waiting and len(self.rows) + len(new) < self.owner.batch_rows:
            row = self.waiting[0]
            used += self.params.max_tokens + (0 if self.decoder.shares and row.prompt == last else len(row.prompt))
            if (self.rows or new) and used > self.capacity:
                break
            new.append(self.waiting.popleft())
            last = row.prompt
        if not new:
            return
        self.most = max(self.most, len(self.rows) + len(new))
        logits = self.decoder.admit([row.prompt for row in new])
        self.logits = torch.cat([self.logits, logits]) if self.rows else logits
        self.rows += new
        n, params, device = len(new), self.params, self.at.device
        draws = np.zeros((n, params.max_tokens))
        if params.temperature > 0:
            draws = np.stack([stream(params.seed, row.key, row.sample, params.max_tokens) for row in new])
        limit = [min(params.max_tokens, self.owner.max_length() - len(row.prompt)) for row in new]
        self.tokens = torch.cat([self.tokens, self.tokens.new_full((n, params.max_tokens), -1)])
        self.logprobs = torch.cat([self.logprobs, self.logprobs.new_zeros(n, params.max_tokens)])
        self.draws = torch.cat([self.draws, torch.from_numpy(draws).to(device)])
        self.at = torch.cat([self.at, self.at.new_zeros(n)])
        self.limits = torch.cat([self.limits, torch.tensor(limit, device=device)])
        self.live = torch.cat([self.live, self.live.new_ones(n)])

    def _tokens_held(self) -> int:
        prompts = [row.prompt for row in self.rows]
        held = sum(map(len, set(prompts) if self.decoder.shares else prompts))
        return held + len(self.rows) * self.params.max_tokens
