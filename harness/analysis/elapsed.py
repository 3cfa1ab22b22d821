"""Seconds of the timing pass, at the recorded steps of trials: evaluations times what one takes.

A step may evaluate loss and gradients many times (LBFGS), and early steps more often than late
ones, so that steps times the seconds of a step would say little of the way to a target.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.analysis import stats
from harness.store.read import CaseData, Results

Array = NDArray[np.float64]


def evaluations(case: CaseData, record_steps: NDArray[np.int64]) -> Array:
    """Evaluations of loss and gradients so far, ``(seeds, records)``; NaN if not known."""
    if case.evaluations is not None:
        return case.evaluations
    one_each: Array = np.broadcast_to(
        record_steps.astype(np.float64), (len(case.seeds), len(record_steps))
    )
    return one_each


def evaluation_seconds(results: Results, case: CaseData) -> float:
    """The median time of an evaluation of a case, over the timed blocks.

    The time of all else that a step does is shared among its evaluations. Where each step takes
    one, this is the time of a step; NaN where it is not known.
    """
    blocks = results.timings[results.timings["position"] == case.position]
    if blocks.empty:
        return math.nan
    count = blocks["steps"] if case.evaluations is None else blocks["evaluations"]
    taken = (blocks["seconds"] / count).to_numpy(dtype=np.float64)
    return stats.spread(taken).median if np.isfinite(taken).all() else math.nan
