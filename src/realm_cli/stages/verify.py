"""Score routes against each other and build contrastive route sets (method.md sections 5 and 6).

Reads problems and routes; writes verify/scored.jsonl, verify/sets.jsonl (train and dev problems) and
verify/summary.json. No model is needed.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realm_cli.artifacts import Stage, iter_rows, write_json, write_rows
from realm_cli.errors import DataError
from realm_cli.method.answers import is_correct
from realm_cli.method.leak import leak_auc, probe_rows
from realm_cli.method.mrpv import score_routes
from realm_cli.method.route_sets import SetOptions, build_sets, realised
from realm_cli.method.steps import parse_route
from realm_cli.protocols import Progress
from realm_cli.records import Problem, Route, RouteSet, ScoredRoute
from realm_cli.stages.summary import Summary, Table, percent


def run_verify(stage: Stage, problems: Sequence[Problem], routes_path: Path, *, progress: Progress) -> Summary:
    """Score every route, build the sets, run the leak probe. DataError without any positive or negative."""
    config, seed = stage.recipe.verify, stage.recipe.seed
    by_id = {problem.id: problem for problem in problems}
    grouped = _read_routes(routes_path, by_id)
    _need_both_signs(grouped, routes_path)
    options = SetOptions(
        k=config.k,
        sets_per_problem=config.sets_per_problem,
        natural_frac=config.natural_frac,
        same_wrong=config.same_wrong,
        hide_answers=config.hide_answers,
        tamper_final=config.tamper_final,
    )
    scored: dict[str, list[ScoredRoute]] = {}
    sets: list[RouteSet] = []
    positions: Counter[int] = Counter()
    with progress("scoring", len(grouped)) as advance:
        for problem_id, routes in grouped.items():
            problem = by_id[problem_id]
            scored[problem_id] = score_routes(routes, problem, extractor=config.facts)
            if problem.split != "test":
                rng = random.Random(f"{seed}:{problem_id}:sets")
                sets += build_sets(problem, scored[problem_id], options, rng, positions)
            advance(1, "")
    if not sets:
        raise DataError(f"{routes_path}: no train or dev problem has two usable routes; sample more with --n")
    rows = [row for found in scored.values() for row in found]
    write_rows(stage.path("scored.jsonl"), rows)
    write_rows(stage.path("sets.jsonl"), sets)
    summary = _summarise(by_id, rows, sets, config.leak_limit, seed)
    write_json(stage.path("summary.json"), summary)
    if not summary["leak"]["pass"] and config.on_leak == "fail":
        raise DataError(
            f"{stage.path('sets.jsonl')}: labels leak through form (AUC {summary['leak']['auc']:.2f} > "
            f"{config.leak_limit}); collect routes of more even length, or set verify.on_leak=warn"
        )
    return _show(stage, summary)


def _read_routes(path: Path, by_id: Mapping[str, Problem]) -> dict[str, list[Route]]:
    grouped: dict[str, list[Route]] = defaultdict(list)
    seen: set[str] = set()
    for number, route in enumerate(iter_rows(path, Route, made_by="realm rollout"), 1):
        if route.id in seen:
            raise DataError(f"{path}:{number}: route id {route.id!r} stands twice; ids must be unique")
        seen.add(route.id)
        problem = by_id.get(route.problem_id)
        if problem is None:
            raise DataError(f"{path}:{number}: problem {route.problem_id!r} is not among the problems; give its file")
        if not route.steps:  # a route from another tool: text only
            steps, answer = parse_route(route.text)
            answer = route.final_answer or answer
            right = not route.truncated and is_correct(answer, problem)
            route = route.model_copy(update={"steps": steps, "final_answer": answer, "correct": right})
        grouped[route.problem_id].append(route)
    if not grouped:
        raise DataError(f"{path}: no rows; run `realm rollout` again")
    return grouped


def _need_both_signs(grouped: Mapping[str, Sequence[Route]], path: Path) -> None:
    signs = {route.correct for routes in grouped.values() for route in routes if not route.truncated}
    if True not in signs:
        raise DataError(
            f"{path}: no route is correct; check the problems' answers and types, or add a stronger --model"
        )
    if False not in signs:
        raise DataError(f"{path}: every route is correct, nothing to contrast; add a weaker --model or harder problems")


def _summarise(
    by_id: Mapping[str, Problem], rows: Sequence[ScoredRoute], sets: Sequence[RouteSet], limit: float, seed: int
) -> dict[str, Any]:
    negatives = [r for r in rows if not r.correct and not r.truncated]
    positives = [r for r in rows if r.correct]
    kinds = Counter(kind for r in rows for kind in r.step_kind)
    auc = leak_auc(probe_rows(sets), seed)
    groups: dict[str, dict[str, Any]] = {}
    for name in sorted({by_id[r.problem_id].group for r in rows}):
        own = [r for r in rows if by_id[r.problem_id].group == name]
        wrong = [r for r in own if not r.correct and not r.truncated]
        groups[name or "all"] = {
            "routes": len(own),
            "correct": _mean([r.correct for r in own]),
            "first_error_known": _mean([r.first_error is not None for r in wrong]),
        }
    return {
        "problems": len({r.problem_id for r in rows}),
        "routes": len(rows),
        "correct": _mean([r.correct for r in rows]),
        "lucky": _mean([r.lucky for r in positives]),
        "first_error_known": _mean([r.first_error is not None for r in negatives]),
        "step_kinds": dict(kinds),
        "sets": len(sets),
        "set_statistics": realised(sets),
        "leak": {"auc": auc, "limit": limit, "pass": auc <= limit},
        "groups": groups,
    }


def _mean(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _show(stage: Stage, summary: dict[str, Any]) -> Summary:
    rows = [
        [name, str(g["routes"]), percent(g["correct"]), percent(g["first_error_known"])]
        for name, g in summary["groups"].items()
    ]
    steps = sum(summary["step_kinds"].values()) or 1
    kinds = [
        [kind, percent(summary["step_kinds"].get(kind, 0) / steps)] for kind in ("agreed", "suspect", "novel", "none")
    ]
    leak = summary["leak"]
    verdict = "pass" if leak["pass"] else "above it: length or format hints at the label, r_ver may reward form"
    return Summary(
        "verify",
        summary,
        [
            Table("Routes by group", ["group", "routes", "correct %", "first error known %"], rows),
            Table("Steps", ["kind", "%"], kinds),
        ],
        notes=[
            f"{summary['sets']} route sets over {summary['problems']} problems",
            f"leak probe: AUC {leak['auc']:.2f}, limit {leak['limit']}: {verdict}",
        ],
        files=[str(stage.path(name)) for name in ("scored.jsonl", "sets.jsonl", "summary.json")],
    )
