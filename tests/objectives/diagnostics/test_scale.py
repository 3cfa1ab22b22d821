"""Tasks of scale: against formulas in numpy, changes of units, and what grows by a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_workload
from diagnostic_tasks import (
    STEP,
    arrays,
    check_drawn_by_seed,
    check_gradient,
    check_lanes,
    drawn,
    lowest,
    slope,
)
from numpy.typing import NDArray

from harness.engine.lanes import Lane
from harness.engine.training_loop import train
from harness.objectives.base import Objective, Parameters
from harness.objectives.diagnostics.scale import (
    GradientScales,
    GrowingScale,
    LossScale,
    ParameterScales,
    ScaleInvariant,
    SwingingScale,
    UnbalancedFactors,
    UncentredInputs,
)
from harness.suite.shipped import TASKS

pytestmark = pytest.mark.usefixtures("one_thread", "shared_though_slower")

Array = NDArray[np.float64]
Numbers = dict[str, Array]


def bowl(p: Numbers) -> Any:
    z = p["rotation"] @ (p["x"] - p["minimum"])
    return 0.5 * np.dot(p["curvatures"], z**2)


def invariant(p: Numbers) -> Any:
    w, t = p["weight"], p["targets"]
    return np.mean([1 - a @ b / np.sqrt(a @ a) for a, b in zip(w, t, strict=True)])


def uncentred(p: Numbers) -> Any:
    """Half the expected square, from the inputs' second moments: mean 3, variance 1."""
    error = np.concatenate([p["weight"], p["bias"]]) - p["target"]
    moments = np.full((5, 5), 9.0) + np.diag([1.0] * 5)
    moments[4, :] = moments[:, 4] = 3.0
    moments[4, 4] = 1.0
    return 0.5 * error @ moments @ error


# Name -> a task, its formula in numpy.
CASES: dict[str, tuple[Objective, Callable[[Numbers], Any]]] = {
    "parameter_scales": (
        ParameterScales(1e4),
        lambda p: 0.5 * np.sum((p["x"] / np.geomspace(0.01, 100, 10) - p["minimum"]) ** 2),
    ),
    "gradient_scales": (
        GradientScales(1e4),
        lambda p: np.geomspace(0.01, 100, 10) @ (np.hypot(1, p["x"] - p["minimum"]) - 1),
    ),
    "loss_scale": (LossScale(1e-4), lambda p: 1e-4 * bowl(p)),
    "swinging_scale": (
        SwingingScale(30.0, 40),
        lambda p: 30.0 ** math.sin(2 * math.pi * STEP / 40) * bowl(p),
    ),
    "growing_scale": (GrowingScale(5.0, 300), lambda p: 10 ** (5 * STEP / 300) * bowl(p)),
    "scale_invariant": (ScaleInvariant(1e4), invariant),
    "uncentred_inputs": (UncentredInputs(3.0), uncentred),
    "unbalanced_factors": (
        UnbalancedFactors(10.0),
        lambda p: 0.5 * np.mean((p["left"] @ p["right"] - p["product"]) ** 2),
    ),
}
every_task = pytest.mark.parametrize("name", CASES)


def test_every_task_of_the_family_is_tested_here() -> None:
    assert CASES.keys() == TASKS["scale"].keys()
    for name, (task, _) in CASES.items():
        assert TASKS["scale"][name].endswith(f":{type(task).__name__}")


@every_task
def test_a_loss_is_that_of_the_formula_in_numpy(name: str) -> None:
    task, formula = CASES[name]
    for seed in range(3):
        start, kept = drawn(task, seed)
        expected = formula(arrays(start | kept))
        assert float(task.loss(start | kept, None)) == pytest.approx(expected, rel=1e-11)


@every_task
def test_a_gradient_is_what_central_differences_give(name: str) -> None:
    check_gradient(CASES[name][0], seed=1)


@every_task
def test_seeds_differ_and_start_above_the_optimum(name: str) -> None:
    check_drawn_by_seed(CASES[name][0])


@every_task
def test_trials_side_by_side_are_what_they_are_alone(name: str) -> None:
    check_lanes(CASES[name][0], [{"lr": 0.01}, {"lr": 0.1}])


def solution(name: str, kept: Parameters) -> Parameters:
    """A point at which the optimum is reached, from what the instance says."""
    if name == "parameter_scales":
        return {"x": kept["scales"] * kept["minimum"]}
    if name == "scale_invariant":
        return {"weight": 7.0 * kept["targets"]}
    if name == "uncentred_inputs":
        return {"weight": kept["target"][:-1], "bias": kept["target"][-1:]}
    if name == "unbalanced_factors":
        u, s, v = torch.linalg.svd(kept["product"])
        return {"left": u[:, :2] * s[:2], "right": v[:2]}
    return {"x": kept["minimum"]}


