"""Figures of comparisons: records against independent computation, drawings for what they hold."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import itertools
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from numpy.typing import NDArray

from harness.analysis import comparison
from harness.analysis.summary import analyse
from harness.plan.model import Role
from harness.reporting.figures import comparison as comparison_figures
from harness.reporting.figures import draw, frames
from harness.reporting.figures import records as figure_records
from harness.reporting.figures import styles as figure_styles
from harness.reporting.figures.draw import Drawing
from harness.reporting.figures.records import (
    CurveFigure,
    DotFigure,
    FigureRecord,
    HeatFigure,
    Line,
)
from harness.reporting.page import parts
from harness.reporting.page import run as run_page
from harness.reporting.tables import comparison as comparison_tables
from harness.reporting.tables.sentences import Findings
from harness.store.read import CaseData, ObjectiveInfo, Results, Tried
from harness.store.records import RunRecord, RunSettings

Array = NDArray[np.float64]

LINES = ObjectiveInfo(
    name="lines",
    formula="",
    dimension=6,
    rows=40,
    steps=8,
    steps_per_epoch=4,
    record_steps=np.array([0, 1, 2, 4, 8]),
    optimum=None,
    minimizers=(),
    window=None,
    landscape=None,
    data_source="",
)
BOWL = dataclasses.replace(LINES, name="bowl", optimum=0.2)
NAN = math.nan


@dataclasses.dataclass
class Case:
    """One case by its final losses, NaN where a trial failed.

    ``curves`` are the losses at the recorded steps; without them a trial starts at 1 and falls at
    once. ``seconds`` is what a step takes.
    """

    optimizer: str
    finals: Sequence[float] | Array
    info: ObjectiveInfo = LINES
    setting: str = ""
    role: Role = "given"
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    device: str = "cpu"
    curves: Sequence[Sequence[float]] | Array | None = None
    seconds: float | None = None
    absent: bool = False


def results(*cases: Case, tried: Sequence[Tried] = (), **settings: Any) -> Results:
    made, trials, timings = [], [], []
    for position, case in enumerate(cases):
        finals = np.asarray(case.finals, dtype=float)
        losses = np.column_stack([np.ones(len(finals)), *[finals] * 4])
        made.append(
            CaseData(
                position=position,
                objective=case.info.name,
                optimizer=case.optimizer,
                setting=case.setting,
                device=case.device,
                optimizer_class="X",
                hyperparameters=dict(case.given),
                defaults={},
                dtype="float64",
                seeds=np.arange(len(finals)),
                losses=losses if case.curves is None else np.asarray(case.curves, dtype=float),
                trajectories={},
                step_sizes={},
                role=case.role,
            )
        )
        names = (case.info.name, case.optimizer, case.setting, made[-1].label, case.device)
        for seed, final in enumerate(finals):
            status = "unavailable" if case.absent else "ok" if np.isfinite(final) else "diverged"
            trials.append((position, *names, seed, status, 8, "", 0.0, "pointwise", "", final))
        if case.seconds is not None:
            block = (case.seconds * 10,) * 2
            timings += [(position, i, 10, 4, *block, case.seconds * 4) for i in range(3)]
    columns = [
        *("position", "objective", "optimizer", "setting", "label", "device"),
        *("seed", "status", "step", "reason", "seconds", "way", "way_reason", "final_loss"),
    ]
    timed = [
        *("position", "round", "steps", "steps_per_epoch"),
        *("seconds", "cpu_seconds", "epoch_seconds"),
    ]
    told = RunSettings.model_validate({"seeds": [0], **settings})
    return Results(
        RunRecord(1, "", "", "", "suite", "", "", told, {}),
        {case.info.name: case.info for case in cases},
        tuple(made),
        pd.DataFrame(trials, columns=columns),
        pd.DataFrame(timings, columns=timed),
        tried=tuple(tried),
    )


Found = dict[str, FigureRecord]


def built(known: Results) -> Found:
    return {record.name: record for record in comparison_figures.build(known, analyse(known))}


def records(*cases: Case, **more: Any) -> Found:
    return built(results(*cases, **more))


def curve_figure(found: Found, name: str) -> CurveFigure:
    record = found[name]
    assert isinstance(record, CurveFigure)
    return record


def dot_figure(found: Found, name: str) -> DotFigure:
    record = found[name]
    assert isinstance(record, DotFigure)
    return record


def heat_figure(found: Found, name: str) -> HeatFigure:
    record = found[name]
    assert isinstance(record, HeatFigure)
    return record


def noisy(mean: float, seeds: int = 12, sd: float = 0.01, seed: int = 0) -> Array:
    return np.asarray(mean + sd * np.random.default_rng(seed).standard_normal(seeds))


def tuned(
    spaces: Mapping[str, Mapping[str, Any]],
    settings: Sequence[Mapping[str, Any]],
    losses: Sequence[Sequence[float]] | Array,
    sweeps: Sequence[tuple[str, float, Sequence[float]]] = (),
    *,
    optimizer: str = "ada",
    info: ObjectiveInfo = LINES,
    best: Mapping[str, Any] | None = None,
    defaults: Sequence[float] | None = None,
) -> dict[str, Any]:
    """A tuned optimizer: its cases, what was tried, and what was searched."""
    won = dict(best or settings[int(np.nanargmin(np.mean(np.asarray(losses), axis=1)))])

    def one(role: Role, given: Mapping[str, Any], varied: str, ends: Sequence[float]) -> Tried:
        array = np.asarray(ends, dtype=float)
        statuses = tuple("ok" if np.isfinite(v) else "diverged" for v in array)
        return Tried(role, info.name, optimizer, "cpu", dict(given), varied, statuses, array)

    tried = [one("tuning", s, "", own) for s, own in zip(settings, losses, strict=True)]
    tried += [one("sweep", won | {n: value}, n, own) for n, value, own in sweeps]
    cases = [Case(optimizer, noisy(0.3), info, "tuned", "tuned", won)]
    if defaults is not None:
        cases.append(Case(optimizer, defaults, info, "defaults", "defaults"))
    return {"cases": cases, "tried": tried, "searches": {optimizer: dict(spaces)}}


def of_tuned(*several: Mapping[str, Any], others: Sequence[Case] = (), **more: Any) -> Results:
    searches = {name: spaces for one in several for name, spaces in one["searches"].items()}
    return results(
        *(case for one in several for case in one["cases"]),
        *others,
        tried=[tried for one in several for tried in one["tried"]],
        searches=searches,
        tuning_seeds=[100, 101],
        **more,
    )


def claim(value: str, optimizer: str = "sgd", **more: Any) -> dict[str, Any]:
    told = {"value": value, "source": "a book, table 1", "optimizer": optimizer}
    return {**told, "objective": "lines", **more}


def counted(line: Line, costs: Sequence[float]) -> Array:
    """The share of costs that are at most a line's x, at each; misses are infinite."""
    return np.array([sum(cost <= x for cost in costs) / len(costs) for x in line.x])


# Differences


def hodges_lehmann(differences: np.ndarray) -> float:
    """The median of all averages of two differences, each with itself included."""
    pairs = np.add.outer(differences, differences) / 2
    return float(np.median(pairs[np.triu_indices(len(differences))]))


