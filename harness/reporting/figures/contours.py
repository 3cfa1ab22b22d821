"""Contours of landscapes: lines of equal loss, and the areas above them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.reporting.figures.plotting import mpl  # noqa: F401  # before any part of matplotlib

# isort: split

import numpy as np
from contourpy import FillType, contour_generator
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from harness.reporting.figures.records import LABELED_LEVELS, Array, PlaneFigure

ACROSS, HAIR = 640.0, 1.0
"""Pixels across a picture, and how far a line may turn from its direction between two points."""


@dataclass(frozen=True, eq=False)
class Contour:
    """The place of one loss in a landscape.

    Attributes:
        level: The loss.
        label: Where its number stands, off the trajectories; None without one.
        lines: Each ``(points, 2)``.
        areas: Where the loss is higher: of each area the outline, then those of its holes.
    """

    level: float
    label: tuple[float, float] | None
    lines: tuple[Array, ...]
    areas: tuple[tuple[Array, ...], ...]


def grid_of(record: PlaneFigure) -> tuple[Array, Array, np.ma.MaskedArray] | None:
    """x1, x2 and the landscape over them; None where no level crosses it."""
    if record.landscape is None or not levels_of(record):
        return None
    values = np.ma.masked_invalid(record.landscape)
    x1, x2 = (
        np.linspace(*ends, count)
        for ends, count in zip(record.window, values.shape[::-1], strict=True)
    )
    return x1, x2, values


def levels_of(record: PlaneFigure) -> list[float]:
    """The levels that the landscape crosses, ascending."""
    if record.landscape is None:
        return []
    values = record.landscape[np.isfinite(record.landscape)]
    return [level for level in record.levels if len(values) and values.min() < level < values.max()]


def contours(record: PlaneFigure) -> list[Contour]:
    """The contours of a landscape, with no more points than can be seen."""
    known = grid_of(record)
    if known is None:
        return []
    levels = levels_of(record)
    generator = contour_generator(*known, corner_mask=True, fill_type=FillType.OuterOffset)
    found = []
    for level in levels:
        areas = []
        for points, offsets in zip(*generator.filled(level, np.inf), strict=True):
            rings = np.split(np.asarray(points), np.asarray(offsets)[1:-1].astype(int))
            areas.append(tuple(_simplified(rings, record)))
        lines = [np.asarray(line, dtype=float) for line in generator.lines(level)]
        label = _label_place(lines, record) if level in levels[-LABELED_LEVELS:] else None
        found.append(Contour(level, label, tuple(_simplified(lines, record)), tuple(areas)))
    return found


def _label_place(lines: Sequence[Array], record: PlaneFigure) -> tuple[float, float] | None:
    """The place on a contour that is farthest from trajectories, minima and the frame."""
    low, high = np.transpose(record.window)
    drawn = [one.points for panel in record.panels for one in panel.trajectories]
    tracks = [_along(np.clip((points - low) / (high - low), -1, 2)) for points in drawn]
    minima = (np.array([point[:2] for point in record.minimizers]).reshape(-1, 2) - low) / (
        high - low
    )
    avoided = np.concatenate([*tracks, minima])
    places = (np.concatenate(lines) - low) / (high - low)
    room = np.minimum(places, 1 - places).min(axis=1)
    for start in range(0, len(avoided), 500):
        off = places[:, None] - avoided[None, start : start + 500]
        room = np.minimum(room, np.linalg.norm(off, axis=2).min(axis=1))
    x, y = low + places[room.argmax()] * (high - low)
    return float(x), float(y)


def _along(points: Array) -> Array:
    """Points along a path, close enough together that no label fits between them."""
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, way[-1], min(500, 2 + int(way[-1] / 0.02)))
    return np.column_stack([np.interp(at, way, points[:, i]) for i in (0, 1)])


def _simplified(lines: Iterable[Array], record: PlaneFigure) -> Iterable[Array]:
    """Lines that differ by less than a hair from those given."""
    (left, right), (low, high) = record.window
    to_pixels = Affine2D().scale(ACROSS / (right - left), ACROSS / (high - low))
    for line in lines:
        path = Path(line)
        path.simplify_threshold = HAIR
        kept = path.cleaned(to_pixels, simplify=True)
        vertices = np.asarray(kept.vertices, dtype=float)[np.asarray(kept.codes) != Path.STOP]
        yield np.asarray(to_pixels.inverted().transform(vertices))
