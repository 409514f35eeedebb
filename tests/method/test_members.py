"""External routes beside a bare group, and the token signal: worked numbers and properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.members import contrast_routes, members, token_factors
from realm_cli.records import ShownRoute

STEPS = ["2 + 2 = 4", "4 * 3 = 12", "12 - 1 = 11"]


def route(
    label: bool, first_error: int | None = None, *, tampered: bool = False, answer: str | None = "11"
) -> ShownRoute:
    return ShownRoute(
        route_id=f"{label}{first_error}",
        steps=STEPS,
        answer=answer,
        label=label,
        first_error=first_error,
        tampered=tampered,
    )


def test_weights_by_hand() -> None:
    """Four samples, one right; one right and one wrong route: mean (1 + 1) / 6 = 1/3; lambda .5."""
    right, wrong = members([route(True), route(False, 2)], [1.0, 0.0, 0.0, 0.0], 0.5)
    assert (right.weight, wrong.weight) == (pytest.approx(0.5 * 2 / 3), pytest.approx(-0.5 / 3))
    assert right.text == "<think>\n1. 2 + 2 = 4\n2. 4 * 3 = 12\n3. 12 - 1 = 11\n</think>\n<answer>11</answer>"
    assert (right.start, right.whole) == (0, True)
    assert (wrong.text[: wrong.start], wrong.text[wrong.start :]) == ("<think>\n1. 2 + 2 = 4\n", "2. 4 * 3 = 12")
    assert not wrong.whole


def test_the_first_step_may_be_the_wrong_one() -> None:
    (wrong,) = members([route(False, 1)], [1.0], 1.0)
    assert (wrong.text[: wrong.start], wrong.text[wrong.start :]) == ("<think>\n", "1. 2 + 2 = 4")


def test_the_last_step_may_be_the_wrong_one() -> None:
    (wrong,) = members([route(False, 3)], [1.0], 1.0)
    assert wrong.text[wrong.start :] == "3. 12 - 1 = 11"
    assert members([route(False, 4)], [1.0], 1.0) == []  # a route of three steps


def test_what_is_left_out() -> None:
    assert members([route(True), route(False, 2)], [0.0], 0.0) == []  # lambda is 0
    assert members([], [0.0], 1.0) == []
    assert members([route(True)], [1.0, 1.0], 1.0) == []  # all right: weight 0
    left = [route(False), route(False, 2, tampered=True), route(True, answer=None), route(False, 9)]
    assert members(left, [1.0, 0.0], 1.0) == []


@given(
    st.lists(st.booleans(), min_size=1, max_size=6),
    st.lists(st.sampled_from([0.0, 1.0]), max_size=8),
    st.floats(0.01, 1),
)
def test_right_routes_are_pulled_wrong_ones_pushed(labels: list[bool], r_ans: list[float], lam: float) -> None:
    found = members([route(label, None if label else 2) for label in labels], r_ans, lam)
    assert all((m.weight > 0) == m.whole and abs(m.weight) <= lam for m in found)
    pool = [*r_ans, *map(float, labels)]
    mean = sum(pool) / len(pool)
    assert {round(m.weight, 9) for m in found} <= {round(lam * (1 - mean), 9), round(-lam * mean, 9)}


def test_contrast_needs_both_signs() -> None:
    right, wrong, other = route(True), route(False, 1), route(False, 2)
    assert contrast_routes([wrong, right, other, wrong]) == (right, [wrong, other])
    assert contrast_routes([right]) is None and contrast_routes([wrong]) is None
    assert contrast_routes([right, route(False, 3, tampered=True)]) is None


def test_factors_by_hand() -> None:
    """e = log .5 - log mean(.25, .75) = 0; then log .9 - log .1 = log 9: tanh = 80/82."""
    right, wrong = [math.log(0.5), math.log(0.9)], [[math.log(0.25), math.log(0.1)], [math.log(0.75), math.log(0.1)]]
    assert token_factors(2.0, right, wrong) == pytest.approx([1.0, 1 + 0.5 * 80 / 82])
    assert token_factors(-2.0, right, wrong) == pytest.approx([1.0, 1 - 0.5 * 80 / 82])
    assert token_factors(0.0, right, wrong) == [1.0, 1.0]
    assert (
        token_factors(1.0, right, wrong, beta=3.0)[1] == 1.5 and token_factors(-1.0, right, wrong, beta=3.0)[1] == 0.5
    )


@given(
    st.lists(st.tuples(st.floats(-40, 0), st.floats(-800, 0)), min_size=1, max_size=5),
    st.floats(-2, 2),
    st.floats(0, 3),
)
def test_factors_stay_within_their_bounds_and_mirror(pairs: list[tuple[float, float]], a: float, beta: float) -> None:
    right, wrong = [r for r, _ in pairs], [[w for _, w in pairs]]
    factors, mirrored = token_factors(a, right, wrong, beta), token_factors(-a, right, wrong, beta)
    assert all(0.5 <= f <= 1.5 for f in factors)
    assert [f + m for f, m in zip(factors, mirrored, strict=True)] == pytest.approx([2.0] * len(factors))
