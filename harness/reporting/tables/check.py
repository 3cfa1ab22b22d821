"""The table and the sentence of a check against a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from harness.formatting import DASH, NAMED, exactly, is_are, listed, or_dash, percent
from harness.gate.report import METRICS, CellVerdict, GateReport, Judgement, Metric, Outcome
from harness.reporting.tables.model import Column, Table, table_of

_BAD: tuple[Outcome, ...] = (
    "regressed",
    "missing",
    "failed",
    "inconclusive",
    "not comparable",
)


def check(report: GateReport) -> Table:
    """Every cell of a check against its baseline."""
    note = (
        f"Compared with {report.against}. Time: of a step, as a ratio to the reference loop that "
        "runs in turn with it; its change, with a 95% interval. Loss: mean final loss over the "
        "seeds, or the mean of what is reported in its place, which is named then. Operators "
        "dispatched and Python calls made in a step, and bytes of optimizer state, are exact. Of "
        "two numbers, the first is the baseline's."
    )
    table = table_of("check", "Against the baseline", _COLUMNS, report.cells, note)
    return table or Table("check", "Against the baseline", note, pd.DataFrame(), pd.DataFrame())


def _numbers(metric: Metric) -> list[Column[CellVerdict]]:
    """The columns of one metric, for machines."""
    names = ["before", "now", "change", "limit"]
    columns = [Column(f"{metric}_{name}", "", _field(metric, name)) for name in names]
    if metric == "time":
        ends = (("time_ratio_ci_low", "low"), ("time_ratio_ci_high", "high"))
        columns[3:3] = [Column(key, "", _field(metric, name)) for key, name in ends]

    def outcome(cell: CellVerdict) -> str:
        judgement = cell.of(metric)
        return judgement.outcome if judgement else ""

    return [*columns, Column(f"{metric}_outcome", "", outcome)]


def _field(metric: Metric, name: str) -> Callable[[CellVerdict], float]:
    """A number of a metric's judgement; NaN where it, or the whole, is None."""

    def value(cell: CellVerdict) -> float:
        found = getattr(cell.of(metric), name, None)
        return math.nan if found is None else float(found)

    return value


def _before_and_now(metric: Metric) -> Callable[[CellVerdict], str]:
    """A number, or the two where it changed."""

    def text(cell: CellVerdict) -> str:
        judgement = cell.of(metric)
        if judgement is None:
            return DASH
        both = (judgement.before, judgement.now)
        texts = [DASH if value is None else exactly(value) for value in both]
        return f"{judgement.measure} {' → '.join(dict.fromkeys(texts))}".strip()

    return text


def _measure(cell: CellVerdict) -> str:
    """The name of what the loss is in truth."""
    judgement = cell.of("loss")
    return judgement.name if judgement else ""


def _time_interval(cell: CellVerdict) -> str:
    low, high = _field("time", "low")(cell), _field("time", "high")(cell)
    if not math.isfinite(low + high):
        return DASH
    return f"{percent(low - 1, '')} to {percent(high - 1, '')}"


def _reasons(cell: CellVerdict) -> str:
    """Reasons for which a cell is not fine; metrics that share one, together."""
    metrics: dict[str, list[str]] = {}
    for judgement in cell.judgements:
        if judgement.outcome != "fine":
            words = [judgement.why, "only warns" if judgement.only_warns else ""]
            reason = "; ".join(word for word in words if word)
            text = f"{judgement.outcome} ({reason})" if reason else judgement.outcome
            metrics.setdefault(text, []).append(judgement.name)
    parts = [
        text if len(names) == len(cell.judgements) > 1 else f"{', '.join(names)} {text}"
        for text, names in metrics.items()
    ]
    return " ".join("; ".join(parts).split())


_COLUMNS: tuple[Column[CellVerdict], ...] = (
    Column("why", "outcome", _reasons, lambda text: text or "fine"),
    Column("objective", "objective", lambda cell: cell.objective),
    Column("optimizer", "optimizer", lambda cell: cell.optimizer),
    Column("setting", "setting", lambda cell: cell.setting, or_dash),
    Column("device", "device", lambda cell: cell.device),
    *(column for metric in METRICS for column in _numbers(metric)),
    Column("loss_measure", "", _measure),
    Column("exit_status", "", lambda cell: cell.exit_status),
    Column("", "time (% change)", _field("time", "change"), lambda change: percent(change, "")),
    Column("", "95% interval", _time_interval),
    Column("", "loss", _before_and_now("loss")),
    Column("", "operators", _before_and_now("operators")),
    Column("", "calls", _before_and_now("calls")),
    Column("", "state (bytes)", _before_and_now("state")),
)


def against(report: GateReport) -> str:
    """Sum up a check in a sentence."""
    return f"Against {report.against}, {summary(report)}."


def summary(report: GateReport, most: int = NAMED) -> str:
    """Sum up a check without its baseline, of each outcome with so many cells by name."""
    worse = _changed(report, ("regressed",), only_warns=False)
    gone = _changed(report, ("missing", "failed"), only_warns=False)
    unsure = _changed(report, ("inconclusive", "not comparable"), only_warns=False)
    warned = _changed(report, _BAD, only_warns=True)
    better = _changed(report, ("better",))
    total = len(report.cells)
    of = f"of {total:,} {'cell' if total == 1 else 'cells'}"
    parts = []
    if worse:
        parts.append(f"{len(worse):,} {of} got worse: {listed(worse, most)}")
    else:
        which, no = ("the one cell", " not") if total == 1 else (f"none {of}", "")
        parts.append(
            f"{which} {f'is{no} known to have' if gone or unsure else f'has{no}'} got worse"
        )
    if gone:
        parts.append(f"{len(gone):,} {is_are(len(gone))} missing or failed: {listed(gone, most)}")
    if unsure:
        parts.append(f"{len(unsure):,} inconclusive: {listed(unsure, most)}")
    if warned:
        parts.append(f"warnings, as the spec asks: {listed(warned, most)}")
    if better:
        parts.append(f"{len(better):,} got better: {listed(better, most)}")
    return "; ".join(parts)


def _changed(
    report: GateReport, outcomes: Sequence[Outcome], *, only_warns: bool | None = None
) -> list[str]:
    """The cells of which something came out as one of these, with what did."""
    several = len({cell.device for cell in report.cells}) > 1
    texts = []
    for cell in report.cells:
        of_these = [j for j in cell.judgements if j.outcome in outcomes]
        found = [j for j in of_these if only_warns in (None, j.only_warns)]
        if not found:
            continue
        where = f"{cell.objective} ({cell.device})" if several else cell.objective
        details = ", ".join(_detail(judgement) for judgement in found)
        if len(found) == len(cell.judgements) > 1 and len({j.why for j in found}) == 1:
            details = found[0].why or found[0].outcome
        texts.append(f"{cell.label} on {where} ({details})")
    return texts


def _detail(judgement: Judgement) -> str:
    """``time +12.3%, 95% interval +9.1% to +14.8%``; ``operators 12 to 14``; else the reason."""
    metric, before, now = judgement.name, judgement.before, judgement.now
    measured = judgement.outcome in ("regressed", "better", "inconclusive")
    if not measured or before is None or now is None:
        return f"{metric}: {judgement.why or judgement.outcome}"
    if metric != "time" or judgement.change is None:
        return f"{metric} {exactly(before)} to {exactly(now)}"
    text = f"{metric} {percent(judgement.change)}"
    if judgement.low is not None and judgement.high is not None:
        text += f", 95% interval {percent(judgement.low - 1)} to {percent(judgement.high - 1)}"
    return text
