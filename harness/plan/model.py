"""The plan: every case and every trial of a spec, each with a stable id. Loads no torch."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.formatting import as_text
from harness.plan.recipe import NOTHING as NO_RECIPE
from harness.plan.recipe import Recipe, comparable
from harness.provenance import fingerprint
from harness.provenance.opened_files import Opened
from harness.spec import search_space
from harness.spec.fields import Scalar
from harness.spec.measures import SplitSpec
from harness.spec.model import (
    ClaimSpec,
    Match,
    ObjectiveSpec,
    SpaceSpec,
    Spec,
    matches,
)
from harness.spec.variants import Variant, entry_of
from harness.suite.locate import ImportTarget

Hyperparameters = dict[str, Any]

Role = Literal["given", "tuned", "defaults", "tuning", "finalist", "sweep"]
"""The origin of a case's setting: the spec; the best that tuning found; the constructor, for
what is searched. Those in ``TRIED`` are settings that are tried, and not compared."""

TRIED: tuple[Role, ...] = ("tuning", "finalist", "sweep")
"""All that tuning draws; the best of these, which it tries again; settings about the best one."""


@dataclass(frozen=True)
class PlannedObjective:
    """An objective as a spec asks for it.

    Attributes:
        name: As the spec calls it.
        located: Where its class is.
        arguments: For its constructor.
        dataset: Where its data's loader is, or None.
        batch_size: Rows per step; None for all rows, or where there is no data.
        steps: Updates per trial, or None where ``epochs`` says it.
        epochs: Passes over the data per trial, or None.
        dtype: ``float32`` or ``float64``.
        record_every: Steps between records, ``epoch``, a share of the trial (``5%``), or None for
            the default.
        divergence_factor: See the spec.
        drop_last: See the spec.
        split: Shares of the dataset's rows for each part; None for one part, or a loader's own.
        evaluation_batch_size: Rows evaluated at once; None for all of a part.
        metrics: What is recorded, each with whether higher is better.
        stop: The spec, where it lets trials end before their last step.
        keeps_parameters: Whether the parameters after the last step are kept.
        key: Digest of all the above (but the name) and of the sources behind it.
        is_partial: Whether it lacks something that the spec gives wrongly.
        variant: Its place among the variants of an entry of the spec; None where it is the entry.
    """

    name: str
    located: ImportTarget
    arguments: dict[str, Any]
    dataset: ImportTarget | None
    batch_size: int | None
    steps: int | None
    epochs: int | None
    dtype: str
    record_every: int | str | None
    divergence_factor: float
    drop_last: bool = False
    split: SplitSpec | None = None
    evaluation_batch_size: int | None = None
    metrics: tuple[tuple[str, bool], ...] = (("loss", False),)
    stop: ObjectiveSpec | None = None
    keeps_parameters: bool = False
    key: str = ""
    is_partial: bool = False
    variant: Variant | None = None


@dataclass(frozen=True)
class Case:
    """One optimizer with one setting, on one objective, on one device.

    Attributes:
        optimizer: As the spec calls it.
        located: Where its class is.
        hyperparameters: All that the spec gives for this case.
        varied: The names among them that differ between this optimizer's settings here.
        objective: What it minimises.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        create_graph: Whether gradients keep their graph, for an optimizer that differentiates them.
        recipe: What beside hyperparameters says how it trains; their numbers are among these.
        role: Where its setting comes from.
        is_partial: Whether it lacks hyperparameters that the spec gives wrongly.
        sources: Digest of what its class depends on.
        recipe_key: Digest of its recipe and of what that depends on; empty of none.
        key: Digest of all that decides its trials' results but the seed.
    """

    optimizer: str
    located: ImportTarget
    hyperparameters: Hyperparameters
    varied: tuple[str, ...]
    objective: PlannedObjective
    device: str
    create_graph: bool = False
    recipe: Recipe = NO_RECIPE
    role: Role = "given"
    is_partial: bool = False
    sources: str = field(default="", compare=False)
    recipe_key: str = field(default="", compare=False)
    key: str = field(default="", compare=False)

    @property
    def sees_test(self) -> bool:
        """True unless it is only tried on data: who tunes never sees the test part."""
        return self.objective.dataset is None or self.role not in TRIED

    @property
    def setting(self) -> str:
        """Text that sets it apart from the optimizer's others here: ``lr=0.4``, or nothing."""
        if self.role in ("tuned", "defaults"):
            return self.role
        return ", ".join(f"{k}={as_text(self.hyperparameters.get(k))}" for k in self.varied)

    @property
    def label(self) -> str:
        """Optimizer and setting, as tables and legends show it."""
        return f"{self.optimizer} ({self.setting})" if self.setting else self.optimizer

    @property
    def id(self) -> str:
        """Objective, optimizer, setting and device: unique in a plan, readable, stable."""
        setting = f"[{self.setting}]" if self.setting else ""
        return f"{self.objective.name}/{self.optimizer}{setting}/{self.device}"


