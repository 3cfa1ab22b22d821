"""Tables of single cases: final losses, end points, seconds, failures, and how trials ran."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis import stats
from harness.analysis.comparison import REL_TOL
from harness.formatting import (
    DASH,
    decimals,
    fixed,
    general,
    interval,
    number,
    or_dash,
    plural,
    seed_ranges,
    share,
    significant,
    significant_interval,
)
from harness.reporting import wording
from harness.reporting.tables import metrics, reproduce, sharing, stopped
from harness.reporting.tables.model import Column, Table, case_columns, table_of
from harness.results import STATUSES
from harness.store.read import CaseData, ObjectiveInfo, Results

Array = NDArray[np.float64]

NOISY = 0.1
"""Noise of a case's block times above which they are called noisy.

On an idle machine the blocks' interquartile range is some percent of their median, and the
processor is ours but for some thousandths of the time; with others at work it is 15 to 40%. The
seconds then say as much of the others as of the optimizer.
"""


def build(results: Results, means: Mapping[int, stats.Mean]) -> list[Table]:
    """Every table of trials and times that the results allow.

    Args:
        results: What was run.
        means: By a case's position, its mean final loss; see ``comparison.mean_losses``.
    """
    tables = (
        final_loss(results, means),
        metrics.metrics(results),
        stopped.stopped(results),
        end_points(results),
        epoch_seconds(results),
        failures(results),
        sharing.sharing(results),
    )
    return [table for table in tables if table is not None]


def of_all(results: Results) -> list[Table]:
    """The tables that are of trials of all objectives, not of one or another."""
    tables = (failures(results), sharing.sharing(results))
    return [table for table in tables if table is not None]


OUTCOMES = {"unavailable": "skipped", "timeout": "timed out"}
"""The words for statuses, where they are others."""


class _FinalLoss(NamedTuple):
    case: CaseData
    info: ObjectiveInfo
    losses: Array
    mean: stats.Mean
    median: stats.Mean
    gap: stats.Mean
    statuses: dict[str, int]

    @property
    def centre(self) -> stats.Mean:
        """The median where the optimum is known, else the mean."""
        return self.mean if math.isnan(self.gap.mean) else self.median

    @property
    def ends(self) -> tuple[float, float]:
        """The best and the worst; NaN of none."""
        if not len(self.losses):
            return math.nan, math.nan
        low, high = float(self.losses.min()), float(self.losses.max())
        return (high, low) if self.info.measure.higher else (low, high)


def _as_known(row: _FinalLoss, value: float) -> str:
    """A loss in as many digits as the interval allows."""
    centre = row.centre
    return number(value, decimals(centre.mean, centre.low, centre.high))


def _ends(row: _FinalLoss) -> str:
    """An interval; none where all seeds give the same result."""
    centre = row.centre
    places = decimals(centre.mean, centre.low, centre.high)
    return DASH if alike(row.losses) else interval(centre.low, centre.high, places)


def _gap(row: _FinalLoss, text: str) -> str:
    """A text on the gap; empty where that is not known."""
    return "" if math.isnan(row.gap.mean) else text


def _gap_ends(row: _FinalLoss) -> str:
    return DASH if alike(row.losses) else significant_interval(row.gap.low, row.gap.high)


def _sd(row: _FinalLoss) -> str:
    """The standard deviation, where the mean stands for the losses."""
    if not math.isnan(row.gap.mean):
        return ""
    return _as_known(row, row.mean.sd) if row.mean.sd else "0"


def _outcomes(row: _FinalLoss) -> str:
    """Counts of outcomes; empty where every trial ended ok."""
    counts = [f"{count} {OUTCOMES.get(word, word)}" for word, count in row.statuses.items()]
    return "" if set(row.statuses) <= {"ok"} else ", ".join(counts)


def _loss(name: str, value: Callable[[_FinalLoss], float]) -> Column[_FinalLoss]:
    return Column(name, name, value, text=lambda r: _as_known(r, value(r)))


_MEASURE: Column[_FinalLoss] = Column("measure", "", lambda r: r.info.words)

_VALUE: Column[_FinalLoss] = Column("", "loss", text=lambda r: _as_known(r, r.centre.mean))

_FINAL_LOSS: tuple[Column[_FinalLoss], ...] = (
    *case_columns(lambda r: r.case),
    _MEASURE,
    _VALUE,
    Column("", "95% interval", text=_ends),
    Column("mean", "", lambda r: r.mean.mean),
    Column("sd", "", lambda r: r.mean.sd),
    Column("", "sd", text=_sd),
    Column("ci_low", "", lambda r: r.mean.low),
    Column("ci_high", "", lambda r: r.mean.high),
    Column("median", "", lambda r: r.median.mean),
    Column("median_ci_low", "", lambda r: r.median.low),
    Column("median_ci_high", "", lambda r: r.median.high),
    Column(
        "gap_to_optimum",
        "gap to optimum",
        lambda r: r.gap.mean,
        text=lambda r: _gap(r, significant(r.gap.mean)),
    ),
    Column("gap_ci_low", "", lambda r: r.gap.low),
    Column("gap_ci_high", "", lambda r: r.gap.high),
    Column("", "95% interval of gap", text=lambda r: _gap(r, _gap_ends(r))),
    _loss("best", lambda r: r.ends[0]),
    _loss("worst", lambda r: r.ends[1]),
    Column("n", "n", lambda r: r.mean.n),
    Column("statuses", "", lambda r: " ".join(f"{word}:{n}" for word, n in r.statuses.items())),
    Column("", "outcomes", text=_outcomes),
)


def final_loss(results: Results, means: Mapping[int, stats.Mean]) -> Table | None:
    """Final loss of every case, with everything that did not end well counted beside it."""
    rows: list[_FinalLoss] = []
    for case in results.cases:
        trials = results.trials[results.trials["position"] == case.position]
        if trials["status"].eq("unavailable").all():
            continue
        losses = trials.loc[trials["status"] == "ok", "final_loss"].to_numpy()
        mean, info = means[case.position], results.objectives[case.objective]
        optimum = info.optimum
        if optimum is not None:
            mean = replace(mean, low=math.nan, high=math.nan)
        median, ends = stats.spread(losses).median, stats.median_interval(losses)
        middle = stats.Mean(median, math.nan, *ends, len(losses))
        gap, low, high = (above(loss, optimum) for loss in (median, *ends))
        counts = trials["status"].value_counts()
        statuses: dict[str, int] = {
            status: int(counts[status]) for status in STATUSES if status in counts
        }
        gaps = stats.Mean(gap, math.nan, low, high, len(losses))
        rows.append(_FinalLoss(case, info, losses, mean, middle, gaps, statuses))
    places = {name: i for i, name in enumerate(results.objectives)}
    rows.sort(key=lambda row: (places[row.case.objective], row.case.device, _place(row)))
    words = wording.common(row.info for row in rows)
    what = "Loss over all data" if words == wording.LOSS else f"{words.capitalize()}"
    note = (
        f"{what} after the last step, of the n seeds that ended ok; every other seed is "
        "counted under outcomes and in no other number. Where the lowest possible loss is known: "
        "the median with its 95% interval from order statistics (six seeds or more), and its gap "
        "to the lowest possible loss. Else: the mean with its 95% bootstrap-t interval (four seeds "
        "or more) and the standard deviation (n − 1). No interval where all seeds give the same "
        "result. The CSV has mean and median of all."
    )
    if len(stopped.early(results.trials)):
        note += f" {stopped.CARRIED}"
    if words == wording.ANY:
        note += " Value: of what is reported of the objective, which the CSV names under measure."
    return table_of("final_loss", f"Final {words}", _with_words(words), rows, note)


def _with_words(words: str) -> list[Column[_FinalLoss]]:
    """The columns of final values, under the name of what they are."""
    known = [one for one in _FINAL_LOSS if words != wording.LOSS or one is not _MEASURE]
    return [replace(one, heading=words) if one is _VALUE else one for one in known]


def _place(row: _FinalLoss) -> tuple[bool, int, float, str]:
    """The key by which rows of an objective are sorted: fewest failures first, then the best."""
    cost = row.info.measure.sign * row.centre.mean
    failed = sum(row.statuses.values()) - row.statuses.get("ok", 0)
    ended = math.isfinite(cost)
    return not ended, failed, cost if ended else 0.0, row.case.label


def above(loss: float, optimum: float | None) -> float:
    """A loss less the optimum; NaN where that is not known, 0 where only rounding parts them."""
    if optimum is None:
        return math.nan
    return float(stats.gap(loss, optimum))


def alike(losses: Array) -> bool:
    """Tell if all of two or more losses are the same but for rounding."""
    return len(losses) > 1 and bool(np.ptp(losses) <= REL_TOL * np.abs(losses).max())


class _EndPoint(NamedTuple):
    case: CaseData
    steps: int
    mean: Array
    sd: Array
    distance: float
    n: int


_END_POINTS: tuple[Column[_EndPoint], ...] = (
    *case_columns(lambda r: r.case),
    Column("steps", "steps", lambda r: r.steps),
    Column("x1", "x1", lambda r: r.mean[0], fixed(6)),
    Column("x2", "x2", lambda r: r.mean[1], fixed(6)),
    Column("x1_sd", "sd of x1", lambda r: r.sd[0], lambda sd: number(sd, 6) if sd else "0"),
    Column("x2_sd", "sd of x2", lambda r: r.sd[1], lambda sd: number(sd, 6) if sd else "0"),
    Column("distance_to_minimum", "distance to minimum", lambda r: r.distance, significant),
    Column("n", "n", lambda r: r.n),
)


def end_points(results: Results) -> Table | None:
    """Points at which trajectories of one or two parameters ended."""
    rows = []
    for case in results.cases:
        trials = results.trials[results.trials["position"] == case.position]
        seeds = trials.loc[trials["status"] == "ok", "seed"]
        ends = np.array([case.trajectories[s][-1] for s in seeds if s in case.trajectories])
        if not len(ends):
            continue
        info, differ = results.objectives[case.objective], np.ptp(ends, axis=0) > 0
        mean = ends.mean(axis=0) if differ.any() else ends[0]
        sd = ends.std(axis=0, ddof=1) if len(ends) > 1 else np.full(len(mean), math.nan)
        sd = np.where(differ, sd, 0)
        apart = (float(np.linalg.norm(mean - np.asarray(point))) for point in info.minimizers)
        nearest = min(apart, default=math.nan)
        # Of one parameter there is no second.
        mean, sd = (np.append(own, [math.nan] * (2 - len(own))) for own in (mean, sd))
        rows.append(_EndPoint(case, info.steps, mean, sd, nearest, len(ends)))
    note = (
        "x1 and x2 after the last step, averaged over the n seeds that ended ok, with their "
        "standard deviation (0 where every seed starts at the same point and nothing is drawn), "
        "and the distance of that point from the nearest known minimum."
    )
    return table_of("end_points", "End points of trajectories", _END_POINTS, rows, note)


@dataclass(frozen=True, eq=False)
class EpochSeconds:
    """Seconds per epoch of one case.

    Attributes:
        case: The case.
        reference: The case that its speed is compared to.
        seconds: Per epoch, over the blocks.
        steps: Steps in an epoch.
        cpu_seconds: Median per epoch, of the processor.
        cpu_share: The processor's share of the time.
        ratio: Median over rounds of the ratio of its time to the reference's.
        ratio_ends: The ends of the ratio's interval.
        counts: Operators and Python calls per step, bytes; NaN where they are not known.
        noise: By which share its times vary, or the processor was at something else.
    """

    case: CaseData
    reference: CaseData
    seconds: stats.Spread
    steps: float
    cpu_seconds: float
    cpu_share: float
    ratio: float
    ratio_ends: tuple[float, float]
    counts: pd.Series[float]
    noise: float


def _ratio(row: EpochSeconds, text: str, of_reference: str) -> str:
    return of_reference if row.case is row.reference else text


_PEAK: Column[EpochSeconds] = Column(
    "",
    "peak memory (MiB)",
    lambda r: r.counts["peak_bytes"] / 2**20,
    significant,
    "Peak memory is the most that torch held at once on the GPU, data included.",
)

_EPOCH_SECONDS: tuple[Column[EpochSeconds], ...] = (
    *case_columns(lambda r: r.case),
    Column("median_seconds", "median (s/epoch)", lambda r: r.seconds.median, significant),
    Column("q1_seconds", "", lambda r: r.seconds.q1),
    Column("q3_seconds", "", lambda r: r.seconds.q3),
    Column("iqr_seconds", "IQR (s/epoch)", lambda r: r.seconds.iqr, significant),
    Column("n", "n", lambda r: r.seconds.n),
    Column("seconds_per_step", "", lambda r: r.seconds.median / r.steps),
    Column("", "µs/step", lambda r: r.seconds.median / r.steps * 1e6, fixed(1)),
    Column("reference", "", lambda r: r.reference.label),
    Column("ratio", "", lambda r: r.ratio),
    Column("", "ratio", lambda r: _ratio(r, number(r.ratio, 2), "1")),
    Column("ratio_ci_low", "", lambda r: r.ratio_ends[0]),
    Column("ratio_ci_high", "", lambda r: r.ratio_ends[1]),
    Column("", "95% interval of ratio", lambda r: _ratio(r, interval(*r.ratio_ends, 2), DASH)),
    Column("median_cpu_seconds", "", lambda r: r.cpu_seconds),
    Column("cpu_share", "", lambda r: r.cpu_share),
    Column("operators_per_step", "operators/step", lambda r: r.counts["operators"], general(4)),
    Column("calls_per_step", "", lambda r: r.counts["calls"]),
    Column("state_bytes", "state (bytes)", lambda r: r.counts["state_bytes"], fixed(0)),
    Column("peak_bytes", "", lambda r: r.counts["peak_bytes"]),
    Column("noise", "", lambda r: r.noise),
    Column("noisy", "", lambda r: "yes" if r.noise > NOISY else "no"),
    _PEAK,
    Column("", "noise", lambda r: f"{'noisy: ' if r.noise > NOISY else ''}{share(r.noise)}"),
)


def epoch_seconds(results: Results) -> Table | None:
    """Seconds per epoch from the timing pass."""
    rows = list(timed(results))
    threads = results.run.environment.get("threads", "")
    with_threads = f", with {plural(int(threads), 'thread')}" if threads else ""
    note = (
        "Wall time of n blocks of steps, scaled to an epoch (one pass over the data; without "
        "data, one step). On the clock: shuffling and gathering the batch, forward and backward "
        "pass, the optimizer's step. Off it: loading data, the first step, evaluation, recording, "
        f"rounds to warm up. One trial at a time{with_threads}, nothing beside it, cases taking "
        "turns. The ratio is the median over rounds of this case's time to that of the first "
        "optimizer in the same round; its interval comes from order statistics. Operators of torch "
        "and bytes of optimizer state are counted, exactly, off the clock. Noise is the "
        "interquartile range as a share of the median or, where that is more, the share of the "
        "time in which the processor was at something else (on a CPU, with one thread). Above "
        f"{share(NOISY)} a case is noisy: the machine was busy, and the ratios are to be trusted "
        "more than the seconds."
    )
    on_gpu = any(math.isfinite(row.counts["peak_bytes"]) for row in rows)
    columns = [one for one in _EPOCH_SECONDS if on_gpu or one is not _PEAK]
    table = table_of("seconds_per_epoch", "Seconds per epoch", columns, rows, note)
    whole = {"state_bytes": "Int64", "peak_bytes": "Int64"}
    return replace(table, frame=table.frame.astype(whole)) if table is not None else None


def timed(results: Results) -> Iterator[EpochSeconds]:
    """Seconds per epoch of every case that was timed."""
    blocks = dict(iter(results.timings.set_index("round").groupby("position")))
    counts = results.step_counts.set_index("position").astype(float)
    counts[["operators", "calls"]] = counts[["operators", "calls"]].div(
        counts["counted_steps"], axis=0
    )
    one_thread = results.run.environment.get("threads") == "1"
    for case in results.cases:
        own = blocks.get(case.position)
        if own is None:
            continue
        here = [c for c in results.cases_on(case.objective) if c.device == case.device]
        reference = next(other for other in here if other.position in blocks)
        ratios = own["epoch_seconds"] / blocks[reference.position]["epoch_seconds"]
        known = ratios.dropna().to_numpy()
        seconds = stats.spread(own["epoch_seconds"])
        noise, scale = seconds.relative, own["epoch_seconds"] / own["seconds"]
        if case.device.startswith("cpu") and one_thread:
            noise = max(noise, stats.waiting(own["seconds"], own["cpu_seconds"]))
        yield EpochSeconds(
            case=case,
            reference=reference,
            seconds=seconds,
            steps=float(own["steps_per_epoch"].iloc[0]),
            cpu_seconds=stats.spread(own["cpu_seconds"] * scale).median,
            cpu_share=float(own["cpu_seconds"].sum() / own["seconds"].sum()),
            ratio=float(np.median(known)),
            ratio_ends=stats.median_interval(known),
            counts=counts.reindex([case.position]).iloc[0],
            noise=noise,
        )


def most_compared(results: Results) -> list[EpochSeconds]:
    """The times where most optimizers can be compared; of several such places, the slowest."""
    groups: dict[tuple[str, str], list[EpochSeconds]] = {}
    for row in timed(results):
        if row.case.role != "defaults":
            groups.setdefault((row.case.objective, row.case.device), []).append(row)

    def weight(group: Sequence[EpochSeconds]) -> tuple[int, float]:
        return len({r.case.optimizer for r in group}), max(r.seconds.median for r in group)

    return max(groups.values(), key=weight, default=[])


class _Failures(NamedTuple):
    objective: str
    optimizer: str
    setting: str
    device: str
    status: str
    reason: str
    trials: pd.DataFrame
    repeat: str

    @property
    def steps(self) -> tuple[int, int]:
        """The first and the last step at which one ended."""
        return int(self.trials["step"].min()), int(self.trials["step"].max())


_FAILURES: tuple[Column[_Failures], ...] = (
    Column("objective", "objective", lambda r: r.objective),
    Column("optimizer", "optimizer", lambda r: r.optimizer),
    Column("setting", "setting", lambda r: r.setting, or_dash),
    Column("device", "device", lambda r: r.device),
    Column("status", "outcome", lambda r: r.status, lambda s: OUTCOMES.get(s, s)),
    Column("trials", "trials", lambda r: len(r.trials)),
    Column("seeds", "seeds", lambda r: seed_ranges(r.trials["seed"])),
    Column("first_step", "", lambda r: r.steps[0]),
    Column("last_step", "", lambda r: r.steps[1]),
    Column("", "step", lambda r: " to ".join(map(str, dict.fromkeys(r.steps)))),
    Column("reason", "reason", lambda r: r.reason),
    Column("repeat", "repeat with", lambda r: r.repeat),
)


def failures(results: Results) -> Table | None:
    """Trials that failed or were skipped, alike ones together."""
    trials = results.trials[results.trials["status"] != "ok"]
    absent = trials["status"] == "unavailable"
    # A device that is missing is so for all cases.
    grouped = trials.assign(case=trials["position"].mask(absent, -1))
    grouped = pd.concat([grouped[absent], grouped[~absent]])
    by_position = {case.position: case for case in results.cases}
    rows = []
    keys = ["case", "device", "status", "reason"]
    for (position, _, status, reason), group in grouped.groupby(keys, sort=False):
        case = by_position[group["position"].iloc[0]]
        named = (case.objective, case.optimizer, case.setting)
        if position == -1:
            several = group["position"].nunique() > 1
            named = ("all", "all" if several else case.optimizer, "")
        repeat = reproduce.repeat(results.run, case, int(group["seed"].min()))
        rows.append(_Failures(*named, case.device, str(status), str(reason), group, repeat))
    note = (
        "Trials that diverged, failed or were skipped, with the step and the reason; alike ones "
        "share a row. No value is imputed for them anywhere. Repeat with: the command that runs "
        "just the row's trial with the lowest seed again, with results of its own, in the folder "
        "of the run's own command."
    )
    return table_of("failures", "Failed and skipped trials", _FAILURES, rows, note)
