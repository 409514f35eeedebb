"""A thought without its opening tag, and thoughts that come beside the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.parsing import parse_completion
from realm_cli.method.steps import parse_route
from realm_cli.method.thinking import one_think, with_opened_think, with_thought


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2 + 3 = 5</think><answer>5</answer>", "<think>\n2 + 3 = 5</think><answer>5</answer>"),
        ("a</ THINK >b", "<think>\na</ THINK >b"),
        ("a</think>b<think>c</think>", "<think>\na</think>b<think>c</think>"),
        ("<think>a</think>b", "<think>a</think>b"),
        ("  <THINK>a</think>b</think>", "  <THINK>a</think>b</think>"),
        ("no tag", "no tag"),
        ("", ""),
        ("<answer>5</answer>", "<answer>5</answer>"),
    ],
)
def test_an_opening_tag_that_the_template_wrote_is_put_back_once(text: str, want: str) -> None:
    assert with_opened_think(text) == want
    assert with_opened_think(want) == want


def test_the_form_counts_then() -> None:
    parsed = parse_completion(with_opened_think("two and three\n</think>\n<answer>5</answer>"), k=0, min_think_words=3)
    assert parsed.ok and parsed.think == "two and three" and parsed.own_solution


STEPS = "1. 2 + 3 = 5\n2. 5 + 4 = 9"
OTHER = "1. First 2 and 3 are 5.\n2. And then 4 more are 9."


@pytest.mark.parametrize(
    ("answer", "thought", "want"),
    [
        ("<answer>9</answer>", STEPS, f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"),
        ("\n\n<answer>9</answer>", f"\n{STEPS}\n", f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"),
        ("<answer>9</answer>", f"<think>\n{STEPS}\n</think>", f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"),
        ("So it is 9.", STEPS, f"<think>\n{STEPS}\n</think>\nSo it is 9."),
        # a block of its own: both, one after the other
        (
            f"<think>\n{OTHER}\n</think>\n<answer>9</answer>",
            STEPS,
            f"<think>\n{STEPS}\n{OTHER}\n</think>\n<answer>9</answer>",
        ),
        (
            f"<check>\nA: right\n</check>\n<think>{OTHER}</think>\n<answer>9</answer>",
            STEPS,
            f"<check>\nA: right\n</check>\n<think>\n{STEPS}\n{OTHER}\n</think>\n<answer>9</answer>",
        ),
        (
            "<check>\nA: right\n</check>\n\n<answer>9</answer>",
            STEPS,
            f"<check>\nA: right\n</check>\n<think>\n{STEPS}\n</think>\n<answer>9</answer>",
        ),
        # repeated: once
        (f"<think>\n{STEPS}\n</think>\n<answer>9</answer>", STEPS, f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"),
        (f"{STEPS}\n</think>\n<answer>9</answer>", STEPS, f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"),
        (f"{STEPS}\n\n<answer>9</answer>", STEPS, f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"),
        ("1.  2 + 3 = 5 2. 5 + 4 = 9\n<answer>9</answer>", STEPS, f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"),
        ("<think>2 + 3 = 5</think><answer>9</answer>", STEPS, f"<think>\n{STEPS}\n</think><answer>9</answer>"),
        (STEPS, STEPS, STEPS),
        ("2+3=5\n<answer>5</answer>", "2+3=5", "<think>\n2+3=5\n</think>\n<answer>5</answer>"),
        ("9 apples", "9", "<think>\n9\n</think>\n9 apples"),
        # only an end in the answer
        ("</think>\n<answer>9</answer>", STEPS, f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"),
        ("<think></think><answer>9</answer>", STEPS, f"<think>\n{STEPS}\n</think><answer>9</answer>"),
        # nothing beside it
        ("<answer>9</answer>", "", "<answer>9</answer>"),
        ("a</think>9", " \n", "<think>\na</think>9"),
        # all of it in the thought
        ("", f"{STEPS}\n</think>\n<answer>9</answer>", f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"),
        (" ", f"{STEPS}\n<answer>9</answer>", f"{STEPS}\n<answer>9</answer>"),
        ("", STEPS, f"<think>\n{STEPS}\n</think>"),
    ],
)
def test_a_thought_beside_an_answer_becomes_one_block(answer: str, thought: str, want: str) -> None:
    assert with_thought(answer, thought) == want
    if answer.strip() and thought.strip() and want != answer:
        assert with_thought(want, thought) == want
        assert want.count("<think>") == want.count("</think>") == 1


def test_a_thought_that_was_cut_stays_open() -> None:
    assert with_thought("", STEPS, cut=True) == f"<think>\n{STEPS}"
    assert with_thought("", "I write <answer>8</answer>", cut=True) == "<think>\nI write [answer]8[/answer]"


def test_tags_that_a_thought_talks_about_are_no_form() -> None:
    thought = (
        "The form is <think> steps </think> <answer>8</answer>, no < / ANSWER > twice.\nSo I take 9 as the result."
    )
    parsed = parse_completion(with_thought("<answer>9</answer>", thought), k=0, min_think_words=5)
    assert parsed.ok and parsed.answer == "9" and "[think] steps [/think] [answer]8[/answer]" in parsed.think


@pytest.mark.parametrize("answer", ["<answer>9</answer>", f"<think>{OTHER}</think><answer>9</answer>"])
def test_the_form_is_right_and_the_route_has_the_steps(answer: str) -> None:
    text = with_thought(answer, STEPS)
    parsed = parse_completion(text, k=0, min_think_words=5)
    assert parsed.ok and parsed.answer == "9" and parsed.own_solution
    steps, final = parse_route(text)
    assert steps[:2] == ["2 + 3 = 5", "5 + 4 = 9"] and final == "9"


@pytest.mark.parametrize(
    ("text", "kept", "left"),
    [
        (
            f"<think>\n{STEPS}\n</think>\n\n<think>\n{OTHER}\n</think>\n<answer>9</answer>",
            f"<think>\n{STEPS}\n{OTHER}\n</think>\n<answer>9</answer>",
            f"<think>\n{OTHER}\n</think>\n<answer>9</answer>",
        ),
        (
            f"{STEPS}</think><check>\nA: right\n</check><think>{OTHER}</think><answer>9</answer>",
            f"<check>\nA: right\n</check><think>\n{STEPS}\n{OTHER}\n</think><answer>9</answer>",
            f"<check>\nA: right\n</check><think>{OTHER}</think><answer>9</answer>",
        ),
        (
            "<think>\n\n</think>\n\n<think>a</think><answer>9</answer>",
            "<think>a</think><answer>9</answer>",
            "<think>a</think><answer>9</answer>",
        ),
        ("<think>a</think><answer>9</answer>",) * 3,
        ("<think>a", "<think>a", "<think>a"),
        ("<answer>9</answer>",) * 3,
        ("<think>a<think>b</think>c",) * 3,
        ("<think>a</think>b</think>c",) * 3,
        ("",) * 3,
    ],
)
def test_two_blocks_of_thought_become_one(text: str, kept: str, left: str) -> None:
    assert one_think(text) == kept and one_think(kept) == kept
    assert one_think(text, keep=False) == left


PARTS = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>5</answer>", "one ", "two\n", "<check>", ""]), max_size=8
)


@given(PARTS.map("".join), PARTS.map("".join))
def test_an_opener_is_written_once_and_no_word_is_lost(text: str, thought: str) -> None:
    opened = with_opened_think(text)
    assert (
        with_opened_think(opened) == opened
        and opened.endswith(text)
        and opened.count("<think>") <= text.count("<think>") + 1
    )
    assert with_thought(text, "") == opened
    joined = with_thought(text, thought)
    assert all(word in joined for word in ("one", "two") if word in text)
    assert one_think(text).count("<think>") <= max(1, opened.count("<think>"))
