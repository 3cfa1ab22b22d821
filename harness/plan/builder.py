"""Building of a plan from a spec and what the command line says on top of it."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import BadInput, Problem, join, nearest
from harness.plan.model import (
    Case,
    Hyperparameters,
    Plan,
    PlannedObjective,
    Search,
    applies,
    claimed,
    is_named,
    keyed,
    objective_key,
    recipe_key,
    sources_of,
    varied,
)
from harness.plan.recipe import TORCH_SCHEDULERS, Recipe, plan_recipe
from harness.provenance import fingerprint
from harness.spec import search_space
from harness.spec.fields import DEVICE_PATTERN, device_hint, shown, unfit
from harness.spec.model import ObjectiveSpec, SpaceSpec, Spec, matches
from harness.spec.recipe import UNFIT
from harness.spec.recipe_values import merged
from harness.spec.validation import LoadedSpec
from harness.spec.variants import entry_of
from harness.spec.yaml_source import KeyPath
from harness.suite.locate import ImportTarget, NotFound, Section, locate

TRIAL_LIMIT = 2_000_000
"""Trials a plan may have."""

CASE_LIMIT = 50_000
"""Cases that a spec's grids may have, before include and exclude trim them."""

DRAWN_LIMIT = 1_000_000
"""Settings that may be drawn in all: 200 for each of ten optimizers on each of 500 tasks."""


