"""An optimizer object for each lane, while loss, gradients and recording are those of all lanes.

Each object has tensors of its own, as a trial alone would give it, and its code runs as written:
nothing of it is watched or changed. Before it takes its step it is given its lane's gradients, and
afterwards its parameters are copied to those of all lanes. What one object could see of another is
given to each as it would have it alone (torch's random numbers), or may not change (all else that
they have in common).
"""

from __future__ import annotations

import copy
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from harness.engine.clipping import clipping_of
from harness.engine.common_state import CommonState
from harness.engine.constructors import Refused
from harness.engine.isolation import seed_of_torch
from harness.engine.lane_values import NotShareable
from harness.engine.recipe_factory import Built, parts_for, recipe_of, takes_closure
from harness.engine.schedules import OwnSchedule
from harness.engine.stepper import Modes, Stepper, modes, one_value
from harness.engine.ways import Surroundings, has_hooks, is_equal
from harness.engine.workload import as_real
from harness.plan.model import Hyperparameters
from harness.plan.recipe import Parts
from harness.results import Way
from harness.suite import torch_settings
from harness.suite.random_state import drawn_from, generators, random_state

_hooks: Any = importlib.import_module("torch.optim.optimizer")
"""The module, which ``torch.optim`` does not name."""


def stepper_for(way: Way) -> type[Stepper]:
    """The kind of stepper for a way in which an optimizer's code runs."""
    return OwnOptimizers if way == "own_optimizers" else Stepper


@dataclass
class _Lane:
    """A lane's optimizer with what belongs to it.

    Attributes:
        params: Its tensors.
        optimizer: The optimizer.
        takes_closure: Whether its step is given a closure.
        modes: Its ``train`` and ``eval``.
        schedule: Its schedule.
        grads: The gradients that it was given for its latest step.
    """

    params: list[torch.Tensor]
    optimizer: Any
    takes_closure: bool
    modes: Modes | None
    schedule: OwnSchedule | None
    grads: list[torch.Tensor | None] = field(default_factory=list)


