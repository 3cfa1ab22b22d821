"""Schedules equal plain loops with torch's schedulers: alone to the bit, shared to rounding."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from plain_loops import plain_loop, run, small_workload, with_recipe
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from harness.engine.lane_values import NotShareable
from harness.engine.recipe_factory import RecipeFactory
from harness.engine.schedules import LoadedStage, LongSchedule, ShortSchedule, UnfitSchedule
from harness.engine.sharing import decide

pytestmark = pytest.mark.usefixtures("shared_though_slower")

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


@pytest.mark.parametrize("way", ["pointwise", "vmapped", "own_optimizers"])
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


# The short form ----------------------------------------------------------------------------------


def factor(numbers: dict[str, Any], t: int, steps: int, warmup: int) -> float:
    """The factor at an update, as the documentation has it."""
    if t < warmup:
        return (t + 1) / warmup
    x = (t - warmup) / (steps - warmup)
    final = numbers.get("final", 0.0)
    match numbers["then"]:
        case "linear":
            return float(1 - (1 - final) * x)
        case "cosine":
            return float(final + (1 - final) * (1 + math.cos(math.pi * x)) / 2)
        case "exponential":
            return float(numbers.get("final", 0.01) ** x)
        case "inverse_sqrt":
            return math.sqrt(max(warmup, 1) / (t + 1))
        case "step":
            return float(0.1 ** ((t >= 10) + (t >= 15)))
    return 1.0


SHORT: list[tuple[dict[str, Any], int]] = [
    ({"warmup": 4, "then": "cosine"}, 4),
    ({"warmup": "20%", "then": "cosine", "final": 0.1}, 4),
    ({"warmup": 0.2, "then": "linear"}, 4),
    ({"warmup": 0, "then": "linear", "final": 0.3}, 0),
    ({"warmup": 0, "then": "exponential"}, 0),
    ({"warmup": 5, "then": "exponential", "final": 0.2}, 5),
    ({"warmup": 5, "then": "inverse_sqrt"}, 5),
    ({"warmup": 0, "then": "inverse_sqrt"}, 0),
    ({"warmup": 3, "then": "step"}, 3),
    ({"warmup": 20, "then": "constant"}, 20),
]


def plain_short(numbers: dict[str, Any], warmup: int, lr: float, seed: int = 0) -> Any:
    def prepare(params: dict[str, torch.Tensor]) -> Any:
        made = torch.optim.SGD(params.values(), lr=lr, momentum=0.9)
        updates = iter(range(STEPS))

        def update(closure: Any) -> None:
            closure()
            made.param_groups[0]["lr"] = lr * factor(numbers, next(updates), STEPS, warmup)
            made.step()

        return update

    return plain_loop(small_workload(STEPS), seed, prepare)


def short(numbers: dict[str, Any], lr: float) -> dict[str, Any]:
    named = {f"schedule.{key}": value for key, value in numbers.items()}
    return {"lr": lr, "momentum": 0.9, **named}


@pytest.mark.parametrize(("numbers", "warmup"), SHORT)
def test_the_short_form_alone_equals_a_loop_that_sets_the_rate(
    numbers: dict[str, Any], warmup: int
) -> None:
    found = run(small_workload(STEPS), with_recipe(torch.optim.SGD), [short(numbers, 0.1)])
    assert found.losses[0].tolist() == plain_short(numbers, warmup, 0.1).tolist()


@pytest.mark.parametrize("copies", [1, 3])  # few settings are computed one by one, many at once
def test_any_short_schedules_ride_as_lanes_of_one_run(copies: int) -> None:
    rates = [0.1 / (1 + i) for i in range(copies)]
    settings = [short(numbers, lr) for lr in rates for numbers, _ in SHORT]
    found = run(small_workload(STEPS), with_recipe(torch.optim.SGD), settings, way="pointwise")
    wanted = [plain_short(numbers, warmup, lr) for lr in rates for numbers, warmup in SHORT]
    np.testing.assert_allclose(found.losses, wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("numbers", "blamed", "text"),
    [
        ({"warmup": 21}, "schedule.warmup", "warm-up of 21 steps is longer than the trial's 20"),
        ({"then": "exponential", "final": 0}, "schedule.final", "above 0"),
        ({"then": "step", "at": [5, 30]}, "schedule.at", "step 30 is beyond the end"),
    ],
)
def test_a_short_schedule_that_does_not_fit_names_the_number(
    numbers: dict[str, Any], blamed: str, text: str
) -> None:
    with pytest.raises(UnfitSchedule, match=text) as raised:
        ShortSchedule.of(numbers, STEPS)
    assert raised.value.name == blamed


# Several stages ----------------------------------------------------------------------------------


def chained(lr: float, params: dict[str, torch.Tensor]) -> Any:
    made = torch.optim.Adam(params.values(), lr=lr)
    stages = [
        lr_scheduler.LinearLR(made, start_factor=0.01, total_iters=4),
        lr_scheduler.CosineAnnealingLR(made, T_max=10),
        lr_scheduler.ConstantLR(made, factor=0.1, total_iters=6),
    ]
    schedule = lr_scheduler.SequentialLR(made, stages, milestones=[4, 14])

    def update(closure: Any) -> None:
        closure()
        made.step()
        schedule.step()

    return update


STAGES = (lr_scheduler.LinearLR, lr_scheduler.CosineAnnealingLR, lr_scheduler.ConstantLR)


def stages(lr: float) -> dict[str, Any]:
    return {
        "lr": lr,
        "schedule.0.steps": "20%",
        "schedule.0.start_factor": 0.01,
        "schedule.1.T_max": "steps",
        "schedule.2.steps": 6,
        "schedule.2.factor": 0.1,
    }


@pytest.mark.parametrize("way", ["alone", "pointwise", "vmapped", "own_optimizers"])
def test_stages_follow_each_other_as_in_sequential_lr(way: Any) -> None:
    # The stage in the middle takes what is left: 20 steps less 20% of them less 6.
    rates = [0.1] if way == "alone" else [0.1, 0.03]
    factory = with_recipe(torch.optim.Adam, *STAGES)
    found = run(small_workload(STEPS), factory, [stages(lr) for lr in rates], way=way)
    for lr, losses in zip(rates, found.losses, strict=True):
        wanted = plain_loop(small_workload(STEPS), 0, functools.partial(chained, lr))
        np.testing.assert_allclose(losses, wanted, rtol=0 if way == "alone" else 1e-12)


@pytest.mark.parametrize("way", ["alone", "pointwise", "own_optimizers"])
def test_schedulers_combine_others(way: Any) -> None:
    inner = (LoadedStage(lr_scheduler.ConstantLR), LoadedStage(lr_scheduler.ExponentialLR))
    stage = LoadedStage(lr_scheduler.ChainedScheduler, inner)
    factory = RecipeFactory(torch.optim.SGD, stages=(stage,))
    given = {"schedule.0.schedulers.0.total_iters": "25%", "schedule.0.schedulers.1.gamma": 0.9}

    def prepare(params: dict[str, torch.Tensor]) -> Any:
        made = torch.optim.SGD(params.values(), lr=0.1)
        first = lr_scheduler.ConstantLR(made, total_iters=5)
        schedule = lr_scheduler.ChainedScheduler(
            [first, lr_scheduler.ExponentialLR(made, gamma=0.9)]
        )

        def update(closure: Any) -> None:
            closure()
            made.step()
            schedule.step()

        return update

    seeds = (0,) if way == "alone" else (0, 1)
    found = run(small_workload(STEPS), factory, [{"lr": 0.1, **given}], seeds, way)
    wanted = plain_loop(small_workload(STEPS), 0, prepare)
    np.testing.assert_allclose(found.losses[0], wanted, rtol=0 if way == "alone" else 1e-12)


def halve_after_five(t: int) -> float:
    return 1.0 if t < 5 else 0.5


@pytest.mark.parametrize("scheduler", [lr_scheduler.LambdaLR, lr_scheduler.MultiplicativeLR])
def test_arguments_may_name_functions(scheduler: Any) -> None:
    factory = with_recipe(torch.optim.SGD, scheduler, objects={"rules:halve": halve_after_five})
    found = run(
        small_workload(STEPS), factory, [{"lr": 0.1, "schedule.0.lr_lambda": "rules:halve"}]
    )
    wanted = plain(scheduler, torch.optim.SGD, {"lr": 0.1}, {"lr_lambda": halve_after_five})
    assert found.losses[0].tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("lengths", "blamed", "text"),
    [
        (("50%", "60%"), "schedule.1.steps", "22 steps, more than the trial's 20"),
        ((30, None), "schedule.0.steps", "30 steps, more than the trial's 20"),
        (("50%", 0.25), "schedule.1.steps", "15 steps, fewer than the trial's 20"),
    ],
)
def test_stages_that_do_not_fit_the_trial_are_named(
    lengths: tuple[Any, Any], blamed: str, text: str
) -> None:
    given = {f"{i}.steps": length for i, length in enumerate(lengths) if length is not None}
    kinds = [LoadedStage(lr_scheduler.ConstantLR)] * 2
    with pytest.raises(UnfitSchedule, match=text) as raised:
        LongSchedule(kinds, given, {}, STEPS).lengths()
    assert raised.value.name == blamed


@pytest.mark.parametrize("steps", [7, 20, 23, 100, 1001])
def test_shares_that_add_up_to_one_take_every_step(steps: int) -> None:
    kinds = [LoadedStage(lr_scheduler.ConstantLR)] * 3
    given = {"0.steps": "5%", "1.steps": 0.45, "2.steps": "50%"}
    assert sum(LongSchedule(kinds, given, {}, steps).lengths()) == steps


def test_a_stage_of_no_steps_is_left_out() -> None:
    factory = with_recipe(torch.optim.SGD, lr_scheduler.LinearLR, lr_scheduler.CosineAnnealingLR)
    setting = {"lr": 0.1, "schedule.0.steps": 0, "schedule.0.start_factor": 0.01}
    found = run(small_workload(STEPS), factory, [setting])
    wanted = plain(lr_scheduler.CosineAnnealingLR, torch.optim.SGD, {"lr": 0.1}, {"T_max": STEPS})
    assert found.losses[0].tolist() == wanted.tolist()


# What goes by a loss, and what can't be shared ---------------------------------------------------


def test_a_scheduler_that_goes_by_a_loss_is_stepped_with_each_recorded_one() -> None:
    workload = replace(small_workload(STEPS), record_steps=tuple(range(0, STEPS + 1, 4)))
    given: dict[str, Any] = {"factor": 0.1, "patience": 0, "threshold": 0.5}
    factory = with_recipe(torch.optim.SGD, lr_scheduler.ReduceLROnPlateau)
    found = run(workload, factory, [{"lr": 0.1, **numbers(given)}])

    def prepare(params: dict[str, torch.Tensor]) -> Any:
        made = torch.optim.SGD(params.values(), lr=0.1)
        schedule = lr_scheduler.ReduceLROnPlateau(made, **given)
        steps = iter(range(1, STEPS + 1))

        def update(closure: Any) -> None:
            closure()
            made.step()
            if next(steps) % 4 == 0:
                with torch.no_grad():
                    schedule.step(workload.objective.evaluate(params, workload.data))

        return update

    wanted = plain_loop(small_workload(STEPS), 0, prepare)
    assert found.losses[0].tolist() == wanted[::4].tolist()
    assert not np.array_equal(wanted, plain(lr_scheduler.ConstantLR, torch.optim.SGD, *CONSTANT))


CONSTANT = ({"lr": 0.1}, {"factor": 1.0})


def test_trials_whose_schedule_goes_by_a_loss_run_alone() -> None:
    factory = with_recipe(torch.optim.SGD, lr_scheduler.ReduceLROnPlateau)
    sharing = decide(small_workload(STEPS), factory, [{"lr": 0.1}], range(8))
    assert sharing.way == "alone"
    assert sharing.reason == "its schedule looks at a loss (ReduceLROnPlateau)"
    with pytest.raises(NotShareable):
        run(small_workload(STEPS), factory, [{"lr": 0.1}], (0, 1), "pointwise")


class ByGradient:
    """A scheduler that goes by something of a trial: by the size of its gradient."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] /= 1 + float(group["params"][0].grad.norm())


