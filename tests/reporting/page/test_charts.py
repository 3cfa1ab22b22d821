"""The page's live charts in a browser: what they show, what they say, and who can use them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from harness.analysis.summary import analyse
from harness.reporting.figures import comparison as comparison_figures
from harness.reporting.figures import coordinates, draw, frames
from harness.reporting.figures import styles as figure_styles
from harness.reporting.figures import trials as trial_figures
from harness.reporting.figures.draw import Drawing
from harness.reporting.figures.records import (
    SEED_LINES,
    CurveFigure,
    CurvePanel,
    FigureRecord,
    HeatFigure,
    HeatPanel,
    Line,
    Mark,
    PlaneFigure,
    PlanePanel,
    RatioFigure,
    Trajectory,
    safe_name,
)
from harness.reporting.figures.styles import Style
from harness.reporting.page import charts
from harness.reporting.page import run as page
from harness.reporting.tables import comparison as comparison_tables
from harness.reporting.tables import sentences
from harness.reporting.tables import trials as trial_tables
from harness.store.read import CaseData, ObjectiveInfo, Results
from harness.store.records import RunRecord, RunSettings

Array = NDArray[np.float64]

SCRIPTED = "</script><img src=x onerror=alert(1)>"
BRACED = "a@b{c} &lt;\"'"
OPTIMIZERS = ("sgd", SCRIPTED, BRACED, "grid")
SETTINGS: tuple[dict[str, float], ...] = ({"lr": 0.1}, {"lr": 0.4}, {"lr": 2.0})
STEPS = 20
WINDOW = ((-6.0, 2.0), (-3.0, 2.0))
BOWL = ObjectiveInfo(
    name="bowl",
    formula="",
    dimension=2,
    rows=0,
    steps=STEPS,
    steps_per_epoch=1,
    record_steps=np.arange(STEPS + 1),
    optimum=0.0,
    minimizers=((0.0, 0.0), (1.0, 0.5)),
    window=WINDOW,
    landscape=np.add.outer(2 * np.linspace(-3, 2, 31) ** 2, 0.1 * np.linspace(-6, 2, 41) ** 2),
    data_source="",
)
LINES = ObjectiveInfo(
    name="<b>lines</b> & 'co' @what{safe}",
    formula="",
    dimension=6,
    rows=40,
    steps=16,
    steps_per_epoch=4,
    record_steps=np.arange(0, 17, 2),
    optimum=0.24,
    minimizers=(),
    window=None,
    landscape=None,
    data_source="",
)
SEEDS = tuple(range(20, 32))
CASES: tuple[tuple[ObjectiveInfo, str, dict[str, float]], ...] = (
    (BOWL, "sgd", {}),
    *((BOWL, SCRIPTED, setting) for setting in SETTINGS),
    (BOWL, BRACED, {}),
    *((BOWL, "grid", {"lr": lr, "momentum": m}) for lr in (0.1, 1.0) for m in (0.0, 0.9)),
    (LINES, "sgd", {}),
    (LINES, SCRIPTED, {}),
    (LINES, BRACED, {}),
)
"""``grid`` has neither trajectories nor times; on the lines, an error and a diverged trial."""


def _losses(info: ObjectiveInfo, optimizer: str, position: int) -> Array:
    """Losses that fall; of one optimizer they are so far apart that a band goes below zero."""
    random = np.random.default_rng(position)
    spread = 2.0 if (info, optimizer) == (BOWL, BRACED) else 0.3
    starts = random.lognormal(0, spread, (len(SEEDS), 1))
    falling = np.exp(-(0.15 + 0.05 * position) * info.record_steps)
    losses: Array = (info.optimum or 0.0) + (10.0 if info is BOWL else 0.3) * starts * falling
    return losses


def _course(position: int) -> Array:
    steps = np.arange(STEPS + 1)
    x = -5 * np.exp(-(0.15 + 0.05 * position) * steps)
    y = -2 * np.cos(steps / (2 + position)) * np.exp(-0.1 * steps)
    return np.stack([x, y], axis=1)


def trained() -> Results:
    cases, trials, timings = [], [], []
    for position, (info, optimizer, values) in enumerate(CASES):
        setting = ", ".join(f"{name}={value:g}" for name, value in values.items())
        losses = _losses(info, optimizer, position)
        endings = ["ok"] * len(SEEDS)
        if info is LINES and optimizer == BRACED:
            endings[11], losses[11, 6:] = "diverged", np.nan
        if info is LINES and optimizer == "sgd":
            endings[3], losses[3] = "error", np.nan
        paths: dict[int, Any] = {}
        if info is BOWL and optimizer != "grid":
            paths = {seed: _course(position) for seed in SEEDS[:2]}
        sizes = {seed: np.abs(path) + 1 for seed, path in paths.items() if optimizer == SCRIPTED}
        case = CaseData(
            position=position,
            objective=info.name,
            optimizer=optimizer,
            setting=setting,
            device="cpu",
            optimizer_class="X",
            hyperparameters=dict(values),
            defaults=dict(values),
            dtype="float64",
            seeds=np.array(SEEDS, dtype=np.int64),
            losses=losses,
            trajectories=paths,
            step_sizes=sizes,
        )
        cases.append(case)
        names = (position, info.name, optimizer, setting, case.label, "cpu")
        for row, (seed, status) in enumerate(zip(SEEDS, endings, strict=True)):
            final = losses[row, -1] if status == "ok" else math.nan
            trials.append(
                (*names, seed, status, info.steps, "as it is", 0.1, "pointwise", "", final)
            )
        if optimizer != "grid":
            seconds = 1e-4 * (position + 1) * np.linspace(1, 1.2, 7)
            timings += [
                (position, i, 10, info.steps_per_epoch, 10 * s, 10 * s, s * info.steps_per_epoch)
                for i, s in enumerate(seconds)
            ]
    run = RunRecord(
        *(1, "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:06+00:00", "harness run spec.yaml"),
        *("sample", "spec.yaml", "suite: sample\n"),
        RunSettings(title="Bowl & lines", seeds=SEEDS),
        {"harness": "0.1.0"},
    )
    columns = [
        *("position", "objective", "optimizer", "setting", "label", "device", "seed"),
        *("status", "step", "reason", "seconds", "way", "way_reason", "final_loss"),
    ]
    timed = ["position", "round", "steps", "steps_per_epoch"]
    timed += ["seconds", "cpu_seconds", "epoch_seconds"]
    return Results(
        run,
        {info.name: info for info in (BOWL, LINES)},
        tuple(cases),
        pd.DataFrame(trials, columns=columns),
        pd.DataFrame(timings, columns=timed),
    )


RESULTS = trained()
LOSS, LINES_LOSS = "loss_bowl", f"loss_{safe_name(LINES.name)}"
FINAL, PATHS = "final_loss_bowl", "trajectories_bowl"
DRAWN_REALLY = (LOSS, "heat_bowl")
"""Pictures that are drawn as they are; of others, a frame is enough."""

FRAME = (
    '<svg role="img" width="504pt" height="252pt" viewBox="0 0 504 252" '
    'xmlns="http://www.w3.org/2000/svg" version="1.1"><path d="M0 0h504v252z"/></svg>'
)


@dataclass(frozen=True)
class Made:
    """A page with what its charts are made from."""

    address: str
    data: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    analysis = analyse(RESULTS)
    records: list[FigureRecord] = trial_figures.build(RESULTS, analysis.means)
    records += comparison_figures.build(RESULTS, analysis, [record.name for record in records])
    records += coordinates.build(RESULTS, analysis.means, [record.name for record in records])
    drawings = [
        draw.draw(record) if record.name in DRAWN_REALLY else Drawing(record.name, FRAME, b"")
        for record in records
    ]
    built = [
        *trial_tables.build(RESULTS, analysis.means),
        *comparison_tables.build(RESULTS, analysis),
    ]
    said = sentences.summarise(RESULTS, analysis)
    path = tmp_path_factory.mktemp("charts") / "index.html"
    path.write_text(page.render(RESULTS, built, records, drawings, said), encoding="utf-8")
    data = {record.name: charts.plain(record) or {} for record in records}
    assert {one["kind"] for one in data.values()} == {"curves", "dots", "planes", "heat"}
    return Made(path.as_uri(), data)


# The browser

PROBE = """
window.probe = {
  words: (text) => text?.text ?? text ?? "",
  views: (name) => {
    const figure = document.getElementById(`figure-${name}`);
    const own = [...Bokeh.index.roots].filter(
      (view) => view.model.type === "Plot" && figure.contains(view.el));
    return own.sort((a, b) => (a.el.compareDocumentPosition(b.el) & 4 ? -1 : 1));
  },
  settled: (name) => {
    const figure = document.getElementById(`figure-${name}`);
    const boxes = figure.querySelectorAll(".panels > div").length;
    const shown = window.Bokeh && probe.views(name).filter((view) => view.frame.bbox.width > 0);
    return figure.classList.contains("is-live") && boxes === (shown?.length ?? 0);
  },
  plots: (name) => probe.views(name).map(({ model }) => ({
    title: probe.words(model.title?.text),
    ...Object.fromEntries([["x", model.below[0]], ["y", model.left[0]]].map(([way, axis]) => [way, {
      label: probe.words(axis.axis_label),
      type: model[`${way}_scale`].type,
      ends: [model[`${way}_range`].start, model[`${way}_range`].end],
      names: [...axis.major_label_overrides.values()].map(probe.words),
    }])),
    glyphs: model.renderers.filter((one) => one.glyph).map(({ glyph, data_source }) => ({
      type: glyph.type,
      ink: glyph.line_color?.value ?? null,
      data: Object.fromEntries(Object.entries(data_source.data).map(([k, v]) => [k, [...v]])),
    })),
    rules: model.center.filter((one) => one.type === "Span").map((one) => one.location),
  })),
  pixel: (name, i, x, y) => {
    const view = probe.views(name)[i];
    const box = view.canvas_view.el.getBoundingClientRect();
    return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)];
  },
  text: (node) => node.nodeName === "STYLE" ? "" : node.nodeType === 3 ? node.data
    : [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes].map(probe.text).join(""),
  inside: function* (root) {
    for (const element of root.querySelectorAll("*")) {
      yield element;
      if (element.shadowRoot) yield* probe.inside(element.shadowRoot);
    }
  },
  told: () => [...probe.inside(document)].filter(
    (one) => one.matches(".bk-Tooltip") && one.checkVisibility()).map(probe.text),
};
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def new_context(browser: Browser, width: int = 1440, height: int = 900) -> BrowserContext:
    context = browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="reduce"
    )
    context.set_default_timeout(60_000)
    context.add_init_script(PROBE)
    return context


