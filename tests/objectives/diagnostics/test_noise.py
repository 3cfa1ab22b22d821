"""Tasks with disturbed gradients: what is seen has the distribution that the docstring says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from builders import make_workload
from numpy.typing import NDArray

from harness.engine.lanes import Lane
from harness.engine.training_loop import train
from harness.objectives.base import Parameters
from harness.objectives.diagnostics.noise import (
    CorrelatedNoise,
    DelayedGradients,
    DisturbedBowl,
    FlippedGradients,
    HeavyTails,
    MultiplicativeNoise,
    OutlierGradients,
    QuantizedGradients,
    SmallBatches,
    SparseGradients,
    WhiteNoise,
)
from harness.suite.shipped import TASKS

pytestmark = pytest.mark.usefixtures("one_thread", "shared_though_slower")

# Each with the learning rate at which plain gradient descent gets to a hundredth of its start.
TASKS_HERE: dict[str, tuple[Callable[[], DisturbedBowl], float]] = {
    "white_noise": (lambda: WhiteNoise(0.3), 0.1),
    "heavy_tails": (lambda: HeavyTails(3.0, 0.15), 0.1),
    "correlated_noise": (lambda: CorrelatedNoise(3.0, 0.1), 0.1),
    "multiplicative_noise": (lambda: MultiplicativeNoise(1.0), 0.5),
    "small_batches": (lambda: SmallBatches(16), 0.2),
    "outlier_gradients": (lambda: OutlierGradients(0.003), 1.0),
    "sparse_gradients": (lambda: SparseGradients(0.2), 1.8),
    "quantized_gradients": (lambda: QuantizedGradients(1.0), 0.2),
    "delayed_gradients": (lambda: DelayedGradients(4), 0.2),
    "flipped_gradients": (lambda: FlippedGradients(0.2), 0.8),
}
every_task = pytest.mark.parametrize("name", TASKS_HERE)


def drawn(task: DisturbedBowl, seed: int = 0) -> Parameters:
    """A trial's parameters and state."""
    start = task.init(torch.Generator().manual_seed(seed))
    return {**start, **task.state(torch.Generator().manual_seed(seed))}


def true_gradient(given: Parameters) -> NDArray[np.float64]:
    h, x, m = (given[k].numpy() for k in ("curvatures", "x", "minimum"))
    return np.asarray(h * (x - m))


def gradients(task: DisturbedBowl, given: Parameters, count: int) -> NDArray[np.float64]:
    """What is seen of one point in ``count`` first steps, shape ``(count, size, size)``."""

    torch.manual_seed(1)
    stacked = {k: v.expand(count, *v.shape).clone() for k, v in given.items()}
    x = stacked["x"].requires_grad_()
    losses = torch.func.vmap(lambda own: task.loss(own, None), randomness="different")(stacked)
    (slopes,) = torch.autograd.grad(losses.sum(), x)
    return slopes.numpy()


def test_every_task_of_the_family_is_tested_here() -> None:
    assert set(TASKS_HERE) == set(TASKS["noise"])
    for name, (make, _) in TASKS_HERE.items():
        assert TASKS["noise"][name].endswith(f":{type(make()).__name__}")


@every_task
def test_what_is_recorded_is_the_bowl_whose_minimum_is_where_the_seed_says(name: str) -> None:
    task = TASKS_HERE[name][0]()
    for seed in range(3):
        given = drawn(task, seed)
        h, x, m = (given[k].numpy() for k in ("curvatures", "x", "minimum"))
        assert x.shape == (task.size, task.size)
        expected = np.sum(h * (x - m) ** 2) / 2
        assert task.evaluate(given, None).item() == pytest.approx(expected, rel=1e-13)
        assert task.evaluate({**given, "x": given["minimum"]}, None).item() == task.optimum == 0
        levels = np.sort(h.ravel())
        np.testing.assert_allclose(levels, np.geomspace(0.1, 1, task.size**2), rtol=1e-12)
        leaf = given["x"].clone().requires_grad_()
        (slope,) = torch.autograd.grad(task.evaluate({**given, "x": leaf}, None), leaf)
        np.testing.assert_allclose(slope.numpy(), true_gradient(given), rtol=1e-13)


