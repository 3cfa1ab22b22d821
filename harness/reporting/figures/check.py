"""What the figures of a check show: each cell against its baseline, and its times so far."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.errors import join
from harness.formatting import moment, significant
from harness.gate import history as check_history
from harness.gate.history import Change, Series
from harness.gate.report import CellVerdict, GateReport, Judgement, Outcome
from harness.reporting.figures.records import (
    CURVES,
    ROWS,
    CurveFigure,
    CurvePanel,
    FigureRecord,
    IntervalFigure,
    IntervalPanel,
    IntervalRow,
    Line,
    Mark,
    Style,
    safe_name,
    style_of,
    thinned,
    unique_name,
)

TIME, HISTORY = "check-time", "check-history"
"""How the names of these figures begin; no other figure's does."""

LOG_FACTOR = 4.0
"""Ratios that span more than this are drawn on a logarithmic scale."""

PANELS = 12
"""Most panels of a figure of histories; with more, every objective has a figure of its own."""

SPOKEN = 10
"""Most cells that a figure's alternative text goes through."""

GRAVITY: tuple[Outcome, ...] = (
    *("regressed", "missing", "failed", "inconclusive", "not comparable"),
    *("better", "fine"),
)
"""Outcomes, those first that ask for a look."""


_Compared = tuple[CellVerdict, Judgement, IntervalRow]
"""A cell whose times can be compared, what came of that, and the same as a row."""


def build(
    report: GateReport,
    history: Sequence[Series],
    changes: Sequence[Change],
    optimizers: Sequence[str] = (),
) -> list[FigureRecord]:
    """Every figure that a check and the checks before it allow; names are unique.

    Args:
        report: The check.
        history: The times of this machine.
        changes: Where they changed, numbered as in the sentences below the figure.
        optimizers: In the order that decides their looks elsewhere on the page.
    """
    records = [*times(report), *histories(history, changes, optimizers)]
    taken: set[str] = set()
    return [replace(record, name=unique_name(record.name, taken)) for record in records]


def times(report: GateReport) -> list[IntervalFigure]:
    """Each cell's time as a ratio to what it was: one figure, or one per objective."""
    compared: dict[str, list[_Compared]] = {}
    left_out: dict[str, list[str]] = {}
    several = len({cell.device for cell in report.cells}) > 1
    for cell in report.cells:
        judgement = cell.of("time")
        row = _row(cell, judgement, several=several)
        if judgement is not None and row is not None:
            compared.setdefault(cell.objective, []).append((cell, judgement, row))
        else:
            why = f" ({judgement.why or judgement.outcome})" if judgement else ""
            name = f"{cell.label} on {cell.objective}{why}"
            left_out.setdefault(cell.objective, []).append(name)
    if not compared:
        return []
    panels = {
        objective: _interval_panel(objective if len(compared) > 1 else "", _chosen(rows))
        for objective, rows in compared.items()
    }
    title = f"Time of a step against {report.against}"
    if sum(len(rows) for rows in compared.values()) <= ROWS:
        spoken = list(itertools.chain.from_iterable(compared.values()))
        absent = list(itertools.chain.from_iterable(left_out.values()))
        log, limits = _scale(_values([row for panel in panels.values() for row in panel.rows]))
        together = tuple(replace(p, log=log, limits=limits) for p in panels.values())
        return [
            IntervalFigure(
                TIME,
                None,
                title,
                _caption(together, absent),
                _alt(spoken, several=several),
                together,
            )
        ]
    return [
        IntervalFigure(
            f"{TIME}_{safe_name(objective)}",
            None,
            f"{title}: {objective}",
            _caption((panel,), left_out.get(objective, []), of=len(compared[objective])),
            _alt(compared[objective], several=several),
            (replace(panel, title=""),),
        )
        for objective, panel in panels.items()
    ]


def _row(cell: CellVerdict, judgement: Judgement | None, *, several: bool) -> IntervalRow | None:
    """A cell as a row; None where there is no ratio."""
    if judgement is None or judgement.change is None:
        return None
    ratio = 1 + judgement.change
    if not (math.isfinite(ratio) and ratio > 0):
        return None
    low, high = (
        math.nan if end is None or not (math.isfinite(end) and end > 0) else end
        for end in (judgement.low, judgement.high)
    )
    return IntervalRow(
        label=f"{cell.label} on {cell.device}" if several else cell.label,
        note="only warns" if judgement.only_warns else "",
        outcome=judgement.outcome,
        centre=ratio,
        low=low,
        high=high,
        limit=1 + judgement.limit,
    )


def _gravest(
    rows: Sequence[_Compared],
) -> list[_Compared]:
    """Rows, those first that ask for a look, then those that changed most."""
    return sorted(
        rows, key=lambda row: (GRAVITY.index(row[2].outcome), -abs(math.log(row[2].centre)))
    )


