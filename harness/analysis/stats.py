"""Statistics as pure functions on arrays. Knows nothing of optimizers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95

ROUNDING = {"float32": 1e-6, "float64": 1e-12}
"""By which share of itself a loss may differ by rounding alone, by its precision."""

EPSILON = {"float32": 2.0**-23, "float64": 2.0**-52}
"""The spacing of numbers about 1, by their precision."""

# Draws of values that the resamples of rows of one length share: what bounds the time.
_DRAWS = 10_000_000
_LEAST_RESAMPLES = 999
# Fewer values than this resample to too few different sets.
_LEAST_VALUES = 4
# An end of bootstrap-t is at most so many times as far from the mean as Student's t.
_FARTHEST = 3
# How many resamples are in memory at once, counted in values.
_CHUNK = 2_000_000
_SEED = 20_240_229
# A power of two near the largest number: dividing by it is exact.
_LARGE = 2.0**1023


@dataclass(frozen=True)
class Mean:
    """A mean with its interval.

    Attributes:
        mean: Arithmetic mean; NaN of no values.
        sd: Sample standard deviation (n - 1); NaN of fewer than two values.
        low: Lower end of the interval of the mean; NaN of fewer than two values.
        high: Upper end.
        n: Number of values.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Mean:
    """Student's t interval of a mean: ``mean ± t(n-1) sd / sqrt(n)``.

    Args:
        values: Independent values, any shape; must be finite.
        confidence: Between 0 and 1.

    Raises:
        ValueError: If a value is not finite.
    """
    array = _finite(values)
    n = array.size
    if n == 0:
        return Mean(math.nan, math.nan, math.nan, math.nan, 0)
    if n == 1:
        return Mean(float(array[0]), math.nan, math.nan, math.nan, 1)
    # Equal values have no spread, whatever the rounding of their mean says.
    if (array == array[0]).all():
        return Mean(float(array[0]), 0.0, float(array[0]), float(array[0]), n)
    mean = average(array)
    with np.errstate(over="ignore", invalid="ignore"):
        sd = float(array.std(ddof=1))
    if not 1e-140 < sd < math.inf:  # squares were too large or too small, not the deviations
        scale = 2 * float(np.abs(array / 2 - mean / 2).max())
        scale = scale if math.isfinite(scale) else _LARGE
        sd = scale * float((array / scale).std(ddof=1))
    half = t_quantile(n - 1, (1 + confidence) / 2) * sd / math.sqrt(n)
    return Mean(mean, sd, mean - half, mean + half, n)


def average(values: ArrayLike) -> float:
    """The arithmetic mean, of values whose sum overflows too; NaN of none.

    Raises:
        ValueError: If a value is not finite.
    """
    array = _finite(values)
    if array.size == 0:
        return math.nan
    if np.abs(array).max() < _LARGE / array.size:
        return float(array.mean())
    return float((array / array.size).sum())


def t_quantile(degrees: float, probability: float) -> float:
    """Quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def t_probability(degrees: float, value: float) -> float:
    """Probability of a value of Student's t distribution that is no larger."""
    from scipy.special import stdtr

    return float(stdtr(degrees, value))


@dataclass(frozen=True)
class Spread:
    """A median with its interquartile range, of ``n`` values; NaN of none."""

    median: float
    q1: float
    q3: float
    n: int

    @property
    def iqr(self) -> float:
        """The interquartile range."""
        return self.q3 - self.q1

    @property
    def relative(self) -> float:
        """The interquartile range as a share of the median."""
        return self.iqr / self.median


def spread(values: ArrayLike) -> Spread:
    """Median and quartiles (linear interpolation).

    Raises:
        ValueError: If a value is not finite.
    """
    array = _finite(values)
    if array.size == 0:
        return Spread(math.nan, math.nan, math.nan, 0)
    q1, median, q3 = (float(q) for q in np.quantile(array, [0.25, 0.5, 0.75]))
    return Spread(median, q1, q3, int(array.size))


def median_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Distribution-free interval of a median, from order statistics.

    The ends are the order statistics ``k`` and ``n + 1 - k`` with the largest ``k`` whose
    binomial coverage is at least ``confidence`` (Conover, Practical Nonparametric Statistics,
    3rd ed., section 3.2); NaN where ``n`` is too small for that (below 6 at 95%).
    """
    from scipy.special import bdtr

    array = np.sort(_finite(values))
    n = array.size
    best = 0
    for k in range(1, n // 2 + 1):
        if 1 - 2 * float(bdtr(k - 1, n, 0.5)) < confidence:
            break
        best = k
    if best == 0:
        return math.nan, math.nan
    return float(array[best - 1]), float(array[n - best])


def resampling_counts(n: int, resamples: int) -> Iterator[NDArray[np.float64]]:
    """Counts of each of ``n`` values in each bootstrap resample; always the same.

    The mean of a resample is a row of this times the values, over ``n``: all statistics that are
    means over the same ``n`` units share the draws, and a resample costs a matrix product.

    Yields:
        Arrays ``(some, n)`` whose rows sum to ``n``, ``resamples`` rows in all.
    """
    generator = np.random.default_rng(_SEED)
    size = max(1, _CHUNK // n)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = generator.integers(0, n, size=(rows, n))
        drawn += n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n)
        yield counts.reshape(rows, n).astype(np.float64)


def _deviations(
    rows: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means, deviations in units of the largest of each row, and these units.

    So nothing over- or underflows, and a rounding is small.
    """
    mean = np.array([average(row) for row in rows])
    with np.errstate(over="ignore"):
        deviation = rows - mean[:, None]
    # Two large values of opposite signs may lie further apart than a number can say.
    deviation = np.nan_to_num(deviation)
    scale = np.abs(deviation).max(axis=1)
    return mean, deviation / scale[:, None], scale


