"""AdaGrad, written to be read against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim.optimizer import Optimizer, ParamsT


class AdaGrad(Optimizer):
    """AdaGrad: every element's step shrinks with the squared gradients it has seen.

    With ``g_t`` the gradient at ``x_{t-1}`` and ``s_0 = 0``, element by element::

        s_t = s_{t-1} + g_t * g_t
        x_t = x_{t-1} - lr * g_t / sqrt(s_t + eps)

    Sources: Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and
    Stochastic Optimization", JMLR 12, 2011 (the diagonal case); Dive into Deep Learning, section
    7.5, which puts ``eps`` inside the root. ``torch.optim.Adagrad`` puts it outside, so the two
    differ in the first steps of an element whose gradients are small. Everything is elementwise,
    in place, and reads no value back from the device. Parameters without a gradient are left alone.

    Args:
        params: Parameters, or groups of them, each group with settings of its own if it has any.
        lr: Learning rate, finite, 0 or more.
        eps: Keeps the root from 0, finite, 0 or more. With 0, an element whose gradient has been
            0 since the start becomes nan (0 / 0).

    Raises:
        ValueError: If a group's ``lr`` or ``eps`` is negative, infinite or not a number.
    """

    def __init__(self, params: ParamsT, lr: float, eps: float = 1e-6) -> None:
        """Set up the groups; the class says what is accepted."""
        super().__init__(params, {"lr": lr, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Check a group's settings, then add it; the constructor calls this for every group."""
        settings = {**self.defaults, **param_group}
        for name in ("lr", "eps"):
            if not 0 <= settings[name] < math.inf:
                raise ValueError(
                    f"AdaGrad: {name} must be finite and 0 or more, got {settings[name]}"
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
                if "s" not in state:
                    state["s"] = torch.zeros_like(x)
                s = state["s"]
                s.addcmul_(x.grad, x.grad)
                x.addcdiv_(x.grad, (s + group["eps"]).sqrt_(), value=-group["lr"])
        return loss

    @torch.no_grad()
    def effective_step_size(self, parameter: torch.Tensor) -> torch.Tensor:
        """Give ``lr / sqrt(s + eps)``, what multiplied each element's gradient in the last step.

        Args:
            parameter: One of the parameters given to the constructor, the very same tensor.

        Returns:
            A new tensor with the shape, type and device of ``parameter``; ``lr / sqrt(eps)``
            everywhere before the first step.

        Raises:
            ValueError: If ``parameter`` is none of this optimizer's.
        """
        for group in self.param_groups:
            if any(parameter is x for x in group["params"]):
                s = self.state.get(parameter, {}).get("s", torch.zeros_like(parameter))
                step_size: torch.Tensor = group["lr"] / (s + group["eps"]).sqrt_()
                return step_size
        raise ValueError(
            f"AdaGrad: no parameter group holds this tensor of shape {tuple(parameter.shape)}; "
            f"pass the very tensor that the optimizer was built with"
        )
