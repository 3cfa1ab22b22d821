"""Tables of targets: steps and seconds until they are reached, and performance profiles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from harness.analysis import profiles, stats, targets
from harness.formatting import DASH, cost, share
from harness.measures import TRAIN_LOSS, Target
from harness.reporting import wording
from harness.reporting.tables.model import Column, Table, case_columns, table_of
from harness.store.read import CaseData

WITHIN = (1.0, 2.0, 10.0)
"""Ratios to the best at which the profile table tells its shares."""


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

_TARGET: Column[_Reached] = Column("target_loss", "", lambda r: _or_nan(r.target.value))

_REACHED: tuple[Column[_Reached], ...] = (
    *case_columns(lambda row: row.case),
    Column("target", "target", lambda r: wording.target(r.case, r.target)),
    _TARGET,
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
    of_losses = all(row.target.measure == TRAIN_LOSS for row in rows)
    way = "" if of_losses else " (at or above it where higher is better)"
    given = "losses" if of_losses else "values"
    note = (
        f"Steps to a target: to the first recorded {'loss' if of_losses else 'value'} at or below "
        f"it{way}. Targets were set before the "
        f"run: {given} that the spec gives, or shares of the way from a trial's own start to the "
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
    if not of_losses:
        value = replace(_TARGET, key="target_value")
        columns = [value if one is _TARGET else one for one in columns]
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
