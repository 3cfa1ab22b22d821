"""Two comparisons whose every number was worked out apart from this code, in golden.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import make_plan
from numpy.typing import NDArray

from harness.analysis import profiles, rank_tests
from harness.analysis.summary import Analysis, analyse
from harness.reporting.tables import comparison as comparison_tables
from harness.reporting.tables.model import Table
from harness.results import Description, TrialResult
from harness.spec.validation import load
from harness.store import read
from harness.store.database import Store
from harness.store.records import RunSettings

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
    assert rank_tests.mean_ranks(losses).tolist() == [
        EXPECTED["ranks"][objective][name] for name in OPTIMIZERS
    ]
    statistic, p = rank_tests.friedman(losses)
    assert statistic == close(EXPECTED["friedman"][objective]["statistic"])
    assert p == close(EXPECTED["friedman"][objective]["p"])


def test_signed_rank_tests_their_effects_and_holms_adjustments() -> None:
    found = []
    for pair in EXPECTED["pairs"]:
        losses = dict(zip(OPTIMIZERS, final_losses(pair["objective"]), strict=True))
        result = rank_tests.signed_rank(losses[pair["first"]] - losses[pair["second"]])
        assert result.p == close(pair["p"])
        assert result.effect == close(pair["effect"])
        assert (result.n, result.zeros) == (6, pair["zeros"])
        found.append(result.p)
    assert rank_tests.holm(found).tolist() == close(
        [p["holm_of_all_six"] for p in EXPECTED["pairs"]]
    )
    for part in (slice(0, 3), slice(3, 6)):
        by_hand = [pair["holm"] for pair in EXPECTED["pairs"][part]]
        assert rank_tests.holm(found[part]).tolist() == close(by_hand)


def test_performance_profiles_and_runtime_distributions() -> None:
    expected = EXPECTED["performance_profile"]
    shares = np.array([expected["solved"][name] for name in OPTIMIZERS]) / expected["problems"]
    for band, row in zip(profiles.profile_bands(costs(), expected["taus"]), shares, strict=True):
        assert band.share == close(row)

    expected = EXPECTED["runtime_distribution"]
    shares = np.array([expected["reached"][name] for name in OPTIMIZERS]) / expected["runs"]
    for band, row in zip(profiles.runtime_bands(costs(), expected["budgets"]), shares, strict=True):
        assert band.share == close(row)


SPEC = """
suite: golden
seeds: 6
objectives:
  bowl: {class: quadratic_2d, steps: 80, targets: [1.0, 0.25]}
  valley: {class: quadratic_2d, steps: 80, arguments: {start: [1, 1]}, targets: [2.0, 0.5]}
