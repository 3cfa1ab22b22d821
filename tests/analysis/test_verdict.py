"""Verdicts and the headline: by hand, and whatever the order of optimizers and objectives."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from results_builders import make_case, make_objective, make_results

from harness.analysis.summary import analyse
from harness.reporting.tables import verdict as verdict_table
from harness.store.read import Results


def headline(results: Results) -> str:
    return verdict_table.headline(results, analyse(results))


def curves(losses: list[float]) -> dict[int, list[float]]:
    return {seed: [10.0, loss] for seed, loss in enumerate(losses)}


def spread(centre: float, seeds: int = 12) -> dict[int, list[float]]:
    return curves([centre + 0.01 * seed for seed in range(seeds)])


def results_of(*losses: tuple[str, str, dict[int, list[float]]], **settings: Any) -> Results:
    cases = [
        make_case(objective, optimizer, own, position=position)
        for position, (objective, optimizer, own) in enumerate(losses)
    ]
    return make_results(cases, **settings)


def test_outcomes_are_those_of_the_pairs_and_factors_are_of_the_gap_where_it_is_known() -> None:
    noise = [0.3, -0.3] * 6
    results = results_of(
        ("bowl", "slow", spread(4.0)),
        ("bowl", "fast", spread(2.0)),
        ("bowl", "near", curves([2.01 + 0.01 * s + noise[s] for s in range(12)])),
        ("bowl", "gone", curves([math.nan] * 12)),
        optimum=1.0,
    )
    trials = results.trials
    trials.loc[trials["optimizer"] == "gone", "status"] = "diverged"
    (verdict,) = analyse(results).verdicts
    found = {name: (e.outcome, e.failed) for name, e in verdict.by_optimizer.items()}
    assert found == {
        "fast": ("best", 0),
        "near": ("not significantly different", 0),
        "slow": ("worse", 0),
        "gone": ("failed", 12),
    }
    # Medians are 2.055 and 4.055, the optimum is 1.
    assert verdict.by_optimizer["slow"].factor == pytest.approx(3.055 / 1.055)
    assert verdict.is_gap
    assert verdict.is_tested
    assert not verdict.is_clear


def test_where_every_seed_ends_alike_nothing_is_significant_and_three_digits_are_equal() -> None:
    results = results_of(
        ("bowl", "a", curves([1.0] * 12)),
        ("bowl", "b", curves([1.001] * 12)),
        ("bowl", "c", curves([1.5] * 12)),
    )
    (verdict,) = analyse(results).verdicts
    assert [(e.optimizer, e.outcome) for e in verdict.entries] == [
        ("a", "best"),
        ("b", "equal to 3 digits"),
        ("c", "worse"),
    ]
    assert not verdict.is_tested
    assert headline(results) == "Lowest loss on bowl: a (b equal)."


def test_a_case_with_failures_is_behind_one_without_whatever_their_losses() -> None:
    results = results_of(
        ("bowl", "low", curves([0.1] * 11 + [math.nan])), ("bowl", "sure", curves([0.2] * 12))
    )
    trials = results.trials
    trials.loc[trials["final_loss"].isna(), "status"] = "diverged"
    (verdict,) = analyse(results).verdicts
    assert verdict.entries[0].optimizer == "sure"
    assert headline(results).endswith("1 of 24 trials failed.")


def test_one_seed_is_compared_by_its_loss_alone() -> None:
    (verdict,) = analyse(
        results_of(("bowl", "a", curves([1.0])), ("bowl", "b", curves([2.0])))
    ).verdicts
    assert [(e.outcome, math.isnan(e.p)) for e in verdict.entries] == [
        ("best", True),
        ("worse", True),
    ]
    alone = results_of(("bowl", "a", curves([1.0])), ("bowl", "b", curves([2.0])))
    assert headline(alone) == "Lowest loss on bowl (one seed): a."


def test_an_optimizer_alone_is_no_winner() -> None:
    results = results_of(("bowl", "a", spread(1.0)))
    assert headline(results).startswith("Nothing to compare: no objective has more than one")


@pytest.mark.parametrize(
    ("winners", "expected"),
    [
        ("aa", "Lowest loss on both objectives: a; significantly better than every other"),
        ("ab", "Lowest loss: a on o0 and b on o1; significantly better than every other"),
        ("aaab", "Lowest loss: a on 3 of 4 objectives and b on 1; significantly better than"),
        ("a", "Lowest loss on o0: a, significantly better than b and c (p = 0.0015)."),
    ],
)
def test_the_headline_names_who_has_the_lowest_loss_where(winners: str, expected: str) -> None:
    losses = [
        (f"o{i}", name, spread(1.0 if name == winner else 2.0 + (name == "c")))
        for i, winner in enumerate(winners)
        for name in "abc"
    ]
    # Holm: of three pairs of 12 seeds each with p = 2 / 2**12, all have three times that.
    assert headline(results_of(*losses)).startswith(expected)


def test_the_headline_does_not_depend_on_the_order_of_anything() -> None:
    drawn = random.Random(0)
    losses = [
        (objective, optimizer, curves([drawn.choice([1.0, 1.0, drawn.random()])] * seeds))
        for (objective, seeds) in (("o1", 1), ("o2", 1), ("o3", 1))
        for optimizer in ("a", "b", "c")
    ]
    found = set()
    for order in itertools.permutations(range(3)):
        for turned in (losses, losses[::-1]):
            places = dict(zip("abc", order, strict=True))
            moved = sorted(turned, key=lambda one: places[one[1]])
            found.add(headline(results_of(*moved)))
    assert len(found) == 1


def test_settings_of_an_optimizer_are_taken_at_their_best_in_whatever_order() -> None:
    one = make_case("bowl", "a", spread(3.0), setting="lr=1")
    two = make_case("bowl", "a", spread(1.0), setting="lr=2")
    other = make_case("bowl", "b", spread(2.0))
    for cases in itertools.permutations([one, two, other]):
        placed = [replace(case, position=i) for i, case in enumerate(cases)]
        (verdict,) = analyse(make_results(placed)).verdicts
        assert [entry.case.label for entry in verdict.entries] == ["a (lr=2)", "b"]
        assert headline(make_results(placed)).startswith("Lowest loss on bowl: a, significantly")


def test_what_was_not_available_is_named() -> None:
    results = results_of(
        ("bowl", "a", spread(1.0)), ("bowl", "b", spread(2.0)), missing={"cuda": "no device"}
    )
    assert headline(results).endswith("; CUDA is not available.")


def test_the_summary_table_has_the_numbers_of_the_verdicts() -> None:
    results = make_results(
        [
            make_case("bowl", "a", spread(1.0), position=0),
            make_case("bowl", "b", spread(2.0), position=1),
        ],
        objectives={"bowl": make_objective("bowl", optimum=0.5)},
    )
    analysis = analyse(results)
    table = verdict_table.summary(results, analysis)
    assert table is not None
    assert table.frame["outcome"].tolist() == ["best", "worse"]
    assert table.frame["factor"].tolist() == pytest.approx([1.0, 1.555 / 0.555])
    assert table.shown["verdict"].tolist() == ["best", "worse: ×2.80 the gap (p = 0.00049)"]