@dataclass
class Shown:
    """A page that is open, with what the browser had to say of it."""

    page: Page
    made: Made
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(self.made.address)

    def figure(self, name: str) -> Locator:
        return self.page.locator(f"#figure-{name}")

    def settle(self, name: str) -> None:
        self.page.wait_for_function("(name) => probe.settled(name)", arg=name)

    def unfold(self, one: Locator) -> None:
        """Open everything that something is folded in."""
        one.evaluate(
            "one => { for (let at = one; at; at = at.parentElement) "
            "if (at.matches('details')) at.open = true; }"
        )

    def see(self, name: str) -> Locator:
        """Scroll to a figure, unfolded, and wait until its chart stands there."""
        figure = self.figure(name)
        self.unfold(figure)
        figure.evaluate(
            """async (one) => {
              one.scrollIntoView({ block: "center", behavior: "instant" });
              // Time for the page to see that it is in view.
              for (let i = 0; i < 2; i += 1) await new Promise(requestAnimationFrame);
              await new Promise((then) => setTimeout(then));
            }"""
        )
        self.settle(name)
        return figure

    def plots(self, name: str) -> list[dict[str, Any]]:
        """What the charts of a figure hold, once they are drawn."""
        self.settle(name)
        known: list[dict[str, Any]] = self.page.evaluate("(name) => probe.plots(name)", name)
        return known

    def hover(self, name: str, x: float, y: float, expected: str, plot: int = 0) -> str:
        """Move the mouse to a place in a chart; what is told of it then."""
        at = "([name, plot, x, y]) => probe.pixel(name, plot, x, y)"
        told = ""
        for _ in range(40):
            # Charts nearby that are just being drawn may move this one.
            self.see(name)
            left, top = self.page.evaluate(at, [name, plot, x, y])
            self.page.mouse.move(left + 2, top + 30)
            self.page.mouse.move(left, top, steps=3)
            self.page.wait_for_timeout(100)
            told = "\n".join(self.page.evaluate("probe.told()"))
            if expected in told:
                return told
        raise AssertionError(f"{expected!r} is not told, but {told!r}")

    def choose(self, optimizer: str) -> Locator:
        return self.page.locator("#choices button[data-optimizer]").nth(OPTIMIZERS.index(optimizer))

    def choose_all(self) -> None:
        self.page.locator("#choices button[data-all]").click()

    def select(self, name: str, value: str) -> None:
        self.page.locator(f"#choices select[name={name}]").select_option(value)


@pytest.fixture(scope="module")
def kept(browser: Browser, made: Made) -> Iterator[Shown]:
    context = new_context(browser)
    yield Shown(context.new_page(), made)
    context.close()


RESET = """() => {
  document.querySelector("#choices [data-all]").click();
  for (const select of document.querySelectorAll("#choices select")) {
    if (!select.value) continue;
    select.value = "";
    select.dispatchEvent(new Event("change"));
  }
  const seeds = document.querySelector("#choices input[name=seeds]");
  if (seeds.checked) seeds.click();
  for (const open of document.querySelectorAll("figure [aria-expanded=true]")) open.click();
  for (const slider of document.querySelectorAll(".player input")) {
    slider.value = slider.max;
    slider.dispatchEvent(new Event("input"));
  }
  for (const open of document.querySelectorAll("details[open]")) open.open = false;
  document.activeElement.blur();
  history.replaceState(null, "", location.pathname);
}"""


@pytest.fixture
def shown(kept: Shown) -> Iterator[Shown]:
    """The page as it is when nothing was chosen yet."""
    yield kept
    kept.page.mouse.move(0, 0)
    kept.page.emulate_media(color_scheme="light")
    kept.page.set_viewport_size({"width": 1440, "height": 900})
    kept.page.evaluate(RESET)
    said, kept.said[:] = list(kept.said), []
    assert said == []


@pytest.fixture
def fresh(browser: Browser, made: Made) -> Iterator[Shown]:
    """A page whose charts nobody has seen yet."""
    context = new_context(browser)
    yield (opened := Shown(context.new_page(), made))
    context.close()
    assert opened.said == []


@pytest.fixture(scope="module")
def whole(browser: Browser, made: Made) -> Iterator[Shown]:
    """The page after scrolling through it: every chart is live, and everything is unfolded."""
    context = new_context(browser)
    opened = Shown(context.new_page(), made)
    _see_everything(opened)
    for summary in opened.page.locator("summary").all():
        summary.evaluate("one => one.parentElement.open = true")
    opened.figure("heat_bowl").get_by_role("button", name="Numbers").click()
    yield opened
    context.close()


def _see_everything(opened: Shown) -> None:
    for name in opened.made.data:
        opened.see(name)


