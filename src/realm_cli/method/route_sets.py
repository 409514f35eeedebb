"""Which routes a prompt contrasts (method.md section 6): symmetric label counts, same-wrong pairs, diverse facts.

    n+ of K = 4: .10 .25 .30 .25 .10      K = 3: .10 .40 .40 .10      K = 2: .15 .70 .15      other K: uniform
Symmetric, so that no constant verdict pays; a share `natural_frac` of the sets are plain uniform draws. With two
negatives or more, `same_wrong` of the sets hold two that share a wrong answer. Order is uniform; labels never show.
Usage: `sets = build_sets(problem, scored, SetOptions(), random.Random(0))`.

Deviations: (1) A set of one sign from a pool that could not have filled a set of the other sign is marked `natural`, so
that its verdicts are not rewarded: problems that nobody solves would pay for "all wrong" otherwise. Problems that
everybody solves get sets in natural draws only. (2) A tampered answer line never makes or breaks a set of one sign, for
the same reason. (3) Negatives with as many steps as a shown positive are preferred, also in same-wrong pairs, so that
length tells little. (4) The 35 % limit on first errors is a preference: it yields where the pool has nothing else, and
natural draws ignore it. `realised` shows what came out.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from realm_cli.method.answers import answer_key, is_correct, numbers_in, to_number
from realm_cli.method.scoring import plurality, routes_shown
from realm_cli.records import Problem, RouteSet, ScoredRoute, ShownRoute

POSITIVES: Mapping[int, tuple[float, ...]] = {
    2: (0.15, 0.70, 0.15),
    3: (0.10, 0.40, 0.40, 0.10),
    4: (0.10, 0.25, 0.30, 0.25, 0.10),
}
MAX_INDEX_SHARE, NEAR_MISS, OTHER_SOURCE = 0.35, 2 / 3, 0.1
OPPOSITES = {"yes": "No", "no": "Yes", "true": "False", "false": "True", "pass": "Fail", "fail": "Pass"}


@dataclass(frozen=True)
class SetOptions:
    """Defaults of section 6.

    k_long_tokens: K is 3 at most where the median route has more tokens; None = always k (`scoring.routes_shown`).
    seed: of the order of the routes.
    allow_single_sign: False leaves out every set that shows positives only or negatives only.
    signs: `right` or `wrong` shows routes of that sign only, drawn uniformly; as k = 1 does, it takes contrast away.
    """

    k: int = 4
    sets_per_problem: int = 2
    natural_frac: float = 0.25
    same_wrong: float = 0.9
    hide_answers: float = 0.25
    tamper_final: float = 0.1
    k_long_tokens: int | None = 300
    seed: int = 0
    allow_single_sign: bool = True
    signs: str = "both"


@dataclass(frozen=True)
class _Pool:
    """The routes of one problem that may be shown."""

    problem: Problem
    positives: list[ScoredRoute]
    negatives: list[ScoredRoute]
    facts: Mapping[str, frozenset[str]]
    positions: Counter[int]

    @property
    def routes(self) -> list[ScoredRoute]:
        return [*self.positives, *self.negatives]


def build_sets(
    problem: Problem,
    scored: Sequence[ScoredRoute],
    options: SetOptions,
    rng: random.Random,
    position_counts: Counter[int] | None = None,
) -> list[RouteSet]:
    """Sets of one problem, ids `<problem>/set<j>`; [] if fewer than 2 routes can be shown.

    Cut-off and lucky routes and those without steps or answer are left out. position_counts: first errors shown so
    far; share one over all problems, so that no constant "wrong @k" is right for more than 35 % (updated in place).
    The same rng state, options and routes give the same sets. Source: method.md section 6.
    """
    whole = [r for r in scored if not r.truncated and r.final_answer is not None and r.steps]
    usable = [r for r in whole if not r.lucky]
    if options.signs != "both":
        usable = [r for r in usable if r.correct == (options.signs == "right")]
    pool = _Pool(
        problem,
        [route for route in usable if route.correct],
        [route for route in usable if not route.correct],
        {route.id: frozenset(fact for step in route.facts for fact in step) for route in usable},
        position_counts if position_counts is not None else Counter(),
    )
    k = min(routes_shown(options.k, [route.n_tokens for route in whole], options.k_long_tokens), len(usable))
    one_sign = not pool.positives or not pool.negatives
    no_contrast = options.k == 1 or options.signs != "both"
    if k < (1 if options.k == 1 else 2) or (one_sign and not options.allow_single_sign):
        return []
    sets = []
    for number in range(options.sets_per_problem):
        natural = rng.random() < options.natural_frac or no_contrast
        if not pool.negatives and not natural:
            continue
        chosen = rng.sample(pool.routes, k) if natural else _balanced(pool, k, options, rng)
        if not options.allow_single_sign and len({route.correct for route in chosen}) == 1:
            chosen = _balanced(pool, k, options, rng)
        order_seed = random.Random(f"{options.seed}/{problem.id}/{number}").getrandbits(31)
        random.Random(order_seed).shuffle(chosen)
        hidden = rng.random() < options.hide_answers
        shown = _show(chosen, pool, 0.0 if hidden else options.tamper_final, rng)
        pool.positions.update(s.first_error for s in shown if s.first_error is not None)
        unpaired = len({route.correct for route in chosen}) == 1 and min(len(pool.positives), len(pool.negatives)) < k
        sets.append(
            RouteSet(
                id=f"{problem.id}/set{number}",
                problem_id=problem.id,
                kind="natural" if natural or unpaired else "balanced",
                shown=shown,
                answers_hidden=hidden,
                order_seed=order_seed,
            )
        )
    return sets


def _balanced(pool: _Pool, k: int, options: SetOptions, rng: random.Random) -> list[ScoredRoute]:
    """n+ positives and k - n+ negatives. Weights over what the pool can give = drawing again until it can."""
    weights = POSITIVES.get(k) or (1.0,) * (k + 1)
    possible = [n for n in range(k + 1) if n <= len(pool.positives) and k - n <= len(pool.negatives)]
    if not options.allow_single_sign:
        possible = [n for n in possible if 0 < n < k]
    n_pos = rng.choices(possible, [weights[n] for n in possible])[0]
    middle = median(_length(route) for route in pool.routes)
    chosen = _diverse(_of_even_length(pool.positives, middle, n_pos), n_pos, [], pool, rng)
    steps = {len(route.steps) for route in chosen}
    negatives = _of_even_length(pool.negatives, middle, k - n_pos)
    pair: list[ScoredRoute] = []
    if k - n_pos >= 2 and rng.random() < options.same_wrong:
        pair = _same_wrong(negatives, steps, pool, rng) or _same_wrong(pool.negatives, steps, pool, rng)
    return chosen + _negatives(negatives, k - n_pos, pair, steps, pool, rng)


def _length(route: ScoredRoute) -> int:
    return route.n_tokens or len(route.text)


def _of_even_length(routes: list[ScoredRoute], middle: float, need: int) -> list[ScoredRoute]:
    """The routes within a factor 2 of the median length, if there are enough."""
    even = [route for route in routes if middle / 2 <= _length(route) <= middle * 2]
    return even if len(even) >= need else routes


def _overused(route: ScoredRoute, positions: Counter[int]) -> bool:
    total = max(sum(positions.values()), 8)
    return route.first_error is not None and positions[route.first_error] >= MAX_INDEX_SHARE * total


def _same_wrong(
    negatives: Sequence[ScoredRoute], steps: set[int], pool: _Pool, rng: random.Random
) -> list[ScoredRoute]:
    """Two negatives with one wrong answer and as many steps as a positive, if such are there; [] without a pair."""
    groups: dict[str, list[ScoredRoute]] = defaultdict(list)
    for route in negatives:
        key = answer_key(route.final_answer, pool.problem, correct=False)
        if key is not None:
            groups[key].append(route)
    alike = [[route for route in groups[key] if len(route.steps) in steps] for key in sorted(groups)]
    pairs = [group for group in alike if len(group) > 1] if any(alike) else [g for g in groups.values() if len(g) > 1]
    fresh = [[route for route in group if not _overused(route, pool.positions)] for group in pairs]
    pairs = [group for group in fresh if len(group) > 1] or pairs
    return _diverse(rng.choice(pairs), 2, [], pool, rng) if pairs else []


def _negatives(
    negatives: Sequence[ScoredRoute],
    n: int,
    pair: list[ScoredRoute],
    steps: set[int],
    pool: _Pool,
    rng: random.Random,
) -> list[ScoredRoute]:
    """`pair` and others, n in all: not at an overused step, as long as a positive, two thirds near misses."""
    chosen = list(pair)
    while len(chosen) < n:
        taken = {route.id for route in chosen}
        left = [route for route in negatives if route.id not in taken]
        left = [route for route in left if not _overused(route, pool.positions)] or left
        left = [route for route in left if len(route.steps) in steps] or left
        near = rng.random() < NEAR_MISS
        left = [route for route in left if _near_miss(route) == near] or left
        chosen += _diverse(left, 1, chosen, pool, rng)
    return chosen


def _near_miss(route: ScoredRoute) -> bool:
    late = route.first_error is not None and route.first_error / len(route.steps) >= 0.5
    return late or "agreed" in route.step_kind


def _diverse(
    routes: Sequence[ScoredRoute], n: int, given: Sequence[ScoredRoute], pool: _Pool, rng: random.Random
) -> list[ScoredRoute]:
    """Greedy max-min on 1 - Jaccard of facts, another source preferred; ties by chance."""
    chosen: list[ScoredRoute] = []
    left = rng.sample(list(routes), len(routes))
    while left and len(chosen) < n:
        others = [*given, *chosen]
        best = max(left, key=lambda r: min((_distance(r, o, pool) for o in others), default=0.0))
        chosen.append(best)
        left.remove(best)
    return chosen


def _distance(a: ScoredRoute, b: ScoredRoute, pool: _Pool) -> float:
    left, right = pool.facts[a.id], pool.facts[b.id]
    jaccard = len(left & right) / len(left | right) if left or right else 1.0
    return 1 - jaccard + OTHER_SOURCE * (a.source != b.source)


def _show(chosen: Sequence[ScoredRoute], pool: _Pool, tamper: float, rng: random.Random) -> list[ShownRoute]:
    """The routes as shown; in sets of both signs a positive's answer line may be replaced, but not the last one's."""
    positives = sum(route.correct for route in chosen)
    spare = positives - 1 if positives < len(chosen) else 0
    shown = []
    for route in chosen:
        wrong = None
        if route.correct and rng.random() < tamper and spare > 0:
            wrong = _distractor(pool, rng)
        spare -= wrong is not None
        shown.append(
            ShownRoute(
                route_id=route.id,
                steps=route.steps,
                answer=wrong or route.final_answer,
                label=route.correct and wrong is None,
                first_error=len(route.steps) if wrong is not None else route.first_error,
                tampered=wrong is not None,
            )
        )
    return shown


def _distractor(pool: _Pool, rng: random.Random) -> str | None:
    """Another answer: one that a negative gave, else another choice or label, else a near number; None without one."""
    problem = pool.problem
    seen = {r.final_answer for r in pool.negatives if answer_key(r.final_answer, problem, correct=False)}
    wrong = seen or set(problem.choices or ()) or {OPPOSITES.get(problem.answer.casefold().strip(" ."), "")}
    if wrong == {""} and problem.answer_type in ("number", "expr"):
        number = to_number(problem.answer)
        moves = (-10, -2, -1, 1, 2, 10) if number is not None else ()
        same_sign = [m for m in moves if number is not None and (number + m) * number > 0]
        wrong = {_written(number + m, problem.answer) for m in same_sign or moves if number is not None}
    fitting = sorted(a for a in wrong if a and (a in seen or not is_correct(a, problem)))
    return rng.choice(fitting) if fitting else None


def _written(number: Fraction, like: str) -> str:
    """With as many decimals as the gold answer; a fraction where that is one, or where no float holds the number."""
    if "/" in like or abs(number) > sys.float_info.max:
        return str(number)
    found = numbers_in(like)
    return f"{float(number):.{len(found[0].partition('.')[2]) if found else 0}f}"


def realised(sets: Iterable[RouteSet]) -> dict[str, float]:
    """What was drawn, as shares: n+ of each set, plurality wrong (over sets), natural, one sign, hidden, tampered (over
    routes), and the largest share of one first-error index among the known ones. {} without sets. One pass."""
    counts: Counter[str] = Counter()
    positives: Counter[int] = Counter()
    errors: Counter[int] = Counter()
    for route_set in sets:
        shown = route_set.shown
        labels = [s.label for s in shown]
        keys = [_vote(s.answer) for s in shown]
        top = plurality(keys)
        positives[sum(labels)] += 1
        counts["plurality_wrong"] += not any(s.label for s, key in zip(shown, keys, strict=True) if key == top)
        counts["natural"] += route_set.kind == "natural"
        counts["one_sign"] += len(set(labels)) == 1
        counts["hidden"] += route_set.answers_hidden
        counts["tampered"] += sum(s.tampered for s in shown)
        counts["routes"] += len(shown)
        errors.update(s.first_error for s in shown if s.first_error is not None)
    total = sum(positives.values())
    if not total:
        return {}
    return {
        **{f"positives_{n}": count / total for n, count in sorted(positives.items())},
        **{name: counts[name] / total for name in ("plurality_wrong", "natural", "one_sign", "hidden")},
        "tampered": counts["tampered"] / counts["routes"],
        "first_error_max_share": max(errors.values()) / sum(errors.values()) if errors else 0.0,
    }


def _vote(answer: str | None) -> str | None:
    number = to_number(answer) if answer is not None else None
    return str(number) if number is not None else answer and " ".join(answer.casefold().split())