@dataclass(frozen=True)
class Overrides:
    """Settings of the command line that go before the spec's.

    Attributes:
        seeds: Number of seeds, or None.
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


def draft(loaded: LoadedSpec, overrides: Overrides) -> tuple[Plan | None, tuple[Problem, ...]]:
    """Plan as far as the spec is valid, and say what is wrong with the rest."""
    if loaded.spec is None:
        return None, loaded.problems
    fingerprint.look_again()
    builder = _PlanBuilder(loaded, loaded.spec, overrides)
    plan = builder.plan()
    problems = (*loaded.problems, *builder.problems)
    for check in (_too_many, _seen_by_tuning, _ambiguous_claims, _nothing_to_run):
        if problems:
            break
        problems = tuple(check(loaded, plan, overrides))
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


def _too_many(loaded: LoadedSpec, plan: Plan, overrides: Overrides) -> Iterator[Problem]:
    seeds = overrides.seeds or len(plan.seeds)
    compared = len(plan.cases) + len(plan.searches)
    trials = plan.trials + (seeds - len(plan.seeds)) * compared
    if trials > TRIAL_LIMIT:
        total = f", with tuning {trials:,} trials" if plan.searches else f" are {trials:,} trials"
        text = f"{compared:,} cases with {seeds:,} seeds{total}, the limit is {TRIAL_LIMIT:,}"
        yield loaded.source.problem((), text)


def _seen_by_tuning(loaded: LoadedSpec, plan: Plan, overrides: Overrides) -> Iterator[Problem]:
    if set(plan.seeds) & {*plan.tuning_seeds, *plan.finalist_seeds}:
        option = "--seed" if overrides.chosen else "--seeds"
        text = f"some of these are also seeds of {option}, but tuning needs seeds of its own"
        yield loaded.source.problem(("tuning", "seeds"), text)


def _nothing_to_run(loaded: LoadedSpec, plan: Plan, overrides: Overrides) -> Iterator[Problem]:
    if plan.is_empty:
        filters = "--only, include and exclude" if overrides.only else "include and exclude"
        path = next(((key,) for key in ("exclude", "include") if key in loaded.source.data), ())
        yield loaded.source.problem(path, f"{filters} leave nothing to run", at_key=True)


def _ambiguous_claims(loaded: LoadedSpec, plan: Plan, overrides: Overrides) -> Iterator[Problem]:
    """Claims that are of no case, or of several settings."""
    cases = [*plan.cases, *(replace(search.base, role="tuned") for search in plan.searches)]
    for i, claim in enumerate(plan.spec.claims):
        names = dict.fromkeys(
            c.setting
            for c in cases
            if claimed(claim, c.optimizer, c.objective.name, c.setting, c.hyperparameters)
        )
        if len(names) > 1:
            text = f"fits several settings ({join(list(names))}); choose by 'hyperparameters'"
            if set(names) <= {"tuned", "defaults"}:
                text = "fits the tuned setting and the defaults; choose one, as 'setting: tuned'"
            yield loaded.source.problem(("claims", i), text)
        elif not names and not (overrides.only or overrides.devices):
            text = f"no case of {claim.optimizer!r} on {claim.objective!r} has this setting"
            yield loaded.source.problem(("claims", i), text)


@dataclass(frozen=True)
class _Pairing:
    """One optimizer on one objective, with the values of its hyperparameters there.

    Attributes:
        defaults: What the recipe gives for what is searched.
    """

    optimizer: str
    located: ImportTarget
    sources: str
    objective: PlannedObjective
    choices: dict[str, list[Any]]
    spaces: dict[str, SpaceSpec]
    recipe: Recipe
    defaults: Hyperparameters

    def settings(self) -> list[Hyperparameters]:
        """The grid of the hyperparameters."""
        combinations = itertools.product(*self.choices.values())
        return [dict(zip(self.choices, values, strict=True)) for values in combinations]


class _PlanBuilder:
    """A plan in the making, and the mistakes that show meanwhile."""

    def __init__(self, loaded: LoadedSpec, spec: Spec, overrides: Overrides) -> None:
        if overrides.untimed:
            timing = spec.timing.model_copy(update={"enabled": False})
            spec = spec.model_copy(update={"timing": timing})
        self.spec, self.loaded, self.overrides = spec, loaded, overrides
        self.problems: list[Problem] = []
        self._merged = {name: merged(spec, name) for name in spec.optimizers}
        self._devices = overrides.devices or spec.devices
        self._values = self._given_values()
        self._only = self._filters()
        self._wanted = self._only.pop("setting", ["*"])
        self._seen: dict[str, None] = {}

    def plan(self) -> Plan:
        """Plan all that is valid."""
        pairings = self._pairings()
        cases: list[Case] = []
        searches: list[Search] = []
        if self._fits(pairings):
            for pairing in pairings:
                if pairing.spaces:
                    self._search(pairing, cases, searches)
                else:
                    self._grid(pairing, cases)
            self._check_setting_filters()
        seeds = tuple(sorted(set(self.overrides.chosen))) or self.spec.seeds
        if self.overrides.seeds and self.overrides.seeds <= TRIAL_LIMIT:
            seeds = tuple(range(self.overrides.seeds))
        return Plan(self.spec.suite, self.spec, tuple(cases), seeds, tuple(searches))

    def _pairings(self) -> list[_Pairing]:
        found = [self._objective(name, o) for name, o in self.spec.objectives.items()]
        objectives = [objective for objective in found if objective is not None]
        optimizers = {
            name: located
            for name, optimizer in self.spec.optimizers.items()
            if (located := self._locate(optimizer.class_, ("optimizers", name, "class")))
        }
        sources = {name: sources_of(located) for name, located in optimizers.items()}
        recipes = {name: self._recipe(name) for name in optimizers}
        return [
            self._pairing(name, located, sources[name], objective, recipes[name])
            for objective in objectives or self._stand_in()
            for name, located in optimizers.items()
        ]

    def _recipe(self, optimizer: str) -> Recipe:
        """An optimizer's recipe; nothing where it names what isn't there."""
        found = plan_recipe(self._merged[optimizer], self._locate_of_recipe)
        return found or Recipe()

    def _locate_of_recipe(self, reference: str, path: KeyPath) -> ImportTarget | None:
        """Find a class of a recipe; one of torch's schedulers needs its module's name."""
        located = self._locate(reference, path, "optimizers")
        if located is None and reference in TORCH_SCHEDULERS:
            problem = self.problems[-1]
            hint = f"{problem.message}; did you mean 'torch.optim.lr_scheduler:{reference}'?"
            self.problems[-1] = replace(problem, message=hint)
        return located

    def _stand_in(self) -> list[PlannedObjective]:
        """An objective for optimizers to be checked on, where each of the spec is wrong."""
        if not self.problems and not self.loaded.problems:
            return []
        planned = self._objective("sphere", ObjectiveSpec(steps=1))
        return [replace(planned, is_partial=True)] if planned is not None else []

    def _pairing(
        self,
        name: str,
        located: ImportTarget,
        sources: str,
        objective: PlannedObjective,
        recipe: Recipe,
    ) -> _Pairing:
        optimizer, merged = self.spec.optimizers[name], self._merged[name]
        own, local, values, searched = (
            {merged.canonical(k): v for k, v in given.items()}
            for given in (
                optimizer.hyperparameters,
                optimizer.per_objective.get(objective.name, {}),
                self._values,
                optimizer.search,
            )
        )
        of_recipe = {k: given.choices for k, given in merged.values().items()}
        given = {**own, **local}
        choices = {k: v if isinstance(v, list) else [v] for k, v in given.items()}
        choices |= {k: v for k, v in of_recipe.items() if k not in choices}
        known = (k for k in values if k in choices or k in searched)
        choices |= {k: [values[k]] for k in known}
        fixed = {*local, *values}
        spaces = {k: space for k, space in searched.items() if k not in fixed}
        defaults = {k: choices.pop(k)[0] for k in spaces if k in choices and k in of_recipe}
        return _Pairing(name, located, sources, objective, choices, spaces, recipe, {**defaults})

    def _objective(self, name: str, spec: ObjectiveSpec) -> PlannedObjective | None:
        path: KeyPath = ("objectives", name)
        named = spec.class_ or entry_of(name)
        located = self._locate(named, (*path, "class") if spec.class_ else path)
        dataset = None
        if spec.dataset is not None:
            dataset = self._locate(spec.dataset, (*path, "dataset"), "datasets")
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
            split=spec.split,
            evaluation_batch_size=spec.evaluation_batch_size,
            metrics=spec.metrics,
            stop=spec if spec.stop else None,
            keeps_parameters=spec.keep is not None and spec.keep.parameters == "last",
            is_partial=path in self.loaded.partial,
            variant=self.loaded.variants.get(name),
        )
        return replace(planned, key=objective_key(planned))

    def _locate(
        self, reference: str, path: KeyPath, section: Section | None = None
    ) -> ImportTarget | None:
        section = section or ("optimizers" if path[0] == "optimizers" else "objectives")
        try:
            return locate(reference, self.loaded.folder, section)
        except NotFound as error:
            problem = self.loaded.source.problem(path, str(error), at_key=len(path) == 2)
            self.problems.append(problem)
            return None

    def _fits(self, pairings: Sequence[_Pairing]) -> bool:
        """Test that the grids are small enough to be built; report those that are not."""
        drawn = built = 0
        fit = True
        for pairing in pairings:
            count = math.prod(map(len, pairing.choices.values()))
            if self.spec.tuning is not None and pairing.spaces:
                count *= self.spec.tuning.trials
                drawn += count * len(self._devices)
            else:
                built += count * len(self._devices)
            if count * len(self._devices) > CASE_LIMIT:
                fit = False
                text = (
                    f"its grid on {pairing.objective.name!r} has {count:,} settings, "
                    f"a plan has at most {CASE_LIMIT:,} cases"
                )
                self._at_key(("optimizers", pairing.optimizer), text)
        for total, what, limit in (
            (built, "the grids have {:,} cases", CASE_LIMIT),
            (drawn, "{:,} settings are to be drawn for searches", DRAWN_LIMIT),
        ):
            if total > limit and fit:
                fit = False
                self._at_key(("optimizers",), f"{what.format(total)}, the limit is {limit:,}")
        return fit

    def _at_key(self, path: KeyPath, text: str) -> None:
        self.problems.append(self.loaded.source.problem(path, text, at_key=True))

    def _case(
        self,
        pairing: _Pairing,
        setting: Hyperparameters,
        differing: tuple[str, ...],
        device: str,
    ) -> Case:
        return Case(
            optimizer=pairing.optimizer,
            located=pairing.located,
            hyperparameters=setting,
            varied=differing,
            objective=pairing.objective,
            device=device,
            create_graph=self.spec.optimizers[pairing.optimizer].create_graph,
            recipe=pairing.recipe,
            is_partial=("optimizers", pairing.optimizer) in self.loaded.partial,
            sources=pairing.sources,
            recipe_key=recipe_key(pairing.recipe),
        )

    def _grid(self, pairing: _Pairing, cases: list[Case]) -> None:
        """Plan an optimizer with each of its settings."""
        settings = pairing.settings()
        for device in self._devices:
            kept = [setting for setting in settings if self._is_kept(pairing, device, setting)]
            differing = varied(kept)
            for setting in kept:
                case = self._case(pairing, setting, differing, device)
                if self._is_wanted(case.setting):
                    cases.append(keyed(case))

    def _search(self, pairing: _Pairing, cases: list[Case], searches: list[Search]) -> None:
        """Plan the tuning of an optimizer."""
        tuning = self.spec.tuning
        if tuning is None or any(len(values) != 1 for values in pairing.choices.values()):
            return  # which is reported already
        (fixed,) = pairing.settings()
        for device in self._devices:
            if not self._is_kept(pairing, device, fixed):
                continue
            base = self._case(pairing, fixed, (), device)
            if self._is_wanted("tuned"):
                drawn = search_space.draw(pairing.spaces, tuning.trials, tuning.draw)
                tried = replace(base, varied=tuple(pairing.spaces), role="tuning")
                settings = (
                    keyed(replace(tried, hyperparameters={**fixed, **setting})) for setting in drawn
                )
                searches.append(Search(base, pairing.spaces, tuple(settings), len(cases)))
            if tuning.defaults and self._is_wanted("defaults"):
                setting = {**fixed, **pairing.defaults}
                cases.append(keyed(replace(base, hyperparameters=setting, role="defaults")))

    def _is_wanted(self, setting: str) -> bool:
        """Test that the command line leaves a setting in, by the name that it has among others."""
        self._seen[setting] = None
        return any(matches(setting, pattern) for pattern in self._wanted)

    def _is_kept(self, pairing: _Pairing, device: str, setting: Hyperparameters) -> bool:
        names = {
            "optimizer": pairing.optimizer,
            "objective": pairing.objective.name,
            "device": device,
        }
        if not all(any(is_named(names[k], p) for p in ps) for k, ps in self._only.items()):
            return False
        include, exclude = self.spec.include, self.spec.exclude
        setting = self._merged[pairing.optimizer].with_numbers(setting)
        if include and not any(applies(match, names, setting) for match in include):
            return False
        return not any(applies(match, names, setting) for match in exclude)

    def _check_setting_filters(self) -> None:
        """Say which patterns match no setting of what is left."""
        for pattern in self._wanted:
            if self._seen and not any(matches(setting, pattern) for setting in self._seen):
                hint = nearest(pattern, filter(None, self._seen))
                text = f"{pattern!r} matches no setting{hint}"
                self._refuse(f"--only setting={pattern}", text)

    def _refuse(self, option: str, text: str) -> None:
        self.problems.append(Problem(option, 0, 0, "", text))

    def _given_values(self) -> Hyperparameters:
        """The hyperparameters that the command line gives."""
        known = {
            name
            for key, optimizer in self.spec.optimizers.items()
            for given in (
                optimizer.hyperparameters,
                optimizer.search,
                self._merged[key].values(),
                *optimizer.per_objective.values(),
            )
            for name in self._merged[key].with_numbers(given)
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
                    given = json.loads(value, parse_constant=_refuse_constant)
                    problem = "is given twice" if name in found else unfit(given)
                    problem = problem or UNFIT.get(name, unfit)(given)
                except (ValueError, RecursionError):
                    problem = (
                        f'{shown(value)} is not JSON: a number, true, null, or text in "quotes"'
                    )
            if problem:
                self._refuse(f"--set {text}", problem)
            else:
                found[name] = given
        return found

    def _filters(self) -> dict[str, list[str]]:
        """The patterns that the command line gives, by what they filter."""
        known: dict[str, Sequence[str]] = {
            "optimizer": list(self.spec.optimizers),
            "objective": list(self.spec.objectives),
            "setting": (),  # known once all cases are
            "device": self._devices,
        }
        only: dict[str, list[str]] = {}
        for text in self.overrides.only:
            key, equals, pattern = text.partition("=")
            if not equals or key not in known:
                expected = (
                    "expected optimizer=, objective=, setting= or device= with a name or pattern"
                )
                self._refuse(f"--only {text}", expected + (nearest(key, known) if equals else ""))
            elif key != "setting" and not any(is_named(name, pattern) for name in known[key]):
                hint = nearest(pattern, known[key])
                self._refuse(f"--only {text}", f"{pattern!r} matches no {key}{hint}")
            else:
                only.setdefault(key, []).append(pattern)
        return only


def _refuse_constant(constant: str) -> Any:
    """JSON knows no infinity, and neither does a case's key."""
    raise ValueError(constant)
