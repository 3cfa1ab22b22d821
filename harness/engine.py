"""The training loop. One trial is one lane; a thousand trials are a thousand lanes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.lanes import Lane, Lanes
from harness.objective import Batch
from harness.plan import Hyperparameters
from harness.workload import Workload, as_real

WATCH_STEPS = 64
"""Steps between two looks at the losses of the steps (a look waits for the device)."""


OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""An optimizer's class, or anything called like one: parameters first, then hyperparameters."""


class TrialError(Exception):
    """An optimizer or objective raised; carries the step, the time and what was recorded."""

    def __init__(self, step: int, error: Exception, recorder: Recorder, seconds: float) -> None:
        self.step = step
        self.error = error
        self.recorder = recorder
        self.seconds = seconds
        super().__init__(str(error))


@dataclass(frozen=True)
class Outcome:
    """What became of some lanes.

    Attributes:
        diverged_at: Per lane the step after which the loss was not finite or too large; -1 if
            never.
        losses: Loss over all data at the recorded steps, shape ``(lanes, records)``, float64.
        trajectory: Parameters after every step, shape ``(lanes, steps + 1, 2)``, float64; None
            unless there are two parameters.
        step_sizes: The optimizer's effective step size of each parameter after every step, as
            ``trajectory``; None where the optimizer doesn't tell.
        seconds: Wall time of the loop, shared by all lanes.
    """

    diverged_at: NDArray[np.int64]
    losses: NDArray[np.float64]
    trajectory: NDArray[np.float64] | None
    step_sizes: NDArray[np.float64] | None
    seconds: float


class Stepper:
    """Takes one optimizer step for all lanes.

    Args:
        lanes: Whose parameters to update.
        factory: The optimizer's class.
        settings: Hyperparameters by setting index; more than one become parameter groups.
        calls_closure: Whether the optimizer's ``step`` evaluates the closure it is given. For
            one that doesn't, the closure is evaluated first.
    """

    def __init__(
        self,
        lanes: Lanes,
        factory: OptimizerFactory,
        settings: Sequence[Hyperparameters],
        *,
        calls_closure: bool,
    ) -> None:
        self.lanes = lanes
        self.calls_closure = calls_closure
        used = [settings[i] for i in dict.fromkeys(lane.setting for lane in lanes.lanes)]
        params: list[Any] = lanes.leaves()
        if len(used) > 1:
            params = [
                {**setting, "params": list(group.values())}
                for setting, group in zip(used, lanes.groups, strict=True)
            ]
        self.optimizer = factory(params, **used[0])
        self._leaves = lanes.leaves()
        self._batch: Batch = None
        self._losses: torch.Tensor | None = None

    def step(self, batch: Batch) -> torch.Tensor:
        """Update the parameters.

        Returns:
            The losses before the update, detached: shape ``(lanes,)``, or a scalar alone.
        """
        closure = self.closure_for(batch)
        if self.calls_closure:
            self.optimizer.step(closure)  # type: ignore[arg-type]
        else:
            closure()
            self.optimizer.step()
        if self._losses is None:
            raise RuntimeError("the optimizer's step did not evaluate the closure")
        return self._losses

    def closure_for(self, batch: Batch) -> Callable[[], torch.Tensor]:
        """What evaluates losses and gradients on a batch, and returns the sum over lanes."""
        self._batch, self._losses = batch, None
        return self._evaluate

    def _evaluate(self) -> torch.Tensor:
        for leaf in self._leaves:
            leaf.grad = None
        with torch.enable_grad():
            losses = self.lanes.losses(self._batch)
            total = losses.sum() if self.lanes.stacked else losses
            total.backward()
        if self._losses is None:
            self._losses = losses.detach()
        return total.detach()


