"""Figure records of times: seconds per epoch, and losses against the seconds that they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis import elapsed, stats
from harness.formatting import listed
from harness.reporting import wording
from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.records import (
    LEGEND,
    NO_VALUES,
    POINTS,
    ROWS,
    Array,
    CurveFigure,
    CurvePanel,
    DotFigure,
    DotPanel,
    DotRow,
    Line,
    curve_figure,
    devices_of,
    dot_figure,
    joined,
    named,
    quartile_band,
    scale,
    shown_of,
    thinned,
    with_dots,
)
from harness.reporting.figures.scales import Gap, row_scale
from harness.reporting.figures.styles import Style
from harness.store.read import CaseData, ObjectiveInfo

UNITS = ((1.0, "seconds"), (1e-3, "milliseconds"), (1e-6, "microseconds"), (1e-9, "nanoseconds"))

BLOCKS = 40
"""Most blocks of a case that have a dot."""

LOSSES = {wording.LOSS: "losses"}
"""Words for several values, where they differ."""

FRONT = Style("#777879", "", (), filled=True, width=1.2)
"""The look of what is no optimizer's: a grey that stands out in the light and in the dark."""

SECONDS_CAPTION = (
    "Dot: one timed block of steps, scaled to an epoch, of many blocks 40 evenly spaced by rank; "
    "diamond and bar: median and interquartile range of all. The vertical spread has no "
    "meaning. Arrow at the edge: beyond the axis."
)
LOSS_TIME_CAPTION = (
    "Of each optimizer the tuned setting, else that with the fewest failures, then the lowest "
    "loss, picked on these same seeds. Left: median over the seeds that ended ok, band: the middle "
    "half, against the time of training alone: evaluations of loss and gradients at the timing "
    "pass's median time for one; recording and logging are left out. Right: final loss (median "
    "where the optimum is known, else mean) and time of the whole training, bars: 95% intervals. "
    "Grey line: the Pareto front; whoever is off it is beaten in both by one on it. Triangle on "
    "an edge: beyond the axis."
)


def unit_of(seconds: Sequence[float]) -> tuple[float, str]:
    """The unit in which the largest of some times is at least 1."""
    largest = max(seconds, default=0.0)
    return next(((unit, name) for unit, name in UNITS if largest >= unit), UNITS[-1])


# Loss against time


@dataclass(frozen=True, eq=False)
class _Timed:
    """The best setting of an optimizer, with the time of its training."""

    case: CaseData
    rows: Array  # of its curves, those that ended ok
    pace: Array  # seconds at the recorded steps
    total: tuple[float, float, float]  # seconds of all steps, with their interval


def loss_time(context: FigureContext, info: ObjectiveInfo) -> CurveFigure | None:
    """Loss against seconds, and final loss against the time of the whole training."""
    best = context.contenders(info.name)
    found = [one for case in best if (one := _timed(context, info, case)) is not None]
    devices = devices_of([one.case for one in found])
    panels: list[CurvePanel] = []
    shown = 0
    for device in devices:
        own = [one for one in found if one.case.device == device][:LEGEND]
        shown += len(own)
        title = device if len(devices) > 1 else ""
        panels += [_against_time(context, info, own, title), _trade_off(context, info, own, title)]
    if shown < 2:
        return None
    words = info.words
    kind = f"{words[0].upper()}{words[1:]} against time, and what it costs in the end"
    about = ("loss_time", info.name, kind, wording.reworded(LOSS_TIME_CAPTION, [info]))
    carried = context.carried([one.case for one in found])
    shown_text = shown_of(shown, len(best), "optimizers")
    note = joined([shown_text, Gap.of(info).note, _beyond(panels, words), carried])
    return curve_figure(*about, panels, 2, note=note)


def _beyond(panels: Sequence[CurvePanel], words: str) -> str:
    """The final values that their axis does not hold, as a sentence; empty where it holds all."""
    told = [
        f"{line.label}{f' on {panel.title}' if panel.title else ''} ({line.y[0]:.2g})"
        for panel in panels[1::2]
        for line in panel.lines
        if len(line.x_low) and not panel.limits[0] <= line.y[0] <= panel.limits[1]
    ]
    return f"Final {LOSSES.get(words, words)} beyond the axis: {listed(told)}." if told else ""


def _timed(context: FigureContext, info: ObjectiveInfo, case: CaseData) -> _Timed | None:
    found = context.courses(case)
    if not len(found):
        return None
    pace = context.pace(case, info.record_steps[: found.records].astype(float), found.rows)
    blocks = elapsed.block_seconds(context.results, case)
    if not len(pace) or not len(blocks):
        return None
    counts = elapsed.evaluations(case, info.record_steps)[found.rows, found.ends - 1]
    count = float(counts.mean())
    low, high = stats.median_interval(blocks)
    total = (count * float(np.median(blocks)), count * low, count * high)
    return _Timed(case, found.values, pace, total)


