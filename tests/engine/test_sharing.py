"""Trials that share a run are the trials that they would be alone, whatever their optimizer does.

Every optimizer below is run as the harness would run it, at a few lanes and at many, and compared
with plain PyTorch loops written here, which know nothing of the engine.
"""

# ruff: noqa: ARG002, ARG005 - what is overridden gets all there is, and needs little of it

from __future__ import annotations

import copy
import functools
import importlib.util
import inspect
import itertools
import json
import math
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import Call, make_plan, make_workload
from numpy.typing import NDArray
from torch import nn

from harness.engine import lane_operators, sharing, trials
from harness.engine.lanes import Lane
from harness.engine.memory import lane_bytes
from harness.engine.sharing import decide, difference
from harness.engine.training_loop import train
from harness.engine.validate import load_optimizer
from harness.engine.workload import Workload
from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.quadratic_2d import Quadratic2D
from harness.plan.model import Case
from harness.results import Chunk, SharedRunComparison, TrialResult
from harness.spec.validation import load
from harness.suite.locate import locate

pytestmark = pytest.mark.usefixtures("one_thread", "shared_though_slower")

ROOT = Path(__file__).resolve().parents[2]
STEPS = 60
ROWS, BATCH = 60, 6
ROUNDING = {torch.float32: 2e-5, torch.float64: 1e-9}
SEEDS = (3, pytest.param(32, marks=pytest.mark.exhaustive))
SETTINGS: list[dict[str, Any]] = [{"lr": 0.02}, {"lr": 0.05}]
Tensors = list[torch.Tensor]
Closure = Callable[[], torch.Tensor]


# What is minimised ------------------------------------------------------------------------------


