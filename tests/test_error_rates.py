"""How often the statistics err, on data whose truth is known: simulated, and of real trials."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray

from harness.checking import load_optimizer
from harness.engine import train
from harness.lanes import Lane
from harness.plan import make_plan
from harness.spec import load
from harness.stats import (
    bootstrap_intervals,
    holm,
    mean_interval,
    proportion_interval,
    signed_rank,
)
from harness.suite import locate
from harness.workload import load_objective, prepare

ROOT = Path(__file__).resolve().parent.parent

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


POPULATION = 10_000


@pytest.fixture(scope="module")
def trained() -> NDArray[np.float64]:
    """Final losses of ten thousand seeds of SGD on the regression of airfoil noise."""
    plan = make_plan(load(ROOT / "benchmarks.yaml"))
    planned = next(one for one in plan.objectives if one.name == "ch7_linreg")
    workload = prepare(planned, load_objective(planned)[0], "cpu")
    workload = dataclasses.replace(workload, record_steps=(0, workload.steps))
    optimizer = load_optimizer(locate("SGD", ROOT, "optimizers"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parts = [
            train(
                workload,
                optimizer,
                [{"lr": 0.05}],
                [Lane(0, seed) for seed in range(first, first + 2000)],
                stacked=True,
                calls_closure=False,
            )
            for first in range(0, POPULATION, 2000)
        ]
    finally:
        torch.set_num_threads(threads)
    assert all((part.diverged_at < 0).all() for part in parts)
    losses = np.concatenate([part.losses[:, -1] for part in parts])
    assert np.isfinite(losses).all()
    skewness, kurtosis = scipy.stats.skew(losses), scipy.stats.kurtosis(losses)
    print(
        f"\n{len(losses):,} seeds: mean {losses.mean():.6f}, sd {losses.std(ddof=1):.6f}, "
        f"skewness {skewness:.2f}, excess kurtosis {kurtosis:.2f}"
    )
    return losses


def rate_of(what: str, hits: int, of: int) -> float:
    low, high = proportion_interval(hits, of)
    print(f"\n{what}: {hits / of:.1%} of {of} (95% interval {low:.1%} to {high:.1%})")
    return hits / of


def drawn(
    losses: NDArray[np.float64], generator: np.random.Generator, rows: int, seeds: int = SEEDS
) -> NDArray[np.float64]:
    """Losses of disjoint seeds, ``(rows, seeds)``: paired at random."""
    return losses[generator.choice(len(losses), rows * seeds, replace=False)].reshape(rows, seeds)


def test_an_optimizer_is_seldom_told_apart_from_itself(trained: NDArray[np.float64]) -> None:
    generator = np.random.default_rng(31)
    runs, wrong = 500, 0
    for _ in range(runs):
        a, b = drawn(trained, generator, 2)
        wrong += signed_rank(a - b).p <= ALPHA
    rate_of("one optimizer by two names, called different", wrong, runs)
    # Were the rate just 5%, it would be outside these with a probability of 0.1%.
    assert scipy.stats.binom.ppf(0.0005, runs, ALPHA) <= wrong
    assert wrong <= scipy.stats.binom.ppf(0.9995, runs, ALPHA)


def test_one_optimizer_by_six_names_is_seldom_called_different_from_itself(
    trained: NDArray[np.float64],
) -> None:
    generator = np.random.default_rng(32)
    families, wrong = 400, 0
    for _ in range(families):
        six = drawn(trained, generator, 6)
        p = [signed_rank(a - b).p for a, b in itertools.combinations(six, 2)]
        wrong += bool((holm(p) <= ALPHA).any())
    rate_of("one optimizer by six names, any of 15 pairs called different", wrong, families)
    assert 0 < wrong <= scipy.stats.binom.ppf(0.999, families, ALPHA)


def test_intervals_of_a_skewed_mean_cover_it_a_little_less_often_than_they_say(
    trained: NDArray[np.float64],
) -> None:
    """Of twenty seeds of so skewed losses; of a hundred, as often as they say.

    The losses' skewness is near 2. Means of twenty that are too low come with deviations that are
    too small, so the t interval ends too soon above. BCa corrects for skewness by that of twenty
    values, which mostly lack the tail.
    """
    generator = np.random.default_rng(33)
    truth = trained.mean()
    runs = 500

    def covered(draws: NDArray[np.float64], what: str) -> tuple[float, float]:
        means = [mean_interval(draw) for draw in draws]
        by_t = sum(mean.low <= truth <= mean.high for mean in means)
        low, high = bootstrap_intervals(draws).T
        by_bca = int(((low <= truth) & (truth <= high)).sum())
        return (
            rate_of(f"t interval of {what} covers the mean", by_t, len(draws)),
            rate_of(f"BCa interval of {what} covers the mean", by_bca, len(draws)),
        )

    t, bca = covered(np.stack([drawn(trained, generator, 1)[0] for _ in range(runs)]), "20 seeds")
    # 92.5% and 90.7% with many more draws, not 95%; four standard errors of 500 are 4.7% and 5.2%.
    assert 0.878 <= t <= 0.972
    assert 0.855 <= bca <= 0.959
    many = trained[generator.integers(0, len(trained), size=(40_000, SEEDS))]
    half = scipy.stats.t.ppf(0.975, SEEDS - 1) * many.std(axis=1, ddof=1) / np.sqrt(SEEDS)
    exact = float((np.abs(many.mean(axis=1) - truth) <= half).mean())
    print(f"\nt interval of 20 seeds covers the mean: {exact:.2%} of 40,000, by numpy")
    assert exact == pytest.approx(0.925, abs=0.007)

    hundreds = np.stack([drawn(trained, generator, 1, 100)[0] for _ in range(runs)])
    t, bca = covered(hundreds, "100 seeds")
    assert 0.91 <= t <= 0.98
    assert 0.90 <= bca <= 0.98


def test_bootstrap_intervals_of_twenty_differences_are_narrow_and_t_intervals_are_not(
    trained: NDArray[np.float64],
) -> None:
    """What tables and sentences give of two optimizers. Differences have long tails, no skewness.

    A bootstrap has the deviation of the values it draws from, which is too small by
    ``sqrt(1 - 1/n)``, and no allowance for not knowing it, as Student's t has: of twenty values its
    intervals are a tenth narrower. BCa's corrections add variance where there is no skewness.
    """
    generator = np.random.default_rng(34)
    for seeds, least, most in ((20, 0.86, 0.94), (100, 0.90, 0.98)):
        pairs = [drawn(trained, generator, 2, seeds) for _ in range(500)]
        differences = [a - b for a, b in pairs]
        low, high = bootstrap_intervals(differences).T
        hits = int(((low <= 0) & (high >= 0)).sum())
        # BCa: 86.5% of 10 seeds, 90% of 20, 92.6% of 50 with thousands of draws; not 95%.
        what = f"{seeds} paired differences covers theirs"
        assert least <= rate_of(f"BCa interval of {what}", hits, 500) <= most
        means = [mean_interval(row) for row in differences]
        by_t = sum(mean.low <= 0 <= mean.high for mean in means)
        assert 0.93 <= rate_of(f"t interval of {what}", by_t, 500) <= 0.985


def test_half_a_standard_deviation_is_found_in_real_losses_at_least_as_often_as_in_normal_ones(
    trained: NDArray[np.float64],
) -> None:
    generator = np.random.default_rng(35)
    runs, found, wrong = 600, 0, 0
    shift = 0.5 * np.sqrt(2) * trained.std()
    for _ in range(runs):
        a, b = drawn(trained, generator, 2)
        test = signed_rank(a - b - shift)
        found += test.p <= ALPHA
        wrong += test.p <= ALPHA and test.effect > 0
    power = rate_of("half a standard deviation of paired differences is found", found, runs)
    # By scipy, on draws of its own.
    rows = trained[generator.integers(0, len(trained), size=(2, 4000, SEEDS))]
    simulated = np.mean(
        scipy.stats.wilcoxon(rows[0] - rows[1] - shift, axis=1, method="exact").pvalue <= ALPHA
    )
    print(f"\nthe same by scipy: {simulated:.1%} of 4,000")
    assert power == pytest.approx(simulated, abs=0.08)
    # Of normal differences it would be 54%; ranks gain by the long tails.
    assert simulated > 0.58
    assert wrong == 0
