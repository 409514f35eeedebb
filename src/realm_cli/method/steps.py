"""From any model's text to canonical steps, and from steps to facts (method.md sections 4 and 5.1-5.2).

A step is one line without numbering or markup. A fact is what a step states anew: `op:zone + 6` for the operation of
an equation, `=36` for its result, or `key: value` for words. In a terse step such as `zone + 6 = 36` the result carries
the step's word (`zone=36`), so that the same number in another role is another fact. What the question or an earlier
step already holds is not new.
Usage: `steps, answer = parse_route(text)`; `facts = step_facts(steps, question)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from realm_cli.method.answers import flexible_answer, numbers_in

MAX_STEPS, MIN_WORDS, MAX_CHARS = 12, 5, 40_000
_THINK = re.compile(r"<think>(.*?)(?:</think>|\Z)", re.DOTALL)
_TAGS = re.compile(r"</?(?:think|answer|check)>|<\|[^|>]{1,40}\|>")
_BLOCKS = re.compile(r"<(answer|check)>.*?</\1>", re.DOTALL)
_CALC = re.compile(r"<<[^<>]{0,200}>>")
_NUMBERING = re.compile(r"^\s*(?:(?:step\s+)?\d{1,2}\s*[.):](?!\d)|step\s+\d{1,2}\b[:.]?|[-*•+]\s+(?=\D))\s*", re.I)
_ANSWER_LINE = re.compile(r"^[\s*_#>]*(?:(?:the )?(?:final )?answer(?: is)?\s*[:=]|####)", re.IGNORECASE)
_GREETING = re.compile(r"^(?:sure|certainly|of course|okay|ok|let'?s|here is|here's|hello)\b[^=\d]{0,80}[:.!]?$", re.I)
_MARKUP = re.compile(r"\*\*|__|`|\\boxed(?=\{)|^#+\s*|\$(?=\\)|\\[()\[\]]")
_TERSE = re.compile(r"[a-z]+ [-+x*/]? ?[\d.]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\d])|\s+(?=Step \d)")
_PAIR = re.compile(r"([A-Za-z][\w' /-]{1,60}?)\s*(?::|\bis\b|\bare\b|=)\s*([\w$%.,' -]{1,60})")


def parse_route(text: str) -> tuple[list[str], str | None]:
    """(canonical steps, final answer) of any model's output; at most 12 steps."""
    text = text[:MAX_CHARS]
    answer = flexible_answer(text) if _states_answer(text) else None
    thought = _THINK.search(text)
    body = thought.group(1) if thought else _BLOCKS.sub("\n", text)
    body = _CALC.sub("", _TAGS.sub("\n", body))
    lines = [line for line in body.splitlines() if line.strip()]
    if len(lines) == 1 or (len(lines) == 2 and _ANSWER_LINE.match(lines[1])):
        lines = [*_SENTENCE.split(lines[0]), *lines[1:]] if lines else []
    steps = []
    for line in lines:
        if _ANSWER_LINE.match(line):
            continue
        step = " ".join(_MARKUP.sub("", _NUMBERING.sub("", line, count=1)).split())
        if step and not _GREETING.match(step) and step not in ("[cut]",):
            steps.append(step)
    return _merge(steps), answer


def _states_answer(text: str) -> bool:
    return "<answer>" in text or "\\boxed{" in text or any(_ANSWER_LINE.match(line) for line in text.splitlines())


def _merge(steps: list[str]) -> list[str]:
    """Fragments of under 5 words without a number join the next step; then neighbours join down to 12 steps."""
    merged: list[str] = []
    pending = ""
    for step in steps:
        whole = f"{pending} {step}".strip()
        if len(step.split()) < MIN_WORDS and not numbers_in(step) and not _PAIR.search(step):
            pending = whole
        else:
            merged.append(whole)
            pending = ""
    if pending:
        merged = [*merged[:-1], f"{merged[-1]} {pending}"] if merged else [pending]
    while len(merged) > MAX_STEPS:
        short = min(range(len(merged) - 1), key=lambda i: len(merged[i]) + len(merged[i + 1]))
        merged[short : short + 2] = [f"{merged[short]} {merged[short + 1]}"]
    return merged


def step_facts(steps: Sequence[str], question: str, extractor: str = "auto") -> list[list[str]]:
    """New facts of each step, in order, without doubles. `extractor`: number, text, or auto (number if it has one)."""
    known = {f"={n}" for n in _values(question)} | set(_pairs(question))
    found: list[list[str]] = []
    for step in steps:
        facts: list[str] = []
        if extractor != "text":
            facts = _number_facts(step[:2000])
        if extractor == "text" or (extractor == "auto" and not any(f not in known for f in facts)):
            facts = facts + _pairs(step[:2000])
        new = [fact for fact in dict.fromkeys(facts) if fact not in known]
        known.update(new)
        found.append(new)
    return found


def _number_facts(step: str) -> list[str]:
    if "=" in step:
        facts = []
        parts = step.split("=")
        left = " ".join(parts[0].split()).casefold()
        if left:
            facts.append(f"op:{left[-60:]}")
        role = left.split()[0] if _TERSE.fullmatch(left) else ""
        for part in parts[1:]:
            values = _values(part)
            if values:
                facts.append(f"{role}={values[0]}")
        return facts
    values = _values(step)
    if not values:
        return []
    word = re.match(r"[A-Za-z]+", step)
    return [f"{word.group(0).casefold()}={values[-1]}" if word and len(step.split()) <= 3 else f"={values[-1]}"]


def _values(text: str) -> list[Fraction]:
    found = []
    for number in numbers_in(text):
        if len(number) <= 40 and not number.endswith("/0"):
            try:
                found.append(Fraction(number))
            except (ValueError, ZeroDivisionError):
                continue
    return found


def _pairs(text: str) -> list[str]:
    return [f"{_plain(key)}: {_plain(value)}" for key, value in _PAIR.findall(text)]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".,")
