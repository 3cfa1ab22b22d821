"""The architecture as one picture, drawn from the table in ``docs/architecture.md``.

``python docs/_site/picture.py`` writes ``docs/architecture.svg`` anew.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent

FLOW = ("spec", "plan", "engine", "store", "analysis", "tables", "figures", "page")
"""The way that data flows."""

BESIDE = {"entry": "spec", "parts": "plan", "processes": "engine", "check": "store"}
"""What is not on that way, and beside which stage it works."""

HANDS_BACK = ("plan", "engine", "store")
"""The stages to which what works beside them gives something and from which it takes."""

HANDS_ON = {
    "spec": "LoadedSpec",
    "plan": "Plan",
    "engine": "TrialResult",
    "store": "Results",
    "analysis": "Analysis",
    "tables": "Table",
    "figures": "FigureRecord",
}
"""The type that a stage hands to the next one."""

WIDTH, LEFT, WIDE, GAP = 860, 16, 520, 34
LINE, HEAD, PAD = 17, 26, 12
MONO = 7.3
"""Width of a letter of the files' names, in pixels."""


@dataclass(frozen=True)
class Box:
    """A stage as it is drawn."""

    name: str
    lines: tuple[str, ...]

    @property
    def height(self) -> int:
        """In pixels."""
        return HEAD + LINE * len(self.lines) + PAD


def modules(page: str) -> dict[str, list[str]]:
    """The files of each stage, as the table on the page has them."""
    found: dict[str, list[str]] = {}
    rows = re.findall(r"^\| ([a-z]+) \| (`.*?) \|", page, re.M)
    for stage, files in rows:
        found.setdefault(stage, []).extend(re.findall(r"`([^`]+)`", files))
    return found


def svg(page: str) -> str:
    """The picture.

    Raises:
        ValueError: If the table has other stages than the picture.
    """
    files = modules(page)
    if set(files) != {*FLOW, *BESIDE}:
        raise ValueError(f"stages of the table: {', '.join(files)}")
    narrow = WIDTH - LEFT * 2 - WIDE - 40
    boxes = {name: Box(name, _wrapped(files[name], WIDE)) for name in FLOW}
    beside = {at: Box(name, _wrapped(files[name], narrow)) for name, at in BESIDE.items()}
    tops, y, free = dict[str, int](), LEFT, 0
    for name, box in boxes.items():
        if name in beside:
            y = max(y, free)
            free = y + beside[name].height + LEFT
        tops[name] = y
        y += box.height + GAP
    parts: list[str] = []
    for name, box in boxes.items():
        parts += _box(box, LEFT, tops[name], WIDE)
        if name in beside:
            x, middle = LEFT + WIDE + 40, tops[name] + HEAD / 2 + 4
            parts += _box(beside[name], x, tops[name], narrow, dashed=True)
            parts.append(_arrow(x, middle, LEFT + WIDE + 2, middle, both=name in HANDS_BACK))
    for name, following in itertools.pairwise(FLOW):
        x, top, end = LEFT + 60, tops[name] + boxes[name].height, tops[following] - 2
        parts.append(_arrow(x, top, x, end))
        told = f'<text class="type" x="{x + 12}" y="{(top + end) / 2 + 5:g}">'
        parts.append(f"{told}{HANDS_ON[name]}</text>")
    height = max(y - GAP, free - LEFT) + LEFT
    told = "; ".join(f"{name}: {', '.join(files[name])}" for name in (*FLOW, *BESIDE))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(told)}">',
            STYLE,
            f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


STYLE = """<style>
.paper { fill: #fff } .box { fill: #f4f4f2; stroke: #333; stroke-width: 1.2 }
.dashed { stroke-dasharray: 5 4 } text { fill: #111 }
.name { font: bold 15px system-ui, sans-serif }
.files { font: 12px ui-monospace, 'DejaVu Sans Mono', monospace }
.type { font: italic 12.5px system-ui, sans-serif }
.way { stroke: #333; stroke-width: 1.6; fill: none } .tip { fill: #333 }
@media (prefers-color-scheme: dark) {
.paper { fill: #16181a } .box { fill: #23272a; stroke: #bbb } text { fill: #eee }
.way { stroke: #bbb } .tip { fill: #bbb }
}
</style>"""


def _wrapped(names: Iterable[str], width: float) -> tuple[str, ...]:
    """Names in lines that fit into a box."""
    most = int((width - 2 * PAD) / MONO)
    lines = [""]
    for name in names:
        longer = f"{lines[-1]}  {name}".strip()
        if len(longer) > most and lines[-1]:
            lines.append(name)
        else:
            lines[-1] = longer
    return tuple(lines)


def _box(box: Box, x: float, y: float, width: float, *, dashed: bool = False) -> Sequence[str]:
    look = "box dashed" if dashed else "box"
    size = f'width="{width:g}" height="{box.height}"'
    return [
        f'<rect class="{look}" x="{x:g}" y="{y:g}" {size} rx="5"/>',
        f'<text class="name" x="{x + PAD:g}" y="{y + 20:g}">{box.name}</text>',
        *(
            f'<text class="files" xml:space="preserve" x="{x + PAD:g}" '
            f'y="{y + HEAD + LINE * (i + 1) - 4:g}">{escape(line)}</text>'
            for i, line in enumerate(box.lines)
        ),
    ]


def _arrow(x1: float, y1: float, x2: float, y2: float, *, both: bool = False) -> str:
    """An arrow, straight down or to the left; with a tip at its start too if ``both``."""
    down = x1 == x2
    tips = [(x2, y2, 1)] + ([(x1, y1, -1)] if both else [])
    drawn = [f'<path class="way" d="M{x1:g} {y1:g}L{x2:g} {y2:g}"/>']
    for x, y, sign in tips:
        corners = (
            f"M{x:g} {y:g}l-4.5 {-8 * sign}h9z" if down else f"M{x:g} {y:g}l{8 * sign} -4.5v9z"
        )
        drawn.append(f'<path class="tip" d="{corners}"/>')
    return "".join(drawn)


def main() -> None:
    """Draw the picture anew."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    (DOCS / "architecture.svg").write_text(svg(page), encoding="utf-8")


if __name__ == "__main__":
    main()
