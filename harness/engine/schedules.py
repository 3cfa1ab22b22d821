"""Schedules: how the keys of an optimizer's groups change from update to update.

Alone, a trial has torch's own scheduler objects, on its optimizer, stepped after every update. In
a shared run the same objects are stepped on stand-ins for the optimizer, one for each setting, and
what they make of a group's keys is carried over as a value per lane; the short form is computed
for all settings at once.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from harness.engine.constructors import Constructor, Refused, needs_argument
from harness.spec.recipe import share_of

LENGTHS = ("total_iters", "T_max", "total_steps")
"""Arguments of torch's schedulers that say how long they take. One that isn't given is the stage's
number of steps, if the scheduler needs it or the stage says how long it is."""


class UnfitSchedule(ValueError):
    """A schedule doesn't fit the number of steps; names the number that is to blame."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


def steps_of(value: Any, steps: int) -> float:
    """The number of steps that a value stands for, before rounding; see the spec.

    Args:
        value: ``5%``, ``0.05`` or a whole number.
        steps: Of the trial.
    """
    share = share_of(value)
    return float(value) if share is None else share * steps


@dataclass(frozen=True)
class ShortSchedule:
    """A schedule in its short form, for a number of steps.

    The factor of the learning rate at update t, counted from 0, with W steps of warm-up of T:
    ``(t + 1) / W`` while t < W, then with ``x = (t - W) / (T - W)``

    - constant: ``1``
    - linear: ``1 - (1 - final) x``
    - cosine: ``final + (1 - final) (1 + cos(pi x)) / 2``
    - exponential: ``final ** x``
    - inverse_sqrt: ``sqrt(max(W, 1) / (t + 1))``
    - step: ``factor ** k``, with k of the places in ``at`` at or before t

    Attributes:
        steps: T.
        warmup: W.
        then: The shape.
        final: The last factor.
        at: Updates from which ``factor`` counts once more.
        factor: Of the shape ``step``.
    """

    steps: int
    warmup: int
    then: str
    final: float
    at: tuple[int, ...]
    factor: float

    @classmethod
    def of(cls, numbers: Mapping[str, Any], steps: int) -> ShortSchedule:
        """The schedule of some numbers (``warmup``, ``then`` and so on).

        Raises:
            UnfitSchedule: If it is longer than the trial.
        """
        then = numbers.get("then", "constant")
        final = numbers.get("final", 0.01 if then == "exponential" else 0.0)
        if then == "exponential" and final <= 0:
            raise UnfitSchedule("schedule.final", "expected a last factor above 0 for exponential")
        warmup = round(steps_of(numbers.get("warmup", 0), steps))
        if warmup > steps:
            text = f"a warm-up of {warmup:,} steps is longer than the trial's {steps:,}"
            raise UnfitSchedule("schedule.warmup", text)
        at = [round(steps_of(place, steps)) for place in numbers.get("at", ("50%", "75%"))]
        if max(at) > steps:
            text = f"step {max(at):,} is beyond the end of the trial, of {steps:,} steps"
            raise UnfitSchedule("schedule.at", text)
        factor = float(numbers.get("factor", 0.1))
        return cls(steps, warmup, then, float(final), tuple(at), factor)

    def __call__(self, t: int) -> float:
        """The factor at an update, as torch's LambdaLR asks for it."""
        if t < self.warmup:
            return (t + 1) / self.warmup
        x = min(1.0, (t - self.warmup) / max(1, self.steps - self.warmup))
        match self.then:
            case "inverse_sqrt":
                return math.sqrt(max(self.warmup, 1) / (t + 1))
            case "step":
                return float(self.factor ** sum(place <= t for place in self.at))
        return float(shape(self.then, x, self.final, math.cos))


def shape(then: str, x: Any, final: Any, cos: Callable[[Any], Any]) -> Any:
    """The factor after warm-up of a shape that goes by the share of the way alone.

    Args:
        then: The shape; of any but linear, cosine and exponential it is 1.
        x: The share of the way, from 0 to 1: a number, or those of several settings.
        final: The last factor, likewise.
        cos: The cosine of these.
    """
    match then:
        case "linear":
            return 1 - (1 - final) * x
        case "cosine":
            return final + (1 - final) * (1 + cos(math.pi * x)) / 2
        case "exponential":
            return final**x
    return 1.0


