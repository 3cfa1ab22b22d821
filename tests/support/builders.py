"""Builders of what tests of several files need."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from harness.errors import BadInput
from harness.plan.builder import Overrides, draft
from harness.plan.model import Plan
from harness.spec.model import Spec
from harness.spec.validation import LoadedSpec

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
