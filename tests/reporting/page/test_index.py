"""The list of reports: what it lists, when it is written, and what it never writes over."""

from __future__ import annotations

import base64
import html
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from click.testing import CliRunner
from PIL import Image
from playwright.sync_api import Browser

from harness import cli
from harness.commands import run as running
from harness.gate import report as verdicts
from harness.gate.report import CellVerdict, GateReport, Judgement
from harness.progress import NullProgress
from harness.reporting.figures.draw import Drawing
from harness.reporting.figures.records import FigureRecord
from harness.reporting.page import index, parts

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


def put(folder: Path, finding: str = "", **summary: Any) -> Path:
    """A folder with a report, as far as the head of its page goes."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {"title": "small", "suite": "small", "sources": 1, "finding": finding, **summary}
    text = html.escape(index.RunSummary(**given).model_dump_json())
    (folder / "index.html").write_text(
        f'<meta name="harness-summary" content="{text}">\n'
        '<meta name="harness-files" content="[]">\n<title>x</title>'
    )
    return folder


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


def test_a_row_says_what_a_run_was_and_what_came_of_it(reports: Path) -> None:
    put(
        reports / "one",
        "Sgd < all & it's so.",
        title="The one",
        started="2026-01-02T03:04:05+00:00",
        size="1 × 2",
        trials=(("ok", 8), ("diverged", 4)),
    )
    assert index.update(reports / "one") == ""
    assert rows(reports) == [
        [
            "The one one/",
            "Sgd < all & it's so.",
            "–",
            "8 ok, 4 diverged",
            "1 × 2",
            "2026-01-02 03:04:05 UTC",
            "small",
        ]
    ]
    text = (reports / "index.html").read_text()
    assert '<a href="./one/index.html">The one</a>' in text


def test_the_list_is_newest_first_and_grows_and_shrinks_with_what_is_there(reports: Path) -> None:
    for name, year in (("b", 2024), ("a", 2026), ("c", 2025)):
        put(reports / name, started=f"{year}-01-01T00:00:00+00:00")
        assert index.update(reports / name) == ""
    assert [row[0] for row in rows(reports)] == ["small a/", "small c/", "small b/"]
    shutil.rmtree(reports / "a")
    assert index.update(reports / "b") == ""
    assert [row[0] for row in rows(reports)] == ["small c/", "small b/"]


def test_what_is_lacking_or_cut_short_is_said(reports: Path) -> None:
    put(reports / "a", trials=(("ok", 4), ("error", 4)), missing=4, finished=False)
    index.update(reports / "a")
    [row] = rows(reports)
    assert row[3] == "4 ok, 4 error, 4 without a result"
    assert row[1] == "not finished: still running, or cut short"


def test_a_page_that_tells_nothing_of_itself_is_a_row_that_says_so(reports: Path) -> None:
    put(reports / "fine")
    for name, head in (
        ("older", ""),
        ("torn", '<meta name="harness-summary" content="{">'),
        ("odd", '<meta name="harness-summary" content="{&quot;trials&quot;: 3}">'),
    ):
        (reports / name).mkdir()
        text = f'{head}<meta name="harness-files" content="[]">'
        (reports / name / "index.html").write_text(text)
    (reports / "bare").mkdir()
    (reports / "bare" / "results.sqlite").write_text("whatever stands in it")
    (reports / "notes").mkdir()
    (reports / ".hidden").mkdir()
    (reports / "file.txt").write_text("x")
    assert index.update(reports / "fine") == ""
    said = {row[0].split()[-1]: row[1] for row in rows(reports)}
    older = "its page is of an older version; harness report {} makes it anew"
    assert said == {
        "bare/": "no page yet",
        "fine/": "–",
        **{f"{name}/": older.format(name) for name in ("odd", "older", "torn")},
    }


def test_a_row_shows_the_key_figure_and_nothing_that_is_no_picture(reports: Path) -> None:
    picture = parts.thumbnail(png())
    head = '<meta name="harness-thumbnail" content="{}">'
    for name, content in (
        ("a", picture),
        ("b", "javascript:alert(1)"),
        ("c", 'data:image/webp;base64,AA"><script>alert(1)</script>'),
        ("d", "data:image/svg+xml;base64,AAAA"),
    ):
        page = put(reports / name) / "index.html"
        page.write_text(page.read_text() + head.format(html.escape(content)))
    index.update(reports / "a")
    text = (reports / "index.html").read_text()
    assert re.findall(r'<img src="([^"]*)"', text) == [picture]
    assert text.count("<script>") == 1


def png() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (2370, 1200), "#0072b2").save(written, "PNG")
    return written.getvalue()


def test_a_thumbnail_is_the_picture_made_small_and_of_no_picture_there_is_none() -> None:
    head, _, body = parts.thumbnail(png()).partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        assert image.size == (360, 182)
    assert parts.thumbnail(b"") == parts.thumbnail(b"\x89PNG") == ""


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


def test_the_latest_check_is_told_even_where_nothing_was_run(reports: Path) -> None:
    for name, text in (
        ("fine", checked("fine")),
        ("worse", checked("regressed")),
        ("broken", "{}"),
        ("only", checked("fine")),
    ):
        if name != "only":
            put(reports / name)
        (reports / name / "check").mkdir(parents=True)
        (reports / name / "check" / "check.json").write_text(text)
    index.update(reports / "fine")
    said = {row[0].split()[-1]: row[1:3] for row in rows(reports)}
    when = "against baseline.json, 2026-01-02 03:04:05 UTC"
    assert said == {
        "fine/": ["–", f"passed {when}"],
        "worse/": ["–", f"regressed {when}"],
        "broken/": ["–", "can't be read"],
        "only/": ["no page yet", f"passed {when}"],
    }
    text = (reports / "index.html").read_text()
    failed = re.findall(r'<td class="[^"]*\bbad\b[^"]*"[^>]*>([^<]*)<', text)
    assert failed == ["can\u0026#39;t be read", f"regressed {when}"]


# Whose page it is


def test_a_page_that_is_not_the_list_is_never_written_over(reports: Path) -> None:
    put(reports / "a")
    page = reports / "index.html"
    for text in ("<title>mine</title>", '<meta name="harness-files" content="[]">', ""):
        page.write_text(text)
        assert index.update(reports / "a") == ""
        assert page.read_text() == text
    page.unlink()
    page.mkdir()
    assert index.update(reports / "a") == ""
    page.rmdir()
    page.symlink_to("elsewhere.html")
    assert index.update(reports / "a") == ""
    assert page.is_symlink()
    assert not (reports / "elsewhere.html").exists()


def test_nothing_is_written_beside_a_folder_that_lies_elsewhere(tmp_path: Path) -> None:
    put(tmp_path / "out")
    assert index.update(tmp_path / "out") == ""
    assert not (tmp_path / "index.html").exists()


def test_a_folder_with_results_of_its_own_is_a_report_and_no_list(reports: Path) -> None:
    (reports / "results.sqlite").touch()
    put(reports / "a")
    assert index.update(reports / "a") == ""
    assert not (reports / "index.html").exists()


def test_a_list_that_is_there_is_kept_up_whatever_its_folder_is_called(
    tmp_path: Path, reports: Path
) -> None:
    put(reports / "a")
    index.update(reports / "a")
    moved = reports.rename(tmp_path / "kept")
    put(moved / "b")
    assert index.update(moved / "b") == ""
    assert len(rows(moved)) == 2
    assert "<title>Reports in kept</title>" in (moved / "index.html").read_text()


def test_where_the_list_cannot_be_written_that_is_a_note_and_nothing_is_left(
    reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(reports / "a")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    note = index.update(reports / "a")
    assert note == (
        f"{reports / 'index.html'}: the list of reports can't be written: No space left on device"
    )
    monkeypatch.undo()

    def broken(*_: object) -> str:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(index, "render", broken)
    assert index.update(reports / "a").endswith("RuntimeError: a mistake of ours")
    assert [path.name for path in reports.iterdir()] == ["a"]


def test_whatever_names_hold_stays_text_and_links_stay_below(reports: Path) -> None:
    odd = 'javascript:alert(1) "><img src=x>&#39; ünï'
    put(reports / odd, HOSTILE, title=HOSTILE)
    index.update(reports / odd)
    text = (reports / "index.html").read_text()
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert ">49<" not in text
    [row] = rows(reports)
    assert row[0] == f"{HOSTILE} {odd}/"
    assert row[1] == HOSTILE
    [link] = re.findall(r'<a href="(\./[^"]*)"', text)
    assert re.fullmatch(r"\./[A-Za-z0-9%._-]+/index\.html", link)
    assert "//" not in text.partition("</style>")[2].partition("<script>")[0]


def test_the_list_needs_neither_torch_nor_what_figures_are_drawn_with(reports: Path) -> None:
    put(reports / "a")
    code = (
        "import sys; from pathlib import Path; from harness.reporting.page import index\n"
        "note = index.update(Path(sys.argv[1]))\n"
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
    page_path = running.run(tmp_path / "spec.yaml", running.RunOptions(), NullProgress()).page
    reports = tmp_path / "reports"
    [row] = rows(reports)
    first = parts.head_of(page_path, "description")
    assert first == "Nothing to compare: no objective has more than one optimizer (sgd)."
    assert row[1:5] == [first, "–", "12 ok", "1 × 2"]
    (reports / "index.html").unlink()
    runner = CliRunner()
    done = runner.invoke(cli.main, ["report", str(reports / "small"), "--format", "csv"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(rows(reports)) == 1
    shutil.copytree(reports / "small", reports / "again")
    done = runner.invoke(cli.main, ["report", str(reports / "small"), str(reports / "again")])
    assert (done.exit_code, done.stderr) == (0, "")
    [both] = [row for row in rows(reports) if row[0].endswith("side-by-side/")]
    assert both[0] == "small and again, side by side side-by-side/"
    assert (both[6], both[4]) == ("small, again", "1 × 2, from 2 runs")
    assert both[1] == "4 of 4 cases are bit-identical (12 trials)."


@pytest.mark.usefixtures("sketched")
def test_a_list_that_cannot_be_written_is_a_note_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    monkeypatch.setattr(index, "update", lambda _: "no list")
    running.run(tmp_path / "spec.yaml", running.RunOptions(), NullProgress())
    report = ["report", str(tmp_path / "reports" / "small"), "--format", "csv"]
    done = CliRunner().invoke(cli.main, report)
    assert (done.exit_code, done.stderr) == (0, "note: no list\n")


# In a browser


@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_sorts_the_list_follows_its_links_and_has_nothing_to_say(
    browser: Browser, reports: Path, width: int
) -> None:
    for name, title in (("a", "Zebra"), ("b&c #1?", HOSTILE)):
        year = 2026 if name == "a" else 2025
        put(reports / name, "Found.", title=title, started=f"{year}-01-01T00:00:00+00:00")
    index.update(reports / "a")
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
    found = Axe().run(opened, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    opened.locator("#table-runs tbody th a").first.click()
    opened.wait_for_url("**/b%26c%20%231%3F/index.html")
    assert opened.title() == "x"
    context.close()
