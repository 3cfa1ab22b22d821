"""Words for what is reported of objectives: its name, and which of its directions is better."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from harness.measures import TRAIN_LOSS, Measure, Target
from harness.store.read import CaseData, ObjectiveInfo

LOSS = "loss"
"""The name of what is reported where nothing but the loss on train is recorded."""

ANY = "value"
"""The name of what is reported of several objectives, if that is not the same of all."""


class Reported(Protocol):
    """Something of which a measure is reported."""

    @property
    def measure(self) -> Measure:
        """The measure."""
        ...

    @property
    def words(self) -> str:
        """Its name."""
        ...


def extreme(measure: Measure) -> str:
    """The word for the best: ``lowest`` or ``highest``."""
    return f"{measure.better.removesuffix('er')}est"


def worst(measure: Measure) -> str:
    """The word for the worst: ``highest`` or ``lowest``."""
    return "lowest" if measure.higher else "highest"


def direction(measure: Measure) -> str:
    """``higher is better``, or ``lower is better``."""
    return f"{measure.better} is better"


def axis(info: ObjectiveInfo, measure: Measure | None = None) -> str:
    """The name of a measure on an axis; by default of what is reported.

    A plain loss has no direction beside it, for everyone knows it.
    """
    measure = measure or info.measure
    return info.name_of(measure) + mark(info, measure)


def reworded(text: str, known: Iterable[Reported]) -> str:
    """A text on final losses, the lowest of which is best, as one on what is reported."""
    known = list(known)
    words = common(known)
    best = f"{common_extreme(known)} {words}"
    return text.replace("lowest loss", best).replace("final loss", f"final {words}")


def mark(info: ObjectiveInfo, measure: Measure | None = None) -> str:
    """The direction that is better, to stand behind a name on an axis."""
    measure = measure or info.measure
    return "" if info.name_of(measure) == LOSS else f" ({direction(measure)})"


def common(known: Iterable[Reported]) -> str:
    """What is reported on all of some objectives; ``value`` where that differs."""
    names = {one.words for one in known}
    return names.pop() if len(names) == 1 else ANY if names else LOSS


def common_extreme(known: Iterable[Reported]) -> str:
    """The word for the best on all of some objectives; ``best`` where that differs."""
    words = {extreme(one.measure) for one in known}
    return words.pop() if len(words) == 1 else "best" if words else "lowest"


def target(case: CaseData, given: Target) -> str:
    """A target: ``loss 0.25``, or ``train loss 0.25`` where a case has other parts as well."""
    several = {name.partition(" ")[0] for name in case.curves} > {TRAIN_LOSS.part}
    is_plain = given.measure == TRAIN_LOSS and given.value is not None
    return f"{TRAIN_LOSS.part} {given.label}" if several and is_plain else given.label
