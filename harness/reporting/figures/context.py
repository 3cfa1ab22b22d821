"""Results with the facts that several figures of them need, each worked out once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis import elapsed, stats
from harness.measures import Measure
from harness.reporting.figures.courses import CARRIED, Courses, courses
from harness.reporting.figures.records import NO_SEEDS, NO_VALUES, OPTIMIZERS, Array, Seeds
from harness.reporting.figures.styles import Style, styles
from harness.reporting.tables import stopped
from harness.results import STATUSES
from harness.store.read import CaseData, Results


@dataclass(frozen=True)
class CaseOutcome:
    """The statuses of a case's trials, and the final losses of those that ended ok.

    Attributes:
        counts: By status, how many trials.
        losses: What is reported of the trials that ended ok, ascending.
        seeds: The seeds of these losses.
    """

    counts: Mapping[str, int]
    losses: Array
    seeds: Seeds

    @property
    def total(self) -> int:
        """The number of its trials."""
        return sum(self.counts.values())

    @property
    def ran(self) -> bool:
        """True if there was a device for some trial."""
        return self.total > self.counts.get("unavailable", 0)

    @property
    def note(self) -> str:
        """``3 of 4 ok``; empty where all are."""
        ok = len(self.losses)
        return "" if ok == self.total else f"{ok} of {self.total} ok"

    @property
    def failures(self) -> str:
        """``3 diverged, 1 error of 6``; empty where all ended ok."""
        counts = [f"{n} {s}" for s in STATUSES[1:] if (n := self.counts.get(s, 0))]
        return f"{', '.join(counts)} of {self.total}" if counts else ""


@dataclass(frozen=True)
class FigureContext:
    """Results with the styles, outcomes and means of their cases, by position."""

    results: Results
    styles: Mapping[int, Style]
    outcomes: Mapping[int, CaseOutcome]
    means: Mapping[int, stats.Mean]
    evaluation_seconds: Mapping[int, float]
    stops: Mapping[int, Mapping[int, int]]

    @classmethod
    def of(cls, results: Results, means: Mapping[int, stats.Mean]) -> FigureContext:
        """Collect the facts about results.

        Args:
            results: What was run.
            means: By a case's position, its mean final loss; see ``comparison.mean_losses``.
        """
        seconds = {
            case.position: elapsed.evaluation_seconds(results, case) for case in results.cases
        }
        stops = _stops(results)
        return cls(results, styles(results), _outcomes(results), means, seconds, stops)

    def courses(self, case: CaseData, measure: Measure | None = None) -> Courses:
        """The courses of a case's trials that ended ok; by default of what is reported."""
        info = self.results.objectives[case.objective]
        values = case.losses if measure is None else case.recorded(measure)
        seeds, stops = self.outcomes[case.position].seeds, self.stops.get(case.position, {})
        return courses(case, values, seeds, stops, info.record_steps)

    def pace(
        self, case: CaseData, steps: Array, rows: NDArray[np.bool_] | NDArray[np.int64]
    ) -> Array:
        """The mean seconds of some of a case's trials until each of some steps.

        Between recorded steps, evaluations are taken to be spread evenly; a trial that has stopped
        counts no more.

        Returns:
            As many as steps; none where seconds or evaluations are not known.
        """
        recorded = self.results.objectives[case.objective].record_steps
        counts = _mean_of_known(elapsed.evaluations(case, recorded)[rows])
        counts, recorded = counts[np.isfinite(counts)], recorded[np.isfinite(counts)]
        if not len(recorded) or (len(steps) and steps.max() > recorded[-1]):
            return NO_VALUES
        seconds = np.interp(steps, recorded, counts) * self.evaluation_seconds[case.position]
        return seconds if np.isfinite(seconds).all() else NO_VALUES

    def carried(self, cases: Sequence[CaseData]) -> str:
        """What curves show of trials that stopped early; empty where none of some cases did."""
        return CARRIED if any(case.position in self.stops for case in cases) else ""

    def counted(self, cases: Sequence[CaseData]) -> str:
        """What final values are of trials that stopped early; empty likewise."""
        return stopped.CARRIED if any(case.position in self.stops for case in cases) else ""

    def ran_on(self, objective: str) -> list[CaseData]:
        """The cases of an objective of which some trial ran."""
        return [c for c in self.results.cases_on(objective) if self.outcomes[c.position].ran]

    def best(self, cases: Sequence[CaseData], most: int) -> list[CaseData]:
        """So many of the cases, in order: of each optimizer and device those that do best.

        Each optimizer has one at least, unless there are more than ``OPTIMIZERS`` of them: then
        the best are kept, as many as are asked for.
        """
        groups: dict[tuple[str, str], list[CaseData]] = {}
        for case in self.ordered(cases):
            groups.setdefault((case.optimizer, case.device), []).append(case)
        places = sorted(
            (place, *self.rank(case), case.position)
            for group in groups.values()
            for place, case in enumerate(group)
        )
        most = max(most, len(groups)) if len(groups) <= OPTIMIZERS else most or OPTIMIZERS
        kept = {position for *_, position in places[:most]}
        return [case for case in cases if case.position in kept]

    def contenders(self, objective: str) -> list[CaseData]:
        """Of each optimizer and device its best case that ran, or its tuned one; best first.

        Of more than ``OPTIMIZERS``, those of the best.
        """
        ran = self.ran_on(objective)
        searched = {(case.optimizer, case.device) for case in ran if case.role == "tuned"}
        own = [c for c in ran if c.role != "defaults" or (c.optimizer, c.device) not in searched]
        return self.ordered(self.best(own, 0))

    def ordered(self, cases: Sequence[CaseData]) -> list[CaseData]:
        """The cases, best first: see :meth:`rank`."""
        return sorted(cases, key=self.rank)

    def rank(self, case: CaseData) -> tuple[int, float, str, str]:
        """The key by which a case is ranked: failures, then its loss, then its name alone.

        The loss is the median where the optimum is known, else the mean; where higher is better,
        the highest comes first.
        """
        outcome = self.outcomes[case.position]
        failed = outcome.total - outcome.counts.get("unavailable", 0) - len(outcome.losses)
        info = self.results.objectives[case.objective]
        value, _, _ = self.centre(case, median=info.optimum is not None)
        cost = info.measure.sign * value
        return failed, math.inf if math.isnan(cost) else cost, case.label, case.device

    def centre(self, case: CaseData, *, median: bool) -> tuple[float, float, float]:
        """A case's mean or median final loss with its interval; NaN where there is none."""
        mean, losses = self.means[case.position], self.outcomes[case.position].losses
        if not median or not len(losses):
            return mean.mean, mean.low, mean.high
        return float(np.median(losses)), *stats.median_interval(losses)

    def label(self, case: CaseData) -> str:
        """The case, and how many of its seeds ended ok where not all did."""
        note = self.outcomes[case.position].note
        return f"{case.label}, {note}" if note else case.label

    def epoch_seconds(self, case: CaseData) -> Array:
        """The finite times of a case's timed blocks, scaled to an epoch, in the order of blocks."""
        timings = self.results.timings
        own = timings.loc[timings["position"] == case.position, "epoch_seconds"]
        seconds: Array = np.asarray(own, dtype=np.float64)
        return seconds[np.isfinite(seconds)]