def test_dots_are_differences_seed_by_seed_and_the_interval_is_that_of_the_pair() -> None:
    a, b, c = noisy(0.30), noisy(0.32, seed=1), noisy(0.35, seed=2)
    known = results(Case("a", c), Case("b", a), Case("c", b))
    analysis = analyse(known)
    figure = dot_figure(built(known), "differences_lines")
    (panel,) = figure.panels
    assert [row.label for row in panel.rows] == ["c", "a"]
    for row, own in zip(panel.rows, (b, c), strict=True):
        np.testing.assert_array_equal(row.values, np.sort(own - a))
        assert row.centre == pytest.approx(hodges_lehmann(own - a), rel=1e-12)
        assert (np.abs(row.offsets) <= 0.5).all()
    for row, index in zip(panel.rows, (2, 0), strict=True):
        pair = analysis.compared[0].between(index, 1)
        assert pair is not None
        assert (row.low, row.high) == (pair.low, pair.high)
        assert row.low < row.centre < row.high
    assert panel.limits[0] < 0 < panel.limits[1]
    assert panel.x_label == "difference of the loss after 2 epochs"


def test_the_rule_is_the_best_case_and_it_has_no_row() -> None:
    figure = dot_figure(records(Case("a", noisy(0.3)), Case("b", noisy(0.2))), "differences_lines")
    (panel,) = figure.panels
    assert (panel.reference_line, panel.reference_label) == (0.0, "b")
    assert [row.label for row in panel.rows] == ["a"]


def test_the_best_is_the_one_with_fewest_failures_however_low_the_others_are() -> None:
    figure = dot_figure(
        records(Case("a", [0.1, 0.1, NAN, 0.1]), Case("b", noisy(0.5, 4))), "differences_lines"
    )
    assert figure.panels[0].reference_label == "b"


def test_defaults_stand_in_a_panel_of_their_own() -> None:
    cases = [
        Case("a", noisy(0.3), setting="tuned", role="tuned"),
        Case("a", noisy(9.0, seed=1), setting="defaults", role="defaults"),
        Case("b", noisy(0.31, seed=2)),
    ]
    tuned_ones, defaults = dot_figure(records(*cases), "differences_lines").panels
    assert [row.label for row in tuned_ones.rows] == ["b"]
    assert [row.label for row in defaults.rows] == ["a (defaults)"]
    assert tuned_ones.limits[1] < 1 < 8.7 < defaults.limits[1]
    assert defaults.limits[0] < 0
    assert tuned_ones.reference_label == defaults.reference_label == "a (tuned)"


def test_failures_are_noted_and_only_seeds_at_which_both_ended_ok_have_a_dot() -> None:
    own, other = noisy(0.3, 12), noisy(0.4, 12, seed=1)
    other[[1, 4]] = NAN
    kept = [0, 2, 3, 5, *range(6, 12)]
    figure = dot_figure(records(Case("a", own), Case("b", other)), "differences_lines")
    (row,) = figure.panels[0].rows
    assert row.note == "2 of 12 failed"
    np.testing.assert_array_equal(row.values, np.sort(other[kept] - own[kept]))
    worst = np.where(np.isnan(other), 1e9, other)
    assert row.centre == pytest.approx(hodges_lehmann(worst - own))


@pytest.mark.parametrize(
    "cases",
    [
        [Case("a", [0.3]), Case("b", [0.4])],
        [Case("a", [0.3] * 5), Case("b", [0.4] * 5)],
        [Case("a", noisy(0.3))],
        [Case("a", [NAN] * 5), Case("b", [NAN] * 5)],
        [Case("a", noisy(0.3)), Case("b", [NAN] * 12, absent=True)],
        [Case("a", noisy(0.3)), Case("b", [NAN] * 12)],
    ],
    ids=["one seed", "nothing random", "one case", "all failed", "absent", "no seed in common"],
)
def test_where_no_difference_can_be_shown_there_is_no_figure_of_any(cases: list[Case]) -> None:
    assert "differences_lines" not in records(*cases)


def test_a_shift_that_failures_decide_is_an_arrow_to_the_right() -> None:
    other = noisy(0.4, 12, seed=1)
    other[:8] = NAN
    figure = dot_figure(records(Case("a", noisy(0.3)), Case("b", other)), "differences_lines")
    (panel,) = figure.panels
    (row,) = panel.rows
    assert (panel.side(row.centre), row.centre_text) == (1, "∞")
    assert panel.side(row.high) == 1
    assert panel.limits[1] < 1
    assert "∞" in {e.text for e in ET.fromstring(draw.draw(figure).svg).iter()}


def test_mean_ranks_have_half_the_critical_difference_each_way() -> None:
    infos = [dataclasses.replace(LINES, name=f"f{i}") for i in range(6)]
    cases = [
        Case(name, [loss, loss], info)
        for i, info in enumerate(infos)
        for name, loss in (("c", 0.3), ("a", 0.1), ("b", 0.2 if i else 0.05))
    ]
    figure = dot_figure(records(*cases), "mean_ranks")
    (panel,) = figure.panels
    difference = 2.3437 * math.sqrt(3 * 4 / (6 * 6))
    assert [row.label for row in panel.rows] == ["a", "b", "c"]
    for row, ranks in zip(panel.rows, ([1] * 5 + [2], [1] + [2] * 5, [3] * 6), strict=True):
        assert row.values.tolist() == ranks
        assert row.centre == pytest.approx(np.mean(ranks))
        assert (row.high - row.centre, row.centre - row.low) == pytest.approx(
            (difference / 2, difference / 2), rel=1e-3
        )
    assert panel.reference_line == pytest.approx(7 / 6 + difference, rel=1e-3)
    table = comparison_tables.mean_ranks(analyse(results(*cases)).ranked)
    assert table is not None
    assert table.frame["optimizer"].tolist() == ["a", "b", "c"]
    assert table.frame["worse_than_best"].tolist() == ["no", "no", "yes"]
    assert table.frame["lowest_on"].tolist() == [5, 1, 0]
    assert "mean_ranks" not in records(*cases[:12])


def test_a_row_without_dots_is_not_said_to_have_no_seed_that_ended_ok() -> None:
    cases = [
        Case("a", [0.1, 0.2, 0.3, NAN]),
        Case("b", [NAN, NAN, NAN, 0.5]),
        Case("c", [0.2, 0.3, 0.5, NAN]),
    ]
    known = dot_figure(records(*cases), "differences_lines")
    row = next(row for row in known.panels[0].rows if row.label == "b")
    assert (len(row.values), row.note) == (0, "3 of 4 failed")
    # One of b's seeds did: it is the seed at which the best failed.
    assert "no seed ended ok" not in draw.draw(known).svg


def test_of_thousands_of_seeds_some_dots_are_drawn_and_the_mean_is_of_all() -> None:
    a, b = noisy(0.3, 2000), noisy(0.31, 2000, seed=1)
    figure = dot_figure(records(Case("a", a), Case("b", b)), "differences_lines")
    (row,) = figure.panels[0].rows
    assert len(row.values) == figure_records.DOTS
    assert (row.values[0], row.values[-1]) == ((b - a).min(), (b - a).max())
    assert row.centre == pytest.approx(hodges_lehmann(b - a))


# Running times and profiles

