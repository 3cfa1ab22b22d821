"""The log of a run: records of the logger ``harness``, in a file among the results."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
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
def run_log(output: Path) -> Iterator[None]:
    """Append records of the block to the log in a folder: workers, lost tasks, stored chunks.

    Whoever has not asked the logger ``harness`` for such records sees them nowhere else.
    """
    logger = logging.getLogger("harness")
    level, propagate = logger.level, logger.propagate
    handler = _LogFile(output / LOG_NAME, encoding="utf-8", errors="backslashreplace")
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        handler.close()
