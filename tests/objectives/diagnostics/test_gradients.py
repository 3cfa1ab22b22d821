"""Losses with a given gradient: for one trial, for many, and for several parameters."""

from __future__ import annotations

import torch

from harness.objectives.diagnostics.gradients import with_gradient


def test_value_and_gradients_are_the_given_ones_whatever_the_value_depends_on() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = torch.tensor([[3.0]], requires_grad=True)
    z = torch.tensor(4.0, requires_grad=True)
    value = x.square().sum() + y.sum() * z
    loss = with_gradient(value, {x: torch.tensor([7.0, 1e-30]), y: 0.5 * x[:1, None]})
    assert loss.item() == value.item() == 17.0
    got = torch.autograd.grad(loss, [x, y, z], allow_unused=True)
    assert torch.equal(got[0], torch.tensor([7.0, 1e-30]))
    assert torch.equal(got[1], torch.tensor([[0.5]]))
    assert got[2] is None


def test_side_by_side_each_trial_has_its_own_value_and_gradient() -> None:
    def loss(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return with_gradient(scale * x.square().sum(), {x: scale + x})

    points = torch.randn(5, 3, dtype=torch.float64)
    scales = torch.arange(5, dtype=torch.float64)
    slopes, values = torch.func.vmap(torch.func.grad_and_value(loss))(points, scales)
    assert torch.equal(values, scales * points.square().sum(dim=1))
    assert torch.equal(slopes, scales[:, None] + points)
