"""Paths of results: of those that a spec, a folder or a file names, and of where new ones go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import BadInput, Problem, nearest
from harness.progress import relative
from harness.spec.validation import load
from harness.spec.yaml_source import SUFFIXES
from harness.store import database

LOCK_NAME = ".lock"


def output_folder(folder: Path, suite: str, output: Path | None) -> Path:
    """The folder for the results of a suite that has a folder."""
    return output or folder / "reports" / suite


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Be the only one who writes to a folder.

    Raises:
        BadInput: If somebody else is, or the folder can't be written.
    """
    from filelock import FileLock, Timeout

    try:
        output.mkdir(parents=True, exist_ok=True)
        with FileLock(output / LOCK_NAME, timeout=0):
            yield
    except Timeout:
        raise BadInput.of_file(
            str(output), "another run is writing here; wait for it, or give another --output"
        ) from None
    except OSError as error:
        raise BadInput.of_file(str(output), f"can't be written: {error.strerror}") from None


def store_path(results: Path) -> Path:
    """The store that a spec, a folder or a file means; it need not be there.

    Raises:
        BadInput: If it is a spec that can't be read.
    """
    if results.suffix in SUFFIXES:
        loaded = load(results)
        suite = loaded.source.data.get("suite") if isinstance(loaded.source.data, dict) else None
        return output_folder(loaded.folder, str(suite), None) / database.FILE_NAME
    return results / database.FILE_NAME if results.is_dir() else results


def store_paths(results: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each of several results as it was named, with its store.

    Raises:
        BadInput: With every one that isn't there.
    """
    problems: list[Problem] = []
    found = []
    for given in results:
        if not given.exists():
            siblings = [p.name for p in _siblings(given) if (p / database.FILE_NAME).is_file()]
            message = f"no such spec, folder or results file{nearest(given.name, siblings)}"
            problems.append(Problem(str(given), 0, 0, "", message))
            continue
        try:
            found.append((str(given), store_path(given)))
        except BadInput as error:
            problems += error.problems
    if problems:
        raise BadInput(problems)
    return found


def _siblings(path: Path) -> list[Path]:
    try:
        return sorted(path.absolute().parent.iterdir())
    except OSError:
        return []


def side_by_side_folder(first: Path) -> Path:
    """The folder for results side by side: beside the first, if that lies in ``reports/``."""
    from harness.reporting.page import index  # what it renders with takes a while to load

    folder = (first if first.is_dir() else store_path(first).parent).absolute()
    reports = folder.parent if folder.parent.name == index.FOLDER else Path(index.FOLDER)
    return reports / "side-by-side"


def history_path(results: Path) -> Path:
    """The history that a spec, a folder or a file means.

    Raises:
        BadInput: If it isn't there.
    """
    from harness.gate import history

    of_folder = results.suffix in SUFFIXES or results.is_dir()
    path = store_path(results).with_name(history.FILE_NAME) if of_folder else results
    if not path.exists():
        message = "no history here; `python -m harness check` begins one"
        raise BadInput.of_file(relative(path), message)
    return path
