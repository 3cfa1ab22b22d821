"""What the figures of results laid side by side show: one row per case and source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis import stats
from harness.analysis.side_by_side import Match, SideBySide
from harness.formatting import significant
from harness.reporting.figures.records import (
    COLORS,
    DASHES,
    DOTS,
    MARKERS,
    ROWS,
    Array,
    DotFigure,
    DotPanel,
    DotRow,
    FigureRecord,
    Style,
    devices_of,
    named,
    safe_name,
    scale,
    unique_name,
    with_dots,
)

LOSS, SPEED = "final_loss", "seconds_per_epoch"
"""How the names of the figures begin."""

UNITS = ((1.0, "seconds"), (1e-3, "milliseconds"), (1e-6, "microseconds"), (1e-9, "nanoseconds"))


@dataclass(frozen=True)
class _Kind:
    """One kind of figure: its words; ``bare`` is the estimate where no row has an interval."""

    name: str
    title: str
    dot: str
    centre: str
    bare: str
    caption: str
    missing: str


_LOSSES = _Kind(
    LOSS,
    "Final loss",
    "one seed",
    "mean, 95% interval",
    "mean",
    "Dot: one seed that ended ok, of those in common (of all, where none is); diamond and bar: "
    "mean with its 95% bootstrap-t interval, where not all seeds end alike.",
    "no seed ended ok",
)
_TIMES = _Kind(
    SPEED,
    "Seconds per epoch",
    "one timed block",
    "median, interquartile range",
    "median",
    "Dot: one timed block of steps, scaled to an epoch; diamond and bar: median and interquartile "
    "range. Each source was timed on its own machine, as it was then: compare the order of the "
    "cases, not their seconds, unless the machine is the same.",
    "not timed",
)


def build(beside: SideBySide) -> list[FigureRecord]:
    """For each objective, the final losses and the times of the cases that are in several."""
    records: list[FigureRecord] = []
    taken: set[str] = set()
    for objective in dict.fromkeys(match.case.objective for match in beside.compared):
        matches = [match for match in beside.compared if match.case.objective == objective]
        for kind in (_LOSSES, _TIMES):
            record = _figure(beside, objective, matches, kind)
            if record is not None:
                name = unique_name(f"{kind.name}_{safe_name(objective)}", taken)
                records.append(replace(record, name=name))
    return records


def source_style(index: int) -> Style:
    """Looks of a source by its place."""
    return Style(
        color=COLORS[index % len(COLORS)],
        marker=MARKERS[index % len(MARKERS)],
        dashes=DASHES[index % len(DASHES)],
        filled=True,
        width=2.0,
    )


def _figure(
    beside: SideBySide, objective: str, matches: Sequence[Match], kind: _Kind
) -> DotFigure | None:
    values = {
        (m, i): _values(beside, match, i, kind)
        for m, match in enumerate(matches)
        for i in match.where
    }
    known = [m for m in range(len(matches)) if any(len(values[m, i]) for i in matches[m].where)]
    if not known:
        return None
    kept = _chosen(beside, matches, known)
    unit, unit_name = 1.0, ""
    if kind is _TIMES:
        most = max(float(np.median(v)) for (m, _), v in values.items() if m in kept and len(v))
        unit, unit_name = next((u for u in UNITS if most >= u[0]), UNITS[-1])
    several = len(devices_of([match.case for match in matches])) > 1
    rows = [
        _row(beside, matches[m], i, values[m, i] / unit, several, kind)
        for m in kept
        for i in matches[m].where
    ]
    ends = [np.array([row.low, row.high]) for row in rows]
    log, limits = scale([row.values for row in rows], ends)
    if kind is _TIMES and not log:
        limits = (0.0, limits[1])
    panel = DotPanel(
        title="",
        x_label=f"time per epoch ({unit_name})" if kind is _TIMES else "loss after the last step",
        log=log,
        limits=limits,
        rows=tuple(rows),
    )
    return DotFigure(
        name=kind.name,
        objective=objective,
        title=f"{kind.title}: {objective}",
        caption=_caption(beside, kind, panel, [len(kept), len(known)], list(values.values())),
        alt=_alt(objective, kind, rows, unit_name),
        panels=(panel,),
        dot_label=kind.dot,
        centre_label=kind.centre if any(row.high > row.low for row in rows) else kind.bare,
    )


def _values(beside: SideBySide, match: Match, index: int, kind: _Kind) -> Array:
    if kind is _LOSSES:
        return np.sort(match.values(index))
    timings = beside.sources[index].results.timings
    own = timings.loc[timings["position"] == match.side(index).case.position, "epoch_seconds"]
    seconds = np.asarray(own, dtype=np.float64)
    return np.sort(seconds[np.isfinite(seconds)])


def _chosen(beside: SideBySide, matches: Sequence[Match], known: Sequence[int]) -> list[int]:
    """The cases that are drawn: those that differ before those that don't, in their order."""
    most = max(1, ROWS // len(beside.sources))
    called = {d.match for d in beside.differences if d.verdict in ("lower", "higher")}
    equal = {d.match for d in beside.differences if d.verdict.startswith("equal")}
    order = sorted(known, key=lambda m: (matches[m] not in called, matches[m] in equal, m))
    return sorted(order[:most])


def _row(
    beside: SideBySide, match: Match, index: int, values: Array, several: bool, kind: _Kind
) -> DotRow:
    if kind is _LOSSES:
        mean = match.side(index).mean
        centre, low, high = mean.mean, mean.low, mean.high
    else:
        spread = stats.spread(values)
        centre, low, high = spread.median, spread.q1, spread.q3
    note = beside.sources[index].name
    if kind is _LOSSES and (trouble := _trouble(match, index)):
        note += f", {trouble}"
    row = DotRow(
        label=named(match.case, several),
        note=note,
        style=source_style(index),
        centre=centre,
        low=low,
        high=high,
        empty=kind.missing if match.side(index).ran else "did not run",
    )
    return with_dots(row, values)


def _trouble(match: Match, index: int) -> str:
    """How many of the trials that are laid side by side ended ok, where not all did."""
    side = match.side(index)
    total = len(match.seeds or side.ran)
    return "" if side.mean.n == total else f"{side.mean.n} of {total} ok"


def _caption(
    beside: SideBySide, kind: _Kind, panel: DotPanel, counts: Sequence[int], values: Sequence[Array]
) -> str:
    text = f"{kind.caption} Below each case: the source, "
    text += " or ".join(source.name for source in beside.sources[:6]) + "."
    text += " Dots are spread up and down only to be told apart."
    if any(len(own) > DOTS for own in values):
        text += f" Of more than {DOTS} dots, {DOTS} are drawn, evenly spaced by rank."
    if panel.log:
        text += " The scale is logarithmic."
    if counts[0] < counts[1]:
        text += (
            f" Shown are {counts[0]} of {counts[1]} cases, those that differ before others; the "
            "table has all."
        )
    return text


def _alt(objective: str, kind: _Kind, rows: Sequence[DotRow], unit: str) -> str:
    parts = [f"{row.label} in {row.note} {significant(row.centre, 3)}" for row in rows[:12]]
    if len(rows) > 12:
        parts.append(f"{len(rows) - 12} more rows")
    what = f"median {unit} per epoch" if kind is _TIMES else "mean final loss"
    return f"{kind.title} on {objective}, side by side. {what[0].upper()}{what[1:]}: " + (
        f"{', '.join(parts)}."
    )
