"""Maps of made-up tasks by optimizers: as a store of any size, and as cells."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.cells import Cell
from harness.results import Description
from harness.spec.variants import Variant
from harness.store.database import Store
from harness.store.records import RunSettings, TargetSettings, TuningSettings
from harness.store.rows import to_blob

TARGET = 1e-6
RECORDS = 51

FAMILIES = ("curvature", "scale", "noise", "landscape", "learning")


@dataclass(frozen=True)
class MadeMap:
    """What a made-up map is of.

    Attributes:
        tasks: By name, its family.
        optimizers: By name and family, at which difficulty half of the seeds win.
        difficulties: Of each task.
        settings: That tuning draws.
        seeds: Of what is reported.
        tuning_seeds: Of tuning.
        steps: Of a trial.
    """

    tasks: Mapping[str, str]
    optimizers: Mapping[str, Mapping[str, float]]
    difficulties: int = 4
    settings: int = 20
    seeds: int = 10
    tuning_seeds: int = 1
    steps: int = 300

    @property
    def objectives(self) -> list[tuple[str, str, int]]:
        """Name, task and difficulty of each objective."""
        return [
            (f"{task}.power={10**d:g}", task, d)
            for task in self.tasks
            for d in range(self.difficulties)
        ]


def made_map(tasks: int = 10, optimizers: int = 4, **fields: Any) -> MadeMap:
    """A map in which each optimizer has a strength of its own in each family."""
    generator = np.random.default_rng(1)
    names = ("sgd", "momentum", "rmsprop", "adagrad", "adam", "adamw", "lion", "muon_adamw",
             "schedulefree_adamw", "soap")  # fmt: skip
    return MadeMap(
        {f"task_{i:02}_of_some_kind": FAMILIES[i % len(FAMILIES)] for i in range(tasks)},
        {
            name: {f: float(generator.uniform(0.2, 3.5)) for f in FAMILIES}
            for name in names[:optimizers]
        },
        **fields,
    )


def make_store(path: Path, made: MadeMap) -> Path:
    """Write a store with the trials of a map, tuning's among them."""
    generator = np.random.default_rng(0)
    with Store(path, create=True) as store, store.transaction():
        store.db.execute(
            "INSERT INTO runs VALUES (1, '2026-01-01T00:00:00+00:00', '2026-01-01T00:10:00+00:00', "
            "'harness run map.yaml', 'map', 'map.yaml', '', ?, ?, NULL)",
            (
                json.dumps(_settings(made).model_dump(mode="json")),
                json.dumps({"harness": "0.1", "torch": "2.13.0", "python": "CPython 3.12.3"}),
            ),
        )
        store.db.execute("INSERT INTO ways VALUES (1, 'pointwise', '')")
        store.db.executemany(
            "INSERT INTO objectives VALUES (?, ?)",
            (
                (name, json.dumps(dataclasses.asdict(_description(made))))
                for name, *_ in made.objectives
            ),
        )
        for rows in _rows(made, generator):
            for table, own in rows.items():
                marks = ", ".join("?" * len(own[0]))
                store.db.executemany(f"INSERT INTO {table} VALUES ({marks})", own)
    return path


def _settings(made: MadeMap) -> RunSettings:
    target = TargetSettings.model_validate({"given": [{"value": TARGET}], "tolerances": ()})
    names = [name for name, *_ in made.objectives]
    return RunSettings(
        title="Made-up map",
        seeds=tuple(range(made.seeds)),
        tuning_seeds=tuple(1000 + i for i in range(made.tuning_seeds)),
        tuning=TuningSettings(trials=made.settings, defaults=False),
        targets=dict.fromkeys(names, target),
        families={name: made.tasks[task] for name, task, _ in made.objectives},
        variants={
            name: Variant(task, d, name.partition(".")[2]) for name, task, d in made.objectives
        },
        searches={name: {"lr": {"log_uniform": [1e-4, 1.0]}} for name in made.optimizers},  # type: ignore[dict-item]
    )


