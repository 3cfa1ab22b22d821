"""Lanes with an optimizer object each are the trials that they would be alone, or are refused."""

# ruff: noqa: ARG002 - what is overridden gets all there is; a global counter is the point

from __future__ import annotations

import functools
import importlib.util
import itertools
import math
import random
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_plan, make_workload
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.engine import own_optimizers, trials
from harness.engine.common_state import CommonState
from harness.engine.lane_values import NotShareable
from harness.engine.lanes import Lane
from harness.engine.recording import Outcome
from harness.engine.sharing import decide
from harness.engine.stepper import Limit
from harness.engine.training_loop import TrialError, train
from harness.engine.validate import load_optimizer
from harness.engine.workload import Workload
from harness.measures import StopRule, Target
from harness.objectives.base import Batch, Objective, Parameters
from harness.objectives.quadratic_2d import Quadratic2D
from harness.results import Chunk, Sharing
from harness.spec.validation import load
from harness.suite.locate import locate

pytestmark = pytest.mark.usefixtures("one_thread", "shared_though_slower")

ROOT = Path(__file__).resolve().parents[2]
STEPS = 30
Closure = Callable[[], torch.Tensor]


class Network(Objective):
    """A matrix whose rows lie far apart in memory, a vector and a number, on rows of data."""

    def __init__(self) -> None:
        numbers = torch.Generator().manual_seed(0)
        draw = {"generator": numbers, "dtype": torch.float64}
        self.data = (torch.randn(24, 4, **draw), torch.randn(24, 3, **draw))  # type: ignore[call-overload]

    def init(self, generator: torch.Generator) -> Parameters:
        draw = {"generator": generator, "dtype": torch.float64}
        return {
            "weight": torch.randn(3, 4, **draw).T,  # type: ignore[call-overload]
            "bias": torch.randn(3, **draw),  # type: ignore[call-overload]
            "scale": 1 + 0.1 * torch.randn((), **draw),  # type: ignore[call-overload]
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        x, y = batch
        residuals: torch.Tensor = params["scale"] * (x @ params["weight"]).tanh() - y
        return (residuals + params["bias"]).square().mean()


def workload(objective: Objective | None = None, steps: int = STEPS, **more: Any) -> Workload:
    made = objective or Network()
    batches: dict[str, Any] = {"batch_size": 8, "steps_per_epoch": 3} if made.data else {}
    return make_workload(
        made, dtype=torch.float64, steps=steps, divergence_factor=1e6, **batches, **more
    )


def lanes_of(count: int, seeds: Sequence[int] = (3, 8, 3 + 2**20)) -> list[Lane]:
    return [Lane(i, seed) for i in range(count) for seed in seeds]


def assert_as_alone(
    factory: Any,
    given: Sequence[dict[str, Any]] = ({},),
    made: Workload | None = None,
    seeds: Sequence[int] = (3, 8, 3 + 2**20),
) -> Outcome:
    """Hold everything that is recorded of each lane against the trial alone."""
    made = made or workload()
    lanes = lanes_of(len(given), seeds)
    together = train(made, factory, given, lanes, way="own_optimizers")
    for place, lane in enumerate(lanes):
        own = train(made, factory, [given[lane.setting]], [Lane(0, lane.seed)], way="alone")
        for name, values in own.values.items():
            np.testing.assert_allclose(together.values[name][place], values[0], rtol=1e-10)
        assert together.diverged_at[place] == own.diverged_at[0]
        assert together.stopped_at[place] == own.stopped_at[0]
        pairs = ((together.trajectory, own.trajectory), (together.step_sizes, own.step_sizes))
        for ours, theirs in pairs:
            assert (ours is None) == (theirs is None)
            if ours is not None and theirs is not None:
                np.testing.assert_allclose(ours[place], theirs[0], rtol=1e-10)
        for ours_, theirs_ in zip(together.parameters or (), own.parameters or (), strict=False):
            assert set(ours_) == set(theirs_)
    return together


class Descent(torch.optim.Optimizer):
    """Base of the optimizers below: what looks at values in every step."""

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, {"lr": lr})
        self.taken = 0

    @property
    def params(self) -> list[torch.Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        self.taken += 1
        self.before(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, p.grad, group["lr"])

    def before(self, closure: Closure | None) -> None:
        """Be called at the beginning of each step."""

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        p.sub_(grad, alpha=lr / (1 + float(grad.abs().max())))


# What is as alone -------------------------------------------------------------------------------


class ReplacesData(Descent):
    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        p.data = p.data - lr * grad / (1 + grad.norm().item())


class SwapsDataWithABuffer(Descent):
    """Its parameter and what it remembers change places, as some memory-savers have it."""

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        state = self.state[p]
        old = p.data
        p.data = state.pop("spare", torch.empty_like(p))
        p.data.copy_(old - lr * grad / (1 + grad.norm().item()))
        state["spare"] = old


class KeepsTheGradientItself(Descent):
    """Takes the difference to the gradient before, which it did not copy."""

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        state = self.state[p]
        change = grad - state.get("grad", torch.zeros_like(grad))
        state["grad"] = grad
        p.sub_(grad + 0.5 * change, alpha=lr / (1 + change.norm().item()))


class WritesGradients(Descent):
    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        grad.div_(1 + grad.norm().item())
        p.sub_(grad, alpha=lr)
        p.grad = None


class GoesByMemory(Descent):
    """Goes by how its tensors lie in memory, and by how much of it there is."""

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        size = len(p.untyped_storage()) + sum(p.stride()) + 10 * sum(grad.stride())
        p.sub_(grad, alpha=lr * (1 + p.is_contiguous()) / (1 + size / 100 + float(grad.norm())))


class DrawsAtItsStart(Descent):
    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        self.factors = [torch.rand(p.shape, dtype=p.dtype) for p in self.params]
        for p, factor in zip(self.params, self.factors, strict=True):
            p.data.add_(0.1 * factor)


class DrawsAtTimes(Descent):
    """Draws where its gradient is large, so lanes of one seed part ways."""

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        if float(grad.abs().max()) > 0.3:
            grad = grad + 0.1 * torch.randn_like(p)
        p.sub_(grad, alpha=lr)


class GoesByTheSeed(Descent):
    """Draws, and puts the generator back: nothing that is drawn shows."""

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        with torch.random.fork_rng(devices=[]):
            noise = torch.rand(()) + torch.initial_seed() % 7
        p.sub_(grad, alpha=lr / (1 + float(noise) + float(grad.norm())))


class GoesByItsLoss(Descent):
    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        self.zero_grad()
        first = float(closure())
        assert float(closure()) == first
        self.size = 1 / (1 + first)

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        p.sub_(grad, alpha=lr * self.size)


class Averages(Descent):
    """Is evaluated elsewhere than it steps, by how far it has come."""

    training = True

    def train(self) -> None:
        self.switch(True)

    def eval(self) -> None:
        self.switch(False)

    @torch.no_grad()
    def switch(self, to: bool) -> None:
        if self.training == to:
            return
        self.training = to
        for p in self.params:
            if not to:
                self.state[p]["back"] = p.clone()
                p.mul_(1 - 0.1 / (1 + float(p.norm())))
            else:
                p.copy_(self.state[p]["back"])


class TellsItsStepSize(Descent):
    def effective_step_size(self, p: torch.Tensor) -> torch.Tensor:
        return torch.full_like(p, self.taken / (1 + p.abs().max().item()))


class ChangesItsList(Descent):
    """Writes into a hyperparameter that is a list."""

    def __init__(self, params: Any, lr: float = 0.05, weights: Any = (1.0,)) -> None:
        super().__init__(params, lr)
        self.weights = weights

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        self.weights[0] *= 0.9
        p.sub_(grad, alpha=lr * self.weights[0] / (1 + float(grad.norm())))


SAME = [
    Descent,
    ReplacesData,
    SwapsDataWithABuffer,
    KeepsTheGradientItself,
    WritesGradients,
    GoesByMemory,
    DrawsAtItsStart,
    DrawsAtTimes,
    GoesByTheSeed,
    GoesByItsLoss,
    Averages,
    TellsItsStepSize,
]


@pytest.mark.parametrize("factory", SAME)
def test_each_lane_is_its_trial_alone(factory: Any) -> None:
    assert_as_alone(factory, [{"lr": 0.05}, {"lr": 0.2}])
    assert_as_alone(factory, [{"lr": 0.3}, {"lr": 0.2}], workload(Quadratic2D()))


def test_a_list_of_hyperparameters_is_each_lanes_own_and_a_trials_own() -> None:
    given = [{"weights": [1.0, 2.0]}, {"weights": [0.5]}]
    assert_as_alone(ChangesItsList, given)
    assert given == [{"weights": [1.0, 2.0]}, {"weights": [0.5]}]


class TakesAnything(Descent):
    def __init__(
        self,
        params: Any,
        lr: float = 0.05,
        *,
        kind: str = "plain",
        flips: bool = False,
        every: int = 1,
        betas: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(params, lr)
        self.kind, self.flips, self.every, self.betas = kind, flips, every, betas or ()

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        if self.taken % self.every:
            return
        if self.kind == "sign":
            grad = grad.sign()
        if self.flips and float(grad.sum()) < 0:
            grad = -0.1 * grad
        p.sub_(grad, alpha=lr * (1 + sum(self.betas)))


@settings(max_examples=settings().max_examples // 10, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "lr": st.floats(0, 0.3),
                "kind": st.sampled_from(["plain", "sign"]),
                "flips": st.booleans(),
                "every": st.integers(1, 3),
                "betas": st.one_of(st.none(), st.tuples(st.floats(0, 1), st.floats(0, 1))),
            },
        ),
        min_size=1,
        max_size=3,
    )
)
def test_settings_may_differ_in_anything(given_: list[dict[str, Any]]) -> None:
    assert_as_alone(TakesAnything, given_, workload(steps=8), seeds=(3, 4))


