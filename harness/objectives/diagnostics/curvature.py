"""Diagnostic tasks of curvature: bowls and valleys that are steep one way and flat another.

Quadratics are here in the coordinates of their eigenvectors, rotated, as a matrix and coupled. They
differ in who can undo their condition: a step size of its own for each parameter undoes what lies
along the axes and no more, momentum takes the square root of any, and a step that is preconditioned
from both sides undoes what factors into rows and columns.
"""

from __future__ import annotations

import math

import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.diagnostics.checks import number_from, whole_from
from harness.objectives.diagnostics.instances import (
    Shifted,
    normal,
    random_rotation,
    spaced,
)
from harness.objectives.functions_2d import Beale, Function2D, GoldsteinPrice


class IllConditioned(Shifted):
    """Ill-conditioned, along the axes: ``sum of h_i (x_i - m_i)^2 / 2``.

    Curvatures are evenly spaced in their logarithm from ``condition_number ** -0.5`` to its
    inverse. Asks for a step size of its own for each parameter. Gradient descent can't take steps
    longer than 2 over the largest curvature, and then needs some ``condition_number / 4`` of them
    for each factor e of the error; with momentum it is the square root (Polyak, "Some methods of
    speeding up the convergence of iteration methods", USSR Computational Mathematics and
    Mathematical Physics 4(5), 1964). A step divided by the gradient's size doesn't see it.

    Minimum 0 where ``x`` is the instance's minimum m: each term is a square. Start at N(0, I).

    Args:
        condition_number: Largest curvature over smallest, at least 1.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f(x) = Σ hᵢ (xᵢ − mᵢ)² / 2"

    def __init__(self, condition_number: float = 100.0, dimension: int = 20) -> None:
        super().__init__(whole_from("dimension", dimension, 2))
        self.condition_number = number_from("condition_number", condition_number, 1)

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw ``minimum``; with it come ``curvatures``, both of shape ``(dimension,)``."""
        curvatures = spaced(self.condition_number, *self.shape)
        return super().instance(generator) | {"curvatures": curvatures}

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """Half the sum of squares, weighted by the curvatures."""
        return (params["curvatures"] * displacement.square()).sum() / 2


