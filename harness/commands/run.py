"""A run from spec to report: what is missing is computed, stored as it comes, then reported."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.commands import tuning
from harness.commands.preview import Preview, TimingPreview
from harness.commands.quality_pass import QualityPass
from harness.errors import BadInput, Problem
from harness.plan.builder import Overrides, draft
from harness.plan.model import Case, Plan
from harness.progress import NullProgress, Progress
from harness.provenance import environment, fingerprint, opened_files
from harness.provenance.environment import Machine
from harness.provenance.opened_files import Opened
from harness.reporting.objects import PAGE_NAME, Report, Run
from harness.results import Absent, Checked, Finding, Timing
from harness.spec.model import TimingSpec
from harness.spec.validation import LoadedSpec, load
from harness.store.database import FILE_NAME, NoResults, Store
from harness.store.records import RunSettings
from harness.suite.locate import as_text
from harness.workers.executor import Executor, Task, WorkerFailed
from harness.workers.pool import Pool
from harness.workers.requests import TimeCases, ValidatePlan
from harness.workers.suite_log import suite_log

LOCK_NAME = ".lock"

CHECK_SECONDS = 120.0
"""How long loading a suite's code may take."""


@dataclass(frozen=True)
class Options:
    """What is asked of a run.

    Attributes:
        overrides: Seeds, devices and filters on top of the spec.
        output: Where results go; None for ``reports/<suite>`` beside the spec.
        command: How to ask for it again, for the report.
        workers: Worker processes at most; None for one per core.
        fresh: Whether to run again what is known.
        executor: Who runs trials: processes of this machine, or Dask.
        scheduler: Address of a Dask scheduler, or the JSON file in which it stands; None for a
            cluster of Dask workers on this machine.
    """

    overrides: Overrides = field(default_factory=Overrides)
    output: Path | None = None
    command: str = "python -m harness run"
    workers: int | None = None
    fresh: bool = False
    executor: Literal["processes", "dask"] = "processes"
    scheduler: str | None = None


def validate(
    spec: Path | LoadedSpec, overrides: Overrides | None = None, output: Path | None = None
) -> tuple[Plan, Checked]:
    """Check a spec, its names, and every hyperparameter against its constructor.

    Args:
        spec: The YAML file, or what was loaded of it.
        overrides: Seeds, devices and filters on top of the spec.
        output: Where results are or would go; None for ``reports/<suite>`` beside the spec.

    Raises:
        BadInput: With every mistake.
    """
    loaded = _loaded(spec)
    plan, problems = draft(loaded, overrides or Overrides())
    if plan is None or plan.is_empty:
        raise BadInput(problems)
    told = NullProgress()
    with suite_log(told, keep=True) as log, Pool(1, printed=told.printed) as pool:
        checked = inspect(pool, loaded, plan, problems, overrides)
        known = opened_files.load(output_folder(loaded.folder, plan.suite, output))
        plan, checked, _ = _reread(pool, loaded, plan, checked, known)
    return plan, replace(checked, notes=(*checked.notes, *filter(None, [log.note])))


def _loaded(spec: Path | LoadedSpec) -> LoadedSpec:
    return spec if isinstance(spec, LoadedSpec) else load(spec)


def preview(spec: Path | LoadedSpec, options: Options) -> Preview:
    """Say what :func:`run` would do, without doing it.

    Raises:
        BadInput: With every mistake.
    """
    loaded = _loaded(spec)
    plan, checked = validate(loaded, options.overrides, options.output)
    output = output_folder(loaded.folder, plan.suite, options.output)
    known = 0
    machine = environment.machine_key(plan.spec.threads)
    cells = _cells(plan, checked.absent, ())
    due, step_seconds = cells, dict[str, float]()
    with contextlib.suppress(NoResults), Store(output / FILE_NAME, create=False) as store:
        step_seconds = store.step_seconds()
        if not options.fresh:
            if not _due(store, plan.tuning, machine):
                plan = tuning.completed(plan, store)
            known = sum(_known(store, part, machine) for part in _parts(plan))
            cells = _cells(plan, checked.absent, store.failing())
            due = _untimed(store, plan, cells, machine)
    steps = {name: d.steps for name, d in checked.descriptions.items()}
    timed = None
    if plan.spec.timing.enabled:
        cases = [case for cell in due for case in cell]
        pass_seconds = None
        if cases and all(step_seconds.get(case.key) for case in cases):
            pass_seconds = _expected(plan.spec.timing, cases, steps, step_seconds)
        total = sum(len(cell) for cell in cells)
        timed = TimingPreview(len(cases), total - len(cases), plan.spec.timing, pass_seconds)
    return Preview(plan, steps, checked.absent, known, output, timed)