@dataclass(frozen=True)
class Search:
    """The tuning of one optimizer on one objective and device.

    Attributes:
        base: Its case with what the spec fixes, and nothing for what is searched.
        spaces: By hyperparameter, what is searched, in the spec's order.
        settings: The settings to try, as cases.
        position: How many of the plan's other cases come before the best one.
        best: The best setting's values of what is searched; None while they are not known.
        finalists: The settings to try again; empty while they are not known, or where none are.
    """

    base: Case
    spaces: dict[str, SpaceSpec]
    settings: tuple[Case, ...]
    position: int
    best: Hyperparameters | None = None
    finalists: tuple[Case, ...] = ()

    def tuned(self) -> Case:
        """The case with the best setting, which is compared with others."""
        return keyed(replace(self.base, hyperparameters=self._at({}), role="tuned"))

    def sweep(self, points: int) -> list[Case]:
        """The cases that vary one hyperparameter about the best setting."""
        return [
            keyed(
                replace(
                    self.base, hyperparameters=self._at({name: v}), varied=(name,), role="sweep"
                )
            )
            for name, space in self.spaces.items()
            if points
            for v in search_space.grid(space, points)
        ]

    def corners(self) -> list[Case]:
        """Cases at both ends of all ranges, and at every choice, to see that they are allowed."""
        values = [
            list(s.choice) if s.choice is not None else [search_space.value(s, u) for u in (0, 1)]
            for s in self.spaces.values()
        ]
        settings = (
            {name: own[i % len(own)] for name, own in zip(self.spaces, values, strict=True)}
            for i in range(max(map(len, values)))
        )
        return [
            replace(
                self.base,
                hyperparameters={**self.base.hyperparameters, **setting},
                varied=tuple(self.spaces),
                role="tuning",
            )
            for setting in settings
        ]

    def _at(self, values: Hyperparameters) -> Hyperparameters:
        assert self.best is not None
        return {**self.base.hyperparameters, **self.best, **values}


