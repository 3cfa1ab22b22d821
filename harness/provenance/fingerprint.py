"""Digests of what a result depends on. Imports none of what it digests."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.provenance.opened_files import Opened, digest_of, is_worked_on, kept_path
from harness.suite.locate import ImportTarget, absolute, imports_of, own_file

NOTHING = Opened()

_HERE = Path(__file__).parents[1]

_OF_TRIALS = (
    *("errors.py", "measures.py", "seeds.py", "suite", "objectives", "engine"),
    *("plan/recipe.py", "spec/recipe.py", "spec/recipe_values.py"),
)
"""Files and packages of the harness that decide what a trial's numbers are."""

_OF_REPORTS = (
    *(
        "errors.py",
        "formatting.py",
        "measures.py",
        "progress.py",
        "results.py",
        "seeds.py",
        "terminal.py",
        "spec",
        "suite",
        "provenance",
    ),
    *("plan", "store", "timing", "analysis", "gate", "reporting"),
)
"""Files and packages of the harness that decide what a report says and looks like."""

_PACKAGES = ("numpy", "pandas", "scipy", "matplotlib", "seaborn", "bokeh", "jinja2", "ruptures")
"""Packages that a report is made with."""


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
    return _of_packages(_OF_TRIALS)


@functools.cache
def report() -> str:
    """A digest of all that a report is made with, but the results."""
    return digest([_of_packages(_OF_REPORTS), *map(version_of, _PACKAGES)])


def _of_packages(names: Iterable[str]) -> str:
    """A digest of the contents of files and whole packages of the harness."""
    found = (f for name in names for f in (_HERE / name, *sorted((_HERE / name).rglob("*"))))
    files = (f for f in found if f.is_file() and "__pycache__" not in f.parts)
    return digest({f.relative_to(_HERE).as_posix(): of_files([f]) for f in files})


def look_again() -> None:
    """Forget what files were: in one process, they may be edited between two plans."""
    importlib.invalidate_caches()
    of.cache_clear()


@functools.cache
def of(located: ImportTarget, *, data: bool = False, opened: Opened = NOTHING) -> dict[str, str]:
    """Digest all that a named thing depends on: suite files by content, packages by version.

    Packages that are worked on (not installed, or installed for editing) count by content, and so
    does what they import. For a dataset (``data``, or any file of ``datasets/`` that is imported),
    the data files of its folder count as well; one that is named after another loader
    (``boston.csv`` beside ``boston.py``) only where this loader's source names it.

    Args:
        located: What is named.
        data: Whether it is a dataset.
        opened: What all this code was seen to read; files in there count by content as well.
    """
    walk = _Walk(absolute(located.folder), opened)
    if located.file is None:
        walk.module(located.module.partition(".")[0], {located.module})
    else:
        walk.file(absolute(located.file), data=data)
    return walk.parts


class _Walk:
    """From a file to all that it depends on."""

    def __init__(self, folder: Path, opened: Opened) -> None:
        self.parts: dict[str, str] = {}
        self._folder, self._opened = folder, opened
        self._seen: set[Path] = set()

    def file(self, file: Path, *, data: bool = False, named: bool = True) -> None:
        """A file of code; ``named`` unless a package's digest has it already."""
        waiting = [(file, data, named)]
        while waiting:
            file, data, named = waiting.pop()
            if file not in self._seen and file.is_file():
                self._seen.add(file)
                waiting += ((further, False, True) for further in self._one(file, data, named))

    def _one(self, file: Path, data: bool, named: bool) -> list[Path]:
        """Note a file of code and the data that it reads; return the code that it brings in."""
        own = self._folder in file.parents
        digest_now = digest_of(file)
        if named:
            self._add(file, digest_now)
        if data or (own and file.relative_to(self._folder).parts[0] == "datasets"):
            for beside in _data_files(file):
                self._add(absolute(beside), digest_of(beside))
        inside, names = imports_of(file, self._folder if own else file.parent)
        for top, modules in names.items():
            if top not in {"harness", "__future__"} | sys.stdlib_module_names:
                self.module(top, modules)
        read = [
            self._folder / r for r in self._opened.by(kept_path(file, self._folder), digest_now)
        ]
        for path in read:
            if path.suffix != ".py" and path not in self._seen:
                self._seen.add(path)
                self._add(path, digest_of(path))
        return [absolute(f) for f in inside] + [path for path in read if path.suffix == ".py"]

    def module(self, top: str, names: set[str]) -> None:
        """Note what is imported of a package or module from elsewhere, by dotted names."""
        if top == "harness":
            for name in names:
                file = own_file(name)
                if file.is_file():
                    self.parts[name] = of_files([file])
            return
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        origin = Path(spec.origin) if spec and spec.origin and spec.has_location else None
        if origin is not None and top in self.parts:
            return  # whatever of it is imported, all of it counts
        if origin is None and spec is not None and spec.submodule_search_locations is not None:
            self._namespace(top, names, [Path(p) for p in spec.submodule_search_locations])
        elif origin is None and (known := self._opened.module(top)) is not None:
            self._worked_on(top, self._folder / known)
        elif origin is None or not is_worked_on(origin.resolve()):
            self.parts[top] = version_of(top)
        else:
            self._worked_on(top, origin)

    def _worked_on(self, top: str, origin: Path) -> None:
        """A module by its file; a package by all its files, and by what these import."""
        if origin.name != "__init__.py":
            self.parts[top] = digest({origin.name: of_files([origin])})
            self.file(absolute(origin), named=False)
            return
        files = [f for f in sorted(origin.parent.rglob("*")) if f.suffix in _CODE and f.is_file()]
        content = {str(f.relative_to(origin.parent)): of_files([f]) for f in files}
        self.parts[top] = digest(content)
        for file in files:
            if file.suffix == ".py":
                self.file(absolute(file), named=False)

    def _namespace(self, top: str, names: set[str], portions: list[Path]) -> None:
        """A package without ``__init__.py``: the modules that are imported of it."""
        if not any(is_worked_on(portion.resolve() / "x") for portion in portions):
            self.parts[top] = version_of(top)
            return
        for name, portion in itertools.product(sorted(names), portions):
            steps = name.split(".")[1:]
            for depth in range(len(steps) + 1):
                base = portion.joinpath(*steps[:depth])
                self.file(absolute(base / "__init__.py"))
                if depth:
                    self.file(absolute(base.with_suffix(".py")))

    def _add(self, file: Path, content: str) -> None:
        """Note a file; one outside the suite by its name, for its folder differs by machine."""
        own = self._folder in file.parents
        name = str(file.relative_to(self._folder)) if own else file.name
        if name in self.parts and not own:
            content = digest(sorted([self.parts[name], content]))
        self.parts[name] = content


_CODE = (".py", ".so", ".pyd")
"""Endings of the names of a package's files of code."""


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
