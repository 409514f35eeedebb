"""Intervals and paired tests against known values (method.md section 12, acceptance tests 13.7 and 13.8)."""

import random
from collections import Counter
from math import comb
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from realm_cli.errors import DataError
from realm_cli.method import scoring as sc


def test_wilson_known_values() -> None:
    assert sc.wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert sc.wilson(0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)
    assert sc.wilson(10, 10)[1] == 1.0
    assert sc.wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(pair) -> None:
    correct, n = pair
    reference = stats.binomtest(correct, n).proportion_ci(0.95, "wilson")
    assert sc.wilson(correct, n) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_wilson_rejects_impossible_counts() -> None:
    with pytest.raises(ValueError, match=r"correct 3 must lie in 0\.\.2"):
        sc.wilson(3, 2)


@pytest.mark.parametrize(
    ("b", "c", "p"), [(10, 2, 0.03857421875), (2, 10, 0.03857421875), (0, 0, 1.0), (5, 5, 1.0), (6, 0, 0.03125)]
)
def test_mcnemar_known_values(b, c, p) -> None:
    assert sc.mcnemar_exact(b, c) == p


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_agrees_with_the_binomial_test(b, c) -> None:
    reference = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert sc.mcnemar_exact(b, c) == pytest.approx(reference, rel=1e-9)


def test_mcnemar_of_many_pairs_and_of_negative_counts() -> None:
    assert 0 < sc.mcnemar_exact(3000, 2800) < 0.01
    with pytest.raises(ValueError, match="must be >= 0"):
        sc.mcnemar_exact(-1, 2)


def test_accuracy_interval_of_a_share() -> None:
    mean, lo, hi = sc.accuracy_ci([1.0] * 320 + [0.0] * 80, seed=0)
    assert mean == pytest.approx(0.8)
    assert (lo, hi) == pytest.approx((0.8 - 1.96 * 0.02, 0.8 + 1.96 * 0.02), abs=0.004)
    assert sc.accuracy_ci([1.0] * 320 + [0.0] * 80, seed=0) == (mean, lo, hi)


def test_accuracy_averages_the_samples_of_a_problem_first() -> None:
    mean, lo, hi = sc.accuracy_ci({"a": [1, 0, 0, 0], "b": [1]}, seed=0, n_boot=500)
    assert (mean, lo, hi) == (0.625, 0.25, 1.0)
    assert sc.accuracy_ci([True, True], seed=1, n_boot=200) == (1.0, *sc.wilson(2, 2))
    mean, lo, hi = sc.accuracy_ci([0.0] * 12, seed=1)
    assert (mean, lo) == (0.0, 0.0) and hi == pytest.approx(0.2425, abs=1e-4)


def test_accuracy_needs_values() -> None:
    with pytest.raises(DataError, match="no problems to score"):
        sc.accuracy_ci([], seed=0)
    with pytest.raises(DataError, match="a problem has no values"):
        sc.accuracy_ci({"a": []}, seed=0)


def test_paired_difference_by_hand() -> None:
    a = [1] * 10 + [0] * 2 + [1] * 50 + [0] * 38
    b = [0] * 10 + [1] * 2 + [1] * 50 + [0] * 38
    gap = sc.paired_difference(a, b, seed=0)
    assert (gap.mean, gap.n, gap.discordant, gap.mcnemar_p) == (pytest.approx(0.08), 100, 12, 0.03857421875)
    half = 1.96 * ((0.12 - 0.08**2) / 100) ** 0.5
    assert (gap.lo, gap.hi) == pytest.approx((0.08 - half, 0.08 + half), abs=0.01)


def test_equal_systems_differ_by_nothing_that_so_few_problems_show() -> None:
    gap = sc.paired_difference([1, 0, 1], [1, 0, 1], seed=0, n_boot=100)
    assert (gap.mean, gap.n, gap.discordant, gap.mcnemar_p) == (0.0, 3, 0, 1.0)
    assert (gap.lo, gap.hi) == pytest.approx((-0.5615, 0.5615), abs=1e-4)  # as for 0 of 3: z^2 / (3 + z^2)
    assert sc.paired_difference([1, 0] * 300, [1, 0] * 300, seed=0, n_boot=100).hi == pytest.approx(0.0064, abs=1e-4)


