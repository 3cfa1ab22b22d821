"""A preview of a run, and of a spec without mistakes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.formatting import plural
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
        notes: What else is worth knowing, a sentence each.
    """

    plan: Plan
    steps: dict[str, int]
    absent: Unavailable
    known: int
    output: Path
    timing: TimingPreview | None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([*aligned(_rows(self)), "", *_sums(self), *notes])


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
        fine = f"{self.spec}: no mistakes; {_size(self.plan)}."
        return "\n".join([fine, *(f"note: {why}" for why in self.notes)])


def _size(plan: Plan) -> str:
    """Cases, seeds and trials: ``20 cases, 10 seeds: 200 trials``."""
    cases = plural(len(plan.cases) + len(plan.open_searches), "case")
    text = f"{cases}, {plural(len(plan.seeds), 'seed')}: {plural(plan.trials, 'trial')}"
    return f"{text}, including tuning and sweeps" if plan.searches else text


def _rows(preview: Preview) -> list[tuple[str, ...]]:
    """A row for each case, and for each search, that is not skipped."""
    plan = preview.plan
    lines = [
        *((case, case.setting or "-", plan.seeds) for case in plan.cases),
        *((s.base, f"{len(s.settings):,} tried", plan.tuning_seeds) for s in plan.searches),
    ]
    rows: list[tuple[str, ...]] = [
        ("objective", "optimizer", "setting", "device", "seeds", "steps per trial")
    ]
    for case, setting, seeds in lines:
        if not preview.absent.why(case):
            steps = f"{preview.steps[case.objective.name]:,}"
            names = (case.objective.name, case.optimizer, setting, case.device)
            rows.append((*names, f"{len(seeds):,}", steps))
    return rows


def _sums(preview: Preview) -> list[str]:
    plan = preview.plan
    steps = sum(
        preview.steps[case.objective.name] * len(part.seeds)
        for part in plan.parts
        for case in part.cases
        if not preview.absent.why(case)
    )
    skipped = Counter[str]()
    for part in plan.parts:
        for case in part.cases:
            if why := preview.absent.why(case):
                skipped[why] += len(part.seeds)
    known = f"; {preview.known:,} of them need not run again" if preview.known else ""
    open_ = ", without those that depend on tuning" if plan.open_searches else ""
    return [
        f"{_size(plan)}{known}.",
        *(f"{count:,} of {plan.trials:,} trials skipped: {why}." for why, count in skipped.items()),
        f"About {steps:,} optimizer steps in all{open_}.",
        timing_line(preview.timing),
        f"Results go to {relative(preview.output)}.",
    ]


def timing_line(timing: TimingPreview | None) -> str:
    """A sentence on what the timing pass would do."""
    if timing is None:
        return "Timing: turned off."
    if not timing.cases:
        return f"Timing: nothing to do, {plural(timing.known, 'case')} timed already."
    spec = timing.spec
    about = ""
    if timing.seconds is not None and timing.seconds < spec.seconds:
        about = f"about {timing.seconds:.2g} s, "
    known = f" ({timing.known:,} others timed already)" if timing.known else ""
    return (
        f"Timing: {plural(timing.cases, 'case')}{known}, {spec.rounds:,} rounds of up to "
        f"{plural(spec.block_steps, 'step')}, {about}at most about {spec.seconds:g} s."
    )
