"""Times in which trials reach their targets, in steps and in seconds. A miss is infinite.

Targets are known before a run: the spec gives them, or they follow from the known optimum and a
trial's own start. What a trial reached before it diverged or failed, it has reached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis import elapsed, profiles
from harness.analysis.comparison import REL_TOL, ComparisonGroup
from harness.measures import TRAIN_LOSS, Target
from harness.plan import measuring
from harness.store.read import CaseData, ObjectiveInfo, Results
from harness.store.records import TargetSettings

FEWEST_FAMILIES = 5
"""Families of objectives that a sentence over all objectives rests on, at least."""

POINTS = 200
"""Places at which a distribution is told."""


@dataclass(frozen=True, eq=False)
class Reached:
    """Times at which the trials of a group reached its targets.

    Attributes:
        group: The cases and seeds.
        targets: In the spec's order.
        steps: ``(targets, cases, seeds)``: the first recorded step at or below the target;
            infinite for a miss.
        used: ``(cases, seeds)``: steps that a trial took in all, until it failed if it did.
        evaluations: As ``steps``: how often loss and gradients had been evaluated by then; NaN
            where that is not known.
        used_evaluations: As ``used``, likewise.
        evaluation_seconds: Per case, seconds per evaluation from the timing pass; NaN where that
            is not known.
        copies: Per case, whether all seeds take the same course, so that they are one run.
    """

    group: ComparisonGroup
    targets: tuple[Target, ...]
    steps: NDArray[np.float64]
    used: NDArray[np.float64]
    evaluations: NDArray[np.float64]
    used_evaluations: NDArray[np.float64]
    evaluation_seconds: NDArray[np.float64]
    copies: NDArray[np.bool_]

    @property
    def seconds(self) -> NDArray[np.float64] | None:
        """``steps`` in seconds; None where they are not known of some case."""
        seconds = self.evaluations * self.evaluation_seconds[None, :, None]
        is_known = ~(np.isnan(seconds).any() or np.isnan(self.evaluation_seconds).any())
        return seconds if is_known else None

    def expected_steps(self) -> NDArray[np.float64]:
        """Expected running time in steps, ``(targets, cases)``."""
        return self._expected(self.steps, self.used)

    def expected_evaluations(self) -> NDArray[np.float64]:
        """The same in evaluations of loss and gradients; NaN where they are not known."""
        return self._expected(self.evaluations, self.used_evaluations)

    def _expected(
        self, until: NDArray[np.float64], used: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        hit = np.isfinite(self.steps)
        costs = np.where(hit, until, used[None])
        is_known = np.isfinite(costs)
        found = profiles.expected_running_time(np.where(is_known, costs, 0.0), hit)
        return np.where(is_known.all(axis=-1) | np.isinf(found), found, np.nan)


@dataclass(frozen=True, eq=False)
class OptimizerPool:
    """Optimizers that ran on the same objectives, and what they took to reach every target.

    Attributes:
        device: Where they ran.
        solvers: Names, with the setting where it is not the spec's only one.
        cases: By solver, its case on each objective.
        objectives: Names.
        left_out: Names of others, that did not run on all of these objectives.
        families: By objective, what it is drawn with: itself, or the family that the spec says.
        failed: Per solver, the number of its failed trials.
        steps: ``(problems, seeds, solvers)``: a problem is a target of an objective.
        seconds: The same in seconds; None where something is not timed.
        problem_families: By problem, the family of its objective.
    """

    device: str
    solvers: tuple[str, ...]
    cases: tuple[tuple[CaseData, ...], ...]
    objectives: tuple[str, ...]
    left_out: tuple[str, ...]
    families: tuple[str, ...]
    failed: tuple[int, ...]
    steps: NDArray[np.float64]
    seconds: NDArray[np.float64] | None
    problem_families: tuple[str, ...]

    @property
    def says_much(self) -> bool:
        """True where there are objectives enough for a sentence over all of them."""
        return len(set(self.families)) >= FEWEST_FAMILIES


def targets_of(results: Results, info: ObjectiveInfo) -> tuple[Target, ...]:
    """The targets of an objective; none where nothing is given and no optimum is known."""
    given = results.run.settings.targets.get(info.name, TargetSettings())
    return measuring.with_tolerances(given.given, given.tolerances, info.optimum)


def reached(results: Results, group: ComparisonGroup) -> Reached | None:
    """Find when a group's trials reached their targets; None where there are no targets."""
    info = results.objectives[group.objective]
    targets = targets_of(results, info)
    if not targets:
        return None
    shape = (len(group.cases), len(group.seeds))
    steps = np.full((len(targets), *shape), np.inf)
    evaluations = np.full_like(steps, np.inf)
    used, used_evaluations = np.full(shape, np.nan), np.full(shape, np.nan)
    copies = np.zeros(len(group.cases), dtype=np.bool_)
    for i, case in enumerate(group.cases):
        trials = results.trials_by_position[case.position].set_index("seed").loc[group.seeds]
        used[i] = trials["step"].to_numpy(dtype=float)
        used_evaluations[i] = used[i]
        if case.evaluations is not None:
            used_evaluations[i] = trials["evaluations"].to_numpy(dtype=float)
        losses = _of_seeds(case, case.recorded(TRAIN_LOSS), group.seeds)
        counts = _of_seeds(case, elapsed.evaluations(case, info.record_steps), group.seeds)
        copies[i] = len(losses) > 1 and np.allclose(
            losses, losses[:1], rtol=REL_TOL, atol=0, equal_nan=True
        )
        for j, target in enumerate(targets):
            values = _of_seeds(case, case.recorded(target.measure), group.seeds)
            known = (values, target, losses[:, 0], info.optimum)
            first, is_reached = _first_records(*known)
            hit = np.flatnonzero(is_reached)
            steps[j, i, hit] = info.record_steps[first[hit]]
            evaluations[j, i, hit] = counts[hit, first[hit]]
    seconds = np.array([elapsed.evaluation_seconds(results, case) for case in group.cases])
    return Reached(group, targets, steps, used, evaluations, used_evaluations, seconds, copies)


