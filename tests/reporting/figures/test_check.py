"""What a report shows of a check: its table, its sentence, its figures."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness import formatting
from harness.gate.history import CellEntry, Change, Series, change_points
from harness.gate.report import METRICS, OUTCOMES, CellVerdict, GateReport, Judgement, Outcome
from harness.reporting.figures import check as check_figures
from harness.reporting.figures import draw
from harness.reporting.figures.records import ROWS, CurveFigure, RatioFigure
from harness.reporting.figures.styles import Look, looks
from harness.reporting.tables import check as check_tables


def time(
    change: float | None = 0.01, outcome: Outcome = "fine", half: float | None = 0.02, **more: Any
) -> Judgement:
    now = low = high = None
    if change is not None:
        now = 2.0 * (1 + change)
        if half is not None:
            low, high = 1 + change - half, 1 + change + half
    return Judgement(
        "time", outcome, more.pop("why", ""), 2.0, now, change, low, high, 0.05, **more
    )


def cell(
    optimizer: str = "sgd",
    *judgements: Judgement,
    objective: str = "bowl",
    setting: str = "",
    device: str = "cpu",
) -> CellVerdict:
    judged = {j.metric: j for j in (*same(), time(), *judgements)}
    label = f"{optimizer}[{setting}]" if setting else optimizer
    return CellVerdict(
        f"{objective}/{label}/{device}",
        objective,
        optimizer,
        setting,
        device,
        "spec.yaml:3:5",
        tuple(judged[metric] for metric in METRICS),
    )


def same() -> list[Judgement]:
    before = {"loss": 0.2431, "operators": 12.0, "calls": 40.0, "state": 1600000.0}
    return [
        Judgement(metric, "fine", "", before[metric], before[metric], 0.0) for metric in METRICS[1:]
    ]


def missing(optimizer: str, why: str = "the spec has it no more") -> CellVerdict:
    judgements = tuple(Judgement(metric, "missing", why, 2.0) for metric in METRICS)
    return replace(cell(optimizer), judgements=judgements)


def checked(*cells: CellVerdict, against: str = "baseline.json") -> GateReport:
    taken = "2026-03-04T10:00:00+00:00"
    return GateReport(
        *("sample", "spec.yaml", against, taken, 1.0, "", {}, "key", (), (1.0,), cells)
    )


def only(records: list[Any]) -> Any:
    (record,) = records
    return record


# The table


def test_the_table_has_every_cell_with_all_digits_in_the_csv() -> None:
    worse = time(0.123456789, "regressed", why="slower than 5%")
    more = Judgement("operators", "regressed", "2 more", 12.0, 14.0, 1 / 6)
    table = check_tables.check(checked(cell("sgd"), cell("ada", worse, more, setting="lr=0.1")))
    first, second = table.frame.to_dict("records")
    assert second["time_change"] == 0.123456789
    assert (second["time_before"], second["time_now"]) == (2.0, 2.0 * 1.123456789)
    assert second["time_ratio_ci_low"] == pytest.approx(1.103456789)
    assert second["time_ratio_ci_high"] == pytest.approx(1.143456789)
    assert (second["operators_before"], second["operators_now"]) == (12, 14)
    assert (second["exit_status"], first["exit_status"]) == (1, 0)
    assert [second[f"{metric}_outcome"] for metric in METRICS] == [
        *("regressed", "fine", "regressed", "fine", "fine")
    ]
    one, two = table.shown.to_dict("records")
    assert two["setting"] == "lr=0.1"
    assert two["time (% change)"] == "+12.3"
    assert two["95% interval"] == "+10.3 to +14.3"
    assert two["operators"] == "12 → 14"
    assert (one["operators"], one["loss"], one["state (bytes)"]) == ("12", "0.2431", "1600000")
    assert one["outcome"] == "fine"
    assert two["outcome"] == "time regressed (slower than 5%); operators regressed (2 more)"
    assert dict(zip(table.shown.columns, table.numeric, strict=True))["time (% change)"]


def test_what_could_not_be_found_out_is_empty_and_a_dash() -> None:
    table = check_tables.check(checked(missing("sgd"), cell("ada", time(None, half=None))))
    row = table.frame.iloc[0]
    assert all(math.isnan(row[f"{metric}_now"]) for metric in METRICS)
    assert (
        table.to_csv()
        .splitlines()[1]
        .startswith("missing (the spec has it no more),bowl,sgd,,cpu,2.0,,,,,0.0,missing,")
    )
    shown = table.shown.iloc[0]
    assert (shown["time (% change)"], shown["operators"]) == (formatting.DASH, "2 → –")
    assert shown["outcome"] == "missing (the spec has it no more)"


def test_a_reason_over_several_lines_stays_in_its_row() -> None:
    table = check_tables.check(checked(missing("sgd", "it broke:\n  | there")))
    assert "missing (it broke: \\| there)" in table.to_markdown()


# The sentence


def test_a_check_without_trouble_is_one_short_sentence() -> None:
    assert check_tables.against(checked(cell(), cell("ada"))) == (
        "Against baseline.json, none of 2 cells has got worse."
    )


def test_the_sentence_goes_from_worst_to_best_and_names_the_numbers() -> None:
    warned = Judgement("calls", "regressed", "more", 40.0, 44.0, 0.1, only_warns=True)
    text = check_tables.against(
        checked(
            cell("better", time(-0.1, "better")),
            cell("unsure", time(0.04, "inconclusive", 0.1, why="noise")),
            cell("worse", time(0.1, "regressed"), Judgement("operators", "regressed", "", 1, 3)),
            cell("warned", warned),
            missing("gone"),
        )
    )
    assert text == (
        "Against baseline.json, 1 of 5 cells got worse: worse on bowl (time +10.0%, 95% interval "
        "+8.0% to +12.0%, operators 1 to 3); 1 is missing or failed: gone on bowl (the spec has "
        "it no more); 1 inconclusive: unsure on bowl (time +4.0%, 95% interval -6.0% to +14.0%); "
        "warnings, as the spec asks: warned on bowl (calls 40 to 44); 1 got better: "
        "better on bowl (time -10.0%, 95% interval -12.0% to -8.0%)."
    )


def test_what_is_not_known_is_not_called_fine() -> None:
    text = check_tables.against(checked(cell(), missing("gone")))
    assert text.startswith(
        "Against baseline.json, none of 2 cells is known to have got worse; 1 is"
    )
    several = checked(cell(device="cuda"), cell("ada", time(0.5, "regressed")))
    assert "ada on bowl (cpu) (time +50.0%" in check_tables.against(several)


def test_many_cells_are_counted_and_a_few_named() -> None:
    text = check_tables.against(
        checked(*(cell(f"o{i}", time(0.2, "regressed")) for i in range(30)))
    )
    assert "30 of 30 cells got worse" in text
    assert "o3 on bowl" in text
    assert "o4 on bowl" not in text
    assert "and 26 more" in text


# Times against the baseline


def test_a_row_is_the_ratio_with_its_interval_and_limit() -> None:
    report = checked(
        cell("sgd", time(-0.02, half=0.03)),
        cell("ada", time(0.2, "regressed", 0.01, only_warns=True), setting="lr=0.1"),
    )
    record: RatioFigure = only(check_figures.times(report))
    assert record.name == check_figures.TIME
    (panel,) = record.panels
    one, two = panel.rows
    assert (one.label, one.legend, one.note) == ("sgd", "fine", "")
    assert (two.label, two.legend, two.note) == ("ada (lr=0.1)", "regressed", "only warns")
    assert one.centre == pytest.approx(0.98)
    assert one.low == pytest.approx(0.95)
    assert one.high == pytest.approx(1.01)
    assert one.limit == 1.05
    assert not panel.log
    assert panel.limits[0] < 0.95
    assert panel.limits[1] > 1.21


def test_cells_without_a_comparison_are_not_drawn() -> None:
    report = checked(
        cell("sgd"), missing("gone"), cell("ada", time(None, "failed", why="it broke"))
    )
    record = only(check_figures.times(report))
    assert [row.label for row in record.panels[0].rows] == ["sgd"]
    assert check_figures.times(checked(missing("gone"))) == []
    assert check_figures.times(checked()) == []


@pytest.mark.parametrize("change", [-1.0, -2.0, math.nan, math.inf])
def test_a_ratio_that_is_none_is_not_drawn(change: float) -> None:
    assert check_figures.times(checked(cell("sgd", time(change)))) == []


def test_panels_share_a_scale_that_is_logarithmic_where_they_span_much() -> None:
    report = checked(cell("sgd", time(99.0, "regressed")), cell("sgd", objective="line"))
    one, two = only(check_figures.times(report)).panels
    assert (one.title, two.title) == ("bowl", "line")
    assert one.log
    assert (one.log, one.limits) == (two.log, two.limits)


def test_many_cells_get_a_figure_per_objective_with_those_that_ask_for_a_look() -> None:
    cells = [cell(f"o{i}", time(i / 1000)) for i in range(ROWS + 10)]
    cells[0] = cell("o0", time(0.0, "inconclusive"))
    records = check_figures.build(
        checked(*cells, *(cell("x", objective=name) for name in ("A", "a"))), [], []
    )
    assert [record.name for record in records] == [
        *("check-time_bowl", "check-time_A", "check-time_a_2")
    ]
    assert isinstance(records[0], RatioFigure)
    shown = [row.label for row in records[0].panels[0].rows]
    assert shown == ["o0", *(f"o{i}" for i in range(11, ROWS + 10))]


def test_every_outcome_has_a_look_that_needs_no_colour() -> None:
    styles = check_figures.OUTCOME_STYLES
    assert set(styles) == set(OUTCOMES)
    shapes = {(styles[o].marker, styles[o].filled) for o in OUTCOMES if o != "failed"}
    assert len(shapes) == len(OUTCOMES) - 1


# Times over all checks


def one(
    optimizer: str = "sgd",
    ratios: tuple[float, ...] = (1.0, 1.1),
    *,
    objective: str = "bowl",
    device: str = "cpu",
    setting: str = "",
    numbers: tuple[int, ...] = (),
) -> Series:
    name = f"{objective}/{optimizer}[{setting}]/{device}"
    known = CellEntry(
        id=name,
        objective=objective,
        optimizer=optimizer,
        setting=setting,
        device=device,
        ratio=ratios[-1],
        low=None,
        high=None,
        loss=None,
        operators=None,
        calls=None,
        state=None,
        outcome="fine",
    )
    numbers = numbers or tuple(range(1, len(ratios) + 1))
    times = tuple(f"2026-01-{n:02}T1{n % 10}:00:00+00:00" for n in numbers)
    return Series(known, numbers, times, ("",) * len(ratios), ratios)


def test_a_line_is_a_cells_ratios_by_the_number_of_the_check() -> None:
    record: CurveFigure = only(
        check_figures.histories(
            [one("sgd", (1.0, 1.5), numbers=(1, 3)), one("ada", (2.0, 2.5, 3.0))], []
        )
    )
    assert record.name == check_figures.HISTORY
    (panel,) = record.panels
    sgd, ada = panel.lines
    np.testing.assert_array_equal(sgd.x, [1, 3])
    np.testing.assert_array_equal(sgd.y, [1.0, 1.5])
    assert (sgd.label, ada.label) == ("sgd", "ada")
    assert panel.ticks == ((1.0, "2026-01-01"), (2.0, "2026-01-02"), (3.0, "2026-01-03"))


def test_one_check_makes_no_figure_of_histories() -> None:
    assert check_figures.histories([one(ratios=(1.0,))], []) == []
    assert check_figures.histories([], []) == []


def test_a_change_point_is_marked_with_the_number_of_its_sentence() -> None:
    moved = one("ada", (2.0,) * 5 + (2.2,) * 4)
    still = one("sgd", (1.0,) * 9)
    changes = [Change(moved, point) for point in change_points(moved.ratios)]
    record = only(check_figures.histories([still, moved], changes))
    (mark,) = record.panels[0].marks
    assert (mark.x, mark.text, mark.before, mark.after) == (6.0, "1", 2.0, 2.2)
    drawing = draw.draw(record)
    assert ">change point</text>" in drawing.svg


def test_there_is_a_panel_for_each_objective_and_device() -> None:
    elsewhere = {"ada": Look("#0072b2", "v", 1, 1.5)}
    series = [one(), one(device="cuda"), one(objective="line"), one("ada")]
    record = only(check_figures.histories(series, [], elsewhere))
    assert [panel.title for panel in record.panels] == ["bowl (cpu)", "bowl (cuda)", "line (cpu)"]
    styles = {line.label: line.style for panel in record.panels for line in panel.lines}
    assert (styles["ada"].marker, styles["ada"].color) == ("v", "#0072b2")
    assert styles["sgd"].color == looks({"b": ("sgd", "SGD")})["b"].color


def test_checks_of_one_day_are_told_by_the_hour() -> None:
    series = replace(one(), times=("2026-01-01T08:15:00+00:00", "2026-01-01T19:30:00+00:00"))
    (panel,) = only(check_figures.histories([series], [])).panels
    assert panel.x_label == "check (time of 2026-01-01, UTC)"
    assert [name for _, name in panel.ticks] == ["08:15", "19:30"]


def test_many_cells_stay_apart() -> None:
    many = [one(f"o{i}", objective=f"f{j}") for j in range(20) for i in range(15)]
    records = check_figures.histories(many, [])
    assert len(records) == 20
    assert [record.name for record in records][:2] == ["check-history_f0", "check-history_f1"]
    lines = records[0].panels[0].lines
    assert [line.faint for line in lines] == [True] * 3 + [False] * 12
    (together,) = check_figures.histories(many, [], in_one=True)
    assert len(together.panels) == 20


NAMES = ["<b>&\"'", "x" * 200, "ünï$\\alpha$", "\n"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind_are_drawn_and_stay_text(name: str) -> None:
    report = checked(
        *(cell(name, time(0.1, outcome), setting=outcome) for outcome in OUTCOMES), against=name
    )
    history = [one(name, (1.0,) * 5 + (9.0,) * 4, objective=name), one("x", objective="y")]
    changes = [Change(s, point) for s in history for point in change_points(s.ratios)]
    for record in check_figures.build(report, history, changes):
        drawing = draw.draw(record)
        root = ET.fromstring(drawing.svg)
        label = root.attrib["aria-label"]
        assert " ".join(label.split()) == " ".join(record.alt.split())
        assert "<b>" not in drawing.svg
        assert "nan" not in re.sub(r">[^<]*<|aria-label=\"[^\"]*\"", "", drawing.svg)
        assert draw.draw(record) == drawing
