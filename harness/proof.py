"""Lanes are proven, not declared: may this optimizer's trials share tensors?

An elementwise optimizer treats every element alike, so lanes stacked in one tensor are none of
each other's business. One that takes a norm, a line search or a matrix over a tensor would mix
them. No list of names could tell; a short run does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch

from harness.engine import OptimizerFactory, Stepper
from harness.lanes import Lane, Lanes
from harness.memory import lane_bytes
from harness.plan import Hyperparameters
from harness.results import Verdict
from harness.suite import last_line
from harness.workload import Workload

PROOF_STEPS = 12
"""Steps of each probe: enough for what only starts after a few (RAdam's sixth step, say)."""

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
"""How far a lane may be from a run of its own, relative to the parameters' norm."""


def prove(
    workload: Workload,
    factory: OptimizerFactory,
    settings: Sequence[Hyperparameters],
    seeds: Sequence[int],
    on_step: Callable[[int], None] | None = None,
) -> Verdict:
    """Find out how some trials may run.

    A few seeds of each setting, side by side for their first steps, must equal runs of their
    own, and must not change when the first lane starts somewhere far away.

    Args:
        workload: What they minimise.
        factory: The optimizer's class.
        settings: Every setting that is to run.
        seeds: Some seeds, at least one.
        on_step: Called with a number that changes as long as the probe gets on.
    """
    probe = _Probe(workload, factory, settings, on_step)
    few = list(seeds[:3]) if len(seeds) > 1 else [seeds[0], seeds[0] + 1]
    why_not_grouped = ""
    if len(settings) > 1:
        lanes = [Lane(i, seed) for i in range(len(settings)) for seed in few[: 1 + (i == 0)]]
        why_not_grouped = probe.differs(lanes)
        if not why_not_grouped:
            return probe.verdict("grouped", "", lanes)
        why_not_grouped = f"settings can't share a run: {why_not_grouped}"
    for i in range(len(settings)):
        why = probe.differs([Lane(i, seed) for seed in few])
        if why:
            return probe.verdict("alone", f"seeds can't share a run: {why}", [])
    lanes = [Lane(0, seed) for seed in few]
    return probe.verdict("stacked" if why_not_grouped else "grouped", why_not_grouped, lanes)


class _Probe:
    """Runs first steps and compares them."""

    def __init__(
        self,
        workload: Workload,
        factory: OptimizerFactory,
        settings: Sequence[Hyperparameters],
        on_step: Callable[[int], None] | None,
    ) -> None:
        self.workload = workload
        self.factory = factory
        self.settings = settings
        self.on_step = on_step
        self.steps = 0
        self.step_seconds = 0.0
        self.calls_closure = calls_closure(workload, factory, settings[0])

    def verdict(
        self, mode: Literal["grouped", "stacked", "alone"], reason: str, lanes: Sequence[Lane]
    ) -> Verdict:
        """Sum up; ``lanes`` are some that may share a run, to see what memory they take."""
        size = 0
        if lanes:
            size = lane_bytes(
                self.workload, self.factory, self.settings[0], calls_closure=self.calls_closure
            )
        return Verdict(mode, self.calls_closure, reason, size, self.step_seconds)

    def differs(self, lanes: Sequence[Lane]) -> str:
        """Say how lanes side by side differ from runs of their own; empty if they don't."""
        try:
            began = time.perf_counter()
            own = [list(self._points([lane], stacked=False)) for lane in lanes]
            self.step_seconds = (time.perf_counter() - began) / sum(len(run) for run in own)
        except Exception as error:
            return f"a run of its own fails: {last_line(error)}"
        try:
            together = list(self._points(lanes, stacked=True))
            moved = list(self._points(lanes, stacked=True, move=True))
        except Exception as error:
            return f"side by side: {_in_words(error)}"
        tolerance = TOLERANCE[self.workload.dtype]
        for step, (here, there) in enumerate(zip(together, moved, strict=True)):
            for lane in range(len(lanes)):
                alone = own[lane][step][0]
                distance, size = _distance(here[lane], alone), max(float(alone.norm()), 1e-30)
                if distance > tolerance * size:
                    far = f"{distance / size:.1e}"
                    return f"lane {lane} is {far} from a run of its own after step {step}"
                if lane and _distance(here[lane], there[lane]) > 0:
                    return f"lane {lane} changes with lane 0 at step {step}"
        return ""

    def _points(
        self, lanes: Sequence[Lane], *, stacked: bool, move: bool = False
    ) -> Iterator[torch.Tensor]:
        """The parameters after each of the first steps, shape ``(lanes, dimension)``."""
        torch.manual_seed(lanes[0].seed)
        together = Lanes(self.workload, lanes, stacked=stacked)
        if move:
            with torch.no_grad():
                for value in together.groups[0].values():
                    value[0].mul_(7).add_(3)
        stepper = Stepper(together, self.factory, self.settings, calls_closure=self.calls_closure)
        together.full_losses()  # what is recorded must be evaluated side by side as well
        yield together.flat()
        count = range(min(PROOF_STEPS, self.workload.steps))
        for _, batch in zip(count, together.batches(), strict=False):
            self.steps += 1
            if self.on_step is not None:
                self.on_step(self.steps)
            stepper.step(batch)
            yield together.flat()


def _in_words(error: Exception) -> str:
    """What an error says, in words that need no knowledge of vmap's switches."""
    if "randomness error mode" in str(error):
        return "the loss draws random numbers, which would not be those of a run of its own"
    return last_line(error).removeprefix("RuntimeError: ")


def calls_closure(workload: Workload, factory: OptimizerFactory, setting: Hyperparameters) -> bool:
    """Whether an optimizer's ``step`` evaluates the closure it is given, or leaves it alone."""
    calls = 0
    try:
        lanes = Lanes(workload, [Lane(0, 0)], stacked=False)
        stepper = Stepper(lanes, factory, [setting], calls_closure=True)
        evaluate = stepper.closure_for(next(lanes.batches()))

        def counting() -> torch.Tensor:
            nonlocal calls
            calls += 1
            return evaluate()

        stepper.optimizer.step(counting)  # type: ignore[arg-type]
    except Exception:
        # It may have failed for want of a gradient, or for a fault that each trial will show.
        return calls > 0
    return calls > 0


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Euclidean distance; equal elements (NaN too) are no distance apart, others may be far."""
    same = (a == b) | (a.isnan() & b.isnan())
    return float(torch.where(same, torch.zeros_like(a), a - b).norm().nan_to_num(nan=torch.inf))
