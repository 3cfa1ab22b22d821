"""Parameter groups, several classes, and wrapped optimizers equal plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_loops import plain_loop, run, small_workload

from harness.engine.groups import assigned
from harness.engine.recipe_factory import Composite, RecipeFactory
from harness.engine.schedules import LoadedStage
from harness.engine.sharing import decide
from harness.plan.recipe import Base, Group, Recipe, Selection, parts_of
from harness.suite.locate import ImportTarget

pytestmark = pytest.mark.usefixtures("shared_though_slower")

HERE = ImportTarget("a:B", Path(), "a", "B")
"""Stands in for where a class is; these tests load none."""

Prepare = Callable[[dict[str, torch.Tensor]], Any]


def factory(
    kind: Any,
    *groups: tuple[Selection | None, Any],
    base: Any = None,
    given: Any = None,
    named: bool = False,
) -> RecipeFactory:
    """A class with groups, each with its selection and its own class, if any."""
    planned = tuple(
        Group(str(i), selection, HERE if own else None) for i, (selection, own) in enumerate(groups)
    )
    wrapped = Base(HERE, given) if base else None
    recipe = Recipe(groups=planned, base=wrapped, named=named)
    return RecipeFactory(kind, recipe, tuple(own for _, own in groups), base)


def stepping(*optimizers: torch.optim.Optimizer) -> Callable[[Any], None]:
    """A function that takes an update with some optimizers."""

    def update(closure: Any) -> None:
        closure()
        for optimizer in optimizers:
            optimizer.step()

    return update


def check(
    recipe: RecipeFactory,
    settings: list[dict[str, Any]],
    plain: list[Prepare],
    way: Any,
    kind: str = "",
    rtol: float = 1e-12,
) -> None:
    """Hold every setting, with two seeds where shared, against a plain loop."""
    seeds = (0,) if way == "alone" else (0, 1)
    workload = small_workload(kind=kind)
    for i in range(len(settings)) if way == "alone" else (None,):
        own = settings if i is None else settings[i : i + 1]
        loops = plain if i is None else plain[i : i + 1]
        found = run(workload, recipe, own, seeds, way)
        wanted = [plain_loop(workload, seed, prepare) for prepare in loops for seed in seeds]
        np.testing.assert_allclose(found.losses, wanted, rtol=0 if way == "alone" else rtol)


# Which parameter goes where ----------------------------------------------------------------------

SHAPES = {
    "embed.weight": (9, 4),
    "a.weight": (4, 4),
    "a.bias": (4,),
    "head.weight": (4, 2),
    "t": (),
}


MATRICES = ["embed.weight", "a.weight", "head.weight"]
ASSIGNED: list[tuple[list[Selection | None], list[list[str]], list[str]]] = [
    ([Selection(("*.bias",))], [["a.bias"]], [*MATRICES, "t"]),
    ([Selection(ndim=(0, 1)), None], [["a.bias", "t"], MATRICES], []),
    (
        [Selection(ndim=(2,), excluded=("embed*", "head*"))],
        [["a.weight"]],
        ["embed.weight", "a.bias", "head.weight", "t"],
    ),
    (  # the first that matches counts
        [Selection(("a.*",)), Selection(("*.weight",))],
        [["a.weight", "a.bias"], ["embed.weight", "head.weight"]],
        ["t"],
    ),
    (
        [Selection(min_size=16, max_size=20)],
        [["a.weight"]],
        ["embed.weight", "a.bias", "head.weight", "t"],
    ),
]


@pytest.mark.parametrize(("selections", "groups", "rest"), ASSIGNED)
def test_parameters_go_to_the_first_group_that_matches(
    selections: list[Selection | None], groups: list[list[str]], rest: list[str]
) -> None:
    planned = [Group(str(i), selection) for i, selection in enumerate(selections)]
    assert assigned(planned, SHAPES) == (groups, rest)


# Runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["alone", "pointwise", "vmapped", "own_optimizers"])
def test_groups_have_hyperparameters_of_their_own(way: Any) -> None:
    recipe = factory(torch.optim.AdamW, (Selection(("bias",)), None), (Selection(ndim=(0,)), None))
    pairs = [(0.05, 0.2), (0.02, 0.3)]
    settings = [
        {"lr": lr, "weight_decay": 0.5, "groups.0.weight_decay": 0.0, "groups.1.lr": scale}
        for lr, scale in pairs
    ]

    def plain(lr: float, scale: float) -> Prepare:
        def prepare(p: dict[str, torch.Tensor]) -> Any:
            groups: list[dict[str, Any]] = [
                {"params": [p["bias"]], "weight_decay": 0.0},
                {"params": [p["scale"]], "lr": scale},
                {"params": [p["weight"]]},
            ]
            return stepping(torch.optim.AdamW(groups, lr=lr, weight_decay=0.5))

        return prepare

    check(recipe, settings, [plain(*pair) for pair in pairs], way)


def muon_and_adamw(lr: float, other: float) -> Prepare:
    def prepare(p: dict[str, torch.Tensor]) -> Any:
        rest = torch.optim.AdamW([p["bias"], p["scale"]], lr=other)
        return stepping(torch.optim.Muon([p["weight"]], lr=lr), rest)

    return prepare


@pytest.mark.parametrize("way", ["alone", "vmapped"])
def test_muon_of_matrices_with_adamw_of_the_rest_equals_two_optimizers(way: Any) -> None:
    recipe = factory(torch.optim.Muon, (Selection(ndim=(2,)), None), (None, torch.optim.AdamW))
    pairs = [(0.02, 3e-3), (0.05, 0.01)]
    settings = [{"lr": lr, "groups.1.lr": other} for lr, other in pairs]
    # Muon's Newton-Schulz iteration is in bfloat16.
    check(recipe, settings, [muon_and_adamw(*pair) for pair in pairs], way, rtol=2**-8)


@pytest.mark.parametrize("way", ["alone", "pointwise", "own_optimizers"])
def test_where_groups_of_another_class_take_all_that_class_is_the_optimizer(way: Any) -> None:
    everything = Selection(ndim=(0, 1, 2))
    recipe = factory(torch.optim.AdamW, (everything, torch.optim.SGD))
    rates = [0.05, 0.1]
    settings = [{"lr": 1e-3, "groups.0.lr": rate} for rate in rates]

    def plain(rate: float) -> Prepare:
        return lambda p: stepping(torch.optim.SGD(list(p.values()), lr=rate))

    check(recipe, settings, [plain(rate) for rate in rates], way)


def test_muon_sees_the_shapes_of_a_trial_and_shares_runs() -> None:
    recipe = factory(torch.optim.Muon, (Selection(ndim=(2,)), None), (None, torch.optim.AdamW))
    sharing = decide(small_workload(), recipe, [{"lr": 0.02, "groups.1.lr": 3e-3}], range(20))
    assert sharing.way == "vmapped" or "a shared run is slower" in sharing.reason


@pytest.mark.parametrize("way", ["alone", "pointwise", "own_optimizers"])
def test_each_class_has_a_scheduler_of_its_own(way: Any) -> None:
    # OneCycleLR changes momentum of one and betas of the other.
    cycle = torch.optim.lr_scheduler.OneCycleLR
    planned = factory(torch.optim.SGD, (Selection(("bias",)), torch.optim.Adam))
    recipe = RecipeFactory(
        planned.kind, planned.recipe, planned.group_kinds, None, (LoadedStage(cycle),)
    )
    rates = [0.1, 0.2]
    settings = [
        {"lr": 0.1, "momentum": 0.9, "groups.0.lr": 0.1, "schedule.0.max_lr": rate}
        for rate in rates
    ]

    def plain(rate: float) -> Prepare:
        def prepare(p: dict[str, torch.Tensor]) -> Any:
            first = torch.optim.SGD([p["weight"], p["scale"]], lr=0.1, momentum=0.9)
            other = torch.optim.Adam([p["bias"]], lr=0.1)
            schedules = [cycle(o, max_lr=rate, total_steps=12) for o in (first, other)]
            update = stepping(first, other)

            def all_of_it(closure: Any) -> None:
                update(closure)
                for schedule in schedules:
                    schedule.step()

            return all_of_it

        return prepare

    check(recipe, settings, [plain(rate) for rate in rates], way)


class Sam(torch.optim.Optimizer):
    """Sharpness-aware minimisation, as its authors' repository has it, in few lines."""

    def __init__(self, params: Any, base_optimizer: Any, rho: float = 0.05, **kwargs: Any) -> None:
        super().__init__(params, {"rho": rho, **kwargs})
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                size = group["rho"] / (p.grad.norm() + 1e-12)
                self.state[p]["there"] = p.grad * size
                p.add_(self.state[p]["there"])
        closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(self.state[p]["there"])
        self.base_optimizer.step()
        return loss


