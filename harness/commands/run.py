"""A run from spec to report: what is missing is computed, stored as it comes, then reported."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.commands import timing_pass, tuning
from harness.commands.preview import Preview
from harness.commands.quality_pass import QualityPass
from harness.commands.result_paths import locked, output_folder
from harness.commands.run_log import run_log
from harness.commands.timing_pass import TimingPass
from harness.commands.validation import validate_in_worker, with_opened_files
from harness.errors import BadInput, Problem
from harness.plan.builder import Overrides, draft
from harness.plan.model import Plan
from harness.progress import NullProgress, Progress
from harness.provenance import environment, fingerprint, opened_files
from harness.provenance.environment import Machine
from harness.provenance.opened_files import Opened
from harness.reporting import printed
from harness.reporting.objects import PAGE_NAME, Report, Run
from harness.reporting.tables import reproduce
from harness.results import CheckedSuite, Unavailable
from harness.spec.validation import LoadedSpec, load
from harness.store.database import FILE_NAME, NoResults, Store
from harness.store.records import RunSettings
from harness.suite.locate import as_text
from harness.workers.executor import Executor
from harness.workers.pool import Pool
from harness.workers.suite_log import suite_log


@dataclass(frozen=True)
class RunOptions:
    """Options of a run, beside its spec.

    Attributes:
        overrides: Seeds, devices and filters on top of the spec.
        output: Where results go; None for ``reports/<suite>`` beside the spec.
        workers: Worker processes at most; None for one per core.
        executor: Who runs trials: processes of this machine, or Dask; None where it was left open.
        scheduler: Address of a Dask scheduler, or the JSON file in which it stands; None for a
            cluster of Dask workers on this machine.
        fresh: Whether to run again what is known.
    """

    overrides: Overrides = field(default_factory=Overrides)
    output: Path | None = None
    workers: int | None = None
    executor: Literal["processes", "dask"] | None = None
    scheduler: str | None = None
    fresh: bool = False

    @property
    def uses_dask(self) -> bool:
        """True if Dask runs the trials."""
        return self.executor == "dask" or (self.executor is None and self.scheduler is not None)


def validate(
    spec: Path | LoadedSpec, overrides: Overrides | None = None, output: Path | None = None
) -> tuple[Plan, CheckedSuite]:
    """Check a spec, its names, and every hyperparameter against its constructor.

    Args:
        spec: The YAML file, or what was loaded of it.
        overrides: Seeds, devices and filters on top of the spec.
        output: Where results are or would go; None for ``reports/<suite>`` beside the spec.

    Raises:
        BadInput: With every mistake.
    """
    loaded, plan, problems = _drafted(spec, overrides or Overrides())
    progress = NullProgress()
    with suite_log(progress, keep=True) as log, Pool(1, printed=progress.printed) as pool:
        checked = validate_in_worker(pool, loaded, plan, problems, overrides)
        known = opened_files.load(output_folder(loaded.folder, plan.suite, output))
        plan, checked, _ = with_opened_files(pool, loaded, plan, checked, known)
    return plan, replace(checked, notes=(*checked.notes, *filter(None, [log.note])))


def _drafted(
    spec: Path | LoadedSpec, overrides: Overrides
) -> tuple[LoadedSpec, Plan, Collection[Problem]]:
    """A spec, its plan, and mistakes that are known before the suite's code is loaded."""
    loaded = spec if isinstance(spec, LoadedSpec) else load(spec)
    plan, problems = draft(loaded, overrides)
    if plan is None or plan.is_empty:
        raise BadInput(problems)
    return loaded, plan, problems


def preview(spec: Path | LoadedSpec, options: RunOptions) -> Preview:
    """Say what :func:`run` would do, without doing it.

    Raises:
        BadInput: With every mistake.
    """
    loaded = spec if isinstance(spec, LoadedSpec) else load(spec)
    plan, checked = validate(loaded, options.overrides, options.output)
    output = output_folder(loaded.folder, plan.suite, options.output)
    known = 0
    machine = environment.machine_key(plan.spec.threads)
    due = cells = timing_pass.cells_of(plan, checked.absent, ())
    step_seconds: Mapping[str, float] = {}
    with contextlib.suppress(NoResults), Store(output / FILE_NAME, create=False) as store:
        step_seconds = store.step_seconds()
        if not options.fresh:
            plan = _as_far_as_known(store, plan, machine)
            known = sum(_known(store, part, machine) for part in plan.parts)
            cells = timing_pass.cells_of(plan, checked.absent, store.failing())
            due = timing_pass.untimed(store, plan, cells, machine)
    steps = {name: d.steps for name, d in checked.descriptions.items()}
    timed = None
    if plan.spec.timing.enabled:
        timed = timing_pass.preview(plan.spec.timing, cells, due, steps, step_seconds)
    return Preview(plan, steps, checked.absent, known, output, timed, checked.notes)


