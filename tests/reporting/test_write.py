from __future__ import annotations

import errno
import html
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from harness import cli
from harness.analysis.comparison import mean_losses
from harness.commands import run as running
from harness.errors import BadInput
from harness.gate import history
from harness.gate import report as verdicts
from harness.gate.report import CellVerdict, GateReport, Judgement
from harness.progress import NullProgress
from harness.reporting import objects as contents_of
from harness.reporting import write as report
from harness.reporting.figures.draw import Drawing
from harness.reporting.figures.records import FigureRecord
from harness.reporting.page import parts
from harness.reporting.tables import trials as trial_tables
from harness.reporting.tables.model import Table
from harness.store import read
from harness.store.records import RunRecord, RunSettings


def made(objectives: tuple[str, ...] = ("bowl", "line"), *, broken: bool = False) -> read.Results:
    """Results with two optimizers, three seeds, and on request a seed that diverged."""
    infos: dict[str, read.ObjectiveInfo] = {}
    cases: list[read.CaseData] = []
    trials, timings = [], []
    generator = np.random.default_rng(0)
    for name in objectives:
        infos[name] = read.ObjectiveInfo(
            name=name,
            formula="f(x) = x1² + 3 x2²",
            dimension=2,
            rows=0,
            steps=4,
            steps_per_epoch=1,
            record_steps=np.arange(5),
            optimum=0.0,
            minimizers=((0.0, 0.0),),
            window=((-2.0, 1.0), (-2.0, 1.0)),
            landscape=np.add.outer(3 * np.linspace(-2, 1, 9) ** 2, np.linspace(-2, 1, 9) ** 2),
            data_source="",
        )
        for optimizer in ("sgd", "adagrad"):
            position = len(cases)
            losses = np.sort(generator.random((3, 5)), axis=1)[:, ::-1] / 3
            case = read.CaseData(
                position=position,
                objective=name,
                optimizer=optimizer,
                setting="",
                device="cpu",
                optimizer_class="SGD",
                hyperparameters={"lr": 0.4},
                defaults={"lr": 0.4},
                dtype="float64",
                seeds=np.arange(3),
                losses=losses,
                trajectories={seed: generator.random((5, 2)) for seed in range(3)},
                step_sizes={},
            )
            cases.append(case)
            for seed in range(3):
                bad = broken and seed == 2
                ending = ("diverged", 3, "the loss is NaN") if bad else ("ok", 4, "")
                names = (position, name, optimizer, "", optimizer, "cpu", seed)
                trials.append(
                    (*names, *ending, 0.1, "pointwise", "", np.nan if bad else losses[seed, -1])
                )
            for i, seconds in enumerate(generator.random(8) + 1):
                timings.append((position, i, 10, 1, 10 * seconds, 10 * seconds, seconds))
    run = RunRecord(
        id=1,
        started="2026-01-02T03:04:05+00:00",
        finished="2026-01-02T03:04:06+00:00",
        command="python -m harness run spec.yaml",
        suite="sample",
        spec_file="spec.yaml",
        spec_text="suite: sample\n",
        settings=RunSettings(seeds=(0, 1, 2)),
        environment={"harness": "0.1.0"},
    )
    columns = [
        *("position", "objective", "optimizer", "setting", "label", "device", "seed"),
        *("status", "step", "reason", "seconds", "way", "way_reason", "final_loss"),
    ]
    timed = [
        *("position", "round", "steps", "steps_per_epoch"),
        *("seconds", "cpu_seconds", "epoch_seconds"),
    ]
    return read.Results(
        run,
        infos,
        tuple(cases),
        pd.DataFrame(trials, columns=columns),
        pd.DataFrame(timings, columns=timed),
    )


def built_tables() -> list[Table]:
    results = made(broken=True)
    return trial_tables.build(results, mean_losses(results))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report."""
    return report.write(made(broken=True), tmp_path_factory.mktemp("report") / "new").parent


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that take no time to draw."""

    def sketch(records: Sequence[FigureRecord]) -> list[Drawing]:
        return [Drawing(record.name, "<svg><g/></svg>", b"\x89PNG") for record in records]

    monkeypatch.setattr("harness.reporting.figures.draw.draw_all", sketch)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_report_is_a_page_with_its_tables_and_figures_beside_it(written: Path) -> None:
    names = set(contents(written))
    listed = set(parts.listed_files((written / "index.html").read_text(encoding="utf-8")))
    assert names == {"index.html", *listed}
    for table in built_tables():
        assert {f"tables/{table.name}.{ending}" for ending in ("csv", "md", "tex")} <= names
    figures = {name for name in names if name.startswith("figures/")}
    assert {
        name.rpartition(".")[0] + ending for name in figures for ending in (".svg", ".pdf", ".png")
    } == (figures)
    assert all((written / n).read_bytes().startswith(b"\x89PNG") for n in names if ".png" in n)
    assert all((written / n).read_bytes().startswith(b"%PDF") for n in names if ".pdf" in n)
    assert all(b"<svg" in (written / n).read_bytes()[:500] for n in names if ".svg" in n)
    assert (written / "index.html").stat().st_size < 2_000_000