@pytest.mark.parametrize("way", ["alone", "vmapped"])
def test_a_wrapper_that_takes_a_class_gets_it_with_its_hyperparameters(way: Any) -> None:
    recipe = factory(Sam, base=torch.optim.SGD)
    rates = [0.1, 0.03]
    settings = [{"rho": 0.1, "base.lr": lr, "base.momentum": 0.9} for lr in rates]

    def plain(lr: float) -> Prepare:
        def prepare(p: dict[str, torch.Tensor]) -> Any:
            return Sam(p.values(), torch.optim.SGD, rho=0.1, lr=lr, momentum=0.9).step

        return prepare

    check(recipe, settings, [plain(lr) for lr in rates], way)


class Lookahead:
    """A wrapper of an instance, which is no torch.optim.Optimizer itself."""

    def __init__(self, optimizer: torch.optim.Optimizer, k: int = 3, alpha: float = 0.5) -> None:
        self.optimizer, self.k, self.alpha, self.count = optimizer, k, alpha, 0
        self.slow = [p.detach().clone() for g in self.param_groups for p in g["params"]]

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = self.optimizer.step(closure)
        self.count += 1
        fast = [p for g in self.param_groups for p in g["params"]]
        if self.count % self.k == 0:
            for slow, p in zip(self.slow, fast, strict=True):
                slow.add_(p - slow, alpha=self.alpha)
                p.copy_(slow)
        return loss


