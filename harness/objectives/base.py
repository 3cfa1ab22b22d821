"""The base class of objectives. Write one for a single trial; the engine runs many side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from harness.measures import HIGHER

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
        held_out: The rows that nothing is trained on, by part: ``validation``, ``test``. Set by
            the engine, from ``data`` of the same class made with those rows.
        higher: Names of metrics of which higher is better; by default accuracy and its like.
        optimum: The lowest value of the loss over all data, where it is known.
        minimizers: Points at which the optimum is reached, each with all parameters in order.
        window: For one or two parameters: what a plot shows of each, ``((low, high), ...)``.
        formula: The objective in a line, for the report.
        sees_step: True for one that changes while it is trained on (a minimum that moves, a task
            that is replaced by another). It then finds ``params["step"]`` in whatever it is
            called with: a scalar tensor of the objective's precision, the number of updates that
            the trial has taken so far. At the start it is 0; what is recorded after the last of
            100 updates sees 100.
    """

    data: tuple[torch.Tensor, ...] | None = None
    held_out: Mapping[str, tuple[torch.Tensor, ...]] = MappingProxyType({})
    higher: frozenset[str] = HIGHER
    optimum: float | None = None
    minimizers: tuple[tuple[float, ...], ...] = ()
    window: Window | None = None
    formula: str = ""
    sees_step: bool = False

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

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """Everything that is told of a trial on some rows; by default, the loss.

        Args:
            params: As for :meth:`loss`.
            batch: All rows of one part; None without data.

        Returns:
            Scalars by name. ``loss`` is that of :meth:`evaluate` where it is left out.
        """
        return {"loss": self.evaluate(params, batch)}

    def measure(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """:meth:`metrics` with the loss among them, first. What the engine calls.

        Args:
            params: As for :meth:`loss`.
            batch: All rows of one part; None without data.

        Returns:
            Scalars by name. Under ``torch.func.vmap`` where :meth:`loss` is.
        """
        found = self.metrics(params, batch)
        loss = found["loss"] if "loss" in found else self.evaluate(params, batch)
        return {"loss": loss, **{name: v for name, v in found.items() if name != "loss"}}

    def state(self, generator: torch.Generator) -> Parameters:
        """What a trial has beside its parameters and does not train; by default, nothing.

        Running statistics are such, noise that remembers, or a random instance of the objective:
        a shift, a rotation. The engine passes it to :meth:`loss` and :meth:`measure` among the
        parameters, and keeps what :meth:`loss` writes into it in place.

        Args:
            generator: The only source of randomness; on the CPU. It begins where that of
                :meth:`init` begins: what both draw first is the same, so an instance that the
                start goes by is drawn first in both.

        Returns:
            Tensors by names that no parameter has.
        """
        del generator
        return {}
