"""Landscapes with many minima, of which the lowest is wanted, in any number of dimensions.

A seed draws where the lowest minimum is. References:

- S. Surjanovic and D. Bingham, *Virtual Library of Simulation Experiments: Test Functions and
  Datasets*, Simon Fraser University, https://www.sfu.ca/~ssurjano/ ("Virtual Library" below).
- N. Hansen et al., "COCO: a platform for comparing continuous optimizers in a black-box setting",
  Optimization Methods and Software 36(1), 2021, for random instances.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.diagnostics.checks import number_from, whole_from
from harness.objectives.diagnostics.instances import normal


class ManyMinima(Objective):
    """A function of ``z = x - m`` with its lowest minimum 0 at ``z = 0``; a seed draws ``m``.

    Args:
        dimension: Number of parameters.
        distance: From the start to the minimum.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0

    def __init__(self, dimension: int, distance: float) -> None:
        self.dimension = whole_from("dimension", dimension, 1)
        self.distance = number_from("distance", distance, 0, beyond=True)

    @abstractmethod
    def value(self, z: torch.Tensor) -> torch.Tensor:
        """The function, of a point of shape ``(dimension,)``."""

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``, in a random direction from the minimum."""
        minimum = self.state(generator)["minimum"]
        direction = normal(generator, self.dimension)
        return {"x": minimum + self.distance * direction / direction.norm()}

    def state(self, generator: torch.Generator) -> Parameters:
        """Where the lowest minimum is, N(0, I)."""
        return {"minimum": normal(generator, self.dimension)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The function's value."""
        del batch
        return self.value(params["x"] - params["minimum"])


class RippledBowl(ManyMinima):
    """Rippled bowl (Rastrigin): a bowl with ripples, each of which is a minimum when high enough.

    ``f = sum of z_i^2 + amplitude (1 - cos 2 pi z_i)``, which is Rastrigin's function at an
    amplitude of 10. Up to 0.23 there is one minimum, where the slope of the bowl outdoes that of
    the ripples; above, there is one near every whole ``z_i`` up to about ``pi amplitude``. Asks for
    steps or a momentum that carry over the ripples, and for an end to them. Minimum 0 at ``z = 0``,
    where both terms are 0. Source: L. A. Rastrigin, *Systems of Extremal Control*, Nauka, 1974 (in
    Russian); Virtual Library.

    Args:
        amplitude: Of the ripples; higher is harder.
        dimension: Number of parameters.
        distance: From the start to the minimum.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f = Σ zᵢ² + amplitude · (1 − cos 2πzᵢ), z = x − m"

    def __init__(self, amplitude: float = 10.0, dimension: int = 4, distance: float = 5.0) -> None:
        super().__init__(dimension, distance)
        self.amplitude = number_from("amplitude", amplitude, 0)

    def value(self, z: torch.Tensor) -> torch.Tensor:
        """The bowl and its ripples."""
        ripples = 1 - (2 * math.pi * z).cos()
        return (z.square() + self.amplitude * ripples).sum()


class RippledPlate(ManyMinima):
    """Rippled plate (Ackley): a funnel in a plate that is flatter the further out, with ripples.

    ``f = 20 + e - 20 exp(-0.2 sqrt(mean z_i^2)) - exp(mean cos 2 pi z_i)``. Far out, the funnel's
    slope is less than that of the ripples. Minimum 0 at ``z = 0``, the tip of a cone, where what is
    given as gradient is 0. Source: D. H. Ackley, *A Connectionist Machine for Genetic
    Hillclimbing*, Kluwer, 1987; Virtual Library.

    Args:
        distance: From the start to the minimum; longer is harder.
        dimension: Number of parameters.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f = 20 + e − 20 exp(−0.2 √(mean zᵢ²)) − exp(mean cos 2πzᵢ), z = x − m"

    def __init__(self, distance: float = 5.0, dimension: int = 4) -> None:
        super().__init__(dimension, distance)

    def value(self, z: torch.Tensor) -> torch.Tensor:
        """The funnel and its ripples."""
        mean = z.square().mean()
        tip = mean == 0
        # The square root's slope at 0 is infinite, and infinity times 0 is NaN: it never sees a 0.
        length = torch.where(tip, 0.0, torch.where(tip, 1.0, mean).sqrt())
        ripples = (2 * math.pi * z).cos().mean()
        return -20 * torch.expm1(-0.2 * length) - math.e * torch.expm1(ripples - 1)
