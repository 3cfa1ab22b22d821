"""Figures: records against independent computation, drawings for what a page relies on."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from harness.analysis import elapsed, stats
from harness.analysis.comparison import mean_losses
from harness.reporting.figures import (
    coordinates,
    fonts,
    frames,
    panels,
    planes,
    ticks,
    times,
)
from harness.reporting.figures import draw as figures
from harness.reporting.figures import records as figure_records
from harness.reporting.figures import styles as figure_styles
from harness.reporting.figures import trials as trial_figures
from harness.reporting.figures.records import CurveFigure, DotFigure, FigureRecord, PlaneFigure
from harness.reporting.figures.svg import svg_element
from harness.store.read import CaseData, ObjectiveInfo, Results
from harness.store.records import RunRecord, RunSettings

Array = NDArray[np.float64]

LANDSCAPE = np.add.outer(2 * np.linspace(-3, 2, 31) ** 2, 0.1 * np.linspace(-6, 2, 31) ** 2)
QUADRATIC = ObjectiveInfo(
    name="bowl",
    formula="",
    dimension=2,
    rows=0,
    steps=4,
    steps_per_epoch=1,
    record_steps=np.arange(5),
    optimum=0.0,
    minimizers=((0.0, 0.0),),
    window=((-6.0, 2.0), (-3.0, 2.0)),
    landscape=LANDSCAPE,
    data_source="",
)
REGRESSION = dataclasses.replace(
    QUADRATIC,
    name="lines",
    dimension=6,
    rows=40,
    steps=8,
    steps_per_epoch=4,
    record_steps=np.array([0, 2, 4, 6, 8]),
    optimum=0.24,
    minimizers=(),
    window=None,
    landscape=None,
)
UNKNOWN_OPTIMUM = dataclasses.replace(REGRESSION, optimum=None)
FALLING = np.array([0.5, 0.3, 0.27, 0.25, 0.245])


def curves(seeds: int, start: Array = FALLING, noise: float = 0.002) -> Array:
    jitter = np.random.default_rng(0).normal(0, noise, (seeds, len(start)))
    return np.asarray(start + np.abs(jitter))


@dataclasses.dataclass
class Case:
    """One case and what became of its trials; NaN losses are those a trial did not reach."""

    optimizer: str
    losses: Array
    info: ObjectiveInfo = REGRESSION
    setting: str = ""
    device: str = "cpu"
    status: Sequence[str] = ()
    paths: Sequence[Array] = ()
    sizes: Sequence[Array] = ()
    times: Sequence[float] = ()


def results(*cases: Case) -> Results:
    made, trials, timings = [], [], []
    for position, case in enumerate(cases):
        seeds = range(len(case.losses))
        made.append(
            CaseData(
                position=position,
                objective=case.info.name,
                optimizer=case.optimizer,
                setting=case.setting,
                device=case.device,
                optimizer_class="X",
                hyperparameters={},
                defaults={},
                dtype="float64",
                seeds=np.array(seeds, dtype=np.int64),
                losses=case.losses,
                trajectories=dict(enumerate(case.paths)),
                step_sizes=dict(enumerate(case.sizes)),
            )
        )
        for seed in seeds:
            status = case.status[seed] if case.status else "ok"
            final = case.losses[seed, -1] if status == "ok" else math.nan
            trials.append((position, seed, status, 0, "", 0.0, "pointwise", "", final))
        blocks = [(position, i, 1, 1, *[seconds] * 3) for i, seconds in enumerate(case.times)]
        timings += blocks
    columns = [
        "position",
        "seed",
        "status",
        "step",
        "reason",
        "seconds",
        "way",
        "way_reason",
        "final_loss",
    ]
    timed = [
        *("position", "round", "steps", "steps_per_epoch"),
        *("seconds", "cpu_seconds", "epoch_seconds"),
    ]
    run = RunRecord(1, "", "", "", "suite", "", "", RunSettings(), {})
    objectives = {case.info.name: case.info for case in cases}
    return Results(
        run,
        objectives,
        tuple(made),
        pd.DataFrame(trials, columns=columns),
        pd.DataFrame(timings, columns=timed),
    )


def built(known: Results) -> list[FigureRecord]:
    means = mean_losses(known)
    found = trial_figures.build(known, means)
    return found + coordinates.build(known, means, [record.name for record in found])


def records(*cases: Case) -> dict[str, FigureRecord]:
    return {record.name: record for record in built(results(*cases))}


def curve_figure(found: dict[str, FigureRecord], name: str) -> CurveFigure:
    record = found[name]
    assert isinstance(record, CurveFigure)
    return record


def dot_figure(found: dict[str, FigureRecord], name: str) -> DotFigure:
    record = found[name]
    assert isinstance(record, DotFigure)
    return record


def plane_figure(found: dict[str, FigureRecord], name: str) -> PlaneFigure:
    record = found[name]
    assert isinstance(record, PlaneFigure)
    return record


PATH = np.array([[-5.0, -2.0], [-4.0, 1.0], [-3.0, -0.5], [-2.0, 0.25], [-1.0, -0.1]])
SIZES = np.array([[400.0, 400.0], [0.4, 0.05], [0.3, 0.04], [0.2, 0.03], [0.1, 0.02]])
BOWL = np.array([[10.5, 3.0, 1.0, 0.1, 0.001]])


def everything() -> list[Case]:
    """Something for every figure, with a case that loses seeds and a device that is absent."""
    lost = curves(6)
    lost[4, 2:] = np.nan
    lost[5, 3] = np.inf
    lost[5, 4:] = np.nan
    blocks = [0.011, 0.012, 0.013, 0.012, 0.020]
    bowl: dict[str, Any] = {"info": QUADRATIC, "times": [5e-5, 6e-5, 5.5e-5]}
    return [
        Case("sgd", np.repeat(BOWL, 6, axis=0), paths=[PATH] * 6, **bowl),
        Case("ada", np.repeat(BOWL, 6, axis=0), setting="lr=0.4", paths=[PATH + 0.1] * 6,
             sizes=[SIZES] * 6, **bowl),
        Case("ada", np.repeat(BOWL, 6, axis=0), setting="lr=2", paths=[PATH * 0.9] * 6,
             sizes=[SIZES * 5] * 6, **bowl),
        Case("sgd", curves(6), times=blocks),
        Case("sgd", np.full((6, 5), np.nan), device="cuda", status=["unavailable"] * 6),
        Case("ada", lost, status=["ok"] * 4 + ["diverged"] * 2, times=blocks),
    ]  # fmt: skip


# Loss curves


def test_line_and_band_are_the_median_and_the_middle_half_of_the_stored_losses() -> None:
    losses = curves(7)
    panel = curve_figure(records(Case("sgd", losses)), "loss_lines").panels[0]
    (line,) = panel.lines
    # Of seven, the median is the fourth; quartiles lie halfway to the next on either side.
    ranked = np.sort(losses, axis=0)
    np.testing.assert_allclose(line.y, ranked[3], rtol=1e-12)
    np.testing.assert_allclose(line.low, (ranked[1] + ranked[2]) / 2, rtol=1e-12)
    np.testing.assert_allclose(line.high, (ranked[4] + ranked[5]) / 2, rtol=1e-12)
    np.testing.assert_array_equal(line.x, [0, 0.5, 1, 1.5, 2])


def test_without_epochs_the_loss_is_drawn_against_the_step() -> None:
    panel = curve_figure(records(Case("sgd", BOWL, QUADRATIC)), "loss_bowl").panels[0]
    assert panel.x_label == "step"
    np.testing.assert_array_equal(panel.lines[0].x, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("seeds", [1, 3])
def test_seeds_that_agree_have_no_band(seeds: int) -> None:
    figure = curve_figure(
        records(Case("sgd", np.repeat(BOWL, seeds, axis=0), QUADRATIC)), "loss_bowl"
    )
    assert len(figure.panels[0].lines[0].low) == 0


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([1.0, 10.0], False),
        ([1.0, 10**1.5 * 1.01], True),
        ([1e-30, 1.0], True),
        ([0.0, 1e-5, 1.0], True),
        ([-1.0, 1e-5, 1.0], False),
        ([0.0, 0.0], False),
        ([], False),
    ],
)
def test_a_scale_is_logarithmic_where_positive_values_span_decades(
    values: list[float], log: bool
) -> None:
    assert figure_records.wants_log(np.array(values)) is log


def test_where_only_the_distance_to_the_optimum_spans_decades_a_second_panel_shows_it() -> None:
    losses = curves(5, np.array([0.5, 0.3, 0.26, 0.242, 0.2405]), noise=1e-4)
    figure = curve_figure(records(Case("sgd", losses)), "loss_lines")
    plain, above = figure.panels
    assert (plain.log, above.log) == (False, True)
    assert plain.reference_line == 0.24
    np.testing.assert_allclose(above.lines[0].y, np.median(losses, axis=0) - 0.24, rtol=1e-9)


def test_what_a_diverged_trial_did_not_reach_is_not_drawn_and_not_averaged() -> None:
    losses = curves(4)
    losses[3] = [0.5, 9.0, np.inf, np.nan, np.nan]
    status = ["ok", "ok", "ok", "diverged"]
    figure = curve_figure(records(Case("sgd", losses, status=status)), "loss_lines")
    lost, mean = figure.panels[0].lines
    assert lost.failed
    np.testing.assert_array_equal(lost.y, [0.5, 9.0])
    np.testing.assert_allclose(mean.y, np.median(losses[:3], axis=0))
    assert mean.label == "sgd, 3 of 4 ok"
    assert figure.panels[0].limits[1] < 1


def test_a_case_of_which_nothing_ended_ok_has_its_lost_curves_alone() -> None:
    losses = np.array([[0.5, 7.0, np.nan, np.nan, np.nan]])
    found = records(Case("sgd", losses, status=["diverged"]))
    lines = curve_figure(found, "loss_lines").panels[0].lines
    assert [line.y.tolist() for line in lines if line.failed] == [[0.5, 7.0]]
    assert all(len(line.y) == 0 for line in lines if not line.failed)
    assert "final_loss_lines" not in found


def test_a_device_that_is_absent_has_no_series_and_no_panel() -> None:
    nothing = np.full((3, 5), np.nan)
    found = records(
        Case("sgd", curves(3), UNKNOWN_OPTIMUM),
        Case("sgd", nothing, UNKNOWN_OPTIMUM, device="cuda", status=["unavailable"] * 3),
    )
    figure = curve_figure(found, "loss_lines")
    assert [line.label for panel in figure.panels for line in panel.lines] == ["sgd"]
    assert [row.label for row in dot_figure(found, "final_loss_lines").panels[0].rows] == ["sgd"]
    assert "cuda" not in figure.alt


def test_several_devices_have_a_panel_each_and_rows_that_name_them() -> None:
    cases = [Case("sgd", curves(3), UNKNOWN_OPTIMUM, device=device) for device in ("cpu", "cuda")]
    found = records(*cases)
    titles = [panel.title for panel in curve_figure(found, "loss_lines").panels]
    assert titles == ["cpu", "cuda"]
    rows = dot_figure(found, "final_loss_lines").panels[0].rows
    assert [row.label for row in rows] == ["sgd on cpu", "sgd on cuda"]


def test_the_alternative_text_names_what_is_shown() -> None:
    alt = records(Case("slow", curves(3)), Case("quick", curves(3)))["loss_lines"].alt
    assert alt == "Loss against epoch: lines. Shown: slow, quick."


# Rows of dots


@pytest.mark.parametrize("seeds", [7, 9])
def test_a_row_has_every_seed_and_the_interval_of_the_mean(seeds: int) -> None:
    losses = curves(seeds)
    unknown = dataclasses.replace(REGRESSION, optimum=None)
    figure = dot_figure(records(Case("sgd", losses, unknown)), "final_loss_lines")
    (row,) = figure.panels[0].rows
    final = losses[:, -1]
    ((low, high),) = stats.bootstrap_t_intervals([final])
    assert figure.centre_label == "mean, 95% interval"
    np.testing.assert_array_equal(row.values, np.sort(final))
    assert (row.centre, row.low, row.high) == pytest.approx((final.mean(), low, high), rel=1e-10)
    assert (np.abs(row.offsets) <= 0.5).all()
    assert figure.panels[0].reference_line is None


def test_where_the_optimum_is_known_a_row_has_the_median_and_its_interval() -> None:
    losses = curves(20)
    figure = dot_figure(records(Case("sgd", losses)), "final_loss_lines")
    (row,) = figure.panels[0].rows
    ranked = np.sort(losses[:, -1]) - 0.24
    np.testing.assert_allclose(row.values, ranked)
    assert (row.centre, row.low, row.high) == pytest.approx(
        (np.median(ranked), ranked[5], ranked[14])
    )
    assert figure.panels[0].x_label == "gap to optimum (loss − 0.24) after 2 epochs"
    assert figure.centre_label == "median, 95% interval"


def test_on_a_logarithmic_scale_no_bar_reaches_below_nothing() -> None:
    final = np.random.default_rng(7).lognormal(-9, 3, size=12)
    losses = np.column_stack([np.ones(12)] * 4 + [final])
    unknown = dataclasses.replace(REGRESSION, optimum=None)
    figure = dot_figure(records(Case("sgd", losses, unknown)), "final_loss_lines")
    (row,) = figure.panels[0].rows
    assert figure.panels[0].log
    assert stats.bootstrap_t_intervals([final])[0, 0] < 0
    assert 0 < row.low < row.centre == np.median(final) < row.high


def test_thousands_of_seeds_are_thinned_by_rank_and_the_estimate_is_of_all() -> None:
    losses = curves(1000)
    figure = dot_figure(records(Case("sgd", losses)), "final_loss_lines")
    (row,) = figure.panels[0].rows
    assert len(row.values) == 120
    gaps = losses[:, -1] - 0.24
    assert (row.values[0], row.values[-1]) == (gaps.min(), gaps.max())
    assert row.centre == pytest.approx(np.median(gaps))


def test_times_are_shown_with_median_and_quartiles_in_a_unit_that_reads_well() -> None:
    times = [0.011, 0.012, 0.013, 0.012, 0.030]
    figure = dot_figure(records(Case("sgd", curves(2), times=times)), "seconds_per_epoch")
    (panel,) = figure.panels
    assert panel.x_label == "time per epoch (milliseconds)"
    row = panel.rows[0]
    assert (row.centre, row.low, row.high) == pytest.approx((12.0, 12.0, 13.0))
    assert panel.limits[0] == 0


# Planes


def test_both_coordinates_are_drawn_against_the_step() -> None:
    case = Case("sgd", BOWL, QUADRATIC, paths=[PATH])
    x1, x2 = curve_figure(records(case), "coordinates_bowl").panels
    np.testing.assert_array_equal(x1.lines[0].y, PATH[:, 0])
    np.testing.assert_array_equal(x2.lines[0].y, PATH[:, 1])
    assert (x1.y_label, x2.y_label, x1.reference_line, x2.reference_line) == ("x1", "x2", 0, 0)


def test_step_sizes_start_with_the_first_gradient() -> None:
    case = Case("ada", BOWL, QUADRATIC, paths=[PATH], sizes=[SIZES])
    figure = curve_figure(records(case), "step_sizes_bowl")
    x1, x2 = figure.panels[0].lines
    np.testing.assert_array_equal(x1.x, [1, 2, 3, 4])
    np.testing.assert_array_equal(x1.y, SIZES[1:, 0])
    np.testing.assert_array_equal(x2.y, SIZES[1:, 1])


# Styles and choice


def test_of_a_large_grid_the_best_settings_of_every_optimizer_are_drawn_in_full() -> None:
    rate = np.arange(50)
    cases = [Case("a", curves(2, FALLING + 0.001 * abs(i - 20)), setting=f"lr={i}") for i in rate]
    figure = curve_figure(records(*cases, Case("b", curves(2, FALLING + 9))), "loss_lines")
    ours, theirs = figure.panels
    assert len(ours.lines) == figure_records.CURVES - 1
    assert {"lr=20", "lr=15"} <= {line.label for line in ours.lines}
    assert (ours.title, theirs.title, [line.called for line in theirs.lines]) == ("a", "b", ["b"])
    assert len(ours.behind) == 51
    assert ours.behind is theirs.behind


def test_names_are_safe_and_no_two_are_one_file() -> None:
    infos = [dataclasses.replace(REGRESSION, name=name) for name in ("a.b", "A_B", "a_b")]
    names = list(records(*(Case("sgd", curves(2), info) for info in infos)))
    assert len({name.lower() for name in names}) == len(names) == 7
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names)


# The overview


def overview(*cases: Case) -> DotFigure:
    return dot_figure(records(*cases), "overview")


def test_the_overview_has_losses_and_ratios_of_times_with_the_best_on_top() -> None:
    worse = curves(5, FALLING + 0.1)
    slow, fast = [0.31, 0.42, 0.49, 0.33, 0.4, 0.5], [0.1, 0.2, 0.25, 0.1, 0.2, 0.2]
    figure = overview(Case("sgd", worse, times=fast), Case("ada", curves(6), times=slow))
    loss, time = figure.panels
    assert figure.columns == 2
    assert [[row.label for row in panel.rows] for panel in figure.panels] == [["ada", "sgd"]] * 2
    for row, case in zip(loss.rows, (curves(6), worse), strict=True):
        final = case[:, -1] - 0.24
        assert row.centre == pytest.approx(np.median(final))
        assert math.isnan(row.low) or row.low < np.median(final) < row.high
    ratios = np.sort(np.array(slow) / fast)
    ours, reference = time.rows
    assert (ours.centre, ours.low, ours.high) == pytest.approx(
        (np.median(ratios), ratios[0], ratios[-1])
    )
    assert (reference.centre, time.reference_line) == (1.0, 1.0)
    assert time.x_label == "time ratio (sgd = 1)"
    assert (loss.is_named, time.is_named) == (True, False)


@pytest.mark.parametrize("turned", [False, True])
def test_the_order_of_a_list_is_not_the_order_of_the_rows(turned: bool) -> None:
    cases = [Case(name, curves(5, FALLING + own)) for name, own in [("a", 2), ("b", 0), ("c", 1)]]
    figure = overview(*(cases[::-1] if turned else cases))
    assert [row.label for row in figure.panels[0].rows] == ["b", "c", "a"]


def test_the_overview_takes_the_setting_with_the_fewest_failures_then_the_lowest_loss() -> None:
    low, high = curves(4), curves(4) + 1.0
    found = overview(Case("a", high, setting="lr=1"), Case("a", low, setting="lr=2"))
    (row,) = found.panels[0].rows
    assert row.centre == pytest.approx(np.median(low[:, -1]) - 0.24)
    failed = Case("a", low, setting="lr=2", status=["ok"] * 3 + ["diverged"])
    (row,) = overview(Case("a", high, setting="lr=1"), failed).panels[0].rows
    assert row.centre == pytest.approx(np.median(high[:, -1]) - 0.24)
    assert row.note == ""


def test_an_overview_of_what_nobody_timed_has_no_times() -> None:
    found = overview(Case("a", curves(4)), Case("a", curves(4), QUADRATIC))
    assert len(found.panels) == 2
    assert found.columns == 1


def test_who_did_not_run_is_said_once_and_one_alone_has_no_panel() -> None:
    other = dataclasses.replace(REGRESSION, name="other")
    cases = [Case(name, curves(3)) for name in "abc"]
    figure = overview(*cases, Case("a", curves(3), other), Case("b", curves(3), other),
                      Case("a", BOWL, QUADRATIC))  # fmt: skip
    assert [panel.title for panel in figure.panels] == ["lines", "other"]
    assert figure.note == (
        "Optimizers that ran: 1 of 3 on bowl (no panel, as there is nothing to compare); "
        "2 of 3 on other."
    )


def test_the_overview_of_many_objectives_puts_two_of_them_side_by_side() -> None:
    infos = [dataclasses.replace(REGRESSION, name=f"o{i}") for i in range(7)]
    found = overview(*(Case("a", curves(3), info, times=[0.1, 0.2]) for info in infos))
    assert found.columns == 4
    assert [panel.title for panel in found.panels[::2]] == [info.name for info in infos]


# What is beyond an axis


def ending(*finals: float) -> Array:
    """Curves from 10 to each of some final losses."""
    return np.array([[10.0, 5.0, 2.0, 1.0, final] for final in finals])


def test_values_too_small_for_an_axis_are_beyond_its_left_edge_and_say_their_value() -> None:
    zero = dataclasses.replace(QUADRATIC, name="zero")
    figure = overview(
        Case("nought", ending(0.0, 0.0, 0.0), zero),
        Case("tiny", ending(1e-169, 1e-169, 1e-169), zero),
        Case("small", ending(1e-9, 1e-9, 1e-9), zero),
        Case("large", ending(0.5, 0.5, 0.5), zero),
    )
    (panel,) = figure.panels
    assert panel.log
    assert [(row.label, panel.side(row.centre), row.centre_text) for row in panel.rows] == [
        ("nought", -1, "0"),
        ("tiny", -1, "1e−169"),
        ("small", 0, "1e−09"),
        ("large", 0, "0.5"),
    ]
    assert panel.limits[0] < 1e-9
    texts = {e.text for e in ET.fromstring(figures.draw(figure).svg).iter()}
    assert {"1e−169", "0", "beyond the axis"} <= texts


def test_one_outlier_does_not_rule_the_rows() -> None:
    far = Case("far", curves(8, FALLING + 7), UNKNOWN_OPTIMUM)
    near = [
        Case(name, curves(8, FALLING + i / 500), UNKNOWN_OPTIMUM) for i, name in enumerate("abcd")
    ]
    figure = dot_figure(records(*near, far), "final_loss_lines")
    (panel,) = figure.panels
    assert panel.limits[1] < 0.5
    assert [panel.side(row.centre) for row in panel.rows] == [0, 0, 0, 0, 1]
    assert panel.rows[-1].centre_text == "7.2"
    svg = figures.draw(figure).svg
    assert "7.2" in {e.text for e in ET.fromstring(svg).iter()}


def test_one_seed_far_off_does_not_rule_its_row() -> None:
    losses = curves(12)
    losses[3, -1] = 7.0
    info = dataclasses.replace(REGRESSION, optimum=None)
    rows = dot_figure(records(Case("a", losses, info), Case("b", curves(12), info)),
                      "final_loss_lines").panels[0]  # fmt: skip
    assert rows.side(7.0) == 1 or rows.limits[1] >= 7.0
    values = np.concatenate([row.values for row in rows.rows])
    assert sum(rows.side(value) != 0 for value in values) <= 1


def test_rows_that_are_alike_are_all_within_the_frame() -> None:
    for seed in range(20):
        spread = 10.0 ** np.random.default_rng(seed).uniform(-3, 1)
        cases = [Case(n, curves(10, noise=spread) + i * spread, UNKNOWN_OPTIMUM)
                 for i, n in enumerate("abc")]  # fmt: skip
        panel = dot_figure(records(*cases), "final_loss_lines").panels[0]
        assert all(panel.side(row.centre) == 0 for row in panel.rows)


def test_a_peak_at_the_start_does_not_rule_the_curves() -> None:
    info = dataclasses.replace(
        UNKNOWN_OPTIMUM, record_steps=np.arange(21), steps=20, steps_per_epoch=5
    )
    calm = np.linspace(0.7, 0.5, 21)
    peak = calm.copy()
    peak[1] = 6.0
    found = records(Case("a", np.array([calm] * 3), info), Case("b", np.array([peak] * 3), info))
    figure = curve_figure(found, "loss_lines")
    assert figure.panels[0].limits[1] < 1
    assert "beyond the axis" in {e.text for e in ET.fromstring(figures.draw(figure).svg).iter()}


# Loss against time


def test_loss_lies_along_the_seconds_that_the_evaluations_took() -> None:
    blocks = [0.01, 0.012, 0.02, 0.013, 0.011, 0.016]
    found = records(
        Case("sgd", curves(7), times=blocks),
        Case("ada", curves(7, FALLING + 0.1), times=[3 * t for t in blocks]),
    )
    along, ends = curve_figure(found, "loss_time_lines").panels
    line = along.lines[0]
    assert line.label == "sgd"
    np.testing.assert_allclose(line.x, np.array([0, 2, 4, 6, 8]) * 12.5)
    np.testing.assert_allclose(line.y, np.median(curves(7), axis=0) - 0.24)
    assert along.x_label == "time of training (milliseconds)"
    front, *points = ends.lines
    ranked = np.sort(curves(7)[:, -1]) - 0.24
    assert [point.label for point in points] == ["sgd", "ada"]
    assert points[0].x[0] == pytest.approx(8 * 12.5)
    assert (points[0].x_low[0], points[0].x_high[0]) == pytest.approx((8 * 10, 8 * 20))
    assert (points[0].y[0], points[0].low[0], points[0].high[0]) == pytest.approx(
        (ranked[3], ranked[0], ranked[6])
    )
    assert (front.x.tolist(), front.y.tolist()) == ([points[0].x[0]], [points[0].y[0]])


def test_without_times_of_two_optimizers_no_loss_lies_along_them() -> None:
    cases = [Case("sgd", curves(3), times=[0.1, 0.1]), Case("ada", curves(3))]
    assert "loss_time_lines" not in records(*cases)


def test_the_front_has_whom_nobody_beats_in_both() -> None:
    random = np.random.default_rng(8)
    for _ in range(30):
        times, losses = random.integers(0, 6, (2, 9)).astype(float)
        expected = [
            i
            for i in range(9)
            if not any(
                times[j] <= times[i]
                and losses[j] <= losses[i]
                and (times[j] < times[i] or losses[j] < losses[i])
                for j in range(9)
            )
        ]
        front = elapsed.pareto_front(times.tolist(), losses.tolist())
        assert sorted(front) == expected
        assert [times[i] for i in front] == sorted(times[i] for i in front)
    assert elapsed.pareto_front([1.0, 2.0, math.nan], [math.inf, 3.0, 1.0]) == [1]


# Small multiples


def test_more_than_eight_names_have_a_panel_for_each_optimizer() -> None:
    cases = [Case(f"o{i}", curves(4, FALLING + 0.01 * i)) for i in range(8)]
    twice = [Case("last", curves(4), setting=f"lr={i}") for i in (1, 2)]
    few = curve_figure(records(*cases), "loss_lines")
    assert len(few.panels) == 2
    assert few.panels[0].behind == ()
    figure = curve_figure(records(*cases, *twice), "loss_lines")
    assert [panel.title for panel in figure.panels] == [*(f"o{i}" for i in range(8)), "last"]
    assert {panel.limits for panel in figure.panels} == {figure.panels[0].limits}
    for panel in figure.panels:
        assert {line.style.optimizer for line in panel.lines} == {panel.title}
        assert len(panel.behind) == 10
        assert all(line.faint and not line.label for line in panel.behind)
    assert [line.label for line in figure.panels[-1].lines] == ["lr=1", "lr=2"]
    assert [panel.has_legend for panel in figure.panels] == [False] * 8 + [True]
    drawn = panels.curves(figure)
    assert not drawn.legends
    (own,) = [legend for ax in drawn.axes if (legend := ax.get_legend()) is not None]
    assert [text.get_text() for text in own.get_texts()] == ["lr=1", "lr=2"]


# Drawings


@pytest.fixture(scope="module")
def drawn() -> tuple[list[FigureRecord], list[figures.Drawing]]:
    found = built(results(*everything()))
    return found, figures.draw_all(found)


Drawn = tuple[list[FigureRecord], list[figures.Drawing]]


def test_every_kind_of_figure_is_there(drawn: Drawn) -> None:
    assert [record.name for record in drawn[0]] == [
        "overview",
        "trajectories_bowl",
        "loss_bowl",
        "loss_time_bowl",
        "final_loss_bowl",
        "loss_lines",
        "loss_time_lines",
        "final_loss_lines",
        "seconds_per_epoch",
        "coordinates_bowl",
        "step_sizes_bowl",
    ]


def test_the_same_results_give_the_same_bytes(drawn: Drawn) -> None:
    again = figures.draw_all(built(results(*everything())))
    assert again == drawn[1]


def test_an_svg_stands_alone_and_its_ids_are_its_own(drawn: Drawn) -> None:
    ids: list[str] = []
    for record, drawing in zip(*drawn, strict=True):
        assert drawing.svg.startswith("<svg")
        root = ET.fromstring(drawing.svg)
        assert root.get("aria-label") == record.alt
        own = [e.get("id", "") for e in root.iter() if e.get("id")]
        used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', drawing.svg))
        assert used == set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_an_svg_has_no_style_sheet_no_metadata_and_only_ink_grid_paper_and_data(
    drawn: Drawn,
) -> None:
    styles = figure_styles.styles(results(*everything())).values()
    paper = {frames.FOREGROUND, frames.GRID, frames.BACKGROUND, times.FRONT.color}
    known = paper | {s.color for s in styles}
    for drawing in drawn[1]:
        assert not re.search(r"<style|<metadata|<!--|<\?xml|<!DOCTYPE|<image", drawing.svg)
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawing.svg)) <= known


def test_no_text_is_smaller_than_nine_points(drawn: Drawn) -> None:
    for drawing in drawn[1]:
        sizes = [float(size) for size in re.findall(r"font(?:-size)?: ([0-9.]+)px", drawing.svg)]
        assert sizes
        assert min(sizes) >= 9


def test_a_png_has_300_dots_per_inch_and_says_so(drawn: Drawn) -> None:
    for drawing in drawn[1]:
        with Image.open(io.BytesIO(drawing.png)) as image:
            assert image.format == "PNG"
            assert image.width == round(frames.WIDTH * 300)
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_pdf_has_the_size_of_the_svg_and_its_fonts_as_truetype(drawn: Drawn) -> None:
    for drawing in drawn[1]:
        assert drawing.pdf.startswith(b"%PDF-")
        assert b"/FontFile2" in drawing.pdf
        assert b"/Type3" not in drawing.pdf
        assert b"/CreationDate" not in drawing.pdf
        box = re.search(rb"/MediaBox \[ 0 0 ([0-9.]+) ([0-9.]+) \]", drawing.pdf)
        assert box is not None
        size = re.search(r'width="([0-9.]+)pt" height="([0-9.]+)pt"', drawing.svg)
        assert size is not None
        assert [float(x) for x in box.groups()] == pytest.approx(
            [float(x) for x in size.groups()], abs=0.01
        )


def test_letters_that_the_short_font_lacks_come_from_the_whole_one() -> None:
    known = {ord(sign) for sign in "Москва"}
    assert not known & set(fonts.LETTERS)
    ours = Case("Москва −1 × 10⁻⁶", curves(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a letter that no font has
        drawing = figures.draw(records(ours)["loss_lines"])
    assert "Москва" in drawing.svg
    assert drawing.pdf.count(b"/FontFile2") >= 2


def test_names_are_text_and_neither_markup_nor_mathematics() -> None:
    name, setting = '<b>&"x$_1$', "p=$a^2$"
    found = built(results(Case(name, curves(3), setting=setting, times=[0.1, 0.2])))
    for drawing in figures.draw_all(found):
        texts = [e.text for e in ET.fromstring(drawing.svg).iter() if e.tag.endswith("text")]
        of_optimizers = drawing.name == "overview"
        assert (name if of_optimizers else f"{name} ({setting})") in texts


def marks_of(svg: str) -> list[tuple[float, float]]:
    """Where the dots of a drawing of one row stand: the longest path that has marks for points."""
    paths = re.findall(r'<path d="M([^"]*)" style="fill: none; marker: [^"]*"/>', svg)
    steps = re.findall(r"-?[0-9]*\.?[0-9]+", max(paths, key=len))
    points = np.array([float(step) for step in steps]).reshape(-1, 2)
    return [(float(x), float(y)) for x, y in points.cumsum(axis=0)]


def test_marks_stand_where_the_values_are_and_take_few_bytes() -> None:
    losses = curves(100, noise=0.01)
    found = dot_figure(records(Case("sgd", losses)), "final_loss_lines")
    svg = figures.draw(found).svg
    (row,) = found.panels[0].rows
    of_value = np.log10(row.values) if found.panels[0].log else row.values
    x, y = np.transpose(marks_of(svg))
    assert np.corrcoef(x, of_value)[0, 1] > 0.999999
    assert np.corrcoef(y, row.offsets)[0, 1] > 0.9999
    assert len(svg) - len(found.alt) < 5000 + 16 * len(row.values)


def element_of(body: str) -> str:
    """An element as it is made of a drawing with some tags."""
    shape = '<path id="a" d="M 0 1.93C 0.51 1.93 1 1.73 0 1.93z "/>'
    return svg_element(f"<svg>\n<defs>\n{shape}\n</defs>\n{body}</svg>\n", "")


def test_marks_as_a_path_are_at_the_places_that_they_had_one_by_one() -> None:
    uses = [(1.25, 7.5), (3.0, 2.04), (2.99, 2.04), (-0.5, 100.0)] * 5
    style = "fill: #0072b2; fill-opacity: 0.8"
    each = [f'<use xlink:href="#a" x="{x}" y="{y}" style="{style}"/>\n' for x, y in uses]
    made = element_of("".join(each))
    np.testing.assert_allclose(marks_of(made), uses, atol=1e-9)
    [marker] = re.findall(r"<marker .*?</marker>", made)
    assert f'<use xlink:href="#a" style="{style}"/>' in marker
    assert made.count("<use") == 1
    # A mark alone is no path.
    other = each[0].replace("#0072b2", "#d55e00")
    made = element_of(f"{each[0]}{each[1]}{other}")
    np.testing.assert_allclose(marks_of(made), uses[:2], atol=1e-9)
    assert other.strip() in made
    assert element_of(each[0]).count("<use") == 1


def test_the_grid_of_an_axis_is_one_path_and_its_ticks_another() -> None:
    def line(d: str, color: str = frames.GRID) -> str:
        style = f"fill: none; stroke: {color}; stroke-width: 0.8; stroke-linecap: round"
        return f'<path d="{d}" clip-path="url(#p)" style="{style}"/>\n'

    ink = f"fill: {frames.FOREGROUND}; stroke: {frames.FOREGROUND}; stroke-width: 0.8"

    def tick(x: int) -> str:
        mark = f'<use xlink:href="#a" x="{x}" y="9" style="{ink}"/>\n<text x="{x}">{x}</text>\n'
        return line(f"M {x} 1 L {x} 5") + mark

    data = line("M 0 4 L 2 4", "#0072b2")
    made = element_of(f"{tick(1)}{tick(3)}{data}{tick(5)}")
    grid = re.findall(r'<path d="([^"]*)" clip', made)
    assert grid == ["M1 1l0 4M3 1l0 4", "M0 4l2 0", "M5 1l0 4"]
    assert re.findall(r'<path d="([^"]*)" style="fill: none; marker', made) == ["M1 9l2 0"]
    assert re.findall(r"<text[^>]*>(.)</text>", made) == ["1", "3", "5"]


def test_a_line_keeps_the_points_at_which_it_bends() -> None:
    x = np.linspace(0, 200, 400)
    y = np.where(x < 100, x, 200 - x) + 0.05 * np.sin(50 * x)
    path = "L ".join(f"{a:.2f} {b:.2f} " for a, b in zip(x, y, strict=True))
    element = element_of(f'<path d="M {path}" style="fill: none"/>\n')
    [made] = re.findall(r' d="M([^"]*)" style="fill: none"', element)
    steps = [float(step) for step in re.findall(r"-?[0-9]*\.?[0-9]+", made)]
    points = np.array(steps).reshape(-1, 2).cumsum(axis=0)
    assert len(points) < 40
    assert np.abs(np.interp(x, points[:, 0], points[:, 1]) - y).max() < 0.6


def test_an_svg_is_short(drawn: Drawn) -> None:
    for drawing in drawn[1]:
        assert len(drawing.svg) < 50_000, drawing.name


def test_a_logarithmic_axis_has_plain_numbers() -> None:
    figure = curve_figure(records(Case("sgd", BOWL, QUADRATIC)), "loss_bowl")
    assert figure.panels[0].log
    texts = {e.text for e in ET.fromstring(figures.draw(figure).svg).iter() if e.text}
    assert {"0.001", "0.01", "0.1", "1", "10"} <= texts


def test_drawing_leaves_matplotlibs_settings_alone(drawn: Drawn) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figures.draw(drawn[0][0])
    assert dict(mpl.rcParams) == before


def only(losses: list[list[float]], **more: Any) -> Callable[[], list[Case]]:
    return lambda: [Case("sgd", np.array(losses), **more)]


HARD: dict[str, Callable[[], list[Case]]] = {
    "one seed": only([[0.5, 0.4, 0.3, 0.3, 0.3]], times=[0.1]),
    "negative losses": only([[5, 1, -1, -20, -30], [5, 1, -1, -21, -35]]),
    "losses of zero": only([[1, 0.1, 0, 0, 0], [1, 0.1, 1e-9, 0, 0]]),
    "equal losses": only([[0.5] * 5, [0.5] * 5]),
    "huge losses": only([[1, 1e100, 1e200, 1e300, 1e306]] * 2),
    "tiny losses": only([[1, 1e-100, 1e-200, 1e-300, 5e-324]] * 2),
    "huge negative losses": only([[-1e307, 1e307, 0, 1, 2]]),
    "nothing finite": only([[np.nan] * 5], status=["diverged"]),
    "errors at once": only([[np.nan] * 5] * 3, status=["error"] * 3),
    "no device": only([[np.nan] * 5] * 3, status=["unavailable"] * 3),
    "only a start": only([[0.5] + [np.nan] * 4], status=["timeout"]),
    "below the optimum by rounding": only([[0.5, 0.3, 0.24, 0.2399999, 0.24]] * 2),
    "a path of one point": lambda: [
        Case("sgd", BOWL, QUADRATIC, status=["error"], paths=[PATH[:1]], sizes=[SIZES[:1]])
    ],
    "a path far out": lambda: [
        Case("sgd", BOWL, QUADRATIC, status=["diverged"], paths=[PATH * 1e200])
    ],
    "no landscape and no window": lambda: [
        Case(
            "sgd",
            BOWL,
            dataclasses.replace(QUADRATIC, landscape=None, window=None, minimizers=()),
            paths=[PATH],
        )
    ],
    "a landscape with holes": lambda: [
        Case(
            name,
            BOWL,
            dataclasses.replace(QUADRATIC, landscape=np.where(np.eye(31) > 0, np.inf, LANDSCAPE)),
            paths=[PATH],
        )
        for name in ("sgd", "ada")
    ],
    "many steps": lambda: [
        Case(
            "sgd",
            np.ones((1, 5000)) * np.geomspace(1, 1e-8, 5000),
            dataclasses.replace(QUADRATIC, steps=4999, record_steps=np.arange(5000)),
            paths=[np.linspace((-5, -2), (0, 0), 5000)],
            sizes=[np.geomspace((1, 1), (0.1, 0.01), 5000)],
        )
    ],
    "long names": lambda: [
        Case(n * 64, curves(2), setting="lr=0.123456, momentum=0.9" * 4, times=[1, 2]) for n in "ab"
    ],
    "two devices": lambda: [
        Case(n, BOWL, QUADRATIC, device=d, paths=[PATH], sizes=[SIZES], times=[1e-5])
        for n in ("sgd", "ada")
        for d in ("cpu", "cuda")
    ],
}


@pytest.mark.parametrize("what", HARD)
def test_hard_cases_are_drawn(what: str) -> None:
    for drawing in figures.draw_all(built(results(*HARD[what]()))):
        ET.fromstring(drawing.svg)
        assert "nan" not in re.sub(r">[^<]*<|aria-label=\"[^\"]*\"", "", drawing.svg)


def test_what_never_ran_has_no_figures() -> None:
    assert records(*HARD["no device"]()) == {}
    assert records(*HARD["errors at once"]()) == {}


def test_a_long_curve_is_thinned_with_both_its_ends() -> None:
    line = curve_figure(records(*HARD["many steps"]()), "loss_bowl").panels[0].lines[0]
    assert len(line.x) == figure_records.POINTS
    assert (line.x[0], line.x[-1]) == (0, 4999)


# Notes of what is not drawn


@pytest.mark.parametrize(
    ("shown", "total", "note"), [(12, 40, "Shown: 12 of 40 cases."), (12, 12, "")]
)
def test_a_note_counts_what_is_shown(shown: int, total: int, note: str) -> None:
    assert figure_records.shown_of(shown, total) == note


def test_a_figure_of_many_cases_says_how_many_are_shown() -> None:
    count = figure_records.ROWS + 5
    cases = [Case("a", curves(3, FALLING + 0.01 * i), setting=f"lr={i}") for i in range(count)]
    found = records(*cases)
    assert found["final_loss_lines"].note == f"Shown: {figure_records.ROWS} of {count} cases."
    named = f"With a name: {figure_records.CURVES} of {count} cases."
    assert found["loss_lines"].note == f"{named} Lowest possible loss: 0.24."
    svg = figures.draw(found["loss_lines"]).svg
    assert found["loss_lines"].note in {e.text for e in ET.fromstring(svg).iter()}
    few = records(*cases[: figure_records.CURVES])
    assert few["final_loss_lines"].note == ""
    assert few["loss_lines"].note == "Lowest possible loss: 0.24."


def test_coordinates_of_many_cases_say_how_many_are_shown() -> None:
    count = figure_records.CURVES + 3
    cases = [Case("a", BOWL, QUADRATIC, paths=[PATH], setting=f"lr={i}") for i in range(count)]
    note = records(*cases)["coordinates_bowl"].note
    assert note == f"Shown: {figure_records.CURVES} of {count} cases."


def test_an_optimum_within_a_logarithmic_scale_is_drawn() -> None:
    falling = np.array([[1000.0, 100.0, 10.0, 1.0, 0.25], [900.0, 90.0, 9.0, 2.0, 0.2405]])
    inside = curve_figure(records(Case("sgd", falling)), "loss_lines").panels[0]
    assert inside.log
    assert inside.limits[0] < 0.24
    assert inside.reference_line == 0.24
    below = dataclasses.replace(REGRESSION, optimum=0.001)
    beyond = curve_figure(records(Case("sgd", falling, below)), "loss_lines").panels[0]
    assert beyond.log
    assert beyond.reference_line is None


@pytest.mark.parametrize(("optimum", "is_off"), [(-1e3, True), (0.2, False), (None, False)])
def test_an_optimum_off_the_scale_is_said_to_be(optimum: float | None, is_off: bool) -> None:
    info = dataclasses.replace(REGRESSION, optimum=optimum)
    found = records(Case("sgd", np.linspace(0.5, 0.21, 10).reshape(2, 5), info))
    for name in ("loss_lines",):
        assert ("The lowest possible loss, -1000, is off the scale." in found[name].note) == is_off
        assert (found[name].note == "") != is_off


def test_powers_of_ten_are_written_as_such() -> None:
    assert ticks.power_of_ten(1e-6) == "10⁻⁶"
    assert ticks.power_of_ten(3e12) == "3·10¹²"


def test_an_entry_of_several_colours_has_none_in_the_legend() -> None:
    figure = planes.planes(
        plane_figure(records(Case("sgd", BOWL, QUADRATIC, paths=[PATH])), "trajectories_bowl")
    )
    (legend,) = figure.legends
    handles = dict(zip([t.get_text() for t in legend.get_texts()], legend.get_lines(), strict=True))
    assert handles["end"].get_color() == frames.FOREGROUND
