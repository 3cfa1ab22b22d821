"""Statistics as pure functions on arrays. Knows nothing of optimizers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
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
# The null distribution is enumerated up to here. Counts of up to 2**50 are exact in a double.
_EXACT = 50
# Of more values, averages of two are found by bisection: there are too many to list.
_DIRECT = 2_000
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
    """How often each of ``n`` values is drawn in each bootstrap resample; always the same.

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


@dataclass(frozen=True)
class SignedRank:
    """A two-sided signed-rank test of paired differences.

    Attributes:
        p: Probability, were the differences symmetric about 0, of ranks as lopsided or more.
        effect: Matched-pairs rank-biserial correlation, from -1 (all negative) to 1.
        n: Number of differences, zeros included.
        zeros: How many of them are 0.
    """

    p: float
    effect: float
    n: int
    zeros: int


def signed_rank(differences: ArrayLike) -> SignedRank:
    """Wilcoxon's signed-rank test (Biometrics Bulletin 1, 1945), two-sided.

    An infinite difference says that one of a pair failed. It is larger than all finite ones and
    tied with the other infinite ones: only ranks matter. Where both of a pair failed, the
    difference is the caller's to state (0: neither is better).

    Zeros are ranked and then left out (Pratt, JASA 54, 1959). Left out before ranking, they
    would lend weight to the small differences, and a shift of all differences in one direction
    can then make the evidence for that direction weaker.

    The p-value is exact, given the ranks that occur, up to 50 differences that are not 0: the
    sums of all ``2**n`` patterns of signs are counted. So it is with ties too, which failures
    bring and for which tables of the distribution don't hold. Beyond 50 it is scipy's normal
    approximation, corrected for ties and zeros. The effect is ``(W+ - W-) / (W+ + W-)``, W+
    the sum of the ranks of positive differences (Kerby, Comprehensive Psychology 3, 2014).

    Raises:
        ValueError: If a difference is NaN.
    """
    from scipy.stats import rankdata, wilcoxon

    array = _numbers(differences)
    n, zeros = array.size, int((array == 0).sum())
    if n == zeros:
        return SignedRank(1.0, 0.0, n, zeros)
    ranks = rankdata(np.abs(array))
    positive = float(ranks[array > 0].sum())
    negative = float(ranks[array < 0].sum())
    effect = (positive - negative) / (positive + negative)
    if n - zeros <= _EXACT:
        p = _signed_rank_p(ranks[array != 0], min(positive, negative))
    else:
        # Ranks stand in for the magnitudes, some of which may be infinite.
        p = float(wilcoxon(np.sign(array) * ranks, zero_method="pratt").pvalue)
    return SignedRank(p, effect, n, zeros)


def _signed_rank_p(ranks: NDArray[np.float64], smaller: float) -> float:
    """Twice the share of sign patterns whose ranks of one sign sum to at most ``smaller``."""
    # Ranks of ties are whole or half numbers.
    shares = _rank_sums(np.rint(2 * ranks).astype(np.int64))
    return min(1.0, 2 * float(shares[: round(2 * smaller) + 1].sum()))


def _rank_sums(ranks: Iterable[int]) -> NDArray[np.float64]:
    """The share of sign patterns for each sum of the positive ranks, from 0 on."""
    patterns = np.ones(1)
    for rank in ranks:
        patterns = np.pad(patterns, (0, rank)) + np.pad(patterns, (rank, 0))
    return np.asarray(patterns / patterns.sum())


@dataclass(frozen=True)
class Shift:
    """By how much paired differences lie off 0.

    Attributes:
        estimate: The Hodges-Lehmann estimate; infinite where failures decide it, NaN where as
            many failures pull either way or there is no difference.
        low: Lower end of its interval; NaN where so few differences allow none.
        high: Upper end.
    """

    estimate: float
    low: float
    high: float


