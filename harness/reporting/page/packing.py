"""Large pages: what is folded stands in them zipped, and the page's script unpacks it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from html import escape
from urllib.parse import quote

from harness.reporting.page import charts

LARGE, FOLD = 6_000_000, 20_000
"""Bytes of a page beyond which its folds are packed, and of the smallest fold that is."""

TAG = re.compile(r"<details\b[^>]*>|</details>")
ANCHOR = re.compile(r'<(?:figure|table|h[1-6]|p|section|details)\b[^>]*? id="([^"]+)"')
DATA = re.compile(r'"data:text/csv;charset=utf-8;base64,([A-Za-z0-9+/=]*)"')

INSTEAD = (
    '<p class="note">The page is large, so this is packed: a script unpacks it. Its tables and '
    "pictures lie in <code>tables/</code> and <code>figures/</code> beside the page as well.</p>"
)


def with_packed_folds(html: str) -> str:
    """The page, if it is large with its folds zipped: a quarter of it is left, or less.

    A fold keeps its summary, and names the anchors that are in it, so that what is linked to is
    found. See ``folds.js``.
    """
    if len(html) <= LARGE:
        return html
    parts, end = [], 0
    for start, stop in _folds(html):
        parts += [html[end:start], _packed(html[start:stop])]
        end = stop
    return "".join([*parts, html[end:]])


def _folds(html: str) -> Iterator[tuple[int, int]]:
    """The places of outermost folds that are closed and not small, in order."""
    depth, start = 0, 0
    for tag in TAG.finditer(html):
        if tag[0] != "</details>":
            if depth == 0:
                start = tag.start()
            depth += 1
            continue
        depth -= 1
        is_open = re.match(r"<details\b[^>]*\bopen\b", html[start : tag.start()])
        if depth == 0 and not is_open and tag.end() - start >= FOLD:
            yield start, tag.end()


def _packed(fold: str) -> str:
    """A fold with its content as a block of data."""
    opening, end, content = fold.removesuffix("</details>").partition("</summary>")
    anchors = escape(" ".join(dict.fromkeys(ANCHOR.findall(content))))
    opening = opening.replace("<details", f'<details data-packed="{anchors}"', 1)
    # Of a text with three characters in four of other letters little can be zipped away.
    content = DATA.sub(lambda found: f'"{_as_text(found[1])}"', content)
    data = f'<script type="text/plain">{charts.packed(content.encode())}</script>'
    return f"{opening}{end}\n{INSTEAD}{data}\n</details>"


def _as_text(csv: str) -> str:
    """The address of a file's content in percent signs."""
    text = base64.b64decode(csv).decode()
    return f"data:text/csv;charset=utf-8,{quote(text, safe='!*(),/:;=@[]')}"
