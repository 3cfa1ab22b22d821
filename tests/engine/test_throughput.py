"""Trials per second: lanes beside the loop that a user would write and beside a compiled kernel.

All of it is the chapter's linear regression with AdaGrad (2 epochs, batches of 10, float32, the
loss over all data before training and after every 100 samples), on one thread. Every round of a
benchmark comes just after a trial of the plain loop and some of the kernel, so that a slow moment
of the machine falls on all of them; the table at the end has the medians of these paired ratios.
What is timed is checked to be the same computation; how fast it is is no condition of a test.

    pytest tests/engine/test_throughput.py               one round, hardly warm: that it works
    pytest tests/engine/test_throughput.py --benchmark-only   enough rounds to quote

On a machine that does other work, ``--benchmark-timer=time.process_time`` leaves the waiting out.
``--benchmark-json`` or ``--benchmark-save`` keep the ratios (``extra_info``) with the times.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pytest
import torch
from builders import make_plan
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.data import DataLoader, TensorDataset

from harness.engine.lanes import Lane
from harness.engine.loading import load_objective
from harness.engine.recording import Outcome
from harness.engine.sharing import decide
from harness.engine.training_loop import train
from harness.engine.validate import load_optimizer
from harness.engine.workload import BATCH_STREAM, Workload, generator, prepare
from harness.objectives.base import Parameters
from harness.results import Way
from harness.spec.validation import load
from harness.suite.locate import locate

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]
LR, EPS, BATCH, EPOCHS, EVERY = 0.1, 1e-6, 10, 2, 10
SETTING = {"lr": LR, "eps": EPS}
RATES = tuple(np.geomspace(0.01, 1, 50).tolist())
GRID_SEEDS = 20
PLAIN_TRIALS, KERNEL_TRIALS = 2, 400
"""Run beside each round; long enough that what else the machine does meets them as well."""

NOTE = f"""\
Medians. A ratio is of trials per second, each round to {PLAIN_TRIALS} trials of the plain loop
and {KERNEL_TRIALS} of the kernel just before it. The plain loop takes one learning rate and one
seed at a time: beside the grid stands its rate on these few trials, extrapolated."""

# Means of final losses over seeds, against the mean over 1,500 seeds of an independent float64
# implementation; the standard deviation over seeds is 0.0009.
MEAN, DEVIATION = 0.2429, 0.0009

Function = TypeVar("Function")
Batch = tuple[torch.Tensor, torch.Tensor] | list[torch.Tensor]
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def workload() -> Workload:
    plan = make_plan(load(ROOT / "benchmarks.yaml"))
    planned = next(p for p in plan.objectives if p.name == "ch7_linreg")
    made = prepare(planned, load_objective(planned)[0], "cpu")
    assert (made.batch_size, made.steps, made.dtype) == (BATCH, 300, torch.float32)
    assert made.record_steps == tuple(range(0, 301, EVERY))
    return made


@pytest.fixture(scope="module")
def adagrad() -> Any:
    return load_optimizer(locate("AdaGrad", ROOT, "optimizers"))


def plain_trial(
    adagrad: Any, data: Sequence[torch.Tensor], start: Parameters, epochs: Iterable[Iterable[Batch]]
) -> list[float]:
    """One trial as the book's ``train_ch7`` has it; gives the recorded losses."""
    features, labels = data
    w, b = (start[name].clone().requires_grad_() for name in ("weight", "bias"))
    optimizer = adagrad([w, b], **SETTING)

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((x @ w + b - y) ** 2 / 2).mean()

    def evaluated() -> float:
        with torch.no_grad():
            return loss(features, labels).item()

    losses = [evaluated()]
    for batches in epochs:
        for i, (x, y) in enumerate(batches):
            optimizer.zero_grad()
            loss(x, y).backward()
            optimizer.step()
            if (i + 1) * BATCH % 100 == 0:
                losses.append(evaluated())
    return losses


def plain_loop(adagrad: Any, data: Sequence[torch.Tensor], seed: int) -> list[float]:
    """One trial with torch's own shuffling, from drawing its start on."""
    torch.manual_seed(seed)
    loader = DataLoader(TensorDataset(*data), batch_size=BATCH, shuffle=True)
    start = {"weight": torch.randn(5) * 0.01, "bias": torch.zeros(())}
    return plain_trial(adagrad, data, start, [loader] * EPOCHS)


class Njit(Protocol):
    """What numba's decorator is to a type checker: it leaves a function as it is."""

    def __call__(self, function: Function) -> Function: ...


