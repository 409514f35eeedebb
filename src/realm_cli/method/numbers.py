r"""One number, read whole: sign, grouping, fraction, power, factor, unit (method.md section 8).

    read_number("- $1,250.00")  -1250 usd      read_number("7 × 10^4")   70000      read_number("(12.6)")   -12.6
    read_number("3½")           7/2            read_number("1.5 crore")  15000000   read_number("2+3 = 5")  5
    read_number("3 or 4")       None           read_number("3!")         None       read_number("not 5")    None

Nothing is left over: what is no sign, factor, unit or plain word behind the number makes it unreadable. Values are
exact fractions; digits and exponents are bounded.

Choices of ours: (1) `2 + 2` is no number: it is not worked out; of `2 + 2 = 4` the last member counts. (2) A comma with
other than three digits behind it is a decimal comma (`12,5`); one with three is a thousands comma, unless a leading 0
stands before it; in a column with decimal commas it is always one. (3) Percent is a unit: `50 %` is 50. (4) Alone in
brackets, a number is negative, as accountants write it. (5) `5K`, `5M` are thousands and millions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from realm_cli.method.notation import normal
from realm_cli.method.number_words import and_part, number_words
from realm_cli.method.units import CURRENCY, known_unit, read_unit

MAX_CHARS, MAX_DIGITS, MAX_POWER = 1000, 60, 400
NOISE_DIGITS, NOISE = 15, Fraction(1, 10**12)  # digits of a binary number as text; its relative error

PLAIN = re.compile(r"-?(?:[1-9]\d{0,2}(?:,\d{3})+|\d{1,30})(?:\.\d{1,20})?", re.ASCII)  # nothing to strip or to weigh
_LEAD = re.compile(
    r"\s{0,8}(?:[≈~]|(?:(?:(?:approximately|approx\.?|about|around|roughly|ca\.|circa|exactly|only|just|a total of|"
    r"equals?|is|was|are|it is|it's)\s{1,4}))){0,3}\s{0,8}",
    re.IGNORECASE,
)
_COPULA = re.compile(r"\s{0,4}:|\s(?:is|are|was|were|equals|be)\b:?")
MAX_LEAD, LEAD_WORDS = 160, 14  # characters and words in front of a number
NO_NUMBER = """not no never than and or half twice double cannot cant wrong incorrect false without isnt shouldnt wont
couldnt wouldnt doesnt"""
_NO = frozenset(NO_NUMBER.split())
_SIGN = r"(?:[-+]|(?:minus|negative|plus)(?=[\s$€£¥₹]))"
_HEAD = re.compile(
    rf"(?:(?P<s0>-)\s?(?=\())?(?:(?P<cur0>{CURRENCY})\s?(?=\())?(?P<open>\()?\s{{0,4}}(?P<s1>{_SIGN})?\s{{0,4}}(?P<cur>{CURRENCY})?"
    rf"\s{{0,4}}(?P<s2>{_SIGN})?\s{{0,4}}(?=[\d.])",
    re.IGNORECASE,
)
_POINT = re.compile(
    r"(?P<int>[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d?(?:,\d\d)+,\d{3}|[1-9]\d{0,2}(?:['’]\d{3})+|[1-9]\d{0,2}(?:_\d{3})+"
    r"|[1-9]\d{0,2}(?: \d{3})+(?! ?/)|\d{1,60})?(?P<dec>\.\d{1,60})?"
    r"(?![\d_]|\.\d|['’]\d|,\d\d\d)(?P<exp>[eE][-+]?\d{1,4}(?!\d))?",
    re.ASCII,
)
_COMMA = re.compile(
    r"(?P<int>[1-9]\d{0,2}(?:\.\d{3})+|[1-9]\d{0,2}(?:['’]\d{3})+|[1-9]\d{0,2}(?: \d{3})+(?! ?/)|\d{1,60})?"
    r"(?P<dec>,\d{1,60})?(?![\d_]|[.,]\d|['’]\d)(?P<exp>[eE][-+]?\d{1,4}(?!\d))?",
    re.ASCII,
)
_EUROPEAN = re.compile(  # can only be read so: 1.234.567, 1.234,5 and 1 234,5
    r"[1-9]\d{0,2}(?:\.\d{3}){2,8}(?:,\d{1,20})?(?![\d.,])"
    r"|[1-9]\d{0,2}(?:[. ]\d{3}){1,8},(?:\d{1,2}|\d{4,20})(?![\d.,])",
    re.ASCII,
)
_ONE_COMMA = re.compile(r"(?:0,\d{1,30}|[1-9]\d{0,30},(?:\d{1,2}|\d{4,30}))(?![\d.,'’])", re.ASCII)
_OVER = re.compile(r"\s?/\s?(\d{1,60})(?![\d.,'’_]|\s?/\s?\d)", re.ASCII)
_MIXED = re.compile(r"(?:\s{1,4}|\s{1,4}(?:and|&)\s{1,4})(\d{1,9})\s?/\s?(\d{1,9})(?![\d.,]|\s?/\s?\d)", re.ASCII)
_POWER = re.compile(
    r"\s{0,4}[x×*·⋅•]\s{0,4}10\s{0,4}(?:\^|\*\*)\s{0,4}[{(]?\s{0,4}([-+]?\d{1,4})(?!\d)(?:\s{0,4}[)}])?", re.IGNORECASE
)
_TEN = re.compile(r"\s{0,4}(?:\^|\*\*)\s{0,4}[{(]?\s{0,4}([-+]?\d{1,4})(?!\d)(?:\s{0,4}[)}])?")
_POWERS = {
    2: "hundred 百",
    3: "thousand k grand thou 千",
    4: "万 萬",
    5: "lakh lac",
    6: "million mn mio mln mil millionen millones",
    7: "crore cr",
    8: "亿 億",
    9: "billion bn bln bil mrd milliard milliarden",
    12: "trillion tn",
    15: "quadrillion",
    18: "quintillion",
}
_FACTOR_WORDS = {word: power for power, names in _POWERS.items() for word in names.split()}
_FACTOR = re.compile(
    r"\s{0,4}-?(?:(hundred|thousand|million|billion|trillion|quadrillion|quintillion|milliarden|milliard|millionen|millones"
    r"|grand|thou|lakh|lac|crore|mil|bil|mrd|mn|mio|mln|bn|bln|tn|cr)s?\.?(?![A-Za-z])"
    r"|([kKMB]|mm?|b|T)(?![A-Za-z/^²³\d])|([万萬亿億千百])|(dozen)s?\b)",
    re.IGNORECASE,
)
_LETTERS = {"k": 3, "K": 3, "M": 6, "B": 9}
_WITH_MONEY = {"m": 6, "mm": 6, "MM": 6, "b": 9, "T": 12}
_WHY = re.compile(
    r",?\s{1,4}(?:because|since|given that|due to)\b.*|,\s{1,4}(?:as|which is|that is)\b.*|\s{1,4}-\s{1,4}that is\b.*"
    r"|,\s{1,4}not\s{1,4}-?[$€£]?[\d.,]+\s{0,4}$|[\s.,;|(]{1,4}confidence\b.*"
    r"|[.!;|]\s{1,4}(?:hope|let me (?:double-?)?check)\b.*"
    r"|[\s.,;|(]{1,4}(?:I'?m |with |about ){0,3}\d{1,3}\s?%\s(?:sure|certain|confiden\w{1,4})\b.*",
    re.IGNORECASE | re.DOTALL,
)
_SCALED = re.compile(r"\s{0,4}(?:%|[kKMB]|million|billion|thousand|bn|mn)?\s{0,4}")
TAKEN_BACK = re.compile(  # an explanation that takes the answer back
    r"\b(?:wait|actually|however|correction|instead|mistake|wrong|incorrect|error|answer)\b|(?:^|[.;,!?-]\s{0,4}|\.{3}\s?)no\b",
    re.IGNORECASE,
)
_EQUATION = re.compile(r"[<>≠≤≥!;]|:=|,\s|\b(?:and|or|not)\b|\\n|n't\b")
_FLOAT = re.compile(r"-?(\d{1,20})\.(\d{1,25})(?:[eE][-+]?\d{1,3})?")
_LEFT = re.compile(
    r"[A-Za-z](?:_\{?\w{1,6}\}?)?(?:\^\{-1\})?(?:\([^()]{0,20}\))?|[A-Za-z](?:\s?[+*/·]\s?[A-Za-z]){1,5}|\|?[A-Z]{2}\|?"
    r"|\\[dt]?frac\{[A-Z]{2}\}\{[A-Z]{2}\}|[A-Z]\s?:\s?[A-Z]|[A-Za-z]{2,30}(?:['’]s?)?(?:\s{1,3}[A-Za-z]{2,30}(?:['’]s?)?){0,11}"
)
_NOT_NAMES = frozenset(("sqrt", "sin", "cos", "tan", "log", "ln", "exp", "abs", "not", "half", "twice", "double"))
_AGAIN = re.compile(r"\s{0,4}\(([^()]{1,80})\)\s{0,4}\.?\s{0,4}$")
_SEVERAL = re.compile(r"\s{1,4}or\s{1,4}|\s{1,4}and\s{1,4}|;\s{0,4}|,\s{1,4}")


@dataclass(frozen=True, slots=True)
class Number:
    """A number and its unit in normal form (see `units`); () where it has none."""

    value: Fraction
    unit: tuple[str, ...] = ()


def to_number(text: str, decimal_comma: bool = False) -> Fraction | None:
    """The one number in "$1,250.00", "60 credits", "7kg", "50%" or "1/2"; None if there is none or several differ."""
    found = read_number(text, decimal_comma=decimal_comma)
    return found.value if found is not None else None


@lru_cache(maxsize=8192)
def read_number(text: str, *, decimal_comma: bool = False, algebra: bool = False) -> Number | None:
    r"""The number that a text states, and its unit; None where it does not state exactly one.

    decimal_comma: as the column that the problem is from. algebra: in formulas brackets are no sign, a comma divides
    members of a list, and letters may be variables. The text may hold LaTeX; delimiters around it are gone (`clean`).
    """
    if PLAIN.fullmatch(text) and not decimal_comma:
        value = as_fraction(text.replace(",", ""))
        return Number(value) if value is not None else None
    if len(text) > MAX_CHARS:
        return None
    text = normal(text)
    found = _read(text, decimal_comma, algebra)
    if found is None and not algebra and _SEVERAL.search(text):  # "72 or 72"
        members = [_read(member, decimal_comma, algebra) for member in _SEVERAL.split(text[:200])]
        if None not in members and len(set(members)) == 1:
            return members[0]
    return found


def _read(text: str, decimal_comma: bool, algebra: bool) -> Number | None:
    if why := _WHY.search(text):
        if TAKEN_BACK.search(why.group()):
            return None
        text = text[: why.start()]
    text = text.strip().rstrip(".").removesuffix("/-")
    if "=" in text:
        *before, text = text.split("=")
        if not (is_left_side(before[0]) and all(re.fullmatch(r"[^A-Za-z\\\n;]*", part) for part in before[1:])):
            return None
    again = _AGAIN.search(text)
    if again and (re.search(r"\d", text[: again.start()]) or number_words(text)):  # "5 (five)", "24 (clips)"
        inner, outer = (
            _read_one(again[1], decimal_comma, algebra),
            _read_one(text[: again.start()], decimal_comma, algebra),
        )
        if outer is None or (inner is None and (algebra or read_unit(" " + again[1]) is None)):
            return None
        return outer if inner is None or inner.value == outer.value else None
    return _read_one(text, decimal_comma, algebra)


def is_left_side(text: str) -> bool:
    """Whether an equation's left side only says what the right side is: a name, words, a sum of names, arithmetic."""
    if _EQUATION.search(text) or "\n" in text:
        return False
    if not re.search("[A-Za-z]", text):
        return True
    name = _LEFT.fullmatch(text.strip())
    return name is not None and not {word.lower() for word in re.findall("[A-Za-z]+", text)} & _NOT_NAMES


