"""A bowl in two dimensions, flat one way and steep the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from harness.objectives.base import Batch, Objective, Parameters


class Quadratic2D(Objective):
    """``f(x) = a x1^2 + b x2^2``, by default ``0.1 x1^2 + 2 x2^2`` from (-5, -2).

    Every seed starts at the same point. Source: Dive into Deep Learning, section 7.4
    (momentum) and 7.5 (AdaGrad), PyTorch edition.

    Args:
        coefficients: ``(a, b)``, both above zero.
        start: ``(x1, x2)``.

    Raises:
        ValueError: If a coefficient is not above zero, or a number is not finite.
    """

    optimum = 0.0
    minimizers = ((0.0, 0.0),)

    def __init__(
        self,
        coefficients: Sequence[float] = (0.1, 2.0),
        start: Sequence[float] = (-5.0, -2.0),
    ) -> None:
        for name, pair in (("coefficients", coefficients), ("start", start)):
            if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
                raise ValueError(f"{name} must be two numbers, got {pair!r}")
            if not all(math.isfinite(value) for value in pair):
                raise ValueError(f"{name} must be finite, got {pair!r}")
        if min(coefficients) <= 0:
            raise ValueError(f"coefficients must be above zero, got {coefficients!r}")
        self._start = tuple(float(value) for value in start)
        self.a, self.b = (float(value) for value in coefficients)
        x1, x2 = (max(abs(value), 1e-3) for value in self._start)
        self.window = ((-1.15 * x1, 0.3 * x1), (-1.3 * x2, 0.8 * x2))
        if self._start[0] > 0:
            self.window = ((-0.3 * x1, 1.15 * x1), self.window[1])
        if self._start[1] > 0:
            self.window = (self.window[0], (-0.8 * x2, 1.3 * x2))
        self.formula = f"f(x1, x2) = {self.a:g} x1² + {self.b:g} x2²"

    def init(self, generator: torch.Generator) -> Parameters:
        """The start, shape ``(2,)``; the same for every seed."""
        del generator
        return {"x": torch.tensor(self._start, dtype=torch.float64)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """``a x1^2 + b x2^2``."""
        del batch
        x1, x2 = params["x"].unbind()
        return self.a * x1.square() + self.b * x2.square()
