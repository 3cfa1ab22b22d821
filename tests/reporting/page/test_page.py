from __future__ import annotations

import base64
import hashlib
import html
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from harness import __version__
from harness.analysis.comparison import mean_losses
from harness.analysis.summary import analyse
from harness.commands import run as running
from harness.gate.report import CellVerdict, GateReport, Judgement, Outcome
from harness.progress import NullProgress
from harness.reporting.figures import frames
from harness.reporting.figures.draw import Drawing
from harness.reporting.figures.records import FigureRecord
from harness.reporting.objects import Checks
from harness.reporting.page import citation, parts
from harness.reporting.page import matrix as matrix_of
from harness.reporting.page import run as run_page
from harness.reporting.page.check import CheckSection, check_section
from harness.reporting.tables import check as check_tables
from harness.reporting.tables import comparison as comparison_tables
from harness.reporting.tables import trials as trial_tables
from harness.reporting.tables.model import Table
from harness.reporting.tables.sentences import Findings, summarise
from harness.store import read
from harness.store.records import RunRecord, RunSettings

HOSTILE = (
    """</title></script><script>alert('x')</script><img src=x onerror="alert(1)">&lt;'\"{{ 7*7 }}"""
)
SEEDS = (0, 1, 2)
DRAWN = (
    '<svg role="img" aria-label="as drawn" width="504pt" height="252pt" '
    'viewBox="0 0 504 252" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'xmlns="http://www.w3.org/2000/svg" version="1.1">'
    '<g><path id="NAME-1" d="M0 0" style="fill: #fefefd; stroke: #d0d1d2"/>'
    '<use xlink:href="#NAME-1" fill="#1a1b1c"/></g></svg>'
)

Ending = tuple[str, int, str, float]
"""Status, step, reason and final loss of one trial."""


def ok(loss: float) -> Ending:
    return "ok", 4, "", loss


def made(
    endings: dict[tuple[str, str, str, str], Sequence[Ending]] | None = None,
    *,
    formula: str = "f(x) = x²",
    timed: bool = True,
    finished: str | None = "2026-01-02T03:04:06+00:00",
    **settings: Any,
) -> read.Results:
    """Results by (objective, optimizer, setting, device), each with an ending per seed."""
    if endings is None:
        endings = {
            ("bowl", "sgd", "", "cpu"): [ok(1.0), ok(2.0), ok(3.0)],
            ("bowl", "adagrad", "lr=0.4", "cpu"): [ok(1.2e-5), ok(1.4e-5), ok(1.3e-5)],
            ("line", "sgd", "", "cpu"): [ok(0.5), ok(0.5), ok(0.5)],
            ("line", "adagrad", "", "cpu"): [ok(11.0), ok(10.0), ok(12.0)],
        }
    objectives, cases, trials, timings = {}, [], [], []
    for position, ((objective, optimizer, setting, device), ends) in enumerate(endings.items()):
        objectives[objective] = read.ObjectiveInfo(
            name=objective,
            formula=formula,
            dimension=2,
            rows=0,
            steps=4,
            steps_per_epoch=1,
            record_steps=np.arange(5),
            optimum=0.0,
            minimizers=((0.0, 0.0),),
            window=None,
            landscape=None,
            data_source="",
        )
        case = read.CaseData(
            position=position,
            objective=objective,
            optimizer=optimizer,
            setting=setting,
            device=device,
            optimizer_class="SGD",
            hyperparameters={"lr": 0.4},
            defaults={"lr": 0.4, "weight_decay": 0},
            dtype="float64",
            seeds=np.arange(len(ends)),
            losses=np.ones((len(ends), 5)),
            trajectories={seed: np.full((5, 2), float(seed)) for seed in range(len(ends))},
            step_sizes={},
        )
        cases.append(case)
        names = (position, objective, optimizer, setting, case.label, device)
        for seed, (status, step, reason, loss) in enumerate(ends):
            trials.append((*names, seed, status, step, reason, 0.1, "pointwise", "", loss))
        if timed and device == "cpu":
            seconds = 1e-4 * (position + 1) * np.linspace(1, 1.1, 8)
            timings += [(position, i, 10, 1, 10 * s, 10 * s, s) for i, s in enumerate(seconds)]
    run = RunRecord(
        id=1,
        started="2026-01-02T03:04:05+00:00",
        finished=finished,
        command="python -m harness run spec.yaml",
        suite="sample",
        spec_file="spec.yaml",
        spec_text="suite: sample\n",
        settings=RunSettings.model_validate(
            {
                "title": "Bowl & line",
                "description": "What is flat and what is steep.",
                "seeds": list(SEEDS),
                "timing": {"enabled": timed, "rounds": 8, "warmup_rounds": 3, "block_steps": 10},
                **settings,
            }
        ),
        environment={"harness": "0.1.0", "engine": "0123456789ab", "torch": "2.9.0", "git": ""},
    )
    columns = [
        *("position", "objective", "optimizer", "setting", "label", "device", "seed"),
        *("status", "step", "reason", "seconds", "way", "way_reason", "final_loss"),
    ]
    return read.Results(
        run,
        objectives,
        tuple(cases),
        pd.DataFrame(trials, columns=columns),
        pd.DataFrame(
            timings,
            columns=[
                *("position", "round", "steps", "steps_per_epoch"),
                *("seconds", "cpu_seconds", "epoch_seconds"),
            ],
        ),
    )


def unlucky(reason: str = "the loss is NaN", missing: str = "no cuda here") -> read.Results:
    """Results in which every status but a timeout occurs."""
    nan = float("nan")
    return made(
        {
            ("bowl", "sgd", "", "cpu"): [ok(1.0), ("diverged", 3, reason, nan), ok(3.0)],
            ("bowl", "sgd", "", "cuda"): [("unavailable", 0, missing, nan)] * 3,
            ("bowl", "lion", "", "cpu"): [("error", 0, reason, nan)] * 3,
        },
        missing={"cuda": missing},
    )


def rendered(results: read.Results, sentences: Sequence[str] = ("Sgd is a bit lower.",)) -> str:
    records = [
        *(
            FigureRecord(
                f"loss_{name}", name, f"Loss: {name}", "Mean and band.", f"Loss on {name}."
            )
            for name in results.objectives
        ),
        FigureRecord("seconds_per_epoch", None, "Time", "Dots.", "How long an epoch takes."),
    ]
    drawings = [Drawing(record.name, DRAWN.replace("NAME", record.name), b"") for record in records]
    return run_page.render(
        results,
        trial_tables.build(results, mean_losses(results)),
        records,
        drawings,
        Findings(tuple(sentences)),
    )


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    around: tuple[str, ...] = ()
    text: str = ""


