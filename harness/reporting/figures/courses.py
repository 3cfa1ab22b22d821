"""Courses of trials: what is recorded of those that ended ok, also of those that stopped early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.reporting.figures.records import Array
from harness.store.read import CaseData

CARRIED = "Trials that stopped early keep their last value until the last of their case has ended."
"""What is drawn of a trial that stopped early."""


@dataclass(frozen=True, eq=False)
class Courses:
    """The courses of some trials of a case.

    Attributes:
        rows: Their places among the case's curves.
        values: Recorded values, ``(trials, records)``, up to the record at which the last of them
            ended; a trial that stopped before keeps its last value.
        ends: Of each trial, how many records it has of its own.
    """

    rows: NDArray[np.int64]
    values: Array
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def records(self) -> int:
        """Records until the last of them ended."""
        return int(self.values.shape[1])

    @property
    def stopped(self) -> bool:
        """True where not all ended at the same record."""
        return len(set(self.ends.tolist())) > 1


def courses(
    case: CaseData,
    values: Array,
    seeds: NDArray[np.int64],
    stops: Mapping[int, int],
    record_steps: NDArray[np.int64],
) -> Courses:
    """The courses of those trials that have a finite value at every record until their end.

    Args:
        case: The case.
        values: A measure of it at the recorded steps, ``(seeds, records)``.
        seeds: The seeds of its trials that ended ok.
        stops: By seed, the step at which a trial stopped early.
        record_steps: The recorded steps.
    """
    last = len(record_steps)
    ends = np.array(
        [
            np.searchsorted(record_steps, stops[seed], "right") if seed in stops else last
            for seed in case.seeds.tolist()
        ],
        dtype=np.int64,
    )
    beyond = np.arange(last) >= ends[:, None]
    whole = np.isin(case.seeds, seeds) & (np.isfinite(values) | beyond).all(axis=1) & (ends > 0)
    rows = np.flatnonzero(whole)
    own = ends[rows]
    carried = np.where(beyond[rows], values[rows, own - 1][:, None], values[rows])
    return Courses(rows, carried[:, : int(own.max(initial=0))], own)
