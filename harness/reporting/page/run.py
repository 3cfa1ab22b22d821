"""The page of a run, or of several: a record of what the template needs, section by section.

Nothing here writes files or draws.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from harness.analysis.targets import FEWEST_FAMILIES
from harness.analysis.win_counts import WinMap
from harness.formatting import DASH, or_dash
from harness.measures import PARTS
from harness.reporting.figures import check as check_figures
from harness.reporting.figures import overlays
from harness.reporting.figures import styles as figure_styles
from harness.reporting.figures import win_map as map_figures
from harness.reporting.figures.records import named_after
from harness.reporting.glossary import GLOSSARY, definition
from harness.reporting.page import charts, citation, facts, win_map
from harness.reporting.page.between import Between
from harness.reporting.page.check import CheckSection
from harness.reporting.page.index import RunSummary
from harness.reporting.page.matrix import Matrix
from harness.reporting.page.parts import (
    Grid,
    Picture,
    as_json,
    counted,
    counts,
    document,
    files,
    grid,
    picture,
    plain_grid,
    slug,
    thumbnail,
    whole,
)
from harness.reporting.tables import reproduce
from harness.reporting.tables import side_by_side as source_tables
from harness.reporting.tables import win_map as win_tables
from harness.reporting.tables.model import Table
from harness.reporting.tables.sentences import Findings
from harness.reporting.tables.trials import OUTCOMES
from harness.store.read import CaseData, ObjectiveInfo, Results

if TYPE_CHECKING:
    from harness.reporting.figures.draw import Drawing
    from harness.reporting.figures.records import FigureRecord

TIMING, OVERVIEW = "seconds_per_epoch", "overview"
"""Name of the table of times, with which the names of their figures begin; and of a figure."""

MOST_ROWS = 300
"""Rows of a table of all cases beyond which it is only in its file."""

OF_ALL = frozenset(
    {"summary", "failures", "check", "claims", "sharing", source_tables.BETWEEN, source_tables.MADE}
)
"""Names of the tables that have a place of their own."""

MAIN = ("trajectories", "loss", "learning", "generalization", "final_loss", "differences")
"""Kinds of an objective's figures that are not folded, in this order."""

OF_PARTS = "metrics"
"""Name of the table of an objective that is not folded."""


CASE_HEADINGS = ("optimizer", "setting", "objective", "class", "hyperparameters")
"""Headings of the table of cases, before the devices."""


@dataclass(frozen=True)
class Section:
    """One objective's part of the page, or that of all together.

    Attributes:
        id: Its anchor.
        name: Its heading.
        main: Pictures that are in sight.
        more: Pictures that are folded.
        grids: Tables, folded likewise.
        summary: The rows of the summary on it; None where there are none.
        metrics: The rows on its metrics by part; None where there are none.
        sentences: Sentences on it.
        formula: The objective's.
        facts: Facts on the objective.
    """

    id: str
    name: str
    main: tuple[Picture, ...] = ()
    more: tuple[Picture, ...] = ()
    grids: tuple[Grid, ...] = ()
    summary: Grid | None = None
    metrics: Grid | None = None
    sentences: tuple[str, ...] = ()
    formula: str = ""
    facts: facts.Facts = ()

    @property
    def folded(self) -> str:
        """The titles of what is folded."""
        kinds = [picture.title.partition(":")[0] for picture in self.more]
        titles = [*kinds, *(f"{grid.title} (table)" for grid in self.grids)]
        return ", ".join(title[0].lower() + title[1:] for title in dict.fromkeys(titles))


