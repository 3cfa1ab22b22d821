"""Words and numbers for what a check found, whatever shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import printable
from harness.formatting import DASH, is_are, plural
from harness.gate.report import (
    EXIT_FINE,
    WORDS,
    CellVerdict,
    GateReport,
    Judgement,
    Metric,
    Outcome,
)

SPELT_OUT = 3
"""Cells that can't be compared for the same reason and still get a line each."""

Kind = Outcome | Literal["with warnings"]
Severity = Literal["error", "warning", "notice"]

SEVERITIES: dict[Kind, Severity] = {
    "regressed": "error",
    "missing": "error",
    "failed": "error",
    "inconclusive": "warning",
    "not comparable": "warning",
    "with warnings": "warning",
    "better": "notice",
    "fine": "notice",
}
"""Whatever can be said of a judgement or a cell in a word, gravest first."""

_RANKS = {kind: rank for rank, kind in enumerate(SEVERITIES)}

_UNITS: dict[Metric, str] = {
    "time": " times the reference loop",
    "loss": "",
    "operators": " operators",
    "calls": " Python calls",
    "state": " bytes of state",
}


@dataclass(frozen=True)
class Remark:
    """Something to say of a cell: of one metric, or of several that came out alike."""

    cell: CellVerdict
    judgements: tuple[Judgement, ...]

    @property
    def kind(self) -> Kind:
        """The outcome in a word."""
        return kind_of(self.judgements[0])

    @property
    def metrics(self) -> str:
        """The metrics that are meant; nothing where that is all of them."""
        if len(self.judgements) == len(self.cell.judgements) > 1:
            return ""
        return ", ".join(judgement.name for judgement in self.judgements)

    @property
    def text(self) -> str:
        """The outcome and its reason; with the numbers of a metric that is alone."""
        return describe(self.judgements[0], numbers=len(self.judgements) == 1)


def kind_of(judgement: Judgement) -> Kind:
    """A judgement's outcome, or that it only warns."""
    warns = judgement.only_warns and judgement.outcome not in ("better", "fine")
    return "with warnings" if warns else judgement.outcome


def kind_of_cell(cell: CellVerdict) -> Kind:
    """The gravest thing that is said of a cell."""
    return min(map(kind_of, cell.judgements), key=_RANKS.__getitem__, default="fine")


def rank(cell: CellVerdict) -> int:
    """Place of a cell in the order from the gravest to the best."""
    return _RANKS[kind_of_cell(cell)]


def with_warnings(report: GateReport) -> str:
    """The end of a sentence about a check that passes, if there are warnings."""
    warned = any(kind_of(judgement) == "with warnings" for _, judgement in report)
    return ", with warnings" if warned and report.exit_status == EXIT_FINE else ""


def summary(report: GateReport) -> list[str]:
    """Counts of cells by outcome, advice where some are better, and the exit status.

    A cell counts once, as the gravest thing that is said of it.
    """
    kinds = [kind_of_cell(cell) for cell in report.cells]
    counts = ", ".join(f"{kinds.count(kind):,} {kind}" for kind in SEVERITIES if kind in kinds)
    found = [
        f"{plural(len(kinds), 'cell')}{': ' if counts else ''}{counts}; {report.seconds:,.1f} s."
    ]
    if better := kinds.count("better"):
        text = f"{plural(better, 'cell')} {is_are(better)} better than"
        against = "the baseline: write a new one with --update"
        if report.against.startswith("revision "):
            against = printable(report.against)
        found.append(f"{text} {against}.")
    status = report.exit_status
    return [*found, f"Exit status {status}: {WORDS[status][1]}{with_warnings(report)}."]


def remarks(report: GateReport) -> list[Remark]:
    """Everything that isn't fine, gravest first; metrics without a number are put together."""
    found = []
    for cell in report.cells:
        groups: dict[tuple[object, ...], list[Judgement]] = {}
        for judgement in cell.judgements:
            own = "" if judgement.now is None and judgement.why else judgement.metric
            key = (judgement.outcome, judgement.why, judgement.only_warns, own)
            groups.setdefault(key, []).append(judgement)
        found += [Remark(cell, tuple(group)) for group in groups.values()]
    found.sort(key=lambda remark: _RANKS[remark.kind])
    return [remark for remark in found if remark.kind != "fine"]