def test_pairs_are_joined_by_problem() -> None:
    a, b = {"x": 1.0, "y": 0.0, "z": [0.5, 1.0]}, {"z": 0.75, "y": 1.0, "x": 1.0}
    gap = sc.paired_difference(a, b, seed=0, n_boot=100)
    assert (gap.mean, gap.discordant) == (pytest.approx(-1 / 3), 1)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({"x": 1}, {"y": 1}, "differ in 2 problems, e.g. x"),
        ([1, 0], [1], "lengths 2 and 1"),
        ({"x": 1}, [1], "both be mappings"),
        ([], [], "no problems to score"),
    ],
)
def test_unpaired_values_are_an_error(a, b, message) -> None:
    with pytest.raises(DataError, match=message):
        sc.paired_difference(a, b, seed=0)


def test_bootstrap_runs_in_bounded_chunks(monkeypatch) -> None:
    values = [float(i % 3 == 0) for i in range(60)]
    whole = sc.accuracy_ci(values, seed=3, n_boot=1005)
    monkeypatch.setattr(sc, "_CHUNK", 600)
    mean, lo, hi = sc.accuracy_ci(values, seed=3, n_boot=1005)
    assert (mean, lo, hi) == pytest.approx((1 / 3, 0.217, 0.45), abs=0.03)
    assert (mean, lo, hi) == whole  # the same resamples, however they are cut
    assert len(sc._bootstrap_means(values, seed=3, n_boot=1005)) == 1005


def test_seeded_difference_is_wider_than_the_problems_alone() -> None:
    rng = random.Random(0)
    base = [float(rng.random() < 0.5) for _ in range(200)]
    low, high = base, [1.0 if i < 60 else x for i, x in enumerate(base)]
    mean, lo, hi = sc.seeded_difference([low, high, high], [base, base, base], seed=0, n_boot=2000)
    expected = 2 / 3 * (fmean(high) - fmean(base))
    assert mean == pytest.approx(expected)
    one = sc.paired_difference([2 / 3 * h + 1 / 3 * x for h, x in zip(high, low, strict=True)], base, seed=0)
    assert lo < one.lo
    assert hi > one.hi


def test_runs_from_one_start_are_resampled_together() -> None:
    """Starts differ by .5, arms by one problem in ten everywhere: paired, only the problems are left to vary."""
    starts = [[0.0] * 100, [1.0] * 50 + [0.0] * 50]
    better = [[1.0 if i >= 90 else x for i, x in enumerate(start)] for start in starts]
    alone = sc.paired_difference(better[0], starts[0], seed=0)
    mean, lo, hi = sc.seeded_difference(better, starts, seed=0, n_boot=2000, paired=True)
    assert mean == pytest.approx(0.1)
    assert (lo, hi) == pytest.approx((alone.lo, alone.hi), abs=0.02)
    _, wide_lo, wide_hi = sc.seeded_difference(better, starts, seed=0, n_boot=2000)
    assert wide_lo < -0.3 and wide_hi > 0.5
    with pytest.raises(DataError, match="2 runs against 1 are no pairs"):
        sc.seeded_difference(better, starts[:1], seed=0, paired=True)


def test_seeded_difference_joins_by_problem_and_needs_runs() -> None:
    a, b = [{"x": 1.0, "y": 0.0}], [{"y": 0.0, "x": 0.0}, {"x": 1.0, "y": 0.0}]
    assert sc.seeded_difference(a, b, seed=0, n_boot=50)[0] == pytest.approx(0.25)
    with pytest.raises(DataError, match="no runs to compare"):
        sc.seeded_difference([], b, seed=0)
    with pytest.raises(DataError, match="differ in 1 problems, e.g. y"):
        sc.seeded_difference(a, [{"x": 1.0}], seed=0)


def test_pass_at_k_identities() -> None:
    assert sc.pass_at_k(4, 1, 1) == pytest.approx(0.25)
    assert sc.pass_at_k(4, 1, 2) == pytest.approx(0.5)
    assert sc.pass_at_k(4, 4, 1) == 1.0
    assert sc.pass_at_k(4, 0, 4) == 0.0
    for bad in ((2, 3, 1), (2, 1, 3), (2, 1, 0)):
        with pytest.raises(ValueError, match="pass@k needs"):
            sc.pass_at_k(*bad)


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_counts_subsets(triple) -> None:
    n, c, k = triple
    assert sc.pass_at_k(n, c, k) == pytest.approx(1 - comb(n - c, k) / comb(n, k))
    assert sc.pass_at_k(n, c, n) == float(c > 0)
    assert sc.pass_at_k(n, c, 1) == pytest.approx(c / n)


