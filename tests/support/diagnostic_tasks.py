"""What every diagnostic task must do, whatever it asks: checked alike for all families."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from builders import make_workload
from numpy.typing import NDArray

from harness.engine.lanes import Lane
from harness.engine.sharing import decide
from harness.engine.training_loop import train
from harness.objectives.base import Objective, Parameters

STEP = 7.0
"""The step at which tasks that see it are looked at."""


def drawn(objective: Objective, seed: int) -> tuple[Parameters, Parameters]:
    """A seed's start and what is kept beside it, each drawn by a generator of that seed."""
    start = objective.init(torch.Generator().manual_seed(seed))
    kept = objective.state(torch.Generator().manual_seed(seed))
    if objective.sees_step:
        kept = kept | {"step": torch.tensor(STEP, dtype=torch.float64)}
    return start, kept


def arrays(params: Parameters) -> dict[str, NDArray[np.float64]]:
    """The same in numpy, for an independent computation."""
    return {name: value.detach().numpy() for name, value in params.items()}


def slope(objective: Objective, start: Parameters, kept: Parameters) -> Parameters:
    """The gradient of the loss by every parameter."""
    slopes: Parameters = torch.func.grad(lambda p: objective.loss({**p, **kept}, None))(start)
    return slopes


def check_gradient(objective: Objective, seed: int, h: float = 1e-6) -> None:
    """Hold the gradient against central differences of the loss, along random directions."""
    start, kept = drawn(objective, seed)
    slopes = slope(objective, start, kept)
    random = torch.Generator().manual_seed(seed + 1)
    for _ in range(4):
        # As long as the parameters are: a step that is right for large ones jumps over small ones.
        along = {
            k: v.abs().clamp(min=1e-12)
            * torch.randn(v.shape, generator=random, dtype=torch.float64)
            if v.abs().min() > 0
            else torch.randn(v.shape, generator=random, dtype=torch.float64)
            for k, v in start.items()
        }
        ahead, behind = (
            objective.loss({k: v + s * h * along[k] for k, v in start.items()} | kept, None)
            for s in (1, -1)
        )
        expected = float(sum((slopes[k] * along[k]).sum() for k in start))
        size = float(sum((slopes[k] * along[k]).abs().sum() for k in start))
        rounding = 1e-15 * abs(float(ahead)) / h
        assert abs(float(ahead - behind) / (2 * h) - expected) <= 1e-6 * size + 10 * rounding


def check_drawn_by_seed(objective: Objective) -> None:
    """Hold that a seed gives one start and instance, and another seed others, not at the win."""
    first, again, other = (drawn(objective, seed) for seed in (3, 3, 4))
    for one, same in zip(first, again, strict=True):
        assert one.keys() == same.keys()
        assert all(torch.equal(one[k], same[k]) for k in one)
    assert any(
        not torch.equal(mine[k], theirs[k])
        for mine, theirs in zip(first, other, strict=True)
        for k in mine
    )
    for start, kept in (first, other):
        assert objective.optimum is not None
        assert float(objective.evaluate({**start, **kept}, None)) > objective.optimum
        assert all(value.dtype == torch.float64 for value in start.values())


def check_lanes(objective: Objective, settings: list[dict[str, Any]]) -> None:
    """Hold that trials side by side are what each is alone, with their own instances."""
    workload = make_workload(objective, steps=6, divergence_factor=1e30)
    seeds = [0, 5]
    sharing = decide(workload, torch.optim.Adam, settings, seeds)
    assert sharing.way == "pointwise", sharing.reason
    lanes = [Lane(i, seed) for i in range(len(settings)) for seed in seeds]
    together = train(workload, torch.optim.Adam, settings, lanes, way="pointwise")
    for row, lane in enumerate(lanes):
        alone = train(workload, torch.optim.Adam, settings, [lane], way="alone")
        np.testing.assert_allclose(together.losses[row], alone.losses[0], rtol=1e-9, atol=1e-12)


def lowest(
    objective: Objective, optimizer: Any, settings: dict[str, Any], steps: int, metric: str
) -> NDArray[np.float64]:
    """The lowest recorded value of a metric, of each of five seeds; one in ten is recorded."""
    workload = make_workload(
        objective,
        steps=steps,
        divergence_factor=1e30,
        record_steps=(*range(0, steps, 10), steps),
        metrics=(("loss", False), *([] if metric == "loss" else [(metric, False)])),
    )
    lanes = [Lane(0, seed) for seed in range(5)]
    outcome = train(workload, optimizer, [settings], lanes, way="pointwise")
    values: NDArray[np.float64] = np.nanmin(outcome.values[f"train {metric}"], axis=1)
    return values
