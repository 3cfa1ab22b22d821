"""The command line: parse, call the function of that name, print what it returns.

What a command does is in :mod:`harness.api`; what is heavy loads where it is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import click

from harness import __version__, api, arguments
from harness.progress import relative
from harness.seeds import SEED_LIMIT
from harness.streams import EXIT_FAILED, Commands, tell, writing
from harness.terminal import opened_in_browser

if TYPE_CHECKING:
    from harness.commands.check import Written
    from harness.gate.report import GateReport
    from harness.reporting.objects import Report, Run

EXIT_OK, EXIT_INTERRUPTED = 0, 130
EXIT_CHECK_FAILED = 4
"""Of a check that came to nothing; 1 would say that something regressed."""

_SPEC = click.argument("spec", type=click.Path(path_type=Path))
_OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the results; by default reports/<suite> beside the spec.",
)
_WORKERS = click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Maximum number of worker processes; by default one per core.",
)
_OPEN = click.option("--open", "show", is_flag=True, help="Open the page in the browser.")


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Compare optimizers, as in: python -m harness run benchmarks.yaml.

    Exit status: 0 every trial ran, diverged or was skipped for lack of a device, 1 some trial
    ended in an error or timed out, 2 bad input, 130 interrupted.
    """


def _overriding(command: click.decorators.FC) -> click.decorators.FC:
    """The options with which the command line overrides a spec."""
    for option in (
        click.option(
            "--only",
            multiple=True,
            metavar="KEY=PATTERN",
            help="Run only cases that match: optimizer=ada*, objective=NAME, device=NAME or "
            "setting=TEXT as in the tables ('lr=0.1', 'tuned'). Can be repeated: a case must match "
            "one pattern of each key that is given.",
        ),
        click.option(
            "--devices",
            metavar="NAMES",
            help="Devices to use instead of the spec's, separated by commas: cpu,cuda.",
        ),
        click.option(
            "--seeds", type=click.IntRange(1), metavar="N", help="Use the seeds 0 to N-1."
        ),
    ):
        command = option(command)
    return command


@main.command()
@_SPEC
@_overriding
@_OUTPUT
@click.option("-n", "--dry-run", is_flag=True, help="Print what would run, and run nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Print the path of the page, and nothing else.")
@_OPEN
@click.option("--fresh", is_flag=True, help="Run everything again, even what is stored.")
@click.option(
    "--seed",
    type=click.IntRange(0, SEED_LIMIT - 1),
    multiple=True,
    metavar="N",
    help="Use only this seed. Can be repeated.",
)
@click.option(
    "--set",
    "override",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a hyperparameter to this value (JSON), instead of the values that the spec lists or "
    "searches. Can be repeated.",
)
@click.option(
    "--no-timing",
    "timing",
    is_flag=True,
    callback=lambda _context, _option, given: not given,
    help="Skip the timing pass.",
)
@click.option(
    "--executor",
    type=click.Choice(get_args(arguments.Executor)),
    help="Where trials run: in processes on this machine (the default), or on a Dask cluster.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="The Dask scheduler's address (tcp://host:8786) or its JSON file; by default a cluster is "
    "started on this machine.",
)
@_WORKERS
def run(spec: Path, *, dry_run: bool, quiet: bool, show: bool, **options: Any) -> None:
    """Run what is not stored yet of SPEC, and write the report.

    Stored results are reused, so an interrupted run continues where it stopped.
    """
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop as after Ctrl-C
    if options["seeds"] is not None and options["seed"]:
        raise click.UsageError("--seeds and --seed exclude each other")
    if options["scheduler"] is not None and options["executor"] == "processes":
        raise click.UsageError("--scheduler needs --executor dask")
    if options["scheduler"] is not None and options["workers"] is not None:
        raise click.UsageError("--workers is for this machine; a scheduler has its own workers")
    with _errors():
        if dry_run:
            for name in ("workers", "executor", "scheduler"):
                del options[name]
            click.echo(api.preview(spec, **options))
            return
        done = api.run(spec, **options, progress=not quiet)
        _end(done, began, quiet=quiet, show=show)


def _end(done: Run, began: float, *, quiet: bool, show: bool) -> NoReturn:
    """Print what a run came to, and exit."""
    if quiet:
        click.echo(relative(done.page))
    else:
        _print_results(done, time.monotonic() - began)
    if show:
        _open(done.page)
    sys.exit(EXIT_FAILED if done.failed else EXIT_OK)


