"""Tables of who does better: differences, ranks, targets, profiles, parity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis import profiles, stats, targets
from harness.analysis.comparison import ALPHA, MAX_PAIRED_CASES, Compared, Pair
from harness.analysis.objective_ranks import ObjectiveRanks
from harness.analysis.ranks import Rank
from harness.analysis.summary import Analysis
from harness.formatting import (
    DASH,
    cost,
    digits,
    fixed,
    interval,
    or_dash,
    probability,
    share,
    shift,
)
from harness.measures import Target
from harness.reporting.tables import tuning
from harness.reporting.tables.model import Column, Table, case_columns, table_of
from harness.store.read import CaseData, Results

Array = NDArray[np.float64]

WITHIN = (1.0, 2.0, 10.0)
"""Ratios to the best at which the profile table tells its shares."""


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
        tuning.tuning(analysis.tuned, len(settings.tuning_seeds), goal),
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
    shift: tuple[float, float, float]


def _shift(row: _Difference) -> tuple[str, str]:
    return shift(*row.shift)


def _verdict(pair: Pair) -> str:
    more = " (more failures)" * pair.by_failures
    return pair.called + more if pair.called == "worse" else pair.called


def _if_tested(row: _Difference, count: int) -> str:
    return str(count) if row.pair.is_tested else DASH


_DIFFERENCES: tuple[Column[_Difference], ...] = (
    Column("objective", "objective", lambda r: r.first.objective),
    Column("device", "device", lambda r: r.first.device),
    Column("case", "case", lambda r: r.first.label),
    Column("called", "", lambda r: r.pair.called),
    Column("decided_by_failures", "", lambda r: "yes" if r.pair.by_failures else "no"),
    Column("", "verdict", lambda r: _verdict(r.pair)),
    Column("against", "against", lambda r: r.second.label),
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
        _Difference(
            pair,
            one.group.cases[pair.first],
            one.group.cases[pair.second],
            one.group.shown_shift(pair),
        )
        for one in compared
        for pair in one.pairs
    ]
    note = (
        "Loss of the case minus that of the other, seed by seed: below 0, the case is better. "
        "Better and worse: the number of the n seeds at which it is; a difference below the "
        "rounding of the loss, or below the smallest that matters by the spec, counts as neither. "
        "p: Wilcoxon's signed-rank test, two-sided, over all n seeds; a failed trial counts as the "
        "worst, and failed has the number of them for each of the two. Difference: the "
        "Hodges-Lehmann estimate that belongs to this test, over the same seeds, with the 95% "
        "interval of shifts that it does not reject; infinite where failures decide. Effect: "
        "matched-pairs rank-biserial correlation, from -1 (always better) to 1. Verdict: the test "
        f"with Holm's correction, at {share(ALPHA)} for {corrected_for(compared)}. Where all "
        "seeds give the same result there is no test and no interval."
    )
    if any(len(one.group.cases) > MAX_PAIRED_CASES for one in compared):
        best = f"the best {MAX_PAIRED_CASES} are paired; the correction is for all."
        note += f" Of more than {MAX_PAIRED_CASES} cases, {best}"
    return table_of("differences", "Differences between pairs", _DIFFERENCES, rows, note)


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
    note = (
        "Rank of the final loss among the objective's cases, seed by seed, 1 the lowest; ties "
        "share their mean, and failed trials (failed: their number) are tied for last. Interval: "
        "95%, bootstrap-t over the n seeds, five or more. Best or tied: share of seeds at which no "
        "other case is lower. p: Friedman's test that all cases rank alike."
    )
    return table_of("ranks", "Ranks", _RANKS, rows, note)


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


_MEAN_RANKS: tuple[Column[_MeanRank], ...] = (
    Column("optimizer", "optimizer", lambda r: r.ranked.optimizers[r.place]),
    Column("device", "device", lambda r: r.ranked.device),
    Column("mean_rank", "mean rank", lambda r: r.mean, fixed(2)),
    Column("lowest_on", "lowest loss on", lambda r: int((r.ranked.ranks[r.place] == 1).sum())),
    Column("objectives", "objectives", lambda r: len(r.ranked.blocks)),
    Column("critical_difference", "critical difference", lambda r: r.ranked.difference, fixed(2)),
    Column("worse_than_best", "worse than the best", lambda r: "yes" if r.is_worse else "no"),
    Column("iman_davenport_p", "p (all alike)", lambda r: r.ranked.p, probability),
)


def mean_ranks(ranked: Sequence[ObjectiveRanks]) -> Table | None:
    """Mean ranks of optimizers over the objectives, with the critical difference."""
    rows = [_MeanRank(one, place) for one in ranked for place in range(len(one.optimizers))]
    note = (
        "Rank of the optimizer's tuned or best setting on each objective (or family of them) by "
        "failed trials, then by loss, 1 the best; ties share their mean. Worse than the best: its "
        "mean rank is larger by more than the critical difference of Nemenyi's test, at 5% for "
        "all pairs. p: Iman and Davenport's version of Friedman's test (Demšar, Journal of Machine "
        "Learning Research 7, 2006). The best setting of a grid is picked on these same seeds."
    )
    return table_of("mean_ranks", "Mean ranks over objectives", _MEAN_RANKS, rows, note)


class _Reached(NamedTuple):
    case: CaseData
    target: Target
    reached: int
    n: int
    copies: bool
    ends: tuple[float, float]
    steps: float
    evaluations: float
    seconds: float
    failed: int


def _count(row: _Reached) -> str:
    """The number of trials that reached a target; of copies of one run, yes or no."""
    if row.copies:
        return "yes" if row.reached else "no"
    return f"{row.reached} of {row.n}"


_ERT_EVALUATIONS: Column[_Reached] = Column("", "ERT (evaluations)", lambda r: r.evaluations, cost)

_REACHED: tuple[Column[_Reached], ...] = (
    *case_columns(lambda row: row.case),
    Column("target", "target", lambda r: r.target.label),
    Column("target_loss", "", lambda r: _or_nan(r.target.value)),
    Column("tolerance", "", lambda r: _or_nan(r.target.tolerance)),
    Column("reached", "reached", lambda r: r.reached, text=_count),
    Column("n", "", lambda r: r.n),
    Column("share_ci_low", "", lambda r: r.ends[0]),
    Column("share_ci_high", "", lambda r: r.ends[1]),
    Column("", "95% interval", lambda r: DASH if r.copies else " to ".join(map(share, r.ends))),
    Column("ert_steps", "ERT (steps)", lambda r: r.steps, cost),
    Column("ert_evaluations", "", lambda r: r.evaluations),
    _ERT_EVALUATIONS,
    Column("ert_seconds", "ERT (s)", lambda r: r.seconds, cost),
    Column("failed", "failed", lambda r: r.failed),
)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def reached(found: Sequence[targets.Reached]) -> Table | None:
    """Share of trials that reach each target, and expected times, case by case."""
    rows = [row for known in found for row in _reached(known)]
    note = (
        "Steps to a target: to the first recorded loss at or below it. Targets were set before the "
        "run: losses that the spec gives, or shares of the way from a trial's own start to the "
        "optimum. Expected running time (ERT): steps of all runs, those that missed with all they "
        "took, over the number of runs that reached the target; infinite where none did. Seconds: "
        "the loss and its gradients were evaluated so often on the way (once a step, but for "
        "optimizers that take a closure: ERT in evaluations), at the timing pass's median time per "
        "evaluation; the recording of losses is not included. What a trial reached before it "
        "diverged or failed counts; failed has the number of such trials. Where all seeds give the "
        "same result they are one run, and a share of them has no interval."
    )
    same = all(row.evaluations == row.steps for row in rows)
    columns = [one for one in _REACHED if not (same and one is _ERT_EVALUATIONS)]
    return table_of("targets", "Steps and seconds to targets", columns, rows, note)


def _reached(known: targets.Reached) -> Iterator[_Reached]:
    expected, evaluations = known.expected_steps(), known.expected_evaluations()
    n = len(known.group.seeds)
    for j, target in enumerate(known.targets):
        for i, case in enumerate(known.group.cases):
            count = int(np.isfinite(known.steps[j, i]).sum())
            # Copies of one run: how many of them reached it says nothing of others.
            copies = bool(known.copies[i])
            evaluated = float(evaluations[j, i])
            yield _Reached(
                case=case,
                target=target,
                reached=count,
                n=n,
                copies=copies,
                ends=(math.nan, math.nan) if copies else stats.proportion_interval(count, n),
                steps=float(expected[j, i]),
                evaluations=evaluated,
                seconds=evaluated * float(known.evaluation_seconds[i]),
                failed=int(known.group.failures[i]),
            )


class _Profile(NamedTuple):
    pool: targets.OptimizerPool
    solver: int
    cost: str
    band: profiles.Band


def _at_ratio(place: int, key: str) -> list[Column[_Profile]]:
    """The columns of one ratio: a share of problems with its interval."""

    def text(row: _Profile) -> str:
        low, high = row.band.low[place], row.band.high[place]
        ends = f" ({share(low)} to {share(high)})" if high > low else ""
        return share(row.band.share[place]) + ends

    times = " times" if key.startswith("within") else ""
    return [
        Column(key, key.replace("_", " ") + times, lambda r: r.band.share[place], text=text),
        Column(f"{key}_ci_low", "", lambda r: r.band.low[place]),
        Column(f"{key}_ci_high", "", lambda r: r.band.high[place]),
    ]


_PROFILE_KEYS = ("best", *(f"within_{ratio:g}" for ratio in WITHIN[1:]), "solved")

_PROFILE: tuple[Column[_Profile], ...] = (
    Column("optimizer", "optimizer", lambda r: r.pool.solvers[r.solver]),
    Column("device", "device", lambda r: r.pool.device),
    Column("cost", "cost", lambda r: r.cost),
    *(column for place, key in enumerate(_PROFILE_KEYS) for column in _at_ratio(place, key)),
    Column("problems", "problems", lambda r: r.pool.steps.shape[0]),
    Column("seeds", "seeds", lambda r: r.pool.steps.shape[1]),
    Column("failed", "failed", lambda r: r.pool.failed[r.solver]),
)


def profile(pools: Sequence[targets.OptimizerPool]) -> Table | None:
    """Performance profiles over all objectives, at a few ratios."""
    rows: list[_Profile] = []
    at = (*WITHIN, float(np.finfo(float).max))
    for pool in pools:
        for unit, costs in (("steps", pool.steps), ("seconds", pool.seconds)):
            if costs is not None:
                bands = profiles.profile_bands(costs, at, families=pool.problem_families)
                rows += (_Profile(pool, i, unit, band) for i, band in enumerate(bands))
    note = (
        "Share of problems that an optimizer solves within so many times the cost of the best at "
        "the same problem and seed (Dolan and Moré's performance profile), with a 95% interval "
        "for other seeds and other objectives: the variances over both add. A problem is a target "
        "of an objective. Solved: at any cost. What missed a target has not solved it at any "
        "ratio; what a trial reached before it failed (failed: so many trials) it has reached. "
        "Every setting of an optimizer takes part by itself."
    )
    if left_out := dict.fromkeys(name for pool in pools for name in pool.left_out):
        names = ", ".join(left_out)
        note += f" Left out, for they did not run on all of these objectives: {names}."
    title = "Performance profile over all objectives"
    return table_of("profile", title, _PROFILE, rows, note)


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
    one, two = (c.losses[np.searchsorted(c.seeds, seeds)] for c in (case, other))
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
