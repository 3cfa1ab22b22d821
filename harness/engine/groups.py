"""Parameter groups: where each parameter of an objective goes, by name and shape in a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from harness.plan.recipe import Group, Selection

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of one trial's parameters, by name, in the objective's order."""


def matches(selection: Selection, name: str, shape: tuple[int, ...]) -> bool:
    """Test a parameter against a selection."""
    size = math.prod(shape)
    return (
        any(fnmatchcase(name, pattern) for pattern in selection.names)
        and not any(fnmatchcase(name, pattern) for pattern in selection.excluded)
        and (selection.ndim is None or len(shape) in selection.ndim)
        and (selection.min_size is None or size >= selection.min_size)
        and (selection.max_size is None or size <= selection.max_size)
    )


def assigned(groups: Sequence[Group], shapes: Shapes) -> tuple[list[list[str]], list[str]]:
    """The names of each group's parameters, and of those that no group matches.

    The first group that matches counts; one without a selection takes all that are left.
    """
    found: list[list[str]] = [[] for _ in groups]
    rest: list[str] = []
    for name, shape in shapes.items():
        for group, names in zip(groups, found, strict=True):
            if group.selection is None or matches(group.selection, name, shape):
                names.append(name)
                break
        else:
            rest.append(name)
    return found, rest
