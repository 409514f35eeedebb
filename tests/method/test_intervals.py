"""No interval of width 0, and how often intervals hold the true mean: by hand, by property, by exact coverage."""

from __future__ import annotations

import random
from math import comb, sqrt
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from realm_cli.method import intervals, scoring

# One problem's samples: one, several, all alike or not; the shares that k samples can give.
SAMPLES = st.lists(st.integers(0, 1), min_size=1, max_size=5)
SHARES = st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 1.0])
ALIKE = st.tuples(SHARES, st.integers(1, 400)).map(lambda pair: [pair[0]] * pair[1])
VALUES = st.one_of(ALIKE, st.lists(SHARES, min_size=1, max_size=40), st.lists(st.floats(0, 1), min_size=1, max_size=40))


# ---- by hand


@pytest.mark.parametrize(
    ("values", "share"),
    [([0.5] * 40, 0.5), ([[1, 0]] * 40, 0.5), ([[0, 1], [1, 0]] * 20, 0.5), ([1 / 3] * 40, 1 / 3)],
)
def test_all_problems_alike_may_have_others_among_them(values, share) -> None:
    """40 of 40 alike: at most z^2 / (40 + z^2) = 8.8 % are otherwise, and those lie between 0 and 1."""
    mean, lo, hi = scoring.accuracy_ci(values, seed=0)
    other = 1.959964**2 / (40 + 1.959964**2)
    assert (mean, lo, hi) == pytest.approx((share, share - other * share, share + other * (1 - share)), abs=1e-6)


@pytest.mark.parametrize("gap", [-1.0, -0.5, -0.25, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 4, 8, 40, 600])
def test_differences_that_are_all_the_same(gap, n) -> None:
    ours, theirs = [max(gap, 0.0)] * n, [max(-gap, 0.0)] * n
    found = scoring.paired_difference(ours, theirs, seed=0)
    other = intervals.wilson(0, n)[1]
    assert found.mean == gap
    assert (found.lo, found.hi) == pytest.approx((gap - other * (gap + 1), gap + other * (1 - gap)))
    assert found.lo < found.hi and -1 <= found.lo <= gap <= found.hi <= 1


def test_known_ends_stay() -> None:
    """All right, all wrong and no difference have Wilson's limits as before."""
    for n in (1, 5, 50, 5000):
        assert scoring.accuracy_ci([1.0] * n, seed=0)[1:] == intervals.wilson(n, n)
        assert scoring.accuracy_ci([0.0] * n, seed=0)[1:] == intervals.wilson(0, n)
        same = scoring.paired_difference([1.0] * n, [1.0] * n, seed=0)
        assert (same.lo, same.hi) == pytest.approx((-intervals.wilson(0, n)[1], intervals.wilson(0, n)[1]))


def test_from_a_hundred_problems_on_it_is_the_plain_bootstrap() -> None:
    rng = random.Random(0)
    values = [float(rng.random() < 0.4) for _ in range(100)]
    plain = intervals.percentiles(scoring._bootstrap_means(values, 7, 2000))
    assert scoring.accuracy_ci(values, seed=7, n_boot=2000)[1:] == plain
    fewer = intervals.percentiles(scoring._bootstrap_means(values[:99], 7, 2000))
    lo, hi = scoring.accuracy_ci(values[:99], seed=7, n_boot=2000)[1:]
    assert lo <= fewer[0] and fewer[1] <= hi


def test_bonett_price_by_hand() -> None:
    """5 wins, 1 loss, 20 problems: shares 6/22 and 2/22."""
    half = 1.959964 * sqrt((8 / 22 - (4 / 22) ** 2) / 22)
    assert intervals.bonett_price(5, 1, 20) == pytest.approx((4 / 22 - half, 4 / 22 + half), abs=1e-6)


def test_levels_of_the_expanded_bootstrap() -> None:
    for n in (2, 5, 30, 99):
        low, high = intervals.levels(n)
        assert low == pytest.approx(100 * stats.norm.cdf(-sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1)))
        assert high == pytest.approx(100 - low)


def test_runs_that_all_agree_are_no_certainty() -> None:
    """Several seeds, no problem ever right: as for none of 60 problems; a share stays a share."""
    runs = [[0.0] * 60] * 3
    other = intervals.wilson(0, 60)[1]
    zeros = scoring.seeded_difference(runs, [[0.0] * 60], 0, 200)
    assert zeros == pytest.approx((0.0, -other, other))
    assert scoring.seeded_difference(runs, [[0.0] * 60], 0, 200, bounds=intervals.SHARE) == pytest.approx((0, 0, other))
    one = scoring.seeded_difference([[1.0]], [[0.0], [0.0]], 0, 200, paired=False)
    assert one[0] == 1.0 and one[1] < 1.0 == one[2]


