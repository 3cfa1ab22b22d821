"""A run may be cut short at any moment, and the same command continues from there."""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from builders import wait_until

pytestmark = pytest.mark.slow
on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="workers end with their parent on Linux only"
)

Command = Callable[..., subprocess.CompletedProcess[str]]

MARK = "HARNESS_TEST_RUN"

OBJECTIVES = """
import torch
from harness import Objective

class Bowl(Objective):
    optimum = 0.0
    def init(self, generator):
        return {"x": torch.randn(2, generator=generator)}
    def loss(self, params, batch):
        x1, x2 = params["x"].unbind()
        return 0.1 * x1.square() + 2 * x2.square()
"""

OPTIMIZERS = """
import time
from pathlib import Path
import torch

class Descent(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                self.move(p, group["lr"])
        return loss
    def move(self, p, lr):
        p.sub_(p.grad, alpha=lr)

class Mixes(Descent):
    def move(self, p, lr):
        p.sub_(p.grad / p.grad.norm(), alpha=lr)

class Waits(Mixes):
    # Goes on once there is a file "gate" beside the spec; till then it says that it is there.
    steps = 0
    def move(self, p, lr):
        super().move(p, lr)
        self.steps += 1
        folder = Path(__file__).parent.parent
        while self.steps == 20 and not (folder / "gate").exists():
            (folder / "waits").touch()
            time.sleep(0.01)
"""

SPEC = """
suite: cut-short
seeds: 8
timing: {enabled: false}
limits: {seconds: 300}
objectives:
  bowl: {class: Bowl, steps: 120, dtype: float64}
optimizers:
  descent: {class: Descent, hyperparameters: {lr: [0.1, 0.2, 0.6]}}
  adam: {class: torch.optim:Adam, hyperparameters: {lr: [0.1, 0.2]}}
  mixes: {class: Mixes, hyperparameters: {lr: [0.1, 0.2]}}
  lbfgs: {class: torch.optim:LBFGS, hyperparameters: {lr: [0.3, 1.0]}}
"""

TRIALS = 72

WAITING = SPEC.replace("  adam", "  waits: {class: Waits}\n  adam")


@dataclass
class Suite:
    """A suite of its own, and runs of it whose processes can be told from all others."""

    folder: Path
    spec: str
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        for name, source in (("objectives", OBJECTIVES), ("optimizers", OPTIMIZERS)):
            (self.folder / name).mkdir(parents=True)
            (self.folder / name / "made.py").write_text(source)
        (self.folder / "spec.yaml").write_text(self.spec)

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def start(self) -> subprocess.Popen[str]:
        """Start a run in a process group of its own, as a shell does."""
        return subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "harness", "run", str(self.folder / "spec.yaml")),
                *("-o", str(self.output), "--workers", "2"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, MARK: self.mark},
            start_new_session=True,
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """A run that is over when the block is left, by force if need be."""
        process = self.start()
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, command: Command) -> subprocess.CompletedProcess[str]:
        """A run to its end, which nobody kills."""
        return command("run", self.folder / "spec.yaml", "-o", self.output, "--workers", "2")

    def processes(self) -> list[int]:
        """Every process that a run of this suite left, the run itself among them (Linux)."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def stored(self) -> int:
        """How many trials are stored."""
        path = self.output / "results.sqlite"
        if not path.exists():
            return 0
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return int(db.execute("SELECT count(*) FROM trials").fetchone()[0])
        except sqlite3.OperationalError:
            return 0
        finally:
            db.close()

    def until_it_waits(self, process: subprocess.Popen[str]) -> None:
        """Until a trial stands at the gate and others are stored."""
        wait_until(lambda: (self.folder / "waits").exists() and self.stored() >= 24, process)


def result(output: Path) -> dict[str, Any]:
    """Every trial, curve and trajectory with its name, and the tables' files, to the byte."""
    db = sqlite3.connect(f"file:{output / 'results.sqlite'}?mode=ro", uri=True)
    names = (
        "SELECT objective, optimizer, setting, device, {columns} "
        "FROM run_cases JOIN {table} USING (case_id) WHERE run_id = (SELECT max(id) FROM runs)"
    )
    tables = {
        "trials": "seed, status, step, reason, final_loss, "
        "(SELECT way FROM ways WHERE ways.id = trials.way)",
        "curves": "seed, losses",
        "trajectories": "seed, points, step_sizes",
    }
    found: dict[str, Any] = {
        table: sorted(db.execute(names.format(table=table, columns=columns)))
        for table, columns in tables.items()
    }
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()
    # The commands that repeat a trial name the folder that it ran in.
    here = str(output.parent).encode()
    files = {
        file.name: file.read_bytes().replace(here, b"suite")
        for file in (output / "tables").glob("[!.]*.csv")
    }
    assert {"final_loss.csv", "end_points.csv"} <= set(files)
    return found | files


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, command: Command) -> dict[str, Any]:
    """The result of a run that nobody cut short."""
    suite = Suite(tmp_path_factory.mktemp("undisturbed") / "suite", SPEC)
    done = suite.run(command)
    assert done.returncode == 0, done.stderr
    whole = result(suite.output)
    assert len(whole["trials"]) == TRIALS
    return whole