class Parsed(HTMLParser):
    """A page's elements in order; complains about tags that don't balance."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {[element.tag for element in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice: {attrs}"
        around = tuple(one.tag for one in self.open)
        element = Element(tag, {name: value or "" for name, value in attrs}, around)
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]

    def inside(self, around: str, tag: str) -> list[Element]:
        return [element for element in self.all(tag) if around in element.around]

    @property
    def text(self) -> str:
        return self.all("html")[0].text


def programs(parsed: Parsed) -> list[Element]:
    """The scripts that run; others only hold data."""
    return [script for script in parsed.all("script") if "type" not in script.attributes]


@pytest.mark.parametrize("results", [made(), unlucky(), made(timed=False)])
def test_every_tag_is_closed_and_every_identifier_is_unique(results: read.Results) -> None:
    parsed = Parsed(rendered(results))
    ids = [e.attributes["id"] for e in parsed.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for element in parsed.elements:
        for name in ("aria-labelledby", "href", "xlink:href"):
            target = element.attributes.get(name, "")
            if name == "aria-labelledby" and target:
                assert target in ids
            if target.startswith("#"):
                assert target[1:] in ids


def test_the_policy_allows_one_script_by_its_digest_and_nothing_from_elsewhere() -> None:
    source = rendered(made())
    parsed = Parsed(source)
    [policy] = [e for e in parsed.all("meta") if "http-equiv" in e.attributes]
    [script] = programs(parsed)
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.attributes["content"].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["style-src"] == "'unsafe-inline'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert source.index("Content-Security-Policy") < source.index("<script>")


def test_no_attribute_points_outside_of_the_page() -> None:
    for element in Parsed(rendered(unlucky())).elements:
        for name, value in element.attributes.items():
            # A digest may well have two slashes.
            if not name.startswith("xmlns") and "sha256-" not in value:
                assert "//" not in value or value.startswith("data:text/csv"), (name, value)
            if name in ("src", "srcset", "href", "xlink:href", "action", "poster"):
                assert value.startswith(("#", "data:"))
            assert not name.startswith("on")


def test_whatever_the_spec_or_an_error_says_stays_text() -> None:
    results = unlucky(reason=HOSTILE, missing=HOSTILE)
    settings = results.run.settings.model_copy(update={"title": HOSTILE, "description": HOSTILE})
    run = replace(
        results.run,
        settings=settings,
        spec_text=HOSTILE,
        spec_file=HOSTILE,
        command=HOSTILE,
        environment={"cpu": HOSTILE, "git": HOSTILE},
    )
    infos = {
        name: replace(info, formula=HOSTILE, data_source=HOSTILE)
        for name, info in results.objectives.items()
    }
    parsed = Parsed(rendered(replace(results, run=run, objectives=infos), [HOSTILE]))
    assert len(programs(parsed)) == 1
    assert not parsed.all("img")
    assert parsed.all("title")[0].text == HOSTILE
    assert parsed.all("h1")[0].text == HOSTILE
    [spec] = [e for e in parsed.all("pre") if e.attributes.get("class") == "spec"]
    assert spec.text == HOSTILE
    assert sum(e.text == HOSTILE for e in parsed.all("td")) >= 3
    assert parsed.text.count("<img src=x onerror=") >= 12
    assert parsed.text.count("&lt;'") >= 6
    assert "{{ 7*7 }}" in parsed.text


def test_sections_come_in_reading_order_and_the_contents_name_them_all() -> None:
    parsed = Parsed(rendered(made()))
    headings = [e.text for e in parsed.all("h2")]
    assert headings == [
        "Statistics",
        "Speed",
        "Failed and skipped trials",
        "bowl",
        "line",
        "Setup",
        "Run again",
        "Provenance",
        "How to cite",
    ]
    assert contents_of(parsed) == ["Summary", *headings]
    levels = [int(e.tag[1]) for e in parsed.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert [e.tag for e in parsed.all("header", "nav", "main", "footer")] == [
        *("header", "main", "nav", "footer")
    ]


def contents_of(parsed: Parsed) -> list[str]:
    """What the contents name, each with a section that there is."""
    anchors = {e.attributes["href"][1:]: e.text for e in parsed.inside("nav", "a")}
    assert set(anchors) == {e.attributes["id"] for e in parsed.all("section")}
    return list(anchors.values())


def test_an_objective_shows_its_rows_as_the_table_has_them() -> None:
    results = made()
    source = rendered(results)
    losses = trial_tables.final_loss(results, mean_losses(results))
    assert losses is not None
    shown = losses.shown
    for objective, anchor in (("bowl", "1-bowl"), ("line", "2-line")):
        [table] = _grids(source, f"table-final_loss-{anchor}")
        rows = shown[shown["objective"] == objective]
        for column in ("loss", "95% interval", "gap to optimum", "best", "worst", "n"):
            assert list(table[column]) == list(rows[column])
        assert "objective" not in table
        assert "outcomes" not in table  # every trial ended ok
    [table] = _grids(source, "table-final_loss-1-bowl")
    assert list(table["optimizer"]) == ["adagrad lr=0.4", "sgd"]
    assert [float(text) for text in table["loss"]] == [1.3e-5, 2.0]
    [table] = _grids(rendered(unlucky()), "table-final_loss-1-bowl")
    assert dict(zip(table["optimizer"], table["outcomes"], strict=True)) == {
        "sgd": "2 ok, 1 diverged",
        "lion": "3 error",
    }


def test_number_columns_are_marked_and_words_are_not() -> None:
    parsed = Parsed(rendered(made()))
    numeric = {e.text for e in parsed.all("th") if e.attributes.get("class") == "number"}
    assert {"loss", "best", "worst", "n", "ratio"} <= numeric
    assert not numeric & {"optimizer", "device", "outcomes", "reason", "cpu"}


def test_a_download_is_the_rows_of_the_table_with_all_digits() -> None:
    results = made()
    parsed = Parsed(rendered(results))
    links = {
        e.attributes["download"]: e.attributes["href"]
        for e in parsed.all("a")
        if "download" in e.attributes
    }
    losses = trial_tables.final_loss(results, mean_losses(results))
    assert losses is not None
    whole = losses.frame
    for objective in ("bowl", "line"):
        uri = links[f"final_loss-{objective}.csv"]
        head, _, body = uri.partition(",")
        assert head == "data:text/csv;charset=utf-8;base64"
        text = base64.b64decode(body).decode()
        back = pd.read_csv(io.StringIO(text), dtype=str)
        rows = whole[whole["objective"] == objective].reset_index(drop=True)
        assert [float(cell) for cell in back["mean"]] == list(rows["mean"])
        assert list(back.columns) == list(rows.columns)


def test_a_figure_is_inline_named_and_follows_the_colours_of_the_page() -> None:
    parsed = Parsed(rendered(made()))
    drawings = parsed.all("svg")
    assert [e.attributes["aria-label"] for e in drawings] == [
        *("Loss on bowl.", "How long an epoch takes.", "Loss on line.")
    ]
    assert all(e.attributes["role"] == "img" for e in drawings)
    assert all("width" not in e.attributes and "viewbox" in e.attributes for e in drawings)
    assert all(e.attributes["style"] == "fill: var(--ink); max-width: 672px" for e in drawings)
    shapes = parsed.all("path")
    [shared] = [e for e in parsed.all("style") if e.attributes.get("id") == "drawing-styles"]
    assert shared.text == "\n.s0{fill:var(--paper);stroke:var(--grid)}\n"
    assert {shape.attributes["class"] for shape in shapes} == {"s0"}
    uses = parsed.all("use")
    assert uses[0].attributes["fill"] == "var(--ink)"
    assert [e.attributes["xlink:href"][1:] for e in uses] == [e.attributes["id"] for e in shapes]


def test_the_colours_that_the_page_replaces_are_those_of_the_drawings() -> None:
    colours = [frames.FOREGROUND, frames.GRID, frames.BACKGROUND]
    assert colours == [parts.INK, parts.GRID, parts.PAPER]


def test_what_failed_is_said_in_the_headline_in_a_sentence_and_in_full() -> None:
    source = of_comparison(unlucky())
    parsed = Parsed(source)
    [headline] = [e for e in parsed.all("p") if e.attributes.get("class") == "headline"]
    assert headline.text.endswith("4 of 6 trials failed; CUDA is not available.")
    [section] = [e for e in parsed.all("section") if e.attributes["id"] == "failures"]
    assert "Of 6 trials, 1 diverged and 3 stopped with an error" in section.text
    [table] = _grids(source, "table-failures-all")
    assert set(table["outcome"]) == {"diverged", "error", "skipped"}
    told = dict(zip(table["outcome"], table["reason"], strict=True))
    assert told == {"diverged": "the loss is NaN", "error": "the loss is NaN"} | {
        "skipped": "no cuda here"
    }
    assert "No trial failed" not in parsed.text


def test_a_run_without_trouble_says_so() -> None:
    text = Parsed(of_comparison(made())).text
    assert "No trial failed or was skipped." in text
    assert "not available" not in text
    assert "interrupted" not in text


def test_a_run_that_was_cut_short_says_so_and_what_is_lacking() -> None:
    text = Parsed(rendered(made(finished=None, seeds=[0, 1, 2, 3]))).text
    assert "The run has not finished" in text
    assert "4 of the planned trials have no result yet." in text


def test_a_run_that_timed_nothing_says_so() -> None:
    results = made(timed=False)
    source = run_page.render(
        results, trial_tables.build(results, mean_losses(results)), [], [], Findings()
    )
    assert "Nothing was timed: the timing pass was turned off." in Parsed(source).text


def test_the_page_says_how_it_timed_and_what_of_it_is_noisy() -> None:
    results = made(timing={"rounds": 8, "warmup_rounds": 1, "block_steps": 10, "seconds": 20.0})
    results.run.environment["threads"] = "1"
    first = results.timings["position"] == 0
    results.timings.loc[first, "cpu_seconds"] *= 0.25
    text = Parsed(rendered(results)).text
    assert (
        "Up to 8 rounds after 1 for warm-up; in each round every case runs a block of at most 10 "
        "steps, with 1 thread; at most about 20 s in all. Evaluation, recording and data loading "
        "are not timed. The machine was busy (1 of 4 cases are noisy): compare ratios, not seconds."
    ) in text
    assert "cases are noisy" not in Parsed(rendered(made())).text
    [bowl] = _grids(rendered(results), "table-seconds_per_epoch-1-bowl")
    assert list(bowl["noise"]) == ["noisy: 75%", "5%"]
    [line] = _grids(rendered(results), "table-seconds_per_epoch-2-line")
    assert list(line["noise"]) == ["5%", "5%"]


def test_the_page_tells_how_to_run_and_to_report_again() -> None:
    results = made()
    command = "python -m harness run spec.yaml -o 'my results'"
    results = replace(results, run=replace(results.run, command=command))
    codes = [e.text for e in Parsed(rendered(results)).all("code")]
    assert command in codes
    assert "python -m harness report 'my results'" in codes
    assert "python -m harness run spec.yaml --seeds 100" in codes


def test_how_it_was_made_names_versions_times_and_digests() -> None:
    parsed = Parsed(rendered(made()))
    facts = dict(
        zip(
            [e.text for e in parsed.all("dt")],
            [e.text for e in parsed.all("dd")],
            strict=True,
        )
    )
    assert facts["Started"] == "2026-01-02 03:04:05 UTC"
    assert facts["Engine digest"] == "0123456789ab"
    assert facts["Packages"] == "torch 2.9.0"
    assert facts["Git commit"].startswith("none")


def test_what_to_cite_names_version_year_run_and_digest() -> None:
    results = made()
    [entry] = [e.text for e in Parsed(rendered(results)).all("pre") if "data-copy" in e.attributes]
    fields = dict(re.findall(r"^  (\w+) +?= \{(.*)\},$", entry, re.M))
    assert entry.startswith("@misc{harness,\n")
    assert entry.endswith("\n}")
    assert entry.count("{") == entry.count("}")
    assert fields["author"] == "{The harness authors}"
    assert fields["year"] == "2026"
    assert fields["note"] == "Computer software, version 0.1.0"
    assert "url" not in fields
    digest = hashlib.sha256(b"suite: sample\n").hexdigest()[:12]
    told = (
        "Suite “sample”, run on 2026-01-02 with Optimizer harness 0.1.0 "
        f"(SHA-256 of the spec: {digest})."
    )
    [quoted] = Parsed(rendered(results)).all("blockquote")
    assert quoted.text == told
    known = replace(results.run, environment={"harness": "0.2}{", "git": "abc123"}, started="?")
    [quoted] = Parsed(rendered(replace(results, run=known))).all("blockquote")
    assert quoted.text == (
        "Suite “sample” with Optimizer harness 0.2 "
        f"(SHA-256 of the spec: {digest}; git commit: abc123)."
    )
    entry = citation.bibtex(known)
    assert "version 0.2}" in entry
    assert "year" not in entry
    assert entry.count("{") == entry.count("}")


def test_a_run_from_before_versions_were_kept_is_cited_with_this_one() -> None:
    assert f"version {__version__}}}" in citation.bibtex(replace(made().run, environment={}))


def test_every_source_of_data_is_named_once_with_its_objectives() -> None:
    results = made()
    assert "sources of their own" not in rendered(results)
    infos = results.objectives.values()
    named = {info.name: replace(info, data_source="A <table>, 1989") for info in infos}
    named["line"] = replace(named["line"], data_source="Another")
    named["slope"] = replace(named["bowl"], name="slope")
    results = replace(results, objectives=named)
    assert citation.sources(results) == [("bowl, slope", "A <table>, 1989"), ("line", "Another")]
    [section] = [
        e for e in Parsed(rendered(results)).all("section") if e.attributes["id"] == "cite"
    ]
    assert section.text.count("A <table>, 1989") == 1
    assert "bowl, slope" in section.text


def test_every_table_with_a_download_names_the_note_that_is_copied_with_it() -> None:
    for source in (rendered(unlucky()), checked_page(), of_comparison(made(claims=[claim()]))):
        parsed = Parsed(source)
        notes = {e.attributes["id"]: e.text for e in parsed.all("p") if "id" in e.attributes}
        named = [
            e.attributes["data-note"] for e in parsed.all("table") if "data-note" in e.attributes
        ]
        assert len(named) == sum("download" in e.attributes for e in parsed.all("a"))
        assert all(notes[name] for name in named)


def test_how_trials_ran_is_told_with_the_reason() -> None:
    results = made()
    trials = results.trials.copy()
    first = trials["position"] == 0
    trials.loc[first, "way"], trials.loc[first, "way_reason"] = "alone", "a lane sees its neighbour"
    results = replace(results, trials=trials)
    told = [e.text for e in Parsed(rendered(results)).all("dd") if "side by side" in e.text]
    assert told == [
        "alone: sgd; side by side, op by op: adagrad (lr=0.4)",
        "side by side, op by op",
    ]
    assert "a lane sees its neighbour" in rendered(results)  # in a table


def judged(name: str = "sgd", why: str = "") -> CellVerdict:
    """A cell whose times got worse."""
    time = Judgement("time", "regressed", why, 2.0, 2.5, 0.25, 1.2, 1.3, 0.05)
    return CellVerdict(f"bowl/{name}/cpu", "bowl", name, "", "cpu", "spec.yaml:2:1", (time,))


def checked_page(text: str = "All is well.", *cells: CellVerdict) -> str:
    """A page with a check of which everything reads as given."""
    report = GateReport(
        *("sample", "spec.yaml", text, text, 1.0, text, {text: text}, "key", (text,), (1.0,)),
        cells or (judged(),),
    )
    records = [
        FigureRecord("check-time", None, text, text, text),
        FigureRecord("check-history_bowl", None, text, text, text),
    ]
    drawings = [Drawing(record.name, DRAWN.replace("NAME", record.name), b"") for record in records]
    check = CheckSection(text, ((text, text),), (text,), (text, "Then faster."), text)
    results = made()
    built = [*trial_tables.build(results, mean_losses(results)), check_tables.check(report)]
    return run_page.render(results, built, records, drawings, Findings(), check)


def test_a_page_without_a_check_says_nothing_of_a_baseline() -> None:
    source = rendered(made())
    assert "#check" not in source
    assert 'id="check"' not in source
    assert "aseline" not in Parsed(source).all("main")[0].text


def test_a_check_has_its_section_after_the_objectives() -> None:
    parsed = Parsed(checked_page())
    headings = [e.text for e in parsed.all("h2")]
    assert headings.index("Check against the baseline") == headings.index("line") + 1
    assert contents_of(parsed) == ["Summary", *headings]
    assert not [e for e in parsed.all("p", "li") if "alarm" in e.attributes.get("class", "")]
    [section] = [e for e in parsed.all("section") if e.attributes["id"] == "check"]
    assert section.text.count("All is well.") >= 10
    figures_of = [e.attributes["id"] for e in parsed.all("figure")]
    assert figures_of == ["figure-check-time", "figure-check-history_bowl"]
    [table] = _grids(checked_page(), "table-check-all")
    assert list(table["time (% change)"]) == ["+25.0"]
    assert list(table["95% interval"]) == ["+20.0 to +30.0"]
    [changes] = [e for e in parsed.all("ol") if e.attributes.get("class") == "changes"]
    assert changes.text.split("\n")[1:3] == ["All is well.", "Then faster."]
    ids = [e.attributes["id"] for e in parsed.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("outcome", ["failed", "inconclusive"])
def test_a_check_that_did_not_pass_is_said_under_the_title_and_first_in_the_contents(
    outcome: str,
) -> None:
    check = CheckSection("", outcome=outcome, brief="1 of 2 got worse")
    parsed = Parsed(run_page.render(made(), [], [], [], Findings(), check))
    [header] = parsed.all("header")
    assert header.text.split("\n")[1:3] == [
        "Bowl & line",
        f"Check {outcome}: 1 of 2 got worse.",
    ]
    [link] = parsed.inside("header", "a")
    assert link.attributes["href"] == "#check"
    contents = contents_of(parsed)
    assert contents[:2] == [f"Check: {outcome}", "Summary"]
    assert len([text for text in contents if "heck" in text]) == 1


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        (("fine",), ""),
        (("fine", "better"), ""),
        (("fine", "inconclusive"), "inconclusive"),
        (("inconclusive", "regressed"), "failed"),
        (("fine", "missing"), "failed"),
    ],
)
def test_the_outcome_of_a_check_is_that_of_its_gravest_cell(
    outcomes: Sequence[Outcome], said: str
) -> None:
    cells = tuple(replace(judged(), judgements=(Judgement("time", one),)) for one in outcomes)
    report = GateReport(
        *("sample", "spec.yaml", "base", "2026-01-02T03:04:05+00:00", 1.0, "", {}, "key", (), ()),
        cells,
    )
    section = check_section(Checks(report), "check/check.json")
    assert section.outcome == said
    only_warns = [
        replace(c, judgements=(replace(c.judgements[0], only_warns=True),)) for c in cells
    ]
    section = check_section(Checks(replace(report, cells=tuple(only_warns))), "check/check.json")
    assert section.outcome == ""


def test_whatever_a_check_says_stays_text() -> None:
    parsed = Parsed(checked_page(HOSTILE, judged(HOSTILE, HOSTILE)))
    assert len(programs(parsed)) == 1
    assert not parsed.all("img")
    assert "{{ 7*7 }}" in parsed.text
    assert sum(HOSTILE in e.text for e in parsed.all("td", "th")) >= 2
    assert [e.attributes["aria-label"] for e in parsed.all("svg")] == [HOSTILE] * 2


def test_a_check_that_cannot_be_read_is_a_remark() -> None:
    check = CheckSection("", remarks=("check/check.json is left out: it is torn.",))
    source = run_page.render(made(), [], [], [], Findings(), check)
    [section] = [e for e in Parsed(source).all("section") if e.attributes["id"] == "check"]
    lines = [line for line in section.text.split("\n") if line]
    assert lines == ["Check against the baseline", "check/check.json is left out: it is torn."]


def test_a_page_lists_the_files_beside_it_and_no_list_reaches_outside() -> None:
    listed = parts.listed_files(rendered(made()))
    assert "tables/final_loss.csv" in listed
    assert "tables/final_loss.tex" in listed
    assert "figures/loss_bowl.png" in listed
    bad = ["../x.csv", "tables/../../x.csv", "tables/..\\x.csv", "/tables/x.csv", "x.csv", 7]
    content = html.escape(json.dumps([*bad, "tables/x.csv"]))
    assert parts.listed_files(f'<meta name="harness-files" content="{content}">') == [
        "tables/x.csv"
    ]
    assert parts.listed_files("<p>somebody else's page</p>") == []
    assert parts.listed_files('<meta name="harness-files" content="nonsense">') == []


def of_comparison(results: read.Results) -> str:
    """A page with the matrix, the tables and the sentences of a comparison, and no figure."""
    analysis = analyse(results)
    built = [
        *trial_tables.build(results, analysis.means),
        *comparison_tables.build(results, analysis),
    ]
    said = summarise(results, analysis)
    return run_page.render(results, built, [], [], said, matrix=matrix_of.matrix(results, analysis))


def claim(value: str = "1.5", objective: str = "bowl", **more: Any) -> dict[str, Any]:
    told = {"value": value, "source": "a book, table 1", "optimizer": "sgd"}
    return {**told, "objective": objective, **more}


def tried(role: Literal["tuning", "sweep"], count: int) -> list[read.Tried]:
    statuses, losses = ("ok", "ok"), np.array([1.0, 2.0])
    return [
        read.Tried(role, "bowl", "sgd", "cpu", {"lr": float(i)}, "", statuses, losses)
        for i in range(count)
    ]


def test_published_numbers_stand_once_in_a_section_before_the_objectives() -> None:
    source = of_comparison(made(claims=[claim(), claim("0.5", "line")]))
    parsed = Parsed(source)
    headings = [e.text for e in parsed.all("h2")]
    assert headings.index("Published numbers") + 1 == headings.index("bowl")
    assert contents_of(parsed) == ["Summary", *headings]
    [anchor] = [e.attributes["id"] for e in parsed.all("table") if "claims" in str(e.attributes)]
    [table] = _grids(source, anchor)
    assert list(table["objective"]) == ["bowl", "line"]
    assert list(table["published"]) == ["1.5", "0.5"]
    for section in parsed.all("section"):
        inside = "a book, table 1" in section.text
        assert inside == (section.attributes["id"] == "published")
    assert source.count('download="claims.csv"') == 1
    [section] = [e for e in parsed.all("section") if e.attributes["id"] == "published"]
    assert "Welch's test" in section.text


def test_without_published_numbers_there_is_no_section_and_no_link_to_one() -> None:
    source = of_comparison(made())
    assert 'id="published"' not in source
    assert "#published" not in source
    assert "Published numbers" not in Parsed(source).text


@pytest.mark.parametrize("rows", [30, 31])
def test_a_table_of_more_than_30_rows_is_folded_and_its_download_is_whole(rows: int) -> None:
    frame = pd.DataFrame({"objective": ["bowl"] * rows, "value": range(rows)})
    shown = frame.assign(value=[f"value {i}" for i in range(rows)])
    source = run_page.render(
        made(), [Table("long", "Long", "A note.", frame, shown)], [], [], Findings()
    )
    parsed = Parsed(source)
    around, *folded = (e for e in parsed.all("details") if f"value {rows - 1}" in e.text)
    assert around.text.startswith("More: long (table)\n")
    assert len(folded) == (rows > 30)
    assert all(e.text.strip().startswith("All 31 rows") for e in folded)
    assert all("open" not in e.attributes for e in (around, *folded))
    [uri] = [e.attributes["href"] for e in parsed.all("a") if e.text == "long.csv"]
    back = pd.read_csv(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert list(back["value"]) == list(range(rows))
    [table] = _grids(source, "table-long-1-bowl")
    assert len(table) == rows


def test_the_scope_tells_what_tuning_and_sweeps_tried() -> None:
    results = made(tuning_seeds=[1_000_000, 1_000_001])
    own = "4 cases with 3 seeds each (0–2), 12 trials in all."
    once = " Tuning tried 1,200 settings with 2 other seeds, the same number for every tuned "
    once += "optimizer on every objective"
    plain = Parsed(rendered(results)).text
    assert own in plain
    assert "tuning" not in plain
    both = replace(results, tried=(*tried("tuning", 1200), *tried("sweep", 1030)))
    text = Parsed(rendered(both)).text
    assert own + once + "; sweeps tried 1,030 more with the same seeds." in text
    alone = Parsed(rendered(replace(results, tried=tuple(tried("tuning", 1200))))).text
    assert own + once + "." in alone
    assert "sweeps" not in alone


def test_whatever_a_comparison_says_stays_text() -> None:
    name, source_of, because = (f"{what}{HOSTILE}" for what in ("name", "source", "because"))
    endings: dict[tuple[str, str, str, str], Sequence[Ending]] = {
        ("bowl", name, HOSTILE, "cpu"): [ok(1.0), ok(2.0), ok(3.0)],
        ("bowl", "lion", HOSTILE, "cpu"): [ok(1.5), ok(2.0), ok(2.5)],
        ("line", name, HOSTILE, "cpu"): [ok(1.0), ok(2.0), ok(3.0)],
        ("line", "lion", HOSTILE, "cpu"): [ok(1.5), ok(2.0), ok(2.5)],
    }
    results = made(
        endings,
        claims=[claim(optimizer=name, source=source_of)],
        counterparts={name: {"optimizer": "lion", "because": because}},
    )
    parsed = Parsed(of_comparison(results))
    assert len(programs(parsed)) == 1
    assert not parsed.all("img")
    cells = [e.text for e in parsed.all("td", "th")]
    assert cells.count(source_of) == 1
    assert cells.count(because) == 2
    assert sum(name in cell for cell in cells) >= 10
    assert "{{ 7*7 }}" in parsed.text
    assert ">49<" not in parsed.text


TUNED = """\
suite: small
title: A small tuned run
seeds: 4
tuning: {trials: 6, seeds: 2, sweep: 4}
timing: {enabled: false}
objectives:
  noisy: {class: noisy_quadratic, batch_size: 10, steps: 20, targets: [1.5, 0.5]}
  still: {class: rosenbrock, arguments: {start_spread: 0.5}, steps: 20}