def run(spec: Path | LoadedSpec, options: Options, progress: Progress) -> Run:
    """Run everything a spec asks for and is not known yet, then write the report.

    Args:
        spec: The YAML file, or what was loaded of it.
        options: What is asked of the run.
        progress: Who is told how it goes.

    Returns:
        What came of it.

    Raises:
        BadInput: If the spec has mistakes (then nothing is written), or the results can't be
            written.
    """
    loaded = _loaded(spec)
    plan, problems = draft(loaded, options.overrides)
    if plan is None or plan.is_empty:
        raise BadInput(problems)
    output = output_folder(loaded.folder, plan.suite, options.output)
    path = output / FILE_NAME
    known = opened_files.load(output)
    plan = plan.with_opened(known)
    here = environment.machine(plan.spec.threads)
    whole = None if problems or options.fresh else _all_known(path, plan, here.key)
    if whole is not None:
        with locked(output), Store(path, create=True) as store:
            current = store.is_current(whole, loaded.source.text, fingerprint.report())
            if current and (output / PAGE_NAME).is_file():
                return Run(path, store.last_run().id, store.statuses(), trained=0, timed=0)
            workers = store.last_run().environment.get("workers")
            if workers and options.executor == "dask":
                here = replace(here, description={**here.description, "workers": workers})
            _begin(store, loaded, whole, options, here, store.absent(), None)
            store.finish_run()
            return _report(store, progress, trained=0, timed=0)
    with suite_log(progress, output), _executor(loaded, plan, options, progress) as pool:
        loading = _Loading()
        with progress.stage("checking", len(plan.cases), "cases"):
            checked = inspect(pool, loaded, plan, problems, options.overrides)
            progress.advance(len(plan.cases))
        plan, checked, known = _reread(pool, loaded, plan, checked, known)
        for note in checked.notes:
            progress.note(f"note: {note}")
        loading.join()  # what can't be reported need not begin
        here = pool.machine(plan.spec.threads)
        with locked(output), Store(path, create=True) as store:
            opened_files.save(output, known)
            _begin(store, loaded, plan, options, here, checked.absent, checked)
            trainer = _Trainer(pool, store, here.key, checked.absent, progress, options.fresh)
            trained = 0
            if plan.searches:
                trained += trainer.run(plan.tuning, "tuning")
                plan = tuning.completed(plan, store)
                store.complete_plan(plan, _completed_defaults(plan, checked.defaults))
            trained += trainer.run(plan, "training")
            trained += trainer.run(plan.sweeping, "sweeping")
            if trained and plan.spec.timing.enabled:
                _write_page(path, progress)
            timed = _time(
                pool, store, plan, checked.absent, here.key, progress, fresh=options.fresh
            )
            if (more := known.merged(pool.opened.of(loaded.folder))) != known:
                opened_files.save(output, more)  # what is read by steps, once the plan had its keys
                store.rename_cases(plan, plan.with_opened(more))
            store.finish_run()
            pool.close()
            return _report(store, progress, trained=trained, timed=timed)


def _reread(
    pool: Executor, loaded: LoadedSpec, plan: Plan, checked: Checked, known: Opened
) -> tuple[Plan, Checked, Opened]:
    """A plan and what is known of it, now that its code was seen to be loaded."""
    seen = pool.opened.of(loaded.folder)
    known = known.merged(seen)
    now = plan.with_opened(known)
    keys = {a.key: b.key for a, b in zip(plan.everything, now.everything, strict=True)}
    checked = checked.renamed(keys)
    return now, replace(checked, notes=(*checked.notes, *seen.notes)), known


