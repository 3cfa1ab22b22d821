"""Figure records of objectives of one or two parameters: trajectories over the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.errors import join
from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.records import (
    OPTIMIZERS,
    POINTS,
    Array,
    PlaneFigure,
    PlanePanel,
    Seeds,
    Trajectory,
    alternative,
    devices_of,
    finite_length,
    joined,
    named_after,
    scale,
    shown_of,
    thinned,
)
from harness.reporting.figures.styles import looks_of
from harness.store.read import CaseData, ObjectiveInfo

DISTINCT, MOST, SOLID = 8, 32, 2
"""Most trajectories in one panel, in all panels of a figure, and with solid lines in a panel."""

SAME = 1e-3
"""Share of the window within which two trajectories count as one, at every step."""

MARKED, APART = 60, 0.12
"""Most points that all have markers; beyond, the share of the window between two markers."""

PLANE_CAPTION = (
    "Ring: start; large marker: end; star: minimum. Contours: loss, at 1 and 3 times powers of ten "
    "above the minimum, shaded where it is higher."
)
CURVE_CAPTION = (
    "Loss against the parameter, with the points of each trajectory upon it. Ring: start; large "
    "marker: end; star: minimum."
)

Window = tuple[tuple[float, float], tuple[float, float]]


def trajectories(context: FigureContext, info: ObjectiveInfo) -> PlaneFigure | None:
    """The trajectories of an objective: in one panel, or with many a panel for each optimizer."""
    cases = with_trajectories(context, info)
    axes = moving(cases)
    if not cases or (len(axes) == 1 and info.landscape is None):
        return None
    window = _window(context, info, cases)
    groups = _distinct(cases, [window[axis] for axis in axes], axes)
    firsts = [own[0] for own in groups]
    if len({case.optimizer for case in cases}) > OPTIMIZERS:
        best = context.ordered(firsts)[:DISTINCT]
    else:
        best = context.best(firsts, MOST)
    kept = {case.position for case in best}
    shown = [own for own in groups if own[0].position in kept]
    curve = _curve(info, axes[0], cases[0]) if len(axes) == 1 else np.empty((0, 2))
    if len(axes) == 1:
        if not len(curve):
            return None
        window = window[axes[0]], scale([curve[:, 1]], [], linear=True)[1]
    panels = [
        PlanePanel(title, _drawn(context, info, own, window, curve, axes))
        for title, own in _panels(context, shown).items()
    ]
    title = f"Trajectories: {info.name}"
    labels = [one.label for panel in panels for one in panel.trajectories]
    over = info.landscape if len(axes) == 2 else None
    hidden = sum(map(len, groups)) - sum(map(len, shown))
    return PlaneFigure(
        name=named_after("trajectories", info.name),
        objective=info.name,
        title=title,
        caption=_caption(panels, cases, len(axes)),
        alt=alternative(title, labels),
        panels=tuple(panels),
        columns=1 if len(panels) == 1 else 2 if len(panels) in (2, 4) else 3,
        window=window,
        landscape=over,
        levels=levels(over, info.optimum),
        minimizers=_minimizers(info, axes, curve),
        axes=_axes(info, axes),
        curve=curve,
        note=joined(
            [
                shown_of(len(cases) - hidden, len(cases)),
                _still(info, axes, cases),
                _outside(panels, window),
            ]
        ),
    )


def with_trajectories(context: FigureContext, info: ObjectiveInfo) -> list[CaseData]:
    """The cases of an objective of which a trajectory is known."""
    return [c for c in context.ran_on(info.name) if len(points_of(c.trajectories))]


def points_of(by_seed: Mapping[int, Array]) -> Array:
    """The points of the lowest seed, up to the first that isn't finite."""
    if not by_seed:
        return np.empty((0, 2))
    points = np.asarray(by_seed[min(by_seed)], dtype=float)
    return points[: finite_length(points.sum(axis=1))]


def has_failed(context: FigureContext, case: CaseData) -> bool:
    """Test that the trial whose trajectory is drawn failed."""
    return min(case.trajectories) not in context.outcomes[case.position].seeds


def moving(cases: Sequence[CaseData]) -> list[int]:
    """The coordinates that move in some trial; all of them if none does."""
    points = [own for case in cases for own in case.trajectories.values() if len(own)]
    count = points[0].shape[1] if points else 2
    found = [i for i in range(count) if any((own[:, i] != own[0, i]).any() for own in points)]
    still = set(range(count)) - set(found)
    # Seeds that start apart have no curve in common.
    found += [i for i in still if len({own[0, i] for own in points}) > 1]
    return sorted(found) or list(range(count))


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


# What is drawn