@dataclass(frozen=True)
class Page:
    """Everything that the template shows.

    Attributes:
        results: The results.
        tables: Tables by name.
        records: Records of the figures that are drawn.
        svgs: Their drawings by name.
        said: Findings, as plain text.
        check: The latest check against a baseline; None where there was none.
        between: Differences between sources; None where there is but one.
        matrix: The verdicts at a glance; None where nothing ran.
        maps: The map of each device, where objectives are difficulties of tasks.
        is_map_alone: Whether there are too many objectives for a section of each.
    """

    results: Results
    tables: Mapping[str, Table]
    records: Sequence[FigureRecord]
    svgs: Mapping[str, str]
    said: Findings
    check: CheckSection | None = None
    between: Between | None = None
    matrix: Matrix | None = None
    maps: Sequence[WinMap] = ()
    is_map_alone: bool = False

    @functools.cached_property
    def pictures(self) -> dict[str, Picture]:
        """The figures by name."""
        return {record.name: picture(record, self.svgs[record.name]) for record in self.records}

    @functools.cached_property
    def labels(self) -> dict[str, str]:
        """By the label of a case, its optimizer."""
        return {case.label: case.optimizer for case in self.results.cases}

    def whole(self, name: str) -> Grid | None:
        """A table with all of its rows; None where there is none of that name."""
        return whole(self.tables.get(name), self.labels)

    @property
    def made_differs(self) -> Grid:
        """The rows of how sources were made that differ."""
        table = self.tables[source_tables.MADE]
        rows = table.frame.index[table.frame["differs"] == "yes"]
        return grid(table, rows, "differs", objective="differs")

    @functools.cached_property
    def key(self) -> Picture | None:
        """The picture of the first screen: trajectories, where there are any, else a loss."""
        names = sorted(self.results.objectives, key=lambda name: -len(self.results.cases_on(name)))
        kinds = [(kind, name) for kind in ("trajectories", "loss") for name in names]
        found = (self._first(kind, name) for kind, name in kinds)
        return next((picture for picture in found if picture is not None), None)

    def _first(self, kind: str, objective: str) -> Picture | None:
        start = named_after(kind, objective)
        names = (r.name for r in self.records if r.objective == objective)
        return next((self.pictures[name] for name in names if name.startswith(start)), None)

    @functools.cached_property
    def sections(self) -> list[Section]:
        """A section for each objective; none where they are too many."""
        return (
            []
            if self.is_map_alone
            else [
                self._section(number, info)
                for number, info in enumerate(self.results.objectives.values(), 1)
            ]
        )

    def _section(self, number: int, info: ObjectiveInfo) -> Section:
        names = [name for name in self.tables if name not in {*OF_ALL, OF_PARTS, TIMING}]
        pictures = [one for one in self.pictures_of(info.name) if one is not self.key]
        place = {one.name: self._rank(one.name, info.name) for one in pictures}
        main = [one for one in pictures if place[one.name] < len(MAIN)]
        main.sort(key=lambda one: place[one.name])
        anchor = f"{number}-{slug(info.name)}"
        return Section(
            id=f"objective-{anchor}",
            name=info.name,
            main=tuple(main),
            more=tuple(one for one in pictures if place[one.name] == len(MAIN)),
            grids=self._grids(names, info.name, anchor),
            summary=next(iter(self._grids(["summary"], info.name, anchor)), None),
            metrics=next(iter(self._grids([OF_PARTS], info.name, anchor)), None),
            sentences=self.said.losses.get(info.name, ()),
            formula=info.formula,
            facts=facts.objective_facts(self.results, info),
        )

    @staticmethod
    def _rank(name: str, objective: str) -> int:
        """The place of a figure's kind among the main ones."""
        places = (i for i, kind in enumerate(MAIN) if name.startswith(named_after(kind, objective)))
        return next(places, len(MAIN))

    @functools.cached_property
    def map_sections(self) -> tuple[win_map.MapSection, ...]:
        """The map of each device."""
        return win_map.sections(self.maps, self.labels)

    def listed(self, name: str) -> Grid | None:
        """A table with all of its rows; None where there is none, or too many rows for a page."""
        table = self.tables.get(name)
        return None if table is None or len(table.frame) > MOST_ROWS else self.whole(name)

    @functools.cached_property
    def overall(self) -> Section:
        """The section on all objectives together."""
        of_map = {name for name in self.tables if name.startswith(win_tables.MATRIX)}
        names = [name for name in self.tables if name not in {*OF_ALL, *of_map, TIMING}]
        main, more = self.beginning(OVERVIEW), self.pictures_of(None)
        if len(self.results.objectives) >= FEWEST_FAMILIES:
            main, more = (*main, *more), ()
        grids = self._grids(names, None, "all")
        return Section("statistics", "Statistics", main, more, grids)

    @functools.cached_property
    def timed(self) -> list[Section]:
        """A section of times for each objective that was timed."""
        sections = [
            Section(
                id=f"time-{number}-{slug(name)}",
                name=name,
                main=self.pictures_of(name, timing=True),
                grids=self._grids([TIMING], name, f"{number}-{slug(name)}"),
            )
            for number, name in enumerate(self.results.objectives, 1)
        ]
        return [section for section in sections if section.main or section.grids]

    def beginning(self, start: str) -> tuple[Picture, ...]:
        """The figures whose name begins so."""
        return tuple(picture for name, picture in self.pictures.items() if name.startswith(start))

    def pictures_of(self, objective: str | None, *, timing: bool = False) -> tuple[Picture, ...]:
        """The figures of an objective; of times, or of anything else."""
        others = () if timing else (TIMING,)
        apart = (
            map_figures.MATRIX,
            check_figures.TIME,
            check_figures.HISTORY,
            overlays.BEGINNING,
            OVERVIEW,
            *others,
        )
        return tuple(
            self.pictures[record.name]
            for record in self.records
            if record.objective == objective
            and not record.name.startswith(apart)
            and (not timing or record.name.startswith(TIMING))
        )

    def _grids(self, names: Iterable[str], objective: str | None, anchor: str) -> tuple[Grid, ...]:
        """Rows of an objective; where that is None, the tables that know no objectives."""
        grids = []
        for table in (self.tables[name] for name in names if name in self.tables):
            if "objective" in table.frame.columns:
                rows = table.frame.index[table.frame["objective"] == objective]
            else:
                rows = table.frame.index if objective is None else table.frame.index[:0]
            if len(rows):
                grids.append(
                    grid(
                        table,
                        rows,
                        anchor,
                        objective=objective,
                        named=table.name != TIMING,
                        labels=self.labels,
                    )
                )
        return tuple(grids)

    @property
    def headline(self) -> str:
        """The answer in one sentence; of several runs, what of them is equal."""
        return self.between.sentences[0] if self.between else self.said.headline

    @property
    def runs(self) -> list[Results]:
        """The results of each run."""
        return [own.results for own in self.between.sources] if self.between else [self.results]

    @property
    def scope(self) -> list[str]:
        """The size of each run, in a sentence."""
        if self.between is None:
            return [facts.scope(self.results)]
        return [f"{own.name}: {facts.scope(own.results)}" for own in self.between.sources]

    @functools.cached_property
    def definitions(self) -> Markup:
        """Definitions of the headings of tables that need one, as JSON."""
        headings = {str(name) for table in self.tables.values() for name in table.shown.columns}
        headings.update(CASE_HEADINGS)
        known = {heading: definition(heading) for heading in sorted(headings)}
        return as_json({heading: text for heading, text in known.items() if text})

    @functools.cached_property
    def choices(self) -> Choices:
        """The choices that a reader has."""
        results = self.results
        swatches = figure_styles.swatches(results)
        infos = [info for info in results.objectives.values() if len(info.measures) > 1]
        parts = {part for info in infos for part in info.parts}
        metrics = dict.fromkeys(name for info in infos for name, _ in info.metrics)
        return Choices(
            optimizers=tuple(results.optimizers),
            styles=as_json([[name, charts.swatch(style)] for name, style in swatches.items()]),
            epochs=any(info.has_epochs for info in results.objectives.values()),
            seconds=bool(len(results.timings)),
            seeds=len(results.run.settings.seeds) > 1,
            parts=tuple(part for part in PARTS if part in parts) if len(parts) > 1 else (),
            metrics=tuple(metrics),
        )

    @functools.cached_property
    def summary(self) -> RunSummary:
        """A row of the list of reports."""
        run = self.results.run
        devices = {case.device for case in self.results.cases}
        size = f"{len(self.results.optimizers)} × {len(self.results.objectives)}"
        if self.between:
            size += f", from {len(self.between.sources)} runs"
        elif len(devices) > 1:
            size += f", on {len(devices)} devices"
        return RunSummary(
            title=run.settings.title or run.suite,
            suite=run.suite,
            started=run.started,
            finished=run.finished is not None,
            sources=len(self.between.sources) if self.between else 1,
            size=size,
            trials=tuple(counts(self.results.trials["status"])),
            missing=sum(map(facts.missing_trials, self.runs)),
            finding=self.headline,
        )


