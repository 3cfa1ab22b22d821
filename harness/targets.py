"""How soon trials reach their targets, in steps and in seconds. A miss is infinite.

Targets are known before a run: the spec gives them, or they follow from the known optimum and a
trial's own start. A trial that did not end ok has missed all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness import elapsed, profiles
from harness.comparison import Field
from harness.frames import CaseData, ObjectiveInfo, Results

TOLERANCES = (0.1, 0.01, 0.001)
"""Shares of the way to the optimum that are left, where a spec gives no targets."""

POINTS = 200
"""Places at which a distribution is told."""


@dataclass(frozen=True)
class Target:
    """What is to be reached.

    Attributes:
        loss: A loss over all data; None where the tolerance says it.
        tolerance: A share of the distance from a trial's start to the optimum (More and Wild,
            "Benchmarking derivative-free optimization algorithms", SIAM J. Optim. 20, 2009).
    """

    loss: float | None = None
    tolerance: float | None = None

    @property
    def label(self) -> str:
        """In words: ``loss 0.25``, ``1% of the way left``."""
        if self.loss is not None:
            return f"loss {self.loss:.6g}"
        return f"{100 * (self.tolerance or 0):g}% of the way left"


@dataclass(frozen=True, eq=False)
class Reached:
    """When the trials of a field reached its targets.

    Attributes:
        field: The cases and seeds.
        targets: In the spec's order.
        steps: ``(targets, cases, seeds)``: the first recorded step at or below the target;
            infinite for a miss.
        used: ``(cases, seeds)``: steps that a trial took in all, until it failed if it did.
        evaluations: As ``steps``: how often loss and gradients had been evaluated by then; NaN
            where that is not known.
        used_evaluations: As ``used``, likewise.
        evaluation_seconds: Per case, seconds per evaluation from the timing pass; NaN where that
            is not known.
    """

    field: Field
    targets: tuple[Target, ...]
    steps: NDArray[np.float64]
    used: NDArray[np.float64]
    evaluations: NDArray[np.float64]
    used_evaluations: NDArray[np.float64]
    evaluation_seconds: NDArray[np.float64]

    @property
    def seconds(self) -> NDArray[np.float64] | None:
        """``steps`` in seconds; None where they are not known of some case."""
        seconds = self.evaluations * self.evaluation_seconds[None, :, None]
        is_known = ~(np.isnan(seconds).any() or np.isnan(self.evaluation_seconds).any())
        return seconds if is_known else None

    def expected_steps(self) -> NDArray[np.float64]:
        """Expected running time in steps, ``(targets, cases)``; see :mod:`harness.profiles`."""
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
class Contest:
    """Optimizers that ran on the same objectives, and what they took to reach every target.

    Attributes:
        device: Where they ran.
        solvers: Names, with the setting where it is not the spec's only one.
        cases: By solver, its case on each objective.
        objectives: Names.
        left_out: Names of others, that did not run on all of these objectives.
        failed: Per solver, how many of its trials did not end ok.
        steps: ``(problems, seeds, solvers)``: a problem is a target of an objective.
        seconds: The same in seconds; None where something is not timed.
    """

    device: str
    solvers: tuple[str, ...]
    cases: tuple[tuple[CaseData, ...], ...]
    objectives: tuple[str, ...]
    left_out: tuple[str, ...]
    failed: tuple[int, ...]
    steps: NDArray[np.float64]
    seconds: NDArray[np.float64] | None


def targets_of(results: Results, info: ObjectiveInfo) -> tuple[Target, ...]:
    """The targets of an objective; none where nothing is given and no optimum is known."""
    given = results.run.settings.get("targets", {}).get(info.name, {})
    losses = [Target(loss=loss) for loss in given.get("losses", ())]
    tolerances = given.get("tolerances")
    if info.optimum is None:
        return tuple(losses)
    if tolerances is None:
        tolerances = () if losses else TOLERANCES
    return (*losses, *(Target(tolerance=share) for share in tolerances))


def reached(results: Results, field: Field) -> Reached | None:
    """When a field's trials reached their targets; None where there are no targets."""
    info = results.objectives[field.objective]
    targets = targets_of(results, info)
    if not targets:
        return None
    shape = (len(field.cases), len(field.seeds))
    steps = np.full((len(targets), *shape), np.inf)
    evaluations = np.full_like(steps, np.inf)
    used, used_evaluations = np.full(shape, np.nan), np.full(shape, np.nan)
    for i, case in enumerate(field.cases):
        trials = results.trials_by_position[case.position].set_index("seed").loc[field.seeds]
        used[i] = trials["step"].to_numpy(dtype=float)
        used_evaluations[i] = used[i]
        if case.evaluations is not None:
            used_evaluations[i] = trials["evaluations"].to_numpy(dtype=float)
        losses = _of_seeds(case, case.losses, field.seeds)
        counts = _of_seeds(case, elapsed.evaluations(case, info.record_steps), field.seeds)
        ok = np.isfinite(field.losses[i])
        for j, target in enumerate(targets):
            first, is_reached = _first_records(losses, target, info)
            hit = np.flatnonzero(ok & is_reached)
            steps[j, i, hit] = info.record_steps[first[hit]]
            evaluations[j, i, hit] = counts[hit, first[hit]]
    seconds = np.array([elapsed.evaluation_seconds(results, case) for case in field.cases])
    return Reached(field, targets, steps, used, evaluations, used_evaluations, seconds)


