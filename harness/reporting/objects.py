"""The contents of a report, as Python objects: frames, tables, sentences and figures.

Each part is read, worked out or drawn once, when it is first asked for, so that an object of this
module costs nothing until then. The page and the files beside it are made from the same objects,
and in a notebook they show themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput, join, nearest
from harness.formatting import seed_ranges
from harness.measures import TRAIN_LOSS
from harness.progress import relative
from harness.reporting.figure import Figures, Named
from harness.store.database import FILE_NAME

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from harness.analysis.side_by_side import SideBySide
    from harness.analysis.sources import Source
    from harness.analysis.summary import Analysis
    from harness.gate.history import Change, Entry, Series
    from harness.gate.report import GateReport
    from harness.reporting.printed import Printed
    from harness.reporting.tables.model import Table
    from harness.reporting.tables.sentences import Findings
    from harness.store.read import CaseData, Results

PAGE_NAME, CHECK_NAME, CHECK_FOLDER = "index.html", "check/check.json", "check"


MAIN_TABLE = "summary"
"""Name of the table that says what came out."""


class Report:
    """A run that was stored: its frames, and what its page says of it.

    Args:
        store: The file with the results.
        run: Number of the run in it; None for the latest.
        results: What is in it, where somebody has read it already.
    """

    def __init__(self, store: Path, run: int | None = None, results: Results | None = None) -> None:
        self.store = store
        self.notes: tuple[str, ...] = ()
        """Sentences on what could not be done beside the report, such as to list it."""
        self._run = run
        if results is not None:
            self.results = results

    @functools.cached_property
    def results(self) -> Results:
        """Everything that is stored of the run, as frames and arrays.

        Raises:
            BadInput: If it can't be read.
        """
        from harness.store import read

        return read.read(self.store, run=self._run)

    @property
    def folder(self) -> Path:
        """The folder of the report."""
        return self.store.parent

    @property
    def page(self) -> Path:
        """The page; it is there once the report is written."""
        return self.folder / PAGE_NAME

    @property
    def title(self) -> str:
        """The title of the run, or the name of its suite."""
        run = self.results.run
        return run.settings.title or run.suite

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial: how it ended, and its final loss (NaN unless it is ok).

        Columns: position (of the case in the run), objective, optimizer, setting, label, device,
        seed, status, step, reason, seconds, way, way_reason, final_loss, evaluations (of loss and
        gradients).
        """
        return self.results.trials

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """One row per recorded value: the curves of all trials.

        Columns: position, objective, optimizer, setting, device, seed, step, epoch, part (of the
        data), metric, value, and loss, which is the value where the metric is the loss. A trial
        that diverged ends where it diverged, one that stopped early where it stopped; one that
        ended in an error has no rows.
        """
        import numpy as np
        import pandas as pd

        parts = []
        for case in self.results.cases:
            info = self.results.objectives[case.objective]
            steps, seeds = info.record_steps, len(case.seeds)
            for measure in info.measures:
                columns: dict[str, Any] = dict(zip(_NAMES, _named(case), strict=True))
                values = case.recorded(measure).ravel()
                columns |= {
                    "seed": np.repeat(case.seeds, len(steps)),
                    "step": np.tile(steps, seeds),
                    "epoch": np.tile(steps / info.steps_per_epoch, seeds),
                    "part": measure.part,
                    "metric": measure.metric,
                    "value": values,
                    "loss": values if measure.metric == TRAIN_LOSS.metric else np.nan,
                }
                parts.append(pd.DataFrame(columns).dropna(subset="value"))
        if not parts:
            return pd.DataFrame(columns=[*_NAMES, *_RECORDED])
        return pd.concat(parts, ignore_index=True)

    def parameters(
        self, objective: str, optimizer: str, seed: int, *, setting: str = "", device: str = ""
    ) -> dict[str, NDArray[Any]]:
        """The parameters of a trial after its last step, where the spec keeps them.

        Args:
            objective: Name of the objective.
            optimizer: Name of the optimizer.
            seed: The trial's seed.
            setting: The setting, as tables show it; needed if the optimizer has several here.
            device: The device; needed if it ran on several.

        Returns:
            Arrays by the names of the parameters, each of the shape that a single trial has.

        Raises:
            BadInput: If there is no such trial, several cases are meant, or nothing is kept of it.
        """
        from harness.store.database import Store
        from harness.store.recorded import parameters

        case = self._case(objective, optimizer, setting, device)
        if seed not in self.results.run.settings.seeds:
            known = seed_ranges(self.results.run.settings.seeds)
            raise BadInput.of_file(str(self.store), f"no seed {seed}; there are {known}")
        with Store(self.store, untouched=True) as store:
            found = parameters(store, case.key, seed)
        if not found:
            text = f"no parameters are kept of {case.label} on {objective} with seed {seed}; "
            text += "'keep: {parameters: last}' of an objective in the spec keeps them"
            raise BadInput.of_file(str(self.store), text)
        return found

    def _case(self, objective: str, optimizer: str, setting: str, device: str) -> CaseData:
        """The one case that is meant."""
        found = list(self.results.cases)
        for name, value in (
            ("objective", objective),
            ("optimizer", optimizer),
            ("setting", setting),
            ("device", device),
        ):
            known = list(dict.fromkeys(str(getattr(case, name)) for case in found))
            found = [case for case in found if not value or getattr(case, name) == value]
            if not found:
                text = f"no {name} {value!r}{nearest(value, known)}"
                raise BadInput.of_file(str(self.store), text)
        if len(found) > 1:
            names = join([f"{case.label} on {case.device}" for case in found])
            text = f"several cases are meant, so give setting or device: {names}"
            raise BadInput.of_file(str(self.store), text)
        return found[0]

    @functools.cached_property
    def timings(self) -> pd.DataFrame:
        """One row per block of steps that was timed, in seconds.

        Columns: position, objective, optimizer, setting, device, round, steps, steps_per_epoch,
        seconds, cpu_seconds, epoch_seconds, evaluations (of loss and gradients).
        """
        import pandas as pd

        names = [_named(case) for case in self.results.cases]
        return pd.DataFrame(names, columns=_NAMES).merge(self.results.timings, on="position")

    @functools.cached_property
    def analysis(self) -> Analysis:
        """The statistics of the results."""
        from harness.analysis import summary as analysis

        return analysis.analyse(self.results)

    @functools.cached_property
    def findings(self) -> Findings:
        """Sentences on what came out, how sure that is, how fast it was and what went wrong."""
        from harness.reporting.tables import sentences as findings

        return findings.summarise(self.results, self.analysis)

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        return self.findings.headline

    @property
    def sentences(self) -> tuple[str, ...]:
        """The headline, then the findings, one sentence after the other."""
        said = self.findings
        return (self.headline, *said.outcome, *said.certainty, *said.speed, *said.trouble)

    @functools.cached_property
    def checks(self) -> Checks | None:
        """The checks of the suite that lie beside the results; None where there is none."""
        return read_checks(self.store.parent, self.results.run.suite)

    @functools.cached_property
    def tables(self) -> Named[Table]:
        """The page's tables, by file name: ``final_loss``, ``differences``, ``targets``, ...

        Each has its numbers in ``frame``, and in ``shown`` the same as the page shows it.
        """
        from harness.reporting.tables import check as check_tables
        from harness.reporting.tables import comparison as comparison_tables
        from harness.reporting.tables import trials as tables
        from harness.reporting.tables import verdict, win_map

        if self.analysis.is_map_alone:
            built = [*win_map.build(self.analysis.maps), *tables.of_all(self.results)]
            return Named("table", {table.name: table for table in built})
        built = list(filter(None, [verdict.summary(self.results, self.analysis)]))
        built += tables.build(self.results, self.analysis.means)
        built += comparison_tables.build(self.results, self.analysis)
        built += win_map.build(self.analysis.maps)
        if self.checks and self.checks.latest and self.checks.latest.cells:
            built.append(check_tables.check(self.checks.latest))
        return Named("table", {table.name: table for table in built})

    @functools.cached_property
    def figures(self) -> Figures:
        """The page's figures, by file name; one is drawn when it is shown."""
        from harness.reporting.figures import check as check_figures
        from harness.reporting.figures import comparison as comparison_figures
        from harness.reporting.figures import coordinates, win_map
        from harness.reporting.figures import trials as trial_figures
        from harness.reporting.figures.styles import looks_of

        results, checks = self.results, self.checks
        if self.analysis.is_map_alone:
            return Figures(win_map.build(results, self.analysis.maps))
        records = trial_figures.build(results, self.analysis.means)
        known = [record.name for record in records]
        records += comparison_figures.build(results, self.analysis, known)
        known = [record.name for record in records]
        records += coordinates.build(results, self.analysis.means, known)
        if checks and checks.latest:
            history = (checks.latest, checks.series, checks.changes)
            records += check_figures.build(*history, looks_of(results))
        records += win_map.build(results, self.analysis.maps)
        return Figures(records)

    @functools.cached_property
    def printed(self) -> Printed:
        """The results as the command line prints them: headline, table, failures."""
        from harness.reporting import printed

        return printed.of(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {relative(self.page)}>"

    def __str__(self) -> str:
        from harness.reporting import printed

        return f"{printed.render(self.printed)}Page: {relative(self.page)}"

    def _repr_html_(self) -> str:
        said = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)
        parts = [f"<h3>{escape(self.title)}</h3>", f"<ul>{said}</ul>"]
        if MAIN_TABLE in self.tables:
            parts.append(self.tables[MAIN_TABLE].to_html())
        parts.append(self.figures._repr_html_())
        where = escape(relative(self.page))
        parts.append(f"<p>All of it: <code>{where}</code></p>")
        return "\n".join(parts)


