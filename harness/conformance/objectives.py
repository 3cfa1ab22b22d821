"""What is tested of an objective and of a dataset before a long run. Runs a suite's code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from harness.conformance.records import DatasetPart, ObjectivePart, Observation, Place
from harness.conformance.runner import (
    PartTest,
    class_of,
    copied,
    place_of_code,
    seed_everything,
    touched,
)
from harness.engine.isolation import seed_globals
from harness.engine.lanes import Lane, Lanes
from harness.engine.sharing import SHARING_SEEDS, decide, ran
from harness.engine.validate import objective_findings
from harness.engine.workload import Workload, as_real, flatten, unflatten
from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.dataset import Dataset
from harness.results import Finding
from harness.suite.locate import Misfit, SuiteError, last_line
from harness.suite.random_state import generators, random_state

SEEDS = (0, 1, 2)

STEP_SIZES = (1e-3, 1e-4, 1e-5)
"""Steps of central differences, relative to the parameters. Too long, and the third derivative
shows; too short, and rounding does. The best of some is within 1e-8 of a smooth loss's slope."""

GRADIENT_TOLERANCE = 1e-6
"""How far a gradient may be from differences: a hundred times what those are off for a smooth loss,
and a hundredth of the effect of the smallest mistakes (a factor, a sign, an epsilon of 1e-4)."""

VALUE_TOLERANCE = 1e-8
"""How far a loss may be from a declared optimum, relative to the losses at starts: a point given to
half of double precision's digits has the value, which is flat there, to all of them."""

DISTANCES = (1e-3, 1e-2, 1e-1, 1.0)
"""How far from a declared minimum its neighbours are, relative to the point's size, at least 1."""

NEIGHBOURS = 32
"""Random neighbours at each distance."""

COORDINATES, DIRECTIONS = 8, 4
"""Slopes along each coordinate of at most so many, and along so many random directions of all."""


def tests_of(part: ObjectivePart) -> list[PartTest]:
    """The tests of an objective that a spec names."""
    return _Tests(part).all()


def tests_of_dataset(part: DatasetPart) -> list[PartTest]:
    """The tests of a dataset that a spec names."""
    return _DatasetTests(part).all()


