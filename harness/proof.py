"""Lanes are proven, not declared: may this optimizer's trials share tensors?

An elementwise optimizer treats every element alike, so lanes stacked in one tensor are none of
each other's business. One that takes a norm, a line search or a matrix over a tensor would mix
them. No list of names could tell; a short run does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from harness.engine import OptimizerFactory, Stepper
from harness.lanes import Lane, Lanes
from harness.plan import Hyperparameters
from harness.suite import last_line
from harness.workload import Workload

PROOF_STEPS = 12
"""Steps of each probe: enough for what only starts after a few (RAdam's sixth step, say)."""

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
"""How far a lane may be from a run of its own, relative to the parameters' norm."""

Mode = Literal["grouped", "stacked", "alone"]


@dataclass(frozen=True)
class Verdict:
    """How an optimizer's trials may run.

    Attributes:
        mode: ``grouped``: all settings and seeds share one run; ``stacked``: the seeds of one
            setting do; ``alone``: each trial has a run of its own.
        calls_closure: Whether ``step`` evaluates the closure it is given.
        reason: Why not the mode before it; empty for ``grouped``.
    """

    mode: Mode
    calls_closure: bool
    reason: str


def prove(
    workload: Workload,
    factory: OptimizerFactory,
    settings: Sequence[Hyperparameters],
    seeds: Sequence[int],
) -> Verdict:
    """Find out how some trials may run.

    Three seeds of each setting's first steps, side by side, must equal runs of their own, and
    must not change when the first lane starts somewhere far away.

    Args:
        workload: What they minimise.
        factory: The optimizer's class.
        settings: Every setting that is to run.
        seeds: Some seeds, at least one.
    """
    calls = _calls_closure(workload, factory, settings[0], seeds[0])
    few = list(seeds[:3]) if len(seeds) > 1 else [seeds[0], seeds[0] + 1]
    reasons: list[str] = []
    if len(settings) > 1:
        lanes = [Lane(i, seed) for i in range(len(settings)) for seed in few[: 1 + (i == 0)]]
        why = _differs(workload, factory, settings, lanes, calls)
        if not why:
            return Verdict("grouped", calls, "")
        reasons.append(f"settings can't share a run: {why}")
    for i in range(len(settings)):
        why = _differs(workload, factory, settings, [Lane(i, seed) for seed in few], calls)
        if why:
            return Verdict("alone", calls, f"seeds can't share a run: {why}")
    return Verdict("stacked" if reasons else "grouped", calls, "; ".join(reasons))


def _calls_closure(
    workload: Workload, factory: OptimizerFactory, setting: Hyperparameters, seed: int
) -> bool:
    """Whether ``step`` evaluates the closure it is given, instead of leaving it alone."""
    lanes = Lanes(workload, [Lane(0, seed)], stacked=False)
    calls = 0
    try:
        stepper = Stepper(lanes, factory, [setting], calls_closure=True)
        stepper._batch = next(lanes.batches())

        def counting() -> torch.Tensor:
            nonlocal calls
            calls += 1
            return stepper.closure()

        stepper.optimizer.step(counting)  # type: ignore[arg-type]
    except Exception:
        return calls > 0
    return calls > 0


def _differs(
    workload: Workload,
    factory: OptimizerFactory,
    settings: Sequence[Hyperparameters],
    lanes: Sequence[Lane],
    calls_closure: bool,
) -> str:
    """Say how lanes side by side differ from runs of their own; empty if they don't."""
    try:
        own = [
            list(_points(workload, factory, settings, [lane], calls_closure, False))
            for lane in lanes
        ]
    except Exception as error:
        return f"a run of its own fails: {last_line(error)}"
    try:
        together = list(_points(workload, factory, settings, lanes, calls_closure, True))
        moved = list(_points(workload, factory, settings, lanes, calls_closure, True, move=True))
    except Exception as error:
        return f"side by side: {last_line(error)}"
    tolerance = TOLERANCE[workload.dtype]
    for step in range(len(together)):
        for lane in range(len(lanes)):
            alone, beside = own[lane][step][0], together[step][lane]
            distance, size = _distance(beside, alone), max(float(alone.norm()), 1e-30)
            if distance > tolerance * size:
                return (
                    f"lane {lane} is {distance / size:.1e} from a run of its own after step {step}"
                )
            if lane and not torch.equal(
                beside.nan_to_num(nan=1e300), moved[step][lane].nan_to_num(nan=1e300)
            ):
                return f"lane {lane} changes with lane 0 at step {step}"
    return ""


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    same = (a == b) | (a.isnan() & b.isnan())
    return float(torch.where(same, torch.zeros_like(a), a - b).norm().nan_to_num(nan=float("inf")))


def _points(
    workload: Workload,
    factory: OptimizerFactory,
    settings: Sequence[Hyperparameters],
    lanes: Sequence[Lane],
    calls_closure: bool,
    stacked: bool,
    *,
    move: bool = False,
) -> Iterator[torch.Tensor]:
    """The parameters after each of the first steps, shape ``(lanes, dimension)``."""
    torch.manual_seed(lanes[0].seed)
    together = Lanes(workload, lanes, stacked=stacked)
    if move:
        with torch.no_grad():
            for value in together.groups[0].values():
                value[0].mul_(7).add_(3)
    stepper = Stepper(together, factory, settings, calls_closure=calls_closure)
    yield together.flat()
    steps = range(min(PROOF_STEPS, workload.steps))
    for _, batch in zip(steps, together.batches(), strict=False):
        stepper.step(batch)
        yield together.flat()
