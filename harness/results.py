"""Records that go from the engine to the store: plain data and arrays, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.measures import Measure, Part, measures_of, parts_with
from harness.plan.model import Case

Way = Literal["pointwise", "vmapped", "own_optimizers", "alone"]
"""The ways in which a trial runs: with others op by op, lane by lane, or with its own optimizer; or
alone."""

Status = Literal["ok", "diverged", "timeout", "error", "unavailable"]
STATUSES: tuple[Status, ...] = ("ok", "diverged", "timeout", "error", "unavailable")


@dataclass(frozen=True)
class Chunk:
    """Some trials to run together: every case with every seed.

    Attributes:
        cases: Cases that differ by hyperparameters alone.
        seeds: Seeds, in order.
    """

    cases: tuple[Case, ...]
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.cases) * len(self.seeds)


@dataclass(frozen=True)
class TrialResult:
    """The result of one trial.

    Attributes:
        case_key: Its case.
        seed: Its seed.
        status: ``ok`` or what went wrong.
        step: Updates taken, or the step at which it went wrong.
        reason: Why it isn't ``ok``; empty if it is.
        seconds: Wall time, an equal share where trials ran side by side.
        way: How it ran; empty where it didn't.
        losses: Loss over all data at the recorded steps, as far as it got, float64.
        trajectory: Parameters after every step, shape ``(steps + 1, dimension)``; None unless there
            are one or two.
        step_sizes: Effective step size per parameter after every step, as ``trajectory``.
        way_reason: What kept it from running in the way before; empty for ``pointwise``.
        evaluations: How often loss and gradients had been evaluated by the end of ``step``; None
            where that is not known.
        evaluations_at: The same at the recorded steps, as many as ``losses``; None where each step
            took one, or where it is not known.
        measures: By name (``test accuracy``), what else was recorded, as ``losses``.
        parameters: By name, where they are kept, the parameters after the last step.
    """

    case_key: str
    seed: int
    status: Status
    step: int
    reason: str
    seconds: float
    way: Way | Literal[""]
    losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    trajectory: NDArray[np.float64] | None = None
    step_sizes: NDArray[np.float64] | None = None
    way_reason: str = ""
    evaluations: int | None = None
    evaluations_at: NDArray[np.int64] | None = None
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    parameters: Mapping[str, NDArray[Any]] | None = None


STOPPED = "stopped: "
"""The beginning of the reason of a trial that a rule of the spec ended."""


def above_limit(divergence_factor: float) -> str:
    """The reason why a trial that ended at a finite loss is not ``ok``."""
    return f"final loss finite, but above the limit of divergence_factor ({divergence_factor:g})"


@dataclass(frozen=True)
class Sharing:
    """The way in which the trials of some cases may run, as their first steps have shown.

    Attributes:
        way: How: op by op, lane by lane, with own optimizers, or each trial alone. ``apart``: that
            is to be found out for each case by itself, as their settings can't share a run.
        reason: What kept them from the way before; empty for ``pointwise``.
        lane_bytes: Memory that each lane of a shared run takes.
        step_seconds: Time of one step of a trial alone, for estimates only.
    """

    way: Way | Literal["apart"]
    reason: str
    lane_bytes: int = 0
    step_seconds: float = 0.0

    @property
    def lanes_at_once(self) -> int:
        """The number of trials that share one run at most."""
        return max(2, min(CHUNK_LANES, CHUNK_BYTES // max(1, self.lane_bytes)))


CHUNK_BYTES = 256 * 2**20
"""Memory that the lanes of one run may take together."""

CHUNK_LANES = 2048
"""Lanes of one run at most; beyond this, more lanes are no faster."""


@dataclass(frozen=True)
class SharedRunComparison:
    """A trial of a shared run beside the same trial alone.

    Attributes:
        case_key: Its case.
        seed: Its seed.
        lanes: How many trials shared the run.
        way: How they shared it.
        difference: The largest difference of a recorded loss, relative to its size; infinite
            where only one of the two is finite.
        rounding: The largest such difference that rounding may make.
    """

    case_key: str
    seed: int
    lanes: int
    way: Way
    difference: float
    rounding: float

    @property
    def is_equal(self) -> bool:
        """True where nothing but rounding sets the two apart."""
        return self.difference <= self.rounding


@dataclass(frozen=True)
class Together:
    """The outcome of running some trials in one run.

    Attributes:
        results: One per trial; empty where they can't share a run.
        comparison: One of them beside a run of its own; None where there are no results.
        refusal: Why they can't share a run after all; empty where they did.
        apart: Whether that may be for their settings alone, so that each is to be tried by itself.
    """

    results: tuple[TrialResult, ...]
    comparison: SharedRunComparison | None
    refusal: str = ""
    apart: bool = False


@dataclass(frozen=True)
class Timing:
    """The timing pass's findings for one case.

    Attributes:
        case_key: The case.
        steps: Optimizer steps in each timed block.
        steps_per_epoch: Optimizer steps in an epoch.
        seconds: Wall seconds of each block, in the order of the rounds.
        cpu_seconds: Seconds that processors worked for us in each, in the same order.
        counts: What its steps take beside time; None where that is not known.
        peak_bytes: The most memory that torch held at once on a GPU during some steps; None
            where that is not known, as on a CPU.
        evaluations: How often each block evaluated loss and gradients; None where that is not
            known.
    """

    case_key: str
    steps: int
    steps_per_epoch: int
    seconds: NDArray[np.float64]
    cpu_seconds: NDArray[np.float64]
    counts: StepCounts | None = None
    peak_bytes: int | None = None
    evaluations: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class StepCounts:
    """Counts of what some steps of a trial on its own take beside time; exact.

    Attributes:
        steps: How many steps were counted, from the second on.
        operators: Operators dispatched in them: forward, backward and the optimizer's.
        calls: Python functions called in them, by code that isn't the harness's.
        state_bytes: Bytes of the optimizer's state after them.
    """

    steps: int
    operators: int
    calls: int
    state_bytes: int


@dataclass(frozen=True)
class BlockPairs:
    """Blocks of one cell and of the reference loop, measured in one process.

    Attributes:
        clock: ``cpu``: seconds of processor time; ``wall``.
        steps: Steps in each of the cell's blocks.
        reference_steps: Steps in each of the reference's.
        cell: Seconds of the cell's block, round by round.
        reference: Seconds of the reference's block right before it.
        ratio: A step's time as a ratio to the reference's: of their lower deciles.
    """

    clock: Literal["cpu", "wall"]
    steps: int
    reference_steps: int
    cell: tuple[float, ...]
    reference: tuple[float, ...]
    ratio: float


@dataclass(frozen=True)
class MeasuredRatios:
    """Blocks of all cells, measured against the reference loop in one process.

    Attributes:
        cells: By case key, of those that could be measured.
        controls: By device, the reference's ratio to itself.
        failures: By case key, why another could not be measured.
        share: The part of the time in which a processor worked for it.
    """

    cells: dict[str, BlockPairs]
    controls: tuple[float, ...]
    failures: dict[str, str]
    share: float = 1.0


@dataclass(frozen=True)
class Finding:
    """A mistake that only shows once the suite's code is loaded.

    Attributes:
        path: Key path in the spec.
        message: What is wrong.
        at_key: Whether the key is meant, not its value.
    """

    path: tuple[str | int, ...]
    message: str
    at_key: bool = False


@dataclass(frozen=True)
class Unavailable:
    """Devices and cases that can't be run: their trials are unavailable, with the reason.

    Attributes:
        devices: By device that isn't there, why.
        cases: By case key, why there is no such case: its constructor has no default, say.
    """

    devices: dict[str, str] = field(default_factory=dict)
    cases: dict[str, str] = field(default_factory=dict)

    def why(self, case: Case) -> str:
        """The reason why a case can't be run; empty if it can."""
        return self.devices.get(case.device, "") or self.cases.get(case.key, "")


