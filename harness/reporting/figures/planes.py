"""Trajectories over landscapes, drawn with matplotlib; nothing is worked out."""

from __future__ import annotations

import math
from typing import Any

from harness.reporting.figures.plotting import mpl  # noqa: F401  # before any part of matplotlib

# isort: split

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
from harness.reporting.figures.records import LABELED_LEVELS, PlaneFigure, PlanePanel, Trajectory
from harness.reporting.figures.ticks import few_ticks

CONTOUR_CELLS = 50
"""Cells each way from which the contours of small panels are drawn."""


def planes(record: PlaneFigure) -> Figure:
    """Trajectories over the contours of a landscape."""
    columns = record.columns
    (left, right), (low, high) = record.window
    aspect = min(max((high - low) / (right - left), 0.5), 0.75 if columns == 1 else 1.0)
    rows = math.ceil(len(record.panels) / columns)
    height = (WIDTH - 0.8) / columns * aspect
    figure, axes = grid(len(record.panels), columns, [height] * rows, sharex=True, sharey=True)
    single = len(axes) > 1 and all(len(panel.trajectories) == 1 for panel in record.panels)
    for i, (ax, panel) in enumerate(zip(axes, record.panels, strict=True)):
        _draw_landscape(ax, record)
        _draw_plane(ax, record, panel, labeled=not single)
        entitle(ax, panel.title, columns)
        ax.grid(visible=False)
        lowest = i + columns >= len(axes)  # of its column, which may end above an empty place
        ax.tick_params(labelbottom=lowest)
        ax.set(xlabel="x1" if lowest else "")
        ax.set(ylabel="" if i % columns else "x2", xlim=record.window[0], ylim=record.window[1])
        if columns > 1:
            few_ticks(ax, 5)
    return finished(figure, record)


def _draw_landscape(ax: Axes, record: PlaneFigure) -> None:
    known = record.contoured
    if known is None:
        return
    x1, x2, values, levels = known
    # Small panels have coarser contours.
    step = 1 if record.columns < 3 else math.ceil(len(x1) / CONTOUR_CELLS)
    x1, x2, values = x1[::step], x2[::step], values[::step, ::step]
    lines = ax.contour(
        x1, x2, values, levels, colors=[FOREGROUND], linewidths=0.7, alpha=0.32, zorder=1
    )
    if record.columns < 3:
        ax.clabel(lines, levels[-LABELED_LEVELS:], fmt=lambda v: f"{v:.3g}", fontsize=SMALL)


def _draw_plane(ax: Axes, record: PlaneFigure, panel: PlanePanel, *, labeled: bool) -> None:
    for i, trajectory in enumerate(panel.trajectories):
        order = 5 + i / len(panel.trajectories)
        _draw_trajectory(ax, record, trajectory, order, trajectory.label if labeled else "")
    for start in {tuple(trajectory.points[0]) for trajectory in panel.trajectories}:
        ring = {**EDGED, "markeredgecolor": FOREGROUND, "markeredgewidth": 1.4}
        ax.plot(*start, marker="o", markersize=10, color="none", zorder=7, label="start", **ring)
    for point in record.minimizers:
        star = {"marker": "*", "markersize": 10, "color": FOREGROUND, "label": "minimum", **EDGED}
        ax.plot(*point[:2], zorder=8, **star)


def _draw_trajectory(
    ax: Axes, record: PlaneFigure, trajectory: Trajectory, order: float, label: str
) -> None:
    style, points = trajectory.style, trajectory.points
    if trajectory.failed:
        ax.plot(*points.T, color=style.color, linewidth=0.9, alpha=0.75, zorder=order)
        # A trajectory that left the window has its cross on the edge.
        end = np.clip(points[-1:], *np.transpose(record.window))
        ax.plot(*end.T, color=style.color, clip_on=False, zorder=order, **cross_look())
        return
    line: dict[str, Any] = {"linewidth": style.width, **dash_look(style)}
    line |= marker_look(style, 3.6) if len(points) <= 60 else {"color": style.color}
    ax.plot(*points.T, label=label, zorder=order, **line)
    mark = {"linestyle": "", "label": END_LABEL, **marker_look(style, 8.5)}
    ax.plot(*points[-1:].T, zorder=order + 1, **mark)
