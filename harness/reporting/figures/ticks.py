"""Scales of axes and the numbers at their ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.reporting.figures.plotting import mpl  # noqa: F401  # before any part of matplotlib

# isort: split

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

PLAIN = (5e-5, 2e5)
"""Logarithmic axes within these ends have plain numbers."""

WITHOUT_POWERS = (1e-4, 1e6)
"""Linear axes that reach so far have no power of ten beside them."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def set_scale(axis: Axis, limits: tuple[float, float], *, log: bool) -> None:
    """Set limits and scale of an axis whose numbers are known to be of use."""
    ax = axis.axes
    name = "x" if axis is ax.xaxis else "y"
    ax.set(**{f"{name}lim": limits})
    if log:
        ax.set(**{f"{name}scale": "log"})
        log_ticks(axis, limits)


def log_ticks(axis: Axis, limits: Sequence[float]) -> None:
    """Few ticks on a logarithmic axis: plain numbers, or powers of ten if some would be long."""
    decades = math.log10(limits[1]) - math.log10(limits[0])
    steps = (1.0, 2.0, 5.0) if decades < 2.2 else (1.0, 3.0) if decades < 3.2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    is_plain = limits[0] >= PLAIN[0] and limits[1] <= PLAIN[1]
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: plain(value) if is_plain else power_of_ten(value))
    )
    axis.set_minor_locator(NullLocator())


def plain(value: float) -> str:
    """A number with a minus sign, no hyphen."""
    return f"{value:g}".replace("-", "−")


def own_powers(axis: Axis, limits: Sequence[float]) -> None:
    """Numbers with their powers of ten, which would else stand where a title does."""
    if not WITHOUT_POWERS[0] <= max(map(abs, limits)) < WITHOUT_POWERS[1]:
        axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def power_of_ten(value: float) -> str:
    """``10⁻⁶``, ``3·10⁻⁶``: in signs of a text, for names beside it are no mathematics."""
    mantissa, exponent = f"{value:.0e}".split("e")
    power = f"10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return power if mantissa == "1" else f"{mantissa}·{power}"


def few_ticks(ax: Axes, most: int = 3) -> None:
    """Room for the numbers of panels that stand close together."""
    if ax.get_xscale() == "log":
        ax.xaxis.set_major_locator(LogLocator(numticks=3))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], prune="upper"))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
