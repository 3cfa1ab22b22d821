"""Choices of what an axis shows: the loss or its gap to the optimum, and which ends it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis import stats
from harness.reporting import wording
from harness.reporting.figures.records import (
    DEEPEST_DECADES,
    FARTHEST,
    NO_VALUES,
    Array,
    DotRow,
    wants_log,
)
from harness.store.read import ObjectiveInfo

FENCE = 3.0
"""Interquartile ranges beyond the quartiles from which a dot may lie beyond the frame."""

RULES, RULES_ROWS = 3.0, 5.0
"""The factor by which an axis is wider for a few outlying dots, or rows, that are taken off it."""


@dataclass(frozen=True)
class Gap:
    """The value that is subtracted from losses before they are drawn.

    Attributes:
        base: The lowest possible loss; 0 where it is not known.
        label: What is left, as an axis calls it that has room.
        short: The same for one that has not.
        is_known: Whether the lowest possible loss is known.
        mark: The direction that is better, where an axis has to tell it.
        linear: Whether a logarithmic scale is out of the question.
    """

    base: float
    label: str
    short: str
    is_known: bool
    mark: str = ""
    linear: bool = False

    @classmethod
    def of(cls, info: ObjectiveInfo) -> Gap:
        """The gap to the optimum where that is known, else what is reported."""
        if info.optimum is None:
            words, higher = info.words, info.measure.higher
            mark = wording.mark(info)
            return cls(0.0, words, words, is_known=False, mark=mark, linear=higher)
        if info.optimum == 0:
            return cls(0.0, "loss (optimum: 0)", "loss", is_known=True)
        sign, size = "−" if info.optimum > 0 else "+", abs(info.optimum)
        label = f"gap to optimum (loss {sign} {size:.6g})"
        return cls(info.optimum, label, "gap to optimum", is_known=True)

    @property
    def note(self) -> str:
        """The value that the gap is to, as a sentence; empty where it is the loss itself."""
        return f"Lowest possible loss: {self.base:.6g}." if self.base else ""

    def less(self, losses: Array) -> Array:
        """Losses less the base; 0 where rounding alone took them below it."""
        if not self.is_known:
            return losses
        return stats.gap(losses, self.base)


def bounded(value: float) -> float:
    """A value that can be drawn: an infinite end lies as far out as numbers go."""
    return max(-FARTHEST, min(FARTHEST, value)) if math.isinf(value) else value


def row_scale(
    rows: Sequence[DotRow], *, linear: bool = False, shown: float | None = None
) -> tuple[bool, tuple[float, float]]:
    """Choose a scale for rows of dots, and limits that a few outliers do not rule.

    What the limits leave out is drawn as an arrow at the edge, with its value.

    Args:
        rows: With their dots and estimates.
        linear: Whether a logarithmic scale is out of the question.
        shown: A value that has to be within the limits.
    """
    values = np.concatenate([NO_VALUES, *(row.values for row in rows)])
    centres = np.array([row.centre for row in rows])
    known = np.concatenate([values, centres])
    known = known[np.isfinite(known) & (np.abs(known) < FARTHEST)]
    if not len(known):
        return False, (0.0, 1.0)
    if not linear and wants_log(known):
        return True, _log_limits(known, rows)
    extra = [shown] if shown is not None else []
    kept = _within(sorted(rows, key=_place), extra)
    low, high = _ends(kept, extra)
    margin = (high / 2 - low / 2) * 0.1 or abs(high) * 0.1 or 1.0
    return False, (low - margin, high + margin)


def _log_limits(known: Array, rows: Sequence[DotRow]) -> tuple[float, float]:
    """Ends of a logarithmic scale that hold all values but those far too small for it."""
    top = float(known.max())
    ends = np.array([(row.low, row.high) for row in rows]).ravel()
    top = float(ends[np.isfinite(ends) & (ends < FARTHEST)].max(initial=top))
    deepest = top * 10.0**-DEEPEST_DECADES
    bottom = float(known[known >= max(deepest, 5e-324)].min())
    lows = ends[np.isfinite(ends) & (ends > 0)]
    bottom = max(float(lows.min(initial=bottom)), bottom / 3)
    margin = 0.04 * math.log10(top / bottom) or 0.1
    return bottom * 10.0**-margin, min(top * 10.0**margin, FARTHEST)


def _place(row: DotRow) -> float:
    if math.isfinite(row.centre):
        return row.centre
    return float(np.median(row.values)) if len(row.values) else math.inf


def _within(rows: Sequence[DotRow], extra: Sequence[float]) -> list[Array]:
    """The values of each row that set the limits: without dots, then rows, that rule the axis."""
    whole = [_known(row, row.values) for row in rows]
    fenced = [_known(row, _fenced(row.values)) for row in rows]
    if not 0 < RULES * _span(fenced, extra) <= _span(whole, extra):
        fenced = whole
    own = [i for i, row in enumerate(fenced) if len(row)]
    for count in range(len(own) - 1, len(own) // 2, -1):
        fewer = [fenced[i] for i in own[:count]]
        if 0 < RULES_ROWS * _span(fewer, extra) <= _span(fenced, extra):
            return fewer
    return fenced


def _known(row: DotRow, values: Array) -> Array:
    known = np.concatenate([values, [row.centre, row.low, row.high]])
    return np.asarray(known[np.isfinite(known) & (np.abs(known) < FARTHEST)])


def _fenced(values: Array) -> Array:
    """The values within three interquartile ranges of the quartiles."""
    if len(values) < 5:
        return values
    low, high = np.quantile(values, [0.25, 0.75])
    reach = FENCE * (high - low)
    return np.asarray(values[(values >= low - reach) & (values <= high + reach)])


def _ends(parts: Sequence[Array], extra: Sequence[float]) -> tuple[float, float]:
    values = np.concatenate([*parts, extra])
    return float(values.min()), float(values.max())


def _span(parts: Sequence[Array], extra: Sequence[float]) -> float:
    low, high = _ends(parts, extra)
    return high / 2 - low / 2