class Regression(Objective):
    """A matrix, a vector and a number to be found, from random starts, with noise in the data."""

    def __init__(self) -> None:
        numbers = np.random.default_rng(0)
        self.data = (
            torch.from_numpy(numbers.normal(size=(ROWS, 4))),
            torch.from_numpy(numbers.normal(size=(ROWS, 3))),
        )

    def init(self, generator: torch.Generator) -> Parameters:
        draw = {"generator": generator, "dtype": torch.float64}
        return {
            "weight": torch.randn(4, 3, **draw),  # type: ignore[call-overload]
            "bias": torch.randn(3, **draw),  # type: ignore[call-overload]
            "scale": 1 + 0.1 * torch.randn((), **draw),  # type: ignore[call-overload]
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        x, y = batch
        residuals: torch.Tensor = params["scale"] * (x @ params["weight"]) + params["bias"] - y
        return residuals.square().mean()


class MatrixRegression(Regression):
    """The same with the matrix alone: Muon takes nothing else."""

    def init(self, generator: torch.Generator) -> Parameters:
        return {"weight": torch.randn(4, 3, generator=generator, dtype=torch.float64)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        x, y = batch
        residuals: torch.Tensor = x @ params["weight"] - y
        return residuals.square().mean()


class BadRow(Regression):
    """The same, but that one row in sixty has a gradient that is NaN, and a finite loss."""

    def __init__(self) -> None:
        super().__init__()
        good = torch.ones(ROWS, dtype=torch.float64)
        good[17] = 0
        self.data = (*(self.data or ()), good)

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        *rows, good = batch
        # The derivative of a root is infinite at 0, and 0 times that is NaN.
        nothing: torch.Tensor = 0 * (good.prod() * params["weight"].square().sum()).sqrt()
        return super().loss(params, tuple(rows)) + nothing


def batched(
    objective: Objective, dtype: torch.dtype = torch.float64, steps: int = STEPS
) -> Workload:
    """A workload in batches, where there are data."""
    return make_workload(
        objective,
        dtype=dtype,
        steps=steps,
        steps_per_epoch=ROWS // BATCH if objective.data else 1,
        batch_size=BATCH,
        divergence_factor=1e6,
    )


# The oracle -------------------------------------------------------------------------------------


def by_hand(
    workload: Workload,
    factory: Any,
    setting: dict[str, Any],
    seed: int,
    *,
    create_graph: bool = False,
) -> NDArray[np.float64]:
    """The loss over all data before and after each step, by a loop as a tutorial has it."""
    objective, dtype = workload.objective, workload.dtype
    torch.manual_seed(2**31 + seed)
    np.random.seed(3 * 2**30 + seed)
    random.seed(f"trial {seed}")
    if hasattr(factory, "on_class"):  # as in a process of its own
        factory.on_class = copy.deepcopy(factory.at_first)
    drawn = objective.init(torch.Generator().manual_seed(2 * seed))
    params = {name: value.to(dtype).requires_grad_() for name, value in drawn.items()}
    optimizer = factory(list(params.values()), **setting)
    orders = torch.Generator().manual_seed(2 * seed + 1)
    queue: list[torch.Tensor] = []
    losses = []

    def record() -> None:
        if hasattr(optimizer, "eval"):
            optimizer.eval()
        with torch.no_grad():
            losses.append(float(objective.evaluate(params, workload.data)))

    record()
    for _ in range(workload.steps):
        if hasattr(optimizer, "train"):
            optimizer.train()
        batch = workload.data
        if workload.batch_size and workload.data:
            if not queue:
                order = torch.randperm(len(workload.data[0]), generator=orders)
                queue = list(order.split(workload.batch_size))
            rows = queue.pop(0)
            batch = tuple(tensor[rows] for tensor in workload.data)

        def closure(batch: Batch = batch) -> torch.Tensor:
            optimizer.zero_grad()
            with torch.enable_grad():
                loss = objective.loss(params, batch)
                loss.backward(create_graph=create_graph)
            return loss.detach()

        closure()
        if "closure" in inspect.signature(optimizer.step).parameters:
            optimizer.step(closure)
        else:
            optimizer.step()
        record()
    return np.array(losses)


# As the harness runs trials ---------------------------------------------------------------------


@functools.cache
def a_case() -> Case:
    """Any; what a test needs of it is replaced."""
    return make_plan(load(ROOT / "benchmarks.yaml")).cases[0]


def run(
    workload: Workload,
    factory: Any,
    settings: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    *,
    create_graph: bool = False,
) -> tuple[dict[tuple[int, int], TrialResult], list[SharedRunComparison]]:
    """Every setting with every seed, as the quality pass would run them.

    Returns:
        Results by setting and seed, and the comparisons with trials alone.
    """
    cases = [
        replace(a_case(), hyperparameters=setting, key=str(i), create_graph=create_graph)
        for i, setting in enumerate(settings)
    ]
    found = decide(workload, factory, settings, seeds, create_graph=create_graph)
    results: dict[tuple[int, int], TrialResult] = {}
    comparisons: list[SharedRunComparison] = []
    reason = found.reason
    if found.way not in ("alone", "apart"):
        chunk = Chunk(tuple(cases), tuple(seeds))
        try:
            together = trials.run_vectorized(chunk, workload, factory, found, nothing, ignore)
        except Exception as error:
            reason = f"side by side: {error}"
        else:
            if together.comparison is not None:
                comparisons.append(together.comparison)
            for result in together.results:
                results[int(result.case_key), result.seed] = result
            if together.results:
                return results, comparisons
            reason = together.refusal
            if together.apart:
                found = replace(found, way="apart")
    if found.way == "apart":
        for i, setting in enumerate(settings):
            own, compared = run(workload, factory, [setting], seeds, create_graph=create_graph)
            results |= {(i, seed): result for (_, seed), result in own.items()}
            comparisons += compared
        return results, comparisons
    for i, case in enumerate(cases):
        for seed in seeds:
            results[i, seed] = trials.run_single(case, seed, workload, factory, reason, ignore)
    return results, comparisons


def ignore(step: int) -> None:
    del step


def nothing() -> None:
    """No clock to start."""


def assert_equals_plain_loops(
    workload: Workload,
    factory: Any,
    results: dict[tuple[int, int], TrialResult],
    settings: Sequence[dict[str, Any]],
    *,
    create_graph: bool = False,
    rounding: float | None = None,
) -> None:
    """Compare the first, the last and some between of each setting's seeds."""
    for i, setting in enumerate(settings):
        seeds = [seed for which, seed in results if which == i]
        for seed in {seeds[0], seeds[len(seeds) // 2], seeds[-1]}:
            expected = by_hand(workload, factory, setting, seed, create_graph=create_graph)
            found = results[i, seed]
            assert found.status == "ok", found.reason
            np.testing.assert_allclose(
                found.losses,
                expected,
                rtol=rounding or ROUNDING[workload.dtype],
                err_msg=f"{setting}, seed {seed}, {found.way}: {found.way_reason}",
            )


# Optimizers -------------------------------------------------------------------------------------


class Descent(torch.optim.Optimizer):
    """Base of the optimizers below: gradient descent, with something to do with each gradient.

    Attributes:
        taken: Steps begun.
    """

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, {"lr": lr})
        self.taken = 0

    @property
    def params(self) -> Tensors:
        return [p for group in self.param_groups for p in group["params"]]

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        """What is subtracted, times the learning rate."""
        del p
        return gradient

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        self.taken += 1
        self.before(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(self.change(p, p.grad), alpha=group["lr"])

    def before(self, closure: Closure | None) -> None:
        """Be called at the beginning of each step."""


class ClipsByTheNorm(Descent):
    def before(self, closure: Closure | None) -> None:
        nn.utils.clip_grad_norm_(self.params, 2.0)


class ClipsByTheNormLate(Descent):
    def before(self, closure: Closure | None) -> None:
        if self.taken > 40:
            nn.utils.clip_grad_norm_(self.params, 0.3)


class ClipsByOneTensorsNorm(Descent):
    """Changes something only where some gradient is large: no look at a start shows it."""

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        norm = gradient.norm()
        return torch.where(norm > 2, gradient * (2 / norm), gradient)


class Normalises(Descent):
    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient / gradient.norm()


class NormalisesLate(Descent):
    """Uses an operator that mixes lanes from its fortieth step on."""

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient if self.taken < 40 else gradient / gradient.norm()


class RollsRows(Descent):
    """Takes the first dimension for its own."""

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient.roll(1, 0) if p.dim() else gradient


class LeavesStepsOut(Descent):
    """As a scaler of gradients does."""

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        if all(bool(torch.isfinite(p.grad).all()) for p in self.params if p.grad is not None):
            super().step(closure)


class LeavesStepsOutWithoutABranch(Descent):
    def before(self, closure: Closure | None) -> None:
        self.bad: Any = sum(p.grad.isnan().sum() for p in self.params if p.grad is not None) > 0

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return torch.where(self.bad, torch.zeros_like(gradient), gradient)


class HalvesOnPlateau(Descent):
    best = math.inf
    factor = 1.0
    bad = 0

    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        loss = float(closure())
        self.bad = 0 if loss < self.best else self.bad + 1
        self.best = min(self.best, loss)
        if self.bad == 3:
            self.factor, self.bad = self.factor / 2, 0

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient * self.factor


class SlowsOnPlateauWithoutABranch(Descent):
    best: Any = None
    factor: Any = 1.0

    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        loss = closure()
        if self.best is not None:
            self.factor = torch.where(loss < self.best, 1.0, 0.5)
        self.best = loss if self.best is None else torch.minimum(loss, self.best)

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient * self.factor


class DecaysLate(Descent):
    """Begins something element by element after thirty steps: nothing that mixes lanes."""

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient + 0.1 * p if self.taken > 30 else gradient


class BranchesLate(Descent):
    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient / 2 if self.taken > 40 and gradient.sum().item() > 0.5 else gradient


class GoesBySize(Descent):
    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient * 0.1 if p.numel() > 8 else gradient


class GoesByLength(Descent):
    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient * (p.shape[0] if p.dim() else 2) ** -0.5


class GoesByDimensions(Descent):
    """As Muon's users have it: matrices one way, the rest another."""

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient.sign() * 0.1 if p.ndim >= 2 else gradient


class GoesByDimensionsALittle(Descent):
    """Has no effect that single precision would tell from rounding at once."""

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient * (1 + 1e-9) if p.ndim >= 2 else gradient


class Blocks(Descent):
    """Scales every five elements by the largest of them."""

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        parts = gradient.reshape(-1).split(5)
        return torch.cat([part / part.abs().max() for part in parts]).reshape(p.shape)


class KeepsItOnTheObject(Descent):
    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, 1.0)
        self.rate = lr

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient * self.rate if self.taken > 12 else gradient * 0.01


class CountsOnTheClass(Descent):
    on_class = at_first = 0

    def before(self, closure: Closure | None) -> None:
        CountsOnTheClass.on_class += 1

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient / (1 + 0.1 * CountsOnTheClass.on_class)


class ListsOnTheClass(Descent):
    on_class: list[int] = []  # noqa: RUF012 - that is the mistake
    at_first: list[int] = []  # noqa: RUF012

    def before(self, closure: Closure | None) -> None:
        self.on_class.append(self.taken)

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient / (1 + 0.1 * len(self.on_class))


class Branches(Descent):
    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient / 2 if gradient.abs().max() > 1 else gradient


class BranchesOnAnElement(Descent):
    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient / 2 if gradient.flatten()[0] > 0 else gradient


class BranchesAndCatches(Descent):
    """Takes whatever goes wrong for a no."""

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        try:
            large = bool(gradient.abs().max() > 1)
        except Exception:
            large = False
        return gradient / 2 if large else gradient


def looks(look: Callable[[torch.Tensor], float]) -> type[Descent]:
    """An optimizer that looks at a gradient's values in its own way, from the tenth step on."""

    class Looks(Descent):
        def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
            return gradient / (1 + abs(look(gradient))) if self.taken > 10 else gradient

    return Looks


LOOKS: dict[str, Callable[[torch.Tensor], float]] = {
    "numpy": lambda g: float(g.numpy().sum()),
    "detached numpy": lambda g: float(g.detach().cpu().numpy().max()),
    "asarray": lambda g: float(np.asarray(g).sum()),
    "tolist": lambda g: float(np.sum(g.tolist())),
    "item": lambda g: g.sum().item(),
    "float": lambda g: float(g.mean()),
    "dlpack": lambda g: float(np.from_dlpack(g).sum()),
    "storage": lambda g: sum(g.untyped_storage().tolist()[:5]) / 1000,
    "format": lambda g: len(f"{g}"),
    "loop": lambda g: sum(float(row.sum()) for row in (g if g.dim() else [g])),
    "equal": lambda g: float(torch.equal(g, g.abs())),
    "allclose": lambda g: float(torch.allclose(g, g.abs(), atol=0.3)),
    "nonzero": lambda g: float(len(g.clamp(min=0).nonzero())),
    "unique": lambda g: float(len(g.sign().unique())),
}


def draws(draw: Callable[[torch.Tensor], Any]) -> type[Descent]:
    """An optimizer that adds noise of its own from the tenth step on."""

    class Draws(Descent):
        def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
            return gradient + draw(p) if self.taken > 10 else gradient

    return Draws


DRAWS: dict[str, Callable[[torch.Tensor], Any]] = {
    "Python": lambda p: random.gauss(0, 0.1),
    "numpy": lambda p: float(np.random.normal(0, 0.1)),
    "torch": lambda p: 0.1 * torch.randn_like(p),
    "torch, one number": lambda p: 0.1 * torch.rand(()).to(p.dtype),
    "torch, in place": lambda p: torch.empty_like(p).normal_(0, 0.1),
    "dropout": lambda p: 0.1 * nn.functional.dropout(torch.ones_like(p), 0.5),
}


class OwnGenerator(Descent):
    """Draws from a generator of its own, whose numbers are the same in each trial."""

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        self.numbers = torch.Generator().manual_seed(5)

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        noise = torch.randn(p.shape, generator=self.numbers, dtype=torch.float64)
        return gradient + 0.1 * noise.to(p.dtype)


class OwnNumpyGenerator(Descent):
    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        self.numbers = np.random.default_rng(5)

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient * float(self.numbers.uniform(0.5, 1.5))


class HooksIntoTheBackwardPass(Descent):
    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        for p in self.params:
            p.register_hook(lambda g: g / (1 + g.abs().max()))


class HooksAfterTheBackwardPass(Descent):
    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        for p in self.params:
            p.register_post_accumulate_grad_hook(self.scale)

    def scale(self, p: torch.Tensor) -> None:
        assert p.grad is not None
        p.grad.div_(1 + p.grad.abs().max())


class StepsByTheLoss(Descent):
    """The step size of Polyak, damped."""

    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        loss = closure()
        squares = sum(p.grad.square().sum() for p in self.params if p.grad is not None)
        self.size = loss / (squares + 1)

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient * self.size


class StepsByTheLossAsANumber(Descent):
    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        self.size = 1 / (1 + float(closure()))

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient * self.size


class LooksAheadEveryFifthStep(Descent):
    """Evaluates its closure where it is about to go, in every fifth step."""

    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        if self.taken % 5 == 0:
            moved = [0.1 * p.grad for p in self.params if p.grad is not None]
            for p, change in zip(self.params, moved, strict=True):
                p.sub_(change)
            closure()
            for p, change in zip(self.params, moved, strict=True):
                p.add_(change)


class CallsItAgain(Descent):
    """Takes two half steps, each with the gradient at its start."""

    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        closure()
        for p in self.params:
            assert p.grad is not None
            p.sub_(p.grad, alpha=0.01)
        closure()


class Sam(Descent):
    """Sharpness-aware minimisation, scaled element by element, as its authors' code has it."""

    def __init__(self, params: Any, lr: float = 0.05, rho: float = 0.05) -> None:
        super().__init__(params, lr)
        self.rho = rho
        self.inner = torch.optim.SGD(self.param_groups, lr=lr, momentum=0.5)

    def scale(self) -> torch.Tensor | float:
        return self.rho

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        assert closure is not None
        closure = torch.enable_grad()(closure)
        self.first_step()
        closure()
        self.second_step()

    def first_step(self) -> None:
        scale = self.scale()
        for p in self.params:
            assert p.grad is not None
            self.state[p]["old_p"] = p.data.clone()
            p.add_(p.grad * scale)
        self.zero_grad()

    def second_step(self) -> None:
        for p in self.params:
            p.data = self.state[p]["old_p"]
        self.inner.step()
        self.zero_grad()


class SamByTheNorm(Sam):
    """The same by the norm of the whole gradient, as it was published."""

    def scale(self) -> Any:
        norms = [p.grad.norm(p=2) for p in self.params if p.grad is not None]
        return self.rho / (torch.norm(torch.stack(norms), p=2) + 1e-12)


class WritesData(Descent):
    """Moves through ``.data`` before it asks for the gradient there; and back."""

    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        moved = [0.1 * p.grad for p in self.params if p.grad is not None]
        for p, change in zip(self.params, moved, strict=True):
            p.data.sub_(change)
        closure()
        for p, change in zip(self.params, moved, strict=True):
            p.data.add_(change)


class ReplacesData(Descent):
    """The same with tensors made anew."""

    def wants(self) -> bool:
        return True

    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        if not self.wants():
            return
        old = [p.data for p in self.params]
        for p in self.params:
            p.data = p.data - 0.1 * p.grad  # type: ignore[operator]
        closure()
        for p, data in zip(self.params, old, strict=True):
            p.data = data


class ReplacesDataEveryFifthStep(ReplacesData):
    """The first steps that are compared don't show it."""

    def wants(self) -> bool:
        return self.taken % 5 == 0


class ScheduleFree(Descent):
    """Gradient descent that is evaluated at an average, and steps between that and its iterate."""

    is_training = True

    def train(self) -> None:
        self.switch(True)

    def eval(self) -> None:
        self.switch(False)

    @torch.no_grad()
    def switch(self, to_training: bool) -> None:
        if to_training == self.is_training:
            return
        self.is_training = to_training
        for p in self.params:
            if "z" in self.state[p]:
                z = self.state[p]["z"]
                p.lerp_(z, 1 - 1 / 0.9) if not to_training else p.lerp_(z, 0.1)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        if not self.is_training:
            raise RuntimeError("not in train mode")
        self.taken += 1
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "z" not in state:
                    state["z"] = p.clone()
                z = state["z"]
                weight = 1 / self.taken
                p.lerp_(z, weight)
                p.add_(p.grad, alpha=group["lr"] * (0.9 * (1 - weight) - 1))
                z.sub_(p.grad, alpha=group["lr"])


class CompressesMemory(Descent):
    """Keeps a factored second moment for matrices, and a whole one for the rest."""

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        if gradient.dim() < 2:
            return gradient / (gradient.abs() + 1)
        state = self.state[p]
        if not state:
            state["row"] = torch.zeros(p.shape[0], dtype=p.dtype)
            state["column"] = torch.zeros(p.shape[1], dtype=p.dtype)
        state["row"].mul_(0.9).add_(gradient.square().mean(1), alpha=0.1)
        state["column"].mul_(0.9).add_(gradient.square().mean(0), alpha=0.1)
        scale = torch.outer(state["row"], state["column"]) / state["row"].mean()
        return gradient / (scale.sqrt() + 1)


class SetsByAMask(Descent):
    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        kept = gradient.clone()
        kept[kept.abs() < 0.1] = 0.0
        return kept


POINTWISE = [
    Descent,
    DecaysLate,
    KeepsItOnTheObject,
    CountsOnTheClass,
    ListsOnTheClass,
    OwnNumpyGenerator,
    LooksAheadEveryFifthStep,
    CallsItAgain,
    Sam,
    WritesData,
    ReplacesData,
    ReplacesDataEveryFifthStep,
    ScheduleFree,
    SetsByAMask,
]
VMAPPED = [
    ClipsByTheNorm,
    ClipsByTheNormLate,
    ClipsByOneTensorsNorm,
    Normalises,
    NormalisesLate,
    RollsRows,
    SlowsOnPlateauWithoutABranch,
    GoesBySize,
    GoesByLength,
    GoesByDimensions,
    GoesByDimensionsALittle,
    Blocks,
    StepsByTheLoss,
    CompressesMemory,
]
OWN_OPTIMIZERS = [
    HalvesOnPlateau,
    BranchesLate,
    Branches,
    BranchesOnAnElement,
    BranchesAndCatches,
    OwnGenerator,
    StepsByTheLossAsANumber,
]
ALONE = [
    HooksIntoTheBackwardPass,
    HooksAfterTheBackwardPass,
    SamByTheNorm,
]
WAYS: dict[str, list[type[Descent]]] = {
    "pointwise": POINTWISE,
    "vmapped": VMAPPED,
    "own_optimizers": OWN_OPTIMIZERS,
    "alone": ALONE,
}


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
    ("factory", "way"),
    [
        pytest.param(factory, way, id=f"{factory.__name__}-{way}")
        for way, factories in WAYS.items()
        for factory in factories
    ],
)
@pytest.mark.usefixtures("shared_though_slower")
def test_trials_equal_plain_loops_and_share_runs_where_they_can(
    factory: Any, way: str, seeds: int
) -> None:
    workload = batched(Regression())
    results, comparisons = run(workload, factory, SETTINGS, range(seeds))
    assert_equals_plain_loops(workload, factory, results, SETTINGS)
    assert {result.way for result in results.values()} == {way}, next(iter(results.values()))
    assert all(found.is_equal for found in comparisons)
    assert bool(comparisons) == (way != "alone")
    assert all((result.way_reason == "") == (way == "pointwise") for result in results.values())


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.usefixtures("shared_though_slower")
def test_an_optimizer_that_looks_at_values_runs_as_by_itself(look: str, seeds: int) -> None:
    workload, factory = batched(Regression()), looks(LOOKS[look])
    results, comparisons = run(workload, factory, SETTINGS, range(seeds))
    assert_equals_plain_loops(workload, factory, results, SETTINGS)
    assert {result.way for result in results.values()} == {"own_optimizers"}
    assert all(found.is_equal for found in comparisons)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.usefixtures("shared_though_slower")
def test_an_optimizer_that_draws_random_numbers_gets_those_of_its_seed(
    draw: str, seeds: int
) -> None:
    workload, factory = batched(Regression()), draws(DRAWS[draw])
    results, comparisons = run(workload, factory, SETTINGS, range(seeds))
    assert_equals_plain_loops(workload, factory, results, SETTINGS)
    way = "alone" if draw in ("Python", "numpy") else "own_optimizers"
    assert {result.way for result in results.values()} == {way}
    assert all(found.is_equal for found in comparisons)
    assert not np.array_equal(results[0, 0].losses, results[0, 1].losses)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
    ("factory", "way"),
    [(LeavesStepsOut, "own_optimizers"), (LeavesStepsOutWithoutABranch, "vmapped")],
)
@pytest.mark.usefixtures("shared_though_slower")
def test_a_step_that_is_left_out_on_nan_is_left_out_of_its_own_trial_only(
    factory: Any, way: str, seeds: int
) -> None:
    workload = batched(BadRow())
    results, _ = run(workload, factory, SETTINGS, range(seeds))
    assert_equals_plain_loops(workload, factory, results, SETTINGS)
    assert {result.way for result in results.values()} == {way}
    for result in results.values():  # one step in each of the six epochs
        assert np.count_nonzero(np.diff(result.losses) == 0) == STEPS // (ROWS // BATCH)


@pytest.mark.parametrize("seeds", [3, 32])
@pytest.mark.usefixtures("shared_though_slower")
def test_a_closure_that_some_settings_use_and_others_do_not(seeds: int) -> None:
    class LooksAheadIfTold(LooksAheadEveryFifthStep):
        def __init__(self, params: Any, lr: float, ahead: float = 0.0) -> None:
            super().__init__(params, lr)
            self.ahead = ahead

        def before(self, closure: Closure | None) -> None:
            if self.ahead > 0.5:
                super().before(closure)

    workload = batched(Regression())
    settings = [{"lr": 0.05, "ahead": ahead} for ahead in (0.25, 0.75)]
    results, _ = run(workload, LooksAheadIfTold, settings, range(seeds))
    assert_equals_plain_loops(workload, LooksAheadIfTold, results, settings)
    assert {result.way for result in results.values()} == {"pointwise"}
    assert not np.allclose(results[0, 0].losses, results[1, 0].losses)


class Hessian(Descent):
    """Divides by an estimate of the Hessian's diagonal, from a second backward pass."""

    def before(self, closure: Closure | None) -> None:
        grads: Any = [p.grad for p in self.params]
        signs = [torch.randint(0, 2, p.shape).to(p.dtype) * 2 - 1 for p in self.params]
        with torch.enable_grad():
            products = torch.autograd.grad(grads, self.params, grad_outputs=signs)
        self.diagonal = {
            id(p): sign * product
            for p, sign, product in zip(self.params, signs, products, strict=True)
        }

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient / (self.diagonal[id(p)].abs() + 1)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_an_optimizer_that_differentiates_gradients_runs_where_they_keep_their_graph() -> None:
    workload = batched(Regression())
    results, _ = run(workload, Hessian, SETTINGS, range(3), create_graph=True)
    assert_equals_plain_loops(workload, Hessian, results, SETTINGS, create_graph=True)
    assert {result.way for result in results.values()} == {"alone"}
    assert "keep their graph" in results[0, 0].way_reason
    without, _ = run(workload, Hessian, SETTINGS[:1], range(2))
    assert {result.status for result in without.values()} == {"error"}


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("shared_though_slower")
def test_a_step_that_is_compiled_runs_as_it_would_alone() -> None:
    @torch.compile
    def clipped(gradient: torch.Tensor) -> torch.Tensor:
        return gradient / torch.clamp(gradient.norm(), min=1.0)

    @torch.compile
    def squashed(gradient: torch.Tensor) -> torch.Tensor:
        return gradient.tanh() * 1.5

    class Mixes(Descent):
        def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
            return clipped(gradient)

    class Works(Descent):
        def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
            return squashed(gradient)

    workload = batched(Regression())
    for factory, ways in ((Mixes, {"vmapped", "alone"}), (Works, {"pointwise"})):
        results, comparisons = run(workload, factory, SETTINGS, range(8))
        assert_equals_plain_loops(workload, factory, results, SETTINGS)
        assert {result.way for result in results.values()} <= ways
        assert all(found.is_equal for found in comparisons)


# Operators --------------------------------------------------------------------------------------


def operators() -> Iterator[Any]:
    """Every operator of torch."""
    names = {s.name for s in torch._C._jit_get_all_schemas() if s.name.startswith("aten::")}
    for name in sorted(names):
        try:
            packet = getattr(torch.ops.aten, name.removeprefix("aten::"))
        except AttributeError:
            continue
        yield from (getattr(packet, overload) for overload in packet.overloads())


def let_through() -> list[Any]:
    """Those that may be used on tensors that hold lanes, whatever the tensors hold."""
    return [
        function
        for function in operators()
        if any("Tensor" in str(a.type) for a in function._schema.arguments)
        and lane_operators._check_of(function) is lane_operators._pointwise
    ]


def test_no_operator_that_is_let_through_tells_a_value() -> None:
    told = [
        str(function)
        for function in let_through()
        if torch.Tag.data_dependent_output in function.tags
        or torch.Tag.dynamic_output_shape in function.tags
        or not all("Tensor" in str(result.type) for result in function._schema.returns)
    ]
    # Those in place on a list of tensors give nothing.
    assert [name for name in told if "_foreach_" not in name and "_fused_" not in name] == []


def test_each_operator_that_is_let_through_gives_a_lane_what_it_would_give_it_alone() -> None:
    numbers = torch.Generator().manual_seed(0)
    stacks = [torch.rand(5, 2, 3, generator=numbers, dtype=torch.float64) for _ in range(4)]
    tried = 0
    for function in let_through():
        schema = function._schema
        needed = [a for a in schema.arguments if not a.has_default_value() and not a.kwarg_only]
        if schema.is_mutable or any(a.kwarg_only and not a.has_default_value() for a in needed):
            continue
        kinds = [str(a.type) for a in needed]
        for whole in (False, True):
            made = [(10 * s).long() + 1 if whole else s for s in stacks]
            values: Any = {"number": 2, "float": 0.5, "int": 2, "Scalar": 2}
            rows = iter(made)
            given = [next(rows) if kind == "Tensor" else values.get(kind) for kind in kinds]
            try:
                together = function(*given)
            except Exception:
                continue
            tried += 1
            for lane in range(5):
                own = function(*(g[lane] if isinstance(g, torch.Tensor) else g for g in given))
                for a, b in zip(leaves(together), leaves(own), strict=True):
                    torch.testing.assert_close(a[lane], b, rtol=1e-12, atol=0, equal_nan=True)
    assert tried > 150


def leaves(found: Any) -> tuple[torch.Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize(
    "mixes",
    [
        torch.Tensor.sum,
        torch.Tensor.norm,
        torch.Tensor.max,
        torch.Tensor.argmax,
        torch.Tensor.t,
        torch.Tensor.unbind,
        lambda x: x.cumsum(0),
        lambda x: x.flip(0),
        lambda x: x.sort(0),
        lambda x: x @ x,
        lambda x: x[0],
        lambda x: x[1:],
        lambda x: x[[1, 0, 2]],
        lambda x: x.reshape(-1),
        lambda x: x.softmax(0),
        lambda x: x + torch.ones(3),
        lambda x: x * torch.arange(3.0)[:, None],
        lambda x: x.sub_(x.T),
        lambda x: torch.cat([x, x]),
        lambda x: torch.where(x > 0, x, torch.arange(3.0)),
        lambda x: x.index_add_(0, torch.tensor([0, 1]), torch.ones(2, 3)),
        lambda x: x.as_strided((3, 3), (1, 3)),
        lambda x: x.set_(torch.ones(3, 3)),
        lambda x: x.resize_(9),
        lambda x: torch.equal(x, x),
        lambda x: x.normal_(),
        lambda x: x.exponential_(),
        lambda x: torch._foreach_norm([x]),
        lambda x: torch._foreach_add([x], [torch.ones(3)]),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.data_ptr(),
        lambda x: x.untyped_storage(),
        np.asarray,
        copy.deepcopy,
    ],
)
def test_what_could_mix_lanes_is_refused_and_stays_refused_where_it_is_caught(mixes: Any) -> None:
    """Three lanes of vectors of three: no shape tells one dimension from the other."""
    refusals: list[str] = []
    guard = lane_operators.Guard(3, refusals)
    x = torch.rand(3, 3)
    with guard.escapes_watched(), guard, torch.no_grad(), pytest.raises(Exception):  # noqa: B017, PT011
        mixes(x)
    assert len(refusals) == 1
    assert refusals[0]


# Settings as vectors ----------------------------------------------------------------------------


def torch_optimizers() -> list[str]:
    return sorted(
        name
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
    )


def scratch_optimizers() -> list[str]:
    return ["SGD", "Momentum", "AdaGrad", "RMSProp", "Adadelta", "Adam"]


VALUES: dict[str, tuple[float, float, float]] = {
    "lr": (0.003, 0.01, 0.02),
    "momentum": (0.3, 0.5, 0.9),
    "dampening": (0.1, 0.2, 0.5),
    "weight_decay": (0.001, 0.01, 0.1),
    "eps": (1e-8, 1e-6, 1e-4),
    "alpha": (0.5, 0.9, 0.99),
    "rho": (0.5, 0.9, 0.99),
    "gamma": (0.5, 0.9, 0.99),
    "beta": (0.5, 0.9, 0.99),
    "beta1": (0.5, 0.9, 0.99),
    "beta2": (0.9, 0.99, 0.999),
    "lr_decay": (0.001, 0.01, 0.1),
    "initial_accumulator_value": (0.01, 0.1, 1.0),
    "momentum_decay": (0.001, 0.004, 0.1),
    "lambd": (1e-4, 1e-3, 1e-2),
    "t0": (5.0, 20.0, 40.0),
    "beta2_decay": (-0.9, -0.8, -0.5),
    "d": (1.0, 1.5, 2.0),
    "tolerance_grad": (1e-7, 1e-6, 1e-5),
    "tolerance_change": (1e-9, 1e-8, 1e-7),
}
"""By name, three values of a hyperparameter that is a float."""

PAIRS: dict[str, tuple[tuple[float, float], ...]] = {
    "betas": ((0.9, 0.999), (0.8, 0.99), (0.5, 0.9)),
    "etas": ((0.5, 1.2), (0.4, 1.1), (0.6, 1.3)),
    "step_sizes": ((1e-6, 50.0), (1e-5, 10.0), (1e-4, 0.05)),
}
BESIDE: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.01},
    "Momentum": {"lr": 0.01, "momentum": 0.5},
    "AdaGrad": {"lr": 0.1},
    "RMSProp": {"lr": 0.01, "gamma": 0.9},
    "LBFGS": {"lr": 0.1, "max_iter": 2},
}
"""What an optimizer needs beside the hyperparameter that varies."""

