"""Settings that were only tried: by tuning, once more, or in a sweep about the best setting."""

from __future__ import annotations

import itertools
import json
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.measures import TRAIN_LOSS, Measure, Target
from harness.plan import measuring
from harness.plan.model import TRIED, Role
from harness.store.database import Store
from harness.store.records import RunRecord, TargetSettings
from harness.store.rows import from_blob


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting that was tried: by tuning, once more, or in a sweep about the best setting.

    Attributes:
        role: ``tuning``, ``finalist`` or ``sweep``.
        objective: Name of the objective.
        optimizer: Name of the optimizer.
        device: Where it ran.
        hyperparameters: The setting.
        varied: In a sweep, which hyperparameter it varies; else empty.
        statuses: How its trials ended, in the order of the seeds.
        losses: Their final values of what tuning goes by; NaN where one failed.
        measure: What that is.
        reported: The same of what is reported; None where tuning goes by that, or never sees it.
        won: By trial, whether it reached all targets of the objective, as far as it got; None
            where there are none, or some are of what tuning never sees.
    """

    role: Role
    objective: str
    optimizer: str
    device: str
    hyperparameters: dict[str, Any]
    varied: str
    statuses: tuple[str, ...]
    losses: NDArray[np.float64]
    measure: Measure = TRAIN_LOSS
    reported: NDArray[np.float64] | None = None
    won: tuple[bool, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A target of an objective.

    Attributes:
        target: The target.
        measure: The name of its measure; empty for the loss on train.
        level: The cost at which it is reached; None where that depends on the trial.
    """

    target: Target
    measure: str
    level: float | None


@dataclass(frozen=True, slots=True)
class _Objective:
    """What is to be told of the trials on an objective."""

    tuned: Measure
    reported: Measure | None
    targets: tuple[_Wanted, ...]
    optimum: float | None


_TRIED = f"""
SELECT position, role, objective, optimizer, device, setting, hyperparameters, trials.seed, status,
    final_loss, objective_key, losses
FROM run_cases JOIN cases ON cases.id = run_cases.case_id
LEFT JOIN trials ON trials.case_id = cases.id
LEFT JOIN curves ON curves.case_id = cases.id AND curves.seed = trials.seed
WHERE run_id = ? AND role IN {TRIED} ORDER BY position
"""

_MEASURES = f"""
SELECT position, seed, measure, recorded
FROM run_cases JOIN measures ON measures.case_id = run_cases.case_id
WHERE run_id = ? AND role IN {TRIED} ORDER BY position
"""

_Recorded = Mapping[tuple[int, str], NDArray[np.float64]]
"""By seed and measure, what was recorded of a case's trials."""


def read(store: Store, record: RunRecord) -> tuple[Tried, ...]:
    """Read the settings that tuning and sweeps of a run tried, in order."""
    return tuple(_Reader(store, record).tried())


