"""Figure records of a map: tasks by optimizers, and the cells that each optimizer won."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.analysis import wins
from harness.analysis.win_counts import FamilyCounts, Row, Task, WinMap
from harness.formatting import listed, plural
from harness.reporting.figures.records import (
    DotFigure,
    DotPanel,
    DotRow,
    FigureRecord,
    dot_figure,
)
from harness.reporting.figures.styles import Style, looks, swatches
from harness.reporting.tables.win_map import family_name, suffix_of
from harness.store.read import Results

MATRIX, COUNTS = "map", "map_cells_won"
"""Names of the figures."""

CAPTION = (
    "Of each task and optimizer a row of squares, one per difficulty, the easiest on the left: the "
    "darker, the larger the share of seeds that reach all targets. {numbers}Crossed out: did not "
    "run. The table of every cell has the 95% intervals."
)
COUNTS_CAPTION = (
    "Cells (a task at one difficulty) that an optimizer wins: at least half of the seeds reach all "
    "targets. Bar: 95%, for other seeds and other tasks (bootstrap over both, the same for all "
    "optimizers). Counts are over the cells that all optimizers ran on."
)


@dataclass(frozen=True)
class MapTask:
    """A task in the figure.

    Attributes:
        name: The task.
        shares: By optimizer, the share of seeds that won each difficulty; NaN where it did not
            run.
    """

    name: str
    shares: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class MapFigure(FigureRecord):
    """Tasks by optimizers, family by family; drawn on paper alone.

    Attributes:
        optimizers: Names of the columns.
        families: Names, each with its tasks; a name may be empty.
    """

    optimizers: tuple[str, ...]
    families: tuple[tuple[str, tuple[MapTask, ...]], ...]

    @property
    def most_difficulties(self) -> int:
        """The most difficulties of a task."""
        return max(
            (len(own) for _, tasks in self.families for task in tasks for own in task.shares),
            default=1,
        )


def build(results: Results, known: Sequence[WinMap]) -> list[FigureRecord]:
    """The figures of the map of each device.

    Args:
        results: What was run.
        known: The maps.
    """
    own = swatches(results)
    styles = {case.label: own[case.optimizer] for case in results.cases} | own
    # Optimizers whose cells come along have the colours of their names.
    others = dict.fromkeys(name for one in known for name in one.optimizers if name not in styles)
    looked = looks({name: (name.partition("_")[0], name) for name in others})
    styles |= {name: look.styles(name, [""])[""] for name, look in looked.items()}
    found: list[FigureRecord] = []
    for one in known:
        suffix = suffix_of(one, several=len(known) > 1)
        where = f" ({one.device})" if suffix else ""
        records: list[FigureRecord] = [matrix(one, where), counts(one, styles, where)]
        found += [replace(record, name=f"{record.name}{suffix}") for record in records]
    return found


def matrix(known: WinMap, where: str = "") -> MapFigure:
    """The matrix of tasks by optimizers."""
    families = tuple(
        (
            family_name(known, family) if any(known.families) else "",
            tuple(_task(task, known.optimizers) for task in known.of_family(family)),
        )
        for family in known.families
    )
    title = f"Share of seeds won{where}"
    figure = MapFigure(
        name=MATRIX,
        objective=None,
        title=title,
        caption="",
        alt=f"{title}: {plural(len(known.tasks), 'task')} by {listed(known.optimizers, 9)}.",
        optimizers=known.optimizers,
        families=families,
        note=_not_run(known),
    )
    numbers = "Number: that share in percent. " if has_numbers(figure) else ""
    return replace(figure, caption=CAPTION.format(numbers=numbers))


def has_numbers(figure: MapFigure) -> bool:
    """True where squares are large enough for numbers that can be read."""
    return len(figure.optimizers) * figure.most_difficulties <= MOST_NUMBERS


MOST_NUMBERS = 18
"""Squares beside each other beyond which they are too small for a number."""


def _task(task: Task, optimizers: Sequence[str]) -> MapTask:
    shares = (tuple(_share(row, name) for row in task.rows) for name in optimizers)
    return MapTask(task.name, tuple(shares))


def _share(row: Row, optimizer: str) -> float:
    cell = row.cells.get(optimizer)
    return math.nan if cell is None else wins.share(cell).value


def _not_run(known: WinMap) -> str:
    missing = len(known.rows) * len(known.optimizers) - sum(len(row.cells) for row in known.rows)
    return f"{plural(missing, 'cell')} did not run." if missing else ""


def counts(known: WinMap, styles: Mapping[str, Style], where: str = "") -> DotFigure:
    """Cells won by each optimizer, of the whole map and by family."""
    names = known.optimizers
    title = "all tasks" if known.by_family else ""
    panels = [_panel(known.overall, title, names, styles)]
    panels += [
        _panel(own, family_name(known, own.family), names, styles) for own in known.by_family
    ]
    columns = min(len(panels), 3)
    panels = [replace(panel, is_named=i % columns == 0) for i, panel in enumerate(panels)]
    figure = dot_figure(
        COUNTS,
        None,
        "Cells won",
        COUNTS_CAPTION,
        panels,
        "",
        "cells won, 95% interval",
        where,
    )
    return replace(figure, columns=columns)


def _panel(
    family: FamilyCounts, title: str, names: Sequence[str], styles: Mapping[str, Style]
) -> DotPanel:
    by_name = {own.optimizer: own for own in family.counts}
    rows = []
    for name in names:
        own = by_name[name]
        style = styles[name]
        rows.append(
            DotRow(label=name, style=style, centre=float(own.won), low=own.low, high=own.high)
        )
    of = family.counts[0].of
    return DotPanel(
        title=title,
        x_label=f"cells won of {of}",
        limits=(-0.04 * max(1, of), 1.04 * max(1, of)),
        rows=tuple(rows),
    )
