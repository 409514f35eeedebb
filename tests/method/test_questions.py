"""When two questions are the same one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.questions import compared, folded, question_key


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Who pays?", "  who\n PAYS? ", True),
        ("caf\u00e9", "CAFE\u0301", True),
        ("Straße", "STRASSE", True),
        ("What is 1 + 1?", "What is 1 - 1?", False),
        ("What is 1 - 1?", "What is 1 1?", False),
        ("Is x < y?", "Is x > y?", False),
        ("Is it 1.5?", "Is it 15?", False),
        ("C++", "C#", False),
        ("Who pays?", "Who pays!", False),
    ],
)
def test_case_and_blanks_are_folded_and_signs_kept(one: str, other: str, same: bool) -> None:
    assert (question_key(one) == question_key(other)) == same


def test_choices_belong_to_the_key_in_any_order() -> None:
    key = question_key("Which?", ["x", "", "Y"])
    assert key == question_key("which?", ["y", "X"]) != question_key("Which?", ["x", "z"])
    assert key != question_key("Which?") == question_key("Which?", [])
    assert compared("Which?", ["x", "", "Y"]) == "Which?\nx\nY" and compared("Which?") == "Which?"


def test_folding_by_hand() -> None:
    assert folded(" A\u0301  -1\n? ") == "\u00e1 -1 ?"


@given(st.text(max_size=60))
def test_a_key_is_its_own_key(text: str) -> None:
    key = question_key(text)
    assert question_key(key) == key == folded(text) and compared(text, [text]) == (f"{text}\n{text}" if text else "")
    assert question_key(unicodedata.normalize("NFD", text)) == key == question_key(f" {text}\n")
