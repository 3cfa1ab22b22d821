"""Curves and tuning's findings against small ones whose every number is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from results_builders import make_case, make_results, make_trials

from harness.analysis.sensitivity import FACTOR, OUTER, Curve, Point, curves, tuned
from harness.plan.model import Role
from harness.reporting.tables import tuning as tuning_tables
from harness.spec.model import SpaceSpec
from harness.store.read import CaseData, Results, Tried

NAN = math.nan

Ending = float | str
"""A final loss, or the status a trial ended with."""


def setting_case(
    position: int,
    optimizer: str,
    hyperparameters: dict[str, Any],
    role: Role = "given",
    **more: Any,
) -> CaseData:
    """A case without curves, named by its setting."""
    return make_case(
        optimizer=optimizer,
        position=position,
        setting=role if role != "given" else str(hyperparameters),
        hyperparameters=hyperparameters,
        defaults=hyperparameters,
        role=role,
        **more,
    )


def results_of_settings(
    cases: Sequence[CaseData],
    endings: Sequence[Sequence[Ending]] | None = None,
    tried: Sequence[Tried] = (),
    **settings: Any,
) -> Results:
    """Results by how the trials of each case ended, one at 1 where nothing is given."""
    trials = make_trials(cases, [dict(enumerate(own)) for own in endings or [[1.0]] * len(cases)])
    return make_results(cases, trials, tried=tried, **settings)


def tried_of(
    hyperparameters: dict[str, Any],
    endings: Sequence[Ending],
    *,
    varied: str = "",
    optimizer: str = "a",
    device: str = "cpu",
) -> Tried:
    return Tried(
        role="sweep" if varied else "tuning",
        objective="bowl",
        optimizer=optimizer,
        device=device,
        hyperparameters=hyperparameters,
        varied=varied,
        statuses=tuple(ending if isinstance(ending, str) else "ok" for ending in endings),
        losses=np.array([NAN if isinstance(ending, str) else ending for ending in endings]),
    )


def space(kind: str, *ends: Any) -> SpaceSpec:
    return SpaceSpec.model_validate({kind: list(ends)})


def curve_of(
    over: SpaceSpec, values: Sequence[float], means: Sequence[float], optimum: float | None = None
) -> Curve:
    """A curve by its points; a mean that is not a number is a point at which a seed failed."""
    points = tuple(
        Point(value, 1.0 if math.isnan(mean) else mean, 0.0, 9.0, int(math.isnan(mean)))
        for value, mean in zip(values, means, strict=True)
    )
    return Curve("bowl", "a", "cpu", "lr", over, points, None, {}, optimum)


# ---- the share near the lowest


def test_near_is_the_part_of_the_range_that_is_nearest_to_points_within_twice_the_lowest() -> None:
    assert FACTOR == 2
    # At 0, 1/4, 1/2 and 1 of three decades and a bit: parts of 1/8, 1/4, 3/8 and 1/4.
    values = [1e-4, 1e-3, 1e-2, 1.0]
    curve = curve_of(space("log_uniform", 1e-4, 1.0), values, [5.0, 2.0, 1.0, 2.1])
    assert curve.near() == pytest.approx(1 / 4 + 3 / 8)
    assert curve.best_point == curve.points[2]
    assert curve.log


def test_near_on_a_scale_of_one_less_the_value() -> None:
    # 1 less: 1, 0.1, 0.01, 0.001, so at 0, 1/3, 2/3 and 1: parts of 1/6, 1/3, 1/3 and 1/6.
    over = space("one_minus_log_uniform", 0.0, 0.999)
    curve = curve_of(over, [0.0, 0.9, 0.99, 0.999], [2.0, 3.0, 1.0, 1.5])
    assert curve.near() == pytest.approx(1 / 6 + 1 / 3 + 1 / 6)
    assert not curve.log


def test_near_on_a_plain_scale_and_on_whole_numbers() -> None:
    means = [1.0, 9.0, 2.0]
    assert curve_of(space("uniform", 0, 10), [0, 2, 10], means).near() == pytest.approx(0.1 + 0.4)
    assert curve_of(space("integer", 1, 5), [1, 3, 5], means).near() == pytest.approx(0.5)


@pytest.mark.parametrize(("optimum", "near"), [(None, 1.0), (0.0, 1.0), (9.9, 0.25), (5.0, 1.0)])
def test_near_is_counted_from_the_optimum_where_that_is_known(
    optimum: float | None, near: float
) -> None:
    # 0.1 above the optimum of 9.9 is near; 0.3 above is not, though 10.2 is less than 2 * 10.
    curve = curve_of(space("uniform", 0, 1), [0, 0.5, 1], [10.0, 10.2, 10.2], optimum)
    assert curve.near() == pytest.approx(near)


def test_a_lowest_loss_a_rounding_below_the_optimum_is_near_itself() -> None:
    curve = curve_of(space("uniform", 0, 1), [0, 0.5, 1], [0.5 - 1e-9, 0.5, 0.6], 0.5)
    assert curve.near() == pytest.approx(0.75)


def test_a_point_at_which_a_seed_failed_is_neither_near_nor_lowest() -> None:
    curve = curve_of(space("uniform", 0, 1), [0, 0.5, 1], [3.0, 2.0, NAN])
    assert curve.points[2].mean < 2
    assert curve.best_point == curve.points[1]
    assert curve.near() == pytest.approx(0.75)
    assert curve.diverging() == (1.0,)


def test_where_every_point_failed_nothing_is_near() -> None:
    curve = curve_of(space("uniform", 0, 1), [0, 1], [NAN, NAN])
    assert curve.best_point is None
    assert math.isnan(curve.near())
    assert curve.diverging() == (0.0, 1.0)


# ---- edges


def edge(over: SpaceSpec, best: Any, drawn: Sequence[Any]) -> str:
    """What is said of a best value among those drawn; empty if nothing."""
    case = setting_case(0, "a", {"lr": best}, role="tuned")
    results = results_of_settings(
        [case],
        tried=[tried_of({"lr": value}, [1.0]) for value in drawn],
        searches={"a": {"lr": over.model_dump(mode="json", exclude_none=True)}},
    )
    (found,) = tuned(results)
    assert len(found.edges) <= 1
    return found.edges[0] if found.edges else ""


LOG = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]


@pytest.mark.parametrize(
    ("over", "best", "drawn", "which"),
    [
        (space("log_uniform", 1e-4, 1.0), 1e-2, LOG, ""),
        # Within a twentieth of the four decades, and just outside.
        (space("log_uniform", 1e-4, 1.0), 10 ** (-4 + 4 * 0.99 * OUTER), LOG, "lower"),
        (space("log_uniform", 1e-4, 1.0), 10 ** (-4 + 4 * 1.01 * OUTER), LOG, ""),
        (space("log_uniform", 1e-4, 1.0), 10 ** (-4 * 0.99 * OUTER), LOG, "upper"),
        (space("log_uniform", 1e-4, 1.0), 10 ** (-4 * 1.01 * OUTER), LOG, ""),
        # Inside, but nothing was drawn beyond it.
        (space("log_uniform", 1e-4, 1.0), 1e-3, LOG[2:], "lower"),
        (space("log_uniform", 1e-4, 1.0), 1e-1, LOG[:3], "upper"),
        (space("one_minus_log_uniform", 0.0, 0.99), 0.985, [0.0, 0.99], ""),
        (space("one_minus_log_uniform", 0.0, 0.99), 0.988, [0.0, 0.99], "upper"),
        (space("one_minus_log_uniform", 0.0, 0.99), 0.1, [0.0, 0.99], "lower"),
        (space("uniform", 0, 10), 0.4, [0.1, 9.9], "lower"),
        (space("uniform", 0, 10), 0.6, [0.1, 9.9], ""),
        (space("integer", 1, 5), 5, [1, 3, 5], "upper"),
        (space("integer", 1, 5), 2, [1, 3, 5], ""),
        (space("choice", "x", "y"), "x", ["x", "y"], ""),
    ],
)
def test_a_best_value_in_the_outer_twentieth_or_outermost_of_those_drawn_is_at_an_edge(
    over: SpaceSpec, best: Any, drawn: Sequence[Any], which: str
) -> None:
    text = edge(over, best, [best, *drawn])
    assert ("lower" in text, "upper" in text) == (which == "lower", which == "upper")
    if which:
        assert text.startswith(f"lr {best:g} is at the {which} edge of its range (")


def test_an_edge_gives_the_range() -> None:
    text = edge(space("log_uniform", 1e-3, 1.0), 0.99, [0.001, 0.99])
    assert text == "lr 0.99 is at the upper edge of its range (0.001 to 1)"


# ---- what tuning found

SEARCH = {
    "lr": {"log_uniform": [0.01, 1.0]},
    "beta": {"choice": ["x", "y"]},
}


def searched(**settings: Any) -> Results:
    swept: list[tuple[float, list[Ending]]]
    swept = [(1.0, [0.5, "diverged"]), (0.01, [4.0, 6.0]), (0.1, [1.0, 2.0])]
    cases = [
        setting_case(0, "a", {"lr": 0.1, "beta": "y", "eps": 1e-8}, role="tuned"),
        setting_case(1, "a", {"eps": 1e-8}, role="defaults"),
        setting_case(2, "b", {"lr": 1.0}),
        setting_case(3, "a", {"lr": 0.1, "beta": "y", "eps": 1e-8}, role="tuned", device="cuda"),
    ]
    tried = [
        tried_of({"lr": 0.01, "beta": "x", "eps": 1e-8}, [4.0, 6.0]),
        tried_of({"lr": 0.1, "beta": "x", "eps": 1e-8}, ["error", "diverged"]),
        tried_of({"lr": 0.1, "beta": "y", "eps": 1e-8}, [1.0, 2.0]),
        tried_of({"lr": 1.0, "beta": "y", "eps": 1e-8}, [0.5, "diverged"]),
        tried_of({"lr": 1.0, "beta": "y", "eps": 1e-8}, [9.0, 9.0], device="cuda"),
        tried_of({"lr": 0.1, "beta": "y", "eps": 1e-8}, [7.0, 8.0], device="cuda"),
        *(tried_of({"lr": lr, "beta": "y", "eps": 1e-8}, own, varied="lr") for lr, own in swept),
        tried_of({"lr": 0.1, "beta": "x", "eps": 1e-8}, ["error", "error"], varied="beta"),
        tried_of({"lr": 0.1, "beta": "y", "eps": 1e-8}, [1.0, 2.0], varied="beta"),
    ]
    endings = [[1.0], [2.0], [3.0], [4.0]]
    return results_of_settings(cases, endings, tried, **{"searches": {"a": SEARCH}, **settings})


def test_what_tuning_found_is_told_by_case_with_the_settings_of_its_own_device() -> None:
    cpu, cuda = tuned(searched())
    assert [found.case.position for found in (cpu, cuda)] == [0, 3]
    assert cpu.best == {"lr": 0.1, "beta": "y"}
    assert list(cpu.spaces) == ["lr", "beta"]
    assert len(cpu.settings) == 4
    assert cpu.failed == 3
    assert cpu.best_values.tolist() == [1.0, 2.0]
    assert cpu.edges == ()
    assert (len(cuda.settings), cuda.failed) == (2, 0)
    assert cuda.best_values.tolist() == [7.0, 8.0]
    # Of two values drawn, each has nothing drawn beyond it.
    assert "lower" in cuda.edges[0]


def test_what_the_spec_fixes_on_an_objective_was_not_searched_there() -> None:
    cpu, _ = tuned(searched(fixed={"a": {"bowl": ["beta"], "line": ["lr"]}}))
    assert list(cpu.spaces) == ["lr"]
    assert cpu.best == {"lr": 0.1}


def test_without_tuning_nothing_was_found() -> None:
    assert tuned(results_of_settings([setting_case(0, "a", {"lr": 1.0})])) == []
    assert tuning_tables.tuning([], 3) is None
    assert tuning_tables.sensitive([]) is None


def test_the_tuning_table_has_a_row_for_each_hyperparameter_searched() -> None:
    table = tuning_tables.tuning(tuned(searched()), 2)
    assert table is not None
    assert "same 2 tuning seeds" in table.note
    rows = table.frame.to_dict("records")
    assert [(row["device"], row["hyperparameter"]) for row in rows] == [
        ("cpu", "lr"),
        ("cpu", "beta"),
        ("cuda", "lr"),
        ("cuda", "beta"),
    ]
    first = {str(key): value for key, value in rows[0].items()}
    assert first == {
        "objective": "bowl",
        "optimizer": "a",
        "device": "cpu",
        "hyperparameter": "lr",
        "space": "log-uniform from 0.01 to 1",
        "best": 0.1,
        "edge": "",
        "tuning_loss": 1.5,
        "settings": 4,
        "tuning_trials": 8,
        "failed": 3,
    }
    assert rows[1]["best"] == "y"
    assert [row["edge"] for row in rows] == ["", "", "lower", ""]
    assert table.shown["at the edge"].tolist() == ["no", "no", "yes, the lower end", "no"]
    assert table.shown["best"].tolist() == ["0.1", "y", "0.1", "y"]


# ---- curves


def test_a_sweep_is_a_curve_of_each_range_and_of_no_choice() -> None:
    (found,) = curves(searched())
    assert (found.optimizer, found.parameter, found.best) == ("a", "lr", 0.1)
    assert found.others == {"beta": "y", "eps": 1e-8}
    assert [(p.value, p.mean, p.failed) for p in found.points] == [
        (0.01, 5.0, 0),
        (0.1, 1.5, 0),
        (1.0, 0.5, 1),
    ]
    low, high = np.quantile([4.0, 6.0], [0.025, 0.975])
    assert (found.points[0].low, found.points[0].high) == pytest.approx((low, high))
    # At 0, 1/2 and 1 of two decades: a quarter, a half, a quarter.
    assert found.near() == pytest.approx(0.5)


def test_a_point_without_a_loss_has_none_and_one_that_did_not_run_is_left_out() -> None:
    case = setting_case(0, "a", {"lr": 0.5}, role="tuned")
    tried = [
        tried_of({"lr": 0.5}, [1.0, 3.0]),
        tried_of({"lr": 0.0}, ["error", "error"], varied="lr"),
        tried_of({"lr": 0.5}, [1.0, 3.0], varied="lr"),
        tried_of({"lr": 1.0}, [], varied="lr"),
    ]
    searches = {"a": {"lr": {"uniform": [0, 1]}}}
    (found,) = curves(results_of_settings([case], tried=tried, searches=searches))
    assert [(p.value, p.failed) for p in found.points] == [(0.0, 2), (0.5, 0)]
    assert math.isnan(found.points[0].mean)
    assert not found.points[0].ok
    # With one point alone there is no curve.
    assert curves(results_of_settings([case], tried=tried[:1] + tried[2:], searches=searches)) == []


def grid(
    *settings: dict[str, Any], endings: Sequence[Sequence[Ending]] | None = None, **also: Any
) -> list[Curve]:
    cases = [setting_case(i, "a", given) for i, given in enumerate(settings)]
    return curves(results_of_settings(cases, endings, **also))


def test_a_grid_over_one_number_is_a_curve() -> None:
    settings = [{"lr": lr, "eps": 1e-8} for lr in (1.0, 0.01, 0.1)]
    endings: list[list[Ending]] = [[3.0, "diverged"], [2.0, 4.0], [1.0, 1.5]]
    (found,) = grid(*settings, endings=endings, optimum=0.5)
    assert found.space == space("log_uniform", 0.01, 1.0)
    assert [(p.value, p.mean, p.failed) for p in found.points] == [
        (0.01, 3.0, 0),
        (0.1, 1.25, 0),
        (1.0, 3.0, 1),
    ]
    assert found.best is None
    assert found.others == {"eps": 1e-8}
    assert found.optimum == 0.5


@pytest.mark.parametrize(
    ("values", "kind"),
    [([0.1, 0.5, 1.0], "log_uniform"), ([0.11, 0.5, 1.0], "uniform"), ([0, 0.1, 9], "uniform")],
)
def test_a_grids_scale_is_logarithmic_from_a_decade_on(values: list[float], kind: str) -> None:
    (found,) = grid(*({"lr": value} for value in values))
    assert found.space == space(kind, values[0], values[-1])


@pytest.mark.parametrize(
    "settings",
    [
        [{"lr": 0.1}, {"lr": 0.2}],
        [{"lr": lr, "beta": beta} for lr in (0.1, 0.2) for beta in (0, 0.9)],
        [{"nesterov": True}, {"nesterov": False}, {"nesterov": 1}],
        [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}, {}],
        [{"mode": "x"}, {"mode": "y"}, {"mode": "z"}],
        [{"lr": 0.1}],
    ],
)
def test_other_grids_are_no_curves(settings: list[dict[str, Any]]) -> None:
    assert grid(*settings) == []


def test_a_grid_of_which_a_case_could_not_run_is_no_curve() -> None:
    settings = [{"lr": lr} for lr in (0.1, 0.2, 0.3)]
    assert grid(*settings, endings=[[1.0], [2.0], ["unavailable"]]) == []
    assert grid(*settings, endings=[[1.0], [2.0], []]) == []
    assert len(grid(*settings, endings=[[1.0], [2.0], ["error"]])) == 1


def test_the_sensitivity_table_tells_where_the_loss_is_near_and_where_it_fails() -> None:
    over = space("uniform", 0, 4)
    found = [
        curve_of(over, [0, 1, 2, 3, 4], means)
        for means in (
            [4.0, 2.0, 1.0, NAN, NAN],
            [NAN, 2.0, 1.0, 3.0, 4.0],
            [4.0, NAN, 1.0, NAN, 2.0],
            [NAN] * 5,
            [1.0] * 5,
        )
    ]
    table = tuning_tables.sensitive(found)
    assert table is not None
    frame = table.frame
    assert frame["near_share"].tolist() == pytest.approx(
        [0.5, 0.5, 0.25 + 0.125, NAN, 1.0], nan_ok=True
    )
    assert frame["best"].tolist() == pytest.approx([1, 1, 1, NAN, 1], nan_ok=True)
    assert frame["at"].tolist() == pytest.approx([2, 2, 2, NAN, 0], nan_ok=True)
    assert frame["failing_points"].tolist() == [2, 1, 2, 5, 0]
    assert frame["failing_from"].tolist() == pytest.approx([3, 0, 1, 0, NAN], nan_ok=True)
    assert frame["failing_to"].tolist() == pytest.approx([4, 0, 3, 4, NAN], nan_ok=True)
    assert set(frame["points"]) == {5}
    assert table.shown["fails at"].tolist() == [
        "3.00 and above",
        "0 and below",
        "2 points from 1.00 to 3.00",
        "every point",
        "–",
    ]
    assert table.shown["within 2x of best"].tolist()[:2] == ["50% of the range"] * 2
