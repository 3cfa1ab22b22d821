"""Figure records of two-dimensional objectives: trajectories, coordinates and step sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.records import (
    CURVES,
    PLANES,
    POINTS,
    Array,
    CurveFigure,
    CurvePanel,
    Line,
    PlaneFigure,
    PlanePanel,
    Trajectory,
    alternative,
    curve_figure,
    devices_of,
    finite_length,
    named,
    named_after,
    scale,
    shown_of,
    thinned,
)
from harness.reporting.figures.styles import DASHES, MARKERS
from harness.store.read import CaseData, ObjectiveInfo

SEED_CAPTION = (
    " Drawn is each case's lowest seed, with at most 201 points, evenly spaced. Ending in a cross: "
    "a trial that did not end ok, as far as it got (a cross on the frame's edge: beyond it). Of "
    "many cases those of every optimizer with the lowest mean final loss are shown."
)
PLANE_CAPTION = (
    "Ring: start; large mark: end; star: where the loss is lowest. Contours: loss, at 1 and 3 "
    "times powers of ten above the lowest." + SEED_CAPTION
)
COORDINATE_CAPTION = (
    "Each coordinate against the step. Dashed: where the loss is lowest." + SEED_CAPTION
)
STEP_SIZE_CAPTION = (
    "Step size in effect, η / √(s + ε), of each coordinate, from the first step on; s is "
    "the sum of that coordinate's squared gradients so far." + SEED_CAPTION
)


def together(context: FigureContext, info: ObjectiveInfo) -> PlaneFigure | None:
    """All trajectories of a two-dimensional objective over its landscape, a panel per device."""
    cases = _with_trajectories(context, info)
    if not cases:
        return None
    shown = context.best(cases, PLANES)
    devices = devices_of(cases)
    panels = [
        PlanePanel(
            device if len(devices) > 1 else "",
            tuple(_trajectory(context, case) for case in shown if case.device == device),
        )
        for device in devices
    ]
    note = shown_of(len(shown), len(cases))
    return _planes(info, "trajectories", "Trajectories", panels, min(len(panels), 2), note)


def one_by_one(context: FigureContext, info: ObjectiveInfo) -> PlaneFigure | None:
    """The same, each in a panel of its own; None where there is but one."""
    cases = _with_trajectories(context, info)
    if len(cases) < 2:
        return None
    several = len(devices_of(cases)) > 1
    panels = [
        PlanePanel(named(case, several), (_trajectory(context, case),))
        for case in context.best(cases, PLANES)
    ]
    what, columns = "Trajectories one by one", min(len(panels), 3)
    note = shown_of(len(panels), len(cases))
    return _planes(info, "trajectories_each", what, panels, columns, note)


def _planes(
    info: ObjectiveInfo,
    kind: str,
    what: str,
    panels: Sequence[PlanePanel],
    columns: int,
    note: str,
) -> PlaneFigure:
    drawn = [trajectory for panel in panels for trajectory in panel.trajectories]
    return PlaneFigure(
        name=named_after(kind, info.name),
        objective=info.name,
        title=f"{what}: {info.name}",
        caption=PLANE_CAPTION,
        alt=alternative(f"{what}: {info.name}", [one.label for one in drawn]),
        panels=tuple(panels),
        columns=columns,
        window=info.window or _window(drawn),
        landscape=info.landscape,
        levels=levels(info.landscape, info.optimum),
        minimizers=info.minimizers,
        note=note,
    )


def levels(landscape: Array | None, optimum: float | None) -> tuple[float, ...]:
    """Losses to draw contours at: 1 and 3 times powers of ten above the lowest."""
    if landscape is None or not np.isfinite(landscape).any():
        return ()
    finite = landscape[np.isfinite(landscape)]
    lowest = float(finite.min())
    base = optimum if optimum is not None and optimum <= lowest else lowest
    top = float(finite.max()) - base
    if not 0 < top < math.inf:
        return ()
    last = math.floor(math.log10(top))
    above = [m * 10.0**k for k in range(last - 5, last + 1) for m in (1, 3)]
    return tuple(base + v for v in above if 3e-4 * top < v < top and base + v > base)


def coordinates(context: FigureContext, info: ObjectiveInfo) -> CurveFigure | None:
    """Both coordinates against the step."""
    cases = _with_trajectories(context, info)
    if not cases:
        return None
    shown = context.best(cases, CURVES)
    devices = devices_of(cases)
    panels = [
        replace(
            _coordinate_panel(context, info, [c for c in shown if c.device == device], axis),
            title=device if len(devices) > 1 else "",
        )
        for device in devices
        for axis in (0, 1)
    ]
    about = ("coordinates", info.name, "Coordinates against step", COORDINATE_CAPTION)
    return curve_figure(*about, panels, 2, note=shown_of(len(shown), len(cases)))


def _coordinate_panel(
    context: FigureContext, info: ObjectiveInfo, cases: Sequence[CaseData], axis: int
) -> CurvePanel:
    lines = []
    for case in cases:
        points = _points(case.trajectories)
        at = thinned(len(points), POINTS)
        line = Line(
            context.label(case),
            context.styles[case.position],
            at.astype(float),
            points[at, axis],
            failed=_has_failed(context, case),
            seed=min(case.trajectories),
            seconds=_seconds(context, case, at.astype(float), min(case.trajectories)),
        )
        lines.append(line)
    kept = [line.y for line in lines if not line.failed]
    if not kept:
        kept = [np.asarray(info.window[axis])] if info.window else [line.y for line in lines]
    low, high = scale(kept, [], linear=True)[1]
    minima = {point[axis] for point in info.minimizers if len(point) == 2}
    minimum = minima.pop() if len(minima) == 1 else None
    if minimum is not None:
        margin = 0.04 * (high - low)
        low, high = min(low, minimum - margin), max(high, minimum + margin)
    return CurvePanel(
        x_label="step",
        y_label=f"x{axis + 1}",
        limits=(low, high),
        lines=tuple(lines),
        reference_line=minimum,
        reference_label="minimum",
        steps_per_x=1,
        steps_per_epoch=info.steps_per_epoch,
    )


def step_sizes(context: FigureContext, info: ObjectiveInfo) -> CurveFigure | None:
    """The step size that each coordinate has in effect, where the optimizer tells."""
    cases = [c for c in context.ran_on(info.name) if len(_points(c.step_sizes)) > 1]
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
    about = ("step_sizes", info.name, "Effective step size of each coordinate", STEP_SIZE_CAPTION)
    note = shown_of(len(shown), len(cases))
    return curve_figure(*about, panels, min(3, len(panels)), note=note)


def _step_size_lines(context: FigureContext, case: CaseData) -> tuple[Line, ...]:
    sizes, style = _points(case.step_sizes), context.styles[case.position]
    # Before the first gradient s is 0, and the quotient is lr / sqrt(eps): nothing steps by it.
    at = thinned(len(sizes) - 1, POINTS) + 1
    return tuple(
        Line(
            f"x{axis + 1}",
            replace(style, dashes=DASHES[axis], filled=axis == 0, marker=MARKERS[axis], width=1.9),
            at.astype(float),
            sizes[at, axis],
            seconds=_seconds(context, case, at.astype(float), min(case.step_sizes)),
        )
        for axis in (0, 1)
    )


def _with_trajectories(context: FigureContext, info: ObjectiveInfo) -> list[CaseData]:
    return [c for c in context.ran_on(info.name) if len(_points(c.trajectories))]


def _points(by_seed: Mapping[int, Array]) -> Array:
    """The points of the lowest seed, up to the first that isn't finite."""
    if not by_seed:
        return np.empty((0, 2))
    points = np.asarray(by_seed[min(by_seed)], dtype=float).reshape(-1, 2)
    return points[: finite_length(points.sum(axis=1))]


def _seconds(context: FigureContext, case: CaseData, steps: Array, seed: int) -> Array:
    """The seconds of one trial until each of some steps; empty where they are not known."""
    return context.pace(case, steps, case.seeds == seed)


def _has_failed(context: FigureContext, case: CaseData) -> bool:
    return min(case.trajectories) not in context.outcomes[case.position].seeds


def _trajectory(context: FigureContext, case: CaseData) -> Trajectory:
    points = _points(case.trajectories)
    at = thinned(len(points), POINTS)
    return Trajectory(
        label=context.label(case),
        style=context.styles[case.position],
        points=points[at],
        failed=_has_failed(context, case),
        steps=at,
        seed=min(case.trajectories),
    )


def _window(drawn: Sequence[Trajectory]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The range of x1 and that of x2 that hold all points."""
    points = np.concatenate([trajectory.points for trajectory in drawn])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.maximum((high - low) * 0.1, 1e-3)
    low, high = low - margin, high + margin
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))
