"""A case that is run as its user's own loop would run it, to be timed or counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.engine.isolation import restore_classes, seed_globals
from harness.engine.lanes import Lane, Lanes
from harness.engine.recipe_factory import OptimizerFactory
from harness.engine.stepper import Stepper
from harness.engine.workload import Workload
from harness.objectives.base import Batch
from harness.plan.model import Case


@dataclass(frozen=True)
class TimedCase:
    """A case with all that a trial of it needs."""

    case: Case
    workload: Workload
    factory: OptimizerFactory
    seed: int

    def start(self, kind: type[Stepper] = Stepper) -> tuple[Stepper, Iterator[Batch]]:
        """Begin a trial on its own: the stepper that takes its steps, and its batches."""
        restore_classes(self.factory)
        seed_globals(self.seed)
        lanes = Lanes(self.workload, [Lane(0, self.seed)], stacked=False)
        settings, create_graph = [self.case.hyperparameters], self.case.create_graph
        stepper = kind(lanes, self.factory, settings, "alone", create_graph=create_graph)
        stepper.train()
        return stepper, lanes.batches()
