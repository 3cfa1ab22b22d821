"""A spec held against the suite's code: does everything load, construct and fit together?"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import torch

from harness.engine.isolation import class_state
from harness.engine.training_loop import OptimizerFactory
from harness.engine.workload import (
    RECORDS_PER_EPOCH,
    DoesNotFit,
    Workload,
    describe,
    load_objective,
    prepare,
    steps_in_epoch,
)
from harness.errors import join, nearest
from harness.objectives.base import Objective
from harness.plan.model import Case, Hyperparameters, Plan, PlannedObjective, named_by, shown
from harness.results import Absent, Checked, Description, Finding
from harness.spec.fields import meant, mistaken_word
from harness.spec.fields import shown as shown_value
from harness.suite.locate import Located, SuiteError, last_line, place_of

RECORD_LIMIT = 1_000_000
"""Losses that a trial may record."""


def check(
    plan: Plan,
    deadly: Collection[str] = (),
    on_objective: Callable[[int], None] | None = None,
) -> Checked:
    """Load and construct everything a plan names.

    Args:
        plan: What to load.
        deadly: Objectives whose ``init`` and ``loss`` are not to be run: that has ended a process.
        on_objective: Called with the number, from 1, of each objective before it is run.

    Returns:
        All mistakes, and what the report wants to know of objectives and optimizers.
    """
    findings: list[Finding] = []
    descriptions: dict[str, Description] = {}
    workloads: dict[str, Workload] = {}
    defaults: dict[str, dict[str, Any]] = {}
    for number, planned in enumerate(plan.objectives, 1):
        if planned.is_partial:
            continue
        if on_objective is not None:
            on_objective(number)
        run_it = planned.name not in deadly
        found, workload, description = objective_findings(plan, planned, run_it=run_it)
        if workload is not None and run_it:
            workloads[planned.name] = workload
        if description is not None:
            descriptions[planned.name] = description
        findings += found
    if on_objective is not None:
        on_objective(0)  # what goes wrong from here on is no objective's doing
    refused: set[str] = set()
    tensors: dict[str, list[torch.Tensor]] = {}
    without_default: dict[str, str] = {}
    sweeps = plan.spec.tuning is not None and plan.spec.tuning.sweep > 0
    corners = [case for search in plan.searches if sweeps for case in search.corners()]
    said: set[tuple[str | int, ...]] = set()
    blameless: dict[str, str] = {}
    for case in (*plan.everything, *corners):
        if case.optimizer in refused:
            continue
        try:
            factory = load_optimizer(case.located)
        except SuiteError as error:
            findings.append(Finding(("optimizers", case.optimizer, "class"), str(error)))
            refused.add(case.optimizer)
            continue
        if case.role == "defaults" and (why := _lacks_default(plan, case, factory)):
            without_default[case.key] = why
            continue
        found = list(_arguments(plan, case, factory))
        if not case.is_partial and not found:
            name = case.objective.name
            if name not in tensors:
                tensors[name] = _tensors(workloads.get(name))
            found = list(_construction(plan, case, factory, tensors[name], defaults))
            # Where no value is to blame it says the same, in other numbers, of each objective.
            if any(finding.path == ("optimizers", case.optimizer) for finding in found):
                found = found if blameless.setdefault(case.optimizer, name) == name else []
        if case.role == "tuning":  # of one range, many values may be refused
            found = [finding for finding in found if finding.path not in said]
            said |= {finding.path for finding in found}
        findings += found
    missing = {device: why for device in _devices(plan) if (why := unavailable(device))}
    absent = Absent(missing, without_default)
    notes = dict.fromkeys(located.note for located in named_by(plan.everything))
    return Checked(
        *(tuple(dict.fromkeys(findings)), descriptions, defaults, absent),
        notes=tuple(filter(None, notes)),
    )


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
        _check_records(planned, objective)
        workload = prepare(planned, objective, "cpu")
        return [], workload, describe(workload, source, run_it=run_it)
    except DoesNotFit as error:
        return [_objective_finding(plan, planned, error.key, str(error))], None, None
    except BaseException as error:  # sys.exit() as well: this is the suite's code
        place = place_of(error, planned.located.folder) if planned.located.file else ""
        text = f"can't be used: {last_line(error)}{place}"
        return [_objective_finding(plan, planned, "class", text)], None, None


def optimizer_findings(plan: Plan, case: Case) -> tuple[list[Finding], OptimizerFactory | None]:
    """Load a case's optimizer and construct it: mistakes; where there are none, its class."""
    try:
        factory = load_optimizer(case.located)
    except SuiteError as error:
        return [Finding(("optimizers", case.optimizer, "class"), str(error))], None
    found = list(_arguments(plan, case, factory))
    if not found:
        found = list(_construction(plan, case, factory, _tensors(None), {}))
    return found, None if found else factory


