"""The judge: two sets of measurements in, verdicts out. Pure; measures nothing, writes nothing."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.analysis import stats
from harness.gate.baseline import Baseline, Cell, Loss, counts_differ, rounds_alike, time_differs
from harness.gate.report import Judgement, Metric, Outcome

SAME, OTHER = stats.ROUNDING, {"float32": 1e-4, "float64": 1e-9}
"""By how much a mean loss may rise where the spec doesn't say: between runs on one kind of
machine and torch, which are equal to the bit; and between others, which round otherwise."""

PROCESS_SD, PROCESS_DF = 0.007, 20
"""How far the ratios of two processes of the same code lie apart (standard deviation of the
logarithm), as was measured, and the weight that has beside what is seen: so many degrees of
freedom."""

MEDIAN_ERROR = 1.25
"""The standard error of a median, as a multiple of the mean's."""


@dataclass(frozen=True)
class Limits:
    """What a cell may do.

    Attributes:
        threshold: The largest rise in time that passes, as a share.
        loss_tolerance: The same for the mean final loss; None where rounding decides.
        dtype: The precision of its objective.
    """

    threshold: float
    loss_tolerance: float | None
    dtype: str


@dataclass(frozen=True)
class Comparison:
    """Two sets of measurements of a suite.

    Attributes:
        before: What it was like.
        now: What it is like.
        paired: Whether the processes of both sides ran side by side, two by two.
        unstable_reference: Whether the reference strayed from itself.
        cpu_starved: Whether others left too little of a processor for a change to be believed.
    """

    before: Baseline
    now: Baseline
    paired: bool = False
    unstable_reference: bool = False
    cpu_starved: bool = False

    @functools.cached_property
    def time_differs(self) -> list[str]:
        """Why times can't be compared."""
        return time_differs(self.before, self.now)

    @functools.cached_property
    def counts_differ(self) -> list[str]:
        """Why counts can't be compared."""
        return counts_differ(self.before, self.now)

    @functools.cached_property
    def spread(self) -> tuple[float, int]:
        """How far processes lie apart, and the degrees of freedom behind that."""
        squares, degrees = PROCESS_DF * PROCESS_SD**2, PROCESS_DF
        for side in (self.before, self.now):
            for cell in side.cells.values():
                logs = [math.log(t) for t in cell.times if t > 0]
                if len(logs) > 1:
                    squares += statistics.variance(logs) * (len(logs) - 1)
                    degrees += len(logs) - 1
        return math.sqrt(squares / degrees), degrees

    def time(self, cell_id: str, limits: Limits) -> Judgement:
        """Judge a cell's time; both sides must have the cell."""
        before, now = self.before.cells[cell_id], self.now.cells[cell_id]
        limit = limits.threshold
        old, new = _median(before.times), _median(now.times)
        judged = Judgement("time", "fine", before=old, now=new, limit=limit)
        if self.time_differs:
            return _with(judged, "not comparable", _listed(self.time_differs))
        if new is None:
            return _with(judged, "failed", "could not be measured")
        if old is None:
            return _with(judged, "missing", "the other side has no time")
        if before.clock != now.clock:
            why = f"measured by the {before.clock} clock then, by the {now.clock} clock now"
            return _with(judged, "not comparable", why)
        if self.paired and len(before.times) != len(now.times):
            return _with(judged, "failed", "could not be measured in every process")
        change, low, high = self._change(before, now)
        outcome: Outcome = "fine"
        if change > limit:
            outcome = "regressed"
        elif change < -limit:
            outcome = "better"
        count = len(now.times)
        processes = "one process" if count == 1 else f"median of {count} processes"
        why = "" if outcome == "fine" else processes
        if self.unstable_reference:
            outcome, why = "inconclusive", "the reference loop strayed from itself: a busy machine"
        elif self.cpu_starved and outcome != "fine":
            outcome, why = "inconclusive", "others left too little of a processor: a busy machine"
        return Judgement("time", outcome, why, old, new, change, low, high, limit)

    def suspects(self, limits: Mapping[str, Limits]) -> set[str]:
        """Cells whose time changed by more than half of what they may, either way.

        With one process, a change of a whole threshold can look like a little less; what is
        suspected is measured again, and the median of three decides against the whole.
        """
        if self.time_differs:
            return set()
        found = set()
        for cell_id, limit in limits.items():
            before, now = self.before.cells.get(cell_id), self.now.cells.get(cell_id)
            if before is None or now is None or not (before.times and now.times):
                continue
            if self.paired and len(before.times) != len(now.times):
                continue
            if abs(self._change(before, now)[0]) > limit.threshold / 2:
                found.add(cell_id)
        return found

    def _change(self, before: Cell, now: Cell) -> tuple[float, float, float]:
        """The change in time, and the ends of the interval of the ratio."""
        if self.paired:
            pairs = zip(now.times, before.times, strict=True)
            ratio = statistics.median(new / old for new, old in pairs)
        else:
            ratio = statistics.median(now.times) / statistics.median(before.times)
        sd, degrees = self.spread
        error = sd * math.hypot(_standard_error(before.times), _standard_error(now.times))
        reach = math.exp(stats.t_quantile(degrees, (1 + stats.CONFIDENCE) / 2) * error)
        return ratio - 1, ratio / reach, ratio * reach

    def loss(self, cell_id: str, limits: Limits) -> Judgement:
        """Judge a cell's final loss; both sides must have the cell."""
        before, now = self.before.cells[cell_id].loss, self.now.cells[cell_id].loss
        alike = rounds_alike(self.before, self.now)
        limit = limits.loss_tolerance
        if limit is None:
            limit = (SAME if alike else OTHER)[limits.dtype]
        judged = Judgement("loss", "fine", before=before.mean, now=now.mean, limit=limit)
        if now.failed:
            return _with(judged, "failed", f"{_trials(now.failed)} ended in an error")
        if now.diverged:
            then = f"; {before.diverged} did before" if before.diverged else ""
            return _with(judged, "regressed", f"{_trials(now.diverged)} diverged{then}")
        if self.before.seeds != self.now.seeds:
            why = f"seeds {self.before.seeds} then, {self.now.seeds} now"
            return _with(judged, "not comparable", why)
        if now.ok > before.ok:
            return _with(judged, "better", f"{_trials(now.ok)} ended ok, {before.ok} before")
        if before.mean is None or now.mean is None:
            return _with(judged, "not comparable", "no trial of the other side ended ok")
        # As a share of its size: a rise is positive, whatever the sign of the loss.
        size = abs(before.mean)
        change = now.mean / size - before.mean / size if size else None
        outcome, why = _loss_outcome(before, now, limit, stats.EPSILON[limits.dtype])
        return Judgement("loss", outcome, why, before.mean, now.mean, change, limit=limit)

    def count(self, metric: Metric, cell_id: str) -> Judgement:
        """Judge an exact count of a cell; both sides must have the cell."""
        cells = self.before.cells[cell_id], self.now.cells[cell_id]
        name = {"operators": "operators", "calls": "calls", "state": "state_bytes"}[metric]
        old, new = (getattr(cell, name) for cell in cells)
        judged = Judgement(metric, "fine", before=old, now=new)
        if self.counts_differ:
            return _with(judged, "not comparable", _listed(self.counts_differ))
        if new is None:
            return _with(judged, "failed", "could not be counted")
        if old is None:
            return _with(judged, "missing", "the other side has no count")
        steps = [cell.counted_steps for cell in cells]
        if steps[0] != steps[1]:
            why = f"counted over {steps[0]} steps then, {steps[1]} now"
            return _with(judged, "not comparable", why)
        outcome: Outcome = "regressed" if new > old else "better" if new < old else "fine"
        change = new / old - 1 if old else None
        return Judgement(metric, outcome, "", old, new, change)

    def cell(self, cell_id: str, limits: Limits) -> tuple[Judgement, ...]:
        """Judge everything of a cell that both sides have."""
        counts: tuple[Metric, ...] = ("operators", "calls", "state")
        return (
            self.time(cell_id, limits),
            self.loss(cell_id, limits),
            *(self.count(metric, cell_id) for metric in counts),
        )


