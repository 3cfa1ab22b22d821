"""Records of what figures show: plain arrays and texts. No drawing library is known here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from harness.errors import join
from harness.measures import TRAIN_LOSS, Measure
from harness.reporting.figures.styles import Style
from harness.store.read import CaseData, ObjectiveInfo

Array = NDArray[np.float64]
Seeds = NDArray[np.int64]
NO_VALUES: Array = np.empty(0)
NO_SEEDS: Seeds = np.empty(0, dtype=np.int64)

LOG_DECADES = 1.5
"""Positive values that span more than this are drawn on a logarithmic scale."""

DEEPEST_DECADES = 16.0
"""A logarithmic scale goes no deeper below its top than this."""

CURVES, ROWS, PLANES = 12, 40, 12
"""Most cases in full in a panel of curves, of rows, and in small multiples."""

OPTIMIZERS = 24
"""Most optimizers that a figure shows; of more, the best."""

LEGEND = 8
"""Most names beside each other; of more lines, every optimizer has a panel of its own."""

POINTS, FAINT_POINTS, SHARE_POINTS = 201, 41, 61
"""Most points of a line, of one that stands back, and of one that rises by steps."""

DOTS = 120
"""Most dots of a row."""

FARTHEST = 1e308
"""An end that lies beyond any number is drawn as one that is this far."""

FEW_OBJECTIVES = 6
"""Objectives beyond which the overview puts two of them side by side."""

FAILED_CURVES = 10
"""Most curves drawn of one case's seeds that failed."""

SEED_LINES, SEED_LINE_POINTS = 6, 31
"""Most single seeds of a case whose curves a reader can ask for, and points of each."""

LABELED_LEVELS = 4
"""Contours that have a label, the outermost: the innermost are too small for it."""

HEAT_COLORS = "viridis"
"""Its lightness rises evenly, so it reads in grey and by colour-blind eyes."""


@dataclass(frozen=True)
class FigureRecord:
    """The facts that every figure has."""

    name: str  # file name without ending: letters, digits, "_" and "-"
    objective: str | None  # None where it is about all of them
    title: str
    caption: str  # what is drawn, and which statistic
    alt: str  # alternative text
    note: str = field(default="", kw_only=True)  # what of the results is not drawn, or why


@dataclass(frozen=True, eq=False)
class Line:
    """One line; all arrays have the length of ``x``."""

    label: str  # in the legend; empty where it is not in it
    style: Style
    x: Array
    y: Array  # without NaN
    low: Array = field(default_factory=lambda: NO_VALUES)  # edge of the band; empty without one
    high: Array = field(default_factory=lambda: NO_VALUES)
    failed: bool = False  # a trial that failed: its line ends in a cross
    faint: bool = False
    seed: int | None = None  # of the trial, where it is one trial's
    seconds: Array = field(default_factory=lambda: NO_VALUES)  # until each x; empty if not known
    called: str = ""  # its name where it is pointed at and has no label
    x_low: Array = field(default_factory=lambda: NO_VALUES)  # of one point: its interval along x
    x_high: Array = field(default_factory=lambda: NO_VALUES)
    part: str = ""  # of the data, where lines of several stand beside each other


@dataclass(frozen=True)
class Mark:
    """A place where a line moves to a new level."""

    x: float
    text: str  # its number, as the words below the figure have it
    before: float  # height of the level that ends
    after: float


