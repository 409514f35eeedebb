"""External routes beside the samples of a bare group: off-policy members, and a token signal (method.md section 9.1).

Members: a right route is learned as a whole, of a wrong one only its first wrong step is unlearned (what stands before
it is right, what stands after it follows from it):

    L = - lambda / norm * sum_r A_r sum_t u_rt log pi(r_t | bare prompt, r_<t),   A_r = label_r - mean(r_ans, labels)

Token signal: which tokens of a sample do right routes make likelier than wrong ones do?

    e_t = log pi(y_t | x, r+, y_<t) - log mean_j pi(y_t | x, r-_j, y_<t)
    A_t = A * clip(1 + beta * sign(A) * tanh(e_t), .5, 1.5)

Kin: LUFFY 2504.14945 (off-policy members), VPPO 2601.18984 (first wrong step), RLCSD 2606.11709 (contrast); both forms
are ours. Usage: `members(row.members, [s.r_ans for s in samples], row.lam)`; `token_factors(a, right_T, wrong_JT)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from realm_cli.prompts import solution_start, solution_text
from realm_cli.protocols import Member
from realm_cli.records import ShownRoute

LOWEST, HIGHEST = 0.5, 1.5


def members(routes: Sequence[ShownRoute], r_ans_G: Sequence[float], lam: float) -> list[Member]:
    """What a bare group learns from the routes at hand; [] once lambda is 0.

    Left out: tampered routes, routes without an answer, wrong ones whose first error is not known, weights of 0.
    """
    usable = [route for route in routes if not route.tampered and route.answer is not None and route.steps]
    if lam <= 0 or not usable:
        return []
    mean = fmean([*r_ans_G, *(float(route.label) for route in usable)])
    out = []
    for route in usable:
        weight, k = lam * (float(route.label) - mean), route.first_error
        if route.label and weight > 0:
            out.append(Member(solution_text(route.steps, str(route.answer)), 0, weight, whole=True))
        elif not route.label and weight < 0 and k is not None and k <= len(route.steps):
            before = f"{solution_start(route.steps[: k - 1])}\n" if k > 1 else solution_start([])
            out.append(Member(solution_start(route.steps[:k]), len(before), weight, whole=False))
    return out


def contrast_routes(routes: Sequence[ShownRoute], most: int = 2) -> tuple[ShownRoute, list[ShownRoute]] | None:
    """The first right route and up to `most` wrong ones; None where a sign is missing."""
    usable = [route for route in routes if not route.tampered and route.steps]
    right = next((route for route in usable if route.label), None)
    wrong = [route for route in usable if not route.label][:most]
    return (right, wrong) if right is not None and wrong else None


def token_factors(
    advantage: float, right_T: Sequence[float], wrong_JT: Sequence[Sequence[float]], beta: float = 0.5
) -> list[float]:
    """A_t / A of each token, in [.5, 1.5]; log-probabilities in nats of the same T tokens under each route.

    >>> [round(f, 2) for f in token_factors(1.0, [-0.1, -2.0], [[-3.0, -0.1]])]
    [1.5, 0.52]
    """
    sign = (advantage > 0) - (advantage < 0)
    out = []
    for t, right in enumerate(right_T):
        wrong = math.log(max(fmean(math.exp(row[t]) for row in wrong_JT), 1e-30))
        out.append(min(max(1 + beta * sign * math.tanh(right - wrong), LOWEST), HIGHEST))
    return out
