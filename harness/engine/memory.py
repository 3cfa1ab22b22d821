"""Memory that a lane takes: counted over one step and one evaluation, not guessed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.engine.lanes import Lane, Lanes
from harness.engine.own_optimizers import stepper_for
from harness.engine.recipe_factory import OptimizerFactory
from harness.engine.recording import Recorder
from harness.engine.workload import Workload
from harness.plan.model import Hyperparameters
from harness.results import Way

FEW, MORE = 2, 6


def lane_bytes(
    workload: Workload,
    factory: OptimizerFactory,
    setting: Hyperparameters,
    way: Way,
    on_step: Callable[[int], None],
) -> int:
    """Bytes that each further lane of a shared run takes at its peak.

    ``on_step`` is called with the number of every step begun.

    The peak of living tensors over two steps and an evaluation, with six lanes less with two,
    and what is kept of a lane until the run's end.
    """
    peaks = [
        _peak(lambda n=n: _run(workload, factory, setting, n, way, on_step))  # type: ignore[misc]
        for n in (FEW, MORE)
    ]
    at_once = (peaks[1] - peaks[0]) / (MORE - FEW)
    width = torch.finfo(workload.dtype).bits // 8
    points = sum(value.numel() for value in workload.start(0).values())
    kept = len(workload.record_steps) * len(workload.measures) * (width + 8)
    kept += points * (width + 8) if workload.keeps_parameters else 0
    if points == 2:
        kept += 2 * (workload.steps + 1) * points * (width + 8)
    return max(1, round(at_once + kept))


def _run(
    workload: Workload,
    factory: OptimizerFactory,
    setting: Hyperparameters,
    lanes: int,
    way: Way,
    on_step: Callable[[int], None],
) -> None:
    side_by_side = Lanes(workload, [Lane(0, seed) for seed in range(lanes)], stacked=True)
    stepper = stepper_for(way)(side_by_side, factory, [setting], way)
    recorder = Recorder(stepper)
    with stepper.running():
        recorder.record(0)
        for step, batch in zip(range(2), side_by_side.batches(), strict=False):
            on_step(step)
            stepper.step(batch)


def _peak(run: Callable[[], None]) -> int:
    counter = _Living()
    with counter:
        run()
    return counter.peak


class _Living(TorchDispatchMode):
    """Counts the bytes of the storages that operators make, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._known:
            return
        self._known.add(address)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._gone, address, size)

    def _gone(self, address: int, size: int) -> None:
        self._known.discard(address)
        self._now -= size
