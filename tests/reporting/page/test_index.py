"""The list of reports: what it lists, when it is written, and what it never writes over."""

from __future__ import annotations

import contextlib
import html
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from builders import make_plan
from click.testing import CliRunner
from playwright.sync_api import Browser

from harness import cli
from harness.commands import run as running
from harness.gate import report as verdicts
from harness.gate.report import CellVerdict, GateReport, Judgement
from harness.plan.model import Plan
from harness.progress import NullProgress
from harness.reporting.figures.draw import Drawing
from harness.reporting.figures.records import FigureRecord
from harness.reporting.page import index as shelf
from harness.reporting.page import parts
from harness.results import Description, TrialResult
from harness.spec.validation import load
from harness.store import database
from harness.store.database import Store
from harness.store.records import RunSettings

HOSTILE = (
    """</title></script><script>alert(1)</script><img src=x onerror="alert(1)">&lt;{{ 7*7 }}"""
)

SPEC = """\
suite: small
seeds: 3
timing: {enabled: false}
devices: [cpu]
objectives:
  rosenbrock_2d: {steps: 5}
  booth: {steps: 5}
optimizers:
  sgd: {class: "torch.optim:SGD", hyperparameters: {lr: [1e-4, 1e-3]}}
"""
DESCRIPTION: dict[str, Any] = {
    **{"formula": "f", "dimension": 2, "rows": 0, "steps": 5, "steps_per_epoch": 1},
    **{"record_steps": [0, 5], "optimum": 0.0, "minimizers": [], "window": None, "landscape": []},
    "data_source": "",
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    spec = tmp_path_factory.mktemp("spec") / "spec.yaml"
    spec.write_text(SPEC)
    return make_plan(load(spec))


def put(
    folder: Path,
    plan: Plan,
    *,
    title: str = "",
    started: str = "",
    statuses: Sequence[str] = ("ok", "ok", "ok"),
    finished: bool = True,
) -> Path:
    """A folder with a run of whose every case the seeds ended so."""
    path = folder / "results.sqlite"
    with Store(path, create=True) as db:
        db.begin_run(
            plan,
            command="python -m harness run spec.yaml",
            spec_file="spec.yaml",
            spec_text=SPEC,
            settings=RunSettings(title=title, seeds=(0, 1, 2), machine="m"),
            environment={"python": "3"},
            descriptions={planned.name: Description(**DESCRIPTION) for planned in plan.objectives},
            defaults={},
        )
        results = [
            TrialResult(case.key, seed, status, 5, "", 0.1, "pointwise", np.array([1.0, 0.5]))  # type: ignore[arg-type]
            for case in plan.cases
            for seed, status in enumerate(statuses)
        ]
        # A seed that this run does not compare any more is not counted.
        results.append(TrialResult(plan.cases[0].key, 9, "error", 5, "", 0.1, "pointwise"))
        db.save_trials(results, "m")
        if finished:
            db.finish_run()
        if started:
            db.db.execute("UPDATE runs SET started = ?", (started,))
    return folder


def page(folder: Path, finding: str = "", name: str = "harness-files") -> None:
    """A page as we write it, as far as its head goes."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f'<meta name="description" content="{html.escape(finding)}">\n' if finding else ""
    text = f'{text}<meta name="{name}" content="[]">\n<title>x</title>'
    (folder / "index.html").write_text(text)


def rows(folder: Path, table: str = "runs") -> list[list[str]]:
    """The cells of a table of the list, as text."""
    text = (folder / "index.html").read_text()
    body = re.search(rf'<table id="table-{table}".*?<tbody>(.*?)</tbody>', text, re.S)
    assert body is not None
    return [
        [
            html.unescape(re.sub(r"<[^>]+>", "", cell))
            for cell in re.findall(r"<t[hd]\b.*?</t[hd]>", row, re.S)
        ]
        for row in re.findall(r"<tr.*?</tr>", body[1], re.S)
    ]


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    folder.mkdir()
    return folder


def test_a_row_says_what_a_run_was_and_what_came_of_it(reports: Path, plan: Plan) -> None:
    put(
        reports / "one",
        plan,
        title="The one",
        started="2026-01-02T03:04:05+00:00",
        statuses=("ok", "ok", "diverged"),
    )
    page(reports / "one", "Sgd < all & it's so.")
    assert shelf.update(reports / "one") == ""
    assert rows(reports) == [
        [
            "The one one/",
            "2026-01-02 03:04:05 UTC",
            "small",
            "1 × 2",
            "8 ok, 4 diverged",
            "Sgd < all & it's so.",
            "–",
        ]
    ]
    text = (reports / "index.html").read_text()
    assert '<a href="./one/index.html">The one</a>' in text


def test_the_list_is_newest_first_and_grows_and_shrinks_with_what_is_there(
    reports: Path, plan: Plan
) -> None:
    for name, year in (("b", 2024), ("a", 2026), ("c", 2025)):
        put(reports / name, plan, started=f"{year}-01-01T00:00:00+00:00")
        assert shelf.update(reports / name) == ""
    assert [row[0] for row in rows(reports)] == ["small a/", "small c/", "small b/"]
    shutil.rmtree(reports / "a")
    assert shelf.update(reports / "b") == ""
    assert [row[0] for row in rows(reports)] == ["small c/", "small b/"]


def test_what_is_lacking_or_cut_short_is_said(reports: Path, plan: Plan) -> None:
    put(reports / "a", plan, statuses=("ok", "error"), finished=False)
    shelf.update(reports / "a")
    [row] = rows(reports)
    assert row[4] == "4 ok, 4 error, 4 without a result"
    assert row[5] == "still running, or cut short"


def test_what_cannot_be_read_is_a_row_that_says_why(reports: Path, plan: Plan) -> None:
    put(reports / "fine", plan)
    for name in ("text", "empty", "newer", "foreign", "odd"):
        (reports / name).mkdir()
    (reports / "text" / "results.sqlite").write_text("not a database, and longer than a header")
    (reports / "empty" / "results.sqlite").touch()
    put(reports / "newer", plan)
    put(reports / "odd", plan)
    for name, statement in (
        ("newer", "PRAGMA user_version = 99"),
        ("foreign", "CREATE TABLE t (x)"),
        ("odd", "UPDATE runs SET settings = 'no JSON'"),
    ):
        with contextlib.closing(sqlite3.connect(reports / name / "results.sqlite")) as db, db:
            db.execute(statement)
    (reports / "folder" / "results.sqlite").mkdir(parents=True)
    page(reports / "lost")
    (reports / "notes").mkdir()
    (reports / ".hidden").mkdir()
    (reports / "file.txt").write_text("x")
    assert shelf.update(reports / "fine") == ""
    said = {row[0].partition(" ")[0]: row[5] for row in rows(reports)}
    assert list(said) == ["small", "empty", "folder", "foreign", "lost", "newer", "odd", "text"]
    assert said["text"].startswith("can't be read: results.sqlite is not a usable results file")
    assert said["empty"] == "no results here yet"
    assert "has schema version 99" in said["newer"]
    assert "is an SQLite file of something else" in said["foreign"]
    assert said["odd"].startswith(
        "can't be read: results.sqlite holds a run that can't be read: JSONDecodeError"
    )
    assert said["lost"] == "no results.sqlite here"
    assert said["folder"] == "no results here yet"


def test_settings_that_were_only_tried_are_not_counted(reports: Path, plan: Plan) -> None:
    path = put(reports / "tuned", plan) / "results.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE run_cases SET role = 'tuning' WHERE position = 0")
        db.execute("UPDATE run_cases SET role = 'sweep' WHERE position = 1")
    seen = database.summarize(path)
    assert seen is not None
    assert (seen.cases, seen.statuses) == (2, {"ok": 6})


def checked(outcome: Literal["fine", "regressed"]) -> str:
    cell = CellVerdict("i", "o", "sgd", "", "cpu", "spec.yaml", (Judgement("time", outcome),))
    report = GateReport(
        suite="small",
        spec_file="spec.yaml",
        against="baseline.json",
        taken="2026-01-02T03:04:05+00:00",
        seconds=1.0,
        git="",
        machine={},
        machine_key="m",
        differs=(),
        controls=(),
        cells=(cell,),
    )
    return verdicts.to_json(report)


def test_the_latest_check_is_told_even_where_nothing_was_run(reports: Path, plan: Plan) -> None:
    for name, text in (
        ("fine", checked("fine")),
        ("worse", checked("regressed")),
        ("broken", "{}"),
    ):
        put(reports / name, plan)
        (reports / name / "check").mkdir()
        (reports / name / "check" / "check.json").write_text(text)
    with Store(reports / "only" / "results.sqlite", create=True):
        pass
    (reports / "only" / "check").mkdir()
    (reports / "only" / "check" / "check.json").write_text(checked("fine"))
    shelf.update(reports / "fine")
    said = {row[0].split()[-1]: row[5:] for row in rows(reports)}
    when = "against baseline.json, 2026-01-02 03:04:05 UTC"
    assert said == {
        "fine/": ["–", f"passed {when}"],
        "worse/": ["–", f"regressed {when}"],
        "broken/": ["–", "can't be read"],
        "only/": ["holds no run, only what checks measured", f"passed {when}"],
    }


def test_pages_of_results_side_by_side_have_a_table_of_their_own(reports: Path, plan: Plan) -> None:
    put(reports / "a", plan)
    about = {"sources": ["x", "y<b>"], "started": "2026-01-02T03:04:05+00:00"}
    for name, more in (("both", {"cases": 1200, "shared": 3}), ("bad", {})):
        (reports / name).mkdir()
        text = html.escape(json.dumps({**about, **more}))
        (reports / name / "index.html").write_text(
            '<meta name="description" content="All equal.">\n'
            f'<meta name="harness-side-by-side" content="{text}">'
        )
    shelf.update(reports / "a")
    assert len(rows(reports)) == 1
    assert rows(reports, "several") == [
        ["x, y<b> both/", "2026-01-02 03:04:05 UTC", "3 of 1,200 cases in several", "All equal."],
        ["bad bad/", "–", "–", "can't be read"],
    ]


# Whose page it is


def test_a_page_that_is_not_the_list_is_never_written_over(reports: Path, plan: Plan) -> None:
    put(reports / "a", plan)
    index = reports / "index.html"
    for text in ("<title>mine</title>", '<meta name="harness-files" content="[]">', ""):
        index.write_text(text)
        assert shelf.update(reports / "a") == ""
        assert index.read_text() == text
    index.unlink()
    index.mkdir()
    assert shelf.update(reports / "a") == ""
    index.rmdir()
    index.symlink_to("elsewhere.html")
    assert shelf.update(reports / "a") == ""
    assert index.is_symlink()
    assert not (reports / "elsewhere.html").exists()


def test_nothing_is_written_beside_a_folder_that_lies_elsewhere(tmp_path: Path, plan: Plan) -> None:
    put(tmp_path / "out", plan)
    assert shelf.update(tmp_path / "out") == ""
    assert not (tmp_path / "index.html").exists()


def test_a_folder_with_results_of_its_own_is_a_report_and_no_shelf(
    reports: Path, plan: Plan
) -> None:
    put(reports, plan)
    put(reports / "a", plan)
    assert shelf.update(reports / "a") == ""
    assert not (reports / "index.html").exists()


def test_a_list_that_is_there_is_kept_up_whatever_its_folder_is_called(
    tmp_path: Path, reports: Path, plan: Plan
) -> None:
    put(reports / "a", plan)
    shelf.update(reports / "a")
    moved = reports.rename(tmp_path / "kept")
    put(moved / "b", plan)
    assert shelf.update(moved / "b") == ""
    assert len(rows(moved)) == 2
    assert "<title>Reports in kept</title>" in (moved / "index.html").read_text()


def test_where_the_list_cannot_be_written_that_is_a_note_and_nothing_is_left(
    reports: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(reports / "a", plan)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    note = shelf.update(reports / "a")
    assert note == (
        f"{reports / 'index.html'}: the list of reports can't be written: No space left on device"
    )
    monkeypatch.undo()

    def broken(*_: object) -> str:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(shelf, "render", broken)
    assert shelf.update(reports / "a").endswith("RuntimeError: a mistake of ours")
    assert [path.name for path in reports.iterdir()] == ["a"]


def test_whatever_names_hold_stays_text_and_links_stay_below(reports: Path, plan: Plan) -> None:
    odd = 'javascript:alert(1) "><img src=x>&#39; ünï'
    put(reports / odd, plan, title=HOSTILE)
    page(reports / odd, HOSTILE)
    shelf.update(reports / odd)
    text = (reports / "index.html").read_text()
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert ">49<" not in text
    [row] = rows(reports)
    assert row[0] == f"{HOSTILE} {odd}/"
    assert row[5] == HOSTILE
    [link] = re.findall(r'<a href="(\./[^"]*)"', text)
    assert re.fullmatch(r"\./[A-Za-z0-9%._-]+/index\.html", link)
    assert "//" not in text.partition("</style>")[2].partition("<script>")[0]


def test_the_list_needs_neither_torch_nor_what_figures_are_drawn_with(
    reports: Path, plan: Plan
) -> None:
    put(reports / "a", plan)
    code = (
        "import sys; from pathlib import Path; from harness.reporting.page import index as shelf\n"
        "note = shelf.update(Path(sys.argv[1]))\n"
        "print(repr(note), [n in sys.modules for n in ('torch', 'matplotlib', 'scipy')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(reports / "a")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "'' [False, False, False]"


# With the commands


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that take no time to draw."""

    def sketch(records: Sequence[FigureRecord]) -> list[Drawing]:
        return [Drawing(record.name, "<svg><g/></svg>", b"\x89PNG") for record in records]

    monkeypatch.setattr("harness.reporting.figures.draw.draw_all", sketch)


@pytest.mark.usefixtures("sketched")
def test_a_run_a_report_and_a_page_side_by_side_write_the_list_anew(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    page_path = running.run(tmp_path / "spec.yaml", running.Options(), NullProgress()).page
    reports = tmp_path / "reports"
    [row] = rows(reports)
    first = parts.told(page_path, "description")
    assert first.startswith("On rosenbrock_2d")
    assert row[3:6] == ["1 × 2", "12 ok", first]
    (reports / "index.html").unlink()
    runner = CliRunner()
    done = runner.invoke(cli.main, ["report", str(reports / "small"), "--format", "csv"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(rows(reports)) == 1
    shutil.copytree(reports / "small", reports / "again")
    done = runner.invoke(cli.main, ["report", str(reports / "small"), str(reports / "again")])
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(rows(reports)) == 2
    [row] = rows(reports, "several")
    assert row[0] == "small, again side-by-side/"
    assert row[2] == "4 of 4 cases in several"
    assert "of 4 comparisons, all are of the same computation" in row[3]


@pytest.mark.usefixtures("sketched")
def test_a_list_that_cannot_be_written_is_a_note_of_the_report(
    reports: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(reports / "a", plan)
    monkeypatch.setattr(shelf, "update", lambda _: "no list")
    done = CliRunner().invoke(cli.main, ["report", str(reports / "a"), "--format", "csv"])
    assert (done.exit_code, done.stderr) == (0, "note: no list\n")


# In a browser


@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_sorts_the_list_follows_its_links_and_has_nothing_to_say(
    browser: Browser, reports: Path, plan: Plan, width: int
) -> None:
    for name, title in (("a", "Zebra"), ("b&c #1?", HOSTILE)):
        year = 2026 if name == "a" else 2025
        put(reports / name, plan, title=title, started=f"{year}-01-01T00:00:00+00:00")
        page(reports / name, "Found.")
    shelf.update(reports / "a")
    address = (reports / "index.html").as_uri()
    scheme: Literal["light", "dark"] = "dark" if width == 390 else "light"
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    names = opened.locator("#table-runs tbody th small")
    assert names.all_inner_texts() == ["a/", "b&c #1?/"]
    opened.get_by_role("button", name="started").click()
    assert names.all_inner_texts() == ["b&c #1?/", "a/"]
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    opened.locator("#table-runs tbody th a").first.click()
    opened.wait_for_url("**/b%26c%20%231%3F/index.html")
    assert opened.title() == "x"
    context.close()
