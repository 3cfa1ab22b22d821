"""The check through the command line: what it finds, what it says, and what it ends with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from builders import InProcess, git, tree
from click.testing import CliRunner, Result
from filelock import FileLock

from harness.cli import main
from harness.commands import measure_revision
from harness.commands.measure_revision import MeasuredRevision
from harness.gate import baseline as baselines
from harness.gate import report as verdicts
from harness.gate.baseline import Cell, Loss
from harness.gate.report import METRICS, GateReport, Metric, Outcome
from harness.plan.model import Plan
from harness.progress import Progress
from harness.provenance import environment
from harness.results import BlockPairs, MeasuredRatios
from harness.spec.validation import LoadedSpec
from harness.workers.executor import Lost, Task, WorkerFailed
from harness.workers.pool import Pool
from harness.workers.requests import CollectRatios

ROOT = Path(__file__).resolve().parents[2]

# Without processes: what is measured is made up, all else is as a user has it.

MADE_UP = """\
suite: made-up
seeds: 2
devices: [cpu]
check: {rounds: 20, block_steps: 2, threshold: 0.05}
objectives:
  bowl: {class: quadratic_2d, steps: 6}
optimizers:
  a: {class: Plain}
  b: {class: Plain, hyperparameters: {lr: 0.2}}