COMMON = {"eps", "rho", "lr_decay", "weight_decay", "momentum_decay"}
"""Hyperparameters that enter a step as the others do, in several optimizers: exhaustive."""

REFUSED = {"SparseAdam": "does not support dense gradients"}
WITH_OWN = {"LBFGS": "alone", "Adafactor": "own_optimizers"}
"""Optimizers that take numbers out of their tensors; the first evaluates its closure elsewhere."""
COARSE = {"Muon": 5e-3}
"""Rounding of those that compute in bfloat16, relative to a loss."""


def vectors() -> Iterator[tuple[str, str, str]]:
    """Where an optimizer is, its name, and each hyperparameter of it that is a float."""
    for place, names in (("torch", torch_optimizers()), ("optimizers", scratch_optimizers())):
        for name in names:
            parameters = inspect.signature(class_of(place, name)).parameters.values()
            for p in parameters:
                if (p.name in VALUES or p.name in PAIRS) and name not in REFUSED:
                    yield place, name, p.name
            assert name in REFUSED or not [
                p.name for p in parameters if isinstance(p.default, float) and p.name not in VALUES
            ], name


@functools.cache
def class_of(place: str, name: str) -> Any:
    if place == "torch":
        return getattr(torch.optim, name)
    return load_optimizer(locate(name, ROOT, "optimizers"))


