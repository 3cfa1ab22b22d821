"""Counts of cells won by optimizers, over a whole map and by family, with bands and tests.

A cell is won where at least half of its seeds win. Optimizers are compared on the cells that all of
them ran on. Cells of one task are not independent of each other: tasks are what is resampled, and
what is exchanged in tests.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from harness.analysis import rank_tests, wins
from harness.analysis.cells import Cell, Cells, in_order
from harness.analysis.comparison import ALPHA

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A task at one difficulty, and the cells of the optimizers that ran on it."""

    family: str
    task: str
    difficulty: int
    label: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Task:
    """A task with its difficulties, the easiest first."""

    family: str
    name: str
    rows: tuple[Row, ...]

    def of(self, optimizer: str) -> tuple[Cell, ...]:
        """The cells of an optimizer."""
        return tuple(row.cells[optimizer] for row in self.rows if optimizer in row.cells)


@dataclass(frozen=True)
class Count:
    """Cells of some tasks that an optimizer won.

    Attributes:
        optimizer: The optimizer.
        won: How many it won.
        of: Of how many that all optimizers ran on.
        low: Lower end of the 95% interval, in cells, for other seeds and other tasks.
        high: Upper end.
        p: Probability of so few or fewer if the optimizer were no different from the others; NaN
            where nothing was tested.
        adjusted: The same corrected by Holm's method for all optimizers and families.
        others: Mean number that the others won.
        is_fewer: Whether it wins significantly fewer than the others.
    """

    optimizer: str
    won: int
    of: int
    low: float
    high: float
    p: float = math.nan
    adjusted: float = math.nan
    others: float = math.nan
    is_fewer: bool = False


@dataclass(frozen=True)
class FamilyCounts:
    """The counts of all optimizers on the tasks of a family; of no name: of the whole map."""

    family: str
    tasks: int
    counts: tuple[Count, ...]

    @property
    def most(self) -> Count:
        """The count of the optimizer that won the most; of several, the first by name."""
        return min(self.counts, key=lambda own: (-own.won, own.optimizer))


@dataclass(frozen=True)
class Behind:
    """An optimizer beside the one that wins the most cells, on the same tasks.

    Attributes:
        optimizer: The optimizer.
        p: Of Wilcoxon's signed-rank test over tasks, of the shares of their cells that both won.
        adjusted: The same corrected by Holm's method for all pairs of optimizers.
    """

    optimizer: str
    p: float
    adjusted: float

    @property
    def is_significant(self) -> bool:
        """True where it wins significantly fewer."""
        return self.adjusted <= ALPHA


@dataclass(frozen=True)
class Winners:
    """Optimizers that won a cell significantly more often than another.

    Attributes:
        optimizer: The other.
        names: Who won it more often.
        p: The largest adjusted p-value among them.
    """

    optimizer: str
    names: tuple[str, ...]
    p: float


