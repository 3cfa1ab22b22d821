"""Lanes on a CUDA device: the CPU's results, no wait in the step loop, times, memory, a whole run.

What needs such a device is marked ``cuda``, and skipped without one. Most of it runs on the CPU
as well, so that there, only the device is new; and where no value can be read at all (torch's
``meta`` device), the step loop shows that it reads none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import pkgutil
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_plan, make_workload
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness import ModuleObjective
from harness.engine import training_loop, ways
from harness.engine.lane_values import NotShareable
from harness.engine.lanes import Lane, Lanes
from harness.engine.loading import load_objective
from harness.engine.recording import Outcome, Recorder
from harness.engine.sharing import decide
from harness.engine.training_loop import TrialError, train
from harness.engine.validate import load_optimizer, unavailable
from harness.engine.workload import Workload, default_dtype, prepare
from harness.objectives.base import Batch, Objective, Parameters
from harness.plan.model import Case, PlannedObjective
from harness.results import Way
from harness.spec.model import CheckSpec, TimingSpec
from harness.spec.validation import load
from harness.store import read
from harness.suite.locate import locate
from harness.suite.shipped import SHIPPED_OBJECTIVES
from harness.timing import counts, timing
from harness.timing.reference_ratio import RatioMeasurement
from harness.timing.timed_case import TimedCase

ROOT = Path(__file__).resolve().parents[2]
PLAN = make_plan(load(ROOT / "benchmarks.yaml"))
WHY_NOT = unavailable("cuda")

CUDA_MARKS = [pytest.mark.cuda, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]
CUDA = pytest.param("cuda", marks=CUDA_MARKS)
on_cuda = pytest.mark.parametrize("device", [CUDA])
on_both = pytest.mark.parametrize("device", ["cpu", CUDA])

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # torch's own way to find waits calls itself a prototype whenever it is used.
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
    # Said once where the backward pass, in a thread of its own, is the first to need cuBLAS.
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS"),
]

LANES_RTOL = {torch.float32: 1e-5, torch.float64: 1e-12}
"""A lane and a run of its own, on one device; losses, relative."""

DEVICES_RTOL = {torch.float32: 1e-5, torch.float64: 1e-10}
"""The same trial on two devices, which round differently."""

TINY = 1e-12
"""What is near 0 because much larger numbers cancel may differ by this."""


def each(names: Iterable[str], on_cpu: Iterable[str]) -> list[Any]:
    """Names with devices: every one on CUDA, some on the CPU."""
    return [
        *((name, "cpu") for name in on_cpu),
        *(pytest.param(name, "cuda", marks=CUDA_MARKS) for name in names),
    ]


def suite_optimizer(name: str) -> Any:
    return load_optimizer(locate(name, ROOT, "optimizers"))


Settings = list[dict[str, Any]]

# The class, what every setting has, and two learning rates on the bowl and on the regression.
SCRATCH: dict[str, tuple[Any, dict[str, Any], tuple[float, float], tuple[float, float]]] = {
    "sgd": (suite_optimizer("SGD"), {}, (0.4, 0.1), (0.05, 0.02)),
    "momentum": (suite_optimizer("Momentum"), {"momentum": 0.5}, (0.4, 0.1), (0.02, 0.01)),
    "adagrad": (suite_optimizer("AdaGrad"), {"eps": 1e-6}, (0.4, 2.0), (0.1, 0.03)),
    "adam": (suite_optimizer("Adam"), {}, (0.4, 0.1), (0.01, 0.003)),
}
OPTIMIZERS = SCRATCH | {
    "torch_adagrad": (torch.optim.Adagrad, {"foreach": False}, (0.4, 2.0), (0.1, 0.03)),
    "torch_adagrad_foreach": (torch.optim.Adagrad, {"foreach": True}, (0.4, 2.0), (0.1, 0.03)),
    "torch_adam_foreach": (torch.optim.Adam, {"foreach": True}, (0.4, 0.1), (0.01, 0.003)),
    "torch_adam_fused": (torch.optim.Adam, {"fused": True}, (0.4, 0.1), (0.01, 0.003)),
}
OBJECTIVES = ("quadratic_2d", "ch7_linreg")
SEEDS = (0, 3, 8)


def chosen(optimizer: str, objective: str) -> tuple[Any, Settings]:
    """An optimizer's class and its two settings for one of the chapter's objectives."""
    factory, common, on_bowl, on_regression = OPTIMIZERS[optimizer]
    rates = on_bowl if objective == "quadratic_2d" else on_regression
    return factory, [{**common, "lr": lr} for lr in rates]


def planned(name: str) -> PlannedObjective:
    return next(p for p in PLAN.objectives if p.name == name)


def planned_workload(name: str, device: str, **changes: Any) -> Workload:
    """One of the chapter's objectives; ``changes`` are of what the spec says of it."""
    changed = dataclasses.replace(planned(name), **changes)
    return prepare(changed, load_objective(changed)[0], device)


