"""What panels have behind their own: in an SVG once, in every panel to the eye."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harness.reporting.figures import contours, planes
from harness.reporting.figures.backdrops import Backdrop, drawn_once
from harness.reporting.figures.draw import draw
from harness.reporting.figures.records import (
    CurveFigure,
    CurvePanel,
    GalleryFigure,
    Line,
    PlanePanel,
    Trajectory,
    faint,
)
from harness.reporting.figures.styles import Style

Array = NDArray[np.float64]

WINDOW = ((-6.0, 2.0), (-3.0, 2.0))
LOW, HIGH = np.transpose(WINDOW)
GRIDS = np.meshgrid(np.linspace(-6, 2, 61), np.linspace(-3, 2, 61))
RIPPLES: Array = GRIDS[0] ** 2 + 3 * GRIDS[1] ** 2 + 4 * np.sin(3 * GRIDS[0]) * np.sin(3 * GRIDS[1])
STYLE = Style("#0072b2", "o", (), filled=True, width=1.6, optimizer="o")

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
OFF = 0.15
"""Points that a place in an SVG may be off: rounded to tenths, with half of one to spare."""


def path_of(number: int) -> Array:
    """A way that no other panel has."""
    turns = np.linspace(0, 2 + 0.3 * number, 41)
    ends = np.column_stack([np.cos(turns), np.sin(turns)]) * np.linspace(2, 0.2, 41)[:, None]
    found: Array = ends + np.array([-2.0 + 0.01 * number, -0.5])
    return found


def gallery_of(count: int, columns: int = 6) -> GalleryFigure:
    paths = [path_of(i) for i in range(count)]
    panels = [
        PlanePanel(f"{i} opt", (Trajectory("o", STYLE, path, failed=False, end=path[-1]),))
        for i, path in enumerate(paths)
    ]
    return GalleryFigure(
        name="gallery_ripples_1",
        objective="ripples",
        title="Gallery",
        caption="",
        alt="Gallery.",
        panels=tuple(panels),
        columns=columns,
        window=WINDOW,
        landscape=RIPPLES,
        levels=(1.0, 10.0, 30.0),
        minimizers=((0.5, -0.5),),
    )


def points_of(d: str) -> list[Array]:
    """The lines of a path of straight relative steps, in absolute numbers."""
    lines = []
    for part in re.findall(r"M[^M]*", d):
        steps = np.array(re.findall(r"-?[0-9]*\.?[0-9]+", part), dtype=float).reshape(-1, 2)
        lines.append(np.cumsum(steps, axis=0))
    return lines


def away(points: Array, line: Array) -> float:
    """The farthest that any of some points is from a line of straight pieces."""
    a, b = line[:-1], line[1:]
    along = b - a
    lengths = np.maximum((along**2).sum(axis=1), 1e-12)
    at = np.clip(((points[:, None] - a) * along).sum(axis=2) / lengths, 0, 1)
    gaps = points[:, None] - (a + at[..., None] * along)
    return float(np.sqrt((gaps**2).sum(axis=2)).min(axis=1).max())


@dataclass(frozen=True)
class Parsed:
    """A gallery's SVG: the frame of each panel as ``(x, y, width, height)``, and what is where."""

    root: ET.Element
    frames: dict[str, Array]

    @classmethod
    def of(cls, svg: str) -> Parsed:
        root = ET.fromstring(svg)
        frames = {
            f"url(#{clip.get('id')})": np.array(
                [float(clip[0].get(key) or 0) for key in ("x", "y", "width", "height")]
            )
            for clip in root.iter(f"{SVG}clipPath")
        }
        return cls(root, frames)

    def ways(self) -> list[tuple[Array, Array]]:
        """Each trajectory with the frame that it is cut off at, in the panels' order."""
        thick = [p for p in self.root.iter(f"{SVG}path") if "#0072b2" in (p.get("style") or "")]
        return [
            (points_of(p.get("d") or "")[0], self.frames[p.get("clip-path") or ""]) for p in thick
        ]

    @property
    def behind(self) -> ET.Element:
        [found] = [g for g in self.root.iter(f"{SVG}g") if "behind" in (g.get("id") or "")]
        return found

    def again(self) -> list[Array]:
        """How far each repetition is from the first."""
        target = f"#{self.behind.get('id')}"
        uses = [use for use in self.root.iter(f"{SVG}use") if use.get(LINK) == target]
        return [np.array([float(use.get(key) or 0) for key in "xy"]) for use in uses]


def placed(points: Array, frame: Array) -> Array:
    """Places of a landscape as points of a picture."""
    x, y, width, height = frame
    share = (points - LOW) / (HIGH - LOW)
    found: Array = np.column_stack([x + share[:, 0] * width, y + (1 - share[:, 1]) * height])
    return found


