"""Steps and seconds to targets, read off by hand from small curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from results_builders import (
    Ending,
    finals,
    make_blocks,
    make_case,
    make_objective,
    make_results,
    make_trials,
)

from harness.analysis import profiles
from harness.analysis.comparison import groups
from harness.analysis.targets import (
    OptimizerPool,
    Reached,
    optimizer_pools,
    places,
    reached,
    targets_of,
)
from harness.measures import Target
from harness.plan.measuring import TOLERANCES
from harness.plan.model import Role
from harness.reporting.tables import comparison as comparison_tables
from harness.store.read import Results

INF, NAN = math.inf, math.nan
RECORDS = [0, 10, 20, 40]


@dataclass
class CurveCase:
    """A case: by seed, the losses at the recorded steps; and how it ended unless ok."""

    optimizer: str
    curves: Mapping[int, Sequence[float]]
    objective: str = "bowl"
    setting: str = ""
    device: str = "cpu"
    role: Role = "given"
    endings: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    step_seconds: Sequence[float] = ()


def results_of_curves(
    *cases: CurveCase,
    optimum: float | None = 0.0,
    targets: Mapping[str, Mapping[str, Any]] | None = None,
) -> Results:
    """Results of cases whose trials ended ok after 40 steps unless they say otherwise."""
    known = [
        make_case(
            one.objective,
            one.optimizer,
            one.curves,
            records=len(RECORDS),
            position=position,
            setting=one.setting or (one.role if one.role != "given" else ""),
            device=one.device,
            role=one.role,
        )
        for position, one in enumerate(cases)
    ]
    endings: list[dict[int, Ending]] = [
        {**finals(case), **one.endings} for case, one in zip(known, cases, strict=True)
    ]
    trials = make_trials(known, endings)
    trials.loc[trials["status"] == "ok", "step"] = 40
    info = {"steps": 40, "record_steps": RECORDS, "optimum": optimum}
    return make_results(
        known,
        trials,
        objectives={one.objective: make_objective(one.objective, **info) for one in cases},
        blocks=[
            block
            for position, one in enumerate(cases)
            for block in make_blocks(position, [50 * s for s in one.step_seconds], steps=50)
        ],
        targets=targets or {},
    )


def losses(*values: float) -> dict[str, dict[str, Any]]:
    """What a spec has told: these losses are the targets on the bowl."""
    return {"bowl": {"given": [{"value": v} for v in values], "tolerances": None}}


def all_reached(results: Results) -> list[Reached]:
    found = [reached(results, one) for one in groups(results)]
    return [one for one in found if one is not None]


def only(results: Results) -> Reached:
    (found,) = all_reached(results)
    return found


# ---- which targets


@pytest.mark.parametrize(
    ("given", "optimum", "expected"),
    [
        (None, 0.0, [("tolerance", share) for share in TOLERANCES]),
        (None, None, []),
        ({"given": [], "tolerances": None}, 0.0, [("tolerance", share) for share in TOLERANCES]),
        (
            {"given": [{"value": 0.5}, {"value": 0.1}], "tolerances": None},
            0.0,
            [("value", 0.5), ("value", 0.1)],
        ),
        ({"given": [{"value": 0.5}], "tolerances": None}, None, [("value", 0.5)]),
        (
            {"given": [{"value": 0.5}], "tolerances": [0.2]},
            0.0,
            [("value", 0.5), ("tolerance", 0.2)],
        ),
        ({"given": [], "tolerances": [0.2]}, 0.0, [("tolerance", 0.2)]),
        ({"given": [{"value": 0.5}], "tolerances": [0.2]}, None, [("value", 0.5)]),
    ],
)
def test_targets_are_those_given_and_shares_of_the_way_where_the_optimum_is_known(
    given: dict[str, Any] | None, optimum: float | None, expected: list[tuple[str, float]]
) -> None:
    told = {} if given is None else {"bowl": given}
    results = results_of_curves(CurveCase("a", {0: [4, 3, 2, 1]}), optimum=optimum, targets=told)
    found = targets_of(results, results.objectives["bowl"])
    assert [(t.value, t.tolerance) for t in found] == [
        (value, None) if kind == "value" else (None, value) for kind, value in expected
    ]
    if not expected:
        assert all_reached(results) == []


def test_a_target_is_said_in_words() -> None:
    assert Target(value=0.25).label == "loss 0.25"
    assert Target(tolerance=0.001).label == "gap cut to 0.1%"


# ---- the steps to them


def test_a_target_is_reached_at_the_first_recorded_step_at_or_below_it() -> None:
    found = only(
        results_of_curves(
            CurveCase("a", {0: [4, 2, 1, 0.5], 1: [4, 0.5, 3, 3], 2: [4, 3.9, 3.9, 3.9]}),
            CurveCase("b", {0: [0.5, 9, 9, 9], 1: [4, NAN, 1, 1], 2: [2, 2, 2, 2]}),
            targets=losses(2.0, 0.5),
        )
    )
    assert found.steps.tolist() == [
        [[10, 10, INF], [0, 20, 0]],
        [[40, 10, INF], [0, INF, INF]],
    ]


def test_a_share_of_the_way_counts_from_each_trials_own_start() -> None:
    # The optimum is -1: ten percent left of 11 - -1 is 0.2, of 1 - -1 it is -0.8.
    found = only(
        results_of_curves(
            CurveCase("a", {0: [11, 0.3, 0.2, -1], 1: [1, 0.2, -0.7, -0.8]}),
            optimum=-1.0,
            targets={"bowl": {"given": [], "tolerances": [0.1]}},
        )
    )
    assert found.steps.tolist() == [[[20, 40]]]


def test_what_a_trial_reached_before_it_failed_it_has_reached() -> None:
    found = only(
        results_of_curves(
            CurveCase(
                "a",
                {0: [4, 0.1, 1e6], 1: [4, 0.1, 0.1, 0.1], 2: [4, 0.1]},
                endings={0: ("diverged", 20), 2: ("error", 13)},
            ),
            targets=losses(0.5),
        )
    )
    assert found.steps.tolist() == [[[10, 10, 10]]]
    assert found.used.tolist() == [[20, 40, 13]]


def test_only_the_seeds_that_all_cases_have_count() -> None:
    found = only(
        results_of_curves(
            CurveCase("a", {0: [4, 1, 1, 1], 3: [4, 3, 1, 1], 5: [4, 4, 4, 1]}),
            CurveCase("b", {5: [4, 1, 1, 1], 3: [4, 4, 4, 4]}),
            targets=losses(1.0),
        )
    )
    assert found.group.seeds.tolist() == [3, 5]
    assert found.steps.tolist() == [[[20, 40], [INF, 10]]]


def test_a_trial_whose_curve_was_not_kept_has_missed() -> None:
    made = results_of_curves(
        CurveCase("a", {0: [4, 1, 1, 1], 1: [4, 1, 1, 1]}), targets=losses(1.0)
    )
    (case,) = made.cases
    made = replace(made, cases=(replace(case, seeds=case.seeds[1:], losses=case.losses[1:]),))
    assert only(made).steps.tolist() == [[[INF, 10]]]


def test_expected_running_time_lets_a_miss_cost_all_it_took() -> None:
    found = only(
        results_of_curves(
            CurveCase(
                "a",
                {0: [4, 1, 1, 1], 1: [4, 4, 4, 4], 2: [4, 1, 1e9], 3: [4, 4, 1, 1]},
                endings={2: ("diverged", 15)},
            ),
            CurveCase("b", {seed: [4, 4, 4, 4] for seed in range(4)}),
            targets=losses(4.0, 1.0),
        )
    )
    # At once where the start is at the target. What diverged after its hit costs what the hit did.
    assert found.expected_steps().tolist() == [[0, 0], [(10 + 40 + 10 + 20) / 3, INF]]


def test_a_trial_that_diverged_before_its_target_costs_what_it_took() -> None:
    made = CurveCase("a", {0: [4, 1, 1, 1], 1: [4, 1e9]}, endings={1: ("diverged", 15)})
    assert only(results_of_curves(made, targets=losses(1.0))).expected_steps().tolist() == [
        [10 + 15]
    ]


def test_trials_that_take_the_same_course_are_copies_and_their_share_has_no_interval() -> None:
    found = only(
        results_of_curves(
            CurveCase("a", {seed: [4, 1, 1, 1] for seed in range(9)}),
            CurveCase("b", {seed: [4, 4, 1, 0.1 + seed / 9] for seed in range(9)}),
            targets=losses(1.5),
        )
    )
    assert found.copies.tolist() == [True, False]
    table = comparison_tables.reached([found])
    assert table is not None
    assert table.frame["share_ci_low"].isna().tolist() == [True, False]
    assert table.shown["reached"].tolist() == ["yes", "9 of 9"]
    assert table.shown["95% interval"].iloc[0] == "–"


def test_seconds_are_the_steps_at_the_median_time_per_step() -> None:
    curves = {0: [4.0, 1, 1, 1], 1: [4.0, 4, 4, 4]}
    found = only(
        results_of_curves(
            CurveCase("a", curves, step_seconds=[0.1, 0.9, 0.2]),
            CurveCase("b", curves, step_seconds=[0.5]),
            targets=losses(1.0),
        )
    )
    assert found.evaluation_seconds.tolist() == pytest.approx([0.2, 0.5])
    assert found.seconds is not None
    assert found.seconds.tolist() == [[pytest.approx([2.0, INF]), pytest.approx([5.0, INF])]]


def test_there_are_no_seconds_where_some_case_was_not_timed() -> None:
    curves = {0: [4.0, 1, 1, 1]}
    found = only(
        results_of_curves(
            CurveCase("a", curves, step_seconds=[0.1]), CurveCase("b", curves), targets=losses(1.0)
        )
    )
    assert found.seconds is None
    assert found.evaluation_seconds[0] == pytest.approx(0.1)
    assert math.isnan(found.evaluation_seconds[1])
    table = comparison_tables.reached([found])
    assert table is not None
    assert table.frame["ert_seconds"].tolist() == [
        pytest.approx(1.0),
        pytest.approx(NAN, nan_ok=True),
    ]


# ---- over all objectives

SOON, LATE, NEVER = [4.0, 1, 1, 1], [4.0, 4, 4, 1], [4.0, 4, 4, 4]


def contest_of(*cases: CurveCase, families: Mapping[str, str] | None = None) -> list[OptimizerPool]:
    names = {made.objective for made in cases}
    told = {name: {"given": [{"value": 1.0}], "tolerances": None} for name in names}
    return optimizer_pools(all_reached(results_of_curves(*cases, targets=told)), families or {})


def test_each_setting_of_a_grid_takes_part_by_itself_whatever_the_order_of_the_spec() -> None:
    cases = [
        CurveCase("a", {0: LATE}, setting="lr=1"),
        CurveCase("a", {0: SOON}, setting="lr=2"),
        CurveCase("b", {0: SOON}),
        CurveCase("a", {0: SOON}, "line", setting="lr=2"),
        CurveCase("a", {0: LATE}, "line", setting="lr=1"),
        CurveCase("b", {0: NEVER}, "line"),
    ]
    (found,) = contest_of(*cases)
    assert found.solvers == ("a (lr=1)", "a (lr=2)", "b")
    assert found.steps.tolist() == [[[40, 10, 10]], [[40, 10, INF]]]
    # In another order the same settings have the same steps.
    (turned,) = contest_of(*[cases[i] for i in (1, 0, 2, 4, 3, 5)])
    order = [turned.solvers.index(name) for name in found.solvers]
    assert turned.steps[:, :, order].tolist() == found.steps.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_no_order_of_settings_optimizers_or_objectives_changes_a_profile(seed: int) -> None:
    random = np.random.default_rng(seed)
    courses = [SOON, LATE, NEVER]
    cases = [
        CurveCase(name, {s: courses[random.integers(3)] for s in range(3)}, place, setting=setting)
        for place in ("bowl", "line", "far", "near", "flat")
        for name in "abc"
        for setting in ("lr=1", "lr=2")
    ]

    def shares(own: Sequence[CurveCase]) -> dict[str, list[float]]:
        (found,) = contest_of(*own)
        bands = profiles.profile_bands(found.steps, [1, 2, 4], families=found.problem_families)
        return {
            name: [*band.share.tolist(), *band.low.tolist(), *band.high.tolist()]
            for name, band in zip(found.solvers, bands, strict=True)
        }

    expected = shares(cases)
    turned = shares([cases[i] for i in random.permutation(len(cases))])
    assert turned.keys() == expected.keys()
    for name, numbers in expected.items():
        assert turned[name] == pytest.approx(numbers, rel=1e-12, nan_ok=True)


def test_a_setting_that_has_no_match_on_another_objective_is_left_out_by_name() -> None:
    (found,) = contest_of(
        CurveCase("a", {0: LATE}, setting="lr=1"),
        CurveCase("a", {0: SOON}, setting="lr=2"),
        CurveCase("b", {0: SOON}),
        CurveCase("a", {0: SOON}, "line", setting="lr=3"),
        CurveCase("b", {0: NEVER}, "line"),
        CurveCase("c", {0: SOON}, setting="lr=1"),
        CurveCase("c", {0: LATE}, "line", setting="lr=3"),
    )
    # Of c there is one setting on each: it goes by its name.
    assert found.solvers == ("b", "c")
    assert found.objectives == ("bowl", "line")
    assert found.steps.tolist() == [[[10, 10]], [[INF, 40]]]
    assert found.seconds is None
    assert found.left_out == ("a (lr=1)", "a (lr=2)", "a (lr=3)")


def test_related_objectives_are_of_one_family() -> None:
    cases = [
        CurveCase(name, {0: SOON}, place) for place in ("bowl", "line", "far") for name in "ab"
    ]
    (found,) = contest_of(*cases, families={"bowl": "near", "line": "near"})
    assert found.families == found.problem_families == ("near", "near", "far")
    assert not found.says_much
    (alone,) = contest_of(*cases)
    assert alone.families == ("bowl", "line", "far")


def test_a_tuned_optimizer_takes_part_tuned_and_once_more_at_its_defaults() -> None:
    (found,) = contest_of(
        *(
            made
            for objective in ("bowl", "line")
            for made in (
                CurveCase("a", {0: SOON}, objective, role="tuned"),
                CurveCase("a", {0: LATE}, objective, role="defaults"),
                CurveCase("b", {0: NEVER}, objective),
            )
        )
    )
    assert found.solvers == ("a (tuned)", "a (defaults)", "b")
    assert found.steps.tolist() == [[[10, 40, INF]]] * 2


def test_an_objective_with_one_entrant_compares_nothing_and_leaves_nobody_out() -> None:
    (found,) = contest_of(
        CurveCase("a", {0: SOON}),
        CurveCase("b", {0: LATE}),
        CurveCase("a", {0: SOON}, "alone"),
        CurveCase("a", {0: NEVER}, "line"),
        CurveCase("b", {0: LATE}, "line"),
    )
    assert found.objectives == ("bowl", "line")
    assert found.left_out == ()
    assert found.steps.tolist() == [[[10, 40]], [[INF, 40]]]


def test_an_optimizer_that_lacks_an_objective_is_left_out_by_name() -> None:
    (found,) = contest_of(
        CurveCase("c", {0: SOON}),
        CurveCase("a", {0: SOON}),
        CurveCase("b", {0: LATE}),
        CurveCase("a", {0: LATE}, "line"),
        CurveCase("b", {0: SOON}, "line"),
        CurveCase("d", {0: SOON}, "line"),
    )
    assert found.solvers == ("a", "b")
    assert found.left_out == ("c", "d")
    assert found.steps.tolist() == [[[10, 40]], [[40, 10]]]


@pytest.mark.parametrize(
    "cases",
    [
        # One objective; and two, but one optimizer alone ran on both.
        [CurveCase("a", {0: SOON}), CurveCase("b", {0: SOON})],
        [
            CurveCase("a", {0: SOON}),
            CurveCase("b", {0: SOON}),
            CurveCase("a", {0: SOON}, "line"),
            CurveCase("c", {0: SOON}, "line"),
        ],
        # No seed that both objectives have.
        [
            CurveCase("a", {0: SOON}),
            CurveCase("b", {0: SOON}),
            CurveCase("a", {1: SOON}, "line"),
            CurveCase("b", {1: SOON}, "line"),
        ],
    ],
)
def test_there_is_no_contest_without_two_of_each_and_a_seed(cases: list[CurveCase]) -> None:
    assert contest_of(*cases) == []
    assert comparison_tables.profile(contest_of(*cases)) is None


def test_a_contest_is_over_the_seeds_that_all_objectives_share() -> None:
    (found,) = contest_of(
        CurveCase("a", {0: NEVER, 2: SOON, 5: LATE}),
        CurveCase("b", {0: NEVER, 2: LATE, 5: SOON}),
        CurveCase("a", {2: LATE, 5: NEVER, 9: NEVER}, "line"),
        CurveCase("b", {2: NEVER, 5: SOON, 9: NEVER}, "line"),
    )
    # Problems, seeds 2 and 5, solvers.
    assert found.steps.tolist() == [[[10, 40], [40, 10]], [[40, INF], [INF, 10]]]


def test_each_device_has_a_contest_of_its_own() -> None:
    found = contest_of(
        *(
            CurveCase(name, {0: curve}, objective, device=device)
            for objective in ("bowl", "line")
            for device, curve in (("cpu", SOON), ("cuda", LATE))
            for name in ("a", "b")
        )
    )
    assert [(one.device, np.unique(one.steps).tolist()) for one in found] == [
        ("cpu", [10]),
        ("cuda", [40]),
    ]


def test_a_contest_in_seconds_weighs_each_optimizers_steps() -> None:
    (found,) = contest_of(
        CurveCase("a", {0: LATE}, step_seconds=[0.1]),
        CurveCase("b", {0: SOON}, step_seconds=[1.0]),
        CurveCase("a", {0: NEVER}, "line", step_seconds=[0.2]),
        CurveCase("b", {0: SOON}, "line", step_seconds=[2.0]),
    )
    assert found.seconds is not None
    assert found.seconds.ravel().tolist() == pytest.approx([4.0, 10.0, INF, 20.0])


def test_the_profile_tells_shares_of_problems_by_hand() -> None:
    contest = OptimizerPool(
        device="cpu",
        solvers=("a", "b"),
        cases=((), ()),
        objectives=("bowl", "line"),
        left_out=("c",),
        families=("bowl", "line"),
        problem_families=("bowl", "line"),
        failed=(0, 3),
        # Two problems, two seeds: a is best at 10, at 20 and ties at 5; nobody solves the last.
        steps=np.array([[[10, 20], [20, 400]], [[5, 5], [INF, INF]]], dtype=float),
        seconds=None,
    )
    table = comparison_tables.profile([contest])
    assert table is not None
    rows = {str(row["optimizer"]): row for row in table.frame.to_dict("records")}
    shares = ["best", "within_2", "within_10", "solved"]
    assert [rows["a"][share] for share in shares] == [0.75, 0.75, 0.75, 0.75]
    assert [rows["b"][share] for share in shares] == [0.25, 0.5, 0.5, 0.75]
    assert set(table.frame["cost"]) == {"steps"}
    assert table.frame[["problems", "seeds", "failed"]].to_numpy().tolist() == [
        [2, 2, 0],
        [2, 2, 3],
    ]
    # Two seeds and two objectives allow no more than this, with one degree of freedom.
    for name in "ab":
        assert rows[name]["best_ci_low"] < 0.05
        assert rows[name]["best_ci_high"] > 0.95
    assert "did not run on all of these objectives: c." in table.note


def test_what_misses_is_not_solved_at_any_ratio_and_no_cost_at_all_is_best() -> None:
    contest = OptimizerPool(
        device="cpu",
        solvers=("a", "b"),
        cases=((), ()),
        objectives=("bowl", "line"),
        left_out=(),
        families=("bowl", "line"),
        problem_families=("bowl", "line"),
        failed=(0, 0),
        # One problem's start is its target already.
        steps=np.array([[[0, 0]], [[INF, 40]]], dtype=float),
        seconds=np.array([[[0, 0]], [[INF, 4]]], dtype=float),
    )
    table = comparison_tables.profile([contest])
    assert table is not None
    assert table.frame["cost"].tolist() == ["steps", "steps", "seconds", "seconds"]
    assert table.frame["best"].tolist() == [0.5, 1.0, 0.5, 1.0]
    assert table.frame["solved"].tolist() == [0.5, 1.0, 0.5, 1.0]
    assert "Left out" not in table.note


def test_failed_trials_are_counted_by_optimizer_over_the_shared_seeds() -> None:
    (found,) = contest_of(
        CurveCase("a", {0: SOON, 1: SOON}, endings={1: ("diverged", 40), 2: ("error", 0)}),
        CurveCase("b", {0: SOON, 1: SOON, 2: SOON}),
        CurveCase("a", {0: SOON, 1: SOON}, "line", endings={0: ("timeout", 40), 1: ("error", 20)}),
        CurveCase("b", {0: SOON, 1: SOON}, "line", endings={0: ("error", 40)}),
    )
    # Seed 2, that one objective lacks, is in no count.
    assert found.failed == (3, 1)
    # What a trial reached before it failed it has reached.
    assert found.steps.tolist() == [[[10, 10], [10, 10]], [[10, 10], [10, 10]]]


def test_places_run_from_the_lowest_cost_to_a_little_beyond_the_highest() -> None:
    found = places(np.array([[4.0, INF], [0.0, 64.0]]))
    assert (found[0], found[-1]) == (pytest.approx(4.0), pytest.approx(64 * 1.05))
    assert np.ptp(np.diff(np.log(found))) < 1e-12
    assert places(np.array([INF, 0.0])).size == 0
