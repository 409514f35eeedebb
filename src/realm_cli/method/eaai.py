"""EAAI: the routes shown in the prompt fade away over training (method.md section 9).

tau = min(1, t / T_e), T_e = fade_steps. Schedules of lambda(t):
    asymptotic (e^(-kappa tau) - e^(-kappa)) / (1 - e^(-kappa))      linear 1 - tau      cosine (1 + cos(pi tau)) / 2
    step 1 - floor(m tau) / m      abrupt 1 for tau < 1, then 0      none 1 always      zero 0 always (vanilla GRPO)
    adaptive 1 - tau^4: an envelope, below which method/steering.py sets lambda while training
What fades, drawn once per group: (a) P(routed) = max(p_max lambda, p_retain); (b) the number of routes; (c) the visible
prefix of each; (d) the answers. Usage: `for row in build_plan(problems, sets, steps=500, ...)`.

Deviations and choices (the paper's schedule formula is not available to us; the name gives `asymptotic`):
1. A cut route keeps at least one visible step; an empty one cannot be judged.
2. Without fade (a) P(routed) stays p_max while lambda > 0 and is p_retain after that.
3. Groups that are routed only because of p_retain are shown in full: they keep the with-routes skill.
4. Fade (d) tops up what the sets already hide (a quarter) to max(.25, 1 - lambda), and never hides the answers of a set
   with a tampered route, whose wrong answer line would vanish with them (section 6).
5. A plan is written before training and can be read; the adaptive schedule only takes routes away from it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from realm_cli.errors import ConfigError, DataError
from realm_cli.prompts import Order, Style, bare_messages, question_text, routed_messages
from realm_cli.records import PlanRow, Problem, RouteSet, ShownRoute

SCHEDULES = ("asymptotic", "linear", "cosine", "step", "abrupt", "adaptive", "none", "zero")
FADES = ("a", "b", "c", "d")
HIDDEN_SHARE = 0.25  # share of sets built with hidden answers


def lambda_at(schedule: str, t: int, fade_steps: int, *, kappa: float = 3.0, stages: int = 4) -> float:
    """External-signal level in [0, 1] at RL step `t` (0-based); 0 from `fade_steps` on (but for `none`).

    >>> round(lambda_at("asymptotic", 150, 300), 2)
    0.18

    Raises ConfigError for an unknown schedule, kappa <= 0 or stages < 1. Source: method.md section 9.
    """
    if schedule not in SCHEDULES:
        raise ConfigError(f"schedule {schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    if kappa <= 0 or stages < 1:
        raise ConfigError(f"schedule {schedule}: kappa {kappa} must be > 0 and stages {stages} >= 1")
    if schedule in ("none", "zero"):
        return 1.0 if schedule == "none" else 0.0
    if t >= fade_steps:
        return 0.0
    if t <= 0:
        return 1.0
    tau = t / fade_steps
    if schedule == "asymptotic":
        # e^(-kappa) factored out and expm1 used, so that a small kappa tends to `linear`
        return math.exp(-kappa * tau) * math.expm1(-kappa * (1 - tau)) / math.expm1(-kappa)
    if schedule == "linear":
        return 1.0 - tau
    if schedule == "cosine":
        return (1.0 + math.cos(math.pi * tau)) / 2
    if schedule == "step":
        return 1.0 - (stages * t // fade_steps) / stages
    return 1.0 - tau**4 if schedule == "adaptive" else 1.0  # abrupt, tau < 1


def routed_share(lam: float, *, p_max: float = 0.85, p_retain: float = 0.0, fade_share: bool = True) -> float:
    """P(routed) of a problem with sets: max(p_max * lambda, p_retain); without fade (a) p_max while lambda > 0."""
    return max(p_max * lam if fade_share else p_max * (lam > 0), p_retain)


def routes_shown(k: int, lam: float) -> int:
    """Fade (b): max(2, ceil(k * min(1, 2 lambda))), never more than k; one route cannot be contrasted."""
    return min(k, max(2, math.ceil(k * min(1.0, 2 * lam) - 1e-9)))


def cut_labels(shown: ShownRoute, visible: int) -> tuple[bool | None, int | None]:
    """(gold verdict, first error) of a route of which `visible` steps are shown (fade c).

    Cut before its first error a negative is right so far; cut with an unknown one it is excluded (None, None).
    """
    if visible >= len(shown.steps):
        return shown.label, shown.first_error
    if shown.label:
        return True, None
    if shown.first_error is None:
        return None, None
    return (False, shown.first_error) if shown.first_error <= visible else (True, None)


@dataclass(frozen=True)
class _View:
    """What one routed group shows."""

    shown: list[ShownRoute]
    shown_steps: list[int]
    answers_hidden: bool


def _fade(route_set: RouteSet, lam: float, fades: frozenset[str], rng: random.Random) -> _View:
    shown = list(route_set.shown)
    if "b" in fades:
        chosen = sorted(rng.sample(range(len(shown)), routes_shown(len(shown), lam)))
        shown = [shown[i] for i in chosen]
    visible = [len(route.steps) for route in shown]
    if "c" in fades:
        p = min(1.0, 2 * lam)
        visible = [min(n, max(1, sum(rng.random() < p for _ in range(n)))) for n in visible]
    hidden = route_set.answers_hidden
    if "d" in fades and not hidden and not any(route.tampered for route in shown):
        hidden = rng.random() < (max(HIDDEN_SHARE, 1 - lam) - HIDDEN_SHARE) / (1 - HIDDEN_SHARE)
    return _View(shown, visible, hidden)


def _problem_stream(
    problems: Sequence[Problem], weights: Mapping[str, float] | None, per_step: int, rng: random.Random
) -> Iterator[Problem]:
    """Endless problems: shuffled epochs, or weighted draws that avoid repeats within a step where they can."""
    if weights is None:
        order = list(problems)
        while True:
            rng.shuffle(order)
            yield from order
    mass = [weights[problem.id] for problem in problems]
    while True:
        taken: set[str] = set()
        for _ in range(per_step):
            problem = rng.choices(problems, mass)[0]
            for _ in range(8):
                if problem.id not in taken:
                    break
                problem = rng.choices(problems, mass)[0]
            taken.add(problem.id)
            yield problem


def build_plan(
    problems: Sequence[Problem],
    sets: Mapping[str, Sequence[RouteSet]],
    *,
    steps: int,
    groups_per_step: int,
    eaai_steps: int,
    schedule: str,
    p_max: float = 0.85,
    p_retain: float = 0.0,
    fades: frozenset[str] = frozenset("a"),
    style: Style,
    order: Order,
    seed: int,
    kappa: float = 3.0,
    weights: Mapping[str, float] | None = None,
    with_members: bool = False,
) -> Iterator[PlanRow]:
    """All groups of a run, `groups_per_step` rows a step, ordered by (step, slot); the same seed gives the same plan.

    sets: problem id -> its route sets, used in turn; a problem without sets is always bare. weights: problem id ->
    sampling weight (None: shuffled epochs). with_members: bare rows carry a set's routes while lambda > 0
    (method/members.py). Every rollout of a group shares its row.
    Raises ConfigError (schedule, fades) and DataError (no problems, weights) at the call. Source: method.md section 9.
    """
    unknown = sorted(set(fades) - set(FADES))
    if unknown:
        raise ConfigError(f"fades {', '.join(unknown)}: unknown; choose from {', '.join(FADES)}")
    lambda_at(schedule, 0, eaai_steps, kappa=kappa)
    if not problems:
        raise DataError("no problems to train on; check the split and the problem file")
    if weights is not None:
        missing = [problem.id for problem in problems if problem.id not in weights]
        if missing:
            raise DataError(
                f"problem {missing[0]}: no sampling weight; give one for each of the {len(problems)} problems"
            )
        if min(weights[p.id] for p in problems) < 0 or sum(weights[p.id] for p in problems) <= 0:
            raise DataError("sampling weights must be >= 0 with a positive sum")

    def rows() -> Iterator[PlanRow]:
        stream = _problem_stream(problems, weights, groups_per_step, random.Random(f"{seed}/problems"))
        used: dict[str, int] = {}
        for step in range(steps):
            lam = lambda_at(schedule, step, eaai_steps, kappa=kappa)
            for slot in range(groups_per_step):
                problem, rng = next(stream), random.Random(f"{seed}/{step}/{slot}")
                pool = sets.get(problem.id, ())
                p = routed_share(lam, p_max=p_max, p_retain=p_retain, fade_share="a" in fades) if pool else 0.0
                draw = rng.random()
                common = PlanRow(
                    id=f"{step:06d}-{slot:03d}",
                    step=step,
                    slot=slot,
                    problem_id=problem.id,
                    lam=lam,
                    p_routed=p,
                    routed=False,
                    mode="+".join(sorted(fades)),
                    messages=bare_messages(question_text(problem), style),
                )
                if draw >= p and not (with_members and pool and lam > 0):
                    yield common
                    continue
                route_set = pool[used.get(problem.id, 0) % len(pool)]
                if draw >= p:
                    yield common.model_copy(update={"members": route_set.shown})
                    continue
                used[problem.id] = used.get(problem.id, 0) + 1
                retained = draw >= routed_share(lam, p_max=p_max, fade_share="a" in fades)
                yield _routed_row(common, problem, route_set, fades, retained, style, order, rng)

    return rows()


def placebo(row: PlanRow, seed: int) -> PlanRow:
    """The row with its gold verdicts and first errors dealt out anew among the routes: an ablation.

    As many routes count as right as before, so nothing changes but what the labels say. Source: method.md section 12.
    """
    order = list(range(len(row.verdicts)))
    random.Random(f"{seed}/{row.id}/placebo").shuffle(order)
    return row.model_copy(
        update={"verdicts": [row.verdicts[i] for i in order], "first_errors": [row.first_errors[i] for i in order]}
    )


def _routed_row(
    common: PlanRow,
    problem: Problem,
    route_set: RouteSet,
    fades: frozenset[str],
    retained: bool,
    style: Style,
    order: Order,
    rng: random.Random,
) -> PlanRow:
    view = _fade(route_set, common.lam, frozenset() if retained else fades, rng)
    labels = [cut_labels(route, n) for route, n in zip(view.shown, view.shown_steps, strict=True)]
    update = {
        "routed": True,
        "mode": "+".join([*sorted(fades), *(["natural"] if route_set.kind == "natural" else [])]),
        "set_id": route_set.id,
        "shown": view.shown,
        "shown_steps": view.shown_steps,
        "cut": [n < len(route.steps) for route, n in zip(view.shown, view.shown_steps, strict=True)],
        "verdicts": [verdict for verdict, _ in labels],
        "first_errors": [first for _, first in labels],
        "answers_hidden": view.answers_hidden,
        "messages": routed_messages(
            question_text(problem),
            view.shown,
            style=style,
            order=order,
            shown_steps=view.shown_steps,
            answers_hidden=view.answers_hidden,
        ),
    }
    return common.model_copy(update=update)
