"""The map in tables, sentences, figures, on the terminal and on the page; light, dark, by keys."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from map_builders import made_map, make_cell, make_store
from playwright.sync_api import Browser, Page

from harness.analysis import win_counts, wins
from harness.analysis.cells import Cell, Cells
from harness.analysis.win_counts import WinMap
from harness.reporting import printed, write
from harness.reporting.figures import map_drawing
from harness.reporting.figures import win_map as figures
from harness.reporting.objects import Report
from harness.reporting.tables import win_map, win_sentences


def won(count: int, seeds: int = 10) -> list[bool]:
    return [True] * count + [False] * (seeds - count)


def map_of(*cells: Cell) -> WinMap:
    (known,) = win_counts.maps(Cells(cells))
    return known


@pytest.fixture
def small() -> WinMap:
    """Two tasks of one family and one of none, of which b did not run on the last difficulty."""
    return map_of(
        make_cell("hill", 0, "a", won(10), family="slopes", draws=(("0", 3), ("1", 17))),
        make_cell("hill", 0, "b", won(2), family="slopes", draws=(("0", 20),)),
        make_cell("hill", 1, "a", won(6), family="slopes", draws=(("0", 19), ("1", 1))),
        make_cell("hill", 1, "b", won(0), family="slopes", draws=(("0", 20),)),
        make_cell("hill", 2, "a", won(0), family="slopes", draws=(("0", 20),)),
        make_cell("bowl", 0, "a", won(10), family="", label="", draws=(("1", 20),)),
        make_cell("bowl", 0, "b", won(10), family="", label="", draws=(("1", 20),)),
    )


def shown(known: WinMap, name: str) -> list[dict[str, str]]:
    tables = {table.name: table for table in win_map.build([known])}
    headings = [str(heading) for heading in tables[name].shown.columns]
    return [dict(zip(headings, cells, strict=True)) for cells in tables[name].texts]


def test_the_matrix_has_shares_and_a_dash_where_nothing_ran(small: WinMap) -> None:
    assert shown(small, "map") == [
        {"family": "slopes", "task": "hill", "difficulty": "power=0", "a": "100%", "b": "20%"},
        {"family": "slopes", "task": "hill", "difficulty": "power=1", "a": "60%", "b": "0%"},
        {"family": "slopes", "task": "hill", "difficulty": "power=2", "a": "0%", "b": "–"},
        {"family": "other tasks", "task": "bowl", "difficulty": "–", "a": "100%", "b": "100%"},
    ]
    (table,) = (t for t in win_map.build([small]) if t.name == "map")
    assert table.frame["b"].tolist()[:2] == [0.2, 0.0]
    assert math.isnan(table.frame["b"].tolist()[2])


def test_the_summary_counts_what_all_ran_on(small: WinMap) -> None:
    a, b = shown(small, "map_summary")
    assert (a["optimizer"], a["cells won"], a["slopes"], a["other tasks"]) == (
        "a", "3 of 3", "2 of 2", "1 of 1"
    )  # fmt: skip
    assert (b["optimizer"], b["cells won"], b["slopes"]) == ("b", "1 of 3", "0 of 2")
    assert a["hardest won"] == "0 of 1"
    assert b["hardest won"] == "–"  # it did not run there
    # Of a: 21/18, 21/2 and 1; of b none wins in two cells of three.
    assert a["settings until a win"] == "1.2"
    assert b["settings until a win"] == "> 20"


def test_misses_are_in_words_and_infinite_in_the_file(small: WinMap) -> None:
    rows = {(r["task"], r["level"], r["optimizer"]): r for r in shown(small, "map_cells")}
    lost = rows["hill", "2", "b"]
    assert (lost["won"], lost["share won"], lost["steps until a win"]) == (
        "0 of 10",
        "0%",
        "not won",
    )
    assert lost["settings until a win"] == "> 20"
    assert lost["won more often by"] == "a"
    assert rows["hill", "2", "a"]["settings until a win"] == "10.5"
    (table,) = (t for t in win_map.build([small]) if t.name == "map_cells")
    own = table.frame[(table.frame["level"] == 2) & (table.frame["optimizer"] == "b")].iloc[0]
    assert own["steps_to_win"] == own["settings_until_win"] == math.inf
    assert "inf" in table.to_csv()


def test_settings_are_told_by_tuning_seed_where_one_alone_has_a_winner() -> None:
    cell = make_cell(draws=(("00", 18), ("01", 2)))
    assert win_map.settings_text(cell, wins.settings_to_win(cell)) == "> 20 and 7.0"


def test_the_hardest_difficulty_has_its_band(small: WinMap) -> None:
    (row,) = shown(small, "map_hardest")
    assert (row["task"], row["difficulties"], row["a"]) == ("hill", "3", "2 (1 to 2)")
    # Of ten seeds with a share of 20%, five or more win in 3% of all resamples.
    assert row["b"] == "0 (0 to 1)"


def test_tables_are_written_as_latex(small: WinMap) -> None:
    for table in win_map.build([small]):
        text = table.to_latex()
        assert r"\begin{tabular}" in text
        assert r"\label{tab:" in text


def lost_family() -> WinMap:
    cells = []
    for task in range(8):
        for name in "abcd":
            for d in range(3):
                wins_it = not (name == "b" and task % 2) and d < 2
                cells.append(
                    make_cell(
                        f"t{task}", d, name, won(10 * wins_it), family=("up", "down")[task % 2]
                    )
                )
    return map_of(*cells)


def test_a_sentence_names_who_fails_at_a_family_and_nobody_else() -> None:
    known = lost_family()
    (sentence,) = win_sentences.families(known)
    assert sentence.startswith(
        "b fails at down: it wins 0 of 12 cells, the others 8.00 on average, a, c and d the most, "
        "8 (p = "
    )
    p = float(re.search(r"p = ([\d.e-]+)\)", sentence)[1])  # type: ignore[index]
    assert p == pytest.approx(8 * 4 * (1 / 4) ** 4 / 4, rel=0.02)  # Holm: 8 tests of (1/4)^4
    assert "a, c and d win the most, 16 each" in win_sentences.headline(known)


def asked_map(own: dict[str, int], *, tasks: int = 6, others: str = "abcde") -> WinMap:
    """Of ten seeds, how many the asked one wins by task; a wins all, the others all but a task."""
    cells = [make_cell(f"t{i}", 0, "mine", won(own.get(f"t{i}", 10))) for i in range(tasks)]
    for name in others:
        cells += [
            make_cell(f"t{i}", 0, name, won(0 if name != "a" and i == tasks - 1 else 10))
            for i in range(tasks)
        ]
    origins = dict.fromkeys(others, "shipped: harness")
    (known,) = win_counts.maps(Cells(tuple(cells), origins=origins))
    return known


def test_a_headline_begins_with_the_optimizer_that_was_asked_about() -> None:
    text = win_sentences.headline(asked_map({"t0": 0, "t1": 2, "t5": 0}))
    assert re.match(
        r"of 6 cells \(6 tasks\), mine wins 3 \(95% CI \d to \d\), rank 6 of 6; a wins the most, "
        r"6, not significantly more; mine is significantly weaker than most others at t0 and t1$",
        text,
    )


def test_the_asked_one_s_rank_is_shared_where_others_win_as_many() -> None:
    text = win_sentences.headline(asked_map({"t5": 0}))
    assert "mine wins 5 (95% CI 3 to 6), rank 2 of 6 (shared with b, c, d and e); a wins" in text
    assert text.endswith("; at no task is mine significantly weaker or stronger than most others")


def test_the_asked_one_may_win_the_most_and_stand_out() -> None:
    text = win_sentences.headline(asked_map({}))
    assert "mine wins 6 (95% CI 6 to 6), the most of 6 optimizers, as does a; b (5), c (5)" in text
    assert text.endswith("; mine is significantly stronger than most others at t5")
    alone = win_sentences.headline(asked_map({}, others="bcde"))
    assert "mine wins 6 (95% CI 6 to 6), the most of 5 optimizers; b (5)" in alone
    both = win_sentences.headline(asked_map({"t1": 0}))
    assert both.endswith("weaker than most others at t1, and stronger at t5")


def test_with_several_optimizers_of_its_own_a_run_asks_about_none() -> None:
    known = asked_map({"t0": 0})
    several = replace(known.cells, origins={"a": "shipped: harness"})
    none = replace(known.cells, origins={})
    for cells in (several, none):
        (again,) = win_counts.maps(cells)
        assert win_sentences.asked_of(again) == ""
        assert win_sentences.headline(again).startswith("of 6 cells (6 tasks), a wins the most, 6")


def test_what_stands_out_is_so_whatever_the_order() -> None:
    known = asked_map({"t0": 0, "t1": 2, "t5": 0})
    cells = replace(known.cells, cells=known.cells.cells[::-1])
    (again,) = win_counts.maps(cells)
    assert win_sentences.headline(again) == win_sentences.headline(known)


def test_no_sentence_without_significance(small: WinMap) -> None:
    assert win_sentences.families(small) == ()
    assert "b (1) wins not significantly fewer" in win_sentences.headline(small)


def test_words_tell_what_is_left_out_and_where_results_come_from(small: WinMap) -> None:
    known = replace(small, cells=replace(small.cells, origins={"b": "shipped: x 1"}, left_out=2))
    told = " ".join(win_sentences.basis(known))
    assert "Not all optimizers ran on 1 cell" in told
    assert win_sentences.origins(known) == (
        "The cells of b are shipped, made with x 1. 2 cells of these stayed out, as their tasks "
        "are defined otherwise here."
    )
    assert win_sentences.origins(small) == ""
    assert shown(known, "map_summary")[1]["origin"] == "shipped"
    two = replace(known, cells=replace(known.cells, origins={"a": "kept: y", "b": "shipped: x 1"}))
    assert shown(two, "map_summary")[1]["origin"] == "shipped: x 1"


def test_colours_darken_evenly_in_grey_too() -> None:
    def lightness(colour: str) -> float:
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    found = [lightness(map_drawing.colour(share / 20)) for share in range(21)]
    assert all(dark < light for light, dark in itertools.pairwise(found))


def test_the_figure_has_a_square_for_each_cell(small: WinMap) -> None:
    record = figures.matrix(small)
    assert [name for name, _ in record.families] == ["slopes", "other tasks"]
    (hill,), (bowl,) = (tasks for _, tasks in record.families)
    assert hill.shares[0] == (1.0, 0.6, 0.0)
    assert hill.shares[1][:2] == (0.2, 0.0)
    assert math.isnan(hill.shares[1][2])
    assert bowl.shares == ((1.0,), (1.0,))
    figure = map_drawing.draw_map(record)
    (ax,) = figure.axes
    # Seven cells that ran, and eleven squares of the key.
    filled = [patch for patch in ax.patches if mpl.colors.to_rgba(patch.get_facecolor())[3]]
    paths = [patch.get_path() for patch in filled]
    assert sum(int((np.asarray(path.codes) == path.MOVETO).sum()) for path in paths) == 7 + 11
    texts = [text.get_text() for text in ax.texts]
    assert {"a", "b", "hill", "bowl", "slopes", "other tasks", "not run"} <= set(texts)
    assert [text for text in texts if text.isdigit()] == ["100", "60", "0", "20", "0", "100", "100"]


# The page of many objectives


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("map")
    made = made_map(8, 3, settings=4, seeds=5, difficulties=3)
    found = Report(make_store(folder / "results.sqlite", made))
    assert len(found.results.objectives) == 24
    write.write_report(found, ("html", "csv"))
    return found


class _Squares(HTMLParser):
    """The texts and titles of the squares of a page's tables."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.inside = str(known["title"]) if tag == "i" and "title" in known else ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found.append((self.inside, data))
            self.inside = ""