@dataclass(frozen=True)
class Choices:
    """Choices of a reader for the whole page.

    Attributes:
        optimizers: Their names.
        styles: For the page's script: each name with its style, as JSON.
        epochs: Whether some objective has epochs.
        seconds: Whether some case was timed.
        seeds: Whether any case has more than one seed.
        parts: Parts of the data that learning curves show; empty where there is one.
        metrics: Metrics that they show.
    """

    optimizers: tuple[str, ...]
    styles: Markup
    epochs: bool
    seconds: bool
    seeds: bool
    parts: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


def render(
    results: Results,
    tables: Sequence[Table],
    records: Sequence[FigureRecord],
    drawings: Sequence[Drawing],
    said: Findings,
    check: CheckSection | None = None,
    between: Between | None = None,
    matrix: Matrix | None = None,
    printed: str = "",
    maps: Sequence[WinMap] = (),
    is_map_alone: bool = False,
) -> str:
    """The page as HTML.

    Args:
        results: The results.
        tables: Their tables.
        records: Records of their figures.
        drawings: The same figures, drawn; matched to the records by name.
        said: Findings, as plain text.
        check: The latest check against a baseline; None where there was none.
        between: Differences between sources; None where there is but one.
        matrix: The verdicts at a glance; None where nothing ran.
        printed: The results as the command line prints them, as JSON.
        maps: The map of each device, where objectives are difficulties of tasks.
        is_map_alone: Whether there are too many objectives for a section of each.
    """
    svgs = {drawing.name: drawing.svg for drawing in drawings}
    pngs = {drawing.name: drawing.png for drawing in drawings}
    page = Page(
        results=results,
        tables={table.name: table for table in tables},
        records=[record for record in records if record.name in svgs],
        svgs=svgs,
        said=said,
        check=check,
        between=between,
        matrix=matrix,
        maps=maps,
        is_map_alone=is_map_alone,
    )
    live = {name: picture.data for name, picture in page.pictures.items() if picture.data}
    return document(
        "page.html.j2",
        files(page.tables, svgs),
        live,
        thumbnail=thumbnail(pngs[page.key.name]) if page.key else "",
        title=page.summary.title,
        page=page,
        printed=printed,
        run=results.run,
        settings=results.run.settings,
        cases=None if is_map_alone else _case_grid(results, page.labels),
        hyperparameters=None if is_map_alone else _hyperparameter_grid(results, page.labels),
        timing_scope=facts.timing_scope(results, page.tables.get(TIMING)),
        shared_runs=facts.shared_runs(results),
        made=facts.environment_facts(results.run),
        again=reproduce.again(results),
        bibtex=citation.bibtex(page.runs[0].run),
        citing=[citation.sentence(own.run) for own in page.runs],
        data_sources=citation.sources(results),
        terms=GLOSSARY,
        outcomes=OUTCOMES,
    )