class IllConditionedRotated(IllConditioned):
    """Ill-conditioned, askew: ``sum of h_i z_i^2 / 2`` with ``z = R (x - m)``.

    R is a rotation that each seed draws, uniform over all (function 10 of COCO is such an
    ellipsoid; N. Hansen et al., *Real-Parameter Black-Box Optimization Benchmarking 2009: Noiseless
    Functions Definitions*, INRIA RR-6829). All parameters have about the same curvature then, so
    step sizes of their own help little; gradient descent and momentum fare as without rotation.

    Minimum 0 where ``x`` is the instance's minimum. Start at N(0, I).

    Args:
        condition_number: Largest curvature over smallest, at least 1.
        dimension: Number of parameters, at least 2.
    """

    formula = "f(x) = Σ hᵢ (R (x − m))ᵢ² / 2"

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw ``minimum``, then ``rotation``, of shape ``(dimension, dimension)``."""
        drawn = super().instance(generator)
        return drawn | {"rotation": random_rotation(generator, *self.shape)}

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """The quadratic in rotated coordinates."""
        return super().value(params["rotation"] @ displacement, params)


class IllConditionedMatrix(Shifted):
    """Ill-conditioned as layers are: ``|A (X - M) B|^2 / 2``, of a square matrix X.

    Rows and columns are mixed by A and B, each a random rotation whose rows (columns) are scaled,
    so that the curvature of X is a Kronecker product, as that of a layer is of its inputs and of
    the gradients of its outputs (J. Martens and R. Grosse, "Optimizing Neural Networks with
    Kronecker-factored Approximate Curvature", ICML 2015). Each factor has the square root of the
    condition number. Asks for a step preconditioned from both sides: Shampoo and SOAP learn these
    two rotations (V. Gupta et al., ICML 2018; N. Vyas et al., arXiv:2409.11321).

    Minimum 0 where X is the instance's minimum M: A and B are regular. Start at N(0, I).

    Args:
        condition_number: Largest curvature over smallest, at least 1.
        size: Rows and columns, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f(X) = |A (X − M) B|² / 2"

    def __init__(self, condition_number: float = 100.0, size: int = 6) -> None:
        size = whole_from("size", size, 2)
        super().__init__(size, size)
        self.condition_number = number_from("condition_number", condition_number, 1)

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw ``minimum``, then the factors ``left`` and ``right``: all ``(size, size)``."""
        drawn, size = super().instance(generator), self.shape[0]
        # A factor's curvature is the square of its singular values.
        values = spaced(self.condition_number**0.25, size)
        left = values[:, None] * random_rotation(generator, size)
        return drawn | {"left": left, "right": random_rotation(generator, size) * values}

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """Half the squared norm of what the factors make of the displacement."""
        return (params["left"] @ displacement @ params["right"]).square().sum() / 2


class OutlyingCurvatures(IllConditionedRotated):
    """Outlying curvatures: a round bowl of curvature 1, but for a few directions far steeper.

    So are networks, with about as many outliers as classes (L. Sagun et al., "Empirical Analysis
    of the Hessian of Over-Parametrized Neural Networks", arXiv:1706.04454; B. Ghorbani et al., "An
    Investigation into Neural Net Optimization via Hessian Eigenvalue Density", ICML 2019). Rotated
    at random: every parameter has a share in the steep directions, which limit the step, while
    nearly all of the way is in the others. Asks for momentum, or for a step that is shortened only
    along a few directions that aren't axes.

    Minimum 0 where ``x`` is the instance's minimum. Start at N(0, I).

    Args:
        outlier: Curvature of the steep directions, at least 1.
        outliers: How many, at least 1 and below ``dimension``.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self, outlier: float = 100.0, outliers: int = 2, dimension: int = 20) -> None:
        super().__init__(number_from("outlier", outlier, 1), dimension)
        self.outliers = whole_from("outliers", outliers, 1)
        if outliers >= dimension:
            raise ValueError(f"outliers must be below dimension, {dimension}, got {outliers!r}")

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw as for a rotated bowl; the first ``outliers`` of the ``curvatures`` are steep."""
        curvatures = torch.ones(self.shape, dtype=torch.float64)
        curvatures[: self.outliers] = self.condition_number
        return super().instance(generator) | {"curvatures": curvatures}


class EqualCoupling(Shifted):
    """Equal coupling: ``(1 - c) |d|^2 / 2 + c (sum of d_i)^2 / 2`` with ``d = x - m``.

    The Hessian has 1 on its diagonal and c everywhere else, as the covariance of inputs that are
    all correlated alike. Its curvatures are ``1 - c`` and, along the diagonal of the cube,
    ``1 + (dimension - 1) c``. Parameters have the same curvature each, so a diagonal
    preconditioner has nothing to work on, and steps of ±1 go along the steepest direction there
    is. Asks for momentum, or a preconditioner that isn't diagonal.

    Minimum 0 where ``x`` is the instance's minimum, as all curvatures are positive. Start at
    N(0, I).

    Args:
        coupling: c, at least 0 and below 1.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f(x) = (1 − c) |x − m|² / 2 + c (Σ xᵢ − mᵢ)² / 2"

    def __init__(self, coupling: float = 0.5, dimension: int = 10) -> None:
        super().__init__(whole_from("dimension", dimension, 2))
        self.coupling = number_from("coupling", coupling, 0)
        if coupling >= 1:
            raise ValueError(f"coupling must be below 1, got {coupling!r}")

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """The two squares."""
        del params
        own = (1 - self.coupling) * displacement.square().sum()
        return (own + self.coupling * displacement.sum().square()) / 2


class Chain(Shifted):
    """A chain of springs: ``(d_1^2 + sum of (d_i - d_{i+1})^2 + d_n^2) / 2``, ``d = x - m``.

    The hard function of Y. Nesterov, *Introductory Lectures on Convex Optimization*, Kluwer, 2004,
    section 2.1.2, with an end to pull at on both sides. A gradient knows neighbours only, so from 0
    a method of gradients reaches one more coordinate from either end with each step. Curvatures
    are ``2 - 2 cos(k pi / (n + 1))``: the condition number is about ``(2 (n + 1) / pi)^2``. All
    parameters have the curvature 2. Asks for momentum, or for big steps on tiny gradients.

    Trials start at 0. The minimum m lies on a straight line between the two ends, which each seed
    draws uniform on a circle of radius sqrt(2) (so they aren't both near the start): the value is
    0 there, as every d is. ``error`` is 0.58 to 1 at the start.

    Args:
        dimension: n, the number of parameters, at least 2.

    Raises:
        ValueError: If ``dimension`` is not a whole number from 2.
    """

    formula = "f(x) = (d₁² + Σ (dᵢ − dᵢ₊₁)² + dₙ²) / 2, d = x − m"

    def __init__(self, dimension: int = 16) -> None:
        super().__init__(whole_from("dimension", dimension, 2))

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw the ends; ``minimum`` is what lies between them, shape ``(dimension,)``."""
        ends = normal(generator, 2)
        first, last = ends * math.sqrt(2) / ends.norm()
        along = torch.linspace(0, 1, self.shape[0] + 2, dtype=torch.float64)[1:-1]
        return {"minimum": first + (last - first) * along}

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``, at 0."""
        del generator
        return {"x": torch.zeros(self.shape, dtype=torch.float64)}

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """Half the squared lengths of all springs."""
        del params
        ends = displacement[0].square() + displacement[-1].square()
        return (ends + (displacement[1:] - displacement[:-1]).square().sum()) / 2


class Powers(Shifted):
    """Powers: ``sum of |x_i - m_i|^p``, ever flatter at the minimum and steeper around.

    The gradient falls as the ``p - 1``-th power of the distance, so a step size that is stable at
    the start does nothing near the minimum, and a memory of past gradients is far too large. Asks
    for steps that keep their length while gradients shrink by orders of magnitude: an adaptive
    method must forget quickly, and its epsilon be small.

    Minimum 0 where ``x`` is the instance's minimum. Start at N(0, I). Source: sums of powers are
    in S. Surjanovic and D. Bingham, *Virtual Library of Simulation Experiments*.

    Args:
        power: p, at least 2.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f(x) = Σ |xᵢ − mᵢ|ᵖ"

    def __init__(self, power: float = 4.0, dimension: int = 10) -> None:
        super().__init__(whole_from("dimension", dimension, 2))
        self.power = number_from("power", power, 2)

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """The sum of powers."""
        del params
        return displacement.abs().pow(self.power).sum()


class DifferentPowers(Shifted):
    """Different powers, askew: ``sum of |z_i|^{p_i}`` with ``z = R (x - m)``.

    Powers go from 2 to the highest in even steps, so each direction flattens at a pace of its own
    on the way to the minimum, and no direction is an axis. Function 14 of COCO (N. Hansen et al.,
    *Real-Parameter Black-Box Optimization Benchmarking 2009: Noiseless Functions Definitions*,
    INRIA RR-6829), here without its square root and with a choice of the highest power (6 there).
    Asks for what ``powers`` does, when step sizes for each parameter can't provide it alone.

    Minimum 0 where ``x`` is the instance's minimum. Start at N(0, I).

    Args:
        highest: The highest power, at least 2.
        dimension: Number of parameters, at least 2.

    Raises:
        ValueError: If an argument is outside its range.
    """

    formula = "f(x) = Σ |(R (x − m))ᵢ|^pᵢ"

    def __init__(self, highest: float = 4.0, dimension: int = 10) -> None:
        super().__init__(whole_from("dimension", dimension, 2))
        self.highest = number_from("highest", highest, 2)

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw ``minimum``, then ``rotation``; with them come ``powers``, ``(dimension,)``."""
        drawn, (dimension,) = super().instance(generator), self.shape
        powers = torch.linspace(2, self.highest, dimension, dtype=torch.float64)
        return drawn | {"rotation": random_rotation(generator, dimension), "powers": powers}

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """The sum of powers in rotated coordinates."""
        return (params["rotation"] @ displacement).abs().pow(params["powers"]).sum()


class Zakharov(Shifted):
    """Zakharov: ``|d|^2 + s^2 + s^4`` with ``s = sum of i d_i / 2`` and ``d = x - m``.

    A plate with a wall across it, which rises as the fourth power: along one direction, in which
    all parameters take part, the curvature is ``2 + n^3 / 6`` at the minimum in n dimensions and
    a million times that at the start; along all others it is 2. Asks for steps that get down the
    wall and are still long enough on the plate.

    Minimum 0 where ``x`` is the instance's minimum: all terms are squares. Start at N(0, I).
    Source: S. Surjanovic and D. Bingham, *Virtual Library of Simulation Experiments*; the shift is
    ours.

    Args:
        dimension: n, the number of parameters, at least 2.

    Raises:
        ValueError: If ``dimension`` is not a whole number from 2.
    """

    formula = "f(x) = |d|² + s² + s⁴, s = Σ i dᵢ / 2, d = x − m"

    def __init__(self, dimension: int = 10) -> None:
        super().__init__(whole_from("dimension", dimension, 2))

    def instance(self, generator: torch.Generator) -> Parameters:
        """Draw ``minimum``; with it come the ``weights`` i / 2: ``(dimension,)``."""
        weights = torch.arange(1, self.shape[0] + 1, dtype=torch.float64) / 2
        return super().instance(generator) | {"weights": weights}

    def value(self, displacement: torch.Tensor, params: Parameters) -> torch.Tensor:
        """The plate and the wall."""
        square = (params["weights"] @ displacement).square()
        return displacement.square().sum() + square + square.square()


class DixonPrice(Objective):
    """Dixon and Price: ``(x_1 - 1)^2 + sum of i (2 x_i^2 - x_{i-1})^2``, in many dimensions.

    Each coordinate has its valley where its neighbour before it says, and not convex: there are
    local minima as well. Terms grow with their index, and with them the condition number with the
    dimension. Asks for a method that takes a thousand coordinates as it takes two, within few
    steps.

    Minimum 0 at ``x_i = 2^(2^(1 - i) - 1)``: 1, then the root of half the one before, so that
    every term vanishes. Trials start at 1 in all coordinates, displaced by ``start_spread``.
    Source: L. C. W. Dixon and R. C. Price, "Truncated Newton method for sparse unconstrained
    optimization using automatic differentiation", Journal of Optimization Theory and Applications
    60(2), 1989; S. Surjanovic and D. Bingham, *Virtual Library of Simulation Experiments*.

    Args:
        dimension: Number of parameters, at least 2.
        start_spread: Standard deviation of a normal displacement of the start, drawn for each
            seed and coordinate.

    Raises:
        ValueError: If an argument is outside its range.
    """

    optimum = 0.0
    formula = "f(x) = (x₁ − 1)² + Σ i (2 xᵢ² − xᵢ₋₁)²"

    def __init__(self, dimension: int = 10, start_spread: float = 0.1) -> None:
        self.dimension = whole_from("dimension", dimension, 2)
        self.start_spread = number_from("start_spread", start_spread, 0)
        indices = range(1, dimension + 1)
        self.minimizers = (tuple(2 ** (2.0 ** (1 - i) - 1) for i in indices),)

    def state(self, generator: torch.Generator) -> Parameters:
        """The ``weights`` of the terms after the first: shape ``(dimension - 1,)``."""
        del generator
        return {"weights": torch.arange(2, self.dimension + 1, dtype=torch.float64)}

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(dimension,)``: ones, displaced by ``start_spread``."""
        return {"x": 1 + self.start_spread * normal(generator, self.dimension)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The sum over coordinates and those before them."""
        del batch
        x = params["x"]
        chained = params["weights"] @ (2 * x[1:].square() - x[:-1]).square()
        return (x[0] - 1).square() + chained


def _below(function: type[Function2D], distance: float) -> tuple[float, float]:
    """The point at a distance from a function's minimum, along its second axis downwards."""
    x1, x2 = function.minimizers[0]
    return (x1, x2 - number_from("distance", distance, 0))


class BealeFar(Beale):
    """Beale from afar: a wall of the sixth power, and a flat basin at its foot.

    The start is straight below the minimum, at a distance of 4 on a wall of height 10^4, while
    the basin's smaller curvature is below 1. From there the way down the gradient ends at the
    minimum; from a distance of 8 it leads away, along x1 = 0 to ever lower x2. Asks an optimizer
    to survive the first gradients, and not to be slow for long after them.

    Minimum 0 at (3, 0.5); as ``beale``.

    Args:
        distance: From the start to the minimum, at least 0.
        start_spread: Standard deviation of a normal displacement of the start, drawn for each
            seed and coordinate.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self, distance: float = 1.0, start_spread: float = 0.1) -> None:
        super().__init__(_below(Beale, distance), start_spread)


class GoldsteinPriceFar(GoldsteinPrice):
    """Goldstein and Price from afar: a wall of the eighth power above a bowl with three others.

    The start is straight below the lowest minimum, on a wall of height 10^6 at a distance of 2;
    the curvatures at its foot are hundreds. The way down the gradient ends there, from a distance
    of 4 as well; three local minima lie on the other side, for steps that go too far. Asks an
    optimizer to survive the first gradients.

    Minimum 3 at (0, -1); as ``goldstein_price``.

    Args:
        distance: From the start to the minimum, at least 0.
        start_spread: Standard deviation of a normal displacement of the start, drawn for each
            seed and coordinate.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self, distance: float = 1.0, start_spread: float = 0.1) -> None:
        super().__init__(_below(GoldsteinPrice, distance), start_spread)