def lines_of(plot: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The data of a chart's curves by what they say they are."""
    return {
        str(glyph["data"]["what"][0]): glyph["data"]
        for glyph in plot["glyphs"]
        if glyph["type"] == "Line" and glyph["data"].get("what")
    }


def optimizers_in(texts: Iterator[str] | Sequence[str]) -> set[str]:
    return {name for name in OPTIMIZERS for text in texts if text.startswith(name)}


def labels_of(optimizer: str, objective: str) -> set[str]:
    return {c.label for c in RESULTS.cases_on(objective) if c.optimizer == optimizer}


# The whole page


def test_the_browser_has_nothing_to_say_and_asks_for_nothing_more(whole: Shown) -> None:
    assert whole.page.locator("figure[data-name]").count() == len(whole.made.data)
    assert whole.page.locator("figure.is-live").count() == len(whole.made.data)
    assert whole.said == []
    asked = [url for url in whole.asked if not url.startswith(("data:", "blob:"))]
    assert asked == [whole.made.address]


@pytest.mark.exhaustive
def test_in_the_dark_and_on_a_phone_it_has_nothing_to_say_either(
    browser: Browser, made: Made
) -> None:
    context = new_context(browser, width=390)
    opened = Shown(context.new_page(), made)
    opened.page.emulate_media(color_scheme="dark")
    _see_everything(opened)
    assert opened.page.locator("figure.is-live").count() == len(made.data)
    assert opened.said == []
    assert {url for url in opened.asked if not url.startswith("data:")} == {made.address}
    context.close()


def test_no_chart_leaves_its_column_and_no_page_scrolls_sideways(whole: Shown) -> None:
    outside = """() => [...document.querySelectorAll("figure .panels > div, figure .live")].filter(
      (box) => {
        const column = box.closest("figure").getBoundingClientRect();
        const own = box.getBoundingClientRect();
        return own.width < 100 || own.left < column.left - 1 || own.right > column.right + 1
          || box.scrollWidth > box.clientWidth + 1;
      }).map((box) => box.closest("figure").id)"""
    for width in (390, 768, 2560, 1440):
        whole.page.set_viewport_size({"width": width, "height": 900})
        whole.page.wait_for_function("(width) => innerWidth === width", arg=width)
        for name in (LOSS, "step_sizes_bowl"):
            whole.see(name)
        whole.page.wait_for_function(f"() => ({outside})().length === 0")
        assert whole.page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.exhaustive
def test_as_many_charts_stand_side_by_side_as_there_is_room_for(whole: Shown) -> None:
    columns = "one => getComputedStyle(one.querySelector('.panels')).gridTemplateColumns"
    for width, expected in ((390, 1), (1440, 2)):
        whole.page.set_viewport_size({"width": width, "height": 900})
        figure = whole.see("step_sizes_bowl")
        count = f"(name) => ({columns})(document.getElementById(name)).split(' ').length"
        whole.page.wait_for_function(
            f"(name) => ({count})(name) === {expected}", arg="figure-step_sizes_bowl"
        )
        assert len(figure.evaluate(columns).split()) == expected


def test_panels_and_rows_can_be_told_apart_by_the_names_that_there_is_room_for(
    whole: Shown,
) -> None:
    cut = """(name) => probe.views(name).filter((view) => {
      const { title } = view.model;
      const brush = document.createElement("canvas").getContext("2d");
      brush.font = `${title.text_font_size} ${title.text_font}`;
      const room = view.bbox.width - view.frame.bbox.left;
      return brush.measureText(probe.words(title.text)).width > room;
    }).map((view) => probe.words(view.model.title.text))"""
    whole.see("step_sizes_bowl")
    titles = [plot["title"] for plot in whole.plots("step_sizes_bowl")]
    assert len(set(titles)) == len(titles) >= 3
    assert whole.page.evaluate(cut, "step_sizes_bowl") == []
    whole.see(FINAL)
    [plot] = whole.plots(FINAL)
    assert len(set(plot["y"]["names"])) == len(plot["y"]["names"]) == 9


ALSO = {"label-content-name-mismatch": {"enabled": True}}
"""Rules that are asked for beside those that axe has by itself."""


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 390),
        pytest.param("light", 1440, marks=pytest.mark.exhaustive),
        pytest.param("dark", 390, marks=pytest.mark.exhaustive),
        pytest.param("dark", 1440, marks=pytest.mark.exhaustive),
    ],
)
def test_axe_finds_no_barrier(whole: Shown, scheme: Literal["light", "dark"], width: int) -> None:
    whole.page.set_viewport_size({"width": width, "height": 900})
    whole.page.emulate_media(color_scheme=scheme)
    try:
        whole.see(LOSS)
        options: dict[str, Any] = {"resultTypes": ["violations"], "rules": ALSO}
        if scheme == "dark":
            options["runOnly"] = ["color-contrast"]
        found = Axe().run(whole.page, options=options).response["violations"]
    finally:
        whole.page.emulate_media(color_scheme="light")
        whole.page.set_viewport_size({"width": 1440, "height": 900})
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []


def test_no_tab_stop_leads_into_a_chart(whole: Shown) -> None:
    stops = """() => [...document.querySelectorAll("figure .panels")].flatMap((panels) =>
      [...probe.inside(panels)].filter((one) => one.tabIndex >= 0).map((one) => one.className))"""
    assert whole.page.evaluate(stops) == []
    assert whole.page.locator("figure .panels").count() == len(whole.made.data)


TABBING = """() => {
  window.stops = [];
  document.addEventListener("focusin", ({ target }) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(target);
    stops.push([target, target.matches(":focus-visible") && outlineStyle !== "none"
      && parseFloat(outlineWidth) >= 1]);
  });
}"""
CONTROLS = """() => [...document.querySelectorAll(
  "a[href], button, input, select, summary, [tabindex]")].filter((one) =>
  one.tabIndex >= 0 && one.checkVisibility({ visibilityProperty: true }) && !one.disabled)"""


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(whole: Shown) -> None:
    whole.see(LOSS)
    whole.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    count = whole.page.evaluate(f"({CONTROLS})().length")
    whole.page.evaluate(TABBING)
    # A browser may stop at boxes that scroll, too.
    for _ in range(count + 40):
        whole.page.keyboard.press("Tab")
    missed = f"""() => {{
      const reached = new Set(stops.map(([one]) => one));
      return ({CONTROLS})().filter((one) => !reached.has(one)).map((one) => one.outerHTML);
    }}"""
    assert whole.page.evaluate(missed) == []
    unseen = "stops.filter(([, seen]) => !seen).map(([one]) => one.outerHTML.slice(0, 80))"
    assert whole.page.evaluate(unseen) == []
    for kind in ("#choices button", "#choices select", "#choices input", ".player input"):
        assert whole.page.evaluate("(kind) => stops.some(([one]) => one.matches(kind))", kind)


def test_what_has_the_focus_is_never_behind_the_choices(shown: Shown) -> None:
    shown.page.set_viewport_size({"width": 700, "height": 700})
    bar = shown.page.locator("#choices")
    assert bar.evaluate("one => getComputedStyle(one).position") == "sticky"
    assert bar.evaluate("one => one.offsetHeight") > 100
    shown.page.locator("#cite .download button").last.focus()
    behind = """() => {
      const { bottom } = document.activeElement.getBoundingClientRect();
      const bar = document.getElementById("choices");
      return bottom <= bar.getBoundingClientRect().bottom ? document.activeElement.outerHTML : "";
    }"""
    for _ in range(40):
        shown.page.keyboard.press("Shift+Tab")
        assert shown.page.evaluate(behind) == ""
    shown.page.set_viewport_size({"width": 390, "height": 700})
    shown.page.wait_for_function(
        "() => getComputedStyle(document.querySelector('h2')).scrollMarginTop === '16px'"
    )


def test_a_step_of_the_keyboard_among_the_choices_does_not_scroll(shown: Shown) -> None:
    shown.page.set_viewport_size({"width": 1440, "height": 900})
    shown.see(FINAL)
    bar = shown.page.locator("#choices")
    assert bar.evaluate("one => one.getBoundingClientRect().top") == pytest.approx(0, abs=1)
    stops = bar.locator("button, select, input")
    stops.first.evaluate("one => one.focus({ preventScroll: true })")
    before = shown.page.evaluate("scrollY")
    assert before > 900
    for _ in range(stops.count() - 1):
        shown.page.keyboard.press("Tab")
        assert shown.page.evaluate("scrollY") == before
        assert bar.evaluate("one => one.contains(document.activeElement)")
    for _ in range(stops.count() - 1):
        shown.page.keyboard.press("Shift+Tab")
        assert shown.page.evaluate("scrollY") == before


# What is text stays text


def test_names_with_markup_stay_text_wherever_they_stand(shown: Shown) -> None:
    choices = shown.page.locator("#choices button[data-optimizer] span")
    assert choices.all_text_contents() == list(OPTIMIZERS)
    figure = shown.see(FINAL)
    [plot] = shown.plots(FINAL)
    cloud = next(glyph["data"] for glyph in plot["glyphs"] if "number" in glyph["data"])
    for label in (f"{SCRIPTED} (lr=0.1)", BRACED):
        at = cloud["what"].index(label)
        told = shown.hover(FINAL, cloud["x"][at], cloud["y"][at], label)
        assert f"seed: {cloud['number'][at]}" in told
    figure.get_by_role("button", name="Numbers").click()
    cells = figure.locator(".numbers td").all_text_contents()
    assert {f"{SCRIPTED} (lr=0.1)", BRACED} <= set(cells)
    legend = shown.see(LINES_LOSS).locator(".legend").text_content() or ""
    assert SCRIPTED in legend
    assert BRACED in legend
    assert LINES.name in (shown.page.locator("h2").all_text_contents())
    assert shown.page.evaluate("[...probe.inside(document)].filter((e) => e.matches('img'))") == []


