"""Answers that are words: labels, texts, the letters and texts of choices, lists (method.md section 8)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from realm_cli.method.numbers import MAX_CHARS, read_number
from realm_cli.method.units import CURRENCY
from realm_cli.prompts import LETTERS, option_texts

TRUTH = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_OTHERS = "yes no true false maybe unclear unknown unsure neither both either but however not sure"
_UNSURE = frozenset(_OTHERS.split())
_MARKS = re.compile(
    r"[;:!?\"'’‘“”`*_(){}\[\]。，、！？：；「」『』（）]|(?<!\d)[.,]|[.,](?!\d)|(?<=[^\W\d])[-–](?=[^\W\d])"
)
_LEAD = re.compile(r"^(?:it is|it's|this is|that is)\s+(?=\S)", re.IGNORECASE)
_CLAUSE = re.compile(r"\s{0,2}[,;:–—-]\s{1,4}|\.\s{1,4}|\s{1,4}(?=(?:because|since)\b)", re.IGNORECASE)
_REASON = re.compile(r"(?:because|since|as|given|due|which)\b", re.IGNORECASE)
_DATE = re.compile(r"\s{0,4}(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})\s{0,4}", re.ASCII)
_LETTER = re.compile(
    r"(?i)\W{0,8}(?:(?:(?:the |my )?(?:final )?(?:correct )?(?:answer|option|choice)(?: is)?\W{0,8}){1,2})?([a-z])"
    r"\W{0,8}"
)
_OWN = re.compile(r"\s{0,4}\(?([A-Za-z])[).:]\s{0,8}")
_NOT = re.compile(r"\b(?:not|neither|nor|except|wrong|incorrect|false)\b|n't\b")


def words(text: str) -> str:
    """Words without case, punctuation, hyphens between letters; signs such as `<` or `C++` stay."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_MARKS.sub(" ", text).split())


def same_words(mine: str, gold: str) -> bool:
    """`text`: the same words. Dates are the same with or without leading zeros; an order is never guessed."""
    if words(mine) == words(gold):
        return bool(words(gold))
    a, b = _DATE.fullmatch(mine), _DATE.fullmatch(gold)
    return bool(a and b) and [int(a[i]) for i in (1, 3, 4)] == [int(b[i]) for i in (1, 3, 4)]  # type: ignore[index]


def label_key(answer: str, gold: str) -> str:
    """The label that an answer gives, in the words of `words`; "" for none.

    `yes, it does` is yes: what follows a comma is left out where it explains (`because`), or, of yes, no, true and
    false, where it is a clause that names no other of them. True and yes are one label, and so are false and no.
    """
    said, wanted = words(_LEAD.sub("", answer)), words(gold)
    if said == wanted or TRUTH.get(said, said) == TRUTH.get(wanted, wanted):
        return wanted
    parts = _CLAUSE.split(answer, maxsplit=1)
    if len(parts) == 2:
        head, rest = words(_LEAD.sub("", parts[0])), words(parts[1])
        explained = bool(_REASON.match(parts[1].lstrip()))
        if TRUTH.get(wanted, wanted) in ("yes", "no", "maybe"):
            other = _UNSURE - ({"no", "not", "false"} if TRUTH.get(wanted) == "no" else set())
            explained = explained or (len(rest.split()) > 1 and not other & set(rest.split()))
        if explained and head:
            return wanted if TRUTH.get(head, head) == TRUTH.get(wanted, wanted) else head
    return said


def without_article(text: str) -> str:
    """Words without a leading article, for names in formulas (`an ellipse`)."""
    head, _, tail = text.partition(" ")
    return tail if head in ("a", "an", "the") and tail else text


