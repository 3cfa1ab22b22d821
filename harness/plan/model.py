"""The plan: every case and every trial of a spec, each with a stable id. Loads no torch."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import BadInput, Problem, join, nearest
from harness.provenance import fingerprint
from harness.provenance.opened_files import Opened
from harness.spec import search_space
from harness.spec.fields import DEVICE_PATTERN, Scalar, device_hint, unfit
from harness.spec.fields import shown as cut
from harness.spec.model import ClaimSpec, LoadedSpec, Match, ObjectiveSpec, SpaceSpec, Spec, matches
from harness.spec.yaml_source import KeyPath
from harness.suite.locate import Located, NotFound, Section, locate

TRIAL_LIMIT = 2_000_000
"""Trials a plan may have."""

CASE_LIMIT = 50_000
"""Cases that a spec's grids may have, before include and exclude trim them."""

Hyperparameters = dict[str, Any]

Role = Literal["given", "tuned", "defaults", "tuning", "sweep"]
"""Where a case's setting comes from: the spec; the best that tuning found; the constructor, for
what is searched. ``tuning`` and ``sweep`` are settings that are tried, and not compared."""


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
        record_every: Steps between recorded losses, or None for the default.
        divergence_factor: See the spec.
        drop_last: See the spec.
        key: Digest of all the above (but the name) and of the sources behind it.
    """

    name: str
    located: Located
    arguments: dict[str, Any]
    dataset: Located | None
    batch_size: int | None
    steps: int | None
    epochs: int | None
    dtype: str
    record_every: int | None
    divergence_factor: float
    drop_last: bool = False
    key: str = ""


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
        role: Where its setting comes from.
        sources: Digest of what its class depends on.
        key: Digest of all that decides its trials' results but the seed.
    """

    optimizer: str
    located: Located
    hyperparameters: Hyperparameters
    varied: tuple[str, ...]
    objective: PlannedObjective
    device: str
    create_graph: bool = False
    role: Role = "given"
    sources: str = field(default="", compare=False)
    key: str = field(default="", compare=False)

    @property
    def setting(self) -> str:
        """What sets this case apart from the optimizer's others here: ``lr=0.4``, or nothing."""
        if self.role in ("tuned", "defaults"):
            return self.role
        return ", ".join(f"{k}={shown(self.hyperparameters.get(k))}" for k in self.varied)

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
    """

    base: Case
    spaces: dict[str, SpaceSpec]
    settings: tuple[Case, ...]
    position: int
    best: Hyperparameters | None = None

    def tuned(self) -> Case:
        """The case with the best setting, which is compared with others."""
        return _keyed(replace(self.base, hyperparameters=self._at({}), role="tuned"))

    def sweep(self, points: int) -> list[Case]:
        """The cases that vary one hyperparameter about the best setting."""
        return [
            _keyed(
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
    """What a run will do.

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
        """How many trials there are: what is compared, tuning, and sweeps."""
        compared = (len(self.cases) + len(self.open_searches)) * len(self.seeds)
        sweeps = len(self.sweeps) or sum(_sweep_size(self.spec, s) for s in self.open_searches)
        tried = sum(len(search.settings) for search in self.searches) + sweeps
        return compared + tried * len(self.tuning_seeds)

    @property
    def tuning_seeds(self) -> tuple[int, ...]:
        """Every setting that is tried is run with each of them."""
        return self.spec.tuning.seeds if self.spec.tuning and self.searches else ()

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
    def sweeping(self) -> Plan:
        """The part that comes last: the settings about the best ones, with the tuning seeds."""
        seeds = self.tuning_seeds
        return replace(self, cases=self.sweeps, seeds=seeds, searches=(), sweeps=())

    @property
    def everything(self) -> tuple[Case, ...]:
        """All cases that are known: compared, then tried, then swept."""
        return (*self.cases, *self.tuning.cases, *self.sweeps)

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
        objectives = {o.name: replace(o, key=_objective_key(o, opened)) for o in self.objectives}

        def again(case: Case) -> Case:
            sources = _sources(case.located, opened)
            known = replace(case, objective=objectives[case.objective.name], sources=sources)
            return _keyed(known) if case.key else known

        searches = (
            replace(s, base=again(s.base), settings=tuple(map(again, s.settings)))
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
        """Whether there is nothing to run."""
        return not (self.cases or self.searches)

    def families(self) -> list[tuple[Case, ...]]:
        """Cases that differ by the size of some floats alone, and so may share a run.

        A float that is 0 counts as another kind, for it often turns something off.
        """
        families: dict[tuple[str, ...], list[Case]] = {}
        for case in self.cases:
            alike = json.dumps(_kind(case.hyperparameters), sort_keys=True)
            family = (case.objective.name, case.optimizer, case.device, alike)
            families.setdefault(family, []).append(case)
        return [tuple(cases) for cases in families.values()]


def _kind(value: Any) -> Any:
    """What settings that may share a run have in common."""
    if isinstance(value, dict):
        return {key: _kind(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_kind(own) for own in value]
    if isinstance(value, float) and value and math.isfinite(value):
        return {"float": ""}
    return [type(value).__name__, repr(value)]


@dataclass(frozen=True)
class Overrides:
    """What the command line says on top of the spec.

    Attributes:
        seeds: How many seeds, or None.
        devices: Devices in place of the spec's, or empty.
        only: ``key=pattern`` filters: of one key any, of several keys all must match.
        chosen: These very seeds, in place of a number of them; or empty.
        values: ``name=value`` hyperparameters in place of what the spec gives or searches, each
            value in JSON.
        untimed: Whether to leave out the timing pass.
    """

    seeds: int | None = None
    devices: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    chosen: tuple[int, ...] = ()
    values: tuple[str, ...] = ()
    untimed: bool = False


def make_plan(loaded: LoadedSpec, overrides: Overrides | None = None) -> Plan:
    """Turn a spec into a plan.

    Args:
        loaded: A spec, possibly with mistakes.
        overrides: What the command line says on top.

    Returns:
        The plan.

    Raises:
        BadInput: If the spec has mistakes, names something that isn't there, asks for too much,
            or leaves nothing to run. All mistakes are reported together.
    """
    plan, problems = draft(loaded, overrides or Overrides())
    if problems or plan is None:
        raise BadInput(problems)
    return plan


def draft(loaded: LoadedSpec, overrides: Overrides) -> tuple[Plan | None, tuple[Problem, ...]]:
    """Plan as far as the spec is valid, and say what is wrong with the rest."""
    if loaded.spec is None:
        return None, loaded.problems
    fingerprint.look_again()
    spec = loaded.spec
    if overrides.untimed:
        timing = spec.timing.model_copy(update={"enabled": False})
        spec = spec.model_copy(update={"timing": timing})
    builder = _Builder(loaded, overrides)
    cases = builder.cases()
    problems = (*loaded.problems, *builder.problems)
    chosen = tuple(sorted(set(overrides.chosen)))
    count = overrides.seeds or len(chosen or spec.seeds)
    within = overrides.seeds and count <= TRIAL_LIMIT
    seeds = tuple(range(count)) if within else chosen or spec.seeds
    plan = Plan(spec.suite, spec, cases, seeds, tuple(builder.searches))
    trials = plan.trials + (count - len(seeds)) * len(cases)
    if not problems and trials > TRIAL_LIMIT:
        problems = (builder.too_many(plan, count, trials),)
    if not problems and set(seeds) & set(plan.tuning_seeds):
        option = "--seed" if chosen else "--seeds"
        text = f"some of these are among the seeds of {option}, which must see no tuning"
        problems = (loaded.source.problem(("tuning", "seeds"), text),)
    if not problems:
        problems = tuple(_ambiguous_claims(loaded, plan, overrides))
    if not problems and plan.is_empty:
        what = (
            "--only, include and exclude leave" if overrides.only else "include and exclude leave"
        )
        problems = (loaded.source.problem((), f"{what} nothing to run"),)
    return plan, problems


def parse_devices(text: str) -> tuple[str, ...]:
    """Devices as the command line lists them, separated by commas.

    Raises:
        BadInput: If one is not a device, or none is given.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    wrong = [name for name in names if not re.fullmatch(DEVICE_PATTERN, name)]
    if wrong or not names:
        name = wrong[0] if wrong else text
        raise BadInput.of_file("--devices", f"{name!r} is not a device{device_hint(name)}")
    return names


def shown(value: Any) -> str:
    """A hyperparameter as labels show it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        short = f"{value:.6g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    return str(value)


class _Builder:
    """Collects the mistakes that show while a plan is made."""

    def __init__(self, loaded: LoadedSpec, overrides: Overrides) -> None:
        assert loaded.spec is not None
        self.spec = loaded.spec
        self.source = loaded.source
        self.folder: Path = loaded.folder
        self.overrides = overrides
        self.problems: list[Problem] = []
        self.searches: list[Search] = []
        self.values = self._values()
        self.seen: dict[str, None] = {}

    def too_many(self, plan: Plan, seeds: int, trials: int) -> Problem:
        text = f"{len(plan.cases) + len(plan.searches):,} cases with {seeds:,} seeds"
        if plan.searches:
            text += f", with tuning {trials:,} trials"
        else:
            text += f" are {trials:,} trials"
        return self.source.problem((), f"{text}, the limit is {TRIAL_LIMIT:,}")

    def cases(self) -> tuple[Case, ...]:
        objectives = {n: o for n, s in self.spec.objectives.items() if (o := self._objective(n, s))}
        optimizers = {
            name: located
            for name, optimizer in self.spec.optimizers.items()
            if (located := self._locate(optimizer.class_, "optimizers", (name, "class")))
        }
        only = self._only()
        wanted = only.pop("setting", ["*"])
        devices = self.overrides.devices or self.spec.devices
        if not self._fits(list(objectives), list(optimizers), len(devices)):
            return ()
        found: list[Case] = []
        for objective, (name, located) in itertools.product(
            objectives.values(), optimizers.items()
        ):
            if self._spaces(name, objective.name):
                choices = self._choices(name, objective.name)
                fixed = {k: values[0] for k, values in choices.items()}
                for device in devices:
                    if self._kept(name, objective.name, device, fixed, only):
                        self._search(name, located, objective, device, found, wanted)
                continue
            settings = self._settings(name, objective.name)
            for device in devices:
                kept = [
                    setting
                    for setting in settings
                    if self._kept(name, objective.name, device, setting, only)
                ]
                differing = varied(kept)
                create_graph = self.spec.optimizers[name].create_graph
                cases = (
                    Case(name, located, setting, differing, objective, device, create_graph)
                    for setting in kept
                )
                found += (_keyed(case) for case in cases if self._chosen(case.setting, wanted))
        self._check_settings(wanted)
        return tuple(found)

    def _chosen(self, setting: str, wanted: list[str]) -> bool:
        """Whether the command line leaves a setting in, by the name that it has among others."""
        self.seen[setting] = None
        return any(matches(setting, pattern) for pattern in wanted)

    def _check_settings(self, wanted: list[str]) -> None:
        """Say which patterns match no setting of what is left."""
        for pattern in wanted:
            if self.seen and not any(matches(setting, pattern) for setting in self.seen):
                text = f"{pattern!r} matches no setting"
                text += nearest(pattern, [setting for setting in self.seen if setting])
                self.problems.append(Problem(f"--only setting={pattern}", 0, 0, "", text))

    def _values(self) -> Hyperparameters:
        """The hyperparameters that the command line gives."""
        known = {
            name: None
            for optimizer in self.spec.optimizers.values()
            for given in (
                optimizer.hyperparameters,
                optimizer.search,
                *optimizer.per_objective.values(),
            )
            for name in given
        }
        found: Hyperparameters = {}
        for text in self.overrides.values:
            name, equals, value = text.partition("=")
            problem = ""
            if not equals or name not in known:
                problem = "expected a hyperparameter that the spec names, '=' and its value"
                problem += nearest(name, known) if equals else ""
            else:
                try:
                    given = json.loads(value, parse_constant=_refuse)
                    problem = "is given twice" if name in found else unfit(given)
                except (ValueError, RecursionError):
                    problem = f'{cut(value)} is not JSON: a number, true, null, or text in "quotes"'
                if not problem:
                    found[name] = given
            if problem:
                self.problems.append(Problem(f"--set {text}", 0, 0, "", problem))
        return found

    def _spaces(self, name: str, objective: str) -> dict[str, SpaceSpec]:
        """What of an optimizer is searched on an objective."""
        optimizer = self.spec.optimizers[name]
        fixed = {*optimizer.per_objective.get(objective, {}), *self.values}
        return {k: v for k, v in optimizer.search.items() if k not in fixed}

    def _search(
        self,
        name: str,
        located: Located,
        objective: PlannedObjective,
        device: str,
        found: list[Case],
        wanted: list[str],
    ) -> None:
        """Plan the tuning of an optimizer on an objective and a device."""
        tuning, spaces = self.spec.tuning, self._spaces(name, objective.name)
        choices = self._choices(name, objective.name)
        if tuning is None or any(len(values) != 1 for values in choices.values()):
            return  # which is reported already
        fixed = {k: values[0] for k, values in choices.items()}
        create_graph = self.spec.optimizers[name].create_graph
        base = Case(name, located, fixed, (), objective, device, create_graph)
        if self._chosen("tuned", wanted):
            self.searches.append(self._planned_search(base, spaces, len(found)))
        if tuning.defaults and self._chosen("defaults", wanted):
            found.append(_keyed(replace(base, role="defaults")))

    def _planned_search(self, base: Case, spaces: dict[str, SpaceSpec], position: int) -> Search:
        """A search with the settings that it will try."""
        tuning = self.spec.tuning
        assert tuning is not None
        settings = tuple(
            _keyed(
                replace(
                    base,
                    hyperparameters={**base.hyperparameters, **drawn},
                    varied=tuple(spaces),
                    role="tuning",
                )
            )
            for drawn in search_space.draw(spaces, tuning.trials, tuning.draw)
        )
        return Search(base, spaces, settings, position)

    def _objective(self, name: str, spec: ObjectiveSpec) -> PlannedObjective | None:
        reference = spec.class_ or name
        path = (name, "class") if spec.class_ else (name,)
        located = self._locate(reference, "objectives", path)
        dataset = None
        if spec.dataset is not None:
            dataset = self._locate(spec.dataset, "datasets", (name, "dataset"))
        if located is None or (spec.dataset is not None and dataset is None):
            return None
        planned = PlannedObjective(
            name=name,
            located=located,
            arguments=spec.arguments,
            dataset=dataset,
            batch_size=spec.batch_size,
            steps=spec.steps,
            epochs=spec.epochs,
            dtype=spec.dtype,
            record_every=spec.record_every,
            divergence_factor=spec.divergence_factor,
            drop_last=spec.drop_last,
        )
        return replace(planned, key=_objective_key(planned))

    def _locate(self, reference: str, section: Section, path: KeyPath) -> Located | None:
        root = "optimizers" if section == "optimizers" else "objectives"
        try:
            return locate(reference, self.folder, section)
        except NotFound as error:
            at_key = len(path) == 1
            self.problems.append(self.source.problem((root, *path), str(error), at_key=at_key))
            return None

    def _choices(self, name: str, objective: str) -> dict[str, list[Any]]:
        """The values of each of an optimizer's hyperparameters on an objective."""
        optimizer = self.spec.optimizers[name]
        values = {**optimizer.hyperparameters, **optimizer.per_objective.get(objective, {})}
        choices = {k: v if isinstance(v, list) else [v] for k, v in values.items()}
        given = (name for name in self.values if name in values or name in optimizer.search)
        return choices | {name: [self.values[name]] for name in given}

    def _fits(self, objectives: list[str], optimizers: list[str], devices: int) -> bool:
        """Whether the grids are small enough to be built; says so where they aren't."""
        total = 0
        for name, objective in itertools.product(optimizers, objectives):
            count = math.prod(len(c) for c in self._choices(name, objective).values())
            if self.spec.tuning is not None and self._spaces(name, objective):
                count *= self.spec.tuning.trials
            total += count * devices
            if count * devices > CASE_LIMIT:
                text = f"its grid on {objective!r} has {count:,} settings"
                limit = f"a plan has at most {CASE_LIMIT:,} cases"
                problem = self.source.problem(("optimizers", name), f"{text}, {limit}", at_key=True)
                self.problems.append(problem)
        if total > CASE_LIMIT and not self.problems:
            text = f"the grids have {total:,} cases, the limit is {CASE_LIMIT:,}"
            self.problems.append(self.source.problem(("optimizers",), text, at_key=True))
        return total <= CASE_LIMIT

    def _settings(self, name: str, objective: str) -> list[Hyperparameters]:
        """The grid of an optimizer's hyperparameters on an objective."""
        choices = self._choices(name, objective)
        return [
            dict(zip(choices, combo, strict=True)) for combo in itertools.product(*choices.values())
        ]

    def _kept(
        self,
        optimizer: str,
        objective: str,
        device: str,
        setting: Hyperparameters,
        only: dict[str, list[str]],
    ) -> bool:
        names = {"optimizer": optimizer, "objective": objective, "device": device}
        if not all(any(matches(names[k], p) for p in ps) for k, ps in only.items()):
            return False
        include, exclude = self.spec.include, self.spec.exclude
        if include and not any(applies(match, names, setting) for match in include):
            return False
        return not any(applies(match, names, setting) for match in exclude)

    def _only(self) -> dict[str, list[str]]:
        known: dict[str, Sequence[str]] = {
            "optimizer": list(self.spec.optimizers),
            "objective": list(self.spec.objectives),
            "setting": (),  # known once all cases are
            "device": self.overrides.devices or self.spec.devices,
        }
        only: dict[str, list[str]] = {}
        for text in self.overrides.only:
            key, equals, pattern = text.partition("=")
            if not equals or key not in known:
                expected = "expected optimizer=, objective=, setting= or device= with a name or "
                expected += "pattern"
                hint = nearest(key, known) if equals else ""
                self.problems.append(Problem(f"--only {text}", 0, 0, "", expected + hint))
            elif key != "setting" and not any(matches(name, pattern) for name in known[key]):
                hint = nearest(pattern, known[key])
                self.problems.append(
                    Problem(f"--only {text}", 0, 0, "", f"{pattern!r} matches no {key}{hint}")
                )
            else:
                only.setdefault(key, []).append(pattern)
        return only


def _refuse(constant: str) -> Any:
    """JSON knows no infinity, and neither does a case's key."""
    raise ValueError(constant)


def named_by(cases: Iterable[Case]) -> tuple[Located, ...]:
    """The optimizers, objectives and datasets of some cases, each once."""
    found: dict[Located, None] = {}
    for case in cases:
        for located in (case.located, case.objective.located, case.objective.dataset):
            if located is not None:
                found[located] = None
    return tuple(found)


def applies(match: Match, names: dict[str, str], setting: Hyperparameters) -> bool:
    """Whether a match picks what has such names (optimizer, objective, device) and setting."""
    for key, name in names.items():
        patterns = getattr(match, key)
        if patterns and not any(matches(name, pattern) for pattern in patterns):
            return False
    wanted: dict[str, Scalar] = match.hyperparameters
    return all(k in setting and setting[k] == v for k, v in wanted.items())


def claimed(
    claim: ClaimSpec, optimizer: str, objective: str, setting: str, given: Hyperparameters
) -> bool:
    """Whether a claim is of a case with such names, setting and hyperparameters."""
    if (claim.optimizer, claim.objective) != (optimizer, objective):
        return False
    if claim.setting is not None and claim.setting != setting:
        return False
    return all(k in given and given[k] == v for k, v in claim.hyperparameters.items())


def _ambiguous_claims(loaded: LoadedSpec, plan: Plan, overrides: Overrides) -> Iterator[Problem]:
    """Claims that are of no case, or of several settings."""
    assert loaded.spec is not None
    for i, claim in enumerate(loaded.spec.claims):
        settings = [
            (case.setting, case.hyperparameters)
            for case in (*plan.cases, *(replace(s.base, role="tuned") for s in plan.searches))
            if claimed(
                claim, case.optimizer, case.objective.name, case.setting, case.hyperparameters
            )
        ]
        names = dict.fromkeys(setting for setting, _ in settings)
        if len(names) > 1:
            text = f"is of any of {join(list(names))}; say which, under 'hyperparameters'"
            if set(names) <= {"tuned", "defaults"}:
                text = "is of the tuned setting or of the defaults; say which, as 'setting: tuned'"
            yield loaded.source.problem(("claims", i), text)
        elif not names and not (overrides.only or overrides.devices):
            text = f"no case of {claim.optimizer!r} on {claim.objective!r} is like this"
            yield loaded.source.problem(("claims", i), text)


def varied(settings: Iterable[Hyperparameters]) -> tuple[str, ...]:
    """The hyperparameters that differ between some settings, in the order they come in."""
    settings = list(settings)
    names = dict.fromkeys(itertools.chain.from_iterable(settings))
    return tuple(
        name for name in names if any(s.get(name) != settings[0].get(name) for s in settings)
    )


def _keyed(case: Case) -> Case:
    return replace(case, key=_case_key(case))


def _sweep_size(spec: Spec, search: Search) -> int:
    """How many settings a search's sweep has."""
    if spec.tuning is None or not spec.tuning.sweep:
        return 0
    return sum(len(search_space.grid(s, spec.tuning.sweep)) for s in search.spaces.values())


def _sources(located: Located, opened: Opened = fingerprint.NOTHING) -> str:
    return fingerprint.digest(fingerprint.of(located, opened=opened))


def _objective_key(planned: PlannedObjective, opened: Opened = fingerprint.NOTHING) -> str:
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
        }
    )


def _case_key(case: Case) -> str:
    return fingerprint.digest(
        {
            "objective": case.objective.key,
            "attribute": case.located.attribute,
            "sources": case.sources or _sources(case.located),
            "hyperparameters": case.hyperparameters,
            "device": case.device,
            "create_graph": case.create_graph,
        }
    )


def trial_ids(plan: Plan) -> Iterator[tuple[Case, int]]:
    """Every trial: its case and its seed."""
    return ((case, seed) for case in plan.cases for seed in plan.seeds)
