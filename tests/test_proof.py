"""Lanes are proven: what mixes them is caught, what doesn't shares a run and loses nothing."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.engine import train
from harness.lanes import Lane
from harness.memory import lane_bytes
from harness.objective import Batch, Objective, Parameters
from harness.objectives.quadratic_2d import Quadratic2D
from harness.proof import calls_closure, prove
from harness.workload import Workload

RELATIVE = {torch.float32: 1e-6, torch.float64: 1e-12}


class Regression(Objective):
    """A matrix and a vector to be found, from random starts, with noise in the data."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.data = (
            torch.from_numpy(random.normal(size=(60, 4))),
            torch.from_numpy(random.normal(size=(60, 3))),
        )

    def init(self, generator: torch.Generator) -> Parameters:
        return {
            "weight": torch.randn(4, 3, generator=generator),
            "bias": torch.randn(3, generator=generator),
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        x, y = batch
        residuals: torch.Tensor = x @ params["weight"] + params["bias"] - y
        return residuals.square().mean()


class MatrixRegression(Regression):
    """The same without the vector: Muon takes matrices only."""

    def init(self, generator: torch.Generator) -> Parameters:
        return {"weight": torch.randn(4, 3, generator=generator)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        x, y = batch
        residuals: torch.Tensor = x @ params["weight"] - y
        return residuals.square().mean()


def workload_of(
    objective: Objective, dtype: torch.dtype = torch.float64, steps: int = 40
) -> Workload:
    data = tuple(t.to(dtype) for t in objective.data) if objective.data else None
    return Workload(
        objective=objective,
        data=data,
        dtype=dtype,
        device=torch.device("cpu"),
        steps=steps,
        steps_per_epoch=10 if data else 1,
        batch_size=6 if data else None,
        record_steps=(*range(0, steps, 10), steps),
        divergence_factor=1e6,
    )


class Suite(torch.optim.Optimizer):
    """Base of the optimizers below: gradient descent, with something to do first."""

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, {"lr": lr})

    def change(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            with torch.enable_grad():
                closure()
        for group in self.param_groups:
            for p in group["params"]:
                assert p.grad is not None
                p.sub_(self.change(p.grad), alpha=group["lr"])


class NormalisesByTheWholeTensor(Suite):
    def change(self, gradient: torch.Tensor) -> torch.Tensor:
        norm: torch.Tensor = gradient.norm()
        return gradient / norm


class ClipsOnlyLargeGradients(Suite):
    """Mixes lanes only once some lane's gradient is large: no probe near the start shows it."""

    def change(self, gradient: torch.Tensor) -> torch.Tensor:
        norm = gradient.norm()
        return torch.where(norm > 25, gradient * (25 / norm), gradient)


class SwapsLanes(Suite):
    """Gives each lane its neighbour's gradient: equal data would hide it."""

    def change(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.roll(1, 0)


class Averages(Suite):
    """Takes the mean over the first dimension: where lanes start alike, they stay alike."""

    def change(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.mean(0, keepdim=True).expand_as(gradient)


class MixesLate(Suite):
    """Behaves for nine steps."""

    taken = 0

    def change(self, gradient: torch.Tensor) -> torch.Tensor:
        self.taken += 1
        return gradient if self.taken < 18 else gradient / gradient.norm()


class DrawsGlobalNoise(Suite):
    def change(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient + torch.randn_like(gradient)


@pytest.mark.parametrize(
    "mixing",
    [
        NormalisesByTheWholeTensor,
        ClipsOnlyLargeGradients,
        SwapsLanes,
        Averages,
        MixesLate,
        DrawsGlobalNoise,
    ],
)
def test_an_optimizer_that_mixes_lanes_is_caught_and_runs_alone(mixing: Any) -> None:
    verdict = prove(workload_of(Regression()), mixing, [{"lr": 0.05}], [0, 1, 2])
    assert verdict.mode == "alone"
    assert "lane" in verdict.reason


def test_lanes_that_start_alike_are_told_apart_by_moving_one() -> None:
    """On the quadratic every lane has the same gradient, so a mean over lanes shows nothing."""

    class MeanOverLanes(Suite):
        def change(self, gradient: torch.Tensor) -> torch.Tensor:
            return gradient if gradient.dim() == 1 else gradient.mean(0).expand_as(gradient)

    verdict = prove(workload_of(Quadratic2D()), MeanOverLanes, [{"lr": 0.1}], [0, 1, 2])
    assert (verdict.mode, verdict.reason) == (
        "alone",
        "seeds can't share a run: lane 1 changes with lane 0 at step 1",
    )


def test_an_elementwise_optimizer_shares_a_run_over_seeds_and_settings() -> None:
    settings: list[dict[str, Any]] = [{"lr": lr} for lr in (0.01, 0.05, 0.1)]
    verdict = prove(workload_of(Regression()), Suite, settings, [0, 1])
    assert (verdict.mode, verdict.reason, verdict.calls_closure) == ("grouped", "", True)


def test_a_setting_that_groups_do_not_carry_gets_runs_of_its_own() -> None:
    class Scaled(Suite):
        """Keeps ``scale`` to itself, so a parameter group's own value goes unseen."""

        def __init__(self, params: Any, lr: float = 0.05, scale: float = 1.0) -> None:
            super().__init__(params, lr)
            self.scale = scale

        def change(self, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * self.scale

    workload = workload_of(Regression())
    by_scale: list[dict[str, Any]] = [{"scale": 1.0}, {"scale": 0.5}]
    verdict = prove(workload, Scaled, by_scale, [0, 1])
    assert verdict.mode == "stacked"
    assert verdict.reason.startswith("settings can't share a run: lane")
    assert prove(workload, Scaled, [{"lr": 0.1}, {"lr": 0.2}], [0, 1]).mode == "grouped"


def test_an_objective_that_vmap_cannot_take_runs_alone_with_the_reason() -> None:
    class Branches(Quadratic2D):
        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            loss = super().loss(params, batch)
            return loss if loss > 1 else loss * 2

    class Drops(Quadratic2D):
        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            return nn.functional.dropout(super().loss(params, batch), 0.1)

    for objective, why in (
        (Branches(), "data-dependent control flow"),
        (Drops(), "draws random numbers"),
    ):
        verdict = prove(workload_of(objective), Suite, [{}], [0, 1])
        assert verdict.mode == "alone"
        assert why in verdict.reason


def test_whether_a_step_calls_its_closure_is_found_out() -> None:
    class Ignores(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {})

        @torch.no_grad()
        def step(self, _: object = None) -> None:  # type: ignore[override]
            for p in self.param_groups[0]["params"]:
                p -= 0.1 * p.grad

    class TakesNone(Ignores):
        @torch.no_grad()
        def step(self) -> None:  # type: ignore[override]
            super().step()

    workload = workload_of(Quadratic2D())
    for factory, expected in ((Ignores, False), (TakesNone, False), (torch.optim.SGD, True)):
        assert calls_closure(workload, factory, {}) is expected
        assert prove(workload, factory, [{}], [0]).mode == "grouped"


def test_memory_of_a_lane_is_what_its_tensors_take() -> None:
    """An objective whose loss makes one large tensor per lane, of a size known beforehand."""

    class Wide(Objective):
        def init(self, generator: torch.Generator) -> Parameters:
            del generator
            return {"x": torch.zeros(3)}

        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            del batch
            return (params["x"].sum() * torch.ones(100_000, dtype=torch.float64)).sum()

    size = lane_bytes(workload_of(Wide()), Suite, {}, calls_closure=True)
    one = 8 * 100_000
    assert one <= size <= 3.1 * one  # the product, its gradient, and at most one copy


# Every optimizer of the pinned torch: what it needs beyond defaults, or why it is refused.
SETTINGS: dict[str, dict[str, Any]] = {"SGD": {"lr": 0.01}, "LBFGS": {"max_iter": 2}}
REFUSALS = {"SparseAdam": "does not support dense gradients"}
ALONE = {"LBFGS", "Adafactor", "Muon"}


def torch_optimizers() -> list[str]:
    return sorted(
        name
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", torch_optimizers())
def test_every_optimizer_of_torch_runs_as_on_its_own_or_is_refused_with_its_reason(
    name: str, dtype: torch.dtype
) -> None:
    factory = getattr(torch.optim, name)
    setting = SETTINGS.get(name, {})
    workload = workload_of(MatrixRegression() if name == "Muon" else Regression(), dtype)
    verdict = prove(workload, factory, [setting], [0, 1, 2])
    if name in REFUSALS:
        assert verdict.mode == "alone"
        assert REFUSALS[name] in verdict.reason
        with pytest.raises(Exception, match=REFUSALS[name]):
            train(workload, factory, [setting], [Lane(0, 0)], stacked=False)
        return
    assert (verdict.mode == "alone") == (name in ALONE), verdict.reason
    own = [
        train(workload, factory, [setting], [Lane(0, s)], stacked=False).losses[0] for s in range(3)
    ]
    assert np.isfinite(own).all()
    if verdict.mode != "alone":
        lanes = [Lane(0, seed) for seed in range(3)]
        together = train(workload, factory, [setting], lanes, stacked=True).losses
        np.testing.assert_allclose(together, own, rtol=RELATIVE[dtype])


def test_muon_is_refused_for_vectors_with_the_reason_that_its_constructor_gives() -> None:
    with pytest.raises(ValueError, match="only supports 2D parameters"):
        train(workload_of(Quadratic2D()), torch.optim.Muon, [{}], [Lane(0, 0)], stacked=False)


def registry_optimizers() -> Iterator[str]:
    try:
        package = importlib.import_module("pytorch_optimizer")
    except ImportError:
        return
    yield from sorted(package.get_supported_optimizers())


@pytest.mark.skipif(
    not list(registry_optimizers()), reason="the package pytorch-optimizer is not installed"
)
def test_optimizers_from_papers_run_as_on_their_own_or_say_why_not() -> None:
    package = importlib.import_module("pytorch_optimizer")
    workload = workload_of(Regression(), steps=30)
    shared, alone, refused = [], [], {}
    for name in registry_optimizers():
        factory = package.load_optimizer(name)
        verdict = prove(workload, factory, [{}], [0, 1, 2])
        try:
            own = train(
                workload,
                factory,
                [{}],
                [Lane(0, 1)],
                stacked=False,
                calls_closure=bool(verdict.calls_closure),
            )
        except Exception as error:
            refused[name] = str(error)
            assert verdict.mode == "alone"
            continue
        if verdict.mode == "alone":
            alone.append(name)
            continue
        shared.append(name)
        together = train(
            workload,
            factory,
            [{}],
            [Lane(0, seed) for seed in range(3)],
            stacked=True,
            calls_closure=bool(verdict.calls_closure),
        )
        np.testing.assert_allclose(together.losses[1], own.losses[0], rtol=1e-9, err_msg=name)
    print(f"\n{len(shared)} share a run, {len(alone)} run alone, {len(refused)} are refused:")
    print(*(f"  {name}: {why}" for name, why in refused.items()), sep="\n")
    assert len(shared) > 20
    assert len(alone) > 10
