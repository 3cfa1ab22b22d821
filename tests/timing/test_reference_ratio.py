"""Measured ratios: what is on its clock, who comes after whom, what a fault or a busy moment costs.

No test here judges a time; a clock that the tests turn by hand stands in for the real one.
"""

from __future__ import annotations

import functools
import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_plan
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.workload import Workload
from harness.objectives.base import Batch, Objective, Parameters
from harness.plan.model import Case
from harness.results import MeasuredRatios
from harness.spec.model import CheckSpec
from harness.spec.validation import load
from harness.timing import reference_ratio
from harness.timing.reference_loop import BATCH, FEATURES, RATE, ROWS, ReferenceLoop
from harness.timing.reference_ratio import (
    MIN_ROUNDS,
    WARM_ROUNDS,
    WARM_STEPS,
    RatioMeasurement,
    ratio_of,
)
from harness.timing.timed_case import TimedCase

ROOT = Path(__file__).resolve().parents[2]

STEPS = 10
"""Of a block, unless the test says otherwise."""

ROUNDS = 20
REFERENCE = 2.0
"""Seconds of a step of the reference loop; one of the control's takes as long."""

COLD = 500.0
"""Seconds that a step takes more where somebody else ran right before it."""


class Clock:
    """Time that passes only when somebody says so; also a list of who said it.

    The processor works for us during ``share`` of it.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.worked = 0.0
        self.share = 1.0
        self.cold = COLD
        self.log: list[str] = []
        self.on_spend: Callable[[str], None] = lambda _: None

    def spend(self, who: str, seconds: float) -> None:
        self.on_spend(who)
        self.log.append(who)
        self.now += seconds
        self.worked += self.share * seconds

    def last(self) -> str:
        """Who took the latest step."""
        return self.log[-1] if self.log else ""


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Leave what was there before out of every collection; the measurement begins with one."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock by which every step of the reference (R) and of its control (C) takes its time."""
    clock = Clock()
    made: list[FakeLoop] = []

    class FakeLoop:
        def __init__(self, device: torch.device) -> None:
            assert device.type == "cpu"
            self.name = "RC"[len(made)]
            made.append(self)

        def run(self, steps: int) -> None:
            for _ in range(steps):
                clock.spend(self.name, REFERENCE + clock.cold * (clock.last() != self.name))

    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(time, "process_time", lambda: clock.worked)
    monkeypatch.setattr(reference_ratio, "ReferenceLoop", FakeLoop)
    return clock


class Point(Objective):
    """One number; drawing a start takes time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def init(self, generator: torch.Generator) -> Parameters:
        del generator
        self.clock.spend("init", 100.0)
        return {"x": torch.ones(())}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        del batch
        squared: torch.Tensor = params["x"].square()
        return squared


Also = Callable[[int], float]
"""What a step takes more, by its number from 0 among all that an optimizer's objects took."""


def optimizer_of(clock: Clock, name: str, seconds: float, also: Also) -> Any:
    taken = itertools.count()

    class Timed(torch.optim.SGD):
        def __init__(self, params: Any) -> None:
            clock.spend(f"{name} is made", 1000.0)
            super().__init__(params, lr=0.01)

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            assert closure is not None
            value = closure()
            clock.spend(name, seconds + clock.cold * (clock.last() != name) + also(next(taken)))
            return value

    return Timed


def nothing_more(step: int) -> float:
    del step
    return 0.0


@functools.cache
def a_case() -> Case:
    """Any; its names and key are replaced."""
    return make_plan(load(ROOT / "benchmarks.yaml")).cases[0]


