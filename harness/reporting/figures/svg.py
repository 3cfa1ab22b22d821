"""Drawings of matplotlib's as elements that can stand in a page beside others, in few bytes."""

from __future__ import annotations

import re
from xml.sax.saxutils import quoteattr

from harness.reporting.figures.plotting import mpl  # before any part of matplotlib

# isort: split

import numpy as np
from numpy.typing import NDArray

from harness.reporting.figures.frames import FOREGROUND, GRID

LONG = 180
"""Characters of a tag whose path has a digit less."""

UNSEEN = r'<path d="[^"]*z *" style="fill: none"/>\n'
"""An area that is neither filled nor outlined, as behind axes."""

EDGES = (
    r'<path d="M [-0-9. ]*L [-0-9. ]*"( style="fill: none; stroke: #(?:(?!opacity)[^"])*"/>)\n'
    r'(?:<path d="M [-0-9. ]*L [-0-9. ]*"\1\n)+'
)
"""Straight lines of one style in a row, such as the edges of a frame."""

FONTS = "'DejaVu Sans', Verdana, Arial, sans-serif"

FEW, THRESHOLD = 12, 0.3
"""Points from which on a line is simplified, and by how much it may then be off, in points."""

MARK = r'<use xlink:href="#([\w-]+)" x="([-0-9.]+)" y="([-0-9.]+)" style="([^"]*)"/>'
TICK = (
    r'<use xlink:href="[^"]*" x="[^"]*" y="[^"]*" '
    rf'style="fill: {FOREGROUND}; stroke: {FOREGROUND}[^"]*"/>'
)
GRID_LINE = (
    r'<path d="M [-0-9. ]*L [-0-9. ]*"(?: clip-path="[^"]*")? '
    rf'style="fill: none; stroke: {GRID};[^"]*"/>'
)
TEXT = r"<text [^>]*>[^<]*</text>"
"""Tags of a mark, and of the parts of an axis."""