def _read_one(text: str, decimal_comma: bool, algebra: bool) -> Number | None:
    begin = text.lstrip()
    lead = _LEAD.match(begin)
    begin = begin[lead.end() :] if lead else begin
    if not algebra and begin[:1].isalpha() and (copula := _COPULA.search(begin, 0, MAX_LEAD)):
        before = begin[: copula.start()].replace("'", "").replace("’", "").replace("-", "").split()
        if len(before) <= LEAD_WORDS and all(map(str.isalpha, before)) and not _NO.intersection(map(str.lower, before)):
            begin = begin[copula.end() :].lstrip()
            lead = _LEAD.match(begin)
            begin = begin[lead.end() :] if lead else begin
    head = _HEAD.match(begin)
    if head is None:
        spelled = number_words(begin)
        return None if spelled is None else _with_unit(spelled[0], spelled[1], (), algebra)
    if (head["open"] and algebra) or sum(bool(head[name]) for name in ("s0", "s1", "s2")) > 1:
        return None
    digits = begin[head.end() :]
    found = _digits(digits, decimal_comma, algebra)
    if found is None:
        return None
    value, rest = found
    if (more := and_part(rest)) and value.denominator == 1:
        value, rest = value + more[0], more[1]
    sign = -1 if (head["s1"] or head["s2"] or "").lower() in ("-", "minus", "negative") else 1
    outer_sign = sign
    if head["open"]:  # an accountant's brackets, around the number alone
        inside, closed, rest = rest.partition(")")
        parts = inside, rest.rstrip(".")
        if not closed or not all(map(_SCALED.fullmatch, parts)) or all(part.strip() for part in parts):
            return None
        rest, outer_sign = inside + rest.rstrip("."), -1
    sign_of_money = head["cur"] or head["cur0"]
    money = (known_unit(sign_of_money) or sign_of_money.lower(),) if sign_of_money else ()
    return _with_unit(value * outer_sign, rest, money, algebra)


