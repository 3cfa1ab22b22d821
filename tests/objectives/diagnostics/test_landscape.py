"""Tasks of landscapes: against formulas in numpy, other solvers, and closed forms of descent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from builders import make_workload
from numpy.typing import NDArray

from harness.engine.lanes import Lane
from harness.engine.training_loop import train
from harness.objectives.base import Objective, Parameters
from harness.objectives.diagnostics.instances import random_rotation
from harness.objectives.diagnostics.landscape import (
    BentValley,
    DeepLinear,
    Plateau,
    ProductChain,
    StrictSaddle,
)
from harness.objectives.diagnostics.landscape_minima import RippledBowl, RippledPlate
from harness.objectives.diagnostics.landscape_moving import (
    CirclingMinimum,
    DriftingMinimum,
    MovingMinimum,
    RotatingField,
    SuddenFlip,
)
from harness.objectives.diagnostics.landscape_walls import HingeWall, LargestOf, PenaltyWall
from harness.objectives.functions_2d import Ackley, Rastrigin
from harness.suite.shipped import TASKS

pytestmark = pytest.mark.usefixtures("one_thread", "shared_though_slower")

Arrays = dict[str, NDArray[np.float64]]
minimize: Any = scipy.optimize.minimize

FLIP = 20

# Each with an optimizer's learning rate at which it gets where the task is won.
TASKS_HERE: dict[str, tuple[Callable[[], Objective], Any, float]] = {
    "strict_saddle": (lambda: StrictSaddle(0.1), torch.optim.SGD, 1.5),
    "plateau": (lambda: Plateau(1e-3), torch.optim.Adam, 0.1),
    "product_chain": (lambda: ProductChain(6, 0.7), torch.optim.SGD, 0.1),
    "deep_linear": (lambda: DeepLinear(2, 0.5), torch.optim.SGD, 0.5),
    "bent_valley": (lambda: BentValley(3.0), torch.optim.Adam, 0.1),
    "largest_of": (lambda: LargestOf(4), torch.optim.Adam, 0.02),
    "penalty_wall": (lambda: PenaltyWall(10.0), torch.optim.SGD, 0.1),
    "hinge_wall": (lambda: HingeWall(2.0), torch.optim.SGD, 0.01),
    "drifting_minimum": (lambda: DriftingMinimum(0.01), torch.optim.SGD, 1.0),
    "circling_minimum": (lambda: CirclingMinimum(100.0), torch.optim.SGD, 1.0),
    "sudden_flip": (lambda: SuddenFlip(10.0, FLIP), torch.optim.SGD, 0.1),
    "rotating_field": (lambda: RotatingField(1.0), torch.optim.SGD, 0.3),
    "rippled_bowl": (lambda: RippledBowl(0.1), torch.optim.SGD, 0.1),
    "rippled_plate": (lambda: RippledPlate(0.5), torch.optim.SGD, 0.01),
}
every_task = pytest.mark.parametrize("name", TASKS_HERE)


def drawn(task: Objective, seed: int = 0, step: int = 0) -> Parameters:
    """A trial's parameters and state, and the step where the task sees it."""
    start = task.init(torch.Generator().manual_seed(seed))
    state = task.state(torch.Generator().manual_seed(seed))
    assert not set(start) & set(state)
    seen = {"step": torch.tensor(float(step), dtype=torch.float64)} if task.sees_step else {}
    return {**start, **state, **seen}


def names(task: Objective) -> list[str]:
    return list(task.init(torch.Generator().manual_seed(0)))


def arrays(given: Parameters) -> Arrays:
    return {name: value.detach().numpy() for name, value in given.items()}


