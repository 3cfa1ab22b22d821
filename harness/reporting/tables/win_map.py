"""Tables of a map of tasks by optimizers: shares won, counts, hardest difficulties, every cell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from harness.analysis import win_counts, wins
from harness.analysis.cells import Cell
from harness.analysis.comparison import ALPHA
from harness.analysis.win_counts import Count, FamilyCounts, Row, Task, WinMap
from harness.formatting import DASH, listed, or_dash, probability, share, significant
from harness.reporting.tables.model import Column, Table, table_of

MATRIX, SUMMARY, HARDEST, CELLS = "map", "map_summary", "map_hardest", "map_cells"
"""Names of the tables."""

NAMES = (MATRIX, SUMMARY, HARDEST, CELLS)

NO_FAMILY = "other tasks"
"""The words for tasks that are in no family, beside others."""

WON = "Won: at least half of the seeds reach all targets."


def build(known: Sequence[WinMap]) -> list[Table]:
    """The tables of the map of each device."""
    found = []
    for one in known:
        suffix = suffix_of(one, several=len(known) > 1)
        where = f" ({one.device})" if suffix else ""
        tables = (summary(one), matrix(one), hardest(one), cells(one))
        found += [
            replace(table, name=f"{table.name}{suffix}", title=f"{table.title}{where}")
            for table in tables
            if table is not None
        ]
    return found


def summaries(known: Sequence[WinMap]) -> list[str]:
    """Names of the tables of cells won, map by map."""
    several = len(known) > 1
    return [f"{SUMMARY}{suffix_of(one, several=several)}" for one in known]


def suffix_of(known: WinMap, *, several: bool) -> str:
    """What the names of a map's files end with, where there are several maps."""
    return f"_{re.sub(r'[^A-Za-z0-9_-]+', '_', known.device)}" if several else ""


def family_name(known: WinMap, family: str) -> str:
    """The name of a family, in words where it has none."""
    return family or (NO_FAMILY if len(known.families) > 1 else "all tasks")


def number_of_settings(value: float, settings: int) -> str:
    """``12``, ``1.5``, or ``> 200`` where none of so many settings won."""
    if math.isnan(value):
        return DASH
    return f"> {settings:,}" if math.isinf(value) else significant(value, 2 if value < 10 else 3)


def steps_text(value: float) -> str:
    """A number of steps; in words where there is no win."""
    if math.isnan(value):
        return DASH
    return "not won" if math.isinf(value) else f"{value:,.0f}"


def span(low: float, high: float, text: object = "{:,.0f}".format) -> str:
    """``90 to 120``; a dash where there is no interval."""
    if math.isnan(low) or math.isnan(high):
        return DASH
    ends = [text(end) if math.isfinite(end) else "∞" for end in (low, high)]  # type: ignore[operator]
    return f"{ends[0]} to {ends[1]}"


# Counts


class _Summary(NamedTuple):
    known: WinMap
    cells: Count
    families: Mapping[str, Count]
    settings: wins.Estimate
    drawn: int
    last: tuple[int, int]


def _won_of(count: Count) -> str:
    return f"{count.won} of {count.of}"


def summary(known: WinMap) -> Table | None:
    """Cells won by every optimizer: of all, by family; hardest difficulties; settings until a win.

    The one that wins the most comes first.
    """
    rows = []
    by_family = {own.family: {c.optimizer: c for c in own.counts} for own in known.by_family}
    for count in known.overall.counts:
        name = count.optimizer
        drawn = [row.cells[name].settings for row in known.rows if name in row.cells]
        rows.append(
            _Summary(
                known,
                count,
                {family: own[name] for family, own in by_family.items()},
                win_counts.median_settings(known, name),
                max(drawn, default=0),
                win_counts.hardest_won(known, name),
            )
        )
    columns: list[Column[_Summary]] = [
        Column("optimizer", "optimizer", lambda r: r.cells.optimizer),
        *_origin(known),
        Column("won", "cells won", lambda r: r.cells.won, text=lambda r: _won_of(r.cells)),
        Column("of", "", lambda r: r.cells.of),
        Column("ci_low", "", lambda r: r.cells.low),
        Column("ci_high", "", lambda r: r.cells.high),
        Column("", "95% interval", text=lambda r: span(r.cells.low, r.cells.high)),
        *(column for family in by_family for column in _of_family(known, family)),
        Column(
            "hardest_won",
            "hardest won",
            lambda r: r.last[0],
            text=lambda r: f"{r.last[0]} of {r.last[1]}" if r.last[1] else DASH,
        ),
        Column("hardest_of", "", lambda r: r.last[1]),
        Column(
            "settings_until_win",
            "settings until a win",
            lambda r: r.settings.value,
            text=lambda r: number_of_settings(r.settings.value, r.drawn),
        ),
        Column("settings_low", "", lambda r: r.settings.low),
        Column("settings_high", "", lambda r: r.settings.high),
        Column("settings_drawn", "", lambda r: r.drawn or math.nan),
    ]
    note = (
        f"A cell is a task at one difficulty. {WON} Counts are over the cells that all optimizers "
        "ran on; 95% intervals are for other seeds and other tasks (bootstrap over both). Hardest "
        "won: of how many tasks of several difficulties the last one is won. Settings until a win: "
        "the expected number of settings drawn until one wins, (N + 1) / (K + 1) if K of N drawn "
        "win, in the median cell; more than N where in half of the cells none wins."
    )
    if by_family:
        note += (
            f" *: significantly fewer than the others win of that family (permutation test over "
            f"tasks, Holm's correction for all optimizers and families, {share(ALPHA)})."
        )
    return table_of(SUMMARY, "Cells won", columns, rows, note)


