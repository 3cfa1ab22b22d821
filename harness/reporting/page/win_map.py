"""The map of tasks by optimizers on a page: a table for each family, which folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis import wins
from harness.analysis.cells import Cell
from harness.analysis.win_counts import FamilyCounts, Row, Task, WinMap
from harness.formatting import listed, plural, probability, share
from harness.reporting.page.parts import slug
from harness.reporting.tables import win_map, win_sentences

STEPS = 10
"""Steps of the colour of a square."""


@dataclass(frozen=True)
class Square:
    """One optimizer on one task at one difficulty.

    Attributes:
        text: The share of seeds that won in percent; a cross where it did not run.
        level: Its colour, 0 where no seed won; empty where it did not run.
        title: All of it in words.
    """

    text: str
    level: str
    title: str


@dataclass(frozen=True)
class MapRow:
    """A task: by optimizer, its difficulties from the easiest to the hardest."""

    name: str
    note: str
    cells: tuple[tuple[Square, ...], ...]


@dataclass(frozen=True)
class MapFamily:
    """A family of tasks.

    Attributes:
        name: Its name.
        brief: Its size, and who wins the most and the fewest cells.
        won: By optimizer, the cells won, as a text.
        rows: Its tasks.
    """

    name: str
    brief: str
    won: tuple[str, ...]
    rows: tuple[MapRow, ...]


@dataclass(frozen=True)
class MapSection:
    """A map on the page.

    Attributes:
        id: Its anchor.
        name: Its heading.
        columns: The optimizers, each with what a reader selects it by.
        families: The families with their tables.
        sentences: On the families at which an optimizer fails, and where cells are from.
        basis: What counts and tests rest on.
        tables: Names of its tables, without those that it shows itself.
    """

    id: str
    name: str
    columns: tuple[tuple[str, str], ...]
    families: tuple[MapFamily, ...]
    sentences: tuple[str, ...]
    basis: tuple[str, ...]
    suffix: str


def sections(
    known: Sequence[WinMap], labels: dict[str, str] | None = None
) -> tuple[MapSection, ...]:
    """The maps, one per device.

    Args:
        known: The maps.
        labels: By the name of a column, what a reader selects it by; itself where it has none.
    """
    several = len(known) > 1
    return tuple(
        MapSection(
            id=f"map-{slug(one.device)}" if several else "map",
            name=f"Map on {one.device}" if several else "Map",
            columns=tuple((name, (labels or {}).get(name, name)) for name in one.optimizers),
            families=tuple(_family(one, own) for own in win_map.families_of(one)),
            sentences=tuple(
                filter(None, (*win_sentences.families(one), win_sentences.origins(one)))
            ),
            basis=win_sentences.basis(one),
            suffix=win_map.suffix_of(one, several=several),
        )
        for one in known
    )


def _family(known: WinMap, family: FamilyCounts) -> MapFamily:
    tasks = known.of_family(family.family) if known.by_family else known.tasks
    counts = {own.optimizer: own for own in family.counts}
    cells = sum(len(task.rows) for task in tasks)
    brief = f"{plural(len(tasks), 'task')}, {plural(cells, 'cell')}"
    if len(counts) > 1 and family.most.of:
        fewest = min(own.won for own in counts.values())
        ends = [
            ("most", family.most.won),
            *([("fewest", fewest)] if fewest < family.most.won else []),
        ]
        told = (
            f"{listed([n for n, own in counts.items() if own.won == won], 3)} the {word} ({won})"
            for word, won in ends
        )
        brief += f"; {', '.join(told)}"
    name = win_map.family_name(known, family.family)
    won = tuple(
        f"{counts[own].won} of {counts[own].of}{'*' * counts[own].is_fewer}"
        for own in known.optimizers
    )
    return MapFamily(name, brief, won, tuple(_row(known, task) for task in tasks))


def _row(known: WinMap, task: Task) -> MapRow:
    labels = [row.label for row in task.rows if row.label]
    last = labels[-1].partition("=")[2] if labels else ""
    note = f"{labels[0]} to {last}" if len(labels) > 1 else "".join(labels)
    cells = tuple(
        tuple(_square(known, row, name) for row in task.rows) for name in known.optimizers
    )
    return MapRow(task.name, note, cells)


def _square(known: WinMap, row: Row, optimizer: str) -> Square:
    place = f"{row.task} {row.label}".strip()
    cell = row.cells.get(optimizer)
    if cell is None:
        return Square("×", "", f"{optimizer} on {place}: not run")
    found = wins.share(cell)
    level = f"{round(found.value * STEPS)}" if found.n else ""
    return Square(
        f"{100 * found.value:.0f}", level, f"{optimizer} on {place}: {_words(known, row, cell)}"
    )


def _words(known: WinMap, row: Row, cell: Cell) -> str:
    """A cell in words: its share with the interval, steps, settings, and who does better."""
    found, steps, settings = wins.share(cell), wins.steps_to_win(cell), wins.settings_to_win(cell)
    if cell.copies:
        text = f"{'won' if found.wins else 'not won'} (all seeds are one run)"
    else:
        band = win_map.span(found.low, found.high, share)
        text = f"{found.wins} of {found.n} seeds won (95% CI {band})"
    if math.isfinite(steps.value):
        band = "" if math.isnan(steps.low) else f"{win_map.span(steps.low, steps.high)}; "
        text += f"; {win_map.steps_text(steps.value)} steps until a win"
        text += f" ({band}a trial has {cell.budget:,})"
    if cell.settings:
        text += f"; {win_map.settings_text(cell, settings)} settings until one wins"
        if settings.low < settings.high:
            ends = [
                win_map.number_of_settings(e, cell.settings) for e in (settings.low, settings.high)
            ]
            text += f" ({ends[0]} to {ends[1]})"
    if failed := sum(cell.failed):
        text += f"; {failed} failed"
    for own in known.beaten[row.task, row.difficulty]:
        if own.optimizer == cell.optimizer:
            text += f"; won more often by {listed(own.names)} (p ≤ {probability(own.p)})"
    return text
