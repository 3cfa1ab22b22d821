"""Stochastic gradient descent, written to be read against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim.optimizer import Optimizer, ParamsT


class SGD(Optimizer):
    """Stochastic gradient descent: a step against the gradient, scaled by the learning rate.

    With ``g_t`` the gradient at ``x_{t-1}``::

        x_t = x_{t-1} - lr * g_t

    Source: Dive into Deep Learning, section 7.3. Everything is elementwise, in place, and reads
    no value back from the device. Parameters without a gradient are left alone.

    Args:
        params: Parameters, or groups of them, each group with an ``lr`` of its own if it has one.
        lr: Learning rate, finite, 0 or more.

    Raises:
        ValueError: If a group's ``lr`` is negative, infinite or not a number.
    """

    def __init__(self, params: ParamsT, lr: float) -> None:
        """Set up the groups; the class says what is accepted."""
        super().__init__(params, {"lr": lr})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Check a group's settings, then add it; the constructor calls this for every group."""
        lr = {**self.defaults, **param_group}["lr"]
        if not 0 <= lr < math.inf:
            raise ValueError(f"SGD: lr must be finite and 0 or more, got {lr}")
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; return the loss that ``closure`` gives, if there is a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for x in group["params"]:
                if x.grad is not None:
                    x.add_(x.grad, alpha=-group["lr"])
        return loss
