"""A report that is made before its run has finished."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.commands import run as running
from harness.progress import NullProgress
from harness.reporting import write as report
from harness.reporting.figures.draw import Drawing
from harness.reporting.figures.records import FigureRecord
from harness.reporting.objects import Report
from harness.store import read
from harness.store.database import Store

OBJECTIVES = """
import torch
from harness import Objective

class Bowl(Objective):
    optimum = 0.0
    def init(self, generator):
        return {"x": torch.randn(3, generator=generator)}
    def loss(self, params, batch):
        return params["x"].square().sum()

class Dish(Objective):
    optimum = 0.0
    def init(self, generator):
        return {"x": torch.randn(2, generator=generator)}
    def loss(self, params, batch):
        return params["x"].square().sum()
"""

SPEC = """
suite: tuned
seeds: 6
tuning: {trials: 4, seeds: 3, sweep: 3}
timing: {rounds: 3, warmup_rounds: 1, block_steps: 3}
objectives:
  bowl: {class: Bowl, steps: 12, dtype: float64}
  dish: {class: Dish, steps: 12, dtype: float64, targets: [0.5]}
optimizers:
  descent: {class: "torch.optim:SGD", search: {lr: {log_uniform: [0.01, 2]}}}
  adam:
    class: torch.optim:Adam
    search: {lr: {log_uniform: [0.01, 1]}, eps: {log_uniform: [1e-9, 1e-3]}}
  sgd: {class: torch.optim:SGD, hyperparameters: {lr: [0.1, 0.2, 30.0]}}
claims:
  - {value: "0.1", source: a book, optimizer: sgd, objective: bowl, hyperparameters: {lr: 0.1}}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with tuning, sweeps, a grid, divergence, a claim and timings stored.

    Beside it lies ``before_timing.html``: the page as it was before anything was timed.
    """
    suite = tmp_path_factory.mktemp("partial")
    (suite / "objectives").mkdir()
    (suite / "objectives" / "made.py").write_text(OBJECTIVES)
    (suite / "spec.yaml").write_text(SPEC)
    output = suite / "reports" / "tuned"

    def keep(*_: object) -> None:
        shutil.copy(output / "index.html", output / "before_timing.html")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "write_report", keep)
        patch.setattr(running, "LONG_TRAINING", 0.0)
        running.run(suite / "spec.yaml", running.RunOptions(workers=1), NullProgress())
    return output / "results.sqlite"


def test_after_long_training_the_page_is_there_before_anything_is_timed(store: Path) -> None:
    page = (store.parent / "before_timing.html").read_text(encoding="utf-8")
    assert page.endswith("</html>\n")
    assert "The run has not finished" in page
    assert "have no result yet" not in page
    assert "Nothing was timed" in page
    assert len(read.read(store).timings)


def taken_early(store: Path, place: Path, source: random.Random) -> None:
    """A copy of a store as it may have been at some moment of its run."""
    shutil.copy(store, place)
    db = sqlite3.connect(place)
    db.execute("UPDATE runs SET finished = NULL")
    trials = db.execute("SELECT case_id, seed FROM trials ORDER BY 1, 2").fetchall()
    moment = source.choice(["tuning", "tuning without defaults", "training", "anything", "first"])
    if moment.startswith("tuning"):
        db.execute("DELETE FROM run_cases WHERE role IN ('tuned', 'sweep')")
    if moment == "tuning without defaults":
        db.execute("DELETE FROM run_cases WHERE role <> 'tuning'")
    kept = {
        "first": lambda: source.sample(trials, 1),
        "anything": lambda: source.sample(trials, source.randrange(len(trials))),
    }.get(moment, lambda: trials[: source.randrange(len(trials))])()
    gone = sorted(set(trials) - set(kept))
    for table in ("trials", "curves", "trajectories"):
        db.executemany(f"DELETE FROM {table} WHERE case_id = ? AND seed = ?", gone)
    if source.random() < 0.7:
        db.execute("DELETE FROM timings")
    if source.random() < 0.3:
        db.execute("DELETE FROM sharings")
    db.commit()
    db.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [8, pytest.param(60, marks=pytest.mark.exhaustive)])
def test_whatever_part_of_a_run_is_stored_makes_a_page(
    count: int, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sketch(records: Sequence[FigureRecord]) -> list[Drawing]:
        return [Drawing(record.name, "<svg><g/></svg>", b"\x89PNG") for record in records]

    monkeypatch.setattr("harness.reporting.figures.draw.draw_all", sketch)
    for number in range(count):
        place = tmp_path / str(number) / "results.sqlite"
        place.parent.mkdir()
        taken_early(store, place, random.Random(number))
        results = read.read(place)
        page = report.write(results, place.parent).read_text(encoding="utf-8")
        assert page.endswith("</html>\n")
        assert "The run has not finished" in page


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_report_that_was_made_while_the_run_came_to_its_end_is_made_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a page that is written late would say for good that the run has not finished."""
    place = tmp_path / "results.sqlite"
    taken_early(store, place, random.Random(0))
    finished: list[bool] = []

    def write(made: Report, _: object) -> None:
        finished.append(made.results.run.finished is not None)
        with Store(place, create=True) as writer:
            writer.finish_run()

    monkeypatch.setattr(report, "write_report", write)
    running.report_again(place, ("html",))
    assert finished == [False, True]


def test_what_is_read_in_a_snapshot_is_of_one_moment(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    count = "SELECT count(*) FROM objectives"
    with Store(path, create=True) as writer, Store(path, create=False) as reader:
        with reader.snapshot():
            assert reader.db.execute(count).fetchone() == (0,)
            with writer.transaction():
                writer.db.execute("INSERT INTO objectives VALUES ('a', '{}')")
            assert reader.db.execute(count).fetchone() == (0,)
        assert reader.db.execute(count).fetchone() == (1,)
