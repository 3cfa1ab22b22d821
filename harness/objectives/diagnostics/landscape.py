"""Landscapes: saddles, plateaus, valleys, and products whose gradients vanish or explode.

What is seen is exact here; the shape is what is hard. A seed draws where the landscape lies (a
shift, a rotation) and where the trial starts, so that no optimizer gains from an axis or from 0.

References:
- I. Goodfellow, Y. Bengio and A. Courville, *Deep Learning*, MIT Press, 2016, section 8.2
  ("Goodfellow et al." below).
- R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
  ICML 2013 ("Pascanu et al." below).
- LightBench, the diagnostic suite of HeavyBall, 2026, has tasks of the same kinds; definitions and
  win conditions here are others.
"""

from __future__ import annotations

import math

import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.diagnostics.checks import number_from, whole_from
from harness.objectives.diagnostics.instances import normal, random_rotation


class StrictSaddle(Objective):
    """Strict saddle: the start is near a point that is a maximum in one direction of many.

    With ``y = Q (x - s)``, ``f = flatness (y_1^2 - 1)^2 / 4 + sum of y_i^2 / 2 over the others``.
    At ``y = 0`` the slope is 0 and the curvature along ``y_1`` is ``-flatness``; trials start a
    normal displacement of ``distance`` from there. Gradient descent at a learning rate ``lr``
    leaves it after about ``log(1 / distance) / (lr flatness)`` steps, and ``lr`` is below 2 for the
    sake of the other directions; momentum or steps that do not shrink with the gradient leave it
    sooner. Minimum 0 at ``y = (1, 0, ...)`` and ``(-1, 0, ...)``, as both terms vanish there. ``Q``
    is a random rotation and ``s`` is N(0, I). Source: Y. Dauphin et al., "Identifying and attacking
    the saddle point problem in high-dimensional non-convex optimization", NeurIPS 2014; R. Ge et
    al., "Escaping From Saddle Points", COLT 2015, for the name.

    Args:
        flatness: Curvature at the saddle, downwards; lower is harder.
        distance: Standard deviation of the start around the saddle, in each coordinate.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = "f = flatness · (y₁² − 1)² / 4 + Σ yᵢ² / 2 over i > 1, y = Q (x − s)"

    def __init__(self, flatness: float = 0.1, distance: float = 1e-3, dimension: int = 8) -> None:
        self.flatness = number_from("flatness", flatness, 0, beyond=True)
        self.distance = number_from("distance", distance, 0, beyond=True)
        self.dimension = whole_from("dimension", dimension, 2)

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``, near the saddle."""
        saddle = self.state(generator)["saddle"]
        return {"x": saddle + self.distance * normal(generator, self.dimension)}

    def state(self, generator: torch.Generator) -> Parameters:
        """Where the saddle is and how it is turned."""
        return {
            "saddle": normal(generator, self.dimension),
            "turn": random_rotation(generator, self.dimension),
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The double well along the first turned axis, with the bowl across it."""
        del batch
        squares = (params["turn"] @ (params["x"] - params["saddle"])).square()
        return self.flatness / 4 * (squares[0] - 1).square() + squares[1:].sum() / 2


class Plateau(Objective):
    """Plateau: a basin in a plain that is nearly flat, and the start far out in the plain.

    With ``r = |x - m|``, ``f = 1 - exp(-r^2 / 2) + slope (sqrt(1 + r^2) - 1)``. At the start the
    first term's gradient is below 1e-20, so what is left is ``slope``, while the basin has a
    curvature of 1. Asks for steps that do not shrink with the gradient, and then for short ones.
    Minimum 0 at ``m``, where both terms, which grow with ``r``, are 0; ``m`` is N(0, I) and the
    start 10 away from it, in a random direction. Source: Goodfellow et al., 8.2.3.

    Args:
        slope: Gradient in the plain; lower is harder.
        dimension: Number of parameters.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = "f = 1 − exp(−r² / 2) + slope · (√(1 + r²) − 1), r = |x − m|"
    start_distance = 10.0

    def __init__(self, slope: float = 1e-2, dimension: int = 8) -> None:
        self.slope = number_from("slope", slope, 0, beyond=True)
        self.dimension = whole_from("dimension", dimension, 1)

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``, in the plain."""
        minimum = self.state(generator)["minimum"]
        direction = normal(generator, self.dimension)
        return {"x": minimum + self.start_distance * direction / direction.norm()}

    def state(self, generator: torch.Generator) -> Parameters:
        """Where the basin is."""
        return {"minimum": normal(generator, self.dimension)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The basin and the plain's slope."""
        del batch
        square = (params["x"] - params["minimum"]).square().sum()
        return self.slope * ((1 + square).sqrt() - 1) - torch.expm1(-square / 2)


class ProductChain(Objective):
    """Chain of factors: a linear network of one unit per layer, ``(w_1 w_2 ... w_n - 1)^2 / 2``.

    Its gradient by one factor is the product of the others. From a start of 0.5 it vanishes with
    the depth, from 2 it explodes: between the start and the minimum it changes by ``start^depth``,
    for which one learning rate must do. Trials start at ``start exp(0.1 N(0, 1))`` in every factor.
    Minimum 0 wherever the product is 1. Source: Y. Bengio, P. Simard and P. Frasconi, "Learning
    Long-Term Dependencies with Gradient Descent is Difficult", IEEE Transactions on Neural
    Networks 5(2), 1994; Pascanu et al.; O. Shamir, "Exponential Convergence Time of Gradient
    Descent for One-Dimensional Deep Linear Neural Networks", COLT 2019.

    Args:
        depth: Number of factors; more are harder.
        start: What every factor starts around, above 0: below 1 gradients vanish, above 1 they
            explode.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = "f(w) = (w₁ w₂ ⋯ wₙ − 1)² / 2"

    def __init__(self, depth: int = 8, start: float = 0.5) -> None:
        self.depth = whole_from("depth", depth, 1)
        self.start = number_from("start", start, 0, beyond=True)

    def init(self, generator: torch.Generator) -> Parameters:
        """``w`` of shape ``(depth,)``."""
        return {"w": self.start * (0.1 * normal(generator, self.depth)).exp()}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the squared distance of the product from 1."""
        del batch
        return (params["w"].prod() - 1).square() / 2


class DeepLinear(Objective):
    """Deep linear network: ``|W_n ... W_1 - A|^2 / 2``, from weights that are small.

    At 0 all derivatives below the ``depth``-th vanish, so the start is by a saddle that is flatter
    the deeper the network; the singular values of ``A`` are learned one after the other, with
    plateaus between them. ``A`` is a random rotation times the singular values 1, 1/2, 1/4, ...
    times another; the start is N(0, scale^2 / size) in every entry. Minimum 0 where the product is
    ``A``. Source: A. Saxe, J. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics
    of learning in deep linear neural networks", ICLR 2014; K. Kawaguchi, "Deep Learning without
    Poor Local Minima", NeurIPS 2016.

    Args:
        depth: Number of matrices; more are harder.
        scale: Size of the weights at the start; about their largest singular value, halved.
        size: Rows and columns of each matrix.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = "f(W) = |Wₙ ⋯ W₁ − A|² / 2"

    def __init__(self, depth: int = 3, scale: float = 0.3, size: int = 4) -> None:
        self.depth = whole_from("depth", depth, 1)
        self.scale = number_from("scale", scale, 0, beyond=True)
        self.size = whole_from("size", size, 1)

    def init(self, generator: torch.Generator) -> Parameters:
        """``w1`` to ``wn``, each of shape ``(size, size)``."""
        self.state(generator)
        deviation = self.scale / math.sqrt(self.size)
        return {
            f"w{i}": deviation * normal(generator, self.size, self.size)
            for i in range(1, self.depth + 1)
        }

    def state(self, generator: torch.Generator) -> Parameters:
        """The ``target``, ``A``."""
        singular = 0.5 ** torch.arange(self.size, dtype=torch.float64)
        left = random_rotation(generator, self.size)
        return {"target": left * singular @ random_rotation(generator, self.size)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """Half the squared distance of the product from the target."""
        del batch
        product = params["w1"]
        for i in range(2, self.depth + 1):
            product = params[f"w{i}"] @ product
        return (product - params["target"]).square().sum() / 2


class BentValley(Objective):
    """Bent valley: a narrow valley along a sine, so that its direction turns again and again.

    Of pairs ``(u, v) = x - m``, ``f = mean of steepness (v - sin 2u)^2 / 2 + u^2 / 20``. Across the
    valley the curvature is ``steepness``, along it a tenth, and no rotation of the axes separates
    the two for long. Asks for progress along a path that bends, where momentum runs into the walls.
    Minimum 0 at ``m``, where both squares vanish (``sin 0 = 0``), and only there. Trials start on
    the floor of the valley, at ``u`` of N(3, 0.1^2); ``m`` is N(0, I). After H. H. Rosenbrock's
    valley ("An Automatic Method for Finding the Greatest or Least Value of a Function", The
    Computer Journal 3(3), 1960), which bends once.

    Args:
        steepness: Curvature across the valley; higher is harder.
        pairs: Number of pairs.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = "f = mean of steepness · (v − sin 2u)² / 2 + u² / 20, (u, v) = x − m"
    start = 3.0

    def __init__(self, steepness: float = 10.0, pairs: int = 4) -> None:
        self.steepness = number_from("steepness", steepness, 0, beyond=True)
        self.pairs = whole_from("pairs", pairs, 1)

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(2, pairs)``: all ``u``, then all ``v``."""
        minimum = self.state(generator)["minimum"]
        u = self.start + 0.1 * normal(generator, self.pairs)
        return {"x": minimum + torch.stack([u, (2 * u).sin()])}

    def state(self, generator: torch.Generator) -> Parameters:
        """Where the minimum is."""
        return {"minimum": normal(generator, 2, self.pairs)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The walls and the slope of the floor."""
        del batch
        u, v = (params["x"] - params["minimum"]).unbind()
        walls = (v - (2 * u).sin()).square()
        return (self.steepness / 2 * walls + u.square() / 20).mean()
