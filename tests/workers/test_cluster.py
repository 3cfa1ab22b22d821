"""Trials on a cluster: real schedulers and workers, as processes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from builders import make_plan
from click.testing import CliRunner, Result

from harness import cli
from harness.commands import run as running
from harness.commands.run import RunOptions
from harness.errors import BadInput
from harness.plan.builder import Overrides
from harness.progress import NullProgress, Progress
from harness.provenance import environment
from harness.reporting.objects import Run
from harness.spec.validation import load
from harness.store.database import NoResults, Store
from harness.workers.dask import cluster
from harness.workers.executor import Lost, Task, WorkerFailed
from harness.workers.requests import Request, ValidatePlan

distributed = pytest.importorskip("distributed")

ROOT = Path(__file__).resolve().parents[2]

# Two processors take a while where five processes load torch.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

OPTIMIZERS = '''
import os
import signal
import time
from pathlib import Path

import torch


class Apart(torch.optim.SGD):
    """Elementwise: its trials share runs."""


class Normed(torch.optim.Optimizer):
    """Steps of one length over all that it is given, so each trial has a run of its own."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norm = torch.sqrt(sum((g**2).sum() for g in gradients)) + 1e-12
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * p.grad / norm
        return loss


class Blunders(Exception):
    """The suite's own."""


class Raises(Normed):
    def step(self, closure):
        if float(closure()) > 0.6:
            raise Blunders(f"too steep at {Path(__file__)}")
        return super().step(closure)


class Dies(Normed):
    def step(self, closure):
        if float(closure()) > 0.6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(closure)


class Slow(Normed):
    def step(self, closure):
        time.sleep(0.02)
        float(self.param_groups[0]["params"][0].detach().sum())  # so that trials run alone
        return super().step(closure)

'''

OBJECTIVES = '''
from pathlib import Path

import torch

from harness import Objective

SCALE = float((Path(__file__).parent / "scale.txt").read_text())


class Bowl(Objective):
    """A bowl whose start is its seed's."""

    def init(self, generator):
        return {"x": torch.rand(2, generator=generator, dtype=torch.float64)}

    def loss(self, params, batch):
        return SCALE * (params["x"] ** 2).sum()