@contextlib.contextmanager
def _executor(
    loaded: LoadedSpec, plan: Plan, options: Options, progress: Progress
) -> Iterator[Executor]:
    """Who runs a plan's trials.

    Raises:
        BadInput: If Dask is asked for and isn't there, or no scheduler answers.
    """
    memory = round(plan.spec.limits.memory_gib * 2**30)
    size = options.workers or os.cpu_count() or 1
    if options.executor == "processes":
        fresh = plan.spec.timing.enabled
        with Pool(size, memory, fresh=fresh, printed=progress.printed) as pool:
            yield pool
        return
    try:
        from harness.workers.dask.cluster import Cluster
    except ImportError as error:
        message = f"is not installed ({error}); pip install distributed brings it"
        raise BadInput.of_file("dask", message) from None
    with Cluster(
        *(loaded.folder, plan),
        scheduler=options.scheduler,
        size=size,
        memory=memory,
        progress=progress,
    ) as cluster:
        yield cluster


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Be the only one who writes to a folder.

    Raises:
        BadInput: If somebody else is, or the folder can't be written.
    """
    from filelock import FileLock, Timeout

    try:
        output.mkdir(parents=True, exist_ok=True)
        with FileLock(output / LOCK_NAME, timeout=0):
            yield
    except Timeout:
        raise BadInput.of_file(
            str(output), "another run is writing here; wait for it, or give another --output"
        ) from None
    except OSError as error:
        raise BadInput.of_file(str(output), f"can't be written: {error.strerror}") from None


def output_folder(folder: Path, suite: str, output: Path | None) -> Path:
    """Where the results of a suite go that has a folder."""
    return output or folder / "reports" / suite


@dataclass(frozen=True)
class _Trainer:
    """Runs parts of a plan one after the other."""

    pool: Executor
    store: Store
    machine: str
    absent: Absent
    progress: Progress
    fresh: bool

    def run(self, part: Plan, what: str) -> int:
        """Run the trials of a part that are not known; returns how many."""
        done = {case.key: set[int]() for case in part.cases}
        done = done if self.fresh else _done(self.store, part, self.machine)
        quality = QualityPass(self.pool, self.store, part, self.machine, self.absent, self.progress)
        return quality.run(done, what)


def _parts(plan: Plan) -> tuple[Plan, Plan, Plan]:
    """What has seeds of its own: tuning, what is compared, sweeps."""
    return plan.tuning, plan, plan.sweeping


def _completed_defaults(
    plan: Plan, defaults: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Every hyperparameter of the cases that tuning has brought, by case key."""
    points = plan.spec.tuning.sweep if plan.spec.tuning else 0
    return {
        case.key: {**defaults.get(search.settings[0].key, {}), **case.hyperparameters}
        for search in plan.searches
        for case in (search.tuned(), *search.sweep(points))
    }


def _all_known(path: Path, plan: Plan, machine: str) -> Plan | None:
    """The whole plan, if there is nothing left to run of it."""
    with contextlib.suppress(NoResults), Store(path, create=False) as store:
        if not store.knows_objectives(planned.key for planned in plan.objectives):
            return None
        if _due(store, plan.tuning, machine):
            return None
        plan = tuning.completed(plan, store)
        if any(_due(store, part, machine) for part in _parts(plan)):
            return None
        cells = _cells(plan, store.absent(), store.failing())
        return None if _untimed(store, plan, cells, machine) else plan
    return None


def _due(store: Store, part: Plan, machine: str) -> bool:
    """Whether some trial of a part is to be run."""
    wanted, done = set(part.seeds), _done(store, part, machine)
    return any(wanted - done[case.key] for case in part.cases)


def _known(store: Store, part: Plan, machine: str) -> int:
    """How many trials of a part need not run again."""
    wanted, done = set(part.seeds), _done(store, part, machine)
    return sum(len(done[case.key] & wanted) for case in part.cases)


def _done(store: Store, plan: Plan, machine: str) -> dict[str, set[int]]:
    return store.finished_seeds((case.key for case in plan.cases), machine)


def inspect(
    pool: Executor,
    loaded: LoadedSpec,
    plan: Plan,
    problems: Iterable[Problem],
    overrides: Overrides | None = None,
) -> Checked:
    """Have a worker load what the plan names; raise with everything that is wrong.

    An objective that ends or holds up the worker is not run in the next try: it is its trials
    that shall say so. One that does so even then can't be loaded.
    """
    refused = {problem.file for problem in problems}
    given = [text for text in (overrides or Overrides()).values if f"--set {text}" not in refused]
    deadly: set[str] = set()
    checked: Checked | None = None
    while checked is None:
        try:
            checked = pool.call(Task(ValidatePlan(plan, frozenset(deadly)), CHECK_SECONDS))
        except WorkerFailed as error:
            number = error.lost.step
            name = plan.objectives[number - 1].name if number else ""
            if not name or name in deadly:
                text = f"loading the suite's code failed: {error}"
                raise BadInput([*problems, loaded.source.problem((), text)]) from None
            deadly.add(name)
    found = [*problems, *(_as_problem(loaded, finding, given) for finding in checked.findings)]
    found += _without_targets(loaded, plan, checked)
    if found:
        raise BadInput(found)
    return checked


