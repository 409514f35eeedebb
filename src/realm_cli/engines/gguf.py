"""A GGUF file beside base + adapter: llama.cpp's server is asked the prompts that the merged model was asked.

It gets the messages, not token ids: the chat template, the tokenizer and the end of turn are those in the file. Three
things are compared: the number of prompt tokens (all must be equal), greedy answers, and the log-probability of base +
adapter's answer, token by token up to where the server's answer leaves it.

Usage: `check = check_file(reference, file, tools.server, "q8_0", log=log, progress=progress)`; check.passed

Notes. (1) A token of ours that is not among the server's first LISTED counts as the last of these: the true gap is
larger. (2) A server that gives no token ids with its log-probabilities is compared by its texts alone; gap is nan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from realm_cli.engines.export import Check, Reference
from realm_cli.engines.llama_cpp import Server, serving
from realm_cli.engines.templates import THINK
from realm_cli.protocols import Progress

# Least share of equal greedy answers and largest mean gap, by the type of the file's weights. SmolLM2-135M, a trained
# adapter that changes 0.62 nats: 1.0, 0.0006 (f32); 1.0, 0.0008 (f16); 0.62, 0.010 (bf16); 0.5, 0.022 (q8_0). With
# random adapters q8_0 was 0.023 and 0.039 off. Half of its effect tells whether the adapter is in the file.
LIMITS = {"f32": (0.95, 1e-3), "f16": (0.5, 0.008), "bf16": (0.25, 0.03), "q8_0": (0.25, 0.06)}
SLOTS = 4  # requests at a time
SPARE = 64  # tokens of room beside prompt and answer, should the file's template make a longer prompt
LISTED = 10  # most likely tokens that the server names at each position
SECONDS = 1800.0  # for one answer
PLAIN = {  # nothing but the most likely token, whatever the file recommends
    "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "dry_multiplier": 0.0, "xtc_probability": 0.0,
    "cache_prompt": False,
}  # fmt: skip


@dataclass(frozen=True)
class FileCheck(Check):
    """other_prompts: prompts of which the server counts other tokens. gap: nan where it gives no log-probabilities."""

    other_prompts: int = 0

    @property
    def passed(self) -> bool:
        """Whether prompts are the same ones, and answers and log-probabilities within the limits."""
        if math.isnan(self.gap):
            return not self.other_prompts and self.same >= self.least_same
        return not self.other_prompts and super().passed


@dataclass(frozen=True)
class Answer:
    """What the server said. tokens: id and log-probabilities (nats) of the most likely ids, at each position."""

    text: str
    prompt_tokens: int
    tokens: Sequence[tuple[int, Mapping[int, float]]] | None


def check_file(
    reference: Reference, file: Path, program: str, out_type: str, *, max_tokens: int, log: Path, progress: Progress
) -> FileCheck:
    """Start the server with the file, ask it, stop it, and compare. EngineError."""
    longest = max(len(prompt) for prompt, _ in reference.answers)
    with serving(program, file, context=longest + max_tokens + SPARE, slots=SLOTS, log=log) as server:
        answers = ask(server, reference, max_tokens, progress)
    return compare_answers(reference, answers, out_type)


def ask(server: Server, reference: Reference, max_tokens: int, progress: Progress) -> list[Answer]:
    """Greedy answers through the chat API, in the order of the prompts. EngineError."""
    client = openai.OpenAI(
        base_url=server.url, api_key=server.key, max_retries=0, timeout=SECONDS,
        http_client=openai.DefaultHttpxClient(trust_env=False, timeout=SECONDS),
    )  # fmt: skip

    extra = PLAIN | ({"chat_template_kwargs": dict(reference.template_args)} if reference.template_args else {})

    def once(messages: Any) -> Answer:
        return _read(
            client.chat.completions.create(
                model="check", messages=messages, max_tokens=max_tokens, temperature=0.0, top_p=1.0, seed=0,
                presence_penalty=0.0, frequency_penalty=0.0, logprobs=True, top_logprobs=LISTED, extra_body=extra,
            )
        )  # fmt: skip

    found: dict[int, Answer] = {}
    pool = ThreadPoolExecutor(SLOTS, thread_name_prefix="gguf")
    try:
        futures = {pool.submit(once, messages): i for i, messages in enumerate(reference.chats)}
        with progress("asking the GGUF file", len(futures)) as advance:
            for future in as_completed(futures):
                found[futures[future]] = future.result()
                advance(1, "")
    except (openai.OpenAIError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise server.why(error) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        client.close()
    return [found[i] for i in range(len(reference.chats))]


def compare_answers(reference: Reference, answers: Sequence[Answer], out_type: str) -> FileCheck:
    """Prompts, answers and log-probabilities of the file beside those of base + adapter."""
    rows = list(zip(reference.answers, answers, strict=True))
    other = sum(len(prompt) != answer.prompt_tokens for (prompt, _), answer in rows)
    same = sum(_same(done.token_ids, done.text, answer) for (_, done), answer in rows) / len(rows)
    gaps, effects = [], []
    for ((_, done), answer), ours, base in zip(rows, reference.logprobs, reference.base, strict=True):
        theirs = followed(done.token_ids, answer.tokens or ())
        gaps += [abs(a - b) for a, b in zip(ours, theirs, strict=False)]
        effects += [abs(a - b) for a, b, _ in zip(ours, base, theirs, strict=False)]
    given = all(answer.tokens is not None for answer in answers)
    gap, effect = (_mean(gaps), _mean(effects)) if given else (math.nan, math.inf)
    least, largest = LIMITS[out_type]
    return FileCheck(len(rows), same, gap, least, largest, effect, other)


def followed(ids: Sequence[int], tokens: Sequence[tuple[int, Mapping[int, float]]]) -> list[float]:
    """The server's log-probabilities of these ids, up to the first one that it did not choose (that one included)."""
    found = []
    for wanted, (chosen, listed) in zip(ids, tokens, strict=False):
        found.append(listed[wanted] if wanted in listed else min(listed.values(), default=-math.inf))
        if chosen != wanted:
            break
    return found


def _same(ids: Sequence[int], text: str, answer: Answer) -> bool:
    if answer.tokens is None:  # a server may or may not give the <think> that the chat template wrote
        ours, theirs = (part.removeprefix(THINK).lstrip() for part in (text, answer.text))
        return ours == theirs
    return list(ids) == [chosen for chosen, _ in answer.tokens]


def _read(completion: Any) -> Answer:
    """Of a chat completion what is compared. AttributeError, LookupError, TypeError for another thing."""
    choice = completion.choices[0]
    content = choice.logprobs.content if choice.logprobs is not None else None
    tokens = None
    if content is not None and all(hasattr(token, "id") for token in content):  # llama.cpp's own field
        tokens = [(int(token.id), {int(t.id): float(t.logprob) for t in token.top_logprobs}) for token in content]
    return Answer(choice.message.content or "", int(completion.usage.prompt_tokens), tokens)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
