"""The answer as rows that are learned from state it: one form for all, whatever form their source used.

For a choice that is its letter, which prompts show: a gold answer, a teacher or a route may state the text instead.
Usage: `solution_text(steps, target_answer(problem))`
"""

from __future__ import annotations

from realm_cli.method.choices import choice_key
from realm_cli.prompts import LETTERS
from realm_cli.records import Problem


def target_answer(problem: Problem) -> str:
    """The letter of the right choice; of other answer types, and of a gold that is no choice, the gold as it stands.

    >>> target_answer(Problem(id="p", question="Q?", answer="gold", answer_type="choice", choices=["iron", "gold"]))
    'B'
    """
    if problem.answer_type != "choice":
        return problem.answer
    key = choice_key(problem.answer, problem.choices or [])
    if key is None:
        return problem.answer
    stated = problem.answer.strip().upper()
    return stated if stated in LETTERS and len(stated) == 1 else LETTERS[int(key.removeprefix("c:"))]
