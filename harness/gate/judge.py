"""Judgements of one set of measurements against another. Measures nothing, writes nothing."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.analysis import stats
from harness.formatting import plural
from harness.gate.baseline import Baseline, Cell, Loss, counts_differ, same_rounding, time_differs
from harness.gate.report import Judgement, Metric, Outcome
from harness.measures import TRAIN_LOSS, Measure

SAME, OTHER = stats.ROUNDING, {"float32": 1e-4, "float64": 1e-9}
"""By how much a mean loss may get worse where the spec doesn't say: between runs on one kind of
machine and torch, which are bit-identical; and between others, which round otherwise."""

OTHER_MEASURE = 5e-3
"""The least of the latter for anything but the loss on train: another rounding may tip single rows
over, of which a part has some hundreds."""

PROCESS_SD, PROCESS_DF = 0.007, 20
"""Standard deviation of the logarithms of the ratios of processes of the same code, as was
measured, and its weight beside what is seen: so many degrees of freedom."""

MEDIAN_ERROR = 1.25
"""The standard error of a median, as a multiple of the mean's."""


@dataclass(frozen=True)
class Limits:
    """By how much a cell may get worse.

    Attributes:
        threshold: The largest rise in time that passes, as a share.
        loss_tolerance: The same for the mean of what is reported, which may fall where higher is
            better; None where rounding decides.
        dtype: The precision of its objective.
        measure: What is reported of it.
    """

    threshold: float
    loss_tolerance: float | None
    dtype: str
    measure: Measure = TRAIN_LOSS


@dataclass(frozen=True)
class MeasurementComparison:
    """Two sets of measurements of a suite.

    Attributes:
        before: The older ones.
        now: The newer ones.
        paired: Whether the processes of both sides ran side by side, two by two.
        unstable_reference: Whether the reference loop is unstable: it differs from itself.
        cpu_starved: Whether others left too little of a processor for a change to be believed.
    """

    before: Baseline
    now: Baseline
    paired: bool = False
    unstable_reference: bool = False
    cpu_starved: bool = False

    @functools.cached_property
    def time_differs(self) -> list[str]:
        """Reasons why times can't be compared."""
        return time_differs(self.before, self.now)

    @functools.cached_property
    def counts_differ(self) -> list[str]:
        """Reasons why counts can't be compared."""
        return counts_differ(self.before, self.now)

    @functools.cached_property
    def spread(self) -> tuple[float, int]:
        """The standard deviation between processes, and the degrees of freedom behind it."""
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
        old, new = (statistics.median(c.times) if c.times else None for c in (before, now))
        judged = functools.partial(Judgement, "time", before=old, now=new, limit=limit)
        if self.time_differs:
            return judged("not comparable", "; ".join(self.time_differs))
        if new is None:
            return judged("failed", "could not be measured")
        if old is None:
            return judged("missing", "the other side has no time")
        if before.clock != now.clock:
            why = f"measured by the {before.clock} clock then, by the {now.clock} clock now"
            return judged("not comparable", why)
        if self.paired and len(before.times) != len(now.times):
            return judged("failed", "could not be measured in every process")
        change, low, high = self._change(before, now)
        outcome, why = _moved(change, limit), ""
        if outcome != "fine":
            count = len(now.times)
            why = "one process" if count == 1 else f"median of {count} processes"
        if self.unstable_reference:
            outcome, why = "inconclusive", "the reference loop is unstable: the machine is busy"
        elif self.cpu_starved and outcome != "fine":
            outcome, why = (
                "inconclusive",
                "other programs took too much of the processor: the machine is busy",
            )
        return judged(outcome, why, change=change, low=low, high=high)

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
        """Judge a cell's final loss, or what is reported; both sides must have the cell."""
        before, now = self.before.cells[cell_id].loss, self.now.cells[cell_id].loss
        limit = limits.loss_tolerance
        if limit is None:
            same = same_rounding(self.before, self.now)
            limit = (SAME if same else OTHER)[limits.dtype]
            if not same and limits.measure != TRAIN_LOSS:
                limit = max(limit, OTHER_MEASURE)
        judged = functools.partial(
            Judgement,
            "loss",
            before=before.mean,
            now=now.mean,
            limit=limit,
            measure=measure_name(limits.measure),
        )
        if now.failed:
            return judged("failed", f"{plural(now.failed, 'trial')} ended in an error")
        if now.diverged:
            then = f"; {before.diverged} did before" if before.diverged else ""
            return judged("regressed", f"{plural(now.diverged, 'trial')} diverged{then}")
        if self.before.seeds != self.now.seeds:
            why = f"seeds {self.before.seeds} then, {self.now.seeds} now"
            return judged("not comparable", why)
        if before.measure != now.measure:
            return judged("not comparable", f"{before.measure} then, {now.measure} now")
        if now.ok > before.ok:
            return judged("better", f"{plural(now.ok, 'trial')} ok, {before.ok} before")
        if before.mean is None or now.mean is None:
            return judged("not comparable", "every trial on the other side failed")
        return _moved_values(judged(outcome="fine"), before, now, limits)

    def count(self, metric: Metric, cell_id: str) -> Judgement:
        """Judge an exact count of a cell; both sides must have the cell."""
        cells = self.before.cells[cell_id], self.now.cells[cell_id]
        old, new = (
            {"operators": c.operators, "calls": c.calls, "state": c.state_bytes}[metric]
            for c in cells
        )
        judged = functools.partial(Judgement, metric, before=old, now=new)
        if self.counts_differ:
            return judged("not comparable", "; ".join(self.counts_differ))
        if new is None:
            return judged("failed", "could not be counted")
        if old is None:
            return judged("missing", "the other side has no count")
        then, here = (cell.counted_steps for cell in cells)
        if then != here:
            return judged("not comparable", f"counted over {then} steps then, {here} now")
        return judged(_moved(new - old, 0), change=new / old - 1 if old else None)

    def cell(self, cell_id: str, limits: Limits) -> tuple[Judgement, ...]:
        """Judge everything of a cell that both sides have."""
        counts: tuple[Metric, ...] = ("operators", "calls", "state")
        return (
            self.time(cell_id, limits),
            self.loss(cell_id, limits),
            *(self.count(metric, cell_id) for metric in counts),
        )