class OwnOptimizers(Stepper):
    """Takes the steps of an optimizer object for each lane; see :class:`Stepper`.

    Attributes:
        optimizer: That of the first lane.

    Raises:
        NotShareable: From any method, if a lane's optimizer does what only one of a trial alone
            can do.
    """

    @override
    def _begin(self, settings: Sequence[Hyperparameters], way: Way) -> None:
        lanes, recipe = self.lanes, recipe_of(self._factory)
        if self._create_graph:
            raise NotShareable("its gradients keep their graph")
        if recipe.looks_at_loss:
            raise NotShareable(f"its schedule looks at a loss ({recipe.looks_at_loss})")
        self._refusals: list[str] = []
        self._turn: int | None = None  # the lane that takes its step
        self._common = CommonState(self._factory)
        self.around = _Watched(self._leaves)
        draws = bool(lanes.workload.draws)
        seeds = [lane.seed for lane in lanes.lanes]
        self._random = _RandomNumbers(seeds, lanes.workload.device, loss_draws=draws)
        self._going = list(range(len(lanes)))
        self._own: list[_Lane] = []
        self._made: list[torch.Tensor] = []  # the parameters of all lanes, as they were made
        self._seconds = [0.0] * len(lanes)
        values = [copy.deepcopy(settings[lane.setting]) for lane in lanes.lanes]
        parts = [parts_for(self._factory, own) for own in values]
        self._clipping = clipping_of(self._clip_values(parts), stacked=True)

        def construct(lane: int) -> None:
            self._own.append(self._constructed(lane, parts[lane]))
            if not lane:  # it may be of a class that nothing has told of before
                self._common.look_at_also(self._own[0].optimizer)

        self._each(construct)
        self.optimizer = self._own[0].optimizer
        self.around.settle()

    def _clip_values(self, parts: Sequence[Parts]) -> dict[str, Any]:
        """What gradients are clipped at, lane by lane where it differs."""
        names = dict.fromkeys(name for own in parts for name in own.clipping)
        found = {name: [own.clipping.get(name) for own in parts] for name in names}
        if any(None in own and any(v is not None for v in own) for own in found.values()):
            raise NotShareable("gradients are clipped in some of its settings only")
        return {name: one_value(own, self._refusals) for name, own in found.items()}

    def _constructed(self, lane: int, parts: Parts) -> _Lane:
        layouts = self.lanes.layouts
        params = [
            _as_alone(leaf.detach()[lane], strides)
            for leaf, strides in zip(self._leaves, layouts, strict=True)
        ]
        built = self._built(parts, params)
        optimizer: Any = built.optimizer
        takes = takes_closure(optimizer)
        own_modes = modes(optimizer)
        schedule = self._own_schedule(built, parts)
        return _Lane(params, optimizer, takes, own_modes, schedule)

    def _own_schedule(self, built: Built, parts: Parts) -> OwnSchedule | None:
        steps = self.lanes.workload.scheduled_steps
        schedule = recipe_of(self._factory).schedule(parts.schedule, steps)
        if schedule is None:
            return None
        try:
            return OwnSchedule(schedule, built.scheduled, looks_at_loss=False)
        except Refused as refused:
            raise refused.error from None

    @override
    def leave_out(self, gone: NDArray[np.bool_]) -> None:
        super().leave_out(gone)
        self._going = [lane for lane in self._going if not gone[lane]]

    @override
    def _update(self) -> None:
        grads = [leaf.grad for leaf in self._leaves]
        if any(grad is not None and grad.layout is not torch.strided for grad in grads):
            raise NotShareable("its gradients are sparse")
        rows = [None if grad is None else grad.unbind(0) for grad in grads]

        def step(lane: int) -> None:
            own = self._own[lane]
            if self._steps > 1 and own.schedule is not None:
                own.schedule.advance()  # which sees the gradients of the step before
            own.grads = [None if row is None else row[lane] for row in rows]
            own.grads = [
                None if grad is None else _like(param, grad)
                for param, grad in zip(own.params, own.grads, strict=True)
            ]
            for param, grad in zip(own.params, own.grads, strict=True):
                param.grad = grad
            if own.takes_closure:
                self._turn = lane
                own.optimizer.step(self._closure_of(lane))
                self._turn = None
            else:
                own.optimizer.step()

        self._each(step)

    def _closure_of(self, lane: int) -> Callable[[], torch.Tensor]:
        loss = self._losses[lane].clone()

        def closure() -> torch.Tensor:
            if self._turn != lane or not self._is_as_evaluated_for(lane):
                self._refuse("it evaluates its closure elsewhere than where its step begins")
            return loss

        return closure

    def _is_as_evaluated_for(self, lane: int) -> bool:
        """Tell whether a lane's parameters and gradients are what they were when its step began.

        Gradients that were set aside are put back, as for a trial alone.
        """
        own = self._own[lane]
        for param, grad, leaf in zip(own.params, own.grads, self._leaves, strict=True):
            if not is_equal(param, leaf[lane]):
                return False
            if grad is not None and (leaf.grad is None or not is_equal(grad, leaf.grad[lane])):
                return False
        for param, grad in zip(own.params, own.grads, strict=True):
            if param.grad is not grad:
                param.grad = grad
        return True

    @override
    def step_sizes(self) -> torch.Tensor:
        shape = (len(self.lanes), self.lanes.dimension)
        found = torch.full(shape, torch.nan, dtype=torch.float64)

        def see(lane: int) -> None:
            own = self._own[lane]
            sizes = [own.optimizer.effective_step_size(param) for param in own.params]
            found[lane] = torch.cat([as_real(size.detach()).reshape(-1) for size in sizes])

        self._each(see)
        return found

    @override
    def _switch(self, index: int) -> None:
        def switch(lane: int) -> None:
            own_modes = self._own[lane].modes
            if own_modes is not None:
                own_modes[index]()

        if any(own.modes is not None for own in self._own):
            self._each(switch)

    def _each(self, turn: Callable[[int], None]) -> None:
        """Let code of each optimizer that goes on have its turn, and take over what it has made.

        Raises:
            NotShareable: If one does what only a trial alone can do.
        """
        if self._made and not all(map(is_equal, self._leaves, self._made)):
            self._refuse("its objective changes parameters")
        ends, limit = self._going[:1] + self._going[-1:], self.limit
        with self._random.turns():
            for lane in self._going:
                if limit is not None:
                    limit.on_turn()
                began = time.perf_counter()
                self._random.begin(lane)
                had_grad = torch.is_grad_enabled()
                try:
                    turn(lane)
                finally:
                    if self._refusals:  # which the optimizer may have caught
                        raise NotShareable(self._refusals[0])
                self._random.end(lane)
                if torch.is_grad_enabled() != had_grad:
                    self._refuse("it changes torch's grad mode")
                if changed := self._common.changed(all_of_it=lane in ends):
                    self._refuse(f"its objects have {changed!r} in common, and change it")
                self._check(lane)
                self._seconds[lane] += time.perf_counter() - began
                if limit is not None and self._seconds[lane] > limit.seconds:
                    self._refuse(f"one of its trials takes more than {limit.seconds:g} s")
        with torch.no_grad():
            self._made = [
                torch.stack([own.params[k].detach() for own in self._own])
                for k in range(len(self._leaves))
            ]
            torch._foreach_copy_(self._leaves, self._made)

    def _check(self, lane: int) -> None:
        """See that a lane's parameters are still such that they can be copied."""
        for param, leaf in zip(self._own[lane].params, self._leaves, strict=True):
            if param.shape != leaf.shape[1:] or param.dtype is not leaf.dtype:
                self._refuse("it gives a parameter another shape or type")
            if not param.requires_grad:
                self._refuse("it stops the training of a parameter")
            if has_hooks(param):
                self._refuse("the optimizer hooks into the backward pass")

    def _refuse(self, why: str) -> NoReturn:
        self._refusals.append(why)
        raise NotShareable(why)


