"""The training loop against independent implementations, and lanes against runs of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_plan, make_workload

from harness.engine.lanes import Lane, Lanes
from harness.engine.loading import load_objective
from harness.engine.recording import Outcome
from harness.engine.training_loop import TrialError, train
from harness.engine.validate import load_optimizer
from harness.engine.workload import (
    BATCH_STREAM,
    INIT_STREAM,
    Workload,
    describe,
    generator,
    prepare,
)
from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.quadratic_2d import Quadratic2D
from harness.plan.model import Plan
from harness.seeds import SEED_LIMIT
from harness.spec.validation import load
from harness.suite.locate import locate

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]
RELATIVE = {torch.float32: 1e-6, torch.float64: 1e-12}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load(ROOT / "benchmarks.yaml"))


def suite_optimizer(name: str) -> Any:
    return load_optimizer(locate(name, ROOT, "optimizers"))


def planned_workload(plan: Plan, name: str, dtype: torch.dtype | None = None) -> Workload:
    planned = next(p for p in plan.objectives if p.name == name)
    if dtype is not None:
        planned = type(planned)(**{**vars(planned), "dtype": str(dtype).removeprefix("torch.")})
    return prepare(planned, load_objective(planned)[0], "cpu")


def lanes_of(seeds: Sequence[int], settings: int = 1) -> list[Lane]:
    return [Lane(i, seed) for i in range(settings) for seed in seeds]


class Plane(Objective):
    """Least squares on seven rows, with a random start: small enough to follow by hand."""

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        self.data = (torch.from_numpy(random.normal(size=(7, 2))), torch.arange(7.0).double())

    def init(self, generator: torch.Generator) -> Parameters:
        return {"w": torch.randn(2, generator=generator, dtype=torch.float64)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        x, y = batch
        residuals: torch.Tensor = x @ params["w"] - y
        return residuals.square().mean()


def test_minibatch_sgd_equals_an_independent_numpy_loop() -> None:
    workload = make_workload(Plane(), steps=9, batch_size=3, steps_per_epoch=3)
    outcome = train(workload, suite_optimizer("SGD"), [{"lr": 0.05}], [Lane(0, 11)], way="alone")

    x, y = (tensor.numpy() for tensor in Plane().data or ())
    w = torch.randn(2, generator=generator(11, INIT_STREAM), dtype=torch.float64).numpy()
    batches = generator(11, BATCH_STREAM)
    expected = [np.mean((x @ w - y) ** 2)]
    for _ in range(3):
        order = torch.randperm(7, generator=batches).numpy()
        for rows in (order[:3], order[3:6], order[6:]):  # the last batch has what is left
            w = w - 0.05 * 2 * x[rows].T @ (x[rows] @ w - y[rows]) / len(rows)
            expected.append(np.mean((x @ w - y) ** 2))
    np.testing.assert_allclose(outcome.losses[0], expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("objective", ["quadratic_2d", "ch7_linreg"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adagrad", "torch_adagrad"])
def test_lanes_equal_runs_of_their_own_for_every_optimizer_and_objective_that_ships(
    plan: Plan, optimizer: str, objective: str, dtype: torch.dtype
) -> None:
    cases = [
        case
        for case in plan.cases
        if (case.optimizer, case.objective.name, case.device) == (optimizer, objective, "cpu")
    ]
    settings = [case.hyperparameters for case in cases]
    factory = load_optimizer(cases[0].located)
    workload = planned_workload(plan, objective, dtype)
    seeds = [0, 3, 8]
    together = train(workload, factory, settings, lanes_of(seeds, len(settings)), way="pointwise")
    for i, lane in enumerate(lanes_of(seeds, len(settings))):
        own = train(workload, factory, settings, [lane], way="alone")
        np.testing.assert_allclose(together.losses[i], own.losses[0], rtol=RELATIVE[dtype])
        if own.trajectory is not None and together.trajectory is not None:
            scale = np.abs(own.trajectory[0]).max()
            difference = np.abs(together.trajectory[i] - own.trajectory[0]).max()
            assert difference <= RELATIVE[dtype] * scale


def test_a_lane_does_not_depend_on_how_many_others_ran_beside_it(plan: Plan) -> None:
    workload = planned_workload(plan, "ch7_linreg")
    factory = suite_optimizer("AdaGrad")
    few, many = (
        train(workload, factory, [{"lr": 0.1}], lanes_of(range(n)), way="pointwise").losses
        for n in (2, 37)
    )
    np.testing.assert_allclose(few, many[:2], rtol=1e-6)


def test_the_same_chunk_gives_the_same_bits_again(plan: Plan) -> None:
    workload = planned_workload(plan, "ch7_linreg")
    factory = suite_optimizer("Momentum")
    setting = {"lr": 0.02, "momentum": 0.5}

    def once() -> Outcome:
        torch.rand(5)  # whatever the global generator is at must not matter
        return train(workload, factory, [setting], lanes_of(range(5)), way="pointwise")

    assert np.array_equal(once().losses, once().losses)


def test_a_seed_gives_every_optimizer_the_same_start_and_the_same_batches(plan: Plan) -> None:
    workload = planned_workload(plan, "ch7_linreg")
    first = [
        train(workload, suite_optimizer(name), [setting], lanes_of([5, 6]), way="pointwise").losses
        for name, setting in (("SGD", {"lr": 0.0}), ("AdaGrad", {"lr": 0.0}))
    ]
    assert np.array_equal(first[0], first[1])
    alone = Lanes(workload, [Lane(0, 5)], stacked=False)
    beside = Lanes(workload, [Lane(0, 6), Lane(0, 5)], stacked=True)
    for _, one, two in zip(range(301), alone.batches(), beside.batches(), strict=False):
        assert all(torch.equal(a, b[1]) for a, b in zip(one, two, strict=True))


def test_every_row_is_seen_once_per_epoch_and_each_epoch_has_an_order_of_its_own() -> None:
    objective = Plane()
    objective.data = (torch.arange(7.0)[:, None].repeat(1, 2), torch.arange(7.0))
    batches = Lanes(
        make_workload(objective, batch_size=3, steps_per_epoch=3), [Lane(0, 1)], stacked=False
    ).batches()
    epochs = [torch.cat([next(batches)[1] for _ in range(3)]) for _ in range(4)]
    assert all(sorted(epoch.tolist()) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) > 1


def test_seeds_have_streams_of_their_own() -> None:
    drawn = {
        tuple(torch.rand(4, generator=generator(seed, stream)).tolist())
        for seed in (0, 1, 2, SEED_LIMIT - 1)
        for stream in (INIT_STREAM, BATCH_STREAM)
    }
    assert len(drawn) == 8


@pytest.mark.parametrize(
    ("optimizer", "setting", "end"),
    [
        ("SGD", {"lr": 0.4}, ("-0.943467", "-0.000073")),
        ("Momentum", {"lr": 0.4, "momentum": 0.5}, ("-0.062843", "0.001202")),
        ("AdaGrad", {"lr": 0.4, "eps": 1e-6}, ("-2.382563", "-0.158591")),
        ("AdaGrad", {"lr": 2.0, "eps": 1e-6}, ("-0.002295", "-0.000000")),
    ],
)
def test_trajectories_end_where_the_book_says(
    plan: Plan, optimizer: str, setting: dict[str, float], end: tuple[str, str]
) -> None:
    """Dive into Deep Learning, sections 7.4 and 7.5: six printed decimals."""
    outcome = train(
        planned_workload(plan, "quadratic_2d"),
        suite_optimizer(optimizer),
        [setting],
        lanes_of([0, 1]),
        way="pointwise",
    )
    assert outcome.trajectory is not None
    assert outcome.trajectory.shape == (2, 21, 2)
    assert outcome.trajectory[0, 0].tolist() == [-5.0, -2.0]
    assert tuple(f"{value:.6f}" for value in outcome.trajectory[1, -1]) == end


def test_effective_step_sizes_are_recorded_and_follow_their_formula(plan: Plan) -> None:
    outcome = train(
        planned_workload(plan, "quadratic_2d"),
        suite_optimizer("AdaGrad"),
        [{"lr": 0.4}, {"lr": 2.0}],
        lanes_of([0], 2),
        way="pointwise",
    )
    assert outcome.step_sizes is not None
    assert outcome.trajectory is not None
    for lane, lr in enumerate((0.4, 2.0)):
        gradients = outcome.trajectory[lane, :-1] * [0.2, 4.0]
        expected = lr / np.sqrt(np.cumsum(gradients**2, axis=0) + 1e-6)
        np.testing.assert_allclose(outcome.step_sizes[lane, 1:], expected, rtol=1e-12)


def test_gradient_descent_that_ends_above_the_limit_is_diverged_and_its_neighbours_are_not() -> (
    None
):
    workload = make_workload(Quadratic2D())
    factory = suite_optimizer("SGD")
    grows = train(
        workload, factory, [{"lr": 0.4}, {"lr": 0.6}], lanes_of([0, 1], 2), way="pointwise"
    )
    stays = train(
        workload, factory, [{"lr": 0.4}, {"lr": 0.1}], lanes_of([0, 1], 2), way="pointwise"
    )
    # x2 grows by 1 - 4 * 0.6 = -1.4 a step; f starts at 10.5 with 8 from x2, and x1 shrinks.
    start = 0.1 * 25 + 2 * 4
    losses = [0.1 * 25 * (1 - 0.12) ** (2 * t) + 8 * 1.4 ** (2 * t) for t in range(21)]
    assert losses[-1] > start + 1000 * start
    assert grows.diverged_at.tolist() == [-1, -1, 20, 20]
    assert np.array_equal(grows.losses[:2], stays.losses[:2])
    np.testing.assert_allclose(grows.losses[2], losses, rtol=1e-12)
    assert grows.trajectory is not None
    assert np.isfinite(grows.trajectory).all()


class Cliff(Objective):
    """Finite until x1 passes a seed's own edge, then NaN."""

    optimum = 0.0

    def init(self, generator: torch.Generator) -> Parameters:
        edge = 3.0 + torch.randint(0, 5, (), generator=generator)
        return {"x": torch.zeros(()), "edge": edge.double()}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        del batch
        gone = params["x"] > params["edge"].detach() - 0.5
        return torch.where(gone, torch.nan, 10.0 - params["x"])