_NAMES = ["position", "objective", "optimizer", "setting", "device"]
_RECORDED = ["seed", "step", "epoch", "part", "metric", "value", "loss"]


def _named(case: CaseData) -> tuple[int, str, str, str, str]:
    return (case.position, case.objective, case.optimizer, case.setting, case.device)


class Run(Report):
    """The report of a run that was just made.

    Args:
        store: The file with the results.
        run: Number of the run in it.
        statuses: How many trials of the plan ended how.
        trained: How many trials were run now; the others were known.
        timed: How many cases were timed now.
    """

    def __init__(
        self, store: Path, run: int, statuses: dict[str, int], trained: int, timed: int
    ) -> None:
        super().__init__(store, run)
        self.statuses, self.trained, self.timed = statuses, trained, timed

    @property
    def failed(self) -> bool:
        """True where some trial ended in an error or at its time limit."""
        return bool(self.statuses.get("error", 0) + self.statuses.get("timeout", 0))


class Comparison(Report):
    """The report of several runs: of all their results, each on devices of its own.

    Args:
        sources: The runs.
        folder: Where the report goes.
    """

    def __init__(self, sources: Sequence[Source], folder: Path) -> None:
        from harness.analysis.sources import combine

        super().__init__(folder / FILE_NAME, results=combine(sources))
        self.sources = tuple(sources)

    @functools.cached_property
    def beside(self) -> SideBySide:
        """The cases and trials that are the same, and the differences."""
        from harness.analysis import side_by_side

        return side_by_side.compare(self.sources)

    @functools.cached_property
    def between(self) -> tuple[str, ...]:
        """Sentences on what differs between the sources."""
        from harness.reporting.tables import side_by_side

        return side_by_side.sentences(self.beside)

    @property
    def headline(self) -> str:
        """The answer in one sentence: what of the sources is equal."""
        return self.between[0]

    @property
    def sentences(self) -> tuple[str, ...]:
        """Sentences on what the sources have in common, then what each of them found."""
        return (*self.between, *super().sentences[1:])

    @property
    def checks(self) -> None:
        """None: checks are of one suite."""

    @functools.cached_property
    def tables(self) -> Named[Table]:
        """The tables of any report, and before them the differences between the sources."""
        from harness.reporting.tables import side_by_side

        built = [*side_by_side.build(self.beside), *super().tables.values()]
        return Named("table", {table.name: table for table in built})

    @functools.cached_property
    def figures(self) -> Figures:
        """The figures of any report, and the curves of the same cases on one another."""
        from harness.reporting.figures import overlays

        of_each = [] if self.analysis.is_map_alone else overlays.overlays(self.beside)
        return Figures([*of_each, *super().figures.records])


