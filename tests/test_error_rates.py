"""How often the statistics err, on simulated data whose truth is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from harness.stats import bootstrap_intervals, holm, mean_interval, signed_rank

ALPHA = 0.05
SEEDS = 20


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return generator.normal(size=shape)


def skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Losses with a long right tail, some of which failed, and rounded enough to tie."""
    values = np.round(generator.lognormal(size=shape), 1)
    return np.where(generator.random(shape) < 0.05, 1e9, values)


@pytest.mark.parametrize("draw", [normal, skewed])
def test_six_optimizers_all_alike_are_seldom_told_apart(
    draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]],
) -> None:
    generator = np.random.default_rng(11)
    families, wrong = 500, 0
    for _ in range(families):
        losses = draw(generator, (6, SEEDS))
        p = [signed_rank(a - b).p for a, b in itertools.combinations(losses, 2)]
        wrong += bool((holm(p) <= ALPHA).any())
    # Were the rate of false calls just 5%, more than this had a probability of 0.1%.
    assert wrong <= scipy.stats.binom.ppf(0.999, families, ALPHA)
    # A test that never calls would pass the above.
    assert wrong > 0


def test_a_shift_of_half_a_standard_deviation_is_found_as_often_as_theory_says() -> None:
    runs = 3000
    differences = np.random.default_rng(12).normal(0.5, 1, size=(runs, SEEDS))
    power = np.mean([signed_rank(row).p <= ALPHA for row in differences])
    # The t test's power, by the noncentral t distribution, is the most there is for normal data.
    bound = scipy.stats.t.ppf(1 - ALPHA / 2, SEEDS - 1)
    shift = 0.5 * np.sqrt(SEEDS)
    best = scipy.stats.nct.sf(bound, SEEDS - 1, shift) + scipy.stats.nct.cdf(
        -bound, SEEDS - 1, shift
    )
    assert best == pytest.approx(0.5645, abs=5e-4)
    # Simulated apart, by scipy. The difference of two such shares has a standard error of 1.3%.
    others = np.random.default_rng(13).normal(0.5, 1, size=(runs, SEEDS))
    simulated = np.mean(scipy.stats.wilcoxon(others, axis=1, method="exact").pvalue <= ALPHA)
    assert power == pytest.approx(simulated, abs=0.04)
    assert best - 0.06 < power < best + 0.02


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    generator = np.random.default_rng(14)
    # Skewness 2/3.
    population = generator.gamma(9, size=10_000)
    truth = population.mean()
    draws = [generator.choice(population, SEEDS, replace=False) for _ in range(500)]
    found = [mean_interval(draw) for draw in draws]
    # 96.6% with this seed; of 500 the standard error is 1%.
    assert 0.93 <= np.mean([mean.low <= truth <= mean.high for mean in found]) <= 0.97
    # 95.4%.
    low, high = bootstrap_intervals(draws).T
    assert 0.92 <= np.mean((low <= truth) & (truth <= high)) <= 0.97