def settings_of(place: str, name: str, parameter: str) -> list[dict[str, Any]]:
    beside = dict(BESIDE.get(name, {}))
    if place == "torch" and name == "SGD" and parameter in ("dampening", "momentum"):
        beside["momentum"] = 0.5
    values: Sequence[Any] = PAIRS.get(parameter) or VALUES[parameter]
    if (name, parameter) == ("Adafactor", "eps"):
        values = ((1e-30, 1e-3), (1e-20, 1e-2), (1e-10, 1e-4))
    return [beside | {parameter: value} for value in values]


@pytest.mark.parametrize(
    ("place", "name", "parameter"),
    [
        pytest.param(*v, id="-".join(v), marks=pytest.mark.exhaustive if v[2] in COMMON else ())
        for v in vectors()
    ],
)
@pytest.mark.usefixtures("shared_though_slower")
def test_a_hyperparameter_may_have_a_value_per_lane_and_each_lane_equals_a_plain_loop(
    place: str, name: str, parameter: str
) -> None:
    factory = class_of(place, name)
    workload = batched(MatrixRegression() if name == "Muon" else Regression(), steps=30)
    settings = settings_of(place, name, parameter)
    results, comparisons = run(workload, factory, settings, range(2))
    assert_equals_plain_loops(workload, factory, results, settings, rounding=COARSE.get(name))
    assert all(found.is_equal for found in comparisons)
    if (name, parameter) != ("ASGD", "t0"):  # which is compared with a number of steps
        assert_way(name, results)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam"])