@dataclass(frozen=True, repr=False)
class Check:
    """The outcome of a check.

    Attributes:
        report: The verdict on every cell.
        output: The folder of the suite's results.
    """

    report: GateReport
    output: Path

    @property
    def exit_status(self) -> int:
        """0 fine, 1 something regressed, 3 inconclusive or not comparable, 4 missing or failed."""
        return self.report.exit_status

    @property
    def folder(self) -> Path:
        """The folder that it is written to: as Markdown, JUnit, JSON."""
        return self.output / CHECK_FOLDER

    @property
    def table(self) -> Table:
        """Every cell before and now."""
        from harness.reporting.tables import check

        return check.check(self.report)

    def __repr__(self) -> str:
        from harness.gate.outputs import terminal

        return terminal.render(self.report)

    def _repr_html_(self) -> str:
        from harness.reporting.tables import check

        verdict = f"<p>{escape(check.against(self.report))}</p>"
        return verdict + (self.table.to_html() if self.report.cells else "")


@dataclass(frozen=True)
class Checks:
    """Checks against a baseline that lie beside a report.

    Attributes:
        latest: The latest check; None where it can't be read.
        why: Why it can't be.
        history: All checks so far.
        remarks: What of the history can't be read, a sentence each.
    """

    latest: GateReport | None
    why: str = ""
    history: tuple[Entry, ...] = ()
    remarks: tuple[str, ...] = ()

    @functools.cached_property
    def series(self) -> list[Series]:
        """The times of each cell on the machine of the latest check."""
        from harness.gate import history as check_history

        if self.latest is None:
            return []
        return list(check_history.series(self.history, self.latest.machine_key).values())

    @functools.cached_property
    def changes(self) -> list[Change]:
        """Change points of these times, if that can be found out."""
        from harness.gate import history as check_history

        return check_history.changes(self.series) if check_history.can_find_changes() else []


def read_checks(output: Path, suite: str) -> Checks | None:
    """The checks in a report's folder; None where there is none of this suite."""
    from harness.gate import history as check_history
    from harness.gate import report as verdicts

    try:
        latest = verdicts.from_json((output / CHECK_NAME).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        return Checks(None, error.strerror or str(error))
    except ValueError:
        return Checks(None, "it is not what a check writes")
    if latest.suite != suite:
        return None
    try:
        known = check_history.read(output / check_history.FILE_NAME)
    except BadInput as error:
        return Checks(latest, remarks=(f"The history is left out: {error.problems[0].message}.",))
    return Checks(latest, "", known.entries, tuple(known.remarks))