@pytest.mark.exhaustive
def test_a_name_with_signs_of_mathematics_stays_as_it_is(fresh: Shown, tmp_path: Path) -> None:
    label = "where $$\\frac{a}{b}$$ \\(x\\) is"
    data = json.loads(json.dumps(fresh.made.data))
    panel = data[FINAL]["panels"][0]
    panel["title"] = panel["xLabel"] = panel["rows"][0]["label"] = label
    path = tmp_path / "index.html"
    before, rest = (
        Path(fresh.made.address.removeprefix("file://"))
        .read_text(encoding="utf-8")
        .split('id="chart-data">', 1)
    )
    after = rest[rest.index("</script>") :]
    packed = charts.packed(json.dumps(data).encode())
    path.write_text(f'{before}id="chart-data">{packed}{after}', encoding="utf-8")
    fresh.page.goto(path.as_uri())
    fresh.see(FINAL)
    texts = """(name) => {
      const { model } = probe.views(name)[0];
      const [row] = model.left[0].major_label_overrides.values();
      const { parse_delimited_string } = Bokeh.require("models/text/utils");
      const made = (one) => typeof one === "string" ? parse_delimited_string(one) : one;
      return [model.title.text, model.below[0].axis_label, row].map(made).map(
        ({ type, text }) => [type, text]);
    }"""
    found = fresh.page.evaluate(texts, FINAL)
    assert [kind for kind, _ in found] == ["PlainText"] * 3
    assert found[0][1] == found[1][1] == label


# What is said of a place


def test_a_dot_says_its_seed_and_its_value(shown: Shown) -> None:
    shown.see(FINAL)
    data = shown.made.data[FINAL]["panels"][0]["rows"]
    case = RESULTS.cases_on("bowl")[0]
    [(at, row)] = [(i, one) for i, one in enumerate(data) if one["label"] == case.label]
    for place in (0, 5, 11):
        value, seed = row["values"][place], row["numbers"][place]
        y = at + 0.5 * row["offsets"][place]
        told = shown.hover(FINAL, value, y, f"seed: {seed}")
        assert "sgd" in told
        [stored] = case.losses[case.seeds == seed, -1]
        assert f"value: {stored:.5g}" in told


@pytest.mark.exhaustive
def test_an_estimate_says_its_value_and_its_interval(shown: Shown) -> None:
    shown.see("overview")
    row = shown.made.data["overview"]["panels"][0]["rows"][0]
    told = shown.hover("overview", row["centre"], 0, row["label"])
    assert f"{row['centre']:.5g}" in told
    assert f"{row['low']:.5g} to {row['high']:.5g}" in told


def test_a_curve_says_its_name_its_value_and_its_interval(shown: Shown) -> None:
    shown.see(LINES_LOSS)
    panel = shown.made.data[LINES_LOSS]["panels"][0]
    line = next(one for one in panel["lines"] if one["label"] == SCRIPTED)
    x, y = panel["xs"][line["x"]][4], line["y"][4]
    told = shown.hover(LINES_LOSS, x, y, SCRIPTED)
    assert f"epoch: {x:g}" in told
    assert f"loss: {y:.5g}" in told
    assert f"{line['low'][4]:.5g} to {line['high'][4]:.5g}" in told


@pytest.mark.exhaustive
def test_a_curve_of_a_single_seed_says_which(shown: Shown) -> None:
    shown.see(LINES_LOSS)
    assert not any("seed" in what and "failed" not in what
                   for what in lines_of(shown.plots(LINES_LOSS)[0]))  # fmt: skip
    shown.page.get_by_label("individual seeds").check()
    panel = shown.made.data[LINES_LOSS]["panels"][0]
    found = lines_of(shown.plots(LINES_LOSS)[0])
    assert {f"{one['label']}, seed {one['seed']}" for one in panel["seedLines"]} <= set(found)
    assert len(panel["seedLines"]) == 3 * SEED_LINES
    case = next(c for c in RESULTS.cases_on(LINES.name) if c.optimizer == SCRIPTED)
    for strand in [one for one in panel["seedLines"] if one["label"] == SCRIPTED][-2:]:
        what = f"{SCRIPTED}, seed {strand['seed']}"
        [losses] = case.losses[case.seeds == strand["seed"]]
        np.testing.assert_allclose(found[what]["y"], losses, rtol=5.1e-5)
        told = shown.hover(LINES_LOSS, found[what]["x"][0], found[what]["y"][0], what)
        assert f"loss: {losses[0]:.5g}" in told
    shown.page.get_by_label("individual seeds").uncheck()
    assert len(lines_of(shown.plots(LINES_LOSS)[0])) < 10


def test_a_trial_that_did_not_end_ok_says_so_and_which_it_is(shown: Shown) -> None:
    shown.see(LINES_LOSS)
    found = lines_of(shown.plots(LINES_LOSS)[0])
    what = f"{BRACED}, seed {SEEDS[11]}, failed"
    assert len(found[what]["x"]) == 6
    ends = [glyph["data"] for glyph in shown.plots(LINES_LOSS)[0]["glyphs"]
            if glyph["type"] == "Scatter" and len(glyph["data"]["x"]) == 1]  # fmt: skip
    assert [end["x"] for end in ends] == [found[what]["x"][-1:]]


# What is selected


def _rows_naming(shown: Shown, optimizer: str) -> int:
    """Rows of tables that are shown and name an optimizer."""
    rows = """(name) => [...document.querySelectorAll("table.sortable tbody tr")].filter(
      (row) => !row.hidden && [...row.cells].some((cell) => cell.textContent.startsWith(name)))
      .length"""
    count: int = shown.page.evaluate(rows, optimizer)
    return count


def test_an_optimizer_that_is_left_out_is_nowhere_until_it_is_taken_back(shown: Shown) -> None:
    shown.see(LOSS)
    before = _rows_naming(shown, SCRIPTED)
    others = _rows_naming(shown, BRACED)
    assert before > 20
    button = shown.choose(SCRIPTED)
    assert button.get_attribute("aria-pressed") == "true"
    status = shown.page.locator("#choices [role=status]")
    assert status.text_content() == ""
    note = shown.page.locator(".of-all")
    assert note.is_hidden()
    whole = {name: shown.see(name) and shown.plots(name) for name in (LOSS, FINAL, PATHS)}
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert shown.choose("sgd").get_attribute("aria-pressed") == "true"
    assert status.text_content() == "3 of 4 optimizers shown"
    assert note.is_visible()
    assert _rows_naming(shown, SCRIPTED) == 0
    assert 0 < _rows_naming(shown, BRACED) <= others
    for name in (LOSS, FINAL, PATHS):
        shown.see(name)
        shown.settle(name)
        assert SCRIPTED not in json.dumps(shown.plots(name))
        assert "sgd" in json.dumps(shown.plots(name))
        assert SCRIPTED not in (shown.figure(name).locator(".live").text_content() or "")
    [plot] = shown.plots(FINAL)
    kept = [row["label"] for row in shown.made.data[FINAL]["panels"][0]["rows"]]
    assert plot["y"]["names"] == [name for name in kept if not name.startswith(SCRIPTED)]
    assert len(plot["y"]["names"]) == 6
    shown.choose_all()
    assert button.get_attribute("aria-pressed") == "true"
    assert status.text_content() == ""
    assert _rows_naming(shown, SCRIPTED) == before
    for name, known in whole.items():
        shown.see(name)
        assert shown.plots(name) == known


@pytest.mark.exhaustive
def test_a_row_of_two_optimizers_goes_with_either_of_them(shown: Shown) -> None:
    shared = """() => [...document.querySelectorAll("tr[data-optimizers]")].filter(
      (row) => row.dataset.optimizers.split(" ").length > 1)"""
    assert shown.page.evaluate(f"({shared})().length") > 2
    shown.choose("sgd").click()
    hidden = f"({shared})().map((row) => [row.dataset.optimizers, row.hidden])"
    for numbers, gone in shown.page.evaluate(hidden):
        assert gone == ("sgd" in [OPTIMIZERS[int(number)] for number in numbers.split()])


@pytest.mark.exhaustive
def test_where_nothing_is_selected_a_chart_says_so(shown: Shown) -> None:
    figure = shown.see("step_sizes_bowl")
    shown.choose(SCRIPTED).click()
    figure.get_by_text("Nothing of what is selected is in this picture.").wait_for()
    assert figure.locator(".panels").count() == 0
    shown.choose_all()
    shown.page.wait_for_function("() => probe.views('step_sizes_bowl').length === 3")


def test_a_copy_of_a_table_leaves_out_what_is_left_out(shown: Shown) -> None:
    shown.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown.choose(SCRIPTED).click()
    line = shown.page.locator(".download", has_text="final_loss-bowl.csv")
    assert line.is_hidden()
    shown.unfold(line)
    for button in ("Copy as Markdown", "Copy as LaTeX"):
        line.get_by_role("button", name=button).click()
        expect(line.get_by_role("status")).to_have_text("Copied")
        text = shown.page.evaluate("navigator.clipboard.readText()")
        assert "sgd" in text
        assert text.count("grid") == 4
        assert "onerror" not in text


