"""Learning curves by part of the data, the generalization gap, and curves of stopped trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from held_out import PARTS, digits, results_of, trained

from harness.analysis.comparison import mean_losses
from harness.measures import Measure
from harness.reporting.figures import learning, trials
from harness.reporting.figures.context import FigureContext
from harness.reporting.figures.courses import courses
from harness.reporting.figures.draw import draw
from harness.reporting.figures.records import CurveFigure, DotFigure, Line
from harness.reporting.figures.styles import PART_DASHES
from harness.reporting.page import charts
from harness.store.read import CaseData, Results


def context_of(results: Results) -> FigureContext:
    return FigureContext.of(results, mean_losses(results))


def curves_of(results: Results) -> CurveFigure:
    found = learning.learning(context_of(results), results.objectives["digits"])
    assert found is not None
    return found


def cases(count: int) -> list[CaseData]:
    return [trained(f"o{i}", 0.5 + 0.05 * i, position=i) for i in range(count)]


def medians(case: CaseData, name: str) -> np.ndarray:
    return np.asarray(np.median(case.curves[name], axis=0))


def test_every_panel_has_the_medians_of_each_part_in_a_style_of_its_own() -> None:
    known = cases(3)
    record = curves_of(results_of(known))
    assert (record.columns, len(record.panels)) == (3, 6)
    assert [panel.metric for panel in record.panels] == ["loss"] * 3 + ["accuracy"] * 3
    # The best first, of loss and of accuracy alike.
    assert [panel.title for panel in record.panels] == ["o2", "o1", "o0"] * 2
    by_name = {case.optimizer: case for case in known}
    for panel in record.panels:
        case = by_name[panel.title]
        assert [line.part for line in panel.lines] == list(PARTS)
        for line in panel.lines:
            name = f"{line.part} {panel.metric}"
            np.testing.assert_allclose(line.y, medians(case, name))
            low, high = np.quantile(case.curves[name], [0.25, 0.75], axis=0)
            np.testing.assert_allclose((line.low, line.high), (low, high))
            np.testing.assert_array_equal(line.x, np.arange(11))  # epochs
            assert line.style.dashes == PART_DASHES[line.part]
        assert len({line.style.color for line in panel.lines}) == 1
        assert [line.part for line in panel.behind] == ["test"] * 3


def test_panels_of_a_metric_share_their_axes_and_accuracies_are_never_on_logarithms() -> None:
    known = cases(3)
    tiny = {
        name: values * (1e-4 if name.endswith("loss") else 1.0)
        for name, values in known[0].curves.items()
    }
    known[0] = dataclasses.replace(known[0], curves=tiny)
    low = {name: values / 100 if name.endswith("accuracy") else values
           for name, values in known[1].curves.items()}  # fmt: skip
    known[1] = dataclasses.replace(known[1], curves=low, losses=low["test accuracy"])
    record = curves_of(results_of(known))
    for metric, log in (("loss", True), ("accuracy", False)):
        own = [panel for panel in record.panels if panel.metric == metric]
        assert {panel.log for panel in own} == {log}
        assert len({panel.limits for panel in own}) == 1


@pytest.mark.parametrize(
    ("count", "columns", "panels"), [(1, 1, 2), (4, 4, 8), (5, 3, 12), (6, 3, 12)]
)
def test_each_metric_begins_a_row(count: int, columns: int, panels: int) -> None:
    record = curves_of(results_of(cases(count)))
    assert (record.columns, len(record.panels)) == (columns, panels)
    of_rows = [
        {panel.metric for panel in record.panels[i : i + columns]}
        for i in range(0, panels, columns)
    ]
    assert all(len(metrics) == 1 for metrics in of_rows)
    assert sum(not panel.is_blank for panel in record.panels) == 2 * count
    if count == 5:
        assert draw(record).svg.count("epoch</text>") in (0, 10) or record.columns == 3


def test_the_legend_has_the_parts_once_in_ink() -> None:
    svg = draw(curves_of(results_of(cases(2)))).svg
    for part in PARTS:
        assert svg.count(f">{part}</text>") == 1


def test_the_live_chart_has_part_and_metric_of_what_it_draws() -> None:
    record = curves_of(results_of(cases(2)))
    data = charts.plain(record)
    assert data is not None
    assert [panel["metric"] for panel in data["panels"]] == ["loss"] * 2 + ["accuracy"] * 2
    for panel in data["panels"]:
        assert [line["part"] for line in panel["lines"]] == list(PARTS)
        assert {line["called"] for line in panel["lines"]} == {panel["title"]}


def test_the_loss_on_train_alone_has_no_learning_curves() -> None:
    results = results_of(cases(2))
    info = digits(Measure(), metrics=(("loss", False),), part_rows={})
    results = dataclasses.replace(results, objectives={"digits": info})
    assert learning.learning(context_of(results), info) is None
    assert learning.generalization(context_of(results), info) is None


# ---- generalization gap


def gaps_of(results: Results) -> DotFigure:
    found = learning.generalization(context_of(results), results.objectives["digits"])
    assert found is not None
    return found


def test_the_gap_of_every_seed_is_a_dot_above_zero_where_test_is_worse() -> None:
    known = cases(2)
    record = gaps_of(results_of(known))
    signs = {"loss": 1.0, "accuracy": -1.0}
    assert [panel.title for panel in record.panels] == list(signs)
    by_name = {case.optimizer: case for case in known}
    for panel in record.panels:
        assert panel.reference_line == 0
        for row in panel.rows:
            ends = {
                part: by_name[row.label].curves[f"{part} {panel.title}"][:, -1] for part in PARTS
            }
            gaps = signs[panel.title] * (ends["test"] - ends["train"])
            np.testing.assert_allclose(row.values, np.sort(gaps))
            np.testing.assert_allclose(gaps[row.numbers], row.values)
            assert row.centre == pytest.approx(gaps.mean())
            assert row.low < row.centre < row.high


# ---- stopped trials


def line_of(lines: Sequence[Line], label: str) -> Line:
    return next(line for line in lines if line.label.startswith(label))


def test_a_stopped_trial_keeps_its_last_value_until_the_last_of_its_case_has_ended() -> None:
    known = cases(2)
    stops = {0: dict.fromkeys(range(8), 6) | {1: 3, 4: 9}}
    results = results_of(known, stops)
    context = context_of(results)
    values = known[0].curves["test accuracy"]
    expected = np.array([[values[s, min(r, stops[0][s] - 1)] for r in range(9)] for s in range(8)])
    record = trials.loss(context, results.objectives["digits"])
    assert record is not None
    (panel,) = record.panels
    line = line_of(panel.lines, "o0")
    np.testing.assert_allclose(line.y, np.median(expected, axis=0))
    np.testing.assert_array_equal(line.x, np.arange(9))  # the last of them ended there
    assert len(line_of(panel.lines, "o1").x) == 11
    assert "keep their last value" in record.note
    own = {line.seed: line for line in panel.seed_lines if line.called == "o0"}
    assert own
    for seed, one in own.items():
        assert seed is not None
        assert one.x[-1] == stops[0][seed] - 1
        assert one.y[-1] == values[seed, stops[0][seed] - 1]


def test_without_stops_a_curve_is_of_whole_trials_alone() -> None:
    case = cases(1)[0]
    broken = case.losses.copy()
    broken[2, 7:] = np.nan
    found = courses(case, broken, case.seeds, {}, np.arange(0, 41, 4))
    assert found.rows.tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert (found.records, found.stopped) == (11, False)
    np.testing.assert_array_equal(found.values, broken[found.rows])


# ---- words and directions


def test_final_values_name_what_is_reported_and_the_best_is_on_top() -> None:
    results = results_of(cases(3))
    context, info = context_of(results), results.objectives["digits"]
    record = trials.final_loss(context, info)
    assert record is not None
    assert record.title == "Final test accuracy: digits"
    (panel,) = record.panels
    assert panel.x_label == "test accuracy after 10 epochs (higher is better)"
    assert [row.label for row in panel.rows] == ["o2", "o1", "o0"]
    assert "then highest test accuracy" in record.caption
    curve = trials.loss(context, info)
    assert curve is not None
    assert curve.panels[0].y_label == "test accuracy (higher is better)"
    assert "loss" not in curve.title + curve.alt + curve.note
