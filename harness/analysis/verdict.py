"""Verdicts: on each objective, the best setting of every optimizer against the best of them all.

The best has the fewest failed trials and then the lowest cost; the others are held against it with
the pairs of :mod:`harness.analysis.comparison`. Nothing depends on the order of a spec's lists.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.analysis import stats
from harness.analysis.comparison import ALPHA, Called, Compared, ComparisonGroup, Pair
from harness.measures import TRAIN_LOSS, Measure
from harness.store.read import CaseData

Outcome = Literal[
    "best",
    "tied",
    "equal to 3 digits",
    "not significantly different",
    "worse",
    "better on most seeds",
    "failed",
    "not compared",
    "only optimizer",
]
"""The result of an optimizer on an objective, beside the best one there.

``worse`` and ``better on most seeds`` are significant where chance is a matter, that is where
``Entry.p`` is known. ``equal to 3 digits`` is a loss (a gap to the optimum, where that is known)
within 0.5% of the best's, where all seeds give the same result. ``failed``: every trial failed.
"""

LEADING: tuple[Outcome, ...] = (
    "best",
    "tied",
    "equal to 3 digits",
    "not significantly different",
    "better on most seeds",
)
"""Outcomes that do not put an optimizer behind the best."""


_OUTCOMES: dict[Called, Outcome] = {
    "tied": "tied",
    "not significantly different": "not significantly different",
    "worse": "worse",
    "better": "better on most seeds",
}

ALMOST = 1.005
"""Multiple of the best's loss or gap below which three digits show no difference."""


@dataclass(frozen=True)
class Entry:
    """One optimizer on one objective, in its best setting there.

    Attributes:
        case: The case: of several settings the best, picked on these same seeds.
        outcome: The result beside the best.
        loss: What is reported of it, a value: the median of the seeds where the optimum is known,
            else the mean; NaN if all failed.
        low: Lower end of its 95% interval; NaN where there is none.
        high: Upper end.
        factor: Its gap to the optimum, or its loss where no optimum is known, as a multiple of
            that of the best; NaN where that says nothing, and of what is no loss.
        failed: Trials that failed.
        n: Trials.
        p: P-value of the difference from the best, adjusted; NaN where it is not tested.
        behind: By how much its value is worse than that of the best, in units of what is
            reported, whichever direction is better; NaN if all failed.
    """

    case: CaseData
    outcome: Outcome
    loss: float
    low: float
    high: float
    factor: float
    failed: int
    n: int
    p: float = math.nan
    behind: float = math.nan

    @property
    def optimizer(self) -> str:
        """Name of the optimizer."""
        return self.case.optimizer

    @property
    def leads(self) -> bool:
        """True where no optimizer is known to be better here."""
        return self.outcome in LEADING


@dataclass(frozen=True)
class ObjectiveVerdict:
    """The optimizers on one objective and device.

    Attributes:
        objective: Name of the objective.
        device: Where they ran.
        entries: One per optimizer that ran, best first.
        is_tested: Whether chance is a matter, and pairs were tested.
        is_gap: Whether factors are of the gap to the optimum.
        measure: What is reported.
    """

    objective: str
    device: str
    entries: tuple[Entry, ...]
    is_tested: bool
    is_gap: bool
    measure: Measure = TRAIN_LOSS

    @property
    def by_failures(self) -> bool:
        """True where the best has the fewest failures, and another one has a better value."""
        known = [self.measure.sign * e.loss for e in self.entries if not math.isnan(e.loss)]
        return bool(known) and self.measure.sign * self.entries[0].loss > min(known)

    @property
    def by_optimizer(self) -> dict[str, Entry]:
        """The entries by the name of their optimizer."""
        return {entry.optimizer: entry for entry in self.entries}

    @property
    def leaders(self) -> tuple[str, ...]:
        """The best optimizer and those tied with it, in the order of their names."""
        return tuple(sorted(e.optimizer for e in self.entries if e.outcome in ("best", "tied")))

    @property
    def is_clear(self) -> bool:
        """True where the best is significantly better than every other optimizer."""
        others = [e for e in self.entries if e.outcome != "best"]
        behind = all(e.outcome in ("worse", "failed") and not e.p > ALPHA for e in others)
        return self.is_tested and behind


