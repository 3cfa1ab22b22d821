"""Objectives that ship: against formulas from the literature, derivatives and other solvers."""

from __future__ import annotations

import importlib
import itertools
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from builders import make_plan, make_workload
from numpy.typing import NDArray
from torch import nn

from harness.engine.lanes import Lane
from harness.engine.loading import load_objective
from harness.engine.sharing import decide
from harness.engine.training_loop import train
from harness.engine.workload import Workload, describe, prepare
from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.dataset import Dataset
from harness.objectives.functions_2d import Ackley, Function2D, McCormick
from harness.objectives.logistic_regression import LogisticRegression
from harness.objectives.multilayer_perceptron import MultilayerPerceptron
from harness.objectives.noisy_quadratic import NoisyQuadratic
from harness.objectives.rosenbrock import Rosenbrock
from harness.spec.validation import load
from harness.suite.locate import locate
from harness.suite.shipped import SHIPPED_OBJECTIVES

pytestmark = pytest.mark.usefixtures("one_thread", "shared_though_slower")

ROOT = Path(__file__).resolve().parents[2]
airfoil = locate("airfoil", ROOT, "datasets").load()
spirals = locate("spirals", ROOT, "datasets").load()
sympy: Any = importlib.import_module("sympy")
minimize: Any = scipy.optimize.minimize

# As printed in the literature (see the module's list), and values that it prints or that can be
# had by hand: values at the starts of Moré, Garbow and Hillstrom (24.2, 400.5 and 14.203125),
# local extrema and round points.
FORMULAS: dict[str, tuple[str, dict[tuple[float, float], float]]] = {
    "sphere": ("x**2 + y**2", {(3, 4): 25}),
    "booth": ("(x + 2*y - 7)**2 + (2*x + y - 5)**2", {(0, 0): 74, (1, 3): 0}),
    "matyas": ("0.26*(x**2 + y**2) - 0.48*x*y", {(10, 10): 4, (10, -10): 100}),
    "rosenbrock_2d": ("100*(y - x**2)**2 + (1 - x)**2", {(-1.2, 1): 24.2, (0, 0): 1}),
    "beale": (
        "(1.5 - x + x*y)**2 + (2.25 - x + x*y**2)**2 + (2.625 - x + x*y**3)**2",
        {(1, 1): 14.203125, (0, 0): 14.203125},
    ),
    "freudenstein_roth": (
        "(-13 + x + ((5 - y)*y - 2)*y)**2 + (-29 + x + ((y + 1)*y - 14)*y)**2",
        {(0.5, -2): 400.5, (11.4127789, -0.8968053): 48.9842537},
    ),
    "himmelblau": (
        "(x**2 + y - 11)**2 + (x + y**2 - 7)**2",
        {(0, 0): 170, (-0.270845, -0.923039): 181.616522},
    ),
    "three_hump_camel": (
        "2*x**2 - 1.05*x**4 + x**6/6 + x*y + y**2",
        {(1.7475523, -0.8737762): 0.2986384, (1, 1): 2 - 1.05 + 1 / 6 + 2},
    ),
    "six_hump_camel": (
        "(4 - 2.1*x**2 + x**4/3)*x**2 + x*y + (-4 + 4*y**2)*y**2",
        {
            (0, 0): 0,
            (1.7036067, -0.7960836): -0.2154638,
            (-1.6071048, -0.5686515): 2.1042503,
        },
    ),
    "branin": (
        "(y - 5.1/(4*pi**2)*x**2 + 5/pi*x - 6)**2 + 10*(1 - 1/(8*pi))*cos(x) + 10",
        {(0, 0): 55.602112642270262},
    ),
    "goldstein_price": (
        "(1 + (x + y + 1)**2*(19 - 14*x + 3*x**2 - 14*y + 6*x*y + 3*y**2))"
        "*(30 + (2*x - 3*y)**2*(18 - 32*x + 12*x**2 + 48*y - 36*x*y + 27*y**2))",
        {(-0.6, -0.4): 30, (1.8, 0.2): 84, (1.2, 0.8): 840, (0, 0): 600},
    ),
    "mccormick": ("sin(x + y) + (x - y)**2 - 1.5*x + 2.5*y + 1", {(0, 0): 1}),
    "styblinski_tang": (
        "(x**4 - 16*x**2 + 5*x + y**4 - 16*y**2 + 5*y)/2",
        {(0, 0): 0, (2.7468028, 2.7468028): -50.0588929, (1, 1): -10},
    ),
    "rastrigin": (
        "20 + x**2 - 10*cos(2*pi*x) + y**2 - 10*cos(2*pi*y)",
        {(1, 1): 2, (0.5, 0.5): 40.5},
    ),
    "ackley": (
        "-20*exp(-0.2*sqrt((x**2 + y**2)/2)) - exp((cos(2*pi*x) + cos(2*pi*y))/2) + 20 + E",
        {(1, 1): 20 * (1 - math.exp(-0.2))},
    ),
    "levy": (
        "sin(pi*(1 + (x - 1)/4))**2 + ((x - 1)/4)**2*(1 + 10*sin(pi*(1 + (x - 1)/4) + 1)**2)"
        "+ ((y - 1)/4)**2*(1 + sin(2*pi*(1 + (y - 1)/4))**2)",
        {(1, 5): 1, (5, 1): 1 + 10 * math.sin(1) ** 2, (1, 1): 0},
    ),
    "griewank": (
        "x**2/4000 + y**2/4000 - cos(x)*cos(y/sqrt(2)) + 1",
        {(0, 0): 0, (2 * math.pi, 0): math.pi**2 / 1000, (math.pi / 2, 0): 1 + math.pi**2 / 16000},
    ),
    "drop_wave": (
        "-(1 + cos(12*sqrt(x**2 + y**2)))/((x**2 + y**2)/2 + 2)",
        {(0, 0): -1, (math.pi / 12, 0): 0, (0, math.pi / 6): -1 / (1 + math.pi**2 / 144)},
    ),
    "cross_in_tray": (
        "-(abs(sin(x)*sin(y)*exp(abs(100 - sqrt(x**2 + y**2)/pi))) + 1)**0.1/10000",
        {(0, 0): -1e-4, (1.3491, -1.3491): -2.0626118, (1.3494, 1.3494): -2.0626119},
    ),
    "eggholder": (
        "-(y + 47)*sin(sqrt(abs(y + x/2 + 47))) - x*sin(sqrt(abs(x - (y + 47))))",
        {(512, 404.2319): -959.6406627, (0, 0): -47 * math.sin(math.sqrt(47))},
    ),
    "schaffer_2": (
        "0.5 + (sin(x**2 - y**2)**2 - 0.5)/(1 + 0.001*(x**2 + y**2))**2",
        {(0, 0): 0, (1, 1): 0.5 - 0.5 / 1.002**2},
    ),
    "shubert": (
        "(cos(2*x+1) + 2*cos(3*x+2) + 3*cos(4*x+3) + 4*cos(5*x+4) + 5*cos(6*x+5))"
        "*(cos(2*y+1) + 2*cos(3*y+2) + 3*cos(4*y+3) + 4*cos(5*y+4) + 5*cos(6*y+5))",
        {(-7.0835, 4.8580): -186.7309, (-1.42513, -0.80032): -186.7309088},
    ),
    "langermann": (
        "+".join(
            f"{c}*exp(-((x-{a})**2 + (y-{b})**2)/pi)*cos(pi*((x-{a})**2 + (y-{b})**2))"
            for a, b, c in ((3, 5, 1), (5, 2, 2), (2, 1, 5), (1, 4, 2), (7, 9, 3))
        ),
        {(2.7934022, 1.5972325): -4.1558092918},
    ),
}
every_function = pytest.mark.parametrize("name", FORMULAS)


