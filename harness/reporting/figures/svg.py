"""Writes what matplotlib draws as a short SVG, and draws the same into pixels on the way.

Matplotlib's own writer styles every element there is, and numbers its ids from 1 in every file;
a page with a hundred figures would be mostly that. Here elements in a row that look the same
share a group or a path, and coordinates are as exact as a screen can show.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_hex
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D, Bbox

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

_MARGIN = 20.0
"""Points beyond an edge where a line that leaves may end."""

_LONG = 12
"""A path of more points than this has a digit less: nothing ends on a line of the grid there."""

_INLINE = 160
"""Characters beyond which a mark is written once and referred to."""

_ANCHORS = {"left": "", "center": "; text-anchor: middle", "right": "; text-anchor: end"}


@dataclass
class _Part:
    """One element: what it is cut to, its looks, its tag with geometry, and text inside it.

    Attributes:
        clip: Attribute that cuts it; empty where it is whole.
        looks: Attributes that may as well stand on a group of such elements.
        element: From its tag's name on, with what is its own.
        text: What it holds, escaped.
        joins: Whether another path with the same looks may be a part of this one.
    """

    clip: str
    looks: str
    element: str
    text: str = ""
    joins: bool = False


class Renderer(RendererBase):
    """Takes what matplotlib draws, in points, once for both an SVG and pixels."""

    def __init__(self, name: str, width: float, height: float, dpi: float) -> None:
        """Start with an empty drawing.

        Args:
            name: What ids begin with.
            width: In points.
            height: In points.
            dpi: Pixels of an inch.
        """
        super().__init__()
        self.name, self.width, self.height = name, width, height
        self._zoom = dpi / 72
        agg: Any = RendererAgg
        self._agg = agg(round(width * self._zoom), math.floor(height * self._zoom + 1e-6), dpi)
        # Pixels are counted from the top of a whole one.
        self._agg_top = self._agg.height - height * self._zoom
        self._scale = Affine2D().scale(self._zoom)
        self._flip = Affine2D().scale(1, -1).translate(0, height)
        self._parts: list[_Part] = []
        self._ids: dict[str, str] = {}

    # What matplotlib asks

    def get_canvas_width_height(self) -> tuple[float, float]:
        """Points."""
        return self.width, self.height

    def get_text_width_height_descent(
        self,
        s: str,
        prop: FontProperties,
        ismath: Any,  # noqa: ARG002
    ) -> tuple[float, float, float]:
        """Points, without the rounding of glyphs to pixels."""
        return measured(s, prop.get_size_in_points(), tuple(prop.get_family()))

    def option_scale_image(self) -> bool:
        """Images may be stretched."""
        return True

    def option_image_nocomposite(self) -> bool:
        """Images stay what they are."""
        return True

    # What matplotlib draws

    def draw_path(
        self,
        gc: GraphicsContextBase,
        path: Path,
        transform: Any,
        rgbFace: Any = None,  # noqa: N803
    ) -> None:
        """Draw a path."""
        with self._zoomed(gc):
            self._agg.draw_path(gc, path, transform + self._scale, rgbFace)
        looks = self._looks(gc, rgbFace)
        self._write(gc, path, transform, np.zeros((1, 2)), looks, gc.get_linewidth())

    def draw_markers(
        self,
        gc: GraphicsContextBase,
        marker_path: Path,
        marker_trans: Any,
        path: Path,
        trans: Any,
        rgbFace: Any = None,  # noqa: N803
    ) -> None:
        """Draw one shape at many places."""
        with self._zoomed(gc):
            self._agg.draw_markers(
                gc, marker_path, marker_trans + self._scale, path, trans + self._scale, rgbFace
            )
        places = trans.transform(path.vertices)
        looks = self._looks(gc, rgbFace)
        self._write(gc, marker_path, marker_trans, places, looks, gc.get_linewidth())

    def draw_path_collection(
        self,
        gc: GraphicsContextBase,
        master_transform: Any,
        paths: Any,
        all_transforms: Any,
        offsets: Any,
        offset_trans: Any,
        facecolors: Any,
        edgecolors: Any,
        linewidths: Any,
        linestyles: Any,
        antialiaseds: Any,
        urls: Any,
        offset_position: Any,
        **more: Any,
    ) -> None:
        """Draw many shapes, each with its place and its looks."""
        looks = (facecolors, edgecolors, linewidths, linestyles, antialiaseds, urls)
        with self._zoomed(gc):
            self._agg.draw_path_collection(
                gc, (master_transform + self._scale).frozen(), paths, all_transforms, offsets,
                (offset_trans + self._scale).frozen(), *looks, offset_position, **more,
            )  # fmt: skip
        base: Any = self
        shapes = list(base._iter_collection_raw_paths(master_transform, paths, all_transforms))
        more.setdefault("hatchcolors", [])
        each = base._iter_collection(
            gc, range(len(shapes)), offsets, offset_trans, *looks, offset_position, **more
        )
        # The graphics context is one that changes, so it is read before the next shape is asked.
        found = (
            ((i, self._looks(own, face), own.get_linewidth()), (x, y))
            for x, y, i, own, face in each
        )
        for (i, own_looks, edge), run in itertools.groupby(found, key=lambda item: item[0]):
            places = np.array([place for _, place in run])
            shape, transform = shapes[i]
            self._write(gc, shape, transform, places, own_looks, edge)

    def draw_image(
        self, gc: GraphicsContextBase, x: float, y: float, im: Any, transform: Any = None
    ) -> None:
        """Draw an image whose cells stay sharp at any size; it stands upright and is opaque."""
        rows, columns = im.shape[:2]
        ends = np.array([(0.0, 0.0), (columns, rows)])
        if transform is not None:
            ends = transform.transform([(0, 0), (1, 1)])
        (left, low), (right, high) = ends + np.array([x, y])
        pixels = np.array([(left, right), (low, high)]) * self._zoom
        (first, last), (bottom, top) = np.round(pixels).astype(int)
        across = ((np.arange(last - first) + 0.5) * columns / (last - first)).astype(int)
        up = ((np.arange(top - bottom) + 0.5) * rows / (top - bottom)).astype(int)
        with self._zoomed(gc):
            self._agg.draw_image(gc, first, bottom, np.ascontiguousarray(im[up][:, across]))
        uri = base64.b64encode(_png_of(im[::-1, :, :3])).decode()
        box = [left, self.height - high, right - left, high - low]
        place = " ".join(
            f'{name}="{_number(value)}"'
            for name, value in zip(("x", "y", "width", "height"), box, strict=True)
        )
        self._parts.append(
            _Part(
                "",
                ' preserveAspectRatio="none" style="image-rendering: pixelated"',
                f'image {place} href="data:image/png;base64,{uri}"',
            )
        )

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,  # noqa: ARG002
        mtext: Any = None,
    ) -> None:
        """Draw a line of text, which stays text; ``y`` is counted from the top."""
        right, down = x * self._zoom, y * self._zoom + self._agg_top
        if mtext is not None and angle == 0 and mtext.get_ha() != "left":
            # In pixels a text is a little wider or narrower, and should end where it should.
            size, family = prop.get_size_in_points(), tuple(prop.get_family())
            more = measured(s, size, family)[0] * self._zoom
            more -= _pixels(s, size, family, self._agg.dpi)
            right += more if mtext.get_ha() == "right" else more / 2
        with self._zoomed(gc):
            self._agg.draw_text(gc, right, down, s, prop, angle, False, mtext)
        anchor = ""
        if mtext is not None and (angle == 0 or mtext.get_rotation_mode() == "anchor"):
            # Where another font is wider, a text still ends, or has its middle, where it should.
            at, up = mtext.get_transform().transform(mtext.get_unitless_position())
            sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
            off = sine * (x - at) + cosine * (y - (self.height - up))
            x, y = at + off * sine, self.height - up + off * cosine
            anchor = _ANCHORS[mtext.get_ha()]
        place = f'x="{_number(x)}" y="{_number(y)}"'
        if angle:
            place += f' transform="rotate({_number(-angle)} {_number(x)} {_number(y)})"'
        height = _number(prop.get_size_in_points())
        looks = f'{_ink("fill", gc)} style="font-size: {height}px{anchor}"'
        self._parts.append(_Part("", looks, f"text {place}", escaped(s)))

    # Files

    def pixels(self) -> Any:
        """What was drawn, ``(y, x, rgba)``."""
        return np.asarray(self._agg.buffer_rgba())

    def svg(self, attributes: str) -> str:
        """What was drawn, with more attributes of its first element."""
        size = f"{_number(self.width)}pt", f"{_number(self.height)}pt"
        box = f"0 0 {_number(self.width)} {_number(self.height)}"
        head = (
            f'<svg {attributes} width="{size[0]}" height="{size[1]}" viewBox="{box}" fill="none"'
            ' xmlns="http://www.w3.org/2000/svg">'
        )
        defs = [content.replace("\0", own) for content, own in self._ids.items()]
        kept = ["<defs>", *defs, "</defs>"] if defs else []
        return "\n".join([head, *kept, *_grouped(self._parts), "</svg>\n"])

    # Parts of it

    @contextlib.contextmanager
    def _zoomed(self, gc: GraphicsContextBase) -> Iterator[None]:
        """What a graphics context cuts to is in pixels for as long as this is open."""
        box = gc.get_clip_rectangle()
        if box is not None:
            gc.set_clip_rectangle(Bbox(box.get_points() * self._zoom))
        try:
            yield
        finally:
            gc.set_clip_rectangle(box)

    def _looks(self, gc: GraphicsContextBase, face: Any) -> str:
        """Attributes of a shape; empty where there is nothing to see."""
        filled = face is not None and (len(face) < 4 or face[3] > 0)
        looks = _paint("fill", face) if filled else ""
        width = gc.get_linewidth()
        if width and gc.get_rgb()[3] > 0:
            looks += _ink("stroke", gc)
            if width != 1:
                looks += f' stroke-width="{_number(width)}"'
            pattern: Any = gc.get_dashes()
            offset, dashes = pattern
            if dashes is not None:
                looks += f' stroke-dasharray="{" ".join(_number(length) for length in dashes)}"'
                if offset:
                    looks += f' stroke-dashoffset="{_number(offset)}"'
            if gc.get_joinstyle() != "round":
                looks += f' stroke-linejoin="{gc.get_joinstyle()}"'
            if gc.get_capstyle() != "butt":
                cap = gc.get_capstyle()
                looks += f' stroke-linecap="{"square" if cap == "projecting" else cap}"'
        return looks

    def _write(
        self,
        gc: GraphicsContextBase,
        shape: Path,
        transform: Any,
        places: Any,
        looks: str,
        edge: float,
    ) -> None:
        """Write one shape at one or more places, which are in points from the bottom."""
        places = places[np.isfinite(places).all(axis=1)] * (1, -1) + (0, self.height)
        if not looks or not len(places):
            return
        edge = edge if " stroke=" in looks else 0.0
        radius = _radius(shape, transform)
        if radius is not None:
            self._write_marks(gc, looks, places, (radius + edge / 2,) * 4, radius, "")
        elif len(places) == 1:
            self._write_one(gc, shape, transform, places[0], looks, edge)
        else:
            drawn = shape.cleaned(transform + _UPRIGHT, curves=True)
            points = _points(drawn)
            room = *(edge - points.min(axis=0)), *(edge + points.max(axis=0))
            looks = _unfilled(looks) if len(points) <= 2 else looks
            self._write_marks(gc, looks, places, room, None, _data(drawn, 2, origin=True))

    def _write_one(
        self,
        gc: GraphicsContextBase,
        shape: Path,
        transform: Any,
        place: Any,
        looks: str,
        edge: float,
    ) -> None:
        filled = " fill=" in looks
        cut = self._cut(gc)
        clip = None
        if not filled:
            # What is far outside would be most of some paths. Dashes begin where the path does.
            left, top, right, bottom = cut or (0.0, 0.0, self.width, self.height)
            if "dasharray" in looks:
                left, top, right, bottom = 0.0, 0.0, self.width, self.height
            clip = left - _MARGIN, top - _MARGIN, right + _MARGIN, bottom + _MARGIN
        whole = transform + _UPRIGHT + Affine2D().translate(*place)
        drawn = shape.cleaned(
            whole,
            remove_nans=True,
            clip=clip,
            simplify=not filled and shape.should_simplify,
            curves=True,
        )
        points = _points(drawn)
        if not len(points):
            return
        box = *points.min(axis=0), *points.max(axis=0)
        looks = _unfilled(looks) if len(points) <= 2 else looks
        if not looks:
            return
        data = _data(drawn, 1 if len(points) > _LONG else 2)
        # Paths may be one if it can't be seen where they cross.
        joins = not any(word in looks for word in (" fill=", "opacity"))
        self._add(_Part(self._clip(cut, box, edge), looks, f'path d="{data}"', joins=joins))

    def _write_marks(
        self,
        gc: GraphicsContextBase,
        looks: str,
        places: Any,
        room: tuple[float, ...],
        radius: float | None,
        data: str,
    ) -> None:
        """Write a circle, or what the path data of a shape say, at every place."""
        cut = self._cut(gc)
        left, top, right, bottom = cut or (0.0, 0.0, self.width, self.height)
        x, y = places.T
        seen = (x + room[2] >= left) & (x - room[0] <= right)
        seen &= (y + room[3] >= top) & (y - room[1] <= bottom)
        places = places[seen]
        if not len(places) or not looks:
            return
        (low_x, low_y), (high_x, high_y) = places.min(axis=0), places.max(axis=0)
        box = low_x - room[0], low_y - room[1], high_x + room[2], high_y + room[3]
        clip = self._clip(cut, box, 0.0)
        joins = not any(word in looks for word in (" fill=", "opacity"))
        each = 24 if radius is not None else len(data) + 10 + 14 * (not joins)
        if each * len(places) > _INLINE + len(looks) + 10 * len(places):
            shape = f'path d="M0 0{data}"' if radius is None else f'circle r="{_number(radius)}"'
            content = f'<marker id="\0" overflow="visible" markerUnits="userSpaceOnUse"><{shape}'
            own = self._id(f"{content}{looks}/></marker>")
            steps = _polyline(places)
            self._add(_Part(clip, f' style="marker: url(#{own})"', f'path d="{steps}"'))
        elif radius is not None:
            size = _number(radius)
            for place in places:
                at = f'cx="{_number(place[0])}" cy="{_number(place[1])}"'
                self._add(_Part(clip, looks, f'circle {at} r="{size}"'))
        else:
            for place in places:
                start = f"M{_number(place[0])} {_number(place[1])}"
                self._add(_Part(clip, looks, f'path d="{start}{data}"', joins=joins))

    def _add(self, part: _Part) -> None:
        last = self._parts[-1] if self._parts else None
        if (
            part.joins
            and last
            and last.joins
            and (last.clip, last.looks) == (part.clip, part.looks)
        ):
            last.element = last.element[:-1] + part.element.removeprefix('path d="')
        else:
            self._parts.append(part)

    def _cut(self, gc: GraphicsContextBase) -> Box | None:
        """The rectangle that a shape is cut to."""
        if gc.get_clip_path()[0] is not None:
            raise NotImplementedError("a clip path")
        box = gc.get_clip_rectangle()
        if box is None:
            return None
        (left, low), (right, high) = box.get_points()
        return left, self.height - high, right, self.height - low

    def _clip(self, cut: Box | None, box: Any, edge: float) -> str:
        """The attribute that cuts what has a box and an edge; empty where it lies inside."""
        if cut is None:
            return ""
        # A mitre may stick out by more than half the edge.
        inside = (
            box[0] - edge >= cut[0] and box[1] - edge >= cut[1]
            and box[2] + edge <= cut[2] and box[3] + edge <= cut[3]
        )  # fmt: skip
        if inside:
            return ""
        x, y = _number(cut[0]), _number(cut[1])
        size = f'width="{_number(cut[2] - cut[0])}" height="{_number(cut[3] - cut[1])}"'
        own = self._id(f'<clipPath id="\0"><rect x="{x}" y="{y}" {size}/></clipPath>')
        return f' clip-path="url(#{own})"'

    def _id(self, content: str) -> str:
        """The id of a definition, which is written once; a zero byte stands for it."""
        return self._ids.setdefault(content, f"{self.name}-{len(self._ids)}")


_FAR = 1e6
"""Points: nothing further away is seen, or changes how steep a line is that leaves."""

_UPRIGHT = Affine2D().scale(1, -1)
_CIRCLE: Any = np.asarray(Path.unit_circle().vertices)


@functools.lru_cache(maxsize=20_000)
def measured(text: str, size: float, family: tuple[str, ...]) -> tuple[float, float, float]:
    """Width, height and descent of a line of text, in points."""
    font = FontProperties(family=list(family), size=size)
    width, height, descent = text_to_path.get_text_width_height_descent(text, font, False)
    return float(width), float(height), float(descent)


@functools.lru_cache(maxsize=20_000)
def _pixels(text: str, size: float, family: tuple[str, ...], dpi: float) -> float:
    """Width of a line of text in pixels."""
    agg: Any = RendererAgg
    font = FontProperties(family=list(family), size=size)
    return float(agg(8, 8, dpi).get_text_width_height_descent(text, font, False)[0])


def escaped(text: str) -> str:
    """A text as XML has it."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return text


