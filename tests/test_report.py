from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import frames, page, report, tables
from harness.figure_records import FigureRecord
from harness.figures import Drawing
from harness.problems import BadInput
from harness.store import RunRecord


def made(objectives: tuple[str, ...] = ("bowl", "line"), *, broken: bool = False) -> frames.Results:
    """Results with two optimizers, three seeds, and on request a seed that diverged."""
    infos: dict[str, frames.ObjectiveInfo] = {}
    cases: list[frames.CaseData] = []
    trials, timings = [], []
    generator = np.random.default_rng(0)
    for name in objectives:
        infos[name] = frames.ObjectiveInfo(
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
            case = frames.CaseData(
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
                trials.append((*names, *ending, 0.1, "vmap", np.nan if bad else losses[seed, -1]))
            for i, seconds in enumerate(generator.random(8) + 1):
                timings.append((position, i, 10, 1, 10 * seconds, seconds))
    run = RunRecord(
        id=1,
        started="2026-01-02T03:04:05+00:00",
        finished="2026-01-02T03:04:06+00:00",
        command="python -m harness run spec.yaml",
        suite="sample",
        spec_file="spec.yaml",
        spec_text="suite: sample\n",
        settings={"title": "", "description": "", "seeds": [0, 1, 2], "missing": {}},
        environment={"harness": "0.1.0"},
    )
    columns = [
        *("position", "objective", "optimizer", "setting", "label", "device", "seed"),
        *("status", "step", "reason", "seconds", "mode", "final_loss"),
    ]
    timed = ["position", "round", "steps", "steps_per_epoch", "seconds", "epoch_seconds"]
    return frames.Results(
        run,
        infos,
        tuple(cases),
        pd.DataFrame(trials, columns=columns),
        pd.DataFrame(timings, columns=timed),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report."""
    return report.write(made(broken=True), tmp_path_factory.mktemp("report") / "new").parent


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that take no time to draw."""

    def sketch(records: Sequence[FigureRecord]) -> list[Drawing]:
        return [Drawing(record.name, "<svg><g/></svg>", b"\x89PNG") for record in records]

    monkeypatch.setattr("harness.figures.draw_all", sketch)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_report_is_a_page_with_its_tables_and_figures_beside_it(written: Path) -> None:
    names = set(contents(written))
    listed = set(page.listed_files((written / "index.html").read_text(encoding="utf-8")))
    assert names == {"index.html", *listed}
    for table in tables.build(made(broken=True)):
        assert {f"tables/{table.name}.csv", f"tables/{table.name}.md"} <= names
    figures = {name for name in names if name.startswith("figures/")}
    assert {
        name.rpartition(".")[0] + ending for name in figures for ending in (".svg", ".png")
    } == (figures)
    assert all((written / n).read_bytes().startswith(b"\x89PNG") for n in names if ".png" in n)
    assert all(b"<svg" in (written / n).read_bytes()[:500] for n in names if ".svg" in n)
    assert (written / "index.html").stat().st_size < 2_000_000


def test_a_csv_reads_back_to_the_very_numbers(written: Path) -> None:
    for table in tables.build(made(broken=True)):
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
    for table in tables.build(made(broken=True)):
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
    listed = set(page.listed_files((tmp_path / "index.html").read_text(encoding="utf-8")))
    assert new == listed | {"index.html", "figures/mine.png", "results.sqlite"}


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
        if target.name == report.PAGE_NAME:
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


def test_importing_a_report_loads_what_it_draws_with_and_no_torch() -> None:
    code = (
        "import sys, harness.report\n"
        "print([name in sys.modules for name in "
        "('torch', 'pandas', 'matplotlib', 'seaborn', 'jinja2')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[False, True, True, True, True]"
