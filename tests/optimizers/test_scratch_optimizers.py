"""The from-scratch optimizers against closed forms, printed values and independent code."""

from __future__ import annotations

import copy
import io
import math
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from builders import load_suite_file
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]


SGD = load_suite_file("optimizers/sgd.py").SGD
Momentum = load_suite_file("optimizers/momentum.py").Momentum
AdaGrad = load_suite_file("optimizers/adagrad.py").AdaGrad
RMSProp = load_suite_file("optimizers/rmsprop.py").RMSProp
Adadelta = load_suite_file("optimizers/adadelta.py").Adadelta
Adam = load_suite_file("optimizers/adam.py").Adam
Lion = load_suite_file("optimizers/lion.py").Lion
airfoil = load_suite_file("datasets/airfoil.py").airfoil

VALID = [
    pytest.param(SGD, {"lr": 0.1}, id="SGD"),
    pytest.param(Momentum, {"lr": 0.1, "momentum": 0.5}, id="Momentum"),
    pytest.param(AdaGrad, {"lr": 0.1}, id="AdaGrad"),
    pytest.param(RMSProp, {"lr": 0.1}, id="RMSProp"),
    pytest.param(Adadelta, {}, id="Adadelta"),
    pytest.param(Adam, {"lr": 0.1}, id="Adam"),
    pytest.param(Lion, {"lr": 0.1}, id="Lion"),
]
every_optimizer = pytest.mark.parametrize(("optimizer_class", "options"), VALID)
every_optimizer_with_a_learning_rate = pytest.mark.parametrize(
    ("optimizer_class", "options"), [case for case in VALID if case.id != "Adadelta"]
)
every_optimizer_that_tells_its_step_size = pytest.mark.parametrize(
    "optimizer_class", [AdaGrad, RMSProp, Adadelta, Adam]
)

# Every setting that an optimizer has, with another value than its case in VALID or its default.
OTHER: dict[str, dict[str, float]] = {
    "SGD": {"lr": 0.7},
    "Momentum": {"lr": 0.7, "momentum": 0.9},
    "AdaGrad": {"lr": 0.7, "eps": 0.5},
    "RMSProp": {"lr": 0.7, "gamma": 0.5, "eps": 0.5},
    "Adadelta": {"rho": 0.5, "eps": 0.5},
    "Adam": {"lr": 0.7, "beta1": 0.5, "beta2": 0.9, "eps": 0.5},
    "Lion": {"lr": 0.7, "beta1": 0.1, "beta2": 0.2, "weight_decay": 0.3},
}

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
        pytest.param(lambda p: SGD(p, lr=0.6), ("-0.387814", "-1673.365109"), id="7.4-gd-too-fast"),
        pytest.param(
            lambda p: Momentum(p, lr=0.4, momentum=0.5),
            ("-0.062843", "0.001202"),
            id="7.4-momentum",
        ),
        pytest.param(
            lambda p: Momentum(p, lr=0.6, momentum=0.5),
            ("0.007188", "0.002553"),
            id="7.4-momentum-lr-0.6",
        ),
        pytest.param(
            lambda p: AdaGrad(p, lr=0.4), ("-2.382563", "-0.158591"), id="7.5-adagrad-lr-0.4"
        ),
        pytest.param(lambda p: AdaGrad(p, lr=2), ("-0.002295", "-0.000000"), id="7.5-adagrad-lr-2"),
        # Sections 7.7 and 7.8 print no end point.
        pytest.param(
            lambda p: RMSProp(p, lr=0.4, gamma=0.9), ("-0.010599", "0.000000"), id="7.6-rmsprop"
        ),
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


@pytest.mark.parametrize("eps", [1e-6, 1e-2, 10.0])
def test_rmsprop_adds_eps_inside_the_root(eps: float) -> None:
    x1, x2 = quadratic_path(lambda p: RMSProp(p, lr=0.4, gamma=0.9, eps=eps), steps=1)[-1]
    assert x1 == pytest.approx(-5 + 0.4 * 1 / math.sqrt(0.1 * 1 + eps), rel=1e-15)
    assert x2 == pytest.approx(-2 + 0.4 * 8 / math.sqrt(0.1 * 64 + eps), rel=1e-15)