def _png_of(colors: Any) -> bytes:
    """An image with few colours, as a PNG that lists them."""
    from PIL import Image

    file = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(colors))
    if image.getcolors(256):
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    image.save(file, "png", optimize=True)
    return file.getvalue()


def _radius(shape: Path, transform: Any) -> float | None:
    """The radius of a circle around its place; None for what is none."""
    if shape.codes is None or len(np.asarray(shape.vertices)) != len(_CIRCLE):
        return None
    points = transform.transform(shape.vertices)
    radius = float(points[:, 0].max())
    return radius if np.abs(points - radius * _CIRCLE).max() < 1e-6 * radius else None


@functools.lru_cache(maxsize=4096)
def _hex(color: tuple[float, ...]) -> str:
    return to_hex((color[0], color[1], color[2]))


def _paint(name: str, color: Any) -> str:
    """Attributes of a colour."""
    text = f' {name}="{_hex(tuple(color[:3]))}"'
    if len(color) == 4 and color[3] != 1:
        text += f' {name}-opacity="{_number(color[3])}"'
    return text


def _ink(name: str, gc: GraphicsContextBase) -> str:
    """Attributes of the colour that a graphics context has for edges and text."""
    color = gc.get_rgb()
    if gc.get_forced_alpha():
        color = (*color[:3], gc.get_alpha())
    return _paint(name, color)


