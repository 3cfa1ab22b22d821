"""Search spaces: values of hyperparameters to and from the unit interval, and draws of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.spec.model import SPACES, SpaceSpec

DIGITS = 6
"""Significant digits of a value drawn: what a label shows is what is run."""


def kind(space: SpaceSpec) -> str:
    """The kind of a space."""
    return next(name for name in SPACES if getattr(space, name) is not None)


def is_range(space: SpaceSpec) -> bool:
    """Tell a range, which has two ends, from a choice."""
    return space.choice is None


def ends(space: SpaceSpec) -> tuple[float, float]:
    """Both ends of a range.

    Raises:
        TypeError: If the space is a choice.
    """
    if space.choice is not None:
        raise TypeError("a choice has no ends")
    low, high = getattr(space, kind(space))
    return float(low), float(high)


def value(space: SpaceSpec, unit: float) -> Any:
    """The value at a place of the space.

    Args:
        space: The space.
        unit: From 0, its lower end or first choice, to 1.
    """
    if space.choice is not None:
        return space.choice[min(int(unit * len(space.choice)), len(space.choice) - 1)]
    low, high = ends(space)
    if space.integer is not None:
        return min(math.floor(low + unit * (high - low + 1)), int(high))
    if space.uniform is not None:
        found = _rounded(low + unit * (high - low))
    elif space.log_uniform is not None:
        found = _rounded(math.exp(math.log(low) + unit * (math.log(high) - math.log(low))))
    else:
        left, right = math.log(1 - low), math.log(1 - high)
        # 1 less a rounded number, so that 0.999 has as many digits of its distance from 1.
        found = round(1 - _rounded(math.exp(left + unit * (right - left))), 15)
    return min(max(found, low), high)


def place(space: SpaceSpec, number: float) -> float:
    """The place of a number in a range: 0 at its lower end, 1 at its upper one.

    A whole number is in the middle of its share, the first and the last at the ends.

    Raises:
        TypeError: If the space is a choice.
    """
    low, high = ends(space)
    if space.log_uniform is not None:
        return math.log(number / low) / math.log(high / low)
    if space.one_minus_log_uniform is not None:
        return math.log((1 - number) / (1 - low)) / math.log((1 - high) / (1 - low))
    return (number - low) / (high - low)


def grid(space: SpaceSpec, points: int) -> list[Any]:
    """Values evenly spaced over a space, its ends among them; each once.

    Of a choice, all of them.
    """
    if space.choice is not None:
        return list(space.choice)
    units = np.linspace(0, 1, points)
    if space.integer is not None:
        low, high = ends(space)
        return list(dict.fromkeys(round(low + float(unit) * (high - low)) for unit in units))
    return list(dict.fromkeys(value(space, float(unit)) for unit in units))


def draw(spaces: Mapping[str, SpaceSpec], count: int, seed: int) -> list[dict[str, Any]]:
    """Settings that fill a search space evenly: a scrambled Halton sequence (scipy's).

    Halton's, not Sobol's, for it is even at any number of points, not at powers of two alone
    (Owen, "A randomized Halton algorithm in R", 2017).

    Args:
        spaces: By hyperparameter, in order.
        count: How many settings.
        seed: Of the scrambling; the same seed gives the same settings.
    """
    from scipy.stats import qmc

    units = qmc.Halton(len(spaces), scramble=True, rng=seed).random(count)
    return [
        {name: value(space, float(u)) for (name, space), u in zip(spaces.items(), row, strict=True)}
        for row in units
    ]


def shown(space: SpaceSpec) -> str:
    """A space in words: ``log-uniform from 0.001 to 1``."""
    if space.choice is not None:
        return "one of " + ", ".join(str(choice) for choice in space.choice)
    low, high = ends(space)
    name = kind(space).replace("_", "-")
    return f"{name} from {low:g} to {high:g}"


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")
