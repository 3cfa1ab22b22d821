"""An objective made ready to run: on a device, in a precision, for a number of steps."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from harness.engine import evaluation
from harness.engine.lane_random import Draws, draws_of
from harness.errors import nearest
from harness.measures import Measure, Part, StopRule, measures_of, parts_with
from harness.objectives.base import Objective, Parameters, Window
from harness.objectives.broadcasting import watched
from harness.plan import measuring
from harness.plan.model import PlannedObjective
from harness.results import Description
from harness.spec.measures import percent
from harness.suite.locate import Misfit
from harness.suite.random_state import kept_random_state

LANDSCAPE_POINTS = {1: 481, 2: 121}
"""Points each way of a landscape, by the number of parameters that there is one of."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}

INIT_STREAM, BATCH_STREAM = 0, 1

STEP = "step"
"""Among the parameters of an objective that sees the step: the number of updates so far."""

_TAKEN = "is the name under which an objective that sees the step is given it; choose another"


class DoesNotFit(ValueError):
    """The spec asks something of an objective that it can't do; names the spec's key."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


def generator(seed: int, stream: int) -> torch.Generator:
    """The random numbers of one trial, for one purpose.

    The two streams of all seeds below 2**30 have seeds of their own below 2**31. Those above, up
    to the 2**32 that torch's CPU generator tells apart, are for the global generators (see
    ``isolation``).
    """
    return torch.Generator().manual_seed(2 * seed + stream)


@dataclass(frozen=True)
class Workload:
    """An objective with all that the engine needs to run it.

    Attributes:
        objective: Loss and start, for one trial.
        data: The objective's tensors on the device, in its precision; or None.
        dtype: Of parameters and data.
        device: Where it runs.
        steps: Updates per trial.
        steps_per_epoch: Updates per pass over the data; 1 without data.
        batch_size: Rows per step; None where a step sees all data, or there is none.
        record_steps: Steps after which the loss over all data is recorded; 0 and the last are
            among them.
        divergence_factor: See the spec.
        drop_last: Whether an epoch leaves out the rows that would be a smaller last batch.
        held_out: Rows that no step sees, by part, as ``data``.
        metrics: What is recorded of each part, with whether higher is better; the loss is first.
        evaluation_batch_size: Rows evaluated at once; None for all of a part.
        stop: When trials end before their last step; None where they don't.
        keeps_parameters: Whether the parameters after the last step are kept.
        steps_of_schedule: Updates that a schedule is made for; None for ``steps``.
    """

    objective: Objective
    data: tuple[torch.Tensor, ...] | None
    dtype: torch.dtype
    device: torch.device
    steps: int
    steps_per_epoch: int
    batch_size: int | None
    record_steps: tuple[int, ...]
    divergence_factor: float
    drop_last: bool = False
    held_out: Mapping[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    metrics: tuple[tuple[str, bool], ...] = (("loss", False),)
    evaluation_batch_size: int | None = None
    stop: StopRule | None = None
    keeps_parameters: bool = False
    steps_of_schedule: int | None = None

    @property
    def scheduled_steps(self) -> int:
        """Updates that a schedule is made for: the trial's, where only its first are tried."""
        return self.steps_of_schedule or self.steps

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are recorded."""
        return parts_with(self.held_out)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Everything that is recorded: the loss on train first."""
        return measures_of(self.metrics, self.parts)

    def without_test(self) -> Workload:
        """The same without the test part, for trials by which settings are tuned."""
        if "test" not in self.held_out:
            return self
        rest = {part: rows for part, rows in self.held_out.items() if part != "test"}
        return replace(self, held_out=rest, stop=self.stop and self.stop.without_test())

    @property
    def rows(self) -> int:
        """Rows of data; 0 without data."""
        return len(self.data[0]) if self.data else 0

    def start(self, seed: int) -> Parameters:
        """The parameters at which a seed's trial starts, on the device.

        Raises:
            Misfit: If ``init`` gives anything but a dict of tensors that can be optimised.
        """
        return {name: value.to(self.device) for name, value in self._drawn(seed).items()}

    def drawn_start(self, seed: int) -> Parameters:
        """Those parameters for a run, not on the device yet: many are sent faster together.

        Raises:
            Misfit: If ``init`` gives something else, or ``loss`` or ``evaluate`` no scalar.
        """
        _ = self.writes_rows  # says what is wrong with losses before a step trips over it
        return self._drawn(seed)

    def state(self, seed: int) -> Parameters:
        """What an objective has of a trial beside its parameters, at its start.

        Raises:
            Misfit: If something else has the name under which the number of updates is given.
        """
        with default_dtype(self.dtype):
            kept = self.objective.state(generator(seed, INIT_STREAM))
        state = {name: in_precision(value.detach(), self.dtype) for name, value in kept.items()}
        if self.objective.sees_step:
            if STEP in state:
                raise Misfit(self.objective.state, f"{STEP!r} {_TAKEN}")
            state[STEP] = torch.zeros((), dtype=self.dtype)
        return state

    def measured(self, params: Parameters, rows: Any) -> dict[str, torch.Tensor]:
        """The loss, and the metrics that the spec asks for, each a scalar.

        Raises:
            Misfit: If the objective does not compute one of them, or no scalar.
        """
        objective = self.objective
        found = objective.measure(params, rows)
        wanted = dict.fromkeys(("loss", *(name for name, _ in self.metrics)))
        for name in wanted:
            if name not in found:
                text = f"computes no metric {name!r}{nearest(name, found)}"
                raise Misfit(objective.measure, text)
            value = found[name]
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                raise Misfit(objective.measure, f"metric {name!r} is no scalar tensor")
        return {name: _as_real_number(found[name], self.dtype) for name in wanted}

    def lanes_evaluated_at_once(self, part: Part) -> int | None:
        """The number of lanes that see all rows of a part together; None for all of them."""
        return self._lanes_at_once[part]

    @functools.cached_property
    def _lanes_at_once(self) -> dict[Part, int | None]:
        found: dict[Part, int | None] = dict.fromkeys(self.parts)
        if self.device.type != "cpu" or not self.rows:
            return found
        params = self._leaves()
        for part in self.parts:
            rows = self.rows_of(part)
            assert rows is not None
            size = min(self.evaluation_batch_size or len(rows[0]), len(rows[0]))
            batch = tuple(tensor[:size] for tensor in rows)
            with kept_random_state(self.device), contextlib.suppress(Exception):
                evaluate = functools.partial(self.measured, params, batch)
                found[part] = evaluation.lanes_at_once(evaluate, size * self.dtype.itemsize)
        return found

    def rows_of(self, part: Part) -> tuple[torch.Tensor, ...] | None:
        """The rows of a part, to be evaluated; copies where they may be written into."""
        if part == "train":
            return self.rows_to_give()
        held = self.held_out[part]
        return tuple(tensor.clone() for tensor in held) if self.writes_rows else held

    def rows_to_give(self) -> tuple[torch.Tensor, ...] | None:
        """The data, for ``loss`` or ``evaluate``: copies for one that writes into what it is given.

        Raises:
            Misfit: If it has done so to the data themselves; at first it had left them alone.
        """
        if self.data is None:
            return None
        if self.writes_rows:
            return tuple(tensor.clone() for tensor in self.data)
        if any(map(_version, self.data)) and self._versions != [*map(_version, self.data)]:
            text = "loss or evaluate has written into the data, which all trials share"
            raise Misfit(self.objective.evaluate, text)
        return self.data

    def _drawn(self, seed: int) -> Parameters:
        init = self.objective.init
        with default_dtype(self.dtype):
            drawn = init(generator(seed, INIT_STREAM))
        if not isinstance(drawn, dict) or not all(
            isinstance(value, torch.Tensor) for value in drawn.values()
        ):
            raise Misfit(init, "init must return a dict of tensors")
        if self.objective.sees_step and STEP in drawn:
            raise Misfit(init, f"parameter {STEP!r} {_TAKEN}")
        for name, value in drawn.items():
            if not (value.is_floating_point() or value.is_complex()):
                what = str(value.dtype).removeprefix("torch.")
                text = f"parameter {name!r} is of {what}, expected real or complex numbers"
                raise Misfit(init, f"{text}: only those can be optimised")
        return {name: in_precision(value.detach(), self.dtype) for name, value in drawn.items()}

    @functools.cached_property
    def _versions(self) -> list[int]:
        """Version counters of the data, from before a trial saw them."""
        return [*map(_version, self.data or ())]

    @functools.cached_property
    def writes_rows(self) -> bool:
        """True if ``loss`` or ``evaluate`` writes into the rows that it is given.

        Both are tried once, on copies, and leave no trace in the global random numbers. What they
        raise is for the trials to tell.

        Raises:
            Misfit: If one gives something else than a scalar, the loss has no gradient, or rows
                are spread against each other.
        """
        _ = self._versions
        written = False
        objective = self.objective
        with kept_random_state(self.device):
            try:
                self._drawn(0)
            except Misfit:
                raise
            except Exception:
                return False
            methods = [objective.loss]
            if type(objective).evaluate is not Objective.evaluate:
                methods.append(objective.evaluate)
            for method in methods:
                trained = method == objective.loss
                size = self.batch_size if trained else None
                rows = self.data and tuple(tensor[:size].clone() for tensor in self.data)
                before = [*map(_version, rows or ())]
                with torch.set_grad_enabled(trained):
                    try:
                        value, crossed = watched(method, self._leaves, rows)
                    except Exception:
                        return written
                if text := unfit_loss(value, differentiated=trained) or crossed:
                    raise Misfit(method, f"{method.__name__} {text}")
                written = written or before != [*map(_version, rows or ())]
        return written

    @functools.cached_property
    def draws(self) -> Draws:
        """What the loss of a batch draws from torch's global generators, which keep their state."""
        rows = self.data and tuple(tensor[: self.batch_size].clone() for tensor in self.data)
        with kept_random_state(self.device):
            try:
                params = self._leaves()
            except Exception:
                return Draws()  # a trial will tell what is wrong
            return draws_of(lambda: self.objective.loss(params, rows))

    def _leaves(self) -> Parameters:
        leaves = {name: value.requires_grad_() for name, value in self.start(0).items()}
        return leaves | {name: value.to(self.device) for name, value in self.state(0).items()}

    def order(self, batches: torch.Generator) -> torch.Tensor:
        """The next epoch's order of rows, shape ``(rows,)``, on the CPU, where it is drawn."""
        return torch.randperm(self.rows, generator=batches)