def optimizer_pools(known: Sequence[Reached], families: Mapping[str, str]) -> list[OptimizerPool]:
    """For each device, the settings that can be compared across all objectives with targets.

    Each setting takes part by itself: which of a grid is best is known from these same seeds
    alone, and the order of the spec says nothing. Settings of an optimizer are matched across
    objectives by what they are called; where an optimizer has a single one on each, by its name.
    One that is tuned takes part tuned, and once more at its defaults. Objectives that fewer than
    two such participants ran on are left out, and then those that did not run on all others.

    Args:
        known: When trials reached their targets.
        families: By objective, the family that the spec puts it in, if any.
    """
    pools = (
        _pool(device, [one for one in known if one.group.device == device], families)
        for device in dict.fromkeys(one.group.device for one in known)
    )
    return [pool for pool in pools if pool is not None]


def places(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Costs from the lowest to the highest, evenly spaced by ratio; none where all missed."""
    finite = costs[np.isfinite(costs) & (costs > 0)]
    if not len(finite):
        return np.empty(0)
    return np.geomspace(finite.min(), finite.max() * 1.05, POINTS)


def _pool(
    device: str, known: Sequence[Reached], families: Mapping[str, str]
) -> OptimizerPool | None:
    # An objective that one participant alone ran on compares nothing.
    participants = {one.group.objective: _participants(one, known) for one in known}
    known = [one for one in known if len(participants[one.group.objective]) > 1]
    if len(known) < 2:
        return None
    indices = [participants[one.group.objective] for one in known]
    names = dict.fromkeys(name for own in indices for name in own)
    solvers = [name for name in names if all(name in own for own in indices)]
    seeds = sorted(set.intersection(*(set(one.group.seeds.tolist()) for one in known)))
    if len(solvers) < 2 or not seeds:
        return None
    steps, seconds, cases = [], [], []
    failed = np.zeros(len(solvers), dtype=np.int64)
    for one, own in zip(known, indices, strict=True):
        at, chosen = np.searchsorted(one.group.seeds, seeds), [own[name] for name in solvers]
        steps.append(np.moveaxis(one.steps[:, chosen][:, :, at], 1, 2))
        until = np.moveaxis(one.evaluations[:, chosen][:, :, at], 1, 2)
        seconds.append(until * one.evaluation_seconds[chosen])
        failed += (~np.isfinite(one.group.losses[chosen][:, at])).sum(axis=1)
        cases.append([one.group.cases[i] for i in chosen])
    timed = not any(np.isnan(part).any() for part in seconds)
    objectives = tuple(one.group.objective for one in known)
    family_of = {name: families.get(name, name) for name in objectives}
    return OptimizerPool(
        device=device,
        solvers=tuple(solvers),
        cases=tuple(zip(*cases, strict=True)),
        objectives=objectives,
        left_out=tuple(name for name in names if name not in solvers),
        families=tuple(family_of.values()),
        failed=tuple(failed.tolist()),
        steps=np.concatenate(steps),
        seconds=np.concatenate(seconds) if timed else None,
        problem_families=tuple(
            family_of[one.group.objective] for one in known for _ in one.targets
        ),
    )


def _participants(one: Reached, known: Sequence[Reached]) -> dict[str, int]:
    """By name, the index of each setting on an objective."""
    given = [
        Counter(case.optimizer for case in other.group.cases if case.role == "given")
        for other in known
    ]
    found: dict[str, int] = {}
    for i, case in enumerate(one.group.cases):
        is_single = case.role == "given" and all(count[case.optimizer] < 2 for count in given)
        found.setdefault(case.optimizer if is_single else case.label, i)
    return found


def _of_seeds(
    case: CaseData, values: NDArray[np.float64], seeds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Values of a case at its recorded steps, of some seeds; NaN where a trial has none."""
    found = np.full((len(seeds), values.shape[1]), np.nan)
    known = np.isin(seeds, case.seeds)
    found[known] = values[np.searchsorted(case.seeds, seeds[known])]
    return found


def first_steps(
    values: NDArray[np.float64],
    target: Target,
    starts: NDArray[np.float64],
    optimum: float | None,
    record_steps: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Per trial, the first recorded step at which a target is reached; infinite if none.

    Args:
        values: The target's measure at the recorded steps, a row per trial.
        target: What is to be reached.
        starts: The loss on train at each trial's start.
        optimum: The lowest loss there is; None where that is not known.
        record_steps: The recorded steps.
    """
    first, is_reached = _first_records(values, target, starts, optimum)
    return np.where(is_reached, record_steps[first].astype(float), np.inf)


def _first_records(
    values: NDArray[np.float64],
    target: Target,
    starts: NDArray[np.float64],
    optimum: float | None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Per row, the first record that reaches the target, and whether there is one."""
    costs = np.array([[target.cost(float(start), optimum)] for start in starts]).reshape(-1, 1)
    with np.errstate(invalid="ignore"):
        is_reached = target.measure.sign * values <= costs
    return np.argmax(is_reached, axis=1), np.asarray(is_reached.any(axis=1))
