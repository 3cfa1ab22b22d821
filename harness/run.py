"""A run from spec to report: what is missing is computed, stored as it comes, then reported."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness import environment, fingerprint
from harness.executor import Worker, WorkerFailed
from harness.plan import Case, Overrides, Plan, draft
from harness.problems import BadInput, Problem
from harness.results import Checked, Chunk, Finding, TrialResult
from harness.spec import LoadedSpec, load
from harness.store import FILE_NAME, Store

CHUNK_BYTES = 256 * 2**20
"""Memory that the lanes of one chunk may take together."""

CHUNK_LANES = 2048
"""Lanes of one chunk at most; beyond this, more lanes are no faster."""

CHECK_SECONDS = 120.0
"""How long loading a suite's code may take."""


class Progress(Protocol):
    """Somebody who is told how a run goes."""

    def stage(self, what: str, total: int, unit: str) -> AbstractContextManager[None]:
        """A stage of so many units."""

    def advance(self, count: int) -> None:
        """So many more units of the stage are done."""

    def note(self, text: str) -> None:
        """Something worth a line."""


@dataclass(frozen=True)
class Options:
    """What the command line asks of a run.

    Attributes:
        overrides: Seeds, devices and filters on top of the spec.
        output: Where results go; None for ``reports/<suite>`` beside the spec.
        command: The command line, for the report.
    """

    overrides: Overrides = field(default_factory=Overrides)
    output: Path | None = None
    command: str = "python -m harness run"


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        page: The page.
        statuses: How many trials of the plan ended how.
        trained: How many trials were run now; the others were known.
        timed: How many cases were timed now.
    """

    page: Path
    statuses: dict[str, int]
    trained: int
    timed: int

    @property
    def failed(self) -> bool:
        """Whether some trial ended in error."""
        return bool(self.statuses.get("error", 0) + self.statuses.get("timeout", 0))


@dataclass(frozen=True)
class Preview:
    """What a run would do.

    Attributes:
        plan: The plan.
        steps: By objective name, updates per trial.
        missing: By device that isn't there, why.
        known: How many of the plan's trials need not run again.
        output: Where results would go.
    """

    plan: Plan
    steps: dict[str, int]
    missing: dict[str, str]
    known: int
    output: Path


def validate(spec: Path, overrides: Overrides | None = None) -> tuple[Plan, Checked]:
    """Check a spec, its names, and every hyperparameter against its constructor.

    Raises:
        BadInput: With every mistake.
    """
    loaded = load(spec)
    plan, problems = draft(loaded, overrides or Overrides())
    if plan is None or not plan.cases:
        raise BadInput(problems)
    with Worker() as worker:
        checked = _check(worker, loaded, plan, problems)
    return plan, checked


def preview(spec: Path, options: Options) -> Preview:
    """Say what :func:`run` would do, without doing it.

    Raises:
        BadInput: With every mistake.
    """
    plan, checked = validate(spec, options.overrides)
    output = output_folder(spec, plan.suite, options.output)
    known = 0
    if (output / FILE_NAME).is_file():
        with Store(output / FILE_NAME, create=False) as store:
            done = _done(store, plan)
        known = sum(len(done[case.key] & set(plan.seeds)) for case in plan.cases)
    steps = {name: int(d["steps"]) for name, d in checked.descriptions.items()}
    return Preview(plan, steps, checked.missing, known, output)


def run(spec: Path, options: Options, progress: Progress) -> Summary:
    """Run everything a spec asks for and is not known yet, then write the report.

    Args:
        spec: The YAML file.
        options: What the command line says.
        progress: Who is told how it goes.

    Returns:
        What came of it.

    Raises:
        BadInput: If the spec has mistakes (then nothing is written), or the results can't be
            written.
        WorkerFailed: If the worker dies outside of any trial.
    """
    loaded = load(spec)
    plan, problems = draft(loaded, options.overrides)
    if plan is None or not plan.cases:
        raise BadInput(problems)
    output = output_folder(spec, plan.suite, options.output)
    path = output / FILE_NAME
    machine = environment.machine_key(plan.spec.threads)
    if not problems and path.is_file() and _nothing_to_do(path, plan, machine):
        with Store(path, create=False) as store:
            _begin(store, loaded, plan, options, machine, store.missing_devices(), None)
            _finish(store)
        return _report(path, output, trained=0, timed=0)
    with Worker() as worker:
        reporting = _import_in_background()
        checked = _check(worker, loaded, plan, problems)
        with Store(path, create=True) as store:
            _begin(store, loaded, plan, options, machine, checked.missing, checked)
            trained = _train(worker, store, plan, checked, machine, progress)
            reporting.join()
            timed = _time(worker, store, plan, checked, machine, progress)
            _finish(store)
    return _report(path, output, trained=trained, timed=timed)


def output_folder(spec: Path, suite: str, output: Path | None) -> Path:
    """Where a suite's results go."""
    return output or spec.resolve().parent / "reports" / suite