@dataclass(frozen=True, eq=False, kw_only=True)
class CurvePanel:
    """Lines over steps or epochs, or over checks."""

    title: str = ""
    x_label: str
    y_label: str
    x_log: bool = False
    log: bool = False  # of y
    limits: tuple[float, float]  # of y
    lines: tuple[Line, ...]  # from back to front
    reference_line: float | None = None  # height of a dashed line across
    reference_label: str = ""
    marks: tuple[Mark, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()  # places of x that have a name
    steps_per_x: int | None = None  # steps in a unit of x; None where x is no part of a training
    steps_per_epoch: int = 1
    seed_lines: tuple[Line, ...] = ()  # behind the lines, if asked for; not drawn on paper
    behind: tuple[Line, ...] = ()  # faint lines that panels share
    has_legend: bool = False  # its own, as its names are not those of other panels
    metric: str = ""  # what it shows, where a figure has panels of several

    @property
    def is_blank(self) -> bool:
        """True where it only keeps a place free."""
        return not self.lines and not self.behind

    def exits(self, line: Line) -> Iterator[tuple[float, int]]:
        """The places where a line first leaves by the lower edge (-1) and by the upper one (1)."""
        for side, beyond in ((-1, line.y < self.limits[0]), (1, line.y > self.limits[1])):
            if beyond.any():
                at = int(beyond.argmax())
                yield self._crossing(line, at, self.limits[side > 0]) if at else line.x[0], side

    def _crossing(self, line: Line, at: int, edge: float) -> float:
        """The place where a line meets an edge on the way to a point, on the panel's scales."""
        y = np.array([line.y[at - 1], edge, line.y[at]])
        x = line.x[at - 1 : at + 1]
        heights = np.log(np.maximum(y, 5e-324)) if self.log else y
        share = float(np.clip((heights[0] - heights[1]) / (heights[0] - heights[2]), 0, 1))
        if self.x_log:
            return float(x[0] * (x[1] / x[0]) ** share)
        return float(x[0] + share * (x[1] - x[0]))


@dataclass(frozen=True)
class CurveFigure(FigureRecord):
    """Panels of curves, row by row, as many side by side as there are columns."""

    panels: tuple[CurvePanel, ...]
    columns: int


@dataclass(frozen=True, eq=False, kw_only=True)
class DotRow:
    """One case as dots and an estimate; NaN where there is no number."""

    label: str
    note: str = ""  # below the label
    style: Style
    values: Array = field(default_factory=lambda: NO_VALUES)  # ascending; one dot each
    offsets: Array = field(default_factory=lambda: NO_VALUES)  # off the row's middle, within ±0.5
    centre: float = math.nan  # mean or median
    low: float = math.nan  # ends of its interval
    high: float = math.nan
    published: float = math.nan  # a published value of the same
    empty: str = "no seed ended ok"  # the text where there are neither values nor an estimate
    numbers: Seeds = field(default_factory=lambda: NO_SEEDS)  # the seed or block of each dot
    legend: str = ""  # of the estimate, where the style tells more than the case
    limit: float = math.nan  # the largest estimate that passes

    @property
    def centre_text(self) -> str:
        """The estimate where it is beyond the frame."""
        if abs(self.centre) >= FARTHEST:
            return "−∞" if self.centre < 0 else "∞"
        return f"{self.centre:.2g}".replace("-", "−")


@dataclass(frozen=True, eq=False, kw_only=True)
class DotPanel:
    """Rows over one scale."""

    title: str = ""
    x_label: str
    log: bool = False  # of x
    limits: tuple[float, float]  # of x
    rows: tuple[DotRow, ...]
    reference_line: float | None = None  # place of a dashed line across
    reference_label: str = ""
    is_named: bool = True  # False where the panel on the left has the same rows

    def side(self, value: float) -> int:
        """The edge that a value is beyond: -1 the left one, 1 the right one, 0 none."""
        if value < self.limits[0] or (self.log and value <= 0):
            return -1
        return int(value > self.limits[1])


@dataclass(frozen=True)
class DotFigure(FigureRecord):
    """Panels of rows, row by row."""

    panels: tuple[DotPanel, ...]
    dot_label: str  # empty where there are no dots
    centre_label: str
    columns: int = 1
    number_label: str = "seed"


@dataclass(frozen=True)
class RatioFigure(DotFigure):
    """Rows of ratios to a baseline, with their limits; drawn on paper alone."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One trajectory, of one case or of several that take the same."""

    label: str  # in the legend
    style: Style
    points: Array  # (points, 2)
    failed: bool  # the trial failed
    steps: Seeds = field(default_factory=lambda: NO_SEEDS)  # of each point
    marked: Seeds = field(default_factory=lambda: NO_SEEDS)  # the points that have a marker
    end: Array = field(default_factory=lambda: NO_VALUES)  # place of its mark, within the window
    seed: int | None = None
    optimizers: tuple[str, ...] = ()  # whose it is; a reader may select by each


@dataclass(frozen=True, eq=False)
class PlanePanel:
    """Trajectories in one plane."""

    title: str
    trajectories: tuple[Trajectory, ...]


@dataclass(frozen=True, eq=False)
class PlaneFigure(FigureRecord):
    """Trajectories over a landscape, or upon the curve of a loss of one parameter."""

    panels: tuple[PlanePanel, ...]
    columns: int
    window: tuple[tuple[float, float], tuple[float, float]]  # ranges of x and y
    landscape: Array | None  # loss on a regular grid over the window, (x2, x1)
    levels: tuple[float, ...]  # losses at which contours are drawn, ascending
    minimizers: tuple[tuple[float, ...], ...]
    axes: tuple[str, str] = ("x1", "x2")
    curve: Array = field(default_factory=lambda: np.empty((0, 2)))  # parameter and loss


@dataclass(frozen=True, eq=False)
class GalleryFigure(PlaneFigure):
    """Trajectories of many optimizers in small panels, the best first; drawn on paper alone."""


@dataclass(frozen=True, eq=False)
class HeatPanel:
    """Settings in the plane of two hyperparameters, each with a value that is shown as a colour."""

    title: str
    x_label: str
    y_label: str
    x_log: bool
    y_log: bool
    x: Array  # one per setting, as are y and values
    y: Array
    values: Array  # NaN where some trial failed
    best: int | None  # index of the best setting
    optimizer: str = ""
    measure: Measure = TRAIN_LOSS


@dataclass(frozen=True)
class HeatFigure(FigureRecord):
    """Panels of settings under one scale of colours."""

    panels: tuple[HeatPanel, ...]
    columns: int
    value_label: str
    log: bool  # of the colours
    limits: tuple[float, float]


def devices_of(cases: Sequence[CaseData]) -> list[str]:
    """The devices that cases ran on, in order."""
    return list(dict.fromkeys(case.device for case in cases))


def named(case: CaseData, several_devices: bool) -> str:
    """A case, with its device where there are several."""
    return f"{case.label} on {case.device}" if several_devices else case.label


def duration(info: ObjectiveInfo) -> str:
    """The length of a trial: ``20 steps``, ``2 epochs``."""
    if not info.has_epochs:
        return f"{info.steps} step{'s' if info.steps != 1 else ''}"
    epochs = info.steps / info.steps_per_epoch
    return f"{epochs:.6g} epoch{'s' if epochs != 1 else ''}"


def wants_log(values: Array) -> bool:
    """Test that values are nowhere negative, and the positive ones span many decades."""
    positive = values[values > 0]
    if len(positive) < 2 or (values < 0).any():
        return False
    return math.log10(float(positive.max())) - math.log10(float(positive.min())) > LOG_DECADES


def scale(
    values: Sequence[Array], edges: Sequence[Array], *, linear: bool = False
) -> tuple[bool, tuple[float, float]]:
    """Choose a logarithmic or a linear scale, and limits with a margin that hold all values."""
    inner = np.concatenate([*values, NO_VALUES])
    inner = inner[np.isfinite(inner)]
    if not len(inner):
        return False, (0.0, 1.0)
    outer = np.concatenate([inner, *edges])
    outer = outer[np.isfinite(outer)]
    if not linear and wants_log(inner):
        top = float(outer.max())
        positive = inner[inner > 0]
        # A band may go on below, to zero even: it is cut where it would hide the rest.
        least = float(positive.min())
        least = max(float(outer[outer > 0].min()), least / 3)
        bottom = max(least, top * 10.0**-DEEPEST_DECADES)
        margin = 0.04 * math.log10(top / bottom)
        return True, (bottom * 10.0**-margin, min(top * 10.0**margin, 1e308))
    low, high = float(outer.min()), float(outer.max())
    margin = (high / 2 - low / 2) * 0.1 or abs(high) * 0.1 or 1.0
    return False, (low - margin, high + margin)


def quartile_band(losses: Array) -> tuple[Array, Array, Array]:
    """Median over the first axis and the quartiles; NaN quartiles of a single row.

    They are right on any scale: a mean's interval can reach below what no loss is below, and a
    mean over orders of magnitude is that of the worst seed.
    """
    low, middle, high = np.quantile(losses, [0.25, 0.5, 0.75], axis=0)
    if len(losses) < 2:
        low = high = np.full_like(middle, np.nan)
    return middle, low, high


def with_dots(row: DotRow, values: Array, numbers: Seeds = NO_SEEDS, *, most: int = DOTS) -> DotRow:
    """A row with as many of some ascending values as there is room for, evenly spaced by rank."""
    kept = thinned(len(values), most)
    numbers = numbers[kept] if len(numbers) else numbers
    return replace(row, values=values[kept], offsets=offsets(len(kept)), numbers=numbers)


def offsets(count: int) -> Array:
    """Places off a row's middle that keep neighbours in rank apart: a golden-ratio sequence."""
    ranks = np.arange(count, dtype=np.float64)
    return (ranks * 0.6180339887498949 + 0.5) % 1.0 - 0.5


def thinned(count: int, most: int) -> NDArray[np.int64]:
    """At most so many indices below ``count``, evenly spaced, the first and the last among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def faint(line: Line) -> Line:
    """A line as it is drawn behind others: without a label and a band, and of fewer points."""
    at = thinned(len(line.x), FAINT_POINTS)
    return replace(
        line,
        label="",
        x=line.x[at],
        y=line.y[at],
        low=NO_VALUES,
        high=NO_VALUES,
        seconds=line.seconds[at] if len(line.seconds) else NO_VALUES,
        faint=True,
        called=line.called or line.label,
    )


def finite_length(values: Array) -> int:
    """Count the values before the first that isn't finite."""
    bad = np.flatnonzero(~np.isfinite(values))
    return int(bad[0]) if len(bad) else len(values)


def alternative(title: str, labels: Sequence[str]) -> str:
    """The alternative text of a figure: its title, and what is drawn in it."""
    return f"{title}. Shown: {join([name for name in dict.fromkeys(labels) if name])}."


def curve_figure(
    kind: str,
    objective: str | None,
    what: str,
    caption: str,
    panels: Sequence[CurvePanel],
    columns: int,
    where: str = "",
    note: str = "",
) -> CurveFigure:
    """A figure of curves, whose name, title and alternative text follow from its kind."""
    title = (f"{what}: {objective}" if objective else what) + where
    labels = [label for p in panels for label in (p.title, *(line.label for line in p.lines))]
    name, alt = named_after(kind, objective), alternative(title, labels)
    return CurveFigure(name, objective, title, caption, alt, tuple(panels), columns, note=note)


def dot_figure(
    kind: str,
    objective: str | None,
    what: str,
    caption: str,
    panels: Sequence[DotPanel],
    dot_label: str,
    centre_label: str,
    where: str = "",
    note: str = "",
) -> DotFigure:
    """A figure of rows, whose name, title and alternative text follow from its kind."""
    title = (f"{what}: {objective}" if objective else what) + where
    labels = [label for p in panels for label in (p.title, *(row.label for row in p.rows))]
    name, alt = named_after(kind, objective), alternative(title, labels)
    about = (name, objective, title, caption, alt)
    return DotFigure(*about, tuple(panels), dot_label, centre_label, note=note)


def shown_of(shown: int, total: int, what: str = "cases") -> str:
    """``Shown: 12 of 40 cases.``; empty where all are shown."""
    return f"Shown: {shown} of {total} {what}." if shown < total else ""


def joined(notes: Sequence[str]) -> str:
    """The notes that say something, as one."""
    return " ".join(note for note in notes if note)


def named_after(kind: str, objective: str | None) -> str:
    """The name of a figure of a kind, about one objective or all."""
    return f"{kind}_{safe_name(objective)}" if objective else kind


def safe_name(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def unique_name(name: str, taken: set[str]) -> str:
    """A name that no file system takes for another's."""
    candidate, count = name, 1
    while candidate.lower() in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate.lower())
    return candidate