def shipped(name: str) -> Any:
    return locate(name, ROOT, "objectives").load()


def point(*values: float) -> Parameters:
    return {"x": torch.tensor(values, dtype=torch.float64)}


def value_at(objective: Objective, at: Sequence[float]) -> float:
    return float(objective.loss(point(*at), None))


def slope_at(objective: Objective, at: Sequence[float]) -> NDArray[np.float64]:
    x = torch.tensor(tuple(at), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(objective.loss({"x": x}, None), x)
    return slope.numpy()


def some_points(objective: Objective, count: int = 40) -> NDArray[np.float64]:
    """Points all over a function's window, its start first."""
    assert objective.window is not None
    low, high = np.array(objective.window).T
    random = np.random.default_rng(1)
    start = objective.init(torch.Generator().manual_seed(0))["x"].numpy()
    return np.vstack([start, low + (high - low) * random.random((count, 2))])


def in_tens(
    objective: Objective,
    dtype: torch.dtype = torch.float64,
    steps: int = 20,
    batch_size: int | None = 10,
) -> Workload:
    """A workload in batches of ten rows, where there are data."""
    return make_workload(
        objective,
        dtype=dtype,
        steps=steps,
        steps_per_epoch=10,
        batch_size=batch_size,
        divergence_factor=1e9,
    )


def test_every_function_that_ships_is_tested_here() -> None:
    functions = {n for n, where in SHIPPED_OBJECTIVES.items() if "2d:" in where} - {"quadratic_2d"}
    assert functions == set(FORMULAS)


@every_function
def test_a_function_has_the_values_that_the_literature_prints(name: str) -> None:
    function = shipped(name)()
    for at, expected in FORMULAS[name][1].items():
        assert value_at(function, at) == pytest.approx(expected, rel=1e-7, abs=1e-7)


@every_function
def test_a_function_and_its_gradient_are_those_of_the_printed_formula(name: str) -> None:
    """Values by numpy from the formula's text, derivatives by algebra."""
    function = shipped(name)()
    symbols = sympy.symbols("x y", real=True)
    formula = sympy.sympify(FORMULAS[name][0], locals=dict(zip("xy", symbols, strict=True)))
    value = sympy.lambdify(symbols, formula, "numpy")
    slope = sympy.lambdify(symbols, [sympy.diff(formula, v) for v in symbols], "numpy")
    printed_for = 512 if name == "eggholder" else math.inf
    for at in some_points(function):
        if np.abs(at).max() > printed_for:
            continue
        scale = max(1.0, abs(value(*at)))
        assert value_at(function, at) == pytest.approx(value(*at), rel=1e-12, abs=1e-12 * scale)
        expected = np.array(slope(*at))
        tolerance = 1e-11 * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(slope_at(function, at), expected, rtol=1e-11, atol=tolerance)


@every_function
def test_a_function_s_gradient_is_what_central_differences_give(name: str) -> None:
    function = shipped(name)()
    h = 1e-5
    for at in some_points(function, 10):
        differences = [
            (value_at(function, at + h * e) - value_at(function, at - h * e)) / (2 * h)
            for e in np.eye(2)
        ]
        scale = max(1.0, abs(value_at(function, at)), float(np.abs(differences).max()))
        np.testing.assert_allclose(slope_at(function, at), differences, atol=2e-7 * scale)


@every_function
def test_a_function_is_at_its_optimum_and_flat_at_each_minimizer(name: str) -> None:
    function = shipped(name)()
    for minimizer in function.minimizers:
        assert value_at(function, minimizer) == pytest.approx(
            function.optimum, rel=1e-14, abs=1e-14
        )
        curvature = torch.autograd.functional.hessian(
            lambda x: function.loss({"x": x}, None), torch.tensor(minimizer, dtype=torch.float64)
        )
        steepness = 1.0 if name == "ackley" else float(torch.linalg.eigvalsh(curvature)[-1])
        slope = np.abs(slope_at(function, minimizer))
        # As flat as rounding the minimizer to float64 lets it be; at an edge, along the edge.
        at_edge = (np.array(minimizer) == 512) & (name == "eggholder")
        assert slope[np.logical_not(at_edge)].max() <= 1e-13 * max(1.0, steepness)


@every_function
def test_a_window_holds_the_start_and_every_minimizer(name: str) -> None:
    function = shipped(name)()
    for at in (some_points(function)[0], *function.minimizers):
        for value, (low, high) in zip(at, function.window, strict=True):
            assert low < value < high


@every_function
def test_no_point_of_a_window_is_lower_and_only_the_minimizers_are_as_low(name: str) -> None:
    """From every dip of a fine grid and from a global search, down to a minimum."""
    function = shipped(name)()
    bounds: Any = function.window
    many = torch.func.vmap(lambda x: function.loss({"x": x}, None))

    def values(at: NDArray[np.float64], /) -> Any:
        return many(torch.from_numpy(np.ascontiguousarray(at.T))).numpy()

    x, y = np.meshgrid(*(np.linspace(low, high, 301) for low, high in bounds), indexing="ij")
    heights = values(np.vstack([x.ravel(), y.ravel()])).reshape(x.shape)
    around = np.pad(heights, 1, constant_values=np.inf)
    neighbours = [
        np.roll(around, s, (0, 1))[1:-1, 1:-1] for s in ((0, 1), (0, -1), (1, 0), (-1, 0))
    ]
    dips = np.argwhere(heights <= np.min(neighbours, axis=0))
    lowest = sorted(dips.tolist(), key=lambda at: float(heights[at[0], at[1]]))
    lowest = lowest[: max(12, 2 * len(function.minimizers))]
    starts = [(float(x[i, j]), float(y[i, j])) for i, j in lowest]
    searched = scipy.optimize.differential_evolution(
        values,
        bounds,
        rng=0,
        vectorized=True,
        updating="deferred",
        polish=False,
        tol=1e-12,
        popsize=100 if name == "eggholder" else 15,
    )
    assert searched.fun == pytest.approx(function.optimum, abs=1e-6)
    found: list[tuple[NDArray[np.float64], float]] = []
    for start in (tuple(searched.x), *starts):
        reached = minimize(
            lambda at: (value_at(function, at), slope_at(function, at)),
            np.array(start),
            jac=True,
            bounds=bounds,
            method="L-BFGS-B",
            options={"ftol": 1e-16, "gtol": 1e-11},
        )
        assert reached.fun >= function.optimum - 1e-12 * max(1.0, abs(function.optimum))
        found.append((reached.x, reached.fun))
    as_low = [at for at, height in found if height < function.optimum + 1e-8]
    known = np.array(function.minimizers)
    nearest = {int(np.argmin(np.linalg.norm(known - at, axis=1))) for at in as_low}
    assert all(np.linalg.norm(known - at, axis=1).min() < 1e-3 for at in as_low)
    assert nearest == set(range(len(known)))


@every_function
def test_a_function_gives_the_same_side_by_side_as_one_by_one(name: str) -> None:
    function = shipped(name)()
    points = torch.from_numpy(some_points(function))
    together = torch.func.vmap(function.loss, in_dims=(0, None))({"x": points}, None)
    one_by_one = torch.stack([function.loss({"x": at}, None) for at in points])
    torch.testing.assert_close(together, one_by_one, rtol=1e-14, atol=1e-14)
    single = torch.func.vmap(function.loss, in_dims=(0, None))({"x": points.float()}, None)
    assert single.dtype == torch.float32
    scale = float(one_by_one.abs().max())
    torch.testing.assert_close(single.double(), one_by_one, rtol=1e-4, atol=1e-6 * scale)


def test_ackley_is_exactly_zero_at_the_tip_and_has_a_gradient_everywhere() -> None:
    assert value_at(Ackley(), (0, 0)) == 0.0
    assert slope_at(Ackley(), (0, 0)).tolist() == [0.0, 0.0]
    # Beside the tip the cone's slope is 20 · 0.2 / sqrt(2) along each axis.
    assert slope_at(Ackley(), (1e-9, 0)) == pytest.approx([4 / math.sqrt(2), 0], abs=1e-6)
    batch = torch.zeros(3, 2, dtype=torch.float64)
    slopes = torch.func.vmap(torch.func.grad(lambda x: Ackley().loss({"x": x}, None)))(batch)
    assert slopes.abs().max() == 0


def test_mccormick_falls_by_pi_with_each_ripple() -> None:
    here = McCormick.minimizers[0]
    beyond = (here[0] - math.pi, here[1] - math.pi)
    assert value_at(McCormick(), beyond) == pytest.approx(McCormick.optimum - math.pi, rel=1e-13)


@every_function
def test_seeds_start_alike_unless_the_start_is_spread(name: str) -> None:
    make: type[Function2D] = shipped(name)

    def starts(function: Function2D) -> NDArray[np.float64]:
        drawn = [function.init(torch.Generator().manual_seed(s))["x"] for s in range(300)]
        return torch.stack(drawn).numpy()

    assert np.array_equal(starts(make()), [make.usual_start] * 300)
    spread = starts(make(start=[1, 2], start_spread=0.5))
    assert np.array_equal(spread, starts(make(start=(1.0, 2.0), start_spread=0.5)))
    np.testing.assert_allclose(spread.mean(axis=0), [1, 2], atol=4 * 0.5 / math.sqrt(300))
    np.testing.assert_allclose(spread.std(axis=0), 0.5, rtol=4 / math.sqrt(600))


def test_a_window_reaches_to_a_start_outside_the_usual_one() -> None:
    window = shipped("booth")(start=(30.0, -4.0)).window
    assert window == ((-10.0, 32.0), (-10.0, 10.0))
    assert shipped("booth").domain == ((-10.0, 10.0), (-10.0, 10.0))


@every_function
def test_a_shift_moves_the_function_with_all_that_is_known_of_it(name: str) -> None:
    plain, moved = shipped(name)(), shipped(name)(shift=[3, -1.5])
    by = np.array([3.0, -1.5])
    for at in some_points(plain, 10):
        assert value_at(moved, at + by) == pytest.approx(value_at(plain, at), rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(moved.minimizers, np.array(plain.minimizers) + by)
    np.testing.assert_allclose(moved.window, np.array(plain.window) + by[:, None])
    np.testing.assert_allclose(some_points(moved)[0], some_points(plain)[0] + by)
    assert shipped(name)(shift=[3, -1.5], start=[1, 2]).init(torch.Generator())["x"].tolist() == [
        1.0,
        2.0,
    ]


def test_eggholder_has_no_lower_place_beyond_its_edge_and_leads_back() -> None:
    eggholder = shipped("eggholder")()
    outside = np.random.default_rng(2).uniform(-3000, 3000, (500, 2))
    for at in outside[np.abs(outside).max(axis=1) > 512]:
        nearest = np.clip(at, -512, 512)
        beyond = value_at(eggholder, nearest) + float(np.square(at - nearest).sum())
        assert value_at(eggholder, at) == pytest.approx(beyond, rel=1e-12)
        assert value_at(eggholder, at) > eggholder.optimum
    assert slope_at(eggholder, (600, 0))[0] == 2 * 88
    assert slope_at(eggholder, (0, -47)).tolist()[1] == 0


@every_function
def test_no_point_far_away_is_lower_than_the_optimum(name: str) -> None:
    """McCormick's has no lower bound, and says so: a step of (-π, -π) leads π lower."""
    function = shipped(name)()
    assert function.optimum is not None
    random = np.random.default_rng(3)
    directions = random.standard_normal((20_000, 2))
    directions /= np.hypot(*directions.T)[:, None]
    lengths = 10 ** random.uniform(-2, 6, 20_000)
    diagonals = lengths[:1000, None, None] * np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]])
    points = torch.tensor(np.concatenate([directions * lengths[:, None], diagonals.reshape(-1, 2)]))
    values = torch.func.vmap(function.value)(*points.T)
    lowest = float(values.min())
    assert (lowest < function.optimum - 1e5) == (name == "mccormick")
    if name != "mccormick":
        assert lowest >= function.optimum - 1e-9 * abs(function.optimum)


