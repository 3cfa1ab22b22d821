"""Another revision of the repository that a suite is in, laid out beside it for a while."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import BadInput, nearest

GIT_SECONDS = 300
"""Time limit of a git command."""

_OF_ANOTHER = frozenset({"GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"})
"""Variables that git sets for its hooks; their paths need not lead to the suite's repository."""


@dataclass(frozen=True)
class Revision:
    """A revision's files.

    Attributes:
        name: The commit, in twelve digits.
        spec: The spec in it.
        folder: The folder that stands for the repository's.
        search: Where its packages are: what this process's search path has inside the
            repository, in the revision's files.
    """

    name: str
    spec: Path
    folder: Path
    search: tuple[Path, ...]


@contextlib.contextmanager
def laid_out(revision: str, spec: Path, packages: Iterable[str]) -> Iterator[Revision]:
    """Lay out the files of a revision in a folder that is gone afterwards.

    Neither the work tree, nor the index, nor anything else of the repository is touched.
    Submodules stay empty, and what git doesn't track is not there.

    Args:
        revision: Anything that git knows by a name: a branch, a tag, a commit.
        spec: The spec as it is now; the revision's has the same path.
        packages: Top-level packages that the spec names.

    Raises:
        BadInput: If the spec is in no repository, there is no such revision, or the spec is
            not in it.
    """
    place = f"--base {revision}"
    root = Path(_git(place, spec.resolve().parent, "rev-parse", "--show-toplevel")).resolve()
    commit = _commit(place, root, revision)
    with tempfile.TemporaryDirectory(prefix="harness-base-") as name:
        folder = Path(name).resolve() / "tree"
        index = {"GIT_INDEX_FILE": str(folder.parent / "index")}
        _git(place, root, "read-tree", commit, more=index)
        _git(place, root, "checkout-index", "--all", f"--prefix={folder}/", more=index)
        there = folder / spec.resolve().relative_to(root)
        if not there.is_file():
            raise BadInput.of_file(place, f"{spec.resolve().relative_to(root)} is not in it")
        search = tuple(dict.fromkeys(_search(root, folder, packages)))
        for home in search:
            # One harness measures both sides: today's.
            shutil.rmtree(home / "harness", ignore_errors=True)
        yield Revision(commit[:12], there, folder, search)


@contextlib.contextmanager
def found_first(search: Sequence[Path]) -> Iterator[None]:
    """Have this process look for packages in some folders first."""
    before = sys.path[:]
    sys.path[:0] = map(str, search)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
        importlib.invalidate_caches()


def as_named(error: BadInput, revision: Revision, name: str) -> BadInput:
    """The mistakes of a revision's suite, with places in the revision."""
    prefix = f"{revision.folder}{os.sep}"
    return BadInput(
        replace(
            problem,
            file=problem.file.replace(prefix, f"{name}:"),
            message=problem.message.replace(prefix, f"{name}:"),
        )
        for problem in error.problems
    )


def _commit(place: str, root: Path, revision: str) -> str:
    try:
        if revision.startswith("-"):
            raise BadInput.of_file(place, "is no revision")
        return _git(place, root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except BadInput:
        names = _git(place, root, "for-each-ref", "--format=%(refname:short)").split()
        hint = nearest(revision, names)
        message = f"no such revision{hint}; a shallow clone has to fetch it first"
        raise BadInput.of_file(place, message) from None


def _search(root: Path, folder: Path, packages: Iterable[str]) -> Iterator[Path]:
    """Folders with the repository's packages, in the revision's files."""
    for path in (*map(Path, sys.path), *_homes(packages)):
        inside = path.resolve()
        # An environment inside the repository is not a part of it.
        if inside.is_relative_to(root) and "site-packages" not in inside.parts:
            there = folder / inside.relative_to(root)
            if there.is_dir():
                yield there


def _homes(packages: Iterable[str]) -> Iterator[Path]:
    """The folders that packages lie in; one installed for editing may be on no search path."""
    for package in packages:
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            continue
        for place in (spec and spec.submodule_search_locations) or ():
            yield Path(place).parent
        if spec and spec.origin and not spec.submodule_search_locations and spec.has_location:
            yield Path(spec.origin).parent


def _git(place: str, folder: Path, *arguments: str, more: Mapping[str, str] | None = None) -> str:
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
            env={**inherited, **(more or {})},
        )
    except FileNotFoundError:
        raise BadInput.of_file(place, "git is not installed") from None
    except subprocess.TimeoutExpired:
        raise BadInput.of_file(place, f"git gave no answer in {GIT_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        reason = _reason(error.stderr) or f"git {arguments[0]} failed"
        raise BadInput.of_file(place, reason) from None
    return done.stdout.strip()


def _reason(stderr: str) -> str:
    """The reason that git gives for a failure, and its advice, on one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    reason = (i for i, line in enumerate(lines) if line.startswith(("fatal:", "error:")))
    return " ".join(lines[next(reason, -1) :])
