"""Batched sampling and log-likelihoods with a local model.

Requests are sorted by prompt length; up to `batch_rows` rows decode together, fewer where the keys and values would
not fit into `kv_gib`. A prompt is computed once for all its completions and its keys and values are held once
(engines/decoding.py); finished rows leave the batch and waiting ones take their place. Models whose attention we do not
serve decode plainly, in batches that end with their longest row.

Each sample has its own stream of random numbers (engines/drawing.py), so neither neighbours nor `batch_rows` change a
draw; the arithmetic may, as other batch shapes round logits differently (1e-6), and where two tokens meet at the drawn
number to that precision, the other one is taken.

`Completion.logprobs` are those of the full softmax at the given temperature, before any filter; greedy sampling
(temperature 0) reports temperature 1. `token_ids` and `n_tokens` count the end-of-turn token where it was sampled;
neither holds a `<think>` that the chat template wrote, `text` does (engines/chat.py).

Usage: `for index, completions in LocalGenerator(loaded).generate(requests, SamplingParams(temperature=0)): ...`
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from realm_cli.engines.batches import TokenRow, fitting, micro_batches, pad_id_of, too_long
from realm_cli.engines.chat import begun, encode_chat, end_ids, whole_text
from realm_cli.engines.decoding import Decoder, PlainDecoder, SharedDecoder
from realm_cli.engines.loading import LoadedModel
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.engines.memory import less, out_of_memory, with_less
from realm_cli.engines.rows import Batch, Row
from realm_cli.engines.self_check import shares_prefix
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.records import Message

NLL_TOKENS = 8192  # in one forward of `nll`, at first


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
        self._ends = torch.tensor(sorted(end_ids(loaded.tokenizer, loaded.model)), device=self.device)

    @property
    def digest(self) -> str:
        """Of the model's files; see LoadedModel."""
        return self.loaded.digest

    @property
    def device(self) -> torch.device:
        return next(self.loaded.model.parameters()).device

    @property
    def _pad_id(self) -> int:
        return pad_id_of(self.loaded.tokenizer)

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, completions) as they finish; lasting failures where a prompt is longer than the model.

        TooLong where all are.
        """
        tokenizer = self.loaded.tokenizer
        asked = [begun(tokenizer, request.messages, request.prefill) for request in requests]
        prompts, openers = [tuple(ids) for ids, _ in asked], [opener for _, opener in asked]
        lengths, room = [len(prompt) + 1 for prompt in prompts], self.max_length()
        fits = fitting(lengths, room, self.loaded.label, lambda i: f"the prompt of {requests[i].key}")
        refused = Completion("", truncated=True, failure=too_long(self.loaded.label, room), lasting=True)
        yield from ((i, [refused] * requests[i].n) for i, length in enumerate(lengths) if length > room)
        order = sorted(fits, key=lambda i: (len(prompts[i]), prompts[i]))
        rows = [
            Row(i, requests[i].first_sample + j, prompts[i], requests[i].key)
            for i in order
            for j in range(requests[i].n)
        ]
        yield from ((i, []) for i in order if requests[i].n == 0)
        done: dict[int, dict[int, Completion]] = defaultdict(dict)
        for row, completion in self._sample(rows, params):
            text = whole_text(openers[row.request], completion.text)
            done[row.request][row.sample] = replace(completion, text=text)
            if len(done[row.request]) == requests[row.request].n:
                found = done.pop(row.request)
                yield row.request, [found[sample] for sample in sorted(found)]

    def _sample(self, rows: Sequence[Row], params: SamplingParams) -> Iterator[tuple[Row, Completion]]:
        """The rows' completions as they finish."""
        left = {(row.request, row.sample): row for row in rows}
        shared = bool(rows) and shares_prefix(self.loaded.model, self.shared)
        while left:
            batch = Batch(self, list(left.values()), params, shared)
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
        """Mean negative log-likelihood in nats per completion token, the end-of-turn token included, for each pair; nan
        where that is longer than the model.

        prefills: see `protocols.NllScorer`.
        """
        tokenizer, model = self.loaded.tokenizer, self.loaded.model
        given = [
            TokenRow(tuple(prompt), tuple(completion), 1.0)
            for (messages, text), prefill in zip(pairs, prefills or [""] * len(pairs), strict=True)
            for prompt, completion in (encode_chat(tokenizer, messages, text, prefill),)
        ]
        lengths = [len(row.prompt_ids) + len(row.completion_ids) for row in given]
        fits = fitting(lengths, self.max_length(), self.loaded.label, lambda i: "a prompt with its completion")
        rows = [given[i] for i in fits]
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
        return [values.get(row, math.nan) for row in given]

    def _completions(
        self, finished: Sequence[tuple[Row, list[int], list[float], bool]], stop: Sequence[str]
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
        return positions_of(self.loaded.model)


def positions_of(model: Any) -> int:
    """Token positions that a model has, prompt and answer together."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


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
