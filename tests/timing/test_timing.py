"""The timing pass: what is on its clock, how cases take turns, and what a fault costs.

No test here judges a time; a clock that the tests turn by hand stands in for the real one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_plan

from harness.commands import preview as previewing
from harness.commands import timing_pass
from harness.commands.preview import TimingPreview
from harness.commands.timing_pass import TimingPass
from harness.engine.workload import Workload
from harness.objectives.base import Batch, Objective, Parameters
from harness.plan.model import Case
from harness.progress import NullProgress
from harness.results import StepCounts, Timing, Unavailable
from harness.spec.model import TimingSpec
from harness.spec.validation import load
from harness.timing import timing
from harness.timing.counts import count_steps
from harness.timing.timed_case import TimedCase

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """Time that passes only when somebody says so; also a list of who said it.

    The processor works for us during ``share`` of it.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.worked = 0.0
        self.share = 1.0
        self.log: list[str] = []

    def spend(self, who: str, seconds: float) -> None:
        self.log.append(who)
        self.now += seconds
        self.worked += self.share * seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(time, "process_time", lambda: clock.worked)
    return clock


class Rows(Objective):
    """Data of twelve rows; drawing a start and evaluating the loss take time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.data = (torch.arange(12.0),)

    def init(self, generator: torch.Generator) -> Parameters:
        del generator
        self.clock.spend("init", 100.0)
        return {"x": torch.zeros(())}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        self.clock.spend("loss", 1.0)
        residuals: torch.Tensor = params["x"] - batch[0]
        return residuals.square().mean()


def optimizer_of(clock: Clock, name: str, seconds: float) -> Any:
    class Timed(torch.optim.SGD):
        def __init__(self, params: Any) -> None:
            clock.spend(f"{name} is made", 1000.0)
            super().__init__(params, lr=0.01)
            self.taken = 0

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            first = not self.taken
            self.taken += 1
            clock.spend(name, seconds + 50.0 * first)
            assert closure is not None
            return closure()

    return Timed


def timed_cases(clock: Clock, optimizers: dict[str, float], steps: int = 8) -> list[TimedCase]:
    base = make_plan(load(ROOT / "benchmarks.yaml")).cases[0]
    workload = Workload(
        objective=(objective := Rows(clock)),
        data=objective.data,
        dtype=torch.float32,
        device=torch.device("cpu"),
        steps=steps,
        steps_per_epoch=4,
        batch_size=3,
        record_steps=(0, steps),
        divergence_factor=1000.0,
    )
    assert not workload.writes_rows  # which takes time at the first run alone
    clock.now = clock.worked = 0.0
    clock.log.clear()
    cases = []
    for name, seconds in optimizers.items():
        fields = {**vars(base), "optimizer": name, "hyperparameters": {}, "key": name}
        factory = optimizer_of(clock, name, seconds)
        cases.append(TimedCase(Case(**fields), workload, factory, 0))
    return cases


def spec_of(**fields: float) -> TimingSpec:
    """Six rounds with time enough for all, unless the test says otherwise."""
    known = {"rounds": 6, "warmup_rounds": 2, "block_steps": 3, "seconds": 1e9}
    return TimingSpec.model_validate(known | fields)


def ignore(step: int) -> None:
    del step


def test_the_clock_has_the_steps_and_neither_the_start_nor_the_first_step_nor_set_up(
    clock: Clock,
) -> None:
    timings, failures = timing.time_cases(
        timed_cases(clock, {"a": 2.0, "b": 5.0}), spec_of(), ignore
    )
    assert not failures
    assert [t.case_key for t in timings] == ["a", "b"]
    # Three steps of 2 (or 5) seconds with a loss of 1 each, in every one of the six rounds.
    assert timings[0].seconds.tolist() == [9.0] * 6
    assert timings[1].seconds.tolist() == [18.0] * 6
    assert {(t.steps, t.steps_per_epoch) for t in timings} == {(3, 4)}


def test_a_block_never_crosses_a_restart(clock: Clock) -> None:
    (found,), _ = timing.time_cases(
        timed_cases(clock, {"a": 2.0}, steps=5), spec_of(block_steps=50), ignore
    )
    assert found.steps == 4  # five steps, the first of which is off the clock
    assert found.seconds.tolist() == [12.0] * 6


def test_a_run_of_one_step_is_timed_too(clock: Clock) -> None:
    (found,), _ = timing.time_cases(timed_cases(clock, {"a": 2.0}, steps=1), spec_of(), ignore)
    assert found.seconds.tolist() == [3.0] * 6


def test_cases_take_turns_and_the_first_place_goes_round(clock: Clock) -> None:
    timing.time_cases(
        timed_cases(clock, {"a": 1.0, "b": 1.0, "c": 1.0}, steps=1000), spec_of(), ignore
    )
    steps = [who for who in clock.log if who in "abc"][3:]  # after each one's first step
    steps = steps[: 8 * 3 * 3]  # before what is counted off the clock
    blocks = ["".join(dict.fromkeys(steps[i : i + 3])) for i in range(0, len(steps), 3)]
    assert "".join(blocks) == "abcbcacab" * 2 + "abcbca"


def test_a_case_that_raises_is_left_out_and_the_others_are_timed_on(clock: Clock) -> None:
    cases = timed_cases(clock, {"a": 2.0, "b": 5.0})
    taken: list[int] = []

    class Breaks(torch.optim.SGD):
        def __init__(self, params: Any) -> None:
            super().__init__(params, lr=0.1)

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            assert closure is not None
            taken.append(1)
            if len(taken) > 10:
                raise ArithmeticError("no more")
            return closure()

    broken = TimedCase(cases[0].case, cases[0].workload, Breaks, 0)
    timings, failures = timing.time_cases([broken, cases[1]], spec_of(), ignore)
    assert [t.case_key for t in timings] == ["b"]
    assert timings[0].seconds.tolist() == [18.0] * 6
    assert failures == {"a": "ArithmeticError: no more"}


def test_garbage_is_not_collected_on_the_clock_and_is_again_afterwards(clock: Clock) -> None:
    seen: list[bool] = []
    cases = timed_cases(clock, {"a": 1.0})
    spend = clock.spend

    def watching(who: str, seconds: float) -> None:
        if who == "a":
            seen.append(gc.isenabled())
        spend(who, seconds)

    clock.spend = watching  # type: ignore[method-assign]
    timing.time_cases(cases, spec_of(seconds=1.0), ignore)  # nothing is counted afterwards
    assert len(seen) > 9
    assert not any(seen[1:])
    assert gc.isenabled()


def test_whoever_hangs_can_be_told_by_the_number_of_the_block(clock: Clock) -> None:
    told: list[int] = []
    cases = timed_cases(clock, {"a": 1.0, "b": 1.0, "c": 1.0}, steps=1000)
    clock.log.clear()
    timing.time_cases(cases, spec_of(rounds=3, warmup_rounds=1), told.append)
    order = "abc" + "abcbcacababc" + "abc"  # made ready, timed, counted
    assert ["abc"[(number - 1) % 3] for number in told] == list(order)


def test_epoch_seconds_are_the_block_scaled_to_an_epoch() -> None:
    found = Timing("k", 50, 150, np.array([0.5]), np.array([0.5]))
    assert (found.seconds / found.steps * found.steps_per_epoch).tolist() == [1.5]


def test_processor_seconds_are_of_the_same_blocks(clock: Clock) -> None:
    clock.share = 0.25
    (found,), _ = timing.time_cases(timed_cases(clock, {"a": 2.0}), spec_of(), ignore)
    assert found.seconds.tolist() == [9.0] * 6
    assert found.cpu_seconds.tolist() == [2.25] * 6


# A case whose step takes 30 seconds (and its loss one) is ready after 1181, a block of three
# steps takes 93, and to count it is expected to take 3 * 21 * 31 = 1953.
READY, BLOCK, COUNTING = 100 + 1000 + 30 + 50 + 1, 3 * (30 + 1), 3 * 21 * 31


def bounded(clock: Clock, **fields: float) -> tuple[Timing, int]:
    """The slow case's timing, and how many blocks it took before anything was counted."""
    cases = timed_cases(clock, {"slow": 30.0}, steps=10_000)
    (found,), _ = timing.time_cases(cases, spec_of(rounds=1000, **fields), ignore)
    counted = (20 + 1) * 2 if found.counts else 0
    return found, (clock.log.count("slow") - 1 - counted) // 3