def _unfilled(looks: str) -> str:
    """The looks of a shape that has no inside."""
    start = looks.find(" stroke=")
    return looks[start:] if start >= 0 else ""


def _number(value: float, places: int = 2) -> str:
    return _digits(round(value * 10**places), places)


@functools.lru_cache(maxsize=100_000)
def _digits(value: int, places: int) -> str:
    """A whole number with a decimal point put into it, as short as can be."""
    if not value:
        return "0"
    whole, rest = divmod(abs(value), 10**places)
    fraction = f"{rest:0{places}d}".rstrip("0")
    text = f"{whole or ''}.{fraction}" if fraction else str(whole)
    return f"-{text}" if value < 0 else text


def _polyline(points: Any) -> str:
    """Path data with a vertex at every point, however close they are."""
    whole = np.rint(points * 100).astype(np.int64)
    steps = np.diff(whole, axis=0, prepend=0).ravel().tolist()
    return "m" + _packed([_digits(step, 2) for step in steps])


def _packed(numbers: list[str]) -> str:
    """Numbers in a row, with nothing between them that isn't needed."""
    text = [numbers[0]]
    before = numbers[0]
    for number in numbers[1:]:
        first = number[0]
        if first != "-" and (first != "." or "." not in before):
            text.append(" ")
        text.append(number)
        before = number
    return "".join(text)


