"""Test functions of two variables: bowls, valleys, and landscapes with many minima.

Where the literature has a usual start, it is the default; where it has none, the default lies
away from the minimum, and the docstring says nothing of it. Windows are the usual domains, or the
part of them in which there is something to see. References:

- S. Surjanovic and D. Bingham, *Virtual Library of Simulation Experiments: Test Functions and
  Datasets*, Simon Fraser University, https://www.sfu.ca/~ssurjano/ ("Virtual Library" below).
- J. J. Moré, B. S. Garbow and K. E. Hillstrom, "Testing Unconstrained Optimization Software", ACM
  Transactions on Mathematical Software 7(1), 1981, 17-41 ("Moré et al." below).
- M. Jamil and X.-S. Yang, "A literature survey of benchmark functions for global optimisation
  problems", International Journal of Mathematical Modelling and Numerical Optimisation 4(2), 2013.
- D. M. Himmelblau, *Applied Nonlinear Programming*, McGraw-Hill, 1972.
- L. C. W. Dixon and G. P. Szegő, "The global optimization problem: an introduction", in *Towards
  Global Optimization 2*, North-Holland, 1978.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch

from harness.objectives.base import Batch, Objective, Parameters, Window


class Function2D(Objective):
    """A function of two variables, from its usual start.

    Attributes:
        domain: What is plotted; extended to the start where that lies elsewhere.
        usual_start: Where trials start unless told otherwise.

    Args:
        start: ``(x1, x2)``; None for the usual start.
        start_spread: Standard deviation of a normal displacement of the start, drawn for each
            seed and coordinate. At 0, every seed starts at the same point.
        shift: ``(x1, x2)`` by which everything is moved: the function with its minimizers, its
            window and its usual start. Where a minimum is at the origin, what pulls parameters
            there (weight decay, steps in proportion to their norm) finds it for no merit of its
            own; moved, it doesn't.

    Raises:
        ValueError: If ``start`` or ``shift`` is not two finite numbers, or ``start_spread`` is
            negative or not finite.
    """

    domain: ClassVar[Window]
    usual_start: ClassVar[tuple[float, float]]

    def __init__(
        self,
        start: Sequence[float] | None = None,
        start_spread: float = 0.0,
        shift: Sequence[float] = (0.0, 0.0),
    ) -> None:
        self._shift = _two("shift", shift)
        self._start = self._moved(self.usual_start) if start is None else _two("start", start)
        if not (_is_finite(start_spread) and start_spread >= 0):
            raise ValueError(f"start_spread must be finite and at least 0, got {start_spread!r}")
        self._start_spread = float(start_spread)
        self.minimizers = tuple(self._moved((a, b)) for a, b in type(self).minimizers)
        (left, right), (bottom, top) = self.domain
        low, high = self._moved((left, bottom)), self._moved((right, top))
        self.window = (
            _reaching((low[0], high[0]), self._start[0]),
            _reaching((low[1], high[1]), self._start[1]),
        )

    def _moved(self, point: tuple[float, float]) -> tuple[float, float]:
        return point[0] + self._shift[0], point[1] + self._shift[1]

    @abstractmethod
    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        """The function, of two scalars."""

    def init(self, generator: torch.Generator) -> Parameters:
        """``x`` of shape ``(2,)``: the start, displaced by ``start_spread``."""
        start = torch.tensor(self._start, dtype=torch.float64)
        # Drawn in double precision, so that a seed's start doesn't depend on the run's precision.
        drawn = torch.randn(2, generator=generator, dtype=torch.float64)
        return {"x": start + self._start_spread * drawn}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The function's value."""
        del batch
        x1, x2 = params["x"].unbind()
        if self._shift != (0.0, 0.0):
            x1, x2 = x1 - self._shift[0], x2 - self._shift[1]
        return self.value(x1, x2)


