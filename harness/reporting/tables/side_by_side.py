"""The tables of results laid side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from harness import formatting
from harness.analysis import stats
from harness.analysis.comparison import REL_TOL
from harness.analysis.side_by_side import (
    TIMES,
    Difference,
    Item,
    Match,
    Side,
    SideBySide,
    Source,
    Verdict,
    seeds_text,
)
from harness.formatting import DASH, moment
from harness.reporting.tables import trials as trial_tables
from harness.reporting.tables.model import Table

LOSS, DIFFERENCES, ENDINGS = "final_loss", "differences", "other_endings"
NOT_EVERYWHERE, SPEED, MADE = "not_everywhere", "seconds_per_epoch", "how_made"
"""Names of the tables."""

Names = tuple[str, str, str, str]
"""Objective, optimizer, setting and device: what a case is called in a run."""


def build(beside: SideBySide) -> list[Table]:
    """Every table that there is something in."""
    built = [
        final_loss(beside),
        differences(beside),
        seconds(beside),
        other_endings(beside),
        not_everywhere(beside),
        how_made(beside),
    ]
    return [table for table in built if table is not None and len(table.frame)]


def final_loss(beside: SideBySide) -> Table | None:
    """Mean final loss with its interval of every case that ran in several sources."""
    rows, shown = [], []
    for match in beside.compared:
        common = bool(match.seeds)
        row: dict[str, Any] = {
            **trial_tables.identity(match.case),
            "seeds_in_common": len(match.seeds),
        }
        text = {**trial_tables.shown_identity(match.case), "seeds in common": str(len(match.seeds))}
        digits = max(
            (
                formatting.decimals(m.mean, m.low, m.high)
                for s in match.sides
                if s and (m := s.mean).n
            ),
            default=6,
        )
        for source, side in zip(beside.sources, match.sides, strict=True):
            mean = side.mean if side else None
            name = source.name
            of = 0 if side is None else len(match.seeds if common else side.ran)
            row |= {
                f"mean_{name}": mean.mean if mean else math.nan,
                f"ci_low_{name}": mean.low if mean else math.nan,
                f"ci_high_{name}": mean.high if mean else math.nan,
                f"ok_{name}": mean.n if mean else 0,
            }
            text |= _shown_mean(name, mean, of, digits)
        rows.append(row)
        shown.append(text)
    if not rows:
        return None
    return Table(
        LOSS,
        "Final loss, side by side",
        "Loss over all data after the last step: mean over the seeds in common that ended ok, with "
        "its 95% bootstrap-t interval (of four seeds or more); none where all "
        "seeds end alike. ok: how many of them did. Where no seed is in common, each mean is "
        "over all seeds of its own. A dash: the case is not there, or no trial of it ended ok.",
        pd.DataFrame(rows),
        pd.DataFrame(shown),
    )


def _shown_mean(name: str, mean: stats.Mean | None, of: int, digits: int) -> dict[str, str]:
    if mean is None or not of:
        text, ends, ok = DASH, DASH, DASH
    else:
        text = formatting.number(mean.mean, digits)
        ends = DASH if mean.sd == 0 else formatting.interval(mean.low, mean.high, digits)
        ok = f"{mean.n} of {of}"
    return {f"mean: {name}": text, f"95% interval: {name}": ends, f"ok: {name}": ok}


def differences(beside: SideBySide) -> Table | None:
    """Every case in a source against the same in the first, on the seeds that they share."""
    rows, shown = [], []
    for found in beside.differences:
        case, pair = found.match.case, found.pair
        base, other = (beside.sources[i].name for i in (found.base, found.other))
        verdict = in_words(found, other)
        key = "same" if found.same_key else f"other: {'; '.join(found.differs)}"
        called = called_otherwise(found)
        n = len(found.match.seeds)
        rows.append(
            {
                **trial_tables.identity(case),
                "source": other,
                "against": base,
                "called_there": called,
                "same_key": "yes" if found.same_key else "no",
                "what_differs": "; ".join(found.differs),
                "seeds_in_common": n,
                "equal_to_the_bit": found.equal,
                "largest_relative_difference": found.largest,
                "both_ok": pair.both if pair else math.nan,
                "shift": pair.shift if pair else math.nan,
                "ci_low": pair.low if pair else math.nan,
                "ci_high": pair.high if pair else math.nan,
                "effect": pair.effect if pair else math.nan,
                "p": pair.p if pair else math.nan,
                "p_adjusted": pair.adjusted if pair else math.nan,
                "verdict": verdict,
            }
        )
        told = formatting.shift(pair.shift, pair.low, pair.high) if pair else (DASH, DASH)
        shown.append(
            {
                **trial_tables.shown_identity(case),
                "what is compared": f"{other} − {base}",
                "verdict": verdict,
                "shift": told[0],
                "95% interval": told[1],
                "adjusted p": formatting.significant(pair.adjusted, 2) if pair else DASH,
                "equal to the bit": f"{found.equal} of {n}" if n else DASH,
                "largest relative difference": formatting.significant(found.largest, 2),
                "key": f"{key}; called {called} there" if called else key,
            }
        )
    if not rows:
        return None
    return Table(
        DIFFERENCES,
        "Differences on the same seeds",
        "Each case against the same in the first source in which it ran, paired by seed. Equal to "
        "the bit: trials that ended alike, in the same step, with the same recorded losses; equal "
        f"but for rounding: all ended alike, losses differ by at most {REL_TOL:g} of their size. "
        "Everything else is tested where seeds matter: Wilcoxon's signed-rank test over all seeds "
        "in common, a trial that did not end ok being the worst, and the Hodges-Lehmann shift that "
        "belongs to it, with its 95% interval; p is adjusted by Holm's "
        "method for all cases that are tested here. Called is what that leaves at 0.05. Key: "
        "where it is the same, so is everything that decides the result but the machine; where it "
        "is another, what is known to differ.",
        pd.DataFrame(rows),
        pd.DataFrame(shown),
    )


_VERDICTS: Mapping[Verdict, str] = {
    "none ended ok": "no trial ended ok in either, nor in the same step",
    "other, by no chance": "differs; all seeds end alike, so there is no test",
    "other, of one seed": "differs; one seed, so nothing is said of chance",
}


def in_words(found: Difference, other: str) -> str:
    """The verdict as a reader is told it; ``other`` is the name of the source it is about."""
    verdict = found.verdict
    if verdict in ("lower", "higher"):
        return f"{verdict} in {other}"
    return _VERDICTS.get(verdict, verdict)


def called_otherwise(found: Difference) -> str:
    """What the case is called in the other source, where that is not the same."""
    one, two = found.match.side(found.base).case, found.match.side(found.other).case
    names = [(case.objective, case.label, case.device) for case in (one, two)]
    if names[0] == names[1]:
        return ""
    return two.label if one.objective == two.objective else f"{two.label} on {two.objective}"


def seconds(beside: SideBySide) -> Table | None:
    """Seconds per epoch of every case that ran in several, and ratios within each source."""
    measured = [_measured(source) for source in beside.sources]
    rows, shown = [], []
    for match in beside.compared:
        own = [
            None if side is None else known.get(_names(side))
            for side, known in zip(match.sides, measured, strict=True)
        ]
        if not any(own):
            continue
        row: dict[str, Any] = trial_tables.identity(match.case)
        text = trial_tables.shown_identity(match.case)
        for source, timed in zip(beside.sources, own, strict=True):
            row |= _time_cells(source.name, timed)
            text |= _shown_time(source.name, timed)
        across = list(_across(beside.sources, own))
        row |= {f"ratio_{other}_to_{base}": ratio for other, base, ratio in across}
        text |= {f"{o} / {b}": formatting.significant(ratio, 3) for o, b, ratio in across}
        rows.append(row)
        shown.append(text)
    if not rows:
        return None
    frame, texts = pd.DataFrame(rows), pd.DataFrame(shown).fillna(DASH)
    note = (
        "Wall time of n blocks of steps, scaled to an epoch: median and interquartile range, in "
        "each source as it was measured there. The ratio is within one source: to its own "
        "reference, the first case that it timed on that objective and device, as a median over "
        "rounds in which both took their turn, with a 95% interval from order statistics. Machines "
        "differ, so seconds of two of them say nothing of the optimizer; the ratios can be "
        "compared where the references are the same case. Noisy: the machine was busy, and the "
        "ratios are to be trusted more than the seconds."
    )
    if any(" / " in str(heading) for heading in texts.columns):
        note += (
            " A ratio of two sources' medians stands only where both ran on one machine (the same "
            "digest); they were not measured in turns, so it has no interval."
        )
    return Table(SPEED, "Seconds per epoch, side by side", note, frame, texts)


def _measured(source: Source) -> dict[Names, dict[str, Any]]:
    """What the source's own table of times has, by case."""
    table = trial_tables.epoch_seconds(source.results)
    if table is None:
        return {}
    return {
        (row["objective"], row["optimizer"], row["setting"], row["device"]): {
            str(key): value for key, value in row.items()
        }
        for row in table.frame.to_dict("records")
    }


