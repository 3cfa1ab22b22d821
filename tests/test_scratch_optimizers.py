"""The from-scratch optimizers against closed forms, printed values and independent code."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent


def load_suite_file(relative: str) -> ModuleType:
    """Load a suite file by path, under a private name, as the harness does."""
    path = ROOT / relative
    spec = importlib.util.spec_from_file_location(f"_test_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SGD = load_suite_file("optimizers/sgd.py").SGD
Momentum = load_suite_file("optimizers/momentum.py").Momentum
AdaGrad = load_suite_file("optimizers/adagrad.py").AdaGrad
airfoil = load_suite_file("datasets/airfoil.py").airfoil

VALID = [
    pytest.param(SGD, {"lr": 0.1}, id="SGD"),
    pytest.param(Momentum, {"lr": 0.1, "momentum": 0.5}, id="Momentum"),
    pytest.param(AdaGrad, {"lr": 0.1}, id="AdaGrad"),
]
every_optimizer = pytest.mark.parametrize(("optimizer_class", "options"), VALID)

Make = Callable[[list[torch.Tensor]], torch.optim.Optimizer]
Options = dict[str, float]


# The chapter's quadratic, f = 0.1 x1^2 + 2 x2^2, 20 steps from (-5, -2). Its gradient is
# CURVATURE * x.
CURVATURE = np.array([0.2, 4.0])
START = np.array([-5.0, -2.0])


def quadratic_path(make: Make, steps: int = 20) -> np.ndarray:
    """Positions at every step, shape (steps + 1, 2), with gradients from autograd."""
    x = torch.tensor(START, requires_grad=True)
    optimizer = make([x])
    path = [START]
    for _ in range(steps):
        optimizer.zero_grad()
        (0.1 * x[0] ** 2 + 2 * x[1] ** 2).backward()
        optimizer.step()
        path.append(x.detach().numpy().copy())
    return np.stack(path)


@pytest.mark.parametrize(
    ("make", "printed"),
    [
        pytest.param(lambda p: SGD(p, lr=0.4), ("-0.943467", "-0.000073"), id="7.4-gd"),
        pytest.param(
            lambda p: Momentum(p, lr=0.4, momentum=0.5),
            ("-0.062843", "0.001202"),
            id="7.4-momentum",
        ),
        pytest.param(
            lambda p: AdaGrad(p, lr=0.4), ("-2.382563", "-0.158591"), id="7.5-adagrad-lr-0.4"
        ),
        pytest.param(lambda p: AdaGrad(p, lr=2), ("-0.002295", "-0.000000"), id="7.5-adagrad-lr-2"),
    ],
)
def test_twenty_steps_end_where_the_chapter_prints(make: Make, printed: tuple[str, str]) -> None:
    x1, x2 = quadratic_path(make)[-1]
    assert (f"{x1:.6f}", f"{x2:.6f}") == printed


def test_sgd_on_the_quadratic_is_a_geometric_sequence() -> None:
    steps = np.arange(21)[:, None]
    expected = START * (1 - 0.4 * CURVATURE) ** steps
    np.testing.assert_allclose(quadratic_path(lambda p: SGD(p, lr=0.4)), expected, rtol=1e-12)


def test_momentum_on_the_quadratic_is_a_power_of_its_two_by_two_matrix() -> None:
    lr, momentum = 0.4, 0.5
    path = quadratic_path(lambda p: Momentum(p, lr=lr, momentum=momentum))
    for axis, curvature in enumerate(CURVATURE):
        # (x, v) -> (x - lr (m v + a x), m v + a x), from (x_0, 0).
        matrix = np.array([[1 - lr * curvature, -lr * momentum], [curvature, momentum]])
        expected = [np.linalg.matrix_power(matrix, t)[0, 0] * START[axis] for t in range(len(path))]
        np.testing.assert_allclose(path[:, axis], expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("eps", [1e-6, 1e-2, 10.0])
def test_adagrad_adds_eps_inside_the_root(eps: float) -> None:
    x1, x2 = quadratic_path(lambda p: AdaGrad(p, lr=0.4, eps=eps), steps=1)[-1]
    # The gradient at the start is (-1, -8).
    assert x1 == pytest.approx(-5 + 0.4 * 1 / math.sqrt(1 + eps), rel=1e-15)
    assert x2 == pytest.approx(-2 + 0.4 * 8 / math.sqrt(64 + eps), rel=1e-15)


def test_adagrad_under_a_constant_gradient_takes_steps_of_lr_over_root_t() -> None:
    x = torch.zeros(1, dtype=torch.float64)
    optimizer = AdaGrad([x], lr=0.3, eps=0.0)
    for _ in range(50):
        x.grad = torch.full_like(x, -7.0)
        optimizer.step()
    assert x.numpy()[0] == pytest.approx(0.3 * sum(t**-0.5 for t in range(1, 51)), rel=1e-13)


# Against torch's own, on random least-squares problems.


def random_least_squares_path(make: Make, seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Weights and bias at each of 15 steps of a random least-squares problem."""
    generator = torch.Generator().manual_seed(seed)
    columns = int(torch.randint(1, 8, (), generator=generator))
    features = torch.randn(12, columns, generator=generator, dtype=dtype)
    labels = torch.randn(12, generator=generator, dtype=dtype)
    weights = torch.randn(columns, generator=generator, dtype=dtype, requires_grad=True)
    bias = torch.zeros((), dtype=dtype, requires_grad=True)
    optimizer = make([weights, bias])
    path = []
    for _ in range(15):
        optimizer.zero_grad()
        ((features @ weights + bias - labels) ** 2).mean().backward()
        optimizer.step()
        path.append(torch.cat([weights.detach(), bias.detach()[None]]))
    return path


