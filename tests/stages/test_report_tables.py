"""The report's numbers and how they are laid out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.records import Mode, Prediction
from realm_cli.stages.report_tables import build_report, cut_off, report_tables, rule_accuracy, weak_claims
from realm_cli.stages.summary import interval, percent


def row(model: str, problem: str, correct: bool, *, sample: int = 0, mode: Mode = "bare", **given: Any) -> Prediction:
    fields = {
        "id": f"{model}/{mode}/{problem}/{sample}", "model": model, "mode": mode, "problem_id": problem,
        "sample": sample, "completion": "c", "correct": correct, "n_tokens": 10,
    }  # fmt: skip
    return Prediction.model_validate(fields | given)


def report(rows: list[Prediction], compare: bool = True) -> dict[str, Any]:
    return build_report(rows, seed=0, bootstrap=200, compare=compare)


def test_means_of_the_other_columns() -> None:
    rows = [
        row("m", "a", True, correct_flexible=True, format_ok=True, verdict_bal_acc=1.0, n_tokens=10),
        row("m", "b", False, correct_flexible=True, truncated=True, verdict_bal_acc=0.5, n_tokens=30),
        row("m", "c", False, format_ok=True, n_tokens=20),
        row("m", "d", False, n_tokens=20),
    ]
    (cell,) = report(rows)["results"]
    assert (cell["accuracy"], cell["accuracy_flexible"], cell["format_ok"], cell["truncated"]) == (0.25, 0.5, 0.5, 0.25)
    assert (cell["mean_tokens"], cell["verdict_bal_acc"], cell["samples"]) == (20.0, 0.75, 1)


def test_three_models_are_compared_pairwise_per_mode_and_group() -> None:
    rows = [
        row(model, problem, right, mode=mode, group="g")
        for mode in ("bare", "routed")
        for model, right in (("a", False), ("b", True), ("c", True))
        for problem in "pqr"
    ]
    found = report(rows)["comparisons"]
    assert [(c["mode"], c["group"], c["from"], c["to"]) for c in found] == [
        (mode, group, one, two)
        for mode in ("bare", "routed")
        for group in ("all", "g")
        for one, two in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    assert [c["difference"] for c in found[:3]] == [1.0, 1.0, 0.0]
    assert [c["mcnemar_p"] for c in found[:3]] == [0.25, 0.25, 1.0]  # 2 * (1/2)^3


def test_pairs_are_joined_by_problem() -> None:
    rows = [row("a", "p", True), row("a", "q", False), row("b", "q", True), row("b", "r", False)]
    (found,) = report(rows)["comparisons"]
    assert (found["n"], found["difference"], found["discordant"]) == (1, 1.0, 1)


def test_a_model_missing_from_a_mode_is_not_compared_there() -> None:
    rows = [row("a", "p", True), row("b", "p", False), row("a", "p", True, mode="routed")]
    assert [c["mode"] for c in report(rows)["comparisons"]] == ["bare"]
    tables = report_tables(report(rows))
    assert tables[0].columns == ["group", "n", "a", "b"] and tables[1].columns == ["group", "n", "a"]


def test_tables_as_people_see_them() -> None:
    rows = [row("a", "p", True, group="x", format_ok=True), row("a", "q", True, format_ok=True),
            row("b", "p", True, group="x"), row("b", "q", True)]  # fmt: skip
    accuracy, paired = report_tables(report(rows))
    assert accuracy.title == "Accuracy %, bare prompts [95 % CI]"
    assert accuracy.columns == ["group", "n", "a", "b"]
    assert accuracy.rows == [
        ["all", "2", "100.0 [34.2, 100.0]", "100.0 [34.2, 100.0]"],
        ["x", "1", "100.0 [20.7, 100.0]", "100.0 [20.7, 100.0]"],
        ["flexible %", "", "0.0", "0.0"],
        ["format %", "", "100.0", "0.0"],
    ]
    assert paired.title == "Paired differences, all groups"
    assert paired.columns == ["mode", "pair", "points [95 % CI]", "differ on", "McNemar p", "detectable"]
    assert paired.rows == [["bare", "a -> b", "0.0 [-65.8, 65.8]", "0", "1", "-"]]


def test_what_a_test_of_this_size_can_find() -> None:
    """8 of 100 problems differ, all the same way: 2.8 * sqrt(.08 / 100) = 7.9 points can be found."""
    rows = [row("a", f"p{i}", False) for i in range(100)] + [row("b", f"p{i}", i < 8) for i in range(100)]
    found = report(rows)
    (pair,) = found["comparisons"]
    assert pair["detectable"] == pytest.approx(0.0792, abs=1e-4)
    assert pair["pairs_needed"] == 8  # (2.8 * .08 / .08)^2 = 7.85
    assert report_tables(found)[1].rows[0][-1] == "7.9"
    assert weak_claims(found) == []


def test_a_claim_on_too_few_problems_is_named() -> None:
    """5 of 100: the interval excludes 0, but 8 would be needed."""
    rows = [row("a", f"p{i}", False) for i in range(100)] + [row("b", f"p{i}", i < 5) for i in range(100)]
    assert weak_claims(report(rows)) == [
        "bare, a -> b: the interval excludes 0, but only 5 problems differ and 8 are needed to find such a difference "
        "4 times in 5; use more problems"
    ]


@pytest.mark.parametrize(
    ("n", "gap", "line"),
    [
        (4, -0.5, "only 4 problems differ of 4 and 32 are needed"),
        (4, -1.0, "the interval excludes 0, but only 4 problems differ and 8 are needed"),
        (1, 1.0, "only 1 problem differs of 1 and 8 are needed"),
        (7, 1.0, "the interval excludes 0, but only 7 problems differ and 8 are needed"),
        (20, 0.25, "the interval excludes 0, but only 20 problems differ and 126 are needed"),
        (10, -0.25, "only 10 problems differ of 10 and 126 are needed"),
        (3, 0.0, "0 problems differ of 3, and at least 8 have to before any difference can be shown"),
    ],
)
def test_differences_that_are_all_the_same_carry_the_note(n: int, gap: float, line: str) -> None:
    """4 samples a problem: where the resamples tell nothing apart, too few problems are named all the same."""
    rows = [
        row(model, f"p{i}", s < 4 * share, sample=s)
        for model, share in (("a", max(-gap, 0.0)), ("b", max(gap, 0.0)))
        for i in range(n)
        for s in range(4)
    ]
    found = report(rows)
    (pair,) = found["comparisons"]
    assert pair["low"] < gap < pair["high"] or (abs(gap) == 1 and pair["low"] < pair["high"])
    assert pair["discordant"] == (n if gap else 0) and (pair["detectable"] is None) == (gap == 0)
    assert weak_claims(found) == [
        f"bare, a -> b: {line}" + (" to find such a difference 4 times in 5; use more problems" if gap else "")
    ]


def test_enough_problems_that_differ_alike_carry_no_note() -> None:
    rows = [row(model, f"p{i}", model == "b") for model in "ab" for i in range(8)]
    assert weak_claims(report(rows)) == []
    same = [row(model, f"p{i}", i % 2 == 0) for model in "ab" for i in range(40)]
    assert weak_claims(report(same)) == []  # nothing differs, and the interval says how much could


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_no_printed_interval_has_width_0(samples: int) -> None:
    """Each problem has half of its samples right, in groups of 1, 2 and 7 problems; the other model has none."""
    rows = [
        row(model, f"p{i}", model == "a" and s < samples / 2, sample=s, group="x" if i < 1 else "y" if i < 3 else "z")
        for model in "ab"
        for i in range(10)
        for s in range(samples)
    ]
    found = report(rows)
    cells = [*found["results"], *found["comparisons"]]
    assert len(cells) == 12 and all(cell["low"] < cell["high"] for cell in cells)
    shown = [text for table in report_tables(found) for line in table.rows for text in line if "[" in text]
    assert len(shown) == 9
    for text in shown:
        low, high = text.partition("[")[2].strip("]").split(", ")
        assert float(low) < float(high)


def test_a_narrow_interval_is_shown_with_more_digits() -> None:
    assert interval(0.5, 0.4999, 0.5002) == "50.00 [49.99, 50.02]"
    assert interval(1.0, 0.99996, 1.0) == "100.000 [99.996, 100.000]"
    assert interval(0.5, 0.5, 0.5) == "50.0 [50.0, 50.0]"  # an old report's


def test_weak_claims_of_single_groups_are_counted() -> None:
    rows = [row("a", f"p{i}", False, group="xy"[i % 2]) for i in range(200)]
    rows += [row("b", f"p{i}", i % 2 == 0 and i < 10, group="xy"[i % 2]) for i in range(200)]
    whole, groups = weak_claims(report(rows))
    assert whole.startswith("bare, a -> b: the interval excludes 0, but only 5 problems differ")
    assert groups == "single groups: 1 more such claim on too few problems"


def test_a_group_that_a_model_lacks_is_a_dash() -> None:
    rows = [row("a", "p", True, group="x"), row("b", "q", True)]
    accuracy = report_tables(report(rows, compare=False))[0]
    assert accuracy.rows[1] == ["x", "1", "100.0 [20.7, 100.0]", "-"]


def test_the_routes_have_a_table_of_their_own() -> None:
    rows = [row("a", "p", True, group="x"), row("a", "p", True, mode="routed", verdict_bal_acc=0.75, group="x")]
    found = report(rows, compare=False) | {"routes": {"all": {"n": 1, "plurality": 0.25, "any_correct": 1.0}}}
    bare, routed, routes = report_tables(found)
    assert [r[0] for r in bare.rows] == ["all", "x", "flexible %", "format %"]
    assert routed.rows[-2:] == [["verdicts %", "", "75.0"], ["bare/routed %", "", "100.0"]]
    assert routes.columns == ["group", "plurality %", "any correct %"]
    assert routes.rows == [["all", "25.0", "100.0"]]


def test_formats() -> None:
    assert (percent(0.1234), percent(None), percent(1)) == ("12.3", "-", "100.0")
    assert interval(0.5, 0.25, 0.755) == "50.0 [25.0, 75.5]"
    assert percent(-0.0004) == "0.0" and percent(-0.0006) == "-0.1"


@given(flags=st.lists(st.booleans(), min_size=1, max_size=30))
def test_accuracy_lies_in_its_interval(flags: list[bool]) -> None:
    (cell,) = report([row("m", f"p{i}", flag) for i, flag in enumerate(flags)])["results"]
    assert cell["n"] == len(flags)
    assert cell["accuracy"] == pytest.approx(sum(flags) / len(flags))
    assert cell["low"] <= cell["accuracy"] + 1e-9 and cell["accuracy"] - 1e-9 <= cell["high"]


def test_rescue_follow_and_autonomy() -> None:
    """Of 4 routed problems: 2 without a right route (1 rescued), 3 whose vote is wrong (1 followed)."""
    given = [
        ("p", True, {"any_correct": False, "plurality_correct": False, "followed": False}),
        ("q", False, {"any_correct": False, "plurality_correct": False, "followed": True}),
        ("r", True, {"any_correct": True, "plurality_correct": False, "followed": False}),
        ("s", True, {"any_correct": True, "plurality_correct": True, "followed": True}),
    ]
    rows = [row("m", name, right, mode="routed", **fields) for name, right, fields in given]
    rows += [row("m", name, name == "p") for name in "pqrs"]
    found = report(rows)
    routed = next(r for r in found["results"] if r["mode"] == "routed")
    assert (routed["rescue"], routed["follow"]) == (0.5, pytest.approx(1 / 3))
    assert found["autonomy"] == {"m": pytest.approx(0.25 / 0.75)}
    lines = {r[0]: r[2] for r in report_tables(found)[0].rows}
    assert (lines["rescued %"], lines["misled %"]) == ("50.0", "33.3")
    assert lines["bare/routed %"] == "33.3"
    assert report([row("m", "p", True)])["autonomy"] == {}


def test_rules_in_the_weights() -> None:
    """Rule z is needed by p (right) and q (wrong), y by q alone; routed rows do not count."""
    rows = [row("m", "p", True), row("m", "q", False), row("m", "q", True, mode="routed"), row("k", "p", True)]
    found = rule_accuracy(rows, {"p": ["z", "z"], "q": ["z", "y"], "r": ["x"]})
    assert found == {"y": {"n": 1, "m": 0.0}, "z": {"n": 2, "m": 0.5, "k": 1.0}}
    table = report_tables(report([row("m", "p", True)]) | {"rules": rule_accuracy(rows[:2], {"p": ["z"], "q": ["y"]})})[
        1
    ]
    assert table.title == "Bare % by rule, weakest 2 of 2"
    assert table.rows == [["y", "1", "0.0"], ["z", "1", "100.0"]]


def test_completions_that_the_limit_cuts_are_named_by_group() -> None:
    rows = [row("sft", f"a{i}", True, group="short") for i in range(30)]
    rows += [row("sft", f"b{i}", False, group="long", truncated=i < 3) for i in range(10)]
    assert cut_off(report(rows), 120) == [
        "warning: completions cut off at eval.max_tokens=120, which count as wrong: "
        "sft bare 7.5 %; sft bare, long 30.0 %; where a model only needs more room, raise it and rerun with --force"
    ]
    assert cut_off(report(rows[:30]), 120) == []
    many = [row(f"m{i}", "a", False, group="g", truncated=True) for i in range(5)]
    assert "and 4 more; where" in cut_off(report(many), 120)[0]
