"""An adapter merged into its base, and the check that the merged model is base + adapter.

The base is loaded unquantised: merging into NF4 weights rounds the sum to four bits again, and what was learned is lost
in part. The check: on real prompts, greedy answers of both, and how far the log-probabilities of base + adapter's own
answers differ.

Usage: `check, reference = export_merged(model, adapter, folder, prompts, dtype="bfloat16", max_tokens=256)`;
check.passed. engines/gguf.py compares a GGUF file with the same reference.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from realm_cli.engines.batches import TokenRow, micro_batches, pad_id_of
from realm_cli.engines.chat import encode_prompt, rendered
from realm_cli.engines.loading import LoadedModel, load_model
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.engines.self_check import shares_prefix
from realm_cli.engines.sources import LOAD_ERRORS
from realm_cli.engines.templates import arguments
from realm_cli.errors import EngineError
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.records import Message

# Least share of equal greedy answers, largest mean gap. In bfloat16 the sum of base and adapter is rounded to 8 bits:
# near ties turn, and an answer goes another way from there on. On the tiny student, with two adapters: merges into the
# plain base 1.0, 3e-7 (float32) and 0.44, 0.0034 (bfloat16); merges into NF4 at most 0.09, at least 0.011.
LIMITS = {"float32": (0.95, 1e-3), "bfloat16": (0.25, 0.008)}
FLOOR = 1e-5  # nats a token: what float32 rounds, also where an adapter does nothing
TOKENS = 4096  # in one forward pass


@dataclass(frozen=True)
class Check:
    """A merged model beside its parts. same: share of equal greedy answers. gap: mean |difference of log p|, nats.

    effect: the same difference between the base alone and base + adapter. A merge that lost the adapter has just that
    gap, which may lie far below `largest_gap`: so at most half of it is allowed (inf: not measured).
    """

    prompts: int
    same: float
    gap: float
    least_same: float
    largest_gap: float
    effect: float = math.inf

    @property
    def passed(self) -> bool:
        """Whether both are within the limits of the weights' type, and the merge is nearer than the base is."""
        largest = min(self.largest_gap, max(self.effect / 2, FLOOR))
        return self.same >= self.least_same and self.gap <= largest


Answers = list[tuple[tuple[int, ...], Completion]]  # prompt ids, the greedy answer


@dataclass(frozen=True)
class Reference:
    """What base + adapter says. chats: the messages as they were rendered. Of the answers' tokens, in nats:
    `logprobs` are those of base + adapter, `base` those of the base alone.
    """

    chats: list[list[Message]]
    answers: Answers
    logprobs: list[list[float]]
    base: list[list[float]]
    template_args: Mapping[str, Any] = field(default_factory=dict)  # that the chats were rendered with


def load_plain(
    model: str,
    dtype: str,
    trust: bool,
    adapter: Path | None = None,
    template_args: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """A model without quantisation. EngineError."""
    return load_model(
        model, quant="none", dtype=dtype, trust_remote_code=trust, adapter=adapter, template_args=template_args
    )


def answers_of(loaded: LoadedModel, prompts: Sequence[Sequence[Message]], max_tokens: int) -> Answers:
    """Greedy answers to bare prompts."""
    requests = [GenRequest(f"export/{i}", list(messages)) for i, messages in enumerate(prompts)]
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0)
    done = dict(LocalGenerator(loaded, 32).generate(requests, params))
    ids = [tuple(encode_prompt(loaded.tokenizer, messages)) for messages in prompts]
    return [(prompt, done[i][0]) for i, prompt in enumerate(ids)]


def logprobs_of(loaded: LoadedModel, answers: Answers) -> list[list[float]]:
    """Log-probabilities of these answers' tokens, nats."""
    rows = [TokenRow(prompt, done.token_ids, float(i)) for i, (prompt, done) in enumerate(answers) if done.token_ids]
    shared, pad = shares_prefix(loaded.model, "auto"), pad_id_of(loaded.tokenizer)
    found: list[list[float]] = [[] for _ in answers]
    with torch.no_grad():
        for packs in micro_batches(rows, TOKENS, shared=shared):
            logps, _ = row_logprobs(loaded.model, packs, pad, shared=shared, temperature=1.0)
            for i, row in enumerate(row for pack in packs for row in pack):
                found[int(row.weight)] = logps[i, : len(row.completion_ids)].float().cpu().tolist()
    return found


def compare(
    answers: Answers, logprobs: Sequence[Sequence[float]], merged: LoadedModel, prompts: Sequence[Sequence[Message]],
    dtype: str, max_tokens: int, effect: float = math.inf,
) -> Check:  # fmt: skip
    """The merged model beside what base + adapter answered, and with which log-probabilities."""
    other = answers_of(merged, prompts, max_tokens)
    same = sum(a[1].token_ids == b[1].token_ids for a, b in zip(answers, other, strict=True)) / len(answers)
    least, largest = LIMITS[dtype]
    return Check(len(answers), same, gap_of(logprobs, logprobs_of(merged, answers)), least, largest, effect)


def gap_of(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Mean absolute difference, nats a token."""
    gaps = [abs(x - y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True)]
    return sum(gaps) / len(gaps) if gaps else 0.0


def export_merged(
    model: str, adapter: Path, folder: Path, prompts: Sequence[Sequence[Message]], *, dtype: str, max_tokens: int,
    trust: bool = False, template_args: Mapping[str, Any] | None = None,
) -> tuple[Check, Reference]:  # fmt: skip
    """Write the merged model, load what was written, and compare it. EngineError.

    With it comes what it was compared with, for another form of the same model.
    """
    parts = load_plain(model, dtype, trust, adapter, template_args)
    reference = reference_of(parts, prompts, max_tokens)
    merge_into(parts, folder)
    del parts
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    merged = load_plain(str(folder), dtype, trust, template_args=template_args)
    effect = gap_of(reference.logprobs, reference.base)
    return compare(reference.answers, reference.logprobs, merged, prompts, dtype, max_tokens, effect), reference


def reference_of(parts: LoadedModel, prompts: Sequence[Sequence[Message]], max_tokens: int) -> Reference:
    """Ask base + adapter, and look at its answers without the adapter too."""
    answers = answers_of(parts, prompts, max_tokens)
    logprobs = logprobs_of(parts, answers)
    with parts.model.disable_adapter():
        base = logprobs_of(parts, answers)
    chats = [rendered(parts.tokenizer, messages) for messages in prompts]
    return Reference(chats, answers, logprobs, base, arguments(parts.tokenizer))


def merge_into(loaded: LoadedModel, folder: Path) -> None:
    """Merge the adapter that a model carries, and write the whole model with its tokenizer. EngineError."""
    try:
        merged = loaded.model.merge_and_unload(safe_merge=True)
        merged.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    except LOAD_ERRORS as error:
        raise EngineError(f"{folder}: the merged model cannot be written ({error})") from None
