"""Stored results as frames and arrays: what tables, figures and the page are made of."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.plan.model import Role
from harness.store.database import Store, from_blob
from harness.store.records import RunRecord

_COUNTS = ["position", "operators", "calls", "counted_steps", "state_bytes", "peak_bytes"]


@dataclass(frozen=True)
class ObjectiveInfo:
    """An objective as a report shows it; see ``workload.Description``."""

    name: str
    formula: str
    dimension: int
    rows: int
    steps: int
    steps_per_epoch: int
    record_steps: NDArray[np.int64]
    optimum: float | None
    minimizers: tuple[tuple[float, ...], ...]
    window: tuple[tuple[float, float], tuple[float, float]] | None
    landscape: NDArray[np.float64] | None
    data_source: str
    divergence_factor: float | None = None

    @property
    def has_epochs(self) -> bool:
        """Whether an epoch is more than a step."""
        return self.steps_per_epoch > 1


@dataclass(frozen=True)
class CaseData:
    """One case with the arrays of its trials.

    Attributes:
        position: Its place in the run, the key to the frames.
        objective: Name of the objective.
        optimizer: Name of the optimizer.
        setting: What sets it apart from the optimizer's other cases here; may be empty.
        device: Where it ran.
        optimizer_class: As the spec names it.
        hyperparameters: As the spec gives them.
        defaults: As the constructor completed them.
        dtype: ``float32`` or ``float64``.
        seeds: The seeds whose curves are known, ascending.
        losses: Their losses at the objective's recorded steps, ``(seeds, records)``; NaN where
            a trial didn't get that far.
        trajectories: By seed, ``(steps reached + 1, 2)``; empty unless two-dimensional.
        step_sizes: By seed, as ``trajectories``; empty where the optimizer doesn't tell.
        role: Where its setting comes from: ``given``, ``tuned`` or ``defaults``.
        key: Digest of all that decides its trials but the seed; empty where that is not known.
        objective_key: Digest of all that decides its objective.
        evaluations: How often loss and gradients had been evaluated at the recorded steps, as
            ``losses``; NaN where that is not known. None where every step took one.
    """

    position: int
    objective: str
    optimizer: str
    setting: str
    device: str
    optimizer_class: str
    hyperparameters: dict[str, Any]
    defaults: dict[str, Any]
    dtype: str
    seeds: NDArray[np.int64]
    losses: NDArray[np.float64]
    trajectories: dict[int, NDArray[np.float64]]
    step_sizes: dict[int, NDArray[np.float64]]
    role: Role = "given"
    key: str = ""
    objective_key: str = ""
    evaluations: NDArray[np.float64] | None = None

    @property
    def label(self) -> str:
        """Optimizer and setting."""
        return f"{self.optimizer} ({self.setting})" if self.setting else self.optimizer

    def ended_finite(self) -> NDArray[np.int64]:
        """The seeds whose loss after the last step is finite."""
        return self.seeds[np.isfinite(self.losses[:, -1])]


@dataclass(frozen=True)
class Tried:
    """One setting that was tried: by tuning, or in a sweep about the best setting.

    Attributes:
        role: ``tuning`` or ``sweep``.
        objective: Name of the objective.
        optimizer: Name of the optimizer.
        device: Where it ran.
        hyperparameters: The setting.
        varied: In a sweep, which hyperparameter it varies; else empty.
        statuses: How its trials ended, in the order of the seeds.
        losses: Their final losses; NaN where one did not end ok.
    """

    role: Role
    objective: str
    optimizer: str
    device: str
    hyperparameters: dict[str, Any]
    varied: str
    statuses: tuple[str, ...]
    losses: NDArray[np.float64]


@dataclass(frozen=True)
class Results:
    """Everything a report is made of.

    Attributes:
        run: How the run was made.
        objectives: By name, in the spec's order.
        cases: What is compared, in the spec's order.
        trials: One row per trial: position, objective, optimizer, setting, label, device, seed,
            status, step, reason, seconds, way, way_reason, final_loss (NaN unless ok),
            evaluations (of loss and gradients; NaN where not known).
        timings: One row per timed block: position, round, steps, steps_per_epoch, seconds,
            cpu_seconds, epoch_seconds, evaluations (NaN where not known).
        step_counts: One row per timed case: position, operators, calls, counted_steps,
            state_bytes, peak_bytes; NaN where one is not known.
        tried: The settings that tuning and sweeps ran, in order.
        comparisons: One row per trial of a shared run that was run alone as well: role, objective,
            optimizer, setting, device, seed, lanes, way, difference, rounding.
    """

    run: RunRecord
    objectives: dict[str, ObjectiveInfo]
    cases: tuple[CaseData, ...]
    trials: pd.DataFrame
    timings: pd.DataFrame
    step_counts: pd.DataFrame = field(default_factory=lambda: _counts_frame([]))
    tried: tuple[Tried, ...] = ()
    comparisons: pd.DataFrame = field(default_factory=lambda: _comparison_frame([]))

    @functools.cached_property
    def trials_by_position(self) -> dict[int, pd.DataFrame]:
        """The rows of ``trials`` of each case that has any, by its position."""
        groups = self.trials.groupby("position", sort=False)
        return {int(str(position)): rows for position, rows in groups}

    def cases_on(self, objective: str) -> list[CaseData]:
        """The cases of one objective, in order."""
        return [case for case in self.cases if case.objective == objective]

    @property
    def optimizers(self) -> list[str]:
        """Names, in the spec's order."""
        return list(dict.fromkeys(case.optimizer for case in self.cases))


