"""Everything that is worked out from a run's results, once, for tables, figures and sentences."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis import (
    claims,
    comparison,
    objective_ranks,
    retuning,
    sensitivity,
    stats,
    targets,
    verdict,
)
from harness.store.read import Results


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


def analyse(results: Results) -> Analysis:
    """Work everything out."""
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
    )
