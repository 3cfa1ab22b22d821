"""Tuning: which of the settings that were tried is the best. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.plan import Hyperparameters, Plan, Search
from harness.store import Store

Score = tuple[int, float]
"""Trials that did not end ok, then the mean final loss of those that did: lower is better."""


def completed(plan: Plan, store: Store) -> Plan:
    """A plan with the best setting of each search, as stored trials have it.

    Args:
        plan: A plan, all of whose settings have been tried.
        store: Where the trials are.
    """
    if not plan.open_searches:
        return plan
    tuning = plan.tuning
    losses: dict[str, list[float | None]] = {
        key: [final if status == "ok" else None for _, status, _, final, _ in trials]
        for key, trials in store.outcomes((c.key for c in tuning.cases), tuning.seeds).items()
    }
    return plan.completed([best(search, losses) for search in plan.searches])


def best(search: Search, losses: Mapping[str, Sequence[float | None]]) -> Hyperparameters:
    """The values of what is searched, of the setting with the lowest mean final loss.

    A setting of which a trial did not end ok is worse than any of which all did. Of equal ones,
    the first drawn is taken.

    Args:
        search: What was searched.
        losses: By case key, the final loss of each tuning trial; None where it did not end ok.
    """
    found = min(search.settings, key=lambda case: score(losses[case.key]))
    return {name: found.hyperparameters[name] for name in search.spaces}


def score(losses: Sequence[float | None]) -> Score:
    """How well a setting did in its tuning trials."""
    ok = [loss for loss in losses if loss is not None]
    return len(losses) - len(ok), math.fsum(ok) / len(ok) if ok else math.inf