@dataclass(frozen=True)
class Description:
    """Facts about an objective that a report needs; plain data.

    Attributes:
        formula: The objective in a line.
        dimension: Number of parameters.
        rows: Rows of data; 0 without data.
        steps: Updates per trial.
        steps_per_epoch: Updates per pass over the data.
        record_steps: Steps whose loss is recorded.
        optimum: The lowest loss, where it is known.
        minimizers: Where it is reached.
        window: For one or two parameters: what a plot shows of each.
        landscape: For one or two parameters: the loss on a grid over the window, row-major from
            the lowest x2 and x1, as many each way; else empty.
        data_source: Where the data come from, or empty.
        divergence_factor: See the spec.
        part_rows: Rows of each part that is held out.
        metrics: What is recorded of each part, with whether higher is better.
    """

    formula: str
    dimension: int
    rows: int
    steps: int
    steps_per_epoch: int
    record_steps: tuple[int, ...]
    optimum: float | None = None
    minimizers: tuple[tuple[float, ...], ...] = ()
    window: tuple[tuple[float, float], ...] | None = None
    landscape: tuple[float, ...] = ()
    data_source: str = ""
    divergence_factor: float | None = None
    part_rows: dict[str, int] = field(default_factory=dict)
    metrics: tuple[tuple[str, bool], ...] = (("loss", False),)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are recorded."""
        return parts_with(self.part_rows)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Everything that is recorded: the loss on train first."""
        return measures_of(self.metrics, self.parts)


@dataclass(frozen=True)
class CheckedSuite:
    """The findings of a look at the suite's code.

    Attributes:
        findings: Mistakes.
        descriptions: By objective name, what a report needs to know of it.
        defaults: By case key, every hyperparameter as the constructor completed it.
        absent: What can't be run here.
        notes: What is as it may be, and worth knowing; sentences.
    """

    findings: tuple[Finding, ...]
    descriptions: dict[str, Description]
    defaults: dict[str, dict[str, Any]]
    absent: Unavailable
    notes: tuple[str, ...] = ()

    def renamed(self, keys: Mapping[str, str]) -> CheckedSuite:
        """The same of cases with other keys."""
        defaults = {keys.get(key, key): value for key, value in self.defaults.items()}
        cases = {keys.get(key, key): why for key, why in self.absent.cases.items()}
        return replace(self, defaults=defaults, absent=replace(self.absent, cases=cases))
