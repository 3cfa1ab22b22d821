"""Networks that ship: their layers written out, what they must not see, and that they learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from builders import load_suite_file, make_workload
from torch import nn

from harness.engine.lanes import Lane
from harness.engine.training_loop import train
from harness.engine.workload import INIT_STREAM, generator
from harness.objectives.causal_transformer import CausalTransformer
from harness.objectives.convolutional_network import ConvolutionalNetwork
from harness.objectives.dataset import Dataset, split
from harness.objectives.module import ModuleObjective
from harness.objectives.multilayer_perceptron import MultilayerPerceptron

pytestmark = pytest.mark.usefixtures("one_thread")

F = nn.functional
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
digits = load_suite_file("datasets/digits.py").digits
mnist1d = load_suite_file("datasets/mnist1d.py").mnist1d
alice = load_suite_file("datasets/alice.py").alice


def numbers(objective: Any) -> int:
    start = objective.init(generator(0, INIT_STREAM))
    return sum(value.numel() for value in start.values())


def in_double(objective: ModuleObjective) -> dict[str, torch.Tensor]:
    start = objective.init(generator(0, INIT_STREAM))
    return {name: value.double() for name, value in start.items()}


def test_convolutions_halve_an_image_and_a_linear_layer_reads_what_is_left() -> None:
    objective = ConvolutionalNetwork(digits())
    assert numbers(objective) == (9 + 1) * 16 + (16 * 9 + 1) * 32 + (2 * 2 * 32 + 1) * 10
    params = in_double(objective)
    x, y = (tensor[:50] for tensor in objective.data or ())
    inner = F.conv2d(x, params["0.weight"], params["0.bias"], stride=2, padding=1).relu()
    inner = F.conv2d(inner, params["2.weight"], params["2.bias"], stride=2, padding=1).relu()
    output = inner.reshape(50, -1) @ params["5.weight"].T + params["5.bias"]
    found = objective.measure(params, (x, y))
    torch.testing.assert_close(found["loss"], F.cross_entropy(output, y))
    assert float(found["accuracy"]) == float((output.argmax(1) == y).double().mean())
    torch.testing.assert_close(objective.loss(params, (x, y)), found["loss"])


def test_convolutions_of_signals_take_what_is_asked_for() -> None:
    objective = ConvolutionalNetwork(
        mnist1d(rows=20), channels=[4, 6], kernel_size=5, activation="gelu", batch_norm=True
    )
    assert [type(part).__name__ for part in objective.module().children()] == [
        *("Conv1d", "BatchNorm1d", "GELU", "Conv1d", "BatchNorm1d", "GELU", "Flatten", "Linear")
    ]
    assert objective.module()[-1].in_features == 6 * 10  # type: ignore[index]
    assert set(objective.state(generator(0, INIT_STREAM))) == {
        f"{i}.{name}"
        for i in (1, 4)
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    odd = Dataset(np.zeros((4, 2, 7, 5)), np.arange(4))
    module = ConvolutionalNetwork(odd, channels=[3], dropout=0.5).module()
    assert [type(part).__name__ for part in module.children()] == [
        *("Conv2d", "ReLU", "Dropout", "Flatten", "Linear")
    ]
    assert module(torch.zeros(2, 2, 7, 5)).shape == (2, 4)


def test_the_transformer_is_attention_and_layers_added_to_what_was() -> None:
    objective = CausalTransformer(alice()["train"], width=6, layers=1, heads=2)
    params = in_double(objective)
    tokens, labels = (tensor[:3] for tensor in objective.data or ())
    x = params["embedding.weight"][tokens] + params["position"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return scaled * params[f"{name}.weight"] + params[f"{name}.bias"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]

    q, k, v = linear(norm(x, "blocks.0.norm1"), "blocks.0.attention").split(6, -1)
    heads = []
    for own in (slice(0, 3), slice(3, 6)):
        scores = q[..., own] @ k[..., own].mT / np.sqrt(3)
        later = torch.ones(32, 32, dtype=torch.bool).triu(1)
        heads.append(scores.masked_fill(later, -np.inf).softmax(-1) @ v[..., own])
    x = x + linear(torch.cat(heads, -1), "blocks.0.projection")
    inner = linear(norm(x, "blocks.0.norm2"), "blocks.0.inner").relu()
    x = x + linear(inner, "blocks.0.outer")
    output = linear(norm(x, "norm"), "head")
    found = objective.measure(params, (tokens, labels))
    expected = F.cross_entropy(output.reshape(-1, 42), labels.reshape(-1))
    torch.testing.assert_close(found["loss"], expected)
    assert float(found["accuracy"]) == float((output.argmax(-1) == labels).double().mean())


def test_the_transformer_sees_no_later_token() -> None:
    objective = CausalTransformer(alice()["train"])
    assert 10_000 < numbers(objective) < 20_000
    network = objective.module().eval()
    tokens = (objective.data or ())[0][:1].clone()
    network.requires_grad_(False)
    before = network(tokens)
    tokens[0, 20] = (tokens[0, 20] + 1) % 42
    after = network(tokens)
    torch.testing.assert_close(after[0, :20], before[0, :20], rtol=0, atol=1e-6)
    assert float((after[0, 20:] - before[0, 20:]).abs().amin(0).max()) > 0
    # Less than a whole piece, as whoever samples from it needs.
    torch.testing.assert_close(network(tokens[:, :5]), after[:, :5], rtol=0, atol=1e-6)


IMAGES = Dataset(np.zeros((4, 1, 8, 8)), np.arange(4))
TEXT = Dataset(np.zeros((4, 8), int), np.arange(32).reshape(4, 8))


@pytest.mark.parametrize(
    ("make", "data", "arguments", "message"),
    [
        (ConvolutionalNetwork, IMAGES, {"channels": []}, r"channels must be a list of widths"),
        (ConvolutionalNetwork, IMAGES, {"channels": [8, 0]}, "whole numbers above zero"),
        (ConvolutionalNetwork, IMAGES, {"kernel_size": 4}, "an odd number, got 4"),
        (ConvolutionalNetwork, IMAGES, {"activation": "swish"}, "relu, gelu or tanh, got 'swish'"),
        (ConvolutionalNetwork, IMAGES, {"dropout": 1.0}, "at least 0 and below 1, got 1.0"),
        (
            ConvolutionalNetwork,
            Dataset(np.zeros((4, 64)), np.arange(4)),
            {},
            r"got shape \(4, 64\)",
        ),
        (ConvolutionalNetwork, Dataset(np.zeros((4, 1, 8)), np.zeros(4)), {}, "must be classes"),
        (CausalTransformer, TEXT, {"width": 10, "heads": 4}, "multiple of the 4 heads, got 10"),
        (CausalTransformer, TEXT, {"layers": 0}, "layers must be a whole number above zero, got 0"),
        (CausalTransformer, TEXT, {"dropout": -0.1}, "at least 0 and below 1, got -0.1"),
        (CausalTransformer, IMAGES, {}, r"whole numbers of shape \(rows, length\), got float64"),
    ],
)
def test_networks_refuse_what_they_cannot_be(
    make: Any, data: Dataset, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(data, **arguments)


LEARNERS: dict[str, tuple[Any, Any, dict[str, Any], int, int, float]] = {
    "digits, perceptron": (
        MultilayerPerceptron,
        lambda: split(digits(), SHARES),
        {"hidden": [32], "activation": "relu"},
        *(64, 200, 0.9),
    ),
    "digits, convolutions": (
        ConvolutionalNetwork,
        lambda: split(digits(), SHARES),
        {},
        64,
        120,
        0.9,
    ),
    "signals": (
        ConvolutionalNetwork,
        lambda: split(mnist1d(rows=2000), SHARES),
        {"channels": [16, 16, 16], "kernel_size": 5},
        *(64, 200, 0.4),
    ),
    "text": (CausalTransformer, alice, {}, 16, 60, 0.15),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_networks_that_ship_tell_rows_that_they_were_not_trained_on(name: str) -> None:
    make, load, arguments, batch_size, steps, enough = LEARNERS[name]
    parts = load()
    objective = make(parts["train"], **arguments)
    held_out = {part: make(parts[part], **arguments).data for part in ("validation", "test")}
    workload = make_workload(
        objective,
        dtype=torch.float32,
        steps=steps,
        steps_per_epoch=len(parts["train"].labels) // batch_size,
        batch_size=batch_size,
        drop_last=True,
        record_steps=(0, steps),
        metrics=(("loss", False), ("accuracy", True)),
        held_out={
            part: tuple(t.float() if t.is_floating_point() else t for t in rows)
            for part, rows in held_out.items()
        },
    )
    lanes = [Lane(0, seed) for seed in range(2)]
    outcome = train(workload, torch.optim.AdamW, [{"lr": 5e-3}], lanes, way="pointwise")
    for part in ("train", "validation", "test"):
        found = outcome.values[f"{part} accuracy"]
        assert (found[:, -1] > enough).all(), found
        assert (found[:, 0] < 0.25).all()
        losses = outcome.values[f"{part} loss"]
        assert (losses[:, -1] < losses[:, 0]).all()
