"""A suite's parts: every planted defect is found, with its line, and what is sound is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import cli
from harness.commands import test_parts
from harness.conformance import records as part_records
from harness.conformance.records import PartFinding, PartReport
from harness.errors import BadInput
from harness.suite.shipped import SHIPPED_OBJECTIVES

ROOT = Path(__file__).resolve().parents[2]

# In these sources, a comment names the class to which a finding on its line belongs.
OPTIMIZERS = '''
import os
import random
import sys
import time

import numpy as np
import torch


class Sound(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.5):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for i, x in enumerate(group["params"]):
                if x.grad is not None:
                    self.move(group, i, x)
        return loss

    def move(self, group, i, x):
        state = self.state[x]
        state["v"] = group["momentum"] * state.get("v", torch.zeros_like(x)) + x.grad
        x -= group["lr"] * state["v"]


class Normed(Sound):
    @torch.no_grad()
    def step(self, closure=None):  # Normed
        super().step()

    def move(self, group, i, x):
        x -= group["lr"] * x.grad / (x.grad.norm() + 1e-3)


class Numpy(Sound):
    def step(self, closure=None):  # Numpy
        return super().step(closure)

    def move(self, group, i, x):
        x -= group["lr"] * x.grad * np.random.rand()


class Python(Sound):
    def step(self, closure=None):  # Python
        return super().step(closure)

    def move(self, group, i, x):
        x -= group["lr"] * x.grad * random.random()


class Clock(Sound):
    def step(self, closure=None):  # Clock
        return super().step(closure)

    def move(self, group, i, x):
        x -= group["lr"] * x.grad * (time.time_ns() % 1000)


class Shared(Sound):
    memory = {}

    def step(self, closure=None):  # Shared
        return super().step(closure)

    def move(self, group, i, x):
        self.memory[i] = 0.9 * self.memory.get(i, torch.zeros_like(x)) + x.grad
        x -= group["lr"] * self.memory[i]


class Reseeds(Sound):
    def step(self, closure=None):  # Reseeds
        torch.manual_seed(0)
        return super().step(closure)


class Torch(Sound):
    def step(self, closure=None):  # Torch
        return super().step(closure)

    def move(self, group, i, x):
        x -= group["lr"] * (x.grad + 0.1 * torch.randn_like(x))


class UselessNumpy(Sound):
    def step(self, closure=None):  # UselessNumpy
        np.random.rand()
        return super().step(closure)


class Outside(Sound):
    def step(self, closure=None):  # Outside
        return super().step(closure)

    def move(self, group, i, x):
        memory = self.__dict__.setdefault("memory", {})
        memory[x] = 0.9 * memory.get(x, torch.zeros_like(x)) + x.grad
        x -= group["lr"] * memory[x]


class Forgets(Sound):
    def step(self, closure=None):  # Forgets
        return super().step(closure)

    def load_state_dict(self, state):
        pass


class Counts(Sound):
    """A count of steps outside the state, as a warm-up has it."""

    count = 0

    def step(self, closure=None):  # Counts
        self.count += 1
        return super().step(closure)

    def move(self, group, i, x):
        x -= group["lr"] * x.grad / self.count


class Order(Sound):
    def step(self, closure=None):  # Order
        return super().step(closure)

    def move(self, group, i, x):
        x -= group["lr"] * x.grad / (1 + i)


class FirstRules(Sound):
    """The step size is the first parameter's, for all."""

    def step(self, closure=None):  # FirstRules
        return super().step(closure)

    def move(self, group, i, x):
        first = group["params"][0]
        x -= group["lr"] * x.grad * (1 if first.grad is None else first.grad.abs().max())


class Moves(Sound):
    @torch.no_grad()
    def step(self, closure=None):  # Moves
        for group in self.param_groups:
            for x in group["params"]:
                grad = torch.zeros_like(x) if x.grad is None else x.grad
                x -= group["lr"] * (grad + 0.1 * x)


class Needs(Sound):
    @torch.no_grad()
    def step(self, closure=None):  # Needs
        for group in self.param_groups:
            for x in group["params"]:
                x -= group["lr"] * x.grad.sign()


class Silent(Sound):
    def step(self, closure=None):  # Silent
        super().step(closure)


class Twice(Sound):
    def step(self, closure=None):  # Twice
        loss = super().step(closure)
        return None if loss is None else 2 * loss


class GradientsOff(Sound):
    @torch.no_grad()
    def step(self, closure=None):  # GradientsOff
        loss = None if closure is None else closure()
        super().step()
        return loss


class NoClosure(Sound):
    def step(self):  # NoClosure
        super().step()


class OwnRate(Sound):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.lr = lr

    def step(self, closure=None):  # OwnRate
        return super().step(closure)

    def move(self, group, i, x):
        x -= self.lr * x.grad


