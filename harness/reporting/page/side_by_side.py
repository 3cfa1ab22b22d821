"""The page of results laid side by side: what stands where, and how the specs differ."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.side_by_side import SideBySide, seeds_text
from harness.formatting import DASH, moment
from harness.reporting.figures import side_by_side as of_figures
from harness.reporting.page import charts
from harness.reporting.page.parts import (
    Cell,
    Grid,
    Picture,
    counted,
    counts,
    document,
    files,
    grid,
    picture,
    plain_grid,
    plural,
    slug,
    whole,
)
from harness.reporting.tables import side_by_side as of_tables
from harness.reporting.tables import side_by_side_sentences as findings
from harness.reporting.tables.model import Table

if TYPE_CHECKING:
    from harness.reporting.figures.draw import Drawing
    from harness.reporting.figures.records import FigureRecord

DIFF_LINES = 2000
"""Lines of a difference of two specs that are shown."""


@dataclass(frozen=True)
class Section:
    """What the page tells of one objective."""

    id: str
    name: str
    pictures: tuple[Picture, ...]
    grids: tuple[Grid, ...]


@dataclass(frozen=True)
class SpecDifference:
    """How the text of a source's spec differs from the first's.

    Attributes:
        title: Of which spec, and how much it is.
        text: A unified diff; empty where there is nothing to show.
    """

    title: str
    text: str


def render(
    beside: SideBySide,
    tables: Sequence[Table],
    records: Sequence[FigureRecord],
    drawings: Sequence[Drawing],
) -> str:
    """The page as HTML.

    Args:
        beside: What is laid side by side.
        tables: Its tables.
        records: What its figures show.
        drawings: The same figures, drawn; matched to the records by name.
    """
    svgs = {drawing.name: drawing.svg for drawing in drawings}
    by_name = {table.name: table for table in tables}
    made = by_name[of_tables.MADE]
    differs = made.frame["differs"] == "yes"
    sentences = findings.summarise(beside)
    return document(
        "side_by_side.html.j2",
        files(list(by_name), list(svgs)),
        charts.library() if records else None,
        title=findings.title(beside),
        about=_about(beside),
        sentences=sentences,
        sources=_sources(beside),
        made_other=grid(made, made.frame.index[differs], "other", objective="other", named=False),
        made_same=grid(made, made.frame.index[~differs], "same", objective="same", named=False),
        specs=spec_differences(beside),
        quality=_sections(beside, by_name, records, svgs, of_figures.LOSS),
        notes=[
            (by_name[name].title, by_name[name].note, f"note-{name}")
            for name in (of_tables.LOSS, of_tables.DIFFERENCES)
            if name in by_name
        ],
        speed=_sections(beside, by_name, records, svgs, of_figures.SPEED),
        speed_note=by_name[of_tables.SPEED].note if of_tables.SPEED in by_name else "",
        endings=whole(by_name.get(of_tables.ENDINGS)),
        not_everywhere=whole(by_name.get(of_tables.NOT_EVERYWHERE)),
    )


def _about(beside: SideBySide) -> str:
    """What a list of pages is told of this one: as JSON, in the page's head."""
    return json.dumps(
        {
            "sources": [source.name for source in beside.sources],
            "started": max(source.results.run.started for source in beside.sources),
            "cases": len(beside.matches) - len(beside.nowhere),
            "shared": len(beside.compared),
        }
    )


def _sources(beside: SideBySide) -> Grid:
    rows = []
    for source in beside.sources:
        results = source.results
        ended = results.trials["status"]
        rows.append(
            (
                Cell(source.name),
                Cell(source.place),
                Cell(results.run.suite),
                Cell(results.run.settings.title or DASH),
                Cell(moment(results.run.started)),
                Cell(seeds_text(results.run.settings.seeds)),
                Cell(f"{len(results.optimizers)} × {len(results.objectives)}"),
                Cell(counted(counts(ended))),
            )
        )
    headings = ("called", "results", "suite", "title", "started", "seeds")
    return plain_grid("sources", (*headings, "optimizers × objectives", "trials"), rows)


def _sections(
    beside: SideBySide,
    tables: dict[str, Table],
    records: Sequence[FigureRecord],
    svgs: dict[str, str],
    kind: str,
) -> tuple[Section, ...]:
    """For each objective, its figure and its rows of the tables of a kind."""
    is_loss = kind == of_figures.LOSS
    names = (of_tables.LOSS, of_tables.DIFFERENCES) if is_loss else (of_tables.SPEED,)
    sections = []
    for number, objective in enumerate(
        dict.fromkeys(match.case.objective for match in beside.compared), 1
    ):
        anchor = f"{number}-{slug(objective)}"
        pictures = tuple(
            picture(record, svgs[record.name])
            for record in records
            if record.objective == objective
            and record.name.startswith(kind)
            and record.name in svgs
        )
        grids = []
        for table in (tables[name] for name in names if name in tables):
            rows = table.frame.index[table.frame["objective"] == objective]
            if len(rows):
                grids.append(grid(table, rows, anchor, objective=objective, named=False))
        if pictures or grids:
            sections.append(Section(f"{slug(kind)}-{anchor}", objective, pictures, tuple(grids)))
    return tuple(sections)


def spec_differences(beside: SideBySide) -> list[SpecDifference]:
    """How each spec differs from the first one, for those that do."""
    first, *others = beside.sources
    found = []
    for source in others:
        texts = [one.results.run.spec_text for one in (first, source)]
        if texts[0] == texts[1]:
            continue
        old, new = (text.replace("\r\n", "\n").split("\n") for text in texts)
        files_of = [f"{one.name}: {one.results.run.spec_file}" for one in (first, source)]
        lines = list(difflib.unified_diff(old, new, files_of[0], files_of[1], lineterm=""))
        title = f"The spec of {source.name} against that of {first.name}"
        if not lines:
            found.append(SpecDifference(f"{title}: other line endings, the same lines", ""))
            continue
        gone = sum(line.startswith("-") for line in lines[2:])
        new_lines = sum(line.startswith("+") for line in lines[2:])
        if len(lines) > DIFF_LINES:
            lines = [*lines[:DIFF_LINES], f"… {len(lines) - DIFF_LINES:,} more lines"]
        found.append(
            SpecDifference(
                f"{title}: {plural(gone, 'line')} gone, {new_lines:,} new", "\n".join(lines)
            )
        )
    return found