@pytest.mark.usefixtures("shared_though_slower")
def test_sixty_four_learning_rates_in_single_precision_equal_plain_loops(name: str) -> None:
    workload = batched(Regression(), torch.float32)
    factory = getattr(torch.optim, name)
    settings = [{"lr": 10 ** (-4 + 3 * i / 63)} for i in range(64)]
    results, _ = run(workload, factory, settings, [7])
    assert {result.way for result in results.values()} == {"pointwise"}
    some = {key: results[key] for key in ((0, 7), (1, 7), (40, 7), (63, 7))}
    for (i, seed), result in some.items():
        expected = by_hand(workload, factory, settings[i], seed)
        np.testing.assert_allclose(result.losses, expected, rtol=ROUNDING[torch.float32])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", torch_optimizers())
@pytest.mark.usefixtures("shared_though_slower")
def test_every_optimizer_of_torch_runs_as_in_a_plain_loop_or_is_refused_with_its_reason(
    name: str, dtype: torch.dtype
) -> None:
    factory, setting = getattr(torch.optim, name), BESIDE.get(name, {})
    workload = batched(MatrixRegression() if name == "Muon" else Regression(), dtype, steps=40)
    results, _ = run(workload, factory, [setting], range(3))
    if name in REFUSED:
        assert {result.status for result in results.values()} == {"error"}
        assert all(REFUSED[name] in result.reason for result in results.values())
        return
    assert_equals_plain_loops(workload, factory, results, [setting], rounding=COARSE.get(name))
    assert_way(name, results)


