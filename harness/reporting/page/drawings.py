"""Drawings as parts of one page: in its colours, with what they repeat said once for all."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from markupsafe import Markup, escape

INK, GRID, PAPER = "#1a1b1c", "#d0d1d2", "#fefefd"
"""Colours of a drawing that follow the page into the dark."""

TICK_STYLE, TEXT_STYLE = "fill:var(--ink);stroke:var(--ink);stroke-width:0.8", ";fill:var(--ink)"
"""Styles in a drawing that are those of all of it."""

FIRST, NEXT = (rf'<use href="#{name}" x="[^"]*" y="[^"]*"/>\n' for name in (r"(\w+)", r"\3"))
MARKS = re.compile(rf'<g((?: class="\w+")?)>\n({FIRST}(?:{NEXT}){{7,}})</g>')
"""Eight or more marks of one shape in a row."""

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Drawings(NamedTuple):
    """The drawings of a page.

    Attributes:
        svgs: By name.
        rules: A style sheet with the classes that they use.
    """

    svgs: dict[str, Markup]
    rules: Markup


def on_page(drawn: Mapping[str, tuple[str, str]]) -> Drawings:
    """Drawings as parts of a page; their ids are its own, their frequent styles are classes.

    Args:
        drawn: By name, an SVG from ``<svg`` on, and its alternative text.
    """
    parts = {name: _in_colours(svg, label) for name, (svg, label) in drawn.items()}
    styles = Counter(
        style
        for _, body in parts.values()
        for style in re.findall(r'<(?!image)\w+[^>]*? style="([^"]*)"', body)
    )
    classes = {s: f"d{i}" for i, (s, count) in enumerate(styles.most_common()) if count > 1}

    numbers = itertools.count()
    svgs = {}
    for name, (opening, body) in parts.items():
        ids = {own: f"g{_short(next(numbers))}" for own in re.findall(r' id="([^"]*)"', body)}
        svgs[name] = Markup(opening + _shortened(body, classes, ids))
    rules = "\n".join(f".{name}{{{style}}}" for style, name in classes.items())
    return Drawings(svgs, Markup(rules))


def _shortened(body: str, classes: Mapping[str, str], ids: Mapping[str, str]) -> str:
    """A drawing with classes for styles, short ids, and marks placed to a tenth of a point."""

    def as_class(match: re.Match[str]) -> str:
        return f' class="{classes[match[1]]}"' if match[1] in classes else match[0]

    def as_short(match: re.Match[str]) -> str:
        return match[1] + ids.get(match[2], match[2])

    def rounded(match: re.Match[str]) -> str:
        return re.sub(r"\d+\.\d\d+", lambda number: f"{float(number[0]):.1f}", match[0])

    body = re.sub(r' style="([^"]*)"', as_class, body)
    body = re.sub(r'( id=")([^"]*)', as_short, body)
    body = re.sub(r'(?:xlink:)?(href="#|clip-path="url\(#)([^")]*)', as_short, body)
    return MARKS.sub(_as_markers, re.sub(r"<use [^>]*>", rounded, body))


def _as_markers(match: re.Match[str]) -> str:
    """Marks of one shape in a row as the vertices of a path, which take a quarter of the bytes."""
    style, marks, shape = match.groups()
    places = " ".join(f"{x} {y}" for x, y in re.findall(r' x="([^"]*)" y="([^"]*)"', marks))
    name = f"{shape}-{match.start()}"
    return (
        f'<marker id="{name}" markerUnits="userSpaceOnUse" overflow="visible"{style}>'
        f'<use href="#{shape}"/></marker>'
        f'<path style="fill:none;marker:url(#{name})" d="M{places}"/>'
    )


def _in_colours(svg: str, label: str) -> tuple[str, str]:
    """The opening tag of a drawing and the rest, in the ink, grid and paper of the page."""
    opening = svg[: svg.index(">") + 1]
    body = svg[len(opening) :]
    width = re.search(r'\swidth="([0-9.]+)pt"', opening)
    own = re.search(r'\sstyle="([^"]*)"', opening)
    rules = [own[1].rstrip("; ")] if own else []
    rules.append("fill: var(--ink)")
    rules += [f"max-width: {float(width[1]) * 4 / 3:.0f}px"] if width else []
    style = f' style="{"; ".join(rules)}"' if rules else ""
    kept = re.sub(r'\s(width|height|role|aria-label|style)="[^"]*"', "", opening)
    kept = kept.removeprefix("<svg")
    for colour, variable in ((INK, "ink"), (GRID, "grid"), (PAPER, "paper")):
        body = body.replace(colour, f"var(--{variable})")
    # A page knows these names by itself.
    kept = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", kept)
    body = re.sub(r' style="[^"]*"', lambda own: re.sub(r"([:;]) ", r"\1", own[0]), body)
    # A line of the grid ends where its panel does.
    body = re.sub(r' clip-path="[^"]*"(?= style="[^"]*stroke:var\(--grid\))', "", body)
    # Ink is the whole drawing's, and a tick has its stroke from the shape that it repeats.
    body = body.replace(f' style="{TICK_STYLE}"', "").replace(TEXT_STYLE, "")
    return f'<svg role="img" aria-label="{escape(label)}"{style}{kept}', body


def _short(number: int) -> str:
    """A number in base 36."""
    digits = ""
    while True:
        number, rest = divmod(number, len(DIGITS))
        digits = DIGITS[rest] + digits
        if not number:
            return digits
