"""Exact counts of a step: against a list written by hand, and nothing that isn't the step's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from builders import make_workload
from torch.utils._python_dispatch import TorchDispatchMode

from harness.engine.workload import Workload
from harness.objectives.base import Batch, Objective, Parameters
from harness.results import StepCounts
from harness.timing import counts as step_counts
from harness.timing.counts import COUNTED_STEPS, count_steps
from harness.timing.timed_case import TimedCase

ROOT = Path(__file__).resolve().parents[2]
SIZE = 5

FORWARD = ["aten.mul.Tensor", "aten.sum.default"]
BACKWARD = [
    "aten.ones_like.default",  # the gradient of the loss
    "aten.expand.default",  # of the sum
    "aten.mul.Tensor",  # of the product, for each of its factors
    "aten.mul.Tensor",
    "aten.add.Tensor",  # both are the same tensor
    "aten.detach.default",  # kept as the leaf's gradient
]
MARKED = [
    "profiler._record_function_enter_new.default",  # torch.optim.Optimizer's own, around a step
    "profiler._record_function_exit._RecordFunction",
]
UPDATE = ["aten.add_.Tensor"]


class Square(Objective):
    """The sum of squares; with data, of what is left of each row."""

    def __init__(self, data: tuple[torch.Tensor, ...] | None = None) -> None:
        self.data = data

    def init(self, generator: torch.Generator) -> Parameters:
        return {"x": torch.randn(SIZE, generator=generator)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        x = params["x"]
        return (x * x).sum() if batch is None else (x * batch[0]).sum()


def counted_workload(
    objective: Objective | None = None,
    steps: int = 100,
    dtype: torch.dtype = torch.float32,
    **more: Any,
) -> Workload:
    """A workload that was looked at before, which happens at the first run alone."""
    workload = make_workload(
        objective or Square(), steps=steps, dtype=dtype, record_steps=(0, steps), **more
    )
    assert not workload.writes_rows
    return workload


class Plain(torch.optim.Optimizer):
    """Gradient descent in a line, with something more before each step."""

    def __init__(self, params: Any, more: Callable[[], object] | None = None) -> None:
        super().__init__(params, {})
        self.more = more

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        self.before(closure)
        if self.more is not None:
            self.more()
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-0.1)
                self.after(p)

    def before(self, closure: Callable[[], Any] | None) -> None:
        if closure is not None:
            with torch.enable_grad():
                closure()

    def after(self, p: torch.Tensor) -> None:
        """For those that keep something."""


def count(
    factory: Any = Plain,
    workload: Workload | None = None,
    seed: int = 0,
    **setting: Any,
) -> StepCounts:
    workload = workload or counted_workload()
    case: Any = SimpleNamespace(hyperparameters=setting, create_graph=False)
    return count_steps(TimedCase(case, workload, factory, seed))


def plus(more: Callable[[], object]) -> StepCounts:
    """The count where each step does something more, less the count where it does nothing."""
    known, found = count(more=nothing), count(more=more)
    assert found.steps == known.steps == COUNTED_STEPS
    return StepCounts(
        found.steps,
        found.operators - known.operators,
        found.calls - known.calls,
        found.state_bytes - known.state_bytes,
    )


def nothing() -> None:
    """One Python call."""


# Operators


class Listing(TorchDispatchMode):
    """Names of the operators that are dispatched."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_operators_are_those_of_forward_backward_and_step_listed_by_hand() -> None:
    x = torch.ones(SIZE, requires_grad=True)
    optimizer = Plain([x])
    with Listing() as listing:
        x.grad = None
        (x * x).sum().backward()
        optimizer.step()
    by_hand = [*FORWARD, *BACKWARD, MARKED[0], *UPDATE, MARKED[1]]
    assert listing.names == by_hand
    assert count().operators == COUNTED_STEPS * len(by_hand)


def test_an_operator_more_in_each_step_is_one_more_for_each_step() -> None:
    tensor = torch.ones(3)
    assert plus(tensor.clone).operators == COUNTED_STEPS
    assert plus(lambda: tensor + tensor * tensor).operators == 2 * COUNTED_STEPS
    assert plus(nothing).operators == 0


