"""Which routes a prompt contrasts (method.md section 6): symmetric label counts, same-wrong pairs, diverse facts.

n+ is drawn from a symmetric distribution, so that no constant verdict pays; a share `natural_frac` of the sets are
plain uniform draws. A problem without positives gives all-negative sets only. Order is uniform; labels never show.
Usage: `sets = build_sets(problem, scored, SetOptions(), random.Random(0))`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from realm_cli.method.answers import answer_key, to_number
from realm_cli.records import Problem, RouteSet, ScoredRoute, ShownRoute

POSITIVES: dict[int, tuple[float, ...]] = {
    2: (0.15, 0.70, 0.15),
    3: (0.10, 0.40, 0.40, 0.10),
    4: (0.10, 0.25, 0.30, 0.25, 0.10),
}
MAX_INDEX_SHARE = 0.35


@dataclass(frozen=True)
class SetOptions:
    """Defaults of section 6. `k_long_tokens`: K is 3 at most where the median route is longer."""

    k: int = 4
    sets_per_problem: int = 2
    natural_frac: float = 0.25
    same_wrong: float = 0.9
    hide_answers: float = 0.25
    tamper_final: float = 0.1
    k_long_tokens: int = 300


def build_sets(
    problem: Problem,
    scored: Sequence[ScoredRoute],
    options: SetOptions,
    rng: random.Random,
    position_counts: Counter[int] | None = None,
) -> list[RouteSet]:
    """Sets of one problem; [] if fewer than 2 usable routes. `position_counts`: first errors shown so far, shared by
    the caller over all problems, so that no constant "wrong @k" is right for more than 35 %."""
    pool = [r for r in scored if not r.truncated and r.final_answer is not None and r.steps and not r.lucky]
    positions = position_counts if position_counts is not None else Counter()
    lengths = sorted(r.n_tokens for r in pool)
    long = bool(lengths) and lengths[len(lengths) // 2] > options.k_long_tokens
    k = min(options.k, 3 if long else options.k, len(pool))
    if k < 2:
        return []
    sets = []
    for number in range(options.sets_per_problem):
        natural = rng.random() < options.natural_frac
        chosen = rng.sample(pool, k) if natural else _balanced(pool, k, problem, options, rng, positions)
        rng.shuffle(chosen)
        hidden = rng.random() < options.hide_answers
        shown = [_show(route, problem, pool, 0.0 if hidden else options.tamper_final, rng) for route in chosen]
        positions.update(s.first_error for s in shown if s.first_error is not None)
        kind: Literal["balanced", "natural"] = "natural" if natural else "balanced"
        sets.append(
            RouteSet(
                id=f"{problem.id}/set{number}",
                problem_id=problem.id,
                kind=kind,
                shown=shown,
                answers_hidden=hidden,
                order_seed=number,
            )
        )
    return sets


def _balanced(
    pool: list[ScoredRoute],
    k: int,
    problem: Problem,
    options: SetOptions,
    rng: random.Random,
    positions: Counter[int],
) -> list[ScoredRoute]:
    """n+ positives and k - n+ negatives; drawn again until the pool can give them."""
    positives = [r for r in pool if r.correct]
    negatives = [r for r in pool if not r.correct]
    weights = POSITIVES.get(k) or tuple(1.0 for _ in range(k + 1))
    possible = [n for n in range(k + 1) if n <= len(positives) and k - n <= len(negatives)]
    n_pos = rng.choices(possible, [weights[n] for n in possible])[0]
    chosen = _diverse(positives, n_pos, [], rng)
    lengths = {len(route.steps) for route in chosen}
    pair: list[ScoredRoute] = []
    if k - n_pos >= 2 and rng.random() < options.same_wrong:
        pair = _same_wrong(negatives, problem, lengths, rng)
    return chosen + _negatives(negatives, k - n_pos, pair, lengths, rng, positions)


def _same_wrong(
    negatives: Sequence[ScoredRoute], problem: Problem, lengths: set[int], rng: random.Random
) -> list[ScoredRoute]:
    groups: dict[str | None, list[ScoredRoute]] = defaultdict(list)
    alike = [route for route in negatives if len(route.steps) in lengths] or negatives
    for route in alike:
        groups[answer_key(route.final_answer, problem)].append(route)
    shared = [found for key, found in sorted(groups.items(), key=lambda item: str(item[0])) if len(found) > 1 and key]
    return rng.sample(rng.choice(shared), 2) if shared else []


def _negatives(
    negatives: Sequence[ScoredRoute],
    n: int,
    chosen: list[ScoredRoute],
    lengths: set[int],
    rng: random.Random,
    positions: Counter[int],
) -> list[ScoredRoute]:
    """As long as a positive where possible, so that length tells nothing; two thirds near misses; first errors at an
    index that is over its share are passed over while others are left."""
    chosen = list(chosen)
    while len(chosen) < n:
        near = rng.random() < 2 / 3
        left = [r for r in negatives if r not in chosen]
        total = sum(positions.values())
        fresh = [r for r in left if r.first_error is None or positions[r.first_error] < MAX_INDEX_SHARE * max(total, 8)]
        usable = fresh or left
        alike = [r for r in usable if len(r.steps) in lengths] or usable
        kind = [r for r in alike if _near_miss(r) == near]
        chosen += _diverse(kind or alike, 1, chosen, rng)
    return chosen[:n]


def _near_miss(route: ScoredRoute) -> bool:
    late = route.first_error is not None and route.first_error / len(route.steps) >= 0.5
    return late or "agreed" in route.step_kind


def _diverse(
    pool: Sequence[ScoredRoute], n: int, given: Sequence[ScoredRoute], rng: random.Random
) -> list[ScoredRoute]:
    """Greedy max-min on 1 - Jaccard of facts, another source preferred; ties by chance."""
    chosen: list[ScoredRoute] = []
    left = rng.sample(list(pool), len(pool))
    while left and len(chosen) < n:
        others = [*given, *chosen]
        best = max(left, key=lambda r: min((_distance(r, o) for o in others), default=0.0))
        chosen.append(best)
        left.remove(best)
    return chosen


def _distance(a: ScoredRoute, b: ScoredRoute) -> float:
    left = {fact for step in a.facts for fact in step}
    right = {fact for step in b.facts for fact in step}
    union = left | right
    return 1 - (len(left & right) / len(union) if union else 1.0) + 0.1 * (a.source != b.source)


def _show(
    route: ScoredRoute, problem: Problem, pool: Sequence[ScoredRoute], tamper: float, rng: random.Random
) -> ShownRoute:
    if route.correct and rng.random() < tamper:
        wrong = _distractor(problem, pool, rng)
        if wrong is not None:
            return ShownRoute(
                route_id=route.id,
                steps=route.steps,
                answer=wrong,
                label=False,
                first_error=len(route.steps),
                tampered=True,
            )
    return ShownRoute(
        route_id=route.id,
        steps=route.steps,
        answer=route.final_answer,
        label=route.correct,
        first_error=route.first_error,
    )


def _distractor(problem: Problem, pool: Sequence[ScoredRoute], rng: random.Random) -> str | None:
    """Another answer: one that a negative gave, else another choice, else a number nearby."""
    gold = answer_key(problem.answer, problem)
    seen = sorted({r.final_answer for r in pool if r.final_answer and answer_key(r.final_answer, problem) != gold})
    if seen:
        return rng.choice(seen)
    if problem.choices:
        rest = [c for c in problem.choices if answer_key(c, problem) != gold]
        return rng.choice(rest) if rest else None
    number = to_number(problem.answer)
    if number is None:
        return None
    moved = number + Fraction(rng.choice((-10, -2, -1, 1, 2, 10)))
    return str(moved.numerator) if moved.denominator == 1 else str(float(moved))


def realised(sets: Sequence[RouteSet]) -> dict[str, float]:
    """What was drawn: n+ shares, plurality-wrong share, hidden, tampered, largest share of one first-error index."""
    if not sets:
        return {}
    total = len(sets)
    found: dict[str, float] = {}
    for n, count in sorted(Counter(sum(s.label for s in x.shown) for x in sets).items()):
        found[f"positives_{n}"] = count / total
    wrong = 0
    for route_set in sets:
        votes = Counter(s.answer for s in route_set.shown)
        top = max(votes, key=lambda a: votes[a])
        wrong += not any(s.label and s.answer == top for s in route_set.shown)
    errors = Counter(s.first_error for x in sets for s in x.shown if s.first_error is not None)
    return found | {
        "plurality_wrong": wrong / total,
        "natural": sum(x.kind == "natural" for x in sets) / total,
        "hidden": sum(x.answers_hidden for x in sets) / total,
        "tampered": sum(s.tampered for x in sets for s in x.shown) / sum(len(x.shown) for x in sets),
        "first_error_max_share": max(errors.values()) / sum(errors.values()) if errors else 0.0,
    }
