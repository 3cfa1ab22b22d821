"""Seconds of the timing pass, at the recorded steps of trials: evaluations times what one takes.

A step may evaluate loss and gradients many times (LBFGS), and early steps more often than late
ones, so that steps times the seconds of a step would say little of the way to a target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.analysis import stats
from harness.measures import TRAIN_LOSS, Measure
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
    taken = block_seconds(results, case)
    return stats.spread(taken).median if len(taken) else math.nan


def block_seconds(results: Results, case: CaseData) -> Array:
    """The time of an evaluation in each timed block; none where that is not known of all."""
    blocks = results.timings[results.timings["position"] == case.position]
    if blocks.empty:
        return np.empty(0)
    count = blocks["steps"] if case.evaluations is None else blocks["evaluations"]
    taken = (blocks["seconds"] / count).to_numpy(dtype=np.float64)
    return taken if np.isfinite(taken).all() else np.empty(0)


def pareto_front(
    times: Sequence[float], values: Sequence[float], measure: Measure = TRAIN_LOSS
) -> list[int]:
    """Indices of the points that no other beats in time and value both, by time.

    One is beaten by another that is no slower and no worse, and better in one of the two.

    Args:
        times: Of each point; one that is not finite is on no front.
        values: Of each point, likewise.
        measure: What the values are of, and so whether lower is better or higher.
    """
    costs = [measure.sign * value for value in values]
    front: list[int] = []
    for i in sorted(range(len(times)), key=lambda i: (times[i], costs[i])):
        known = math.isfinite(times[i]) and math.isfinite(costs[i])
        last = (times[front[-1]], costs[front[-1]]) if front else (math.nan, math.inf)
        if known and (costs[i] < last[1] or (times[i], costs[i]) == last):
            front.append(i)
    return front
