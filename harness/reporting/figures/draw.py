"""Draws figure records, as SVG that a page can recolour and as PNG. Decides nothing about data."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import math
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from harness.reporting.figures.plotting import (
    mpl,  # before anything else loads a part of matplotlib
)

# isort: split

import numpy as np
import seaborn as sns
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.axis import Tick, XAxis, YAxis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKLEFT, TICKRIGHT
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator
from matplotlib.transforms import Affine2D, ScaledTranslation

from harness.gate.report import Outcome
from harness.reporting.figures.records import (
    COLORS,
    NAMED_LEVELS,
    CurveFigure,
    CurvePanel,
    DotFigure,
    DotPanel,
    DotRow,
    FigureRecord,
    HeatFigure,
    HeatPanel,
    IntervalFigure,
    IntervalPanel,
    IntervalRow,
    Line,
    Mark,
    Path,
    PlaneFigure,
    PlanePanel,
    Style,
)
from harness.reporting.figures.svg import Renderer, escaped, measured
from harness.workers.parent_death import die_with

FOREGROUND, GRID, BACKGROUND = "#1a1b1c", "#d0d1d2", "#fefefd"
"""Ink, grid and paper: all that isn't data has one of these, and a page may replace them."""

WIDTH = 7.9
"""Inches, of every figure."""

PNG_DPI = 150
_PROCESSES = 4
_PIPE = 10_000
"""Numbers that a pipe takes without anybody reading them."""

FONT = "DejaVu Sans"
FONTS = "'DejaVu Sans', Verdana, Arial, sans-serif"
TEXT, SMALL = 9.5, 9.0

_LEFT, _RIGHT, _BOTTOM, _TOP = 0.78, 0.14, 0.52, 0.1
_LINE_HEIGHT = 0.185
_LABEL_WIDTH = 2.3
_ROW_HEIGHT, _NARROW_ROW_HEIGHT = 0.3, 0.22
_LINE, _LINE_MARGIN = 0.155, 0.085
_TICKS, _FEW_TICKS = 12, 4
_TICK, _TICK_PAD, _LABEL_PAD = 3.5, 3.5, 4.0
_HANDLE, _HANDLE_PAD, _COLUMN_PAD, _ROW_PAD = 2.6 * SMALL, 0.6 * SMALL, 1.2 * SMALL, 0.45 * SMALL


@dataclass(frozen=True)
class Drawing:
    """A figure drawn.

    Attributes:
        name: File name without ending.
        svg: From ``<svg`` on; its ids begin with the name, and nothing in it names a date.
        png: At 150 dpi, on paper.
    """

    name: str
    svg: str
    png: bytes


def draw_all(records: Iterable[FigureRecord]) -> list[Drawing]:
    """Draw every record, in order; in several processes where that is safe."""
    records = list(records)
    # Figures are full of cycles: collecting them while they grow takes a sixth of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        helpers = min(_cores(), _PROCESSES, len(records)) - 1
        if helpers < 1 or not _may_fork():
            return [draw(record) for record in records]
        return _draw_with_help(records, helpers)
    finally:
        if collecting:
            gc.enable()


def _draw_with_help(records: Sequence[FigureRecord], helpers: int) -> list[Drawing]:
    """Draw with processes that start as copies of this one; each takes the next record there is."""
    # Reading from a pipe takes a number once and for all, whoever is killed meanwhile.
    numbers, end = os.pipe()
    os.write(end, b"".join(i.to_bytes(4, "big") for i in range(min(len(records), _PIPE))))
    os.close(end)
    drawn: dict[int, Drawing] = {}
    with warnings.catch_warnings():
        # Python 3.12 sees the threads of numpy's linear algebra, which drawing doesn't use.
        warnings.simplefilter("ignore", DeprecationWarning)
        forking = multiprocessing.get_context("fork")
        start = (os.getpid(), records, numbers)
        helper = ProcessPoolExecutor(helpers, forking, initializer=_start_helper, initargs=start)
        promised = [helper.submit(_help) for _ in range(helpers)]
    with helper:
        drawn |= _draw_next(records, numbers)
        for promise in promised:
            with contextlib.suppress(BrokenProcessPool):
                drawn |= promise.result()
    os.close(numbers)
    # What a process had taken that was killed is drawn here.
    return [drawn[i] if i in drawn else draw(record) for i, record in enumerate(records)]


def _draw_next(records: Sequence[FigureRecord], numbers: int) -> dict[int, Drawing]:
    """Draw the records whose numbers a pipe gives, until it is empty."""
    drawn: dict[int, Drawing] = {}
    while number := os.read(numbers, 4):
        i = int.from_bytes(number, "big")
        drawn[i] = draw(records[i])
    return drawn


_given: list[Any] = []
"""In a process that helps: the records, and the pipe with the numbers of those to draw."""


def _start_helper(parent: int, records: Sequence[FigureRecord], numbers: int) -> None:
    die_with(parent)
    _given[:] = records, numbers


def _help() -> dict[int, Drawing]:
    records, numbers = _given
    return _draw_next(records, numbers)


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _may_fork() -> bool:
    """Whether another process can take over what is loaded."""
    return sys.platform == "linux" and threading.active_count() == 1


