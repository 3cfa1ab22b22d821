"""Builders of results as a report reads them, without a store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.plan.model import Role
from harness.store.read import CaseData, ObjectiveInfo, Results, Tried
from harness.store.records import RunRecord, RunSettings

Ending = float | str | tuple[str, int]
"""A final loss, or the status that a trial ended with, perhaps with its last step."""

TRIAL_COLUMNS = [
    *("position", "objective", "optimizer", "setting", "label", "device", "seed", "status"),
    *("step", "reason", "seconds", "way", "way_reason", "final_loss"),
]
TIMING_COLUMNS = [
    *("position", "round", "steps", "steps_per_epoch"),
    *("seconds", "cpu_seconds", "epoch_seconds"),
]


def make_objective(name: str = "bowl", **fields: Any) -> ObjectiveInfo:
    """An objective without data in two dimensions: 4 steps, of which 0 and the last are kept."""
    known: dict[str, Any] = {
        "formula": "",
        "dimension": 2,
        "rows": 0,
        "steps": 4,
        "steps_per_epoch": 1,
        "record_steps": (0, fields.get("steps", 4)),
        "optimum": None,
        "minimizers": (),
        "window": None,
        "landscape": None,
        "data_source": "",
    }
    known |= fields
    return ObjectiveInfo(name, **known | {"record_steps": np.array(known["record_steps"])})


def make_case(
    objective: str = "bowl",
    optimizer: str = "a",
    curves: Mapping[int, Sequence[float]] | None = None,
    *,
    records: int | None = None,
    role: Role = "given",
    **fields: Any,
) -> CaseData:
    """A case by its recorded losses, by seed; those that a trial did not reach are NaN."""
    curves = curves or {}
    records = records or max((len(curve) for curve in curves.values()), default=2)
    rows = [[*curves[seed], *[math.nan] * (records - len(curves[seed]))] for seed in sorted(curves)]
    known: dict[str, Any] = {
        "position": 0,
        "setting": "" if role == "given" else role,
        "device": "cpu",
        "optimizer_class": "X",
        "hyperparameters": {},
        "defaults": {},
        "dtype": "float64",
        "seeds": np.array(sorted(curves), dtype=np.int64),
        "losses": np.array(rows, dtype=np.float64).reshape(-1, records),
        "trajectories": {},
        "step_sizes": {},
    }
    return CaseData(objective=objective, optimizer=optimizer, role=role, **known | fields)


def make_run(settings: Mapping[str, Any] | None = None, **fields: Any) -> RunRecord:
    """The record of a run with the settings that a test gives."""
    known: dict[str, Any] = {
        "id": 1,
        "started": "",
        "finished": None,
        "command": "",
        "suite": "s",
        "spec_file": "s.yaml",
        "spec_text": "",
        "environment": {},
    }
    return RunRecord(settings=RunSettings.model_validate(settings or {}), **known | fields)


def finals(case: CaseData) -> dict[int, float]:
    """The last losses of a case by seed: endings of trials that all ended ok."""
    return dict(zip(case.seeds.tolist(), case.losses[:, -1].tolist(), strict=True))


def make_trials(
    cases: Sequence[CaseData],
    endings: Sequence[Mapping[int, Ending]] | None = None,
    **columns: Any,
) -> pd.DataFrame:
    """The trials of cases, by seed; without endings all ended ok with their last losses."""
    rows = []
    for case, own in zip(cases, endings or [finals(case) for case in cases], strict=True):
        for seed, ending in own.items():
            status, step = ("ok", 4) if not isinstance(ending, str | tuple) else (ending, 4)
            if isinstance(ending, tuple):
                status, step = ending
            rows.append(
                {
                    "position": case.position,
                    "objective": case.objective,
                    "optimizer": case.optimizer,
                    "setting": case.setting,
                    "label": case.label,
                    "device": case.device,
                    "seed": seed,
                    "status": status,
                    "step": step,
                    "reason": "",
                    "seconds": 0.1,
                    "way": "pointwise",
                    "way_reason": "",
                    "final_loss": ending if status == "ok" else math.nan,
                }
            )
    return pd.DataFrame(rows, columns=TRIAL_COLUMNS).assign(**columns)


def make_blocks(
    position: int,
    seconds: Iterable[float],
    *,
    steps: int = 10,
    steps_per_epoch: int = 1,
    cpu_seconds: Iterable[float] | None = None,
) -> list[dict[str, Any]]:
    """The timed blocks of a case, from how long each took."""
    walls = list(seconds)
    worked = walls if cpu_seconds is None else list(cpu_seconds)
    return [
        {
            "position": position,
            "round": number,
            "steps": steps,
            "steps_per_epoch": steps_per_epoch,
            "seconds": wall,
            "cpu_seconds": cpu,
            "epoch_seconds": wall / steps * steps_per_epoch,
        }
        for number, (wall, cpu) in enumerate(zip(walls, worked, strict=True))
    ]


def make_results(
    cases: Sequence[CaseData],
    trials: pd.DataFrame | None = None,
    *,
    objectives: Mapping[str, ObjectiveInfo] | None = None,
    optimum: float | None = None,
    blocks: Sequence[Mapping[str, Any]] = (),
    step_counts: pd.DataFrame | None = None,
    tried: Sequence[Tried] = (),
    run: RunRecord | None = None,
    **settings: Any,
) -> Results:
    """Results of cases, of which each trial ended ok where no trials are given."""
    names = dict.fromkeys(case.objective for case in cases)
    counted = {} if step_counts is None else {"step_counts": step_counts}
    return Results(
        run=run or make_run(settings),
        objectives=dict(objectives or {n: make_objective(n, optimum=optimum) for n in names}),
        cases=tuple(cases),
        trials=make_trials(cases) if trials is None else trials,
        timings=pd.DataFrame(blocks, columns=TIMING_COLUMNS),
        tried=tuple(tried),
        **counted,
    )
