"""What the page's live charts are told: the records, in numbers that JSON can say."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from harness.analysis.summary import analyse
from harness.reporting.figures import comparison as comparison_figures
from harness.reporting.figures import coordinates
from harness.reporting.figures import records as figure_records
from harness.reporting.figures import styles as figure_styles
from harness.reporting.figures import trials as trial_figures
from harness.reporting.figures.draw import Drawing
from harness.reporting.figures.records import (
    CurveFigure,
    CurvePanel,
    DotFigure,
    DotPanel,
    DotRow,
    FigureRecord,
    HeatFigure,
    HeatPanel,
    Line,
    Mark,
    PlaneFigure,
    PlanePanel,
    RatioFigure,
    Trajectory,
)
from harness.reporting.figures.styles import Style
from harness.reporting.page import charts, parts
from harness.reporting.page import run as run_page
from harness.reporting.tables.sentences import Findings
from harness.store.read import CaseData, ObjectiveInfo, Results
from harness.store.records import RunRecord, RunSettings

Array = NDArray[np.float64]
Plain = Mapping[str, Any]

NONE = np.empty(0)

WINDOW = ((-6.0, 2.0), (-3.0, 2.0))
BOWL = ObjectiveInfo(
    name="bowl",
    formula="",
    dimension=2,
    rows=0,
    steps=8,
    steps_per_epoch=1,
    record_steps=np.arange(9),
    optimum=0.0,
    minimizers=((0.0, 0.0), (1.0, 0.5)),
    window=WINDOW,
    landscape=np.add.outer(2 * np.linspace(-3, 2, 31) ** 2, 0.1 * np.linspace(-6, 2, 41) ** 2),
    data_source="",
)
LINES = replace(
    BOWL,
    name="lines",
    dimension=6,
    rows=40,
    steps=400,
    steps_per_epoch=4,
    record_steps=np.arange(0, 401, 2),
    optimum=0.24,
    minimizers=(),
    window=None,
    landscape=None,
)
SEEDS = tuple(range(100, 130))
"""More than there are strands of a case, and not their own places."""


def trained(cases: Sequence[tuple[ObjectiveInfo, str, dict[str, float]]] = ()) -> Results:
    """Results with something for every kind of figure.

    A seed in ten diverges half way, but of the optimizer ``grid``, which is not timed.
    """
    random = np.random.default_rng(1)
    cases = cases or [
        (BOWL, "sgd", {}),
        *((BOWL, "grid", {"lr": lr, "momentum": m}) for lr in (0.1, 1.0) for m in (0.0, 0.9)),
        *((BOWL, "row", {"lr": lr}) for lr in (0.1, 0.4, 2.0)),
        (LINES, "sgd", {}),
        (LINES, "grid", {}),
    ]
    made, trials, timings = [], [], []
    for position, (info, optimizer, values) in enumerate(cases):
        setting = ", ".join(f"{name}={value:g}" for name, value in values.items())
        rate = (3.0 + 0.3 * position) / info.steps
        steps = np.arange(info.steps + 1)
        starts = random.lognormal(0, 0.3, (len(SEEDS), 1))
        losses = (info.optimum or 0.0) + starts * np.exp(-rate * info.record_steps)
        ok = (np.arange(len(SEEDS)) % 10 != 9) | (optimizer == "grid")
        losses[~ok, len(info.record_steps) // 2 :] = np.nan
        course = np.stack([-5 * np.exp(-rate * steps), -2 * np.exp(-2 * rate * steps)], axis=1)
        paths = {SEEDS[3]: course, SEEDS[4]: course + 1} if info is BOWL else {}
        case = CaseData(
            position=position,
            objective=info.name,
            optimizer=optimizer,
            setting=setting,
            device="cpu",
            optimizer_class="X",
            hyperparameters=dict(values),
            defaults=dict(values),
            dtype="float64",
            seeds=np.array(SEEDS, dtype=np.int64),
            losses=losses,
            trajectories=paths,
            step_sizes={seed: np.abs(path) + 1 for seed, path in paths.items()},
        )
        made.append(case)
        names = (position, info.name, optimizer, setting, case.label, "cpu")
        for row, seed in enumerate(SEEDS):
            status = "ok" if ok[row] else "diverged"
            final = losses[row, -1] if ok[row] else math.nan
            trials.append((*names, seed, status, info.steps, "", 0.1, "pointwise", "", final))
        if optimizer != "grid":
            seconds = 1e-4 * (position + 1) * random.lognormal(0, 0.2, 7)
            timings += [
                (position, i, 10, info.steps_per_epoch, 10 * s, 10 * s, s * info.steps_per_epoch)
                for i, s in enumerate(seconds)
            ]
    run = RunRecord(
        *(1, "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:06+00:00", "harness run spec.yaml"),
        *("sample", "spec.yaml", "suite: sample\n"),
        RunSettings(seeds=SEEDS),
        {"harness": "0.1.0"},
    )
    columns = [
        *("position", "objective", "optimizer", "setting", "label", "device", "seed"),
        *("status", "step", "reason", "seconds", "way", "way_reason", "final_loss"),
    ]
    timed = ["position", "round", "steps", "steps_per_epoch"]
    timed += ["seconds", "cpu_seconds", "epoch_seconds"]
    return Results(
        run,
        {info.name: info for info, _, _ in cases},
        tuple(made),
        pd.DataFrame(trials, columns=columns),
        pd.DataFrame(timings, columns=timed),
    )


@pytest.fixture(scope="module")
def results() -> Results:
    return trained()


@pytest.fixture(scope="module")
def records(results: Results) -> list[FigureRecord]:
    analysis = analyse(results)
    found = trial_figures.build(results, analysis.means)
    found += comparison_figures.build(results, analysis, [one.name for one in found])
    return found + coordinates.build(results, analysis.means, [one.name for one in found])


# A record and its plain data, compared


def rounding(digits: int) -> float:
    """The most that a number with so many digits is off, relative to it."""
    return 5.001 * 10.0**-digits


def same(said: float | None, value: float, digits: int = charts.DIGITS) -> None:
    """A number is said with its digits; what is none is said to be none."""
    if math.isfinite(value):
        assert said == pytest.approx(value, rel=rounding(digits), abs=1e-320)
    else:
        assert said is None


def all_same(
    said: Sequence[float | None], values: Array | Sequence[float], digits: int = charts.DIGITS
) -> None:
    assert len(said) == len(values)
    for one, value in zip(said, values, strict=True):
        same(one, float(value), digits)


def looks_alike(said: Plain, number: int, style: Style) -> None:
    assert said["styles"][number] == {
        "color": style.color,
        "marker": style.marker,
        "dashes": list(style.dashes),
        "filled": style.filled,
        "width": style.width,
        "optimizer": style.optimizer,
    }


def lines_alike(said: Plain, panel: Plain, lines: Sequence[Plain], known: Sequence[Line]) -> None:
    assert len(lines) == len(known)
    for told, line in zip(lines, known, strict=True):
        assert told["label"] == line.label
        looks_alike(said, told["style"], line.style)
        all_same(panel["xs"][told["x"]], line.x)
        all_same(told["y"], line.y, charts.SHORT)
        all_same(told.get("low", []), line.low, charts.SHORT)
        all_same(told.get("high", []), line.high, charts.SHORT)
        assert told.get("seed") == line.seed
        assert told.get("called", "") == ("" if line.label else line.called)
        assert told.get("failed", False) == line.failed
        assert told.get("faint", False) == line.faint
        if "secondsPerX" in told:
            np.testing.assert_allclose(line.x * told["secondsPerX"], line.seconds, rtol=1e-5)
        else:
            all_same(told.get("seconds", []), line.seconds, charts.SHORT)


def curves_alike(said: Plain, record: CurveFigure) -> None:
    for panel, known in zip(said["panels"], record.panels, strict=True):
        assert panel["title"] == known.title
        assert (panel["xLabel"], panel["yLabel"]) == (known.x_label, known.y_label)
        assert (panel["log"], panel["xLog"]) == (known.log, known.x_log)
        all_same(panel["limits"], known.limits)
        assert (panel["referenceLine"] is None) == (known.reference_line is None)
        same(
            panel["referenceLine"],
            math.nan if known.reference_line is None else known.reference_line,
        )
        assert panel["referenceLabel"] == known.reference_label
        assert (panel["stepsPerX"], panel["stepsPerEpoch"]) == (
            known.steps_per_x,
            known.steps_per_epoch,
        )
        assert [name for _, name in panel["ticks"]] == [name for _, name in known.ticks]
        all_same([place for place, _ in panel["ticks"]], [place for place, _ in known.ticks])
        for mark, own in zip(panel["marks"], known.marks, strict=True):
            assert mark["text"] == own.text
            all_same(
                [mark["x"], mark["before"], mark["after"]], [float(own.x), own.before, own.after]
            )
        lines_alike(said, panel, panel["lines"], known.lines)
        lines_alike(said, panel, panel["seedLines"], known.seed_lines)
        arrays = {line.x.tobytes() for line in (*known.lines, *known.seed_lines)}
        assert len(panel["xs"]) == len(arrays)


def dots_alike(said: Plain, record: DotFigure) -> None:
    assert (said["dotLabel"], said["centreLabel"]) == (record.dot_label, record.centre_label)
    assert said["numberLabel"] == record.number_label
    for panel, known in zip(said["panels"], record.panels, strict=True):
        assert (panel["title"], panel["xLabel"]) == (known.title, known.x_label)
        assert panel["log"] == known.log
        all_same(panel["limits"], known.limits)
        assert (panel["referenceLine"] is None) == (known.reference_line is None)
        same(
            panel["referenceLine"],
            math.nan if known.reference_line is None else known.reference_line,
        )
        assert panel["referenceLabel"] == known.reference_label
        for row, own in zip(panel["rows"], known.rows, strict=True):
            assert (row["label"], row["note"], row["empty"]) == (own.label, own.note, own.empty)
            looks_alike(said, row["style"], own.style)
            all_same(row["values"], own.values)
            np.testing.assert_allclose(row["offsets"], own.offsets, atol=5e-4)
            assert row["numbers"] == own.numbers.tolist()
            for name in ("centre", "low", "high", "published"):
                same(row[name], getattr(own, name))


def planes_alike(said: Plain, record: PlaneFigure) -> None:
    for ends, known in zip(said["window"], record.window, strict=True):
        all_same(ends, known)
    for point, place in zip(said["minimizers"], record.minimizers, strict=True):
        all_same(point, place)
    for panel, shown in zip(said["panels"], record.panels, strict=True):
        assert panel["title"] == shown.title
        for path, own in zip(panel["trajectories"], shown.trajectories, strict=True):
            assert (path["label"], path["seed"], path["failed"]) == (
                own.label,
                own.seed,
                own.failed,
            )
            looks_alike(said, path["style"], own.style)
            for axis in (0, 1):
                all_same(path["points"][axis], own.points[:, axis], charts.SHORT)
            assert said["steps"][path["steps"]] == own.steps.tolist()
            assert path["marked"] == own.marked.tolist()
            assert path["optimizers"] == list(own.optimizers)
            all_same(path["end"], own.end, charts.SHORT)
    assert said["axes"] == list(record.axes)
    for axis in (0, 1):
        all_same(said["curve"][axis], record.curve[:, axis], charts.SHORT)


def heat_alike(said: Plain, record: HeatFigure) -> None:
    assert (said["valueLabel"], said["log"]) == (record.value_label, record.log)
    all_same(said["limits"], record.limits)
    assert len(set(said["colors"])) == charts.HEAT_STEPS
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in said["colors"])
    for panel, known in zip(said["panels"], record.panels, strict=True):
        assert (panel["title"], panel["optimizer"]) == (known.title, known.optimizer)
        assert (panel["xLabel"], panel["yLabel"]) == (known.x_label, known.y_label)
        assert (panel["xLog"], panel["yLog"], panel["best"]) == (
            *(known.x_log, known.y_log),
            known.best,
        )
        for name in ("x", "y", "values"):
            all_same(panel[name], getattr(known, name))


def alike(said: Plain | None, record: FigureRecord) -> None:
    """What is said of a record is what the record says, and JSON can say it."""
    assert said is not None
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    if isinstance(record, CurveFigure):
        assert said["kind"] == "curves"
        curves_alike(said, record)
    elif isinstance(record, DotFigure):
        assert said["kind"] == "dots"
        dots_alike(said, record)
    elif isinstance(record, PlaneFigure):
        assert said["kind"] == "planes"
        planes_alike(said, record)
    else:
        assert isinstance(record, HeatFigure)
        assert said["kind"] == "heat"
        heat_alike(said, record)
    assert said["columns"] == record.columns


# Records of every kind, made up

numbers = st.floats(width=64)
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=8)
words = st.fixed_dictionaries(
    {"name": texts, "objective": st.none() | texts, "title": texts, "caption": texts, "alt": texts}
)
pairs = st.tuples(finite, finite)
flags = st.booleans()
styles = st.builds(
    Style,
    color=st.sampled_from(figure_styles.COLORS),
    marker=st.sampled_from(figure_styles.MARKERS),
    dashes=st.sampled_from(figure_styles.DASHES),
    filled=flags,
    width=st.sampled_from([1.3, 2.3]),
    optimizer=texts,
)


def arrays(count: int, elements: st.SearchStrategy[float] = finite) -> st.SearchStrategy[Array]:
    return st.lists(elements, min_size=count, max_size=count).map(
        lambda values: np.array(values, dtype=np.float64)
    )


def places(count: int) -> st.SearchStrategy[NDArray[np.int64]]:
    whole = st.integers(-(2**62), 2**62)
    return st.lists(whole, min_size=count, max_size=count).map(
        lambda values: np.array(values, dtype=np.int64)
    )


SHARED = [np.arange(float(count)) for count in range(4)]


@st.composite
def lines(draw: st.DrawFn) -> Line:
    count = draw(st.integers(0, 3))
    x = draw(st.just(SHARED[count]) | arrays(count))
    low, high = draw(st.just((NONE, NONE)) | st.tuples(arrays(count, numbers), arrays(count)))
    seeds = st.none() | st.integers(0, 2**63)
    seconds = draw(st.just(NONE) | st.just(0.25 * x) | arrays(count))
    more = (draw(flags), draw(flags), draw(seeds), seconds, draw(texts))
    return Line(draw(texts), draw(styles), x, draw(arrays(count)), low, high, *more)


many_lines = st.lists(lines(), max_size=3).map(tuple)
curve_panels = st.builds(
    CurvePanel,
    title=texts,
    x_label=texts,
    y_label=texts,
    log=flags,
    limits=pairs,
    lines=many_lines,
    reference_line=st.none() | finite,
    reference_label=texts,
    marks=st.lists(st.builds(Mark, finite, texts, finite, finite), max_size=2).map(tuple),
    ticks=st.lists(st.tuples(finite, texts), max_size=2).map(tuple),
    x_log=flags,
    steps_per_x=st.none() | st.integers(1, 10**6),
    steps_per_epoch=st.integers(1, 10**6),
    seed_lines=many_lines,
)


@st.composite
def dot_rows(draw: st.DrawFn) -> DotRow:
    count = draw(st.integers(0, 3))
    return DotRow(
        label=draw(texts),
        note=draw(texts),
        style=draw(styles),
        values=draw(arrays(count)),
        offsets=figure_records.offsets(count),
        centre=draw(numbers),
        low=draw(numbers),
        high=draw(numbers),
        published=draw(numbers),
        empty=draw(texts),
        numbers=draw(places(0) | places(count)),
    )


dot_panels = st.builds(
    DotPanel,
    title=texts,
    x_label=texts,
    log=flags,
    limits=pairs,
    rows=st.lists(dot_rows(), max_size=3).map(tuple),
    reference_line=st.none() | finite,
    reference_label=texts,
)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    count = draw(st.integers(1, 3))
    points = np.stack([draw(arrays(count)), draw(arrays(count))], axis=1)
    return Trajectory(
        *(draw(texts), draw(styles), points, draw(flags), draw(places(count))),
        marked=draw(places(1)),
        end=np.array(draw(pairs)),
        seed=draw(st.none() | st.integers(0, 2**63)),
        optimizers=tuple(draw(st.lists(texts, max_size=2))),
    )


plane_panels = st.builds(PlanePanel, texts, st.lists(trajectories(), max_size=2).map(tuple))


@st.composite
def heat_panels(draw: st.DrawFn) -> HeatPanel:
    count = draw(st.integers(1, 3))
    return HeatPanel(
        *(draw(texts), draw(texts), draw(texts), draw(flags), draw(flags)),
        *(draw(arrays(count)), draw(arrays(count)), draw(arrays(count, numbers))),
        *(draw(st.none() | st.integers(0, count - 1)), draw(texts)),
    )


@st.composite
def figures(draw: st.DrawFn) -> FigureRecord:
    kind = draw(st.sampled_from([CurveFigure, DotFigure, PlaneFigure, HeatFigure]))
    named: dict[str, Any] = {**draw(words), "columns": draw(st.integers(1, 4))}
    of: dict[type[FigureRecord], st.SearchStrategy[Any]] = {
        CurveFigure: curve_panels,
        DotFigure: dot_panels,
        PlaneFigure: plane_panels,
        HeatFigure: heat_panels(),
    }
    named["panels"] = tuple(draw(st.lists(of[kind], max_size=2)))
    if kind is CurveFigure:
        return CurveFigure(**named)
    if kind is DotFigure:
        named |= {name: draw(texts) for name in ("dot_label", "centre_label", "number_label")}
        return DotFigure(**named)
    if kind is PlaneFigure:
        return PlaneFigure(
            **named,
            window=(draw(pairs), draw(pairs)),
            landscape=None,
            levels=(),
            minimizers=tuple(draw(st.lists(pairs, max_size=2))),
            axes=(draw(texts), draw(texts)),
            curve=np.stack([draw(arrays(2)), draw(arrays(2))], axis=1),
        )
    named |= {"value_label": draw(texts), "log": draw(flags), "limits": draw(pairs)}
    return HeatFigure(**named)


@given(figures())
def test_whatever_a_record_holds_is_said_as_it_is(record: FigureRecord) -> None:
    alike(charts.plain(record), record)


def test_every_figure_of_results_is_said_as_its_record_says(records: list[FigureRecord]) -> None:
    kinds = {type(record) for record in records}
    assert kinds == {CurveFigure, DotFigure, PlaneFigure, HeatFigure}
    for record in records:
        alike(charts.plain(record), record)


def test_what_is_drawn_on_paper_alone_has_no_data() -> None:
    named = ("check-time", None, "Time", "Caption.", "Words.")
    assert charts.plain(FigureRecord(*named)) is None
    assert charts.plain(RatioFigure(*named, (), "", "")) is None


@given(st.lists(numbers, max_size=5))
def test_no_number_takes_more_than_its_digits(values: list[float]) -> None:
    for said in charts.numbers(values):
        if said is not None:
            digits = re.sub(r"e.*|[-.]", "", repr(said)).strip("0")
            assert len(digits) <= charts.DIGITS


def test_data_take_few_bytes_for_a_point(records: list[FigureRecord]) -> None:
    known = {record.name: record for record in records}
    for name, most in (("loss_lines", 12), ("coordinates_bowl", 30), ("final_loss_lines", 30)):
        said = charts.plain(known[name])
        assert said is not None
        points = sum(
            len(line["y"]) + len(line.get("low", [])) + len(line.get("high", []))
            for panel in said["panels"]
            for line in (*panel.get("lines", []), *panel.get("seedLines", []))
        )
        points += sum(
            len(row["values"]) for panel in said["panels"] for row in panel.get("rows", [])
        )
        looks = len(parts.as_json(said["styles"])) + 800 * len(said["panels"])
        assert len(parts.as_json(said)) <= most * points + looks


# Seeds, times, contours: against what the results hold


def cases_by_label(results: Results, objective: str) -> dict[str, CaseData]:
    return {case.label: case for case in results.cases_on(objective)}


@pytest.mark.parametrize("name", ["bowl", "lines"])
def test_strands_are_the_curves_of_the_seeds_that_they_name(
    results: Results, records: list[FigureRecord], name: str
) -> None:
    [record] = [one for one in records if one.name == f"loss_{name}"]
    said = charts.plain(record)
    assert said is not None
    info, cases = results.objectives[name], cases_by_label(results, name)
    unit = info.steps_per_epoch
    for shown, panel in enumerate(said["panels"]):
        lowered = (info.optimum or 0.0) if shown else 0.0
        found: dict[str, list[int]] = {}
        for strand in panel["seedLines"]:
            case = cases[strand["label"]]
            steps = np.rint(np.array(panel["xs"][strand["x"]]) * unit).astype(int)
            at = np.searchsorted(info.record_steps, steps)
            np.testing.assert_array_equal(info.record_steps[at], steps)
            assert (steps[0], steps[-1]) == (0, info.steps)
            [losses] = case.losses[case.seeds == strand["seed"]]
            off = rounding(charts.SHORT)
            np.testing.assert_allclose(strand["y"], losses[at] - lowered, rtol=off, atol=1e-12)
            assert said["styles"][strand["style"]]["optimizer"] == case.optimizer
            found.setdefault(case.label, []).append(strand["seed"])
        assert set(found) == set(cases)
        for label, seeds in found.items():
            assert len(seeds) == len(set(seeds)) == figure_records.SEED_LINES
            ok = cases[label].losses[:, -1]
            by_loss = np.array(SEEDS)[np.argsort(ok)][: int(np.isfinite(ok).sum())]
            assert {seeds[0], seeds[-1]} == {by_loss[0], by_loss[-1]}


def test_a_unit_of_x_takes_the_median_time_of_a_step_as_often_as_it_has_steps(
    results: Results, records: list[FigureRecord]
) -> None:
    timings = results.timings
    medians = {
        int(case.position): float(np.median(own["seconds"] / own["steps"]))
        for case in results.cases
        if len(own := timings[timings["position"] == case.position])
    }
    seen = 0
    for record in records:
        if not record.name.startswith(("loss_", "coordinates_")) or "time" in record.name:
            continue
        said = charts.plain(record)
        assert said is not None
        cases = cases_by_label(results, str(record.objective))
        for panel in said["panels"]:
            for line in (*panel["lines"], *panel["seedLines"]):
                label = line["label"].split(", 27 of")[0]
                if label not in cases:
                    continue
                median = medians.get(cases[label].position, math.nan)
                same(line.get("secondsPerX"), median * panel["stepsPerX"])
                seen += 1
    assert seen > 60


def test_step_sizes_know_the_time_of_a_step_too(
    results: Results, records: list[FigureRecord]
) -> None:
    [record] = [one for one in records if one.name == "step_sizes_bowl"]
    said = charts.plain(record)
    assert said is not None
    timed = {case.label for case in results.cases if case.optimizer != "grid"}
    for panel in said["panels"]:
        for line in panel["lines"]:
            assert ("secondsPerX" in line) == (panel["title"] in timed)


def test_every_dot_is_the_loss_of_the_seed_that_it_names(
    results: Results, records: list[FigureRecord]
) -> None:
    [record] = [one for one in records if one.name == "final_loss_lines"]
    said = charts.plain(record)
    assert said is not None
    cases = cases_by_label(results, "lines")
    for row in said["panels"][0]["rows"]:
        case = cases[row["label"]]
        final = dict(zip(case.seeds.tolist(), case.losses[:, -1].tolist(), strict=True))
        assert len(set(row["numbers"])) == np.isfinite(case.losses[:, -1]).sum() >= 27
        optimum = results.objectives["lines"].optimum or 0.0
        all_same(row["values"], [final[seed] - optimum for seed in row["numbers"]])


def test_every_timed_block_has_its_number(results: Results, records: list[FigureRecord]) -> None:
    [record] = [one for one in records if one.name == "seconds_per_epoch"]
    said = charts.plain(record)
    assert said is not None
    assert said["numberLabel"] == "block"
    timings = results.timings
    for panel in said["panels"]:
        unit = 1e-3 if "milliseconds" in panel["xLabel"] else 1e-6
        cases = cases_by_label(results, panel["title"])
        for row in panel["rows"]:
            own = timings[timings["position"] == cases[row["label"]].position]
            seconds = dict(zip(own["round"], own["epoch_seconds"], strict=True))
            all_same(row["values"], [seconds[number] / unit for number in row["numbers"]])


def contour_points(said: Plain) -> Iterator[tuple[float, Array]]:
    for contour in said["contours"]:
        for x, y in contour["lines"]:
            yield contour["level"], np.stack([y, x], axis=1)


def on_its_level(record: PlaneFigure, level: float, points: Array) -> None:
    """The landscape has the level at the points, as exactly as these are said."""
    assert record.landscape is not None
    x2, x1 = (
        np.linspace(*ends, count)
        for ends, count in zip(record.window[::-1], record.landscape.shape, strict=True)
    )
    low, high = np.array([x2[0], x1[0]]), np.array([x2[-1], x1[-1]])
    loss = RegularGridInterpolator((x2, x1), record.landscape)(np.clip(points, low, high))
    steepest = [
        float(np.abs(np.diff(record.landscape, axis=axis)).max()) / (x[1] - x[0])
        for axis, x in enumerate((x2, x1))
    ]
    off = rounding(charts.PLACE) * np.abs(points) @ np.array(steepest)
    off += rounding(charts.DIGITS) * abs(level) + 1e-6 * float(np.ptp(record.landscape))
    assert (np.abs(loss - level) <= off).all()


def test_contours_lie_on_their_levels(records: list[FigureRecord]) -> None:
    [record] = [one for one in records if one.name == "trajectories_bowl"]
    assert isinstance(record, PlaneFigure)
    said = charts.plain(record)
    assert said is not None
    levels = [contour["level"] for contour in said["contours"]]
    assert levels == sorted(levels)
    assert len(levels) > 5
    labels = [contour["label"] for contour in said["contours"]]
    assert labels[: -figure_records.LABELED_LEVELS] == [None] * (len(levels) - 4)
    for level, (x, y) in zip(levels[-4:], labels[-4:], strict=True):
        on_its_level(record, level, np.array([[y, x]]))
    for level, points in contour_points(said):
        on_its_level(record, level, points)


def over(landscape: Array, levels: tuple[float, ...]) -> PlaneFigure:
    named = ("plane", "bowl", "Plane", "Caption.", "Words.")
    return PlaneFigure(*named, (), 1, ((-1.0, 3.0), (0.5, 2.0)), landscape, levels, ())


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-100, 100), min_size=20, max_size=20),
    st.lists(st.floats(-110, 110), max_size=3, unique=True).map(sorted),
)
def test_contours_of_any_landscape_lie_on_their_levels(
    values: list[float], levels: list[float]
) -> None:
    landscape = np.round(np.array(values).reshape(4, 5), 3)
    record = over(landscape, tuple(levels))
    said = charts.plain(record)
    assert said is not None
    inside = [level for level in levels if landscape.min() < level < landscape.max()]
    all_same([contour["level"] for contour in said["contours"]], inside)
    assert all(contour["lines"] for contour in said["contours"])
    for level, points in contour_points(said):
        on_its_level(record, level, points)


def test_where_the_landscape_is_unknown_there_are_no_contours() -> None:
    landscape = np.add.outer(np.arange(6.0), np.arange(9.0))
    landscape[:, :4] = np.nan
    said = charts.plain(over(landscape, (7.5,)))
    assert said is not None
    [(level, points)] = contour_points(said)
    assert level == 7.5
    assert (points[:, 1] >= 1.0).all()
    said = charts.plain(over(np.full((3, 3), np.nan), (1.0,)))
    assert said is not None
    assert said["contours"] == []


# On the page


class Scripts(HTMLParser):
    """The scripts of a page: attributes and text; and the names of its live figures."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.live: set[str] = set()
        self.tags: list[str] = []
        self.policy = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        if tag == "meta" and "http-equiv" in known:
            self.policy = known["content"] or ""
        if tag == "figure" and "data-live" in known:
            self.live.add(known["data-name"] or "")
        if tag == "script":
            self.scripts.append((known, ""))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)


