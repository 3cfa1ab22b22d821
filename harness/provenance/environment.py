"""The machine and the packages that a run was made with. Imports none of the packages it names."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import __version__
from harness.provenance import fingerprint

PACKAGES = ("torch", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "pydantic")

WORDS = {
    "harness": "Harness",
    "engine": "Engine digest",
    "python": "Python",
    "system": "System",
    "cpu": "Processor",
    "cores": "Cores",
    "threads": "Threads used",
    "git": "Git commit",
    "workers": "Trials run by",
}
"""Facts of an environment beside packages, with their names for a reader."""


@dataclass(frozen=True)
class Machine:
    """A machine on which something ran.

    Attributes:
        key: Digest of all that a time depends on beside the code.
        description: What it is and what it has, as text by name.
    """

    key: str
    description: dict[str, str]


def machine(threads: int) -> Machine:
    """This machine.

    Args:
        threads: Threads that torch may use.
    """
    return Machine(machine_key(threads), describe(threads))


def inherited(search: Sequence[str] = ()) -> dict[str, str]:
    """The environment of a process that finds packages where this one does, the harness first.

    Args:
        search: Where it looks before that.
    """
    paths = [*search, str(Path(__file__).resolve().parents[2]), *sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def describe(threads: int) -> dict[str, str]:
    """Describe this machine, as text by name.

    Args:
        threads: Threads that torch may use.
    """
    return {
        "harness": __version__,
        "engine": fingerprint.engine()[:12],
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: fingerprint.version_of(name) or "not installed" for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": str(cores() or "unknown"),
        "threads": str(threads),
    }


def machine_key(threads: int) -> str:
    """A digest of all that a time depends on beside the code."""
    parts = [cpu_model(), cores(), platform.platform(), sys.version, threads]
    return fingerprint.digest([*map(str, parts), fingerprint.version_of("torch"), accelerator()])


def accelerator() -> str:
    """A sign of the accelerators here that costs nothing to read; empty if there is none."""
    driver = Path("/proc/driver/nvidia")
    models = [_first_line(about) for about in sorted(driver.glob("gpus/*/information"))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    parts = [_first_line(driver / "version"), *models, visible]
    return "|".join(part for part in parts if part)


def _first_line(file: Path) -> str:
    try:
        return file.read_text(errors="replace").partition("\n")[0]
    except OSError:
        return ""


def cores() -> int:
    """Cores that this process may use; 0 where that isn't known."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(errors="replace"), re.M)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def git_state(folder: Path) -> str:
    """The commit that a folder is at, with ``+ changes`` where files differ; empty without git."""
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return ""
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit} + changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # looking changes nothing
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
