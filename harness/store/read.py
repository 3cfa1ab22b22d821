"""Stored results as frames and arrays: what tables, figures and the page are made of."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.measures import TRAIN_LOSS, Measure, Part, measures_of, parts_with
from harness.plan.model import TRIED, Role
from harness.spec.variants import Variant
from harness.store import tried
from harness.store.database import Store
from harness.store.records import RunRecord
from harness.store.rows import from_blob
from harness.store.tried import Tried as Tried


@dataclass(frozen=True)
class ObjectiveInfo:
    """An objective as a report shows it; see ``results.Description``.

    Attributes:
        optimum: The best value of what is reported, where it is known.
        measure: What tables and tests are of.
        variant: Its place among the variants of an entry of the spec; None where it is the entry.
    """

    name: str
    formula: str
    dimension: int
    rows: int
    steps: int
    steps_per_epoch: int
    record_steps: NDArray[np.int64]
    optimum: float | None
    minimizers: tuple[tuple[float, ...], ...]
    window: tuple[tuple[float, float], ...] | None
    landscape: NDArray[np.float64] | None
    data_source: str
    divergence_factor: float | None = None
    part_rows: Mapping[str, int] = field(default_factory=dict)
    metrics: tuple[tuple[str, bool], ...] = (("loss", False),)
    measure: Measure = TRAIN_LOSS
    variant: Variant | None = None

    @property
    def task(self) -> str:
        """The entry of the spec that it comes from."""
        return self.variant.entry if self.variant else self.name

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of its data that are recorded."""
        return parts_with(self.part_rows)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Everything that is recorded, the loss on train first."""
        return measures_of(self.metrics, self.parts)

    @property
    def words(self) -> str:
        """The name of what is reported: ``loss`` where nothing else is recorded."""
        return self.name_of(self.measure)

    def name_of(self, measure: Measure) -> str:
        """The name of a measure here: without the part where there is only one."""
        return measure.name if len(self.parts) > 1 else measure.metric

    @property
    def has_epochs(self) -> bool:
        """True where an epoch is more than a step."""
        return self.steps_per_epoch > 1

    @property
    def steps_per_x(self) -> int:
        """Steps in a unit of the axis of curves: in an epoch, or 1."""
        return self.steps_per_epoch if self.has_epochs else 1


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
        losses: What is reported of the objective at its recorded steps, ``(seeds, records)``; NaN
            where a trial didn't get that far.
        trajectories: By seed, ``(steps reached + 1, dimension)``; empty above two dimensions.
        step_sizes: By seed, as ``trajectories``; empty where the optimizer doesn't tell.
        role: Where its setting comes from: ``given``, ``tuned`` or ``defaults``.
        key: Digest of all that decides its trials but the seed; empty where that is not known.
        objective_key: Digest of all that decides its objective.
        evaluations: How often loss and gradients had been evaluated at the recorded steps, as
            ``losses``; NaN where that is not known. None where every step took one.
        curves: By measure (``test accuracy``), all that was recorded, as ``losses``; empty where
            that is the loss on train alone.
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
    curves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def recorded(self, measure: Measure) -> NDArray[np.float64]:
        """A measure at the recorded steps, as ``losses``."""
        return self.curves[measure.name] if self.curves else self.losses

    @property
    def finals(self) -> NDArray[np.float64]:
        """The last recorded value of what is reported, of each trial; NaN where there is none."""
        return final_values(self.losses)

    @property
    def label(self) -> str:
        """Optimizer and setting."""
        return f"{self.optimizer} ({self.setting})" if self.setting else self.optimizer

    def ended_finite(self) -> NDArray[np.int64]:
        """The seeds whose loss on train after the last step is finite."""
        return self.seeds[np.isfinite(self.recorded(TRAIN_LOSS)[:, -1])]


def final_values(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last known value of each row; NaN where there is none."""
    known = ~np.isnan(values)
    last = values.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
    found: NDArray[np.float64] = values[np.arange(len(values)), last]
    return found


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
        untouched: Whether the file and its folder are to stay as they are.

    Raises:
        BadInput: If the file can't be read, isn't a store, or holds no run.
    """
    with Store(path, untouched=untouched) as store, store.snapshot():
        return _Reader(store, store.run(run)).results()


_LABELS = ["position", "objective", "optimizer", "setting", "label", "device"]
_ENDINGS = ["status", "step", "reason", "seconds", "way", "way_reason", "final_loss", "evaluations"]
_TRIAL_COLUMNS = [*_LABELS, "seed", *_ENDINGS]
_BLOCK = ["round", "steps", "steps_per_epoch"]
_TIMING_COLUMNS = ["position", *_BLOCK, "seconds", "cpu_seconds", "epoch_seconds", "evaluations"]
_COUNTS_COLUMNS = ["position", "operators", "calls", "counted_steps", "state_bytes", "peak_bytes"]
_NAMES = ["role", "objective", "optimizer", "setting", "device"]
_COMPARISON_COLUMNS = [*_NAMES, "seed", "lanes", "way", "difference", "rounding"]


def _counts_frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=_COUNTS_COLUMNS, dtype=float)


def _comparison_frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=_COMPARISON_COLUMNS)


class _Reader:
    """Reads one run of a store, all of it in the order of the run's cases."""

    def __init__(self, store: Store, record: RunRecord) -> None:
        self.store, self.record = store, record
        self.seeds = record.seeds_of("given")

    def results(self) -> Results:
        """Read everything that a report is made of."""
        objectives: dict[str, ObjectiveInfo] = {}
        cases: list[CaseData] = []
        rows = self._rows(
            "case_id, position, objective, optimizer, setting, device, optimizer_class, "
            "hyperparameters, defaults, dtype, role, key, objective_key",
            "JOIN cases ON cases.id = case_id",
            _COMPARED,
        )
        names = [name for name, *_ in rows.description[1:]]
        for case_id, *values in rows:
            known = dict(zip(names, values, strict=True))
            for name in ("hyperparameters", "defaults"):
                known[name] = json.loads(known[name])
            objective = known["objective"]
            if objective not in objectives:
                objectives[objective] = self._objective(objective, known["objective_key"])
            known |= self._curves(case_id, objectives[objective])
            dimension = objectives[objective].dimension or 2
            cases.append(CaseData(**known, **self._trajectories(case_id, dimension)))
        timings, step_counts = self._timings()
        return Results(
            run=self.record,
            objectives=objectives,
            cases=tuple(cases),
            trials=self._trials(cases),
            timings=timings,
            step_counts=step_counts,
            tried=tried.read(self.store, self.record),
            comparisons=self._comparisons(),
        )

    def _rows(self, columns: str, tables: str, where: str, *values: object) -> sqlite3.Cursor:
        """Rows of other tables that belong to the run's cases, case by case."""
        return self.store.db.execute(
            f"SELECT {columns} FROM run_cases {tables} WHERE run_id = ? AND {where} "
            "ORDER BY position",
            (self.record.id, *values),
        )

    def _objective(self, name: str, key: str) -> ObjectiveInfo:
        known = dict(vars(self.store.description(key)))
        landscape = np.asarray(known["landscape"], dtype=float)
        side = round(len(landscape) ** (1 / max(1, known["dimension"])))
        arrays: dict[str, Any] = {
            "record_steps": np.asarray(known["record_steps"], dtype=np.int64),
            "landscape": landscape.reshape([side] * known["dimension"]) if side else None,
        }
        measure = self.record.settings.reported.get(name, TRAIN_LOSS)
        if measure != TRAIN_LOSS:
            arrays["optimum"] = None
        variant = self.record.settings.variants.get(name)
        return ObjectiveInfo(name=name, measure=measure, variant=variant, **known | arrays)

    def _curves(self, case_id: int, info: ObjectiveInfo) -> dict[str, Any]:
        """The seeds, recorded values and evaluations of a case."""
        record_steps = info.record_steps
        rows = self.store.db.execute(
            "SELECT seed, losses, curves.evaluations, trials.evaluations IS NOT NULL FROM curves "
            "JOIN trials USING (case_id, seed) WHERE case_id = ? ORDER BY seed",
            (case_id,),
        )
        curves = [row for row in rows if row[0] in self.seeds]
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
        seeds = np.asarray([seed for seed, *_ in curves], dtype=np.int64)
        known = {TRAIN_LOSS.name: losses} | self._measures(case_id, seeds, info)
        return {
            "seeds": seeds,
            "losses": known[info.measure.name],
            "curves": known,
            "evaluations": None if one_each else evaluations,
        }

    def _measures(
        self, case_id: int, seeds: NDArray[np.int64], info: ObjectiveInfo
    ) -> dict[str, NDArray[np.float64]]:
        """What was recorded beside the loss on train."""
        shape = (len(seeds), len(info.record_steps))
        found = {m.name: np.full(shape, np.nan) for m in info.measures if m != TRAIN_LOSS}
        if not found:
            return found
        place = {int(seed): i for i, seed in enumerate(seeds)}
        for seed, measure, recorded in self.store.db.execute(
            "SELECT seed, measure, recorded FROM measures WHERE case_id = ?", (case_id,)
        ):
            if seed in place and measure in found:
                values = from_blob(recorded)
                found[measure][place[seed], : len(values)] = values
        return found

    def _trajectories(self, case_id: int, dimension: int) -> dict[str, Any]:
        """The trajectories and step sizes of a case."""
        trajectories: dict[int, NDArray[np.float64]] = {}
        step_sizes: dict[int, NDArray[np.float64]] = {}
        for seed, points, sizes in self.store.db.execute(
            "SELECT seed, points, step_sizes FROM trajectories WHERE case_id = ? ORDER BY seed",
            (case_id,),
        ):
            if seed in self.seeds:
                trajectories[seed] = from_blob(points).reshape(-1, dimension)
                if sizes is not None:
                    step_sizes[seed] = from_blob(sizes).reshape(-1, dimension)
        return {"trajectories": trajectories, "step_sizes": step_sizes}

    def _trials(self, cases: Sequence[CaseData]) -> pd.DataFrame:
        labels = {c.position: tuple(getattr(c, name) for name in _LABELS) for c in cases}
        rows = self._rows(
            "position, seed, status, step, trials.reason, seconds, COALESCE(ways.way, ''), "
            "COALESCE(ways.reason, ''), final_loss, evaluations",
            "JOIN trials USING (case_id) LEFT JOIN ways ON ways.id = trials.way",
            _COMPARED,
        )
        trials = [labels[row[0]] + row[1:] for row in rows if row[1] in self.seeds]
        frame = pd.DataFrame(trials, columns=_TRIAL_COLUMNS)
        for name in ("final_loss", "evaluations"):
            frame[name] = frame[name].astype(float)
        for case in cases:
            if self.record.settings.reported.get(case.objective, TRAIN_LOSS) != TRAIN_LOSS:
                _report(frame, case)
        return frame

    def _timings(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Timed blocks, and what the steps of each timed case take beside time."""
        frames, counted = [], []
        for position, steps, per_epoch, walls, cpus, evaluations, *counts in self._rows(
            "position, steps, steps_per_epoch, seconds, cpu_seconds, evaluations, "
            "operators, calls, counted_steps, state_bytes, peak_bytes",
            "JOIN timings USING (case_id)",
            f"{_COMPARED} AND machine = ?",
            self.record.settings.machine,
        ):
            seconds = from_blob(walls)
            frame = pd.DataFrame({"round": np.arange(len(seconds)), "seconds": seconds})
            frame = frame.assign(position=position, steps=steps, steps_per_epoch=per_epoch)
            frame["cpu_seconds"] = from_blob(cpus)
            frame["epoch_seconds"] = seconds / steps * per_epoch
            frame["evaluations"] = np.nan if evaluations is None else from_blob(evaluations)
            frames.append(frame[_TIMING_COLUMNS])
            counted.append((position, *counts))
        timings = pd.DataFrame(columns=_TIMING_COLUMNS)
        if frames:
            timings = pd.concat(frames, ignore_index=True)
        return timings, _counts_frame(counted)

    def _comparisons(self) -> pd.DataFrame:
        rows = self._rows(
            "role, objective, optimizer, setting, device, seed, lanes, way, difference, rounding",
            "JOIN comparisons USING (case_id)",
            "TRUE",
        )
        seeds = {role: self.record.seeds_of(role) for role in get_args(Role)}
        return _comparison_frame([row for row in rows if row[5] in seeds[row[0]]])


def _report(frame: pd.DataFrame, case: CaseData) -> None:
    """Put what is reported of a case's trials in the place of their final losses."""
    finals = dict(zip(case.seeds.tolist(), case.finals.tolist(), strict=True))
    rows = (frame["position"] == case.position) & (frame["status"] == "ok")
    frame.loc[rows, "final_loss"] = frame.loc[rows, "seed"].map(finals)


_COMPARED = f"role NOT IN {TRIED}"
"""Picks the cases that are compared, not only tried."""