@dataclass(frozen=True, eq=False)
class WinMap:
    """The map of one device: tasks by optimizers.

    Attributes:
        device: Where it ran.
        optimizers: The one that wins the most cells first.
        tasks: In the order of the spec, family by family.
        cells: What it is made of.
        of_page: Whether the tests of cells share their level over the whole map.
    """

    device: str
    optimizers: tuple[str, ...]
    tasks: tuple[Task, ...]
    cells: Cells
    of_page: bool = False
    defaults: tuple[Cell, ...] = field(default=())

    @property
    def families(self) -> tuple[str, ...]:
        """Their names; an empty one for tasks that are in none."""
        return tuple(dict.fromkeys(task.family for task in self.tasks))

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every task at every difficulty."""
        return tuple(row for task in self.tasks for row in task.rows)

    def of_family(self, family: str) -> tuple[Task, ...]:
        """The tasks of a family."""
        return tuple(task for task in self.tasks if task.family == family)

    @functools.cached_property
    def overall(self) -> FamilyCounts:
        """Cells won of the whole map."""
        return self._counts("", self.tasks)

    @functools.cached_property
    def by_family(self) -> tuple[FamilyCounts, ...]:
        """Cells won by family, tested together."""
        if len(self.families) < 2:
            return ()
        found = [self._counts(name, self.of_family(name)) for name in self.families]
        return _tested(found, [self.of_family(name) for name in self.families], self)

    @functools.cached_property
    def behind(self) -> tuple[Behind, ...]:
        """Every optimizer but the one that wins the most, beside that."""
        if len(self.optimizers) < 2:
            return ()
        shares = np.array([_shares(task, self.optimizers) for task in self.tasks])
        shares = shares[~np.isnan(shares).any(axis=1)]
        pairs = list(itertools.combinations(range(len(self.optimizers)), 2))
        p = [rank_tests.signed_rank(shares[:, a] - shares[:, b]).p for a, b in pairs]
        adjusted = rank_tests.holm(p)
        best = self.optimizers.index(self.overall.most.optimizer)
        return tuple(
            Behind(self.optimizers[a if b == best else b], own, float(corrected))
            for (a, b), own, corrected in zip(pairs, p, adjusted, strict=True)
            if best in (a, b)
        )

    @functools.cached_property
    def beaten(self) -> Mapping[tuple[str, int], tuple[Winners, ...]]:
        """By task and difficulty, the optimizers that others won it significantly more often than.

        Fisher's exact test of the two shares, two-sided, corrected by Holm's method for all pairs
        of a cell's optimizers or, where the spec asks for it, of the whole map. It takes the
        trials of two optimizers as independent; at one seed they have the same start, which makes
        their wins alike if anything, and the test careful. What all seeds are copies of one run of
        is not tested.
        """
        tests = {(row.task, row.difficulty): _fisher_pairs(row) for row in self.rows}
        family = sum(map(len, tests.values())) if self.of_page else 0
        if family:
            p = rank_tests.holm([p for own in tests.values() for p in own.values()])
            values = iter(p)
            adjusted = {
                at: {pair: float(next(values)) for pair in own} for at, own in tests.items()
            }
        else:
            adjusted = {
                at: dict(zip(own, map(float, rank_tests.holm(list(own.values()))), strict=True))
                for at, own in tests.items()
            }
        return {at: _winners(own) for at, own in adjusted.items()}

    def _counts(self, family: str, tasks: Sequence[Task]) -> FamilyCounts:
        """Count with bands over tasks and seeds, the same for all optimizers.

        Both are resampled independently (Owen, Annals of Applied Statistics 1, 2007).
        """
        # In an order that the spec does not decide, as draws are made task by task.
        tasks = sorted(tasks, key=lambda task: task.name)
        common = [_common(task, self.optimizers) for task in tasks]
        sizes = np.array([len(rows) for rows in common], dtype=np.float64)
        total = int(sizes.sum())
        drawn = wins.resampled(max(1, len(tasks)), "tasks")
        cells_drawn = drawn @ sizes if len(tasks) else np.zeros(wins.RESAMPLES)
        counts = []
        for name in self.optimizers:
            own = [[row.cells[name] for row in rows] for rows in common]
            won = sum(wins.is_won(cell) for cells in own for cell in cells)
            again = np.zeros(wins.RESAMPLES)
            for i, cells in enumerate(own):
                for cell in cells:
                    again += drawn[:, i] * wins.won_again(cell)
            shares = np.divide(
                again, cells_drawn, out=np.full(wins.RESAMPLES, np.nan), where=cells_drawn > 0
            )
            known = shares[np.isfinite(shares)]
            ends = wins.band(known * total) if len(known) and len(tasks) > 1 else (math.nan,) * 2
            counts.append(Count(name, won, total, *ends))
        return FamilyCounts(family, len(tasks), tuple(counts))


def maps(cells: Cells, *, of_page: bool = False) -> tuple[WinMap, ...]:
    """The map of each device.

    Args:
        cells: Of any devices. Of an optimizer that is tuned, the cells at its defaults stay out of
            rows, counts and tests.
        of_page: Whether the tests of cells share their level over the whole map.
    """
    return tuple(
        _map(replace(cells, cells=tuple(c for c in cells.cells if c.device == device)), of_page)
        for device in dict.fromkeys(cell.device for cell in cells.cells)
    )


def _map(cells: Cells, of_page: bool) -> WinMap:
    defaults = tuple(cell for cell in cells.cells if cell.role == "defaults")
    known = [cell for cell in cells.cells if cell.role != "defaults"] or list(defaults)
    rows: dict[tuple[str, int], Row] = {}
    for cell in in_order(known):
        at = (cell.task, cell.difficulty)
        row = rows.setdefault(at, Row(cell.family, *at, cell.label, {}))
        rows[at] = replace(row, cells={**row.cells, cell.optimizer: cell})
    tasks = tuple(
        Task(own[0].family, name, tuple(sorted(own, key=lambda row: row.difficulty)))
        for name, group in itertools.groupby(rows.values(), key=lambda row: row.task)
        if (own := list(group))
    )
    optimizers = tuple(dict.fromkeys(cell.optimizer for cell in known))
    found = WinMap(known[0].device, optimizers, tasks, cells, of_page, defaults)
    order = sorted(found.overall.counts, key=lambda own: (-own.won, own.optimizer))
    return replace(found, optimizers=tuple(own.optimizer for own in order))


def _common(task: Task, optimizers: Sequence[str]) -> list[Row]:
    """The rows that all optimizers ran on."""
    return [row for row in task.rows if all(name in row.cells for name in optimizers)]


def _won(task: Task, optimizers: Sequence[str]) -> Array:
    """How many of the rows that all ran on each optimizer won."""
    rows = _common(task, optimizers)
    return np.array(
        [sum(wins.is_won(row.cells[name]) for row in rows) for name in optimizers], dtype=np.float64
    )


def _shares(task: Task, optimizers: Sequence[str]) -> Array:
    """The same as shares; NaN where there is no such row."""
    rows = _common(task, optimizers)
    return _won(task, optimizers) / len(rows) if rows else np.full(len(optimizers), np.nan)


# Tests


def fewer_than_others(table: Array) -> Array:
    """Probabilities of so few wins if an optimizer were no different from the others.

    Were an optimizer like the others, then on each task its count would be any one of all
    optimizers' counts with equal chance, task by task independently: its place among them is
    uniform, given the counts (a permutation test within blocks, one-sided; Good, Permutation,
    Parametric and Bootstrap Tests of Hypotheses, chapter 6). The sum over tasks then has a
    distribution that is known without drawing any: the convolution of these. It is exact, and
    asks nothing of how the others differ.

    Args:
        table: ``(tasks, optimizers)``: how many cells of each task were won; whole numbers.

    Returns:
        One per optimizer.
    """
    counts = np.rint(table).astype(np.int64)
    shares = np.ones(1)
    for row in counts:
        own = np.bincount(row) / len(row)
        shares = np.convolve(shares, own)
    below = np.minimum(1.0, shares.cumsum())
    return np.asarray(below[counts.sum(axis=0)], dtype=np.float64)


def _tested(
    found: Sequence[FamilyCounts], tasks: Sequence[Sequence[Task]], known: WinMap
) -> tuple[FamilyCounts, ...]:
    """The same counts with tests, corrected for all optimizers and families together."""
    if len(known.optimizers) < 2:
        return tuple(found)
    tables = [np.array([_won(task, known.optimizers) for task in own]) for own in tasks]
    p = np.array([fewer_than_others(table) for table in tables])
    adjusted = rank_tests.holm(p).reshape(p.shape)
    tested = []
    for i, (family, table) in enumerate(zip(found, tables, strict=True)):
        others = (table.sum() - table.sum(axis=0)) / (len(known.optimizers) - 1)
        tested.append(
            replace(
                family,
                counts=tuple(
                    replace(
                        count,
                        p=float(p[i, j]),
                        adjusted=float(adjusted[i, j]),
                        others=float(others[j]),
                        is_fewer=bool(adjusted[i, j] <= ALPHA and count.won < others[j]),
                    )
                    for j, count in enumerate(family.counts)
                ),
            )
        )
    return tuple(tested)


@functools.lru_cache(maxsize=4096)
def fisher(wins_one: int, one: int, wins_other: int, other: int) -> float:
    """P-value of Fisher's exact test of two shares, two-sided."""
    from scipy.stats import fisher_exact

    table = np.array([[wins_one, one - wins_one], [wins_other, other - wins_other]])
    return float(fisher_exact(table).pvalue)


