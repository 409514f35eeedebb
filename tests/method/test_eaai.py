"""Schedules, fades and the plan (method.md section 9, acceptance tests 13.1, 13.4, 13.7)."""

import itertools
from collections import Counter
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.errors import ConfigError, DataError
from realm_cli.method.eaai import SCHEDULES, build_plan, cut_labels, lambda_at, placebo, routed_share, routes_shown
from realm_cli.records import Problem, RouteSet, ShownRoute

FADING = [s for s in SCHEDULES if s not in ("none", "zero")]


def problem(i: int) -> Problem:
    return Problem(id=f"p{i}", question=f"What is {i} + 1?", answer=str(i + 1))


def shown(i: int, name: str, label: bool, first_error: int | None = None, tampered: bool = False) -> ShownRoute:
    steps = [f"{name} step {k} of {i} = {k}" for k in range(1, 6)]
    return ShownRoute(
        route_id=f"p{i}/{name}", steps=steps, answer=name, label=label, first_error=first_error, tampered=tampered
    )


def route_set(i: int, n: int = 0, **update) -> RouteSet:
    routes = [shown(i, "w", True), shown(i, "x", False, 3), shown(i, "y", True), shown(i, "z", False)]
    base = RouteSet(id=f"p{i}/set{n}", problem_id=f"p{i}", kind="balanced", shown=routes)
    return base.model_copy(update=update)


PROBLEMS = [problem(i) for i in range(10)]
SETS = {f"p{i}": [route_set(i, 0), route_set(i, 1, kind="natural")] for i in range(9)}  # p9 has no sets


def plan(**update):
    options = {"steps": 40, "groups_per_step": 5, "eaai_steps": 30, "schedule": "asymptotic", "style": "full"}
    options.update({"order": "verify_first", "seed": 7, **update})
    problems, sets = options.pop("problems", PROBLEMS), options.pop("sets", SETS)
    return list(build_plan(problems, sets, **options))


@pytest.mark.parametrize(
    ("schedule", "t", "value"),
    [
        ("asymptotic", 30, 0.7272),
        ("asymptotic", 150, 0.1824),
        ("linear", 75, 0.75),
        ("cosine", 150, 0.5),
        ("cosine", 75, 0.8536),
        ("step", 299, 0.25),
        ("adaptive", 150, 0.9375),
        ("adaptive", 270, 0.3439),
        ("linear", 1, 0.9967),
    ]
    + [("step", 74, 1.0), ("step", 75, 0.75), ("abrupt", 299, 1.0), ("none", 9999, 1.0), ("zero", 0, 0.0)],
)
def test_lambda_by_hand(schedule, t, value) -> None:
    assert lambda_at(schedule, t, 300) == pytest.approx(value, abs=1e-4)


def test_asymptotic_mean_and_limit() -> None:
    assert fmean(lambda_at("asymptotic", t, 1000) for t in range(1000)) == pytest.approx(0.28, abs=0.005)
    assert lambda_at("asymptotic", 250, 1000, kappa=1e-9) == pytest.approx(0.75)


@given(st.sampled_from(FADING), st.integers(1, 500), st.floats(0.1, 20), st.integers(1, 8))
def test_fading_schedules_go_from_one_to_zero(schedule, fade_steps, kappa, stages) -> None:
    values = [lambda_at(schedule, t, fade_steps, kappa=kappa, stages=stages) for t in range(fade_steps + 3)]
    assert values[0] == 1.0
    assert values[fade_steps:] == [0.0] * 3
    assert all(0 <= v <= 1 for v in values)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("schedule", FADING)
def test_no_fade_steps_means_no_signal(schedule) -> None:
    assert lambda_at(schedule, 0, 0) == 0.0


def test_unknown_schedule_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'quadratic' is unknown; choose one of asymptotic, linear, cosine, step"):
        lambda_at("quadratic", 0, 10)
    with pytest.raises(ConfigError, match="kappa 0 must be > 0"):
        lambda_at("linear", 0, 10, kappa=0)


def test_routed_share() -> None:
    assert routed_share(1.0) == 0.85
    assert routed_share(0.5) == 0.425
    assert routed_share(0.05, p_retain=0.1) == 0.1
    assert routed_share(0.0, p_retain=0.1) == 0.1
    assert routed_share(0.05, fade_share=False) == 0.85
    assert routed_share(0.0, fade_share=False) == 0.0