def formula(task: Any, a: Arrays) -> float:
    """The loss, written in numpy from the formula of the docstring."""
    found: Any
    match task:
        case StrictSaddle():
            y = a["turn"] @ (a["x"] - a["saddle"])
            found = task.flatness * (y[0] ** 2 - 1) ** 2 / 4 + np.sum(y[1:] ** 2) / 2
        case Plateau():
            r = np.linalg.norm(a["x"] - a["minimum"])
            found = 1 - np.exp(-(r**2) / 2) + task.slope * (np.sqrt(1 + r**2) - 1)
        case ProductChain():
            found = (np.prod(a["w"]) - 1) ** 2 / 2
        case DeepLinear():
            weights = [a[f"w{i}"] for i in range(task.depth, 0, -1)]
            product = np.linalg.multi_dot(weights)
            found = np.linalg.norm(product - a["target"]) ** 2 / 2
        case BentValley():
            u, v = a["x"] - a["minimum"]
            found = np.mean(task.steepness * (v - np.sin(2 * u)) ** 2 / 2 + u**2 / 20)
        case LargestOf():
            found = np.max(np.abs(a["turn"] @ (a["x"] - a["minimum"])))
        case PenaltyWall() | HingeWall():
            y = a["turn"] @ (a["x"] - a["corner"])
            middle = np.arange(len(y)) < task.walls
            crossed = np.maximum(0, y[: task.walls])
            hinge = isinstance(task, HingeWall)
            wall = task.weight * (crossed if hinge else crossed**2 / 2)
            found = np.sum((y - middle) ** 2) / 2 + np.sum(wall)
        case RippledBowl():
            z = a["x"] - a["minimum"]
            found = np.sum(z**2 + task.amplitude * (1 - np.cos(2 * np.pi * z)))
        case RippledPlate():
            z = a["x"] - a["minimum"]
            found = 20 + math.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(z**2)))
            found -= np.exp(np.mean(np.cos(2 * np.pi * z)))
        case _:
            found = moving_formula(task, a)
    return float(found)


def moving_formula(task: Any, a: Arrays) -> Any:
    """The same of what moves or turns."""
    found: Any
    match task:
        case DriftingMinimum():
            found = np.sum((a["x"] - a["origin"] - a["step"] * a["change"]) ** 2) / 2
        case CirclingMinimum():
            phase = a["phases"][task.pairs :] + 2 * np.pi * a["step"] / period_of(task)
            at = a["middle"] + np.concatenate([np.cos(phase), np.sin(phase)])
            found = np.sum((a["x"] - at) ** 2) / 2
        case SuddenFlip():
            late = a["step"] >= FLIP
            found = np.sum((a["x"] - a["after" if late else "before"]) ** 2) / 2
            found = found if late else task.ratio * found
        case RotatingField():
            x, y = a["x"] - a["x_there"], a["y"] - a["y_there"]
            found = (x @ x + y @ y) / 2
    return found


def period_of(task: CirclingMinimum) -> float:
    return 2 * math.pi / task.turn


def at_optimum(task: Objective, given: Parameters) -> Parameters:
    """A point where the docstring says that the minimum is, in place of the start."""
    there = dict(given)
    match task:
        case StrictSaddle():
            there["x"] = given["saddle"] + given["turn"][0]
        case ProductChain():
            there["w"] = torch.linspace(0.5, 2, task.depth, dtype=torch.float64)
            there["w"] = there["w"] / there["w"].prod() ** (1 / task.depth)
        case DeepLinear():
            ones = torch.eye(task.size, dtype=torch.float64)
            there |= {f"w{i}": ones for i in range(2, task.depth + 1)} | {"w1": given["target"]}
        case PenaltyWall():
            off = given["turn"][: task.walls].sum(dim=0) / (1 + task.weight)
            there["x"] = given["corner"] + off
        case HingeWall():
            there["x"] = given["corner"]
        case MovingMinimum():
            there["x"] = task.minimum(given)
        case SuddenFlip():
            there["x"] = given["after"]
        case RotatingField():
            there |= {"x": given["x_there"], "y": given["y_there"]}
        case _:
            there["x"] = given["minimum"]
    return there


