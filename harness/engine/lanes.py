"""Lanes: the parameters of several trials side by side, their batches and their losses.

Stacked, every parameter has the lanes as its first dimension and ``torch.func.vmap`` evaluates
the objective. Alone, one trial has its parameters in their own shapes and the objective runs as
written. The training loop is the same for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch._C import _functorch
from torch._functorch.vmap import lazy_load_decompositions  # type: ignore[attr-defined]

from harness.engine.lane_functions import lane_level, lanes_of
from harness.engine.lane_random import LaneRandom
from harness.engine.lane_rules import register_rules
from harness.engine.workload import BATCH_STREAM, Workload, as_real, generator
from harness.measures import Part
from harness.objectives.base import Batch, Parameters


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
        lazy_load_decompositions()  # what vmap needs; it does so as well
        register_rules()
        draws = workload.draws if stacked else None
        self._random = LaneRandom(draws, [lane.seed for lane in lanes]) if draws else None
        states = {lane.seed: workload.state(lane.seed) for lane in lanes}
        own = [states[lane.seed] for lane in lanes]
        self.state: Parameters = {
            name: (torch.stack([state[name] for state in own]) if stacked else value.clone()).to(
                workload.device
            )
            for name, value in own[0].items()
        }

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
        # As torch.func.vmap does, which spends as long on looking through its arguments.
        drawing = self._random.drawing() if self._random else nullcontext()
        with drawing, lane_level(len(self), may_draw=self._random is not None) as level:
            params = {name: lanes_of(value) for name, value in self._given.items()}
            if batch is not None and self.workload.batch_size is not None:
                batch = tuple(map(lanes_of, batch))
            return _functorch._remove_batch_dim(loss(params, batch), level, len(self), 0)

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
        measure, chunk = self.workload.measured, None
        if self.stacked:
            chunk = self.workload.lanes_evaluated_at_once(part)
            measure = torch.func.vmap(measure, in_dims=(0, None), chunk_size=chunk)
        if chunk != 1:
            found = measure(self._given, rows)
            return {name: value.reshape(len(self)) for name, value in found.items()}
        own = [
            self.workload.measured({k: v[lane] for k, v in self._given.items()}, rows)
            for lane in range(len(self))
        ]
        return {name: torch.stack([one[name].reshape(()) for one in own]) for name in own[0]}

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
                yield tuple(_gather(tensor, rows) for tensor in workload.data)


def _gather(tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """``tensor[rows]``, three times as fast for many small rows."""
    return tensor.index_select(0, rows.reshape(-1)).reshape(*rows.shape, *tensor.shape[1:])
