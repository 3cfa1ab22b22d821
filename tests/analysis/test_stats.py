"""Statistics against scipy's own, closed forms, enumeration and published examples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from harness.analysis import profiles, rank_tests, stats
from harness.analysis.rank_tests import friedman, hodges_lehmann, holm, mean_ranks, signed_rank
from harness.analysis.stats import (
    bootstrap_t_intervals,
    mean_interval,
    means,
    median_interval,
    proportion_interval,
    resampling_counts,
    spread,
    tail_probability,
    waiting,
)
from harness.measures import Measure

# Squares of numbers below 1e-150 vanish, here as in scipy.
numbers = st.lists(
    st.floats(-1e6, 1e6).map(lambda value: 0.0 if abs(value) < 1e-100 else value),
    min_size=2,
    max_size=40,
)


@given(numbers)
def test_the_interval_of_a_mean_is_students_t(values: list[float]) -> None:
    found = mean_interval(values)
    array = np.asarray(values)
    if np.ptp(array) == 0:
        assert (found.mean, found.sd, found.low, found.high) == (values[0], 0, values[0], values[0])
        return
    expected = scipy.stats.ttest_1samp(array, 0).confidence_interval(0.95)
    scale = np.abs(array).max()
    assert found.mean == pytest.approx(array.mean(), abs=1e-12 * scale)
    assert found.sd == pytest.approx(array.std(ddof=1), rel=1e-9)
    assert found.low == pytest.approx(expected.low, rel=1e-9, abs=1e-9 * scale)
    assert found.high == pytest.approx(expected.high, rel=1e-9, abs=1e-9 * scale)


def test_the_interval_of_shares_ends_at_one() -> None:
    values = np.array([1.0, 0.99, 1.0, 0.999, 0.97, 1.0])
    [mean] = stats.means([values])
    assert mean.high > 1
    clipped = stats.of_shares(mean, values)
    assert (clipped.mean, clipped.low, clipped.high) == (mean.mean, mean.low, 1.0)
    [single] = stats.means([values[:1]])
    assert math.isnan(stats.of_shares(single, values[:1]).high)
    [percent] = stats.means([100 * values])
    assert stats.of_shares(percent, 100 * values) == percent
    assert Measure("accuracy").is_share
    assert not Measure("r2").is_share


def test_one_value_has_a_mean_and_no_interval_and_none_has_neither() -> None:
    one, none = mean_interval([3.5]), mean_interval([])
    assert (one.mean, one.n) == (3.5, 1)
    assert all(math.isnan(v) for v in (one.sd, one.low, one.high, none.mean, none.low))
    assert none.n == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_and_not_averaged(value: float) -> None:
    for statistic in (mean_interval, spread, median_interval):
        with pytest.raises(ValueError, match="not finite"):
            statistic([1.0, value])
    for of_rows in (bootstrap_t_intervals, means):
        for row in ([value], [1.0, value], [*range(20), value]):
            with pytest.raises(ValueError, match="not finite"):
                of_rows([[1.0, 2.0], row])


@given(numbers)
def test_median_and_quartiles_are_scipys(values: list[float]) -> None:
    found = spread(values)
    assert found.iqr == pytest.approx(scipy.stats.iqr(values), rel=1e-9, abs=1e-9)
    assert found.median == pytest.approx(np.median(values))


@pytest.mark.parametrize("n", [5, 6, 10, 30, 31, 100])
def test_the_interval_of_a_median_is_the_binomial_one(n: int) -> None:
    values = np.arange(1.0, n + 1)
    low, high = median_interval(values)
    if n < 6:
        assert math.isnan(low)
        return
    expected: Any = scipy.stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    # scipy's exact interval may be one order statistic wider on one side; ours is symmetric.
    assert low + high == n + 1
    assert abs(low - expected.low) <= 1
    assert abs(high - expected.high) <= 1
    coverage = 1 - 2 * scipy.stats.binom.cdf(low - 1, n, 0.5)
    narrower = 1 - 2 * scipy.stats.binom.cdf(low, n, 0.5)
    assert coverage >= 0.95 > narrower


def test_the_relative_spread_is_the_interquartile_range_over_the_median() -> None:
    assert spread([0.7, 0.9, 1.0, 1.2, 1.4]).relative == pytest.approx(0.3)
    assert spread([2.0, 2.0, 2.0]).relative == 0


def test_waiting_is_the_share_of_all_wall_time_and_never_below_nothing() -> None:
    assert waiting([1.0, 3.0], [1.0, 2.0]) == 0.25
    assert waiting([1.0, 1.0], [1.5, 1.0]) == 0
    assert waiting([2.0], [0.0]) == 1
    with pytest.raises(ValueError, match="finite"):
        waiting([1.0], [math.nan])


# Hollander & Wolfe, Nonparametric Statistical Methods, table 3.1: the Hamilton depression scale
# factor of nine patients, before and after a tranquilizer.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]

# The same, table 7.1: times of 22 players for rounding first base in three ways.
ROUNDING = [
    *([5.40, 5.50, 5.55], [5.85, 5.70, 5.75], [5.20, 5.60, 5.50], [5.55, 5.50, 5.40]),
    *([5.90, 5.85, 5.70], [5.45, 5.55, 5.60], [5.40, 5.40, 5.35], [5.45, 5.50, 5.35]),
    *([5.25, 5.15, 5.00], [5.85, 5.80, 5.70], [5.25, 5.20, 5.10], [5.65, 5.55, 5.45]),
    *([5.60, 5.35, 5.45], [5.05, 5.00, 4.95], [5.50, 5.50, 5.40], [5.45, 5.55, 5.50]),
    *([5.55, 5.55, 5.35], [5.45, 5.50, 5.55], [5.50, 5.45, 5.25], [5.65, 5.60, 5.40]),
    *([5.70, 5.65, 5.55], [6.30, 6.30, 6.25]),
]


def test_resamples_draw_as_many_values_as_there_are_and_always_the_same() -> None:
    first, second = (np.concatenate(list(resampling_counts(7, 999))) for _ in range(2))
    assert first.shape == (999, 7)
    assert (first.sum(axis=1) == 7).all()
    assert (first == second).all()
    # Each value is drawn once on average: 999 * 7 draws, a standard error of 0.03.
    assert np.abs(first.mean(axis=0) - 1).max() < 0.12


def bootstrap_t_by_hand(
    values: NDArray[np.float64], resamples: Iterable[NDArray[np.int64]], confidence: float = 0.95
) -> tuple[float, float]:
    """Efron & Tibshirani, equation (12.22); resamples are indices of values."""
    n, mean = len(values), values.mean()
    ratios = []
    for drawn in resamples:
        resample = values[drawn]
        ratios.append((resample.mean() - mean) / (resample.std(ddof=1) / math.sqrt(n)))
    tail = (1 - confidence) / 2
    error = values.std(ddof=1) / math.sqrt(n)
    return (
        float(mean - np.quantile(ratios, 1 - tail) * error),
        float(mean - np.quantile(ratios, tail) * error),
    )


def resampled_indices(n: int, resamples: int) -> list[NDArray[np.int64]]:
    counts = np.concatenate(list(resampling_counts(n, resamples))).astype(int)
    return [np.repeat(np.arange(n), count) for count in counts]


def bootstrap_t(values: ArrayLike, **options: Any) -> tuple[float, float]:
    ((low, high),) = bootstrap_t_intervals([values], **options)
    return float(low), float(high)


def rows_of(n: int) -> NDArray[np.float64]:
    """Rows with a tail above, with one below, far from 0, and with none."""
    random = np.random.default_rng(n)
    gammas = random.gamma(2, size=(3, n)) * [[20], [-1e6], [1e-3]] + [[0], [0], [7]]
    return np.concatenate([gammas, random.normal(size=(1, n))])


@pytest.mark.parametrize("n", [8, 20, 100])
def test_the_bootstrap_t_interval_is_the_one_by_hand_of_the_same_resamples(n: int) -> None:
    rows = rows_of(n)
    drawn = resampled_indices(n, 9999)
    for row, found in zip(rows, bootstrap_t_intervals(rows), strict=True):
        expected = bootstrap_t_by_hand(row, drawn)
        assert found - row.mean() == pytest.approx(np.array(expected) - row.mean(), rel=1e-9)
    drawn = resampled_indices(n, 500)
    for row, found in zip(rows, bootstrap_t_intervals(rows, 0.8, 500), strict=True):
        assert found == pytest.approx(np.array(bootstrap_t_by_hand(row, drawn, 0.8)), rel=1e-9)


@pytest.mark.parametrize("n", [12, 40])
def test_the_bootstrap_t_interval_is_the_one_by_hand_of_other_resamples(n: int) -> None:
    random = np.random.default_rng(100 + n)
    for row, (low, high) in zip(rows_of(n), bootstrap_t_intervals(rows_of(n)), strict=True):
        expected = bootstrap_t_by_hand(row, random.integers(0, n, size=(9999, n)))
        # Each end's Monte-Carlo error is 1 to 2% of the width.
        assert (low, high) == pytest.approx(expected, abs=0.06 * (high - low))


def test_where_a_bootstrap_t_end_is_over_three_times_as_far_as_students_it_stops_there() -> None:
    random = np.random.default_rng(3)
    n, resamples = 16, 400
    drawn = resampled_indices(n, resamples)
    # From hardly to wildly skewed, every other the mirror image.
    rows = [
        sign * random.lognormal(sigma=sigma, size=n)
        for sigma in np.linspace(0.1, 2, 30)
        for sign in (1, -1)
    ]
    capped = 0
    for row, found in zip(rows, bootstrap_t_intervals(rows, resamples=resamples), strict=True):
        by_hand, students = bootstrap_t_by_hand(row, drawn), mean_interval(row)
        half = students.high - students.mean
        ends = np.clip(by_hand, students.mean - 3 * half, students.mean + 3 * half)
        capped += tuple(ends) != tuple(by_hand)
        assert tuple(found) == pytest.approx(tuple(ends), rel=1e-9)
    assert 5 <= capped <= len(rows) - 5


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-3])
@pytest.mark.parametrize("n", [8, 24])
def test_a_runaway_end_of_bootstrap_t_stops_at_three_times_students(n: int, noise: float) -> None:
    """Of values in two heaps; the other end, which is sound, stays where it is."""
    values = noise * np.random.default_rng(n).normal(size=n)
    values[: n // 8] += 1
    students = mean_interval(values)
    low, high = bootstrap_t(values)
    reach = students.high - students.mean
    assert high == pytest.approx(students.mean + 3 * reach)
    assert students.mean - 3 * reach <= low < students.mean
    assert students.mean - low < 1.5 * reach
    assert bootstrap_t(-values) == pytest.approx((-high, -low), rel=1e-9)


# Of 3,000 log-normal draws with sigma 1 it covered in 90, 91 and 92%, with 1.5 in 84, 85 and 89%.
@pytest.mark.parametrize(("sigma", "least"), [(1.0, 0.89), (1.5, 0.83)])
@pytest.mark.parametrize("n", [8, 10, 20])
def test_of_strongly_skewed_values_bootstrap_t_covers_where_students_does_not(
    n: int, sigma: float, least: float
) -> None:
    runs = 500
    draws = np.random.default_rng(n).lognormal(sigma=sigma, size=(runs, n))
    truth = math.exp(sigma**2 / 2)
    low, high = bootstrap_t_intervals(draws, resamples=1999).T
    covered = int(((low <= truth) & (truth <= high)).sum())
    students = [mean_interval(row) for row in draws]
    by_t = sum(own.low <= truth <= own.high for own in students)
    assert covered >= scipy.stats.binom.ppf(0.001, runs, least)
    assert by_t < covered


def test_of_too_few_values_a_mean_has_no_interval() -> None:
    for n in (2, 3):
        (found,) = means([np.arange(n) ** 2])
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.sd > 0
    (found,) = means([np.arange(4) ** 2])
    assert found.low < found.mean < found.high


@pytest.mark.parametrize(
    "factor",
    [
        3.0,
        1e-100,
        1e-200,
        1e200,
        1e300,
    ],
)
@pytest.mark.parametrize("n", [5, 30])
def test_the_bootstrap_t_interval_scales_with_the_values(factor: float, n: int) -> None:
    values = np.random.default_rng(2).gamma(1.5, size=n)
    low, high = bootstrap_t(values)
    (found,) = means([values * factor])
    assert found.low / factor == pytest.approx(low, rel=1e-9)
    assert found.high / factor == pytest.approx(high, rel=1e-9)
    assert found.mean / factor == pytest.approx(values.mean(), rel=1e-9)
    assert found.sd / factor == pytest.approx(values.std(ddof=1), rel=1e-9)


@pytest.mark.parametrize("shift", [-1e6, 100.0, 1e6])
def test_the_bootstrap_t_interval_moves_with_the_values(shift: float) -> None:
    values = np.random.default_rng(2).gamma(1.5, size=30)
    moved = bootstrap_t(values + shift)
    assert np.subtract(moved, shift) == pytest.approx(np.array(bootstrap_t(values)), abs=1e-8)


@pytest.mark.parametrize("n", [5, 8, 20, 61])
def test_the_bootstrap_t_interval_of_mirrored_values_is_mirrored(n: int) -> None:
    for row in rows_of(n):
        low, high = bootstrap_t(row)
        assert bootstrap_t(-row) == pytest.approx((-high, -low), rel=1e-9)


@pytest.mark.parametrize("n", [10, 20, 50])
def test_of_skewed_values_the_bootstrap_t_interval_reaches_further_to_the_long_tail(n: int) -> None:
    # Quantiles of an exponential distribution, so that no chance is in it.
    values = -np.log1p(-(np.arange(n) + 0.5) / n)
    students = mean_interval(values)
    low, high = bootstrap_t(values)
    assert high - values.mean() > 1.2 * (values.mean() - low)
    assert high > students.high
    assert low > students.low
    mirrored = bootstrap_t(-values)
    assert -values.mean() - mirrored[0] > 1.2 * (mirrored[1] + values.mean())
    # Of as many quantiles of a normal distribution neither end is further, but for chance.
    even = scipy.stats.norm.ppf((np.arange(n) + 0.5) / n)
    low, high = bootstrap_t(even)
    assert high == pytest.approx(-low, rel=0.06)


def test_of_many_values_the_bootstrap_t_interval_is_students() -> None:
    values = np.random.default_rng(1).normal(size=20_000)
    students = mean_interval(values)
    width = students.high - students.low
    # With 999 resamples a quantile's standard error is about 2% of the width.
    assert bootstrap_t(values) == pytest.approx((students.low, students.high), abs=0.1 * width)
    assert bootstrap_t(values) == bootstrap_t(values, resamples=999)


@pytest.mark.parametrize("value", [0.1, 0.0, -1e300, 1e-300])
@pytest.mark.parametrize("n", [2, 7, 8, 30])
def test_of_equal_values_the_bootstrap_t_interval_is_the_value_twice(n: int, value: float) -> None:
    assert bootstrap_t([value] * n) == (value, value)
    (found,) = means([[value] * n])
    assert (found.mean, found.sd, found.low, found.high, found.n) == (value, 0, value, value, n)


def test_rows_of_different_length_have_the_bootstrap_t_intervals_they_have_alone() -> None:
    random = np.random.default_rng(4)
    lengths = [20, 1, 9, 0, 3, 20, 8, 9, 7, 50, 20]
    rows = [random.gamma(1.5, size=n) for n in lengths]
    rows[5] = np.full(20, 0.3)
    rows[7] = np.array([1.0, *[0.0] * 8])
    found = bootstrap_t_intervals(rows)
    assert found.shape == (len(rows), 2)
    for row, interval in zip(rows, found, strict=True):
        assert tuple(interval) == pytest.approx(bootstrap_t(row), rel=1e-9, nan_ok=True)
    # None of fewer than four values.
    assert np.isnan(found[[1, 3, 4]]).all()
    assert np.isfinite(np.delete(found, [1, 3, 4], axis=0)).all()
    assert found[5].tolist() == [0.3, 0.3]
    assert bootstrap_t_intervals([]).shape == (0, 2)
    # In another order, and again: the same.
    assert bootstrap_t_intervals(rows[::-1])[::-1] == pytest.approx(found, rel=1e-9, nan_ok=True)
    assert np.array_equal(bootstrap_t_intervals(rows), found, equal_nan=True)


def test_resamples_of_many_rows_do_not_fit_at_once_and_give_the_same() -> None:
    # Of 500 values resamples come in chunks of 4,000.
    values = np.random.default_rng(6).gamma(1.5, size=500)
    expected = bootstrap_t_by_hand(values, resampled_indices(500, 9999))
    assert bootstrap_t(values) == pytest.approx(expected, rel=1e-9)


def test_means_have_students_mean_and_deviation_and_bootstrap_t_ends() -> None:
    rows = [[4.0, 1.0, 2.0], [7.0], [], *rows_of(12)]
    found = means(rows)
    assert len(found) == len(rows)
    intervals = bootstrap_t_intervals(rows)
    for row, mean, (low, high) in zip(rows, found, intervals, strict=True):
        students = mean_interval(row)
        assert (mean.mean, mean.sd) == pytest.approx((students.mean, students.sd), nan_ok=True)
        assert (mean.low, mean.high) == pytest.approx((float(low), float(high)), nan_ok=True)
        assert mean.n == len(row)
    assert means([]) == []


@given(numbers)
def test_a_bootstrap_t_interval_has_the_mean_in_it_and_is_at_most_thrice_as_wide_as_students(
    values: list[float],
) -> None:
    students = mean_interval(values)
    low, high = bootstrap_t(values, resamples=200)
    if len(values) < 4 and students.sd > 0:
        assert math.isnan(low)
        return
    slack = 1e-9 * max(map(abs, values))
    assert low - slack <= students.mean <= high + slack
    farthest = 3 * (students.high - students.mean) + slack
    assert students.mean - low <= farthest
    assert high - students.mean <= farthest


def test_the_signed_rank_test_of_hollander_and_wolfes_example() -> None:
    found = signed_rank(np.subtract(BEFORE, AFTER))
    # V = 40 of 45.
    assert found.p == 0.0390625
    assert found.effect == pytest.approx((40 - 5) / 45)
    assert (found.n, found.zeros) == (9, 0)


small = st.lists(st.sampled_from([-math.inf, -3, -2, -1, 0, 1, 2, 3, math.inf]), max_size=8)


@given(small)
def test_the_signed_rank_test_is_exact_with_ties_zeros_and_failures(values: list[float]) -> None:
    def rank(value: float) -> Fraction:
        sizes = [abs(v) for v in values]
        below, equal = sum(s < abs(value) for s in sizes), sizes.count(abs(value))
        return below + Fraction(equal + 1, 2)

    ranks = [(rank(v), v > 0) for v in values if v != 0]
    total = sum((r for r, _ in ranks), Fraction(0))
    plus = sum((r for r, positive in ranks if positive), Fraction(0))
    extreme = min(plus, total - plus)
    hits = 0
    for pattern in itertools.product([0, 1], repeat=len(ranks)):
        own = sum((sign * r for sign, (r, _) in zip(pattern, ranks, strict=True)), Fraction(0))
        hits += min(own, total - own) <= extreme
    found = signed_rank(values)
    assert found.p == hits / 2 ** len(ranks)
    assert found.effect == pytest.approx(float((2 * plus - total) / total) if ranks else 0)
    assert (found.n, found.zeros) == (len(values), values.count(0))


@pytest.mark.parametrize("n", [5, 20, 50, 51, 400])
def test_the_signed_rank_test_of_differences_without_ties_is_scipys(n: int) -> None:
    for seed in range(5):
        values = np.random.default_rng(seed).normal(0.3, 1, size=n)
        assert signed_rank(values).p == pytest.approx(scipy.stats.wilcoxon(values).pvalue)


def test_failures_outrank_every_finite_difference_and_tie_with_each_other() -> None:
    values = [*np.linspace(-1, 1.4, 58), math.inf, math.inf, -math.inf]
    large = [*values[:-3], 1e300, 1e300, -1e300]
    assert signed_rank(values) == signed_rank(large)
    assert signed_rank(large).p == pytest.approx(scipy.stats.wilcoxon(large).pvalue)
    assert signed_rank([1e308, -math.inf]).effect == pytest.approx(-1 / 3)


def test_many_zeros_leave_an_exact_test_of_the_few_that_differ() -> None:
    assert signed_rank([0.0] * 97 + [1.0, 2.0, 3.0]).p == 2 / 2**3


def test_no_difference_is_no_evidence() -> None:
    for values in ([], [0.0, 0.0]):
        found = signed_rank(values)
        assert (found.p, found.effect, found.n, found.zeros) == (1, 0, len(values), len(values))


@given(st.lists(st.floats(allow_nan=False), max_size=60))
def test_exchanging_the_sides_changes_the_effects_sign_alone(values: list[float]) -> None:
    one, other = signed_rank(values), signed_rank([-v for v in values])
    assert other.effect == pytest.approx(-one.effect, abs=1e-12)
    assert other.p == pytest.approx(one.p)
    assert -1 <= one.effect <= 1
    assert 0 <= one.p <= 1


def test_differences_and_losses_that_are_not_numbers_are_refused() -> None:
    nan = math.nan
    with pytest.raises(ValueError, match="not numbers"):
        signed_rank([1.0, nan])
    with pytest.raises(ValueError, match="not numbers"):
        hodges_lehmann([1.0, nan])
    with pytest.raises(ValueError, match="not numbers"):
        tail_probability([1.0, nan], 1.0)
    for statistic in (mean_ranks, friedman):
        with pytest.raises(ValueError, match="not a number"):
            statistic([[1.0, nan], [1.0, 2.0]])
        with pytest.raises(ValueError, match="shape"):
            statistic([1.0, 2.0])


def test_holms_adjustment_of_a_published_example() -> None:
    # The four hypotheses of Wikipedia's article on the Holm-Bonferroni method, of which the
    # first and the last are rejected at 0.05.
    adjusted = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx(np.array([0.03, 0.06, 0.06, 0.02]))
    assert (adjusted <= 0.05).tolist() == [True, False, False, True]


def test_the_smallest_of_a_family_are_adjusted_as_within_it() -> None:
    p = [0.001, 0.2, 0.004, 0.03, 0.9]
    assert holm([0.001, 0.004], family=5).tolist() == holm(p)[[0, 2]].tolist()
    assert holm([]).size == 0
    with pytest.raises(ValueError, match="family of 2"):
        holm([0.1, 0.2, 0.3], family=2)
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="p-value"):
            holm([0.5, bad])


@given(st.lists(st.floats(0, 1), max_size=20), st.integers(0, 5))
def test_holms_adjustment_keeps_the_order_and_lowers_nothing(p: list[float], more: int) -> None:
    adjusted = holm(p, len(p) + more)
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()
    # Never more cautious than Bonferroni.
    assert (adjusted <= np.minimum(1, np.multiply(p, len(p) + more))).all()


def test_friedmans_test_of_hollander_and_wolfes_example() -> None:
    statistic, p = friedman(np.transpose(ROUNDING))
    assert statistic == pytest.approx(11.143, abs=5e-4)
    assert p == pytest.approx(0.003805, abs=5e-7)
    # The book's rank sums.
    assert mean_ranks(np.transpose(ROUNDING)).sum(axis=1).tolist() == [53, 47, 32]


def test_friedmans_test_needs_three_cases_two_seeds_and_one_that_differs() -> None:
    for losses in ([[1.0, 2.0]] * 2, [[1.0], [2.0], [3.0]], [[1.0, math.inf]] * 3):
        assert all(map(math.isnan, friedman(losses)))
    assert friedman([[1.0, 1.0], [2.0, 2.0], [math.inf, math.inf]])[0] == pytest.approx(4)


def test_ties_share_their_rank_and_failures_share_the_last() -> None:
    inf = math.inf
    found = mean_ranks([[1.0, inf, 3.0], [1.0, 0.5, inf], [2.0, inf, -4.0]])
    assert found.tolist() == [[1.5, 2.5, 2], [1.5, 1, 3], [3, 2.5, 1]]


losses = st.integers(1, 6).flatmap(
    lambda cases: st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, math.inf]), min_size=cases, max_size=cases),
        min_size=1,
        max_size=6,
    )
)


@given(losses)
def test_the_ranks_of_a_seed_sum_to_the_same_whatever_ties(by_seed: list[list[float]]) -> None:
    table = np.transpose(by_seed)
    cases = len(table)
    assert (mean_ranks(table).sum(axis=0) == cases * (cases + 1) / 2).all()


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_a_proportions_interval_is_newcombes(
    successes: int, n: int, low: float, high: float
) -> None:
    # Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
    assert proportion_interval(successes, n) == pytest.approx((low, high), abs=5e-5)
    assert all(map(math.isnan, proportion_interval(0, 0)))
    with pytest.raises(ValueError, match="k"):
        proportion_interval(n + 1, n)


def test_the_place_of_a_published_value_counts_its_rounding() -> None:
    ours = [0.91, 0.925, 0.928, 0.935, 0.94, math.inf]
    found = tail_probability(ours, 0.93, 0.005)
    assert (found.below, found.equal, found.above, found.n) == (1, 3, 2, 6)
    assert found.percentile == pytest.approx(100 * 2.5 / 6)
    assert found.p == 1
    beyond = tail_probability(ours, 0.9)
    assert (beyond.below, beyond.equal, beyond.above, beyond.percentile) == (0, 0, 6, 0)
    assert beyond.p == 2 / 7
    assert tail_probability([0.5], 0.5).equal == 1
    none = tail_probability([], 0.5)
    assert none.n == 0
    assert math.isnan(none.p)
    for claimed, rounding in ((math.nan, 0.0), (math.inf, 0.0), (1.0, math.nan), (1.0, -1.0)):
        with pytest.raises(ValueError, match="finite"):
            tail_probability([1.0], claimed, rounding)


def test_without_ties_the_tail_probability_is_uniform_over_its_values() -> None:
    everything = np.arange(40.0)
    found = [tail_probability(np.delete(everything, i), everything[i]).p for i in range(40)]
    assert sorted(found) == pytest.approx([2 * k / 40 for k in range(1, 21) for _ in range(2)])
    assert min(found) == 0.05


@given(st.lists(st.integers(0, 4), min_size=2, max_size=15), st.sampled_from([0.0, 0.5, 1.0]))
def test_with_ties_and_rounding_the_tail_probability_never_calls_too_often(
    everything: list[int], half_width: float
) -> None:
    found = []
    for i, value in enumerate(everything):
        # The value is printed at either end of its rounding.
        for claimed in (value - half_width, value + half_width):
            others = everything[:i] + everything[i + 1 :]
            found.append(tail_probability(others, claimed, half_width).p)
    for p in found:
        assert np.mean(np.array(found) <= p) <= p + 1e-12


def test_the_expected_running_time_charges_a_hit_with_the_misses() -> None:
    # Hits after 200 and 300 evaluations, a miss with 1000: (200 + 300 + 1000) / 2.
    found = profiles.expected_running_time([200, 1000, 300], [True, False, True])
    assert found == 750
    rows = [[200, 1000, 300], [5, 6, 7], [5, 6, 7]]
    reached = [[True, False, True], [True] * 3, [False] * 3]
    assert profiles.expected_running_time(rows, reached).tolist() == [750, 6, math.inf]
    assert math.isnan(profiles.expected_running_time([], []))
    for costs in ([math.inf, 1], [math.nan, 1], [-1, 1]):
        with pytest.raises(ValueError, match="finite"):
            profiles.expected_running_time(costs, [True, True])
    with pytest.raises(ValueError, match="reached is"):
        profiles.expected_running_time([1, 2], [True])


# Four problems and three solvers; the last problem is solved by none.
INF = math.inf
COSTS: list[list[float]] = [[10, 20, 40], [30, 10, INF], [5, 5, 10], [INF, INF, INF]]


def one_seed(costs: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.array(costs)[:, None, :]


def test_a_performance_profile_by_hand() -> None:
    ratios = profiles.performance_ratios(COSTS)
    assert ratios.tolist() == [[1, 2, 4], [3, 1, INF], [1, 1, 2], [INF, INF, INF]]
    bands = profiles.profile_bands(one_seed(COSTS), [4, 0.5, 1, 2, 3, INF])
    assert [band.share.tolist() for band in bands] == [
        [0.75, 0, 0.5, 0.5, 0.75, 0.75],
        [0.75, 0, 0.5, 0.75, 0.75, 0.75],
        [0.5, 0, 0, 0.25, 0.25, 0.5],
    ]


def test_a_runtime_distribution_by_hand() -> None:
    bands = profiles.runtime_bands(one_seed(COSTS), [4, 5, 10, 25, 40])
    assert [band.share.tolist() for band in bands] == [
        [0, 0.25, 0.5, 0.5, 0.75],
        [0, 0.25, 0.5, 0.75, 0.75],
        [0, 0, 0.25, 0.25, 0.5],
    ]
    for band in profiles.runtime_bands(np.empty((0, 1, 2)), [1.0]):
        assert np.isnan(band.share).all()


def test_a_best_cost_of_nothing_is_infinitely_better_than_any_other() -> None:
    assert profiles.performance_ratios([[0, 0, 3, INF]]).tolist() == [[1, 1, INF, INF]]


def test_costs_that_are_not_numbers_are_refused() -> None:
    for bad in (math.nan, -1.0):
        with pytest.raises(ValueError, match="at least 0"):
            profiles.performance_ratios([[1.0, bad]])
        with pytest.raises(ValueError, match="at least 0"):
            profiles.runtime_bands([[[1.0, bad]]], [1.0])
        with pytest.raises(ValueError, match="at least 0"):
            profiles.profile_bands([[[1.0, bad]]], [1.0])
    with pytest.raises(ValueError, match="not a number"):
        profiles.runtime_bands([[[1.0]]], [math.nan])
    with pytest.raises(ValueError, match="shape"):
        profiles.runtime_bands([[1.0]], [1.0])


cost_tables = st.integers(1, 4).flatmap(
    lambda solvers: st.lists(
        st.lists(
            st.one_of(st.just(INF), st.integers(0, 50).map(float)),
            min_size=solvers,
            max_size=solvers,
        ),
        min_size=1,
        max_size=8,
    )
)


@given(cost_tables, st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_profiles_rise_from_nothing_to_at_most_all(
    costs: list[list[float]], points: Sequence[float]
) -> None:
    points = sorted(points)
    ratios = profiles.performance_ratios(costs)
    for bands, values in (
        (profiles.profile_bands(one_seed(costs), points), ratios),
        (profiles.runtime_bands(one_seed(costs), points), np.array(costs)),
    ):
        found = np.array([band.share for band in bands])
        assert ((found >= 0) & (found <= 1)).all()
        assert (np.diff(found, axis=1) >= 0).all()
        counted = (values[:, :, None] <= np.array(points)).mean(axis=0)
        assert found == pytest.approx(counted)


def planted_costs(problems: int, seeds: int) -> Any:
    generator = np.random.default_rng(5)
    costs = generator.geometric(0.02, size=(problems, seeds, 3)).astype(float)
    costs[generator.random(costs.shape) < 0.15] = INF
    return costs


def wilson(share: float, variance: float, units: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval as the roots of its equation, with the effective number and Student's t."""
    n = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else units
    square = scipy.stats.t.ppf((1 + confidence) / 2, units - 1) ** 2
    # (share - p)^2 = square p (1 - p) / n
    roots = np.roots([1 + square / n, -(2 * share + square / n), share**2]).real
    return float(max(0, roots.min())), float(min(1, roots.max()))


