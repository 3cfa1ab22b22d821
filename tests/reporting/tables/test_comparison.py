"""The comparison's tables: the records' numbers, in columns that stay, and back from CSV."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from results_builders import (
    Ending,
    finals,
    make_blocks,
    make_case,
    make_objective,
    make_results,
    make_trials,
)

from harness import formatting
from harness.analysis import comparison
from harness.analysis.summary import Analysis, analyse
from harness.formatting import DASH
from harness.plan.model import Role
from harness.reporting.tables.comparison import build, differences, parity, ranks, reached
from harness.reporting.tables.model import Table
from harness.store.read import CaseData, Results, Tried

NAN = math.nan
STEPS = 4

Curve = Sequence[float]
"""Losses at steps 0, 2 and 4, as far as a trial got."""

Points = Sequence[tuple[float, float]]


def curve_case(
    objective: str,
    optimizer: str,
    curves: Mapping[int, Curve],
    *,
    points: Mapping[int, Points] | None = None,
    role: Role = "given",
    setting: str = "",
    device: str = "cpu",
    **hyperparameters: Any,
) -> CaseData:
    """A case by its losses, by seed, and where its parameters went."""
    return make_case(
        objective,
        optimizer,
        curves,
        records=3,
        role=role,
        setting=setting or (role if role != "given" else ""),
        device=device,
        hyperparameters=hyperparameters,
        trajectories={seed: np.array(own, dtype=float) for seed, own in (points or {}).items()},
    )


def results_of_cases(
    *cases: CaseData,
    failed: Mapping[tuple[int, int], str] | None = None,
    seconds: float | None = None,
    optimum: float | None = None,
    **more: Any,
) -> Results:
    """Results of cases; by position and seed, how failed trials ended."""
    known = [replace(case, position=position) for position, case in enumerate(cases)]
    endings: list[dict[int, Ending]] = [{**finals(case)} for case in known]
    for (position, seed), status in (failed or {}).items():
        endings[position][seed] = status
    records = {"steps": STEPS, "record_steps": (0, 2, STEPS), "optimum": optimum}
    return make_results(
        known,
        make_trials(known, endings),
        objectives={c.objective: make_objective(c.objective, **records) for c in cases},
        blocks=[
            block
            for case in known
            if seconds
            for block in make_blocks(case.position, [10 * seconds])
        ],
        **more,
    )


def tried_of(lr: float, losses: Sequence[float], role: Role = "tuning") -> Tried:
    statuses = tuple("diverged" if math.isnan(loss) else "ok" for loss in losses)
    varied = "lr" if role == "sweep" else ""
    return Tried(role, "bowl", "t", "cpu", {"lr": lr}, varied, statuses, np.array(losses))


SEEDS = range(8)
TRUE_LOSSES = np.random.default_rng(4).lognormal(size=(8, len(SEEDS)))


def everything() -> Results:
    """Two objectives, a tuned optimizer, failures, targets, claims and counterparts."""
    cases = []
    for i, (objective, optimizer, role) in enumerate(
        [
            ("bowl", "a", "given"),
            ("bowl", "b", "given"),
            ("bowl", "t", "tuned"),
            ("bowl", "t", "defaults"),
            ("line", "a", "given"),
            ("line", "b", "given"),
            ("line", "t", "tuned"),
            ("line", "t", "defaults"),
        ]
    ):
        curves = {s: [8.0, 4.0, float(TRUE_LOSSES[i, s]) + i / 2] for s in SEEDS}
        more: dict[str, Any] = {"lr": 0.1} if role != "defaults" else {}
        cases.append(curve_case(objective, optimizer, curves, role=role, **more))  # type: ignore[arg-type]
    return results_of_cases(
        *cases,
        failed={(1, 2): "diverged", (1, 5): "error", (6, 0): "timeout"},
        tried=[
            *(tried_of(lr, own) for lr, own in [(0.1, [1.0, 2.0]), (1.0, [NAN, 1.0])]),
            *(tried_of(lr, own, "sweep") for lr, own in [(0.1, [1.0, 2.0]), (1.0, [NAN, 1.0])]),
        ],
        seconds=0.5,
        searches={"t": {"lr": {"log_uniform": [0.01, 1.0]}}},
        fixed={"t": {"line": ["lr"]}},
        tuning_seeds=[100, 101],
        targets={
            name: {"given": [{"value": 1.0}, {"value": 4.0}], "tolerances": None}
            for name in ("bowl", "line")
        },
        claims=[
            {"value": "1.5", "source": "p. 1", "optimizer": "b", "objective": "bowl"},
            {"value": "9", "source": "p. 2", "optimizer": "a", "objective": "line"},
        ],
        counterparts={"a": {"optimizer": "b", "because": "another eps"}},
    )


CASE = ["objective", "optimizer", "setting", "device"]
COLUMNS = {
    "ranks": [
        *CASE,
        *("mean_rank", "ci_low", "ci_high", "first_share", "of", "n", "failed", "friedman_p"),
    ],
    "differences": [
        *("objective", "device", "case", "called", "decided_by_failures", "against", "shift"),
        *("ci_low", "ci_high", "p_holm", "p", "rank_biserial", "better", "worse"),
        *("n", "both_ok"),
        *("case_failed", "against_failed"),
    ],
    "targets": [
        *CASE,
        *("target", "target_loss", "tolerance", "reached", "n", "share_ci_low", "share_ci_high"),
        *("ert_steps", "ert_evaluations", "ert_seconds", "failed"),
    ],
    "profile": [
        *("optimizer", "device", "cost", "best", "best_ci_low", "best_ci_high"),
        *("within_2", "within_2_ci_low", "within_2_ci_high"),
        *("within_10", "within_10_ci_low", "within_10_ci_high"),
        *("solved", "solved_ci_low", "solved_ci_high", "problems", "seeds", "failed"),
    ],
    "tuning": [
        *("objective", "optimizer", "device", "hyperparameter", "space", "best", "edge"),
        *("tuning_loss", "settings", "tuning_trials", "failed"),
    ],
    "sensitivity": [
        *("objective", "optimizer", "device", "hyperparameter", "range", "points"),
        *("best", "at", "near_share", "failing_points", "failing_from", "failing_to"),
    ],
    "claims": [
        *CASE,
        *("quantity", "published", "source", "kind", "median", "low", "high", "percentile"),
        *(
            "p",
            "least_p",
            "standard_deviations",
            "noticed_below",
            "noticed_above",
            "verdict",
            "why",
            "n",
            "failed",
        ),
    ],
    "parity": [
        *CASE,
        *("counterpart", "parameters_apart", "at_step", "losses_apart"),
        *("losses_apart_relative", "because", "failed", "counterpart_failed"),
    ],
}
ROWS = {
    "ranks": 8,
    "differences": 2 * 6,
    "targets": 2 * 2 * 4,
    "profile": 4 * 2,
    "tuning": 1,
    "sensitivity": 1,
    "claims": 2,
    "parity": 2,
}


@pytest.fixture(scope="module")
def results() -> Results:
    return everything()


@pytest.fixture(scope="module")
def analysis(results: Results) -> Analysis:
    return analyse(results)


@pytest.fixture(scope="module")
def built(results: Results, analysis: Analysis) -> dict[str, Table]:
    return {table.name: table for table in build(results, analysis)}


def records(table: Table | None) -> list[dict[str, Any]]:
    assert table is not None
    return [{str(k): v for k, v in row.items()} for row in table.frame.to_dict("records")]


def same(value: Any) -> Any:
    return pytest.approx(value, rel=1e-15, abs=0, nan_ok=True)


def test_every_table_is_built_in_order_with_the_columns_that_scripts_rely_on(
    built: dict[str, Table],
) -> None:
    assert {name: list(table.frame.columns) for name, table in built.items()} == COLUMNS
    assert list(built) == list(COLUMNS)
    assert {name: len(table.frame) for name, table in built.items()} == ROWS


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_comes_back_from_csv_whole_and_has_as_many_rows_in_markdown(
    built: dict[str, Table], name: str
) -> None:
    table = built[name]
    texts = {c: str for c in table.frame if any(isinstance(cell, str) for cell in table.frame[c])}
    back = pd.read_csv(
        io.StringIO(table.to_csv()), dtype=texts, keep_default_na=False, na_values={
            c: [""] for c in table.frame.columns if c not in texts
        }
    )  # fmt: skip
    pd.testing.assert_frame_equal(
        back, table.frame, check_dtype=False, rtol=0, atol=0, check_exact=True
    )
    lines = [line for line in table.to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + ROWS[name]
    assert len({line.count("|") for line in lines}) == 1
    assert len(table.shown) == len(table.frame)
    assert all(cell != "" for cell in table.shown.to_numpy().ravel())


@pytest.mark.parametrize("name", COLUMNS)
def test_failed_trials_are_counted_in_every_table_and_shown(
    built: dict[str, Table], name: str
) -> None:
    columns = [c for c in built[name].frame.columns if c.endswith("failed") or "failing" in c]
    assert columns
    assert built[name].frame[columns].to_numpy(dtype=float).sum() > 0
    said = f"{built[name].note} {built[name].shown.to_string()}"
    assert "failed" in said.lower()


def test_the_differences_are_those_of_the_pairs(
    built: dict[str, Table], analysis: Analysis
) -> None:
    rows = iter(records(built["differences"]))
    for one in analysis.compared:
        for pair in one.pairs:
            row = next(rows)
            first, second = one.group.cases[pair.first], one.group.cases[pair.second]
            assert (row["objective"], row["device"]) == (one.group.objective, "cpu")
            assert (row["case"], row["against"]) == (first.label, second.label)
            values = {
                "shift": pair.shift,
                "ci_low": pair.low,
                "ci_high": pair.high,
                "rank_biserial": pair.effect,
                "better": pair.better,
                "worse": pair.worse,
                "p": pair.p,
                "p_holm": pair.adjusted,
            }
            for key, value in values.items():
                assert row[key] == same(value), key
            counts = (row["n"], row["both_ok"], row["case_failed"], row["against_failed"])
            assert counts == (pair.n, pair.both, *pair.failed)
            assert row["called"] == pair.called
    assert next(rows, None) is None


def test_a_difference_is_less_the_other_and_shown_with_its_failures(
    built: dict[str, Table],
) -> None:
    row, shown = records(built["differences"])[0], built["differences"].shown.iloc[0]
    expected = TRUE_LOSSES[0] - TRUE_LOSSES[1] - 0.5
    expected[[2, 5]] = -math.inf  # b failed there
    averages = [(a + b) / 2 for i, a in enumerate(expected) for b in expected[i:]]
    assert (row["case"], row["against"]) == ("a", "b")
    assert row["shift"] == pytest.approx(np.median(averages), rel=1e-12)
    assert (row["better"], row["worse"]) == ((expected < 0).sum(), (expected > 0).sum())
    assert (row["n"], row["both_ok"], row["against_failed"]) == (8, 6, 2)
    assert (shown["n"], shown["failed"]) == ("8", "0, 2")


def test_the_ranks_are_those_of_the_records(built: dict[str, Table], analysis: Analysis) -> None:
    rows = iter(records(built["ranks"]))
    for one in analysis.compared:
        assert len(one.ranks) == len(one.group.cases)
        for rank, case, failed in zip(
            one.ranks, one.group.cases, one.group.failures.tolist(), strict=True
        ):
            row = next(rows)
            assert (row["optimizer"], row["setting"]) == (case.optimizer, case.setting)
            found = [row[key] for key in ("mean_rank", "ci_low", "ci_high", "first_share")]
            assert found == same([rank.mean, rank.low, rank.high, rank.first])
            assert (row["of"], row["n"], row["failed"]) == (4, 8, failed)
            assert row["friedman_p"] == same(one.friedman)
    assert next(rows, None) is None


def test_the_targets_are_those_of_the_records(built: dict[str, Table], analysis: Analysis) -> None:
    rows = iter(records(built["targets"]))
    for known in analysis.reached:
        expected = known.expected_steps()
        for j, target in enumerate(known.targets):
            for i, case in enumerate(known.group.cases):
                row = next(rows)
                hits = int(np.isfinite(known.steps[j, i]).sum())
                interval = scipy.stats.binomtest(hits, 8).proportion_ci(method="wilson")
                assert (row["objective"], row["optimizer"]) == (case.objective, case.optimizer)
                assert (row["target_loss"], row["target"]) == (target.value, target.label)
                assert math.isnan(row["tolerance"])
                assert (row["reached"], row["n"]) == (hits, 8)
                ends = (row["share_ci_low"], row["share_ci_high"])
                assert ends == pytest.approx((interval.low, interval.high))
                assert row["ert_steps"] == same(expected[j, i])
                assert row["ert_seconds"] == pytest.approx(0.5 * expected[j, i])
                assert row["failed"] == known.group.failures[i]
    assert next(rows, None) is None


def test_a_target_that_none_reached_takes_forever() -> None:
    results = results_of_cases(
        curve_case("bowl", "a", {0: [8, 4, 4], 1: [8, 8, 8]}),
        curve_case("bowl", "b", {0: [8, 8, 1], 1: [8, 1, 8]}),
        targets={"bowl": {"given": [{"value": 1.0}], "tolerances": [0.5]}},
        optimum=0.0,
    )
    table = reached(analyse(results).reached)
    assert table is not None
    rows = records(table)
    assert [row["ert_steps"] for row in rows] == [math.inf, 3.0, 6.0, 3.0]
    assert [row["reached"] for row in rows] == [0, 2, 1, 2]
    assert [row["target"] for row in rows[::2]] == ["loss 1", "gap cut to 50%"]
    assert table.shown["ERT (steps)"].tolist() == ["∞", "3.00", "6.00", "3.00"]
    assert table.shown["ERT (s)"].tolist() == [DASH] * 4


def test_the_profile_is_of_the_contest_in_steps_and_in_seconds(
    built: dict[str, Table], analysis: Analysis
) -> None:
    (contest,) = analysis.pools
    assert contest.solvers == ("a", "b", "t (tuned)", "t (defaults)")
    best = contest.steps.min(axis=-1, keepdims=True)
    rows = records(built["profile"])
    assert [row["cost"] for row in rows] == ["steps"] * 4 + ["seconds"] * 4
    for i, (row, solver) in enumerate(zip(rows, contest.solvers * 2, strict=True)):
        costs = contest.steps[..., i % 4]
        for key, ratio in (("best", 1), ("within_2", 2), ("within_10", 10), ("solved", np.inf)):
            with np.errstate(invalid="ignore"):
                inside = np.isfinite(costs) & (costs <= ratio * best[..., 0])
            assert row[key] == pytest.approx(inside.mean())
        assert (row["optimizer"], row["problems"], row["seeds"]) == (solver, 4, 8)
    assert [row["failed"] for row in rows] == [0, 2, 1, 0] * 2


def test_tuning_sensitivity_and_claims_tell_their_records(
    built: dict[str, Table], analysis: Analysis
) -> None:
    (tuned,) = records(built["tuning"])
    assert (tuned["best"], tuned["tuning_loss"], tuned["failed"]) == (0.1, 1.5, 1)
    assert (tuned["settings"], tuned["tuning_trials"]) == (2, 4)
    (curve,) = records(built["sensitivity"])
    assert curve["near_share"] == same(analysis.curves[0].near())
    assert (curve["failing_points"], curve["failing_from"]) == (1, 1.0)
    claims = {found.claim.value: found for found in analysis.claims}
    for row in records(built["claims"]):
        found = claims.pop(row["published"])
        assert row["verdict"] == found.verdict
        assert (row["p"], row["percentile"]) == same((found.p, found.percentile))
        assert (row["n"], row["failed"]) == (len(found.values), found.failed)
    assert not claims


def test_where_nothing_was_compared_there_is_no_table() -> None:
    alone = results_of_cases(curve_case("bowl", "a", {0: [8, 4, 1]}))
    assert build(alone, analyse(alone)) == []
    once = results_of_cases(*(curve_case("bowl", name, {0: [8, 4, 1]}) for name in "ab"))
    compared = analyse(once).compared
    assert differences(compared) is None
    assert ranks(compared) is None


def test_where_all_seeds_agree_the_difference_has_no_test_interval_or_counts() -> None:
    ends = {"a": 1, "b": 2}
    alike = results_of_cases(
        *(
            curve_case("bowl", name, {s: [8, 4, end] for s in range(9)})
            for name, end in ends.items()
        )
    )
    compared = analyse(alike).compared
    table = differences(compared)
    assert table is not None
    (row,), (shown,) = records(table), table.shown.to_dict("records")
    assert (row["shift"], row["called"]) == (-1.0, "better")
    assert all(math.isnan(row[key]) for key in ("ci_low", "ci_high", "p", "p_holm"))
    dashes = ("95% interval", "better", "worse", "effect", "p", "p (Holm)")
    assert [shown[key] for key in dashes] == [DASH] * 6
    assert shown["verdict"] == "better"
    assert ranks(compared) is None


def test_of_more_cases_than_are_paired_the_note_says_so() -> None:
    random = np.random.default_rng(2)
    cases = [
        curve_case("bowl", f"o{i}", {s: [8, 4, float(random.random())] for s in range(3)})
        for i in range(comparison.MAX_PAIRED_CASES + 1)
    ]
    table = differences(analyse(results_of_cases(*cases)).compared)
    assert table is not None
    assert "Of more than 24 cases, the best 24 are paired; the correction is for all." in table.note
    assert len(table.frame) == 24 * 23 // 2


@pytest.mark.parametrize(
    ("p", "text"),
    [(NAN, DASH), (1.0, "1"), (0.04999, "0.05"), (1e-4, "0.0001"), (9.8e-5, "1e-04"), (0, "0e+00")],
)
def test_a_p_value_is_shown_with_two_digits(p: float, text: str) -> None:
    assert formatting.probability(p) == text


# ---- parity

WAY: dict[int, Points] = {0: [(0, 0), (1, 1), (2, 2)], 1: [(0, 0), (1, 0), (2, 0)]}


def twins(*cases: CaseData, **more: Any) -> Table | None:
    told = {"a": {"optimizer": "b", "because": "the sign of eps"}}
    return parity(results_of_cases(*cases, counterparts=told, **more))


def test_parity_is_the_largest_distance_of_trajectories_and_of_losses() -> None:
    other: dict[int, Points] = {0: [(0, 0), (1, 4), (2, 2)], 1: [(0, 0), (4, 4), (5, 0)]}
    table = twins(
        curve_case("bowl", "a", {0: [8, 4, 2], 1: [8, 2, 1]}, points=WAY),
        curve_case("bowl", "b", {0: [8, 4.5, 2], 1: [8, 2, 1.25]}, points=other),
    )
    (row,) = records(table)
    # Seed 0 is 3 apart at step 1; seed 1 is 5 apart at step 1, and 3 at step 2.
    assert (row["parameters_apart"], row["at_step"]) == (5, 1)
    assert row["losses_apart"] == 0.5
    assert row["losses_apart_relative"] == pytest.approx(0.5 / 4.5)
    assert (row["optimizer"], row["counterpart"]) == ("a", "b")
    assert row["because"] == "the sign of eps"


def test_parity_is_of_the_seeds_and_steps_that_both_have() -> None:
    table = twins(
        curve_case("bowl", "a", {0: [8, 4, 2], 2: [8, 4, 2]}, points=WAY),
        curve_case("bowl", "b", {2: [8, 3], 3: [0, 0, 0]}, points={1: [(0, 0), (1, 2)]}),
    )
    (row,) = records(table)
    assert (row["parameters_apart"], row["at_step"]) == (2, 1)
    assert (row["losses_apart"], row["losses_apart_relative"]) == (1, pytest.approx(1 / 3))


def test_equal_twins_are_nothing_apart_and_without_trajectories_not_known() -> None:
    curves: dict[int, Curve] = {0: [8, 4, 0]}
    (row,) = records(twins(curve_case("bowl", "a", curves), curve_case("bowl", "b", curves)))
    assert (row["losses_apart"], row["losses_apart_relative"]) == (0, 0)
    assert math.isnan(row["parameters_apart"])
    assert math.isnan(row["at_step"])


def test_twins_are_paired_by_their_settings_or_as_the_only_one_of_each() -> None:
    one: dict[int, Curve] = {0: [8, 4, 1]}
    two: dict[int, Curve] = {0: [8, 4, 2]}
    five: dict[int, Curve] = {0: [8, 4, 5]}
    table = twins(
        curve_case("bowl", "a", one, setting="lr=1"),
        curve_case("bowl", "a", two, setting="lr=2"),
        curve_case("bowl", "a", two, setting="lr=3"),
        curve_case("bowl", "b", five, setting="lr=2"),
        curve_case("bowl", "b", one, setting="lr=1"),
        # The only one of each, whatever their settings are called.
        curve_case("line", "a", one, setting="lr=1"),
        curve_case("line", "b", two, setting="eta=1"),
        # Another device, and an objective without the other.
        curve_case("line", "b", five, setting="lr=1", device="cuda"),
        curve_case("alone", "a", one),
        curve_case("single", "a", one, setting="x"),
        curve_case("single", "b", one, setting="y"),
        curve_case("single", "b", one, setting="z"),
        curve_case("other", "a", one, setting="x"),
        curve_case("other", "a", one, setting="y"),
        curve_case("other", "b", one, setting="z"),
    )
    found = [(row["objective"], row["setting"], row["losses_apart"]) for row in records(table)]
    assert found == [("bowl", "lr=1", 0), ("bowl", "lr=2", 3), ("line", "lr=1", 1)]


def test_without_a_twin_or_a_curve_of_it_there_is_no_parity() -> None:
    one: dict[int, Curve] = {0: [8, 4, 1]}
    assert twins(curve_case("bowl", "a", one), curve_case("bowl", "c", one)) is None
    assert twins(curve_case("bowl", "a", one), curve_case("bowl", "b", {})) is None
    assert (
        parity(results_of_cases(curve_case("bowl", "a", one), curve_case("bowl", "b", one))) is None
    )


def test_a_trial_that_left_for_infinity_hides_no_other_seeds_distance() -> None:
    off: Points = [(0, 0), (math.inf, 0), (math.inf, 0)]
    seeds: dict[int, Curve] = {0: [8, 4, 2], 1: [8, 4, 2], 2: [8, 4, 2]}
    one: dict[int, Points] = {0: WAY[0], 1: off, 2: WAY[1]}
    two: dict[int, Points] = {0: [(0, 0), (1, 6), (2, 2)], 1: off, 2: WAY[1]}
    (row,) = records(
        twins(
            curve_case("bowl", "a", seeds, points=one), curve_case("bowl", "b", seeds, points=two)
        )
    )
    assert (row["parameters_apart"], row["at_step"]) == (5, 1)


def test_losses_that_both_left_for_infinity_hide_no_other_difference() -> None:
    one: dict[int, Curve] = {0: [8, math.inf], 1: [8, 4, 2]}
    two: dict[int, Curve] = {0: [8, math.inf], 1: [8, 5, 2]}
    (row,) = records(
        twins(
            curve_case("bowl", "a", one),
            curve_case("bowl", "b", two),
            failed={(0, 0): "diverged", (1, 0): "diverged"},
        )
    )
    assert (row["losses_apart"], row["losses_apart_relative"]) == (1, pytest.approx(0.2))
