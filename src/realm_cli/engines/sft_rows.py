"""Rows of supervised fine-tuning: token ids with the labels that a row is learned by, and their order (method.md 3.5).

Usage: `rows, dropped = encode_samples(tokenizer, samples, max_length, ends)`; `EpochOrder(lengths, batch, seed)`

Notes. (1) A completion is tokenised as a whole; where the tokens of `completion[:loss_start]` are not a prefix of
these (a token spans the boundary), both parts are tokenised alone, so the mask always falls on a token boundary. A
`<think>` that the chat template opens is in the prompt, not in the loss (chat.py). (2) Rows longer than `max_length`
are dropped and their ids reported; nothing is truncated. (3) `SFTSample.weight` is not used: the mix is made by counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from realm_cli.engines.chat import encode_completion, harmless, prompt_for
from realm_cli.errors import EngineError
from realm_cli.records import SFTSample

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompt and completion, and the labels: -100 where no loss is taken."""

    id: str
    input_ids: list[int]
    labels: list[int]


def encode_sample(tokenizer: Any, sample: SFTSample) -> Encoded:
    """Tokenise one row; labels cover `completion[loss_start:]` and the end-of-turn token.

    Special tokens in the completion, which a teacher may have written, are broken as in prompts: they end no turn.
    """
    head, tail = (harmless(tokenizer, part) for part in _parts(sample))
    prompt, text = prompt_for(tokenizer, sample.messages, head + tail)
    given = len(head) + len(tail) - len(text)  # characters that the chat template has written: <think>
    head = (head + tail)[given : max(given, len(head))]
    completion, masked = encode_completion(tokenizer, text, continued=given > 0), 0
    if head:
        context = encode_completion(tokenizer, head, continued=given > 0, whole=False)
        masked = len(context)
        if completion[:masked] != context:
            completion = context + encode_completion(tokenizer, text[len(head) :], continued=True)
    labels = [IGNORED] * (len(prompt) + masked) + completion[masked:]
    return Encoded(sample.id, prompt + completion, labels)


def _parts(sample: SFTSample) -> tuple[str, str]:
    return sample.completion[: sample.loss_start], sample.completion[sample.loss_start :]


def encode_samples(
    tokenizer: Any, samples: Sequence[SFTSample], max_length: int, ends: Sequence[int]
) -> tuple[list[Encoded], list[str]]:
    """(rows to train on, ids dropped as longer than `max_length`). EngineError if nothing can be learned."""
    encoded = [encode_sample(tokenizer, sample) for sample in samples]
    rows = [row for row in encoded if len(row.input_ids) <= max_length]
    dropped = [row.id for row in encoded if len(row.input_ids) > max_length]
    trainable = [row for row in rows if any(label != IGNORED for label in row.labels)]
    if not trainable:
        why = f"all {len(dropped)} are longer than max_length {max_length}" if dropped else "no row has a completion"
        raise EngineError(f"distill.sft: no trainable rows: {why}; raise distill.sft.max_length or check sft.jsonl")
    if not any(row.labels[-1] in set(ends) for row in trainable):
        raise EngineError(
            "distill.sft: the end-of-turn token is never in the loss, so the model would not learn to stop; "
            "check the tokenizer's chat template and eos_token"
        )
    return trainable, dropped


def micro_batch_size(batch_size: int, micro_batch: int) -> int:
    """The largest divisor of the effective batch that is at most `micro_batch`."""
    return next(size for size in range(min(batch_size, micro_batch), 0, -1) if batch_size % size == 0)


class EpochOrder(Sampler[int]):
    """Rows of like lengths together, in an order that only seed and epoch decide: a resumed epoch goes on in it."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = list(lengths), batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        draw = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch, generator=draw))