"""
PLAIN = """
import torch
class Plain(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
"""
LOSS = Loss(mean=0.5, start=2.0, ok=2, diverged=0, failed=0, bits="as ever")
CELL = Cell(loss=LOSS, counted_steps=5, operators=100, calls=50, state_bytes=64)
DIVERGED = Loss(mean=0.5, start=2.0, ok=1, diverged=1, failed=0, bits="one")


def lost(**fields: object) -> Cell:
    return CELL.model_copy(update={"loss": LOSS.model_copy(update={"bits": "other", **fields})})


@dataclass
class Planned:
    """What a side will turn out to do.

    Attributes:
        cells: By optimizer, where it isn't ``CELL``.
        ratios: By optimizer, the time by process, where it isn't 1; the last one goes on.
        controls: The reference loop's ratio to itself by process, likewise.
        shares: The part of a processor that each process gets, likewise.
        missing: By device, why it isn't there.
        failure_reasons: By optimizer, why its trials failed.
        breaks: By process, the optimizers that can't be measured by it.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    ratios: dict[str, Sequence[float]] = field(default_factory=dict)
    controls: Sequence[float] = (1.0,)
    shares: Sequence[float] = (1.0,)
    missing: dict[str, str] = field(default_factory=dict)
    failure_reasons: dict[str, str] = field(default_factory=dict)
    breaks: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def measured_ratios(self, side: MeasuredRevision, number: int) -> MeasuredRatios:
        """What a process measures."""
        broken = self.breaks.get(number, ())
        timed = side.timed
        return MeasuredRatios(
            {
                c.key: pairs(at(self.ratios.get(c.optimizer, (1.0,)), number))
                for c in timed
                if c.optimizer not in broken
            },
            (at(self.controls, number),),
            {c.key: "RuntimeError: boom" for c in timed if c.optimizer in broken},
            at(self.shares, number),
        )


def at(values: Sequence[float], number: int) -> float:
    return values[min(number, len(values) - 1)]


def pairs(ratio: float) -> BlockPairs:
    return BlockPairs("cpu", 2, 2, (ratio * 1e-4,) * 20, (1e-4,) * 20, ratio)


@dataclass
class World:
    """A suite, its sides as they will turn out, and how many processes measured them."""

    folder: Path
    now: Planned = field(default_factory=Planned)
    before: Planned = field(default_factory=Planned)
    processes: int = 0
    _sides: list[MeasuredRevision] = field(default_factory=list)

    def opened(
        self,
        loaded: LoadedSpec,
        plan: Plan,
        path: Path,
        progress: Progress,
        *,
        workers: int | None = None,
        search: Sequence[Path] = (),
    ) -> MeasuredRevision:
        """Stands in for running trials and counting."""
        del path, progress, workers
        planned = self.before if self._sides else self.now
        side = MeasuredRevision(loaded, plan, tuple(search), planned.missing, {"bowl": 1}, {})
        for case in side.cases:
            side.cells[case.id] = planned.cells.get(case.optimizer, CELL)
            if case.optimizer in planned.failure_reasons:
                side.failure_reasons[case.id] = planned.failure_reasons[case.optimizer]
        self._sides.append(side)
        return side

    def measure(
        self,
        measured: Sequence[MeasuredRevision],
        number: int,
        progress: Progress,
        started: object = (),
    ) -> None:
        """Stands in for processes that measure."""
        del progress, started
        self.processes += 1
        for side, planned in zip(measured, (self.now, self.before), strict=False):
            found = planned.measured_ratios(side, number)
            side.ratios.append(found)
            names = {case.key: case.id for case in side.cases}
            side.failure_reasons |= {names[key]: why for key, why in found.failures.items()}

    def call(self, *arguments: str) -> Result:
        """``python -m harness check spec.yaml ...``."""
        self.processes, self._sides = 0, []
        result = CliRunner().invoke(main, ["check", "spec.yaml", "--quiet", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.output
        return result

    def update(self, *arguments: str) -> Result:
        """Write the baseline."""
        return self.call("--baseline", "base.json", "--update", "--processes", "3", *arguments)

    def check(self, *arguments: str, exits: int) -> GateReport:
        """Compare with the baseline; what was found."""
        result = self.call("--baseline", "base.json", *arguments)
        assert result.exit_code == exits, result.output
        assert f"Exit status {exits}:" in result.stdout
        return self.found()

    def complaint(self, *arguments: str, exits: int = 2) -> str:
        """What a command that must refuse says; nothing may be written."""
        before = tree(self.folder)
        result = self.call(*arguments)
        assert result.exit_code == exits, result.output
        assert result.stdout == ""
        assert tree(self.folder) == before
        return result.stderr.rstrip("\n")

    def found(self) -> GateReport:
        """What the latest check wrote down."""
        text = (self.folder / "reports" / "made-up" / "check" / "check.json").read_bytes()
        return verdicts.from_json(text)

    def edit(self, old: str, new: str, name: str = "spec.yaml") -> None:
        """Change a file of the suite."""
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new))

    def edit_baseline(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the baseline by hand."""
        path = self.folder / "base.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))


def outcomes(report: GateReport, optimizer: str = "a") -> dict[Metric, Outcome]:
    """What came of each metric of an optimizer's cell, where it isn't fine."""
    (cell,) = (cell for cell in report.cells if cell.optimizer == optimizer)
    assert [j.metric for j in cell.judgements] == list(METRICS)
    return {j.metric: j.outcome for j in cell.judgements if j.outcome != "fine"}


def why(report: GateReport, metric: Metric, optimizer: str = "a") -> str:
    (cell,) = (cell for cell in report.cells if cell.optimizer == optimizer)
    judged = cell.of(metric)
    assert judged is not None
    return judged.why


def all_of(outcome: Outcome) -> dict[Metric, Outcome]:
    return dict.fromkeys(METRICS, outcome)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A suite with a baseline."""
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "plain.py").write_text(PLAIN)
    (tmp_path / "spec.yaml").write_text(MADE_UP)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GITHUB_")]:
        monkeypatch.delenv(name)
    world = World(tmp_path)
    monkeypatch.setattr(measure_revision, "opened", world.opened)
    monkeypatch.setattr(measure_revision, "measure", world.measure)
    monkeypatch.setattr(measure_revision, "waiting", lambda *_: contextlib.nullcontext())
    handler = signal.getsignal(signal.SIGTERM)
    assert world.update().exit_code == 0
    yield world
    signal.signal(signal.SIGTERM, handler)


def test_what_has_not_changed_is_fine(world: World) -> None:
    report = world.check(exits=0)
    assert outcomes(report) == outcomes(report, "b") == {}
    assert why(report, "loss") == "bit-identical"
    assert world.processes == 1
    assert report.against == "base.json"
    assert [cell.place for cell in report.cells] == ["spec.yaml:8:3", "spec.yaml:9:3"]


def counting(**fields: object) -> Planned:
    return Planned({"a": CELL.model_copy(update=fields)})


EXITS: list[tuple[str, Planned, int, dict[Metric, Outcome]]] = [
    ("slower", Planned(ratios={"a": (1.6,)}), 1, {"time": "regressed"}),
    ("faster", Planned(ratios={"a": (0.6,)}), 0, {"time": "better"}),
    ("worse", Planned({"a": lost(mean=0.51)}), 1, {"loss": "regressed"}),
    ("rounded", Planned({"a": lost(mean=0.5 + 1e-8)}), 0, {}),
    ("lower", Planned({"a": lost(mean=0.49)}), 0, {"loss": "better"}),
    ("diverged", Planned({"a": lost(ok=1, diverged=1)}), 1, {"loss": "regressed"}),
    ("all diverged", Planned({"a": lost(mean=None, ok=0, diverged=2)}), 1, {"loss": "regressed"}),
    ("one more operator", counting(operators=101), 1, {"operators": "regressed"}),
    ("one call fewer", counting(calls=49), 0, {"calls": "better"}),
    ("more state", counting(state_bytes=65), 1, {"state": "regressed"}),
    (
        "failed trials",
        Planned(
            {"a": Cell(loss=LOSS.model_copy(update={"ok": 1, "failed": 1}))},
            failure_reasons={"a": "no"},
        ),
        4,
        all_of("failed"),
    ),
    (
        "no counts",
        Planned({"a": Cell(loss=LOSS)}, failure_reasons={"a": "its steps exit"}),
        4,
        {"time": "failed", "operators": "failed", "calls": "failed", "state": "failed"},
    ),
    ("no time", Planned(breaks={0: ("a",)}), 4, {"time": "failed"}),
    ("a busy machine", Planned(ratios={"a": (1.6,)}, controls=(1.1,)), 3, {"time": "inconclusive"}),
]


@pytest.mark.parametrize(
    ("planned", "exits", "expected"), [e[1:] for e in EXITS], ids=[e[0] for e in EXITS]
)
def test_what_changed_is_said_and_decides_the_exit_status(
    world: World, planned: Planned, exits: int, expected: dict[Metric, Outcome]
) -> None:
    world.now = planned
    report = world.check(exits=exits)
    assert outcomes(report) == expected
    everywhere = "inconclusive" in expected.values()
    assert outcomes(report, "b") == ({"time": "inconclusive"} if everywhere else {})
    if "failed" in expected.values():
        reason = next(
            iter(planned.failure_reasons.values()), "could not be measured: RuntimeError: boom"
        )
        reason = reason.removeprefix("could not be measured: ")
        assert why(report, "time").endswith(reason)


@pytest.mark.parametrize(
    ("planned", "exits"),
    [
        (Planned(ratios={"a": (1.6,)}, breaks={0: ("b",)}), 1),
        (Planned({"a": lost(mean=1.0)}, controls=(1.1,)), 1),
        (Planned(breaks={0: ("b",)}, controls=(1.1,)), 4),
    ],
    ids=["regressed and failed", "regressed and inconclusive", "failed and inconclusive"],
)
def test_the_gravest_decides(world: World, planned: Planned, exits: int) -> None:
    world.now = planned
    world.check(exits=exits)


def test_a_metric_can_be_made_to_warn_only(world: World) -> None:
    cell = lost(mean=1.0).model_copy(update={"operators": 101, "calls": 51})
    world.now = Planned({"a": cell}, ratios={"a": (1.6,)})
    regressed: list[Metric] = ["time", "loss", "operators", "calls"]
    warn = [word for metric in regressed for word in ("--warn", metric)]
    report = world.check(*warn, exits=0)
    assert outcomes(report) == dict.fromkeys(regressed, "regressed")
    assert [cell.exit_status for cell in report.cells] == [0, 0]
    assert "1 with warnings, 1 fine" in world.call("--baseline", "base.json", *warn).stdout
    for metric in regressed:
        others = [word for name in regressed if name != metric for word in ("--warn", name)]
        world.check(*others, exits=1)


def test_a_cell_has_the_limits_that_the_spec_gives_it(world: World) -> None:
    world.edit("0.05}", "0.05, cells: [{optimizer: a, threshold: 2, loss_tolerance: 0.1}]}")
    world.now = Planned({"a": lost(mean=0.54), "b": lost(mean=0.54)}, {"a": (1.6,), "b": (1.6,)})
    report = world.check(exits=1)
    assert outcomes(report) == {}
    assert outcomes(report, "b") == {"time": "regressed", "loss": "regressed"}


# What the two sides were made with.


def test_on_another_machine_times_are_not_compared_but_losses_and_counts_are(world: World) -> None:
    world.edit_baseline(lambda data: data["machine"].update(cpu="Z80"))
    world.now = Planned({"b": lost(mean=0.5 + 1e-5)})  # rounds otherwise
    report = world.check(exits=3)
    assert outcomes(report) == outcomes(report, "b") == {"time": "not comparable"}
    assert report.differs[0].startswith("cpu: Z80 then, ")
    assert why(report, "time") == report.differs[0]
    assert world.processes == 1
    world.check("--warn", "time", exits=0)
    world.now = Planned({"b": lost(mean=0.6)})
    assert outcomes(world.check(exits=1), "b") == {"time": "not comparable", "loss": "regressed"}


@pytest.mark.parametrize("name", ["python", "torch"])
def test_counts_of_another_python_or_torch_are_not_compared(world: World, name: str) -> None:
    world.edit_baseline(lambda data: data["machine"].update({name: "CPython 2.7.18"}))
    report = world.check(exits=3)
    both = dict.fromkeys(METRICS, "not comparable")
    assert outcomes(report) == {m: o for m, o in both.items() if m != "loss"}
    assert why(report, "calls").startswith(f"{name}: CPython 2.7")


def test_a_patch_of_python_changes_no_counts(world: World) -> None:
    def patched(data: dict[str, Any]) -> None:
        data["machine"]["python"] += "7"

    world.edit_baseline(patched)
    assert outcomes(world.check(exits=3)) == {"time": "not comparable"}


def test_losses_of_other_seeds_are_not_compared(world: World) -> None:
    report = world.check("--seeds", "3", exits=3)
    assert outcomes(report) == {"loss": "not comparable"}
    assert why(report, "loss") == "seeds 0-1 then, 0-2 now"


def test_times_measured_otherwise_are_not_compared(world: World) -> None:
    world.edit("block_steps: 2", "block_steps: 3")
    report = world.check(exits=3)
    assert outcomes(report) == {"time": "not comparable"}
    assert why(report, "time").startswith("protocol: ")


def test_a_baseline_of_another_suite_is_told_of(world: World) -> None:
    world.edit_baseline(lambda data: data.update(suite="elsewhere"))
    report = world.check(exits=0)
    assert report.differs == ("suite: elsewhere then, made-up now",)
    assert report.differs[0] in world.call("--baseline", "base.json").stdout


# Cells that only one side has.


def test_a_cell_that_the_baseline_lacks_is_missing_unless_new_ones_are_allowed(
    world: World,
) -> None:
    world.edit_baseline(lambda data: data["cells"].pop("bowl/b/cpu"))
    world.now = Planned({"a": lost(mean=0.4)})
    report = world.check(exits=4)
    assert outcomes(report, "b") == all_of("missing")
    assert why(report, "loss", "b") == "only this side has the cell; --update adds it"
    assert outcomes(report) == {"loss": "better"}
    report = world.check("--allow-new", exits=0)
    assert outcomes(report, "b") == all_of("missing")
    world.check("--only", "optimizer=a", exits=0)
    world.now = Planned({"a": lost(mean=0.6)})
    world.check("--allow-new", exits=1)


def test_a_new_cell_that_fails_does_not_pass_for_being_new(world: World) -> None:
    world.edit_baseline(lambda data: data["cells"].pop("bowl/b/cpu"))
    failed = Cell(loss=LOSS.model_copy(update={"mean": None, "ok": 0, "failed": 2}))
    world.now = Planned({"b": failed}, failure_reasons={"b": "2 of 2 trials failed: boom"})
    world.check("--allow-new", exits=4)


def test_a_cell_that_the_spec_lost_is_missing_where_it_is_asked_for(world: World) -> None:
    world.edit("  b: {class: Plain, hyperparameters: {lr: 0.2}}\n", "")
    for arguments in ((), ("--allow-new",), ("--only", "objective=bowl")):
        report = world.check(*arguments, exits=4)
        assert outcomes(report, "b") == all_of("missing")
        assert why(report, "time", "b") == "only the other side has the cell"
        assert report.cells[-1].place == "spec.yaml:7:1"
        assert outcomes(report) == {}
    for more in ((), ("--devices", "cpu")):
        report = world.check("--only", "optimizer=a", *more, exits=0)
        assert [cell.optimizer for cell in report.cells] == ["a"]


def test_what_is_filtered_out_is_not_missing(world: World) -> None:
    world.edit("devices: [cpu]", "devices: [cpu, cuda]")
    assert world.update().exit_code == 0
    for arguments in (("--only", "device=cpu"), ("--devices", "cpu")):
        report = world.check(*arguments, exits=0)
        assert [cell.id for cell in report.cells] == ["bowl/a/cpu", "bowl/b/cpu"]
    assert len(world.check("--only", "optimizer=b", exits=0).cells) == 2


def test_a_device_that_is_on_neither_side_is_noted(world: World) -> None:
    world.edit("devices: [cpu]", "devices: [cpu, cuda]")
    world.now = Planned(missing={"cuda": "no CUDA device here"})
    note = "note: no CUDA device here; its cells are left out\n"
    assert world.update().stdout == f"2 cells written to base.json.\n{note}"
    report = world.check(exits=0)
    gone = [cell for cell in report.cells if cell.device == "cuda"]
    assert [cell.id for cell in gone] == ["bowl/a/cuda", "bowl/b/cuda"]
    assert {j.outcome for cell in gone for j in cell.judgements} == {"not comparable"}
    assert gone[0].judgements[0].why == "on neither side: no CUDA device here"
    text = world.call("--baseline", "base.json").stdout
    assert "no CUDA device here" in text
    assert "Exit status 0: nothing is worse than it was, with warnings." in text


def test_a_device_that_is_gone_is_missing(world: World) -> None:
    world.edit("devices: [cpu]", "devices: [cpu, cuda]")
    assert world.update().exit_code == 0
    world.now = Planned(missing={"cuda": "no CUDA device here"})
    report = world.check(exits=4)
    for cell in report.cells:
        if cell.device == "cuda":
            said = {(j.outcome, j.why) for j in cell.judgements}
            reason = "only the other side has the cell: no CUDA device here"
            assert said == {("missing", reason)}
        else:
            assert cell.exit_status == 0


# Two more processes where the first leaves a doubt.


@pytest.mark.parametrize(
    ("ratios", "processes", "exits", "expected"),
    [
        ((1.02,), 1, 0, "fine"),
        ((0.98,), 1, 0, "fine"),
        ((1.06, 1.0, 1.0), 3, 0, "fine"),
        ((1.03, 1.0, 1.06), 3, 0, "fine"),
        ((1.06, 1.06, 1.0), 3, 1, "regressed"),
        ((1.03, 1.06, 1.06), 3, 1, "regressed"),
        ((0.94, 0.94, 0.94), 3, 0, "better"),
        ((0.94, 1.0, 0.98), 3, 0, "fine"),
    ],
)
@pytest.mark.parametrize("paired", [False, True], ids=["baseline", "revision"])
def test_the_median_of_three_processes_decides_where_one_leaves_a_doubt(
    world: World,
    ratios: tuple[float, ...],
    processes: int,
    exits: int,
    expected: Outcome,
    paired: bool,
) -> None:
    world.now = Planned(ratios={"a": ratios})
    if paired:
        # Both sides' processes are as much faster or slower: their ratio is what counts.
        drift = (1.3, 0.9, 1.1)
        world.before = Planned(ratios={"a": drift, "b": drift})
        own = tuple(at(ratios, i) * factor for i, factor in enumerate(drift))
        world.now = Planned(ratios={"a": own, "b": drift})
        commit(world.folder)
    result = world.call(*(("--base", "HEAD") if paired else ("--baseline", "base.json")))
    assert result.exit_code == exits, result.output
    assert world.processes == processes
    report = world.found()
    assert outcomes(report) == ({} if expected == "fine" else {"time": expected})
    assert outcomes(report, "b") == {}
    blocks = report.cells[0].blocks
    assert len(blocks) == processes * (2 if paired else 1)
    assert {b.process for b in blocks} == set(range(processes))
    judged = report.cells[0].of("time")
    assert judged is not None
    assert judged.change is not None
    assert judged.change == pytest.approx(sorted(ratios)[len(ratios) // 2] - 1, abs=1e-4)


@pytest.mark.parametrize(
    ("shares", "ratio", "exits", "expected"),
    [
        ((0.24,), 1.6, 3, {"time": "inconclusive"}),
        ((0.24,), 0.4, 3, {"time": "inconclusive"}),
        ((0.24,), 1.04, 0, {}),
        ((0.24, 0.24, 0.25), 1.6, 3, {"time": "inconclusive"}),
        ((0.24, 0.25, 0.25), 1.6, 1, {"time": "regressed"}),
    ],
)
def test_a_change_is_not_believed_of_processes_that_got_too_little_of_a_processor(
    world: World, shares: tuple[float, ...], ratio: float, exits: int, expected: dict[str, str]
) -> None:
    world.now = Planned(ratios={"a": (ratio,)}, shares=shares)
    report = world.check(exits=exits)
    assert outcomes(report) == expected
    assert outcomes(report, "b") == {}
    assert report.shares == tuple(at(shares, number) for number in range(world.processes))


@pytest.mark.parametrize(
    ("controls", "processes", "exits"),
    [((1.02,), 1, 0), ((1.03, 1.0), 3, 0), ((0.97, 1.0, 1.03), 3, 3), ((0.9,), 3, 3)],
)
def test_a_reference_loop_that_strays_from_itself_leaves_times_undecided(
    world: World, controls: tuple[float, ...], processes: int, exits: int
) -> None:
    world.now = Planned(controls=controls)
    report = world.check(exits=exits)
    assert world.processes == processes
    assert len(report.controls) == processes
    expected = {"time": "inconclusive"} if exits else {}
    assert outcomes(report) == outcomes(report, "b") == expected


def test_a_cell_that_fails_when_it_is_measured_again_has_failed(world: World) -> None:
    world.now = Planned(ratios={"b": (1.03, 1.0)}, breaks={1: ("a",)})
    report = world.check(exits=4)
    assert outcomes(report) == {"time": "failed"}


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("side", ["now", "before"])
def test_beside_a_revision_too(world: World, number: int, side: str) -> None:
    commit(world.folder)
    world.now = Planned(ratios={"b": (1.03, 1.0)})
    getattr(world, side).breaks[number] = ("a",)
    assert world.call("--base", "HEAD").exit_code == 4
    report = world.found()
    assert outcomes(report) == {"time": "failed" if side == "now" else "missing"}
    assert outcomes(report, "b") == {}


# Trials that diverged before.


def test_what_diverges_never_passes_and_an_update_says_so(world: World) -> None:
    world.now = Planned({"a": CELL.model_copy(update={"loss": DIVERGED})})
    written = world.update()
    assert written.exit_code == 0
    assert "note: bowl/a/cpu: a trial diverged, so its loss can never pass" in written.output
    assert outcomes(world.check(exits=1)) == {"loss": "regressed"}
    assert outcomes(world.check("--warn", "loss", exits=0)) == {"loss": "regressed"}


def test_a_trial_that_no_longer_diverges_is_no_regression(world: World) -> None:
    world.now = Planned({"a": CELL.model_copy(update={"loss": DIVERGED})})
    assert world.update().exit_code == 0
    world.now = Planned({"a": lost(mean=0.6)})
    assert outcomes(world.check(exits=0)) == {"loss": "better"}


# A baseline is written.


def test_a_baseline_is_from_three_processes_at_least_and_the_same_but_for_times(
    world: World,
) -> None:
    path = world.folder / "base.json"
    first = baselines.read(path)
    assert first.suite == "made-up"
    assert {len(cell.times) for cell in first.cells.values()} == {3}
    world.now = Planned(ratios={"a": (1.1, 1.2, 1.3, 1.4, 1.5)})
    assert world.update().exit_code == 0
    assert world.processes == 3
    second = baselines.read(path)
    assert second.cells["bowl/a/cpu"].times == (1.1, 1.2, 1.3)
    timeless = {"times": ()}
    assert {n: c.model_copy(update=timeless) for n, c in second.cells.items()} == {
        n: c.model_copy(update=timeless) for n, c in first.cells.items()
    }
    lines = [text.splitlines() for text in (path.read_text(), json_of(first))]
    differ = [a for a, b in zip(*lines, strict=True) if a != b]
    assert differ == ['   "times": [ 1.1, 1.2, 1.3 ]']
    result = world.call("--baseline", "new/folder/base.json", "--update")
    assert result.stdout == "2 cells written to new/folder/base.json.\n"
    assert world.processes == 5
    assert list((world.folder / "new" / "folder").iterdir()) == [
        world.folder / "new" / "folder" / "base.json"
    ]
    assert "3<=x<=100" in world.complaint("--baseline", "base.json", "--update", "--processes", "2")


def json_of(baseline: baselines.Baseline) -> str:
    """A baseline as it is written."""
    with tempfile.TemporaryDirectory() as folder:
        baselines.write(baseline, Path(folder) / "b.json")
        return (Path(folder) / "b.json").read_text()


@pytest.mark.parametrize(
    ("planned", "exits", "said"),
    [
        (
            Planned(failure_reasons={"a": "1 of 2 trials failed: boom"}),
            4,
            "base.json: bowl/a/cpu: not written: 1 of 2 trials failed: boom",
        ),
        (
            Planned(breaks={2: ("b",)}, controls=(0.9,)),
            4,
            "base.json: bowl/b/cpu: not written: RuntimeError: boom",
        ),
        (
            Planned(controls=(1.0, 1.03, 0.9)),
            3,
            "base.json: not written, the machine is busy: the reference loop took "
            "1.000, 1.030, 0.900 times as long as itself, with 100%, 100%, 100% of a processor",
        ),
        (
            Planned(shares=(0.9, 0.2, 0.1)),
            3,
            "base.json: not written, the machine is busy: the reference loop took "
            "1.000, 1.000, 1.000 times as long as itself, with 90%, 20%, 10% of a processor",
        ),
    ],
    ids=["trials", "times", "strays", "starves"],
)
def test_a_baseline_is_not_written_where_something_can_not_be_measured(
    world: World, planned: Planned, exits: int, said: str
) -> None:
    world.now = planned
    arguments = ("--baseline", "base.json", "--update", "--processes", "3")
    assert world.complaint(*arguments, exits=exits) == said


def test_a_baseline_that_can_not_be_written_is_bad_input(world: World) -> None:
    assert "spec.yaml/b.json: can't be written: " in world.complaint(
        "--baseline", "spec.yaml/b.json", "--update"
    )


def test_an_update_of_some_cells_leaves_the_others_in_the_baseline(world: World) -> None:
    world.update("--only", "optimizer=a")
    assert set(baselines.read(world.folder / "base.json").cells) == {"bowl/a/cpu", "bowl/b/cpu"}


# Bad input.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "expected either --baseline FILE or --base REV"),
        (("--baseline", "base.json", "--base", "HEAD"), "expected either --baseline FILE or"),
        (("--update",), "expected either --baseline FILE or --base REV"),
        (("--base", "HEAD", "--update"), "--update writes a baseline: add --baseline FILE"),
        (("--baseline", "no.json"), "no.json: no such baseline; the same command with --update"),
        (("--baseline", "spec.yaml"), "spec.yaml:1:1: not JSON: expected value"),
        (("--baseline", "optimizers"), "optimizers: can't be read: Is a directory"),
        (("--baseline", "base.json", "--warn", "speed"), "'speed' is not one of"),
        (("--baseline", "base.json", "--only", "optimizer=c"), "'c' matches no optimizer"),
        (("--baseline", "base.json", "--devices", "tpu!"), "--devices: 'tpu!' is not a device"),
        (("--base", "HEAD"), "--base HEAD: fatal: not a git repository"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    world: World, arguments: tuple[str, ...], said: str
) -> None:
    assert said in world.complaint(*arguments)
    assert world.processes == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"harness_baseline": 1', '"harness_baseline": 2', "has format 2, this harness reads 1"),
        ('"harness_baseline": 1,', "", "not a baseline: it has no 'harness_baseline'"),
        ('"operators": 100', '"operators": "many"', "cells.bowl/a/cpu.operators: Input should be"),
        ('"mean": 0.5', '"mean": NaN', "cells.bowl/a/cpu.loss.mean: Input should be a finite"),
        ('"seeds"', '"sedes"', "sedes: Extra inputs are not permitted"),
        ("}", "", "not JSON: "),
    ],
)
def test_a_broken_baseline_is_refused(world: World, old: str, new: str, said: str) -> None:
    world.edit(old, new, "base.json")
    message = world.complaint("--baseline", "base.json")
    assert message.startswith("base.json:")
    assert said in message


def test_all_mistakes_of_a_spec_are_said(world: World) -> None:
    world.edit("threshold: 0.05", "threshold: -1")
    world.edit("a: {class: Plain}", "a: {class: Plane}")
    lines = world.complaint("--baseline", "base.json").splitlines()
    assert lines[0].startswith("spec.yaml:4:48: check.threshold: ")
    assert lines[1].startswith("spec.yaml:8:14: optimizers.a.class: no optimizer 'Plane'")
    assert lines[2] == "2 mistakes."


# Another revision, still without processes.


def commit(folder: Path) -> None:
    """Commit all that there is, in a repository that is made if need be."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "all")


def test_a_revision_that_is_of_no_use_is_named(world: World) -> None:
    (world.folder / "spec.yaml").rename(world.folder / "kept")
    commit(world.folder)
    world.folder.joinpath("spec.yaml").write_text(MADE_UP.replace("seeds: 2", "seeds: none"))
    commit(world.folder)
    world.edit("seeds: none", "seeds: 2")
    world.edit("class: Plain}", "class: Gone}")
    world.folder.joinpath("optimizers", "gone.py").write_text(PLAIN.replace("Plain", "Gone"))
    git(world.folder, "commit", "--quiet", "-am", "names an optimizer that is not committed")
    assert "--base man: no such revision; did you mean 'main'?" in world.complaint("--base", "man")
    assert world.complaint("--base", "main~2") == "--base main~2: spec.yaml is not in it"
    (line,) = world.complaint("--base", "main~1").splitlines()
    assert line.startswith("main~1:spec.yaml:2:8: seeds: ")
    (line,) = world.complaint("--base", "main").splitlines()
    assert line.startswith("main:spec.yaml:8:14: optimizers.a.class: no optimizer 'Gone' in opt")
    assert git(world.folder, "worktree", "list").count("\n") == 1


def test_a_cell_that_the_revision_lacks_is_missing_unless_new_ones_are_allowed(
    world: World,
) -> None:
    commit(world.folder)
    world.edit("  b: {class: Plain, hyperparameters: {lr: 0.2}}\n", "  c: {class: Plain}\n")
    result = world.call("--base", "HEAD")
    assert result.exit_code == 4
    report = world.found()
    assert report.against == "revision HEAD"
    assert [cell.optimizer for cell in report.cells] == ["a", "c", "b"]
    assert outcomes(report) == {}
    assert outcomes(report, "b") == outcomes(report, "c") == all_of("missing")
    assert why(report, "time", "c") == "only this side has the cell"
    assert world.call("--base", "HEAD", "--allow-new").exit_code == 4
    assert world.call("--base", "HEAD", "--allow-new", "--only", "optimizer=a").exit_code == 0
    world.edit("  c: {class: Plain}\n", "  b: {class: Plain, hyperparameters: {lr: 0.2}}\n")
    world.edit("  a: {class: Plain}\n", "  a: {class: Plain}\n  c: {class: Plain}\n")
    assert world.call("--base", "HEAD").exit_code == 4
    assert world.call("--base", "HEAD", "--allow-new").exit_code == 0


def test_a_new_cell_alone_can_be_asked_for(world: World) -> None:
    commit(world.folder)
    world.edit("  a: {class: Plain}\n", "  a: {class: Plain}\n  c: {class: Plain}\n")
    for only in (("--only", "optimizer=c"), ("--only", "optimizer=c", "--only", "optimizer=a")):
        assert world.call("--base", "HEAD", *only).exit_code == 4
        assert world.call("--base", "HEAD", *only, "--allow-new").exit_code == 0


def test_a_revision_is_measured_as_the_spec_says_now(world: World) -> None:
    commit(world.folder)
    world.edit("block_steps: 2", "block_steps: 3")
    assert world.call("--base", "HEAD").exit_code == 0


def test_a_revision_may_have_a_package_that_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(world.folder))
    (world.folder / "thispkg.py").write_text(PLAIN)
    commit(world.folder)
    world.edit("class: Plain}", "class: 'thatpkg:Plain'}")
    (world.folder / "thispkg.py").rename(world.folder / "thatpkg.py")
    commit(world.folder)
    (world.folder / "thatpkg.py").rename(world.folder / "thispkg.py")
    world.edit("thatpkg:", "thispkg:")
    result = world.call("--base", "HEAD")
    assert result.exit_code == 0, result.output


# What is written.


def test_a_check_writes_what_it_found_once(world: World) -> None:
    world.now = Planned(ratios={"a": (1.6,)})
    for _ in range(2):
        world.check(exits=1)
    output = world.folder / "reports" / "made-up"
    names = ["check.json", "junit.xml", "pytest-benchmark.json", "summary.md"]
    assert sorted(path.name for path in (output / "check").iterdir()) == names
    lines = (output / "history.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["cells"][0]["ratio"] == 1.6
    world.check("-o", "elsewhere", exits=1)
    assert sorted(path.name for path in (world.folder / "elsewhere" / "check").iterdir()) == names


def test_github_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.now = Planned(ratios={"a": (1.6,)})
    plain = world.call("--baseline", "base.json").stdout
    assert "::" not in plain
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    summary = world.folder / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = world.call("--baseline", "base.json")
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("::"))
    assert line.startswith("::error file=spec.yaml,line=8,col=3,title=bowl/a/cpu%3A time regressed")
    assert summary.read_text().startswith("before\n## Check of made-up: regressed\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(world.folder))
    result = world.call("--baseline", "base.json")
    assert result.exit_code == 1
    assert result.stderr == f"note: {world.folder} can't be written: Is a directory\n"


OPENED, WAITING = measure_revision.opened, measure_revision.waiting


@pytest.mark.parametrize("update", [False, True])
def test_results_that_can_not_be_written_are_bad_input(
    world: World, monkeypatch: pytest.MonkeyPatch, update: bool
) -> None:
    monkeypatch.setattr(measure_revision, "opened", OPENED)
    monkeypatch.setattr(measure_revision, "waiting", WAITING)
    monkeypatch.setattr(measure_revision, "Pool", InProcess)
    (world.folder / "out").mkdir()
    arguments = ("--baseline", "base.json", *(("--update",) if update else ()))
    with FileLock(world.folder / "out" / ".lock"):
        said = world.complaint(*arguments, "-o", "out")
    assert said == "out: another run is writing here; wait for it, or give another --output"
    assert "can't be written" in world.complaint(*arguments, "-o", "base.json")
    assert "can't be written" in world.complaint(*arguments, "-o", "base.json/out")


@pytest.mark.parametrize("name", ["check", "history.jsonl"])
def test_a_check_that_can_not_be_written_down_is_bad_input(world: World, name: str) -> None:
    (world.folder / "out").mkdir()
    if name == "check":
        (world.folder / "out" / name).touch()
    else:
        (world.folder / "out" / name).mkdir()
    result = world.call("--baseline", "base.json", "-o", "out")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"out/{name}: can't be written: ")


def test_a_process_that_can_not_hand_over_what_it_measured_is_no_regression(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise WorkerFailed(Lost(Task(CollectRatios(), 1.0), "died", "ended by SIGKILL", 0, 1.0))

    monkeypatch.setattr(measure_revision, "measure", fails)
    assert world.complaint("--baseline", "base.json", exits=4) == "error: ended by SIGKILL"


def test_a_package_beside_the_harness_is_the_revisions_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a repository with the harness and a package at its root, both are today's."""
    for version in ("now", "old"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "mypkg.py").write_text(f"print({version!r})")
    told: dict[str, str] = {}

    def popen(*_: object, env: dict[str, str], **__: object) -> None:
        told.update(env)
        raise InterruptedError

    monkeypatch.setattr(
        environment, "__file__", str(tmp_path / "now" / "harness" / "provenance" / "environment.py")
    )
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", popen)
        with pytest.raises(InterruptedError):
            Pool(1, None, [tmp_path / "old"])
    command = [sys.executable, "-P", "-c", "import mypkg"]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=True)
    assert done.stdout == "old\n"


