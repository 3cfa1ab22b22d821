"""What came out, in sentences made from the numbers and no stronger than they are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from harness import stats, tables
from harness.frames import CaseData, Results
from harness.verdicts import CellVerdict, GateReport, Judgement

NAMED = 4
"""Cases that a sentence names one by one."""


def summarise(results: Results) -> list[str]:
    """A sentence on each objective's final loss, one on speed, one on what went wrong.

    Cases are compared with the lowest one on the seeds that both have, by the paired t interval
    of the mean difference, at a confidence that holds for all pairs of an objective's cases
    together (Bonferroni): the lowest one is known from these same seeds, so any pair may be the
    one that is looked at. Where it includes 0, the sentence does not call one lower.
    """
    sentences = [
        sentence
        for objective in results.objectives
        for device in dict.fromkeys(c.device for c in results.cases_on(objective))
        if (sentence := _loss(results, objective, device))
    ]
    sentences += [text for text in (_speed(results), _failures(results)) if text]
    return sentences


def against(report: GateReport) -> str:
    """What came of a check, in a sentence."""
    worse, gone, unsure, better, warned = (
        _cells(report, outcomes, only_warns=warns)
        for outcomes, warns in (
            (("regressed",), False),
            (("missing", "failed"), False),
            (("inconclusive", "not comparable"), False),
            (("better",), None),
            (("regressed", "missing", "failed", "inconclusive", "not comparable"), True),
        )
    )
    total = len(report.cells)
    of = f"of {total:,} {'cell' if total == 1 else 'cells'}"
    text = f"Against {report.against}, "
    parts = []
    if worse:
        parts.append(f"{len(worse):,} {of} got worse: {_told(worse)}")
    else:
        which, no = (f"none {of}", "") if total != 1 else ("the one cell", " not")
        ends = f"is{no} known to have" if gone or unsure else f"has{no}"
        parts.append(f"{which} {ends} got worse")
    if gone:
        parts.append(f"{len(gone):,} {_is(gone)} missing or failed: {_told(gone)}")
    if unsure:
        parts.append(f"{len(unsure):,} can't be told: {_told(unsure)}")
    if warned:
        parts.append(f"only warned of, as the spec asks, {_is(warned)} {_told(warned)}")
    if better:
        parts.append(f"{len(better):,} got better: {_told(better)}")
    return text + "; ".join(parts) + "."


_Told = tuple[CellVerdict, Sequence[Judgement], bool]
"""A cell, what is told of it, and whether its device is."""


def _cells(report: GateReport, outcomes: Sequence[str], *, only_warns: bool | None) -> list[_Told]:
    """The cells of which something came out as one of these."""
    several = len({cell.device for cell in report.cells}) > 1
    found: list[_Told] = []
    for cell in report.cells:
        of_these = [j for j in cell.judgements if j.outcome in outcomes]
        judgements = [j for j in of_these if only_warns in (None, j.only_warns)]
        if judgements:
            found.append((cell, judgements, several))
    return found


def _told(cells: Iterable[_Told]) -> str:
    texts = []
    for cell, judgements, several in cells:
        where = f"{cell.objective} ({cell.device})" if several else cell.objective
        if len(judgements) == len(cell.judgements) > 1 and len({j.why for j in judgements}) == 1:
            details = judgements[0].why or judgements[0].outcome
        else:
            details = ", ".join(_moved(judgement) for judgement in judgements)
        texts.append(f"{cell.label} on {where} ({details})")
    return _listed(texts)


def _moved(judgement: Judgement) -> str:
    """``time +12.3%, 95% interval +9.1% to +14.8%``; ``operators 12 to 14``; else the reason."""
    metric, before, now = judgement.metric, judgement.before, judgement.now
    told = judgement.outcome in ("regressed", "better", "inconclusive")
    if not told or before is None or now is None:
        return f"{metric}: {judgement.why or judgement.outcome}"
    if metric != "time" or judgement.change is None:
        return f"{metric} {tables.exactly(before)} to {tables.exactly(now)}"
    text = f"{metric} {tables.percent(judgement.change)}"
    if judgement.low is not None and judgement.high is not None:
        low, high = (tables.percent(end - 1) for end in (judgement.low, judgement.high))
        text += f", 95% interval {low} to {high}"
    return text


def _is(cells: Sequence[_Told]) -> str:
    return "is" if len(cells) == 1 else "are"


def _loss(results: Results, objective: str, device: str) -> str:
    cases = [c for c in results.cases_on(objective) if c.device == device]
    losses = {c.position: _final(results, c) for c in cases}
    cases = [c for c in cases if losses[c.position]]
    if not cases:
        return ""
    means = {c.position: stats.mean_interval(list(losses[c.position].values())) for c in cases}
    cases.sort(key=lambda c: means[c.position].mean)
    best = cases[0]
    place = _place(results, objective, device)
    if all(m.n < 2 or m.sd == 0 for m in means.values()):
        return _alike(results, objective, place, cases, [means[c.position].mean for c in cases])
    lead = means[best.position]
    digits = tables.decimals(lead)
    text = (
        f"{place}, the lowest mean final loss is that of {best.label}, "
        f"{tables.number(lead.mean, digits)}{_interval(lead, digits)}"
    )
    pairs = len(cases) * (len(cases) - 1) // 2
    confidence = 1 - (1 - stats.CONFIDENCE) / max(1, pairs)
    together: list[str] = []
    higher: list[str] = []
    for case in cases[1:]:
        own, other = losses[case.position], losses[best.position]
        shared = sorted(own.keys() & other.keys())
        difference = stats.mean_interval([own[s] - other[s] for s in shared], confidence)
        if not difference.low > 0:
            together.append(case.label)
        else:
            places = tables.decimals(difference)
            low, high = (tables.number(v, places) for v in (difference.low, difference.high))
            amount = tables.number(difference.mean, places)
            higher.append(f"{case.label} by {amount} ({low} to {high})")
    if together:
        text += f"; {_listed(together)} can't be told from it on these seeds"
    if higher:
        text += f"; on the same seeds higher are {_listed(higher)}"
    return text + "."


def _alike(
    results: Results, objective: str, place: str, cases: list[CaseData], means: list[float]
) -> str:
    """For an objective on which every seed ends alike: the lowest and the highest loss."""
    steps = results.objectives[objective].steps
    lowest = [c.label for c, m in zip(cases, means, strict=True) if _same(m, means[0])]
    highest = [c.label for c, m in zip(cases, means, strict=True) if _same(m, means[-1])]
    one = all(len(c.seeds) < 2 for c in cases)
    why = "one seed, so nothing is said of chance" if one else "every seed ends alike"
    text = f"{place} ({why}), {_listed(lowest)} "
    text += "end" if len(lowest) > 1 else "ends"
    text += f" lowest after {steps:,} steps, at {tables.significant(means[0], 3)}"
    if len(lowest) < len(cases):
        text += f"; highest: {_listed(highest)} at {tables.significant(means[-1], 3)}"
    return text + "."


def _speed(results: Results) -> str:
    table = tables.epoch_seconds(results)
    if table is None:
        return ""
    rows = table.frame.to_dict("records")
    slowest = max(rows, key=lambda row: float(row["median_seconds"]))
    where = (slowest["objective"], slowest["device"])
    first, *others = [row for row in rows if (row["objective"], row["device"]) == where]
    text = (
        f"{_place(results, *where)}, an epoch takes {first['reference']} "
        f"{_time(first['median_seconds'])} (median of {first['n']} blocks, "
        f"interquartile range {_time(first['iqr_seconds'])})"
    )
    ratios = [f"{_label(row)} {_ratio(row['ratio'])} times as long{_ends(row)}" for row in others]
    text = f"{text}; {_listed(ratios)}" if ratios else text
    return f"{text}{_busy([first, *others])}."


def _busy(rows: list[dict[Hashable, Any]]) -> str:
    """What is to be said of times that are noisy; nothing of others."""
    noisy = [float(row["noise"]) for row in rows if row["noisy"] == "yes"]
    if not noisy:
        return ""
    which = f"{len(noisy)} of these {len(rows)} times {'is' if len(noisy) == 1 else 'are'}"
    which = which if len(rows) > 1 else "this is"
    advice = "take it as rough" if len(rows) == 1 else "trust the ratios more than the seconds"
    return f"; measured on a busy machine: {which} noisy (up to {max(noisy):.0%}), so {advice}"


def _failures(results: Results) -> str:
    counts = results.trials["status"].value_counts()
    bad = {s: int(counts.get(s, 0)) for s in ("diverged", "error", "timeout")}
    if not any(bad.values()):
        return ""
    parts = [f"{n:,} {'ended in error' if s == 'error' else s}" for s, n in bad.items() if n]
    ran = int((results.trials["status"] != "unavailable").sum())
    return f"Of {ran:,} trials, {_listed(parts)}; no number above stands in for them."


def _final(results: Results, case: CaseData) -> dict[int, float]:
    """Final loss by seed, of the trials that ended ok."""
    trials = results.trials
    ok = trials[(trials["position"] == case.position) & (trials["status"] == "ok")]
    return dict(zip(ok["seed"].tolist(), ok["final_loss"].tolist(), strict=True))


def _place(results: Results, objective: str, device: str) -> str:
    """``On ch7_linreg``, with the device where results come from several."""
    ran = results.trials[results.trials["status"] != "unavailable"]
    several = ran["device"].nunique() > 1
    return f"On {objective} ({device})" if several else f"On {objective}"


def _interval(mean: stats.Mean, digits: int) -> str:
    if not math.isfinite(mean.low):
        return " (one seed)"
    ends = tables.interval(mean.low, mean.high, digits)
    return f" (95% interval {ends}, {mean.n} seeds)"


def _ends(row: Mapping[Hashable, Any]) -> str:
    low, high = row["ratio_ci_low"], row["ratio_ci_high"]
    return f" ({_ratio(low)} to {_ratio(high)})" if math.isfinite(low + high) else ""


def _ratio(value: float) -> str:
    return tables.significant(value, 3)


def _label(row: Mapping[Hashable, Any]) -> str:
    return f"{row['optimizer']} ({row['setting']})" if row["setting"] else str(row["optimizer"])


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{tables.significant(seconds * scale, 3)} {unit}"
    return f"{tables.significant(seconds * 1e9, 3)} ns"


def _same(a: float, b: float) -> bool:
    """Whether two numbers read the same with three digits."""
    return tables.significant(a, 3) == tables.significant(b, 3)


def _listed(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``; cut where there are many."""
    if len(names) > NAMED + 1:
        names = [*names[:NAMED], f"{len(names) - NAMED} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
