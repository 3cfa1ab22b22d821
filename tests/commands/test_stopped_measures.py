"""Trials that a rule of the spec ends early: their last values, and the steps that they used."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from planted import CENTRES, STEPS, run

from harness.analysis.comparison import groups
from harness.analysis.targets import reached
from harness.measures import Measure
from harness.store import recorded
from harness.store.database import Store


def test_a_trial_that_stops_at_a_target_ends_with_what_was_recorded_there(tmp_path: Path) -> None:
    keys = (
        "tune: validation accuracy\n"
        "    targets: [{validation accuracy: 0.95}, {test accuracy: 0.995}]\n"
        "    stop: {at: first target}"
    )
    results = run(tmp_path, keys)
    (case,) = results.cases
    lr = case.hyperparameters["lr"]
    assert lr == 0.1  # tuning trials stop within 0.05 of 0.1: at 0.1 itself, or at 0.05
    # The weight is at 0.1 after a step: within 0.05 of what validation wants.
    accuracy = Measure("accuracy", "test", higher=True)
    assert results.trials["step"].tolist() == [1, 1]
    assert results.trials["status"].tolist() == ["ok", "ok"]
    final = 1 - abs(lr - CENTRES["test"])
    np.testing.assert_allclose(case.finals, final)
    np.testing.assert_allclose(results.trials["final_loss"], final)
    assert np.isnan(case.losses[:, 2:]).all()
    (group,) = groups(results)
    np.testing.assert_allclose(group.losses, -final)
    found = reached(results, group)
    assert found is not None
    assert found.steps[:, 0].tolist() == [[1, 1], [math.inf, math.inf]]
    assert found.used.tolist() == [[1, 1]]
    assert found.used_evaluations.tolist() == [[1, 1]]
    # So has the check it.
    path = tmp_path / "reports" / "planted" / "results.sqlite"
    with Store(path) as store:
        endings = recorded.endings(store, {case.key: accuracy}, [1, 2])[case.key]
    assert [trial.step for trial in endings] == [1, 1]
    np.testing.assert_allclose([trial.final or 0.0 for trial in endings], final)


def test_a_trial_that_gets_no_better_ends_with_its_last_record(tmp_path: Path) -> None:
    keys = "tune: validation accuracy\n    stop: {after: 2 records without a higher test accuracy}"
    results = run(tmp_path, keys)
    (case,) = results.cases
    assert case.hyperparameters == {"lr": 0.01}
    # At 0.01 after one step, which is best; two more records are no better.
    assert results.trials["step"].tolist() == [3, 3]
    np.testing.assert_allclose(case.finals, 1 - abs(0.03 - CENTRES["test"]))
    # Tuning doesn't look at test, and so doesn't stop by it.
    tried = next(t for t in results.tried if t.hyperparameters["lr"] == 0.01)
    np.testing.assert_allclose(tried.losses, 1 - abs(STEPS * 0.01 - CENTRES["validation"]))
