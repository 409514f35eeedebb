"""One number, read whole or not at all; its unit; numbers in words."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from method.written_numbers import exact, golds, written
from realm_cli.method.answers import is_correct
from realm_cli.method.notation import normal, one_dash
from realm_cli.method.number_words import and_part, number_words
from realm_cli.method.numbers import (
    MAX_CHARS,
    Number,
    as_fraction,
    is_left_side,
    read_number,
    same_value,
    to_number,
)
from realm_cli.method.units import UNITS, changes, known_unit, read_unit, same_unit
from realm_cli.records import Problem

CASES = 20_000


def number(gold: str, **fields: object) -> Problem:
    return Problem.model_validate({"id": "p", "question": "q", "answer": gold, "answer_type": "number", **fields})


def test_what_a_generator_writes_is_judged_as_its_value() -> None:
    rng, wrong, judged = random.Random(22), [], 0
    while judged < CASES:
        one = written(rng)
        for gold, right in golds(rng, one):
            judged += 1
            if is_correct(one.text, number(gold, decimal_comma=one.decimal_comma)) != right:
                wrong.append((one.text, gold, right))
    assert wrong == []


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("sign", "-$5", "-5"),
        ("sign", "- $5", "-5"),
        ("sign", "$-5", "-5"),
        ("sign", "minus 5", "-5"),
        ("sign", "negative five", "-5"),
        ("sign", "(5)", "-5"),
        ("sign", "-(5)", "-5"),
        ("sign", "△5", "-5"),
        ("sign", "\N{MINUS SIGN}5", "-5"),
        ("sign", "\N{EM DASH} 5", "-5"),
        ("sign", "－５", "-5"),
        ("sign", "+5", "5"),
        ("mixed", "3½", "7/2"),
        ("mixed", "3 1/2", "7/2"),
        ("mixed", "-3 1/2", "-7/2"),
        ("mixed", "31/2", "31/2"),
        ("mixed", "3\\frac{1}{2}", "7/2"),
        ("mixed", "\\frac72", "7/2"),
        ("mixed", "1 ¾ cups", "7/4"),
        ("power", "7 × 10^4", "70000"),
        ("power", "7*10**4", "70000"),
        ("power", "1.6e-3", "1/625"),
        ("power", "2·10⁻³", "1/500"),
        ("power", "10^6", "1000000"),
        ("power", "6.02E+2", "602"),
        ("factor", "70k", "70000"),
        ("factor", "$5M", "5000000"),
        ("factor", "$5m", "5000000"),
        ("factor", "5 bn", "5000000000"),
        ("factor", "5 lakh", "500000"),
        ("factor", "2.5 crore", "25000000"),
        ("factor", "1.5 million dollars", "1500000"),
        ("factor", "5 hundred thousand", "500000"),
        ("factor", "2 dozen", "24"),
        ("factor", "5 万", "50000"),
        ("factor", "5 m", "5"),
        ("factor", "5m", "5"),
        ("grouping", "12,34,567", "1234567"),
        ("grouping", "1'234'567", "1234567"),
        ("grouping", "70 000", "70000"),
        ("grouping", "1\u202f000", "1000"),
        ("grouping", "1{,}000", "1000"),
        ("grouping", "11,\\! 100", "11100"),
        ("comma", "0,125", "1/8"),
        ("comma", "12,5", "25/2"),
        ("comma", "1,250", "1250"),
        ("unit", "60 mL/min/1.73 m²", "60"),
        ("unit", "12 per dozen", "12"),
        ("unit", "30^\\circ", "30"),
        ("unit", "5 cm^3", "5"),
        ("unit", "12 square units", "12"),
        ("unit", "5\\text{ apples}", "5"),
        ("prose", "72 because 24+48=72", "72"),
        ("prose", "24, since 48/2=24", "24"),
        ("prose", "5 (five)", "5"),
        ("prose", "the total is 24", "24"),
        ("prose", "Total: 24", "24"),
        ("prose", "2+3 = 5", "5"),
        ("prose", "x = 5", "5"),
        ("prose", "about 5 km in all", "5"),
        ("prose", "72 or 72", "72"),
        ("word", "five", "5"),
        ("word", "twenty-five percent", "25"),
        ("word", "one hundred and five", "105"),
        ("word", "a hundred", "100"),
    ],
)
def test_numbers_by_kind(kind: str, text: str, value: str) -> None:
    assert to_number(text) == Fraction(value), kind


@pytest.mark.parametrize(
    "text",
    [
        "3!",
        "|-3|",
        "3:3",
        "5²",
        "√5",
        "2+2",
        "36+36",
        "2^10",
        "5-",
        "--5",
        "±5",
        "4-4",
        "4 x 4",
        "5^2",
        "<5",
        "≥5",
        "5%%",
        "1 2",
        "1,2,3",
        "3 or 4",
        "5 to 6",
        "5-6",
        "5 km of 12 km",
        "5 of 6",
        "3/4/2024",
        "10:30",
        "1.000.00",
        "4.0.0",
        "72x",
        "5 pi",
        "5π",
        "5i",
        "x3",
        "Article 3",
        "March 2024",
        "No. 3",
        "3rd",
        "5 and half",
        "half of 5",
        "5 squared",
        "not 5",
        "the total is not 24",
        "more than 5",
        "at least 5",
        "5 or more",
        "5 less than 10",
        "5 basis points",
        "5‰",
        "x = 5, y = 7",
        "5 (or 6)",
        "(5 or 6)",
        "5 five",
        "five six",
        "five and",
        "1/0",
        "nan",
        "inf",
        "",
        ".",
        "$",
        "-",
        "x" * 2000,
        "5 or",
        "5 wait",
    ],
)
def test_what_is_left_over_makes_it_unreadable(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("1.250", Fraction(5, 4), 1250),
        ("1.234,50", Fraction(2469, 2), Fraction(2469, 2)),
        ("12,5", Fraction(25, 2), Fraction(25, 2)),
        ("0.125", Fraction(1, 8), Fraction(1, 8)),
        ("1,250", 1250, Fraction(5, 4)),
        ("1.5", Fraction(3, 2), Fraction(3, 2)),
        ("0,125 kg", Fraction(1, 8), Fraction(1, 8)),
        ("1 234,5", Fraction(2469, 2), Fraction(2469, 2)),
    ],
)
def test_the_column_decides_what_a_comma_is(text: str, point: object, comma: object) -> None:
    assert (to_number(text), to_number(text, True)) == (point, comma)


def test_in_formulas_brackets_are_no_sign_and_commas_divide() -> None:
    assert [read_number(t, algebra=True) for t in ("(5)", "1,2", "5x", "5 km", "5m", "x + 2 = 5")] == [
        None, None, None, Number(Fraction(5), ("km",)), None, None,
    ]  # fmt: skip


def test_units_have_one_form() -> None:
    assert read_unit(" kilometers per hour") == read_unit("km/h") == ("km", "/h")
    assert read_unit("square meters") == read_unit("m²".replace("²", "^{2}")) == read_unit(" m^2") == ("m^2",)
    assert read_unit("") == read_unit(" in total") == read_unit(" of them") == () and read_unit(" in") == ("inch",)
    assert read_unit(" paper clips") == ("paper", "clip") and read_unit(" x") is None and read_unit(" or so") is None
    assert [known_unit(word) for word in ("Rs.", "$", "grams", "clips", "pounds")] == ["inr", "usd", "g", None, "pound"]
    assert (
        read_unit("x" * 400) is None
        and read_unit("km", algebra=True) == ("km",)
        and read_unit("m", algebra=True) is None
    )


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("5 kg", ["5", "5 kilograms", "5kg", "5.0 kg in all"], ["5 g", "5 boxes", "5 km", "$5"]),
        ("$5", ["5 dollars", "USD 5", "5 USD", "5"], ["€5", "5 euros", "5 kg"]),
        ("24 clips", ["24", "24 clips", "24 paper clips"], ["24 km", "24 boxes", "$24"]),
        ("5 m^2", ["5 m²", "5 square metres"], ["5 m", "5 m^3", "5 cm^2"]),
        ("5 km/h", ["5 km per hour"], ["5 km", "5 h/km"]),
        ("¥5", ["5 yen", "5 yuan", "¥5"], ["$5"]),
        ("5 pounds", ["£5", "5 lb"], ["5 kg", "€5"]),
        ("15%", ["15", "15 percent"], ["15 km", "$15", "0.15"]),
        ("5", ["5 kg", "$5", "5 %"], ["5 million"]),
    ],
)
def test_one_unit_for_another_is_wrong_where_the_gold_has_one(gold, right, wrong) -> None:
    assert [a for a in right if not is_correct(a, number(gold))] == []
    assert [a for a in wrong if is_correct(a, number(gold))] == []


def test_limits_of_a_problem() -> None:
    between = number("50", lower=47.5, upper=52.5)
    assert [is_correct(a, between) for a in ("47.5", "52.5", "47.4", "52.6", "50")] == [True, True, False, False, True]
    assert is_correct("1e6", number("50", lower=47.5)) and not is_correct("47", number("50", lower=47.5))
    share = number("200", tolerance_rel=0.05)
    assert [is_correct(a, share) for a in ("190", "210", "189", "211")] == [True, True, False, False]
    both = number("10", tolerance=1, tolerance_rel=0.05)
    assert is_correct("9", both) and not is_correct("8.9", both)
    noisy = number("90.00000000000001")
    assert is_correct("90", noisy) and not is_correct("90.000001", noisy) and not is_correct("90.1", noisy)
    assert is_correct("30.000000000000004", number("30")) and not is_correct("30.0001", number("30"))


def test_several_accepted_answers() -> None:
    row = number("3", answers=["4", "five"])
    assert [is_correct(a, row) for a in ("3", "4", "5", "6", "3 or 4")] == [True, True, True, False, False]


def test_spellings_and_words_by_hand() -> None:
    assert normal("3½ × 10⁻²") == "3 1/2 × 10^{-2}" and one_dash("\N{EN DASH}5\u00a0") == "-5 "
    assert number_words("twenty-five apples") == (25, " apples") and number_words("apples") is None
    assert number_words("two million three hundred thousand and one")[0] == 2_300_001  # type: ignore[index]
    assert same_value(Fraction(1), Fraction(1)) and not same_value(Fraction(1), Fraction(2), "1", "2")
    assert as_fraction("1/2") == Fraction(1, 2) and same_unit(("lb",), ("pound",)) and not same_unit(("lb",), ("kg",))
    assert exact(Fraction(-1, 8)) == "-0.125" and exact(Fraction(1, 3)) == "1/3"


@given(st.integers(-(10**12), 10**12), st.integers(0, 4))
def test_what_is_written_plainly_is_read_exactly(value: int, places: int) -> None:
    text = exact(Fraction(value, 10**places))
    assert to_number(text) == as_fraction(text) == Fraction(value, 10**places)
    assert read_number(one_dash(normal(text.replace("-", "\N{MINUS SIGN}")))) == Number(Fraction(value, 10**places))
    assert same_value(Fraction(value), Fraction(value), text)


@given(st.integers(0, 999_999))
def test_words_for_numbers_read_back(value: int) -> None:
    assert number_words(spelled(value)) == (value, "")
    assert to_number(f"minus {spelled(value)}") == -value


def spelled(value: int) -> str:
    from realm_cli.method.number_words import ONES, TENS

    names = {n: word for word, n in (ONES | TENS).items()}
    if value >= 1000:
        return spelled(value // 1000) + " thousand" + (f" {spelled(value % 1000)}" if value % 1000 else "")
    if value >= 100:
        return names[value // 100] + " hundred" + (f" and {spelled(value % 100)}" if value % 100 else "")
    return names[value] if value in names else f"{names[value // 10 * 10]}-{names[value % 10]}"


@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)))
def test_units_are_the_same_as_themselves_and_both_ways(a: str, b: str) -> None:
    one, other = (known_unit(a),), (known_unit(b),)
    assert same_unit(one, one) and same_unit(one, ()) and same_unit(one, other) == same_unit(other, one)  # type: ignore[arg-type]


@given(st.text(max_size=80) | st.text("0123456789.,-+/()$%xe^ ½km", max_size=40), st.booleans(), st.booleans())
def test_no_text_crashes_the_reader_and_readings_agree(text: str, comma: bool, algebra: bool) -> None:
    found = read_number(text, decimal_comma=comma, algebra=algebra)
    assert found is None or any(c.isalnum() for c in text)
    assert read_unit(text[:MAX_CHARS]) is None or isinstance(read_unit(text), tuple)
    assert to_number(text, comma) == (n.value if (n := read_number(text, decimal_comma=comma)) else None)


def test_parts_left_sides_and_words_that_change_a_number_by_hand() -> None:
    assert and_part(" and a half cups") == (Fraction(1, 2), " cups") and and_part(" and cups") is None
    assert number_words("three quarters") == (Fraction(3, 4), "") and to_number("half a million") == 500_000
    sides = ["x", "f(3)", "the total cost", "m + n", "48/2", "2x", "x^2", "-x", "sqrt(x)", "x\ny", "1/x"]
    assert [side for side in sides if is_left_side(side)] == ["x", "f(3)", "the total cost", "m + n", "48/2"]
    assert [w for w in ("clips", "sevenths", "isn't", "half-dozen", "sixteenth", "months") if changes(w)] == [
        "sevenths", "isn't", "half-dozen", "sixteenth",
    ]  # fmt: skip


@given(st.text(max_size=40))
def test_parts_and_left_sides_of_any_text(text: str) -> None:
    part = and_part(text)
    assert part is None or text.endswith(part[1])
    assert isinstance(is_left_side(text), bool) and changes(text) == changes(text.upper())