@every_task
def test_the_loss_has_the_bowl_s_value_and_nothing_is_recorded_by_chance(name: str) -> None:
    task = TASKS_HERE[name][0]()
    given = drawn(task)
    assert task.loss(dict(given), None).item() == pytest.approx(task.evaluate(given, None).item())
    torch.manual_seed(0)
    before = torch.get_rng_state()
    task.evaluate(given, None)
    assert torch.equal(before, torch.get_rng_state())


@every_task
def test_seeds_have_starts_minima_and_curvatures_of_their_own(name: str) -> None:
    task = TASKS_HERE[name][0]()
    many = [drawn(task, seed) for seed in range(200)]
    assert torch.equal(many[3]["x"], drawn(task, 3)["x"])
    for key in ("x", "minimum"):
        values = torch.stack([given[key] for given in many]).numpy()
        assert scipy.stats.kstest(values.ravel(), "norm").pvalue > 1e-3
    apart = torch.stack([given["x"] - given["minimum"] for given in many])
    assert float(apart.var()) == pytest.approx(2, rel=0.1)  # as of two independent draws
    first = {float(given["curvatures"][0, 0]) for given in many}
    assert len(first) > 10


SHARE_OF_TRUE = {"sparse_gradients": 0.2, "flipped_gradients": 0.6}


@every_task
def test_the_expected_gradient_is_the_true_one_or_the_share_of_it_that_is_told(name: str) -> None:
    task: Any = TASKS_HERE[name][0]()
    given = drawn(task)
    if isinstance(task, OutlierGradients):
        given["first"] = torch.zeros((), dtype=torch.float64)
    if isinstance(task, CorrelatedNoise):
        given["noise"] = torch.zeros_like(given["x"])
    seen = gradients(task, given, 20_000)
    expected = SHARE_OF_TRUE.get(name, 1.0) * true_gradient(given)
    error = seen.std(axis=0) / math.sqrt(len(seen))
    assert np.all(np.abs(seen.mean(axis=0) - expected) <= 5 * error + 1e-12)


def test_white_noise_is_normal_and_of_the_given_deviation() -> None:
    task = WhiteNoise(0.7, size=3)
    given = drawn(task)
    noise = gradients(task, given, 2000) - true_gradient(given)
    assert scipy.stats.kstest(noise.ravel() / 0.7, "norm").pvalue > 1e-3


@pytest.mark.parametrize("degrees", [1, 1.5, 2, 5, 40])
def test_heavy_tails_are_those_of_student_s_distribution(degrees: float) -> None:
    task = HeavyTails(degrees, scale=0.4, size=3)
    given = drawn(task)
    noise = (gradients(task, given, 4000) - true_gradient(given)).ravel() / 0.4
    assert scipy.stats.kstest(noise, "t", args=(degrees,)).pvalue > 1e-3
    far = scipy.stats.t(degrees).ppf(0.9995)
    assert np.mean(np.abs(noise) > far) == pytest.approx(1e-3, rel=0.6)


@pytest.mark.parametrize("time", [1.0, 20.0])
def test_correlated_noise_keeps_its_strength_and_forgets_exponentially(time: float) -> None:
    task = CorrelatedNoise(time, deviation=0.5, size=40)
    given = drawn(task)
    torch.manual_seed(2)
    series = []
    for _ in range(25):
        x = given["x"].clone().requires_grad_()
        (slope,) = torch.autograd.grad(task.loss({**given, "x": x}, None), x)
        series.append(slope.numpy() - true_gradient(given))
        np.testing.assert_allclose(given["noise"].numpy(), series[-1], atol=1e-12)
    noise = np.array(series)
    np.testing.assert_allclose(noise.std(axis=(1, 2)), 0.5, rtol=0.1)
    for lag in (1, 5):
        correlation = np.mean(noise[lag:] * noise[:-lag]) / 0.25
        assert correlation == pytest.approx(math.exp(-lag / time), abs=0.06)