@every_task
def test_the_optimum_is_reached_where_the_instance_says_and_it_is_flat_there(name: str) -> None:
    task = CASES[name][0]
    for seed in range(2):
        start, kept = drawn(task, seed)
        at = solution(name, kept)
        assert float(task.evaluate(at | kept, None)) == pytest.approx(task.optimum, abs=1e-15)
        steepest = max(float(s.abs().max()) for s in slope(task, start, kept).values())
        for flat in slope(task, at, kept).values():
            assert float(flat.abs().max()) <= 1e-12 * max(1.0, steepest)
        around = [at | {k: at[k] + 0.01 * torch.randn_like(at[k])} for k in at for _ in range(20)]
        values = [float(task.evaluate(point | kept, None)) for point in around]
        assert min(values) >= 0.0 == task.optimum


def test_parameters_of_other_units_are_the_same_bowl() -> None:
    plain, scaled = ParameterScales(1.0), ParameterScales(1e8)
    units = np.geomspace(1e-4, 1e4, 10)
    for seed in range(3):
        (start, kept), (start_scaled, kept_scaled) = drawn(plain, seed), drawn(scaled, seed)
        np.testing.assert_allclose(start_scaled["x"].numpy() / units, start["x"], rtol=1e-12)
        for got, expected in zip(
            scaled.metrics(start_scaled | kept_scaled, None).values(),
            plain.metrics(start | kept, None).values(),
            strict=True,
        ):
            assert float(got) == pytest.approx(float(expected), rel=1e-12)
        slopes = slope(scaled, start_scaled, kept_scaled)["x"]
        np.testing.assert_allclose(
            slopes, slope(plain, start, kept)["x"].numpy() / units, rtol=1e-12
        )


def test_a_gradient_of_another_scale_is_its_weight_far_away_and_exact_near_the_minimum() -> None:
    task = GradientScales(1e20)
    _, kept = drawn(task, 0)
    weights = np.geomspace(1e-10, 1e10, 10)
    np.testing.assert_allclose(kept["weights"], weights, rtol=1e-12)
    far = slope(task, {"x": kept["minimum"] - 1e4}, kept)["x"]
    np.testing.assert_allclose(far, -weights, rtol=1e-7)
    shifted = {"minimum": torch.zeros(10, dtype=torch.float64), "weights": kept["weights"]}
    near = {"x": torch.full((10,), 1e-9, dtype=torch.float64)}
    assert float(task.loss(near | shifted, None)) == pytest.approx(weights.sum() * 5e-19, rel=1e-9)


def test_a_scale_in_time_is_seen_by_steps_and_left_out_of_what_is_recorded() -> None:
    """Descent by hand with the factor of each step, against the engine's."""
    for task, factor in (
        (SwingingScale(10.0, 8), lambda t: 10 ** math.sin(2 * math.pi * t / 8)),
        (GrowingScale(-3.0, 12), lambda t: 10 ** (-3 * t / 12)),
    ):
        workload = make_workload(task, steps=12)
        outcome = train(workload, torch.optim.SGD, [{"lr": 1e-3}], [Lane(0, 2)], way="alone")
        start, kept = workload.start(2), arrays(workload.state(2))
        x, expected = start["x"].numpy().copy(), []
        for t in range(13):
            expected.append(bowl(kept | {"x": x}))
            z = kept["curvatures"] * (kept["rotation"] @ (x - kept["minimum"]))
            x = x - 1e-3 * factor(t) * kept["rotation"].T @ z
        np.testing.assert_allclose(outcome.losses[0], expected, rtol=1e-10)


def test_weights_of_any_length_have_the_same_loss_and_a_gradient_across() -> None:
    task = ScaleInvariant(1e3)
    start, kept = drawn(task, 0)
    lengths = start["weight"].norm(dim=1)
    np.testing.assert_allclose(lengths, np.geomspace(10**-1.5, 10**1.5, 4))
    slopes = slope(task, start, kept)["weight"]
    np.testing.assert_allclose((slopes * start["weight"]).sum(dim=1), 0, atol=1e-14)
    longer = {"weight": 100 * start["weight"]}
    assert float(task.loss(longer | kept, None)) == pytest.approx(
        float(task.loss(start | kept, None)), rel=1e-12
    )
    np.testing.assert_allclose(slope(task, longer, kept)["weight"], slopes / 100, rtol=1e-10)
    np.testing.assert_allclose(kept["targets"].norm(dim=1), 1, rtol=1e-12)


