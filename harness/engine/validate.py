"""A plan held against the suite's code: does everything load, construct and fit together?"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

import torch

from harness.engine.constructors import Constructor, mistaken
from harness.engine.group_findings import group_findings
from harness.engine.isolation import class_state
from harness.engine.loading import load_objective
from harness.engine.optimizer_arguments import OptimizerArguments, Sample, says
from harness.engine.recipe_factory import OptimizerFactory, RecipeFactory, recipe_of
from harness.engine.schedules import LoadedStage
from harness.engine.spec_places import SpecPlaces
from harness.engine.validate_measures import measure_findings
from harness.engine.workload import (
    DoesNotFit,
    Workload,
    describe,
    prepare,
)
from harness.errors import nearest
from harness.objectives.base import Objective
from harness.plan.model import Case, Plan, PlannedObjective, named_by
from harness.plan.recipe import Stage
from harness.results import CheckedSuite, Description, Finding, Unavailable
from harness.spec.recipe_values import is_of_recipe
from harness.suite.locate import ImportTarget, SuiteError, last_line, place_of

T = TypeVar("T")
U = TypeVar("U")

RECORD_LIMIT = 1_000_000
"""Losses that a trial may record."""


def validate_plan(
    plan: Plan,
    deadly: Collection[str] = (),
    on_objective: Callable[[int], None] = lambda _: None,
) -> CheckedSuite:
    """Load and construct everything a plan names.

    Args:
        plan: What to load.
        deadly: Objectives whose ``init`` and ``loss`` are not to be run: that has ended a process.
        on_objective: Called with the number, from 1, of each objective before it is run.

    Returns:
        All mistakes, and what the report wants to know of objectives and optimizers.
    """
    validator = _PlanValidator(plan)
    for number, planned in enumerate(plan.objectives, 1):
        if not planned.is_partial:
            on_objective(number)
            validator.validate_objective(planned, run_it=planned.name not in deadly)
    on_objective(0)  # what goes wrong from here on is no objective's doing
    sweeps = plan.spec.tuning is not None and plan.spec.tuning.sweep > 0
    corners = [case for search in plan.searches if sweeps for case in search.corners()]
    for case in (*plan.everything, *corners):
        validator.validate_case(case)
    validator.validate_groups()
    devices = dict.fromkeys(case.device for case in plan.everything)
    missing = {device: why for device in devices if (why := unavailable(device))}
    notes = dict.fromkeys(located.note for located in named_by(plan.everything))
    return CheckedSuite(
        findings=tuple(dict.fromkeys(validator.findings)),
        descriptions=validator.descriptions,
        defaults=validator.defaults,
        absent=Unavailable(missing, validator.without_default),
        notes=(*filter(None, notes), *validator.notes),
    )


class _PlanValidator:
    """Collects what is found of objectives and cases."""

    def __init__(self, plan: Plan) -> None:
        self.findings: list[Finding] = []
        self.descriptions: dict[str, Description] = {}
        self.defaults: dict[str, dict[str, Any]] = {}
        self.without_default: dict[str, str] = {}
        self.notes: dict[str, None] = {}
        self._plan = plan
        self._workloads: dict[str, Workload] = {}
        self._samples: dict[str, Sample] = {}
        self._not_loaded: set[str] = set()
        self._tuning_paths: set[tuple[str | int, ...]] = set()
        self._refused_on: dict[str, str] = {}
        self._fine: dict[tuple[str, ...], dict[str, Any]] = {}

    def validate_objective(self, planned: PlannedObjective, *, run_it: bool) -> None:
        """Load and construct an objective."""
        found, workload, description = objective_findings(self._plan, planned, run_it=run_it)
        if workload is not None and run_it:
            self._workloads[planned.name] = workload
        if description is not None:
            self.descriptions[planned.name] = description
        self.findings += found

    def validate_case(self, case: Case) -> None:
        """Load and construct a case's optimizer.

        A setting that tuning tries is constructed once for objectives whose parameters are alike,
        for there are a hundred thousand of these where many optimizers are tuned on many.
        """
        if case.role != "tuning" or not case.key:
            self._construct(case)
            return
        sample = self._sample(case.objective.name)
        alike = (
            case.optimizer,
            json.dumps(case.hyperparameters, sort_keys=True),
            str([(name, tensor.shape, tensor.dtype) for name, tensor in sample.tensors.items()]),
            str((sample.steps, sample.is_known)),
        )
        if alike in self._fine:
            self.defaults[case.key] = self._fine[alike]
            return
        known = len(self.findings)
        self._construct(case)
        if len(self.findings) == known and case.key in self.defaults:
            self._fine[alike] = self.defaults[case.key]

    def _sample(self, objective: str) -> Sample:
        if objective not in self._samples:
            self._samples[objective] = _sample(self._workloads.get(objective))
        return self._samples[objective]

    def _construct(self, case: Case) -> None:
        if case.optimizer in self._not_loaded:
            return
        try:
            factory = load_case(case)
        except SuiteError as error:
            self.findings.append(_not_loaded(self._plan, case, error))
            self._not_loaded.add(case.optimizer)
            return
        if looks := recipe_of(factory).looks_at_loss:
            text = f"{case.optimizer}: its trials run one at a time, as {looks} looks at a loss"
            self.notes[text] = None
        arguments = OptimizerArguments(self._plan, case, factory)
        if case.role == "defaults" and (why := arguments.without_default()):
            self.without_default[case.key] = why
            return
        found = list(arguments.names())
        if not case.is_partial and not found:
            name = case.objective.name
            found = list(arguments.values(self._sample(name), self.defaults))
            # Where no value is to blame it says the same, in other numbers, of each objective.
            if any(finding.path == ("optimizers", case.optimizer) for finding in found):
                found = found if self._refused_on.setdefault(case.optimizer, name) == name else []
        if case.role == "tuning":  # of one range, many values may be refused
            found = [finding for finding in found if finding.path not in self._tuning_paths]
            self._tuning_paths |= {finding.path for finding in found}
        self.findings += found

    def validate_groups(self) -> None:
        """Hold the parameter groups of all optimizers against the objectives."""
        shapes = {
            name: {key: tuple(tensor.shape) for key, tensor in sample.tensors.items()}
            for name, sample in self._samples.items()
            if sample.is_known
        }
        self.findings += group_findings(self._plan, shapes)


def objective_findings(
    plan: Plan, planned: PlannedObjective, *, run_it: bool
) -> tuple[list[Finding], Workload | None, Description | None]:
    """Load and construct an objective: mistakes; where there are none, what it became.

    Args:
        plan: Whose objective it is.
        planned: What to load.
        run_it: Whether its ``init`` and ``loss`` may be run.
    """
    found = list(_objective_arguments(planned))
    if found:
        return found, None, None
    try:
        objective, source = load_objective(planned)
        _check_data(objective)
        workload = prepare(planned, objective, "cpu")
        wrong = _wrong_records(planned, workload)
        found = [_objective_finding(plan, planned, key, text) for key, text in wrong]
        found += measure_findings(plan.spec, planned.name, workload, run_it=run_it)
        if found:
            return found, None, None
        return [], workload, describe(workload, source, run_it=run_it)
    except DoesNotFit as error:
        return [_objective_finding(plan, planned, error.key, str(error))], None, None
    except BaseException as error:  # sys.exit() as well: this is the suite's code
        place = place_of(error, planned.located.folder) if planned.located.file else ""
        text = f"can't be used: {last_line(error)}{place}"
        return [_objective_finding(plan, planned, "class", text)], None, None


def optimizer_findings(plan: Plan, case: Case) -> tuple[list[Finding], OptimizerFactory | None]:
    """Load a case's optimizer and construct it: mistakes; where there are none, its class.

    It is the class alone, or with the optimizer that it wraps.
    """
    try:
        factory = load_case(case)
    except SuiteError as error:
        return [_not_loaded(plan, case, error)], None
    arguments = OptimizerArguments(plan, case, factory)
    found = list(arguments.names()) or list(arguments.values(Sample.stand_in(), {}))
    recipe = recipe_of(factory)
    bare = recipe.kind if recipe.base_kind is None and not recipe.recipe.named else factory
    return found, None if found else bare


def _not_loaded(plan: Plan, case: Case, error: SuiteError) -> Finding:
    if isinstance(error, _PartError):
        places, section = SpecPlaces(plan, case), error.section
        named = section in case.hyperparameters
        path = places.path(section) if named else (*places.section(section), "class")
        return Finding(path, str(error))
    return Finding(("optimizers", case.optimizer, "class"), str(error))


def load_optimizer(located: ImportTarget) -> OptimizerFactory:
    """Load an optimizer's class.

    Raises:
        SuiteError: If it can't be imported or can't be called.
    """
    factory = located.load()
    if not callable(factory):
        raise SuiteError(f"{located.reference!r} is not a class")
    if inspect.isclass(factory) and not callable(getattr(factory, "step", None)):
        raise SuiteError(
            f"{located.reference!r} has no method 'step', expected a torch.optim.Optimizer"
        )
    class_state(factory)  # before anything changes it
    return factory  # type: ignore[no-any-return]


def load_case(case: Case) -> OptimizerFactory:
    """Load a case's optimizer, with its recipe if it has one.

    Raises:
        SuiteError: If something that it names can't be imported or can't be called.
    """
    kind, recipe = load_optimizer(case.located), case.recipe
    if recipe.is_empty and not any(map(is_of_recipe, case.hyperparameters)):
        return kind
    groups = [
        _of(f"groups.{g.label}", load_optimizer, g.located) if g.located else None
        for g in recipe.groups
    ]
    base = _of("base", load_optimizer, recipe.base.located) if recipe.base else None
    stages = [_of(f"schedule.{i}", _load_stage, stage) for i, stage in enumerate(recipe.stages)]
    objects = {
        name: _of(_argument_with(case, name), ImportTarget.load, located)
        for name, located in recipe.objects.items()
    }
    return RecipeFactory(kind, recipe, tuple(groups), base, tuple(stages), objects)


def _argument_with(case: Case, value: str) -> str:
    """The hyperparameter that has a value."""
    return next((name for name, own in case.hyperparameters.items() if own == value), "schedule")


class _PartError(SuiteError):
    """A part of a recipe can't be loaded, or what a hyperparameter names."""

    def __init__(self, section: str, message: str) -> None:
        self.section = section
        super().__init__(message)


