"""The check: measure a suite, and compare it with a baseline or another revision.

A first process measures times. Where a cell's has changed, or the reference loop differed from
itself, two more do, and the median of the three decides.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from harness.commands import measure_revision
from harness.commands.measure_revision import MeasuredRevision
from harness.commands.result_paths import locked, output_folder
from harness.commands.run import write_report
from harness.errors import BadInput, Problem
from harness.gate import baseline as baselines
from harness.gate import history, judge, revision
from harness.gate import report as verdicts
from harness.gate.baseline import Baseline, Cell
from harness.gate.judge import Limits, MeasurementComparison
from harness.gate.outputs import junit, markdown, pytest_benchmark
from harness.gate.report import METRICS, Blocks, CellVerdict, GateReport, Judgement
from harness.measures import TRAIN_LOSS
from harness.plan import measuring
from harness.plan.builder import Overrides, draft
from harness.plan.model import Case, Plan, applies, is_named
from harness.progress import Progress
from harness.provenance import environment, fingerprint
from harness.reporting.objects import CHECK_FOLDER, Check, Report
from harness.spec.model import Spec
from harness.spec.validation import LoadedSpec, load
from harness.store.database import FILE_NAME, Store
from harness.workers.suite_log import suite_log

CONFIRMING, UPDATING, FEWEST = 3, 5, 3
"""Processes that decide on a cell; that a new baseline is from; the fewest of those."""


@dataclass(frozen=True)
class GateOptions:
    """Options of a check.

    Attributes:
        overrides: Seeds, devices and filters on top of the spec.
        output: Where results go; None for ``reports/<suite>`` beside the spec.
        baseline: The baseline to compare to, or to write; None where ``base`` is given.
        base: A revision to compare to.
        warn: Metrics that never fail the check.
        allow_new: Whether a cell that only this side has may pass.
        workers: Worker processes at most; None for one per core.
        processes: Processes that a new baseline is from.
    """

    overrides: Overrides = field(default_factory=Overrides)
    output: Path | None = None
    baseline: Path | None = None
    base: str | None = None
    warn: frozenset[str] = frozenset()
    allow_new: bool = False
    workers: int | None = None
    processes: int = UPDATING


@dataclass(frozen=True)
class Written:
    """A baseline that was written.

    Attributes:
        baseline: Its content.
        missing: By device that isn't there, why; its cells are not in it.
    """

    baseline: Baseline
    missing: Mapping[str, str]


class NotWritten(BadInput):
    """A baseline can't be written for want of sound numbers; carries reasons and exit status."""

    def __init__(self, problems: Iterable[Problem], exit_status: int) -> None:
        super().__init__(problems)
        self.exit_status = exit_status


def check(spec: Path, options: GateOptions, progress: Progress) -> Check:
    """Compare a suite with a baseline, or with another revision of itself.

    Args:
        spec: The YAML file.
        options: What the command line says.
        progress: Who is told how it goes.

    Returns:
        The findings, and where they are written.

    Raises:
        BadInput: If the spec or the baseline has mistakes, or results can't be written.
    """
    began = time.monotonic()
    before = baselines.read(options.baseline) if options.baseline else None
    loaded, plan = _planned(spec, options.overrides)
    output = output_folder(loaded.folder, plan.suite, options.output)
    with contextlib.ExitStack() as stack:
        stack.enter_context(suite_log(progress, output))
        there = None
        if options.base is not None:
            there = stack.enter_context(_laid_out(options.base, spec, plan))
        # They load torch while the trials run.
        searches = [()] if there is None else [(), there.search]
        started = [measure_revision.waiting(plan, progress, search) for search in searches]
        for pool in started:
            stack.enter_context(pool)
        now = measure_revision.opened(
            loaded, plan, output / FILE_NAME, progress, workers=options.workers
        )
        other = _other_side(there, plan, options, progress) if there else None
        both = [now, other] if other else [now]
        limits = {case.id: _limits(plan.spec, case) for case in now.cases}
        measure_revision.measure(both, 0, progress, started)
        comparison = _comparison(now, other, before)
        if comparison.suspects(limits) or comparison.unstable_reference:
            for number in range(1, CONFIRMING):
                measure_revision.measure(both, number, progress)
            comparison = _comparison(now, other, before)
    report = _Reporter(now, other, comparison, options).report(began)
    _keep(report, output, progress)
    return Check(report, output)