def test_a_way_is_found_for_what_takes_values_out_of_tensors() -> None:
    made = workload()
    found = decide(made, Descent, [{"lr": 0.1}, {"lr": 0.2}], range(8))
    assert found.way == "own_optimizers"
    assert "not op by op: " in found.reason
    assert "not lane by lane: " in found.reason
    assert found.lane_bytes > 0


def test_seeds_of_settings_that_no_vector_stands_for_share_more_apart() -> None:
    class Rounds(torch.optim.SGD):
        def __init__(self, params: Any, lr: float, every: float) -> None:
            super().__init__(params, lr=lr * int(every))

    given = [{"lr": 0.1, "every": every} for every in (2.5, 3.5)]
    assert decide(workload(), Rounds, given, range(8), fewest=4).way == "apart"
    assert decide(workload(), Rounds, given[:1], range(8), fewest=4).way == "pointwise"
    assert decide(workload(), Rounds, given * 2, range(2), fewest=4).way == "own_optimizers"


@pytest.mark.skipif(
    importlib.util.find_spec("pytorch_optimizer") is None,
    reason="the package pytorch-optimizer is not installed",
)
@pytest.mark.parametrize(
    "name", ["Prodigy", "DAdaptAdam", "DAdaptSGD", "A2Grad", "ScheduleFreeAdamW"]
)
def test_optimizers_from_papers_are_as_alone(name: str) -> None:
    package: Any = importlib.import_module("pytorch_optimizer")
    assert_as_alone(getattr(package, name), made=workload(steps=15))


