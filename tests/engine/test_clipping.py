"""Clipping equals torch's: alone its own functions, in a shared run each lane by its own norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plain_loops import plain_loop, run, small_workload, with_recipe

from harness.engine.clipping import clipping_of
from harness.engine.lane_values import LaneFloat

LANES = 4


def lanes_of_gradients() -> list[torch.Tensor]:
    """Parameters of four lanes whose gradients have norms far below and far above 1."""
    source = torch.Generator().manual_seed(0)
    sizes = torch.tensor([1e-3, 0.5, 3.0, 1e4], dtype=torch.float64)
    leaves = []
    for shape in [(3, 2), (2,), ()]:
        leaf = torch.zeros(LANES, *shape, dtype=torch.float64)
        grad = torch.randn(LANES, *shape, generator=source, dtype=torch.float64)
        leaf.grad = grad * sizes.reshape(-1, *(1,) * len(shape))
        leaves.append(leaf)
    return leaves


def alone(leaves: list[torch.Tensor], lane: int, **limits: float) -> list[torch.Tensor]:
    """The gradients of one lane, clipped by torch."""
    own = []
    for leaf in leaves:
        parameter = leaf[lane].clone()
        parameter.grad = None if leaf.grad is None else leaf.grad[lane].clone()
        own.append(parameter)
    if "clip_grad_value" in limits:
        torch.nn.utils.clip_grad_value_(own, limits["clip_grad_value"])
    if "clip_grad_norm" in limits:
        torch.nn.utils.clip_grad_norm_(own, limits["clip_grad_norm"])
    return [parameter.grad for parameter in own if parameter.grad is not None]


def compare(leaves: list[torch.Tensor], limits: list[dict[str, Any]]) -> None:
    """Clip lanes together, and hold each against torch's own clipping of it."""
    wanted = [alone(leaves, lane, **limits[lane]) for lane in range(LANES)]
    given = {
        name: limits[0][name]
        if all(own == limits[0] for own in limits)
        else LaneFloat(np.array([own[name] for own in limits]), [])
        for name in limits[0]
    }
    clip = clipping_of(given, stacked=True)
    assert clip is not None
    clip(leaves)
    for lane in range(LANES):
        found = [leaf.grad[lane] for leaf in leaves if leaf.grad is not None]
        for one, other in zip(found, wanted[lane], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-14, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "limits",
    [
        {"clip_grad_norm": 1.0},
        {"clip_grad_value": 0.7},
        {"clip_grad_norm": 0.4, "clip_grad_value": 0.3},
    ],
)
def test_each_lane_is_clipped_as_alone(limits: dict[str, float]) -> None:
    compare(lanes_of_gradients(), [limits] * LANES)


def test_thresholds_may_differ_from_lane_to_lane() -> None:
    pairs = [(9, 1), (0.2, 2), (1, 3), (5, 4)]
    limits = [{"clip_grad_norm": norm, "clip_grad_value": value} for norm, value in pairs]
    compare(lanes_of_gradients(), limits)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_spoils_its_own_lane_only(value: float) -> None:
    leaves = lanes_of_gradients()
    assert leaves[0].grad is not None
    leaves[0].grad[2, 1, 1] = value
    compare(leaves, [{"clip_grad_norm": 1.0}] * LANES)
    for leaf in leaves:
        assert leaf.grad is not None
        assert leaf.grad[[0, 1, 3]].isfinite().all()


def test_parameters_without_a_gradient_count_for_nothing() -> None:
    leaves = lanes_of_gradients()
    leaves[1].grad = None
    compare(leaves, [{"clip_grad_norm": 1.0}] * LANES)
    for leaf in leaves:
        leaf.grad = None
    clip = clipping_of({"clip_grad_norm": 1.0}, stacked=True)
    assert clip is not None
    clip(leaves)


def test_complex_gradients_are_clipped_by_their_size() -> None:
    source = torch.Generator().manual_seed(1)
    leaf = torch.zeros(LANES, 3, dtype=torch.complex128)
    leaf.grad = 5 * torch.randn(LANES, 3, generator=source, dtype=torch.complex128)
    compare([leaf, *lanes_of_gradients()], [{"clip_grad_norm": 1.0}] * LANES)


def test_sparse_gradients_are_refused_as_by_torch() -> None:
    table = torch.zeros(4, 2, requires_grad=True)
    torch.nn.functional.embedding(torch.tensor([1, 3]), table, sparse=True).sum().backward()
    clip = clipping_of({"clip_grad_norm": 1.0}, stacked=False)
    assert clip is not None
    with pytest.raises(NotImplementedError):
        torch.nn.utils.clip_grad_norm_([table], 1.0)
    with pytest.raises(NotImplementedError):
        clip([table])


def test_no_threshold_is_no_clipping() -> None:
    assert clipping_of({}, stacked=True) is None
    assert clipping_of({"clip_grad_norm": None, "clip_grad_value": None}, stacked=False) is None


# Whole runs --------------------------------------------------------------------------------------


def plain(optimizer: Any, setting: dict[str, Any], seed: int, clip: Any, closure: bool) -> Any:
    def prepare(params: dict[str, torch.Tensor]) -> Any:
        made = optimizer(params.values(), **setting)

        def update(evaluate: Any) -> None:
            if closure:
                made.step(evaluate)
            else:
                evaluate()
                made.step()

        return update

    return plain_loop(small_workload(), seed, prepare, clip)


def by_norm(largest: float) -> Any:
    return lambda params: torch.nn.utils.clip_grad_norm_(params, largest)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_clipped_trial_alone_equals_a_plain_loop_to_the_bit(optimizer: Any) -> None:
    setting = {"lr": 0.05, "clip_grad_norm": 0.1}
    found = run(small_workload(), with_recipe(optimizer), [setting])
    wanted = plain(optimizer, {"lr": 0.05}, 0, by_norm(0.1), closure=False)
    assert found.losses[0].tolist() == wanted.tolist()
    without = plain(optimizer, {"lr": 0.05}, 0, None, closure=False)
    assert not np.array_equal(wanted, without)


@pytest.mark.parametrize("way", ["pointwise", "vmapped", "own_optimizers"])
def test_lanes_with_thresholds_of_their_own_equal_plain_loops(way: Any) -> None:
    limits = [0.03, 0.1, 0.4, 100.0]
    settings = [{"lr": 0.05, "momentum": 0.9, "clip_grad_norm": limit} for limit in limits]
    found = run(small_workload(), with_recipe(torch.optim.SGD), settings, (0, 1), way)
    wanted = [
        plain(torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}, seed, by_norm(limit), closure=False)
        for limit in limits
        for seed in (0, 1)
    ]
    np.testing.assert_allclose(found.losses, wanted, rtol=1e-12)


def test_gradients_are_clipped_inside_the_closure() -> None:
    setting: dict[str, Any] = {"lr": 0.2, "max_iter": 3}
    found = run(
        small_workload(5), with_recipe(torch.optim.LBFGS), [{**setting, "clip_grad_norm": 0.1}]
    )

    def prepare(params: dict[str, torch.Tensor]) -> Any:
        return torch.optim.LBFGS(params.values(), **setting).step

    wanted = plain_loop(small_workload(5), 0, prepare, by_norm(0.1))
    assert found.losses[0].tolist() == wanted.tolist()
    assert not np.array_equal(wanted, plain_loop(small_workload(5), 0, prepare))
