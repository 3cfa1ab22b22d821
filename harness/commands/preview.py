"""A preview of a run, and of a spec without mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.plan.model import Plan
from harness.progress import relative
from harness.results import CheckedSuite, Unavailable
from harness.spec.model import TimingSpec
from harness.terminal import aligned


@dataclass(frozen=True)
class TimingPreview:
    """A preview of a run's timing pass.

    Attributes:
        cases: How many cases it would time.
        known: How many need not be timed again.
        spec: How.
        seconds: About what its blocks take, or None where that is not known.
    """

    cases: int
    known: int
    spec: TimingSpec
    seconds: float | None


@dataclass(frozen=True, repr=False)
class Preview:
    """A preview of a run; as text, what a dry run prints.

    Attributes:
        plan: The plan.
        steps: By objective name, updates per trial.
        absent: What can't be run here.
        known: How many of the plan's trials need not run again.
        output: Where results would go.
        timing: What would be timed; None where that is turned off.
    """

    plan: Plan
    steps: dict[str, int]
    absent: Unavailable
    known: int
    output: Path
    timing: TimingPreview | None

    def __repr__(self) -> str:
        return "\n".join([*aligned(_rows(self)), "", *_sums(self)])


@dataclass(frozen=True, repr=False)
class Validation:
    """A spec without a mistake; as text, how much it asks for.

    Attributes:
        spec: The spec as the user named it.
        plan: The plan.
        checked: What its names turned out to be.
    """

    spec: str
    plan: Plan
    checked: CheckedSuite

    @property
    def notes(self) -> tuple[str, ...]:
        """Reasons why devices are missing, and what else is worth knowing, a sentence each."""
        return (*self.checked.absent.devices.values(), *self.checked.notes)

    def __repr__(self) -> str:
        plan = self.plan
        fine = (
            f"{self.spec}: fine. {len(plan.cases) + len(plan.open_searches):,} cases with "
            f"{len(plan.seeds):,} seeds: {plan.trials:,} trials"
            f"{', tuning and sweeps included' if plan.searches else ''}."
        )
        return "\n".join([fine, *(f"note: {why}" for why in self.notes)])


def _rows(preview: Preview) -> list[tuple[str, ...]]:
    plan = preview.plan
    lines = [
        *((case, case.setting or "-", plan.seeds) for case in plan.cases),
        *((s.base, f"{len(s.settings):,} tried", plan.tuning_seeds) for s in plan.searches),
    ]
    rows: list[tuple[str, ...]] = [
        ("objective", "optimizer", "setting", "device", "seeds", "steps each", "")
    ]
    for case, setting, seeds in lines:
        names = (case.objective.name, case.optimizer, setting, case.device)
        steps = preview.steps[case.objective.name]
        missing = "unavailable" if preview.absent.why(case) else ""
        rows.append((*names, f"{len(seeds):,}", f"{steps:,}", missing))
    return rows


def _sums(preview: Preview) -> list[str]:
    plan = preview.plan
    cases = len(plan.cases) + len(plan.open_searches)
    steps = sum(
        preview.steps[case.objective.name] * len(part.seeds)
        for part in (plan, plan.tuning, plan.sweeping)
        for case in part.cases
        if not preview.absent.why(case)
    )
    tuning = ", tuning and sweeps included" if plan.searches else ""
    lines = [
        f"{cases:,} cases with {len(plan.seeds):,} seeds: {plan.trials:,} trials{tuning}, "
        f"{preview.known:,} of them known; about {steps:,} optimizer steps for all"
        f"{' but what tuning decides' if plan.open_searches else ''}.",
        timing_line(preview.timing),
    ]
    missing = preview.absent.devices.values()
    lines += [f"note: {why}; its trials will be 'unavailable'" for why in missing]
    lines += [
        f"note: {why}: its trials at the defaults will be 'unavailable'"
        for why in dict.fromkeys(preview.absent.cases.values())
    ]
    return [*lines, f"Results would go to {relative(preview.output)}."]


def timing_line(timing: TimingPreview | None) -> str:
    """A sentence on what the timing pass would do."""
    if timing is None:
        return "Timing pass: none, it is turned off."
    if not timing.cases:
        return f"Timing pass: nothing to do; {timing.known:,} cases are timed already."
    spec = timing.spec
    about = ""
    if timing.seconds is not None and timing.seconds < spec.seconds:
        about = f"about {timing.seconds:.2g} s, "
    known = f" ({timing.known:,} others are timed already)" if timing.known else ""
    return (
        f"Timing pass: {timing.cases:,} cases{known}, {spec.rounds:,} rounds of up to "
        f"{spec.block_steps:,} steps each, {about}at most about {spec.seconds:g} s."
    )
