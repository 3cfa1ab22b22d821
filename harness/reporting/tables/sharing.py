"""The table of the ways in which trials were computed: side by side or alone, and why."""

from __future__ import annotations

import math
from typing import NamedTuple

from harness.formatting import DASH, digits, or_dash
from harness.reporting.tables.model import Column, Table, case_columns, table_of
from harness.store.read import CaseData, Results

WAYS = {
    "pointwise": "side by side, op by op",
    "vmapped": "side by side, lane by lane",
    "own_optimizers": "side by side, own optimizers",
    "alone": "alone",
    "vmap": "side by side",  # of an older version
}
"""The words for the ways in which trials are computed."""


class _Way(NamedTuple):
    case: CaseData
    way: str
    reason: str
    trials: int
    differences: list[float]


_SHARING: tuple[Column[_Way], ...] = (
    *case_columns(lambda r: r.case),
    Column("way", "computed", lambda r: r.way, lambda way: WAYS[way]),
    Column("trials", "trials", lambda r: r.trials, "{:,}".format),
    Column("also_alone", "also run alone", lambda r: len(r.differences), lambda n: str(n or DASH)),
    Column(
        "largest_difference",
        "largest difference",
        lambda r: max(r.differences, default=math.nan),
        digits(2),
    ),
    Column("reason", "reason", lambda r: r.reason, or_dash),
)


def sharing(results: Results) -> Table | None:
    """Ways in which trials ran, the reasons, and differences from the same trials run alone."""
    rows = []
    keys = ["objective", "optimizer", "setting", "device", "way"]
    compared = {key: own["difference"] for key, own in results.comparisons.groupby(keys)}
    for case in results.cases:
        trials = results.trials_by_position.get(case.position, results.trials[:0])
        ways = trials[trials["way"] != ""].groupby(["way", "way_reason"], sort=False)
        for (way, reason), group in ways:
            known = compared.get((case.objective, case.optimizer, case.setting, case.device, way))
            differences = [] if known is None else known.tolist()
            rows.append(_Way(case, str(way), str(reason), len(group), differences))
    note = (
        "Side by side, op by op: trials share tensors, and every operator of every step was "
        "checked to be elementwise over trials. Side by side, lane by lane: the optimizer's own "
        "code ran inside vmap. Side by side, own optimizers: each trial had an optimizer object of "
        "its own, and shared the evaluation of loss and gradients. Alone: one trial at a time. The "
        "reason tells why a faster way was not possible. One trial of each vectorised run was also "
        "run alone; the difference is the largest of a recorded loss, relative to its size."
    )
    return table_of("sharing", "Vectorised and single runs", _SHARING, rows, note)
