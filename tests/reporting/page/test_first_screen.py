"""The first screen of real pages, and the room that their tables take, in a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml
from playwright.sync_api import Browser, FloatRect, Page

from harness.commands import run as running
from harness.progress import NullProgress
from harness.reporting.glossary import definition

ROOT = Path(__file__).resolve().parents[3]
MANY_OPTIMIZERS = ("SGD", "Adam", "Adagrad", "RMSprop", "Adamax", "NAdam", "RAdam")
MANY = {
    "suite": "many",
    "seeds": 2,
    "timing": {"enabled": False},
    "objectives": {
        name: {"steps": 5}
        for name in ("rosenbrock_2d", "booth", "beale", "himmelblau", "quadratic_2d", "matyas")
    },
    "optimizers": {
        f"torch_{name.lower()}": {
            "class": f"torch.optim:{name}",
            "hyperparameters": {"lr": 1e-3},
        }
        for name in MANY_OPTIMIZERS
    },
}
"""Six objectives in the columns of the matrix, and seven rows."""


def shipped() -> dict[str, object]:
    """The spec that ships, with fewer seeds and a short timing pass."""
    spec: dict[str, object] = yaml.safe_load((ROOT / "benchmarks.yaml").read_text())
    return {**spec, "seeds": 6, "timing": {"rounds": 3, "block_steps": 5, "seconds": 0.5}}


@dataclass(frozen=True)
class Real:
    """The report of a run: its page, and the tables beside it."""

    name: str
    page: Path

    @property
    def summary(self) -> pd.DataFrame:
        return pd.read_csv(self.page.parent / "tables" / "summary.csv", keep_default_na=False)


@pytest.fixture(scope="module", params=["shipped", "many"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Real:
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("optimizers", "datasets"):
        shutil.copytree(ROOT / name, folder / name)
    spec = shipped() if request.param == "shipped" else MANY
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    options = running.RunOptions(output=folder / "report")
    done = running.run(folder / "spec.yaml", options, NullProgress())
    return Real(request.param, done.page)


def opened_at(browser: Browser, real: Real, width: int, height: int) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(real.page.as_uri())
    yield page
    context.close()


@pytest.fixture
def wide(browser: Browser, real: Real) -> Iterator[Page]:
    """The page on a screen of 1440 x 900."""
    yield from opened_at(browser, real, 1440, 900)


@pytest.fixture
def narrow(browser: Browser, real: Real) -> Iterator[Page]:
    """The page on a phone of 390 x 844."""
    yield from opened_at(browser, real, 390, 844)


BEFORE = """() => {
  const figure = document.querySelector("figure");
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const before = figure.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_PRECEDING;
    const parent = node.parentElement;
    if (before && !parent.closest("script, style, .skip, .matrix") && parent.checkVisibility())
      texts.push(node.data);
  }
  return texts.join(" ");
}"""
PLACE = """() => {
  const { top, height } = document.querySelector("figure").getBoundingClientRect();
  return [top + scrollY, height];
}"""


def box(page: Page, selector: str) -> FloatRect:
    found = page.locator(selector).bounding_box()
    assert found is not None
    return found


def words(text: str) -> list[str]:
    """The words of a text; not numbers or signs."""
    return [word for word in text.split() if re.search(r"[^\W\d_]{2}", word)]


def test_a_sentence_and_the_matrix_are_all_that_stands_before_the_first_figure(
    wide: Page, real: Real
) -> None:
    said = words(wide.evaluate(BEFORE))
    assert 5 < len(said) <= 60
    names = words(wide.locator(".matrix").inner_text())
    known = set(real.summary["optimizer"]) | set(real.summary["objective"])
    allowed = {"optimizer", "objective", "time", "failed", "worse"}
    assert {name for name in names if name not in known} <= allowed


def test_the_first_figure_is_above_the_fold(wide: Page, real: Real) -> None:
    top, height = wide.evaluate(PLACE)
    figure = wide.locator("figure").first
    assert figure.locator("svg[role=img]").count() == 1
    assert "trajectories" in (figure.get_attribute("data-name") or "")
    # Beside the matrix it is whole; below a matrix of many columns at least its upper part.
    assert top + (height if real.name == "shipped" else 200) <= 900
    assert box(wide, ".headline")["y"] < 200


def test_on_a_phone_the_first_figure_begins_within_two_screens(narrow: Page) -> None:
    top, _ = narrow.evaluate(PLACE)
    assert top <= 2 * 844


def test_a_matrix_of_thirty_optimizers_leaves_room_for_the_first_figure(
    browser: Browser, tmp_path: Path
) -> None:
    spec = {
        "suite": "rows",
        "seeds": 2,
        "timing": {"enabled": False},
        "objectives": {"booth": {"steps": 5}},
        "optimizers": {
            f"sgd_{i}": {"class": "torch.optim:SGD", "hyperparameters": {"lr": 1e-3 * (i + 1)}}
            for i in range(30)
        },
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    options = running.RunOptions(output=tmp_path / "report")
    done = running.run(tmp_path / "spec.yaml", options, NullProgress())
    for page in opened_at(browser, Real("rows", done.page), 1440, 900):
        top, _ = page.evaluate(PLACE)
        assert top <= 900
        matrix = page.locator(".matrix")
        assert matrix.locator("tbody tr").count() == 30
        matrix.evaluate("(one) => one.scrollTo(0, 1e6)")
        assert matrix.locator("tbody tr").last.is_visible()
        whole, heading = box(page, ".matrix"), box(page, ".matrix thead th >> nth=0")
        assert whole["y"] <= heading["y"] <= whole["y"] + 5
        page.emulate_media(media="print")
        assert matrix.evaluate("(one) => one.scrollHeight <= one.clientHeight + 1")


def test_the_contents_stand_beside_the_page_and_not_before_it_in_the_order_of_tabs(
    wide: Page,
) -> None:
    left, main = box(wide, "nav"), box(wide, "main")
    assert left["x"] + left["width"] <= main["x"]
    follows = "document.querySelector('main').compareDocumentPosition("
    follows += "document.querySelector('nav')) & Node.DOCUMENT_POSITION_FOLLOWING"
    assert wide.evaluate(follows)


TOO_WIDE = """() => [...document.querySelectorAll("table")].filter((table) => {
  const own = table.getBoundingClientRect();
  return own.width === 0 || own.left < 0 || own.right > document.documentElement.clientWidth + 1
    || table.closest(".scroll").scrollWidth > table.closest(".scroll").clientWidth + 1;
}).map((table) => [table.id, table.getBoundingClientRect().width])"""


def unfolded(page: Page) -> Page:
    page.locator("details").evaluate_all("all => all.forEach((one) => (one.open = true))")
    assert page.locator("details:not([open])").count() == 0
    return page


def test_no_table_is_wider_than_the_page(wide: Page) -> None:
    assert unfolded(wide).evaluate(TOO_WIDE) == []
    assert wide.locator("table").count() > 8
    assert wide.evaluate("document.documentElement.scrollWidth") == 1440


def test_on_a_phone_no_table_is_wider_than_the_page(narrow: Page) -> None:
    assert unfolded(narrow).evaluate(TOO_WIDE) == []
    assert narrow.evaluate("document.documentElement.scrollWidth") == 390


def test_on_a_phone_the_cells_of_a_wide_table_say_what_they_are(narrow: Page) -> None:
    row = narrow.locator(".cards tbody tr").first
    names = row.evaluate(
        """(row) => {
          const headings = [...row.closest("table").tHead.rows[0].cells].map((c) => c.textContent);
          return [...row.cells].slice(1).map((cell, i) => [
            getComputedStyle(cell, "::before").content, headings[i + 1]]);
        }"""
    )
    assert len(names) >= 3
    for shown, heading in names:
        assert heading in shown


def test_the_matrix_says_what_the_table_beside_the_page_says(wide: Page, real: Real) -> None:
    head = [th.inner_text() for th in wide.locator(".verdicts thead th").all()]
    corner, columns = head[0], [name for name in head[1:] if name != "time"]
    found = {}
    for row in wide.locator(".verdicts tbody tr").all():
        name = row.locator("th").inner_text()
        for column, cell in zip(columns, row.locator("td").all(), strict=False):
            pair = (name, column) if corner == "optimizer" else (column, name)
            found[pair] = (cell.get_attribute("class"), cell.inner_text().split()[0])
    if corner == "objective":
        found = {pair: cell for pair, cell in found.items() if pair[1] != "time"}
    kinds = {"best": "best", "tied": "best", "worse": "worse"}
    expected = {
        (row["optimizer"], row["objective"]): (kinds.get(row["outcome"], "near"), row["loss"])
        for _, row in real.summary.iterrows()
    }
    assert {pair: kind for pair, (kind, _) in found.items()} == {
        pair: kind for pair, (kind, _) in expected.items()
    }
    for pair, (_, loss) in expected.items():
        assert float(found[pair][1]) == pytest.approx(float(loss), rel=5.1e-3)
    best = wide.locator(".verdicts .best").first
    assert best.evaluate("one => getComputedStyle(one).fontWeight") == "700"


def test_a_heading_tells_what_it_means(wide: Page) -> None:
    heads = "heads => heads.map((head) => [head.textContent.trim(), head.title])"
    titles = dict(wide.locator("table.sortable thead th").evaluate_all(heads))
    assert len(titles) > 8
    assert titles == {heading: definition(heading) for heading in titles}
    assert titles["95% interval"]