class OwnMomentum(Sound):
    """Looks at its group for the learning rate only."""

    def __init__(self, params, lr=0.1, momentum=0.5):
        super().__init__(params, lr, momentum)
        self.momentum = momentum

    def step(self, closure=None):  # OwnMomentum
        return super().step(closure)

    def move(self, group, i, x):
        super().move({**group, "momentum": self.momentum}, i, x)


class Listed(Sound):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.all = [x for group in self.param_groups for x in group["params"]]

    @torch.no_grad()
    def step(self, closure=None):  # Listed
        for x in self.all:
            if x.grad is not None:
                x -= self.param_groups[0]["lr"] * x.grad


class Decays(Sound):
    def step(self, closure=None):  # Decays
        for group in self.param_groups:
            group["lr"] *= 0.99
        return super().step(closure)


class StateInGroup(Sound):
    """Keeps what it adapts in its group, as Prodigy does; no argument of its constructor."""

    def __init__(self, params, lr=0.1):
        torch.optim.Optimizer.__init__(self, params, {"lr": lr, "momentum": 0.5, "d": 1.0})

    def step(self, closure=None):
        for group in self.param_groups:
            group["d"] *= 0.9
        return super().step(closure)

    def move(self, group, i, x):
        super().move(group, i, x)
        x -= 0.01 * group["d"] * x.grad


class SwallowsAll(StateInGroup):
    def __init__(self, params, lr=0.1, **unknown):
        super().__init__(params, lr)


class TensorRate(Sound):
    """Makes a tensor of its rate, so that a plain number beside it differs by rounding."""

    def __init__(self, params, lr=0.1):
        lr = torch.as_tensor(lr, dtype=torch.float32)
        torch.optim.Optimizer.__init__(self, params, {"lr": lr, "momentum": 0.5})


class Derived(Sound):
    """Makes a default of an argument, which a group's own value of that comes too late for."""

    def __init__(self, params, start=0.1):
        defaults = {"start": start, "lr": start, "momentum": 0.5}
        torch.optim.Optimizer.__init__(self, params, defaults)


class Still(Sound):
    def step(self, closure=None):  # Still
        return None


class Nan(Sound):
    def step(self, closure=None):  # Nan
        return super().step(closure)

    def move(self, group, i, x):
        x.fill_(float("nan"))


class Raises(Sound):
    def move(self, group, i, x):
        raise ValueError("no such thing")  # Raises


class Leaves(Sound):
    def move(self, group, i, x):
        sys.exit(3)  # Leaves


class Eats(Sound):
    def move(self, group, i, x):
        torch.ones(2**34)  # Eats


class Picky(Sound):
    def __init__(self, params, lr=0.1):
        if lr > 1:
            raise ValueError(f"lr must be 1 at most, got {lr}")
        super().__init__(params, lr)


class Dies(Sound):
    def step(self, closure=None):  # Dies
        os._exit(7)


class HangsOnLoad(Sound):
    def load_state_dict(self, state):
        while True:
            time.sleep(0.01)  # HangsOnLoad
'''

LONE = ("lanes", "note", "^trials run one at a time: .*global generator")
DRAWN = [
    ("order", "note", "not applicable: it draws random numbers"),
    ("lanes", "note", "^trials run one at a time: .*(global generator|random)"),
]
OWN = "^trials run side by side, with own optimizers: not op by op: "
FOUND_IN_OPTIMIZERS: dict[str, list[tuple[str, str, str]]] = {
    "Sound": [],
    "Normed": [
        ("closure", "note", "does not call the closure"),
        ("lanes", "note", "^trials run side by side, lane by lane: not op by op: .*vector_norm"),
    ],
    "Numpy": [
        ("random state", "note", "draws from numpy's global generator, which the harness seeds"),
        *DRAWN,
    ],
    "Python": [
        ("random state", "note", "draws from Python's random module, which the harness seeds"),
        *DRAWN,
    ],
    "Clock": [("deterministic", "wrong", "two runs from the same state differ")],
    "Shared": [("deterministic", "wrong", "is state kept outside the instance")],
    "Reseeds": [
        ("random state", "wrong", "seeds torch's global generator"),
        ("lanes", "note", f"{OWN}.*torch's global generator"),
    ],
    "Torch": [
        ("random state", "note", "draws from torch's global generator"),
        DRAWN[0],
        ("lanes", "note", f"{OWN}.*random numbers"),
    ],
    "UselessNumpy": [
        ("random state", "note", "draws from numpy's global generator, which the harness seeds"),
        *DRAWN,
    ],
    "Outside": [("state", "wrong", r"saved after 7 steps .* continues differently: '\w+' by")],
    "Forgets": [("state", "wrong", "'lr' is 0.05 when saved, 0.1 restored")],
    "Counts": [("state", "wrong", "state outside self.state and the groups is lost")],
    "Order": [("order", "wrong", "order of the parameters matters: .* away after step 1$")],
    "FirstRules": [
        ("order", "wrong", "order of the parameters matters: .* away after step 1$"),
        ("lanes", "note", "^trials run side by side, lane by lane: not op by op: step uses max"),
    ],
    "Moves": [
        ("missing gradient", "wrong", "moves a parameter that has no gradient"),
        ("closure", "note", "does not call the closure"),
    ],
    "Needs": [
        ("missing gradient", "note", "can't take .*NoneType"),
        ("closure", "note", "does not call the closure"),
    ],
    "Silent": [("closure", "wrong", "whose loss is .*, and returns nothing")],
    "Twice": [("closure", "wrong", r"whose loss is \d.*, and returns \d")],
    "GradientsOff": [("closure", "wrong", "gradients turned off; torch.enable_grad")],
    "NoClosure": [("closure", "note", "takes no closure: TypeError")],
    "OwnRate": [("groups", "wrong", "a group's own 'lr' is not used")],
    "OwnMomentum": [("groups", "wrong", "a group's own 'momentum' is not used")],
    "Listed": [
        ("closure", "note", "does not call the closure"),
        ("groups", "wrong", "after add_param_group, 'scale' doesn't move"),
    ],
    "Decays": [("hyperparameters", "note", "steps change 'lr' of their group from 0.1 to 0.08")],
    "StateInGroup": [],
    "SwallowsAll": [],
    "TensorRate": [],
    "Derived": [],
    "Still": [("steps", "wrong", "no parameter has moved after 12 steps")],
    "Nan": [("steps", "wrong", "parameters aren't finite after 12 steps")],
    "Raises": [("steps", "wrong", "raises ValueError: no such thing")],
    "Leaves": [("steps", "wrong", "raises SystemExit: 3")],
    "Eats": [("steps", "wrong", "raises RuntimeError: .*can't allocate memory")],
}
"""By class, all that is to be found but what is fine."""

OBJECTIVES = '''
import sys
import time