def assert_way(name: str, results: dict[tuple[int, int], TrialResult]) -> None:
    (way,) = {result.way for result in results.values()}
    assert way in ([WITH_OWN[name]] if name in WITH_OWN else ["pointwise", "vmapped"])


def test_muon_is_refused_for_vectors_with_the_reason_that_its_constructor_gives() -> None:
    with pytest.raises(ValueError, match="only supports 2D parameters"):
        train(batched(Quadratic2D()), torch.optim.Muon, [{}], [Lane(0, 0)], way="alone")


@pytest.mark.parametrize("imported", ["import math", "from math import sqrt, cos, pi"])
@pytest.mark.usefixtures("shared_though_slower")
def test_functions_of_math_carry_a_value_per_lane_however_they_are_imported(
    imported: str, tmp_path: Path
) -> None:
    (tmp_path / "optimizers").mkdir()
    prefix = "math." if imported == "import math" else ""
    (tmp_path / "optimizers" / "rooted.py").write_text(
        f"import torch\n{imported}\n\n"
        "class Rooted(torch.optim.SGD):\n"
        "    def __init__(self, params, lr=0.1, decay=0.5):\n"
        "        super().__init__(params, lr)\n"
        "        self.rate, self.decay, self.taken = lr, decay, 0\n"
        "    def step(self, closure=None):\n"
        "        self.taken += 1\n"
        f"        wave = {prefix}cos({prefix}pi * self.decay * self.taken)\n"
        f"        self.param_groups[0]['lr'] = self.rate * {prefix}sqrt(self.decay) * (2 + wave)\n"
        "        return super().step(closure)\n"
    )
    factory = load_optimizer(locate("Rooted", tmp_path, "optimizers"))
    workload = batched(Regression())
    settings = [{"lr": lr, "decay": decay} for lr in (0.01, 0.02) for decay in (0.3, 0.4)]
    results, _ = run(workload, factory, settings, range(2))
    assert_equals_plain_loops(workload, factory, results, settings)
    assert {result.way for result in results.values()} == {"pointwise"}
    assert isinstance(math.sqrt(2.0), float)
    assert math.sqrt is importlib.import_module("math").sqrt
    assert "sqrt" in repr(math.sqrt)
    assert math.sqrt.__class__.__name__ == "builtin_function_or_method"  # as it was


