"""Running times to targets and profiles of solvers, as pure functions on arrays.

A cost is what a run used until it reached a target (steps, seconds); infinite if it missed.

- Expected running time and runtime distributions: Hansen, Auger, Ros, Mersmann, Tušar & Brockhoff,
  COCO: a platform for comparing continuous optimizers in a black-box setting, Optimization
  Methods and Software 36, 2021.
- Performance profiles: Dolan & Moré, Benchmarking optimization software with performance
  profiles, Mathematical Programming 91, 2002.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.analysis.stats import CONFIDENCE, share_interval


def expected_running_time(costs: ArrayLike, reached: ArrayLike) -> NDArray[np.float64]:
    """The average cost of reaching a target if a run that misses is started anew.

    The costs of all runs over the number of those that reached the target (ERT; Hansen et al.,
    section 5).

    Args:
        costs: ``(..., runs)``, finite: until the target, or all that a run used that missed it.
        reached: Which runs reached it, of the same shape.

    Returns:
        ``(...)``, so a scalar array of one row of runs. Infinite where none reached the target,
        NaN of no runs.

    Raises:
        ValueError: If a cost is negative or not finite, or the shapes differ.
    """
    used, hit = np.asarray(costs, dtype=np.float64), np.asarray(reached, dtype=bool)
    if used.shape != hit.shape:
        raise ValueError(f"costs are {used.shape} and reached is {hit.shape}")
    if not np.isfinite(used).all() or (used < 0).any():
        raise ValueError("a run that missed its target costs what it used: finite, at least 0")
    successes = hit.sum(axis=-1)
    missed = np.nan if used.shape[-1] == 0 else np.inf
    average = used.sum(axis=-1) / np.maximum(1, successes)
    return np.asarray(np.where(successes > 0, average, missed), dtype=np.float64)


def performance_ratios(costs: ArrayLike) -> NDArray[np.float64]:
    """Each solver's cost over the lowest of any solver at the same problem (Dolan & Moré).

    Args:
        costs: ``(..., solvers)``, at least 0; infinite for a miss.

    Returns:
        The same shape: 1 for the best, infinite for a miss, and so for all where all missed.
        Where the best cost is 0, a larger one is infinitely worse.

    Raises:
        ValueError: If a cost is NaN or negative.
    """
    array = _costs(costs)
    best = array.min(axis=-1, keepdims=True)
    ratios = np.full(array.shape, np.inf)
    positive = np.isfinite(array) & (best > 0)
    np.divide(array, best, out=ratios, where=positive)
    ratios[(array == best) & np.isfinite(best)] = 1
    return ratios


@dataclass(frozen=True)
class Band:
    """One solver's profile with a pointwise band.

    Attributes:
        x: Where it was asked for: ratios or budgets.
        share: The share of problems, or of runs, within that.
        low: Lower end of the share's interval; NaN of fewer than two seeds.
        high: Upper end.
    """

    x: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def profile_bands(
    costs: ArrayLike,
    taus: ArrayLike,
    confidence: float = CONFIDENCE,
    families: Sequence[Hashable] | None = None,
) -> tuple[Band, ...]:
    """Performance profiles with bands, one per solver.

    A problem under one seed is an instance of its own: solvers that share a seed share start and
    batches, so each is compared with the best at that seed.

    The band is Wilson's interval for clustered things (see :func:`stats.share_interval`): trials
    of one seed are not independent of each other. It says what other seeds would do or, where the
    families of problems are given, other seeds and other families: their variances add, as they
    do where both are resampled independently (Owen, Annals of Applied Statistics 1, 2007).

    Args:
        costs: ``(problems, seeds, solvers)``, infinite for a miss. An objective and a target
            make a problem.
        taus: In any order.
        confidence: Of each point by itself.
        families: For each problem, what it is drawn with: its objective, or a family of these.

    Raises:
        ValueError: If a cost is NaN or negative, or there are not three axes.
    """
    return _bands(performance_ratios(_problems(costs)), taus, confidence, families)


def runtime_bands(
    costs: ArrayLike,
    budgets: ArrayLike,
    confidence: float = CONFIDENCE,
    families: Sequence[Hashable] | None = None,
) -> tuple[Band, ...]:
    """Runtime distributions with bands: shares of runs that reached a target within a budget.

    See :func:`profile_bands`.
    """
    return _bands(_problems(costs), budgets, confidence, families)


def _bands(
    values: NDArray[np.float64],
    points: ArrayLike,
    confidence: float,
    families: Sequence[Hashable] | None,
) -> tuple[Band, ...]:
    x = np.asarray(points, dtype=np.float64).ravel()
    if np.isnan(x).any():
        raise ValueError("a profile was asked for at a point that is not a number")
    problems, seeds, solvers = values.shape
    if seeds == 0 or problems == 0:
        return tuple(Band(x, *np.full((3, x.size), np.nan)) for _ in range(solvers))
    names = list(families or ())
    groups = [[i for i, own in enumerate(names) if own == name] for name in dict.fromkeys(names)]
    bands = []
    for solver in range(solvers):
        # A share of everything is the mean over seeds of each seed's own share.
        own = _own_shares(values[..., solver], x)
        share = own.mean(axis=0)
        variance = own.var(axis=0, ddof=1) / seeds if seeds > 1 else np.zeros_like(share)
        if len(groups) > 1:
            # Families differ in size: the variance is that of a ratio of two means.
            apart = [
                len(group)
                / problems
                * (_own_shares(values[group, :, solver], x).mean(axis=0) - share)
                for group in groups
            ]
            variance += np.square(apart).sum(axis=0) * len(groups) / (len(groups) - 1)
        units = seeds if families is None else min(seeds, len(groups))
        bands.append(Band(x, share, *share_interval(share, variance, units, confidence)))
    return tuple(bands)


def _own_shares(values: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of each seed's problems within each ``x``: of ``(problems, seeds)``, a row each.

    A miss is within no ``x``, not even an infinite one.
    """
    known = np.where(np.isfinite(values), values, np.nan)
    return np.stack([(known <= point).mean(axis=0) for point in x], axis=1)


def _problems(costs: ArrayLike) -> NDArray[np.float64]:
    array = _costs(costs)
    if array.ndim != 3:
        raise ValueError(f"costs must be (problems, seeds, solvers), not of shape {array.shape}")
    return array


def _costs(costs: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(costs, dtype=np.float64)
    if np.isnan(array).any() or (array < 0).any():
        raise ValueError("a cost is at least 0, and infinite for a miss")
    return array