def slopes(task: Objective, given: Parameters) -> Arrays:
    """The gradient that a step is told."""
    leaves = {name: given[name].clone().requires_grad_() for name in names(task)}
    loss = task.loss({**given, **leaves}, None)
    found = torch.autograd.grad(loss, list(leaves.values()))
    return {name: slope.numpy() for name, slope in zip(leaves, found, strict=True)}


def flat(task: Objective, given: Parameters) -> tuple[NDArray[np.float64], Callable[[Any], float]]:
    """The start as a vector, and the formula as a function of such."""
    values = arrays(given)
    own = {name: values[name] for name in names(task)}
    ends = np.cumsum([v.size for v in own.values()])[:-1]

    def value(vector: Any) -> float:
        parts = np.split(np.asarray(vector, dtype=np.float64), ends)
        shaped = {k: p.reshape(own[k].shape) for k, p in zip(own, parts, strict=True)}
        return formula(task, {**values, **shaped})

    return np.concatenate([v.ravel() for v in own.values()]), value


def test_every_task_of_the_family_is_tested_here() -> None:
    assert set(TASKS_HERE) == set(TASKS["landscape"])
    for name, (make, _, _) in TASKS_HERE.items():
        assert TASKS["landscape"][name].endswith(f":{type(make()).__name__}")


@every_task
@pytest.mark.parametrize("step", [0, 33])
def test_the_loss_is_the_formula_and_its_gradient_what_central_differences_give(
    name: str, step: int
) -> None:
    task = TASKS_HERE[name][0]()
    for seed in range(3):
        given = drawn(task, seed, step)
        start, value = flat(task, given)
        assert task.loss(dict(given), None).item() == pytest.approx(value(start), rel=1e-12)
        if isinstance(task, RotatingField):
            continue  # whose gradient is no loss's
        given = drawn(task, seed, step)  # with its memory as it was
        told = np.concatenate([s.ravel() for s in slopes(task, given).values()])
        h = 1e-6
        seen = [(value(start + h * e) - value(start - h * e)) / (2 * h) for e in np.eye(len(start))]
        scale = max(1.0, float(np.abs(told).max()))
        np.testing.assert_allclose(told, seen, rtol=1e-6, atol=2e-8 * scale)


@every_task
def test_the_optimum_is_where_the_docstring_says_and_the_slope_is_0_there(name: str) -> None:
    task = TASKS_HERE[name][0]()
    assert task.optimum is not None
    for seed in range(3):
        there = at_optimum(task, drawn(task, seed, 33))
        assert task.loss(dict(there), None).item() == pytest.approx(task.optimum, abs=1e-13)
        if not isinstance(task, LargestOf | HingeWall):
            told = slopes(task, there)
            assert max(float(np.abs(s).max()) for s in told.values()) < 1e-12
        if not isinstance(task, MovingMinimum):
            recorded = task.evaluate(dict(there), None).item()
            assert recorded == pytest.approx(task.optimum, abs=1e-13)


@every_task
def test_no_solver_gets_below_the_optimum(name: str) -> None:
    task = TASKS_HERE[name][0]()
    random = np.random.default_rng(0)
    assert task.optimum is not None
    reached = []
    for seed in range(2):
        start, value = flat(task, drawn(task, seed, 33))
        for method in ("BFGS", "Nelder-Mead"):
            near = start + 0.3 * random.normal(size=len(start))
            found = minimize(value, near, method=method, options={"maxiter": 400})
            assert found.fun >= task.optimum - 1e-10
            reached.append(found.fun - task.optimum)
        scattered = 3 * random.normal(size=(200, len(start)))
        assert min(value(point) for point in scattered) >= task.optimum
    if name not in ("rippled_bowl", "rippled_plate", "largest_of"):  # where these get stuck
        assert min(reached) < 5e-3


