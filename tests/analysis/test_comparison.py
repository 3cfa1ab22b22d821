"""Comparisons by seed against scipy and against counts of all sign patterns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from numpy.typing import ArrayLike, NDArray
from results_builders import make_case, make_results, make_trials

from harness.analysis import comparison, ranks
from harness.analysis.comparison import (
    ALPHA,
    MAX_PAIRED_CASES,
    REL_TOL,
    Compared,
    ComparisonGroup,
    Pair,
    compare,
    groups,
    pairs,
)
from harness.store.read import CaseData, Results
from harness.store.records import RunSettings

Key = tuple[str, str, str]
"""Objective, optimizer, device."""

INF = math.inf


def results_by_key(finals: Mapping[Key, Mapping[int, float | str]]) -> Results:
    """Results by hand: by case, and by seed a final loss or the status it ended with."""
    cases = cases_of(finals)
    return make_results(cases, make_trials(cases, list(finals.values())))


def cases_of(keys: Iterable[Key]) -> list[CaseData]:
    """Cases without curves."""
    return [
        make_case(objective, optimizer, position=position, device=device)
        for position, (objective, optimizer, device) in enumerate(keys)
    ]


def on_bowl(*rows: Sequence[float | str]) -> Results:
    """One objective on one device; optimizers a, b, ..., seeds from 0."""
    names = "abcdefgh"
    return results_by_key(
        {("bowl", names[i], "cpu"): dict(enumerate(row)) for i, row in enumerate(rows)}
    )


def field_of(losses: ArrayLike) -> ComparisonGroup:
    """A field of ``(cases, seeds)``."""
    table = np.asarray(losses, dtype=np.float64)
    cases = tuple(cases_of(("bowl", f"o{i}", "cpu") for i in range(len(table))))
    return ComparisonGroup("bowl", "cpu", cases, np.arange(table.shape[1]), table)


def signed_rank_by_patterns(differences: NDArray[np.float64]) -> float:
    """Every pattern of signs is as likely: the share of those as lopsided or more."""
    ranks = scipy.stats.rankdata(np.abs(differences))[differences != 0]
    signs = np.sign(differences[differences != 0])
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(signs))))
    return float(np.mean(np.abs(patterns @ ranks) >= abs(signs @ ranks) - 1e-9))


def bootstrap_t(
    values: NDArray[np.float64], generator: np.random.Generator, resamples: int = 20_000
) -> tuple[float, float]:
    """Student's interval, but with the quantiles that the ratio has over resamples."""
    n = len(values)
    drawn = values[generator.integers(0, n, size=(resamples, n))]
    # Of few values some resamples have no deviation: their ratio is as far out as can be.
    deviations = np.maximum(drawn.std(axis=1, ddof=1), 1e-15)
    ratios = (drawn.mean(axis=1) - values.mean()) / (deviations / math.sqrt(n))
    farthest = 3 * scipy.stats.t.ppf(0.975, n - 1)
    least, most = np.clip(np.quantile(ratios, [0.025, 0.975]), -farthest, farthest)
    error = values.std(ddof=1) / math.sqrt(n)
    return float(values.mean() - most * error), float(values.mean() - least * error)


