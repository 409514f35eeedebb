"""Strict reading of completions (method.md sections 7 and 8, acceptance test 13.2)."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pace import paces
from realm_cli.method.parsing import MAX_TAGS, parse_completion
from realm_cli.prompts import NAMES, routed_text, solution_text

STEPS = ["3 boxes hold 4 pens each so 3 * 4 = 12", "take away the 2 that leak", "12 - 2 = 10 pens are left over"]
THINK = "<think>\n" + "\n".join(STEPS) + "\n</think>"
CHECK = "<check>\nA: right - adds up\nB: wrong @2 - forgot the leak\n</check>"
GOOD = f"{CHECK}\n{THINK}\n<answer>10</answer>"


def test_worked_example() -> None:
    parsed = parse_completion(GOOD, k=2)
    assert parsed.ok
    assert parsed.verdicts == [True, False]
    assert parsed.first_errors == [None, 2]
    assert parsed.answer == "10"
    assert parsed.think == "\n".join(STEPS)
    assert parsed.own_solution == f"{THINK}\n<answer>10</answer>"


def test_bare_worked_example() -> None:
    text = f"{THINK}\n<answer> 10 </answer>\n"
    parsed = parse_completion(text, k=0)
    assert parsed.ok
    assert (parsed.verdicts, parsed.first_errors, parsed.answer) == (None, None, "10")
    assert parsed.own_solution == text.strip()


def test_solve_first_moves_the_check_out_of_the_own_solution() -> None:
    text = f"{THINK}\n{CHECK}\n<answer>10</answer>"
    parsed = parse_completion(text, k=2, order="solve_first")
    assert parsed.ok
    assert parsed.own_solution == f"{THINK}\n<answer>10</answer>"
    assert not parse_completion(text, k=2).ok
    assert not parse_completion(GOOD, k=2, order="solve_first").ok


BROKEN = {
    "no check": GOOD.replace(CHECK + "\n", ""),
    "no think": GOOD.replace(THINK + "\n", ""),
    "no answer": GOOD.replace("<answer>10</answer>", ""),
    "open answer": GOOD.replace("</answer>", ""),
    "empty answer": GOOD.replace(">10<", "> <"),
    "two answers": GOOD + "<answer>10</answer>",
    "two checks": f"{CHECK}\n{GOOD}",
    "two thinks": GOOD.replace(THINK, f"{THINK}\n{THINK}"),
    "nested think": GOOD.replace("take away", "<think>take away</think>"),
    "answer inside think": f"{CHECK}\n{THINK.replace('take away', '<answer>10</answer>')}",
    "text before": "So: " + GOOD,
    "text between": GOOD.replace("</check>\n", "</check>\nnow I think\n"),
    "text after": GOOD + " done",
    "other order": f"{THINK}\n{CHECK}\n<answer>10</answer>",
    "upper case tag": GOOD.replace("<think>", "<THINK>"),
    "spaced tag": GOOD.replace("</answer>", "</ answer>"),
    "short think": GOOD.replace("\n".join(STEPS), "12 - 2 = 10"),
    "missing line": GOOD.replace("A: right - adds up\n", ""),
    "line twice": GOOD.replace("A: right - adds up", "A: right - adds up\nA: right - adds up"),
    "extra route": GOOD.replace("A: right", "C: right\nA: right"),
    "unknown name": GOOD.replace("A: right", "C: right"),
    "other verdict": GOOD.replace("A: right", "A: maybe"),
    "right with a step": GOOD.replace("A: right", "A: right @2"),
    "step zero": GOOD.replace("@2", "@0"),
    "reason without dash": GOOD.replace("right - adds", "right adds"),
    "empty reason": GOOD.replace("right - adds up", "right - "),
    "lower case name": GOOD.replace("A: right", "a: right"),
    "chatter in check": GOOD.replace("A: right", "Let us see\nA: right"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_forms_are_not_ok(name: str) -> None:
    assert BROKEN[name] != GOOD
    assert not parse_completion(BROKEN[name], k=2).ok


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("no check", "10"),
        ("text before", "10"),
        ("text after", "10"),
        ("short think", "10"),
        ("missing line", "10"),
        ("answer inside think", "10"),
        ("upper case tag", "10"),
        ("no answer", None),
        ("open answer", None),
        ("empty answer", None),
        ("two answers", None),
        ("spaced tag", None),
    ],
)
def test_answer_is_the_single_answer_block(name: str, answer: str | None) -> None:
    assert parse_completion(BROKEN[name], k=2).answer == answer


def test_a_second_answer_cannot_hide_behind_another_spelling() -> None:
    assert parse_completion("<ANSWER>9</ANSWER><answer>10</answer>", k=0).answer is None


def test_overlong_answers_are_none() -> None:
    assert parse_completion(f"<answer>{'9' * 1001}</answer>", k=0).answer is None
    assert parse_completion(f"<answer>{'9' * 1000}</answer>", k=0).answer == "9" * 1000


@pytest.mark.parametrize("name", ["no think", "no answer", "nested think", "two thinks", "answer inside think"])
def test_own_solution_is_empty_without_clean_blocks(name: str) -> None:
    assert parse_completion(BROKEN[name], k=2).own_solution == ""


def test_own_solution_needs_think_before_answer() -> None:
    assert parse_completion(f"<answer>10</answer>{THINK}", k=0).own_solution == ""


def test_own_solution_survives_text_outside_the_blocks() -> None:
    for name in ("text before", "text between", "text after", "missing line"):
        assert parse_completion(BROKEN[name], k=2).own_solution == f"{THINK}\n<answer>10</answer>"


def test_verdicts_are_read_leniently() -> None:
    check = "<check>\n route A - RIGHT, fine\n[Route B]: wrong at step 3\nC: wrong@1\nE: right\nhm\n"
    parsed = parse_completion(check + THINK, k=5)
    assert parsed.verdicts == [True, False, False, None, True]
    assert parsed.first_errors == [None, 3, 1, None, None]
    assert not parsed.ok


def test_contradicting_lines_are_missing_and_double_steps_too() -> None:
    parsed = parse_completion("<check>\nA: right\nA: wrong @1\nB: wrong @1\nB: wrong @2\nC: wrong @0\n</check>", k=3)
    assert parsed.verdicts == [None, False, False]
    assert parsed.first_errors == [None, None, None]


def test_missing_check_gives_a_none_per_route() -> None:
    parsed = parse_completion("nothing here", k=3)
    assert parsed.verdicts == [None] * 3
    assert parsed.first_errors == [None] * 3
    assert (parsed.think, parsed.answer, parsed.ok, parsed.own_solution) == ("", None, False, "")


def test_bare_completion_may_not_hold_a_check() -> None:
    parsed = parse_completion(GOOD, k=0)
    assert not parsed.ok
    assert parsed.verdicts is None
    assert parsed.answer == "10"


def test_think_is_read_as_far_as_it_goes() -> None:
    assert parse_completion("<think>\n1. a b", k=0).think == "1. a b"


def test_think_word_limit_is_exact() -> None:
    for words, ok in ((19, False), (20, True)):
        text = f"<think>{'w ' * words}</think><answer>1</answer>"
        assert parse_completion(text, k=0).ok is ok
        assert parse_completion(text, k=0, min_think_words=19).ok


def test_tag_flood_is_rejected_fast() -> None:
    flood = "<answer>10</answer>" * 200_000
    assert paces(partial(parse_completion, flood, k=4), 10) <= 10
    parsed = parse_completion(flood, k=4)
    assert (parsed.verdicts, parsed.answer, parsed.ok) == ([None] * 4, None, False)
    assert parse_completion(flood, k=0).verdicts is None
    assert MAX_TAGS >= 6


def test_32_tags_are_read_and_33_are_not() -> None:
    for tags, think in ((30, "\n".join(STEPS)), (31, "")):
        parsed = parse_completion(THINK + "<answer>" * tags, k=0)
        assert (parsed.think, parsed.answer, parsed.ok) == (think, None, False)


@pytest.mark.parametrize(
    "text",
    ["<" * 400_000, "< " * 200_000, "<think" * 60_000, "<check>" + "A:" * 200_000, "<check>\n" + " \n" * 200_000],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    assert not parse_completion(text, k=4).ok
    assert paces(partial(parse_completion, text, k=4), 40) <= 40


@given(
    st.lists(st.tuples(st.booleans(), st.none() | st.integers(1, 12)), min_size=1, max_size=8),
    st.sampled_from(["verify_first", "solve_first"]),
    st.from_regex(r"[a-z0-9]{1,9}( [a-z0-9]{1,9})?", fullmatch=True),
)
def test_reads_back_what_prompts_write(marks, order, answer) -> None:
    labels = [right for right, _ in marks]
    errors = [None if right else k for right, k in marks]
    text = routed_text(labels, errors, STEPS, answer, order)
    parsed = parse_completion(text, k=len(marks), order=order)
    assert parsed.ok
    assert (parsed.verdicts, parsed.first_errors, parsed.answer) == (labels, errors, answer)
    assert parsed.own_solution == solution_text(STEPS, answer)
    assert "<check>" not in parsed.own_solution


PIECES = [
    "<check>",
    "</check>",
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "A: right\n",
    "B: wrong @1\n",
    "w " * 20,
]


@given(st.lists(st.sampled_from([*PIECES, "<ANSWER>", "x", "\n"]), max_size=12), st.integers(0, 3))
def test_any_text_parses_and_ok_means_the_one_legal_form(pieces, k) -> None:
    text = "".join(pieces)
    parsed = parse_completion(text, k=k)
    if parsed.ok:
        for kind in ("think", "answer", *(["check"] if k else [])):
            assert text.count(f"<{kind}>") == text.count(f"</{kind}>") == 1
        assert text.rstrip().endswith("</answer>")
        assert parsed.own_solution
        assert None not in (parsed.verdicts or [])
    if parsed.answer is not None:
        assert text.lower().count("<answer>") == 1
    if k:
        assert len(parsed.verdicts) == len(parsed.first_errors) == k <= len(NAMES)
