"""The table of all metrics by part, and of trials that stopped early."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.stats
from held_out import ACCURACY, digits, results_of, trained
from results_builders import make_case, make_results

from harness.analysis.summary import analyse
from harness.reporting.tables import metrics, sentences, stopped
from harness.reporting.tables.metrics import part_values
from harness.reporting.tables.model import Table
from harness.store.read import CaseData


def two() -> list[CaseData]:
    return [trained("low", 0.6), trained("high", 0.9, position=1)]


def rows_of(table: Table | None) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of the table by metric and optimizer."""
    assert table is not None
    rows: list[dict[str, Any]] = [
        {str(name): value for name, value in row.items()} for row in table.frame.to_dict("records")
    ]
    return {(row["metric"], row["optimizer"]): row for row in rows}


def test_a_row_has_the_mean_of_each_part_and_the_gap_of_seeds() -> None:
    cases = two()
    rows = rows_of(metrics.metrics(results_of(cases)))
    for case in cases:
        for metric, sign in (("loss", 1.0), ("accuracy", -1.0)):
            row = rows[metric, case.optimizer]
            for part in ("train", "validation", "test"):
                values = case.curves[f"{part} {metric}"][:, -1]
                assert row[part] == pytest.approx(values.mean())
                assert row[f"{part}_sd"] == pytest.approx(values.std(ddof=1))
                assert row[f"{part}_ci_low"] < row[part] < row[f"{part}_ci_high"]
            gaps = sign * (
                case.curves[f"test {metric}"][:, -1] - case.curves[f"train {metric}"][:, -1]
            )
            assert row["gap"] == pytest.approx(gaps.mean())
            # Paired by seed: far narrower than the difference of two means would be.
            half = scipy.stats.t.ppf(0.975, len(gaps) - 1) * scipy.stats.sem(gaps)
            assert row["gap_ci_high"] - row["gap_ci_low"] == pytest.approx(2 * half, rel=0.5)
            assert row["gap"] > 0  # test is worse than train, of loss and of accuracy alike


def test_the_best_comes_first_in_each_metric_whatever_its_direction() -> None:
    for cases in (two(), two()[::-1]):
        table = metrics.metrics(results_of(cases))
        assert table is not None
        shown = table.shown[["optimizer", "metric"]].to_numpy().tolist()
        names = ("loss", "accuracy (higher is better)")
        assert shown == [[name, metric] for metric in names for name in ("high", "low")]


def test_without_a_test_part_the_gap_is_to_validation() -> None:
    info = digits(part_rows={"validation": 10}, measure=dataclasses.replace(ACCURACY, part="train"))
    case = trained("a", 0.8)
    kept = {name: own for name, own in case.curves.items() if not name.startswith("test")}
    case = dataclasses.replace(case, curves=kept, losses=kept["train accuracy"])
    results = dataclasses.replace(
        results_of([trained("a", 0.8)]), objectives={"digits": info}, cases=(case,)
    )
    loss, accuracy = part_values(results, case)
    assert loss.gap_words == "validation loss − train loss"
    assert accuracy.gap_words == "train accuracy − validation accuracy"
    expected = kept["train accuracy"][:, -1] - kept["validation accuracy"][:, -1]
    np.testing.assert_allclose(accuracy.gaps, expected)


def test_the_loss_on_train_alone_has_no_such_table() -> None:
    assert metrics.metrics(make_results([make_case(curves={0: [2.0, 1.0]})])) is None


def test_a_failed_trial_is_in_no_mean() -> None:
    case = trained("a", 0.8)
    results = results_of([case])
    results.trials.loc[0, "status"] = "diverged"
    table = metrics.metrics(results)
    assert table is not None
    assert table.frame["n"].tolist() == [7, 7]
    own = case.curves["test accuracy"][1:, -1]
    assert table.frame.loc[1, "test"] == pytest.approx(own.mean())


# ---- stopped trials


STOPS = {0: {0: 3, 2: 5, 5: 8}}


def test_stopped_trials_are_counted_with_their_steps() -> None:
    results = results_of(two(), STOPS)
    table = stopped.stopped(results)
    assert table is not None
    (row,) = table.frame.to_dict("records")
    steps = [8, 16, 28]  # the third, fifth and eighth record, each 4 steps after the last
    assert (row["optimizer"], row["trials"], row["reason"]) == ("low", 3, "all targets are reached")
    assert (row["first_step"], row["median_step"], row["last_step"]) == (8, 16, 28)
    assert row["median_step"] == np.median(steps)
    assert table.shown[["trials", "median epoch", "step"]].to_numpy().tolist()[0] == [
        "3 of 8",
        "4",
        "8 to 28",
    ]
    assert stopped.sentence(results, "digits") == (
        "3 of 16 trials on digits stopped early (all targets are reached), at a median of 16 of 40 "
        "steps; each counts with the value at which it stopped."
    )


def test_nothing_is_said_of_stopping_where_no_trial_stopped() -> None:
    results = results_of(two())
    assert stopped.stopped(results) is None
    assert stopped.sentence(results, "digits") == ""


def test_means_take_the_value_at_which_a_trial_stopped() -> None:
    cases = two()
    row = rows_of(metrics.metrics(results_of(cases, STOPS)))["accuracy", "low"]
    values = cases[0].curves["test accuracy"]
    ends = [values[seed, STOPS[0].get(seed, 11) - 1] for seed in range(8)]
    assert row["test"] == pytest.approx(np.mean(ends))


@pytest.mark.parametrize(("last", "said"), [(np.nan, ""), (1e9, " (1 of these at a finite loss")])
def test_only_a_trial_with_a_loss_at_its_end_is_said_to_have_diverged_at_a_finite_one(
    last: float, said: str
) -> None:
    results = results_of(two())
    case = results.cases[0]
    for name, values in case.curves.items():
        values[0, 5:] = np.nan if name.endswith("loss") else 0.1
    case.curves["train loss"][0, 5:] = last
    results.trials.loc[0, "status"] = "diverged"
    (text,) = sentences.summarise(results, analyse(results)).trouble
    assert text.startswith(f"Of 16 trials, 1 diverged{said}")
    assert ("finite" in text) is bool(said)
