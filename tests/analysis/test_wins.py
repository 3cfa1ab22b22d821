"""Statistics of cells against enumeration, plain loops and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from map_builders import make_cell
from scipy.stats import binom, fisher_exact

from harness.analysis import rank_tests, stats, win_counts, wins
from harness.analysis.cells import Cell, Cells


@pytest.mark.parametrize("settings", [1, 2, 5, 6])
def test_settings_until_a_win_is_the_mean_over_all_orders(settings: int) -> None:
    for winners in range(1, settings + 1):
        won = [True] * winners + [False] * (settings - winners)
        places = [order.index(True) + 1 for order in itertools.permutations(won)]
        expected = np.mean(places)
        assert wins.settings_until_win(settings, winners) == pytest.approx(expected)


def test_without_a_winner_the_number_of_settings_is_not_known() -> None:
    assert wins.settings_until_win(200, 0) == math.inf
    with pytest.raises(ValueError, match="3 winners of 2"):
        wins.settings_until_win(2, 3)


def test_settings_are_the_mean_over_tuning_seeds() -> None:
    cell = make_cell(draws=(("00", 5), ("01", 2), ("10", 1), ("11", 1)))
    assert wins.winners(cell) == (2, 3)
    found = wins.settings_to_win(cell)
    assert found.value == pytest.approx((10 / 3 + 10 / 4) / 2)
    assert found.low < found.value < found.high
    never = wins.settings_to_win(make_cell(draws=(("00", 7), ("01", 3))))
    assert never.value == math.inf
    assert math.isnan(wins.settings_to_win(make_cell()).value)


def test_the_band_of_settings_covers_and_reaches_infinity_where_one_alone_won() -> None:
    single = wins.settings_to_win(make_cell(draws=(("0", 199), ("1", 1))))
    assert single.value == 100.5
    assert single.high == math.inf
    # Of a share of 10% that win: how often is (N + 1) / (Np + 1) within the band?
    generator, covered, rounds = np.random.default_rng(3), 0, 300
    truth = 101 / 11
    for _ in range(rounds):
        won = int(generator.binomial(100, 0.1))
        found = wins.settings_to_win(make_cell(draws=(("0", 100 - won), ("1", won))))
        covered += found.low <= truth <= found.high
    assert covered / rounds > 0.9


def test_steps_until_a_win_are_all_steps_over_all_wins() -> None:
    cell = make_cell(won=[1, 0, 1], steps=(20.0, math.inf, 40.0), used=(20, 100, 90))
    found = wins.steps_to_win(cell)
    assert found.value == (20 + 100 + 40) / 2
    assert found.high == math.inf  # a resample of misses alone is among the 5%
    # By a loop over all equally likely resamples.
    every = []
    for drawn in itertools.product(range(3), repeat=3):
        costs, hits = [20, 100, 40], [1, 0, 1]
        won = sum(hits[i] for i in drawn)
        every.append(sum(costs[i] for i in drawn) / won if won else math.inf)
    assert found.low == np.quantile(every, 0.025, method="inverted_cdf")
    lost = wins.steps_to_win(make_cell(won=[0, 0]))
    assert (lost.value, lost.low, lost.high) == (math.inf,) * 3


def test_copies_of_one_run_count_once() -> None:
    cell = make_cell(won=[1] * 10, copies=True)
    assert (wins.share(cell).wins, wins.share(cell).n) == (1, 1)
    assert math.isnan(wins.steps_to_win(cell).low)
    other = make_cell(won=[0] * 10, copies=True, optimizer="b")
    (known,) = win_counts.maps(Cells((cell, other)))
    assert known.beaten["task", 0] == ()


def test_a_share_has_wilsons_interval() -> None:
    found = wins.share(make_cell(won=[1, 1, 0, 1]))
    assert found.value == 0.75
    assert (found.low, found.high) == stats.proportion_interval(3, 4)


def test_the_hardest_difficulty_is_the_last_that_half_of_the_seeds_win() -> None:
    cells = [
        make_cell(difficulty=d, won=[True] * n + [False] * (4 - n))
        for d, n in enumerate([4, 1, 2, 1])
    ]
    found = wins.hardest(cells)
    assert found.value == 2
    assert found.low <= 2 <= found.high <= 3
    assert wins.hardest([make_cell(won=[0, 0, 1])]).value == -1
    even = wins.hardest([make_cell(difficulty=d, won=[1] * 6) for d in range(3)])
    assert (even.low, even.high) == (2, 2)


def test_half_of_the_seeds_wins_again_as_often_as_the_binomial_says() -> None:
    cell = make_cell(won=[1, 1, 1, 0, 0, 0, 0])
    expected = binom.sf(3, 7, 3 / 7)  # 4 or more of 7
    assert wins.won_again(cell).mean() == pytest.approx(expected, abs=0.04)


def _cells(table: np.ndarray, seeds: int = 2) -> list[Cell]:
    """Cells of (tasks, difficulties, optimizers) by whether they are won."""
    return [
        make_cell(f"t{t}", d, f"o{o}", [bool(table[t, d, o])] * seeds, family=f"f{t % 2}")
        for t, d, o in np.ndindex(table.shape)
    ]


def test_counts_are_those_of_a_plain_loop() -> None:
    table = np.random.default_rng(1).random((6, 3, 4)) < 0.5
    (known,) = win_counts.maps(Cells(tuple(_cells(table))))
    overall = {own.optimizer: own for own in known.overall.counts}
    for o in range(4):
        own = overall[f"o{o}"]
        assert (own.won, own.of) == (table[:, :, o].sum(), 18)
        assert own.low <= own.won <= own.high
    for family in known.by_family:
        rows = table[int(family.family[1]) :: 2]
        assert family.tasks == 3
        for own in family.counts:
            assert (own.won, own.of) == (rows[:, :, int(own.optimizer[1])].sum(), 9)


def test_a_cell_that_not_all_ran_on_is_in_no_count() -> None:
    cells = _cells(np.ones((2, 2, 2), dtype=bool))
    (known,) = win_counts.maps(Cells(tuple(cells[:-1])))
    assert {own.of for own in known.overall.counts} == {3}
    assert len(known.rows) == 4


def test_counts_do_not_depend_on_the_order_of_cells() -> None:
    table = np.random.default_rng(2).random((5, 2, 3)) < 0.5
    cells = _cells(table)
    (one,) = win_counts.maps(Cells(tuple(cells)))
    (other,) = win_counts.maps(Cells(tuple(reversed(cells))))

    def counts(known: win_counts.WinMap) -> dict[str, win_counts.Count]:
        return {f"{f.family} {c.optimizer}": c for f in known.by_family for c in f.counts}

    assert one.optimizers == other.optimizers
    assert one.overall == other.overall
    assert counts(one) == counts(other)
    assert {(b.optimizer, b.adjusted) for b in one.behind} == {
        (b.optimizer, b.adjusted) for b in other.behind
    }


def test_so_few_wins_have_the_probability_of_all_exchanges() -> None:
    table = np.array([[0, 2, 3], [1, 1, 3], [0, 0, 2], [2, 1, 3]])
    found = win_counts.fewer_than_others(table.astype(float))
    for o in range(3):
        sums = [sum(own) for own in itertools.product(*table.tolist())]
        expected = np.mean([total <= table[:, o].sum() for total in sums])
        assert found[o] == pytest.approx(expected)


def test_cells_are_compared_by_fishers_test_and_holm() -> None:
    shares = {"a": 10, "b": 9, "c": 1}
    cells = [
        make_cell(optimizer=name, won=[True] * n + [False] * (10 - n)) for name, n in shares.items()
    ]
    (known,) = win_counts.maps(Cells(tuple(cells)))
    pairs = list(itertools.combinations(shares, 2))
    p = [
        fisher_exact(np.array([[shares[own], 10 - shares[own]] for own in (i, j)])).pvalue
        for i, j in pairs
    ]
    adjusted = rank_tests.holm(p)
    (beaten,) = known.beaten["task", 0]
    assert beaten.optimizer == "c"
    assert beaten.names == ("a", "b")
    assert beaten.p == pytest.approx(max(adjusted[1:]))


def test_an_optimizer_that_loses_a_family_is_found_and_no_other() -> None:
    generator = np.random.default_rng(4)
    table = generator.random((16, 4, 6)) < 0.8
    table[::2, :, 2] = False  # all of family f0
    (known,) = win_counts.maps(Cells(tuple(_cells(table))))
    fewer = [
        (f.family, c.optimizer, c.won) for f in known.by_family for c in f.counts if c.is_fewer
    ]
    assert fewer == [("f0", "o2", 0)]


def _equal_optimizers(
    generator: np.random.Generator, optimizers: int, at_home: float = 1.0
) -> Cells:
    """Optimizers that are equal over tasks, on shared seeds.

    Args:
        generator: Where all that is random comes from.
        optimizers: How many.
        at_home: How much each has tasks that suit it by chance; 0 where they are equal on each.
    """
    tasks, difficulties, seeds = 10, 3, 10
    cells = []
    for t in range(tasks):
        ease = generator.normal(0, 2)
        start = generator.normal(0, 1, seeds)  # what optimizers share at a seed
        own = generator.normal(0, 1, (optimizers, 1)) * at_home
        for d in range(difficulties):
            chance = 1 / (1 + np.exp(d - 1 - ease - start - own))
            won = generator.random((optimizers, seeds)) < chance
            cells += [
                make_cell(f"t{t}", d, f"o{o}", won[o].tolist(), family=f"f{t % 2}")
                for o in range(optimizers)
            ]
    return Cells(tuple(cells))


def test_equal_optimizers_are_called_no_more_often_than_the_level_says() -> None:
    generator, rounds = np.random.default_rng(5), 100
    families = behind = 0
    for _ in range(rounds):
        (known,) = win_counts.maps(_equal_optimizers(generator, 4))
        families += any(c.is_fewer for f in known.by_family for c in f.counts)
        behind += any(own.is_significant for own in known.behind)
    # Two standard errors above 5% of the rounds.
    most = 0.05 * rounds + 2 * math.sqrt(0.05 * 0.95 * rounds)
    assert families <= most
    assert behind <= most


def test_cells_of_equal_optimizers_differ_no_more_often_than_the_level_says() -> None:
    generator, called = np.random.default_rng(7), []
    for _ in range(40):
        (known,) = win_counts.maps(_equal_optimizers(generator, 4, at_home=0.0))
        called += [bool(own) for own in known.beaten.values()]
    assert np.mean(called) <= 0.05


def test_bands_of_counts_cover_the_share_of_other_tasks_and_seeds() -> None:
    generator, rounds, covered = np.random.default_rng(6), 120, 0
    # The share of cells that is won by at least half of ten seeds, over tasks and seeds.
    many = [_won_share(generator) for _ in range(400)]
    truth = float(np.mean(many))
    for _ in range(rounds):
        (known,) = win_counts.maps(_equal_optimizers(generator, 1))
        count = known.overall.counts[0]
        covered += count.low <= truth * count.of <= count.high
    assert covered / rounds > 0.85


def _won_share(generator: np.random.Generator) -> float:
    (known,) = win_counts.maps(_equal_optimizers(generator, 1))
    return known.overall.counts[0].won / known.overall.counts[0].of
