"""Tests of an objective before a long run. Runs a suite's code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from scipy import differentiate

from harness.conformance import measured
from harness.conformance.records import FINE, ObjectivePart, Observation, note, wrong
from harness.conformance.records import SourceLocation as Place
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
from harness.formatting import plural
from harness.objectives.base import Batch, Objective, Parameters
from harness.suite.locate import Misfit, last_line
from harness.suite.random_state import generators

SEEDS = (0, 1, 2)

STEP_SIZES = (1e-2, 1e-4)
"""First steps of finite differences, relative to the parameters; scipy makes them shorter."""

SHORT_STEP = 1e-6
"""Of a difference that crosses few kinks; rounding is a millionth of most slopes."""

GRADIENT_TOLERANCE, ROUNDING = 1e-6, 1e-11
"""Largest distance of a gradient from differences, relative to it and to the loss: far more than
they are off for a smooth loss, and a hundredth of the effect of the smallest mistakes (a factor, a
sign, an epsilon of 1e-4)."""

VALUE_TOLERANCE = 1e-8
"""Largest distance of a loss from a declared optimum, relative to the losses at starts: a point
given to half of double precision's digits has the value, which is flat there, to all of them."""

DISTANCES = (1e-3, 1e-2, 1e-1, 1.0)
"""Distances of a declared minimum's neighbours, relative to the point's size, at least 1."""

NEIGHBOURS = 32
"""Random neighbours at each distance."""

COORDINATES, DIRECTIONS = 8, 4
"""Slopes along each coordinate of at most so many, and along so many random directions of all."""


def tests_of(part: ObjectivePart) -> list[PartTest]:
    """The tests of an objective that a spec names."""
    return _ObjectiveTests(part).all()


