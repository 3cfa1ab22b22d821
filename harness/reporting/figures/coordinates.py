"""Figure records of single coordinates: their course over the steps, and their step sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.analysis import stats
from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.records import (
    CURVES,
    POINTS,
    Array,
    CurveFigure,
    CurvePanel,
    FigureRecord,
    Line,
    curve_figure,
    devices_of,
    named,
    scale,
    shown_of,
    thinned,
    unique_name,
)
from harness.reporting.figures.styles import DASHES, MARKERS
from harness.reporting.figures.trajectories import (
    has_failed,
    moving,
    points_of,
    seed_caption,
    with_trajectories,
)
from harness.store.read import CaseData, ObjectiveInfo, Results

COORDINATE_CAPTION = "Dashed: the minimum. "
STEP_SIZE_CAPTION = (
    "Step size in effect, η / √(s + ε), of each coordinate, from the first step on; s is "
    "the sum of that coordinate's squared gradients so far. "
)


def build(
    results: Results, means: Mapping[int, stats.Mean], taken: Iterable[str] = ()
) -> list[FigureRecord]:
    """The figures of single coordinates; names are unique.

    Args:
        results: What was run.
        means: By a case's position, its mean final loss; see ``comparison.mean_losses``.
        taken: Names that figures have already.
    """
    if not any(case.trajectories for case in results.cases):
        return []
    context = FigureContext.of(results, means)
    found = [
        make(context, info)
        for info in results.objectives.values()
        for make in (coordinates, step_sizes)
    ]
    names = {name.lower() for name in taken}
    return [replace(one, name=unique_name(one.name, names)) for one in found if one is not None]


def coordinates(context: FigureContext, info: ObjectiveInfo) -> CurveFigure | None:
    """Each coordinate that moves against the step."""
    cases = with_trajectories(context, info)
    if not cases:
        return None
    shown = context.best(cases, CURVES)
    devices, axes = devices_of(cases), moving(cases)
    panels = [
        replace(
            _coordinate_panel(context, info, [c for c in shown if c.device == device], axis),
            title=device if len(devices) > 1 else "",
        )
        for device in devices
        for axis in axes
    ]
    failed = any(has_failed(context, case) for case in shown)
    caption = COORDINATE_CAPTION + seed_caption(shown, failed=failed)
    about = ("coordinates", info.name, "Coordinates against step", caption)
    return curve_figure(*about, panels, len(axes), note=shown_of(len(shown), len(cases)))


def _coordinate_panel(
    context: FigureContext, info: ObjectiveInfo, cases: Sequence[CaseData], axis: int
) -> CurvePanel:
    lines = []
    for case in cases:
        points = points_of(case.trajectories)
        at = thinned(len(points), POINTS)
        line = Line(
            context.label(case),
            context.styles[case.position],
            at.astype(float),
            points[at, axis],
            failed=has_failed(context, case),
            seed=min(case.trajectories),
            seconds=_seconds(context, case, at.astype(float), min(case.trajectories)),
        )
        lines.append(line)
    kept = [line.y for line in lines if not line.failed]
    if not kept:
        kept = [np.asarray(info.window[axis])] if info.window else [line.y for line in lines]
    if info.window:
        # Who leaves for good would hide the others.
        low, high = info.window[axis]
        kept = [np.clip(values, 2 * low - high, 2 * high - low) for values in kept]
    low, high = scale(kept, [], linear=True)[1]
    minima = {point[axis] for point in info.minimizers if axis < len(point)}
    minimum = minima.pop() if len(minima) == 1 else None
    if minimum is not None:
        margin = 0.04 * (high - low)
        low, high = min(low, minimum - margin), max(high, minimum + margin)
    return CurvePanel(
        x_label="step",
        y_label=f"x{axis + 1}" if info.dimension > 1 else "x",
        limits=(low, high),
        lines=tuple(lines),
        reference_line=minimum,
        reference_label="minimum",
        steps_per_x=1,
        steps_per_epoch=info.steps_per_epoch,
    )


def step_sizes(context: FigureContext, info: ObjectiveInfo) -> CurveFigure | None:
    """The step size that each coordinate has in effect, where the optimizer tells."""
    cases = [c for c in context.ran_on(info.name) if len(points_of(c.step_sizes)) > 1]
    if not cases:
        return None
    several = len(devices_of(cases)) > 1
    shown = {
        named(case, several): _step_size_lines(context, case)
        for case in context.best(cases, CURVES)
    }
    log, limits = scale([line.y for lines in shown.values() for line in lines], [])
    panels = [
        CurvePanel(
            title=name,
            x_label="step",
            y_label="effective step size",
            log=log,
            limits=limits,
            lines=lines,
            steps_per_x=1,
            steps_per_epoch=info.steps_per_epoch,
        )
        for name, lines in shown.items()
    ]
    caption = STEP_SIZE_CAPTION + seed_caption(cases, failed=False)
    about = ("step_sizes", info.name, "Effective step size of each coordinate", caption)
    note = shown_of(len(shown), len(cases))
    return curve_figure(*about, panels, min(3, len(panels)), note=note)


def _step_size_lines(context: FigureContext, case: CaseData) -> tuple[Line, ...]:
    sizes, style = points_of(case.step_sizes), context.styles[case.position]
    # Before the first gradient s is 0, and the quotient is lr / sqrt(eps): nothing steps by it.
    at = thinned(len(sizes) - 1, POINTS) + 1
    return tuple(
        Line(
            f"x{axis + 1}" if sizes.shape[1] > 1 else "x",
            replace(style, dashes=DASHES[axis], filled=axis == 0, marker=MARKERS[axis], width=1.9),
            at.astype(float),
            sizes[at, axis],
            seconds=_seconds(context, case, at.astype(float), min(case.step_sizes)),
        )
        for axis in range(sizes.shape[1])
    )


def _seconds(context: FigureContext, case: CaseData, steps: Array, seed: int) -> Array:
    """The seconds of one trial until each of some steps; empty where they are not known."""
    return context.pace(case, steps, case.seeds == seed)