# With processes, as a user has it.

MARK = "HARNESS_TEST_CHECK"

REAL = """\
suite: real
seeds: 2
timing: {enabled: false}
limits: {seconds: 2}
check:
  rounds: 20
  block_steps: 2
  threshold: 0.5
  cells: [{optimizer: clones, threshold: 10}]
objectives:
  bowl: {class: quadratic_2d, steps: 12, dtype: float64}
optimizers:
  same: {class: 'torch.optim:SGD', hyperparameters: {lr: 0.1}}
  slow: {class: Slow}
  clones: {class: Clones}
  worse: {class: Worse}
  diverges: {class: Diverges}
  raises: {class: Raises}
  hangs: {class: Hangs}
  exits: {class: Exits}
  gone: {class: Plain}
"""

SOUND = """
import os, sys, time
import torch

class Plain(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
        self.steps = 0
    @torch.no_grad()
    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"])
                self.more(p)
    def more(self, p):
        pass

class Slow(Plain): pass
class Clones(Plain): pass
class Worse(Plain): pass
class Diverges(Plain): pass
class Raises(Plain): pass
class Hangs(Plain): pass
class Exits(Plain):
    def more(self, p):
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename.endswith("reference_ratio.py"):
                self.timed()
            frame = frame.f_back
    def timed(self):
        pass
"""

