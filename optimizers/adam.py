"""Adam, written to be read against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim.optimizer import Optimizer, ParamsT


class Adam(Optimizer):
    """Adam: momentum over RMSProp, both averages freed of their start at 0.

    With ``g_t`` the gradient at ``x_{t-1}``, ``v_0 = 0`` and ``s_0 = 0``, element by element::

        v_t = beta1 * v_{t-1} + (1 - beta1) * g_t
        s_t = beta2 * s_{t-1} + (1 - beta2) * g_t * g_t
        v_hat = v_t / (1 - beta1^t)
        s_hat = s_t / (1 - beta2^t)
        x_t = x_{t-1} - lr * v_hat / (sqrt(s_hat) + eps)

    Sources: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv
    1412.6980; Dive into Deep Learning, section 7.8, whose code has this ``eps`` of 1e-6 where its
    text has 1e-8. ``torch.optim.Adam`` has ``eps`` in the same place, 1e-8 by default, takes the
    two decays as one tuple, ``betas``, and has 0.001 as its ``lr``. ``t`` counts the steps of each
    parameter by itself. Everything is elementwise, in place, and reads no value back from the
    device. Parameters without a gradient are left alone.

    Args:
        params: Parameters, or groups of them, each group with settings of its own if it has any.
        lr: Learning rate, finite, 0 or more.
        beta1: How much of the gradients' average a step keeps, at least 0 and less than 1.
        beta2: How much of the squared gradients' average a step keeps, at least 0 and less than 1.
        eps: Keeps the divisor from 0, finite, 0 or more. With 0, an element whose gradient has
            been 0 since the start becomes nan (0 / 0).

    Raises:
        ValueError: If a group's ``lr``, ``beta1``, ``beta2`` or ``eps`` is out of its range or not
            a number.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-6,
    ) -> None:
        """Set up the groups; the class says what is accepted."""
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Check a group's settings, then add it; the constructor calls this for every group."""
        settings = {**self.defaults, **param_group}
        for name in ("lr", "eps"):
            if not 0 <= settings[name] < math.inf:
                raise ValueError(f"Adam: {name} must be finite and 0 or more, got {settings[name]}")
        for name in ("beta1", "beta2"):
            if not 0 <= settings[name] < 1:
                raise ValueError(
                    f"Adam: {name} must be at least 0 and less than 1, got {settings[name]}"
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
            beta1, beta2 = group["beta1"], group["beta2"]
            for x in group["params"]:
                if x.grad is None:
                    continue
                state = self.state[x]
                if "t" not in state:
                    # A number of the host: as a tensor, it would have to be read back.
                    state["t"] = 0
                    state["v"] = torch.zeros_like(x)
                    state["s"] = torch.zeros_like(x)
                state["t"] += 1
                t, v, s = state["t"], state["v"], state["s"]
                v.mul_(beta1).add_(x.grad, alpha=1 - beta1)
                s.mul_(beta2).addcmul_(x.grad, x.grad, value=1 - beta2)
                v_hat = v / (1 - beta1**t)
                s_hat = s / (1 - beta2**t)
                x.addcdiv_(v_hat, s_hat.sqrt_().add_(group["eps"]), value=-group["lr"])
        return loss

    @torch.no_grad()
    def effective_step_size(self, parameter: torch.Tensor) -> torch.Tensor:
        """Give ``lr / (sqrt(s_hat) + eps)``, what multiplied each element in the last step.

        What it multiplied is not the gradient but ``v_hat``, the average of the gradients so far.

        Args:
            parameter: One of the parameters given to the constructor, the very same tensor.

        Returns:
            A new tensor with the shape, type and device of ``parameter``; ``lr / eps`` everywhere
            before the first step.

        Raises:
            ValueError: If ``parameter`` is none of this optimizer's.
        """
        for group in self.param_groups:
            if any(parameter is x for x in group["params"]):
                state = self.state.get(parameter)
                if state:
                    s_hat = state["s"] / (1 - group["beta2"] ** state["t"])
                else:
                    s_hat = torch.zeros_like(parameter)
                step_size: torch.Tensor = group["lr"] / s_hat.sqrt_().add_(group["eps"])
                return step_size
        raise ValueError(
            f"Adam: no parameter group holds this tensor of shape {tuple(parameter.shape)}; "
            f"pass the very tensor that the optimizer was built with"
        )
