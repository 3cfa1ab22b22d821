"""Modules as objectives: the same as torch's own loop, alone or side by side, and no leaks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from builders import make_plan, make_workload
from torch import nn

from harness import ModuleObjective
from harness.engine.lanes import Lane
from harness.engine.loading import load_objective
from harness.engine.recording import Outcome
from harness.engine.sharing import decide
from harness.engine.training_loop import train
from harness.engine.workload import (
    BATCH_STREAM,
    INIT_STREAM,
    Workload,
    generator,
    prepare,
)
from harness.objectives.base import Parameters
from harness.objectives.dataset import Dataset
from harness.spec.validation import load
from harness.suite.locate import locate

pytestmark = pytest.mark.usefixtures("shared_though_slower")

ROOT = Path(__file__).resolve().parents[2]
airfoil = locate("airfoil", ROOT, "datasets").load()
spirals = locate("spirals", ROOT, "datasets").load()
SGD = [{"lr": 0.1}]
LANES = [Lane(0, seed) for seed in range(3)]

SMALL_NET = """\
from torch import nn

from harness import ModuleObjective


class SmallNet(ModuleObjective):
    def module(self):
        return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))

    def criterion(self, output, labels):
        return nn.functional.mse_loss(output.squeeze(-1), labels)
"""


class Classifier(ModuleObjective):
    """Two inputs, two classes, and between the layers what a test asks for."""

    between: ClassVar[Any] = nn.Identity

    def module(self) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 6), self.between(), nn.Tanh(), nn.Linear(6, 2))

    def criterion(self, output: Any, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(output, labels)


class WithDropout(Classifier):
    between = staticmethod(lambda: nn.Dropout(0.3))


class WithBatchNorm(Classifier):
    between = staticmethod(lambda: nn.BatchNorm1d(6))


class WritesItsBuffer(nn.Module):
    """Subtracts a running mean that it keeps in a buffer."""

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.mean.mul_(0.9).add_(0.1 * values.mean(0).detach())
        return values - self.mean


class WithBuffer(Classifier):
    between = WritesItsBuffer


def in_twenties(
    objective: ModuleObjective, dtype: torch.dtype = torch.float64, steps: int = 25
) -> Workload:
    """A workload in batches of twenty rows."""
    return make_workload(
        objective,
        dtype=dtype,
        steps=steps,
        steps_per_epoch=20,
        batch_size=20,
        divergence_factor=1e6,
    )


def alone(workload: Workload, seed: int) -> Outcome:
    return train(workload, torch.optim.SGD, SGD, [Lane(0, seed)], way="alone")


@pytest.fixture(autouse=True)
def _double_precision_on_one_thread() -> Iterator[None]:
    """As the harness sets it around what an objective makes."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


@pytest.mark.usefixtures("shared_though_slower")
def test_the_example_runs_from_a_suite_file_and_shares_runs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "small_net.py").write_text(SMALL_NET)
    (tmp_path / "s.yaml").write_text(
        "suite: s\nseeds: 3\nobjectives:\n"
        "  net: {class: SmallNet, dataset: airfoil, batch_size: 100, epochs: 2, record_every: 1}\n"
        "optimizers:\n  sgd: {class: 'torch.optim:SGD', hyperparameters: {lr: 0.1}}\n"
    )
    (planned,) = make_plan(load(tmp_path / "s.yaml")).objectives
    objective, source = load_objective(planned)
    assert objective.formula == "SmallNet: Sequential of 113 parameters"
    assert "RP-1218" in source
    workload = prepare(planned, objective, "cpu")
    sharing = decide(workload, torch.optim.SGD, [{"lr": 0.1}, {"lr": 0.2}], [0, 1, 2])
    assert (sharing.way, sharing.reason) == ("pointwise", "")
    losses = train(workload, torch.optim.SGD, SGD, LANES, way="pointwise").losses
    assert losses.shape == (3, 31)
    assert (losses[:, -1] < 0.9 * losses[:, 0]).all()
    assert len(set(losses[:, 0])) == 3


