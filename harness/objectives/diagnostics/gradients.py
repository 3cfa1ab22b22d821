"""Losses whose gradient is given rather than derived: noisy, late, rounded, or of a game."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def with_gradient(
    value: torch.Tensor, gradients: Mapping[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """A loss with this value and these gradients, whatever the value was computed from.

    It is ``value + sum over x of (x - stop(x)) . stop(gradient)``, where ``stop`` passes no
    gradient on: every added term is 0, and its derivative by ``x`` is the given gradient.

    Args:
        value: A scalar.
        gradients: For each parameter tensor (as :meth:`~harness.objectives.base.Objective.loss`
            got it) its gradient, of the same shape. Parameters that are left out get none.

    Returns:
        A scalar. It is NaN where a parameter or a gradient is infinite or NaN.
    """
    total = value.detach()
    for parameter, gradient in gradients.items():
        total = total + ((parameter - parameter.detach()) * gradient.detach()).sum()
    return total
