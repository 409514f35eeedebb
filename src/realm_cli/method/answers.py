r"""The one grader: finding the final answer in a text, and typed equality. Used by verify, train-rl and eval.

    number   one number, exact or within the problem's tolerance; currency, percent, separators and units are stripped
    expr     the same text, the same number, else Math-Verify
    choice   the letter or the text of one choice
    label    words, without case and punctuation         text    the same
    others   entry point `realm_cli.checkers`: name = answer_type, callable(answer, gold) -> bool

Several different answers are wrong, never half right. Nothing is evaluated; lengths and exponents are bounded, so that
no answer can hang the grader. Whatever is right has the gold answer's key.
Usage: `is_correct(strict_answer(completion), problem)`. Source: method.md sections 4 and 8.

Choices of ours: (1) `5 million` is no number (the word carries a factor), nor is `2 + 2` (not worked out).
(2) An expression with integrals, sums, limits or towers of powers, with over four functions or unions, or of over 2,000
terms when multiplied out, is right only if it is written like the gold answer.
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from realm_cli.errors import ConfigError
from realm_cli.method.parsing import parse_completion
from realm_cli.records import Problem

MAX_CHARS, MAX_DIGITS, TAIL = 1000, 60, 20_000
MAX_EXPR, MAX_EXPONENT, MAX_EXPAND = 200, 10_000, 12  # characters; product of exponents; bracketed sums multiplied
MAX_COSTLY, MAX_TERMS = 4, 2000  # functions and unions; terms when multiplied out
TYPES = ("number", "expr", "choice", "label", "text")

_LINE = re.compile(
    r"(?im)(?:^|(?<=[.!?] ))[ \t*_#>-]*(?:so,? |therefore,? |thus,? )?(?:the )?(?:final )?answer"
    r"(?:[ \t*_]*[:=]|[ \t]+is\b[ \t]*:?)[ \t*_]*(\S[^\n]*)$"
)
_HASHES = re.compile(r"(?m)^[ \t]*####[ \t]*([-+$€£]?[.\d][^\n]*)$|^[ \t]*####[ \t]*(\S[^\n]*)\s*\Z")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?:/\d+)?(?!\w|\.\d)")
_SUM = re.compile(r"[\d)]\s*(?:[-+*/^×÷·]|x(?=\s*\d))\s*[\d(]")
_FACTOR = re.compile(r"\b(?:hundred|thousand|million|billion|trillion|dozen)s?\b", re.IGNORECASE)
_UNIT = re.compile(r"(?i)(?<=\d)(?:kg|g|mg|km|cm|mm|m|lbs?|oz|ft|in|hrs?|h|mins?|min|s|sec|ml|l|kwh|°[cf]?)\b")
_CURRENCY = re.compile(
    r"(?:\b(?:US|USD|EUR|GBP|CHF|Rs\.?)\s*)?[$€£¥₹%]|\b(?:USD|EUR|GBP|CHF|Rs\.?)\s*(?=\d)", re.IGNORECASE
)
_FRAC = re.compile(r"\\[dt]?frac\s*\{(\d{1,60})\}\s*\{(\d{1,60})\}")
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"(?i)\W*(?:(?:the )?(?:final )?(?:correct )?(?:answer|option|choice)(?: is)?\W*)?([a-z])\W*")
_PREFIX = re.compile(r"^\s*\(?[A-Z][).:]\s+")
_NOT = re.compile(r"\b(?:not|neither|nor|except)\b")
_HEAVY = re.compile(rf"\\(?:int|sum|prod|lim|binom|dbinom|tbinom)|\d{{3,}}\s*!|[)}}\]]\s*!|!\s*!|\d{{{MAX_DIGITS},}}")
_COSTLY = re.compile(r"sin|cos|tan|cot|sec|csc|log|ln|exp|\\cup|\\cap")
_SUMS = re.compile(r"(?<!\^)[({][^(){}]*[-+][^(){}]*[)}](?!\s*\^)")  # brackets to be multiplied out


def strict_answer(text: str) -> str | None:
    """The content of the single `<answer>` block, as train-rl and eval read it; None if there is none or several."""
    return parse_completion(text, k=0).answer


def flexible_answer(text: str) -> str | None:
    r"""The last stated answer in a usual form: answer block, else `Answer:` line, `####`, `\boxed`, last number."""
    stated = stated_answer(text)
    if stated is not None:
        return stated
    numbers = numbers_in(text[-TAIL:])
    return numbers[-1] if numbers else None


def stated_answer(text: str) -> str | None:
    """As `flexible_answer`, but None where the text only ends in some number."""
    text = text[-TAIL:]
    close = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, close) if close >= 0 else -1
    if start >= 0 and (answer := clean(text[start + len("<answer>") : close])):
        return answer
    for pattern in (_LINE, _HASHES):
        found = list(pattern.finditer(text))
        if found and (answer := clean(next(group for group in found[-1].groups() if group))):
            return answer
    begin = text.rfind("\\boxed{")
    end = _closing(text, begin + len("\\boxed{")) if begin >= 0 else None
    return clean(text[begin + len("\\boxed{") : end]) if end is not None else None


def clean(text: str) -> str | None:
    r"""An answer without `\boxed{}`, `\text{}`, tags, markdown, dollar signs around it and the last stop."""
    if len(text) > MAX_CHARS:
        return text
    for _ in range(4):
        start = text.find("\\boxed{")
        end = _closing(text, start + 7) if start >= 0 else None
        if end is None:
            break
        text = text[:start] + text[start + 7 : end] + text[end + 1 :]
    text = _TEXT.sub(r"\1", re.sub(r"</?answer>", " ", text))
    kept = text.lstrip("*_`$ \n\t").rstrip("*_`$ .\n\t").strip()
    return kept or None


def _closing(text: str, begin: int) -> int | None:
    """Index of the bracket that closes the one before `begin`."""
    depth = 1
    for end in range(begin, min(len(text), begin + MAX_CHARS)):
        depth += {"{": 1, "(": 1, "}": -1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return end
    return None


def numbers_in(text: str) -> list[str]:
    """Numbers as written, commas removed, in order; at most the first 20,000 characters are read."""
    return [n.replace(",", "") for n in _NUMBER.findall(text[:TAIL]) if any(c.isdigit() for c in n)]


def to_number(text: str) -> Fraction | None:
    """The one number in "$1,250.00", "60 credits", "7kg", "50%" or "1/2"; None if there is none or several differ."""
    text = re.sub(r"[\u2212\u2010-\u2013\uff0d]", "-", text[: MAX_CHARS + 1])
    text = _FRAC.sub(r"\1/\2", text.replace("{,}", ",").replace("\\,", "").replace("\\!", "")).replace("\\", " ")
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}\b)", "", text)
    text = _UNIT.sub(" ", _CURRENCY.sub("", text))
    numbers = numbers_in(text)
    if not numbers or max(map(len, numbers)) > MAX_DIGITS or _FACTOR.search(text):
        return None
    if len(numbers) > 1 and _SUM.search(text):
        return None
    found = {as_fraction(number) for number in numbers}
    return found.pop() if len(found) == 1 else None


def as_fraction(number: str) -> Fraction | None:
    """The exact value of one number as `numbers_in` gives it; None for 1/0 and what is longer than 60 characters."""
    try:
        return Fraction(number) if len(number) <= MAX_DIGITS else None
    except (ValueError, ZeroDivisionError):
        return None


def is_correct(answer: str | None, problem: Problem) -> bool:
    """Whether `answer` equals the problem's answer under its type; answers over 1,000 characters are wrong.

    Raises ConfigError for an unknown answer_type and for a plug-in that cannot be loaded.
    """
    check = _checker(problem)
    mine = clean(answer) if answer is not None else None
    if mine is None or len(mine) > MAX_CHARS:
        return False
    gold = clean(problem.answer) or problem.answer
    if check is not None:
        return bool(check(mine, gold))
    if problem.answer_type == "number":
        return _same_number(mine, gold, problem.tolerance)
    if problem.answer_type == "expr":
        return _same_expression(mine, gold)
    key = _plain_key(mine, problem)
    return key is not None and key == _plain_key(gold, problem)


def answer_key(answer: str | None, problem: Problem) -> str | None:
    """Equal answers get equal keys (votes, consistency of verdicts); None where there is no single answer.

    An answer that the checker accepts gets the gold answer's key, also within a tolerance or in another notation.
    Raises ConfigError as `is_correct` does.
    """
    if is_correct(answer, problem):
        answer = problem.answer
    mine = clean(answer) if answer is not None else None
    return _plain_key(mine, problem) if mine is not None and len(mine) <= MAX_CHARS else None


def known_types() -> list[str]:
    """Built-in answer types, then plugged-in ones in alphabetical order."""
    return [*TYPES, *sorted(set(_plugins()) - set(TYPES))]


@lru_cache(maxsize=1)
def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="realm_cli.checkers")}


@lru_cache(maxsize=64)
def _load(kind: str) -> Callable[[str, str], bool]:
    try:
        checker: Callable[[str, str], bool] = _plugins()[kind].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"answer_type {kind!r}: its checker cannot be loaded ({error}); reinstall it") from error
    return checker


def _checker(problem: Problem) -> Callable[[str, str], bool] | None:
    """The plugged-in checker of the problem's type; None for a built-in type."""
    kind = problem.answer_type
    if kind in TYPES:
        return None
    if kind not in _plugins():
        raise ConfigError(f"problem {problem.id}: unknown answer_type {kind!r}; known: {', '.join(known_types())}")
    return _load(kind)


