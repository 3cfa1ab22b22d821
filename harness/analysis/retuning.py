"""Tuning done again and again on resampled settings and seeds: a bootstrap over its trials.

Another draw of settings, or other tuning seeds, finds another best setting. How much that matters
is told by tuning over and over on resampled settings and seeds. A setting is chosen by the seeds
that a resample draws and judged by those that it leaves out, so that what it was picked by does not
flatter it (Efron & Tibshirani, Journal of the American Statistical Association 92, 1997).

The best setting that tuning itself has seen after so many of them depends on their order alone, and
all orders are as likely: its distribution is known without drawing any.

Settings are chosen by what tuning goes by. What is told of them is what is reported, where tuning
trials record it, else what tuning goes by as well: they never see the test part. Both are costs
here: values where lower is better, their negatives where higher is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis.sensitivity import Tuned
from harness.measures import TRAIN_LOSS, Measure
from harness.store.read import CaseData

RESAMPLES = 1000
_SEED = 20_240_301

Array = NDArray[np.float64]


class _Told:
    """A distribution of what tuning finds, for each number of settings."""

    measure: Measure

    def quantile(self, share: float) -> Array:
        """The cost that a share of the distribution does not exceed, for each budget."""
        raise NotImplementedError

    def band(self, tail: float) -> tuple[Array, Array, Array]:
        """The median, and the lower and the upper end between the tails, as values.

        What ends in failures is infinite: on the side that is worse.

        Args:
            tail: The share of the distribution that is beyond each end.
        """
        costs = self.quantile(0.5), self.quantile(tail), self.quantile(1 - tail)
        middle, better, worse = (self.measure.sign * own + 0.0 for own in costs)
        return (middle, worse, better) if self.measure.higher else (middle, better, worse)


@dataclass(frozen=True, eq=False)
class Retuned(_Told):
    """Costs of one optimizer on one objective when it is tuned again.

    Attributes:
        case: The case with the best setting.
        budgets: Numbers of settings, ascending; the last is that of the spec.
        losses: ``(resamples, budgets)``: mean cost at the end of the setting that is chosen among
            so many, over the seeds it was not chosen by; infinite where one of these failed.
        measure: What the costs are of.
    """

    case: CaseData
    budgets: NDArray[np.int64]
    losses: Array
    measure: Measure = TRAIN_LOSS

    def quantile(self, share: float) -> Array:
        """The cost that a share of the resamples does not exceed, for each budget.

        It is a value that occurs, so that failures, which are infinite, are never averaged.
        """
        found = np.quantile(self.losses, share, axis=0, method="inverted_cdf")
        return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class BestSoFar(_Told):
    """The best mean over the tuning seeds among the first so many settings.

    Attributes:
        case: The case with the best setting.
        budgets: Numbers of settings, ascending; the last is that of the spec.
        losses: Of each setting its mean cost at the end, the setting that tuning prefers first;
            infinite where a seed failed.
        measure: What the costs are of.
    """

    case: CaseData
    budgets: NDArray[np.int64]
    losses: Array
    measure: Measure = TRAIN_LOSS

    def quantile(self, share: float) -> Array:
        """The cost that the best so far does not exceed in a share of all orders, by budget.

        With N settings, none of the k best is among n of them in ``C(N - k, n) / C(N, n)`` of
        the orders (draws without replacement; Dodge et al., Show your work, EMNLP 2019, have the
        expectation with replacement).
        """
        from scipy.stats import hypergeom

        total = len(self.losses)
        best = np.arange(1, total + 1)
        reached = hypergeom.sf(0, total, best[:, None], self.budgets)
        order = np.argsort(self.losses, kind="stable")
        chances = np.diff(reached, axis=0, prepend=0.0)[order].cumsum(axis=0)
        places = np.argmax(chances >= share - 1e-12, axis=0)
        return np.asarray(self.losses[order][places], dtype=np.float64)


def best_so_far(tuned: Sequence[Tuned]) -> list[BestSoFar]:
    """The best setting that tuning has seen against the number of settings, by optimizer."""
    found = []
    for one in tuned:
        tables = _tables(one)
        if tables is None or len(tables[0]) < 2:
            continue
        chosen_by, told = map(_means, tables)
        order = np.argsort(chosen_by, kind="stable")
        found.append(BestSoFar(one.case, _budgets(len(told)), told[order], one.shown))
    return found


def _means(table: Array) -> Array:
    """The mean cost of each setting; infinite where a seed failed."""
    failed = np.asarray(np.isnan(table).any(axis=1))
    return np.where(failed, np.inf, np.nan_to_num(table).mean(axis=1))


def _budgets(settings: int) -> NDArray[np.int64]:
    return np.unique(np.rint(np.geomspace(1, settings, 12)).astype(np.int64))


def _tables(found: Tuned) -> tuple[Array, Array] | None:
    """Costs that settings are chosen by, and those that are told, ``(settings, seeds)``.

    NaN where a trial failed. None of a run that was cut short, or is under way.
    """
    if len({len(tried.losses) for tried in found.settings}) > 1:
        return None
    chosen_by = np.array([tried.losses for tried in found.settings], dtype=np.float64)
    if not chosen_by.size:
        return None
    told = np.array(
        [t.losses if t.reported is None else t.reported for t in found.settings], dtype=np.float64
    )
    told = told if found.shown == found.reported else chosen_by
    chosen_by[~np.isfinite(chosen_by)], told[~np.isfinite(told)] = np.nan, np.nan
    return found.measure.sign * chosen_by, found.shown.sign * told


def retune(tuned: Sequence[Tuned]) -> list[Retuned]:
    """Tune again and again what was tuned; nothing that had fewer than two settings or seeds.

    Nor what has not all its trials yet, nor what was chosen among finalists: which settings are
    tried again depends on the resample, and most were not.

    Optimizers on one objective and device with as many seeds share the draws of these: they are
    paired, as their trials are.
    """
    return [found for one in tuned if (found := _retuned(one)) is not None]


def pairs(retuned: Sequence[Retuned]) -> Iterator[tuple[Retuned, Retuned, float]]:
    """Optimizers tuned on one objective and device, two by two, in how many tunings the first wins.

    Yields:
        The first, the second, and the share of resamples in which the first is better; a tie
        counts as half.
    """
    for one, other in itertools.combinations(retuned, 2):
        where = [(r.case.objective, r.case.device) for r in (one, other)]
        if where[0] == where[1]:
            a, b = one.losses[:, -1], other.losses[:, -1]
            yield one, other, float(((a < b) + 0.5 * (a == b)).mean())


def _retuned(found: Tuned) -> Retuned | None:
    tables = _tables(found)
    if tables is None:
        return None
    table, told = tables
    settings, seeds = table.shape
    if settings < 2 or seeds < 2 or found.finalists:
        return None
    # The seeds that are drawn depend on their number alone: all optimizers have the same.
    of_seeds = np.random.default_rng((_SEED, seeds))
    of_settings = np.random.default_rng((_SEED, settings, 1))
    budgets = _budgets(settings)
    losses = np.empty((RESAMPLES, len(budgets)))
    for row in losses:
        counts = np.ones(seeds, dtype=np.int64)
        while not (counts == 0).any():
            counts = np.bincount(of_seeds.integers(0, seeds, seeds), minlength=seeds)
        tried = of_settings.integers(0, settings, settings)
        order = _places(table, counts)
        # The best of the first so many, for each number.
        best = np.minimum.accumulate(order[tried])[budgets - 1]
        chosen = np.argsort(order)[best]
        held_out = told[chosen][:, counts == 0]
        row[:] = np.where(np.isnan(held_out).any(axis=1), np.inf, held_out.mean(axis=1))
    return Retuned(found.case, budgets, losses, found.shown)


def _places(table: Array, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each setting, the best being 0: by failures, then by mean, as tuning has it."""
    failed = np.isnan(table)
    failures = failed @ counts
    sums = np.where(failed, 0.0, table) @ counts
    means = np.divide(sums, counts.sum() - failures, out=np.full(len(table), np.inf),
                      where=failures < counts.sum())  # fmt: skip
    places = np.empty(len(table), dtype=np.int64)
    places[np.lexsort((means, failures))] = np.arange(len(table))
    return places
