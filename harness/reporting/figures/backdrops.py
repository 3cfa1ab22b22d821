"""Backdrops: what the panels of a figure have behind their own, in an SVG once for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.reporting.figures.plotting import mpl  # noqa: F401  # before any part of matplotlib

# isort: split

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

POINTS = 72
"""Points of an inch, which are the units of an SVG."""

SAME = 0.005
"""Points by which the frames of panels may differ that share a backdrop."""

AGAIN = r'<g id="again-(\d+)/([-0-9.]+)/([-0-9.]+)"(?:/>|>\s*</g>)'
"""A backdrop that is drawn elsewhere: its number, and how far from there it is, across and down."""


class Backdrop(Artist):
    """Parts of a panel that lie one on another, and that other panels may have as well.

    Args:
        ax: The panel.
        parts: Its parts, from back to front, all in the place of the first.
        kind: The same of backdrops that look the same, where their frames do.
    """

    def __init__(self, ax: Axes, parts: Sequence[Artist], kind: int) -> None:
        super().__init__()
        self.panel, self.parts, self.kind = ax, tuple(parts), kind
        self.group = ""  # what the parts stand in, in an SVG
        self.is_drawn = True
        for part in parts:
            part.set_visible(False)
        self.set_zorder(parts[0].get_zorder())
        self.set_in_layout(False)
        ax.add_artist(self)

    def draw(self, renderer: Any) -> None:
        """Draw the parts, or only name the place of those that look the same."""
        if not self.get_visible():
            return
        renderer.open_group("backdrop", gid=self.group or None)
        for part in self.parts if self.is_drawn else ():
            part.set_visible(True)
            part.draw(renderer)
            part.set_visible(False)
        renderer.close_group("backdrop")

    @property
    def frame(self) -> Bbox:
        """The panel's frame, in points from the lower left of the figure."""
        figure = self.panel.get_figure(root=True)
        assert figure is not None
        width, height = figure.get_size_inches() * POINTS
        place = self.panel.get_position()
        return Bbox(place.get_points() * [width, height])

    def looks_like(self, other: Backdrop) -> bool:
        """Test that another one is the same but for its place."""
        one, two = self.panel, other.panel
        sizes = zip(self.frame.size, other.frame.size, strict=True)
        return (
            self.kind == other.kind
            and len(self.parts) == len(other.parts)
            and one.get_xlim() == two.get_xlim()
            and one.get_ylim() == two.get_ylim()
            and (one.get_xscale(), one.get_yscale()) == (two.get_xscale(), two.get_yscale())
            and all(abs(a - b) <= SAME for a, b in sizes)
        )


@contextmanager
def drawn_once(figure: Figure) -> Iterator[None]:
    """Draw of backdrops that look the same only the first, for an SVG."""
    found = [one for ax in figure.axes for one in ax.artists if isinstance(one, Backdrop)]
    firsts: list[Backdrop] = []
    try:
        for one in found:
            number, first = next(
                ((i, own) for i, own in enumerate(firsts) if own.looks_like(one)),
                (len(firsts), one),
            )
            if first is one:
                firsts.append(one)
                one.group = f"behind-{number}"
            else:
                across, up = one.frame.p0 - first.frame.p0
                one.group, one.is_drawn = f"again-{number}/{across:.3f}/{-up:.3f}", False
        yield
    finally:
        for one in found:
            one.group, one.is_drawn = "", True


def referred(svg: str, name: str) -> str:
    """An SVG in which backdrops that are drawn elsewhere refer to the place.

    Args:
        svg: As drawn under :func:`drawn_once`.
        name: The figure's, which no other figure of a page has.
    """
    svg = re.sub(AGAIN, rf'<use xlink:href="#behind-\1-{name}" x="\2" y="\3"/>', svg)
    return re.sub(r'<g id="behind-(\d+)">', rf'<g id="behind-\1-{name}">', svg)
