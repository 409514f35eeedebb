"""MRPV scores: what separates right from wrong routes of one problem, step by step (method.md sections 5.3 and 5.6).

    pi = (c+ + c- + .5)/(n+ + n- + 1);  p± = (c± + m pi)/(n± + m), m = 1;  d = p+ - p-      (the route itself left out)
    support v_k = mean of d over the step's facts
    agreed: its facts have p+ >= .5;   suspect: some d <= -.15 with p+ < .25, n+ >= 2;  none: no fact;  else novel
    step score V_k = w_s v_k + w_b clip(b_k - b_(k-1), -1, 1) + w_m (c_k - c_(k-1)), renormalised over what exists
    first error of a negative: the first step with facts after the last agreed one, if that is reliable
Usage: `scored = score_routes(routes, problem)`. One pass counts the facts of all routes; each route subtracts itself.

Deviations (the paper's formulas are not available to us): (1) Routes that were cut off, state no answer or have no
steps take no part in the counts and come back with empty scores. (2) route_score is the mean step score over the steps
that have one. (3) Belief and Monte-Carlo values are read from ScoredRoutes that carry them, one per step; the first
step has no difference, and default weights leave both out. (4) The method document calls a step agreed if its best fact
is. Ours states an operation and a result: both must be, else a slip in a right operation would pass. Only sums in
prose are left out where a result stands beside them: two right routes may reach one number by different sums. (5) How
far the positives agree is measured on the same facts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from realm_cli.method.steps import step_facts
from realm_cli.prompts import options_text
from realm_cli.records import Problem, Route, ScoredRoute, StepKind

AGREED, SUSPECT, RARE, MIN_POSITIVES = 0.5, -0.15, 0.25, 2
Weights = tuple[float, float, float]  # support, belief, Monte-Carlo


def fact_support(c_pos: int, n_pos: int, c_neg: int, n_neg: int, m: float = 1.0) -> tuple[float, float, float]:
    """(p+, p-, d) of a fact held by c+ of n+ other positives and c- of n- other negatives; m > 0 pseudo-counts.

    >>> [round(p, 4) for p in fact_support(3, 3, 0, 4)]
    [0.8594, 0.0875, 0.7719]

    Shrinking to the pooled rate keeps facts that nobody or everybody holds near d = 0, also where n+ differs from n-.
    """
    pooled = (c_pos + c_neg + 0.5) / (n_pos + n_neg + 1)
    p_plus, p_minus = (c_pos + m * pooled) / (n_pos + m), (c_neg + m * pooled) / (n_neg + m)
    return p_plus, p_minus, p_plus - p_minus


class _Counts:
    """How many usable routes of each sign hold a fact; `of` leaves one holder out."""

    def __init__(self) -> None:
        self.holders: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        self.routes: Counter[bool] = Counter()
        self._known: dict[tuple[str, bool], tuple[float, float, float]] = {}

    def add(self, facts: list[list[str]], correct: bool) -> None:
        self.holders[correct].update({fact for step in facts for fact in step})
        self.routes[correct] += 1

    def of(self, fact: str, correct: bool) -> tuple[float, float, float]:
        """(p+, p-, d) of a fact of a route with this sign, the route itself left out."""
        known = self._known.get((fact, correct))
        if known is None:
            known = self._known[fact, correct] = fact_support(
                self.holders[True][fact] - correct,
                self.routes[True] - correct,
                self.holders[False][fact] - (not correct),
                self.routes[False] - (not correct),
            )
        return known


@dataclass(frozen=True)
class Evidence:
    """What speaks for one fact of a step: held by c+ of n+ other positives, c- of n- other negatives; d = p+ - p-."""

    fact: str
    c_pos: int
    n_pos: int
    c_neg: int
    n_neg: int
    support: float

    def __str__(self) -> str:
        return f"{self.fact.removeprefix('op:')} (+{self.c_pos}/{self.n_pos} -{self.c_neg}/{self.n_neg})"

    def as_row(self) -> dict[str, str | int | float]:
        """As a JSON object."""
        return asdict(self)


def evidence(scored: Sequence[ScoredRoute]) -> dict[str, list[list[Evidence]]]:
    """Route id -> evidence for the facts of each step, of all scored routes of one problem (method.md section 5.3)."""
    counts = _Counts()
    for route in scored:
        if route.facts:
            counts.add(route.facts, route.correct)

    def of(fact: str, correct: bool) -> Evidence:
        own = {True: int(correct), False: int(not correct)}
        held = {sign: counts.holders[sign][fact] - own[sign] for sign in (True, False)}
        others = {sign: counts.routes[sign] - own[sign] for sign in (True, False)}
        return Evidence(fact, held[True], others[True], held[False], others[False], counts.of(fact, correct)[2])

    return {route.id: [[of(fact, route.correct) for fact in step] for step in route.facts] for route in scored}


def score_routes(
    routes: Sequence[Route], problem: Problem, *, extractor: str = "auto", weights: Weights = (1.0, 0.0, 0.0)
) -> list[ScoredRoute]:
    """All routes of one problem, in order, with facts, support, kinds, step scores, first error and decisive step.

    weights: of support, belief and Monte-Carlo differences in the step score. Raises ConfigError for an unknown
    extractor. Source: method.md sections 5.3 and 5.6.
    """
    usable = [not route.truncated and route.final_answer is not None and bool(route.steps) for route in routes]
    options = options_text(problem)
    facts = [
        step_facts(route.steps, problem.question, extractor, options) if ok else []
        for route, ok in zip(routes, usable, strict=True)
    ]
    counts = _Counts()
    for route, found, ok in zip(routes, facts, usable, strict=True):
        if ok:
            counts.add(found, route.correct)
    cohesion = _cohesion(
        [found for route, found, ok in zip(routes, facts, usable, strict=True) if ok and route.correct], counts
    )
    return [
        _score(route, found, counts, cohesion, weights) if ok else ScoredRoute(**_own(route))
        for route, found, ok in zip(routes, facts, usable, strict=True)
    ]


def _own(route: Route) -> dict[str, object]:
    """The fields of a Route, of a route that may have been scored before."""
    return {name: getattr(route, name) for name in Route.model_fields}


def _deciding(step: Sequence[str]) -> list[str]:
    """The facts that decide whether a step is agreed: all but sums of bare numbers, or those where nothing else is."""
    return [fact for fact in step if not fact.startswith("op:") or fact[3:4].isalpha()] or list(step)


def _cohesion(positives: Sequence[list[list[str]]], counts: _Counts) -> float:
    """How far the positives agree: mean leave-one-out p+ of their deciding facts; 0 for fewer than two."""
    if len(positives) < MIN_POSITIVES:
        return 0.0
    shares = [counts.of(fact, True)[0] for facts in positives for step in facts for fact in _deciding(step)]
    return sum(shares) / len(shares) if shares else 0.0


def _score(route: Route, facts: list[list[str]], counts: _Counts, cohesion: float, weights: Weights) -> ScoredRoute:
    n_pos = counts.routes[True] - route.correct
    support: list[float | None] = []
    kinds: list[StepKind] = []
    for step in facts:
        values = [counts.of(fact, route.correct) for fact in step]
        support.append(sum(d for _, _, d in values) / len(values) if values else None)
        if not values:
            kinds.append("none")
        elif all(counts.of(fact, route.correct)[0] >= AGREED for fact in _deciding(step)):
            kinds.append("agreed")
        elif n_pos >= MIN_POSITIVES and any(d <= SUSPECT and plus < RARE for plus, _, d in values):
            kinds.append("suspect")
        else:
            kinds.append("novel")
    belief = route.belief if isinstance(route, ScoredRoute) else None
    mc_value = route.mc_value if isinstance(route, ScoredRoute) else None
    scores = step_scores(support, belief, mc_value, weights)
    error, source = (None, None) if route.correct else _error(kinds, n_pos, cohesion, mc_value)
    known = [score for score in scores if score is not None]
    best = [value for value in support if value is not None]
    return ScoredRoute(
        **_own(route),
        facts=facts,
        step_support=support,
        step_kind=kinds,
        belief=belief,
        mc_value=mc_value,
        step_score=scores,
        first_error=error,
        first_error_src=source,
        decisive_step=support.index(max(best)) + 1 if route.correct and best else None,
        route_score=sum(known) / len(known) if known else None,
        lucky=route.correct and "suspect" in kinds,
    )


def step_scores(
    support: Sequence[float | None],
    belief: Sequence[float] | None = None,
    mc_value: Sequence[float] | None = None,
    weights: Weights = (1.0, 0.0, 0.0),
) -> list[float | None]:
    """V_k of every step: the weighted mean of support and of the clipped changes of belief and Monte-Carlo value.

    Terms that do not exist for a step leave the weights of the others renormalised; None where nothing is left.
    """
    scores: list[float | None] = []
    for k, value in enumerate(support):
        belief_change = min(1.0, max(-1.0, belief[k] - belief[k - 1])) if belief and k else None
        mc_change = mc_value[k] - mc_value[k - 1] if mc_value and k else None
        terms = [
            (weight, term)
            for weight, term in zip(weights, (value, belief_change, mc_change), strict=True)
            if weight and term is not None
        ]
        total = sum(weight for weight, _ in terms)
        scores.append(sum(weight * term for weight, term in terms) / total if total else None)
    return scores


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


def _error(
    kinds: Sequence[StepKind], n_pos: int, cohesion: float, mc_value: Sequence[float] | None
) -> tuple[int | None, str | None]:
    """First error and its source; with Monte-Carlo values only where both differ by one step at most."""
    error = first_error(kinds, n_pos, cohesion)
    if error is None or not mc_value:
        return error, "support" if error is not None else None
    hopeless = next((k for k, value in enumerate(mc_value, 1) if value == 0), None)
    agree = hopeless is not None and abs(hopeless - error) <= 1
    return (error, "consensus") if agree else (None, None)