@pytest.mark.parametrize("eps", [1e-5, 1e-2, 10.0])
def test_adadelta_adds_eps_inside_both_roots(eps: float) -> None:
    x1, x2 = quadratic_path(lambda p: Adadelta(p, rho=0.9, eps=eps), steps=1)[-1]
    assert x1 == pytest.approx(-5 + 1 * math.sqrt(eps / (0.1 * 1 + eps)), rel=1e-15)
    assert x2 == pytest.approx(-2 + 8 * math.sqrt(eps / (0.1 * 64 + eps)), rel=1e-15)


@pytest.mark.parametrize("eps", [1e-6, 1e-2, 10.0])
def test_adam_adds_eps_outside_the_root_of_the_corrected_average(eps: float) -> None:
    # The corrected averages of one gradient are the gradient and its square. With eps added to the
    # root before the correction, as in a variant of the paper, it would count 1 / sqrt(0.001) fold.
    x1, x2 = quadratic_path(lambda p: Adam(p, lr=0.4, eps=eps), steps=1)[-1]
    assert x1 == pytest.approx(-5 + 0.4 * 1 / (1 + eps), rel=1e-15)
    assert x2 == pytest.approx(-2 + 0.4 * 8 / (8 + eps), rel=1e-15)


def steps_under_a_constant_gradient(make: Make, gradient: float, count: int) -> np.ndarray:
    """How far each step moves against a gradient that stays the same, shape (count,)."""
    x = torch.zeros(1, dtype=torch.float64)
    optimizer = make([x])
    path = [0.0]
    for _ in range(count):
        x.grad = torch.full_like(x, gradient)
        optimizer.step()
        path.append(x.item())
    steps: np.ndarray = -np.sign(gradient) * np.diff(path)
    return steps


@pytest.mark.parametrize("gradient", [-7.0, 3e-5])
def test_rmsprop_under_a_constant_gradient_comes_down_to_steps_of_lr(gradient: float) -> None:
    steps = steps_under_a_constant_gradient(
        lambda p: RMSProp(p, lr=0.3, gamma=0.8, eps=0.0), gradient, 200
    )
    np.testing.assert_allclose(steps, 0.3 / np.sqrt(1 - 0.8 ** np.arange(1, 201)), rtol=1e-12)
    assert steps[0] == pytest.approx(0.3 / math.sqrt(0.2), rel=1e-14)
    assert steps[-1] == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize("gradient", [-7.0, 3e-5])
def test_adam_under_a_constant_gradient_takes_steps_of_lr(gradient: float) -> None:
    steps = steps_under_a_constant_gradient(lambda p: Adam(p, lr=0.3, eps=0.0), gradient, 200)
    np.testing.assert_allclose(steps, 0.3, rtol=1e-12)


@pytest.mark.parametrize("gradient", [-7.0, 3e-5])
def test_adadelta_under_a_constant_gradient_starts_from_the_root_of_eps(gradient: float) -> None:
    first, second = steps_under_a_constant_gradient(Adadelta, gradient, 2)
    square = gradient**2
    assert first == pytest.approx(
        abs(gradient) * math.sqrt(1e-5 / (0.1 * square + 1e-5)), rel=1e-14
    )
    assert second == pytest.approx(
        abs(gradient) * math.sqrt((0.1 * first**2 + 1e-5) / (0.19 * square + 1e-5)), rel=1e-12
    )


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda p: RMSProp(p, lr=0.3, gamma=0.0, eps=0.0), id="RMSProp"),
        pytest.param(lambda p: Adam(p, lr=0.3, beta1=0.0, beta2=0.0, eps=0.0), id="Adam"),
    ],
)
def test_without_memory_and_eps_only_the_sign_of_the_gradient_counts(make: Make) -> None:
    x = torch.zeros(3, dtype=torch.float64)
    optimizer = make([x])
    for t in range(1, 6):
        x.grad = torch.tensor([-1e-6, 0.25, 1e6], dtype=torch.float64) * t
        optimizer.step()
        np.testing.assert_allclose(x.numpy(), [0.3 * t, -0.3 * t, -0.3 * t], rtol=1e-14)


