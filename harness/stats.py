"""Statistics as pure functions on arrays. Knows nothing of optimizers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95


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
    mean = float(array.mean())
    if n == 1:
        return Mean(mean, math.nan, math.nan, math.nan, 1)
    # Equal values have no spread, whatever the rounding of their mean says.
    if np.ptp(array) == 0:
        return Mean(float(array[0]), 0.0, float(array[0]), float(array[0]), n)
    sd = float(array.std(ddof=1))
    half = t_quantile(n - 1, (1 + confidence) / 2) * sd / math.sqrt(n)
    return Mean(mean, sd, mean - half, mean + half, n)


def t_quantile(degrees: int, probability: float) -> float:
    """Quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


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