optimizers:
  sgd:
    class: torch.optim:SGD
    search:
      lr: {log_uniform: [1e-4, 10]}
      momentum: {one_minus_log_uniform: [0, 0.99]}
  adam:
    class: torch.optim:Adam
    search: {lr: {log_uniform: [1e-4, 10]}}
  fixed:
    class: torch.optim:SGD
    hyperparameters: {lr: 1e-3}
claims:
  - {value: "0.25", source: "<b>A book</b> & table 1", optimizer: fixed, objective: noisy}
  - {value: "0.5", source: "A book", optimizer: adam, objective: noisy, setting: tuned}
"""


def _grids(source: str, anchor: str) -> list[pd.DataFrame]:
    """The tables with an identifier, as pandas would see them."""
    found = re.findall(rf'<table id="{re.escape(anchor)}".*?</table>', source, flags=re.S)
    grids = []
    for text in found:
        cells = [
            [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd]\b.*?</t[hd]>", row)]
            for row in re.findall(r"<tr.*?</tr>", text, flags=re.S)
        ]
        rows = [[html.unescape(cell) for cell in row] for row in cells]
        grids.append(pd.DataFrame(rows[1:], columns=rows[0]))
    return grids


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context
    context.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _saved(tmp_path_factory.mktemp("page"), rendered(unlucky(missing="none " * 30)))


def _saved(folder: Path, source: str) -> str:
    path = folder / "index.html"
    path.write_text(source, encoding="utf-8")
    return path.as_uri()


def _opened(context: BrowserContext, address: str) -> Page:
    opened = context.new_page()
    opened.goto(address)
    return opened


def _unfold(opened: Page) -> None:
    """Open whatever is folded, as a reader does."""
    for summary in opened.locator("summary").all():
        summary.click()
    assert opened.locator("details:not([open])").count() == 0


@pytest.mark.parametrize("hostile", [False, True])
def test_a_browser_has_nothing_to_say_and_asks_for_nothing_more(
    context: BrowserContext, tmp_path: Path, hostile: bool
) -> None:
    results = unlucky(reason=HOSTILE) if hostile else made()
    address = _saved(tmp_path, rendered(results, [HOSTILE]))
    said: list[str] = []
    asked: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    opened.locator("th button").first.click()
    _unfold(opened)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]


SORTING = ("3", "1.2e-05", "–", "10", "-1", "0.5 to 0.7", "–", "1.20e+7", "3")


@pytest.fixture
def sortable(context: BrowserContext, tmp_path: Path) -> Page:
    """A page whose first objective table has known numbers; each row's optimizer is its place."""
    frame = pd.DataFrame(
        {
            "objective": ["bowl"] * len(SORTING),
            "optimizer": [f"row{i}" for i in range(len(SORTING))],
            "value": range(len(SORTING)),
        }
    )
    shown = frame.assign(value=list(SORTING))
    table = Table("sorted", "Sorted", "A note.", frame, shown)
    source = run_page.render(made(), [table], [], [], Findings())
    opened = _opened(context, _saved(tmp_path, source))
    _unfold(opened)
    return opened


