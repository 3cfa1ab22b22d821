"""Figure records of trials: their losses along the training and at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.analysis import stats
from harness.reporting import wording
from harness.reporting.figures import learning, times
from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.facets import faceted
from harness.reporting.figures.gallery import gallery
from harness.reporting.figures.overview import overview
from harness.reporting.figures.records import (
    CURVES,
    FAILED_CURVES,
    FAINT_POINTS,
    LEGEND,
    NO_VALUES,
    OPTIMIZERS,
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
    quartile_band,
    scale,
    shown_of,
    thinned,
    unique_name,
    wants_log,
    with_dots,
)
from harness.reporting.figures.scales import Gap, row_scale
from harness.reporting.figures.trajectories import trajectories
from harness.store.read import CaseData, ObjectiveInfo, Results

PEAK = 2.0
"""The factor by which an axis is higher for a peak that is cut off."""

LOSS_CAPTION = (
    "Line: median of the seeds that ended ok; band: the middle half of them, where they differ. "
    "Thin line ending in a cross: a seed that failed, as far as it got (a cross on the "
    "frame's edge: beyond it). In colour and with a name: of every optimizer the settings with "
    "the fewest failures, then the lowest loss, picked on these same seeds; faint: its other "
    "settings. "
)
PLAIN_CAPTION = (
    "Dashed: the lowest possible loss; in a second panel, the gap to it. A triangle on an edge: "
    "the line goes on beyond the axis. "
)
FACETS_CAPTION = (
    "Each optimizer has a panel, with all others faint behind it; where the optimum is known, of "
    "the gap to it. A triangle on an edge: the line goes on beyond the axis."
)
FINAL_LOSS_CAPTION = (
    "Dot: one seed that ended ok, of many seeds 120 evenly spaced by rank; the vertical spread has "
    "no meaning. Where the optimum is known, losses minus the optimum. Diamond and bar: mean with "
    "its 95% bootstrap-t interval or, where the optimum is known or the scale is logarithmic, "
    "median with its distribution-free interval; no bar where all seeds give the same result or "
    "are too few. Arrow at the edge: beyond the axis, an estimate with its value. The best on top: "
    "fewest failures, then lowest loss. Of many cases the best of every optimizer are shown."
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
            learning.learning(context, info),
            learning.generalization(context, info),
            times.loss_time(context, info),
            final_loss(context, info),
            *gallery(context, info),
        ]
    found += times.seconds_per_epoch(context)
    taken: set[str] = set()
    return [replace(r, name=unique_name(r.name, taken)) for r in found if r is not None]


# Loss curves


def loss(context: FigureContext, info: ObjectiveInfo) -> CurveFigure | None:
    """Loss against epochs, median and quartiles over seeds; beside it its excess of the optimum."""
    cases = [c for c in context.ran_on(info.name) if np.isfinite(c.losses).any()]
    if not cases:
        return None
    total = len(cases)
    if len({case.optimizer for case in cases}) > OPTIMIZERS:
        cases = context.best(cases, OPTIMIZERS)
    devices = devices_of(cases)
    groups = {device: [c for c in cases if c.device == device] for device in devices}
    lines = {device: _loss_lines(context, info, own) for device, own in groups.items()}
    excess = all(_shows_excess(info.optimum, own) for own in lines.values())
    crowded = any(len({line.label for line in own} - {""}) > LEGEND for own in lines.values())
    panels: list[CurvePanel] = []
    plain: list[CurvePanel] = []
    for device, group in groups.items():
        title = device if len(devices) > 1 else ""
        panel = _loss_panel(info, lines[device], title, info.optimum)
        panel = replace(panel, seed_lines=_seed_lines(context, info, group))
        plain.append(panel)
        above = [_excess_panel(info, panel, info.optimum or 0.0)] if excess else []
        panels += faceted([panel, *above][-1]) if crowded else [panel, *above]
    words = info.words
    title = f"{words[0].upper()}{words[1:]} against {'epoch' if info.has_epochs else 'step'}"
    named_cases = len(context.best(cases, CURVES))
    note = f"With a name: {named_cases} of {len(cases)} cases." if named_cases < len(cases) else ""
    others = f"Not drawn: {total - len(cases)} others, which do worse."
    notes = [note, Gap.of(info).note if excess else _off_scale(info, plain[0])]
    notes += [others if total > len(cases) else "", context.carried(cases)]
    caption = wording.reworded(LOSS_CAPTION, [info])
    caption += (FACETS_CAPTION if crowded else PLAIN_CAPTION).strip()
    about = ("loss", info.name, title, caption)
    columns = min(4, len(panels)) if crowded else 2 if excess else 1
    return curve_figure(*about, panels, columns, note=joined(notes))


def _loss_lines(
    context: FigureContext, info: ObjectiveInfo, cases: Sequence[CaseData]
) -> tuple[Line, ...]:
    """Faint lines first, then those of failed trials, then the medians."""
    x = info.record_steps / info.steps_per_x
    full = {case.position for case in context.best(cases, CURVES)}
    faint: list[Line] = []
    failed: list[Line] = []
    medians: list[Line] = []
    for case in cases:
        style = context.styles[case.position]
        is_ok = np.isin(case.seeds, context.outcomes[case.position].seeds)
        found = context.courses(case)
        shown = case.position in full
        label = context.label(case) if shown else ""
        if shown:
            failed += _failed_lines(context, case, x, ~is_ok)
        if len(found):
            middle, low, high = quartile_band(found.values)
            at = thinned(found.records, POINTS if shown else FAINT_POINTS)
            band = (low[at], high[at]) if shown and (high > low).any() else (NO_VALUES, NO_VALUES)
            line = Line(
                *(label, style, x[at], middle[at], *band),
                faint=not shown,
                seconds=context.pace(case, info.record_steps[at].astype(float), found.rows),
                called=case.label,
            )
            (medians if shown else faint).append(line)
        elif shown:
            medians.append(Line(label, style, NO_VALUES, NO_VALUES))
    return (*faint, *failed, *medians)


def _failed_lines(
    context: FigureContext, case: CaseData, x: Array, failed: NDArray[np.bool_]
) -> Iterator[Line]:
    """Curves of trials that failed, as far as they are finite."""
    rows = np.flatnonzero(failed)
    for i in rows[thinned(len(rows), FAILED_CURVES)]:
        reached = finite_length(case.losses[i])
        if reached:
            yield _of_seed(context, case, i, x, thinned(reached, POINTS), failed=True)


def _seed_lines(
    context: FigureContext, info: ObjectiveInfo, cases: Sequence[CaseData]
) -> tuple[Line, ...]:
    """Curves of single seeds: of each case the lowest and the highest final loss, and between."""
    x = info.record_steps / info.steps_per_x
    lines: list[Line] = []
    for case in context.best(cases, CURVES):
        seeds, found = context.outcomes[case.position].seeds, context.courses(case)
        ends = dict(zip(found.rows.tolist(), found.ends.tolist(), strict=True))
        for seed in seeds[thinned(len(seeds), SEED_LINES)]:
            for i in np.flatnonzero(case.seeds == seed):
                if int(i) in ends:
                    at = thinned(ends[int(i)], SEED_LINE_POINTS)
                    lines.append(_of_seed(context, case, i, x, at))
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
    steps = x[at] * context.results.objectives[case.objective].steps_per_x
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
    log, limits = scale([line.y for line in kept], edges, linear=info.measure.higher)
    limits = limits if log else _without_a_peak(kept, limits)
    limits, reference = _with_optimum(limits, optimum, log=log)
    return CurvePanel(
        title=title,
        x_label=f"epoch (of {info.steps_per_epoch} steps)" if info.has_epochs else "step",
        y_label=wording.axis(info),
        log=log,
        limits=limits,
        lines=lines,
        reference_line=reference,
        reference_label="lowest possible loss",
        steps_per_x=info.steps_per_x,
        steps_per_epoch=info.steps_per_epoch,
    )


def _without_a_peak(lines: Sequence[Line], limits: tuple[float, float]) -> tuple[float, float]:
    """Limits that a peak in the first tenth of the training does not rule."""
    starts = [line.y[:1] for line in lines]
    late = [one[line.x > 0.1 * line.x[-1]] for line in lines if len(line.x)
            for one in (line.y, line.low, line.high) if len(one)]  # fmt: skip
    _, (low, high) = scale(starts + late, [], linear=True)
    return (low, high) if PEAK * (high - low) < limits[1] - limits[0] else limits


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
    return replace(lower, y_label=Gap.of(info).short, seed_lines=seed_lines)


def _with_optimum(
    limits: tuple[float, float], optimum: float | None, *, log: bool
) -> tuple[tuple[float, float], float | None]:
    """Limits that hold the optimum too, and the optimum; None where it would hide the rest.

    A logarithmic scale stays as it is, and has the optimum if it lies there.
    """
    if optimum is None:
        return limits, None
    low, high = limits
    if log:
        return limits, optimum if low <= optimum <= high else None
    margin = 0.04 * (high - low)
    wide = min(low, optimum - margin), max(high, optimum + margin)
    return (wide, optimum) if wide[1] - wide[0] <= 5 * (high - low) else (limits, None)


def _off_scale(info: ObjectiveInfo, panel: CurvePanel) -> str:
    """A note that the optimum is off a scale; empty where it is on it or not known."""
    low, high = panel.limits
    if info.optimum is None or low <= info.optimum <= high or (panel.log and not info.optimum):
        return ""
    return f"The lowest possible loss, {info.optimum:.6g}, is off the scale."


# Rows of dots


def final_loss(context: FigureContext, info: ObjectiveInfo) -> DotFigure | None:
    """Final loss of every seed, or its gap to the optimum, with mean or median and interval."""
    cases = context.ran_on(info.name)
    shown = context.ordered(context.best(cases, ROWS))
    losses = [context.outcomes[case.position].losses for case in shown]
    if not any(len(own) for own in losses):
        return None
    several, gap = len(devices_of(cases)) > 1, Gap.of(info)
    median = gap.is_known or scale(losses, [], linear=gap.linear)[0]
    rows = []
    for case in shown:
        outcome = context.outcomes[case.position]
        ends = np.array(context.centre(case, median=median))
        centre, low, high = gap.less(ends).tolist()
        row = DotRow(
            label=named(case, several),
            note=outcome.failures,
            style=context.styles[case.position],
            centre=centre,
            low=low,
            high=high,
        )
        rows.append(with_dots(row, gap.less(outcome.losses), outcome.seeds))
    log, limits = row_scale(rows, linear=gap.linear)
    panel = DotPanel(
        x_label=f"{gap.label} after {duration(info)}{gap.mark}",
        log=log,
        limits=limits,
        rows=tuple(rows),
    )
    name = "median" if median else "mean"
    label = f"{name}, 95% interval" if any(row.high > row.low for row in rows) else name
    caption = wording.reworded(FINAL_LOSS_CAPTION, [info])
    about = ("final_loss", info.name, f"Final {info.words}", caption)
    note = joined([shown_of(len(shown), len(cases)), context.counted(cases)])
    return dot_figure(*about, [panel], "one seed", label, note=note)