def many_epochs(device: str) -> Workload:
    """The regression in three batches an epoch, ten times over."""
    changes = {"batch_size": 500, "epochs": 10, "record_every": 4}
    return planned_workload("ch7_linreg", device, **changes)


def grid(settings: int) -> list[Lane]:
    return [Lane(i, seed) for i in range(settings) for seed in SEEDS]


WAYS: list[tuple[Way, list[Lane]]] = [
    ("pointwise", grid(1)),
    ("vmapped", grid(1)),
    ("alone", [Lane(0, 0)]),
]
"""Each way to run one setting."""


def assert_alike(one: Outcome, other: Outcome, rtol: float) -> None:
    """Hold for losses, divergence, and where there are two parameters, every point."""
    assert one.diverged_at.tolist() == other.diverged_at.tolist()
    np.testing.assert_allclose(one.losses, other.losses, rtol=rtol, atol=TINY)
    for mine, theirs in (
        (one.trajectory, other.trajectory),
        (one.step_sizes, other.step_sizes),
    ):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=TINY)


def lane_of(outcome: Outcome, lane: int) -> Outcome:
    """What became of one lane, as of a run of its own."""

    def one(values: Any) -> Any:
        return None if values is None else values[lane : lane + 1]

    return Outcome(
        one(outcome.diverged_at),
        one(outcome.stopped_at),
        {name: one(values) for name, values in outcome.values.items()},
        one(outcome.trajectory),
        one(outcome.step_sizes),
        outcome.seconds,
        outcome.evaluations,
    )


def wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# Results


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("optimizer", "device"), each(OPTIMIZERS, on_cpu=("adagrad", "torch_adam_fused"))
)
@pytest.mark.parametrize("way", ["pointwise", "vmapped"])
def test_lanes_equal_runs_of_their_own_and_the_cpu_s_results(
    optimizer: str, device: str, objective: str, way: Way
) -> None:
    factory, settings = chosen(optimizer, objective)
    workload = planned_workload(objective, device)
    if "fused" in optimizer:  # its kernel takes one number for all, and nothing of vmap
        with pytest.raises((NotShareable, TrialError)):
            train(workload, factory, settings, grid(2), way=way)
        if way == "vmapped":
            return
        settings = settings[:1]
    lanes = grid(len(settings))
    together = train(workload, factory, settings, lanes, way=way)
    assert np.isfinite(together.losses).all()
    assert (together.losses[:, -1] < together.losses[:, 0]).all()
    for i in (0, len(lanes) - 2):
        own = train(workload, factory, settings, [lanes[i]], way="alone")
        assert_alike(lane_of(together, i), own, LANES_RTOL[workload.dtype])
    here = train(planned_workload(objective, "cpu"), factory, settings, lanes, way=way)
    assert_alike(together, here, DEVICES_RTOL[workload.dtype])


