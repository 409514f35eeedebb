"""Canonical steps of any output, and their facts, worked out by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pace import paces
from realm_cli.errors import ConfigError
from realm_cli.method.answers import is_correct
from realm_cli.method.steps import parse_route, step_facts
from realm_cli.records import Problem

TERSE = ["base 30", "zone + 6 = 36", "express x 2 = 72"]
CLIPS = [
    "Natalia sold 48/2 = 24 clips in May.",
    "Natalia sold 48+24 = 72 clips altogether in April and May.",
]


@pytest.mark.parametrize(
    ("text", "steps", "answer"),
    [
        ("1. base 30\n2. zone + 6 = 36\n3. express x 2 = 72\nAnswer: 72", TERSE, "72"),
        ("<think>\n1. base 30\n2. zone + 6 = 36\n3. express x 2 = 72\n</think>\n<answer>72</answer>", TERSE, "72"),
        ("base 30\nzone + 6 = 36\nexpress x 2 = 72\n</think>\n<answer>72</answer>", TERSE, "72"),
        ("<check>\nA: wrong @2 - no\n</check>\n<think>\nbase 30\n</think>\n<answer>30</answer>", ["base 30"], "30"),
        ("<think>\nbase 30\n<answer>30</answer>", ["base 30"], "30"),
        ("<think></think>\nbase 30\nAnswer: 30", ["base 30"], "30"),
        ("1. base 30 2. zone + 6 = 36 3. express x 2 = 72\nAnswer: 72", TERSE, "72"),
        (
            "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
            "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72",
            CLIPS,
            "72",
        ),
        (
            "Sure! Here is the solution:\n\n**Step 1:** Half of 48 is 24.\n- **Step 2** - 48 + 24 = 72\n\n"
            "The final answer is \\boxed{72}.",
            ["Half of 48 is 24.", "48 + 24 = 72"],
            "72",
        ),
        (
            "Half of 48 clips is 24. Then 48 + 24 = 72. So the answer is 72.",
            ["Half of 48 clips is 24.", "Then 48 + 24 = 72."],
            "72",
        ),
        ("Step 1: we add 3 + 4 = 7 Step 2: we take 7 - 2 = 5", ["we add 3 + 4 = 7", "we take 7 - 2 = 5"], None),
        ("so 1. we add 3 + 4 = 7", ["so 1. we add 3 + 4 = 7"], None),
        ("- 5 + 3 = 8\n- 8 * 2 = 16\n#### 16", ["5 + 3 = 8", "8 * 2 = 16"], "16"),
        ("#### Step 1\nso we add up 4 + 5 = 9\n**Answer:** 9", ["so we add up 4 + 5 = 9"], "9"),
        ("same state: yes\nokay to ship: no\nAnswer: No", ["same state: yes", "okay to ship: no"], "No"),
        ("Well\nthen\nwe add\n4 + 4 = 8", ["Well then we add 4 + 4 = 8"], None),
        ("4 + 4 = 8\nand done", ["4 + 4 = 8 and done"], None),
        ("Let's think step by step.\nOkay, let me see.\n4 + 4 = 8", ["4 + 4 = 8"], None),
        ("so it is 72", ["so it is 72"], None),  # a number at the end is no stated answer
        ("<answer>5</answer>", [], "5"),
        ("<think>", [], None),
        ("", [], None),
    ],
)
def test_routes_by_hand(text, steps, answer) -> None:
    assert parse_route(text) == (steps, answer)


def test_at_most_twelve_steps_and_nothing_is_lost() -> None:
    lines = [f"{i}. rule{i} + 1 = {i}" for i in range(1, 31)]
    steps, answer = parse_route("\n".join([*lines, "Answer: 30"]))
    assert (len(steps), answer) == (12, "30")
    assert [part for step in steps for part in step.split("; ")] == [f"rule{i} + 1 = {i}" for i in range(1, 31)]
    facts = [fact for step in step_facts(steps, "") for fact in step]
    assert len(facts) == 60 and "rule" not in {fact.partition("=")[0] for fact in facts}


@pytest.mark.parametrize(
    ("step", "facts"),
    [
        ("zone + 6 = 36", ["op:zone + 6", "zone=36"]),
        ("express x 2 = 72", ["op:express x 2", "express=72"]),
        ("cap 100 = 100", ["op:cap 100", "cap=100"]),
        ("base 30", ["base=30"]),
        ("Total = 48 + 24 = 72", ["op:24+48", "=72"]),
        ("24+48=72", ["op:24+48", "=72"]),
        ("The cost is $1,200 + $300 = $1,500.", ["op:1200+300", "=1500"]),
        ("48 ÷ 2 = 24", ["op:48/2", "=24"]),
        ("3 × 4 = 12 and 12 + 1 = 13", ["op:3*4", "=12", "op:1+12", "=13"]),
        ("(3 + 4) * 2 = 14", ["op:(3+4)*2", "=14"]),
        ("2x + 3 = 7", ["op:2x+3", "=7"]),
        ("x = 5", ["=5"]),
        ("1/2 = 0.5", ["op:1/2", "=1/2"]),
        ("Half of 48 is 24.", ["=24"]),
        ("amount 75000 over 75000: no", ["amount 75000 over 75000: no"]),
        ("same state: Yes, because both live in Ohio", ["same state: yes"]),
        ("The domicile of Ann is Texas.", ["domicile of ann: texas"]),
        ("now we add them up", []),
    ],
)
def test_facts_by_hand(step, facts) -> None:
    assert step_facts([step], "") == [facts]


def test_what_the_question_or_an_earlier_step_holds_is_not_new() -> None:
    question = "Ann has 48 clips and sells half of them. The state is Ohio."
    steps = ["She has 48 clips", "48 / 2 = 24", "so 24 are left", "the state is Ohio", "24 + 48 = 72", "48 + 24 = 72"]
    assert step_facts(steps, question) == [[], ["op:48/2", "=24"], [], [], ["op:24+48", "=72"], []]


def test_a_slip_shares_the_operation_but_not_the_result() -> None:
    right = step_facts(["base 30", "zone + 6 = 36", "express x 2 = 72"], "")
    slip = step_facts(["base 30", "zone + 6 = 35", "express x 2 = 70"], "")
    assert [sorted(set(a) & set(b)) for a, b in zip(right, slip, strict=True)] == [
        ["base=30"],
        ["op:zone + 6"],
        ["op:express x 2"],
    ]


def test_extractors() -> None:
    steps = ["count: 3 bags", "3 * 4 = 12", "big enough: yes"]
    assert step_facts(steps, "", "number") == [["count=3"], ["op:3*4", "=12"], []]
    assert step_facts(steps, "", "text") == [["count: 3 bags"], [], ["big enough: yes"]]
    assert step_facts(steps, "") == [["count=3"], ["op:3*4", "=12"], ["big enough: yes"]]
    with pytest.raises(ConfigError) as error:
        step_facts(steps, "", "sympy")
    assert str(error.value) == "facts 'sympy': unknown extractor; choose one of auto, number, text"


@pytest.mark.parametrize(
    "piece",
    ["<answer>", "<think>", "</think>", "= ", "1+", "a: ", "1 = ", "(", "1. ", "a", "a is ", "5\n", "#### ", "*"],
)
def test_floods_are_cut(piece) -> None:
    text = piece * (60_000 // len(piece))
    steps, _ = parse_route(text)
    facts = step_facts([*steps, text], text)
    assert len(steps) <= 12 and len(facts) == len(steps) + 1
    assert paces(lambda: step_facts([*parse_route(text)[0], text], text), 60) <= 60


@given(st.text(max_size=200))
def test_any_text_gives_steps_that_stay_steps(text) -> None:
    steps, _ = parse_route(text)
    assert len(steps) <= 12 and all(step == " ".join(step.split()) != "" for step in steps)
    facts = step_facts(steps, text[:50])
    flat = [fact for step in facts for fact in step]
    assert len(facts) == len(steps) and len(set(flat)) == len(flat)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 99)), min_size=1, max_size=12))
def test_terse_steps_stay_apart(pairs) -> None:
    steps = [f"rule{name} + {value} = {value + 1}" for name, value in pairs]
    text = "\n".join(f"{k}. {step}" for k, step in enumerate(steps, 1)) + "\nAnswer: 7"
    assert parse_route(text) == (steps, "7")


def test_worked_solutions_of_gsm8k(data_dir: Path) -> None:
    lines = (data_dir / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    empty = steps_total = 0
    for line in lines:
        row = json.loads(line)
        gold = row["answer"].rpartition("####")[2].strip()
        steps, answer = parse_route(row["answer"])
        assert is_correct(answer, Problem(id="p", question="q", answer=gold, answer_type="number"))
        facts = step_facts(steps, row["question"])
        steps_total += len(steps)
        empty += sum(not step for step in facts)
    assert len(lines) == 1319
    assert 3 < steps_total / len(lines) < 4.5
    assert empty / steps_total < 0.12


@pytest.mark.parametrize("n", [241, 300, 479, 480, 481])
def test_a_list_without_end_keeps_every_line(n: int) -> None:
    steps, _ = parse_route("\n".join(f"{i}. then {i} + 1 = {i + 1}" for i in range(1, n + 1)) + "\nAnswer: 1")
    assert len(steps) == 12
    found = [int(x) for x in re.findall(r"then (\d+) \+", " ".join(steps))]
    assert found == list(range(1, n + 1))


def test_numbers_of_the_choices_are_no_facts_where_a_step_only_names_them() -> None:
    options = "A) 24\nB) 96\nC) 50 kg"
    steps = ["It may be 24 or 96.", "She sold 48 / 2 = 24", "48 * 2 = 96", "Half of it is 24.", "It weighs 51."]
    alone = step_facts(steps, "Of 48?")
    assert alone == [["=96"], ["op:48/2", "=24"], ["op:2*48"], [], ["it=51"]]
    beside = step_facts(steps, "Of 48?", options=options)
    sums = [["op:48/2", "=24"], ["op:2*48", "=96"]]
    assert beside == [[], *sums, ["half of it: 24"], ["it=51"]]  # as numbers of the question, a pair is left of it
    assert step_facts(steps, "Of 48?", "number", options) == [[], *sums, [], ["it=51"]]


@given(st.lists(st.text("0123456789+=. abc:", max_size=20), max_size=6), st.sampled_from(["auto", "number", "text"]))
def test_without_choices_facts_are_as_before(steps: list[str], extractor: str) -> None:
    assert step_facts(steps, "q 5", extractor, "") == step_facts(steps, "q 5", extractor)
    beside = step_facts(steps, "q 5", extractor, "A) 7\nB) 12")
    sums = [fact for step in beside for fact in step if fact.startswith("op:")]
    assert sums == [f for step in step_facts(steps, "q 5", extractor) for f in step if f.startswith("op:")]