pieces = st.sampled_from(
    ["</script>", "<!--", "<script", "]]>", "\u2028", "\\", '"', "&lt;", "-->"]
)
hostile = st.lists(pieces | st.text(max_size=3), max_size=6).map("".join)
plain_values = st.recursive(
    st.none() | flags | st.integers() | finite | hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile, inner, max_size=3),
    max_leaves=8,
)


@given(plain_values)
def test_data_cannot_close_the_element_that_they_stand_in(value: Any) -> None:
    text = str(parts.as_json(value))
    assert "<" not in text
    assert "\u2028" not in text
    around = f'<p><script type="application/json">{text}</script></p>'
    parsed = Scripts(around)
    assert parsed.tags == ["p", "script", "/script", "/p"]
    [(_, inner)] = parsed.scripts
    assert json.loads(inner) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_what_json_has_no_word_for_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        parts.as_json(value)


def installed_script() -> bytes:
    found = importlib.util.find_spec("bokeh")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "server/static/js/bokeh.min.js").read_bytes()


def test_the_library_unpacks_to_the_script_that_is_installed_and_is_the_same_each_time() -> None:
    one, other = charts.library(), charts.library()
    assert one == other
    script = gzip.decompress(base64.b64decode(one.packed, validate=True))
    assert script == installed_script()
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    assert one.digest == f"sha256-{digest}"
    assert re.fullmatch(r"Bokeh 3\.[0-9.]+", one.version)
    assert len(one.packed) < 0.4 * len(script)