class _Reader:
    def __init__(self, store: Store, record: RunRecord) -> None:
        self.store, self.record = store, record
        self.objectives: dict[str, _Objective] = {}
        self.names: dict[str, str] = {}

    def tried(self) -> Iterator[Tried]:
        """Go through the cases once, beside what else was recorded of them."""
        rows = self.store.db.execute(_TRIED, (self.record.id,))
        measures = self._measures()
        seeds = {role: self.record.seeds_of(role) for role in TRIED}
        for _, group in itertools.groupby(rows, key=operator.itemgetter(0)):
            trials = list(group)
            _, role, objective, optimizer, device, setting, hyperparameters, *_ = trials[0]
            position, objective_key = trials[0][0], trials[0][-2]
            about = self._about(objective, objective_key)
            ended = [row[7:10] for row in trials if row[7] in seeds[role]]
            recorded = measures.of(position)
            reported = about.reported
            yield Tried(
                role=role,
                objective=self._once(objective),
                optimizer=self._once(optimizer),
                device=self._once(device),
                hyperparameters={
                    self._once(name): value for name, value in json.loads(hyperparameters).items()
                },
                varied=setting.partition("=")[0] if role == "sweep" else "",
                statuses=tuple(self._once(status) for _, status, _ in ended),
                measure=about.tuned,
                losses=_finals(ended, about.tuned, recorded),
                reported=None if reported is None else _finals(ended, reported, recorded),
                won=_won(about, {row[7]: row[-1] for row in trials}, ended, recorded),
            )

    def _once(self, name: str) -> str:
        """A name that many settings share, kept once."""
        return self.names.setdefault(name, name)

    def _about(self, objective: str, key: str) -> _Objective:
        if objective not in self.objectives:
            settings, known = self.record.settings, self.store.description(key)
            tuned = settings.tuned.get(objective) or measuring.tuned_by_default(known.parts)
            reported = settings.reported.get(objective, TRAIN_LOSS)
            optimum = known.optimum if reported == TRAIN_LOSS else None
            given = settings.targets.get(objective, TargetSettings())
            wanted = measuring.with_tolerances(given.given, given.tolerances, optimum)
            self.objectives[objective] = _Objective(
                tuned=tuned,
                reported=reported if reported != tuned and reported.part != "test" else None,
                targets=()
                if any(t.measure.part == "test" for t in wanted)
                else tuple(_wanted(target, optimum) for target in wanted),
                optimum=optimum,
            )
        return self.objectives[objective]

    def _measures(self) -> _Measures:
        return _Measures(iter(self.store.db.execute(_MEASURES, (self.record.id,))))


class _Measures:
    """What was recorded beside the loss on train, read along with the cases, in their order."""

    def __init__(self, rows: Iterator[tuple[int, int, str, bytes]]) -> None:
        self.groups = itertools.groupby(rows, key=operator.itemgetter(0))
        self.next = next(self.groups, None)

    def of(self, position: int) -> _Recorded:
        """The values of the case at a position, after those that were asked for."""
        if self.next is None or self.next[0] != position:
            return {}
        found = {(seed, name): from_blob(values) for _, seed, name, values in self.next[1]}
        self.next = next(self.groups, None)
        return found


def _finals(
    ended: Sequence[tuple[int, str, float | None]], measure: Measure, recorded: _Recorded
) -> NDArray[np.float64]:
    """Final values of a measure by trials with a seed, a status and a final loss."""
    finals: Mapping[int, float | None] = {seed: loss for seed, _, loss in ended}
    if measure != TRAIN_LOSS:
        finals = {
            seed: float(values[-1])
            for (seed, name), values in recorded.items()
            if name == measure.name and len(values)
        }
    found = ((finals.get(seed) if status == "ok" else None) for seed, status, _ in ended)
    return np.array([math.nan if value is None else value for value in found], dtype=float)


def _won(
    about: _Objective,
    curves: Mapping[int, bytes | None],
    ended: Sequence[tuple[int, str, float | None]],
    recorded: _Recorded,
) -> tuple[bool, ...] | None:
    """By trial, whether each target was reached at some recorded step."""
    if not about.targets:
        return None
    found = []
    for seed, *_ in ended:
        losses = from_blob(curves.get(seed) or b"")
        found.append(
            len(losses) > 0
            and all(_reaches(about, target, losses, seed, recorded) for target in about.targets)
        )
    return tuple(found)


def _wanted(target: Target, optimum: float | None) -> _Wanted:
    name = "" if target.measure == TRAIN_LOSS else target.measure.name
    return _Wanted(target, name, None if target.value is None else target.cost(0.0, optimum))


def _reaches(
    about: _Objective,
    wanted: _Wanted,
    losses: NDArray[np.float64],
    seed: int,
    recorded: _Recorded,
) -> bool:
    values = recorded.get((seed, wanted.measure)) if wanted.measure else losses
    if values is None:
        return False
    level = wanted.level
    if level is None:
        level = wanted.target.cost(float(losses[0]), about.optimum)
    return bool((wanted.target.measure.sign * values <= level).any())
