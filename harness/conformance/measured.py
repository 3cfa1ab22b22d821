"""Tests of what an objective measures on the parts of its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from harness.conformance.records import FINE, Observation, SourceLocation, note, wrong
from harness.conformance.runner import place_of_code
from harness.engine.lanes import Lane, Lanes
from harness.engine.workload import Workload
from harness.suite.locate import Misfit, last_line

TOLERANCE = 1e-9
"""Largest relative difference of a metric between a trial alone and the same among others."""

Place = Callable[[], SourceLocation | None]


def metrics(workload: Workload, seeds: Sequence[int], place: Place) -> Observation | None:
    """Expect every metric of every part to be a finite scalar, side by side as alone.

    Finds nothing where the loss on train is all that is measured.
    """
    if workload.metrics == (("loss", False),) and workload.parts == ("train",):
        return None
    lanes = [Lane(0, seed) for seed in seeds]
    try:
        alone = [Lanes(workload, [lane], stacked=False) for lane in lanes]
        own = {part: [trial.measured(part) for trial in alone] for part in workload.parts}
    except Misfit as error:
        return wrong(str(error), place_of_code(error.blamed))
    found = {
        f"{name} on {part}": torch.stack([values[name].reshape(()) for values in trials])
        for part, trials in own.items()
        for name in trials[0]
    }
    for name, values in found.items():
        for seed, value in zip(seeds, values.tolist(), strict=True):
            if value - value != 0:
                return wrong(f"{name} is {value} at the start of seed {seed}", place())
    return _side_by_side(Lanes(workload, lanes, stacked=True), found, place)


def _side_by_side(together: Lanes, expected: dict[str, torch.Tensor], place: Place) -> Observation:
    for part in together.workload.parts:
        try:
            found = together.measured(part)
        except Exception as error:
            return note(f"metrics can't be taken side by side: {last_line(error)}")
        for name, value in found.items():
            if not torch.allclose(value, expected[f"{name} on {part}"], rtol=TOLERANCE, atol=0):
                text = f"{name} on {part} is another number where trials run side by side"
                return wrong(text, place())
    return FINE
