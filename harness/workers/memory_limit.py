"""The memory that a process has allocated, and its limit."""

from __future__ import annotations

import contextlib
import gc
import resource
from collections.abc import Iterator
from pathlib import Path


class MemoryLimit:
    """A limit on the memory of its own that this process may write (Linux).

    Address space that is only reserved, as CUDA does by the terabyte, is not among it.

    Args:
        limit: Bytes beyond what is allocated now after which allocations fail; 0 for no limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stays = self._now()
        if limit and self._stays:
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (self._stays + limit, hard))

    @contextlib.contextmanager
    def meant_to_stay(self) -> Iterator[None]:
        """Have what is allocated in the block not count as left behind."""
        before = self._now()
        try:
            yield
        finally:
            self._stays += max(0, self._now() - before)

    def is_short(self) -> bool:
        """True if more than half of the limit is gone to what was left behind."""
        if not self._limit or self._left_behind() <= self._limit / 2:
            return False
        gc.collect()
        return self._left_behind() > self._limit / 2

    def _left_behind(self) -> int:
        return self._now() - self._stays

    @staticmethod
    def _now() -> int:
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[5])
        except OSError:
            return 0
        return pages * resource.getpagesize()
