"""Statistics of cells: shares won, steps and settings until a win, the hardest difficulty won.

All are functions of cells alone. A miss is never imputed: what was not won is infinite, and an
interval that resamples of misses reach ends in infinity.

Bands are percentile intervals of a bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap,
section 13.3) whose ends are values that occur. Where all seeds are copies of one run they count as
one, and there is no band.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis import profiles, stats
from harness.analysis.cells import Cell

RESAMPLES = 2000
"""Resamples of a bootstrap."""

HALF = 0.5
"""The share of seeds that wins a cell, at least."""

_SEED = 20_261_130

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95% interval; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Share:
    """The share of seeds that won a cell.

    Attributes:
        wins: How many won.
        n: Of how many; 1 where all are copies of one run.
        low: Lower end of the share's 95% interval (Wilson).
        high: Upper end.
    """

    wins: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share; NaN of no seeds."""
        return self.wins / self.n if self.n else math.nan


@functools.lru_cache(maxsize=64)
def resampled(n: int, of: str = "seeds") -> Array:
    """How often each of ``n`` things is in each resample, ``(resamples, n)``; always the same.

    Cells with as many seeds share the draws: they are paired, as their trials are.

    Args:
        n: Number of things.
        of: What they are; other things have other draws.
    """
    generator = np.random.default_rng((_SEED, n, *of.encode()))
    counts = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    counts.setflags(write=False)
    return counts


def band(values: Array) -> tuple[float, float]:
    """The ends of the middle 95% of some resamples, values that occur."""
    tail = (1 - stats.CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def share(cell: Cell) -> Share:
    """The share of a cell's seeds that won."""
    n = min(1, len(cell.seeds)) if cell.copies else len(cell.seeds)
    return _share(int(cell.won[:n].sum()), n)


@functools.lru_cache(maxsize=4096)
def _share(wins: int, n: int) -> Share:
    return Share(wins, n, *stats.proportion_interval(wins, n))


def is_won(cell: Cell) -> bool:
    """Test that at least half of a cell's seeds won."""
    return bool(len(cell.seeds) and cell.won.mean() >= HALF)


def steps_to_win(cell: Cell) -> Estimate:
    """Expected running time in steps until a win, with its band over seeds.

    The steps of all trials over the number of those that won (ERT; see
    :func:`~harness.analysis.profiles.expected_running_time`): a trial that misses costs what it
    used, and is started anew. Infinite where none won.
    """
    hit = cell.won
    costs = np.where(hit, cell.steps, cell.used)
    value = float(profiles.expected_running_time(costs, hit))
    if cell.copies or len(cell.seeds) < 2:
        return Estimate(value)
    counts = resampled(len(cell.seeds))
    total, wins = counts @ costs, counts @ hit
    found = np.full(len(counts), np.inf)
    np.divide(total, wins, out=found, where=wins > 0)
    return Estimate(value, *band(found))


def settings_until_win(settings: int, winners: int) -> float:
    """Expected number of settings drawn until one wins, over all orders of the draw.

    Of ``N`` settings in random order, drawn without replacement, ``K`` of which win, the first
    winner comes at ``(N + 1) / (K + 1)`` on average: the ``K`` winners part the ``N - K`` others
    into ``K + 1`` runs of equal expected length ``(N - K) / (K + 1)``, and the first winner
    follows the first run (mean of a negative hypergeometric distribution). Infinite where none
    wins: then it is more than ``N``, and by how much is not known.

    Args:
        settings: How many were drawn, ``N``.
        winners: How many of them won, ``K``.

    Raises:
        ValueError: Unless ``K`` is from 0 to ``N``.
    """
    if not 0 <= winners <= settings:
        raise ValueError(f"{winners} winners of {settings} settings")
    return (settings + 1) / (winners + 1) if winners else math.inf


def winners(cell: Cell) -> tuple[int, ...]:
    """By tuning seed, how many settings won."""
    seeds = len(cell.draws[0][0]) if cell.draws else 0
    return tuple(sum(n for won, n in cell.draws if won[i] == "1") for i in range(seeds))


def settings_to_win(cell: Cell) -> Estimate:
    """:func:`settings_until_win`, the mean over tuning seeds, with its band over settings.

    Infinite where with some tuning seed no setting wins; NaN where nothing was tuned. For the
    band, settings are drawn again with replacement, with what each did with every seed.
    """
    return _settings_to_win(cell.draws) if cell.settings else Estimate(math.nan)


@functools.lru_cache(maxsize=4096)
def _settings_to_win(draws: tuple[tuple[str, int], ...]) -> Estimate:
    settings = sum(count for _, count in draws)
    patterns = np.array([[bit == "1" for bit in own] for own, _ in draws], dtype=np.float64)
    counts = np.array([count for _, count in draws])
    value = float(np.mean([settings_until_win(settings, int(won)) for won in counts @ patterns]))
    shares = counts / settings
    generator = np.random.default_rng((_SEED, settings))
    won = generator.multinomial(settings, shares, size=RESAMPLES) @ patterns
    expected = np.where(won > 0, (settings + 1) / (won + 1), np.inf).mean(axis=1)
    return Estimate(value, *band(expected))


@dataclass(frozen=True)
class Hardest:
    """The hardest difficulty of a task that an optimizer wins; -1 where it wins none.

    Attributes:
        value: Its place among the difficulties that ran, 0 the easiest.
        low: Lower end of its 95% interval; equal to the upper where all seeds are copies.
        high: Upper end.
    """

    value: int
    low: int
    high: int


def hardest(cells: Sequence[Cell]) -> Hardest:
    """The hardest difficulty that is won, with its band over seeds.

    A difficulty is won where at least half of the seeds win. Easier ones may have been lost.

    Args:
        cells: Of one task and optimizer, at any difficulties.
    """
    value = max((cell.difficulty for cell in cells if is_won(cell)), default=-1)
    if not cells:
        return Hardest(value, value, value)
    found = np.full(RESAMPLES, -1.0)
    for cell in sorted(cells, key=lambda own: own.difficulty):
        found[won_again(cell)] = cell.difficulty
    low, high = band(found)
    return Hardest(value, int(low), int(high))


def won_again(cell: Cell) -> NDArray[np.bool_]:
    """For each resample of the seeds, whether at least half of them win."""
    if not cell.seeds:
        return np.zeros(RESAMPLES, dtype=np.bool_)
    # A count in halves is exact.
    return np.asarray(2 * (resampled(len(cell.seeds)) @ cell.won) >= len(cell.seeds))
