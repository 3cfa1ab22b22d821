"""Two classes told apart by a weighted sum of features."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.dataset import Dataset
from harness.objectives.tensors import table_of

NEWTON_STEPS = 100
GRADIENT_NORM = 1e-13
"""At which the search for the optimum ends; rounding keeps it above about 1e-16 times the rows'
largest feature."""


class LogisticRegression(Objective):
    """Logistic regression: mean log-loss over the rows of a dataset, plus ``l2 / 2 |w|^2``.

    ``f(w, b) = mean(log(1 + exp(z)) - y z) + l2 / 2 |w|^2`` with ``z = x w + b`` and ``y`` 0 or
    1; the bias is not penalised. With ``l2`` above zero it is strictly convex, and the optimum is
    solved by Newton's method in float64. Without, classes that a plane separates have no
    minimum, so none is stated. Source: T. Hastie, R. Tibshirani and J. Friedman, *The Elements of
    Statistical Learning*, 2nd edition, section 4.4.

    Args:
        dataset: Features of shape ``(rows, columns)`` and labels of shape ``(rows,)``, 0 or 1
            unless there is a threshold.
        l2: Weight of the penalty, at least 0.
        threshold: ``median`` makes classes of real labels: 1 above the median of the train rows,
            else 0.
        init_scale: Trials start with weights at N(0, init_scale^2) and the bias at 0.

    Raises:
        ValueError: If labels are not of two classes, or an argument is outside its range.
    """

    formula = "f(w, b) = mean(log(1 + exp(x·w + b)) − y (x·w + b)) + λ/2 |w|²"

    def __init__(
        self,
        dataset: Dataset,
        l2: float = 1e-3,
        threshold: Literal["median"] | None = None,
        init_scale: float = 0.01,
    ) -> None:
        for name, value in (("l2", l2), ("init_scale", init_scale)):
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be finite and at least 0, got {value!r}")
        if threshold not in (None, "median"):
            raise ValueError(f"threshold must be 'median' or left out, got {threshold!r}")
        features, labels = table_of(dataset)
        learned_from = labels if dataset.train is None else table_of(dataset.train)[1]
        if threshold == "median":
            median = np.median(learned_from)
            learned_from, labels = (
                (values > median).astype(np.float64) for values in (learned_from, labels)
            )
        # Rows that are held out may lack one of them.
        if set(np.unique(learned_from)) != {0.0, 1.0} or not set(np.unique(labels)) <= {0.0, 1.0}:
            raise ValueError(
                "labels must be 0 and 1, both of them; "
                "threshold: median makes such of labels that are real numbers"
            )
        self._l2 = float(l2)
        self._init_scale = init_scale
        self.data = (torch.from_numpy(features), torch.from_numpy(labels))
        self.formula = self.formula.replace("λ/2", f"{self._l2 / 2:g}")
        if l2 > 0 and dataset.train is None:
            point, self.optimum = _minimum(features, labels, self._l2)
            self.minimizers = (tuple(float(value) for value in point),)

    def init(self, generator: torch.Generator) -> Parameters:
        """``weight`` of shape ``(columns,)`` and ``bias`` of shape ``()``."""
        assert self.data is not None
        columns = self.data[0].shape[1]
        return {
            "weight": torch.randn(columns, generator=generator) * self._init_scale,
            "bias": torch.zeros(()),
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Mean log-loss of the batch, and the penalty."""
        labels = batch[1]
        z = self._weighted_sum(params, batch)
        # log(1 + exp(z)) as max(z, 0) + log(1 + exp(-|z|)), which neither overflows nor, as
        # softplus does, turns linear at some z.
        losses: torch.Tensor = z.clamp(min=0) - labels * z + torch.log1p(torch.exp(-z.abs()))
        penalty = self._l2 / 2 * params["weight"].square().sum()
        return losses.mean() + penalty

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """``loss``, and ``accuracy``: the share of rows on their class's side of the plane."""
        z = self._weighted_sum(params, batch)
        right = (z > 0) == (batch[1] > 0)
        return {"loss": self.loss(params, batch), "accuracy": right.to(z.dtype).mean()}

    @staticmethod
    def _weighted_sum(params: Parameters, batch: Batch) -> torch.Tensor:
        z: torch.Tensor = batch[0] @ params["weight"] + params["bias"]
        return z


def _minimum(
    features: NDArray[np.float64], labels: NDArray[np.float64], l2: float
) -> tuple[NDArray[np.float64], float]:
    """Weights with the bias last at which the loss is lowest, and the loss there."""
    columns = np.column_stack([features, np.ones(len(labels))])
    penalty = np.full(columns.shape[1], l2)
    penalty[-1] = 0.0

    def value(point: NDArray[np.float64]) -> float:
        z = columns @ point
        return float(np.mean(np.logaddexp(0, z) - labels * z) + penalty @ point**2 / 2)

    point = np.zeros(columns.shape[1])
    for _ in range(NEWTON_STEPS):
        probability = expit(columns @ point)
        gradient = columns.T @ (probability - labels) / len(labels) + penalty * point
        if np.linalg.norm(gradient) < GRADIENT_NORM:
            break
        weighted = columns * (probability * (1 - probability))[:, None]
        step = np.linalg.solve(columns.T @ weighted / len(labels) + np.diag(penalty), gradient)
        # Halved until it descends enough (Armijo): a full step can overshoot far from the
        # minimum. Near it, descent drowns in rounding, and the full step is right.
        here, descent, size = value(point), float(gradient @ step), 1.0
        while descent > 1e-12 and value(point - size * step) > here - size * descent / 4:
            size /= 2
        point = point - size * step
    return point, value(point)