def read(path: Path, *, run: int | None = None, untouched: bool = False) -> Results:
    """Read a run of a store.

    Args:
        path: The store.
        run: Its number; None for the latest.
        untouched: Whether the file is to stay as it is, even where it has an older schema.

    Raises:
        BadInput: If the file can't be read, isn't a store, or holds no run.
    """
    with Store.copy_of(path) if untouched else Store(path, create=False) as store, store.snapshot():
        record = store.run(run)
        db = store.db
        seeds = record.seeds_of("given")
        rows = db.execute(
            "SELECT position, case_id, objective, optimizer, setting, device, objective_key, "
            "key, optimizer_class, hyperparameters, defaults, dtype, role "
            "FROM run_cases JOIN cases ON cases.id = case_id "
            "WHERE run_id = ? ORDER BY position",
            (record.id,),
        ).fetchall()
        objectives: dict[str, ObjectiveInfo] = {}
        cases: list[CaseData] = []
        trials: list[tuple[Any, ...]] = []
        timings: list[pd.DataFrame] = []
        step_counts: list[tuple[Any, ...]] = []
        tried: list[Tried] = []
        compared: list[tuple[Any, ...]] = []
        for row in rows:
            compared += _comparisons(store, row, record.seeds_of(row[-1]))
            if row[-1] in ("tuning", "sweep"):
                tried.append(_tried(store, row, record.seeds_of(row[-1])))
                continue
            position, case_id, objective, optimizer, setting, device, of, _, *described = row
            if objective not in objectives:
                objectives[objective] = _objective(store, objective, of)
            info = objectives[objective]
            case = _case(store, row, case_id, described, seeds, info.record_steps)
            cases.append(case)
            labels = (position, objective, optimizer, setting, case.label, device)
            trials += (labels + trial for trial in _trials(store, case_id, seeds))
            timings += _timings(store, case_id, position, record.settings.machine)
            step_counts += _step_counts(store, case_id, position, record.settings.machine)
    frame = pd.DataFrame(trials, columns=_TRIAL_COLUMNS)
    for name in ("final_loss", "evaluations"):
        frame[name] = frame[name].astype(float)
    timed = pd.concat(timings, ignore_index=True) if timings else pd.DataFrame(columns=_TIMING)
    counted = _counts_frame(step_counts)
    return Results(
        *(record, objectives, tuple(cases), frame, timed, counted, tuple(tried)),
        _comparison_frame(compared),
    )


_TRIAL_COLUMNS = [
    *("position", "objective", "optimizer", "setting", "label", "device"),
    *("seed", "status", "step", "reason", "seconds", "way", "way_reason", "final_loss"),
    "evaluations",
]
_TIMING = [
    *("position", "round", "steps", "steps_per_epoch"),
    *("seconds", "cpu_seconds", "epoch_seconds", "evaluations"),
]


def _objective(store: Store, name: str, key: str) -> ObjectiveInfo:
    known = store.description(key)
    landscape = np.asarray(known.landscape, dtype=float)
    side = round(len(landscape) ** 0.5)
    window = known.window
    return ObjectiveInfo(
        name=name,
        formula=known.formula,
        dimension=known.dimension,
        rows=known.rows,
        steps=known.steps,
        steps_per_epoch=known.steps_per_epoch,
        record_steps=np.asarray(known.record_steps, dtype=np.int64),
        optimum=known.optimum,
        minimizers=tuple(tuple(point) for point in known.minimizers),
        window=((window[0][0], window[0][1]), (window[1][0], window[1][1])) if window else None,
        landscape=landscape.reshape(side, side) if side else None,
        data_source=known.data_source,
        divergence_factor=known.divergence_factor,
    )