class ByState(ByGradient):
    """A scheduler that goes by what the optimizer keeps."""

    def step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] /= 1 + len(self.optimizer.state)


@pytest.mark.parametrize("scheduler", [ByGradient, ByState])
@pytest.mark.parametrize("way", ["pointwise", "vmapped"])
def test_a_scheduler_that_looks_at_more_than_groups_is_not_shared(scheduler: Any, way: Any) -> None:
    factory = with_recipe(torch.optim.SGD, scheduler)
    with pytest.raises(NotShareable, match="its schedule can't be shared"):
        run(small_workload(STEPS), factory, [{"lr": 0.1}], (0, 1), way)
    assert decide(small_workload(STEPS), factory, [{"lr": 0.1}], range(8)).way not in SHARED


SHARED = ("pointwise", "vmapped")
"""Ways in which a scheduler is not on an optimizer of one trial."""


@pytest.mark.parametrize("scheduler", [ByGradient, ByState])
def test_such_a_scheduler_sees_what_its_trial_has_where_that_has_its_own_optimizer(
    scheduler: Any,
) -> None:
    factory = with_recipe(torch.optim.Adam, scheduler)
    settings = [{"lr": lr} for lr in (0.1, 0.02)]
    found = run(small_workload(STEPS), factory, settings, (0, 1), "own_optimizers")
    wanted = [plain(scheduler, torch.optim.Adam, own, {}, s) for own in settings for s in (0, 1)]
    np.testing.assert_allclose(found.losses, wanted, rtol=1e-12)


class ItsOwnRate(torch.optim.SGD):
    """An optimizer that changes its learning rate itself."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["lr"] = group["lr"] * 0.9
        return super().step(closure)


def test_an_optimizer_that_changes_the_rate_as_well_is_not_shared() -> None:
    factory = with_recipe(ItsOwnRate)
    setting = {"lr": 0.1, "schedule.warmup": 0, "schedule.then": "cosine"}
    with pytest.raises(NotShareable, match="changes 'lr' of its groups, as its schedule does"):
        run(small_workload(STEPS), factory, [setting], (0, 1), "pointwise")


def test_the_first_steps_of_a_run_follow_the_schedule_of_all_of_it() -> None:
    # Whether trials may share a run is tried on three steps; a warm-up of ten is no mistake there.
    setting = {"lr": 0.1, "schedule.warmup": 10, "schedule.then": "cosine"}
    sharing = decide(small_workload(STEPS), with_recipe(torch.optim.SGD), [setting], range(8))
    assert (sharing.way, sharing.reason) == ("pointwise", "")
