"""Accuracy, intervals and paired tests (method.md section 12).

Usage: `paired_difference(ours, theirs, seed=0)` with one value per problem (0/1, or the mean of several samples).
Values are given as a sequence, or as a mapping problem id -> value or values; a list of values is averaged.

Deviation 1: the interval with several training seeds is `seeded_difference`; runs are resampled in the outer loop.
Deviation 2: for averaged (fractional) values `mcnemar_p` is the exact sign test on the problems that differ; for 0/1
values that is McNemar's exact test.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, comb, sqrt
from statistics import NormalDist, fmean, median
from typing import TYPE_CHECKING

from realm_cli.errors import DataError
from realm_cli.method.intervals import ALIKE, GAP, SHARE, Bounds, interval, otherwise, percentiles, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Value = float | Sequence[float]  # one problem: its value, or its samples' values
Values = Sequence[Value] | Mapping[str, Value]
LONG_K = 3  # routes at most in prompts of problems with long routes
_CHUNK = 2_000_000  # resampled indices held at once


@dataclass(frozen=True)
class Difference:
    """a - b over n shared problems: mean with a 95% interval, problems that differ, two-sided exact p."""

    mean: float
    lo: float
    hi: float
    n: int
    discordant: int
    mcnemar_p: float


def _mean_of(value: Value) -> float:
    if not isinstance(value, Sequence):
        return float(value)
    if not value:
        raise DataError("a problem has no values; score each problem at least once")
    return fmean(value)


def _per_problem(values: Values) -> list[float]:
    items = values.values() if isinstance(values, Mapping) else values
    means = [_mean_of(value) for value in items]
    if not means:
        raise DataError("no problems to score; check the predictions file")
    return means


def _paired(a: Values, b: Values) -> tuple[list[float], list[float]]:
    if isinstance(a, Mapping) != isinstance(b, Mapping):
        raise DataError("paired values must both be mappings or both be sequences")
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        odd = sorted(set(a) ^ set(b))
        if odd:
            raise DataError(
                f"paired values differ in {len(odd)} problems, e.g. {odd[0]}; evaluate both on the same set"
            )
        b = {problem_id: b[problem_id] for problem_id in a}
    left, right = _per_problem(a), _per_problem(b)
    if len(left) != len(right):
        raise DataError(f"paired values have lengths {len(left)} and {len(right)}; evaluate both on the same set")
    return left, right


def _bootstrap_means(values: Sequence[float], seed: int, n_boot: int) -> NDArray[np.float64]:
    """Means of `n_boot` resamples of the problems, in chunks of bounded memory."""
    import numpy as np

    rng, data = np.random.default_rng(seed), np.asarray(values, dtype=np.float64)
    rows = max(1, _CHUNK // len(data))
    chunks = []
    for start in range(0, n_boot, rows):
        size = (min(rows, n_boot - start), len(data))
        chunks.append(data[rng.integers(0, len(data), size=size)].mean(axis=1))
    return np.concatenate(chunks)


def accuracy_ci(values_by_problem: Values, seed: int, n_boot: int = 10_000) -> tuple[float, float, float]:
    """(mean, lo, hi) with a 95% interval over problems, never of width 0 (`intervals`); values in [0, 1].

    From 100 problems on the percentile bootstrap. All right or all wrong: the Wilson interval. Raises DataError on no
    problems.
    """
    values = _per_problem(values_by_problem)
    if set(values) in ({0.0}, {1.0}):
        return values[0], *wilson(int(sum(values)), len(values))
    return fmean(values), *interval(values, lambda: _bootstrap_means(values, seed, n_boot), SHARE)


def paired_difference(a: Values, b: Values, seed: int, n_boot: int = 10_000) -> Difference:
    """a - b per problem, 95% interval over problems, exact two-sided test on the problems that differ.

    Mappings are joined by problem id. Values in [0, 1]; the interval (`intervals`) is never of width 0, also where all
    problems differ alike or none does. Raises DataError if the problems are not the same or there are none.
    """
    left, right = _paired(a, b)
    gaps = [x - y for x, y in zip(left, right, strict=True)]
    wins, losses = sum(gap > 1e-12 for gap in gaps), sum(gap < -1e-12 for gap in gaps)
    lo, hi = interval(gaps, lambda: _bootstrap_means(gaps, seed, n_boot), GAP)
    return Difference(fmean(gaps), lo, hi, len(gaps), wins + losses, mcnemar_exact(wins, losses))


def seeded_difference(
    a_runs: Sequence[Values],
    b_runs: Sequence[Values],
    seed: int,
    n_boot: int = 10_000,
    *,
    paired: bool = False,
    bounds: Bounds = GAP,
) -> tuple[float, float, float]:
    """(mean, lo, hi) of mean(a runs) - mean(b runs): training runs resampled in the outer loop, problems in the inner.

    a_runs / b_runs: one `Values` per training seed, all on the same problems. paired: the runs of one place began from
    the same adapter and are resampled together. bounds: of the difference, for the interval where every resample is the
    same one (`intervals.otherwise`, over the problems). Raises DataError where they do not fit.
    """
    import numpy as np

    if not a_runs or not b_runs:
        raise DataError("no runs to compare; give at least one run on each side")
    if paired and len(a_runs) != len(b_runs):
        raise DataError(f"{len(a_runs)} runs against {len(b_runs)} are no pairs; give one of each for a start")
    rows_a = np.array([_paired(run, a_runs[0])[0] for run in _aligned(a_runs, a_runs[0])])
    rows_b = np.array([_paired(run, a_runs[0])[0] for run in _aligned(b_runs, a_runs[0])])
    rng, n = np.random.default_rng(seed), rows_a.shape[1]
    means = np.empty(n_boot)
    for i in range(n_boot):
        pick_a, pick_b = rng.integers(0, len(rows_a), len(rows_a)), rng.integers(0, len(rows_b), len(rows_b))
        pick_b = pick_a if paired else pick_b
        gap = rows_a[pick_a].mean(axis=0) - rows_b[pick_b].mean(axis=0)
        means[i] = gap[rng.integers(0, n, n)].mean()
    mean = float(rows_a.mean() - rows_b.mean())
    lo, hi = percentiles(means)
    return mean, *((lo, hi) if hi - lo > ALIKE else otherwise(mean, n, bounds))


def _aligned(runs: Sequence[Values], like: Values) -> list[Values]:
    """Runs with their problems in the order of `like`, where both are mappings with the same problems."""
    out: list[Values] = []
    for run in runs:
        _paired(run, like)
        if isinstance(run, Mapping) and isinstance(like, Mapping):
            run = {key: run[key] for key in like}
        out.append(run)
    return out


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact McNemar p of b and c discordant pairs: min(1, 2 P(X <= min(b, c))), X ~ Binomial(b + c, .5).

    >>> round(mcnemar_exact(10, 2), 5), mcnemar_exact(0, 0)
    (0.03857, 1.0)
    """
    if b < 0 or c < 0:
        raise ValueError(f"discordant counts must be >= 0, got {b} and {c}")
    n, term, tail = b + c, 1, 0
    for i in range(min(b, c) + 1):
        tail += term
        term = term * (n - i) // (i + 1)
    return min(1.0, float(Fraction(2 * tail, 2**n)))


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased chance that one of k samples is right, given c right of n (2107.03374). Raises ValueError if k > n."""
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    return 1 - comb(n - c, k) / comb(n, k)


def plurality(keys: Sequence[str | None], rng: random.Random | None = None) -> str | None:
    """The most frequent answer key; None does not vote. Ties: the first in order, or drawn by `rng`.

    None if nobody votes.
    """
    counts = Counter(key for key in keys if key is not None)
    if not counts:
        return None
    top = [key for key, count in counts.items() if count == max(counts.values())]
    return rng.choice(top) if rng is not None else top[0]


def maj_at_k(keys: Sequence[str | None], correct_flags: Sequence[bool], rng: random.Random | None = None) -> bool:
    """True if the plurality answer is correct (the flag of its first sample); False if nobody answers."""
    winner = plurality(keys, rng)
    return any(flag for key, flag in zip(keys, correct_flags, strict=True) if key == winner and winner is not None)


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values in the given order.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, floor = [0.0] * len(pvalues), 0.0
    for rank, i in enumerate(sorted(range(len(pvalues)), key=lambda i: pvalues[i])):
        floor = max(floor, min(1.0, (len(pvalues) - rank) * pvalues[i]))
        adjusted[i] = floor
    return adjusted


def choose_routes(route_ids: Sequence[str], k: int, rng: random.Random) -> list[str]:
    """k routes for a routed evaluation prompt, uniform and without labels (section 12): only ids are seen.

    Ids are sorted first, so that the order of the file cannot carry a label. Fewer than k: all, shuffled.
    """
    pool = sorted(set(route_ids))
    return rng.sample(pool, min(k, len(pool)))


def routes_shown(k: int, tokens: Sequence[int], long: int | None) -> int:
    """K of a problem's prompts, in training and in evaluation: k, or LONG_K at most where its routes are long.

    Long: the median has more than `long` tokens; None: never. tokens: of all its routes that could be shown, whatever
    their labels.

    >>> routes_shown(4, [280, 310, 320], 300), routes_shown(4, [280, 310, 320], None), routes_shown(2, [400], 300)
    (3, 4, 2)
    """
    return min(k, LONG_K) if long is not None and tokens and median(tokens) > long else k


def smallest_detectable(n: int, discordance: float, power: float = 0.8) -> float:
    """Smallest accuracy difference found with `power` at two-sided 5%: n = discordance * (2.8 / delta)^2.

    n: paired problems. discordance: share of problems on which the two differ. 2.8 = z(.975) + z(.8).
    """
    if n < 1 or not 0 <= discordance <= 1 or not 0 < power < 1:
        raise ValueError(f"need n >= 1, discordance in [0, 1] and power in (0, 1); got {n}, {discordance}, {power}")
    z = NormalDist()
    return (z.inv_cdf(0.975) + z.inv_cdf(power)) * sqrt(discordance / n)


def pairs_needed(n: int, discordant: int, difference: float, power: float = 0.8) -> int | None:
    """Discordant pairs that would show such a difference with `power` at two-sided 5%; None for no difference.

    (2.8 q / delta)^2 of them, q = discordant / n: with fewer, a difference that looks significant is likely to be luck
    or too large. Raises ValueError for counts that do not fit.

    >>> pairs_needed(600, 60, 0.05)
    32
    """
    if not 0 <= discordant <= n or n < 1:
        raise ValueError(f"need 0 <= discordant <= n and n >= 1, got {discordant} and {n}")
    if not difference or not discordant:
        return None
    z = NormalDist()
    return ceil(((z.inv_cdf(0.975) + z.inv_cdf(power)) * (discordant / n) / abs(difference)) ** 2)
