"""Formulas: what is equal, what is not; plain notation made LaTeX; lists, brackets and relations."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_cli.method.formulas import same_formula
from realm_cli.method.latex import MAX_LIST, as_interval, bracketed, chain, cut, members, squeezed, tidy, to_latex

COMMA = re.compile(",")


@pytest.mark.parametrize(
    ("kind", "gold", "right", "wrong"),
    [
        ("fraction", "\\frac{1}{2}", "1/2|\\dfrac12|x=\\frac{1}{2}|0.5", "\\frac{1}{2}x|2|1/3"),
        ("mixed", "3 1/2", "7/2|3.5|3\\frac{1}{2}|3½", "31/2|3"),
        ("blank", "12", "12|12.0", "1 2|1,2"),
        ("bracket", "5", "(5)|{5}|\\boxed{5}|\\[5\\]|\\(5\\)|$5$|**5**", "-5|(−5)|5x|5 x|5!"),
        ("tiny", "6.63\\times 10^{-34}", "6.63e-34|6.63*10**-34", "1.6\\times 10^{-19}|0"),
        ("power", "10^{10}", "10000000000|10**10", "10^{11}"),
        ("operator", "3", "\\sqrt{9}", "\\sqrt{3}|x^3|3!"),
        ("plain", "3\\sqrt{13}", "3*sqrt(13)|3√13|3 sqrt13", "sqrt(13)|39"),
        ("plain", "\\ln 2", "ln(2)|ln 2", "ln(3)|2"),
        ("plain", "2\\pi", "2π|2*pi|2pi", "2|6.28"),
        ("list", "1,2", "2, 1|1 and 2|x = 1 or x = 2|\\{2,1\\}|1 \\text{ and } 2", "1|12|1,2,3|1 or 3|(1,2)"),
        ("list", "\\pm 2", "2, -2|-2 or 2|±2", "2|-2"),
        ("list", "3 \\pm \\sqrt{2}", "3+\\sqrt{2}, 3-\\sqrt{2}", "3+\\sqrt{2}"),
        ("named", "x=1, y=2", "1, 2", "2, 1|x=2, y=1"),
        ("tuple", "(3, \\frac{\\pi}{2})", "(3, pi/2)|\\left(3,\\frac\\pi2\\right)", "(pi/2, 3)|[3, pi/2]|(3, 1.57)"),
        ("interval", "(3,4]", "\\left(3,4\\right]|3 < x \\le 4", "[3,4)|(3,4)|[3,4]"),
        ("interval", "(-\\infty,1)\\cup(2,\\infty)", "x<1 or x>2|(2,\\infty)\\cup(-\\infty,1)", "(1,2)|x<1"),
        ("relation", "x \\leq 2", "(-\\infty,2]|2 \\ge x|x<=2", "x<2|x \\ge 2|(-\\infty,2)"),
        ("relation", "f(2) < f(1) < f(4)", "f(4)>f(1)>f(2)", "f(4)<f(1)<f(2)"),
        ("equation", "y = 2x + 3", "2x+3|y=3+2x", "2x|z = 2x + 3"),
        ("equation", "x^2+y^2=1", "y^2+x^2=1", "1|x^2+y^2=2"),
        ("words", "\\text{Evelyn}", "evelyn|\\text{Evelyn}.", "Eve|nylevE"),
        ("words", "ellipse", "an ellipse", "circle"),
        ("words", "\\text{June 20}", "June 20th", "June 21|20"),
        ("letter", "\\text{(C)}", "C|\\textbf{(C)}", "D"),
        ("unit", "15\\mbox{ cm}^2", "15|15\\,\\text{cm}^2", "15\\text{ cm}|15\\text{ m}^2"),
        ("unit", "2\\sqrt{3}\\text{ cm}", "2\\sqrt{3}|2\\sqrt{3}\\text{ cm}", "2\\sqrt{3}\\text{ m}"),
        ("unit", "90^\\circ", "90|90 degrees", "91^\\circ"),
        ("base", "204_5", "204_{5}", "54|204"),
        ("ratio", "1:2", "1:2|1 : 2", "2:4|1/2"),
        (
            "matrix",
            "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
            "\\begin{bmatrix}1\\\\2\\end{bmatrix}",
            "\\begin{pmatrix}2\\\\1\\end{pmatrix}",
        ),
        ("doubled", "\\frac{\\pi}{2}", "\\\\frac{\\\\pi}{2}", "\\\\pi"),
        ("complex", "6-5i", "-5i+6", "6+5i"),
        ("product", "(x-2)(x+2)", "x^2-4", "x^2+4"),
    ],
)
def test_formulas_by_kind(kind: str, gold: str, right: str, wrong: str) -> None:
    assert [a for a in right.split("|") if a and not same_formula(a, gold)] == [], kind
    assert [a for a in wrong.split("|") if a and same_formula(a, gold)] == [], kind


def test_long_lists_are_compared_and_longer_ones_refused() -> None:
    up, down = ",".join(map(str, range(1, 19))), ",".join(map(str, range(18, 0, -1)))
    assert same_formula(down, up) and not same_formula(down.replace("18", "19"), up)
    long = ", ".join(map(str, range(MAX_LIST + 2)))
    assert not same_formula(long + ", 7", "5," + long)


def test_latex_by_hand() -> None:
    assert to_latex("3*sqrt(13)") == "3 \\cdot \\sqrt{13}" and to_latex("9^(1/3)") == "9^{1/3}"
    assert to_latex("\\frac{1}{2}") == "\\frac{1}{2}" and tidy("1 \\text{ and } 2") == "1  and  2"
    assert squeezed(" 3  1/2 ") == "3 1/2" and squeezed("( 1 , 2 )") == "(1,2)"
    assert [m.strip() for m in members("x=1 or x=2")] == ["1", "2"]
    assert cut("(1,2),(3,4)", COMMA) == ["(1,2)", "(3,4)"]
    assert bracketed("\\left[3, 4\\right)") == ("[)", ["3", " 4"]) and bracketed("(1)+(2)") is None
    assert chain("4 > x >= 1") == (["1", "x", "4"], ["<=", "<"]) and chain("1 < x > 0") is None
    assert (
        as_interval("3 \\le x < 4", "[1,2]") == "[3,4)"
        and as_interval("x<1 or x>2", "(0,1)") == "(-\\infty,1)\\cup(2,\\infty)"
    )
    assert as_interval("x < 1", "5") == "x < 1"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6, unique=True), st.randoms())
def test_lists_are_equal_in_any_order_and_tuples_in_theirs(values: list[int], rng: object) -> None:
    shuffled = sorted(values, key=lambda _: rng.random())  # type: ignore[attr-defined]
    plain, other = ", ".join(map(str, values)), ", ".join(map(str, shuffled))
    assert same_formula(other, plain) and same_formula(f"\\{{{other}\\}}", plain)
    assert same_formula(f"({other})", f"({plain})") == (values == shuffled)
    assert not same_formula(", ".join(map(str, values[1:])), plain)
    assert [int(m) for m in members(plain)] == values == [int(m) for m in bracketed(f"({plain})")[1]]  # type: ignore[index]


@given(st.text("0123456789+-*/^(){}[],.;=<>xyπ√ \\abeginrt", max_size=60))
def test_no_text_crashes_the_readers(text: str) -> None:
    assert isinstance(same_formula(text, "2"), bool)
    assert "".join(cut(text, COMMA)).count("x") == text.count("x")
    assert squeezed(squeezed(text)) == squeezed(text)
    for read in (tidy, to_latex, members, bracketed, chain):
        read(text)  # type: ignore[operator]
    assert as_interval(text, "5") == text
