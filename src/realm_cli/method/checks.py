r"""The comparisons that may take long or run foreign code: Math-Verify and plugged-in checkers. And where they run.

They run in this process unless a program hands them over, `with judged_by(judge): ...`; `realm_cli.checking` does so
with worker processes that can be killed. All else in the grader takes microseconds and runs where it is asked. Symbolic
comparisons are bounded all the same: see `bounded`. Source: method.md section 8.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from realm_cli.errors import ConfigError

Judge = Callable[[str, str, str], bool]  # (answer_type, answer, gold) -> equal

MAX_CHARS, MAX_DIGITS = 1000, 60
MAX_EXPR, MAX_EXPONENT, MAX_EXPAND = 200, 10_000, 12  # characters; product of exponents; bracketed sums multiplied
MAX_COSTLY, MAX_TERMS = 4, 2000  # functions and unions; terms when multiplied out
MAX_DEPTH, MAX_MEMBERS = 16, 16  # brackets in brackets; members of a list or set
CLOSE, NOTHING = 1e-6, 1e-60  # relative difference of two values that are equal; what a zero may come out as

_HEAVY = re.compile(rf"\\(?:int|sum|prod|lim|binom|dbinom|tbinom)|\d{{3,}}\s*!|[)}}\]]\s*!|!\s*!|\d{{{MAX_DIGITS},}}")
_COSTLY = re.compile(r"sin|cos|tan|cot|sec|csc|log|ln|exp|\\cup|\\cap")
_SUMS = re.compile(r"(?<!\^)[({][^(){}]*[-+][^(){}]*[)}](?!\s*\^)")  # brackets to be multiplied out


def judge(kind: str, answer: str, gold: str) -> bool:
    """Whether `answer` equals `gold` under `expr` or a plugged-in type, wherever such comparisons run now."""
    return _judge(kind, answer, gold)


def compare(kind: str, answer: str, gold: str) -> bool:
    """The comparison itself, in this process. ConfigError for a plug-in that cannot be loaded; its own errors pass."""
    return symbolic(answer, gold) if kind == "expr" else bool(_load(kind)(answer, gold))


_judge: Judge = compare


@contextmanager
def judged_by(other: Judge) -> Iterator[None]:
    """Hand the comparisons over to `other` in this process, all threads included, until the block ends."""
    global _judge
    before, _judge = _judge, other
    try:
        yield
    finally:
        _judge = before


@lru_cache(maxsize=1)
def plugins() -> dict[str, EntryPoint]:
    """Plugged-in answer types: entry points of the group `realm_cli.checkers`."""
    return {point.name: point for point in entry_points(group="realm_cli.checkers")}


@lru_cache(maxsize=64)
def _load(kind: str) -> Callable[[str, str], bool]:
    try:
        checker: Callable[[str, str], bool] = plugins()[kind].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"answer_type {kind!r}: its checker cannot be loaded ({error}); reinstall it") from error
    return checker


@lru_cache(maxsize=65536)
def symbolic(answer: str, gold: str) -> bool:
    """Mathematical equality by Math-Verify of two LaTeX or plain formulas, with or without dollar signs around them.

    Values must also agree relatively (`CLOSE`): Math-Verify rounds to six decimals, so that all tiny values are alike.
    """
    import math_verify

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it warns on every call without its own (signal) time-outs
    # Its time-outs need the main thread's alarm signal; `bounded` and worker processes take their place.
    mine, other = (
        math_verify.parse(text if "$" in text else f"${text}$", parsing_timeout=None) for text in (answer, gold)
    )
    return bool(mine) and bool(math_verify.verify(other, mine, timeout_seconds=None)) and _close(other[0], mine[0])


def _close(gold: Any, mine: Any) -> bool:
    """Whether two numbers are equal but for rounding; True for all else."""
    if not (getattr(gold, "is_number", False) and getattr(mine, "is_number", False)):
        return True
    try:
        a, b = complex(gold.evalf(30)), complex(mine.evalf(30))
    except (TypeError, ValueError, AttributeError, OverflowError):
        return True
    return abs(a - b) <= max(CLOSE * max(abs(a), abs(b)), NOTHING)


def bounded(text: str) -> bool:
    """Small enough to be worked out: no towers of powers, no huge exponents, factorials, nests, integrals or sums."""
    if len(text) > MAX_EXPR or _HEAVY.search(text) or len(_COSTLY.findall(text)) > MAX_COSTLY:
        return False
    if text.count(",") >= MAX_MEMBERS or _depth(text) > MAX_DEPTH:
        return False
    text = text.replace("\\left", "").replace("\\right", "").replace("**", "^")
    size, symbols = 1, len(_SUMS.findall(text))
    for match in re.finditer(r"\^\s*", text):
        begin = match.end()
        if text[begin : begin + 1] in ("{", "("):
            end = closing(text, begin + 1)
            end = len(text) if end is None else end + 1
        else:
            end = begin + len(re.match(r"[-+]?[\w.\\]*", text[begin:]).group())  # type: ignore[union-attr]
        if re.search(r"[\^!]", text[begin:end]) or re.match(r"\s*[\^!]", text[end:]):
            return False
        numbers = [int(number) for number in re.findall(r"\d+", text[begin:end])]
        size *= max(1, math.prod(numbers))
        symbols += sum(numbers) * (text[: match.start()].rstrip()[-1:] in tuple(")}]|"))
    names = len(set(re.findall(r"[A-Za-z](?:_\{?\w+)?", re.sub(r"\\[A-Za-z]+", " ", text))))
    few = symbols <= MAX_EXPAND and math.comb(names + symbols, names) <= MAX_TERMS
    return size <= MAX_EXPONENT and (few or not re.search("[A-Za-z]", text))


def _depth(text: str) -> int:
    """The most brackets that are open at once."""
    deepest = depth = 0
    for char in text:
        depth = depth + 1 if char in "({[" else max(0, depth - 1) if char in ")}]" else depth
        deepest = max(deepest, depth)
    return deepest


def closing(text: str, begin: int) -> int | None:
    """Index of the bracket that closes the one before `begin`; None if it is more than 1,000 characters away."""
    depth = 1
    for end in range(begin, min(len(text), begin + MAX_CHARS)):
        depth += {"{": 1, "(": 1, "}": -1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return end
    return None
