"""Mistakes a user can make, each with its place. Nothing here knows what a spec means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

KEY_LENGTH, MESSAGE_LENGTH = 200, 1000
"""Characters of a key and of a message that are shown."""


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake.

    Attributes:
        file: The file as the user named it.
        line: 1-based line, 0 where the file as a whole is meant.
        column: 1-based column, 0 where the line as a whole is meant.
        key: Dotted path of the key, such as ``optimizers.sgd.class``; may be empty.
        message: What is wrong and what was expected.
    """

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        place = ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)])
        message = _cut(self.message, MESSAGE_LENGTH)
        text = (
            f"{place}: {_cut(self.key, KEY_LENGTH)}: {message}"
            if self.key
            else (f"{place}: {message}")
        )
        return printable(text)


class BadInput(Exception):
    """The user gave something that can't be used; carries every mistake that was found."""

    exit_status = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def _render_traceback_(self) -> list[str]:
        """The text of a notebook: the mistakes, for the trace leads to nobody's code but ours."""
        count = f"\n{len(self.problems)} mistakes." if len(self.problems) > 1 else ""
        return [f"{type(self).__name__}: {self}{count}"]

    @classmethod
    def of_file(cls, file: str, message: str) -> BadInput:
        """One mistake about a file as a whole."""
        return cls([Problem(file, 0, 0, "", message)])


def printable(text: str, keep: str = "") -> str:
    """Text that commands no terminal and stands on one line; ``keep`` is let through."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return the end of a message that helps with an unknown name.

    Args:
        name: What was written.
        known: What would have been right.
        likeness: How alike two names are that may be meant for each other, from 0 to 1.

    Returns:
        ``"; did you mean 'x'?"`` where something is near, else a short list of what is known,
        else an empty string.
    """
    names = sorted(set(known))
    folded = {candidate.lower(): candidate for candidate in reversed(names)}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=likeness)
    if close:
        return f"; did you mean {folded[close[0]]!r}?"
    return f" (known: {join(names)})" if names else ""


def join(names: Sequence[str], limit: int = 12) -> str:
    """List names in a sentence, cut after ``limit``."""
    shown = ", ".join(names[:limit])
    return f"{shown}, and {len(names) - limit} more" if len(names) > limit else shown


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
