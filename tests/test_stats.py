"""Statistics against scipy's own and against closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import mean_interval, median_interval, spread, waiting

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