def measure_name(measure: Measure) -> str:
    """The name of what is reported, where it is not the loss on train; else empty."""
    return "" if measure == TRAIN_LOSS else measure.name


def warn_only(judgements: Iterable[Judgement], metrics: Collection[str]) -> tuple[Judgement, ...]:
    """Have some metrics never fail a check."""
    return tuple(
        replace(judged, only_warns=True) if judged.metric in metrics else judged
        for judged in judgements
    )


def _moved_values(judged: Judgement, before: Loss, now: Loss, limits: Limits) -> Judgement:
    """A judgement on the means of both sides, which are known."""
    old, new, measure = judged.before or 0.0, judged.now or 0.0, limits.measure
    # As a share of its size: a rise is positive, whatever the sign of the value.
    size = abs(old)
    judged = replace(judged, change=new / size - old / size if size else None)
    if before.bits == now.bits:
        return replace(judged, why="bit-identical")
    room = judged.limit * size
    if measure.metric == "loss":
        # What is below the rounding of the loss at the start is no loss to speak of.
        room += stats.EPSILON[limits.dtype] * abs(before.start or 0.0)
    verb = "rose" if new > old else "fell"
    why = f"mean {judged.measure} {verb} from {_with_places(old, new)}"
    why = why if judged.measure else f"the mean over seeds {verb}"
    if measure.sign * new > measure.sign * old + room:
        return replace(judged, outcome="regressed", why=why)
    if measure.sign * new < measure.sign * old - room:
        return replace(judged, outcome="better", why=why)
    return judged


def _with_places(old: float, new: float) -> str:
    """``0.971 to 0.950``: two values of at most six digits, with as many decimals each."""
    texts = [f"{value:.6g}" for value in (old, new)]
    if any("e" in text for text in texts):
        return " to ".join(texts)
    places = max(len(text.partition(".")[2]) for text in texts)
    return f"{old:.{places}f} to {new:.{places}f}"


def _moved(rise: float, limit: float) -> Outcome:
    """The outcome of a rise, of which more than a limit is worse, and as much of a fall better."""
    return "regressed" if rise > limit else "better" if rise < -limit else "fine"


def _standard_error(times: Sequence[float]) -> float:
    """The standard error of the median of some processes, for a standard deviation of 1."""
    return (MEDIAN_ERROR if len(times) > 2 else 1.0) / math.sqrt(len(times))