def test_plurality_and_ties() -> None:
    assert sc.plurality(["a", "b", "b", None]) == "b"
    assert sc.plurality(["b", "a", "a", "b"]) == "b"
    assert sc.plurality([None, None, "a"]) == "a"
    assert sc.plurality([None]) is None
    assert sc.plurality([]) is None
    rng = random.Random(0)
    drawn = Counter(sc.plurality(["a", "b", None, "b", "a", "c"], rng) for _ in range(400))
    assert set(drawn) == {"a", "b"}
    assert drawn["a"] == pytest.approx(200, abs=40)


def test_maj_at_k() -> None:
    assert sc.maj_at_k(["a", "b", "b"], [True, False, False]) is False
    assert sc.maj_at_k(["a", "b", "a"], [True, False, True]) is True
    assert sc.maj_at_k(["a", "b"], [True, False]) is True
    assert sc.maj_at_k([None, None], [False, False]) is False


def test_holm_known_values() -> None:
    assert sc.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert sc.holm([0.5, 0.9]) == [1.0, 1.0]
    assert sc.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_monotone_and_never_below_the_raw_value(pvalues) -> None:
    adjusted = sc.holm(pvalues)
    assert all(p <= q <= 1 for p, q in zip(pvalues, adjusted, strict=True))
    ranked = [q for _, q in sorted(zip(pvalues, adjusted, strict=True))]
    assert ranked == sorted(ranked)


def test_long_routes_are_shown_three_at_a_time() -> None:
    assert sc.routes_shown(4, [280, 310, 320], 300) == 3
    assert sc.routes_shown(4, [280, 300, 320], 300) == 4  # more than, not as many as
    assert sc.routes_shown(2, [900], 300) == 2 and sc.routes_shown(8, [900], 300) == 3
    assert sc.routes_shown(4, [], 300) == sc.routes_shown(4, [900], None) == 4


@given(st.integers(1, 8), st.lists(st.integers(0, 900), max_size=9), st.none() | st.integers(1, 900))
def test_how_many_routes_are_shown_depends_on_their_middle(k, tokens, long) -> None:
    shown = sc.routes_shown(k, tokens, long)
    assert shown in (k, min(k, 3)) and shown == sc.routes_shown(k, tokens[::-1], long)
    assert shown == k or sorted(tokens)[len(tokens) // 2] > long


def test_route_choice_is_uniform_and_blind_to_order() -> None:
    ids = [f"p/m/{i}" for i in range(6)]
    forward = sc.choose_routes(ids, 4, random.Random(3))
    assert forward == sc.choose_routes(ids[::-1], 4, random.Random(3))
    assert len(set(forward)) == 4
    assert sorted(sc.choose_routes(ids[:2], 4, random.Random(0))) == ids[:2]
    rng = random.Random(0)
    counts = Counter(i for _ in range(3000) for i in sc.choose_routes(ids, 2, rng))
    assert all(count == pytest.approx(1000, abs=90) for count in counts.values())


@pytest.mark.parametrize(
    ("n", "discordance", "delta"),
    [(2320, 0.2, 0.026), (890, 0.2, 0.042), (1319, 0.2, 0.0345), (1319, 0.1, 0.0244), (500, 0.2, 0.056)],
)
def test_power_table(n, discordance, delta) -> None:
    assert sc.smallest_detectable(n, discordance) == pytest.approx(delta, abs=2e-4)


def test_power_grows_and_rejects_nonsense() -> None:
    assert sc.smallest_detectable(500, 0.2, power=0.9) > sc.smallest_detectable(500, 0.2)
    with pytest.raises(ValueError, match="need n >= 1"):
        sc.smallest_detectable(0, 0.2)


# ---- how many pairs a claim needs


def test_pairs_needed_by_hand() -> None:
    """q = .1, delta = .05: (2.8016 * 2)^2 = 31.4; twice the difference needs a quarter of the pairs."""
    assert sc.pairs_needed(600, 60, 0.05) == sc.pairs_needed(600, 60, -0.05) == 32
    assert sc.pairs_needed(600, 60, 0.1) == 8
    assert sc.pairs_needed(600, 0, 0.0) is None and sc.pairs_needed(600, 60, 0.0) is None
    for wrong in ((0, 0), (5, 6), (5, -1)):
        with pytest.raises(ValueError):
            sc.pairs_needed(*wrong, 0.1)


@given(st.integers(20, 2000), st.floats(0.05, 0.9), st.floats(0.01, 0.5))
def test_enough_pairs_means_a_detectable_difference(n: int, share: float, delta: float) -> None:
    discordant = round(share * n)
    needed = sc.pairs_needed(n, discordant, delta)
    detectable = sc.smallest_detectable(n, discordant / n)
    assert needed is not None
    assert abs(discordant - needed) <= 1 or (discordant > needed) == (delta > detectable)
