"""Measures: the numbers that a training is judged by, such as its accuracy on the test part."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
"""The parts of the data: steps see the first, tuning the second, reports the third."""

LOWER = frozenset(
    ("loss", "error", "error_rate", "mse", "mae", "rmse", "perplexity", "nll", "cross_entropy")
)
"""Metrics of which everyone knows that lower is better."""

HIGHER = frozenset(
    (
        *("accuracy", "top1", "top5", "balanced_accuracy", "precision", "recall", "f1", "auc"),
        *("auroc", "r2", "iou", "bleu", "mcc"),
    )
)
"""Metrics of which everyone knows that higher is better."""


SHARES = HIGHER - {"bleu"}
"""Metrics whose best value is 1."""


@dataclass(frozen=True)
class Measure:
    """One number of a trial at a recorded step.

    Attributes:
        metric: Its name, as the objective calls it.
        part: The part of the data that it is of.
        higher: Whether higher is better.
    """

    metric: str = "loss"
    part: Part = "train"
    higher: bool = False

    @property
    def name(self) -> str:
        """Part and metric, as a spec writes them: ``test accuracy``."""
        return f"{self.part} {self.metric}"

    @property
    def sign(self) -> float:
        """The factor that makes a cost of a value: of a cost, lower is better."""
        return -1.0 if self.higher else 1.0

    @property
    def ceiling(self) -> float | None:
        """The best value that there can be, of shares of which higher is better; else None."""
        return 1.0 if self.higher and self.metric in SHARES else None

    @property
    def is_share(self) -> bool:
        """True of metrics that everyone knows to lie between 0 and 1."""
        return self.metric in SHARES - {"r2", "mcc"}

    @property
    def better(self) -> Literal["lower", "higher"]:
        """The better direction."""
        return "higher" if self.higher else "lower"


TRAIN_LOSS = Measure()
"""The loss over the rows that steps see, which every trial has."""


def parts_with(held_out: Container[str]) -> tuple[Part, ...]:
    """The parts that there are: train, and those that are held out; in their order."""
    return tuple(part for part in PARTS if part == "train" or part in held_out)


def measures_of(metrics: Sequence[tuple[str, bool]], parts: Iterable[Part]) -> tuple[Measure, ...]:
    """Every metric on every part, the loss on train first.

    Args:
        metrics: Names, each with whether higher is better.
        parts: The parts that there are.
    """
    found = [Measure(name, part, higher) for part in parts for name, higher in metrics]
    return (TRAIN_LOSS, *(measure for measure in found if measure != TRAIN_LOSS))


@dataclass(frozen=True)
class Target:
    """A value of a measure to be reached.

    Attributes:
        value: The value; None where the tolerance says it.
        tolerance: A share of the distance of the loss from a trial's start to the optimum (More
            and Wild, "Benchmarking derivative-free optimization algorithms", SIAM J. Optim. 20,
            2009).
        measure: What is to reach it.
    """

    value: float | None = None
    tolerance: float | None = None
    measure: Measure = TRAIN_LOSS

    @property
    def label(self) -> str:
        """In words: ``loss 0.25``, ``test accuracy 0.97``, ``gap cut to 1%``."""
        if self.value is not None:
            name = "loss" if self.measure == TRAIN_LOSS else self.measure.name
            return f"{name} {self.value:.6g}"
        return f"gap cut to {100 * (self.tolerance or 0):g}%"

    def cost(self, start: float, optimum: float | None) -> float:
        """The cost (value, or its negative where higher is better) at which it is reached.

        Args:
            start: The loss at a trial's start.
            optimum: The lowest loss there is; None where that is not known.
        """
        if self.value is not None:
            return self.measure.sign * self.value
        if optimum is None:
            raise ValueError("a share of the way to an optimum that is not known")
        return optimum + (self.tolerance or 0.0) * (start - optimum)


@dataclass(frozen=True)
class StopRule:
    """When a trial ends before its last step.

    Attributes:
        targets: Once these are reached, each at some recorded step.
        first: Whether one of them is enough.
        patience: Recorded values that may be no better than the best before; 0 for no such rule.
        watched: The measure of these values.
        optimum: The lowest loss there is; None where that is not known.
    """

    targets: tuple[Target, ...] = ()
    first: bool = False
    patience: int = 0
    watched: Measure = TRAIN_LOSS
    optimum: float | None = None

    def without_test(self) -> StopRule | None:
        """The rule for trials that must not see the test part: without what it says of that."""
        targets = tuple(t for t in self.targets if t.measure.part != "test")
        patience = self.patience if self.watched.part != "test" else 0
        rule = replace(self, targets=targets, patience=patience)
        return rule if targets or patience else None
