"""Figure records of trials and times: losses, seconds per epoch, and both at a glance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.analysis import stats
from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.coordinates import coordinates, step_sizes
from harness.reporting.figures.records import (
    CURVES,
    FAILED_CURVES,
    FAINT_POINTS,
    FEW_OBJECTIVES,
    NO_VALUES,
    POINTS,
    ROWS,
    SEED_LINE_POINTS,
    SEED_LINES,
    Array,
    CurveFigure,
    CurvePanel,
    DotFigure,
    DotPanel,
    DotRow,
    FigureRecord,
    Line,
    curve_figure,
    devices_of,
    dot_figure,
    duration,
    finite_length,
    joined,
    named,
    scale,
    shown_of,
    thinned,
    unique_name,
    wants_log,
    with_dots,
)
from harness.reporting.figures.trajectories import trajectories
from harness.store.read import CaseData, ObjectiveInfo, Results

UNITS = ((1.0, "seconds"), (1e-3, "milliseconds"), (1e-6, "microseconds"), (1e-9, "nanoseconds"))

OVERVIEW_CAPTION = (
    "Final loss with its 95% interval: the median where the optimum is known, else the mean. "
    "Beside it, where timed: median time per epoch with the interquartile range of timed blocks. "
    "No interval is drawn where it is narrower than the mark, or all seeds end alike. Of each "
    "optimizer the setting with the lowest mean is shown, picked on these same seeds."
)
LOSS_CAPTION = (
    "Line: median of the seeds that ended ok; band: the middle half of them, where they differ. "
    "Thin line ending in a cross: a seed that did not end ok, as far as it got (a cross on the "
    "frame's edge: beyond it). In colour and with a name: of every optimizer the settings with "
    "the lowest mean final loss, picked on these same seeds; faint: its other settings. Dashed: "
    "the lowest loss there is; in a second panel, the same medians less that. What leaves through "
    "the lower edge goes on to values too small for the scale."
)
FINAL_LOSS_CAPTION = (
    "Dot: one seed that ended ok, of many seeds 120 evenly spaced by rank; dots are spread up and "
    "down only to be told apart. Diamond and bar: mean with its 95% bootstrap-t interval or, where "
    "the optimum is known or the scale is logarithmic, median with its distribution-free interval; "
    "no bar where all seeds end alike or are too few. Dashed: the lowest loss there is. Of many "
    "cases those of every optimizer with the lowest mean are shown; the table has all."
)
SECONDS_CAPTION = (
    "Dot: one timed block of steps, scaled to an epoch; diamond and bar: median and "
    "interquartile range. Dots are spread up and down only to be told apart."
)


def build(results: Results, means: Mapping[int, stats.Mean]) -> list[FigureRecord]:
    """Every figure of trials and times; names are unique, whatever the case of letters.

    Args:
        results: What was run.
        means: By a case's position, its mean final loss; see ``comparison.mean_losses``.
    """
    context = FigureContext.of(results, means)
    found: list[FigureRecord | None] = [overview(context)]
    for info in results.objectives.values():
        found += [
            trajectories(context, info),
            loss(context, info),
            final_loss(context, info),
            coordinates(context, info),
            step_sizes(context, info),
        ]
    found += seconds_per_epoch(context)
    taken: set[str] = set()
    return [replace(r, name=unique_name(r.name, taken)) for r in found if r is not None]


# Overview


def overview(context: FigureContext) -> DotFigure | None:
    """Final loss and speed of every optimizer on every objective: of each its best setting."""
    results = context.results
    ran = [case for case in results.cases if context.outcomes[case.position].ran]
    keys = list(dict.fromkeys((case.optimizer, case.device) for case in ran))
    panels: list[DotPanel] = []
    for info in results.objectives.values():
        cases = context.best(context.ran_on(info.name), 0)
        if any(len(context.outcomes[case.position].losses) for case in cases):
            panels += _overview_panels(context, info, keys, cases)
    if not panels:
        return None
    timed = any(math.isfinite(row.centre) for panel in panels[1::2] for row in panel.rows)
    if not timed:
        panels = panels[0::2]
    title = "Final loss and speed, at a glance" if timed else "Final loss, at a glance"
    each = 2 if timed else 1
    label = "estimate with its interval"
    figure = dot_figure("overview", None, title, OVERVIEW_CAPTION, panels, "", label)
    return replace(figure, columns=each if len(panels) <= FEW_OBJECTIVES * each else 4)


def _overview_panels(
    context: FigureContext,
    info: ObjectiveInfo,
    keys: Sequence[tuple[str, str]],
    cases: Sequence[CaseData],
) -> tuple[DotPanel, DotPanel]:
    """Final losses and times per epoch on an objective, with a row for every key."""
    found = {(case.optimizer, case.device): case for case in cases}
    first = {(case.optimizer, case.device): case for case in reversed(context.results.cases)}
    blocks = {key: context.epoch_seconds(case) for key, case in found.items()}
    times = {key: _median_and_quartiles(own) for key, own in blocks.items() if len(own)}
    unit, unit_name = unit_of([median for median, _, _ in times.values()])
    several = len({device for _, device in keys}) > 1
    losses: list[DotRow] = []
    seconds: list[DotRow] = []
    for key in keys:
        case = found.get(key)
        label = f"{key[0]} on {key[1]}" if several else key[0]
        style = context.styles[(case or first[key]).position]
        row = DotRow(label=label, style=style, empty="not run")
        if case is not None:
            centre, low, high = context.centre(case, median=info.optimum is not None)
            row = replace(row, centre=centre, low=low, high=high, empty="no seed ended ok")
        losses.append(row)
        row = DotRow(label=label, style=style, empty="not timed")
        if key in times:
            centre, low, high = (end / unit for end in times[key])
            row = replace(row, centre=centre, low=low, high=high)
        seconds.append(row)
    epoch = "epoch" if info.has_epochs else "step"
    return (
        _overview_panel(info.name, f"loss after {duration(info)}", losses),
        _overview_panel("", f"{unit_name} per {epoch}", seconds, from_zero=True),
    )


def _overview_panel(
    title: str, x_label: str, rows: Sequence[DotRow], *, from_zero: bool = False
) -> DotPanel:
    centres = [np.array([row.centre for row in rows])]
    log, limits = scale(centres, [np.array([row.low, row.high]) for row in rows])
    if from_zero and not log:
        limits = (0.0, limits[1])
    return DotPanel(title=title, x_label=x_label, log=log, limits=limits, rows=tuple(rows))


def _median_and_quartiles(seconds: Array) -> tuple[float, float, float]:
    spread = stats.spread(seconds)
    return spread.median, spread.q1, spread.q3


def unit_of(seconds: Sequence[float]) -> tuple[float, str]:
    """The unit in which the largest of some times is at least 1."""
    largest = max(seconds, default=0.0)
    return next(((unit, name) for unit, name in UNITS if largest >= unit), UNITS[-1])


# Loss curves


def loss(context: FigureContext, info: ObjectiveInfo) -> CurveFigure | None:
    """Loss against epochs, median and quartiles over seeds; beside it its excess of the optimum."""
    cases = [c for c in context.ran_on(info.name) if np.isfinite(c.losses).any()]
    if not cases:
        return None
    devices = devices_of(cases)
    groups = {device: [c for c in cases if c.device == device] for device in devices}
    lines = {device: _loss_lines(context, info, own) for device, own in groups.items()}
    excess = all(_shows_excess(info.optimum, own) for own in lines.values())
    panels: list[CurvePanel] = []
    for device, group in groups.items():
        title = device if len(devices) > 1 else ""
        panel = _loss_panel(info, lines[device], title, info.optimum)
        panel = replace(panel, seed_lines=_seed_lines(context, info, group))
        panels.append(panel)
        if excess and info.optimum is not None:
            panels.append(_excess_panel(info, panel, info.optimum))
    title = f"Loss against {'epoch' if info.has_epochs else 'step'}"
    columns = 2 if excess else 1
    named_cases = len(context.best(cases, CURVES))
    note = f"With a name: {named_cases} of {len(cases)} cases." if named_cases < len(cases) else ""
    notes = [note, _off_scale(info, panels[0].limits)]
    about = ("loss", info.name, title, LOSS_CAPTION)
    return curve_figure(*about, panels, columns, note=joined(notes))


def _loss_lines(
    context: FigureContext, info: ObjectiveInfo, cases: Sequence[CaseData]
) -> tuple[Line, ...]:
    """Faint lines first, then those of failed trials, then the medians."""
    x = info.record_steps / _steps_per_x(info)
    full = {case.position for case in context.best(cases, CURVES)}
    faint: list[Line] = []
    failed: list[Line] = []
    medians: list[Line] = []
    for case in cases:
        style = context.styles[case.position]
        is_ok = np.isin(case.seeds, context.outcomes[case.position].seeds)
        whole = is_ok & np.isfinite(case.losses).all(axis=1)
        shown = case.position in full
        label = context.label(case) if shown else ""
        if shown:
            failed += _failed_lines(context, case, x, ~is_ok)
        if whole.any():
            middle, low, high = quartile_band(case.losses[whole])
            at = thinned(len(x), POINTS if shown else FAINT_POINTS)
            band = (low[at], high[at]) if shown and (high > low).any() else (NO_VALUES, NO_VALUES)
            line = Line(
                *(label, style, x[at], middle[at], *band),
                faint=not shown,
                seconds=context.pace(case, info.record_steps[at].astype(float), whole),
                called=case.label,
            )
            (medians if shown else faint).append(line)
        elif shown:
            medians.append(Line(label, style, NO_VALUES, NO_VALUES))
    return (*faint, *failed, *medians)


def _steps_per_x(info: ObjectiveInfo) -> int:
    """Steps in a unit of x: in an epoch, or 1."""
    return info.steps_per_epoch if info.has_epochs else 1


def _failed_lines(
    context: FigureContext, case: CaseData, x: Array, failed: NDArray[np.bool_]
) -> Iterator[Line]:
    """Curves of trials that did not end ok, as far as they are finite."""
    rows = np.flatnonzero(failed)
    for i in rows[thinned(len(rows), FAILED_CURVES)]:
        reached = finite_length(case.losses[i])
        if reached:
            yield _of_seed(context, case, i, x, thinned(reached, POINTS), failed=True)


def _seed_lines(
    context: FigureContext, info: ObjectiveInfo, cases: Sequence[CaseData]
) -> tuple[Line, ...]:
    """Curves of single seeds: of each case the lowest and the highest final loss, and between."""
    x = info.record_steps / _steps_per_x(info)
    at = thinned(len(x), SEED_LINE_POINTS)
    lines: list[Line] = []
    for case in context.best(cases, CURVES):
        seeds = context.outcomes[case.position].seeds
        for seed in seeds[thinned(len(seeds), SEED_LINES)]:
            whole = (case.seeds == seed) & np.isfinite(case.losses).all(axis=1)
            lines += (_of_seed(context, case, i, x, at) for i in np.flatnonzero(whole))
    return tuple(lines)


def _of_seed(
    context: FigureContext,
    case: CaseData,
    index: np.integer,
    x: Array,
    at: NDArray[np.int64],
    *,
    failed: bool = False,
) -> Line:
    """The curve of one trial of a case, by its index among the case's curves."""
    steps = x[at] * _steps_per_x(context.results.objectives[case.objective])
    return Line(
        case.label if not failed else "",
        context.styles[case.position],
        x[at],
        case.losses[index][at],
        failed=failed,
        seed=int(case.seeds[index]),
        seconds=context.pace(case, steps, np.array([index])),
        called=case.label,
    )


