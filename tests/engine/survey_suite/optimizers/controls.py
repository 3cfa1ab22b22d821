"""Optimizers that a survey must find wrong where lanes mix, and others that need more than lists.

None is elementwise in a way that shows at once: each mixes lanes under a condition of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch


@dataclass(frozen=True)
class Moment:
    """What a step size may depend on: the parameter, all of them, and the closure's loss."""

    parameter: torch.Tensor
    leaves: list[torch.Tensor]
    loss: Any

    def norm(self) -> torch.Tensor:
        """The norm of all gradients together."""
        squares = [p.grad.square().sum() for p in self.leaves if p.grad is not None]
        return torch.stack(squares).sum().sqrt()


class Control(torch.optim.Optimizer):
    """Gradient descent whose step size a subclass multiplies with a factor."""

    def __init__(self, params: Iterable[torch.Tensor], lr: float = 0.05) -> None:
        super().__init__(params, {"lr": lr})
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.steps += 1
        leaves = [p for group in self.param_groups for p in group["params"]]
        for p in leaves:
            p -= self.param_groups[0]["lr"] * self.factor(Moment(p, leaves, loss)) * p.grad
        return loss

    def factor(self, at: Moment) -> torch.Tensor | float:
        raise NotImplementedError


class ClippedByNorm(Control):
    """Clips the norm of all gradients, after a warm-up of 15 steps."""

    def __init__(self, params: Iterable[torch.Tensor], lr: float = 0.05, limit: float = 2.0):
        super().__init__(params, lr)
        self.limit = limit

    def factor(self, at: Moment) -> torch.Tensor | float:
        return (self.limit / (at.norm() + 1e-6)).clamp(max=1.0) if self.steps > 15 else 1.0


class NormLate(Control):
    """Divides by a norm, after 15 steps."""

    def factor(self, at: Moment) -> torch.Tensor | float:
        return 1.0 / (1.0 + at.norm()) if self.steps > 15 else 1.0


class BySize(Control):
    """Takes shorter steps in tensors of 300 elements or more; no trial here has such."""

    def factor(self, at: Moment) -> torch.Tensor | float:
        return 0.5 if at.parameter.numel() >= 300 else 1.0


class ByDimensions(Control):
    """Takes shorter steps in matrices than in vectors."""

    def factor(self, at: Moment) -> torch.Tensor | float:
        return 0.5 if at.parameter.ndim >= 2 else 1.0


class ByLoss(Control):
    """Takes steps as long as the closure's loss says."""

    def factor(self, at: Moment) -> torch.Tensor | float:
        return 1.0 if at.loss is None else 1.0 / (1.0 + float(at.loss.item()))


class Counting(Control):
    """Counts steps on the class, so that no trial is the same after another one."""

    count = 0

    def factor(self, at: Moment) -> torch.Tensor | float:  # noqa: ARG002
        Counting.count += 1
        return 1.0 / (1.0 + 0.001 * Counting.count)


def sam(params: Iterable[torch.Tensor], lr: float = 0.02) -> torch.optim.Optimizer:
    """Sharpness-aware minimisation around gradient descent."""
    from pytorch_optimizer import SAM

    return cast("torch.optim.Optimizer", SAM(params, base_optimizer=torch.optim.SGD, lr=lr))


def lookahead(params: Iterable[torch.Tensor], lr: float = 0.02) -> torch.optim.Optimizer:
    """Lookahead around AdamW."""
    from torch_optimizer import Lookahead

    return cast("torch.optim.Optimizer", Lookahead(torch.optim.AdamW(params, lr=lr)))


def muon(params: Iterable[torch.Tensor], lr: float = 0.02) -> torch.optim.Optimizer:
    """Muon for matrices and AdamW for all else, as its readme splits them."""
    from pytorch_optimizer import Muon

    everything = list(params)
    groups = [
        {"params": [p for p in everything if (p.ndim > 1) == matrices], "use_muon": matrices}
        for matrices in (True, False)
    ]
    some = [group for group in groups if group["params"]]
    return cast("torch.optim.Optimizer", Muon(some, lr=lr))
