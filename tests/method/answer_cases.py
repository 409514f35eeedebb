"""What is equal under each answer type and what is not: run by test_answers.py, shown in docs/your-domain.md.

Each row: type, what is read (one line for the guide), gold answer, right answers, wrong answers, further fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One line of the guide and its test."""

    type: str
    what: str
    gold: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    fields: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case(
        "number",
        "the value counts, in any usual notation",
        "1250.5",
        ("1,250.50", "$1250.5", "1'250.5", "1.2505 × 10^3", "1250 1/2"),
        ("1250", "1,250 or 1,251", "12,505"),
    ),
    Case(
        "number", "a sign is part of it, in every form", "-5", ("-$5", "minus 5", "(5)", "−5", "△5"), ("5", "(-5)(1)")
    ),
    Case("number", "factors count", "5000000", ("5M", "5 million", "50 lakh", "5*10**6"), ("5", "5 thousand", "5 bn")),
    Case(
        "number",
        "the unit may be left out; another unit is wrong",
        "12 km",
        ("12", "12 kilometers", "12 km in all"),
        ("12 m", "12 miles", "$12"),
    ),
    Case("number", "percent is a unit: 50 % is not 0.5", "50%", ("50", "50 percent"), ("0.5", "50 km")),
    Case(
        "number",
        "several different numbers, or an unfinished sum, are wrong",
        "5",
        ("2 + 3 = 5", "5 because 2 + 3 = 5", "5 (five)"),
        ("2 + 3", "5 or 6", "3!", "5 km of 12 km", "not 5"),
    ),
    Case("number", "`tolerance` is absolute", "9.8", ("9.7", "9.9"), ("9.69",), {"tolerance": 0.1}),
    Case(
        "number", "`tolerance_rel` is a share of the answer", "200", ("190", "210"), ("189",), {"tolerance_rel": 0.05}
    ),
    Case(
        "number",
        "`lower` and `upper` are the limits, themselves included",
        "50",
        ("47.5", "52"),
        ("53",),
        {"lower": 47.5, "upper": 52.5},
    ),
    Case(
        "number",
        "`decimal_comma`: as in a column with decimal commas",
        "1234.5",
        ("1.234,5", "1234,5"),
        ("12.345",),
        {"decimal_comma": True},
    ),
    Case(
        "expr",
        "formulas that are equal, LaTeX or plain",
        "\\frac{\\pi}{2}",
        ("pi/2", "\\dfrac\\pi2", "π/2"),
        ("1.5708",),
    ),
    Case(
        "expr", "lists in any order; tuples and intervals in theirs", "1,-2", ("-2, 1", "x = 1 or x = -2"), ("1", "12")
    ),
    Case(
        "expr",
        "intervals keep their ends; a relation is one",
        "[3,4)",
        ("3 \\le x < 4", "\\left[3,4\\right)"),
        ("(3,4)", "[3,4]"),
    ),
    Case("expr", "words in formulas are compared as words", "\\text{Even}", ("even", "Even."), ("odd", "neve")),
    Case(
        "expr",
        "units must agree where both name one",
        "15\\text{ m/s}",
        ("15", "15 \\text{ m/s}"),
        ("15\\text{ km/h}",),
    ),
    Case(
        "choice",
        "the letter, the text, or both; never two",
        "B",
        ("b)", "option B", "mercury", "B) mercury", "Ｂ"),
        ("B or C", "not B", "A", "B) iron"),
        {"choices": ["iron", "mercury", "gold", "zinc"]},
    ),
    Case(
        "label", "words, without case and punctuation", "Not hearsay", ("not hearsay.", "**Not Hearsay**"), ("hearsay",)
    ),
    Case(
        "label",
        "an explanation may follow; yes is true, no is false",
        "yes",
        ("Yes.", "yes, it does", "True", "Yes, the rule applies"),
        ("no", "yes and no", "yes, but no"),
    ),
    Case(
        "date",
        "one date in any notation; `date_order` reads 9/3/2024",
        "2024-03-09",
        ("9 March 2024", "9/3/2024", "09.03.2024", "March 9th, 2024"),
        ("3/9/2024", "March 2024", "10 March 2024"),
        {"date_order": "dmy"},
    ),
    Case(
        "list",
        "all members, in any order",
        "North 16, South 16",
        ("South 16 and North 16", "south 16; north 16"),
        ("North 16", "North 16, South 16, East 1"),
    ),
    Case("text", "the same words, without case and punctuation", "New York", ("new york.",), ("York", "New York City")),
    Case(
        "text",
        "`answers` are accepted too, under every type",
        "NYC",
        ("New York City", "nyc"),
        ("Boston",),
        {"answers": ["New York City"]},
    ),
]
