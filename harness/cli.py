"""The command line. Every command is a thin wrapper; what is heavy loads where it is used."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import __version__
from harness.progress import relative

if TYPE_CHECKING:
    from harness.check_history import History
    from harness.plan import Overrides
    from harness.runner import Preview, Summary, TimingPreview
    from harness.verdicts import GateReport

EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130
EXIT_CHECK_FAILED = 4
"""Of a check that came to nothing; 1 would say that something regressed."""

_SPEC = click.argument("spec", type=click.Path(path_type=Path))
_OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where results go; by default reports/<suite> beside the spec.",
)
_WORKERS = click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Worker processes at most that run trials; one per core if left out.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Compare optimizers: one YAML spec in, one HTML page out.

    Begin with: python -m harness run benchmarks.yaml

    Exit status: 0 everything ran (a missing device is allowed), 1 some trial failed,
    2 bad input, 130 interrupted.
    """


def _overriding(command: click.decorators.FC) -> click.decorators.FC:
    """The options with which the command line overrides a spec."""
    for option in (
        click.option(
            "--only",
            multiple=True,
            metavar="KEY=PATTERN",
            help="Run only what matches: optimizer=ada*, objective=..., device=..., or setting=... "
            "as tables show it ('lr=0.1', 'tuned'). May be repeated: of one key any, of several "
            "keys all must match.",
        ),
        click.option(
            "--devices",
            metavar="NAMES",
            help="Devices in place of the spec's, separated by commas: cpu,cuda.",
        ),
        click.option("--seeds", type=click.IntRange(1), metavar="N", help="Use seeds 0 to N-1."),
    ):
        command = option(command)
    return command


@main.command()
@_SPEC
@_overriding
@_OUTPUT
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be run, and run nothing.")
@click.option("-q", "--quiet", is_flag=True, help="No progress; only where the page is.")
@click.option("--fresh", is_flag=True, help="Run again what is known already.")
@click.option(
    "--seed",
    "chosen",
    type=click.IntRange(0, 2**31 - 1),
    multiple=True,
    metavar="N",
    help="Use just this seed, in place of --seeds. May be repeated.",
)
@click.option(
    "--set",
    "values",
    multiple=True,
    metavar="NAME=VALUE",
    help="Give a hyperparameter this value, in JSON, in place of those that the spec lists or "
    "searches. May be repeated.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Keep the page current while trials run; it then reloads by itself.",
)
@click.option("--no-timing", is_flag=True, help="Leave out the timing pass.")
@_WORKERS
def run(
    spec: Path,
    only: tuple[str, ...],
    devices: str | None,
    seeds: int | None,
    chosen: tuple[int, ...],
    values: tuple[str, ...],
    no_timing: bool,
    watch: bool,
    output: Path | None,
    dry_run: bool,
    quiet: bool,
    fresh: bool,
    workers: int | None,
) -> None:
    """Run every combination of SPEC that is not known yet, and write the report.

    What was run before is kept: a second run of the same spec only writes the page again.
    """
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # is told to end as by Ctrl-C
    if seeds is not None and chosen:
        raise click.UsageError("expected either --seeds or --seed")
    with _errors():
        overrides = replace(
            _overrides(only, devices, seeds), chosen=chosen, values=values, untimed=no_timing
        )
        from harness import progress
        from harness.runner import Options, preview
        from harness.runner import run as run_spec

        options = Options(overrides, output, _command_line(), workers, fresh, watch)
        if dry_run:
            _print_preview(preview(spec, options))
            return
        summary = run_spec(spec, options, progress.choose(quiet=quiet))
        _print_summary(summary, time.monotonic() - began, quiet=quiet)
        sys.exit(EXIT_FAILED if summary.failed else EXIT_OK)


