"""Everything that is worked out from a run's results, once, for tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis import (
    cells,
    claims,
    comparison,
    objective_ranks,
    retuning,
    sensitivity,
    shipped_cells,
    stats,
    targets,
    verdict,
    win_counts,
)
from harness.store.read import Results

MANY = 20
"""Objectives of a map beyond which nothing is worked out objective by objective."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """The statistics of a run's results.

    Attributes:
        means: By a case's position, its mean final loss.
        compared: Cases of one objective on one device, compared by seed.
        reached: When their trials reached targets, of those that have any.
        pools: Optimizers over all objectives, one pool per device.
        ranked: Optimizers ranked on every objective, by device; none of fewer than five.
        tuned: What tuning found.
        retuned: What tuning again would find.
        best_so_far: The best loss that tuning saw after so many settings.
        curves: Loss against single hyperparameters.
        claims: Published numbers beside ours.
        verdicts: Optimizers beside the best on each objective.
        maps: The map of each device, of a run whose objectives are difficulties of tasks.
        is_map_alone: Whether there is nothing but that, as there are many objectives.
    """

    means: dict[int, stats.Mean]
    compared: tuple[comparison.Compared, ...]
    reached: tuple[targets.Reached, ...]
    pools: tuple[targets.OptimizerPool, ...]
    ranked: tuple[objective_ranks.ObjectiveRanks, ...]
    tuned: tuple[sensitivity.Tuned, ...]
    retuned: tuple[retuning.Retuned, ...]
    best_so_far: tuple[retuning.BestSoFar, ...]
    curves: tuple[sensitivity.Curve, ...]
    claims: tuple[claims.CheckedClaim, ...]
    verdicts: tuple[verdict.ObjectiveVerdict, ...]
    maps: tuple[win_counts.WinMap, ...] = ()
    is_map_alone: bool = False


def analyse(results: Results) -> Analysis:
    """Work everything out; of a map of many objectives what is of all of them."""
    if cells.is_map(results) and len(results.objectives) > MANY:
        return _map_alone(results)
    compared = comparison.compare(results)
    means = comparison.mean_losses(results)
    found = (targets.reached(results, one.group) for one in compared)
    reached = tuple(known for known in found if known is not None)
    tuned = tuple(sensitivity.tuned(results))
    rule = results.run.settings.tuning
    goal = rule.goal if rule else "final_loss"
    # What is tuned for targets is chosen by curves, of which tuning trials keep none here.
    by_loss = tuned if goal == "final_loss" else ()
    groups = [one.group for one in compared]
    return Analysis(
        means=means,
        compared=tuple(compared),
        reached=reached,
        pools=tuple(targets.optimizer_pools(reached, results.run.settings.families)),
        ranked=tuple(objective_ranks.over_objectives(groups, results.run.settings.families)),
        tuned=tuned,
        retuned=tuple(retuning.retune(by_loss)),
        best_so_far=tuple(retuning.best_so_far(by_loss)),
        curves=tuple(sensitivity.curves(results)),
        claims=tuple(claims.check(results)),
        verdicts=verdict.verdicts(compared, means),
        maps=_maps(results, reached) if cells.is_map(results) else (),
    )


def _maps(results: Results, reached: Sequence[targets.Reached]) -> tuple[win_counts.WinMap, ...]:
    of_page = results.run.settings.correction == "page"
    own = shipped_cells.beside(results, cells.cells_of(results, reached))
    return win_counts.maps(own, of_page=of_page)


def _map_alone(results: Results) -> Analysis:
    """The map, without what compares optimizers on each objective by itself."""
    found = (targets.reached(results, group) for group in comparison.groups(results))
    reached = tuple(known for known in found if known is not None)
    return Analysis(
        means={},
        compared=(),
        reached=(),
        pools=(),
        ranked=(),
        tuned=(),
        retuned=(),
        best_so_far=(),
        curves=(),
        claims=(),
        verdicts=(),
        maps=_maps(results, reached),
        is_map_alone=True,
    )