seeds = st.integers(0, 2**31)
learning_rates = st.floats(0, 0.5)
dtypes = st.sampled_from([torch.float32, torch.float64])


@settings(max_examples=40, deadline=None)
@given(seed=seeds, lr=learning_rates, dtype=dtypes)
def test_sgd_equals_torch_sgd_to_the_bit(seed: int, lr: float, dtype: torch.dtype) -> None:
    ours = random_least_squares_path(lambda p: SGD(p, lr=lr), seed, dtype)
    theirs = random_least_squares_path(lambda p: torch.optim.SGD(p, lr=lr), seed, dtype)
    assert torch.equal(torch.stack(ours), torch.stack(theirs))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, lr=learning_rates, momentum=st.floats(0, 1, exclude_max=True), dtype=dtypes)
def test_momentum_equals_torch_sgd_with_momentum_to_the_bit(
    seed: int, lr: float, momentum: float, dtype: torch.dtype
) -> None:
    ours = random_least_squares_path(lambda p: Momentum(p, lr=lr, momentum=momentum), seed, dtype)
    theirs = random_least_squares_path(
        lambda p: torch.optim.SGD(p, lr=lr, momentum=momentum), seed, dtype
    )
    assert torch.equal(torch.stack(ours), torch.stack(theirs))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, lr=learning_rates, dtype=dtypes)
def test_momentum_zero_is_sgd_to_the_bit(seed: int, lr: float, dtype: torch.dtype) -> None:
    ours = random_least_squares_path(lambda p: Momentum(p, lr=lr, momentum=0.0), seed, dtype)
    theirs = random_least_squares_path(lambda p: SGD(p, lr=lr), seed, dtype)
    assert torch.equal(torch.stack(ours), torch.stack(theirs))


# AdaGrad on the chapter's linear regression: 2 epochs of batches of 10, 300 steps.


def airfoil_batches() -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Initial weights N(0, 0.01^2) with bias 0, shape (6,), and the row indices of each batch."""
    generator = np.random.default_rng(20)
    start = np.append(generator.normal(0, 0.01, 5), 0.0)
    orders = [generator.permutation(1500) for _ in range(2)]
    return start, iter(np.concatenate(orders).reshape(300, 10))


def airfoil_run(make: Make, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Parameters after, and gradients before, each step, both of shape (300, 6) in float64."""
    data = airfoil()
    features = torch.tensor(data.features, dtype=dtype)
    labels = torch.tensor(data.labels, dtype=dtype)
    start, batches = airfoil_batches()
    weights = torch.tensor(start[:5], dtype=dtype, requires_grad=True)
    bias = torch.tensor(start[5:], dtype=dtype, requires_grad=True)
    optimizer = make([weights, bias])
    path, gradients = [], []
    for rows in batches:
        optimizer.zero_grad()
        ((features[rows] @ weights + bias - labels[rows]) ** 2).mean().div(2).backward()
        assert weights.grad is not None
        assert bias.grad is not None
        gradients.append(torch.cat([weights.grad, bias.grad]).double().numpy())
        optimizer.step()
        path.append(torch.cat([weights.detach(), bias.detach()]).double().numpy())
    return np.stack(path), np.stack(gradients)