def test_a_trial_equals_torch_s_own_training_loop_with_dropout_and_all() -> None:
    """The loop as a tutorial has it: module in training mode, optimizer over its parameters."""
    objective = WithDropout(spirals())
    outcome = alone(in_twenties(objective), 4)

    seed = int(torch.randint(2**32, (), generator=generator(4, INIT_STREAM)))
    torch.manual_seed(seed)
    network = objective.module()
    x, y = objective.data or ()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    batches, expected = generator(4, BATCH_STREAM), []
    torch.manual_seed(2**31 + 4)  # where the seeds of torch's global numbers begin
    order = torch.empty(0, dtype=torch.int64)
    for step in range(26):
        network.eval()
        with torch.no_grad():
            expected.append(nn.functional.cross_entropy(network(x), y).item())
        network.train()
        if step % 20 == 0:
            order = torch.randperm(400, generator=batches)
        rows = order[step % 20 * 20 :][:20]
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()
    np.testing.assert_allclose(outcome.losses[0], expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [Classifier, WithBatchNorm])
def test_lanes_equal_runs_of_their_own(make: type[Classifier], dtype: torch.dtype) -> None:
    workload = in_twenties(make(spirals()), dtype)
    together = train(workload, torch.optim.SGD, SGD, LANES, way="pointwise").losses
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    for lane in LANES:
        np.testing.assert_allclose(
            together[lane.seed], alone(workload, lane.seed).losses[0], tolerance
        )


def test_the_start_is_the_module_s_own_and_leaves_the_global_generator_alone() -> None:
    objective = WithDropout(spirals())
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    starts = [objective.init(generator(seed, INIT_STREAM)) for seed in (0, 0, 1)]
    WithDropout(spirals())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(starts[0]) == [name for name, _ in objective.module().named_parameters()]
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])
    assert not any(torch.equal(starts[0][name], starts[2][name]) for name in starts[0])
    torch.manual_seed(8)  # which must not matter
    again = objective.init(generator(0, INIT_STREAM))
    assert all(torch.equal(starts[0][name], again[name]) for name in again)
    assert starts[0]["0.weight"].abs().max() <= 1 / np.sqrt(2)


@pytest.mark.parametrize("make", [WithDropout, WithBatchNorm, WithBuffer])
def test_a_seed_gives_the_same_bits_whatever_ran_before(make: type[Classifier]) -> None:
    workload = in_twenties(make(spirals()))
    first = alone(workload, 0).losses
    other = alone(workload, 1).losses
    torch.rand(3)
    assert np.array_equal(alone(workload, 0).losses, first)
    assert np.array_equal(alone(in_twenties(make(spirals())), 1).losses, other)
    assert np.isfinite(first).all()


def test_dropout_is_in_training_and_not_in_what_is_recorded() -> None:
    objective = WithDropout(spirals())
    batch = objective.data
    params = objective.init(generator(0, INIT_STREAM))
    assert len({float(objective.loss(params, batch)) for _ in range(5)}) == 5
    assert len({float(objective.evaluate(params, batch)) for _ in range(5)}) == 1
    plain = Classifier(spirals())
    renamed = dict(zip(plain.init(generator(0, INIT_STREAM)), params.values(), strict=True))
    assert float(objective.evaluate(params, batch)) == float(plain.loss(renamed, batch))


@pytest.mark.usefixtures("shared_though_slower")
def test_what_draws_random_numbers_shares_runs() -> None:
    class Noisy(Classifier):
        def criterion(self, output: Any, labels: torch.Tensor) -> torch.Tensor:
            return super().criterion(output + torch.randn_like(output), labels)

    for objective in (WithDropout(spirals()), Noisy(spirals())):
        sharing = decide(in_twenties(objective), torch.optim.SGD, SGD, [0, 1, 2])
        # What is drawn in evaluation as well belongs to no trial.
        way = "pointwise" if isinstance(objective, WithDropout) else "alone"
        assert sharing.way == way, sharing.reason


def test_what_can_not_be_drawn_side_by_side_runs_alone_and_the_reason_names_it() -> None:
    class Leaky(Classifier):
        between = staticmethod(lambda: nn.RReLU())

    sharing = decide(in_twenties(Leaky(spirals())), torch.optim.SGD, SGD, [0, 1, 2])
    assert sharing.way == "alone"
    assert "torch.func.vmap can't take module Sequential" in sharing.reason
    assert "rrelu" in sharing.reason


