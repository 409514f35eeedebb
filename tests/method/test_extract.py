"""Where a text states its answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.extract import (
    flexible_answer,
    last_number,
    numbers_in,
    stated_answer,
    strict_answer,
)
from realm_cli.method.unwrap import boxed, brace_end, clean, plain_money, unwrap


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("tag", "<answer>\\boxed{24}</answer>", "24"),
        ("tag", "<answer>The answer is $\\frac{14}{3}$.</answer>", "\\frac{14}{3}"),
        ("line", "The answer is: $72.", "$72"),
        ("line", "Answer: 24\nConfidence: 95", "24"),
        ("line", "Final Answer: The final answer is $24$. I hope it is correct.", "24"),
        ("line", "A is wrong, so the answer is E", "E"),
        ("line", "I think the answer is 7.", "7"),
        ("line", "Final Answer: The largest $n$ is 34.", "34"),
        ("heading", "**Answer:**\n24", "24"),
        ("heading", "## Final answer\n\n24 clips", "24 clips"),
        ("hashes", "so 48/2 = 24\n#### 72", "72"),
        ("boxed", "so $\\boxed{(3,4]}$ it is", "(3,4]"),
        ("boxed", "$\\boxed{2}, \\boxed{3}$ and $\\boxed{5}$", "2, 3, 5"),
        ("boxed", "Answer: 5 at first, but \\boxed{6}", "6"),
        ("bold", "Therefore, she sold **72** clips.", "72"),
        ("span", "Therefore $x \\geq 5$ is the solution.", "x \\geq 5"),
        ("span", "Answer \\[\n9\n\\]", "9"),
        ("line of its own", "First.\nx^3-6+3x", "x^3-6+3x"),
        ("line of its own", "2π", "2π"),
        ("line of its own", "Thus:\n- $5 million", "- $5 million"),
        ("words", "Let me see.\nYes.", "Yes"),
        ("words", "Therefore, A is correct.", "Therefore, A is correct"),
        ("number", "Janet makes $18 every day.", "$18"),
        ("number", "He runs 3*180=<<3*180=540>>540 meters a week.", "540"),
        ("number", "A profit of $70,000 on a house that cost $80,000.", "$80,000"),
        ("number", "It fell by $5 million last year.", "$5 million"),
        ("number", "We are left with minus 5 apples", "minus 5"),
        ("unfinished", "it would be 12 + 12", None),
        ("list", "- Boys: 20\n- Girls: 22\n- Total: 42", "42"),
        ("money", "She sells 9 eggs and makes \\$18 every day.", "$18"),
        ("unit", "eGFR = 60 mL/min/1.73 m^2", "60 mL/min/1.73 m^2"),
        ("bracket", "The vertex is (-3, 2).", "(-3,2)"),
        ("bound", "She has at least 5 apples left.", None),
        ("parts", "It takes 2 hours and 5 minutes.", None),
        ("sentence", "Answer: She has 5 apples left.", "5"),
        ("unfinished", "it equals sqrt(3)", None),
    ],
)
def test_answers_by_place(kind: str, text: str, answer: str | None) -> None:
    assert flexible_answer(text) == answer, kind


def test_types_that_are_words_take_the_last_line() -> None:
    text = "The metal melts at 30 degrees.\nSo at 40 degrees it is gallium"
    assert flexible_answer(text, "choice") == "So at 40 degrees it is gallium" and flexible_answer(text) == "40"
    assert flexible_answer("x" * 500, "label") is None


def test_by_hand() -> None:
    assert plain_money("$\\$5$") == "$5" and plain_money("$5") == "$5"
    assert boxed("so $\\boxed{2}$ and $\\boxed{3}$") == (4, "2, 3") and boxed("no") is None
    assert brace_end("{a{b}c}", 1) == 6 and brace_end("{a", 1) is None and brace_end("\\{a\\}}", 2) == 5
    assert (
        last_number("of 3 boys 7 ran") == "7" and last_number("from 3 to 7 km") is None and last_number("none") is None
    )
    assert unwrap("**$5$**.") == "5" and unwrap("$5") == "$5" and unwrap("$28$ percent") == "28 percent"
    assert clean("\\text{New York}") == "New York" and strict_answer("<answer>5</answer>") == "5"
    assert stated_answer("It is 5") is None and numbers_in("1,250 and 3") == ["1250", "3"]


@given(
    st.integers(-(10**9), 10**9), st.sampled_from(["{}", "${}$", "**{}**", "\\boxed{{{}}}", "\\({}\\)", "`{}`", "{}."])
)
def test_a_number_is_taken_out_of_everything_that_may_stand_around_it(n: int, around: str) -> None:
    text = around.format(n)
    assert unwrap(text) == clean(text) == str(n) and plain_money(text) == text
    assert strict_answer(f"<answer>{text}</answer>") == text.strip()
    for said in (f"The answer is {text}", f"<answer>{text}</answer>", f"Answer:\n{text}"):
        assert flexible_answer(said) == stated_answer(said) == str(n)
    assert last_number(f"we get {n}") == str(n) and numbers_in(str(n)) == [str(n)]
    assert brace_end(f"{{{n}}}", 1) == len(str(n)) + 1 and boxed(f"\\boxed{{{n}}}") == (0, str(n))
