"""Rows of dots with estimates and intervals, drawn with matplotlib and seaborn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.reporting.figures.plotting import mpl  # noqa: F401  # before any part of matplotlib

# isort: split

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reporting.figures.frames import (
    BACKGROUND,
    BEYOND_LABEL,
    DASHED,
    EDGED,
    FOREGROUND,
    NO_EDGE,
    entitle,
    finished,
    grid,
    marker_look,
    wrapped,
)
from harness.reporting.figures.records import DotFigure, DotPanel, DotRow
from harness.reporting.figures.ticks import few_ticks, set_scale

ARROWS = {-1: "<", 1: ">"}
"""Marks at the edge that a value is beyond."""


def dots(record: DotFigure) -> Figure:
    """Rows of dots, each with an estimate and its interval."""
    figure, axes = _row_grid(record.panels, record.columns)
    for ax, panel in zip(axes, record.panels, strict=True):
        _draw_rows(ax, panel, record)
        entitle(ax, panel.title, record.columns)
        if record.columns > 1:
            few_ticks(ax, 5 if record.columns == 2 else 3)
    return finished(figure, record)


def _draw_rows(ax: Axes, panel: DotPanel, record: DotFigure) -> None:
    if any(len(row.values) for row in panel.rows):
        _draw_dots(ax, panel)
        ax.plot([], [], "o", color=FOREGROUND, markersize=4, label=record.dot_label)
    for place, row in enumerate(panel.rows):
        dotted = len(row.values) > 0
        color = FOREGROUND if dotted else row.style.color
        _draw_interval(ax, panel, place, row, color)
        _draw_estimate(ax, panel, place, row, record.centre_label if dotted else row.legend)
        _draw_limits(ax, place, row)
        if not dotted and math.isnan(row.centre):
            ax.text(0.01, place, row.empty, transform=ax.get_yaxis_transform(), va="center")
    if panel.reference_line is not None:
        ax.axvline(panel.reference_line, label=panel.reference_label, **DASHED)
    set_scale(ax.xaxis, panel.limits, log=panel.log)
    ax.set(xlabel=panel.x_label, ylabel="")


def _draw_dots(ax: Axes, panel: DotPanel) -> None:
    counts = [len(row.values) for row in panel.rows]
    middle = np.repeat(np.arange(len(counts)), counts)
    x = np.concatenate([row.values for row in panel.rows])
    y = middle + 0.5 * np.concatenate([row.offsets for row in panel.rows])
    sides = np.array([panel.side(value) for value in x])
    inside = sides == 0
    if inside.any():
        sns.scatterplot(
            x=x[inside],
            y=y[inside],
            hue=middle[inside],
            palette={i: row.style.color for i, row in enumerate(panel.rows)},
            s=15,
            alpha=0.8,
            linewidth=0,
            legend=False,
            clip_on=False,
            ax=ax,
            zorder=3,
        )
    for i in np.flatnonzero(~inside):
        color = panel.rows[middle[i]].style.color
        _draw_arrow(ax, panel, int(sides[i]), float(y[i]), color, size=4)


def _draw_arrow(
    ax: Axes, panel: DotPanel, side: int, place: float, color: str, *, size: float
) -> None:
    edge = panel.limits[side > 0]
    ax.plot(
        [edge], [place], ARROWS[side], color=color, markersize=size, clip_on=False, zorder=6,
        label=BEYOND_LABEL, **NO_EDGE,
    )  # fmt: skip


def _draw_estimate(ax: Axes, panel: DotPanel, place: int, row: DotRow, label: str) -> None:
    """The estimate: in ink where it stands before dots, else in the style of its case."""
    dotted = len(row.values) > 0
    look: dict[str, Any] = {"color": FOREGROUND, "marker": "D", "markersize": 5, **EDGED}
    if not dotted:
        look = {**marker_look(row.style, 6.5), "linestyle": ""}
    if math.isnan(row.centre):
        return
    side = panel.side(row.centre)
    if not side:
        ax.plot([row.centre], [place], zorder=6, label=label, **look)
        return
    _draw_arrow(ax, panel, side, place, look["color"], size=8)
    ax.annotate(
        row.centre_text, (panel.limits[side > 0], place), (-9 * side, 0),
        textcoords="offset points", ha="right" if side > 0 else "left", va="center",
        bbox={"color": BACKGROUND, "pad": 1.0}, zorder=7,
    )  # fmt: skip


def _draw_limits(ax: Axes, place: int, row: DotRow) -> None:
    if math.isfinite(row.limit):
        ends = [place - 0.45, place + 0.45]
        ax.plot([row.limit] * 2, ends, ":", color=FOREGROUND, linewidth=1.6, label="limit")
    if math.isfinite(row.published):
        ax.plot(
            [row.published], [place], marker="*", markersize=13, color=FOREGROUND, zorder=7,
            label="as published", **EDGED,
        )  # fmt: skip


def _draw_interval(ax: Axes, panel: DotPanel, place: int, row: DotRow, color: str) -> None:
    """The interval, with an arrow in place of an end that is beyond the frame."""
    if not row.low < row.high:
        return
    sides = panel.side(row.low), panel.side(row.high)
    if sides[0] * sides[1] <= 0:
        ends = (
            panel.limits[side > 0] if side else end
            for side, end in zip(sides, (row.low, row.high), strict=True)
        )
        ax.plot(
            list(ends), [place, place], color=color, linewidth=1.5, marker="|", markersize=8,
            markeredgewidth=1.5, zorder=5, markevery=[i for i in (0, 1) if not sides[i]],
        )  # fmt: skip
    for side in {*sides} - {0}:
        _draw_arrow(ax, panel, side, place, color, size=6)


def _row_grid(panels: Sequence[DotPanel], columns: int) -> tuple[Figure, list[Axes]]:
    """Axes as high as their rows, whose names stand at the left of panels that share them."""
    names = [[_row_name(row) for row in panel.rows] for panel in panels]
    least = 0.3 if columns == 1 else 0.22
    heights = [
        0.55 + max(_height(own, least) for own in names[i : i + columns])
        for i in range(0, len(names), columns)
    ]
    figure, axes = grid(len(panels), columns, heights)
    for i, ax in enumerate(axes):
        first = i // columns * columns
        most = max(len(own) for own in names[first : first + columns])
        if panels[i].is_named:
            ax.set_yticks(range(len(names[i])), names[i])
        else:
            ax.set_yticks([])
        ax.set_ylim(most - 0.4, -0.6)
        ax.tick_params(axis="y", left=False)
        ax.grid(visible=False, axis="y")
    return figure, axes


def _height(names: Sequence[str], least: float) -> float:
    """Inches of evenly spaced rows, that leave room for names of several lines."""
    own = [max(least, 0.085 + 0.155 * (name.count("\n") + 1)) for name in names]
    return max(sum(own), 0.85 * len(own) * max(own))


def _row_name(row: DotRow) -> str:
    return "\n".join([wrapped(row.label, 30), *([row.note] if row.note else [])])
