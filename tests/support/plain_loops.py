"""Plain PyTorch loops, to which runs of the harness are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.conformance.stand_ins import workload_of
from harness.engine.lanes import Lane, Lanes
from harness.engine.recipe_factory import RecipeFactory
from harness.engine.recording import Outcome
from harness.engine.schedules import LoadedStage
from harness.engine.training_loop import train
from harness.engine.workload import Workload
from harness.plan.model import Hyperparameters
from harness.results import Way

Tensors = dict[str, torch.Tensor]
Closure = Callable[[], torch.Tensor]


def small_workload(steps: int = 12, dtype: torch.dtype = torch.float64, kind: str = "") -> Workload:
    """A small network on batches, of which every loss is recorded."""
    known = workload_of(kind, dtype)
    return replace(known, steps=steps, record_steps=tuple(range(steps + 1)))


def plain_loop(
    workload: Workload,
    seed: int,
    prepare: Callable[[Tensors], Callable[[Closure], None]],
    clip: Callable[[Sequence[torch.Tensor]], object] | None = None,
) -> NDArray[np.float64]:
    """Train as a user would: zero_grad, backward, clip, step, and whatever comes after.

    Args:
        workload: What to minimise.
        seed: Of start and batches.
        prepare: Given the parameters, makes a function that takes one update, given a closure that
            evaluates loss and (clipped) gradients.
        clip: Clips gradients after backward.

    Returns:
        The loss over all data before training and after every update, float64.
    """
    objective = workload.objective
    params = {k: v.clone().requires_grad_() for k, v in workload.start(seed).items()}
    update = prepare(params)
    batches = Lanes(workload, [Lane(0, seed)], stacked=False).batches()
    found = []

    def record() -> None:
        with torch.no_grad():
            found.append(float(objective.evaluate(params, workload.data)))

    record()
    for _, batch in zip(range(workload.steps), batches, strict=False):

        def closure(batch: Any = batch) -> torch.Tensor:
            for value in params.values():
                value.grad = None
            with torch.enable_grad():
                loss = objective.loss(params, batch)
                loss.backward()
            if clip is not None:
                clip(list(params.values()))
            return loss

        update(closure)
        record()
    return np.array(found)


def with_recipe(kind: Any, *stages: Any, **fields: Any) -> RecipeFactory:
    """An optimizer's class with schedulers, one after the other, and other fields of a recipe."""
    return RecipeFactory(kind, stages=tuple(map(LoadedStage, stages)), **fields)


def run(
    workload: Workload,
    factory: Any,
    settings: Sequence[Hyperparameters],
    seeds: Sequence[int] = (0,),
    way: Way = "alone",
) -> Outcome:
    """Every setting with every seed, by settings, then seeds."""
    lanes = [Lane(i, seed) for i in range(len(settings)) for seed in seeds]
    return train(workload, factory, settings, lanes, way=way)