def cells_of(
    clock: Clock,
    optimizers: dict[str, float],
    steps: int = 100_000,
    also: dict[str, Also] | None = None,
) -> list[TimedCase]:
    """Cells whose steps take so many seconds, on an objective of so many steps."""
    base = a_case()
    workload = Workload(
        objective=Point(clock),
        data=None,
        dtype=torch.float32,
        device=torch.device("cpu"),
        steps=steps,
        steps_per_epoch=1,
        batch_size=None,
        record_steps=(0, steps),
        divergence_factor=1000.0,
    )
    assert not workload.writes_rows  # which takes time at the first run alone
    clock.now = clock.worked = 0.0
    clock.log.clear()
    cells = []
    for name, seconds in optimizers.items():
        fields = {**vars(base), "optimizer": name, "hyperparameters": {}, "key": name}
        factory = optimizer_of(clock, name, seconds, (also or {}).get(name, nothing_more))
        cells.append(TimedCase(Case(**fields), workload, factory, 0))
    return cells


def spec_of(**fields: float) -> CheckSpec:
    """Time enough for all rounds, unless the test says otherwise."""
    known = {"rounds": ROUNDS, "block_steps": STEPS, "seconds": 1e9}
    return CheckSpec.model_validate(known | fields)


def ignore(step: int) -> None:
    del step


def measure(
    cells: Sequence[TimedCase],
    spec: CheckSpec | None = None,
    threads: int = 1,
    on_step: Callable[[int], None] = ignore,
) -> MeasuredRatios:
    spec = spec or spec_of()
    measuring = RatioMeasurement(cells, spec, threads, on_step)
    measuring.rounds(spec.rounds)
    return measuring.result()


def blocks(log: Sequence[str]) -> str:
    """Who ran, block by block, each as long as it should be."""
    steps = [who for who in log if len(who) == 1]
    found = [
        set(steps[i : i + WARM_STEPS + STEPS]) for i in range(0, len(steps), WARM_STEPS + STEPS)
    ]
    assert len(steps) == len(found) * (WARM_STEPS + STEPS)
    return "".join(who for (who,) in found)


# The ratio


def test_a_ratio_is_that_of_the_seconds_of_a_step(clock: Clock) -> None:
    found = measure(cells_of(clock, {"a": 3.0, "b": 8.0, "c": 0.5}))
    assert {key: pairs.ratio for key, pairs in found.cells.items()} == {
        "a": 3.0 / REFERENCE,
        "b": 8.0 / REFERENCE,
        "c": 0.5 / REFERENCE,
    }
    assert found.failures == {}
    for pairs in found.cells.values():
        assert (pairs.steps, pairs.reference_steps) == (STEPS, STEPS)
        assert pairs.reference == (STEPS * REFERENCE,) * ROUNDS
    assert found.cells["a"].cell == (STEPS * 3.0,) * ROUNDS
    assert found.controls == (1.0,)


def test_steps_right_after_somebody_elses_are_not_on_the_clock(clock: Clock) -> None:
    found = measure(cells_of(clock, {"a": 3.0}))
    assert clock.cold > 0
    assert found.cells["a"].cell == (STEPS * 3.0,) * ROUNDS
    assert found.cells["a"].reference == (STEPS * REFERENCE,) * ROUNDS
    # The first step of each, which is off the clock as well, comes before the blocks.
    steps = [who for who in clock.log if len(who) == 1]
    assert sorted(steps[:3]) == ["C", "R", "a"]
    taken = blocks(steps[3:])
    assert [taken.count(who) for who in "aCR"] == [WARM_ROUNDS + ROUNDS] * 2 + [
        2 * (WARM_ROUNDS + ROUNDS)
    ]


def test_rounds_to_warm_up_are_dropped(clock: Clock) -> None:
    warm = 1 + WARM_ROUNDS * (WARM_STEPS + STEPS)

    def slow_at_first(step: int) -> float:
        return 1000.0 if step < warm else 0.0

    found = measure(cells_of(clock, {"a": 3.0}, also={"a": slow_at_first}))
    assert found.cells["a"].cell == (STEPS * 3.0,) * ROUNDS