def hodges_lehmann(differences: ArrayLike, confidence: float = CONFIDENCE) -> Shift:
    """The shift that belongs to :func:`signed_rank`, with the interval that inverts the test.

    The estimate is the median of all ``n (n + 1) / 2`` averages of two differences, each with
    itself included (Hodges & Lehmann, Annals of Mathematical Statistics 34, 1963). The ends are
    those of these averages at which the test, of the differences less that value, changes its
    mind (Hollander & Wolfe, Nonparametric Statistical Methods, section 3.3): exact up to 50
    differences and normal beyond, as in the test. So it does not lie about 0 where the test
    rejects 0. Ties among the differences can make the two disagree about 0 by a hair; then the
    test decides, and the end is moved to 0.

    An infinite difference, of a failure, averages to itself; two of opposite signs tie.

    Args:
        differences: Any shape; infinite where one of a pair failed.
        confidence: Between 0 and 1.

    Raises:
        ValueError: If a difference is NaN.
    """
    array = _numbers(differences)
    n = array.size
    if n == 0:
        return Shift(math.nan, math.nan, math.nan)
    above, below = int((array == math.inf).sum()), int((array == -math.inf).sum())
    finite = np.sort(array[np.isfinite(array)])
    of_below = below * finite.size + below * (below + 1) // 2
    of_finite = finite.size * (finite.size + 1) // 2
    count = n * (n + 1) // 2 - above * below
    # Averages of opposite infinities lie half below and half above any value.
    rank = _critical_rank(n, confidence) - math.ceil(above * below / 2)
    wanted = [(count - 1) // 2, count // 2]
    wanted += [rank - 1, count - rank] if rank > 0 else []
    values = np.full(len(wanted), math.inf)
    for i, place in enumerate(wanted):
        if place < of_below:
            values[i] = -math.inf
    inside = [i for i, place in enumerate(wanted) if 0 <= place - of_below < of_finite]
    values[inside] = _averages(finite, [wanted[i] - of_below for i in inside])
    with np.errstate(invalid="ignore"):
        estimate = float(values[0] / 2 + values[1] / 2)
    if rank <= 0:
        return Shift(estimate, math.nan, math.nan)
    low, high = float(values[2]), float(values[3])
    test = signed_rank(array)
    if test.p > 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    elif test.effect > 0:
        low = max(low, 0.0)
    else:
        high = min(high, 0.0)
    return Shift(estimate, low, high)


def _critical_rank(n: int, confidence: float) -> int:
    """One more than the largest sum of ranks at which the signed-rank test rejects; 0 of none."""
    tail = (1 - confidence) / 2
    if n > _EXACT:
        from scipy.special import ndtri

        error = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return math.floor(n * (n + 1) / 4 + float(ndtri(tail)) * error) + 1
    # A whisker of room: the tail as a binary fraction may fall short of itself.
    return int((_rank_sums(range(1, n + 1)).cumsum() <= tail * (1 + 1e-12)).sum())


def _averages(ascending: NDArray[np.float64], places: Sequence[int]) -> NDArray[np.float64]:
    """The averages of two of some values, or of one with itself, at some places of their order."""
    halves = ascending / 2  # a sum of two large ones would overflow
    found = []
    if len(halves) <= _DIRECT:
        if not places:
            return np.empty(0)
        averages = np.concatenate([own + halves[i:] for i, own in enumerate(halves)])
        return np.asarray(np.partition(averages, places)[list(places)])
    for place in places:
        low, high = float(ascending[0]), float(ascending[-1])
        while high > low:
            middle = low / 2 + high / 2
            if not low < middle < high:
                break
            if _averages_up_to(halves, middle) > place:
                high = middle
            else:
                low = middle
        found.append(high)
    return np.array(found)


def _averages_up_to(halves: NDArray[np.float64], value: float) -> int:
    """How many averages of two values, whose halves are given, are at most a value."""
    ordered = int(np.searchsorted(halves, value - halves, side="right").sum())
    own = int(np.searchsorted(halves, value / 2, side="right"))
    return (ordered + own) // 2


def holm(p_values: ArrayLike, family: int | None = None) -> NDArray[np.float64]:
    """Holm's adjusted p-values (Scandinavian Journal of Statistics 6, 1979), in the same order.

    The smallest of ``m`` is multiplied by ``m``, the next by ``m - 1`` and so on; none is below
    the one before it, nor above 1. Calling a difference where the adjusted value is at most
    alpha errs anywhere in the family with probability at most alpha, however the tests depend
    on each other.

    Args:
        p_values: ``(n,)``, each from 0 to 1.
        family: Number of hypotheses, if these are only its smallest p-values.

    Raises:
        ValueError: If a value is no probability, or the family is smaller than its part.
    """
    p = np.asarray(p_values, dtype=np.float64).ravel()
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("a p-value is not between 0 and 1")
    size = p.size if family is None else family
    if size < p.size:
        raise ValueError(f"a family of {size} cannot have {p.size} p-values")
    order = np.argsort(p, kind="stable")
    raised = np.minimum(1, p[order] * (size - np.arange(p.size)))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(raised)
    return adjusted


def mean_ranks(losses: ArrayLike) -> NDArray[np.float64]:
    """Mid-ranks of the cases within each seed: 1 is the lowest loss, ties share their mean.

    Args:
        losses: ``(cases, seeds)``; infinite for a trial that didn't end well, which makes the
            failures of a seed tie for last.

    Returns:
        ``(cases, seeds)``. A case's mean rank is the mean of its row.

    Raises:
        ValueError: If a loss is NaN.
    """
    from scipy.stats import rankdata

    table = _table(losses)
    return np.asarray(rankdata(table, axis=0), dtype=np.float64)


def friedman(losses: ArrayLike) -> tuple[float, float]:
    """Friedman's test that all cases rank alike over the seeds (JASA 32, 1937).

    Args:
        losses: ``(cases, seeds)``, as for :func:`mean_ranks`.

    Returns:
        The statistic, corrected for ties, and its p-value by the chi-squared distribution; NaN
        of fewer than three cases or two seeds, and where all cases tie in every seed.

    Raises:
        ValueError: If a loss is NaN.
    """
    from scipy.stats import friedmanchisquare

    table = _table(losses)
    cases, seeds = table.shape
    if cases < 3 or seeds < 2 or (table == table[:1]).all():
        return math.nan, math.nan
    found = friedmanchisquare(*mean_ranks(table))
    return float(found.statistic), float(found.pvalue)


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
    """Where one published value falls among values of our own.

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
    """Whether a published value could be one more of ours.

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
    array = _numbers(values)
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


def _numbers(values: ArrayLike) -> NDArray[np.float64]:
    """Values that may be infinite."""
    array = np.asarray(values, dtype=np.float64).ravel()
    if np.isnan(array).any():
        raise ValueError("a statistic was asked for values that are not numbers")
    return array


def _table(losses: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(losses, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"losses must be (cases, seeds), not of shape {table.shape}")
    if np.isnan(table).any():
        raise ValueError("a loss is not a number")
    return table