@dataclass
class _Tests:
    """The tests, and what the first of them find out for the others."""

    part: ObjectivePart
    factory: Any = None
    workload: Any = None
    starts_anywhere: bool = False

    def all(self) -> list[PartTest]:
        return [
            PartTest("loads", self.loads, self.of_class, gate=True),
            PartTest("evaluates", self.evaluates, self.of("loss"), gate=True),
            PartTest("repeatable", self.repeatable, self.of("loss"), gate=True),
            PartTest("gradient", self.gradient, self.of("loss")),
            PartTest("seeded", self.seeded, self.of("init")),
            PartTest("random state", self.random_state, self.of("loss")),
            PartTest("minimum", self.minimum, self.of_class),
            PartTest("lanes", self.lanes, self.of("loss")),
        ]

    def of_class(self) -> Place | None:
        return self.of("")()

    def of(self, method: str) -> Callable[[], Place | None]:
        """Where a method stands, once the objective is loaded; ``evaluate`` may be the loss."""

        def place() -> Place | None:
            if not self.workload:
                return None
            made = class_of(self.factory, self.objective)
            inherited = method and getattr(made, method, None) is getattr(Objective, method)
            return place_of_code(made, "loss" if inherited else method)

        return place

    @property
    def objective(self) -> Objective:
        made: Workload = self.workload
        return made.objective

    def loads(self) -> Iterator[Observation]:
        """Whether it can be imported and constructed, with its data."""
        planned = replace(self.part.planned, dtype="float64")
        found, self.workload, _ = objective_findings(self.part.plan, planned, run_it=False)
        yield from (Observation("wrong", fault=finding) for finding in found)
        if not found:
            self.factory = planned.located.load()
            note = planned.located.note
            yield Observation("note", note) if note else Observation("fine")

    def evaluates(self) -> Iterator[Observation]:
        """Whether it has a start, finite scalar losses and finite gradients there."""
        try:
            writes = self.workload.writes_rows
        except Misfit as error:
            yield Observation("wrong", str(error), place_of_code(error.blamed))
            return
        for seed in SEEDS:
            params = copied(self.workload.start(seed))
            loss = self.objective.loss(params, self.batch(seed))
            full = self.full(params)
            for method, value in (("loss", loss), ("evaluate", full)):
                text = ""
                if not value.isfinite().all():
                    text = f"{method} is {float(value.detach())} where seed {seed} starts"
                if text:
                    yield Observation("wrong", text, self.of(method)())
                    return
            grads = torch.autograd.grad(loss.reshape(()), list(params.values()), allow_unused=True)
            for name, grad in zip(params, grads, strict=True):
                if grad is None:
                    text = f"the loss doesn't depend on {name!r}"
                    yield Observation("note", text)
                    return
                if not _dense(grad).isfinite().all():
                    text = f"the gradient of {name!r} isn't finite where seed {seed} starts"
                    yield Observation("wrong", text)
                    return
        if text := self._fails_on_last_batch():
            yield Observation("wrong", text)
        elif writes:
            text = "writes into the rows that it is given, so each evaluation gets copies of them"
            yield Observation("note", text)
        else:
            yield Observation("fine")

    def _fails_on_last_batch(self) -> str:
        """What is wrong with an epoch's last batch where that is smaller than the others."""
        made: Workload = self.workload
        left = made.rows % (made.batch_size or made.rows or 1)
        if not left or made.drop_last or made.data is None:
            return ""
        try:
            self.objective.loss(copied(made.start(0)), tuple(t[:left].clone() for t in made.data))
        except Exception as error:
            rows = f"{left:,} row{'s' * (left != 1)}"
            text = f"an epoch's last batch, of {rows}, can't be taken: {last_line(error)}"
            return f"{text}; 'drop_last: true' leaves it out"
        return ""

    def batch(self, seed: int) -> Batch:
        """The first batch of a seed."""
        return next(Lanes(self.workload, [Lane(0, seed)], stacked=False).batches())

    def full(self, params: Parameters) -> torch.Tensor:
        """The loss over all data as it is recorded."""
        with torch.no_grad():
            return self.objective.evaluate(params, self.workload.rows_to_give())

    def value(self, params: Parameters) -> float:
        return float(self.full(params))

    def gradient(self) -> Iterator[Observation]:
        """Whether the gradient is that of the loss, by central differences in float64."""
        random = torch.Generator().manual_seed(0)
        batch = self.batch(0)
        start = self.workload.start(0)
        rough = False
        for params in (start, _displaced(start, 0.1, random)):
            leaves = copied(params)
            seed_globals(0)  # the same dropout in every evaluation
            loss = self.objective.loss(leaves, _fresh(batch))
            grads = torch.autograd.grad(
                loss.reshape(()), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
            gradient = flatten(dict(zip(leaves, map(_dense, grads), strict=True)))

            def along(direction: torch.Tensor, size: float, at: Parameters = params) -> float:
                seed_globals(0)
                with torch.no_grad():
                    return float(self.objective.loss(_moved(at, direction * size), _fresh(batch)))

            point = flatten(params)
            for direction, what in _directions(start, random):
                slope = float(gradient @ direction)
                gap, size, measured = _slope_gap(slope, along, direction, point)
                reference = max(abs(slope), abs(measured), float(gradient.norm()) / len(gradient))
                if gap <= GRADIENT_TOLERANCE * reference + size:
                    continue
                if size > 1e-2 * max(reference, abs(measured)):
                    rough = True
                    continue
                yield Observation(
                    "wrong",
                    f"the gradient along {what} is {slope:.6g}, and the loss rises by "
                    f"{measured:.6g} (central differences in float64)",
                )
                return
        if rough:
            text = "the loss is too rough for finite differences to say much of its gradient"
            yield Observation("note", text)
        else:
            yield Observation("fine")

    def seeded(self) -> Iterator[Observation]:
        """Whether a seed alone decides the start and the batches."""
        drawn = []
        for state in (1, 2):
            seed_everything(state)
            drawn.append([(self.workload.start(seed), self._batches(seed)) for seed in SEEDS])
        for seed, (one, other) in zip(SEEDS, zip(*drawn, strict=True), strict=True):
            for name, value in one[0].items():
                if name not in other[0] or not torch.equal(value, other[0][name]):
                    text = (
                        f"seed {seed} starts elsewhere each time ({name!r}); draw from the "
                        "generator that init is given, and from nothing else"
                    )
                    self.starts_anywhere = True
                    yield Observation("wrong", text)
                    return
            if not all(map(torch.equal, one[1], other[1])):
                yield Observation("wrong", f"seed {seed} has other batches each time")
                return
        points = [flatten(start) for start, _ in drawn[0]]
        if any(not torch.equal(points[0], point) for point in points[1:]):
            yield Observation("fine")
        elif self.workload.batch_size is None:
            text = "every seed starts at the same point, and a step sees all there is: the trials "
            yield Observation("note", f"{text}of a deterministic optimizer are all the same")
        else:
            text = "every seed starts at the same point; seeds differ by their batches"
            yield Observation("note", text)

    def _batches(self, seed: int) -> list[torch.Tensor]:
        lanes = Lanes(self.workload, [Lane(0, seed)], stacked=False)
        return [t for batch in islice(lanes.batches(), 3) for t in batch or ()]

    def repeatable(self) -> Iterator[Observation]:
        """Whether the same parameters and batch give the same loss, whenever they are evaluated."""
        params, batch = self.workload.start(0), self.batch(0)
        for method, of in (("loss", batch), ("evaluate", self.workload.data)):
            values = []
            for state in (1, 2, 1):
                seed_everything(state)
                seed_globals(0)  # as the harness does before every trial
                with torch.no_grad():
                    values.append(float(getattr(self.objective, method)(params, _fresh(of))))
            if len(set(values)) > 1:
                text = (
                    f"{method} gives {values[0]!r} and then {values[1]!r} for the same parameters "
                    "and rows"
                )
                yield Observation("wrong", text, self.of(method)())
                return
        yield Observation("fine")

    def _call(self, method: str, params: Parameters, batch: Batch) -> None:
        with torch.no_grad():
            getattr(self.objective, method)(params, _fresh(batch))

    def random_state(self) -> Iterator[Observation]:
        """Whether it leaves the global random numbers alone."""
        params, batch = self.workload.start(0), self.batch(0)
        notes = []
        for method, act in (
            ("init", lambda: self.workload.start(0)),
            ("loss", lambda: self._call("loss", params, batch)),
            ("evaluate", lambda: self._call("evaluate", params, self.workload.data)),
        ):
            drawn, seeded = touched(act)
            if method == "init" and self.starts_anywhere:
                continue  # that is why, and is said already
            if method == "loss" and drawn and not seeded:
                text = (
                    f"loss draws from {generators(drawn)} (dropout draws from torch's), which the "
                    "harness seeds for each trial that runs alone; so its trials do"
                )
                notes.append(Observation("note", text))
            elif drawn or seeded:
                does = "seeds" if seeded else "draws from"
                text = f"{method} {does} {generators(seeded or drawn)}"
                if seeded:
                    text += ", so whatever else draws from it repeats itself"
                yield Observation("wrong", text, self.of(method)())
                return
        yield from notes or [Observation("fine")]

    def minimum(self) -> Iterator[Observation]:
        """Whether a declared optimum is reached where it is declared, and nothing near is lower.

        Finds nothing where none is declared.
        """
        objective = self.objective
        optimum, points = objective.optimum, objective.minimizers
        starts = [self.workload.start(seed) for seed in SEEDS]
        heights = [self.value(start) for start in starts]
        if optimum is None and not points:
            return
        if optimum is not None and not points:
            if min(heights) < optimum:
                text = f"declares optimum {optimum!r}, and a start lies at {min(heights)!r}"
                yield Observation("wrong", text)
            else:
                text = "declares an optimum and no point at which it is reached, so that isn't seen"
                yield Observation("note", text)
            return
        size = flatten(starts[0]).numel()
        for number, coordinates in enumerate(points, 1):
            which = f" {number} of {len(points)}" if len(points) > 1 else ""
            if len(coordinates) != size:
                text = f"minimizer{which} has {len(coordinates)} numbers, there are {size} "
                yield Observation("wrong", f"{text}parameters")
                return
            values = torch.tensor([float(c) for c in coordinates], dtype=self.workload.dtype)
            point = _unflattened(values, starts[0])
            found = self._at_minimum(point, which, optimum, heights)
            if found is not None:
                yield found
                return
        if optimum is None:
            text = "declares minimizers and no optimum, so targets can't be shares of the way to it"
            yield Observation("note", text)
        else:
            yield Observation("fine")

    def _at_minimum(
        self, point: Parameters, which: str, optimum: float | None, heights: list[float]
    ) -> Observation | None:
        """What there is to say of a declared minimum; None if it is one."""
        here = self.value(point)
        at = f"at minimizer{which}"
        if not math.isfinite(here):
            return Observation("wrong", f"{at} the loss is {here}")
        goal = here if optimum is None else float(optimum)
        scale = max(abs(goal), *(abs(h - goal) for h in heights if math.isfinite(h)))
        tolerance = VALUE_TOLERANCE * scale
        if abs(here - goal) > tolerance:
            return Observation("wrong", f"declares optimum {goal!r}, and {at} the loss is {here!r}")
        random = torch.Generator().manual_seed(0)
        for distance in DISTANCES:
            for _ in range(NEIGHBOURS):
                near = _displaced(point, distance, random)
                if self._in_window(near) and self.value(near) < goal - tolerance:
                    first = ", ".join(f"{v:.6g}" for v in flatten(near)[:6].tolist())
                    more = ", ..." if flatten(near).numel() > 6 else ""
                    text = f"{at} the loss is {here!r}, and nearby, at ({first}{more}), it is "
                    return Observation("wrong", f"{text}{self.value(near)!r}")
        return self._gradient_at_minimum(point, at, tolerance, random)

    def _gradient_at_minimum(
        self, point: Parameters, at: str, tolerance: float, random: torch.Generator
    ) -> Observation | None:
        """What there is to say of the gradient at a minimum; None if it vanishes.

        Where it changes by at most ``L`` per unit of length, a point whose loss is within ``t`` of
        the lowest has a gradient of at most ``sqrt(2 L t)``.
        """
        if abs(float(self._loss(point).detach()) - self.value(point)) > tolerance:
            return None  # what is trained isn't what is recorded (dropout), and has its own minimum
        gradient = self._gradient(point)
        if not gradient.isfinite().all():
            return Observation("wrong", f"{at} the gradient isn't finite")
        size = max(1.0, float(flatten(point).abs().max()))
        steep = 0.0
        for _ in range(DIRECTIONS):
            near = _displaced(point, DISTANCES[0], random)
            change = float((self._gradient(near) - gradient).norm())
            steep = max(steep, change / (DISTANCES[0] * size))
        norm = float(gradient.norm())
        if norm <= math.sqrt(2 * steep * tolerance) + 1e-12 * steep * size:
            return None
        for distance in DISTANCES:
            near = _moved(point, -gradient / norm * distance * size)
            if self._in_window(near) and self.value(near) < self.value(point) - tolerance:
                text = f"{at} the gradient is {norm:.3g} long, and the loss falls against it"
                return Observation("wrong", text)
        text = f"{at} the gradient is {norm:.3g} long, though nothing near is lower: a kink?"
        return Observation("note", text)

    def _loss(self, params: Parameters) -> torch.Tensor:
        seed_globals(0)
        return self.objective.loss(params, self.workload.rows_to_give())

    def _gradient(self, point: Parameters) -> torch.Tensor:
        leaves = copied(point)
        grads = torch.autograd.grad(
            self._loss(leaves).reshape(()),
            list(leaves.values()),
            allow_unused=True,
            materialize_grads=True,
        )
        return flatten(dict(zip(leaves, map(_dense, grads), strict=True)))

    def _in_window(self, params: Parameters) -> bool:
        """Whether a point lies where the objective is meant to be looked at."""
        window = self.objective.window
        if window is None:
            return True
        values = flatten(params).tolist()
        return all(low <= v <= high for v, (low, high) in zip(values, window, strict=True))

    def lanes(self) -> Iterator[Observation]:
        """Whether its trials may share a run, with an optimizer that keeps lanes apart."""
        if self.starts_anywhere:
            return  # so no two runs are alike, and that is said already
        _, own, _ = objective_findings(self.part.plan, self.part.planned, run_it=False)
        assert own is not None
        leaves = copied(own.start(0))
        loss = own.objective.loss(leaves, next(Lanes(own, [Lane(0, 0)], stacked=False).batches()))
        grads = torch.autograd.grad(loss.reshape(()), list(leaves.values()), allow_unused=True)
        if any(grad is not None and grad.layout is not torch.strided for grad in grads):
            text = "its gradients are sparse, as SparseAdam wants them: trials run one at a time"
            yield Observation("note", text)
            return
        sharing = decide(own, torch.optim.Adam, [{"lr": 0.01}], range(SHARING_SEEDS))
        yield Observation("note" if sharing.way == "alone" else "fine", ran(sharing))


def _directions(like: Parameters, random: torch.Generator) -> Iterator[tuple[torch.Tensor, str]]:
    """Unit vectors in the space of all parameters, each with its name."""
    size = flatten(like).numel()
    dtype = flatten(like).dtype
    if size <= COORDINATES:
        names = [
            f"{name}[{i}]" if value.ndim else name
            for name, value in like.items()
            for i in range(as_real(value).numel())
        ]
        for i, name in enumerate(names):
            unit = torch.zeros(size, dtype=dtype)
            unit[i] = 1
            yield unit, name
    for _ in range(DIRECTIONS):
        drawn = torch.randn(size, generator=random, dtype=dtype)
        yield drawn / drawn.norm(), "a random direction"


def _slope_gap(
    slope: float,
    along: Callable[[torch.Tensor, float], float],
    direction: torch.Tensor,
    point: torch.Tensor,
) -> tuple[float, float, float]:
    """How far a slope is from central differences, how far those may be off, and they themselves.

    Differences of two step sizes give a better one (Richardson) and, by how far they are apart,
    its error; rounding adds to that. Of several sizes, the one with the least error counts.
    """
    scale = max(1.0, float(point.abs().max()))
    best = (math.inf, math.inf, math.nan)
    for relative in STEP_SIZES:
        h = relative * scale
        values = [along(direction, offset) for offset in (h, -h, h / 2, -h / 2)]
        if not all(map(math.isfinite, values)):
            continue
        long, short = (values[0] - values[1]) / (2 * h), (values[2] - values[3]) / h
        measured = (4 * short - long) / 3
        rounding = 16 * torch.finfo(torch.float64).eps * max(map(abs, values)) / h
        error = abs(long - short) + rounding
        if error < best[1]:
            best = (abs(slope - measured), error, measured)
    return best


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    """A gradient with all its numbers; that of an embedding may have those of some rows only."""
    return gradient if gradient.layout is torch.strided else gradient.to_dense()


def _fresh(rows: Batch) -> Batch:
    """Copies of some rows: each evaluation has rows of its own, whatever it does to them."""
    return rows if rows is None else tuple(tensor.clone() for tensor in rows)


def _moved(params: Parameters, offset: torch.Tensor) -> Parameters:
    return _unflattened(flatten(params) + offset, params)


def _displaced(params: Parameters, distance: float, random: torch.Generator) -> Parameters:
    """The point that lies so far away, relative to its size, in a random direction."""
    point = flatten(params)
    drawn = torch.randn(point.numel(), generator=random, dtype=point.dtype)
    size = max(1.0, float(point.abs().max()))
    return _moved(params, drawn / drawn.norm() * distance * size)


def _unflattened(values: torch.Tensor, like: Parameters) -> Parameters:
    found = unflatten(values, like)
    return {name: found[name].to(value.dtype) for name, value in like.items()}


@dataclass
class _DatasetTests:
    """The tests of a dataset."""

    part: DatasetPart
    factory: Any = None
    loaded: list[Dataset] = field(default_factory=list)

    def all(self) -> list[PartTest]:
        return [
            PartTest("loads", self.loads, self.place, gate=True),
            PartTest("repeatable", self.repeatable, self.place, gate=True),
            PartTest("random state", self.random_state, self.place),
            PartTest("columns", self.columns, self.place),
        ]

    def place(self) -> Place | None:
        return place_of_code(self.factory) if self.factory is not None else None

    def loads(self) -> Iterator[Observation]:
        """Whether it gives a dataset: finite, with shapes that fit (which ``Dataset`` sees to)."""
        try:
            self.factory = self.part.located.load()
        except SuiteError as error:
            path = ("objectives", self.part.objective, "dataset")
            yield Observation("wrong", fault=Finding(path, str(error)))
            return
        loaded = self.factory()
        if not isinstance(loaded, Dataset):
            text = f"gives a {type(loaded).__name__}, expected a harness.Dataset"
            yield Observation("wrong", text)
            return
        self.loaded = [loaded]
        yield Observation("fine")

    def repeatable(self) -> Iterator[Observation]:
        """Whether it gives the same rows every time, whatever the global random numbers."""
        (first,) = self.loaded
        seed_everything(1)
        again = self.factory()
        for name in ("features", "labels"):
            if not np.array_equal(getattr(first, name), getattr(again, name)):
                text = f"{name} are others when it is loaded again; a fixed seed would keep them"
                yield Observation("wrong", text)
                return
        yield Observation("fine")

    def random_state(self) -> Iterator[Observation]:
        """Whether it leaves the global random numbers alone."""
        before = random_state()
        self.factory()
        after = random_state()
        changed = [name for name in before if before[name] != after[name]]
        if changed:
            yield Observation(
                "note",
                f"draws from or seeds {generators(changed)}; numpy.random.default_rng(seed) has "
                "numbers of its own",
            )
        else:
            yield Observation("fine")

    def columns(self) -> Iterator[Observation]:
        """Whether types are those that are documented, and every column says something."""
        (data,) = self.loaded
        if data.features.dtype != np.float64:
            text = f"features are {data.features.dtype}, expected float64"
            yield Observation("wrong", text)
        elif data.labels.dtype != np.float64 and not np.issubdtype(data.labels.dtype, np.integer):
            text = f"labels are {data.labels.dtype}, expected float64, or whole numbers for classes"
            yield Observation("wrong", text)
        else:
            same = [
                name
                for name, column in zip(data.feature_names, data.features.T, strict=True)
                if len(column) > 1 and (column == column[0]).all()
            ]
            if same:
                yield Observation("note", f"{same[0]!r} is the same in every row")
            else:
                yield Observation("fine")
