"""Tasks of curvature: against formulas in numpy, eigenvalues, and the rates of momentum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch
from diagnostic_tasks import (
    arrays,
    check_drawn_by_seed,
    check_gradient,
    check_lanes,
    drawn,
    lowest,
    slope,
)
from numpy.typing import NDArray

from harness.objectives.base import Objective
from harness.objectives.diagnostics.curvature import (
    BealeFar,
    Chain,
    DifferentPowers,
    DixonPrice,
    EqualCoupling,
    GoldsteinPriceFar,
    IllConditioned,
    IllConditionedMatrix,
    IllConditionedRotated,
    OutlyingCurvatures,
    Powers,
    Zakharov,
)
from harness.suite.shipped import TASKS

pytestmark = pytest.mark.usefixtures("one_thread", "shared_though_slower")

Array = NDArray[np.float64]
minimize: Any = scipy.optimize.minimize
Numbers = dict[str, Array]


def beale(p: Numbers) -> Any:
    x, y = p["x"]
    return sum((c - x + x * y**k) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625)))


def goldstein_price(p: Numbers) -> Any:
    x, y = p["x"]
    first = 1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)
    second = 18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2
    return first * (30 + (2 * x - 3 * y) ** 2 * second)


def weighted(p: Numbers, rotated: bool = False) -> Any:
    z = p["x"] - p["minimum"]
    z = p["rotation"] @ z if rotated else z
    return 0.5 * np.dot(p["curvatures"], z**2)


def chain(p: Numbers) -> Any:
    d = np.concatenate([[0.0], p["x"] - p["minimum"], [0.0]])
    return 0.5 * np.sum(np.diff(d) ** 2)


def coupled(p: Numbers, c: float) -> Any:
    d = p["x"] - p["minimum"]
    return 0.5 * d @ (np.full((len(d), len(d)), c) + (1 - c) * np.eye(len(d))) @ d


def matrix(p: Numbers) -> Any:
    big = np.kron(p["left"], p["right"].T)  # of X, row after row
    return 0.5 * np.sum((big @ (p["x"] - p["minimum"]).ravel()) ** 2)


def different_powers(p: Numbers) -> Any:
    z = p["rotation"] @ (p["x"] - p["minimum"])
    return sum(abs(v) ** k for v, k in zip(z, np.linspace(2, 6, len(z)), strict=True))


def zakharov(p: Numbers) -> Any:
    d = p["x"] - p["minimum"]
    s = sum(0.5 * (i + 1) * v for i, v in enumerate(d))
    return d @ d + s**2 + s**4


def dixon_price(p: Numbers) -> Any:
    x = p["x"]
    terms = ((i + 1) * (2 * x[i] ** 2 - x[i - 1]) ** 2 for i in range(1, len(x)))
    return (x[0] - 1) ** 2 + sum(terms)


# Name -> a task, its formula in numpy.
CASES: dict[str, tuple[Objective, Callable[[Numbers], Any]]] = {
    "ill_conditioned": (IllConditioned(1e3), weighted),
    "ill_conditioned_rotated": (IllConditionedRotated(1e3), lambda p: weighted(p, True)),
    "ill_conditioned_matrix": (IllConditionedMatrix(1e3, 4), matrix),
    "outlying_curvatures": (OutlyingCurvatures(1e3), lambda p: weighted(p, True)),
    "equal_coupling": (EqualCoupling(0.9), lambda p: coupled(p, 0.9)),
    "chain": (Chain(9), chain),
    "powers": (Powers(6), lambda p: np.sum((p["x"] - p["minimum"]) ** 6)),
    "different_powers": (DifferentPowers(6), different_powers),
    "zakharov": (Zakharov(5), zakharov),
    "dixon_price": (DixonPrice(7), dixon_price),
    "beale_far": (BealeFar(2), beale),
    "goldstein_price_far": (GoldsteinPriceFar(2), goldstein_price),
}
every_task = pytest.mark.parametrize("name", CASES)


def test_every_task_of_the_family_is_tested_here() -> None:
    assert CASES.keys() == TASKS["curvature"].keys()
    for name, (task, _) in CASES.items():
        assert TASKS["curvature"][name].endswith(f":{type(task).__name__}")


@every_task
def test_a_loss_is_that_of_the_formula_in_numpy(name: str) -> None:
    task, formula = CASES[name]
    for seed in range(3):
        start, kept = drawn(task, seed)
        expected = formula(arrays(start | kept))
        assert float(task.loss(start | kept, None)) == pytest.approx(expected, rel=1e-12)


@every_task
def test_a_gradient_is_what_central_differences_give(name: str) -> None:
    check_gradient(CASES[name][0], seed=1)


@every_task
def test_seeds_differ_and_start_above_the_optimum(name: str) -> None:
    check_drawn_by_seed(CASES[name][0])


@every_task
def test_trials_side_by_side_are_what_they_are_alone(name: str) -> None:
    check_lanes(CASES[name][0], [{"lr": 0.01}, {"lr": 0.1}])


@every_task
def test_the_optimum_is_reached_at_the_minimum_and_nowhere_lower(name: str) -> None:
    """Flat there, and no lower near it by another solver's word."""
    task, formula = CASES[name]
    assert task.optimum is not None
    for seed in range(2):
        start, kept = drawn(task, seed)
        known = kept.get("minimum")
        if known is None:
            known = torch.tensor(task.minimizers[0], dtype=torch.float64)
        at = {"x": known}
        assert float(task.loss(at | kept, None)) == pytest.approx(task.optimum, abs=1e-15)
        steepness = float(slope(task, start, kept)["x"].abs().max())
        assert float(slope(task, at, kept)["x"].abs().max()) <= 1e-12 * max(1.0, steepness)
        assert lowest_nearby(formula, arrays(kept), known.numpy()) >= float(task.optimum) - 1e-12


