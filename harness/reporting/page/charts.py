"""Figure records as plain data for a page's live charts, and the library that draws them there.

What is drawn is decided in the records, which the pictures on paper share; nothing is decided here.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import importlib.util
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.reporting.figures.records import (
    HEAT_COLORS,
    CurveFigure,
    CurvePanel,
    DotFigure,
    FigureRecord,
    HeatFigure,
    Line,
    PlaneFigure,
    Trajectory,
)
from harness.reporting.figures.styles import Style

Plain = dict[str, Any]
"""A JSON object: no NaN, no arrays."""

DIGITS, SHORT, PLACE = 6, 5, 4
"""Significant digits of numbers; of lines, their bands and points of a trajectory; of contours.
The tables' files have all."""

SHORT_FIELDS = {
    "low": SHORT,
    "high": SHORT,
    "seconds": SHORT,
    "points": SHORT,
    "end": SHORT,
    "curve": SHORT,
    "offsets": 3,
}

HEAT_STEPS = 64
"""Colours of a scale."""

KINDS: Mapping[type[FigureRecord], str] = {
    CurveFigure: "curves",
    DotFigure: "dots",
    PlaneFigure: "planes",
    HeatFigure: "heat",
}
"""The records that have a live chart."""

LEFT_OUT = {
    *(field.name for field in dataclasses.fields(FigureRecord)),
    "landscape",
    "levels",
}
"""Fields that the page says already, or that stand in the data in another form."""


def plain(record: FigureRecord) -> Plain | None:
    """The data of a live chart; None for a record that is drawn on paper alone.

    The keys are the fields of the record in ``camelCase``, less what the page says already.
    What lines share stands once: arrays of x in ``xs``, styles in ``styles``, and the steps of
    trajectories in ``steps``.
    """
    if type(record) not in KINDS:
        return None
    converter = _Converter()
    data = {"kind": KINDS[type(record)], **converter.fields(record, left_out=LEFT_OUT)}
    if isinstance(record, PlaneFigure):
        data["contours"] = list(_contours(record))
        data["steps"] = [list(steps) for steps in converter.steps]
    if isinstance(record, HeatFigure):
        from harness.reporting.figures.plotting import mpl

        scale = mpl.colormaps[HEAT_COLORS](np.linspace(0, 1, HEAT_STEPS))
        data["colors"] = [mpl.colors.to_hex(color) for color in scale]
    behinds = {"behinds": list(converter.behinds.values())} if converter.behinds else {}
    return data | behinds | {"styles": [swatch(style) for style in converter.styles]}


class _Converter:
    """Records as JSON objects, with each style once and each x of a panel once."""

    def __init__(self) -> None:
        self.styles: dict[Style, int] = {}
        self.steps: dict[tuple[int, ...], int] = {}
        self._xs: dict[bytes, int] = {}
        self.behinds: dict[int, Plain] = {}

    def fields(self, record: Any, left_out: Iterable[str] = ()) -> Plain:
        """The fields of a record by their names in ``camelCase``."""
        return {
            _camel(field.name): self._value(getattr(record, field.name), field.name)
            for field in dataclasses.fields(record)
            if field.name not in left_out
        }

    def _value(self, value: Any, name: str) -> Any:
        match value:
            case Style():
                return self.styles.setdefault(value, len(self.styles))
            case CurvePanel():
                return self._curve_panel(value)
            case Trajectory():
                steps = self.steps.setdefault(tuple(value.steps.tolist()), len(self.steps))
                return {**self.fields(value, left_out=["steps"]), "steps": steps}
            case Line():
                return self._line(value)
            case np.ndarray() if value.ndim > 1:
                return [self._value(column, name) for column in value.T]
            case np.ndarray() if value.dtype.kind == "i":
                return value.tolist()
            case np.ndarray():
                return numbers(value, SHORT_FIELDS.get(name, DIGITS))
            case float() | np.floating():
                return number(float(value))
            case tuple():
                return [self._value(item, name) for item in value]
        return self.fields(value) if dataclasses.is_dataclass(value) else value

    def _curve_panel(self, panel: CurvePanel) -> Plain:
        behind = {"behind": self._behind(panel.behind)} if panel.behind else {}
        self._xs = {}
        data = self.fields(panel, left_out=("behind",) if panel.metric else ("behind", "metric"))
        return data | behind | {"xs": [numbers(np.frombuffer(x)) for x in self._xs]}

    def _behind(self, lines: tuple[Line, ...]) -> int:
        """The place of faint lines that panels share, which stand in the data once."""
        if id(lines) not in self.behinds:
            self._xs = {}
            data = {"lines": [self._line(line) for line in lines]}
            self.behinds[id(lines)] = data | {"xs": [numbers(np.frombuffer(x)) for x in self._xs]}
        return list(self.behinds).index(id(lines))

    def _line(self, line: Line) -> Plain:
        """A line without what it does not have, for there are many."""
        data = {
            "label": line.label,
            "style": self._value(line.style, "style"),
            "x": self._xs.setdefault(np.asarray(line.x, float).tobytes(), len(self._xs)),
            "y": numbers(line.y, SHORT),
        }
        if len(line.low):
            data |= {"low": numbers(line.low, SHORT), "high": numbers(line.high, SHORT)}
        if len(line.x_low):
            data |= {"xLow": numbers(line.x_low), "xHigh": numbers(line.x_high)}
        if line.seed is not None:
            data["seed"] = line.seed
        if line.called and (line.part or not line.label):
            data["called"] = line.called
        if line.part:
            data["part"] = line.part
        if len(line.seconds):
            data |= _pace(line)
        flags = {"failed": line.failed, "faint": line.faint}
        return data | {name: True for name, is_set in flags.items() if is_set}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


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


def _contours(record: PlaneFigure) -> Iterable[Plain]:
    """The lines at each level, the areas above it, and the place of its label."""
    from harness.reporting.figures.contours import contours

    for one in contours(record):
        yield {
            "level": number(one.level),
            "label": one.label and numbers(one.label, PLACE),
            "lines": [_outline(line) for line in one.lines],
            "areas": [[_outline(ring) for ring in area] for area in one.areas],
        }


def _outline(points: NDArray[np.float64]) -> list[list[float | int | None]]:
    return [numbers(points[:, i], PLACE) for i in (0, 1)]


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


def swatch(style: Style) -> Plain:
    """A style as a legend of the page shows it."""
    return dataclasses.asdict(style) | {"dashes": list(style.dashes)}


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
    folder = Path(found.submodule_search_locations[0])
    script = (folder / "server" / "static" / "js" / "bokeh.min.js").read_bytes()
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    return Library(packed(script), f"sha256-{digest}", f"Bokeh {version('bokeh')}")


def packed(content: bytes) -> str:
    """Content zipped and in base64, the same each time; the page's script unpacks it."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