def _chosen(
    rows: Sequence[_Compared],
) -> tuple[IntervalRow, ...]:
    """At most so many rows as a panel holds, in the order of the spec."""
    kept = {cell.id for cell, _, _ in _gravest(rows)[:ROWS]}
    return tuple(row for cell, _, row in rows if cell.id in kept)


def _interval_panel(title: str, rows: tuple[IntervalRow, ...]) -> IntervalPanel:
    log, limits = _scale(_values(rows))
    label = "time of a step, now / before (left of 1: faster)"
    return IntervalPanel(title, label, log, limits, rows)


def _values(rows: Iterable[IntervalRow]) -> list[float]:
    return [v for row in rows for v in (row.centre, row.low, row.high, row.limit, 1.0)]


def _scale(values: Iterable[float]) -> tuple[bool, tuple[float, float]]:
    """Whether ratios are drawn on a logarithmic scale, and limits that hold all of them."""
    known = [v for v in values if math.isfinite(v) and v > 0]
    low, high = min(known), max(known)
    if high / low > LOG_FACTOR:
        margin = (high / low) ** 0.04
        return True, (low / margin, high * margin)
    margin = 0.06 * (high - low) or 0.05 * high
    return False, (low - margin, high + margin)


def _caption(
    panels: Sequence[IntervalPanel], left_out: Sequence[str], of: int | None = None
) -> str:
    rows = [row for panel in panels for row in panel.rows]
    text = "Mark: a step's time now as a ratio to what it was, both as ratios to the reference loop"
    if any(row.low < row.high for row in rows):
        text += "; bar: its 95% interval"
    text += (
        ". Solid line: as before; dashed: the limit. Shape and colour of a mark: what came of it."
    )
    if any(panel.log for panel in panels):
        text += " The scale is logarithmic."
    if of is not None and len(rows) < of:
        text += (
            f" Shown are {len(rows)} of {of} cells: those that ask for a look, then those that "
            "changed most. The table has all."
        )
    if left_out:
        text += f" Without a comparison of times: {join(left_out, SPOKEN)}."
    return text


def _alt(rows: Sequence[_Compared], *, several: bool) -> str:
    ranked = _gravest(rows)
    shown = [_words(cell, row, several=several) for cell, _, row in ranked[:SPOKEN]]
    if len(ranked) > SPOKEN:
        shown.append(f"{len(ranked) - SPOKEN} more")
    return f"Time of a step, now as a ratio to before: {'; '.join(shown)}."


def _words(cell: CellVerdict, row: IntervalRow, *, several: bool) -> str:
    ends = ""
    if row.low < row.high:
        ends = f" ({significant(row.low, 4)} to {significant(row.high, 4)})"
    where = f" ({cell.device})" if several else ""
    ratio = significant(row.centre, 4)
    return f"{cell.label} on {cell.objective}{where} {ratio}{ends}, {row.outcome}"


def latest_history(known: check_history.History) -> FigureRecord | None:
    """The times of the machine that checked last, in one figure; None if there is nothing in it."""
    own = check_history.series(known.entries, known.entries[-1].machine_key)
    changes = check_history.changes(own.values()) if check_history.can_find_changes() else []
    records = histories(list(own.values()), changes, in_one=True)
    return records[0] if records else None


def histories(
    history: Sequence[Series],
    changes: Sequence[Change],
    optimizers: Sequence[str] = (),
    *,
    in_one: bool = False,
) -> list[CurveFigure]:
    """Each cell's times over all checks, a panel per objective and device.

    One figure, or one per objective where there are many (unless all must be ``in_one``); none
    of a single check.
    """
    if not any(len(one.ratios) > 1 for one in history):
        return []
    taken = {
        number: time for one in history for number, time in zip(one.numbers, one.times, strict=True)
    }
    looks = _looks(history, optimizers)
    groups: dict[tuple[str, str], list[Series]] = {}
    for one in history:
        groups.setdefault((one.cell.objective, one.cell.device), []).append(one)
    by_objective: dict[str, list[tuple[str, str]]] = {}
    for group in groups:
        by_objective.setdefault(group[0], []).append(group)
    together = in_one or len(groups) <= PANELS
    chosen = {"": list(groups)} if together else by_objective
    devices = len({device for _, device in groups}) > 1
    made = []
    for objective, keys in chosen.items():
        columns = min(2, len(keys))
        ticks = thinned(len(taken), 6 if columns == 1 else 3)
        panels = tuple(
            _history_panel(
                _place(*key, several=devices) if len(keys) > 1 or not together else "",
                groups[key],
                [(i, change) for i, change in enumerate(changes, 1)],
                looks,
                [sorted(taken)[i] for i in ticks],
                taken,
            )
            for key in keys
        )
        series = [one for key in keys for one in groups[key]]
        title = "Time of a step over all checks"
        made.append(
            CurveFigure(
                name=HISTORY if together else f"{HISTORY}_{safe_name(objective)}",
                objective=None,
                title=title if together else f"{title}: {objective}",
                caption=_history_caption(panels),
                alt=_history_alt(series, taken, changes, several=devices),
                panels=panels,
                columns=columns,
            )
        )
    return made