def test_a_page_of_many_objectives_has_the_map_and_says_what_is_left_out(report: Report) -> None:
    html = report.page.read_text()
    squares = _Squares()
    squares.feed(html)
    (known,) = report.analysis.maps
    expected = {
        f"{name} on {row.task} {row.label}": f"{100 * wins.share(cell).value:.0f}"
        for row in known.rows
        for name, cell in row.cells.items()
    }
    assert {title.partition(":")[0]: text for title, text in squares.found} == expected
    assert "objective by objective, as there are 24" in html
    assert "--only objective=" in html
    assert sorted(report.tables) == sorted(
        {"map", "map_summary", "map_hardest", "map_cells", "failures", "sharing"}
    )
    assert list(report.figures) == ["map", "map_cells_won"]
    assert (report.folder / "tables/map_cells.csv").exists()


def test_the_terminal_has_cells_won_and_the_headline(report: Report) -> None:
    text = printed.render(report.printed, width=200)
    (known,) = report.analysis.maps
    for count in known.overall.counts:
        line = next(li for li in text.splitlines() if li.startswith(f"{count.optimizer} "))
        assert f"{count.won} of {count.of}" in line
    narrow = printed.render(report.printed, width=60)
    assert all(len(line) <= 80 for line in narrow.splitlines() if " of 24" in line)
    again = printed.from_page(report.page, 1)
    assert again == report.printed


