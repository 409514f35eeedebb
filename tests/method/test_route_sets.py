"""Route sets: realised distributions, same-wrong pairs, tampering, stratification, determinism (acceptance point 4)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.leak import leak_auc, probe_rows
from realm_cli.method.mrpv import score_routes
from realm_cli.method.rewards import verdict_reward
from realm_cli.method.route_sets import POSITIVES, SetOptions, build_sets, realised
from realm_cli.records import Problem, Route, RouteSet, ScoredRoute, ShownRoute

RULES = ["zone", "size", "express", "fragile", "insured"]
BALANCED = SetOptions(natural_frac=0.0, hide_answers=0.0, tamper_final=0.0)


def problem(n: int = 0, **fields: object) -> Problem:
    row = {"id": f"p{n}", "question": f"Parcel {n}. Fee?", "answer": "75", "answer_type": "number"}
    return Problem.model_validate(row | fields)


def worked(broken: int | None = None, by: int = 0) -> list[str]:
    """Six steps from 50 to 75; step `broken` is off by `by`, and the rest is worked out from it."""
    total = 50 + (by if broken == 1 else 0)
    steps = [f"base {total}"]
    for k, rule in enumerate(RULES, 2):
        total += 5 + (by if broken == k else 0)
        steps.append(f"{rule} + 5 = {total}")
    return steps


def route(n: int, steps: Sequence[str], source: str = "s", of: int = 0, **fields: object) -> Route:
    answer = steps[-1].split()[-1]
    row = {"id": f"p{of}/{source}/{n}", "problem_id": f"p{of}", "source": source, "text": "text", "n_tokens": 40}
    given_fields = {"steps": list(steps), "final_answer": answer, "correct": answer == "75", **fields}
    return Route.model_validate({**row, **given_fields})


@cache
def pool(n: int = 0, positives: int = 6) -> Sequence[ScoredRoute]:
    """Positives of two sources; two negatives for each of the six steps, with the answers 77 and 76 or 73."""
    if n >= 24:  # 24 different ones are scored; the others have their own names
        own = {"problem_id": f"p{n}"}
        return [r.model_copy(update=own | {"id": f"p{n}/{r.id.partition('/')[2]}"}) for r in pool(n % 24, positives)]
    rng = random.Random(n)
    rows = [route(i, worked(), "ab"[i % 2], n) for i in range(positives)]
    for k in range(1, 7):
        rows += [route(20 + k, worked(k, 2), "c", n), route(40 + k, worked(k, rng.choice((-2, 1))), "d", n)]
    return score_routes(rows, problem(n))


def many(count: int, options: SetOptions, positives: int = 6) -> list[RouteSet]:
    counts: Counter[int] = Counter()  # shared, as the verify stage does
    draws = (build_sets(problem(n), pool(n, positives), options, random.Random(n), counts) for n in range(count))
    return [found for drawn in draws for found in drawn]


def labels(route_set: RouteSet) -> list[bool]:
    return [shown.label for shown in route_set.shown]


# ---- distributions


@pytest.mark.parametrize(
    ("k", "table"), [(2, (0.15, 0.70, 0.15)), (3, (0.10, 0.40, 0.40, 0.10)), (4, (0.10, 0.25, 0.30, 0.25, 0.10))]
)
def test_the_number_of_positives_follows_the_symmetric_table(k, table) -> None:
    sets = many(600, replace(BALANCED, k=k))
    assert len(sets) == 1200 and {len(s.shown) for s in sets} == {k}
    assert {s.kind for s in sets} == {"balanced"}
    shares = Counter(sum(labels(s)) for s in sets)
    assert POSITIVES[k] == table == table[::-1] and sum(table) == pytest.approx(1)
    for n, expected in enumerate(table):
        assert shares[n] / 1200 == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("positives", [2, 6])
def test_constant_verdicts_earn_nothing(positives) -> None:
    """Also where the pool cannot give all n+, and with tampered answer lines."""
    sets = many(600, SetOptions(tamper_final=0.5), positives)
    paid = [s for s in sets if s.kind == "balanced" or len(set(labels(s))) == 2]
    for constant in (True, False):
        earned = [verdict_reward([constant] * 4, labels(s)) or 0.0 for s in paid]
        assert abs(sum(earned) / len(earned)) < 0.04


def test_natural_draws_keep_the_share_of_the_pool() -> None:
    sets = many(500, SetOptions(natural_frac=1.0, tamper_final=0.0))
    assert {s.kind for s in sets} == {"natural"}
    assert sum(sum(labels(s)) for s in sets) / 4000 == pytest.approx(6 / 18, abs=0.02)


def test_realised_by_hand() -> None:
    def shown(answer: str, label: bool, first: int | None = None, tampered: bool = False) -> ShownRoute:
        fields = {"label": label, "first_error": first, "tampered": tampered}
        return ShownRoute.model_validate({"route_id": "r", "steps": ["base 1"], "answer": answer, **fields})

    first = [shown("7", True), shown("7.0", True), shown("8", False, 2), shown("9", False, 1, True)]
    second = [shown("8", False, 2), shown("8", False, 2), shown("7", True), shown("6", False)]
    sets = [
        RouteSet(id="a", problem_id="p", kind="balanced", shown=first),
        RouteSet(id="b", problem_id="p", kind="natural", shown=second, answers_hidden=True),
    ]
    shares = {"positives_1": 0.5, "positives_2": 0.5, "plurality_wrong": 0.5, "natural": 0.5, "one_sign": 0.0}
    assert realised(sets) == shares | {"hidden": 0.5, "tampered": 0.125, "first_error_max_share": 0.75}
    assert realised([]) == {}
    words = [shown("Yes", True), shown("No", False), shown("no", False)]  # two votes for no
    only = realised([RouteSet(id="c", problem_id="p", kind="balanced", shown=words)])
    assert (only["plurality_wrong"], only["first_error_max_share"]) == (1.0, 0.0)


def test_shares_of_hidden_and_tampered() -> None:
    sets = many(500, SetOptions())
    shares = realised(sets)
    assert (shares["hidden"], shares["natural"]) == pytest.approx((0.25, 0.25), abs=0.04)
    assert 0.01 < shares["tampered"] < 0.05
    assert not any(shown.tampered for s in sets if s.answers_hidden for shown in s.shown)
    assert not any(shown.tampered for s in many(100, BALANCED) for shown in s.shown)


def test_wrong_pluralities_come_from_same_wrong_pairs() -> None:
    def pairs(share: float) -> float:
        sets = many(200, replace(BALANCED, same_wrong=share))
        wrong = [[s.answer for s in x.shown if not s.label] for x in sets]
        hit = [len(set(answers)) < len(answers) for answers in wrong if len(answers) >= 2]
        return sum(hit) / len(hit)

    assert pairs(1.0) == 1.0
    assert pairs(0.9) > pairs(0.0) + 0.2
    low, high = (realised(many(300, SetOptions(same_wrong=x)))["plurality_wrong"] for x in (0.0, 0.9))
    assert high > low + 0.03


def test_a_pair_is_looked_for_among_all_negatives_where_those_of_like_length_have_none() -> None:
    rows = [route(i, worked(), n_tokens=40) for i in range(3)]
    rows += [route(9 + by, worked(1, by), n_tokens=40) for by in (1, 2, 3)]  # 76, 77 and 78: no pair
    rows += [route(20 + k, worked(k, 5), n_tokens=400) for k in (1, 2)]  # 80 twice
    scored, counts = score_routes(rows, problem()), Counter[int]()
    options = replace(BALANCED, k=3, same_wrong=1.0)
    drawn = [s for i in range(200) for s in build_sets(problem(), scored, options, random.Random(i), counts)]
    wrong = [[shown.answer for shown in s.shown if not shown.label] for s in drawn]
    for n in (2, 3):  # beside a positive, whose number of steps a pair may have, and without one
        assert sum(len(answers) == n for answers in wrong) > 5
    assert all(answers.count("80") == 2 for answers in wrong if len(answers) >= 2)


def test_no_constant_index_is_right_too_often() -> None:
    sets = many(500, SetOptions())
    assert realised(sets)["first_error_max_share"] <= 0.35
    assert {s.first_error for x in sets for s in x.shown} >= {2, 3, 4, 5, 6}


def test_position_counts_are_shared_and_steer_the_choice() -> None:
    positions = Counter({2: 100})
    sets = [x for n in range(100) for x in build_sets(problem(n), pool(n), BALANCED, random.Random(n), positions)]
    shown = Counter(s.first_error for x in sets for s in x.shown if s.first_error)
    assert positions == shown + Counter({2: 100})
    assert shown[2] / sum(shown.values()) < 0.1


def test_the_form_of_a_built_set_does_not_leak_its_labels() -> None:
    assert leak_auc(probe_rows(many(400, SetOptions())), seed=0) <= 0.55


def test_the_defaults_are_those_of_the_document() -> None:
    d = SetOptions()
    assert (d.k, d.natural_frac, d.same_wrong, d.hide_answers, d.tamper_final) == (4, 0.25, 0.9, 0.25, 0.1)
    assert (d.k_long_tokens, d.allow_single_sign, d.signs) == (300, True, "both")


def test_two_thirds_of_the_negatives_are_near_misses() -> None:
    """Near: wrong from the middle on (3 of 6 is), or with an agreed step before; early: the others."""
    near = [{"first_error": k, "step_kind": ["novel"] * 6} for k in (3, 5, 6)]
    near += [{"first_error": None, "step_kind": ["agreed"] + ["novel"] * 5}]
    early = [{"first_error": k, "step_kind": ["novel"] * 6} for k in (1, 2, None)]
    right, wrong = [r for r in pool() if r.correct], [r for r in pool() if not r.correct]
    rows = [
        r.model_copy(update={"id": f"n{i}", **u}) for i, (r, u) in enumerate(zip(wrong, near + early, strict=False))
    ]
    sets = build_sets(problem(), right + rows, replace(BALANCED, k=2, sets_per_problem=1500), random.Random(0))
    drawn = [s.route_id for x in sets if len(set(labels(x))) == 2 for s in x.shown if not s.label]
    assert sum(name in ("n0", "n1", "n2", "n3") for name in drawn) / len(drawn) == pytest.approx(2 / 3, abs=0.04)
    assert sum(name == "n0" for name in drawn) / len(drawn) == pytest.approx(1 / 6, abs=0.04)


# ---- small pools


def test_one_sign_and_small_pools() -> None:
    scored = pool()
    right, wrong = [r for r in scored if r.correct], [r for r in scored if not r.correct]
    options = SetOptions(natural_frac=0.0)
    rng = random.Random(0)
    assert build_sets(problem(), right, options, rng) == []  # nothing to contrast, and no natural draw
    assert [(s.kind, labels(s)) for s in build_sets(problem(), right, SetOptions(natural_frac=1.0), rng)] == [
        ("natural", [True] * 4)
    ] * 2
    negative = build_sets(problem(), wrong, options, rng)
    assert [(s.kind, labels(s)) for s in negative] == [("natural", [False] * 4)] * 2  # its verdicts are not rewarded
    assert build_sets(problem(), wrong, SetOptions(allow_single_sign=False), rng) == []
    assert build_sets(problem(), scored[:1], SetOptions(natural_frac=1.0), rng) == []
    assert build_sets(problem(), [], options, rng) == []
    pair = build_sets(problem(), [right[0], wrong[0]], options, rng)
    assert [sorted(labels(s)) for s in pair] == [[False, True]] * 2


def test_sets_of_both_signs_only() -> None:
    for positives in (1, 6):
        sets = many(100, SetOptions(allow_single_sign=False, natural_frac=0.5), positives)
        assert len(sets) == 200 and all(len(set(labels(s))) == 2 for s in sets)


def test_unusable_routes_are_never_shown() -> None:
    scored = pool()
    spoils = [{"truncated": True}, {"final_answer": None}, {"steps": []}, {"lucky": True}]
    spoilt = [scored[0].model_copy(update={"id": f"x/{n}", **spoil}) for n, spoil in enumerate(spoils)]
    sets = build_sets(problem(), [*spoilt, *scored], SetOptions(sets_per_problem=50), random.Random(0))
    assert not any(s.route_id.startswith("x/") for x in sets for s in x.shown)
    assert build_sets(problem(), spoilt, SetOptions(natural_frac=1.0), random.Random(0)) == []


def test_long_routes_are_shown_three_at_a_time() -> None:
    long = [r.model_copy(update={"n_tokens": 301}) for r in pool()]
    for options, shown in ((SetOptions(), 3), (SetOptions(k=2), 2), (SetOptions(k_long_tokens=301), 4)):
        assert {len(s.shown) for s in build_sets(problem(), long, options, random.Random(0))} == {shown}


def test_the_length_of_routes_is_a_matter_of_choice() -> None:
    """None shows K routes whatever their length; which routes are right plays no part in it."""
    long = [r.model_copy(update={"n_tokens": 301}) for r in pool()]
    off = SetOptions(k_long_tokens=None)
    assert {len(s.shown) for s in build_sets(problem(), long, off, random.Random(0))} == {4}
    half = [r.model_copy(update={"n_tokens": 900 if r.correct else 10}) for r in pool()]
    other = [r.model_copy(update={"n_tokens": 10 if r.correct else 900}) for r in pool()]
    for rows in (half, other):
        middle = sorted(r.n_tokens for r in rows)[len(rows) // 2 - 1 : len(rows) // 2 + 1]
        for signs in ("both", "right", "wrong"):
            options = SetOptions(signs=signs, k_long_tokens=300)
            sets = build_sets(problem(), rows, options, random.Random(0))
            assert sets and {len(s.shown) for s in sets} == {3 if sum(middle) / 2 > 300 else 4}


def test_odd_lengths_are_passed_over() -> None:
    odd = {"p0/a/0", "p0/c/22", "p0/d/42"}
    scored = [r.model_copy(update={"n_tokens": 100 if r.id in odd else 40}) for r in pool()]
    sets = build_sets(problem(), scored, SetOptions(natural_frac=0.0, sets_per_problem=100), random.Random(0))
    assert not odd & {s.route_id for x in sets for s in x.shown}


def test_sources_and_facts_are_mixed() -> None:
    sets = [s for s in many(100, BALANCED) if sum(labels(s)) == 2]
    assert all({s.route_id.split("/")[1] for s in x.shown if s.label} == {"a", "b"} for x in sets)
    other = route(9, ["base 50", "all five + 25 = 75"], "a")
    scored = score_routes([*(route(i, worked(), "a") for i in range(4)), other, route(20, worked(2, 2))], problem())
    fresh = [r.model_copy(update={"lucky": False}) for r in scored]
    sets = build_sets(problem(), fresh, SetOptions(k=2, natural_frac=0.0, sets_per_problem=60), random.Random(0))
    two = [x for x in sets if sum(labels(x)) == 2]
    assert two and all("p0/a/9" in {s.route_id for s in x.shown} for x in two)


# ---- tampering


def tampered(row: Problem, scored: Sequence[ScoredRoute]) -> list[ShownRoute]:
    options = SetOptions(natural_frac=0.0, hide_answers=0.0, tamper_final=1.0, sets_per_problem=60)
    sets = build_sets(row, scored, options, random.Random(0))
    for one in sets:  # never makes or breaks a set of one sign
        assert (True in labels(one)) is any(s.tampered or s.label for s in one.shown)
        assert not any(s.tampered for s in one.shown) or len(set(labels(one))) == 2
    return [s for x in sets for s in x.shown if s.tampered]


def test_tampered_answer_lines() -> None:
    found = tampered(problem(), pool())
    assert found
    for shown in found:
        assert (shown.label, shown.first_error, shown.steps) == (False, 6, worked())
        assert shown.answer in {"77", "76", "73"}  # what a negative of this problem answered


@pytest.mark.parametrize(
    ("row", "wrong", "distractors"),
    [
        ({"answer": "75"}, None, {"65", "73", "74", "76", "77", "85"}),
        ({"answer": "1"}, None, {"2", "3", "11"}),  # no change of sign
        ({"answer": "12.50"}, None, {"2.50", "10.50", "11.50", "13.50", "14.50", "22.50"}),
        ({"answer": "1/3"}, None, {"4/3", "7/3", "31/3"}),
        ({"answer": "75", "tolerance": 5.0}, None, {"65", "85"}),
        ({"answer": "Yes", "answer_type": "label"}, None, {"No"}),
        ({"answer": "B", "answer_type": "choice", "choices": ["x1", "x2", "x3"]}, None, {"x1", "x3"}),
        ({"answer": "Rome", "answer_type": "text"}, None, set()),
        ({"answer": "Rome", "answer_type": "text"}, "Oslo", {"Oslo"}),
    ],
)
def test_distractors(row, wrong, distractors) -> None:
    task = problem(**row)
    rows = [route(i, worked(), correct=True, final_answer=task.answer) for i in range(4)]
    rows += [route(9 + i, worked(3, 2), correct=False, final_answer=wrong or "?") for i in range(4)]
    scored = [r.model_copy(update={"lucky": False}) for r in score_routes(rows, task)]
    assert {s.answer for s in tampered(task, scored)} == distractors


# ---- order and determinism


def test_the_order_is_uniform() -> None:
    four = [r for r in pool() if r.id in ("p0/a/0", "p0/b/1", "p0/c/22", "p0/d/45")]
    sets = build_sets(problem(), four, SetOptions(natural_frac=1.0, sets_per_problem=1600), random.Random(0))
    for name in (r.id for r in four):
        places = Counter(i for s in sets for i, shown in enumerate(s.shown) if shown.route_id == name)
        assert sum((places[i] - 400) ** 2 / 400 for i in range(4)) < 16.27  # chi-square, 3 degrees of freedom, p = .001


def test_the_order_of_the_pool_does_not_change_what_is_drawn() -> None:
    options = SetOptions(sets_per_problem=2000)
    pools = (pool(), random.Random(5).sample(list(pool()), len(pool())))
    one, other = (realised(build_sets(problem(), routes, options, random.Random(1))) for routes in pools)
    assert one == pytest.approx(other, abs=0.05)


def test_the_same_seed_gives_the_same_sets() -> None:
    def draw(state: int, **options) -> list[RouteSet]:
        return build_sets(problem(), pool(), SetOptions(**options), random.Random(state))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert [s.id for s in draw(1, sets_per_problem=3)] == ["p0/set0", "p0/set1", "p0/set2"]
    one, other = draw(1, seed=1, tamper_final=0.0), draw(1, seed=2, tamper_final=0.0)
    assert [s.order_seed for s in one] != [s.order_seed for s in other]
    for a, b in zip(one, other, strict=True):  # another order of the same routes
        assert sorted(s.route_id for s in a.shown) == sorted(s.route_id for s in b.shown)


@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(0, 12), st.integers(2, 4))
def test_any_pool_gives_lawful_sets(seed, positives, negatives, k) -> None:
    rng = random.Random(seed)
    scored = pool(0)
    right, wrong = [r for r in scored if r.correct], [r for r in scored if not r.correct]
    chosen = rng.sample(right, positives) + rng.sample(wrong, negatives)
    known = {r.id: r for r in chosen}
    for one in build_sets(problem(), chosen, SetOptions(k=k), rng):
        assert len(one.shown) == min(k, len(chosen)) >= 2
        assert len({s.route_id for s in one.shown}) == len(one.shown)
        for shown in one.shown:
            original = known[shown.route_id]
            assert shown.steps == original.steps
            assert shown.label == (original.correct and not shown.tampered)
            assert shown.label or shown.first_error in (original.first_error, 6)
            assert (shown.answer == original.final_answer) is not shown.tampered


# ---- ablations


def test_one_sign_only_shows_no_other() -> None:
    for sign in ("right", "wrong"):
        sets = many(40, replace(BALANCED, signs=sign))
        assert len(sets) == 80
        assert {shown.label for x in sets for shown in x.shown} == {sign == "right"}
        assert {x.kind for x in sets} == {"natural"}  # one sign: its verdicts are not rewarded
    assert many(5, replace(BALANCED, signs="right"), positives=0) == []
    assert many(5, replace(BALANCED, signs="right"), positives=1) == []  # a set has two routes at least


def test_one_route_a_prompt() -> None:
    sets = many(60, replace(BALANCED, k=1))
    assert {len(x.shown) for x in sets} == {1}
    share = sum(x.shown[0].label for x in sets) / len(sets)
    assert 0.2 < share < 0.5  # 6 of 18 routes are right


def test_the_last_positive_beside_a_negative_is_never_tampered_with_and_lone_signs_are_left_alone() -> None:
    always = replace(BALANCED, tamper_final=1.0, sets_per_problem=20)
    for row in build_sets(problem(), pool(), replace(always, seed=1), random.Random(1)):
        labels = [s.label for s in row.shown]
        tampered = sum(s.tampered for s in row.shown)
        before = sum(labels) + tampered  # positives before tampering
        assert tampered == (before - 1 if 0 < before < len(labels) else 0)


def test_sizes_without_a_table_draw_every_number_of_positives() -> None:
    options = replace(BALANCED, k=5, sets_per_problem=200)
    drawn = Counter(sum(s.label for s in row.shown) for row in build_sets(problem(), pool(), options, random.Random(0)))
    assert set(drawn) == set(range(6)) and min(drawn.values()) > 15
