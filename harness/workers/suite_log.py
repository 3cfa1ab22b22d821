"""A log of what a suite's code prints, which could hide the result."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.formatting import plural
from harness.progress import NullProgress, Progress, relative

NAME = "printed.log"
"""The log's name among a run's results."""


@dataclass
class Log:
    """The log of a block that is over.

    Attributes:
        path: The file; None if nothing was printed, or nobody would be told.
        lines: Number of its lines.
    """

    path: Path | None = None
    lines: int = 0

    @property
    def note(self) -> str:
        """A sentence that says where it is; empty if nowhere."""
        if self.path is None:
            return ""
        return f"the suite's code printed {plural(self.lines, 'line')}: {relative(self.path)}"


@contextlib.contextmanager
def suite_log(progress: Progress, home: Path | None = None, *, keep: bool = False) -> Iterator[Log]:
    """Have what a suite's code prints go to a log.

    Args:
        progress: Is told where the log is; knows it meanwhile, for whoever starts a process.
        home: The folder in which it lies afterwards, if the block ends well; else it stays where
            temporary files are.
        keep: Keep it there even where ``progress`` says nothing.

    Yields:
        The log, which says something once the block is left.
    """
    log = Log()
    failed = True
    with tempfile.NamedTemporaryFile(prefix="harness-", suffix=".log", delete=False) as file:
        path = Path(file.name)
        before, progress.printed = progress.printed, file.fileno()
        try:
            yield log
            failed = False
        finally:
            progress.printed = before
            _settle(log, path, progress, None if failed else home, keep=keep, failed=failed)


def _settle(
    log: Log, path: Path, progress: Progress, home: Path | None, *, keep: bool, failed: bool
) -> None:
    text = path.read_bytes()
    log.lines = len(text.splitlines())
    if home is not None:
        (home / NAME).unlink(missing_ok=True)  # of the run before, which this one isn't
    silent = type(progress) is NullProgress
    if text and (home is not None or failed or keep or not silent):
        log.path = path if home is None else Path(shutil.copyfile(path, home / NAME))
        if not silent:
            progress.note(f"note: {log.note}")
        elif failed:  # what it printed may be all there is to explain it
            with contextlib.suppress(OSError):
                print(f"note: {log.note}", file=sys.stderr, flush=True)
    if log.path != path:
        path.unlink()