def contests(known: Sequence[Reached]) -> list[Contest]:
    """For each device, the optimizers that can be compared across all objectives with targets.

    An optimizer takes part with the first of its settings on each objective, as the spec lists
    them, so that no setting is picked for how it did; one that is tuned takes part tuned, and
    once more at its defaults. Objectives that fewer than two such entrants ran on are left out, and
    then entrants that did not run on all others.
    """
    found: dict[str, list[Reached]] = {}
    for one in known:
        found.setdefault(one.field.device, []).append(one)
    return [
        contest
        for device, several in found.items()
        if (contest := _contest(device, several)) is not None
    ]


def places(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Costs from the lowest to the highest, evenly spaced by ratio; none where all missed."""
    finite = costs[np.isfinite(costs) & (costs > 0)]
    if not len(finite):
        return np.empty(0)
    return np.geomspace(finite.min(), finite.max() * 1.05, POINTS)


def _contest(device: str, known: Sequence[Reached]) -> Contest | None:
    # An objective that one optimizer alone ran on compares nothing.
    known = [one for one in known if len(_entrants(one)) > 1]
    if len(known) < 2:
        return None
    seeds = sorted(set.intersection(*(set(k.field.seeds.tolist()) for k in known)))
    entrants: dict[str, list[tuple[Reached, int]]] = {}
    for one in known:
        for name, i in _entrants(one).items():
            entrants.setdefault(name, []).append((one, i))
    whole = {name: places for name, places in entrants.items() if len(places) == len(known)}
    left_out = [name for name in entrants if name not in whole]
    if len(whole) < 2 or not seeds:
        return None
    steps, seconds = [], []
    failed = np.zeros(len(whole), dtype=np.int64)
    for j, one in enumerate(known):
        at = np.searchsorted(one.field.seeds, seeds)
        chosen = [places[j][1] for places in whole.values()]
        steps.append(np.moveaxis(one.steps[:, chosen][:, :, at], 1, 2))
        until = np.moveaxis(one.evaluations[:, chosen][:, :, at], 1, 2)
        seconds.append(until * one.evaluation_seconds[chosen])
        failed += (~np.isfinite(one.field.losses[chosen][:, at])).sum(axis=1)
    timed = not any(np.isnan(part).any() for part in seconds)
    return Contest(
        device=device,
        solvers=tuple(whole),
        cases=tuple(tuple(o.field.cases[i] for o, i in places) for places in whole.values()),
        objectives=tuple(one.field.objective for one in known),
        left_out=tuple(left_out),
        failed=tuple(int(count) for count in failed),
        steps=np.concatenate(steps),
        seconds=np.concatenate(seconds) if timed else None,
    )


def _entrants(one: Reached) -> dict[str, int]:
    """By name, the index of the first setting of each optimizer; one that is tuned has two."""
    found: dict[str, int] = {}
    for i, case in enumerate(one.field.cases):
        found.setdefault(case.optimizer if case.role == "given" else case.label, i)
    return found


def _of_seeds(
    case: CaseData, values: NDArray[np.float64], seeds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What a case has at its recorded steps, of some seeds; NaN where a trial has nothing."""
    found = np.full((len(seeds), values.shape[1]), np.nan)
    known = np.isin(seeds, case.seeds)
    found[known] = values[np.searchsorted(case.seeds, seeds[known])]
    return found


def _first_records(
    losses: NDArray[np.float64], target: Target, info: ObjectiveInfo
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Per row, the first record with a loss at or below the target, and whether there is one."""
    level: NDArray[np.float64] | float
    if target.loss is not None:
        level = target.loss
    else:
        assert info.optimum is not None
        assert target.tolerance is not None
        level = info.optimum + target.tolerance * (losses[:, :1] - info.optimum)
    with np.errstate(invalid="ignore"):
        below = losses <= level
    return np.argmax(below, axis=1), np.asarray(below.any(axis=1))
