"""The measures, targets and rules for stopping of an objective, as its spec has them."""

from __future__ import annotations

from collections.abc import Collection

from harness.measures import TRAIN_LOSS, Measure, Part, StopRule, Target
from harness.spec.model import ObjectiveSpec

TOLERANCES = (0.1, 0.01, 0.001)
"""Shares of the way to the optimum that are left, where a spec gives no targets."""


def named(objective: ObjectiveSpec, name: str) -> Measure:
    """The measure of a name such as ``test accuracy``."""
    part, metric = name.split()
    found: Part = part  # type: ignore[assignment]
    return Measure(metric, found, dict(objective.metrics).get(metric, False))


def reported(objective: ObjectiveSpec) -> Measure:
    """What tables, tests and ranks are of."""
    return named(objective, objective.report) if objective.report else TRAIN_LOSS


def tuned(objective: ObjectiveSpec, parts: Collection[str]) -> Measure:
    """What tuning goes by.

    Args:
        objective: As the spec has it.
        parts: The parts that its data have.
    """
    return named(objective, objective.tune) if objective.tune else tuned_by_default(parts)


def tuned_by_default(parts: Collection[str]) -> Measure:
    """What tuning goes by where a spec doesn't say: the loss on validation, else on train."""
    return Measure(part="validation") if "validation" in parts else TRAIN_LOSS


def targets(objective: ObjectiveSpec, optimum: float | None) -> tuple[Target, ...]:
    """The targets that a spec gives, or that follow from the known optimum.

    Args:
        objective: As the spec has it.
        optimum: The lowest loss on train there is; None where that is not known.
    """
    found = [
        Target(t.value, measure=named(objective, t.measure) if t.measure else reported(objective))
        for t in objective.targets
    ]
    is_known = reported(objective) == TRAIN_LOSS
    return with_tolerances(found, objective.tolerances, optimum if is_known else None)


def with_tolerances(
    given: Collection[Target], tolerances: Collection[float] | None, optimum: float | None
) -> tuple[Target, ...]:
    """Targets, and those that follow from the known optimum."""
    if optimum is None:
        return tuple(given)
    if tolerances is None:
        tolerances = () if given else TOLERANCES
    return (*given, *(Target(tolerance=share) for share in tolerances))


def stop_rule(objective: ObjectiveSpec, optimum: float | None) -> StopRule | None:
    """When trials end before their last step; None where they don't."""
    stop = objective.stop
    if stop is None:
        return None
    after = stop.after
    return StopRule(
        targets=targets(objective, optimum) if stop.at else (),
        first=stop.at == "first target",
        patience=after.records if after else 0,
        watched=after.measure if after else TRAIN_LOSS,
        optimum=optimum,
    )
