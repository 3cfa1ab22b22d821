"""What a figure can show: plain arrays and words. Drawn elsewhere; no drawing library is known."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.gate.report import Outcome
from harness.store.read import CaseData, ObjectiveInfo, Results

Array = NDArray[np.float64]
Seeds = NDArray[np.int64]
_Number = TypeVar("_Number", np.float64, np.int64)
_NONE: Array = np.empty(0)

COLORS = ("#0072b2", "#d55e00", "#009e73", "#c0659b", "#b98600", "#3f97d0", "#8a7a6d")
"""Okabe and Ito's colours less yellow and black, the pale ones deepened: each stands out from
near-white and near-black paper alike."""

MARKERS = ("o", "s", "^", "D", "v", "P", "<", "p", ">", "h", "*")
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5.0, 1.6),
    (5.0, 1.5, 1.2, 1.5),
    (1.4, 1.2),
    (7.0, 1.5, 1.2, 1.5, 1.2, 1.5),
    (3.0, 1.4),
)

LOG_DECADES = 1.5
"""Positive values that span more than this are drawn on a logarithmic scale."""

DEEPEST_DECADES = 16.0
"""A logarithmic scale goes no deeper below its top than this."""

CURVES, ROWS, PLANES = 12, 40, 12
"""Most cases in full in a panel of curves, of rows, and in small multiples."""

POINTS, FAINT_POINTS = 301, 61
"""Most points of a line."""

DOTS = 120
"""Most dots of a row."""

FEW_OBJECTIVES = 6
"""Objectives beyond which the overview puts two of them side by side."""

LOST_CURVES = 10
"""Most curves drawn of one case's seeds that did not end ok."""

STRANDS, STRAND_POINTS = 10, 41
"""Most single seeds of a case whose curves a reader can ask for, and points of each."""

NAMED_LEVELS = 4
"""How many contours say their loss, the outermost: the innermost are too small for it."""

NO_SEEDS: Seeds = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Style:
    """How an optimizer looks in every figure.

    Attributes:
        color: ``#rrggbb``; the settings of one optimizer differ in lightness.
        marker: In matplotlib's letters.
        dashes: Lengths on and off, in line widths; empty for a solid line.
        filled: Whether the marker is; settings alternate.
        width: Line width in points; later optimizers are thinner, so that coinciding lines show.
        optimizer: Whose looks these are: what a reader selects by.
    """

    color: str
    marker: str
    dashes: tuple[float, ...]
    filled: bool
    width: float
    optimizer: str = ""


@dataclass(frozen=True)
class FigureRecord:
    """What every figure has.

    Attributes:
        name: File name without ending: letters, digits, ``_`` and ``-``.
        objective: The objective it is about; None where it is about all.
        title: Heading.
        caption: What is drawn, and which statistic.
        alt: What the picture shows, in words and numbers.
    """

    name: str
    objective: str | None
    title: str
    caption: str
    alt: str


@dataclass(frozen=True, eq=False)
class Line:
    """One line; all arrays have the length of ``x``.

    Attributes:
        label: Its place in the legend; empty where it has none.
        style: Its looks.
        x: Steps or epochs.
        y: Values; NaN nowhere.
        low: Lower edge of the band; empty where there is none.
        high: Upper edge.
        lost: Whether it is a trial that did not end ok: it ends in a cross.
        faint: Whether it stands back.
        seed: Whose course it is, where it is one trial's.
        seconds: What it took until each x; empty where that is not known.
        called: What it is called where it is pointed at and has no label.
    """

    label: str
    style: Style
    x: Array
    y: Array
    low: Array
    high: Array
    lost: bool = False
    faint: bool = False
    seed: int | None = None
    seconds: Array = field(default_factory=lambda: np.empty(0))
    called: str = ""


@dataclass(frozen=True)
class Mark:
    """A place where a line moves to a new level.

    Attributes:
        x: Where.
        text: Its number, as the words below the figure have it.
        before: Height of the level that ends.
        after: Height of the level that begins.
    """

    x: float
    text: str
    before: float
    after: float


