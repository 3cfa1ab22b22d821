"""A version of a suite, run and measured.

Losses come from the store, as in a run. Counts and times come from processes of their own. Where
two versions are compared, their processes take turns round by round.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.commands.quality_pass import QualityPass
from harness.commands.result_paths import locked
from harness.commands.validation import validate_in_worker
from harness.gate import baseline as baselines
from harness.gate.baseline import Baseline, Cell
from harness.plan import measuring
from harness.plan.model import Case, Plan
from harness.progress import Progress
from harness.provenance import environment
from harness.results import MeasuredRatios
from harness.spec.validation import LoadedSpec
from harness.store import recorded
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
"""Time limit of counting one cell, and of handing over what was measured."""

FAILED = ("error", "timeout")


@dataclass
class MeasuredRevision:
    """One version of a suite, and everything that is known of it.

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
        """Tell whether the reference loop differed from itself by more than half a threshold."""
        far = [abs(control - 1) for control in self.controls]
        return bool(far) and statistics.median(far) > self.plan.spec.check.threshold / 2

    @property
    def shares(self) -> list[float]:
        """The part of the time in which a processor worked for each process."""
        return [found.share for found in self.ratios]

    @property
    def cpu_starved(self) -> bool:
        """Tell whether processes had too little of a processor for a change to be believed."""
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
            checked = validate_in_worker(pool, loaded, plan, ())
            progress.advance(len(plan.cases))
        with locked(path.parent), Store(path, create=True) as store:
            machine, keys = environment.machine_key(plan.spec.threads), [c.key for c in plan.cases]
            store.put_plan(plan, checked.descriptions, checked.defaults)
            done = store.finished_seeds(keys, machine, only_here=True)
            QualityPass(pool, store, plan, machine, checked.absent, progress).run(done)
            objectives = plan.spec.objectives
            measures = {c.key: measuring.reported(objectives[c.objective.name]) for c in plan.cases}
            outcomes = recorded.endings(store, measures, plan.seeds)
            epochs = {name: d.steps_per_epoch for name, d in checked.descriptions.items()}
            revision = MeasuredRevision(loaded, plan, tuple(search), checked.absent.devices, epochs)
            for case in revision.cases:
                trials = outcomes[case.key]
                losses = [(t.seed, t.status, t.final, t.first) for t in trials]
                revision.cells[case.id] = Cell(loss=baselines.summarise(losses, measures[case.key]))
                wrong = [trial.reason for trial in trials if trial.status in FAILED]
                if wrong:
                    reason = f"{len(wrong)} of {len(trials)} trials failed: {wrong[0]}"
                    revision.failure_reasons[case.id] = reason
        _count(pool, revision, progress)
    return revision


def _count(pool: Pool, revision: MeasuredRevision, progress: Progress) -> None:
    """Count what the steps of each cell take; one that kills or hangs its process costs itself."""
    with progress.stage("counting", len(revision.timed), "cells"):
        for case in revision.timed:
            request = CountSteps(case, revision.plan.seeds[0], revision.plan.spec.threads)
            try:
                found = pool.call(Task(request, CALL_SECONDS))
            except WorkerFailed as error:
                why = str(error).strip().rpartition("\n")[2]
                revision.failure_reasons[case.id] = f"its steps could not be counted: {why}"
            else:
                revision.cells[case.id] = revision.cells[case.id].with_counts(found)
            progress.advance(1)


def measure(
    revisions: Sequence[MeasuredRevision],
    number: int,
    progress: Progress,
    started: Sequence[Pool] = (),
) -> None:
    """Have one fresh process per revision measure its cells; the revisions take turns.

    Args:
        revisions: The revisions.
        number: Of the process, from 0.
        progress: Who is told how it goes.
        started: Processes that wait for it already, one per revision.
    """
    rounds = revisions[0].plan.spec.check.rounds
    what = "measuring" if number == 0 else f"measuring again ({number + 1})"
    with progress.stage(what, rounds, "rounds"):
        found = None
        while found is None:
            with contextlib.ExitStack() as stack:
                pools = started or [
                    waiting(revision.plan, progress, revision.search) for revision in revisions
                ]
                for pool in pools:
                    stack.enter_context(pool)
                found = _take_turns(pools, revisions, progress)
            started = ()
    for revision, ratios in zip(revisions, found, strict=True):
        revision.ratios.append(ratios)
        for case in revision.cases:
            if case.key in ratios.failures:
                reason = f"could not be measured: {ratios.failures[case.key]}"
                revision.failure_reasons[case.id] = reason


def _take_turns(
    pools: Sequence[Pool], revisions: Sequence[MeasuredRevision], progress: Progress
) -> list[MeasuredRatios] | None:
    """Ratios that each process measured; None where a cell ended one, which is left out now."""
    rounds = revisions[0].plan.spec.check.rounds
    each = SLICE if len(revisions) == 1 else 1
    turns = list(zip(pools, revisions, strict=True))
    for pool, revision in turns:
        spec = revision.plan.spec
        request = PrepareRatios(revision.timed, spec.check, revision.plan.seeds[0], spec.threads)
        if _ended_by_a_cell(pool, revision, request):
            return None
    for first in range(0, rounds, each):
        for pool, revision in turns if first % 2 else reversed(turns):
            if _ended_by_a_cell(pool, revision, MeasureRatios(min(each, rounds - first))):
                return None
        progress.advance(min(each, rounds - first))
    return [pool.call(Task(CollectRatios(), CALL_SECONDS)) for pool in pools]


def _ended_by_a_cell(pool: Pool, revision: MeasuredRevision, request: Request[None]) -> bool:
    """Send a request to a revision's process; True if a cell ended it. That one is left out."""
    try:
        pool.call(Task(request, revision.plan.spec.limits.seconds))
    except WorkerFailed as error:
        cases = revision.timed
        if not error.lost.step or not cases:
            raise
        culprit = cases[(error.lost.step - 1) % len(cases)]
        revision.failure_reasons[culprit.id] = f"could not be measured: {error}"
        return True
    return False


def waiting(plan: Plan, progress: Progress, search: Sequence[Path] = ()) -> Pool:
    """A process that loads torch, to measure with later."""
    return Pool(1, _memory(plan), search, fresh=True, printed=progress.printed)


def _memory(plan: Plan) -> int:
    return round(plan.spec.limits.memory_gib * 2**30)
