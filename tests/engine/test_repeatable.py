"""A trial's numbers and state are its own: whatever ran before it, beside it, or where."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from builders import Call
from hypothesis import example, given
from hypothesis import strategies as st

from harness.engine.isolation import seed_globals
from harness.engine.workload import generator
from harness.objectives.quadratic_2d import Quadratic2D
from harness.seeds import SEED_LIMIT

STREAMS = ("torch's", "numpy's", "start", "batches")
places = st.integers(0, SEED_LIMIT - 1)


def bits_of_torch(source: torch.Generator) -> tuple[int, ...]:
    """The lower 24 of the 32 bits of each of a generator's next numbers."""
    return tuple((torch.rand(4, generator=source) * 2**24).int().tolist())


def bits_of_numpy() -> tuple[int, ...]:
    return tuple(int(v) % 2**24 for v in np.random.randint(0, 2**32, 4, dtype=np.uint32))


def first_bits(stream: str, seed: int) -> tuple[int, ...]:
    """What a stream begins with in a trial with a seed."""
    seed_globals(seed)
    if stream == "numpy's":
        return bits_of_numpy()
    if stream == "torch's":
        return bits_of_torch(torch.default_generator)
    return bits_of_torch(generator(seed, ("start", "batches").index(stream)))


def test_torchs_and_numpys_generators_give_the_same_numbers_of_the_same_seed() -> None:
    """Both are the Mersenne Twister: without a look at both, their seeds might meet unseen."""
    np.random.seed(7)
    assert bits_of_torch(torch.Generator().manual_seed(7)) == bits_of_numpy()


@given(places, places, st.sampled_from(STREAMS), st.sampled_from(STREAMS))
@example(8, 4, "torch's", "start")  # global seed s was once the start's stream of seed s / 2
@example(9, 4, "torch's", "batches")
@example(0, SEED_LIMIT - 1, "torch's", "batches")
@example(0, SEED_LIMIT - 1, "numpy's", "torch's")
@example(SEED_LIMIT - 1, 0, "numpy's", "start")
def test_no_two_streams_of_any_two_trials_are_the_same(
    one: int, other: int, stream: str, other_stream: str
) -> None:
    same = (one, stream) == (other, other_stream)
    assert (first_bits(stream, one) == first_bits(other_stream, other)) == same


@given(places)
@example(0)
@example(SEED_LIMIT - 1)
def test_a_shared_run_has_global_numbers_of_no_trial(seed: int) -> None:
    seed_globals(None)
    shared = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())
    seed_globals(seed)
    own = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())
    assert all(a != b for a, b in zip(shared, own, strict=True))


@given(places, places)
def test_pythons_generator_follows_the_seed_alone(one: int, other: int) -> None:
    seed_globals(one)
    first = random.random()
    random.random()
    seed_globals(other)
    assert (random.random() == first) == (one == other)
    seed_globals(one)
    assert random.random() == first


# ---- whole runs

DRAWING = """
import random

import numpy as np
import torch


class Draws(torch.optim.SGD):
    '''Adds noise of each of the global generators in turn.'''

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.noise = random.random() + np.random.rand() + float(torch.rand(()))

    def step(self, closure=None):
        super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(0.01 * torch.randn_like(p))
                    p.add_(0.01 * float(np.random.normal()) + 0.01 * random.gauss(0, 1))
                    p.mul_(1 + 1e-3 * self.noise)
"""
OTHER = """
  other: {class: Draws, hyperparameters: {lr: 0.3}}
  plain: {class: "torch.optim:SGD", hyperparameters: {lr: 0.1}}
"""
SPEC = """
suite: draws
seeds: 4
timing: {enabled: false}
objectives:
  quadratic_2d: {steps: 12, dtype: float64}
optimizers:
  draws: {class: Draws, hyperparameters: {lr: 0.1}}
"""


def suite(folder: Path, spec: str, code: str) -> Path:
    (folder / "optimizers").mkdir(parents=True)
    (folder / "optimizers" / "own.py").write_text(code)
    (folder / "spec.yaml").write_text(spec)
    return folder


def curves(output: Path, optimizer: str) -> dict[int, bytes]:
    """By seed, the recorded losses to the bit."""
    db = sqlite3.connect(output / "results.sqlite")
    rows = db.execute(
        "SELECT seed, losses FROM run_cases JOIN curves USING (case_id) JOIN trials "
        "USING (case_id, seed) WHERE optimizer = ? AND status = 'ok'",
        (optimizer,),
    ).fetchall()
    db.close()
    return dict(rows)


