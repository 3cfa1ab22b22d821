"""The timing pass: seconds per epoch, of each case as a user's own loop would run it.

On the clock: shuffling and gathering batches, the forward and backward pass, the optimizer's
step. Off the clock: loading data, drawing the start, constructing the optimizer, its first step
(which makes its state), evaluation and recording. One trial at a time, without ``vmap``, on an
otherwise idle harness; the cases that are compared take turns block by block, so that a slow
moment of the machine falls on all of them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from harness.engine import OptimizerFactory, Stepper
from harness.lanes import Lane, Lanes
from harness.plan import Case
from harness.proof import calls_closure
from harness.results import Timing
from harness.spec import TimingSpec
from harness.workload import Workload


@dataclass(frozen=True)
class TimedCase:
    """A case ready to be timed."""

    case: Case
    workload: Workload
    factory: OptimizerFactory
    calls_closure: bool | None
    seed: int


def time_cases(
    cases: Sequence[TimedCase], spec: TimingSpec, on_step: Callable[[int], None]
) -> tuple[list[Timing], dict[str, str]]:
    """Time some cases against each other.

    Args:
        cases: On one objective and device.
        spec: How often and how long.
        on_step: Called before every block with one more than its number; block ``k`` of ``n``
            cases is of case ``k % n``.

    Returns:
        One timing per case that could be timed, and by case key why another could not.
    """
    failures: dict[str, str] = {}
    runners: dict[str, _Runner] = {}
    for index, timed in enumerate(cases):
        on_step(index + 1)
        try:
            runners[timed.case.key] = _Runner(timed, spec.block_steps)
        except Exception as error:
            failures[timed.case.key] = f"{type(error).__name__}: {error}"
    blocks: dict[str, list[float]] = {key: [] for key in runners}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for turn in range(spec.warmup_rounds + spec.rounds):
            order = list(enumerate(timed.case.key for timed in cases))
            first = turn % len(order)
            for index, key in order[first:] + order[:first]:
                if key not in runners:
                    continue
                on_step(turn * len(order) + index + 1)
                try:
                    seconds = runners[key].block()
                except Exception as error:
                    failures[key] = f"{type(error).__name__}: {error}"
                    del runners[key]
                    continue
                if turn >= spec.warmup_rounds:
                    blocks[key].append(seconds)
    finally:
        if collecting:
            gc.enable()
    timings = [
        Timing(key, runner.steps, runner.workload.steps_per_epoch, np.asarray(blocks[key]))
        for key, runner in runners.items()
    ]
    return timings, failures


class _Runner:
    """Runs one case block by block, from the start again each time its steps are used up."""

    def __init__(self, timed: TimedCase, block_steps: int) -> None:
        self.workload = timed.workload
        self.steps = max(1, min(block_steps, timed.workload.steps - 1))
        self._timed = timed
        self._restart()

    def block(self) -> float:
        """Wall seconds of one block."""
        if self._left < self.steps:
            self._restart()
        self._left -= self.steps
        step, batches = self._stepper.step, self._batches
        self._wait()
        began = time.perf_counter()
        for _ in range(self.steps):
            step(next(batches))
        self._wait()
        return time.perf_counter() - began

    def _restart(self) -> None:
        timed = self._timed
        torch.manual_seed(timed.seed)
        setting = timed.case.hyperparameters
        calls = timed.calls_closure
        if calls is None:
            calls = calls_closure(timed.workload, timed.factory, setting)
        lanes = Lanes(timed.workload, [Lane(0, timed.seed)], stacked=False)
        self._stepper = Stepper(lanes, timed.factory, [setting], calls_closure=calls)
        self._batches = lanes.batches()
        self._stepper.step(next(self._batches))
        self._left = max(self.steps, timed.workload.steps - 1)

    def _wait(self) -> None:
        device = self.workload.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        elif device.type == "xpu":
            torch.xpu.synchronize(device)
