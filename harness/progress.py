"""How a run is going: a bar with time left on a terminal, plain lines in a log, or nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_SECONDS = 10.0
"""Seconds between two lines of a stage in a log."""


class Quiet:
    """Says nothing; the base of what says something.

    Attributes:
        printed: Descriptor of where a suite's code prints: standard error, or a log.
    """

    printed: int = 2

    @contextlib.contextmanager
    def stage(self, what: str, total: int, unit: str) -> Iterator[None]:
        """A stage of so many units, over when the block is left."""
        self.begin(what, total, unit)
        whole = False
        try:
            yield
            whole = True
        finally:
            self.end(whole=whole)

    def begin(self, what: str, total: int, unit: str) -> None:
        """Say nothing."""

    def advance(self, count: int) -> None:
        """Say nothing."""

    def end(self, *, whole: bool) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


class Lines(Quiet):
    """Plain lines on standard error, for logs."""

    def begin(self, what: str, total: int, unit: str) -> None:
        """Begin a stage."""
        self._what, self._total, self._unit = what, total, unit
        self._done, self._began = 0, time.monotonic()
        self._said = self._began
        self.note(f"{what}: {total:,} {unit}")

    def advance(self, count: int) -> None:
        """Say how far it is, now and then."""
        self._done += count
        now = time.monotonic()
        if now - self._said >= LINE_SECONDS and 0 < self._done < self._total:
            self._said = now
            left = (now - self._began) / self._done * (self._total - self._done)
            self.note(
                f"{self._what}: {self._done:,} of {self._total:,} {self._unit}, "
                f"about {_duration(left)} left"
            )

    def end(self, *, whole: bool) -> None:
        """Say how long the stage took."""
        took = _duration(time.monotonic() - self._began)
        how = "done" if whole else "cut short"
        self.note(f"{self._what}: {how}, {self._done:,} {self._unit} in {took}")

    def note(self, text: str) -> None:
        """Print a line; nobody may be there to read it any more."""
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


class Bars(Quiet):
    """A progress bar on standard error, redrawn only when something happens.

    Nothing ticks in between: the timing pass must have the machine for itself.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar: Bar = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._task: TaskID | None = None

    def begin(self, what: str, total: int, unit: str) -> None:
        """Show a new bar."""
        self._bar.start()
        self._task = self._bar.add_task(what, total=total, unit=unit)
        self._bar.refresh()

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.advance(self._task, count)
            self._bar.refresh()

    def end(self, *, whole: bool) -> None:
        """Leave the bar as it is."""
        del whole
        self._bar.refresh()
        self._bar.stop()

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)


class Notebook(Quiet):
    """One line below a notebook's cell, which is written anew as the run goes on."""

    LEAST_SECONDS = 0.2
    """Least time between two changes: each is a message to the browser."""

    def __init__(self) -> None:
        self._past: list[str] = []
        self._notes: list[str] = []
        self._stage = ""
        self._line: Any = None
        self._said = 0.0

    def begin(self, what: str, total: int, unit: str) -> None:
        """Begin a stage."""
        self._stage, self._total, self._unit, self._done = what, total, unit, 0
        self._began = time.monotonic()
        self._say()

    def advance(self, count: int) -> None:
        """Move the bar, now and then."""
        self._done += count
        if time.monotonic() - self._said >= self.LEAST_SECONDS:
            self._say()

    def end(self, *, whole: bool) -> None:
        """Say how long the stage took."""
        took = _duration(time.monotonic() - self._began)
        count = f"{self._done:,} {self._unit}"
        self._past.append(f"{self._stage} {count} in {took}" + ("" if whole else ", cut short"))
        self._stage = ""
        self._say()

    def note(self, text: str) -> None:
        """Add a line."""
        self._notes.append(text)
        self._say()

    def _say(self) -> None:
        from IPython.display import display

        if self._line is None:
            self._line = display(self, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._line.update(self)
        self._said = time.monotonic()

    def __repr__(self) -> str:
        now = [f"{self._stage}: {self._done:,} of {self._total:,} {self._unit}"]
        return "\n".join(["; ".join([*self._past, *(now if self._stage else [])]), *self._notes])

    def _repr_html_(self) -> str:
        bar = f' <progress value="{self._done}" max="{self._total}"></progress>'
        first, *notes = map(escape, repr(self).split("\n"))
        return "<br>".join([f"<small>{first}{bar if self._stage else ''}", *notes]) + "</small>"


def relative(path: Path) -> str:
    """A path as seen from here, where it is below."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def choose(*, quiet: bool) -> Quiet:
    """Bars on a terminal, a line below a notebook's cell, lines elsewhere, nothing if quiet."""
    if quiet:
        return Quiet()
    if _in_notebook():
        return Notebook()
    return Bars() if sys.stderr.isatty() else Lines()


def _in_notebook() -> bool:
    """Whether somebody sees this process's output below a cell."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60} min" if minutes >= 100 else f"{minutes} min {seconds} s"
    )