def test_adam_corrects_each_parameter_for_its_own_number_of_steps() -> None:
    early, late = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    optimizer = Adam([early, late], lr=0.3, eps=0.0)
    for t in range(1, 8):
        early.grad = torch.full_like(early, -2.0)
        late.grad = torch.full_like(late, -2.0) if t > 4 else None
        optimizer.step()
    # With the count of the other one, its first step would be about 0.55 of that.
    assert early.item() == pytest.approx(7 * 0.3, rel=1e-13)
    assert late.item() == pytest.approx(3 * 0.3, rel=1e-13)


# Independent code in float64 numpy. A rule is given all gradients so far, oldest first, and gives
# the step to subtract. It keeps no state: an average is written as the weighted sum that it is.

Rule = Callable[[np.ndarray], np.ndarray]


def fading_sum(values: np.ndarray, decay: float) -> np.ndarray:
    """The newest value, plus decay times the one before, plus decay^2 times ..."""
    result: np.ndarray = np.tensordot(decay ** np.arange(len(values))[::-1], values, axes=1)
    return result


def momentum_rule(lr: float, momentum: float) -> Rule:
    return lambda gradients: lr * fading_sum(gradients, momentum)


def divided_by_root(
    lr: float, squares: Callable[[np.ndarray], np.ndarray], eps: float, eps_inside: bool
) -> Rule:
    """AdaGrad and RMSProp: lr times the gradient, divided by the root of some sum of squares."""

    def rule(gradients: np.ndarray) -> np.ndarray:
        total = squares(gradients**2)
        root = np.sqrt(total + eps) if eps_inside else np.sqrt(total) + eps
        step: np.ndarray = lr * gradients[-1] / root
        return step

    return rule


def adagrad_rule(lr: float, eps: float, *, eps_inside: bool) -> Rule:
    return divided_by_root(lr, lambda squares: squares.sum(axis=0), eps, eps_inside)


def rmsprop_rule(lr: float, gamma: float, eps: float, *, eps_inside: bool) -> Rule:
    return divided_by_root(
        lr, lambda squares: (1 - gamma) * fading_sum(squares, gamma), eps, eps_inside
    )


def adadelta_rule(rho: float, eps: float) -> Rule:
    def rule(gradients: np.ndarray) -> np.ndarray:
        steps = np.zeros((0, *gradients.shape[1:]))
        for t in range(1, len(gradients) + 1):
            squares = (1 - rho) * fading_sum(gradients[:t] ** 2, rho)
            earlier_steps = (1 - rho) * fading_sum(steps**2, rho)
            step = np.sqrt(earlier_steps + eps) / np.sqrt(squares + eps) * gradients[t - 1]
            steps = np.append(steps, step[None], axis=0)
        newest: np.ndarray = steps[-1]
        return newest

    return rule


def adam_rule(lr: float, beta1: float, beta2: float, eps: float) -> Rule:
    def average(values: np.ndarray, decay: float) -> np.ndarray:
        # What the correction for the start at 0 amounts to: weights that sum to 1.
        weights = decay ** np.arange(len(values))[::-1]
        result: np.ndarray = np.average(values, axis=0, weights=weights)
        return result

    def rule(gradients: np.ndarray) -> np.ndarray:
        root = np.sqrt(average(gradients**2, beta2))
        step: np.ndarray = lr * average(gradients, beta1) / (root + eps)
        return step

    return rule


