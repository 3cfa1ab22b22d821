"""Drawings in few bytes: dots and grids as paths, and paths from point to point."""

from __future__ import annotations

import re

CIRCLE = re.compile(r'<path id="([^"]+)" d="M 0 ([0-9.]+)C [^"]*z "/>\n')
"""The shape of round marks, without a style of its own, and its radius."""


def dots_as_paths(svg: str) -> str:
    """Round marks that share a fill as one path of points with round ends.

    Each takes a sixth of the bytes that a shape set at a place takes.
    """
    for shape in CIRCLE.finditer(svg):
        use = rf'<use xlink:href="#{re.escape(shape[1])}" x="([^"]+)" y="([^"]+)"/>'
        group = rf'<g style="fill: (#\w+)((?:; fill-opacity: [0-9.]+)?)">\n((?:{use}\n)+)</g>'
        width = 2 * abs(float(shape[2]))

        def path(run: re.Match[str], use: str = use, width: float = width) -> str:
            steps, here = [], (0, 0)
            for x, y in re.findall(use, run[3]):
                place = round(float(x) * 100), round(float(y) * 100)
                steps.append(f"m{_short(place[0] - here[0])}{_next(place[1] - here[1])}h0")
                here = place
            alpha = run[2].replace("fill", "stroke")
            look = f"fill: none; stroke: {run[1]}{alpha}; stroke-width: {width:.4g}"
            return f'<path d="{"".join(steps)}" style="{look}; stroke-linecap: round"/>\n'

        svg = re.sub(group, path, svg)
        if f'"#{shape[1]}"' not in svg:
            svg = svg.replace(shape[0], "")
    return svg


def ticks_as_paths(svg: str) -> str:
    """The ticks of an axis as one path, in the place of the first."""
    shape = re.compile(r'<path id="([^"]+)" d="M 0 0(L [-0-9. ]+)" style="([^"]*)"/>\n')
    for tick in list(shape.finditer(svg)):
        use = re.compile(
            rf'<use xlink:href="#{re.escape(tick[1])}" x="([^"]+)" y="([^"]+)"'
            r'(?: style="[^"]*")?/>\n'
        )
        end_x, end_y = (round(float(number) * 100) for number in tick[2][2:].split())
        places = [(round(float(x) * 100), round(float(y) * 100)) for x, y in use.findall(svg)]
        if not places:
            continue
        step = f"l{_short(end_x)}{_next(end_y)}"
        path = "".join(f"M{_short(x)}{_next(y)}{step}" for x, y in places)
        first = use.search(svg)
        assert first is not None
        svg = svg.replace(first[0], f'<path d="{path}" style="{tick[3]}"/>\n', 1)
        svg = use.sub("", svg).replace(tick[0], "")
    return svg


def texts_in_groups(svg: str) -> str:
    """Texts by their style, which so stands once; above all else, where they were drawn."""
    groups: dict[str, list[str]] = {}

    def moved(found: re.Match[str]) -> str:
        groups.setdefault(found[1], []).append(found[0].replace(f' style="{found[1]}"', "", 1))
        return ""

    svg = re.sub(r'<text style="([^"]*)"[^>]*>[^<]*</text>\n', moved, svg)
    made = "".join(f'<g style="{style}">\n{"".join(own)}</g>\n' for style, own in groups.items())
    return svg.replace("</svg>", made + "</svg>")


def grids_as_paths(svg: str, color: str) -> str:
    """The lines of a grid that share a clip as one path, in the place of the first."""
    line = re.compile(
        r'<path d="([^"]*)" clip-path="url\(#([^)]*)\)" '
        rf'style="fill: none; stroke: {color}; stroke-width: 0.8(?:; stroke-linecap: round)?"/>\n'
    )
    ways: dict[str, list[str]] = {}
    for found in line.finditer(svg):
        ways.setdefault(found[2], []).append(found[1].strip())
    left = dict(ways)

    def merged(found: re.Match[str]) -> str:
        own = left.pop(found[2], None)
        return "" if own is None else found[0].replace(found[1], " ".join(own), 1)

    return line.sub(merged, svg)


def relative(path: str) -> str:
    """Straight lines of a path from point to point, which takes about half of the bytes."""
    parts = re.findall(r"([A-Za-z]) ?([-0-9. ]*)", path)
    if not all(command in "MLz" for command, _ in parts):
        return path
    steps, here, previous = [], (0, 0), ""
    for command, numbers in parts:
        if command == "z":
            steps.append("z")
            previous = "z"
            continue
        # In hundredths, so that nothing is lost on the way.
        x, y = (round(float(number) * 100) for number in numbers.split())
        if command == "M":
            steps.append(f"M{_short(x)}{_next(y)}")
        else:
            step = f"{_short(x - here[0])}{_next(y - here[1])}"
            joint = "" if step.startswith("-") else " "
            steps.append(f"{joint}{step}" if previous == "L" else f"l{step}")
        here, previous = (x, y), command
    return "".join(steps)


def _short(hundredths: int) -> str:
    """A number of hundredths without needless zeros."""
    text = f"{hundredths / 100:.2f}".rstrip("0").rstrip(".")
    return re.sub(r"^(-?)0\.", r"\1.", text) if hundredths else "0"


def _next(hundredths: int) -> str:
    """Likewise, set apart from the number before it."""
    text = _short(hundredths)
    return text if text.startswith("-") else f" {text}"


def without_bare_groups(svg: str) -> str:
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
