"""13 words in a row: what touches, what does not, templates."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.contamination import COMMON, contamination, word_runs

LONG = "a train leaves the north station at nine and meets another one at noon near the old mill"


def test_runs_of_words() -> None:
    assert word_runs("One, two; THREE!", 2) == {("one", "two"), ("two", "three")}
    assert word_runs("One two", 13) == {("one", "two")}
    assert word_runs("?!", 13) == set()
    assert word_runs("pays 1,250.50 now", 2) == {("pays", "1,250.50"), ("1,250.50", "now")}
    assert len(word_runs(LONG)) == len(LONG.split()) - 12


def test_thirteen_in_a_row_touch_and_twelve_do_not() -> None:
    words = LONG.split()
    shared = {n: "Yesterday " + " ".join(words[:n]) + " it rained" for n in (12, 13)}
    train = {"t": LONG}
    assert contamination(train, {"q": shared[13]}) == {"q": "t"}
    assert contamination(train, {"q": shared[12]}) == {}
    assert contamination(train, {"q": LONG.upper() + "?"}) == {"q": "t"}


def test_a_short_question_must_stand_whole_in_one() -> None:
    assert contamination({"t": "What is 2 + 3?"}, {"q": "what is 2 + 3", "r": "What is 2 + 4?"}) == {"q": "t"}
    assert contamination({"t": "What is 2 + 3?"}, {"q": "What is 2 - 3?", "r": "What is 2 * 3?"}) == {}
    assert contamination({"t": "a well-known case"}, {"q": "A well known case"}) == {"q": "t"}


def test_a_template_is_no_leak() -> None:
    stem = "A parcel of the household family goes to a zone of the tariff today and weighs"
    train = {f"t{i}": f"{stem} {i} kg" for i in range(COMMON + 1)}
    assert contamination(train, {"q": f"{stem} 99 kg"}) == {}
    assert contamination(train, {"q": f"{stem} 3 kg"}) == {"q": "t3"}  # the whole question stands there
    few = dict(list(train.items())[:COMMON])
    assert contamination(few, {"q": f"{stem} 99 kg"}) == {"q": "t0"}


def test_the_limits_to_the_unit() -> None:
    stem = "A parcel of the household family goes to a zone of the tariff today and weighs"
    train = {f"t{i}": f"{stem} {i} kg" for i in range(11)}
    assert contamination(train, {"q": f"{stem} 99 kg"}) == {}  # of eleven questions: a template
    assert contamination({k: v for k, v in train.items() if k != "t3"}, {"q": f"{stem} 99 kg"}) == {"q": "t0"}
    assert word_runs("a " * 99_999 + "bcd", 1) == {("a",), ("bc",)}  # 200,000 characters are compared


@given(st.lists(st.text(max_size=60), max_size=8))
def test_each_question_touches_itself_and_no_crash(texts: list[str]) -> None:
    train = {str(i): text for i, text in enumerate(texts)}
    touched = contamination(train, train)
    assert set(touched) == {name for name, text in train.items() if word_runs(text)}
    assert contamination({}, train) == {}


def test_the_example_named_is_the_first_run_in_alphabetical_order() -> None:
    first, second = "a " + " ".join("bcdefghijklm"), "z " + " ".join("nopqrstuvwxy")
    assert contamination({"t1": second, "t2": first}, {"q": f"{second} {first}"}) == {"q": "t2"}
