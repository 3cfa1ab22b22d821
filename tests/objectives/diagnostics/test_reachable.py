"""The hardest difficulty of tasks of noise and landscapes is won by some known setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import load_suite_file, make_plan

from harness.engine.lanes import Lane
from harness.engine.loading import load_objective
from harness.engine.training_loop import train
from harness.engine.workload import prepare
from harness.plan.builder import Overrides
from harness.plan.model import PlannedObjective
from harness.spec.validation import load

pytestmark = pytest.mark.usefixtures("one_thread", "shared_though_slower")

ROOT = Path(__file__).resolve().parents[3]

HARDEST: dict[str, tuple[str, dict[str, Any]]] = {
    "white_noise": ("Adagrad", {"lr": 0.34}),
    "heavy_tails": ("RMSprop", {"lr": 0.02, "alpha": 0.5}),
    "correlated_noise": ("SGD", {"lr": 0.04}),
    "multiplicative_noise": ("SGD", {"lr": 0.2}),
    "small_batches": ("Adagrad", {"lr": 0.4}),
    "outlier_gradients": ("SGD", {"lr": 1.0}),
    "sparse_gradients": ("Adagrad", {"lr": 2.0}),
    "quantized_gradients": ("Adagrad", {"lr": 0.65}),
    "delayed_gradients": ("Adagrad", {"lr": 0.2}),
    "flipped_gradients": ("SGD", {"lr": 1.0}),
    "strict_saddle": ("Adam", {"lr": 0.02, "betas": (0.9, 0.99)}),
    "plateau": ("Adagrad", {"lr": 1.0}),
    "vanishing_chain": ("Lion", {"lr": 0.003}),
    "exploding_chain": ("RMSprop", {"lr": 0.01, "alpha": 0.9}),
    "deep_linear": ("Adam", {"lr": 0.325602, "betas": (0.9, 0.99)}),
    "bent_valley": ("SGD", {"lr": 0.03, "momentum": 0.97}),
    "largest_of": ("Adagrad", {"lr": 0.2}),
    "penalty_wall": ("SGD", {"lr": 3e-4, "momentum": 0.96}),
    "hinge_wall": ("Adam", {"lr": 0.0375999, "betas": (0.99, 0.999)}),
    "drifting_minimum": ("Adam", {"lr": 0.6, "betas": (0.9, 0.99)}),
    "circling_minimum": ("SGD", {"lr": 3.0, "momentum": 0.6}),
    "sudden_flip": ("RMSprop", {"lr": 0.06, "alpha": 0.9}),
    "rotating_field": ("SGD", {"lr": 0.027}),
    "rippled_bowl": ("Adagrad", {"lr": 3.0}),
    "rippled_plate": ("Adagrad", {"lr": 5.0}),
}
SEEDS = range(5)


@pytest.fixture(scope="module")
def hardest() -> dict[str, PlannedObjective]:
    """The last difficulty of each task of the spec."""
    plan = make_plan(load(ROOT / "diagnostics.yaml"), Overrides(only=("optimizer=sgd",)))
    return {planned.name.split(".")[0]: planned for planned in plan.objectives}


@pytest.mark.parametrize("task", HARDEST)
def test_somebody_wins_the_hardest_difficulty(
    task: str, hardest: dict[str, PlannedObjective]
) -> None:
    name, setting = HARDEST[task]
    kind = load_suite_file("optimizers/lion.py").Lion if name == "Lion" else None
    objective, _ = load_objective(hardest[task])
    workload = prepare(hardest[task], objective, "cpu")
    lanes = [Lane(0, seed) for seed in SEEDS]
    kind = kind or getattr(torch.optim, name)
    found = train(workload, kind, [setting], lanes, way="pointwise")
    assert np.any(found.stopped_at >= 0)