def random_gradients(seed: int) -> np.ndarray:
    """30 gradients of 5 elements whose sizes are a factor 10^4 apart, some of them exactly 0."""
    generator = np.random.default_rng(seed)
    gradients = generator.normal(size=(30, 5)) * np.logspace(-2, 2, 5)
    gradients[generator.random((30, 5)) < 0.1] = 0
    return gradients


def assert_moves_by_the_rule(make: Make, rule: Rule, seed: int, dtype: torch.dtype) -> None:
    """Feed both the same gradients; every step has to come to the same place."""
    # To float32 and back: both are to get the very same numbers.
    gradients = torch.tensor(random_gradients(seed)).to(dtype).double().numpy()
    x = torch.zeros(5, dtype=dtype)
    optimizer = make([x])
    path = []
    for gradient in gradients:
        x.grad = torch.tensor(gradient, dtype=dtype)
        optimizer.step()
        path.append(x.double().numpy().copy())
    steps = np.stack([rule(gradients[:t]) for t in range(1, len(gradients) + 1)])
    travelled = np.abs(steps).sum(axis=0)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    error = np.abs(np.stack(path) + np.cumsum(steps, axis=0))
    assert np.all(error <= tolerance * travelled)


seeds = st.integers(0, 2**31)
dtypes = st.sampled_from([torch.float32, torch.float64])
learning_rates = st.floats(0, 0.5)
# Above what float32 would round to 0 or keep few digits of.
lr_above_0 = st.floats(1e-6, 0.5)
decays = st.floats(0, 0.999)
# From where it is lost beside every gradient to where it is larger than most.
small_numbers = st.sampled_from([1e-8, 1e-6, 1e-3, 1.0])


@settings(max_examples=40, deadline=None)
@given(seed=seeds, dtype=dtypes, lr=lr_above_0, gamma=decays, eps=small_numbers)
def test_rmsprop_follows_independent_numpy_code(
    seed: int, dtype: torch.dtype, lr: float, gamma: float, eps: float
) -> None:
    assert_moves_by_the_rule(
        lambda p: RMSProp(p, lr=lr, gamma=gamma, eps=eps),
        rmsprop_rule(lr, gamma, eps, eps_inside=True),
        seed,
        dtype,
    )


@settings(max_examples=40, deadline=None)
@given(seed=seeds, dtype=dtypes, rho=decays, eps=small_numbers)
def test_adadelta_follows_independent_numpy_code(
    seed: int, dtype: torch.dtype, rho: float, eps: float
) -> None:
    assert_moves_by_the_rule(
        lambda p: Adadelta(p, rho=rho, eps=eps), adadelta_rule(rho, eps), seed, dtype
    )


@settings(max_examples=40, deadline=None)
@given(seed=seeds, dtype=dtypes, lr=lr_above_0, beta1=decays, beta2=decays, eps=small_numbers)
def test_adam_follows_independent_numpy_code(
    seed: int, dtype: torch.dtype, lr: float, beta1: float, beta2: float, eps: float
) -> None:
    assert_moves_by_the_rule(
        lambda p: Adam(p, lr=lr, beta1=beta1, beta2=beta2, eps=eps),
        adam_rule(lr, beta1, beta2, eps),
        seed,
        dtype,
    )


@settings(max_examples=40, deadline=None)
@given(seed=seeds, lr=lr_above_0, beta1=decays, beta2=decays, decay=st.floats(0, 1))
def test_lion_follows_independent_numpy_code(
    seed: int, lr: float, beta1: float, beta2: float, decay: float
) -> None:
    """In double precision alone: single would round some interpolation to the other sign."""
    gradients = random_gradients(seed)
    x = torch.ones(5, dtype=torch.float64)
    optimizer = Lion([x], lr=lr, beta1=beta1, beta2=beta2, weight_decay=decay)
    position, averages = np.ones(5), [np.zeros(5)]
    for t, gradient in enumerate(gradients):
        x.grad = torch.tensor(gradient)
        optimizer.step()
        powers = beta2 ** np.arange(t, -1, -1.0)
        averages.append((1 - beta2) * powers @ gradients[: t + 1])
        direction = np.sign(beta1 * averages[-2] + (1 - beta1) * gradient)
        position = position - lr * direction - lr * decay * position
        np.testing.assert_allclose(x.numpy(), position, rtol=1e-11, atol=1e-11)