def add_summary(report: GateReport, file: Path) -> str:
    """Add what a check found to a file of Markdown, such as a runner shows beside a job.

    Returns:
        Why that could not be done; empty if it could.
    """
    try:
        with file.open("a", encoding="utf-8") as summary:
            summary.write(markdown.render(report))
    except OSError as error:
        return f"{file} can't be written: {error.strerror}"
    return ""


def update(spec: Path, options: GateOptions, progress: Progress) -> Written:
    """Write a baseline of what a suite does now.

    Raises:
        BadInput: If the spec has mistakes, or the baseline can't be written.
        NotWritten: If a cell can't be measured, or the reference loop differs from itself too much.
    """
    assert options.baseline is not None
    if options.baseline.is_dir():
        raise BadInput.of_file(str(options.baseline), "is a folder, expected a file to write")
    loaded, plan = _planned(spec, options.overrides)
    path = output_folder(loaded.folder, plan.suite, options.output) / FILE_NAME
    with suite_log(progress, path.parent):
        now = measure_revision.opened(loaded, plan, path, progress, workers=options.workers)
        kept = _kept(options, now.measured())
        for number in range(max(FEWEST, options.processes)):
            if not now.failure_reasons:
                measure_revision.measure([now], number, progress)
    file = str(options.baseline)
    if now.failure_reasons:
        raise NotWritten(
            [
                Problem(file, 0, 0, name, f"not written: {why}")
                for name, why in now.failure_reasons.items()
            ],
            verdicts.EXIT_MISSING,
        )
    if now.unstable_reference or now.cpu_starved:
        far = ", ".join(f"{control:.3f}" for control in now.controls)
        part = ", ".join(f"{share:.0%}" for share in now.shares)
        why = f"the reference loop took {far} times as long as itself, with {part} of a processor"
        why = f"not written, the machine is busy: {why}"
        raise NotWritten([Problem(file, 0, 0, "", why)], verdicts.EXIT_UNSURE)
    found = now.measured()
    found = found.model_copy(update={"cells": {**kept, **found.cells}})
    baselines.write(found, options.baseline)
    return Written(found, now.missing)


def _kept(options: GateOptions, found: Baseline) -> dict[str, Cell]:
    """The cells of a baseline that the command line left out of its update.

    Raises:
        BadInput: If there are some that don't hold for what was measured now.
    """
    overrides, file = options.overrides, options.baseline
    assert file is not None
    if not (overrides.only or overrides.devices) or not file.exists():
        return {}
    old = baselines.read(file)
    kept = {n: cell for n, cell in old.cells.items() if not _is_asked_for(n, overrides)}
    differs = [*baselines.time_differs(old, found), *baselines.counts_differ(old, found)]
    if old.seeds != found.seeds:
        differs.append(f"seeds: {old.seeds} then, {found.seeds} now")
    if kept and differs:
        text = f"the {len(kept):,} cells left out would not fit ({'; '.join(differs)}): update all"
        raise BadInput.of_file(str(file), text)
    return kept


def _planned(spec: Path, overrides: Overrides) -> tuple[LoadedSpec, Plan]:
    loaded = load(spec)
    plan, problems = draft(loaded, overrides)
    if plan is None or problems:
        raise BadInput(problems)
    if plan.searches:
        text = "a check needs fixed settings: give values instead of a search"
        searched = dict.fromkeys(search.base.optimizer for search in plan.searches)
        places = [("optimizers", name, "search") for name in searched]
        raise BadInput([loaded.source.problem(path, text, at_key=True) for path in places])
    return loaded, plan


def _laid_out(base: str, spec: Path, plan: Plan) -> AbstractContextManager[revision.Revision]:
    """Lay out a revision with all packages that the plan names but the harness."""
    named = {
        name
        for case in plan.cases
        for located in (case.located, case.objective.located, case.objective.dataset)
        if located is not None
        for name in fingerprint.of(located)
    }
    packages = {name for name in named if name.isidentifier()}
    return revision.laid_out(base, spec, packages - {"harness"})


