"""Builders of what tests of several files need."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Call = Callable[..., subprocess.CompletedProcess[str]]
"""Runs the command line in this process: the fixture ``command``."""
