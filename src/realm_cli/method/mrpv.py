"""MRPV scores: what separates right from wrong routes of one problem, step by step (method.md sections 5.3 and 5.6).

    pi = (c+ + c- + .5)/(n+ + n- + 1);  p± = (c± + m pi)/(n± + m), m = 1;  d = p+ - p-      (the route itself left out)
    step support = mean of d over the step's facts
    agreed: every p+ >= .5;  suspect: some d <= -.15 with p+ < .25, n+ >= 2;  none: no fact;  else novel
Usage: `scored = score_routes(routes, problem)`.

Deviations: (1) Routes that were cut off or state no answer take no part in the counts and get no scores.
(2) route_score is the mean step score over steps that have one. (3) Belief and Monte-Carlo terms have weight 0 until
a model fills them. (4) A step states an operation and a result; it is agreed only if both are, else a slip in a right
operation would pass as agreed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from realm_cli.method.steps import step_facts
from realm_cli.records import Problem, Route, ScoredRoute, StepKind

AGREED, SUSPECT, RARE, MIN_POSITIVES = 0.5, -0.15, 0.25, 2


def fact_support(c_pos: int, n_pos: int, c_neg: int, n_neg: int, m: float = 1.0) -> tuple[float, float, float]:
    """(p+, p-, d) of a fact held by c+ of n+ other positives and c- of n- other negatives."""
    pooled = (c_pos + c_neg + 0.5) / (n_pos + n_neg + 1)
    p_plus, p_minus = (c_pos + m * pooled) / (n_pos + m), (c_neg + m * pooled) / (n_neg + m)
    return p_plus, p_minus, p_plus - p_minus


def score_routes(routes: Sequence[Route], problem: Problem, *, extractor: str = "auto") -> list[ScoredRoute]:
    """All routes of one problem with facts, support, kinds, first error, decisive step and route score."""
    facts = [step_facts(route.steps, problem.question, extractor) for route in routes]
    usable = [not route.truncated and route.final_answer is not None and bool(route.steps) for route in routes]
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    sizes = Counter(route.correct for route, ok in zip(routes, usable, strict=True) if ok)
    for route, found, ok in zip(routes, facts, usable, strict=True):
        if ok:
            counts[route.correct].update({fact for step in found for fact in step})
    cohesion = _cohesion(routes, facts, usable, counts[True], sizes[True])
    return [
        _score(route, found, counts, sizes, cohesion) if ok else ScoredRoute(**route.model_dump())
        for route, found, ok in zip(routes, facts, usable, strict=True)
    ]


def _cohesion(
    routes: Sequence[Route],
    facts: Sequence[list[list[str]]],
    usable: Sequence[bool],
    counts: Counter[str],
    n_pos: int,
) -> float:
    """How far the positives agree: mean share of the other positives that hold a positive's fact."""
    if n_pos < MIN_POSITIVES:
        return 0.0
    shares = [
        (counts[fact] - 1) / (n_pos - 1)
        for route, found, ok in zip(routes, facts, usable, strict=True)
        if ok and route.correct
        for step in found
        for fact in step
    ]
    return sum(shares) / len(shares) if shares else 0.0


def _score(
    route: Route,
    facts: list[list[str]],
    counts: dict[bool, Counter[str]],
    sizes: Counter[bool],
    cohesion: float,
) -> ScoredRoute:
    own_pos, own_neg = int(route.correct), int(not route.correct)
    n_pos, n_neg = sizes[True] - own_pos, sizes[False] - own_neg
    support: list[float | None] = []
    kinds: list[StepKind] = []
    for step in facts:
        if not step:
            support.append(None)
            kinds.append("none")
            continue
        values = [
            fact_support(counts[True][fact] - own_pos, n_pos, counts[False][fact] - own_neg, n_neg) for fact in step
        ]
        support.append(sum(d for _, _, d in values) / len(values))
        suspect = n_pos >= MIN_POSITIVES and any(d <= SUSPECT and plus < RARE for plus, _, d in values)
        agreed = all(plus >= AGREED for plus, _, _ in values)
        kinds.append("agreed" if agreed else "suspect" if suspect else "novel")
    known = [value for value in support if value is not None]
    error = None if route.correct else first_error(kinds, n_pos, cohesion)
    decisive = support.index(max(known)) + 1 if route.correct and known else None
    return ScoredRoute(
        **route.model_dump(),
        facts=facts,
        step_support=support,
        step_kind=kinds,
        step_score=support,
        first_error=error,
        first_error_src="support" if error is not None else None,
        decisive_step=decisive,
        route_score=sum(known) / len(known) if known else None,
        lucky=route.correct and "suspect" in kinds,
    )


def first_error(kinds: Sequence[StepKind], n_pos: int, cohesion: float) -> int | None:
    """1-based first wrong step of a negative: the first step with facts after the last agreed one; None if unreliable.

    Reliable: at least two positives that agree with each other (>= .5), and an agreed step before it or a suspect one.
    """
    if n_pos < MIN_POSITIVES or cohesion < AGREED:
        return None
    last = max((k for k, kind in enumerate(kinds, 1) if kind == "agreed"), default=0)
    after = next((k for k, kind in enumerate(kinds, 1) if k > last and kind != "none"), None)
    if after is None or (last == 0 and kinds[after - 1] != "suspect"):
        return None
    return after