def test_a_csv_reads_back_to_the_very_numbers(written: Path) -> None:
    for table in built_tables():
        path = written / "tables" / f"{table.name}.csv"
        back = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert list(back.columns) == list(table.frame.columns)
        assert len(back) == len(table.frame)
        for column in table.frame.columns:
            if pd.api.types.is_numeric_dtype(table.frame[column]):
                numbers = [float(cell) if cell else np.nan for cell in back[column]]
                np.testing.assert_array_equal(numbers, table.frame[column].astype(float))
            else:
                assert list(back[column]) == list(table.frame[column])


def test_a_markdown_table_has_the_cells_a_reader_is_shown(written: Path) -> None:
    for table in built_tables():
        text = (written / "tables" / f"{table.name}.md").read_text(encoding="utf-8")
        rows = [
            [cell.strip() for cell in line.strip("|").split(" | ")]
            for line in text.splitlines()
            if line.startswith("|")
        ]
        assert [cell.strip("| ") for cell in rows[0]] == list(table.shown.columns)
        assert len(rows) == len(table.shown) + 2
        for row, shown in zip(rows[2:], table.shown.to_numpy().tolist(), strict=True):
            assert [cell.strip("| ") for cell in row] == [str(cell) for cell in shown]


def test_a_latex_table_is_the_table_as_latex(written: Path) -> None:
    for table in built_tables():
        text = (written / "tables" / f"{table.name}.tex").read_text(encoding="utf-8")
        assert text == table.to_latex()
        groups = text.count(r"\multicolumn")
        assert text.count(r" \\" + "\n") == len(table.shown) + 1 + groups


@pytest.mark.usefixtures("sketched")
def test_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    report.write(made(("bowl",)), tmp_path / "whole")
    whole = set(contents(tmp_path / "whole"))
    assert {name.rpartition(".")[2] for name in whole} == set(report.FORMATS)
    for formats in (("csv",), ("md", "tex"), ("svg",), ("png", "csv"), ("pdf",), ("html",)):
        folder = tmp_path / "-".join(formats)
        report.write(made(("bowl",)), folder, formats)
        asked = {name for name in whole if name.endswith(tuple(f".{f}" for f in formats))}
        assert set(contents(folder)) == asked


@pytest.mark.usefixtures("sketched")
def test_what_is_not_asked_for_stays_until_no_page_lists_it(tmp_path: Path) -> None:
    report.write(made(broken=True), tmp_path)
    before = contents(tmp_path)
    report.write(made(("bowl",)), tmp_path, ["csv"])
    after = contents(tmp_path)
    assert set(before) - set(after) == {"tables/failures.csv", "tables/profile.csv"}
    assert {name for name in after if before[name] != after[name]} <= {
        name for name in after if name.endswith(".csv")
    }
    report.write(made(("bowl",)), tmp_path, ["html"])
    left = set(contents(tmp_path))
    assert not any("failures" in name or "profile" in name for name in left)
    assert left == {"index.html", *parts.listed_files((tmp_path / "index.html").read_text())}


@pytest.mark.usefixtures("sketched")
def test_a_page_from_before_there_was_latex_still_lists_what_is_removed(tmp_path: Path) -> None:
    report.write(made(broken=True), tmp_path)
    old = tmp_path / "index.html"
    listed = parts.listed_files(old.read_text())
    text = json.dumps([name for name in listed if not name.endswith(".tex")])
    old.write_text(f'<meta name="harness-files" content="{html.escape(text)}">')
    for path in (tmp_path / "tables").glob("*.tex"):
        path.unlink()
    report.write(made(("bowl",)), tmp_path)
    names = set(contents(tmp_path))
    assert "tables/final_loss.tex" in names
    assert not any("failures" in name for name in names)


@pytest.mark.usefixtures("sketched")
def test_files_are_readable_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        report.write(made(("bowl",)), tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "index.html").stat().st_mode) == 0o644


@pytest.mark.usefixtures("sketched")
def test_files_of_an_earlier_report_go_and_files_of_others_stay(tmp_path: Path) -> None:
    report.write(made(broken=True), tmp_path)
    old = set(contents(tmp_path))
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    (tmp_path / "results.sqlite").write_bytes(b"store")
    report.write(made(("bowl",)), tmp_path)
    new = set(contents(tmp_path))
    assert "tables/failures.csv" in old - new
    assert any(name.startswith("figures/") and "line" in name for name in old - new)
    assert new - old == {"figures/mine.png", "results.sqlite"}
    listed = set(parts.listed_files((tmp_path / "index.html").read_text(encoding="utf-8")))
    assert new == listed | {"index.html", "figures/mine.png", "results.sqlite"}


