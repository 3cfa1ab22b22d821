"""An objective made ready to run: on a device, in a precision, for a number of steps."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.engine.isolation import class_state
from harness.objectives.base import Objective, Parameters, Window
from harness.objectives.broadcasting import watched
from harness.objectives.dataset import Dataset
from harness.plan.model import PlannedObjective
from harness.results import Description
from harness.suite import torch_settings
from harness.suite.locate import Misfit, SuiteError, last_line, place_of
from harness.suite.random_state import kept_random_state

RECORDS_PER_EPOCH = 15
LANDSCAPE_POINTS = {1: 481, 2: 121}
"""Points each way of a landscape, by the number of parameters that there is one of."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}

INIT_STREAM, BATCH_STREAM = 0, 1


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
    steps_of_schedule: int | None = None

    @property
    def scheduled_steps(self) -> int:
        """Updates that a schedule is made for: the trial's, where only its first are tried."""
        return self.steps_of_schedule or self.steps

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

    def _leaves(self) -> Parameters:
        return {name: value.requires_grad_() for name, value in self.start(0).items()}

    def order(self, batches: torch.Generator) -> torch.Tensor:
        """The next epoch's order of rows, shape ``(rows,)``, on the CPU, where it is drawn."""
        return torch.randperm(self.rows, generator=batches)


def in_precision(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Real or complex numbers in a precision; anything else as it is."""
    if value.is_complex():
        return value.to(dtype.to_complex())
    return value.to(dtype) if value.is_floating_point() else value


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


def load_objective(planned: PlannedObjective) -> tuple[Objective, str]:
    """Construct an objective with its data.

    Returns:
        The objective, and where its data come from (or an empty string).

    Raises:
        DoesNotFit: If something named can't be imported, isn't what it should be, or refuses
            its arguments.
    """
    try:
        factory = planned.located.load()
    except SuiteError as error:
        raise DoesNotFit("class", str(error)) from error
    if not callable(factory):
        raise DoesNotFit("class", f"{planned.located.reference!r} is not a class")
    arguments: dict[str, Any] = dict(planned.arguments)
    source = ""
    if planned.dataset is not None:
        arguments["dataset"] = dataset = _load_dataset(planned)
        source = dataset.source
    with torch_settings.kept(), default_dtype(DTYPES[planned.dtype]):
        try:
            objective = factory(**arguments)
        except Exception as error:
            place = place_of(error, planned.located.folder) if planned.located.file else ""
            raise DoesNotFit("arguments", f"refused: {last_line(error)}{place}") from error
    if not isinstance(objective, Objective):
        raise DoesNotFit(
            "class",
            f"{planned.located.reference!r} gives a {type(objective).__name__}, "
            "expected a harness.Objective",
        )
    class_state(type(objective))  # before anything is evaluated
    return objective, source


def _load_dataset(planned: PlannedObjective) -> Dataset:
    assert planned.dataset is not None
    try:
        loader = planned.dataset.load()
        with torch_settings.kept():
            dataset = loader()
    except SuiteError as error:
        raise DoesNotFit("dataset", str(error)) from error
    except Exception as error:
        place = place_of(error, planned.dataset.folder)
        message = f"loading the data failed: {last_line(error)}{place}"
        raise DoesNotFit("dataset", message) from error
    if not isinstance(dataset, Dataset):
        raise DoesNotFit(
            "dataset",
            f"{planned.dataset.reference!r} gives a {type(dataset).__name__}, "
            "expected a harness.Dataset",
        )
    return dataset


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
    steps, steps_per_epoch, every = schedule(planned, rows)
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
    )


def schedule(planned: PlannedObjective, rows: int) -> tuple[int, int, int]:
    """Steps of a trial, steps of an epoch, and steps from one recorded loss to the next.

    Args:
        planned: What the spec says.
        rows: Rows of data; 0 without data.
    """
    per_epoch = 1
    if rows:
        size = min(planned.batch_size or rows, rows)
        per_epoch = rows // size if planned.drop_last else -(-rows // size)
    steps = planned.steps or (planned.epochs or 1) * per_epoch
    return steps, per_epoch, planned.record_every or max(1, per_epoch // RECORDS_PER_EPOCH)


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
