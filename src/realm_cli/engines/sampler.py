"""Batched sampling from a local model: each distinct prompt is computed once, its cache repeated for its samples.

Chunks of at most `batch_rows` rows, requests in order of prompt length (little padding); finished rows are dropped from
the batch. Every row has its own random stream, seeded by (seed, request key, sample index), so a row's draws do not
depend on its neighbours; what remains is the arithmetic: another batch shape may round logits differently (1e-6), which
can move a draw only where two tokens' cumulative probabilities meet.
Log-probabilities are those of the full softmax at the given temperature, before top-k, top-p and min-p cut it.

Usage: `for index, completions in LocalGenerator(loaded).generate(requests, SamplingParams(temperature=0)): ...`
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import torch

from realm_cli.engines.loading import LoadedModel, encode_completion, encode_prompt, end_ids
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.records import Message

_DROP_SHARE = 4  # drop finished rows once they are a quarter of the batch


class LocalGenerator:
    """protocols.Generator and NllScorer over a loaded model; works on a model in training, too."""

    def __init__(self, loaded: LoadedModel, batch_rows: int = 64, name: str | None = None) -> None:
        self.loaded, self.batch_rows = loaded, batch_rows
        self.name = name or loaded.label
        self._ends = torch.tensor(sorted(end_ids(loaded.tokenizer, loaded.model)), device=loaded.device)

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, completions) chunk by chunk."""
        prompts = [encode_prompt(self.loaded.tokenizer, request.messages) for request in requests]
        order = sorted(range(len(requests)), key=lambda i: len(prompts[i]))
        for chunk in _chunks(order, [request.n for request in requests], self.batch_rows):
            with self._sampling():
                done = self._chunk([prompts[i] for i in chunk], [requests[i] for i in chunk], params)
            yield from zip(chunk, done, strict=True)

    @contextlib.contextmanager
    def _sampling(self) -> Iterator[None]:
        """Evaluation mode without gradients or checkpointing; the model's own mode is put back."""
        model = self.loaded.model
        training = model.training
        checkpointing = bool(getattr(model, "is_gradient_checkpointing", False))
        model.eval()
        if checkpointing:
            model.gradient_checkpointing_disable()
        try:
            with torch.no_grad():
                yield
        finally:
            if checkpointing:
                model.gradient_checkpointing_enable()
            model.train(training)

    def _chunk(
        self, prompts: list[list[int]], requests: list[GenRequest], params: SamplingParams
    ) -> list[list[Completion]]:
        device = self.loaded.device
        rows = [(i, r.first_sample + j) for i, r in enumerate(requests) for j in range(r.n)]
        owner = torch.tensor([i for i, _ in rows], device=device)
        ids, mask = _left_pad(prompts, self._pad_id(), device)
        out = self._forward(ids, mask, mask.long().cumsum(-1).sub(1).clamp(min=0), None)
        cache = out.past_key_values
        cache.batch_select_indices(owner)
        logits, mask = out.logits[:, -1].float()[owner], mask[owner]
        position = mask.long().sum(-1)
        uniform = _uniforms(params, requests, rows).to(device) if params.temperature > 0 else None
        tokens = torch.full((len(rows), params.max_tokens), -1, dtype=torch.long, device=device)
        logprobs = torch.zeros(len(rows), params.max_tokens, device=device)
        ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
        alive = torch.arange(len(rows), device=device)  # batch row -> output row
        for t in range(params.max_tokens):
            chosen, logprob = _choose(logits, params, None if uniform is None else uniform[alive, t])
            live = ~ended[alive]
            tokens[alive[live], t] = chosen[live]
            logprobs[alive[live], t] = logprob[live]
            ended[alive] |= torch.isin(chosen, self._ends)
            if params.stop:
                self._stop(tokens, ended, alive, t, params.stop)
            running = ~ended[alive]
            if t + 1 == params.max_tokens or not bool(running.any()):
                break
            if int((~running).sum()) * _DROP_SHARE >= len(alive):
                keep = running.nonzero().squeeze(-1)
                cache.batch_select_indices(keep)
                alive, chosen, mask, position = alive[keep], chosen[keep], mask[keep], position[keep]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            out = self._forward(chosen[:, None], mask, position[:, None], cache)
            logits, position = out.logits[:, -1].float(), position + 1
        return self._completions(tokens.tolist(), logprobs.tolist(), ended.tolist(), rows, len(requests), params)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> Any:
        return self.loaded.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )

    def _pad_id(self) -> int:
        pad = self.loaded.tokenizer.pad_token_id
        return int(pad if pad is not None else self.loaded.tokenizer.eos_token_id)

    def _stop(self, tokens: Any, ended: Any, alive: Any, t: int, stop: tuple[str, ...]) -> None:
        for row in alive.tolist():
            tail = self.loaded.tokenizer.decode(tokens[row, max(0, t - 31) : t + 1].tolist())
            if any(mark in tail for mark in stop):
                ended[row] = True

    def _completions(
        self,
        tokens: list[list[int]],
        logprobs: list[list[float]],
        ended: list[bool],
        rows: list[tuple[int, int]],
        count: int,
        params: SamplingParams,
    ) -> list[list[Completion]]:
        ids = [[token for token in row if token >= 0] for row in tokens]
        texts = self.loaded.tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        grouped: list[list[Completion]] = [[] for _ in range(count)]
        for (owner, _), row_ids, row_logprobs, end, text in zip(rows, ids, logprobs, ended, texts, strict=True):
            cuts = [text.index(mark) for mark in params.stop if mark in text]
            grouped[owner].append(
                Completion(
                    text=text[: min(cuts)] if cuts else text,
                    n_tokens=len(row_ids),
                    truncated=not end,
                    token_ids=tuple(row_ids),
                    logprobs=tuple(row_logprobs[: len(row_ids)]),
                )
            )
        return grouped

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[float]:
        """Mean negative log-likelihood per completion token (end of turn included), in nats."""
        tokenizer = self.loaded.tokenizer
        rows = [(encode_prompt(tokenizer, messages), encode_completion(tokenizer, text)) for messages, text in pairs]
        order = sorted(range(len(rows)), key=lambda i: sum(map(len, rows[i])))
        found = [0.0] * len(rows)
        for start in range(0, len(order), self.batch_rows):
            chunk = order[start : start + self.batch_rows]
            with self._sampling():
                ids, mask = _left_pad([rows[i][0] + rows[i][1] for i in chunk], self._pad_id(), self.loaded.device)
                keep = max(len(rows[i][1]) for i in chunk) + 1
                positions = mask.long().cumsum(-1).sub(1).clamp(min=0)
                out = self.loaded.model(
                    input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=keep
                )
                logp = out.logits[:, :-1].float().log_softmax(-1)
                picked = logp.gather(-1, ids[:, -keep + 1 :, None]).squeeze(-1)
            for row, i in enumerate(chunk):
                found[i] = -float(picked[row, -len(rows[i][1]) :].mean())
        return found


