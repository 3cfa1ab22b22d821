"""Figure records as pictures: an SVG that a page can recolour, a PNG and a PDF."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.reporting.figures.plotting import mpl  # before any part of matplotlib

# isort: split

import numpy as np
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from harness.reporting.figures import fonts, panels, planes, strips
from harness.reporting.figures.backdrops import drawn_once, referred
from harness.reporting.figures.frames import BACKGROUND, FOREGROUND, GRID, SMALL
from harness.reporting.figures.map_drawing import draw_map
from harness.reporting.figures.records import (
    CurveFigure,
    DotFigure,
    FigureRecord,
    GalleryFigure,
    HeatFigure,
    PlaneFigure,
)
from harness.reporting.figures.svg import svg_element
from harness.reporting.figures.win_map import MapFigure

PNG_DPI, IMAGE_DPI = 300, 150
"""Dots per inch of a PNG, and of what is an image in an SVG."""

UNNAMED = {"CreationDate": None, "Creator": None, "Producer": None}
"""Metadata that a PDF leaves out, so that the same figure gives the same bytes."""


@dataclass(frozen=True)
class Drawing:
    """A figure drawn.

    Attributes:
        name: File name without ending.
        svg: From ``<svg`` on; its ids are its own, and nothing in it names a date.
        png: At 300 dpi, on paper.
        pdf: As vectors, with its fonts embedded as TrueType.
    """

    name: str
    svg: str
    png: bytes
    pdf: bytes = b""


def draw_all(records: Iterable[FigureRecord]) -> list[Drawing]:
    """Draw every record, in order."""
    # The collector needs not go through all that was there before; it takes a tenth of the time.
    gc.freeze()
    try:
        return [draw(record) for record in records]
    finally:
        gc.unfreeze()


def draw(record: FigureRecord) -> Drawing:
    """Draw one record; the same record gives the same bytes."""
    with mpl.rc_context():
        # From matplotlib's own defaults: what a user's matplotlibrc says must change nothing.
        mpl.rcdefaults()
        mpl.rcParams.update(_theme(record.name))
        figure = _figure(record)
        figure.dpi = PNG_DPI
        pixels: Any = FigureCanvasAgg(figure)
        # All pictures share one layout, searched for once; `savefig` would do so each time.
        if engine := figure.get_layout_engine():
            engine.execute(figure)
        figure.set_layout_engine("none")
        png, svg, pdf = io.BytesIO(), io.StringIO(), io.BytesIO()
        pixels.draw()
        image = Image.fromarray(np.asarray(pixels.buffer_rgba())).convert("RGB")
        # More compression takes twice as long, for a quarter of the bytes.
        image.save(png, "PNG", dpi=(PNG_DPI, PNG_DPI), compress_level=1)
        _hold_labels(figure)
        page: Any = FigureCanvasPdf(figure)
        page.print_pdf(pdf, metadata={"Title": record.title, **UNNAMED})
        figure.dpi = IMAGE_DPI
        shapes: Any = FigureCanvasSVG(figure)
        with drawn_once(figure):
            shapes.print_svg(svg, metadata={"Date": None})
        element = svg_element(referred(svg.getvalue(), record.name), record.alt)
        return Drawing(record.name, element, png.getvalue(), pdf.getvalue())


def _hold_labels(figure: Figure) -> None:
    """Leave the labels of axes where they were drawn, which takes long to find."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            label = axis.label
            place = label.get_transform().transform(label.get_position())
            axis.set_label_coords(*ax.transAxes.inverted().transform(place))


def _figure(record: FigureRecord) -> Figure:
    match record:
        case CurveFigure():
            return panels.curves(record)
        case DotFigure():
            return strips.dots(record)
        case GalleryFigure():
            return planes.gallery(record)
        case PlaneFigure():
            return planes.planes(record)
        case HeatFigure():
            return panels.heat(record)
        case MapFigure():
            return draw_map(record)
    raise TypeError(f"no renderer for {type(record).__name__}")


def _theme(name: str) -> dict[str, Any]:
    """Settings of matplotlib: seaborn's white grid in three colours, text that stays text."""
    theme: dict[str, Any] = dict(sns.axes_style("whitegrid"))
    return theme | {
        "font.family": list(fonts.families()),
        "font.size": SMALL,
        "axes.titlesize": SMALL + 0.5,
        "axes.titlelocation": "left",
        "axes.labelsize": SMALL + 0.5,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
        "legend.frameon": False,
        "figure.facecolor": BACKGROUND,
        "savefig.facecolor": BACKGROUND,
        "axes.facecolor": "none",
        "text.color": FOREGROUND,
        "axes.labelcolor": FOREGROUND,
        "axes.edgecolor": FOREGROUND,
        "xtick.color": FOREGROUND,
        "ytick.color": FOREGROUND,
        "grid.color": GRID,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.xmargin": 0.02,
        "xtick.bottom": True,
        "ytick.left": True,
        "axes.formatter.useoffset": False,
        "text.parse_math": False,
        "path.simplify_threshold": 0.3,  # in points
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": name,
    }
