"""The oracle, the programmatic rule check, and the noisy solvers that stand for external models.

Each solver reads the question and knows the tariff, but errs in its own way (one error per text in nearly all cases):
    forgetful    leaves out a rule, or the product's own exception
    generalist   takes one rule from the general tariff instead of the family's
    hasty        slips in one sum and carries on with the wrong total
    misreader    reads the neighbouring weight band or zone
On the `unseen` family every solver always errs, until the answer is wrong. The errors hit different steps, so that the
per-step majority over several solvers is usually right: a reader who contrasts routes can find what none of them has.

Usage: `solve("hasty", question, random.Random(0))`
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from realm_cli.domains.rulebook.tariff import (
    BAND_KG,
    FAMILIES,
    GENERAL,
    MAX_KG,
    ZONES,
    Parcel,
    Step,
    charge,
    family_of,
    rates_for,
    with_rule_from,
)
from realm_cli.domains.rulebook.wording import parse_question, read_answer, read_steps, solution_text
from realm_cli.errors import ConfigError

HARD_FAMILY = "garden"  # no external route is ever right here
ERROR_RATE: Mapping[str, float] = {"forgetful": 0.55, "generalist": 0.7, "hasty": 0.45, "misreader": 0.5}
TRIES = 10
SLIPS = (-10, -2, -1, 1, 2, 10)


def oracle_solution(question: str) -> str:
    """The right solution. DataError if the question is not of this domain."""
    return solution_text(_right_steps(parse_question(question)))


def rule_check(question: str, solution_text: str) -> str:
    """ "pass" if the steps are exactly those the tariff demands and no other answer is stated, else "fail"."""
    right = _right_steps(parse_question(question))
    answer = read_answer(solution_text)
    same = read_steps(solution_text) == [str(step) for step in right]
    return "pass" if same and answer in (None, str(right[-1].total)) else "fail"


def solve(name: str, question: str, rng: random.Random, *, hard: bool = True) -> str:
    """One sampled solution of a noisy solver. ConfigError for an unknown name.

    hard: always wrong on the `unseen` family; False treats that family like the others.
    """
    if name not in SOLVERS:
        raise ConfigError(f"solver {name!r}: unknown; known: {', '.join(SOLVERS)}")
    parcel = parse_question(question)
    right = _right_steps(parcel)
    if not hard or family_of(parcel.product) != HARD_FAMILY:
        return solution_text(SOLVERS[name](parcel, right, rng) if rng.random() < ERROR_RATE[name] else right)
    for _ in range(TRIES):
        steps = SOLVERS[name](parcel, right, rng)
        if steps[-1].total != right[-1].total:
            return solution_text(steps)
    # A cap or floor can swallow every error of a kind: then the slip is in the last step.
    slips = [charge(parcel, rates_for(parcel.product), slips={right[-1].rule: slip}) for slip in SLIPS]
    return solution_text(rng.choice([steps for steps in slips if steps[-1].total != right[-1].total]))


def _right_steps(parcel: Parcel) -> list[Step]:
    return charge(parcel, rates_for(parcel.product))


def _forgetful(parcel: Parcel, right: list[Step], rng: random.Random) -> list[Step]:
    rates = rates_for(parcel.product)
    plain = charge(parcel, FAMILIES[family_of(parcel.product)])
    if plain != right and rng.random() < 0.4:
        return plain
    return charge(parcel, rates, skip=frozenset([rng.choice(right[len(right) // 2 :]).rule]))


def _generalist(parcel: Parcel, right: list[Step], rng: random.Random) -> list[Step]:
    rule = rng.choice(right[: len(right) // 2 + 1]).rule
    return charge(parcel, with_rule_from(rates_for(parcel.product), rule, GENERAL))


def _hasty(parcel: Parcel, right: list[Step], rng: random.Random) -> list[Step]:
    sums = [step.rule for step in right if step.op in ("+", "-", "x")] or ["base"]
    return charge(parcel, rates_for(parcel.product), slips={rng.choice(sums): rng.choice(SLIPS)})


def _misreader(parcel: Parcel, right: list[Step], rng: random.Random) -> list[Step]:
    kg = rng.choice([kg for kg in (parcel.kg - BAND_KG, parcel.kg + BAND_KG) if 1 <= kg <= MAX_KG])
    zone = rng.choice([zone for zone in (parcel.zone - 1, parcel.zone + 1) if 1 <= zone <= ZONES])
    read = replace(parcel, zone=zone) if rng.random() < 0.3 else replace(parcel, kg=kg)
    return charge(read, rates_for(parcel.product))


Solver = Callable[[Parcel, list[Step], random.Random], list[Step]]
SOLVERS: Mapping[str, Solver] = {
    "forgetful": _forgetful,
    "generalist": _generalist,
    "hasty": _hasty,
    "misreader": _misreader,
}