def test_a_loss_that_is_not_finite_is_diverged_at_that_step_between_records_too() -> None:
    workload = make_workload(Cliff(), steps=12, record_steps=(0, 12))
    seeds = list(range(6))
    outcome = train(
        workload, suite_optimizer("SGD"), [{"lr": 1.0}], lanes_of(seeds), way="pointwise"
    )
    # x grows by one a step, so the loss is NaN once that many steps are taken.
    edges = [float(workload.start(seed)["edge"]) for seed in seeds]
    assert outcome.diverged_at.tolist() == [int(edge) for edge in edges]
    assert len(set(edges)) > 1


def test_a_start_that_is_not_finite_is_diverged_at_step_zero() -> None:
    class Nowhere(Quadratic2D):
        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            return super().loss(params, batch) * torch.inf

    outcome = train(
        make_workload(Nowhere()), suite_optimizer("SGD"), [{"lr": 0.1}], lanes_of([0]), way="alone"
    )
    assert outcome.diverged_at.tolist() == [0]


def test_a_long_run_stops_once_every_lane_has_diverged() -> None:
    taken: list[int] = []
    train(
        make_workload(Quadratic2D(), steps=5000, dtype=torch.float32),
        suite_optimizer("SGD"),
        [{"lr": 0.6}],
        lanes_of([0, 1]),
        way="pointwise",
        on_step=taken.append,
    )
    assert len(taken) < 200


