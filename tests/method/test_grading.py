"""Routes made whole: what a row does not hold is read or judged, what it holds is kept and held against the grader."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method import grading
from realm_cli.method.grading import Verdicts, filled, told
from realm_cli.records import Route
from stages.helpers import apples, cot, gold, right, slip

RIGHT, WRONG = cot(right(0), gold(0)), cot(*slip(0, 1))


def row(text: str = RIGHT, **held: Any) -> Route:
    """A route as it is read from a line that names these fields only."""
    line = {"id": "r", "problem_id": "p0", "source": "other", "text": text, **held}
    return Route.model_validate_json(json.dumps(line))


@pytest.mark.parametrize(
    ("held", "steps", "answer"),
    [
        ({}, right(0), gold(0)),
        ({"steps": []}, right(0), gold(0)),
        ({"steps": [], "final_answer": None}, right(0), gold(0)),
        ({"final_answer": "7"}, right(0), "7"),
        ({"steps": ["mine"]}, ["mine"], gold(0)),
        ({"steps": ["mine"], "final_answer": None}, ["mine"], None),  # was read, and states none
        ({"steps": ["mine"], "final_answer": "7"}, ["mine"], "7"),
    ],
)
def test_what_the_row_does_not_hold_is_read_from_its_text(held, steps, answer) -> None:
    whole = filled(row(**held))
    assert (whole.steps, whole.final_answer) == (steps, answer)
    assert filled(whole) == whole


@pytest.mark.parametrize(
    ("text", "held", "verdict", "counts"),
    [
        (RIGHT, {}, True, {"judged": 1, "judged_right": 1, "steps": 1, "answers": 1}),
        (WRONG, {}, False, {"judged": 1, "steps": 1, "answers": 1}),
        (RIGHT, {"steps": right(0), "final_answer": gold(0)}, True, {"judged": 1, "judged_right": 1}),
        (RIGHT, {"steps": right(0), "final_answer": "7"}, False, {"judged": 1}),
        (RIGHT, {"truncated": True}, False, {"judged": 1, "steps": 1, "answers": 1}),
        (RIGHT, {"steps": [], "correct": False}, True, {"judged": 1, "judged_right": 1, "steps": 1, "answers": 1}),
        (RIGHT, {"correct": True}, True, {"given": 1, "checked": 1, "steps": 1, "answers": 1}),
        (RIGHT, {"correct": False}, False, {"given": 1, "checked": 1, "contradicted": 1, "steps": 1, "answers": 1}),
        (WRONG, {"correct": True}, True, {"given": 1, "checked": 1, "contradicted": 1, "steps": 1, "answers": 1}),
        (RIGHT, {"steps": ["s"], "final_answer": "7", "correct": False}, False, {"given": 1, "checked": 1}),
        (RIGHT, {"steps": ["s"], "final_answer": "7", "correct": True}, True,
         {"given": 1, "checked": 1, "contradicted": 1}),
    ],
)  # fmt: skip
def test_verdicts(text, held, verdict, counts) -> None:
    verdicts = Verdicts()
    assert verdicts.take(row(text, **held), apples(0)).correct is verdict
    assert +verdicts.counts == Counter(counts)
    assert verdicts.examples == (["r"] if counts.get("contradicted") else [])


def test_no_check_where_it_is_not_asked_for() -> None:
    verdicts = Verdicts(check=False)
    assert verdicts.take(row(WRONG, correct=True), apples(0)).correct
    assert not verdicts.counts["checked"] and not verdicts.take(row(WRONG), apples(0)).correct


def test_slow_checks_are_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "CHECKED", 3)
    verdicts, problem = Verdicts(), apples(0, answer_type="expr")
    for n in range(9):
        verdicts.take(row(steps=["s"], final_answer=str(n % 6), correct=True), problem)
    assert (verdicts.counts["given"], verdicts.counts["checked"]) == (9, 6)  # 3 answers, each of them twice
    assert verdicts.counts["contradicted"] == 6 and len(verdicts.examples) == 5


def test_what_is_told() -> None:
    assert list(told(Counter(given=7, checked=7), [])) == []
    lines = list(told(Counter(given=6, judged=4, judged_right=3, steps=2, answers=1, checked=5, contradicted=2), ["a"]))
    assert lines == [
        "read from the texts: the steps of 2 routes, the final answers of 1",
        "4 of 10 routes came without a verdict; judged: 3 are right",
        "warning: 2 of 5 given verdicts are not what the answer check says (a ...); they are kept: take `correct` out "
        "of these rows to have them judged",
    ]


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "steps": st.sampled_from([[], ["mine"], right(0)]),
        "final_answer": st.sampled_from([None, gold(0), "7"]),
        "correct": st.booleans(),
        "truncated": st.booleans(),
    },
)


@given(st.lists(st.tuples(st.sampled_from([RIGHT, WRONG, "no idea"]), FIELDS), max_size=8))
def test_whole_rows_stay_and_all_of_them_are_counted(lines) -> None:
    verdicts, problem = Verdicts(), apples(0)
    for text, held in lines:
        one = row(text, **held)
        whole = verdicts.take(one, problem)
        assert (whole.steps, whole.final_answer) == (filled(one).steps, filled(one).final_answer)
        assert {k: v for k, v in held.items() if v not in ([], None)} == {
            k: getattr(whole, k) for k, v in held.items() if v not in ([], None)
        } or ("correct" in held and held.get("steps") == [])
        again = Verdicts()
        assert again.take(Route.model_validate(whole.model_dump()), problem).correct is whole.correct or not whole.steps
    counts = verdicts.counts
    assert counts["given"] + counts["judged"] == len(lines)
    assert counts["contradicted"] <= counts["checked"] == counts["given"]
    assert bool(list(told(counts, verdicts.examples))) == any(
        counts[name] for name in ("judged", "contradicted", "steps", "answers")
    )