def in_precision(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Real or complex numbers in a precision; anything else as it is."""
    if value.is_complex():
        return value.to(dtype.to_complex())
    return value.to(dtype) if value.is_floating_point() else value


def _as_real_number(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value if value.is_floating_point() else value.to(dtype)


def unfit_loss(value: object, *, differentiated: bool) -> str:
    """Say what is wrong with what a loss gives, as the end of a sentence; empty if nothing.

    Args:
        value: What it gives.
        differentiated: Whether it must have a gradient.
    """
    if not isinstance(value, torch.Tensor):
        return f"gives a {type(value).__name__}, expected a scalar tensor"
    if value.numel() != 1:
        return f"gives a tensor of shape {tuple(value.shape)}, expected a scalar tensor"
    if not value.is_floating_point():
        what = str(value.dtype).removeprefix("torch.")
        return f"gives a number of type {what}, expected a real one"
    if differentiated and not value.requires_grad:
        return "gives a number without a gradient: it is cut off from params"
    return ""


def _version(tensor: torch.Tensor) -> int:
    """The number of times a tensor was written into, where torch counts that."""
    return 0 if tensor.is_inference() else tensor._version


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Let new tensors have a precision, so that a suite's own code needs no mention of it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def prepare(planned: PlannedObjective, objective: Objective, device: str) -> Workload:
    """Put an objective on a device.

    Raises:
        DoesNotFit: If the spec asks for batches of an objective without data, for more rows
            than there are, or if the objective's data are unusable.
    """
    dtype = DTYPES[planned.dtype]
    place = torch.device(device)
    data = objective.data
    rows = 0
    if data is None:
        if planned.batch_size is not None:
            raise DoesNotFit("batch_size", "the objective has no data to take batches from")
    else:
        rows = len(data[0])
        if any(len(tensor) != rows for tensor in data):
            raise DoesNotFit("class", "its data tensors have different numbers of rows")
        if (planned.batch_size or rows) > rows:
            raise DoesNotFit("batch_size", f"expected at most the {rows:,} rows of the data")
        data = tuple(in_precision(tensor.to(place), dtype) for tensor in data)
    held_out = {
        part: tuple(in_precision(tensor.to(place), dtype) for tensor in rows_)
        for part, rows_ in objective.held_out.items()
    }
    evaluated = rows + sum(len(own[0]) for own in held_out.values())
    steps, steps_per_epoch, every = schedule(planned, rows, evaluated)
    return Workload(
        objective=objective,
        data=data,
        dtype=dtype,
        device=place,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        batch_size=None if planned.batch_size == rows else planned.batch_size,
        drop_last=planned.drop_last,
        record_steps=(*range(0, steps, every), steps),
        divergence_factor=planned.divergence_factor,
        held_out=held_out,
        metrics=planned.metrics,
        evaluation_batch_size=planned.evaluation_batch_size,
        stop=measuring.stop_rule(planned.stop, objective.optimum) if planned.stop else None,
        keeps_parameters=planned.keeps_parameters,
    )


EVALUATION_SHARE = 0.2
"""Share of a trial's work that evaluation takes by default, at most."""

STEP_COST = 3.0
"""The cost of loss and gradients of a row, where that of its loss alone is 1."""


def schedule(planned: PlannedObjective, rows: int, evaluated: int) -> tuple[int, int, int]:
    """Steps of a trial, steps of an epoch, and steps from one record to the next.

    Args:
        planned: What the spec says.
        rows: Rows of data that steps see; 0 without data.
        evaluated: Rows of all parts, which a record evaluates.
    """
    per_epoch, size = 1, 0
    if rows:
        size = min(planned.batch_size or rows, rows)
        per_epoch = rows // size if planned.drop_last else -(-rows // size)
    steps = planned.steps or (planned.epochs or 1) * per_epoch
    match planned.record_every:
        case int(every):
            return steps, per_epoch, every
        case "epoch":
            return steps, per_epoch, per_epoch
        case str(share):
            return steps, per_epoch, max(1, round(percent(share) * steps))
    if not rows:
        return steps, per_epoch, 1
    rest = (1 - EVALUATION_SHARE) / EVALUATION_SHARE
    least = math.ceil(rest * evaluated / (STEP_COST * size))
    # A whole number of records per epoch, or of epochs per record.
    every = (
        -(-per_epoch // (per_epoch // least))
        if least <= per_epoch
        else (per_epoch * -(-least // per_epoch))
    )
    return steps, per_epoch, min(every, steps)


def describe(workload: Workload, data_source: str, *, run_it: bool = True) -> Description:
    """Say what a report needs to know of an objective.

    Never fails for a faulty ``init`` or ``evaluate``: what can't be found out is left out, and the
    trials say why. Neither is called unless ``run_it``.
    """
    objective = workload.objective
    dimension, window = 0, None
    landscape: tuple[float, ...] = ()
    if run_it:
        with contextlib.suppress(Exception):
            start = workload.start(0)
            dimension = flatten(start).numel()
            if dimension in LANDSCAPE_POINTS:
                window = objective.window or _window_around(start, objective)
                # What a trial has beside its parameters differs by seed, or from step to step.
                if not workload.state(0):
                    landscape = _landscape(workload, start, window)
    return Description(
        formula=objective.formula,
        dimension=dimension,
        rows=workload.rows,
        steps=workload.steps,
        steps_per_epoch=workload.steps_per_epoch,
        record_steps=workload.record_steps,
        optimum=None if objective.optimum is None else float(objective.optimum),
        minimizers=tuple(tuple(float(v) for v in point) for point in objective.minimizers),
        window=window,
        landscape=landscape,
        data_source=data_source,
        divergence_factor=workload.divergence_factor,
        part_rows={part: len(own[0]) for part, own in workload.held_out.items()},
        metrics=workload.metrics,
    )


def flatten(params: Parameters) -> torch.Tensor:
    """All parameters of one trial in a row, in order; of a complex one its two parts, in turns."""
    return torch.cat([as_real(value.detach()).reshape(-1) for value in params.values()])


def unflatten(values: torch.Tensor, like: Parameters) -> Parameters:
    """Parameters of given shapes and types from rows of all their numbers; inverts ``flatten``.

    Args:
        values: Shape ``(..., dimension)``.
        like: Parameters of the shapes wanted.
    """
    found, offset = {}, 0
    for name, value in like.items():
        shape = as_real(value).shape
        part = values[..., offset : offset + shape.numel()].reshape((*values.shape[:-1], *shape))
        found[name] = torch.view_as_complex(part.contiguous()) if value.is_complex() else part
        offset += shape.numel()
    return found


def as_real(value: torch.Tensor) -> torch.Tensor:
    """Complex numbers as two real ones each, in a dimension more; real ones as they are."""
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


def _window_around(start: Parameters, objective: Objective) -> Window:
    """The start and the minimizers, with a margin that no direction goes without."""
    points = np.array([flatten(start).tolist(), *objective.minimizers])
    low, high = points.min(axis=0), points.max(axis=0)
    largest = float((high - low).max()) or max(1.0, float(np.abs(low).max()))
    margin = 0.3 * np.where(high > low, high - low, largest)
    return tuple(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))


def _landscape(workload: Workload, start: Parameters, window: Window) -> tuple[float, ...]:
    """The loss over all data on a grid, row-major from the lowest x2 and x1."""
    count = LANDSCAPE_POINTS[len(window)]
    axes = [
        torch.linspace(low, high, count, dtype=workload.dtype, device=workload.device)
        for low, high in reversed(window)
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)
    points = unflatten(grid.reshape(-1, len(window)), start)
    with torch.no_grad():
        evaluate = torch.func.vmap(workload.objective.evaluate, in_dims=(0, None))
        losses = evaluate(points, workload.rows_to_give())
    return tuple(losses.double().tolist())