def run(spec: Path | LoadedSpec, options: RunOptions, progress: Progress) -> Run:
    """Run everything a spec asks for and is not known yet, then write the report.

    Args:
        spec: The YAML file, or what was loaded of it.
        options: What is asked of the run.
        progress: Shows how it goes.

    Returns:
        What came of it.

    Raises:
        BadInput: If the spec has mistakes (then nothing is written), or the results can't be
            written.
    """
    loaded, plan, problems = _drafted(spec, options.overrides)
    output = output_folder(loaded.folder, plan.suite, options.output)
    known = opened_files.load(output)
    plan = plan.with_opened(known)
    runner = _Runner(loaded, options, progress, output)
    here = environment.machine(plan.spec.threads)
    if not problems and not options.fresh:
        whole = _all_known(runner.path, plan, here.key)
        if whole is not None:
            return runner.report_known(whole, here)
    with (
        run_log() as write_log_to,
        suite_log(progress, output),
        runner.executor(plan) as pool,
    ):
        return runner.run(pool, plan, problems, known, write_log_to)


LONG_TRAINING = 60.0
"""Seconds of training after which the page is written before anything is timed as well."""


@dataclass(frozen=True)
class _Runner:
    """Does one run of a spec."""

    loaded: LoadedSpec
    options: RunOptions
    progress: Progress
    output: Path

    @property
    def path(self) -> Path:
        """The store."""
        return self.output / FILE_NAME

    def report_known(self, plan: Plan, here: Machine) -> Run:
        """Report a plan of which there is nothing left to run."""
        with locked(self.output), Store(self.path, create=True) as store:
            current = store.is_current(plan, self.loaded.source.text, fingerprint.report())
            if current and (self.output / PAGE_NAME).is_file():
                run = Run(self.path, store.last_run().id, store.statuses(), trained=0, timed=0)
                if kept := printed.from_page(run.page, store.last_run().id):
                    run.printed = kept
                return run
            workers = store.last_run().environment.get("workers")
            if workers and self.options.uses_dask:
                here = replace(here, description={**here.description, "workers": workers})
            self._begin(store, plan, here, store.absent(), None)
            store.finish_run()
            return self._report(store, trained=0, timed=0)

    @contextlib.contextmanager
    def executor(self, plan: Plan) -> Iterator[Executor]:
        """The executor of a plan's trials.

        Raises:
            BadInput: If Dask is asked for and isn't there, or no scheduler answers.
        """
        memory = round(plan.spec.limits.memory_gib * 2**30)
        size = self.options.workers or os.cpu_count() or 1
        if not self.options.uses_dask:
            fresh = plan.spec.timing.enabled
            with Pool(size, memory, fresh=fresh, printed=self.progress.printed) as pool:
                yield pool
            return
        try:
            from harness.workers.dask.cluster import Cluster
        except ImportError as error:
            message = f"is not installed ({error}); pip install distributed brings it"
            raise BadInput.of_file("dask", message) from None
        with Cluster(
            self.loaded.folder,
            plan,
            scheduler=self.options.scheduler,
            size=size,
            memory=memory,
            progress=self.progress,
        ) as cluster:
            yield cluster

    def run(
        self,
        pool: Executor,
        plan: Plan,
        problems: Iterable[Problem],
        known: Opened,
        write_log_to: Callable[[Path], None],
    ) -> Run:
        """Validate a plan, run what is missing, and report."""
        loaded, progress = self.loaded, self.progress
        report_modules = _load_report_modules()
        cases = len(plan.cases) + len(plan.open_searches)
        with progress.stage("checking", cases, "cases"):
            checked = validate_in_worker(pool, loaded, plan, problems, self.options.overrides)
            progress.advance(cases)
        plan, checked, known = with_opened_files(pool, loaded, plan, checked, known)
        for note in checked.notes:
            progress.note(f"note: {note}")
        report_modules.result()  # what can't be reported need not begin
        here = pool.machine(plan.spec.threads)
        with locked(self.output), Store(self.path, create=True) as store:
            write_log_to(self.output)
            opened_files.save(self.output, known)
            self._begin(store, plan, here, checked.absent, checked)
            began = time.monotonic()
            plan, trained = self._train(pool, store, plan, checked, here.key)
            if plan.spec.timing.enabled and time.monotonic() - began > LONG_TRAINING:
                self._write_page()
            timed = TimingPass(
                pool, store, plan, checked.absent, here.key, progress, self.options.fresh
            ).run()
            if (more := known.merged(pool.opened.of(loaded.folder))) != known:
                opened_files.save(self.output, more)  # read by steps, once the plan had its keys
                store.rename_cases(plan, plan.with_opened(more))
            store.finish_run()
            pool.close()
            return self._report(store, trained=trained, timed=timed)

    def _train(
        self, pool: Executor, store: Store, plan: Plan, checked: CheckedSuite, machine: str
    ) -> tuple[Plan, int]:
        """Run the trials that are not known; returns the tuned plan, and how many."""

        def train(part: Plan, stage: str) -> int:
            done = {case.key: set[int]() for case in part.cases}
            if not self.options.fresh:
                done = _done(store, part, machine)
            quality = QualityPass(pool, store, part, machine, checked.absent, self.progress)
            return quality.run(done, stage)

        trained = 0
        if plan.searches:
            trained = train(plan.tuning, "tuning")
            plan = tuning.with_finalists(plan, store)
            if plan.finals.cases:
                trained += train(plan.finals, "finalists")
            plan = tuning.completed(plan, store)
            store.complete_plan(plan, _completed_defaults(plan, checked.defaults))
        trained += train(plan, "training")
        return plan, trained + train(plan.sweeping, "sweeping")

    def _begin(
        self,
        store: Store,
        plan: Plan,
        here: Machine,
        absent: Unavailable,
        checked: CheckedSuite | None,
    ) -> None:
        source = self.loaded.source
        store.begin_run(
            plan,
            command=as_text(reproduce.of_run(source, self.options)),
            spec_file=as_text(source.file),
            spec_text=source.text,
            settings=RunSettings.of(plan, absent, here.key),
            environment={**here.description, "git": environment.git_state(self.loaded.folder)},
            descriptions=checked.descriptions if checked else {},
            defaults=checked.defaults if checked else {},
        )

    def _write_page(self) -> None:
        """Write the page of a run whose trials are done and not yet timed, if that can be done."""
        from harness.reporting import write as report_writer

        with self.progress.stage("reporting", 1, "page"):
            try:
                report_writer.write_report(Report(self.path), ("html",))
            except BadInput as error:
                self.progress.note(str(error.problems[0]))
            self.progress.advance(1)

    def _report(self, store: Store, *, trained: int, timed: int) -> Run:
        run = Run(store.path, store.last_run().id, store.statuses(), trained, timed)
        write_report(store, run, self.progress)
        return run