def test_a_trial_that_ends_begins_again_off_the_clock(clock: Clock) -> None:
    found = measure(cells_of(clock, {"a": 3.0}, steps=30))
    assert clock.log.count("init") == 1 + (WARM_ROUNDS + ROUNDS - 1) // 2
    assert found.cells["a"].cell == (STEPS * 3.0,) * ROUNDS


def test_a_trial_too_short_for_a_block_has_shorter_ones_and_the_same_ratio(clock: Clock) -> None:
    found = measure(cells_of(clock, {"a": 3.0}, steps=7)).cells["a"]
    assert (found.steps, found.reference_steps) == (7 - 1 - WARM_STEPS, STEPS)
    assert found.cell == (4 * 3.0,) * ROUNDS
    assert found.ratio == 3.0 / REFERENCE


@pytest.mark.parametrize("seed", range(3))
def test_a_busy_moment_in_fewer_than_half_of_the_blocks_leaves_no_trace(
    clock: Clock, seed: int
) -> None:
    random = np.random.default_rng(seed)
    busy = {
        name: set(WARM_ROUNDS + random.choice(ROUNDS, ROUNDS // 2 - 1, replace=False))
        for name in "ab"
    }

    def disturbed(name: str) -> Also:
        def more(step: int) -> float:
            block = (step - 1) // (WARM_STEPS + STEPS)
            return float(random.exponential(10.0)) if block in busy[name] else 0.0

        return more

    cells = cells_of(clock, {"a": 3.0, "b": 8.0}, also={n: disturbed(n) for n in "ab"})
    found = measure(cells).cells
    assert max(found["a"].cell) > STEPS * 3.0
    assert sum(seconds > STEPS * 3.0 for seconds in found["a"].cell) == ROUNDS // 2 - 1
    assert (found["a"].ratio, found["b"].ratio) == (3.0 / REFERENCE, 8.0 / REFERENCE)


seconds = st.floats(1e-6, 1e3)
block_steps = st.integers(1, 1000)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=50), block_steps, block_steps)
def test_a_ratio_is_of_lower_deciles(
    pairs: list[tuple[float, float]], steps: int, reference_steps: int
) -> None:
    deciles = []
    for side in zip(*pairs, strict=True):
        ordered = sorted(side)
        whole, part = divmod(0.1 * (len(ordered) - 1), 1)
        low, high = ordered[int(whole)], ordered[min(int(whole) + 1, len(ordered) - 1)]
        deciles.append(low + part * (high - low))
    expected = (deciles[0] / steps) / (deciles[1] / reference_steps)
    assert ratio_of(pairs, steps, reference_steps) == pytest.approx(expected, rel=1e-12)