@pytest.mark.exhaustive
def test_selecting_fast_leaves_the_last_selection_drawn_and_nothing_of_the_others(
    shown: Shown,
) -> None:
    shown.see(PATHS)
    shown.page.evaluate(
        """() => {
          const buttons = document.querySelectorAll("#choices button[data-optimizer]");
          for (const i of [0, 1, 2, 0, 1, 0, 2, 1]) buttons[i].click();
        }"""
    )
    shown.settle(PATHS)
    assert optimizers_in(list(lines_of(shown.plots(PATHS)[0]))) == {BRACED}
    shown.page.wait_for_timeout(200)
    alive = """[...Bokeh.index.roots].filter((view) => view.model.type === "Plot").length"""
    assert shown.page.evaluate(alive) == shown.page.locator(".panels > div").count()
    assert shown.page.evaluate("Bokeh.documents.length") <= shown.page.evaluate(alive)


# Axes


def test_until_something_is_chosen_the_axes_are_those_of_the_picture(whole: Shown) -> None:
    seen = 0
    for name, data in whole.made.data.items():
        if data["kind"] not in ("curves", "dots"):
            continue
        way = "y" if data["kind"] == "curves" else "x"
        for plot, panel in zip(whole.plots(name), data["panels"], strict=True):
            assert plot[way]["type"] == ("LogScale" if panel["log"] else "LinearScale"), name
            assert plot[way]["ends"] == panel["limits"]
            assert plot["x"]["label"] == panel["xLabel"]
            seen += 1
    assert seen > 12


def test_a_band_is_cut_where_a_logarithmic_scale_ends(shown: Shown) -> None:
    shown.see(LOSS)
    panels = shown.made.data[LOSS]["panels"]
    assert all(panel["log"] for panel in panels)
    plots = shown.plots(LOSS)
    assert {plot["y"]["type"] for plot in plots} == {"LogScale"}
    count = 0
    for panel, plot in zip(panels, plots, strict=True):
        for band in [glyph["data"] for glyph in plot["glyphs"] if glyph["type"] == "VArea"]:
            assert min(band["low"]) > 0
            expected = np.maximum(
                next(own["low"] for own in panel["lines"] if own["y"] == band["y"]),
                panel["limits"][0] / 1e3,  # below the frame
            )
            np.testing.assert_allclose(band["low"], expected)
            count += 1
    assert count == 9


@pytest.mark.parametrize("along", ["steps", "epochs", "seconds"])
def test_curves_lie_along_steps_epochs_or_seconds(shown: Shown, along: str) -> None:
    shown.see(LINES_LOSS)
    panel = shown.made.data[LINES_LOSS]["panels"][0]
    assert (panel["stepsPerX"], panel["stepsPerEpoch"]) == (4, 4)
    shown.select("along", along)
    [plot, *_] = shown.plots(LINES_LOSS)
    seconds = "seconds, at the median time per evaluation"
    words = {"steps": "step", "epochs": "epoch", "seconds": seconds}
    assert plot["x"]["label"] == words[along]
    found = lines_of(plot)
    timings = RESULTS.timings
    for line in panel["lines"]:
        if line.get("failed"):
            continue
        case = next(
            c for c in RESULTS.cases_on(LINES.name) if line["label"].startswith(c.optimizer)
        )
        own = timings[timings["position"] == case.position]
        second = float(np.median(own["seconds"] / own["steps"]))
        factor = {"steps": 1.0, "epochs": 0.25, "seconds": second}[along]
        np.testing.assert_allclose(
            found[line["label"]]["x"], LINES.record_steps * factor, rtol=1.1e-5
        )
        assert plot["x"]["ends"][1] >= found[line["label"]]["x"][-1]
    shown.select("along", "")
    [plot, *_] = shown.plots(LINES_LOSS)
    assert plot["x"]["label"] == panel["xLabel"]


def test_along_seconds_only_what_was_timed_is_shown(shown: Shown) -> None:
    shown.see(LOSS)
    shown.select("along", "seconds")
    found = optimizers_in(list(lines_of(shown.plots(LOSS)[0])))
    assert found == {"sgd", SCRIPTED, BRACED}
    shown.see("step_sizes_bowl")
    assert len(shown.plots("step_sizes_bowl")) == 3


@pytest.mark.exhaustive
def test_the_scale_follows_the_choice_and_comes_back_as_on_paper(shown: Shown) -> None:
    for name, way in ((LOSS, "y"), (FINAL, "x")):
        shown.see(name)
        limits = shown.made.data[name]["panels"][0]["limits"]
        before = shown.plots(name)
        assert before[0][way]["type"] == "LogScale"
        shown.select("scale", "linear")
        assert shown.plots(name)[0][way]["type"] == "LinearScale"
        assert shown.plots(name)[0][way]["ends"] != limits
        shown.select("scale", "log")
        assert shown.plots(name)[0][way]["type"] == "LogScale"
        shown.select("scale", "")
        assert shown.plots(name) == before
        assert shown.plots(name)[0][way]["ends"] == limits


@pytest.mark.exhaustive
def test_what_goes_below_zero_stays_linear_on_a_logarithmic_scale(shown: Shown) -> None:
    shown.see("coordinates_bowl")
    shown.select("scale", "log")
    for plot in shown.plots("coordinates_bowl"):
        assert plot["y"]["type"] == "LinearScale"


@pytest.mark.exhaustive
def test_a_zoom_is_taken_back_by_its_button(shown: Shown) -> None:
    figure = shown.see(LOSS)
    before = shown.plots(LOSS)[0]["y"]["ends"]
    at = "([x, y]) => probe.pixel('loss_bowl', 0, x, y)"
    left, top = shown.page.evaluate(at, [4, 5.0])
    right, bottom = shown.page.evaluate(at, [12, 0.05])
    shown.page.mouse.move(left, top)
    shown.page.mouse.down()
    shown.page.mouse.move(right, bottom, steps=5)
    shown.page.mouse.up()
    shown.page.wait_for_function(
        "(end) => probe.plots('loss_bowl')[0].y.ends[1] !== end", arg=before[1]
    )
    low, high = shown.plots(LOSS)[0]["y"]["ends"]
    assert before[0] < low < high < before[1]
    figure.get_by_role("button", name="Reset zoom").click()
    shown.page.wait_for_function(
        "(end) => probe.plots('loss_bowl')[0]?.y.ends[1] === end", arg=before[1]
    )


# The player


def _paths_end_at(shown: Shown, step: int) -> None:
    """Each path is drawn as far as it has come by a step, and its mark stands at its end."""
    found = lines_of(shown.plots(PATHS)[0])
    data = shown.made.data[PATHS]
    paths = data["panels"][0]["trajectories"]
    assert set(found) == {path["label"] for path in paths}
    ends = {
        (glyph["data"]["x"][0], glyph["data"]["y"][0])
        for glyph in shown.plots(PATHS)[0]["glyphs"]
        if glyph["type"] == "Scatter" and len(glyph["data"].get("x", [])) == 1
    }
    for path in paths:
        steps = data["steps"][path["steps"]]
        count = sum(known <= step for known in steps)
        drawn = found[path["label"]]
        assert (drawn["step"], drawn["x"]) == (steps[:count], path["points"][0][:count])
        assert drawn["y"] == path["points"][1][:count]
        assert (path["points"][0][count - 1], path["points"][1][count - 1]) in ends
    box = shown.figure(PATHS).locator(".player")
    assert box.locator("input").get_attribute("aria-valuetext") == f"step {step} of {STEPS}"
    assert box.locator("output").text_content() == f"step {step} of {STEPS}"
    assert box.locator("input").input_value() == str(step)


def test_the_player_draws_the_paths_as_far_as_they_have_come(shown: Shown) -> None:
    box = shown.see(PATHS).locator(".player")
    slider = box.get_by_role("slider", name="Step")
    _paths_end_at(shown, STEPS)
    for step in (0, 7, 13):
        slider.fill(str(step))
        _paths_end_at(shown, step)
    box.get_by_role("button", name="One step back").click()
    _paths_end_at(shown, 12)
    box.get_by_role("button", name="One step on").click()
    _paths_end_at(shown, 13)
    slider.focus()
    for key, step in (
        *(("ArrowLeft", 12), ("ArrowRight", 13), ("Home", 0), ("ArrowLeft", 0)),
        *(("End", STEPS), ("ArrowRight", STEPS)),
    ):
        shown.page.keyboard.press(key)
        _paths_end_at(shown, step)


