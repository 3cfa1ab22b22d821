"""The report's tables: numbers for machines in one frame, text for people in another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from harness.analysis import stats
from harness.analysis.comparison import ALIKE
from harness.formatting import (
    DASH,
    decimals,
    exactly,
    interval,
    number,
    percent,
    seed_ranges,
    significant,
)
from harness.gate.report import METRICS, CellVerdict, GateReport, Judgement, Metric
from harness.reporting.tables import reproduce
from harness.reporting.tables.model import Table
from harness.results import STATUSES
from harness.store.read import CaseData, Results

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
    tables = [
        final_loss(results, means) if results.cases else None,  # none are known while all tune
        end_points(results),
        epoch_seconds(results),
        failures(results),
        sharing(results),
    ]
    return [table for table in tables if table is not None and len(table.frame)]


def final_loss(results: Results, means: Mapping[int, stats.Mean]) -> Table:
    """Final loss of every case, with everything that did not end well counted beside it."""
    rows, shown = [], []
    for case in results.cases:
        trials = results.trials[results.trials["position"] == case.position]
        losses = trials.loc[trials["status"] == "ok", "final_loss"].to_numpy()
        mean, median = means[case.position], stats.spread(losses).median
        middle = stats.median_interval(losses)
        optimum = results.objectives[case.objective].optimum
        gap = above(median, optimum)
        gap_ends = above(middle[0], optimum), above(middle[1], optimum)
        if optimum is not None:
            mean = replace(mean, low=math.nan, high=math.nan)
        best = float(losses.min()) if len(losses) else math.nan
        worst = float(losses.max()) if len(losses) else math.nan
        statuses = trials["status"].value_counts()
        counts: dict[str, int] = {s: int(statuses.get(s, 0)) for s in STATUSES}
        rows.append(
            {
                **identity(case),
                "mean": mean.mean,
                "sd": mean.sd,
                "ci_low": mean.low,
                "ci_high": mean.high,
                "median": median,
                "best": best,
                "worst": worst,
                "median_ci_low": middle[0],
                "median_ci_high": middle[1],
                "gap_to_optimum": gap,
                "gap_ci_low": gap_ends[0],
                "gap_ci_high": gap_ends[1],
                "n": mean.n,
                **counts,
            }
        )
        digits = decimals(mean.mean, mean.low, mean.high)
        equal = alike(losses)
        places = decimals(median, *middle)
        shown.append(
            {
                **shown_identity(case),
                "mean": number(mean.mean, digits),
                "sd": "0" if mean.sd == 0 else number(mean.sd, digits),
                "95% interval of mean": DASH if equal else interval(mean.low, mean.high, digits),
                "median": number(median, places),
                "95% interval of median": DASH if equal else interval(*middle, places),
                "best": number(best, places),
                "worst": number(worst, places),
                "median gap to optimum": significant(gap, 3),
                "95% interval of gap": DASH if equal else _significant_interval(*gap_ends),
                "n": str(mean.n),
                "statuses": ", ".join(f"{n} {s}" for s, n in counts.items() if n),
            }
        )
    frame, text = pd.DataFrame(rows), pd.DataFrame(shown)
    statuses_text = frame[list(STATUSES)].apply(
        lambda row: " ".join(f"{s}:{n}" for s, n in row.items() if n), axis=1
    )
    frame = frame.drop(columns=list(STATUSES)).assign(statuses=statuses_text)
    return Table(
        "final_loss",
        "Final loss",
        "Loss over all data after the last step. Mean, standard deviation (n − 1), 95% bootstrap-t "
        "interval of the mean (of four seeds or more), median with its 95% interval from order "
        "statistics (of six or more), best and worst are of the n seeds that ended ok; every other "
        "seed is counted under statuses and in no other number; there is no interval where all "
        "seeds end alike. The gap is the median less the lowest loss there is, where that is "
        "known; there it stands for the losses, and the mean, which may be that of the worst seed "
        "alone, has no interval.",
        frame,
        text,
    )


def above(loss: float, optimum: float | None) -> float:
    """A loss less the optimum; NaN where that is not known, 0 where only rounding parts them."""
    if optimum is None:
        return math.nan
    gap = loss - optimum
    rounding = stats.ROUNDING["float32"] * max(abs(loss), abs(optimum))
    return 0.0 if -rounding <= gap < 0 else gap


def alike(losses: np.ndarray) -> bool:
    """Whether all of two or more losses are the same but for rounding."""
    return len(losses) > 1 and bool(np.ptp(losses) <= ALIKE * np.abs(losses).max())


def _significant_interval(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return DASH
    return f"{significant(low, 3)} to {significant(high, 3)}"


def end_points(results: Results) -> Table | None:
    """Where two-dimensional trajectories ended."""
    rows, shown = [], []
    for case in results.cases:
        ok = results.trials[
            (results.trials["position"] == case.position) & (results.trials["status"] == "ok")
        ]
        ends = np.array([case.trajectories[s][-1] for s in ok["seed"] if s in case.trajectories])
        if not len(ends):
            continue
        mean = ends.mean(axis=0) if np.ptp(ends, axis=0).any() else ends[0]
        sd = ends.std(axis=0, ddof=1) if len(ends) > 1 else np.full(2, math.nan)
        sd = np.where(np.ptp(ends, axis=0) == 0, 0.0, sd)
        distance = _distance(mean, results.objectives[case.objective].minimizers)
        steps = results.objectives[case.objective].steps
        rows.append(
            {
                **identity(case),
                "steps": steps,
                "x1": mean[0],
                "x2": mean[1],
                "x1_sd": sd[0],
                "x2_sd": sd[1],
                "distance_to_minimum": distance,
                "n": len(ends),
            }
        )
        shown.append(
            {
                **shown_identity(case),
                "steps": str(steps),
                "x1": f"{mean[0]:.6f}",
                "x2": f"{mean[1]:.6f}",
                "sd of x1": number(sd[0], 6) if sd[0] else "0",
                "sd of x2": number(sd[1], 6) if sd[1] else "0",
                "distance to minimum": significant(distance, 3),
                "n": str(len(ends)),
            }
        )
    if not rows:
        return None
    return Table(
        "end_points",
        "End points of the 2D trajectories",
        "x1 and x2 after the last step, averaged over the n seeds that ended ok, with their "
        "standard deviation (0 where every seed starts at the same point and nothing is drawn), "
        "and the distance of that point from the nearest known minimum.",
        pd.DataFrame(rows),
        pd.DataFrame(shown),
    )


def epoch_seconds(results: Results) -> Table | None:
    """Seconds per epoch from the timing pass."""
    rows, shown = [], []
    timings = results.timings
    for case in results.cases:
        blocks = timings[timings["position"] == case.position].set_index("round")
        if blocks.empty:
            continue
        own = stats.spread(blocks["epoch_seconds"])
        reference = reference_case(results, case)
        ratio, low, high = _paired_ratio(results, case, reference)
        per_step = own.median / float(blocks["steps_per_epoch"].iloc[0])
        scale = blocks["epoch_seconds"] / blocks["seconds"]
        counted = _step_counts(results, case)
        noise = _noise(results, case, blocks)
        rows.append(
            {
                **identity(case),
                "median_seconds": own.median,
                "q1_seconds": own.q1,
                "q3_seconds": own.q3,
                "iqr_seconds": own.iqr,
                "n": own.n,
                "seconds_per_step": per_step,
                "reference": reference.label,
                "ratio": ratio,
                "ratio_ci_low": low,
                "ratio_ci_high": high,
                "median_cpu_seconds": stats.spread(blocks["cpu_seconds"] * scale).median,
                "cpu_share": float(blocks["cpu_seconds"].sum() / blocks["seconds"].sum()),
                **counted,
                "noise": noise,
                "noisy": "yes" if noise > NOISY else "no",
            }
        )
        shown.append(
            {
                **shown_identity(case),
                "median (s/epoch)": significant(own.median),
                "IQR (s/epoch)": significant(own.iqr),
                "n": str(own.n),
                "µs/step": f"{per_step * 1e6:.1f}",
                "ratio": "1" if case is reference else number(ratio, 2),
                "95% interval of ratio": DASH if case is reference else interval(low, high, 2),
                "operators/step": _count(counted["operators_per_step"]),
                "state (bytes)": _whole(counted["state_bytes"]),
                "peak memory (MiB)": significant(counted["peak_bytes"] / 2**20, 3),
                "noise": f"noisy: {noise:.0%}" if noise > NOISY else f"{noise:.0%}",
            }
        )
    if not rows:
        return None
    frame, text = pd.DataFrame(rows), pd.DataFrame(shown)
    for column in ("state_bytes", "peak_bytes"):
        frame[column] = frame[column].astype("Int64")
    on_gpu = bool(frame["peak_bytes"].notna().any())
    note = _TIMING_NOTE.format(threads=_threads(results), limit=f"{NOISY:.0%}")
    return Table(
        "seconds_per_epoch",
        "Seconds per epoch",
        note + _PEAK_NOTE if on_gpu else note,
        frame,
        text if on_gpu else text.drop(columns="peak memory (MiB)"),
    )


_TIMING_NOTE = (
    "Wall time of n blocks of steps, scaled to an epoch (one pass over the data; without "
    "data, one step). On the clock: shuffling and gathering the batch, forward and backward "
    "pass, the optimizer's step. Off it: loading data, the first step, evaluation, recording, "
    "rounds to warm up. One trial at a time{threads}, nothing beside it, cases taking turns. The "
    "ratio is the median over rounds of this case's time to that of the first optimizer in the "
    "same round; its interval comes from order statistics. Operators of torch and bytes of "
    "optimizer state are counted, exactly, off the clock. Noise is the interquartile range as a "
    "share of the median or, where that is more, the share of the time in which the processor "
    "was at something else (on a CPU, with one thread). Above {limit} a case is noisy: the "
    "machine was busy, and the ratios are to be trusted more than the seconds."
)
_PEAK_NOTE = " Peak memory is the most that torch held at once on the GPU, data included."


def _threads(results: Results) -> str:
    """With how many threads it was timed, where that is known."""
    count = results.run.environment.get("threads", "")
    return f", with {count} thread{'' if count == '1' else 's'}" if count else ""


def _step_counts(results: Results, case: CaseData) -> dict[str, float]:
    """What a step takes beside time; NaN where that is not known."""
    found = results.step_counts[results.step_counts["position"] == case.position]
    known = found.iloc[0] if len(found) else pd.Series(math.nan, index=found.columns)
    return {
        "operators_per_step": float(known["operators"] / known["counted_steps"]),
        "calls_per_step": float(known["calls"] / known["counted_steps"]),
        "state_bytes": float(known["state_bytes"]),
        "peak_bytes": float(known["peak_bytes"]),
    }


def _noise(results: Results, case: CaseData, blocks: pd.DataFrame) -> float:
    """How unsteady a case's times are, as a share: see the note of the table."""
    spread = stats.spread(blocks["epoch_seconds"]).relative
    if not case.device.startswith("cpu") or results.run.environment.get("threads") != "1":
        return spread
    return max(spread, stats.waiting(blocks["seconds"], blocks["cpu_seconds"]))


