"""The steps of an optimizer: loss and gradients of all lanes, clipping, updates, the schedule."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from harness.engine import ways
from harness.engine.clipping import Clipping, clipping_of
from harness.engine.constructors import Refused
from harness.engine.lane_values import LaneFloat, NotShareable
from harness.engine.lanes import Lane, Lanes
from harness.engine.recipe_factory import (
    Built,
    OptimizerFactory,
    parts_for,
    recipe_of,
    takes_closure,
)
from harness.engine.schedules import OwnSchedule, Schedule
from harness.engine.shared_schedules import SharedSchedule
from harness.objectives.base import Batch
from harness.plan.model import Hyperparameters
from harness.plan.recipe import Parts
from harness.results import Way


class Witness(Protocol):
    """Notes what steps do."""

    def note_gradients(self, leaves: Sequence[torch.Tensor], losses: torch.Tensor) -> None:
        """Note what a step is about to be taken with."""
        ...

    def note_parameters(self, leaves: Sequence[torch.Tensor]) -> None:
        """Note what it made of the parameters."""
        ...


@dataclass(frozen=True)
class Limit:
    """The limit of a trial's time, where each lane has an optimizer of its own.

    Attributes:
        seconds: What the code of one lane's optimizer may take in all.
        on_turn: Called before each of its turns.
    """

    seconds: float
    on_turn: Callable[[], None]


class Stepper:
    """Takes an optimizer's steps for all lanes.

    Each step, the loss and its gradients are evaluated first, as ``loss.backward()`` does, and
    clipped; then ``step`` gets a closure, and the schedule goes on. Called while nothing has
    changed, a closure gives what is known already; afterwards it evaluates anew, at the parameters
    as they are then.

    Args:
        lanes: Whose parameters to update.
        factory: The optimizer's class, or one with a recipe.
        settings: Hyperparameters by setting index.
        way: How the optimizer's code runs.
        create_graph: Whether gradients keep their graph, for an optimizer that differentiates them.

    Attributes:
        optimizer: The optimizer.
        evaluations: How often loss and gradients were evaluated.
        schedule: What changes hyperparameters from update to update; None for nothing.
        limit: The limit of a lane's time; None for none.
    """

    limit: Limit | None = None

    def __init__(
        self,
        lanes: Lanes,
        factory: OptimizerFactory,
        settings: Sequence[Hyperparameters],
        way: Way,
        *,
        create_graph: bool = False,
    ) -> None:
        self.lanes = lanes
        self.evaluations = 0
        self._steps = 0
        self._leaves = lanes.leaves()
        self._factory = factory
        self._create_graph = create_graph
        self._batch: Batch = None
        self._losses = torch.empty(0)
        self.optimizer: torch.optim.Optimizer
        self.around: ways.Surroundings
        self.schedule: Schedule | None = None
        self._clipping: Clipping | None = None
        self._begin(settings, way)

    def _begin(self, settings: Sequence[Hyperparameters], way: Way) -> None:
        """Construct the optimizer, and what belongs to it."""
        lanes, factory = self.lanes, self._factory
        refusals: list[str] = []
        given, with_vectors = hyperparameters(settings, lanes.lanes, refusals)
        self.around = ways.start(way, self._leaves, refusals, with_vectors=with_vectors)
        parts = parts_for(factory, given)
        with self.running(), self.around.inside():
            built = self._built(parts, self.around.params)
        self.optimizer = built.optimizer
        self.around.check()
        self._takes_closure = takes_closure(self.optimizer)
        self._modes = modes(self.optimizer)
        self._clipping = clipping_of(parts.clipping, stacked=lanes.stacked)
        try:
            self.schedule = self._scheduled(built, settings, refusals)
        except Refused as refused:
            raise refused.error from None

    def _built(self, parts: Parts, params: Sequence[torch.Tensor]) -> Built:
        """The optimizer of some tensors, which stand for the parameters of a trial."""
        lanes = self.lanes
        shapes = {
            name: tuple(leaf.shape[1:] if lanes.stacked else leaf.shape)
            for name, leaf in lanes.params.items()
        }
        tensors = dict(zip(shapes, params, strict=True))
        try:
            return recipe_of(self._factory).build(tensors, shapes, parts)
        except Refused as refused:
            raise refused.error from None

    def _scheduled(
        self, built: Built, settings: Sequence[Hyperparameters], refusals: list[str]
    ) -> Schedule | None:
        """The schedule of the lanes' settings, if there is one."""
        recipe, steps = recipe_of(self._factory), self.lanes.workload.scheduled_steps
        used = list(dict.fromkeys(lane.setting for lane in self.lanes.lanes))
        schedules = [
            recipe.schedule(parts_for(self._factory, settings[i]).schedule, steps) for i in used
        ]
        known = [schedule for schedule in schedules if schedule is not None]
        if len(known) < len(schedules):
            return None
        if not self.lanes.stacked:
            looks = bool(recipe.looks_at_loss)
            return OwnSchedule(known[0], built.scheduled, looks_at_loss=looks)
        if recipe.looks_at_loss:
            raise NotShareable(f"its schedule looks at a loss ({recipe.looks_at_loss})")
        places = {setting: place for place, setting in enumerate(used)}
        of_lanes = [places[lane.setting] for lane in self.lanes.lanes]
        return SharedSchedule(known, built.scheduled, of_lanes, refusals)

    def running(self) -> AbstractContextManager[Any]:
        """Be entered around all steps."""
        return self.around.run(self._factory)

    def trust_versions(self) -> None:
        """Take a trial alone for unchanged where its version counters are, which takes no time."""
        self.around = ways.Versions(self._leaves)

    def step(self, batch: Batch, witness: Witness | None = None) -> torch.Tensor:
        """Update the parameters.

        Args:
            batch: Of all lanes.
            witness: Notes the gradients and what the step makes of the parameters.

        Returns:
            The losses before the update, detached: shape ``(lanes,)``, or a scalar alone.
        """
        self._batch = batch
        clock = self.lanes.clock
        if self._steps and self.schedule is not None:
            self.schedule.advance()  # not before, so that what is recorded is of the step taken
        self._steps += 1
        losses = self._evaluate()
        if witness is not None:
            witness.note_gradients(self._leaves, losses)
        self._update()
        if clock is not None:
            clock.fill_(self._steps)  # for what is recorded now, and for the next step
        if witness is not None:
            witness.note_parameters(self._leaves)
        return losses

    def _update(self) -> None:
        """Let the optimizer take its step."""
        with self.around.inside():
            if self._takes_closure:
                self.optimizer.step(self._closure)  # type: ignore[arg-type]
            else:
                self.optimizer.step()
        self.around.check()

    def leave_out(self, gone: NDArray[np.bool_]) -> None:
        """Take no more trouble with lanes that have come to an end.

        Args:
            gone: Which, shape ``(lanes,)``.
        """
        self.lanes.leave_out(gone)

    def train(self) -> None:
        """Put the parameters where steps are taken, where an optimizer tells the two apart."""
        self._switch(0)

    def eval(self) -> None:
        """Put the parameters where the loss is to be evaluated."""
        self._switch(1)

    def step_sizes(self) -> torch.Tensor:
        """The optimizer's effective step size of each parameter, shape ``(lanes, dimension)``."""
        size: Any = self.optimizer.effective_step_size  # type: ignore[attr-defined]
        with self.around.inside():
            sizes = [size(param) for param in self.around.params]
        self.around.check()
        return self.lanes.flat(self.around.plain(sizes))

    def _switch(self, index: int) -> None:
        if self._modes is not None:
            with self.around.inside():
                self._modes[index]()
            self.around.check()

    def _closure(self) -> torch.Tensor:
        if not self.around.is_as_evaluated():
            with self.around.outside():
                self._evaluate()
        return self.around.shown(self._losses)

    def _evaluate(self) -> torch.Tensor:
        self.evaluations += 1
        for leaf in self._leaves:
            leaf.grad = None
        with torch.enable_grad():
            losses = self.lanes.losses(self._batch)
            total = losses.sum() if self.lanes.stacked else losses
            if self._create_graph:
                # torch warns of a cycle, which ends with the next evaluation.
                with warnings.catch_warnings(action="ignore"):
                    total.backward(create_graph=True)
            else:
                total.backward()
        if self.lanes.stacked:
            give_memory_of_their_own(self._leaves)
        if self._clipping is not None:
            self._clipping(self._leaves)
        self._keep(losses)
        return self._losses

    def _keep(self, losses: torch.Tensor) -> None:
        """Keep what was evaluated for a closure."""
        self._losses = losses.detach()
        self.around.evaluated()