@dataclass(frozen=True, eq=False)
class CurvePanel:
    """Lines over steps or epochs, or over checks.

    Attributes:
        title: Above the panel; may be empty.
        x_label: With its unit.
        y_label: With its unit.
        log: Whether y is logarithmic.
        limits: Of y.
        lines: From back to front.
        rule: Height of a dashed line across; None for none.
        rule_label: What the dashed line is.
        marks: Where lines move to a new level.
        ticks: Places of x that have a name; empty where x has a scale of numbers.
        x_log: Whether x is logarithmic.
        steps_per_x: Steps in a unit of x; None where x is no part of a training.
        steps_per_epoch: Steps in an epoch; 1 where there are no data.
        strands: Single seeds behind the lines, for who asks for them; not drawn on paper.
    """

    title: str
    x_label: str
    y_label: str
    log: bool
    limits: tuple[float, float]
    lines: tuple[Line, ...]
    rule: float | None = None
    rule_label: str = ""
    marks: tuple[Mark, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()
    x_log: bool = False
    steps_per_x: int | None = None
    steps_per_epoch: int = 1
    strands: tuple[Line, ...] = ()


@dataclass(frozen=True)
class CurveFigure(FigureRecord):
    """Panels of curves, row by row.

    Attributes:
        panels: Row by row.
        columns: How many stand side by side.
    """

    panels: tuple[CurvePanel, ...]
    columns: int


@dataclass(frozen=True, eq=False)
class DotRow:
    """One case as dots and an estimate.

    Attributes:
        label: Name of the case.
        note: Below the name; may be empty.
        style: Its looks.
        values: Ascending; one dot each.
        offsets: How far off the row's middle each dot lies, within ±0.5.
        centre: Mean or median; NaN where there are no values.
        low: Lower end of its interval; NaN where there is none.
        high: Upper end.
        published: A published value of the same; NaN where there is none.
        empty: What is said where there are neither values nor an estimate.
        numbers: What each dot is the seed or the block of; empty where that is not known.
    """

    label: str
    note: str
    style: Style
    values: Array
    offsets: Array
    centre: float
    low: float
    high: float
    published: float = math.nan
    empty: str = "no seed ended ok"
    numbers: Seeds = field(default_factory=lambda: NO_SEEDS)


@dataclass(frozen=True, eq=False)
class DotPanel:
    """Rows over one scale; ``limits`` and ``log`` are of x, ``rule`` is a dashed line across."""

    title: str
    x_label: str
    log: bool
    limits: tuple[float, float]
    rows: tuple[DotRow, ...]
    rule: float | None = None
    rule_label: str = ""


@dataclass(frozen=True)
class DotFigure(FigureRecord):
    """Panels of rows.

    Attributes:
        panels: Row by row; those side by side have the same rows.
        dot_label: What a dot is; empty where there are none.
        centre_label: What the estimate is.
        columns: How many stand side by side.
        number_label: What a dot's number is.
    """

    panels: tuple[DotPanel, ...]
    dot_label: str
    centre_label: str
    columns: int = 1
    number_label: str = "seed"


@dataclass(frozen=True)
class IntervalRow:
    """One cell as an estimate with its interval.

    Attributes:
        label: Name of the cell.
        note: Below the name; may be empty.
        outcome: What came of it; decides the mark.
        centre: The estimate.
        low: Lower end of its interval; NaN where there is none.
        high: Upper end.
        limit: The largest estimate that passes.
    """

    label: str
    note: str
    outcome: Outcome
    centre: float
    low: float
    high: float
    limit: float


@dataclass(frozen=True)
class IntervalPanel:
    """Rows over one scale, about a line at 1; ``limits`` and ``log`` are of x."""

    title: str
    x_label: str
    log: bool
    limits: tuple[float, float]
    rows: tuple[IntervalRow, ...]


@dataclass(frozen=True)
class IntervalFigure(FigureRecord):
    """Panels of intervals, one below the other."""

    panels: tuple[IntervalPanel, ...]


@dataclass(frozen=True, eq=False)
class Path:
    """One trajectory.

    Attributes:
        label: Its place in the legend.
        style: Its looks.
        points: ``(points, 2)``.
        lost: Whether the trial did not end ok.
        steps: The step of each point; empty where that is not known.
        seed: Whose it is.
    """

    label: str
    style: Style
    points: Array
    lost: bool
    steps: Seeds = field(default_factory=lambda: NO_SEEDS)
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class PlanePanel:
    """Trajectories in one plane."""

    title: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class PlaneFigure(FigureRecord):
    """Trajectories over a landscape.

    Attributes:
        panels: Row by row.
        columns: How many stand side by side.
        window: Range of x1, range of x2.
        landscape: Loss on a regular grid over the window, ``(x2, x1)``; None where unknown.
        levels: Losses at which contours are drawn, ascending.
        minimizers: Where the loss is lowest.
    """

    panels: tuple[PlanePanel, ...]
    columns: int
    window: tuple[tuple[float, float], tuple[float, float]]
    landscape: Array | None
    levels: tuple[float, ...]
    minimizers: tuple[tuple[float, ...], ...]

    @property
    def contoured(self) -> tuple[Array, Array, np.ma.MaskedArray, list[float]] | None:
        """x1, x2 and the landscape over them, with the levels that it has; None without any."""
        if self.landscape is None:
            return None
        values = np.ma.masked_invalid(self.landscape)
        inside = [level for level in self.levels if values.min() < level < values.max()]
        if not inside:
            return None
        x1, x2 = (
            np.linspace(*ends, count)
            for ends, count in zip(self.window, values.shape[::-1], strict=True)
        )
        return x1, x2, values, inside


@dataclass(frozen=True, eq=False)
class HeatPanel:
    """Settings in the plane of two hyperparameters, each with a value that is shown as a colour.

    Attributes:
        title: Above the panel.
        x_label: The one hyperparameter.
        y_label: The other.
        x_log: Whether x is logarithmic.
        y_log: Whether y is.
        x: One per setting.
        y: Likewise.
        values: Likewise; NaN where some trial did not end ok.
        best: Index of the best setting; None where none is.
        optimizer: Whose settings they are.
    """

    title: str
    x_label: str
    y_label: str
    x_log: bool
    y_log: bool
    x: Array
    y: Array
    values: Array
    best: int | None
    optimizer: str = ""


@dataclass(frozen=True)
class HeatFigure(FigureRecord):
    """Panels of settings under one scale of colours.

    Attributes:
        panels: Row by row.
        columns: How many stand side by side.
        value_label: What the colours are.
        log: Whether their scale is logarithmic.
        limits: Of the scale.
    """

    panels: tuple[HeatPanel, ...]
    columns: int
    value_label: str
    log: bool
    limits: tuple[float, float]


def styles(results: Results) -> dict[int, Style]:
    """Looks by a case's position, decided by the order of optimizers and of their settings."""
    settings: dict[tuple[str, str], list[str]] = {}
    for case in results.cases:
        known = settings.setdefault((case.optimizer, case.objective), [])
        if case.setting not in known:
            known.append(case.setting)
    order = {name: i for i, name in enumerate(results.optimizers)}
    return {
        case.position: style_of(
            order[case.optimizer],
            (own := settings[case.optimizer, case.objective]).index(case.setting),
            len(own),
            case.optimizer,
        )
        for case in results.cases
    }


def style_of(optimizer: int, setting: int, settings: int, name: str = "") -> Style:
    """Looks of an optimizer by its place among all, and of one of so many settings of it."""
    shade = 0.0 if settings == 1 else setting / (settings - 1)
    color = COLORS[optimizer % len(COLORS)]
    return Style(
        color=color if settings == 1 else _shaded(color, shade),
        marker=MARKERS[optimizer % len(MARKERS)],
        dashes=DASHES[optimizer % len(DASHES)],
        filled=setting % 2 == 0,
        width=max(1.3, 2.3 - 0.25 * optimizer),
        optimizer=name,
    )


def _shaded(color: str, shade: float) -> str:
    """A colour from a little deeper (0) to clearly paler (1) than given."""
    toward, weight = (0, 0.14 * (1 - 2 * shade)) if shade < 0.5 else (255, 0.32 * (2 * shade - 1))
    channels = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (toward - c) * weight):02x}" for c in channels)


