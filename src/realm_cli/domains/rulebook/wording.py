"""How parcels and solutions are written and read.

Question: `Parcel: lamp, 7 kg, zone 2, express, fragile. Fee?`
Solution: one numbered step per line, `k. <rule> <op> <operand> = <running total>`, then `Answer: <total>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from realm_cli.domains.rulebook.tariff import MAX_KG, PRODUCTS, ZONES, Parcel, Step
from realm_cli.errors import DataError

FLAGS = ("express", "fragile", "insured", "member")
_QUESTION = re.compile(r"Parcel: (\w+), (\d+) kg, zone (\d)((?:, \w+)*)\. Fee\?")
_STEP = re.compile(r"^[^\S\n]*\d+\. ([^\n]*\S|[^\n])[^\S\n]*$", re.MULTILINE)  # one line each: linear time
_ANSWER = re.compile(r"(?:^Answer: |<answer>)\s*(-?\d+)", re.MULTILINE)


def question_text(parcel: Parcel) -> str:
    """The question about a parcel."""
    flags = "".join(f", {flag}" for flag in FLAGS if getattr(parcel, flag))
    return f"Parcel: {parcel.product}, {parcel.kg} kg, zone {parcel.zone}{flags}. Fee?"


def parse_question(question: str) -> Parcel:
    """The parcel a question is about. DataError where the tariff does not cover it."""
    match = _QUESTION.fullmatch(question.strip())
    if match is None:
        raise DataError(
            f"{question!r}: not a question of the rulebook domain; write it like {question_text(_EXAMPLE)!r}"
        )
    product, kg, zone = match[1], int(match[2]), int(match[3])
    flags = [flag for flag in match[4].split(", ") if flag]
    if product not in PRODUCTS or not 1 <= kg <= MAX_KG or not 1 <= zone <= ZONES or not set(flags) <= set(FLAGS):
        raise DataError(
            f"{question!r}: the tariff has no such parcel; products: {', '.join(PRODUCTS)}; 1-{MAX_KG} kg; "
            f"zones 1-{ZONES}; extras: {', '.join(FLAGS)}"
        )
    return Parcel(product, kg, zone, **dict.fromkeys(flags, True))


def solution_text(steps: Sequence[Step]) -> str:
    """Numbered steps and the answer line."""
    lines = [f"{k}. {step}" for k, step in enumerate(steps, 1)]
    return "\n".join([*lines, f"Answer: {steps[-1].total}"])


def read_steps(text: str) -> list[str]:
    """The text of every numbered step, without its number."""
    return _STEP.findall(text)


def read_answer(text: str) -> str | None:
    """The last stated answer, after `Answer:` or in `<answer>`; None without one."""
    found = _ANSWER.findall(text)
    return found[-1] if found else None


_EXAMPLE = Parcel("lamp", 7, 2, express=True)