@pytest.mark.parametrize("name", ["drop_wave", "cross_in_tray", "eggholder"])
def test_a_root_s_kink_gives_a_gradient_that_is_a_number(name: str) -> None:
    for at in ((0, 0), (0, -47), (47, 0), (0, 1), (math.pi, 0)):
        assert np.isfinite(slope_at(shipped(name)(), at)).all()


@every_function
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shift": [1]}, r"shift must be two numbers, got \[1\]"),
        ({"shift": [1, math.inf]}, r"shift must be two finite numbers, got \[1, inf\]"),
        ({"start": [1]}, r"start must be two numbers, got \[1\]"),
        ({"start": "12"}, "start must be two numbers, got '12'"),
        ({"start": [1, math.nan]}, r"start must be two finite numbers, got \[1, nan\]"),
        ({"start": ["1", 2]}, "start must be two finite numbers"),
        ({"start_spread": -0.1}, "start_spread must be finite and at least 0, got -0.1"),
        ({"start_spread": math.inf}, "start_spread must be finite and at least 0, got inf"),
    ],
)
def test_a_start_that_is_none_is_refused(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        shipped(name)(**arguments)


@pytest.mark.parametrize("dimension", [2, 3, 10])
def test_rosenbrock_in_many_dimensions_is_that_of_scipy(dimension: int) -> None:
    objective = Rosenbrock(dimension)
    for at in np.random.default_rng(0).normal(size=(20, dimension)):
        assert value_at(objective, at) == pytest.approx(scipy.optimize.rosen(at), rel=1e-13)
        np.testing.assert_allclose(
            slope_at(objective, at), scipy.optimize.rosen_der(at), rtol=1e-11, atol=1e-10
        )
    assert objective.minimizers == ((1.0,) * dimension,)
    assert value_at(objective, objective.minimizers[0]) == objective.optimum == 0.0


def test_rosenbrock_starts_at_the_usual_point_and_shows_a_window_in_two_dimensions() -> None:
    random = torch.Generator().manual_seed(3)
    assert Rosenbrock(5).init(random)["x"].tolist() == [-1.2, 1.0, -1.2, 1.0, -1.2]
    spread = Rosenbrock(2000, start_spread=0.1).init(random)["x"]
    assert float((spread - Rosenbrock(2000).init(random)["x"]).std()) == pytest.approx(0.1, rel=0.1)
    assert Rosenbrock(2).window == shipped("rosenbrock_2d")().window
    assert Rosenbrock(3).window is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 1}, "dimension must be a whole number from 2, got 1"),
        ({"dimension": 2.0}, "dimension must be a whole number from 2, got 2.0"),
        ({"dimension": True}, "dimension must be"),
        ({"start_spread": -1}, "start_spread must be finite and at least 0, got -1"),
        ({"start_spread": math.nan}, "start_spread must be finite"),
    ],
)
def test_rosenbrock_refuses_what_it_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rosenbrock(**arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [2, 250, 1000])
def test_over_all_rows_the_noisy_quadratic_is_exactly_the_quadratic(
    rows: int, dtype: torch.dtype
) -> None:
    objective = NoisyQuadratic(dimension=7, condition_number=50, noise=3, rows=rows)
    data = in_tens(objective, dtype).data
    assert data is not None
    shuffled = (data[0][torch.randperm(rows, generator=torch.Generator().manual_seed(0))],)
    x = torch.randn(7, dtype=dtype, generator=torch.Generator().manual_seed(1))
    curvatures = torch.logspace(-math.log10(50), 0, 7, dtype=torch.float64).to(dtype)
    for batch in (data, shuffled):
        value, slope = (
            objective.loss({"x": x}, batch),
            torch.func.grad(objective.loss)({"x": x}, batch),
        )
        assert torch.equal(value, objective.evaluate({"x": x}, batch))
        torch.testing.assert_close(value, (curvatures * x * x).sum() / 2)
        torch.testing.assert_close(slope["x"], curvatures * x)


