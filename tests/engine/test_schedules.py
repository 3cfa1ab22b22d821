"""Schedules equal plain loops with torch's schedulers: alone to the bit, shared to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plain_loops import plain_loop, run, small_workload, with_recipe
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

STEPS = 20
ADAM = {"lr": 0.05}
MOMENTUM = {"lr": 0.05, "momentum": 0.9}

SCHEDULERS: list[tuple[Any, Any, dict[str, Any], dict[str, Any]]] = [
    (lr_scheduler.ConstantLR, torch.optim.SGD, ADAM, {"factor": 0.5, "total_iters": 4}),
    (lr_scheduler.LinearLR, torch.optim.SGD, ADAM, {"start_factor": 0.1, "total_iters": 6}),
    (lr_scheduler.LinearLR, torch.optim.SGD, ADAM, {}),
    (lr_scheduler.ExponentialLR, torch.optim.Adam, ADAM, {"gamma": 0.9}),
    (lr_scheduler.StepLR, torch.optim.SGD, MOMENTUM, {"step_size": 3, "gamma": 0.5}),
    (lr_scheduler.MultiStepLR, torch.optim.SGD, ADAM, {"milestones": [4, 9], "gamma": 0.3}),
    (lr_scheduler.PolynomialLR, torch.optim.AdamW, ADAM, {"total_iters": 15, "power": 2.0}),
    (lr_scheduler.CosineAnnealingLR, torch.optim.AdamW, ADAM, {"T_max": 8, "eta_min": 0.001}),
    (lr_scheduler.CosineAnnealingWarmRestarts, torch.optim.SGD, ADAM, {"T_0": 3, "T_mult": 2}),
    (lr_scheduler.OneCycleLR, torch.optim.SGD, MOMENTUM, {"max_lr": 0.2, "total_steps": STEPS}),
    (lr_scheduler.OneCycleLR, torch.optim.Adam, ADAM, {"max_lr": 0.2, "total_steps": STEPS + 9}),
    (
        lr_scheduler.CyclicLR,
        torch.optim.SGD,
        MOMENTUM,
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4},
    ),
    (
        lr_scheduler.CyclicLR,
        torch.optim.AdamW,
        ADAM,
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "mode": "exp_range", "gamma": 0.99},
    ),
    (SWALR, torch.optim.SGD, ADAM, {"swa_lr": 0.2, "anneal_epochs": 5}),
]


def ids(case: tuple[Any, Any, Any, Any]) -> str:
    return f"{case[0].__name__}-{case[1].__name__}-{'-'.join(case[3])}"


def plain(
    scheduler: Any, optimizer: Any, setting: dict[str, Any], given: dict[str, Any], seed: int = 0
) -> np.ndarray[Any, Any]:
    def prepare(params: dict[str, torch.Tensor]) -> Any:
        made = optimizer(params.values(), **setting)
        schedule = scheduler(made, **given)

        def update(closure: Any) -> None:
            closure()
            made.step()
            schedule.step()

        return update

    return plain_loop(small_workload(STEPS), seed, prepare)


def numbers(given: dict[str, Any], stage: int = 0) -> dict[str, Any]:
    return {f"schedule.{stage}.{key}": value for key, value in given.items()}


@pytest.mark.parametrize("case", SCHEDULERS, ids=ids)
def test_a_scheduler_alone_equals_a_plain_loop_to_the_bit(case: Any) -> None:
    scheduler, optimizer, setting, given = case
    factory = with_recipe(optimizer, scheduler)
    found = run(small_workload(STEPS), factory, [{**setting, **numbers(given)}])
    assert found.losses[0].tolist() == plain(*case).tolist()


@pytest.mark.parametrize("way", ["pointwise", "vmapped"])
@pytest.mark.parametrize("case", SCHEDULERS, ids=ids)
def test_settings_as_lanes_equal_plain_loops(case: Any, way: Any) -> None:
    scheduler, optimizer, setting, given = case
    others = {**setting, "lr": 0.02}
    settings = [{**own, **numbers(given)} for own in (setting, others)]
    factory = with_recipe(optimizer, scheduler)
    found = run(small_workload(STEPS), factory, settings, (0, 1), way)
    wanted = [
        plain(scheduler, optimizer, own, given, seed)
        for own in (setting, others)
        for seed in (0, 1)
    ]
    np.testing.assert_allclose(found.losses, wanted, rtol=1e-12)
