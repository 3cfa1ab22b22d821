"""Which file is meant when somebody names results: by a spec, by a folder, or by the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.commands.run import output_folder
from harness.errors import BadInput, Problem, nearest
from harness.gate import history
from harness.progress import relative
from harness.spec.validation import load
from harness.spec.yaml_source import SUFFIXES
from harness.store import database


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
    """Where results side by side go, if nobody says: beside the first, if that is on our shelf."""
    from harness.reporting.page import index  # what it renders with takes a while to load

    folder = (first if first.is_dir() else store_path(first).parent).absolute()
    reports = folder.parent if folder.parent.name == index.FOLDER else Path(index.FOLDER)
    return reports / "side-by-side"


def history_path(results: Path) -> Path:
    """The history that a spec, a folder or a file means.

    Raises:
        BadInput: If it isn't there.
    """
    of_folder = results.suffix in SUFFIXES or results.is_dir()
    path = store_path(results).with_name(history.FILE_NAME) if of_folder else results
    if not path.exists():
        message = "no history here; `python -m harness check` begins one"
        raise BadInput.of_file(relative(path), message)
    return path