def test_the_noisy_quadratic_s_curvatures_have_the_condition_number_asked_for() -> None:
    objective = NoisyQuadratic(dimension=5, condition_number=1e4)
    hessian = torch.autograd.functional.hessian(
        lambda x: objective.loss({"x": x}, objective.data), torch.ones(5, dtype=torch.float64)
    )
    expected = np.diag([1e-4, 1e-3, 1e-2, 1e-1, 1])
    np.testing.assert_allclose(hessian.numpy(), expected, rtol=1e-12, atol=1e-18)


def test_the_noisy_quadratic_s_gradients_spread_as_asked_and_less_in_batches() -> None:
    objective = NoisyQuadratic(dimension=6, noise=2.5, rows=1000)
    assert objective.data is not None
    x = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slope = torch.func.grad(objective.loss)

    def errors(batches: torch.Tensor) -> torch.Tensor:
        slopes = torch.func.vmap(lambda batch: slope({"x": x}, (batch,))["x"])(batches)
        off: torch.Tensor = slopes - objective.curvatures * x
        return off

    single = errors(objective.data[0][:, None])
    np.testing.assert_allclose(single.std(dim=0, correction=0).numpy(), 2.5, rtol=1e-3)
    random = torch.Generator().manual_seed(2)
    order = torch.stack([torch.randperm(1000, generator=random) for _ in range(40)])
    tens = errors(objective.data[0][order].reshape(-1, 10, 6))
    np.testing.assert_allclose(tens.std(dim=0).numpy(), 2.5 / math.sqrt(10), rtol=0.05)