# How lanes end ----------------------------------------------------------------------------------


class RaisesFarOut(Descent):
    """Raises where a parameter is NaN for the tenth time, or once it is near zero."""

    bad = 0

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        self.bad += not bool(torch.isfinite(p).all())
        if self.bad == 10:
            raise ArithmeticError("this has gone too far")
        if float(p.abs().max()) < 1e-3:
            raise ArithmeticError("there is nothing left to do")
        p.sub_(grad, alpha=lr)


def stopping(steps: int) -> Workload:
    rule = StopRule((Target(0.01),), optimum=0.0)
    made = workload(Quadratic2D(), steps=steps, stop=rule)
    return replace(made, keeps_parameters=True)


def test_a_lane_that_has_ended_takes_no_step_more() -> None:
    """Alone, each stops before it comes to where it would raise."""
    given = [{"lr": lr} for lr in (0.2, 0.3, 0.4, 0.45)]
    found = assert_as_alone(RaisesFarOut, given, stopping(400), seeds=(0,))
    assert len(set(found.stopped_at.tolist())) == 4


def test_a_lane_that_diverged_goes_on_as_long_as_alone_whatever_ends_beside_it() -> None:
    """Alone, it raises some steps later, before anybody looks; others end in between."""
    made = stopping(400)
    with pytest.raises(TrialError) as alone:
        train(made, RaisesFarOut, [{"lr": 1e40}], [Lane(0, 0)], way="alone")
    given = [{"lr": 0.45}, {"lr": 1e40}, {"lr": 0.4}]
    others = assert_as_alone(RaisesFarOut, [given[0], given[2]], made, seeds=(0,))
    assert alone.value.step > others.stopped_at.min() or alone.value.step < 64
    with pytest.raises(TrialError, match="too far") as together:
        train(made, RaisesFarOut, given, lanes_of(3, (0,)), way="own_optimizers")
    assert together.value.step == alone.value.step