class Refuses(torch.optim.Optimizer):
    """Raises at its third step."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})
        self.taken = 0

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is not None
        closure()
        self.taken += 1
        if self.taken == 3:
            raise ArithmeticError("no further")


def test_an_optimizer_that_raises_says_at_which_step_and_keeps_what_was_recorded() -> None:
    with pytest.raises(TrialError, match="no further") as caught:
        train(make_workload(Quadratic2D()), Refuses, [{}], lanes_of([0]), way="alone")
    assert caught.value.step == 3
    assert isinstance(caught.value.error, ArithmeticError)
    recorded = caught.value.recorder.outcome(0.0)
    assert np.isfinite(recorded.losses[0, :3]).all()
    assert np.isnan(recorded.losses[0, 3:]).all()


def test_lbfgs_gets_a_closure_that_it_may_call_again_and_again() -> None:
    outcome = train(
        make_workload(Quadratic2D(), steps=5),
        torch.optim.LBFGS,
        [{"line_search_fn": "strong_wolfe"}],
        lanes_of([0]),
        way="alone",
    )
    x = torch.tensor([-5.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([x], line_search_fn="strong_wolfe")
    calls = 0

    def closure() -> torch.Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = 0.1 * x[0] ** 2 + 2 * x[1] ** 2
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    assert calls > 5
    assert outcome.trajectory is not None
    np.testing.assert_allclose(outcome.trajectory[0, -1], x.detach(), rtol=1e-9, atol=1e-12)
    assert outcome.losses[0, -1] < 1e-9


def test_an_optimizer_that_leaves_the_closure_alone_is_served_too() -> None:
    class Plain(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, _: object = None) -> None:  # type: ignore[override]
            for p in self.param_groups[0]["params"]:
                p -= self.param_groups[0]["lr"] * p.grad

    own, scratch = (
        train(
            make_workload(Quadratic2D()),
            factory,
            [{"lr": 0.4}],
            lanes_of([0]),
            way="alone",
        )
        for factory in (Plain, suite_optimizer("SGD"))
    )
    np.testing.assert_allclose(own.losses, scratch.losses, rtol=1e-12)


def test_the_landscape_is_the_loss_on_a_grid_over_the_window(plan: Plan) -> None:
    workload = planned_workload(plan, "quadratic_2d")
    described = describe(workload, "")
    assert described.dimension == 2
    assert described.window is not None
    (low1, high1), (low2, high2) = described.window
    side = round(len(described.landscape) ** 0.5)
    x2, x1 = np.meshgrid(
        np.linspace(low2, high2, side), np.linspace(low1, high1, side), indexing="ij"
    )
    expected = 0.1 * x1**2 + 2 * x2**2
    np.testing.assert_allclose(
        np.reshape(described.landscape, (side, side)), expected, rtol=1e-12, atol=1e-12
    )
    assert low1 < -5 < 0 < high1
    assert low2 < -2 < 0 < high2


def test_the_least_squares_floor_is_the_optimum_of_the_regression(plan: Plan) -> None:
    described = describe(planned_workload(plan, "ch7_linreg"), "")
    assert described.optimum == pytest.approx(0.241688, abs=5e-7)
    assert (described.rows, described.steps, described.steps_per_epoch) == (1500, 300, 150)
    assert described.record_steps == tuple(range(0, 301, 10))
    workload = planned_workload(plan, "ch7_linreg", torch.float64)
    (*weight, bias) = described.minimizers[0]
    at_minimum = {
        "weight": torch.tensor(weight, dtype=torch.float64),
        "bias": torch.tensor(bias, dtype=torch.float64),
    }
    loss = workload.objective.loss(at_minimum, workload.data)
    assert float(loss) == pytest.approx(described.optimum, rel=1e-12)
