"""The adaptive rule and the gate: worked numbers, bounds, going on after an interruption."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_cli.method.eaai import build_plan, lambda_at
from realm_cli.method.steering import Steering, next_lambda
from realm_cli.records import PlanRow, Problem, RouteSet, Sample, ShownRoute

PROBLEMS = [Problem(id=f"p{i}", question=f"What is {i} + 1?", answer=str(i + 1)) for i in range(6)]
SHOWN = [ShownRoute(route_id=name, steps=["a = 1"], answer="1", label=name == "x") for name in "xy"]
SETS = {p.id: [RouteSet(id=f"{p.id}/s", problem_id=p.id, kind="balanced", shown=SHOWN)] for p in PROBLEMS}


def plan(schedule: str = "adaptive", steps: int = 100, fade: int = 80) -> list[PlanRow]:
    options = {"steps": steps, "groups_per_step": 6, "eaai_steps": fade, "style": "terse", "order": "verify_first"}
    return list(build_plan(PROBLEMS, SETS, schedule=schedule, seed=3, **options))  # type: ignore[arg-type]


def steering(schedule: str = "adaptive", gate: float | None = None, fade: int = 80) -> Steering:
    questions = {p.id: p.question for p in PROBLEMS}
    return Steering(schedule=schedule, fade_steps=fade, gate=gate, questions=questions, style="terse", seed=3)


ROW = plan("none", steps=1)[0]


def outcome(row: PlanRow, success: float) -> list[Sample]:
    fields = {"plan_id": row.id, "step": row.step, "problem_id": row.problem_id, "routed": row.routed}
    zero = {"completion": "c", "r_fmt": 1.0, "p_len": 0, "p_copy": 0, "reward": 0, "advantage": 0, "n_tokens": 1}
    both = [{"r_ans": success, "sample": i, "id": f"{row.id}/{i}", "truncated": False} for i in range(2)]
    return [Sample.model_validate(fields | zero | one) for one in both]


def drive(rule: Steering, rows: Sequence[PlanRow], bare: float, routed: float) -> list[PlanRow]:
    """All steps, with the same success throughout."""
    done = []
    for step in sorted({row.step for row in rows}):
        revised = [rule.revise(row) for row in rows if row.step == step]
        rule.observe([s for row in revised for s in outcome(row, routed if row.routed else bare)])
        done += revised
    return done


def test_the_rule_by_hand() -> None:
    """A = .5 changes nothing, A = .9 takes .05 away, A = 0 gives .0625 back; clipped to [0, envelope]."""
    assert next_lambda(0.6, 0.4, 0.8, 1.0) == pytest.approx(0.6)
    assert next_lambda(0.6, 0.9, 1.0, 1.0) == pytest.approx(0.55)
    assert next_lambda(0.6, 0.0, 1.0, 1.0) == pytest.approx(0.6625)
    assert next_lambda(0.6, 0.0, 1.0, 0.61) == 0.61
    assert next_lambda(0.01, 1.0, 0.0, 1.0) == 0.0  # the routed success counts as .05 at least


@given(*(st.floats(0, 1) for _ in range(4)))
def test_lambda_stays_below_the_envelope_and_falls_with_autonomy(
    lam: float, bare: float, routed: float, env: float
) -> None:
    value = next_lambda(lam, bare, routed, env)
    assert 0 <= value <= env
    assert next_lambda(lam, min(1.0, bare + 0.1), routed, env) <= value


@settings(max_examples=15)
@given(st.floats(0, 1), st.floats(0, 1), st.none() | st.floats(0, 1), st.sampled_from(["adaptive", "linear", "none"]))
def test_steering_only_takes_routes_away(bare: float, routed: float, gate: float | None, schedule: str) -> None:
    rows = plan(schedule, steps=25, fade=20)
    rule = steering(schedule, gate=gate, fade=20)
    for before, after in zip(rows, drive(rule, rows, bare, routed), strict=True):
        assert after.routed <= before.routed and after.lam <= before.lam
        if after.routed or not before.routed:
            assert after == before.model_copy(update={"lam": after.lam})


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=8))
def test_running_means_of_bare_and_routed_groups_are_kept_apart(groups: list[tuple[bool, float]]) -> None:
    rule, row = steering("none"), ROW
    for shown, success in groups:
        rule.observe(outcome(row.model_copy(update={"routed": shown}), success))
    for shown, found in ((True, rule.routed), (False, rule.bare)):
        first, *later = [success for flag, success in groups if flag is shown] or [None]
        for success in later:
            first = 0.95 * first + 0.05 * success
        assert found == (None if first is None else pytest.approx(first))


def test_the_envelope() -> None:
    assert lambda_at("adaptive", 40, 80) == pytest.approx(1 - 0.5**4)


def test_a_bare_model_that_keeps_up_loses_its_routes_sooner() -> None:
    weak, strong = (drive(steering(), plan(), bare, 0.8) for bare in (0.1, 0.8))
    routed = [sum(row.routed for row in rows) for rows in (plan(), weak, strong)]
    assert routed[0] >= routed[1] > routed[2] > 0
    assert all(not row.routed for row in weak + strong if row.step >= 80)
    lams = [row.lam for row in strong[::6]]
    assert lams[:10] == pytest.approx([lambda_at("adaptive", t, 80) for t in range(10)])
    # step 10: A = 1: .05 * .5 / .4 = .0625 off lambda, which the envelope had left at 1 - (9/80)^4
    assert lams[10] == pytest.approx(lambda_at("adaptive", 9, 80) - 0.0625)
    assert lams == sorted(lams, reverse=True)


def test_rows_without_routes_are_plain_bare_rows() -> None:
    for row in drive(steering(), plan(), 0.9, 0.9):
        if not row.routed:
            assert (row.shown, row.verdicts, row.first_errors, row.set_id) == ([], [], [], None)
            assert row.messages == [{"role": "user", "content": f"What is {row.problem_id[1:]} + 1?"}]


def test_a_row_loses_its_routes_and_nothing_else() -> None:
    row = next(row for row in plan("none", steps=1) if row.routed)
    bare = steering().without_routes(row)
    assert (bare.id, bare.problem_id, bare.lam, bare.routed, bare.shown) == (row.id, row.problem_id, row.lam, False, [])
    assert bare.messages == [{"role": "user", "content": f"What is {row.problem_id[1:]} + 1?"}]


@given(st.integers(0, 599))
def test_a_row_without_routes_stays_as_it_is(index: int) -> None:
    rule, row = steering(), plan()[index]
    assert rule.without_routes(rule.without_routes(row)) == rule.without_routes(row)
    assert not rule.without_routes(row).routed


def test_the_gate_looks_at_each_problem() -> None:
    rule = steering("none", gate=0.5)
    rows = plan("none", fade=0)
    bare = {
        p.id: next(row for row in rows if row.problem_id == p.id).model_copy(update={"routed": False}) for p in PROBLEMS
    }
    rule.observe([s for name, row in bare.items() for s in outcome(row, 1.0 if name == "p0" else 0.0)])
    revised = [rule.revise(row) for row in rows]
    assert not any(row.routed for row in revised if row.problem_id == "p0")
    others = [(before, after) for before, after in zip(rows, revised, strict=True) if before.problem_id != "p0"]
    assert all(before == after for before, after in others)
    rule.observe(outcome(bare["p0"], 0.0))  # .5 * 1 + .5 * 0 = .5: still closed
    assert not rule.revise(next(row for row in rows if row.problem_id == "p0" and row.routed)).routed
    rule.observe(outcome(bare["p0"], 0.0))
    assert rule.revise(next(row for row in rows if row.problem_id == "p0" and row.routed)).routed


def test_without_rule_and_gate_nothing_changes() -> None:
    rows = plan("cosine")
    assert drive(steering("cosine"), rows, 0.9, 0.5) == rows


def test_going_on_after_an_interruption() -> None:
    rows = plan()
    whole = drive(steering(), rows, 0.5, 0.7)
    later = steering()
    for step in range(45):
        later.observe([s for row in whole if row.step == step for s in outcome(row, 0.7 if row.routed else 0.5)])
    assert drive(later, [row for row in rows if row.step >= 45], 0.5, 0.7) == [row for row in whole if row.step >= 45]


def test_a_step_without_samples_changes_nothing() -> None:
    rule = steering()
    rule.observe([])
    assert drive(rule, plan(), 0.5, 0.7) == drive(steering(), plan(), 0.5, 0.7)


def test_nothing_observed_changes_nothing_and_one_sample_is_enough() -> None:
    rule = steering()
    rule.observe([])
    assert (rule.lam, rule.bare, rule.routed) == (1.0, None, None)
    row = plan()[0]
    rule.observe(outcome(row, 1.0)[:1])
    assert (rule.bare, rule.routed) == ((None, 1.0) if row.routed else (1.0, None))
