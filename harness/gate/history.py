"""Every check that was made, a line each, and where the times of a cell changed for good."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from pydantic_core import from_json

from harness.errors import BadInput, printable
from harness.formatting import moment, plural
from harness.gate.report import CellVerdict, GateReport
from harness.terminal import aligned

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
"""Raised when a line changes its meaning; lines of a later format are skipped."""

FILE_NAME = "history.jsonl"

SHORTEST = 3
"""Fewest checks that make a level."""

PENALTY = 4.0
"""Variance that a change must explain, in variances of the noise times the logarithm of the length.

Bayes's information criterion with a little more than its two parameters per change: a page shows
many cells, so that one false alarm in fifty series would be a false alarm on most pages. The
rates that this gives are measured in ``tests/gate/test_history.py``.
"""

LEAST_NOISE = 0.002
"""Noise is taken for at least this (0.2%), so that what never varies has no changes."""

OUTLIER_SD = 3.0
"""A check this many times the noise away from its neighbours counts as no farther."""

NEEDS = "Change points need ruptures: pip install ruptures."


@dataclass(frozen=True)
class CellEntry:
    """One cell in a check: its names, and what was found of it.

    Attributes:
        ratio: A step's time as a ratio to the reference loop's; None where it is not known.
        low: Lower end of the 95% interval of that ratio to what it was compared to.
        high: Upper end.
        loss: Mean final loss, or mean of what is reported in its place.
        operators: Operators dispatched in a step.
        calls: Python calls in a step.
        state: Bytes of optimizer state.
        outcome: Of the time; empty where it was not judged.
    """

    id: str
    objective: str
    optimizer: str
    setting: str
    device: str
    ratio: float | None
    low: float | None
    high: float | None
    loss: float | None
    operators: float | None
    calls: float | None
    state: float | None
    outcome: str

    @classmethod
    def of(cls, cell: CellVerdict) -> CellEntry:
        """The entry of a cell's verdict."""
        now: dict[str, float | None] = {each.metric: each.now for each in cell.judgements}
        time = cell.of("time")
        names = ("id", "objective", "optimizer", "setting", "device")
        return cls(
            **{name: getattr(cell, name) for name in names},
            ratio=now.get("time"),
            loss=now.get("loss"),
            operators=now.get("operators"),
            calls=now.get("calls"),
            state=now.get("state"),
            low=time.low if time else None,
            high=time.high if time else None,
            outcome=time.outcome if time else "",
        )


@dataclass(frozen=True)
class Entry:
    """One check.

    Attributes:
        taken: UTC, ISO 8601.
        git: The commit that the suite was at; may be empty.
        against: What it was compared to.
        machine_key: Times of different keys are never compared.
        machine: The machine in words.
        cells: What was found of each.
        format: Of the line.
    """

    taken: str
    git: str
    against: str
    machine_key: str
    machine: str
    cells: tuple[CellEntry, ...]
    format: int = FORMAT

    @classmethod
    def of(cls, report: GateReport) -> Entry:
        """The entry of a report."""
        words = [v if k in ("cpu", "system") else f"{k} {v}" for k, v in report.machine.items()]
        return cls(
            taken=report.taken,
            git=report.git,
            against=report.against,
            machine_key=report.machine_key,
            machine=", ".join(words),
            cells=tuple(CellEntry.of(cell) for cell in report.cells),
        )


@dataclass(frozen=True, repr=False)
class History:
    """The checks in a file.

    Attributes:
        entries: In the order in which they were written.
        torn: How many lines can't be read, as a process that was killed leaves them.
        newer: How many lines a later version of the harness wrote.
    """

    entries: tuple[Entry, ...] = ()
    torn: int = 0
    newer: int = 0

    def __repr__(self) -> str:
        return text(self)

    def frame(self) -> pd.DataFrame:
        """One row per check and cell: when, on which machine, and what was found.

        Columns: taken, git, against, machine_key, machine, then those of :class:`CellEntry`.
        """
        import pandas as pd

        ours = ["taken", "git", "against", "machine_key", "machine"]
        rows = [
            {name: getattr(entry, name) for name in ours} | vars(cell)
            for entry in self.entries
            for cell in entry.cells
        ]
        columns = [*ours, *(field.name for field in dataclasses.fields(CellEntry))]
        return pd.DataFrame(rows, columns=columns)

    @property
    def remarks(self) -> list[str]:
        """A sentence on each kind of line that was skipped."""
        kinds = ((self.torn, "unreadable"), (self.newer, "written by a newer harness"))
        return [
            f"{plural(count, 'line')} of the history left out: {what}."
            for count, what in kinds
            if count
        ]