def test_multiplicative_noise_is_as_long_as_the_gradient_times_the_factor() -> None:
    task = MultiplicativeNoise(3.0, size=4)
    given = drawn(task)
    for scale in (1.0, 1e-6):
        near = {**given, "x": given["minimum"] + scale * (given["x"] - given["minimum"])}
        noise = gradients(task, near, 4000) - true_gradient(near)
        length = np.sqrt(np.mean(np.sum(noise**2, axis=(1, 2))))
        assert length == pytest.approx(3 * np.linalg.norm(true_gradient(near)), rel=0.03)
    at_minimum = {**given, "x": given["minimum"]}
    assert np.array_equal(gradients(task, at_minimum, 3), np.zeros((3, 4, 4)))


def test_small_batches_have_the_error_of_least_squares() -> None:
    """Of rows ``a ~ N(0, H)``: ``(g g' + H (off'H off + noise^2)) / batch`` (Isserlis)."""
    for batch in (2, 8):
        task = SmallBatches(batch, label_noise=0.5, size=2)
        given = drawn(task)
        true = true_gradient(given).ravel()
        h = given["curvatures"].numpy().ravel()
        off = (given["x"] - given["minimum"]).numpy().ravel()
        seen = gradients(task, given, 60_000).reshape(-1, 4)
        expected = (np.outer(true, true) + np.diag(h) * (off @ (h * off) + 0.25)) / batch
        size = np.abs(expected).max()
        np.testing.assert_allclose(np.cov(seen.T), expected, atol=0.05 * size)


def test_outliers_come_first_and_then_as_often_as_asked() -> None:
    task = OutlierGradients(0.3, strength=50.0, size=3)
    given = drawn(task)
    off = gradients(task, given, 500) - true_gradient(given)
    assert np.all(np.abs(off).max(axis=(1, 2)) > 1)
    assert scipy.stats.kstest(off.ravel() / 50, "norm").pvalue > 1e-3
    later = {**given, "first": torch.zeros((), dtype=torch.float64)}
    off = gradients(task, later, 4000) - true_gradient(given)
    happened = np.abs(off).max(axis=(1, 2)) > 1e-9
    assert np.mean(happened) == pytest.approx(0.3, abs=0.03)
    x = given["x"].clone().requires_grad_()
    task.loss({**given, "x": x}, None)
    assert given["first"].item() == 0


def test_sparse_gradients_are_the_true_ones_or_zero() -> None:
    task = SparseGradients(0.2)
    given = drawn(task)
    seen, true = gradients(task, given, 500), true_gradient(given)
    is_true = np.abs(seen - true) <= 1e-15
    assert np.all(is_true | (seen == 0))
    assert is_true.mean() == pytest.approx(0.2, abs=0.01)
    # Coordinates are seen independently of each other.
    together = np.mean(is_true[:, 0, 0] & is_true[:, 5, 3])
    assert together == pytest.approx(0.04, abs=0.03)


def test_quantised_gradients_are_the_multiples_around_the_true_ones() -> None:
    task = QuantizedGradients(0.25)
    given = drawn(task)
    seen, true = gradients(task, given, 300), true_gradient(given)
    assert np.array_equal(seen, np.round(seen / 0.25) * 0.25)
    assert np.all(np.abs(seen - true) < 0.25)
    low = np.floor(true / 0.25) * 0.25
    up = np.mean(seen > low + 0.1, axis=0)
    np.testing.assert_allclose(up, (true - low) / 0.25, atol=0.12)


def test_delayed_gradients_are_those_of_the_point_some_steps_ago() -> None:
    task = DelayedGradients(3, size=2)
    given = drawn(task)
    points = [given["x"] + step for step in range(8)]
    for step, point in enumerate(points):
        x = point.clone().requires_grad_()
        loss = task.loss({**given, "x": x}, None)
        (slope,) = torch.autograd.grad(loss, x)
        late = {**given, "x": points[max(step - 3, 0)]}
        np.testing.assert_allclose(slope.numpy(), true_gradient(late), rtol=1e-12)
        now = task.evaluate({**given, "x": point}, None)
        assert loss.item() == pytest.approx(now.item(), rel=1e-12)