# How far each one parts from torch's own on the chapter's quadratic, and why.


@dataclass(frozen=True)
class Pair:
    """One from-scratch optimizer and torch's own, each with its own conventions."""

    ours: Make
    theirs: Make
    # The largest |ours - theirs| of 20 steps x 2 axes, as measured; the axes start at -5 and -2.
    apart: float
    # What the two do, written with the conventions in which they differ and nothing else.
    our_rule: Rule
    their_rule: Rule
    # Both again, with the conventions made the same.
    ours_alike: Make
    theirs_alike: Make


PAIRS = [
    pytest.param(
        Pair(
            ours=lambda p: SGD(p, lr=0.4),
            theirs=lambda p: torch.optim.SGD(p, lr=0.4),
            apart=0,
            our_rule=momentum_rule(0.4, 0),
            their_rule=momentum_rule(0.4, 0),
            ours_alike=lambda p: SGD(p, lr=0.4),
            theirs_alike=lambda p: torch.optim.SGD(p, lr=0.4),
        ),
        id="SGD",
    ),
    pytest.param(
        Pair(
            ours=lambda p: Momentum(p, lr=0.4, momentum=0.5),
            theirs=lambda p: torch.optim.SGD(p, lr=0.4, momentum=0.5),
            apart=0,
            our_rule=momentum_rule(0.4, 0.5),
            their_rule=momentum_rule(0.4, 0.5),
            ours_alike=lambda p: Momentum(p, lr=0.4, momentum=0.5),
            theirs_alike=lambda p: torch.optim.SGD(p, lr=0.4, momentum=0.5),
        ),
        id="Momentum",
    ),
    pytest.param(
        Pair(
            ours=lambda p: AdaGrad(p, lr=0.4),
            theirs=lambda p: torch.optim.Adagrad(p, lr=0.4),
            apart=3.7925e-07,
            our_rule=adagrad_rule(0.4, 1e-6, eps_inside=True),
            their_rule=adagrad_rule(0.4, 1e-10, eps_inside=False),
            ours_alike=lambda p: AdaGrad(p, lr=0.4, eps=0),
            theirs_alike=lambda p: torch.optim.Adagrad(p, lr=0.4, eps=0),
        ),
        id="AdaGrad",
    ),
    pytest.param(
        Pair(
            ours=lambda p: RMSProp(p, lr=0.4, gamma=0.9),
            theirs=lambda p: torch.optim.RMSprop(p, lr=0.4, alpha=0.9),
            apart=9.1589e-06,
            our_rule=rmsprop_rule(0.4, 0.9, 1e-6, eps_inside=True),
            their_rule=rmsprop_rule(0.4, 0.9, 1e-8, eps_inside=False),
            ours_alike=lambda p: RMSProp(p, lr=0.4, gamma=0.9, eps=0),
            theirs_alike=lambda p: torch.optim.RMSprop(p, lr=0.4, alpha=0.9, eps=0),
        ),
        id="RMSProp",
    ),
    pytest.param(
        Pair(
            ours=lambda p: RMSProp(p, lr=0.4),
            theirs=lambda p: torch.optim.RMSprop(p, lr=0.4),
            apart=2.7408,
            our_rule=rmsprop_rule(0.4, 0.9, 1e-6, eps_inside=True),
            their_rule=rmsprop_rule(0.4, 0.99, 1e-8, eps_inside=False),
            ours_alike=lambda p: RMSProp(p, lr=0.4, gamma=0.99, eps=0),
            theirs_alike=lambda p: torch.optim.RMSprop(p, lr=0.4, eps=0),
        ),
        id="RMSProp-each-with-its-default-decay",
    ),
    pytest.param(
        Pair(
            ours=Adadelta,
            theirs=torch.optim.Adadelta,
            apart=0.14798,
            our_rule=adadelta_rule(0.9, 1e-5),
            their_rule=adadelta_rule(0.9, 1e-6),
            ours_alike=lambda p: Adadelta(p, eps=1e-6),
            theirs_alike=torch.optim.Adadelta,
        ),
        id="Adadelta",
    ),
    pytest.param(
        Pair(
            ours=lambda p: Adam(p, lr=0.4),
            theirs=lambda p: torch.optim.Adam(p, lr=0.4),
            apart=5.1225e-06,
            our_rule=adam_rule(0.4, 0.9, 0.999, 1e-6),
            their_rule=adam_rule(0.4, 0.9, 0.999, 1e-8),
            ours_alike=lambda p: Adam(p, lr=0.4, eps=1e-8),
            theirs_alike=lambda p: torch.optim.Adam(p, lr=0.4),
        ),
        id="Adam",
    ),
]
every_pair = pytest.mark.parametrize("pair", PAIRS)


