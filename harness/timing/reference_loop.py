"""The reference loop: what every measured time is a ratio to. Frozen.

A plain training loop that shares nothing with the rest of the harness. It must never change: its
digest stands in every baseline, and ratios to another loop can't be compared. It does what small
training loops do (gather a batch, forward, backward, update in place), so that whatever slows
the machine down for a moment slows both sides of the ratio.
"""

from __future__ import annotations

import torch

ROWS, FEATURES, BATCH = 1500, 5, 10
RATE = 1e-3


class ReferenceLoop:
    """Linear regression by gradient descent, half the mean squared error, in float32.

    Args:
        device: Where it runs.
    """

    def __init__(self, device: torch.device) -> None:
        number = torch.arange(ROWS * FEATURES, dtype=torch.float32).reshape(ROWS, FEATURES)
        self._features = (number * 0.7).sin().to(device)
        self._labels = self._features.sum(dim=1)
        order = torch.arange(ROWS) * 7 % ROWS
        self._batches = [rows.to(device) for rows in order.split(BATCH)]
        self._weight = torch.zeros(FEATURES, device=device, requires_grad=True)
        self._bias = torch.zeros((), device=device, requires_grad=True)
        self._next = 0

    def run(self, steps: int) -> None:
        """Take some steps."""
        for _ in range(steps):
            rows = self._batches[self._next]
            self._next = (self._next + 1) % len(self._batches)
            features = self._features.index_select(0, rows)
            labels = self._labels.index_select(0, rows)
            residuals = features @ self._weight + self._bias - labels
            loss = residuals.square().mean() / 2
            self._weight.grad = None
            self._bias.grad = None
            loss.backward()
            with torch.no_grad():
                for parameter in (self._weight, self._bias):
                    gradient = parameter.grad
                    assert gradient is not None
                    parameter -= RATE * gradient