STEPS = np.array([0, 1, 2, 4, 8])
QUICK = [[1, 0.5, 0.2, 0.1, 0.1], [1, 0.9, 0.5, 0.2, 0.1]]
SLOW = [[1, 0.9, 0.9, 0.5, 0.4], [1, 0.9, 0.9, 0.9, 0.9]]
TARGETS = {"given": [{"value": 0.5}, {"value": 0.2}]}
NEVER = math.inf
# Steps to 0.5 and 0.2: quick 1, 2 and 2, 4; slow 4 and never, never and never.


def racing(info: ObjectiveInfo = LINES, **more: Any) -> list[Case]:
    return [
        Case("quick", [0.1, 0.1], info, curves=QUICK, **more),
        Case("slow", [0.4, 0.9], info, curves=SLOW, **more),
    ]


def test_shares_of_targets_reached_are_counted_by_hand() -> None:
    figure = curve_figure(records(*racing(), targets={"lines": TARGETS}), "runtime_lines")
    (panel,) = figure.panels
    quick, slow = panel.lines
    np.testing.assert_allclose(quick.y, counted(quick, [1, 2, 2, 4]))
    np.testing.assert_allclose(slow.y, counted(slow, [4, NEVER, NEVER, NEVER]))
    assert (quick.y[0], quick.y[-1], slow.y[0], slow.y[-1]) == (0.25, 1, 0, 0.25)
    assert (panel.x_label, panel.y_label, panel.x_log) == (
        "steps",
        "share of targets reached",
        True,
    )
    assert (quick.x[0], quick.x[-1]) == pytest.approx((1, 4.2))


def test_seconds_are_steps_at_the_time_per_step() -> None:
    timed = [
        dataclasses.replace(case, seconds=s) for case, s in zip(racing(), (3.0, 0.5), strict=True)
    ]
    figure = curve_figure(records(*timed, targets={"lines": TARGETS}), "runtime_lines")
    steps, seconds = figure.panels
    assert (steps.x_label, seconds.x_label, figure.columns) == ("steps", "seconds", 2)
    quick, slow = seconds.lines
    np.testing.assert_allclose(quick.y, counted(quick, [3, 6, 6, 12]))
    np.testing.assert_allclose(slow.y, counted(slow, [2, NEVER, NEVER, NEVER]))
    assert (quick.x[0], quick.x[-1]) == pytest.approx((2, 12.6))


def test_with_one_case_that_is_not_timed_there_are_steps_alone() -> None:
    first, second = racing()
    known = records(dataclasses.replace(first, seconds=1.0), second, targets={"lines": TARGETS})
    assert [panel.x_label for panel in curve_figure(known, "runtime_lines").panels] == ["steps"]


def falling(rate: float, seeds: int = 15, seed: int = 0) -> Array:
    rates = rate * (1 + 0.4 * np.random.default_rng(seed).standard_normal((seeds, 1)))
    return np.asarray(0.2 + 0.8 * np.exp(-np.abs(rates) * STEPS))


def race(info: ObjectiveInfo = LINES, seeds: int = 15, seconds: float | None = 1e-5) -> list[Case]:
    found = []
    for i, (name, rate) in enumerate([("sgd", 0.5), ("momentum", 0.9), ("adam", 0.3)]):
        losses = falling(rate, seeds, i)
        found.append(Case(name, losses[:, -1], info, curves=losses, seconds=seconds))
    return found


RACE = {
    "lines": {
        "given": [{"value": 0.6}, {"value": 0.4}, {"value": 0.3}, {"value": 0.25}, {"value": 0.1}]
    },
    "bowl": {"given": [{"value": 0.5}], "tolerances": [0.1]},
}


def test_shares_rise_within_0_and_1_and_bands_enclose_them() -> None:
    known = records(*race(), *race(BOWL), targets=RACE)
    names = ["runtime_lines", "runtime_bowl", "profile", "runtime"]
    panels = [panel for name in names for panel in curve_figure(known, name).panels]
    assert len(panels) == 8
    for panel in panels:
        assert panel.limits[0] < 0 < 1 < panel.limits[1]
        for line in panel.lines:
            assert (np.diff(line.x) > 0).all()
            assert (np.diff(line.y) >= 0).all()
            assert (line.y >= 0).all()
            assert (line.y <= 1).all()
            if len(line.low):
                assert (line.low <= line.y).all()
                assert (line.high >= line.y).all()
                assert (line.low >= 0).all()
                assert (line.high <= 1).all()
        assert any(len(line.low) for line in panel.lines)


def test_a_share_that_is_the_same_at_every_seed_has_no_band() -> None:
    same = [
        Case(c.optimizer, c.finals, curves=[c.curves[0]] * 2)
        for c in racing()
        if c.curves is not None
    ]
    figure = curve_figure(records(*same, targets={"lines": TARGETS}), "runtime_lines")
    assert [len(line.low) for line in figure.panels[0].lines] == [0, 0]


def test_what_was_reached_before_a_failure_is_reached() -> None:
    cases = [Case("a", [0.1, NAN], curves=QUICK), *racing()[1:]]
    figure = curve_figure(records(*cases, targets={"lines": TARGETS}), "runtime_lines")
    assert figure.panels[0].lines[0].y[-1] == 1.0


def test_of_many_cases_those_that_do_best_are_drawn() -> None:
    many = [
        Case(f"o{i}", noisy(0.3 + 0.01 * (i % 7), 3, 1e-4, i), curves=[[1, 0.9, 0.6, 0.5, 0.4]] * 3)
        for i in range(20)
    ]
    figure = curve_figure(records(*many, targets={"lines": TARGETS}), "runtime_lines")
    assert len(figure.panels[0].lines) == figure_records.LEGEND
    means = {case.optimizer: float(np.mean(case.finals)) for case in many}
    drawn = {line.label for line in figure.panels[0].lines}
    assert drawn == set(sorted(means, key=means.__getitem__)[: figure_records.LEGEND])


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        (racing(), {}),
        (racing(), {"lines": {"given": [{"value": 0.001}]}}),
        ([Case("a", [NAN] * 3), Case("b", [NAN] * 3)], {"lines": TARGETS}),
        ([Case("a", [0.1, 0.1], curves=[[0.1] * 5] * 2)], {"lines": TARGETS}),
    ],
    ids=["no targets", "none reached", "all failed", "reached before the first step"],
)
def test_where_no_target_takes_any_step_there_is_no_figure_of_steps(
    cases: list[Case], told: dict[str, Any]
) -> None:
    assert "runtime_lines" not in records(*cases, targets=told)


def both() -> list[Case]:
    """Two objectives with two targets each; on the bowl the slow one is the quick one."""
    quick, slow = racing(BOWL)
    turned = [
        dataclasses.replace(quick, curves=slow.curves, finals=slow.finals),
        dataclasses.replace(slow, curves=quick.curves, finals=quick.finals),
    ]
    return [*racing(), *turned]


SAME = {"lines": TARGETS, "bowl": TARGETS}


def test_a_profile_is_counted_by_hand_at_1_and_at_the_end() -> None:
    figure = curve_figure(records(*both(), targets=SAME), "profile")
    (panel,) = figure.panels
    quick, slow = panel.lines
    # Eight problems and seeds. Each is the best at four; once, at 0.5 and the first seed, the
    # other takes 4 steps to its 1.
    for line in (quick, slow):
        np.testing.assert_allclose(line.y, counted(line, [1, 1, 1, 1, 4, NEVER, NEVER, NEVER]))
        assert (line.x[0], line.y[0], line.y[-1]) == (1, 0.5, 0.625)
    assert panel.x_label == "steps, as a multiple of the best's"
    assert figure.objective is None


