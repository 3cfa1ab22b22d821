"""Landscapes with kinks and walls: where a gradient says nothing of how far the minimum is.

References:
- Y. Nesterov, *Lectures on Convex Optimization*, Springer, 2018, chapter 3 ("Nesterov" below).
- J. Nocedal and S. J. Wright, *Numerical Optimization*, Springer, 2006, chapter 17 ("Nocedal and
  Wright" below).
"""

from __future__ import annotations

import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.diagnostics.checks import number_from, whole_from
from harness.objectives.diagnostics.instances import normal, random_rotation


class LargestOf(Objective):
    """Largest of absolute values: a gradient that jumps, does not shrink, and tells of one of many.

    ``f = max over i of |(Q (x - m))_i|``. Its gradient is a row of ``Q``, up to sign, of length 1
    wherever it is taken, so that steps of a constant length go back and forth; a step towards the
    minimum in one direction says nothing of the others, and there are more of them in more
    dimensions. Subgradient methods need step sizes that fall, and as many steps as the square of
    what is wanted at worst (Nesterov, theorem 3.2.1, whose worst case is a largest of coordinates).
    Minimum 0 at ``m``, where every term is 0. Start and ``m`` are N(0, I), ``Q`` is a rotation.

    Args:
        dimension: Number of parameters, at least 2; more are harder.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = "f = max |yᵢ|, y = Q (x − m)"

    def __init__(self, dimension: int = 8) -> None:
        self.dimension = whole_from("dimension", dimension, 2)

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``, at N(0, I)."""
        self.state(generator)
        return {"x": normal(generator, self.dimension)}

    def state(self, generator: torch.Generator) -> Parameters:
        """The minimizer, and the directions: the rows of ``turn``."""
        return {
            "minimum": normal(generator, self.dimension),
            "turn": random_rotation(generator, self.dimension),
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The largest of the absolute values."""
        del batch
        return (params["turn"] @ (params["x"] - params["minimum"])).abs().amax()


class _Walled(Objective):
    """A bowl whose middle lies behind walls at right angles, at a distance of 1 from each.

    With ``t_i = a_i . (x - m)`` of orthonormal ``a_i``, the bowl is ``|x - m|^2 / 2`` with each
    ``t_i`` replaced by ``t_i - 1``; the constraints are ``t_i <= 0``.
    """

    def __init__(self, walls: int, dimension: int) -> None:
        self.walls = whole_from("walls", walls, 1)
        self.dimension = whole_from("dimension", dimension, 1)
        if walls > dimension:
            raise ValueError(f"walls must be at most the dimension, {dimension}, got {walls}")

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``: on the right side of each wall, 0.5 to 1.5 from it."""
        instance = self.state(generator)
        off = normal(generator, self.dimension)
        off[: self.walls] = -0.5 - torch.rand(self.walls, generator=generator, dtype=torch.float64)
        return {"x": instance["corner"] + off @ instance["turn"]}

    def state(self, generator: torch.Generator) -> Parameters:
        """Where the walls meet, and their directions: the first rows of ``turn``."""
        return {
            "corner": normal(generator, self.dimension),
            "turn": random_rotation(generator, self.dimension),
        }

    def parts(self, params: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """The bowl, and by how much each wall is crossed (0 where it is not)."""
        turned = params["turn"] @ (params["x"] - params["corner"])
        across, along = turned[: self.walls], turned[self.walls :]
        bowl = ((across - 1).square().sum() + along.square().sum()) / 2
        return bowl, across.relu()


class PenaltyWall(_Walled):
    """Constraint by penalty: ``weight / 2`` times the squared amount by which a wall is crossed.

    The larger the weight, the nearer to the constraint the minimum, and the worse the condition:
    the curvature is 1 before the wall and ``1 + weight`` behind it, with the minimum just behind.
    For each wall ``(t - 1)^2 / 2 + weight t^2 / 2`` is least at ``t = 1 / (1 + weight)``, where it
    is ``weight / (1 + weight) / 2``; the optimum is that times the number of walls. Source: R.
    Courant, "Variational methods for the solution of problems of equilibrium and vibrations",
    Bulletin of the AMS 49, 1943; Nocedal and Wright, 17.1.

    Args:
        weight: Of the penalty; higher is harder.
        walls: Number of constraints, at right angles to each other.
        dimension: Number of parameters.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = (
        "f = |y − (1, …, 1, 0, …)|² / 2 + weight / 2 · Σ max(0, yᵢ)² over walls, y = Q (x − c)"
    )

    def __init__(self, weight: float = 100.0, walls: int = 2, dimension: int = 8) -> None:
        super().__init__(walls, dimension)
        self.weight = number_from("weight", weight, 0)
        self.optimum = self.walls * self.weight / (1 + self.weight) / 2

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The bowl and the penalty."""
        del batch
        bowl, crossed = self.parts(params)
        return bowl + self.weight / 2 * crossed.square().sum()


class HingeWall(_Walled):
    """Constraint by a hinge: ``weight`` times the amount by which a wall is crossed (ReLU).

    From a weight of 1 on the minimum is exactly at the wall, in a kink: before it the gradient is 1
    towards it, behind it ``weight - 1`` and more away. Each step across the wall costs ``weight``
    times its length, so it must be short, while the way along the wall is as long as before. For
    each wall ``(t - 1)^2 / 2 + weight max(0, t)`` is least at ``t = 0`` with 1/2; the optimum is
    half the number of walls. Source: exact penalty functions, Nocedal and Wright, 17.2.

    Args:
        weight: Of the penalty, at least 1; higher is harder.
        walls: Number of constraints, at right angles to each other.
        dimension: Number of parameters.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f = |y − (1, …, 1, 0, …)|² / 2 + weight · Σ max(0, yᵢ) over walls, y = Q (x − c)"

    def __init__(self, weight: float = 10.0, walls: int = 2, dimension: int = 8) -> None:
        super().__init__(walls, dimension)
        self.weight = number_from("weight", weight, 1)
        self.optimum = self.walls / 2

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The bowl and the penalty."""
        del batch
        bowl, crossed = self.parts(params)
        return bowl + self.weight * crossed.sum()