def _named(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> Any:
    """Values by name, from ``name=value`` with the value in JSON."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            equals = ""
        if not (name and equals):
            raise click.BadParameter(f"expected NAME=VALUE with the value in JSON, got {text!r}")
    return found


@main.command()
@click.argument("optimizer")
@click.option(
    "--search",
    multiple=True,
    metavar="NAME=SPACE",
    callback=_named,
    help="Search this hyperparameter: lr=[1e-5,1] is log-uniform, or a space in JSON as in a spec. "
    "By default learning rate, momentum and betas are searched. Can be repeated.",
)
@click.option(
    "--set",
    "hyperparameters",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_named,
    help="Give a hyperparameter this value (JSON) and don't search it. Can be repeated.",
)
@_overriding
@_OUTPUT
@_OPEN
@click.option("--fresh", is_flag=True, help="Run everything again, even what is stored.")
@click.option("-q", "--quiet", is_flag=True, help="Print the path of the page, and nothing else.")
@_WORKERS
def diagnose(optimizer: str, *, quiet: bool, show: bool, **options: Any) -> None:
    """Show on which diagnostic tasks OPTIMIZER fails.

    OPTIMIZER is MODULE:CLASS, such as my_optimizers:Mine in the current folder. It is run on every
    task, beside other optimizers whose results come along.
    """
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _errors():
        done = api.diagnose(optimizer, **options, progress=not quiet)
        _end(done, began, quiet=quiet, show=show)


@main.command()
@_SPEC
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Compare with the baseline in FILE.",
)
@click.option("--base", metavar="REV", help="Compare with another git revision.")
@click.option("--update", is_flag=True, help="Write a new baseline to FILE.")
@_overriding
@click.option(
    "--warn",
    multiple=True,
    type=click.Choice(["time", "loss", "operators", "calls", "state"]),
    help="Only warn about this, never fail. Can be repeated.",
)
@click.option("--allow-new", is_flag=True, help="Pass cells that have no counterpart.")
@click.option(
    "--processes",
    type=click.IntRange(3, 100),
    default=5,
    show_default=True,
    help="With --update: the number of processes that measure.",
)
@_OUTPUT
@click.option("-q", "--quiet", is_flag=True, help="Print the result, but no progress.")
@_WORKERS
def check(
    spec: Path,
    *,
    baseline: Path | None,
    base: str | None,
    update: bool,
    warn: tuple[str, ...],
    allow_new: bool,
    processes: int,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare speed, loss and counts with a baseline or a revision.

    Exit status: 0 fine, 1 something regressed, 2 bad input or an unreadable baseline,
    3 inconclusive or not comparable, 4 a cell is missing or failed, 130 interrupted. If several
    apply, 1 comes before 4, and 4 before 3.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if (baseline is None) == (base is None):
        raise click.UsageError("expected either --baseline FILE or --base REV")
    if update and baseline is None:
        raise click.UsageError("--update writes a baseline: add --baseline FILE")
    with _errors(EXIT_CHECK_FAILED):
        if update and baseline is not None:
            written = api.write_baseline(
                spec, baseline, processes=processes, progress=not quiet, **options
            )
            _print_written(written, baseline)
            return
        done = api.check(
            spec,
            baseline=baseline,
            base=base,
            warn=warn,
            allow_new=allow_new,
            progress=not quiet,
            **options,
        )
        from harness.gate.outputs import terminal

        width = min(160, shutil.get_terminal_size().columns)
        colour = sys.stdout.isatty()
        click.echo(terminal.render(done.report, width, colour=colour), nl=False)
        click.echo(f"Written to {relative(done.folder)}.")
        _tell_ci(done.report)
        sys.exit(done.exit_status)


def _tell_ci(report: GateReport) -> None:
    """Annotations and a job summary, where GitHub's or a like runner asks for them."""
    from harness.commands import check as checks
    from harness.gate.outputs import github

    if os.environ.get("GITHUB_ACTIONS") == "true":
        click.echo(github.render(report), nl=False)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary and (why := checks.add_summary(report, Path(summary))):
        tell(f"note: {why}")


@main.command()
@click.argument("results", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["csv", "md", "tex", "svg", "pdf", "png", "html"]),
    help="Write only this format: csv, md and tex are tables, svg, pdf and png figures, html is "
    "the page. Can be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the page of several results; by default reports/side-by-side. The report of a "
    "single result stays beside it.",
)
@_OPEN
def report(
    results: tuple[Path, ...], *, formats: tuple[str, ...], output: Path | None, show: bool
) -> None:
    """Write the report of stored results again, or compare several.

    Each of RESULTS is a spec, a folder under reports/, or a results.sqlite; by default
    benchmarks.yaml. A run may still be adding to them.

    Several results are compared on a page of their own: which cases and seeds they share, how the
    results differ, and what differs in how they were made. Their own files stay as they are.
    """
    if len(results) < 2 and output is not None:
        raise click.UsageError("--output is for several RESULTS; the report of one stays beside it")
    if show and formats and "html" not in formats:
        raise click.UsageError("--open opens the page: add --format html")
    with _errors():
        written = (
            api.compare(*results, formats=formats, output=output)
            if len(results) > 1
            else api.report(*results, formats=formats)
        )
        if not formats or "html" in formats:
            _print_results(written)
        else:
            folder = relative(written.page.parent)
            click.echo(f"Written to {folder}: {', '.join(dict.fromkeys(formats))}.")
        for note in written.notes:
            tell(f"note: {note}")
        if show:
            _open(written.page)