def _window(context: FigureContext, info: ObjectiveInfo, cases: Sequence[CaseData]) -> Window:
    """The objective's own, which trials that leave it do not widen; else what holds all points."""
    if info.window and info.landscape is not None:
        first, *others = info.window
        return first, (others or [first])[0]
    kept = [case for case in cases if not has_failed(context, case)] or cases
    points = np.concatenate([points_of(case.trajectories) for case in kept])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.maximum((high - low) * 0.1, 1e-3)
    first, *others = zip((low - margin).tolist(), (high + margin).tolist(), strict=True)
    return first, (others or [first])[0]


def _distinct(
    cases: Sequence[CaseData], window: Sequence[tuple[float, float]], axes: Sequence[int]
) -> list[list[CaseData]]:
    """The cases in groups of those whose trajectories are the same to the eye."""
    span = np.array([high - low for low, high in window])
    groups: list[tuple[Array, list[CaseData]]] = []
    for case in cases:
        points = points_of(case.trajectories)[:, axes]
        for known, own in groups:
            near = SAME * span + 1e-6 * np.abs(known)
            if len(known) == len(points) and (np.abs(known - points) <= near).all():
                own.append(case)
                break
        else:
            groups.append((points, [case]))
    return [own for _, own in groups]


def _panels(
    context: FigureContext, groups: Sequence[list[CaseData]]
) -> dict[str, list[list[CaseData]]]:
    """Groups of cases by the title of their panel: few have one, of many each optimizer has one.

    Optimizers of a family (from scratch and torch's), or that take the same path, share a panel.
    """
    if len(groups) <= DISTINCT:
        return {"": list(groups)}
    families = {name: look.family for name, look in looks_of(context.results).items()}
    kinds: list[set[str]] = []
    for own in groups:
        joint = {families[case.optimizer] for case in own}
        joint = joint.union(*(known for known in kinds if known & joint))
        kinds = [known for known in kinds if not known & joint] + [joint]
    panels: dict[int, list[list[CaseData]]] = {}
    for own in groups:
        place = next(i for i, known in enumerate(kinds) if families[own[0].optimizer] in known)
        panels.setdefault(place, []).append(own)
    return {", ".join(dict.fromkeys(map(_names, own))): own for own in panels.values()}


def _names(cases: Sequence[CaseData]) -> str:
    return " = ".join(dict.fromkeys(case.optimizer for case in cases))


def _label(context: FigureContext, cases: Sequence[CaseData]) -> str:
    """``adagrad = torch_adagrad (lr=2)``, and the device where there are others without it."""
    settings = {case.setting for case in cases}
    if len(settings) == 1:
        setting = settings.pop()
        text = _names(cases) + (f" ({setting})" if setting else "")
    else:
        text = " = ".join(dict.fromkeys(case.label for case in cases))
    devices, known = devices_of(cases), devices_of(context.ran_on(cases[0].objective))
    if len(devices) < len(known):
        text += f" on {join(devices)}"
    notes = dict.fromkeys(context.outcomes[case.position].note for case in cases)
    return ", ".join([text, *(note for note in notes if note)])


def _drawn(
    context: FigureContext,
    info: ObjectiveInfo,
    groups: Sequence[list[CaseData]],
    window: Window,
    curve: Array,
    axes: Sequence[int],
) -> tuple[Trajectory, ...]:
    """The trajectories of a panel, each in the style of the first of its family."""
    found = []
    for own in groups:
        case = max(own, key=lambda one: context.styles[one.position].width)
        style = context.styles[case.position]
        points = points_of(case.trajectories)
        at = thinned(len(points), POINTS)
        points = points[at]
        if len(curve):
            points = _upon(curve, points[:, axes[0]], at, info, case)
        points, at = points[: _in_reach(points, window)], at[: _in_reach(points, window)]
        found.append(
            Trajectory(
                label=_label(context, own),
                style=replace(style, dashes=()) if len(groups) <= SOLID else style,
                points=points,
                failed=has_failed(context, case),
                steps=at,
                # Upon a curve the points count, not the lines between them.
                marked=np.arange(len(points)) if len(curve) else _marked(points, window),
                end=_end(points, window),
                seed=min(case.trajectories),
                optimizers=tuple(dict.fromkeys(one.optimizer for one in own)),
            )
        )
    return tuple(found)


def _marked(points: Array, window: Window) -> Seeds:
    """The points that have a marker: all of few, of many some that are evenly far apart."""
    if len(points) <= MARKED:
        return np.arange(len(points))
    low, high = np.transpose(window)
    seen = (np.clip(points, low, high) - low) / (high - low)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(seen, axis=0), axis=1))])
    apart = max(APART, float(way[-1]) / 12)
    return np.unique(np.searchsorted(way, np.arange(apart / 2, float(way[-1]), apart)))


def _caption(panels: Sequence[PlanePanel], cases: Sequence[CaseData], dimension: int) -> str:
    """The meaning of the marks, as far as there are any."""
    drawn = [one for panel in panels for one in panel.trajectories]
    said = [PLANE_CAPTION if dimension == 2 else CURVE_CAPTION]
    if sum(len(one.optimizers) > 1 for one in drawn):
        said.append("Joined by “=”: the same path, to within a thousandth of the axes.")
    return joined([*said, seed_caption(cases, failed=any(one.failed for one in drawn))])