def checked(day: int = 1, ratio: float = 1.5, suite: str = "sample", key: str = "m") -> GateReport:
    """A check of one cell."""
    time = Judgement("time", "fine", "", 1.5, ratio, ratio / 1.5 - 1, 0.98, 1.02, 0.05)
    cell = CellVerdict("bowl/sgd/cpu", "bowl", "sgd", "", "cpu", "spec.yaml:3:5", (time,))
    return GateReport(
        suite=suite,
        spec_file="spec.yaml",
        against="baseline.json",
        taken=f"2026-01-{day:02}T10:00:00+00:00",
        seconds=3.0,
        git="abc123",
        machine={"cpu": "A processor"},
        machine_key=key,
        differs=("Made with another torch.",),
        controls=(1.001,),
        cells=(cell,),
    )


def leave(folder: Path, check: GateReport | str, earlier: Sequence[GateReport] = ()) -> None:
    """Put into a folder what a check leaves there."""
    path = folder / contents_of.CHECK_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(check if isinstance(check, str) else verdicts.to_json(check))
    for entry in earlier:
        history.append(folder / history.FILE_NAME, entry)


def section(written: Path) -> str:
    """What a page says of a check; empty where it has no such section."""
    text = written.read_text(encoding="utf-8")
    start = text.find('<section id="check"')
    return text[start : text.index("</section>", start)] if start >= 0 else ""


def test_a_check_in_the_folder_is_reported_with_the_history_of_its_machine(tmp_path: Path) -> None:
    earlier = [checked(day, 1.5 if day < 7 else 1.8) for day in range(1, 13)]
    leave(tmp_path, checked(12, 1.8), [*earlier, checked(13, 99.0, key="another")])
    shown = section(report.write(made(("bowl",)), tmp_path))
    assert "Against baseline.json, the one cell has not got worse." in shown
    assert "Made with another torch." in shown
    assert "<dd>abc123</dd>" in shown
    assert "sgd on bowl (cpu) is 20.0% slower since the check of 2026-01-07" in shown
    assert "Time of a step over all checks" in shown
    assert shown.count("<svg") == 2
    names = set(contents(tmp_path))
    assert {"tables/check.csv", "tables/check.md", "figures/check-time.svg"} <= names
    assert {"figures/check-history.png", "check/check.json", "history.jsonl"} <= names
    frame = pd.read_csv(tmp_path / "tables" / "check.csv")
    assert frame["time_now"].tolist() == [1.8]


@pytest.mark.usefixtures("sketched")
def test_what_was_made_of_a_check_goes_with_it_and_the_check_stays(tmp_path: Path) -> None:
    assert section(report.write(made(("bowl",)), tmp_path)) == ""
    without = set(contents(tmp_path))
    leave(tmp_path, checked(), [checked()])
    report.write(made(("bowl",)), tmp_path)
    assert "tables/check.csv" in contents(tmp_path)
    (tmp_path / contents_of.CHECK_NAME).unlink()
    report.write(made(("bowl",)), tmp_path)
    assert set(contents(tmp_path)) == {*without, "history.jsonl"}


@pytest.mark.usefixtures("sketched")
def test_a_check_of_another_suite_is_left_out(tmp_path: Path) -> None:
    leave(tmp_path, checked(suite="another"))
    assert section(report.write(made(("bowl",)), tmp_path)) == ""


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '{"suite": "sample"}', "[" * 100_000])
def test_a_check_that_cannot_be_read_is_left_out_with_a_note(tmp_path: Path, text: str) -> None:
    leave(tmp_path, text)
    shown = section(report.write(made(("bowl",)), tmp_path))
    assert "check/check.json is left out: it is not what a check writes." in shown
    assert "tables/check.csv" not in contents(tmp_path)


@pytest.mark.usefixtures("sketched")
def test_what_of_a_history_cannot_be_read_is_said(tmp_path: Path) -> None:
    leave(tmp_path, checked(), [checked(1), checked(2)])
    with (tmp_path / history.FILE_NAME).open("ab") as file:
        file.write(b'{"torn')
    shown = section(report.write(made(("bowl",)), tmp_path))
    assert "1 line of the history left out: unreadable." in shown
    assert "Change points are looked for from 6 checks on." in shown
    (tmp_path / history.FILE_NAME).unlink()
    (tmp_path / history.FILE_NAME).mkdir()
    shown = section(report.write(made(("bowl",)), tmp_path))
    assert "The history is left out: can&#39;t be read: Is a directory." in shown