@main.command()
@_SPEC
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Compare to what stands in FILE.",
)
@click.option("--base", metavar="REV", help="Compare to another git revision, measured beside.")
@click.option("--update", is_flag=True, help="Write FILE anew, from what is measured now.")
@_overriding
@click.option(
    "--warn",
    multiple=True,
    type=click.Choice(["time", "loss", "operators", "calls", "state"]),
    help="Let this only warn. May be repeated.",
)
@click.option("--allow-new", is_flag=True, help="Let a cell pass that the other side lacks.")
@click.option(
    "--processes",
    type=click.IntRange(3, 100),
    default=5,
    show_default=True,
    help="With --update: how many processes measure.",
)
@_OUTPUT
@click.option("-q", "--quiet", is_flag=True, help="No progress; only what came out.")
@_WORKERS
def check(
    spec: Path,
    baseline: Path | None,
    base: str | None,
    update: bool,
    only: tuple[str, ...],
    devices: str | None,
    seeds: int | None,
    warn: tuple[str, ...],
    allow_new: bool,
    processes: int,
    output: Path | None,
    quiet: bool,
    workers: int | None,
) -> None:
    """Compare speed, loss and exact counts of SPEC with a baseline, or with a git revision.

    Exit status: 0 fine, 1 something regressed, 2 bad input or a baseline that can't be read,
    3 inconclusive or not comparable, 4 a cell is missing or failed, 130 interrupted. Of several,
    the first of 1, 4, 3.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if (baseline is None) == (base is None):
        raise click.UsageError("expected either --baseline FILE or --base REV")
    if update and baseline is None:
        raise click.UsageError("--update writes a baseline: expected --baseline FILE")
    with _errors(EXIT_CHECK_FAILED):
        overrides = _overrides(only, devices, seeds)
        from harness import gate, gate_outputs, progress

        options = gate.GateOptions(
            *(overrides, output, baseline, base, frozenset(warn), allow_new, workers, processes)
        )
        told = progress.choose(quiet=quiet)
        if update:
            written = gate.update(spec, options, told)
            click.echo(f"{len(written.baseline.cells):,} cells written to {baseline}.")
            for why in written.missing.values():
                click.echo(f"note: {why}; its cells are not written")
            for name, cell in written.baseline.cells.items():
                if cell.loss.diverged:
                    click.echo(f"note: {name}: a diverged trial, so its loss will never pass")
            return
        report, folder = gate.check(spec, options, told)
        width = min(160, shutil.get_terminal_size().columns)
        click.echo(gate_outputs.terminal(report, width, colour=sys.stdout.isatty()), nl=False)
        click.echo(f"Written to {relative(folder / gate.FOLDER)}.")
        _tell_ci(report)
        sys.exit(report.exit_status)


def _tell_ci(report: GateReport) -> None:
    """Annotations and a job summary, where GitHub's or a like runner asks for them."""
    from harness import gate_outputs

    if os.environ.get("GITHUB_ACTIONS") == "true":
        click.echo(gate_outputs.annotations(report), nl=False)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(gate_outputs.markdown(report))
        except OSError as error:
            click.echo(f"note: {summary} can't be written: {error.strerror}", err=True)


@main.command()
@click.argument("results", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["csv", "md", "tex", "svg", "png", "html"]),
    help="Write only this: csv, md and tex are tables, svg and png figures, html the page. May be "
    "repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where several results go side by side; by default reports/side-by-side, beside the "
    "first if that lies in a folder under reports/. The report of one is written beside it.",
)
def report(results: tuple[Path, ...], formats: tuple[str, ...], output: Path | None) -> None:
    """Write tables, figures and page again from stored results, or lay several side by side.

    Results can be read while a run adds to them.

    Each of RESULTS is a spec, a folder under reports/, or a results.sqlite; benchmarks.yaml if left
    out. Of several, whose files stay as they are, one page of its own says which cases and seeds
    are the same, what came out of them in each, and what differs in how they were made.
    """
    if len(results) < 2 and output is not None:
        raise click.UsageError("--output is for several RESULTS; the report of one lies beside it")
    with _errors():
        from harness import reporting as writer
        from harness import shelf

        wanted = formats or writer.FORMATS
        if len(results) > 1:
            from harness import side_by_side

            sources = side_by_side.read(_places(results))
            folder = output or _side_by_side_folder(results[0])
            page = writer.write_side_by_side(sources, folder, wanted)
        else:
            from harness import runner as runs

            path = _store_path(*results or (Path("benchmarks.yaml"),))
            folder = path.parent
            page = runs.report_again(path, wanted)
        if "html" in wanted:
            click.echo(f"Page: {relative(page)}")
        else:
            click.echo(f"Written to {relative(folder)}: {', '.join(dict.fromkeys(formats))}.")
        if note := shelf.update(folder):
            click.echo(f"note: {note}", err=True)


