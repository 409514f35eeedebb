"""The bridge: what was solved with routes is credited to the bare prompt (method.md section 9.1).

    L_bridge = - beta / norm * sum_j w_j sum_t log pi(s_jt | x bare, s_j,<t)
    w_j = max(A_j, 0),  A_j = r_ans_j - mean(r_ans)        (`all_right` for every rollout where all are right)

s_j is the own-solution part of a routed completion (`Parsed.own_solution`: no check block). Bare groups have weight 0,
so the term ends by itself as lambda -> 0.
Usage: `weights = bridge_weights(samples, parsed, routed=row.routed)`; the engine adds the loss.

Deviation 1: the bridge is ours (kin: context distillation, LUFFY 2504.14945); the paper's mechanism is not known.
Deviation 2: `negatives` > 0 gives wrong rollouts negative weights; the limit to tokens with pi > .1 is the engine's.
Deviation 3: `quota` counts groups of a problem, so that easy problems do not fill the term.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

from realm_cli.method.parsing import Parsed
from realm_cli.records import Sample

# What a solution can only say if it saw the routes.
_MENTIONS = re.compile(
    r"\[\s?[Rr]oute|\b[Rr]outes? [A-H]\b|\b(?:[Tt]he|[Oo]ther|[Ss]hown|[Gg]iven|[Pp]revious) routes\b"
    r"|\b[Rr]outes above\b|\b[Aa]ttempts?\b|\[(?:cut|hidden)\]|\b[A-H]: (?:right|wrong)\b"
)


def mentions_routes(text: str) -> bool:
    """True if a solution speaks of the routes or their labels ("Route B", "the first attempt", "[cut]").

    >>> mentions_routes("As Route B says, 3 + 4 = 7"), mentions_routes("3 + 4 = 7")
    (True, False)
    """
    return _MENTIONS.search(text) is not None


def bridge_weights(
    samples: Sequence[Sample],
    parsed: Sequence[Parsed],
    *,
    routed: bool,
    all_right: float = 0.2,
    drop_copied: bool = True,
    negatives: float = 0.0,
) -> list[float]:
    """Weight w_j of each own solution of one group (G samples, G parses) in the bridge loss.

    0 for bare groups, truncated completions, solutions that mention routes, copied ones (p_copy > 0, if `drop_copied`)
    and where the own solution is missing. The mean is over the whole group, left-out ones included.
    Raises ValueError on unequal lengths. Source: method.md section 9.1.
    """
    if not routed or not samples:
        return [0.0] * len(samples)
    mean = fmean(sample.r_ans for sample in samples)
    weights = []
    for sample, parse in zip(samples, parsed, strict=True):
        advantage = sample.r_ans - mean
        weight = all_right if mean == 1.0 else advantage if advantage > 0 else negatives * advantage
        solution = parse.own_solution
        left_out = sample.truncated or not solution or mentions_routes(solution)
        weights.append(0.0 if left_out or (drop_copied and sample.p_copy > 0) else weight)
    return weights


def bridge_loss(
    weights_G: Sequence[float], logprobs_GT: Sequence[Sequence[float]], *, beta: float = 8.0, norm: float
) -> float:
    """The written loss on plain numbers, a reference for engines: logprobs in nats under the bare prompt.

    Its derivative by each token's log-probability is -beta * w_j / norm.
    """
    total = sum(weight * sum(row) for weight, row in zip(weights_G, logprobs_GT, strict=True))
    return -beta / norm * total if total else 0.0