def _digits(text: str, decimal_comma: bool, algebra: bool) -> tuple[Fraction, str] | None:
    """(value without sign, what follows) of the digits at the beginning, with fraction and powers of ten."""
    if not decimal_comma and not algebra and _EUROPEAN.match(text):
        decimal_comma = True
    pattern = _COMMA if decimal_comma and not re.match(r"0\.\d|\d{1,60}\.(?:\d{1,2}|\d{4,60})(?!\d)", text) else _POINT
    one = None if decimal_comma or (algebra and not text.startswith("0,")) else _ONE_COMMA.match(text)
    if one:
        value, rest = as_fraction(one.group().replace(",", ".")), text[one.end() :]
    else:
        found = pattern.match(text)
        if found is None or not (found["int"] or found["dec"]):
            return None
        if pattern is _POINT and re.match(r",\d", text[found.end() :]):
            return None
        whole = re.sub(r"[^\d]", "", found["int"] or "0")
        number = whole + (found["dec"] or "").replace(",", ".") + (found["exp"] or "")
        if abs(int((found["exp"] or "e0")[1:])) > MAX_POWER:
            return None
        value, rest = as_fraction(number), text[found.end() :]
    if value is None:
        return None
    if over := _OVER.match(rest):
        if not int(over[1]):
            return None
        return value / int(over[1]), rest[over.end() :]
    if value.denominator == 1 and (mixed := _MIXED.match(rest)):
        above, below = int(mixed[1]), int(mixed[2])
        return (value + Fraction(above, below), rest[mixed.end() :]) if 0 < above < below else None
    times = _POWER.match(rest)
    power = times or (_TEN.match(rest) if value == 10 else None)  # 7 × 10^4, or 10^4
    if power:
        exponent = int(power[1])
        if abs(exponent) > MAX_POWER:
            return None
        return (value if times else 1) * Fraction(10) ** exponent, rest[power.end() :]
    return value, rest