def quartile_band(losses: Array) -> tuple[Array, Array, Array]:
    """Median over the first axis and the quartiles; NaN quartiles of a single row.

    They are right on any scale: a mean's interval can reach below what no loss is below, and a
    mean over orders of magnitude is that of the worst seed.
    """
    low, middle, high = np.quantile(losses, [0.25, 0.5, 0.75], axis=0)
    if len(losses) < 2:
        low = high = np.full_like(middle, np.nan)
    return middle, low, high


def _shows_excess(optimum: float | None, lines: Sequence[Line]) -> bool:
    """Test that the distance from the optimum tells more than the loss: it spans decades."""
    lines = [line for line in lines if not line.failed and len(line.y)]
    if not lines or not optimum:
        return False
    values = np.concatenate([line.y for line in lines])
    above = values - optimum
    # Rounding may take a loss below the optimum by a hair; that does not forbid logarithms.
    enough = bool((above > 0).mean() > 0.9)
    return not wants_log(values) and enough and wants_log(np.maximum(above, 0.0))


def _loss_panel(
    info: ObjectiveInfo, lines: tuple[Line, ...], title: str, optimum: float | None
) -> CurvePanel:
    kept = [line for line in lines if not line.failed and len(line.y)] or lines
    edges = [edge for line in kept for edge in (line.low, line.high)]
    log, limits = scale([line.y for line in kept], edges)
    limits, reference = _with_optimum(limits, None if log else optimum)
    return CurvePanel(
        title=title,
        x_label=f"epoch (of {info.steps_per_epoch} steps)" if info.has_epochs else "step",
        y_label="loss",
        log=log,
        limits=limits,
        lines=lines,
        reference_line=reference,
        reference_label="lowest possible loss",
        steps_per_x=_steps_per_x(info),
        steps_per_epoch=info.steps_per_epoch,
    )


