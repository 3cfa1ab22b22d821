"""Trajectories over landscapes and curves, drawn with matplotlib; nothing is worked out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.reporting.figures.plotting import mpl  # noqa: F401  # before any part of matplotlib

# isort: split

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from harness.reporting.figures import contours
from harness.reporting.figures.backdrops import Backdrop
from harness.reporting.figures.frames import (
    EDGED,
    END_LABEL,
    FOREGROUND,
    SMALL,
    WIDTH,
    cross_look,
    dash_look,
    entitle,
    finished,
    grid,
    marker_look,
)
from harness.reporting.figures.records import (
    Array,
    GalleryFigure,
    PlaneFigure,
    PlanePanel,
    Trajectory,
)
from harness.reporting.figures.ticks import few_ticks

FINE, THIN = 1.5, 0.7
"""Points, of the line of a trajectory with many steps, and of one upon a curve."""

SMALL_TITLE, LONGEST_TITLE = 19, 27
"""Characters above a small panel in usual letters, and in the smallest."""

SHADE = 0.08
"""Share of ink in the paper where the loss is highest, so that every line stands out from it."""


def gallery(record: GalleryFigure) -> Figure:
    """Small panels without axes, each with one trajectory over the contours of a landscape."""
    rows = math.ceil(len(record.panels) / record.columns)
    height = (WIDTH - 0.2) / record.columns
    figure, axes = grid(
        len(record.panels), record.columns, [height] * rows, sharex=True, sharey=True
    )
    found = contours.contours(record)
    for ax, panel in zip(axes, record.panels, strict=True):
        _draw_landscape(ax, record, found, _small_minima(ax, record))
        _draw_small(ax, panel.trajectories[0])
        title = panel.title
        if len(title) > LONGEST_TITLE:
            title = f"{title[: LONGEST_TITLE - 1]}…"
        size = (SMALL - 1.5) * min(1.0, SMALL_TITLE / len(title))
        ax.set_title(title, fontsize=round(size, 1), pad=2)
        ax.grid(visible=False)
        ax.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
        ax.set(xlim=record.window[0], ylim=record.window[1])
    return finished(figure, record)


def _small_minima(ax: Axes, record: GalleryFigure) -> list[Artist]:
    """Stars in ink."""
    ink: dict[str, Any] = {"color": FOREGROUND, "linestyle": "", **EDGED}
    star: dict[str, Any] = {"marker": "*", "markersize": 5, "alpha": 0.45, "zorder": 1, **ink}
    return [line for point in record.minimizers for line in ax.plot(*point[:2], **star)]


def _draw_small(ax: Axes, trajectory: Trajectory) -> None:
    """A line, a ring at its start and a dot at its end, all in ink: shape alone tells them."""
    ink: dict[str, Any] = {"color": FOREGROUND, "linestyle": "", **EDGED}
    line: dict[str, Any] = {
        "color": trajectory.style.color,
        "linewidth": FINE,
        "solid_joinstyle": "round",
    }
    ax.plot(*trajectory.points.T, zorder=5, **line)
    ring: dict[str, Any] = {
        **EDGED,
        "color": "none",
        "markeredgecolor": FOREGROUND,
        "markeredgewidth": 1.0,
    }
    ax.plot(*trajectory.points[0], marker="o", markersize=5.5, zorder=6, **ring)
    end: dict[str, Any] = (
        cross_look(5.5) | {"color": FOREGROUND} if trajectory.failed else {**ink, "marker": "o"}
    )
    ax.plot(*trajectory.end, clip_on=False, zorder=7, **{"markersize": 4.0, **end, "label": ""})


def planes(record: PlaneFigure) -> Figure:
    """Trajectories over the contours of a landscape, or upon a curve."""
    columns = record.columns
    (left, right), (low, high) = record.window
    lowest, highest = (0.5, 0.75) if columns == 1 else (0.65, 1.0)
    aspect = min(max((high - low) / (right - left), lowest), highest)
    aspect = lowest if len(record.curve) else aspect
    rows = math.ceil(len(record.panels) / columns)
    height = (WIDTH - 0.8) / columns * aspect
    figure, axes = grid(len(record.panels), columns, [height] * rows, sharex=True, sharey=True)
    found = contours.contours(record)
    for i, (ax, panel) in enumerate(zip(axes, record.panels, strict=True)):
        _draw_landscape(ax, record, found)
        _draw_plane(ax, record, panel)
        entitle(ax, panel.title, columns)
        ax.grid(visible=False)
        x, y = record.axes
        is_last = i + columns >= len(axes)  # of its column, which may end above an empty place
        ax.tick_params(labelbottom=is_last)
        ax.set(xlabel=x if is_last else "", ylabel="" if i % columns else y)
        ax.set(xlim=record.window[0], ylim=record.window[1])
        if columns > 1:
            few_ticks(ax, 5)
            ax.yaxis.set_major_locator(MaxNLocator(5))
    return finished(figure, record)


def _draw_landscape(
    ax: Axes,
    record: PlaneFigure,
    found: Sequence[contours.Contour],
    above: Sequence[Artist] = (),
) -> None:
    """The curve, or areas and contours, with what lies on them and is in every panel."""
    if len(record.curve):
        line = ax.plot(*record.curve.T, color=FOREGROUND, linewidth=1.2, alpha=0.5, zorder=1)
        Backdrop(ax, line, 0)
        return
    ink: dict[str, Any] = {"linewidth": 0, "facecolor": FOREGROUND, "zorder": 0.5}
    parts: list[Artist] = []
    for one in found:
        for area in one.areas:
            alpha = 1 - (1 - SHADE) ** (1 / len(found))
            parts.append(ax.add_patch(PathPatch(_joined(area), alpha=alpha, **ink)))
    known = contours.grid_of(record)
    thin: dict[str, Any] = {"alpha": 0.32, "zorder": 1}
    if record.columns > 2 or known is None:
        lines = [line for one in found for line in one.lines]
        if lines:
            look = {"fill": False, "edgecolor": FOREGROUND, "linewidth": 0.6}
            parts.append(ax.add_patch(PathPatch(_joined(lines), **look, **thin)))
        if parts := [*parts, *above]:
            Backdrop(ax, parts, 0)
        return
    levels = [one.level for one in found]
    drawn = ax.contour(*known, levels, colors=[FOREGROUND], linewidths=0.7, **thin)
    places = [one.label for one in found if one.label]
    for text in ax.clabel(drawn, levels, fmt=_level, fontsize=SMALL, manual=places):
        text.set(alpha=0.8)


def _joined(lines: Sequence[Array]) -> Path:
    return Path.make_compound_path(*(Path(line) for line in lines))


def _level(value: float) -> str:
    """The number at a contour."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{float(f'{value:.3g}'):,.0f}"


