"""A side of a comparison: one version of a suite, run and measured.

Losses come from the store, as in a run. Counts and times come from processes of their own. Where
two sides are compared, their processes take turns round by round.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.commands.quality_pass import QualityPass
from harness.commands.run import inspect, locked
from harness.gate import baseline as baselines
from harness.gate.baseline import Baseline, Cell
from harness.plan.model import Case, Plan
from harness.progress import Progress
from harness.provenance import environment
from harness.results import Checked, MeasuredRatios
from harness.spec.validation import LoadedSpec
from harness.store.database import Store
from harness.workers.executor import Task, WorkerFailed
from harness.workers.pool import Pool
from harness.workers.requests import (
    CollectRatios,
    CountSteps,
    MeasureRatios,
    PrepareRatios,
    Request,
)

MIN_CPU_SHARE = 0.25
"""The part of a processor that a process needs: with less, too few blocks are undisturbed."""

SLICE = 10
"""Rounds between two looks at how far a process is, where it takes no turns with another."""

CALL_SECONDS = 300.0
"""How long counting one cell, or handing over what was measured, may take."""

Trial = tuple[int, str, str, float | None, float | None]
"""Seed, status, reason, final loss, loss at the start."""


@dataclass
class MeasuredRevision:
    """One version of a suite, and what is known of it.

    Attributes:
        loaded: Its spec.
        plan: Its plan.
        search: Where its packages are found first.
        missing: By device that isn't there, why.
        steps_per_epoch: By objective.
        cells: By id, what is known of each cell whose device is there.
        failure_reasons: By id, why a cell could not be run or measured.
        ratios: By process, what was measured.
    """

    loaded: LoadedSpec
    plan: Plan
    search: tuple[Path, ...]
    missing: Mapping[str, str]
    steps_per_epoch: Mapping[str, int]
    cells: dict[str, Cell] = field(default_factory=dict)
    failure_reasons: dict[str, str] = field(default_factory=dict)
    ratios: list[MeasuredRatios] = field(default_factory=list)

    @property
    def cases(self) -> list[Case]:
        """The cases whose device is there."""
        return [case for case in self.plan.cases if case.device not in self.missing]

    @property
    def timed(self) -> list[Case]:
        """The cases that can be measured."""
        return [case for case in self.cases if case.id not in self.failure_reasons]

    @property
    def controls(self) -> list[float]:
        """The reference loop's ratio to itself, the furthest of each process."""
        return [
            max(found.controls, key=lambda ratio: abs(ratio - 1))
            for found in self.ratios
            if found.controls
        ]

    @property
    def unstable_reference(self) -> bool:
        """Whether the reference loop strayed from itself by more than half a threshold."""
        far = [abs(control - 1) for control in self.controls]
        return bool(far) and statistics.median(far) > self.plan.spec.check.threshold / 2

    @property
    def shares(self) -> list[float]:
        """The part of the time in which a processor worked for each process."""
        return [found.share for found in self.ratios]

    @property
    def cpu_starved(self) -> bool:
        """Whether the processes had too little of a processor for a change to be believed."""
        spec = self.plan.spec
        alone = spec.threads == 1 and all(case.device == "cpu" for case in self.cases)
        return alone and bool(self.shares) and statistics.median(self.shares) < MIN_CPU_SHARE

    def measured(self) -> Baseline:
        """All that is known, as a baseline holds it."""
        cells = {}
        for case in self.cases:
            measured = [] if case.id in self.failure_reasons else self.ratios
            found = [ratios.cells[case.key] for ratios in measured if case.key in ratios.cells]
            times = tuple(round(pairs.ratio, baselines.DECIMALS) for pairs in found)
            clock = found[0].clock if found else None
            cells[case.id] = self.cells[case.id].model_copy(update={"times": times, "clock": clock})
        spec = self.plan.spec
        return Baseline(
            harness_baseline=1,
            suite=self.plan.suite,
            seeds=baselines.seeds_text(self.plan.seeds),
            protocol=baselines.protocol(spec.check),
            machine=baselines.machine(spec.threads),
            cells=cells,
        )


def opened(
    loaded: LoadedSpec,
    plan: Plan,
    path: Path,
    progress: Progress,
    *,
    workers: int | None = None,
    search: Sequence[Path] = (),
) -> MeasuredRevision:
    """Run what is not known of a suite's trials, and count what its steps take.

    Args:
        loaded: The suite's spec.
        plan: Its plan.
        path: The store.
        progress: Who is told how it goes.
        workers: Processes at most that run trials; None for one per core.
        search: Where the suite's packages are found first.

    Raises:
        BadInput: If the suite has mistakes, or the store can't be written.
    """
    size = workers or os.cpu_count() or 1
    with Pool(size, _memory(plan), search, fresh=True, printed=progress.printed) as pool:
        with progress.stage("checking", len(plan.cases), "cases"):
            checked = inspect(pool, loaded, plan, ())
            progress.advance(len(plan.cases))
        with locked(path.parent), Store(path, create=True) as store:
            outcomes = _trained(pool, store, plan, checked, progress)
            epochs = {name: d.steps_per_epoch for name, d in checked.descriptions.items()}
            side = MeasuredRevision(loaded, plan, tuple(search), checked.absent.devices, epochs)
            for case in side.cases:
                trials = outcomes[case.key]
                losses = [(seed, status, final, start) for seed, status, _, final, start in trials]
                side.cells[case.id] = Cell(loss=baselines.summarise(losses))
                wrong = [
                    reason for _, status, reason, *_ in trials if status in ("error", "timeout")
                ]
                if wrong:
                    side.failure_reasons[case.id] = (
                        f"{len(wrong)} of {len(trials)} trials failed: {wrong[0]}"
                    )
        _count(pool, side, progress)
    return side