def test_bands_are_wilsons_intervals_with_the_variance_over_seeds() -> None:
    costs, x = planted_costs(4, 12), np.array([3.0, 1.0, 10.0, 1e9])
    ratios = profiles.performance_ratios(costs)
    for bands, values in (
        (profiles.profile_bands(costs, x, 0.9), ratios),
        (profiles.runtime_bands(costs, x, 0.9), costs),
    ):
        assert len(bands) == 3
        for i, band in enumerate(bands):
            assert band.x.tolist() == x.tolist()
            for j, point in enumerate(x):
                reached = values[:, :, i] <= point
                assert band.share[j] == pytest.approx(reached.mean())
                variance = reached.mean(axis=0).var(ddof=1) / 12
                expected = wilson(band.share[j], variance, 12, 0.9)
                assert (band.low[j], band.high[j]) == pytest.approx(expected)


def test_over_objectives_the_variance_over_families_is_added_to_that_over_seeds() -> None:
    costs = planted_costs(6, 12)
    families = ["a", "b", "b", "c", "d", "e"]
    for i, band in enumerate(profiles.runtime_bands(costs, [40.0], 0.95, families)):
        reached = costs[:, :, i] <= 40
        apart = [
            reached[[f == name for f in families]].sum(axis=0).mean()
            - families.count(name) * reached.mean()
            for name in "abcde"
        ]
        over_families = 5 / 4 * np.sum(np.square(apart)) / 6**2
        variance = reached.mean(axis=0).var(ddof=1) / 12 + over_families
        expected = wilson(reached.mean(), variance, 5, 0.95)
        assert (band.low[0], band.high[0]) == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