def draw(record: FigureRecord) -> Drawing:
    """Draw one record; the same record gives the same bytes."""
    with mpl.rc_context():
        # From matplotlib's own defaults: what a user's matplotlibrc says must change nothing.
        mpl.rcdefaults()
        mpl.rcParams.update(_look())
        if isinstance(record, CurveFigure):
            figure = _curves(record)
        elif isinstance(record, DotFigure):
            figure = _dots(record)
        elif isinstance(record, IntervalFigure):
            figure = _intervals(record)
        elif isinstance(record, PlaneFigure):
            figure = _planes(record)
        elif isinstance(record, HeatFigure):
            figure = _heat(record)
        else:
            raise TypeError(f"nobody draws a {type(record).__name__}")
        width, height = 72 * figure.get_size_inches()
        renderer = Renderer(record.name, width, height, PNG_DPI)
        figure.draw(renderer)
        style = f"font-family: {FONTS}; stroke-linejoin: round"
        svg = renderer.svg(f'role="img" aria-label="{escaped(record.alt)}" style="{style}"')
        return Drawing(record.name, svg, _png(renderer.pixels()))


def _look() -> Any:
    """Settings of matplotlib: seaborn's white-grid theme in three colours."""
    theme: dict[str, Any] = dict(sns.axes_style("whitegrid"))
    return theme | {
        "font.family": [FONT],
        "font.size": TEXT,
        "axes.titlesize": TEXT,
        "axes.titlepad": 4.0,
        "axes.labelsize": TEXT,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
        "figure.facecolor": BACKGROUND,
        "axes.facecolor": "none",
        "savefig.facecolor": BACKGROUND,
        "text.color": FOREGROUND,
        "axes.labelcolor": FOREGROUND,
        "axes.titlecolor": FOREGROUND,
        "axes.edgecolor": FOREGROUND,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "axes.axisbelow": True,
        "xtick.bottom": True,
        "ytick.left": True,
        "lines.solid_capstyle": "butt",
        "lines.markersize": 5.0,
        "axes.formatter.useoffset": False,
        "axes.formatter.use_mathtext": False,
        "text.parse_math": False,
        "text.usetex": False,
        "path.simplify": True,
        "figure.dpi": 72.0,
    }


# Curves


def _curves(record: CurveFigure) -> Figure:
    panels, columns = record.panels, record.columns
    rows = math.ceil(len(panels) / columns)
    shared = len({panel.limits for panel in panels}) == 1 and columns > 1
    legend = _Legend()
    for panel in panels:
        for line in panel.lines:
            legend.add(line.label, _handle(line.style))
    if any(line.lost for panel in panels for line in panel.lines):
        legend.add("did not end ok", _cross())
    for panel in panels:
        legend.add(panel.rule_label, _rule_handle())
    if any(panel.marks for panel in panels):
        legend.add("change point", _change_handle())
    each = 3.3 if columns == 1 and rows == 1 else 2.75 if columns < 3 else 2.2
    gap = (0.12 if shared else 0.82, 0.18 if columns == 3 else 0.62)
    grid = _Grid(columns, [each] * rows, gap, legend, [panel.title for panel in panels])
    for i, panel in enumerate(panels):
        ax = grid.axes(i)
        outer = columns < 3 or i + columns >= len(panels)
        _draw_curves(ax, panel, x_names=outer, y_names=not (shared and i % columns))
        grid.entitle(ax, i)
    return grid.figure


def _draw_curves(ax: Axes, panel: CurvePanel, *, x_names: bool, y_names: bool) -> None:
    shown = [line for line in panel.lines if not line.faint and not line.lost and len(line.x)]
    ends = [line.x[-1] for line in panel.lines if len(line.x)]
    starts = [line.x[0] for line in panel.lines if len(line.x)]
    low, high = (min(starts), max(ends)) if ends else (0.0, 1.0)
    if panel.x_log and low > 0:
        ax.set_xscale("log")
        margin = (high / low) ** 0.02 if high > low else 1.5
        ends_of_x = (low / margin, high * margin)
    else:
        margin = 0.02 * (high - low) or 0.5
        ends_of_x = (low - margin, high + margin)
    ax.set_xlim(*ends_of_x)
    if panel.log:
        ax.set_yscale("log")
    ax.set_ylim(*panel.limits)
    if panel.rule is not None:
        ax.axhline(panel.rule, color=FOREGROUND, linewidth=1.0, dashes=(4, 3), zorder=2)
    for line in panel.lines:
        if line.lost or line.faint:
            _draw_back(ax, line, panel.limits)
    for i, line in enumerate(shown):
        _draw_front(ax, line, i, len(shown))
    _draw_marks(ax, panel.marks)
    y_factor = _ticks(ax, "y", panel.limits, log=panel.log)
    x_factor = _ticks(ax, "x", ends_of_x, log=panel.x_log and low > 0)
    if panel.x_label == "step":
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if panel.ticks:
        places, names = zip(*panel.ticks, strict=True)
        ax.xaxis.set_major_locator(FixedLocator(places))
        ax.xaxis.set_major_formatter(FixedFormatter(names))
    _axis(ax, "y", panel.y_label + y_factor, names=y_names)
    _axis(ax, "x", panel.x_label + x_factor, names=x_names, last_ends=bool(panel.ticks))


