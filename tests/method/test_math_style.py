"""500 solutions in the style of MATH, made here: the stated answer is read and right, a changed one wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator

from realm_cli.method.answers import flexible_answer, is_correct
from realm_cli.records import Problem

COUNT, SHARE = 500, 0.995
ENDS = (
    "Therefore, the answer is $\\boxed{{{}}}$.", "Thus $x = \\boxed{{{}}}$ is what we want.", "\\[\\boxed{{{}}}\\]",
    "So the final answer is ${}$.", "Final Answer: The final answer is ${}$. I hope it is correct.", "**Answer:** ${}$",
    "Hence\n\\[\n\\boxed{{{}}}.\n\\]", "Answer:\n${}$", "<answer>${}$</answer>", "The answer is \\({}\\).",
    "Adding these gives $\\boxed{{{}}}$, as we can check by hand: $2 + 2 = 4$.",
)  # fmt: skip


def answers(rng: random.Random) -> Iterator[tuple[str, str, str, str]]:
    """(kind, gold, the same in another notation, another value)."""
    while True:
        a, b = rng.randint(2, 30), rng.randint(2, 30)
        d = rng.choice([n for n in (2, 3, 5, 6, 7, 10, 11, 13) if n != b])
        yield from (
            ("integer", f"{a * b}", f"{a * b}", f"{a * b + 1}"),
            ("thousands", f"{a},{b * 10:03}", f"{a},\\!{b * 10:03}", f"{a},{b * 10 + 1:03}"),
            ("negative", f"-{a}", f"-{a}.0", f"{a}"),
            (
                "fraction",
                f"\\frac{{{a}}}{{{a + 1}}}",
                f"\\dfrac{{{2 * a}}}{{{2 * a + 2}}}",
                f"\\frac{{{a + 1}}}{{{a}}}",
            ),
            ("mixed", f"{a}\\frac{{1}}{{2}}", f"\\frac{{{2 * a + 1}}}{{2}}", f"\\frac{{{a}1}}{{2}}"),
            ("root", f"{a}\\sqrt{{{d}}}", f"\\sqrt{{{a * a * d}}}", f"{a + 1}\\sqrt{{{d}}}"),
            ("pi", f"{a}\\pi", f"{a} \\cdot \\pi", f"{a}"),
            ("point", f"({a}, -{b})", f"\\left({a},-{b}\\right)", f"(-{b}, {a})"),
            ("interval", f"[{a}, {a + b})", f"\\left[{a}, {a + b}\\right)", f"({a}, {a + b}]"),
            (
                "union",
                f"(-\\infty, {a}) \\cup ({a + b}, \\infty)",
                f"({a + b},\\infty)\\cup(-\\infty,{a})",
                f"({a}, {a + b})",
            ),
            ("set", f"{a}, {a + b}", f"{a + b}, {a}", f"{a}, {a + b + 1}"),
            ("polynomial", f"x^2 + {a}x - {b}", f"x^2 - {b} + {a}x", f"x^2 + {a}x + {b}"),
            ("factored", f"(x + {a})(x - {b})", f"(x - {b})(x + {a})", f"(x + {a})(x + {b})"),
            ("complex", f"{a} + {b}i", f"{b}i + {a}", f"{a} - {b}i"),
            ("degrees", f"{a}^\\circ", f"{a}", f"{a + 1}^\\circ"),
            ("percent", f"{a}\\%", f"{a}\\%", f"{a + 1}\\%"),
            ("money", f"\\${a}.50", f"{a}.50", f"{a}.05"),
            ("unit", f"{a}\\text{{ cm}}^2", f"{a}", f"{a + 1}\\text{{ cm}}^2"),
            (
                "matrix",
                f"\\begin{{pmatrix}} {a} \\\\ {b} \\end{{pmatrix}}",
                f"\\begin{{pmatrix}} {a} \\\\ {b}.0 \\end{{pmatrix}}",
                f"\\begin{{pmatrix}} {b + 40} \\\\ {a} \\end{{pmatrix}}",
            ),
            ("word", "\\text{Tuesday}", "\\text{tuesday}", "\\text{Thursday}"),
            ("power", f"2^{{{a}}}", f"{2**a}", f"2^{{{a + 1}}}"),
            ("equation", f"y = {a}x + {b}", f"{a}x+{b}", f"y = {b + 40}x + {a}"),
            ("function", f"\\log_{{{d}}} {a}", f"\\log_{{{d}}}{{{a}}}", f"\\log_{{{d}}} {a + 1}"),
        )


def test_solutions_in_the_style_of_math_are_read() -> None:
    rng = random.Random(500)
    missed, accepted = [], []
    made = answers(rng)
    for i in range(COUNT):
        kind, gold, same, other = next(made)
        end = ENDS[i % len(ENDS)]
        text = f"We have $a_1 = {rng.randint(2, 9)}$ and 3 more terms.\nAdding them step by step we find it.\n"
        problem = Problem(id="p", question="q", answer=gold, answer_type="expr")
        if not is_correct(flexible_answer(text + end.format(same)), problem):
            missed.append((kind, end.format(same), gold))
        if is_correct(flexible_answer(text + end.format(other)), problem):
            accepted.append((kind, end.format(other), gold))
    assert accepted == []
    assert len(missed) <= (1 - SHARE) * COUNT, missed
