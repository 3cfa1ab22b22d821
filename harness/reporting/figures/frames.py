"""Axes, titles, legends and marks that every kind of figure shares."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from harness.reporting.figures.plotting import mpl  # noqa: F401  # before any part of matplotlib

# isort: split

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from harness.reporting.figures.records import CurveFigure, FigureRecord, PlaneFigure
from harness.reporting.figures.styles import PART_DASHES, Style

FOREGROUND, GRID, BACKGROUND = "#1a1b1c", "#d0d1d2", "#fefefd"
"""Ink, grid and paper: all that isn't data has one of these, and a page may replace them."""

WIDTH = 7.9
"""Inches, of every figure."""

SMALL = 9.0
"""Size of the smallest text, in points."""

LEGEND_ROW = 0.19
"""Inches of a row of a legend; a figure with many rows is higher."""

LINE_LENGTH = 100
"""Characters of small text in the width of a figure, about."""

DASHED: dict[str, Any] = {"color": FOREGROUND, "linewidth": 1.0, "dashes": (4, 3), "zorder": 2}
EDGED: dict[str, Any] = {"markeredgecolor": BACKGROUND, "markeredgewidth": 0.8, "linestyle": ""}

NO_EDGE: dict[str, Any] = {"markeredgewidth": 0, "linestyle": ""}

PLANE_MARKS = ("start", "end", "minimum", "failed")
"""Entries of the legend of trajectories that no case stands for."""

END_LABEL, CROSS_LABEL, BEYOND_LABEL = "end", "failed", "beyond the axis"
"""Entries of a legend that stand for marks of several colours."""


def grid(
    count: int, columns: int, heights: Sequence[float], **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with axes row by row; room for the legend is found when the figure is laid out."""
    size = (WIDTH, sum(heights) + 0.7)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08))
    axes = figure.subplots(
        len(heights), columns, squeeze=False, height_ratios=list(heights), **shared
    ).ravel()
    for ax in axes[count:]:
        ax.remove()
    return figure, list(axes[:count])


def entitle(ax: Axes, title: str, columns: int) -> None:
    """Put a title above a panel, in lines of its width."""
    ax.set_title(wrapped(title, LINE_LENGTH // columns - 6))


def wrapped(text: str, length: int) -> str:
    """The text in at most four lines of a length."""
    return "\n".join(textwrap.wrap(text, length, max_lines=4, placeholder=" …"))


def finished(figure: Figure, record: FigureRecord) -> Figure:
    """The figure with the labels of all axes above them, each once, and the note below them."""
    if record.note:
        note = textwrap.fill(record.note, LINE_LENGTH)
        figure.supxlabel(note, x=0.01, ha="left", fontsize=SMALL)
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        for line in ax.lines:
            label = str(line.get_label())
            # Matplotlib's own names of what has no label begin so.
            if label and not label.startswith("_child"):
                entries.setdefault(label, _neutral(label, line))
    entries |= _of_parts(record)
    if isinstance(record, PlaneFigure):
        # What the marks of all trajectories mean stands after their lines.
        entries = dict(sorted(entries.items(), key=lambda entry: entry[0] in PLANE_MARKS))
    if entries:
        names = [wrapped(label, LINE_LENGTH - 10) for label in entries]
        # A legend leaves out what begins with an underscore.
        names = [f" {name}" if name.startswith("_") else name for name in names]
        longest = max(len(line) for name in names for line in name.split("\n"))
        columns = max(1, min(len(names), LINE_LENGTH // (longest + 8)))
        rows = math.ceil(len(names) / columns)
        figure.set_figheight(figure.get_figheight() + LEGEND_ROW * max(0, rows - 2))
        figure.legend(list(entries.values()), names, loc="outside upper left", ncols=columns)
    return figure


def _of_parts(record: FigureRecord) -> dict[str, Line2D]:
    """The entries of parts of the data, whose lines have the colours of several optimizers."""
    panels = record.panels if isinstance(record, CurveFigure) else ()
    labels = dict.fromkeys(line.label for panel in panels for line in panel.lines if line.part)
    looks: dict[str, dict[str, Any]] = {
        label: {"dashes": PART_DASHES[label]} if PART_DASHES[label] else {} for label in labels
    }
    return {
        label: Line2D([], [], color=FOREGROUND, linewidth=1.8, **look)
        for label, look in looks.items()
    }


def _neutral(label: str, line: Line2D) -> Line2D:
    """The look of an entry: without a colour where marks of several colours share it."""
    if label == CROSS_LABEL:
        return Line2D([], [], **{**cross_look(), "color": FOREGROUND})
    if label == BEYOND_LABEL:
        return Line2D([], [], marker="<", markersize=6, color=FOREGROUND, **NO_EDGE)
    if label == END_LABEL:
        return Line2D([], [], marker="o", markersize=8.5, color=FOREGROUND, alpha=0.5, **NO_EDGE)
    return line


def dash_look(style: Style) -> dict[str, Any]:
    """The dashes of a style, as matplotlib names them."""
    return {"dashes": style.dashes} if style.dashes else {"linestyle": "-"}


def marker_look(style: Style, size: float = 5.5) -> dict[str, Any]:
    """The colour and the marker of a style, likewise."""
    return {
        "color": style.color,
        "marker": style.marker,
        "markersize": size,
        "markerfacecolor": style.color if style.filled else BACKGROUND,
        "markeredgecolor": BACKGROUND if style.filled else style.color,
        "markeredgewidth": 0.6 if style.filled else 1.3,
    }


def cross_look(size: float = 6) -> dict[str, Any]:
    """The mark at the end of a trial that failed, likewise."""
    return {
        "marker": "x",
        "markersize": size,
        "markeredgewidth": 1.4,
        "linestyle": "",
        "label": CROSS_LABEL,
    }