def _count(value: float) -> str:
    """A count per step: whole, unless some steps differ."""
    return DASH if math.isnan(value) else f"{value:.4g}"


def _whole(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.0f}"


def failures(results: Results) -> Table | None:
    """Trials that did not end ok, alike ones together."""
    trials = results.trials[results.trials["status"] != "ok"]
    if trials.empty:
        return None
    rows = []
    keys = ["position", "status", "reason"]
    by_position = {case.position: case for case in results.cases}
    absent = trials["status"] == "unavailable"
    for (device, reason), group in trials[absent].groupby(["device", "reason"], sort=False):
        cases = group["position"].nunique()
        rows.append(
            {
                "objective": "all",
                "optimizer": "all" if cases > 1 else group["optimizer"].iloc[0],
                "setting": "",
                "device": device,
                "status": "unavailable",
                "trials": len(group),
                "seeds": seed_ranges(group["seed"]),
                "first_step": 0,
                "last_step": 0,
                "reason": reason,
                "repeat": _repeat(results, by_position[group["position"].iloc[0]], group[:1]),
            }
        )
    for (position, status, reason), group in trials[~absent].groupby(keys, sort=False):
        case = by_position[int(str(position))]
        steps = group["step"]
        rows.append(
            {
                **identity(case),
                "status": status,
                "trials": len(group),
                "seeds": seed_ranges(group["seed"]),
                "first_step": int(steps.min()),
                "last_step": int(steps.max()),
                "reason": reason,
                "repeat": _repeat(results, case, group),
            }
        )
    frame = pd.DataFrame(rows)
    shown = pd.DataFrame(
        [
            {
                "objective": row["objective"],
                "optimizer": row["optimizer"],
                "setting": row["setting"] or DASH,
                "device": row["device"],
                "status": row["status"],
                "trials": str(row["trials"]),
                "seeds": row["seeds"],
                "step": (
                    str(row["first_step"])
                    if row["first_step"] == row["last_step"]
                    else f"{row['first_step']} to {row['last_step']}"
                ),
                "reason": row["reason"],
                "repeat with": row["repeat"],
            }
            for row in rows
        ]
    )
    return Table(
        "failures",
        "What did not end well",
        "Trials that diverged, failed or could not run, with the step and the reason. Alike "
        "ones share a row. None of them is replaced by a number anywhere. Repeat with: the "
        "command that runs just the row's trial with the lowest seed once more, with results of "
        "its own; run it where the run's own command was.",
        frame,
        shown,
    )


