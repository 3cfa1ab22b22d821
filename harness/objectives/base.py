"""The base class of objectives. Write one for a single trial; the engine runs many side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

Parameters = dict[str, torch.Tensor]
"""Tensors by name."""

Batch = Any
"""A tuple of tensors with rows first, or None for an objective without data."""

Window = tuple[tuple[float, float], ...]
"""What figures show of each of one or two parameters: ``((low, high), (low, high))``."""


class Objective(ABC):
    """Something to minimise.

    Attributes:
        data: Tensors with equally many rows each, or None. The engine draws batches from them.
        optimum: The lowest value of the loss over all data, where it is known.
        minimizers: Points at which the optimum is reached, each with all parameters in order.
        window: For one or two parameters: what a plot shows of each, ``((low, high), ...)``.
        formula: The objective in a line, for the report.
    """

    data: tuple[torch.Tensor, ...] | None = None
    optimum: float | None = None
    minimizers: tuple[tuple[float, ...], ...] = ()
    window: Window | None = None
    formula: str = ""

    @abstractmethod
    def init(self, generator: torch.Generator) -> Parameters:
        """Draw the start of one trial.

        Args:
            generator: The only source of randomness; on the CPU.

        Returns:
            Parameters by name, each of any shape. The engine casts and moves them.
        """

    @abstractmethod
    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The loss of one trial.

        Args:
            params: Shapes as :meth:`init` returns them.
            batch: One tensor of shape ``(batch size, ...)`` per tensor of ``data``; None
                without data.

        Returns:
            A scalar. Under ``torch.func.vmap``, so control flow must not depend on values.
        """

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The loss over all data as it is recorded; unless overridden, :meth:`loss`.

        For what is trained one way and judged another: dropout, an augmentation, a noise that
        cancels over all rows. Never differentiated.

        Args:
            params: As for :meth:`loss`.
            batch: All rows of ``data``; None without data.

        Returns:
            A scalar. Under ``torch.func.vmap`` where :meth:`loss` is.
        """
        return self.loss(params, batch)
