"""Drawings on a page say in fewer bytes what they say as files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from results_builders import make_case, make_results

from harness.analysis.comparison import mean_losses
from harness.reporting.figures import frames, trials
from harness.reporting.figures.draw import Drawing, draw
from harness.reporting.page import drawings

XLINK = "{http://www.w3.org/1999/xlink}href"
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


COLORS = {"ink": drawings.INK, "grid": drawings.GRID, "paper": drawings.PAPER}


def svg(body: str) -> str:
    return f'{HEAD} width="72pt" height="36pt" viewBox="0 0 72 36" style="fill: none">{body}</svg>'


@pytest.fixture(scope="module")
def drawn() -> list[Drawing]:
    """Dots and curves of twelve seeds, as the harness draws them."""
    curves = {seed: [10.0, 5.0 + seed / 7, 1.0 + seed / 9] for seed in range(60)}
    cases = [make_case("bowl", name, curves, position=i) for i, name in enumerate("ab")]
    results = make_results(cases)
    return [draw(record) for record in trials.build(results, mean_losses(results))]


def marks(source: str, rules: str = "") -> list[tuple[str, str, float, float]]:
    """Every mark of a drawing: the path and the style of its shape, and its place."""
    # What a page knows by itself, a file has to say.
    bare = re.sub(r' xmlns(:xlink)?="[^"]*"', "", source)
    root = ET.fromstring(bare.replace("<svg", HEAD, 1))
    styles = dict(re.findall(r"\.(\w+)\{([^}]*)\}", rules))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    by_id = {e.get("id", ""): e for e in root.iter()}
    found: list[tuple[str, str, float, float]] = []

    def style_of(element: ET.Element) -> str:
        text = element.get("style") or styles.get(element.get("class", ""), "")
        text = re.sub(r"([:;]) ", r"\1", text)
        for name, color in COLORS.items():
            text = text.replace(color, f"var(--{name})")
        return text

    def walk(element: ET.Element, style: str) -> None:
        own = style_of(element)
        if element.tag == "use" and element.get("x") is not None:
            shape = by_id[(element.get("href") or element.get(XLINK) or "")[1:]]
            place = (float(element.get("x", "")), float(element.get("y", "")))
            found.append((shape.get("d", ""), own or style, *place))
        marker = re.search(r"marker:url\(#([\w-]+)\)", element.get("style") or "")
        if marker is not None:
            around = by_id[marker[1]]
            shape = by_id[around[0].get("href", "")[1:]]
            numbers = [float(n) for n in element.get("d", "")[1:].split()]
            for x, y in zip(numbers[::2], numbers[1::2], strict=True):
                found.append((shape.get("d", ""), style_of(around), x, y))
        if element.tag != "marker":
            for child in element:
                walk(child, own or style)

    walk(root, "")
    return found


def test_every_mark_keeps_its_shape_its_style_and_its_place(drawn: list[Drawing]) -> None:
    page = drawings.on_page({one.name: (one.svg, one.name) for one in drawn})
    seen = 0
    for one in drawn:
        before, after = marks(one.svg), marks(str(page.svgs[one.name]), str(page.rules))
        assert len(before) == len(after)
        # A tick's style is that of the shape that it repeats.
        for (d, style, *place), (d_after, style_after, *place_after) in zip(
            before, after, strict=True
        ):
            assert d_after == d
            assert style_after in (style, "") or style in drawings.TICK_STYLE
            assert place_after == pytest.approx(place, abs=0.051)
        seen += len(before)
        assert "xlink" not in page.svgs[one.name]
        assert len(page.svgs[one.name]) < len(one.svg)
    assert seen > 100
    assert any("<marker" in text for text in page.svgs.values())


def test_ids_are_unique_on_the_page_and_lead_where_they_did(drawn: list[Drawing]) -> None:
    page = drawings.on_page({one.name: (one.svg, one.name) for one in drawn})
    ids = [own for text in page.svgs.values() for own in re.findall(r' id="([^"]*)"', text)]
    assert len(ids) == len(set(ids)) > 10
    for text in page.svgs.values():
        used = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text)
        assert {one or other for one, other in used} <= set(re.findall(r' id="([^"]*)"', text))


def test_a_style_that_repeats_is_a_class_and_one_that_does_not_stays() -> None:
    twice = '<path d="M0 0" style="fill: #fefefd; stroke: #d0d1d2"/>'
    once = '<path d="M1 1" style="fill: red"/>'
    page = drawings.on_page({"a": (svg(twice + once), "A"), "b": (svg(twice), "B & b")})
    assert page.rules == ".d0{fill:var(--paper);stroke:var(--grid)}"
    assert '<path d="M0 0" class="d0"/><path d="M1 1" style="fill:red"/>' in page.svgs["a"]
    assert (
        'aria-label="B &amp; b" style="fill: none; fill: var(--ink); max-width: 96px"'
        in (page.svgs["b"])
    )


@pytest.mark.parametrize("number", [0, 1, 35, 36, 1295, 1296, 123456])
def test_numbers_are_short_and_read_back(number: int) -> None:
    assert int(drawings._short(number), 36) == number


def test_the_colours_that_the_page_replaces_are_those_of_the_drawings() -> None:
    colours = [frames.FOREGROUND, frames.GRID, frames.BACKGROUND]
    assert colours == [drawings.INK, drawings.GRID, drawings.PAPER]
