"""Texts that once took too long or ended in a traceback, each where it did; the fuzzer's corpus holds most shapes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from pace import paces
from realm_cli.domains.rulebook import wording
from realm_cli.method import answers, route_sets, validation
from realm_cli.method.checks import MAX_CHARS, MAX_DEPTH, MAX_MEMBERS, bounded
from realm_cli.method.steps import parse_route, step_facts
from realm_cli.recipe_yaml import MAX_CHARS as MAX_RECIPE
from realm_cli.recipe_yaml import read_yaml
from realm_cli.records import Problem

LIMIT = 10  # paces, half a second on a quick machine; each took one to six seconds


def _refused(text: str) -> None:
    with suppress(ValueError):
        read_yaml(text)


SLOW: dict[str, Callable[[], object]] = {
    "a gap in a route": lambda: parse_route("a" + " " * 39_900 + "b"),
    "a gap after ####": lambda: answers.stated_answer("#### x" + " " * 19_900 + "\ny"),
    "a gap in a rule step": lambda: wording.read_steps("1. a" + " " * 400_000 + "b"),
    "empty lines of rule steps": lambda: wording.read_steps("\n" * 400_000),
    "a gap after =": lambda: step_facts(["a = 1 + 1 =" + " " * 1900 + "x"], "q"),
    "digits and letters": lambda: validation._NUMBER.sub("", "1" * 40_000 + "a" * 40_000 + "1"),
    "a choice of megabytes": lambda: answers.is_correct(
        "some words", Problem(id="p", question="q", answer="B", answer_type="choice", choices=["x" * 2_000_000, "b"])
    ),
    "a gold answer of megabytes": lambda: answers.is_correct(
        "x", Problem(id="p", question="q", answer="word. " * 2_000_000, answer_type="label")
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_time_is_linear(name: str) -> None:
    assert paces(SLOW[name], LIMIT) <= LIMIT


def test_splitting_and_reading_are_as_they_were() -> None:
    steps, _ = parse_route("We add 1 to it.  Then it is 3 in all.   Step 2 makes it 4 now \t Step 3 gives 5 at last.")
    assert steps == ["We add 1 to it.", "Then it is 3 in all.", "makes it 4 now", "gives 5 at last."]
    assert answers.stated_answer("#### x \n\n") == "x" and answers.stated_answer("#### x\ny") is None
    assert wording.read_steps("\n 1. base 30  \n2. zone + 6 = 36\nno step\n3.  ") == ["base 30", "zone + 6 = 36", " "]


def test_long_gold_answers_are_met_by_nothing() -> None:
    problem = Problem(id="p", question="q", answer="a " * MAX_CHARS, answer_type="text")
    assert not answers.is_correct(problem.answer, problem) and answers.answer_key(problem.answer, problem) is None
    short = problem.model_copy(update={"answer": "a " * (MAX_CHARS // 2)})
    assert answers.is_correct(short.answer, short)


def test_expressions_are_bounded_in_depth_and_members() -> None:
    def nest(n: int) -> str:
        return "(" * n + "x" + ")" * n

    assert bounded(nest(MAX_DEPTH)) and not bounded(nest(MAX_DEPTH + 1))
    assert bounded("1," * (MAX_MEMBERS - 1) + "1") and not bounded("1," * MAX_MEMBERS + "1")
    assert bounded(")" * 50 + "x")  # closing ones alone are no nest


def test_a_number_that_no_float_holds_is_written_as_it_is() -> None:
    number = answers.to_number("1e400")
    assert number is not None and route_sets._written(number + 1, "1e400") == "1" + "0" * 399 + "1"
    assert route_sets._written(number / 10**399, "1.00") == "10.00"


def test_recipes_are_bounded_in_length_and_depth() -> None:
    for deep in ("[" * 41 + "]" * 41, "[" * 5000, "{" * 5000, "- " * 5000):
        with pytest.raises(ValueError, match="line 1 nested too deeply"):
            read_yaml(deep)
        assert paces(partial(_refused, deep), LIMIT) <= LIMIT
    assert read_yaml("[" * 39 + "1" + "]" * 39)
    with pytest.raises(ValueError, match=f"longer than {MAX_RECIPE} characters"):
        read_yaml("a" * (MAX_RECIPE + 1))
    for number in ("9" * 19, "-0x" + "f" * 5000, "9" * 5000):
        with pytest.raises(ValueError, match="line 1 a number of over 18 digits|limit"):
            read_yaml(f"seed: {number}")
    assert read_yaml(f"seed: {2**62}") == {"seed": 2**62}