def test_no_round_begins_once_the_time_is_used_and_set_up_is_part_of_it(clock: Clock) -> None:
    found, blocks = bounded(clock, seconds=READY + 8 * BLOCK)
    assert len(found.seconds) == 7  # begun after 1 to 7 blocks; the first of them warmed up
    assert blocks == 8
    assert found.counts is None


def test_three_rounds_count_after_one_to_warm_up_however_slow_they_are(clock: Clock) -> None:
    found, blocks = bounded(clock, seconds=1e-9, warmup_rounds=50)
    assert found.seconds.tolist() == [BLOCK] * 3
    assert blocks == 4


def test_warming_up_ends_when_a_quarter_of_the_time_is_used(clock: Clock) -> None:
    found, blocks = bounded(clock, seconds=4 * (READY + 2 * BLOCK), warmup_rounds=50)
    assert blocks - len(found.seconds) == 2


def test_time_to_count_is_set_aside_where_it_is_no_more_than_a_quarter(clock: Clock) -> None:
    seconds = 4 * COUNTING
    found, blocks = bounded(clock, seconds=seconds)
    assert found.counts is not None
    rounds = [k for k in range(1000) if READY + k * BLOCK < seconds - COUNTING]
    assert blocks == len(rounds)
    assert len(found.seconds) == len(rounds) - 2