@pytest.mark.parametrize("way", ["alone", "pointwise", "vmapped", "own_optimizers"])
def test_a_wrapper_that_takes_an_instance_gets_one_and_schedules_change_its_rate(way: Any) -> None:
    recipe = factory(Lookahead, base=torch.optim.Adam)
    rates = [0.1, 0.03]
    settings = [
        {"k": 3, "base.lr": lr, "schedule.warmup": 0, "schedule.then": "linear"} for lr in rates
    ]

    def plain(lr: float) -> Prepare:
        def prepare(p: dict[str, torch.Tensor]) -> Any:
            inner = torch.optim.Adam(p.values(), lr=lr)
            outer = Lookahead(inner, k=3)
            schedule = torch.optim.lr_scheduler.LambdaLR(inner, lambda t: 1 - t / 12)

            def update(closure: Any) -> None:
                closure()
                outer.step()
                schedule.step()

            return update

        return prepare

    check(recipe, settings, [plain(lr) for lr in rates], way)


def test_how_a_base_is_taken_can_be_said() -> None:
    seen: list[Any] = []

    def wraps(inner: Any, *others: Any) -> Any:
        seen.append((inner, *others))
        return inner if isinstance(inner, torch.optim.Optimizer) else torch.optim.SGD(inner)

    weight = torch.zeros(2, requires_grad=True)
    factory(wraps, base=torch.optim.SGD, given="instance")([weight])
    factory(wraps, base=torch.optim.SGD, given="class")([weight])
    assert isinstance(seen[0][0], torch.optim.SGD)
    assert seen[1][1] is torch.optim.SGD


