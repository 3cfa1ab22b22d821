"""Recorded values of stored trials, and the parameters that are kept of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from harness.measures import TRAIN_LOSS, Measure
from harness.store.database import Store
from harness.store.records import StoredTrial
from harness.store.rows import from_blob, parameter

_RECORDED = (
    "SELECT case_id, seed, ? AS measure, losses AS recorded FROM curves "
    "UNION ALL SELECT case_id, seed, measure, recorded FROM measures"
)
"""What was recorded of trials, by measure."""


def endings(
    store: Store, measures: Mapping[str, Measure], seeds: Iterable[int]
) -> dict[str, list[StoredTrial]]:
    """By case key, how the trials of some seeds ended, in the order of the seeds.

    Args:
        store: Where the trials are.
        measures: By case key, what is to be told of its trials.
        seeds: Which of them.
    """
    found: dict[str, list[StoredTrial]] = {key: [] for key in measures}
    wanted = set(seeds)
    rows = store.db.execute(
        "SELECT key, measure, trials.seed, status, reason, step, recorded FROM trials "
        f"JOIN cases ON cases.id = trials.case_id LEFT JOIN ({_RECORDED}) AS recorded "
        "ON recorded.case_id = trials.case_id AND recorded.seed = trials.seed "
        "ORDER BY trials.seed",
        (TRAIN_LOSS.name,),
    )
    for key, measure, seed, status, reason, step, values in rows:
        asked = measures.get(key)
        if asked is not None and seed in wanted and measure in (None, asked.name):
            trial = StoredTrial(seed, status, reason, step, from_blob(values or b""))
            found[key].append(trial)
    return found


def parameters(store: Store, case_key: str, seed: int) -> dict[str, NDArray[Any]]:
    """The parameters of a trial after its last step, by name; none where none are kept."""
    rows = store.db.execute(
        "SELECT name, parameters.dtype, shape, numbers FROM parameters "
        "JOIN cases ON cases.id = case_id WHERE key = ? AND seed = ? ORDER BY place",
        (case_key, seed),
    )
    return {name: parameter(*kept) for name, *kept in rows}
