"""The panels of each kind of figure, drawn with matplotlib and seaborn; nothing is worked out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.reporting.figures.plotting import mpl  # before any part of matplotlib

# isort: split

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy.interpolate import griddata

from harness.reporting.figures.backdrops import Backdrop
from harness.reporting.figures.frames import (
    BACKGROUND,
    BEYOND_LABEL,
    DASHED,
    EDGED,
    FOREGROUND,
    NO_EDGE,
    cross_look,
    dash_look,
    entitle,
    finished,
    grid,
    marker_look,
)
from harness.reporting.figures.records import (
    HEAT_COLORS,
    CurveFigure,
    CurvePanel,
    HeatFigure,
    HeatPanel,
    Line,
    Mark,
    thinned,
)
from harness.reporting.figures.ticks import few_ticks, log_ticks, own_powers, set_scale

MARKS, BAND_POINTS = 6, 41
"""Most marks of a line, and points of either edge of its band, in a picture on paper."""

# Curves


def curves(record: CurveFigure) -> Figure:
    """Panels of lines with their bands."""
    columns = record.columns
    shared = columns > 1 and len({panel.limits for panel in record.panels}) == 1
    height = 3.3 if len(record.panels) == 1 else (2.75, 2.75, 2.3, 1.9)[min(columns, 4) - 1]
    rows = math.ceil(len(record.panels) / columns)
    figure, axes = grid(len(record.panels), columns, [height] * rows, sharey=shared)
    kinds: dict[int, int] = {}
    for i, (ax, panel) in enumerate(zip(axes, record.panels, strict=True)):
        if panel.is_blank:
            ax.set_axis_off()
            continue
        _draw_curves(ax, panel, kinds.setdefault(id(panel.behind), len(kinds)))
        entitle(ax, panel.title, columns)
        if shared and i % columns:
            ax.set_ylabel("")
        if columns > 3:
            few_ticks(ax)
    return finished(figure, record)


def _draw_curves(ax: Axes, panel: CurvePanel, kind: int) -> None:
    """Lines and what is behind them, which panels of a kind share."""
    front = [line for line in panel.lines if not line.faint and not line.failed]
    shared = [part for line in panel.behind for part in _draw_back(ax, line, panel.limits)]
    if shared:
        Backdrop(ax, shared, kind)
    for line in panel.lines:
        if line.faint or line.failed:
            _draw_back(ax, line, panel.limits)
    for i, line in enumerate(front):
        if len(line.x_low):
            _draw_point(ax, panel, line)
        else:
            _draw_front(ax, line, i, len(front))
            _draw_exits(ax, panel, line)
    if panel.reference_line is not None:
        ax.axhline(panel.reference_line, label=panel.reference_label, **DASHED)
    _draw_marks(ax, panel.marks)
    set_scale(ax.yaxis, panel.limits, log=panel.log)
    if panel.title and not panel.log:
        own_powers(ax.yaxis, panel.limits)
    _set_x(ax, panel)
    ax.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.has_legend:
        _draw_legend(ax, {line.label for line in front})


def _draw_legend(ax: Axes, names: set[str]) -> None:
    """A legend of some lines inside a panel, which are then in no other."""
    lines = [line for line in ax.lines if str(line.get_label()) in names]
    ax.legend(handles=lines, handlelength=1.6, borderaxespad=0.2)
    for line in lines:
        line.set_label("")


def _set_x(ax: Axes, panel: CurvePanel) -> None:
    if panel.x_log:
        ax.set_xscale("log")
        log_ticks(ax.xaxis, ax.get_xlim())
    elif panel.x_label == "step":
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if panel.ticks:
        ax.set_xticks([place for place, _ in panel.ticks], [name for _, name in panel.ticks])


def _draw_point(ax: Axes, panel: CurvePanel, line: Line) -> None:
    """A single point with an interval each way, and an arrow for what is beyond the frame."""
    style, (bottom, top), x = line.style, panel.limits, float(line.x[0])
    y, low, high = (float(values[0]) for values in (line.y, line.low, line.high))
    at = min(max(y, bottom), top)
    ax.plot([*line.x_low, *line.x_high], [at, at], color=style.color, linewidth=1.5, zorder=4)
    ax.plot([x, x], np.clip([low, high], bottom, top), color=style.color, linewidth=1.5, zorder=4)
    look = {**marker_look(style, 7.5), "linestyle": "", "label": line.label, "zorder": 5}
    ax.plot([x][at != y :], [y][at != y :], **look)
    if min(y, low) < bottom:
        _draw_arrow(ax, x, bottom, "v", style.color)
    if max(y, high) > top:
        _draw_arrow(ax, x, top, "^", style.color)


def _draw_exits(ax: Axes, panel: CurvePanel, line: Line) -> None:
    """Marks where a line first leaves the frame through its lower and its upper edge."""
    for x, side in panel.exits(line):
        mark = "v" if side < 0 else "^"
        _draw_arrow(ax, x, panel.limits[side > 0], mark, line.style.color)


def _draw_arrow(ax: Axes, x: float, y: float, mark: str, color: str) -> None:
    ax.plot(
        [x], [y], mark, color=color, markersize=6, clip_on=False, zorder=8, label=BEYOND_LABEL,
        **NO_EDGE,
    )  # fmt: skip


def _draw_front(ax: Axes, line: Line, order: int, count: int) -> None:
    style = line.style
    if len(line.low):
        alpha = 0.22 if count <= 6 else 0.12
        edges = np.stack([line.x, line.low, line.high])
        changes = (np.diff(edges[1:], prepend=np.nan) != 0).any(axis=0)
        # Where a band goes on as it is, only the ends count.
        at = np.flatnonzero(changes | np.append(changes[1:], True))
        at = at[thinned(len(at), BAND_POINTS)]
        ax.fill_between(*edges[:, at], color=style.color, alpha=alpha, linewidth=0, zorder=3)
    every = max(1, math.ceil(len(line.x) / MARKS))
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


def _draw_back(ax: Axes, line: Line, limits: tuple[float, float]) -> list[Line2D]:
    """A faint line, or one that failed, which ends in a cross above all others."""
    if not len(line.x):
        return []
    color = line.style.color
    drawn = ax.plot(
        line.x, line.y, color=color, linewidth=0.8, alpha=0.35 if line.faint else 0.75, zorder=2.5
    )
    if line.failed:
        # A curve that left the frame has its cross on the edge.
        end = np.clip(line.y[-1:], *limits)
        ax.plot(line.x[-1:], end, color=color, clip_on=False, zorder=7, **cross_look())
    return drawn


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
        cross = {**cross_look(4), "label": "some seed failed", "color": FOREGROUND}
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