@every_task
def test_seeds_have_starts_and_landscapes_of_their_own(name: str) -> None:
    task = TASKS_HERE[name][0]()
    first, again, other = drawn(task, 1), drawn(task, 1), drawn(task, 2)
    for key, value in first.items():
        assert torch.equal(value, again[key])
        if key != "step":
            assert not torch.equal(value, other[key])
    losses = [task.evaluate(drawn(task, seed), None).item() for seed in range(5)]
    if not isinstance(task, Plateau):  # as far out and as flat for every seed
        assert len(set(losses)) == 5


@every_task
def test_trials_side_by_side_are_those_alone(name: str) -> None:
    make, kind, lr = TASKS_HERE[name]
    workload = make_workload(make(), dtype=torch.float64, steps=30)
    settings = [{"lr": lr}, {"lr": lr / 3}]
    lanes = [Lane(i, seed) for i in range(2) for seed in (0, 1)]
    together = train(workload, kind, settings, lanes, way="pointwise")
    for row, lane in enumerate(lanes):
        own = train(workload, kind, settings, [lane], way="alone")
        np.testing.assert_allclose(together.losses[row], own.losses[0], rtol=1e-8, atol=1e-12)


@every_task
def test_a_known_optimizer_wins_an_easy_difficulty(name: str) -> None:
    make, kind, lr = TASKS_HERE[name]
    task = make()
    workload = make_workload(task, dtype=torch.float64, steps=400)
    lanes = [Lane(0, seed) for seed in range(3)]
    losses = train(workload, kind, [{"lr": lr}], lanes, way="pointwise").losses
    gaps = losses - (task.optimum or 0)
    assert np.all(gaps.min(axis=1) < 0.01 * gaps[:, 0])
    assert np.all(gaps[:, 1] > 0.02 * gaps[:, 0])


def test_a_random_rotation_keeps_lengths_and_has_no_direction_of_its_own() -> None:
    turns = [random_rotation(torch.Generator().manual_seed(s), 3).numpy() for s in range(600)]
    for turn in turns[:10]:
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-14)
    entries = np.array(turns)
    # Each entry is that of a uniform point on a sphere: mean 0, mean square 1/3, uniform in 3-D.
    np.testing.assert_allclose(entries.mean(axis=0), 0, atol=4 * math.sqrt(1 / 3 / 600))
    for entry in entries.reshape(600, 9).T:
        assert scipy.stats.kstest(entry, "uniform", args=(-1, 2)).pvalue > 1e-4
    assert {round(float(np.linalg.det(turn))) for turn in turns} == {-1, 1}


def test_the_saddle_is_strict_and_as_flat_as_asked() -> None:
    task = StrictSaddle(0.03, dimension=4)
    given = drawn(task)
    at_saddle = {**given, "x": given["saddle"]}
    assert np.abs(slopes(task, at_saddle)["x"]).max() < 1e-15
    bend = torch.autograd.functional.hessian(
        lambda x: task.loss({**given, "x": x}, None), given["saddle"]
    )
    curvatures = np.linalg.eigvalsh(bend.numpy())
    np.testing.assert_allclose(curvatures, [-0.03, 1, 1, 1], atol=1e-13)
    far = [drawn(task, seed) for seed in range(300)]
    off = torch.stack([g["x"] - g["saddle"] for g in far]).numpy()
    np.testing.assert_allclose(off.std(axis=0), 1e-3, rtol=0.2)


def test_the_plain_is_as_flat_as_asked_and_the_basin_is_not() -> None:
    task = Plateau(1e-8, dimension=5)
    given = drawn(task)
    gradient = slopes(task, given)["x"]
    assert np.linalg.norm(gradient) == pytest.approx(1e-8 * 10 / math.sqrt(101), rel=1e-9)
    bend = torch.autograd.functional.hessian(
        lambda x: task.loss({**given, "x": x}, None), given["minimum"]
    )
    np.testing.assert_allclose(bend.numpy(), np.eye(5), atol=1e-7)


