"""Figure records as plain data for a page's live charts, and the library that draws them there.

What is drawn is decided in the records, which the pictures on paper share; nothing is decided here.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray

from harness.reporting.figures.records import (
    NAMED_LEVELS,
    CurveFigure,
    CurvePanel,
    DotFigure,
    DotPanel,
    FigureRecord,
    HeatFigure,
    Line,
    PlaneFigure,
    Style,
)

Plain = dict[str, Any]
"""What JSON can say: no NaN, no arrays."""

DIGITS, SHORT, PLACE = 6, 5, 4
"""Significant digits of numbers; of edges of bands, single seeds and points of a path; of contours.
The tables' files have all."""

HEAT_STEPS = 64
"""Colours of a scale."""


def plain(record: FigureRecord) -> Plain | None:
    """What a live chart needs of a record; None for what is drawn on paper alone.

    The keys are the fields of the record in ``camelCase``, less what the page says already.
    Arrays of x that lines share stand once, in ``xs``; looks stand once, in ``styles``.
    """
    looks = _Looks()
    if isinstance(record, CurveFigure):
        panels = [_curve_panel(panel, looks) for panel in record.panels]
        return {"kind": "curves", "columns": record.columns, "panels": panels, **looks.plain()}
    if isinstance(record, DotFigure):
        return {
            "kind": "dots",
            "columns": record.columns,
            "dotLabel": record.dot_label,
            "centreLabel": record.centre_label,
            "numberLabel": record.number_label,
            "panels": [_dot_panel(panel, looks) for panel in record.panels],
            **looks.plain(),
        }
    if isinstance(record, PlaneFigure):
        return _planes(record, looks)
    if isinstance(record, HeatFigure):
        return _heat(record)
    return None


@dataclass(frozen=True)
class Library:
    """A script that a page carries and runs only when the first chart is looked at.

    Attributes:
        packed: The script, zipped and in base64.
        digest: ``sha256-...`` of the script itself, for the page's policy.
        version: What it is, with its version.
    """

    packed: str
    digest: str
    version: str


def library() -> Library:
    """The plotting library, Bokeh's, as a page carries it.

    Only its core: no widgets, no tables, no WebGL, no mathematics. Zipped it is about a quarter
    of its size.
    """
    found = importlib.util.find_spec("bokeh")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("bokeh is not installed")
    folder = FilePath(found.submodule_search_locations[0])
    script = (folder / "server" / "static" / "js" / "bokeh.min.js").read_bytes()
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    packed = base64.b64encode(gzip.compress(script, 9, mtime=0)).decode()
    return Library(packed, f"sha256-{digest}", f"Bokeh {version('bokeh')}")


def swatch(style: Style) -> Plain:
    """How a line or a mark of a case looks, as a legend shows it."""
    return {
        "color": style.color,
        "marker": style.marker,
        "dashes": list(style.dashes),
        "filled": style.filled,
        "width": style.width,
        "optimizer": style.optimizer,
    }


class _Looks:
    """The looks that a figure's lines and rows have, each once."""

    def __init__(self) -> None:
        self._styles: dict[Style, int] = {}

    def number(self, style: Style) -> int:
        """The place of some looks among all."""
        return self._styles.setdefault(style, len(self._styles))

    def plain(self) -> Plain:
        return {"styles": [swatch(style) for style in self._styles]}


class _Shared:
    """Arrays that several lines have, each once."""

    def __init__(self) -> None:
        self.arrays: list[list[float | int | None]] = []
        self._known: dict[bytes, int] = {}

    def number(self, values: NDArray[np.float64]) -> int:
        """The place of an array among all."""
        place = self._known.setdefault(values.tobytes(), len(self.arrays))
        if place == len(self.arrays):
            self.arrays.append(numbers(values))
        return place


def _curve_panel(panel: CurvePanel, looks: _Looks) -> Plain:
    shared = _Shared()

    def line(own: Line) -> Plain:
        known: Plain = {
            "label": own.label,
            "style": looks.number(own.style),
            "x": shared.number(own.x),
            "y": numbers(own.y, DIGITS if own.seed is None else SHORT),
        }
        if len(own.low):
            known |= {"low": numbers(own.low, SHORT), "high": numbers(own.high, SHORT)}
        if own.seed is not None:
            known["seed"] = own.seed
        if own.called and not own.label:
            known["called"] = own.called
        if len(own.seconds):
            known |= _pace(own)
        return known | {flag: True for flag in ("lost", "faint") if getattr(own, flag)}

    return {
        "title": panel.title,
        "xLabel": panel.x_label,
        "yLabel": panel.y_label,
        "log": panel.log,
        "xLog": panel.x_log,
        "limits": numbers(panel.limits),
        "lines": [line(own) for own in panel.lines],
        "strands": [line(own) for own in panel.strands],
        "rule": None if panel.rule is None else number(panel.rule),
        "ruleLabel": panel.rule_label,
        "marks": [
            {
                "x": number(mark.x),
                "text": mark.text,
                "before": number(mark.before),
                "after": number(mark.after),
            }
            for mark in panel.marks
        ],
        "ticks": [[number(place), name] for place, name in panel.ticks],
        "stepsPerX": panel.steps_per_x,
        "stepsPerEpoch": panel.steps_per_epoch,
        "xs": shared.arrays,
    }