def assert_equal_to_rounding(path: np.ndarray, other: np.ndarray) -> None:
    # Measured on both axes and all 20 steps: at most 2e-13 of the value, next to where it is 0.
    np.testing.assert_allclose(path, other, rtol=1e-12, atol=1e-14)


def rule_path(rule: Rule) -> np.ndarray:
    """Positions at every step of the chapter's quadratic, shape (21, 2), with no optimizer."""
    path = [START]
    for _ in range(20):
        path.append(path[-1] - rule(CURVATURE * np.stack(path)))
    return np.stack(path)


@every_pair
def test_on_the_quadratic_each_parts_from_torchs_own_by_so_much(pair: Pair) -> None:
    distance = np.abs(quadratic_path(pair.ours) - quadratic_path(pair.theirs)).max()
    # From both sides: a convention that went missing would be seen as well.
    assert distance == pytest.approx(pair.apart, rel=1e-3, abs=0)


@every_pair
def test_the_named_conventions_account_for_all_of_it(pair: Pair) -> None:
    assert_equal_to_rounding(quadratic_path(pair.ours), rule_path(pair.our_rule))
    assert_equal_to_rounding(quadratic_path(pair.theirs), rule_path(pair.their_rule))


@every_pair
def test_with_the_same_conventions_the_two_agree_to_rounding(pair: Pair) -> None:
    assert_equal_to_rounding(quadratic_path(pair.ours_alike), quadratic_path(pair.theirs_alike))


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


@pytest.mark.parametrize(
    ("make", "multiplied", "at_first"),
    [
        # What the step multiplied by the step size, from all gradients so far.
        pytest.param(
            lambda p: RMSProp(p, lr=0.3, gamma=0.8, eps=1e-4),
            lambda gradients: gradients[-1],
            0.3 / math.sqrt(1e-4),
            id="RMSProp",
        ),
        pytest.param(
            lambda p: Adadelta(p, rho=0.8, eps=1e-4),
            lambda gradients: gradients[-1],
            1.0,
            id="Adadelta",
        ),
        pytest.param(
            lambda p: Adam(p, lr=0.3, beta1=0.7, eps=1e-4),
            lambda gradients: np.average(
                gradients, axis=0, weights=0.7 ** np.arange(len(gradients))[::-1]
            ),
            0.3 / 1e-4,
            id="Adam",
        ),
    ],
)
def test_the_effective_step_size_is_what_the_last_step_multiplied(
    make: Callable[[list[torch.Tensor]], Any], multiplied: Rule, at_first: float
) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.zeros(3, 4, dtype=torch.float64)
    optimizer = make([x])
    size = optimizer.effective_step_size(x)
    assert (size.dtype, size.shape) == (x.dtype, x.shape)
    np.testing.assert_allclose(size.numpy(), at_first, rtol=1e-15)
    recorded: list[np.ndarray] = []
    for _ in range(40):
        x.grad = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        recorded.append(x.grad.numpy().copy())
        before = x.numpy().copy()
        optimizer.step()
        step = optimizer.effective_step_size(x).numpy() * multiplied(np.stack(recorded))
        np.testing.assert_allclose(x.numpy(), before - step, rtol=0, atol=1e-13)