@pytest.mark.usefixtures("sketched")
def test_without_the_library_the_page_says_what_change_points_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, checked(), [checked(day) for day in range(1, 8)])
    assert "No change point in 7 checks on this machine." in section(
        report.write(made(("bowl",)), tmp_path)
    )
    monkeypatch.setattr(history, "can_find_changes", lambda: False)
    shown = section(report.write(made(("bowl",)), tmp_path))
    assert "pip install ruptures" in shown


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("method", ["write_bytes", "replace"])
def test_a_full_disk_leaves_the_earlier_report_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    report.write(made(broken=True), tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(Path, method, full)
    with pytest.raises(BadInput) as caught:
        report.write(made(("bowl",)), tmp_path)
    monkeypatch.undo()
    [problem] = caught.value.problems
    assert problem.message == "can't be written: No space left on device"
    assert Path(problem.file).parent.parent == tmp_path
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("sketched")
def test_a_page_that_cannot_be_put_in_place_leaves_the_earlier_one_and_no_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.write(made(broken=True), tmp_path)
    before = contents(tmp_path)
    original = Path.replace

    def fail_at_page(self: Path, target: Path) -> Path:
        if target.name == contents_of.PAGE_NAME:
            full()
        return original(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_page)
    results = made(broken=True)
    results = replace(results, run=replace(results.run, suite="another"))
    with pytest.raises(BadInput, match=r"index\.html: can't be written"):
        report.write(results, tmp_path)
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert after["index.html"] == before["index.html"]


@pytest.mark.usefixtures("sketched")
def test_an_interrupt_leaves_no_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.write(made(("bowl",)), tmp_path)
    assert contents(tmp_path) == {}


@pytest.mark.usefixtures("sketched")
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("not a folder")
    with pytest.raises(BadInput) as caught:
        report.write(made(("bowl",)), tmp_path)
    [problem] = caught.value.problems
    assert "tables" in problem.file
    assert problem.message.startswith("can't be written: ")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
@pytest.mark.usefixtures("sketched")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(BadInput, match="Permission denied"):
            report.write(made(("bowl",)), tmp_path)
    finally:
        tmp_path.chmod(0o755)


def test_importing_a_report_loads_neither_torch_nor_what_figures_are_drawn_with() -> None:
    code = (
        "import sys, harness.reporting.write\n"
        "print([name in sys.modules for name in "
        "('torch', 'pandas', 'matplotlib', 'seaborn', 'jinja2')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[False, True, False, False, True]"


SPEC = """\
suite: small
seeds: 3
timing: {rounds: 3, warmup_rounds: 1, block_steps: 3, seconds: 1}
objectives:
  rosenbrock_2d: {steps: 5}
optimizers:
  sgd: {class: "torch.optim:SGD", hyperparameters: {lr: 1e-4}}
  adam: {class: "torch.optim:Adam", hyperparameters: {lr: 0.01}}
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was made, with nothing in it but the store."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "spec.yaml").write_text(SPEC)
    page_path = running.run(
        folder / "spec.yaml", running.RunOptions(output=folder / "o"), NullProgress()
    )
    only = folder / "only"
    only.mkdir()
    shutil.copy(page_path.page.with_name("results.sqlite"), only)
    return only


@pytest.fixture
def store(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / "copy"))


def test_tables_alone_are_reported_without_what_draws_figures(store: Path) -> None:
    code = (
        "import sys\n"
        "from harness import cli\n"
        "cli.main(sys.argv[1:], standalone_mode=False)\n"
        "print([name in sys.modules for name in ('torch', 'matplotlib', 'seaborn')])"
    )
    formats = [word for name in ("csv", "md", "tex") for word in ("--format", name)]
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(store), *formats],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told, loaded = done.stdout.strip().splitlines()
    assert told == f"Written to {store}: csv, md, tex."
    assert loaded == "[False, False, False]"
    names = set(contents(store)) - {"results.sqlite"}
    assert {name.rpartition(".")[2] for name in names} == {"csv", "md", "tex"}


def test_the_command_line_says_what_it_wrote_and_refuses_what_it_cannot_write(store: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(cli.main, ["report", str(store), "--format", "tex", "--format", "tex"])
    assert (done.exit_code, done.output) == (0, f"Written to {store}: tex.\n")
    bad = runner.invoke(cli.main, ["report", str(store), "--format", "eps"])
    assert bad.exit_code == 2
    assert "'eps' is not one of 'csv', 'md', 'tex', 'svg', 'pdf', 'png', 'html'." in bad.output
    whole = runner.invoke(cli.main, ["report", str(store)])
    assert whole.exit_code == 0
    assert whole.output.endswith(f"\nPage: {(store / 'index.html').as_uri()}\n")
    assert {name.rpartition(".")[2] for name in contents(store)} == {*report.FORMATS, "sqlite"}


def test_the_formats_that_the_command_line_offers_are_those_there_are() -> None:
    [option] = [o for o in cli.main.commands["report"].params if o.name == "formats"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == report.FORMATS