def _origin(known: WinMap) -> list[Column[_Summary]]:
    if not known.cells.origins:
        return []
    one = len(set(known.cells.origins.values())) == 1

    def word(row: _Summary) -> str:
        """The origin; of the only other one its kind, as the rest stands beneath the table."""
        found = known.cells.origin_of(row.cells.optimizer)
        return found.partition(":")[0] if one else found

    origin = Column[_Summary](
        "origin", "origin", lambda r: known.cells.origin_of(r.cells.optimizer), text=word
    )
    return [origin]


def _of_family(known: WinMap, family: str) -> list[Column[_Summary]]:
    name = family_name(known, family)

    def text(row: _Summary) -> str:
        count = row.families[family]
        return _won_of(count) + "*" * count.is_fewer

    return [
        Column(f"{name}_won", name, lambda r: r.families[family].won, text=text),
        Column(f"{name}_of", "", lambda r: r.families[family].of),
        Column(f"{name}_low", "", lambda r: r.families[family].low),
        Column(f"{name}_high", "", lambda r: r.families[family].high),
        Column(f"{name}_p_holm", "", lambda r: r.families[family].adjusted),
    ]


# The matrix


def _row_columns(known: WinMap) -> list[Column[Row]]:
    columns: list[Column[Row]] = []
    if any(known.families):
        columns.append(Column("family", "family", lambda row: family_name(known, row.family)))
    columns.append(Column("task", "task", lambda row: row.task))
    columns.append(Column("level", "", lambda row: row.difficulty + 1))
    columns.append(Column("difficulty", "difficulty", lambda row: row.label, or_dash))
    return columns


def _share_of(optimizer: str) -> Column[Row]:
    def value(row: Row) -> float:
        cell = row.cells.get(optimizer)
        return math.nan if cell is None else wins.share(cell).value

    return Column(optimizer, optimizer, value, share)


def matrix(known: WinMap) -> Table | None:
    """The share of seeds that won, of every task at every difficulty by optimizer."""
    columns = [*_row_columns(known), *map(_share_of, known.optimizers)]
    note = (
        "Share of seeds that reach all targets of a task within its steps; a dash where an "
        "optimizer did not run. Where all seeds are copies of one run they count as one. The table "
        f"of cells ({CELLS}.csv) has the 95% intervals."
    )
    return table_of(MATRIX, "Share of seeds won", columns, known.rows, note)


class _Hardest(NamedTuple):
    known: WinMap
    task: Task


def hardest(known: WinMap) -> Table | None:
    """The hardest difficulty of every task that each optimizer wins."""
    tasks = [_Hardest(known, task) for task in known.tasks if len(task.rows) > 1]
    columns: list[Column[_Hardest]] = []
    if any(known.families):
        columns.append(Column("family", "family", lambda r: family_name(known, r.task.family)))
    columns += [
        Column("task", "task", lambda r: r.task.name),
        Column("difficulties", "difficulties", lambda r: len(r.task.rows)),
    ]
    for name in known.optimizers:
        columns += _hardest_of(name)
    note = (
        "The hardest difficulty that is won, 1 the easiest, 0 where none is; in brackets its 95% "
        "interval for other seeds, where it has a width (bootstrap). A difficulty is won where at "
        "least half of the seeds reach all targets; easier ones may be lost. A dash where an "
        "optimizer did not run."
    )
    return table_of(HARDEST, "Hardest difficulty won", columns, tasks, note)


