"""RMSProp, written to be read against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim.optimizer import Optimizer, ParamsT


class RMSProp(Optimizer):
    """RMSProp: AdaGrad with a fading average of the squared gradients in place of their sum.

    With ``g_t`` the gradient at ``x_{t-1}`` and ``s_0 = 0``, element by element::

        s_t = gamma * s_{t-1} + (1 - gamma) * g_t * g_t
        x_t = x_{t-1} - lr * g_t / sqrt(s_t + eps)

    Sources: Tieleman and Hinton, "Lecture 6.5 - rmsprop: Divide the gradient by a running average
    of its recent magnitude", COURSERA: Neural Networks for Machine Learning, 2012; Dive into Deep
    Learning, section 7.6, which puts ``eps`` inside the root. ``torch.optim.RMSprop`` calls
    ``gamma`` ``alpha``, 0.99 by default, and puts its ``eps``, 1e-8 by default, outside the root.
    Everything is elementwise, in place, and reads no value back from the device. Parameters without
    a gradient are left alone.

    Args:
        params: Parameters, or groups of them, each group with settings of its own if it has any.
        lr: Learning rate, finite, 0 or more.
        gamma: How much of the average a step keeps, at least 0 and less than 1.
        eps: Keeps the root from 0, finite, 0 or more. With 0, an element whose gradient has been
            0 since the start becomes nan (0 / 0).

    Raises:
        ValueError: If a group's ``lr``, ``gamma`` or ``eps`` is out of its range or not a number.
    """

    def __init__(
        self, params: ParamsT, lr: float = 0.01, gamma: float = 0.9, eps: float = 1e-6
    ) -> None:
        """Set up the groups; the class says what is accepted."""
        super().__init__(params, {"lr": lr, "gamma": gamma, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Check a group's settings, then add it; the constructor calls this for every group."""
        settings = {**self.defaults, **param_group}
        for name in ("lr", "eps"):
            if not 0 <= settings[name] < math.inf:
                raise ValueError(
                    f"RMSProp: {name} must be finite and 0 or more, got {settings[name]}"
                )
        gamma = settings["gamma"]
        if not 0 <= gamma < 1:
            raise ValueError(f"RMSProp: gamma must be at least 0 and less than 1, got {gamma}")
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
            gamma = group["gamma"]
            for x in group["params"]:
                if x.grad is None:
                    continue
                state = self.state[x]
                if "s" not in state:
                    state["s"] = torch.zeros_like(x)
                s = state["s"]
                s.mul_(gamma).addcmul_(x.grad, x.grad, value=1 - gamma)
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
            f"RMSProp: no parameter group holds this tensor of shape {tuple(parameter.shape)}; "
            f"pass the very tensor that the optimizer was built with"
        )