def svg_element(svg: str, alt: str) -> str:
    """A file of matplotlib's as an element that can stand in a page beside others.

    Its style sheet would hold for the whole page, and its ids are the same in every file but for
    those that something refers to, which are salted.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'#([\w-]+)["\')]', svg))
    svg = re.sub(r' id="([^"]*)"', lambda own: own[0] if own[1] in used else "", svg)
    svg = re.sub(r"<[^>]+>", lambda tag: _shortened(tag[0]), svg)
    svg = re.sub(UNSEEN, "", re.sub(r">\s*\n\s*<", ">\n<", svg))
    svg = re.sub(EDGES, lambda m: _joined(m[0], m[1]), svg)
    # A straight line across has no need of round ends.
    across = "stroke-width: 0.8; stroke-linecap: round"
    svg = svg.replace(f"stroke: {GRID}; {across}", f"stroke: {GRID}; stroke-width: 0.8")
    svg = _gathered(_without_bare_groups(svg))
    path = r' d="([^"]*)"( style="fill: none; marker: )?'
    svg = re.sub(path, lambda m: f' d="{_relative(m[1], marks=bool(m[2]))}"{m[2] or ""}', svg)
    style = f"stroke-linejoin: round; stroke-linecap: butt; font-family: {FONTS}"
    return svg.replace("<svg", f'<svg role="img" aria-label={quoteattr(alt)} style="{style}"', 1)


def _gathered(svg: str) -> str:
    """The same with a path for the lines of a grid, for ticks, and for marks in a row.

    matplotlib draws an axis tick by tick: a line of the grid, the tick, its text. None of them lies
    on another, so their order doesn't matter.
    """
    definitions = "".join(re.findall(r"<defs>\n?(.*?)</defs>\n?", svg, flags=re.DOTALL))
    body = re.sub(r"<defs>.*?</defs>\n?", "", svg, flags=re.DOTALL)
    markers: dict[tuple[str, str], str] = {}
    body = re.sub(rf"(?:(?:{GRID_LINE}|{TICK}|{TEXT})\n)+", lambda m: _axis(m[0], markers), body)
    body = re.sub(rf"(?:{MARK}\n){{3,}}", lambda m: _marks(m[0], markers), body)
    definitions += "".join(
        f'<marker id="{name}" overflow="visible" markerUnits="userSpaceOnUse">'
        f'<use xlink:href="#{shape}" style="{style}"/></marker>\n'
        for (shape, style), name in markers.items()
    )
    opening, end, rest = body.partition(">\n")
    return f"{opening}{end}<defs>\n{definitions}</defs>\n{rest}" if definitions else body


def _joined(run: str, rest: str) -> str:
    """Paths that only differ in where they are as one."""
    places = " ".join(re.findall(r' d="([^"]*?) *"', run))
    return f'<path d="{places}"{rest}\n'


def _axis(run: str, markers: dict[tuple[str, str], str]) -> str:
    """The parts of an axis: lines of the grid by their style, then ticks, then texts."""
    grid: dict[str, list[str]] = {}
    for path, rest in re.findall(r'<path d="([^"]*)"([^>]*/>)\n', run):
        grid.setdefault(rest, []).append(path)
    lines = [f'<path d="{" ".join(paths)}"{rest}\n' for rest, paths in grid.items()]
    ticks = _marks("".join(re.findall(r"<use [^>]*/>\n", run)), markers)
    return "".join([*lines, ticks, *re.findall(r"<text .*?</text>\n", run, flags=re.DOTALL)])


def _marks(run: str, markers: dict[tuple[str, str], str]) -> str:
    """Marks as paths without a line, each with its shape at every point."""
    found: list[tuple[tuple[str, str], list[str]]] = []
    for shape, x, y, style in re.findall(f"{MARK}\n", run):
        if not found or found[-1][0] != (shape, style):
            found.append(((shape, style), []))
        found[-1][1].append(f"{x} {y}")
    paths = []
    for (shape, style), points in found:
        if len(points) == 1:  # which is no path
            x, y = points[0].split()
            paths.append(f'<use xlink:href="#{shape}" x="{x}" y="{y}" style="{style}"/>\n')
            continue
        name = markers.setdefault((shape, style), f"{shape}-{len(markers)}")
        own = f"fill: none; marker: url(#{name})"
        paths.append(f'<path d="M {" L ".join(points)}" style="{own}"/>\n')
    return "".join(paths)


def _relative(path: str, *, marks: bool) -> str:
    """Straight lines of a path from point to point, which takes about half of the bytes."""
    if not re.fullmatch(r"[MLz0-9. -]*", path):
        return path
    lines = []
    for line in re.findall(r"M[^M]*", path):
        numbers = np.array(re.findall(r"[-0-9.]+", line), dtype=np.float64)
        points = numbers.reshape(-1, 2)
        points = points if marks else _simplified(points)
        # In hundredths, so that nothing is lost on the way.
        start, *others = np.rint(points * 100).astype(int).tolist()
        steps, here = [f"M{_short(start[0])}{_next(start[1])}"], start
        for x, y in others:
            step = f"{_short(x - here[0])}{_next(y - here[1])}"
            joint = "l" if len(steps) == 1 else "" if step.startswith("-") else " "
            steps.append(f"{joint}{step}")
            here = (x, y)
        lines.append("".join(steps) + "z" * line.rstrip().endswith("z"))
    return "".join(lines)


def _simplified(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points of a line without those that it hardly bends at."""
    if len(points) < FEW:
        return points
    line = mpl.path.Path(points)
    line.should_simplify, line.simplify_threshold = True, THRESHOLD
    return np.asarray(line.cleaned(simplify=True).vertices[:-1], dtype=np.float64)


def _short(hundredths: int) -> str:
    """A number of hundredths without needless zeros."""
    text = f"{hundredths / 100:.2f}".rstrip("0").rstrip(".")
    return re.sub(r"^(-?)0\.", r"\1.", text) if hundredths else "0"


def _next(hundredths: int) -> str:
    """Likewise, set apart from the number before it."""
    text = _short(hundredths)
    return text if text.startswith("-") else f" {text}"


def _without_bare_groups(svg: str) -> str:
    """The same without groups and definitions that say nothing."""
    svg = re.sub(r"<defs>\s*</defs>\n?|<g( [^>]*)?/>\n?|<g [^>]*>\s*</g>\n?", "", svg)
    is_bare: list[bool] = []
    kept = []
    for part in re.split(r"(<g\b[^>]*>\n?|</g>\n?)", svg):
        if part.startswith("</g>"):
            part = "" if is_bare.pop() else part
        elif re.match(r"<g\b", part):
            is_bare.append(part.strip() == "<g>")
            part = "" if is_bare[-1] else part
        kept.append(part)
    return "".join(kept)


def _shortened(tag: str) -> str:
    """A tag with two decimals, a 7000th of an inch, and without what every text would repeat.

    An image stays as it is, for its decimals are multiplied by its size.
    """
    if tag.startswith("<image"):
        return tag.replace("\n", "")
    tag = re.sub(r' transform="rotate\(-0 [^"]*"|font-family: [^;"]*;? ?', "", tag)
    if len(tag) > LONG:
        # Nobody sees a tenth of a point in a line of many.
        tag = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), tag)
    return re.sub(r"(\.\d\d)\d+", r"\1", tag).replace(" \n", "").replace("\n", " ")
