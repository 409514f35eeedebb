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
(2) An expression with integrals, sums, limits or towers of powers, with over four functions or unions, with brackets
nested over 16 deep, with over 16 members in a list, or of over 2,000 terms when multiplied out, is right only if it is
written like the gold answer.
"""

from __future__ import annotations

import math
import re
import unicodedata
from fractions import Fraction

from realm_cli.errors import ConfigError
from realm_cli.method.checks import MAX_CHARS, MAX_DIGITS, bounded, closing, judge, plugins
from realm_cli.method.parsing import parse_completion
from realm_cli.records import Problem

TAIL = 20_000
TYPES = ("number", "expr", "choice", "label", "text")

_LINE = re.compile(
    r"(?im)(?:^|(?<=[.!?] ))[ \t*_#>-]*(?:so,? |therefore,? |thus,? )?(?:the )?(?:final )?answer"
    r"(?:[ \t*_]*[:=]|[ \t]+is\b[ \t]*:?)[ \t*_]*(\S[^\n]*)$"
)
_HASHES = re.compile(r"(?m)^[ \t]*####[ \t]*([-+$€£]?[.\d][^\n]*)$|^[ \t]*####[ \t]*(\S[^\n]*)$\s*\Z")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?:/\d+)?(?!\w|\.\d)")
_PLAIN = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,20})?", re.ASCII)  # nothing to strip or to weigh
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
    end = closing(text, begin + len("\\boxed{")) if begin >= 0 else None
    return clean(text[begin + len("\\boxed{") : end]) if end is not None else None


def clean(text: str) -> str | None:
    r"""An answer without `\boxed{}`, `\text{}`, tags, markdown, dollar signs around it and the last stop."""
    if len(text) > MAX_CHARS or _PLAIN.fullmatch(text):
        return text
    for _ in range(4):
        start = text.find("\\boxed{")
        end = closing(text, start + 7) if start >= 0 else None
        if end is None:
            break
        text = text[:start] + text[start + 7 : end] + text[end + 1 :]
    text = _TEXT.sub(r"\1", re.sub(r"</?answer>", " ", text))
    kept = text.lstrip("*_`$ \n\t").rstrip("*_`$ .\n\t").strip()
    return kept or None


def numbers_in(text: str) -> list[str]:
    """Numbers as written, commas removed, in order; at most the first 20,000 characters are read."""
    return [n.replace(",", "") for n in _NUMBER.findall(text[:TAIL]) if any(c.isdigit() for c in n)]


def to_number(text: str) -> Fraction | None:
    """The one number in "$1,250.00", "60 credits", "7kg", "50%" or "1/2"; None if there is none or several differ."""
    if len(text) <= MAX_DIGITS and _PLAIN.fullmatch(text):
        return as_fraction(text.replace(",", ""))
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
        if number.isdecimal() and len(number) <= MAX_DIGITS:
            return Fraction(int(number))
        return Fraction(number) if len(number) <= MAX_DIGITS else None
    except (ValueError, ZeroDivisionError):
        return None


def is_correct(answer: str | None, problem: Problem) -> bool:
    """Whether `answer` equals the problem's answer under its type; answers over 1,000 characters are wrong, and a gold
    answer of such a length is never met (plug-ins may have longer ones).

    Raises ConfigError for an unknown answer_type and for a plug-in that cannot be loaded.
    """
    plugged_in = _plugged_in(problem)
    mine = clean(answer) if answer is not None else None
    if mine is None or len(mine) > MAX_CHARS:
        return False
    gold = clean(problem.answer) or problem.answer
    if plugged_in:
        return judge(problem.answer_type, mine, gold)
    if len(gold) > MAX_CHARS:
        return False
    if problem.answer_type == "number":
        return _same_number(mine, gold, problem.tolerance)
    if problem.answer_type == "expr":
        return _same_expression(mine, gold)
    key = _plain_key(mine, problem)
    return key is not None and key == _plain_key(gold, problem)


def answer_key(answer: str | None, problem: Problem, *, correct: bool | None = None) -> str | None:
    """Equal answers get equal keys (votes, consistency of verdicts); None where there is no single answer.

    An answer that the checker accepts gets the gold answer's key, also within a tolerance or in another notation.
    correct: the verdict where it is known, so that it need not be found again. Raises ConfigError as `is_correct` does.
    """
    if is_correct(answer, problem) if correct is None else correct:
        answer = problem.answer
    mine = clean(answer) if answer is not None else None
    return _plain_key(mine, problem) if mine is not None and len(mine) <= MAX_CHARS else None


def known_types() -> list[str]:
    """Built-in answer types, then plugged-in ones in alphabetical order."""
    return [*TYPES, *sorted(set(plugins()) - set(TYPES))]


def _plugged_in(problem: Problem) -> bool:
    """Whether the problem's type is a plugged-in checker's. ConfigError for an unknown type."""
    kind = problem.answer_type
    if kind not in TYPES and kind not in plugins():
        raise ConfigError(f"problem {problem.id}: unknown answer_type {kind!r}; known: {', '.join(known_types())}")
    return kind not in TYPES


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
        if not texts[index] or texts[index] not in rest:  # no pattern is made of what cannot be there
            continue
        shorter = re.sub(rf"(?<!\w){re.escape(texts[index])}(?!\w)", " ", rest)
        if shorter != rest:
            named.add(index)
            rest = shorter
    if _NOT.search(rest):
        return None
    article = r"(?!\s+(?!or\b|and\b|is\b|because\b|since\b|nor\b)[a-z])" if named else ""
    letters = re.findall(rf"(?<![\w'])(?:A{article}|[B-Z])(?![\w'])", answer)
    named |= {ord(letter) - 65 for letter in letters if ord(letter) - 65 < len(choices)}
    return f"c:{named.pop()}" if len(named) == 1 else None


def _same_expression(answer: str, gold: str) -> bool:
    if "".join(answer.split()) == "".join(gold.split()):
        return True
    if not re.search(r"[A-Za-z^(){}]", answer + gold):
        mine, other = to_number(answer), to_number(gold)
        return mine is not None and mine == other
    answer, gold = answer.replace("$", " ").strip(), gold.replace("$", " ").strip()
    if not bounded(answer) or not bounded(gold) or re.search(r"\b(?:or|and)\b", answer):
        return False
    return judge("expr", answer, gold)