def test_which_interval_it_is_by_hand() -> None:
    """Resamples stand in for the bootstrap: 0.1 ... 0.9 in 1,000 steps; its 2.5th percentile is .12."""
    means = np.linspace(0.1, 0.9, 1001)
    many = [0.0, 1.0] * 60
    assert intervals.interval(many, lambda: means, intervals.SHARE) == pytest.approx((0.12, 0.88))
    assert intervals.percentiles(means) == pytest.approx((0.12, 0.88))
    assert intervals.interval([0.5] * 60, lambda: means, intervals.GAP) == intervals.otherwise(0.5, 60, intervals.GAP)
    low, high = (0.1 + 0.8 * level / 100 for level in intervals.levels(10))
    assert intervals.interval([0.2, 0.8] * 5, lambda: means, intervals.SHARE) == pytest.approx((low, high))
    assert intervals.interval([0.0, 1.0] * 5, lambda: means * 0 + 0.5, intervals.SHARE) == intervals.wilson(5, 10)


def test_otherwise_by_hand() -> None:
    """Of 4 alike at 1/4, 49.0 % may be otherwise: down to 0, up to 1."""
    other = 1.959964**2 / (4 + 1.959964**2)
    assert other == pytest.approx(0.4899, abs=1e-4)
    assert intervals.otherwise(0.25, 4, (0.0, 1.0)) == pytest.approx((0.25 * (1 - other), 0.25 + 0.75 * other))
    assert intervals.otherwise(-0.5, 4, (-1.0, 1.0)) == pytest.approx((-0.5 - 0.5 * other, -0.5 + 1.5 * other))


# ---- properties


@given(mean=st.floats(-1, 1), n=st.integers(1, 10**6))
def test_what_is_alike_stays_in_its_bounds(mean: float, n: int) -> None:
    low, high = intervals.otherwise(mean, n, intervals.GAP)
    assert -1 - 1e-12 <= low <= mean <= high <= 1 + 1e-12 and low < high
    closer = intervals.otherwise(mean, n + 1, intervals.GAP)
    assert closer[1] - closer[0] < high - low


@given(counts=st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)).filter(any))
def test_score_intervals_mirror_and_have_a_width(counts: tuple[int, int, int]) -> None:
    wins, losses, _ = counts
    n = sum(counts)
    low, high = intervals.bonett_price(wins, losses, n)
    other = intervals.bonett_price(losses, wins, n)
    assert -1 <= low < high <= 1 and (low, high) == pytest.approx((-other[1], -other[0]))
    below, above = intervals.wilson(wins, n)
    mirrored = intervals.wilson(n - wins, n)
    assert 0 <= below <= wins / n <= above <= 1 and below < above
    assert (below, above) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))


@given(n=st.integers(2, 5000))
def test_levels_widen_below_and_come_to_the_plain_ones(n: int) -> None:
    low, high = intervals.levels(n)
    assert 0 <= low < 2.5 < 97.5 < high <= 100 and low + high == pytest.approx(100)
    assert intervals.levels(n + 1)[0] > low and intervals.levels(10**6)[0] == pytest.approx(2.5, abs=1e-4)
    means = np.arange(101.0)
    assert intervals.percentiles(means, (low, high)) == pytest.approx((low, high))


@given(values=st.lists(SHARES, min_size=1, max_size=120), spread=st.floats(0, 0.3))
def test_any_resamples_give_an_interval_with_a_width(values: list[float], spread: float) -> None:
    mean = fmean(values)
    means = np.clip(np.linspace(mean - spread, mean + spread, 101), 0, 1)
    low, high = intervals.interval(values, lambda: means, intervals.SHARE)
    assert 0 <= low <= mean <= high <= 1
    assert low < high or (len(values) >= intervals.SMALL and spread == 0)


@settings(deadline=None)
@given(values=VALUES)
def test_an_accuracy_has_a_width_and_lies_in_its_interval(values) -> None:
    mean, lo, hi = scoring.accuracy_ci(values, seed=0, n_boot=200)
    assert 0 <= lo <= mean <= hi <= 1 and lo < hi
    assert hi - lo > 1e-3 or len(values) > 100


@settings(deadline=None)
@given(samples=st.lists(SAMPLES, min_size=1, max_size=12))
def test_several_samples_a_problem(samples) -> None:
    mean, lo, hi = scoring.accuracy_ci({f"p{i}": found for i, found in enumerate(samples)}, seed=0, n_boot=200)
    assert mean == pytest.approx(fmean(map(fmean, samples)))
    assert 0 <= lo <= mean <= hi <= 1 and lo < hi


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=40), times=st.integers(1, 5))
def test_a_difference_has_a_width_and_lies_in_its_interval(pairs, times) -> None:
    ours, theirs = zip(*pairs * times, strict=True)
    found = scoring.paired_difference(ours, theirs, seed=0, n_boot=200)
    assert -1 <= found.lo <= found.mean <= found.hi <= 1 and found.lo < found.hi


