"""Strict reading of completions (method.md sections 7 and 8).

    <check> verdict lines </check> <think> own steps </think> <answer> final </answer>      verify_first
    <think> own steps </think> <check> verdict lines </check> <answer> final </answer>      solve_first
    <think> own steps </think> <answer> final </answer>                                     bare, k = 0

A verdict line is `X: right`, `X: wrong` or `X: wrong @n` (n >= 1), each with an optional ` - reason`.
Usage: `parse_completion(text, k=4).answer`. One regex pass over the tags, then slices: linear time, and a flood of tags
is rejected after the first `MAX_TAGS`.

Deviation 1 (ours): other spellings of the tags (`<ANSWER>`, `</ think>`) count as tags, so that a second answer cannot
hide behind one, but they never make a legal block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

from realm_cli.prompts import NAMES, Order

MAX_TAGS = 32  # a legal completion has at most 6
MAX_ANSWER_CHARS = 1000

_TAG = re.compile(r"<\s{0,3}(/?)\s{0,3}(check|think|answer)\s{0,3}/?\s{0,3}>", re.IGNORECASE)
_STRICT = re.compile(r"([A-H]): (right|wrong)(?: @([1-9][0-9]{0,2}))?(?= - \S|$)")
_LENIENT = re.compile(
    r"\s{0,8}\[?(?:route\s{1,3})?([A-H])\]?\s{0,3}[:.)=-]\s{0,3}(right|wrong)\b"
    r"(?:\s{0,3}(?:@|at)\s{0,3}(?:step\s{0,3})?([0-9]{1,3})\b)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Parsed:
    """What a completion says.

    verdicts / first_errors: one entry per shown route (None = no readable line); both None for a bare prompt.
    think: the text of the first <think> block, as far as it goes. answer: the single <answer>, else None.
    ok: the whole form is legal (r_fmt). own_solution: think and answer as a bare completion, "" if either is missing.
    """

    verdicts: list[bool | None] | None
    first_errors: list[int | None] | None
    think: str
    answer: str | None
    ok: bool
    own_solution: str


@dataclass(frozen=True)
class _Tag:
    kind: str  # "check" | "think" | "answer"
    closing: bool
    canonical: bool
    start: int
    end: int


def parse_completion(text: str, *, k: int, order: Order = "verify_first", min_think_words: int = 20) -> Parsed:
    """Read one completion for a prompt that showed `k` routes (0 = bare prompt).

    The answer is read wherever exactly one clean <answer> block stands; `ok` needs the whole form: each expected block
    once, in order, only whitespace outside, K legal verdict lines and at least `min_think_words` words of thought.
    Never raises on text. Source: method.md section 8 (r_fmt, hacks and guards).
    """
    tags = _tags(text)
    if len(tags) > MAX_TAGS:
        empty: list[bool | None] = [None] * k
        return Parsed(empty if k else None, [None] * k if k else None, "", None, False, "")
    think = _first_text(text, tags, "think")
    think_span, answer_span = _single_block(tags, "think"), _single_block(tags, "answer")
    answer = text[answer_span[0].end : answer_span[1].start].strip() if answer_span else ""
    if len(answer) > MAX_ANSWER_CHARS:
        answer = ""
    solution = ""
    if think_span and answer_span and answer and think.strip() and think_span[1].end <= answer_span[0].start:
        blocks = [text[span[0].start : span[1].end] for span in (think_span, answer_span)]
        solution = "\n".join(blocks)
    check = _first_text(text, tags, "check")
    verdicts, first_errors = _read_verdicts(check, k) if k else (None, None)
    ok = (
        bool(answer)
        and _form_ok(text, tags, k, order)
        and len(think.split()) >= min_think_words
        and (k == 0 or _verdict_lines_ok(check, k))
    )
    return Parsed(verdicts, first_errors, think.strip(), answer or None, ok, solution)


def _tags(text: str) -> list[_Tag]:
    """The first MAX_TAGS + 1 tags."""
    found = []
    for match in islice(_TAG.finditer(text), MAX_TAGS + 1):
        kind, closing = match.group(2).lower(), bool(match.group(1))
        canonical = match.group(0) == f"<{'/' if closing else ''}{kind}>"
        found.append(_Tag(kind, closing, canonical, match.start(), match.end()))
    return found


def _single_block(tags: list[_Tag], kind: str) -> tuple[_Tag, _Tag] | None:
    """The only opening and closing tag of a kind, if they are neighbours (nothing nested) and well spelt."""
    places = [i for i, tag in enumerate(tags) if tag.kind == kind]
    if len(places) != 2 or places[1] != places[0] + 1:
        return None
    first, last = tags[places[0]], tags[places[1]]
    legal = first.canonical and last.canonical and not first.closing and last.closing
    return (first, last) if legal else None


def _first_text(text: str, tags: list[_Tag], kind: str) -> str:
    """Text after the first opening tag of a kind, up to the next tag or the end; "" without one."""
    for i, tag in enumerate(tags):
        if tag.kind == kind and not tag.closing:
            return text[tag.end : tags[i + 1].start if i + 1 < len(tags) else len(text)]
    return ""


def _form_ok(text: str, tags: list[_Tag], k: int, order: Order) -> bool:
    kinds = ["think", "answer"]
    if k:
        kinds = ["check", *kinds] if order == "verify_first" else ["think", "check", "answer"]
    expected = [(kind, closing) for kind in kinds for closing in (False, True)]
    if [(tag.kind, tag.closing) for tag in tags] != expected or not all(tag.canonical for tag in tags):
        return False
    ends = [0, *(tag.end for tag in tags if tag.closing)]
    starts = [*(tag.start for tag in tags if not tag.closing), len(text)]
    return not any(text[end:start].strip() for end, start in zip(ends, starts, strict=True))


def _verdict_lines_ok(check: str, k: int) -> bool:
    lines = [line.strip() for line in check.splitlines() if line.strip()]
    if len(lines) != k:
        return False
    names = []
    for line in lines:
        match = _STRICT.match(line)
        if match is None or (match.group(2) == "right" and match.group(3)):
            return False
        names.append(match.group(1))
    return sorted(names) == list(NAMES[:k])


def _read_verdicts(check: str, k: int) -> tuple[list[bool | None], list[int | None]]:
    """Lenient reading: a name without a readable line, or with two that disagree, stays None."""
    seen: dict[str, set[tuple[bool, int | None]]] = {}
    for line in check.splitlines():
        match = _LENIENT.match(line)
        if match:
            right = match.group(2).lower() == "right"
            step = int(match.group(3)) if match.group(3) and not right else None
            seen.setdefault(match.group(1).upper(), set()).add((right, step or None))
    verdicts: list[bool | None] = []
    errors: list[int | None] = []
    for name in NAMES[:k]:
        said = seen.get(name, set())
        signs, steps = {right for right, _ in said}, {step for _, step in said}
        verdicts.append(signs.pop() if len(signs) == 1 else None)
        errors.append(steps.pop() if len(said) == 1 else None)
    return verdicts, errors
