"""A network of fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch.nn import functional

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.checks import check_classes, check_widths
from harness.objectives.dataset import Dataset
from harness.objectives.metrics import accuracy, r2
from harness.objectives.tensors import table_of, tensors_of


class MultilayerPerceptron(Objective):
    """Multilayer perceptron: fully connected layers, for regression or classification.

    Real labels give half the mean squared error of one output, whole numbers (the classes 0, 1,
    ...) the mean cross entropy of one output per class. Every layer starts as
    ``torch.nn.Linear`` does: weights and biases uniform within ±1/sqrt(inputs). Source:
    I. Goodfellow, Y. Bengio and A. Courville, *Deep Learning*, MIT Press, 2016, chapter 6.

    Args:
        dataset: Features of any shape, of which a row's numbers are the inputs; labels of shape
            ``(rows,)``, of float64 for regression and whole numbers for classification.
        hidden: Widths of the hidden layers, from the first, at least one.
        activation: What follows each hidden layer.

    Raises:
        ValueError: If ``hidden`` is not a list of whole numbers above zero, ``activation`` is
            neither, or classes are not numbered from 0.
    """

    def __init__(
        self,
        dataset: Dataset,
        hidden: Sequence[int] = (16,),
        activation: Literal["tanh", "relu"] = "tanh",
    ) -> None:
        check_widths("hidden", hidden)
        if activation not in ("tanh", "relu"):
            raise ValueError(f"activation must be 'tanh' or 'relu', got {activation!r}")
        self._activation = torch.tanh if activation == "tanh" else torch.relu
        self._classifies = dataset.labels.dtype.kind != "f"
        if self._classifies:
            check_classes(dataset)
        outputs = (dataset.classes or 0) if self._classifies else 1
        features, _ = table_of(dataset)
        self.data = (torch.from_numpy(features), tensors_of(dataset)[1])
        self.widths = (features.shape[1], *hidden, outputs)
        layers = "–".join(str(width) for width in self.widths)
        loss = "mean cross entropy" if self._classifies else "mean((network(x) − y)²) / 2"
        self.formula = f"f = {loss}, network {layers} with {activation}"

    def init(self, generator: torch.Generator) -> Parameters:
        """``weight1`` of shape ``(outputs, inputs)``, ``bias1``, ``weight2`` and so on."""
        params: Parameters = {}
        for i in range(1, len(self.widths)):
            inputs, outputs = self.widths[i - 1 : i + 1]
            bound = 1 / math.sqrt(inputs)
            for name, shape in ((f"weight{i}", (outputs, inputs)), (f"bias{i}", (outputs,))):
                params[name] = (2 * torch.rand(shape, generator=generator) - 1) * bound
        return params

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the mean squared error, or the mean cross entropy."""
        return self._loss_of(self._outputs(params, batch), batch[1])

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """``loss``, and ``accuracy`` of classes, or ``r2`` of numbers."""
        outputs, labels = self._outputs(params, batch), batch[1]
        loss = self._loss_of(outputs, labels)
        if self._classifies:
            return {"loss": loss, "accuracy": accuracy(outputs, labels)}
        return {"loss": loss, "r2": r2(outputs.squeeze(-1), labels)}

    def _outputs(self, params: Parameters, batch: Batch) -> torch.Tensor:
        values: torch.Tensor = batch[0]
        last = len(self.widths) - 1
        for i in range(1, last + 1):
            values = functional.linear(values, params[f"weight{i}"], params[f"bias{i}"])
            if i < last:
                values = self._activation(values)
        return values

    def _loss_of(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self._classifies:
            return functional.cross_entropy(outputs, labels)
        residuals: torch.Tensor = outputs.squeeze(-1) - labels
        return residuals.square().mean() / 2
