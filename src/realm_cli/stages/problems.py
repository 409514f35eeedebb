"""Reading and checking problem sets; shared by all stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from realm_cli.artifacts import read_rows
from realm_cli.errors import DataError
from realm_cli.method.answers import is_correct, known_types
from realm_cli.method.questions import question_key
from realm_cli.prompts import LETTERS
from realm_cli.records import Problem


def load_problems(path: Path) -> list[Problem]:
    """All problems of a file; refuses unknown answer types, choices missing, and questions shared across splits."""
    problems = read_rows(path, Problem, made_by="realm domain rulebook --out DIR")
    types = known_types()
    homes: dict[str, Problem] = {}
    for problem in problems:
        if problem.answer_type not in types:
            raise DataError(
                f"{path}: problem {problem.id}: unknown answer_type {problem.answer_type!r}; known: {', '.join(types)}"
            )
        if problem.answer_type == "choice" and not problem.choices:
            raise DataError(f"{path}: problem {problem.id}: answer_type choice needs a list of choices")
        if fault := fault_of(problem):
            raise DataError(f"{path}: problem {problem.id}: {fault}")
        other = homes.setdefault(question_key(problem.question, problem.choices), problem)
        if other.split != problem.split:
            raise DataError(
                f"{path}: problems {other.id} ({other.split}) and {problem.id} ({problem.split}) ask the same "
                "question; remove one, else the test is not held out"
            )
    return problems


def fault_of(problem: Problem) -> str:
    """Why no answer could be right, or no prompt could show the choices; "" if nothing stands against it."""
    choices = problem.choices or []
    if len(choices) > len(LETTERS):
        return f"{len(choices)} choices, and letters for {len(LETTERS)}; leave some out"
    if problem.answer_type == "choice" and choices:
        place = ord(problem.answer.upper()) - 65 if len(problem.answer) == 1 and problem.answer.isascii() else -1
        if 0 <= place < len(choices) and not choices[place].strip():
            return f"the answer {problem.answer} is a choice that is empty; mend answer or choices"
        if not is_correct(problem.answer, problem):
            return f"answer {problem.answer[:60]!r} is none of its choices; give the letter or the text of one"
    if problem.answer_type == "date" and not is_correct(problem.answer, problem):
        return f"answer {problem.answer[:60]!r} is no clear date; write 2024-03-09, or add date_order (dmy, mdy, ymd)"
    if problem.lower is not None and problem.upper is not None and problem.lower > problem.upper:
        return f"lower {problem.lower:g} is above upper {problem.upper:g}; exchange them"
    for name, size in (("tolerance", problem.tolerance), ("tolerance_rel", problem.tolerance_rel)):
        if size is not None and not size >= 0:
            return f"{name} {size:g}: give a number from 0 on"
    return ""


def pick(problems: Sequence[Problem], split: str, path: Path | str, limit: int | None = None) -> list[Problem]:
    """The problems of a split, at most `limit`, spread evenly over the file. DataError if there is none."""
    chosen = [p for p in problems if p.split == split]
    if not chosen:
        have = ", ".join(sorted({p.split for p in problems}))
        raise DataError(f'{path}: no problem with split "{split}" (found: {have}); mark some rows "split": "{split}"')
    return spread(chosen, limit)


def spread(problems: Sequence[Problem], limit: int | None) -> list[Problem]:
    """At most `limit` problems at even distances, so that a sorted file is sampled from end to end."""
    if limit is None or limit >= len(problems):
        return list(problems)
    return [problems[i * len(problems) // limit] for i in range(limit)]