@on_both
@pytest.mark.usefixtures("shared_though_slower")
def test_how_trials_may_share_runs_is_found_out_there_too(device: str) -> None:
    factory, settings = chosen("adagrad", "ch7_linreg")
    sharing = decide(planned_workload("ch7_linreg", device), factory, settings, SEEDS)
    assert (sharing.way, sharing.reason) == ("pointwise", "")
    assert sharing.lane_bytes > 0
    lbfgs = decide(
        planned_workload("quadratic_2d", device), torch.optim.LBFGS, [{"lr": 0.1}], SEEDS
    )
    assert lbfgs.way == "alone"


@on_both
def test_batches_are_the_same_rows_on_every_device_however_many_epochs(device: str) -> None:
    lanes = [Lane(0, 5), Lane(0, 7), Lane(1, 5), Lane(1, 7)]
    there, here = (
        Lanes(many_epochs(place), lanes, stacked=True).batches() for place in (device, "cpu")
    )
    kept = [next(there) for _ in range(30)]  # fetched only after all of them are under way
    for batch in kept:
        for mine, expected in zip(batch, next(here), strict=True):
            assert mine.device.type == device
            assert torch.equal(mine.cpu(), expected)


@on_both
def test_the_same_chunk_gives_the_same_bits_again(device: str) -> None:
    factory, settings = chosen("momentum", "ch7_linreg")
    workload = planned_workload("ch7_linreg", device)

    def once() -> Outcome:
        torch.rand(5, device=device)  # whatever the global generator is at must not matter
        return train(workload, factory, settings, grid(2), way="pointwise")

    assert np.array_equal(once().losses, once().losses)


