"""The timing pass: what is on its clock, how cases take turns, and what a fault costs.

No test here judges a time; a clock that the tests turn by hand stands in for the real one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import timing
from harness.objective import Batch, Objective, Parameters
from harness.plan import Case, make_plan
from harness.spec import TimingSpec, load
from harness.workload import Workload

ROOT = Path(__file__).resolve().parent.parent


class Clock:
    """Time that passes only when somebody says so; also a list of who said it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def spend(self, who: str, seconds: float) -> None:
        self.log.append(who)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
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


def timed_cases(
    clock: Clock, optimizers: dict[str, float], steps: int = 8
) -> list[timing.TimedCase]:
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
    cases = []
    for name, seconds in optimizers.items():
        fields = {**vars(base), "optimizer": name, "hyperparameters": {}, "key": name}
        factory = optimizer_of(clock, name, seconds)
        cases.append(timing.TimedCase(Case(**fields), workload, factory, True, 0))
    return cases


def spec_of(**fields: int) -> TimingSpec:
    return TimingSpec.model_validate({"rounds": 6, "warmup_rounds": 2, "block_steps": 3} | fields)


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
    blocks = ["".join(dict.fromkeys(steps[i : i + 3])) for i in range(0, len(steps), 3)]
    assert "".join(blocks) == "abcbcacab" * 2 + "abcbca"


def test_a_case_that_raises_is_left_out_and_the_others_are_timed_on(clock: Clock) -> None:
    cases = timed_cases(clock, {"a": 2.0, "b": 5.0})

    class Breaks(torch.optim.SGD):
        taken = 0

        def __init__(self, params: Any) -> None:
            super().__init__(params, lr=0.1)

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            assert closure is not None
            Breaks.taken += 1
            if Breaks.taken > 10:
                raise ArithmeticError("no more")
            return closure()

    broken = timing.TimedCase(cases[0].case, cases[0].workload, Breaks, True, 0)
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
    timing.time_cases(cases, spec_of(), ignore)
    assert not any(seen[1:])
    assert gc.isenabled()


def test_whoever_hangs_can_be_told_by_the_number_of_the_block(clock: Clock) -> None:
    told: list[int] = []
    cases = timed_cases(clock, {"a": 1.0, "b": 1.0, "c": 1.0}, steps=1000)
    clock.log.clear()
    timing.time_cases(cases, spec_of(rounds=3, warmup_rounds=1), told.append)
    order = "abc" + "abcbcacababc"
    assert ["abc"[(number - 1) % 3] for number in told] == list(order)


def test_epoch_seconds_are_the_block_scaled_to_an_epoch() -> None:
    from harness.results import Timing

    found = Timing("k", 50, 150, np.array([0.5]))
    assert (found.seconds / found.steps * found.steps_per_epoch).tolist() == [1.5]