def warn_only(judgements: Iterable[Judgement], metrics: Collection[str]) -> tuple[Judgement, ...]:
    """Have some metrics never fail a check."""
    return tuple(
        replace(judged, only_warns=True) if judged.metric in metrics else judged
        for judged in judgements
    )


def _loss_outcome(before: Loss, now: Loss, limit: float, epsilon: float) -> tuple[Outcome, str]:
    """Whether a mean loss rose or fell by more than it may.

    What is below the rounding of the loss at the start is no loss to speak of.
    """
    assert before.mean is not None
    assert now.mean is not None
    if before.bits == now.bits:
        return "fine", "equal to the bit"
    room = limit * abs(before.mean) + epsilon * abs(before.start or 0.0)
    if now.mean > before.mean + room:
        return "regressed", "the mean over seeds rose"
    if now.mean < before.mean - room:
        return "better", "the mean over seeds fell"
    return "fine", ""


def _standard_error(times: Sequence[float]) -> float:
    """The standard error of the median of some processes, for a standard deviation of 1."""
    return (MEDIAN_ERROR if len(times) > 2 else 1.0) / math.sqrt(len(times))


def _median(times: Sequence[float]) -> float | None:
    return statistics.median(times) if times else None


def _with(judged: Judgement, outcome: Outcome, why: str) -> Judgement:
    return replace(judged, outcome=outcome, why=why)


def _listed(differences: Sequence[str]) -> str:
    return "; ".join(differences)


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count:,} trials"
