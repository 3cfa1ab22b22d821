"""Networks trained by the engine equal those trained by plain PyTorch loops, epoch by epoch."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_plan
from plain_training import PLAIN, RECIPE, train_plainly

from harness import ModuleObjective
from harness.engine.lanes import Lane
from harness.engine.loading import load_objective
from harness.engine.training_loop import train
from harness.engine.validate import load_case, validate_plan
from harness.engine.workload import prepare
from harness.plan.model import Case
from harness.results import Way
from harness.spec import validation, yaml_source

SUITE = Path(__file__).parent / "suite"
NETWORKS = {"Mlp": "table", "Cnn2d": "images", "Cnn1d": "series", "Transformer": "texts"}
OUTER = ("0.weight", "last.weight", "embed.weight", "places", "head.weight")
"""The matrices of inputs and outputs, which Muon isn't for."""

SEEDS, EPOCHS, BATCH = (0, 3, 4), 3, 25


@functools.cache
def cases() -> dict[tuple[str, str], Case]:
    """Every network with every optimizer, as a spec says it."""
    objectives: dict[str, Any] = {
        network: {
            "class": network,
            "dataset": dataset,
            "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
            "batch_size": BATCH,
            "epochs": EPOCHS,
            "record_every": "epoch",
            "metrics": ["loss", "accuracy"],
            "dtype": "float64",
        }
        for network, dataset in NETWORKS.items()
    }
    spec = {
        "suite": "plain",
        "seeds": list(SEEDS),
        "recipe": RECIPE,
        "objectives": objectives,
        "optimizers": {name: plain.in_spec(OUTER) for name, plain in PLAIN.items()},
    }
    plan = make_plan(validation.check(yaml_source.of_mapping(spec, SUITE)))
    assert validate_plan(plan).findings == ()
    return {(case.objective.name, case.optimizer): case for case in plan.cases}


@functools.cache
def plain_curves(network: str, optimizer: str, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    objective = load_objective(cases()[network, optimizer].objective)[0]
    assert isinstance(objective, ModuleObjective)
    return train_plainly(
        objective,
        lambda model: PLAIN[optimizer].make(model, OUTER),
        seed,
        epochs=EPOCHS,
        batch_size=BATCH,
        dtype=torch.float64,
    )


def curves(network: str, optimizer: str, way: Way) -> list[dict[str, np.ndarray[Any, Any]]]:
    """What the engine records of each seed."""
    case = cases()[network, optimizer]
    workload = prepare(case.objective, load_objective(case.objective)[0], "cpu")
    groups = [[seed] for seed in SEEDS] if way == "alone" else [SEEDS]
    found = []
    for seeds in groups:
        lanes = [Lane(0, seed) for seed in seeds]
        outcome = train(workload, load_case(case), [case.hyperparameters], lanes, way=way)
        found += [{k: v[i] for k, v in outcome.values.items()} for i in range(len(lanes))]
    return found


@pytest.fixture
def exact_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Muon orthogonalise in the precision of its matrices, not in bfloat16."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor)


def assert_as_in_plain_loops(network: str, optimizer: str, way: Way, rtol: float) -> None:
    for seed, found in zip(SEEDS, curves(network, optimizer, way), strict=True):
        expected = plain_curves(network, optimizer, seed)
        assert found.keys() == expected.keys()
        assert {"validation accuracy", "test loss"} <= found.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=rtol, err_msg=f"{name}, {seed}")


every_network = pytest.mark.parametrize("network", NETWORKS)
every_optimizer = pytest.mark.parametrize("optimizer", PLAIN)


@pytest.mark.usefixtures("one_thread", "exact_muon")
@every_optimizer
@every_network
def test_a_network_alone_trains_as_in_a_plain_loop(network: str, optimizer: str) -> None:
    assert_as_in_plain_loops(network, optimizer, "alone", 1e-9)


@pytest.mark.usefixtures("one_thread", "exact_muon")
@every_optimizer
@every_network
def test_networks_that_share_a_run_train_as_in_plain_loops(network: str, optimizer: str) -> None:
    way: Way = "vmapped" if optimizer == "muon" else "pointwise"
    assert_as_in_plain_loops(network, optimizer, way, 1e-9)


def test_the_networks_learn_so_that_another_step_would_be_seen() -> None:
    for network in NETWORKS:
        ends = [plain_curves(network, name, 0)["train loss"][[0, -1]] for name in PLAIN]
        assert all(last < 0.99 * first for first, last in ends)
        assert len({float(last) for _, last in ends}) == len(PLAIN)