def _points(path: Path) -> Any:
    """The vertices of a cleaned path that are on it, or steer its curves."""
    codes = np.asarray(path.codes)
    return np.asarray(path.vertices)[(codes != Path.STOP) & (codes != Path.CLOSEPOLY)]


_LETTERS: dict[int, tuple[str, int]] = {
    int(Path.LINETO): ("l", 1),
    int(Path.CURVE3): ("q", 2),
    int(Path.CURVE4): ("c", 3),
}


def _data(path: Path, places: int, *, origin: bool = False) -> str:
    """The data of a cleaned path, in as many decimals.

    With ``origin``, they move on from the origin, so they may stand behind any move there.
    """
    near = np.clip(np.asarray(path.vertices), -_FAR, _FAR)
    whole = np.rint(near * 10**places).astype(np.int64).tolist()
    kinds = np.asarray(path.codes).tolist()
    runs: list[tuple[str, list[int]]] = []
    x = y = start_x = start_y = i = 0
    while i < len(kinds) and kinds[i] != Path.STOP:
        kind, (next_x, next_y) = kinds[i], whole[i]
        count = 1
        if kind == Path.CLOSEPOLY:
            runs.append(("z", []))
            next_x, next_y = start_x, start_y
        elif kind == Path.MOVETO:
            if not origin:
                runs.append(("M", [next_x, next_y]))
            elif i or next_x or next_y:
                runs.append(("m", [next_x - x, next_y - y]))
            start_x, start_y = next_x, next_y
        else:
            letter, count = _LETTERS[kind]
            steps = [v for px, py in whole[i : i + count] for v in (px - x, py - y)]
            next_x, next_y = whole[i + count - 1]
            if letter == "l" and not all(steps):
                letter = "h" if steps[0] else "v"
                steps = [steps[0] or steps[1]]
            if any(steps):
                if not runs or runs[-1][0] != letter:
                    runs.append((letter, []))
                runs[-1][1].extend(steps)
        x, y = next_x, next_y
        i += count
    return "".join(
        letter + (_packed([_digits(v, places) for v in numbers]) if numbers else "")
        for letter, numbers in runs
    )


def _grouped(parts: list[_Part]) -> Iterator[str]:
    """The elements, those in a row that share an attribute in a group that has it."""
    for clip, cut in itertools.groupby(parts, key=lambda part: part.clip):
        runs = [list(run) for _, run in itertools.groupby(cut, key=lambda part: part.looks)]
        several = sum(map(len, runs)) > 1
        if clip and several:
            yield f"<g{clip}>"
        for run in runs:
            own = "" if several else clip
            if len(run) > 1:
                yield f"<g{run[0].looks}>"
                yield from (_written(part, own) for part in run)
                yield "</g>"
            else:
                yield _written(run[0], own + run[0].looks)
        if clip and several:
            yield "</g>"


def _written(part: _Part, attributes: str) -> str:
    tag = part.element.partition(" ")[0]
    if tag == "text":
        return f"<{part.element}{attributes}>{part.text}</text>"
    return f"<{part.element}{attributes}/>"
