"""Lanes: the parameters of several trials side by side, their batches and their losses.

Stacked, every parameter has the lanes as its first dimension and ``torch.func.vmap`` evaluates
the objective. Alone, one trial has its parameters in their own shapes and the objective runs as
written. The training loop is the same for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch._C import _functorch
from torch._functorch.vmap import lazy_load_decompositions  # type: ignore[attr-defined]

from harness.engine.lane_functions import lane_level, lanes_of
from harness.engine.lane_random import LaneRandom
from harness.engine.lane_rules import register_rules
from harness.engine.workload import BATCH_STREAM, STEP, Workload, as_real, generator
from harness.measures import Part
from harness.objectives.base import Batch, Parameters

LEFT = 0.5
"""Share of the lanes that goes on, at most, for the others to be left out."""


@dataclass(frozen=True)
class Lane:
    """One trial: which of the settings, and which seed."""

    setting: int
    seed: int


class Lanes:
    """Parameters, batches and losses of some trials.

    Args:
        workload: What they run.
        lanes: The trials.
        stacked: Whether they share tensors; alone, there is exactly one lane.

    Attributes:
        params: Their parameters by name.
        state: What the objective has of each beside these.
        layouts: The strides of each parameter of a trial alone.
        clock: The updates that each has taken, for an objective that sees them; else None.
    """

    def __init__(self, workload: Workload, lanes: Sequence[Lane], *, stacked: bool) -> None:
        if not stacked and len(lanes) != 1:
            raise ValueError(f"a run of its own has one lane, got {len(lanes)}")
        self.workload = workload
        self.lanes = tuple(lanes)
        self.stacked = stacked
        starts = {lane.seed: workload.drawn_start(lane.seed) for lane in lanes}
        mine = [starts[lane.seed] for lane in lanes]
        self.params: Parameters = {
            name: (torch.stack([start[name] for start in mine]) if stacked else value.clone())
            .to(workload.device)
            .requires_grad_()
            for name, value in mine[0].items()
        }
        self.layouts = [torch.empty_like(value).stride() for value in mine[0].values()]
        lazy_load_decompositions()  # what vmap needs; it does so as well
        register_rules()
        draws = workload.draws if stacked else None
        self._random = LaneRandom(draws, [lane.seed for lane in lanes]) if draws else None
        self._active: torch.Tensor | None = None
        states = {lane.seed: workload.state(lane.seed) for lane in lanes}
        own = [states[lane.seed] for lane in lanes]
        self.state: Parameters = {
            name: (torch.stack([state[name] for state in own]) if stacked else value.clone()).to(
                workload.device
            )
            for name, value in own[0].items()
        }
        self.clock = self.state[STEP] if workload.objective.sees_step else None

    def __len__(self) -> int:
        return len(self.lanes)

    def leaves(self) -> list[torch.Tensor]:
        """Every tensor that is optimised, lanes first where stacked."""
        return list(self.params.values())

    @property
    def dimension(self) -> int:
        """Parameters of one trial."""
        return sum(as_real(value).numel() for value in self.params.values()) // len(self)

    def losses(self, batch: Batch) -> torch.Tensor:
        """The loss of each lane on its batch: shape ``(lanes,)``, or a scalar alone."""
        loss = self.workload.objective.loss
        if not self.stacked:
            return loss(self._given, batch)
        given = self._of_active(self._given)
        count = len(self) if self._active is None else len(self._active)
        # As torch.func.vmap does, which spends as long on looking through its arguments.
        drawing = self._random.drawing() if self._random else nullcontext()
        with drawing, lane_level(count, may_draw=self._random is not None) as level:
            params = {name: lanes_of(value) for name, value in given.items()}
            if batch is not None and self.workload.batch_size is not None:
                batch = tuple(map(lanes_of, batch))
            found = _functorch._remove_batch_dim(loss(params, batch), level, count, 0)
        if self._active is None:
            return found
        for name, kept in self.state.items():
            kept.index_copy_(0, self._active, given[name])
        return self._of_all(found, 0.0)

    def leave_out(self, ended: NDArray[np.bool_]) -> None:
        """Evaluate lanes no more that have come to an end, once they are half of all or more.

        From then on their losses and gradients are 0, and their metrics NaN.
        """
        count = len(self) if self._active is None else len(self._active)
        rest = np.flatnonzero(~ended)
        if self.stacked and 0 < len(rest) <= LEFT * count:
            self._active = torch.from_numpy(rest).to(self.workload.device)
            if self._random is not None:
                self._random.go_on_with(rest.tolist())

    def _of_active(self, values: Parameters) -> Parameters:
        """Those lanes of some tensors that are evaluated."""
        if self._active is None:
            return values
        return {name: value.index_select(0, self._active) for name, value in values.items()}

    def _of_all(self, values: torch.Tensor, left_out: float) -> torch.Tensor:
        """Values of the lanes that are evaluated among those of all lanes."""
        if self._active is None:
            return values
        whole = torch.full((len(self),), left_out, dtype=values.dtype, device=values.device)
        return whole.index_copy(0, self._active, values)

    @property
    def _given(self) -> Parameters:
        """All that the objective is given as parameters."""
        return {**self.params, **self.state} if self.state else self.params

    @torch.no_grad()
    def measured(self, part: Part) -> dict[str, torch.Tensor]:
        """The metrics of each lane over all rows of a part, as they are recorded.

        Returns:
            By name, the spec's metrics and the loss, each of shape ``(lanes,)``: means over the
            rows, where these are evaluated in several batches.

        Raises:
            Misfit: If the objective does not compute one of them, or no scalar.
        """
        rows, size = self.workload.rows_of(part), self.workload.evaluation_batch_size
        if rows is None or size is None or size >= len(rows[0]):
            return self._metrics(part, rows)
        total: dict[str, torch.Tensor] = {}
        for first in range(0, len(rows[0]), size):
            batch = tuple(tensor[first : first + size] for tensor in rows)
            for name, value in self._metrics(part, batch).items():
                weighted = value * (len(batch[0]) / len(rows[0]))
                total[name] = total[name] + weighted if name in total else weighted
        return total

    def _metrics(self, part: Part, rows: Batch) -> dict[str, torch.Tensor]:
        """The metrics of each lane on some rows: together, or one by one where that is faster."""
        measure, chunk, given = self.workload.measured, None, self._of_active(self._given)
        if self.stacked:
            chunk = self.workload.lanes_evaluated_at_once(part)
            measure = torch.func.vmap(measure, in_dims=(0, None), chunk_size=chunk)
        if chunk != 1:
            found = measure(given, rows)
            return {k: self._of_all(value.reshape(-1), math.nan) for k, value in found.items()}
        count = len(next(iter(given.values())))
        own = [
            self.workload.measured({k: v[lane] for k, v in given.items()}, rows)
            for lane in range(count)
        ]
        stacked = {name: torch.stack([one[name].reshape(()) for one in own]) for name in own[0]}
        return {name: self._of_all(value, math.nan) for name, value in stacked.items()}

    def parameters(self, lane: int) -> dict[str, NDArray[Any]]:
        """Copies of the parameters of one lane, by name."""
        own = {k: v[lane] if self.stacked else v for k, v in self.params.items()}
        return {name: value.detach().cpu().numpy().copy() for name, value in own.items()}

    @torch.no_grad()
    def flat(self, values: Iterable[torch.Tensor] | None = None) -> torch.Tensor:
        """All parameters of each lane, shape ``(lanes, dimension)``; a copy.

        Args:
            values: Other tensors of the parameters' shapes to flatten in their place.
        """
        tensors = self.params.values() if values is None else values
        return torch.cat([as_real(v).reshape(len(self), -1) for v in tensors], dim=1).clone()

    def batches(self) -> Iterator[Batch]:
        """The batches of each lane, without end; a lane's order is its seed's alone."""
        workload = self.workload
        if workload.data is None or workload.batch_size is None:
            while True:
                yield workload.rows_to_give()
        size = workload.batch_size
        place = {seed: i for i, seed in enumerate(dict.fromkeys(lane.seed for lane in self.lanes))}
        sources = [generator(seed, BATCH_STREAM) for seed in place]
        places: torch.Tensor | None = None
        if len(sources) < len(self):
            of_lanes = [place[lane.seed] for lane in self.lanes]
            places = torch.tensor(of_lanes, device=workload.device)
        pinned = workload.device.type == "cuda"
        drawn: torch.Tensor | None = None
        while True:
            # Written over epoch after epoch: fresh memory costs as much as drawing what goes into
            # it. But not what is on its way to a GPU, for which nobody waits: torch keeps such
            # (pinned) memory until it has been copied, and then gives it out again.
            if drawn is None or pinned:
                drawn = torch.empty(
                    (len(sources), workload.rows), dtype=torch.int64, pin_memory=pinned
                )
            for row, source in zip(drawn, sources, strict=True):
                row.copy_(workload.order(source))
            order = drawn.to(workload.device, non_blocking=pinned)
            if places is not None:
                order = order.index_select(0, places)
            seen = workload.rows - (workload.rows % size if workload.drop_last else 0)
            for first in range(0, seen, size):
                rows = order[:, first : first + size]
                rows = rows if self.stacked else rows[0]
                rows = rows if self._active is None else rows.index_select(0, self._active)
                yield tuple(_gather(tensor, rows) for tensor in workload.data)


def _gather(tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """``tensor[rows]``, three times as fast for many small rows."""
    return tensor.index_select(0, rows.reshape(-1)).reshape(*rows.shape, *tensor.shape[1:])
