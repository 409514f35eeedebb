"""Answer checks in a process of their own: verdicts, hangs, crashes, errors, growth, memory of verdicts."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import installed_checker
from realm_cli.checking import IN_A_ROW, CheckPool, checking, without_verdict
from realm_cli.errors import ConfigError
from realm_cli.method.answers import is_correct
from realm_cli.method.checks import compare, judge, judged_by
from realm_cli.recipe import ChecksConfig
from realm_cli.records import Problem

CODE = """
import os


def check(answer, gold):
    if answer == "pid":
        return str(os.getpid()) != gold
    while answer.startswith("hang"):
        pass
    if answer == "die":
        os._exit(3)
    if answer == "grow":
        return len(bytearray(8 << 30)) > 0
    if answer.startswith("raise"):
        raise ValueError("no such unit")
    return answer == gold
"""


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Problem]:
    """A problem whose checker does what the answer tells it to."""
    with installed_checker(tmp_path, CODE, "odd = a_checker:check\ngone = gone_for_good:check"):
        yield Problem(id="p", question="q", answer="yes", answer_type="odd")


def test_verdicts_come_from_another_process(odd: Problem) -> None:
    here = odd.model_copy(update={"answer": str(os.getpid())})
    with CheckPool(timeout=20) as pool, judged_by(pool):
        assert is_correct("yes", odd) is True
        assert is_correct("no", odd) is False
        assert is_correct("pid", here) is True
    assert is_correct("pid", here) is False  # the block has ended: in this process again
    assert pool.counts == {"calls": 3}
    assert multiprocessing.active_children() == []


def test_symbolic_equality_agrees_with_the_comparison_itself() -> None:
    pairs = [("(x+1)^2", "x^2+2x+1"), ("(x+2)^2", "x^2+2x+1"), (r"\sqrt{8}", r"2\sqrt{2}"), ("(", "x")]
    with CheckPool(timeout=20) as pool:
        assert [pool("expr", *pair) for pair in pairs] == [compare("expr", *pair) for pair in pairs]
    assert pool.counts["calls"] == 4 and pool.counts["timeouts"] == 0


def test_plain_answers_start_no_process() -> None:
    rows = [
        (Problem(id="n", question="q", answer="1250", answer_type="number"), "1,250.0"),
        (Problem(id="e", question="q", answer="2x", answer_type="expr"), "2 x"),
        (Problem(id="h", question="q", answer="0.5", answer_type="expr"), "1/2"),
        (Problem(id="l", question="q", answer="Yes", answer_type="label"), "yes."),
        (Problem(id="c", question="q", answer="B", answer_type="choice", choices=["one", "two"]), "(b)"),
    ]
    with CheckPool() as pool, judged_by(pool):
        assert all(is_correct(answer, problem) for problem, answer in rows)
        assert multiprocessing.active_children() == []
    assert pool.counts == {}


def test_what_hangs_dies_or_fails_counts_as_wrong_and_the_rest_goes_on(odd: Problem) -> None:
    with CheckPool(timeout=0.5, memory_gib=4) as pool, judged_by(pool):
        found = {a: is_correct(a, odd) for a in ("hang 1", "yes", "die", "raise", "grow", "no")}
        assert found == {a: a == "yes" for a in found}
        assert is_correct("hang 1", odd) is False  # known: not waited for again
    assert pool.counts == {"calls": 6, "timeouts": 1, "crashed": 1, "failed": 2}
    assert [(row["reason"], row["answer"], row["error"]) for row in pool.examples] == [
        ("timeouts", "hang 1", ""),
        ("crashed", "die", ""),
        ("failed", "raise", "ValueError: no such unit"),
        ("failed", "grow", "MemoryError: "),
    ]
    assert without_verdict(pool.counts, 0.5) == (
        "4 of 6 answer checks count as wrong: 1 took over 0.5 s, 1 ended their process, 2 raised an error"
    )
    assert without_verdict({"calls": 3}, 0.5) is None


def test_a_checker_that_never_answers_stops_the_run(odd: Problem) -> None:
    with CheckPool(timeout=20) as pool, judged_by(pool):
        for i in range(IN_A_ROW - 1):
            assert is_correct(f"raise {i}", odd) is False
        assert is_correct("yes", odd) is True  # one verdict, and the count starts anew
        for i in range(IN_A_ROW - 1):
            is_correct(f"raise again {i}", odd)
        with pytest.raises(ConfigError) as error:
            is_correct("raise at last", odd)
    assert str(error.value) == (
        "answer_type 'odd': 20 checks in a row raised an error, the last one ValueError: no such unit; mend the "
        "checker, or raise checks.timeout or checks.memory_gib"
    )


def test_a_checker_that_cannot_be_loaded_is_named(odd: Problem) -> None:
    gone = odd.model_copy(update={"answer_type": "gone"})
    with CheckPool(timeout=20) as pool, judged_by(pool), pytest.raises(ConfigError, match="'gone': its checker cannot"):
        is_correct("yes", gone)


def test_verdicts_are_kept_but_not_without_end(odd: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realm_cli.checking.MEMO", 2)
    with CheckPool(timeout=20) as pool, judged_by(pool):
        for answer in ("yes", "yes", "no", "yes", "maybe", "yes"):
            is_correct(answer, odd)
    assert pool.counts["calls"] == 4  # yes, no, maybe; yes again, as the third emptied the memory


def test_checking_says_what_could_not_be_checked(odd: Problem) -> None:
    said: list[str] = []
    with checking(ChecksConfig(timeout=0.5), said.append):
        assert is_correct("yes", odd)
    assert said == []
    with pytest.raises(KeyboardInterrupt), checking(ChecksConfig(timeout=0.5), said.append):
        is_correct("hang", odd)
        raise KeyboardInterrupt
    assert said == ["1 of 1 answer checks count as wrong: 1 took over 0.5 s, e.g. 'hang'"]
    assert multiprocessing.active_children() == []


def test_judges_nest() -> None:
    with judged_by(lambda *_: True):
        with judged_by(lambda *_: False):
            assert judge("expr", "1", "1") is False
        assert judge("expr", "1", "2") is True
    assert judge("expr", "1", "2") is False
