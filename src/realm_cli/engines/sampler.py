"""Batched sampling and log-likelihoods with a local model: the plain, exact reference.

Requests are sorted by prompt length and cut into chunks of at most `batch_rows` rows. In a chunk each distinct prompt
is computed once, its cache copied to its rows, then all rows decode together; finished rows leave the batch.

Row i of a request draws from its own Philox stream, keyed by SHA-256 of (seed, request key, sample index), one
uniform per token, which inverts the cumulative distribution. So neither neighbours nor `batch_rows` change a draw; the
arithmetic may, as other batch shapes round logits differently (1e-6).

Filters in this order: temperature, top-k, top-p (the smallest set that reaches the mass), min-p (relative to the top).
`Completion.logprobs` are those of the full softmax at the given temperature, before any filter; greedy sampling
(temperature 0) reports temperature 1. `token_ids` and `n_tokens` count the end-of-turn token where it was sampled.

Usage: `for index, completions in LocalGenerator(loaded).generate(requests, SamplingParams(temperature=0)): ...`
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from realm_cli.engines.cache import make_room
from realm_cli.engines.loading import LoadedModel, encode_completion, encode_prompt, end_ids
from realm_cli.errors import EngineError
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.records import Message

DROP_SHARE = 4  # finished rows leave once they are a quarter of the batch
CANDIDATES = (64, 1024)  # top-p sorts this many tokens, and all of them only where these do not reach the mass
NLL_LOGITS = 1 << 27  # logits held at once by `nll` (512 MiB)


@dataclass(frozen=True)
class _Row:
    """One sample to draw: of request `request`, with sample index `sample`."""

    request: int
    sample: int


class LocalGenerator:
    """protocols.Generator and protocols.NllScorer over a loaded model, which may be in training."""

    def __init__(self, loaded: LoadedModel, batch_rows: int = 64, name: str | None = None) -> None:
        self.loaded, self.batch_rows = loaded, max(1, batch_rows)
        self.name = name or f"hf:{loaded.label}"
        self._ends = torch.tensor(sorted(end_ids(loaded.tokenizer, loaded.model)), device=self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.loaded.model.parameters()).device

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, completions) as chunks finish. EngineError for a prompt longer than the model."""
        prompts = [tuple(encode_prompt(self.loaded.tokenizer, request.messages)) for request in requests]
        for request, prompt in zip(requests, prompts, strict=True):
            self._check_length(len(prompt) + 1, f"the prompt of {request.key}")
        order = sorted(range(len(requests)), key=lambda i: (len(prompts[i]), prompts[i]))
        rows = [_Row(i, requests[i].first_sample + j) for i in order for j in range(requests[i].n)]
        done: dict[int, list[Completion]] = defaultdict(list)
        yield from ((i, []) for i in order if requests[i].n == 0)
        for start in range(0, len(rows), self.batch_rows):
            chunk = rows[start : start + self.batch_rows]
            uniforms = _uniforms(chunk, requests, params) if params.temperature > 0 else None
            with sampling_mode(self.loaded.model):
                completions = self._chunk([prompts[row.request] for row in chunk], params, uniforms)
            for row, completion in zip(chunk, completions, strict=True):
                done[row.request].append(completion)
            for i in [i for i in done if len(done[i]) == requests[i].n]:
                yield i, done.pop(i)

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[float]:
        """Mean negative log-likelihood in nats per completion token, the end-of-turn token included, for each pair."""
        tokenizer = self.loaded.tokenizer
        rows = [(encode_prompt(tokenizer, messages), encode_completion(tokenizer, text)) for messages, text in pairs]
        out = [0.0] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
        with sampling_mode(self.loaded.model):
            while order:
                longest = max(len(rows[i][1]) for i in order[-self.batch_rows :]) + 1
                size = max(1, min(self.batch_rows, NLL_LOGITS // (longest * len(tokenizer))))
                chunk, order = order[-size:], order[:-size]
                for i, value in zip(chunk, self._nll_chunk([rows[i] for i in chunk]), strict=True):
                    out[i] = value
        return out

    def _nll_chunk(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        ids, mask = self._pad([[*prompt, *completion] for prompt, completion in rows])
        self._check_length(ids.size(1), "a prompt with its completion")
        keep = max(len(completion) for _, completion in rows)
        out = _causal(self.loaded.model)(
            input_ids=ids,
            attention_mask=mask,
            position_ids=_positions(mask),
            use_cache=False,
            logits_to_keep=keep + 1,
        )
        logits = out.logits[:, :-1].float()
        logprobs = logits.gather(-1, ids[:, -keep:, None]).squeeze(-1) - logits.logsumexp(-1)
        return [-float(logprobs[i, keep - len(completion) :].mean()) for i, (_, completion) in enumerate(rows)]

    def _chunk(
        self, prompts: Sequence[tuple[int, ...]], params: SamplingParams, uniforms: np.ndarray | None
    ) -> list[Completion]:
        """One completion per prompt; equal prompts are computed once."""
        model, device = _causal(self.loaded.model), self._device
        distinct = {prompt: k for k, prompt in enumerate(dict.fromkeys(prompts))}
        owner = torch.tensor([distinct[prompt] for prompt in prompts], device=device)
        ids, mask = self._pad(list(distinct))
        out = model(input_ids=ids, attention_mask=mask, position_ids=_positions(mask), use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        room = min(params.max_tokens, self._max_length() - ids.size(1))
        if len(distinct) < len(prompts):
            cache.batch_select_indices(owner)
        make_room(cache, max(room, 1))
        logits, mask = out.logits[owner, -1].float(), mask[owner]
        lengths = mask.sum(-1)
        draws = None if uniforms is None else torch.from_numpy(uniforms).to(device)
        tokens = torch.full((len(prompts), params.max_tokens), -1, device=device)
        logprobs = torch.zeros(len(prompts), params.max_tokens, device=device)
        ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        limits = (self._max_length() - lengths).clamp(max=params.max_tokens)
        alive = torch.arange(len(prompts), device=device)  # batch row -> row of the chunk
        live = torch.ones_like(alive, dtype=torch.bool)  # batch rows that are still being sampled
        for t in range(params.max_tokens):
            chosen, logprob = choose(logits, params, None if draws is None else draws[alive, t])
            tokens[alive, t] = torch.where(live, chosen, -1)
            logprobs[alive, t] = logprob
            over = torch.isin(chosen, self._ends)
            if params.stop:
                over = over | self._stopped(tokens[alive, : t + 1], params.stop)
            ended[alive] |= over & live
            live = live & ~over & (t + 1 < limits[alive])
            running = int(live.sum())
            if not running:
                break
            if (len(live) - running) * DROP_SHARE >= len(live):
                kept = live.nonzero().squeeze(-1)
                cache.batch_select_indices(kept)
                alive, live, chosen, mask, lengths = alive[kept], live[kept], chosen[kept], mask[kept], lengths[kept]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            out = model(
                input_ids=chosen[:, None],
                attention_mask=mask,
                position_ids=(lengths + t)[:, None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits = out.logits[:, -1].float()
        return self._completions(tokens.tolist(), logprobs.tolist(), ended.tolist(), params.stop)

    def _completions(
        self, tokens: list[list[int]], logprobs: list[list[float]], ended: list[bool], stop: Sequence[str]
    ) -> list[Completion]:
        ends = set(self._ends.tolist())
        ids = [[token for token in row if token >= 0] for row in tokens]
        texts = self._decode([row[:-1] if row and row[-1] in ends else row for row in ids])
        return [
            Completion(
                text=text[: min((text.index(s) for s in stop if s in text), default=len(text))],
                n_tokens=len(row),
                truncated=not end,
                token_ids=tuple(row),
                logprobs=tuple(values[: len(row)]),
            )
            for text, row, values, end in zip(texts, ids, logprobs, ended, strict=True)
        ]

    def _stopped(self, tokens: torch.Tensor, stop: Sequence[str]) -> torch.Tensor:
        """Which rows (B, t) have come to a stop string; only the tail is decoded."""
        tail = tokens[:, -(4 * max(len(s) for s in stop) + 8) :].tolist()
        texts = self._decode([[token for token in row if token >= 0] for row in tail])
        return torch.tensor([any(s in text for s in stop) for text in texts], device=tokens.device)

    def _decode(self, rows: list[list[int]]) -> list[str]:
        """Text as sampled: special tokens stay visible."""
        return list(
            self.loaded.tokenizer.batch_decode(rows, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def _pad(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T) ids, padded on the left, and their mask."""
        width = max(len(row) for row in rows)
        pad = int(self.loaded.tokenizer.pad_token_id or 0)  # masked, so any id does
        ids = [[pad] * (width - len(row)) + list(row) for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        return torch.tensor(ids, device=self._device), torch.tensor(mask, device=self._device)

    def _max_length(self) -> int:
        config = self.loaded.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 1 << 30)

    def _check_length(self, length: int, what: str) -> None:
        if length > self._max_length():
            raise EngineError(
                f"model {self.loaded.label}: {what} takes {length} of {self._max_length()} token positions; "
                "show fewer or shorter routes, or choose a model with a longer context"
            )


@contextlib.contextmanager
def sampling_mode(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients or gradient checkpointing; the model's own state is put back."""
    training = bool(model.training)
    checkpointed = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    model.eval()
    for module in checkpointed:
        module.gradient_checkpointing = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in checkpointed:
            module.gradient_checkpointing = True
        model.train(training)


def choose(
    logits: torch.Tensor, params: SamplingParams, uniforms: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token (B,) and its log-probability (B,) from logits (B, V) and uniforms (B,) in [0, 1); None = greedy.

    Inverse of the cumulative distribution in vocabulary order: in order of probability, a rounding error could swap
    two tokens that are nearly as probable.
    """
    if uniforms is None:
        best, chosen = logits.max(-1)
        return chosen, best - logits.logsumexp(-1)
    logprobs = (logits / params.temperature).log_softmax(-1)
    probs = _filtered(logprobs.exp(), params)
    mass = probs.double().cumsum(-1)
    chosen = torch.searchsorted(mass, (uniforms.double() * mass[:, -1])[:, None], right=True)
    chosen = chosen.clamp(max=probs.size(-1) - 1)
    return chosen.squeeze(-1), logprobs.gather(-1, chosen).squeeze(-1)


def _filtered(probs: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """(B, V) probabilities with 0 for what top-k, top-p and min-p leave out; not normalised again."""
    top_k = params.top_k if 0 < params.top_k < probs.size(-1) else 0
    if top_k or params.top_p < 1:
        top, order = probs.topk(top_k, dim=-1) if top_k else _descending(probs, params.top_p)
        if params.top_p < 1:
            mass = top.cumsum(-1)
            top = top.where(mass - top < params.top_p * (mass[:, -1:] if top_k else 1.0), 0.0)
        probs = torch.zeros_like(probs).scatter(-1, order, top)
    if params.min_p > 0:
        probs = probs.where(probs >= params.min_p * probs.amax(-1, keepdim=True), 0.0)
    return probs


def _descending(probs: torch.Tensor, mass: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities from the top down and their ids: enough of them to hold `mass` in every row."""
    for k in CANDIDATES:
        if k < probs.size(-1):
            top = probs.topk(k, dim=-1)
            if bool((top.values.sum(-1) >= mass).all()):
                return top.values, top.indices
    full = probs.sort(dim=-1, descending=True)
    return full.values, full.indices


def _uniforms(rows: Sequence[_Row], requests: Sequence[GenRequest], params: SamplingParams) -> np.ndarray:
    """(rows, max_tokens) draws in [0, 1), each row from its own stream."""
    draws = np.empty((len(rows), params.max_tokens))
    for i, row in enumerate(rows):
        name = f"{params.seed}\0{requests[row.request].key}\0{row.sample}"
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
        draws[i] = np.random.Generator(np.random.Philox(key=key)).random(params.max_tokens)
    return draws


def _causal(model: Any) -> Any:
    """The language model itself, with LoRA layers in place, without PEFT's wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)