def choice_key(answer: str, choices: Sequence[str]) -> str | None:
    """Key of the single choice that is named by its letter, its text or both; None for two, none, or a `not`."""
    answer = unicodedata.normalize("NFKC", answer)
    texts = [words(text) if len(text) <= MAX_CHARS else "" for text in option_texts(choices)]
    lone = _LETTER.fullmatch(answer)
    if lone:
        index = ord(lone.group(1).upper()) - 65
        return _named(index, texts) if index < (len(choices) or len(LETTERS)) else None
    said = words(answer)
    if said and said in texts:
        return _named(texts.index(said), texts)
    own = _OWN.match(answer)
    if own and (index := ord(own[1].upper()) - 65) < len(texts):
        rest = answer[own.end() :]
        if _squeezed(rest) == _squeezed(texts[index]):
            return _named(index, texts)
    by_value = _by_value(answer, texts)
    if by_value is not None:
        return _named(by_value, texts)
    return _in_sentence(answer, said, texts)


def _named(index: int, texts: Sequence[str]) -> str:
    """Options with the same text are the same choice."""
    text = texts[index] if index < len(texts) else ""
    return f"c:{texts.index(text) if text else index}"


def _squeezed(text: str) -> str:
    """Without currencies and blanks, for `Rs. 12000, 20000` and `12000,20000`."""
    text = re.sub(r",\s{1,4}", ",", re.sub(CURRENCY, " ", text, flags=re.IGNORECASE))
    return "".join(words(text).split())


def _by_value(answer: str, texts: Sequence[str]) -> int | None:
    """The one option with the answer's value or spelling, blanks and currencies aside."""
    squeezed = _squeezed(answer)
    same = [i for i, text in enumerate(texts) if squeezed and _squeezed(text) == squeezed]
    if not same and (mine := read_number(answer)) is not None:
        numbers = [read_number(text) if text else None for text in texts]
        same = [i for i, n in enumerate(numbers) if n is not None and n == mine]
    return same[0] if len(same) == 1 else None


def _in_sentence(answer: str, said: str, texts: Sequence[str]) -> str | None:
    rest, named = said, set()
    for index in sorted(range(len(texts)), key=lambda i: -len(texts[i])):  # a choice inside a longer one is not named
        if not texts[index] or texts[index] not in rest:  # no pattern is made of what cannot be there
            continue
        shorter = re.sub(rf"(?<!\w){re.escape(texts[index])}(?!\w)", " ", rest)
        if shorter != rest:
            named.add(_named(index, texts))
            rest = shorter
    if _NOT.search(rest):
        return None
    article = r"(?!\s+(?!or\b|and\b|is\b|because\b|since\b|nor\b)[a-z])" if named else ""
    letters = re.findall(rf"(?<![\w'])(?:A{article}|[B-Z])(?![\w'])", answer)
    named |= {_named(ord(letter) - 65, texts) for letter in letters if ord(letter) - 65 < len(texts)}
    return named.pop() if len(named) == 1 else None


def list_members(text: str, *, gold: Sequence[str] = ()) -> list[str]:
    """The members of a list, by `;`, line breaks or commas and `and`; with `gold`, by what gives the gold's members."""
    text = text.strip().strip("[]{}")
    cuts = (
        r"\s*\n\s*",
        r"\s*;\s*(?:and\s+)?",
        r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*|\s*;\s*|\s*\n\s*",
        r"\s*,\s*(?:and\s+)?",
        r"\s+and\s+",
    )
    splits = [[one for part in re.split(cut, text[:2000]) if (one := part.strip(" \t-*•\"'"))] for cut in cuts]
    if gold:
        wanted = sorted(map(_member_key, gold))
        return next((split for split in splits if sorted(map(_member_key, split)) == wanted), splits[2])
    for mark, split in (("\n", splits[0]), (";", splits[1])):
        if mark in text:
            return split
    return splits[3]


def list_key(members: Sequence[str]) -> str:
    """All members, in any order; a member twice is one."""
    return " | ".join(sorted({_member_key(member) for member in members} - {""}))


def _member_key(member: str) -> str:
    number = read_number(member)
    if number is not None and not number.unit:
        return f"n:{number.value}"
    return words(re.sub(r"^\s{0,4}\(?\d{1,2}[.)]\s{1,4}", "", member))
