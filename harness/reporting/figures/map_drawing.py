"""The matrix of a map as a matplotlib figure."""

from __future__ import annotations

import math
from typing import Any

from harness.reporting.figures.plotting import mpl  # before any part of matplotlib

# isort: split

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from harness.reporting.figures.frames import BACKGROUND, FOREGROUND, GRID, SMALL, WIDTH, wrapped
from harness.reporting.figures.win_map import MapFigure, has_numbers

LOST, WON = "#f1e7d2", "#0d3a66"
"""Colours of no seed and of all: from light to dark, between the ends of the axis of colours that
nearly all colour-blind eyes see."""

LEVELS = 20
"""Steps of the colour; a share is drawn in the nearest."""

ROW, TITLE, HEAD, KEY = 0.2, 0.3, 0.28, 0.55
"""Inches of a row of squares, of a family's title, of the names on top, and of the key."""

NAMES, GAP = 1.95, 0.09
"""Inches of the tasks' names, and between optimizers."""

LONGEST = 30
"""Characters of a name beside a row."""

Corner = tuple[float, float]


def colour(share: float) -> str:
    """The colour of a share, in as many steps as there are."""
    steps = mpl.colors.LinearSegmentedColormap.from_list("won", [LOST, WON])
    return str(mpl.colors.to_hex(steps(round(share * LEVELS) / LEVELS)))


def draw_map(record: MapFigure) -> Figure:
    """Tasks by optimizers, each task's difficulties as squares beside each other."""
    tasks = sum(len(own) for _, own in record.families)
    titles = sum(bool(name) for name, _ in record.families)
    longest = max((len(name) for name in record.optimizers), default=1)
    column = (WIDTH - NAMES) / max(1, len(record.optimizers))
    square = min(0.42, (column - GAP) / record.most_difficulties)
    is_slanted = longest * 0.075 > column
    head = HEAD + (min(longest, 24) * 0.042 if is_slanted else 0.0)
    row = max(ROW, min(square, 0.26))
    height = head + tasks * row + titles * TITLE + KEY + 0.1
    figure = Figure(figsize=(WIDTH, height))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, WIDTH), ylim=(height, 0))
    ax.axis("off")
    lefts = [NAMES + i * column + GAP / 2 for i in range(len(record.optimizers))]
    for left, name in zip(lefts, record.optimizers, strict=True):
        turned: dict[str, Any] = {"rotation": 35, "rotation_mode": "anchor"} if is_slanted else {}
        ax.text(left, head - 0.08, wrapped(name, 24), ha="left", va="bottom", **turned)
    squares = _Squares(square, row, numbers=has_numbers(record))
    y = head
    for name, own in record.families:
        if name:
            ax.text(0.05, y + TITLE - 0.09, name, va="bottom", fontsize=SMALL + 2)
            y += TITLE
        for task in own:
            shown = task.name if len(task.name) <= LONGEST else f"{task.name[: LONGEST - 1]}…"
            ax.text(0.05, y + row / 2, shown, va="center", fontsize=SMALL)
            for left, shares in zip(lefts, task.shares, strict=True):
                for i, share in enumerate(shares):
                    squares.add((left + i * square, y), share)
            y += row
    squares.draw(ax)
    _draw_key(ax, y + 0.16, has_missing=bool(squares.missing))
    return figure


class _Squares:
    """Squares by their colours, so that each colour is one path."""

    def __init__(self, width: float, height: float, *, numbers: bool) -> None:
        self.width, self.height, self.numbers = width, height, numbers
        self.by_colour: dict[str, list[Corner]] = {}
        self.texts: list[tuple[Corner, float]] = []
        self.missing: list[Corner] = []

    def add(self, corner: Corner, share: float) -> None:
        """Put a square at its upper left corner."""
        if math.isnan(share):
            self.missing.append(corner)
            return
        self.by_colour.setdefault(colour(share), []).append(corner)
        if self.numbers:
            self.texts.append((corner, share))

    def draw(self, ax: Axes) -> None:
        """Draw them all."""
        width, height = self.width - 0.014, self.height - 0.028
        for own, corners in sorted(self.by_colour.items()):
            paths = [_rectangle(x, y + 0.014, width, height) for x, y in corners]
            whole = Path.make_compound_path(*paths)
            ax.add_patch(PathPatch(whole, facecolor=own, edgecolor=GRID, linewidth=0.4))
        if self.missing:
            crosses = [_cross(x, y + 0.014, width, height) for x, y in self.missing]
            whole = Path.make_compound_path(*crosses)
            ax.add_patch(PathPatch(whole, facecolor="none", edgecolor=GRID, linewidth=0.7))
        for (x, y), share in self.texts:
            ink = BACKGROUND if share > 0.45 else FOREGROUND
            place = (x + width / 2, y + self.height / 2)
            ax.text(*place, f"{100 * share:.0f}", color=ink, ha="center", va="center", fontsize=8)


def _rectangle(x: float, y: float, width: float, height: float) -> Path:
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]
    return Path(corners, [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY])


def _cross(x: float, y: float, width: float, height: float) -> Path:
    right, bottom = x + width, y + height
    points = [(x, y), (right, bottom), (x, bottom), (right, y)]
    return Path(points, [Path.MOVETO, Path.LINETO] * 2)


def _draw_key(ax: Axes, y: float, *, has_missing: bool) -> None:
    """The colours with their meaning."""
    key = _Squares(0.16, 0.17, numbers=False)
    for i, share in enumerate(np.linspace(0, 1, 11)):
        key.add((NAMES + 0.05 + i * 0.16, y), float(share))
    right = NAMES + 0.05 + 11 * 0.16
    ax.text(NAMES - 0.05, y + 0.09, "share of seeds won: 0%", ha="right", va="center")
    ax.text(right + 0.07, y + 0.09, "100%", ha="left", va="center")
    if has_missing:
        key.add((right + 0.8, y), math.nan)
        ax.text(right + 1.02, y + 0.09, "not run", ha="left", va="center")
    key.draw(ax)