def _places(results: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each of several results as it was named, with its store.

    Raises:
        BadInput: With every one that isn't there.
    """
    from harness.problems import BadInput, Problem, nearest
    from harness.store import FILE_NAME

    problems: list[Problem] = []
    found = []
    for given in results:
        if not given.exists():
            siblings = [path.name for path in _siblings(given) if (path / FILE_NAME).is_file()]
            message = f"no such spec, folder or results file{nearest(given.name, siblings)}"
            problems.append(Problem(str(given), 0, 0, "", message))
            continue
        try:
            found.append((str(given), _store_path(given)))
        except BadInput as error:
            problems += error.problems
    if problems:
        raise BadInput(problems)
    return found


def _siblings(path: Path) -> list[Path]:
    try:
        return sorted(path.absolute().parent.iterdir())
    except OSError:
        return []


def _side_by_side_folder(first: Path) -> Path:
    """Where results side by side go, if nobody says: beside the first, if that is on our shelf."""
    from harness import shelf

    folder = (first if first.is_dir() else _store_path(first).parent).absolute()
    reports = folder.parent if folder.parent.name == shelf.FOLDER else Path(shelf.FOLDER)
    return reports / "side-by-side"


@main.command()
@_SPEC
@_overriding
def validate(spec: Path, only: tuple[str, ...], devices: str | None, seeds: int | None) -> None:
    """Check SPEC: its keys, the names in it, and every hyperparameter."""
    with _errors():
        overrides = _overrides(only, devices, seeds)
        from harness import runner as runs

        plan, checked = runs.validate(spec, overrides)
        click.echo(
            f"{spec}: fine. {len(plan.cases) + len(plan.open_searches):,} cases with "
            f"{len(plan.seeds):,} seeds: {plan.trials:,} trials"
            f"{', tuning and sweeps included' if plan.searches else ''}."
        )
        for why in checked.absent.devices.values():
            click.echo(f"note: {why}")


@main.command()
@click.argument("results", type=click.Path(path_type=Path), default=Path("benchmarks.yaml"))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the times of the machine that checked last, as .svg or .png.",
)
def history(results: Path, output: Path | None) -> None:
    """Tell how the times of every cell went over all checks, and where they changed for good.

    RESULTS is a spec, a folder under reports/, or a history.jsonl; benchmarks.yaml if left out.
    """
    with _errors():
        from harness import check_history as histories
        from harness.problems import BadInput

        path = _history_path(results)
        known = histories.read(path)
        if not known.entries:
            raise BadInput.of_file(relative(path), "holds no check that can be read")
        if output is not None:
            _draw_history(path, known, output)
        click.echo(histories.text(known))


@main.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    from harness.spec import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@main.command("list")
@click.argument("suite", type=click.Path(path_type=Path), default=Path())
def list_names(suite: Path) -> None:
    """List the optimizers, objectives and datasets that a spec can name.

    SUITE is a folder or a spec; this folder if left out.
    """
    with _errors():
        from harness import listing

        click.echo(listing.render(suite))


@main.command("init")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def init_suite(folder: Path) -> None:
    """Write a small suite into DIR that runs at once, to be changed into one's own.

    A spec, an optimizer, an objective, a dataset, a test and a CI workflow. DIR may hold other
    files; where one of ours is there already, nothing is written.
    """
    with _errors():
        from harness import starter

        click.echo(starter.told(folder, starter.init(folder)))


@main.command("test")
@click.argument("suite", type=click.Path(path_type=Path), default=Path())
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="N",
    help="How long each test of a part may take.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress; only what came out.")
@_WORKERS
def test_suite(suite: Path, seconds: float, quiet: bool, workers: int | None) -> None:
    """Try the optimizers, objectives and datasets of SUITE before a long run.

    SUITE is a spec or a folder with some; this folder if left out. Each part is tried by itself,
    in a process that may hang or die: is an optimizer deterministic, is its state saved whole, does
    the order of parameters matter; is a gradient right, is a declared minimum one.

    Exit status: 0 nothing is wrong, 1 something is, 2 bad input, 130 interrupted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _errors():
        from harness import part_tests, progress

        told = progress.choose(quiet=quiet)
        try:
            report = part_tests.test(suite, seconds=seconds, workers=workers, progress=told)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            sys.exit(EXIT_INTERRUPTED)
        width = min(100, shutil.get_terminal_size().columns)
        click.echo(part_tests.terminal(report, width, colour=sys.stdout.isatty()), nl=False)
        sys.exit(report.exit_status)


@contextlib.contextmanager
def _errors(failed: int = EXIT_FAILED) -> Iterator[None]:
    """Turn what can go wrong into messages and exit statuses; ``failed``: of what has no other."""
    from harness.pool import WorkerFailed
    from harness.problems import BadInput

    try:
        yield
    except BadInput as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        if len(error.problems) > 1:
            click.echo(f"{len(error.problems)} mistakes.", err=True)
        sys.exit(error.exit_status)
    except WorkerFailed as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(failed)
    except KeyboardInterrupt:
        click.echo(
            "\nInterrupted. Finished trials are kept; the same command goes on from there.",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(failed)  # nobody read how it ended, so it can't be called fine


def _overrides(only: tuple[str, ...], devices: str | None, seeds: int | None) -> Overrides:
    from harness.plan import Overrides, parse_devices

    return Overrides(seeds, parse_devices(devices) if devices is not None else (), only)


def _store_path(results: Path) -> Path:
    """The store that a spec, a folder or a file means."""
    from harness.runner import output_folder
    from harness.spec import load
    from harness.store import FILE_NAME
    from harness.yaml_source import SUFFIXES

    if results.suffix in SUFFIXES:
        loaded = load(results)
        suite = loaded.source.data.get("suite") if isinstance(loaded.source.data, dict) else None
        return output_folder(results, str(suite), None) / FILE_NAME
    return results / FILE_NAME if results.is_dir() else results


def _history_path(results: Path) -> Path:
    """The history that a spec, a folder or a file means."""
    from harness.check_history import FILE_NAME
    from harness.problems import BadInput
    from harness.yaml_source import SUFFIXES

    of_folder = results.suffix in SUFFIXES or results.is_dir()
    path = _store_path(results).with_name(FILE_NAME) if of_folder else results
    if not path.exists():
        message = "no history here; `python -m harness check` begins one"
        raise BadInput.of_file(relative(path), message)
    return path


def _draw_history(path: Path, known: History, output: Path) -> None:
    """Draw the times of the machine that checked last."""
    from harness.problems import BadInput

    ending = output.suffix.lower()
    if ending not in (".svg", ".png"):
        raise BadInput.of_file(str(output), "expected a name that ends in .svg or .png")
    from harness import check_figures, figures
    from harness import check_history as histories

    own = histories.series(known.entries, known.entries[-1].machine_key)
    changes = histories.changes(own.values()) if histories.can_find_changes() else []
    records = check_figures.histories(list(own.values()), changes, in_one=True)
    if not records:
        message = "nothing to draw: it takes two checks with times on the same machine"
        raise BadInput.of_file(relative(path), message)
    drawing = figures.draw(records[0])
    try:
        output.write_bytes(drawing.png if ending == ".png" else drawing.svg.encode())
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInput.of_file(str(output), f"can't be written: {why}") from None


def _print_preview(preview: Preview) -> None:
    plan = preview.plan
    rows = [("objective", "optimizer", "setting", "device", "seeds", "steps each", "")]
    for case in plan.cases:
        steps = preview.steps[case.objective.name]
        missing = "unavailable" if preview.absent.why(case) else ""
        names = (case.objective.name, case.optimizer, case.setting or "-", case.device)
        rows.append((*names, f"{len(plan.seeds):,}", f"{steps:,}", missing))
    for search in plan.searches:
        base = search.base
        steps = preview.steps[base.objective.name]
        missing = "unavailable" if preview.absent.why(base) else ""
        names = (
            base.objective.name,
            base.optimizer,
            f"{len(search.settings):,} tried",
            base.device,
        )
        rows.append((*names, f"{len(plan.tuning_seeds):,}", f"{steps:,}", missing))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    cases = len(plan.cases) + len(plan.open_searches)
    steps = sum(
        preview.steps[case.objective.name] * len(part.seeds)
        for part in (plan, plan.tuning, plan.sweeping)
        for case in part.cases
        if not preview.absent.why(case)
    )
    tuning = ", tuning and sweeps included" if plan.searches else ""
    click.echo(
        f"\n{cases:,} cases with {len(plan.seeds):,} seeds: {plan.trials:,} trials{tuning}, "
        f"{preview.known:,} of them known; about {steps:,} optimizer steps for all"
        f"{' but what tuning decides' if plan.open_searches else ''}."
    )
    click.echo(_timing_line(preview.timing))
    for why in preview.absent.devices.values():
        click.echo(f"note: {why}; its trials will be 'unavailable'")
    for why in dict.fromkeys(preview.absent.cases.values()):
        click.echo(f"note: {why}: its trials at the defaults will be 'unavailable'")
    click.echo(f"Results would go to {relative(preview.output)}.")


def _timing_line(timing: TimingPreview | None) -> str:
    """What the timing pass would do, in a sentence."""
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


def _print_summary(summary: Summary, seconds: float, *, quiet: bool) -> None:
    if not quiet:
        counts = ", ".join(f"{n:,} {status}" for status, n in summary.statuses.items())
        total = sum(summary.statuses.values())
        what = f"{summary.trained:,} run now" if summary.trained else "all known already"
        click.echo(f"{total:,} trials: {counts} ({what}); {seconds:.1f} s")
    if summary.failed:
        click.echo("Some trials failed; the page says which and why.", err=True)
    click.echo(f"Page: {relative(summary.page)}")


def _command_line() -> str:
    return shlex.join(["python", "-m", "harness", *sys.argv[1:]])