def _other_side(
    there: revision.Revision, now: Plan, options: GateOptions, progress: Progress
) -> MeasuredRevision:
    """The side of another revision, measured as today's is; of its results nothing is kept.

    What the command line leaves in need not be there.
    """
    try:
        with revision.found_first(there.search):
            loaded, plan = _planned(there.spec, replace(options.overrides, only=()))
        spec = plan.spec.model_copy(update={"check": now.spec.check})
        cases = tuple(case for case in plan.cases if _is_asked_for(case.id, options.overrides))
        plan = replace(plan, spec=spec, cases=cases)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / FILE_NAME
            return measure_revision.opened(
                loaded, plan, path, progress, workers=options.workers, search=there.search
            )
    except BadInput as error:
        raise revision.as_named(error, there, options.base or "") from None


def _comparison(
    now: MeasuredRevision, other: MeasuredRevision | None, before: Baseline | None
) -> MeasurementComparison:
    revisions = [now] if other is None else [now, other]
    older = before if other is None else other.measured()
    assert older is not None
    return MeasurementComparison(
        older,
        now.measured(),
        paired=other is not None,
        unstable_reference=any(revision.unstable_reference for revision in revisions),
        cpu_starved=any(revision.cpu_starved for revision in revisions),
    )


def _limits(spec: Spec, case: Case) -> Limits:
    """By how much the spec lets a cell get worse."""
    threshold, tolerance = spec.check.threshold, spec.check.loss_tolerance
    names = {
        "optimizer": case.optimizer,
        "objective": case.objective.name,
        "device": case.device,
    }
    for cell in spec.check.cells:
        if applies(cell, names, case.hyperparameters):
            threshold = threshold if cell.threshold is None else cell.threshold
            tolerance = tolerance if cell.loss_tolerance is None else cell.loss_tolerance
    measure = measuring.reported(spec.objectives[case.objective.name])
    return Limits(threshold, tolerance, case.objective.dtype, measure)


@dataclass(frozen=True)
class _Reporter:
    """Makes a report of what was measured."""

    now: MeasuredRevision
    other: MeasuredRevision | None
    comparison: MeasurementComparison
    options: GateOptions

    def report(self, began: float) -> GateReport:
        """The report of a check that began at a monotonic time."""
        plan, comparison = self.now.plan, self.comparison
        known = {case.id for case in plan.cases}
        gone = [name for name in comparison.before.cells if name not in known]
        gone = [name for name in gone if _is_asked_for(name, self.options.overrides)]
        differs = [*comparison.time_differs, *comparison.counts_differ]
        if comparison.before.suite != plan.suite:
            differs.insert(0, f"suite: {comparison.before.suite} then, {plan.suite} now")
        revisions = [self.now, self.other] if self.other else [self.now]
        machine = comparison.now.machine
        return GateReport(
            suite=plan.suite,
            spec_file=self.now.loaded.source.file,
            against=f"revision {self.options.base}" if self.other else str(self.options.baseline),
            taken=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            seconds=time.monotonic() - began,
            git=environment.git_state(self.now.loaded.folder),
            machine=machine,
            machine_key=fingerprint.digest([machine, comparison.now.protocol])[:12],
            differs=tuple(dict.fromkeys(differs)),
            controls=tuple(control for each in revisions for control in each.controls),
            shares=tuple(share for each in revisions for share in each.shares),
            cells=(
                *(self._cell(case.id, self._judgements(case), case) for case in plan.cases),
                *(self._cell(n, _all("missing", "only the other side has the cell")) for n in gone),
            ),
        )

    def _cell(
        self, name: str, judgements: tuple[Judgement, ...], case: Case | None = None
    ) -> CellVerdict:
        """The verdict on a cell; without its case, on one that only the other side has."""
        names = _names(name)
        source = self.now.loaded.source
        place = source.problem(("optimizers", names["optimizer"]), "", at_key=True)
        measure = self._measure(name, case)
        judgements = tuple(
            replace(judged, measure=measure) if judged.metric == "loss" else judged
            for judged in judgements
        )
        return CellVerdict(
            id=name,
            **names,
            place=f"{place.file}:{place.line}:{place.column}",
            judgements=judge.warn_only(judgements, self.options.warn),
            steps_per_epoch=self.now.steps_per_epoch[names["objective"]] if case else 1,
            blocks=tuple(self._blocks(case)) if case else (),
        )

    def _measure(self, name: str, case: Case | None) -> str:
        """The name of what is reported of a cell; empty where it is the loss on train."""
        if case is not None:
            objective = self.now.plan.spec.objectives[case.objective.name]
            return judge.measure_name(measuring.reported(objective))
        there = self.comparison.before.cells[name].loss.measure
        return "" if there == TRAIN_LOSS.name else there

    def _judgements(self, case: Case) -> tuple[Judgement, ...]:
        is_here = case.id in self.comparison.now.cells
        is_there = case.id in self.comparison.before.cells
        why = self.now.missing.get(case.device, "")
        if is_here and is_there:
            judged = self.comparison.cell(case.id, _limits(self.now.plan.spec, case))
            return tuple(self._explained(case, each) for each in judged)
        if is_here and case.id in self.now.failure_reasons:
            return _all("failed", self.now.failure_reasons[case.id])
        if is_here:
            hint = "; --update adds it" if self.options.baseline else ""
            found = _all("missing", f"only this side has the cell{hint}")
            return judge.warn_only(found, METRICS if self.options.allow_new else ())
        if is_there:
            return _all("missing", f"only the other side has the cell: {why}")
        # Neither side could run it: there is nothing that could have passed silently.
        return judge.warn_only(_all("not comparable", f"on neither side: {why}"), METRICS)

    def _explained(self, case: Case, judged: Judgement) -> Judgement:
        """A judgement, with what is known of the reason where it failed."""
        if judged.outcome == "failed" and (why := self.now.failure_reasons.get(case.id)):
            return replace(judged, why=why)
        if judged.outcome == "missing" and self.other is not None:
            why = self.other.failure_reasons.get(case.id)
            return replace(judged, why=f"on the other side it {why}") if why else judged
        return judged

    def _blocks(self, case: Case) -> Iterator[Blocks]:
        """Everything that was measured of a cell, on both sides."""
        sides: dict[Literal["now", "before"], MeasuredRevision | None]
        sides = {"now": self.now, "before": self.other}
        for side, measured in sides.items():
            keys = [c.key for c in measured.cases if c.id == case.id] if measured else []
            for process, found in enumerate(measured.ratios if measured else ()):
                for pairs in (found.cells[key] for key in keys if key in found.cells):
                    yield Blocks(**vars(pairs), process=process, side=side)