FAULTY = (
    SOUND
    + """
class Slow(Plain):
    def more(self, p):
        for _ in range(20_000):
            pass

class Clones(Plain):
    def more(self, p):
        p.clone()

class Worse(Plain):
    def __init__(self, params, lr=0.09):
        super().__init__(params, lr)

class Diverges(Plain):
    def more(self, p):
        if self.steps == 5:
            p.mul_(float("nan"))

class Raises(Plain):
    def more(self, p):
        if self.steps == 5:
            raise RuntimeError("boom")

class Hangs(Plain):
    def more(self, p):
        if self.steps == 5:
            time.sleep(1000)

class Knows(Exits):
    pass

class Exits(Knows):
    def timed(self):
        os._exit(7)
"""
)


@dataclass(frozen=True)
class Done:
    """A check that ended.

    Attributes:
        code: Its exit status.
        out: What it printed.
        err: How it said that it went.
    """

    code: int
    out: str
    err: str

    def report(self, output: Path) -> GateReport:
        """What it found, as it stands in its folder of results."""
        assert f"Exit status {self.code}:" in self.out, self.out + self.err
        assert "Traceback" not in self.out + self.err
        return verdicts.from_json((output / "check" / "check.json").read_bytes())


@dataclass
class Place:
    """Where checks are run: a working folder, a folder for results and one for what passes."""

    folder: Path
    python: str = sys.executable
    search: tuple[Path, ...] = ()
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def output(self) -> Path:
        return self.folder.parent / "out"

    @property
    def temporary(self) -> Path:
        path = self.folder.parent / "temporary"
        path.mkdir(exist_ok=True)
        return path

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start ``python -m harness check ...`` in a process group of its own."""
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("GITHUB_", "GIT_"))}
        search = os.pathsep.join(map(str, (ROOT, *self.search)))
        return subprocess.Popen(
            [self.python, "-m", "harness", "check", *arguments, "-o", str(self.output)],
            cwd=self.folder,
            env={
                **kept,
                "PYTHONPATH": search,
                "TMPDIR": str(self.temporary),
                MARK: self.mark,
                "COLUMNS": "160",
                "PYTHONDONTWRITEBYTECODE": "1",
                **more,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **more: str) -> Done:
        """A check to its end."""
        process = self.start(*arguments, **more)
        try:
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()
        return Done(process.returncode, out, err)

    def left(self) -> list[str]:
        """What lies in the temporary folder and isn't torch's."""
        names = [path.name for path in self.temporary.iterdir()]
        return [name for name in names if not name.startswith("torchinductor_")]

    def processes(self) -> list[int]:
        """Every process of a check that was started here (Linux)."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found

    def all_gone(self) -> bool:
        """Whether no process is left after a while."""
        end = time.monotonic() + 60
        while self.processes() and time.monotonic() < end:
            time.sleep(0.02)
        return not self.processes()

    def cut_short(self, stage: str, how: signal.Signals, *arguments: str) -> Done:
        """Send a check a signal once it has begun a stage; Ctrl-C goes to the whole group."""
        process = self.start(*arguments)
        try:
            said = ""
            assert process.stderr is not None
            while not said.endswith(f"{stage}\n"):
                line = process.stderr.readline()
                assert line, said
                said += line
            if how == signal.SIGINT:
                os.killpg(process.pid, how)
            else:
                process.send_signal(how)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        return Done(process.returncode, out, said + err)


