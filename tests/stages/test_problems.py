"""Problem sets: what is refused, and how problems are chosen."""

from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize("twin", ["Who pays?", "who  PAYS", "  Who, pays!? "])
def test_a_question_in_two_splits_is_refused(tmp_path: Path, twin: str) -> None:
    first = Problem(id="a", question="Who pays?", answer="Ann", split="train")
    said = refusal(tmp_path / "p.jsonl", first, Problem(id="b", question=twin, answer="Ann", split="test"))
    assert said.endswith(
        "problems a (train) and b (test) ask the same question; remove one, else the test is not held out"
    )


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
