"""Tests and estimates by ranks, as pure functions on arrays. Knows nothing of optimizers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.analysis.stats import CONFIDENCE, numbers

# The null distribution is enumerated up to here. Counts of up to 2**50 are exact in a double.
_EXACT = 50
# Of more values, averages of two are found by bisection: there are too many to list.
_DIRECT = 2_000


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

    array = numbers(differences)
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
    array = numbers(differences)
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
    values = np.where(np.less(wanted, of_below), -math.inf, math.inf)
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
    """Count averages of two values, whose halves are given, that are at most a value."""
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


def iman_davenport(losses: ArrayLike) -> tuple[float, float]:
    """Friedman's test with the F distribution, as less conservative than the chi-squared one.

    ``F = (N - 1) chi2 / (N (k - 1) - chi2)`` with ``k - 1`` and ``(k - 1)(N - 1)`` degrees of
    freedom (Iman & Davenport, Communications in Statistics A9, 1980; Demšar, Journal of Machine
    Learning Research 7, 2006, section 3.2.2).

    Args:
        losses: ``(cases, blocks)``, as for :func:`friedman`.

    Returns:
        The statistic and its p-value; NaN where Friedman's has none.

    Raises:
        ValueError: If a loss is NaN.
    """
    from scipy.special import fdtrc

    cases, blocks = _table(losses).shape
    chi_squared, _ = friedman(losses)
    if math.isnan(chi_squared):
        return math.nan, math.nan
    left = blocks * (cases - 1) - chi_squared
    if left <= 1e-9 * blocks * (cases - 1):
        return math.inf, 0.0
    statistic = (blocks - 1) * chi_squared / left
    return statistic, float(fdtrc(cases - 1, (cases - 1) * (blocks - 1), statistic))


def critical_difference(cases: int, blocks: int, confidence: float = CONFIDENCE) -> float:
    """The difference of two mean ranks from which they differ by Nemenyi's test.

    ``q sqrt(k (k + 1) / (6 N))``, q the quantile of the studentized range of k values with
    infinitely many degrees of freedom over the square root of 2 (Nemenyi, 1963; Demšar, Journal
    of Machine Learning Research 7, 2006, section 3.2.2). It holds for all pairs together.

    Args:
        cases: How many are ranked, k.
        blocks: On how many objectives, N.
        confidence: Between 0 and 1.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(confidence, cases, math.inf)) / math.sqrt(2)
    return q * math.sqrt(cases * (cases + 1) / (6 * blocks))


def _table(losses: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(losses, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"losses must be (cases, seeds), not of shape {table.shape}")
    if np.isnan(table).any():
        raise ValueError("a loss is not a number")
    return table