def _draw_front(ax: Axes, line: Line, order: int, count: int) -> None:
    style = line.style
    if len(line.low):
        alpha = 0.22 if count <= 6 else 0.12
        ax.fill_between(
            line.x, line.low, line.high, color=style.color, alpha=alpha, linewidth=0, zorder=3
        )
    every = max(1, math.ceil(len(line.x) / 8))
    # Markers of coinciding lines take turns.
    ax.plot(
        line.x,
        line.y,
        color=style.color,
        linewidth=style.width,
        markevery=(order * every // count, every),
        zorder=5 + order / count,
        **_dashes(style),
        **_marker(style),
    )


def _draw_marks(ax: Axes, marks: Sequence[Mark]) -> None:
    """Dotted lines across, numbered at the top, and arrows from level to level."""
    for x in dict.fromkeys(mark.x for mark in marks):
        texts = [mark.text for mark in marks if mark.x == x]
        names = ", ".join(texts if len(texts) <= 3 else [texts[0], "…", texts[-1]])
        # Between the last check of the old level and the first of the new one.
        ax.axvline(x - 0.5, color=FOREGROUND, linewidth=1.0, dashes=(1, 1.6), zorder=4)
        ax.text(
            x - 0.5, 0.985, names, transform=ax.get_xaxis_transform(), ha="center", va="top",
            fontsize=SMALL, bbox={"color": BACKGROUND, "pad": 1.5}, zorder=8,
        )  # fmt: skip
    for mark in marks:
        arrow = {
            "arrowstyle": "-|>", "color": FOREGROUND, "linewidth": 1.4, "shrinkA": 0,
            "shrinkB": 0, "mutation_scale": 9,
        }  # fmt: skip
        place = mark.x - 0.5
        ax.annotate("", (place, mark.after), (place, mark.before), arrowprops=arrow, zorder=9)


def _draw_back(ax: Axes, line: Line, limits: tuple[float, float]) -> None:
    if not len(line.x):
        return
    color = line.style.color
    alpha = 0.35 if line.faint else 0.75
    ax.plot(line.x, line.y, color=color, linewidth=0.8, alpha=alpha, zorder=2.5)
    if line.lost:
        # A curve that left the frame has its cross on the edge.
        end = min(max(line.y[-1], limits[0]), limits[1])
        ax.plot(
            line.x[-1], end, color=color, marker="x", markersize=6, mew=1.4, clip_on=False, zorder=7
        )


# Dots


def _dots(record: DotFigure) -> Figure:
    legend = _Legend()
    if any(len(row.values) for panel in record.panels for row in panel.rows):
        legend.add(record.dot_label, _point_handle())
        legend.add(record.centre_label, _centre_handle())
    for panel in record.panels:
        legend.add(panel.rule_label, _rule_handle())
    if any(math.isfinite(row.published) for panel in record.panels for row in panel.rows):
        legend.add("as published", _mark("*", 11, mec=BACKGROUND, mew=0.8))
    grid, names = _row_grid(record.panels, legend, record.columns)
    for i, panel in enumerate(record.panels):
        ax = grid.axes(i)
        own = names[i] if i % record.columns == 0 else []
        _draw_dots(ax, panel, own, _TICKS if record.columns < 3 else _FEW_TICKS)
        grid.entitle(ax, i)
    return grid.figure


def _row_grid(
    panels: Sequence[DotPanel] | Sequence[IntervalPanel], legend: _Legend, columns: int = 1
) -> tuple[_Grid, list[list[str]]]:
    """Room for panels of rows, line by line, and the names of each panel's rows."""
    measure = _Measure()
    labels = [row.label for panel in panels for row in panel.rows]
    left = min(_LABEL_WIDTH, 0.15 + max(measure.width(label) for label in labels))
    names = [[_row_name(row, left - 0.15, measure) for row in panel.rows] for panel in panels]
    left = 0.15 + max(measure.width(name) for own in names for name in own)
    heights = []
    least = _ROW_HEIGHT if columns == 1 else _NARROW_ROW_HEIGHT
    for own in names[::columns]:
        lines = max(name.count("\n") + 1 for name in own)
        heights.append(0.2 + len(own) * max(least, _LINE_MARGIN + _LINE * lines))
    titles = [panel.title for panel in panels]
    return _Grid(columns, heights, (0.22, 0.62), legend, titles, left=left), names


def _row_name(row: DotRow | IntervalRow, width: float, measure: _Measure) -> str:
    return "\n".join([*measure.wrapped(row.label, width), *([row.note] if row.note else [])])


def _draw_dots(ax: Axes, panel: DotPanel, names: Sequence[str], most_ticks: int) -> None:
    rows = panel.rows
    if panel.log:
        ax.set_xscale("log")
    ax.set_xlim(*panel.limits)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    if panel.rule is not None:
        ax.axvline(panel.rule, color=FOREGROUND, linewidth=1.0, dashes=(4, 3), zorder=2)
    counts = [len(row.values) for row in rows]
    # Where an axis has a name already, seaborn need not lay out all ticks to give it one.
    ax.set(xlabel="value", ylabel="case")
    if sum(counts):
        middle = np.repeat(np.arange(len(rows)), counts)
        sns.scatterplot(
            x=np.concatenate([row.values for row in rows]),
            y=middle + 0.5 * np.concatenate([row.offsets for row in rows]),
            hue=middle,
            palette={i: row.style.color for i, row in enumerate(rows) if counts[i]},
            s=15,
            alpha=0.8,
            linewidth=0,
            legend=False,
            ax=ax,
            zorder=3,
        )
    _draw_centres(ax, rows)
    for i, row in enumerate(rows):
        if math.isfinite(row.published):
            ax.plot(
                [row.published], [i], marker="*", markersize=13, color=FOREGROUND, mec=BACKGROUND,
                mew=0.9, linestyle="none", zorder=7,
            )  # fmt: skip
        if words := _instead(row, panel):
            ax.text(
                0.01, i, words, transform=ax.get_yaxis_transform(), va="center",
                fontsize=SMALL, bbox={"color": BACKGROUND, "pad": 1.5},
            )  # fmt: skip
    factor = _ticks(ax, "x", panel.limits, log=panel.log, most=most_ticks)
    _axis(ax, "x", panel.x_label + factor)
    _name_rows(ax, names)


def _instead(row: DotRow, panel: DotPanel) -> str:
    """What is said where there is nothing to be drawn; empty where there is."""
    if len(row.values):
        return ""
    if not math.isfinite(row.centre):
        return row.empty
    return f"{row.centre:.3g}: off the scale" if panel.log and row.centre <= 0 else ""


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.yaxis.set_major_locator(FixedLocator(list(range(len(names)))))
    ax.yaxis.set_major_formatter(FixedFormatter(names))
    _axis(ax, "y", "", grid=False, ticks=False)


def _draw_bars(
    ax: Axes, bars: Iterable[tuple[int, float, float]], color: str = FOREGROUND, width: float = 1.4
) -> None:
    """Intervals with their ends, where there are any, each given as its row and its ends."""
    x, y = list[float](), list[float]()
    for row, low, high in bars:
        if math.isfinite(low) and high > low:
            x += [low, low, math.nan, low, high, math.nan, high, high, math.nan]
            y += [row - 0.13, row + 0.13, math.nan, row, row, math.nan]
            y += [row - 0.13, row + 0.13, math.nan]
    if x:
        ax.plot(x, y, color=color, linewidth=width, zorder=5)


def _draw_centres(ax: Axes, rows: Sequence[DotRow]) -> None:
    """The estimates: in ink where they stand before dots, else in the looks of their case."""
    known = [(i, row) for i, row in enumerate(rows) if math.isfinite(row.centre)]
    for i, row in known:
        if not len(row.values):
            _draw_bars(ax, [(i, row.low, row.high)], row.style.color, 2.0)
            looks = _marker(row.style, 6.5)
            ax.plot([row.centre], [i], color=row.style.color, linestyle="none", zorder=6, **looks)
    dotted = [(i, row) for i, row in known if len(row.values)]
    if dotted:
        _draw_bars(ax, [(i, row.low, row.high) for i, row in dotted])
        ax.plot(
            [row.centre for _, row in dotted], [i for i, _ in dotted], marker="D", markersize=5,
            color=FOREGROUND, mec=BACKGROUND, mew=0.8, linestyle="none", zorder=6,
        )  # fmt: skip


# Intervals

_OUTCOME_LOOKS: Mapping[Outcome, tuple[str, str, float, bool]] = {
    "fine": (COLORS[0], "o", 7, True),
    "better": (COLORS[2], "<", 9.5, True),
    "regressed": (COLORS[1], ">", 9.5, True),
    "inconclusive": (COLORS[4], "D", 7, False),
    "not comparable": (COLORS[3], "s", 7, False),
    "missing": (COLORS[6], "X", 8, True),
    "failed": (COLORS[6], "X", 8, True),
}
"""Colour, marker, its size, and whether it is filled."""


def _intervals(record: IntervalFigure) -> Figure:
    rows = [row for panel in record.panels for row in panel.rows]
    legend = _Legend()
    for outcome in _OUTCOME_LOOKS:
        if any(row.outcome == outcome for row in rows):
            legend.add(outcome, Line2D([], [], **_outcome_look(outcome)))
    if any(row.low < row.high for row in rows):
        legend.add("95% interval", Line2D([], [], color=FOREGROUND, linewidth=1.4))
    legend.add("limit", _rule_handle())
    grid, names = _row_grid(record.panels, legend)
    for i, panel in enumerate(record.panels):
        ax = grid.axes(i)
        _draw_intervals(ax, panel, names[i])
        grid.entitle(ax, i)
    return grid.figure


def _draw_intervals(ax: Axes, panel: IntervalPanel, names: Sequence[str]) -> None:
    rows = panel.rows
    if panel.log:
        ax.set_xscale("log")
    ax.set_xlim(*panel.limits)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.axvline(1.0, color=FOREGROUND, linewidth=1.0, zorder=2)
    _draw_bars(ax, [(i, row.low, row.high) for i, row in enumerate(rows)])
    for i, row in enumerate(rows):
        ends = [i - 0.5, i + 0.5]
        limit = [row.limit, row.limit]
        ax.plot(limit, ends, color=FOREGROUND, linewidth=1.0, dashes=(4, 3), zorder=2)
        ax.plot([row.centre], [i], zorder=6, **_outcome_look(row.outcome))
    _axis(ax, "x", panel.x_label + _ticks(ax, "x", panel.limits, log=panel.log))
    _name_rows(ax, names)


def _outcome_look(outcome: Outcome) -> dict[str, Any]:
    color, marker, size, filled = _OUTCOME_LOOKS[outcome]
    return {
        "linestyle": "none",
        "marker": marker,
        "markersize": size,
        "color": color,
        "markerfacecolor": color if filled else BACKGROUND,
        "markeredgecolor": BACKGROUND if filled else color,
        "markeredgewidth": 0.8 if filled else 1.5,
    }


# Planes


def _planes(record: PlaneFigure) -> Figure:
    single = all(len(panel.paths) == 1 for panel in record.panels) and len(record.panels) > 1
    legend = _Legend()
    if not single:
        for panel in record.panels:
            for path in panel.paths:
                legend.add(path.label, _handle(path.style))
    paths = [path for panel in record.panels for path in panel.paths]
    legend.add("start", _start_handle())
    if not all(path.lost for path in paths):
        legend.add("end", _end_handle())
    if any(path.lost for path in paths):
        legend.add("did not end ok", _cross())
    if record.minimizers:
        legend.add("minimum", _minimum_handle())
    columns = record.columns
    rows = math.ceil(len(record.panels) / columns)
    width = (WIDTH - _LEFT - _RIGHT - 0.2 * (columns - 1)) / columns
    (left, right), (low, high) = record.window
    natural = width * (high - low) / (right - left)
    each = min(max(natural, 0.5 * width), (0.75 if columns == 1 else 1.0) * width)
    titles = [panel.title for panel in record.panels]
    grid = _Grid(columns, [each] * rows, (0.2, 0.14), legend, titles)
    for i, panel in enumerate(record.panels):
        ax = grid.axes(i)
        _draw_landscape(ax, record, labels=columns < 3)
        _draw_plane(ax, record, panel)
        grid.entitle(ax, i)
        if columns > 1:
            # Names of ticks at the edges would run into the next panel's.
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], prune="both"))
        _axis(ax, "x", "x1", grid=False, names=i + columns >= len(record.panels))
        _axis(ax, "y", "x2", grid=False, names=i % columns == 0)
    return grid.figure


