"""Adadelta, written to be read against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim.optimizer import Optimizer, ParamsT


class Adadelta(Optimizer):
    """Adadelta: RMSProp whose learning rate is the recent size of the steps themselves.

    With ``g_t`` the gradient at ``x_{t-1}``, ``s_0 = 0`` and ``delta_0 = 0``, element by element::

        s_t = rho * s_{t-1} + (1 - rho) * g_t * g_t
        g'_t = sqrt((delta_{t-1} + eps) / (s_t + eps)) * g_t
        x_t = x_{t-1} - g'_t
        delta_t = rho * delta_{t-1} + (1 - rho) * g'_t * g'_t

    Sources: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", arXiv 1212.5701, 2012; Dive into
    Deep Learning, section 7.7. There is no learning rate: ``eps`` sets the size of the first steps.
    ``torch.optim.Adadelta`` has ``eps`` in the same two places, 1e-6 by default, and an ``lr``,
    1 by default, that multiplies ``g'_t`` in the third line alone. Everything is elementwise, in
    place, and reads no value back from the device. Parameters without a gradient are left alone.

    Args:
        params: Parameters, or groups of them, each group with settings of its own if it has any.
        rho: How much of both averages a step keeps, at least 0 and less than 1.
        eps: Lets the first step be taken, finite, above 0. With 0, ``delta`` would stay 0 and
            nothing would ever move.

    Raises:
        ValueError: If a group's ``rho`` or ``eps`` is out of its range or not a number.
    """

    def __init__(self, params: ParamsT, rho: float = 0.9, eps: float = 1e-5) -> None:
        """Set up the groups; the class says what is accepted."""
        super().__init__(params, {"rho": rho, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Check a group's settings, then add it; the constructor calls this for every group."""
        settings = {**self.defaults, **param_group}
        rho, eps = settings["rho"], settings["eps"]
        if not 0 <= rho < 1:
            raise ValueError(f"Adadelta: rho must be at least 0 and less than 1, got {rho}")
        if not 0 < eps < math.inf:
            raise ValueError(f"Adadelta: eps must be finite and above 0, got {eps}")
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
            rho, eps = group["rho"], group["eps"]
            for x in group["params"]:
                if x.grad is None:
                    continue
                state = self.state[x]
                if "s" not in state:
                    for name in ("s", "delta", "step_size"):
                        state[name] = torch.zeros_like(x)
                s, delta, step_size = state["s"], state["delta"], state["step_size"]
                s.mul_(rho).addcmul_(x.grad, x.grad, value=1 - rho)
                # Kept for effective_step_size: delta moves on below, and doesn't tell it any more.
                step_size.copy_(delta).add_(eps).div_(s + eps).sqrt_()
                rescaled = step_size * x.grad
                x.sub_(rescaled)
                delta.mul_(rho).addcmul_(rescaled, rescaled, value=1 - rho)
        return loss

    @torch.no_grad()
    def effective_step_size(self, parameter: torch.Tensor) -> torch.Tensor:
        """Give ``sqrt((delta + eps) / (s + eps))``, what multiplied the gradient in the last step.

        That is the ``delta`` from before the step and the ``s`` from after it, as in the formula.

        Args:
            parameter: One of the parameters given to the constructor, the very same tensor.

        Returns:
            A new tensor with the shape, type and device of ``parameter``; ``sqrt(eps / eps)``,
            which is 1, everywhere before the first step.

        Raises:
            ValueError: If ``parameter`` is none of this optimizer's.
        """
        for group in self.param_groups:
            if any(parameter is x for x in group["params"]):
                state = self.state.get(parameter, {})
                step_size: torch.Tensor = state.get("step_size", torch.ones_like(parameter))
                return step_size.clone()
        raise ValueError(
            f"Adadelta: no parameter group holds this tensor of shape {tuple(parameter.shape)}; "
            f"pass the very tensor that the optimizer was built with"
        )
