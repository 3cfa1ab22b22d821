"""The timing pass: seconds per epoch, of each case as a user's own loop would run it.

On the clock: shuffling and gathering batches, the forward and backward pass, the optimizer's
step. Off the clock: loading data, drawing the start, constructing the optimizer, its first step
(which makes its state), evaluation and recording. One trial at a time, without ``vmap``, on an
otherwise idle harness; the cases that are compared take turns block by block, so that a slow
moment of the machine falls on all of them. What a step takes beside time (operators, Python
calls, state, memory of a GPU) is counted after the last block.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from harness.results import StepCounts, Timing
from harness.spec.model import TimingSpec
from harness.timing import counts
from harness.timing.timed_case import TimedCase

MIN_ROUNDS = 3
"""Rounds that are timed however slow they are: fewer have no quartiles to speak of."""

WARM_UP = 0.25
"""The part of the time after which warming up ends, but for its first round."""

COUNTING = 0.25
"""The part of the time that counting may take; where it would take more, nothing is counted."""

COUNTED_STEP = 3.0
"""About how many times as long as a plain step one takes that is counted."""

PEAK_STEPS = 3
"""Steps over which the peak of a GPU's memory is taken, after the first."""


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage now, and not while the block runs."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def time_cases(
    cases: Sequence[TimedCase], spec: TimingSpec, on_step: Callable[[int], None]
) -> tuple[list[Timing], dict[str, str]]:
    """Time some cases against each other.

    Args:
        cases: On one objective and device.
        spec: How often and how long. No round begins once its seconds are used, set-up and
            counting among them, but for a round to warm up and three that count.
        on_step: Called before every block with one more than its number; block ``k`` of ``n``
            cases is of case ``k % n``.

    Returns:
        One timing per case that could be timed, and by case key why another could not.
    """
    began = time.perf_counter()
    turns = _Turns(cases, spec.block_steps, on_step)
    until, is_counted = spec.seconds, False
    warmed = rounds = 0
    with no_garbage_collection():
        while turns.runners and rounds < spec.rounds:
            used = time.perf_counter() - began
            if rounds >= MIN_ROUNDS and used >= until:
                break
            cold = warmed == 0
            blocks = turns.take()
            if cold or (warmed < spec.warmup_rounds and used < WARM_UP * spec.seconds):
                warmed += 1
            else:
                turns.keep(blocks)
                rounds += 1
            if cold:
                counting = turns.counting_seconds(blocks)
                is_counted = counting <= COUNTING * spec.seconds
                until -= counting if is_counted else 0.0
    if is_counted:
        turns.count()
    return turns.timings(), turns.failures


class _Turns:
    """Some cases that take turns, and what is known of each.

    Attributes:
        runners: By case key, of those that could be run so far.
        failures: By case key, why the others could not.
    """

    def __init__(
        self, cases: Sequence[TimedCase], block_steps: int, on_step: Callable[[int], None]
    ) -> None:
        self.runners: dict[str, Runner] = {}
        self.failures: dict[str, str] = {}
        self._cases = cases
        self._on_step = on_step
        self._turn = 0
        self._blocks: dict[str, list[Block]] = {}
        self._step_counts: dict[str, StepCounts] = {}
        self._peaks: dict[str, int | None] = {}
        for index, timed in enumerate(cases):
            on_step(index + 1)
            key = timed.case.key
            try:
                self.runners[key] = Runner(timed, block_steps)
            except Exception as error:
                self.failures[key] = f"{type(error).__name__}: {error}"
            else:
                self._blocks[key] = []
        self._steps = {key: runner.steps for key, runner in self.runners.items()}

    def take(self) -> dict[str, Block]:
        """A block of each case, beginning one further than the last time."""
        blocks: dict[str, Block] = {}
        numbered = list(enumerate(timed.case.key for timed in self._cases))
        first = self._turn % len(numbered)
        for index, key in numbered[first:] + numbered[:first]:
            if key not in self.runners:
                continue
            self._on_step(self._turn * len(numbered) + index + 1)
            try:
                blocks[key] = self.runners[key].block()
            except Exception as error:
                self.failures[key] = f"{type(error).__name__}: {error}"
                del self.runners[key]
        self._turn += 1
        return blocks

    def keep(self, blocks: dict[str, Block]) -> None:
        """Have a round count."""
        for key, block in blocks.items():
            self._blocks[key].append(block)

    def counting_seconds(self, blocks: dict[str, Block]) -> float:
        """About what counting takes, from what a round took."""
        steps = COUNTED_STEP * (counts.COUNTED_STEPS + 1)
        return sum(steps * b.wall / self._steps[key] for key, b in blocks.items())

    def count(self) -> None:
        """Count what steps take beside time; where that fails, it stays unknown.

        Ends the runners: the peak of a GPU's memory is to be of one case.
        """
        survivors = set(self.runners)
        self.runners = {}
        gc.collect()
        for index, timed in enumerate(self._cases):
            key = timed.case.key
            if key not in survivors:
                continue
            self._on_step(self._turn * len(self._cases) + index + 1)
            with contextlib.suppress(Exception):
                self._peaks[key] = _peak_bytes(timed)
            with contextlib.suppress(Exception):
                self._step_counts[key] = counts.count_steps(timed)

    def timings(self) -> list[Timing]:
        """A timing of each case that could be timed."""
        found = []
        for timed in self._cases:
            key = timed.case.key
            if key in self.failures:
                continue
            walls, cpus, evaluations = np.array(self._blocks[key]).reshape(-1, 3).T
            found.append(
                Timing(
                    case_key=key,
                    steps=self._steps[key],
                    steps_per_epoch=timed.workload.steps_per_epoch,
                    seconds=walls,
                    cpu_seconds=cpus,
                    counts=self._step_counts.get(key),
                    peak_bytes=self._peaks.get(key),
                    evaluations=evaluations.astype(np.int64),
                )
            )
        return found