@pytest.mark.parametrize(("start", "depth"), [(0.5, 10), (2.0, 10)])
def test_gradients_of_a_chain_vanish_and_explode_with_its_depth(start: float, depth: int) -> None:
    sizes = []
    for deep in (depth, 2 * depth):
        task = ProductChain(deep, start)
        many = [np.abs(slopes(task, drawn(task, s))["w"]).mean() for s in range(20)]
        sizes.append(float(np.exp(np.mean(np.log(many)))))
    grown = start**depth if start < 1 else start ** (2 * depth)
    assert sizes[1] / sizes[0] == pytest.approx(grown, rel=0.5)


def test_the_deep_linear_target_has_the_singular_values_told() -> None:
    given = drawn(DeepLinear(3, 0.3, size=5))
    values = np.linalg.svd(given["target"].numpy(), compute_uv=False)
    np.testing.assert_allclose(values, [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16], rtol=1e-12)
    weights = [drawn(DeepLinear(3, 0.3, size=5), s)["w2"] for s in range(100)]
    assert float(torch.stack(weights).std()) == pytest.approx(0.3 / math.sqrt(5), rel=0.05)


def test_trials_in_the_valley_start_on_its_floor() -> None:
    task = BentValley(1e4)
    for seed in range(5):
        given = drawn(task, seed)
        off = (given["x"] - given["minimum"]).numpy()
        assert np.all(np.abs(off[0] - 3) < 0.5)
        assert task.evaluate(given, None).item() == pytest.approx(np.mean(off[0] ** 2) / 20)


@pytest.mark.parametrize("walls", [1, 3])
def test_behind_a_hinge_is_the_constrained_minimum_and_by_a_penalty_nearly(walls: int) -> None:
    """Minimise the bowl under the constraints by SLSQP, which knows neither penalty."""
    hinge = HingeWall(5.0, walls, dimension=4)
    given = arrays(drawn(hinge))
    turn, corner = given["turn"], given["corner"]
    middle = corner + turn[:walls].sum(axis=0)
    found = minimize(
        lambda x: np.sum((x - middle) ** 2) / 2,
        given["x"],
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x: -(turn @ (x - corner))[:walls]},
        options={"ftol": 1e-14},
    )
    assert hinge.optimum == pytest.approx(found.fun, rel=1e-7)
    np.testing.assert_allclose(found.x, corner, atol=1e-6)
    penalty = PenaltyWall(1e6, walls, dimension=4)
    assert penalty.optimum == pytest.approx(found.fun, rel=1e-5)
    start, value = flat(PenaltyWall(20.0, walls, dimension=4), drawn(hinge))
    solved = minimize(value, start, method="BFGS", options={"gtol": 1e-10})
    assert PenaltyWall(20.0, walls, dimension=4).optimum == pytest.approx(solved.fun, rel=1e-10)


def test_trials_start_before_the_walls() -> None:
    task = HingeWall(5.0, 2, dimension=4)
    for seed in range(20):
        given = arrays(drawn(task, seed))
        before = (given["turn"] @ (given["x"] - given["corner"]))[:2]
        assert np.all((before >= -1.5) & (before <= -0.5))


def followed(task: MovingMinimum, lr: float, steps: int) -> NDArray[np.float64]:
    """What is recorded of gradient descent, computed in numpy: a mean over the past."""
    given = arrays(drawn(task))
    x, recorded = given["x"].copy(), [float(given["error"])]
    for step in range(steps):
        now = {**drawn(task), "step": torch.tensor(float(step), dtype=torch.float64)}
        off = x - task.minimum(now).numpy()
        recorded.append(0.98 * recorded[-1] + 0.02 * float(off @ off) / 2)
        x = x - lr * off
    return np.array(recorded)


@pytest.mark.parametrize("task", [DriftingMinimum(0.05), CirclingMinimum(40.0)])
def test_a_moving_minimum_is_followed_as_told_and_judged_by_the_past(task: MovingMinimum) -> None:
    workload = make_workload(task, dtype=torch.float64, steps=60)
    run = train(workload, torch.optim.SGD, [{"lr": 0.3}], [Lane(0, 0)], way="alone")
    np.testing.assert_allclose(run.losses[0], followed(task, 0.3, 60), rtol=1e-10)


