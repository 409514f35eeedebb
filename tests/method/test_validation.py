"""Planted errors: what is changed, what is found (method.md section 5.7, acceptance test 13.3)."""

from __future__ import annotations

import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.validation import SHIFTS, corrupt, planted, results
from realm_cli.records import Problem, Route

PROBLEM = Problem(id="p", question="Parcel of 3 kg to zone 2. Fee?", answer="63", answer_type="number")
STEPS = ["base 36", "zone + 12 = 48", "fragile + 7 = 55", "insured + 8 = 63"]


def route(n: int, steps: list[str] = STEPS, **fields: object) -> Route:
    row = {"id": f"r{n}", "problem_id": "p", "source": "s", "text": "t", "steps": steps}
    answer = steps[-1].split()[-1]
    return Route.model_validate({**row, "final_answer": answer, "correct": answer == "63", **fields})


def test_a_slip_is_carried_on() -> None:
    changed = corrupt(route(0), 2, 5, PROBLEM.question)
    assert changed is not None
    assert changed.steps == ["base 36", "zone + 12 = 53", "fragile + 7 = 60", "insured + 8 = 68"]
    assert (changed.final_answer, changed.correct, changed.id) == ("68", False, "r0#planted")
    prose = route(0, ["She has 36 - 6 = 30 left.", "Half of 30 is 30 / 2 = 15.", "15 + 48 = 63"])
    slipped = corrupt(prose, 1, -1, PROBLEM.question)
    assert slipped is not None
    assert slipped.steps == ["She has 36 - 6 = 29 left.", "Half of 29 is 29 / 2 = 14.", "14 + 48 = 62"]


def test_how_far_a_result_is_moved() -> None:
    assert SHIFTS == (-10, -3, -2, -1, 1, 2, 3, 10)  # near slips and one decimal place


def test_where_nothing_can_be_planted() -> None:
    words = route(0, ["same state: yes", "the rule applies: yes"], final_answer="63", correct=True)
    assert corrupt(words, 1, 1, PROBLEM.question) is None
    assert corrupt(route(0), 0, 1, PROBLEM.question) is None
    assert corrupt(route(0), 9, 1, PROBLEM.question) is None
    assert planted([route(0), route(1)], PROBLEM, random.Random(0)) is None  # two others must agree
    assert planted([words] * 4, PROBLEM, random.Random(0)) is None


def test_results_of_each_step() -> None:
    assert results(route(0), PROBLEM.question) == [{Fraction(36)}, {Fraction(48)}, {Fraction(55)}, {Fraction(63)}]


@given(st.integers(0, 10_000))
def test_the_planted_step_is_found_where_positives_agree(seed: int) -> None:
    wrong = [route(10 + i, [*STEPS[:3], f"insured + 9 = {64 + i}"]) for i in range(2)]
    result = planted([*(route(i) for i in range(4)), *wrong], PROBLEM, random.Random(seed))
    assert result is not None
    step, found = result
    assert found == step or (found is None and step == 1)  # nothing agreed before step 1, and it may be no suspect


@given(st.integers(1, 4), st.sampled_from([-10, -1, 1, 10]))
def test_steps_before_stay_and_all_later_results_move(step: int, shift: int) -> None:
    changed = corrupt(route(0), step, shift, PROBLEM.question)
    assert changed is not None
    assert changed.steps[: step - 1] == STEPS[: step - 1]
    before, after = results(route(0), PROBLEM.question), results(changed, PROBLEM.question)
    assert after[step - 1 :] == [{value + shift for value in values} for values in before[step - 1 :]]
