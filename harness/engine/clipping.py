"""Clipping of gradients: each lane by its own norm, as torch clips those of a trial alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from harness.engine.lane_values import LaneFloat

EPSILON = 1e-6
"""What torch's ``clip_grad_norm_`` adds to a norm before it divides by it."""


class Clipping(Protocol):
    """Clips gradients."""

    def __call__(self, leaves: Sequence[torch.Tensor]) -> None:
        """Clip the gradients of some parameters, in place; those without one are left out."""
        ...


def clipping_of(values: Mapping[str, Any], *, stacked: bool) -> Clipping | None:
    """The clipping that a recipe asks for; None where it asks for none.

    Args:
        values: ``clip_grad_norm`` and ``clip_grad_value``: a number, one per lane, or None.
        stacked: Whether lanes are the first dimension of gradients.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return None
    kind = OfLanes if stacked else OfTrial
    return kind(given.get("clip_grad_norm"), given.get("clip_grad_value"))


class OfTrial:
    """Clipping of a trial alone, by torch's own functions: elements first, then the norm.

    Args:
        norm: The largest norm over all parameters; None for any.
        value: The largest size of an element; None for any.
    """

    def __init__(self, norm: float | None, value: float | None) -> None:
        self._norm, self._value = norm, value

    def __call__(self, leaves: Sequence[torch.Tensor]) -> None:
        """Clip the gradients."""
        if self._value is not None:
            torch.nn.utils.clip_grad_value_(leaves, self._value)
        if self._norm is not None:
            torch.nn.utils.clip_grad_norm_(leaves, self._norm)


class OfLanes:
    """Clipping of each lane by itself.

    The norm is that of a lane's norms of single tensors, and gradients are multiplied by
    ``min(1, max_norm / (norm + 1e-6))``, as by ``torch.nn.utils.clip_grad_norm_``; a norm that
    isn't finite makes a lane's gradients NaN, as there.

    Args:
        norm: The largest norm over all of a lane's parameters; None for any.
        value: The largest size of an element; None for any.
    """

    def __init__(self, norm: float | LaneFloat | None, value: float | LaneFloat | None) -> None:
        self._norm, self._value = norm, value

    @torch.no_grad()
    def __call__(self, leaves: Sequence[torch.Tensor]) -> None:
        """Clip the gradients."""
        grads = [leaf.grad for leaf in leaves if leaf.grad is not None]
        if not grads:
            return
        if self._value is not None:
            for grad in grads:
                _clamp(grad, self._value)
        if self._norm is not None:
            self._clip_norms(grads, self._norm)

    def _clip_norms(self, grads: Sequence[torch.Tensor], largest: float | LaneFloat) -> None:
        norms = [torch.linalg.vector_norm(grad.reshape(len(grad), -1), 2, dim=1) for grad in grads]
        total = norms[0]
        if len(norms) > 1:
            total = torch.linalg.vector_norm(torch.stack(norms), 2, dim=0)
        if isinstance(largest, LaneFloat):
            largest = largest.tensor(1, total.dtype, total.device)  # type: ignore[assignment]
        factors = (largest / (total + EPSILON)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(factors.reshape(-1, *(1,) * (grad.dim() - 1)))


def _clamp(grad: torch.Tensor, largest: float | LaneFloat) -> None:
    """Clip the elements of one gradient."""
    if not isinstance(largest, LaneFloat):
        grad.clamp_(-largest, largest)
        return
    bound = largest.tensor(grad.dim(), grad.dtype, grad.device)
    torch.clamp(grad, -bound, bound, out=grad)