optimizers:
  sgd: {class: torch.optim:SGD, hyperparameters: {lr: 0.1}}
  adagrad: {class: torch.optim:Adagrad}
  adam: {class: torch.optim:Adam}
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> read.Results:
    """The golden trials, through a store."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "golden.yaml").write_text(SPEC)
    plan = make_plan(load(folder / "golden.yaml"))
    description: dict[str, Any] = {
        "formula": "",
        "dimension": 2,
        "rows": 0,
        "steps": 80,
        "steps_per_epoch": 1,
        "record_steps": [0, 10, 20, 40, 80],
        "optimum": None,
        "minimizers": [],
        "window": None,
        "landscape": [],
        "data_source": "",
    }
    results = [
        TrialResult(
            case_key=case.key,
            seed=seed,
            status=trial["status"],
            step=trial["step"],
            reason="" if trial["status"] == "ok" else "made up",
            seconds=0.1,
            way="pointwise",
            losses=np.array(trial["losses"], dtype=np.float64),
        )
        for case in plan.cases
        for seed in SEEDS
        for trial in [TRIALS[case.objective.name, case.optimizer, seed]]
    ]
    targets = {
        name: {"given": [{"value": value} for value in values]}
        for name, values in GOLDEN["targets"].items()
    }
    settings = RunSettings.model_validate({"seeds": SEEDS, "machine": "m", "targets": targets})
    path = folder / "results.sqlite"
    with Store(path, create=True) as store:
        store.begin_run(
            plan,
            command="test",
            spec_file="golden.yaml",
            spec_text=SPEC,
            settings=settings,
            environment={},
            descriptions=dict.fromkeys(OBJECTIVES, Description(**description)),
            defaults={},
        )
        store.save_trials(results, "m")
        store.finish_run()
    return read.read(path)


@pytest.fixture(scope="module")
def analysis(stored: read.Results) -> Analysis:
    return analyse(stored)


def rows_of(table: Table | None) -> list[dict[str, Any]]:
    assert table is not None
    return [{str(key): cell for key, cell in row.items()} for row in table.frame.to_dict("records")]


def test_stored_trials_come_to_the_golden_ranks(analysis: Analysis) -> None:
    rows = iter(rows_of(comparison_tables.ranks(analysis.compared)))
    for objective in OBJECTIVES:
        ranks = np.array([EXPECTED["ranks"][objective][name] for name in OPTIMIZERS])
        for name, own in zip(OPTIMIZERS, ranks, strict=True):
            row = next(rows)
            assert (row["objective"], row["optimizer"]) == (objective, name)
            assert row["mean_rank"] == close(own.mean())
            # Tied for the lowest rank of the seed is best or tied.
            assert row["first_share"] == close((own == ranks.min(axis=0)).mean())
            assert row["failed"] == (1 if name == "adam" else 0)
            assert row["friedman_p"] == close(EXPECTED["friedman"][objective]["p"])
    assert next(rows, None) is None


def test_stored_trials_come_to_the_golden_tests_of_pairs(analysis: Analysis) -> None:
    rows = rows_of(comparison_tables.differences(analysis.compared))
    for row, pair in zip(rows, EXPECTED["pairs"], strict=True):
        names = (row["objective"], row["case"], row["against"])
        assert names == (pair["objective"], pair["first"], pair["second"])
        assert row["p"] == close(pair["p"])
        assert row["p_holm"] == close(pair["holm"])
        assert row["rank_biserial"] == close(pair["effect"])
        assert row["called"] == "not significantly different"
        first, second = (
            np.array([final_loss(TRIALS[pair["objective"], pair[key], s]) for s in SEEDS])
            for key in ("first", "second")
        )
        both = np.isfinite(first) & np.isfinite(second)
        both_failed = np.isinf(first) & np.isinf(second)
        less = np.subtract(first, second, out=np.zeros(6), where=~both_failed)
        averages = sorted((less[i] + less[j]) / 2 for i in range(6) for j in range(i, 6))
        assert row["shift"] == close(averages[10])  # the middle one of 21
        # Of six differences, 2 of 64 patterns of signs are as extreme as all of one sign.
        assert (row["ci_low"], row["ci_high"]) == close((averages[0], averages[20]))
        assert (row["better"], row["worse"]) == ((less < 0).sum(), (less > 0).sum())
        counts = (row["n"], row["both_ok"], row["case_failed"], row["against_failed"])
        assert counts == (6, both.sum(), (~np.isfinite(first)).sum(), (~np.isfinite(second)).sum())


def test_stored_trials_come_to_the_golden_running_times(analysis: Analysis) -> None:
    rows = iter(rows_of(comparison_tables.reached(analysis.reached)))
    for objective in OBJECTIVES:
        for j, target in enumerate(GOLDEN["targets"][objective]):
            for name in OPTIMIZERS:
                row = next(rows)
                steps, hits = EXPECTED["expected_running_time"][objective][name][j]
                found = (row["objective"], row["optimizer"], row["target_loss"])
                assert found == (objective, name, target)
                assert row["ert_steps"] == close(steps / hits)
                assert math.isnan(row["ert_seconds"])
                # Of a trial that reached its target and then failed, none is here.
                reached = EXPECTED["steps_to_target"][objective][name][j]
                assert row["reached"] == hits == sum(step is not None for step in reached)
    assert next(rows, None) is None


def test_stored_trials_come_to_the_golden_profile(analysis: Analysis) -> None:
    (contest,) = analysis.pools
    assert contest.solvers == OPTIMIZERS
    assert contest.objectives == OBJECTIVES
    assert contest.failed == (0, 0, 2)
    assert contest.seconds is None
    assert contest.steps.tolist() == costs().tolist()
    expected = EXPECTED["performance_profile"]
    shares = {name: np.array(expected["solved"][name]) / 24 for name in OPTIMIZERS}
    for band, name in zip(
        profiles.profile_bands(contest.steps, expected["taus"]), OPTIMIZERS, strict=True
    ):
        assert band.share == close(shares[name])
    for row, name in zip(
        rows_of(comparison_tables.profile(analysis.pools)), OPTIMIZERS, strict=True
    ):
        by_ratio = dict(zip(expected["taus"], shares[name], strict=True))
        assert (row["optimizer"], row["cost"]) == (name, "steps")
        assert (row["best"], row["within_2"]) == close((by_ratio[1], by_ratio[2]))
        solved = [
            step is not None
            for objective in OBJECTIVES
            for steps in EXPECTED["steps_to_target"][objective][name]
            for step in steps
        ]
        assert row["solved"] == close(np.mean(solved))
        assert (row["problems"], row["seeds"]) == (4, 6)
