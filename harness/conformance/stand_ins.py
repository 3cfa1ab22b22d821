"""Small objectives on which optimizers are tested."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from harness.engine.workload import Workload
from harness.objectives.base import Batch, Objective, Parameters

STEPS = 12
"""Steps of a run: enough for what only starts after a few (RAdam's sixth, say)."""

ROWS, BATCH_SIZE, INPUTS = 32, 8, 4


class StandIn(Objective):
    """A small smooth objective whose gradient never grows, so that no learning rate overflows.

    Args:
        shapes: Of the parameters, by name.
        output: What the parameters make of rows of features, shape ``(rows, 2)``.
    """

    def __init__(
        self,
        shapes: dict[str, tuple[int, ...]],
        output: Callable[[Parameters, torch.Tensor], torch.Tensor],
    ) -> None:
        numbers = torch.Generator().manual_seed(0)
        draw = {"generator": numbers, "dtype": torch.float64}
        features = torch.randn(ROWS, INPUTS, **draw)  # type: ignore[call-overload]
        labels = torch.randn(ROWS, 2, **draw)  # type: ignore[call-overload]
        self.data = (features, labels)
        self._shapes, self._output = shapes, output

    def init(self, generator: torch.Generator) -> Parameters:
        """Normal numbers."""
        return {
            name: torch.randn(shape, generator=generator, dtype=torch.float64)
            for name, shape in self._shapes.items()
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The mean of ``log cosh`` of the residuals."""
        features, labels = batch
        residuals = self._output(params, features) - labels
        # log cosh r without overflow: r + log((1 + exp(-2 r)) / 2).
        losses: torch.Tensor = residuals + functional.softplus(-2 * residuals) - math.log(2)
        return losses.mean()


def _network(params: Parameters, features: torch.Tensor) -> torch.Tensor:
    hidden = torch.tanh(features @ params["weight"] + params["bias"])
    return hidden * params["scale"]


def _matrices(params: Parameters, features: torch.Tensor) -> torch.Tensor:
    hidden = torch.tanh(features @ params["first"])
    return hidden.mm(params["second"])


def _tables(params: Parameters, features: torch.Tensor) -> torch.Tensor:
    rows = (features[:, 0] > 0).long()
    first = functional.embedding(rows, params["first"], sparse=True)
    return first + functional.embedding(1 - rows, params["second"], sparse=True)


STAND_INS: dict[str, tuple[dict[str, tuple[int, ...]], Any]] = {
    "": ({"weight": (INPUTS, 2), "bias": (2,), "scale": ()}, _network),
    "takes matrices only": ({"first": (INPUTS, 3), "second": (3, 2)}, _matrices),
    "takes sparse gradients only": ({"first": (2, 2), "second": (2, 2)}, _tables),
}
"""Objectives that an optimizer is tried on: the first on which it takes a step counts."""


def workload_of(name: str, dtype: torch.dtype = torch.float64) -> Workload:
    """One of the stand-ins, made ready."""
    objective = StandIn(*STAND_INS[name])
    assert objective.data is not None
    return Workload(
        objective=objective,
        data=tuple(tensor.to(dtype) for tensor in objective.data),
        dtype=dtype,
        device=torch.device("cpu"),
        steps=STEPS,
        steps_per_epoch=ROWS // BATCH_SIZE,
        batch_size=BATCH_SIZE,
        record_steps=(0, STEPS),
        divergence_factor=1e3,
    )
