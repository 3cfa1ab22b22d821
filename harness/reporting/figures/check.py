"""Figure records of a check: each cell against its baseline, and its times so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.gate import history as check_history
from harness.gate.history import Change, Series
from harness.gate.report import CellVerdict, GateReport, Outcome
from harness.reporting.figures.records import (
    CURVES,
    ROWS,
    CurveFigure,
    CurvePanel,
    DotPanel,
    DotRow,
    FigureRecord,
    Line,
    Mark,
    RatioFigure,
    alternative,
    curve_figure,
    joined,
    safe_name,
    scale,
    shown_of,
    thinned,
    unique_name,
)
from harness.reporting.figures.styles import COLORS, Look, Style, looks

TIME, HISTORY = "check-time", "check-history"
"""Beginnings of the names of these figures, and of no others."""

PANELS = 12
"""Most panels of a figure of histories; with more, every objective has a figure of its own."""

OUTCOME_STYLES: Mapping[Outcome, Style] = {
    "regressed": Style(COLORS[1], ">", (), filled=True, width=1.0),
    "missing": Style(COLORS[7], "X", (), filled=True, width=1.0),
    "failed": Style(COLORS[7], "X", (), filled=True, width=1.0),
    "inconclusive": Style(COLORS[6], "D", (), filled=False, width=1.0),
    "not comparable": Style(COLORS[9], "s", (), filled=False, width=1.0),
    "better": Style(COLORS[2], "<", (), filled=True, width=1.0),
    "fine": Style(COLORS[0], "o", (), filled=True, width=1.0),
}
"""The mark of each outcome, those first that ask for a look."""

TIME_CAPTION = (
    "Mark: a step's time now as a ratio to its time before, both as ratios to the reference loop; "
    "bar: its 95% interval. Dashed: as before; dotted: the limit. Shape and colour of a mark: the "
    "outcome. Of many cells those are shown that ask for a look, then those that changed most; the "
    "table has all, also those whose times can't be compared."
)
HISTORY_CAPTION = (
    "Line: a step's time as a ratio to the reference loop's, on this machine. Checks are evenly "
    "spaced, whatever time lies between them. Dotted, with an arrow from the old level to the new: "
    "a change point, with the number that it has below. Faint: further cells."
)


def build(
    report: GateReport,
    history: Sequence[Series],
    changes: Sequence[Change],
    known: Mapping[str, Look] | None = None,
) -> list[FigureRecord]:
    """Every figure that a check and the checks before it allow; names are unique.

    Args:
        report: The check.
        history: The times of this machine.
        changes: Where they changed, numbered as in the sentences below the figure.
        known: The looks of optimizers elsewhere on the page.
    """
    records = [*times(report), *histories(history, changes, known)]
    taken: set[str] = set()
    return [replace(record, name=unique_name(record.name, taken)) for record in records]


# Times against the baseline


def times(report: GateReport) -> list[RatioFigure]:
    """Each cell's time as a ratio to what it was: one figure, or one per objective."""
    several = len({cell.device for cell in report.cells}) > 1
    rows: dict[str, list[DotRow]] = {}
    cells: dict[str, int] = {}
    for cell in report.cells:
        cells[cell.objective] = cells.get(cell.objective, 0) + 1
        row = _ratio_row(cell, several=several)
        if row is not None:
            rows.setdefault(cell.objective, []).append(row)
    title = f"Time of a step against {report.against}"
    if sum(map(len, rows.values())) <= ROWS:
        return [_ratio_figure(TIME, title, rows, sum(cells.values()))] if rows else []
    return [
        _ratio_figure(
            f"{TIME}_{safe_name(objective)}",
            f"{title}: {objective}",
            {objective: own},
            cells[objective],
        )
        for objective, own in rows.items()
    ]


def _ratio_row(cell: CellVerdict, *, several: bool) -> DotRow | None:
    """A cell as a row; None where there is no ratio."""
    judgement = cell.of("time")
    if judgement is None or judgement.change is None:
        return None
    ratio = 1 + judgement.change
    if not (math.isfinite(ratio) and ratio > 0):
        return None
    low, high = (
        math.nan if end is None or not (math.isfinite(end) and end > 0) else end
        for end in (judgement.low, judgement.high)
    )
    return DotRow(
        label=f"{cell.label} on {cell.device}" if several else cell.label,
        note="only warns" if judgement.only_warns else "",
        style=OUTCOME_STYLES[judgement.outcome],
        centre=ratio,
        low=low,
        high=high,
        legend=judgement.outcome,
        limit=1 + judgement.limit,
    )


def _ratio_figure(
    name: str, title: str, rows: Mapping[str, Sequence[DotRow]], cells: int
) -> RatioFigure:
    """A panel per objective, all with one scale; of so many cells, compared or not."""
    compared = sum(map(len, rows.values()))
    missing = cells - compared
    shown = {objective: _gravest(own) for objective, own in rows.items()}
    every = [row for own in shown.values() for row in own]
    ends = np.array([(row.centre, row.low, row.high, row.limit) for row in every])
    log, limits = scale([ends.ravel(), np.ones(1)], [])
    panels = [
        DotPanel(
            title=objective if len(rows) > 1 else "",
            x_label="time of a step, now / before (left of 1: faster)",
            log=log,
            limits=limits,
            rows=own,
            reference_line=1.0,
            reference_label="as before",
        )
        for objective, own in shown.items()
    ]
    return RatioFigure(
        name=name,
        objective=None,
        title=title,
        caption=TIME_CAPTION,
        alt=alternative(title, [f"{row.label} ({row.legend})" for row in every]),
        panels=tuple(panels),
        dot_label="",
        centre_label="",
        note=joined(
            [
                shown_of(len(every), compared, "cells with a comparison of times"),
                f"Without a comparison of times: {missing} of {cells} cells." if missing else "",
            ]
        ),
    )


