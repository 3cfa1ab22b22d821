"""Ranks of cases among each other, seed by seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis import rank_tests, stats

if TYPE_CHECKING:
    from harness.analysis.comparison import ComparisonGroup

LEAST_RANKED = 5
"""Seeds of which a mean rank has an interval, at least."""


@dataclass(frozen=True)
class Rank:
    """The rank of a case among the others of its group, seed by seed.

    Attributes:
        mean: Mean rank, 1 the best; ties share theirs, failed trials are tied for the last.
        low: Lower end of its bootstrap-t interval over seeds; NaN of too few seeds.
        high: Upper end.
        first: Share of seeds at which no other is better.
    """

    mean: float
    low: float
    high: float
    first: float


def ranks(group: ComparisonGroup) -> tuple[list[Rank], float]:
    """The rank of each case of a group, and the p-value of Friedman's test that all do alike.

    Copies of one run don't take part in the test. The p-value is NaN where fewer than three
    cases do, or there are fewer than two seeds.
    """
    table = group.ranks()
    # Of few seeds, ranks have too few different values for an interval to cover as it says.
    intervals = stats.bootstrap_t_intervals(table, least=LEAST_RANKED)
    best = table == table.min(axis=0)
    varying = table[~group.alike]
    _, p = rank_tests.friedman(varying) if len(varying) else (math.nan, math.nan)
    found = [
        Rank(float(row.mean()), float(low), float(high), float(first.mean()))
        for row, first, (low, high) in zip(table, best, intervals, strict=True)
    ]
    return found, p