def test_gradient_descent_lags_behind_a_drift_by_speed_over_learning_rate() -> None:
    recorded = followed(DriftingMinimum(0.05), 0.3, 1500)
    assert recorded[-1] == pytest.approx((0.05 / 0.3) ** 2 / 2, rel=1e-6)


@pytest.mark.parametrize("period", [15.0, 200.0])
def test_gradient_descent_is_a_filter_of_a_circling_minimum(period: float) -> None:
    recorded = followed(CirclingMinimum(period, pairs=3), 0.5, 1500)
    turn = np.exp(2j * np.pi / period)
    lag = abs((turn - 1) / (turn - 0.5))
    assert recorded[-1] == pytest.approx(3 * lag**2 / 2, rel=1e-6)


def test_the_minimum_moves_at_the_speed_and_period_asked() -> None:
    drift, circle = DriftingMinimum(0.2), CirclingMinimum(12.0)
    given = drawn(drift)
    places = [drift.minimum({**given, "step": torch.tensor(float(s))}).numpy() for s in range(4)]
    np.testing.assert_allclose(np.linalg.norm(np.diff(places, axis=0), axis=1), 0.2, rtol=1e-6)
    given = drawn(circle)
    ring = np.array(
        [circle.minimum({**given, "step": torch.tensor(1.0 * s).double()}) for s in range(25)]
    )
    np.testing.assert_allclose(ring[12:], ring[:13], atol=1e-9)
    off = ring - given["middle"].numpy()
    np.testing.assert_allclose(off[:, :4] ** 2 + off[:, 4:] ** 2, 1, atol=1e-9)
    assert np.abs(ring[6] - ring[0]).max() > 0.5


def test_a_flip_changes_the_gradient_at_its_step_and_nothing_that_is_recorded() -> None:
    task = SuddenFlip(100.0, flip_at=5)
    for step in (0, 4, 5, 9):
        given = drawn(task, step=step)
        off = (given["x"] - given["before" if step < 5 else "after"]).numpy()
        expected = off * (100 if step < 5 else 1)
        np.testing.assert_allclose(slopes(task, given)["x"], expected, rtol=1e-12)
        recorded = task.evaluate(given, None).item()
        assert recorded == pytest.approx(float((given["x"] - given["after"]).square().sum()) / 2)
    workload = make_workload(task, dtype=torch.float64, steps=12)
    losses = train(workload, torch.optim.SGD, [{"lr": 0.01}], [Lane(0, 0)], way="alone").losses[0]
    values = arrays(drawn(task))
    # A learning rate of 1/100 gets to the first minimum in one step, and stays until the flip.
    there = np.sum((values["before"] - values["after"]) ** 2) / 2
    path = [there] * 5 + [there * 0.99 ** (2 * k) for k in range(1, 8)]
    np.testing.assert_allclose(losses[1:], path, rtol=1e-10)


@pytest.mark.parametrize(("rotation", "lr"), [(0.5, 0.3), (3.0, 0.1), (3.0, 0.25)])
def test_the_field_turns_as_the_game_does_and_spirals_as_its_eigenvalues_say(
    rotation: float, lr: float
) -> None:
    task = RotatingField(rotation, size=3)
    given = drawn(task)
    x, y = (given[k].clone().requires_grad_() for k in ("x", "y"))
    off_x, off_y = x - given["x_there"], y - given["y_there"]
    game = off_x.square().sum() / 2 + off_x @ given["coupling"] @ off_y - off_y.square().sum() / 2
    descent, ascent = torch.autograd.grad(game, [x, y])
    told = slopes(task, given)
    np.testing.assert_allclose(told["x"], descent.numpy(), rtol=1e-12)
    np.testing.assert_allclose(told["y"], -ascent.numpy(), rtol=1e-12)
    workload = make_workload(task, dtype=torch.float64, steps=40)
    losses = train(workload, torch.optim.SGD, [{"lr": lr}], [Lane(0, 0)], way="alone").losses[0]
    factor = abs(1 - lr * (1 + 1j * rotation)) ** 2
    np.testing.assert_allclose(losses, losses[0] * factor ** np.arange(41), rtol=1e-9)
    assert (factor < 1) == (lr < 2 / (1 + rotation**2))


