"""Numbers as people and models write them, made at random beside their exact value. For tests of the grader.

`written(rng)` -> Written(text, value, unit, decimal_comma); `golds(rng, written)` -> (gold text, whether it is right).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

UNITS = {"km": ("km", "kilometers"), "kg": ("kg", "kilograms"), "m^2": ("m²", "m^2", "square meters"),
         "h": ("hours", "h"), "percent": ("%", "percent"), "°c": ("°C",), "clips": ("clips",)}  # fmt: skip
MONEY = {"usd": ("$", "US$", "USD "), "eur": ("€", "EUR "), "gbp": ("£",), "inr": ("₹", "Rs. ")}
WORDS = {3: ("thousand", "k", "K"), 5: ("lakh",), 6: ("million", "M", "mn"), 7: ("crore",), 9: ("billion", "bn")}
SIGNS = ("-", "- ", "\N{MINUS SIGN}", "\N{EM DASH}", "\N{EN DASH}", "minus ", "negative ", "△", "(")
AROUND = ("{}", "{}.", "${}$", "**{}**", "\\boxed{{{}}}", "\\({}\\)", "x = {}", "approximately {}", "The answer is {}.",
          "{} because 3 + 4 = 7", "`{}`", " {}\n", "it is {}")  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A text, what it says, and whether it is from a column with decimal commas."""

    text: str
    value: Fraction
    unit: str | None
    decimal_comma: bool


def written(rng: random.Random) -> Written:
    """One number in one of many notations."""
    comma = rng.random() < 0.15
    unit = rng.choice([None, None, *UNITS, *MONEY])
    value, text, plain = _digits(rng, comma)
    factor = False
    if plain and rng.random() < 0.35:
        power, word = rng.choice([(p, w) for p, words in WORDS.items() for w in words])
        value, text, factor = value * 10**power, text + ("" if len(word) < 3 else " ") + word, True
    elif plain and rng.random() < 0.2:
        power = rng.randint(-6, 12)
        form = rng.choice(["{} × 10^{}", "{}*10**{}", "{} x 10^{{{}}}", "{}e{}", "{} \\times 10^{{{}}}"])
        value, text, factor = value * Fraction(10) ** power, form.format(text, power), True
    sign = rng.choice(SIGNS) if rng.random() < 0.45 else "+" if rng.random() < 0.05 else ""
    unit = None if unit in MONEY and "\\" in text else unit  # a dollar sign before LaTeX is a delimiter
    front = rng.choice(MONEY[unit]) if unit in MONEY else ""
    if sign == "(" and (factor or unit in UNITS):
        sign = "-"
    if unit in UNITS:
        text += " " + rng.choice(UNITS[unit])
    if sign not in ("", "+"):
        value = -value
    text = f"({front}{text})" if sign == "(" else front + sign + text if front and sign == "-" else sign + front + text
    around = rng.choice(AROUND) if sign != "(" and "$" not in text else "{}"
    return Written(around.format(text), value, unit, comma)


def _digits(rng: random.Random, comma: bool) -> tuple[Fraction, str, bool]:
    """(value, text, whether a factor may follow) without a sign."""
    kind = rng.random()
    if kind < 0.1:
        a, b = rng.randint(1, 99), rng.randint(2, 99)
        return Fraction(a, b), rng.choice([f"{a}/{b}", f"\\frac{{{a}}}{{{b}}}"]), False
    if kind < 0.2:
        whole, vulgar = rng.randint(1, 99), rng.choice([("½", 1, 2), ("¼", 1, 4), ("¾", 3, 4), ("2/3", 2, 3)])
        between = " " if "/" in vulgar[0] else rng.choice(["", " "])
        return whole + Fraction(vulgar[1], vulgar[2]), f"{whole}{between}{vulgar[0]}", False
    whole, places = rng.randint(0, 10 ** rng.randint(1, 9)), rng.choice([0, 0, 1, 2, 4])
    after = f"{rng.randint(0, 10**places - 1):0{places}}" if places else ""
    value = Fraction(f"{whole}.{after}") if after else Fraction(whole)
    return value, _grouped(rng, whole, comma) + ((("," if comma else ".") + after) if after else ""), True


def _grouped(rng: random.Random, whole: int, comma: bool) -> str:
    western = f"{whole:,}"
    styles = [str(whole), western.replace(",", " "), western.replace(",", "'"), western.replace(",", "\u00a0")]
    if comma:
        return rng.choice([*styles, western.replace(",", ".")])
    digits = str(whole)
    head, tail = digits[:-3], digits[-3:]
    pairs = [head[max(0, i - 2) : i] for i in range(len(head), 0, -2)][::-1]
    return rng.choice(
        [*styles, western, western.replace(",", "{,}"), ",".join([*pairs, tail]), western.replace(",", "_")]
    )


def exact(value: Fraction) -> str:
    """A value as a decimal where it has one, else as a fraction."""
    scaled = value * 10**12
    if scaled.denominator != 1:
        return f"{value.numerator}/{value.denominator}"
    sign, digits = "-" if scaled < 0 else "", f"{abs(scaled.numerator):013}"
    return f"{sign}{digits[:-12]}.{digits[-12:]}".rstrip("0").rstrip(".")


def golds(rng: random.Random, one: Written) -> Iterator[tuple[str, bool]]:
    """Right and wrong gold answers: the value, and what a careless reading would take it for."""
    value = one.value
    careless = [-value, value * 10, value / 10, value * 1000, value / 1000, value + 1, abs(value), value * 10**6,
                value / 10**6, value / 10**5, value / 10**7, value / 10**9, value * 100, value / 100]  # fmt: skip
    digits = "".join(c for c in one.text if c in "0123456789")
    if digits:
        careless += [Fraction(int(digits[:30])), Fraction(int(digits[0]))]
    yield exact(value), True
    wrong = rng.choice(careless)
    yield exact(wrong), wrong == value
    if one.unit is not None:
        other = rng.choice([name for name in UNITS if name != "clips"])
        same = other == one.unit
        yield f"{exact(value)} {UNITS[other][0]}", same
        if one.unit in UNITS:
            yield f"{exact(value)} {UNITS[one.unit][-1]}", True