def test_lanes_that_diverge_are_as_alone() -> None:
    given = [{"lr": lr} for lr in (0.1, 2.0, 1e30, 1e300)]

    class Plain(Descent):
        def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
            p.sub_(grad * (lr if float(grad.sum()) < math.inf else 1.0))

    found = assert_as_alone(Plain, given, workload(Quadratic2D(), steps=150), seeds=(0, 1))
    assert (found.diverged_at[:2] == -1).all()
    assert (found.diverged_at[4:] >= 0).all()


def test_where_one_lane_raises_the_others_are_run_alone_and_it_has_its_own_step() -> None:
    class Raises(Descent):
        def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
            if lr > 0.5 and self.taken == 7:
                raise ArithmeticError("of this setting alone")
            super().move(p, grad, lr)

    with pytest.raises(TrialError) as caught:
        train(workload(), Raises, [{"lr": 0.1}, {"lr": 1.0}], lanes_of(2), way="own_optimizers")
    assert caught.value.step == 7


def test_a_lane_that_takes_longer_than_a_trial_may_ends_the_shared_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock is made up: a step of the second setting takes a second, all else nothing."""
    clock = SimpleNamespace(perf_counter=lambda: float(sum(SLEPT)))
    monkeypatch.setattr(own_optimizers, "time", clock)
    monkeypatch.setattr(CommonState, "changed", lambda *_, **__: "")
    given, lanes, turns = [{"lr": 0.1}, {"lr": 1.0}], lanes_of(2), list[float]()
    for seconds, is_enough in ((STEPS - 0.5, False), (STEPS + 0.5, True)):
        SLEPT.clear()
        turns.clear()
        limit = Limit(seconds, lambda: turns.append(clock.perf_counter()))
        with nullcontext() if is_enough else pytest.raises(NotShareable, match=r"more than 29.5 s"):
            train(workload(), Sleeps, given, lanes, way="own_optimizers", limit=limit)
        assert len(turns) == STEPS * len(lanes) - (0 if is_enough else 2)


SLEPT: list[float] = []


class Sleeps(Descent):
    def before(self, closure: Closure | None) -> None:
        SLEPT.append(float(self.param_groups[0]["lr"] > 0.5))


# What is refused --------------------------------------------------------------------------------


class StepsAway(Descent):
    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        if self.taken == 5:
            self.params[0].mul_(0.9)
            closure()


class StepsAwayThroughDataAndCatches(Descent):
    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        self.params[0].data.mul_(0.9)
        try:
            closure()
        except Exception:
            self.taken += 1


class ZeroesGradientsInPlace(Descent):
    def before(self, closure: Closure | None) -> None:
        assert closure is not None
        self.zero_grad(set_to_none=False)
        closure()


class KeepsItsClosure(Averages):
    """Evaluates once more after its step, where it is put for being evaluated."""

    last: Closure | None = None

    def before(self, closure: Closure | None) -> None:
        self.last = closure

    def eval(self) -> None:
        super().eval()
        if self.last is not None:
            self.last()


class Hooks(Descent):
    def before(self, closure: Closure | None) -> None:
        if self.taken == 3:
            self.params[0].register_hook(lambda g: g / 2)


class DrawsFromPython(Descent):
    def before(self, closure: Closure | None) -> None:
        random.random()


class DrawsFromNumpy(Descent):
    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        self.number = np.random.rand()


class CountsOnTheClass(Descent):
    count = 0

    def before(self, closure: Closure | None) -> None:
        type(self).count += 1


class BeginsToCount(Descent):
    def before(self, closure: Closure | None) -> None:
        if self.taken == 4:
            type(self).begun = 1  # type: ignore[attr-defined]


class Toggles(Descent):
    """Of two lanes, each finds it as the other left it: after both, it is as it was."""

    flag = False

    def before(self, closure: Closure | None) -> None:
        Toggles.flag = not Toggles.flag


class FillsATensor(Descent):
    held: dict[str, Any] = {"m": [torch.zeros(3)]}  # noqa: RUF012

    def before(self, closure: Closure | None) -> None:
        self.held["m"][0].add_(1)


class FillsAnArray(Descent):
    held = np.zeros(500)

    def before(self, closure: Closure | None) -> None:
        self.held[self.taken] = 1


class Holder:
    """Something that counts."""

    def __init__(self) -> None:
        self.counts: list[int] = [0]


class CountsInAnObject(Descent):
    holder = Holder()

    def before(self, closure: Closure | None) -> None:
        self.holder.counts[0] += 1


class NumbersItself(Descent):
    numbers = itertools.count()

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        self.number = next(self.numbers)


class KnowsItsLikes(Descent):
    known: weakref.WeakSet[Any] = weakref.WeakSet()  # noqa: RUF012 - that is the mistake

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        self.known.add(self)


class CountsInANamespace(Descent):
    held = SimpleNamespace(count=0)

    def before(self, closure: Closure | None) -> None:
        self.held.count += 1


class TakesFromAnIterator(Descent):
    rates = itertools.cycle((1.0, 0.5))

    def move(self, p: torch.Tensor, grad: torch.Tensor, lr: float) -> None:
        p.sub_(grad, alpha=lr * next(self.rates))


class TakesFromAGenerator(Descent):
    rates = (0.1 * i for i in range(1000))

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr * next(self.rates))


class DrawsFromTheClass(Descent):
    source = torch.Generator().manual_seed(3)

    def before(self, closure: Closure | None) -> None:
        torch.rand((), generator=self.source)


GLOBAL = 0


class CountsInItsModule(Descent):
    def before(self, closure: Closure | None) -> None:
        global GLOBAL
        GLOBAL += 1


class HasADefault(Descent):
    def __init__(self, params: Any, lr: float = 0.05, seen: list[int] = []) -> None:  # noqa: B006
        super().__init__(params, lr)
        seen.append(1)


class CountsOnItsMethod(Descent):
    def before(self, closure: Closure | None) -> None:
        method: Any = CountsOnItsMethod.before
        method.calls = getattr(method, "calls", 0) + 1


def counting() -> type[Descent]:
    count = 0

    class Counts(Descent):
        def before(self, closure: Closure | None) -> None:
            nonlocal count
            count += 1

    return Counts


class SetsTheType(Descent):
    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        torch.set_default_dtype(torch.float64)


class LeavesGradientsOff(Descent):
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        super().step(closure)
        torch.set_grad_enabled(False)


class Freezes(Descent):
    def before(self, closure: Closure | None) -> None:
        if self.taken == 4:
            self.params[1].requires_grad_(False)


class Reshapes(Descent):
    def before(self, closure: Closure | None) -> None:
        if self.taken == 4:
            p = self.params[1]
            p.data, p.grad = p.data[:1], p.grad[:1] if p.grad is not None else None


class Narrows(Descent):
    def before(self, closure: Closure | None) -> None:
        for p in self.params if self.taken == 4 else []:
            p.grad = None
            p.data = p.data.float()


REFUSED: list[tuple[Any, str]] = [
    *((factory, "evaluates its closure elsewhere") for factory in (StepsAway, KeepsItsClosure)),
    (StepsAwayThroughDataAndCatches, "evaluates its closure elsewhere"),
    (ZeroesGradientsInPlace, "evaluates its closure elsewhere"),
    (Hooks, "hooks into the backward pass"),
    (DrawsFromPython, "Python's random module"),
    (DrawsFromNumpy, "numpy's global generator"),
    (CountsOnTheClass, "'CountsOnTheClass.count' in common"),
    (BeginsToCount, "'BeginsToCount.begun' in common"),
    (Toggles, "'Toggles.flag' in common"),
    (FillsATensor, "'FillsATensor.held' in common"),
    (FillsAnArray, "'FillsAnArray.held' in common"),
    (CountsInAnObject, "'CountsInAnObject.holder' in common"),
    (NumbersItself, "'NumbersItself.numbers' in common"),
    (KnowsItsLikes, "'KnowsItsLikes.known' in common"),
    (CountsInANamespace, "'CountsInANamespace.held' in common"),
    (TakesFromAGenerator, "'TakesFromAGenerator.rates' in common"),
    (TakesFromAnIterator, "'TakesFromAnIterator.rates' in common"),
    (DrawsFromTheClass, "'DrawsFromTheClass.source' in common"),
    (CountsInItsModule, "GLOBAL' in common"),
    (HasADefault, "a default of HasADefault"),
    (CountsOnItsMethod, r"before\.calls"),
    (counting(), "count of .*Counts"),
    (functools.partial(CountsOnTheClass, lr=0.1), "'CountsOnTheClass.count' in common"),
    (lambda params, **given: CountsOnTheClass(params, **given), "'CountsOnTheClass.count'"),
    (SetsTheType, "torch's default dtype"),
    (LeavesGradientsOff, "torch's grad mode"),
    (Freezes, "stops the training of a parameter"),
    (Reshapes, "another shape or type"),
    (Narrows, "another shape or type"),
]


@pytest.mark.parametrize(("factory", "why"), REFUSED)
def test_what_only_a_trial_alone_can_do_is_refused(factory: Any, why: str) -> None:
    for name in ("begun",):
        if hasattr(BeginsToCount, name):
            delattr(BeginsToCount, name)
    with pytest.raises(NotShareable, match=why):
        train(workload(), factory, [{}], lanes_of(1, (0, 1)), way="own_optimizers")
    torch.set_grad_enabled(True)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_gradients_that_keep_their_graph_are_refused() -> None:
    with pytest.raises(NotShareable, match="keep their graph"):
        train(workload(), Descent, [{}], lanes_of(1), way="own_optimizers", create_graph=True)


class Drops(Network):
    """The same with dropout, which draws from torch's global generator."""

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        x, y = batch
        return super().loss(params, (nn.functional.dropout(x, 0.2), y))

    def evaluate(self, params: Parameters, batch: Batch) -> torch.Tensor:
        return super().loss(params, batch)


