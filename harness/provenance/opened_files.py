"""The files that a suite's code reads: seen by a worker as it does so, kept beside the results.

Reading source tells what ``import`` brings in. Not what a loader opens, what is imported by a name
made up as it runs, or from a folder that code adds to the search path. A worker notes all of it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from harness.suite.locate import absolute, as_text

FILE_NAME = "opened.json"

Edge = tuple[str, str, str]
"""A file of code, its digest when it ran, and what it read; paths as :func:`kept_path`."""


@dataclass(frozen=True)
class Opened:
    """The files that code was seen to read.

    Attributes:
        edges: Which code read what. An edge holds as long as the code is what it was.
        modules: Top-level modules by name, with their files, where the search path alone would
            not lead to them.
        unwatched: Which code did what can't be watched.
    """

    edges: frozenset[Edge] = frozenset()
    modules: frozenset[tuple[str, str]] = frozenset()
    unwatched: frozenset[tuple[str, str]] = frozenset()

    def of(self, folder: Path) -> Opened:
        """The same with paths as they are kept, from a suite's folder on."""
        return Opened(
            frozenset(
                (kept_path(Path(a), folder), d, kept_path(Path(b), folder))
                for a, d, b in self.edges
            ),
            frozenset((name, kept_path(Path(file), folder)) for name, file in self.modules),
            frozenset((kept_path(Path(reader), folder), what) for reader, what in self.unwatched),
        )

    def moved(self, folder: Path, elsewhere: Path) -> Opened:
        """The part in a suite's folder, as in another copy of it; what lies outside is named."""

        def place(path: str) -> str | None:
            inside = kept_path(Path(path), folder)
            return None if Path(inside).is_absolute() else str(absolute(elsewhere) / inside)

        edges = [(place(a), digest, place(b)) for a, digest, b in self.edges]
        modules = ((name, place(file)) for name, file in self.modules)
        unwatched = [(place(reader), what) for reader, what in self.unwatched]
        unwatched += [(a, "elsewhere") for a, _, b in edges if a and not b]
        return Opened(
            frozenset((a, digest, b) for a, digest, b in edges if a and b),
            frozenset((name, file) for name, file in modules if file),
            frozenset((reader, what) for reader, what in unwatched if reader),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what can't be watched."""
        text = "{} {}, which the key of a stored result does not cover"
        return tuple(text.format(as_text(a), _UNWATCHED[b]) for a, b in sorted(self.unwatched))

    def by(self, reader: str, digest: str) -> list[str]:
        """The files that a file of code read, being what it is."""
        return sorted(_by_reader(self).get((reader, digest), ()))

    def module(self, name: str) -> str | None:
        """The file of a top-level module, where it is known."""
        return dict(self.modules).get(name)

    def merged(self, newer: Opened) -> Opened:
        """Both; of a module's file the newer holds."""
        modules = {**dict(self.modules), **dict(newer.modules)}
        edges, unwatched = self.edges | newer.edges, self.unwatched | newer.unwatched
        return Opened(edges, frozenset(modules.items()), unwatched)


@functools.lru_cache(maxsize=8)
def _by_reader(opened: Opened) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for reader, digest, read in opened.edges:
        found.setdefault((reader, digest), []).append(read)
    return found


def load(output: Path) -> Opened:
    """Load what was seen in earlier runs; nothing where that can't be read."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads((output / FILE_NAME).read_bytes())
        edges = frozenset((str(a), str(b), str(c)) for a, b, c in known["edges"])
        return Opened(edges, frozenset((str(a), str(b)) for a, b in known["modules"]))
    return Opened()


def save(output: Path, opened: Opened) -> None:
    """Keep what was seen; nothing of it is no file."""
    file = output / FILE_NAME
    if not (opened.edges or opened.modules):
        file.unlink(missing_ok=True)
        return
    known = {"edges": sorted(opened.edges), "modules": sorted(opened.modules)}
    part = file.with_suffix(".part")
    part.write_text(json.dumps(known, indent=0))
    part.replace(file)


def kept_path(path: Path, folder: Path) -> str:
    """A path as it is kept: from the suite's folder on, where it is in there."""
    path, folder = absolute(path), absolute(folder)
    return str(path.relative_to(folder)) if folder in path.parents else str(path)


_WRITTEN = ("__pycache__", "reports")
"""Folders that a run itself may leave."""


def digest_of(path: Path) -> str:
    """A digest of what a file holds or a folder lists; empty where there is nothing."""
    try:
        if path.is_dir():
            names = sorted(os.fsencode(p.name) for p in path.iterdir() if p.name not in _WRITTEN)
            return hashlib.sha256(b"\0".join(names)).hexdigest()
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def is_worked_on(path: Path) -> bool:
    """Tell files that may change without a version that tells: it is no installed package's.

    Another environment's packages, which a path file may lead to, are installed as well.
    """
    if {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return not any(root in path.parents for root in _installed())


@functools.cache
def _installed() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    own = (paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    roots = [*site.getsitepackages(), site.getusersitepackages(), *own]
    found = {p for root in roots for p in (absolute(Path(root)), Path(root).resolve())}
    return tuple(found)


@functools.cache
def _of_system() -> tuple[Path, ...]:
    """Folders in which nothing lies that a suite's results could be blamed on."""
    folders = ("/proc", "/sys", "/dev", "/etc", "/usr/lib", "/usr/share", "/lib", "/var")
    return (*map(Path, folders), Path(sys.base_prefix), Path(__file__).parents[1])


_LISTS = ("os.listdir", "os.scandir")
_UNWATCHED = {
    "subprocess.Popen": "starts a process",
    "os.system": "starts a process",
    "os.posix_spawn": "starts a process",
    "socket.connect": "connects to a server",
    "ctypes.dlopen": "loads a library",
    "elsewhere": "reads files outside the suite on machines of a cluster",
}
"""Events that may read files without a word to Python, or depend on something that is no file."""


class Watch:
    """Notes what code that is worked on reads in this process, from when it is made."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], None] = {}
        self._unwatched: dict[tuple[str, str], None] = {}
        self._written: set[str] = set()
        self._told = 0
        self._readers: dict[str, bool] = {}
        sys.addaudithook(self._hook)

    def seen(self) -> Opened:
        """Everything that was seen until now, with absolute paths."""
        edges = {
            (reader, digest_of(Path(reader)), read)
            for reader, read in list(self._read)
            if read not in self._written and reader != read
        }
        modules = {
            (name, file)
            for name, module in list(sys.modules.items())
            if "." not in name
            and name != "__main__"
            and isinstance(file := getattr(module, "__file__", None), str)
            and self._is_reader(file)
        }
        return Opened(frozenset(edges), frozenset(modules), frozenset(self._unwatched))

    @property
    def has_more(self) -> bool:
        """True where something was seen since this was asked last."""
        before, self._told = self._told, len(self._read) + len(self._unwatched)
        return self._told > before

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = any(c in mode for c in "wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
            if isinstance(path, str | bytes | os.PathLike):
                self._note(os.fsdecode(path), wrote=bool(writes))
        elif event in _LISTS or event == "sqlite3.connect":
            if isinstance(arguments[0] if arguments else None, str | bytes | os.PathLike):
                self._note(os.fsdecode(arguments[0]), wrote=False)
        elif event in _UNWATCHED:  # `elsewhere` is no event
            for reader in self._readers_on(sys._getframe(1)):
                self._unwatched[reader, event] = None

    def _note(self, name: str, *, wrote: bool) -> None:
        caller = sys._getframe(2)
        path = os.path.abspath(name)  # noqa: PTH100 - as absolute() does, and sooner
        if wrote:
            self._written.add(path)
            return
        if path.endswith(".pyc"):
            with contextlib.suppress(ValueError):
                path = importlib.util.source_from_cache(path)
        elif os.path.isdir(path) and "importlib" in caller.f_code.co_filename:  # noqa: PTH112
            return  # a search for modules, of which what is found counts
        place = Path(path)
        if not is_worked_on(place) or any(root in place.parents for root in _of_system()):
            return
        for reader in self._readers_on(caller):
            self._read[reader, path] = None

    def _readers_on(self, frame: FrameType | None) -> Iterator[str]:
        """The files of code on the stack that are worked on."""
        while frame is not None:
            file = frame.f_code.co_filename
            if self._is_reader(file):
                yield file
            frame = frame.f_back

    def _is_reader(self, file: str) -> bool:
        known = self._readers.get(file)
        if known is None:
            path = absolute(Path(file)) if not file.startswith("<") else None
            known = (
                path is not None
                and is_worked_on(path)
                and not any(root in path.parents for root in _of_system())
            )
            self._readers[file] = known
        return known


@functools.cache
def watch() -> Watch:
    """This process's watch, which begins when it is first asked for."""
    return Watch()