@pytest.mark.exhaustive
def test_the_player_plays_to_the_end_and_stops_there(shown: Shown) -> None:
    box = shown.see(PATHS).locator(".player")
    slider, play = box.locator("input"), box.locator(".play")
    slider.focus()
    assert play.text_content() == "Play"
    shown.page.keyboard.press("Space")
    assert play.text_content() == "Pause"
    shown.page.wait_for_function(
        "() => Number(document.querySelector('#figure-trajectories_bowl input').value) >= 3"
    )
    shown.page.keyboard.press("Space")
    assert play.text_content() == "Play"
    step = int(slider.input_value())
    shown.page.wait_for_timeout(400)
    assert int(slider.input_value()) == step >= 3
    _paths_end_at(shown, step)
    play.click()
    shown.page.wait_for_function(
        "() => document.querySelector('#figure-trajectories_bowl .play').textContent === 'Play'"
    )
    _paths_end_at(shown, STEPS)
    shown.page.wait_for_timeout(400)
    _paths_end_at(shown, STEPS)


def test_a_path_says_its_seed_its_step_and_where_it_is(shown: Shown) -> None:
    shown.see(PATHS)
    path = shown.made.data[PATHS]["panels"][0]["trajectories"][0]
    told = shown.hover(PATHS, path["points"][0][4], path["points"][1][4], "step: 4")
    assert path["label"] in told
    assert f"seed: {SEEDS[0]}" in told


def test_a_selection_keeps_the_step_that_the_player_has_come_to(shown: Shown) -> None:
    box = shown.see(PATHS).locator(".player")
    box.locator("input").fill("6")
    shown.choose(SCRIPTED).click()
    shown.settle(PATHS)
    assert box.locator("output").text_content() == f"step 6 of {STEPS}"
    for line in lines_of(shown.plots(PATHS)[0]).values():
        assert line["step"] == list(range(7))


# What can be kept


def _kept(shown: Shown, name: str, button: str, ending: str) -> bytes:
    shown.unfold(shown.figure(name))
    with shown.page.expect_download() as waiting:
        shown.figure(name).get_by_role("button", name=button).click()
    assert waiting.value.suggested_filename == f"{name}.{ending}"
    return waiting.value.path().read_bytes()


def test_numbers_are_kept_as_the_record_has_them(shown: Shown) -> None:
    shown.see(LINES_LOSS)
    read = list(csv.DictReader(io.StringIO(_kept(shown, LINES_LOSS, "CSV", "csv").decode())))
    expected = []
    for panel in shown.made.data[LINES_LOSS]["panels"]:
        for line in (*panel["lines"], *panel["seedLines"]):
            for i, x in enumerate(panel["xs"][line["x"]]):
                low, high = (line[k][i] if k in line else None for k in ("low", "high"))
                expected.append((x, line["y"][i], low, high, line.get("seed")))
    found = [
        tuple(float(row[k]) if row[k] else None for k in ("x", "y", "low", "high", "seed"))
        for row in read
    ]
    assert found == expected
    assert {SCRIPTED, BRACED} <= {row["line"] for row in read}
    rows = list(csv.DictReader(io.StringIO(_kept(shown, FINAL, "CSV", "csv").decode())))
    data = shown.made.data[FINAL]["panels"][0]["rows"]
    dots = [
        (row["row"], row["what"], float(row["value"])) for row in rows if row["what"] != "estimate"
    ]
    assert dots == [
        (row["label"], f"seed {number}", value)
        for row in data
        for number, value in zip(row["numbers"], row["values"], strict=True)
    ]
    shown.choose(SCRIPTED).click()
    text = _kept(shown, FINAL, "CSV", "csv").decode()
    assert "onerror" not in text
    assert BRACED.replace('"', '""') in text


@pytest.mark.exhaustive
def test_numbers_of_paths_and_planes_are_kept_too(shown: Shown) -> None:
    rows = list(csv.DictReader(io.StringIO(_kept(shown, PATHS, "CSV", "csv").decode())))
    paths = shown.made.data[PATHS]["panels"][0]["trajectories"]
    assert len(rows) == len(paths) * (STEPS + 1)
    assert [float(row["x1"]) for row in rows] == [x for path in paths for x in path["points"][0]]
    assert [float(row["x2"]) for row in rows] == [y for path in paths for y in path["points"][1]]
    heat = list(csv.reader(io.StringIO(_kept(shown, "heat_bowl", "CSV", "csv").decode())))
    panel = shown.made.data["heat_bowl"]["panels"][0]
    assert [float(row[-1]) for row in heat[1:]] == panel["values"]


def test_numbers_are_shown_below_a_picture_and_follow_the_selection(shown: Shown) -> None:
    figure = shown.see(FINAL)
    toggle = figure.get_by_role("button", name="Numbers")
    assert toggle.get_attribute("aria-expanded") == "false"
    toggle.click()
    assert toggle.get_attribute("aria-expanded") == "true"
    table = figure.locator(".numbers table")
    assert table.locator("thead th").all_text_contents() == [
        *("panel", "row", "what", "value", "low", "high")
    ]
    assert table.locator("tbody tr").count() == 9 * 13
    shown.choose(SCRIPTED).click()
    assert table.locator("tbody tr").count() == 6 * 13
    toggle.click()
    assert table.count() == 0 or table.is_hidden()
    assert toggle.get_attribute("aria-expanded") == "false"


SVG = "{http://www.w3.org/2000/svg}"


def _texts(root: ET.Element) -> list[str]:
    return [one.text or "" for one in root.iter(f"{SVG}text")]


def _colors(root: ET.Element) -> set[str]:
    return {one.get(name, "") for one in root.iter() for name in ("fill", "stroke")}


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.exhaustive)])
def test_a_chart_is_kept_as_it_is_shown_in_the_colours_of_print(
    shown: Shown, scheme: Literal["light", "dark"]
) -> None:
    shown.page.emulate_media(color_scheme=scheme)
    shown.see(LINES_LOSS)
    shown.settle(LINES_LOSS)
    before = _texts(ET.fromstring(_kept(shown, LINES_LOSS, "SVG", "svg")))
    assert optimizers_in(before) == {"sgd", SCRIPTED, BRACED}
    assert "epoch (of 4 steps)" in before
    shown.choose(SCRIPTED).click()
    shown.select("along", "steps")
    shown.settle(LINES_LOSS)
    shown.page.wait_for_function(
        "() => document.querySelector('.is-live .departures:not([hidden])')"
    )
    root = ET.fromstring(_kept(shown, LINES_LOSS, "SVG", "svg"))
    texts = _texts(root)
    assert "step" in texts
    assert optimizers_in(texts) == {"sgd", BRACED}
    assert "epoch (of 4 steps)" not in texts
    assert panels_of(root) == 2
    colors = _colors(root)
    assert {frames.FOREGROUND, frames.GRID, frames.BACKGROUND} <= colors
    assert not colors & {"#e4e5e2", "#404346", "#17181a", "rgb(23,24,26)"}
    png = _kept(shown, LINES_LOSS, "PNG", "png")
    with Image.open(io.BytesIO(png)) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        size = [float(root.get(name, "")) * 300 / 96 for name in ("width", "height")]
        assert image.size == tuple(math.floor(length + 0.5) for length in size)
        assert image.convert("RGB").getpixel((1, 1)) == (254, 254, 253)
        assert len(image.convert("RGB").getcolors(1_000_000) or ()) > 100


def panels_of(root: ET.Element) -> int:
    """The plots in a picture, each a drawing of its own with an axis."""
    return sum(one.find(f".//{SVG}clipPath") is not None for one in root.findall(f"{SVG}svg"))


def test_trajectories_are_kept_at_the_step_that_is_shown(shown: Shown) -> None:
    box = shown.see(PATHS).locator(".player")
    shown.settle(PATHS)
    assert "step 20 of 20" not in _texts(ET.fromstring(_kept(shown, PATHS, "SVG", "svg")))
    box.locator("input").fill("6")
    assert "step 6 of 20" in _texts(ET.fromstring(_kept(shown, PATHS, "SVG", "svg")))


def test_a_picture_without_a_live_chart_is_kept_as_printed(
    browser: Browser, tmp_path: Path
) -> None:
    record = RatioFigure("by_hand", None, "By hand", "Caption.", "Words.", (), "", "")
    path = tmp_path / "index.html"
    drawing = Drawing("by_hand", FRAME, b"")
    path.write_text(page.render(RESULTS, [], [record], [drawing], sentences.Findings()))
    context = new_context(browser)
    opened = Shown(context.new_page(), Made(path.as_uri(), {}))
    root = ET.fromstring(_kept(opened, "by_hand", "SVG", "svg"))
    assert (root.get("width"), root.get("height")) == ("504pt", "252pt")
    with Image.open(io.BytesIO(_kept(opened, "by_hand", "PNG", "png"))) as image:
        assert image.size == (2100, 1050)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert opened.said == []
    context.close()