def bootstrap_t_intervals(
    rows: Sequence[ArrayLike] | NDArray[np.float64],
    confidence: float = CONFIDENCE,
    resamples: int = 9999,
    least: int = _LEAST_VALUES,
) -> NDArray[np.float64]:
    """Bootstrap-t intervals of means, one per row.

    The quantiles of Student's t give way to those of ``(mean* - mean) / se*`` over resamples
    (Efron & Tibshirani, An Introduction to the Bootstrap, section 12.5; Hesterberg, The American
    Statistician 69, 2015, recommends it for skewed data). Losses are skewed: of ten values from a
    log-normal distribution (sigma 1) Student's t covers in 84%, BCa in less, this in 91%.

    No end is more than three times as far from the mean as Student's: of values in two heaps,
    resamples from one heap alone have hardly a spread, and their ratio says nothing.

    Rows of one length share the draws. The seed is fixed: the same values have the same interval
    (but for the last digit, which the number of rows at once can move). Above 1,000 values a row,
    resamples are fewer: ten million over their number, at least 999.

    Args:
        rows: Independent values of each mean, ``(k, n)`` or rows that differ in length; finite.
        confidence: Between 0 and 1.
        resamples: At most so many.
        least: Of fewer values there is no interval.

    Returns:
        The lower and upper ends, ``(k, 2)``. NaN of too few values; the value twice where all of
        two or more are equal.

    Raises:
        ValueError: If a value is not finite.
    """
    arrays = [_finite(row) for row in rows]
    students = [mean_interval(array, confidence) for array in arrays]
    found = np.full((len(arrays), 2), np.nan)
    by_length: dict[int, list[int]] = {}
    for i, array in enumerate(arrays):
        if students[i].sd == 0:
            found[i] = students[i].mean
        elif array.size >= least:
            by_length.setdefault(array.size, []).append(i)
    for n, members in by_length.items():
        count = min(resamples, max(_LEAST_RESAMPLES, _DRAWS // n))
        ends = _bootstrap_t(np.stack([arrays[i] for i in members]), confidence, count)
        for i, (low, high) in zip(members, ends, strict=True):
            own = students[i]
            farthest = _FARTHEST * (own.high - own.mean)
            found[i] = max(low, own.mean - farthest), min(high, own.mean + farthest)
    return found


def means(rows: Sequence[ArrayLike]) -> list[Mean]:
    """Means with bootstrap-t intervals: see :func:`bootstrap_t_intervals`.

    Raises:
        ValueError: If a value is not finite.
    """
    intervals = bootstrap_t_intervals(rows)
    return [
        replace(mean_interval(row), low=float(low), high=float(high))
        for row, (low, high) in zip(rows, intervals, strict=True)
    ]


def of_shares(mean: Mean, values: NDArray[np.float64]) -> Mean:
    """A mean of shares, such as accuracies, whose interval ends at 0 and 1 at the furthest.

    Args:
        mean: The mean.
        values: What it is of; where one is outside of 0 to 1 these are no shares after all.
    """
    if not len(values) or values.min() < 0 or values.max() > 1:
        return mean
    low, high = np.clip([mean.low, mean.high], 0.0, 1.0)  # NaN where there is no interval
    return replace(mean, low=float(low), high=float(high))


def _bootstrap_t(
    rows: NDArray[np.float64], confidence: float, resamples: int
) -> NDArray[np.float64]:
    n = rows.shape[1]
    mean, deviation, scale = _deviations(rows)
    error = deviation.std(axis=1, ddof=1) / math.sqrt(n)
    ratios = []
    for counts in resampling_counts(n, resamples):
        means = counts @ deviation.T / n
        variances = (counts @ (deviation**2).T / n - means**2) * n / (n - 1)
        # A resample of equal values has no error: its ratio is as far out as can be.
        ratios.append(means / np.sqrt(np.maximum(variances, 1e-30) / n))
    probabilities = [(1 + confidence) / 2, (1 - confidence) / 2]
    ends = np.quantile(np.concatenate(ratios), probabilities, axis=0)
    return np.asarray((mean - scale * error * ends).T)


def proportion_interval(
    successes: int, n: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Wilson's score interval of a proportion (JASA 22, 1927); NaN of none.

    It covers with the stated probability on average and has a width at 0 and at ``n`` too;
    Clopper and Pearson's never covers less and so is wider than it says (Brown, Cai & DasGupta,
    Statistical Science 16, 2001).

    Raises:
        ValueError: Unless ``successes`` is from 0 to ``n``.
    """
    from scipy.stats import binomtest

    if n == 0 == successes:
        return math.nan, math.nan
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def share_interval(
    share: NDArray[np.float64],
    variance: NDArray[np.float64],
    units: int,
    confidence: float = CONFIDENCE,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wilson's interval of shares of things that come in clusters, as the targets of a seed do.

    The number of things gives way to the one of independent things with the same variance, and
    the normal quantile to Student's with one degree of freedom less than there are clusters (Dean
    & Pagano, Journal of Survey Statistics and Methodology 3, 2015). It has a width at 0 and 1 too,
    where resampling clusters has none.

    Args:
        share: Any shape.
        variance: Of each share, from how the clusters differ; 0 where they do not.
        units: Number of clusters.
        confidence: Of each by itself.

    Returns:
        Lower and upper ends; NaN of fewer than two clusters.
    """
    if units < 2:
        return np.full_like(share, np.nan), np.full_like(share, np.nan)
    spread = share * (1 - share)
    n = np.full_like(share, float(units))
    np.divide(spread, variance, out=n, where=(variance > 0) & (spread > 0))
    square = t_quantile(units - 1, (1 + confidence) / 2) ** 2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = np.sqrt(square) / (1 + square / n) * np.sqrt(spread / n + square / (4 * n * n))
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


@dataclass(frozen=True)
class Tail:
    """The place of one published value among values of our own.

    Attributes:
        below: How many of ours are below it, further than its rounding explains.
        equal: How many are equal to it within its rounding.
        above: How many are above it.
        percentile: Its mid-rank among ours, from 0 to 100; NaN if there are none.
        p: Two-sided probability of so extreme a place; NaN if there are none.
    """

    below: int
    equal: int
    above: int
    percentile: float
    p: float

    @property
    def n(self) -> int:
        """Number of our values."""
        return self.below + self.equal + self.above


def tail_probability(values: ArrayLike, claimed: float, half_width: float = 0.0) -> Tail:
    """Test if a published value could be one more of ours.

    If it could, all ``n + 1`` values are exchangeable, and each place in their order is as
    likely: that at most ``k`` of ours are at or below it has probability at most
    ``(k + 1) / (n + 1)``, and likewise above. Hence
    ``p = 2 min(below + equal + 1, above + equal + 1) / (n + 1)``, at most 1, as in a Monte-Carlo
    test (Davison & Hinkley, Bootstrap Methods and their Application, section 4.2). Nothing is
    assumed of the distribution. Without ties p is exact (each of its values has just its
    probability, or less by what doubling costs at an odd ``n + 1``); with ties it is never too
    small, wherever within its rounding the value was: the equal ones count on both sides.
    Counting half of them would halve p where many are equal, and call too often.

    The least p there can be is ``2 / (n + 1)``: 39 values are needed for 0.05.

    Args:
        values: Ours, any shape; infinite for failures, which are then above.
        claimed: The published value.
        half_width: Half of the last printed digit's unit. Ours within it are equal.

    Raises:
        ValueError: If a value is NaN, or the claimed one or the half-width not finite.
    """
    array = numbers(values)
    if not (math.isfinite(claimed) and math.isfinite(half_width) and half_width >= 0):
        raise ValueError("a claimed value and its rounding must be finite")
    # A value at the very edge rounds to either side; binary fractions must not decide that.
    reach = half_width and half_width + 1e-12 * (abs(claimed) + half_width)
    below, above = int((array < claimed - reach).sum()), int((array > claimed + reach).sum())
    n = array.size
    equal = n - below - above
    if n == 0:
        return Tail(0, 0, 0, math.nan, math.nan)
    p = min(1.0, 2 * (min(below, above) + equal + 1) / (n + 1))
    return Tail(below, equal, above, 100 * (below + equal / 2) / n, p)


def gap(losses: ArrayLike, optimum: float) -> NDArray[np.float64]:
    """Losses minus the optimum; 0 where rounding alone took them below it."""
    losses = np.asarray(losses, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.asarray(losses - optimum, dtype=np.float64)
        rounding = ROUNDING["float32"] * np.maximum(np.abs(losses), abs(optimum))
    return np.where((found < 0) & (found >= -rounding), 0.0, found)


def waiting(wall: ArrayLike, cpu: ArrayLike) -> float:
    """The share of some wall time in which no processor worked for us; at least 0.

    Args:
        wall: Wall seconds.
        cpu: Processor seconds of the same stretches, by one thread.

    Raises:
        ValueError: If a value is not finite.
    """
    return max(0.0, 1 - float(_finite(cpu).sum()) / float(_finite(wall).sum()))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(array).all():
        raise ValueError("a statistic was asked for values that are not finite")
    return array


def numbers(values: ArrayLike) -> NDArray[np.float64]:
    """Values in one row, which may be infinite.

    Raises:
        ValueError: If a value is NaN.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    if np.isnan(array).any():
        raise ValueError("a statistic was asked for values that are not numbers")
    return array