@dataclass(frozen=True)
class LoadedStage:
    """A scheduler of a schedule in its long form.

    Attributes:
        kind: Its class.
        inner: Schedulers that it combines; None where it takes none.
    """

    kind: Any
    inner: tuple[LoadedStage, ...] | None = None

    @property
    def constructor(self) -> Constructor:
        """Its parameters but the optimizer."""
        found = Constructor.of(self.kind)
        kept = tuple(p for p in found.parameters or () if p.name != "optimizer")
        kept = kept[1:] if kept == found.parameters and not self.inner else kept
        return Constructor(None if found.parameters is None else kept, found.all_names)

    @functools.cached_property
    def looks_at_loss(self) -> bool:
        """True if its ``step``, or that of one within, needs an argument."""
        own = needs_argument(getattr(self.kind, "step", None), skip=1)
        return own or any(stage.looks_at_loss for stage in self.inner or ())


@dataclass(frozen=True)
class LongSchedule:
    """A schedule in its long form: schedulers, one after the other.

    Attributes:
        stages: The schedulers.
        numbers: Their arguments, by name (``0.gamma``).
        objects: What arguments name, loaded, by name.
        steps: Of the trial.
    """

    stages: Sequence[LoadedStage]
    numbers: Mapping[str, Any]
    objects: Mapping[str, Any]
    steps: int

    def lengths(self) -> list[int]:
        """The number of steps of each stage.

        Raises:
            UnfitSchedule: If they aren't as many as the trial's.
        """
        given = [self.numbers.get(f"{i}.steps") for i in range(len(self.stages))]
        known = [None if value is None else steps_of(value, self.steps) for value in given]
        total = sum(value for value in known if value is not None)
        last = max((i for i, value in enumerate(known) if value is not None), default=0)
        if round(total) > self.steps:
            text = f"the schedule has {total:,g} steps, more than the trial's {self.steps:,}"
            raise UnfitSchedule(f"schedule.{last}.steps", text)
        if None not in known and round(total) < self.steps:
            text = (
                f"the schedule has {total:,g} steps, fewer than the trial's {self.steps:,}; the "
                "stage that leaves out 'steps' takes what is left"
            )
            raise UnfitSchedule(f"schedule.{last}.steps", text)
        ends, end = [0], 0.0
        for value in known:
            end += self.steps - total if value is None else value
            ends.append(round(end))
        return [after - before for before, after in itertools.pairwise(ends)]

    def build(self, optimizer: Any) -> Any:
        """The scheduler of an optimizer: torch's SequentialLR of those whose stage isn't empty.

        Raises:
            UnfitSchedule: If the stages aren't as long as the trial.
        """
        lengths = self.lengths()
        kept = [i for i, length in enumerate(lengths) if length]
        found = [self._stage(optimizer, str(i), self.stages[i], lengths[i]) for i in kept]
        if len(found) == 1:
            return found[0]
        ends = np.cumsum([lengths[i] for i in kept])[:-1].tolist()
        chain = torch.optim.lr_scheduler.SequentialLR
        try:
            return chain(optimizer, found, milestones=ends)
        except Exception as error:
            raise Refused("schedule", chain, error) from error

    def _stage(self, optimizer: Any, name: str, stage: LoadedStage, length: int) -> Any:
        given = {
            key.removeprefix(f"{name}."): self._resolved(value, length)
            for key, value in self.numbers.items()
            if key.startswith(f"{name}.") and "." not in key.removeprefix(f"{name}.")
        }
        says_how_long = given.pop("steps", None) is not None
        if stage.inner is not None:
            given["schedulers"] = [
                self._stage(optimizer, f"{name}.schedulers.{i}", inner, length)
                for i, inner in enumerate(stage.inner)
            ]
        constructor = stage.constructor
        for key, parameter in constructor.named.items():
            needed = parameter.default in (parameter.empty, None)
            alternatives = {"epochs", "steps_per_epoch"} & given.keys()
            if key in LENGTHS and (says_how_long or needed) and not alternatives:
                given.setdefault(key, length)
        if isinstance(given.get("total_steps"), int) and given["total_steps"] < length:
            text = f"a cycle of {given['total_steps']:,} steps ends before the stage, of {length:,}"
            raise UnfitSchedule(f"schedule.{name}.total_steps", text)
        try:
            if "optimizer" in constructor.all_names:
                return stage.kind(optimizer=optimizer, **given)
            return stage.kind(optimizer, **given)
        except Exception as error:
            raise Refused(f"schedule.{name}", stage.kind, error) from error

    def _resolved(self, value: Any, length: int) -> Any:
        """An argument in which ``steps``, ``5%`` and names of objects stand for what they mean."""
        if isinstance(value, list):
            return [self._resolved(item, length) for item in value]
        if not isinstance(value, str):
            return value
        if value == "steps":
            return length
        if share_of(value) is not None:
            return round(steps_of(value, self.steps))
        return self.objects.get(value, value)