def _case(
    store: Store,
    row: tuple[Any, ...],
    case_id: int,
    described: list[Any],
    seeds: frozenset[int],
    record_steps: NDArray[np.int64],
) -> CaseData:
    optimizer_class, hyperparameters, defaults, dtype, role = described
    curves = [
        known
        for known in store.db.execute(
            "SELECT seed, losses, curves.evaluations, trials.evaluations IS NOT NULL FROM curves "
            "JOIN trials USING (case_id, seed) WHERE case_id = ? ORDER BY seed",
            (case_id,),
        )
        if known[0] in seeds
    ]
    losses = np.full((len(curves), len(record_steps)), np.nan)
    evaluations = np.full_like(losses, np.nan)
    for i, (_, values, counts, are_counted) in enumerate(curves):
        records = len(values) // losses.itemsize
        losses[i, :records] = from_blob(values)
        if are_counted:
            evaluations[i, :records] = (
                record_steps[:records] if counts is None else from_blob(counts)
            )
    one_each = all(counts is None and are_counted for *_, counts, are_counted in curves)
    trajectories: dict[int, NDArray[np.float64]] = {}
    step_sizes: dict[int, NDArray[np.float64]] = {}
    for seed, points, sizes in store.db.execute(
        "SELECT seed, points, step_sizes FROM trajectories WHERE case_id = ? ORDER BY seed",
        (case_id,),
    ):
        if seed in seeds:
            trajectories[seed] = from_blob(points).reshape(-1, 2)
            if sizes is not None:
                step_sizes[seed] = from_blob(sizes).reshape(-1, 2)
    return CaseData(
        position=row[0],
        objective=row[2],
        optimizer=row[3],
        setting=row[4],
        device=row[5],
        optimizer_class=optimizer_class,
        hyperparameters=json.loads(hyperparameters),
        defaults=json.loads(defaults),
        dtype=dtype,
        role=role,
        key=row[7],
        objective_key=row[6],
        seeds=np.asarray([seed for seed, *_ in curves], dtype=np.int64),
        losses=losses,
        evaluations=None if one_each else evaluations,
        trajectories=trajectories,
        step_sizes=step_sizes,
    )


def _tried(store: Store, row: tuple[Any, ...], seeds: frozenset[int]) -> Tried:
    trials = [
        (status, final)
        for seed, status, final in store.db.execute(
            "SELECT seed, status, final_loss FROM trials WHERE case_id = ? ORDER BY seed", (row[1],)
        )
        if seed in seeds
    ]
    role = row[-1]
    return Tried(
        role=role,
        objective=row[2],
        optimizer=row[3],
        device=row[5],
        hyperparameters=json.loads(row[9]),
        varied=row[4].partition("=")[0] if role == "sweep" else "",
        statuses=tuple(status for status, _ in trials),
        losses=np.array([math.nan if loss is None else loss for _, loss in trials], dtype=float),
    )


def _trials(store: Store, case_id: int, seeds: frozenset[int]) -> Iterator[tuple[Any, ...]]:
    rows = store.db.execute(
        "SELECT seed, status, step, trials.reason, seconds, COALESCE(ways.way, ''), "
        "COALESCE(ways.reason, ''), final_loss, evaluations FROM trials "
        "LEFT JOIN ways ON ways.id = trials.way "
        "WHERE case_id = ? ORDER BY seed",
        (case_id,),
    )
    return (row for row in rows if row[0] in seeds)


def _timings(store: Store, case_id: int, position: int, machine: str) -> Iterator[pd.DataFrame]:
    rows = store.db.execute(
        "SELECT steps, steps_per_epoch, seconds, cpu_seconds, evaluations FROM timings "
        "WHERE case_id = ? AND machine = ?",
        (case_id, machine),
    )
    for steps, steps_per_epoch, walls, cpus, counts in rows:
        seconds = from_blob(walls)
        frame = pd.DataFrame({"round": np.arange(len(seconds)), "seconds": seconds})
        frame = frame.assign(position=position, steps=steps, steps_per_epoch=steps_per_epoch)
        frame["cpu_seconds"] = from_blob(cpus)
        frame["epoch_seconds"] = frame["seconds"] / steps * steps_per_epoch
        frame["evaluations"] = np.nan if counts is None else from_blob(counts)
        yield frame[_TIMING]


def _comparison_frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    names = ("role", "objective", "optimizer", "setting", "device")
    return pd.DataFrame(rows, columns=[*names, "seed", "lanes", "way", "difference", "rounding"])


def _comparisons(
    store: Store, row: tuple[Any, ...], seeds: frozenset[int]
) -> Iterator[tuple[Any, ...]]:
    _, case_id, objective, optimizer, setting, device, *_, role = row
    found = store.db.execute(
        "SELECT seed, lanes, way, difference, rounding FROM comparisons WHERE case_id = ?",
        (case_id,),
    )
    names = (role, objective, optimizer, setting, device)
    return (names + comparison for comparison in found if comparison[0] in seeds)


def _counts_frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=_COUNTS, dtype=float)


def _step_counts(
    store: Store, case_id: int, position: int, machine: str
) -> Iterator[tuple[Any, ...]]:
    rows = store.db.execute(
        "SELECT operators, calls, counted_steps, state_bytes, peak_bytes FROM timings "
        "WHERE case_id = ? AND machine = ?",
        (case_id, machine),
    )
    return ((position, *row) for row in rows)
