"""Who compares expressions and plugged-in types, and which expressions are small enough to be worked out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_cli.errors import ConfigError
from realm_cli.method import checks
from realm_cli.method.checks import bounded, closing, compare, judge, judged_by, plugins, symbolic


def test_symbolic_equality_by_hand() -> None:
    assert symbolic("1/2", "\\frac{1}{2}") and symbolic("x+1", "1+x") and symbolic("(x+1)^2", "x^2+2x+1")
    assert not symbolic("x+1", "x-1") and not symbolic("\\frac{1}{2}", "\\frac{2}{1}")


@settings(max_examples=25, deadline=None)
@given(st.integers(-50, 50), st.integers(-50, 50))
def test_symbolic_equality_of_sums_is_that_of_their_values(a: int, b: int) -> None:
    assert symbolic(f"{a}+{abs(b)}", str(a + abs(b)))
    assert symbolic(f"{a}*x", f"{b}*x") == (a == b)


def test_expressions_go_to_symbolic_and_unknown_kinds_are_an_error() -> None:
    assert compare("expr", "2x", "x+x") and judge("expr", "2x", "x+x")
    with pytest.raises(KeyError):
        compare("no-such-type", "1", "1")
    assert "number" not in plugins()


def test_comparisons_can_be_handed_over() -> None:
    with judged_by(lambda kind, answer, gold: answer == "mine"):
        assert judge("expr", "mine", "x") and not judge("expr", "x", "x")
    assert judge("expr", "x", "x")


@settings(max_examples=20)
@given(st.text(max_size=5), st.text(max_size=5), st.booleans())
def test_judged_by_hands_over_and_takes_back(answer: str, gold: str, verdict: bool) -> None:
    asked: list[tuple[str, str, str]] = []

    def other(kind: str, mine: str, theirs: str) -> bool:
        asked.append((kind, mine, theirs))
        return verdict

    with judged_by(other):
        assert judge("expr", answer, gold) is verdict
        with pytest.raises(ConfigError), judged_by(compare):
            raise ConfigError("inside")
        assert judge("k", answer, gold) is verdict
    assert asked == [("expr", answer, gold), ("k", answer, gold)]
    assert checks._judge is compare


@settings(max_examples=20, deadline=None)
@given(st.integers(-99, 99), st.integers(-99, 99))
def test_compare_is_symmetric_and_plugins_are_read_once(a: int, b: int) -> None:
    assert compare("expr", str(a), str(b)) == compare("expr", str(b), str(a)) == (a == b)
    assert plugins() is plugins()


@pytest.mark.parametrize("text", ["x^2 + 3", "2^{10}", "\\frac{1}{3}", "(a+b)^3", "\\sqrt{2}"])
def test_small_expressions_are_worked_out(text: str) -> None:
    assert bounded(text)


@pytest.mark.parametrize("text", ["9^{9^9}", "2^{99999}", "100!", "\\int x", "x" * 201, "(a+b+c+d)^{40}", "2^(3)!"])
def test_what_could_take_for_ever_is_not(text: str) -> None:
    assert not bounded(text)


def test_the_limits_are_exact() -> None:
    """16 brackets in brackets and 16 members are small enough, 17 are not; so are 4 functions and 200 characters."""
    for n, small in ((16, True), (17, False)):
        assert bounded("(" * n + "x" + ")" * n) is small
        assert bounded("{" + ",".join("x" * n) + "}") is small
        assert bounded(")(" * n + "x" + ")" * n)  # beside one another
    assert bounded("\\sin(x)" * 4) and not bounded("\\sin(x)" * 5)
    assert bounded("1" * 40 + "+" + "x" * 159) and not bounded("1" * 40 + "+" + "x" * 160)


@given(st.integers(1, 12000))
def test_the_exponent_decides(n: int) -> None:
    assert bounded(f"2^{{{n}}}") == (n <= checks.MAX_EXPONENT)


def test_closing_by_hand() -> None:
    assert closing("{a{b}c}d", 1) == 6 and closing("{a", 1) is None and closing("(x)", 1) == 2


@given(
    st.recursive(
        st.just("x"), lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda p: "{" + "".join(p) + "}")
    )
)
def test_closing_finds_the_matching_bracket(inner: str) -> None:
    text = "{" + inner + "}" + "y}"
    found = closing(text, 1)
    assert found == (len(inner) + 1 if len(inner) < checks.MAX_CHARS - 1 else None)
