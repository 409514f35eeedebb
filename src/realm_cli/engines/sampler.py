"""Batched sampling and log-likelihoods with a local model.

Requests are sorted by prompt length; up to `batch_rows` rows decode together, fewer where the keys and values would
not fit into `kv_gib`. A prompt is computed once for all its completions and its keys and values are held once
(engines/decoding.py); finished rows leave the batch and waiting ones take their place. Models whose attention we do not
serve decode plainly, in batches that end with their longest row.

Each sample has its own stream of random numbers (engines/drawing.py), so neither neighbours nor `batch_rows` change a
draw; the arithmetic may, as other batch shapes round logits differently (1e-6), and where two tokens meet at the drawn
number to that precision, the other one is taken.

`Completion.logprobs` are those of the full softmax at the given temperature, before any filter; greedy sampling
(temperature 0) reports temperature 1. `token_ids` and `n_tokens` count the end-of-turn token where it was sampled.

Usage: `for index, completions in LocalGenerator(loaded).generate(requests, SamplingParams(temperature=0)): ...`
"""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from realm_cli.engines.batches import TokenRow, micro_batches, pad_id_of
from realm_cli.engines.decoding import Decoder, PlainDecoder, SharedDecoder
from realm_cli.engines.drawing import choose, stream
from realm_cli.engines.loading import LoadedModel, encode_completion, encode_prompt, end_ids
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.engines.memory import less, out_of_memory, with_less
from realm_cli.engines.self_check import shares_prefix
from realm_cli.errors import EngineError
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.records import Message

DROP_SHARE, REFILL_SHARE = 4, 8  # finished rows leave when they are 1/4 of the batch, 1/8 if others wait
NLL_TOKENS = 8192  # in one forward of `nll`, at first


@dataclass(frozen=True)
class _Row:
    """One sample to draw: of request `request`, with sample index `sample`."""

    request: int
    sample: int
    prompt: tuple[int, ...]
    key: str