def _names(side: Side) -> Names:
    case = side.case
    return case.objective, case.optimizer, case.setting, case.device


_TIME_COLUMNS = {
    "median_seconds": "median_seconds",
    "iqr_seconds": "iqr_seconds",
    "n": "n",
    "ratio": "ratio",
    "ratio_low": "ratio_ci_low",
    "ratio_high": "ratio_ci_high",
    "noise": "noise",
}


def _time_cells(name: str, timed: Mapping[str, Any] | None) -> dict[str, Any]:
    numbers = {
        f"{key}_{name}": timed[column] if timed else math.nan
        for key, column in _TIME_COLUMNS.items()
    }
    return {**numbers, f"reference_{name}": timed["reference"] if timed else ""}


def _shown_time(name: str, timed: Mapping[str, Any] | None) -> dict[str, str]:
    if timed is None:
        texts = dict.fromkeys(("median", "IQR", "ratio", "interval", "reference"), DASH)
    else:
        is_reference = timed["reference"] == _label(timed)
        noisy = " (noisy)" if timed["noisy"] == "yes" else ""
        ends = formatting.interval(timed["ratio_ci_low"], timed["ratio_ci_high"], 2)
        texts = {
            "median": formatting.significant(timed["median_seconds"]),
            "IQR": formatting.significant(timed["iqr_seconds"]) + noisy,
            "ratio": "1" if is_reference else formatting.number(timed["ratio"], 2),
            "interval": DASH if is_reference else ends,
            "reference": str(timed["reference"]),
        }
    return {
        f"s/epoch: {name}": texts["median"],
        f"IQR: {name}": texts["IQR"],
        f"ratio: {name}": texts["ratio"],
        f"its 95% interval: {name}": texts["interval"],
        f"to: {name}": texts["reference"],
    }