def _without_targets(loaded: LoadedSpec, plan: Plan, checked: Checked) -> Iterator[Problem]:
    """Objectives that are tuned on for targets, and have none."""
    told = plan.spec.tuning
    if told is None or told.goal != "time_to_target":
        return
    for name in dict.fromkeys(search.base.objective.name for search in plan.searches):
        known = checked.descriptions.get(name)
        if known is not None and not tuning.targets_of(plan.spec.objectives[name], known.optimum):
            text = (
                f"{name!r} has no target to tune for: give it 'targets', losses to reach, for its "
                "optimum is not known"
            )
            yield loaded.source.problem(("tuning", "goal"), text)


def _as_problem(loaded: LoadedSpec, finding: Finding, given: Sequence[str]) -> Problem:
    """A mistake at the place where somebody made it: in the file, or on the command line."""
    match finding.path:
        case ("optimizers", _, "hyperparameters" | "search", name, *_) | (
            "optimizers",
            _,
            "per_objective",
            _,
            name,
            *_,
        ):
            for text in given:
                if text.partition("=")[0] == name:
                    return Problem(f"--set {text}", 0, 0, "", finding.message)
    return loaded.source.problem(finding.path, finding.message, at_key=finding.at_key)


def _begin(
    store: Store,
    loaded: LoadedSpec,
    plan: Plan,
    options: Options,
    here: Machine,
    absent: Absent,
    checked: Checked | None,
) -> None:
    store.begin_run(
        plan,
        command=as_text(options.command),
        spec_file=as_text(loaded.source.file),
        spec_text=loaded.source.text,
        settings=RunSettings.of(plan, absent, here.key),
        environment={**here.description, "git": environment.git_state(loaded.folder)},
        descriptions=checked.descriptions if checked else {},
        defaults=checked.defaults if checked else {},
    )


def _cells(plan: Plan, absent: Absent, failing: Container[str]) -> list[tuple[Case, ...]]:
    """Cases to be timed against each other: those of one objective on one device.

    Left out are cases that can't be run, and those of which some trial fails.
    """
    if not plan.spec.timing.enabled:
        return []
    cells: dict[tuple[str, str], list[Case]] = {}
    for case in plan.cases:
        if not absent.why(case) and case.key not in failing:
            cells.setdefault((case.objective.name, case.device), []).append(case)
    return [tuple(cell) for cell in cells.values()]


def _timing_settings(plan: Plan, cell: Sequence[Case]) -> str:
    """A digest of how a cell is timed, and of what is timed in it."""
    return fingerprint.digest(
        [plan.spec.timing.model_dump(), plan.spec.threads, sorted(case.key for case in cell)]
    )


def _time(
    pool: Executor,
    store: Store,
    plan: Plan,
    absent: Absent,
    machine: str,
    progress: Progress,
    *,
    fresh: bool,
) -> int:
    """Time the cells that are not timed; returns how many cases."""
    cells = _cells(plan, absent, store.failing())
    todo = cells if fresh else _untimed(store, plan, cells, machine)
    if not todo:
        return 0
    cases = [case for cell in todo for case in cell]
    objectives = {case.objective.name: case.objective.key for case in cases}
    steps = {name: store.description(key).steps for name, key in objectives.items()}
    step_seconds = store.step_seconds()
    spec = _within_budget(plan.spec.timing, cases, steps, step_seconds)
    weights = _weights([_expected(spec, cell, steps, step_seconds) for cell in todo])
    end = time.monotonic() + spec.seconds
    count = 0
    with progress.stage("timing", sum(len(cell) for cell in todo), "cases"):
        for number, cell in enumerate(todo):
            left = max(0.0, end - time.monotonic())
            share = left * weights[number] / sum(weights[number:])
            timings = _time_cell(
                pool, plan, cell, spec.model_copy(update={"seconds": share}), progress
            )
            store.save_timings(timings, machine, _timing_settings(plan, cell))
            progress.advance(len(cell))
            count += len(timings)
    return count


def _untimed(
    store: Store, plan: Plan, cells: Sequence[tuple[Case, ...]], machine: str
) -> list[tuple[Case, ...]]:
    """The cells of which some case is not timed the way the spec has it."""
    return [
        cell
        for cell in cells
        if {case.key for case in cell} - store.timed(machine, _timing_settings(plan, cell))
    ]


