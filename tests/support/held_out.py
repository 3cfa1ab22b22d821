"""Results of trainings with held-out parts, made of numbers that a test gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results_builders import make_case, make_objective, make_results, make_trials

from harness.measures import Measure
from harness.store.read import CaseData, ObjectiveInfo, Results

ACCURACY = Measure("accuracy", "test", higher=True)
PARTS = ("train", "validation", "test")
METRICS = (("loss", False), ("accuracy", True))

Array = NDArray[np.float64]


def digits(measure: Measure = ACCURACY, **fields: Any) -> ObjectiveInfo:
    """An objective of 40 steps, 4 to an epoch, recorded each epoch on three parts."""
    known: dict[str, Any] = {
        "dimension": 20,
        "rows": 70,
        "steps": 40,
        "steps_per_epoch": 4,
        "record_steps": range(0, 41, 4),
        "part_rows": {"validation": 10, "test": 20},
        "metrics": METRICS,
        "measure": measure,
    }
    return make_objective("digits", **known | fields)


def trained(
    name: str,
    final: float,
    *,
    position: int = 0,
    seeds: int = 8,
    noise: float = 0.02,
    **fields: Any,
) -> CaseData:
    """A case whose test accuracy ends about ``final``, better on train, with losses to match."""
    random = np.random.default_rng(position)
    rise = np.linspace(0.1, 1.0, 11) ** 0.5
    ends = final + noise * random.standard_normal((seeds, 1))
    ends -= ends.mean() - final
    curves = {}
    for part, more in zip(PARTS, (0.05, 0.01, 0.0), strict=True):
        accuracy = (ends + more + noise / 4 * random.standard_normal((seeds, 1))) * rise
        curves[f"{part} accuracy"] = accuracy
        curves[f"{part} loss"] = 2.0 * (1.05 - accuracy)
    rows = curves[ACCURACY.name]
    known: dict[str, Any] = {"position": position, "dtype": "float32"}
    own = {seed: row.tolist() for seed, row in enumerate(rows)}
    return dataclasses.replace(make_case("digits", name, own, **known | fields), curves=curves)


def results_of(
    cases: Sequence[CaseData],
    stops: Mapping[int, Mapping[int, int]] | None = None,
    info: ObjectiveInfo | None = None,
    **settings: Any,
) -> Results:
    """Results on that objective; ``stops`` has, by position and seed, the records of a trial."""
    info, stops = info or digits(), stops or {}
    cases = [_cut(case, stops.get(case.position, {})) for case in cases]
    trials = make_trials(cases, [_ends(case) for case in cases])
    trials["step"] = info.steps
    for position, own in stops.items():
        for seed, records in own.items():
            at = (trials["position"] == position) & (trials["seed"] == seed)
            trials.loc[at, "step"] = int(info.record_steps[records - 1])
            trials.loc[at, "reason"] = "stopped: all targets are reached"
    return make_results(cases, trials, objectives={"digits": info}, **settings)


def _ends(case: CaseData) -> dict[int, float]:
    return dict(zip(case.seeds.tolist(), case.finals.tolist(), strict=True))


def _cut(case: CaseData, stops: Mapping[int, int]) -> CaseData:
    """The case with nothing recorded of its trials after they stopped."""
    curves = {name: values.copy() for name, values in case.curves.items()}
    for values in curves.values():
        for seed, records in stops.items():
            values[seed, records:] = np.nan
    return dataclasses.replace(case, curves=curves, losses=curves[ACCURACY.name])