def _fisher_pairs(row: Row) -> dict[tuple[str, str], float]:
    """By a pair of optimizers, the one with the larger share first, the p-value."""
    shares = {name: wins.share(cell) for name, cell in row.cells.items() if not cell.copies}
    found = {}
    for one, other in itertools.combinations(shares, 2):
        a, b = shares[one], shares[other]
        if a.n and b.n:
            pair = (one, other) if a.value >= b.value else (other, one)
            found[pair] = fisher(a.wins, a.n, b.wins, b.n)
    return found


def _winners(adjusted: Mapping[tuple[str, str], float]) -> tuple[Winners, ...]:
    found: dict[str, list[tuple[str, float]]] = {}
    for (more, fewer), p in adjusted.items():
        if p <= ALPHA:
            found.setdefault(fewer, []).append((more, p))
    return tuple(
        Winners(name, tuple(more for more, _ in own), max(p for _, p in own))
        for name, own in found.items()
    )


# Summaries of an optimizer over the whole map


def median_settings(known: WinMap, optimizer: str) -> wins.Estimate:
    """Median over cells of the expected settings until a win, with its band over tasks.

    Over the rows that all ran on; a cell in which no setting won is infinite, and so the median is
    where these are half or more. NaN where nothing was tuned.
    """
    values, of = [], []
    tasks = sorted(known.tasks, key=lambda task: task.name)
    for i, task in enumerate(tasks):
        for row in _common(task, known.optimizers):
            values.append(wins.settings_to_win(row.cells[optimizer]).value)
            of.append(i)
    found = np.array(values)
    if not len(found) or np.isnan(found).any():
        return wins.Estimate(math.nan)
    order = np.argsort(found, kind="stable")
    found, at = found[order], np.array(of)[order]
    middle = float(found[(len(found) - 1) // 2])
    if len(tasks) < 2:
        return wins.Estimate(middle)
    weights = wins.resampled(len(tasks), "tasks")[:, at].cumsum(axis=1)
    places = (weights >= np.maximum(0.5, weights[:, -1:] / 2)).argmax(axis=1)
    return wins.Estimate(middle, *wins.band(found[places]))


def hardest_won(known: WinMap, optimizer: str) -> tuple[int, int]:
    """Of how many tasks of several difficulties the hardest one is won, and how many there are.

    Tasks of which it did not run at the hardest difficulty do not count.
    """
    last = [
        task.rows[-1].cells[optimizer]
        for task in known.tasks
        if len(task.rows) > 1 and optimizer in task.rows[-1].cells
    ]
    return sum(map(wins.is_won, last)), len(last)