def test_running_times_over_all_objectives_are_counted_by_hand() -> None:
    figure = curve_figure(records(*both(), targets=SAME), "runtime")
    (panel,) = figure.panels
    for line in panel.lines:
        np.testing.assert_allclose(line.y, counted(line, [1, 2, 2, 4, 4, NEVER, NEVER, NEVER]))
    assert [line.label for line in panel.lines] == ["quick", "slow"]
    assert (panel.x_label, panel.x_log, figure.objective) == ("steps", True, None)


def test_a_profile_leaves_out_who_did_not_run_on_all_objectives() -> None:
    others = [dataclasses.replace(racing()[0], optimizer="half")]
    figure = curve_figure(records(*both(), *others, targets=SAME), "profile")
    assert [line.label for line in figure.panels[0].lines] == ["quick", "slow"]


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        (racing(), SAME),
        (both(), {"lines": TARGETS, "bowl": {"given": [], "tolerances": []}}),
        (both()[::2], SAME),
    ],
    ids=["one objective", "targets on one alone", "one optimizer"],
)
def test_without_two_optimizers_on_two_objectives_there_is_no_profile(
    cases: list[Case], told: dict[str, Any]
) -> None:
    assert "profile" not in records(*cases, targets=told)


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        ([Case(n, [NAN] * 3, i) for i in (LINES, BOWL) for n in "ab"], SAME),
        (both(), {name: {"given": [{"value": 0.001}]} for name in ("lines", "bowl")}),
    ],
    ids=["all failed", "no target reached"],
)
def test_where_nobody_reaches_anything_no_figure_over_all_objectives_is_left_that_cannot_be_drawn(
    cases: list[Case], told: dict[str, Any]
) -> None:
    for record in records(*cases, targets=told).values():
        assert not isinstance(record, CurveFigure) or record.panels, record.name


# Sensitivity

LR = {"log_uniform": [1e-3, 1]}
MOMENTUM = {"one_minus_log_uniform": [0, 0.99]}
DECAY = {"uniform": [0, 1]}


def swept(
    parameter: str, space: Mapping[str, Any], points: Mapping[float, Sequence[float]], **more: Any
) -> dict[str, Any]:
    """One optimizer, tuned over one parameter and swept over it."""
    return tuned(
        {parameter: space},
        [{parameter: value} for value in points],
        [[0.3, 0.3]] * len(points),
        [(parameter, value, ends) for value, ends in points.items()],
        best={parameter: next(iter(points))},
        **more,
    )


FIVE = [0.30, 0.34, 0.31, 0.32, 0.36]


def test_a_line_is_the_mean_of_the_seeds_and_the_band_their_middle_95_percent() -> None:
    points = {0.001: FIVE, 0.1: [v + 0.1 for v in FIVE], 0.01: [v - 0.1 for v in FIVE]}
    figure = curve_figure(built(of_tuned(swept("lr", LR, points))), "sensitivity_lines")
    (panel,) = figure.panels
    (line,) = panel.lines
    np.testing.assert_array_equal(line.x, [0.001, 0.01, 0.1])
    ends = np.array([points[value] for value in (0.001, 0.01, 0.1)])
    np.testing.assert_allclose(line.y, ends.mean(axis=1), rtol=1e-12)
    # Of five, the 2.5% point lies a tenth of the way from the lowest to the second lowest.
    ordered = np.sort(ends, axis=1)
    np.testing.assert_allclose(line.low, ordered[:, 0] + 0.1 * (ordered[:, 1] - ordered[:, 0]))
    np.testing.assert_allclose(line.high, ordered[:, 4] - 0.1 * (ordered[:, 4] - ordered[:, 3]))
    assert (panel.x_label, panel.y_label, panel.x_log) == ("lr", "final loss", True)


def test_a_line_is_split_where_a_seed_failed_and_a_cross_stands_there() -> None:
    points = {0.001: FIVE, 0.01: FIVE, 0.03: [*FIVE[:4], NAN], 0.1: FIVE, 1.0: [NAN] * 5}
    figure = curve_figure(built(of_tuned(swept("lr", LR, points))), "sensitivity_lines")
    (panel,) = figure.panels
    lines = [line for line in panel.lines if not line.failed]
    crosses = [line for line in panel.lines if line.failed]
    assert [line.x.tolist() for line in lines] == [[0.001, 0.01], [0.1]]
    assert [line.label for line in lines] == ["ada", ""]
    assert [line.x.tolist() for line in crosses] == [[0.03], [1.0]]
    assert all(line.y[-1] > panel.limits[1] for line in crosses)
    svg = draw.draw(figure).svg
    assert svg.count(">failed</text>") == 1


def test_a_parameter_at_which_every_point_fails_has_crosses_and_a_name_alone() -> None:
    points = {0.001: [NAN, 0.3], 0.1: [NAN, NAN]}
    figure = curve_figure(built(of_tuned(swept("lr", LR, points))), "sensitivity_lines")
    lines = figure.panels[0].lines
    assert [(line.label, line.failed, len(line.x)) for line in lines] == [
        ("ada", False, 0),
        ("", True, 1),
        ("", True, 1),
    ]


def test_momentum_is_drawn_by_its_distance_from_1() -> None:
    points = {0.0: [0.3, 0.4], 0.9: [0.2, 0.3], 0.99: [NAN, 0.3]}
    figure = curve_figure(built(of_tuned(swept("momentum", MOMENTUM, points))), "sensitivity_lines")
    (panel,) = figure.panels
    line, cross = panel.lines
    np.testing.assert_allclose(line.x, [0.1, 1.0])
    np.testing.assert_allclose(line.y, [0.25, 0.35])
    np.testing.assert_allclose(cross.x, [0.01])
    assert (panel.x_label, panel.x_log) == ("1 − momentum", True)


def test_a_uniform_range_has_a_plain_axis() -> None:
    points = {0.0: [0.3, 0.4], 1.0: [0.2, 0.3]}
    figure = curve_figure(built(of_tuned(swept("decay", DECAY, points))), "sensitivity_lines")
    assert (figure.panels[0].x_label, figure.panels[0].x_log) == ("decay", False)


def test_where_the_optimum_is_known_the_line_is_the_median_of_the_gap_to_it() -> None:
    points = {0.001: FIVE, 0.1: [0.25] * 5}
    figure = curve_figure(built(of_tuned(swept("lr", LR, points, info=BOWL))), "sensitivity_bowl")
    (panel,) = figure.panels
    np.testing.assert_allclose(panel.lines[0].y, [float(np.median(FIVE)) - 0.2, 0.05])
    assert panel.lines[0].low[0] == pytest.approx(np.quantile(FIVE, 0.025) - 0.2)
    assert panel.y_label == "gap to optimum"


def test_where_rounding_went_below_the_optimum_the_loss_is_as_it_is() -> None:
    points = {0.001: FIVE, 0.1: [0.2 - 1e-9] * 5}
    figure = curve_figure(built(of_tuned(swept("lr", LR, points, info=BOWL))), "sensitivity_bowl")
    assert figure.panels[0].lines[0].y[1] == 0.2 - 1e-9
    assert figure.panels[0].y_label == "final loss"


