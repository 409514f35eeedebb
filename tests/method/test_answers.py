"""The grader: what is read as the answer, what equals what, and that nothing hangs it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import installed_checker
from method.answer_cases import CASES, Case
from pace import paces
from realm_cli.errors import ConfigError
from realm_cli.method.answers import (
    TYPES,
    answer_key,
    as_fraction,
    clean,
    flexible_answer,
    is_correct,
    known_types,
    stated_answer,
    strict_answer,
    to_number,
)
from realm_cli.records import Problem

CITIES = ["London", "Paris", "New York", "York", "The Hague"]


def problem(gold: str, kind: str, **fields: object) -> Problem:
    return Problem.model_validate({"id": "p1", "question": "q", "answer": gold, "answer_type": kind, **fields})


# ---- reading


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\n6 * 12 = 72\n</think>\n<answer>72</answer>", "72"),
        ("<answer>\n New York \n</answer>", "New York"),
        ("<answer>3</answer> <answer>4</answer>", None),
        ("<answer>3</answer> <ANSWER>4</ANSWER>", None),
        ("<answer>3", None),
        ("Answer: 3", None),
        ("<answer></answer>", None),
        ("", None),
    ],
)
def test_strict(text, answer) -> None:
    assert strict_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>3</answer> no: <answer>4</answer>", "4"),
        ("Answer: 1\n<answer>4</answer>\nAnswer: 9", "4"),
        ("Answer: 71\n...\nAnswer: 72", "72"),
        ("**Final answer:** $72$.", "72"),
        ("Half is 24. So the answer is 72.", "72"),
        ("The final answer is: \\boxed{72}", "72"),
        ("Answering this needs 3 steps.\n#### 72", "72"),
        ("#### Step 1\nadd\n#### yes", "yes"),
        ("#### Step 1\n4 + 5 = 9", "9"),
        ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
        ("it grows to 1,250 in all", "1,250"),
        ("\\boxed{7", None),
        ("no idea", "no idea"),
        ("", None),
    ],
)
def test_flexible(text, answer) -> None:
    assert flexible_answer(text) == answer


def test_an_answer_block_counts_from_the_first_character_on() -> None:
    assert stated_answer("<answer>4</answer>") == "4" and stated_answer("4</answer>") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{\\boxed{72}} left", "72 left"),
        ("a \\boxed{1} b \\boxed{2}", "a 1 b 2"),
        ("\\text{New York}.", "New York"),
        ("<answer> **72** </answer>", "72"),
        ("`x`", "x"),
        ("$1,250$", "1,250"),
        ("1,250", "1,250"),
        ("*.", None),
        ("", None),
        ("\\boxed{7", "\\boxed{7"),
        ("\\boxed{" * 4 + "7" + "}" * 4, "7"),
    ],
)
def test_cleaning_by_hand(text, answer) -> None:
    assert clean(text) == answer


# ---- equality


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "72",
            "72|72.0|$72|72 €|USD 72|72 credits|72kg|72 kg|72%|7.2e1|**72**|\\boxed{72}|144/2|\\frac{144}{2}|72 or 72",
            "3 or 4|72 or 73|-72|\N{MINUS SIGN}72|-$72|72 million|36+36|7 2|72x|nan|inf|1/0|\\boxed{71} \\boxed{72}",
        ),
        ("4", "4|4/1|$4.00", "2+2|4+4|4 x 4|4-4|4.0.0"),
        ("1/2", "0.5|.5|1/2|\\dfrac{1}{2}|50/100", "1/3|2|1 2"),
        ("-5", "-5|\N{MINUS SIGN}5|-$5|-5.0", "5|$5"),
        ("1,000,000", "1000000|1,000,000|1{,}000{,}000|1e6|$1,000,000.00|1\u00a0000\u00a0000", "1|1000|1.000.00"),
        ("10:30", "10:30", "1030|10.30|10"),
    ],
)  # fmt: skip
def test_numbers(gold, right, wrong) -> None:
    row = problem(gold, "number")
    assert [a for a in right.split("|") if not is_correct(a, row)] == []
    assert [a for a in wrong.split("|") if is_correct(a, row)] == []
    assert {answer_key(a, row) for a in right.split("|")} == {answer_key(gold, row)}


def test_tolerance_is_absolute_and_decimal() -> None:
    row = problem("1.0", "number", tolerance=0.3)
    assert is_correct("1.3", row) and is_correct("0.7", row)  # 0.3 as a binary number is below 3/10
    assert not is_correct("1.3000001", row)
    assert answer_key("1.3", row) == answer_key("1", row) == "n:1"
    assert answer_key("1.4", row) == "n:7/5"
    for odd in (float("inf"), float("nan")):
        assert is_correct("1", row.model_copy(update={"tolerance": odd}))
        assert not is_correct("2", row.model_copy(update={"tolerance": odd}))


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("\\frac{1}{2}", ["0.5", "1/2", "\\frac12", "$\\frac{1}{2}$"], ["2", "1/2 or 1/3", "", "\\frac{1}{3}"]),
        ("x^2+2x+1", ["(x+1)^2", "x^{2} + 2x + 1", "1+2x+x^2"], ["x^2", "x^2+2x", "(x+1)^2 and x"]),
        ("1,250", ["1250", "1,250.0"], ["125", "1250, 1251"]),
        ("2\\sqrt{3}", ["\\sqrt{12}"], ["\\sqrt{6}"]),
    ],
)
def test_expressions(gold, right, wrong) -> None:
    row = problem(gold, "expr")
    assert [a for a in right if not is_correct(a, row)] == []
    assert [a for a in wrong if is_correct(a, row)] == []
    assert {answer_key(a, row) for a in right} == {answer_key(gold, row)}


@pytest.mark.parametrize(
    "bomb",
    ["9^{9^{9^9}}", "9^9^9^9", "9**9**9", "((9^{9999})^{9999})^{9999}", "10000!", "9!!", "\\int_0^1 x dx",
     "9^{(1)(99999999)}", "(x+1)^{100}(y+2)^{99}", "\\binom{99999}{5000}", "(" * 190, "9" * 150, "x" * 999,
     "\\frac{" * 30, "\\tan(" * 5 + "1" + ")" * 5, "\\sin(" * 8 + "1" + ")" * 8, "(x+y+z)^5(x+y-z)^4(a+b)^3",
     "*".join(f"(x_{i}+y_{i})" for i in range(12)), "\\cup".join(f"[{i},{i}]" for i in range(15)),
     "(" * 60 + "x" + ")" * 60, "\\frac{1}{" * 17 + "x" + "}" * 17,
     "\\{" + ",".join(f"x_{i}" for i in range(40)) + "\\}"],
)  # fmt: skip
def test_no_expression_hangs_the_grader(bomb) -> None:
    assert is_correct("1+x^2", problem("x^2+1", "expr"))  # the library is loaded once: no part of the answer's time
    refused = []
    assert paces(lambda: refused.append(not is_correct(bomb, problem("x^2+1", "expr"))), tries=1) < 40
    assert refused == [True]  # all but a few before Math-Verify sees them
    assert is_correct(bomb, problem(bomb, "expr"))  # as it is written


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("B", 1), ("b", 1), ("(B)", 1), ("B.", 1), ("option B", 1), ("The answer is B", 1),
        ("B) Paris", 1), ("B: Paris", 1), ("Paris", 1), ("paris.", 1), ("It is Paris", 1), ("New York", 2),
        ("It is New York.", 2), ("York", 3),
        ("A or B", None), ("A and B", None), ("A) Paris", None), ("A or Paris", None), ("Paris or London", None),
        ("not Paris", None), ("Z", None), ("Rome", None), ("", None), ("A lovely town, Paris", 1), ("E: The Hague", 4),
        ("I would say E", 4), ("I would say A, or E", None),
    ],
)  # fmt: skip
def test_choices(answer, index) -> None:
    row = problem("B", "choice", choices=CITIES)
    assert answer_key(answer, row) == (None if index is None else f"c:{index}")
    assert is_correct(answer, row) is (index == 1)
    assert is_correct(answer, problem("Paris", "choice", choices=CITIES)) is (index == 1)


def test_choices_with_letters_in_them_or_without_texts() -> None:
    row = problem("B", "choice", choices=["A) 5", "B) 7", "C) 12"])
    assert [is_correct(a, row) for a in ("7", "B", "B) 7", "5", "5 or 7")] == [True, True, True, False, False]
    assert is_correct("(c)", problem("C", "choice")) and not is_correct("C or D", problem("C", "choice"))


@pytest.mark.parametrize(
    ("kind", "gold", "right", "wrong"),
    [
        (
            "label",
            "Yes",
            ["yes", "YES.", "**Yes**", '"Yes"', "\\text{Yes}"],
            ["Yes and No", "No", "yes no", "yeah", "."],
        ),
        ("label", "non-compliant", ["Non compliant"], ["compliant"]),
        ("label", "<", ["<"], [">", "="]),
        ("label", "C++", ["c++"], ["C", "C#"]),
        ("text", "New York", ["new  york", "New York.", "(New York)"], ["York", "New York City", "NewYork"]),
        ("text", "3.5 m", ["3.5 m"], ["35 m", "3 5 m"]),
    ],
)
def test_labels_and_texts(kind, gold, right, wrong) -> None:
    row = problem(gold, kind)
    assert [a for a in right if not is_correct(a, row)] == []
    assert [a for a in wrong if is_correct(a, row)] == []
    assert {answer_key(a, row) for a in right} == {answer_key(gold, row)}


@pytest.mark.parametrize("kind", ["number", "expr", "choice", "label", "text"])
def test_long_answers_are_wrong_and_no_text_crashes(kind) -> None:
    row = problem("7", kind, choices=["7", "8"])
    for text in (None, "", " ", "7" * 10_000, "7 " * 501, "7\n" * 600, "\\boxed{" * 140, "1," * 499, "1/" * 499, "\0"):
        assert not is_correct(text, row)
        answer_key(text, row)
    for flood in ("<answer>", "####\n", "Answer: ", "\\boxed{", "*", "answer is ", "-", "1,"):
        for read in (flexible_answer, strict_answer):
            assert paces(partial(read, flood * 20_000), 40) <= 40
    assert answer_key("7" * 1001, row) is None


@given(st.text(max_size=60), st.sampled_from(["number", "label", "text", "choice"]))
def test_right_means_the_gold_key(text, kind) -> None:
    row = problem("B" if kind == "choice" else "12", kind, choices=CITIES)
    key = answer_key(text, row)
    assert is_correct(text, row) is (key is not None and key == answer_key(row.answer, row))


@given(st.integers(-(10**12), 10**12), st.integers(0, 4))
def test_numbers_are_exact(value, decimals) -> None:
    text = f"{value / 10**decimals:,.{decimals}f}" if abs(value) < 10**9 else f"{value:,}"
    number = to_number(text)
    assert number == to_number(text.replace(",", ""))
    row = problem(text, "number")
    assert is_correct(f"${text} credits", row) and not is_correct(f"{text} or {value + 10**9 + 1}", row)
    assert number is not None and not is_correct(str(number + 1), row)


def test_unreadable_answers_do_not_vote() -> None:
    assert [answer_key(a, problem("7", "number")) for a in ("3 or 4", "some", "?", None)] == [None] * 4
    assert answer_key("Half past", problem("10:30", "number")) == "t:halfpast"
    assert [answer_key(a, problem("Yes", "label")) for a in ("?", "...", "No.")] == [None, None, "t:no"]


def test_limits_of_length_are_exact() -> None:
    assert is_correct("a" * 1000, problem("a" * 1000, "label")) and not is_correct(
        "a" * 1001, problem("a" * 1001, "label")
    )
    assert as_fraction("0." + "1" * 58) == Fraction("0." + "1" * 58) and as_fraction("0." + "1" * 59) is None
    assert as_fraction("1" * 60) == int("1" * 60) and as_fraction("1" * 61) is None


# ---- every type, by the guide of docs/your-domain.md


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.type}: {case.what[:40]}")
def test_the_guide_of_answer_types(case: Case) -> None:
    row = problem(case.gold, case.type, **case.fields)
    assert [a for a in (*case.right, case.gold) if not is_correct(a, row)] == []
    assert [a for a in case.wrong if is_correct(a, row)] == []
    assert {answer_key(a, row) for a in case.right} == {answer_key(case.gold, row)}


def test_every_built_in_type_is_in_the_guide() -> None:
    assert {case.type for case in CASES} == set(TYPES)


# ---- plug-ins


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[None]:
    """An installed package that checks answer_type `parity`, and one whose module is gone."""
    code = "def check(answer, gold):\n    return int(answer) % 2 == int(gold) % 2\n"
    with installed_checker(tmp_path, code, "parity = a_checker:check\nbroken = gone_for_good:check"):
        yield


@pytest.mark.usefixtures("plugin")
def test_plugged_in_checkers() -> None:
    row = problem("4", "parity")
    assert is_correct("10", row) and not is_correct("9", row) and not is_correct("2" * 1001, row)
    assert answer_key("10", row) == answer_key("4", row) != answer_key("9", row)
    assert known_types() == ["number", "expr", "choice", "label", "text", "date", "list", "broken", "parity"]
    with pytest.raises(
        ConfigError, match="answer_type 'broken': its checker cannot be loaded .*gone_for_good.*reinstall it"
    ):
        is_correct("1", problem("1", "broken"))


def test_unknown_types_are_named() -> None:
    for call in (is_correct, answer_key):
        with pytest.raises(ConfigError) as error:
            call("1", problem("1", "sudoku"))
        assert str(error.value) == (
            "problem p1: unknown answer_type 'sudoku'; known: number, expr, choice, label, text, date, list"
        )
