"""Numbers, counts, times and lists as the texts that people read. Knows nothing of the harness."""

from __future__ import annotations

import datetime
import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

DASH = "–"
"""What stands where there is no number."""

NAMED = 4
"""Names that a sentence lists one by one."""

RANGES = 20
"""Ranges of seeds that are listed one by one."""


def as_text(value: Any) -> str:
    """An argument's value as labels show it: ``0.4``, ``true``, ``[0.9, 0.999]``."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        short = f"{value:.6g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(as_text(item) for item in value) + "]"
    return str(value)


def plural(count: int, one: str, many: str = "") -> str:
    """A count and what is counted: ``1 seed``, ``1,000 seeds``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def is_are(count: int) -> str:
    """The verb that goes with a count."""
    return "is" if count == 1 else "are"


def was_were(count: int) -> str:
    """The same in the past."""
    return "was" if count == 1 else "were"


def listed(names: Sequence[str], limit: int = NAMED) -> str:
    """``a``, ``a and b``, ``a, b and c``; cut where there are many."""
    shown = list(names)
    if len(shown) > limit + 1:
        shown = [*shown[:limit], f"{len(shown) - limit} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def all_or_none(some: int, total: int) -> str:
    """``all``, ``none`` or how many of a total."""
    return "all" if some == total > 1 else "none" if not some else f"{some:,}"


def device_name(device: str) -> str:
    """A device as a sentence begins with it: ``CUDA``, ``CUDA:1``, ``CUDA, a source``."""
    kind = re.match("[a-z]*", device)
    return device[: kind.end()].upper() + device[kind.end() :] if kind else device


def or_dash(text: object) -> str:
    """A text; a dash for an empty one."""
    return str(text) or DASH


def seed_ranges(seeds: Iterable[int]) -> str:
    """Seeds as ranges: ``0–9, 12``."""
    ranges: list[tuple[int, int]] = []
    for seed in sorted(set(seeds)):
        if ranges and seed == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], seed)
        else:
            ranges.append((seed, seed))
    texts = [str(first) if first == last else f"{first}{DASH}{last}" for first, last in ranges]
    more = f", … ({len(texts)} ranges)" if len(texts) > RANGES else ""
    return ", ".join(texts[:RANGES]) + more


def moment(text: str, *, to_the_minute: bool = False) -> str:
    """A time in ISO format as a person reads it; anything else as it is."""
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    return when.strftime("%Y-%m-%d %H:%M UTC" if to_the_minute else "%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """A duration: ``1.2 s``, ``3 min 4 s``, ``2 h 4 min``."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def short_time(seconds: float) -> str:
    """A time with three significant digits, in the unit that suits it: ``1.20 ms``."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{significant(seconds * scale, 3)} {unit}"
    return f"{significant(seconds * 1e9, 3)} ns"


def share(value: float) -> str:
    """A share as a whole percentage."""
    return DASH if math.isnan(value) else f"{value:.0%}"


def percent(change: float, unit: str = "%") -> str:
    """A relative change in percent, with its sign and one decimal."""
    if math.isnan(change):
        return DASH
    text = f"{100 * change:+.1f}" if abs(change) < 100 else f"{100 * change:+.1e}"
    return f"{'0.0' if text in ('-0.0', '+0.0') else text}{unit}"


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, powers of ten written out beyond 1e-4 and 1e6."""
    if math.isnan(value):
        return DASH
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:.{places}f}"
    return f"{value:.{digits - 1}e}"


def number(value: float, decimals: int) -> str:
    """A number with so many decimals; a power of ten where that would show nothing."""
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value != 0 and (abs(value) < max(1e-4, 0.5 * 10**-decimals) or abs(value) >= 1e7):
        digits = max(2, decimals + math.floor(math.log10(abs(value))))
        return f"{value:.{min(digits, 5)}e}"
    return f"{value:.{decimals}f}"


def cost(value: float, digits: int = 3) -> str:
    """The same as :func:`significant`, and ``∞`` for what is infinite."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return significant(value, digits)


def fixed(decimals: int) -> Callable[[float], str]:
    """A formatter of numbers with so many decimals."""
    return lambda value: DASH if math.isnan(value) else f"{value:.{decimals}f}"


def general(digits: int) -> Callable[[float], str]:
    """A formatter of numbers with at most so many digits."""
    return lambda value: DASH if math.isnan(value) else f"{value:.{digits}g}"


def digits(count: int) -> Callable[[float], str]:
    """A formatter of numbers with so many significant digits; see :func:`significant`."""
    return functools.partial(significant, digits=count)


def exactly(value: float) -> str:
    """A count with all its digits; anything else with six."""
    whole = math.isfinite(value) and value == math.floor(value) and abs(value) < 1e15
    return f"{value:.0f}" if whole else f"{value:.6g}"


def probability(p: float) -> str:
    """A p-value with two digits."""
    if math.isnan(p):
        return DASH
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"


def decimals(value: float, low: float, high: float) -> int:
    """Decimals that a number's uncertainty allows: two digits of its interval's half-width.

    Where there is no interval or it has no width, six significant digits.
    """
    half = (high - low) / 2
    if math.isfinite(half) and half > 0:
        return min(12, max(0, 1 - math.floor(math.log10(half))))
    if math.isfinite(value) and value != 0:
        return min(12, max(0, 5 - math.floor(math.log10(abs(value)))))
    return 6


def interval(low: float, high: float, decimals: int) -> str:
    """Two ends of an interval."""
    if math.isnan(low) or math.isnan(high):
        return DASH
    return f"{number(low, decimals)} to {number(high, decimals)}"


def significant_interval(low: float, high: float) -> str:
    """Two ends of an interval, each with three significant digits."""
    if math.isnan(low) or math.isnan(high):
        return DASH
    return f"{significant(low)} to {significant(high)}"


def shift(value: float, low: float, high: float, sign: int = 1) -> tuple[str, str]:
    """A shift, times a sign, and its interval, in as many digits as that allows."""
    value, (low, high) = sign * value, sorted((sign * low, sign * high))
    # An interval that has no width but rounding's says nothing of how many digits are known.
    largest = max((abs(end) for end in (value, low, high) if math.isfinite(end)), default=0.0)
    most = max(0, 5 - math.floor(math.log10(largest))) if largest else 0
    digits = min(decimals(value, low, high), most)
    return number(value, digits), interval(low, high, digits)