def _excess_panel(info: ObjectiveInfo, panel: CurvePanel, optimum: float) -> CurvePanel:
    """The same lines less the optimum."""
    lines, seed_lines = (
        tuple(
            replace(one, y=one.y - optimum, low=one.low - optimum, high=one.high - optimum)
            for one in own
        )
        for own in (panel.lines, panel.seed_lines)
    )
    lower = _loss_panel(info, lines, panel.title, None)
    return replace(lower, y_label="loss − lowest possible loss", seed_lines=seed_lines)


def _with_optimum(
    limits: tuple[float, float], optimum: float | None
) -> tuple[tuple[float, float], float | None]:
    """Limits that hold the optimum too, and the optimum; None where it would hide the rest."""
    if optimum is None:
        return limits, None
    low, high = limits
    margin = 0.04 * (high - low)
    wide = min(low, optimum - margin), max(high, optimum + margin)
    return (wide, optimum) if wide[1] - wide[0] <= 5 * (high - low) else (limits, None)


def _off_scale(info: ObjectiveInfo, limits: tuple[float, float]) -> str:
    """A note that the optimum is off a scale; empty where it is on it or not known."""
    if info.optimum is None or limits[0] <= info.optimum <= limits[1]:
        return ""
    return f"The lowest possible loss, {info.optimum:.6g}, is off the scale."


