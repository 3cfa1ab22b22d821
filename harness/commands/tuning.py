"""Tuning: the best of the settings that were tried. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.plan.model import Hyperparameters, Plan, Search
from harness.spec.model import ObjectiveSpec
from harness.store.database import Store

if TYPE_CHECKING:
    from harness.analysis.targets import Target

Score = tuple[int, float]
"""Failed trials, then the mean final loss of the others; or targets that were not
reached, then steps: lower is better."""


def completed(plan: Plan, store: Store) -> Plan:
    """A plan with the best setting of each search, as stored trials have it.

    Args:
        plan: A plan, all of whose settings have been tried.
        store: Where the trials are.
    """
    if not plan.open_searches:
        return plan
    tuning = plan.tuning
    keys = [case.key for case in tuning.cases]
    assert plan.spec.tuning is not None
    if plan.spec.tuning.goal == "time_to_target":
        scores = _by_targets(tuning, store)
    else:
        endings = store.endings(keys, tuning.seeds)
        scores = {key: score([t.final_loss for t in trials]) for key, trials in endings.items()}
    return plan.completed([_lowest(search, scores) for search in plan.searches])


def best(search: Search, losses: Mapping[str, Sequence[float | None]]) -> Hyperparameters:
    """The values of what is searched, of the setting with the lowest mean final loss.

    A setting with a failed trial is worse than any without. Of equal ones,
    the first drawn is taken.

    Args:
        search: What was searched.
        losses: By case key, the final loss of each tuning trial; None where it failed.
    """
    return _lowest(search, {key: score(own) for key, own in losses.items()})


def _lowest(search: Search, scores: Mapping[str, Score]) -> Hyperparameters:
    found = min(search.settings, key=lambda case: scores[case.key])
    return {name: found.hyperparameters[name] for name in search.spaces}


def _by_targets(tuning: Plan, store: Store) -> dict[str, Score]:
    """By case key, how soon the targets of its objective were reached in its trials."""
    endings = store.endings((case.key for case in tuning.cases), tuning.seeds)
    return {
        case.key: target_score(
            [(trial.step, trial.losses) for trial in endings[case.key]],
            targets_of(tuning.spec.objectives[case.objective.name], description.optimum),
            description.optimum,
            np.asarray(description.record_steps, dtype=np.int64),
        )
        for case in tuning.cases
        for description in [store.description(case.objective.key)]
    }


def targets_of(objective: ObjectiveSpec, optimum: float | None) -> tuple[Target, ...]:
    """The targets that a setting on an objective is tuned for."""
    from harness.analysis import targets

    return targets.targets_from(objective.targets, objective.tolerances, optimum)


def target_score(
    courses: Sequence[tuple[int, NDArray[np.float64]]],
    wanted: Sequence[Target],
    optimum: float | None,
    record_steps: NDArray[np.int64],
) -> Score:
    """Targets missed in a setting's tuning trials, and the steps that it took.

    Args:
        courses: Of each trial, how many steps it took and its recorded losses.
        wanted: The targets.
        optimum: The lowest loss there is; None where that is not known.
        record_steps: The steps at which losses are recorded.
    """
    from harness.analysis import targets

    missed, steps = 0, 0.0
    for taken, losses in courses:
        for target in wanted:
            first = math.inf
            if len(losses):
                first = float(targets.first_steps(losses[None], target, optimum, record_steps)[0])
            missed += math.isinf(first)
            steps += taken if math.isinf(first) else first
    return missed, steps


def score(losses: Sequence[float | None]) -> Score:
    """The score of a setting by the final losses of its tuning trials."""
    ok = [loss for loss in losses if loss is not None]
    return len(losses) - len(ok), math.fsum(ok) / len(ok) if ok else math.inf