def test_an_operator_more_in_the_loss_is_counted_forward_and_backward() -> None:
    class Cubic(Square):
        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            return super().loss(params, batch).neg()

    found = count(workload=counted_workload(Cubic())).operators
    assert found - count().operators == 2 * COUNTED_STEPS


def test_what_an_optimizer_does_every_few_steps_only_is_counted() -> None:
    tensor = torch.ones(3)

    class Seldom(Plain):
        taken = 0

        def before(self, closure: Callable[[], Any] | None) -> None:
            self.taken += 1
            if self.taken % 10 == 0:
                tensor.clone()
            super().before(closure)

    assert count(Seldom).operators - count().operators == 2  # steps 10 and 20


def test_taking_batches_is_no_part_of_a_step() -> None:
    rows = torch.arange(12.0 * SIZE).reshape(12, SIZE)
    whole = count(workload=counted_workload(Square((rows,))))
    batches = count(workload=counted_workload(Square((rows,)), batch_size=5))
    assert whole == batches


@pytest.mark.parametrize(("steps", "counted"), [(1, 1), (2, 1), (5, 4), (21, 20), (1000, 20)])
def test_as_many_steps_are_counted_as_a_trial_has_after_its_first(steps: int, counted: int) -> None:
    found = count(workload=counted_workload(steps=steps))
    assert found.steps == counted
    assert found.operators * COUNTED_STEPS == count().operators * counted
    assert found.calls * COUNTED_STEPS == count().calls * counted


def test_a_closure_costs_nothing_until_the_parameters_have_changed() -> None:
    seen: list[bool] = []

    class Asks(Plain):
        def before(self, closure: Callable[[], Any] | None) -> None:
            seen.append(closure is not None)
            super().before(closure)

    found = count(Asks)
    assert seen == [True] * 2 * (COUNTED_STEPS + 1)
    assert found.operators == count().operators

    class Again(Plain):
        def after(self, p: torch.Tensor) -> None:
            del p
            self.before(self.closure)

        def before(self, closure: Callable[[], Any] | None) -> None:
            self.closure = closure
            super().before(closure)

    again = count(Again).operators - found.operators
    assert again == COUNTED_STEPS * len([*FORWARD, *BACKWARD])


def test_an_inherited_step_counts_the_same_whether_or_not_its_own_class_was_used() -> None:
    def classes() -> tuple[Any, Any]:
        class Base(Plain):
            @torch.no_grad()
            def step(self, closure: Callable[[], Any] | None = None) -> Any:
                self.before(closure)

        class Inherits(Base):
            def step(self, closure: Callable[[], Any] | None = None) -> Any:
                return super().step(closure)

        return Base, Inherits

    _, fresh = classes()
    base, inherits = classes()
    base([torch.ones(2)])  # from now on torch marks this one's steps in profiles
    assert count(fresh) == count(fresh) == count(inherits)
    names = [*FORWARD, *BACKWARD, MARKED[0], MARKED[0], MARKED[1], MARKED[1]]
    assert count(fresh).operators == COUNTED_STEPS * len(names)


# Calls


def test_a_call_more_in_each_step_is_one_more_for_each_step() -> None:
    number = -3

    def builtin() -> None:
        abs(number)

    def two() -> None:
        nothing()
        nothing()

    assert plus(builtin).calls == COUNTED_STEPS
    assert plus(two).calls == 2 * COUNTED_STEPS
    assert plus(nothing).calls == 0
    # An object's method is a call as well, and what torch does in C++ is none.
    assert plus(torch.ones(3).clone).calls == 0  # in place of a call of nothing


def test_what_the_standard_library_calls_within_is_its_own_affair() -> None:
    def library() -> None:
        textwrap.dedent(" a\n  b")

    def parsing() -> None:
        json.loads('{"a": [1, 2, {"b": 3}]}')

    assert plus(library).calls == 0
    assert plus(parsing).calls == 0