def lowest_nearby(formula: Callable[[Numbers], Any], kept: Numbers, known: Array) -> float:
    """The lowest value that another solver finds from beside a point."""
    found = minimize(
        lambda x: formula(kept | {"x": x.reshape(known.shape)}),
        (known + 0.1).ravel(),
        method="Powell",
        options={"maxiter": 20},
    )
    return float(found.fun)


def curvatures_of(task: Objective, seed: int = 0) -> Array:
    start, kept = drawn(task, seed)
    hessian = torch.autograd.functional.hessian(
        lambda x: task.loss({"x": x} | kept, None), start["x"]
    )
    size = start["x"].numel()
    values: Array = torch.linalg.eigvalsh(hessian.reshape(size, size)).numpy()
    return values


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (IllConditioned(1e4, 5), [1e-2, 1e-1, 1, 1e1, 1e2]),
        (IllConditionedRotated(1e4, 5), [1e-2, 1e-1, 1, 1e1, 1e2]),
        (IllConditionedMatrix(1e4, 3), [1e-2, 1e-1, 1e-1, 1, 1, 1, 1e1, 1e1, 1e2]),
        (OutlyingCurvatures(1e4, 2, 6), [1, 1, 1, 1, 1e4, 1e4]),
        (EqualCoupling(0.99, 4), [0.01, 0.01, 0.01, 3.97]),
        (Chain(50), [2 - 2 * math.cos(k * math.pi / 51) for k in range(1, 51)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_quadratic_has_the_curvatures_that_it_is_said_to_have(
    task: Objective, expected: list[float]
) -> None:
    np.testing.assert_allclose(curvatures_of(task), expected, rtol=1e-9)


def test_rotations_are_orthogonal_and_uniform() -> None:
    """The first column of a Haar matrix is uniform on a sphere: moments 1/n and 3/(n (n + 2))."""
    task, n = IllConditionedRotated(10.0, 4), 4
    rotations = torch.stack([drawn(task, seed)[1]["rotation"] for seed in range(2000)])
    eye = torch.eye(n, dtype=torch.float64).expand(2000, n, n)
    torch.testing.assert_close(rotations @ rotations.mT, eye, rtol=0, atol=1e-12)
    assert abs(float(rotations.mean())) < 4 / math.sqrt(2000 * n)
    mean, squares = rotations.mean(dim=0), rotations.square()
    assert float(mean.abs().max()) < 4.5 / math.sqrt(2000 * n)
    np.testing.assert_allclose(squares.mean(dim=0).numpy(), 1 / n, atol=0.03)
    fourth = rotations.pow(4).mean(dim=0).numpy()
    np.testing.assert_allclose(fourth, 3 / (n * (n + 2)), atol=0.03)


def test_the_start_and_the_minimum_are_independent_and_of_unit_variance() -> None:
    pairs = [drawn(IllConditioned(), seed) for seed in range(500)]
    starts = torch.cat([start["x"] for start, _ in pairs]).numpy()
    minima = torch.cat([kept["minimum"] for _, kept in pairs]).numpy()
    assert abs(float(np.corrcoef(starts, minima)[0, 1])) < 4 / math.sqrt(len(starts))
    for values in (starts, minima):
        assert abs(values.mean()) < 4 / math.sqrt(len(values))
        assert values.std() == pytest.approx(1, abs=4 / math.sqrt(2 * len(values)))


def test_a_chain_starts_at_zero_and_never_near_its_minimum() -> None:
    for seed in range(200):
        start, kept = drawn(Chain(30), seed)
        assert not start["x"].any()
        error = float(Chain(30).metrics(start | kept, None)["error"])
        assert math.sqrt(1 / 3) * 0.95 < error <= 1.0 + 1e-9
        np.testing.assert_allclose(np.diff(kept["minimum"].numpy(), 2), 0, atol=1e-14)


def test_a_gradient_reaches_one_more_coordinate_of_the_chain_with_each_step() -> None:
    task = Chain(11)
    start, kept = drawn(task, 0)
    x = start["x"]
    for step in range(1, 4):
        x = x - 0.3 * slope(task, {"x": x}, kept)["x"]
        assert (x.abs() > 1e-12).tolist() == [min(i, 10 - i) < step for i in range(11)]


@pytest.mark.parametrize("distance", [1, 4])
def test_the_way_down_beale_from_afar_ends_at_the_minimum(distance: float) -> None:
    assert end_of_flow(BealeFar(distance)) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("distance", [0.3, 4])
def test_the_way_down_goldstein_and_price_from_afar_ends_at_the_lowest(distance: float) -> None:
    assert end_of_flow(GoldsteinPriceFar(distance)) == pytest.approx(3.0, abs=1e-3)


def end_of_flow(task: Objective) -> float:
    """The loss where x' = -grad f ends, by scipy's solver for stiff equations."""
    start, kept = drawn(task, 0)
    flow = scipy.integrate.solve_ivp(
        lambda _, x: -slope(task, {"x": torch.from_numpy(x)}, kept)["x"].numpy(),
        (0, 50),
        start["x"].numpy(),
        method="LSODA",
        rtol=1e-5,
        atol=1e-8,
    )
    return float(task.loss({"x": torch.from_numpy(flow.y[:, -1].copy())}, None))


def test_far_starts_lie_below_the_minimum_by_the_distance() -> None:
    starts = [drawn(BealeFar(2.0, start_spread=0.1), seed)[0]["x"] for seed in range(400)]
    mean, spread = torch.stack(starts).mean(dim=0), torch.stack(starts).std(dim=0)
    np.testing.assert_allclose(mean.numpy(), [3.0, -1.5], atol=4 * 0.1 / 20)
    np.testing.assert_allclose(spread.numpy(), 0.1, rtol=0.15)
    assert drawn(GoldsteinPriceFar(1.0, 0.0), 0)[0]["x"].tolist() == [0.0, -2.0]


def make_any(value: Any) -> Any:
    """A value of a wrong type, unseen by the type checker."""
    return value


def heavy_ball(least: float, most: float) -> dict[str, float]:
    """Polyak's step and momentum for curvatures between two numbers."""
    low, high = math.sqrt(least), math.sqrt(most)
    return {"lr": 4 / (low + high) ** 2, "momentum": ((high - low) / (high + low)) ** 2}


@pytest.mark.parametrize(
    ("task", "least", "most"),
    [
        (IllConditioned(1e3), 1e3**-0.5, 1e3**0.5),
        (IllConditionedRotated(1e3), 1e3**-0.5, 1e3**0.5),
        (IllConditionedMatrix(1e3), 1e3**-0.5, 1e3**0.5),
        (OutlyingCurvatures(1e3), 1.0, 1e3),
        (EqualCoupling(0.99), 0.01, 1 + 9 * 0.99),
        (Chain(64), 2 - 2 * math.cos(math.pi / 65), 2 + 2 * math.cos(math.pi / 65)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_momentum_as_its_theory_sets_it_wins_where_gradient_descent_cannot(
    task: Objective, least: float, most: float
) -> None:
    ball = lowest(task, torch.optim.SGD, heavy_ball(least, most), 300, "error")
    assert (ball <= 0.1).all()
    best_of_descent = {"lr": 2 / (least + most)}
    descent = lowest(task, torch.optim.SGD, best_of_descent, 300, "error")
    assert (descent > 0.1).mean() >= 0.8  # where a start lacks the flat direction, it may win
    assert (descent > ball).all()


def test_steps_for_each_parameter_undo_what_lies_along_the_axes_and_no_more() -> None:
    adam = {"lr": 0.05, "betas": (0.9, 0.9)}
    axes, askew = (
        lowest(kind(1e8), torch.optim.Adam, adam, 300, "error")
        for kind in (IllConditioned, IllConditionedRotated)
    )
    assert (axes <= 0.1).all()
    assert (askew > 0.1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IllConditioned(0.5), "condition_number must be finite and at least 1, got 0.5"),
        (
            lambda: IllConditioned(math.inf),
            "condition_number must be finite and at least 1, got inf",
        ),
        (
            lambda: IllConditioned(make_any("10")),
            "condition_number must be finite and at least 1, got '10'",
        ),
        (lambda: IllConditioned(10, 1), "dimension must be a whole number from 2, got 1"),
        (
            lambda: IllConditionedRotated(10, make_any(2.0)),
            "dimension must be a whole number from 2",
        ),
        (lambda: IllConditionedMatrix(size=1), "size must be a whole number from 2, got 1"),
        (lambda: OutlyingCurvatures(0.1), "outlier must be finite and at least 1, got 0.1"),
        (lambda: OutlyingCurvatures(10, 0), "outliers must be a whole number from 1, got 0"),
        (lambda: OutlyingCurvatures(10, 5, 5), "outliers must be below dimension, 5, got 5"),
        (lambda: EqualCoupling(1.0), "coupling must be below 1, got 1.0"),
        (lambda: EqualCoupling(-0.1), "coupling must be finite and at least 0, got -0.1"),
        (lambda: Chain(True), "dimension must be a whole number from 2, got True"),
        (lambda: Powers(1), "power must be finite and at least 2, got 1"),
        (lambda: DifferentPowers(1.5), "highest must be finite and at least 2, got 1.5"),
        (lambda: Zakharov(0), "dimension must be a whole number from 2, got 0"),
        (lambda: DixonPrice(1), "dimension must be a whole number from 2, got 1"),
        (lambda: DixonPrice(2, -1), "start_spread must be finite and at least 0, got -1"),
        (lambda: BealeFar(-1), "distance must be finite and at least 0, got -1"),
        (lambda: GoldsteinPriceFar(math.nan), "distance must be finite and at least 0, got nan"),
        (lambda: BealeFar(1, -1), "start_spread must be finite and at least 0, got -1"),
    ],
)
def test_what_a_task_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