@settings(deadline=None)
@given(
    runs=st.integers(1, 6).flatmap(
        lambda n: st.tuples(*[st.lists(st.lists(SHARES, min_size=n, max_size=n), min_size=1, max_size=3)] * 2)
    )
)
def test_a_difference_over_seeds_has_a_width(runs) -> None:
    mean, lo, hi = scoring.seeded_difference(*runs, 0, 200)
    assert lo < hi and -1 - 1e-9 <= lo <= hi <= 1 + 1e-9 and -1 <= mean <= 1


@given(share=SHARES, n=st.integers(1, 300))
def test_more_problems_alike_say_more(share, n) -> None:
    widths = [hi - lo for _, lo, hi in (scoring.accuracy_ci([share] * m, seed=0) for m in (n, n + 1, 10 * n))]
    assert widths[0] > widths[1] >= widths[2] > 0
    gaps = [scoring.paired_difference([share] * m, [0.0] * m, seed=0) for m in (n, 2 * n)]
    assert gaps[0].hi - gaps[0].lo > gaps[1].hi - gaps[1].lo > 0


@pytest.mark.parametrize("times", [1, 2, 4, 8, 16])
def test_more_problems_of_a_kind_say_more(times) -> None:
    few, many = ([1.0, 0.0, 0.5, 1.0] * 2 * m for m in (times, 2 * times))
    widths = [hi - lo for _, lo, hi in (scoring.accuracy_ci(values, seed=0) for values in (few, many))]
    assert widths[0] > widths[1]


def test_values_almost_alike_are_no_certainty_either() -> None:
    """39 problems at a half and one beside it: no narrower than 40 at a half, but for the mean's own move."""
    _, lo, hi = scoring.accuracy_ci([0.5] * 39 + [0.51], seed=0)
    _, low, high = scoring.accuracy_ci([0.5] * 40, seed=0)
    assert hi - lo == pytest.approx(high - low, abs=1e-3)


# ---- coverage


@pytest.mark.parametrize("n", [8, 12, 16, 20, 30, 50, 80])
def test_coverage_of_a_share(n: int) -> None:
    """Exact over all outcomes: the chance that the interval holds p, at every p in .02 ... .98."""
    ends = [scoring.accuracy_ci([1.0] * x + [0.0] * (n - x), seed=x, n_boot=2000)[1:] for x in range(n + 1)]
    for step in range(1, 50):
        p = step / 50
        held = sum(
            comb(n, x) * p**x * (1 - p) ** (n - x) for x, (lo, hi) in enumerate(ends) if lo - 1e-9 <= p <= hi + 1e-9
        )
        assert held >= 0.93, (n, p, held)


@pytest.mark.parametrize("n", [8, 15, 30, 50])
def test_coverage_of_a_paired_difference(n: int) -> None:
    """Simulated; wins and losses with these chances. Counts repeat, so each interval is made once."""
    made: dict[tuple[int, int], tuple[float, float]] = {}
    for win, loss in ((0.02, 0.0), (0.05, 0.02), (0.1, 0.1), (0.2, 0.0), (0.3, 0.1), (0.6, 0.1), (0.9, 0.0)):
        rng, held, tries = random.Random(f"{n}/{win}/{loss}"), 0, 1000
        for _ in range(tries):
            draws = [rng.random() for _ in range(n)]
            won, lost = sum(d < win for d in draws), sum(win <= d < win + loss for d in draws)
            if (won, lost) not in made:
                ours = [1.0] * won + [0.0] * (n - won)
                theirs = [0.0] * won + [1.0] * lost + [0.0] * (n - won - lost)
                found = scoring.paired_difference(ours, theirs, seed=0, n_boot=1000)
                made[won, lost] = found.lo, found.hi
            lo, hi = made[won, lost]
            held += lo - 1e-9 <= win - loss <= hi + 1e-9
        assert held / tries >= 0.93, (n, win, loss, held / tries)


@pytest.mark.parametrize("n", [10, 30])
def test_coverage_of_averaged_samples(n: int) -> None:
    """Four samples a problem, problems of very different difficulty: the mean of the means is .5."""
    rng, held, tries = random.Random(n), 0, 300
    for i in range(tries):
        values = []
        for _ in range(n):
            p = rng.choice((0.02, 0.5, 0.98))
            values.append(sum(rng.random() < p for _ in range(4)) / 4)
        _, lo, hi = scoring.accuracy_ci(values, seed=i, n_boot=1000)
        held += lo <= 0.5 <= hi
    assert held / tries >= 0.93
