"""An objective of your own: what is minimised, written for one trial."""

from __future__ import annotations

import math

import torch

from harness import Batch, Dataset, Objective, Parameters


class Ridge(Objective):
    """Linear regression with a penalty: ``mean((x.w + b - y)^2) / 2 + penalty * |w|^2 / 2``.

    Args:
        dataset: Features of shape ``(rows, columns)`` and labels of shape ``(rows,)``.
        penalty: Weight of the penalty, 0 or more.

    Raises:
        ValueError: If ``penalty`` is negative or not finite.
    """

    formula = "f(w, b) = mean((x·w + b − y)²) / 2 + penalty · |w|² / 2"

    def __init__(self, dataset: Dataset, penalty: float = 0.01) -> None:
        if not (penalty >= 0 and math.isfinite(penalty)):
            raise ValueError(f"penalty must be finite and 0 or more, got {penalty!r}")
        features = torch.from_numpy(dataset.features).double()
        labels = torch.from_numpy(dataset.labels).double()
        # Each batch has some rows of each of these tensors.
        self.data = (features, labels)
        self._columns = features.shape[1]
        self._penalty = penalty
        # The minimum, where it is known: it lets the report say how much is left to it. Here the
        # gradient is linear, so it vanishes where a system of linear equations is solved.
        ones = torch.ones(len(labels), 1, dtype=torch.float64)
        table = torch.cat([features, ones], dim=1)
        penalties = torch.full((table.shape[1],), penalty, dtype=torch.float64)
        penalties[-1] = 0
        curvature = table.T @ table / len(labels) + penalties.diag()
        solution = torch.linalg.solve(curvature, table.T @ labels / len(labels))
        self.minimizers = (tuple(solution.tolist()),)
        at_minimum = {"weight": solution[:-1], "bias": solution[-1]}
        self.optimum = float(self.loss(at_minimum, self.data))

    def init(self, generator: torch.Generator) -> Parameters:
        """Return the start of a trial; randomness comes from ``generator``, its seed's own."""
        return {
            "weight": torch.randn(self._columns, generator=generator),
            "bias": torch.zeros(()),
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The loss of one trial on a batch, a scalar."""
        features, labels = batch
        residuals: torch.Tensor = features @ params["weight"] + params["bias"] - labels
        penalty = self._penalty * params["weight"].square().sum()
        return residuals.square().mean() / 2 + penalty / 2