@dataclass(frozen=True)
class Plan:
    """The cases and seeds of a run.

    Attributes:
        suite: The suite's name.
        spec: The spec behind it.
        cases: In the spec's order: by objective, then optimizer, setting, device. A plan with
            searches lacks the tuned ones until it is completed.
        seeds: Every case is run with each of them.
        searches: What is tuned first.
        sweeps: Settings about the best ones; empty until the plan is completed.
    """

    suite: str
    spec: Spec
    cases: tuple[Case, ...]
    seeds: tuple[int, ...]
    searches: tuple[Search, ...] = ()
    sweeps: tuple[Case, ...] = ()

    @property
    def trials(self) -> int:
        """The number of trials: what is compared, tuning, and sweeps."""
        compared = (len(self.cases) + len(self.open_searches)) * len(self.seeds)
        sweeps = len(self.sweeps) or sum(_sweep_size(self.spec, s) for s in self.open_searches)
        tried = sum(len(search.settings) for search in self.searches) + sweeps
        again = sum(
            len(search.finalists) or _finalists_size(self.spec, search) for search in self.searches
        )
        return compared + tried * len(self.tuning_seeds) + again * len(self.finalist_seeds)

    @property
    def tuning_seeds(self) -> tuple[int, ...]:
        """Every setting that is tried is run with each of them."""
        return self.spec.tuning.seeds if self.spec.tuning and self.searches else ()

    @property
    def finalist_seeds(self) -> tuple[int, ...]:
        """The best of the settings are tried again with each of them."""
        rule = self.spec.tuning and self.spec.tuning.finalists
        return rule.seeds if rule and self.searches else ()

    @property
    def open_searches(self) -> tuple[Search, ...]:
        """The searches whose best setting is not known."""
        return tuple(search for search in self.searches if search.best is None)

    @property
    def tuning(self) -> Plan:
        """The part that comes first: every setting to try, with the tuning seeds."""
        cases = tuple(case for search in self.searches for case in search.settings)
        return replace(self, cases=cases, seeds=self.tuning_seeds, searches=(), sweeps=())

    @property
    def finals(self) -> Plan:
        """The part that follows tuning: its best settings, with further seeds."""
        cases = tuple(case for search in self.searches for case in search.finalists)
        return replace(self, cases=cases, seeds=self.finalist_seeds, searches=(), sweeps=())

    @property
    def sweeping(self) -> Plan:
        """The part that comes last: the settings about the best ones, with the tuning seeds."""
        seeds = self.tuning_seeds
        return replace(self, cases=self.sweeps, seeds=seeds, searches=(), sweeps=())

    @property
    def parts(self) -> tuple[Plan, ...]:
        """The parts with seeds of their own: what is compared, tuning, its finalists, sweeps."""
        return self, self.tuning, self.finals, self.sweeping

    @property
    def everything(self) -> tuple[Case, ...]:
        """All cases that are known: compared, then tried, tried again, and swept."""
        return (*self.cases, *self.tuning.cases, *self.finals.cases, *self.sweeps)

    def with_finalists(self, finalists: Sequence[Sequence[Case]]) -> Plan:
        """The plan with the settings of each search, in order, that are to be tried again."""
        searches = (
            replace(search, finalists=tuple(replace(case, role="finalist") for case in own))
            for search, own in zip(self.searches, finalists, strict=True)
        )
        return replace(self, searches=tuple(searches))

    def completed(self, best: Sequence[Hyperparameters]) -> Plan:
        """The plan with the best setting of each search, in order, among its cases."""
        searches = [replace(s, best=b) for s, b in zip(self.searches, best, strict=True)]
        cases: list[Case] = []
        for i in range(len(self.cases) + 1):
            cases += (search.tuned() for search in searches if search.position == i)
            cases += self.cases[i : i + 1]
        points = self.spec.tuning.sweep if self.spec.tuning else 0
        sweeps = tuple(case for search in searches for case in search.sweep(points))
        return replace(self, cases=tuple(cases), searches=tuple(searches), sweeps=sweeps)

    def with_opened(self, opened: Opened) -> Plan:
        """The plan with keys that count what code was seen to read, before tuning is complete."""
        objectives = {o.name: replace(o, key=objective_key(o, opened)) for o in self.objectives}

        def again(case: Case) -> Case:
            sources = sources_of(case.located, opened)
            recipe = recipe_key(case.recipe, opened)
            objective = objectives.get(case.objective.name, case.objective)
            known = replace(case, objective=objective, sources=sources, recipe_key=recipe)
            return keyed(known) if case.key else known

        searches = (
            replace(
                s,
                base=again(s.base),
                settings=tuple(map(again, s.settings)),
                finalists=tuple(map(again, s.finalists)),
            )
            for s in self.searches
        )
        cases, sweeps = tuple(map(again, self.cases)), tuple(map(again, self.sweeps))
        return replace(self, cases=cases, searches=tuple(searches), sweeps=sweeps)

    @property
    def objectives(self) -> tuple[PlannedObjective, ...]:
        """The objectives that some case minimises, in the spec's order."""
        cases = (*self.cases, *(search.base for search in self.searches))
        found = {case.objective.name: case.objective for case in cases}
        return tuple(found[name] for name in self.spec.objectives if name in found)

    @property
    def is_empty(self) -> bool:
        """True where there is nothing to run."""
        return not (self.cases or self.searches)

    def families(self) -> list[tuple[Case, ...]]:
        """Cases that differ by the size of some floats alone, and so may share a run.

        A float that is 0 counts as another kind, for it often turns something off. What belongs to
        the schedule may be anything, for it is computed by setting.
        """
        families: dict[tuple[str, ...], list[Case]] = {}
        for case in self.cases:
            setting = comparable(case.hyperparameters)
            alike = json.dumps([_kind(setting), sorted(case.hyperparameters)], sort_keys=True)
            family = (case.objective.name, case.optimizer, case.device, alike)
            families.setdefault(family, []).append(case)
        return [tuple(cases) for cases in families.values()]