def _hardest_of(optimizer: str) -> list[Column[_Hardest]]:
    def found(row: _Hardest) -> wins.Hardest | None:
        own = row.task.of(optimizer)
        return wins.hardest(own) if own else None

    def text(row: _Hardest) -> str:
        own = found(row)
        return DASH if own is None else hardest_text(own)

    def end(row: _Hardest, name: str) -> float:
        own = found(row)
        return math.nan if own is None else getattr(own, name) + 1

    return [
        Column(optimizer, optimizer, lambda r: end(r, "value"), text=text),
        Column(f"{optimizer}_low", "", lambda r: end(r, "low")),
        Column(f"{optimizer}_high", "", lambda r: end(r, "high")),
    ]


def hardest_text(own: wins.Hardest) -> str:
    """``3``, ``3 (2 to 4)``."""
    text = f"{own.value + 1}"
    return text if own.low == own.high else f"{text} ({own.low + 1} to {own.high + 1})"


# Every cell


class _Cell(NamedTuple):
    known: WinMap
    row: Row
    cell: Cell
    share: wins.Share
    steps: wins.Estimate
    settings: wins.Estimate
    behind: tuple[str, ...]


def cells(known: WinMap) -> Table | None:
    """Every cell with all of its numbers."""
    rows = []
    for row in known.rows:
        beaten = known.beaten[row.task, row.difficulty]
        behind = {own.optimizer: own.names for own in beaten}
        for name, cell in row.cells.items():
            numbers = wins.share(cell), wins.steps_to_win(cell), wins.settings_to_win(cell)
            rows.append(_Cell(known, row, cell, *numbers, behind.get(name, ())))
    columns: list[Column[_Cell]] = [
        Column("family", "family", lambda r: family_name(known, r.row.family)),
        Column("task", "task", lambda r: r.row.task),
        Column("level", "level", lambda r: r.row.difficulty + 1),
        Column("difficulty", "difficulty", lambda r: r.row.label, or_dash),
        Column("optimizer", "optimizer", lambda r: r.cell.optimizer),
        Column("device", "device", lambda r: r.cell.device),
        Column("won", "won", lambda r: r.share.wins, text=lambda r: won_text(r.share)),
        Column("n", "n", lambda r: r.share.n),
        Column("share", "share won", lambda r: r.share.value, share),
        Column("ci_low", "", lambda r: r.share.low),
        Column("ci_high", "", lambda r: r.share.high),
        Column("", "95% interval", text=lambda r: span(r.share.low, r.share.high, share)),
        Column("failed", "failed", lambda r: sum(r.cell.failed)),
        Column("steps_to_win", "steps until a win", lambda r: r.steps.value, steps_text),
        Column("steps_low", "", lambda r: r.steps.low),
        Column("steps_high", "", lambda r: r.steps.high),
        Column("budget", "of steps", lambda r: r.cell.budget, "{:,}".format),
        Column(
            "settings_until_win",
            "settings until a win",
            lambda r: r.settings.value,
            text=lambda r: settings_text(r.cell, r.settings),
        ),
        Column("settings_low", "", lambda r: r.settings.low),
        Column("settings_high", "", lambda r: r.settings.high),
        Column("settings_drawn", "", lambda r: r.cell.settings or math.nan),
        Column(
            "won_more_often_by",
            "won more often by",
            lambda r: ", ".join(r.behind),
            or_dash,
        ),
        Column("origin", "", lambda r: known.cells.origin_of(r.cell.optimizer)),
    ]
    note = (
        f"{WON} Share won: of the n seeds (1 where all are copies of one run), with Wilson's "
        "interval. "
        "Steps until a win: the steps of all trials over the number of those that won; infinite "
        "where none did. Settings until a win: (N + 1) / (K + 1) if K of N settings drawn win, the "
        "mean over tuning seeds; infinite where with some seed none does. Their intervals are of a "
        "bootstrap over seeds, and over settings. Won more often by: those whose share is "
        "significantly larger (Fisher's exact test, Holm's correction for all pairs of "
        f"{'the map' if known.of_page else 'a cell'}, {share(ALPHA)})."
    )
    return table_of(CELLS, "Every cell of the map", columns, rows, note)


def won_text(won: wins.Share) -> str:
    """``8 of 10``."""
    return f"{won.wins} of {won.n}"


def settings_text(cell: Cell, found: wins.Estimate) -> str:
    """The expected number of settings; by tuning seed where with some of them none wins."""
    drawn, own = cell.settings, wins.winners(cell)
    if math.isinf(found.value) and any(own):
        values = (wins.settings_until_win(drawn, won) for won in own)
        return listed([number_of_settings(value, drawn) for value in values])
    return number_of_settings(found.value, drawn)


def significant_text(p: float) -> str:
    """``p = 0.012``."""
    return f"p = {probability(p)}"


def families_of(known: WinMap) -> Sequence[FamilyCounts]:
    """The families with their counts; the whole map where there is but one."""
    return known.by_family or (known.overall,)
