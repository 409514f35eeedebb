r"""Are two formulas equal? What is read whole is decided here, the rest by Math-Verify (method.md section 8).

In this order: the same text; two numbers with units; words (`\text{Evelyn}`); lists, tuples, intervals and unions,
member by member (lists in any order, tuples in theirs); relations (`3 \le x < 4` is `[3,4)`); then Math-Verify.
Usage: `same_formula("x = 1 or x = 2", "1,2")` -> True

Choices of ours: (1) A ratio `2:4` and a number in another base `204_5` are equal only as written. (2) Units must agree
where both sides name one. (3) `\pm a` is the two values. (4) An equation against a value is its right side, if its left
side is only a name. (5) Lists have at most `MAX_LIST` members.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from realm_cli.method.checks import bounded, judge
from realm_cli.method.labels import without_article, words
from realm_cli.method.latex import (
    FUNCTIONS,
    MAX_LIST,
    NAMED,
    RELATION,
    as_interval,
    bracketed,
    chain,
    members,
    squeezed,
    tidy,
    to_latex,
)
from realm_cli.method.notation import TEXT, normal
from realm_cli.method.numbers import Number, is_left_side, read_number, same_value
from realm_cli.method.units import read_unit, same_unit
from realm_cli.method.unwrap import unwrap

_TAIL = re.compile(  # a unit in a text box
    r"(?:\\[,;: ]|\s){0,4}\\(?:text|textrm|textnormal|mathrm|mbox)\s{0,4}\{\s{0,4}([^{}]{1,80})\}"
    r"((?:\^\{?-?\d\}?)?)\s{0,4}$"
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_EQUATION = re.compile(r"(?<![<>!:\\])=")
_BASE = re.compile(r"\d\s{0,2}_\s{0,2}\{?\s{0,2}\d|\d\s?:\s?\d|\\equiv|\\[pb]?mod(?![a-z])")  # 204_5, 1:2, congruences
_MARKS = re.compile(
    r"'|\\prime|\^\s?\{?(?:T|\\top|\\dagger)\}?(?![A-Za-z])|\\frac\{d\^?\d?[a-z]?\}\{d[a-z]|(?<=[A-Za-z)])!"
)  # primes, A^T, dy/dx
_IT_IS = re.compile(r"^\s{0,4}(?:it is|it's|this is)\s", re.IGNORECASE)
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
_COMMANDS = re.compile(r"\\(?:begin|end)\s?\{[a-z*]{1,20}\}|\\[A-Za-z]+")


def same_formula(mine: str, gold: str) -> bool:
    """Whether an answer equals the gold answer; both as written, delimiters may stand around them."""
    mine, gold = (tidy(unwrap(text) or "") for text in (mine, gold))
    return bool(mine and gold) and _same(mine, gold, 0)


def _same(mine: str, gold: str, depth: int) -> bool:
    if squeezed(mine) == squeezed(gold):
        return True
    if depth > 3:
        return False
    mine, gold, fits = _unnamed(mine, gold)
    if not fits:
        return False
    a, b = _number(mine), _number(gold)
    if a is None and b is not None and b.unit:  # plain units, where the gold has one: 15 m/s
        a = read_number(mine)
        a = a if a is not None and a.unit and same_unit(a.unit, b.unit) else None
    if sorted(_MARKS.findall(mine)) != sorted(_MARKS.findall(gold)):
        return False
    if a is not None and b is not None:
        return same_value(a.value, b.value, mine, gold) and same_unit(a.unit, b.unit)
    if _is_words(gold) or _is_words(mine):
        return _name(mine) == _name(gold) != ""
    mine, gold = (
        f"\\frac{{{n.value.numerator}}}{{{n.value.denominator}}}"
        if n is not None and not n.unit and n.value.denominator < 10**6
        else text
        for n, text in ((a, mine), (b, gold))
    )
    if _BASE.search(gold) or _BASE.search(mine):
        return _as_written(mine) == _as_written(gold)
    verdict = None if "\\begin" in mine + gold else _structured(mine, gold, depth)
    return _by_math_verify(mine, gold) if verdict is None else verdict


def _as_written(text: str) -> str:
    return squeezed(TEXT.sub(r"\1", text.rpartition("=")[2])).translate(str.maketrans("", "", "{}$"))


def _unnamed(mine: str, gold: str) -> tuple[str, str, bool]:
    r"""Both sides without `x =` or `x \in`; not fitting where both are named, and by different names."""
    names = [NAMED.match(text) if not members(text)[1:] else None for text in (mine, gold)]
    if names[0] and names[1] and squeezed(names[0][1]) != squeezed(names[1][1]):
        return mine, gold, False
    if any(m is None and _EQUATION.search(text) for text, m in zip((mine, gold), names, strict=True)):
        return mine, gold, True
    ends = [text[m.end() :] if m else text for text, m in zip((mine, gold), names, strict=True)]
    for i, end in enumerate(ends):
        if names[i] and "=" in end and not RELATION.search(end):  # x = 2 + 3 = 5
            ends[i] = end.rpartition("=")[2]
    return ends[0], ends[1], True


def _number(text: str) -> Number | None:
    r"""The number and unit of one side; a unit in `\text{}` may be any word."""
    tail = _TAIL.search(text)
    if tail and tail.start() > 0:
        head, unit = read_number(text[: tail.start()], algebra=True), read_unit(" " + normal(tail[1] + tail[2]))
        if head is not None and unit is None:
            return read_number(f"{normal(text[: tail.start()])} {tail[1]}", algebra=True)  # 5 \text{ million}
        return None if head is None or unit is None else Number(head.value, head.unit + unit)
    stripped = text.strip()
    return read_number(
        stripped[1:-1] if re.fullmatch(r"[({]\s?-?[\d.]{1,30}\s?[)}]", stripped) else stripped, algebra=True
    )


def _is_words(text: str) -> bool:
    r"""A name or a phrase: words of three letters on, no operators, no function names; or all of it in `\text{}`."""
    text = text.strip()
    if (whole := TEXT.fullmatch(text)) and re.search(r"[^\W\d_]", whole[1]):
        return True
    plain = TEXT.sub(r" \1 ", text)
    if re.search(r"[\\^+*/=<>|{}$√π∞,;]|\b(?:or|and)\b", plain):
        return False
    found = [word for word in _WORD.findall(plain) if word.lower() not in FUNCTIONS]
    return bool(found) and not re.search(r"\d[A-Za-z]|[A-Za-z]\(", _ORDINAL.sub("", plain))


def _name(text: str) -> str:
    return without_article(words(_IT_IS.sub("", _ORDINAL.sub("", TEXT.sub(r" \1 ", text)))))


def _structured(mine: str, gold: str, depth: int) -> bool | None:
    """The verdict of lists, brackets and relations; None where both sides are one formula."""
    mine, gold = as_interval(mine, gold), as_interval(gold, mine)
    pair = _named_tuple(mine, gold) or _named_tuple(gold, mine)
    if pair is not None:
        return _pairwise(*pair, depth)
    mine, gold = _without_set(mine), _without_set(gold)
    a, b = members(mine), members(gold)
    values = _values(a, b)
    if values is not None:
        return _pairwise(*values, depth)
    if len(a) > 1 or len(b) > 1:
        return _matched(a, b, depth)
    first, second = bracketed(mine), bracketed(gold)
    if first is not None and second is not None:
        return first[0] == second[0] and _pairwise(first[1], second[1], depth)
    if first is not None or second is not None:
        return False
    if RELATION.search(mine) and RELATION.search(gold):
        one, other = chain(mine), chain(gold)
        if one is not None and other is not None and one[1] == other[1] and _pairwise(one[0], other[0], depth):
            return True
    return None


def _pairwise(mine: Sequence[str], gold: Sequence[str], depth: int) -> bool:
    return len(mine) == len(gold) and all(_same(a, b, depth + 1) for a, b in zip(mine, gold, strict=True))


def _without_set(text: str) -> str:
    """What stands in the braces of a set, else the text."""
    found = bracketed(text)
    return ", ".join(found[1]) if found is not None and found[0] == "{}" else text


def _named_tuple(named: str, other: str) -> tuple[list[str], list[str]] | None:
    """`x = 1, y = 2` against `(1, 2)`: the values of both, in order."""
    found, parts = bracketed(other), members(named)
    names = [NAMED.match(part) for part in parts]
    if found is None or found[0] != "()" or len(parts) != len(found[1]) or len(parts) < 2 or not all(names):
        return None
    return [part[m.end() :] for part, m in zip(parts, names, strict=True) if m], found[1]


def _values(mine: list[str], gold: list[str]) -> tuple[list[str], list[str]] | None:
    """`x = 1, y = 2` against `1, 2`: both without names, in order; None where not just one side is named."""
    named = [[NAMED.match(part) for part in side] for side in (mine, gold)]
    if len(mine) != len(gold) or len(mine) < 2 or {all(named[0]), all(named[1])} != {True, False}:
        return None
    if any(named[0]) and any(named[1]):
        return None
    sides = [
        [part[m.end() :] if m else part for part, m in zip(side, found, strict=True)]
        for side, found in zip((mine, gold), named, strict=True)
    ]
    return sides[0], sides[1]


def _matched(mine: Sequence[str], gold: Sequence[str], depth: int) -> bool:
    """Every member has its partner on the other side, in any order; the same text twice is one member."""
    a, b = ({squeezed(text): text for text in texts} for texts in (mine, gold))
    if len(a) != len(b) or len(a) > MAX_LIST:
        return False
    others = [text for key, text in b.items() if key not in a]
    for text in (text for key, text in a.items() if key not in b):
        partner = next((i for i, other in enumerate(others) if _same(text, other, depth + 1)), None)
        if partner is None:
            return False
        del others[partner]
    return not others


def _by_math_verify(mine: str, gold: str) -> bool:
    """Math-Verify on the formulas, plain notation made LaTeX; units must agree where both name one."""
    (a, unit), (b, wanted) = _without_unit(mine), _without_unit(gold)
    if not same_unit(unit, wanted):
        return False
    a, b = to_latex(a), to_latex(b)
    if squeezed(a) == squeezed(b):
        return True
    sides = [_EQUATION.split(text) for text in (a, b)]
    if (len(sides[0]) > 1) != (len(sides[1]) > 1):
        left = [part for side in sides for part in side[:-1]]
        if not all(map(is_left_side, left)) or not re.search("[A-Za-z]", left[0]):
            return False
        a, b = sides[0][-1], sides[1][-1]
    return bounded(a) and bounded(b) and not _leftover(a) and not _leftover(b) and judge("expr", a, b)


def _without_unit(text: str) -> tuple[str, tuple[str, ...]]:
    tail = _TAIL.search(text)
    if tail is None or tail.start() == 0:
        return text, ()
    unit = read_unit(" " + normal(tail[1] + tail[2]))
    return (
        (text[: tail.start()], unit) if unit is not None else (f"{text[: tail.start()]} {tail[1]} left", ())
    )  # no formula


def _leftover(latex: str) -> bool:
    """Words that are no functions, or several answers, stand in a formula: it cannot be read whole."""
    plain = _COMMANDS.sub(" ", TEXT.sub(" ", latex))
    unknown = (word.lower() not in FUNCTIONS for word in re.findall(r"[A-Za-z]{4,}", plain))
    return any(unknown) or bool(re.search(r"\b(?:or|and|not)\b|(?<![A-Za-z_^{])[A-Za-z]\d", plain))