'''

SPEC = """
suite: spread
seeds: {seeds}
devices: [cpu]
objectives:
  bowl: {{class: Bowl, steps: {steps}, dtype: float64}}
optimizers:
{optimizers}
timing: {timing}
limits: {{seconds: 20}}
"""

NO_TIMING = "{enabled: false}"


def write_suite(
    folder: Path, optimizers: str, *, seeds: int = 10, steps: int = 3, timing: str = NO_TIMING
) -> Path:
    for name, text in (("optimizers/own.py", OPTIMIZERS), ("objectives/bowl.py", OBJECTIVES)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "objectives" / "scale.txt").write_text("0.5")
    lines = "\n".join(f"  {line}" for line in optimizers.split("; "))
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.format(seeds=seeds, steps=steps, optimizers=lines, timing=timing))
    return spec


class Told(NullProgress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.finished = 0
        self.stage_of = ""
        self.then: Callable[[int], None] | None = None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def begin(self, name: str, total: int, unit: str) -> None:
        del total, unit
        self.stage_of = name

    def advance(self, count: int, left: float | None = None) -> None:
        del left
        self.finished += count if self.stage_of == "training" else 0
        if self.then:
            self.then(self.finished)


@dataclass
class Machines:
    """A scheduler and workers, each a process of its own."""

    folder: Path
    address: str = ""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    scheduler: subprocess.Popen[bytes] | None = None

    def start(self, environment: dict[str, str]) -> None:
        file = self.folder / "scheduler.json"
        self.scheduler = self._run(
            *("scheduler", "--scheduler-file", str(file), "--no-dashboard", "--port", "0"),
            environment=environment,
        )
        self.address = wait_for(lambda: json.loads(file.read_text())["address"])

    def add(self, *before: str, threads: int = 1, **environment: str) -> subprocess.Popen[bytes]:
        name = f"worker{len(self.workers)}"
        worker = self._run(
            *("worker", self.address, "--no-dashboard", "--no-nanny", "--nthreads", str(threads)),
            *("--name", name, "--local-directory", str(self.folder / name)),
            before=before,
            environment=environment,
        )
        self.workers.append(worker)
        wait_for(lambda: any(about["name"] == name for about in self.seen().values()))
        return worker

    def seen(self) -> dict[str, Any]:
        with self.client() as client:
            return dict(client.scheduler_info(n_workers=-1)["workers"])

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        with distributed.Client(self.address, set_as_default=False) as client:
            yield client

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _run(
        self,
        *arguments: str,
        before: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*before, sys.executable, "-P", "-m", "dask", *arguments, "--host", "127.0.0.1"],
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            )


def wait_for(found: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, ValueError):
            if value := found():
                return value
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run found out is what counts here; drawing it would take longer."""
    monkeypatch.setattr(running, "write_report", lambda *_: None)


@contextlib.contextmanager
def started(folders: pytest.TempPathFactory, **environment: str) -> Iterator[Machines]:
    """A scheduler without workers."""
    made = Machines(folders.mktemp("machines"))
    try:
        made.start(environment)
        yield made
    finally:
        made.stop()


@pytest.fixture
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with started(tmp_path_factory) as made:
        yield made


def run(
    spec: Path,
    output: Path,
    scheduler: str | None = None,
    told: Progress | None = None,
    **given: Any,
) -> Run:
    executor = given.pop("executor", "dask" if scheduler else "processes")
    options = RunOptions(output=output, executor=executor, scheduler=scheduler, **given)
    return running.run(spec, options, told or NullProgress())


def content(output: Path, *, seeds: int | None = None) -> dict[str, list[Any]]:
    """All that a run found out, but what it took."""
    queries = {
        "trials": "SELECT key, seed, status, step, trials.reason, final_loss, ways.way FROM trials "
        "LEFT JOIN ways ON ways.id = trials.way",
        "curves": "SELECT key, seed, losses FROM curves",
        "trajectories": "SELECT key, seed, points, step_sizes FROM trajectories",
    }
    known: dict[str, list[Any]] = {}
    with contextlib.closing(sqlite3.connect(output / "results.sqlite")) as db:
        for name, query in queries.items():
            where = "" if seeds is None else f" WHERE seed < {seeds}"
            query += f" JOIN cases ON cases.id = case_id{where} ORDER BY key, seed"
            known[name] = db.execute(query).fetchall()
    return known


def stored(output: Path) -> int:
    """How many trials are stored, from the moment on when a run is about to make its store."""
    try:
        with Store(output / "results.sqlite", untouched=True) as store:
            return sum(store.statuses().values()) if store.has_run() else 0
    except NoResults:
        return 0


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that work for a suite: its folder is in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


EVERY_WAY = (
    "apart: {class: Apart, hyperparameters: {lr: [0.1, 0.3, 1000.0]}}; "
    "normed: {class: Normed}; raises: {class: Raises}; dies: {class: Dies}"
)


def test_a_run_on_a_cluster_equals_a_serial_one_to_the_bit(tmp_path: Path) -> None:
    """On a cluster of our own, with trials that share a run, don't, diverge, raise and die."""
    spec = write_suite(tmp_path / "suite", EVERY_WAY, seeds=4, steps=20)
    run(spec, tmp_path / "serial", workers=1)
    summary = run(spec, tmp_path / "spread", executor="dask", workers=2)
    serial = content(tmp_path / "serial")
    assert content(tmp_path / "spread") == serial
    statuses = {row[2] for row in serial["trials"]}
    assert statuses == {"ok", "diverged", "error"}
    assert {row[6] for row in serial["trials"]} == {"pointwise", "vmapped", "alone"}
    reasons = {row[4] for row in serial["trials"] if row[2] == "error"}
    blunder = f"own.Blunders: too steep at {tmp_path}/suite/optimizers/own.py"
    assert any(blunder in reason for reason in reasons)
    assert "the process was killed by SIGKILL" in reasons
    assert summary.statuses == {s: sum(row[2] == s for row in serial["trials"]) for s in statuses}


@dataclass
class Sabotage:
    """Does something to a cluster when so many trials are finished."""

    when: int
    what: Callable[[], None]
    done: bool = False

    def __call__(self, finished: int) -> None:
        if finished >= self.when and not self.done:
            self.done = True
            self.what()


@pytest.mark.exhaustive
def test_ten_thousand_trials_while_a_worker_is_killed_and_one_added(
    tmp_path: Path, machines: Machines
) -> None:
    optimizers = "normed: {class: Normed, hyperparameters: {lr: [0.1, 0.2]}}"
    spec = write_suite(tmp_path / "suite", optimizers, seeds=5000)
    victim = machines.add()
    machines.add()
    machines.add()

    def change() -> None:
        victim.kill()
        machines.add()

    told = Told()
    told.then = sabotage = Sabotage(5000, change)
    summary = run(spec, tmp_path / "spread", machines.address, told)
    assert sabotage.done
    assert summary.statuses == {"ok": 10_000}
    assert told.finished == 10_000
    # A trial that has a run of its own is the same however many there are.
    run(spec, tmp_path / "serial", overrides=Overrides(seeds=300))
    assert content(tmp_path / "spread", seeds=300) == content(tmp_path / "serial")
    assert len(machines.seen()) == 3
    # Nothing of the run is left behind on those that live.
    wait_for(lambda: not list(machines.folder.glob("worker[1-3]/**/harness-*")))


@pytest.mark.exhaustive
def test_a_worker_that_falls_silent_does_not_hold_the_rest(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Dask gives it up after its ``worker-ttl``, and repeats elsewhere what it had."""
    spec = write_suite(tmp_path / "suite", "slow: {class: Slow}", seeds=120)
    with started(tmp_path_factory, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="5s") as machines:
        silent = machines.add()
        machines.add()
        told = Told()
        told.then = Sabotage(20, lambda: os.killpg(silent.pid, signal.SIGSTOP))
        summary = run(spec, tmp_path / "out", machines.address, told)
    assert summary.statuses == {"ok": 120}


def test_a_worker_that_would_compute_something_else_is_left_out(
    tmp_path: Path, machines: Machines
) -> None:
    """One has another engine: its results would go under keys that aren't theirs."""
    other = tmp_path / "other"
    shutil.copytree(
        ROOT / "harness", other / "harness", ignore=shutil.ignore_patterns("__pycache__")
    )
    with (other / "harness" / "engine" / "training_loop.py").open("a") as file:
        file.write("\n# Changed.\n")
    spec = write_suite(tmp_path / "suite", "normed: {class: Normed}")
    machines.add(PYTHONPATH=str(other))
    with pytest.raises(BadInput, match=r"no worker can do this run.*another version of the harn"):
        run(spec, tmp_path / "out", machines.address)
    assert not (tmp_path / "out").exists()
    machines.add()
    told = Told()
    assert run(spec, tmp_path / "out", machines.address, told).statuses == {"ok": 10}
    left_out = [note for note in told.notes if "is excluded" in note]
    assert len(left_out) == 1
    assert "another version of the harness" in left_out[0]


@pytest.fixture
def small(tmp_path: Path, machines: Machines) -> Iterator[cluster.Cluster]:
    """What a run talks to, with one worker of two threads."""
    spec = write_suite(tmp_path / "suite", "normed: {class: Normed}")
    machines.add(threads=2)
    plan = make_plan(load(spec))
    with cluster.Cluster(
        *(spec.parent, plan),
        scheduler=machines.address,
        size=1,
        memory=None,
        progress=NullProgress(),
    ) as made:
        yield made


def test_a_task_that_fails_there_says_how(
    small: cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WorkerFailed, match="unreachable"):
        small.call(Task(Request[Any](), 5.0))
    task = Task(ValidatePlan(cast(Any, "no plan")), 5.0)
    small.submit(task)
    (event,) = small.events()
    assert isinstance(event, Lost)
    assert event.kind == "raised"
    assert event.machine
    # One that can't even be unpacked fails on every worker, so it is not tried for ever.
    monkeypatch.setattr("harness.workers.dask.suite_archive.dumps", lambda *_: b"torn")
    with pytest.raises(WorkerFailed, match="UnpicklingError"):
        small.call(task)
    small.submit(task)
    (event,) = small.events()
    assert isinstance(event, Lost)
    assert "UnpicklingError" in event.reason


def test_times_come_from_the_machine_that_was_asked(tmp_path: Path, machines: Machines) -> None:
    """Another one may use one processor only, and so is another machine."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    spec = write_suite(
        tmp_path / "suite",
        "apart: {class: Apart, hyperparameters: {lr: [0.1, 0.3]}}; normed: {class: Normed}",
        timing="{rounds: 3, block_steps: 4, seconds: 1}",
        seeds=3,
    )
    machines.add("taskset", "-c", str(min(os.sched_getaffinity(0))))
    summary = run(spec, tmp_path / "out", machines.address)
    assert (summary.trained, summary.timed) == (9, 3)
    with contextlib.closing(sqlite3.connect(tmp_path / "out" / "results.sqlite")) as db:
        (settings, described), *_ = db.execute("SELECT settings, environment FROM runs")
        timed = db.execute("SELECT DISTINCT machine FROM timings").fetchall()
        ran = db.execute("SELECT DISTINCT machine FROM trials").fetchall()
    here = environment.machine_key(1)
    assert json.loads(settings)["machine"] == here
    assert json.loads(described)["workers"] == "1 Dask worker on 1 machine"
    assert timed == [(here,)]
    assert len(ran) == 1
    assert ran != timed
    # All is known now, so nobody is asked.
    machines.stop()
    again = run(spec, tmp_path / "out", machines.address)
    assert (again.trained, again.timed) == (0, 0)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["run", *arguments])


def test_no_scheduler_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    spec = str(write_suite(tmp_path, "normed: {class: Normed}"))
    for address, message in (
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1: no scheduler answers there"),
        ("nonsense:", "nonsense:: no scheduler answers there"),
        (str(tmp_path / "gone.json"), "gone.json: no such file; a scheduler writes it"),
    ):
        result = invoke(spec, "--scheduler", address)
        assert result.exit_code == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "reports").exists()


def test_without_dask_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "harness.workers.dask.cluster")
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = invoke(str(write_suite(tmp_path, "normed: {class: Normed}")), "--executor", "dask")
    assert result.exit_code == 2
    assert "pip install distributed" in result.stderr
    assert not (tmp_path / "reports").exists()


def test_options_that_contradict_each_other(tmp_path: Path) -> None:
    spec = str(write_suite(tmp_path, "normed: {class: Normed}"))
    result = invoke(spec, "--scheduler", "tcp://h:1", "--executor", "processes")
    assert (result.exit_code, "--scheduler needs --executor dask" in result.stderr) == (2, True)
    result = invoke(spec, "--scheduler", "tcp://h:1", "--workers", "2")
    assert (result.exit_code, "--workers is for this machine" in result.stderr) == (2, True)


@pytest.mark.exhaustive
def test_the_scheduler_may_go(tmp_path: Path, machines: Machines) -> None:
    spec = write_suite(tmp_path / "suite", "slow: {class: Slow}", seeds=200)
    machines.add()
    told = Told()
    assert machines.scheduler is not None
    told.then = Sabotage(20, machines.scheduler.kill)
    with pytest.raises(BadInput, match="the scheduler is gone") as caught:
        run(spec, tmp_path / "out", machines.address, told)
    assert caught.value.exit_status == 1
    kept = len(content(tmp_path / "out")["trials"])
    assert 20 <= kept < 200
    after = Told()
    assert run(spec, tmp_path / "out", told=after).trained == 200 - kept


@pytest.mark.exhaustive
def test_a_killed_run_leaves_nobody_behind_and_goes_on(tmp_path: Path) -> None:
    spec = write_suite(tmp_path / "suite", "slow: {class: Slow}", seeds=200)
    output = tmp_path / "out"
    command = [
        *(sys.executable, "-P", "-m", "harness", "run", str(spec), "--executor", "dask"),
        *("--workers", "2", "--output", str(output), "--quiet"),
    ]
    marked = {**os.environ, "PYTHONPATH": str(ROOT), "MARK": str(tmp_path)}
    process = subprocess.Popen(command, env=marked)
    wait_for(lambda: stored(output) > 0)
    assert len(processes_of(tmp_path)) > 3
    process.kill()
    process.wait()
    wait_for(lambda: not processes_of(tmp_path))
    kept = len(content(output)["trials"])
    assert 0 < kept < 200
    assert run(spec, output).trained == 200 - kept