@main.command()
@_SPEC
@_overriding
def validate(spec: Path, **options: Any) -> None:
    """Check SPEC: its keys, the names in it, and every hyperparameter."""
    with _errors():
        click.echo(api.validate(spec, **options))


@main.command()
@click.argument("results", type=click.Path(path_type=Path), default=Path("benchmarks.yaml"))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the times of the machine that checked last, as .svg, .pdf or .png.",
)
def history(results: Path, output: Path | None) -> None:
    """Show how times changed over all checks, and which changes lasted.

    RESULTS is a spec, a folder under reports/, or a history.jsonl; by default benchmarks.yaml.
    """
    with _errors():
        click.echo(api.history(results, output=output))


@main.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    with _errors():
        click.echo(json.dumps(api.schema(), indent=2, ensure_ascii=False))


@main.command("list")
@click.argument("suite", type=click.Path(path_type=Path), default=Path())
def list_names(suite: Path) -> None:
    """List the optimizers, objectives and datasets for a spec.

    SUITE is a folder or a spec; by default the current folder.
    """
    with _errors():
        click.echo(api.names(suite))


@main.command("init")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--template", metavar="NAME", default="comparison", help="Or training: a network.")
def init_suite(folder: Path, template: str) -> None:
    """Write a small suite into DIR, to start your own from.

    It runs as it is. If one of its files exists in DIR already, nothing is written.
    """
    with _errors():
        api.init(folder, template=template)
        from harness.suite import scaffold

        click.echo(scaffold.describe(folder, scaffold.template(template)))


@main.command("test")
@click.argument("suite", type=click.Path(path_type=Path), default=Path())
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="N",
    help="Time limit of each test, in seconds.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print the result, but no progress.")
@_WORKERS
def test_suite(suite: Path, seconds: float, quiet: bool, workers: int | None) -> None:
    """Test the optimizers, objectives and datasets of SUITE.

    SUITE is a spec or a folder with specs; by default the current folder. Each part is tested on
    its own, in a process that may hang or crash: whether an optimizer is deterministic, saves all
    of its state and ignores the order of parameters, whether a gradient is right, whether a
    declared minimum is one.

    Exit status: 0 nothing is wrong, 1 something is wrong, 2 bad input, 130 interrupted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _errors():
        try:
            found = api.test_suite(suite, seconds=seconds, workers=workers, progress=not quiet)
        except KeyboardInterrupt:
            tell("\nInterrupted.")
            sys.exit(EXIT_INTERRUPTED)
        from harness.conformance import records as part_records

        width = min(100, shutil.get_terminal_size().columns)
        click.echo(part_records.terminal(found, width, colour=sys.stdout.isatty()), nl=False)
        sys.exit(found.exit_status)


@contextlib.contextmanager
def _errors(failed: int = EXIT_FAILED) -> Iterator[None]:
    """Turn exceptions into messages and exit statuses; ``failed``: the status of those without."""
    from harness.errors import BadInput
    from harness.workers.executor import WorkerFailed

    try:
        with writing(failed):
            yield
    except BadInput as error:
        for problem in error.problems:
            tell(str(problem))
        if len(error.problems) > 1:
            tell(f"{len(error.problems)} mistakes.")
        sys.exit(error.exit_status)
    except WorkerFailed as error:
        tell(f"error: {error}")
        sys.exit(failed)
    except KeyboardInterrupt:
        tell("\nInterrupted. Finished trials are stored; the same command continues from there.")
        sys.exit(EXIT_INTERRUPTED)


def _print_results(report: Report | Run, seconds: float = 0.0) -> None:
    """Print results as wide as the terminal; in plain lines where there is none."""
    from harness.reporting import objects, printed

    made = printed.work_done(report, seconds) if isinstance(report, objects.Run) else ""
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    blank = "\n" * bool(made and terminal and sys.stderr.isatty())  # after the progress
    click.echo(blank + printed.render(report.printed, made, width, colour=terminal), nl=False)
    click.echo(f"Page: {report.page.resolve().as_uri()}")


def _open(page: Path) -> None:
    if not opened_in_browser(page.resolve().as_uri()):
        tell("note: no browser could be opened")


def _print_written(written: Written, baseline: Path) -> None:
    click.echo(f"{len(written.baseline.cells):,} cells written to {baseline}.")
    for why in written.missing.values():
        click.echo(f"note: {why}; its cells are left out")
    for name, cell in written.baseline.cells.items():
        if cell.loss.diverged:
            click.echo(f"note: {name}: a trial diverged, so its loss can never pass")