def test_optimizers_share_the_panel_of_a_parameter_of_one_kind() -> None:
    three = {0.001: FIVE, 0.1: FIVE, 1.0: FIVE}
    several = [
        swept("lr", LR, three, optimizer="a"),
        swept("lr", LR, three, optimizer="b"),
        swept("lr", {"uniform": [0, 1]}, three, optimizer="c"),
    ]
    figure = curve_figure(built(of_tuned(*several)), "sensitivity_lines")
    labels = [[line.label for line in panel.lines] for panel in figure.panels]
    assert labels == [["a", "b"], ["c"]]
    assert [panel.x_log for panel in figure.panels] == [True, False]


def test_a_grid_over_one_number_has_a_curve_too() -> None:
    rates = [0.001, 0.01, 0.1]
    cases = [
        Case("sgd", [0.3 + r, 0.4 + r], setting=f"lr={r}", given={"lr": r}) for r in rates[::-1]
    ]
    figure = curve_figure(records(*cases), "sensitivity_lines")
    (line,) = figure.panels[0].lines
    np.testing.assert_allclose(line.x, rates)
    np.testing.assert_allclose(line.y, np.array(rates) + 0.35)
    assert figure.panels[0].x_log


def test_without_a_sweep_or_a_grid_there_is_no_sensitivity() -> None:
    found = built(of_tuned(tuned({"lr": LR}, [{"lr": 0.1}, {"lr": 0.2}], [[0.3], [0.4]])))
    assert "sensitivity_lines" not in found
    assert "heat_lines" not in found
    assert "sensitivity_lines" not in records(Case("a", noisy(0.3), given={"lr": 0.1}))


# Heat

POINTS = [
    {"lr": 0.001, "momentum": 0.0},
    {"lr": 0.01, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.5},
    {"lr": 1.0, "momentum": 0.99},
]
PLANE = {"lr": LR, "momentum": MOMENTUM}
ENDS = [[0.5, 0.6], [0.3, 0.4], [0.4, 0.6], [0.1, NAN]]


def heats(
    losses: Sequence[Sequence[float]] | Array = ENDS,
    info: ObjectiveInfo = LINES,
    spaces: Mapping[str, Mapping[str, Any]] = PLANE,
    settings: Sequence[Mapping[str, Any]] = POINTS,
    **more: Any,
) -> dict[str, Any]:
    return tuned(spaces, settings, losses, info=info, best=settings[1], **more)


def test_a_dot_is_the_mean_over_seeds_and_nan_where_one_failed() -> None:
    figure = heat_figure(built(of_tuned(heats())), "heat_lines")
    (panel,) = figure.panels
    np.testing.assert_allclose(panel.values, [0.55, 0.35, 0.5, NAN])
    np.testing.assert_allclose(panel.x, [0.001, 0.01, 0.1, 1])
    np.testing.assert_allclose(panel.y, [1, 0.1, 0.5, 0.01])
    assert panel.best == 1
    assert (panel.title, panel.x_label, panel.y_label) == ("ada", "lr", "1 − momentum")
    assert (panel.x_log, panel.y_log) == (True, True)
    assert figure.limits == pytest.approx((0.35, 0.55))
    assert (figure.log, figure.value_label, figure.columns) == (False, "final loss", 1)


def test_heat_is_less_the_optimum_where_that_is_known_and_logarithmic_where_it_spans_decades() -> (
    None
):
    losses = [[0.2 + 1e-6] * 2, [0.2 + 1e-4] * 2, [0.7] * 2, [NAN, 1.0]]
    figure = heat_figure(built(of_tuned(heats(losses, BOWL))), "heat_bowl")
    np.testing.assert_allclose(figure.panels[0].values, [1e-6, 1e-4, 0.5, NAN], rtol=1e-6)
    assert figure.log
    assert figure.limits == pytest.approx((1e-6, 0.5), rel=1e-6)
    assert figure.value_label == "gap to optimum"
    assert figure.panels[0].best == 0


def test_the_axes_of_heat_are_those_of_the_spaces() -> None:
    spaces = {"size": {"integer": [1, 9]}, "decay": DECAY}
    settings = [{"size": i, "decay": i / 9} for i in (1, 3, 5, 9)]
    figure = heat_figure(built(of_tuned(heats(spaces=spaces, settings=settings))), "heat_lines")
    (panel,) = figure.panels
    assert (panel.x_log, panel.y_log) == (False, False)
    assert (panel.x_label, panel.y_label) == ("size", "decay")
    np.testing.assert_array_equal(panel.x, [1, 3, 5, 9])


def test_of_more_than_two_ranges_the_first_two_are_drawn_and_choices_are_none() -> None:
    kinds: dict[str, Any] = {"choice": ["a", "b"]}
    spaces: dict[str, dict[str, Any]] = {"kind": kinds, "decay": DECAY, **PLANE}
    settings = [{"kind": "a", "decay": i / 3, **p} for i, p in enumerate(POINTS)]
    figure = heat_figure(built(of_tuned(heats(spaces=spaces, settings=settings))), "heat_lines")
    (panel,) = figure.panels
    assert (panel.x_label, panel.y_label) == ("decay", "lr")


def grid(
    values: Mapping[tuple[float, float], Sequence[float]], info: ObjectiveInfo = LINES
) -> list[Case]:
    return [
        Case(
            "sgd", ends, info, f"lr={a}, decay={b}", given={"lr": a, "decay": b, "nesterov": False}
        )
        for (a, b), ends in values.items()
    ]


def test_a_grid_over_two_numbers_has_a_plane_too() -> None:
    values = {
        (lr, decay): [lr + decay, lr + decay + 0.2] for lr in (0.001, 0.1) for decay in (0.0, 0.5)
    }
    values[0.1, 0.5] = [0.1, NAN]
    figure = heat_figure(records(*grid(values)), "heat_lines")
    (panel,) = figure.panels
    np.testing.assert_allclose(panel.x, [0.001, 0.001, 0.1, 0.1])
    np.testing.assert_allclose(panel.y, [0, 0.5, 0, 0.5])
    np.testing.assert_allclose(panel.values, [0.101, 0.601, 0.2, NAN])
    assert panel.best == 0
    assert (panel.x_log, panel.y_log) == (True, False)


def test_a_grid_over_one_number_or_over_words_has_no_plane() -> None:
    one = [Case("sgd", [0.3, 0.4], setting=f"lr={r}", given={"lr": r}) for r in (1, 2, 3, 4)]
    words = [
        Case("sgd", [0.3, 0.4], setting=f"{a}{b}", given={"lr": a, "nesterov": b})
        for a in (1, 2)
        for b in (True, False)
    ]
    assert "heat_lines" not in records(*one)
    assert "heat_lines" not in records(*words)


def test_planes_of_which_every_setting_failed_have_no_figure() -> None:
    assert "heat_lines" not in built(of_tuned(heats([[NAN, 0.1]] * 4)))


def test_one_plane_of_two_may_have_no_best() -> None:
    known = of_tuned(heats([[NAN, 0.1]] * 4), heats(optimizer="b"))
    figure = heat_figure(built(known), "heat_lines")
    assert [panel.best for panel in figure.panels] == [None, 1]
    assert figure.columns == 2


# Published numbers


