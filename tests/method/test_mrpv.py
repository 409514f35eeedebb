"""MRPV scores: worked numbers, neutrality, leave-one-out, and first errors of corrupted chains (acceptance point 3)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.mrpv import evidence, fact_support, first_error, score_routes, step_scores
from realm_cli.records import Problem, Route, ScoredRoute

PROBLEM = Problem(id="p", question="Parcel: lamp, 7 kg. Fee?", answer="66", answer_type="number")
RIGHT = ["base 30", "zone + 6 = 36", "express + 30 = 66"]
SLIP = ["base 30", "zone + 6 = 35", "express + 30 = 65"]


def route(n: int, steps: Sequence[str], correct: bool, **fields: object) -> Route:
    answer = steps[-1].split()[-1] if steps else None
    row = {"id": f"p/s/{n}", "problem_id": "p", "source": "s", "text": "\n".join(steps), "steps": list(steps)}
    return Route.model_validate({**row, "final_answer": answer, "n_tokens": 20, "correct": correct, **fields})


def score(positives: Sequence[Sequence[str]], negatives: Sequence[Sequence[str]]) -> list[ScoredRoute]:
    rows = [route(n, steps, True) for n, steps in enumerate(positives)]
    rows += [route(n, steps, False) for n, steps in enumerate(negatives, len(rows))]
    return score_routes(rows, PROBLEM)


# ---- support


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((3, 3, 0, 4), (0.859375, 0.0875, 0.771875)),  # pi = 3.5/8
        ((0, 3, 4, 4), (0.140625, 0.9125, -0.771875)),  # pi = 4.5/8
        ((1, 2, 1, 2), (0.5, 0.5, 0.0)),  # pi = 2.5/5
        ((0, 0, 0, 0), (0.5, 0.5, 0.0)),
    ],
)
def test_support_by_hand(counts, expected) -> None:
    assert fact_support(*counts) == pytest.approx(expected)


@given(st.integers(1, 40), st.integers(1, 40))
def test_unseen_and_shared_facts_are_neutral(n_pos, n_neg) -> None:
    bound = 0.0106 if min(n_pos, n_neg) >= 2 else 0.025  # the worst are 5 against 2 and 3 against 1
    for c_pos, c_neg in ((0, 0), (n_pos, n_neg)):
        assert abs(fact_support(c_pos, n_pos, c_neg, n_neg)[2]) <= bound + 1e-9


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_the_sign_flips_when_labels_swap(a, b, c, d) -> None:
    c_pos, n_pos, c_neg, n_neg = min(a, b), max(a, b), min(c, d), max(c, d)
    p_plus, p_minus, support = fact_support(c_pos, n_pos, c_neg, n_neg)
    assert fact_support(c_neg, n_neg, c_pos, n_pos) == pytest.approx((p_minus, p_plus, -support))
    assert 0 < p_plus < 1 and 0 < p_minus < 1 and -1 < support < 1


# ---- routes


def test_one_problem_by_hand() -> None:
    rows = score([RIGHT] * 3, [SLIP] * 2)
    positive, negative = rows[0], rows[3]
    assert positive.facts == [["base=30"], ["op:zone + 6", "zone=36"], ["op:express + 30", "express=66"]]
    # zone=36 for a positive: 2 of 2 other positives, 0 of 2 negatives: pi = 2.5/5, p+ = 2.5/3, p- = .5/3
    shared = fact_support(2, 2, 2, 2)[2]
    assert positive.step_support == pytest.approx([shared, (shared + 2 / 3) / 2, (shared + 2 / 3) / 2])
    assert positive.step_score == positive.step_support
    assert positive.step_kind == ["agreed"] * 3
    assert (positive.decisive_step, positive.first_error, positive.lucky) == (2, None, False)
    assert positive.route_score == pytest.approx(sum(positive.step_support) / 3)  # type: ignore[arg-type]
    assert negative.step_kind == ["agreed", "suspect", "suspect"]
    assert (negative.first_error, negative.first_error_src, negative.decisive_step) == (2, "support", None)
    assert negative.route_score is not None and negative.route_score < 0 < positive.route_score  # type: ignore[operator]


def test_a_route_does_not_vouch_for_itself() -> None:
    alone = score([RIGHT, RIGHT, ["base 30", "detour 66"]], [SLIP, SLIP])[2]
    assert alone.step_support[1] == pytest.approx(fact_support(0, 2, 0, 2)[2])
    assert abs(alone.step_support[1]) <= 0.02
    assert alone.step_kind == ["agreed", "novel"]  # another way is not wrong
    both = score([RIGHT, RIGHT, ["base 30", "detour 66"], ["base 30", "detour 66"]], [SLIP, SLIP])[2]
    assert both.step_support[1] == pytest.approx(fact_support(1, 3, 0, 2)[2])


def test_swapping_all_labels_swaps_the_support() -> None:
    pool = [RIGHT, RIGHT, SLIP, SLIP, ["base 31", "zone + 6 = 37"]]
    labels = [True, True, False, False, False]
    rows = score_routes([route(n, s, z) for n, (s, z) in enumerate(zip(pool, labels, strict=True))], PROBLEM)
    swapped = score_routes([route(n, s, not z) for n, (s, z) in enumerate(zip(pool, labels, strict=True))], PROBLEM)
    for a, b in zip(rows, swapped, strict=True):
        assert a.step_support == pytest.approx([-v for v in b.step_support])  # type: ignore[operator]


def test_cut_off_and_unanswered_routes_take_no_part() -> None:
    base = [route(0, RIGHT, True), route(1, RIGHT, True), route(2, SLIP, False)]
    extra = [
        route(3, SLIP, False, truncated=True),
        route(4, SLIP, False, final_answer=None),
        route(5, [], False, final_answer="3"),
    ]
    rows = score_routes([*base, *extra], PROBLEM)
    assert rows[:3] == score_routes(base, PROBLEM)
    for row in rows[3:]:
        assert (row.facts, row.step_support, row.step_kind, row.step_score, row.route_score) == ([], [], [], [], None)
    assert score_routes([], PROBLEM) == []


def test_scored_routes_can_be_scored_again() -> None:
    rows = score([RIGHT] * 3, [SLIP] * 2)
    assert score_routes(rows, PROBLEM) == rows


def test_steps_without_facts() -> None:
    rows = score([RIGHT] * 3, [["now we look at it", "base 30", "and we think again", "zone + 6 = 35"]] * 2)
    assert rows[3].step_kind == ["none", "agreed", "none", "suspect"]
    assert rows[3].step_support[0] is None and rows[3].step_score[2] is None
    assert rows[3].first_error == 4


def test_prose_sums_need_not_agree_where_the_result_does() -> None:
    ways = [["They have 2 * 12 = 24 pens"], ["They have 12 + 12 = 24 pens"], ["They have 30 - 6 = 24 pens"]]
    rows = score(ways, [["They have 2 * 12 = 26 pens"]] * 2)
    assert [row.step_kind for row in rows] == [["agreed"]] * 3 + [["suspect"]] * 2
    assert rows[3].first_error == 1


def test_lucky_positives() -> None:
    rows = score([RIGHT] * 4 + [["base 30", "zone + 6 = 35", "express + 31 = 66"]], [SLIP] * 3)
    assert [row.lucky for row in rows] == [False] * 4 + [True] + [False] * 3


# ---- first errors


@pytest.mark.parametrize(
    ("kinds", "n_pos", "cohesion", "expected"),
    [
        (["agreed", "suspect", "suspect"], 2, 0.5, 2),
        (["agreed", "novel", "suspect"], 3, 0.9, 2),
        (["agreed", "none", "novel"], 3, 0.9, 3),
        (["suspect", "novel"], 2, 0.5, 1),
        (["none", "suspect"], 2, 0.5, 2),
        (["novel", "suspect"], 2, 0.5, None),  # no agreed step before it, and not suspect
        (["agreed", "agreed"], 2, 0.5, None),  # nothing after the last agreed step
        (["agreed", "none"], 2, 0.5, None),
        (["suspect", "agreed", "novel"], 2, 0.5, 3),  # a later agreed step clears the earlier one
        (["agreed", "suspect"], 1, 1.0, None),  # one positive is no witness
        (["agreed", "suspect"], 2, 0.49, None),  # positives that disagree are none either
        ([], 5, 1.0, None),
    ],
)
def test_first_error_gate(kinds, n_pos, cohesion, expected) -> None:
    assert first_error(kinds, n_pos, cohesion) == expected


def test_positives_that_disagree_localise_nothing() -> None:
    ways = [[f"base {30 + n}", f"zone + {n} = {40 + 2 * n}", "express + 30 = 66"] for n in range(4)]
    assert [row.first_error for row in score(ways, [SLIP] * 3)[4:]] == [None] * 3
    assert [row.first_error for row in score([RIGHT], [SLIP] * 3)[1:]] == [None] * 3


def chain(rng: random.Random, length: int) -> list[tuple[str, int]]:
    return [
        (rule, rng.randint(2, 40)) for rule in rng.sample(["zone", "size", "express", "fragile", "tax", "fee"], length)
    ]


def worked(start: int, rules: Sequence[tuple[str, int]], broken: int | None = None, by: int = 0) -> list[str]:
    """`base 30`, `zone + 6 = 36` ...; step `broken` (1-based) is off by `by`, and the rest is worked out from it."""
    total = start + (by if broken == 1 else 0)
    steps = [f"base {total}"]
    for k, (rule, value) in enumerate(rules, 2):
        total += value + (by if broken == k else 0)
        steps.append(f"{rule} + {value} = {total}")
    return steps


def test_first_errors_of_corrupted_chains_are_exact() -> None:
    rng = random.Random(7)
    known = exact = negatives = after_first = 0
    for _ in range(300):
        rules, start = chain(rng, rng.randint(2, 6)), rng.randint(50, 90)
        right = worked(start, rules)
        broken = [rng.randint(1, len(right)) for _ in range(4)]
        wrong = [worked(start, rules, k, rng.choice((-9, -2, -1, 1, 2, 9))) for k in broken]
        rows = score([right] * rng.randint(2, 4), wrong)
        for row, k in zip([r for r in rows if not r.correct], broken, strict=True):
            negatives += 1
            after_first += k > 1
            known += row.first_error is not None
            exact += row.first_error == k
    assert negatives == 1200
    assert known >= after_first  # a slip in the first step is known only if other negatives share it
    assert exact / known >= 0.9
    assert exact / negatives >= 0.75


def test_first_errors_of_chains_that_drop_a_step() -> None:
    rng = random.Random(8)
    for _ in range(100):
        rules = chain(rng, 5)
        dropped = [rng.randint(2, 6) for _ in range(4)]
        wrong = [worked(60, [rule for i, rule in enumerate(rules, 2) if i != k]) for k in dropped]
        rows = [row for row in score([worked(60, rules)] * 3, wrong) if not row.correct]
        # the step that follows the gap is the first wrong one; without a step after it there is none to name
        assert [row.first_error for row in rows] == [k if k < 6 else None for k in dropped]


# ---- scores


def test_step_scores_by_hand() -> None:
    support, belief, value = [0.5, None, -0.2], [-2.0, -1.5, -4.0], [0.75, 0.5, 0.0]
    assert step_scores(support) == [0.5, None, -0.2]
    assert step_scores(support, belief, value) == [0.5, None, -0.2]
    # step 1 has support only; step 2 no support: (.5 * .5 + .5 * -.25) / 1; step 3: the belief change -2.5 is clipped
    mixed = step_scores(support, belief, value, (1.0, 0.5, 0.5))
    assert mixed == pytest.approx([0.5, 0.125, (-0.2 - 0.5 - 0.25) / 2])
    assert step_scores([None], None, None, (1.0, 1.0, 1.0)) == [None]
    assert step_scores([], None, None) == []


def test_monte_carlo_values_confirm_or_veto() -> None:
    rows = score([RIGHT] * 3, [SLIP] * 3)
    values = {3: [0.5, 0.0, 0.0], 4: [0.5, 0.25, 0.0], 5: [0.5, 0.5, 0.25]}
    given_values = [r.model_copy(update={"mc_value": values.get(n)}) for n, r in enumerate(rows)]
    again = score_routes(given_values, PROBLEM, weights=(1.0, 0.0, 1.0))
    assert [(r.first_error, r.first_error_src) for r in again[3:]] == [(2, "consensus"), (2, "consensus"), (None, None)]
    assert again[3].mc_value == [0.5, 0.0, 0.0]
    assert again[3].step_score[1] == pytest.approx((again[3].step_support[1] - 0.5) / 2)  # type: ignore[operator]
    assert again[0].step_score == again[0].step_support


def test_evidence_leaves_the_route_itself_out() -> None:
    """Two right routes state `=10`, one wrong one `=12`: each sees the others only."""
    problem = Problem(id="p", question="How many?", answer="10", answer_type="number")
    steps = {"a": "2 * 5 = 10", "b": "2 * 5 = 10", "c": "2 * 5 = 12"}
    routes = [
        Route(id=name, problem_id="p", source="s", text="t", steps=[step], final_answer=step[-2:], correct=name != "c")
        for name, step in steps.items()
    ]
    found = evidence(score_routes(routes, problem))
    counts = {name: [(e.fact, e.c_pos, e.n_pos, e.c_neg, e.n_neg) for e in rows[0]] for name, rows in found.items()}
    assert counts["a"] == counts["b"] == [("op:2*5", 1, 1, 1, 1), ("=10", 1, 1, 0, 1)]
    assert counts["c"] == [("op:2*5", 2, 2, 0, 0), ("=12", 0, 2, 0, 0)]
    assert found["a"][0][1].support == pytest.approx(fact_support(1, 1, 0, 1)[2])
    assert str(found["c"][0][1]) == "=12 (+0/2 -0/0)"
    # pi = .5/3, p+ = (1/6)/3, p- = 1/6
    row = {"fact": "=12", "c_pos": 0, "n_pos": 2, "c_neg": 0, "n_neg": 0, "support": pytest.approx(-1 / 9)}
    assert found["c"][0][1].as_row() == row


def test_a_share_of_exactly_a_quarter_is_not_rare() -> None:
    """The wrong 35 in all 8 negatives and in none of 2 positives: pi = 7.5 / 10, p+ = .75 / 3 = .25; with 7, less."""

    def kind(n_neg: int) -> str:
        last = score([RIGHT, RIGHT], [SLIP] * n_neg)[-1]
        return str(last.step_kind[1])

    assert fact_support(0, 2, 7, 7)[0] == 0.25
    assert (kind(8), kind(7)) == ("novel", "suspect")


def test_half_of_the_other_positives_are_enough_to_agree() -> None:
    """`zone=36` in 2 of 3 positives and in 1 of 2 negatives: for its holders c+ = 1 of 2, c- = 1 of 2, p+ = 2.5/5 = .5;
    with one negative less c- = 1 of 1, pi = 2.5/4, p+ = 1.625/3 > .5, and with one positive more p+ < .5."""
    other = ["base 30", "zone + 8 = 38", "express + 30 = 66"]
    rows = score([RIGHT, RIGHT, other], [["base 30", "zone + 6 = 36"], ["base 30", "zone + 7 = 37"]])
    assert fact_support(1, 2, 1, 2)[0] == 0.5
    assert rows[0].step_kind[1] == "agreed"
    fewer = score([RIGHT, RIGHT, other, other], [["base 30", "zone + 6 = 36"], ["base 30", "zone + 7 = 37"]])
    assert fact_support(1, 3, 1, 2)[0] < 0.5
    assert fewer[0].step_kind[1] == "novel"


def test_how_far_a_fact_must_lean_to_negatives_to_be_suspect() -> None:
    """`zone=35` in 2 negatives of 5, for each of them 1 of 4 others: d = -.171; 2 of 6: d = -.135."""

    def kind(others: int) -> str:
        odd = [["base 30", f"zone + 6 = {50 + n}"] for n in range(others)]
        return str(score([RIGHT, RIGHT], [SLIP, SLIP, *odd])[2].step_kind[1])

    assert fact_support(0, 2, 1, 4)[2] == pytest.approx(-0.1714, abs=1e-4)
    assert fact_support(0, 2, 1, 5)[2] == pytest.approx(-0.1354, abs=1e-4)
    assert (kind(3), kind(4)) == ("suspect", "novel")


def test_one_other_positive_cannot_make_a_positive_suspect() -> None:
    """`zone=35` in a positive and in 2 of 5 negatives: d = -.214, p+ = .179, but one positive only stands beside it."""
    odd = [["base 30", f"zone + 6 = {50 + n}"] for n in range(3)]
    one, two = (score([RIGHT] * n + [SLIP], [SLIP, SLIP, *odd])[n] for n in (1, 2))
    assert fact_support(0, 1, 2, 5) == pytest.approx((0.1786, 0.3929, -0.2143), abs=1e-4)
    assert (one.step_kind[1], one.lucky) == ("novel", False)
    assert (two.step_kind[1], two.lucky) == ("suspect", True)


def test_a_monte_carlo_value_two_steps_away_is_a_veto() -> None:
    steps = ["base 30", "zone + 6 = 35", "express + 30 = 65", "tax + 1 = 66", "fee + 2 = 68"]
    right = ["base 30", "zone + 6 = 36", "express + 30 = 66", "tax + 1 = 67", "fee + 2 = 69"]
    rows = score([right] * 3, [steps] * 2)
    assert rows[3].first_error == 2
    for hopeless, kept in ((1, 2), (2, 2), (3, 2), (4, None), (5, None)):
        values = [0.5 if k < hopeless else 0.0 for k in range(1, 6)]
        again = score_routes([*rows[:3], rows[3].model_copy(update={"mc_value": values}), rows[4]], PROBLEM)
        assert again[3].first_error == kept


@given(
    st.lists(st.sampled_from(["agreed", "suspect", "novel", "none"]), max_size=8),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.49, 0.5, 1.0]),
)
def test_a_first_error_follows_all_that_is_agreed(kinds, n_pos, cohesion) -> None:
    found = first_error(kinds, n_pos, cohesion)
    agreed = [k for k, kind in enumerate(kinds, 1) if kind == "agreed"]
    candidates = [k for k, kind in enumerate(kinds, 1) if kind != "none" and k > max(agreed, default=0)]
    if n_pos < 2 or cohesion < 0.5 or not candidates:
        assert found is None
    elif agreed or kinds[candidates[0] - 1] == "suspect":
        assert found == candidates[0]
    else:
        assert found is None


def test_default_weights_are_support_alone() -> None:
    for row in score([RIGHT, RIGHT], [SLIP]):
        assert row.step_score == row.step_support


@pytest.mark.parametrize("wrong", ["36", "37", "45"])
def test_a_slip_to_a_number_of_the_choices_is_found(wrong: str) -> None:
    """Wrong options are what usual slips come to; a result that a step works out stays evidence."""
    options = ["30", "37", "66", wrong]
    problem = PROBLEM.model_copy(update={"answer": "C", "answer_type": "choice", "choices": options})
    right = ["the base is 30", "30 + 5 = 35", "35 + 31 = 66"]
    slip = ["the base is 30", f"30 + 5 = {wrong}", f"{wrong} + 31 = {int(wrong) + 31}"]
    rows = [route(n, right, True) for n in range(3)] + [route(3, slip, False)]
    assert score_routes(rows, problem)[-1].first_error == 2
