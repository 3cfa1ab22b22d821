"""A check in GitHub's Markdown, such as a runner shows beside a job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.errors import printable
from harness.formatting import DASH, plural
from harness.gate.outputs import wording
from harness.gate.report import WORDS, CellVerdict, GateReport

MAX_ROWS, MAX_SENTENCES = 1000, 200
"""Limits on what is shown of a report: GitHub takes at most a mebibyte of it."""


NAMES = ("objective", "optimizer", "setting", "device")
"""Headings of what names a cell."""


def render(report: GateReport) -> str:
    """The verdict, a table with what is wrong first, and details to unfold."""
    verdict = WORDS[report.exit_status][0] + wording.with_warnings(report)
    wrong = wording.sentences(report)
    cells = sorted(report.cells, key=wording.rank)
    measured = [cell for cell in report.cells if cell.blocks]
    blocks = [
        f"## Check of {_escaped(report.suite)}: {verdict}",
        f"Compared with {_escaped(report.against)}.",
        _bullets(wording.summary(report)),
        *(f"Note: {_escaped(each)}" for each in report.differs),
        "What is wrong, gravest first:" if wrong else "",
        _bullets(wrong[:MAX_SENTENCES]),
        _and_more(len(wrong) - MAX_SENTENCES, "line"),
        _table(
            [*NAMES, "time", wording.loss_heading(cells), "counts", "outcome"],
            [_row(cell) for cell in cells[:MAX_ROWS]],
        ),
        _and_more(len(cells) - MAX_ROWS, "cell"),
        "<details>\n<summary>Machine, noise and processes</summary>",
        _bullets(_circumstances(report)),
        "Times the reference loop, by process:" if measured else "",
        _table(
            ["cell", "clock", "steps in a block", "blocks", "before", "now"],
            [_processes(cell) for cell in measured[:MAX_ROWS]],
        ),
        _and_more(len(measured) - MAX_ROWS, "cell"),
        "</details>",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _row(cell: CellVerdict) -> list[str]:
    names = [cell.objective, cell.optimizer, cell.setting or DASH, cell.device]
    time = " ".join(wording.time(cell)).strip()
    return [*names, time, wording.loss(cell), wording.counts(cell), wording.outcome(cell)]


def _circumstances(report: GateReport) -> list[str]:
    found = [f"{key}: {value}" for key, value in report.machine.items()]
    found += [f"commit: {report.git}"] if report.git else []
    found.append(f"taken: {report.taken}")
    if report.controls:
        ratios = ", ".join(f"{ratio:.3f}" for ratio in report.controls)
        found.append(f"reference loop against itself, by process (1 on a quiet machine): {ratios}")
    return found


def _processes(cell: CellVerdict) -> list[str]:
    """A row on what each process measured of a cell."""

    def ratios(side: str) -> str:
        own = [block.ratio for block in cell.blocks if block.side == side]
        return ", ".join(wording.number("time", ratio) for ratio in own) or DASH

    first, count = cell.blocks[0], sum(len(block.cell) for block in cell.blocks)
    steps = f"{first.steps:,}"
    return [cell.id, first.clock, steps, f"{count:,}", ratios("before"), ratios("now")]


def _escaped(name: str) -> str:
    """Text that Markdown shows as it is, in a cell of a table as well."""
    name = printable(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An underscore inside a word is one; escaped, it would only be hard to read.
    return re.sub(r"([\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", name)


def _bullets(items: Iterable[str]) -> str:
    """A list; no item begins a heading or another list."""
    start = re.compile(r"^(\d*)([-+#.)=:])")
    return "\n".join("- " + start.sub(r"\1\\\2", _escaped(item).strip()) for item in items)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *([_escaped(each) for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _and_more(count: int, what: str) -> str:
    return f"And {plural(count, f'more {what}')}." if count > 0 else ""
