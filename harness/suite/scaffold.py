"""A small suite to begin with, written into a folder of the user's. Loads no torch.

What is written stands in ``starter/`` and ``training_starter/`` as it is, so it is linted, typed
and tested there.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BadInput, Problem, nearest
from harness.progress import relative
from harness.terminal import aligned

HERE = Path(__file__).parent

SPEC, GATE = "comparison.yaml", "gate.yaml"


@dataclass(frozen=True)
class StarterFile:
    """A file of the starter suite.

    Attributes:
        target: Where it goes, below the suite's folder.
        source: Where it stands below its template's; by another name where this one would mean
            something to the tools that look after the harness.
        meaning: What it is, in a few words.
    """

    target: str
    source: str
    meaning: str


@dataclass(frozen=True)
class Template:
    """A starter suite.

    Attributes:
        folder: Where its files stand.
        spec: Its spec, which is to be run.
        files: All of it, in the order in which a reader wants to see them.
    """

    folder: Path
    spec: str
    files: tuple[StarterFile, ...]


COMPARISON = Template(
    HERE / "starter",
    SPEC,
    (
        StarterFile(SPEC, SPEC, "the spec: what is compared, and how"),
        StarterFile("optimizers/signum.py", "optimizers/signum.py", "an optimizer"),
        StarterFile("objectives/ridge.py", "objectives/ridge.py", "an objective"),
        StarterFile("datasets/harvest.py", "datasets/harvest.py", "a dataset"),
        StarterFile("datasets/harvest.csv", "datasets/harvest.csv", "its rows (invented)"),
        StarterFile(GATE, GATE, "a spec for CI, to check every change with"),
        StarterFile("tests/test_parts.py", "tests/test_parts.py", "a test, for pytest"),
        StarterFile(
            ".github/workflows/optimizers.yml", "optimizers.yml", "a workflow for GitHub Actions"
        ),
        StarterFile("reports/.gitignore", "gitignore", "keeps results out of git"),
    ),
)

TRAINING = Template(
    HERE / "training_starter",
    "training.yaml",
    (
        StarterFile("training.yaml", "training.yaml", "the spec: how is trained, what is compared"),
        StarterFile("objectives/network.py", "objectives/network.py", "a network and its metrics"),
        StarterFile("datasets/plants.py", "datasets/plants.py", "its data, in three parts"),
        StarterFile("datasets/plants.csv", "datasets/plants.csv", "their rows (invented)"),
        StarterFile("reports/.gitignore", "gitignore", "keeps results out of git"),
    ),
)

TEMPLATES = {"comparison": COMPARISON, "training": TRAINING}
"""The starter suites by name."""


def template(name: str) -> Template:
    """The starter suite of a name.

    Raises:
        BadInput: If there is none.
    """
    if name not in TEMPLATES:
        text = f"there is no template {name!r}{nearest(name, TEMPLATES)}"
        raise BadInput.of_file("template", text)
    return TEMPLATES[name]


def init(folder: Path, chosen: Template = COMPARISON) -> tuple[Path, ...]:
    """Write a starter suite into a folder, which may exist and hold other files.

    Args:
        folder: The suite's folder; made if it isn't there.
        chosen: Which of them.

    Returns:
        The files written, in the order in which a reader wants to see them.

    Raises:
        BadInput: If any of the files is there already, or one can't be written. Nothing of the
            suite is left then.
    """
    targets = [folder / file.target for file in chosen.files]
    problems = [p for target in targets for p in _in_the_way(target)]
    if problems:
        raise BadInput(problems)
    made: list[Path] = []
    target = folder
    try:
        for file, target in zip(chosen.files, targets, strict=True):
            content = (chosen.folder / file.source).read_bytes()
            _make_folder(target.parent, made)
            with target.open("xb") as opened:
                made.append(target)
                opened.write(content)
    except BaseException as error:
        _remove(made)
        if isinstance(error, OSError):
            why = error.strerror or str(error)
            raise BadInput.of_file(str(target), f"can't be written: {why}") from None
        raise
    return tuple(targets)


def describe(folder: Path, chosen: Template = COMPARISON) -> str:
    """Describe what a folder now holds, and what to do next."""
    lines = aligned([(file.target, file.meaning) for file in chosen.files], indent=2)
    go = [] if folder.resolve() == Path.cwd() else [f"  cd {shlex.quote(str(folder))}"]
    heading = f"{len(chosen.files)} files written to {relative(folder)}:"
    commands = [
        *go,
        "  python -m harness test .",
        f"  python -m harness run {chosen.spec}",
    ]
    return "\n".join([heading, *lines, "", "Next:", *commands])


def _in_the_way(target: Path) -> list[Problem]:
    """Find what keeps a file from being written: itself, or a file where its folder would be."""
    if os.path.lexists(target):
        return [Problem(str(target), 0, 0, "", "already exists, and is not overwritten")]
    nearest = target.parent
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if nearest.is_dir():
        return []
    return [Problem(str(nearest), 0, 0, "", "is not a directory, and one of that name is needed")]


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, noting which are new."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir()
        made.append(new)


def _remove(made: list[Path]) -> None:
    for path in reversed(made):
        with contextlib.suppress(OSError):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
