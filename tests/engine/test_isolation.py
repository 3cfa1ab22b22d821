"""What one trial leaves behind doesn't reach the next: global random numbers, state on classes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_workload
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.isolation import class_state, seed_globals
from harness.engine.lanes import Lane
from harness.engine.training_loop import train
from harness.engine.validate import load_optimizer
from harness.objectives.quadratic_2d import Quadratic2D
from harness.seeds import FIRST_TUNING_SEED, NUMPY_STREAM, SEED_LIMIT, TORCH_STREAM
from harness.suite.locate import locate
from harness.suite.random_state import drawn_from, generators, random_state

seeds = st.integers(0, SEED_LIMIT - 1)


def drawn() -> tuple[float, float, float]:
    """The next number of each global generator."""
    return float(torch.rand(())), float(np.random.rand()), random.random()


@given(seed=seeds)
def test_a_seeds_global_numbers_are_those_of_generators_of_their_own(seed: int) -> None:
    random.random()
    seed_globals(seed)
    expected = (
        float(torch.rand((), generator=torch.Generator().manual_seed(2**31 + seed))),
        float(np.random.RandomState(3 * 2**30 + seed).rand()),
        random.Random(f"trial {seed}").random(),
    )
    assert drawn() == expected


@given(a=seeds, b=seeds)
def test_no_two_seeds_share_a_stream_nor_does_a_shared_run(a: int, b: int) -> None:
    streams: list[tuple[float, ...]] = []
    for seed in {a, b}:
        seed_globals(seed)
        streams.append(drawn())
    seed_globals(None)
    streams.append(drawn())
    for numbers in zip(*streams, strict=True):
        assert len(set(numbers)) == len(streams)


def test_streams_do_not_overlap_and_stay_within_what_each_generator_tells_apart() -> None:
    last = SEED_LIMIT - 1
    own = range(2 * last + 2)  # two of each seed
    assert own.stop <= TORCH_STREAM
    assert TORCH_STREAM + SEED_LIMIT < NUMPY_STREAM  # a shared run's is SEED_LIMIT
    assert NUMPY_STREAM + SEED_LIMIT < 2**32
    assert 10 * 2_000_000 < FIRST_TUNING_SEED < SEED_LIMIT


def test_whose_generator_was_drawn_from_is_told() -> None:
    before = random_state()
    assert generators(drawn_from(before, random_state())) == ""
    torch.rand(1)
    assert drawn_from(before, random_state()) == {"torch"}
    np.random.rand()
    assert drawn_from(before, random_state()) == {"torch", "numpy"}
    random.random()
    assert drawn_from(before, random_state()) == {"torch", "numpy", "random"}


class Above(torch.optim.SGD):
    """What a class may hold."""

    count = 0
    listed: list[int] = []  # noqa: RUF012 - that is the mistake
    nested: dict[str, list[int]] = {"a": [1]}  # noqa: RUF012
    names = {"x"}  # noqa: RUF012
    tensor = torch.zeros(2)
    array = np.zeros(2)
    nothing: Any = None

    def method(self) -> int:
        return 1


class Below(Above):
    own = 1.5


def test_what_a_class_and_those_above_it_hold_is_put_back_in_place() -> None:
    kept, listed, tensor, method = class_state(Below), Above.listed, Above.tensor, Above.method
    assert class_state(Below) is kept
    Above.count += 3
    Below.count = 7
    Below.own = 2.5
    Above.listed.append(1)
    Above.nested["a"].append(2)
    Above.nested["b"] = []
    Above.names.add("y")
    Above.tensor.add_(1)
    Above.array += 1
    Above.nothing = torch.ones(1)
    Above.fresh = [1]  # type: ignore[attr-defined]
    kept.restore()
    assert (Above.count, Below.own, Above.nothing) == (0, 1.5, None)
    assert "count" not in vars(Below)
    assert Above.listed is listed
    assert (Above.listed, Above.nested, Above.names) == ([], {"a": [1]}, {"x"})
    assert Above.tensor is tensor
    assert Above.tensor.tolist() == Above.array.tolist() == [0, 0]
    assert not hasattr(Above, "fresh")
    assert Above.method is method
    Above.listed = [5]
    Above.listed.append(6)
    kept.restore()
    assert Above.listed is listed
    assert listed == []


MODULE = """
import torch

taken = 0
seen = []

class Counts(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)

    def step(self, closure=None):
        global taken
        taken += 1
        seen.append(taken)
        for p in self.param_groups[0]["params"]:
            p.grad /= len(seen)
        return super().step()
"""


@pytest.mark.parametrize("way", ["alone", "pointwise"])
def test_what_an_optimizers_module_holds_is_each_trials_own(way: Any, tmp_path: Path) -> None:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "counts.py").write_text(MODULE)
    factory = load_optimizer(locate("Counts", tmp_path, "optimizers"))
    workload = make_workload(Quadratic2D(), steps=10)
    lanes = [Lane(0, 0)] if way == "alone" else [Lane(0, 0), Lane(0, 1)]
    runs = [train(workload, factory, [{"lr": 0.1}], lanes, way=way) for _ in range(2)]
    x = np.array([-5.0, -2.0])
    for step in range(1, 11):
        x = x - 0.1 * np.array([0.2, 4.0]) * x / step
    for run in runs:
        assert run.trajectory is not None
        np.testing.assert_allclose(run.trajectory[0, -1], x, rtol=1e-12)
