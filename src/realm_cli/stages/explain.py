"""`realm verify --explain ID`: one problem's routes, step by step, with the evidence for each (method.md 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realm_cli.artifacts import iter_rows
from realm_cli.errors import DataError
from realm_cli.method.mrpv import Evidence, evidence
from realm_cli.prompts import question_text
from realm_cli.records import Problem, ScoredRoute
from realm_cli.stages.summary import Summary, Table


def explain(path: Path, problems: Sequence[Problem], problem_id: str) -> Summary:
    """Tables of one problem's scored routes, right ones first. DataError for an unknown id or one without routes."""
    problem = next((p for p in problems if p.id == problem_id), None)
    if problem is None:
        raise DataError(
            f"--explain {problem_id}: no such problem; known are {problems[0].id} and {len(problems) - 1} more"
        )
    routes = [row for row in iter_rows(path, ScoredRoute, made_by="realm verify") if row.problem_id == problem_id]
    if not routes:
        raise DataError(f"{path}: no route of problem {problem_id}; run `realm rollout` and `realm verify` on it")
    found = evidence(routes)
    routes = sorted(routes, key=lambda route: (not route.correct, route.id))
    data: dict[str, Any] = {
        "problem": problem.model_dump(),
        "routes": [
            {**route.model_dump(), "evidence": [[fact.as_row() for fact in step] for step in found[route.id]]}
            for route in routes
        ],
    }
    right = sum(route.correct for route in routes)
    notes = [
        f"question: {question_text(problem)}",
        f"answer: {problem.answer}; {right} of {len(routes)} routes are right",
        "support: mean p+ - p- of a step's facts, the route itself left out",
        "facts: (+2/3 -1/4) = stated by 2 of the 3 other right routes and by 1 of the 4 other wrong ones",
    ]
    return Summary("explain", data, [_table(route, found[route.id]) for route in routes], notes)


def _table(route: ScoredRoute, found: Sequence[Sequence[Evidence]]) -> Table:
    verdict = "right" if route.correct else "cut off" if route.truncated else "wrong"
    rows = []
    for k, step in enumerate(route.steps, 1):
        marks: list[str] = list(route.step_kind[k - 1 : k])  # a file of others may hold fewer
        marks += ["FIRST ERROR"] if route.first_error == k else []
        marks += ["decisive"] if route.decisive_step == k else []
        support = next(iter(route.step_support[k - 1 : k]), None)
        facts = "; ".join(str(fact) for fact in found[k - 1]) if k <= len(found) else ""
        rows.append([f"{k}. {step}", " ".join(marks), "-" if support is None else f"{support:+.2f}", facts])
    lucky = ", lucky" if route.lucky else ""
    return Table(
        f"{route.id}: {verdict}{lucky}, answer {route.final_answer}", ["step", "kind", "support", "facts"], rows
    )