def test_draws_from_global_generators_are_the_same_bits_wherever_and_beside_whatever(
    tmp_path: Path, command: Call
) -> None:
    """One worker, two, resumed, and with other optimizers: bit-identical."""
    folder = suite(tmp_path / "a", SPEC, DRAWING)
    more = suite(tmp_path / "b", SPEC.rstrip() + OTHER, DRAWING)
    found = []
    for place, workers in ((folder, "1"), (folder, "1"), (folder, "2"), (more, "2")):
        output = place / workers
        if output.exists():  # half of its trials are lost, and run again
            with closing(sqlite3.connect(output / "results.sqlite", isolation_level=None)) as db:
                db.execute("DELETE FROM trials WHERE seed % 2")
                db.execute("DELETE FROM curves WHERE seed % 2")
        done = command("run", "spec.yaml", "-o", output, "--workers", workers, cwd=place)
        assert done.returncode == 0, done.stderr
        found.append(curves(output, "draws"))
    assert len(set(found[0].values())) == 4  # each seed has numbers of its own
    assert all(each == found[0] for each in found)


KEEPING = """
import torch

TAKEN = []
COUNT = 0


class Keeps(torch.optim.Optimizer):
    '''Descent whose rate falls with the steps taken, which are counted in the wrong place.'''

    def __init__(self, params, lr, mixes=False):
        super().__init__(params, {"lr": lr})
        self.mixes = mixes

    def count(self):
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure=None):
        rate = 1 / self.count() ** 0.5
        for group in self.param_groups:
            for p in group["params"]:
                if self.mixes:
                    float(p.grad.sum())  # a look that lanes can't share
                p.add_(p.grad, alpha=-group["lr"] * rate)


class OnTheClass(Keeps):
    taken = 0

    def count(self):
        OnTheClass.taken += 1
        return OnTheClass.taken


class InAList(Keeps):
    def count(self):
        TAKEN.append(len(TAKEN))
        return len(TAKEN)


class InAModule(Keeps):
    def count(self):
        global COUNT
        COUNT += 1
        return COUNT
"""
PLACES = ("OnTheClass", "InAList", "InAModule")


def test_state_on_a_class_or_in_a_module_does_not_pass_from_trial_to_trial(
    tmp_path: Path, command: Call
) -> None:
    entries = "".join(
        f"  {name.lower()}_{way}: {{class: {name}, "
        f"hyperparameters: {{lr: 0.2, mixes: {str(way == 'alone').lower()}}}}}\n"
        for name in PLACES
        for way in ("alone", "shared")
    )
    spec = SPEC.partition("  draws:")[0] + entries
    folder = suite(tmp_path / "a", spec, KEEPING)
    done = command("run", "spec.yaml", "--output", "o", "--workers", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    expected = {seed: by_hand(seed, 12, 0.2) for seed in range(4)}
    db = sqlite3.connect(folder / "o" / "results.sqlite")
    ways = dict(
        db.execute(
            "SELECT optimizer, group_concat(DISTINCT ways.way) FROM run_cases "
            "JOIN trials USING (case_id) JOIN ways ON ways.id = trials.way GROUP BY optimizer"
        )
    )
    db.close()
    for name in PLACES:
        for way in ("alone", "shared"):
            optimizer = f"{name.lower()}_{way}"
            found = curves(folder / "o", optimizer)
            assert sorted(found) == [0, 1, 2, 3]
            assert (ways[optimizer] == "alone") == (way == "alone")
            for seed, blob in found.items():
                losses = np.frombuffer(blob, dtype="<f8")
                np.testing.assert_allclose(losses, expected[seed], rtol=1e-12)


def by_hand(seed: int, steps: int, lr: float) -> list[float]:
    """The losses of a trial that counts its own steps, in a plain loop."""
    objective = Quadratic2D()
    start = objective.init(torch.Generator().manual_seed(2 * seed))
    params = {name: value.double().requires_grad_() for name, value in start.items()}
    losses = [float(objective.loss(params, None).detach())]
    for step in range(1, steps + 1):
        grads = torch.autograd.grad(objective.loss(params, None), list(params.values()))
        with torch.no_grad():
            for p, g in zip(params.values(), grads, strict=True):
                p.sub_(lr / step**0.5 * g)
        losses.append(float(objective.loss(params, None).detach()))
    return losses