# Rows of dots


def final_loss(context: FigureContext, info: ObjectiveInfo) -> DotFigure | None:
    """Final loss of every seed, with mean or median and interval."""
    cases = context.ran_on(info.name)
    shown = context.best(cases, ROWS)
    losses = [context.outcomes[case.position].losses for case in shown]
    if not any(len(own) for own in losses):
        return None
    several = len(devices_of(cases)) > 1
    median = info.optimum is not None or scale(losses, [])[0]
    rows = []
    for case in shown:
        outcome = context.outcomes[case.position]
        centre, low, high = context.centre(case, median=median)
        row = DotRow(
            label=named(case, several),
            note=outcome.failures,
            style=context.styles[case.position],
            centre=centre,
            low=low,
            high=high,
        )
        rows.append(with_dots(row, outcome.losses, outcome.seeds))
    ends = [np.array([row.low, row.high]) for row in rows]
    log, limits = scale([row.values for row in rows], ends)
    limits, reference = _with_optimum(limits, None if log else info.optimum)
    panel = DotPanel(
        x_label=f"loss after {duration(info)}",
        log=log,
        limits=limits,
        rows=tuple(rows),
        reference_line=reference,
        reference_label="lowest possible loss",
    )
    name = "median" if median else "mean"
    label = f"{name}, 95% interval" if any(row.high > row.low for row in rows) else name
    about = ("final_loss", info.name, "Final loss", FINAL_LOSS_CAPTION)
    notes = [shown_of(len(shown), len(cases)), _off_scale(info, limits)]
    return dot_figure(*about, [panel], "one seed", label, note=joined(notes))


def seconds_per_epoch(context: FigureContext) -> list[DotFigure]:
    """Times of the timed blocks, with median and quartiles: one figure, or one per objective."""
    found = {info.name: _time_panel(context, info) for info in context.results.objectives.values()}
    panels = {name: panel for name, panel in found.items() if panel is not None}
    if not panels:
        return []
    if sum(len(panel.rows) for panel in panels.values()) <= ROWS:
        return [_time_figure(None, list(panels.values()), "")]
    totals = {
        name: sum(len(context.epoch_seconds(case)) > 0 for case in context.results.cases_on(name))
        for name in panels
    }
    return [
        _time_figure(name, [panel], shown_of(len(panel.rows), totals[name]))
        for name, panel in panels.items()
    ]


def _time_figure(objective: str | None, panels: Sequence[DotPanel], note: str) -> DotFigure:
    about = ("seconds_per_epoch", objective, "Seconds per epoch", SECONDS_CAPTION)
    label = "median, interquartile range"
    figure = dot_figure(*about, panels, "one timed block", label, note=note)
    return replace(figure, number_label="block")


def _time_panel(context: FigureContext, info: ObjectiveInfo) -> DotPanel | None:
    known = [(case, context.epoch_seconds(case)) for case in context.results.cases_on(info.name)]
    blocks = {case.position: seconds for case, seconds in known if len(seconds)}
    cases = [case for case, seconds in known if len(seconds)]
    if not cases:
        return None
    several = len(devices_of(cases)) > 1
    unit, unit_name = unit_of([float(np.median(own)) for own in blocks.values()])
    rows = []
    for case in context.best(cases, ROWS):
        ranks = np.argsort(blocks[case.position], kind="stable")
        values = blocks[case.position][ranks] / unit
        centre, low, high = _median_and_quartiles(values)
        style = context.styles[case.position]
        row = DotRow(label=named(case, several), style=style, centre=centre, low=low, high=high)
        rows.append(with_dots(row, values, ranks.astype(np.int64)))
    log, limits = scale([row.values for row in rows], [])
    epoch = "epoch" if info.has_epochs else "epoch, which is one step"
    return DotPanel(
        title=info.name if len(context.results.objectives) > 1 else "",
        x_label=f"time per {epoch} ({unit_name})",
        log=log,
        limits=limits if log else (0.0, limits[1]),
        rows=tuple(rows),
    )
