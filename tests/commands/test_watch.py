"""A page that is kept current while the run goes on, and is gone with it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.commands import run as running
from harness.commands import watch
from harness.progress import Quiet
from harness.reporting import write as report
from harness.reporting.figures.draw import Drawing
from harness.reporting.figures.records import FigureRecord
from harness.reporting.objects import Report
from harness.store import read
from harness.store.database import Store

Command = Callable[..., subprocess.CompletedProcess[str]]

MARK = "HARNESS_TEST_RUN"

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

OPTIMIZERS = """
import time
from pathlib import Path
import torch

class Descent(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.move(p, group["lr"])
    def move(self, p, lr):
        p.sub_(p.grad, alpha=lr)

class Waits(Descent):
    # It looks at a value, so it runs alone; it goes on once there is a file for its rate.
    steps = 0
    def move(self, p, lr):
        p.sub_(p.grad / float(p.grad.norm()), alpha=lr)
        self.steps += 1
        folder = Path(__file__).parent.parent
        while self.steps == 28 and not (folder / f"gate-{lr}").exists():
            time.sleep(0.01)
"""

SPEC = """
suite: watched
seeds: 4
timing: {enabled: false}
limits: {seconds: 300}
objectives:
  bowl: {class: Bowl, steps: 30, dtype: float64}
optimizers:
  descent: {class: Descent}
  waits: {class: Waits, hyperparameters: {lr: [0.25, 0.5]}}
"""

TUNED = """
suite: tuned
seeds: 6
tuning: {trials: 4, seeds: 3, sweep: 3}
timing: {rounds: 3, warmup_rounds: 1, block_steps: 3}
objectives:
  bowl: {class: Bowl, steps: 12, dtype: float64}
  dish: {class: Dish, steps: 12, dtype: float64, targets: [0.5]}
optimizers:
  descent: {class: Descent, search: {lr: {log_uniform: [0.01, 2]}}}
  adam:
    class: torch.optim:Adam
    search: {lr: {log_uniform: [0.01, 1]}, eps: {log_uniform: [1e-9, 1e-3]}}
  sgd: {class: torch.optim:SGD, hyperparameters: {lr: [0.1, 0.2, 30.0]}}
claims:
  - {value: "0.1", source: a book, optimizer: sgd, objective: bowl, hyperparameters: {lr: 0.1}}
"""


@dataclass
class Suite:
    """A suite of its own, and runs of it whose processes can be told from all others."""

    folder: Path
    spec: str = SPEC
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        for name, source in (("objectives", OBJECTIVES), ("optimizers", OPTIMIZERS)):
            (self.folder / name).mkdir(parents=True)
            (self.folder / name / "made.py").write_text(source)
        (self.folder / "spec.yaml").write_text(self.spec)

    @property
    def output(self) -> Path:
        return self.folder / "reports" / ("tuned" if self.spec is TUNED else "watched")

    @contextlib.contextmanager
    def running(self, *more: str) -> Iterator[subprocess.Popen[bytes]]:
        """A run that is over when the block is left, by force if need be."""
        with (self.folder / "said").open("wb") as said:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "harness", "run", "spec.yaml"),
                    *("--workers", "1", *more),
                ],
                cwd=self.folder,
                stdout=said,
                stderr=said,
                env={**os.environ, MARK: self.mark},
                start_new_session=True,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def open(self, *gates: str) -> None:
        for gate in gates:
            (self.folder / f"gate-{gate}").touch()

    def page(self) -> str:
        try:
            return (self.output / "index.html").read_text(encoding="utf-8")
        except OSError:
            return ""

    def done(self) -> int:
        """How many trials the page says are done; -1 where it says nothing of that."""
        found = re.search(r"under way: (\d+) of 12 trials are done", self.page())
        return int(found[1]) if found else -1

    def processes(self, word: str = "") -> list[int]:
        """Every process that a run of this suite left whose command line has that word (Linux)."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                marked = wanted in (process / "environ").read_bytes().split(b"\0")
                if marked and word.encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return found

    def tables(self, output: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (output / "tables").iterdir()}


def wait_until(
    holds: Callable[[], object],
    process: subprocess.Popen[bytes] | None = None,
    seconds: float = 240,
) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not holds():
        assert process is None or process.poll() is None, "the run ended"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def whole(page: str) -> bool:
    return page.startswith("<!DOCTYPE html>") and page.endswith("</html>\n")


linux = pytest.mark.skipif(sys.platform != "linux", reason="tells processes apart by /proc")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_is_there_early_and_kept_current_and_the_end_is_that_of_any_run(
    tmp_path: Path, command: Command
) -> None:
    suite = Suite(tmp_path / "suite")
    with suite.running("--watch") as process:
        wait_until(lambda: suite.done() == 4, process)
        first = suite.page()
        wait_until(lambda: "The page so far: reports/watched/index.html" in suite.said, process)
        suite.open("0.25")
        wait_until(lambda: suite.done() == 8, process)
        second = suite.page()
        # Somebody else may make the report meanwhile.
        asked = command("report", "spec.yaml", cwd=suite.folder)
        assert asked.returncode == 0, asked.stderr
        assert suite.done() == 8
        assert "final_loss.csv" in suite.tables(suite.output)
        suite.open("0.5")
        assert process.wait(timeout=240) == 0, suite.said
    for page in (first, second):
        assert whole(page)
        assert re.search(r"The page was written at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", page)
        seconds = re.findall(r'<meta http-equiv="refresh" content="(\d+)">', page)
        assert len(seconds) == 1
        assert 10 <= int(seconds[0]) <= 60
        assert "cut short" in page
        assert "The run was cut short" not in page
    assert suite.said.count("The page so far:") == 1
    last = suite.page()
    assert whole(last)
    assert 'http-equiv="refresh"' not in last
    assert "under way" not in last
    assert not list(suite.output.glob(".*.tmp"))

    plain = command("run", "spec.yaml", "--output", "plain", cwd=suite.folder)
    assert plain.returncode == 0, plain.stderr
    assert suite.tables(suite.folder / "plain") == suite.tables(suite.output)
    assert {p.name for p in suite.output.iterdir()} == {
        p.name for p in (suite.folder / "plain").iterdir()
    }


@linux
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_cut_short_leaves_a_whole_page_and_nobody_who_writes_it(
    tmp_path: Path, way: signal.Signals, command: Command
) -> None:
    suite = Suite(tmp_path / "suite")
    with suite.running("--watch") as process:
        wait_until(lambda: suite.done() == 4, process)
        assert suite.processes("harness.commands.watch")
        process.send_signal(way)
        process.wait(timeout=30)
        wait_until(lambda: not suite.processes(), seconds=20)
    assert whole(suite.page())
    assert suite.done() == 4
    suite.open("0.25", "0.5")
    done = command("run", "spec.yaml", "--watch", cwd=suite.folder)
    assert done.returncode == 0, done.stderr
    assert whole(suite.page())
    assert suite.done() == -1


@linux
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_goes_wrong_with_the_page_meanwhile_is_a_note_and_the_run_goes_on(
    tmp_path: Path,
) -> None:
    suite = Suite(tmp_path / "suite")
    (suite.output / "index.html").mkdir(parents=True)
    with suite.running("--watch") as process:
        wait_until(lambda: "the page could not be written meanwhile: " in suite.said, process)
        assert "index.html: can't be written: Is a directory" in suite.said
        (suite.output / "index.html").rmdir()
        for writer in suite.processes("harness.commands.watch"):
            os.kill(writer, signal.SIGKILL)
        wait_until(lambda: "the page is not kept current any more" in suite.said, process)
        suite.open("0.25", "0.5")
        assert process.wait(timeout=240) == 0, suite.said
    assert whole(suite.page())
    assert "Traceback" not in suite.said
    assert "12 trials: 12 ok" in suite.said


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with tuning, sweeps, a grid, divergence, a claim and timings stored."""
    suite = Suite(tmp_path_factory.mktemp("partial") / "suite", TUNED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "write_report", lambda *_: suite.output / "index.html")
        running.run(suite.folder / "spec.yaml", running.Options(workers=1), Quiet())
    return suite.output / "results.sqlite"


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
def test_whatever_part_of_a_run_is_stored_makes_a_page(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sketch(records: Sequence[FigureRecord]) -> list[Drawing]:
        return [Drawing(record.name, "<svg><g/></svg>", b"\x89PNG") for record in records]

    monkeypatch.setattr("harness.reporting.figures.draw.draw_all", sketch)
    total = read.read(store).run.settings.trials
    for number in range(40):
        place = tmp_path / str(number) / "results.sqlite"
        place.parent.mkdir()
        taken_early(store, place, random.Random(number))
        results = read.read(place)
        live = watch.live(results, 20.0)
        assert live.total == total
        assert live.done <= total
        page = report.write(results, place.parent, under_way=live).read_text(encoding="utf-8")
        assert f"under way: {live.done} of {total} trials are done" in page
        assert '<meta http-equiv="refresh" content="20">' in page


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_trials_that_there_will_be_are_counted_from_the_start(store: Path) -> None:
    results = read.read(store)
    live = watch.live(results, 1.0)
    assert live.done == live.total == results.run.settings.trials
    assert live.seconds == 10
    assert watch.live(results, 1e6, done=7).done == 7
    assert watch.live(results, 1e6).seconds == 60


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_report_that_was_made_while_the_run_came_to_its_end_is_made_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else the page of somebody who is late would say for good that the run is under way."""
    place = tmp_path / "results.sqlite"
    taken_early(store, place, random.Random(0))
    told: list[bool] = []

    def write(made: Report, _: object, under_way: object) -> None:
        told.append(under_way is not None)
        if made.results.run.finished is None:
            with Store(place, create=True) as writer:
                writer.finish_run()

    monkeypatch.setattr(report, "write_report", write)
    with running.locked(tmp_path):
        assert running.is_locked(tmp_path)
        running.report_again(place, ("html",))
    assert told == [True, False]
    assert not running.is_locked(tmp_path)
    assert not running.is_locked(tmp_path / "nowhere")


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