WAYS = {
    "pointwise": "side by side, op by op",
    "vmapped": "side by side, lane by lane",
    "alone": "alone",
    "vmap": "side by side",  # of an older version
}
"""How trials ran, in words."""


def sharing(results: Results) -> Table | None:
    """How the trials of every case ran, why so, and what those that ran alone as well showed."""
    rows, shown = [], []
    for case in results.cases:
        trials = results.trials_by_position.get(case.position)
        if trials is None:
            continue
        for (way, reason), group in trials[trials["way"] != ""].groupby(
            ["way", "way_reason"], sort=False
        ):
            known = results.comparisons
            known = known[
                (known["objective"] == case.objective)
                & (known["optimizer"] == case.optimizer)
                & (known["setting"] == case.setting)
                & (known["device"] == case.device)
                & (known["way"] == way)
            ]
            worst = float(known["difference"].max()) if len(known) else math.nan
            rows.append(
                {
                    **identity(case),
                    "way": way,
                    "trials": len(group),
                    "also_alone": len(known),
                    "largest_difference": worst,
                    "reason": reason,
                }
            )
            shown.append(
                {
                    **shown_identity(case),
                    "trials ran": WAYS[str(way)],
                    "trials": f"{len(group):,}",
                    "also run alone": str(len(known)) if len(known) else DASH,
                    "largest difference": significant(worst, 2),
                    "reason": str(reason) or DASH,
                }
            )
    if not rows:
        return None
    return Table(
        "sharing",
        "How trials ran",
        "Side by side, op by op: trials share tensors, and every operator of every step was seen "
        "to work element by element. Side by side, lane by lane: the optimizer's own code ran "
        "inside vmap. Alone: one trial at a time. The reason is what kept trials from running in "
        "the way before. One trial of each shared run was also run alone to its end; the "
        "difference is the largest of a recorded loss, relative to its size.",
        pd.DataFrame(rows),
        pd.DataFrame(shown),
    )


