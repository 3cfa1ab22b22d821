"""Exact counts of what an optimizer's step takes beside time: operators, Python calls, state.

They don't depend on the machine or its load, so a change of one is a change of the code, of
Python or of torch. They are blind to an operator that has become slower.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from harness.engine.stepper import Stepper
from harness.engine.ways import Surroundings
from harness.results import StepCounts
from harness.timing.timed_case import TimedCase

COUNTED_STEPS = 20
"""Steps that are counted, after the first, which makes the state: enough for what an optimizer
does every few steps only."""


def count_steps(timed: TimedCase) -> StepCounts:
    """Count over the second to the twenty-first step of a trial on its own (or as many as it has).

    A step here is the plainest loop that could be: loss, backward, ``optimizer.step()``. Neither
    the harness's own loop nor the taking of batches counts.
    """
    steps = min(COUNTED_STEPS, max(1, timed.workload.steps - 1))
    loop = _PlainLoop(timed)
    operators = _Operators()
    with operators:
        loop.take(steps)
    loop = _PlainLoop(timed)
    calls = _count_calls(lambda: loop.take(steps))
    return StepCounts(steps, operators.count, calls, _bytes_of_state(loop.optimizer))


def peak_bytes(device: torch.device, run: Callable[[], object]) -> int | None:
    """The most memory that torch held at once on a GPU while something ran; None elsewhere."""
    if device.type != "cuda":
        run()
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device))


class _PlainLoop:
    """One trial, its first step taken."""

    def __init__(self, timed: TimedCase) -> None:
        stepper, self._batches = timed.start(_Counted)
        self._step, self.optimizer = stepper.step, stepper.optimizer
        wrap_steps(self.optimizer)
        self.take(1)

    def take(self, steps: int) -> None:
        step = self._step
        for _ in range(steps):
            with _uncounted():
                batch = next(self._batches)
            step(batch)


class _Counted(Stepper):
    """A stepper of which only what the objective and the optimizer do is counted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.around = _Aside(self._leaves)

    @override
    def _keep(self, losses: torch.Tensor) -> None:
        with _uncounted():
            super()._keep(losses)


class _Aside(Surroundings):
    """Surroundings whose own account of evaluations doesn't count."""

    @override
    def is_as_evaluated(self) -> bool:
        with _uncounted():
            return super().is_as_evaluated()


def wrap_steps(optimizer: torch.optim.Optimizer) -> None:
    """Wrap the steps that an optimizer inherits as torch does those of a class in use.

    torch wraps a class's ``step`` (for profiles) when its first object is made, so one that
    calls ``super().step`` would take more after another optimizer was used in this process.
    """
    above = torch.optim.Optimizer
    for part in (optimizer, *getattr(optimizer, "members", ())):
        for base in type(part).__mro__:
            if not issubclass(base, above) or base is above or "step" not in vars(base):
                continue
            if not getattr(base.step, "hooked", False):
                base.step = above.profile_hook_step(base.step)  # type: ignore
                base.step.hooked = True  # type: ignore


class _Operators(TorchDispatchMode):
    """Counts the operators that are dispatched, those of the backward pass too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        self.count += not _uncounted.now
        return func(*args, **(kwargs or {}))


class _uncounted:  # noqa: N801 - reads as a statement
    """Neither operators dispatched in here nor calls count."""

    now = False

    def __enter__(self) -> None:
        _uncounted.now = True

    def __exit__(self, *_: object) -> None:
        _uncounted.now = False


def _count_calls(run: Callable[[], None]) -> int:
    """Calls of functions, built-in ones too, from the suite's and the packages' Python code.

    Code of the harness and of the standard library makes calls as well, but what it does is
    its own affair: a patch release of Python changes nothing here. Nor does torch's compiler count,
    which wraps functions of torch's optimizers once anything was compiled in this process.
    """
    count = 0
    counted: dict[str, bool] = {}

    def is_counted(file: str) -> bool:
        installed = "/site-packages/" in file or "/dist-packages/" in file
        if file.startswith(_COMPILER):
            return False
        return installed or not file.startswith(_UNCOUNTED) or file.startswith(_SHIPPED)

    def on_event(frame: FrameType, event: str, argument: object) -> None:
        del argument
        nonlocal count
        if event in ("call", "c_call") and not _uncounted.now:
            file = frame.f_code.co_filename
            if file not in counted:
                counted[file] = is_counted(file)
            count += counted[file] and frame.f_code.co_name not in _OF_WRAPPERS

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


_HERE = Path(__file__).resolve().parents[1]
_UNCOUNTED = (f"{_HERE}/", f"{sysconfig.get_path('stdlib')}/", "<frozen")
_SHIPPED = f"{_HERE}/objectives/"
_COMPILER = f"{Path(torch.__file__).parent}/_dynamo/eval_frame.py"
_OF_WRAPPERS = frozenset(["is_exporting"])
"""Functions of torch that only wrappers of its compiler call."""


def _bytes_of_state(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all tensors in an optimizer's state; one that is there twice counts once."""
    storages = {
        leaf.untyped_storage().data_ptr(): leaf.untyped_storage().nbytes()
        for leaf in tree_leaves(dict(optimizer.state))
        if isinstance(leaf, torch.Tensor)
    }
    return sum(storages.values())
