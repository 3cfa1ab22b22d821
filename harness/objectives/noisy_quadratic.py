"""A quadratic whose gradient is noisy, as a batch's is, while its loss over all data is exact."""

from __future__ import annotations

import math

import numpy as np
import torch

from harness.objectives.base import Batch, Objective, Parameters

TABLE_SEED = 0
SIGNIFICAND_BITS = 24
"""Of float32: whole numbers up to 2**24 add up without rounding."""


class NoisyQuadratic(Objective):
    """Noisy quadratic: ``sum of h_i x_i^2 / 2``, with noise that batches see and all data don't.

    The curvatures ``h_i`` are spaced evenly in their logarithm from ``1 / condition_number`` to
    1. The data are ``rows`` vectors ``z``, normal with mean exactly 0 and standard deviation 1 in
    every coordinate (to about four digits), the same for every seed. A batch has the loss
    ``sum of h_i x_i^2 / 2 + noise * mean(z) . x`` and so the gradient ``h x + noise * mean(z)``:
    its error has, per coordinate, the standard deviation ``noise`` for single rows and about
    ``noise / sqrt(batch size)`` for more. Over all rows the noise cancels and the loss is the
    quadratic, with its minimum 0 at 0. Trials start at N(0, I).

    Source of the model: T. Schaul, S. Zhang and Y. LeCun, "No More Pesky Learning Rates", ICML
    2013; G. Zhang et al., "Which Algorithmic Choices Matter at Which Batch Sizes? Insights From a
    Noisy Quadratic Model", NeurIPS 2019. Here the noise is equal in all coordinates.

    Args:
        dimension: Number of parameters, at least 2.
        condition_number: Largest curvature over smallest, at least 1.
        noise: Standard deviation of a single row's gradient around the true one, in each
            coordinate.
        rows: How many rows there are, at least 2 and even: a vector comes with its negative.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0

    def __init__(
        self,
        dimension: int = 20,
        condition_number: float = 100.0,
        noise: float = 1.0,
        rows: int = 1000,
    ) -> None:
        for name, count in (("dimension", dimension), ("rows", rows)):
            if not isinstance(count, int) or isinstance(count, bool) or count < 2:
                raise ValueError(f"{name} must be a whole number from 2, got {count!r}")
        if rows % 2:
            raise ValueError(f"rows must be even, got {rows!r}")
        if not (condition_number >= 1 and math.isfinite(condition_number)):
            raise ValueError(
                f"condition_number must be finite and at least 1, got {condition_number!r}"
            )
        if not (noise >= 0 and math.isfinite(noise)):
            raise ValueError(f"noise must be finite and at least 0, got {noise!r}")
        self.dimension = dimension
        self.noise = float(noise)
        self.curvatures = torch.from_numpy(np.geomspace(1 / condition_number, 1, dimension))
        self.data = (torch.from_numpy(_table(rows, dimension)),)
        self.minimizers = ((0.0,) * dimension,)
        if dimension == 2:
            self.window = ((-3.0, 3.0), (-3.0, 3.0))
        self.formula = (
            f"f(x) = Σ hᵢ xᵢ² / 2, h from {1 / condition_number:g} to 1; "
            f"gradient noise of standard deviation {self.noise:g} per row"
        )
        self._placed: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``, at N(0, I)."""
        return {"x": torch.randn(self.dimension, generator=generator, dtype=torch.float64)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The quadratic, tilted by the batch's mean."""
        (rows,) = batch
        tilt: torch.Tensor = rows.mean(dim=0) @ params["x"]
        return self.evaluate(params, batch) + self.noise * tilt

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The quadratic itself, which is what :meth:`loss` gives for all rows."""
        del batch
        x = params["x"]
        return (self._curvatures_for(x) * x.square()).sum() / 2

    def _curvatures_for(self, x: torch.Tensor) -> torch.Tensor:
        # Sent to a device once: a copy in every step would be what a step's time measures.
        place = (x.device, x.dtype)
        if place not in self._placed:
            self._placed[place] = self.curvatures.to(*place)
        return self._placed[place]


def _table(rows: int, dimension: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Normal vectors and their negatives, on a grid on which float32 adds them up exactly.

    Were they not on such a grid, all rows would add up to a rounding error that depends on
    their order, in place of 0.
    """
    half = np.random.default_rng(TABLE_SEED).normal(size=(rows // 2, dimension))
    half /= np.sqrt(np.mean(half**2, axis=0))
    largest = rows * float(np.abs(half).max())
    spacing = 2.0 ** (math.ceil(math.log2(largest)) + 1 - SIGNIFICAND_BITS)
    half = np.round(half / spacing) * spacing
    return np.concatenate([half, -half])
