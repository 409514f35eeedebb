"""Reading and checking problem sets; shared by all stages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from realm_cli.artifacts import read_rows
from realm_cli.errors import DataError
from realm_cli.method.answers import known_types
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
        key = re.sub(r"\W+", " ", problem.question.lower()).strip()
        other = homes.setdefault(key, problem)
        if other.split != problem.split:
            raise DataError(
                f"{path}: problems {other.id} ({other.split}) and {problem.id} ({problem.split}) ask the same "
                "question; remove one, else the test is not held out"
            )
    return problems


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
