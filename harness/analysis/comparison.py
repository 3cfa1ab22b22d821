"""Comparison of the trials of an objective, seed by seed: which case does better, how surely.

What is compared are costs: values of what is reported where lower is better, their negatives where
higher is. A failed trial is worse than any other: its cost is infinite. Nothing stands in for it
where a difference is taken.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.analysis import rank_tests, stats
from harness.analysis.ranks import Rank, ranks
from harness.analysis.ties import differences, floors, same_course
from harness.measures import TRAIN_LOSS, Measure
from harness.store.read import CaseData, Results

ALPHA = 0.05
"""Probability of calling any difference of a family of pairs, if there is none."""

REL_TOL = 1e-6
"""Relative spread of losses below which seeds give the same result: a float32's rounding."""

MAX_PAIRED_CASES = 24
"""Most cases of which all pairs are compared; of more, those that do best are."""

Array = NDArray[np.float64]
Called = Literal["better", "worse", "tied", "not significantly different"]


@dataclass(frozen=True, eq=False)
class ComparisonGroup:
    """Cases that are compared with each other: of one objective on one device.

    Attributes:
        objective: Name of the objective.
        device: Where they ran.
        cases: Those of which some trial ran, in the spec's order.
        seeds: The seeds that all of them were run with, ascending.
        losses: Costs: final values of ``measure``, their negatives where higher is better,
            ``(cases, seeds)``; infinite where a trial failed.
        floors: By seed, the difference of costs below which two are tied; see
            :func:`~harness.analysis.ties.floors`.
        rounding: The share of a cost below which a difference is a tie as well.
        smallest: The smallest difference that matters, as the spec has it; 0 where it has none.
        optimum: The lowest cost there is; None where that is not known.
        measure: What is compared.
        words: What texts call it; see :attr:`~harness.store.read.ObjectiveInfo.words`.
    """

    objective: str
    device: str
    cases: tuple[CaseData, ...]
    seeds: NDArray[np.int64]
    losses: Array
    floors: Array = field(default_factory=lambda: np.zeros(1))
    rounding: float = 0.0
    smallest: float = 0.0
    optimum: float | None = None
    measure: Measure = TRAIN_LOSS
    words: str = "loss"

    def shown(self, cost: float) -> float:
        """The value of what is compared that a cost stands for; the same for differences."""
        return self.measure.sign * cost + 0.0  # a zero has no sign

    def shown_shift(self, pair: Pair) -> tuple[float, float, float]:
        """The shift of a pair, first value less second value, and the ends of its interval."""
        return pair.in_values(self.measure)

    @functools.cached_property
    def alike(self) -> NDArray[np.bool_]:
        """For each case, whether all seeds give the same result, but for rounding; ``(cases,)``.

        Its trials are copies of one run: repeating that would make any difference look certain.
        Of a measure such as the accuracy, which has few values, trials may share one by chance:
        there they are copies where their losses on train are the same as well.
        """
        failed = ~np.isfinite(self.losses)
        same_end = (failed == failed[:, :1]).all(axis=1)
        known = np.where(failed, 0.0, self.losses)
        size = np.abs(known).max(axis=1, initial=0.0)
        with np.errstate(over="ignore"):
            spread = np.ptp(known, axis=1) if len(self.seeds) else np.zeros(len(known))
        floor = np.maximum(REL_TOL * size, self.rounding_floor)
        found = same_end & (spread <= floor)
        if self.measure.metric != "loss":
            found &= np.array([same_course(case, self.seeds, REL_TOL) for case in self.cases])
        return np.asarray(found, dtype=np.bool_)

    @property
    def rounding_floor(self) -> float:
        """The largest difference of costs that rounding at the start alone explains."""
        return float(self.floors.max(initial=0.0)) - self.smallest

    @property
    def is_random(self) -> bool:
        """True where something depends on the seed, beyond rounding; not known of a single seed."""
        return len(self.seeds) > 1 and not bool(self.alike.all())

    @property
    def failures(self) -> NDArray[np.int64]:
        """The number of failed trials of each case."""
        return np.asarray((~np.isfinite(self.losses)).sum(axis=1), dtype=np.int64)

    @property
    def centre(self) -> Literal["mean", "median"]:
        """The statistic that stands for the costs of a case's trials that ended ok.

        Where the optimum is known, losses less the optimum span orders of magnitude, and a mean
        is that of the worst seed: then it is the median.
        """
        return "mean" if self.optimum is None else "median"

    @functools.cached_property
    def centres(self) -> Array:
        """Each case's mean or median cost, see ``centre``; infinite where no trial ended ok."""
        centre = stats.average if self.optimum is None else np.median
        rows = (row[np.isfinite(row)] for row in self.losses)
        return np.array([float(centre(row)) if len(row) else math.inf for row in rows])

    def order(self) -> list[int]:
        """Indices of the cases, best first: by failed trials, then ``centres``, then label."""
        failed, centres, cases = self.failures, self.centres, self.cases
        return sorted(
            range(len(cases)), key=lambda i: (int(failed[i]), float(centres[i]), cases[i].label)
        )

    def differences(self, first: int, second: int) -> Array:
        """The first case's costs less the second's, by seed; 0 where they are tied."""
        one, other = self.losses[first], self.losses[second]
        return differences(one, other, self.floors, self.rounding)

    def ranks(self) -> Array:
        """Mid-ranks of the cases within each seed, ``(cases, seeds)``; 1 is the best.

        A cost is tied with the lowest of those before it that it does not differ from.
        """
        table = self.losses.copy()
        for seed in range(table.shape[1]):
            order = np.argsort(table[:, seed], kind="stable")
            level = order[0]
            for i in order[1:]:
                pair = table[[i], seed], table[[level], seed]
                floor = self.floors[[seed % len(self.floors)]]
                if differences(*pair, floor, self.rounding)[0] == 0:
                    table[i, seed] = table[level, seed]
                else:
                    level = i
        return rank_tests.mean_ranks(table)