@pytest.mark.parametrize(("lam", "k"), [(1.0, 4), (0.5, 4), (0.4, 4), (0.375, 3), (0.26, 3), (0.25, 2), (0.0, 2)])
def test_routes_shown(lam, k) -> None:
    assert routes_shown(4, lam) == k
    assert routes_shown(1, lam) == 1


@pytest.mark.parametrize(
    ("name", "label", "first", "visible", "expected"),
    [
        ("w", True, None, 5, (True, None)),
        ("w", True, None, 2, (True, None)),
        ("x", False, 3, 5, (False, 3)),
        ("x", False, 3, 3, (False, 3)),
        ("x", False, 3, 2, (True, None)),
        ("z", False, None, 5, (False, None)),
        ("z", False, None, 4, (None, None)),
        ("t", False, 5, 4, (True, None)),
    ],
)
def test_cut_labels(name, label, first, visible, expected) -> None:
    assert cut_labels(shown(0, name, label, first), visible) == expected


def test_plan_is_ordered_complete_and_reproducible() -> None:
    rows = plan()
    assert len(rows) == 200
    assert [(r.step, r.slot) for r in rows] == [(t, s) for t in range(40) for s in range(5)]
    assert rows[7].id == "000001-002"
    assert rows == plan()
    assert rows != plan(seed=8)
    assert len({r.id for r in rows}) == 200


def test_problems_come_in_shuffled_epochs() -> None:
    ids = [r.problem_id for r in plan()]
    for start in range(0, 200, 10):
        assert sorted(ids[start : start + 10]) == sorted(p.id for p in PROBLEMS)
    assert ids[:10] != ids[10:20]


def test_bare_rows_show_no_route() -> None:
    rows = plan(p_retain=0.2)
    bare = [r for r in rows if not r.routed]
    assert len(bare) > 50
    for r in bare:
        assert (r.set_id, r.shown, r.verdicts, r.mode) == (None, [], [], "a")
        assert all("[Route" not in m["content"] for m in r.messages)
        assert "<check>" not in r.messages[-1]["content"]
    routed = [r for r in rows if r.routed]
    assert all("[Route D]" in r.messages[-1]["content"] for r in routed)


def test_share_of_routed_groups_follows_lambda() -> None:
    rows = plan(steps=1000, eaai_steps=1000, schedule="linear", problems=PROBLEMS[:9])
    for first in (0, 400, 800):
        part = [r for r in rows if first <= r.step < first + 200]
        assert fmean(r.routed for r in part) == pytest.approx(fmean(r.p_routed for r in part), abs=0.05)
    assert rows[0].p_routed == 0.85


def test_after_the_fade_only_retained_groups_are_routed() -> None:
    assert not any(r.routed for r in plan() if r.step >= 30)
    rows = [r for r in plan(steps=1030, p_retain=0.1) if r.step >= 30]
    assert {r.p_routed for r in rows if r.problem_id != "p9"} == {0.1}
    assert fmean(r.routed for r in rows) == pytest.approx(0.09, abs=0.02)
    full = [r for r in plan(steps=400, p_retain=0.1, fades=frozenset("abcd")) if r.step >= 30 and r.routed]
    assert full
    for r in full:
        assert (len(r.shown), r.cut, r.answers_hidden) == (4, [False] * 4, False)


def test_problem_without_sets_is_always_bare() -> None:
    rows = [r for r in plan(schedule="none", p_max=1.0) if r.problem_id == "p9"]
    assert len(rows) == 20
    assert not any(r.routed for r in rows)
    assert {r.p_routed for r in rows} == {0.0}


def test_zero_and_abrupt() -> None:
    assert not any(r.routed for r in plan(schedule="zero"))
    rows = plan(schedule="abrupt", p_max=1.0)
    assert {r.routed for r in rows if r.step < 30 and r.problem_id != "p9"} == {True}
    assert {r.routed for r in rows if r.step >= 30} == {False}


def test_sets_are_taken_in_turn() -> None:
    rows = [r for r in plan(schedule="none", p_max=1.0) if r.problem_id == "p4"]
    assert [r.set_id for r in rows[:4]] == ["p4/set0", "p4/set1", "p4/set0", "p4/set1"]
    assert [r.mode for r in rows[:2]] == ["a", "a+natural"]