@pytest.mark.parametrize(
    ("targets", "share", "alike"), [(1, 0.9, 1), (3, 0.5, 0.9), (10, 0.7, 0.2)]
)
def test_bands_cover_the_share_of_other_seeds(
    targets: int, share: float, alike: float, seeds: int
) -> None:
    random = np.random.default_rng(6)
    runs = 400
    # Targets of a seed are reached together: one part of what decides is the seed's.
    shared = random.normal(size=(runs, 1, seeds, 1))
    own = random.normal(size=(runs, targets, seeds, 1))
    decides = math.sqrt(alike) * shared + math.sqrt(1 - alike) * own
    costs = np.where(decides < scipy.stats.norm.ppf(share), 1.0, INF)
    bands = [profiles.runtime_bands(one, [1.0])[0] for one in costs]
    covered = sum(bool(b.low[0] <= share <= b.high[0]) for b in bands)
    assert covered >= scipy.stats.binom.ppf(0.001, runs, 0.92)


def test_problems_that_move_together_narrow_no_band() -> None:
    one = planted_costs(1, 15)
    nine = np.repeat(one, 9, axis=0)
    x = [1.0, 2.0, 5.0]
    pairs = zip(profiles.profile_bands(one, x), profiles.profile_bands(nine, x), strict=True)
    for a, b in pairs:
        assert a.low == pytest.approx(b.low)
        assert a.high == pytest.approx(b.high)
        assert (a.high > a.low).all()


