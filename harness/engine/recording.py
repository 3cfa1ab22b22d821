"""A record of trials while they run: metrics, trajectories, and which of them have ended."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from harness.engine.lanes import Lanes
from harness.engine.stopping import Stopping
from harness.engine.ways import Surroundings
from harness.measures import TRAIN_LOSS

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """The outcome of some lanes.

    Attributes:
        diverged_at: Per lane the step after which the loss was not finite, or the last step where
            it ended above the limit; -1 where neither.
        stopped_at: Per lane the step at which a rule of the spec ended it; -1 where none did.
        values: By measure, its values at the recorded steps, shape ``(lanes, records)``, float64;
            NaN after a loss that was not finite, and after the end of a lane.
        trajectory: Parameters after every step, shape ``(lanes, steps + 1, dimension)``,
            float64; None unless there are one or two.
        step_sizes: The optimizer's effective step size of each parameter after every step, as
            ``trajectory``; None where the optimizer doesn't tell.
        seconds: Wall time of the loop, shared by all lanes.
        evaluations: How often loss and gradients had been evaluated after each step, the same for
            all lanes, as far as the loop got: shape ``(steps + 1,)`` at most.
        parameters: Per lane, where they are kept, the parameters at its end by name.
    """

    diverged_at: NDArray[np.int64]
    stopped_at: NDArray[np.int64]
    values: Mapping[str, Array]
    trajectory: Array | None
    step_sizes: Array | None
    seconds: float
    evaluations: NDArray[np.int64]
    parameters: tuple[Mapping[str, NDArray[Any]], ...] | None = None

    @property
    def losses(self) -> Array:
        """The loss over all rows that steps see, as ``values``."""
        return self.values[TRAIN_LOSS.name]


class Trained(Protocol):
    """What is recorded: a :class:`~harness.engine.stepper.Stepper`."""

    lanes: Lanes
    optimizer: torch.optim.Optimizer
    evaluations: int
    around: Surroundings

    def leave_out(self, gone: NDArray[np.bool_]) -> None:
        """Take no more trouble with some lanes."""
        ...

    def train(self) -> None:
        """Put the parameters where steps are taken."""
        ...

    def eval(self) -> None:
        """Put the parameters where the loss is to be evaluated."""
        ...

    def step_sizes(self) -> torch.Tensor:
        """Give the effective step size of each parameter, shape ``(lanes, dimension)``."""
        ...


class Recorder:
    """A record of some lanes while they run; on the device until it is asked for.

    Attributes:
        has_news: Whether a rule of the spec has ended a lane since it was last looked at.
    """

    def __init__(self, stepper: Trained) -> None:
        lanes = stepper.lanes
        workload = lanes.workload
        self.lanes = lanes
        self._stepper = stepper
        self._due = set(workload.record_steps)
        self._values: dict[str, list[torch.Tensor]] = {m.name: [] for m in workload.measures}
        self._steps: list[int] = []
        self._watched: list[torch.Tensor] = []
        self._watched_from = 0
        self._evaluations = array("q", [0])
        self._diverged_at = np.full(len(lanes), -1, dtype=np.int64)
        self._gone = np.zeros(len(lanes), dtype=np.bool_)
        self._stopping = Stopping(workload.stop, workload.measures, len(lanes))
        self.has_news = False
        self._kept: dict[int, Mapping[str, NDArray[Any]]] = {}
        few = lanes.dimension in (1, 2)
        self._points: list[torch.Tensor] | None = [] if few else None
        tells = callable(getattr(stepper.optimizer, "effective_step_size", None))
        self._sizes: list[torch.Tensor] | None = [] if few and tells else None

    def watch(self, losses: torch.Tensor) -> None:
        """Note the losses at which a step started; called after the step."""
        self._watched.append(losses)
        self._evaluations.append(self._stepper.evaluations)

    def record(self, step: int) -> None:
        """Note where the lanes stand after a step, where the optimizer wants to be evaluated."""
        is_due = step in self._due
        if self._points is None and not is_due:
            if step == 0:
                self._stepper.train()
            return
        if step:
            self._stepper.eval()
        if self._points is not None:
            self._points.append(self.lanes.flat())
        if self._sizes is not None:
            self._sizes.append(self._stepper.step_sizes())
        if is_due:
            self._measure(step)
        if step < self.lanes.workload.steps:
            self._stepper.train()

    def _measure(self, step: int) -> None:
        for part in self.lanes.workload.parts:
            for name, values in self.lanes.measured(part).items():
                self._values[f"{part} {name}"].append(values)
        self._steps.append(step)
        if self._stopping.is_asked:
            latest = {name: own[-1].double().cpu().numpy() for name, own in self._values.items()}
            stopped = self._stopping.see(step, latest)
            self.has_news = self.has_news or bool(len(stopped))
            for lane in stopped:
                self._keep(int(lane))

    def latest(self, step: int) -> float | None:
        """The loss that a schedule goes by, where it is recorded after this step.

        It is that on validation where there is such a part, else that on train; of one lane.
        """
        if not self._steps or self._steps[-1] != step:
            return None
        part = "validation" if "validation" in self.lanes.workload.parts else "train"
        return float(self._values[f"{part} loss"][-1])

    def _keep(self, lane: int) -> None:
        """Keep a lane's parameters as they are, where they are to be kept."""
        if self.lanes.workload.keeps_parameters:
            self._kept[lane] = self.lanes.parameters(lane)

    def all_ended(self, *, looks: bool) -> bool:
        """Return whether no lane is worth going on with. Waits for the device.

        Args:
            looks: Whether a trial alone would look at its losses here. A lane that has diverged
                goes on until then, as its optimizer may raise before.
        """
        self.look()
        self.has_news = False
        self._gone |= (self._ends() if looks else self._stopping.stopped_at) >= 0
        self._stepper.leave_out(self._gone)
        return bool(self._gone.all())

    def outcome(self, seconds: float) -> Outcome:
        """Fetch what was kept."""
        self.look()
        workload = self.lanes.workload
        shape = (len(self.lanes), len(workload.record_steps))
        found = {name: np.full(shape, np.nan) for name in self._values}
        for name, own in self._values.items():
            if own:
                seen = torch.stack(own, dim=1).double().cpu().numpy()
                found[name][:, : seen.shape[1]] = seen
        if self._steps:
            self._judge(found[TRAIN_LOSS.name])
        ends = self._ends()
        for lane in np.flatnonzero(ends >= 0):
            after = np.searchsorted(workload.record_steps, ends[lane], side="right")
            for values in found.values():
                values[lane, after:] = np.nan
        kept = None
        if workload.keeps_parameters:
            numbers = range(len(self.lanes))
            for number in numbers:
                if number not in self._kept:
                    self._keep(number)
            kept = tuple(self._kept[number] for number in numbers)
        return Outcome(
            diverged_at=self._diverged_at,
            stopped_at=self._stopping.stopped_at,
            values=found,
            trajectory=self._stacked(self._points),
            step_sizes=self._stacked(self._sizes),
            seconds=seconds,
            evaluations=self._evaluated(),
            parameters=kept,
        )

    def _ends(self) -> NDArray[np.int64]:
        """Per lane the step at which it ended before the last; -1 where it didn't."""
        diverged, stopped = self._diverged_at, self._stopping.stopped_at
        return np.where(diverged < 0, stopped, diverged)

    def _evaluated(self) -> NDArray[np.int64]:
        counts = list(self._evaluations)
        if self._stepper.evaluations > counts[-1]:  # by a step that raised
            counts.append(self._stepper.evaluations)
        return np.array(counts, dtype=np.int64)

    def _stacked(self, points: list[torch.Tensor] | None) -> Array | None:
        if points is None:
            return None
        shape = (len(self.lanes), self.lanes.workload.steps + 1, self.lanes.dimension)
        values = np.full(shape, np.nan)
        if points:
            seen = torch.stack(points, dim=1).double().cpu().numpy()
            values[:, : seen.shape[1]] = seen
        ends = self._ends()
        for lane in np.flatnonzero(ends >= 0):
            values[lane, ends[lane] + 1 :] = np.nan
        return values

    def look(self) -> None:
        """Find the first step after which each lane's loss on its batch was not finite.

        Waits for the device.
        """
        self._stepper.around.settle()
        count = len(self.lanes)
        if self._watched:
            watched = torch.stack(self._watched).reshape(-1, count).double().cpu().numpy()
            self._note(~np.isfinite(watched), self._watched_from + np.arange(len(watched)))
            self._watched_from += len(self._watched)
            self._watched.clear()

    def _judge(self, losses: Array) -> None:
        """Hold the loss over all data against the limit, where lanes start and where they end.

        Not in between: whether a trial has diverged must not depend on how often it is looked at.
        """
        start, steps = losses[:, 0], self._steps
        self._note(~np.isfinite(start)[None], np.array([0]))
        stopped, last = self._stopping.stopped_at, self.lanes.workload.steps
        for end in sorted({*stopped[stopped >= 0].tolist(), last} & set(steps)):
            loss = losses[:, steps.index(end)]
            with np.errstate(invalid="ignore"):
                bad = ~np.isfinite(loss) | (loss > self._divergence_limit(start))
            here = (stopped == end) | ((stopped < 0) & (end == last))
            self._note((bad & here)[None], np.array([end]))

    def _note(self, bad: NDArray[np.bool_], steps: NDArray[np.int64]) -> None:
        """Note a divergence, unless the lane had come to its end before."""
        stopped = self._stopping.stopped_at
        bad = bad & ((stopped[None] < 0) | (steps[:, None] <= stopped[None]))
        for lane in np.flatnonzero(bad.any(axis=0)):
            step = int(steps[np.argmax(bad[:, lane])])
            known = self._diverged_at[lane]
            self._diverged_at[lane] = step if known < 0 else min(known, step)

    def _divergence_limit(self, start: Array) -> Array:
        """The loss above which a lane must not end, given where it started."""
        optimum = self.lanes.workload.objective.optimum
        with np.errstate(over="ignore"):
            distance = np.abs(start - (0.0 if optimum is None else optimum))
            limit = start + self.lanes.workload.divergence_factor * distance
        return np.where(distance > 0, limit, np.inf)
