"""Schedules: how the keys of an optimizer's groups change from update to update.

Alone, a trial has torch's own scheduler objects, on its optimizer, stepped after every update. In
a shared run the same objects are stepped on stand-ins for the optimizer, one for each setting, and
what they make of a group's keys is carried over as a value per lane; the short form is computed
for all settings at once.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from harness.engine.constructors import Constructor
from harness.engine.lane_values import LaneFloat, NotShareable, describe_error
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
            raise UnfitSchedule("final", "expected a last factor above 0 for exponential")
        warmup = round(steps_of(numbers.get("warmup", 0), steps))
        if warmup > steps:
            text = f"a warm-up of {warmup:,} steps is longer than the trial, of {steps:,}"
            raise UnfitSchedule("warmup", text)
        at = [round(steps_of(place, steps)) for place in numbers.get("at", ("50%", "75%"))]
        if max(at) > steps:
            text = f"step {max(at):,} is beyond the end of the trial, of {steps:,} steps"
            raise UnfitSchedule("at", text)
        factor = float(numbers.get("factor", 0.1))
        return cls(steps, warmup, then, float(final), tuple(at), factor)

    def __call__(self, t: int) -> float:
        """The factor at an update, as torch's LambdaLR asks for it."""
        if t < self.warmup:
            return (t + 1) / self.warmup
        x = (t - self.warmup) / max(1, self.steps - self.warmup)
        match self.then:
            case "linear":
                return 1 - (1 - self.final) * x
            case "cosine":
                return self.final + (1 - self.final) * (1 + math.cos(math.pi * x)) / 2
            case "exponential":
                return float(self.final**x)
            case "inverse_sqrt":
                return math.sqrt(max(self.warmup, 1) / (t + 1))
            case "step":
                return float(self.factor ** sum(place <= t for place in self.at))
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
        try:
            parameters = list(inspect.signature(self.kind.step).parameters.values())[1:]
        except (AttributeError, TypeError, ValueError):
            parameters = []
        needed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        own = any(p.kind in needed and p.default is p.empty for p in parameters)
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
            raise UnfitSchedule(f"{last}.steps", text)
        if None not in known and round(total) < self.steps:
            text = (
                f"the schedule has {total:,g} steps, fewer than the trial's {self.steps:,}; the "
                "stage that leaves out 'steps' takes what is left"
            )
            raise UnfitSchedule(f"{last}.steps", text)
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
        return torch.optim.lr_scheduler.SequentialLR(optimizer, found, milestones=ends)

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
            raise UnfitSchedule(f"{name}.total_steps", text)
        if "optimizer" in constructor.all_names:
            return stage.kind(optimizer=optimizer, **given)
        return stage.kind(optimizer, **given)

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

    def look(self, loss: float) -> None:
        """Go by a loss that was recorded."""
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

    def look(self, loss: float) -> None:
        """Step schedulers that go by a loss."""
        for scheduler in self._schedulers:
            scheduler.step(loss)


class SharedSchedule:
    """The schedules of the settings of a shared run.

    Args:
        schedules: By setting.
        optimizers: The run's optimizers; each setting has a scheduler for each.
        setting_of: The setting of each lane.
        refusals: Where it is noted that something can't be shared.

    Raises:
        NotShareable: If schedulers look at more than the hyperparameters of groups.
    """

    looks_at_loss = False

    def __init__(
        self,
        schedules: Sequence[AnySchedule],
        optimizers: Sequence[Any],
        setting_of: Sequence[int],
        refusals: list[str],
    ) -> None:
        lanes = np.asarray(setting_of)
        short = [schedule for schedule in schedules if isinstance(schedule, ShortSchedule)]
        self._parts: list[_Short | _Long] = []
        self._refusals = refusals
        with self._noted():
            for optimizer in optimizers:
                groups = _Groups(optimizer, lanes, refusals)
                if len(short) == len(schedules):
                    self._parts.append(_Short(short, groups))
                else:
                    self._parts.append(_Long(schedules, optimizer, groups))

    def advance(self) -> None:
        """Set the groups for the next update.

        Raises:
            NotShareable: If that can't be done for all lanes.
        """
        with self._noted():
            for part in self._parts:
                part.advance()

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Have whatever fails send the trials alone, where it is their own."""
        try:
            yield
        except NotShareable:
            raise
        except Exception as error:
            refuse(self._refusals, f"its schedule can't be shared: {describe_error(error)}")

    def look(self, loss: float) -> None:
        """Not for a shared run."""
        del loss


class _Groups:
    """The groups of an optimizer whose keys a schedule owns."""

    def __init__(self, optimizer: Any, lanes: NDArray[np.int64], refusals: list[str]) -> None:
        self.groups: list[dict[str, Any]] = optimizer.param_groups
        self.settings = int(lanes.max()) + 1
        self._lanes = lanes
        self._first = np.array([np.flatnonzero(lanes == i)[0] for i in range(self.settings)])
        self._refusals = refusals
        self._written: list[dict[str, Any]] = [{} for _ in self.groups]

    def values(self, value: Any) -> list[Any]:
        """A group's value, setting by setting."""
        if isinstance(value, LaneFloat):
            return [float(v) for v in value.values[self._first]]
        if isinstance(value, list | tuple):
            items = [self.values(item) for item in value]
            return [type(value)(own) for own in zip(*items, strict=True)]
        return [value] * self.settings

    def write(self, index: int, key: str, values: Sequence[Any] | NDArray[np.float64]) -> None:
        """Give a group a key's value of each setting."""
        group, written = self.groups[index], self._written[index]
        if key in written and group.get(key) is not written[key]:
            refuse(self._refusals, f"it changes {key!r} of its groups, as its schedule does")
        group[key] = written[key] = self._value(values)

    def _value(self, values: Sequence[Any] | NDArray[np.float64]) -> Any:
        first = values[0]
        if isinstance(first, list | tuple):
            return type(first)(self._value(own) for own in zip(*values, strict=True))
        if all(value == first for value in values):
            return float(first) if isinstance(first, np.floating) else first
        return LaneFloat(np.asarray(values, dtype=np.float64)[self._lanes], self._refusals)