@pytest.fixture(scope="module")
def page(browser: Browser, report: Report) -> Iterator[Page]:
    found = browser.new_page(viewport={"width": 1440, "height": 900})
    found.goto(report.page.as_uri())
    yield found
    found.close()


def test_keys_move_between_squares_and_each_is_told(page: Page) -> None:
    told = page.locator(".win-told")
    squares = page.locator(".win-map i")
    squares.first.focus()
    for key, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2)):
        page.keyboard.press(key)
        title = squares.nth(place).get_attribute("title")
        assert page.evaluate("document.activeElement.title") == title
        assert told.inner_text() == title
    page.keyboard.press("ArrowDown")
    rows = page.locator(".win-map table").first.locator("tbody tr")
    below = rows.nth(2).locator("i").nth(2).get_attribute("title")
    assert told.inner_text() == below
    assert page.locator(".win-map table").first.locator("i[tabindex='0']").count() == 1


def test_a_hidden_optimizer_leaves_the_map(page: Page) -> None:
    name = page.locator("#choices button[data-optimizer]").first
    column = page.locator(f".wins th[data-o='{name.get_attribute('data-optimizer')}']").first
    assert column.is_visible()
    name.click()
    assert not column.is_visible()
    name.click()
    assert column.is_visible()


def test_the_map_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1440, "height": 900})


def test_a_small_map_has_its_objectives_too(tmp_path: Path) -> None:
    made = made_map(2, 2, settings=3, seeds=4, difficulties=2)
    found = Report(make_store(tmp_path / "results.sqlite", made))
    assert not found.analysis.is_map_alone
    assert {"map", "map_summary", "summary", "final_loss"} <= set(found.tables)
    assert found.analysis.compared
