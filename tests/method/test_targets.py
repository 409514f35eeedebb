"""The answer that rows to be learned from state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.answers import is_correct
from realm_cli.method.targets import target_answer
from realm_cli.prompts import LETTERS
from realm_cli.records import Problem

METALS = ["iron", "mercury", "", "zinc"]


def problem(answer: str, choices: list[str] | None = None, kind: str = "choice") -> Problem:
    return Problem(id="p", question="Q?", answer=answer, answer_type=kind, choices=choices)


@pytest.mark.parametrize(
    ("answer", "choices", "target"),
    [
        ("B", METALS, "B"),
        ("b", METALS, "B"),
        ("mercury", METALS, "B"),
        ("Mercury", METALS, "B"),
        ("B) mercury", METALS, "B"),
        ("zinc", METALS, "D"),
        ("150,150", ["A)150,150", "B)60,240"], "A"),
        ("7", ["5", "7"], "B"),
        ("C", ["5", "7", "5"], "C"),  # an option twice: the letter that the row gives
        ("lead", METALS, "lead"),  # no choice: as it stands
    ],
)
def test_a_choice_is_its_letter(answer: str, choices: list[str], target: str) -> None:
    assert target_answer(problem(answer, choices)) == target


@pytest.mark.parametrize("kind", ["number", "expr", "label", "text", "date", "list", "own"])
def test_other_answers_stand_as_they_are(kind: str) -> None:
    for answer in ("b", " 5.0 ", "mercury"):
        assert target_answer(problem(answer, METALS, kind)) == answer


WORDS = st.text("abcdefgxyz ", min_size=2, max_size=10).map(str.strip).filter(lambda text: len(text) > 1)


@given(st.lists(WORDS, min_size=2, max_size=26, unique=True), st.data())
def test_letter_and_text_have_one_target_which_is_right(choices: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(choices) - 1))
    for answer in (LETTERS[index], LETTERS[index].lower(), choices[index]):
        row = problem(answer, choices)
        assert target_answer(row) == LETTERS[index]
        assert is_correct(target_answer(row), row)