def refuse(refusals: list[str], why: str) -> NoReturn:
    """Note that a run can't be shared, and raise."""
    refusals.append(why)
    raise NotShareable(why)


class _Short:
    """Schedules in the short form, all settings at once; as torch's LambdaLR sets groups."""

    def __init__(self, schedules: Sequence[ShortSchedule], groups: _Groups) -> None:
        self._groups = groups
        self._schedules = schedules
        self._t = 0
        self._base: list[NDArray[np.float64]] = []
        for group in groups.groups:
            rate = group["lr"]
            if not isinstance(rate, int | float):
                refuse(groups._refusals, "it keeps its learning rate as a tensor")
            group.setdefault("initial_lr", rate)
            self._base.append(np.array(groups.values(group["initial_lr"]), dtype=np.float64))
        self._kinds = np.array([schedule.then for schedule in schedules])
        self._warmup = np.array([schedule.warmup for schedule in schedules], dtype=np.float64)
        self._final = np.array([schedule.final for schedule in schedules])
        self._write()

    def advance(self) -> None:
        self._t += 1
        self._write()

    def _write(self) -> None:
        factors = self.factors(self._t)
        for i, base in enumerate(self._base):
            self._groups.write(i, "lr", base * factors)

    def factors(self, t: int) -> NDArray[np.float64]:
        """The factor of each setting at an update."""
        if len(self._schedules) < FEW_SETTINGS:
            return np.array([schedule(t) for schedule in self._schedules])
        steps = self._schedules[0].steps
        x = (t - self._warmup) / np.maximum(1, steps - self._warmup)
        found = np.ones(len(self._schedules))
        for kind in set(self._kinds.tolist()) - {"constant"}:
            of_kind = self._kinds == kind
            final, own = self._final[of_kind], x[of_kind]
            match kind:
                case "linear":
                    found[of_kind] = 1 - (1 - final) * own
                case "cosine":
                    found[of_kind] = final + (1 - final) * (1 + np.cos(np.pi * own)) / 2
                case "exponential":
                    found[of_kind] = final**own
                case _:
                    found[of_kind] = [
                        schedule(t)
                        for schedule, chosen in zip(self._schedules, of_kind, strict=True)
                        if chosen
                    ]
        rising = self._warmup > t
        found[rising] = (t + 1) / self._warmup[rising]
        return found


FEW_SETTINGS = 16
"""Below so many settings each is computed by itself, which is as fast."""


class _Long:
    """Schedules in the long form: each setting has schedulers on a stand-in for the optimizer."""

    def __init__(self, schedules: Sequence[AnySchedule], optimizer: Any, groups: _Groups) -> None:
        self._groups = groups
        self._stand_ins = _stand_ins(optimizer, groups)
        self._seen = [[dict(group) for group in own.param_groups] for own in self._stand_ins]
        self._schedulers = [
            scheduler_of(schedule, own)
            for schedule, own in zip(schedules, self._stand_ins, strict=True)
        ]
        self._carry_over()

    def advance(self) -> None:
        for scheduler in self._schedulers:
            scheduler.step()
        self._carry_over()

    def _carry_over(self) -> None:
        """Give the optimizer's groups whatever has changed in those of some stand-in."""
        changed: dict[tuple[int, str], None] = {}
        for own, seen in zip(self._stand_ins, self._seen, strict=True):
            for i, group in enumerate(own.param_groups):
                before = seen[i]
                for key, value in group.items():
                    if before.get(key, self) is not value:
                        before[key] = value
                        changed[i, key] = None
        for i, key in changed:
            self._groups.write(i, key, [own.param_groups[i][key] for own in self._stand_ins])


class _StandIn(torch.optim.Optimizer):
    """An optimizer's groups with the hyperparameters of one setting, and no parameters."""

    def __init__(self, groups: list[dict[str, Any]], defaults: dict[str, Any]) -> None:
        super().__init__([torch.zeros(1)], {})
        self.defaults = defaults
        self.param_groups = groups
        del self.state  # a scheduler that looks at it can't share a run
        self._opt_called = True  # or torch warns that no step was taken

    @override
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing."""


def _stand_ins(optimizer: Any, groups: _Groups) -> list[_StandIn]:
    """A stand-in for each setting."""
    of_groups = [_by_setting(group, groups) for group in groups.groups]
    defaults = _by_setting(dict(getattr(optimizer, "defaults", {})), groups)
    return [
        _StandIn([dict(own[i]) for own in of_groups], dict(defaults[i]))
        for i in range(groups.settings)
    ]


def _by_setting(values: dict[str, Any], groups: _Groups) -> list[dict[str, Any]]:
    """The plain values of a group, or of defaults, as each setting has them."""
    found: list[dict[str, Any]] = [{} for _ in range(groups.settings)]
    for key, value in values.items():
        if key == "params" or isinstance(value, torch.Tensor):
            continue
        for own, of_setting in zip(found, groups.values(value), strict=True):
            own[key] = of_setting
    return found