def test_mode_names_fades() -> None:
    rows = plan(schedule="none", p_max=1.0, fades=frozenset("dca"))
    assert {r.mode for r in rows} == {"a+c+d", "a+c+d+natural"}
    assert {r.mode for r in plan(schedule="none", p_max=1.0, fades=frozenset())} == {"", "natural"}


def test_without_fade_a_the_share_stays() -> None:
    rows = [r for r in plan(fades=frozenset("c")) if r.problem_id != "p9"]
    assert {r.p_routed for r in rows if r.step < 30} == {0.85}
    assert {r.p_routed for r in rows if r.step >= 30} == {0.0}


def test_unfaded_row_by_hand() -> None:
    row = next(r for r in plan() if r.routed)
    assert row.shown_steps == [5, 5, 5, 5]
    assert row.cut == [False] * 4
    assert row.verdicts == [True, False, True, False]
    assert row.first_errors == [None, 3, None, None]
    assert row.lam == lambda_at("asymptotic", row.step, 30)


def test_fade_b_keeps_at_least_two_in_order() -> None:
    rows = [r for r in plan(steps=300, eaai_steps=300, schedule="linear", fades=frozenset("b")) if r.routed]
    assert {len(r.shown) for r in rows} == {2, 3, 4}
    for r in rows:
        assert len(r.shown) == routes_shown(4, r.lam)
        names = [s.answer for s in r.shown]
        assert names == sorted(names)
        assert len(r.verdicts) == len(r.cut) == len(r.shown)
        assert f"Here are {len(r.shown)} attempts" in r.messages[-1]["content"]


def test_fade_c_cuts_prefixes_and_relabels() -> None:
    rows = [r for r in plan(steps=300, eaai_steps=300, schedule="linear", fades=frozenset("c")) if r.routed]
    early = [r for r in rows if r.lam >= 0.5]
    assert all(r.cut == [False] * 4 for r in early)
    late = [r for r in rows if 0.2 < r.lam < 0.3]
    assert fmean(n for r in late for n in r.shown_steps) == pytest.approx(2.5, abs=0.15)  # Binomial(5, .5), >= 1
    for r in rows:
        assert all(n >= 1 for n in r.shown_steps)
        labels = [cut_labels(s, n) for s, n in zip(r.shown, r.shown_steps, strict=True)]
        assert (r.verdicts, r.first_errors) == ([v for v, _ in labels], [k for _, k in labels])
        assert r.messages[-1]["content"].count("\n[cut]") == sum(r.cut)


def test_fade_d_hides_answers_up_to_one_minus_lambda() -> None:
    sets = {f"p{i}": [route_set(i, n, answers_hidden=n == 0) for n in range(4)] for i in range(10)}
    options = {"steps": 1500, "schedule": "linear", "eaai_steps": 1500, "sets": sets, "p_max": 1.0}
    rows = [r for r in plan(fades=frozenset("d"), **options) if r.routed]
    for low, high in ((0.8, 1.0), (0.45, 0.55), (0.0, 0.1)):
        part = [r for r in rows if low <= r.lam <= high]
        expected = fmean(max(0.25, 1 - r.lam) for r in part)
        assert fmean(r.answers_hidden for r in part) == pytest.approx(expected, abs=0.05)
    hidden = next(r for r in rows if r.answers_hidden)
    assert hidden.messages[-1]["content"].count("Answer: [hidden]") == 4


def test_answers_of_tampered_routes_stay_visible() -> None:
    routes = [shown(0, "w", True), shown(0, "x", False, 5, tampered=True)]
    sets = {"p0": [route_set(0, shown=routes)]}
    rows = plan(problems=[problem(0)], sets=sets, fades=frozenset("d"), schedule="linear")
    assert any(r.routed and r.lam < 0.5 for r in rows)
    assert not any(r.answers_hidden for r in rows)


