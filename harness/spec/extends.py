"""Specs that take what they don't say from another one: ``extends: diagnostics``."""

from __future__ import annotations

import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import BadInput, Problem, join, nearest
from harness.spec.fields import shown
from harness.spec.yaml_source import SUFFIXES, Home, KeyPath, YamlSource, read

EXTENDS = "extends"

SHIPPED_SPECS = {"diagnostics": "diagnostics.yaml"}
"""Specs that come with the harness, by the names under which others extend them."""


def shipped_spec(name: str) -> Path:
    """The file of a spec that comes with the harness.

    It lies beside the package in a checkout, and among the data of an installed one.
    """
    file = SHIPPED_SPECS[name]
    beside = Path(__file__).parents[2] / file
    return beside if beside.is_file() else Path(sysconfig.get_path("data"), "share/harness", file)


def extended(source: YamlSource) -> tuple[YamlSource, list[Problem]]:
    """Add the keys that a spec takes from the one that it extends.

    Args:
        source: A spec's file. What it says of a key at the top stands for itself: of ``optimizers``
            it has its own and no others.

    Returns:
        The file as if it said all of it, and what is wrong with the reference.
    """
    return _extended(source, frozenset())


def _extended(source: YamlSource, within: frozenset[Path]) -> tuple[YamlSource, list[Problem]]:
    """The same for one that is itself extended, by the files that lead to it."""
    reference = source.data.get(EXTENDS)
    if EXTENDS not in source.data or (EXTENDS,) in source.unreadable:
        return source, []
    try:
        base = read(_file(reference, source))
        known = within | {Path(source.file).resolve()}
        if Path(base.file).resolve() in known:
            raise BadInput.of_file(base.file, "extends itself")
        if not isinstance(base.data, dict):
            raise BadInput.of_file(base.file, f"expected a spec, got {shown(base.data)}")
        base, problems = _extended(base, known)
    except BadInput as error:
        rest = {key: value for key, value in source.data.items() if key != EXTENDS}
        told = [_at_key(source, problem) for problem in error.problems]
        return replace(source, data=rest), told
    own: dict[str, Any] = source.data
    mine = {*own, EXTENDS, "suite"}  # the suite names the folder of the results
    taken = {key: value for key, value in base.data.items() if key not in mine}
    homes: dict[KeyPath, Home] = {(key,): (base, (key,)) for key in taken}
    text = f"{source.text.rstrip()}\n\n# {reference}, which it extends:\n{base.text}"
    whole = replace(
        source,
        text=text,
        data={**own, **taken},
        homes={**source.homes, **homes},
        problems=(*source.problems, *base.problems),
        unreadable=source.unreadable | {p for p in base.unreadable if p[0] not in own},
    )
    return whole, problems


def _file(reference: object, source: YamlSource) -> Path:
    """The file that a spec extends.

    Raises:
        BadInput: If there can be none.
    """
    names = join(list(SHIPPED_SPECS))
    expected = f"expected a spec that ships ({names}) or a file such as 'base.yaml'"
    if not isinstance(reference, str) or not reference:
        raise BadInput.of_file(EXTENDS, f"{expected}, got {shown(reference)}")
    if reference in SHIPPED_SPECS:
        return shipped_spec(reference)
    if not reference.endswith(SUFFIXES):
        hint = nearest(reference, SHIPPED_SPECS)
        raise BadInput.of_file(EXTENDS, f"{expected}, got {shown(reference)}{hint}")
    folder = source.folder if source.folder is not None else Path(source.file).parent
    return folder / reference


def _at_key(source: YamlSource, problem: Problem) -> Problem:
    """A mistake in the reference at its own place, one in the file that it names at that place."""
    if problem.file == EXTENDS or problem.line < 2:
        where = "" if problem.file == EXTENDS else f"{problem.file}: "
        return source.problem((EXTENDS,), f"{where}{problem.message}")
    return problem