@on_both
def test_what_diverges_does_so_at_the_same_step_and_ends_a_long_run_early(device: str) -> None:
    factory = suite_optimizer("SGD")
    settings = [{"lr": 0.4}, {"lr": 0.6}]
    lanes = [Lane(0, 0), Lane(1, 0)]
    found = train(
        planned_workload("quadratic_2d", device), factory, settings, lanes, way="pointwise"
    )
    assert found.diverged_at.tolist() == [-1, 20]  # as tests/test_engine.py works out by hand
    taken: list[int] = []
    long = planned_workload("quadratic_2d", device, steps=5000)
    both = [Lane(0, 0), Lane(0, 1)]
    ended = train(long, factory, settings[1:], both, way="pointwise", on_step=taken.append)
    assert 0 < ended.diverged_at[0] < 5000
    assert (
        len(taken)
        == -(-(ended.diverged_at[0] + 1) // training_loop.WATCH_STEPS) * training_loop.WATCH_STEPS
    )


class Heavy(Objective):
    """Work for the device that takes the host next to no time to ask for."""

    def __init__(self, device: str) -> None:
        size = 4096 if device == "cuda" else 256
        self.matrix = torch.full((size, size), 1.0 / size, device=device)

    def init(self, generator: torch.Generator) -> Parameters:
        del generator
        return {"x": torch.ones(())}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        del batch
        product = self.matrix @ self.matrix
        return (params["x"] * product.mean()).square()


@on_both
def test_a_run_s_seconds_are_those_of_the_device(device: str) -> None:
    workload = make_workload(Heavy(device), device=device, steps=40, record_steps=(0, 40))

    def once() -> tuple[float, float]:
        wait_for(device)
        began = time.perf_counter()
        outcome = train(workload, torch.optim.SGD, [{"lr": 0.01}], [Lane(0, 0)], way="alone")
        wait_for(device)
        return outcome.seconds, time.perf_counter() - began

    once()
    told, taken = once()
    assert 0.5 * taken < told <= taken


# Modules


class Net(ModuleObjective):
    """Two inputs, two classes, and between the layers what a test asks for."""

    @staticmethod
    def between() -> nn.Module:
        return nn.Identity()

    def module(self) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 6), self.between(), nn.Tanh(), nn.Linear(6, 2))

    def criterion(self, output: Any, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(output, labels)


class BatchStatistics(Net):
    """Batch norm as training has it."""

    @staticmethod
    def between() -> nn.Module:
        return nn.BatchNorm1d(6)


class KeptStatistics(Net):
    """Batch norm left in evaluation mode: its mean and variance are constants."""

    @staticmethod
    def between() -> nn.Module:
        norm = nn.BatchNorm1d(6)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean += 3
        norm.running_var *= 2
        return norm.eval()


class OwnBuffers(Net):
    """Buffers that are read, one of whole numbers, and a frozen layer."""

    @staticmethod
    def between() -> nn.Module:
        class Shifted(nn.Module):
            shift: torch.Tensor
            order: torch.Tensor

            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("shift", torch.linspace(-1, 1, 6))
                self.register_buffer("order", torch.tensor([5, 3, 1, 0, 2, 4]))

            def forward(self, values: torch.Tensor) -> torch.Tensor:
                return values.index_select(-1, self.order) + self.shift

        return Shifted()

    def module(self) -> nn.Module:
        network = super().module()
        network.get_submodule("0").requires_grad_(False)
        return network


class WrittenBuffer(Net):
    """A running mean that a forward pass writes in place."""

    @staticmethod
    def between() -> nn.Module:
        class Centred(nn.Module):
            mean: torch.Tensor

            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("mean", torch.full((6,), 0.5))

            def forward(self, values: torch.Tensor) -> torch.Tensor:
                self.mean.mul_(0.9).add_(0.1 * values.mean(0).detach())
                return values - self.mean

        return Centred()


def net_workload(make: type[Net], device: str) -> Workload:
    with default_dtype(torch.float64):
        objective = make(locate("spirals", ROOT, "datasets").load()())
    return make_workload(objective, device=device, steps=25, steps_per_epoch=20, batch_size=20)


@on_both
@pytest.mark.parametrize("make", [Net, BatchStatistics, KeptStatistics, OwnBuffers, WrittenBuffer])
def test_a_module_with_buffers_trains_there_as_on_the_cpu(make: type[Net], device: str) -> None:
    settings: Settings = [{"lr": 0.1}]
    there, here = (
        train(net_workload(make, place), torch.optim.SGD, settings, [Lane(0, 4)], way="alone")
        for place in (device, "cpu")
    )
    assert there.losses[0, -1] < there.losses[0, 0]
    assert_alike(there, here, 1e-9)


@on_both
@pytest.mark.usefixtures("shared_though_slower")
@pytest.mark.parametrize("make", [Net, BatchStatistics, KeptStatistics, OwnBuffers])
def test_a_module_with_buffers_runs_side_by_side_there(make: type[Net], device: str) -> None:
    settings: Settings = [{"lr": 0.1}]
    workload = net_workload(make, device)
    sharing = decide(workload, torch.optim.SGD, settings, SEEDS)
    assert (sharing.way, sharing.reason) == ("pointwise", "")
    together = train(workload, torch.optim.SGD, settings, grid(1), way="pointwise")
    for i, lane in enumerate(grid(1)):
        own = train(workload, torch.optim.SGD, settings, [lane], way="alone")
        assert_alike(lane_of(together, i), own, 1e-9)


# Waits


class Waits(TorchDispatchMode):
    """Refuses, while it is told to, whatever makes the host wait for the device.

    On CUDA torch itself does so. On the CPU those operators are refused that would wait there:
    the ones whose result the host has to know, be it only for its size.
    """

    READING = (
        *("_local_scalar_dense", "is_nonzero", "item", "equal", "nonzero", "masked_select"),
        *("unique_dim", "unique_consecutive", "_unique", "_unique2"),
    )

    def __init__(self, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self._refused = False

    def refuse(self, refused: bool) -> None:
        self._refused = refused
        if self.device == "cuda":
            torch.cuda.set_sync_debug_mode("error" if refused else "default")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        name = str(func).split(".")[1]
        by_mask = name.startswith(("index", "_index", "_unsafe_index")) and any(
            isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.bool, torch.uint8)
            for leaf in tree_leaves(args[1:2])
        )
        if self._refused and (by_mask or name in self.READING):
            raise RuntimeError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


def trained_without_waits(
    workload: Workload, factory: Any, settings: Settings, lanes: list[Lane], *, way: Way
) -> list[int]:
    """Train; raises ``TrialError`` if a step waits for the device, be it the first or the last.

    Before the first step, and when it looks at its losses, the loop may wait. Gives the number
    of losses at each look, of which there is one every eight steps.
    """
    waits = Waits(workload.device.type)
    looks: list[int] = []
    look = Recorder.look

    def allowed(recorder: Recorder) -> None:
        looks.append(len(recorder._watched))
        waits.refuse(False)
        look(recorder)
        waits.refuse(True)

    def on_step(step: int) -> None:
        if step == 1:
            waits.refuse(True)

    begin = ways.Surroundings.__init__

    def as_elsewhere(around: ways.Surroundings, leaves: Any) -> None:
        begin(around, leaves)
        around._may_wait = False  # as on any device but the CPU

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways.Surroundings, "__init__", as_elsewhere)
        patch.setattr(training_loop, "WATCH_STEPS", 8)
        patch.setattr(Recorder, "look", allowed)
        patch.setattr(Recorder, "outcome", lambda *_: None)  # which fetches everything
        try:
            with contextlib.nullcontext() if waits.device == "cuda" else waits:
                train(workload, factory, settings, lanes, way=way, on_step=on_step)
        finally:
            waits.refuse(False)
    return looks