def test_a_star_stands_at_the_printed_value_and_the_verdict_in_the_note() -> None:
    own = noisy(0.3, 200)
    known = results(
        Case("sgd", own), claims=[claim("0.305"), claim("0.42"), claim("0.30", seeds=9, sd=0.01)]
    )
    figure = dot_figure(built(known), "published_lines")
    (panel,) = figure.panels
    assert [row.published for row in panel.rows] == [0.305, 0.42, 0.3]
    verdicts = [found.verdict for found in analyse(known).claims]
    assert verdicts == ["consistent", "not consistent", "consistent"]
    assert [row.note for row in panel.rows] == [
        "0.305: consistent",
        "0.42: not consistent",
        "0.30: consistent",
    ]
    for row in panel.rows:
        assert row.label == "sgd"
        assert row.centre == np.median(own)
        assert (row.low, row.high) == pytest.approx(tuple(np.quantile(own, [0.025, 0.975])))
        assert len(row.values) == figure_records.DOTS
        assert panel.limits[0] < row.published < panel.limits[1]
    assert "as published" in draw.draw(figure).svg


@pytest.mark.parametrize("printed", ["0.0000001", "-3.50", "0.00", "1000000.0", "0.50"])
def test_every_star_is_within_the_frame_on_a_logarithmic_scale_too(printed: str) -> None:
    spread = np.geomspace(1e-3, 1, 60)
    figure = dot_figure(records(Case("sgd", spread), claims=[claim(printed)]), "published_lines")
    (panel,) = figure.panels
    assert panel.limits[0] <= float(printed) <= panel.limits[1]
    assert panel.limits[0] > 0 or not panel.log


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        ([Case("sgd", noisy(0.3))], []),
        ([Case("sgd", [0.3] * 5)], [claim("0.3")]),
        ([Case("sgd", [NAN] * 5)], [claim("0.3")]),
        ([Case("sgd", noisy(0.3))], [claim("0.3", quantity="x1")]),
        ([Case("sgd", noisy(0.3))], [claim("0.3", "other")]),
    ],
    ids=["no claims", "fixed", "all failed", "a coordinate", "of another"],
)
def test_where_no_claim_can_be_placed_among_seeds_no_star_is_drawn(
    cases: list[Case], told: list[dict[str, Any]]
) -> None:
    assert "published_lines" not in records(*cases, claims=told)


# Names and words


def everything(info: ObjectiveInfo = LINES) -> list[Results]:
    """Something for every figure."""
    a = heats(
        info=info,
        sweeps=[(n, v, FIVE) for n, v in [("lr", 0.01), ("lr", 0.1), ("momentum", 0.9)]]
        + [("momentum", 0.5, [*FIVE[:4], NAN])],
        defaults=noisy(0.7, seed=3),
    )
    b = swept("lr", LR, {0.001: FIVE, 0.1: FIVE}, optimizer="b", info=info)
    others = [Case("sgd", noisy(0.31, seed=7), info), Case("half", [0.3, NAN] * 6, info)]
    told = [claim("0.31", "sgd", objective=info.name)]
    targets = {info.name: {"given": [{"value": 0.5}, {"value": 0.3}]}}
    return [of_tuned(a, b, others=others, claims=told, targets=targets)]