def _of(section: str, load: Callable[[T], U], located: T) -> U:
    """Load something for a section of a recipe.

    Raises:
        _PartError: If that fails.
    """
    try:
        return load(located)
    except SuiteError as error:
        raise _PartError(section, str(error)) from error


def _load_stage(stage: Stage) -> LoadedStage:
    kind = stage.located.load()
    if not callable(getattr(kind, "step", None)):
        text = f"{stage.located.reference!r} has no method 'step', expected a scheduler"
        raise SuiteError(text)
    class_state(kind)  # before anything changes it
    if stage.inner is None:
        return LoadedStage(kind)
    return LoadedStage(kind, tuple(map(_load_stage, stage.inner)))


def unavailable(device: str) -> str:
    """Say why a device can't be used here; empty if it can."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return ""
    backend = getattr(torch, "mps" if kind == "mps" else kind, None)
    if kind == "mps":
        there, count = torch.backends.mps.is_available(), 1
    else:
        there = bool(backend and backend.is_available())
        count = backend.device_count() if there and backend else 0
    if not there:
        return f"torch {torch.__version__} finds no {kind} device on this machine"
    if index and int(index) >= count:
        return f"this machine has {count} {kind} device{'s' * (count != 1)}, numbered from 0"
    return ""


def _objective_finding(plan: Plan, planned: PlannedObjective, key: str, message: str) -> Finding:
    given = plan.spec.objectives[planned.name].model_fields_set
    if key == "arguments" and planned.arguments:
        named = [n for n in planned.arguments if says(message, n)]
        return Finding(("objectives", planned.name, key, *named[:1]), message)
    if key in given or f"{key}_" in given:
        return Finding(("objectives", planned.name, key), message)
    return Finding(("objectives", planned.name), message, at_key=True)


def _sample(workload: Workload | None) -> Sample:
    """Fresh parameters to construct an optimizer for; any will do where ``init`` is faulty."""
    if workload is None:
        return Sample.stand_in()
    with contextlib.suppress(BaseException):
        tensors = {k: v.clone().requires_grad_() for k, v in workload.start(0).items()}
        return Sample(tensors, workload.steps)
    return Sample.stand_in(workload.steps)


def _check_data(objective: Objective) -> None:
    data = objective.data
    if data is None:
        return
    tensors = (
        isinstance(data, tuple | list)
        and data
        and all(isinstance(tensor, torch.Tensor) and tensor.ndim and len(tensor) for tensor in data)
    )
    if not tensors:
        raise DoesNotFit("class", "its data must be a tuple of tensors with at least one row")


def _wrong_records(planned: PlannedObjective, workload: Workload) -> Iterator[tuple[str, str]]:
    """Records that are more than can be kept, or come after the end: the key, and what is wrong."""
    steps, records = workload.steps, len(workload.record_steps) - 1
    every = workload.steps_per_epoch if planned.record_every == "epoch" else planned.record_every
    if isinstance(every, int) and every > steps:
        yield "record_every", f"{every:,} steps are longer than a trial, which has {steps:,}"
    elif records * len(workload.measures) > RECORD_LIMIT:
        key = "record_every" if planned.record_every else "steps" if planned.steps else "epochs"
        yield (
            key,
            f"{steps:,} steps with a loss recorded every {workload.record_steps[1]:,} are "
            f"{records:,} losses per trial, the limit is {RECORD_LIMIT:,}; record less often "
            "(record_every)",
        )


def _objective_arguments(planned: PlannedObjective) -> Iterator[Finding]:
    """Arguments that an objective's constructor doesn't have, or that it needs."""
    try:
        factory = planned.located.load()
    except SuiteError:
        return
    path, name = ("objectives", planned.name), planned.located.attribute
    if inspect.isclass(factory) and not issubclass(factory, Objective):
        text = f"{planned.located.reference!r} is not a harness.Objective"
        yield Finding((*path, "class"), text)
        return
    constructor = Constructor.of(factory)
    if not constructor.is_known:
        return
    named = constructor.named
    if not constructor.takes_any:
        known = named.keys() - {"dataset"}
        for argument in (a for a in planned.arguments if a not in known):
            text = f"{name} takes no argument {argument!r}{nearest(argument, known)}"
            yield Finding((*path, "arguments", argument), text, at_key=True)
        if planned.dataset is not None and "dataset" not in named:
            yield Finding((*path, "dataset"), f"{name} takes no dataset", at_key=True)
    yield from _objective_values(planned, constructor)


def _objective_values(planned: PlannedObjective, constructor: Constructor) -> Iterator[Finding]:
    """Arguments that are words for something else, or are missing."""
    path, name, named = ("objectives", planned.name), planned.located.attribute, constructor.named
    given = planned.arguments.keys() - {"dataset"}
    for argument in named.keys() & given:
        if text := mistaken(planned.arguments[argument], named[argument]):
            yield Finding((*path, "arguments", argument), text)
    if planned.dataset is not None:
        given |= {"dataset"}
    for argument in sorted(constructor.needed):
        if argument not in given:
            text = f"{name} needs {argument!r}, which is not given"
            yield Finding(path, text, at_key=True)
