"""Ranks over objectives against a published example, an independent test and counts by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import scipy.stats
from results_builders import make_case, make_results, make_trials

from harness.analysis import rank_tests
from harness.analysis.comparison import groups
from harness.analysis.objective_ranks import LEAST_OBJECTIVES, ObjectiveRanks, over_objectives
from harness.store.read import CaseData

DEMSAR = np.array(
    [
        [4, 3, 2, 1],
        [1, 2, 3, 4],
        [4, 1, 2, 3],
        [4, 1, 3, 2],
        [4, 2, 3, 1],
        [1, 2.5, 4, 2.5],
        [3, 2, 4, 1],
        [2.5, 2.5, 4, 1],
        [4, 3, 2, 1],
        [2.5, 2.5, 2.5, 2.5],
        [4, 2.5, 1, 2.5],
        [3, 2, 4, 1],
        [4, 1, 2, 3],
        [3, 1, 4, 2],
    ]
).T
"""Table 6 of Demšar (2006): ranks of four classifiers on fourteen data sets."""

NAMES = ("sgd", "momentum", "adagrad", "adam")
Finals = Mapping[tuple[str, str, str], Sequence[float]]
"""Final losses by objective, optimizer and setting; NaN where a trial failed."""


def ranked(finals: Finals, families: Mapping[str, str] | None = None) -> list[ObjectiveRanks]:
    cases: list[CaseData] = [
        make_case(objective, optimizer, position=i, setting=setting)
        for i, (objective, optimizer, setting) in enumerate(finals)
    ]
    endings = [
        {s: loss if math.isfinite(loss) else "diverged" for s, loss in enumerate(row)}
        for row in finals.values()
    ]
    known = make_results(cases, make_trials(cases, endings))
    return over_objectives(groups(known), families or {})


# The critical difference


def test_mean_ranks_and_the_critical_difference_are_those_of_demsar() -> None:
    found = rank_tests.mean_ranks(DEMSAR).mean(axis=1)
    assert found == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert rank_tests.critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert rank_tests.critical_difference(4, 14, 0.9) == pytest.approx(1.12, abs=0.005)


def test_friedmans_and_iman_and_davenports_statistics_are_those_of_demsar() -> None:
    """He does not correct for ties; the correction divides by what ties leave of the variance."""
    cases, blocks = DEMSAR.shape
    chi_squared, _ = rank_tests.friedman(DEMSAR)
    ties = sum(
        count**3 - count
        for ranks in DEMSAR.T
        for count in np.unique(ranks, return_counts=True)[1].tolist()
    )
    plain = chi_squared * (1 - ties / (blocks * cases * (cases**2 - 1)))
    assert plain == pytest.approx(9.28, abs=0.005)
    assert (blocks - 1) * plain / (blocks * (cases - 1) - plain) == pytest.approx(3.69, abs=0.005)
    statistic, p = rank_tests.iman_davenport(DEMSAR)
    assert statistic == pytest.approx(13 * chi_squared / (42 - chi_squared))
    assert p == pytest.approx(scipy.stats.f.sf(statistic, 3, 39))


@pytest.mark.parametrize(
    ("cases", "q"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (8, 3.031), (10, 3.164)],
)
def test_critical_values_are_those_of_the_printed_table(cases: int, q: float) -> None:
    """Demšar's table 5a."""
    unit = math.sqrt(cases * (cases + 1) / 6)
    assert rank_tests.critical_difference(cases, 1) / unit == pytest.approx(q, abs=0.0015)


def test_of_two_cases_it_is_the_normal_quantile() -> None:
    expected = scipy.stats.norm.ppf(0.975) * math.sqrt(1 / 20)
    assert rank_tests.critical_difference(2, 20) == pytest.approx(expected, rel=1e-6)


def test_a_difference_is_found_by_chance_as_seldom_as_it_says() -> None:
    """Ranks at random: the largest difference of many blocks exceeds it in one in twenty."""
    generator = np.random.default_rng(5)
    trials, cases, blocks = 4000, 4, 30
    ranks = generator.permuted(
        np.broadcast_to(np.arange(1.0, cases + 1), (trials, blocks, cases)), axis=2
    )
    widest = np.ptp(ranks.mean(axis=1), axis=1)
    share = float((widest > rank_tests.critical_difference(cases, blocks)).mean())
    assert share == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / trials) + 0.005)


def test_with_all_blocks_of_one_mind_the_test_leaves_no_doubt() -> None:
    assert rank_tests.iman_davenport(np.tile([[1.0], [2.0], [3.0]], 6))[1] == 0
    assert math.isnan(rank_tests.iman_davenport(np.ones((3, 4)))[1])


# Optimizers over objectives