def _mean_of_known(rows: Array) -> Array:
    """The mean of each column's numbers; NaN of none."""
    known = ~np.isnan(rows)
    sums, counts = np.where(known, rows, 0.0).sum(axis=0), known.sum(axis=0)
    found: Array = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return found


def _stops(results: Results) -> dict[int, dict[int, int]]:
    """By position and seed, the step at which a trial stopped early."""
    found: dict[int, dict[int, int]] = {}
    early = stopped.early(results.trials)
    for position, seed, step in zip(early["position"], early["seed"], early["step"], strict=True):
        found.setdefault(int(position), {})[int(seed)] = int(step)
    return found


def _outcomes(results: Results) -> dict[int, CaseOutcome]:
    groups = results.trials_by_position
    found = {}
    for case in results.cases:
        if case.position not in groups:
            found[case.position] = CaseOutcome({}, NO_VALUES, NO_SEEDS)
            continue
        trials = groups[case.position]
        ok = trials[(trials["status"] == "ok") & np.isfinite(trials["final_loss"])]
        losses = ok["final_loss"].to_numpy(dtype=float)
        order = np.argsort(losses, kind="stable")
        counts = {str(s): int(n) for s, n in trials["status"].value_counts().items()}
        seeds = ok["seed"].to_numpy(dtype=np.int64)
        found[case.position] = CaseOutcome(counts, losses[order], seeds[order])
    return found