class _Watched(Surroundings):
    """Surroundings that see whether settings or random numbers of the whole process change."""

    def __init__(self, leaves: Sequence[torch.Tensor]) -> None:
        super().__init__(leaves)
        self._settings = _process_settings()
        self._random = random_state()

    @override
    def evaluated(self) -> None:
        """Note nothing: an optimizer's closure compares its own."""

    @override
    def settle(self) -> None:
        """See that everything is as it was.

        Raises:
            NotShareable: If it isn't.
        """
        now = _process_settings()
        if changed := [name for name, value in self._settings.items() if now[name] != value]:
            raise NotShareable(f"it changes {changed[0]}")
        if drawn := drawn_from(self._random, random_state()):
            raise NotShareable(
                f"it draws from {generators(drawn)}, whose numbers are a trial's own"
            )


def _process_settings() -> dict[str, Any]:
    """Settings of torch and numpy, and what runs with every optimizer's step."""
    before, after = _hooks._global_optimizer_pre_hooks, _hooks._global_optimizer_post_hooks
    found: dict[str, Any] = torch_settings.as_they_are()
    return {**found, "what runs with every optimizer's step": (len(before), len(after))}


class _RandomNumbers:
    """Torch's global random numbers: each lane has those that its trial has alone.

    Args:
        seeds: Of the lanes.
        device: Where they run.
        loss_draws: Whether the loss draws as well; alone, the two take turns.

    Raises:
        NotShareable: If the device has generators of another kind.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device, *, loss_draws: bool) -> None:
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self._generators.append(torch.cuda.default_generators[index])
        elif device.type != "cpu":
            raise NotShareable(f"random numbers on {device.type} are those of the whole process")
        self._loss_draws = loss_draws
        starts = {seed: self._start(seed) for seed in dict.fromkeys(seeds)}
        self._states = [starts[seed] for seed in seeds]
        self._now: _State | None = None

    @contextmanager
    def turns(self) -> Iterator[None]:
        """Be entered around the turns of lanes; what comes after finds everything as it was."""
        before = self._read()
        self._now = before
        try:
            yield
        finally:
            self._write(before)

    def begin(self, lane: int) -> None:
        """Have the numbers of a lane come next."""
        state = self._states[lane]
        if state is not self._now:
            self._write(state)
            self._now = state

    def end(self, lane: int) -> None:
        """Keep the place that a lane has come to.

        Raises:
            NotShareable: If it has drawn, and the loss draws as well.
        """
        after = self._read()
        if after.digest == self._states[lane].digest:
            return
        if self._loss_draws:
            raise NotShareable("it draws random numbers, as its loss does")
        self._states[lane] = self._now = after

    def _start(self, seed: int) -> _State:
        place = seed_of_torch(seed)
        made = [torch.Generator(own.device).manual_seed(place) for own in self._generators]
        return _State.of(made)

    def _read(self) -> _State:
        return _State.of(self._generators)

    def _write(self, state: _State) -> None:
        for own, kept in zip(self._generators, state.states, strict=True):
            own.set_state(kept)


@dataclass(frozen=True)
class _State:
    """States of some generators, with their bytes."""

    states: list[torch.Tensor]
    digest: list[bytes]

    @classmethod
    def of(cls, some: Sequence[torch.Generator]) -> _State:
        states = [generator.get_state() for generator in some]
        return cls(states, [state.numpy().tobytes() for state in states])


def _as_alone(value: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
    """A tensor for an optimizer with the values of a lane, as a trial alone has it."""
    made = torch.empty_strided(value.shape, strides, dtype=value.dtype, device=value.device)
    return made.copy_(value).requires_grad_()


def _like(param: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """A copy of a lane's gradient in the order in memory that autograd gives it alone."""
    if grad.stride() == param.stride():
        return grad.clone()
    return torch.empty_like(param, requires_grad=False).copy_(grad)
