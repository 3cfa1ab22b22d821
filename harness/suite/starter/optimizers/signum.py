"""An optimizer of your own: change it, or write another beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import ParamsT


class Signum(torch.optim.Optimizer):
    """Sign descent with momentum: every element moves by the same length.

    With ``g_t`` the gradient at ``x_{t-1}`` and ``m_0 = 0``, element by element::

        m_t = momentum * m_{t-1} + (1 - momentum) * g_t
        x_t = x_{t-1} - lr * sign(m_t)

    Source: Bernstein, Wang, Azizzadenesheli and Anandkumar, "signSGD: Compressed Optimisation for
    Non-Convex Problems", ICML 2018.

    Args:
        params: Parameters, or groups of them.
        lr: Length of a step in each element, 0 or more.
        momentum: How much of the gradients' average a step keeps, at least 0 and less than 1.

    Raises:
        ValueError: If ``lr`` or ``momentum`` is out of its range.
    """

    def __init__(self, params: ParamsT, lr: float = 0.01, momentum: float = 0.9) -> None:
        # A message that names the hyperparameter lets the harness say where in the spec it stands.
        if not lr >= 0:
            raise ValueError(f"Signum: lr must be 0 or more, got {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"Signum: momentum must be at least 0 and below 1, got {momentum}")
        # What stands in groups and in self.state is saved and restored; nothing else is.
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
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
                if not state:
                    state["average"] = torch.zeros_like(x)
                state["average"].lerp_(x.grad, 1 - group["momentum"])
                x.sub_(state["average"].sign(), alpha=group["lr"])
        return loss