def _against_time(
    context: FigureContext, info: ObjectiveInfo, found: Sequence[_Timed], title: str
) -> CurvePanel:
    gap = Gap.of(info)
    unit, unit_name = unit_of([one.total[0] for one in found])
    lines = []
    for one in found:
        at = thinned(one.rows.shape[1], POINTS)
        middle, low, high = quartile_band(gap.less(one.rows[:, at]))
        band = (low, high) if (high > low).any() else (NO_VALUES, NO_VALUES)
        style = context.styles[one.case.position]
        lines.append(Line(one.case.label, style, one.pace[at] / unit, middle, *band))
    edges = [edge for one in lines for edge in (one.low, one.high)]
    log, limits = scale([one.y for one in lines], edges, linear=gap.linear)
    return CurvePanel(
        title=title,
        x_label=f"time of training ({unit_name})",
        y_label=gap.short + gap.mark,
        log=log,
        limits=limits,
        lines=tuple(lines),
    )


def _trade_off(
    context: FigureContext, info: ObjectiveInfo, found: Sequence[_Timed], title: str
) -> CurvePanel:
    gap = Gap.of(info)
    unit, unit_name = unit_of([one.total[0] for one in found])
    points = []
    for one in found:
        ends = gap.less(np.array(context.centre(one.case, median=gap.is_known)))
        time = np.array(one.total) / unit
        style = replace(context.styles[one.case.position], dashes=())
        points.append(
            Line(
                *(one.case.label, style, time[:1], ends[:1], ends[1:2], ends[2:]),
                x_low=time[1:2],
                x_high=time[2:],
            )
        )
    edges = [edge for point in points for edge in (point.low, point.high)]
    log, limits = scale([point.y for point in points], edges, linear=gap.linear)
    return CurvePanel(
        title=title,
        x_label=f"time of the whole training ({unit_name})",
        y_label=f"final {gap.short}{gap.mark}",
        log=log,
        limits=limits,
        lines=(_front(points, limits, info.measure.sign), *points),
    )


def _front(points: Sequence[Line], limits: tuple[float, float], sign: float) -> Line:
    """The Pareto front as steps: the value stays as it is until the time of the next point."""
    x, y = ([float(getattr(point, axis)[0]) for point in points] for axis in ("x", "y"))
    front = elapsed.pareto_front(x, [sign * value for value in y])
    steps = np.repeat([x[i] for i in front], 2)[1:], np.repeat([y[i] for i in front], 2)[:-1]
    return Line("Pareto front", FRONT, steps[0], np.clip(steps[1], *limits))


# Seconds per epoch


def seconds_per_epoch(context: FigureContext) -> list[DotFigure]:
    """Times of the timed blocks, with median and quartiles: one figure, or one per objective."""
    found = {info.name: _time_panel(context, info) for info in context.results.objectives.values()}
    panels = {name: panel for name, panel in found.items() if panel is not None}
    if not panels:
        return []
    if sum(len(panel.rows) for panel in panels.values()) <= ROWS:
        return [_time_figure(None, list(panels.values()), "")]
    totals = _timed_cases(context)
    return [
        _time_figure(name, [panel], shown_of(len(panel.rows), totals[name]))
        for name, panel in panels.items()
    ]


def _timed_cases(context: FigureContext) -> Mapping[str, int]:
    return {
        name: sum(len(context.epoch_seconds(case)) > 0 for case in context.results.cases_on(name))
        for name in context.results.objectives
    }


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
    medians = {case.position: float(np.median(blocks[case.position])) for case in cases}
    unit, unit_name = unit_of(list(medians.values()))
    rows = []
    for case in sorted(context.best(cases, ROWS), key=lambda c: (medians[c.position], c.label)):
        ranks = np.argsort(blocks[case.position], kind="stable")
        values = blocks[case.position][ranks] / unit
        spread = stats.spread(values)
        row = DotRow(
            label=named(case, several),
            style=context.styles[case.position],
            centre=spread.median,
            low=spread.q1,
            high=spread.q3,
        )
        rows.append(with_dots(row, values, ranks.astype(np.int64), most=BLOCKS))
    log, limits = row_scale(rows)
    epoch = "epoch" if info.has_epochs else "epoch, which is one step"
    return DotPanel(
        title=info.name if len(context.results.objectives) > 1 else "",
        x_label=f"time per {epoch} ({unit_name})",
        log=log,
        limits=limits if log else (0.0, limits[1]),
        rows=tuple(rows),
    )