DRAWN = (
    '<svg role="img" aria-label="as drawn" width="504pt" height="252pt" '
    'viewBox="0 0 504 252" xmlns="http://www.w3.org/2000/svg" version="1.1"></svg>'
)


def rendered(results: Results, records: Sequence[FigureRecord]) -> Scripts:
    drawings = [Drawing(record.name, DRAWN, b"") for record in records]
    return Scripts(run_page.render(results, [], records, drawings, Findings()))


def test_picture_and_chart_are_of_the_same_record(
    results: Results, records: list[FigureRecord]
) -> None:
    only_paper = FigureRecord("check-time", None, "Time", "Caption.", "Words.")
    parsed = rendered(results, [*records, only_paper])
    assert parsed.live == {record.name for record in records}
    [packed] = [text for known, text in parsed.scripts if known.get("id") == "chart-data"]
    data = json.loads(gzip.decompress(base64.b64decode(packed, validate=True)))
    assert data == {record.name: charts.plain(record) for record in records}


def test_the_policy_names_the_scripts_that_may_run_and_no_others(
    results: Results, records: list[FigureRecord]
) -> None:
    parsed = rendered(results, records)
    [own] = [text for attributes, text in parsed.scripts if "type" not in attributes]
    [packed] = [text for known, text in parsed.scripts if known.get("id") == "chart-library"]
    scripts = [own.encode(), gzip.decompress(base64.b64decode(packed))]
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts]
    rules = dict(rule.strip().split(" ", 1) for rule in parsed.policy.split(";"))
    assert rules["script-src"] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert rules["default-src"] == "'none'"
    assert {known.get("type") for known, _ in parsed.scripts} == {
        *(None, "application/json", "text/plain")
    }


def test_a_page_without_charts_carries_no_library(results: Results) -> None:
    parsed = rendered(results, [FigureRecord("check-time", None, "Time", "Caption.", "Words.")])
    assert not [known for known, _ in parsed.scripts if known.get("id") == "chart-library"]
    assert parsed.policy.count("sha256-") == 1


def test_the_page_knows_the_style_of_every_optimizer(results: Results) -> None:
    parsed = rendered(results, [])
    [styled] = [text for known, text in parsed.scripts if known.get("id") == "styles"]
    expected = figure_styles.swatches(results)
    assert json.loads(styled) == [[name, charts.swatch(style)] for name, style in expected.items()]