@pytest.mark.usefixtures("shared_though_slower")
def test_settings_that_one_float_can_not_stand_for_run_apart_and_right() -> None:
    class Rounds(Descent):
        """Takes its setting for a whole number."""

        def __init__(self, params: Any, lr: float, every: float) -> None:
            super().__init__(params, lr)
            self.every = int(every)

        def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
            return gradient if self.taken % self.every == 0 else 0 * gradient

    class Switches(Descent):
        """Does something else where its setting is large, from the twentieth step on."""

        def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
            large = self.taken > 20 and self.param_groups[0]["lr"] > 0.03
            return gradient.sign() if large else gradient

    workload = batched(Regression())
    for factory, settings in (
        (Rounds, [{"lr": 0.1, "every": every} for every in (2.5, 3.5)]),
        (Switches, SETTINGS),
    ):
        results, _ = run(workload, factory, settings, range(3))
        assert_equals_plain_loops(workload, factory, results, settings)
        assert not np.allclose(results[0, 0].losses, results[1, 0].losses)


# Objectives -------------------------------------------------------------------------------------


def test_an_objective_that_vmap_cannot_take_runs_alone_with_the_reason() -> None:
    class Bends(Quadratic2D):
        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            loss = super().loss(params, batch)
            return loss if loss > 1 else loss * 2

    class Drops(Quadratic2D):
        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            return nn.functional.dropout(super().loss(params, batch), 0.1)

    for objective, why in ((Bends(), "depends on values"), (Drops(), "draws random numbers")):
        found = decide(batched(objective), Descent, [{}], [0, 1])
        assert found.way == "alone"
        assert why in found.reason


def test_parameters_that_are_added_have_gradients_of_their_own() -> None:
    """In place, an optimizer or clipping would else change one gradient twice."""

    layer = nn.LSTM(4, 2, dtype=torch.float64)  # its two biases are added

    class Recurrent(Regression):
        def init(self, generator: torch.Generator) -> Parameters:
            return {
                name: torch.randn(value.shape, generator=generator, dtype=torch.float64)
                for name, value in layer.named_parameters()
            }

        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            x, y = batch
            output, _ = torch.func.functional_call(layer, params, (x,))
            loss: torch.Tensor = (output - y[:, :2]).square().mean()
            return loss

    class Halves(Descent):
        def before(self, closure: Closure | None) -> None:
            for param in self.params:
                assert param.grad is not None
                param.grad.mul_(0.5)

    workload, lanes = batched(Recurrent()), [Lane(0, seed) for seed in range(4)]
    shared = train(workload, Halves, SETTINGS[:1], lanes, way="pointwise")
    for lane in lanes:
        own = train(workload, Halves, SETTINGS[:1], [lane], way="alone")
        np.testing.assert_allclose(shared.losses[lane.seed], own.losses[0], rtol=1e-12)


def test_an_optimizer_with_modes_is_tried_in_the_mode_of_steps() -> None:
    class StartsInEvaluation(ScheduleFree):
        is_training = False

    found = decide(batched(Regression()), StartsInEvaluation, SETTINGS[:1], range(6))
    assert found.way == "pointwise", found.reason


# What decides -----------------------------------------------------------------------------------


def test_one_trial_has_nobody_to_share_with() -> None:
    found = decide(batched(Regression()), Descent, [{}], [4])
    assert found.way == "alone"
    assert "no other trial" in found.reason


def test_an_optimizer_that_fails_alone_is_not_tried_any_further() -> None:
    class Fails(Descent):
        def before(self, closure: Closure | None) -> None:
            raise ArithmeticError("no further")

    for settings, way in ((SETTINGS[:1], "alone"), (SETTINGS, "apart")):
        found = decide(batched(Regression()), Fails, settings, range(3))
        assert (found.way, found.lane_bytes) == (way, 0)
        assert "no further" in found.reason