def verdicts(
    compared: Iterable[Compared], means: Mapping[int, stats.Mean]
) -> tuple[ObjectiveVerdict, ...]:
    """Verdicts on all objectives, in the spec's order.

    Args:
        compared: Cases of one objective on one device, compared by seed.
        means: By a case's position, its mean final loss.
    """
    return tuple(_verdict(one, means) for one in compared)


def _verdict(one: Compared, means: Mapping[int, stats.Mean]) -> ObjectiveVerdict:
    group = one.group
    best_of = best_settings(group)
    best = best_of[0]
    entries = []
    for index in best_of:
        pair = one.between(index, best) if index != best else None
        loss, low, high = _loss(group, index, means)
        entry = Entry(
            case=group.cases[index],
            outcome=_outcome(group, index, best, pair, several=len(best_of) > 1),
            loss=loss,
            low=low,
            high=high,
            factor=_factor(group, index, best),
            failed=int(group.failures[index]),
            n=len(group.seeds),
            p=pair.adjusted if pair is not None and pair.is_tested else math.nan,
            behind=_behind(group, index, best),
        )
        entries.append(entry)
    return ObjectiveVerdict(
        objective=group.objective,
        device=group.device,
        entries=tuple(entries),
        is_tested=bool(one.tested),
        is_gap=group.optimum is not None,
        measure=group.measure,
    )


def best_settings(group: ComparisonGroup) -> list[int]:
    """For each optimizer the index of its best case, best first; of a tuned one its tuned case."""
    chosen = {case.optimizer for case in group.cases if case.role != "defaults"}
    found: dict[str, int] = {}
    for index in group.order():
        case = group.cases[index]
        if case.role != "defaults" or case.optimizer not in chosen:
            found.setdefault(case.optimizer, index)
    return list(found.values())


def _outcome(
    group: ComparisonGroup, index: int, best: int, pair: Pair | None, *, several: bool
) -> Outcome:
    if group.failures[index] == len(group.seeds):
        return "failed"
    if index == best:
        return "best" if several else "only optimizer"
    if pair is None and len(group.seeds) < 2:
        return "worse" if group.differences(index, best).any() else "tied"
    if pair is None:
        return "not compared"
    if not pair.is_tested and pair.called != "tied" and _factor(group, index, best) < ALMOST:
        return "equal to 3 digits"
    return _OUTCOMES[pair.called]


def _loss(
    group: ComparisonGroup, index: int, means: Mapping[int, stats.Mean]
) -> tuple[float, float, float]:
    """The value that represents a case, with its interval; none where all seeds agree."""
    values = group.measure.sign * group.losses[index][np.isfinite(group.losses[index])]
    if not len(values):
        return math.nan, math.nan, math.nan
    if group.optimum is not None:
        centre, (low, high) = float(np.median(values)), stats.median_interval(values)
    else:
        mean = means[group.cases[index].position]
        centre, low, high = mean.mean, mean.low, mean.high
    return (centre, math.nan, math.nan) if group.alike[index] else (centre, low, high)


def _behind(group: ComparisonGroup, index: int, best: int) -> float:
    """By how much a case's cost is above that of the best; NaN where one of them has none."""
    own, least = float(group.centres[index]), float(group.centres[best])
    return own - least if math.isfinite(own) and math.isfinite(least) else math.nan


def _factor(group: ComparisonGroup, index: int, best: int) -> float:
    """The loss or gap of a case as a multiple of the best's, where that is above rounding."""
    if group.measure.metric != "loss":
        return math.nan
    base = group.optimum if group.optimum is not None else 0.0
    own, least = float(group.centres[index]) - base, float(group.centres[best]) - base
    rounding = max(group.rounding_floor, group.rounding * abs(float(group.centres[best])))
    if not (math.isfinite(own) and least > (rounding if group.optimum is not None else 0.0)):
        return math.nan
    return own / least
