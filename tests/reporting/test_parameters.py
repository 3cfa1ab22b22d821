"""Kept parameters and curves of all metrics, as the library gives them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import harness

SPEC = {
    "suite": "kept",
    "seeds": 2,
    "timing": {"enabled": False},
    "objectives": {
        "net": {
            "class": "multilayer_perceptron",
            "arguments": {"hidden": [3]},
            "dataset": "spirals",
            "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
            "steps": 4,
            "record_every": 2,
            "metrics": ["loss", {"accuracy": "higher"}],
            "report": "test accuracy",
            "keep": {"parameters": "last"},
        },
        "whole": {
            "class": "multilayer_perceptron",
            "arguments": {"hidden": [3]},
            "dataset": "spirals",
            "steps": 4,
            "record_every": 2,
            "keep": {"parameters": "last"},
        },
        "bowl": {"class": "quadratic_2d", "steps": 3},
    },
    "optimizers": {"sgd": {"class": "torch.optim:SGD", "hyperparameters": {"lr": [0.1, 0.2]}}},
}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> harness.Run:
    output = tmp_path_factory.mktemp("kept")
    return harness.run(SPEC, folder=ROOT, output=output)


def test_kept_parameters_give_the_loss_that_was_recorded(done: harness.Run) -> None:
    sys.path.insert(0, str(ROOT / "datasets"))
    try:
        data = importlib.import_module("spirals").spirals()
    finally:
        sys.path.remove(str(ROOT / "datasets"))
    curves = done.curves
    for seed, setting in ((0, "lr=0.1"), (1, "lr=0.2")):
        kept = done.parameters("whole", "sgd", seed, setting=setting)
        assert {name: own.shape for name, own in kept.items()} == {
            "weight1": (3, 2), "bias1": (3,), "weight2": (2, 3), "bias2": (2,),
        }  # fmt: skip
        own = {name: torch.tensor(values, dtype=torch.float64) for name, values in kept.items()}
        hidden = torch.tanh(torch.tensor(data.features) @ own["weight1"].T + own["bias1"])
        outputs = hidden @ own["weight2"].T + own["bias2"]
        loss = functional.cross_entropy(outputs, torch.tensor(data.labels))
        here = curves[(curves["objective"] == "whole") & (curves["seed"] == seed)]
        last = here[(here["setting"] == setting) & (here["step"] == 4)]["loss"]
        assert last.item() == pytest.approx(loss.item(), rel=1e-5)


def test_curves_have_a_row_per_part_metric_and_record(done: harness.Run) -> None:
    curves = done.curves
    net = curves[curves["objective"] == "net"]
    assert net.groupby(["part", "metric"]).size().to_dict() == {
        (part, metric): 2 * 2 * 3
        for part in ("train", "validation", "test")
        for metric in ("loss", "accuracy")
    }
    is_loss = net["metric"] == "loss"
    assert net["loss"].notna().tolist() == is_loss.tolist()
    assert (net.loc[is_loss, "loss"] == net.loc[is_loss, "value"]).all()
    ends = net[(net["part"] == "test") & ~is_loss & (net["step"] == 4)]["value"]
    reported = done.trials[done.trials["objective"] == "net"]["final_loss"]
    np.testing.assert_array_equal(ends, reported)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nett", "sgd", 0), "no objective 'nett'; did you mean 'net'"),
        (("net", "sgdd", 0), "no optimizer 'sgdd'; did you mean 'sgd'"),
        (("net", "sgd", 7), "several cases are meant"),
        (("bowl", "sgd", 0), "several cases are meant"),
    ],
)
def test_what_is_not_there_is_named(
    done: harness.Run, arguments: tuple[str, str, int], words: str
) -> None:
    with pytest.raises(harness.BadInput, match=words):
        done.parameters(*arguments)
    with pytest.raises(harness.BadInput, match="no parameters are kept of sgd"):
        done.parameters("bowl", "sgd", 0, setting="lr=0.1")
    with pytest.raises(harness.BadInput, match="no seed 7; there are 0–1"):
        done.parameters("net", "sgd", 7, setting="lr=0.1")