class Recorder:
    """What is kept of some lanes while they run; stays on the device until it is asked for."""

    def __init__(self, lanes: Lanes, optimizer: torch.optim.Optimizer) -> None:
        workload = lanes.workload
        self.lanes = lanes
        self._due = set(workload.record_steps)
        self._losses: list[torch.Tensor] = []
        self._steps: list[int] = []
        self._watched: list[torch.Tensor] = []
        self._watched_from = 0
        self._diverged_at = np.full(len(lanes), -1, dtype=np.int64)
        self._limit: NDArray[np.float64] | None = None
        two = sum(as_real(v[0] if lanes.stacked else v).numel() for v in lanes.groups[0].values())
        self._points: list[torch.Tensor] | None = [] if two == 2 else None
        tells = callable(getattr(optimizer, "effective_step_size", None))
        self._sizes: list[torch.Tensor] | None = [] if two == 2 and tells else None
        self._optimizer: Any = optimizer
        self._checked = 0

    def watch(self, losses: torch.Tensor) -> None:
        """Note the losses at which a step started."""
        self._watched.append(losses)

    def record(self, step: int) -> None:
        """Note where the lanes stand after a step."""
        if self._points is not None:
            self._points.append(self.lanes.flat())
        if self._sizes is not None:
            self._sizes.append(self._step_sizes())
        if step in self._due:
            self._losses.append(self.lanes.full_losses())
            self._steps.append(step)

    def all_diverged(self) -> bool:
        """Whether no lane is worth going on with. Waits for the device."""
        self.look()
        return bool((self._diverged_at >= 0).all())

    def outcome(self, seconds: float) -> Outcome:
        """Fetch what was kept."""
        self.look()
        records = len(self.lanes.workload.record_steps)
        losses = np.full((len(self.lanes), records), np.nan)
        if self._losses:
            seen = torch.stack(self._losses, dim=1).double().cpu().numpy()
            losses[:, : seen.shape[1]] = seen
        for lane, step in enumerate(self._diverged_at):
            if step >= 0:
                after = np.searchsorted(self.lanes.workload.record_steps, step, side="right")
                losses[lane, after:] = np.nan
        return Outcome(
            diverged_at=self._diverged_at,
            losses=losses,
            trajectory=self._stacked(self._points),
            step_sizes=self._stacked(self._sizes),
            seconds=seconds,
        )

    def _stacked(self, points: list[torch.Tensor] | None) -> NDArray[np.float64] | None:
        if points is None:
            return None
        values = np.full((len(self.lanes), self.lanes.workload.steps + 1, 2), np.nan)
        if points:
            seen = torch.stack(points, dim=1).double().cpu().numpy()
            values[:, : seen.shape[1]] = seen
        for lane, step in enumerate(self._diverged_at):
            if step >= 0:
                values[lane, step + 1 :] = np.nan
        return values

    def _step_sizes(self) -> torch.Tensor:
        size = self._optimizer.effective_step_size
        groups = [{name: size(v) for name, v in group.items()} for group in self.lanes.groups]
        return self.lanes.flat(groups)

    def look(self) -> None:
        """Find the first step after which each lane's loss was not finite or too large.

        Waits for the device.
        """
        count = len(self.lanes)
        if self._watched:
            watched = torch.stack(self._watched).reshape(-1, count).double().cpu().numpy()
            self._note(~np.isfinite(watched), self._watched_from + np.arange(len(watched)))
            self._watched_from += len(self._watched)
            self._watched.clear()
        if len(self._losses) > self._checked:
            seen = torch.stack(self._losses[self._checked :]).double().cpu().numpy()
            if self._limit is None:
                self._limit = self._divergence_limit(seen[0])
            with np.errstate(invalid="ignore"):
                bad = ~np.isfinite(seen) | (seen > self._limit)
            self._note(bad, np.asarray(self._steps[self._checked :]))
            self._checked = len(self._losses)

    def _note(self, bad: NDArray[np.bool_], steps: NDArray[np.int64]) -> None:
        for lane in np.flatnonzero(bad.any(axis=0)):
            step = int(steps[np.argmax(bad[:, lane])])
            known = self._diverged_at[lane]
            self._diverged_at[lane] = step if known < 0 else min(known, step)

    def _divergence_limit(self, start: NDArray[np.float64]) -> NDArray[np.float64]:
        """The loss above which a lane has diverged, given where it started."""
        optimum = self.lanes.workload.objective.optimum
        distance = np.abs(start - (0.0 if optimum is None else optimum))
        limit = start + self.lanes.workload.divergence_factor * distance
        return np.where(distance > 0, limit, np.inf)


def train(
    workload: Workload,
    factory: OptimizerFactory,
    settings: Sequence[Hyperparameters],
    lanes: Sequence[Lane],
    *,
    stacked: bool,
    calls_closure: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> Outcome:
    """Run some trials from start to end.

    Args:
        workload: What to minimise, and for how long.
        factory: The optimizer's class.
        settings: Hyperparameters, by the lanes' setting index.
        lanes: The trials, grouped by setting; one unless stacked.
        stacked: Whether the lanes share tensors.
        calls_closure: See :class:`Stepper`.
        on_step: Called with the number of every step begun.

    Returns:
        What became of each lane, in the order given.

    Raises:
        TrialError: If the optimizer or the objective raises.
    """
    torch.manual_seed(lanes[0].seed)
    began = time.perf_counter()
    side_by_side = Lanes(workload, lanes, stacked=stacked)
    stepper = Stepper(side_by_side, factory, settings, calls_closure=calls_closure)
    recorder = Recorder(side_by_side, stepper.optimizer)
    step = 0
    try:
        recorder.record(0)
        for step, batch in zip(range(1, workload.steps + 1), side_by_side.batches(), strict=False):
            if on_step is not None:
                on_step(step)
            recorder.watch(stepper.step(batch))
            recorder.record(step)
            if step % WATCH_STEPS == 0 and recorder.all_diverged():
                break
    except Exception as error:
        raise TrialError(step, error, recorder, time.perf_counter() - began) from error
    recorder.look()  # so that the seconds are those of the device, which may be far behind
    return recorder.outcome(time.perf_counter() - began)
