"""Small networks of the learning tasks, in plain tensor operations, which many trials share."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch.nn import functional

from harness.objectives.base import Batch, Objective, Parameters


def drawn_layer(generator: torch.Generator, outputs: int, inputs: int) -> torch.Tensor:
    """Weights, as ``torch.nn.Linear`` draws them: uniform within ±1/sqrt(inputs).

    Args:
        generator: The only source of randomness.
        outputs: Rows.
        inputs: Columns.
    """
    return (2 * torch.rand(outputs, inputs, generator=generator) - 1) / math.sqrt(inputs)


def logistic_loss(logits: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """Mean of ``log(1 + exp(-sign * logit))``; a scalar.

    Args:
        logits: Any shape.
        signs: The classes as -1 and 1, of the same shape.
    """
    return functional.softplus(-signs * logits).mean()


def share_right(logits: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """The share of logits that have their class's sign; a logit of 0 is wrong.

    Args:
        logits: Any shape.
        signs: The classes as -1 and 1, of the same shape.
    """
    return (signs * logits > 0).to(logits.dtype).mean()


class Network(Objective):
    """A fully connected network, with data that each seed draws anew.

    Attributes:
        widths: Numbers of inputs, of units of each hidden layer, and of outputs.
    """

    widths: tuple[int, ...]

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw what a seed has of its own beside its start: its data; by default, nothing.

        Args:
            generator: The only source of randomness; on the CPU.
        """
        del generator
        return {}

    def init(self, generator: torch.Generator) -> Parameters:
        """``weight1`` of shape ``(units, inputs)``, ``bias1``, ``weight2`` and so on.

        Biases are drawn as well: were they 0, some data's symmetry would make their gradients
        rounding errors, which methods that divide by a gradient's size would follow.
        """
        self.instance(generator)  # so that the start has other random numbers than the data
        params: Parameters = {}
        for i, (inputs, outputs) in enumerate(itertools.pairwise(self.widths), start=1):
            params[f"weight{i}"] = drawn_layer(generator, outputs, inputs)
            params[f"bias{i}"] = (2 * torch.rand(outputs, generator=generator) - 1) / inputs**0.5
        return params

    def state(self, generator: torch.Generator) -> Parameters:
        """The seed's data."""
        return self.instance(generator)

    def outputs(self, params: Parameters, features: torch.Tensor) -> torch.Tensor:
        """What the network makes of rows; tanh follows every hidden layer.

        Args:
            params: As :meth:`init` names them.
            features: Shape ``(rows, inputs)``.

        Returns:
            Shape ``(rows, outputs)``.
        """
        last = len(self.widths) - 1
        for i in range(1, last + 1):
            features = functional.linear(features, params[f"weight{i}"], params[f"bias{i}"])
            features = self.activation(features) if i < last else features
        return features

    def activation(self, values: torch.Tensor) -> torch.Tensor:
        """What follows each hidden layer."""
        return torch.tanh(values)


class BinaryTask(Network):
    """Two classes: the logistic loss of one output, and the share of rows that are right."""

    @abstractmethod
    def rows(self, params: Parameters, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of a step: features ``(rows, inputs)``, and classes -1 or 1, ``(rows,)``."""

    def judged(self, params: Parameters, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows that the accuracy is of; those of a step unless overridden."""
        return self.rows(params, batch)

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Mean logistic loss."""
        features, signs = self.rows(params, batch)
        return logistic_loss(self.outputs(params, features)[:, 0], signs)

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        """``loss``, and ``accuracy``."""
        features, signs = self.judged(params, batch)
        right = share_right(self.outputs(params, features)[:, 0], signs)
        return {"loss": self.evaluate(params, batch), "accuracy": right}


def layers(widths: Sequence[int]) -> str:
    """Widths in words: ``2–16–16–1``."""
    return "–".join(map(str, widths))
