"""Lion, written to be read against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim.optimizer import Optimizer, ParamsT


class Lion(Optimizer):
    """Lion: every element moves by the same length, in the sign of an interpolated momentum.

    With ``g_t`` the gradient at ``x_{t-1}`` and ``m_0 = 0``, element by element::

        c_t = beta1 * m_{t-1} + (1 - beta1) * g_t
        x_t = x_{t-1} - lr * (sign(c_t) + weight_decay * x_{t-1})
        m_t = beta2 * m_{t-1} + (1 - beta2) * g_t

    Weight decay is decoupled from the gradient, as in AdamW. As steps are longer than Adam's, its
    authors advise a learning rate 3 to 10 times smaller than AdamW's, and a weight decay as many
    times larger.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, algorithm 2
    (arXiv:2302.06675). Everything is elementwise, in place, and reads no value back from the
    device. Parameters without a gradient are left alone.

    Args:
        params: Parameters, or groups of them, each group with settings of its own if it has any.
        lr: Learning rate, finite, 0 or more.
        beta1: How much of the momentum the direction of a step takes, at least 0 and less than 1.
        beta2: How much of the momentum a step keeps, at least 0 and less than 1.
        weight_decay: Decoupled weight decay, finite, 0 or more.

    Raises:
        ValueError: If one of a group's settings is out of its range or not a number.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
    ) -> None:
        """Set up the groups; the class says what is accepted."""
        settings = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
        super().__init__(params, settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Check a group's settings, then add it; the constructor calls this for every group."""
        settings = {**self.defaults, **param_group}
        for name in ("lr", "weight_decay"):
            if not 0 <= settings[name] < math.inf:
                raise ValueError(f"Lion: {name} must be finite and 0 or more, got {settings[name]}")
        for name in ("beta1", "beta2"):
            if not 0 <= settings[name] < 1:
                raise ValueError(
                    f"Lion: {name} must be at least 0 and less than 1, got {settings[name]}"
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
            lr, beta1, beta2 = group["lr"], group["beta1"], group["beta2"]
            for x in group["params"]:
                if x.grad is None:
                    continue
                state = self.state[x]
                if "m" not in state:
                    state["m"] = torch.zeros_like(x)
                m = state["m"]
                direction = (m * beta1).add_(x.grad, alpha=1 - beta1).sign_()
                x.mul_(1 - lr * group["weight_decay"]).add_(direction, alpha=-lr)
                m.mul_(beta2).add_(x.grad, alpha=1 - beta2)
        return loss