def load_optimizer(located: Located) -> OptimizerFactory:
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


def unavailable(device: str) -> str:
    """Why a device can't be used here; empty if it can."""
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


def _devices(plan: Plan) -> Iterable[str]:
    return dict.fromkeys(case.device for case in plan.everything)


def _objective_finding(plan: Plan, planned: PlannedObjective, key: str, message: str) -> Finding:
    given = plan.spec.objectives[planned.name].model_fields_set
    if key == "arguments" and planned.arguments:
        said = [n for n in planned.arguments if _says(message, n)]
        return Finding(("objectives", planned.name, key, *said[:1]), message)
    if key in given or f"{key}_" in given:
        return Finding(("objectives", planned.name, key), message)
    return Finding(("objectives", planned.name), message, at_key=True)


def _tensors(workload: Workload | None) -> list[torch.Tensor]:
    """Fresh parameters to construct an optimizer for; any will do where ``init`` is faulty."""
    if workload is not None:
        with contextlib.suppress(BaseException):
            return [value.clone().requires_grad_() for value in workload.start(0).values()]
    return [torch.zeros(2, 2, requires_grad=True)]


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


def _check_records(planned: PlannedObjective, objective: Objective) -> None:
    """Whether the losses of a trial can be kept."""
    per_epoch = 1
    if objective.data is not None:
        rows = len(objective.data[0])
        size = min(planned.batch_size or rows, rows)
        per_epoch = steps_in_epoch(rows, size, drop_last=planned.drop_last)
    steps = planned.steps or (planned.epochs or 1) * per_epoch
    every = planned.record_every or max(1, per_epoch // RECORDS_PER_EPOCH)
    if steps // every > RECORD_LIMIT:
        key = "record_every" if planned.record_every else "steps" if planned.steps else "epochs"
        raise DoesNotFit(
            key,
            f"{steps:,} steps with a loss recorded every {every:,} are {steps // every:,} losses "
            f"per trial, the limit is {RECORD_LIMIT:,}; record less often (record_every)",
        )


def _objective_arguments(planned: PlannedObjective) -> Iterator[Finding]:
    """Arguments that an objective's constructor doesn't have, or that it needs."""
    try:
        factory = planned.located.load()
    except SuiteError:
        return
    if inspect.isclass(factory) and not issubclass(factory, Objective):
        text = f"{planned.located.reference!r} is not a harness.Objective"
        yield Finding(("objectives", planned.name, "class"), text)
        return
    parameters = _parameters(factory)
    if parameters is None:
        return
    name = planned.located.attribute
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    dataset = named.pop("dataset", None)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for argument in planned.arguments:
            if argument not in named:
                yield Finding(
                    ("objectives", planned.name, "arguments", argument),
                    f"{name} takes no argument {argument!r}{nearest(argument, named)}",
                    at_key=True,
                )
        if planned.dataset is not None and dataset is None:
            text = f"{name} takes no dataset"
            yield Finding(("objectives", planned.name, "dataset"), text, at_key=True)
    for argument in named.keys() & planned.arguments.keys():
        if text := _mistaken(planned.arguments[argument], named[argument]):
            yield Finding(("objectives", planned.name, "arguments", argument), text)
    needed = {n for n, p in named.items() if p.default is p.empty} - planned.arguments.keys()
    if dataset is not None and dataset.default is dataset.empty and planned.dataset is None:
        needed.add("dataset")
    for argument in sorted(needed):
        text = f"{name} needs {argument!r}, which is not given"
        yield Finding(("objectives", planned.name), text, at_key=True)


def _mistaken(value: Any, parameter: inspect.Parameter) -> str:
    """Why a word can't be meant for an argument: ``no`` is none of Python's or YAML's values."""
    if "str" in re.findall(r"\w+", str(parameter.annotation)) and isinstance(value, str):
        return ""  # words are what it takes
    is_known = parameter.default is not parameter.empty
    return mistaken_word(value, parameter.default, is_known=is_known)


def _parameters(factory: Any) -> list[inspect.Parameter] | None:
    """What can be given to a class or function; None where that can't be told."""
    try:
        return list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return None


def _lacks_default(plan: Plan, case: Case, factory: OptimizerFactory) -> str:
    """Why there is no case at the constructor's defaults; empty if there is."""
    needed = [
        p.name
        for p in (_parameters(factory) or [])[1:]
        if p.default is p.empty and p.name in plan.spec.optimizers[case.optimizer].search
    ]
    names = join([repr(name) for name in needed if name not in case.hyperparameters])
    return f"{case.located.attribute} has no default for {names}" if names else ""


def _arguments(plan: Plan, case: Case, factory: OptimizerFactory) -> Iterator[Finding]:
    """Arguments that the constructor doesn't have, or that it needs and doesn't get."""
    parameters = _parameters(factory)
    if parameters is None:
        return
    named = {
        p.name: p for p in parameters[1:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    given = case.hyperparameters.keys()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in sorted(given - named.keys()):
            yield Finding(
                _key(plan, case, name),
                f"{case.located.attribute} takes no argument {name!r}{nearest(name, named)}",
                at_key=True,
            )
    if case.is_partial:
        return
    for name in sorted(given & named.keys()):
        if text := _mistaken(case.hyperparameters[name], named[name]):
            yield Finding(_path(plan, case, name), text)
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in given:
            text = f"{case.located.attribute} needs {name!r}, which is not given"
            others = plan.spec.optimizers[case.optimizer].per_objective.values()
            if any(name in values for values in others):
                text += f" for objective {case.objective.name!r}"
            yield Finding(("optimizers", case.optimizer), text, at_key=True)


def _construction(
    plan: Plan,
    case: Case,
    factory: OptimizerFactory,
    tensors: list[torch.Tensor],
    defaults: dict[str, dict[str, Any]],
) -> Iterator[Finding]:
    """Whether the constructor takes the values."""
    optimizer, error = _try(factory, tensors, case.hyperparameters)
    if error is not None:
        yield from _refusals(plan, case, factory, tensors, error)
        return
    mistaken = list(_mistaken_words(plan, case, factory, tensors))
    if mistaken:
        yield from mistaken
        return
    if not callable(getattr(optimizer, "step", None)):
        yield Finding(
            ("optimizers", case.optimizer, "class"),
            f"gives a {type(optimizer).__name__}, expected a torch.optim.Optimizer",
        )
        return
    known = getattr(optimizer, "defaults", None)
    plain = {k: _plain(v) for k, v in known.items()} if isinstance(known, dict) else {}
    plain = {k: v for k, v in plain.items() if v is not NotImplemented}
    if case.key:
        defaults[case.key] = {**plain, **case.hyperparameters}


def _mistaken_words(
    plan: Plan, case: Case, factory: OptimizerFactory, tensors: list[torch.Tensor]
) -> Iterator[Finding]:
    """Words for what a constructor passes on as ``**settings``, whose defaults it has hidden."""
    named = {p.name for p in _parameters(factory) or []}
    for name, value in case.hyperparameters.items():
        if name in named or not isinstance(value, str | list):
            continue
        others = {k: v for k, v in case.hyperparameters.items() if k != name}
        defaults = getattr(_try(factory, tensors, others)[0], "defaults", {})
        known = isinstance(defaults, dict) and name in defaults
        if known and (text := mistaken_word(value, defaults[name])):
            yield Finding(_path(plan, case, name), text)


def _try(
    factory: OptimizerFactory, tensors: list[torch.Tensor], setting: Hyperparameters
) -> tuple[Any, BaseException | None]:
    """Construct an optimizer: it, or what was raised."""
    try:
        return factory(tensors, **setting), None
    except BaseException as error:  # sys.exit() as well: this may be the suite's code
        return None, error


def _plain(value: Any) -> Any:
    """A default as plain data; NotImplemented where it is more than that."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, tuple | list):
        items = [_plain(item) for item in value]
        return NotImplemented if any(item is NotImplemented for item in items) else items
    return NotImplemented


def _refusals(
    plan: Plan,
    case: Case,
    factory: OptimizerFactory,
    tensors: list[torch.Tensor],
    error: BaseException | None,
) -> Iterator[Finding]:
    """Every value that a constructor refuses: one, then what it says without that one."""
    setting, blamed = case.hyperparameters, set[str]()
    while error is not None:
        text = f"{case.located.attribute} refuses this: {last_line(error)}"
        if case.located.file:
            text += place_of(error, case.located.folder)
        setting_before = setting
        name, setting = _blamed(factory, tensors, setting, error)
        if name in blamed or (blamed and not name):
            return
        if not name:
            yield Finding(("optimizers", case.optimizer), text, at_key=True)
            return
        if isinstance(value := setting_before[name], str):
            likely = meant(value)
            text += f"; {shown_value(value)} is a word"
            text += "" if isinstance(likely, str) else f", write {json.dumps(likely)}"
        whole = _given(plan, case, name)
        if isinstance(whole, list) and _try(factory, tensors, {**setting, name: whole})[1] is None:
            items = ", ".join(shown(item) for item in whole)
            text += f"; a list is a grid: for one value that is a list write [[{items}]]"
        yield Finding(_path(plan, case, name), text)
        blamed.add(name)
        error = _try(factory, tensors, setting)[1]


def _says(message: str, name: str) -> bool:
    """Whether a message names an argument."""
    return re.search(rf"\b{re.escape(name)}\b", message, re.IGNORECASE) is not None


_STAND_INS: tuple[Any, ...] = (0.1, 0.9, 1, 2, True, [0.9, 0.99], None)
"""Values to put in place of one that may be refused, where there is no default."""


def _blamed(
    factory: OptimizerFactory,
    tensors: list[torch.Tensor],
    setting: Hyperparameters,
    error: BaseException,
) -> tuple[str, Hyperparameters]:
    """The hyperparameter that a constructor refuses, and a setting without that mistake.

    Without it, or with another value in its place, the constructor says nothing, or something
    else. The name is empty where there is none such.
    """
    said = str(error)
    named = [n for n in setting if _says(said, n)]
    named += ["lr"] if "learning rate" in said.lower() and "lr" in setting else []
    names = list(dict.fromkeys([*named, *setting]))
    for name in names:
        others = {k: v for k, v in setting.items() if k != name}
        other = _try(factory, tensors, others)[1]
        if other is None or (str(other) != said and "missing" not in str(other)):
            return name, others
    for name, value in itertools.product(names, _STAND_INS):
        others = {**setting, name: value}
        other = _try(factory, tensors, others)[1]
        if other is None or (name in named and name not in str(other)):
            return name, others
    return "", setting


def _key(plan: Plan, case: Case, name: str) -> tuple[str, ...]:
    """Where the spec names a hyperparameter of a case."""
    optimizer = plan.spec.optimizers[case.optimizer]
    if name in optimizer.per_objective.get(case.objective.name, {}):
        return ("optimizers", case.optimizer, "per_objective", case.objective.name, name)
    if name in optimizer.search:
        return ("optimizers", case.optimizer, "search", name)
    return ("optimizers", case.optimizer, "hyperparameters", name)


def _path(plan: Plan, case: Case, name: str) -> tuple[str | int, ...]:
    """Where the spec gives the value of a hyperparameter of a case."""
    value, wanted = _given(plan, case, name), case.hyperparameters[name]
    if isinstance(value, list):
        index = next((i for i, v in enumerate(value) if v is wanted or v == wanted), None)
        return _key(plan, case, name) if index is None else (*_key(plan, case, name), index)
    space = plan.spec.optimizers[case.optimizer].search.get(name)
    if space is not None and space.choice is not None and wanted in space.choice:
        return (*_key(plan, case, name), "choice", space.choice.index(wanted))
    return _key(plan, case, name)


def _given(plan: Plan, case: Case, name: str) -> Any:
    """A hyperparameter as the spec gives it: a value, or a list of them."""
    optimizer = plan.spec.optimizers[case.optimizer]
    own = optimizer.per_objective.get(case.objective.name, {})
    return own.get(name, optimizer.hyperparameters.get(name))