def _draw_landscape(ax: Axes, record: PlaneFigure, *, labels: bool) -> None:
    known = record.contoured
    if known is None:
        return
    x1, x2, values, inside = known
    looks: dict[str, Any] = {"alpha": 0.32, "zorder": 1}
    if labels:
        lines = ax.contour(x1, x2, values, inside, colors=[FOREGROUND], linewidths=0.7, **looks)
        named = inside[-NAMED_LEVELS:]
        ax.clabel(lines, named, fmt=lambda v: f"{v:.3g}", fontsize=SMALL, inline_spacing=3)
        for text in lines.labelTexts:
            text.set_clip_on(False)
        return
    contours = contour_generator(x1, x2, values, corner_mask=True)
    for level in inside:
        gap = np.full((1, 2), np.nan)
        pieces = [part for piece in contours.lines(level) for part in (np.asarray(piece), gap)]
        ax.plot(*np.concatenate([gap, *pieces]).T, color=FOREGROUND, linewidth=0.7, **looks)


def _draw_plane(ax: Axes, record: PlaneFigure, panel: PlanePanel) -> None:
    ax.set_xlim(*record.window[0])
    ax.set_ylim(*record.window[1])
    for point in record.minimizers:
        ax.plot(
            *([v] for v in point[:2]), marker="*", markersize=9, color=FOREGROUND,
            mec=BACKGROUND, mew=0.6, linestyle="none", zorder=8,
        )  # fmt: skip
    for i, path in enumerate(panel.paths):
        _draw_path(ax, record, path, 5 + i / len(panel.paths))
    for point in {tuple(path.points[0]) for path in panel.paths}:
        ax.plot(
            [point[0]], [point[1]], marker="o", markersize=10, color="none", mec=FOREGROUND,
            mew=1.4, linestyle="none", zorder=7,
        )  # fmt: skip