# The address


def _query(shown: Shown) -> dict[str, list[str]]:
    parts = urlsplit(shown.page.url).fragment.partition("?")
    return parse_qs(parts[2], keep_blank_values=True)


def test_the_address_keeps_what_is_chosen_and_gives_it_back(shown: Shown, browser: Browser) -> None:
    shown.page.evaluate("location.hash = '#figure-loss_bowl'")
    shown.choose("grid").click()
    shown.select("along", "steps")
    shown.select("scale", "linear")
    shown.page.get_by_label("individual seeds").check()
    assert urlsplit(shown.page.url).fragment.startswith("figure-loss_bowl?")
    assert _query(shown) == {
        "only": ["sgd", SCRIPTED, BRACED],
        **{"x": ["steps"], "y": ["linear"], "seeds": ["each"]},
    }
    history = shown.page.evaluate("history.length")
    context = new_context(browser)
    other = Shown(context.new_page(), Made(shown.page.url, shown.made.data))
    pressed = other.page.locator("#choices [data-optimizer][aria-pressed=true]")
    assert pressed.locator("span").all_text_contents() == ["sgd", SCRIPTED, BRACED]
    assert other.page.locator("select[name=along]").input_value() == "steps"
    assert other.page.locator("select[name=scale]").input_value() == "linear"
    assert other.page.get_by_label("individual seeds").is_checked()
    other.settle(LOSS)
    [plot, *_] = other.plots(LOSS)
    assert (plot["x"]["label"], plot["y"]["type"]) == ("step", "LinearScale")
    assert "grid" not in json.dumps(other.plots(LOSS))
    assert other.figure(LOSS).evaluate(IN_VIEW)
    assert other.said == []
    context.close()
    shown.choose_all()
    assert shown.page.evaluate("history.length") == history
    assert "only" not in _query(shown)


IN_VIEW = """(one) => {
  const bar = document.getElementById("choices").getBoundingClientRect();
  const { top } = one.getBoundingClientRect();
  return top >= Math.max(0, bar.top < 1 ? bar.bottom : 0) - 1 && top < innerHeight / 2;
}"""


def test_an_address_sets_all_choices_or_leaves_them(shown: Shown) -> None:
    shown.page.evaluate("location.hash = '#?only=sgd&y=log'")
    only = shown.page.locator("#choices select[name=only]")
    expect(only).to_have_value("sgd")
    assert shown.page.locator("select[name=scale]").input_value() == "log"
    shown.page.locator("nav a", has_text="bowl").first.click()
    expect(only).to_have_value("sgd")
    shown.page.wait_for_function("() => location.hash.includes('bowl?only=sgd&y=log')")
    shown.page.evaluate("location.hash = '#?x=nonsense&only=nobody'")
    shown.page.wait_for_function("() => !location.hash.includes('log')")
    assert shown.choose("grid").get_attribute("aria-pressed") == "true"
    assert shown.page.locator("select[name=along]").input_value() == ""
    shown.page.evaluate("location.hash = '#?only='")
    expect(shown.page.locator("#choices [aria-pressed=true]")).to_have_count(0)
    shown.page.evaluate("location.hash = '#%zz'")
    shown.page.wait_for_function("() => location.hash.startsWith('#%25zz?only=')")


def test_one_optimizer_alone_is_a_choice_away(shown: Shown) -> None:
    only = shown.page.locator("#choices select[name=only]")
    assert only.locator("option").all_text_contents()[1:] == list(OPTIMIZERS)
    pressed = shown.page.locator("#choices [data-optimizer][aria-pressed=true] span")
    only.select_option(SCRIPTED)
    assert pressed.all_text_contents() == [SCRIPTED]
    assert _query(shown)["only"] == [SCRIPTED]
    only.select_option("")
    assert pressed.count() == len(OPTIMIZERS)
    shown.choose(BRACED).dblclick()
    assert pressed.all_text_contents() == [BRACED]
    assert only.input_value() == BRACED


def test_a_caption_says_how_a_chart_differs_from_the_printed_picture(shown: Shown) -> None:
    figure = shown.see(LOSS)
    note = figure.locator(".departures")
    assert note.is_hidden()
    shown.select("along", "steps")
    shown.select("scale", "log")  # as it is
    shown.choose("grid").click()
    expect(note).to_have_text(
        f"Shown: only sgd, {SCRIPTED}, {BRACED}; x axis in steps. "
        "The text describes the figure as printed."
    )
    shown.select("scale", "linear")
    shown.page.get_by_label("individual seeds").check()
    expect(note).to_contain_text("x axis in steps; linear scale; individual seeds.")
    shown.see(PATHS)
    expect(shown.figure(PATHS).locator(".departures")).to_be_hidden()  # has no grid


def test_headings_and_figures_have_links_to_themselves(shown: Shown) -> None:
    links = shown.page.locator("a.anchor")
    assert links.count() >= shown.page.locator("figure").count() + 6
    lost = """() => [...document.querySelectorAll("a.anchor")].filter(
      (one) => !document.getElementById(decodeURIComponent(one.hash.slice(1).split("?")[0])))"""
    assert shown.page.evaluate(f"({lost})().length") == 0
    link = shown.figure(LOSS).locator("a.anchor")
    assert link.get_attribute("aria-label") == "Link to Loss against step: bowl"
    assert link.evaluate("one => getComputedStyle(one).opacity") == "0"
    link.focus()
    shown.page.keyboard.press("Shift+Tab")
    shown.page.keyboard.press("Tab")
    assert link.evaluate("one => getComputedStyle(one).opacity") == "1"
    shown.page.keyboard.press("Enter")
    shown.page.wait_for_function("() => location.hash === '#figure-loss_bowl'")
    shown.choose("sgd").click()
    assert "figure-loss_bowl?only=" in (link.get_attribute("href") or "")
    assert {h.get_attribute("aria-label") for h in shown.page.locator("main h2").all()} >= {"bowl"}


def test_an_address_within_something_folded_unfolds_it(shown: Shown) -> None:
    shown.page.evaluate(
        """() => {
          const figure = document.getElementById("figure-heat_bowl");
          const folded = document.createElement("details");
          folded.innerHTML = "<summary>1</summary><details><summary>2</summary></details>";
          figure.before(folded);
          folded.querySelector("details").append(figure);
        }"""
    )
    assert not shown.figure("heat_bowl").is_visible()
    shown.page.evaluate("location.hash = '#figure-heat_bowl'")
    expect(shown.figure("heat_bowl")).to_be_visible()
    shown.page.wait_for_function(f"() => ({IN_VIEW})(document.getElementById('figure-heat_bowl'))")
    shown.settle("heat_bowl")


# Other ways to look at it


def test_without_scripts_every_picture_is_shown_and_no_dead_control(
    browser: Browser, made: Made
) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(made.address)
    pictures = opened.locator("figure svg[role=img]")
    assert pictures.count() == len(made.data)
    assert all(picture.is_visible() for picture in pictures.all())
    assert opened.locator("table.sortable").first.is_visible()
    for dead in ("button", "select", "input", "output", "[role=status]", ".live", "#choices"):
        assert opened.locator(f"{dead}:visible").count() == 0
    context.close()


@pytest.mark.exhaustive
def test_on_paper_the_pictures_take_the_place_of_the_charts(whole: Shown) -> None:
    whole.page.emulate_media(media="print")
    try:
        pictures = whole.page.locator("figure svg[role=img]")
        assert all(picture.is_visible() for picture in pictures.all())
        for gone in (".live", "#choices", ".numbers", ".download"):
            assert whole.page.locator(f"{gone}:visible").count() == 0
    finally:
        whole.page.emulate_media(media="screen")
    assert whole.page.locator(".live:visible").count() == len(whole.made.data)
    assert whole.page.locator("figure .drawing:visible").count() == 0


