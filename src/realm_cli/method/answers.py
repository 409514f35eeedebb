"""The one grader: finding the final answer in a text, and typed equality. Used by verify, train-rl and eval.

Types: number (exact, or within the problem's tolerance; units stripped), expr (exact, number, then Math-Verify), choice
(letter or text), label, text; others by entry point `realm_cli.checkers` (name = answer_type, callable(answer, gold)).
Several different answers are wrong, never half right. Nothing is evaluated; lengths are bounded.
Usage: `is_correct(strict_answer(completion), problem)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import entry_points

from realm_cli.errors import ConfigError
from realm_cli.records import Problem

MAX_CHARS = 1000
TYPES = ("number", "expr", "choice", "label", "text")
_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_LINE = re.compile(r"(?im)^[ \t*_#>-]*(?:final )?answer(?: is)?\s*[:=]?[ \t*_]*(\S.*)$")
_HASHES = re.compile(r"(?m)^\s*####\s*(\S.*)$")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?(?![\w])")


def strict_answer(text: str) -> str | None:
    """The content of the single `<answer>` block; None if there is none or several."""
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return None
    found = _BLOCK.search(text)
    return _clean(found.group(1)) if found else None


def flexible_answer(text: str) -> str | None:
    """The last stated answer in any usual form: answer block, `Answer:` line, `####`, \\boxed, last number."""
    text = text[-20_000:]
    for pattern in (_BLOCK, _LINE, _HASHES):
        found = pattern.findall(text)
        if found and (answer := _clean(found[-1])):
            return answer
    if (boxed := _boxed(text)) is not None:
        return _clean(boxed)
    numbers = numbers_in(text)
    return numbers[-1] if numbers else None


def _clean(text: str) -> str | None:
    boxed = _boxed(text)
    kept = (boxed if boxed is not None else text).strip().strip("*_`$ ").rstrip(".").strip()
    return kept or None


def _boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len("\\boxed{")
    for end in range(begin, min(len(text), begin + MAX_CHARS)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[begin:end]
    return None


def numbers_in(text: str) -> list[str]:
    """Numbers as written, commas removed, in order."""
    return [n.replace(",", "") for n in _NUMBER.findall(text[:MAX_CHARS * 20]) if any(c.isdigit() for c in n)]


def to_number(text: str) -> Fraction | None:
    """The one number in "$1,250.00", "60 credits" or "1/2"; None if there is none or several differ."""
    found = set()
    for number in numbers_in(text):
        if len(number) > 60:
            return None
        try:
            found.add(Fraction(number))
        except (ValueError, ZeroDivisionError):
            return None
    return found.pop() if len(found) == 1 else None


def is_correct(answer: str | None, problem: Problem) -> bool:
    """Whether `answer` equals the problem's answer under its type. ConfigError for an unknown answer_type."""
    kind = problem.answer_type
    if kind not in TYPES:
        checker = _plugins().get(kind)
        if checker is None:
            raise ConfigError(f"problem {problem.id}: unknown answer_type {kind!r}; known: {', '.join(known_types())}")
        return answer is not None and len(answer) <= MAX_CHARS and bool(checker(answer, problem.answer))
    if answer is None or not answer.strip() or len(answer) > MAX_CHARS:
        return False
    if kind == "number":
        mine, gold = to_number(answer), to_number(problem.answer)
        if mine is None or gold is None:
            return _words(answer) == _words(problem.answer)
        return abs(mine - gold) <= Fraction(problem.tolerance or 0)
    if kind == "expr":
        return _same_expression(answer, problem.answer)
    return answer_key(answer, problem) == answer_key(problem.answer, problem) is not None


def answer_key(answer: str | None, problem: Problem) -> str | None:
    """Equal answers get equal keys (votes, consistency of verdicts); None where there is no single answer."""
    if answer is None or not answer.strip() or len(answer) > MAX_CHARS:
        return None
    kind = problem.answer_type
    if kind in ("number", "expr"):
        number = to_number(answer) if kind == "number" or not re.search(r"[A-Za-z\\^]", answer) else None
        return f"n:{number}" if number is not None else "t:" + "".join(answer.split())
    if kind == "choice":
        return _choice(answer, problem.choices or [])
    return f"t:{_words(answer)}"


def known_types() -> list[str]:
    """Built-in and plugged-in answer types."""
    return [*TYPES, *sorted(_plugins())]


@lru_cache(maxsize=1)
def _plugins() -> dict[str, Callable[[str, str], bool]]:
    return {point.name: point.load() for point in entry_points(group="realm_cli.checkers")}


def _words(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.casefold()).split())


def _choice(answer: str, choices: list[str]) -> str | None:
    """Key of the single choice named by its letter or text; two named = None."""
    words = _words(answer)
    for index, choice in enumerate(choices):
        if words == _words(choice):
            return f"c:{index}"
    letters = re.findall(r"(?<![A-Za-z])\(?([A-H])\)?(?![A-Za-z])", answer)
    named = {ord(letter) - 65 for letter in letters if ord(letter) - 65 < len(choices)}
    if not named:
        named = {i for i, choice in enumerate(choices) if re.search(rf"\b{re.escape(_words(choice))}\b", words)}
    return f"c:{named.pop()}" if len(named) == 1 else None


@lru_cache(maxsize=65536)
def _same_expression(answer: str, gold: str) -> bool:
    if re.sub(r"\s+", "", answer) == re.sub(r"\s+", "", gold):
        return True
    plain = re.compile(r"[A-Za-z\\^(){}]")
    if not plain.search(answer) and not plain.search(gold):
        mine, other = to_number(answer), to_number(gold)
        return mine is not None and mine == other
    if len(answer) > 300:
        return False
    import math_verify

    mine, gold_value = (math_verify.parse(f"${text}$", parsing_timeout=None) for text in (answer, gold))
    return bool(mine) and bool(math_verify.verify(gold_value, mine, timeout_seconds=None))
