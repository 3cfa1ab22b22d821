"""The schedules of a shared run: values per lane for the keys of an optimizer's groups.

The short form is computed for all settings at once. For the long form torch's own schedulers are
stepped on stand-ins for the optimizer, one for each setting, and what they make of a group's keys
is carried over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from harness.engine.lane_values import LaneFloat, NotShareable, describe_error
from harness.engine.schedules import AnySchedule, ShortSchedule, scheduler_of, shape


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

    def look(self, loss: float | None) -> None:
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
        x = np.minimum(1, (t - self._warmup) / np.maximum(1, steps - self._warmup))
        found = np.ones(len(self._schedules))
        for kind in set(self._kinds.tolist()) - {"constant"}:
            of_kind = self._kinds == kind
            if kind in ("inverse_sqrt", "step"):
                found[of_kind] = [self._schedules[i](t) for i in np.flatnonzero(of_kind).tolist()]
            else:
                found[of_kind] = shape(kind, x[of_kind], self._final[of_kind], np.cos)
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
