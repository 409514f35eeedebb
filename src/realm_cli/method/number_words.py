"""Numbers in English words (method.md section 8): `twenty-five apples`, `minus one hundred and five`, `three quarters`,
`half a million`, `three and a half`."""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
_ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
ONES = {word: n for n, word in enumerate(_SMALL.split())}
TENS = {word: 10 * n for n, word in enumerate(_ROUND.split(), 2)}
_PARTS = {
    2: "half halves",
    3: "third thirds",
    4: "quarter quarters fourth fourths",
    5: "fifth fifths",
    6: "sixth sixths",
}
PARTS = {word: n for n, names in (_PARTS | {8: "eighth eighths", 10: "tenth tenths"}).items() for word in names.split()}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
MAX_TEXT = 200
_WORD = re.compile(r"[A-Za-z]{1,20}")
_MANY = "|".join(["a", "an", *ONES])
_PART = re.compile(rf"({_MANY})[ -]({'|'.join(PARTS)})\b(?! past| to\b)", re.IGNORECASE)
_HALF_OF = re.compile(r"(?:a |one )?half (?:of )?an? (?=dozen|hundred|thousand|million|billion)", re.IGNORECASE)
_AND_PART = re.compile(rf"\s{{1,4}}and\s{{1,4}}({_MANY})[ -]({'|'.join(PARTS)})\b", re.IGNORECASE)


def number_words(text: str) -> tuple[Fraction, str] | None:
    """(value, what follows) of the number words that a text begins with; None where it begins with none.

    None too where they make no single number: `five six`, `five and`.
    """
    if part := _PART.match(text):
        return Fraction(ONES.get(part[1].lower(), 1), PARTS[part[2].lower()]), text[part.end() :]
    if half := _HALF_OF.match(text):
        return Fraction(1, 2), " " + text[half.end() :]
    if re.match(r"a dozen\b", text, re.IGNORECASE):
        return Fraction(1), text[1:]
    sign, at, words = 1, 0, list[str]()
    for match in _WORD.finditer(text[:MAX_TEXT]):
        word = match.group().lower()
        if text[at : match.start()].strip(" -") or (word == "and" and and_part(text[at:])):
            break
        if not words and sign == 1 and word in ("minus", "negative"):
            sign = -1
        elif word in ONES or word in TENS or word == "hundred" or word in SCALES or (word == "and" and words):
            words.append(word)
        elif word != "a" or words:
            break
        at = match.end()
    value = _value(words)
    if value is None:
        return None
    more = and_part(text[at:])
    total = value + more[0] if more else Fraction(value)
    return sign * total, more[1] if more else text[at:]


def and_part(text: str) -> tuple[Fraction, str] | None:
    """`and a half`, `and two thirds` at the beginning of what follows a number: (value, the rest)."""
    found = _AND_PART.match(text)
    if found is None:
        return None
    return Fraction(ONES.get(found[1].lower(), 1), PARTS[found[2].lower()]), text[found.end() :]


def _value(words: list[str]) -> int | None:
    if not words or words[-1] == "and":
        return None
    total, group, last = 0, 0, "scale"
    for word in words:
        if word == "and":
            continue
        if word in ONES:
            if last == "ones" or (last == "tens" and not 0 < ONES[word] < 10):
                return None
            group, last = group + ONES[word], "ones"
        elif word in TENS:
            if last in ("ones", "tens"):
                return None
            group, last = group + TENS[word], "tens"
        elif word == "hundred":
            if group > 99 or last == "hundred":
                return None
            group, last = (group or 1) * 100, "hundred"
        else:
            total, group, last = total + (group or 1) * SCALES[word], 0, "scale"
    return total + group
