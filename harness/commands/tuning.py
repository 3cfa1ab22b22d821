"""Tuning: the best of the settings that were tried. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.measures import TRAIN_LOSS, Measure, Target
from harness.plan import measuring
from harness.plan.model import Case, Hyperparameters, Plan, Search
from harness.spec.model import ObjectiveSpec
from harness.store import recorded
from harness.store.database import Store

Score = tuple[float, ...]
"""Failed trials, then the mean final loss of the others; before them, where tuning is for targets,
those that were not reached, then steps. Lower is better."""


def completed(plan: Plan, store: Store) -> Plan:
    """A plan with the best setting of each search, as stored trials have it.

    Args:
        plan: A plan, all of whose settings have been tried, and its finalists again.
        store: Where the trials are.
    """
    if not plan.open_searches:
        return plan
    again = plan.finals
    if not again.cases:
        scores = _scores(plan.tuning, store)
        return plan.completed([_lowest(s, s.settings, scores) for s in plan.searches])
    scores = _scores(replace(again, seeds=(*plan.tuning_seeds, *again.seeds)), store)
    return plan.completed([_lowest(s, s.finalists, scores) for s in plan.searches])


def with_finalists(plan: Plan, store: Store) -> Plan:
    """A plan with the settings that are to be tried again, if the spec asks for that.

    Args:
        plan: A plan, all of whose settings have been tried.
        store: Where the trials are.
    """
    rule = plan.spec.tuning and plan.spec.tuning.finalists
    if not rule or not plan.open_searches:
        return plan
    scores = _scores(plan.tuning, store)
    chosen = []
    for search in plan.searches:
        distinct = {case.key: case for case in search.settings}.values()
        chosen.append(sorted(distinct, key=lambda case: scores[case.key])[: rule.settings])
    return plan.with_finalists(chosen)


def _scores(tried: Plan, store: Store) -> dict[str, Score]:
    """By case key, the score of each setting of a part of a plan, over the part's seeds."""
    assert tried.spec.tuning is not None
    if tried.spec.tuning.goal == "time_to_target":
        return _by_targets(tried, store)
    measures = measured(tried, store)
    return {
        key: score([t.final for t in trials], measures[key])
        for key, trials in recorded.endings(store, measures, tried.seeds).items()
    }


def measured(plan: Plan, store: Store) -> dict[str, Measure]:
    """By case key, what tuning goes by."""
    of_objectives = {
        o.name: measuring.tuned(plan.spec.objectives[o.name], store.description(o.key).parts)
        for o in plan.objectives
    }
    return {case.key: of_objectives[case.objective.name] for case in plan.cases}


def best(
    search: Search, finals: Mapping[str, Sequence[float | None]], measure: Measure = TRAIN_LOSS
) -> Hyperparameters:
    """The values of what is searched, of the setting with the best mean.

    A setting with a failed trial is worse than any without. Of equal ones,
    the first drawn is taken.

    Args:
        search: What was searched.
        finals: By case key, the final value of each tuning trial; None where it failed.
        measure: What they are values of.
    """
    scores = {key: score(own, measure) for key, own in finals.items()}
    return _lowest(search, search.settings, scores)


def _lowest(search: Search, cases: Iterable[Case], scores: Mapping[str, Score]) -> Hyperparameters:
    found = min(cases, key=lambda case: scores[case.key])
    return {name: found.hyperparameters[name] for name in search.spaces}


def _by_targets(tuning: Plan, store: Store) -> dict[str, Score]:
    """By case key, how soon the targets of its objective were reached in its trials."""
    wanted: dict[str, tuple[Target, ...]] = {}
    of_objectives = {o.name: store.description(o.key) for o in tuning.objectives}
    described = {case.key: of_objectives[case.objective.name] for case in tuning.cases}
    for case in tuning.cases:
        given = tuning.spec.objectives[case.objective.name]
        wanted[case.key] = targets_of(given, described[case.key].optimum)
    needed = {TRAIN_LOSS, *(target.measure for own in wanted.values() for target in own)}
    endings = {m: recorded.endings(store, dict.fromkeys(wanted, m), tuning.seeds) for m in needed}
    return {
        key: (
            *target_score(
                {m: [trial.values for trial in own[key]] for m, own in endings.items()},
                own_targets,
                described[key].optimum,
                np.asarray(described[key].record_steps, dtype=np.int64),
            ),
            # Of settings that reach as much as soon, nothing maybe, the nearest is the best.
            *score(
                [t.final for t in endings[own_targets[-1].measure][key]], own_targets[-1].measure
            ),
        )
        for key, own_targets in wanted.items()
    }


def targets_of(objective: ObjectiveSpec, optimum: float | None) -> tuple[Target, ...]:
    """The targets that a setting on an objective is tuned for: none on the test part."""
    found = measuring.targets(objective, optimum)
    return tuple(target for target in found if target.measure.part != "test")


def target_score(
    values: Mapping[Measure, Sequence[NDArray[np.float64]]],
    wanted: Sequence[Target],
    optimum: float | None,
    record_steps: NDArray[np.int64],
) -> Score:
    """Targets missed in a setting's tuning trials, and the steps until those that were not.

    A missed target costs all steps that a trial may take, however soon the trial failed.

    Args:
        values: By measure, of each trial what was recorded.
        wanted: The targets.
        optimum: The lowest loss there is; None where that is not known.
        record_steps: The steps at which measures are recorded.
    """
    from harness.analysis import targets

    missed, steps = 0, 0.0
    for i in range(len(values[TRAIN_LOSS])):
        for target in wanted:
            own, start = values[target.measure][i], values[TRAIN_LOSS][i][:1]
            first = math.inf
            if len(own):
                known = (own[None], target, start, optimum, record_steps)
                first = float(targets.first_steps(*known)[0])
            missed += math.isinf(first)
            steps += float(record_steps[-1]) if math.isinf(first) else first
    return missed, steps


def score(finals: Sequence[float | None], measure: Measure = TRAIN_LOSS) -> Score:
    """The score of a setting by the final values of its tuning trials."""
    ok = [value for value in finals if value is not None]
    mean = measure.sign * math.fsum(ok) / len(ok) if ok else math.inf
    return len(finals) - len(ok), mean
