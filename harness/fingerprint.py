"""What a result depends on, as short digests. Imports none of what it digests."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.suite import Located, absolute, imports_of

ENGINE_FILES = (
    *("engine.py", "isolation.py", "lane_functions.py", "lane_operators.py", "lane_values.py"),
    *("lanes.py", "objective.py", "dataset.py", "sharing.py", "trials.py", "ways.py"),
    *("workload.py", "broadcasting.py", "objectives/module.py"),
    *("random_state.py", "torch_settings.py"),
)
"""Files of the harness that decide what a trial's numbers are."""

REPORT_FILES = (
    *("frames.py", "stats.py", "profiles.py", "comparison.py", "targets.py", "sensitivity.py"),
    *("search_space.py", "claims.py", "analysis.py", "tables.py", "comparison_tables.py"),
    *("latex.py", "citation.py", "commands.py"),
    *("findings.py", "verdicts.py", "check_history.py", "figure_records.py", "trial_figures.py"),
    "comparison_figures.py",
    *(
        "check_figures.py",
        "figures.py",
        "plotting.py",
        "svg.py",
        "live.py",
        "page.py",
        "page_parts.py",
    ),
    *("contents.py", "reporting.py", "shelf.py"),
)
"""Files of the harness that decide what a report says and looks like."""


def digest(value: Any) -> str:
    """A digest of plain data: 32 hexadecimal digits, the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def of_files(files: Iterable[Path]) -> str:
    """A digest of files' contents and names."""
    parts = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    return digest(parts)


@functools.cache
def engine() -> str:
    """A digest of the part of the harness that decides a trial's numbers."""
    here = Path(__file__).parent
    return of_files(here / name for name in ENGINE_FILES)


@functools.cache
def report() -> str:
    """A digest of all that a report is made with, but the results."""
    here = Path(__file__).parent
    files = [here / name for name in REPORT_FILES] + sorted((here / "templates").iterdir())
    packages = ("numpy", "pandas", "scipy", "matplotlib", "seaborn", "jinja2", "ruptures")
    return digest([of_files(files), *map(version_of, packages)])


def look_again() -> None:
    """Forget what files were: in one process, they may be edited between two plans."""
    of.cache_clear()


@functools.cache
def of(located: Located, *, data: bool = False) -> dict[str, str]:
    """What something named by a spec depends on: suite files by content, packages by version.

    For a dataset (``data``, or any file of ``datasets/`` that is imported), the data files of
    its folder count as well; one that is named after another loader (``boston.csv`` beside
    ``boston.py``) only where this loader's source names it.
    """
    if located.file is None:
        return _package(located.module.partition(".")[0], located.module)
    parts: dict[str, str] = {}
    folder = absolute(located.folder)
    waiting, seen = [absolute(located.file)], set[Path]()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        read = [file]
        if file.relative_to(folder).parts[0] == "datasets" or (data and len(seen) == 1):
            read += _data_files(file)
        for name in read:
            digest_of = hashlib.sha256(name.read_bytes()).hexdigest()
            parts[str(absolute(name).relative_to(folder))] = digest_of
        files, packages = imports_of(file, folder)
        waiting += [absolute(f) for f in files]
        for package in packages - {"harness", "__future__"} - sys.stdlib_module_names:
            parts |= _package(package, package)
    return parts


def _data_files(loader: Path) -> Iterator[Path]:
    """Files beside a loader that it may read."""
    source = loader.read_text(errors="replace")
    for file in sorted(loader.parent.rglob("*")):
        if not file.is_file() or file.suffix in (".py", ".pyc", ".md"):
            continue
        other = file.stem != loader.stem and file.with_suffix(".py").is_file()
        if not other or file.name in source:
            yield file


@functools.cache
def version_of(package: str) -> str:
    """The installed version of a top-level package, or an empty string."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pass
    names = importlib.metadata.packages_distributions().get(package, [])
    return importlib.metadata.version(names[0]) if names else ""


def _package(package: str, module: str) -> dict[str, str]:
    """A package by its version, or by its files where it is worked on in place."""
    if package == "harness":
        file = Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
        return {module: of_files([file])}
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    origin = Path(spec.origin) if spec and spec.origin and spec.has_location else None
    if origin is None or any(root in origin.resolve().parents for root in _installed_roots()):
        return {package: version_of(package)}
    files = origin.parent.rglob("*.py") if origin.name == "__init__.py" else [origin]
    content = {str(f.relative_to(origin.parent)): of_files([f]) for f in sorted(files)}
    return {package: digest(content)}


@functools.cache
def _installed_roots() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    own = (paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    roots = [*site.getsitepackages(), site.getusersitepackages(), *own]
    return tuple({Path(root).resolve() for root in roots})
