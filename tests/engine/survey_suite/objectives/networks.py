"""Two small networks for regression."""

from __future__ import annotations

import torch
from torch import nn

from harness import ModuleObjective


class Network(ModuleObjective):
    """Half the mean squared error of a network with one output."""

    def criterion(self, output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (output.squeeze(-1) - labels).square().mean() / 2


class Perceptron(Network):
    """One hidden layer."""

    def module(self) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 1))


class Transformer(Network):
    """One block of attention."""

    def module(self) -> nn.Module:
        return Block()


class Block(nn.Module):
    """Every feature is a token of width 8; attention with two heads, then the tokens' mean."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(5, 8) * 0.3)
        self.value = nn.Parameter(torch.randn(5, 8) * 0.3)
        self.heads, self.joined = nn.Linear(8, 24), nn.Linear(8, 8)
        self.before, self.between = nn.LayerNorm(8), nn.LayerNorm(8)
        self.wide, self.narrow, self.out = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.place + features.unsqueeze(-1) * self.value
        heads = self.heads(self.before(x)).unflatten(-1, (3, 2, 4))
        query, key, value = heads.transpose(-4, -2).unbind(-3)
        weights = (query @ key.transpose(-2, -1) / 2).softmax(-1)
        x = x + self.joined((weights @ value).transpose(-3, -2).flatten(-2))
        x = x + self.narrow(torch.relu(self.wide(self.between(x))))
        output: torch.Tensor = self.out(x.mean(-2))
        return output