def _description(made: MadeMap) -> Description:
    return Description(
        formula="",
        dimension=10,
        rows=0,
        steps=made.steps,
        steps_per_epoch=1,
        record_steps=tuple(np.linspace(0, made.steps, RECORDS).astype(int).tolist()),
        optimum=0.0,
        minimizers=(),
        window=None,
        landscape=(),
        data_source="",
    )


def _curve(won: int, records: int = RECORDS) -> NDArray[np.float64]:
    """Losses that reach the target at a record, or never where that is negative."""
    if won < 0:
        return np.geomspace(1.0, 1e-3, records)
    return np.geomspace(1.0, TARGET, won + 1)[: won + 1]


def _rows(
    made: MadeMap, generator: np.random.Generator
) -> Iterator[dict[str, list[tuple[Any, ...]]]]:
    """Rows of tables, those of the compared cases first, as in a plan."""
    cases = [(*o, name) for o in made.objectives for name in made.optimizers]
    number = 0
    for objective, task, d, name in cases:
        chance = 1 / (1 + math.exp(3 * (d - made.optimizers[name][made.tasks[task]])))
        number += 1
        about = (objective, name, "tuned", "cpu", "tuned")
        yield _case(number, about, objective, range(made.seeds), chance, made, generator)
    for objective, task, d, name in cases:
        chance = 0.3 / (1 + math.exp(2 * (d - made.optimizers[name][made.tasks[task]])))
        for setting in range(made.settings):
            number += 1
            about = (objective, name, str(setting), "cpu", "tuning")
            seeds = range(1000, 1000 + made.tuning_seeds)
            yield _case(number, about, objective, seeds, chance, made, generator)


def _case(
    number: int,
    about: tuple[str, ...],
    objective: str,
    seeds: Sequence[int],
    chance: float,
    made: MadeMap,
    generator: np.random.Generator,
) -> dict[str, list[tuple[Any, ...]]]:
    # The tuned setting is the first that was drawn.
    place = 0 if about[-1] == "tuned" else int(about[2])
    lr = json.dumps({"lr": 10.0 ** (-4 + 4 * (place * 0.618 % 1))})
    trials, curves = [], []
    for seed in seeds:
        won = int(generator.integers(5, RECORDS)) if generator.random() < chance else -1
        values = _curve(won)
        values[0] += generator.random()
        step = made.steps if won < 0 else round(won * made.steps / (RECORDS - 1))
        reason = "stopped: all targets are reached" if step < made.steps else ""
        failed = won < 0 and generator.random() < 0.1
        status, step = ("diverged", step // 2) if failed else ("ok", step)
        values = values[: RECORDS // 2] if failed else values
        loss = None if failed else float(values[-1])
        trials.append((number, seed, status, step, reason, loss, 0.01, "m", step, 1))
        curves.append((number, seed, to_blob(values), None))
    case = (number, f"case{number}", objective, "torch.optim:SGD", lr, lr, "float32", None)
    return {
        "cases": [case],
        "run_cases": [(1, number - 1, number, *about)],
        "trials": trials,
        "curves": curves,
    }


def make_cell(
    task: str = "task",
    difficulty: int = 0,
    optimizer: str = "a",
    won: Sequence[bool | int] = (),
    **fields: Any,
) -> Cell:
    """A cell by which of its seeds won, all at step 10 of 100 unless steps are given."""
    known: dict[str, Any] = {
        "family": "family",
        "label": f"power={difficulty}",
        "device": "cpu",
        "seeds": tuple(range(len(won))),
        "steps": tuple(10.0 if own else math.inf for own in won),
        "used": tuple(10 if own else 100 for own in won),
        "failed": (False,) * len(won),
        "budget": 100,
    }
    return Cell(task=task, difficulty=difficulty, optimizer=optimizer, **known | fields)