def _label(timed: Mapping[str, Any]) -> str:
    setting = timed["setting"]
    return f"{timed['optimizer']} ({setting})" if setting else str(timed["optimizer"])


def _across(
    sources: Sequence[Source], own: Sequence[Mapping[str, Any] | None]
) -> Iterator[tuple[str, str, float]]:
    """Ratios of medians of sources from one machine: each to the first of that machine."""
    for i, source in enumerate(sources):
        first = next(j for j, s in enumerate(sources) if s.machine == source.machine)
        if not source.machine or first == i:
            continue
        base, other = own[first], own[i]
        if base is not None and other is not None:
            ratio = float(other["median_seconds"]) / float(base["median_seconds"])
            yield source.name, sources[first].name, ratio


def endings(beside: SideBySide) -> list[tuple[Match, tuple[str, ...], list[int]]]:
    """Trials that did not end alike everywhere: case, status in each source, and the seeds.

    A status is empty where the source lacks the case, and where it has no trial of that seed.
    """
    found: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for number, match in enumerate(beside.matches):
        for seed in match.seeds:
            statuses = tuple(s.statuses.get(seed, "") if s else "" for s in match.sides)
            if len({status for status in statuses if status not in ("", "unavailable")}) > 1:
                found.setdefault((number, statuses), []).append(seed)
    return [(beside.matches[n], statuses, seeds) for (n, statuses), seeds in found.items()]