@dataclass(frozen=True)
class Pair:
    """Two cases on the same seeds.

    Attributes:
        first: Index of the one case.
        second: Index of the other.
        n: Seeds that both were run with.
        failed: Number of failed trials of each.
        both: Seeds at which both ended ok.
        better: Seeds at which the first is the better, the other's failures included; a
            difference below the floor is none.
        worse: Seeds at which it is the worse.
        shift: Hodges-Lehmann estimate of the first's cost less the second's, over all seeds:
            below 0, the first is better; infinite where failures decide it. Where all seeds give
            the same result, the difference. :meth:`in_values` has it in values.
        low: Lower end of its 95% interval; NaN where seeds are too few or all alike.
        high: Upper end.
        effect: Matched-pairs rank-biserial correlation over all seeds: -1 where the first is
            always better, 1 where it is always worse; NaN where all seeds give the same result.
        p: Of the Wilcoxon signed-rank test over all seeds, a failed trial being the worst; NaN
            where all seeds give the same result: copies of one run are not tested.
        adjusted: The same by Holm's method, for all pairs of the family.
        p_ok: Of the test over the seeds at which both ended ok.
        effect_ok: The effect over these.
    """

    first: int
    second: int
    n: int
    failed: tuple[int, int]
    both: int
    better: int
    worse: int
    shift: float
    low: float
    high: float
    effect: float
    p: float
    adjusted: float
    p_ok: float
    effect_ok: float

    @property
    def is_tested(self) -> bool:
        """True where some seed makes a difference, so that chance is a matter."""
        return not math.isnan(self.p)

    @property
    def called(self) -> Called:
        """The result for the first case, at the level that all pairs share."""
        if self.better == self.worse == 0:
            return "tied"
        if not self.is_tested:
            # Of copies of one run every seed says the same, or they differ by rounding alone.
            if self.better == self.n:
                return "better"
            return "worse" if self.worse == self.n else "tied"
        if not self.adjusted <= ALPHA or self.effect == 0:
            return "not significantly different"
        return "better" if self.effect < 0 else "worse"

    @property
    def by_failures(self) -> bool:
        """True where it is called and the seeds at which both ended ok do not say the same."""
        if self.called not in ("better", "worse") or not any(self.failed):
            return False
        if not self.is_tested:
            return not math.isfinite(self.shift)
        return not (self.p_ok <= ALPHA and self.effect_ok * self.effect > 0)

    @property
    def has_shift(self) -> bool:
        """True where the shift and its interval are finite and on one side of 0."""
        ends = (self.low, self.high) if self.is_tested else (self.shift, self.shift)
        return math.isfinite(self.shift) and (ends[0] > 0 or ends[1] < 0)

    def in_values(self, measure: Measure) -> tuple[float, float, float]:
        """The shift, first value less second value, and the ends of its interval.

        Args:
            measure: What the costs are of.
        """
        low, high = (self.high, self.low) if measure.higher else (self.low, self.high)
        shift, low, high = (measure.sign * end + 0.0 for end in (self.shift, low, high))
        return shift, low, high

    def seen_from(self, index: int) -> Pair:
        """The same pair, with that case as the first."""
        if index == self.first:
            return self
        return replace(
            self,
            first=self.second,
            second=self.first,
            failed=self.failed[::-1],
            better=self.worse,
            worse=self.better,
            shift=-self.shift,
            low=-self.high,
            high=-self.low,
            effect=-self.effect,
            effect_ok=-self.effect_ok,
        )


