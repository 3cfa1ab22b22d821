"""Tuning done again: against chances worked out by hand, and against tunings really repeated."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from numpy.typing import ArrayLike, NDArray
from results_builders import make_case

from harness.analysis.retuning import RESAMPLES, Retuned, best_so_far, pairs, retune
from harness.analysis.sensitivity import Tuned
from harness.reporting.tables import tuning as tuning_tables
from harness.store.read import Tried


def tuned_of(losses: ArrayLike, name: str = "a", objective: str = "bowl") -> Tuned:
    """What tuning found, from the losses of its trials: ``(settings, seeds)``, NaN for failures."""
    tried = tuple(
        Tried(
            "tuning", objective, name, "cpu", {"lr": float(i)}, "",
            tuple("ok" if math.isfinite(v) else "diverged" for v in row), row,
        )
        for i, row in enumerate(np.asarray(losses, dtype=np.float64))
    )  # fmt: skip
    return Tuned(make_case(objective, name, role="tuned"), {}, tried, {"lr": 0.0}, ())


def retuned(losses: ArrayLike, name: str = "a") -> Retuned:
    (found,) = retune([tuned_of(losses, name)])
    return found


def within_chance(count: int, of: int, probability: float) -> bool:
    low, high = (scipy.stats.binom.ppf(tail, of, probability) for tail in (1e-4, 1 - 1e-4))
    return bool(low <= count <= high)


def test_a_budget_of_one_finds_any_setting_and_of_all_the_best_if_it_is_drawn() -> None:
    settings = 10
    found = retuned(np.repeat(np.arange(settings)[:, None], 4, axis=1))
    assert found.budgets[0] == 1
    assert found.budgets[-1] == settings
    for value in range(settings):
        assert within_chance(int((found.losses[:, 0] == value).sum()), RESAMPLES, 1 / settings)
    missed = (1 - 1 / settings) ** settings
    assert within_chance(int((found.losses[:, -1] == 0).sum()), RESAMPLES, 1 - missed)
    # More settings never find a worse one, where no seed makes a difference.
    assert (np.diff(found.losses, axis=1) <= 0).all()
    assert found.quantile(0.5)[-1] == 0


def test_a_setting_is_judged_by_seeds_that_it_was_not_chosen_by() -> None:
    """All settings are alike: the lowest of many means is low by chance, and not judged by it."""
    losses = np.random.default_rng(1).normal(size=(200, 6))
    found = retuned(losses)
    assert losses.mean(axis=1).min() < -0.8
    error = 1 / math.sqrt(RESAMPLES)
    assert abs(found.losses[:, -1].mean()) < 0.35 + 5 * error
    # With two seeds each chooses for the other: the one that is best by the first is worst by it.
    crossed = retuned([[0.0, 9.0], [5.0, 5.0], [9.0, 0.0]])
    last = crossed.losses[:, -1]
    assert within_chance(int((last == 9).sum()), RESAMPLES, 1 - (2 / 3) ** 3)
    assert within_chance(int((last == 0).sum()), RESAMPLES, (1 / 3) ** 3)


def test_failures_are_chosen_last_and_are_infinite_where_they_judge() -> None:
    nan = math.nan
    found = retuned([[0.0, nan, 0.0], [7.0, 7.0, 7.0], [nan, nan, nan]])
    values = set(np.unique(found.losses[:, -1]))
    assert values <= {0.0, 7.0, math.inf}
    # One that fails at every seed is found only where nothing else was drawn.
    every = int(np.isinf(found.losses[:, -1]).sum())
    assert every < RESAMPLES / 3
    assert not np.isnan(found.losses).any()
    assert found.quantile(1.0)[0] == math.inf


def test_there_is_nothing_to_repeat_of_one_setting_or_one_seed() -> None:
    assert retune([tuned_of([[1.0, 2.0]]), tuned_of([[1.0], [2.0]])]) == []


def test_of_pairs_the_share_counts_ties_as_half_and_objectives_do_not_mix() -> None:
    table = np.random.default_rng(2).lognormal(size=(30, 5))
    made = [
        tuned_of(table, "a"),
        tuned_of(table, "same"),
        tuned_of(table + 100, "worse"),
        tuned_of(table, "elsewhere", "line"),
    ]
    found = {(a.case.optimizer, b.case.optimizer): s for a, b, s in pairs(retune(made))}
    assert found == {("a", "same"): 0.5, ("a", "worse"): 1.0, ("same", "worse"): 1.0}
    table_of = tuning_tables.retuned(retune(made), [])
    assert table_of is not None
    assert table_of.frame["better_share"].tolist() == [0.5, 1.0, 1.0]
    assert tuning_tables.retuned([], []) is None


@pytest.mark.parametrize("share", [0.025, 0.25, 0.5, 0.975])
def test_the_best_so_far_is_that_of_all_orders_counted_one_by_one(share: float) -> None:
    means = [3.0, 1.0, 2.0, math.inf, 1.0, 5.0]
    table = [[mean, mean] if math.isfinite(mean) else [0.5, math.nan] for mean in means]
    (found,) = best_so_far([tuned_of(table)])
    assert found.budgets.tolist() == [1, 2, 3, 4, 5, 6]
    orders = np.array(list(itertools.permutations(means)))
    bests = np.minimum.accumulate(orders, axis=1)
    expected = np.quantile(bests, share, axis=0, method="inverted_cdf")
    assert found.quantile(share).tolist() == expected.tolist()


def test_after_all_settings_the_best_so_far_is_the_best_in_every_order() -> None:
    losses = np.random.default_rng(4).lognormal(size=(100, 3))
    (found,) = best_so_far([tuned_of(losses)])
    assert found.budgets[-1] == 100
    for share in (0.025, 0.5, 0.975):
        assert found.quantile(share)[-1] == losses.mean(axis=1).min()
        assert (np.diff(found.quantile(share)) <= 0).all()


def test_the_order_in_which_settings_were_drawn_does_not_matter() -> None:
    losses = np.random.default_rng(4).lognormal(size=(30, 3))
    (one,), (other,) = best_so_far([tuned_of(losses)]), best_so_far([tuned_of(losses[::-1])])
    assert one.quantile(0.5).tolist() == other.quantile(0.5).tolist()


def test_one_setting_and_a_tuning_cut_short_have_no_best_so_far() -> None:
    short = tuned_of([[1.0, 2.0], [3.0, 4.0]])
    cut = replace(short.settings[1], losses=np.array([3.0]))
    assert best_so_far([tuned_of([[1.0, 2.0]])]) == []
    assert best_so_far([replace(short, settings=(short.settings[0], cut))]) == []


def true_loss(setting: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 + 4 * (setting - 0.6) ** 2)


@pytest.mark.parametrize(
    ("settings", "seeds"),
    [(20, 5), pytest.param(40, 10, marks=pytest.mark.exhaustive)],
)
def test_the_spread_is_about_that_of_tunings_really_done_again(settings: int, seeds: int) -> None:
    random = np.random.default_rng(settings)
    noise = 0.05

    def tune_once() -> tuple[NDArray[np.float64], float]:
        drawn = random.random(settings)
        losses = true_loss(drawn)[:, None] + noise * random.normal(size=(settings, seeds))
        return losses, float(true_loss(drawn[losses.mean(axis=1).argmin()]))

    really = np.array([tune_once()[1] for _ in range(2000)])
    medians, covered = [], 0
    draws = 40
    for _ in range(draws):
        found = retuned(tune_once()[0])
        medians.append(found.quantile(0.5)[-1])
        low, high = found.quantile(0.025)[-1], found.quantile(0.975)[-1]
        covered += low <= tune_once()[1] <= high
    # Judged by a few seeds, the loss has their noise as well.
    assert np.mean(medians) == pytest.approx(np.median(really), abs=0.03)
    assert covered >= scipy.stats.binom.ppf(1e-3, draws, 0.85)