def test_one_seed_has_a_profile_and_no_band() -> None:
    for band in profiles.profile_bands(planted_costs(3, 1), [1.0, 2.0]):
        assert np.isfinite(band.share).all()
        assert np.isnan([band.low, band.high]).all()
    for band in profiles.runtime_bands(np.empty((3, 0, 2)), [1.0]):
        assert np.isnan([band.share, band.low, band.high]).all()


# ---- the Hodges-Lehmann shift


def walsh(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """All averages of two, each with itself included, ascending."""
    n = len(differences)
    halves = differences / 2
    return np.array(sorted(halves[i] + halves[j] for i in range(n) for j in range(i, n)))


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 13, 50, 51, 90])
def test_the_shift_is_the_median_of_all_averages_and_its_ends_invert_scipys_test(n: int) -> None:
    differences = np.random.default_rng(n).normal(size=n) + 0.3
    found = hodges_lehmann(differences)
    averages = walsh(differences)
    assert found.estimate == pytest.approx(np.median(averages), rel=1e-12)

    def p(shift: float) -> float:
        less = differences - shift
        return float(scipy.stats.wilcoxon(less).pvalue)

    if p(averages[0] - 1) > 0.05:  # so few that no shift is rejected
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        return
    gap = np.diff(averages).min() / 4
    assert p(found.low - gap) <= 0.05 < p(found.low + gap)
    assert p(found.high + gap) <= 0.05 < p(found.high - gap)


