"""Trials that stopped early, by a rule of the spec: how many, when, and at which rule."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.formatting import exactly, plural, seed_ranges
from harness.reporting.tables.model import Column, Table, case_columns, table_of
from harness.results import STOPPED
from harness.store.read import CaseData, Results

CARRIED = "A trial that stopped early counts with the value at which it stopped."


def early(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that a rule of the spec ended; all of them are ok."""
    return trials[(trials["status"] == "ok") & trials["reason"].str.startswith(STOPPED)]


class _Stopped(NamedTuple):
    case: CaseData
    reason: str
    trials: pd.DataFrame
    ran: int
    steps: int
    per_epoch: int

    @property
    def share(self) -> str:
        """How many they are of those that ran."""
        return f"{len(self.trials)} of {self.ran}"

    @property
    def median(self) -> float:
        """The median step at which they stopped."""
        return float(np.median(self.trials["step"]))

    @property
    def span(self) -> str:
        """The first and the last step at which one stopped."""
        ends = (int(self.trials["step"].min()), int(self.trials["step"].max()))
        return " to ".join(f"{step:,}" for step in dict.fromkeys(ends))


_EPOCH: Column[_Stopped] = Column(
    "", "median epoch", lambda r: r.median / r.per_epoch, lambda value: f"{value:.4g}"
)

_STOPPED: tuple[Column[_Stopped], ...] = (
    *case_columns(lambda r: r.case),
    Column(
        "trials", "trials", lambda r: len(r.trials), text=lambda r: f"{len(r.trials)} of {r.ran}"
    ),
    Column("median_step", "median step", lambda r: r.median, exactly),
    _EPOCH,
    Column("first_step", "", lambda r: int(r.trials["step"].min())),
    Column("last_step", "", lambda r: int(r.trials["step"].max())),
    Column("", "step", text=lambda r: r.span),
    Column("steps", "of steps", lambda r: r.steps, "{:,}".format),
    Column("reason", "reason", lambda r: r.reason),
    Column("seeds", "seeds", lambda r: seed_ranges(r.trials["seed"])),
)


def stopped(results: Results) -> Table | None:
    """Trials that ended before their last step by a rule of the spec, those of a case together."""
    rows = []
    by_position = {case.position: case for case in results.cases}
    ran = results.trials[results.trials["status"] != "unavailable"]["position"].value_counts()
    for (position, reason), own in early(results.trials).groupby(
        ["position", "reason"], sort=False
    ):
        case = by_position[int(str(position))]
        info = results.objectives[case.objective]
        text = str(reason).removeprefix(STOPPED)
        count = int(ran[case.position])
        rows.append(_Stopped(case, text, own, count, info.steps, info.steps_per_epoch))
    note = (
        "Trials that ended before their last step by the rule for stopping in the spec, which "
        "looks at recorded values; all of them are ok. Of steps: those that a trial takes without "
        f"it. {CARRIED} Curves end where the last trial of a case ended."
    )
    with_epochs = any(row.per_epoch > 1 for row in rows)
    columns = [column for column in _STOPPED if with_epochs or column is not _EPOCH]
    return table_of("stopped", "Trials stopped early", columns, rows, note)


def sentence(results: Results, objective: str) -> str:
    """The number of an objective's trials that stopped early, and why; empty where none did."""
    trials = results.trials[results.trials["objective"] == objective]
    found, ran = early(trials), int((trials["status"] != "unavailable").sum())
    if found.empty:
        return ""
    reasons = found["reason"].str.removeprefix(STOPPED).value_counts()
    why = "; ".join(f"{reason} ({count:,})" if len(reasons) > 1 else str(reason)
                    for reason, count in reasons.items())  # fmt: skip
    median, steps = np.median(found["step"]), results.objectives[objective].steps
    return (
        f"{len(found):,} of {plural(ran, 'trial')} on {objective} stopped early ({why}), at "
        f"a median of {exactly(float(median))} of {steps:,} steps; each counts with the value at "
        "which it stopped."
    )
