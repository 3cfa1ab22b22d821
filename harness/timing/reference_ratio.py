"""The gate's measurement: a step's time as a ratio to the frozen reference loop, in one process.

Blocks of a few steps take turns: reference, cell, reference, next cell, and so on, for many
rounds; so whatever the machine does, it does to both. A disturbance only ever adds time, and
even on a busy machine it spares some blocks: the ratio is that of the two lower deciles. It
differs from process to process by half as much as the median of paired ratios does, and moves
less with the load of the machine than any other (figures in docs/ci.md).

Two steps before each block are off its clock, so that what ran before (another cell, or the
reference itself) leaves no trace in caches and branch predictors; without them the reference
seems 2% faster than itself. Garbage is not collected meanwhile. With one thread on the CPU the
clock is processor time, which an interrupted process doesn't spend; else it is the wall's, with
the device waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from harness.results import BlockPairs, MeasuredRatios
from harness.spec.model import CheckSpec
from harness.timing.counts import wrap_steps
from harness.timing.reference_loop import ReferenceLoop
from harness.timing.timed_case import TimedCase
from harness.timing.timing import Block, Runner, Stopwatch, no_garbage_collection

WARM_STEPS = 2
"""Steps right before each block that are not on its clock."""

QUANTILE = 0.1
"""Of the blocks' times: low enough to be of undisturbed ones, high enough to be no luck."""

WARM_ROUNDS = 3
"""Rounds that are dropped."""

MIN_ROUNDS = 20
"""Rounds that are measured however slow they are."""


class RatioMeasurement:
    """Measures some cells, round by round.

    Args:
        cells: On any objectives and devices.
        spec: How long.
        threads: Threads that torch may use.
        on_step: Called before every block with one more than its number; block ``k`` of ``n``
            cells is of cell ``k % n``.
    """

    def __init__(
        self,
        cells: Sequence[TimedCase],
        spec: CheckSpec,
        threads: int,
        on_step: Callable[[int], None],
    ) -> None:
        self._began = time.perf_counter()
        self._timed = cells
        self._spec = spec
        self._threads = threads
        self._on_step = on_step
        self._turn = 0
        self._wall = self._cpu = 0.0
        self._failures: dict[str, str] = {}
        devices = dict.fromkeys(timed.workload.device for timed in cells)
        self._references = {device: _Reference(device, spec.block_steps) for device in devices}
        self._controls = [_Turn(d, _Reference(d, spec.block_steps)) for d in devices]
        self._cells: dict[int, _Turn] = {}
        self._set_up(spec.block_steps)
        self.rounds(WARM_ROUNDS)
        self._shorten()
        self._turn = 0
        self._wall = self._cpu = 0.0
        for turn in (*self._controls, *self._cells.values()):
            turn.pairs.clear()

    def rounds(self, count: int) -> None:
        """Measure some more rounds, as far as there is time for them."""
        with no_garbage_collection():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(count):
                if self._turn >= MIN_ROUNDS and self._seconds() > self._spec.seconds:
                    break
                self._round()
            self._wall += time.perf_counter() - wall
            self._cpu += time.process_time() - cpu

    def result(self) -> MeasuredRatios:
        """All that was measured so far."""
        return MeasuredRatios(
            {self._timed[i].case.key: self._measured(cell) for i, cell in self._cells.items()},
            tuple(self._measured(control).ratio for control in self._controls),
            dict(self._failures),
            self._cpu / self._wall if self._wall else 1.0,
        )

    def _set_up(self, block_steps: int) -> None:
        for index, timed in enumerate(self._timed):
            if timed.case.key in self._failures:
                continue
            self._on_step(index + 1)
            try:
                runner = Runner(timed, block_steps, WARM_STEPS)
                wrap_steps(runner.optimizer)
            except Exception as error:
                self._failures[timed.case.key] = f"{type(error).__name__}: {error}"
            else:
                self._cells[index] = _Turn(timed.workload.device, runner)

    def _round(self) -> None:
        """A pair of blocks of every cell and control, beginning one further than the last time."""
        places = [*range(len(self._timed)), *range(-len(self._controls), 0)]
        first = self._turn % max(1, len(places))
        for place in places[first:] + places[:first]:
            if place < 0:
                # What comes second runs warmer; neither side shall always be it.
                self._pair(self._controls[place], swapped=self._turn % 2 == 1)
            elif place in self._cells:
                self._on_step(self._turn * len(self._timed) + place + 1)
                try:
                    self._pair(self._cells[place])
                except Exception as error:
                    self._failures[self._timed[place].case.key] = f"{type(error).__name__}: {error}"
                    del self._cells[place]
        self._turn += 1

    def _pair(self, turn: _Turn, *, swapped: bool = False) -> None:
        loop = self._references[turn.device]
        first, second = (turn.runner, loop) if swapped else (loop, turn.runner)
        blocks = [first.block(), second.block()]
        cell, reference = blocks if swapped else reversed(blocks)
        on_cpu = self._clock(turn.device) == "cpu"
        times = (cell.cpu, reference.cpu) if on_cpu else (cell.wall, reference.wall)
        turn.pairs.append(times)

    def _clock(self, device: torch.device) -> Literal["cpu", "wall"]:
        return "cpu" if device.type == "cpu" and self._threads == 1 else "wall"

    def _seconds(self) -> float:
        return time.perf_counter() - self._began

    def _shorten(self) -> None:
        """Have blocks as short as it takes to fit all rounds into the time."""
        expected = self._seconds() / WARM_ROUNDS * (self._spec.rounds + WARM_ROUNDS)
        if expected > self._spec.seconds:
            shorter = int(self._spec.block_steps * self._spec.seconds / expected)
            self._set_up(max(1, shorter))

    def _measured(self, turn: _Turn) -> BlockPairs:
        return BlockPairs(
            clock=self._clock(turn.device),
            steps=turn.runner.steps,
            reference_steps=self._spec.block_steps,
            cell=tuple(cell for cell, _ in turn.pairs),
            reference=tuple(reference for _, reference in turn.pairs),
            ratio=ratio_of(turn.pairs, turn.runner.steps, self._spec.block_steps),
        )


@dataclass
class _Turn:
    """One thing measured against the reference: a cell, or the reference once more."""

    device: torch.device
    runner: Runner | _Reference
    pairs: list[tuple[float, float]] = field(default_factory=list)


class _Reference:
    """The reference loop, block by block."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self._loop = ReferenceLoop(device)
        self._watch = Stopwatch(device)
        self.steps = steps
        self._loop.run(1)

    def block(self) -> Block:
        self._loop.run(WARM_STEPS)
        with self._watch:
            self._loop.run(self.steps)
        return self._watch.block


def ratio_of(pairs: Sequence[tuple[float, float]], steps: int, reference_steps: int) -> float:
    """A step's time as a ratio to the reference's: of the lower deciles of their blocks.

    Args:
        pairs: Seconds of a cell's block and of the reference's before it.
        steps: Steps in each of the cell's blocks.
        reference_steps: Steps in each of the reference's.
    """
    cell, reference = np.quantile(np.asarray(pairs), QUANTILE, axis=0)
    return float(cell / steps / (reference / reference_steps))
