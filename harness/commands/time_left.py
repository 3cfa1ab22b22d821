"""The time that trials will still take, by what their steps were measured to cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable


class TimeLeft:
    """Keeps account of trials whose costs differ.

    Trials of a network and of a bowl differ a thousandfold, so their number says little. What a
    trial costs is estimated before it runs; what estimates are short of is made good by the ratio
    of the time that has passed to the estimates of what was done in it.

    Args:
        trials: How many there are.
        clock: Seconds, from anywhere.
    """

    def __init__(self, trials: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._costs: dict[str, float] = {}
        self._unknown = trials
        self._known = 0
        self._left = self._done = 0.0
        self._began: float | None = None

    def expect(self, case: str, trials: int, seconds: float) -> None:
        """Note an estimate of what each trial of a case costs, or another than before.

        Args:
            case: The case's key.
            trials: How many of its trials are to run.
            seconds: The estimate, of one of them.
        """
        before = self._costs.get(case)
        if before is None:
            self._unknown -= trials
            self._known += trials
        else:
            self._left -= before * trials
        self._costs[case] = seconds
        self._left += seconds * trials

    def note_done(self, cases: Iterable[str]) -> None:
        """Note that trials have ended, each given by its case.

        The clock starts with the first: what came before was spent on how they may run.
        """
        done = 0.0
        for case in cases:
            cost = self._costs.get(case)
            if cost is None:  # it never came to an estimate: it could not be run
                self._unknown -= 1
                continue
            self._known -= 1
            self._left -= cost
            done += cost
        if self._began is None:
            self._began = self._clock()
        else:
            self._done += done

    def seconds(self) -> float:
        """Seconds until all have ended; NaN where too little is known.

        A trial without an estimate counts as much as the mean of those that have one.
        """
        if self._began is None or self._done <= 0:
            return math.nan
        count = max(1, self._known)
        rest = max(0.0, self._left) * (1 + max(0, self._unknown) / count)
        return (self._clock() - self._began) / self._done * rest
