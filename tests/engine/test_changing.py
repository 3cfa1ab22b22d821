"""Objectives that see the step, that remember, and whose instance is drawn by seed."""

# ruff: noqa: ARG002

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_workload

from harness.engine.isolation import seed_globals
from harness.engine.lanes import Lane
from harness.engine.sharing import decide
from harness.engine.training_loop import TrialError, train
from harness.engine.workload import INIT_STREAM, Workload, describe, generator
from harness.measures import StopRule, Target
from harness.objectives.base import Batch, Objective, Parameters
from harness.suite.locate import Misfit

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 12


class Drift(Objective):
    """A minimum that moves along a line, from a start that is drawn."""

    sees_step = True
    optimum = 0.0

    def init(self, generator: torch.Generator) -> Parameters:
        return {"x": torch.randn(3, generator=generator, dtype=torch.float64)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        return (params["x"] - 0.1 * params["step"]).square().sum()


class Noisy(Drift):
    """The same with noise that remembers (Ornstein and Uhlenbeck's) and a shift of the seed's."""

    def init(self, generator: torch.Generator) -> Parameters:
        shift = torch.randn(3, generator=generator, dtype=torch.float64)
        return {"x": shift + torch.randn(3, generator=generator, dtype=torch.float64)}

    def state(self, generator: torch.Generator) -> Parameters:
        shift = torch.randn(3, generator=generator, dtype=torch.float64)
        return {"shift": shift, "noise": torch.zeros(3, dtype=torch.float64)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        noise = 0.9 * params["noise"] + 0.1 * torch.randn_like(params["noise"])
        params["noise"].copy_(noise)
        return self.evaluate(params, batch) + (noise * params["x"]).sum()

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        x = params["x"] - params["shift"]
        return (x - 0.1 * params["step"]).square().sum()


def plain(objective: Objective, lr: float, seed: int, momentum: float = 0.0) -> list[float]:
    """Train in a plain loop; give the loss that is recorded at the start and after each step."""
    source = generator(seed, INIT_STREAM)
    start = {name: v.clone().requires_grad_() for name, v in objective.init(source).items()}
    state = objective.state(generator(seed, INIT_STREAM))
    optimizer = torch.optim.SGD(list(start.values()), lr=lr, momentum=momentum)
    seed_globals(seed)
    recorded = []
    for step in range(STEPS + 1):
        params = {**start, **state, "step": torch.tensor(float(step), dtype=torch.float64)}
        recorded.append(float(objective.evaluate(params, None).detach()))
        if step < STEPS:
            optimizer.zero_grad()
            objective.loss(params, None).backward()
            optimizer.step()
    return recorded


def workload(objective: Objective, stop: StopRule | None = None) -> Workload:
    made = make_workload(objective, steps=STEPS)
    return replace(made, stop=stop)


SETTINGS: list[dict[str, Any]] = [{"lr": lr, "momentum": 0.9} for lr in (0.1, 0.02, 0.05, 1e-4)]
LANES = [Lane(i, seed) for i in range(len(SETTINGS)) for seed in (0, 1, 5)]


@pytest.mark.parametrize("objective", [Drift, Noisy])
@pytest.mark.parametrize("way", ["alone", "pointwise", "lanewise", "own_optimizers"])
def test_every_lane_equals_a_plain_loop(objective: Callable[[], Objective], way: Any) -> None:
    made = workload(objective())
    groups = [[lane] for lane in LANES] if way == "alone" else [LANES]
    for lanes in groups:
        outcome = train(made, torch.optim.SGD, SETTINGS, lanes, way=way)
        for lane, losses in zip(lanes, outcome.losses, strict=True):
            setting = SETTINGS[lane.setting]
            own = plain(objective(), setting["lr"], lane.seed, setting["momentum"])
            np.testing.assert_allclose(losses, own, rtol=1e-12)


def test_a_moving_minimum_is_followed_at_the_distance_that_theory_says() -> None:
    # Gradient descent behind a minimum at v t: the gap g obeys g' = (1 - 2 lr) (g + v).
    outcome = train(workload(Drift()), torch.optim.SGD, [{"lr": 0.3}], [Lane(0, 2)], way="alone")
    gap = Drift().init(generator(2, INIT_STREAM))["x"]
    for step in range(1, STEPS + 1):
        gap = (1 - 2 * 0.3) * gap - 0.1  # the minimum goes on after the update
        assert outcome.losses[0, step] == pytest.approx(float(gap.square().sum()), rel=1e-12)


@pytest.mark.usefixtures("shared_though_slower")
@pytest.mark.parametrize("objective", [Drift, Noisy])
def test_they_share_a_run(objective: Callable[[], Objective]) -> None:
    found = decide(workload(objective()), torch.optim.SGD, SETTINGS, [0, 1, 5])
    assert (found.way, found.reason) == ("pointwise", "")


@pytest.mark.parametrize("way", ["pointwise", "lanewise", "own_optimizers"])
def test_lanes_that_have_won_are_left_out_and_the_others_go_on_as_alone(
    way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = StopRule(targets=(Target(value=2.0),), optimum=0.0)
    sizes: list[int] = []
    loss = Noisy.loss

    def counted(self: Noisy, params: Parameters, batch: Batch) -> torch.Tensor:
        level = torch._C._functorch.maybe_get_level(params["x"])
        if level > 0:
            sizes.append(len(torch._C._functorch.get_unwrapped(params["x"])))
        return loss(self, params, batch)

    made = workload(Noisy(), rule)
    own = [train(made, torch.optim.SGD, SETTINGS, [lane], way="alone").losses[0] for lane in LANES]
    monkeypatch.setattr(Noisy, "loss", counted)
    outcome = train(made, torch.optim.SGD, SETTINGS, LANES, way=way)
    stopped = outcome.stopped_at
    assert 0 < (stopped >= 0).sum() < len(LANES)
    for lane, alone in enumerate(own):
        np.testing.assert_allclose(outcome.losses[lane], alone, rtol=1e-12)
    assert sizes[-1] < sizes[0] == len(LANES)


class Named(Drift):
    def init(self, generator: torch.Generator) -> Parameters:
        return {"step": torch.zeros(3)}


class Kept(Drift):
    def state(self, generator: torch.Generator) -> Parameters:
        return {"step": torch.zeros(())}


@pytest.mark.parametrize("objective", [Named, Kept])
def test_its_name_is_refused_to_others(objective: Callable[[], Objective]) -> None:
    with pytest.raises((Misfit, TrialError), match="'step' is the name under which"):
        train(workload(objective()), torch.optim.SGD, [{"lr": 0.1}], [Lane(0, 0)], way="alone")


class Moving2D(Drift):
    def init(self, generator: torch.Generator) -> Parameters:
        return {"x": torch.randn(2, generator=generator, dtype=torch.float64)}


class Still2D(Objective):
    def init(self, generator: torch.Generator) -> Parameters:
        return {"x": torch.zeros(2)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        return params["x"].square().sum()


def test_no_landscape_is_drawn_of_what_differs_by_step_or_seed() -> None:
    assert describe(workload(Still2D()), "").landscape
    found = describe(workload(Moving2D()), "")
    assert found.dimension == 2
    assert not found.landscape