def test_random_numbers_of_a_loss_are_as_alone_unless_its_optimizer_draws_as_well() -> None:
    made = workload(Drops())
    assert_as_alone(Descent, made=made)
    with pytest.raises(NotShareable, match="draws random numbers, as its loss does"):
        train(made, DrawsAtTimes, [{}], lanes_of(1), way="own_optimizers")


class Projects(Quadratic2D):
    """Pulls its parameters to the origin, which is not the optimizer's doing."""

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            for value in params.values():
                value.mul_(0.99)
        return super().loss(params, batch)


def test_an_objective_that_changes_parameters_is_refused() -> None:
    with pytest.raises(NotShareable, match="its objective changes parameters"):
        train(workload(Projects()), Descent, [{}], lanes_of(1), way="own_optimizers")


HELPER = "calls = [0]\n\n\ndef tick():\n    calls[0] += 1\n    return calls[0]\n"
USES = """
import torch
from .helper import tick


class Uses(torch.optim.SGD):
    def step(self, closure=None):
        self.param_groups[0]["lr"] = 0.1 / tick()
        return super().step(closure)
"""


def test_what_another_file_of_the_suite_counts_is_seen(tmp_path: Path) -> None:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "helper.py").write_text(HELPER)
    (tmp_path / "optimizers" / "uses.py").write_text(USES)
    factory = load_optimizer(locate("Uses", tmp_path, "optimizers"))
    with pytest.raises(NotShareable, match="calls' in common"):
        train(workload(), factory, [{}], lanes_of(1), way="own_optimizers")