def _looks(history: Sequence[Series], optimizers: Sequence[str]) -> dict[tuple[str, str], Style]:
    """Looks by optimizer and setting, the same in every panel."""
    order = list(dict.fromkeys([*optimizers, *(one.cell.optimizer for one in history)]))
    settings: dict[str, list[str]] = {}
    for one in history:
        own = settings.setdefault(one.cell.optimizer, [])
        if one.cell.setting not in own:
            own.append(one.cell.setting)
    return {
        (name, setting): style_of(order.index(name), own.index(setting), len(own), name)
        for name, own in settings.items()
        for setting in own
    }


def _history_panel(
    title: str,
    group: Sequence[Series],
    changes: Sequence[tuple[int, Change]],
    looks: Mapping[tuple[str, str], Style],
    numbers: Sequence[int],
    taken: Mapping[int, str],
) -> CurvePanel:
    own = [(i, change) for i, change in changes if any(change.series is one for one in group)]
    changed = {change.series.cell.id for _, change in own}
    ranked = sorted(group, key=lambda one: one.cell.id not in changed)
    full = {one.cell.id for one in ranked[:CURVES]}
    none = np.empty(0)
    lines = [
        Line(
            label=one.label if one.cell.id in full else "",
            style=looks[one.cell.optimizer, one.cell.setting],
            x=np.array(one.numbers, dtype=np.float64),
            y=np.array(one.ratios),
            low=none,
            high=none,
            faint=one.cell.id not in full,
        )
        for one in sorted(group, key=lambda one: one.cell.id in full)
    ]
    log, (low, high) = _scale(ratio for one in group for ratio in one.ratios)
    if own:
        # Room for the numbers at the top.
        high = high * (high / low) ** 0.1 if log else high + 0.1 * (high - low)
    days = {taken[number][:10] for number in numbers}
    same_day = len(days) == 1
    return CurvePanel(
        title=title,
        x_label=f"check (time of {days.pop()}, UTC)" if same_day else "check (its date, UTC)",
        y_label="time of a step / reference loop",
        log=log,
        limits=(low, high),
        lines=tuple(lines),
        marks=tuple(
            Mark(float(change.number), str(i), change.point.before, change.point.after)
            for i, change in own
        ),
        ticks=tuple(
            (float(number), taken[number][11:16] if same_day else taken[number][:10])
            for number in numbers
        ),
    )


def _history_caption(panels: Sequence[CurvePanel]) -> str:
    text = (
        "Line: a step's time as a ratio to the reference loop's, on this machine. Checks are "
        "evenly spaced, whatever time lies between them."
    )
    if any(panel.marks for panel in panels):
        text += (
            " Dotted, with an arrow from the old level to the new: a change point, with the "
            "number that it has below."
        )
    if any(line.faint for panel in panels for line in panel.lines):
        text += " Faint: further cells."
    if any(panel.log for panel in panels):
        text += " The scale is logarithmic."
    return text


def _history_alt(
    history: Sequence[Series],
    taken: Mapping[int, str],
    changes: Sequence[Change],
    *,
    several: bool,
) -> str:
    first, last = (moment(taken[i], to_the_minute=True) for i in (min(taken), max(taken)))
    own = [change for change in changes if any(change.series is one for one in history)]
    changed = {change.series.cell.id for change in own}
    ranked = sorted(history, key=lambda one: one.cell.id not in changed)
    listed = [
        f"{one.label} on {_place(one.cell.objective, one.cell.device, several=several)} "
        f"{significant(one.ratios[0], 4)} at first, {significant(one.ratios[-1], 4)} at last"
        for one in ranked[:SPOKEN]
    ]
    if len(ranked) > SPOKEN:
        listed.append(f"{len(ranked) - SPOKEN} more")
    points = "1 change point" if len(own) == 1 else f"{len(own) or 'no'} change points"
    return (
        f"Time of a step as a ratio to the reference loop, over {len(taken)} checks from {first} "
        f"to {last}, with {points}: {'; '.join(listed)}."
    )


def _place(objective: str, device: str, *, several: bool) -> str:
    return f"{objective} ({device})" if several else objective
