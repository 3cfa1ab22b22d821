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
        names,
        preview,
        read,
        report,
        run,
        schema,
        test,
        validate,
        write_baseline,
    )
    from harness.contents import Comparison, Report
    from harness.pool import WorkerFailed
    from harness.problems import BadInput

__version__ = "0.1.0"

__all__ = [
    "BadInput",
    "Comparison",
    "Report",
    "WorkerFailed",
    "check",
    "compare",
    "history",
    "init",
    "names",
    "preview",
    "read",
    "report",
    "run",
    "schema",
    "test",
    "validate",
    "write_baseline",
]

_ELSEWHERE = {
    "BadInput": "harness.problems",
    "Comparison": "harness.contents",
    "Report": "harness.contents",
    "WorkerFailed": "harness.pool",
}
"""Where the names are that are not functions of :mod:`harness.api`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_ELSEWHERE.get(name, "harness.api"))
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
