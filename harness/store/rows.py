"""Rows of the store's tables, and arrays as the blobs that they keep: little-endian float64."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.results import Timing, TrialResult


def blob_or_null(values: NDArray[np.float64] | NDArray[np.int64] | None) -> bytes | None:
    """An array as the store keeps it, where there is one."""
    return None if values is None else to_blob(values)


def to_blob(values: NDArray[np.float64] | NDArray[np.int64]) -> bytes:
    """An array as the store keeps it."""
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def from_blob(blob: bytes) -> NDArray[np.float64]:
    """An array as it was kept, flat."""
    return np.frombuffer(blob, dtype="<f8").astype(np.float64)


def trial_row(
    case_id: int, result: TrialResult, machine: str, ways: Mapping[tuple[str, str], int]
) -> tuple[Any, ...]:
    """A trial's row, but for its arrays."""
    return (
        case_id,
        result.seed,
        result.status,
        result.step,
        result.reason,
        float(result.losses[-1]) if result.status == "ok" else None,
        result.seconds,
        machine,
        result.evaluations,
        ways.get((str(result.way), result.way_reason)),
    )


def timing_values(timing: Timing) -> tuple[Any, ...]:
    """The measured part of a timed case's row."""
    counts = timing.counts
    return (
        timing.steps,
        timing.steps_per_epoch,
        to_blob(timing.seconds),
        to_blob(timing.cpu_seconds),
        counts and counts.operators,
        counts and counts.calls,
        counts and counts.steps,
        counts and counts.state_bytes,
        timing.peak_bytes,
        blob_or_null(timing.evaluations),
    )


def measure_rows(case_id: int, result: TrialResult) -> list[tuple[Any, ...]]:
    """A trial's rows of what was recorded beside the loss on train."""
    return [
        (case_id, result.seed, name, to_blob(values)) for name, values in result.measures.items()
    ]


def parameter_rows(case_id: int, result: TrialResult) -> list[tuple[Any, ...]]:
    """A trial's rows of its parameters, where they are kept."""
    rows = []
    for place, (name, values) in enumerate((result.parameters or {}).items()):
        numbers = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        kind, shape = numbers.dtype.str, json.dumps(values.shape)
        rows.append((case_id, result.seed, place, name, kind, shape, numbers.tobytes()))
    return rows


def parameter(dtype: str, shape: str, numbers: bytes) -> NDArray[Any]:
    """A parameter as it was kept."""
    return np.frombuffer(numbers, dtype=np.dtype(dtype)).reshape(json.loads(shape)).copy()