@given(st.permutations(range(4)))
def test_permuting_routes_permutes_targets_only(order) -> None:
    base = route_set(0)
    moved = base.model_copy(update={"shown": [base.shown[i] for i in order]})
    options = {"problems": [problem(0)], "schedule": "none", "steps": 3, "groups_per_step": 2}
    for a, b in zip(plan(sets={"p0": [base]}, **options), plan(sets={"p0": [moved]}, **options), strict=True):
        assert (a.id, a.routed, a.lam, a.answers_hidden) == (b.id, b.routed, b.lam, b.answers_hidden)
        if a.routed:
            assert b.verdicts == [a.verdicts[i] for i in order]
            assert b.first_errors == [a.first_errors[i] for i in order]


def test_weighted_problems() -> None:
    weights = {p.id: 0.0 if p.id == "p0" else 3.0 if p.id == "p1" else 1.0 for p in PROBLEMS}
    rows = plan(weights=weights, groups_per_step=1, steps=2200)
    counts = Counter(r.problem_id for r in rows)
    assert counts["p0"] == 0
    assert counts["p1"] / counts["p2"] == pytest.approx(3.0, rel=0.25)
    wide = plan(weights=weights, groups_per_step=4)
    repeats = sum(len({r.problem_id for r in wide[i : i + 4]}) < 4 for i in range(0, len(wide), 4))
    assert repeats == 0


def test_terse_style_and_solve_first_reach_the_messages() -> None:
    rows = plan(style="terse", p_max=1.0)
    routed, bare = next(r for r in rows if r.routed), next(r for r in rows if not r.routed)
    assert routed.messages[0]["content"].endswith("\n[Check]")
    assert bare.messages == [{"role": "user", "content": f"What is {bare.problem_id[1:]} + 1?"}]
    other = next(r for r in plan(order="solve_first") if r.routed)
    assert "First solve the problem yourself" in other.messages[-1]["content"]


def test_errors_come_at_the_call() -> None:
    options = {"steps": 1, "groups_per_step": 1, "eaai_steps": 1, "style": "full", "order": "verify_first", "seed": 0}
    with pytest.raises(ConfigError, match="fades e, x: unknown; choose from a, b, c, d"):
        build_plan(PROBLEMS, SETS, schedule="linear", fades=frozenset("aex"), **options)
    with pytest.raises(ConfigError, match="'sudden' is unknown"):
        build_plan(PROBLEMS, SETS, schedule="sudden", **options)
    with pytest.raises(DataError, match="no problems to train on"):
        build_plan([], SETS, schedule="linear", **options)
    with pytest.raises(DataError, match="problem p1: no sampling weight; give one for each of the 10 problems"):
        build_plan(PROBLEMS, SETS, schedule="linear", weights={"p0": 1.0}, **options)
    with pytest.raises(DataError, match="positive sum"):
        build_plan(PROBLEMS, SETS, schedule="linear", weights=dict.fromkeys((p.id for p in PROBLEMS), 0.0), **options)


def test_bare_groups_carry_members_while_lambda_is_above_zero() -> None:
    rows = plan(with_members=True)
    assert [(r.routed, r.set_id, r.shown) for r in rows] == [(r.routed, r.set_id, r.shown) for r in plan()]
    for r in rows:
        expected = not r.routed and r.lam > 0 and r.problem_id != "p9"
        assert bool(r.members) is expected
        assert not r.members or r.members == route_set(int(r.problem_id[1:])).shown
    assert any(r.members for r in rows) and not any(r.members for r in plan())


# ---- ablations


def test_placebo_labels_are_the_same_labels_dealt_out_anew() -> None:
    routed = [row for row in plan(steps=200) if row.routed]
    dealt = [placebo(row, 3) for row in routed]
    for before, after in zip(routed, dealt, strict=True):
        pairs = zip(before.verdicts, before.first_errors, strict=True)
        assert Counter(pairs) == Counter(zip(after.verdicts, after.first_errors, strict=True))
        assert after.model_copy(update={"verdicts": before.verdicts, "first_errors": before.first_errors}) == before
    kept = fmean(
        a == b for x, y in zip(routed, dealt, strict=True) for a, b in zip(x.verdicts, y.verdicts, strict=True)
    )
    assert 0.4 < kept < 0.6  # two right and two wrong routes: chance is 1/2
    assert dealt == [placebo(row, 3) for row in routed] != [placebo(row, 4) for row in routed]
    bare = next(row for row in plan() if not row.routed)
    assert placebo(bare, 3) == bare
