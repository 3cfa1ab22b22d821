"""Tables of who does better: differences, ranks, parity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.comparison import ALPHA, MAX_PAIRED_CASES, Compared, ComparisonGroup, Pair
from harness.analysis.objective_ranks import ObjectiveRanks
from harness.analysis.ranks import Rank
from harness.analysis.summary import Analysis
from harness.formatting import (
    DASH,
    digits,
    fixed,
    interval,
    listed,
    or_dash,
    probability,
    share,
    shift,
)
from harness.measures import TRAIN_LOSS
from harness.reporting import wording
from harness.reporting.tables import tuning
from harness.reporting.tables.model import Column, Table, case_columns, table_of
from harness.reporting.tables.targets import profile as profile
from harness.reporting.tables.targets import reached as reached
from harness.store.read import CaseData, Results

Array = NDArray[np.float64]


def build(results: Results, analysis: Analysis) -> list[Table]:
    """Every table of a comparison that the results allow."""
    settings = results.run.settings
    goal = settings.tuning.goal if settings.tuning else "final_loss"
    tables = (
        ranks(analysis.compared),
        mean_ranks(analysis.ranked),
        differences(analysis.compared),
        reached(analysis.reached),
        profile(analysis.pools),
        tuning.tuning(
            analysis.tuned, len(settings.tuning_seeds), goal, len(settings.finalist_seeds)
        ),
        tuning.retuned(analysis.retuned, analysis.compared),
        tuning.sensitive(analysis.curves),
        tuning.claimed(analysis.claims),
        parity(results),
    )
    return [table for table in tables if table is not None]


class _Difference(NamedTuple):
    pair: Pair
    first: CaseData
    second: CaseData
    group: ComparisonGroup

    @property
    def shift(self) -> tuple[float, float, float]:
        """The difference of values, with its interval."""
        return self.group.shown_shift(self.pair)


def _shift(row: _Difference) -> tuple[str, str]:
    return shift(*row.shift)


def _verdict(pair: Pair) -> str:
    more = " (more failures)" * pair.by_failures
    return pair.called + more if pair.called == "worse" else pair.called


def _if_tested(row: _Difference, count: int) -> str:
    return str(count) if row.pair.is_tested else DASH


_MEASURE: Column[_Difference] = Column("measure", "", lambda r: r.group.words)

_DIFFERENCES: tuple[Column[_Difference], ...] = (
    Column("objective", "objective", lambda r: r.first.objective),
    Column("device", "device", lambda r: r.first.device),
    Column("case", "case", lambda r: r.first.label),
    Column("called", "", lambda r: r.pair.called),
    Column("decided_by_failures", "", lambda r: "yes" if r.pair.by_failures else "no"),
    Column("", "verdict", lambda r: _verdict(r.pair)),
    Column("against", "against", lambda r: r.second.label),
    _MEASURE,
    Column("shift", "difference", lambda r: r.shift[0], text=lambda r: _shift(r)[0]),
    Column("ci_low", "", lambda r: r.shift[1]),
    Column("ci_high", "", lambda r: r.shift[2]),
    Column("", "95% interval", lambda r: _shift(r)[1]),
    Column("p_holm", "p (Holm)", lambda r: r.pair.adjusted, probability),
    Column("p", "p", lambda r: r.pair.p, probability),
    Column("rank_biserial", "effect", lambda r: r.pair.effect, fixed(2)),
    Column(
        "better", "better", lambda r: r.pair.better, text=lambda r: _if_tested(r, r.pair.better)
    ),
    Column("worse", "worse", lambda r: r.pair.worse, text=lambda r: _if_tested(r, r.pair.worse)),
    Column("n", "n", lambda r: r.pair.n),
    Column("both_ok", "", lambda r: r.pair.both),
    Column("case_failed", "", lambda r: r.pair.failed[0]),
    Column("against_failed", "", lambda r: r.pair.failed[1]),
    Column("", "failed", lambda r: r.pair.failed, lambda n: f"{n[0]}, {n[1]}" if any(n) else "0"),
)


def corrected_for(compared: Sequence[Compared]) -> str:
    """The pairs that share the level, as a text."""
    of_page = any(one.of_page for one in compared)
    return f"all pairs of {'all objectives' if of_page else 'an objective'} together"


def differences(compared: Sequence[Compared]) -> Table | None:
    """Every pair of cases, on the same seeds."""
    rows = [
        _Difference(pair, one.group.cases[pair.first], one.group.cases[pair.second], one.group)
        for one in compared
        for pair in one.pairs
    ]
    groups = [one.group for one in compared if one.pairs]
    words = wording.common(groups)
    note = (
        f"{words.capitalize()} of the case minus that of the other, seed by seed: "
        f"{_better(groups)}. "
        "Better and worse: the number of the n seeds at which it is; a difference below the "
        f"rounding of the {words}, or below the smallest that matters by the spec, counts as "
        "neither. p: Wilcoxon's signed-rank test, two-sided, over all n seeds; a failed trial "
        "counts as the worst, and failed has the number of them for each of the two. Difference: "
        "the Hodges-Lehmann estimate that belongs to this test, over the same seeds, with the 95% "
        "interval of shifts that it does not reject; infinite where failures decide. Effect: "
        "matched-pairs rank-biserial correlation, from -1 (always better) to 1. Verdict: the test "
        f"with Holm's correction, at {share(ALPHA)} for {corrected_for(compared)}. Where all "
        "seeds give the same result there is no test and no interval."
    )
    if any(len(one.group.cases) > MAX_PAIRED_CASES for one in compared):
        best = f"the best {MAX_PAIRED_CASES} are paired; the correction is for all."
        note += f" Of more than {MAX_PAIRED_CASES} cases, {best}"
    columns = [c for c in _DIFFERENCES if words != wording.LOSS or c is not _MEASURE]
    return table_of("differences", "Differences between pairs", columns, rows, note)


def _better(groups: Iterable[ComparisonGroup]) -> str:
    """The sign of the difference of a case that is better."""
    by_side: dict[bool, list[str]] = {}
    for group in groups:
        by_side.setdefault(group.measure.higher, []).append(group.words)
    if len(by_side) < 2:
        return f"{'above' if True in by_side else 'below'} 0, the case is better"
    below, above = (listed(list(dict.fromkeys(by_side[side]))) for side in (False, True))
    return f"the case is better below 0 of {below}, above 0 of {above}"


class _Rank(NamedTuple):
    rank: Rank
    case: CaseData
    failed: int
    among: Compared


_RANKS: tuple[Column[_Rank], ...] = (
    *case_columns(lambda row: row.case),
    Column("mean_rank", "", lambda r: r.rank.mean),
    Column("", "mean rank", lambda r: f"{r.rank.mean:.2f} of {len(r.among.ranks)}"),
    Column("ci_low", "", lambda r: r.rank.low),
    Column("ci_high", "", lambda r: r.rank.high),
    Column("", "95% interval", lambda r: _interval(r.rank)),
    Column("first_share", "best or tied", lambda r: r.rank.first, share),
    Column("", "p (Friedman)", lambda r: probability(r.among.friedman)),
    Column("of", "", lambda r: len(r.among.ranks)),
    Column("n", "n", lambda r: len(r.among.group.seeds)),
    Column("failed", "failed", lambda r: r.failed),
    Column("friedman_p", "", lambda r: r.among.friedman),
)


def _interval(rank: Rank) -> str:
    return interval(rank.low, rank.high, 2) if rank.low < rank.high else DASH


def ranks(compared: Sequence[Compared]) -> Table | None:
    """Ranks of the cases of each objective, seed by seed."""
    rows = [
        _Rank(rank, case, int(failed), one)
        for one in compared
        if one.group.is_random
        for rank, case, failed in zip(one.ranks, one.group.cases, one.group.failures, strict=False)
    ]
    groups = [one.group for one in compared if one.group.is_random]
    best = wording.common_extreme(groups)
    note = (
        f"Rank of the final {wording.common(groups)} among the objective's cases, seed by seed, 1 "
        f"the {best}; ties "
        "share their mean, and failed trials (failed: their number) are tied for last. Interval: "
        "95%, bootstrap-t over the n seeds, five or more. Best or tied: share of seeds at which no "
        f"other case is {_comparative(best)}. p: Friedman's test that all cases rank alike."
    )
    return table_of("ranks", "Ranks", _RANKS, rows, note)


def _comparative(extreme: str) -> str:
    return {"lowest": "lower", "highest": "higher"}.get(extreme, "better")


class _MeanRank(NamedTuple):
    ranked: ObjectiveRanks
    place: int

    @property
    def mean(self) -> float:
        return float(self.ranked.means[self.place])

    @property
    def is_worse(self) -> bool:
        """True where the mean rank is significantly worse than the best one."""
        return self.mean - float(self.ranked.means[0]) > self.ranked.difference


_FIRST_ON: Column[_MeanRank] = Column(
    "lowest_on", "lowest loss on", lambda r: int((r.ranked.ranks[r.place] == 1).sum())
)

_MEAN_RANKS: tuple[Column[_MeanRank], ...] = (
    Column("optimizer", "optimizer", lambda r: r.ranked.optimizers[r.place]),
    Column("device", "device", lambda r: r.ranked.device),
    Column("mean_rank", "mean rank", lambda r: r.mean, fixed(2)),
    _FIRST_ON,
    Column("objectives", "objectives", lambda r: len(r.ranked.blocks)),
    Column("critical_difference", "critical difference", lambda r: r.ranked.difference, fixed(2)),
    Column("worse_than_best", "worse than the best", lambda r: "yes" if r.is_worse else "no"),
    Column("iman_davenport_p", "p (all alike)", lambda r: r.ranked.p, probability),
)


def mean_ranks(ranked: Sequence[ObjectiveRanks]) -> Table | None:
    """Mean ranks of optimizers over the objectives, with the critical difference."""
    rows = [_MeanRank(one, place) for one in ranked for place in range(len(one.optimizers))]
    groups = [group for one in ranked for group in one.groups]
    words, best = wording.common(groups), wording.common_extreme(groups)
    first = replace(_FIRST_ON, heading=f"{best} {words} on")
    if words != wording.LOSS:
        first = replace(first, key="best_on")
    columns = [first if column is _FIRST_ON else column for column in _MEAN_RANKS]
    note = (
        "Rank of the optimizer's tuned or best setting on each objective (or family of them) by "
        f"failed trials, then by {words}, 1 the best; ties share their mean. Worse than the best: "
        "its mean rank is larger by more than the critical difference of Nemenyi's test, at 5% for "
        "all pairs. p: Iman and Davenport's version of Friedman's test (Demšar, Journal of Machine "
        "Learning Research 7, 2006). The best setting of a grid is picked on these same seeds."
    )
    return table_of("mean_ranks", "Mean ranks over objectives", columns, rows, note)


class _Parity(NamedTuple):
    case: CaseData
    other: CaseData
    parameters: float
    step: float
    loss: float
    scale: float
    because: str
    failed: tuple[int, int]


_PARITY: tuple[Column[_Parity], ...] = (
    *case_columns(lambda row: row.case),
    Column("counterpart", "counterpart", lambda r: r.other.optimizer),
    Column("parameters_apart", "largest parameter difference", lambda r: r.parameters, digits(2)),
    Column("at_step", "at step", lambda r: r.step, fixed(0)),
    Column("losses_apart", "largest loss difference", lambda r: r.loss, digits(2)),
    Column(
        "losses_apart_relative",
        "relative",
        lambda r: r.loss / r.scale if r.scale else math.nan,
        digits(2),
    ),
    Column("because", "reason", lambda r: r.because, or_dash),
    Column("failed", "", lambda r: r.failed[0]),
    Column("counterpart_failed", "", lambda r: r.failed[1]),
    Column("", "failed", lambda r: f"{r.failed[0]}, {r.failed[1]}"),
)


def parity(results: Results) -> Table | None:
    """Differences between optimizers that should do the same."""
    rows = []
    ran = results.trials[~results.trials["status"].isin(["ok", "unavailable"])]
    failed = Counter(ran["position"].tolist())
    for name, given in results.run.settings.counterparts.items():
        for case, other in _counterparts(results, name, given.optimizer):
            counts = failed[case.position], failed[other.position]
            apart, loss_apart = _parameters_apart(case, other), _losses_apart(case, other)
            rows.append(_Parity(case, other, *apart, *loss_apart, given.because, counts))
    note = (
        "Two implementations of the same optimizer, on the same seeds. Parameter difference: the "
        "largest distance between the two trajectories at any step and seed (of objectives that "
        "keep trajectories). Loss difference: the largest of recorded losses, and the same "
        "relative to the loss there. Reason: the convention that differs, as the spec has it. "
        "Failed: failed trials of each, compared as far as both got."
    )
    return table_of("parity", "Agreement of implementations", _PARITY, rows, note)


def _counterparts(results: Results, name: str, other: str) -> Iterator[tuple[CaseData, CaseData]]:
    """Cases of two optimizers that have the same setting, or the only one of each."""
    for case in results.cases:
        if case.optimizer != name:
            continue
        here = [c for c in results.cases_on(case.objective) if c.device == case.device]
        own = [c for c in here if c.optimizer == name]
        there = [c for c in here if c.optimizer == other]
        alike = [c for c in there if c.setting == case.setting]
        if len(own) == len(there) == 1:
            alike = there
        yield from ((case, c) for c in alike[:1] if len(case.seeds) and len(c.seeds))


def _parameters_apart(case: CaseData, other: CaseData) -> tuple[float, float]:
    """The largest distance between trajectories, and its step; NaN where none are kept.

    Infinite where one of the two has left for infinity and the other has not yet.
    """
    best, at = math.nan, math.nan
    for seed in sorted(case.trajectories.keys() & other.trajectories.keys()):
        one, two = case.trajectories[seed], other.trajectories[seed]
        length = min(len(one), len(two))
        distances = np.linalg.norm(_apart(one[:length], two[:length]), axis=1)
        if length and not float(distances.max()) <= best:
            best, at = float(distances.max()), float(distances.argmax())
    return best, at


def _losses_apart(case: CaseData, other: CaseData) -> tuple[float, float]:
    """The largest difference of recorded losses, and the loss there; NaN where none are shared."""
    seeds = np.intersect1d(case.seeds, other.seeds)
    one, two = (c.recorded(TRAIN_LOSS)[np.searchsorted(c.seeds, seeds)] for c in (case, other))
    known = ~(np.isnan(one) | np.isnan(two))
    if not known.any():
        return math.nan, math.nan
    apart = np.where(known, np.abs(_apart(one, two)), -1.0)
    at = np.unravel_index(apart.argmax(), apart.shape)
    return float(apart[at]), float(abs(two[at]))


def _apart(one: Array, two: Array) -> Array:
    """One less the other, 0 where both are the same infinity or both are not a number."""
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    found = np.subtract(one, two, out=np.zeros_like(one), where=~same)
    return np.where(np.isnan(found), np.inf, found)
