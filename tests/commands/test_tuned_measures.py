"""Tuning by one part and report of another, with planted settings: each part prefers its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from planted import CENTRES, LEARNING_RATES, ROWS, STEPS, run

from harness.analysis.summary import analyse
from harness.measures import Measure


def weights_seen(folder: Path, part: str) -> set[float]:
    """The weights at which the rows of a part were evaluated."""
    lines = (folder / "objectives" / "seen.jsonl").read_text().splitlines()
    return {round(weight, 9) for rows, weight in map(json.loads, lines) if rows == ROWS[part]}


def along(lr: float) -> set[float]:
    return {round(step * lr, 9) for step in range(STEPS + 1)}


@pytest.mark.parametrize(
    ("keys", "goal", "best"),
    [
        ("tune: train loss", "sweep: 0", 0.1),
        ("tune: validation accuracy", "sweep: 0", 0.01),
        ("", "sweep: 0", 0.01),  # by default the loss on validation
        # At steps of 0.1 the weight is within 0.05 of 0.1 after one step; of 0.01, after five.
        # Only steps of 0.001 and 0.01 come within 0.02 of 0.01, and tuning never knows.
        (
            "targets: [{validation accuracy: 0.95}, {test accuracy: 0.98}]",
            "goal: time_to_target, sweep: 0",
            0.1,
        ),
        ("stop: {after: 3 records without a higher test accuracy}", "sweep: 0", 0.01),
    ],
)
def test_each_part_prefers_its_own_setting_and_tuning_never_sees_test(
    tmp_path: Path, keys: str, goal: str, best: float
) -> None:
    results = run(tmp_path, keys, goal)
    (case,) = results.cases
    assert case.hyperparameters == {"lr": best}
    tried = [one.hyperparameters["lr"] for one in results.tried if one.role == "tuning"]
    assert set(tried) == set(LEARNING_RATES)
    # What is looked at on test is the start, to learn what is computed, and the chosen setting.
    seen = weights_seen(tmp_path, "test")
    assert max(seen) > 0
    assert seen <= along(best)
    assert weights_seen(tmp_path, "train") > along(best)
    reported = Measure("accuracy", "test", higher=True)
    assert results.objectives["planted"].measure == reported
    finals = results.trials["final_loss"].to_numpy(dtype=float)
    np.testing.assert_allclose(finals, case.finals)


def test_the_best_so_far_is_of_what_is_tuned(tmp_path: Path) -> None:
    results = run(tmp_path, "tune: validation accuracy", "sweep: 0")
    found = analyse(results)
    (tuned,) = found.tuned
    measure = Measure("accuracy", "validation", higher=True)
    assert tuned.measure == tuned.shown == measure
    assert tuned.best == {"lr": 0.01}
    means = {t.hyperparameters["lr"]: float(t.losses.mean()) for t in tuned.settings}
    for lr in LEARNING_RATES:
        assert means[lr] == pytest.approx(1 - abs(STEPS * lr - CENTRES["validation"]))
    (so_far,) = found.best_so_far
    assert so_far.measure == measure
    assert so_far.band(0.25)[0][-1] == pytest.approx(max(means.values()))


def test_a_sweep_is_of_what_is_tuned_and_best_where_that_is_best(tmp_path: Path) -> None:
    keys, search = "tune: validation accuracy", "{log_uniform: [0.001, 0.1]}"
    results = run(tmp_path, keys, "sweep: 9", search)
    (curve,) = analyse(results).curves
    assert curve.measure == Measure("accuracy", "validation", higher=True)
    for point in curve.points:
        away = abs(STEPS * point.value - CENTRES["validation"])
        assert point.mean == pytest.approx(1 - away)
    best = min(curve.points, key=lambda p: abs(STEPS * p.value - CENTRES["validation"]))
    assert curve.best_point == best