def other_endings(beside: SideBySide) -> Table | None:
    """Trials that ended in one way in one source and in another way elsewhere."""
    rows, shown = [], []
    names = [source.name for source in beside.sources]
    for match, statuses, seeds in endings(beside):
        reasons = [
            f"{name}: {side.reasons[seeds[0]]}"
            for name, side in zip(names, match.sides, strict=True)
            if side and side.reasons.get(seeds[0])
        ]
        row = {f"status_{name}": status for name, status in zip(names, statuses, strict=True)}
        text = {name: status or DASH for name, status in zip(names, statuses, strict=True)}
        more = {"trials": len(seeds), "seeds": seeds_text(seeds), "reason": "; ".join(reasons)}
        rows.append({**trial_tables.identity(match.case), **row, **more})
        shown.append(
            {
                **trial_tables.shown_identity(match.case),
                **{f"ended: {name}": status for name, status in text.items()},
                **{key: str(value) or DASH for key, value in more.items()},
            }
        )
    if not rows:
        return None
    return Table(
        ENDINGS,
        "Trials that ended otherwise",
        "Seeds in common whose trials did not end alike, and why those that did not end ok did "
        "not: the reason is that of the first of these seeds. No loss stands in for them.",
        pd.DataFrame(rows),
        pd.DataFrame(shown),
    )


def presence(match: Match) -> list[str]:
    """For each source, what there is of a case: ``ran``, ``did not run``, ``not there``."""
    return [
        "not there" if side is None else "ran" if side.ran else "did not run"
        for side in match.sides
    ]


def not_everywhere(beside: SideBySide) -> Table | None:
    """Cases that are not in every source, or did not run in some."""
    rows, shown = [], []
    for match in beside.matches:
        states = presence(match)
        if set(states) == {"ran"} or match in beside.nowhere:
            continue
        by_name = dict(zip((source.name for source in beside.sources), states, strict=True))
        rows.append(
            {**trial_tables.identity(match.case), **{f"in_{k}": v for k, v in by_name.items()}}
        )
        in_sources = {f"in {name}": state for name, state in by_name.items()}
        shown.append({**trial_tables.shown_identity(match.case), **in_sources})
    if not rows:
        return None
    return Table(
        NOT_EVERYWHERE,
        "Cases that are not everywhere",
        "A case did not run where its device was missing, or where the run was cut short before "
        "it; cases that ran in none of them are left out. A case with another setting in its name "
        "is another case.",
        pd.DataFrame(rows),
        pd.DataFrame(shown),
    )


def how_made(beside: SideBySide) -> Table:
    """How the sources were made: what differs first."""
    items = sorted(beside.made, key=lambda item: not item.differs)
    names = [source.name for source in beside.sources]
    rows = [_item(item, names, "in_", "") for item in items]
    shown = [_item(item, names, "", DASH) for item in items]
    frame, texts = pd.DataFrame(rows), pd.DataFrame(shown)
    return Table(
        MADE,
        "How they were made",
        "What is known of each run, what differs first. A dash: not known.",
        frame,
        texts,
    )


def _item(item: Item, names: Sequence[str], prefix: str, empty: str) -> dict[str, str]:
    is_time = not prefix and item.name in TIMES
    values = (moment(value) if is_time else value or empty for value in item.values)
    of_sources = {f"{prefix}{name}": v for name, v in zip(names, values, strict=True)}
    head = {"item" if prefix else "what": item.name}
    if prefix:
        return {**head, "differs": "yes" if item.differs else "no", **of_sources}
    # A source may be called as a column is.
    named = {f"in {name}": value for name, value in of_sources.items()}
    return {**head, "same?": "≠ differs" if item.differs else "= same", **named}