def _all(outcome: verdicts.Outcome, why: str) -> tuple[Judgement, ...]:
    """The same judgement of every metric."""
    return tuple(Judgement(metric, outcome, why) for metric in METRICS)


def _is_asked_for(name: str, overrides: Overrides) -> bool:
    """Tell whether the command line leaves a cell in."""
    names = _names(name)
    if overrides.devices and names["device"] not in overrides.devices:
        return False
    wanted: dict[str, list[str]] = {}
    for text in overrides.only:
        key, _, pattern = text.partition("=")
        wanted.setdefault(key, []).append(pattern)
    return all(any(is_named(names[k], p) for p in ps) for k, ps in wanted.items())


def _names(cell_id: str) -> dict[str, str]:
    """Objective, optimizer, setting and device of a cell, from its id."""
    pattern = (
        r"(?P<objective>[^/]*)/(?P<optimizer>[^/[]*)(?:\[(?P<setting>.*)\])?/(?P<device>[^/]*)"
    )
    if found := re.fullmatch(pattern, cell_id, re.DOTALL):
        return found.groupdict("")
    return {"objective": cell_id, "optimizer": "", "setting": "", "device": ""}


def _keep(report: GateReport, output: Path, progress: Progress) -> None:
    """Write a report and what CI reads, and put them on the page if there is one."""
    made = {
        "check.json": verdicts.to_json(report),
        "summary.md": markdown.render(report),
        "junit.xml": junit.render(report),
        "pytest-benchmark.json": pytest_benchmark.render(report),
    }
    path = folder = output / CHECK_FOLDER
    with locked(output):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in made.items():
                path = folder / name
                temporary = folder / f".{name}.tmp"
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(path)
        except OSError as error:
            raise BadInput.of_file(str(path), f"can't be written: {error.strerror}") from None
        history.append(output / history.FILE_NAME, report)
        with Store(output / FILE_NAME, create=True) as store:
            if store.has_run():
                write_report(store, Report(store.path), progress)