def _draw_path(ax: Axes, record: PlaneFigure, path: Path, zorder: float) -> None:
    style, points = path.style, path.points
    looks: dict[str, Any] = {"color": style.color, "zorder": zorder}
    if path.lost:
        ax.plot(*points.T, linewidth=0.9, alpha=0.75, **looks)
        # A path that left the window has its cross on the edge.
        (left, right), (low, high) = record.window
        end = np.clip(points[-1:], (left, low), (right, high))
        ax.plot(*end.T, marker="x", markersize=7, mew=1.6, clip_on=False, **looks)
        return
    marker = _marker(style, 3.6) if len(points) <= 60 else {}
    ax.plot(*points.T, linewidth=style.width, **looks, **_dashes(style), **marker)
    looks["zorder"] = zorder + 1
    ax.plot(*points[-1:].T, linestyle="none", **looks, **_marker(style, 8.5))


# Heat

HEAT_COLORS = "viridis"
"""Its lightness rises evenly, so it reads in grey and by colour-blind eyes."""

HEAT_CELLS = 90
"""Cells each way of the plane that takes the colour of the nearest setting."""

_FAILED = "#9a9a9a"
_BAR_WIDTH, _BAR_ROOM = 0.16, 1.2


def _heat(record: HeatFigure) -> Figure:
    legend = _Legend()
    legend.add("one setting", _mark("o", 5, color="#1f9e89", mec=FOREGROUND, mew=0.6))
    if any(panel.best is not None for panel in record.panels):
        legend.add("lowest", _mark("o", 9, color="none", mec=FOREGROUND, mew=1.6))
    if any(np.isnan(panel.values).any() for panel in record.panels):
        legend.add("some seed did not end ok", _cross())
    columns = record.columns
    rows = math.ceil(len(record.panels) / columns)
    titles = [panel.title for panel in record.panels]
    each = 2.4 if columns > 1 else 3.2
    grid = _Grid(columns, [each] * rows, (0.78, 0.72), legend, titles, right=_BAR_ROOM)
    norm_class = mpl.colors.LogNorm if record.log else mpl.colors.Normalize
    scalar = mpl.cm.ScalarMappable(norm_class(*record.limits, clip=True), HEAT_COLORS)
    for i, panel in enumerate(record.panels):
        ax = grid.axes(i)
        _draw_heat(ax, panel, scalar)
        grid.entitle(ax, i)
    bar = grid.figure.add_axes(
        (
            1 - (_BAR_ROOM - 0.16) / WIDTH,
            _BOTTOM / grid.height,
            _BAR_WIDTH / WIDTH,
            (grid.height - grid.head - _BOTTOM) / grid.height,
        ),
        axes_class=_Axes,
    )
    _draw_bar_of_colors(bar, record, scalar)
    return grid.figure


def _draw_bar_of_colors(ax: Axes, record: HeatFigure, scalar: Any) -> None:
    low, high = record.limits
    ax.set_yscale("log" if record.log else "linear")
    ax.set(xlim=(0, 1), ylim=(low, high))
    ax.imshow(
        scalar.cmap(np.linspace(0, 1, 256))[:, None], extent=(0, 1, 0, 1), transform=ax.transAxes,
        origin="lower", aspect="auto", interpolation="none", zorder=1,
    )  # fmt: skip
    factor = _ticks(ax, "y", record.limits, log=record.log)
    _axis(ax, "y", record.value_label + factor, grid=False, side=1)
    ax.xaxis.set_visible(False)
    ax.spines[:].set_visible(True)