def test_code_of_the_harness_is_not_counted_but_for_its_objectives() -> None:
    source = "def more():\n    return abs(-1)"
    for file, calls in (
        ("harness/engine/training_loop.py", 0),
        ("harness/objectives/own.py", 1),
        ("optimizers/own.py", 1),
        ("harness_of_somebody/own.py", 1),
    ):
        space: dict[str, Any] = {}
        exec(compile(source, str(ROOT / file), "exec"), space)
        # In place of a call of nothing there is one that calls; or one that is not seen.
        seen = plus(space["more"]).calls
        assert seen == (COUNTED_STEPS if calls else -COUNTED_STEPS), file


# State


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 4), (torch.float64, 8)])
@pytest.mark.parametrize(
    ("factory", "setting", "tensors", "more"),
    [
        (torch.optim.SGD, {"lr": 0.1}, 0, 0),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, 1, 0),
        (torch.optim.Adagrad, {"lr": 0.1}, 1, 4),
        (torch.optim.Adam, {"lr": 0.1}, 2, 4),  # and the number of the step, in float32
        (torch.optim.Adam, {"lr": 0.1, "amsgrad": True}, 3, 4),
        (Plain, {}, 0, 0),
    ],
)
def test_state_is_the_bytes_of_its_tensors(
    factory: Any, setting: dict[str, Any], tensors: int, more: int, dtype: torch.dtype, width: int
) -> None:
    found = count(factory, counted_workload(dtype=dtype), **setting)
    assert found.state_bytes == tensors * SIZE * width + more


def test_state_is_found_in_containers_and_a_tensor_that_is_there_twice_counts_once() -> None:
    class Keeps(Plain):
        def after(self, p: torch.Tensor) -> None:
            kept = torch.zeros(10, dtype=torch.float64)
            self.state[p] = {
                "own": kept,
                "again": kept,
                "view": kept[2:5],
                "nested": [{"a": (torch.zeros(3), [torch.zeros(2), kept])}],
                "none": None,
                "number": 7,
                "empty": [torch.zeros(0), torch.zeros(0)],
            }

    assert count(Keeps).state_bytes == 80 + 12 + 8


def test_state_that_grows_is_that_after_the_last_step() -> None:
    class Remembers(Plain):
        def after(self, p: torch.Tensor) -> None:
            self.state[p].setdefault("seen", []).append(p.clone())

    assert count(Remembers).state_bytes == (COUNTED_STEPS + 1) * SIZE * 4


# The same whatever else there is


FACTORIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (Plain, {}),
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {"lr": 0.1}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.1}),
}


def counts_of(names: list[str]) -> dict[str, list[int]]:
    """What a few optimizers take, counted in some order."""
    found = {}
    for name in names:
        factory, setting = FACTORIES[name]
        of = count(factory, **setting)
        found[name] = [of.steps, of.operators, of.calls, of.state_bytes]
    return found