@pytest.mark.parametrize("offset", [1.0, 8.0])
def test_the_loss_of_inputs_off_centre_is_that_of_a_regression_on_such_inputs(
    offset: float,
) -> None:
    task = UncentredInputs(offset)
    start, kept = drawn(task, 1)
    p = arrays(start | kept)
    z = np.random.default_rng(0).normal(offset, 1, size=(400_000, 4))
    residual = z @ (p["weight"] - p["target"][:-1]) + p["bias"] - p["target"][-1]
    mean, spread = np.mean(residual**2) / 2, np.std(residual**2) / 2
    assert abs(float(task.loss(start | kept, None)) - mean) < 5 * spread / math.sqrt(400_000)


@pytest.mark.parametrize("offset", [2.0, 8.0])
def test_inputs_off_centre_have_the_condition_number_that_is_claimed(offset: float) -> None:
    task = UncentredInputs(offset)
    _, kept = drawn(task, 0)
    hessian = torch.autograd.functional.hessian(
        lambda x: task.loss({"weight": x[:4], "bias": x[4:]} | kept, None),
        torch.zeros(5, dtype=torch.float64),
    )
    values = torch.linalg.eigvalsh(hessian)
    assert float(values.prod()) == pytest.approx(1.0, rel=1e-9)
    assert float(values[-1] / values[0]) == pytest.approx((1 + 4 * offset**2) ** 2, rel=0.15)


def test_unbalanced_factors_start_at_the_same_product_with_gradients_apart() -> None:
    even, apart = UnbalancedFactors(1.0), UnbalancedFactors(30.0)
    (start, kept), (start_apart, kept_apart) = drawn(even, 3), drawn(apart, 3)
    for one, other in ((start, start_apart), (kept, kept_apart)):
        assert one.keys() == other.keys()
    assert torch.equal(kept["product"], kept_apart["product"])
    torch.testing.assert_close(
        start["left"] @ start["right"], start_apart["left"] @ start_apart["right"]
    )
    slopes, slopes_apart = slope(even, start, kept), slope(apart, start_apart, kept_apart)
    torch.testing.assert_close(slopes_apart["left"], slopes["left"] / 30)
    torch.testing.assert_close(slopes_apart["right"], slopes["right"] * 30)
    assert int(torch.linalg.matrix_rank(kept["product"])) == 2


@pytest.mark.parametrize("factor", [1e-12, 1e8])
def test_descent_wins_a_loss_of_any_scale_with_a_learning_rate_to_match(factor: float) -> None:
    best = 2 / (10**0.5 + 10**-0.5)
    settings = {"lr": best / factor}
    found = lowest(LossScale(factor), torch.optim.SGD, settings, 60, "error")
    unscaled = lowest(LossScale(1.0), torch.optim.SGD, {"lr": best}, 60, "error")
    np.testing.assert_allclose(found, unscaled, rtol=1e-6)
    assert (found <= 0.1).all()


def test_an_epsilon_of_1e_8_stops_adam_at_tiny_losses_and_another_lets_it_win() -> None:
    adam: dict[str, Any] = {"lr": 0.05, "betas": (0.9, 0.9)}
    task = LossScale(1e-12)
    assert (lowest(task, torch.optim.Adam, adam, 200, "error") > 0.5).all()
    assert (lowest(task, torch.optim.Adam, adam | {"eps": 1e-20}, 200, "error") <= 0.1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ParameterScales(0.5), "ratio must be finite and at least 1, got 0.5"),
        (lambda: ParameterScales(10, 1), "dimension must be a whole number from 2, got 1"),
        (lambda: GradientScales(math.inf), "ratio must be finite and at least 1, got inf"),
        (lambda: LossScale(0), "factor must be finite and above 0, got 0"),
        (lambda: LossScale(-1.0), "factor must be finite and above 0, got -1.0"),
        (lambda: LossScale(1.0, 0.1), "condition_number must be finite and at least 1, got 0.1"),
        (lambda: SwingingScale(0.5), "swing must be finite and at least 1, got 0.5"),
        (lambda: SwingingScale(2.0, 1), "period must be finite and at least 2, got 1"),
        (lambda: GrowingScale(math.nan), "decades must be finite and at least -300, got nan"),
        (lambda: GrowingScale(2.0, 0), "steps must be a whole number from 1, got 0"),
        (lambda: ScaleInvariant(0.0), "ratio must be finite and at least 1, got 0.0"),
        (lambda: ScaleInvariant(1.0, 1), "rows must be a whole number from 2, got 1"),
        (lambda: ScaleInvariant(1.0, 2, 1), "columns must be a whole number from 2, got 1"),
        (lambda: UncentredInputs(-1.0), "offset must be finite and at least 0, got -1.0"),
        (lambda: UncentredInputs(1.0, 0), "features must be a whole number from 1, got 0"),
        (lambda: UnbalancedFactors(0.5), "imbalance must be finite and at least 1, got 0.5"),
        (lambda: UnbalancedFactors(1.0, 3, 4), "rank must be at most size, 3, got 4"),
    ],
)
def test_what_a_task_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