def _chunks(order: Sequence[int], counts: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Requests in runs of at most `limit` rows; a request is never split."""
    chunk: list[int] = []
    rows = 0
    for index in order:
        if chunk and rows + counts[index] > limit:
            yield chunk
            chunk, rows = [], 0
        chunk.append(index)
        rows += counts[index]
    if chunk:
        yield chunk


def _left_pad(rows: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) ids and attention mask."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    return ids.to(device), mask.to(device)


def _uniforms(params: SamplingParams, requests: Sequence[GenRequest], rows: Sequence[tuple[int, int]]) -> torch.Tensor:
    """(rows, max_tokens) uniform draws; row i has its own stream."""
    draws = numpy.empty((len(rows), params.max_tokens))
    for i, (owner, sample) in enumerate(rows):
        text = f"{params.seed}\x00{requests[owner].key}\x00{sample}"
        key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
        draws[i] = numpy.random.Generator(numpy.random.Philox(key=key)).random(params.max_tokens)
    return torch.from_numpy(draws)


def _choose(
    logits: torch.Tensor, params: SamplingParams, uniform: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Next token (B,) and its log-probability (B,) from logits (B, V); `uniform` None = greedy."""
    if uniform is None:
        chosen = logits.argmax(-1)
        return chosen, logits.log_softmax(-1).gather(-1, chosen[:, None]).squeeze(-1)
    logp = (logits / params.temperature).log_softmax(-1)
    probs = _filtered(logp.exp(), params)
    cdf = probs.double().cumsum(-1)
    point = (uniform * cdf[:, -1])[:, None]
    chosen = torch.searchsorted(cdf, point, right=True).squeeze(-1).clamp(max=logits.size(-1) - 1)
    return chosen, logp.gather(-1, chosen[:, None]).squeeze(-1)


def _filtered(probs: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Probabilities with what top-k, top-p and min-p exclude set to 0 (not renormalised)."""
    if params.top_k > 0:
        edge = probs.topk(min(params.top_k, probs.size(-1)), dim=-1).values[:, -1:]
        probs = probs.where(probs >= edge, 0.0)
    if params.top_p < 1:
        ranked, index = probs.sort(dim=-1, descending=True)
        before = ranked.cumsum(-1) - ranked
        ranked = ranked.where(before < params.top_p * probs.sum(-1, keepdim=True), 0.0)
        probs = torch.zeros_like(probs).scatter(-1, index, ranked)
    if params.min_p > 0:
        probs = probs.where(probs >= params.min_p * probs.max(-1, keepdim=True).values, 0.0)
    return probs
