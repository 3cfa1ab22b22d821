"""The panels of each kind of figure, drawn with matplotlib and seaborn; nothing is worked out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.reporting.figures.plotting import mpl  # before any part of matplotlib

# isort: split

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.interpolate import griddata

from harness.reporting.figures.frames import (
    BACKGROUND,
    DASHED,
    EDGED,
    FOREGROUND,
    cross_look,
    dash_look,
    entitle,
    finished,
    grid,
    marker_look,
    wrapped,
)
from harness.reporting.figures.records import (
    HEAT_COLORS,
    CurveFigure,
    CurvePanel,
    DotFigure,
    DotPanel,
    DotRow,
    HeatFigure,
    HeatPanel,
    Line,
    Mark,
)
from harness.reporting.figures.ticks import few_ticks, log_ticks, set_scale

MOST_DOTS = 500
"""A panel with more dots has them as an image, which takes fewer bytes than their shapes."""

# Curves


def curves(record: CurveFigure) -> Figure:
    """Panels of lines with their bands."""
    columns = record.columns
    shared = columns > 1 and len({panel.limits for panel in record.panels}) == 1
    height = 3.3 if len(record.panels) == 1 else 2.75 if columns < 3 else 2.3
    rows = math.ceil(len(record.panels) / columns)
    figure, axes = grid(len(record.panels), columns, [height] * rows, sharey=shared)
    for i, (ax, panel) in enumerate(zip(axes, record.panels, strict=True)):
        _draw_curves(ax, panel)
        entitle(ax, panel.title, columns)
        if shared and i % columns:
            ax.set_ylabel("")
    return finished(figure, record)


def _draw_curves(ax: Axes, panel: CurvePanel) -> None:
    front = [line for line in panel.lines if not line.faint and not line.failed]
    for line in panel.lines:
        if (line.faint or line.failed) and len(line.x):
            _draw_back(ax, line, panel.limits)
    for i, line in enumerate(front):
        _draw_front(ax, line, i, len(front))
    if panel.reference_line is not None:
        ax.axhline(panel.reference_line, label=panel.reference_label, **DASHED)
    _draw_marks(ax, panel.marks)
    if panel.x_log:
        ax.set_xscale("log")
        log_ticks(ax.xaxis, ax.get_xlim())
    elif panel.x_label == "step":
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    set_scale(ax.yaxis, panel.limits, log=panel.log)
    if panel.ticks:
        ax.set_xticks([place for place, _ in panel.ticks], [name for _, name in panel.ticks])
    ax.set(xlabel=panel.x_label, ylabel=panel.y_label)


def _draw_front(ax: Axes, line: Line, order: int, count: int) -> None:
    style = line.style
    if len(line.low):
        alpha = 0.22 if count <= 6 else 0.12
        edges = np.stack([line.x, line.low, line.high])
        changes = (np.diff(edges[1:], prepend=np.nan) != 0).any(axis=0)
        # Where a band goes on as it is, only the ends count.
        at = changes | np.append(changes[1:], True)
        ax.fill_between(*edges[:, at], color=style.color, alpha=alpha, linewidth=0, zorder=3)
    every = max(1, math.ceil(len(line.x) / 8))
    ax.plot(
        line.x,
        line.y,
        label=line.label,
        linewidth=style.width,
        # Markers of coinciding lines take turns.
        markevery=(order * every // count, every),
        zorder=5 + order / count,
        **dash_look(style),
        **marker_look(style),
    )


def _draw_back(ax: Axes, line: Line, limits: tuple[float, float]) -> None:
    color = line.style.color
    ax.plot(
        line.x, line.y, color=color, linewidth=0.8, alpha=0.35 if line.faint else 0.75, zorder=2.5
    )
    if line.failed:
        # A curve that left the frame has its cross on the edge.
        end = np.clip(line.y[-1:], *limits)
        ax.plot(line.x[-1:], end, color=color, clip_on=False, zorder=7, **cross_look())


def _draw_marks(ax: Axes, marks: Sequence[Mark]) -> None:
    """Dotted lines across, numbered at the top, and arrows from level to level."""
    for x in dict.fromkeys(mark.x for mark in marks):
        texts = [mark.text for mark in marks if mark.x == x]
        names = ", ".join(texts if len(texts) <= 3 else [texts[0], "…", texts[-1]])
        # Between the last check of the old level and the first of the new one.
        ax.axvline(x - 0.5, color=FOREGROUND, linewidth=1.0, linestyle=":", label="change point")
        ax.text(
            x - 0.5, 0.985, names, transform=ax.get_xaxis_transform(), ha="center", va="top",
            bbox={"color": BACKGROUND, "pad": 1.5}, zorder=8,
        )  # fmt: skip
    arrow = {"arrowstyle": "-|>", "color": FOREGROUND, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    for mark in marks:
        place = mark.x - 0.5
        ax.annotate("", (place, mark.after), (place, mark.before), arrowprops=arrow, zorder=9)


# Rows of dots


def dots(record: DotFigure) -> Figure:
    """Rows of dots, each with an estimate and its interval."""
    figure, axes = _row_grid(record.panels, record.columns)
    for ax, panel in zip(axes, record.panels, strict=True):
        _draw_dots(ax, panel, record)
        entitle(ax, panel.title, record.columns)
        if record.columns > 2:
            few_ticks(ax)
    return finished(figure, record)


def _draw_dots(ax: Axes, panel: DotPanel, record: DotFigure) -> None:
    counts = [len(row.values) for row in panel.rows]
    if sum(counts):
        middle = np.repeat(np.arange(len(counts)), counts)
        sns.scatterplot(
            x=np.concatenate([row.values for row in panel.rows]),
            y=middle + 0.5 * np.concatenate([row.offsets for row in panel.rows]),
            hue=middle,
            palette={i: row.style.color for i, row in enumerate(panel.rows)},
            s=15,
            alpha=0.8,
            linewidth=0,
            legend=False,
            clip_on=False,
            rasterized=sum(counts) > MOST_DOTS,
            ax=ax,
            zorder=3,
        )
        ax.plot([], [], "o", color=FOREGROUND, markersize=4, label=record.dot_label)
    for i, row in enumerate(panel.rows):
        _draw_estimate(ax, i, row, record.centre_label)
        if text := _absence(row, log=panel.log):
            ax.text(0.01, i, text, transform=ax.get_yaxis_transform(), va="center")
    if panel.reference_line is not None:
        ax.axvline(panel.reference_line, label=panel.reference_label, **DASHED)
    set_scale(ax.xaxis, panel.limits, log=panel.log)
    ax.set(xlabel=panel.x_label, ylabel="")


def _draw_estimate(ax: Axes, place: int, row: DotRow, label: str) -> None:
    """The estimate: in ink where it stands before dots, else in the style of its case."""
    dotted = len(row.values) > 0
    look = {"color": FOREGROUND, "marker": "D", "markersize": 5, **EDGED}
    if not dotted:
        look = {**marker_look(row.style, 6.5), "linestyle": ""}
    if math.isfinite(row.centre):
        _draw_interval(ax, place, row, FOREGROUND if dotted else row.style.color)
        ax.plot([row.centre], [place], zorder=6, label=label if dotted else row.legend, **look)
    if math.isfinite(row.limit):
        ends = [place - 0.45, place + 0.45]
        ax.plot([row.limit] * 2, ends, ":", color=FOREGROUND, linewidth=1.6, label="limit")
    if math.isfinite(row.published):
        ax.plot(
            [row.published], [place], marker="*", markersize=13, color=FOREGROUND, zorder=7,
            label="as published", **EDGED,
        )  # fmt: skip


def _draw_interval(ax: Axes, place: int, row: DotRow, color: str) -> None:
    if row.low < row.high:
        ax.plot(
            [row.low, row.high], [place, place], color=color, linewidth=1.5, marker="|",
            markersize=8, markeredgewidth=1.5, zorder=5,
        )  # fmt: skip


def _absence(row: DotRow, *, log: bool) -> str:
    """The text where there is nothing to be drawn; empty where there is."""
    if len(row.values):
        return ""
    if not math.isfinite(row.centre):
        return row.empty
    return f"{row.centre:.3g}: off the scale" if log and row.centre <= 0 else ""


def _row_grid(panels: Sequence[DotPanel], columns: int) -> tuple[Figure, list[Axes]]:
    """Axes as high as their rows, whose names stand at the left of each line of panels."""
    names = [[_row_name(row) for row in panel.rows] for panel in panels]
    least = 0.3 if columns == 1 else 0.22
    heights = [
        0.55 + sum(max(least, 0.085 + 0.155 * (name.count("\n") + 1)) for name in own)
        for own in names[::columns]
    ]
    figure, axes = grid(len(panels), columns, heights, sharey="row")
    for i, ax in enumerate(axes):
        if i % columns == 0:
            ax.set_yticks(range(len(names[i])), names[i])
            ax.set_ylim(len(names[i]) - 0.4, -0.6)
        ax.tick_params(axis="y", left=False)
        ax.grid(visible=False, axis="y")
    return figure, axes


def _row_name(row: DotRow) -> str:
    return "\n".join([wrapped(row.label, 30), *([row.note] if row.note else [])])


# Heat

HEAT_CELLS = 90
"""Cells each way of the plane that takes the colour of the nearest setting."""


def heat(record: HeatFigure) -> Figure:
    """Settings in the plane of two hyperparameters, coloured by their loss."""
    columns = record.columns
    rows = math.ceil(len(record.panels) / columns)
    height = 2.7 if columns > 1 else 3.5
    figure, axes = grid(len(record.panels), columns, [height] * rows)
    norm_class = mpl.colors.LogNorm if record.log else mpl.colors.Normalize
    colors = mpl.colormaps[HEAT_COLORS].with_extremes(bad="#9a9a9a")
    scale = mpl.cm.ScalarMappable(norm_class(*record.limits, clip=True), colors)
    for ax, panel in zip(axes, record.panels, strict=True):
        _draw_heat(ax, panel, scale)
        entitle(ax, panel.title, columns)
    bar = figure.colorbar(scale, ax=list(axes), label=record.value_label)
    if record.log:
        log_ticks(bar.ax.yaxis, record.limits)
    return finished(figure, record)


def _draw_heat(ax: Axes, panel: HeatPanel, scale: Any) -> None:
    ax.set(xscale="log" if panel.x_log else "linear", yscale="log" if panel.y_log else "linear")
    ax.margins(0.04)
    ok = np.isfinite(panel.values)
    ax.scatter(
        panel.x[ok], panel.y[ok], c=scale.to_rgba(panel.values[ok]), s=17,
        edgecolors=BACKGROUND, linewidths=0.8, zorder=3,
    )  # fmt: skip
    ax.plot([], [], "o", color="#1f9e89", label="one setting")
    if not ok.all():
        cross = {**cross_look(4), "label": "some seed did not end ok", "color": FOREGROUND}
        ax.plot(panel.x[~ok], panel.y[~ok], zorder=3, **cross)
    if panel.best is not None:
        best = (panel.x[panel.best], panel.y[panel.best])
        for ink, width, label in ((BACKGROUND, 4.5, ""), (FOREGROUND, 1.8, "lowest")):
            ring = {**EDGED, "markeredgecolor": ink, "markeredgewidth": width}
            ax.plot(*best, marker="o", markersize=11, color="none", zorder=4, label=label, **ring)
    limits = ax.set_xlim(*ax.get_xlim()), ax.set_ylim(*ax.get_ylim())
    places = (ax.transScale + ax.transLimits).transform(np.column_stack([panel.x, panel.y]))
    middles = (np.arange(HEAT_CELLS) + 0.5) / HEAT_CELLS
    nearest = griddata(places, panel.values, tuple(np.meshgrid(middles, middles)), "nearest")
    ax.imshow(
        nearest, cmap=scale.cmap, norm=scale.norm, extent=(0, 1, 0, 1), transform=ax.transAxes,
        origin="lower", aspect="auto", interpolation="none", zorder=1,
    )  # fmt: skip
    for axis, ends, log in zip((ax.xaxis, ax.yaxis), limits, (panel.x_log, panel.y_log),
                               strict=True):  # fmt: skip
        if log:
            log_ticks(axis, ends)
    ax.grid(visible=False)
    ax.set(xlabel=panel.x_label, ylabel=panel.y_label)