def numpy_adagrad_path(lr: float, eps: float) -> np.ndarray:
    """The same run in float64 numpy: gradient by hand, the sum of squares as d2l writes it."""
    data = airfoil()
    design = np.column_stack([data.features, np.ones(1500)])
    x, batches = airfoil_batches()
    squares = np.zeros(6)
    path = []
    for rows in batches:
        residuals = design[rows] @ x - data.labels[rows]
        gradient = design[rows].T @ residuals / 10
        squares = squares + gradient**2
        x = x - lr * gradient / np.sqrt(squares + eps)
        path.append(x)
    return np.stack(path)


# Measured: 1.1e-16 in float64 and 2.3e-07 in float32, the largest of 300 steps x 6 parameters; the
# tolerances leave room for another machine's order of summation.
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str
)
def test_adagrad_follows_independent_numpy_code_through_300_minibatches(
    dtype: torch.dtype, tolerance: float
) -> None:
    ours, _ = airfoil_run(lambda p: AdaGrad(p, lr=0.1), dtype)
    np.testing.assert_allclose(ours, numpy_adagrad_path(0.1, 1e-6), rtol=0, atol=tolerance)


def test_eps_inside_or_outside_the_root_accounts_for_the_whole_distance_to_torch_adagrad() -> None:
    # Both get the gradients of one recorded run, so that only the update rules differ:
    # lr g / sqrt(s + 1e-6) here, lr g / (sqrt(s) + 1e-10) there. By the series of 1 / sqrt(s + e)
    # at e = 0, a step differs by lr |g| / sqrt(s) * (1e-6 / (2 s) - 1e-10 / sqrt(s)) at most.
    lr = 0.1
    path, gradients = airfoil_run(lambda p: AdaGrad(p, lr=lr), torch.float64)
    start, _ = airfoil_batches()
    x = torch.tensor(start)
    theirs = torch.optim.Adagrad([x], lr=lr)
    replayed = []
    for gradient in gradients:
        x.grad = torch.tensor(gradient)
        theirs.step()
        replayed.append(x.numpy().copy())
    squares = np.cumsum(gradients**2, axis=0)
    roots = np.sqrt(squares)
    per_step = lr * gradients / roots * (1e-6 / (2 * squares) - 1e-10 / roots)
    difference = path - np.stack(replayed)
    bound = np.cumsum(np.abs(per_step), axis=0)
    assert np.all(np.abs(difference) <= bound + 1e-14)
    # Not only within the bound: it is the signed first-order sum, and is large enough to see.
    np.testing.assert_allclose(difference, np.cumsum(per_step, axis=0), rtol=2e-3, atol=1e-13)
    assert np.abs(difference).max() > 1e-8


# effective_step_size


def test_the_effective_step_size_is_the_formula_on_the_recorded_gradients_and_only_falls() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.zeros(3, 4, dtype=torch.float64)
    optimizer = AdaGrad([x], lr=0.3, eps=1e-4)
    recorded: list[np.ndarray] = []
    sizes = [optimizer.effective_step_size(x).numpy()]
    np.testing.assert_allclose(sizes[0], np.full((3, 4), 0.3 / math.sqrt(1e-4)), rtol=1e-15)
    for _ in range(40):
        x.grad = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        recorded.append(x.grad.numpy().copy())
        before = x.numpy().copy()
        optimizer.step()
        sizes.append(optimizer.effective_step_size(x).numpy())
        np.testing.assert_allclose(
            sizes[-1], 0.3 / np.sqrt(np.sum(np.square(recorded), axis=0) + 1e-4), rtol=1e-13
        )
        np.testing.assert_allclose(x.numpy(), before - sizes[-1] * recorded[-1], atol=1e-14)
    assert np.all(np.diff(np.stack(sizes), axis=0) < 0)


def test_asking_for_the_effective_step_size_changes_nothing() -> None:
    x = torch.ones(2)
    optimizer = AdaGrad([x], lr=0.3)
    optimizer.effective_step_size(x).zero_()
    assert optimizer.state_dict()["state"] == {}
    x.grad = torch.ones(2)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    optimizer.effective_step_size(x).zero_()
    assert torch.equal(optimizer.state_dict()["state"][0]["s"], before["state"][0]["s"])


