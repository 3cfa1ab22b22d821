"""The quality pass: trials to workers, results to the store, whatever becomes of a worker."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.commands.time_left import TimeLeft
from harness.plan.model import Case, Plan
from harness.progress import Progress
from harness.provenance import fingerprint
from harness.results import (
    Chunk,
    SharedRunComparison,
    Sharing,
    Status,
    Together,
    TrialResult,
    Unavailable,
)
from harness.store.database import Store
from harness.workers.executor import Done, Executor, Lost, Sent, Task
from harness.workers.requests import DecideSharing, Request, RunSingle, RunVectorized

GROW_SECONDS = 2.0
"""Work worth starting more workers for: loading torch for them takes about as long."""

Family = tuple[Case, ...]
Trial = tuple[Case, int]


def family_key(cases: Sequence[Case], seeds: Sequence[int]) -> str:
    """A digest of some cases that may share a run; how they may is remembered by it."""
    return fingerprint.digest([sorted(case.key for case in cases), len(seeds)])


def chunks(cases: Family, seeds: Sequence[int], sharing: Sharing) -> Iterator[Chunk]:
    """Cut a family's trials into chunks; the same cut whatever is known already.

    Args:
        cases: The family.
        seeds: All seeds of the plan.
        sharing: How its trials may run, in one run or several.
    """
    lanes = sharing.lanes_at_once
    settings = min(len(cases), lanes)
    per_setting = max(1, lanes // settings)
    for start in range(0, len(cases), settings):
        for first in range(0, len(seeds), per_setting):
            yield Chunk(cases[start : start + settings], tuple(seeds[first : first + per_setting]))


@dataclass
class _Batch:
    """Trials given to a worker one by one."""

    todo: list[Trial]
    reason: str
    finished: int = 0


@dataclass
class QualityPass:
    """Runs the trials of a plan that are not known.

    Args:
        pool: Who runs them.
        store: Where results go.
        plan: What there is to run.
        machine: Digest of this machine, or of what stands for it.
        absent: What can't be run.
        progress: Shows how it goes.
    """

    pool: Executor
    store: Store
    plan: Plan
    machine: str
    absent: Unavailable
    progress: Progress
    _deciding: dict[Task[Any], Family] = field(default_factory=dict)
    _vectorized: dict[Task[Any], Chunk] = field(default_factory=dict)
    _single: dict[Task[Any], _Batch] = field(default_factory=dict)
    _known: dict[str, Sharing] = field(default_factory=dict)
    _due: dict[str, set[int]] = field(default_factory=dict)
    _work: float = 0.0
    _alone: dict[str, float] = field(default_factory=dict)
    _time_left: TimeLeft = field(default_factory=lambda: TimeLeft(0))

    def run(self, done: Mapping[str, set[int]], stage: str = "training") -> int:
        """Run what is due.

        Args:
            done: By case key, the seeds that need not run.
            stage: Name of the stage in the progress shown.

        Returns:
            How many trials were run.
        """
        wanted = set(self.plan.seeds)
        self._due = {case.key: wanted - done[case.key] for case in self.plan.cases}
        families: list[Family] = []
        planned: set[str] = set()
        for names in self.plan.families():
            # Under two names, the same case is still one.
            unique = {case.key: case for case in names if case.key not in planned}
            family = tuple(unique.values())
            planned |= {case.key for case in family}
            if not any(self._due[case.key] for case in family):
                continue
            there = tuple(case for case in family if not self.absent.why(case))
            self._unavailable(case for case in family if self.absent.why(case))
            if any(self._due[case.key] for case in there):
                families.append(there)
        total = sum(len(self._due[case.key]) for family in families for case in family)
        self._time_left = TimeLeft(total)
        if total:
            with self.progress.stage(stage, total, "trials"):
                self._run(families)
        return total

    def _run(self, families: Iterable[Family]) -> None:
        self._known = self.store.sharings()
        for family in families:
            self._begin(family)
        for event in self.pool.events():
            match event:
                case Sent(task, answers, machine):
                    self._single[task].finished += len(answers)
                    self._keep(answers, machine)
                case Done(task, answer) if task in self._deciding:
                    self._decided(self._deciding.pop(task), answer)
                case Done(task, answer, machine) if task in self._vectorized:
                    self._shared(self._vectorized.pop(task), answer, machine)
                case Done(task):
                    batch = self._single.pop(task)
                    self._send_single(batch.todo[batch.finished :], batch.reason, first=True)
                case Lost():
                    self._lost(event)

    def _begin(self, family: Family) -> None:
        """Send out a family's trials, or first what finds out how they may run."""
        key = family_key(family, self.plan.seeds)
        if key in self._known:
            self._decided(family, self._known[key])
            return
        request = DecideSharing(family, self.plan.seeds, self.plan.spec.threads)
        self._deciding[self._submitted(request)] = family

    def _submitted(self, request: Request[Any], *, first: bool = False) -> Task[Any]:
        task = Task(request, self.plan.spec.limits.seconds)
        self.pool.submit(task, first=first)
        return task

    def _decided(self, family: Family, sharing: Sharing) -> None:
        """Remember how a family's trials may run, and send them out."""
        self.store.save_sharing(family_key(family, self.plan.seeds), family, sharing)
        if sharing.way == "apart":
            self._apart(family)
        else:
            self._submit(family, sharing)

    def _apart(self, cases: Iterable[Case]) -> None:
        """Find out how the trials of each case by itself may run."""
        for case in cases:
            if self._due[case.key]:
                self._begin((case,))

    def _submit(self, family: Family, sharing: Sharing) -> None:
        """Send out what is due of a family."""
        steps = self.store.description(family[0].objective.key).steps
        self._alone |= dict.fromkeys((c.key for c in family), steps * sharing.step_seconds)
        if sharing.way == "alone":
            self._send_alone(self._due_of(family, self.plan.seeds), sharing.reason)
        else:
            for chunk in chunks(family, self.plan.seeds, sharing):
                due = self._due_of(chunk.cases, chunk.seeds)
                if due and len(chunk) == 1:
                    self._send_single(due, "there is no other trial to share a run with")
                elif due:
                    # One trial alone, and a shared step that takes longer the more share it.
                    self._expect(due, steps * sharing.step_seconds * (4 + len(chunk) / 250))
                    spec = self.plan.spec
                    request = RunVectorized(chunk, sharing, spec.threads, spec.limits.seconds)
                    self._vectorized[self._submitted(request)] = chunk
        if self._work > GROW_SECONDS:
            self.pool.grow()

    def _expect(self, due: Sequence[Trial], seconds: float) -> None:
        """Note how long some trials are likely to take in all."""
        self._work += seconds
        for key, count in Counter(case.key for case, _ in due).items():
            self._time_left.expect(key, count, seconds / len(due))

    def _shared(self, chunk: Chunk, answer: Together, machine: str) -> None:
        """Keep what a shared run gave; or send its trials out again, each alone."""
        if answer.results:
            self._keep(answer.results, machine, answer.comparison)
            return
        if answer.comparison is not None:
            self.store.save_trials((), machine, answer.comparison)
            self.progress.note(f"{chunk.cases[0].id}: {answer.refusal}; its trials run alone")
        if answer.apart:
            self._apart(chunk.cases)
            return
        due = self._due_of(chunk.cases, chunk.seeds)
        self._send_alone(due, answer.refusal, first=True)

    def _send_alone(self, due: Sequence[Trial], reason: str, *, first: bool = False) -> None:
        """Send out trials that turned out to run one by one."""
        self._expect(due, sum(self._alone[case.key] for case, _ in due))
        self._send_single(due, reason, first=first)

    def _send_single(self, due: Sequence[Trial], reason: str, *, first: bool = False) -> None:
        """Send out trials that run one by one, in batches small enough to share evenly."""
        size = max(1, min(64, math.ceil(len(due) / (4 * self.pool.size))))
        for start in range(0, len(due), size):
            todo = list(due[start : start + size])
            request = RunSingle(todo, reason, self.plan.spec.threads)
            self._single[self._submitted(request, first=first)] = _Batch(todo, reason)

    def _lost(self, event: Lost) -> None:
        """Somebody raised, hung or died: find out whom it concerns, and go on with the others."""
        task = event.task
        if event.kind == "timeout":  # its like may wait out their limits as well
            self.pool.grow()
        if task in self._deciding:
            family = self._deciding.pop(task)
            why = f"the test of how trials can share a run failed: {_last(event)}"
            self._submit(family, Sharing("alone", why))
        elif task in self._vectorized:
            chunk = self._vectorized.pop(task)
            due = self._due_of(chunk.cases, chunk.seeds)
            self._send_alone(due, f"side by side: {_last(event)}", first=True)
        else:
            batch = self._single.pop(task)
            if batch.finished == len(batch.todo):  # it died of something else, afterwards
                return
            case, seed = batch.todo[batch.finished]
            status: Status = "timeout" if event.kind == "timeout" else "error"
            result = TrialResult(
                case_key=case.key,
                seed=seed,
                status=status,
                step=event.step,
                reason=_last(event),
                seconds=event.seconds,
                way="alone",
                way_reason=batch.reason,
            )
            self._keep([result], event.machine)
            self._send_single(batch.todo[batch.finished + 1 :], batch.reason, first=True)

    def _due_of(self, cases: Iterable[Case], seeds: Iterable[int]) -> list[Trial]:
        return [(case, seed) for case in cases for seed in seeds if seed in self._due[case.key]]

    def _keep(
        self,
        results: Sequence[TrialResult],
        machine: str,
        comparison: SharedRunComparison | None = None,
    ) -> None:
        """Store some results; ``machine``: where they were made, if that isn't here."""
        self.store.save_trials(results, machine or self.machine, comparison)
        fresh = [r for r in results if r.seed in self._due[r.case_key]]
        for result in fresh:
            self._due[result.case_key].discard(result.seed)
        self._time_left.note_done(result.case_key for result in fresh)
        self.progress.advance(len(fresh), self._time_left.seconds())

    def _unavailable(self, cases: Iterable[Case]) -> None:
        results = [
            TrialResult(case.key, seed, "unavailable", 0, self.absent.why(case), 0.0, "")
            for case in cases
            for seed in sorted(self._due[case.key])
        ]
        if results:
            self.store.save_trials(results, self.machine)


def _last(event: Lost) -> str:
    """The last line of what is known of it."""
    return event.reason.strip().rpartition("\n")[2]
