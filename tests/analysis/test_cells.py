"""Cells of a map: what they are made of, kept in a file, and laid beside others."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from map_builders import TARGET, made_map, make_cell, make_store
from results_builders import Ending, make_case, make_objective, make_results, make_trials

from harness.analysis import comparison, shipped_cells, targets
from harness.analysis.cells import Cells, cells_from_file, cells_of, cells_to_file, is_map
from harness.errors import BadInput
from harness.spec.variants import Variant
from harness.store import read
from harness.store.read import Results, Tried


def cells_in(results: Results) -> Cells:
    groups = comparison.groups(results)
    found = (targets.reached(results, group) for group in groups)
    return cells_of(results, [one for one in found if one is not None])


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("map")
    made = made_map(3, 2, settings=6, seeds=4, tuning_seeds=2, difficulties=3)
    return read.read(make_store(folder / "results.sqlite", made))


def test_a_cell_has_what_its_trials_did(stored: Results) -> None:
    assert is_map(stored)
    cells = cells_in(stored).cells
    assert len(cells) == 3 * 3 * 2
    curves = {(case.objective, case.optimizer): case for case in stored.cases}
    for cell in cells:
        case = curves[f"{cell.task}.{cell.label}", cell.optimizer]
        info = stored.objectives[case.objective]
        assert cell.family == stored.run.settings.families[case.objective]
        trials = stored.trials[stored.trials["position"] == case.position].set_index("seed")
        for i, seed in enumerate(cell.seeds):
            below = np.flatnonzero(case.losses[i] <= TARGET)
            expected = info.record_steps[below[0]] if len(below) else math.inf
            assert cell.steps[i] == expected
            assert cell.used[i] == trials.loc[seed, "step"]
            assert cell.failed[i] == (trials.loc[seed, "status"] != "ok")


def test_settings_that_won_are_counted_by_the_seeds_they_won_with(stored: Results) -> None:
    for cell in cells_in(stored).cells:
        name = f"{cell.task}.{cell.label}"
        tried = [
            own for own in stored.tried if own.objective == name and own.optimizer == cell.optimizer
        ]
        assert cell.settings == len(tried) == 6
        for pattern, count in cell.draws:
            won = tuple(bit == "1" for bit in pattern)
            assert count == sum(own.won == won for own in tried)


def test_a_file_gives_back_the_same_cells(stored: Results, tmp_path: Path) -> None:
    made = cells_in(stored)
    odd = [
        make_cell("t", 0, "odd", [1, 0, 0, 1, 1], used=(10, 100, 37, 90, 55)),
        make_cell("t", 1, "odd", [1, 0], failed=(True, True), used=(90, 40)),
        make_cell('ü, "x"', 0, "odd (lr=0.1, momentum=0.9)", [], family="", label=""),
        make_cell("t", 2, "odd", [1], steps=(0.0,), used=(0,), draws=(("01", 3), ("10", 4))),
    ]
    cells = replace(made, cells=(*made.cells, *odd))
    cells_to_file(cells, tmp_path / "cells.json")
    again = cells_from_file(tmp_path / "cells.json", "shipped")
    assert again.cells == cells.cells
    assert again.origin == "shipped: harness 0.1, torch 2.13.0, python CPython 3.12.3, 2026-01-01"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no file of cells"),
        ("[]", "is no file of cells"),
        ('{"format": 99}', "format 99, this harness reads format 1"),
        (
            '{"format": 1, "versions": {}, "seeds": [[1, 2]], "rows": [["f", "t", 0, "", "", 9]], '
            '"cells": [[0, "a", "cpu", "given", 0, 0, "3", ""]]}',
            "1 trials of 2 seeds",
        ),
    ],
)
def test_another_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cells.json").write_text(text)
    with pytest.raises(BadInput, match=message) as error:
        cells_from_file(tmp_path / "cells.json")
    assert "cells.json" in str(error.value)


def test_cells_beside_others_are_of_the_same_tasks() -> None:
    mine = Cells((make_cell("t", 0, "mine", [1], digest="x"), make_cell("t", 1, "mine", [0])))
    shipped = Cells(
        (
            make_cell("t", 0, "adam", [1], digest="x", device="cuda"),
            make_cell("t", 1, "adam", [1], digest="of another definition"),
            make_cell("t", 0, "mine", [0], digest="x"),
            make_cell("u", 0, "adam", [0], digest="of a task that is not here"),
        ),
        origin="shipped",
    )
    both = mine.beside(shipped)
    assert [(c.task, c.difficulty, c.optimizer) for c in both.cells] == [
        ("t", 0, "mine"),
        ("t", 0, "adam"),
        ("t", 1, "mine"),
    ]
    assert both.left_out == 1
    assert both.origin_of("adam") == "shipped"
    assert both.origin_of("mine") == "this run"
    assert {cell.device for cell in both.cells} == {"cpu"}
    elsewhere = [replace(cell, device="mps") for cell in mine.cells]
    several = replace(mine, cells=(*mine.cells, *elsewhere)).beside(shipped)
    adam = [cell.device for cell in several.cells if cell.optimizer == "adam"]
    assert adam == ["cpu", "mps"]


def test_a_run_that_extends_the_diagnostics_has_what_comes_along(tmp_path: Path) -> None:
    results = _results("t.p=0", extends="diagnostics")
    mine = cells_in(results)
    others = [replace(cell, optimizer="adam") for cell in mine.cells]
    cells_to_file(replace(mine, cells=tuple(others)), tmp_path / "diagnostics_cells.json")
    both = shipped_cells.beside(results, mine, tmp_path)
    assert [cell.optimizer for cell in both.cells] == ["a", "adam"]
    assert both.origin_of("adam").startswith("shipped")
    alone = _results("t.p=0")
    assert shipped_cells.beside(alone, mine, tmp_path) == mine
    assert shipped_cells.beside(results, mine, tmp_path / "none") == mine


def _results(*names: str, **fields: Any) -> Results:
    info = {
        name: make_objective(
            name,
            record_steps=(0, 1, 2, 4),
            variant=Variant("t", i, f"p={i}"),
            metrics=(("loss", False), ("accuracy", True)),
        )
        for i, name in enumerate(names)
    }
    curves = {1: [3.0, 2.0, 1.0, 1.0], 2: [3.0, 3.0, 3.0, 0.5], 3: [3.0, math.nan]}
    accuracy = np.array([[0, 0, 0.9, 0], [0, 0.9, 0, 0], [0, 0, math.nan, math.nan]])
    cases = []
    for i, name in enumerate(names):
        case = make_case(name, "a", curves, records=4, position=i)
        known = {"train loss": case.losses, "train accuracy": accuracy}
        cases.append(replace(case, curves=known))
    targets_given = [{"value": 1.0}, {"value": 0.8, "measure": ACCURACY}]
    settings: dict[str, Any] = {
        "targets": {name: {"given": targets_given} for name in names},
        **fields,
    }
    ends: list[dict[int, Ending]] = [{1: 1.0, 2: 0.5, 3: ("diverged", 1)} for _ in names]
    return make_results(cases, make_trials(cases, ends), objectives=info, **settings)


ACCURACY = {"metric": "accuracy", "part": "train", "higher": True}


def test_a_win_is_the_last_of_all_targets_each_reached_at_some_step() -> None:
    (cell,) = cells_in(_results("t.p=0")).cells
    # Seed 1: the loss at step 2, the accuracy at 2. Seed 2: the accuracy at 1, the loss at 4.
    assert cell.steps == (2.0, 4.0, math.inf)
    assert cell.used == (4, 4, 1)
    assert cell.failed == (False, False, True)


def test_settings_that_did_not_run_with_all_seeds_do_not_count() -> None:
    results = _results("t.p=0", tuning_seeds=(7, 8), tuning={"trials": 3})
    case = replace(results.cases[0], role="tuned", setting="tuned")
    tried = [
        Tried("tuning", "t.p=0", "a", "cpu", {"lr": lr}, "", ("ok",) * len(won), np.zeros(len(won)),
              won=won)
        for lr, won in ((0.1, (True, False)), (0.2, (True, True)), (0.3, (True,)))
    ]  # fmt: skip
    trials = results.trials.assign(setting="tuned", label="a (tuned)")
    known = replace(results, cases=(case,), tried=tuple(tried), trials=trials)
    (cell,) = cells_in(known).cells
    assert cell.draws == (("10", 1), ("11", 1))
    assert cell.optimizer == "a"


def test_only_grids_with_targets_make_a_map() -> None:
    assert is_map(_results("t.p=0"))
    assert not is_map(_results("t.p=0", targets={}))
    alone = make_results([make_case("bowl")], targets={"bowl": {"given": [{"value": 1.0}]}})
    assert not is_map(alone)