def test_another_colour_scheme_draws_the_charts_anew_in_its_ink(shown: Shown) -> None:
    shown.see(LOSS)
    ink = "() => probe.views('loss_bowl')[0]?.model.below[0].axis_label_text_color"
    paper = "getComputedStyle(document.body).getPropertyValue('--ink').trim()"
    light = shown.page.evaluate(paper)
    assert shown.page.evaluate(ink) == light
    shown.page.emulate_media(color_scheme="dark")
    dark = shown.page.evaluate(paper)
    assert dark != light
    shown.page.wait_for_function(f"(dark) => ({ink})() === dark", arg=dark)
    shown.settle(LOSS)
    shown.see(FINAL)
    inks = "probe.views('final_loss_bowl')[0].model.below[0].axis_line_color"
    assert shown.page.evaluate(inks) == dark


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.exhaustive)])
def test_what_a_place_says_can_be_read(shown: Shown, scheme: Literal["light", "dark"]) -> None:
    shown.page.emulate_media(color_scheme=scheme)
    shown.see("overview")
    row = shown.made.data["overview"]["panels"][0]["rows"][0]
    shown.hover("overview", row["centre"], 0, row["label"])
    contrasts = """() => {
      const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
      const light = (color) => {
        const [r, g, b] = numbers(color).map((c) => c / 255).map(
          (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const tip = [...probe.inside(document)].find(
        (one) => one.matches(".bk-Tooltip") && one.checkVisibility());
      const behind = light(getComputedStyle(tip).backgroundColor);
      const said = [...probe.inside(tip.shadowRoot)].filter((one) =>
        [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
        && one.nodeName !== "STYLE");
      return said.map((one) => {
        const [a, b] = [light(getComputedStyle(one).color), behind];
        return [one.textContent, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
      });
    }"""
    found = shown.page.evaluate(contrasts)
    assert len(found) >= 3
    assert [text for text, ratio in found if ratio < 4.5] == []


@pytest.mark.exhaustive
def test_the_library_does_not_run_before_a_chart_comes_near(browser: Browser, made: Made) -> None:
    context = new_context(browser, height=200)
    opened = context.new_page()
    opened.route(
        made.address,
        lambda route: route.fulfill(
            body=re.sub(
                '<section id="summary"',
                '<div style="height: 3000px"></div><section id="summary"',
                Path(made.address.removeprefix("file://")).read_text(encoding="utf-8"),
                count=1,
            ),
            content_type="text/html; charset=utf-8",
        ),
    )
    opened.goto(made.address)
    opened.wait_for_timeout(300)
    assert opened.locator("#choices").is_visible()
    assert opened.evaluate("typeof window.Bokeh") == "undefined"
    assert opened.locator("figure.is-live").count() == 0
    opened.locator("#figure-overview").scroll_into_view_if_needed()
    opened.locator("#figure-overview.is-live").wait_for()
    assert opened.evaluate("typeof window.Bokeh") == "object"
    assert opened.locator("figure.is-live").count() < len(made.data) / 2
    context.close()


# What only some records have

ADA = figure_styles.looks({SCRIPTED: ("adagrad", "")})[SCRIPTED].styles(SCRIPTED, [""])[""]


def by_hand(browser: Browser, folder: Path, record: FigureRecord) -> tuple[BrowserContext, Shown]:
    """A page with one figure, whose record was made by hand."""
    drawing = draw.draw(record)
    path = folder / "index.html"
    said = sentences.Findings()
    path.write_text(page.render(RESULTS, [], [record], [drawing], said), encoding="utf-8")
    context = new_context(browser)
    return context, Shown(context.new_page(), Made(path.as_uri(), {}))


def line(label: str, style: Style, x: list[float], y: list[float], **more: Any) -> Line:
    nothing = np.empty(0)
    return Line(label, style, np.array(x), np.array(y), nothing, nothing, **more)


def curves(panel: CurvePanel) -> CurveFigure:
    return CurveFigure("by_hand", LINES.name, "By hand", "Caption.", "Words.", (panel,), 1)


@pytest.mark.exhaustive
def test_a_cross_without_a_place_has_no_value_in_words_or_numbers(
    browser: Browser, tmp_path: Path
) -> None:
    kept = line(SCRIPTED, ADA, [0.1, 0.2, 0.3], [3.0, 2.0, 4.0])
    lost = line("", ADA, [0.4], [40.0], failed=True)
    panel = CurvePanel(x_label="lr", y_label="final loss", limits=(1.0, 5.0), lines=(kept, lost))
    context, shown = by_hand(browser, tmp_path, curves(panel))
    shown.see("by_hand")
    [plot] = shown.plots("by_hand")
    crosses = [g for g in plot["glyphs"] if g["data"].get("what", [""])[0].endswith("failed")]
    assert [one["data"]["value"] for one in crosses] == [["none"]] * len(crosses) != []
    rows = csv.DictReader(io.StringIO(_kept(shown, "by_hand", "CSV", "csv").decode()))
    assert [(row["x"], row["y"], row["ended"]) for row in rows] == [
        *(("0.1", "3", "ok"), ("0.2", "2", "ok"), ("0.3", "4", "ok")),
        ("0.4", "", "not ok"),
    ]
    assert shown.said == []
    context.close()


@pytest.mark.exhaustive
def test_changes_of_level_are_numbered_and_drawn_from_level_to_level(
    browser: Browser, tmp_path: Path
) -> None:
    level = line(SCRIPTED, ADA, [1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 2.0, 2.0])
    panel = CurvePanel(
        x_label="check",
        y_label="ratio",
        limits=(0.5, 2.5),
        lines=(level,),
        marks=(Mark(3, "7", 1.0, 2.0),),
    )
    context, shown = by_hand(browser, tmp_path, curves(panel))
    shown.see("by_hand")
    [plot] = shown.plots("by_hand")
    [step] = [g["data"] for g in plot["glyphs"] if g["type"] == "Segment"]
    assert (step["x"], step["before"], step["after"]) == ([2.5], [1], [2])
    [text] = [g["data"] for g in plot["glyphs"] if g["type"] == "Text"]
    assert text["text"] == ["7"]
    assert shown.said == []
    context.close()


@pytest.mark.exhaustive
def test_the_plane_has_the_value_of_the_nearest_setting(browser: Browser, tmp_path: Path) -> None:
    x, y = np.array([1e-3, 1e-1]), np.array([0.5, 0.5])
    panel = HeatPanel(
        SCRIPTED, "lr", "momentum", True, False, x, y, np.array([2.0, np.nan]), 0, SCRIPTED
    )
    record = HeatFigure(
        *("by_hand", LINES.name, "By hand", "Caption.", "Words."),
        *((panel,), 1, "final loss", False, (1.0, 3.0)),
    )
    context, shown = by_hand(browser, tmp_path, record)
    shown.see("by_hand")
    cells = shown.page.evaluate(
        """() => [...probe.views("by_hand")[0].model.renderers]
          .filter((one) => one.glyph?.type === "Image")
          .map((one) => [...one.data_source.data.image[0]].map((v) => (isNaN(v) ? null : v)))"""
    )
    [image] = cells
    side = round(len(image) ** 0.5)
    rows = [image[i * side : (i + 1) * side] for i in range(side)]
    assert side**2 == len(image)
    # Halfway on a logarithmic scale the one setting gives way to the other.
    assert all(row == [2] * (side // 2) + [None] * (side // 2) for row in rows)
    assert shown.said == []
    context.close()


def test_a_path_of_two_is_shown_for_either_and_upon_the_curve_of_its_loss(
    browser: Browser, tmp_path: Path
) -> None:
    x = np.linspace(-2, 4, 13)
    points = np.array([[4.0, 16.0], [2.0, 4.0], [-3.0, 9.0]])
    path = Trajectory(
        f"{SCRIPTED} = sgd",
        ADA,
        points,
        failed=False,
        steps=np.arange(3),
        marked=np.array([0, 2]),
        end=np.array([-2.0, 8.0]),
        seed=3,
        optimizers=(SCRIPTED, "sgd"),
    )
    record = PlaneFigure(
        *("by_hand", BOWL.name, "By hand", "Caption.", "Words."),
        panels=(PlanePanel("", (path,)),),
        columns=1,
        window=((-2.0, 4.0), (-1.0, 17.0)),
        landscape=None,
        levels=(),
        minimizers=((0.0, 0.0),),
        axes=("x", "loss"),
        curve=np.column_stack([x, x**2]),
    )
    context, shown = by_hand(browser, tmp_path, record)
    shown.see("by_hand")
    [plot] = shown.plots("by_hand")
    assert (plot["x"]["label"], plot["y"]["label"]) == ("x", "loss")
    lines = [one["data"] for one in plot["glyphs"] if one["type"] == "Line"]
    assert [line["y"] for line in lines] == [(x**2).tolist(), points[:, 1].tolist()]
    *_, marks, end, ring, star = [o["data"] for o in plot["glyphs"] if o["type"] == "Scatter"]
    assert (marks["x"], marks["y"]) == ([4, -3], [16, 9])
    assert (end["x"], end["y"]) == ([-2], [8])
    assert (ring["x"], star["x"]) == ([4], [0])
    shown.choose(SCRIPTED).click()
    shown.see("by_hand")
    assert len(shown.plots("by_hand")) == 1
    shown.choose("sgd").click()
    expect(shown.figure("by_hand").locator(".panels > div")).to_have_count(0)
    assert shown.said == []
    context.close()