def mean_losses(results: Results) -> dict[int, stats.Mean]:
    """By a case's position, the mean of what is reported over the seeds that ended ok.

    These are values, not costs, with the interval of the mean.
    """
    trials = results.trials
    ok = trials[(trials["status"] == "ok") & np.isfinite(trials["final_loss"])]
    losses = {
        position: own.to_numpy(dtype=float)
        for position, own in ok.groupby("position")["final_loss"]
    }
    rows = [losses.get(case.position, np.empty(0)) for case in results.cases]
    found = {}
    for case, row, mean in zip(results.cases, rows, stats.means(rows), strict=True):
        is_share = results.objectives[case.objective].measure.is_share
        found[case.position] = stats.of_shares(mean, row) if is_share else mean
    return found


def groups(results: Results) -> list[ComparisonGroup]:
    """For each objective and device, the cases that ran, on shared seeds."""
    found = []
    for objective in results.objectives:
        devices = dict.fromkeys(case.device for case in results.cases_on(objective))
        found += [_group(results, objective, device) for device in devices]
    return [group for group in found if group is not None]


def pairs(group: ComparisonGroup) -> list[Pair]:
    """Every pair of a group's cases, each case against those after it in the spec.

    Of more than ``MAX_PAIRED_CASES`` cases, only those that do best are paired; the correction
    for multiplicity counts all pairs nevertheless, for which are best is known from these seeds.
    """
    kept = sorted(group.order()[:MAX_PAIRED_CASES])
    found = list(itertools.combinations(kept, 2))
    if not found or len(group.seeds) < 2:
        return []
    return paired(
        [(group.losses[a], group.losses[b]) for a, b in found],
        found,
        family(group),
        floors=[group.floors] * len(found),
        rounding=group.rounding,
        copies=[bool(group.alike[[a, b]].all()) for a, b in found],
    )


def family(group: ComparisonGroup) -> int:
    """The number of a group's pairs that can be tested: all but those of copies of one run."""
    copies = int(group.alike.sum())
    return math.comb(len(group.cases), 2) - math.comb(copies, 2)


def paired(
    losses: Sequence[tuple[Array, Array]],
    indices: Sequence[tuple[int, int]],
    family: int | None = None,
    *,
    floors: Sequence[Array] = (),
    rounding: float = 0.0,
    copies: Sequence[bool] = (),
) -> list[Pair]:
    """Pairs of what was run with the same seeds, all tested together.

    Args:
        losses: Of each pair the costs of the one and of the other, by seed; infinite where a
            trial failed.
        indices: What the two of each pair are called.
        family: Number of hypotheses, if these pairs are only those that may be told apart.
        floors: Of each pair the difference, by seed, below which two costs are tied; none if
            left out.
        rounding: The share of a cost below which a difference is a tie.
        copies: Of each pair whether all its seeds give the same result, so nothing is tested.
    """
    found = []
    for i, ((one, other), (first, second)) in enumerate(zip(losses, indices, strict=True)):
        own = differences(one, other, floors[i] if floors else np.zeros(1), rounding)
        found.append(_pair(one, other, own, first, second, copy=bool(copies) and copies[i]))
    return adjusted(found, family)


def adjusted(pairs: Sequence[Pair], family: int | None = None) -> list[Pair]:
    """The same pairs with p-values corrected for all that are tested, by Holm's method.

    Args:
        pairs: Any pairs; those that are not tested stay as they are.
        family: Number of hypotheses, if these pairs are not all.
    """
    tested = [i for i, pair in enumerate(pairs) if pair.is_tested]
    values = iter(rank_tests.holm([pairs[i].p for i in tested], family if tested else None))
    return [replace(p, adjusted=float(next(values))) if p.is_tested else p for p in pairs]