def shift_by_definition(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """The median of all averages of two, and those at which scipy's exact test gives way."""
    n = len(differences)
    averages = np.array(
        sorted((differences[i] + differences[j]) / 2 for i in range(n) for j in range(i, n))
    )
    between = (averages[1:] + averages[:-1]) / 2
    p = [scipy.stats.wilcoxon(differences - shift).pvalue for shift in between]
    kept = np.flatnonzero(np.array(p) > 0.05)
    return float(np.median(averages)), float(averages[kept[0]]), float(averages[kept[-1] + 1])


def holm_by_definition(p_values: Sequence[float], family: int) -> list[float]:
    """Step down: the smallest by the size of the family, the next by one less, never smaller."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for done, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[i] * (family - done)))
        adjusted[i] = largest
    return adjusted


# ---- groups


def test_a_field_has_the_losses_by_case_and_seed_in_the_specs_order() -> None:
    (field,) = groups(on_bowl([3.0, 1.0, 2.0], [0.5, 0.25, 0.125]))
    assert (field.objective, field.device) == ("bowl", "cpu")
    assert [case.optimizer for case in field.cases] == ["a", "b"]
    assert field.seeds.tolist() == [0, 1, 2]
    assert field.losses.tolist() == [[3.0, 1.0, 2.0], [0.5, 0.25, 0.125]]


def test_a_case_of_which_no_trial_could_run_is_not_in_the_field() -> None:
    (field,) = groups(on_bowl([1.0, 2.0], ["unavailable", "unavailable"], [3.0, 4.0]))
    assert [case.optimizer for case in field.cases] == ["a", "c"]
    assert field.losses.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert groups(on_bowl(["unavailable", "unavailable"])) == []


def test_where_a_run_was_cut_short_the_seeds_are_those_that_all_cases_have() -> None:
    (field,) = groups(
        results_by_key(
            {
                ("bowl", "a", "cpu"): {1: 0.1, 4: 0.4, 3: 0.3, 7: 0.7},
                ("bowl", "b", "cpu"): {7: 7.0, 4: 4.0, 2: 2.0, 3: "error"},
            }
        )
    )
    assert field.seeds.tolist() == [3, 4, 7]
    assert field.losses.tolist() == [[0.3, 0.4, 0.7], [INF, 4.0, 7.0]]


def test_without_a_seed_in_common_there_is_no_field() -> None:
    finals: dict[Key, dict[int, float | str]] = {
        ("bowl", "a", "cpu"): {0: 0.1},
        ("bowl", "b", "cpu"): {1: 0.1},
    }
    assert groups(results_by_key(finals)) == []


@pytest.mark.parametrize("status", ["diverged", "error", "timeout"])
def test_a_trial_that_did_not_end_ok_has_an_infinite_loss(status: str) -> None:
    (field,) = groups(on_bowl([1.0, status], [2.0, 3.0]))
    assert field.losses.tolist() == [[1.0, INF], [2.0, 3.0]]
    assert field.failures.tolist() == [1, 0]


def test_each_objective_and_each_device_is_a_field_of_its_own() -> None:
    found = groups(
        results_by_key(
            {
                ("bowl", "a", "cpu"): {0: 1.0},
                ("bowl", "a", "cuda"): {0: 2.0},
                ("line", "a", "cuda"): {0: 3.0},
                ("bowl", "b", "cpu"): {0: 4.0},
                ("line", "b", "cuda"): {0: "unavailable"},
            }
        )
    )
    assert [(f.objective, f.device, f.losses.ravel().tolist()) for f in found] == [
        ("bowl", "cpu", [1.0, 4.0]),
        ("bowl", "cuda", [2.0]),
        ("line", "cuda", [3.0]),
    ]


# ---- randomness and order


@pytest.mark.parametrize(
    ("losses", "random"),
    [
        ([[0.5, 0.5, 0.5], [0.25, 0.25, 0.25]], False),
        ([[0.5, 0.5, 0.5], [0.25, 0.25, 0.26]], True),
        # Within a float32's rounding of each other, and just beyond.
        ([[0.5, 0.5 * (1 + 0.9 * REL_TOL), 0.5]], False),
        ([[0.5, 0.5 * (1 + 1.1 * REL_TOL), 0.5]], True),
        ([[-0.5, -0.5 * (1 + 0.9 * REL_TOL), -0.5]], False),
        ([[0.0, 0.0, 0.0]], False),
        ([[0.0, 0.0, 1e-300]], True),
        # One seed that fails is chance; all that fail are not.
        ([[0.5, 0.5, INF]], True),
        ([[0.5, 0.5, 0.5], [INF, INF, INF]], False),
        ([[INF, INF, INF]], False),
        ([[0.5], [0.25]], False),
    ],
)
def test_seeds_matter_if_they_differ_by_more_than_rounding(
    losses: list[list[float]], random: bool
) -> None:
    assert field_of(losses).is_random is random


def test_order_is_by_failures_then_by_the_mean_of_what_ended_ok_then_as_in_the_spec() -> None:
    field = field_of(
        [
            [1.0, 1.0, INF],
            [9.0, 9.0, 9.0],
            [2.0, 4.0, 3.0],
            [0.5, 0.5, INF],
            [3.0, 3.0, 3.0],
            [INF, INF, INF],
        ]
    )
    assert field.order() == [2, 4, 1, 3, 0, 5]


# ---- pairs


def test_pairs_are_wilcoxons_test_and_the_shift_that_belongs_to_it() -> None:
    random = np.random.default_rng(5)
    losses = random.lognormal(size=(4, 15)) + np.arange(4)[:, None] * 0.4
    found = pairs(field_of(losses))
    assert [(p.first, p.second) for p in found] == list(itertools.combinations(range(4), 2))
    for pair in found:
        d = losses[pair.first] - losses[pair.second]
        test = scipy.stats.wilcoxon(d)
        positive = scipy.stats.rankdata(np.abs(d))[d > 0].sum()
        shift, low, high = shift_by_definition(d)
        assert (pair.shift, pair.low, pair.high) == pytest.approx((shift, low, high), rel=1e-12)
        assert (pair.better, pair.worse) == ((d < 0).sum(), (d > 0).sum())
        assert pair.p == pytest.approx(float(test.pvalue), rel=1e-12)
        assert pair.effect == pytest.approx(2 * positive / (15 * 16 / 2) - 1, rel=1e-12)
        assert (pair.n, pair.both, pair.failed) == (15, 15, (0, 0))
    expected = holm_by_definition([pair.p for pair in found], 6)
    assert [pair.adjusted for pair in found] == pytest.approx(expected, rel=1e-12)
    assert len({pair.adjusted for pair in found}) > 2


def test_a_failed_trial_is_the_worst_in_the_test_and_in_no_mean() -> None:
    first = np.array([1.0, 2.0, INF, 4.0, INF, 1.5, 2.5, 0.5])
    second = np.array([1.25, 2.75, 3.0, 3.5, INF, INF, 2.0, 1.5])
    (pair,) = pairs(field_of([first, second]))
    assert (pair.n, pair.both, pair.failed) == (8, 5, (2, 2))
    # Of 36 averages, 7 are infinite either way; two of the four failures pull either way.
    values = [-0.25, -0.75, 0.5, 0.0, 0.5, -1.0]
    averages = [(a + b) / 2 for i, a in enumerate(values) for b in values[i:]]
    assert pair.shift == pytest.approx(np.median(averages))
    assert (pair.better, pair.worse) == (4, 3)
    assert not pair.by_failures
    # Where both failed neither is better; where one did, that is worse than any number.
    ranked = np.array([-0.25, -0.75, 1e9, 0.5, 0.0, -1e9, 0.5, -1.0])
    assert pair.p == pytest.approx(signed_rank_by_patterns(ranked), abs=1e-12)
    ranks = scipy.stats.rankdata(np.abs(ranked))
    plus, minus = ranks[ranked > 0].sum(), ranks[ranked < 0].sum()
    assert pair.effect == pytest.approx((plus - minus) / (plus + minus))


def test_failures_alone_can_tell_cases_apart_without_any_difference_of_means() -> None:
    losses = np.stack([np.full(10, INF), np.linspace(1, 2, 10)])
    (pair,) = pairs(field_of(losses))
    assert pair.called == "worse"
    assert pair.effect == 1
    assert pair.p == pytest.approx(2 / 2**10)
    assert pair.both == 0
    assert (pair.shift, pair.low, pair.high) == (INF, INF, INF)
    assert pair.by_failures
    assert not pair.has_shift


def test_failures_decide_where_the_seeds_at_which_both_ended_ok_do_not_say_the_same() -> None:
    base = np.linspace(1, 2, 40)
    noise = np.random.default_rng(2).normal(size=40) / 10
    failing = np.where(np.arange(40) < 20, INF, base + noise)
    (pair,) = pairs(field_of([failing, base]))
    assert (pair.called, pair.by_failures, pair.failed) == ("worse", True, (20, 0))
    # Better wherever it ends ok, and yet worse by its failures.
    (pair,) = pairs(field_of([np.where(np.arange(40) < 25, INF, base - 0.5), base]))
    assert (pair.called, pair.by_failures) == ("worse", True)
    # Two that failed of forty decide nothing where all others are worse as well.
    (pair,) = pairs(field_of([np.where(np.arange(40) < 2, INF, base + 0.5), base]))
    assert (pair.called, pair.by_failures, pair.has_shift) == ("worse", False, True)
    assert pair.shift == pytest.approx(0.5)


def test_where_both_failed_at_every_seed_they_tie() -> None:
    field = field_of([[INF] * 5, [INF] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]])
    tie = next(pair for pair in pairs(field) if (pair.first, pair.second) == (0, 1))
    # Both fail at every seed: copies of one run, and nothing to test.
    assert (tie.called, tie.is_tested, tie.shift) == ("tied", False, 0)
    found, _ = ranks.ranks(field)
    assert [rank.mean for rank in found] == [2.5, 2.5, 1.0]


def test_equal_losses_are_a_difference_of_nothing() -> None:
    row = [1.0, 2.0, 3.0, 4.0]
    (pair,) = pairs(field_of([row, row]))
    assert (pair.shift, pair.low, pair.high) == pytest.approx((0, math.nan, math.nan), nan_ok=True)
    assert (pair.p, pair.adjusted, pair.effect, pair.called) == (1, 1, 0, "tied")
    (pair,) = pairs(field_of([row * 2, row * 2]))
    assert (pair.shift, pair.low, pair.high, pair.called) == (0, 0, 0, "tied")


def test_no_pairs_of_one_case_or_of_one_seed() -> None:
    assert pairs(field_of([[1.0, 2.0, 3.0]])) == []
    assert pairs(field_of([[1.0], [2.0]])) == []


def test_so_few_seeds_that_the_test_rejects_no_shift_have_no_interval() -> None:
    (pair,) = pairs(field_of([[1.0, 5.0, INF], [3.0, 2.0, 1.0]]))
    assert (pair.shift, pair.both) == (INF, 2)
    (pair,) = pairs(field_of([[1.0, 5.0, 2.0, 4.0, 3.0], [3.0, 2.0, 1.0, 1.0, 1.0]]))
    # Of -2, 1, 2, 3 and 3 the fifteen averages of two have the median 2.
    assert pair.shift == pytest.approx(2.0)
    assert math.isnan(pair.low)
    assert math.isnan(pair.high)


def test_of_more_cases_than_most_the_best_are_paired_and_all_pairs_are_corrected_for() -> None:
    count, seeds = MAX_PAIRED_CASES + 3, 12
    losses = 10 + np.random.default_rng(6).normal(size=(count, seeds))
    # Those that do worst: one on average, two that failed once or twice, whatever their mean.
    losses[4] += 100
    losses[0] -= 50
    losses[0, 3] = INF
    losses[MAX_PAIRED_CASES] -= 50
    losses[MAX_PAIRED_CASES, :2] = INF
    # One that is always far lower.
    losses[9] -= 20
    found = pairs(field_of(losses))
    kept = [i for i in range(count) if i not in (0, 4, MAX_PAIRED_CASES)]
    assert [(p.first, p.second) for p in found] == list(itertools.combinations(kept, 2))
    everything = count * (count - 1) // 2
    expected = holm_by_definition([pair.p for pair in found], everything)
    assert [pair.adjusted for pair in found] == pytest.approx(expected, rel=1e-12)
    least = [pair for pair in found if 9 in (pair.first, pair.second)]
    assert min(pair.adjusted for pair in least) == pytest.approx(2 / 2**seeds * everything)


def test_leaving_pairs_out_never_makes_a_difference_more_certain() -> None:
    random = np.random.default_rng(7)
    losses = (
        random.normal(size=(MAX_PAIRED_CASES + 2, 14))
        + np.linspace(0, 1.5, MAX_PAIRED_CASES + 2)[:, None]
    )
    p = {
        (a, b): signed
        for a, b in itertools.combinations(range(MAX_PAIRED_CASES + 2), 2)
        if (signed := float(scipy.stats.wilcoxon(losses[a] - losses[b]).pvalue)) >= 0
    }
    every = dict(zip(p, holm_by_definition(list(p.values()), len(p)), strict=True))
    found = pairs(field_of(losses))
    assert len(found) == MAX_PAIRED_CASES * (MAX_PAIRED_CASES - 1) // 2
    for pair in found:
        assert pair.p == pytest.approx(p[pair.first, pair.second], rel=1e-9)
        assert pair.adjusted >= every[pair.first, pair.second] - 1e-12


@pytest.mark.parametrize(
    "losses",
    [
        [[1.0, 2.0, INF, 4.0, 5.5], [3.0, 1.0, 3.0, 8.0, 6.0], [9.0, 9.5, 9.25, 10.0, INF]],
        # Enough seeds for bootstrap-t, of skewed differences.
        (np.random.default_rng(10).lognormal(size=(3, 14)) * [[1], [2], [4]]).tolist(),
    ],
)
def test_a_pair_seen_from_the_other_case_has_every_sign_turned(losses: list[list[float]]) -> None:
    for pair in pairs(field_of(losses)):
        turned = pair.seen_from(pair.second)
        a, b = pair.first, pair.second
        (other,) = pairs(field_of([losses[b], losses[a]]))
        assert (turned.first, turned.second) == (b, a)
        assert turned.failed == other.failed
        assert turned.shift == other.shift == -pair.shift
        assert (turned.better, turned.worse) == (other.better, other.worse)
        assert turned.effect == other.effect == -pair.effect
        assert (turned.low, turned.high) == pytest.approx((-pair.high, -pair.low), nan_ok=True)
        assert (turned.p, turned.adjusted) == (pair.p, pair.adjusted)
        assert (turned.low, turned.high) == pytest.approx((other.low, other.high), nan_ok=True)
        back = turned.seen_from(a)
        assert (back.first, back.shift, back.effect) == (a, pair.shift, pair.effect)
        assert pair.seen_from(a) is pair
        opposite = {"better": "worse", "worse": "better"}
        assert turned.called == opposite.get(pair.called, pair.called)


@pytest.mark.parametrize(
    ("adjusted", "effect", "called"),
    [
        (ALPHA, -0.5, "better"),
        (ALPHA, 0.5, "worse"),
        (np.nextafter(ALPHA, 1), -0.5, "not significantly different"),
        (0.0, 0.0, "not significantly different"),
    ],
)
def test_a_difference_is_called_at_the_adjusted_level_alone(
    adjusted: float, effect: float, called: str
) -> None:
    pair = Pair(0, 1, 9, (0, 0), 9, 5, 4, 1.0, 0.5, 1.5, effect, 1e-9, adjusted, 1e-9, effect)
    assert pair.called == called
    assert replace(pair, p=1.0).called == called


def test_what_one_pair_would_be_called_is_not_among_many() -> None:
    base = np.linspace(1, 2, 7)
    lower = base - np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    (alone,) = pairs(field_of([lower, base]))
    assert (alone.called, alone.p) == ("better", 2 / 2**7)
    among = pairs(field_of([lower, base, base, base]))
    assert among[0].p == alone.p
    assert among[0].adjusted == pytest.approx(6 * 2 / 2**7)
    assert {pair.called for pair in among[:3]} == {"not significantly different"}
    assert {pair.called for pair in among[3:]} == {"tied"}


# ---- means


def test_mean_losses_are_of_the_trials_that_ended_ok_with_a_bootstrap_t_interval() -> None:
    random = np.random.default_rng(12)
    many, few = random.lognormal(size=20), random.lognormal(size=5)
    found = comparison.mean_losses(
        on_bowl([*many, "diverged", INF], [*few, "error"], ["timeout"], [2.5])
    )
    assert list(found) == [0, 1, 2, 3]
    assert [mean.n for mean in found.values()] == [20, 5, 0, 1]
    assert found[0].mean == pytest.approx(many.mean())
    assert found[0].sd == pytest.approx(many.std(ddof=1))
    low, high = bootstrap_t(many, np.random.default_rng(1))
    assert found[0].low == pytest.approx(low, abs=0.05 * (high - low))
    assert found[0].high == pytest.approx(high, abs=0.05 * (high - low))
    low, high = bootstrap_t(few, np.random.default_rng(1))
    assert found[1].low == pytest.approx(low, abs=0.05 * (high - low))
    assert found[3].mean == 2.5
    assert all(math.isnan(v) for v in (found[2].mean, found[2].low, found[3].low, found[3].high))


# ---- ranks


def test_ranks_are_scipys_with_failures_tied_for_last() -> None:
    random = np.random.default_rng(8)
    losses = np.round(random.normal(size=(5, 12)), 1)
    losses[1, :4] = INF
    losses[3, 2:6] = INF
    found, p = ranks.ranks(field_of(losses))
    worst = np.where(np.isinf(losses), 1e6, losses)
    table = scipy.stats.rankdata(worst, axis=0)
    best = worst == worst.min(axis=0)
    for rank, row, first in zip(found, table, best, strict=True):
        assert rank.mean == pytest.approx(row.mean())
        assert rank.first == pytest.approx(first.mean())
        low, high = bootstrap_t(row, np.random.default_rng(1))
        near = 0.1 * (high - low)
        assert rank.low == pytest.approx(low, abs=near)
        assert rank.high == pytest.approx(high, abs=near)
    assert sum(rank.mean for rank in found) == pytest.approx(5 * 6 / 2)
    assert p == pytest.approx(float(scipy.stats.friedmanchisquare(*worst).pvalue))


def test_two_cases_have_ranks_but_no_test_that_all_do_alike() -> None:
    found, p = ranks.ranks(field_of([[1.0, 2.0, 5.0], [2.0, 3.0, 4.0]]))
    assert [rank.mean for rank in found] == pytest.approx([4 / 3, 5 / 3])
    assert math.isnan(p)


def test_where_all_failed_all_are_tied_for_best_as_for_worst() -> None:
    found, _ = ranks.ranks(field_of([[1.0, INF], [2.0, INF]]))
    assert [(rank.mean, rank.first) for rank in found] == [(1.25, 1.0), (1.75, 0.5)]


# ---- all of it


def test_where_no_seed_changes_anything_pairs_are_decided_and_not_tested() -> None:
    (alike,) = compare(on_bowl([0.5] * 4, [0.25] * 4, [0.125] * 4))
    assert alike.tested == ()
    assert [pair.called for pair in alike.pairs] == ["worse"] * 3
    assert [pair.shift for pair in alike.pairs] == [0.25, 0.375, 0.125]
    assert all(math.isnan(pair.low + pair.high) for pair in alike.pairs)
    assert alike.family == 0
    assert math.isnan(alike.friedman)
    assert [rank.mean for rank in alike.ranks] == [3.0, 2.0, 1.0]


def test_a_case_alone_is_compared_with_nothing() -> None:
    (one,) = compare(on_bowl([0.5, 0.75]))
    assert (one.pairs, one.ranks) == ((), ())
    assert math.isnan(one.friedman)


def test_between_gives_the_pair_as_seen_from_the_first_and_none_where_there_is_none() -> None:
    (one,) = compare(on_bowl([1.0, 2.0, 3.0], [2.0, 3.0, 5.0], [4.0, 4.5, 9.0]))
    ahead, behind = one.between(0, 2), one.between(2, 0)
    assert ahead is not None
    assert behind is not None
    # Of -3, -2.5 and -6, the averages of two are -6, -4.5, -4.25, -3, -2.75 and -2.5.
    assert ahead.shift == -behind.shift == pytest.approx(-(4.25 + 3.0) / 2)
    assert one.between(1, 1) is None
    assert replace(one, pairs=()).between(0, 2) is None


@pytest.mark.parametrize(("cases", "seeds"), [(2, 5), (2, 6), (3, 8), (5, 3)])
def test_the_least_adjusted_p_value_is_the_one_of_a_case_that_is_always_lower(
    cases: int, seeds: int
) -> None:
    random = np.random.default_rng(9)
    losses = random.normal(size=(cases, seeds))
    losses[0] -= 100
    field = field_of(losses)
    one = Compared(field, tuple(pairs(field)), (), math.nan, comparison.family(field))
    assert min(pair.adjusted for pair in one.pairs) == pytest.approx(one.least_adjusted)
    by_hand = min(1.0, 2 / 2**seeds * (cases * (cases - 1) // 2))
    assert one.least_adjusted == pytest.approx(by_hand)


def test_a_pair_of_deterministic_cases_among_random_ones_is_decided_and_not_tested() -> None:
    random = np.random.default_rng(4).normal(size=12)
    (one,) = compare(on_bowl(random.tolist(), [0.5] * 12, [0.25] * 12, [0.25 + 1e-14] * 12))
    called = {(p.first, p.second): (p.called, p.is_tested) for p in one.pairs}
    assert called[1, 2] == ("worse", False)
    assert called[2, 3] == ("tied", False)
    assert all(called[0, i][1] for i in (1, 2, 3))
    # Three tests are made, so three are corrected for.
    assert one.family == 3
    expected = holm_by_definition([pair.p for pair in one.tested], 3)
    assert [pair.adjusted for pair in one.tested] == pytest.approx(expected)


def started(results: Results, start: float, **settings: object) -> Results:
    """The same, all trials starting from one loss."""
    cases = tuple(
        replace(
            case,
            seeds=np.arange(50),
            losses=np.column_stack([np.full(50, start), np.zeros(50)]),
        )
        for case in results.cases
    )
    run = replace(
        results.run, settings=RunSettings.model_validate(dict(results.run.settings) | settings)
    )
    return replace(results, cases=cases, run=run)


def test_optimizers_that_reach_the_optimum_tie_however_small_their_losses() -> None:
    random = np.random.default_rng(3)
    at = [(scale * random.lognormal(size=50)).tolist() for scale in (1e-31, 1e-169, 1e-20)]
    far = random.lognormal(size=50).tolist()
    (one,) = compare(started(on_bowl(*at, far), 50.0))
    called = {(p.first, p.second): p.called for p in one.pairs}
    assert {called[key] for key in ((0, 1), (0, 2), (1, 2))} == {"tied"}
    assert {called[i, 3] for i in range(3)} == {"better"}
    assert [rank.mean for rank in one.ranks] == [2.0, 2.0, 2.0, 4.0]
    assert [rank.first for rank in one.ranks] == [1.0, 1.0, 1.0, 0.0]


def test_differences_below_the_smallest_that_matters_are_ties() -> None:
    base = np.random.default_rng(8).lognormal(size=50)
    near, far = base + 0.009, base + 0.02
    results = started(on_bowl(base.tolist(), near.tolist(), far.tolist()), 1.0)
    (without,) = compare(results)
    assert [pair.called for pair in without.pairs] == ["better"] * 3
    (one,) = compare(started(results, 1.0, smallest_differences={"bowl": 0.01}))
    assert [pair.called for pair in one.pairs] == ["tied", "better", "better"]
    assert one.pairs[1].shift == pytest.approx(-0.02)
    (other,) = compare(started(results, 1.0, smallest_differences={"bowl": 0.02001}))
    assert {pair.called for pair in other.pairs} == {"tied"}


def test_the_whole_page_can_share_the_level() -> None:
    random = np.random.default_rng(11)
    finals = {
        (f"o{i}", name, "cpu"): dict(enumerate(random.normal(size=12) + shift))
        for i in range(4)
        for name, shift in (("a", 0.0), ("b", 0.6), ("c", 0.9))
    }
    results = results_by_key(finals)
    each = compare(results)
    together = compare(started(results, 1.0, correction="page"))
    p = [pair.p for one in together for pair in one.pairs]
    assert p == [pair.p for one in each for pair in one.pairs]
    adjusted = [pair.adjusted for one in together for pair in one.pairs]
    assert adjusted == pytest.approx(holm_by_definition(p, 12))
    assert adjusted != pytest.approx([pair.adjusted for one in each for pair in one.pairs])
    assert {one.family for one in together} == {12}


def test_finite_losses_near_the_largest_number_are_compared_as_numbers() -> None:
    low, high = np.full(8, -1.7e308) * (1 - np.arange(8) / 100), np.full(8, 1.7e308)
    (pair,) = pairs(field_of([low, high]))
    assert (pair.called, pair.better, pair.both) == ("better", 8, 8)
    assert math.isfinite(pair.shift)


@pytest.mark.parametrize(("seeds", "told"), [(2, False), (3, False), (4, False), (5, True)])
def test_ranks_of_few_seeds_have_no_interval(seeds: int, told: bool) -> None:
    losses = np.random.default_rng(13).normal(size=(6, seeds))
    found, _ = ranks.ranks(field_of(losses))
    random = [
        rank for rank, row in zip(found, field_of(losses).ranks(), strict=True) if np.ptp(row)
    ]
    assert random
    assert all(math.isfinite(rank.low) is told for rank in random)


def test_where_the_optimum_is_known_cases_are_ordered_by_their_median() -> None:
    spread = [[1e-8, 1e-7, 9.0], [1e-3, 1e-2, 1e-1], [2.0, 2.0, INF]]
    assert field_of(spread).order() == [1, 0, 2]
    known = replace(field_of(spread), optimum=0.0)
    assert known.order() == [0, 1, 2]
    assert known.centres.tolist() == [1e-7, 1e-2, 2.0]
    assert (field_of(spread).centre, known.centre) == ("mean", "median")
