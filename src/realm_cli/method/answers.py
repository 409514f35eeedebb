r"""The one grader: typed equality of a stated answer and the gold answer. Used by verify, train-rl and eval.

    number   one number (`numbers`), exact or within the problem's tolerance; units agree where the gold has one
    expr     formulas, numbers, names (`formulas`), by Math-Verify where they are not read whole
    choice   the letter or the text of one choice         label   words, without case, punctuation and explanation
    date     one date (`dates`)                           list    all members, in any order
    text     the same words
    others   entry point `realm_cli.checkers`: name = answer_type, callable(answer, gold) -> bool

`answer`, or any of `answers`, is right. Several different answers are wrong, never half right. Nothing is evaluated;
lengths and exponents are bounded, so that no answer can hang the grader. Whatever is right has the gold answer's key.
Usage: `is_correct(strict_answer(completion), problem)`. Source: method.md sections 4 and 8; docs/answer-types.md.

Choice of ours: an expression with integrals, sums, limits or towers of powers, with over four functions or unions, with
brackets nested over 16 deep, or of over 2,000 terms when multiplied out, is right only if it is written like the gold.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from realm_cli.errors import ConfigError
from realm_cli.method.checks import MAX_CHARS, judge, plugins
from realm_cli.method.choices import choice_key
from realm_cli.method.dates import read_date
from realm_cli.method.extract import flexible_answer, numbers_in, stated_answer, strict_answer
from realm_cli.method.formulas import same_formula
from realm_cli.method.labels import label_key, list_key, list_members, same_words, words
from realm_cli.method.numbers import PLAIN, Number, as_fraction, read_number, same_value, to_number
from realm_cli.method.units import same_unit
from realm_cli.method.unwrap import clean
from realm_cli.records import Problem

__all__ = [
    "answer_key", "as_fraction", "clean", "flexible_answer", "is_correct", "known_types", "numbers_in", "stated_answer",
    "strict_answer", "to_number",
]  # fmt: skip

TYPES = ("number", "expr", "choice", "label", "text", "date", "list")


def is_correct(answer: str | None, problem: Problem) -> bool:
    """Whether `answer` equals the problem's answer, or one of its `answers`, under its type; answers over 1,000
    characters are wrong, and a gold answer of such a length is never met (plug-ins may have longer ones).

    Raises ConfigError for an unknown answer_type and for a plug-in that cannot be loaded.
    """
    plugged_in = _plugged_in(problem)
    if answer is None:
        return False
    if _meets(answer, problem.answer, problem, plugged_in):
        return True
    return any(_meets(answer, gold, problem, plugged_in) for gold in problem.answers)


def _meets(answer: str, gold: str, problem: Problem, plugged_in: bool) -> bool:
    kind = problem.answer_type
    if kind == "number" and not problem.decimal_comma and _same_digits(answer, gold):
        return True
    if kind == "expr":
        return max(len(answer), len(gold)) <= MAX_CHARS and same_formula(answer, gold)
    mine = clean(answer)
    if mine is None or len(mine) > MAX_CHARS:
        return False
    gold = clean(gold) or gold
    if plugged_in:
        return judge(kind, mine, gold)
    if len(gold) > MAX_CHARS:
        return False
    if kind == "number":
        return _same_number(mine, gold, problem)
    if kind == "text" and same_words(mine, gold):
        return True
    key = _plain_key(mine, problem, gold)
    return key is not None and key == _plain_key(gold, problem, gold)


def _same_digits(answer: str, gold: str) -> bool:
    """Two plain numbers that are written alike but for commas: most right answers, with nothing to be read."""
    plain = PLAIN.fullmatch(answer) and PLAIN.fullmatch(gold)
    return bool(plain) and answer.replace(",", "") == gold.replace(",", "")


def answer_key(answer: str | None, problem: Problem, *, correct: bool | None = None) -> str | None:
    """Equal answers get equal keys (votes, consistency of verdicts); None where there is no single answer.

    An answer that the checker accepts gets the gold answer's key, also within a tolerance or in another notation.
    correct: the verdict where it is known, so that it need not be found again. Raises ConfigError as `is_correct` does.
    """
    if is_correct(answer, problem) if correct is None else correct:
        answer = problem.answer
    mine = clean(answer) if answer is not None else None
    return _plain_key(mine, problem, problem.answer) if mine is not None and len(mine) <= MAX_CHARS else None


def known_types() -> list[str]:
    """Built-in answer types, then plugged-in ones in alphabetical order."""
    return [*TYPES, *sorted(set(plugins()) - set(TYPES))]


def _plugged_in(problem: Problem) -> bool:
    """Whether the problem's type is a plugged-in checker's. ConfigError for an unknown type."""
    kind = problem.answer_type
    if kind not in TYPES and kind not in plugins():
        raise ConfigError(f"problem {problem.id}: unknown answer_type {kind!r}; known: {', '.join(known_types())}")
    return kind not in TYPES


def _plain_key(answer: str, problem: Problem, gold: str) -> str | None:
    kind = problem.answer_type
    if kind == "choice":
        return choice_key(answer, problem.choices or [])
    if kind == "number":
        number = to_number(answer, problem.decimal_comma and answer != gold)
        if number is None and to_number(problem.answer) is not None:
            return None
        return f"n:{number}" if number is not None else "t:" + "".join(answer.casefold().split())
    if kind == "expr":
        found = read_number(answer, algebra=True)
        return f"n:{found.value}" if found is not None else "t:" + "".join(answer.split())
    if kind == "date":
        date = read_date(answer, problem.date_order) or read_date(_said(answer), problem.date_order)
        return f"d:{date.isoformat()}" if date is not None else None
    if kind == "list":
        key = list_key(list_members(answer, gold=list_members(gold)))
        return f"l:{key}" if key else None
    key = label_key(answer, gold) if kind == "label" else words(answer)
    return f"t:{key}" if key else None


def _said(text: str) -> str:
    """What follows the last `is`, `was` or colon of a sentence, without words in brackets behind it."""
    text = re.sub(r"\s{1,4}\([^()\d]{1,60}\)[.\s]{0,4}$", "", text[-200:])
    return re.split(r"\b(?:is|was|on)\s|:\s", text)[-1] if not re.search(r"\bnot\b|n't", text) else text


def _same_number(answer: str, gold: str, problem: Problem) -> bool:
    """Equal, or within the problem's limits; a gold that is no number (`10:30`) is compared as written."""
    if answer == gold:
        return True
    other = read_number(gold)
    if other is None:
        return "".join(answer.casefold().split()) == "".join(gold.casefold().split())
    mine = read_number(answer, decimal_comma=problem.decimal_comma)
    if mine is None or not same_unit(mine.unit, other.unit):
        return False
    return same_value(mine.value, other.value, answer, gold) or _within(mine, other, problem)


def _within(mine: Number, gold: Number, problem: Problem) -> bool:
    """Inside `lower` and `upper`, else within the larger tolerance."""
    bounds = (problem.lower, problem.upper, problem.tolerance, problem.tolerance_rel)
    if bounds == (None,) * 4:
        return False
    low, high = (_exact(bound) for bound in (problem.lower, problem.upper))
    if low is not None or high is not None:
        return (low is None or mine.value >= low) and (high is None or mine.value <= high)
    slack = [_exact(problem.tolerance) or Fraction(0)]
    slack.append((_exact(problem.tolerance_rel) or Fraction(0)) * abs(gold.value))
    return abs(mine.value - gold.value) <= max(slack)


def _exact(bound: float | None) -> Fraction | None:
    """0.3 as 3/10, not as the binary number below it."""
    return Fraction(repr(float(bound))) if bound is not None and math.isfinite(bound) else None