def chunks(plan: Plan, descriptions: Mapping[str, Mapping[str, Any]]) -> Iterator[Chunk]:
    """Cut a plan's trials into chunks; the same cut whatever is known already."""
    for cases in plan.families():
        lane_bytes = _lane_bytes(descriptions[cases[0].objective.name], cases[0])
        lanes = max(1, min(CHUNK_LANES, CHUNK_BYTES // lane_bytes))
        seeds = max(1, lanes // len(cases))
        for first in range(0, len(plan.seeds), seeds):
            yield Chunk(cases, plan.seeds[first : first + seeds])


def _lane_bytes(description: Mapping[str, Any], case: Case) -> int:
    """Memory that one lane takes, from the sizes of what it holds."""
    width = 8 if case.objective.dtype == "float64" else 4
    dimension, rows = int(description["dimension"]), int(description["rows"])
    parameters = 6 * dimension * width  # value, gradient, up to two states, two temporaries
    evaluation = 4 * rows * width  # a loss over all data: prediction, residual, square, one more
    kept = 8 * len(description["record_steps"])
    if dimension == 2:
        kept += 4 * 8 * (int(description["steps"]) + 1)
    return parameters + evaluation + 8 * rows + kept


def _nothing_to_do(path: Path, plan: Plan, machine: str) -> bool:
    with Store(path, create=False) as store:
        done = _done(store, plan)
        if not store.knows_objectives(planned.key for planned in plan.objectives):
            return False
        wanted = set(plan.seeds)
        if any(wanted - done[case.key] for case in plan.cases):
            return False
        missing = store.missing_devices()
        return not any(
            case.key not in store.timed(machine, _timing_settings(plan, cell))
            for cell in _cells(plan, missing)
            for case in cell
        )


def _done(store: Store, plan: Plan) -> dict[str, set[int]]:
    machine = environment.machine_key(plan.spec.threads)
    return store.finished_seeds((case.key for case in plan.cases), machine)


def _check(worker: Worker, loaded: LoadedSpec, plan: Plan, problems: Iterable[Problem]) -> Checked:
    """Have the worker load what the plan names; raise with everything that is wrong."""
    try:
        checked: Checked = worker.request("check", plan, timeout=CHECK_SECONDS)
    except WorkerFailed as error:
        known = list(problems)
        text = f"loading the suite's code failed: {error}"
        raise BadInput([*known, loaded.source.problem((), text)]) from None
    found = [*problems, *(_as_problem(loaded, finding) for finding in checked.findings)]
    if found:
        raise BadInput(found)
    return checked


def _as_problem(loaded: LoadedSpec, finding: Finding) -> Problem:
    return loaded.source.problem(finding.path, finding.message, at_key=finding.at_key)


def _begin(
    store: Store,
    loaded: LoadedSpec,
    plan: Plan,
    options: Options,
    machine: str,
    missing: Mapping[str, str],
    checked: Checked | None,
) -> None:
    spec = plan.spec
    store.begin_run(
        plan,
        command=options.command,
        spec_file=loaded.source.file,
        spec_text=loaded.source.text,
        settings={
            "title": spec.title,
            "description": spec.description,
            "seeds": list(plan.seeds),
            "missing": dict(missing),
            "machine": machine,
            "timing": spec.timing.model_dump(),
        },
        environment=environment.describe(loaded.folder, spec.threads),
        descriptions=checked.descriptions if checked else {},
        defaults=checked.defaults if checked else {},
    )


def _finish(store: Store) -> None:
    store.finish_run(store.last_run().id)


def _train(
    worker: Worker,
    store: Store,
    plan: Plan,
    checked: Checked,
    machine: str,
    progress: Progress,
) -> int:
    """Run the trials that are not known; returns how many."""
    done = _done(store, plan)
    todo = [
        chunk
        for chunk in chunks(plan, checked.descriptions)
        if any(set(chunk.seeds) - done[case.key] for case in chunk.cases)
    ]
    absent = [chunk for chunk in todo if chunk.cases[0].device in checked.missing]
    for chunk in absent:
        why = checked.missing[chunk.cases[0].device]
        store.save_trials(list(_unavailable(chunk, why)), machine)
    todo = [chunk for chunk in todo if chunk not in absent]
    if not todo:
        return 0
    total = sum(len(chunk) for chunk in todo)
    with progress.stage("training", total, "trials"):
        for chunk in todo:
            results = worker.request(
                "train", chunk, plan.spec.threads, on_progress=progress.advance
            )
            store.save_trials(results, machine)
    return total


def _unavailable(chunk: Chunk, why: str) -> Iterator[TrialResult]:
    for case in chunk.cases:
        for seed in chunk.seeds:
            yield TrialResult(case.key, seed, "unavailable", 0, why, 0.0, "")


def _cells(plan: Plan, missing: Mapping[str, str]) -> list[tuple[Case, ...]]:
    """Cases to be timed against each other: those of one objective on one device."""
    if not plan.spec.timing.enabled:
        return []
    cells: dict[tuple[str, str], list[Case]] = {}
    for case in plan.cases:
        if case.device not in missing:
            cells.setdefault((case.objective.name, case.device), []).append(case)
    return [tuple(cell) for cell in cells.values()]


def _timing_settings(plan: Plan, cell: tuple[Case, ...]) -> str:
    """A digest of how a cell is timed, and of what is timed in it."""
    return fingerprint.digest(
        [plan.spec.timing.model_dump(), plan.spec.threads, sorted(case.key for case in cell)]
    )


def _time(
    worker: Worker,
    store: Store,
    plan: Plan,
    checked: Checked,
    machine: str,
    progress: Progress,
) -> int:
    """Time the cells that are not timed; returns how many cases."""
    todo = []
    for cell in _cells(plan, checked.missing):
        settings = _timing_settings(plan, cell)
        if {case.key for case in cell} - store.timed(machine, settings):
            todo.append((cell, settings))
    if not todo:
        return 0
    count = 0
    with progress.stage("timing", sum(len(cell) for cell, _ in todo), "cases"):
        for cell, settings in todo:
            timings, failures = worker.request(
                "time", cell, plan.spec.timing, plan.seeds[0], plan.spec.threads
            )
            store.save_timings(timings, machine, settings)
            for case in cell:
                if case.key in failures:
                    progress.note(f"{case.id} could not be timed: {failures[case.key]}")
            progress.advance(len(cell))
            count += len(timings)
    return count


def _import_in_background() -> threading.Thread:
    """Load what the report needs while the worker loads torch."""

    def load_report() -> None:
        import harness.report  # noqa: F401 - for its imports

    thread = threading.Thread(target=load_report, daemon=True)
    thread.start()
    return thread


def _report(path: Path, output: Path, *, trained: int, timed: int) -> Summary:
    from harness import frames, report

    results = frames.read(path)
    page = report.write(results, output)
    statuses = Counter(results.trials["status"])
    return Summary(page, dict(statuses), trained, timed)
