"""The parameters of constructors that a spec gives arguments to."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

from harness.spec.fields import mistaken_word


class Refused(Exception):
    """A part of a recipe refuses what it is given.

    Attributes:
        section: The part, as dotted names call it: empty for the optimizer, ``groups.0``, ``base``,
            ``schedule.1`` or ``schedule``.
        owner: The class that refuses it.
        error: What was raised.
    """

    def __init__(self, section: str, owner: Any, error: BaseException) -> None:
        self.section = section
        self.owner = owner
        self.error = error
        super().__init__(str(error))


@dataclass(frozen=True)
class Constructor:
    """The parameters of a class or function.

    Attributes:
        parameters: The parameters, but the first ones that were left out; None where they can't
            be told.
        all_names: The names of all parameters.
    """

    parameters: tuple[inspect.Parameter, ...] | None
    all_names: frozenset[str]

    @classmethod
    def of(cls, factory: Any, *, skip: int = 0) -> Constructor:
        """Read the parameters of a class or function, but the first few."""
        try:
            found = tuple(inspect.signature(factory).parameters.values())
        except (TypeError, ValueError):
            return cls(None, frozenset())
        return cls(found[skip:], frozenset(parameter.name for parameter in found))

    @property
    def is_known(self) -> bool:
        """True if the parameters can be told."""
        return self.parameters is not None

    @property
    def named(self) -> dict[str, inspect.Parameter]:
        """Parameters that can be given by name."""
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {p.name: p for p in self.parameters or () if p.kind in by_name}

    @property
    def takes_any(self) -> bool:
        """True if there is a ``**name`` that takes every argument."""
        return any(p.kind is p.VAR_KEYWORD for p in self.parameters or ())

    @property
    def needed(self) -> list[str]:
        """Parameters that can be given by name and have no default."""
        return [name for name, p in self.named.items() if p.default is p.empty]


def needs_argument(function: Any, *, skip: int = 0) -> bool:
    """Return whether a function can't be called without a positional argument, as far as is known.

    Args:
        function: The function.
        skip: First parameters to leave out, such as ``self``.
    """
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = Constructor.of(function, skip=skip).parameters or ()
    return any(p.kind in positional and p.default is p.empty for p in found)


def mistaken(value: Any, parameter: inspect.Parameter) -> str:
    """Say why an argument can't be this word: ``no`` is none of Python's or YAML's values."""
    if "str" in re.findall(r"\w+", str(parameter.annotation)) and isinstance(value, str):
        return ""  # words are what it takes
    is_known = parameter.default is not parameter.empty
    return mistaken_word(value, parameter.default, is_known=is_known)
