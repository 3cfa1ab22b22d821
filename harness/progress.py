"""Progress of a run: a bar with time left on a terminal, plain lines in a log, or nothing."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.formatting import duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_SECONDS = 10.0
"""Seconds between two lines of a stage in a log."""


class Progress(Protocol):
    """Shows the stages of a run and notes on it.

    Attributes:
        printed: Descriptor of where a suite's code prints: standard error, or a log.
    """

    printed: int

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[None]:
        """Begin a stage of so many units, which is over when the block is left."""

    def advance(self, count: int, left: float | None = None) -> None:
        """Note that more units of the stage are done.

        Args:
            count: How many.
            left: Seconds that the rest will take, where somebody knows better than by the count;
                NaN where nobody does.
        """

    def note(self, text: str) -> None:
        """Show a line."""


class NullProgress:
    """Progress that shows nothing; the base of those that show something."""

    printed: int = 2

    @contextlib.contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[None]:
        """Begin a stage of so many units, which is over when the block is left."""
        self.begin(name, total, unit)
        finished = False
        try:
            yield
            finished = True
        finally:
            self.end(finished=finished)

    def begin(self, name: str, total: int, unit: str) -> None:
        """Begin a stage."""

    def advance(self, count: int, left: float | None = None) -> None:
        """Note that more units of the stage are done."""

    def end(self, *, finished: bool) -> None:
        """End a stage."""

    def note(self, text: str) -> None:
        """Show a line."""


class _Counting(NullProgress):
    """Progress that counts the units of a stage itself."""

    def begin(self, name: str, total: int, unit: str) -> None:
        """Show that a stage begins."""
        self._name, self._total, self._unit, self._done = name, total, unit, 0
        self._began = self._shown = time.monotonic()
        self._left: float | None = None

    def advance(self, count: int, left: float | None = None) -> None:
        """Show how far the stage is, now and then."""
        self._done += count
        if left is None and self._done > 0:
            taken = time.monotonic() - self._began
            left = taken / self._done * (self._total - self._done)
        self._left = None if left is None or math.isnan(left) else left

    def _taken(self) -> str:
        done = _counted(self._done, self._unit)
        return f"{done} in {duration(time.monotonic() - self._began)}"


def _counted(count: int, unit: str) -> str:
    """A count with its unit, given as of many: ``1 case``, ``2 cases``."""
    return f"{count:,} {unit.removesuffix('s') if count == 1 else unit}"


class LogProgress(_Counting):
    """Plain lines on standard error, for logs."""

    def begin(self, name: str, total: int, unit: str) -> None:
        """Show that a stage begins."""
        super().begin(name, total, unit)
        self.note(f"{name}: {_counted(total, unit)}")

    def advance(self, count: int, left: float | None = None) -> None:
        """Show how far the stage is, now and then."""
        super().advance(count, left)
        now = time.monotonic()
        if now - self._shown >= LINE_SECONDS and 0 < self._done < self._total:
            self._shown = now
            self.note(
                f"{self._name}: {self._done:,} of {self._total:,} {self._unit}"
                + (f", about {duration(self._left)} left" if self._left is not None else "")
            )

    def end(self, *, finished: bool) -> None:
        """Show how the stage ended."""
        self.note(f"{self._name}: {'done' if finished else 'cut short'}, {self._taken()}")

    def note(self, text: str) -> None:
        """Show a line."""
        with contextlib.suppress(OSError):  # nobody may be there to read it any more
            print(text, file=sys.stderr, flush=True)


class BarProgress(_Counting):
    """A progress bar on standard error, redrawn only when something happens.

    Nothing ticks in between: the timing pass must have the machine for itself. Each stage has a
    bar of its own, which stays as one line when the stage is over.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bar: RichProgress | None = None

    def begin(self, name: str, total: int, unit: str) -> None:
        """Show that a stage begins."""
        from rich import progress

        super().begin(name, total, unit)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description:<9}"),
            progress.BarColumn(bar_width=24),
            progress.TextColumn(
                "{task.completed:>7,.0f} of {task.total:<7,.0f} {task.fields[unit]:<6}"
            ),
            progress.TimeElapsedColumn(),
            progress.TextColumn("[dim]left[/dim]"),
            progress.TextColumn("{task.fields[left]}"),
            console=self._console,
            auto_refresh=False,
        )
        self._bar.add_task(name, total=total, unit=unit, left="-:--:--")
        self._bar.start()

    def advance(self, count: int, left: float | None = None) -> None:
        """Show how far the stage is, now and then."""
        super().advance(count, left)
        if self._bar is not None:
            text = "-:--:--" if self._left is None else str(timedelta(seconds=round(self._left)))
            self._bar.update(self._bar.task_ids[0], advance=count, left=text, refresh=True)

    def end(self, *, finished: bool) -> None:
        """Leave the bar as it is, without the time that was left."""
        del finished
        if self._bar is not None:
            self._bar.columns = self._bar.columns[:-2]
            self._bar.refresh()
            self._bar.stop()

    def note(self, text: str) -> None:
        """Show a line."""
        self._console.print(text, markup=False, highlight=False)


class NotebookProgress(_Counting):
    """One line below a notebook's cell, which is written anew as the run goes on."""

    LEAST_SECONDS = 0.2
    """Least time between two changes: each is a message to the browser."""

    def __init__(self) -> None:
        self._past: list[str] = []
        self._notes: list[str] = []
        self._name = ""
        self._display: Any = None

    def begin(self, name: str, total: int, unit: str) -> None:
        """Show that a stage begins."""
        super().begin(name, total, unit)
        self._show()

    def advance(self, count: int, left: float | None = None) -> None:
        """Show how far the stage is, now and then."""
        super().advance(count, left)
        if time.monotonic() - self._shown >= self.LEAST_SECONDS:
            self._show()

    def end(self, *, finished: bool) -> None:
        """Show how the stage ended."""
        self._past.append(f"{self._name} {self._taken()}" + ("" if finished else ", cut short"))
        self._name = ""
        self._show()

    def note(self, text: str) -> None:
        """Show a line."""
        self._notes.append(text)
        self._show()

    def _show(self) -> None:
        from IPython.display import display

        if self._display is None:
            self._display = display(self, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._display.update(self)
        self._shown = time.monotonic()

    def __repr__(self) -> str:
        now = [f"{self._name}: {self._done:,} of {self._total:,} {self._unit}"]
        return "\n".join(["; ".join([*self._past, *(now if self._name else [])]), *self._notes])

    def _repr_html_(self) -> str:
        bar = f' <progress value="{self._done}" max="{self._total}"></progress>'
        first, *notes = map(escape, repr(self).split("\n"))
        return "<br>".join([f"<small>{first}{bar if self._name else ''}", *notes]) + "</small>"


def relative(path: Path) -> str:
    """A path as seen from here, where it is below."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def choose(*, quiet: bool) -> Progress:
    """Bars on a terminal, a line below a notebook's cell, lines elsewhere, nothing if quiet."""
    if quiet:
        return NullProgress()
    ipython = sys.modules.get("IPython")
    if getattr(ipython and ipython.get_ipython(), "kernel", None) is not None:
        return NotebookProgress()
    return BarProgress() if sys.stderr.isatty() else LogProgress()