def test_every_panel_of_a_gallery_shows_its_own_way_in_its_own_frame() -> None:
    record = gallery_of(20)
    ways = Parsed.of(draw(record).svg).ways()
    assert len(ways) == 20
    assert len({tuple(frame) for _, frame in ways}) == 20
    for panel, (drawn, frame) in zip(record.panels, ways, strict=True):
        expected = placed(panel.trajectories[0].points, frame)
        assert np.abs(drawn[[0, -1]] - expected[[0, -1]]).max() < OFF
        assert away(drawn, expected) < OFF
        assert away(expected, drawn) < 0.5  # half of a point may be simplified away


def test_contours_stand_in_a_gallery_once_and_every_other_panel_refers_to_them() -> None:
    record = gallery_of(20)
    parsed = Parsed.of(draw(record).svg)
    frames = [frame for _, frame in parsed.ways()]
    lines = [line for one in contours.contours(record) for line in one.lines]
    assert len(lines) > 5
    thin = [
        p for p in parsed.root.iter(f"{SVG}path") if "stroke-width: 0.6" in (p.get("style") or "")
    ]
    assert [p in list(parsed.behind.iter()) for p in thin] == [True]
    drawn = points_of(thin[0].get("d") or "")
    assert len(drawn) == len(lines)
    for line, shown in zip(lines, drawn, strict=True):
        assert away(placed(line, frames[0]), shown) < 0.5
    offsets = parsed.again()
    assert len(offsets) == 19
    for offset, frame in zip(offsets, frames[1:], strict=True):
        assert frame[2:] == pytest.approx(frames[0][2:], abs=0.02)
        assert offset == pytest.approx(frame[:2] - frames[0][:2], abs=0.02)


def test_a_panel_more_takes_few_bytes_however_rich_the_landscape() -> None:
    few, many = (len(draw(gallery_of(count)).svg) for count in (12, 42))
    plain = len(draw(replace(gallery_of(42), landscape=None)).svg)
    assert (many - few) / 30 < 1500
    assert many - plain < 20_000


def test_on_paper_every_panel_has_its_contours() -> None:
    def shaded(record: GalleryFigure) -> list[int]:
        figure = planes.gallery(record)
        figure.dpi = 100
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3].min(axis=2)
        counts = []
        for ax in figure.axes:
            box = ax.get_window_extent()
            rows = pixels[len(pixels) - int(box.y1) : len(pixels) - int(box.y0)]
            counts.append(int((rows[:, int(box.x0) : int(box.x1)] < 240).sum()))
        return counts

    blank = replace(gallery_of(9), landscape=None)
    for with_contours, without in zip(shaded(gallery_of(9)), shaded(blank), strict=True):
        assert with_contours > without + 300


def curves_of(count: int, **changes: Any) -> CurveFigure:
    """Panels of a line each, with all others faint behind."""
    x = np.arange(60.0)
    lines = [Line(f"o{i}", STYLE, x, 1.2 + np.sin(x * (0.3 + 0.05 * i)) + i) for i in range(count)]
    behind = tuple(faint(line) for line in lines)
    panels = [
        CurvePanel(
            title=line.label, x_label="step", y_label="loss", limits=(0.0, 2.0 + count),
            lines=(line,), behind=behind,
        )
        for line in lines
    ]  # fmt: skip
    panels[-1] = replace(panels[-1], **changes)
    return CurveFigure("loss_f", "f", "Loss", "", "Loss.", tuple(panels), 4)


def faint_paths(svg: str) -> int:
    return len(re.findall(r"<path [^>]*opacity: 0\.35", svg))


def test_faint_curves_behind_small_multiples_stand_there_once() -> None:
    svg = draw(curves_of(12)).svg
    assert faint_paths(svg) == 12
    assert len(re.findall(r'<use xlink:href="#behind-', svg)) == 11


@pytest.mark.parametrize(
    "changes", [{"limits": (0.0, 20.0)}, {"x_log": True}, {"log": True, "limits": (0.1, 14.0)}]
)
def test_a_panel_with_other_scales_has_curves_of_its_own(changes: dict[str, Any]) -> None:
    svg = draw(curves_of(12, **changes)).svg
    assert faint_paths(svg) == 24
    assert len(re.findall(r'<use xlink:href="#behind-', svg)) == 10


def test_what_looks_alike_is_told_by_kind_scales_and_size() -> None:
    figure = Figure(figsize=(6, 3))
    grid = figure.add_gridspec(1, 3, width_ratios=[1, 1, 2])
    found = []
    for place, kind in ((0, 0), (1, 0), (1, 1), (2, 0)):
        ax = figure.add_subplot(grid[place])
        found.append(Backdrop(ax, ax.plot([0, 1], [0, 1]), kind))
    first, same, other_kind, wider = found
    assert first.looks_like(same)
    assert not first.looks_like(other_kind)
    assert not first.looks_like(wider)
    with drawn_once(figure):
        assert [one.is_drawn for one in found] == [True, False, True, True]
    assert all(one.is_drawn for one in found)
    same.panel.set_xlim(0, 5)
    assert not first.looks_like(same)
