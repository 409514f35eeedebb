"""Answers that are words: labels, texts, and lists of them (method.md section 8)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from realm_cli.method.notation import one_dash
from realm_cli.method.numbers import TAKEN_BACK, read_number

TRUTH = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_EDGES = " \t\n.,;:!?\"'“”‘’`。，、！？：；「」『』"
_PAIRS = {"(": ")", "[": "]", "{": "}", "（": "）", "《": "》"}
_BOLD = re.compile(r"(\*\*|__|\*|_)(?=\S)([^*_]{1,400}?)(?<=\S)\1(?!\w)")
_HYPHEN = re.compile(r"(?<=[^\W\d])[-–](?=[^\W\d])")
_LEAD = re.compile(
    r"^(?:so|thus|hence|therefore|it is|it's|this is|that is"
    r"|(?:the )?(?:final )?(?:label|answer|verdict|class|classification|result|prediction|conclusion|decision"
    r"|sentiment)"
    r"(?: is)?:?)[\s,]{1,4}(?=\S)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"\s{0,2}[,;:–—-]\s{1,4}|[，；：。]\s{0,4}|\.\s{1,4}|\s{1,4}(?=\()|\s{1,4}(?=(?:because|since)\b)", re.IGNORECASE
)
_REASON = re.compile(r"(?:because|since|as|given|due|因为|由于)", re.IGNORECASE)
_HEDGE = r"\b(?:but|or|maybe|unclear|unsure|not sure|unknown|neither|whether)\b|(?:^|[,;.!?]\s{0,4}|\band )"
_OTHERS = {  # a clause that names another label, or hedges
    "yes": re.compile(rf"{_HEDGE}(?:no|not|false)\b", re.IGNORECASE),
    "no": re.compile(rf"{_HEDGE}(?:yes|true)\b", re.IGNORECASE),
    "": re.compile(rf"{_HEDGE}(?:no|yes|not|true|false)\b", re.IGNORECASE),
}
_IT_DOES = re.compile(
    r"(?:it|this|that|they|he|she|there)\s(?:does|do|did|is|are|was|were|can|will|would|has|have)\b(\snot\b|n't)?",
    re.IGNORECASE,
)
_DOUBT = re.compile(r"\b(?:not|doubt|deny|unlikely|never|wrong|if|whether|no|cannot|nor)\b|n't\b", re.IGNORECASE)
_BULLET = re.compile(r"[-*•]\s{1,4}|\(?\d{1,2}[.)]\s{1,4}")
_DATE = re.compile(r"\s{0,4}(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})\s{0,4}", re.ASCII)


def words(text: str) -> str:
    """Words without case, markdown and the punctuation around them; signs inside or behind digits stay (`C++`, `3!`).

    Quotes, commas and stops at the edges of words go, brackets around whole words, hyphens between letters.
    """
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,8}", lambda m: "^" + unicodedata.normalize("NFKC", m.group()), text)
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    text = _BOLD.sub(r"\2", text)
    return " ".join(token for part in _HYPHEN.sub(" ", _peeled(text)).split() if (token := _token(part)))


def _peeled(text: str) -> str:
    """Without punctuation and one pair of brackets around all of it."""
    text = _rstripped(text).lstrip(_EDGES) if not re.match(r"\.\d", text.strip()) else _rstripped(text)
    if text[:1] in _PAIRS and text.endswith(_PAIRS[text[0]]) and re.search(r"[^\W\d]{2}", text):
        inner = text[1:-1]
        if not any(bracket in inner for bracket in "()[]{}（）"):
            return inner.strip(_EDGES)
    return text


def _rstripped(text: str) -> str:
    """Without marks at the end; behind a digit `!` and primes are signs."""
    end = text.rstrip(_EDGES)
    return text[: len(end) + 1] if end[-1:].isdigit() and text[len(end) :][:1] in ("!", "'", '"') else end


def _token(token: str) -> str:
    end = _rstripped(token)
    begin = end.lstrip(_EDGES) if not re.match(r"\.\d", end) else end
    for a, b in _PAIRS.items():
        if begin.startswith(a) and (b not in begin or begin.endswith(b)) and begin[1:].rstrip(b).isalpha():
            begin = begin[1:].rstrip(b)
        elif begin.endswith(b) and a not in begin and begin[:-1].isalpha():
            begin = begin[:-1]
    return begin


def same_words(mine: str, gold: str) -> bool:
    """`text`: the same words. Dates are the same with or without leading zeros; an order is never guessed."""
    if words(mine) == words(gold):
        return bool(words(gold))
    a, b = _DATE.fullmatch(mine), _DATE.fullmatch(gold)
    return bool(a and b) and [int(a[i]) for i in (1, 3, 4)] == [int(b[i]) for i in (1, 3, 4)]  # type: ignore[index]


def label_key(answer: str, gold: str) -> str:
    """The label that an answer gives, in the words of `words`; "" for none.

    `yes, it does` is yes: what explains a label may follow it, unless it takes the label back or names another one.
    True and yes are one label, and so are false and no.
    """
    wanted = words(gold)
    truth = TRUTH.get(wanted, wanted)
    plain = _LEAD.sub("", _BOLD.sub(r"\2", answer.strip()))
    said = words(plain)
    if said == wanted or TRUTH.get(said, said) == truth:
        return wanted
    parts = _CLAUSE.split(plain, maxsplit=1)
    head, rest = words(parts[0]), parts[1].strip(" ()") if len(parts) == 2 else ""
    if head and rest and _explains(rest, truth):
        return wanted if TRUTH.get(head, head) == truth else head
    before, _, last = said.rpartition(" is ")
    if wanted and last == wanted and 0 < len(before.split()) <= 8 and not _DOUBT.search(before):  # The label is yes
        return wanted
    return said


def _explains(rest: str, truth: str) -> bool:
    """Whether what follows a label only explains it."""
    if TAKEN_BACK.search(rest) or _OTHERS.get(truth, _OTHERS[""]).search(rest):
        return False
    if _REASON.match(rest):
        return True
    found = _IT_DOES.match(rest)
    denied = found and (found[1] or re.search(r"\bno\b", rest, re.IGNORECASE))
    if truth in ("yes", "no") and found and bool(found[1] if truth == "yes" else denied) != (truth == "no"):
        return False
    return len(rest.split()) > (1 if truth in ("yes", "no", "maybe") else 2) and "," not in rest.partition(" ")[0]


def without_article(text: str) -> str:
    """Words without a leading article, for names in formulas (`an ellipse`)."""
    head, _, tail = text.partition(" ")
    return tail if head in ("a", "an", "the") and tail else text


def list_members(text: str, *, gold: Sequence[str] = ()) -> list[str]:
    """The members of a list, by `;`, line breaks or commas and `and`; with `gold`, by what gives the gold's members."""
    text = one_dash(text).strip().strip("[]{}")
    cuts = (
        r"\s*\n\s*",
        r"\s*;\s*(?:and\s+)?",
        r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*|\s*;\s*|\s*\n\s*",
        r"\s*,\s*(?:and\s+)?",
        r"\s+and\s+",
    )
    splits = [[one for part in re.split(cut, text[:2000]) if (one := part.strip(" \t\"'"))] for cut in cuts]
    splits = [
        [_BULLET.sub("", one) for one in split] if all(map(_BULLET.match, split[1:])) else split for split in splits
    ]
    splits = [[one.strip("*_") if one.startswith("**") else one for one in split] for split in splits]
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
    return f"n:{number.value}" if number is not None and not number.unit else words(member)