@given(
    st.lists(
        st.one_of(st.integers(-4, 4).map(float), st.sampled_from([math.inf, -math.inf])),
        min_size=1,
        max_size=60,
    )
)
def test_the_interval_of_the_shift_never_lies_about_zero_where_the_test_rejects_it(
    differences: list[float],
) -> None:
    found, test = hodges_lehmann(differences), signed_rank(differences)
    if math.isnan(found.low):
        return
    assert found.low <= found.high
    if test.p <= 0.05:
        assert (found.low >= 0) if test.effect > 0 else (found.high <= 0)
        assert math.isnan(found.estimate) or found.estimate * test.effect >= 0
    else:
        assert found.low <= 0 <= found.high
    mirrored = hodges_lehmann([-value for value in differences])
    assert (mirrored.low, mirrored.high) == (-found.high, -found.low)


def test_failures_shift_the_estimate_as_the_largest_of_all_and_decide_it_where_they_are_half() -> (
    None
):
    values = np.random.default_rng(1).normal(size=20)
    few = hodges_lehmann([*values, math.inf, math.inf])
    large = hodges_lehmann([*values, 1e9, 1e9])
    assert few.estimate == large.estimate
    assert (few.low, few.high) == (large.low, large.high)
    half = hodges_lehmann([*values, *[math.inf] * 20])
    assert (half.estimate, half.high) == (math.inf, math.inf)
    assert math.isnan(hodges_lehmann([math.inf] * 6 + [-math.inf] * 6).estimate)


def test_averages_too_many_to_list_are_found_as_those_that_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    differences = np.random.default_rng(2).normal(size=301)
    listed = hodges_lehmann(differences)
    monkeypatch.setattr(rank_tests, "_DIRECT", 10)
    found = hodges_lehmann(differences)
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (listed.estimate, listed.low, listed.high), rel=1e-12
    )


def test_statistics_of_values_near_the_largest_number_do_not_overflow() -> None:
    values = np.array([1.7e308, 1.5e308, 1.6e308, 1.2e308, 1.0e308, 1.4e308, 1.3e308, 1.1e308])
    small = values / 1e300
    for own, scaled in (
        (mean_interval(values), mean_interval(small)),
        (stats.means([values])[0], stats.means([small])[0]),
    ):
        assert own.mean == pytest.approx(scaled.mean * 1e300)
        assert own.sd == pytest.approx(scaled.sd * 1e300)
        assert own.low == pytest.approx(scaled.low * 1e300)
    assert math.isfinite(mean_interval([1e308, -1e308, 1e308]).sd)
    shift = hodges_lehmann(values)
    assert shift.estimate == pytest.approx(hodges_lehmann(small).estimate * 1e300)
