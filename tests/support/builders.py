"""Builders of what tests of several files need."""

from __future__ import annotations

import importlib.util
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from harness.engine import validate
from harness.engine.workload import Workload
from harness.errors import BadInput
from harness.objectives.base import Objective
from harness.plan.builder import Overrides, draft
from harness.plan.model import Plan
from harness.provenance import environment
from harness.provenance.opened_files import Opened
from harness.spec.model import Spec
from harness.spec.validation import LoadedSpec
from harness.workers.requests import ValidatePlan

Call = Callable[..., subprocess.CompletedProcess[str]]
"""Runs the command line in this process: the fixture ``command``."""


def require(loaded: LoadedSpec) -> Spec:
    """The spec, which must have no mistakes."""
    if loaded.problems or loaded.spec is None:
        raise BadInput(loaded.problems)
    return loaded.spec


def make_plan(loaded: LoadedSpec, overrides: Overrides | None = None) -> Plan:
    """The plan of a spec, which must have no mistakes."""
    plan, problems = draft(loaded, overrides or Overrides())
    if problems or plan is None:
        raise BadInput(problems)
    return plan


def wait_until(
    holds: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = 120
) -> None:
    """Wait for something to become true, and no longer than a process lives."""
    end = time.monotonic() + seconds
    while not holds():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended: {process.communicate()}")
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, as somebody whom no configuration knows; what it printed."""
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def load_suite_file(relative: str) -> ModuleType:
    """Load a file of this repository's suite under a private name, as the harness does."""
    path = Path(__file__).resolve().parents[2] / relative
    spec = importlib.util.spec_from_file_location(f"_test_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def marked(text: str, mark: str = "«") -> tuple[str, list[tuple[int, int]]]:
    """Take marks out of a text; return it, and the line and column of each, counted from 1."""
    places: list[tuple[int, int]] = []
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        pieces = line.split(mark)
        column = 1
        for piece in pieces[:-1]:
            column += len(piece)
            places.append((number, column))
        lines.append("".join(pieces))
    return "\n".join(lines), places


class InProcess:
    """Stands in for the pool of workers: validates in this process, and runs nothing."""

    opened = Opened()

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None: ...

    def machine(self, threads: int) -> environment.Machine:
        return environment.machine(threads)

    def call(self, task: Any) -> Any:
        assert isinstance(task.request, ValidatePlan), "bad input was run"
        return validate.validate_plan(task.request.plan, task.request.deadly)


def make_workload(
    objective: Objective,
    *,
    dtype: torch.dtype = torch.float64,
    steps: int = 20,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    **fields: Any,
) -> Workload:
    """A workload made by hand: every loss is recorded, and data have the workload's precision."""
    data = objective.data and tuple(
        t.to(device, dtype if t.is_floating_point() else t.dtype) for t in objective.data
    )
    known: dict[str, Any] = {
        "steps_per_epoch": 1,
        "record_steps": tuple(range(steps + 1)),
        "divergence_factor": 1000.0,
    }
    return Workload(
        objective=objective,
        data=data,
        dtype=dtype,
        device=torch.device(device),
        steps=steps,
        batch_size=batch_size if data else None,
        **known | fields,
    )