def _pace(line: Line) -> Plain:
    """The seconds of a line: of a unit of x, where one takes as long as the other."""
    furthest = int(line.x.argmax())
    if line.x[furthest] > 0:
        with np.errstate(over="ignore", invalid="ignore"):
            per_x = float(line.seconds[furthest] / line.x[furthest])
            is_even = np.allclose(line.seconds, line.x * per_x, rtol=1e-9, atol=0.0)
        if is_even and math.isfinite(per_x):
            return {"secondsPerX": number(per_x)}
    return {"seconds": numbers(line.seconds, SHORT)}


def _dot_panel(panel: DotPanel, looks: _Looks) -> Plain:
    return {
        "title": panel.title,
        "xLabel": panel.x_label,
        "log": panel.log,
        "limits": numbers(panel.limits),
        "rule": None if panel.rule is None else number(panel.rule),
        "ruleLabel": panel.rule_label,
        "rows": [
            {
                "label": row.label,
                "note": row.note,
                "style": looks.number(row.style),
                "values": numbers(row.values),
                "offsets": [round(float(offset), 3) for offset in row.offsets],
                "numbers": [int(value) for value in row.numbers],
                "centre": number(row.centre),
                "low": number(row.low),
                "high": number(row.high),
                "published": number(row.published),
                "empty": row.empty,
            }
            for row in panel.rows
        ],
    }


def _planes(record: PlaneFigure, looks: _Looks) -> Plain:
    panels = [
        {
            "title": panel.title,
            "paths": [
                {
                    "label": path.label,
                    "style": looks.number(path.style),
                    "x": numbers(path.points[:, 0], SHORT),
                    "y": numbers(path.points[:, 1], SHORT),
                    "steps": [int(step) for step in path.steps],
                    "seed": path.seed,
                    "lost": path.lost,
                }
                for path in panel.paths
            ],
        }
        for panel in record.panels
    ]
    return {
        "kind": "planes",
        "columns": record.columns,
        "panels": panels,
        "window": [numbers(ends) for ends in record.window],
        "contours": list(_contours(record)),
        "minimizers": [numbers(point) for point in record.minimizers],
        **looks.plain(),
    }


def _contours(record: PlaneFigure) -> Iterable[Plain]:
    """The lines at each level, and whether the level is said."""
    known = record.contoured
    if known is None:
        return
    x1, x2, values, inside = known
    generator = contour_generator(x1, x2, values, corner_mask=True)
    named = set(inside[-NAMED_LEVELS:])
    for level in inside:
        lines = [np.asarray(line) for line in generator.lines(level)]
        yield {
            "level": number(level),
            "named": level in named,
            "lines": [[numbers(line[:, i], PLACE) for i in (0, 1)] for line in lines],
        }


def _heat(record: HeatFigure) -> Plain:
    from harness.reporting.figures.draw import HEAT_COLORS
    from harness.reporting.figures.plotting import mpl

    scale = mpl.colormaps[HEAT_COLORS](np.linspace(0, 1, HEAT_STEPS))
    return {
        "kind": "heat",
        "columns": record.columns,
        "valueLabel": record.value_label,
        "log": record.log,
        "limits": numbers(record.limits),
        "colors": [mpl.colors.to_hex(color) for color in scale],
        "panels": [
            {
                "title": panel.title,
                "optimizer": panel.optimizer,
                "xLabel": panel.x_label,
                "yLabel": panel.y_label,
                "xLog": panel.x_log,
                "yLog": panel.y_log,
                "x": numbers(panel.x),
                "y": numbers(panel.y),
                "values": numbers(panel.values),
                "best": panel.best,
            }
            for panel in record.panels
        ],
    }


def number(value: float, digits: int = DIGITS) -> float | int | None:
    """A number with the digits that count; None of what JSON has no word for."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    if not math.isfinite(short):  # rounded up, the largest number there is would be none
        return value
    # JSON would write a whole number with a needless ".0".
    return int(short) if short == int(short) and abs(short) < 1e15 else short


def numbers(
    values: Sequence[float] | NDArray[np.float64], digits: int = DIGITS
) -> list[float | int | None]:
    """Numbers likewise."""
    return [number(float(value), digits) for value in values]


def styles_by_optimizer(styles: Mapping[int, Style]) -> dict[str, Style]:
    """By an optimizer's name, the looks of its first case."""
    found: dict[str, Style] = {}
    for style in styles.values():
        found.setdefault(style.optimizer, style)
    return found