def seed_caption(cases: Sequence[CaseData], *, failed: bool) -> str:
    """The seed that is drawn of each case, and how trials end that did not finish."""
    seeds = {min(case.trajectories) for case in cases}
    said = f"Seed {seeds.pop()} is shown." if len(seeds) == 1 else "The lowest seeds are shown."
    if max(len(points_of(case.trajectories)) for case in cases) > POINTS:
        said += f" At most {POINTS} points each."
    return said + (" Cross: a trial that failed, at the last point it reached." if failed else "")


def _in_reach(points: Array, window: Window) -> int:
    """Count the points up to the one that leaves for good: as far as the window is wide."""
    low, high = np.transpose(window)
    near = ((points >= 2 * low - high) & (points <= 2 * high - low)).all(axis=1)
    return min(len(points), int(np.flatnonzero(near)[-1:].sum()) + 2)


def in_window(points: Array, window: Window) -> Array:
    """A trajectory up to where it leaves for good: as far as the window is wide."""
    return points[: _in_reach(points, window)]


def _end(points: Array, window: Window) -> Array:
    """The last point; of a trajectory that ends beyond the window the place where it leaves."""
    low, high = np.transpose(window)
    place: Array = points[-1]
    for start, end in zip(points[-2::-1], points[:0:-1], strict=True):
        if (start == end).all() or ((place >= low) & (place <= high)).all():
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            ways = np.sort([(low - start) / (end - start), (high - start) / (end - start)], axis=0)
        enters, leaves = np.nanmax(ways[0]), np.nanmin(ways[1])
        if 0 <= leaves <= 1 and enters <= leaves:
            place = np.clip(start + leaves * (end - start), low, high)
    return np.clip(place, low, high)


def _outside(panels: Sequence[PlanePanel], window: Window) -> str:
    """A note on trajectories that end where nothing is drawn; empty where all are in sight."""
    low, high = np.transpose(window)
    found = [
        one.label
        for panel in panels
        for one in panel.trajectories
        if (one.points[-1] < low).any() or (one.points[-1] > high).any()
    ]
    return f"Ends beyond the edge: {join(found)}." if found else ""


# One parameter


def _curve(info: ObjectiveInfo, axis: int, case: CaseData) -> Array:
    """The loss over the only parameter that moves, ``(points, 2)``."""
    landscape = np.asarray(info.landscape)
    window = info.window or ()
    x = np.linspace(*window[axis], landscape.shape[-1])
    loss = landscape
    if landscape.ndim == 2:
        # Of the grid the line through the other parameter's only value.
        other = 1 - axis
        grid = np.linspace(*window[other], landscape.shape[0])
        rows = landscape if axis == 0 else landscape.T
        value = points_of(case.trajectories)[0, other]
        loss = np.array([np.interp(value, grid, column) for column in rows.T])
    kept = np.isfinite(loss)
    return np.column_stack([x[kept], loss[kept]])


def _upon(curve: Array, x: Array, steps: Seeds, info: ObjectiveInfo, case: CaseData) -> Array:
    """Points of a trajectory with their loss: as recorded, else as the curve has it."""
    loss = np.interp(x, *curve.T)
    row = int(np.flatnonzero(case.seeds == min(case.trajectories))[0])
    recorded = dict(zip(info.record_steps.tolist(), case.losses[row].tolist(), strict=True))
    known = np.array([recorded.get(step, math.nan) for step in steps.tolist()])
    return np.column_stack([x, np.where(np.isfinite(known), known, loss)])


def _minimizers(
    info: ObjectiveInfo, axes: Sequence[int], curve: Array
) -> tuple[tuple[float, ...], ...]:
    """The minima within what is drawn."""
    if len(axes) == 2:
        return info.minimizers
    places = dict.fromkeys(point[axes[0]] for point in info.minimizers)
    if info.optimum is not None:
        return tuple((place, info.optimum) for place in places)
    return tuple((place, float(np.interp(place, *curve.T))) for place in places)


def _axes(info: ObjectiveInfo, axes: Sequence[int]) -> tuple[str, str]:
    if len(axes) == 2:
        return "x1", "x2"
    return (f"x{axes[0] + 1}" if info.dimension > 1 else "x"), "loss"


def _still(info: ObjectiveInfo, axes: Sequence[int], cases: Sequence[CaseData]) -> str:
    """A note on the parameter that never moves; empty where all do."""
    if len(axes) == info.dimension:
        return ""
    (other,) = set(range(info.dimension)) - set(axes)
    value = points_of(cases[0].trajectories)[0, other]
    return f"x{other + 1} is {value:.6g} in every trial, from the start to the end."
