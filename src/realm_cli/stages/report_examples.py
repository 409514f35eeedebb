"""Routes and answers that a report shows, chosen by a rule that knows nothing of their content.

The rule: problems in the order of the sha256 of their id, the first FEW of each kind. Anyone can choose them again.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from realm_cli.artifacts import iter_rows
from realm_cli.prompts import question_text
from realm_cli.records import Prediction, Problem, RouteSet, ScoredRoute

FEW = 3  # of each kind
MOST_ROUTES = 8  # of one problem
LONGEST = 3000  # characters of a text
MOST_STEPS = 40
RULE = "Chosen by the sha256 of the problem's id, the first of each kind: nobody picked them."
KINDS = (
    ("wrong → right", False, True),
    ("right → wrong", True, False),
    ("wrong → wrong", False, False),
    ("right → right", True, True),
)
Advance = Callable[[int, str], None]


def order(problem_id: str) -> str:
    """Where a problem stands in the rule."""
    return hashlib.sha256(problem_id.encode("utf-8", "surrogatepass")).hexdigest()


def shortened(text: str) -> str:
    """A text that a page can hold."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text) - LONGEST} more characters)"


def _question(known: Mapping[str, Problem], problem_id: str) -> dict[str, Any]:
    problem = known.get(problem_id)
    return {
        "id": problem_id,
        "question": shortened(question_text(problem)) if problem else None,
        "answer": shortened(problem.answer) if problem else None,
    }


def routes(run: Path, known: Mapping[str, Problem], missing: list[str], advance: Advance) -> list[dict[str, Any]]:
    """FEW problems with the routes of their first set, each step with its support."""
    scored_path, sets_path = run / "verify" / "scored.jsonl", run / "verify" / "sets.jsonl"
    if not scored_path.exists():
        missing.append(f"No scored routes yet: `realm verify --run {run}` scores them step by step.")
        return []
    ids: set[str] = set()
    wanted: dict[str, set[str]] = defaultdict(set)
    if sets_path.exists():
        first: dict[str, RouteSet] = {}
        for row in iter_rows(sets_path, RouteSet):
            advance(1, "")
            if row.problem_id not in first and len({route.label for route in row.shown}) == 2:
                first[row.problem_id] = row
                if len(first) > 10 * FEW:
                    first = {i: first[i] for i in heapq.nsmallest(FEW, first, key=order)}
        ids = set(heapq.nsmallest(FEW, first, key=order))
        for i in ids:
            wanted[i] = {route.route_id for route in first[i].shown}
    else:
        for route in iter_rows(scored_path, ScoredRoute):
            advance(1, "")
            ids = set(heapq.nsmallest(FEW, ids | {route.problem_id}, key=order))
    found: dict[str, list[ScoredRoute]] = defaultdict(list)
    for route in iter_rows(scored_path, ScoredRoute):
        advance(1, "")
        if route.problem_id in ids and (not wanted[route.problem_id] or route.id in wanted[route.problem_id]):
            found[route.problem_id].append(route)
    return [
        {
            **_question(known, i),
            "routes": [_route(r) for r in sorted(found[i], key=lambda r: (not r.correct, r.id))[:MOST_ROUTES]],
            "left_out": max(0, len(found[i]) - MOST_ROUTES),
        }
        for i in sorted(found, key=order)
    ]


def _route(route: ScoredRoute) -> dict[str, Any]:
    steps = []
    for k, text in enumerate(route.steps[:MOST_STEPS], 1):  # a file of others may hold fewer marks than steps
        steps.append(
            {
                "text": shortened(text),
                "support": next(iter(route.step_support[k - 1 : k]), None),
                "kind": next(iter(route.step_kind[k - 1 : k]), "none"),
                "first_error": route.first_error == k,
                "decisive": route.decisive_step == k,
            }
        )
    return {
        "source": route.source.rpartition("/")[2] if route.source.startswith("jsonl:") else route.source,
        "verdict": "right" if route.correct else "cut off" if route.truncated else "wrong",
        "lucky": route.lucky,
        "answer": shortened(route.final_answer or "none"),
        "steps": steps,
        "left_out": max(0, len(route.steps) - MOST_STEPS),
    }


def before_after(
    run: Path, known: Mapping[str, Problem], missing: list[str], advance: Advance
) -> dict[str, Any] | None:
    """The same bare problem before and after: the cold start (else the first model) and the last model."""
    path = run / "eval" / "predictions.jsonl"
    if not path.exists():
        return None
    by_model: dict[str, dict[str, Prediction]] = defaultdict(dict)
    for row in iter_rows(path, Prediction):
        advance(1, "")
        if row.mode == "bare" and row.sample == 0:
            by_model[row.model][row.problem_id] = row
    pair = _pair(list(by_model))
    if pair is None:
        missing.append(f"No before and after: `realm eval --run {run}` has to measure two models on bare prompts.")
        return None
    before, after = (by_model[name] for name in pair)
    both = sorted(before.keys() & after.keys(), key=order)
    kinds = []
    for name, was, became in KINDS:
        ids = [i for i in both if before[i].correct == was and after[i].correct == became]
        chosen = ids[: FEW if was != became else 1]
        shown = [
            {**_question(known, i), "group": before[i].group, "texts": [_text(before[i]), _text(after[i])]}
            for i in chosen
        ]
        kinds.append({"name": name, "count": len(ids), "examples": shown})
    return {"models": list(pair), "of": len(both), "kinds": kinds}


def _pair(models: Sequence[str]) -> tuple[str, str] | None:
    if len(models) < 2:
        return None
    before = "distilled" if "distilled" in models[:-1] else models[0]
    return before, models[-1]


def _text(row: Prediction) -> dict[str, Any]:
    return {"text": shortened(row.completion), "answer": shortened(row.answer or "none"), "correct": row.correct}
