"""Which case does better, and how sure that is: the trials of an objective, compared by seed.

A trial that did not end ok is worse than any that did: here its loss is infinite. Nothing stands
in for it where a difference is taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.frames import CaseData, Results

LEVEL = 0.05
"""Probability of calling any difference on an objective, if there is none."""

ALIKE = 1e-6
"""Relative spread of losses below which seeds end alike: a float32's rounding."""

MOST = 24
"""Most cases of which all pairs are compared; of more, those that do best are."""

Called = Literal["lower", "higher", "not told apart"]


@dataclass(frozen=True, eq=False)
class Field:
    """Cases that are compared with each other: of one objective on one device.

    Attributes:
        objective: Name of the objective.
        device: Where they ran.
        cases: Those of which some trial ran, in the spec's order.
        seeds: The seeds that all of them were run with, ascending.
        losses: Final loss, ``(cases, seeds)``; infinite where a trial did not end ok.
    """

    objective: str
    device: str
    cases: tuple[CaseData, ...]
    seeds: NDArray[np.int64]
    losses: NDArray[np.float64]

    @property
    def is_random(self) -> bool:
        """Whether anything depends on the seed, beyond rounding.

        Repeating what does not would make any difference look certain.
        """
        if len(self.seeds) < 2:
            return False
        failed = ~np.isfinite(self.losses)
        if (failed != failed[:, :1]).any():
            return True
        ok = self.losses[~failed[:, 0]]
        return bool((np.ptp(ok, axis=1) > ALIKE * np.abs(ok).max(axis=1)).any())

    @property
    def failures(self) -> NDArray[np.int64]:
        """How many trials of each case did not end ok."""
        return np.asarray((~np.isfinite(self.losses)).sum(axis=1), dtype=np.int64)

    def order(self) -> list[int]:
        """Indices of the cases, best first: by trials that did not end ok, then by mean loss."""
        means = [_mean_of_finite(row) for row in self.losses]
        failed = self.failures
        return sorted(range(len(self.cases)), key=lambda i: (int(failed[i]), means[i], i))


@dataclass(frozen=True)
class Pair:
    """Two cases on the same seeds.

    Attributes:
        first: Index of the one case.
        second: Index of the other.
        n: Seeds that both were run with.
        failed: How many trials of each did not end ok.
        both: Seeds at which both ended ok.
        difference: Mean of the first's loss less the second's, over those; NaN without any.
        low: Lower end of its bootstrap-t interval; NaN of fewer than two.
        high: Upper end.
        effect: Matched-pairs rank-biserial correlation over all seeds: -1 where the first is
            always lower, 1 where it is always higher.
        standardized: Cohen's d of the differences, over the seeds at which both ended ok.
        p: Of the Wilcoxon signed-rank test over all seeds, a failed trial being the worst.
        adjusted: The same by Holm's method, for all pairs of the field.
    """

    first: int
    second: int
    n: int
    failed: tuple[int, int]
    both: int
    difference: float
    low: float
    high: float
    effect: float
    standardized: float
    p: float
    adjusted: float

    @property
    def called(self) -> Called:
        """What may be said of the first, at the level that all pairs share."""
        if not self.adjusted <= LEVEL or self.effect == 0:
            return "not told apart"
        return "lower" if self.effect < 0 else "higher"

    def seen_from(self, index: int) -> Pair:
        """The same pair, with that case as the first."""
        if index == self.first:
            return self
        return Pair(
            self.second, self.first, self.n, self.failed[::-1], self.both, -self.difference,
            -self.high, -self.low, -self.effect, -self.standardized, self.p, self.adjusted,
        )  # fmt: skip


@dataclass(frozen=True)
class Rank:
    """How a case ranks among the others of its field, seed by seed.

    Attributes:
        mean: Mean rank, 1 the best; ties share theirs, failed trials are tied for the last.
        low: Lower end of its BCa bootstrap interval over seeds; NaN of fewer than two seeds.
        high: Upper end.
        first: Share of seeds at which no other is better.
    """

    mean: float
    low: float
    high: float
    first: float


def mean_losses(results: Results) -> dict[int, stats.Mean]:
    """By a case's position, its mean final loss over the seeds that ended ok, with its interval."""
    trials = results.trials
    ok = trials[(trials["status"] == "ok") & np.isfinite(trials["final_loss"])]
    losses = {
        position: own.to_numpy(dtype=float)
        for position, own in ok.groupby("position")["final_loss"]
    }
    rows = [losses.get(case.position, np.empty(0)) for case in results.cases]
    found = stats.means(rows)
    return {case.position: mean for case, mean in zip(results.cases, found, strict=True)}


def fields(results: Results) -> list[Field]:
    """What can be compared: for each objective and device, the cases that ran, on shared seeds."""
    found = []
    for objective in results.objectives:
        cases = results.cases_on(objective)
        for device in dict.fromkeys(case.device for case in cases):
            field = _field(results, objective, device)
            if field is not None:
                found.append(field)
    return found


