"""The timing pass: cases of one objective on one device are timed against each other."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.commands.preview import TimingPreview
from harness.plan.model import Case, Plan
from harness.progress import Progress
from harness.provenance import fingerprint
from harness.results import Timing, Unavailable
from harness.spec.model import TimingSpec
from harness.store.database import Store
from harness.workers.executor import Executor, Task, WorkerFailed
from harness.workers.requests import TimeCases

Cell = tuple[Case, ...]
"""Cases of one objective on one device."""


def cells_of(plan: Plan, absent: Unavailable, failing: Container[str]) -> list[Cell]:
    """Cells to be timed, without cases that can't be run and those of which some trial fails."""
    if not plan.spec.timing.enabled:
        return []
    cells: dict[tuple[str, str], list[Case]] = {}
    for case in plan.cases:
        if not absent.why(case) and case.key not in failing:
            cells.setdefault((case.objective.name, case.device), []).append(case)
    return [tuple(cell) for cell in cells.values()]


def untimed(store: Store, plan: Plan, cells: Sequence[Cell], machine: str) -> list[Cell]:
    """The cells of which some case is not timed the way the spec has it."""
    return [
        cell
        for cell in cells
        if {case.key for case in cell} - store.timed(machine, _settings_digest(plan, cell))
    ]


def preview(
    spec: TimingSpec,
    cells: Sequence[Cell],
    due: Sequence[Cell],
    steps: Mapping[str, int],
    step_seconds: Mapping[str, float],
) -> TimingPreview:
    """Say what would be timed.

    Args:
        spec: How it would be timed.
        cells: All that there is to time.
        due: What of it is not timed yet.
        steps: By objective name, updates per trial.
        step_seconds: By case key, what a step takes, where that is known.
    """
    cases = [case for cell in due for case in cell]
    seconds = None
    if cases and all(step_seconds.get(case.key) for case in cases):
        seconds = expected_seconds(spec, cases, steps, step_seconds)
    return TimingPreview(len(cases), sum(map(len, cells)) - len(cases), spec, seconds)


@dataclass(frozen=True)
class TimingPass:
    """Times what is not timed yet.

    Attributes:
        pool: Workers.
        store: Where results go.
        plan: What is compared.
        absent: What can't be run.
        machine: Digest of this machine.
        progress: Shows how it goes.
        fresh: Whether to time again what is timed already.
    """

    pool: Executor
    store: Store
    plan: Plan
    absent: Unavailable
    machine: str
    progress: Progress
    fresh: bool

    def run(self) -> int:
        """Time the cells that are not timed; returns how many cases."""
        store, plan, machine = self.store, self.plan, self.machine
        cells = cells_of(plan, self.absent, store.failing())
        todo = cells if self.fresh else untimed(store, plan, cells, machine)
        if not todo:
            return 0
        cases = [case for cell in todo for case in cell]
        objectives = {case.objective.name: case.objective.key for case in cases}
        steps = {name: store.description(key).steps for name, key in objectives.items()}
        step_seconds = store.step_seconds()
        spec = within_budget(plan.spec.timing, cases, steps, step_seconds)
        weights = weights_of([expected_seconds(spec, cell, steps, step_seconds) for cell in todo])
        end = time.monotonic() + spec.seconds
        count = 0
        with self.progress.stage("timing", len(cases), "cases"):
            for number, cell in enumerate(todo):
                left = max(0.0, end - time.monotonic())
                share = left * weights[number] / sum(weights[number:])
                timings = self._time(cell, spec.model_copy(update={"seconds": share}))
                store.save_timings(timings, machine, _settings_digest(plan, cell))
                self.progress.advance(len(cell))
                count += len(timings)
        return count

    def _time(self, cell: Cell, spec: TimingSpec) -> list[Timing]:
        """Time the cases of a cell, without one that kills or hangs the worker."""
        cases = list(cell)
        while cases:
            request = TimeCases(tuple(cases), spec, self.plan.seeds[0], self.plan.spec.threads)
            try:
                timings, failures = self.pool.call(Task(request, self.plan.spec.limits.seconds))
            except WorkerFailed as error:
                self._note(cases.pop((error.lost.step - 1) % len(cases)).id, error)
                continue
            for case in cases:
                if case.key in failures:
                    self._note(case.id, failures[case.key])
            return list(timings)
        return []

    def _note(self, name: str, reason: object) -> None:
        self.progress.note(f"{name} could not be timed: {reason}")


def _settings_digest(plan: Plan, cell: Cell) -> str:
    """A digest of how a cell is timed, and of what is timed in it."""
    return fingerprint.digest(
        [plan.spec.timing.model_dump(), plan.spec.threads, sorted(case.key for case in cell)]
    )


def expected_seconds(
    spec: TimingSpec,
    cases: Iterable[Case],
    steps: Mapping[str, int],
    step_seconds: Mapping[str, float],
) -> float:
    """About what the blocks of some cases take, as far as their steps' times are known.

    Args:
        spec: How many blocks there are, and how long each is.
        cases: The cases.
        steps: By objective name, updates per trial.
        step_seconds: By case key, what a step takes.
    """
    return sum(
        (spec.rounds + spec.warmup_rounds)
        * min(spec.block_steps, steps[case.objective.name])
        * step_seconds.get(case.key, 0.0)
        for case in cases
    )


def within_budget(
    spec: TimingSpec,
    cases: Sequence[Case],
    steps: Mapping[str, int],
    step_seconds: Mapping[str, float],
) -> TimingSpec:
    """The timing spec, with blocks as short as it takes to keep to its time, about."""
    expected = expected_seconds(spec, cases, steps, step_seconds)
    if expected <= spec.seconds:
        return spec
    block_steps = max(1, int(spec.block_steps * spec.seconds / expected))
    return spec.model_copy(update={"block_steps": block_steps})


def weights_of(expected: Sequence[float]) -> list[float]:
    """Weights by which cells share the time: half equally, half by what each may take.

    A cell that takes next to nothing so has time for its set-up, and what a cell leaves goes
    to those after it.
    """
    total = sum(expected)
    return [1 / len(expected) + (e / total if total else 0.0) for e in expected]
