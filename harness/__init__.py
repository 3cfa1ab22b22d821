"""A declarative harness that compares optimizers.

The names in ``__all__`` are what the harness promises; everything else may change. None of them
is loaded before it is used, so that ``import harness`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import (
        check,
        compare,
        history,
        init,
        load_optimizer,
        names,
        preview,
        read,
        report,
        run,
        schema,
        test_suite,
        validate,
        write_baseline,
    )
    from harness.commands.preview import Preview, Validation
    from harness.conformance.records import PartReport
    from harness.errors import BadInput
    from harness.gate.history import History
    from harness.objectives.base import Batch, Objective, Parameters, Window
    from harness.objectives.dataset import Dataset
    from harness.objectives.module import ModuleObjective
    from harness.reporting.figure import Figure
    from harness.reporting.objects import Check, Comparison, Report, Run
    from harness.reporting.tables.model import Table
    from harness.suite.listing import Names
    from harness.workers.executor import WorkerFailed

__version__ = "0.1.0"

_CLASSES = {
    "BadInput": "errors",
    "Batch": "objectives.base",
    "Check": "reporting.objects",
    "Comparison": "reporting.objects",
    "Dataset": "objectives.dataset",
    "Figure": "reporting.figure",
    "History": "gate.history",
    "ModuleObjective": "objectives.module",
    "Names": "suite.listing",
    "Objective": "objectives.base",
    "Parameters": "objectives.base",
    "PartReport": "conformance.records",
    "Preview": "commands.preview",
    "Report": "reporting.objects",
    "Run": "reporting.objects",
    "Table": "reporting.tables.model",
    "Validation": "commands.preview",
    "Window": "objectives.base",
    "WorkerFailed": "workers.executor",
}
"""Public names that are not functions of :mod:`harness.api`, with their modules."""

__all__ = [
    "BadInput",
    "Batch",
    "Check",
    "Comparison",
    "Dataset",
    "Figure",
    "History",
    "ModuleObjective",
    "Names",
    "Objective",
    "Parameters",
    "PartReport",
    "Preview",
    "Report",
    "Run",
    "Table",
    "Validation",
    "Window",
    "WorkerFailed",
    "check",
    "compare",
    "diagnose",
    "history",
    "init",
    "load_optimizer",
    "names",
    "preview",
    "read",
    "report",
    "run",
    "schema",
    "test_suite",
    "validate",
    "write_baseline",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"harness.{_CLASSES.get(name, 'api')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
