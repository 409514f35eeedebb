"""Labels, choices and lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.choices import choice_key
from realm_cli.method.labels import (
    label_key,
    list_key,
    list_members,
    same_words,
    without_article,
    words,
)
from realm_cli.prompts import LETTERS, option_texts

METALS = ["iron", "mercury", "gold", "zinc"]
RATIOS = ["A)12000,20000", "B)18000,14000", "C)30000,2000"]


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        ("Yes.", "yes", True),
        ("yes, it does", "yes", True),
        ("True", "yes", True),
        ("no", "False", True),
        ("No, it does not apply", "no", True),
        ("No - the rule says nothing", "no", True),
        ("yes because it must", "yes", True),
        ("yes, but no", "yes", False),
        ("yes and no", "yes", False),
        ("no idea", "no", False),
        ("not sure", "no", False),
        ("是。", "是", True),
        ("否", "是", False),
        ("Entailment, because it follows", "Entailment", True),
        ("Entailment, contradiction", "Entailment", False),
        ("not hearsay", "hearsay", False),
        ("It is yes", "yes", True),
        ("maybe, it depends on the court", "maybe", True),
        ("yes, no", "yes", False),
        ("yes, true to form", "no", False),
    ],
)
def test_labels(answer: str, gold: str, same: bool) -> None:
    assert (label_key(answer, gold) == words(gold)) is same


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("B", 1),
        ("b)", 1),
        ("(B)", 1),
        ("Ｂ", 1),
        ("option B", 1),
        ("B) mercury", 1),
        ("B: mercury", 1),
        ("mercury", 1),
        ("Mercury.", 1),
        ("It is mercury", 1),
        ("B is correct", 1),
        ("B) iron", None),
        ("B or C", None),
        ("not B", None),
        ("B is wrong", None),
        ("E", None),
        ("copper", None),
    ],
)
def test_choices(answer: str, index: int | None) -> None:
    assert choice_key(answer, METALS) == (None if index is None else f"c:{index}")


def test_options_with_letters_of_their_own_gaps_and_twins() -> None:
    for answer in ("A", "A)", "A) 12000,20000", "12000,20000", "12000, 20000", "Rs. 12000, 20000"):
        assert choice_key(answer, RATIOS) == "c:0"
    assert choice_key("12000", RATIOS) is None and option_texts(RATIOS)[1] == "18000,14000"
    assert option_texts(["A) x", "y"]) == ["A) x", "y"]
    gap = ["iron", "", "mercury"]
    assert choice_key("C", gap) == choice_key("mercury", gap) == "c:2"
    assert choice_key("A", ["x", "y", "x"]) == choice_key("C", ["x", "y", "x"]) == "c:0"
    assert choice_key("4", ["3", "4", "5"]) == "c:1" and choice_key("$4.00", ["$3", "$4", "$5"]) == "c:1"
    assert choice_key("B", ["B", "A"]) == "c:1"
    assert choice_key("y", ["x1", "y", "z"]) == "c:1" and choice_key("p", ["p", "q", "r"]) == "c:0"
    assert choice_key("B", ["AA", "Aa", "aa"]) == choice_key("Aa", ["AA", "Aa", "aa"]) == "c:1"


def test_texts_and_lists_by_hand() -> None:
    assert same_words("9/3/2024", "09/03/2024") and not same_words("3/9/2024", "09/03/2024") and not same_words("", "")
    assert (
        without_article("an ellipse") == "ellipse"
        and without_article("a") == "a"
        and words("Non-Compliant!") == "non compliant"
    )
    assert list_members("North 1; South, 1") == ["North 1", "South, 1"]
    assert list_members("b and a", gold=["a", "b"]) == ["b", "a"]
    assert list_members("Smith, J. and Doe, A.", gold=["Smith, J.", "Doe, A."]) == ["Smith, J.", "Doe, A."]
    assert list_key(["2.0", "One"]) == list_key(["one", "2"]) != list_key(["one"])


@given(st.lists(st.text("abcdefgh", min_size=3, max_size=8), min_size=2, max_size=26, unique=True), st.data())
def test_every_choice_is_met_by_its_letter_and_its_text(options: list[str], data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(options) - 1))
    lettered = [f"{LETTERS[n]}. {text}" for n, text in enumerate(options)]
    for answer in (LETTERS[i], f"({LETTERS[i]})", options[i], f"{LETTERS[i]}) {options[i]}", lettered[i]):
        assert choice_key(answer, options) == choice_key(answer, lettered) == f"c:{i}"
    assert option_texts(lettered) == options


@given(st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=6, unique=True), st.randoms())
def test_lists_are_read_back_in_any_order(items: list[str], rng: object) -> None:
    shuffled = sorted(items, key=lambda _: rng.random())  # type: ignore[attr-defined]
    for glue in (", ", "; ", "\n"):
        assert list_key(list_members(glue.join(shuffled), gold=items)) == list_key(items)
    assert list_members(", ".join(items)) == items


@given(st.text(max_size=60), st.text(max_size=30))
def test_words_are_stable_and_nothing_crashes(text: str, gold: str) -> None:
    assert words(words(text)) == words(text) and same_words(text, text) == bool(words(text))
    assert without_article(words(text)) in words(text)
    label_key(text, gold)
    choice_key(text, [gold, "x"])