def _trained(
    pool: Pool, store: Store, plan: Plan, checked: Checked, progress: Progress
) -> dict[str, list[Trial]]:
    """Run the trials that this machine has not run; how all of them ended."""
    machine = environment.machine_key(plan.spec.threads)
    store.put_plan(plan, checked.descriptions, checked.defaults)
    keys = [case.key for case in plan.cases]
    done = store.finished_seeds(keys, machine, only_here=True)
    QualityPass(pool, store, plan, machine, checked.absent, progress).run(done)
    return store.outcomes(keys, plan.seeds)


def _count(pool: Pool, side: MeasuredRevision, progress: Progress) -> None:
    """Count what the steps of each cell take; one that kills or hangs its process costs itself."""
    with progress.stage("counting", len(side.timed), "cells"):
        for case in side.timed:
            request = CountSteps(case, side.plan.seeds[0], side.plan.spec.threads)
            try:
                found = pool.call(Task(request, CALL_SECONDS))
            except WorkerFailed as error:
                why = str(error).strip().rpartition("\n")[2]
                side.failure_reasons[case.id] = f"its steps could not be counted: {why}"
            else:
                side.cells[case.id] = side.cells[case.id].with_counts(found)
            progress.advance(1)


def measure(
    sides: Sequence[MeasuredRevision], number: int, progress: Progress, started: Sequence[Pool] = ()
) -> None:
    """Have one fresh process per side measure its cells; the sides take turns.

    Args:
        sides: The sides.
        number: Of the process, from 0.
        progress: Who is told how it goes.
        started: Processes that wait for it already, one per side.
    """
    rounds = sides[0].plan.spec.check.rounds
    what = "measuring" if number == 0 else f"measuring again ({number + 1})"
    with progress.stage(what, rounds, "rounds"):
        found = None
        while found is None:
            with contextlib.ExitStack() as stack:
                pools = started or [waiting(side.plan, progress, side.search) for side in sides]
                for pool in pools:
                    stack.enter_context(pool)
                found = _take_turns(pools, sides, progress)
            started = ()
    for side, ratios in zip(sides, found, strict=True):
        side.ratios.append(ratios)
        for case in side.cases:
            if case.key in ratios.failures:
                reason = f"could not be measured: {ratios.failures[case.key]}"
                side.failure_reasons[case.id] = reason


def _take_turns(
    pools: Sequence[Pool], sides: Sequence[MeasuredRevision], progress: Progress
) -> list[MeasuredRatios] | None:
    """What each side's process measured; None where a cell ended one, and is left out now."""
    rounds = sides[0].plan.spec.check.rounds
    each = SLICE if len(sides) == 1 else 1
    turns = list(zip(pools, sides, strict=True))
    for pool, side in turns:
        spec = side.plan.spec
        request = PrepareRatios(side.timed, spec.check, side.plan.seeds[0], spec.threads)
        if _ended_by_a_cell(pool, side, request):
            return None
    for first in range(0, rounds, each):
        for pool, side in turns if first % 2 else reversed(turns):
            if _ended_by_a_cell(pool, side, MeasureRatios(min(each, rounds - first))):
                return None
        progress.advance(min(each, rounds - first))
    return [pool.call(Task(CollectRatios(), CALL_SECONDS)) for pool in pools]


def _ended_by_a_cell(pool: Pool, side: MeasuredRevision, request: Request[None]) -> bool:
    """Send a request to a side's process; True if a cell ended it. That one is left out."""
    try:
        pool.call(Task(request, side.plan.spec.limits.seconds))
    except WorkerFailed as error:
        cases = side.timed
        if not error.lost.step or not cases:
            raise
        culprit = cases[(error.lost.step - 1) % len(cases)]
        side.failure_reasons[culprit.id] = f"could not be measured: {error}"
        return True
    return False


def waiting(plan: Plan, progress: Progress, search: Sequence[Path] = ()) -> Pool:
    """A process that loads torch, to measure with later."""
    return Pool(1, _memory(plan), search, fresh=True, printed=progress.printed)


def _memory(plan: Plan) -> int:
    return round(plan.spec.limits.memory_gib * 2**30)