def _order(opened: Page) -> str:
    names = opened.locator("#table-sorted-1-bowl tbody tr th").all_inner_texts()
    return "".join(name.removeprefix("row") for name in names)


def test_a_click_on_a_heading_sorts_numbers_as_numbers_and_dashes_last(sortable: Page) -> None:
    heading = sortable.locator("#table-sorted-1-bowl thead th", has_text="value")
    button = heading.get_by_role("button", name="value")
    assert heading.get_attribute("aria-sort") is None
    button.click()
    assert _order(sortable) == "415083726"
    assert heading.get_attribute("aria-sort") == "ascending"
    button.click()
    assert _order(sortable) == "730851426"
    assert heading.get_attribute("aria-sort") == "descending"
    button.click()
    assert _order(sortable) == "012345678"
    assert heading.get_attribute("aria-sort") is None


def test_the_keyboard_sorts_as_the_mouse_does_and_ties_keep_their_order(sortable: Page) -> None:
    table = sortable.locator("#table-sorted-1-bowl")
    name = table.get_by_role("button", name="optimizer")
    name.focus()
    sortable.keyboard.press("Enter")
    sortable.keyboard.press("Enter")
    assert _order(sortable) == "876543210"
    sortable.keyboard.press("Tab")
    sortable.keyboard.press("Space")
    assert _order(sortable) == "415803762"
    sorts = [th.get_attribute("aria-sort") for th in table.locator("thead th").all()]
    assert sorts == [None, "ascending"]


