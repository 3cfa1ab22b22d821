"""Trials that end before their last step: at their targets, or where they get no better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.measures import TRAIN_LOSS, Measure, StopRule
from harness.results import STOPPED


class Stopping:
    """Which of some lanes have come to an end, by what is recorded of them.

    Args:
        rule: When a lane ends; None where none ends early.
        measures: What is recorded.
        lanes: How many lanes there are.

    Attributes:
        stopped_at: Per lane, the recorded step at which it ended; -1 where it goes on.
    """

    def __init__(self, rule: StopRule | None, measures: Sequence[Measure], lanes: int) -> None:
        self.stopped_at = np.full(lanes, -1, dtype=np.int64)
        self._rule = rule
        self._signs = {measure.name: measure.sign for measure in measures}
        self._levels: NDArray[np.float64] | None = None
        self._reached = np.zeros((len(rule.targets) if rule else 0, lanes), dtype=np.bool_)
        self._best = np.full(lanes, np.inf)
        self._since = np.zeros(lanes, dtype=np.int64)

    @property
    def is_asked(self) -> bool:
        """True where lanes may end early at all."""
        return self._rule is not None

    def see(self, step: int, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.int64]:
        """Look at what is recorded after a step.

        Args:
            step: The step.
            values: By measure, of each lane.

        Returns:
            The lanes that end here.
        """
        if self._rule is None:
            return np.empty(0, dtype=np.int64)
        ends = self._at_targets(self._rule, values) | self._gets_no_better(self._rule, values)
        found = np.flatnonzero(ends & (self.stopped_at < 0))
        self.stopped_at[found] = step
        return found

    def _at_targets(
        self, rule: StopRule, values: Mapping[str, NDArray[np.float64]]
    ) -> NDArray[np.bool_]:
        if not rule.targets:
            return np.zeros(len(self.stopped_at), dtype=np.bool_)
        for i, target in enumerate(rule.targets):
            name = target.measure.name
            with np.errstate(invalid="ignore"):
                self._reached[i] |= self._signs[name] * values[name] <= self._level(rule, i, values)
        found = self._reached.any(axis=0) if rule.first else self._reached.all(axis=0)
        return np.asarray(found, dtype=np.bool_)

    def _level(
        self, rule: StopRule, index: int, values: Mapping[str, NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """The cost at which each lane reaches a target: known from what is recorded first."""
        if self._levels is None:
            starts = values[TRAIN_LOSS.name]
            self._levels = np.array(
                [[target.cost(start, rule.optimum) for start in starts] for target in rule.targets]
            )
        level: NDArray[np.float64] = self._levels[index]
        return level

    def _gets_no_better(
        self, rule: StopRule, values: Mapping[str, NDArray[np.float64]]
    ) -> NDArray[np.bool_]:
        if not rule.patience:
            return np.zeros(len(self.stopped_at), dtype=np.bool_)
        cost = self._signs[rule.watched.name] * values[rule.watched.name]
        with np.errstate(invalid="ignore"):
            is_better = cost < self._best
        self._best = np.where(is_better, cost, self._best)
        self._since = np.where(is_better, 0, self._since + 1)
        return self._since >= rule.patience


def reason(rule: StopRule, values: Mapping[str, NDArray[np.float64]]) -> str:
    """Say why a trial has ended early.

    Args:
        rule: When trials end.
        values: By measure, of this trial, as far as it got.
    """
    if rule.targets:
        starts = float(values[TRAIN_LOSS.name][0])
        hit = [
            bool(np.nanmin(t.measure.sign * values[t.measure.name]) <= t.cost(starts, rule.optimum))
            for t in rule.targets
        ]
        if any(hit) if rule.first else all(hit):
            return STOPPED + ("a target is reached" if rule.first else "all targets are reached")
    name, better = rule.watched.name, rule.watched.better
    return f"{STOPPED}{rule.patience} records without a {better} {name}"
