"""What is looked at before an objective's first step, and what its rows are protected from."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_workload
from torch import nn

from harness.engine.lanes import Lane, Lanes
from harness.engine.training_loop import train
from harness.engine.workload import Workload, describe, flatten, in_precision, unflatten
from harness.objectives.base import Batch, Objective, Parameters
from harness.results import Way
from harness.suite.locate import Misfit, place_of

ROWS = 20


class Regression(Objective):
    """A linear regression whose loss a test gives."""

    def __init__(self, loss: Callable[[Parameters, Batch], Any], evaluate: Any = None) -> None:
        numbers = torch.Generator().manual_seed(0)
        features = torch.rand(ROWS, 3, generator=numbers, dtype=torch.float64)
        self.data = (features, features @ torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
        self._loss, self._evaluate = loss, evaluate or loss

    def init(self, generator: torch.Generator) -> Parameters:
        return {"w": torch.randn(3, generator=generator)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        return self._loss(params, batch)  # type: ignore[no-any-return]

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        return self._evaluate(params, batch)  # type: ignore[no-any-return]


def clean(params: Parameters, batch: Batch) -> torch.Tensor:
    x, y = batch
    loss: torch.Tensor = (((x - 0.5) / 0.25) @ params["w"] - y).square().mean()
    return loss


def writing(params: Parameters, batch: Batch) -> torch.Tensor:
    x, y = batch
    loss: torch.Tensor = (x.sub_(0.5).div_(0.25) @ params["w"] - y).square().mean()
    return loss


def workload_of(objective: Objective, batch_size: int | None = None, steps: int = 12) -> Workload:
    """A workload in which nothing diverges."""
    return make_workload(objective, batch_size=batch_size, steps=steps, divergence_factor=1e9)


def losses(objective: Objective, *, batch_size: int | None, way: Way) -> Any:
    lanes = [Lane(0, 0)] if way == "alone" else [Lane(0, 0), Lane(0, 1)]
    workload = workload_of(objective, batch_size)
    return train(workload, torch.optim.SGD, [{"lr": 0.01}], lanes, way=way).losses


@pytest.mark.parametrize("way", ["alone", "pointwise", "own_optimizers"])
@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("which", ["both", "loss", "evaluate"])
def test_a_loss_that_writes_into_its_rows_gives_what_one_gives_that_does_not(
    which: str, batch_size: int | None, way: Way
) -> None:
    written = Regression(
        writing if which != "evaluate" else clean, writing if which != "loss" else clean
    )
    before = [tensor.clone() for tensor in written.data or ()]
    found = losses(written, batch_size=batch_size, way=way)
    assert np.array_equal(found, losses(Regression(clean), batch_size=batch_size, way=way))
    assert all(map(torch.equal, written.data or (), before))


def test_a_loss_that_writes_into_its_rows_only_later_is_an_error() -> None:
    calls = [0]

    def later(params: Parameters, batch: Batch) -> torch.Tensor:
        calls[0] += 1
        return (writing if calls[0] == 4 else clean)(params, batch)

    with pytest.raises(Exception, match="has written into the data, which all trials share"):
        losses(Regression(clean, later), batch_size=5, way="alone")


BAD: list[tuple[str, Callable[[Parameters, Batch], Any], str]] = [
    ("vector", lambda p, b: (b[0] @ p["w"]).square(), "a tensor of shape (20,), expected a scalar"),
    ("float", lambda p, b: clean(p, b).item(), "gives a float, expected a scalar tensor"),
    ("none", lambda *_: None, "gives a NoneType, expected a scalar tensor"),
    ("cut off", lambda p, b: clean(p, b).detach(), "gives a number without a gradient"),
    ("whole", lambda p, b: clean(p, b).long(), "gives a number of type int64, expected a real"),
    ("complex", lambda p, b: clean(p, b) + 0j, "gives a number of type complex128, expected a"),
]


@pytest.mark.parametrize(("loss", "said"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_loss_that_is_no_scalar_is_said_with_its_place(
    loss: Callable[[Parameters, Batch], Any], said: str, tmp_path: Any
) -> None:
    workload = workload_of(Regression(loss))
    for _ in range(2):  # each trial says so, not the first alone
        with pytest.raises(Misfit) as caught:
            Lanes(workload, [Lane(0, 0)], stacked=False)
        assert str(caught.value).startswith("loss gives ")
        assert said in str(caught.value)
    line = inspect.getsourcelines(Regression)[1]
    assert place_of(caught.value, tmp_path) == f" (test_workload.py:{line})"


def test_an_evaluation_that_is_no_scalar_is_said_as_well() -> None:
    with pytest.raises(Misfit, match="evaluate gives a float, expected a scalar tensor"):
        workload_of(Regression(clean, lambda *_: 1.0)).drawn_start(0)


def test_a_parameter_of_whole_numbers_is_named() -> None:
    class Whole(Regression):
        def init(self, generator: torch.Generator) -> Parameters:
            del generator
            return {"w": torch.zeros(3), "n": torch.arange(3)}

    with pytest.raises(Misfit, match="parameter 'n' is of int64, expected real or complex"):
        workload_of(Whole(clean)).start(0)


def test_the_look_before_the_first_step_leaves_the_global_random_numbers_alone() -> None:
    def drawing(params: Parameters, batch: Batch) -> torch.Tensor:
        noise = torch.rand(()) + np.random.rand() + random.random()
        return clean(params, batch) * noise

    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    expected = (torch.rand(()), np.random.rand(), random.random())
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    workload_of(Regression(drawing)).drawn_start(0)
    assert (torch.rand(()), np.random.rand(), random.random()) == expected


def column(params: Parameters, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """An output of shape (rows, 1), as a linear layer has, and labels of shape (rows,)."""
    x, y = batch
    return x @ params["w"][:, None], y


SQUARES: list[tuple[str, Callable[[Parameters, Batch], Any]]] = [
    ("minus", lambda p, b: (column(p, b)[0] - column(p, b)[1]).square().mean()),
    ("times", lambda p, b: (column(p, b)[1] * column(p, b)[0]).square().mean()),
    ("l1", lambda p, b: nn.functional.l1_loss(*column(p, b))),
    ("mse", lambda p, b: nn.functional.mse_loss(*column(p, b))),
    ("huber", lambda p, b: nn.functional.huber_loss(*column(p, b))),
]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("loss", [s[1] for s in SQUARES], ids=[s[0] for s in SQUARES])
def test_a_column_against_a_row_of_the_same_rows_is_refused(
    loss: Callable[[Parameters, Batch], Any], batch_size: int | None
) -> None:
    n = batch_size or ROWS
    with pytest.raises(Misfit) as caught:
        workload_of(Regression(loss), batch_size).drawn_start(0)
    assert str(caught.value) == (
        f"loss broadcasts ({n}, 1) against ({n},), every row with every other; squeeze the one, "
        "or unsqueeze(0) the other if that is intended"
    )


def images(params: Parameters, batch: Batch) -> Any:
    """An output of one channel, shape (rows, 1, 3, 3), and labels of shape (rows, 3, 3)."""
    x, _ = batch
    return (x[:, :, None] * params["w"])[:, None], x[:, :, None] * torch.ones(3, dtype=x.dtype)


def far_apart(params: Parameters, batch: Batch) -> Any:
    """An output of shape (rows, 1, 1, 1) and labels of shape (rows, 1)."""
    x, y = batch
    return (x @ params["w"])[:, None, None, None], y[:, None]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("shapes", [images, far_apart])
@pytest.mark.parametrize(
    "criterion", [nn.functional.smooth_l1_loss, lambda a, b: (a - b).abs().mean()]
)
def test_rows_against_rows_are_refused_in_any_number_of_dimensions(
    shapes: Any, criterion: Any
) -> None:
    with pytest.raises(Misfit, match="every row with every other"):
        workload_of(Regression(lambda p, b: criterion(*shapes(p, b)))).drawn_start(0)


def pairs(params: Parameters, batch: Batch) -> Any:
    x, y = batch
    out = x @ params["w"]
    return (out.unsqueeze(1) - out.unsqueeze(0) - y[:, None] + y[None, :]).square().mean()


def accident(params: Parameters, batch: Batch) -> Any:
    x, y = batch
    scales = torch.ones(ROWS, dtype=x.dtype)  # as many as there are rows, by accident
    return ((x @ params["w"])[:, None] * scales - y[:, None]).square().mean()


@pytest.mark.parametrize("loss", [pairs, accident, clean])
def test_what_is_meant_to_be_spread_is_not_refused(loss: Any) -> None:
    workload_of(Regression(loss)).drawn_start(0)


class Complex(Objective):
    """``|z - (1 + 2i)|^2`` summed, whose gradient descent has a closed form."""

    def __init__(self, shape: tuple[int, ...] = (2,)) -> None:
        self.shape = shape

    def init(self, generator: torch.Generator) -> Parameters:
        parts = [torch.randn(self.shape, generator=generator) for _ in range(2)]
        return {"z": torch.complex(*parts)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        del batch
        return (params["z"] - (1 + 2j)).abs().square().sum()


@pytest.mark.parametrize("way", ["alone", "pointwise", "own_optimizers"])
def test_a_complex_parameter_is_two_real_ones_and_keeps_both(way: Way) -> None:
    workload = workload_of(Complex(()), steps=30)
    lanes = [Lane(0, 0)] if way == "alone" else [Lane(0, 0), Lane(0, 1)]
    found = train(workload, torch.optim.SGD, [{"lr": 0.1}], lanes, way=way)
    assert found.trajectory is not None
    z = complex(workload.start(0)["z"])
    for step in range(31):  # the gradient is 2 (z - c)
        expected = (1 + 2j) + 0.8**step * (z - (1 + 2j))
        assert found.trajectory[0, step] == pytest.approx([expected.real, expected.imag], abs=1e-12)
        assert found.losses[0, step] == pytest.approx(abs(expected - (1 + 2j)) ** 2, abs=1e-12)


def test_two_complex_parameters_are_four_numbers_and_have_no_trajectory() -> None:
    workload = workload_of(Complex())
    assert describe(workload, "").dimension == 4
    run = train(workload, torch.optim.SGD, [{"lr": 0.1}], [Lane(0, 0)], way="alone")
    assert run.trajectory is None


def test_the_plane_of_a_complex_parameter_is_that_of_its_parts() -> None:
    described = describe(workload_of(Complex(())), "")
    assert described.dimension == 2
    assert described.window is not None
    (left, right), (low, high) = described.window
    corners = [described.landscape[i] for i in (0, 120, -121, -1)]
    points = [complex(x, y) for y in (low, high) for x in (left, right)]
    assert corners == pytest.approx([abs(z - (1 + 2j)) ** 2 for z in points])


class Parabola(Objective):
    """``x^2`` of one parameter, from 10."""

    minimizers: tuple[tuple[float, ...], ...] = ((0.0,),)

    def init(self, generator: torch.Generator) -> Parameters:
        del generator
        return {"x": torch.tensor([10.0])}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        del batch
        return params["x"].square().sum()


@pytest.mark.parametrize("way", ["alone", "pointwise", "vmapped", "own_optimizers"])
def test_one_parameter_has_a_trajectory_and_a_landscape_too(way: Way) -> None:
    workload = workload_of(Parabola(), steps=10)
    lanes = [Lane(0, 0)] if way == "alone" else [Lane(0, 0), Lane(0, 1)]
    found = train(workload, torch.optim.SGD, [{"lr": 0.2}], lanes, way=way)
    assert found.trajectory is not None
    np.testing.assert_allclose(found.trajectory[0], 10 * 0.6 ** np.arange(11)[:, None])
    described = describe(workload, "")
    assert described.window == ((-3.0, 13.0),)
    x = np.linspace(-3, 13, len(described.landscape))
    np.testing.assert_allclose(described.landscape, x**2, atol=1e-12)
    assert {-3.0, 13.0} <= set(x)


def test_a_declared_window_is_kept_and_one_around_a_point_has_some_width() -> None:
    class Declared(Parabola):
        window = ((-1.0, 2.0),)

    assert describe(workload_of(Declared()), "").window == ((-1.0, 2.0),)

    class Alone(Parabola):
        minimizers = ()

    described = describe(workload_of(Alone()), "")
    assert described.window == ((7.0, 13.0),)


def test_parameters_are_flattened_and_made_again() -> None:
    given = {
        "a": torch.randn(2, 3),
        "z": torch.randn(4, dtype=torch.complex64),
        "s": torch.tensor(2.0),
    }
    again = unflatten(flatten(given), given)
    assert all(torch.equal(given[name], again[name]) for name in given)
    rows = unflatten(torch.stack([flatten(given), 2 * flatten(given)]), given)
    assert all(torch.equal(2 * given[name], rows[name][1]) for name in given)


def test_complex_numbers_have_the_precision_that_is_asked_for() -> None:
    single = torch.ones(2, dtype=torch.complex64)
    assert in_precision(single, torch.float64).dtype is torch.complex128
    assert in_precision(torch.ones(2, dtype=torch.int64), torch.float64).dtype is torch.int64
    assert workload_of(Complex()).start(0)["z"].dtype is torch.complex128


def test_the_last_smaller_batch_of_an_epoch_can_be_left_out() -> None:
    whole = workload_of(Regression(clean), batch_size=6)

    def sizes(workload: Workload) -> list[int]:
        batches = Lanes(workload, [Lane(0, 0)], stacked=False).batches()
        return [len(next(batches)[0]) for _ in range(8)]

    assert sizes(whole) == [6, 6, 6, 2, 6, 6, 6, 2]
    assert sizes(replace(whole, drop_last=True)) == [6] * 8
    assert sizes(replace(whole, batch_size=5, drop_last=True)) == [5] * 8


def test_dropping_the_last_batch_changes_none_before_it() -> None:
    whole = workload_of(Regression(clean), batch_size=6)
    batches = Lanes(whole, [Lane(0, 0)], stacked=False).batches()
    without = Lanes(replace(whole, drop_last=True), [Lane(0, 0)], stacked=False).batches()
    first = [next(batches) for _ in range(7)]
    second = [next(without) for _ in range(6)]
    for i, j in zip([0, 1, 2, 4, 5, 6], range(6), strict=True):  # 3 is the one of two rows
        assert all(map(torch.equal, first[i], second[j]))