def _expected(
    spec: TimingSpec,
    cases: Iterable[Case],
    steps: Mapping[str, int],
    step_seconds: Mapping[str, float],
) -> float:
    """About what the blocks of some cases take, as far as their steps' times are known.

    Args:
        spec: How many blocks there are, and how long each is.
        cases: The cases.
        steps: By objective name, updates per trial.
        step_seconds: By case key, what a step takes.
    """
    return sum(
        (spec.rounds + spec.warmup_rounds)
        * min(spec.block_steps, steps[case.objective.name])
        * step_seconds.get(case.key, 0.0)
        for case in cases
    )


def _within_budget(
    spec: TimingSpec,
    cases: Sequence[Case],
    steps: Mapping[str, int],
    step_seconds: Mapping[str, float],
) -> TimingSpec:
    """The timing spec, with blocks as short as it takes to keep to its time, about."""
    expected = _expected(spec, cases, steps, step_seconds)
    if expected <= spec.seconds:
        return spec
    block_steps = max(1, int(spec.block_steps * spec.seconds / expected))
    return spec.model_copy(update={"block_steps": block_steps})


def _weights(expected: Sequence[float]) -> list[float]:
    """How the time is shared among cells: half equally, half by what each may take.

    A cell that takes next to nothing so has time for its set-up, and what a cell leaves goes
    to those after it.
    """
    total = sum(expected)
    return [1 / len(expected) + (e / total if total else 0.0) for e in expected]


def _time_cell(
    pool: Executor,
    plan: Plan,
    cell: Sequence[Case],
    spec: TimingSpec,
    progress: Progress,
) -> list[Timing]:
    """Time the cases of a cell against each other; without one that kills or hangs the worker."""
    cases = list(cell)
    while cases:
        request = TimeCases(tuple(cases), spec, plan.seeds[0], plan.spec.threads)
        try:
            timings, failures = pool.call(Task(request, plan.spec.limits.seconds))
        except WorkerFailed as error:
            culprit = cases.pop((error.lost.step - 1) % len(cases))
            progress.note(f"{culprit.id} could not be timed: {error}")
            continue
        for case in cases:
            if case.key in failures:
                progress.note(f"{case.id} could not be timed: {failures[case.key]}")
        return list(timings)
    return []


class _Loading:
    """Loads what the report needs while the worker loads torch."""

    def __init__(self) -> None:
        self._error: BadInput | None = None
        self._thread = threading.Thread(target=self._load, daemon=True)
        self._thread.start()

    def _load(self) -> None:
        try:
            import harness.reporting.figures.draw
            import harness.reporting.write  # noqa: F401 - for their imports
        except BadInput as error:
            self._error = error

    def join(self) -> None:
        """Wait until all is loaded.

        Raises:
            BadInput: If it can't be.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error


def _write_page(path: Path, progress: Progress) -> None:
    """Write the page of a run whose trials are done and not yet timed, if it can be written."""
    from harness.reporting import write as report_writer

    with progress.stage("reporting", 1, "page"):
        try:
            report_writer.write_report(Report(path), ("html",))
        except BadInput as error:
            progress.note(str(error.problems[0]))
        progress.advance(1)


def write_report(store: Store, report: Report, progress: Progress) -> None:
    """Write the report of a store's latest run beside it."""
    with progress.stage("reporting", 1, "page"):
        from harness.reporting import write as report_writer
        from harness.reporting.page import index

        report_writer.write_report(report)
        progress.advance(1)
    store.note_report(fingerprint.report())
    if note := index.update(store.path.parent):
        progress.note(note)


def report_again(path: Path, formats: Collection[str] = ()) -> Report:
    """Write the report of a store's latest run, even while it is under way.

    Args:
        path: The store.
        formats: Which of ``reporting.FORMATS`` to write; all if empty.

    Raises:
        BadInput: If there is no run in it, or something can't be written.
    """
    from harness.reporting import write as report_writer

    while True:
        report = Report(path)
        report_writer.write_report(report, formats or report_writer.FORMATS)
        if report.results.run.finished:
            return report
        with Store(path, create=False) as store:
            # The run's own report may have been there before, and be the newer one.
            if not store.last_run().finished:
                return report


def _report(store: Store, progress: Progress, *, trained: int, timed: int) -> Run:
    run = Run(store.path, store.last_run().id, store.statuses(), trained, timed)
    write_report(store, run, progress)
    return run