def _plain_key(answer: str, problem: Problem) -> str | None:
    if problem.answer_type == "choice":
        return _choice(answer, problem.choices or [])
    if problem.answer_type == "number":
        number = to_number(answer)
        if number is None and to_number(problem.answer) is not None:
            return None
        return f"n:{number}" if number is not None else "t:" + "".join(answer.casefold().split())
    if problem.answer_type == "expr":
        number = to_number(answer) if not re.search(r"[A-Za-z^]", answer) else None
        return f"n:{number}" if number is not None else "t:" + "".join(answer.split())
    words = _words(answer)
    return f"t:{words}" if words else None


def _words(text: str) -> str:
    """Words without case, punctuation, hyphens between letters; signs such as `<` or `C++` stay."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"[;:!?\"'’‘“”`*_(){}\[\]]|(?<!\d)[.,]|[.,](?!\d)|(?<=[^\W\d])[-–](?=[^\W\d])", " ", text)
    return " ".join(text.split())


def _same_number(answer: str, gold: str, tolerance: float | None) -> bool:
    mine, other = to_number(answer), to_number(gold)
    if other is None:  # a gold answer such as 10:30 is compared as it is written
        return "".join(answer.casefold().split()) == "".join(gold.casefold().split())
    if mine is None:
        return False
    if tolerance is None or not math.isfinite(tolerance):
        return mine == other
    return abs(mine - other) <= Fraction(repr(float(tolerance)))  # 0.3 means 3/10, not the binary number below it


def _choice(answer: str, choices: list[str]) -> str | None:
    """Key of the single choice that is named by its letter or text; two named = None."""
    words, texts = _words(answer), [_words(_PREFIX.sub("", choice)) for choice in choices]
    if words in texts and words:
        return f"c:{texts.index(words)}"
    lone = _LETTER.fullmatch(answer)
    if lone:
        index = ord(lone.group(1).upper()) - 65
        return f"c:{index}" if index < (len(choices) or 26) else None
    rest, named = words, set()
    for index in sorted(range(len(texts)), key=lambda i: -len(texts[i])):  # a choice inside a longer one is not named
        shorter = re.sub(rf"(?<!\w){re.escape(texts[index])}(?!\w)", " ", rest) if texts[index] else rest
        if shorter != rest:
            named.add(index)
            rest = shorter
    if _NOT.search(rest):
        return None
    article = r"(?!\s+(?!or\b|and\b|is\b|because\b|since\b|nor\b)[a-z])" if named else ""
    letters = re.findall(rf"(?<![\w'])(?:A{article}|[B-Z])(?![\w'])", answer)
    named |= {ord(letter) - 65 for letter in letters if ord(letter) - 65 < len(choices)}
    return f"c:{named.pop()}" if len(named) == 1 else None


@lru_cache(maxsize=65536)
def _same_expression(answer: str, gold: str) -> bool:
    if "".join(answer.split()) == "".join(gold.split()):
        return True
    if not re.search(r"[A-Za-z^(){}]", answer + gold):
        mine, other = to_number(answer), to_number(gold)
        return mine is not None and mine == other
    answer, gold = answer.replace("$", " ").strip(), gold.replace("$", " ").strip()
    if not _bounded(answer) or not _bounded(gold) or re.search(r"\b(?:or|and)\b", answer):
        return False
    import math_verify

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it warns on every call without its own (signal) time-outs
    # Its time-outs need the main thread's alarm signal; `_bounded` keeps expressions small instead.
    mine, other = (math_verify.parse(f"${text}$", parsing_timeout=None) for text in (answer, gold))
    return bool(mine) and bool(math_verify.verify(other, mine, timeout_seconds=None))


def _bounded(text: str) -> bool:
    """Small enough to be worked out: no towers of powers, no huge exponents, factorials, nests, integrals or sums."""
    if len(text) > MAX_EXPR or _HEAVY.search(text) or len(_COSTLY.findall(text)) > MAX_COSTLY:
        return False
    text = text.replace("\\left", "").replace("\\right", "").replace("**", "^")
    size, symbolic = 1, len(_SUMS.findall(text))
    for match in re.finditer(r"\^\s*", text):
        begin = match.end()
        if text[begin : begin + 1] in ("{", "("):
            end = _closing(text, begin + 1)
            end = len(text) if end is None else end + 1
        else:
            end = begin + len(re.match(r"[-+]?[\w.\\]*", text[begin:]).group())  # type: ignore[union-attr]
        if re.search(r"[\^!]", text[begin:end]) or re.match(r"\s*[\^!]", text[end:]):
            return False
        numbers = [int(number) for number in re.findall(r"\d+", text[begin:end])]
        size *= max(1, math.prod(numbers))
        symbolic += sum(numbers) * (text[: match.start()].rstrip()[-1:] in tuple(")}]|"))
    names = len(set(re.findall(r"[A-Za-z](?:_\{?\w+)?", re.sub(r"\\[A-Za-z]+", " ", text))))
    few = symbolic <= MAX_EXPAND and math.comb(names + symbolic, names) <= MAX_TERMS
    return size <= MAX_EXPONENT and (few or not re.search("[A-Za-z]", text))