def test_at_usual_arguments_the_ripples_are_rastrigin_s_and_ackley_s() -> None:
    for at in np.random.default_rng(0).uniform(-5, 5, size=(50, 2)):
        z = torch.from_numpy(at)
        for ours, theirs in (
            (RippledBowl(10.0, dimension=2), Rastrigin()),
            (RippledPlate(dimension=2), Ackley()),
        ):
            expected = theirs.loss({"x": z}, None).item()
            assert ours.value(z).item() == pytest.approx(expected, rel=1e-12)
    tip = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    RippledPlate(dimension=3).value(tip).backward()
    assert tip.grad is not None
    assert tip.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("amplitude", "several"), [(0.22, 0), (0.25, 2), (1.0, 6), (3.0, 18)])
def test_a_rippled_bowl_has_as_many_minima_as_told(amplitude: float, several: int) -> None:
    z = np.linspace(-40, 40, 400_001)
    task = RippledBowl(amplitude, 1)
    heights = torch.func.vmap(task.value)(torch.from_numpy(z)[:, None]).numpy()
    dips = np.flatnonzero((heights[1:-1] < heights[:-2]) & (heights[1:-1] < heights[2:]))
    assert len(dips) == 1 + several


@pytest.mark.parametrize("make", [RippledBowl, RippledPlate])
def test_starts_are_as_far_away_as_asked(make: Any) -> None:
    task = make(distance=7.0, dimension=3)
    for seed in range(5):
        given = drawn(task, seed)
        assert float((given["x"] - given["minimum"]).norm()) == pytest.approx(7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StrictSaddle(0), "flatness must be finite and above 0, got 0"),
        (lambda: StrictSaddle(dimension=1), "dimension must be a whole number from 2, got 1"),
        (lambda: StrictSaddle(distance=-1), "distance must be finite and above 0, got -1"),
        (lambda: Plateau(math.nan), "slope must be finite and above 0, got nan"),
        (lambda: ProductChain(0), "depth must be a whole number from 1, got 0"),
        (lambda: ProductChain(3, 0), "start must be finite and above 0, got 0"),
        (lambda: DeepLinear(1.5), "depth must be a whole number from 1, got 1.5"),  # type: ignore[arg-type]
        (lambda: DeepLinear(scale=0), "scale must be finite and above 0, got 0"),
        (lambda: BentValley(0), "steepness must be finite and above 0, got 0"),
        (lambda: BentValley(pairs=0), "pairs must be a whole number from 1, got 0"),
        (lambda: LargestOf(1), "dimension must be a whole number from 2, got 1"),
        (lambda: PenaltyWall(-1), "weight must be finite and at least 0, got -1"),
        (lambda: PenaltyWall(walls=9), "walls must be at most the dimension, 8, got 9"),
        (lambda: HingeWall(0.5), "weight must be finite and at least 1, got 0.5"),
        (lambda: DriftingMinimum(-1), "speed must be finite and at least 0, got -1"),
        (lambda: CirclingMinimum(0), "period must be finite and above 0, got 0"),
        (lambda: SuddenFlip(0), "ratio must be finite and above 0, got 0"),
        (lambda: SuddenFlip(flip_at=-1), "flip_at must be a whole number from 0, got -1"),
        (lambda: RotatingField(-1), "rotation must be finite and at least 0, got -1"),
        (lambda: RippledBowl(-1), "amplitude must be finite and at least 0, got -1"),
        (lambda: RippledPlate(0), "distance must be finite and above 0, got 0"),
    ],
)
def test_arguments_out_of_range_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