def _pair(
    one: Array,
    other: Array,
    less: Array,
    first: int,
    second: int,
    *,
    copy: bool,
) -> Pair:
    both = np.isfinite(one) & np.isfinite(other)
    ok = rank_tests.signed_rank(less[both])
    test, shift = rank_tests.signed_rank(less), rank_tests.hodges_lehmann(less)
    if copy:
        test = rank_tests.SignedRank(math.nan, math.nan, len(less), 0)
        shift = rank_tests.Shift(float(np.median(less)), math.nan, math.nan)
    return Pair(
        first=first,
        second=second,
        n=len(less),
        failed=(int(np.isinf(one).sum()), int(np.isinf(other).sum())),
        both=int(both.sum()),
        better=int((less < 0).sum()),
        worse=int((less > 0).sum()),
        shift=shift.estimate,
        low=shift.low,
        high=shift.high,
        effect=test.effect,
        p=test.p,
        adjusted=test.p,
        p_ok=math.nan if copy else ok.p,
        effect_ok=math.nan if copy else ok.effect,
    )


def _group(results: Results, objective: str, device: str) -> ComparisonGroup | None:
    trials, info = results.trials, results.objectives[objective]
    here = trials[(trials["objective"] == objective) & (trials["device"] == device)]
    here = here[here["status"] != "unavailable"]
    is_ok = (here["status"] == "ok") & np.isfinite(here["final_loss"])
    costs = (info.measure.sign * here["final_loss"]).where(is_ok, np.inf)
    table = here.assign(cost=costs).pivot(index="position", columns="seed", values="cost")
    table = table.dropna(axis=1)
    if table.empty:
        return None
    by_position = {case.position: case for case in results.cases_on(objective)}
    cases = tuple(by_position[position] for position in table.index)
    seeds = table.columns.to_numpy(dtype=np.int64)
    smallest = results.run.settings.smallest_differences.get(objective, 0.0)
    return ComparisonGroup(
        objective=objective,
        device=device,
        cases=cases,
        seeds=seeds,
        losses=table.to_numpy(dtype=np.float64),
        floors=floors(cases, seeds, smallest, info.measure),
        rounding=max(stats.ROUNDING[case.dtype] for case in cases),
        smallest=smallest,
        optimum=info.optimum if info.measure == TRAIN_LOSS else None,
        measure=info.measure,
        words=info.words,
    )


@dataclass(frozen=True, eq=False)
class Compared:
    """A group with what comparing its cases gave.

    Attributes:
        group: The cases and seeds.
        pairs: Every pair; none of a single seed.
        ranks: In the order of the cases.
        friedman: P-value of Friedman's test that all cases rank alike; NaN where it has none.
        family: How many pairs the correction for multiplicity counts.
        of_page: Whether these are the pairs of all objectives, not of this one alone.
    """

    group: ComparisonGroup
    pairs: tuple[Pair, ...]
    ranks: tuple[Rank, ...]
    friedman: float
    family: int
    of_page: bool = False

    @property
    def tested(self) -> tuple[Pair, ...]:
        """The pairs that chance is a matter of."""
        return tuple(pair for pair in self.pairs if pair.is_tested)

    @property
    def least_adjusted(self) -> float:
        """The least adjusted p-value that so many seeds and pairs can show."""
        return min(1.0, 2.0 ** (1 - len(self.group.seeds)) * self.family)

    def between(self, first: int, second: int) -> Pair | None:
        """A pair as seen from the first of two cases, by index; None where it wasn't compared."""
        for pair in self.pairs:
            if {pair.first, pair.second} == {first, second}:
                return pair.seen_from(first)
        return None


def compare(results: Results) -> list[Compared]:
    """Compare what can be compared: see :func:`groups`, :func:`pairs` and :func:`ranks.ranks`.

    Holm's correction is for the pairs of one objective on one device or, where the spec asks for
    it, for those of the whole page.
    """
    found = []
    for group in groups(results):
        own, p = ranks(group) if len(group.cases) > 1 else ([], math.nan)
        friedman = p if group.is_random else math.nan
        found.append(Compared(group, tuple(pairs(group)), tuple(own), friedman, family(group)))
    if results.run.settings.correction != "page":
        return found
    total = sum(one.family for one in found if one.pairs)
    together = iter(adjusted([pair for one in found for pair in one.pairs], total))
    return [
        replace(one, pairs=tuple(next(together) for _ in one.pairs), family=total, of_page=True)
        for one in found
    ]


def called_between(compared: Sequence[Compared], case: CaseData, other: CaseData) -> str:
    """The result of comparing two cases; empty where they were not compared."""
    for one in compared:
        index = {own.position: i for i, own in enumerate(one.group.cases)}
        if case.position in index and other.position in index:
            pair = one.between(index[case.position], index[other.position])
            return pair.called if pair is not None else ""
    return ""