def _case_grid(results: Results, labels: Mapping[str, str]) -> Grid:
    """Every case with how its trials ended, one column per device."""
    devices = list(dict.fromkeys(case.device for case in results.cases))
    ended = results.trials.groupby("position")["status"]
    counted_at = {position: counted(counts(statuses)) for position, statuses in ended}
    rows = []
    for case, *others in _across_devices(results.cases):
        where = {one.device: counted_at.get(one.position, DASH) for one in (case, *others)}
        rows.append(
            (
                case.optimizer,
                or_dash(case.setting),
                case.objective,
                case.optimizer_class,
                _assignments(case.hyperparameters),
                *(where.get(device, DASH) for device in devices),
            )
        )
    return plain_grid("cases", (*CASE_HEADINGS, *devices), rows, labels)


def _hyperparameter_grid(results: Results, labels: Mapping[str, str]) -> Grid:
    """Every case with its hyperparameters as its constructor completed them."""
    rows = [
        (case.optimizer, or_dash(case.setting), case.objective, _assignments(case.defaults))
        for case, *_ in _across_devices(results.cases)
    ]
    headings = ("optimizer", "setting", "objective", "hyperparameters")
    return plain_grid("hyperparameters", headings, rows, labels)


def _across_devices(cases: Iterable[CaseData]) -> list[list[CaseData]]:
    """Cases that differ by their device alone, together."""
    groups: dict[tuple[str, str], list[CaseData]] = {}
    for case in cases:
        groups.setdefault((case.objective, case.label), []).append(case)
    return list(groups.values())


def _assignments(values: Mapping[str, Any]) -> str:
    texts = (
        f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
    )
    return ", ".join(texts) or DASH
