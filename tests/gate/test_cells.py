"""The project's own cells: every case of ``benchmarks.yaml`` as a benchmark of pytest-benchmark.

    pytest tests/gate/test_cells.py                                a few rounds: that it works
    pytest tests/gate/test_cells.py --benchmark-only               enough rounds to look at
    pytest tests/gate/test_cells.py --benchmark-only --benchmark-save=before
    pytest tests/gate/test_cells.py --benchmark-only --benchmark-compare

A round is a block of steps as the timing pass takes them, an iteration a step: what the table
shows is one step's time. Setting up, a trial's first step and the evaluation of losses are off
the clock. That the steps timed are those of a run is checked to the bit; how fast they are is no
condition of a test. Groups and names are those of the file ``check/pytest-benchmark.json`` that
the check leaves with a suite's results, so that ``pytest-benchmark compare`` can show both.

This is for looking, and ``python -m harness check`` is for judging. Compared here are seconds of
one process then with seconds of one process now. They move with the machine, with what else it
does meanwhile, and from process to process of the same code: on two shared cores the median of
one cell was 165 µs in one run and 57 in the next. So a difference need not be the code's, and
that none shows doesn't mean that there is none. What can be seen is how the cells of a run
compare, and roughly what a step takes. The check measures each step as a ratio to a frozen loop
that takes turns with it, asks more processes where something seems to have changed, knows how far
processes lie apart, and judges loss and exact counts as well; its exit status is fit to stop a
merge, and ``--benchmark-compare-fail`` here is not.

On a machine that does other work, ``--benchmark-timer=time.process_time`` leaves the waiting out
(on the CPU, that is; a GPU has to be waited for).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import make_plan
from pytest_benchmark.fixture import BenchmarkFixture

from harness.engine.isolation import seed_globals
from harness.engine.lanes import Lane, Lanes
from harness.engine.loading import load_objective
from harness.engine.recipe_factory import OptimizerFactory
from harness.engine.stepper import Stepper
from harness.engine.training_loop import train
from harness.engine.validate import load_optimizer, unavailable
from harness.engine.workload import Workload, prepare
from harness.gate import baseline
from harness.gate.outputs import pytest_benchmark
from harness.gate.report import Blocks, CellVerdict, GateReport
from harness.plan.model import Case
from harness.spec.validation import load

ROOT = Path(__file__).resolve().parents[2]
PLAN = make_plan(load(ROOT / "benchmarks.yaml"))
SEED = PLAN.seeds[0]


def group(case: Case) -> str:
    """What shares a table: as in the check's file."""
    return f"{case.objective.name}/{case.device}"


def full_name(case: Case) -> str:
    """What runs are compared by: as in the check's file."""
    return f"{PLAN.suite}::{case.id}"


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(PLAN.spec.threads)
    yield
    torch.set_num_threads(before)


class Cell:
    """Takes a case's steps one by one, in one trial after the other as they are used up.

    Args:
        case: The case.

    Attributes:
        steps: Steps in a block.
        trials: Every trial that was begun.
        taken: The steps that each has taken.
    """

    def __init__(self, case: Case) -> None:
        self.workload: Workload = prepare(
            case.objective, load_objective(case.objective)[0], case.device
        )
        self.factory: OptimizerFactory = load_optimizer(case.located)
        self.setting = case.hyperparameters
        self.steps = max(1, min(PLAN.spec.timing.block_steps, self.workload.steps - 1))
        self.trials: list[Lanes] = []
        self.taken: list[int] = []
        self._restart()

    def step(self) -> None:
        """Take the next step; the last one of a block waits for the device."""
        self._step(next(self._batches))
        self.taken[-1] += 1
        if (self.taken[-1] - 1) % self.steps == 0:
            self._wait()

    def between(self) -> None:
        """Make ready for the next block, off the clock."""
        if self.workload.steps - self.taken[-1] < self.steps:
            self._restart()

    def losses(self) -> list[float]:
        """The loss over all data that each trial has come to."""
        return [lanes.measured("train")["loss"].item() for lanes in self.trials]

    def losses_of_a_run(self) -> list[float]:
        """The loss over all data after every step of a trial, as the engine runs it."""
        every = replace(self.workload, record_steps=tuple(range(self.workload.steps + 1)))
        outcome = train(
            *(every, self.factory, [self.setting], [Lane(0, SEED)]),
            way="alone",
        )
        found: list[float] = outcome.losses[0].tolist()
        return found

    def _restart(self) -> None:
        """Begin a trial; its first step, which makes the optimizer's state, is taken here."""
        seed_globals(SEED)
        lanes = Lanes(self.workload, [Lane(0, SEED)], stacked=False)
        stepper = Stepper(lanes, self.factory, [self.setting], "alone")
        stepper.train()
        self._step, self._batches = stepper.step, lanes.batches()
        self._step(next(self._batches))
        self.trials.append(lanes)
        self.taken.append(1)
        self._wait()

    def _wait(self) -> None:
        if self.workload.device.type != "cpu":
            torch.accelerator.synchronize(self.workload.device)


@pytest.mark.serial
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case, id=case.id, marks=pytest.mark.benchmark(group=group(case), disable_gc=True)
        )
        for case in PLAN.cases
    ],
)
def test_cell(benchmark: BenchmarkFixture, request: pytest.FixtureRequest, case: Case) -> None:
    if why := unavailable(case.device):
        pytest.skip(why)
    rounds, warm = (100, 3) if request.config.getoption("benchmark_only") else (10, 1)
    cell = Cell(case)
    named: Any = benchmark
    named.name, named.fullname, named.param = case.id, full_name(case), case.setting or None
    named.params = None  # a case can't be saved
    named.pedantic(
        cell.step,
        teardown=cell.between,
        rounds=rounds,
        warmup_rounds=warm,
        iterations=cell.steps,
    )
    # pytest-benchmark takes one more step, off its clock, to have what it returns.
    timed = (warm + rounds) * cell.steps if benchmark.enabled else 0
    assert sum(taken - 1 for taken in cell.taken) == timed + 1
    expected = cell.losses_of_a_run()
    assert cell.losses() == [expected[taken] for taken in cell.taken]
    if benchmark.stats is not None:
        epoch = cell.workload.steps_per_epoch
        benchmark.extra_info.update(
            steps_per_round=cell.steps,
            steps_per_epoch=epoch,
            seconds_per_epoch=benchmark.stats.stats.median * epoch,
        )


def test_names_are_those_of_the_file_that_a_check_leaves() -> None:
    blocks = Blocks("cpu", 1, 1, (1.0,), (1.0,), 1.0, 0, "now")
    cells = tuple(
        CellVerdict(
            *(case.id, case.objective.name, case.optimizer, case.setting, case.device, ""),
            judgements=(),
            blocks=(blocks,),
        )
        for case in PLAN.cases
    )
    report = GateReport(PLAN.suite, "", "", "", 0.0, "", {}, "", (), (), cells)
    written = json.loads(pytest_benchmark.render(report))["benchmarks"]
    assert [(b["group"], b["name"], b["fullname"], b["param"]) for b in written] == [
        (group(case), case.id, full_name(case), case.setting or None) for case in PLAN.cases
    ]


def test_the_baseline_that_make_test_compares_to_is_of_these_cells() -> None:
    found = baseline.read(ROOT / "tests" / "baseline.json")
    assert sorted(found.cells) == sorted(case.id for case in PLAN.cases if case.device == "cpu")
    assert (found.suite, found.seeds) == (PLAN.suite, baseline.seeds_text(PLAN.seeds))