@given(st.data(), st.integers(MIN_ROUNDS, 120), seconds, seconds)
def test_whatever_is_added_to_fewer_than_half_of_either_sides_blocks_changes_no_ratio(
    data: st.DataObject, rounds: int, cell: float, reference: float
) -> None:
    sides = []
    for usual in (cell, reference):
        busy = data.draw(
            st.dictionaries(st.integers(0, rounds - 1), seconds, max_size=(rounds - 1) // 2)
        )
        sides.append([usual + busy.get(i, 0.0) for i in range(rounds)])
    pairs = list(zip(*sides, strict=True))
    assert ratio_of(pairs, 1, 1) == cell / reference


@given(
    st.lists(st.tuples(seconds, seconds), min_size=1, max_size=30), st.randoms(), st.integers(0, 9)
)
def test_neither_the_order_of_rounds_nor_the_machines_pace_changes_a_ratio(
    pairs: list[tuple[float, float]], random: Any, power: int
) -> None:
    found = ratio_of(pairs, 3, 5)
    random.shuffle(pairs)
    assert ratio_of(pairs, 3, 5) == found
    slower = [(cell * 2.0**power, reference * 2.0**power) for cell, reference in pairs]
    assert ratio_of(slower, 3, 5) == found
    turned = [(reference, cell) for cell, reference in pairs]
    assert ratio_of(turned, 5, 3) == pytest.approx(1 / found, rel=1e-12)


# The clock


@pytest.mark.parametrize(("threads", "name", "share"), [(1, "cpu", 0.25), (2, "wall", 1.0)])
def test_one_thread_is_timed_by_the_processors_clock_and_more_by_the_walls(
    clock: Clock, threads: int, name: str, share: float
) -> None:
    clock.share = 0.25
    found = measure(cells_of(clock, {"a": 3.0}), threads=threads).cells["a"]
    assert found.clock == name
    assert found.cell == (share * STEPS * 3.0,) * ROUNDS
    assert found.reference == (share * STEPS * REFERENCE,) * ROUNDS


def test_a_process_that_is_interrupted_has_the_same_ratio_by_the_processors_clock(
    clock: Clock,
) -> None:
    def interrupted(step: int) -> float:
        clock.now += 1000.0 * (step % 3)  # nobody worked for us
        return 0.0

    cells = cells_of(clock, {"a": 3.0}, also={"a": interrupted})
    measuring = RatioMeasurement(cells, spec_of(), 1, ignore)
    measuring.rounds(ROUNDS)
    assert measuring.result().cells["a"].ratio == 3.0 / REFERENCE
    assert clock.now > 2 * clock.worked
    assert measuring._clock(torch.device("cuda")) == "wall"


@pytest.mark.parametrize("collecting", [True, False])
def test_garbage_is_not_collected_meanwhile_and_is_again_as_before(
    clock: Clock, collecting: bool
) -> None:
    seen: set[bool] = set()
    measuring = RatioMeasurement(cells_of(clock, {"a": 3.0}), spec_of(), 1, ignore)
    assert gc.isenabled()
    clock.on_spend = lambda _: seen.add(gc.isenabled())
    if not collecting:
        gc.disable()
    try:
        measuring.rounds(ROUNDS)
        assert gc.isenabled() is collecting
    finally:
        gc.enable()
    assert seen == {False}


def test_garbage_is_collected_again_also_where_somebody_interrupts(clock: Clock) -> None:
    measuring = RatioMeasurement(cells_of(clock, {"a": 3.0}), spec_of(), 1, ignore)

    def interrupt(who: str) -> None:
        del who
        raise KeyboardInterrupt

    clock.on_spend = interrupt
    with pytest.raises(KeyboardInterrupt):
        measuring.rounds(1)
    assert gc.isenabled()


# Turns


def test_each_block_comes_right_after_one_of_the_reference_and_the_first_place_goes_round(
    clock: Clock,
) -> None:
    measuring = RatioMeasurement(
        cells_of(clock, {"a": 1.0, "b": 1.0, "c": 1.0}), spec_of(), 1, ignore
    )
    clock.log.clear()
    measuring.rounds(6)
    # In every other round the control's two loops change places.
    assert blocks(clock.log) == (
        "RaRbRcRC" + "RbRcCRRa" + "RcRCRaRb" + "CRRaRbRc" + "RaRbRcRC" + "RbRcCRRa"
    )


def test_rounds_go_on_where_they_stopped(clock: Clock) -> None:
    measuring = RatioMeasurement(cells_of(clock, {"a": 3.0, "b": 1.0}), spec_of(), 1, ignore)
    clock.log.clear()
    for count in (1, 3, 0, 2):
        measuring.rounds(count)
    assert len(measuring.result().cells["a"].cell) == 6
    assert blocks(clock.log) == ("RaRbRC" + "RbCRRa" + "RCRaRb" + "RaRbCR" + "RbRCRa" + "CRRaRb")


def test_whoever_hangs_can_be_told_by_the_number_of_the_block(clock: Clock) -> None:
    told: list[tuple[int, int]] = []
    cells = cells_of(clock, {"a": 1.0, "b": 1.0, "c": 1.0})
    # In a hurry, so that cells are made ready a second time.
    measure(
        cells,
        spec_of(seconds=1.0),
        on_step=lambda number: told.append((number, len(clock.log))),
    )
    assert len(told) == 3 * (2 + WARM_ROUNDS + MIN_ROUNDS)
    for number, at in told:
        then = (who.partition(" ")[0] for who in clock.log[at:])
        assert next(who for who in then if who in {"a", "b", "c"}) == "abc"[(number - 1) % 3]


def test_the_control_is_the_reference_once_more(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measure(cells_of(clock, {"a": 3.0})).controls == (1.0,)
    # One in which the same loop takes half as long again the second time.
    made: list[str] = []

    class Strays:
        def __init__(self, device: torch.device) -> None:
            del device
            self.pace = 1.5 if made else 1.0
            made.append("loop")

        def run(self, steps: int) -> None:
            clock.spend("S", steps * self.pace)

    monkeypatch.setattr(reference_ratio, "ReferenceLoop", Strays)
    assert measure(cells_of(clock, {"a": 3.0})).controls == (1.5,)


# Faults


def test_a_cell_that_can_not_be_set_up_is_left_out_and_the_others_go_on(clock: Clock) -> None:
    def refuses(params: Any) -> Any:
        del params
        raise ValueError("no such thing")

    first, *others = cells_of(clock, {"a": 1.0, "b": 3.0, "c": 8.0})
    broken = TimedCase(first.case, first.workload, refuses, 0)
    told: list[int] = []
    found = measure([broken, *others], on_step=told.append)
    assert found.failures == {"a": "ValueError: no such thing"}
    assert {key: pairs.ratio for key, pairs in found.cells.items()} == {"b": 1.5, "c": 4.0}
    assert {len(pairs.cell) for pairs in found.cells.values()} == {ROUNDS}
    assert {(number - 1) % 3 for number in told[3:]} == {1, 2}
    assert found.controls == (1.0,)


@pytest.mark.parametrize("at", [0, 5, 30, 1 + 12 * WARM_ROUNDS + 1, 200])
def test_a_cell_that_raises_midway_is_left_out_and_the_others_go_on(clock: Clock, at: int) -> None:
    def breaks(step: int) -> float:
        if step >= at:
            raise ArithmeticError("no more")
        return 0.0

    found = measure(cells_of(clock, {"a": 3.0, "b": 1.0, "c": 8.0}, also={"b": breaks}))
    assert found.failures == {"b": "ArithmeticError: no more"}
    assert {key: pairs.ratio for key, pairs in found.cells.items()} == {"a": 1.5, "c": 4.0}
    assert {len(pairs.cell) for pairs in found.cells.values()} == {ROUNDS}
    assert {len(pairs.reference) for pairs in found.cells.values()} == {ROUNDS}


def test_where_no_cell_can_be_measured_nothing_is(clock: Clock) -> None:
    assert measure([]) == MeasuredRatios({}, (), {})
    assert clock.log == []


# Time


def elapsed(block_steps: int = STEPS) -> float:
    """Seconds until the one cell of these tests has warmed up; a step of it takes 4."""
    ready = 2 * REFERENCE + 100 + 1000 + 4
    return ready + WARM_ROUNDS * a_round(block_steps)


def a_round(block_steps: int) -> float:
    """Seconds of a round of that cell: its pair of blocks, and the control's."""
    return 3 * (WARM_STEPS + STEPS) * REFERENCE + (WARM_STEPS + block_steps) * 4.0


@pytest.mark.parametrize("share", [0.99, 0.55, 0.31, 0.1, 0.05])
def test_blocks_are_as_short_as_it_takes_to_fit_all_rounds_into_the_time(
    clock: Clock, share: float
) -> None:
    clock.cold = 0.0
    expected = elapsed() / WARM_ROUNDS * (ROUNDS + WARM_ROUNDS)
    found = measure(cells_of(clock, {"a": 4.0}), spec_of(seconds=share * expected)).cells["a"]
    assert found.steps == max(1, int(STEPS * share))
    assert found.reference_steps == STEPS
    assert found.cell == (found.steps * 4.0,) * ROUNDS
    assert found.ratio == 4.0 / REFERENCE


def test_where_the_time_is_enough_blocks_are_as_long_as_the_spec_says(clock: Clock) -> None:
    clock.cold = 0.0
    expected = elapsed() / WARM_ROUNDS * (ROUNDS + WARM_ROUNDS)
    found = measure(cells_of(clock, {"a": 4.0}), spec_of(seconds=expected)).cells["a"]
    assert found.steps == STEPS
    assert clock.log.count("a is made") == 1


def test_some_rounds_are_measured_however_slow_they_are(clock: Clock) -> None:
    found = measure(cells_of(clock, {"a": 4.0}), spec_of(rounds=1000, seconds=1e-9)).cells["a"]
    assert found.steps == 1
    assert len(found.cell) == MIN_ROUNDS
    assert found.ratio == 4.0 / REFERENCE


def test_no_round_more_than_those_begins_once_the_time_is_used(clock: Clock) -> None:
    clock.cold = 0.0
    seconds = 10_000.0
    found = measure(cells_of(clock, {"a": 4.0}), spec_of(rounds=1000, seconds=seconds)).cells["a"]
    assert MIN_ROUNDS < len(found.cell) < 1000
    assert clock.now - a_round(found.steps) <= seconds < clock.now


# The reference loop


def data_of() -> tuple[Any, Any, Any]:
    """What the loop learns from, made another way: features, labels, order of rows."""
    number = np.arange(ROWS * FEATURES, dtype=np.float64).reshape(ROWS, FEATURES)
    features = np.sin(0.7 * number)
    return features, features.sum(axis=1), np.arange(ROWS) * 7 % ROWS


def weights_of(loop: ReferenceLoop) -> Any:
    return np.append(loop._weight.detach().numpy(), loop._bias.detach().numpy())


def test_the_reference_loop_is_gradient_descent_on_half_the_mean_squared_error() -> None:
    features, labels, order = data_of()
    rows = np.column_stack([features, np.ones(ROWS)])
    weights = np.zeros(FEATURES + 1)
    steps = 2 * ROWS // BATCH + 7  # the batches begin again, twice
    for step in range(steps):
        batch = order.reshape(-1, BATCH)[step % (ROWS // BATCH)]
        residuals = rows[batch] @ weights - labels[batch]
        weights -= RATE * residuals @ rows[batch] / BATCH
    loop = ReferenceLoop(torch.device("cpu"))
    loop.run(steps)
    assert weights_of(loop) == pytest.approx(weights, abs=1e-4)
    assert sorted(order) == list(range(ROWS))


def test_the_reference_loop_descends_towards_the_least_squares_solution() -> None:
    features, labels, _ = data_of()
    rows = np.column_stack([features, np.ones(ROWS)])
    # Its features have but two directions; from zero, descent finds the shortest solution.
    solution, _, rank, _ = np.linalg.lstsq(rows, labels, rcond=1e-6)
    assert rank == 3
    assert rows @ solution == pytest.approx(labels, abs=1e-9)
    loop = ReferenceLoop(torch.device("cpu"))
    losses, distances = [], []
    for _ in range(12):
        residuals = rows @ weights_of(loop) - labels
        losses.append(float(np.square(residuals).mean() / 2))
        distances.append(float(np.linalg.norm(weights_of(loop) - solution)))
        loop.run(ROWS // BATCH)
    assert losses == sorted(losses, reverse=True)
    assert distances == sorted(distances, reverse=True)
    assert losses[-1] < losses[0] / 10
    assert distances[-1] < distances[0] / 2


def test_the_reference_loop_is_the_same_each_time_and_uses_no_random_numbers() -> None:
    found = []
    for seed, parts in ((0, [40]), (1, [1, 9, 0, 30])):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        loop = ReferenceLoop(torch.device("cpu"))
        for steps in parts:
            loop.run(steps)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(weights_of(loop).tobytes())
    assert found[0] == found[1]
