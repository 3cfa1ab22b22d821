"""Your network: a module as you would write it anyway, its criterion and its metrics."""

from __future__ import annotations

import torch
from torch import nn

from harness import Dataset, ModuleObjective


class Layers(nn.Module):
    """Two hidden layers; put your own network in their place."""

    def __init__(self, columns: int, width: int, classes: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(columns, width)
        self.hidden = nn.Linear(width, width)
        self.outputs = nn.Linear(width, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """One number per class, shape ``(rows, classes)``."""
        values = torch.relu(self.inputs(features))
        values = torch.relu(self.hidden(values))
        output: torch.Tensor = self.outputs(values)
        return output


class Network(ModuleObjective):
    """Cross entropy of the network over the rows of a dataset."""

    def __init__(self, dataset: Dataset, width: int = 32) -> None:
        # The arguments that `arguments:` of the spec may give; set them before super().__init__.
        self._columns = dataset.features.shape[1]
        self._classes = dataset.classes or 2
        self._width = width
        super().__init__(dataset)

    def module(self) -> nn.Module:
        """Make the network as a trial starts: called once per trial, with its seed."""
        return Layers(self._columns, self._width, self._classes)

    def criterion(self, output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss on a batch, which the optimizer minimises."""
        return nn.functional.cross_entropy(output, labels)

    def metrics(self, output: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """What is recorded beside the loss, of all rows of a part: any scalars by name."""
        truth = nn.functional.one_hot(labels, self._classes)
        return {
            "accuracy": (output.argmax(-1) == labels).float().mean(),
            "brier": (output.softmax(-1) - truth).square().sum(-1).mean(),
        }