def give_memory_of_their_own(leaves: Sequence[torch.Tensor]) -> None:
    """Copy gradients that share memory with those of other parameters.

    Two parameters that are added have the same gradient (the two biases of an LSTM). Of a trial
    alone, autograd gives each a tensor of its own; out of ``vmap`` they come as one, and what
    clips or changes gradients in place would do so twice.
    """
    known: set[int] = set()
    for leaf in leaves:
        grad = leaf.grad
        if grad is None or grad.layout is not torch.strided:
            continue
        place = grad.untyped_storage().data_ptr()
        if place in known:
            leaf.grad = grad.clone()
        known.add(place)


def hyperparameters(
    settings: Sequence[Hyperparameters], lanes: Sequence[Lane], refusals: list[str]
) -> tuple[Hyperparameters, bool]:
    """Arguments for an optimizer's constructor, and whether some have a value per lane.

    Args:
        settings: Settings of the same keys, which differ by floats alone, but for the schedule.
        lanes: Which of them each lane has.
        refusals: Where it is noted that a value per lane could not be carried.
    """
    used = [settings[i] for i in dict.fromkeys(lane.setting for lane in lanes)]
    if len(used) == 1:
        return copy.deepcopy(used[0]), False  # an optimizer may write into a list
    own = [settings[lane.setting] for lane in lanes]
    names = (name for name in used[0] if not name.startswith("schedule."))  # see SharedSchedule
    return {name: one_value([s[name] for s in own], refusals) for name in names}, True


def one_value(values: Sequence[Any], refusals: list[str]) -> Any:
    """One value for all lanes, element by element in lists."""
    first = values[0]
    if isinstance(first, list | tuple):
        return type(first)(one_value(own, refusals) for own in zip(*values, strict=True))
    if all(value == first for value in values):
        return first
    return LaneFloat(np.array(values, dtype=np.float64), refusals)


Modes = tuple[Callable[[], Any], Callable[[], Any]]
"""``train`` and ``eval`` of an optimizer."""


def modes(optimizer: torch.optim.Optimizer) -> Modes | None:
    """``train`` and ``eval`` of an optimizer that is evaluated elsewhere than it steps; or None."""
    found = []
    for name in ("train", "eval"):
        try:
            method = getattr(optimizer, name, None)
        except Exception:
            return None
        if not callable(method):
            return None
        found.append(method)
    return found[0], found[1]
