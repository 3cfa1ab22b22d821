"""Sensitivity of a measure to one hyperparameter, and what tuning found.

Curves come from sweeps: one hyperparameter over its whole range, the others at the best setting,
with the tuning seeds. Where a spec has a grid in place of a search, they come from its cases.
Sweeps are of what tuning goes by, grids of what is reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.measures import TRAIN_LOSS, Measure
from harness.plan.model import Hyperparameters, varied
from harness.spec import search_space
from harness.spec.model import SpaceSpec
from harness.store.read import CaseData, Results, Tried

FACTOR = 2.0
"""How many times the best loss still counts as near it: its distance from the optimum where that is
known, from the best value of a share such as the accuracy, else from 0."""

OUTER = 0.05
"""The part of a range, at either end, in which a best value is called at the edge."""

SCALES = ("log_uniform", "one_minus_log_uniform")


@dataclass(frozen=True)
class Point:
    """One value of the hyperparameter.

    Attributes:
        value: The value.
        mean: Mean final value of the seeds that ended ok; NaN of none.
        low: Lower end of the middle 95% of them.
        high: Upper end.
        failed: How many seeds failed.
        median: Median final value of them.
    """

    value: float
    mean: float
    low: float
    high: float
    failed: int
    median: float = math.nan

    @property
    def ok(self) -> bool:
        """True where every seed ended ok."""
        return self.failed == 0 and math.isfinite(self.mean)


@dataclass(frozen=True)
class Curve:
    """Final values against one hyperparameter of one optimizer, on one objective and device.

    Attributes:
        objective: Name of the objective.
        optimizer: Name of the optimizer.
        device: Where it ran.
        parameter: The hyperparameter.
        space: Its range.
        points: By value, ascending.
        best: The value in the setting that is best; None of a grid.
        others: What the other hyperparameters are held at.
        optimum: The lowest possible loss; None where that is not known.
        measure: What the values are of.
    """

    objective: str
    optimizer: str
    device: str
    parameter: str
    space: SpaceSpec
    points: tuple[Point, ...]
    best: float | None
    others: Hyperparameters
    optimum: float | None
    measure: Measure = TRAIN_LOSS

    @property
    def log(self) -> bool:
        """True where values are evenly spaced on a scale of logarithms."""
        return self.space.log_uniform is not None

    @property
    def best_point(self) -> Point | None:
        """The point with the best mean of those at which every seed ended ok; None if none."""
        return min((p for p in self.points if p.ok), key=self._cost, default=None)

    def near(self) -> float:
        """The share of the range in which the loss is within ``FACTOR`` of the best.

        The loss counts from the optimum where that is known. Of a share of which higher is better,
        such as the accuracy, it is what is missing to 1. Each point stands for the part of the
        range that is nearest to it, on the range's scale. A point at which a seed failed is not
        near. NaN where no point has a value, and where a multiple says nothing: of losses of 0 or
        below with no optimum known, and of values without an end of which higher is better.
        """
        best, base = self.best_point, self._base()
        if best is None or base is None or (self.optimum is None and self._cost(best) <= base):
            return math.nan
        limit = base + FACTOR * max(self._cost(best) - base, 0.0)
        near = np.array([p.ok and self._cost(p) <= limit for p in self.points])
        return float(self._widths()[near].sum())

    def _cost(self, point: Point) -> float:
        return self.measure.sign * point.mean

    def _base(self) -> float | None:
        """The cost that multiples are counted from; None where there is none."""
        if not self.measure.higher:
            return self.optimum or 0.0
        ceiling = self.measure.ceiling
        return None if ceiling is None else -ceiling

    def diverging(self) -> tuple[float, ...]:
        """The values at which some seed failed."""
        return tuple(p.value for p in self.points if p.failed)

    def _widths(self) -> NDArray[np.float64]:
        """The part of the range that is nearest to each point; they sum to 1."""
        at = np.array([search_space.place(self.space, p.value) for p in self.points])
        ends = np.concatenate([[0.0], (at[1:] + at[:-1]) / 2, [1.0]])
        return np.diff(ends)


@dataclass(frozen=True)
class Tuned:
    """The result of tuning one optimizer on one objective and device.

    Attributes:
        case: The case with the best setting.
        spaces: By hyperparameter, what was searched.
        settings: The settings tried, in the order drawn.
        best: Values of what was searched, in the best setting.
        edges: The hyperparameters whose best value is at an edge of its range, each in words.
        reported: What is reported of the objective.
        finalists: The best settings as they were tried again, with further seeds; may be empty.
    """

    case: CaseData
    spaces: dict[str, SpaceSpec]
    settings: tuple[Tried, ...]
    best: Hyperparameters
    edges: tuple[str, ...]
    reported: Measure = TRAIN_LOSS
    finalists: tuple[Tried, ...] = ()

    @property
    def measure(self) -> Measure:
        """What tuning went by."""
        return self.settings[0].measure

    @property
    def shown(self) -> Measure:
        """What is told of the settings: what is reported, if that is known of all of them.

        It is not known where it is of the test part, which tuning never sees.
        """
        known = all(tried.reported is not None for tried in self.settings)
        return self.reported if known else self.measure

    @property
    def best_values(self) -> NDArray[np.float64]:
        """Final values of the best setting, with all seeds that it was chosen by."""
        rounds = (self.settings, self.finalists)
        return np.concatenate([self._best_of(one).losses for one in rounds if one])

    def _best_of(self, tried: Sequence[Tried]) -> Tried:
        best = self.best.items()
        return next(
            one for one in tried if all(one.hyperparameters[name] == value for name, value in best)
        )

    @property
    def trials(self) -> int:
        """The number of tuning trials."""
        return sum(len(tried.statuses) for tried in (*self.settings, *self.finalists))

    @property
    def failed(self) -> int:
        """The number of failed tuning trials."""
        both = (*self.settings, *self.finalists)
        return sum(status != "ok" for tried in both for status in tried.statuses)


def tuned(results: Results) -> list[Tuned]:
    """The results of tuning, in the order of the cases."""
    found = []
    again = {case.position: settings for case, settings in _tried(results, "finalist")}
    for case, settings in _tried(results, "tuning"):
        spaces = _spaces(results, case)
        best = {name: case.hyperparameters[name] for name in spaces}
        edges = [text for name in spaces if (text := _edge(name, spaces[name], best, settings))]
        reported = results.objectives[case.objective].measure
        finalists = tuple(again.get(case.position, ()))
        found.append(Tuned(case, spaces, tuple(settings), best, tuple(edges), reported, finalists))
    return found


def curves(results: Results) -> list[Curve]:
    """Every curve that the results allow: of each sweep, and of each grid over one number."""
    found = []
    for case, sweep in _tried(results, "sweep"):
        for name, space in _spaces(results, case).items():
            here = ((t.hyperparameters[name], t.losses) for t in sweep if t.varied == name)
            points = _points(here) if search_space.is_range(space) else ()
            if len(points) < 2:
                continue
            best, measure = float(case.hyperparameters[name]), sweep[0].measure
            found.append(_curve(results, case, name, space, points, best, measure))
    return found + list(_grid_curves(results))


def _grid_curves(results: Results) -> Iterator[Curve]:
    """Curves of grids in which one number alone varies, over three values or more."""
    groups: dict[tuple[str, str, str], list[CaseData]] = {}
    for case in results.cases:
        if case.role == "given":
            key = (case.objective, case.optimizer, case.device)
            groups.setdefault(key, []).append(case)
    trials = results.trials_by_position
    for cases in groups.values():
        names = varied(case.hyperparameters for case in cases)
        values = [case.hyperparameters.get(names[0]) for case in cases] if len(names) == 1 else []
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) < 3 or len(numbers) != len(values):
            continue
        known = [trials[c.position] for c in cases if c.position in trials]
        if len(known) != len(cases) or any((t["status"] == "unavailable").any() for t in known):
            continue
        losses = (t["final_loss"].where(t["status"] == "ok").to_numpy(dtype=float) for t in known)
        low, high = min(numbers), max(numbers)
        kind = "log_uniform" if low > 0 and high / low >= 10 else "uniform"
        space = SpaceSpec.model_validate({kind: [low, high]})
        points = _points(zip(numbers, losses, strict=True))
        measure = results.objectives[cases[0].objective].measure
        yield _curve(results, cases[0], names[0], space, points, None, measure)


def _curve(
    results: Results,
    case: CaseData,
    name: str,
    space: SpaceSpec,
    points: tuple[Point, ...],
    best: float | None,
    measure: Measure,
) -> Curve:
    others = {key: value for key, value in case.hyperparameters.items() if key != name}
    info = results.objectives[case.objective]
    optimum = info.optimum if measure == info.measure == TRAIN_LOSS else None
    named = (case.objective, case.optimizer, case.device, name)
    return Curve(*named, space, points, best, others, optimum, measure)


def _points(found: Iterable[tuple[float, NDArray[np.float64]]]) -> tuple[Point, ...]:
    points = []
    for value, losses in found:
        ok = losses[np.isfinite(losses)]
        low, median, high = np.quantile(ok, [0.025, 0.5, 0.975]) if len(ok) else [math.nan] * 3
        mean = float(ok.mean()) if len(ok) else math.nan
        if len(losses):
            failed = len(losses) - len(ok)
            ends = float(low), float(high)
            points.append(Point(float(value), mean, *ends, failed, float(median)))
    return tuple(sorted(points, key=lambda point: point.value))


def _edge(name: str, space: SpaceSpec, best: Mapping[str, Any], settings: Iterable[Tried]) -> str:
    """The edge of its range that a best value is at, as a text; empty if at none.

    At an edge is what lies in the outer part of the range, or has no value drawn beyond it.
    """
    if not search_space.is_range(space):
        return ""
    value = best[name]
    place = search_space.place(space, value)
    places = [search_space.place(space, tried.hyperparameters[name]) for tried in settings]
    low, high = search_space.ends(space)
    if place <= max(OUTER, min(places)):
        return f"{name} {value:g} is at the lower edge of its range ({low:g} to {high:g})"
    if place >= min(1 - OUTER, max(places)):
        return f"{name} {value:g} is at the upper edge of its range ({low:g} to {high:g})"
    return ""


def _spaces(results: Results, case: CaseData) -> dict[str, SpaceSpec]:
    """The search spaces of a case's optimizer on its objective."""
    spaces = results.run.settings.searches.get(case.optimizer, {})
    fixed = results.run.settings.fixed.get(case.optimizer, {}).get(case.objective, ())
    return {name: space for name, space in spaces.items() if name not in fixed}


def _tried(results: Results, role: str) -> Iterator[tuple[CaseData, list[Tried]]]:
    """The tuned cases, each with the settings that were tried for it."""
    groups: dict[tuple[str, str, str], list[Tried]] = {}
    for one in results.tried:
        # What could not run on a device has found nothing there.
        if one.role == role and set(one.statuses) != {"unavailable"}:
            groups.setdefault((one.objective, one.optimizer, one.device), []).append(one)
    for case in results.cases:
        settings = groups.get((case.objective, case.optimizer, case.device))
        if case.role == "tuned" and settings:
            yield case, settings