class Block(NamedTuple):
    """Wall seconds of a block of steps, seconds of processors, and evaluations of the loss."""

    wall: float
    cpu: float
    evaluations: int = 0


class Runner:
    """Runs one case block by block, from the start again each time its steps are used up.

    Args:
        timed: The case.
        block_steps: Steps in each block, if a trial has as many.
        warm_steps: Steps right before each block that are not on its clock.

    Attributes:
        steps: Optimizer steps in each block.
    """

    def __init__(self, timed: TimedCase, block_steps: int, warm_steps: int = 0) -> None:
        self.workload = timed.workload
        self.steps = max(1, min(block_steps, timed.workload.steps - 1 - warm_steps))
        self._warm_steps = warm_steps
        self._timed = timed
        self._watch = Stopwatch(timed.workload.device)
        self._restart()

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer that runs."""
        return self._stepper.optimizer

    def block(self) -> Block:
        """Run the next block and time it."""
        needed = self._warm_steps + self.steps
        if self._left < needed:
            self._restart()
        self._left -= needed
        step, batches = self._stepper.step, self._batches
        for _ in range(self._warm_steps):
            step(next(batches))
        before = self._stepper.evaluations
        with self._watch:
            for _ in range(self.steps):
                step(next(batches))
        return self._watch.block._replace(evaluations=self._stepper.evaluations - before)

    def _restart(self) -> None:
        self._stepper, self._batches = self._timed.start()
        self._stepper.step(next(self._batches))
        if self._stepper.evaluations == 1:
            self._stepper.trust_versions()
        self._left = max(self._warm_steps + self.steps, self.workload.steps - 1)


class Stopwatch:
    """Times what runs inside ``with``, on a device that has nothing else to do before or after.

    On CUDA the wall seconds are between two events on the current stream, so they begin and end
    where the device does. Elsewhere they are the processor's clock, read while the device idles.

    Attributes:
        block: What the latest ``with`` took.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.block = Block(0.0, 0.0)

    def __enter__(self) -> None:
        self._wait()
        if self._device.type == "cuda":
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self._events[0].record(torch.cuda.current_stream(self._device))
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self._events[1].record(torch.cuda.current_stream(self._device))
        self._wait()
        cpu = time.process_time() - self._cpu
        wall = time.perf_counter() - self._wall
        if self._device.type == "cuda":
            wall = self._events[0].elapsed_time(self._events[1]) / 1000
        self.block = Block(wall, cpu)

    def _wait(self) -> None:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)


def _peak_bytes(timed: TimedCase) -> int | None:
    """The most memory a GPU held while some steps ran; None elsewhere."""
    if timed.workload.device.type != "cuda":
        return None
    return counts.peak_bytes(timed.workload.device, Runner(timed, PEAK_STEPS).block)
