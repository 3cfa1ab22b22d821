"""Every metric on every part of the data, and the gap between train and what training never saw."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis import stats
from harness.formatting import DASH, decimals, interval, number
from harness.measures import PARTS, Measure, Part
from harness.reporting.tables.model import Column, Table, case_columns, table_of
from harness.store.read import CaseData, ObjectiveInfo, Results, final_values

Array = NDArray[np.float64]
NONE = stats.Mean(math.nan, math.nan, math.nan, math.nan, 0)

GAP = "gap"
"""The beginning of the names of the gap's columns."""


@dataclass(frozen=True, eq=False)
class PartValues:
    """The final values of a metric of a case, on all parts.

    Attributes:
        case: The case.
        info: Its objective.
        metric: The metric.
        higher: Whether higher is better.
        seeds: The seeds that ended ok.
        values: By part, of these seeds.
    """

    case: CaseData
    info: ObjectiveInfo
    metric: str
    higher: bool
    seeds: NDArray[np.int64]
    values: Mapping[Part, Array]

    @property
    def held_out(self) -> Part | None:
        """The part that the gap is to: test, or validation where there is no test."""
        return next((part for part in reversed(PARTS[1:]) if part in self.values), None)

    @property
    def gaps(self) -> Array:
        """By seed, how much worse the held-out part is than train; none without such a part."""
        held_out = self.held_out
        if held_out is None:
            return np.empty(0)
        measure = Measure(self.metric, held_out, self.higher)
        return measure.sign * (self.values[held_out] - self.values["train"]) + 0.0

    @property
    def gap_words(self) -> str:
        """The gap in words: ``test loss − train loss``, ``train accuracy − test accuracy``."""
        names = [f"{self.held_out} {self.metric}", f"train {self.metric}"]
        return " − ".join(reversed(names) if self.higher else names)


def part_values(results: Results, case: CaseData) -> Iterator[PartValues]:
    """The final values of each metric of a case, over the seeds that ended ok on every part."""
    info, trials = results.objectives[case.objective], results.trials_by_position
    if case.position not in trials:
        return
    own = trials[case.position]
    ok = np.isin(case.seeds, own.loc[own["status"] == "ok", "seed"].to_numpy())
    for metric, higher in info.metrics:
        finals = {
            part: final_values(case.recorded(Measure(metric, part, higher))) for part in info.parts
        }
        kept = ok & np.isfinite(list(finals.values())).all(axis=0)
        values = {part: ends[kept] for part, ends in finals.items()}
        yield PartValues(case, info, metric, higher, case.seeds[kept], values)


@dataclass(frozen=True, eq=False)
class _Row:
    found: PartValues
    means: Mapping[str, stats.Mean]  # by part, and of the gap

    @property
    def case(self) -> CaseData:
        return self.found.case


def _named(row: _Row) -> str:
    """The metric, with its direction where higher is better."""
    return f"{row.found.metric}{' (higher is better)' * row.found.higher}"


def _text(row: _Row, name: str) -> str:
    """A mean with its interval."""
    mean = row.means.get(name, NONE)
    if not mean.n:
        return DASH
    places = min(decimals(mean.mean, mean.low, mean.high), 6)
    ends = interval(mean.low, mean.high, places)
    own = number(mean.mean, places)
    return own if ends == DASH or not mean.low < mean.high else f"{own} ({ends})"


def _columns(name: str, heading: str) -> list[Column[_Row]]:
    """The columns of a part, or of the gap."""
    return [
        Column(
            name, heading, lambda r: r.means.get(name, NONE).mean, text=lambda r: _text(r, name)
        ),
        Column(f"{name}_ci_low", "", lambda r: r.means.get(name, NONE).low),
        Column(f"{name}_ci_high", "", lambda r: r.means.get(name, NONE).high),
        Column(f"{name}_sd", "", lambda r: r.means.get(name, NONE).sd),
    ]


def metrics(results: Results) -> Table | None:
    """Every metric by part, with intervals, and the generalization gap; best first by metric.

    None where nothing but the loss on train is recorded.
    """
    rows: list[_Row] = []
    for info in results.objectives.values():
        if len(info.measures) > 1:
            rows += _rows_of(results, info)
    found = {part for row in rows for part in row.found.values}
    parts = [part for part in PARTS if part in found]
    columns: list[Column[_Row]] = [
        *case_columns(lambda r: r.case),
        Column("metric", "metric", lambda r: r.found.metric, text=_named),
        Column("better", "", lambda r: "higher" if r.found.higher else "lower"),
    ]
    for part in parts:
        columns += _columns(part, part)
    if len(parts) > 1:
        columns += _columns(GAP, "generalization gap")
    columns.append(Column("n", "n", lambda r: len(r.found.seeds)))
    note = (
        "Mean over the n seeds that ended ok of the last recorded value, over all rows of each "
        "part, with its 95% bootstrap-t interval (four seeds or more). Generalization gap: by how "
        "much the held-out part (test, else validation) is worse than train, seed by seed: its "
        "loss minus that on train; of a metric of which higher is better, train minus held-out."
    )
    return table_of("metrics", "Metrics by part", columns, rows, note)


def _rows_of(results: Results, info: ObjectiveInfo) -> list[_Row]:
    """The rows of an objective: metric by metric, in each the best first by the last part."""
    found = [one for case in results.cases_on(info.name) for one in part_values(results, case)]
    found = [one for one in found if len(one.seeds)]
    rows = []
    for one in found:
        known = {str(part): ends for part, ends in one.values.items()} | {GAP: one.gaps}
        means = dict(zip(known, stats.means(list(known.values())), strict=True))
        if Measure(one.metric).is_share:
            means |= {p: stats.of_shares(means[p], v) for p, v in known.items() if p != GAP}
        rows.append(_Row(one, means))
    places = {metric: i for i, (metric, _) in enumerate(info.metrics)}

    def place(row: _Row) -> tuple[int, str, float, str]:
        last = row.means[row.found.held_out or "train"].mean
        cost = -last if row.found.higher else last
        return places[row.found.metric], row.case.device, cost, row.case.label

    return sorted(rows, key=place)
