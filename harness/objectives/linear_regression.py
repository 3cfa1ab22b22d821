"""Least squares on a dataset."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.dataset import Dataset
from harness.objectives.metrics import r2
from harness.objectives.tensors import table_of


class LinearRegression(Objective):
    """``f(w, b) = mean((x w + b - y)^2) / 2`` over the rows of a dataset.

    The optimum is the least-squares floor, solved in float64. Source: Dive into Deep Learning,
    section 7.3 (``train_ch7``).

    Args:
        dataset: Features of shape ``(rows, columns)`` and labels of shape ``(rows,)``.
        init: How a trial starts. ``normal``: weights at N(0, init_scale^2), the bias at 0.
            ``uniform``: both within ±1/sqrt(columns), as ``torch.nn.Linear`` draws them.
        init_scale: Standard deviation of the first weights, for ``normal``.

    Raises:
        ValueError: If ``init`` is neither, or ``init_scale`` is negative or not finite.
    """

    formula = "f(w, b) = mean((x·w + b − y)²) / 2"

    def __init__(
        self,
        dataset: Dataset,
        init: Literal["normal", "uniform"] = "normal",
        init_scale: float = 0.01,
    ) -> None:
        if init not in ("normal", "uniform"):
            raise ValueError(f"init must be 'normal' or 'uniform', got {init!r}")
        if not (init_scale >= 0 and math.isfinite(init_scale)):
            raise ValueError(f"init_scale must be finite and at least 0, got {init_scale!r}")
        self._init = init
        self._init_scale = init_scale
        features, labels = table_of(dataset)
        self.data = (torch.from_numpy(features), torch.from_numpy(labels))
        if dataset.train is None:
            columns = np.column_stack([features, np.ones(len(labels))])
            solution, *_ = np.linalg.lstsq(columns, labels)
            self.optimum = float(np.mean((columns @ solution - labels) ** 2) / 2)
            self.minimizers = (tuple(float(value) for value in solution),)

    def init(self, generator: torch.Generator) -> Parameters:
        """``weight`` of shape ``(columns,)`` and ``bias`` of shape ``(1,)``."""
        assert self.data is not None
        columns = self.data[0].shape[1]
        if self._init == "uniform":
            bound = 1 / math.sqrt(columns)
            drawn = (2 * torch.rand(columns + 1, generator=generator) - 1) * bound
            return {"weight": drawn[:columns], "bias": drawn[columns:]}
        return {
            "weight": torch.randn(columns, generator=generator) * self._init_scale,
            "bias": torch.zeros(1),
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the mean squared error."""
        features, labels = batch
        residuals: torch.Tensor = features @ params["weight"] + params["bias"] - labels
        return residuals.square().mean() / 2

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """``loss``, and ``r2``: the share of the labels' variance that is explained."""
        features, labels = batch
        predicted = features @ params["weight"] + params["bias"]
        return {"loss": self.loss(params, batch), "r2": r2(predicted, labels)}