def _draw_heat(ax: Axes, panel: HeatPanel, scalar: Any) -> None:
    limits = [_limits(values, log=log) for values, log in _axes_of(panel)]
    ax.set(xlim=limits[0], ylim=limits[1])
    ax.set(
        xscale="log" if panel.x_log else "linear",
        yscale="log" if panel.y_log else "linear",
    )
    ax.imshow(
        _nearest(panel, limits, scalar), extent=(0, 1, 0, 1), transform=ax.transAxes,
        origin="lower", aspect="auto", interpolation="none", zorder=1,
    )  # fmt: skip
    ok = np.isfinite(panel.values)
    ax.scatter(
        panel.x[ok], panel.y[ok], c=scalar.to_rgba(panel.values[ok]), s=17,
        edgecolors=BACKGROUND, linewidths=0.8, zorder=3,
    )  # fmt: skip
    ax.scatter(panel.x[~ok], panel.y[~ok], c=FOREGROUND, marker="x", s=15, linewidths=1.0, zorder=3)
    if panel.best is not None:
        for ink, width in ((BACKGROUND, 4.5), (FOREGROUND, 1.8)):  # it stands out from any colour
            ax.plot(
                panel.x[panel.best], panel.y[panel.best], marker="o", markersize=11, color="none",
                mec=ink, mew=width, linestyle="none", zorder=4,
            )  # fmt: skip
    x_factor = _ticks(ax, "x", limits[0], log=panel.x_log)
    y_factor = _ticks(ax, "y", limits[1], log=panel.y_log)
    _axis(ax, "x", panel.x_label + x_factor, grid=False)
    _axis(ax, "y", panel.y_label + y_factor, grid=False)


def _axes_of(panel: HeatPanel) -> tuple[tuple[Any, bool], tuple[Any, bool]]:
    return (panel.x, panel.x_log), (panel.y, panel.y_log)


def _limits(values: Any, *, log: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if log:
        margin = (high / low) ** 0.04 if high > low else 2.0
        return low / margin, high * margin
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _nearest(panel: HeatPanel, limits: Sequence[tuple[float, float]], scalar: Any) -> Any:
    """The colours of the nearest settings on a grid of cells, ``(y, x, rgba)``."""
    places = []
    for (values, log), (low, high) in zip(_axes_of(panel), limits, strict=True):
        if log:
            places.append(np.log(values / low) / math.log(high / low))
        else:
            places.append((values - low) / (high - low))
    middles = (np.arange(HEAT_CELLS) + 0.5) / HEAT_CELLS
    x, y = np.meshgrid(middles, middles)
    distances = (x[..., None] - places[0]) ** 2 + (y[..., None] - places[1]) ** 2
    values = panel.values[distances.argmin(axis=-1)]
    colors = scalar.to_rgba(np.nan_to_num(values, nan=scalar.norm.vmin))
    colors[np.isnan(values)] = mpl.colors.to_rgba(_FAILED)
    return colors


# Parts


class _XAxis(XAxis):
    """An axis that makes no ticks, which ``_axis`` draws."""

    majorTicks: list[Tick] = []  # noqa: N815, RUF012
    minorTicks: list[Tick] = []  # noqa: N815, RUF012


class _YAxis(YAxis):
    """The same, upright."""

    majorTicks: list[Tick] = []  # noqa: N815, RUF012
    minorTicks: list[Tick] = []  # noqa: N815, RUF012


class _Axes(Axes):
    """Axes whose ticks aren't made; making them takes half of the time that axes take."""

    def _init_axis(self) -> None:
        self.xaxis, self.yaxis = _XAxis(self, clear=False), _YAxis(self, clear=False)
        for name, axis in zip(
            ("bottom", "top", "left", "right"),
            (self.xaxis, self.xaxis, self.yaxis, self.yaxis),
            strict=True,
        ):
            self.spines[name].register_axis(axis)

    def clear(self) -> None:
        """Empty them; ticks would have put the spines where they are."""
        super().clear()
        for name in ("bottom", "top", "left", "right"):
            self.spines[name].set_position(("outward", 0))


class _Grid:
    """Axes in rows and columns below a legend, laid out in inches so that nothing is searched."""

    def __init__(
        self,
        columns: int,
        heights: Sequence[float],
        gap: tuple[float, float],
        legend: _Legend,
        titles: Sequence[str],
        *,
        left: float = _LEFT,
        right: float = _RIGHT,
    ) -> None:
        width = WIDTH - left - right
        self.columns, self.heights, self.left = columns, heights, left
        self.width = (width - gap[0] * (columns - 1)) / columns
        self.titles = [_Measure().wrapped(title, self.width, TEXT) for title in titles]
        lines = max(len(title) for title in self.titles)
        title_height = _LINE_MARGIN + _LINE * lines if lines else 0.0
        self.gap = gap[0], gap[1] + title_height
        self.head = _TOP + legend.height(width) + title_height
        self.height = self.head + sum(heights) + self.gap[1] * (len(heights) - 1) + _BOTTOM
        self.figure = Figure(figsize=(WIDTH, self.height))
        legend.place(self.figure, 72 * left, 72 * (self.height - _TOP))

    def axes(self, index: int) -> Axes:
        """The axes at a place, counted row by row."""
        row, column = divmod(index, self.columns)
        top = self.head + sum(self.heights[:row]) + row * self.gap[1]
        left = self.left + column * (self.width + self.gap[0])
        bottom = self.height - top - self.heights[row]
        box = (
            left / WIDTH,
            bottom / self.height,
            self.width / WIDTH,
            self.heights[row] / self.height,
        )
        return self.figure.add_axes(box, axes_class=_Axes)

    def entitle(self, ax: Axes, index: int) -> None:
        """Put a panel's title above it."""
        if self.titles[index]:
            # At a height of its own, it isn't put above what else there may be.
            ax.set_title("\n".join(self.titles[index]), loc="left", y=1.0)


def _width(text: str) -> float:
    """The width of the widest line of small text, in points."""
    return max(measured(line, SMALL, (FONT,))[0] for line in text.split("\n"))


@functools.lru_cache(maxsize=20_000)
def _pixels(line: str, size: float) -> float:
    """The width of a line of text as it comes out at 72 dots per inch."""
    backend: Any = RendererAgg
    measure = backend(8, 8, 72).get_text_width_height_descent
    font = mpl.font_manager.FontProperties(family=FONT, size=size)
    return float(measure(line, font, False)[0])


class _Measure:
    """How wide text comes out, in inches."""

    def width(self, text: str, size: float = SMALL) -> float:
        """The width of the widest line."""
        return max(_pixels(line, size) for line in text.split("\n")) / 72

    def wrapped(self, text: str, width: float, size: float = SMALL) -> list[str]:
        """The text in lines of a width, at most four; a word that is wider loses its middle."""
        lines: list[str] = []
        for word in text.split():
            joined = f"{lines[-1]} {word}" if lines else word
            if lines and self.width(joined, size) <= width + 1e-6:
                lines[-1] = joined
            else:
                lines.append(self._cut(word, width, size))
        return lines if len(lines) <= 4 else [*lines[:3], self._cut(f"{lines[3]} …", width, size)]

    def _cut(self, word: str, width: float, size: float) -> str:
        shown, keep = word, len(word)
        while keep > 2 and self.width(shown, size) > width + 1e-6:
            keep -= 1
            shown = f"{word[: keep - keep // 2]}…{word[-(keep // 2) :]}"
        return shown


class _Legend:
    """Names and looks, above all axes, in as many columns as fit."""

    _handle_width = 0.5

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}
        self.measure = _Measure()
        self.names: list[str] = []
        self.columns = 1

    def add(self, label: str, handle: Any) -> None:
        """Add an entry, unless it is there or has no name."""
        if label:
            self.entries.setdefault(label, handle)

    def height(self, width: float) -> float:
        """Inches that it takes within a width; decides the columns."""
        if not self.entries:
            return 0.0
        room = width - self._handle_width
        self.names = ["\n".join(self.measure.wrapped(label, room)) for label in self.entries]
        widest = max(self.measure.width(name) for name in self.names) + self._handle_width
        self.columns = max(1, min(len(self.names), int(width / (widest + 0.12))))
        rows = math.ceil(len(self.names) / self.columns)
        more = sum(name.count("\n") for name in self.names)
        return rows * _LINE_HEIGHT + more * _LINE + 0.06

    def place(self, figure: Figure, left: float, top: float) -> None:
        """Put it into a figure, from a corner in points on: to the right, and downwards.

        Matplotlib's own legend lays everything out three times.
        """
        points = Affine2D().scale(1 / 72) + figure.dpi_scale_trans
        lines = list(self.entries.values())
        for places in np.array_split(np.arange(len(lines)), self.columns):
            y = top
            for i in places:
                height = SMALL * _text_height(self.names[i])
                for line in lines[i] if isinstance(lines[i], tuple) else (lines[i],):
                    # A mark in its middle, as high as the middle of small letters.
                    line.set_data(
                        left + np.array([0, 0.5, 1]) * _HANDLE, [y - height / 2 + 0.8] * 3
                    )
                    line.set(markevery=[1], transform=points)
                    figure.add_artist(line)
                at = left + _HANDLE + _HANDLE_PAD, y
                looks: dict[str, Any] = {"fontsize": SMALL, "va": "top", "transform": points}
                figure.text(*at, self.names[i], **looks)
                y -= height + _ROW_PAD
            left += _HANDLE + _HANDLE_PAD + _COLUMN_PAD
            left += max((_width(self.names[i]) for i in places), default=0.0)