@pytest.mark.usefixtures("shared_though_slower")
def test_what_training_writes_is_kept_by_each_trial_and_not_by_the_objective() -> None:
    objective = WithBuffer(spirals())
    workload = in_twenties(objective)
    assert decide(workload, torch.optim.SGD, SGD, [0, 1, 2]).way == "pointwise"
    params = objective.init(generator(0, INIT_STREAM))
    state = objective.state(generator(0, INIT_STREAM))
    assert set(state) == {"1.mean"}  # nobody counts the calls
    values = [float(objective.loss(params, objective.data)) for _ in range(3)]
    assert len(set(values)) == 1  # what one call wrote, the next doesn't see
    values = [float(objective.loss(params | state, objective.data)) for _ in range(3)]
    assert len(set(values)) == 3
    kept = state["1.mean"].clone()
    assert float(kept.abs().max()) > 0
    for _ in range(2):
        objective.measure(params | state, objective.data)
    assert torch.equal(state["1.mean"], kept)  # though this module writes in evaluation too


def test_a_buffer_that_is_written_at_times_is_told_of() -> None:
    class Seldom(nn.Module):
        """Writes where features are large, which the first rows are not."""

        largest: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("largest", torch.zeros(()))

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            if values.max() > 50:
                self.largest.copy_(values.max())
            return values

    class Network(Given):
        given = staticmethod(lambda: nn.Sequential(Seldom(), nn.Linear(2, 2)))

    data = Dataset(np.linspace(-1, 100, 80).reshape(40, 2), np.arange(40) % 2)
    objective = Network(data)
    params = objective.init(generator(0, INIT_STREAM))
    assert objective.data is not None
    x, y = objective.data
    first = float(objective.loss(params, (x[:5], y[:5])))
    with pytest.raises(RuntimeError, match=r"writes its buffer '0\.largest' in some steps"):
        objective.loss(params, (x, y))
    assert float(objective.loss(params, (x[:5], y[:5]))) == first


@pytest.mark.usefixtures("shared_though_slower")
def test_batch_norm_is_evaluated_with_running_statistics_or_those_of_all_rows() -> None:
    class OfAllRows(Classifier):
        between = staticmethod(lambda: nn.BatchNorm1d(6, track_running_stats=False))

    for objective in (WithBatchNorm(spirals()), OfAllRows(spirals())):
        sharing = decide(in_twenties(objective), torch.optim.SGD, SGD, [0, 1, 2])
        assert (sharing.way, sharing.reason) == ("pointwise", "")
        x, y = objective.data or ()
        params = objective.init(generator(0, INIT_STREAM))
        state = objective.state(generator(0, INIT_STREAM))
        hidden = x @ params["0.weight"].T + params["0.bias"]
        mean, variance = hidden.mean(0), hidden.var(0, correction=0)

        def output(
            mean: torch.Tensor,
            variance: torch.Tensor,
            params: Parameters = params,
            hidden: torch.Tensor = hidden,
        ) -> torch.Tensor:
            scaled = (hidden - mean) / (variance + 1e-5).sqrt()
            inner = torch.tanh(scaled * params["1.weight"] + params["1.bias"])
            return inner @ params["3.weight"].T + params["3.bias"]

        of_batch = nn.functional.cross_entropy(output(mean, variance), y)
        torch.testing.assert_close(objective.loss(params | state, (x, y)), of_batch)
        if state:
            mean, variance = 0.1 * mean, 0.9 + 0.1 * hidden.var(0)
        found = objective.measure(params | state, (x, y))
        expected = output(mean, variance)
        torch.testing.assert_close(found["loss"], nn.functional.cross_entropy(expected, y))
        right = (expected.argmax(1) == y).double().mean()
        assert float(found["accuracy"]) == float(right)
        torch.testing.assert_close(objective.evaluate(params | state, (x, y)), found["loss"])


def test_batch_norm_left_in_evaluation_mode_keeps_its_statistics() -> None:
    class Settled(Classifier):
        @staticmethod
        def between() -> nn.Module:
            norm = nn.BatchNorm1d(6)
            assert norm.running_mean is not None
            norm.running_mean += 3
            return norm.eval()

    objective = Settled(spirals())
    params = objective.init(generator(0, INIT_STREAM))
    x, y = objective.data or ()
    hidden = (x @ params["0.weight"].T + params["0.bias"] - 3) / np.sqrt(1 + 1e-5)
    hidden = torch.tanh(hidden * params["1.weight"] + params["1.bias"])
    expected = nn.functional.cross_entropy(hidden @ params["3.weight"].T + params["3.bias"], y)
    torch.testing.assert_close(objective.loss(params, (x, y)), expected)
    torch.testing.assert_close(objective.evaluate(params, (x, y)), expected)