KINDS = ("differences", "runtime", "sensitivity", "heat", "budget", "published")
HOSTILE = ["../../etc", "a.b", "a b", "<b>&\"'", "ünïcode", "x" * 300, "con:nul|", "\n\t"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_safe_for_files_whatever_the_objective_is_called(name: str) -> None:
    for record in records_of(everything(dataclasses.replace(LINES, name=name))):
        assert re.fullmatch(r"[A-Za-z0-9_-]+", record.name)
        assert record.objective == name


def records_of(several: Sequence[Results]) -> list[FigureRecord]:
    return [record for known in several for record in built(known).values()]


def test_a_name_fits_into_a_file_system() -> None:
    for record in records_of(everything(dataclasses.replace(LINES, name="x" * 64))):
        assert len(record.name + ".svg") < 200


def test_no_two_figures_are_one_file_whatever_the_case_of_letters() -> None:
    infos = [dataclasses.replace(LINES, name=name) for name in ("a.b", "A_B", "a_b", "a b")]
    cases = [c for info in infos for c in race(info)]
    told = {info.name: TARGETS for info in infos}
    known = results(*cases, targets=told)
    taken = ["differences_a_b", "PROFILE"]
    found = comparison_figures.build(known, analyse(known), taken)
    names = [record.name.lower() for record in found] + [name.lower() for name in taken]
    assert len(names) == len(set(names))
    assert [record.objective for record in found if record.name.startswith("differences")] == [
        info.name for info in infos
    ]


def test_every_device_has_figures_of_its_own() -> None:
    cases = [dataclasses.replace(c, device=d) for d in ("cpu", "cuda") for c in race()]
    known = records(*cases, targets={"lines": TARGETS}, claims=[claim("0.3")])
    for kind in ("differences", "runtime", "published"):
        assert known[f"{kind}_lines"].title.endswith("lines (cpu)")
        assert known[f"{kind}_lines_2"].title.endswith("lines (cuda)")


def test_every_kind_of_figure_is_there_and_its_caption_names_the_statistic() -> None:
    found = {record.name: record for record in records_of(everything())}
    assert sorted(found) == sorted(f"{kind}_lines" for kind in KINDS)
    statistics = {
        "differences": "Hodges-Lehmann shift with its 95% interval",
        "runtime": "Band: 95%, for other seeds",
        "sensitivity": "mean final loss (of the gap to the optimum",
        "heat": "mean final loss over the seeds",
        "budget": "the middle half of tunings",
        "published": "median and the middle 95%",
    }
    for kind, words in statistics.items():
        record = found[f"{kind}_lines"]
        assert words in record.caption
        assert not re.search(r"\b(nan|inf|None)\b", record.alt + record.caption)
        assert "lines" in record.title
        assert record.alt.endswith(".")


def test_performance_against_budget_is_the_median_and_middle_of_tunings_done_again() -> None:
    (known,) = everything()
    analysis = analyse(known)
    before, panel = curve_figure(built(known), "budget_lines").panels
    assert [line.label for line in panel.lines] == [r.case.optimizer for r in analysis.retuned]
    base = LINES.optimum if panel.y_label.startswith("loss −") else 0.0
    for line, found in zip(panel.lines, analysis.retuned, strict=True):
        ranked = np.sort(found.losses, axis=0)
        kept = np.isfinite(ranked[499])
        assert line.x.tolist() == found.budgets[kept].tolist()
        np.testing.assert_allclose(line.y + (base or 0.0), ranked[499][kept])
        np.testing.assert_allclose(line.low + (base or 0.0), ranked[249][kept])
    assert before.x_log
    assert panel.x_log
    for line, tuning in zip(before.lines, analysis.tuned, strict=True):
        means = [np.mean(tried.losses) for tried in tuning.settings]
        finite = np.sort(np.nan_to_num(means, nan=np.inf))
        assert line.label == tuning.case.optimizer
        assert line.x[-1] == len(means)
        assert line.y[-1] + (base or 0.0) == pytest.approx(finite[0])


def test_there_are_only_as_many_rows_and_planes_as_there_is_room_for() -> None:
    cases, planes = (built(known) for known in wide(30))
    (panel,) = dot_figure(cases, "differences_lines").panels
    assert len(panel.rows) == comparison.MAX_PAIRED_CASES - 1
    assert len(heat_figure(planes, "heat_lines").panels) == figure_records.PLANES


def test_looks_are_those_of_all_other_figures() -> None:
    (known,) = everything()
    styles = figure_styles.styles(known)
    by_label = {case.label: styles[case.position] for case in known.cases}
    found = built(known)
    for name in ("differences_lines", "published_lines"):
        for panel in dot_figure(found, name).panels:
            assert all(row.style == by_label[row.label] for row in panel.rows)
    for line in curve_figure(found, "runtime_lines").panels[0].lines:
        assert line.style == by_label[line.label]


# Drawings


@dataclasses.dataclass(frozen=True)
class Words:
    """A text of a drawing and the box that it takes: left, top, right, bottom."""

    text: str
    box: tuple[float, float, float, float]

    def meets(self, other: Words) -> bool:
        """Whether one stands on the other, by more than a point."""
        (left, top, right, bottom), (l2, t2, r2, b2) = self.box, other.box
        return min(right, r2) - max(left, l2) > 1 and min(bottom, b2) - max(top, t2) > 1


_MEASURE: Any = RendererAgg
_MEASURE = _MEASURE(72, 72, 72)


def words_of(svg: str) -> list[Words]:
    """Every text of a drawing, as wide as its font makes it."""
    found = []
    root = ET.fromstring(svg)
    groups = {child: group for group in root.iter() for child in group}
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        text = "".join(element.itertext())
        # Texts in a row that look the same stand in a group that says how.
        style = element.get("style", "") or groups[element].get("style", "")
        size = float(re.findall(r"font(?:-size)?: ([0-9.]+)px", style)[0])
        font = FontProperties(family=["DejaVu Sans"], size=size)
        width = float(_MEASURE.get_text_width_height_descent(text, font, False)[0])
        anchor = re.findall(r"text-anchor: (\w+)", style)
        start = {"middle": -width / 2, "end": -width}.get(anchor[0] if anchor else "start", 0.0)
        moved = re.findall(r"translate\(([-0-9.]+) ([-0-9.]+)\)", element.get("transform", ""))
        x, y = map(float, moved[0] if moved else (element.get("x", "0"), element.get("y", "0")))
        if "rotate(-90" in element.get("transform", ""):
            box = (x - 0.75 * size, y - start - width, x + 0.2 * size, y - start)
        else:
            assert "rotate(" not in element.get("transform", "")
            box = (x + start, y - 0.75 * size, x + start + width, y + 0.2 * size)
        found.append(Words(text, box))
    return found


def outside(svg: str) -> list[str]:
    """The texts of a drawing that stand out of it."""
    _, _, width, height = map(float, ET.fromstring(svg).get("viewBox", "").split())
    return [
        words.text
        for words in words_of(svg)
        if words.box[0] < -0.5
        or words.box[1] < -0.5
        or words.box[2] > width + 0.5
        or words.box[3] > height + 0.5
    ]


def collisions(svg: str) -> list[tuple[str, str]]:
    """Pairs of texts of a drawing that stand on each other."""
    return [(a.text, b.text) for a, b in itertools.combinations(words_of(svg), 2) if a.meets(b)]


def is_sound(record: FigureRecord, drawing: Drawing) -> None:
    """Everything that a page relies on."""
    root = ET.fromstring(drawing.svg)
    assert " ".join(root.get("aria-label", "").split()) == " ".join(record.alt.split())
    assert not re.search(
        r"<style|<metadata|<script|<!--|<\?xml|<!DOCTYPE|<foreignObject", drawing.svg
    )
    own = [e.get("id", "") for e in root.iter() if e.get("id")]
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', drawing.svg)) == set(own)
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b|\d\d:\d\d:\d\d", drawing.svg)
    bare = re.sub(r">[^<]*<|aria-label=\"[^\"]*\"|data:[^\"]*", "", drawing.svg)
    assert not re.search(r"\b(nan|inf)\b", bare)
    assert drawing.png.startswith(b"\x89PNG")
    assert b"tIME" not in drawing.png
    assert int.from_bytes(drawing.png[16:20], "big") == round(frames.WIDTH * 300)


Drawn = dict[str, tuple[FigureRecord, Drawing]]


def drawn_of(found: Sequence[FigureRecord]) -> Drawn:
    drawings = draw.draw_all(found)
    return {record.name: (record, d) for record, d in zip(found, drawings, strict=True)}


def one_of_each() -> list[FigureRecord]:
    over_all = built(results(*race(BOWL), *race(), targets=RACE))
    return [*records_of(everything()), over_all["profile"], over_all["runtime"]]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return drawn_of(one_of_each())


ALL = [*(f"{kind}_lines" for kind in KINDS), "profile", "runtime"]


@pytest.mark.parametrize("name", ALL)
def test_each_kind_is_drawn_soundly_with_its_texts_inside_and_apart(
    drawn: Drawn, name: str
) -> None:
    record, drawing = drawn[name]
    is_sound(record, drawing)
    assert outside(drawing.svg) == []
    assert collisions(drawing.svg) == []
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: ([0-9.]+)px", drawing.svg)]
    assert min(sizes) >= 9


def test_the_same_results_give_the_same_bytes(drawn: Drawn) -> None:
    again = drawn_of(one_of_each())
    assert [d for _, d in again.values()] == [d for _, d in drawn.values()]


def images_of(svg: str) -> list[str]:
    return re.findall(r'<image[^>]*?href="([^"]*)"', svg)


def pixels_of(uri: str) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def test_the_images_of_heat_are_in_the_drawing_itself(drawn: Drawn) -> None:
    svg = drawn["heat_lines"][1].svg
    found = images_of(svg)
    # The plane, and the bar of colours.
    assert len(found) == svg.count("<image") == 2
    for image in found:
        head, _, body = image.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(body).startswith(b"\x89PNG")
    hrefs = re.findall(r'href="([^"]*)"', svg)
    assert all(href.startswith(("#", "data:image/png;base64,")) for href in hrefs)


def test_a_page_keeps_the_images_of_heat_and_its_policy_allows_them(drawn: Drawn) -> None:
    svg = drawn["heat_lines"][1].svg
    inline = str(parts.inline(svg, "Heat."))
    assert images_of(inline) == images_of(svg)
    known = results(*race())
    html = run_page.render(
        known, [], [drawn["heat_lines"][0]], [drawn["heat_lines"][1]], Findings()
    )
    assert images_of(html) == images_of(svg)
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[0]
    assert "img-src data:" in policy


def test_the_plane_of_heat_has_the_colour_of_the_nearest_setting_and_grey_where_a_seed_failed(
    drawn: Drawn,
) -> None:
    from matplotlib import colormaps

    record, drawing = drawn["heat_lines"]
    assert isinstance(record, HeatFigure)
    (panel,) = record.panels
    plane = images_of(drawing.svg)[0]
    pixels = pixels_of(plane)
    if re.search(r"matrix\(\S+ 0 0 -", re.findall(r"<image[^>]*>", drawing.svg)[0]):
        pixels = pixels[::-1]
    height, width = pixels.shape[:2]
    margin = 0.04 / 1.08
    across = margin + (np.log(panel.x) - np.log(panel.x[0])) / np.log(1e3) / 1.08
    down = 1 - margin - (np.log(panel.y) - np.log(0.01)) / np.log(100) / 1.08
    low, high = record.limits
    for value, x, y in zip(panel.values, across, down, strict=True):
        own = pixels[min(int(y * height), height - 1), min(int(x * width), width - 1)]
        if math.isnan(value):
            expected = np.array([0x9A] * 3)
        else:
            expected = 255 * np.array(colormaps["viridis"]((value - low) / (high - low))[:3])
        np.testing.assert_allclose(own, expected, atol=3)


def test_a_single_value_has_the_colour_that_the_bar_has_there() -> None:
    from matplotlib import colormaps

    figure = heat_figure(built(of_tuned(heats([[0.25, 0.25]] * 4))), "heat_lines")
    svg = draw.draw(figure).svg
    own = pixels_of(images_of(svg)[0])[0, 0] / 255
    colours = colormaps["viridis"](np.linspace(0, 1, 256))[:, :3]
    place = np.abs(colours - own).sum(axis=1).argmin() / 255
    # Right of the plane there are the numbers of the bar alone, from its one end to the other.
    right = 72 * (frames.WIDTH - 1)
    bar = [float(w.text) for w in words_of(svg) if w.box[0] > right and w.text[0].isdigit()]
    assert min(bar) <= 0.25 <= max(bar)
    assert place > 0.1 or min(bar) == 0.25
    assert place < 0.9 or max(bar) == 0.25


def wide(count: int) -> list[Results]:
    """As many optimizers as that, each with a name of its own."""
    losses = [noisy(0.3 + 0.01 * i, 6, seed=i) for i in range(count)]
    cases = [
        Case(f"optimizer {i}", own, curves=np.column_stack([np.ones(6), *[own] * 4]))
        for i, own in enumerate(losses)
    ]
    told = [claim(f"{0.3 + 0.01 * i:.3f}", f"optimizer {i}") for i in range(count)]
    sweeps = [("lr", 0.001, FIVE), ("lr", 1.0, FIVE)]
    planes = [heats(optimizer=f"o{i}", sweeps=sweeps) for i in range(min(count, 13))]
    return [
        results(*cases, claims=told, targets={"lines": {"given": [{"value": 0.4}]}}),
        of_tuned(*planes),
    ]


def scaled(turn: Callable[[Array], Array], info: ObjectiveInfo = LINES) -> list[Results]:
    """Every kind of figure of losses that are turned from [0, 1] into something else."""
    units = np.linspace(0, 1, 12)
    names = ("a", "b", "c")
    cases = [Case(n, turn(np.roll(units, 3 * i)), info) for i, n in enumerate(names)]
    sweeps = [("lr", 10.0**-k, turn(np.array([k / 3, k / 3.1]))) for k in range(4)]
    losses = turn(np.array([[0.0, 0.1], [0.2, 0.3], [0.5, 0.6], [0.9, 1.0]]))
    one = heats(losses, info, sweeps=sweeps)
    several = [repr(float(v)) for v in turn(np.array([0.1, 0.5]))]
    told = [claim(v, n, objective=info.name) for v, n in zip(several, names, strict=False)]
    top = float(turn(np.array([0.7]))[0])
    targets = {info.name: {"given": [{"value": top}]}}
    return [of_tuned(one, others=cases, claims=told, targets=targets)]


def spanning(units: Array) -> Array:
    return np.asarray(10.0 ** (12 * units - 9))


def named(name: str) -> list[Results]:
    """Optimizers and an objective of one name, with a number behind it."""
    info = dataclasses.replace(LINES, name=name)
    targets = {name: TARGETS}
    one = heats(info=info, optimizer=name, sweeps=[("lr", 0.01, FIVE), ("lr", 0.1, FIVE)])
    others = [Case(f"{name}{i}", noisy(0.3, seed=i), info) for i in range(3)]
    told = [claim("0.3", f"{name}0", objective=name)]
    return [of_tuned(one, others=others, claims=told, targets=targets)]


EXTREMES: dict[str, Callable[[], list[Results]]] = {
    "two cases": lambda: [results(Case("a", noisy(0.3)), Case("b", noisy(0.4)), targets=RACE)],
    "40 cases": lambda: wide(40),
    "twelve decades": lambda: scaled(spanning),
    "twelve decades above an optimum": lambda: scaled(
        spanning, dataclasses.replace(LINES, optimum=0.0)
    ),
    "constant": lambda: scaled(lambda units: np.full_like(units, 0.25)),
    "negative": lambda: scaled(lambda units: -5 * units - 100),
    "tiny": lambda: scaled(lambda units: 1e-12 * (1 + units)),
    "close together": lambda: scaled(lambda units: 0.24 + 1e-6 * units),
    "the edge of numbers": lambda: scaled(lambda units: 1e300 * (1 + units)),
    "one plane all failed": lambda: [
        of_tuned(heats([[NAN, 0.1]] * 4), heats(optimizer="b"), heats(optimizer="c"))
    ],
    "one setting ok": lambda: [of_tuned(heats([[NAN, 1], [1, 2], [NAN, 1], [NAN, 1]]))],
    "every target at one step": lambda: [
        results(Case("a", [0.3, 0.4], curves=[[1, 1, 1, 0.3, 0.3]] * 2), targets={"lines": TARGETS})
    ],
    "long names": lambda: named("a_name_as_long_as_one_may_be_".ljust(64, "x")),
    "markup": lambda: named("<b>&amp;\"'$x_1$</b>"),
    "other alphabets": lambda: named("Оптимизатор é ß Ω ∇"),
}  # fmt: skip


@functools.cache
def extreme(what: str) -> list[tuple[FigureRecord, Drawing]]:
    """What is drawn of an extreme; of several results, names may come twice."""
    found = records_of(EXTREMES[what]())
    return list(zip(found, draw.draw_all(found), strict=True))


@pytest.mark.parametrize("what", EXTREMES)
def test_extremes_are_drawn_with_their_texts_inside_and_apart(what: str) -> None:
    ugly = {}
    for record, drawing in extreme(what):
        is_sound(record, drawing)
        out, over = outside(drawing.svg), collisions(drawing.svg)
        if out or over:
            ugly[record.name] = (out[:4], over[:4])
    assert ugly == {}


@pytest.mark.parametrize("what", ["markup", "other alphabets"])
def test_a_name_is_text_in_every_drawing(what: str) -> None:
    name = EXTREMES[what]()[0].cases[-1].optimizer
    for record, drawing in extreme(what):
        assert "<b>" not in drawing.svg
        if record.name.startswith(("differences", "runtime")):
            assert name in {words.text for words in words_of(drawing.svg)}
            assert name in record.alt


def test_every_axis_has_a_number_however_narrow_its_range() -> None:
    for steps in (3, 7, 33, 70, 300, 700):
        info = dataclasses.replace(LINES, steps=steps, record_steps=np.array([0, steps]))
        case = Case("a", [0.3, 0.4], info, curves=[[1, 0.3]] * 2)
        figure = curve_figure(records(case, targets={"lines": TARGETS}), "runtime_lines")
        texts = {words.text for words in words_of(draw.draw(figure).svg)}
        assert any(float(t) >= steps * 0.9 for t in texts if re.fullmatch(r"[0-9.]+", t)), steps