def test_the_noisy_quadratic_s_noise_depends_on_the_seed_alone() -> None:
    workload = in_tens(NoisyQuadratic(rows=100), steps=15)
    runs = [
        train(workload, torch.optim.SGD, [{"lr": 0.1}], [Lane(0, s)], way="alone").losses[0]
        for s in (0, 0, 1)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    quiet = in_tens(NoisyQuadratic(noise=0.0, rows=100), steps=15)
    losses = train(quiet, torch.optim.SGD, [{"lr": 0.1}], [Lane(0, 0)], way="alone").losses[0]
    start = quiet.start(0)["x"].numpy()
    h = np.geomspace(0.01, 1, 20)
    expected = [0.5 * np.sum(h * (start * (1 - 0.1 * h) ** k) ** 2) for k in range(16)]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 1}, "dimension must be a whole number from 2, got 1"),
        ({"rows": 7}, "rows must be even, got 7"),
        ({"rows": 0}, "rows must be a whole number from 2, got 0"),
        ({"condition_number": 0.5}, "condition_number must be finite and at least 1, got 0.5"),
        ({"condition_number": math.inf}, "condition_number must be finite"),
        ({"noise": -1.0}, "noise must be finite and at least 0, got -1.0"),
        ({"noise": math.nan}, "noise must be finite"),
    ],
)
def test_the_noisy_quadratic_refuses_what_it_cannot_be(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NoisyQuadratic(**arguments)


LOGISTIC: dict[str, Callable[[], LogisticRegression]] = {
    "airfoil": lambda: LogisticRegression(airfoil(), threshold="median"),
    "spirals": lambda: LogisticRegression(spirals(), l2=0.1),
    "separable": lambda: LogisticRegression(separable(), l2=1e-6),
}


def separable() -> Dataset:
    """Classes with a gap between them, of different sizes: without a penalty, no minimum."""
    features = np.array([[-3.0], [-2.0], [-1.0], [1.0], [2.0]])
    return Dataset(features, np.array([0, 0, 0, 1, 1]), ("x",), "class", "")


@pytest.mark.parametrize("name", LOGISTIC)
def test_the_optimum_of_a_logistic_regression_is_where_another_solver_ends(name: str) -> None:
    objective = LOGISTIC[name]()
    assert objective.data is not None
    x, y = (tensor.numpy() for tensor in objective.data)
    signs = 2 * y - 1
    l2 = {"airfoil": 1e-3, "spirals": 0.1, "separable": 1e-6}[name]

    def value(point: NDArray[np.float64]) -> float:
        margins = signs * (x @ point[:-1] + point[-1])
        return float(np.logaddexp(0, -margins).mean() + l2 / 2 * point[:-1] @ point[:-1])

    def slope(point: NDArray[np.float64]) -> NDArray[np.float64]:
        pull = -signs / (1 + np.exp(signs * (x @ point[:-1] + point[-1]))) / len(y)
        return np.append(x.T @ pull + l2 * point[:-1], pull.sum())

    start = np.zeros(x.shape[1] + 1)
    solved = scipy.optimize.minimize(value, start, jac=slope, method="BFGS", options={"gtol": 1e-9})
    assert objective.optimum == pytest.approx(solved.fun, rel=1e-9)
    np.testing.assert_allclose(objective.minimizers[0], solved.x, rtol=1e-4, atol=1e-5)
    (*weight, bias) = objective.minimizers[0]
    params = {
        "weight": torch.tensor(weight, dtype=torch.float64),
        "bias": torch.tensor(bias, dtype=torch.float64),
    }
    slopes = torch.func.grad(objective.loss)(params, objective.data)
    assert float(objective.loss(params, objective.data)) == pytest.approx(
        objective.optimum, rel=1e-14
    )
    assert max(float(s.abs().max()) for s in slopes.values()) < 1e-12


def test_the_log_loss_survives_scores_of_any_size() -> None:
    objective = LogisticRegression(separable(), l2=0.0)
    assert objective.optimum is None
    assert objective.minimizers == ()
    for size in (1e4, -1e4):
        params = {"weight": torch.tensor([size], requires_grad=True), "bias": torch.zeros(())}
        batch = (torch.tensor([[-3.0], [2.0]]), torch.tensor([0.0, 1.0]))
        loss = objective.loss(params, batch)
        loss.backward()
        assert loss.item() == (0.0 if size > 0 else 2.5e4)
        assert params["weight"].grad is not None
        assert float(params["weight"].grad) == (0.0 if size > 0 else -2.5)


def test_the_threshold_halves_real_labels() -> None:
    objective = LogisticRegression(airfoil(), threshold="median")
    assert objective.data is not None
    labels = airfoil().labels
    assert np.array_equal(objective.data[1].numpy() == 1, labels > np.median(labels))
    assert float(objective.data[1].mean()) == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "labels must be 0 and 1, both of them; threshold: median"),
        ({"threshold": "mean"}, "threshold must be 'median' or left out, got 'mean'"),
        ({"threshold": "median", "l2": -1}, "l2 must be finite and at least 0, got -1"),
        ({"threshold": "median", "l2": math.inf}, "l2 must be finite"),
        ({"threshold": "median", "init_scale": -1}, "init_scale must be finite"),
    ],
)
def test_logistic_regression_refuses_what_it_cannot_fit(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LogisticRegression(airfoil(), **arguments)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("data", [airfoil, spirals])
@pytest.mark.parametrize("hidden", [(4,), (5, 3)])
def test_the_perceptron_is_the_network_that_torch_builds_of_the_same_layers(
    hidden: tuple[int, ...], data: Callable[..., Dataset], activation: Any
) -> None:
    table = data(rows=30)
    objective = MultilayerPerceptron(table, hidden=hidden, activation=activation)
    classes = table.labels.dtype == np.int64
    widths = [table.features.shape[1], *hidden, 2 if classes else 1]
    assert objective.widths == tuple(widths)
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        parts += [nn.Linear(inputs, outputs), nn.Tanh() if activation == "tanh" else nn.ReLU()]
    network = nn.Sequential(*parts[:-1]).double()
    params = {k: v.double() for k, v in objective.init(torch.Generator().manual_seed(0)).items()}
    own = list(network.parameters())
    assert [p.shape for p in own] == [p.shape for p in params.values()]
    with torch.no_grad():
        for there, here in zip(own, params.values(), strict=True):
            there.copy_(here)
    x, y = objective.data or ()
    output = network(x)
    loss = nn.CrossEntropyLoss()(output, y) if classes else nn.MSELoss()(output[:, 0], y) / 2
    loss.backward()
    assert float(objective.loss(params, (x, y))) == pytest.approx(loss.item(), rel=1e-13)
    slopes = torch.func.grad(objective.loss)(params, (x, y))
    for there, slope in zip(own, slopes.values(), strict=True):
        torch.testing.assert_close(slope, there.grad, rtol=1e-11, atol=1e-14)
    leaves = [p.requires_grad_() for p in params.values()]

    def flat(*values: torch.Tensor) -> torch.Tensor:
        return objective.loss(dict(zip(params, values, strict=True)), (x, y))

    assert torch.autograd.gradcheck(flat, leaves)  # central differences


def test_the_perceptron_starts_as_linear_layers_do() -> None:
    objective = MultilayerPerceptron(airfoil(rows=5), hidden=[400, 200])
    params = objective.init(torch.Generator().manual_seed(1))
    again = objective.init(torch.Generator().manual_seed(1))
    assert all(torch.equal(params[name], again[name]) for name in params)
    torch.manual_seed(0)
    layers = [nn.Linear(5, 400), nn.Linear(400, 200), nn.Linear(200, 1)]
    theirs = [p.detach() for layer in layers for p in (layer.weight, layer.bias)]
    for (name, here), there, inputs in zip(
        params.items(), theirs, (5, 5, 400, 400, 200, 200), strict=True
    ):
        bound = 1 / math.sqrt(inputs)
        assert here.shape == there.shape, name
        assert float(here.abs().max()) <= bound
        if here.numel() >= 200:
            assert float(here.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
            assert float(there.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": []}, r"hidden must be a list of widths, got \[\]"),
        ({"hidden": 16}, "hidden must be a list of widths, got 16"),
        ({"hidden": [0]}, r"hidden must be whole numbers above zero, got \[0\]"),
        ({"hidden": [1.5]}, "hidden must be whole numbers"),
        ({"activation": "gelu"}, "activation must be 'tanh' or 'relu', got 'gelu'"),
    ],
)
def test_the_perceptron_refuses_what_it_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultilayerPerceptron(airfoil(), **arguments)
    classes = Dataset(np.zeros((2, 1)), np.array([-1, 0]), ("x",), "class", "")
    with pytest.raises(ValueError, match="labels must be classes numbered from 0"):
        MultilayerPerceptron(classes)


def test_spirals_are_scaled_balanced_and_the_same_every_time() -> None:
    data = spirals()
    assert data.features.shape == (400, 2)
    assert data.labels.dtype == np.int64
    assert np.bincount(data.labels).tolist() == [200, 200]
    np.testing.assert_allclose(data.features.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(data.features.std(axis=0), 1, rtol=1e-14)
    assert np.array_equal(spirals().features, data.features)
    assert spirals(rows=2).features.shape == (2, 2)
    with pytest.raises(ValueError, match="spirals: rows must be at least 2, got 1"):
        spirals(rows=1)


def test_no_line_tells_spirals_apart_but_their_nearest_neighbours_do() -> None:
    data = spirals()
    linear = LogisticRegression(data)
    weight = np.array(linear.minimizers[0])
    right = (data.features @ weight[:-1] + weight[-1] > 0) == (data.labels == 1)
    assert 0.5 <= right.mean() < 0.7
    apart = np.linalg.norm(data.features[:, None] - data.features, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (data.labels[apart.argmin(axis=1)] == data.labels).mean() > 0.95


def test_a_perceptron_learns_what_a_line_cannot() -> None:
    objective = MultilayerPerceptron(spirals(), hidden=[32, 32])
    workload = in_tens(objective, torch.float32, steps=600, batch_size=None)
    outcome = train(workload, torch.optim.Adam, [{"lr": 0.02}], [Lane(0, 0)], way="alone")
    line = LogisticRegression(spirals()).optimum
    assert line is not None
    assert line > 0.6
    assert outcome.losses[0, -1] < 0.1


def test_making_spirals_imports_neither_torch_nor_pandas() -> None:
    code = (
        "import runpy, sys; runpy.run_path('datasets/spirals.py')['spirals'](); "
        "print({'torch', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


WITH_DATA = """\
  on_airfoil: {class: logistic_regression, dataset: airfoil, batch_size: 50, epochs: 1,
    arguments: {threshold: median}}
  on_spirals: {class: logistic_regression, dataset: spirals, batch_size: 50, epochs: 2}
  network: {class: multilayer_perceptron, dataset: airfoil, batch_size: 50, epochs: 1}
  deep: {class: multilayer_perceptron, dataset: spirals, batch_size: 50, epochs: 2,
    dtype: float64, arguments: {hidden: [8, 8], activation: relu}}
  line: {class: linear_regression, dataset: airfoil, batch_size: 50, epochs: 1}
  noisy_quadratic: {batch_size: 10, epochs: 1}
  images: {class: convolutional_network, dataset: digits, batch_size: 50, steps: 3,
    split: {train: 0.8, test: 0.2}}
  signals: {class: convolutional_network, dataset: mnist1d, batch_size: 50, steps: 3,
    arguments: {kernel_size: 5, batch_norm: true, dropout: 0.1}}
  text: {class: causal_transformer, dataset: alice, batch_size: 8, steps: 3,
    arguments: {width: 8, dropout: 0.1}}
  far: {class: rosenbrock, steps: 20, arguments: {dimension: 30, start_spread: 0.1}}
"""


@pytest.mark.usefixtures("shared_though_slower")
def test_every_objective_that_ships_is_accepted_by_a_spec_and_shares_runs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    plain = [
        n for n, where in SHIPPED_OBJECTIVES.items() if n in FORMULAS or "quadratic_2d:" in where
    ]
    spec = tmp_path / "all.yaml"
    spec.write_text(
        "suite: all\nseeds: 3\nobjectives:\n"
        + "".join(f"  {name}: {{steps: 20, dtype: float64}}\n" for name in plain)
        + WITH_DATA
        + "optimizers:\n  sgd: {class: 'torch.optim:SGD', hyperparameters: {lr: 0.0001}}\n"
    )
    classes = set()
    for planned in make_plan(load(spec)).objectives:
        objective, source = load_objective(planned)
        workload = prepare(planned, objective, "cpu")
        sharing = decide(workload, torch.optim.SGD, [{"lr": 1e-4}, {"lr": 1e-5}], [0, 1, 2])
        assert (sharing.way, sharing.reason) == ("pointwise", ""), planned.name
        described = describe(workload, source)
        assert described.formula
        assert len(described.landscape) == (121 * 121 if described.dimension == 2 else 0)
        classes.add(planned.located.reference)
    assert classes == set(SHIPPED_OBJECTIVES)


class TrainedOneWayJudgedAnother(Objective):
    """Goes down x + y squared, and is recorded as ten times x plus the mean of the data."""

    def __init__(self) -> None:
        self.data = (torch.tensor([1.0, 2.0, 6.0]).double(),)

    def init(self, generator: torch.Generator) -> Parameters:
        return {"x": torch.randn(2, generator=generator, dtype=torch.float64)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        del batch
        return params["x"].square().sum()

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        recorded: torch.Tensor = 10 * params["x"][0] + batch[0].mean()
        return recorded


def test_what_is_recorded_and_drawn_is_evaluate_and_what_is_descended_is_loss() -> None:
    workload = in_tens(TrainedOneWayJudgedAnother(), steps=5, batch_size=1)
    lanes = [Lane(0, seed) for seed in range(3)]
    together = train(workload, torch.optim.SGD, [{"lr": 0.1}], lanes, way="pointwise")
    for lane in lanes:
        own = train(workload, torch.optim.SGD, [{"lr": 0.1}], [lane], way="alone")
        points = workload.start(lane.seed)["x"].numpy() * 0.8 ** np.arange(6)[:, None]
        for outcome, row in ((own, 0), (together, lane.seed)):
            assert outcome.trajectory is not None
            np.testing.assert_allclose(outcome.trajectory[row], points, rtol=1e-12)
            np.testing.assert_allclose(outcome.losses[row], 10 * points[:, 0] + 3, rtol=1e-12)
    described = describe(workload, "")
    assert described.window is not None
    (low, high), _ = described.window
    lowest = described.landscape[:121]
    np.testing.assert_allclose(lowest, 10 * np.linspace(low, high, 121) + 3, rtol=1e-12)
