"""A curved valley in any number of dimensions."""

from __future__ import annotations

import math

import torch

from harness.objectives.base import Batch, Objective, Parameters


class Rosenbrock(Objective):
    """Rosenbrock in any dimension: ``sum of 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2``.

    Minimum 0 where every coordinate is 1. From four dimensions on there is a second, local minimum
    near (-1, 1, ..., 1) (Y.-W. Shang and Y.-H. Qiu, "A Note on the Extended Rosenbrock Function",
    Evolutionary Computation 14(1), 2006, for 4 to 30). Trials start at (-1.2, 1, -1.2, 1, ...).
    Source: H. H. Rosenbrock, "An Automatic Method for Finding the Greatest or Least Value of a
    Function", The Computer Journal 3(3), 1960, for two dimensions and the start; S. Surjanovic and
    D. Bingham, *Virtual Library of Simulation Experiments*, for the sum over neighbours.

    Args:
        dimension: Number of parameters, at least 2.
        start_spread: Standard deviation of a normal displacement of the start, drawn for each
            seed and coordinate. At 0, every seed starts at the same point.

    Raises:
        ValueError: If ``dimension`` is not a whole number from 2, or ``start_spread`` is negative
            or not finite.
    """

    optimum = 0.0
    formula = "f(x) = Σ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)²"

    def __init__(self, dimension: int = 10, start_spread: float = 0.0) -> None:
        if not isinstance(dimension, int) or isinstance(dimension, bool) or dimension < 2:
            raise ValueError(f"dimension must be a whole number from 2, got {dimension!r}")
        if not (start_spread >= 0 and math.isfinite(start_spread)):
            raise ValueError(f"start_spread must be finite and at least 0, got {start_spread!r}")
        self.dimension = dimension
        self._start_spread = float(start_spread)
        self.minimizers = ((1.0,) * dimension,)
        if dimension == 2:
            self.window = ((-2.0, 2.0), (-1.0, 3.0))

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``: the start, displaced by ``start_spread``."""
        start = torch.ones(self.dimension, dtype=torch.float64)
        start[::2] = -1.2
        drawn = torch.randn(self.dimension, generator=generator, dtype=torch.float64)
        return {"x": start + self._start_spread * drawn}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The sum over neighbouring coordinates."""
        del batch
        here, after = params["x"][:-1], params["x"][1:]
        return (100 * (after - here.square()).square() + (1 - here).square()).sum()