def test_the_effective_step_size_takes_the_group_of_that_very_parameter() -> None:
    first, second = torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    optimizer = AdaGrad([{"params": [first], "lr": 1.0}, {"params": [second]}], lr=2.0, eps=0.25)
    assert optimizer.effective_step_size(first).tolist() == [2.0, 2.0]
    assert optimizer.effective_step_size(second).tolist() == [4.0, 4.0]


def test_the_effective_step_size_of_an_equal_but_other_tensor_is_refused() -> None:
    x = torch.ones(2)
    optimizer = AdaGrad([x], lr=0.1)
    with pytest.raises(ValueError, match=r"no parameter group holds this tensor of shape \(2,\)"):
        optimizer.effective_step_size(x.clone())


# What all three have in common.


def take_steps(optimizer: torch.optim.Optimizer, parameters: list[torch.Tensor], seed: int) -> None:
    """Ten steps on gradients that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(10):
        for x in parameters:
            x.grad = torch.randn(x.shape, generator=generator)
        optimizer.step()


@every_optimizer
def test_each_parameter_group_moves_as_if_it_were_alone(
    optimizer_class: Any, options: Options
) -> None:
    def fresh() -> torch.Tensor:
        return torch.linspace(-1, 1, 5)

    fast, slow, default = fresh(), fresh(), fresh()
    groups = [{"params": [fast], "lr": 0.5}, {"params": slow, "lr": 0.01}, {"params": [default]}]
    optimizer = optimizer_class(groups, **options)
    alone = []
    for lr in (0.5, 0.01, options["lr"]):
        x = fresh()
        alone.append((x, optimizer_class([x], **{**options, "lr": lr})))
    generator = torch.Generator().manual_seed(3)
    for _ in range(10):
        gradient = torch.randn(5, generator=generator)
        for x in (fast, slow, default, *(x for x, _ in alone)):
            x.grad = gradient.clone()
        optimizer.step()
        for _, single in alone:
            single.step()
    for together, (x, _) in zip((fast, slow, default), alone, strict=True):
        assert torch.equal(together, x)
    assert not torch.equal(fast, slow)


@every_optimizer
def test_an_element_whose_gradient_is_zero_stays_put(
    optimizer_class: Any, options: Options
) -> None:
    x = torch.tensor([1.5, -2.5, 3.5])
    optimizer = optimizer_class([x], **options)
    for _ in range(5):
        x.grad = torch.tensor([0.0, 1.0, -0.0])
        optimizer.step()
    assert x[[0, 2]].tolist() == [1.5, 3.5]
    assert x[1] < -2.5


@every_optimizer
def test_a_parameter_without_a_gradient_is_skipped_and_gets_no_state(
    optimizer_class: Any, options: Options
) -> None:
    moved, left = torch.ones(2), torch.ones(2)
    optimizer = optimizer_class([left, moved], **options)
    moved.grad = torch.ones(2)
    optimizer.step()
    assert left.tolist() == [1.0, 1.0]
    assert moved.tolist() != [1.0, 1.0]
    assert left not in optimizer.state


@every_optimizer
def test_one_element_of_a_tensor_moves_as_it_would_alone(
    optimizer_class: Any, options: Options
) -> None:
    together = torch.zeros(6)
    apart = [torch.zeros(1) for _ in range(6)]
    optimizers = [optimizer_class([together], **options), optimizer_class(apart, **options)]
    generator = torch.Generator().manual_seed(8)
    for _ in range(10):
        gradient = torch.randn(6, generator=generator)
        together.grad = gradient.clone()
        for i, x in enumerate(apart):
            x.grad = gradient[i : i + 1].clone()
        for optimizer in optimizers:
            optimizer.step()
    # Not to the bit: vectorised and scalar code may round a fused product differently.
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-6, atol=1e-6)


@every_optimizer
def test_the_closure_is_evaluated_once_with_gradients_on_and_its_value_returned(
    optimizer_class: Any, options: Options
) -> None:
    x = torch.ones(2, requires_grad=True)
    optimizer = optimizer_class([x], **options)
    seen: list[torch.Tensor] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        seen.append(loss)
        return loss

    returned = optimizer.step(closure)
    assert len(seen) == 1
    assert returned is seen[0]
    assert returned.requires_grad
    assert torch.all(x < 1)


@every_optimizer
def test_without_a_closure_a_step_returns_nothing(optimizer_class: Any, options: Options) -> None:
    x = torch.ones(2)
    x.grad = torch.ones(2)
    assert optimizer_class([x], **options).step() is None


@every_optimizer
def test_a_step_works_in_place_outside_autograd_and_leaves_the_gradient(
    optimizer_class: Any, options: Options
) -> None:
    x = torch.ones(2, requires_grad=True)
    address = x.data_ptr()
    x.grad = torch.tensor([1.0, -2.0])
    optimizer_class([x], **options).step()
    assert x.data_ptr() == address
    assert x.is_leaf
    assert x.grad_fn is None
    assert x.grad.tolist() == [1.0, -2.0]


@every_optimizer
def test_a_step_reads_no_value_back_from_the_device(optimizer_class: Any, options: Options) -> None:
    # A tensor on the meta device has no values: whatever reads one raises.
    x = torch.empty(3, device="meta")
    optimizer = optimizer_class([x], **options)
    for _ in range(2):
        x.grad = torch.empty(3, device="meta")
        optimizer.step()


@every_optimizer
def test_a_run_resumed_from_a_saved_state_continues_to_the_bit(
    optimizer_class: Any, options: Options
) -> None:
    undisturbed = [torch.linspace(-1, 1, 5), torch.ones(2, 2)]
    optimizer = optimizer_class(undisturbed, **options)
    take_steps(optimizer, undisturbed, seed=1)
    saved = copy.deepcopy(optimizer.state_dict())
    resumed = [x.clone() for x in undisturbed]
    # Other settings on purpose: the saved ones have to win.
    other = optimizer_class(resumed, **{**options, "lr": 0.7})
    other.load_state_dict(saved)
    take_steps(optimizer, undisturbed, seed=2)
    take_steps(other, resumed, seed=2)
    for x, y in zip(undisturbed, resumed, strict=True):
        assert torch.equal(x, y)


def refusals() -> list[Any]:
    """Every setting of every optimizer with each value outside its range."""
    nan, inf = float("nan"), float("inf")
    valid = {case.id: case.values for case in VALID}
    cases: list[Any] = []
    for name, setting, values, text in [
        ("SGD", "lr", (-0.1, inf, -inf, nan), "SGD: lr must be finite and 0 or more"),
        ("Momentum", "lr", (-0.1, inf, -inf, nan), "Momentum: lr must be finite and 0 or more"),
        (
            "Momentum",
            "momentum",
            (-0.1, 1.0, 1.5, inf, nan),
            "Momentum: momentum must be at least 0 and less than 1",
        ),
        ("AdaGrad", "lr", (-0.1, inf, -inf, nan), "AdaGrad: lr must be finite and 0 or more"),
        ("AdaGrad", "eps", (-1e-9, inf, -inf, nan), "AdaGrad: eps must be finite and 0 or more"),
    ]:
        optimizer_class, options = valid[name]
        cases.extend(
            pytest.param(
                optimizer_class,
                options,
                {setting: value},
                f"^{text}, got {value}$",
                id=f"{name}-{setting}={value}",
            )
            for value in values
        )
    return cases


@pytest.mark.parametrize(("optimizer_class", "options", "wrong", "text"), refusals())
def test_a_setting_outside_its_range_is_refused(
    optimizer_class: Any, options: Options, wrong: Options, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        optimizer_class([torch.zeros(1)], **{**options, **wrong})


@pytest.mark.parametrize(("optimizer_class", "options", "wrong", "text"), refusals())
def test_a_group_with_a_setting_outside_its_range_is_refused_and_not_added(
    optimizer_class: Any, options: Options, wrong: Options, text: str
) -> None:
    optimizer = optimizer_class([torch.zeros(1)], **options)
    with pytest.raises(ValueError, match=text):
        optimizer.add_param_group({"params": [torch.zeros(1)], **wrong})
    assert len(optimizer.param_groups) == 1


@every_optimizer
def test_a_learning_rate_of_zero_is_accepted_and_moves_nothing(
    optimizer_class: Any, options: Options
) -> None:
    x = torch.tensor([1.5, -2.5])
    optimizer = optimizer_class([x], **{**options, "lr": 0.0})
    take_steps(optimizer, [x], seed=4)
    assert x.tolist() == [1.5, -2.5]