class Sphere(Function2D):
    """Sphere: a round bowl, ``x1^2 + x2^2``.

    Minimum 0 at (0, 0). Domain [-5.12, 5.12]^2 (Virtual Library). Source: K. A. De Jong, *An
    Analysis of the Behavior of a Class of Genetic Adaptive Systems*, 1975.
    """

    formula = "f(x1, x2) = x1² + x2²"
    optimum = 0.0
    minimizers = ((0.0, 0.0),)
    domain = ((-5.12, 5.12), (-5.12, 5.12))
    usual_start = (-4.0, 3.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        return x1.square() + x2.square()


class Booth(Function2D):
    """Booth: a bowl askew, of condition number 9.

    Minimum 0 at (1, 3), where both terms vanish. Domain [-10, 10]^2. Source: Virtual Library;
    Jamil and Yang.
    """

    formula = "f(x1, x2) = (x1 + 2 x2 − 7)² + (2 x1 + x2 − 5)²"
    optimum = 0.0
    minimizers = ((1.0, 3.0),)
    domain = ((-10.0, 10.0), (-10.0, 10.0))
    usual_start = (-8.0, 8.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        return (x1 + 2 * x2 - 7).square() + (2 * x1 + x2 - 5).square()


class Matyas(Function2D):
    """Matyas: a bowl stretched along the diagonal, of condition number 25.

    Minimum 0 at (0, 0). Domain [-10, 10]^2. Source: J. Matyas, "Random optimization", Automation
    and Remote Control 26, 1965; Virtual Library.
    """

    formula = "f(x1, x2) = 0.26 (x1² + x2²) − 0.48 x1 x2"
    optimum = 0.0
    minimizers = ((0.0, 0.0),)
    domain = ((-10.0, 10.0), (-10.0, 10.0))
    usual_start = (-8.0, 4.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        return 0.26 * (x1.square() + x2.square()) - 0.48 * x1 * x2


class Rosenbrock2D(Function2D):
    """Rosenbrock: a curved, nearly flat valley between steep walls.

    Minimum 0 at (1, 1). Usual start (-1.2, 1). ``rosenbrock`` has it in more dimensions. Source:
    H. H. Rosenbrock, "An Automatic Method for Finding the Greatest or Least Value of a Function",
    The Computer Journal 3(3), 1960; problem 1 of Moré et al.
    """

    formula = "f(x1, x2) = 100 (x2 − x1²)² + (1 − x1)²"
    optimum = 0.0
    minimizers = ((1.0, 1.0),)
    domain = ((-2.0, 2.0), (-1.0, 3.0))
    usual_start = (-1.2, 1.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        return 100 * (x2 - x1.square()).square() + (1 - x1).square()


class Beale(Function2D):
    """Beale: a flat basin whose far corners rise to 10^5.

    Minimum 0 at (3, 0.5). Usual start (1, 1). Domain [-4.5, 4.5]^2 (Virtual Library). Source:
    E. M. L. Beale, *On an Iterative Method for Finding a Local Minimum of a Function of More Than
    One Variable*, Princeton University, 1958; problem 5 of Moré et al.
    """

    formula = "f(x1, x2) = (1.5 − x1 + x1 x2)² + (2.25 − x1 + x1 x2²)² + (2.625 − x1 + x1 x2³)²"
    optimum = 0.0
    minimizers = ((3.0, 0.5),)
    domain = ((-4.5, 4.5), (-4.5, 4.5))
    usual_start = (1.0, 1.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        first = 1.5 - x1 * (1 - x2)
        second = 2.25 - x1 * (1 - x2.square())
        third = 2.625 - x1 * (1 - x2 * x2.square())
        return first.square() + second.square() + third.square()


class FreudensteinRoth(Function2D):
    """Freudenstein and Roth: a winding valley whose local minimum catches the usual start.

    Minimum 0 at (5, 4); a local one of 48.98 near (11.41, -0.8968). Usual start (0.5, -2).
    Source: F. Freudenstein and B. Roth, "Numerical Solution of Systems of Nonlinear Equations",
    Journal of the ACM 10(4), 1963; problem 2 of Moré et al.
    """

    formula = "f(x1, x2) = (−13 + x1 + ((5 − x2) x2 − 2) x2)² + (−29 + x1 + ((x2 + 1) x2 − 14) x2)²"
    optimum = 0.0
    minimizers = ((5.0, 4.0),)
    domain = ((-2.0, 14.0), (-3.0, 5.0))
    usual_start = (0.5, -2.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        first = -13 + x1 + ((5 - x2) * x2 - 2) * x2
        second = -29 + x1 + ((x2 + 1) * x2 - 14) * x2
        return first.square() + second.square()


class Himmelblau(Function2D):
    """Himmelblau: four minima, all equally low.

    Minimum 0 at (3, 2) and at three points without a short closed form, which are roots of
    ``x1^2 + x2 = 11, x1 + x2^2 = 7`` to float64 precision. Source: Himmelblau.
    """

    formula = "f(x1, x2) = (x1² + x2 − 11)² + (x1 + x2² − 7)²"
    optimum = 0.0
    minimizers = (
        (3.0, 2.0),
        (-2.805118086952745, 3.131312518250573),
        (-3.779310253377747, -3.2831859912861696),
        (3.5844283403304917, -1.8481265269644036),
    )
    domain = ((-5.0, 5.0), (-5.0, 5.0))
    usual_start = (0.0, 0.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        return (x1.square() + x2 - 11).square() + (x1 + x2.square() - 7).square()


class ThreeHumpCamel(Function2D):
    """Three-hump camel: one lowest minimum between two higher ones.

    Minimum 0 at (0, 0); local ones of 0.2986 near (1.7476, -0.8738) and its mirror image. The
    domain is [-5, 5]^2, of which the window shows the middle. Source: Virtual Library; Jamil and
    Yang.
    """

    formula = "f(x1, x2) = 2 x1² − 1.05 x1⁴ + x1⁶ / 6 + x1 x2 + x2²"
    optimum = 0.0
    minimizers = ((0.0, 0.0),)
    domain = ((-2.5, 2.5), (-2.5, 2.5))
    usual_start = (-0.9, 2.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        square = x1.square()
        return square * (2 - square * (1.05 - square / 6)) + x1 * x2 + x2.square()


class SixHumpCamel(Function2D):
    """Six-hump camel: six minima, two of them lowest.

    Minimum -1.0316 at two points mirrored in the origin, solved to float64 precision. Source:
    Dixon and Szegő; Virtual Library.
    """

    formula = "f(x1, x2) = (4 − 2.1 x1² + x1⁴ / 3) x1² + x1 x2 + (4 x2² − 4) x2²"
    optimum = -1.0316284534898774
    minimizers = (
        (0.08984201310031806, -0.7126564030207396),
        (-0.08984201310031806, 0.7126564030207396),
    )
    domain = ((-3.0, 3.0), (-2.0, 2.0))
    usual_start = (-2.5, 1.5)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        a, b = x1.square(), x2.square()
        return (4 - a * (2.1 - a / 3)) * a + x1 * x2 + (4 * b - 4) * b


class Branin(Function2D):
    """Branin: three equally low minima along a curved, rippled valley.

    Minimum ``10 / (8 pi)``, where the parabola's square vanishes and the cosine is -1: at
    (-pi, 12.275), (pi, 2.275) and (3 pi, 2.475) in the domain [-5, 10] x [0, 15], and outside
    it at every further odd multiple of pi. Source: Dixon and Szegő; Virtual Library.
    """

    formula = "f(x1, x2) = (x2 − 5.1 x1² / (4π²) + 5 x1 / π − 6)² + 10 (1 − 1 / (8π)) cos x1 + 10"
    optimum = 10 / (8 * math.pi)
    minimizers = ((-math.pi, 12.275), (math.pi, 2.275), (3 * math.pi, 2.475))
    domain = ((-5.0, 10.0), (0.0, 15.0))
    usual_start = (2.5, 10.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        bend = x2 - 5.1 / (4 * math.pi**2) * x1.square() + 5 / math.pi * x1 - 6
        return bend.square() + 10 * (1 - 1 / (8 * math.pi)) * x1.cos() + 10


class GoldsteinPrice(Function2D):
    """Goldstein and Price: values from 3 to a million in a small square, with four minima.

    Minimum 3 at (0, -1). Domain [-2, 2]^2. Source: A. A. Goldstein and J. F. Price, "On Descent
    from Local Minima", Mathematics of Computation 25(115), 1971; Virtual Library.
    """

    formula = (
        "f(x1, x2) = (1 + (x1 + x2 + 1)² (19 − 14 x1 + 3 x1² − 14 x2 + 6 x1 x2 + 3 x2²)) "
        "(30 + (2 x1 − 3 x2)² (18 − 32 x1 + 12 x1² + 48 x2 − 36 x1 x2 + 27 x2²))"
    )
    optimum = 3.0
    minimizers = ((0.0, -1.0),)
    domain = ((-2.0, 2.0), (-2.0, 2.0))
    usual_start = (-0.5, 0.25)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        a, b, c = x1.square(), x2.square(), x1 * x2
        first = 1 + (x1 + x2 + 1).square() * (19 - 14 * x1 + 3 * a - 14 * x2 + 6 * c + 3 * b)
        square = (2 * x1 - 3 * x2).square()
        second = 30 + square * (18 - 32 * x1 + 12 * a + 48 * x2 - 36 * c + 27 * b)
        return first * second


class McCormick(Function2D):
    """McCormick: a slanted plate with ripples.

    In the domain [-1.5, 4] x [-3, 4] the minimum is ``-sqrt(3)/2 - pi/3``, at
    ``(1/2 - pi/3, -1/2 - pi/3)``. Outside it the function has no lower bound: each step of
    ``(-pi, -pi)`` leads to a minimum that is pi lower. A trial that leaves the domain may
    therefore end below the optimum. Source: G. P. McCormick, "Computability of global solutions
    to factorable nonconvex programs: Part I", Mathematical Programming 10, 1976; Virtual Library.
    """

    formula = "f(x1, x2) = sin(x1 + x2) + (x1 − x2)² − 1.5 x1 + 2.5 x2 + 1"
    optimum = -math.sqrt(3) / 2 - math.pi / 3
    minimizers = ((0.5 - math.pi / 3, -0.5 - math.pi / 3),)
    domain = ((-1.5, 4.0), (-3.0, 4.0))
    usual_start = (0.0, 1.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        return (x1 + x2).sin() + (x1 - x2).square() - 1.5 * x1 + 2.5 * x2 + 1


class StyblinskiTang(Function2D):
    """Styblinski and Tang: four minima, one in each corner, one of them lowest.

    Minimum -78.33 where both coordinates are the least root of ``4 x^3 - 32 x + 5``, to float64
    precision. Domain [-5, 5]^2. Source: M. A. Styblinski and T.-S. Tang, "Experiments in
    nonconvex optimization", Neural Networks 3(4), 1990; Virtual Library.
    """

    formula = "f(x1, x2) = (x1⁴ − 16 x1² + 5 x1 + x2⁴ − 16 x2² + 5 x2) / 2"
    optimum = -78.33233140754282
    minimizers = ((-2.903534027771177, -2.903534027771177),)
    domain = ((-5.0, 5.0), (-5.0, 5.0))
    usual_start = (0.0, 4.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        a, b = x1.square(), x2.square()
        return (a * (a - 16) + 5 * x1 + b * (b - 16) + 5 * x2) / 2


class Rastrigin(Function2D):
    """Rastrigin: a bowl with a grid of about a hundred minima.

    Minimum 0 at (0, 0). Domain [-5.12, 5.12]^2. Source: L. A. Rastrigin, *Systems of Extremal
    Control*, Nauka, 1974 (in Russian); Virtual Library.
    """

    formula = "f(x1, x2) = 20 + x1² − 10 cos 2πx1 + x2² − 10 cos 2πx2"
    optimum = 0.0
    minimizers = ((0.0, 0.0),)
    domain = ((-5.12, 5.12), (-5.12, 5.12))
    usual_start = (-3.3, 2.7)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        waves = (2 * math.pi * x1).cos() + (2 * math.pi * x2).cos()
        return x1.square() + x2.square() + 10 * (2 - waves)


class Ackley(Function2D):
    """Ackley: a nearly flat, rippled plate with a funnel in the middle.

    Minimum 0 at (0, 0), the tip of a cone: the function has no gradient there, and what is given
    is 0, which is a subgradient. The domain is [-32.768, 32.768]^2, of which the window shows the
    middle. Source: D. H. Ackley, *A Connectionist Machine for Genetic Hillclimbing*, Kluwer, 1987;
    Virtual Library.
    """

    formula = (
        "f(x1, x2) = 20 + e − 20 exp(−0.2 √((x1² + x2²) / 2)) − exp((cos 2πx1 + cos 2πx2) / 2)"
    )
    optimum = 0.0
    minimizers = ((0.0, 0.0),)
    domain = ((-5.0, 5.0), (-5.0, 5.0))
    usual_start = (-3.5, 2.6)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        mean = (x1.square() + x2.square()) / 2
        tip = mean == 0
        # The square root's slope at 0 is infinite, and infinity times 0 is NaN: it never sees a 0.
        distance = torch.where(tip, 0.0, torch.where(tip, 1.0, mean).sqrt())
        waves = ((2 * math.pi * x1).cos() + (2 * math.pi * x2).cos()) / 2
        return -20 * torch.expm1(-0.2 * distance) - math.e * torch.expm1(waves - 1)


def _two(name: str, point: Sequence[float]) -> tuple[float, float]:
    """Two finite numbers, or an error that names them."""
    if isinstance(point, str) or not isinstance(point, Sequence) or len(point) != 2:
        raise ValueError(f"{name} must be two numbers, got {point!r}")
    if not all(_is_finite(value) for value in point):
        raise ValueError(f"{name} must be two finite numbers, got {point!r}")
    return float(point[0]), float(point[1])


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _reaching(interval: tuple[float, float], start: float) -> tuple[float, float]:
    """An interval, extended where it doesn't hold the start with some room around it."""
    low, high = interval
    if low < start < high:
        return interval
    low, high = min(low, start), max(high, start)
    margin = 0.05 * (high - low)
    return (low - margin if low == start else low, high + margin if high == start else high)