def _as_far_as_known(store: Store, plan: Plan, machine: str) -> Plan:
    """The plan with what stored trials of tuning decide: its finalists, then the best settings."""
    if _due(store, plan.tuning, machine):
        return plan
    plan = tuning.with_finalists(plan, store)
    return plan if _due(store, plan.finals, machine) else tuning.completed(plan, store)


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
        plan = _as_far_as_known(store, plan, machine)
        if plan.open_searches or any(_due(store, part, machine) for part in plan.parts):
            return None
        cells = timing_pass.cells_of(plan, store.absent(), store.failing())
        return None if timing_pass.untimed(store, plan, cells, machine) else plan
    return None


def _due(store: Store, part: Plan, machine: str) -> bool:
    """Return whether some trial of a part is to be run."""
    wanted, done = set(part.seeds), _done(store, part, machine)
    return any(wanted - done[case.key] for case in part.cases)


def _known(store: Store, part: Plan, machine: str) -> int:
    """The number of trials of a part that need not run again."""
    wanted, done = set(part.seeds), _done(store, part, machine)
    return sum(len(done[case.key] & wanted) for case in part.cases)


def _done(store: Store, plan: Plan, machine: str) -> dict[str, set[int]]:
    return store.finished_seeds((case.key for case in plan.cases), machine)


def _load_report_modules() -> Future[None]:
    """Load what the report needs while the worker loads torch."""
    future = Future[None]()

    def load_modules() -> None:
        try:
            import harness.reporting.figures.draw
            import harness.reporting.write  # noqa: F401 - for their imports
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=load_modules, daemon=True).start()
    return future


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
