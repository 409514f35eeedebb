"""Problem sets: what is refused, and how problems are chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.artifacts import write_rows
from realm_cli.errors import DataError
from realm_cli.records import Problem
from realm_cli.stages.problems import load_problems, pick, spread
from stages.helpers import apples


def refusal(path: Path, *rows: Problem) -> str:
    write_rows(path, rows)
    with pytest.raises(DataError) as error:
        load_problems(path)
    return str(error.value)


def test_good_problems_come_back(tmp_path: Path) -> None:
    rows = [apples(0), apples(1, "dev"), apples(2, "test", group="fruit")]
    write_rows(tmp_path / "p.jsonl", rows)
    assert load_problems(tmp_path / "p.jsonl") == rows


def test_unknown_answer_type_lists_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    said = refusal(path, apples(0), apples(1, answer_type="numbr"))
    assert said.startswith(f"{path}: problem p1: unknown answer_type 'numbr'; known: ")
    listed = said.partition("known: ")[2].split(", ")
    assert {"number", "expr", "choice", "label", "text"} <= set(listed)


def test_choice_needs_choices(tmp_path: Path) -> None:
    said = refusal(tmp_path / "p.jsonl", apples(0, answer_type="choice", choices=[]))
    assert said.endswith("problem p0: answer_type choice needs a list of choices")


@pytest.mark.parametrize("twin", ["Who pays?", "who  PAYS?", "  Who\npays? "])
def test_a_question_in_two_splits_is_refused(tmp_path: Path, twin: str) -> None:
    first = Problem(id="a", question="Who pays?", answer="Ann", split="train")
    said = refusal(tmp_path / "p.jsonl", first, Problem(id="b", question=twin, answer="Ann", split="test"))
    assert said.endswith(
        "problems a (train) and b (test) ask the same question; remove one, else the test is not held out"
    )


@pytest.mark.parametrize("other", ["Who pays!", "Who-pays?", "Who pays 1 + 1?"])
def test_signs_make_another_question(tmp_path: Path, other: str) -> None:
    rows = [Problem(id="a", question="Who pays?", answer="Ann"), Problem(id="b", question=other, answer="Ann")]
    rows.append(Problem(id="c", question="Who pays 1 - 1?", answer="Ann", split="test"))
    write_rows(tmp_path / "p.jsonl", rows)
    assert len(load_problems(tmp_path / "p.jsonl")) == 3


def test_other_choices_make_another_question(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    first, other, turned = (
        Problem(id=name, question="Which?", answer="A", answer_type="choice", choices=choices, split=split)
        for name, choices, split in (("a", ["x", "y"], "train"), ("b", ["x", "z"], "test"), ("c", ["Y", "x"], "test"))
    )
    write_rows(path, [first, other])
    assert len(load_problems(path)) == 2
    assert "problems a (train) and c (test) ask the same question" in refusal(path, first, turned)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"answer_type": "choice", "answer": "D", "choices": ["x", "y"]}, "answer 'D' is none of its choices"),
        ({"answer_type": "choice", "answer": "B", "choices": ["x", "", "y"]}, "answer B is a choice that is empty"),
        (
            {"answer_type": "choice", "answer": "A", "choices": [str(i) for i in range(27)]},
            "27 choices, and letters for",
        ),
        ({"answer_type": "date", "answer": "03/04/2024"}, "'03/04/2024' is no clear date; write 2024-03-09, or add"),
        ({"answer_type": "date", "answer": "31/02/2024", "date_order": "dmy"}, "is no clear date"),
        ({"answer_type": "number", "answer": "5", "lower": 6, "upper": 4}, "lower 6 is above upper 4"),
        ({"answer_type": "number", "answer": "5", "tolerance": -1}, "tolerance -1: give a number from 0 on"),
    ],
)
def test_what_could_never_be_right_is_refused(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    said = refusal(tmp_path / "p.jsonl", Problem(id="a", question="Which?", **fields))
    assert says in said and "problem a: " in said and "\n" not in said


@pytest.mark.parametrize("answer", ["A", "(b)", "Mercury", "B) mercury"])
def test_golds_of_choices_in_any_form_are_kept(tmp_path: Path, answer: str) -> None:
    row = Problem(
        id="a", question="Which?", answer=answer, answer_type="choice", choices=["iron", "mercury", "", "tin"]
    )
    write_rows(tmp_path / "p.jsonl", [row])
    assert load_problems(tmp_path / "p.jsonl") == [row]


def test_a_question_twice_in_one_split_is_allowed(tmp_path: Path) -> None:
    rows = [Problem(id=name, question="Who pays?", answer="Ann") for name in "ab"]
    write_rows(tmp_path / "p.jsonl", rows)
    assert len(load_problems(tmp_path / "p.jsonl")) == 2


def test_pick_names_what_there_is() -> None:
    rows = [apples(0), apples(1, "test"), apples(2, "test")]
    assert [p.id for p in pick(rows, "test", "f.jsonl")] == ["p1", "p2"]
    assert [p.id for p in pick(rows, "test", "f.jsonl", 1)] == ["p1"]
    with pytest.raises(DataError) as error:
        pick(rows, "dev", "f.jsonl")
    assert (
        str(error.value) == 'f.jsonl: no problem with split "dev" (found: test, train); mark some rows "split": "dev"'
    )


def test_spread_takes_even_distances() -> None:
    rows = [apples(i) for i in range(10)]
    assert [p.id for p in spread(rows, 4)] == ["p0", "p2", "p5", "p7"]
    assert spread(rows, None) == rows == spread(rows, 99)


@given(n=st.integers(1, 60), limit=st.integers(1, 60))
def test_spread_gives_exactly_the_limit_in_order(n: int, limit: int) -> None:
    rows = [apples(i) for i in range(n)]
    places = [int(p.id[1:]) for p in spread(rows, limit)]
    assert len(places) == min(n, limit)
    assert places == sorted(set(places))
