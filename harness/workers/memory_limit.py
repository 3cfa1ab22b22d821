"""What a process has allocated, and what it may."""

from __future__ import annotations

import contextlib
import gc
import resource
from collections.abc import Iterator
from pathlib import Path


class Memory:
    """What this process has allocated: memory of its own that it may write (Linux).

    Address space that is only reserved, as CUDA does by the terabyte, is not among it.

    Args:
        allowance: Bytes beyond what is allocated now after which allocations fail; 0 for no
            limit.
    """

    def __init__(self, allowance: int) -> None:
        self._allowance = allowance
        self._stays = self._now()
        if allowance and self._stays:
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (self._stays + allowance, hard))

    @contextlib.contextmanager
    def meant_to_stay(self) -> Iterator[None]:
        """Have what is allocated in the block not count as left behind."""
        before = self._now()
        try:
            yield
        finally:
            self._stays += max(0, self._now() - before)

    def is_short(self) -> bool:
        """Whether half the allowance is gone to what was left behind."""
        if not self._allowance or self._left_behind() <= self._allowance / 2:
            return False
        gc.collect()
        return self._left_behind() > self._allowance / 2

    def _left_behind(self) -> int:
        return self._now() - self._stays

    @staticmethod
    def _now() -> int:
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[5])
        except OSError:
            return 0
        return pages * resource.getpagesize()
