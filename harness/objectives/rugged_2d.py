"""Test functions of two variables with many minima: ripples, rings and crooked valleys.

What is said in ``functions_2d`` of starts, windows and references goes for these as well: "Virtual
Library" is that of Surjanovic and Bingham, and "Jamil and Yang" their survey of 2013.
"""

from __future__ import annotations

import itertools
import math

import torch

from harness.objectives.functions_2d import Function2D


class Levy(Function2D):
    """Lévy: a bowl with ripples that get deeper outwards.

    Minimum 0 at (1, 1). Domain [-10, 10]^2. Source: A. V. Levy and A. Montalvo, "The Tunneling
    Algorithm for the Global Minimization of Functions", SIAM Journal on Scientific and Statistical
    Computing 6(1), 1985; Virtual Library, in two dimensions.
    """

    formula = (
        "f(x1, x2) = sin² πw1 + (w1 − 1)² (1 + 10 sin²(πw1 + 1)) + (w2 − 1)² (1 + sin² 2πw2), "
        "w = 1 + (x − 1) / 4"
    )
    optimum = 0.0
    minimizers = ((1.0, 1.0),)
    domain = ((-10.0, 10.0), (-10.0, 10.0))
    usual_start = (-8.5, -7.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        a, b = (x1 - 1) / 4, (x2 - 1) / 4
        # sin² π(1 + a) is sin² πa, which is 0 to the bit at a = 0.
        first = (math.pi * a).sin().square()
        second = a.square() * (1 + 10 * (math.pi * a + (math.pi + 1)).sin().square())
        return first + second + b.square() * (1 + (2 * math.pi * b).sin().square())


class Griewank(Function2D):
    """Griewank: waves on a wide, very flat bowl.

    Minimum 0 at (0, 0). The domain is [-600, 600]^2, of which the window shows the middle. Source:
    A. O. Griewank, "Generalized descent for global optimization", Journal of Optimization Theory
    and Applications 34(1), 1981; Virtual Library.
    """

    formula = "f(x1, x2) = (x1² + x2²) / 4000 − cos x1 cos(x2 / √2) + 1"
    optimum = 0.0
    minimizers = ((0.0, 0.0),)
    domain = ((-10.0, 10.0), (-10.0, 10.0))
    usual_start = (-8.0, 6.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        waves = x1.cos() * (x2 / math.sqrt(2)).cos()
        return (x1.square() + x2.square()) / 4000 + (1 - waves)


class DropWave(Function2D):
    """Drop-wave: rings around a drop, flat at the crest of each.

    Minimum -1 at (0, 0). Domain [-5.12, 5.12]^2. Source: Virtual Library.
    """

    formula = "f(x1, x2) = −(1 + cos 12√(x1² + x2²)) / ((x1² + x2²) / 2 + 2)"
    optimum = -1.0
    minimizers = ((0.0, 0.0),)
    domain = ((-5.12, 5.12), (-5.12, 5.12))
    usual_start = (-2.6, 1.9)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        square = x1.square() + x2.square()
        return -(1 + (12 * _root(square)).cos()) / (square / 2 + 2)


class CrossInTray(Function2D):
    """Cross-in-tray: hollows between sharp ridges, the four in the middle lowest.

    Minimum at four points ``(±a, ±a)`` with ``a = atan(sqrt(2) pi)``, where the slope of
    ``sin(a)^2 exp(100 - sqrt(2) a / pi)`` is 0. Domain [-10, 10]^2. Source: Virtual Library; Jamil
    and Yang. Theirs has the absolute value of the exponent, which is the same up to 100 pi from the
    origin; farther away it grows again, and there is no lower bound. The exponential goes beyond
    single precision, so all is computed in double.
    """

    formula = "f(x1, x2) = −0.0001 (|sin x1 sin x2| exp(100 − √(x1² + x2²) / π) + 1)^0.1"
    minimizers = tuple(itertools.product((1.3494066171539108, -1.3494066171539108), repeat=2))
    optimum = -2.0626118708227368
    domain = ((-10.0, 10.0), (-10.0, 10.0))
    usual_start = (-7.0, 4.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        a, b = x1.double(), x2.double()
        height = (100 - _root(a.square() + b.square()) / math.pi).exp()
        tray = -1e-4 * ((a.sin() * b.sin() * height).abs() + 1).pow(0.1)
        return tray.to(x1.dtype)


class Eggholder(Function2D):
    """Eggholder: crooked valleys that deepen outwards; the lowest place is at the edge.

    In the domain [-512, 512]^2 the minimum is -959.6407, at x1 = 512 and x2 to float64 precision.
    The formula has no lower bound beyond. So a point outside has the value at the nearest point of
    the domain, plus the square of its distance from there: no point of the plane is lower than
    the domain's minimum. Where a root's argument is 0, the slope is infinite; what is given is 0.
    Source: Virtual Library; Jamil and Yang; D. Whitley et al., "Evaluating evolutionary
    algorithms", Artificial Intelligence 85(1-2), 1996.
    """

    formula = (
        "f(x1, x2) = −(x2 + 47) sin √|x2 + x1 / 2 + 47| − x1 sin √|x1 − x2 − 47| on [−512, 512]²; "
        "beyond, f at the nearest point plus the squared distance from it"
    )
    optimum = -959.6406627208508
    minimizers = ((512.0, 404.2318051137578),)
    domain = ((-530.0, 530.0), (-530.0, 530.0))
    usual_start = (50.0, 50.0)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        a, b = x1.clamp(-512.0, 512.0), x2.clamp(-512.0, 512.0)
        first = (b + 47) * _root((b + a / 2 + 47).abs()).sin()
        second = a * _root((a - b - 47).abs()).sin()
        return (x1 - a).square() + (x2 - b).square() - first - second


class Schaffer2(Function2D):
    """Schaffer's second function: ever narrower rings along two crossing valleys.

    Minimum 0 at (0, 0). The domain is [-100, 100]^2, of which the window shows the middle. Source:
    Virtual Library; Jamil and Yang; after J. D. Schaffer, *Some Experiments in Machine Learning
    Using Vector Evaluated Genetic Algorithms*, Vanderbilt University, 1984.
    """

    formula = "f(x1, x2) = 0.5 + (sin²(x1² − x2²) − 0.5) / (1 + 0.001 (x1² + x2²))²"
    optimum = 0.0
    minimizers = ((0.0, 0.0),)
    domain = ((-5.0, 5.0), (-5.0, 5.0))
    usual_start = (-2.9, 2.2)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        a, b = x1.square(), x2.square()
        wide = (1 + 0.001 * (a + b)).square()
        # 0.5 + (sin² − 0.5) / wide, of which nothing is left at the minimum.
        return ((a - b).sin().square() + 0.5 * (wide - 1)) / wide


_LOW, _HIGH = -1.425128428319761, -0.8003211004719731
"""Where the sum of Shubert's cosines is lowest, -12.87, and highest, 14.51; of period 2 pi."""


class Shubert(Function2D):
    """Shubert: hundreds of minima, eighteen of them lowest in the domain.

    Minimum -186.7309: the lowest value of ``sum(i cos((i + 1) x + i), i = 1..5)`` times its
    highest, whose places are known to float64 precision and repeat every 2 pi. Domain [-10, 10]^2;
    outside it there are more of the same. Source: B. O. Shubert, "A Sequential Method Seeking the
    Global Maximum of a Function", SIAM Journal on Numerical Analysis 9(3), 1972; Virtual Library.
    """

    formula = "f(x1, x2) = Σ i cos((i + 1) x1 + i) · Σ i cos((i + 1) x2 + i), i = 1 … 5"
    optimum = -186.73090883102384
    minimizers = tuple(
        place
        for first, second in itertools.product((-1, 0, 1), repeat=2)
        for place in (
            (_LOW + first * 2 * math.pi, _HIGH + second * 2 * math.pi),
            (_HIGH + first * 2 * math.pi, _LOW + second * 2 * math.pi),
        )
    )
    domain = ((-10.0, 10.0), (-10.0, 10.0))
    usual_start = (2.5, 3.5)

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        return self._waves(x1) * self._waves(x2)

    @staticmethod
    def _waves(x: torch.Tensor) -> torch.Tensor:
        first = (2 * x + 1).cos() + 2 * (3 * x + 2).cos() + 3 * (4 * x + 3).cos()
        return first + 4 * (5 * x + 4).cos() + 5 * (6 * x + 5).cos()


class Langermann(Function2D):
    """Langermann: rings around five centres, which overlap; a plain without slope outside.

    Minimum -4.1558 near (2.7934, 1.5972), to float64 precision. Domain [0, 10]^2. Source: Virtual
    Library, with the centres and weights that it recommends for two dimensions.
    """

    formula = (
        "f(x1, x2) = Σ c exp(−d / π) cos πd, d = (x1 − a)² + (x2 − b)²; (a, b): c = (3, 5): 1, "
        "(5, 2): 2, (2, 1): 5, (1, 4): 2, (7, 9): 3"
    )
    optimum = -4.155809291847785
    minimizers = ((2.793402208645037, 1.59723250132836),)
    domain = ((0.0, 10.0), (0.0, 10.0))
    usual_start = (4.6, 6.4)

    _CENTRES = ((3.0, 5.0, 1.0), (5.0, 2.0, 2.0), (2.0, 1.0, 5.0), (1.0, 4.0, 2.0), (7.0, 9.0, 3.0))

    def value(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        rings = []
        for a, b, weight in self._CENTRES:
            square = (x1 - a).square() + (x2 - b).square()
            rings.append(weight * (-square / math.pi).exp() * (math.pi * square).cos())
        return torch.stack(rings).sum()


def _root(square: torch.Tensor) -> torch.Tensor:
    """The square root, with a slope of 0 at 0: infinity times 0 would be NaN."""
    tip = square == 0
    return torch.where(tip, 0.0, torch.where(tip, 1.0, square).sqrt())