def _gravest(rows: Sequence[DotRow]) -> tuple[DotRow, ...]:
    """At most so many rows as a panel holds, in their order: those that ask for a look first."""
    gravity = list[str](OUTCOME_STYLES)
    ranked = sorted(
        range(len(rows)),
        key=lambda i: (gravity.index(rows[i].legend), -abs(math.log(rows[i].centre))),
    )
    return tuple(rows[i] for i in sorted(ranked[:ROWS]))


# Times over all checks


def latest_history(known: check_history.History) -> FigureRecord | None:
    """The times of the machine that checked last, in one figure; None if there is nothing in it."""
    own = check_history.series(known.entries, known.entries[-1].machine_key)
    changes = check_history.changes(own.values()) if check_history.can_find_changes() else []
    records = histories(list(own.values()), changes, in_one=True)
    return records[0] if records else None


def histories(
    history: Sequence[Series],
    changes: Sequence[Change],
    known: Mapping[str, Look] | None = None,
    *,
    in_one: bool = False,
) -> list[CurveFigure]:
    """Each cell's times over all checks, a panel per objective and device.

    One figure, or one per objective where there are many (unless all must be ``in_one``); none
    of a single check.
    """
    if not any(len(one.ratios) > 1 for one in history):
        return []
    groups: dict[tuple[str, str], list[Series]] = {}
    for one in history:
        groups.setdefault((one.cell.objective, one.cell.device), []).append(one)
    if in_one or len(groups) <= PANELS:
        figures = {"": groups}
    else:
        figures = {name: {} for name, _ in groups}
        for key, group in groups.items():
            figures[key[0]][key] = group
    numbered = list(enumerate(changes, 1))
    styles = _styles(history, known)
    checks = {n: time for one in history for n, time in zip(one.numbers, one.times, strict=True)}
    several = len({device for _, device in groups}) > 1
    return [
        _history_figure(objective, own, numbered, styles, checks, several=several)
        for objective, own in figures.items()
    ]


def _history_figure(
    objective: str,
    groups: Mapping[tuple[str, str], Sequence[Series]],
    changes: Sequence[tuple[int, Change]],
    known: Mapping[tuple[str, str], Style],
    checks: Mapping[int, str],
    *,
    several: bool,
) -> CurveFigure:
    columns = min(2, len(groups))
    panels = []
    for (name, device), group in groups.items():
        title = f"{name} ({device})" if several else name
        panel = _history_panel(group, changes, known, checks, 6 if columns == 1 else 3)
        panels.append(replace(panel, title=title if len(groups) > 1 or objective else ""))
    about = (HISTORY, objective or None, "Time of a step over all checks", HISTORY_CAPTION)
    total = sum(map(len, groups.values()))
    faint = sum(line.faint for panel in panels for line in panel.lines)
    note = f"With a name: {total - faint} of {total} cells." if faint else ""
    return replace(curve_figure(*about, panels, columns, note=note), objective=None)


def _styles(
    history: Sequence[Series], known: Mapping[str, Look] | None
) -> dict[tuple[str, str], Style]:
    """Styles by optimizer and setting, the same in every panel."""
    settings: dict[str, set[str]] = {}
    for one in history:
        settings.setdefault(one.cell.optimizer, set()).add(one.cell.setting)
    known = looks({name: (name, "") for name in settings}) | dict(known or {})
    return {
        (name, setting): style
        for name, own in settings.items()
        for setting, style in known[name].styles(name, own).items()
    }


def _history_panel(
    group: Sequence[Series],
    changes: Sequence[tuple[int, Change]],
    known: Mapping[tuple[str, str], Style],
    checks: Mapping[int, str],
    most_ticks: int,
) -> CurvePanel:
    own = [(i, change) for i, change in changes if any(change.series is one for one in group)]
    changed = {change.series.cell.id for _, change in own}
    ranked = sorted(group, key=lambda one: one.cell.id not in changed)
    full = {one.cell.id for one in ranked[:CURVES]}
    lines = [
        Line(
            label=one.label if one.cell.id in full else "",
            style=known[one.cell.optimizer, one.cell.setting],
            x=np.array(one.numbers, dtype=np.float64),
            y=np.array(one.ratios),
            faint=one.cell.id not in full,
        )
        for one in sorted(group, key=lambda one: one.cell.id in full)
    ]
    log, (low, high) = scale([line.y for line in lines], [])
    if own:
        # Room for the numbers at the top.
        high = high * (high / low) ** 0.1 if log else high + 0.1 * (high - low)
    ticks = [sorted(checks)[i] for i in thinned(len(checks), most_ticks)]
    days = {checks[number][:10] for number in ticks}
    same_day = len(days) == 1
    hours_or_day = slice(11, 16) if same_day else slice(10)
    return CurvePanel(
        x_label=f"check (time of {days.pop()}, UTC)" if same_day else "check (its date, UTC)",
        y_label="time of a step / reference loop",
        log=log,
        limits=(low, high),
        lines=tuple(lines),
        marks=tuple(
            Mark(float(change.number), str(i), change.point.before, change.point.after)
            for i, change in own
        ),
        ticks=tuple((float(number), checks[number][hours_or_day]) for number in ticks),
    )
