"""What diagnostic tasks have in common: a problem of its own for each seed.

A seed's problem is shifted and rotated at random, as in COCO (N. Hansen et al., "COCO: a platform
for comparing continuous optimizers in a black-box setting", Optimization Methods and Software
36(1), 2021). So a task asks nothing of where zero and the axes lie, which would help an optimizer
that shrinks its parameters, or treats them one by one.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch

from harness.objectives.base import Batch, Objective, Parameters


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Independent numbers of N(0, 1), in double precision whatever the run's is."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_rotation(generator: torch.Generator, dimension: int) -> torch.Tensor:
    """An orthogonal matrix, uniform over all (Haar), of shape ``(dimension, dimension)``.

    Source: F. Mezzadri, "How to Generate Random Matrices from the Classical Compact Groups",
    Notices of the AMS 54(5), 2007: the QR decomposition of a normal matrix, with the signs of R's
    diagonal made positive.
    """
    q, r = torch.linalg.qr(normal(generator, dimension, dimension))
    signs = torch.where(r.diagonal() < 0, -1.0, 1.0).to(q.dtype)
    rotation: torch.Tensor = q * signs
    return rotation


def spaced(ratio: float, count: int) -> torch.Tensor:
    """Numbers evenly spaced in their logarithm around 1, the last ``ratio`` times the first.

    Args:
        ratio: Largest over smallest, above 0.
        count: How many, at least 2.

    Returns:
        Shape ``(count,)``, from ``ratio ** -0.5`` to ``ratio ** 0.5``.
    """
    exponents = torch.linspace(-0.5, 0.5, count, dtype=torch.float64)
    return torch.exp(exponents * math.log(ratio))


def root_mean_square(values: torch.Tensor) -> torch.Tensor:
    """The root of the mean square of all numbers: a scalar."""
    return values.square().mean().sqrt()


class Shifted(Objective):
    """A function of the displacement from a minimum, which each seed draws from N(0, I).

    Trials start at N(0, I) as well, independent of the minimum. Beside the loss, whose minimum is
    0, the root mean square of the displacement is recorded as ``error``, about 1.4 at the start.
    It counts all directions alike, while the loss hardly notices those along which it is flat.

    Args:
        shape: Of the parameter ``x``.
    """

    optimum = 0.0

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    @abstractmethod
    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """The loss, given ``x`` minus the minimum, and what :meth:`instance` drew."""

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw what differs between seeds and isn't trained: the ``minimum``, of ``x``'s shape."""
        return {"minimum": normal(generator, *self.shape)}

    def state(self, generator: torch.Generator) -> Parameters:
        """The instance."""
        return self.instance(generator)

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` at N(0, I)."""
        self.instance(generator)  # drawn first, as for state: else the start would be the minimum
        return {"x": normal(generator, *self.shape)}

    def displacement(self, params: Parameters) -> torch.Tensor:
        """``x`` minus the minimum."""
        return params["x"] - params["minimum"]

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The function at the displacement from the minimum."""
        del batch
        return self.value(self.displacement(params), params)

    def metrics(self, params: Parameters, batch: Batch) -> Parameters:
        """The loss, and the root mean square of the displacement as ``error``."""
        error = root_mean_square(self.displacement(params))
        return {"loss": self.evaluate(params, batch), "error": error}
