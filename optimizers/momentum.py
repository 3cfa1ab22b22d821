"""Gradient descent with momentum, written to be read against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim.optimizer import Optimizer, ParamsT


class Momentum(Optimizer):
    """Gradient descent with momentum: a step along a fading sum of the gradients so far.

    With ``g_t`` the gradient at ``x_{t-1}`` and ``v_0 = 0``::

        v_t = momentum * v_{t-1} + g_t
        x_t = x_{t-1} - lr * v_t

    Source: Dive into Deep Learning, section 7.4, which keeps ``lr * v_t`` as its velocity; while
    ``lr`` stays the same, the parameters do too. Everything is elementwise, in place, and reads
    no value back from the device. Parameters without a gradient are left alone.

    Args:
        params: Parameters, or groups of them, each group with settings of its own if it has any.
        lr: Learning rate, finite, 0 or more.
        momentum: How much of the velocity a step keeps, at least 0 and less than 1.

    Raises:
        ValueError: If a group's ``lr`` or ``momentum`` is out of its range or not a number.
    """

    def __init__(self, params: ParamsT, lr: float, momentum: float) -> None:
        """Set up the groups; the class says what is accepted."""
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Check a group's settings, then add it; the constructor calls this for every group."""
        settings = {**self.defaults, **param_group}
        lr, momentum = settings["lr"], settings["momentum"]
        if not 0 <= lr < math.inf:
            raise ValueError(f"Momentum: lr must be finite and 0 or more, got {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(
                f"Momentum: momentum must be at least 0 and less than 1, got {momentum}"
            )
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
                if x.grad is None:
                    continue
                state = self.state[x]
                if "v" not in state:
                    state["v"] = torch.zeros_like(x)
                v = state["v"]
                v.mul_(group["momentum"]).add_(x.grad)
                x.add_(v, alpha=-group["lr"])
        return loss
