"""The history of checks: a line each, read whatever became of it, and where times changed."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.cli import main
from harness.errors import BadInput
from harness.gate import history
from harness.gate.history import CellEntry, Change, Series, append, change_points, read, series
from harness.gate.report import Blocks, CellVerdict, GateReport, Judgement

Array = NDArray[np.float64]


def cell(ratio: float | None = 1.5, optimizer: str = "sgd", setting: str = "") -> CellVerdict:
    outcome = "fine" if ratio is not None else "failed"
    time = Judgement("time", outcome, "", 1.5, ratio, None, 0.98, 1.02, 0.05)  # type: ignore[arg-type]
    label = f"{optimizer}[{setting}]" if setting else optimizer
    return CellVerdict(
        id=f"bowl/{label}/cpu",
        objective="bowl",
        optimizer=optimizer,
        setting=setting,
        device="cpu",
        place="spec.yaml:3:5",
        judgements=(time, Judgement("operators", "fine", "", 12.0, 12.0, 0.0)),
        blocks=(Blocks("cpu", 10, 10, (1.0,), (1.0,), 1.0, 0, "now"),),
    )


def checked(day: int = 1, *cells: CellVerdict, key: str = "a" * 32) -> GateReport:
    return GateReport(
        suite="sample",
        spec_file="spec.yaml",
        against="baseline.json",
        taken=f"2026-{1 + day // 28:02}-{1 + day % 28:02}T10:00:00+00:00",
        seconds=3.0,
        git=f"commit{day}",
        machine={"cpu": "A processor", "cores": "2"},
        machine_key=key,
        differs=(),
        controls=(1.0,),
        cells=cells or (cell(),),
    )


def written(path: Path, ratios: list[float], key: str = "a" * 32) -> Path:
    for day, ratio in enumerate(ratios):
        append(path, checked(day, cell(ratio), key=key))
    return path


# The file


def test_a_check_is_one_line_without_its_blocks_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / history.FILE_NAME
    append(path, checked(3, cell(1.25), cell(None, "ada", "lr=0.1")))
    text = path.read_text()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert "blocks" not in text
    plain = json.loads(text)
    assert plain["format"] == history.FORMAT
    assert plain["taken"] == "2026-01-04T10:00:00+00:00"
    found = read(path)
    (entry,) = found.entries
    assert (found.torn, found.newer, found.remarks) == (0, 0, [])
    assert (entry.git, entry.against) == ("commit3", "baseline.json")
    assert entry.machine == "A processor, cores 2"
    first, second = entry.cells
    assert (first.ratio, first.low, first.high, first.operators) == (1.25, 0.98, 1.02, 12.0)
    assert (first.loss, first.calls, first.state, first.outcome) == (None, None, None, "fine")
    assert (second.id, second.setting, second.ratio) == ("bowl/ada[lr=0.1]/cpu", "lr=0.1", None)


def test_a_history_is_a_frame_of_a_row_per_check_and_cell(tmp_path: Path) -> None:
    append(tmp_path / "h.jsonl", checked(3, cell(1.25), cell(None, "ada", "lr=0.1")))
    append(tmp_path / "h.jsonl", checked(4, cell(1.5)))
    frame = read(tmp_path / "h.jsonl").frame()
    assert frame["git"].tolist() == ["commit3", "commit3", "commit4"]
    assert frame["optimizer"].tolist() == ["sgd", "ada", "sgd"]
    assert frame["ratio"].fillna(-1).tolist() == [1.25, -1, 1.5]
    assert list(history.History().frame().columns) == list(frame.columns)


def test_lines_are_added_and_none_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    append(path, checked(1))
    before = path.read_bytes()
    append(path, checked(2))
    assert path.read_bytes().startswith(before)
    assert [entry.git for entry in read(path).entries] == ["commit1", "commit2"]


def test_a_line_cut_anywhere_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    append(path, checked(1))
    append(path, checked(2))
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for end in [*range(start, len(whole), 37), len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:end])
        append(path, checked(3))
        found = read(path)
        kept = ["commit1", "commit3"]
        if end == len(whole) - 1:  # only the line's end was lost
            kept.insert(1, "commit2")
        assert [entry.git for entry in found.entries] == kept
        assert found.torn == (0 if end in (start, len(whole) - 1) else 1)


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b'{"format": 1}',
        b"[" * 100_000,
        b'{"format": "x"}',
    ],
)
def test_a_line_that_is_no_entry_is_skipped_and_counted(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "h.jsonl"
    append(path, checked(1))
    with path.open("ab") as file:
        file.write(line + b"\n\n")
    append(path, checked(2))
    found = read(path)
    assert (len(found.entries), found.torn, found.newer) == (2, 1, 0)
    assert found.remarks == ["1 line of the history left out: unreadable."]


def test_lines_of_a_newer_harness_are_skipped_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "h.jsonl", [1.0])
    newer = json.loads(path.read_text()) | {"format": history.FORMAT + 1, "cells": "elsewhere"}
    path.write_text(f"{path.read_text()}{json.dumps(newer)}\n" * 2)
    found = read(path)
    assert (len(found.entries), found.torn, found.newer) == (2, 0, 2)
    assert found.remarks == ["2 lines of the history left out: written by a newer harness."]


def test_a_file_that_is_not_there_is_an_empty_history(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl") == history.History()


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be read: Is a directory"):
        read(tmp_path)
    with pytest.raises(BadInput, match="can't be written: Is a directory"):
        append(tmp_path, checked())
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="can't be written"):
        append(tmp_path / "file" / "h.jsonl", checked())


# Series


def test_machines_are_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    for day, (key, ratio) in enumerate([("a", 1.0), ("b", 9.0), ("a", 1.1), ("b", 9.9)]):
        append(path, checked(day, cell(ratio), key=key))
    entries = read(path).entries
    (one,) = series(entries, "a").values()
    assert one.ratios == (1.0, 1.1)
    assert one.numbers == (1, 2)
    assert one.gits == ("commit0", "commit2")
    assert [time[:10] for time in one.times] == ["2026-01-01", "2026-01-03"]
    assert series(entries, "b")["bowl/sgd/cpu"].ratios == (9.0, 9.9)
    assert series(entries, "c") == {}


def test_checks_without_a_time_leave_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    for day, ratio in enumerate([1.0, None, 1.2, math.inf, 0.0]):
        append(path, checked(day, cell(ratio), cell(2.0, "ada")))
    found = series(read(path).entries, "a" * 32)
    assert found["bowl/sgd/cpu"].ratios == (1.0, 1.2)
    assert found["bowl/sgd/cpu"].numbers == (1, 3)
    assert found["bowl/ada/cpu"].numbers == (1, 2, 3, 4, 5)


# Change points


def noisy(generator: np.random.Generator, count: int, noise: float = 0.01) -> Array:
    return np.exp(generator.normal(0, noise, count))


@pytest.mark.parametrize("factor", [1.5, 1.05, 0.95, 0.5])
def test_a_clean_step_is_found_where_it_is_with_its_levels(factor: float) -> None:
    ratios = [1.2] * 7 + [1.2 * factor] * 5
    (point,) = change_points(ratios)
    assert point.index == 7
    assert point.before == pytest.approx(1.2, rel=1e-12)
    assert point.after == pytest.approx(1.2 * factor, rel=1e-12)
    assert point.change == pytest.approx(factor - 1, rel=1e-12)


def test_several_steps_are_found() -> None:
    points = change_points([1.0] * 10 + [1.1] * 4 + [0.9] * 12)
    assert [point.index for point in points] == [10, 14]
    assert [round(point.change, 12) for point in points] == [0.1, round(0.9 / 1.1 - 1, 12)]


@given(
    st.floats(1e-6, 1e6),
    st.lists(st.floats(-1e-3, 1e-3), max_size=40),
)
def test_what_hardly_varies_has_no_change_point(level: float, by: list[float]) -> None:
    assert change_points([level * math.exp(b) for b in by]) == []


@pytest.mark.parametrize("count", range(6))
def test_a_short_series_has_none(count: int) -> None:
    assert change_points([1.0, 1.0, 1.0, 9.0, 9.0, 9.0][:count]) == []


def test_the_scale_of_the_ratios_changes_nothing() -> None:
    ratios = noisy(np.random.default_rng(0), 40)
    ratios[22:] *= 1.1
    found = change_points(list(ratios))
    scaled = change_points(list(1000 * ratios))
    assert [p.index for p in found] == [p.index for p in scaled] == [22]
    assert scaled[0].change == pytest.approx(found[0].change, rel=1e-9)


def segmented(values: Array, least: int, penalty: float) -> float:
    """The lowest cost there is, by trying every segmentation (dynamic programming)."""
    count = len(values)
    sums, squares = np.cumsum([0.0, *values]), np.cumsum([0.0, *values**2])
    best = [-penalty] + [math.inf] * count
    for end in range(least, count + 1):
        for start in range(end - least + 1):
            total = sums[end] - sums[start]
            cost = squares[end] - squares[start] - total**2 / (end - start)
            best[end] = min(best[end], best[start] + cost + penalty)
    return best[count]


def test_no_segmentation_explains_a_series_better() -> None:
    generator = np.random.default_rng(7)
    for _ in range(40):
        ratios = noisy(generator, 50)
        for start in generator.integers(3, 47, 3):
            ratios[start:] *= generator.choice([0.97, 1.03, 1.06])
        values = np.log(ratios)
        noise = history._noise(values)
        tamed = history._tamed(values, history.OUTLIER_SD * noise)
        penalty = history.PENALTY * noise**2 * math.log(len(values))
        ends = [0, *(point.index for point in change_points(list(ratios))), len(values)]
        parts = [tamed[a:b] for a, b in itertools.pairwise(ends)]
        assert min(map(len, parts)) >= history.SHORTEST
        cost = sum(part.var() * len(part) for part in parts) + penalty * (len(parts) - 1)
        assert cost == pytest.approx(segmented(tamed, history.SHORTEST, penalty), abs=1e-12)


def rate(found: list[bool]) -> float:
    return sum(found) / len(found)


@pytest.mark.parametrize("count", [8, 20, 60, 200])
def test_pure_noise_seldom_has_a_change_point(count: int) -> None:
    generator = np.random.default_rng(count)
    alarms = [bool(change_points(list(noisy(generator, count)))) for _ in range(400)]
    assert rate(alarms) <= 0.05


def test_noise_with_heavy_tails_seldom_has_one_either() -> None:
    generator = np.random.default_rng(3)
    series_ = [np.exp(0.01 * generator.standard_t(3, 60)) for _ in range(400)]
    assert rate([bool(change_points(list(one))) for one in series_]) <= 0.05


def test_a_step_of_five_noises_is_nearly_always_found() -> None:
    generator = np.random.default_rng(5)
    near, alone = [], []
    for _ in range(300):
        ratios = noisy(generator, 40)
        ratios[20:] *= 1.05
        points = change_points(list(ratios))
        near.append(any(abs(point.index - 20) <= 2 for point in points))
        alone.append(len(points) == 1)
    assert rate(near) >= 0.99
    assert rate(alone) >= 0.95


def test_one_check_that_stands_alone_is_no_change() -> None:
    generator = np.random.default_rng(11)
    alarms = []
    for _ in range(300):
        ratios = noisy(generator, 40)
        ratios[generator.integers(40)] *= generator.choice([0.7, 1.4])
        alarms.append(bool(change_points(list(ratios))))
    assert rate(alarms) <= 0.05


def test_changes_are_told_in_order_with_date_commit_and_levels(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    for day in range(12):
        sgd = cell(1.5 if day < 8 else 1.2)
        append(path, checked(day, sgd, cell(2.0 if day < 4 else 2.2, "ada", "lr=0.1")))
    found = history.changes(series(read(path).entries, "a" * 32).values())
    assert [change.number for change in found] == [5, 9]
    assert [str(change) for change in found] == [
        "ada (lr=0.1) on bowl (cpu) is 10.0% slower since the check of 2026-01-05 10:00 UTC "
        "(commit commit4): 2.200 times the reference loop, 2.000 until 2026-01-04 10:00 UTC "
        "(commit commit3).",
        "sgd on bowl (cpu) is 20.0% faster since the check of 2026-01-09 10:00 UTC "
        "(commit commit8): 1.200 times the reference loop, 1.500 until 2026-01-08 10:00 UTC "
        "(commit commit7).",
    ]


def test_a_check_without_a_commit_is_told_by_its_date() -> None:
    known = CellEntry("x", "bowl", "sgd", "", "cpu", 1.0, None, None, None, None, None, None, "")
    one = Series(known, tuple(range(1, 7)), ("yesterday",) * 6, ("",) * 6, (1.0,) * 3 + (2.0,) * 3)
    (point,) = change_points(one.ratios)
    assert "since the check of yesterday: 2.000 times" in str(Change(one, point))


# The command


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["history", *map(str, arguments)])


def test_the_command_tells_each_machine_with_its_changes(tmp_path: Path) -> None:
    path = written(tmp_path / history.FILE_NAME, [1.5] * 5 + [1.8] * 5)
    written(path, [3.0], key="b" * 32)
    shown = call(tmp_path)
    assert shown.exit_code == 0
    first, second = shown.stdout.split("\n\n")
    lines = first.splitlines()
    assert lines[0] == "Machine aaaaaaaaaaaa: A processor, cores 2"
    assert lines[1].startswith("10 checks, 2026-01-01 10:00 UTC to 2026-01-10 10:00 UTC")
    assert lines[2].split() == ["cell", "checks", "first", "latest"]
    assert lines[3].split() == ["bowl/sgd/cpu", "10", "1.500", "1.800"]
    assert lines[4].startswith("sgd on bowl (cpu) is 20.0% slower since the check of 2026-01-06")
    assert second.startswith("Machine bbbbbbbbbbbb")
    assert "1 check, " in second
    assert call(path).stdout == shown.stdout


def test_the_command_finds_the_history_of_a_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks.yaml").write_text("suite: s\n")
    written(tmp_path / "reports" / "s" / history.FILE_NAME, [1.0])
    assert call(tmp_path / "benchmarks.yaml").exit_code == 0
    monkeypatch.chdir(tmp_path)
    assert "bowl/sgd/cpu" in call().stdout


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / history.FILE_NAME, [1.0])
    path.write_bytes(b"torn\n" + path.read_bytes())
    assert call(path).stdout.startswith("1 line of the history left out: unreadable.")


def test_nothing_in_a_history_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    path = tmp_path / history.FILE_NAME
    for day in range(12):
        one = replace(cell(1.0 if day < 6 else 2.0, "\x1b[2J\nsgd"), id="\x1b[31mx\ny")
        report = replace(checked(day, one), git="\x1b]0;x\x07", machine={"cpu": "\x1b[1m"})
        append(path, report)
    shown = call(path)
    assert shown.exit_code == 0
    assert all(line.isprintable() for line in shown.stdout.splitlines())
    assert r"\x1b[31mx\ny" in shown.stdout


@pytest.mark.parametrize("name", ["times.svg", "times.PNG", "times.pdf"])
def test_the_command_draws_the_machine_that_checked_last(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "h.jsonl", [9.0] * 3, key="b")
    written(path, [1.5] * 5 + [1.8] * 5)
    assert call(path, "--output", tmp_path / name).exit_code == 0
    content = (tmp_path / name).read_bytes()
    if name.endswith("svg"):
        assert content.startswith(b"<svg")
        assert b"over all checks" in content
        assert b">change point<" in content
    else:
        assert content.startswith(b"%PDF" if name.endswith("pdf") else b"\x89PNG")


def test_bad_input_is_a_clear_line_and_exit_status_2(tmp_path: Path) -> None:
    one = written(tmp_path / "one.jsonl", [1.0])
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    expected = "no history here; `python -m harness check` begins one"
    refused: list[tuple[list[str | Path], str]] = [
        ([tmp_path], expected),
        ([tmp_path / "gone.jsonl"], expected),
        ([tmp_path / "gone.yaml"], "gone.yaml"),
        ([empty], "holds no check that can be read"),
        ([one, "-o", tmp_path / "x.eps"], "x.eps: expected a name that ends in .svg, .pdf or .png"),
        ([one, "-o", tmp_path / "x.svg"], "nothing to draw: it takes two checks"),
    ]
    for arguments, complaint in refused:
        shown = call(*arguments)
        assert shown.exit_code == 2
        assert isinstance(shown.exception, SystemExit)
        assert shown.stdout == ""
        assert complaint in shown.stderr
    two = written(tmp_path / "two.jsonl", [1.0, 1.0])
    shown = call(two, "-o", tmp_path / "none" / "x.svg")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "can't be written: No such file or directory" in shown.stderr


def test_without_the_library_all_but_change_points_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "h.jsonl", [1.5] * 5 + [1.8] * 5)
    monkeypatch.setattr(history, "can_find_changes", lambda: False)
    shown = call(path, "-o", tmp_path / "x.svg")
    assert shown.exit_code == 0
    assert "bowl/sgd/cpu" in shown.stdout
    assert "slower" not in shown.stdout
    assert shown.stdout.rstrip().endswith(history.NEEDS)
    assert b"change point" not in (tmp_path / "x.svg").read_bytes()


def test_the_command_loads_no_torch_and_the_module_no_library_of_change_points() -> None:
    code = (
        "import sys, harness.gate.history, harness.reporting.figures.check, harness.cli\n"
        "print([name in sys.modules for name in ('torch', 'ruptures', 'matplotlib')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[False, False, False]"
