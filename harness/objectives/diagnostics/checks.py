"""Checks of what diagnostic tasks are given."""

from __future__ import annotations

import math


def number_from(name: str, value: object, low: float, *, beyond: bool = False) -> float:
    """A finite number that is at least (or beyond) some other.

    Args:
        name: Of the argument, for the error.
        value: What was given.
        low: The least that it may be.
        beyond: Whether it must be more than ``low``.

    Raises:
        ValueError: If it is none.
    """
    number = _number(value)
    if not math.isfinite(number) or number < low or (beyond and number == low):
        bound = f"above {low:g}" if beyond else f"at least {low:g}"
        raise ValueError(f"{name} must be finite and {bound}, got {value!r}")
    return number


def share_within(name: str, value: object, *, low: float = 0.0, high: float = 1.0) -> float:
    """A number from ``low`` to ``high``, both included.

    Raises:
        ValueError: If it is none.
    """
    number = _number(value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value!r}")
    return number


def whole_from(name: str, value: object, low: int) -> int:
    """A whole number that is at least some other.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be a whole number from {low}, got {value!r}")
    return value


def _number(value: object) -> float:
    """A number, or NaN for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)
