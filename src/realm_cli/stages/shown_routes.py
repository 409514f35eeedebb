"""The routes that routed evaluation prompts show, and what those routes reach by themselves (method.md section 12).

Usage: `shown = shown_for_test(problems, load_routes(path, problems), k, seed, verify.k_long_tokens)`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from realm_cli.artifacts import iter_rows
from realm_cli.method import scoring
from realm_cli.method.answers import answer_key
from realm_cli.method.grading import Verdicts
from realm_cli.recipe import Recipe
from realm_cli.records import Problem, Route, ShownRoute


def shown_for_test(
    problems: Sequence[Problem], routes: Mapping[str, Sequence[Route]], k: int, seed: int, long: int | None = None
) -> dict[str, list[ShownRoute]]:
    """K routes per problem, drawn uniformly by id alone: labels are never read for the choice (13.7).

    long: `verify.k_long_tokens`, the rule by which training shows fewer. Problems with too few routes are left out.
    """
    chosen: dict[str, list[ShownRoute]] = {}
    for problem in problems:
        pool = {r.id: r for r in routes.get(problem.id, []) if not r.truncated and r.final_answer and r.steps}
        own = scoring.routes_shown(k, [route.n_tokens for route in pool.values()], long)
        if len(pool) >= own:
            ids = scoring.choose_routes(sorted(pool), own, random.Random(f"{seed}:{problem.id}:eval"))
            chosen[problem.id] = [
                ShownRoute(route_id=i, steps=pool[i].steps, answer=pool[i].final_answer, label=pool[i].correct)
                for i in ids
            ]
    return chosen


def load_routes(path: Path, problems: Sequence[Problem], verdicts: Verdicts | None = None) -> dict[str, list[Route]]:
    """Routes of the given problems, by problem id. Rows without steps or verdict are read and judged; verdicts: counts
    them."""
    by_id, verdicts = {problem.id: problem for problem in problems}, verdicts or Verdicts(check=False)
    found: dict[str, list[Route]] = defaultdict(list)
    for route in iter_rows(path, Route, made_by="realm rollout"):
        if route.problem_id in by_id:
            found[route.problem_id].append(verdicts.take(route, by_id[route.problem_id]))
    return dict(found)


def routes_report(problems: Sequence[Problem], shown: Mapping[str, Sequence[ShownRoute]]) -> dict[str, Any] | None:
    """Plurality and any-correct of the routes shown: the lines a routed model must beat."""
    if not shown:
        return None
    by_group: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for problem in problems:
        routes = shown.get(problem.id)
        if routes:
            vote = scoring.plurality([answer_key(route.answer, problem) for route in routes])
            pair = (vote == answer_key(problem.answer, problem), any(route.label for route in routes))
            by_group["all"].append(pair)
            if problem.group:
                by_group[problem.group].append(pair)
    return {
        name: {
            "n": len(pairs),
            "plurality": sum(p for p, _ in pairs) / len(pairs),
            "any_correct": sum(a for _, a in pairs) / len(pairs),
        }
        for name, pairs in by_group.items()
    }


def shown_notes(
    problems: Sequence[Problem], shown: Mapping[str, Sequence[ShownRoute]], recipe: Recipe
) -> Iterator[str]:
    """What routed modes leave out and cut short, a line each; nothing where all problems show eval.k routes."""
    k, sizes = recipe.eval.k, Counter(len(routes) for routes in shown.values())
    if left := len(problems) - len(shown):
        yield (
            f"routed modes leave out {left} of {len(problems)} problems, which have fewer than {k} routes with steps "
            "and an answer; `realm rollout` with a larger --n adds some"
        )
    if cut := len(shown) - sizes[k]:
        yield (
            f"{cut} of {len(shown)} problems show {scoring.LONG_K} routes for {k}: their median route has over "
            f"{recipe.verify.k_long_tokens} tokens (verify.k_long_tokens, as in training)"
        )
    if shown and recipe.verify.k != k:
        yield f"routed prompts show {k} routes (eval.k), this recipe's sets {recipe.verify.k} (verify.k)"