def _draw_plane(ax: Axes, record: PlaneFigure, panel: PlanePanel) -> None:
    # A panel that is named after its only trajectory needs no legend.
    is_named = len(panel.trajectories) > 1 or not panel.title
    for start in {tuple(trajectory.points[0]) for trajectory in panel.trajectories}:
        ring = {**EDGED, "markeredgecolor": FOREGROUND, "markeredgewidth": 1.4}
        ax.plot(*start, marker="o", markersize=10, color="none", zorder=7, label="start", **ring)
    for i, trajectory in enumerate(panel.trajectories):
        label = trajectory.label if is_named else ""
        order = 5 + i / len(panel.trajectories)
        _draw_trajectory(ax, trajectory, label, order, upon=len(record.curve) > 0)
    for point in record.minimizers:
        star = {
            "marker": "*",
            "markersize": 8.5,
            "color": FOREGROUND,
            "label": "minimum",
            **EDGED,
        }
        ax.plot(*point[:2], zorder=8, **star)


def _draw_trajectory(
    ax: Axes, trajectory: Trajectory, label: str, order: float, *, upon: bool
) -> None:
    style, points = trajectory.style, trajectory.points
    if trajectory.failed:
        line: dict[str, Any] = {"color": style.color, "linewidth": 0.9, "alpha": 0.75}
        ax.plot(*points.T, zorder=order, label=label, **line)
        ax.plot(*trajectory.end, color=style.color, clip_on=False, zorder=order + 1, **cross_look())
        return
    is_long = len(points) > len(trajectory.marked)
    width = THIN if upon else min(style.width, FINE) if is_long else style.width
    line = {"linewidth": width, **dash_look(style), **marker_look(style, 4.2)}
    marked = trajectory.marked.tolist()
    ax.plot(*points.T, label=label, zorder=order, markevery=marked, **line)
    mark = {"linestyle": "", "label": END_LABEL, **marker_look(style, 9.5)}
    ax.plot(*trajectory.end, clip_on=False, zorder=order + 1, **mark)
