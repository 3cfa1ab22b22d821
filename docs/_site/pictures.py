"""Make the pictures of README.md and of these pages: ``python docs/_site/pictures.py``.

They are of the page that ``python -m harness run benchmarks.yaml`` leaves, whose folder is an
argument. Needed are what the tests need and Chromium.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import FloatRect, Page, sync_playwright

DOCS = Path(__file__).resolve().parent.parent
RESULTS = DOCS.parent / "reports" / "d2l-adagrad"
KEY = "trajectories_quadratic_2d"
"""The picture that README.md opens with, a figure of the run."""

WIDTH = 1000
HEIGHT = 1400
MARGIN = 24
COLOURS = 96
"""Of a screenshot, so that it takes little room."""


class Shot(NamedTuple):
    """A part of the page, with numbers drawn on it.

    Attributes:
        name: The name of its file.
        first: Selector of the uppermost element shown.
        last: Selector of the lowest.
        numbered: Selectors of what has a number: on its left or, after a ``>``, on its right.
    """

    name: str
    first: str
    last: str
    numbered: tuple[str, ...]


SUMMARY = Shot(
    "reading-summary",
    "h1",
    "#choices",
    (
        ".headline",
        ">.verdicts .best",
        ">.verdicts .near small",
        ">.verdicts .worse small",
        ">.verdicts tbody tr:nth-child(2) td:last-child",
        ">#summary .legend li:last-child",
        "#summary .player .play",
        "#summary figcaption details",
        "#summary figcaption .download",
        "#choices legend",
    ),
)
REGRESSION = 'section:has(> h2[aria-label="ch7_linreg"])'
OBJECTIVE = Shot(
    "reading-objective",
    f"{REGRESSION} > h2",
    f"{REGRESSION} > details.more",
    (
        f">{REGRESSION} > h2 .anchor",
        f"{REGRESSION} > p:not(.formula)",
        f">{REGRESSION} tbody tr:nth-child(2) td:nth-child(2)",
        f">{REGRESSION} tbody tr:nth-child(3) td:nth-child(4)",
        f"{REGRESSION} .download",
        '[data-name="loss_ch7_linreg"]',
        '[data-name="final_loss_ch7_linreg"]',
        '[data-name="differences_ch7_linreg"]',
        f"{REGRESSION} > details.more",
    ),
)
STATISTICS = Shot(
    "reading-statistics",
    "#statistics > h2",
    '[data-name="overview"]',
    ("#statistics li:first-child", "#statistics li:last-child", '[data-name="overview"]'),
)
ROW = "#time h3:last-of-type ~ .scroll tbody tr:nth-child(2)"
SPEED = Shot(
    "reading-speed",
    "#time h3:last-of-type",
    "#failures .download",
    (
        f">{ROW} td:nth-child(2)",
        f">{ROW} td:nth-child(6)",
        f">{ROW} td:last-child",
        "#failures p",
        "#failures tbody td:last-child",
    ),
)

STYLE = """
.anchor { opacity: 1 !important }
.choices { position: static }
.verdicts :is(th, td) { padding-right: 26px }
.callout {
  position: absolute; z-index: 9; width: 18px; height: 18px; border-radius: 50%;
  background: #b3261e; color: #fff; text-align: center; font: bold 11px/18px sans-serif;
}
"""

DRAW = """([selectors, first]) => {
  selectors.forEach((given, index) => {
    const right = given.startsWith(">");
    const selector = given.slice(right);
    const found = [...document.querySelectorAll(selector)].find((e) => e.checkVisibility());
    if (!found) throw new Error(`nothing to number: ${selector}`);
    const range = document.createRange();
    range.selectNodeContents(found);
    const box = (found.matches("figure, .anchor, button") ? found : range).getBoundingClientRect();
    const sign = document.createElement("span");
    sign.className = "callout";
    sign.textContent = first + index;
    sign.style.left = `${right ? box.right + 3 : Math.max(box.left - 20, 1)}px`;
    sign.style.top = `${box.top + scrollY + Math.min(box.height, 24) / 2 - 9}px`;
    document.body.append(sign);
  });
}"""
"""Draw a number beside each of some elements."""

PLACE = """([first, last]) => {
  const box = (selector) => document.querySelector(selector).getBoundingClientRect();
  return [box(first).top + scrollY, box(last).bottom + scrollY];
}"""
"""Find where what is shown begins and ends."""


def take(page: Page, shot: Shot, number: int) -> bytes:
    """Take a screenshot of a part of the page, with numbers from this one on."""
    page.add_style_tag(content=STYLE)
    for part in (shot.first, *(s.removeprefix(">") for s in shot.numbered), shot.last):
        page.locator(part).first.scroll_into_view_if_needed()
        page.wait_for_timeout(300)  # charts are drawn as they come into view
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(DRAW, [shot.numbered, number])
    top, bottom = page.evaluate(PLACE, [shot.first, shot.last])
    top = max(top - MARGIN, 0)
    clip: FloatRect = {"x": 0, "y": top, "width": WIDTH, "height": bottom + MARGIN - top}
    return page.screenshot(full_page=True, clip=clip)


def write(results: Path) -> None:
    """Write the pictures of a run's page into docs/."""
    shutil.copy(results / "figures" / f"{KEY}.svg", DOCS / "trajectories.svg")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    number = 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        for shot in (SUMMARY, OBJECTIVE, STATISTICS, SPEED):
            page.goto((results / "index.html").resolve().as_uri())
            picture = Image.open(io.BytesIO(take(page, shot, number)))
            small = picture.convert("RGB").quantize(COLOURS)
            small.save(DOCS / f"{shot.name}.png", optimize=True)
            number += len(shot.numbered)
        browser.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)
