"""The log of a run: records of the logger ``harness``, in a file among the results."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from logging.handlers import MemoryHandler
from pathlib import Path

LOG_NAME = "harness.log"
"""The log's name among a run's results."""


class _LogFile(logging.FileHandler):
    """A file for records; a full disk costs the log and not the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Leave the record out."""

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def run_log() -> Iterator[Callable[[Path], None]]:
    """Log the block: starts and ends of workers, lost tasks, stored chunks.

    Whoever has not asked the logger ``harness`` for such records sees them nowhere else.

    Yields:
        A function that appends the records so far, and those to come, to the log in a folder.
    """
    logger = logging.getLogger("harness")
    level, propagate = logger.level, logger.propagate
    early = MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    handlers: list[logging.Handler] = [early]

    def write_to(output: Path) -> None:
        file = _LogFile(output / LOG_NAME, encoding="utf-8", errors="backslashreplace")
        file.setLevel(logging.INFO)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        early.setTarget(file)
        early.flush()
        logger.removeHandler(early)
        logger.addHandler(file)
        handlers.append(file)

    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logger.addHandler(early)
    try:
        yield write_to
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
