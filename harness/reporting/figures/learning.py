"""Figure records of trainings with held-out data: learning curves, and the generalization gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.analysis import stats
from harness.measures import Measure
from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.records import (
    NO_VALUES,
    PLANES,
    POINTS,
    ROWS,
    CurveFigure,
    CurvePanel,
    DotFigure,
    DotPanel,
    DotRow,
    Line,
    curve_figure,
    devices_of,
    dot_figure,
    duration,
    faint,
    joined,
    named,
    quartile_band,
    scale,
    shown_of,
    thinned,
    with_dots,
)
from harness.reporting.figures.scales import row_scale
from harness.reporting.figures.styles import PART_DASHES
from harness.reporting.tables.metrics import PartValues, part_values
from harness.store.read import CaseData, ObjectiveInfo

ABREAST, OF_MORE = 4, 3
"""Most panels side by side, and those of more optimizers than that."""

WIDTH = 1.5
"""Points, of every line: panels are small."""

NOTHING: dict[str, Any] = {"title": "", "lines": (), "behind": ()}
"""Fields of a panel that has nothing in it."""

LEARNING_CAPTION = (
    "Of each optimizer the tuned setting, else that with the fewest failures, then the best value "
    "of what is reported, picked on these same seeds. Line: median of the seeds that ended ok, by "
    "part of the data, each over all of its rows; band: the middle half of them, where they "
    "differ. ↑: higher is better. Faint: the other optimizers, on {part}. A triangle on an edge: "
    "the line goes on beyond the axis."
)
GAP_CAPTION = (
    "By how much the held-out part is worse than train at the end of the training, seed by seed. "
    "Dot: one seed that ended ok, of many seeds 120 evenly spaced by rank; diamond and bar: mean "
    "with its 95% bootstrap-t interval. Dashed: no gap. Right of it the held-out part is worse. "
    "The vertical spread has no meaning. Arrow at the edge: beyond the axis."
)


def learning(context: FigureContext, info: ObjectiveInfo) -> CurveFigure | None:
    """Every metric by part along the training: a panel per metric and optimizer.

    None where nothing but the loss on train is recorded.
    """
    found = [case for case in context.contenders(info.name) if len(context.courses(case))]
    cases = found[:PLANES]
    if len(info.measures) < 2 or not cases:
        return None
    several = len(devices_of(cases)) > 1
    columns = len(cases) if len(cases) <= ABREAST else OF_MORE
    panels: list[CurvePanel] = []
    for metric, higher in info.metrics:
        own = _panels_of(context, info, Measure(metric, higher=higher), cases, several)
        # Each metric begins a row.
        panels += [*own, *[replace(own[0], **NOTHING)] * (-len(own) % columns)]
    caption = LEARNING_CAPTION.format(part=info.parts[-1])
    note = joined([shown_of(len(cases), len(found), "optimizers"), context.carried(cases)])
    about = ("learning", info.name, "Learning curves by part of the data", caption)
    return curve_figure(*about, panels, columns, note=note)


def _panels_of(
    context: FigureContext,
    info: ObjectiveInfo,
    metric: Measure,
    cases: Sequence[CaseData],
    several: bool,
) -> list[CurvePanel]:
    """A panel for each case, all on the same axes."""
    lines = {case.position: _lines(context, info, metric, case) for case in cases}
    every = [line for own in lines.values() for line in own]
    edges = [edge for line in every for edge in (line.low, line.high)]
    log, limits = scale([line.y for line in every], edges, linear=metric.higher)
    behind = tuple(faint(own[-1]) for own in lines.values() if own)
    return [
        CurvePanel(
            title=named(case, several),
            x_label="epoch" if info.has_epochs else "step",
            y_label=f"{metric.metric}{' ↑' * metric.higher}",
            log=log,
            limits=limits,
            lines=lines[case.position],
            steps_per_x=info.steps_per_x,
            steps_per_epoch=info.steps_per_epoch,
            behind=behind if len(cases) > 1 else (),
            metric=metric.metric,
        )
        for case in cases
    ]


def _lines(
    context: FigureContext, info: ObjectiveInfo, metric: Measure, case: CaseData
) -> tuple[Line, ...]:
    """The medians of a metric of a case with their bands, by part."""
    lines = []
    for part in info.parts:
        found = context.courses(case, replace(metric, part=part))
        if not len(found):
            continue
        at = thinned(found.records, POINTS)
        middle, low, high = (values[at] for values in quartile_band(found.values))
        band = (low, high) if (high > low).any() else (NO_VALUES, NO_VALUES)
        steps = info.record_steps[at]
        style = context.styles[case.position]
        style = replace(style, marker="", dashes=PART_DASHES[part], width=WIDTH)
        lines.append(
            Line(
                *(part, style, steps / info.steps_per_x, middle, *band),
                seconds=context.pace(case, steps.astype(float), found.rows),
                called=case.label,
                part=part,
            )
        )
    return tuple(lines)


def generalization(context: FigureContext, info: ObjectiveInfo) -> DotFigure | None:
    """The generalization gap of every metric, seed by seed; None without held-out data."""
    cases = context.contenders(info.name)[:ROWS]
    found = {case.position: list(part_values(context.results, case)) for case in cases}
    if len(info.parts) < 2:
        return None
    several = len(devices_of(cases)) > 1
    panels = []
    for i, (metric, _) in enumerate(info.metrics):
        own = [(case, found[case.position][i]) for case in cases if found[case.position]]
        own = [(case, one) for case, one in own if len(one.gaps)]
        if own:
            panels.append(_gap_panel(context, info, metric, own, several))
    if not panels:
        return None
    panels = [replace(panel, is_named=i % 2 == 0) for i, panel in enumerate(panels)]
    about = ("generalization", info.name, "Generalization gap", GAP_CAPTION)
    label = "mean, 95% interval"
    note = context.counted(cases)
    figure = dot_figure(*about, panels, "one seed", label, note=note)
    return replace(figure, columns=min(2, len(panels)))


def _gap_panel(
    context: FigureContext,
    info: ObjectiveInfo,
    metric: str,
    found: Sequence[tuple[CaseData, PartValues]],
    several: bool,
) -> DotPanel:
    rows = []
    means = stats.means([one.gaps for _, one in found])
    for (case, one), mean in zip(found, means, strict=True):
        order = np.argsort(one.gaps, kind="stable")
        row = DotRow(
            label=named(case, several),
            style=context.styles[case.position],
            centre=mean.mean,
            low=mean.low,
            high=mean.high,
        )
        rows.append(with_dots(row, one.gaps[order], one.seeds[order]))
    _, limits = row_scale(rows, linear=True, shown=0.0)
    return DotPanel(
        title=metric,
        x_label=f"{found[0][1].gap_words} after {duration(info)}",
        limits=limits,
        rows=tuple(rows),
        reference_line=0.0,
        reference_label="no gap",
    )
