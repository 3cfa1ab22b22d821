"""Two comparisons whose every number was worked out apart from this code, in golden.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness import profiles, stats

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text())
EXPECTED = GOLDEN["expected"]
OBJECTIVES = ("bowl", "valley")
OPTIMIZERS = ("sgd", "adagrad", "adam")
SEEDS = range(6)

TRIALS = {(t["objective"], t["optimizer"], t["seed"]): t for t in GOLDEN["trials"]}


def close(value: object) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def final_loss(trial: dict[str, Any]) -> float:
    return float(trial["losses"][-1]) if trial["status"] == "ok" else math.inf


def steps_to(trial: dict[str, Any], target: float) -> float:
    records = zip(trial["record_steps"], trial["losses"], strict=True)
    return next((float(step) for step, loss in records if loss <= target), math.inf)


def final_losses(objective: str) -> NDArray[np.float64]:
    """Of one objective, ``(optimizers, seeds)``."""
    return np.array(
        [[final_loss(TRIALS[objective, name, seed]) for seed in SEEDS] for name in OPTIMIZERS]
    )


def costs() -> NDArray[np.float64]:
    """Steps to the targets, ``(objectives and their targets, seeds, optimizers)``."""
    return np.array(
        [
            [[steps_to(TRIALS[objective, name, seed], target) for name in OPTIMIZERS]
             for seed in SEEDS]
            for objective in OBJECTIVES
            for target in GOLDEN["targets"][objective]
        ]
    )  # fmt: skip


def test_the_trials_are_a_full_set_with_a_divergence_an_error_and_ties() -> None:
    assert set(TRIALS) == {(o, n, s) for o in OBJECTIVES for n in OPTIMIZERS for s in SEEDS}
    statuses = [trial["status"] for trial in GOLDEN["trials"]]
    assert {status: statuses.count(status) for status in set(statuses)} == {
        "ok": 34, "diverged": 1, "error": 1
    }  # fmt: skip
    for trial in GOLDEN["trials"]:
        assert len(trial["record_steps"]) == len(trial["losses"])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_to_targets_and_expected_running_times(objective: str, name: str) -> None:
    trials = [TRIALS[objective, name, seed] for seed in SEEDS]
    found = np.array(
        [[steps_to(t, target) for t in trials] for target in GOLDEN["targets"][objective]]
    )
    read_off = [
        [math.inf if steps is None else steps for steps in row]
        for row in EXPECTED["steps_to_target"][objective][name]
    ]
    assert found.tolist() == read_off

    used = np.where(np.isfinite(found), found, [t["step"] for t in trials])
    times = profiles.expected_running_time(used, np.isfinite(found))
    by_hand = [steps / hits for steps, hits in EXPECTED["expected_running_time"][objective][name]]
    assert times.tolist() == close(by_hand)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ranks_and_friedmans_test(objective: str) -> None:
    losses = final_losses(objective)
    assert stats.mean_ranks(losses).tolist() == [
        EXPECTED["ranks"][objective][name] for name in OPTIMIZERS
    ]
    statistic, p = stats.friedman(losses)
    assert statistic == close(EXPECTED["friedman"][objective]["statistic"])
    assert p == close(EXPECTED["friedman"][objective]["p"])


def test_signed_rank_tests_their_effects_and_holms_adjustments() -> None:
    found = []
    for pair in EXPECTED["pairs"]:
        losses = dict(zip(OPTIMIZERS, final_losses(pair["objective"]), strict=True))
        result = stats.signed_rank(losses[pair["first"]] - losses[pair["second"]])
        assert result.p == close(pair["p"])
        assert result.effect == close(pair["effect"])
        assert (result.n, result.zeros) == (6, pair["zeros"])
        found.append(result.p)
    assert stats.holm(found).tolist() == close([p["holm_of_all_six"] for p in EXPECTED["pairs"]])
    for part in (slice(0, 3), slice(3, 6)):
        by_hand = [pair["holm"] for pair in EXPECTED["pairs"][part]]
        assert stats.holm(found[part]).tolist() == close(by_hand)


def test_performance_profiles_and_runtime_distributions() -> None:
    expected = EXPECTED["performance_profile"]
    shares = np.array([expected["solved"][name] for name in OPTIMIZERS]) / expected["problems"]
    ratios = profiles.performance_ratios(costs())
    found = profiles.performance_profile(ratios, expected["taus"])
    assert found == close(shares)
    for band, row in zip(profiles.profile_bands(costs(), expected["taus"]), shares, strict=True):
        assert band.share == close(row)

    expected = EXPECTED["runtime_distribution"]
    shares = np.array([expected["reached"][name] for name in OPTIMIZERS]) / expected["runs"]
    found = profiles.runtime_distribution(costs(), expected["budgets"])
    assert found == close(shares)
    for band, row in zip(profiles.runtime_bands(costs(), expected["budgets"]), shares, strict=True):
        assert band.share == close(row)
