"""The findings of a check: plain data, from the judge to everything that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import ConfigDict, TypeAdapter

from harness.results import BlockPairs

Metric = Literal["time", "loss", "operators", "calls", "state"]
METRICS: tuple[Metric, ...] = ("time", "loss", "operators", "calls", "state")
"""Seconds per step as a ratio to the reference loop; final loss, or what is reported in its place;
and what is exact: operators dispatched, Python calls made, bytes of optimizer state."""

Outcome = Literal[
    "fine", "better", "regressed", "missing", "failed", "inconclusive", "not comparable"
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

EXIT_FINE, EXIT_REGRESSED, EXIT_UNUSABLE, EXIT_UNSURE, EXIT_MISSING = 0, 1, 2, 3, 4

WORDS = {
    EXIT_REGRESSED: ("regressed", "something regressed"),
    EXIT_MISSING: ("incomplete", "something is missing or failed"),
    EXIT_UNSURE: ("undecided", "something could not be judged"),
    EXIT_FINE: ("passed", "nothing is worse than it was"),
}
"""The result of a check by its exit status, gravest first: a word, and a part of a sentence."""

_EXITS: dict[Outcome, int] = {
    "fine": EXIT_FINE,
    "better": EXIT_FINE,
    "regressed": EXIT_REGRESSED,
    "missing": EXIT_MISSING,
    "failed": EXIT_MISSING,
    "inconclusive": EXIT_UNSURE,
    "not comparable": EXIT_UNSURE,
}


@dataclass(frozen=True)
class Judgement:
    """One metric of one cell against what it was.

    Attributes:
        metric: Which.
        outcome: What came of it.
        why: The outcome's reason, a sentence without a full stop; may be empty where it is fine.
        before: What it was: for ``time`` the ratio to the reference loop, for ``loss`` the mean
            over seeds, for the others a count. None where there is nothing to compare with.
        now: What it is, likewise; None where it could not be found out.
        change: ``now / before - 1``, of a ``loss`` as a share of its size; None where one is
            missing or ``before`` is 0.
        low: Lower end of the 95% interval of ``now / before``; for ``time`` only, else None.
        high: Upper end.
        limit: The largest ``change`` for the worse that passes.
        only_warns: Whether the user asked that this metric never fails the check.
        measure: What a ``loss`` is in truth, such as ``test accuracy``; empty where it is the loss
            on train, and for the others.
    """

    metric: Metric
    outcome: Outcome
    why: str = ""
    before: float | None = None
    now: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float = 0.0
    only_warns: bool = False
    measure: str = ""

    @property
    def name(self) -> str:
        """The metric as people call it: ``test accuracy`` where that is reported, not a loss."""
        return self.measure or self.metric

    @property
    def exit_status(self) -> int:
        """The exit status of a check with nothing else in it."""
        return EXIT_FINE if self.only_warns else _EXITS[self.outcome]


@dataclass(frozen=True)
class Blocks(BlockPairs):
    """Blocks of one cell, and which process measured them.

    Attributes:
        process: Number of the process, from 0; those above 0 confirm.
        side: ``now``, or ``before`` where another revision is measured beside this one.
    """

    process: int
    side: Literal["now", "before"]


@dataclass(frozen=True)
class CellVerdict:
    """One cell (an optimizer with a setting, on an objective, on a device) against what it was.

    Attributes:
        id: ``objective/optimizer[setting]/device``.
        objective: Its name.
        optimizer: Its name.
        setting: What sets it apart from the optimizer's other cells here; may be empty.
        device: Where it ran.
        place: Where the spec names the optimizer: ``benchmarks.yaml:12:7``, or the file alone.
        judgements: One per metric, in the order of ``METRICS``.
        steps_per_epoch: Steps in an epoch; 1 without data.
        blocks: What was measured; empty where nothing could be.
    """

    id: str
    objective: str
    optimizer: str
    setting: str
    device: str
    place: str
    judgements: tuple[Judgement, ...]
    steps_per_epoch: int = 1
    blocks: tuple[Blocks, ...] = ()

    @property
    def label(self) -> str:
        """Optimizer and setting."""
        return f"{self.optimizer} ({self.setting})" if self.setting else self.optimizer

    def of(self, metric: Metric) -> Judgement | None:
        """The judgement of a metric, if there is one."""
        return next((j for j in self.judgements if j.metric == metric), None)

    @property
    def exit_status(self) -> int:
        """The exit status of a check with no other cell."""
        return _gravest(j.exit_status for j in self.judgements)


@dataclass(frozen=True)
class GateReport:
    """The findings of a check.

    Attributes:
        suite: The suite's name.
        spec_file: The spec as the user named it.
        against: What this was compared to: a baseline's file name, or ``revision abc123``.
        taken: UTC, ISO 8601.
        seconds: Wall time of the whole check.
        git: The commit that the suite is at, or an empty string.
        machine: What the times hold for: CPU model, cores, system, Python, torch, threads.
        machine_key: A digest of it.
        differs: How what this was compared to was made otherwise; a sentence each.
        controls: By process, the reference loop's ratio to itself; 1 on a quiet machine.
        cells: Every cell of either side, in the spec's order, then those that only the
            baseline has.
        shares: By process, the part of the time in which a processor worked for it.
    """

    __pydantic_config__ = ConfigDict(ser_json_inf_nan="strings")

    suite: str
    spec_file: str
    against: str
    taken: str
    seconds: float
    git: str
    machine: dict[str, str]
    machine_key: str
    differs: tuple[str, ...]
    controls: tuple[float, ...]
    cells: tuple[CellVerdict, ...]
    shares: tuple[float, ...] = ()

    @property
    def exit_status(self) -> int:
        """1 where something regressed, else 4 where a cell is missing or failed, else 3, else 0."""
        return _gravest(cell.exit_status for cell in self.cells)

    def __iter__(self) -> Iterator[tuple[CellVerdict, Judgement]]:
        return ((cell, judgement) for cell in self.cells for judgement in cell.judgements)


def _gravest(statuses: Iterator[int]) -> int:
    found = set(statuses)
    return next((status for status in WORDS if status in found), EXIT_FINE)


def to_json(report: GateReport) -> str:
    """A report as JSON, raw blocks and all; :func:`from_json` reads it back."""
    return TypeAdapter(GateReport).dump_json(report, indent=1).decode() + "\n"


def from_json(text: str | bytes) -> GateReport:
    """A report from its JSON.

    Raises:
        ValueError: If it isn't one.
    """
    return TypeAdapter(GateReport).validate_json(text)
