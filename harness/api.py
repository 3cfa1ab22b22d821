"""The harness as a library: a function for each command, which is a thin wrapper over it.

A function returns what its command prints, as objects, and raises
:class:`~harness.errors.BadInput` with all mistakes in its text. No function exits the process,
writes to standard output or changes how signals are handled. If a message names an option of the
command line (``--only``), it means the argument of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness import arguments
from harness.arguments import Executor, SpecLike, StrPath, Texts
from harness.errors import BadInput

if TYPE_CHECKING:
    import torch

    from harness.commands.check import Written
    from harness.commands.preview import Preview, Validation
    from harness.conformance.records import PartReport
    from harness.gate.history import History
    from harness.reporting.objects import Check, Comparison, Report, Run
    from harness.suite.listing import Names

_Written = TypeVar("_Written", bound="Report")


def run(
    spec: SpecLike,
    *,
    only: Texts = (),
    devices: Texts | None = None,
    seeds: int | None = None,
    seed: int | Sequence[int] = (),
    override: Mapping[str, Any] | Sequence[str] = (),
    timing: bool = True,
    fresh: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    scheduler: StrPath | None = None,
    output: StrPath | None = None,
    folder: StrPath | None = None,
    progress: bool = True,
) -> Run:
    """Run what is not stored yet of a spec, and write the report.

    Stored results are reused: a second run of the same spec has nothing to do, and the same call
    continues a run that was interrupted.

    Args:
        spec: The YAML file, or an equivalent mapping.
        only: Run only cases that match: ``"optimizer=ada*"``, ``"objective=..."``,
            ``"device=..."``, or ``"setting=..."`` as in the tables. A case must match one pattern
            of each key that is given.
        devices: Devices instead of the spec's: ``"cpu"``, ``["cpu", "cuda:1"]``.
        seeds: Use the seeds 0 to ``seeds - 1``.
        seed: Use only this seed, or these, instead of ``seeds``.
        override: Values of hyperparameters, by name, instead of those that the spec lists or
            searches; or ``"name=value"`` with the value in JSON.
        timing: Whether to run the timing pass.
        fresh: Whether to run everything again, even what is stored.
        workers: Maximum number of worker processes; by default one per core.
        executor: Where trials run: in ``"processes"`` of this machine, or on ``"dask"``.
        scheduler: Address of a Dask scheduler (``"tcp://host:8786"``) or its JSON file; by
            default, ``executor="dask"`` starts a cluster on this machine.
        output: Folder for the results; by default ``reports/<suite>`` beside the spec.
        folder: Folder of a mapping's suite, with its ``optimizers/`` and ``reports/``; by default
            the current folder. The suite of a file is in the file's folder.
        progress: Whether to show progress: on standard error, or below a notebook's cell.

    Returns:
        The run with its frames, tables, sentences and figures. In a notebook it displays itself.

    Raises:
        BadInput: If the spec has mistakes (then nothing is written), or the results can't be
            written.
        WorkerFailed: If the process that times fails for a reason that no optimizer explains.
    """
    from harness.commands import run as running

    options = arguments.run_options(
        arguments.overrides_of(only, devices, seeds, seed, override, timing=timing),
        output,
        workers,
        executor,
        scheduler,
        fresh=fresh,
    )
    return running.run(arguments.load_spec(spec, folder), options, arguments.progress_for(progress))


def diagnose(
    optimizer: str,
    *,
    search: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    folder: StrPath | None = None,
    **options: Any,
) -> Run:
    """Find out on which of the diagnostic tasks an optimizer fails, and where others do.

    Only this optimizer is run; the results of others come along with the harness.

    Args:
        optimizer: ``"my_optimizers:Mine"``, or as a spec names it.
        search: Search spaces by hyperparameter, as in a spec; ``[low, high]`` is log-uniform. By
            default they follow from the constructor: the learning rate, momentum and betas.
        hyperparameters: Values of hyperparameters that are not searched.
        folder: Where the optimizer's file is; by default the current folder.
        options: As of :func:`run`.

    Raises:
        BadInput: As of :func:`run`, or if there is no such optimizer.
    """
    from harness.commands.diagnose import spec_of

    home = Path(folder or ".")
    spec = spec_of(optimizer, home, search or {}, hyperparameters or {})
    return run(spec, folder=home, **options)


def preview(
    spec: SpecLike,
    *,
    only: Texts = (),
    devices: Texts | None = None,
    seeds: int | None = None,
    seed: int | Sequence[int] = (),
    override: Mapping[str, Any] | Sequence[str] = (),
    timing: bool = True,
    fresh: bool = False,
    output: StrPath | None = None,
    folder: StrPath | None = None,
) -> Preview:
    """Say what :func:`run` would do with the same arguments, and run nothing.

    Returns:
        The plan, how many of its trials are stored, and what would be timed. As text it is what
        ``run --dry-run`` prints.

    Raises:
        BadInput: With every mistake.
    """
    from harness.commands import run as running

    overrides = arguments.overrides_of(only, devices, seeds, seed, override, timing=timing)
    return running.preview(
        arguments.load_spec(spec, folder), arguments.run_options(overrides, output, fresh=fresh)
    )


def validate(
    spec: SpecLike,
    *,
    only: Texts = (),
    devices: Texts | None = None,
    seeds: int | None = None,
    folder: StrPath | None = None,
) -> Validation:
    """Check a spec: its keys, the names in it, and every hyperparameter.

    Args:
        spec: The YAML file, or an equivalent mapping.
        only: As of :func:`run`.
        devices: As of :func:`run`.
        seeds: As of :func:`run`.
        folder: As of :func:`run`.

    Returns:
        The plan, and what its names refer to. As text it is what the command prints.

    Raises:
        BadInput: With every mistake.
    """
    from harness.commands import run as running
    from harness.commands.preview import Validation

    loaded = arguments.load_spec(spec, folder)
    plan, checked = running.validate(loaded, arguments.overrides_of(only, devices, seeds))
    return Validation(loaded.source.file, plan, checked)


def read(results: StrPath = "benchmarks.yaml") -> Report:
    """Read stored results; nothing is run and nothing is written.

    Args:
        results: A spec, a folder under ``reports/``, or a ``results.sqlite``.

    Raises:
        BadInput: If there is no run in it, or it can't be read.
    """
    from harness.commands import result_paths
    from harness.reporting.objects import Report
    from harness.store import read as frames

    path = result_paths.store_path(Path(results))
    found = frames.read(path, untouched=True)
    return Report(path, found.run.id, found)


def report(results: StrPath = "benchmarks.yaml", *, formats: Texts = ()) -> Report:
    """Write tables, figures and page again from stored results, even while a run adds to them.

    Args:
        results: A spec, a folder under ``reports/``, or a ``results.sqlite``. Everything is
            written beside that.
        formats: Write only these; of ``csv``, ``md``, ``tex``, ``svg``, ``pdf``, ``png``, ``html``.

    Raises:
        BadInput: If there is no run in it, or something can't be written.
    """
    from harness.commands import result_paths
    from harness.commands import run as running

    written = running.report_again(
        result_paths.store_path(Path(results)), arguments.formats_of(formats)
    )
    return _listed(written)


def compare(*results: StrPath, formats: Texts = (), output: StrPath | None = None) -> Comparison:
    """Compare stored results on a page of their own; their files stay as they are.

    Args:
        results: Two or more, each a spec, a folder under ``reports/``, or a ``results.sqlite``.
        formats: Write only these; of ``csv``, ``md``, ``tex``, ``svg``, ``pdf``, ``png``, ``html``.
        output: Where the page goes; by default ``reports/side-by-side``, beside the first result
            if that lies in a folder under ``reports/``.

    Raises:
        BadInput: If there are fewer than two, one can't be read or is given twice, or something
            can't be written.
    """
    from harness.analysis import sources as report_sources
    from harness.commands import result_paths
    from harness.reporting import objects as report_objects
    from harness.reporting import write as report_writer

    paths = [Path(given) for given in results]
    if len(paths) < 2:
        raise BadInput.of_file("results", "expected two or more results to compare")
    sources = report_sources.read(result_paths.store_paths(paths))
    target = Path(output) if output is not None else result_paths.side_by_side_folder(paths[0])
    comparison = report_objects.Comparison(sources, target)
    report_writer.write_side_by_side(
        comparison, arguments.formats_of(formats) or report_writer.FORMATS
    )
    return _listed(comparison)


def check(
    spec: StrPath,
    *,
    baseline: StrPath | None = None,
    base: str | None = None,
    only: Texts = (),
    devices: Texts | None = None,
    seeds: int | None = None,
    warn: Texts = (),
    allow_new: bool = False,
    workers: int | None = None,
    output: StrPath | None = None,
    progress: bool = True,
) -> Check:
    """Compare speed, loss and exact counts with a baseline, or with another git revision.

    Args:
        spec: The YAML file.
        baseline: The file to compare to; or else
        base: the git revision to compare to, which is measured in turns with this one.
        only: As of :func:`run`.
        devices: As of :func:`run`.
        seeds: As of :func:`run`.
        warn: What only warns: ``time``, ``loss``, ``operators``, ``calls``, ``state``.
        allow_new: Whether cells pass that have no counterpart.
        workers: Maximum number of worker processes; by default one per core.
        output: As of :func:`run`.
        progress: As of :func:`run`.

    Returns:
        The verdict on every cell, and the exit status that the command would have.

    Raises:
        BadInput: If the spec or the baseline has mistakes, or results can't be written.
        WorkerFailed: If the check fails for another reason.
    """
    from harness.commands import check as checks
    from harness.gate.report import METRICS

    if (baseline is None) == (base is None):
        raise BadInput.of_file("baseline", "expected either a baseline or a base")
    given = arguments.gate_options(only, devices, seeds, workers, output)
    options = replace(
        given,
        baseline=None if baseline is None else Path(baseline),
        base=base,
        warn=frozenset(arguments.among("warn", warn, METRICS)),
        allow_new=allow_new,
    )
    return checks.check(Path(spec), options, arguments.progress_for(progress))


def write_baseline(
    spec: StrPath,
    baseline: StrPath,
    *,
    only: Texts = (),
    devices: Texts | None = None,
    seeds: int | None = None,
    processes: int = 5,
    workers: int | None = None,
    output: StrPath | None = None,
    progress: bool = True,
) -> Written:
    """Measure what a suite does now, and write it as the baseline of later checks.

    Args:
        spec: The YAML file.
        baseline: The file to write.
        only: As of :func:`run`; cells that it leaves out stay in the file as they are.
        devices: As of :func:`run`.
        seeds: As of :func:`run`.
        processes: How many processes measure; at least 3.
        workers: Maximum number of worker processes; by default one per core.
        output: As of :func:`run`.
        progress: As of :func:`run`.

    Raises:
        BadInput: If the spec has mistakes, a cell can't be measured, the machine is too busy, or
            the file can't be written.
        WorkerFailed: If the measurement fails for another reason.
    """
    from harness.commands import check as checks

    given = arguments.gate_options(only, devices, seeds, workers, output)
    options = replace(
        given, baseline=Path(baseline), processes=arguments.whole_number("processes", processes, 3)
    )
    return checks.update(Path(spec), options, arguments.progress_for(progress))


def history(results: StrPath = "benchmarks.yaml", *, output: StrPath | None = None) -> History:
    """Show how the times of every cell changed over all checks, and which changes lasted.

    Args:
        results: A spec, a folder under ``reports/``, or a ``history.jsonl``.
        output: File for a drawing of the times on the machine of the latest check; its name ends
            in ``.svg``, ``.pdf`` or ``.png``.

    Raises:
        BadInput: If there is no check to be read, or nothing to be drawn.
    """
    from harness.commands import result_paths
    from harness.gate import history as check_history
    from harness.progress import relative

    path = result_paths.history_path(Path(results))
    known = check_history.read(path)
    if not known.entries:
        raise BadInput.of_file(relative(path), "holds no check that can be read")
    if output is not None:
        from harness.reporting import figure
        from harness.reporting.figures import check as check_figures

        file = figure.picture_file(Path(output))
        record = check_figures.latest_history(known)
        if record is None:
            message = "nothing to draw: it takes two checks with times on the same machine"
            raise BadInput.of_file(relative(path), message)
        figure.Figure(record).save(file)
    return known


def names(suite: StrPath = ".") -> Names:
    """List the optimizers, objectives and datasets for a spec.

    Args:
        suite: A suite's folder, or a spec in it.

    Raises:
        BadInput: If there is no such folder.
    """
    from harness.suite import listing

    return listing.names(Path(suite))


def schema() -> dict[str, Any]:
    """The JSON Schema of a spec, for editors."""
    from harness.spec.model import json_schema

    return json_schema()


def init(folder: StrPath, *, template: str = "comparison") -> tuple[Path, ...]:
    """Write a small suite that runs at once into a folder, which may exist and hold other files.

    Args:
        folder: The folder.
        template: Which suite: ``comparison`` of optimizers, the author's own among them, or
            ``training`` of a network on data in three parts.

    Returns:
        The files written.

    Raises:
        BadInput: If there is no such template, any of the files exists already, or one can't be
            written. No part of the suite is left then.
    """
    from harness.suite import scaffold

    return scaffold.init(Path(folder), scaffold.template(template))


def test_suite(
    suite: StrPath = ".",
    *,
    seconds: float = 30.0,
    workers: int | None = None,
    progress: bool = True,
) -> PartReport:
    """Test every optimizer, objective and dataset that a suite's specs use, before a long run.

    Args:
        suite: A spec, or a folder with some.
        seconds: Time limit of each test.
        workers: Maximum number of worker processes; by default one per core.
        progress: As of :func:`run`.

    Returns:
        All findings. As text they are what the command prints.

    Raises:
        BadInput: If there is no spec, or one has mistakes that show before its parts are loaded.
    """
    from harness.commands import test_parts

    arguments.workers_of(workers)
    shown = arguments.progress_for(progress)
    return test_parts.test_suite(Path(suite), seconds=seconds, workers=workers, progress=shown)


test_suite.__test__ = False  # type: ignore[attr-defined]  # else pytest collects it


def load_optimizer(name: str, folder: StrPath = ".") -> Callable[..., torch.optim.Optimizer]:
    """Load an optimizer as a spec in a folder would.

    Args:
        name: As in a spec: a name in the folder's ``optimizers/``, ``file.py:Name`` or
            ``package.module:Name``.
        folder: Where the suite is.

    Returns:
        The class (or whatever makes an optimizer from parameters and hyperparameters).

    Raises:
        BadInput: If there is nothing of that name, or its file cannot be loaded.
    """
    from harness.suite import locate

    try:
        found = locate.locate(name, Path(folder), "optimizers")
        loaded: Callable[..., torch.optim.Optimizer] = found.load()
    except (locate.NotFound, locate.SuiteError) as error:
        raise BadInput.of_file("name", str(error)) from error
    return loaded


def _listed(written: _Written) -> _Written:
    """A report, with which the list of reports is made anew."""
    from harness.reporting.page import index

    if note := index.update(written.page.parent):
        written.notes = (*written.notes, note)
    return written