def test_where_counting_would_take_more_than_a_quarter_nothing_is_counted(clock: Clock) -> None:
    seconds = 4 * COUNTING - 1
    found, blocks = bounded(clock, seconds=seconds)
    assert found.counts is None
    assert blocks == len([k for k in range(1000) if READY + k * BLOCK < seconds])


def test_what_steps_take_beside_time_is_counted_off_the_clock(clock: Clock) -> None:
    cases = timed_cases(clock, {"a": 2.0, "b": 5.0}, steps=100)
    timings, failures = timing.time_cases(cases, spec_of(), ignore)
    assert not failures
    for timed, found in zip(cases, timings, strict=True):
        own = count_steps(timed)
        assert own.operators > 0
        assert found.counts == own
        assert found.peak_bytes is None  # on a CPU
    assert timings[0].seconds.tolist() == [9.0] * 6


def test_a_count_that_fails_costs_nothing_else(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = StepCounts(1, 2, 3, 4)

    def count(timed: TimedCase) -> StepCounts:
        if timed.factory is cases[0].factory:
            raise ArithmeticError("no")
        return known

    cases = timed_cases(clock, {"a": 2.0, "b": 5.0})
    monkeypatch.setattr("harness.timing.counts.count_steps", count)
    timings, failures = timing.time_cases(cases, spec_of(), ignore)
    assert not failures
    assert [t.counts for t in timings] == [None, known]
    assert timings[0].seconds.tolist() == [9.0] * 6


def test_the_peak_of_a_gpu_is_of_one_case_after_its_first_step(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak(device: torch.device, run: Callable[[], None]) -> int:
        assert device.type == "cuda"
        clock.log.clear()
        run()
        return clock.log.count("a")

    monkeypatch.setattr("harness.timing.counts.peak_bytes", peak)
    monkeypatch.setattr(timing.Stopwatch, "_wait", lambda _: None)
    (timed,) = timed_cases(clock, {"a": 2.0})
    assert timing._peak_bytes(timed) is None
    runner = timing.Runner(timed, 3)
    monkeypatch.setattr(timing, "Runner", lambda *_: runner)
    there = replace(timed.workload, device=torch.device("cuda"))
    on_gpu = TimedCase(timed.case, there, timed.factory, 0)
    assert timing._peak_bytes(on_gpu) == 3  # steps, none of them the first


class FakeCuda:
    """A device that works for itself: what it is given takes it ``pace`` times as long."""

    def __init__(self, clock: Clock, pace: float) -> None:
        self.clock = clock
        self.pace = pace
        self.log: list[str] = []

    def synchronize(self, device: torch.device) -> None:
        self.log.append(f"wait for {device}")

    def current_stream(self, device: torch.device) -> str:
        return f"stream of {device}"

    def Event(self, *, enable_timing: bool) -> FakeEvent:  # noqa: N802 - torch's name
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.at = float("nan")

    def record(self, stream: str) -> None:
        self.cuda.log.append(f"event on {stream}")
        self.at = self.cuda.clock.now * self.cuda.pace

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.cuda.log[-1].startswith("wait")
        return (end.at - self.at) * 1000


def test_on_cuda_a_block_is_timed_by_events_on_the_current_stream(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(clock, pace=3.0)
    for name in ("current_stream", "Event"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    monkeypatch.setattr(torch.accelerator, "synchronize", cuda.synchronize)
    watch = timing.Stopwatch(torch.device("cuda:1"))
    clock.share = 0.5
    with watch:
        cuda.log.append("block")
        clock.spend("block", 8.0)
    assert watch.block == timing.Block(wall=24.0, cpu=4.0)
    event, wait = "event on stream of cuda:1", "wait for cuda:1"
    assert cuda.log == [wait, event, "block", event, wait]


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_other_devices_are_waited_for_before_and_after(
    kind: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def wait(*_: Any) -> None:
        clock.spend("wait", 1.0)
        waits.append(clock.now)

    monkeypatch.setattr(torch.accelerator, "synchronize", wait)
    watch = timing.Stopwatch(torch.device(kind))
    with watch:
        clock.spend("block", 8.0)
    assert waits == [1.0, 10.0]
    assert watch.block.wall == 9.0


CASES = [c for c in make_plan(load(ROOT / "benchmarks.yaml")).cases if c.device == "cpu"]
FIRST = [c for c in CASES if c.objective.name == CASES[0].objective.name]
SECOND = [c for c in CASES if c.objective.name != CASES[0].objective.name]
STEPS = {FIRST[0].objective.name: 5, SECOND[0].objective.name: 1000}


def test_what_blocks_take_is_foretold_from_steps_and_never_more_than_the_seconds() -> None:
    spec = spec_of(rounds=8, warmup_rounds=2, block_steps=20, seconds=30.0)
    known = {FIRST[0].key: 0.01, SECOND[0].key: 0.2}
    # Ten rounds: five steps are all there are of the first, and twenty a block of the second.
    assert timing_pass.expected_seconds(spec, FIRST, STEPS, known) == pytest.approx(10 * 5 * 0.01)
    assert timing_pass.expected_seconds(spec, SECOND, STEPS, known) == pytest.approx(10 * 20 * 0.2)
    cases = [*FIRST, *SECOND]
    assert timing_pass.within_budget(spec, cases, STEPS, {}) == spec
    shorter = timing_pass.within_budget(spec, cases, STEPS, known)
    assert shorter.block_steps == int(20 * 30 / 40.5)
    least = spec.model_copy(update={"seconds": 1e-6})
    assert timing_pass.within_budget(least, cases, STEPS, known).block_steps == 1


def test_the_time_is_shared_half_equally_and_half_by_need() -> None:
    assert timing_pass.weights_of([0.0, 0.0]) == [0.5, 0.5]
    assert timing_pass.weights_of([1.0, 3.0]) == [0.75, 1.25]
    assert timing_pass.weights_of([7.0]) == [2.0]


class FakeStore:
    """What the timing pass asks of a store."""

    def __init__(self) -> None:
        self.saved: list[tuple[list[Timing], str, str]] = []

    def failing(self) -> set[str]:
        return set()

    def timed(self, machine: str, settings: str) -> set[str]:
        return {
            timing.case_key
            for timings, *how in self.saved
            for timing in timings
            if how == [machine, settings]
        }

    def description(self, key: str) -> SimpleNamespace:
        known = {case.objective.key: STEPS[case.objective.name] for case in CASES}
        return SimpleNamespace(steps=known[key])

    def step_seconds(self) -> dict[str, float]:
        return {}

    def save_timings(self, timings: list[Timing], machine: str, settings: str) -> None:
        self.saved.append((timings, machine, settings))


def test_each_cell_has_its_share_of_the_time_and_what_one_leaves_goes_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, used = [100.0], [2.0, 17.0, 50.0, 50.0]
    shares: list[float] = []

    def time_cell(_: TimingPass, cell: Sequence[Case], spec: TimingSpec) -> list[Timing]:
        shares.append(spec.seconds)
        now[0] += used[len(shares) - 1]
        return [Timing(case.key, 1, 1, np.ones(3), np.ones(3)) for case in cell]

    monkeypatch.setattr(TimingPass, "_time", time_cell)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    plan = make_plan(load(ROOT / "benchmarks.yaml"))
    assert plan.spec.timing.seconds == 20
    store: Any = FakeStore()
    pool: Any = None
    absent = Unavailable({"cuda": "none"})
    one = TimingPass(pool, store, plan, absent, "m", NullProgress(), fresh=False)
    times = [one.run() for _ in range(2)]
    assert times == [len(CASES), 0]  # the second time there is nothing to do
    assert shares == [10.0, 18.0]
    assert replace(one, fresh=True).run() == len(CASES)
    assert shares[2:] == [10.0, 0.0]  # the first used up all, and the second has its least


@pytest.mark.parametrize(
    ("preview", "line"),
    [
        (None, "Timing: turned off."),
        (
            TimingPreview(10, 0, TimingSpec.model_validate({}), None),
            "Timing: 10 cases, 40 rounds of up to 20 steps, at most about 20 s.",
        ),
        (
            TimingPreview(10, 0, TimingSpec.model_validate({}), 1.0849),
            "Timing: 10 cases, 40 rounds of up to 20 steps, about 1.1 s, at most about 20 s.",
        ),
        (
            TimingPreview(4, 6, TimingSpec.model_validate({"seconds": 2.5}), 100.0),
            "Timing: 4 cases (6 others timed already), 40 rounds of up to 20 steps, "
            "at most about 2.5 s.",
        ),
        (
            TimingPreview(0, 6, TimingSpec.model_validate({}), None),
            "Timing: nothing to do, 6 cases timed already.",
        ),
    ],
)
def test_a_dry_run_says_what_would_be_timed(preview: TimingPreview | None, line: str) -> None:
    assert previewing.timing_line(preview) == line
