"""Numbers in English words (method.md section 8): `twenty-five apples`, `minus one hundred and five`, `a hundred`."""

from __future__ import annotations

import re

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
_ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
ONES = {word: n for n, word in enumerate(_SMALL.split())}
TENS = {word: 10 * n for n, word in enumerate(_ROUND.split(), 2)}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
MAX_TEXT = 200
_WORD = re.compile(r"[A-Za-z]{1,20}")


def number_words(text: str) -> tuple[int, str] | None:
    """(value, what follows) of the number words that a text begins with; None where it begins with none.

    None too where they make no single number: `five six`, `five and`.
    """
    sign, at, words = 1, 0, list[str]()
    for match in _WORD.finditer(text[:MAX_TEXT]):
        word = match.group().lower()
        if text[at : match.start()].strip(" -"):
            break
        if not words and sign == 1 and word in ("minus", "negative"):
            sign = -1
        elif word in ONES or word in TENS or word == "hundred" or word in SCALES or (word == "and" and words):
            words.append(word)
        elif word != "a" or words:
            break
        at = match.end()
    value = _value(words)
    return None if value is None else (sign * value, text[at:])


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