def _repeat(results: Results, case: CaseData, trials: pd.DataFrame) -> str:
    """The command for the trial with the lowest seed."""
    return reproduce.repeat(results.run, case, int(trials["seed"].min()))


def check(report: GateReport) -> Table:
    """Every cell of a check against its baseline."""
    rows, shown = [], []
    for cell in report.cells:
        time = cell.of("time")
        row: dict[str, str | float | int] = {
            "objective": cell.objective,
            "optimizer": cell.optimizer,
            "setting": cell.setting,
            "device": cell.device,
        }
        for metric in METRICS:
            judgement = cell.of(metric)
            row[f"{metric}_before"] = _number_of(judgement, "before")
            row[f"{metric}_now"] = _number_of(judgement, "now")
            row[f"{metric}_change"] = _number_of(judgement, "change")
            if metric == "time":
                row["time_ratio_ci_low"] = _number_of(judgement, "low")
                row["time_ratio_ci_high"] = _number_of(judgement, "high")
            row[f"{metric}_limit"] = _number_of(judgement, "limit")
            row[f"{metric}_outcome"] = judgement.outcome if judgement else ""
        rows.append({**row, "exit_status": cell.exit_status, "why": _whys(cell)})
        low, high = _number_of(time, "low"), _number_of(time, "high")
        shown.append(
            {
                "objective": cell.objective,
                "optimizer": cell.optimizer,
                "setting": cell.setting or DASH,
                "device": cell.device,
                "time (% change)": percent(_number_of(time, "change"), ""),
                "95% interval": f"{percent(low - 1, '')} to {percent(high - 1, '')}"
                if math.isfinite(low + high)
                else DASH,
                "loss": _before_and_now(cell, "loss"),
                "operators": _before_and_now(cell, "operators"),
                "calls": _before_and_now(cell, "calls"),
                "state (bytes)": _before_and_now(cell, "state"),
                "outcome": _whys(cell) or "fine",
            }
        )
    return Table(
        "check",
        "Against the baseline",
        f"Compared with {report.against}. Time: of a step, as a ratio to the reference loop that "
        "runs in turn with it; its change, with a 95% interval. Loss: mean final loss over the "
        "seeds. Operators dispatched and Python calls made in a step, and bytes of optimizer "
        "state, are exact. Where two numbers stand, the first is the baseline's.",
        pd.DataFrame(rows),
        pd.DataFrame(shown),
    )


