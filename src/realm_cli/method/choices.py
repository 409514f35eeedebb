"""Which choice an answer names: by its letter, its text, its value, or in a sentence (method.md section 8).

Two choices are the same only if they are written the same; an answer that fits several, or says `not`, names none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from realm_cli.method.labels import label_key, words
from realm_cli.method.numbers import MAX_CHARS, TAKEN_BACK, read_number
from realm_cli.method.units import CURRENCY
from realm_cli.prompts import LETTERS, option_texts

_LETTER = re.compile(
    r"(?i)\W{0,8}(?:(?:(?:the |my )?(?:final )?(?:correct )?(?:answer|option|choice)(?: is)?\W{0,8}){1,2})?([a-z])"
    r"\W{0,8}"
)
_OWN = re.compile(r"\s{0,4}\(?([A-Za-z])\s{0,2}(?:[).:]|[-–—,](?=\s))\s{0,8}")
_FIRST = re.compile(  # B, not C
    r"\s{0,4}\(?([A-Z])\)?\s{0,2}(?:[,;–—-]\s{0,4}(?:not|since|because|as|due)\b|\s(?:since|because)\b)"
)
_TAKEN_BACK = re.compile(r"\b(?:wait|actually|however|correction|instead|mistake|error)\b", re.IGNORECASE)
_NOT = re.compile(
    r"\b(?:not|no|non|never|neither|nor|without|except|excluding|cannot|wrong|incorrect|false|none|than|rather|unlikely|absence|"
    r"lack|rule out|ruled out|rules out|anything but|all but|but)\b|n't\b|n’t\b|\bcant\b"
)
_BEFORE, _AFTER = re.compile(r"[-+*/×÷^√<>≤≥.,\d]\s?$"), re.compile(r"\s?[-+*/×÷^!%°]|[.,]?\d")


def choice_key(answer: str, choices: Sequence[str]) -> str | None:
    """Key of the single choice that is named by its letter, its text or both; None for two, none, or a `not`."""
    options = [" ".join(text.split()) if len(text) <= MAX_CHARS else "" for text in option_texts(choices)]
    plain = " ".join(answer.split())
    if plain in options and len(plain) > 1:
        return _key(options.index(plain), options)
    folded = unicodedata.normalize("NFKC", answer)
    if lone := _LETTER.fullmatch(folded):
        index = ord(lone.group(1).upper()) - 65
        if index < (len(choices) or len(LETTERS)):
            return _key(index, options)
        return _by_words(plain, options)  # y of x1, y, z
    own = _FIRST.match(folded) or _OWN.match(folded)
    if own and (index := ord(own[1].upper()) - 65) < len(options) and _goes_on(answer, folded, own, options[index]):
        return _key(index, options)
    if own and own.re is _OWN and index < len(options):
        rest = folded[own.end() :]
        if len(rest.split()) <= 4 and _find(options[index], rest) is None:  # B. 30, where B is another option
            return None
    for same in (_by_words(plain, options), _by_value(plain, options), _by_label(plain, options)):
        if same is not None:
            return same
    return _in_sentence(folded, options)


def _key(index: int, options: Sequence[str]) -> str:
    """Options that are written the same are the same choice."""
    text = options[index] if index < len(options) else ""
    return f"c:{options.index(text) if text else index}"


def _one(found: Sequence[int], options: Sequence[str]) -> str | None:
    keys = {_key(index, options) for index in found}
    return keys.pop() if len(keys) == 1 else None


def _goes_on(answer: str, folded: str, own: re.Match[str], option: str) -> bool:
    """Whether what follows an option's letter is its text, or a reason that does not take it back."""
    rest = folded[own.end() :].strip()
    if TAKEN_BACK.search(rest):
        return False
    if own.re is _FIRST:
        return True
    tail = answer[own.end() :].strip() if len(answer) == len(folded) else rest
    if option and tail.strip(". ") == option.strip(". "):
        return True
    if words(option) and words(rest) == words(option):
        return _squeezed(tail) == _squeezed(option)
    behind = rest[len(option) :]
    told = len(option) > 2 and rest.casefold().startswith(option.casefold()) and re.match(r"[,;.]?\s|[,;.]", behind)
    return bool(told) and not re.search(r"\b(?:or|not)\b", behind)


def _by_words(answer: str, options: Sequence[str]) -> str | None:
    said = words(answer)
    return _one([i for i, text in enumerate(options) if text and words(text) == said], options) if said else None


def _squeezed(text: str) -> str:
    """Without currencies and blanks, for `Rs. 12000, 20000` and `12000,20000`."""
    text = re.sub(r",\s{1,4}", ",", re.sub(CURRENCY, " ", text, flags=re.IGNORECASE))
    return "".join(words(text).split())


def _by_value(answer: str, options: Sequence[str]) -> str | None:
    """The one option with the answer's value or spelling, blanks and currencies aside."""
    squeezed = _squeezed(answer)
    same = [i for i, text in enumerate(options) if squeezed and text and _squeezed(text) == squeezed]
    if not same and (mine := read_number(answer)) is not None:
        numbers = [read_number(text) if text else None for text in options]
        same = [i for i, n in enumerate(numbers) if n is not None and n.value == mine.value and n.unit == mine.unit]
    return _one(same, options)


def _by_label(answer: str, options: Sequence[str]) -> str | None:
    """Options such as yes and no, with an explanation behind the label."""
    found = [i for i, text in enumerate(options) if text and len(text) < 40 and label_key(answer, text) == words(text)]
    return _one(found, options)


def _in_sentence(answer: str, options: Sequence[str]) -> str | None:
    """The one option that a sentence names by its text or its capital letter; sentences with a `not` name none."""
    rest, named = " ".join(answer.split()), set()
    for index in sorted(range(len(options)), key=lambda i: -len(options[i])):  # a choice in a longer one is not named
        at = _find(options[index], rest)
        if at is not None:
            named.add(_key(index, options))
            rest = f"{rest[:at]} {rest[at + len(options[index]) :]}"
    if _NOT.search(rest.casefold()) or _TAKEN_BACK.search(rest):
        return None
    article = r"(?!\s+(?!or\b|and\b|is\b|because\b|since\b|nor\b)[a-z])" if named else ""
    letters = re.findall(rf"(?<![\w'])(?:A{article}|[B-Z])(?![\w'])", rest)
    named |= {_key(ord(letter) - 65, options) for letter in letters if ord(letter) - 65 < len(options)}
    return named.pop() if len(named) == 1 else None


def _find(option: str, text: str) -> int | None:
    """Where an option stands in a text as a word or number of its own."""
    if not option or len(words(option)) < 1:
        return None
    for match in re.finditer(re.escape(option), text, re.IGNORECASE):
        before, after = text[: match.start()], text[match.end() :]
        if re.search(r"\w$", before) or re.match(r"\w", after):
            continue
        if re.search(r"[^\W\d]-$", before) or (
            option[-1:].isdigit() and (_BEFORE.search(before[-3:]) or _AFTER.match(after))
        ):
            continue
        return match.start()
    return None
