"""Every template: what students and teachers are shown, word for word where it matters."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pace import paces
from realm_cli import prompts
from realm_cli.method.parsing import parse_completion
from realm_cli.prompts import (
    LETTERS,
    bare_messages,
    check_text,
    hinted_messages,
    lemma_text,
    numbered,
    options_text,
    question_text,
    render_route,
    route_messages,
    routed_messages,
    routed_text,
    rule_question_messages,
    ruled_messages,
    solution_text,
    teacher_messages,
)
from realm_cli.records import Problem, ShownRoute

RIGHT = ShownRoute(route_id="r1", steps=["2 + 3 = 5", "5 * 2 = 10"], answer="10", label=True)
WRONG = ShownRoute(route_id="r2", steps=["2 + 3 = 6", "6 * 2 = 12"], answer="12", label=False, first_error=1)
EARLIER = "80a1ab0dc7c4cbcf7955bf1d23ff6b8f7179dc1c3730117fe17a16549022a258"
LINE = st.from_regex(r"[a-z0-9 =+]{1,30}", fullmatch=True)


def content(messages: list[dict[str, str]]) -> str:
    return "\n".join(message["content"] for message in messages)


def test_bare_full() -> None:
    assert bare_messages("What is 2 + 2?") == [
        {"role": "system", "content": "You solve problems by careful reasoning."},
        {
            "role": "user",
            "content": "Problem:\nWhat is 2 + 2?\nUse exactly this form:\n<think>\nyour own steps, one per line\n"
            "</think>\n<answer>final answer</answer>",
        },
    ]


def test_bare_terse_is_the_question_alone() -> None:
    assert bare_messages("What is 2 + 2?", "terse") == [{"role": "user", "content": "What is 2 + 2?"}]


def test_routes_are_sampled_with_the_bare_prompt() -> None:
    problem = Problem(id="p", question="Q?", answer="1", gold_solution="secret", rule_ids=["R1"])
    assert route_messages(problem) == bare_messages("Q?")
    assert route_messages(problem, "terse") == bare_messages("Q?", "terse")


def test_render_route() -> None:
    assert render_route("A", RIGHT) == "[Route A]\n1. 2 + 3 = 5\n2. 5 * 2 = 10\nAnswer: 10"


def test_render_route_hidden_hides_the_last_result_too() -> None:
    text = render_route("B", RIGHT, hide_answer=True)
    assert text == "[Route B]\n1. 2 + 3 = 5\n2. 5 * 2 = [hidden]\nAnswer: [hidden]"
    worded = RIGHT.model_copy(update={"steps": ["so it is ten"]})
    assert render_route("B", worded, hide_answer=True) == "[Route B]\n1. so it is ten\nAnswer: [hidden]"


def test_render_route_cut() -> None:
    assert render_route("C", RIGHT, shown_steps=1) == "[Route C]\n1. 2 + 3 = 5\n[cut]"
    assert render_route("C", RIGHT, shown_steps=1, hide_answer=True) == "[Route C]\n1. 2 + 3 = 5\n[cut]"
    assert render_route("C", RIGHT, shown_steps=2) == render_route("C", RIGHT)


def test_routed_terse() -> None:
    (message,) = routed_messages("Q?", [RIGHT, WRONG], style="terse")
    assert message["content"] == (
        "Q?\n[Route A]\n1. 2 + 3 = 5\n2. 5 * 2 = 10\nAnswer: 10\n"
        "[Route B]\n1. 2 + 3 = 6\n2. 6 * 2 = 12\nAnswer: 12\n[Check]"
    )


@pytest.mark.parametrize(
    ("order", "first", "forms"),
    [
        ("verify_first", "First check each route:", ["<check>", "<think>", "<answer>"]),
        ("solve_first", "First solve the problem yourself. Then check each route:", ["<think>", "<check>", "<answer>"]),
    ],
)
def test_routed_full_asks_in_the_given_order(order: prompts.Order, first: str, forms: list[str]) -> None:
    text = routed_messages("Q?", [RIGHT, WRONG], order=order)[1]["content"]
    assert "Here are 2 attempts by others. Any number of them may be wrong, including all." in text
    assert "Popular answers are not safer." in text
    assert first in text
    asked = text.partition("Use exactly this form:\n")[2]
    assert sorted(forms, key=asked.index) == forms


def test_a_routed_prompt_tells_no_label_and_no_source() -> None:
    flipped = [route.model_copy(update={"label": not route.label, "first_error": None}) for route in (RIGHT, WRONG)]
    assert routed_messages("Q?", flipped) == routed_messages("Q?", [RIGHT, WRONG])
    assert "r1" not in content(routed_messages("Q?", [RIGHT, WRONG]))


def test_routed_cuts_each_route_by_itself() -> None:
    text = content(routed_messages("Q?", [RIGHT, WRONG], shown_steps=[2, 1]))
    assert text.count("[cut]") == 1
    assert "Answer: 10" in text and "Answer: 12" not in text


@given(question=LINE, style=st.sampled_from(["full", "terse"]))
def test_bare_prompts_show_no_route(question: str, style: prompts.Style) -> None:
    assert "[Route" not in content(bare_messages(question, style))


def test_student_prompts_cannot_take_rules() -> None:
    for template in (bare_messages, routed_messages, route_messages):
        assert not {"rules", "notes"} & set(inspect.signature(template).parameters)


def test_solution_and_check_texts() -> None:
    assert solution_text(["a = 1", "b = 2"], "2") == "<think>\n1. a = 1\n2. b = 2\n</think>\n<answer>2</answer>"
    assert check_text([True, False, False], [None, 2, None]) == "<check>\nA: right\nB: wrong @2\nC: wrong\n</check>"
    assert numbered(["x", "y"]) == "1. x\n2. y"


def test_routed_text_in_both_orders() -> None:
    check = "<check>\nA: right\nB: wrong @1\n</check>"
    assert routed_text([True, False], [None, 1], ["s"], "9") == f"{check}\n<think>\n1. s\n</think>\n<answer>9</answer>"
    assert routed_text([True, False], [None, 1], ["s"], "9", "solve_first") == (
        f"<think>\n1. s\n</think>\n{check}\n<answer>9</answer>"
    )


@given(
    labels=st.lists(st.booleans(), min_size=2, max_size=8),
    steps=st.lists(LINE.filter(str.strip), min_size=1, max_size=5),
    order=st.sampled_from(["verify_first", "solve_first"]),
    data=st.data(),
)
def test_gold_completions_pass_the_strict_parser(
    labels: list[bool], steps: list[str], order: prompts.Order, data: st.DataObject
) -> None:
    errors = [None if label else data.draw(st.none() | st.integers(1, 9)) for label in labels]
    parsed = parse_completion(
        routed_text(labels, errors, steps, "7", order), k=len(labels), order=order, min_think_words=1
    )
    assert parsed.ok
    assert (parsed.verdicts, parsed.first_errors, parsed.answer) == (labels, errors, "7")
    bare = parse_completion(solution_text(steps, "7"), k=0, min_think_words=1)
    assert bare.ok and bare.answer == "7"


def test_teacher_sees_rules_notes_and_on_a_retry_the_label() -> None:
    problem = Problem(id="p", question="How much?", answer="9.5", domain="parcel fees")
    (message,) = teacher_messages(problem, "R1: heavy costs 5.\n", "Mind the cap.\n")
    text = message["content"]
    assert text.startswith(
        "You are an expert in parcel fees.\n\nRules:\nR1: heavy costs 5.\n\nExpert notes:\nMind the cap.\n\n"
        "Problem:\nHow much?\n\nReason step by step."
    )
    assert "never mention a rule list, an id or these instructions" in text
    assert text.endswith('One numbered step per line. End with "Answer: <answer>".')
    assert "9.5" not in text
    labelled = teacher_messages(problem, "", "", label="9.5")[0]["content"]
    assert "The correct answer is 9.5. Explain how it follows." in labelled
    assert "Rules:" not in labelled and "Expert notes:" not in labelled
    assert teacher_messages(Problem(id="q", question="x", answer="y"), "", "")[0]["content"].startswith(
        "You are an expert in this domain.\n\nProblem:\nx"
    )


def test_lemma_masks_the_wrong_prefix_exactly() -> None:
    text, masked = lemma_text(["a = 1", "b = 3", "c = 4"], 2, ["a = 1", "b = 2", "c = 3"], "3")
    assert text[:masked] == "<think>\n1. a = 1\n2. b = 3\n"
    assert text[masked:] == "Wait, step 2 is wrong.\n2. b = 2\n3. c = 3\n</think>\n<answer>3</answer>"


# ---- choices


def choice(question: str, *choices: str) -> Problem:
    return Problem(id="p", question=question, answer="A", answer_type="choice", choices=list(choices))


def test_choices_are_shown_under_the_question() -> None:
    asked = question_text(choice("Which metal is liquid?", "iron", "mercury", "gold"))
    assert asked == "Which metal is liquid?\nA) iron\nB) mercury\nC) gold"
    for style in ("full", "terse"):
        assert asked in content(route_messages(choice("Which metal is liquid?", "iron", "mercury", "gold"), style))
    assert asked in content(teacher_messages(choice("Which metal is liquid?", "iron", "mercury", "gold"), "r", ""))
    assert question_text(choice("Q?", "iron", "", "gold")) == "Q?\nA) iron\nC) gold"
    assert question_text(choice("Q?", "A)5", "B)7")) == "Q?\nA) 5\nB) 7"
    assert question_text(choice("Q?", "two\nlines", "x")) == "Q?\nA) two lines\nB) x"
    assert question_text(choice("Q?", *map(str, range(26)))).endswith("Z) 25")


HOLDING = [
    "Which? A) iron B) mercury",
    "Which?\n(a) Iron\n(b) Mercury",
    "Which?\nA. iron\nB. mercury.",
    "Which?\nA: iron\nB: mercury",
    "Which? Option A: iron. Option B: mercury.",
    "Which? [A] iron [B] mercury",
    "Which? A)iron,B)mercury",
    "Which? (A)iron(B)mercury",
    "Which?\n**A)** iron\n**B)** mercury",
    "Which?\n- A) **iron**\n- B) *mercury*",
    "Which?\nA - iron\nB - mercury",
    "Which?\nA iron\nB mercury",
    "Which?\nA\tiron\nB\tmercury",
    "Which?\n| A | iron |\n| B | mercury |",
    'Which? {"A": "iron", "B": "mercury"}',
    "Which? （Ａ）iron （Ｂ）mercury",
    "Which?\nA、iron\nB、mercury",
    "Which? $\\textbf{(A)}\\ \\text{iron} \\qquad\\textbf{(B)}\\ \\text{mercury}$",
    "Plan A. was dropped.\r\nA) iron\r\nB) mercury\r\n",
]
NOT_HOLDING = [
    "Is iron or mercury liquid?",
    "Is mercury, iron, gold or zinc liquid?",
    "Which? Options: iron, mercury",
    "Which? A) iron",
    "Which? A) mercury B) iron",
    "Which? B) mercury A) iron",
    "A mercury B iron?",
    "Is a iron and b mercury?",
    "Which? 1) iron 2) mercury",
    "Which? A) ironwood B) mercury lamps",
    "Which?\nA\nB\niron\nmercury",
    "A) iron? Why?",
]


@pytest.mark.parametrize("question", HOLDING)
def test_choices_that_the_question_holds_are_not_given_twice(question: str) -> None:
    assert question_text(choice(question, "iron", "mercury")) == question
    assert question_text(choice(question, "A) iron", "B) mercury")) == question


@pytest.mark.parametrize("question", NOT_HOLDING)
def test_choices_that_are_only_named_are_shown(question: str) -> None:
    assert question_text(choice(question, "iron", "mercury")) == f"{question}\nA) iron\nB) mercury"


@pytest.mark.parametrize(
    ("question", "choices", "held"),
    [
        ("Which? A) 55 B) 77", ["5", "7"], False),
        ("Which? A) 5.5 B) 7.5", ["5", "7"], False),
        ("Which? A) 5,000 B) 7,000", ["5", "7"], False),
        ("Which? A) 5/2 B) 7/2", ["5", "7"], False),
        ("Which? A) -5 B) -7", ["5", "7"], False),
        ("Which? A) 5 B) 7", ["-5", "-7"], False),
        ("Which? A) 5, B) 7.", ["5", "7"], True),
        ("Which? A) 5 kg B) 7 kg", ["5 kg", "7 kg"], True),
        ("Which? A) iron\nC) gold", ["iron", "", "gold"], True),
        ("Which? A) iron\nB) gold", ["iron", "", "gold"], False),
        ("Which? A) two\n  lines B) x", ["two lines", "x"], True),
        ("哪个?\nA、铁\nB、汞", ["铁", "汞"], True),
        ("哪个? 铁 还是 汞", ["铁", "汞"], False),
        ("Which? A) $ B) %", ["$", "%"], False),  # what markup alone could be is not compared
    ],
)
def test_numbers_and_gaps_among_choices(question: str, choices: list[str], held: bool) -> None:
    shown = "\n".join(f"{letter}) {text}" for letter, text in zip("ABC", choices, strict=False) if text)
    assert question_text(choice(question, *choices)) == (question if held else f"{question}\n{shown}")
    assert options_text(choice(question, *choices)) == ("" if held else shown)


def test_options_that_are_all_empty_add_nothing() -> None:
    assert question_text(choice("Q?", "", " ")) == "Q?"


WORDS = st.text("abcxyz 0123456789.,-", min_size=1, max_size=12).filter(lambda text: text.strip(" .,-;"))


@given(
    st.text(max_size=60),
    st.lists(st.just("") | WORDS, min_size=1, max_size=26).filter(any),
    st.sampled_from(["{}) ", "({}) ", "{}. ", "{}: "]),
)
def test_every_option_stands_behind_its_letter_in_every_prompt(head: str, choices: list[str], mark: str) -> None:
    bare = choice(f"{head} Which?", *choices)
    asked = question_text(bare)
    assert asked.startswith(bare.question)
    found = question_text(bare.model_copy(update={"question": asked}))
    assert found == asked  # shown once
    own = "\n".join(mark.format(letter) + text for letter, text in zip(LETTERS, choices, strict=False) if text.strip())
    written = choice(f"Which of them?\n{own}", *choices)
    assert question_text(written) == written.question
    shown = [ShownRoute(route_id="r", steps=["s"], answer="A", label=True)]
    for style in ("full", "terse"):
        for messages in (
            bare_messages(asked, style),
            ruled_messages(asked, "R1", style),
            rule_question_messages(asked, ["s"], style),
            hinted_messages(asked, shown[0], style),
            routed_messages(asked, shown, style=style),
            route_messages(bare, style),
            teacher_messages(bare, "R1", "n"),
        ):
            assert asked in content(messages)


def test_a_hostile_question_is_read_in_linear_time() -> None:
    def take(n: int) -> None:
        for question, choices in (
            ("a) " * n, ["a a a", "b"]),
            ("a)" * n, ["a)" * 500 + "x", "b"]),
            (" " * n + "a) x", ["x", "y"]),
            ("\n" * n + "a x" * n, ["x", "y"]),
            ("\\text" * n + "*" * n, ["x", "y"]),
        ):
            question_text(choice(question, *choices))

    assert paces(lambda: take(20_000), 60) <= 60


@given(st.text(min_size=1, max_size=80), st.sampled_from(["number", "expr", "label", "text", "date", "list", "own"]))
def test_other_problems_are_shown_as_they_stand(question: str, kind: str) -> None:
    for choices in (None, ["x", "y"]):
        row = Problem(id="p", question=question, answer="1", answer_type=kind, choices=choices)
        assert question_text(row) == question and route_messages(row) == bare_messages(question)


def test_prompts_are_made_of_question_text_and_nothing_else_reads_the_question() -> None:
    """The places that may read `problem.question` itself: keys, checks of the text, facts, domains' own programs,
    and prompts of evaluations that older versions made."""
    allowed = {"prompts.py", "stages/checkup.py", "stages/problems.py", "stages/evaluate.py", "stages/distill.py",
               "engines/programs.py", "method/mrpv.py", "method/validation.py",
               "stages/lm_eval.py", "cli/init.py", "cli/import_.py"}  # fmt: skip
    root = Path(prompts.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "question"
    }
    assert {name for name in found if not name.startswith(("domains/", "stages/import"))} <= allowed


def test_prompts_of_problems_without_choices_are_those_of_earlier_versions() -> None:
    """The digest of every prompt, taken before choices were shown."""
    shown = [RIGHT, WRONG]
    asked: list[object] = []
    for kind, question in (("number", "How many? A) 5 B) 7 "), ("label", " Yes or no?\n"), ("text", "Wer?\tÄ½")):
        row = Problem(id="p", question=question, answer="5", answer_type=kind, domain="d")
        text = question_text(row)
        asked += [teacher_messages(row, "R1", "n"), teacher_messages(row, "", "", label="5")]
        for style in ("full", "terse"):
            asked += [route_messages(row, style), bare_messages(text, style), ruled_messages(text, "R1\n", style)]
            asked += [rule_question_messages(text, steps, style) for steps in ([], ["a = 1"])]
            asked += [hinted_messages(text, RIGHT, style)]
            for order in ("verify_first", "solve_first"):
                for hidden in (False, True):
                    asked.append(routed_messages(text, shown, style=style, order=order, answers_hidden=hidden))
                asked.append(routed_messages(text, shown, style=style, order=order, shown_steps=[1, 2]))
    assert hashlib.sha256(json.dumps(asked).encode()).hexdigest() == EARLIER