def sentences(report: GateReport) -> list[str]:
    """A line on each thing that is wrong, with its place, gravest first.

    Cells that can't be compared for the same reason share one where they are many: all of them,
    on another machine.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for remark in remarks(report):
        if remark.kind == "better":
            continue
        first = remark.judgements[0]
        text = line(remark.cell.place, remark.cell.id, remark.metrics, remark.text)
        reason = (remark.kind, remark.metrics, describe(first, numbers=False))
        shared = first.outcome == "not comparable" and first.why
        groups.setdefault(reason if shared else (text,), []).append(text)
    lines = []
    for key, same in groups.items():
        fold = len(key) > 1 and len(same) > SPELT_OUT
        lines += [line(plural(len(same), "cell"), *key[1:])] if fold else same
    return lines


def line(*parts: str) -> str:
    """The parts of a sentence that there are, fit to print."""
    return ": ".join(printable(part) for part in parts if part)


def describe(judgement: Judgement, *, numbers: bool = True) -> str:
    """``regressed: 1.92 → 2.15 times the reference loop, +12.0 %, limit 5 %; reason``."""
    warning = " (warning only)" if kind_of(judgement) == "with warnings" else ""
    parts = [_numbers(judgement) if numbers else "", judgement.why]
    details = "; ".join(part for part in parts if part)
    return f"{judgement.outcome}{warning}" + (f": {details}" if details else "")


def _numbers(judgement: Judgement) -> str:
    before, now = judgement.before, judgement.now
    unit = _UNITS[judgement.metric]
    if before is None or now is None:
        verb, value = ("is", now) if before is None else ("was", before)
        return "" if value is None else f"{verb} {number(judgement.metric, value)}{unit}"
    parts = [f"{number(judgement.metric, before)} → {number(judgement.metric, now)}{unit}"]
    if judgement.measure and judgement.outcome in ("regressed", "better"):
        parts.clear()  # the reason has both
    if judgement.change is not None and math.isfinite(judgement.change):
        parts.append(" ".join(change(judgement)).strip())
    has_limit = judgement.metric in ("time", "loss")
    if has_limit and judgement.outcome in ("regressed", "inconclusive"):
        parts.append(f"limit {judgement.limit * 100:g} %")
    return ", ".join(parts)


def number(metric: Metric, value: float) -> str:
    """A metric's value with as many digits as say something."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{value:g}"
    if metric in ("time", "loss"):
        digits = 3 if metric == "time" else 6
        if value == 0 or 10**digits <= abs(value) < 1e7:
            return f"{value:,.0f}"
        return f"{value:#,.{digits}g}".rstrip(".")
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def change(judgement: Judgement) -> tuple[str, str]:
    """``+12.3 %``, and ``(+10.1 to +14.6)`` of a time whose interval is known."""
    if judgement.change is None:
        return "", ""
    percent = 100 * judgement.change
    if judgement.metric != "time" and 0 < abs(percent) < 0.05:
        return f"{percent:+.1g} %", ""
    interval = ""
    if judgement.low is not None and judgement.high is not None:
        interval = f"({_percent(judgement.low - 1)} to {_percent(judgement.high - 1)})"
    return f"{_percent(judgement.change)} %", interval


def _percent(relative: float) -> str:
    return "NaN" if math.isnan(relative) else f"{100 * relative:+z,.1f}"


# The columns of a table of cells.


def outcome(cell: CellVerdict) -> str:
    """``time regressed; loss better``; an outcome alone where all metrics have it."""
    metrics: dict[str, list[str]] = {}
    for judgement in sorted(cell.judgements, key=lambda j: _RANKS[kind_of(j)]):
        warns = " (warning)" if kind_of(judgement) == "with warnings" else ""
        metrics.setdefault(judgement.outcome + warns, []).append(judgement.name)
    if len(metrics) < 2:
        return next(iter(metrics), "fine")
    return "; ".join(
        f"{', '.join(names)} {outcome}" for outcome, names in metrics.items() if outcome != "fine"
    )


def time(cell: CellVerdict) -> tuple[str, str]:
    """The change of a cell's time, and its interval."""
    judgement = cell.of("time")
    if judgement is None or judgement.change is None:
        return DASH, ""
    if not math.isfinite(judgement.change):
        return number("time", judgement.change), ""
    return change(judgement)


def loss_heading(cells: Sequence[CellVerdict]) -> str:
    """The heading of the column of :func:`loss`."""
    judged = [cell.of("loss") for cell in cells]
    return "value" if any(one is not None and one.measure for one in judged) else "loss"


def loss(cell: CellVerdict) -> str:
    """``equal``, ``+0.02 %``, ``NaN``, or both losses where no percentage says it.

    With its name before it where it is of another measure: ``test accuracy -2.2 %``.
    """
    judgement = cell.of("loss")
    if judgement is None or judgement.before is None or judgement.now is None:
        return DASH
    return " ".join(part for part in (judgement.measure, _loss(judgement)) if part)


def _loss(judgement: Judgement) -> str:
    before, now = judgement.before, judgement.now
    assert before is not None
    assert now is not None
    if not math.isfinite(now):
        return number("loss", now)
    if before == now or judgement.change == 0:
        return "equal"
    if judgement.change is not None and math.isfinite(judgement.change):
        return change(judgement)[0]
    return f"{number('loss', before)} → {number('loss', now)}"


def counts(cell: CellVerdict) -> str:
    """``operators 23 → 24``, every count that changed; ``equal`` where none did."""
    exact = [j for j in cell.judgements if j.metric not in ("time", "loss")]
    known = [(j.metric, j.before, j.now) for j in exact if None not in (j.before, j.now)]
    changed = [
        f"{metric} {number(metric, before)} → {number(metric, now)}"
        for metric, before, now in known
        if before is not None and now is not None and before != now
    ]
    return ", ".join(changed) or ("equal" if known else DASH)
