"""The requests that a worker understands, each with the type of its answer. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from harness.conformance.records import Part
from harness.plan.model import Case, Plan
from harness.results import (
    CheckedSuite,
    Chunk,
    MeasuredRatios,
    Sharing,
    StepCounts,
    Timing,
    Together,
)
from harness.spec.model import CheckSpec, TimingSpec

Answer = TypeVar("Answer", covariant=True)


class Request(Generic[Answer]):
    """Something that a worker can be asked for.

    Attributes:
        clock_restarts_at: The event that sets the time limit's clock back to zero: every step (the
            limit is then one for a standstill), every result that is sent (then one for each
            result), or none.
        fresh: True for what measures seconds or counts calls: it needs a process that was started,
            not forked, and a machine that does nothing else meanwhile.
    """

    clock_restarts_at: ClassVar[Literal["step", "result", "never"]] = "step"
    fresh: ClassVar[bool] = False


@dataclass(frozen=True)
class ValidatePlan(Request[CheckedSuite]):
    """Load and construct everything a plan names; the step is the objective's number.

    Attributes:
        plan: The plan.
        deadly: Names of objectives that ended a worker before, which are loaded but not run.
    """

    plan: Plan
    deadly: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DecideSharing(Request[Sharing]):
    """Find out how the trials of some cases may share a run."""

    cases: tuple[Case, ...]
    seeds: Sequence[int]
    threads: int


@dataclass(frozen=True)
class RunVectorized(Request[Together]):
    """Run all trials of a chunk as lanes of one run; raises if any of them does.

    Attributes:
        chunk: The trials.
        sharing: How they may run.
        threads: Threads that torch may use.
        seconds: What one trial may take.
    """

    chunk: Chunk
    sharing: Sharing
    threads: int
    seconds: float = math.inf


@dataclass(frozen=True)
class RunSingle(Request[None]):
    """Run trials one by one and send each result; a trial that raises costs itself only.

    Ends early where a trial left so much behind that the next might lack memory.

    Attributes:
        trials: Cases with seeds.
        reason: Why they share no run.
        threads: Threads that torch may use.
    """

    clock_restarts_at = "result"

    trials: Sequence[tuple[Case, int]]
    reason: str
    threads: int


@dataclass(frozen=True)
class TimeCases(Request[tuple[list[Timing], dict[str, str]]]):
    """Time cases of one objective and device; the answer has the failures by case key as well."""

    fresh = True

    cases: Sequence[Case]
    spec: TimingSpec
    seed: int
    threads: int


@dataclass(frozen=True)
class CountSteps(Request[StepCounts]):
    """Count the calls, memory and evaluations that a case's steps take."""

    clock_restarts_at = "never"
    fresh = True  # in a fork the stack is deeper, which code that looks at it could count

    case: Case
    seed: int
    threads: int


@dataclass(frozen=True)
class PrepareRatios(Request[None]):
    """Prepare cases for :class:`MeasureRatios` in the same worker."""

    fresh = True

    cases: Sequence[Case]
    spec: CheckSpec
    seed: int
    threads: int


@dataclass(frozen=True)
class MeasureRatios(Request[None]):
    """Measure some more rounds of the prepared cases."""

    fresh = True

    rounds: int


@dataclass(frozen=True)
class CollectRatios(Request[MeasuredRatios]):
    """Hand over what was measured."""

    clock_restarts_at = "never"
    fresh = True


@dataclass(frozen=True)
class TryPart(Request[None]):
    """Try a part of a suite and send what is found.

    Attributes:
        part: The part.
        after: Number of its tests that were begun before, in a worker that is gone.
        seconds: Time limit of each test.
    """

    part: Part
    after: int
    seconds: float


AnyRequest = (
    ValidatePlan
    | DecideSharing
    | RunVectorized
    | RunSingle
    | TimeCases
    | CountSteps
    | PrepareRatios
    | MeasureRatios
    | CollectRatios
    | TryPart
)