def over(count: int, **losses: Sequence[float]) -> dict[tuple[str, str, str], Sequence[float]]:
    """Optimizers whose final loss on each of so many objectives is given, at two seeds."""
    return {
        (f"f{i}", name, ""): [own[i], own[i]] for i in range(count) for name, own in losses.items()
    }


def test_optimizers_stand_in_the_order_of_their_mean_ranks() -> None:
    (found,) = ranked(over(5, a=[5, 5, 5, 1, 5], b=[2, 2, 2, 3, 2], c=[3, 3, 3, 2, 9]))
    assert found.optimizers == ("b", "c", "a")
    assert found.means.tolist() == pytest.approx([7 / 5, 11 / 5, 12 / 5])
    assert found.difference == rank_tests.critical_difference(3, 5)


def test_of_an_optimizer_the_best_setting_counts_and_a_failure_is_the_worst() -> None:
    finals: dict[tuple[str, str, str], Sequence[float]] = {}
    for i in range(LEAST_OBJECTIVES):
        finals[f"f{i}", "a", "lr=1"] = [9.0, 9.0]
        finals[f"f{i}", "a", "lr=2"] = [1.0, math.nan]
        finals[f"f{i}", "b", ""] = [20.0, 20.0]
        finals[f"f{i}", "c", ""] = [math.nan, math.nan]
        finals[f"f{i}", "d", ""] = [math.nan, math.nan]
    (found,) = ranked(finals)
    assert found.optimizers == ("a", "b", "c", "d")
    assert found.means.tolist() == [1.0, 2.0, 3.5, 3.5]
    assert {case.setting for case in found.cases[0]} == {"lr=1"}


def test_what_rounding_parts_is_tied() -> None:
    (found,) = ranked(over(5, a=[1.0] * 5, b=[1.0 + 1e-15] * 5, c=[2.0] * 5))
    assert found.means.tolist() == [1.5, 1.5, 3.0]


def test_the_order_of_the_spec_changes_nothing() -> None:
    generator = np.random.default_rng(3)
    finals = {
        (f"f{i}", name, setting): generator.normal(size=3).tolist()
        for i in range(6)
        for name in NAMES
        for setting in ("lr=1", "lr=2")
    }
    (first,) = ranked(finals)
    for seed in range(5):
        keys = list(finals)
        order = np.random.default_rng(seed).permutation(len(keys))
        (found,) = ranked({keys[i]: finals[keys[i]] for i in order})
        assert found.optimizers == first.optimizers
        assert found.means.tolist() == first.means.tolist()
        assert (found.p, found.difference) == (first.p, first.difference)
        best, expected = (
            {(case.objective, case.setting) for case in one.cases[0]} for one in (found, first)
        )
        assert best == expected


def test_fewer_than_five_objectives_or_families_rank_nobody() -> None:
    finals = over(5, a=[1] * 5, b=[2] * 5)
    assert len(ranked(finals)) == 1
    assert ranked({key: row for key, row in finals.items() if key[0] != "f4"}) == []
    assert ranked(finals, {"f3": "bowls", "f4": "bowls"}) == []


def test_objectives_of_a_family_have_one_rank_together() -> None:
    """The mean rank over the family's three objectives puts b before a there."""
    families = dict.fromkeys(("f4", "f5", "f6"), "bowls")
    finals = over(7, a=[1, 1, 1, 1, 1, 2, 2], b=[2, 2, 2, 2, 2, 1, 1])
    (found,) = ranked(finals, families)
    assert found.blocks == ("f0", "f1", "f2", "f3", "bowls")
    by_name = dict(zip(found.optimizers, found.ranks.tolist(), strict=True))
    assert by_name == {"a": [1, 1, 1, 1, 2], "b": [2, 2, 2, 2, 1]}


def test_who_did_not_run_everywhere_is_left_out_by_name() -> None:
    finals = over(6, a=[1] * 6, b=[2] * 6, c=[3] * 6)
    del finals["f2", "c", ""]
    alone = {("alone", "a", ""): [1.0, 1.0]}
    (found,) = ranked(finals | alone)
    assert (found.left_out, found.optimizers) == (("c",), ("a", "b"))
    assert found.objectives == tuple(f"f{i}" for i in range(6))


def test_a_pair_differs_by_the_critical_difference_as_by_the_studentized_range() -> None:
    """Nemenyi's p-value from scipy's distribution is below 5% just where the ranks are that far."""
    cases, blocks = 4, 12
    error = math.sqrt(cases * (cases + 1) / (6 * blocks))
    critical = rank_tests.critical_difference(cases, blocks)
    for apart in np.linspace(0.2, 2.5, 24):
        p = scipy.stats.studentized_range.sf(apart / error * math.sqrt(2), cases, 10_000)
        if abs(apart - critical) > 0.02:
            assert (p < 0.05) == (apart > critical)