def _with_unit(value: Fraction, rest: str, money: tuple[str, ...], algebra: bool) -> Number | None:
    """The number with its factor and unit; None where something is left over."""
    for _ in range(2):
        factor = (
            None
            if algebra and not re.match(r"\s{0,4}(?:hund|thou|mill|bill|tril|lakh|cror)", rest, re.IGNORECASE)
            else _FACTOR.match(rest)
        )
        if factor is None:
            break
        scale = _scale(factor, bool(money) or bool(re.match(rf"\s{{0,4}}{CURRENCY}", rest[factor.end() :])))
        if scale is None:
            break
        value, rest = value * scale, rest[factor.end() :]
    unit = read_unit(rest, algebra=algebra)
    return None if unit is None else Number(value, money + tuple(word for word in unit if word not in money))


def _scale(found: re.Match[str], money: bool) -> int | None:
    if found[4]:
        return 12
    if found[2]:
        power = _LETTERS.get(found[2]) or (_WITH_MONEY.get(found[2]) if money else None)
        return None if power is None else 10**power
    return int(10 ** _FACTOR_WORDS[(found[1] or found[3]).lower()])


def same_value(mine: Fraction, gold: Fraction, *texts: str) -> bool:
    """Equal; where a text shows a binary number's digits (`90.00000000000001`), equal but for its last digits."""
    if mine == gold:
        return True
    floats = (_FLOAT.fullmatch(text.strip()) for text in texts)
    noisy = any(m and len((m[1] + m[2]).lstrip("0")) >= NOISE_DIGITS for m in floats)
    return noisy and abs(mine - gold) <= NOISE * abs(gold)


def as_fraction(number: str) -> Fraction | None:
    """The exact value of one number as `numbers_in` gives it; None for 1/0 and what is longer than 60 characters."""
    try:
        if number.isdecimal() and len(number) <= MAX_DIGITS:
            return Fraction(int(number))
        return Fraction(number) if len(number) <= MAX_DIGITS else None
    except (ValueError, ZeroDivisionError):
        return None