@dataclass(frozen=True)
class Suite:
    """A suite of sound optimizers with a baseline, then of faulty ones; what checks found."""

    place: Place
    written: Done
    fine: Done
    fine_report: GateReport
    faulty: Done
    faulty_report: GateReport


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    folder = tmp_path_factory.mktemp("real") / "suite"
    (folder / "optimizers").mkdir(parents=True)
    (folder / "optimizers" / "made.py").write_text(SOUND)
    (folder / "spec.yaml").write_text(REAL)
    place = Place(folder)
    baseline = ("spec.yaml", "--baseline", "base.json")
    written = place.run(*baseline, "--update", "--processes", "3")
    assert written.code == 0, written.err
    summary = folder / "summary.md"
    fine = place.run(*baseline, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    fine_report = fine.report(place.output)
    shutil.copytree(place.output, folder.parent / "fine")
    (folder / "optimizers" / "made.py").write_text(FAULTY)
    (folder / "spec.yaml").write_text(REAL.replace("gone:", "new:"))
    faulty = place.run(*baseline)
    return Suite(place, written, fine, fine_report, faulty, faulty.report(place.output))


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_code_that_has_not_changed_is_fine(real: Suite) -> None:
    assert real.written.out == "9 cells written to base.json.\n"
    assert real.written.err.count("measuring") == 6
    assert "training: 18 trials" in real.written.err
    assert "training" not in real.fine.err  # what is known is not run again
    assert real.fine.code == 0
    assert "9 cells: " in real.fine.out
    report = real.fine_report
    assert len(report.cells) == 9
    for cell in report.cells:
        found = {j.metric: j.outcome for j in cell.judgements}
        assert found.pop("time") in ("fine", "better")
        assert set(found.values()) == {"fine"}
        assert why(report, "loss", cell.optimizer) == "bit-identical"


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_a_check_writes_can_be_read_by_those_it_is_for(real: Suite) -> None:
    output = real.place.folder.parent / "fine"
    for cell in real.fine_report.cells:
        assert cell.blocks
        for blocks in cell.blocks:
            assert len(blocks.cell) == len(blocks.reference) == 20
            assert blocks.clock == "cpu"
            assert (blocks.steps, blocks.reference_steps) == (2, 2)
    suite = ElementTree.parse(output / "check" / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("45", "0", "0")
    summary = (output / "check" / "summary.md").read_text()
    assert summary == (real.place.folder / "summary.md").read_text()
    assert summary.startswith("## Check of real: passed\n")
    assert not [line for line in real.fine.out.splitlines() if line.startswith(("::err", "::warn"))]
    both = [path / "check" / "pytest-benchmark.json" for path in (output, real.place.output)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", *map(str, both)],
        capture_output=True,
        text=True,
        cwd=real.place.folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "slow" in done.stdout
    assert len((output / "history.jsonl").read_text().splitlines()) == 1


FOUND: dict[str, dict[Metric, Outcome]] = {
    "same": {},
    "slow": {"time": "regressed"},
    "clones": {"operators": "regressed", "calls": "regressed"},
    "worse": {"loss": "regressed"},
    "diverges": {"loss": "regressed", "operators": "regressed", "calls": "regressed"},
    "raises": all_of("failed"),
    "hangs": all_of("failed"),
    "exits": {"time": "failed"},
    "new": all_of("missing"),
    "gone": all_of("missing"),
}


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("optimizer", FOUND)
def test_every_fault_is_found_and_no_other_cell_pays_for_it(real: Suite, optimizer: str) -> None:
    report = real.faulty_report
    found = outcomes(report, optimizer)
    assert real.faulty.code == report.exit_status == 1
    assert len(report.cells) == len(FOUND)
    assert found == FOUND[optimizer]
    reasons = {
        "diverges": ("loss", "2 trials diverged"),
        "raises": ("time", "2 of 2 trials failed: RuntimeError: boom"),
        "hangs": ("time", "2 of 2 trials failed: not finished after 2 s"),
        "exits": ("time", "could not be measured: the process exited with status 7"),
        "slow": ("time", "median of 3 processes"),
        "gone": ("time", "only the other side has the cell"),
    }
    if optimizer in reasons:
        metric, reason = reasons[optimizer]
        assert reason in why(report, metric, optimizer)  # type: ignore[arg-type]
        assert reason in real.faulty.out
    (cell,) = (cell for cell in report.cells if cell.optimizer == optimizer)
    alone = replace(report, cells=(cell,)).exit_status
    values = set(FOUND[optimizer].values())
    assert alone == (1 if "regressed" in values else 4 if values else 0)


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_exact_count_alone_is_a_regression(real: Suite) -> None:
    only = ("--only", "optimizer=clones", "--only", "optimizer=same")
    done = real.place.run("spec.yaml", "--baseline", "base.json", *only)
    assert done.code == 1
    report = done.report(real.place.output)
    assert [cell.optimizer for cell in report.cells] == ["same", "clones"]
    assert outcomes(report, "clones") == FOUND["clones"]
    counts = report.cells[1].of("operators")
    assert counts is not None
    assert counts.now is not None
    assert counts.before is not None
    assert counts.now - counts.before == 11  # one in each step that is counted
    assert "training" not in done.err


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_where_every_cell_fails_that_is_what_is_said(real: Suite) -> None:
    done = real.place.run("spec.yaml", "--baseline", "base.json", "--only", "optimizer=raises")
    assert done.code == 4
    assert outcomes(done.report(real.place.output), "raises") == all_of("failed")


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform != "linux", reason="workers end with their parent on Linux only")
def test_ctrl_c_ends_a_check_at_once_and_nothing_is_written_down(real: Suite) -> None:
    history = (real.place.output / "history.jsonl").read_bytes()
    spec = real.place.folder / "long.yaml"
    spec.write_text(REAL.replace("rounds: 20", "rounds: 50000").replace("gone:", "new:"))
    only = ("--only", "optimizer=same")
    done = real.place.cut_short(
        "measuring: 50,000 rounds", signal.SIGINT, "long.yaml", "--baseline", "base.json", *only
    )
    assert done.code == 130
    assert done.out == ""
    assert "Traceback" not in done.err
    assert done.err.endswith("the same command continues from there.\n")
    assert real.place.all_gone()
    assert real.place.left() == []
    assert (real.place.output / "history.jsonl").read_bytes() == history


# With processes, beside another revision.

BASE = """\
suite: based
seeds: 2
timing: {enabled: false}
limits: {seconds: 20}
check: {rounds: 20, block_steps: 2, threshold: 10}
objectives:
  bowl: {class: quadratic_2d, steps: 12, dtype: float64}
optimizers:
  same: {class: 'torch.optim:SGD', hyperparameters: {lr: 0.1}}
  own: {class: Own}
  packaged: {class: 'mypkg.opt:Packaged'}
"""
OWN = SOUND + "\nclass Own(Plain):\n    pass\n"
PACKAGED = SOUND + "\nclass Packaged(Plain):\n    pass\n"
SLOWER = "    def __init__(self, params, lr=0.09):\n        super().__init__(params, lr)\n"


@dataclass
class Repository:
    """A repository whose work tree has changes that are in no commit."""

    root: Path
    place: Place

    def state(self) -> tuple[str, str, dict[str, bytes]]:
        """All that a check must leave as it was, but what git only remembers to be quick."""
        listed = git(self.root, "worktree", "list", "--porcelain")
        return listed, git(self.root, "status", "--porcelain"), tree(self.root)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    root = tmp_path_factory.mktemp("base") / "repository"
    for name in ("suite/optimizers", "src/mypkg"):
        (root / name).mkdir(parents=True)
    (root / "suite" / "spec.yaml").write_text(BASE)
    (root / "suite" / "long.yaml").write_text(BASE.replace("rounds: 20", "rounds: 50000"))
    (root / "suite" / "optimizers" / "own.py").write_text(OWN)
    (root / "src" / "mypkg" / "__init__.py").touch()
    (root / "src" / "mypkg" / "opt.py").write_text(PACKAGED)
    commit(root)
    own = OWN.replace("class Own(Plain):\n    pass", "class Own(Clones):\n    pass")
    (root / "suite" / "optimizers" / "own.py").write_text(
        own.replace(
            "class Clones(Plain): pass",
            "class Clones(Plain):\n    def more(self, p):\n        p.clone()\n",
        )
    )
    (root / "src" / "mypkg" / "opt.py").write_text(PACKAGED.removesuffix("    pass\n") + SLOWER)
    newcomer = "  newcomer: {class: Plain}\n"
    (root / "suite" / "spec.yaml").write_text(BASE + newcomer)
    return Repository(root, Place(root, search=(root / "src",)))


@pytest.fixture(scope="module")
def based(repository: Repository) -> tuple[Done, Done, GateReport]:
    """A check that is killed half-way, and the same once more."""
    before = repository.state()
    arguments = ("suite/spec.yaml", "--base", "HEAD")
    killed = repository.place.cut_short("counting: 4 cells", signal.SIGKILL, *arguments)
    assert repository.place.all_gone()
    # A killed process can't tidy up: the revision's files are left, and the log of prints.
    left = [name for name in repository.place.left() if not name.endswith(".log")]
    assert [name.startswith("harness-base-") for name in left] == [True]
    shutil.rmtree(repository.place.temporary)
    assert repository.state() == before
    done = repository.place.run(*arguments)
    assert repository.state() == before
    assert repository.place.left() == []
    return killed, done, done.report(repository.place.output)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform != "linux", reason="workers end with their parent on Linux only")
def test_a_killed_check_keeps_the_trials_it_ran(based: tuple[Done, Done, GateReport]) -> None:
    killed, done, _ = based
    assert killed.code == -signal.SIGKILL
    assert "training: 8 trials" in killed.err
    # The other side's, of which nothing is kept.
    assert [x for x in done.err.splitlines() if "training: 6 t" in x or "training: 8 t" in x] == [
        "training: 6 trials"
    ]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_revision_runs_its_own_code_and_the_work_tree_what_is_in_it(
    based: tuple[Done, Done, GateReport],
) -> None:
    _, done, report = based
    assert done.code == 1
    assert report.against == "revision HEAD"
    assert report.git.endswith("+ changes")
    assert outcomes(report, "same") == {}
    assert why(report, "loss", "same") == "bit-identical"
    assert outcomes(report, "own") == {"operators": "regressed", "calls": "regressed"}
    assert outcomes(report, "packaged") == {"loss": "regressed"}
    assert outcomes(report, "newcomer") == all_of("missing")
    (own,) = (cell for cell in report.cells if cell.optimizer == "own")
    judged = own.of("operators")
    assert judged is not None
    assert judged.now is not None
    assert judged.before == judged.now - 11
    assert {(b.process, b.side) for b in own.blocks} == {(0, "now"), (0, "before")}


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_package_installed_for_editing_is_the_revisions(
    repository: Repository, tmp_path: Path
) -> None:
    """With an environment of its own, in which a path file leads into the repository."""
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    (here,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    theirs = [path for path in sys.path if "site-packages" in path]
    (here / "editable.pth").write_text("\n".join([*theirs, str(repository.root / "src")]) + "\n")
    (tmp_path / "folder").mkdir()
    place = Place(tmp_path / "folder", str(python))
    before = repository.state()
    done = place.run(
        *(str(repository.root / "suite" / "spec.yaml"), "--base", "HEAD", "--warn", "loss"),
        *("--only", "optimizer=*e*"),
    )
    assert done.code == 4, done.err[-6000:]
    report = done.report(place.output)
    assert [cell.optimizer for cell in report.cells] == ["same", "packaged", "newcomer"]
    assert outcomes(report, "packaged") == {"loss": "regressed"}
    assert outcomes(report, "newcomer") == all_of("missing")
    assert repository.state() == before


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform != "linux", reason="workers end with their parent on Linux only")
@pytest.mark.exhaustive
def test_a_check_that_is_told_to_end_leaves_nothing_of_the_revision(
    repository: Repository,
) -> None:
    before = repository.state()
    done = repository.place.cut_short(
        *("measuring: 50,000 rounds", signal.SIGTERM, "suite/long.yaml", "--base", "HEAD"),
        *("--only", "optimizer=same"),
    )
    assert done.code == 130
    assert "Traceback" not in done.out + done.err
    assert repository.place.all_gone()
    assert repository.place.left() == []
    assert repository.state() == before
