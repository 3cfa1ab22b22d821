"""The cells that come along are those of the tasks as they are."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from builders import make_plan

from harness.analysis import wins
from harness.analysis.cells import Cells
from harness.analysis.shipped_cells import shipped
from harness.plan.builder import Overrides
from harness.plan.definitions import definition
from harness.plan.model import Plan
from harness.spec.validation import load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load(ROOT / "diagnostics.yaml"), Overrides(only=("optimizer=sgd",)))


@pytest.fixture(scope="module")
def cells() -> Cells:
    found = shipped()
    assert found is not None
    return found


def test_every_task_has_a_cell_of_every_optimizer_and_is_what_it_was(
    plan: Plan, cells: Cells
) -> None:
    # One that fails here has changed a task: run diagnostics.yaml, and keep its cells as
    # harness/analysis/shipped_cells.py says.
    now = {}
    for objective in plan.objectives:
        assert objective.variant is not None
        place = (objective.variant.entry, objective.variant.difficulty)
        now[place] = definition(objective)[:12]
    by_optimizer: dict[str, dict[tuple[str, int], str]] = defaultdict(dict)
    for cell in cells.cells:
        by_optimizer[cell.optimizer][cell.task, cell.difficulty] = cell.digest
    assert {*by_optimizer} == {*load(ROOT / "diagnostics.yaml").source.data["optimizers"]}
    for name, own in by_optimizer.items():
        assert own == now, name


def test_seeds_and_settings_are_those_of_the_spec(plan: Plan, cells: Cells) -> None:
    spec = plan.spec
    assert spec.tuning is not None
    for cell in cells.cells:
        assert cell.seeds == spec.seeds
        assert cell.settings == spec.tuning.trials
        assert len(cell.draws[0][0]) == len(spec.tuning.seeds)


def test_every_difficulty_can_be_won_and_the_tasks_tell_optimizers_apart(cells: Cells) -> None:
    shares = defaultdict(list)
    for cell in cells.cells:
        shares[cell.task, cell.difficulty].append(float(np.mean(cell.won)))
    assert all(max(own) > 0 for own in shares.values())
    assert sum(min(own) < wins.HALF <= max(own) for own in shares.values()) > len(shares) / 2


def test_it_says_what_it_was_made_with_and_is_small(cells: Cells) -> None:
    assert {"harness", "torch", "python", "date"} <= {*cells.versions}
    assert cells.origin.startswith("shipped")
    assert (ROOT / "harness" / "analysis" / "diagnostics_cells.json").stat().st_size < 300_000
