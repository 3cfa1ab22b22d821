"""Figures of a report as Python objects, drawn when they are first shown."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from harness.errors import BadInput, nearest

if TYPE_CHECKING:
    from harness.reporting.figures.draw import Drawing
    from harness.reporting.figures.records import FigureRecord


class _Showing(Protocol):
    """Something that a notebook can show."""

    def to_html(self) -> str: ...


Shown = TypeVar("Shown", bound=_Showing)


class Named(Mapping[str, Shown], Generic[Shown]):
    """Tables or figures by their file name without ending, in the page's order.

    Args:
        kind: What one of them is called.
        items: The items.
    """

    def __init__(self, kind: str, items: Mapping[str, Shown]) -> None:
        self._kind, self._items = kind, dict(items)

    def __getitem__(self, name: str) -> Shown:
        try:
            return self._items[name]
        except KeyError:
            raise KeyError(f"no {self._kind} {name!r}{nearest(str(name), self._items)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<{len(self):,} {self._kind}s: {', '.join(self)}>"

    def _repr_html_(self) -> str:
        return "\n".join(item.to_html() for item in self.values())


class Figure:
    """A figure of a report, drawn when it is first shown.

    Args:
        record: What it shows.
    """

    def __init__(self, record: FigureRecord) -> None:
        self.record = record

    @property
    def name(self) -> str:
        """File name without ending."""
        return self.record.name

    @functools.cached_property
    def drawing(self) -> Drawing:
        """The figure as SVG, PDF and PNG."""
        from harness.reporting.figures import (
            draw as figures,  # loads matplotlib, which takes a second
        )

        return figures.draw(self.record)

    @property
    def svg(self) -> str:
        """The figure as SVG, from ``<svg`` on."""
        return self.drawing.svg

    @property
    def png(self) -> bytes:
        """The figure as PNG, at 300 dpi."""
        return self.drawing.png

    @property
    def pdf(self) -> bytes:
        """The figure as PDF."""
        return self.drawing.pdf

    def save(self, path: Path | str) -> Path:
        """Write the figure as SVG, PDF or PNG, as the name ends; returns its path.

        Raises:
            BadInput: If the name ends otherwise, or the file can't be written.
        """
        file = picture_file(path)
        content = {".svg": self.svg.encode(), ".pdf": self.pdf, ".png": self.png}[
            file.suffix.lower()
        ]
        try:
            file.write_bytes(content)
        except OSError as error:
            why = error.strerror or str(error)
            raise BadInput.of_file(str(path), f"can't be written: {why}") from None
        return file

    def __repr__(self) -> str:
        return f"<figure {self.name}: {self.record.title}>"

    def _repr_svg_(self) -> str:
        return self.svg

    def to_html(self) -> str:
        """Heading, caption and picture, for a page of somebody else's."""
        # As an image of its own: a notebook may show figures of one name side by side.
        data = base64.b64encode(self.svg.encode()).decode()
        source = f"data:image/svg+xml;base64,{data}"
        alt = escape(self.record.alt)
        return (
            f"<figure><figcaption><strong>{escape(self.record.title)}</strong>. "
            f'{escape(self.record.caption)}</figcaption><img src="{source}" alt="{alt}"></figure>'
        )


class Figures(Named[Figure]):
    """The figures of a report, by name, in the page's order.

    Args:
        records: What they show.
    """

    def __init__(self, records: Sequence[FigureRecord]) -> None:
        super().__init__("figure", {record.name: Figure(record) for record in records})

    @property
    def records(self) -> list[FigureRecord]:
        """The records that they are drawn from."""
        return [figure.record for figure in self.values()]

    def drawings(self) -> list[Drawing]:
        """All of them drawn; what is not drawn yet is drawn side by side."""
        from harness.reporting.figures import draw as figures

        left = [figure for figure in self.values() if "drawing" not in vars(figure)]
        drawn = figures.draw_all([figure.record for figure in left])
        for figure, drawing in zip(left, drawn, strict=True):
            figure.drawing = drawing
        return [figure.drawing for figure in self.values()]

    def _repr_html_(self) -> str:
        self.drawings()
        return super()._repr_html_()


def picture_file(path: Path | str) -> Path:
    """A path for a picture.

    Raises:
        BadInput: If it ends in none of ``.svg``, ``.pdf`` and ``.png``.
    """
    file = Path(path)
    if file.suffix.lower() not in (".svg", ".pdf", ".png"):
        raise BadInput.of_file(str(path), "expected a name that ends in .svg, .pdf or .png")
    return file