def test_state_in_common_is_told_by_its_content() -> None:
    class Holds(Descent):
        several: dict[str, Any] = {"a": [1, {2: torch.ones(2)}], "b": (np.ones(2), float("nan"))}  # noqa: RUF012

    state = CommonState(Holds)
    assert state.changed(all_of_it=True) == ""
    Holds.several["a"][1][2].add_(1)
    assert state.changed(all_of_it=False) == "Holds.several"
    Holds.several["a"][1][2].sub_(1)
    state = CommonState(Holds)
    Holds.several["b"][0][1] = 2
    assert state.changed(all_of_it=True) == "Holds.several"


def test_after_a_shared_run_random_numbers_and_settings_are_as_they_were() -> None:
    def outcome() -> list[float]:
        found = train(workload(), DrawsAtTimes, [{}], lanes_of(1), way="own_optimizers")
        return [float(torch.rand(())), *found.losses[:, -1].tolist()]

    assert outcome() == outcome()


# As the quality pass runs them ------------------------------------------------------------------


def test_a_chunk_goes_on_with_own_optimizers_where_no_other_way_is_open() -> None:
    known = make_plan(load(ROOT / "benchmarks.yaml")).cases[0]
    case = replace(known, key="k", hyperparameters={})
    chunk = Chunk((case,), tuple(range(5)))
    told: list[int] = []
    together = trials.run_vectorized(
        chunk, workload(), Descent, Sharing("pointwise", ""), lambda: None, told.append
    )
    assert {result.way for result in together.results} == {"own_optimizers"}
    assert together.comparison is not None
    assert together.comparison.is_equal
    assert (together.comparison.way, together.comparison.lanes) == ("own_optimizers", 5)
    own_turns = told[told.index(STEPS + 1) :]
    assert all(a != b for a, b in itertools.pairwise(own_turns))
    assert len(own_turns) >= 5 * STEPS  # so a long step of many lanes is seen to get on
    for result in together.results:
        own = trials.run_single(case, result.seed, workload(), Descent, "", told.append)
        np.testing.assert_allclose(result.losses, own.losses, rtol=1e-10)
        assert (result.evaluations, result.step) == (own.evaluations, own.step)