Phase = Literal["start", "training", "report"]
Moment = tuple[Phase, float]
"""A phase of a run's life, and the share of it that has passed."""

LASTS: dict[Phase, float] = {"start": 2.5, "training": 0.02, "report": 1.0}
"""About how many seconds a phase lasts; that of training goes by what is stored."""


@dataclass
class Life:
    """What became of a suite whose runs were killed again and again."""

    kills: int = 0
    whole: int = 0
    locks: int = 0
    stored_at_kills: list[int] = field(default_factory=list)


def live(suite: Suite, moments: list[Moment], usual: dict[str, Any]) -> Life:
    """Kill runs of a suite at these moments; start afresh whenever one comes through."""
    life = Life()
    waiting = list(moments)
    while waiting:
        known = suite.stored()
        with suite.running() as process:
            # Where nothing is left to train, only the report is there to be cut short.
            due = known < TRIALS or waiting[0][0] == "report"
            if due and reached(waiting[0], suite, process, known):
                os.kill(process.pid, signal.SIGKILL)  # the coordinator alone
            out, err = process.communicate(timeout=120)
        if process.returncode == -signal.SIGKILL:
            wait_until(lambda: suite.processes() == [])
            life.kills += 1
            life.locks += (suite.output / ".lock").exists()
            life.stored_at_kills.append(suite.stored())
            waiting.pop(0)
            continue
        assert process.returncode == 0, err + out
        assert "Traceback" not in err
        assert result(suite.output) == usual
        life.whole += 1
        shutil.rmtree(suite.output)
    return life


def reached(
    moment: Moment,
    suite: Suite,
    process: subprocess.Popen[str],
    known: int,
) -> bool:
    """Wait for a moment of a run's life; whether the run lived to see it."""
    phase, share = moment
    wanted = {
        "start": 0,
        "training": known + math.ceil(share * (TRIALS - known)),
        "report": TRIALS,
    }[phase]
    while suite.stored() < wanted:
        if process.poll() is not None:
            return False
        time.sleep(0.03)
    try:
        process.wait(timeout=LASTS[phase] * share)
    except subprocess.TimeoutExpired:
        return True
    return False


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
@on_linux
def test_a_run_killed_at_fifty_moments_gives_what_an_undisturbed_run_gives_to_the_bit(
    tmp_path: Path, undisturbed: dict[str, Any], command: Command
) -> None:
    """Three lives side by side: the machine is never idle while one of them starts."""
    source = random.Random(20)
    often: dict[Phase, int] = {"start": 31, "training": 12, "report": 7}
    moments = [(phase, source.random()) for phase, n in often.items() for _ in range(n)]
    source.shuffle(moments)
    suites = [Suite(tmp_path / name, SPEC) for name in ("one", "two", "three")]
    with ThreadPoolExecutor(len(suites)) as threads:
        shares = [moments[i :: len(suites)] for i in range(len(suites))]
        lives = list(threads.map(live, suites, shares, [undisturbed] * len(suites)))
    print(*lives, sep="\n")
    for suite in suites:  # what the last kill left is gone on from by nobody but this
        done = suite.run(command)
        assert done.returncode == 0, done.stderr
        assert result(suite.output) == undisturbed
    assert sum(life.kills for life in lives) == 50
    assert all(life.locks >= 1 for life in lives)
    # Many died with some results in hand: there was something to go on from.
    assert sum(0 < n < TRIALS for life in lives for n in life.stored_at_kills) >= 10


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[Suite, subprocess.Popen[str]]]:
    """A run that has stored some trials and is in the midst of another, for as long as need be."""
    suite = Suite(tmp_path / "suite", WAITING)
    with suite.running() as process:
        suite.until_it_waits(process)
        yield suite, process