def reference_case(results: Results, case: CaseData) -> CaseData:
    """What a case's speed is compared to: the first one timed on its objective and device."""
    timed = set(results.timings["position"])
    return next(
        c
        for c in results.cases
        if c.objective == case.objective and c.device == case.device and c.position in timed
    )


def _whys(cell: CellVerdict) -> str:
    """What of a cell is not fine, and why; metrics of which the same is said, together."""
    said: dict[str, list[str]] = {}
    for judgement in cell.judgements:
        if judgement.outcome != "fine":
            words = [judgement.why, "only warns" if judgement.only_warns else ""]
            reason = "; ".join(word for word in words if word)
            text = f"{judgement.outcome} ({reason})" if reason else judgement.outcome
            said.setdefault(text, []).append(judgement.metric)
    parts = [
        text if len(metrics) == len(cell.judgements) > 1 else f"{', '.join(metrics)} {text}"
        for text, metrics in said.items()
    ]
    return " ".join("; ".join(parts).split())


def _before_and_now(cell: CellVerdict, metric: Metric) -> str:
    """A number, or the two where it changed."""
    judgement = cell.of(metric)
    if judgement is None:
        return DASH
    before, now = (
        DASH if value is None else exactly(value) for value in (judgement.before, judgement.now)
    )
    return now if before == now else f"{before} → {now}"


def _number_of(judgement: Judgement | None, name: str) -> float:
    """A field of a judgement; NaN where it, or the whole, is None."""
    value = getattr(judgement, name, None)
    return math.nan if value is None else float(value)


def _paired_ratio(
    results: Results, case: CaseData, reference: CaseData
) -> tuple[float, float, float]:
    """Median over rounds of the ratio of two cases' times, with its interval."""
    timings = results.timings
    own, other = (
        timings[timings["position"] == c.position].set_index("round")["epoch_seconds"]
        for c in (case, reference)
    )
    ratios = (own / other).dropna().to_numpy()
    low, high = stats.median_interval(ratios)
    return float(np.median(ratios)), low, high


def identity(case: CaseData) -> dict[str, str]:
    """The columns that say which case a row is of."""
    return {
        "objective": case.objective,
        "optimizer": case.optimizer,
        "setting": case.setting,
        "device": case.device,
    }


def shown_identity(case: CaseData) -> dict[str, str]:
    """The same as a person reads them."""
    return {**identity(case), "setting": case.setting or DASH}


def _distance(point: np.ndarray, minimizers: Sequence[Sequence[float]]) -> float:
    if not minimizers:
        return math.nan
    return float(min(np.linalg.norm(point - np.asarray(m)) for m in minimizers))