def _kind(value: Any) -> Any:
    """The common part of settings that may share a run."""
    if isinstance(value, dict):
        return {key: _kind(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_kind(own) for own in value]
    if isinstance(value, float) and value and math.isfinite(value):
        return {"float": ""}
    return [type(value).__name__, repr(value)]


def named_by(cases: Iterable[Case]) -> tuple[ImportTarget, ...]:
    """The optimizers, objectives and datasets of some cases, each once."""
    found: dict[ImportTarget, None] = {}
    for case in cases:
        named = (case.located, case.objective.located, case.objective.dataset)
        for located in (*named, *case.recipe.located()):
            if located is not None:
                found[located] = None
    return tuple(found)


def is_named(name: str, pattern: str) -> bool:
    """Test a name against a pattern; that of a variant's entry counts as well."""
    return matches(name, pattern) or matches(entry_of(name), pattern)


def applies(match: Match, names: dict[str, str], setting: Hyperparameters) -> bool:
    """Test a match against names (optimizer, objective, device) and setting."""
    for key, name in names.items():
        patterns = getattr(match, key)
        if patterns and not any(is_named(name, pattern) for pattern in patterns):
            return False
    wanted: dict[str, Scalar] = match.hyperparameters
    return all(k in setting and setting[k] == v for k, v in wanted.items())


def claimed(
    claim: ClaimSpec, optimizer: str, objective: str, setting: str, given: Hyperparameters
) -> bool:
    """Test a claim against a case with such names, setting and hyperparameters."""
    if (claim.optimizer, claim.objective) != (optimizer, objective):
        return False
    if claim.setting is not None and claim.setting != setting:
        return False
    return all(k in given and given[k] == v for k, v in claim.hyperparameters.items())


def varied(settings: Iterable[Hyperparameters]) -> tuple[str, ...]:
    """The hyperparameters that differ between some settings, in the order they come in."""
    settings = list(settings)
    names = dict.fromkeys(itertools.chain.from_iterable(settings))
    return tuple(
        name for name in names if any(s.get(name) != settings[0].get(name) for s in settings)
    )


def keyed(case: Case) -> Case:
    """The case with its key."""
    return replace(case, key=_case_key(case))


def _sweep_size(spec: Spec, search: Search) -> int:
    """The number of settings in a search's sweep."""
    if spec.tuning is None or not spec.tuning.sweep:
        return 0
    return sum(len(search_space.grid(s, spec.tuning.sweep)) for s in search.spaces.values())


def _finalists_size(spec: Spec, search: Search) -> int:
    """The number of settings of a search that will be tried again."""
    if spec.tuning is None or spec.tuning.finalists is None:
        return 0
    return min(spec.tuning.finalists.settings, len({case.key for case in search.settings}))


def sources_of(located: ImportTarget, opened: Opened = fingerprint.NOTHING) -> str:
    """A digest of what a class depends on."""
    return fingerprint.digest(fingerprint.of(located, opened=opened))


def recipe_key(recipe: Recipe, opened: Opened = fingerprint.NOTHING) -> str:
    """A digest of a recipe and what it depends on; empty of one of nothing but numbers."""
    return "" if recipe.is_empty else fingerprint.digest(recipe.structure(opened))


def objective_key(planned: PlannedObjective, opened: Opened = fingerprint.NOTHING) -> str:
    """A digest of all that decides an objective."""
    return fingerprint.digest(
        {
            "engine": fingerprint.engine(),
            "torch": fingerprint.version_of("torch"),
            "attribute": planned.located.attribute,
            "sources": fingerprint.of(planned.located, opened=opened),
            "arguments": planned.arguments,
            "dataset": planned.dataset.attribute if planned.dataset else None,
            "data": fingerprint.of(planned.dataset, data=True, opened=opened)
            if planned.dataset
            else None,
            "batch_size": planned.batch_size,
            "steps": planned.steps,
            "epochs": planned.epochs,
            "dtype": planned.dtype,
            "record_every": planned.record_every,
            "divergence_factor": planned.divergence_factor,
            "drop_last": planned.drop_last,
            "split": planned.split and planned.split.model_dump(),
            "evaluation_batch_size": planned.evaluation_batch_size,
            "metrics": planned.metrics,
            "stop": _stop_parts(planned.stop),
            "keeps_parameters": planned.keeps_parameters,
        }
    )


def _stop_parts(spec: ObjectiveSpec | None) -> dict[str, Any] | None:
    """Everything that decides when trials end early."""
    if spec is None:
        return None
    wanted = {"stop", "targets", "tolerances", "report"}
    found: dict[str, Any] = spec.model_dump(mode="json", include=wanted)
    return found


def _case_key(case: Case) -> str:
    return fingerprint.digest(
        {
            "objective": case.objective.key,
            "attribute": case.located.attribute,
            "sources": case.sources,
            "hyperparameters": case.hyperparameters,
            "device": case.device,
            "create_graph": case.create_graph,
            "sees_test": case.sees_test,
            "recipe": case.recipe_key,
        }
    )
