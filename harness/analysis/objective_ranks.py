"""Ranks of optimizers over objectives, with a critical difference (Demšar, JMLR 7, 2006)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis import rank_tests, verdict
from harness.analysis.comparison import ComparisonGroup
from harness.store.read import CaseData

LEAST_OBJECTIVES = 5
"""Objectives, or families of them, over which optimizers are ranked, at least."""


@dataclass(frozen=True, eq=False)
class ObjectiveRanks:
    """Optimizers ranked on each objective by the loss of their best setting.

    Attributes:
        device: Where they ran.
        optimizers: Names, the lowest mean rank first.
        cases: By optimizer, its best setting on each objective.
        objectives: Names.
        left_out: Names of optimizers that did not run on all of these objectives.
        ranks: ``(optimizers, blocks)``: 1 is the best, ties share their mean. A block is an
            objective or, where the spec puts several into one, a family of them.
        blocks: Names of these.
        difference: The critical difference of two mean ranks.
        p: Of the test that all optimizers rank alike; NaN of two.
        groups: What was ranked, by objective.
    """

    device: str
    optimizers: tuple[str, ...]
    cases: tuple[tuple[CaseData, ...], ...]
    objectives: tuple[str, ...]
    left_out: tuple[str, ...]
    ranks: NDArray[np.float64]
    blocks: tuple[str, ...]
    difference: float
    p: float
    groups: tuple[ComparisonGroup, ...] = ()

    @property
    def means(self) -> NDArray[np.float64]:
        """Each optimizer's mean rank."""
        return np.asarray(self.ranks.mean(axis=1), dtype=np.float64)


def over_objectives(
    known: Sequence[ComparisonGroup], families: Mapping[str, str]
) -> list[ObjectiveRanks]:
    """Rank the optimizers of each device over its objectives; none of fewer than five.

    An optimizer stands for its best setting, or its tuned one: that with the fewest failures,
    then the lowest loss. Objectives that fewer than two optimizers ran on are left out, and then
    the optimizers that did not run on all others. Objectives of one family are one block: their
    mean rank decides, as they are not independent of each other.

    Args:
        known: What was run, by objective and device.
        families: By objective, the family that the spec puts it in, if any.
    """
    found = (
        _over_objectives([one for one in known if one.device == device], families)
        for device in dict.fromkeys(one.device for one in known)
    )
    return [ranked for ranked in found if ranked is not None]


def _over_objectives(
    known: Sequence[ComparisonGroup], families: Mapping[str, str]
) -> ObjectiveRanks | None:
    best = {
        id(one): {one.cases[i].optimizer: i for i in verdict.best_settings(one)} for one in known
    }
    known = [one for one in known if len(best[id(one)]) > 1]
    names = list(dict.fromkeys(name for one in known for name in best[id(one)]))
    kept = sorted(name for name in names if all(name in best[id(one)] for one in known))
    blocks: dict[str, list[NDArray[np.float64]]] = {}
    for one in known:
        own = _ranked(one, [best[id(one)][name] for name in kept])
        blocks.setdefault(families.get(one.objective, one.objective), []).append(own)
    if len(kept) < 2 or len(blocks) < LEAST_OBJECTIVES:
        return None
    table = np.stack([np.mean(own, axis=0) for own in blocks.values()], axis=1)
    ranked = rank_tests.mean_ranks(table)
    order = np.argsort(ranked.mean(axis=1), kind="stable")
    return ObjectiveRanks(
        device=known[0].device,
        optimizers=tuple(kept[i] for i in order),
        cases=tuple(tuple(one.cases[best[id(one)][kept[i]]] for one in known) for i in order),
        objectives=tuple(one.objective for one in known),
        left_out=tuple(name for name in names if name not in kept),
        ranks=ranked[order],
        blocks=tuple(blocks),
        difference=rank_tests.critical_difference(len(kept), len(blocks)),
        p=rank_tests.iman_davenport(table)[1],
        groups=tuple(known),
    )


def _ranked(group: ComparisonGroup, chosen: Sequence[int]) -> NDArray[np.float64]:
    """Mid-ranks of some cases by failures, then by loss; what rounding alone parts is tied."""
    from scipy.stats import rankdata

    levels: dict[int, int] = {}
    first = -1
    for place, i in enumerate(i for i in group.order() if i in chosen):
        if first < 0 or not _tied(group, first, i):
            first = i
            levels[i] = place
        levels[i] = levels[first]
    return np.asarray(rankdata([levels[i] for i in chosen]), dtype=np.float64)


def _tied(group: ComparisonGroup, one: int, other: int) -> bool:
    """Test that two cases have as many failures, and losses that rounding alone parts."""
    low, high = float(group.centres[one]), float(group.centres[other])
    if group.failures[one] != group.failures[other]:
        return False
    floor = float(group.floors.max(initial=0.0))
    return low == high or high - low <= floor + group.rounding * max(abs(low), abs(high))
