"""A spec held against the suite's code: does everything load, construct and fit together?"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from harness.engine import OptimizerFactory
from harness.plan import Case, Hyperparameters, Plan, PlannedObjective
from harness.problems import nearest
from harness.results import Checked, Finding
from harness.suite import Located, SuiteError, last_line, place_of
from harness.workload import DoesNotFit, Workload, describe, load_objective, prepare


def check(plan: Plan) -> Checked:
    """Load and construct everything a plan names.

    Returns:
        All mistakes, and what the report wants to know of objectives and optimizers.
    """
    findings: list[Finding] = []
    descriptions: dict[str, dict[str, Any]] = {}
    workloads: dict[str, Workload] = {}
    defaults: dict[str, dict[str, Any]] = {}
    for planned in plan.objectives:
        try:
            objective, source = load_objective(planned)
            workloads[planned.name] = workload = prepare(planned, objective, "cpu")
            descriptions[planned.name] = dataclasses.asdict(describe(workload, source))
        except DoesNotFit as error:
            findings.append(_objective_finding(plan, planned, error.key, str(error)))
    refused: set[str] = set()
    for case in plan.cases:
        if case.optimizer in refused:
            continue
        try:
            factory = load_optimizer(case.located)
        except SuiteError as error:
            findings.append(Finding(("optimizers", case.optimizer, "class"), str(error)))
            refused.add(case.optimizer)
            continue
        found = list(_arguments(plan, case, factory))
        if not found and case.objective.name in workloads:
            tensors = _tensors(workloads[case.objective.name])
            found = list(_construction(plan, case, factory, tensors, defaults))
        findings += found
    missing = {device: why for device in _devices(plan) if (why := unavailable(device))}
    return Checked(tuple(dict.fromkeys(findings)), descriptions, defaults, missing)


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
    return dict.fromkeys(case.device for case in plan.cases)


def _objective_finding(plan: Plan, planned: PlannedObjective, key: str, message: str) -> Finding:
    given = plan.spec.objectives[planned.name].model_fields_set
    if key in given or f"{key}_" in given:
        return Finding(("objectives", planned.name, key), message)
    return Finding(("objectives", planned.name), message, at_key=True)


def _tensors(workload: Workload) -> list[torch.Tensor]:
    """Fresh parameters to construct an optimizer for; any will do where ``init`` is faulty."""
    try:
        return [value.clone().requires_grad_() for value in workload.start(0).values()]
    except Exception:
        return [torch.zeros(2, 2, requires_grad=True)]


def _arguments(plan: Plan, case: Case, factory: OptimizerFactory) -> Iterator[Finding]:
    """Arguments that the constructor doesn't have, or that it needs and doesn't get."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return
    named = {
        p.name: p for p in parameters[1:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in case.hyperparameters:
            if name not in named:
                yield Finding(
                    _path(plan, case, name),
                    f"{case.located.attribute} takes no argument {name!r}{nearest(name, named)}",
                    at_key=True,
                )
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in case.hyperparameters:
            yield Finding(
                ("optimizers", case.optimizer),
                f"{case.located.attribute} needs {name!r}, which is not given for "
                f"objective {case.objective.name!r}",
                at_key=True,
            )


def _construction(
    plan: Plan,
    case: Case,
    factory: OptimizerFactory,
    tensors: list[torch.Tensor],
    defaults: dict[str, dict[str, Any]],
) -> Iterator[Finding]:
    """Whether the constructor takes the values."""
    try:
        optimizer = factory(tensors, **case.hyperparameters)
    except Exception as error:
        name = _blamed(factory, tensors, case.hyperparameters, error)
        place = place_of(error, case.located.folder) if case.located.file else ""
        text = f"{case.located.attribute} refuses this: {last_line(error)}{place}"
        if name and not isinstance(case.hyperparameters[name], list):
            text += _list_hint(plan, case, name)
        path = _path(plan, case, name) if name else ("optimizers", case.optimizer)
        yield Finding(path, text, at_key=not name)
        return
    if not callable(getattr(optimizer, "step", None)):
        yield Finding(
            ("optimizers", case.optimizer, "class"),
            f"gives a {type(optimizer).__name__}, expected a torch.optim.Optimizer",
        )
        return
    known = getattr(optimizer, "defaults", {})
    plain = {k: v for k, v in known.items() if isinstance(v, bool | int | float | str | None)}
    plain |= {k: list(v) for k, v in known.items() if isinstance(v, tuple | list)}
    defaults[case.key] = {**plain, **case.hyperparameters}


def _blamed(
    factory: OptimizerFactory,
    tensors: list[torch.Tensor],
    setting: Hyperparameters,
    error: Exception,
) -> str:
    """The hyperparameter that a constructor refuses, or an empty string."""
    for name in setting:
        rest = {k: v for k, v in setting.items() if k != name}
        try:
            factory(tensors, **rest)
        except Exception:
            continue
        return name
    text = str(error).lower()
    said = [n for n in setting if re.search(rf"\b{re.escape(n.lower())}\b", text)]
    said += ["lr"] if "learning rate" in text and "lr" in setting else []
    return said[0] if said else next(iter(setting)) if len(setting) == 1 else ""


def _list_hint(plan: Plan, case: Case, name: str) -> str:
    optimizer = plan.spec.optimizers[case.optimizer]
    own = optimizer.per_objective.get(case.objective.name, {})
    value = own.get(name, optimizer.hyperparameters.get(name))
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return f"; a list is a grid: for one value that is a list write [{value}]"
    return ""


def _path(plan: Plan, case: Case, name: str) -> tuple[str | int, ...]:
    """Where the spec gives a hyperparameter of a case."""
    optimizer = plan.spec.optimizers[case.optimizer]
    base: tuple[str | int, ...] = ("optimizers", case.optimizer, "hyperparameters", name)
    value = optimizer.hyperparameters.get(name)
    own = optimizer.per_objective.get(case.objective.name, {})
    if name in own:
        base = ("optimizers", case.optimizer, "per_objective", case.objective.name, name)
        value = own[name]
    wanted = case.hyperparameters.get(name)
    if isinstance(value, list) and wanted in value:
        return (*base, value.index(wanted))
    return base