import numpy as np
import torch

from harness import Objective


class Sound(Objective):
    optimum = -1.0
    minimizers = ((3.0, -0.5, 2.0),)

    def init(self, generator):
        return {"x": torch.randn(2, generator=generator), "y": torch.randn((), generator=generator)}

    def loss(self, params, batch):  # Sound's loss
        x, y = params["x"], params["y"]
        return (x - torch.tensor([3.0, -0.5])).square().sum() + (y - 2).square() - 1


class Kinked(Sound):
    """The minimum is the tip of a cone, where no slope is defined; autograd says 0."""

    optimum = 0.0
    minimizers = ((0.0, 0.0, 0.0),)

    def loss(self, params, batch):
        return params["x"].abs().sum() + params["y"].abs()


class _TwiceAsSteep(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.square().sum()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 4 * x * grad


class WrongGradient(Sound):
    optimum = 0.0
    minimizers = ((0.0, 0.0, 0.0),)

    def loss(self, params, batch):  # WrongGradient
        return _TwiceAsSteep.apply(params["x"]) + params["y"].square()


class CutOff(Sound):
    """A term that counts, and has no gradient."""

    optimum = 0.0
    minimizers = ((0.0, 0.0, 0.0),)

    def loss(self, params, batch):  # CutOff
        return params["x"].square().sum() + params["y"].square() * (1 + params["y"].detach() ** 2)


class WrongOptimum(Sound):  # WrongOptimum
    optimum = -0.99


class WrongPoint(Sound):  # WrongPoint
    minimizers = ((3.0, -0.5, 2.0), (3.0, -0.5, 2.1))


class WrongCount(Sound):  # WrongCount
    minimizers = ((3.0, -0.5),)


class Saddle(Sound):  # Saddle
    optimum = 0.0
    minimizers = ((0.0, 0.0, 0.0),)

    def loss(self, params, batch):
        return params["x"].square().sum() - params["y"].square()


class BelowOptimum(Sound):  # BelowOptimum
    optimum = 100.0
    minimizers = ()


class NoGradientAtMinimum(Sound):  # NoGradientAtMinimum
    optimum = 0.0
    minimizers = ((0.0, 0.0, 0.0),)

    def loss(self, params, batch):
        return (params["x"].square().sum() + params["y"].square()).sqrt()


class Sloped(Sound):  # Sloped
    """The minimum is a kink at which autograd gives the slope of one side."""

    optimum = 0.0
    minimizers = ((0.0, 0.0, 0.0),)

    def loss(self, params, batch):
        y = params["y"]
        return params["x"].square().sum() + torch.where(y < 0, -y, 3 * y)


class Tilted(Objective):  # Tilted
    """Of a thousand directions, one leads down a little; nobody meets it by chance."""

    optimum = 0.0
    minimizers = ((0.0,) * 1000,)

    def init(self, generator):
        return {"x": 1e-3 * torch.randn(1000, generator=generator)}

    def loss(self, params, batch):
        x = params["x"]
        return x[1:].square().sum() + 1e-3 * x[0] + 1e-3 * x[0] ** 2


class OnlyOptimum(Sound):  # OnlyOptimum
    minimizers = ()


class OnlyPoint(Sound):  # OnlyPoint
    optimum = None


class GlobalInit(Sound):
    def init(self, generator):  # GlobalInit
        return {"x": torch.randn(2), "y": torch.zeros(())}


class ReseedsInit(Sound):
    def init(self, generator):  # ReseedsInit
        torch.manual_seed(0)
        return super().init(generator)


class SameStart(Sound):
    def init(self, generator):  # SameStart
        return {"x": torch.zeros(2), "y": torch.ones(())}


class NumpyLoss(Sound):
    optimum, minimizers = None, ()

    def loss(self, params, batch):  # NumpyLoss
        return super().loss(params, batch) * (1 + np.random.rand())


class Counting(Sound):
    calls = 0

    def loss(self, params, batch):  # Counting
        self.calls += 1
        return super().loss(params, batch) * self.calls


class UselessNumpy(Sound):
    def loss(self, params, batch):  # UselessNumpy
        np.random.rand()
        return super().loss(params, batch)


class Dropout(Sound):
    optimum, minimizers = None, ()

    def loss(self, params, batch):  # Dropout
        x = torch.nn.functional.dropout(params["x"], 0.5)
        return super().loss({"x": x, "y": params["y"]}, batch)

    def evaluate(self, params, batch):
        return super().loss(params, batch)


class Shakes(Sound):
    optimum, minimizers = None, ()

    def loss(self, params, batch):  # Shakes
        return super().loss(params, batch) * np.random.uniform(0.9, 1.1)

    def evaluate(self, params, batch):
        return super().loss(params, batch)


class Branches(Sound):
    def loss(self, params, batch):  # Branches
        if params["y"] > 100:
            return params["y"]
        return super().loss(params, batch)


class Vector(Sound):
    def loss(self, params, batch):  # Vector
        return params["x"].square()


class Sparse(Objective):
    """An embedding, whose gradient has the rows that were seen."""

    def __init__(self):
        self.data = (torch.arange(12) % 5, torch.arange(12.0))

    def init(self, generator):
        return {"t": torch.randn(5, 1, generator=generator)}

    def loss(self, params, batch):  # Sparse
        rows, labels = batch
        table = torch.nn.functional.embedding(rows, params["t"], sparse=True)
        return (table[:, 0] - labels).square().mean()


class LastRow(Sparse):
    """Can't take a batch of one row, as batch norm can't: of 12 rows in batches of 11, one is."""

    def loss(self, params, batch):  # LastRow
        rows, labels = batch
        if len(rows) == 1:
            raise ValueError("expected more than 1 row")
        return (params["t"][rows, 0] - labels).square().mean()


class WritesRows(Sparse):
    def loss(self, params, batch):  # WritesRows
        rows, labels = batch
        return (params["t"][rows, 0] - labels.mul_(0.5)).square().mean()


class Detached(Sound):
    def loss(self, params, batch):  # Detached
        return super().loss(params, batch).detach()


class Infinite(Sound):
    def loss(self, params, batch):  # Infinite
        return params["x"].sum() / 0


class Unused(Sound):
    optimum, minimizers = None, ()

    def loss(self, params, batch):  # Unused
        return params["x"].square().sum()


class Raises(Sound):
    def loss(self, params, batch):
        return params["z"]  # Raises


class Leaves(Sound):
    def init(self, generator):
        sys.exit()  # Leaves


class Fit(Objective):
    def __init__(self, dataset):
        self.data = (torch.from_numpy(dataset.features), torch.from_numpy(dataset.labels))

    def init(self, generator):
        return {"w": torch.randn(2, generator=generator)}

    def loss(self, params, batch):
        features, labels = batch
        return (features.to(params["w"]) @ params["w"] - labels).square().mean()


class Hangs(Sound):
    def loss(self, params, batch):
        while True:
            time.sleep(0.01)  # Hangs
'''

FOUND_IN_OBJECTIVES: dict[str, list[tuple[str, str, str]]] = {
    "Sound": [],
    "Kinked": [],
    "WrongGradient": [("gradient", "wrong", r"along x\[0\] is .*, and the loss rises by")],
    "CutOff": [("gradient", "wrong", r"along y is .*, and the loss rises by")],
    "WrongOptimum": [
        ("minimum", "wrong", r"declares optimum -0.99, and at minimizer the .* -1.0$")
    ],
    "WrongPoint": [("minimum", "wrong", "optimum -1.0, and at minimizer 2 of 2 the loss is -0.99")],
    "WrongCount": [("minimum", "wrong", "has 2 numbers, there are 3 parameters")],
    "Saddle": [("minimum", "wrong", r"the loss is 0.0, and nearby, at \(.*\), it is -\d")],
    "BelowOptimum": [("minimum", "wrong", "declares optimum 100.0, but a start has the loss")],
    "NoGradientAtMinimum": [("minimum", "wrong", "the gradient isn't finite")],
    "Sloped": [("minimum", "note", "the gradient has norm 3, but no nearby point is lower")],
    "Tilted": [("minimum", "wrong", "the gradient has norm 0.001, and the loss falls along")],
    "OnlyOptimum": [("minimum", "note", "an optimum but no minimizers")],
    "OnlyPoint": [("minimum", "note", "minimizers but no optimum")],
    "GlobalInit": [("seeded", "wrong", r"seed 0 does not always start at the same point \('x'\)")],
    "ReseedsInit": [("random state", "wrong", "init seeds torch's global generator"), LONE],
    "SameStart": [("seeded", "note", "every seed starts at the same point, and every step uses")],
    "NumpyLoss": [
        ("random state", "wrong", "evaluate draws from numpy's global generator"),
        LONE,
    ],
    "Counting": [("repeatable", "wrong", "loss gives .* and then")],
    "UselessNumpy": [("random state", "wrong", "evaluate draws from numpy's global"), LONE],
    "Dropout": [],
    "Shakes": [
        ("random state", "note", "loss draws from numpy's global generator, which the harness"),
        ("lanes", "note", "one at a time: .*numpy's global generator"),
    ],
    "Branches": [("lanes", "note", "^trials run one at a time: .*what it does depends on values")],
    "Vector": [("evaluates", "wrong", r"loss gives a tensor of shape \(2,\)")],
    "Sparse": [("lanes", "note", "its gradients are sparse")],
    "LastRow": [
        (
            "evaluates",
            "wrong",
            "last batch \\(1 row\\) fails: ValueError: .*'drop_last: true'",
        )
    ],
    "WritesRows": [("evaluates", "note", "writes into the rows that it is given")],
    "Detached": [("evaluates", "wrong", "without a gradient")],
    "Infinite": [("evaluates", "wrong", "loss is -?inf at the start of seed 0")],
    "Unused": [("evaluates", "note", "doesn't depend on 'y'")],
    "Raises": [("evaluates", "wrong", "raises KeyError: 'z'")],
    "Leaves": [("evaluates", "wrong", "raises SystemExit")],
}

WITH_ROWS = ("Sparse", "LastRow", "WritesRows")

DATASETS = """
import numpy as np

from harness import Dataset

FEATURES = np.random.default_rng(0).normal(size=(20, 2))


def dataset(features=FEATURES, labels=FEATURES[:, 0]):
    return Dataset(features, labels, ("a", "b"), "c", "")


def sound():
    return dataset()


def unseeded():  # unseeded
    return dataset(np.random.default_rng().normal(size=(20, 2)))


def unseeded_labels():  # unseeded_labels
    return dataset(labels=np.random.rand(20))


def reseeds():  # reseeds
    np.random.seed(0)
    return dataset(np.random.normal(size=(20, 2)))


def constant():  # constant
    return dataset(FEATURES * [1, 0])


def single():
    return dataset(FEATURES.astype(np.float32))


def half():  # half
    return dataset(FEATURES.astype(np.float16))


def tokens():
    return Dataset(np.arange(40).reshape(20, 2), np.zeros((20, 2), int))


def parts():
    return {"train": dataset(), "test": dataset()}


def constant_part():  # constant_part
    return {"train": dataset(), "test": dataset(FEATURES * [1, 0])}


def no_train():  # no_train
    return {"test": dataset()}


def unlike_parts():  # unlike_parts
    return {"train": dataset(), "test": tokens()}


def wrong_part():  # wrong_part
    return {"train": dataset(), "test": FEATURES}


def infinite():
    return Dataset(FEATURES / 0, FEATURES[:, 0], ("a", "b"), "c", "")  # infinite


def table():  # table
    return FEATURES
"""

FOUND_IN_DATASETS: dict[str, list[tuple[str, str, str]]] = {
    "sound": [],
    "unseeded": [("repeatable", "wrong", "features change when it is loaded again")],
    "unseeded_labels": [("repeatable", "wrong", "labels change when it is loaded again")],
    "reseeds": [("random state", "note", "numpy's global generator; use numpy.random.default_rng")],
    "constant": [("columns", "note", "'b' is the same in every row")],
    "half": [("columns", "wrong", "features are float16, expected float64, float32, or whole")],
    "single": [],
    "tokens": [],
    "parts": [],
    "constant_part": [("columns", "note", "test: 'b' is the same in every row")],
    "no_train": [("loads", "wrong", "raises ValueError: there is no part 'train'")],
    "unlike_parts": [("loads", "wrong", "features of test are rows of shape \\(2,\\) and int64")],
    "wrong_part": [("loads", "wrong", "gives a ndarray as test, expected a harness.Dataset")],
    "infinite": [("loads", "wrong", "raises ValueError: features and labels must be finite")],
    "table": [("loads", "wrong", "gives a ndarray, expected a harness.Dataset")],
}


def written(folder: Path, spec: str) -> Path:
    sources = {"optimizers": OPTIMIZERS, "objectives": OBJECTIVES, "datasets": DATASETS}
    for section, text in sources.items():
        (folder / section).mkdir()
        (folder / section / "all.py").write_text(text)
    (folder / "spec.yaml").write_text(spec)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fits = "".join(
        f"  of_{name}: {{class: Fit, dataset: {name}, steps: 3}}\n" for name in FOUND_IN_DATASETS
    )
    return written(
        tmp_path_factory.mktemp("planted suite"),
        "suite: planted\nlimits: {memory_gib: 2}\nobjectives:\n"
        + "".join(
            f"  o_{name}: {{class: {name}, steps: 3{', batch_size: 11' * (name in WITH_ROWS)}}}\n"
            for name in FOUND_IN_OBJECTIVES
        )
        + fits
        + "optimizers:\n"
        + "".join(f"  {name}: {{class: {name}}}\n" for name in FOUND_IN_OPTIMIZERS)
        + "  picky: {class: Picky, hyperparameters: {lr: 3}}\n",
    )


@pytest.fixture(scope="module")
def report(folder: Path) -> PartReport:
    return test_parts.test_suite(folder, workers=2)


def unusual(report: PartReport, section: str, part: str) -> list[PartFinding]:
    found = [f for f in report.findings if (f.section, f.part) == (section, part)]
    assert found
    return [finding for finding in found if finding.kind != "fine"]


def line_of(name: str, source: str) -> int:
    (number,) = [
        number for number, line in enumerate(source.splitlines(), 1) if line.endswith(f"  # {name}")
    ]
    return number


def assert_found(
    found: list[PartFinding], expected: list[tuple[str, str, str]], place: Path, source: str
) -> None:
    assert [(f.test, f.kind) for f in found] == [(test, kind) for test, kind, _ in expected]
    for finding, (_, _, pattern) in zip(found, expected, strict=True):
        assert re.search(pattern, finding.message), finding.message
        name = finding.part.removeprefix("o_")
        # How an objective's trials run is said of its loss, which may be inherited.
        inherits = finding.test == "lanes" and name == "ReseedsInit"
        marked = name if not inherits else "Sound's loss"
        assert finding.place == f"{place}:{line_of(marked, source)}"


@pytest.mark.parametrize("name", FOUND_IN_OPTIMIZERS)
def test_of_an_optimizer_just_what_was_planted_is_found(
    report: PartReport, folder: Path, name: str
) -> None:
    found, file = unusual(report, "optimizers", name), folder / "optimizers" / "all.py"
    assert_found(found, FOUND_IN_OPTIMIZERS[name], file, OPTIMIZERS)


@pytest.mark.parametrize("name", FOUND_IN_OBJECTIVES)
def test_of_an_objective_just_what_was_planted_is_found(
    report: PartReport, folder: Path, name: str
) -> None:
    found, file = unusual(report, "objectives", f"o_{name}"), folder / "objectives" / "all.py"
    assert_found(found, FOUND_IN_OBJECTIVES[name], file, OBJECTIVES)


@pytest.mark.parametrize("name", FOUND_IN_DATASETS)
def test_of_a_dataset_just_what_was_planted_is_found(
    report: PartReport, folder: Path, name: str
) -> None:
    found, file = unusual(report, "datasets", name), folder / "datasets" / "all.py"
    assert_found(found, FOUND_IN_DATASETS[name], file, DATASETS)


def test_what_the_spec_has_wrong_is_told_with_its_line_and_column(
    report: PartReport, folder: Path
) -> None:
    (found,) = unusual(report, "optimizers", "picky")
    lines = (folder / "spec.yaml").read_text().splitlines()
    assert (found.test, found.kind) == ("loads", "wrong")
    assert "lr must be 1 at most, got 3" in found.message
    assert found.place == f"{folder / 'spec.yaml'}:{len(lines)}:{lines[-1].index('3') + 1}"


def test_each_part_is_told_of_once_in_the_order_of_the_spec(report: PartReport) -> None:
    parts = list(dict.fromkeys((f.section, f.part) for f in report.findings))
    optimizers = [part for section, part in parts if section == "optimizers"]
    assert optimizers == [*FOUND_IN_OPTIMIZERS, "picky"]
    datasets = [part for section, part in parts if section == "datasets"]
    assert datasets == list(FOUND_IN_DATASETS)
    keys = [(f.section, f.part, f.test) for f in report.findings]
    assert len(keys) == len(set(keys))


def test_a_part_that_hangs_or_dies_costs_its_own_findings_only(tmp_path: Path) -> None:
    spec = (
        "suite: hard\nobjectives: {Sound: {steps: 3}, o_Hangs: {class: Hangs, steps: 3}}\n"
        "optimizers:\n"
        + "".join(f"  {n}: {{class: {n}}}\n" for n in ("Dies", "HangsOnLoad", "Sound"))
    )
    folder = written(tmp_path, spec)
    report = test_parts.test_suite(folder / "spec.yaml", seconds=6, workers=2)
    optimizers, objectives = folder / "optimizers" / "all.py", folder / "objectives" / "all.py"
    found: dict[tuple[str, str], PartFinding] = {(f.section, f.part): f for f in report.wrong}
    assert len(found) == len(report.wrong) == 3

    dies = found["optimizers", "Dies"]
    assert dies.message == "the process exited with status 7"
    for section, part, test, file, source in (
        ("optimizers", "HangsOnLoad", "state", optimizers, OPTIMIZERS),
        ("objectives", "o_Hangs", "evaluates", objectives, OBJECTIVES),
    ):
        hangs = found[section, part]
        assert (hangs.test, hangs.message) == (test, "does not finish (not finished after 6 s)")
        line = line_of(part.removeprefix("o_"), source)
        assert hangs.place == f"{file}:{line}"
    fine = [f.test for f in report.findings if f.part == "HangsOnLoad" and f.kind == "fine"]
    assert fine[-1] == "lanes"  # the tests after the one that hung
    assert len(fine) == 10
    sound = [f.kind for f in report.findings if f.part == "Sound"]
    assert sound == ["fine"] * (11 + 8)


def test_optimizers_of_torch_and_objectives_that_ship_are_sound(tmp_path: Path) -> None:
    """With what doesn't apply to them said as that."""
    on_data = {
        "linear_regression": "airfoil",
        "logistic_regression": "spirals",
        "multilayer_perceptron": "spirals",
        "convolutional_network": "digits, batch_size: 20",
        "causal_transformer": "alice, batch_size: 4, arguments: {width: 4, heads: 1}",
    }
    (tmp_path / "optimizers").symlink_to(ROOT / "optimizers")
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    names = (
        *("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon"),
        *("NAdam", "RAdam", "RMSprop", "Rprop", "SGD", "SparseAdam"),
    )
    scratch = {"SGD": "{lr: 0.1}", "Momentum": "{lr: 0.1, momentum: 0.9}", "Adadelta": "{}"}
    scratch |= dict.fromkeys(("AdaGrad", "RMSProp", "Adam", "Lion"), "{lr: 0.1}")
    few = {"LBFGS": "{max_iter: 4}"}  # of 20, which take their time
    objectives = "".join(
        f"  {name}: {{steps: 3{f', dataset: {on_data[name]}' if name in on_data else ''}}}\n"
        for name in SHIPPED_OBJECTIVES
    )
    objectives += (
        "  on_signals: {class: convolutional_network, dataset: mnist1d, batch_size: 20, steps: 3}\n"
    )
    (tmp_path / "spec.yaml").write_text(
        f"suite: shipped\nobjectives:\n{objectives}optimizers:\n"
        + "".join(
            f"  torch_{name}: {{class: 'torch.optim:{name}', "
            f"hyperparameters: {few.get(name, '{}')}}}\n"
            for name in names
        )
        + "".join(f"  {n}: {{class: {n}, hyperparameters: {h}}}\n" for n, h in scratch.items())
    )
    report = test_parts.test_suite(tmp_path, workers=2)
    assert report.untested == ()
    assert [str(finding) for finding in report.wrong] == []
    notes = {
        (f.part, f.test): f.message
        for f in report.findings
        if f.kind == "note" and f.section == "optimizers"
    }
    alone, in_vmap = "trials run one at a time: ", "trials run side by side, lane by lane: "
    own = "trials run side by side, with own optimizers: "
    for (part, test), beginning in {
        ("torch_Adafactor", "lanes"): own,
        ("torch_LBFGS", "groups"): "not applicable: it takes one group only: ValueError: LBFGS",
        ("torch_LBFGS", "lanes"): alone,
        ("torch_Muon", "steps"): "takes matrices only; ",
        ("torch_Muon", "lanes"): in_vmap,
        ("torch_SparseAdam", "steps"): "takes sparse gradients only; ",
        ("torch_SparseAdam", "lanes"): "not applicable: sparse gradients",
    }.items():
        assert notes.pop((part, test)).startswith(beginning)
    assert notes == {}
    others = [f for f in report.findings if f.kind == "note" and f.section == "objectives"]
    assert {f.test for f in others} == {"seeded", "minimum"}
    # Its lowest point is at the edge of its domain.
    assert {f.part for f in others if f.test == "minimum"} == {"eggholder"}
    assert all(f.place for f in report.findings)
    lbfgs = next(f for f in report.findings if f.part == "torch_LBFGS")
    assert re.fullmatch(r"(.*/)?torch/optim/lbfgs\.py:\d+|.*spec\.yaml:\d+:\d+", lbfgs.place)


def test_a_folder_means_all_its_specs_and_each_part_once(tmp_path: Path) -> None:
    """Of several settings, those are tested that differ by more than the size of numbers."""
    folder = written(
        tmp_path,
        "suite: one\nobjectives: {Sound: {steps: 3}}\noptimizers:\n"
        "  sgd: {class: 'torch.optim:SGD', hyperparameters: {lr: [0.1, 0.2], momentum: [0, 0.9]}}\n"
        "  searched: {class: Sound, search: {lr: {log_uniform: [0.01, 1]}}}\n"
        "tuning: {trials: 3}\n",
    )
    (folder / "two.yml").write_text(
        "suite: two\n"
        "objectives: {again: {class: Sound, steps: 3}, Sound: {steps: 4}}\noptimizers:\n"
        "  needs: {class: Needs}\n  again: {class: Sound, hyperparameters: {lr: 2}}\n"
    )
    (folder / "compose.yaml").write_text("services: {web: {image: !reset x}}\n")
    (folder / ".hidden.yaml").write_text("suite: [")
    (folder / "optimizers" / "spare.py").write_text("class Spare: ...\n")
    report = test_parts.test_suite(folder, workers=1)
    parts = list(dict.fromkeys((f.section, f.part) for f in report.findings))
    assert parts == [
        ("optimizers", "sgd (lr=0.1, momentum=0)"),
        ("optimizers", "sgd (lr=0.1, momentum=0.9)"),
        ("optimizers", "searched"),
        ("optimizers", "needs"),
        ("objectives", "Sound of spec.yaml"),
        ("objectives", "Sound of two.yml"),
    ]
    assert report.wrong == ()
    assert report.exit_status == 0
    untested = (folder / "optimizers" / "spare.py", folder / "datasets" / "all.py")
    assert report.untested == tuple(map(str, untested))
    assert "Not tested" in part_records.terminal(report)


def test_bad_input_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no spec \(\*.yaml\) in this folder"):
        test_parts.test_suite(tmp_path)
    (tmp_path / "compose.yaml").write_text("services: {web: !reset x}\n")
    with pytest.raises(BadInput, match=r"no spec \(\*.yaml\) in this folder"):
        test_parts.test_suite(tmp_path)
    (tmp_path / "broken.yaml").write_text("suite: s\nobjectives: [\n")
    with pytest.raises(BadInput, match=r"broken.yaml:\d+"):
        test_parts.test_suite(tmp_path)
    (tmp_path / "broken.yaml").unlink()
    with pytest.raises(BadInput, match="no such file"):
        test_parts.test_suite(tmp_path / "spec.yaml")
    spec = "suite: s\nobjectives: {Sound: {step: 3}}\noptimizers: {Sond: {}}\n"
    written(tmp_path, spec)
    with pytest.raises(BadInput) as raised:
        test_parts.test_suite(tmp_path)
    assert {(p.line, p.key) for p in raised.value.problems} >= {(2, "objectives.Sound.step")}


def test_the_command_says_all_and_its_status_whether_something_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "objectives/all.py:7"
    findings = (
        PartFinding("optimizers", "mine", "loads", "fine", "", ""),
        PartFinding("optimizers", "mine", "steps", "fine", "", ""),
        PartFinding("objectives", "bowl", "minimum", "wrong", "it is \x1b[2J none", place),
        PartFinding("objectives", "bowl", "seeded", "note", "word " * 20, place),
    )
    asked: list[tuple[Path, float, int | None]] = []

    def found(count: int) -> None:
        def test(suite: Path, seconds: float, workers: int | None, progress: object) -> PartReport:
            del progress
            asked.append((suite, seconds, workers))
            return PartReport(findings[:count])

        monkeypatch.setattr(test_parts, "test_suite", test)

    runner = CliRunner()
    found(4)
    result = runner.invoke(cli.main, ["test", str(tmp_path), "--seconds", "5", "--workers", "3"])
    assert asked == [(tmp_path, 5.0, 3)]
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "optimizer mine",
        "  fine   loads, steps",
        "",
        "objective bowl",
        f"  note   seeded: {'word ' * 11}word",
        f"         {'word ' * 7}word",
        f"         {place}",
        r"  wrong  minimum: it is \x1b[2J none",
        f"         {place}",
        "",
        "2 parts: 2 fine, 1 note, 1 wrong.",
    ]
    assert str(findings[2]).startswith(f"{place}: objective bowl: minimum: it is")
    found(2)
    assert runner.invoke(cli.main, ["test"]).exit_code == 0
    assert asked[-1] == (Path(), test_parts.TEST_SECONDS, None)


def test_a_spec_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["test", str(tmp_path / "other.yaml")])
    assert result.exit_code == 2
    assert "other.yaml" in result.output