def _text_height(text: str) -> float:
    """Of lines of text, in the size of the font: between lines it is a fifth."""
    lines = text.count("\n") + 1
    return 1.2 * lines if lines > 1 else 1.0


def _handle(style: Style) -> Line2D:
    return Line2D(
        [], [], color=style.color, linewidth=style.width, **_dashes(style), **_marker(style)
    )


def _rule_handle() -> Line2D:
    return Line2D([], [], color=FOREGROUND, linewidth=1.0, dashes=(4, 3))


def _change_handle() -> Line2D:
    return Line2D([], [], color=FOREGROUND, linewidth=1.0, dashes=(1, 1.6))


def _mark(marker: str, size: float, **more: Any) -> Line2D:
    looks = {"color": FOREGROUND, "linestyle": "none"} | more
    return Line2D([], [], marker=marker, markersize=size, **looks)


def _cross() -> Line2D:
    return _mark("x", 6, mew=1.4)


def _point_handle() -> Line2D:
    return _mark("o", 4, alpha=0.8, mew=0)


def _centre_handle() -> tuple[Line2D, Line2D]:
    return Line2D([], [], color=FOREGROUND, linewidth=1.4), _mark("D", 5, mec=BACKGROUND, mew=0.8)


def _start_handle() -> Line2D:
    return _mark("o", 8, color="none", mec=FOREGROUND, mew=1.4)


def _end_handle() -> Line2D:
    return _mark("o", 7, mec=BACKGROUND, mew=0.8)


def _minimum_handle() -> Line2D:
    return _mark("*", 9, mec=BACKGROUND, mew=0.6)


def _dashes(style: Style) -> dict[str, Any]:
    return {"dashes": style.dashes} if style.dashes else {"linestyle": "-"}


def _marker(style: Style, size: float = 5.5) -> dict[str, Any]:
    return {
        "marker": style.marker,
        "markersize": size,
        "markerfacecolor": style.color if style.filled else BACKGROUND,
        "markeredgecolor": BACKGROUND if style.filled else style.color,
        "markeredgewidth": 0.6 if style.filled else 1.3,
    }