def devices_of(cases: Sequence[CaseData]) -> list[str]:
    """The devices that cases ran on, in order."""
    return list(dict.fromkeys(case.device for case in cases))


def named(case: CaseData, several_devices: bool) -> str:
    """A case, with its device where there are several."""
    return f"{case.label} on {case.device}" if several_devices else case.label


def duration(info: ObjectiveInfo) -> str:
    """How long a trial is: ``20 steps``, ``2 epochs``."""
    if not info.has_epochs:
        return f"{info.steps} step{'s' if info.steps != 1 else ''}"
    epochs = info.steps / info.steps_per_epoch
    return f"{epochs:.6g} epoch{'s' if epochs != 1 else ''}"


def wants_log(values: Array) -> bool:
    """Whether values are nowhere negative, and the positive ones span many decades."""
    positive = values[values > 0]
    if len(positive) < 2 or (values < 0).any():
        return False
    return math.log10(float(positive.max())) - math.log10(float(positive.min())) > LOG_DECADES


def scale(
    values: Sequence[Array], edges: Sequence[Array], *, linear: bool = False
) -> tuple[bool, tuple[float, float]]:
    """Whether to take logarithms, and limits with a margin that hold all that can be shown."""
    inner = np.concatenate([*values, _NONE])
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


def dots(values: NDArray[_Number]) -> NDArray[_Number]:
    """What is drawn of a row's values in ascending order, evenly spaced by rank."""
    return values[thinned(len(values), DOTS)]


def offsets(count: int) -> Array:
    """Places off a row's middle that keep neighbours in rank apart: a golden-ratio sequence."""
    ranks = np.arange(count, dtype=np.float64)
    return (ranks * 0.6180339887498949 + 0.5) % 1.0 - 0.5


def thinned(count: int, most: int) -> NDArray[np.int64]:
    """At most so many indices below ``count``, evenly spaced, the first and the last among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


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