class LocalGenerator:
    """protocols.Generator and protocols.NllScorer over a loaded model, which may be in training.

    shared: "auto" computes prompts once where the model allows it, "off" never does.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        batch_rows: int = 64,
        name: str | None = None,
        *,
        shared: str = "auto",
        kv_gib: float = 4.0,
    ) -> None:
        self.loaded, self.batch_rows = loaded, max(1, batch_rows)
        self.name = name or f"hf:{loaded.label}"
        self.shared, self.kv_bytes, self.nll_tokens = shared, kv_gib * 2**30, NLL_TOKENS
        self._ends = torch.tensor(sorted(end_ids(loaded.tokenizer, loaded.model)), device=self._device)

    @property
    def digest(self) -> str:
        """Of the model's files; see LoadedModel."""
        return self.loaded.digest

    @property
    def _device(self) -> torch.device:
        return next(self.loaded.model.parameters()).device

    @property
    def _pad_id(self) -> int:
        return pad_id_of(self.loaded.tokenizer)

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, completions) as they finish. EngineError for a prompt longer than the model."""
        tokenizer = self.loaded.tokenizer
        prompts = [tuple(encode_prompt(tokenizer, request.messages, request.prefill)) for request in requests]
        for request, prompt in zip(requests, prompts, strict=True):
            self._check_length(len(prompt) + 1, f"the prompt of {request.key}")
        order = sorted(range(len(requests)), key=lambda i: (len(prompts[i]), prompts[i]))
        rows = [
            _Row(i, requests[i].first_sample + j, prompts[i], requests[i].key)
            for i in order
            for j in range(requests[i].n)
        ]
        yield from ((i, []) for i in order if requests[i].n == 0)
        done: dict[int, dict[int, Completion]] = defaultdict(dict)
        for row, completion in self._sample(rows, params):
            done[row.request][row.sample] = completion
            if len(done[row.request]) == requests[row.request].n:
                found = done.pop(row.request)
                yield row.request, [found[sample] for sample in sorted(found)]

    def _sample(self, rows: Sequence[_Row], params: SamplingParams) -> Iterator[tuple[_Row, Completion]]:
        """The rows' completions as they finish."""
        left = {(row.request, row.sample): row for row in rows}
        shared = bool(rows) and shares_prefix(self.loaded.model, self.shared)
        while left:
            batch = _Batch(self, list(left.values()), params, shared)
            try:
                while batch.waiting or batch.rows:
                    with sampling_mode(self.loaded.model):
                        finished = batch.advance()
                    completions = self._completions(finished, params.stop)
                    for (row, *_), completion in zip(finished, completions, strict=True):
                        del left[row.request, row.sample]
                        yield row, completion
                return
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                tried = batch.most
            del batch  # rows under way begin anew: their draws are their own
            self.batch_rows = less(min(tried, self.batch_rows), 1, "engine.batch_rows")

    def decoder(self, room: int, shared: bool) -> Decoder:
        """A fresh decoder of this model for rows of at most `room` new tokens."""
        if shared:
            return SharedDecoder(self.loaded.model, room)
        return PlainDecoder(self.loaded.model, self._pad_id)

    def kv_tokens(self) -> int:
        """Tokens whose keys and values fit into the memory given."""
        config = self.loaded.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        kind = next(iter(p for p in self.loaded.model.parameters() if p.is_floating_point()))
        return int(self.kv_bytes / (2 * config.num_hidden_layers * heads * size * kind.element_size()))

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]], prefills: Sequence[str] = ()) -> list[float]:
        """Mean negative log-likelihood in nats per completion token, the end-of-turn token included, for each pair.

        prefills: see `protocols.NllScorer`.
        """
        tokenizer, model = self.loaded.tokenizer, self.loaded.model
        rows = [
            TokenRow(
                tuple(encode_prompt(tokenizer, messages, prefill)),
                tuple(encode_completion(tokenizer, text, continued=bool(prefill))),
                1.0,
            )
            for (messages, text), prefill in zip(pairs, prefills or [""] * len(pairs), strict=True)
        ]
        for row in rows:
            self._check_length(len(row.prompt_ids) + len(row.completion_ids), "a prompt with its completion")
        shared = shares_prefix(model, self.shared)

        def scored(tokens: int) -> dict[TokenRow, float]:
            found = {}
            for packs in micro_batches(rows, tokens, shared=shared):
                logps, _ = row_logprobs(model, packs, self._pad_id, shared=shared)
                for row, total in zip((row for pack in packs for row in pack), logps.sum(-1).tolist(), strict=True):
                    found[row] = -total / len(row.completion_ids)
            return found

        longest = max((len(row.prompt_ids) + len(row.completion_ids) for row in rows), default=1)
        with sampling_mode(model):
            values, self.nll_tokens = with_less(
                scored, self.nll_tokens, least=lambda: longest, setting="tokens in one forward pass"
            )
        return [values[row] for row in rows]

    def _completions(
        self, finished: Sequence[tuple[_Row, list[int], list[float], bool]], stop: Sequence[str]
    ) -> list[Completion]:
        ends = set(self._ends.tolist())
        texts = self._decode([ids[:-1] if ids and ids[-1] in ends else ids for _, ids, _, _ in finished])
        return [
            Completion(
                text=text[: min((text.index(s) for s in stop if s in text), default=len(text))],
                n_tokens=len(ids),
                truncated=not ended,
                token_ids=tuple(ids),
                logprobs=tuple(values),
            )
            for text, (_, ids, values, ended) in zip(texts, finished, strict=True)
        ]

    def over(
        self, chosen: torch.Tensor, tokens: torch.Tensor, steps: torch.Tensor, stop: Sequence[str]
    ) -> torch.Tensor:
        """Which rows (B,) have ended: by an end-of-turn token, or by a stop string in the tail of `tokens` (B, T)."""
        over = torch.isin(chosen, self._ends)
        if not stop:
            return over
        width = 4 * max(len(s) for s in stop) + 8
        tails = [row[max(0, t + 1 - width) : t + 1] for row, t in zip(tokens.tolist(), steps.tolist(), strict=True)]
        texts = self._decode(tails)
        return over | torch.tensor([any(s in text for s in stop) for text in texts], device=over.device)

    def _decode(self, rows: list[list[int]]) -> list[str]:
        """Text as sampled: special tokens stay visible."""
        return list(
            self.loaded.tokenizer.batch_decode(rows, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def max_length(self) -> int:
        """Positions that the model has."""
        config = self.loaded.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 1 << 30)

    def _check_length(self, length: int, what: str) -> None:
        if length > self.max_length():
            raise EngineError(
                f"model {self.loaded.label}: {what} takes {length} of {self.max_length()} token positions; "
                "show fewer or shorter routes, or choose a model with a longer context"
            )


class _Batch:
    """Rows in decoding, row b of every tensor being `rows[b]`, and those that wait."""

    def __init__(self, owner: LocalGenerator, rows: Sequence[_Row], params: SamplingParams, shared: bool) -> None:
        self.owner, self.params = owner, params
        self.waiting = deque(rows)
        self.rows: list[_Row] = []
        self.decoder = owner.decoder(params.max_tokens, shared)
        device = owner._device
        self.logits = torch.zeros(0, 0, device=device)
        self.tokens = torch.zeros(0, params.max_tokens, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(0, params.max_tokens, device=device)
        self.draws = torch.zeros(0, params.max_tokens, dtype=torch.double, device=device)
        self.at = torch.zeros(0, dtype=torch.long, device=device)  # tokens drawn so far
        self.limits = torch.zeros(0, dtype=torch.long, device=device)
        self.live = torch.zeros(0, dtype=torch.bool, device=device)
        self.capacity = owner.kv_tokens()
        self.most = 1  # rows that were in it at once

    def advance(self) -> list[tuple[_Row, list[int], list[float], bool]]:
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

    def _draw(self) -> list[tuple[_Row, list[int], list[float], bool]]:
        every = torch.arange(len(self.rows), device=self.at.device)
        place = self.at.clamp(max=self.params.max_tokens - 1)  # rows that are done go on until they are dropped
        draws = self.draws[every, place] if self.params.temperature > 0 else None
        chosen, logprobs = choose(self.logits, self.params, draws)
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
        new: list[_Row] = []
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


@contextlib.contextmanager
def sampling_mode(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients or gradient checkpointing; the model's own state is put back."""
    training = bool(model.training)
    checkpointed = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    model.eval()
    for module in checkpointed:
        module.gradient_checkpointing = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in checkpointed:
            module.gradient_checkpointing = True
        model.train(training)