def _axis(
    ax: Axes,
    which: str,
    label: str,
    *,
    grid: bool = True,
    ticks: bool = True,
    names: bool = True,
    last_ends: bool = False,
    side: int = -1,
) -> None:
    """Draw an axis as matplotlib does, whose own takes most of the time that a figure takes.

    Each of its ticks is five artists that are laid out up to four times.

    Args:
        ax: Its axes, whose limits are as they stay.
        which: ``x`` or ``y``.
        label: Its name; may be empty.
        grid: Whether lines go across.
        ticks: Whether it has ticks.
        names: Whether its ticks and itself have names.
        last_ends: Whether the last tick's name ends there, for it might leave the picture.
        side: -1 for an axis at the bottom or on the left, 1 for one on the right.
    """
    axis = ax.xaxis if which == "x" else ax.yaxis
    upright = which == "y"
    places = np.asarray(axis.get_majorticklocs(), dtype=float)
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    inside = (places >= low - slack) & (places <= high + slack)
    texts = axis.get_major_formatter().format_ticks(list(places))
    texts = [text for text, kept in zip(texts, inside, strict=True) if kept]
    places = places[inside]
    across = ax.get_yaxis_transform() if upright else ax.get_xaxis_transform()
    edge = 1.0 if side > 0 else 0.0

    def line(along: Any, beside: Any, **looks: Any) -> None:
        points = (beside, along) if upright else (along, beside)
        ax.add_artist(Line2D(*points, transform=across, zorder=0.5, clip_on=False, **looks))

    if grid and len(places):
        ends = np.tile([0.0, 1.0, np.nan], len(places))
        line(np.repeat(places, 3), ends, color=GRID, linewidth=0.6)
    if ticks and len(places):
        marker = (TICKRIGHT if side > 0 else TICKLEFT) if upright else TICKDOWN
        looks: dict[str, Any] = {"marker": marker, "markersize": _TICK, "markeredgewidth": 0.8}
        line(places, np.full(len(places), edge), linestyle="none", color=FOREGROUND, **looks)
    axis.set_visible(False)
    if not names:
        return
    off = side * ((_TICK if ticks else 0.0) + _TICK_PAD)

    def text(x: float, y: float, words: str, move: float, base: Any, **more: Any) -> Text:
        by = (move / 72, 0.0) if upright else (0.0, move / 72)
        moved = base + ScaledTranslation(*by, ax.figure.dpi_scale_trans)
        return ax.text(x, y, words, transform=moved, zorder=0.5, **more)

    looks = {"fontsize": SMALL, "ha": "center", "va": "top"}
    if upright:
        looks |= {"ha": "left" if side > 0 else "right", "va": "center_baseline"}
    for place, name in zip(places, texts, strict=True):
        if name:
            x, y = (edge, place) if upright else (place, edge)
            drawn = text(x, y, name, off, across, **looks)
    if last_ends and len(texts) > 1:
        drawn.set_horizontalalignment("right")
    if not label:
        return
    room = max(map(_width, texts), default=0.0) if upright else SMALL
    off += side * (room + _LABEL_PAD)
    if upright:
        va = "top" if side > 0 else "bottom"
        text(edge, 0.5, label, off, ax.transAxes, rotation=90, rotation_mode="anchor",
             ha="center", va=va)  # fmt: skip
    else:
        text(0.5, 0, label, off, ax.transAxes, ha="center", va="top")


def _ticks(
    ax: Axes, which: str, limits: tuple[float, float], *, log: bool, most: int = _TICKS
) -> str:
    """Set the ticks of an axis; returns the factor to be said with its name, if there is one."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    if not log:
        if most < _TICKS:
            axis.set_major_locator(MaxNLocator(most - 1, steps=[1, 2, 5, 10]))
        largest = max(abs(limit) for limit in limits)
        # A factor that stands by itself would be read with something else.
        if not 1e-4 <= largest < 1e6:
            power = math.floor(math.log10(largest))
            unit = float(f"1e{power}")
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:.3g}"))
            return f" (× {_power(power)})"
        return ""
    places, names = log_ticks(*limits)
    every = math.ceil(len(places) / most)
    axis.set_major_locator(FixedLocator(places[::every]))
    axis.set_major_formatter(FixedFormatter(names[::every]))
    return ""


def log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks of a logarithmic axis, and their names: at most about eight."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high) - math.log10(low)
    if decades < 3.2:
        steps = (1, 2, 5) if decades < 2.2 else (1, 3)
        places = [float(f"{m}e{k}") for k in range(first, last + 1) for m in steps]
        inside = [place for place in places if low <= place <= high]
        if len(inside) < 2:
            found = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)
            inside = [float(place) for place in found if low <= place <= high]
            return inside, [f"{place:.6g}" for place in inside]
        return inside, [_plain(place) for place in inside]
    every = math.ceil((last - first) / 8)
    powers = [k for k in range(first, last + 1) if k % every == 0]
    powers = [k for k in powers if low <= float(f"1e{k}") <= high]
    return [float(f"1e{k}") for k in powers], [_power(k) for k in powers]


def _plain(value: float) -> str:
    if 1e-4 <= value < 1e5:
        return f"{value:.12f}".rstrip("0").rstrip(".")
    power = math.floor(math.log10(value) + 1e-9)
    factor = round(value / 10.0**power)
    return _power(power) if factor == 1 else f"{factor}·{_power(power)}"


def _power(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


# Files


def _png(pixels: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    image = Image.fromarray(pixels).convert("RGB")
    image.save(file, "png", dpi=(PNG_DPI, PNG_DPI), compress_level=4)
    return file.getvalue()