AnySchedule = ShortSchedule | LongSchedule

TRIED_STEPS = 1000
"""Steps of a scheduler that are tried before anything runs."""


def try_schedule(schedule: AnySchedule, optimizer: Any, *, all_steps: bool) -> None:
    """Construct an optimizer's scheduler, and step it as often as a trial would, within limits.

    Args:
        schedule: The schedule.
        optimizer: The optimizer, which is of no use afterwards.
        all_steps: Whether to try more than the first few.

    Raises:
        UnfitSchedule: If the optimizer's groups have no learning rate.
        Refused: If something is wrong.
    """
    if any("lr" not in group for group in getattr(optimizer, "param_groups", [])):
        text = f"{type(optimizer).__name__} has no 'lr' in its groups, which a schedule changes"
        raise UnfitSchedule("", text)
    made = scheduler_of(schedule, optimizer)
    if isinstance(schedule, ShortSchedule) or any(s.looks_at_loss for s in schedule.stages):
        return
    section = "schedule.0" if len(schedule.stages) == 1 else "schedule"
    with warnings.catch_warnings(action="ignore"):  # no step of the optimizer was taken
        try:
            for _ in range(min(schedule.steps, TRIED_STEPS if all_steps else 3)):
                made.step()
        except Exception as error:
            raise Refused(section, type(made), error) from error


def scheduler_of(schedule: AnySchedule, optimizer: Any) -> Any:
    """A scheduler of torch's for an optimizer."""
    if isinstance(schedule, ShortSchedule):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    return schedule.build(optimizer)


class Schedule(Protocol):
    """Changes hyperparameters from update to update."""

    @property
    def looks_at_loss(self) -> bool:
        """True if it goes by recorded losses, and not by updates."""
        ...

    def advance(self) -> None:
        """Go on to the next update."""
        ...

    def look(self, loss: float | None) -> None:
        """Go by a loss that was recorded, if one was."""
        ...


class OwnSchedule:
    """The schedule of a trial alone: torch's own schedulers on its optimizers.

    Args:
        schedule: The schedule.
        optimizers: Each gets a scheduler.
        looks_at_loss: Whether schedulers go by a loss.
    """

    def __init__(
        self, schedule: AnySchedule, optimizers: Sequence[Any], *, looks_at_loss: bool
    ) -> None:
        self.looks_at_loss = looks_at_loss
        self._schedulers = [scheduler_of(schedule, optimizer) for optimizer in optimizers]

    def advance(self) -> None:
        """Step the schedulers, after an update."""
        if not self.looks_at_loss:
            for scheduler in self._schedulers:
                scheduler.step()

    def look(self, loss: float | None) -> None:
        """Step schedulers that go by a loss, where one was recorded."""
        for scheduler in self._schedulers if loss is not None else ():
            scheduler.step(loss)