@pytest.mark.parametrize(
    ("alone", "shared", "way"), [(1.0, 0.8 * 6, "pointwise"), (1.0, 0.9 * 6, "alone")]
)
def test_trials_share_a_run_unless_all_alone_take_no_longer(
    alone: float, shared: float, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six trials, one of which is run alone as well; the seconds of a step are made up."""
    monkeypatch.setattr(sharing, "FASTER_ALONE", 1.0)
    monkeypatch.setattr(
        sharing._Trial,
        "step_seconds",
        lambda _, lanes, way: alone if way == "alone" else shared / 6 * len(lanes),
    )
    found = decide(batched(Regression()), Descent, SETTINGS, range(3))
    assert found.way == way
    assert found.step_seconds == alone
    assert ("no faster (1.07 times" in found.reason) == (way == "alone")


def test_whether_it_gets_on_can_be_seen_while_it_is_found_out() -> None:
    told: list[int] = []
    decide(batched(Regression()), Descent, SETTINGS, range(3), on_step=told.append)
    assert len(told) > 6
    assert all(a != b for a, b in itertools.pairwise(told))


def test_memory_of_a_lane_is_what_its_tensors_take() -> None:
    """An objective whose loss makes one large tensor per lane, of a size known beforehand."""

    class Wide(Objective):
        def init(self, generator: torch.Generator) -> Parameters:
            del generator
            return {"x": torch.zeros(3)}

        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            del batch
            return (params["x"].sum() * torch.ones(100_000, dtype=torch.float64)).sum()

    for way in ("pointwise", "vmapped"):
        size = lane_bytes(batched(Wide()), Descent, {}, way, ignore)
        one = 8 * 100_000
        assert one <= size <= 3.1 * one  # the product, its gradient, and at most one copy


def test_a_difference_is_the_largest_relative_to_a_losses_size() -> None:
    nan, inf = math.nan, math.inf
    assert difference(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 5.0])) == 0.2
    assert difference(np.array([0.0, 0.0]), np.array([0.0, 0.0])) == 0
    assert difference(np.array([0.0]), np.array([1e-300])) == 1
    assert difference(np.array([-1.0]), np.array([1.0])) == 2
    assert difference(np.array([1.0, nan]), np.array([1.0, nan])) == 0
    assert difference(np.array([1.0, inf]), np.array([1.0, nan])) == 0  # diverged, both
    assert difference(np.array([1.0, 1.0]), np.array([1.0, nan])) == inf
    assert difference(np.array([1.0, inf]), np.array([1.0, 1.0])) == inf


# The run alone to the end -----------------------------------------------------------------------


class GoesByDimensionsLate(Descent):
    """A rule by shapes, which no operator shows, and which the first steps don't have."""

    def change(self, p: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient * 0.5 if self.taken > 40 and p.dim() >= 2 else gradient


@pytest.mark.parametrize("seeds", [3, 32])
@pytest.mark.usefixtures("shared_though_slower")
def test_what_only_the_run_alone_to_the_end_shows_sends_all_trials_alone(seeds: int) -> None:
    workload = batched(Regression())
    results, (found,) = run(workload, GoesByDimensionsLate, SETTINGS, range(seeds))
    assert_equals_plain_loops(workload, GoesByDimensionsLate, results, SETTINGS)
    assert {result.way for result in results.values()} == {"alone"}
    assert all("more than rounding explains" in r.way_reason for r in results.values())
    assert not found.is_equal
    assert (found.lanes, found.way) == (2 * seeds, "pointwise")
    assert found.difference > 1e-3 > found.rounding


def test_a_difference_that_is_rounding_made_large_is_no_fault() -> None:
    """The logistic map doubles an error in each step, so two orders of a sum part ways."""

    class Chaos(Objective):
        def init(self, generator: torch.Generator) -> Parameters:
            start = torch.rand(3, generator=generator, dtype=torch.float64)
            return {"x": 0.1 + 0.8 * start}

        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            del batch
            # A step of 1 along minus the gradient takes x to 4 x (1 - x).
            x = params["x"]
            return (-3 * x.square() / 2 + 4 * x.pow(3) / 3).sum()

    workload = batched(Chaos(), steps=STEPS)
    own = train(workload, Descent, [{"lr": 1.0}], [Lane(0, 0)], way="alone")
    moved = own.losses[0].copy()
    moved[-1] *= 1.5
    assert difference(own.losses[0], moved) > 0.1
    allowed = sharing.rounding(workload, Descent, {"lr": 1.0}, 0, own, 0.1)
    assert allowed > 0.1
    calm = batched(Regression())
    own = train(calm, Descent, [{"lr": 0.02}], [Lane(0, 0)], way="alone")
    assert sharing.rounding(calm, Descent, {"lr": 0.02}, 0, own, 0.1) == 1e-10


LATE = '''
import torch

class Late(torch.optim.Optimizer):
    """Halves the steps of matrices from the fortieth on; in a stack, vectors are matrices."""
    def __init__(self, params, lr=0.05):
        super().__init__(params, {"lr": lr})
        self.taken = 0
    @torch.no_grad()
    def step(self, closure=None):
        self.taken += 1
        for group in self.param_groups:
            for p in group["params"]:
                half = self.taken > 40 and p.dim() >= 2
                p.sub_(p.grad, alpha=group["lr"] * (0.5 if half else 1.0))

class Plain(Late):
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"])
'''
SPEC = """
suite: late
seeds: 40
timing: {enabled: false}
objectives:
  quadratic_2d: {steps: 60, dtype: float64}
optimizers:
  late: {class: Late, hyperparameters: {lr: [0.1, 0.2]}}
  plain: {class: Plain, hyperparameters: {lr: [0.1, 0.2]}}
"""


def test_the_store_says_which_trials_were_run_alone_as_well_and_what_came_of_it(
    command: Call, tmp_path: Path
) -> None:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "late.py").write_text(LATE)
    (tmp_path / "late.yaml").write_text(SPEC)
    done = command("run", tmp_path / "late.yaml", "--output", tmp_path / "out", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "more than rounding explains; its trials run alone" in done.stderr
    with closing(sqlite3.connect(tmp_path / "out" / "results.sqlite")) as db:
        compared = {
            name: (lanes, way, apart, allowed)
            for name, lanes, way, apart, allowed in db.execute(
                "SELECT optimizer, lanes, comparisons.way, difference, rounding "
                "FROM comparisons JOIN run_cases USING (case_id)"
            )
        }
        assert db.execute("SELECT count(*) FROM comparisons").fetchone() == (2,)
        ways = db.execute(
            "SELECT optimizer, ways.way, ways.reason, count(*) FROM trials "
            "JOIN run_cases USING (case_id) JOIN ways ON ways.id = trials.way "
            "GROUP BY optimizer, ways.way, ways.reason ORDER BY optimizer"
        ).fetchall()
        rows = db.execute(
            "SELECT optimizer, hyperparameters, final_loss FROM trials "
            "JOIN run_cases USING (case_id) JOIN cases ON cases.id = case_id"
        ).fetchall()
    assert compared["late"][:2] == compared["plain"][:2] == (80, "pointwise")
    assert compared["late"][2] > 1e-3 > compared["late"][3]
    assert compared["plain"][2] <= 1e-10
    (late, plain) = ways
    assert (late[0], late[1], late[3]) == ("late", "alone", 80)
    assert "more than rounding explains" in late[2]
    assert plain == ("plain", "pointwise", "", 80)
    assert len(rows) == 160
    for _, setting, loss in rows:
        # Of a vector, both are plain gradient descent on 0.1 x1^2 + 2 x2^2 from (-5, -2).
        lr = json.loads(setting)["lr"]
        x1, x2 = -5 * (1 - 0.2 * lr) ** 60, -2 * (1 - 4 * lr) ** 60
        assert loss == pytest.approx(0.1 * x1**2 + 2 * x2**2, rel=1e-9)


# Papers -----------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.skipif(
    importlib.util.find_spec("pytorch_optimizer") is None,
    reason="the package pytorch-optimizer is not installed",
)
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("shared_though_slower")
def test_optimizers_from_papers_run_as_on_their_own_or_say_why_not() -> None:
    package = importlib.import_module("pytorch_optimizer")
    workload = batched(Regression(), steps=30)
    ways: dict[str, list[str]] = {}
    for name in sorted(package.get_supported_optimizers()):
        factory = package.load_optimizer(name)
        results, comparisons = run(workload, factory, [{}], range(3))
        result = results[0, 1]
        ways.setdefault(str(result.way) if result.status != "error" else "refused", []).append(name)
        if result.status == "error":
            assert result.reason
            continue
        own = train(workload, factory, [{}], [Lane(0, 1)], way="alone")
        # Some iterate in half precision whatever the parameters': a rounding there is far larger.
        rounding = max([1e-9, *(found.rounding for found in comparisons)])
        assert rounding < 1e-3, name
        np.testing.assert_allclose(
            result.losses, own.losses[0][: len(result.losses)], rtol=rounding, err_msg=name
        )
        assert result.way == "alone" or all(found.is_equal for found in comparisons), name
    print("", *(f"{len(names)} {way}: {' '.join(names)}" for way, names in ways.items()), sep="\n")
    assert len(ways["pointwise"]) > 40
    assert len(ways["vmapped"]) > 20