class Tied(ModuleObjective):
    """An autoencoder of sorts: the way back uses the weights of the way there."""

    def module(self) -> nn.Module:
        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.there = nn.Linear(2, 2, bias=False)
                self.back = nn.Linear(2, 2, bias=False)
                self.back.weight = self.there.weight

            def forward(self, values: torch.Tensor) -> torch.Tensor:
                out: torch.Tensor = self.back(self.there(values))
                return out

        return Network()

    def criterion(self, output: Any, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(output, labels)


@pytest.mark.usefixtures("shared_though_slower")
def test_a_tied_parameter_is_one_and_its_gradient_comes_from_both_places() -> None:
    objective = Tied(spirals())
    params = objective.init(generator(0, INIT_STREAM))
    assert list(params) == ["there.weight"]
    x, y = objective.data or ()
    weight = params["there.weight"].clone().requires_grad_()
    nn.functional.cross_entropy(x @ weight.T @ weight.T, y).backward()
    slope = torch.func.grad(objective.loss)(params, (x, y))["there.weight"]
    torch.testing.assert_close(slope, weight.grad)
    assert decide(in_twenties(objective), torch.optim.SGD, SGD, [0, 1]).way == "pointwise"


@pytest.mark.usefixtures("shared_though_slower")
def test_frozen_parameters_are_constant_and_not_optimised() -> None:
    class Frozen(Classifier):
        def module(self) -> nn.Module:
            network = super().module()
            network.get_submodule("0").requires_grad_(False)
            return network

    objective = Frozen(spirals())
    starts = [objective.init(generator(seed, INIT_STREAM)) for seed in (0, 1)]
    assert list(starts[0]) == ["3.weight", "3.bias"]
    assert objective.formula == "Frozen: Sequential of 14 parameters"
    workload = in_twenties(objective)
    assert decide(workload, torch.optim.SGD, SGD, [0, 1]).way == "pointwise"
    # Without a trial's own, which is drawn: always the same first layer.
    assert float(objective.loss(starts[0], objective.data)) == float(
        Frozen(spirals()).loss(starts[0], objective.data)
    )
    losses = alone(workload, 0).losses[0]
    assert losses[-1] < losses[0]
    lower = in_twenties(objective, torch.float32)
    assert np.isfinite(alone(lower, 0).losses).all()


def test_a_subclass_may_take_arguments() -> None:
    class Sized(Classifier):
        def __init__(self, dataset: Dataset, width: int = 3) -> None:
            self.width = width
            super().__init__(dataset)

        def module(self) -> nn.Module:
            return nn.Sequential(nn.Linear(2, self.width), nn.ReLU(), nn.Linear(self.width, 2))

    assert Sized(spirals(), width=5).init(torch.Generator())["0.weight"].shape == (5, 2)


def test_labels_are_whole_numbers_or_real_as_the_dataset_has_them() -> None:
    for table, dtype in ((spirals(), torch.int64), (airfoil(), torch.float64)):
        data = Classifier(table).data
        assert data is not None
        assert data[1].dtype == dtype
    few = Dataset(np.zeros((2, 2)), np.array([0, 1], dtype=np.int32), ("a", "b"), "c", "")
    data = Classifier(few).data
    assert data is not None
    assert data[1].dtype == torch.int64


class Given(Classifier):
    """A module that a test passes in."""

    given: ClassVar[Any]

    def module(self) -> Any:
        return self.given()


def frozen() -> nn.Module:
    return nn.Linear(2, 2).requires_grad_(False)


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (nn.Tanh, ValueError, "module Tanh has no parameters to optimise: it has none"),
        (frozen, ValueError, "module Linear has no parameters to optimise: all of its"),
        (lambda: nn.LazyLinear(2), ValueError, r"without a shape \(weight, bias\)"),
        (lambda: 3, TypeError, r"module\(\) must return a torch.nn.Module, got 3"),
    ],
)
def test_a_module_that_cannot_be_trained_is_refused_by_name(
    given: Any, kind: type[Exception], message: str
) -> None:
    class Mine(Given):
        pass

    Mine.given = staticmethod(given)
    with pytest.raises(kind, match=message):
        Mine(spirals())


def test_an_error_in_a_run_of_its_own_is_the_module_s() -> None:
    class Narrow(Classifier):
        def module(self) -> nn.Module:
            return nn.Linear(3, 2)

    sharing = decide(in_twenties(Narrow(spirals())), torch.optim.SGD, SGD, [0, 1])
    assert sharing.way == "alone"
    assert sharing.reason.startswith("a trial alone fails: mat1 and mat2 shapes")