def test_counts_do_not_depend_on_what_was_compiled_before() -> None:
    """In a process of its own: torch wraps its optimizers for as long as the process lasts."""
    code = """
        import json, torch
        from test_counts import FACTORIES, counts_of

        before = counts_of([*FACTORIES])

        class Compiled(torch.optim.SGD):
            @torch.compile(backend="eager")
            def step(self, closure=None):
                return super().step(closure)

        x = torch.ones(3, requires_grad=True)
        optimizer = Compiled([x], lr=0.1)
        x.sum().backward()
        optimizer.step()
        assert hasattr(torch.optim.SGD._init_group, "_torchdynamo_disable")
        print(json.dumps([before, counts_of([*FACTORIES])]))
    """
    folders = (ROOT, ROOT / "tests" / "support", Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    before, after = json.loads(done.stdout)
    assert before == after


@pytest.mark.exhaustive
def test_counts_do_not_depend_on_order_process_or_hash_seed() -> None:
    here = counts_of([*FACTORIES])
    assert counts_of([*FACTORIES]) == here
    assert counts_of([*reversed(FACTORIES)]) == here
    assert len({tuple(of) for of in here.values()}) == len(here)
    code = f"""
        import importlib.util, json
        spec = importlib.util.spec_from_file_location("counted", {__file__!r})
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        print(json.dumps(module.counts_of([*reversed(module.FACTORIES)])))
    """
    seed = "7" if os.environ.get("PYTHONHASHSEED") != "7" else "8"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert json.loads(done.stdout) == here


def test_counts_depend_neither_on_the_seed_nor_on_torchs_own_random_numbers() -> None:
    def noise() -> torch.Tensor:
        return torch.rand(3)

    torch.manual_seed(1)
    one = count(more=noise)
    torch.manual_seed(2)
    torch.rand(100)
    assert count(more=noise) == count(more=noise, seed=5) == one


def test_each_trial_starts_at_the_seeds_own_random_numbers() -> None:
    drawn: list[float] = []
    count(more=lambda: drawn.append(float(torch.rand(()))))
    half = len(drawn) // 2
    assert drawn[:half] == drawn[half:]
    own = torch.Generator().manual_seed(2**31)  # where the seeds of torch's global numbers begin
    assert drawn[:3] == [float(torch.rand((), generator=own)) for _ in range(3)]


# Nothing stays behind


def assert_nothing_is_left(profile: Any) -> None:
    assert sys.getprofile() is profile
    assert torch._C._len_torch_dispatch_stack() == 0
    assert step_counts._uncounted.now is False


def test_the_hook_for_profiles_is_put_back() -> None:
    def mine(*_: object) -> None:
        """Somebody else's."""

    outer = sys.getprofile()
    usual = count()
    sys.setprofile(mine)
    try:
        found = count()
        assert_nothing_is_left(mine)
    finally:
        sys.setprofile(outer)
    assert found == usual
    assert_nothing_is_left(outer)


# A trial's first step, one while operators are counted, one while calls are.
@pytest.mark.parametrize("at", [1, 5, COUNTED_STEPS + 2, COUNTED_STEPS + 8])
def test_a_step_that_raises_leaves_nothing_behind(at: int) -> None:
    profile, usual, taken = sys.getprofile(), count(), [0]

    class Breaks(Plain):
        def before(self, closure: Callable[[], Any] | None) -> None:
            taken[0] += 1
            if taken[0] == at:
                raise ArithmeticError("no more")
            super().before(closure)

    with pytest.raises(ArithmeticError, match="no more"):
        count(Breaks)
    assert taken == [at]
    assert_nothing_is_left(profile)
    assert count() == usual


@pytest.mark.parametrize("at", [1, 5, COUNTED_STEPS + 2, COUNTED_STEPS + 8])
def test_a_loss_that_raises_leaves_nothing_behind(at: int) -> None:
    profile, usual, taken = sys.getprofile(), count(), [0]

    class Breaks(Square):
        def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
            taken[0] += 1
            if taken[0] == at:
                raise ArithmeticError("no more")
            return super().loss(params, batch)

    made = counted_workload(Breaks())
    taken[0] = 0
    with pytest.raises(ArithmeticError, match="no more"):
        count(workload=made)
    assert_nothing_is_left(profile)
    assert count() == usual


def test_a_batch_that_can_not_be_taken_leaves_nothing_behind() -> None:
    profile, usual = sys.getprofile(), count()
    short = Square((torch.ones(12, SIZE), torch.ones(2, SIZE)))  # its second has too few rows
    with pytest.raises(IndexError):
        count(workload=counted_workload(short, batch_size=12 - 1))
    # In the midst of counting: the second batch is worse than the first.
    orders = iter([torch.arange(4), torch.tensor([0, 1, 2, 99])])

    class Odd(Workload):
        def order(self, batches: torch.Generator) -> torch.Tensor:
            del batches
            return next(orders)

    made = counted_workload(Square((torch.ones(4, SIZE),)), batch_size=2)
    with pytest.raises(IndexError):
        count(workload=Odd(**{f.name: getattr(made, f.name) for f in fields(made)}))
    assert_nothing_is_left(profile)
    assert count() == usual


def test_a_count_leaves_no_precision_behind() -> None:
    count(workload=counted_workload(dtype=torch.float64))
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
