"""A check on a terminal: a table of all cells, and a sentence on each thing that is wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from harness.errors import printable
from harness.gate.outputs import wording
from harness.gate.report import CellVerdict, GateReport
from harness.terminal import aligned

_COLOURS: dict[wording.Severity, str] = {"error": "red", "warning": "yellow", "notice": "green"}


def render(report: GateReport, width: int = 80, *, colour: bool = False) -> str:
    """A table of all cells, a sentence on each thing that is wrong, and what it comes to.

    Args:
        report: What was found.
        width: Columns of the terminal.
        colour: Whether outcomes are coloured as well; they are always there in words.
    """
    summary = [
        textwrap.fill(each, max(40, width), break_long_words=False, break_on_hyphens=False)
        for each in wording.summary(report)
    ]
    blocks = [
        [f"Check of {printable(report.suite)} against {printable(report.against)}"],
        [f"note: {printable(each)}" for each in report.differs],
        _table(report.cells, width, colour=colour) if report.cells else [],
        wording.sentences(report),
        summary,
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _table(cells: Sequence[CellVerdict], width: int, *, colour: bool) -> list[str]:
    from rich.text import Text

    groups: dict[tuple[str, str], list[CellVerdict]] = {}
    for cell in cells:
        groups.setdefault((cell.objective, cell.device), []).append(cell)
    rows: list[list[str | Text]] = [
        ["", "time", "", wording.loss_heading(cells), "counts", "outcome"]
    ]
    for (objective, device), members in groups.items():
        rows.append([f"{objective} on {device}", *[""] * 5])
        for cell in members:
            style = _COLOURS[wording.SEVERITIES[wording.kind_of_cell(cell)]]
            outcome = Text(wording.outcome(cell), style)
            row = [f"  {cell.label}", *wording.time(cell)]
            rows.append([*row, wording.loss(cell), wording.counts(cell), outcome])
    return aligned(rows, right=[1], width=width, colour=colour)
