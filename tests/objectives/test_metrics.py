"""Accuracy and R² against their definitions, and the metrics of objectives that ship."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.dataset import Dataset, split
from harness.objectives.linear_regression import LinearRegression
from harness.objectives.logistic_regression import LogisticRegression
from harness.objectives.metrics import accuracy, class_dimension, r2
from harness.objectives.multilayer_perceptron import MultilayerPerceptron
from harness.suite.locate import locate

ROOT = Path(__file__).resolve().parents[2]
airfoil = locate("airfoil", ROOT, "datasets").load()
spirals = locate("spirals", ROOT, "datasets").load()


@pytest.mark.parametrize(
    ("output", "labels", "classes", "dimension"),
    [
        ((4, 3), (4,), 3, 1),
        ((4, 7, 3), (4, 7), 3, 2),
        ((4, 3, 7), (4, 7), 3, 1),
        ((4, 3, 8, 9), (4, 8, 9), 3, 1),
        ((4, 8, 9, 3), (4, 8, 9), 3, 3),
        ((4, 3, 3), (4, 3), 3, None),  # either
        ((4, 1), (4,), None, None),  # one number is no class
        ((4,), (4,), 2, None),
        ((4, 2), (4,), 10, None),  # fewer numbers than classes
        ((4, 12), (4,), 10, 1),
        ((4, 3), (4, 3), 2, None),
    ],
)
def test_where_the_classes_are(
    output: tuple[int, ...], labels: tuple[int, ...], classes: int | None, dimension: int | None
) -> None:
    found = class_dimension(torch.zeros(output), torch.zeros(labels, dtype=torch.int64), classes)
    assert found == dimension
    assert class_dimension(torch.zeros(output), torch.zeros(labels), classes) is None


def test_accuracy_is_the_share_that_is_right_and_ignores_what_the_loss_ignores() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.9, 0.1]])
    assert float(accuracy(scores, torch.tensor([1, 0, 0, 1]))) == 0.5
    assert float(accuracy(scores, torch.tensor([1, -100, 0, -100]))) == 0.5
    assert float(accuracy(scores.T.reshape(1, 2, 4), torch.tensor([[1, 0, 1, 1]]), 1)) == 0.75


def test_r2_is_one_for_the_labels_and_zero_for_their_mean() -> None:
    labels = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert float(r2(labels, labels)) == 1
    assert float(r2(torch.full((4,), 3.0), labels)) == 0
    assert float(r2(torch.tensor([1.0, 2.0, 3.0, 5.0]), labels)) == pytest.approx(1 - 1 / 14)
    same = torch.full((3,), 0.1)
    assert float(r2(same, same)) == 1
    assert float(r2(torch.zeros(3), same)) == 0
    assert float(r2(torch.zeros(1), torch.ones(1))) == 0


class Bowl(Objective):
    """Counts how often its loss is asked for."""

    calls = 0

    def init(self, generator: torch.Generator) -> Parameters:
        return {"x": torch.randn(2, generator=generator)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        del batch
        self.calls += 1
        return params["x"].square().sum()


def test_the_loss_is_measured_by_default_and_once() -> None:
    class Told(Bowl):
        def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
            del batch
            return {"norm": params["x"].norm()}

    class Overridden(Bowl):
        def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
            del batch
            return {"norm": params["x"].norm(), "loss": params["x"].sum()}

    params = {"x": torch.tensor([3.0, 4.0])}
    for kind, expected, calls in (
        (Bowl, {"loss": 25}, 1),
        (Told, {"loss": 25, "norm": 5}, 1),
        (Overridden, {"loss": 7, "norm": 5}, 0),
    ):
        objective = kind()
        found = objective.measure(params, None)
        assert {name: float(value) for name, value in found.items()} == expected
        assert next(iter(found)) == "loss"
        assert objective.calls == calls
        assert objective.state(torch.Generator()) == {}
        assert objective.held_out == {}
    assert "accuracy" in Bowl.higher
    assert "loss" not in Bowl.higher


def test_regressions_tell_the_variance_that_they_explain() -> None:
    objective = LinearRegression(airfoil())
    x, y = objective.data or ()
    weights = torch.tensor(objective.minimizers[0], dtype=torch.float64)
    found = objective.measure({"weight": weights[:-1], "bias": weights[-1:]}, (x, y))
    assert float(found["loss"]) == pytest.approx(objective.optimum)
    assert float(found["r2"]) == pytest.approx(
        1 - 2 * float(found["loss"]) / float(y.var(correction=0))
    )
    network = MultilayerPerceptron(airfoil(rows=100))
    params = {k: v.double() for k, v in network.init(torch.Generator().manual_seed(0)).items()}
    measured = network.measure(params, network.data)
    hidden = torch.tanh(network.data[0] @ params["weight1"].T + params["bias1"])  # type: ignore[index]
    output = (hidden @ params["weight2"].T + params["bias2"]).squeeze(-1)
    labels = airfoil(rows=100).labels
    left = np.mean((output.numpy() - labels) ** 2)
    assert float(measured["loss"]) == pytest.approx(left / 2)
    assert float(measured["r2"]) == pytest.approx(1 - left / np.var(labels))


def test_classifiers_tell_how_many_rows_are_right() -> None:
    data = spirals()
    line = LogisticRegression(data)
    weight = torch.tensor(line.minimizers[0], dtype=torch.float64)
    found = line.measure({"weight": weight[:-1], "bias": weight[-1]}, line.data)
    right = (data.features @ weight[:-1].numpy() + weight[-1].item() > 0) == (data.labels == 1)
    assert float(found["accuracy"]) == pytest.approx(right.mean())
    assert math.isclose(float(found["loss"]), line.optimum or 0)


def test_rows_that_are_held_out_may_lack_a_class() -> None:
    whole = Dataset(np.arange(40.0).reshape(20, 2), np.array([0] * 19 + [1]), classes=3)
    order = np.random.default_rng(2).permutation(20)
    assert 19 in order[:16]  # so the only row of class 1 is one of train
    parts = split(whole, {"train": 0.8, "test": 0.2}, 2)
    shapes = [MultilayerPerceptron(part).widths for part in parts.values()]
    assert shapes == [(2, 16, 3)] * 2
    for part in parts.values():
        data = LogisticRegression(part).data
        assert data is not None
        assert len(data[1]) == len(part.labels)
    assert LogisticRegression(parts["test"]).optimum is None


def test_classes_of_held_out_rows_are_cut_at_the_median_of_the_train_rows() -> None:
    parts = split(airfoil(rows=1503), {"train": 0.5, "test": 0.5}, 0)
    median = np.median(parts["train"].labels)
    data = LogisticRegression(parts["test"], threshold="median").data
    assert data is not None
    assert np.array_equal(data[1].numpy(), parts["test"].labels > median)
    assert np.median(parts["test"].labels) != median


def test_a_perceptron_takes_images_and_whole_numbers_row_by_row() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (6, 1, 3, 4), dtype=np.uint8)
    network = MultilayerPerceptron(Dataset(images, np.arange(6, dtype=np.uint8) % 2))
    assert network.widths == (12, 16, 2)
    assert network.data is not None
    assert network.data[0].dtype == torch.float64
    assert np.array_equal(network.data[0].numpy(), images.reshape(6, 12))
    with pytest.raises(ValueError, match=r"labels must have shape \(6,\), got \(6, 2\)"):
        MultilayerPerceptron(Dataset(images, np.zeros((6, 2))))