class Descend(Protocol):
    """A compiled trial whose start and orders of rows are given."""

    def __call__(
        self, x: Floats, y: Floats, start: Floats, orders: NDArray[np.int64], losses: Floats
    ) -> None:
        """Fill ``losses`` with what is recorded; ``start`` is the weights, of bias 0."""
        ...


class Trials(Protocol):
    """Compiled trials from drawing their starts on."""

    def __call__(self, x: Floats, y: Floats, seeds: NDArray[np.int64]) -> Floats:
        """Recorded losses, shape ``(seeds, records)``."""
        ...


@dataclass(frozen=True)
class Kernel:
    """The same trials, compiled by hand for this one objective and optimizer."""

    descend: Descend
    trials: Trials


def compiled(njit: Njit) -> Kernel:
    """Compile; float32 throughout, without fast-math."""
    lr, eps = np.float32(LR), np.float32(EPS)
    records = 1 + EPOCHS * 1500 // BATCH // EVERY

    @njit
    def full_loss(x: Floats, y: Floats, w: Floats, b: np.float32) -> Any:
        total = np.float32(0)
        for i in range(len(x)):
            residual = b - y[i]
            for j in range(len(w)):
                residual += x[i, j] * w[j]
            total += residual * residual
        return total / np.float32(2 * len(x))

    @njit
    def descend(
        x: Floats, y: Floats, start: Floats, orders: NDArray[np.int64], losses: Floats
    ) -> None:
        w, b = start.copy(), np.float32(0)
        squares, square = np.zeros_like(w), np.float32(0)
        gradient = np.empty_like(w)
        losses[0] = full_loss(x, y, w, b)
        step = 0
        for epoch in range(len(orders)):
            for first in range(0, len(x), BATCH):
                rows = orders[epoch, first : first + BATCH]
                size = np.float32(len(rows))
                gradient[:] = 0
                slope = np.float32(0)
                for i in rows:
                    residual = b - y[i]
                    for j in range(len(w)):
                        residual += x[i, j] * w[j]
                    for j in range(len(w)):
                        gradient[j] += residual * x[i, j]
                    slope += residual
                for j in range(len(w)):
                    g = gradient[j] / size
                    squares[j] += g * g
                    w[j] -= lr * g / np.sqrt(squares[j] + eps)
                slope /= size
                square += slope * slope
                b -= lr * slope / np.sqrt(square + eps)
                step += 1
                if step % EVERY == 0:
                    losses[step // EVERY] = full_loss(x, y, w, b)

    @njit
    def trials(x: Floats, y: Floats, seeds: NDArray[np.int64]) -> Floats:
        losses = np.empty((len(seeds), records), np.float32)
        start = np.empty(x.shape[1], np.float32)
        orders = np.empty((EPOCHS, len(x)), np.int64)
        for k in range(len(seeds)):
            np.random.seed(seeds[k])
            for j in range(len(start)):
                start[j] = np.random.normal(0.0, 0.01)
            for epoch in range(EPOCHS):
                orders[epoch] = np.random.permutation(len(x))
            descend(x, y, start, orders, losses[k])
        return losses

    return Kernel(descend, trials)


@pytest.fixture(scope="module")
def kernel() -> Kernel | None:
    """The compiled kernel, or None where there is nothing to compile it with."""
    if importlib.util.find_spec("numba") is None:
        return None
    return compiled(importlib.import_module("numba").njit)


@dataclass(frozen=True)
class Row:
    """A line of the table: medians over the rounds. A ratio is of trials per second."""

    name: str
    rounds: int
    seconds: float
    per_second: float | None
    to_plain: float | None
    to_kernel: float | None


@dataclass
class Track:
    """Runs the benchmarks, each beside the same two yardsticks, and keeps the table."""

    plain: Callable[[], object]
    kernel: Callable[[], object] | None
    rounds: int
    warmup_rounds: int
    timer: Callable[[], float]
    rows: list[Row] = field(default_factory=list)

    def run(
        self,
        benchmark: BenchmarkFixture,
        name: str,
        trials: int | None,
        target: Callable[[], Any],
    ) -> Any:
        """Time a function that runs some trials (None: something else) and give its result."""
        plain: list[float] = []
        compiled: list[float] = []

        def beside() -> None:
            plain.append(PLAIN_TRIALS / self._seconds(self.plain))
            if self.kernel is not None:
                compiled.append(KERNEL_TRIALS / self._seconds(self.kernel))

        pedantic: Any = benchmark.pedantic
        benchmark.group = "ch7_linreg with AdaGrad"
        benchmark.name = name
        result = pedantic(
            target, setup=beside, rounds=self.rounds, warmup_rounds=self.warmup_rounds
        )
        if benchmark.stats is None:  # --benchmark-disable
            return result
        taken: list[float] = benchmark.stats.stats.data
        if trials is None:
            row = Row(name, len(taken), statistics.median(taken), None, None, None)
        else:
            rates = [trials / seconds for seconds in taken]
            row = Row(
                name,
                len(taken),
                statistics.median(taken),
                statistics.median(rates),
                _median_ratio(rates, plain),
                _median_ratio(rates, compiled),
            )
        benchmark.extra_info.update(
            trials=trials,
            trials_per_second=row.per_second,
            ratio_to_plain=row.to_plain,
            ratio_to_kernel=row.to_kernel,
        )
        self.rows.append(row)
        return result

    def _seconds(self, run: Callable[[], object]) -> float:
        began = self.timer()
        run()
        return self.timer() - began

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, once everything has run."""
        if not self.rows:
            return
        terminalreporter.section("throughput, one thread: ch7_linreg with AdaGrad")
        header = ("", "rounds", "seconds", "trials/s", "× plain loop", "× kernel")
        terminalreporter.write_line(_line(header))
        for row in self.rows:
            numbers = (row.per_second, row.to_plain, row.to_kernel)
            cells = ["" if number is None else f"{number:,.4g}" for number in numbers]
            head = (row.name, str(row.rounds), f"{row.seconds:.4f}")
            terminalreporter.write_line(_line((*head, *cells)))
        terminalreporter.write_line(NOTE)


def _line(cells: Sequence[str]) -> str:
    return f"{cells[0]:<44}" + "".join(f"{cell:>14}" for cell in cells[1:])


def _median_ratio(rates: Sequence[float], beside: Sequence[float]) -> float | None:
    """Of rounds to what ran just before each; the warm-up's come first in ``beside``."""
    if not beside:
        return None
    pairs = zip(rates, beside[-len(rates) :], strict=True)
    return statistics.median(rate / other for rate, other in pairs)


@pytest.fixture(scope="module")
def track(
    request: pytest.FixtureRequest, workload: Workload, adagrad: Any, kernel: Kernel | None
) -> Track:
    full = request.config.getoption("benchmark_only")
    data = arrays(workload)
    seeds = np.arange(KERNEL_TRIALS)
    made = Track(
        plain=lambda: [plain_loop(adagrad, workload.data or (), k) for k in range(PLAIN_TRIALS)],
        kernel=None if kernel is None else lambda: kernel.trials(*data, seeds),
        rounds=25 if full else 1,
        warmup_rounds=1 if full else 0,
        timer=pkgutil.resolve_name(request.config.getoption("benchmark_timer")),
    )
    if made.kernel is not None:
        made.kernel()  # compiles it
    engine(workload, adagrad, [Lane(0, 0)])  # loads a good part of torch
    request.config.pluginmanager.register(made, "throughput-table")
    return made


def arrays(workload: Workload) -> tuple[Floats, Floats]:
    assert workload.data is not None
    x, y = (np.ascontiguousarray(tensor.numpy()) for tensor in workload.data)
    return x, y


def engine(
    workload: Workload, adagrad: Any, lanes: Sequence[Lane], rates: Sequence[float] = (LR,)
) -> Outcome:
    """Trials side by side as a run has them; a single one alone."""
    settings = [{"lr": lr, "eps": EPS} for lr in rates]
    way: Way = "pointwise" if len(lanes) > 1 else "alone"
    return train(workload, adagrad, settings, lanes, way=way, on_step=lambda _: None)


def assert_mean_is_as_published(losses: NDArray[np.floating]) -> None:
    error = DEVIATION / np.sqrt(len(losses))
    assert abs(losses.mean() - MEAN) < 5 * error + 0.5e-4  # the mean has four decimals


def test_the_plain_loop_and_the_kernel_compute_what_a_lane_does(
    workload: Workload, adagrad: Any, kernel: Kernel | None
) -> None:
    assert workload.data is not None
    lane = Lane(0, 7)
    expected = engine(workload, adagrad, [lane]).losses[0]
    start = workload.start(lane.seed)
    source = generator(lane.seed, BATCH_STREAM)
    orders = torch.stack([workload.order(source) for _ in range(EPOCHS)])
    features, labels = workload.data
    epochs = [[(features[rows], labels[rows]) for rows in order.split(BATCH)] for order in orders]
    plain = plain_trial(adagrad, workload.data, start, epochs)
    np.testing.assert_allclose(plain, expected, rtol=2e-5)
    if kernel is None:
        pytest.skip("numba is not installed: the kernel was left out")
    x, y = arrays(workload)
    losses = np.empty(len(expected), np.float32)
    kernel.descend(x, y, start["weight"].numpy(), orders.numpy(), losses)
    np.testing.assert_allclose(losses, expected, rtol=2e-5)


@pytest.mark.serial
def test_plain_loop(
    benchmark: BenchmarkFixture, track: Track, workload: Workload, adagrad: Any
) -> None:
    losses: list[list[float]] = []

    def one_by_one() -> None:
        losses.extend(plain_loop(adagrad, workload.data or (), len(losses)) for _ in range(3))

    track.run(benchmark, "plain loop, seed by seed", 3, one_by_one)
    assert {len(curve) for curve in losses} == {len(workload.record_steps)}
    assert_mean_is_as_published(np.array(losses)[:, -1])


@pytest.mark.serial
def test_compiled_kernel(
    benchmark: BenchmarkFixture, track: Track, workload: Workload, kernel: Kernel | None
) -> None:
    if kernel is None:
        pytest.skip("numba is not installed")
    data, seeds = arrays(workload), np.arange(1000)
    losses = track.run(
        benchmark, "compiled kernel, seed by seed", 1000, lambda: kernel.trials(*data, seeds)
    )
    assert_mean_is_as_published(losses[:, -1].astype(np.float64))


@pytest.mark.serial
@pytest.mark.parametrize("count", [1, 10, 100, 1000])
def test_lanes(
    benchmark: BenchmarkFixture, track: Track, workload: Workload, adagrad: Any, count: int
) -> None:
    lanes = [Lane(0, seed) for seed in range(count)]
    outcome = track.run(
        benchmark,
        f"engine, {count:,} lane{'s' if count > 1 else ''}",
        count,
        lambda: engine(workload, adagrad, lanes),
    )
    assert (outcome.diverged_at < 0).all()
    assert_mean_is_as_published(outcome.losses[:, -1])


@pytest.mark.serial
def test_grid(benchmark: BenchmarkFixture, track: Track, workload: Workload, adagrad: Any) -> None:
    lanes = [Lane(i, seed) for i in range(len(RATES)) for seed in range(GRID_SEEDS)]
    outcome = track.run(
        benchmark,
        f"engine, {len(RATES)} learning rates × {GRID_SEEDS} seeds",
        len(lanes),
        lambda: engine(workload, adagrad, lanes, RATES),
    )
    for i in (0, 25, 49):
        own = engine(workload, adagrad, [Lane(0, 3)], [RATES[i]])
        beside = outcome.losses[i * GRID_SEEDS + 3]
        np.testing.assert_allclose(beside, own.losses[0], rtol=1e-5)


@pytest.mark.serial
@pytest.mark.parametrize("of", ["seeds", "settings"])
def test_a_thousand(of: str, benchmark: BenchmarkFixture, track: Track, workload: Workload) -> None:
    adamw, count = torch.optim.AdamW, 1000
    rates = np.geomspace(1e-4, 0.1, count).tolist() if of == "settings" else [0.01]
    lanes = [Lane(i, 0) if of == "settings" else Lane(0, i) for i in range(count)]
    settings = [{"lr": lr} for lr in rates]
    outcome = track.run(
        benchmark,
        f"engine, AdamW, 1,000 {of}",
        count,
        lambda: train(workload, adamw, settings, lanes, way="pointwise", on_step=lambda _: None),
    )
    lane = lanes[700]
    own = train(workload, adamw, [settings[lane.setting]], [Lane(0, lane.seed)], way="alone")
    np.testing.assert_allclose(outcome.losses[700], own.losses[0], rtol=1e-5)


@pytest.mark.serial
def test_finding_out(
    benchmark: BenchmarkFixture, track: Track, workload: Workload, adagrad: Any
) -> None:
    sharing = track.run(
        benchmark,
        "finding out how trials may run, once per optimizer",
        None,
        lambda: decide(workload, adagrad, [SETTING], range(10)),
    )
    assert sharing.way == "pointwise"