@pytest.mark.parametrize("delay", [1, 4, 16])
def test_descent_on_delayed_gradients_is_stable_up_to_the_learning_rate_told(delay: int) -> None:
    limit = 2 * math.sin(math.pi / (4 * delay + 2))
    for lr, stable in ((0.98 * limit, True), (1.02 * limit, False)):
        roots = np.abs(np.roots([1, -1, *[0] * (delay - 1), lr]))
        assert (roots.max() < 1) == stable


def test_flipped_gradients_point_one_way_or_the_other() -> None:
    task = FlippedGradients(0.3)
    given = drawn(task)
    seen, true = gradients(task, given, 3000), true_gradient(given)
    flipped = np.isclose(seen, -true).all(axis=(1, 2))
    assert np.all(flipped | np.isclose(seen, true).all(axis=(1, 2)))
    assert flipped.mean() == pytest.approx(0.3, abs=0.03)


@every_task
def test_trials_side_by_side_are_those_alone(name: str) -> None:
    task, lr = TASKS_HERE[name][0](), TASKS_HERE[name][1]
    workload = make_workload(task, dtype=torch.float64, steps=30)
    settings = [{"lr": lr}, {"lr": lr / 3}]
    lanes = [Lane(i, seed) for i in range(2) for seed in (0, 1)]
    together = train(workload, torch.optim.SGD, settings, lanes, way="pointwise")
    for row, lane in enumerate(lanes):
        own = train(workload, torch.optim.SGD, settings, [lane], way="alone")
        np.testing.assert_allclose(together.losses[row], own.losses[0], rtol=1e-9)
    assert len({float(v) for v in together.losses[:, -1]}) == len(lanes)


@every_task
def test_plain_gradient_descent_wins_an_easy_difficulty(name: str) -> None:
    task, lr = TASKS_HERE[name][0](), TASKS_HERE[name][1]
    workload = make_workload(task, dtype=torch.float32, steps=400)
    lanes = [Lane(0, seed) for seed in range(4)]
    losses = train(workload, torch.optim.SGD, [{"lr": lr}], lanes, way="pointwise").losses
    assert np.all(losses.min(axis=1) < 0.01 * losses[:, 0])
    if not isinstance(task, OutlierGradients):
        assert np.all(losses[:, -200:].mean(axis=1) < 0.05 * losses[:, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WhiteNoise(-1), "deviation must be finite and at least 0, got -1"),
        (lambda: WhiteNoise(size=0), "size must be a whole number from 1, got 0"),
        (lambda: WhiteNoise(size=2.0), "size must be a whole number from 1, got 2.0"),  # type: ignore[arg-type]
        (lambda: HeavyTails(0), "degrees must be finite and above 0, got 0"),
        (lambda: HeavyTails(math.inf), "degrees must be finite and above 0, got inf"),
        (lambda: HeavyTails(scale="1"), "scale must be finite and at least 0, got '1'"),  # type: ignore[arg-type]
        (lambda: CorrelatedNoise(0), "correlation_time must be finite and above 0, got 0"),
        (lambda: MultiplicativeNoise(math.nan), "factor must be finite and at least 0, got nan"),
        (lambda: SmallBatches(0), "batch must be a whole number from 1, got 0"),
        (lambda: SmallBatches(True), "batch must be a whole number from 1, got True"),
        (lambda: OutlierGradients(1.1), "probability must be from 0 to 1, got 1.1"),
        (lambda: SparseGradients(-0.1), "density must be from 0 to 1, got -0.1"),
        (lambda: QuantizedGradients(0), "spacing must be finite and above 0, got 0"),
        (lambda: DelayedGradients(0), "delay must be a whole number from 1, got 0"),
        (lambda: FlippedGradients(0.6), "share must be from 0 to 0.5, got 0.6"),
    ],
)
def test_arguments_out_of_range_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()