def test_named_parameters_reach_the_optimizer() -> None:
    class Named(torch.optim.SGD):
        def __init__(self, named: Any, lr: float) -> None:
            named = list(named)
            self.names = [name for name, _ in named]
            super().__init__([p for _, p in named], lr)

    params = {"w": torch.zeros(2, requires_grad=True), "b": torch.zeros(1, requires_grad=True)}
    shapes = {name: tuple(value.shape) for name, value in params.items()}
    built = factory(Named, named=True).build(params, shapes, parts_of({"lr": 0.1}))
    assert built.optimizer.names == ["w", "b"]
    torchs = factory(torch.optim.SGD, (Selection(("b",)), None), named=True)
    groups = torchs.build(params, shapes, parts_of({"lr": 0.1})).optimizer.param_groups
    assert [group["param_names"] for group in groups] == [["b"], ["w"]]


def test_only_members_that_need_a_closure_get_one_but_for_the_first() -> None:
    calls: list[str] = []

    def member(name: str, needs: bool) -> Any:
        def step(closure: Any) -> None:
            calls.append(f"{name} {closure is not None}")

        def step_without(closure: Any = None) -> None:
            step(closure)

        made: Any = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        made.step = step if needs else step_without
        return made

    composite = Composite([member("own", False), member("lbfgs", True), member("adam", False)])
    composite.step(lambda: torch.zeros(()))
    assert calls == ["own True", "adam False", "lbfgs True"]


@pytest.mark.parametrize("way", ["alone", "pointwise", "vmapped", "own_optimizers"])
def test_all_of_a_recipe_at_once_equals_a_plain_loop(way: Any) -> None:
    recipe = factory(torch.optim.AdamW, (Selection(("bias",)), None))
    numbers = [(0.1, 3, 0.05, 0.02), (0.03, 6, 0.3, 0.5), (0.2, 0, 5.0, 0.1)]
    settings = [
        {
            "lr": lr,
            "groups.0.lr": own,
            "schedule.warmup": warmup,
            "schedule.then": "cosine",
            "clip_grad_norm": limit,
        }
        for lr, warmup, limit, own in numbers
    ]

    def rates(t: int, warmup: int) -> float:
        if t < warmup:
            return (t + 1) / warmup
        return (1 + math.cos(math.pi * (t - warmup) / (12 - warmup))) / 2

    def plain(seed: int, lr: float, warmup: int, limit: float, own: float) -> Any:
        def prepare(p: dict[str, torch.Tensor]) -> Any:
            groups: list[dict[str, Any]] = [
                {"params": [p["bias"]], "lr": own},
                {"params": [p["weight"], p["scale"]]},
            ]
            made = torch.optim.AdamW(groups, lr=lr)
            schedule = torch.optim.lr_scheduler.LambdaLR(made, lambda t: rates(t, warmup))

            def update(closure: Any) -> None:
                closure()
                made.step()
                schedule.step()

            return update

        def clip(params: Any) -> Any:
            return torch.nn.utils.clip_grad_norm_(params, limit)

        return plain_loop(small_workload(), seed, prepare, clip)

    if way == "alone":
        for setting, own in zip(settings, numbers, strict=True):
            found = run(small_workload(), recipe, [setting], (0,), way)
            assert found.losses[0].tolist() == plain(0, *own).tolist()
    else:
        found = run(small_workload(), recipe, settings, (0, 1), way)
        wanted = [plain(seed, *own) for own in numbers for seed in (0, 1)]
        np.testing.assert_allclose(found.losses, wanted, rtol=1e-12)