@dataclass
class _ObjectiveTests:
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
            PartTest("metrics", self.metrics, self.of("metrics")),
            PartTest("gradient", self.gradient, self.of("loss")),
            PartTest("seeded", self.seeded, self.of("init")),
            PartTest("random state", self.random_state, self.of("loss")),
            PartTest("minimum", self.minimum, self.of_class),
            PartTest("lanes", self.lanes, self.of("loss")),
        ]

    def of_class(self) -> Place | None:
        return self.of("")()

    def of(self, method: str) -> Callable[[], Place | None]:
        """Find a method's place, once the objective is loaded; ``evaluate`` may be the loss."""

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

    def loads(self) -> list[Observation] | Observation:
        """Import and construct it, with its data."""
        planned = replace(self.part.planned, dtype="float64")
        found, self.workload, _ = objective_findings(self.part.plan, planned, run_it=False)
        if found:
            return [Observation("wrong", fault=finding) for finding in found]
        self.factory = planned.located.load()
        return note(planned.located.note) if planned.located.note else FINE

    def evaluates(self) -> Observation:
        """Expect a start, finite scalar losses and finite gradients there."""
        try:
            writes = self.workload.writes_rows
        except Misfit as error:
            return wrong(str(error), place_of_code(error.blamed))
        for seed in SEEDS:
            if found := self._start(seed):
                return found
        if text := self._fails_on_last_batch():
            return wrong(text)
        if writes:
            return note("writes into the rows that it is given, so each evaluation gets copies")
        return FINE

    def _start(self, seed: int) -> Observation | None:
        """Something to say of the losses and gradients at a seed's start, if there is anything."""
        params = copied(self.workload.start(seed))
        loss = self.objective.loss(self.given(params), self.batch(seed))
        for method, value in (("loss", loss), ("evaluate", self.full(params))):
            if not value.isfinite().all():
                text = f"{method} is {float(value.detach())} at the start of seed {seed}"
                return wrong(text, self.of(method)())
        grads = torch.autograd.grad(loss.reshape(()), list(params.values()), allow_unused=True)
        for name, grad in zip(params, grads, strict=True):
            if grad is None:
                return note(f"the loss doesn't depend on {name!r}")
            if not _dense(grad).isfinite().all():
                return wrong(f"the gradient of {name!r} isn't finite at the start of seed {seed}")
        return None

    def _fails_on_last_batch(self) -> str:
        """A complaint about an epoch's last batch, if one that is smaller than others fails."""
        made: Workload = self.workload
        left = made.rows % (made.batch_size or made.rows or 1)
        if not left or made.drop_last or made.data is None:
            return ""
        try:
            self.objective.loss(
                self.given(made.start(0)), tuple(t[:left].clone() for t in made.data)
            )
        except Exception as error:
            text = f"last batch ({plural(left, 'row')}) fails: {last_line(error)}"
            return f"an epoch's {text}; 'drop_last: true' leaves it out"
        return ""

    def metrics(self) -> Observation | None:
        """Expect every metric of every part to be a finite scalar, side by side as alone."""
        return measured.metrics(self.workload, SEEDS, self.of("metrics"))

    def batch(self, seed: int) -> Batch:
        """The first batch of a seed."""
        return next(Lanes(self.workload, [Lane(0, seed)], stacked=False).batches())

    def given(self, params: Parameters) -> Parameters:
        """Parameters with what is kept of a trial beside them, as an objective is given them."""
        state: Parameters = self.workload.state(0)
        return {**params, **state} if state else params

    def full(self, params: Parameters) -> torch.Tensor:
        """The loss over all data as it is recorded."""
        with torch.no_grad():
            return self.objective.evaluate(self.given(params), self.workload.rows_to_give())

    def value(self, params: Parameters) -> float:
        return float(self.full(params))

    def gradient(self) -> Observation:
        """Compare the gradient with finite differences in float64.

        ``torch.autograd.gradcheck`` knows no error of its differences: it blames a sound loss that
        is computed in single precision, and one with a kink nearby.
        """
        random = torch.Generator().manual_seed(0)
        batch, start, rough = self.batch(0), self.workload.start(0), False
        for params in (start, _displaced(start, 0.1, random)):
            gradient, loss = self._gradient(params, batch)
            size = max(1.0, float(flatten(params).abs().max()))
            for direction, name in _directions(start, random):

                def along(
                    offset: float, at: Parameters = params, unit: torch.Tensor = direction
                ) -> float:
                    seed_globals(0)  # the same dropout in every evaluation
                    with torch.no_grad():
                        return float(
                            self.objective.loss(
                                self.given(_moved(at, unit * offset)), _fresh(batch)
                            )
                        )

                slope = float(gradient @ direction)
                measured, error = _derivative(along, size)
                scale = max(abs(slope), abs(measured), float(gradient.norm()) / len(gradient))
                tolerance = GRADIENT_TOLERANCE * scale + ROUNDING * abs(loss)
                if abs(slope - measured) <= tolerance + error:
                    continue
                if error <= 1e-2 * scale and not _is_of_kinks(along, size, slope, measured):
                    return wrong(
                        f"the gradient along {name} is {slope:.6g}, and the loss rises by "
                        f"{measured:.6g} (central differences in float64)"
                    )
                rough = True
        if rough:
            return note("the loss is too rough to check its gradient by finite differences")
        return FINE

    def seeded(self) -> Observation:
        """Expect that a seed alone decides the start and the batches."""
        drawn = []
        for state in (1, 2):
            seed_everything(state)
            drawn.append([(self.workload.start(seed), self._batches(seed)) for seed in SEEDS])
        for seed, (one, other) in zip(SEEDS, zip(*drawn, strict=True), strict=True):
            for name, value in one[0].items():
                if name not in other[0] or not torch.equal(value, other[0][name]):
                    self.starts_anywhere = True
                    return wrong(
                        f"seed {seed} does not always start at the same point ({name!r}); use only "
                        "the generator that init is given"
                    )
            if not all(map(torch.equal, one[1], other[1])):
                return wrong(f"seed {seed} does not always have the same batches")
        first, *others = (flatten(start) for start, _ in drawn[0])
        if any(not torch.equal(first, point) for point in others):
            return FINE
        if self.workload.batch_size is None:
            text = "every seed starts at the same point, and every step uses all data: all trials "
            return note(f"{text}of a deterministic optimizer are the same")
        return note("every seed starts at the same point; seeds differ by their batches")

    def _batches(self, seed: int) -> list[torch.Tensor]:
        lanes = Lanes(self.workload, [Lane(0, seed)], stacked=False)
        return [t for batch in islice(lanes.batches(), 3) for t in batch or ()]

    def repeatable(self) -> Observation:
        """Expect the same loss of the same parameters and batch, whenever they are evaluated."""
        params = self.workload.start(0)
        for method, rows in (("loss", self.batch(0)), ("evaluate", self.workload.data)):
            values = []
            for state in (1, 2, 1):
                seed_everything(state)
                seed_globals(0)  # as the harness does before every trial
                values.append(self._call(method, params, rows))
            if len(set(values)) > 1:
                then = f"{values[0]!r} and then {values[1]!r}"
                text = f"{method} gives {then} for the same parameters and rows"
                return wrong(text, self.of(method)())
        return FINE

    def _call(self, method: str, params: Parameters, rows: Batch) -> float:
        call = self.objective.loss if method == "loss" else self.objective.evaluate
        with torch.no_grad():
            return float(call(self.given(params), _fresh(rows)))

    def random_state(self) -> list[Observation] | Observation:
        """Expect that it leaves the global random numbers alone."""
        params, batch = self.workload.start(0), self.batch(0)
        notes: list[Observation] = []
        for method, act in (
            ("init", lambda: self.workload.start(0)),
            ("loss", lambda: self._call("loss", params, batch)),
            ("evaluate", lambda: self._call("evaluate", params, self.workload.data)),
        ):
            drawn, seeded = touched(act)
            if method == "init" and self.starts_anywhere:
                continue  # that is why, and is said already
            if method == "loss" and not seeded:
                # Torch's (dropout draws from it) each trial has to itself, whoever it runs with.
                if others := drawn - {"torch"}:
                    text = f"loss draws from {generators(others)}, which the harness seeds for "
                    notes.append(note(f"{text}each trial that runs alone; so its trials do"))
            elif seeded:
                text = f"{method} seeds {generators(seeded)}, so whatever else draws from it "
                return wrong(f"{text}repeats itself", self.of(method)())
            elif drawn:
                return wrong(f"{method} draws from {generators(drawn)}", self.of(method)())
        return notes or FINE

    def minimum(self) -> Observation | None:
        """Expect a declared optimum where it is declared, and nothing lower nearby.

        Finds nothing where none is declared.
        """
        optimum, points = self.objective.optimum, self.objective.minimizers
        starts = [self.workload.start(seed) for seed in SEEDS]
        heights = [self.value(start) for start in starts]
        if not points:
            if optimum is None:
                return None
            if min(heights) < optimum:
                return wrong(
                    f"declares optimum {optimum!r}, but a start has the loss {min(heights)!r}"
                )
            text = "declares an optimum but no minimizers, so it can't be checked"
            return note(text)
        size = flatten(starts[0]).numel()
        for number, coordinates in enumerate(points, 1):
            which = f" {number} of {len(points)}" if len(points) > 1 else ""
            if len(coordinates) != size:
                count = f"{len(coordinates)} numbers, there are {size} parameters"
                return wrong(f"minimizer{which} has {count}")
            values = torch.tensor([float(c) for c in coordinates], dtype=self.workload.dtype)
            point = _unflattened(values, starts[0])
            if found := self._at_minimum(point, f"at minimizer{which}", optimum, heights):
                return found
        if optimum is None:
            text = "declares minimizers but no optimum, so targets can't be relative to it"
            return note(text)
        return FINE

    def _at_minimum(
        self, point: Parameters, at: str, optimum: float | None, heights: list[float]
    ) -> Observation | None:
        """Something to say of a declared minimum; None if it is one."""
        here = self.value(point)
        if not math.isfinite(here):
            return wrong(f"{at} the loss is {here}")
        goal = here if optimum is None else float(optimum)
        scale = max(abs(goal), *(abs(h - goal) for h in heights if math.isfinite(h)))
        tolerance = VALUE_TOLERANCE * scale
        if abs(here - goal) > tolerance:
            return wrong(f"declares optimum {goal!r}, and {at} the loss is {here!r}")
        random = torch.Generator().manual_seed(0)
        for distance in np.repeat(DISTANCES, NEIGHBOURS):
            near = _displaced(point, float(distance), random)
            if self._in_window(near) and (lower := self.value(near)) < goal - tolerance:
                first = ", ".join(f"{v:.6g}" for v in flatten(near)[:6].tolist())
                more = ", ..." if flatten(near).numel() > 6 else ""
                where = f"nearby, at ({first}{more}), it is {lower!r}"
                return wrong(f"{at} the loss is {here!r}, and {where}")
        return self._gradient_at_minimum(point, at, tolerance, random)

    def _gradient_at_minimum(
        self, point: Parameters, at: str, tolerance: float, random: torch.Generator
    ) -> Observation | None:
        """Something to say of the gradient at a minimum; None if it vanishes.

        Where it changes by at most ``L`` per unit of length, a point whose loss is within ``t`` of
        the lowest has a gradient of at most ``sqrt(2 L t)``.
        """
        rows = self.workload.rows_to_give()
        gradient, loss = self._gradient(point, rows)
        if abs(loss - self.value(point)) > tolerance:
            return None  # what is trained isn't what is recorded (dropout), and has its own minimum
        if not gradient.isfinite().all():
            return wrong(f"{at} the gradient isn't finite")
        size = max(1.0, float(flatten(point).abs().max()))
        steep = 0.0
        for _ in range(DIRECTIONS):
            near = _displaced(point, DISTANCES[0], random)
            change = float((self._gradient(near, rows)[0] - gradient).norm())
            steep = max(steep, change / (DISTANCES[0] * size))
        norm = float(gradient.norm())
        if norm <= math.sqrt(2 * steep * tolerance) + 1e-12 * steep * size:
            return None
        for distance in DISTANCES:
            near = _moved(point, -gradient / norm * distance * size)
            if self._in_window(near) and self.value(near) < self.value(point) - tolerance:
                text = (
                    f"{at} the gradient has norm {norm:.3g}, and the loss falls along its negative"
                )
                return wrong(text)
        return note(f"{at} the gradient has norm {norm:.3g}, but no nearby point is lower: a kink?")

    def _gradient(self, point: Parameters, rows: Batch) -> tuple[torch.Tensor, float]:
        """The gradient at a point, as one vector, and the loss."""
        leaves = copied(point)
        seed_globals(0)
        loss = self.objective.loss(self.given(leaves), _fresh(rows)).reshape(())
        grads = torch.autograd.grad(
            loss, list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        gradient = flatten(dict(zip(leaves, map(_dense, grads), strict=True)))
        return gradient, float(loss.detach())

    def _in_window(self, params: Parameters) -> bool:
        """Tell whether a point lies where the objective is meant to be looked at."""
        window = self.objective.window
        if window is None:
            return True
        values = flatten(params).tolist()
        return all(low <= v <= high for v, (low, high) in zip(values, window, strict=True))

    def lanes(self) -> Observation | None:
        """Find out whether its trials may share a run, with an optimizer that keeps lanes apart."""
        if self.starts_anywhere:
            return None  # so no two runs are alike, and that is said already
        _, own, _ = objective_findings(self.part.plan, self.part.planned, run_it=False)
        assert own is not None
        leaves = copied(own.start(0))
        loss = own.objective.loss(
            {**leaves, **own.state(0)}, next(Lanes(own, [Lane(0, 0)], stacked=False).batches())
        )
        grads = torch.autograd.grad(loss.reshape(()), list(leaves.values()), allow_unused=True)
        if any(grad is not None and grad.layout is not torch.strided for grad in grads):
            text = "its gradients are sparse, as SparseAdam wants them: trials run one at a time"
            return note(text)
        sharing = decide(own, torch.optim.Adam, [{"lr": 0.01}], range(SHARING_SEEDS))
        return Observation("note" if sharing.way == "alone" else "fine", ran(sharing))


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


def _derivative(along: Callable[[float], float], size: float) -> tuple[float, float]:
    """The slope of a loss at 0 by finite differences, and their error; of several, the surest."""
    best = (0.0, math.inf)
    for step in STEP_SIZES:
        with np.errstate(all="ignore"):
            found = differentiate.derivative(
                np.vectorize(along, otypes=[float]),
                0.0,
                initial_step=step * size,
                order=6,
                maxiter=8,
                tolerances={"atol": 0.0, "rtol": 1e-10},
            )
        if np.isfinite(found.df) and found.error < best[1]:
            best = (float(found.df), float(found.error))
    return best


def _is_of_kinks(
    along: Callable[[float], float], size: float, slope: float, measured: float
) -> bool:
    """Tell whether a difference is closer to a slope the shorter its step, as with many kinks.

    A network of many rows has one wherever a unit of it switches on. What a mistake makes of a
    slope is the same at any step.
    """
    step = SHORT_STEP * size
    nearer = (along(step) - along(-step)) / (2 * step)
    return abs(nearer - slope) < abs(measured - slope) / 2


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    """A gradient with all its numbers; that of an embedding may have those of some rows only."""
    return gradient if gradient.layout is torch.strided else gradient.to_dense()


def _fresh(rows: Batch) -> Batch:
    """Copies of some rows: each evaluation has rows of its own, whatever it does to them."""
    return rows if rows is None else tuple(tensor.clone() for tensor in rows)


def _displaced(params: Parameters, distance: float, random: torch.Generator) -> Parameters:
    """The point that lies so far away, relative to its size, in a random direction."""
    point = flatten(params)
    drawn = torch.randn(point.numel(), generator=random, dtype=point.dtype)
    size = max(1.0, float(point.abs().max()))
    return _moved(params, drawn / drawn.norm() * distance * size)


def _moved(params: Parameters, offset: torch.Tensor) -> Parameters:
    return _unflattened(flatten(params) + offset, params)


def _unflattened(values: torch.Tensor, like: Parameters) -> Parameters:
    found = unflatten(values, like)
    return {name: found[name].to(value.dtype) for name, value in like.items()}