@every_optimizer_that_tells_its_step_size
def test_asking_for_the_effective_step_size_changes_nothing(optimizer_class: Any) -> None:
    x = torch.ones(2)
    optimizer = optimizer_class([x], **OTHER[optimizer_class.__name__])
    optimizer.effective_step_size(x).zero_()
    assert optimizer.state_dict()["state"] == {}
    x.grad = torch.ones(2)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict()["state"][0])
    optimizer.effective_step_size(x).zero_()
    after = optimizer.state_dict()["state"][0]
    assert after.keys() == before.keys()
    assert all(torch.equal(torch.as_tensor(after[k]), torch.as_tensor(before[k])) for k in before)


@every_optimizer_that_tells_its_step_size
def test_the_effective_step_size_takes_the_group_of_that_very_parameter(
    optimizer_class: Any,
) -> None:
    def fresh() -> torch.Tensor:
        x = torch.ones(2, dtype=torch.float64)
        x.grad = torch.tensor([0.5, -3.0], dtype=torch.float64)
        return x

    other = OTHER[optimizer_class.__name__]
    options = {"lr": 0.1} if "lr" in other else {}
    first, second, alone, other_alone = (fresh() for _ in range(4))
    optimizer = optimizer_class([{"params": [first]}, {"params": [second], **other}], **options)
    single = optimizer_class([alone], **options)
    other_single = optimizer_class([other_alone], **{**options, **other})
    for _ in range(3):
        for each in (optimizer, single, other_single):
            each.step()
        sizes = [optimizer.effective_step_size(x).tolist() for x in (first, second)]
        assert sizes[0] == single.effective_step_size(alone).tolist()
        assert sizes[1] == other_single.effective_step_size(other_alone).tolist()
        assert sizes[0] != sizes[1]


@every_optimizer_that_tells_its_step_size
def test_the_effective_step_size_of_an_equal_but_other_tensor_is_refused(
    optimizer_class: Any,
) -> None:
    x = torch.ones(2)
    optimizer = optimizer_class([x], **OTHER[optimizer_class.__name__])
    with pytest.raises(ValueError, match=r"no parameter group holds this tensor of shape \(2,\)"):
        optimizer.effective_step_size(x.clone())


# What all of them have in common.


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

    # A group for every setting, with another value of it, and one with none of its own.
    other = OTHER[optimizer_class.__name__]
    assert other.keys() == optimizer_class([fresh()], **options).defaults.keys()
    own: list[Options] = [*({name: value} for name, value in other.items()), {}]
    together = [fresh() for _ in own]
    # A tensor by itself is a group's parameters as well as a list of it is.
    groups = [{"params": x, **settings} for x, settings in zip(together, own, strict=True)]
    groups[-1] = {"params": [together[-1]]}
    optimizer = optimizer_class(groups, **options)
    alone = [fresh() for _ in own]
    singles = [
        optimizer_class([x], **{**options, **settings})
        for x, settings in zip(alone, own, strict=True)
    ]
    generator = torch.Generator().manual_seed(3)
    for _ in range(10):
        gradient = torch.randn(5, generator=generator)
        for x in (*together, *alone):
            x.grad = gradient.clone()
        for each in (optimizer, *singles):
            each.step()
    for x, y in zip(together, alone, strict=True):
        assert torch.equal(x, y)
    for i, x in enumerate(together):
        assert not any(torch.equal(x, y) for y in together[:i])


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
    other = optimizer_class(resumed, **OTHER[optimizer_class.__name__])
    other.load_state_dict(saved)
    take_steps(optimizer, undisturbed, seed=2)
    take_steps(other, resumed, seed=2)
    for x, y in zip(undisturbed, resumed, strict=True):
        assert torch.equal(x, y)