def goes_on(suite: Suite, expected: dict[str, Any], known: int, command: Command) -> None:
    """Open the gate: the same command runs the rest, and gives what an undisturbed run does."""
    (suite.folder / "gate").touch()
    done = suite.run(command)
    assert done.returncode == 0, done.stderr
    assert f"\n{TRIALS + 8 - known} trials run in " in done.stdout
    whole = result(suite.output)
    for table in ("trials", "curves", "trajectories"):
        assert [row for row in whole[table] if row[1] != "waits"] == expected[table]
    assert len(whole["trials"]) == TRIALS + 8


@on_linux
def test_a_killed_run_leaves_nobody_behind_and_goes_on(
    waiting: tuple[Suite, subprocess.Popen[str]], undisturbed: dict[str, Any], command: Command
) -> None:
    suite, process = waiting
    os.kill(process.pid, signal.SIGKILL)  # the coordinator alone
    process.communicate(timeout=60)
    wait_until(lambda: suite.processes() == [])
    assert (suite.output / ".lock").exists()
    goes_on(suite, undisturbed, suite.stored(), command)


@pytest.mark.parametrize(
    "way",
    ["the whole group", "SIGTERM", pytest.param("the process alone", marks=pytest.mark.exhaustive)],
)
def test_an_interrupted_run_does_not_wait_for_its_trials_and_says_how_to_go_on(
    waiting: tuple[Suite, subprocess.Popen[str]],
    undisturbed: dict[str, Any],
    way: str,
    command: Command,
) -> None:
    """Ctrl-C in a terminal reaches the whole process group; a trial waits for ever."""
    suite, process = waiting
    if way == "the whole group":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM if way == "SIGTERM" else signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err + out
    assert "Finished trials are stored; the same command continues from there." in err
    wait_until(lambda: suite.processes() == [])  # a killed child may take an instant
    known = suite.stored()
    assert 24 <= known < TRIALS + 8
    if way == "the whole group":
        goes_on(suite, undisturbed, known, command)


@pytest.mark.parametrize(
    "moment",
    [
        "while torch is loaded",
        pytest.param("while the report is written", marks=pytest.mark.exhaustive),
    ],
)
def test_an_interrupt_at_either_end_of_a_run_is_taken_as_well(
    tmp_path: Path, undisturbed: dict[str, Any], moment: str, command: Command
) -> None:
    suite = Suite(tmp_path / "suite", SPEC)
    with suite.running() as process:
        if moment == "while torch is loaded":
            wait_until(lambda: len(suite.processes()) > 1, process)
        else:
            wait_until(lambda: suite.stored() == TRIALS, process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err + out
    wait_until(lambda: suite.processes() == [])  # a killed child may take an instant
    if moment == "while the report is written":
        done = suite.run(command)
        assert done.returncode == 0, done.stderr
        assert "Nothing new to run" in done.stdout
        assert result(suite.output) == undisturbed


def test_a_second_run_on_the_same_folder_says_so_and_leaves(
    waiting: tuple[Suite, subprocess.Popen[str]], undisturbed: dict[str, Any], command: Command
) -> None:
    suite, first = waiting
    second = suite.run(command)
    assert second.returncode == 2
    assert f"{suite.output}: another run is writing here" in second.stderr
    assert "Traceback" not in second.stderr
    assert first.poll() is None
    (suite.folder / "gate").touch()
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert f"\n{TRIALS + 8} trials run in " in out
    whole = result(suite.output)
    for table in ("trials", "curves", "trajectories"):
        assert [row for row in whole[table] if row[1] != "waits"] == undisturbed[table]