# On the CPU, torch's own count their steps in a tensor and read it: of the host, so no wait.
@pytest.mark.parametrize("way", ["pointwise", "vmapped", "alone"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("optimizer", "device"), each(OPTIMIZERS, on_cpu=SCRATCH))
def test_no_step_waits_for_the_device(
    optimizer: str, device: str, objective: str, way: Way
) -> None:
    factory, settings = chosen(optimizer, objective)
    if objective == "quadratic_2d":
        workload = planned_workload(objective, device, steps=29)
    else:
        workload = many_epochs(device)
        workload = dataclasses.replace(workload, steps=29, record_steps=(*range(0, 29, 4), 29))
    lanes = [Lane(0, 3)] if way == "alone" else grid(len(settings))
    looks = trained_without_waits(workload, factory, settings, lanes, way=way)
    assert looks == [8, 8, 8, 5]


def shipped(name: str, device: str) -> Workload:
    """Ten steps of an objective that ships, where there are data in eight batches an epoch."""
    table = locate("airfoil", ROOT, "datasets").load()()
    with_data: dict[str, dict[str, Any]] = {
        "linear_regression": {"dataset": table},
        "logistic_regression": {"dataset": table, "threshold": "median"},
        "multilayer_perceptron": {"dataset": table},
        "convolutional_network": {"dataset": locate("digits", ROOT, "datasets").load()()},
        "causal_transformer": {"dataset": locate("alice", ROOT, "datasets").load()()["train"]},
        "noisy_quadratic": {"rows": 1500},
    }
    objective = pkgutil.resolve_name(SHIPPED_OBJECTIVES[name])(**with_data.get(name, {}))
    batches: dict[str, Any] = {} if objective.data is None else {"batch_size": 200}
    return make_workload(objective, device=device, steps=10, **batches)


@on_both
@pytest.mark.parametrize("name", SHIPPED_OBJECTIVES)
def test_no_objective_that_ships_waits_for_the_device(name: str, device: str) -> None:
    for way, lanes in WAYS:
        sgd: Settings = [{"lr": 1e-6}]
        workload = shipped(name, device)
        trained_without_waits(workload, suite_optimizer("SGD"), sgd, lanes, way=way)


@on_both
@pytest.mark.parametrize("make", [BatchStatistics, KeptStatistics, OwnBuffers])
def test_no_module_s_constants_are_waited_for(make: type[Net], device: str) -> None:
    workload = net_workload(make, device)
    for way, lanes in WAYS:
        sgd: Settings = [{"lr": 0.1}]
        trained_without_waits(workload, suite_optimizer("SGD"), sgd, lanes, way=way)


class Reads(torch.optim.SGD):
    """Looks at its gradient at the third step."""

    taken = 0

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.taken += 1
        if self.taken == 3:
            assert float(self.param_groups[0]["params"][0].grad.norm()) >= 0
        return loss


@on_both
def test_a_step_that_does_wait_is_found(device: str) -> None:
    workload = planned_workload("quadratic_2d", device)
    for way, lanes in WAYS:
        with pytest.raises(TrialError if way == "alone" else NotShareable) as caught:
            trained_without_waits(workload, Reads, [{"lr": 0.1}], lanes, way=way)
        assert not isinstance(caught.value, TrialError) or caught.value.step == 3


class Sent(TorchDispatchMode):
    """Counts the tensors that are sent from the CPU to elsewhere."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        if str(func).split(".")[1] in ("_to_copy", "copy_"):
            tensors = [t for t in tree_leaves(args) if isinstance(t, torch.Tensor)]
            source = tensors[-1].device.type if tensors else ""  # of a plain number
            self.count += source == "cpu" and result.device.type != "cpu"
        return result


def sent_in_the_loop(
    workload: Workload, factory: Any, settings: Settings, lanes: list[Lane], *, way: Way
) -> int:
    """How many tensors go to a device without values from the first step on, in all steps."""
    sent = Sent()
    before: list[int] = []
    # That nothing can be fetched is said at the very end, and not as a trial's error.
    with pytest.raises((NotImplementedError, RuntimeError), match="meta") as caught, sent:
        train(
            workload,
            factory,
            settings,
            lanes,
            way=way,
            on_step=lambda _: before.append(sent.count),
        )
    assert not isinstance(caught.value, TrialError)
    assert len(before) == workload.steps
    return sent.count - before[0]


@pytest.mark.parametrize("way", ["pointwise", "vmapped", "alone"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    "optimizer",
    [
        "momentum",
        *(pytest.param(o, marks=pytest.mark.exhaustive) for o in SCRATCH if o != "momentum"),
    ],
)
def test_steps_run_where_no_value_can_be_read_and_an_epoch_s_batches_are_sent_at_once(
    optimizer: str, objective: str, way: Way
) -> None:
    factory, settings = chosen(optimizer, objective)
    if objective == "quadratic_2d":
        workload, epochs = planned_workload(objective, "meta"), 1
    else:
        workload, epochs = many_epochs("meta"), 10
    lanes = [Lane(0, 0)] if way == "alone" else grid(2)
    sent = sent_in_the_loop(workload, factory, settings, lanes, way=way)
    # Where settings differ, so do numbers that are computed from them, anew in each step.
    vectors = 0 if way == "alone" else (3 if optimizer == "adam" else 1) * workload.steps
    assert epochs - 1 <= sent <= epochs - 1 + vectors


@pytest.mark.parametrize(
    "way",
    [
        "vmapped",
        *(pytest.param(way, marks=pytest.mark.exhaustive) for way in ("pointwise", "alone")),
    ],
)
@pytest.mark.parametrize("name", SHIPPED_OBJECTIVES)
def test_no_objective_that_ships_sends_anything_in_its_steps(name: str, way: Way) -> None:
    workload = shipped(name, "meta")
    epochs = 1 if workload.data is None else 2
    lanes = [Lane(0, 0)] if way == "alone" else grid(1)
    sent = sent_in_the_loop(workload, suite_optimizer("SGD"), [{"lr": 1e-6}], lanes, way=way)
    assert sent == epochs - 1


# Times and memory


def timed_case(objective: str, device: str, optimizer: str = "adagrad") -> TimedCase:
    factory, settings = chosen(optimizer, objective)
    known = next(c for c in PLAN.cases if c.objective.name == objective)
    case = Case(
        **{
            **vars(known),
            "optimizer": optimizer,
            "hyperparameters": settings[0],
            "device": device,
            "key": optimizer,
        }
    )
    return TimedCase(case, planned_workload(objective, device), factory, 0)


@on_both
def test_the_clock_of_a_block_agrees_with_waiting_by_hand(device: str) -> None:
    size, count = (2000, 100) if device == "cuda" else (300, 50)
    matrix = torch.full((size, size), 1.0 / size, device=device)

    def work() -> None:
        for _ in range(count):
            matrix @ matrix

    watch = timing.Stopwatch(torch.device(device))
    shares = []
    for _ in range(6):
        wait_for(device)
        began = time.perf_counter()
        with watch:
            work()
        wait_for(device)
        by_hand = time.perf_counter() - began
        assert 0 < watch.block.wall <= 1.05 * by_hand + 1e-4
        shares.append(watch.block.wall / by_hand)
    assert float(np.median(shares[1:])) > 0.4


@on_cuda
def test_the_clock_of_a_block_goes_on_until_the_device_is_done(device: str) -> None:
    matrix = torch.full((4000, 4000), 1.0 / 4000, device=device)

    def work() -> None:
        for _ in range(50):
            matrix @ matrix

    work()
    matrix.sum()
    watch = timing.Stopwatch(torch.device(device))
    with watch:
        began = time.perf_counter()
        work()
        asked = time.perf_counter() - began
    whole = watch.block.wall
    assert whole > 2 * asked
    work()  # what is still under way when a block begins is none of its time
    with watch:
        matrix.sum()
    assert watch.block.wall < whole / 4


@on_both
def test_cases_are_timed_against_each_other_and_their_steps_counted(device: str) -> None:
    names = ("adagrad", "torch_adagrad", "torch_adagrad_foreach", "torch_adam_fused")
    cases = [timed_case("ch7_linreg", device, name) for name in names]
    known = {"rounds": 5, "warmup_rounds": 1, "block_steps": 20, "seconds": 60.0}
    timings, failures = timing.time_cases(cases, TimingSpec.model_validate(known), lambda _: None)
    assert not failures
    assert [found.case_key for found in timings] == [*names]
    for found in timings:
        assert (found.steps, found.steps_per_epoch, len(found.seconds)) == (20, 150, 5)
        assert (found.seconds > 0).all()
        assert found.counts is not None
        assert min(found.counts.operators, found.counts.calls) > 0
        assert (found.peak_bytes is not None) == (device == "cuda")
        assert found.peak_bytes is None or found.peak_bytes > 1500 * 6 * 4  # the data at least


class Tall(Objective):
    """The mean of squares of many rows."""

    COLUMNS = 8

    def __init__(self, rows: int) -> None:
        self.data = (torch.ones(rows, self.COLUMNS),)

    def init(self, generator: torch.Generator) -> Parameters:
        del generator
        return {"x": torch.zeros(self.COLUMNS)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        residuals: torch.Tensor = params["x"] - batch[0]
        return residuals.square().mean()


@on_both
def test_the_peak_of_memory_is_known_on_a_gpu_and_grows_with_the_data(device: str) -> None:
    def peak(rows: int) -> int | None:
        gc.collect()
        timed = timed_case("quadratic_2d", device)
        workload = make_workload(Tall(rows), device=device)
        return timing._peak_bytes(dataclasses.replace(timed, workload=workload))

    if device == "cpu":
        assert peak(1000) is None
        return
    peak(1000)  # what is made once and stays, such as a library's workspace, is made here
    few, many = peak(1000), peak(1_000_000)
    assert few is not None
    assert many is not None
    data = 1_000_000 * Tall.COLUMNS * 8
    assert few > 1000 * Tall.COLUMNS * 8
    assert 2 * data < many - few < 10 * data  # the data, the residuals and what they lead to


@on_cuda
def test_the_peak_is_of_what_runs_and_forgets_what_ran_before(device: str) -> None:
    def hold(size: int) -> Callable[[], None]:
        def run() -> None:
            torch.empty(size, dtype=torch.uint8, device=device)

        return run

    place = torch.device(device)
    gc.collect()
    large = counts.peak_bytes(place, hold(2**28))
    small = counts.peak_bytes(place, hold(2**20))
    assert large is not None
    assert small is not None
    assert large - small == 2**28 - 2**20


@on_both
def test_the_check_measures_there_against_the_reference_by_the_right_clock(device: str) -> None:
    spec = CheckSpec.model_validate({"rounds": 20, "block_steps": 5, "seconds": 20})
    cells = [timed_case("ch7_linreg", device), timed_case("quadratic_2d", device, "sgd")]
    measurement = RatioMeasurement(cells, spec, threads=1, on_step=lambda _: None)
    measurement.rounds(20)
    found = measurement.result()
    assert not found.failures
    for pairs in found.cells.values():
        assert pairs.clock == ("cpu" if device == "cpu" else "wall")
        assert len(pairs.cell) == len(pairs.reference) == 20
        assert min(*pairs.cell, *pairs.reference) > 0
        assert 0.05 < pairs.ratio < 50


# A whole run

SPEC = """\
suite: devices
seeds: 3
devices: [{devices}]
timing: {{rounds: 3, warmup_rounds: 1, block_steps: 5, seconds: 200}}
objectives:
  quadratic_2d: {{steps: 20, dtype: float64}}
  line: {{class: linear_regression, dataset: airfoil, batch_size: 100, epochs: 2}}
optimizers:
  adagrad: {{class: AdaGrad, hyperparameters: {{lr: [0.1, 0.4]}}}}
  torch_adagrad: {{class: "torch.optim:Adagrad", hyperparameters: {{lr: 0.1}}}}
  lbfgs: {{class: "torch.optim:LBFGS", hyperparameters: {{lr: 0.1, max_iter: 2}}}}
"""


@on_both
def test_a_device_that_is_missing_is_said_to_be(device: str) -> None:
    assert unavailable("cuda:63")
    if device == "cuda":
        count = torch.cuda.device_count()
        assert not unavailable("cuda")
        assert not unavailable(f"cuda:{count - 1}")
        assert unavailable(f"cuda:{count}").startswith(f"this machine has {count} cuda device")


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.exhaustive), CUDA])
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_on_every_device_makes_a_report(device: str, tmp_path: Path) -> None:
    devices = list(dict.fromkeys(["cpu", device, "cuda:63"]))
    for section in ("optimizers", "datasets"):
        shutil.copytree(ROOT / section, tmp_path / section)
    (tmp_path / "spec.yaml").write_text(SPEC.format(devices=", ".join(devices)))
    out = tmp_path / "out"
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "harness", "run"),
            *(str(tmp_path / "spec.yaml"), "-o", str(out)),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cuda:63" in (out / "index.html").read_text(encoding="utf-8")
    results = read.read(out / "results.sqlite")
    levels = ["device", "objective", "optimizer", "setting", "seed"]
    trials = results.trials.set_index(levels).sort_index()
    assert len(trials) == len(devices) * 2 * 4 * 3
    failed = trials[trials["status"] != "ok"]
    assert set(failed.index.get_level_values("device")) == {"cuda:63"}, failed.to_string()
    gone = trials.loc["cuda:63"]
    assert set(gone["status"]) == {"unavailable"}
    assert set(gone["reason"]) == {unavailable("cuda:63")}
    there, here = trials.loc[device], trials.loc["cpu"]
    # Which of them are faster side by side depends on the device.
    ways = there.groupby("optimizer")["way"].agg(set).to_dict()
    assert ways.pop("lbfgs") == {"alone"}
    assert set().union(*ways.values()) <= {"pointwise", "alone"}
    np.testing.assert_allclose(
        there["final_loss"].to_numpy(), here["final_loss"].to_numpy(), rtol=1e-4, atol=TINY
    )
    timed = {results.cases[int(p)].device for p in results.timings["position"].unique()}
    assert timed == {"cpu", device}
    positions = results.step_counts["position"].astype(int)
    on = [results.cases[p].device for p in positions]
    known = results.step_counts["peak_bytes"].notna().to_numpy()
    assert [bool(k) for k in known] == [d == "cuda" for d in on]
