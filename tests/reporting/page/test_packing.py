"""Large pages: what is folded is packed, and comes back whole in a browser."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, Page, expect

from harness.reporting.page import packing, parts

CSV = 'optimizer,loss\nå ü,0.1\n"a, b",1e-7\n100%,#?&\n'
LINK = f"data:text/csv;charset=utf-8;base64,{base64.b64encode(CSV.encode()).decode()}"
ROWS = "".join(f"<tr><th><span>o{i}</span></th><td>{i % 7}</td></tr>\n" for i in range(40))
TABLE = (
    '<h3 id="t-title">T</h3>\n<details><summary>All 40 rows</summary>\n<div class="scroll" '
    'aria-label="T"><table id="t" class="sortable" data-cards><thead><tr><th>name</th>'
    f'<th class="number">loss</th></tr></thead>\n<tbody>{ROWS}</tbody></table></div>\n'
    f'<p class="download"><a href="{LINK}" download="t.csv">t.csv</a></p>\n</details>\n'
)
DRAWING = '<svg role="img" aria-label="F" viewBox="0 0 9 9"><path d="M0 0l9 9"/></svg>'
FIGURE = (
    f'<figure id="f" data-name="f" data-title="F"><div class="drawing">{DRAWING}</div>'
    "<figcaption><strong>F</strong></figcaption></figure>\n"
)
CONTENT = f"\n{FIGURE}{TABLE}<p>Tail &lt;details&gt; &amp; more.</p>\n"
FOLD = f'<details class="more"><summary>More: all</summary>{CONTENT}</details>'
SMALL = "<details><summary>Small</summary><p id='s'>Little</p></details>"
OTHER = TABLE.replace('id="t', 'id="u')
OPEN = f"<details open><summary>Open</summary>{OTHER}</details>"
MAIN = f"<main><h2>H</h2>{FOLD}\n{SMALL}\n{OPEN}\n</main>"


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LARGE", 1000)
    monkeypatch.setattr(packing, "FOLD", 1000)


def content_of(page: str) -> str:
    [data] = re.findall(r'<script type="text/plain">([^<]*)</script>', page)
    return gzip.decompress(base64.b64decode(data, validate=True)).decode()


def test_a_page_of_usual_size_stays_as_it_is() -> None:
    assert packing.with_packed_folds(MAIN) == MAIN
    assert 2e6 < packing.LARGE < 1e7


@pytest.mark.usefixtures("small_limits")
def test_closed_folds_that_are_not_small_are_packed_and_all_else_stays() -> None:
    packed = packing.with_packed_folds(MAIN)
    before, after = MAIN.split(FOLD)
    assert packed.startswith(before)
    assert packed.endswith(after)
    own = packed.removeprefix(before).removesuffix(after)
    assert own.startswith(
        '<details data-packed="f t-title t" class="more"><summary>More: all</summ'
    )
    assert own.count("<details") == own.count("</details>") == 1


@pytest.mark.usefixtures("small_limits")
def test_what_is_packed_is_what_was_there_and_files_have_the_same_content() -> None:
    content = content_of(packing.with_packed_folds(MAIN))
    [link] = re.findall(r'href="data:text/csv;charset=utf-8,([^"]*)"', content)
    assert unquote(unescape(link)) == CSV
    assert content.replace(f"data:text/csv;charset=utf-8,{link}", LINK) == CONTENT


def test_a_large_page_is_a_fraction_of_what_it_was() -> None:
    page = f"<main>{FOLD.replace(ROWS, ROWS * 1000)}</main>" * 4
    assert len(page) > packing.LARGE
    assert len(packing.with_packed_folds(page)) < len(page) / 10


@pytest.mark.usefixtures("small_limits")
def test_anchors_of_drawings_are_no_places_to_go_to() -> None:
    drawn = DRAWING.replace("<path", '<g id="d1"><clipPath id="d2"/></g><path')
    packed = packing.with_packed_folds(MAIN.replace(DRAWING, drawn))
    assert 'data-packed="f t-title t"' in packed


# In a browser


HEAD = """<!DOCTYPE html><html><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<style id="drawing-styles"></style></head><body>"""


@pytest.fixture
def opened(browser: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    request.getfixturevalue("small_limits")
    script = parts._script()
    top = HEAD.format(policy=parts._policy(script, ""))
    html = f"{top}{'<p>before</p>' * 200}{MAIN}<script>{script}</script></body></html>"
    (tmp_path / "index.html").write_text(packing.with_packed_folds(html), encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    # What is left is unpacked when there is time: here there is none.
    page.add_init_script("window.requestIdleCallback = (act) => { window.later = act; };")
    page.goto((tmp_path / "index.html").as_uri())
    yield page
    context.close()
    assert said == []


@pytest.mark.slow
def test_a_packed_fold_is_whole_once_it_is_opened(opened: Page) -> None:
    assert opened.locator("#t").count() == 0
    assert opened.locator("details[data-packed] > p").count() == 1
    opened.get_by_text("More: all").click()
    expect(opened.locator("#f svg")).to_be_visible()
    assert opened.locator("details[data-packed]").count() == 0
    assert opened.get_by_text("a script unpacks it").count() == 0
    expect(opened.locator("#f").get_by_role("button", name="SVG")).to_be_visible()
    opened.get_by_text("All 40 rows").first.click()
    rows = opened.locator("#t tbody tr")
    assert rows.count() == 40
    heading = opened.locator("#t th button", has_text="loss")
    heading.click()
    assert rows.nth(0).locator("td").inner_text() == "0"
    assert opened.locator("#t.cards td[data-h=loss]").count() == 40
    assert opened.locator("#t-title a.anchor").count() == 1
    copied = opened.locator("details.more").get_by_role("button", name="Copy as Markdown: T")
    assert copied.count() == 1
    with opened.expect_download() as download:
        opened.locator("details.more a[download]").click()
    assert download.value.path().read_text(encoding="utf-8") == CSV


@pytest.mark.slow
def test_an_address_within_a_packed_fold_unpacks_it(opened: Page) -> None:
    opened.evaluate("location.hash = '#t'")
    expect(opened.locator("#t")).to_be_visible()
    expect(opened.locator("#t")).to_be_in_viewport()


@pytest.mark.slow
def test_what_nobody_opens_is_unpacked_when_there_is_time(opened: Page) -> None:
    opened.evaluate("later()")
    opened.wait_for_selector("details[data-packed]", state="detached")
    assert opened.locator("#t tbody tr").count() == 40
    assert not opened.locator("#f").is_visible()