def pairs(field: Field) -> list[Pair]:
    """Every pair of a field's cases, each case against those after it in the spec.

    Where there are more than ``MOST`` cases, only those that do best are paired; the correction
    for multiplicity counts all pairs nevertheless, for which are best is known from these seeds.
    """
    kept = sorted(field.order()[:MOST])
    found = list(itertools.combinations(kept, 2))
    if not found or len(field.seeds) < 2:
        return []
    everything = len(field.cases) * (len(field.cases) - 1) // 2
    return paired([(field.losses[a], field.losses[b]) for a, b in found], found, everything)


def paired(
    losses: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    indices: Sequence[tuple[int, int]],
    family: int | None = None,
) -> list[Pair]:
    """Pairs of what was run with the same seeds, all tested together.

    Args:
        losses: Of each pair the final losses of the one and of the other, by seed; infinite where
            a trial did not end ok.
        indices: What the two of each pair are called.
        family: Number of hypotheses, if these pairs are only those that may be told apart.
    """
    differences = [_differences(one, other) for one, other in losses]
    finite = [row[np.isfinite(row) & ok] for (row, ok) in differences]
    intervals = stats.bootstrap_t_intervals(finite)
    tests = [stats.signed_rank(row) for row, _ in differences]
    adjusted = stats.holm([test.p for test in tests], family)
    return [
        Pair(
            first=indices[i][0],
            second=indices[i][1],
            n=len(differences[i][0]),
            failed=(_failed(losses[i][0]), _failed(losses[i][1])),
            both=len(values),
            difference=float(values.mean()) if len(values) else math.nan,
            low=float(low),
            high=float(high),
            effect=test.effect,
            standardized=stats.standardized_difference(values),
            p=test.p,
            adjusted=float(p),
        )
        for i, (values, (low, high), test, p) in enumerate(
            zip(finite, intervals, tests, adjusted, strict=True)
        )
    ]


def ranks(field: Field) -> tuple[list[Rank], float]:
    """How each case of a field ranks, and the p-value of Friedman's test that all do alike.

    The p-value is NaN where there are fewer than three cases or two seeds.
    """
    table = stats.mean_ranks(field.losses)
    intervals = stats.bootstrap_intervals(table)
    best = table == table.min(axis=0)
    _, p = stats.friedman(field.losses)
    found = [
        Rank(float(row.mean()), float(low), float(high), float(first.mean()))
        for row, first, (low, high) in zip(table, best, intervals, strict=True)
    ]
    return found, p


def _field(results: Results, objective: str, device: str) -> Field | None:
    trials = results.trials
    here = trials[(trials["objective"] == objective) & (trials["device"] == device)]
    here = here[here["status"] != "unavailable"]
    table = here.assign(loss=here["final_loss"].where(here["status"] == "ok", np.inf)).pivot(
        index="position", columns="seed", values="loss"
    )
    table = table.dropna(axis=1)
    if table.empty:
        return None
    cases = {case.position: case for case in results.cases_on(objective)}
    return Field(
        objective=objective,
        device=device,
        cases=tuple(cases[position] for position in table.index),
        seeds=table.columns.to_numpy(dtype=np.int64),
        losses=table.to_numpy(dtype=np.float64),
    )


def _differences(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Differences for ranks (0 where both failed), and where both are finite."""
    ok = np.isfinite(first) & np.isfinite(second)
    with np.errstate(invalid="ignore"):
        rows = np.where(np.isinf(first) & np.isinf(second), 0.0, first - second)
    return rows, ok


def _failed(losses: NDArray[np.float64]) -> int:
    return int((~np.isfinite(losses)).sum())


def _mean_of_finite(row: NDArray[np.float64]) -> float:
    finite = row[np.isfinite(row)]
    return float(finite.mean()) if len(finite) else math.inf


@dataclass(frozen=True, eq=False)
class Compared:
    """A field with what comparing its cases gave.

    Attributes:
        field: The cases and seeds.
        pairs: Every pair; none where no seed changes anything.
        ranks: In the order of the cases.
        friedman: P-value of Friedman's test that all cases rank alike; NaN where it has none.
    """

    field: Field
    pairs: tuple[Pair, ...]
    ranks: tuple[Rank, ...]
    friedman: float

    @property
    def least_adjusted(self) -> float:
        """The least adjusted p-value that so many seeds and pairs can show."""
        count = len(self.field.cases)
        return min(1.0, 2.0 ** (1 - len(self.field.seeds)) * count * (count - 1) / 2)

    def between(self, first: int, second: int) -> Pair | None:
        """A pair as seen from the first of two cases, by index; None where it wasn't compared."""
        for pair in self.pairs:
            if {pair.first, pair.second} == {first, second}:
                return pair.seen_from(first)
        return None


def compare(results: Results) -> list[Compared]:
    """Compare what can be compared: see :func:`fields`, :func:`pairs` and :func:`ranks`."""
    found = []
    for field in fields(results):
        own = ranks(field) if len(field.cases) > 1 else ([], math.nan)
        found.append(
            Compared(
                field=field,
                pairs=tuple(pairs(field)) if field.is_random else (),
                ranks=tuple(own[0]),
                friedman=own[1] if field.is_random else math.nan,
            )
        )
    return found
