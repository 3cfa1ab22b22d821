"""Ties: differences of costs too small to be any, and trials that are copies of one run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.analysis import stats
from harness.measures import TRAIN_LOSS, Measure
from harness.store.read import CaseData, final_values

Array = NDArray[np.float64]


def differences(one: Array, other: Array, floors: Array, rounding: float = 0.0) -> Array:
    """One less the other; 0 where they are tied, infinite where one of them failed.

    Tied are two that failed, and two whose difference is at most the floor and the rounding of
    the larger.

    Args:
        one: Costs by seed; infinite where a trial failed.
        other: The same of the other.
        floors: By seed, or the same for all.
        rounding: As a share.
    """
    failed = np.isinf(one) & np.isinf(other)
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.where(failed, 0.0, one - other)
    both = np.isfinite(one) & np.isfinite(other)
    # Two finite losses near the largest number may differ by more than that.
    found[both] = np.nan_to_num(found[both])
    size = np.where(both, np.maximum(np.abs(one), np.abs(other)), 0.0)
    return np.where(np.abs(found) <= floors + rounding * size, 0.0, found)


def floors(
    cases: Sequence[CaseData],
    seeds: NDArray[np.int64],
    smallest: float = 0.0,
    measure: Measure = TRAIN_LOSS,
) -> Array:
    """By seed, the difference of costs below which two are tied.

    What is below the rounding of the loss at the start is no loss to speak of: so the check has
    it too. That is the start's loss times the spacing of numbers about 1. Of other metrics the
    start says nothing: an accuracy is a count, and equal counts are equal.

    Args:
        cases: What is compared.
        seeds: Their seeds.
        smallest: The smallest difference that matters.
        measure: What is compared.
    """
    found = np.zeros(len(seeds))
    for case in cases if measure.metric == "loss" else ():
        if not case.losses.shape[1]:
            continue
        at = np.searchsorted(case.seeds, seeds)
        known = np.isin(seeds, case.seeds)
        starts = np.abs(case.losses[at[known], 0])
        own = np.where(np.isfinite(starts), starts, 0.0) * stats.EPSILON[case.dtype]
        found[known] = np.maximum(found[known], own)
    return found + smallest


def same_course(case: CaseData, seeds: NDArray[np.int64], tolerance: float) -> bool:
    """Test whether some seeds of a case end at one loss on train, but for rounding.

    Args:
        case: The case.
        seeds: Which of its seeds; those without a curve are left out.
        tolerance: The largest difference, as a share, that rounding may make.
    """
    ends = final_values(case.recorded(TRAIN_LOSS))[np.isin(case.seeds, seeds)]
    ends = ends[np.isfinite(ends)]
    return not len(ends) or bool(np.ptp(ends) <= tolerance * np.abs(ends).max())