def test_a_page_without_scripts_shows_everything(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = _opened(context, address)
    assert opened.locator("details").count() > 5
    tables = opened.locator("table").all()
    assert len(tables) > 5
    assert all(table.is_visible() for table in tables)
    assert opened.locator("details[open]").count() == 0
    assert opened.get_by_text("suite: sample").is_visible()
    assert opened.locator("button:visible").count() == 0
    assert opened.locator("[role=status]:visible").count() == 0
    assert opened.locator(".download a").first.is_visible()
    assert opened.locator("#cite blockquote").is_visible()
    assert all(picture.is_visible() for picture in opened.locator("svg[role=img]").all())
    context.close()


def test_on_paper_nothing_is_folded(context: BrowserContext, address: str) -> None:
    opened = _opened(context, address)
    inside = opened.locator("details > :not(summary)").all()
    assert len(inside) > 5
    assert not any(one.is_visible() for one in inside)
    opened.emulate_media(media="print")
    assert opened.locator("details[open]").count() == 0
    kept = [one for one in inside if "download" not in (one.get_attribute("class") or "")]
    assert all(one.is_visible() for one in kept)
    heights = [one.evaluate("one => one.getBoundingClientRect().height") for one in kept]
    assert min(heights) > 10
    paper = opened.locator(
        "nav:visible, :not(th) > button:visible, .download:visible, #choices:visible"
    )
    assert paper.count() == 0


def test_a_download_has_a_name_and_a_table_in_it(context: BrowserContext, address: str) -> None:
    opened = _opened(context, address)
    _unfold(opened)
    with opened.expect_download() as waiting:
        opened.locator("a[download='final_loss.csv']").click()
    assert waiting.value.suggested_filename == "final_loss.csv"
    frame = pd.read_csv(waiting.value.path())
    assert list(frame["optimizer"]) == ["sgd", "lion"]


COPIED = [
    *("3", "-1.2e-05", "–", "∞", "0.5 to 0.7", "a|b_c"),
    """</td>\\ [-1] {$&%#} ~^<>"`'' -- ,, … − × µ ± ≤ é 😀""",
]


def copied_table(rows: int = 1) -> Table:
    """A table of one objective with hostile cells and settings, as often as asked for."""
    frame = pd.DataFrame(
        {
            "objective": ["bowl"] * len(COPIED) * rows,
            "optimizer": [f"row{i}" for i in range(len(COPIED) * rows)],
            "setting": ["", "lr=1e-05", *[""] * (len(COPIED) - 2)] * rows,
            "told": COPIED * rows,
            "n": [f"{i - 3}" for i in range(len(COPIED))] * rows,
        }
    )
    shown = frame.assign(setting=[text or "–" for text in frame["setting"]])
    return Table("final_loss", "Final & loss", "A 5% note − of 2 µs.", frame, shown)


def as_on_page(table: Table, objective: str = "bowl") -> Table:
    """What is copied of a table from an objective's section: its rows, without its name."""
    rows = table.frame["objective"] == objective
    own = replace(
        table,
        name=table.name if rows.all() else f"{table.name}-{objective}",
        title=f"{objective}: {table.title}",
        frame=table.frame[rows].drop(columns="objective"),
        shown=table.shown[rows].drop(columns="objective"),
    )
    return as_shown(own)


def as_shown(table: Table) -> Table:
    """A table without the device where there is one, and without columns that are empty."""
    gone = [name for name in table.shown if not any(table.shown[name])]
    if "device" in table.shown and table.frame["device"].nunique() == 1:
        gone.append("device")
    return replace(table, shown=table.shown.drop(columns=gone))


@pytest.fixture
def reading(context: BrowserContext) -> BrowserContext:
    """A browser whose clipboard the test may read."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    return context


def _clipboard(opened: Page) -> str:
    return str(opened.evaluate("navigator.clipboard.readText()"))


@pytest.mark.parametrize("rows", [1, 6])
def test_a_copy_is_what_the_files_have_of_the_rows_that_are_shown(
    reading: BrowserContext, tmp_path: Path, rows: int
) -> None:
    table = copied_table(rows)
    opened = _opened(
        reading, _saved(tmp_path, run_page.render(made(), [table], [], [], Findings()))
    )
    _unfold(opened)
    line = opened.locator(".download", has_text="final_loss.csv")
    shown = as_on_page(table)
    line.get_by_role("button", name="Copy as Markdown: bowl: Final & loss").click()
    line.get_by_text("Copied", exact=True).wait_for()
    assert _clipboard(opened) == shown.to_markdown()
    line.get_by_role("button", name="Copy as LaTeX").click()
    opened.wait_for_function("async () => (await navigator.clipboard.readText())[0] === '%'")
    assert _clipboard(opened) == shown.to_latex()
    assert ("longtable" in shown.to_latex()) == (rows == 6)


def test_copies_of_a_real_report_are_the_rows_of_its_files(
    reading: BrowserContext, tmp_path: Path
) -> None:
    results = made(claims=[claim(), claim("0.5", "line")])
    analysis = analyse(results)
    built = [
        *trial_tables.build(results, analysis.means),
        *comparison_tables.build(results, analysis),
    ]
    opened = _opened(reading, _saved(tmp_path, of_comparison(results)))
    _unfold(opened)
    reads = "navigator.clipboard.readText()"
    seen = 0
    for table in built:
        for objective in ("bowl", "line"):
            files = (f"{table.name}-{objective}.csv", f"{table.name}.csv")
            line = opened.locator(".download").filter(
                has=opened.locator(", ".join(f"a[download='{file}']" for file in files))
            )
            if "objective" not in table.frame or not line.count():
                continue
            of_all = table.name in ("claims", "sharing")
            whole = as_shown(table) if of_all else as_on_page(table, objective)
            if table.name == "seconds_per_epoch":
                whole = replace(whole, title=f"{objective}: seconds per epoch")
            for name, text in (("Markdown", whole.to_markdown()), ("LaTeX", whole.to_latex())):
                opened.evaluate("navigator.clipboard.writeText('')")
                line.get_by_role("button", name=name).click()
                opened.wait_for_function(f"async () => (await {reads}) !== ''")
                assert _clipboard(opened) == text
                seen += 1
    assert seen >= 12


def test_the_keyboard_copies_the_rows_in_the_order_they_were_sorted_to(
    reading: BrowserContext, tmp_path: Path
) -> None:
    table = copied_table()
    opened = _opened(
        reading, _saved(tmp_path, run_page.render(made(), [table], [], [], Findings()))
    )
    _unfold(opened)
    heading = opened.locator("#table-final_loss-1-bowl").get_by_role("button", name="n")
    heading.last.click()
    heading.last.click()
    opened.locator(".download a[download='final_loss.csv']").focus()
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    opened.get_by_role("status").filter(has_text="Copied").wait_for()
    assert opened.evaluate("document.activeElement.textContent") == "Copy as Markdown"
    backwards = replace(table, frame=table.frame[::-1], shown=table.shown[::-1])
    assert _clipboard(opened) == as_on_page(backwards).to_markdown()


@pytest.mark.parametrize(
    "clipboard",
    [
        "undefined",
        pytest.param(
            "{ writeText: () => Promise.reject(new Error('not here')) }",
            marks=pytest.mark.exhaustive,
        ),
        pytest.param("{ writeText: () => new Promise(() => {}) }", marks=pytest.mark.exhaustive),
    ],
)
def test_where_the_clipboard_is_kept_from_the_page_a_selection_is_copied(
    reading: BrowserContext, tmp_path: Path, clipboard: str
) -> None:
    table = copied_table()
    other = _opened(reading, _saved(tmp_path, run_page.render(made(), [table], [], [], Findings())))
    opened = reading.new_page()
    opened.add_init_script(
        f"Object.defineProperty(navigator, 'clipboard', {{ value: {clipboard} }})"
    )
    opened.goto(other.url)
    _unfold(opened)
    button = opened.get_by_role("button", name="Copy as LaTeX")
    button.click()
    opened.get_by_role("status").filter(has_text="Copied").wait_for()
    assert button.evaluate("button => button === document.activeElement")
    assert opened.locator("textarea").count() == 0
    other.bring_to_front()
    assert _clipboard(other) == as_on_page(table).to_latex()


def test_what_could_not_be_copied_is_said(context: BrowserContext, tmp_path: Path) -> None:
    opened = context.new_page()
    opened.add_init_script(
        "Object.defineProperty(navigator, 'clipboard', { value: undefined });"
        "document.execCommand = () => false;"
    )
    opened.goto(_saved(tmp_path, run_page.render(made(), [copied_table()], [], [], Findings())))
    _unfold(opened)
    opened.get_by_role("button", name="Copy as LaTeX").click()
    said = opened.get_by_role("status").filter(has_text="did not allow copying")
    said.wait_for()
    assert said.count() == 1


def test_the_entry_and_the_sentence_to_cite_are_copied_as_they_stand(
    reading: BrowserContext, tmp_path: Path
) -> None:
    results = made()
    opened = _opened(reading, _saved(tmp_path, rendered(results)))
    for name, text in (
        ("Copy BibTeX", citation.bibtex(results.run)),
        ("Copy sentence", citation.sentence(results.run)),
    ):
        opened.evaluate("navigator.clipboard.writeText('')")
        opened.get_by_role("button", name=name).click()
        opened.wait_for_function("async () => (await navigator.clipboard.readText()) !== ''")
        assert _clipboard(opened) == text


@pytest.mark.parametrize("width", [320, 390, 1440])
def test_the_page_never_scrolls_sideways(browser: Browser, address: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    opened = _opened(context, address)
    _unfold(opened)
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    context.close()


def test_a_wide_table_scrolls_in_its_box_which_the_keyboard_reaches(
    browser: Browser, address: str
) -> None:
    context = browser.new_context(viewport={"width": 660, "height": 800})
    opened = _opened(context, address)
    box = opened.locator(".scroll", has=opened.locator("#table-failures-all"))
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    assert box.get_attribute("tabindex") == "0"
    box.focus()
    opened.keyboard.press("End")
    opened.keyboard.press("ArrowRight")
    opened.wait_for_timeout(300)
    assert box.evaluate("box => box.scrollLeft") > 0
    context.close()


def test_the_first_tab_leads_past_the_contents(context: BrowserContext, address: str) -> None:
    opened = _opened(context, address)
    opened.keyboard.press("Tab")
    focused = "document.activeElement"
    assert opened.evaluate(f"{focused}.textContent") == "Skip to the results"
    assert opened.evaluate(f"{focused}.getBoundingClientRect().left") >= 0
    assert opened.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
    opened.keyboard.press("Enter")
    assert opened.evaluate(f"{focused}.id") == "main"


LOW_CONTRAST = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map(
      (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(e).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, svg")) continue;
    const [a, b] = [light(channels(getComputedStyle(element).color).slice(0, 3)),
      light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${node.data.trim().slice(0, 30)}`);
  }
  return low;
}"""


def test_light_and_dark_differ_and_all_text_stands_out_in_both(
    browser: Browser, address: str
) -> None:
    papers = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        opened = _opened(context, address)
        _unfold(opened)
        papers[scheme] = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        assert opened.evaluate(LOW_CONTRAST) == []
        ink = opened.evaluate("getComputedStyle(document.querySelector('svg use')).fill")
        assert ink == opened.evaluate("getComputedStyle(document.body).color")
        context.close()
    assert papers == {"light": "rgb(254, 254, 253)", "dark": "rgb(23, 24, 26)"}


@pytest.fixture(scope="module")
def tuned_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with everything in it that a comparison has."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "spec.yaml").write_text(TUNED)
    options = running.RunOptions(output=folder / "report")
    return running.run(folder / "spec.yaml", options, NullProgress()).page


def test_the_page_of_a_real_run_is_well_formed_and_has_everything(tuned_page: Path) -> None:
    parsed = Parsed(tuned_page.read_text(encoding="utf-8"))
    ids = [e.attributes["id"] for e in parsed.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    shown = [e.attributes["id"] for e in parsed.all("figure")]
    for kind in ("differences", "runtime", "sensitivity", "heat"):
        assert {f"figure-{kind}_noisy", f"figure-{kind}_still"} <= set(shown)
    assert {"figure-published_noisy", "figure-profile", "figure-runtime"} <= set(shown)
    assert "<b>A book</b> & table 1" in parsed.text


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.exhaustive)])
def test_a_browser_shows_a_real_run_and_has_nothing_to_say(
    browser: Browser, tuned_page: Path, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 800})
    said: list[str] = []
    asked: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(tuned_page.as_uri())
    _unfold(opened)
    for figure in opened.locator("figure").all():
        figure.scroll_into_view_if_needed()
    expect(opened.locator("figure.is-live").last).to_be_visible(timeout=30_000)
    assert opened.locator("#figure-heat_noisy svg image").count() >= 2
    assert opened.evaluate("document.documentElement.scrollWidth") == 390
    assert opened.evaluate(LOW_CONTRAST) == []
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [tuned_page.as_uri()]
    context.close()


FONTS = """() => [...new Set([...document.querySelectorAll("figure svg text")].map(
  (text) => getComputedStyle(text).fontFamily.split(",")[0]))]"""


def test_texts_of_drawings_have_the_font_that_they_were_measured_with(
    context: BrowserContext, tuned_page: Path
) -> None:
    opened = _opened(context, tuned_page.as_uri())
    assert opened.evaluate(FONTS) == ['"DejaVu Sans"']