@dataclass(frozen=True)
class Series:
    """The times of one cell on one machine, oldest first.

    Attributes:
        cell: Its latest entry.
        numbers: For each check, its number among all checks of the machine, from 1.
        times: When each was taken.
        gits: The commit of each.
        ratios: A step's time as a ratio to the reference loop's, in each.
    """

    cell: CellEntry
    numbers: tuple[int, ...]
    times: tuple[str, ...]
    gits: tuple[str, ...]
    ratios: tuple[float, ...]

    @property
    def label(self) -> str:
        """Optimizer and setting."""
        cell = self.cell
        return f"{cell.optimizer} ({cell.setting})" if cell.setting else cell.optimizer


@dataclass(frozen=True)
class ChangePoint:
    """A series moves to a new level.

    Attributes:
        index: Of the first value of the new level.
        before: Median of the level that ends.
        after: Median of the level that begins.
    """

    index: int
    before: float
    after: float

    @property
    def change(self) -> float:
        """By how much the level rises, as a share."""
        return self.after / self.before - 1


@dataclass(frozen=True)
class Change:
    """A change point, and the series that has it."""

    series: Series
    point: ChangePoint

    @property
    def number(self) -> int:
        """The number of the first check at the new level."""
        return self.series.numbers[self.point.index]

    def __str__(self) -> str:
        cell, point = self.series.cell, self.point
        direction = "slower" if point.change > 0 else "faster"
        new, old = (self._check(i) for i in (point.index, point.index - 1))
        return (
            f"{self.series.label} on {cell.objective} ({cell.device}) is "
            f"{abs(point.change):.1%} {direction} since the check of {new}: "
            f"{point.after:#.4g} times the reference loop, {point.before:#.4g} until {old}."
        )

    def _check(self, index: int) -> str:
        git = self.series.gits[index]
        return moment(self.series.times[index], to_the_minute=True) + (
            f" (commit {git})" if git else ""
        )


def append(path: Path, report: GateReport) -> None:
    """Add a check to a history, as one line in one write.

    Raises:
        BadInput: If it can't be written.
    """
    line = TypeAdapter(Entry).dump_json(Entry.of(report)) + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    # A process was killed while it wrote the line before.
                    line = b"\n" + line
            if file.write(line) != len(line):
                raise OSError("the disk took a part of a line")
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInput.of_file(str(path), f"can't be written: {why}") from None


def read(path: Path) -> History:
    """Every check in a file that can be read; nothing of a file that isn't there.

    Raises:
        BadInput: If the file as a whole can't be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return History()
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInput.of_file(str(path), f"can't be read: {why}") from None
    adapter, entries, torn, newer = TypeAdapter(Entry), [], 0, 0
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        try:
            plain = from_json(line)
            known = plain.get("format") if isinstance(plain, dict) else None
            if isinstance(known, int) and known > FORMAT:
                newer += 1
                continue
            entries.append(adapter.validate_json(line))
        except ValueError:
            torn += 1
    return History(tuple(entries), torn, newer)


def of_machine(entries: Iterable[Entry], machine_key: str) -> list[Entry]:
    """The checks that one machine made."""
    return [entry for entry in entries if entry.machine_key == machine_key]


def series(entries: Iterable[Entry], machine_key: str) -> dict[str, Series]:
    """The times of each cell on one machine, by the cell's id; what has none is left out."""
    found: dict[str, list[tuple[int, Entry, CellEntry, float]]] = {}
    for number, entry in enumerate(of_machine(entries, machine_key), 1):
        for cell in entry.cells:
            if cell.ratio is not None and math.isfinite(cell.ratio) and cell.ratio > 0:
                found.setdefault(cell.id, []).append((number, entry, cell, cell.ratio))
    return {
        name: Series(
            cell=rows[-1][2],
            numbers=tuple(number for number, _, _, _ in rows),
            times=tuple(entry.taken for _, entry, _, _ in rows),
            gits=tuple(entry.git for _, entry, _, _ in rows),
            ratios=tuple(ratio for _, _, _, ratio in rows),
        )
        for name, rows in found.items()
    }


