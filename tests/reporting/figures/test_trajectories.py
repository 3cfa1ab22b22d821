"""Trajectories: groups, windows, marks and curves against closed forms; contours against theirs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from results_builders import make_case, make_objective, make_run, make_trials

from harness.analysis.comparison import mean_losses
from harness.reporting.figures import contours, coordinates, trajectories
from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.records import PlaneFigure, PlanePanel, Trajectory
from harness.reporting.figures.styles import Style
from harness.store.read import CaseData, ObjectiveInfo, Results

Array = NDArray[np.float64]

X1, X2 = np.linspace(-6, 2, 31), np.linspace(-3, 2, 31)
LANDSCAPE = np.add.outer(2 * X2**2, 0.1 * X1**2)
BOWL = make_objective(
    optimum=0.0,
    minimizers=((0.0, 0.0),),
    window=((-6.0, 2.0), (-3.0, 2.0)),
    landscape=LANDSCAPE,
    record_steps=(0, 1, 2, 3, 4),
)
PATH = np.array([[-5.0, -2.0], [-4.0, 1.0], [-3.0, -0.5], [-2.0, 0.25], [-1.0, -0.1]])


def loss(points: Array) -> Array:
    return np.asarray(0.1 * points[:, 0] ** 2 + 2 * points[:, -1] ** 2)


def case(
    optimizer: str,
    path: Array = PATH,
    setting: str = "",
    *,
    seeds: Sequence[int] = (0,),
    **more: Any,
) -> CaseData:
    return make_case(
        "bowl",
        optimizer,
        {seed: list(loss(PATH)) for seed in seeds},
        setting=setting,
        optimizer_class=more.pop("optimizer_class", optimizer),
        trajectories={seed: path + (seed - seeds[0]) for seed in seeds},
        **more,
    )


def context_of(
    *cases: CaseData,
    info: ObjectiveInfo = BOWL,
    status: str = "ok",
    counterparts: Mapping[str, str] | None = None,
) -> FigureContext:
    placed = [dataclasses.replace(one, position=i) for i, one in enumerate(cases)]
    endings = [
        {seed: one.losses[i, -1] if status == "ok" else status for i, seed in enumerate(one.seeds)}
        for one in placed
    ]
    pairs = {n: {"optimizer": o, "because": "none"} for n, o in (counterparts or {}).items()}
    run = make_run({"counterparts": pairs})
    trials = make_trials(placed, endings)
    known = Results(run, {"bowl": info}, tuple(placed), trials, make_trials([]))
    return FigureContext.of(known, mean_losses(known))


def figure(*cases: CaseData, info: ObjectiveInfo = BOWL, **more: Any) -> PlaneFigure:
    context = context_of(*cases, info=info, **more)
    found = trajectories.trajectories(context, info)
    assert found is not None
    return found


def drawn(found: PlaneFigure) -> list[Trajectory]:
    return [one for panel in found.panels for one in panel.trajectories]


# Points


def test_trajectories_are_those_of_the_lowest_seed() -> None:
    (one,) = drawn(figure(case("sgd", seeds=(3, 4))))
    np.testing.assert_array_equal(one.points, PATH)
    assert one.seed == 3
    assert one.steps.tolist() == [0, 1, 2, 3, 4]
    assert "Seed 3 is shown." in figure(case("sgd", seeds=(3, 4))).caption


def test_a_trajectory_ends_before_its_first_value_that_is_not_finite() -> None:
    path = PATH.copy()
    path[2, 1], path[3:] = np.inf, np.nan
    found = figure(case("sgd", path), status="diverged")
    (one,) = drawn(found)
    assert one.failed
    np.testing.assert_array_equal(one.points, PATH[:2])
    assert "Cross: a trial that failed" in found.caption


def test_no_trajectory_no_figure() -> None:
    without = dataclasses.replace(case("sgd"), trajectories={})
    assert trajectories.trajectories(context_of(without), BOWL) is None


# One line for those that take the same path


def test_twins_are_one_line_in_the_look_of_the_one_from_scratch() -> None:
    cases = [
        case("torch_adagrad", PATH + 1e-6, "lr=2", optimizer_class="torch.optim:Adagrad"),
        case("adagrad", PATH, "lr=2", optimizer_class="AdaGrad"),
    ]
    context = context_of(*cases)
    (one,) = drawn(figure(*cases))
    assert one.label == "torch_adagrad = adagrad (lr=2)"
    assert one.optimizers == ("torch_adagrad", "adagrad")
    assert one.style == context.styles[1]
    np.testing.assert_array_equal(one.points, PATH)


@pytest.mark.parametrize(("share", "lines"), [(0.9, 1), (1.1, 2)])
def test_paths_are_the_same_within_a_thousandth_of_each_axis(share: float, lines: int) -> None:
    off = np.zeros_like(PATH)
    off[2, 1] = share * 5 / 1000  # the window is 5 high
    found = figure(case("a"), case("b", PATH + off))
    assert len(drawn(found)) == lines
    assert ("Joined by" in found.caption) == (lines == 1)


def test_paths_of_other_lengths_are_others() -> None:
    assert len(drawn(figure(case("a"), case("b", PATH[:4])))) == 2


def test_settings_that_differ_are_named_with_each() -> None:
    (one,) = drawn(figure(case("sgd", setting="lr=1"), case("momentum", setting="lr=1, m=0")))
    assert one.label == "sgd (lr=1) = momentum (lr=1, m=0)"


def test_a_device_is_named_where_another_takes_another_path() -> None:
    same = [case("sgd"), case("sgd", device="cuda")]
    assert [one.label for one in drawn(figure(*same))] == ["sgd"]
    other = [case("sgd"), case("sgd", PATH * 0.9, device="cuda")]
    assert [one.label for one in drawn(figure(*other))] == ["sgd on cpu", "sgd on cuda"]


# Panels


def grid_of_settings(optimizer: str, count: int, **more: Any) -> list[CaseData]:
    shift = sum(map(ord, optimizer)) % 50 / 100
    return [case(optimizer, PATH * (0.9 - i / 50) + shift, f"lr={i}", **more) for i in range(count)]


def test_eight_trajectories_share_a_panel_and_nine_do_not() -> None:
    eight = figure(*grid_of_settings("adam", 5), *grid_of_settings("sgd", 3))
    assert [len(panel.trajectories) for panel in eight.panels] == [8]
    assert eight.panels[0].title == ""
    nine = figure(*grid_of_settings("adam", 5), *grid_of_settings("sgd", 4))
    assert [(p.title, len(p.trajectories)) for p in nine.panels] == [("adam", 5), ("sgd", 4)]


def test_every_setting_of_a_grid_is_drawn() -> None:
    names = ("sgd", "momentum", "adagrad", "adam", "rmsprop", "adadelta")
    cases = [one for name in names for one in grid_of_settings(name, 4)]
    assert {one.label for one in drawn(figure(*cases))} == {one.label for one in cases}
    assert figure(*cases).note == ""


def test_of_very_many_the_best_of_each_optimizer_are_drawn_and_counted() -> None:
    cases = grid_of_settings("adam", 30) + grid_of_settings("sgd", 30)
    found = figure(*cases)
    assert [len(panel.trajectories) for panel in found.panels] == [16, 16]
    assert "Shown: 32 of 60 cases." in found.note


def test_a_family_and_those_that_take_one_path_share_a_panel_in_the_order_of_the_first() -> None:
    torch = {"optimizer_class": "torch.optim:Adam"}
    cases = [
        *grid_of_settings("adam", 4),
        *grid_of_settings("sgd", 4),
        *grid_of_settings("torch_adam", 4, **torch),
        case("mine", grid_of_settings("sgd", 1)[0].trajectories[0]),
    ]
    titles = [panel.title for panel in figure(*cases).panels]
    assert titles == ["adam, torch_adam", "sgd = mine, sgd"]


def test_lines_are_solid_in_a_panel_of_two() -> None:
    torch = case("torch_adam", PATH * 0.9, optimizer_class="torch.optim:Adam")
    pair = drawn(figure(case("adam"), torch))
    assert [one.style.dashes for one in pair] == [(), ()]
    three = drawn(figure(case("adam"), torch, case("sgd", PATH * 0.8)))
    assert len({one.style.dashes for one in three}) == 2


# What leaves the window


def test_who_leaves_for_good_is_drawn_until_far_out_with_its_mark_on_the_edge() -> None:
    path = np.array([[-5.0, 0.0], [-4, 1.0], [-3, -4.0], [-2, 6.0], [-1, -9.0], [0, 12.0]])
    found = figure(case("sgd", path))
    (one,) = drawn(found)
    # The window goes from -3 to 2 in x2, and as far again each way.
    np.testing.assert_array_equal(one.points, path[:5])
    # From (-2, 6) on to (-1, -9), through the lower edge.
    assert tuple(one.end) == pytest.approx((-2 + 9 / 15, -3.0))
    assert found.window == BOWL.window
    assert found.note == "Ends beyond the edge: sgd."


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ([[0, 0], [4, 2]], (2, 1)),  # through the right edge
        ([[0, 0], [-12, -1]], (-6, -0.5)),  # through the left one
        ([[-7, 0], [0, 3]], (-7 / 3, 2)),  # from beyond through the window
        ([[5, 5], [6, 6]], (2, 2)),  # never in it
        ([[0, 0], [0, 0]], (0, 0)),
    ],
)
def test_the_mark_of_an_end_is_where_the_window_is_left(
    path: list[list[float]], end: tuple[float, float]
) -> None:
    (one,) = drawn(figure(case("sgd", np.array(path, dtype=float))))
    assert tuple(one.end) == pytest.approx(end)


def test_who_comes_back_is_drawn_whole() -> None:
    path = np.array([[-5.0, -2.0], [-50.0, 1.0], [60.0, 1.0], [0.0, 0.0]])
    (one,) = drawn(figure(case("sgd", path)))
    np.testing.assert_array_equal(one.points, path)
    assert one.end.tolist() == [0.0, 0.0]


def test_without_a_landscape_the_window_holds_all_points_of_those_that_ended_ok() -> None:
    info = dataclasses.replace(BOWL, window=None, landscape=None)
    found = figure(case("sgd"), info=info)
    (left, right), (low, high) = found.window
    assert (left, right) == pytest.approx((-5.4, -0.6))
    assert (low, high) == pytest.approx((-2.3, 1.3))


# Markers


def test_of_a_long_path_markers_are_evenly_far_apart() -> None:
    way = np.linspace(0, 1, 201) ** 3  # slow at first
    path = np.column_stack([-6 + 8 * way, 0.01 * way])
    (one,) = drawn(figure(case("sgd", path)))
    places = (path[one.marked, 0] + 6) / 8
    assert len(places) == 8
    assert np.diff(places) == pytest.approx(trajectories.APART, abs=0.02)
    (short,) = drawn(figure(case("sgd")))
    assert short.marked.tolist() == [0, 1, 2, 3, 4]


# One parameter


def parabola(dimension: int) -> ObjectiveInfo:
    x = np.linspace(-3, 13, 161)
    window = ((-3.0, 13.0), (-1.0, 1.0))[:dimension]
    over = x**2 if dimension == 1 else np.add.outer(np.linspace(-1, 1, 161) ** 2, x**2)
    return dataclasses.replace(
        BOWL,
        dimension=dimension,
        window=window,
        landscape=over,
        optimum=0.0,
        minimizers=((0.0,) * dimension,),
        record_steps=np.arange(11),
    )


def steps_down(rate: float, dimension: int, other: float = 0.0) -> CaseData:
    """Gradient descent on the square from 10."""
    x = 10 * (1 - 2 * rate) ** np.arange(11)
    path = x[:, None] if dimension == 1 else np.column_stack([x, np.full(11, other)])
    return make_case(
        "bowl",
        "sgd",
        {0: list(x**2 + other**2)},
        setting=f"lr={rate:g}",
        optimizer_class="SGD",
        trajectories={0: path},
    )


@pytest.mark.parametrize("dimension", [1, 2])
def test_a_single_parameter_is_drawn_upon_the_curve_of_its_loss(dimension: int) -> None:
    info = parabola(dimension)
    found = figure(steps_down(0.2, dimension), steps_down(0.05, dimension), info=info)
    assert found.axes == ("x" if dimension == 1 else "x1", "loss")
    assert found.landscape is None
    assert found.levels == ()
    np.testing.assert_allclose(found.curve[:, 1], found.curve[:, 0] ** 2, atol=1e-12)
    assert found.window[0] == (-3.0, 13.0)
    low, high = found.window[1]
    assert low < 0 < 169 < high
    assert found.minimizers == ((0.0, 0.0),)
    for one, rate in zip(drawn(found), (0.2, 0.05), strict=True):
        x = 10 * (1 - 2 * rate) ** np.arange(11)
        np.testing.assert_allclose(one.points, np.column_stack([x, x**2]))
        assert one.marked.tolist() == list(range(11))
    note = "x2 is 0 in every trial, from the start to the end."
    assert found.note == (note if dimension == 2 else "")
    assert "Loss against the parameter" in found.caption


def test_the_curve_is_that_at_the_value_of_the_other_parameter() -> None:
    found = figure(steps_down(0.2, 2, 0.5), info=parabola(2))
    np.testing.assert_allclose(found.curve[:, 1], found.curve[:, 0] ** 2 + 0.25)
    assert found.minimizers == ((0.0, 0.0),)


def test_losses_that_were_not_recorded_are_those_of_the_curve() -> None:
    info = dataclasses.replace(parabola(1), record_steps=np.array([0, 10]))
    one = steps_down(0.2, 1)
    (found,) = drawn(figure(dataclasses.replace(one, losses=one.losses[:, [0, -1]]), info=info))
    expected = (10 * 0.6 ** np.arange(11)) ** 2
    np.testing.assert_allclose(found.points[:, 1], expected, atol=0.003)  # 161 points of a square
    np.testing.assert_allclose(found.points[[0, -1], 1], expected[[0, -1]], rtol=1e-12)


def test_without_a_curve_there_is_none_of_a_single_parameter() -> None:
    for unknown in (None, np.full(161, np.nan)):
        info = dataclasses.replace(parabola(1), landscape=unknown)
        assert trajectories.trajectories(context_of(steps_down(0.2, 1), info=info), info) is None


def test_a_coordinate_in_which_seeds_start_apart_is_no_constant() -> None:
    one = steps_down(0.2, 2)
    apart = {0: one.trajectories[0], 1: one.trajectories[0] + [0, 1]}
    assert trajectories.moving([one]) == [0]
    assert trajectories.moving([dataclasses.replace(one, trajectories=apart)]) == [0, 1]
    assert trajectories.moving([case("sgd", np.zeros((3, 2)))]) == [0, 1]
    at_once = {0: one.trajectories[0], 1: np.empty((0, 2))}  # ended before there was a point
    assert trajectories.moving([dataclasses.replace(one, trajectories=at_once)]) == [0]


@pytest.mark.parametrize(("dimension", "names"), [(1, ["x"]), (2, ["x1"])])
def test_only_coordinates_that_move_are_drawn_against_the_step(
    dimension: int, names: list[str]
) -> None:
    info = parabola(dimension)
    found = coordinates.coordinates(context_of(steps_down(0.2, dimension), info=info), info)
    assert found is not None
    assert [panel.y_label for panel in found.panels] == names
    (line,) = found.panels[0].lines
    np.testing.assert_allclose(line.y, 10 * 0.6 ** np.arange(11))


def test_who_leaves_for_good_does_not_rule_the_scale_of_a_coordinate() -> None:
    path = np.array([[-5.0, -2.0], [-4, 4.0], [-3, -8.0], [-2, 16.0], [-1, -2000.0]])
    found = coordinates.coordinates(context_of(case("sgd", path), case("adam")), BOWL)
    assert found is not None
    x1, x2 = found.panels
    assert x1.limits == pytest.approx((-5.5, 0.26), abs=0.3)
    # The window goes from -3 to 2, and as far again each way.
    assert x2.limits == pytest.approx((-8 - 0.75, 7 + 0.75))
    (away, _) = x2.lines
    assert away.y.tolist() == path[:, 1].tolist()


# Contours


LOOK = Style("#0072b2", "o", (), filled=True, width=2.0)


def plane(landscape: Array, levels: tuple[float, ...], *paths: Array) -> PlaneFigure:
    shown = tuple(Trajectory("", LOOK, path, failed=False) for path in paths)
    named = ("plane", "bowl", "Plane", "Caption.", "Words.")
    window = ((-2.0, 2.0), (-1.0, 1.0))
    return PlaneFigure(*named, (PlanePanel("", shown),), 1, window, landscape, levels, ())


AXIS1, AXIS2 = np.linspace(-2, 2, 121), np.linspace(-1, 1, 121)
ROUND = np.add.outer(AXIS2**2, AXIS1**2)


def area(ring: Array) -> float:
    x, y = ring.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def test_the_area_above_a_level_is_the_window_less_the_inside() -> None:
    (found,) = contours.contours(plane(ROUND, (0.64,)))
    ((outline, hole),) = found.areas
    assert area(outline) == pytest.approx(8, rel=1e-3)
    assert area(hole) == pytest.approx(math.pi * 0.64, rel=0.01)


def test_lines_have_few_points_and_are_a_hair_off_at_most() -> None:
    (found,) = contours.contours(plane(ROUND, (0.64,)))
    (line,) = found.lines
    assert len(line) < 90
    middles = (line[1:] + line[:-1]) / 2
    pixels = 640 / 4  # across the window, which is stretched to a square
    off = np.abs(np.hypot(*middles.T) - 0.8) * pixels
    assert off.max() < contours.HAIR / 2


def test_a_label_stands_away_from_trajectories_and_from_the_frame() -> None:
    left = np.array([[-2.0, 0.0], [-0.1, 0.0]])
    (found,) = contours.contours(plane(ROUND, (0.25,), left))
    assert found.label is not None
    assert math.hypot(*found.label) == pytest.approx(0.5, abs=0.01)
    assert abs(found.label[1]) > 0.45  # above or below, where there is most room


def test_contours_are_powers_of_ten_and_their_threes_above_the_lowest() -> None:
    landscape = np.array([[0.5, 1.0], [10.0, 105.5]])
    assert trajectories.levels(landscape, 0.5) == pytest.approx(
        (0.6, 0.8, 1.5, 3.5, 10.5, 30.5, 100.5)
    )
    assert trajectories.levels(np.full((3, 3), 2.0), None) == ()
    assert trajectories.levels(np.full((3, 3), np.nan), None) == ()
    assert trajectories.levels(None, 0.0) == ()
