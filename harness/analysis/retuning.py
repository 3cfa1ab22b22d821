"""Tuning done again and again on resampled settings and seeds: a bootstrap over its trials.

Another draw of settings, or other tuning seeds, finds another best setting. How much that matters
is told by tuning over and over on resampled settings and seeds. A setting is chosen by the seeds
that a resample draws and judged by those that it leaves out, so that what it was picked by does not
flatter it (Efron & Tibshirani, Journal of the American Statistical Association 92, 1997).

The best loss that tuning itself has seen after so many settings depends on their order alone, and
all orders are as likely: its distribution is known without drawing any.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis.sensitivity import Tuned
from harness.store.read import CaseData

RESAMPLES = 1000
_SEED = 20_240_301


@dataclass(frozen=True, eq=False)
class Retuned:
    """Losses of one optimizer on one objective when it is tuned again.

    Attributes:
        case: The case with the best setting.
        budgets: Numbers of settings, ascending; the last is that of the spec.
        losses: ``(resamples, budgets)``: mean final loss of the setting that is chosen among so
            many, over the seeds it was not chosen by; infinite where one of these failed.
    """

    case: CaseData
    budgets: NDArray[np.int64]
    losses: NDArray[np.float64]

    def quantile(self, share: float) -> NDArray[np.float64]:
        """The loss that a share of the resamples does not exceed, for each budget.

        It is a value that occurs, so that failures, which are infinite, are never averaged.
        """
        found = np.quantile(self.losses, share, axis=0, method="inverted_cdf")
        return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class BestSoFar:
    """The lowest mean loss over the tuning seeds among the first so many settings.

    Attributes:
        case: The case with the best setting.
        budgets: Numbers of settings, ascending; the last is that of the spec.
        losses: Of each setting its mean final loss, ascending; infinite where a seed failed.
    """

    case: CaseData
    budgets: NDArray[np.int64]
    losses: NDArray[np.float64]

    def quantile(self, share: float) -> NDArray[np.float64]:
        """The loss that the best so far does not exceed in a share of all orders, by budget.

        With N settings, none of the k lowest is among n of them in ``C(N - k, n) / C(N, n)`` of
        the orders (draws without replacement; Dodge et al., Show your work, EMNLP 2019, have the
        expectation with replacement).
        """
        from scipy.stats import hypergeom

        total = len(self.losses)
        lowest = np.arange(1, total + 1)
        reached = hypergeom.sf(0, total, lowest[:, None], self.budgets)
        places = np.argmax(reached >= share - 1e-12, axis=0)
        return np.asarray(self.losses[places], dtype=np.float64)


def best_so_far(tuned: Sequence[Tuned]) -> list[BestSoFar]:
    """The best loss that tuning has seen against the number of settings tried, by optimizer."""
    found = []
    for one in tuned:
        table = _table(one)
        if table is None or len(table) < 2:
            continue
        failed = np.asarray(np.isnan(table).any(axis=1))
        means = np.where(failed, np.inf, np.nan_to_num(table).mean(axis=1))
        found.append(BestSoFar(one.case, _budgets(len(table)), np.sort(means)))
    return found


def _budgets(settings: int) -> NDArray[np.int64]:
    return np.unique(np.rint(np.geomspace(1, settings, 12)).astype(np.int64))


def _table(found: Tuned) -> NDArray[np.float64] | None:
    """Losses, ``(settings, seeds)``; None of a run that was cut short, or is under way."""
    if len({len(tried.losses) for tried in found.settings}) > 1:
        return None
    table = np.array([tried.losses for tried in found.settings], dtype=np.float64)
    return table if table.size else None


def retune(tuned: Sequence[Tuned]) -> list[Retuned]:
    """Tune again and again what was tuned; nothing that had fewer than two settings or seeds.

    Nor what has not all its trials yet.

    Optimizers on one objective and device with as many seeds share the draws of these: they are
    paired, as their trials are.
    """
    return [found for one in tuned if (found := _retuned(one)) is not None]


def pairs(retuned: Sequence[Retuned]) -> Iterator[tuple[Retuned, Retuned, float]]:
    """Optimizers tuned on one objective and device, two by two, in how many tunings the first wins.

    Yields:
        The first, the second, and the share of resamples in which the first has the lower loss; a
        tie counts as half.
    """
    for one, other in itertools.combinations(retuned, 2):
        where = [(r.case.objective, r.case.device) for r in (one, other)]
        if where[0] == where[1]:
            a, b = one.losses[:, -1], other.losses[:, -1]
            yield one, other, float(((a < b) + 0.5 * (a == b)).mean())


def _retuned(found: Tuned) -> Retuned | None:
    table = _table(found)
    if table is None:
        return None
    settings, seeds = table.shape
    if settings < 2 or seeds < 2:
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
        held_out = table[chosen][:, counts == 0]
        row[:] = np.where(np.isnan(held_out).any(axis=1), np.inf, held_out.mean(axis=1))
    return Retuned(found.case, budgets, losses)


def _places(table: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each setting, the best being 0: by failures, then by mean, as tuning has it."""
    failed = np.isnan(table)
    failures = failed @ counts
    sums = np.where(failed, 0.0, table) @ counts
    means = np.divide(sums, counts.sum() - failures, out=np.full(len(table), np.inf),
                      where=failures < counts.sum())  # fmt: skip
    places = np.empty(len(table), dtype=np.int64)
    places[np.lexsort((means, failures))] = np.arange(len(table))
    return places