def can_find_changes() -> bool:
    """Look for the library that finds change points."""
    return importlib.util.find_spec("ruptures") is not None


def changes(found: Iterable[Series]) -> list[Change]:
    """All changes of series, oldest first; needs what :func:`can_find_changes` asks for."""
    made = [Change(one, point) for one in found for point in change_points(one.ratios)]
    return sorted(made, key=lambda change: change.number)


def change_points(ratios: Sequence[float]) -> list[ChangePoint]:
    """The changes of level of a series: the fewest levels that explain it well enough.

    Penalised least squares of the logarithms, solved exactly (PELT: Killick, Fearnhead and
    Eckley 2012). The noise is taken from the differences of neighbours, which a few changes of
    level hardly touch. A check that stands alone is no level: it is drawn toward the median of
    its neighbours first.
    """
    count = len(ratios)
    if count < 2 * SHORTEST:
        return []
    values = np.log(np.asarray(ratios, dtype=np.float64))
    noise = _noise(values)
    if np.ptp(values) <= LEAST_NOISE:
        return []
    from ruptures import KernelCPD

    # With the linear kernel the cost is the sum of squares about the mean; this class has it in C.
    search = KernelCPD(kernel="linear", min_size=SHORTEST)
    search.fit(_tamed(values, OUTLIER_SD * noise).reshape(-1, 1))
    ends = search.predict(pen=PENALTY * noise**2 * math.log(count))
    levels = [
        float(np.median(np.asarray(ratios[start:end])))
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    return [
        ChangePoint(int(index), before, after)
        for index, before, after in zip(ends[:-1], levels[:-1], levels[1:], strict=True)
    ]


def text(history: History) -> str:
    """Every machine's cells with their first and latest time, and where they changed."""
    parts = list(history.remarks)
    for key in dict.fromkeys(entry.machine_key for entry in history.entries):
        own = of_machine(history.entries, key)
        known = series(own, key)
        rows: list[tuple[str, ...]] = [("cell", "checks", "first", "latest")]
        for name, one in known.items():
            ratios = [f"{ratio:#.4g}" for ratio in (one.ratios[0], one.ratios[-1])]
            rows.append((name, f"{len(one.ratios):,}", *ratios))
        found = changes(known.values()) if can_find_changes() else []
        first, last = (moment(own[i].taken, to_the_minute=True) for i in (0, -1))
        lines = [
            f"Machine {key[:12]}: {own[-1].machine}",
            f"{plural(len(own), 'check')}, {first} to {last}; "
            "time of a step as a ratio to the reference loop",
            *aligned(rows, right=(1, 2, 3)),
            *map(str, found),
        ]
        parts.append("\n".join(map(printable, lines)))
    if history.entries and not can_find_changes():
        parts.append(NEEDS)
    return "\n\n".join(parts)


def _noise(values: NDArray[np.float64]) -> float:
    """Standard deviation of what varies from check to check; a little more of a short series.

    Median of absolute differences over that of a difference of two normal values. Of few values
    it is often too low, which the second factor makes up for.
    """
    spread = float(np.median(np.abs(np.diff(values)))) / (0.6744897501960817 * math.sqrt(2))
    return max(spread * (1 + 4 / len(values)), LEAST_NOISE)


def _tamed(values: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Values, none of them farther from the median of its neighbourhood of five than so much."""
    middles = np.array([np.median(values[max(0, i - 2) : i + 3]) for i in range(len(values))])
    return np.clip(values, middles - most, middles + most)
