"""The matrix of verdicts: optimizers by objectives, each cell with its loss and what it means."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.analysis.summary import Analysis
from harness.analysis.verdict import Entry, ObjectiveVerdict, Outcome
from harness.formatting import DASH, number
from harness.measures import Measure
from harness.reporting import wording
from harness.reporting.tables.trials import EpochSeconds, most_compared
from harness.reporting.tables.verdict import (
    behind_text,
    factor_text,
    loss_text,
    settings_picked,
)
from harness.store.read import ObjectiveInfo, Results

MOST_COLUMNS = 5
"""Columns beyond which the key picture stands below the matrix, not beside it."""

_KINDS: dict[Outcome, str] = {
    "best": "best",
    "tied": "best",
    "worse": "worse",
    "failed": "bad",
    "only optimizer": "",
}
_MARKS: dict[Outcome, str] = {
    "equal to 3 digits": "≈",
    "not significantly different": "≈",
    "better on most seeds": "≈",
}


@dataclass(frozen=True)
class MatrixCell:
    """One optimizer on one objective.

    Attributes:
        text: The loss, or a dash.
        mark: A sign of the outcome; may be empty.
        kind: ``best``, ``near``, ``worse``, ``bad`` (all failed), ``none`` (not run), or empty.
        title: The outcome and the setting in words.
        heading: Heading of its column.
    """

    text: str = DASH
    mark: str = ""
    kind: str = ""
    title: str = "not run"
    heading: str = ""


@dataclass(frozen=True)
class MatrixRow:
    """A row: its name, and its cells from left to right."""

    name: str
    cells: tuple[MatrixCell, ...]


@dataclass(frozen=True)
class Matrix:
    """The matrix, with the fewer of optimizers and objectives in columns.

    Attributes:
        corner: Meaning of the rows: ``optimizer`` or ``objective``.
        headings: Of the columns after the first.
        rows: The rows.
        time: A sentence on the times; empty where nothing was timed.
        best: What the best in bold have: ``lowest loss``.
        words: What is reported of all objectives; ``value`` where that differs.
        picked: A sentence on how settings were picked, with a space behind; may be empty.
    """

    corner: str
    headings: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    time: str = ""
    best: str = "lowest loss"
    words: str = wording.LOSS
    picked: str = ""

    @property
    def is_wide(self) -> bool:
        """True where it takes the width of the page."""
        return len(self.headings) > MOST_COLUMNS


def matrix(results: Results, analysis: Analysis) -> Matrix | None:
    """The matrix of a run; None where nothing ran."""
    verdicts = analysis.verdicts
    if not verdicts:
        return None
    times = most_compared(results)
    optimizers = _ranked(verdicts)
    several = len({verdict.device for verdict in verdicts}) > 1
    infos = [results.objectives[verdict.objective] for verdict in verdicts]
    words = wording.common(infos)
    about = {
        "best": f"{wording.common_extreme(infos)} {words}",
        "words": words,
        "picked": settings_picked(results),
    }
    places = {
        _place(verdict, info, several): verdict
        for verdict, info in zip(verdicts, infos, strict=True)
    }
    ratios = _ratios(times, verdicts)
    if len(places) <= len(optimizers):
        headings = [*places, *(["time"] if ratios else [])]
        rows = [
            (name, [_cell_of(own, name) for own in places.values()], [ratios.get(name, DASH)])
            for name in optimizers
        ]
        body = [_row(name, headings, cells, ratio if ratios else []) for name, cells, ratio in rows]
        return Matrix("optimizer", tuple(headings), tuple(body), _time(times), **about)
    body = [
        _row(place, optimizers, [_cell_of(own, name) for name in optimizers])
        for place, own in places.items()
    ]
    if ratios:
        body.append(_row("time", optimizers, [], [ratios.get(name, DASH) for name in optimizers]))
    return Matrix("objective", tuple(optimizers), tuple(body), _time(times), **about)


def _ranked(verdicts: Iterable[ObjectiveVerdict]) -> list[str]:
    """Names of the optimizers: by how often they are best, then not behind, then mean place."""
    best: Counter[str] = Counter()
    leads: Counter[str] = Counter()
    places: dict[str, list[int]] = {}
    for verdict in verdicts:
        best.update(verdict.leaders)
        for place, entry in enumerate(verdict.entries):
            leads[entry.optimizer] += entry.leads
            places.setdefault(entry.optimizer, []).append(place)
    means = {name: statistics.fmean(own) for name, own in places.items()}
    return sorted(places, key=lambda name: (-best[name], -leads[name], means[name], name))


def _place(verdict: ObjectiveVerdict, info: ObjectiveInfo, several: bool) -> str:
    """An objective with what is reported of it, if that is no plain loss, and the device."""
    name = verdict.objective if info.words == wording.LOSS else f"{info.name}: {info.words}"
    return f"{name} ({verdict.device})" if several else name


def _row(
    name: str, headings: Sequence[str], cells: Sequence[MatrixCell], ratios: Sequence[str] = ()
) -> MatrixRow:
    title = "time per epoch, relative"
    known = [*cells, *(MatrixCell(ratio, title=title) for ratio in ratios)]
    named = (
        MatrixCell(cell.text, cell.mark, cell.kind, cell.title, heading)
        for cell, heading in zip(known, headings, strict=True)
    )
    return MatrixRow(name, tuple(named))


def _cell_of(verdict: ObjectiveVerdict, optimizer: str) -> MatrixCell:
    return _cell(verdict.by_optimizer.get(optimizer), verdict.measure)


def _cell(entry: Entry | None, measure: Measure) -> MatrixCell:
    if entry is None:
        return MatrixCell(kind="none")
    title = str(entry.outcome)
    if entry.failed:
        title += f" ({entry.failed} of {entry.n} trials failed)"
    if entry.case.setting:
        title = f"{entry.case.setting}: {title}"
    if entry.outcome == "failed":
        return MatrixCell("failed", "", "bad", title)
    mark = _MARKS.get(entry.outcome, "")
    if entry.outcome == "worse":
        mark = factor_text(entry.factor) or behind_text(entry, measure) or "worse"
    if entry.failed:
        mark = f"{mark} {entry.failed} failed".strip()
    return MatrixCell(loss_text(entry, digits=3), mark, _KINDS.get(entry.outcome, "near"), title)


def _ratios(times: Sequence[EpochSeconds], verdicts: Iterable[ObjectiveVerdict]) -> dict[str, str]:
    """The time ratio of each optimizer, in the setting that the matrix has."""
    chosen = {entry.case.position for verdict in verdicts for entry in verdict.entries}
    return {
        row.case.optimizer: number(row.ratio, 2) for row in times if row.case.position in chosen
    }


def _time(times: Sequence[EpochSeconds]) -> str:
    if not times:
        return ""
    first = times[0]
    return (
        f"Time: median time per epoch on {first.case.objective}, as a multiple of that of "
        f"{first.reference.optimizer}."
    )
