"""95% intervals of a mean over problems that are never of width 0 (method.md section 12).

Values lie in bounds [a, b]: [0, 1] for accuracies, [-1, 1] for differences. m is their mean, n the problems.

    all n alike       a share s of other problems behaves otherwise, none of n did so: s <= w = z^2 / (n + z^2), the
                      Wilson score limit of 0 of n (Wilson 1927), z = 1.96. Such problems lie anywhere in [a, b]:
                      [m - w (m - a), m + w (b - m)]
    n < SMALL         percentile bootstrap at the levels that t and the sample variance ask for (Hesterberg 2015,
                      1411.5279, "expanded percentile"): alpha/2 = Phi(-sqrt(n / (n - 1)) t(n - 1, .975)). Joined with
                      the interval above where that is wider: values almost alike are no certainty either; of 0/1
                      values joined with Wilson's, of -1/0/1 differences with Bonett and Price's (2012: one problem
                      added to either kind of discordant pair)
    else              percentile bootstrap

All alike at 0 or 1 gives Wilson's interval of 0 or n of n. Coverage: `tests/method/test_intervals.py`.
Usage: `lo, hi = interval(values, lambda: bootstrapped_means, bounds=(0, 1))`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Bounds = tuple[float, float]
SHARE: Bounds = (0.0, 1.0)
GAP: Bounds = (-1.0, 1.0)
SMALL = 100  # problems below which the bootstrap alone is too narrow
ALIKE = 1e-9  # values that differ by less are one value


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95% Wilson score interval of a share; (0, 1) for n = 0. Raises ValueError unless 0 <= correct <= n."""
    if not 0 <= correct <= n:
        raise ValueError(f"correct {correct} must lie in 0..{n}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.975)
    p = correct / n
    centre, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = (centre - half) / scale, (centre + half) / scale
    return 0.0 if correct == 0 else max(0.0, low), 1.0 if correct == n else min(1.0, high)


def otherwise(mean: float, n: int, bounds: Bounds) -> tuple[float, float]:
    """Where the mean may lie if the share of problems that are unlike all n seen is at its limit (see the module).

    >>> [round(x, 3) for x in otherwise(0.5, 40, (0.0, 1.0))]
    [0.456, 0.544]
    """
    share = wilson(0, n)[1]
    return mean - share * (mean - bounds[0]), mean + share * (bounds[1] - mean)


def bonett_price(wins: int, losses: int, n: int) -> tuple[float, float]:
    """95% interval of a difference of paired shares (Bonett and Price 2012): one win and one loss are added."""
    p, q = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = NormalDist().inv_cdf(0.975) * sqrt((p + q - (p - q) ** 2) / (n + 2))
    return max(-1.0, p - q - half), min(1.0, p - q + half)


def interval(values: Sequence[float], means: Callable[[], NDArray[np.float64]], bounds: Bounds) -> tuple[float, float]:
    """(lo, hi) of the mean of n values within `bounds`; means(): those of resamples, (B,), asked for where needed."""
    n, mean = len(values), fmean(values)
    if max(values) - min(values) <= ALIKE:
        return otherwise(mean, n, bounds)
    low, high = percentiles(means(), levels(n) if n < SMALL else (2.5, 97.5))
    if n < SMALL:
        wider = [(lo, hi) for lo, hi in (otherwise(mean, n, bounds),) if hi - lo > high - low]
        found = [(low, high), *wider, *_by_counts(values, bounds)]
        low, high = min(lo for lo, _ in found), max(hi for _, hi in found)
    return max(bounds[0], min(low, mean)), min(bounds[1], max(high, mean))


def _by_counts(values: Sequence[float], bounds: Bounds) -> list[tuple[float, float]]:
    """The score interval of 0/1 values or -1/0/1 differences; [] of others."""
    if not set(values) <= {*bounds, 0.0}:
        return []
    ups, downs = values.count(1.0), values.count(-1.0)
    return [wilson(ups, len(values)) if bounds == SHARE else bonett_price(ups, downs, len(values))]


def levels(n: int) -> tuple[float, float]:
    """Percentiles of the expanded bootstrap for n >= 2 problems.

    >>> [round(x, 2) for x in levels(10)], [round(x, 2) for x in levels(100)]
    ([0.86, 99.14], [2.31, 97.69])
    """
    from scipy.special import stdtrit

    tail = 100 * NormalDist().cdf(-sqrt(n / (n - 1)) * float(stdtrit(n - 1, 0.975)))
    return tail, 100 - tail


def percentiles(means: NDArray[np.float64], at: tuple[float, float] = (2.5, 97.5)) -> tuple[float, float]:
    """Two percentiles of the resampled means."""
    import numpy as np

    lo, hi = np.percentile(means, list(at))
    return float(lo), float(hi)
