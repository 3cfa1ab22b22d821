"""Networks as users write them, with what makes lanes hard: dropout, norms, attention."""

from __future__ import annotations

import torch
from torch import nn

from harness import ModuleObjective


class _Classifier(ModuleObjective):
    def criterion(self, output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(output.flatten(0, -2), labels.flatten())


def _with_output(layers: nn.Sequential, width: int) -> nn.Module:
    layers.append(nn.ReLU())
    layers.add_module("last", nn.Linear(width, 4))
    return layers


class Mlp(_Classifier):
    """Two hidden layers and dropout."""

    def module(self) -> nn.Module:
        layers = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 16))
        return _with_output(layers, 16)


class Cnn2d(_Classifier):
    """Convolutions over images."""

    def module(self) -> nn.Module:
        layers = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(),
            nn.Linear(128, 16),
        )  # fmt: skip
        return _with_output(layers, 16)


class Cnn1d(_Classifier):
    """Convolutions over series, with batch norm.

    No bias comes before it: its gradient is nothing but rounding, whose sign Lion would follow.
    """

    def module(self) -> nn.Module:
        layers = nn.Sequential(
            nn.Conv1d(1, 6, 5, stride=2, bias=False), nn.BatchNorm1d(6), nn.ReLU(),
            nn.Conv1d(6, 8, 3, stride=2), nn.ReLU(), nn.Flatten(),
            nn.Linear(64, 16),
        )  # fmt: skip
        return _with_output(layers, 16)


class _Transformer(nn.Module):
    def __init__(self, tokens: int, length: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.places = nn.Parameter(torch.randn(length, width) / 10)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.1, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[-1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=self.places.dtype)
        values = self.embed(tokens) + self.places
        output: torch.Tensor = self.head(self.body(values, mask=mask, is_causal=True))
        return output


class Transformer(_Classifier):
    """A causal transformer that predicts the next token."""

    def module(self) -> nn.Module:
        return _Transformer(9, 12, 16)