@every_optimizer
def test_a_saved_state_goes_through_a_file_that_may_hold_nothing_but_data(
    optimizer_class: Any, options: Options
) -> None:
    parameters = [torch.linspace(-1, 1, 5), torch.ones(2, 2)]
    optimizer = optimizer_class(parameters, **options)
    take_steps(optimizer, parameters, seed=1)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = [x.clone() for x in parameters]
    other = optimizer_class(resumed, **OTHER[optimizer_class.__name__])
    other.load_state_dict(torch.load(file, weights_only=True))
    take_steps(optimizer, parameters, seed=2)
    take_steps(other, resumed, seed=2)
    for x, y in zip(parameters, resumed, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(lambda optimizer: pickle.loads(pickle.dumps(optimizer)), id="pickle"),
    ],
)
@every_optimizer
def test_a_copy_has_parameters_of_its_own_and_continues_to_the_bit(
    optimizer_class: Any,
    options: Options,
    copied: Callable[[torch.optim.Optimizer], torch.optim.Optimizer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A pickle names the class by its module, and one loaded by path isn't in the list of modules.
    module = ModuleType(optimizer_class.__module__)
    monkeypatch.setattr(module, optimizer_class.__name__, optimizer_class, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    parameters = [torch.linspace(-1, 1, 5), torch.ones(2, 2)]
    optimizer = optimizer_class(parameters, **options)
    take_steps(optimizer, parameters, seed=1)
    twin = copied(optimizer)
    before = [x.clone() for x in parameters]
    own = twin.param_groups[0]["params"]
    take_steps(twin, own, seed=2)
    assert all(torch.equal(x, y) for x, y in zip(parameters, before, strict=True))
    take_steps(optimizer, parameters, seed=2)
    assert all(torch.equal(x, y) for x, y in zip(parameters, own, strict=True))


def refusals() -> list[Any]:
    """Every setting of every optimizer with each value outside its range."""
    nan, inf = float("nan"), float("inf")
    valid = {case.id: case.values for case in VALID}
    cases: list[Any] = []
    decay = "must be at least 0 and less than 1", (-0.1, 1.0, 1.5, inf, -inf, nan)
    from_0 = "must be finite and 0 or more", (-0.1, -1e-9, inf, -inf, nan)
    above_0 = "must be finite and above 0", (0.0, -1e-9, inf, -inf, nan)
    for name, setting, (text, values) in [
        ("SGD", "lr", from_0),
        ("Momentum", "lr", from_0),
        ("Momentum", "momentum", decay),
        ("AdaGrad", "lr", from_0),
        ("AdaGrad", "eps", from_0),
        ("RMSProp", "lr", from_0),
        ("RMSProp", "gamma", decay),
        ("RMSProp", "eps", from_0),
        ("Adadelta", "rho", decay),
        # With 0, nothing would ever move.
        ("Adadelta", "eps", above_0),
        ("Adam", "lr", from_0),
        ("Adam", "beta1", decay),
        ("Adam", "beta2", decay),
        ("Adam", "eps", from_0),
        ("Lion", "lr", from_0),
        ("Lion", "beta1", decay),
        ("Lion", "beta2", decay),
        ("Lion", "weight_decay", from_0),
    ]:
        optimizer_class, options = valid[name]
        cases.extend(
            pytest.param(
                optimizer_class,
                options,
                {setting: value},
                f"^{name}: {setting} {text}, got {value}$",
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


@every_optimizer_with_a_learning_rate
def test_a_learning_rate_of_zero_is_accepted_and_moves_nothing(
    optimizer_class: Any, options: Options
) -> None:
    x = torch.tensor([1.5, -2.5])
    optimizer = optimizer_class([x], **{**options, "lr": 0.0})
    take_steps(optimizer, [x], seed=4)
    assert x.tolist() == [1.5, -2.5]
