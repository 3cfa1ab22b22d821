"""A hyperparameter with a value per lane: each lane's is what Python makes of the lane's own."""

# ruff: noqa: ARG005 - each use gets all there is

from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.engine.lane_functions import LaneFunctions
from harness.engine.lane_values import LaneFloat, Unequal, lane_arithmetic

numbers = st.floats(0.001, 100, allow_nan=False)
lists = st.lists(numbers, min_size=3, max_size=3)


def lanes(values: Any) -> LaneFloat:
    return LaneFloat(np.array(values, dtype=np.float64), [])


OPERATORS: list[Callable[[Any, Any], Any]] = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
]


@given(values=lists, other=st.one_of(numbers, st.integers(1, 9), lists), which=st.data())
def test_arithmetic_is_that_of_each_lane_whichever_side_it_stands_on(
    values: list[float], other: Any, which: st.DataObject
) -> None:
    of = which.draw(st.sampled_from(OPERATORS))
    others = other if isinstance(other, list) else [other] * 3
    given_other = lanes(other) if isinstance(other, list) else other
    for swapped in (False, True):
        pairs = [(b, a) if swapped else (a, b) for a, b in zip(values, others, strict=True)]
        try:
            expected = [of(a, b) for a, b in pairs]
        except OverflowError:
            assume(False)
        mine = lanes(values)
        found = of(given_other, mine) if swapped else of(mine, given_other)
        assert isinstance(found, LaneFloat)
        np.testing.assert_allclose(found.values, expected, rtol=1e-14)


@given(values=lists, t=st.integers(1, 50))
def test_a_correction_of_bias_is_each_lanes_own(values: list[float], t: int) -> None:
    betas = [value / 101 for value in values]
    with lane_arithmetic(None):
        found: Any = math.sqrt(1 - lanes(betas) ** t) / (1 - lanes(betas) ** t)
    expected = [math.sqrt(1 - b**t) / (1 - b**t) for b in betas]
    np.testing.assert_allclose(found.values, expected, rtol=1e-13)


@pytest.mark.parametrize(
    "of", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
)
@given(values=lists, other=numbers)
def test_a_comparison_answers_where_all_lanes_agree_and_raises_where_they_do_not(
    of: Callable[[Any, Any], bool], values: list[float], other: float
) -> None:
    answers = {of(value, other) for value in values}
    mine = lanes(values)
    if len(answers) == 1:
        assert of(mine, other) is answers.pop()
        assert mine.refusals == []
    else:
        with pytest.raises(Unequal, match="settings differ"):
            of(mine, other)
        assert len(mine.refusals) == 1


@pytest.mark.parametrize(
    "taken",
    [
        float,
        int,
        round,
        math.floor,
        complex,
        lambda x: x // 2,
        lambda x: x % 2,
        lambda x: divmod(x, 2),
        lambda x: np.asarray(x, dtype=float) + 1,
        lambda x: np.array([x, x]),
        lambda x: torch.tensor([x, 1.0]),
        lambda x: torch.full((2,), x),
        lambda x: torch.linspace(0, x, 3),
        lambda x: torch.eye(3) ** x,
        pickle.dumps,
        lambda x: x.as_integer_ratio(),
        lambda x: math.gamma(x),
        lambda x: math.fsum([x, 1.0]),
        lambda x: math.isclose(x, 1.0),
        lambda x: max(x, 1.0),
    ],
)
def test_what_needs_one_number_is_refused_and_stays_so_where_that_is_caught(taken: Any) -> None:
    mine = lanes([0.5, 1.5, 2.5])
    functions = LaneFunctions(4, mine.refusals, in_vmap=False)  # no tensor below has four lanes
    with lane_arithmetic(None), functions, pytest.raises(Exception):  # noqa: B017, PT011
        taken(mine)
    assert mine.refusals


def test_what_fails_for_one_lane_is_refused() -> None:
    for fails in (
        lambda x: 1 / (x - 1),
        lambda x: math.log(x - 1),
        lambda x: math.sqrt(x - 2),
        lambda x: math.exp(1000 * x),
        lambda x: (x - 2) ** 0.5,
    ):
        mine = lanes([1.0, 1.5])
        with lane_arithmetic(None), pytest.raises(Unequal):
            fails(mine)
        assert mine.refusals


@pytest.mark.parametrize("text", [str, repr, lambda v: f"gate-{v}", lambda v: f"{v:.3f}"])
def test_it_has_no_text_which_may_be_a_name_or_a_key(text: Callable[[Any], str]) -> None:
    mine = lanes([0.1, 0.2])
    with pytest.raises(Unequal, match="which needs a single number"):
        text(mine)
    assert mine.refusals


def test_it_is_a_float_and_its_copies_are_itself() -> None:
    mine = lanes([0.1, 0.2])
    assert isinstance(mine, float)
    assert copy.copy(mine) is copy.deepcopy(mine) is +mine
    assert copy.deepcopy({"lr": [mine]})["lr"][0] is mine
    assert math.isnan(float.__float__(mine))  # what reads it past this class gets nothing plausible


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "use",
    [
        lambda x, y, v: x * v,
        lambda x, y, v: v * x,
        lambda x, y, v: x / v,
        lambda x, y, v: v / x,
        lambda x, y, v: x + v,
        lambda x, y, v: v - x,
        lambda x, y, v: x**v,
        lambda x, y, v: v**x,
        lambda x, y, v: x.add(y, alpha=v),
        lambda x, y, v: x.clone().sub_(y, alpha=v),
        lambda x, y, v: torch.sub(x, y, alpha=v),
        lambda x, y, v: x.addcmul(x, y, value=v),
        lambda x, y, v: x.clone().addcdiv_(x, y, value=v),
        lambda x, y, v: torch.addcdiv(x, x, y, value=-v),
        lambda x, y, v: x.lerp(y, v),
        lambda x, y, v: x.clone().lerp_(y, v),
        lambda x, y, v: x.clone().lerp_(end=y, weight=v),
        lambda x, y, v: torch.addcmul(x, tensor1=x, tensor2=y, value=v),
        lambda x, y, v: x.clone().mul_(v).add_(v),
        lambda x, y, v: x.clamp(max=v),
        lambda x, y, v: x.clamp(min=v, max=2 * v),
        lambda x, y, v: torch.clamp_min(x, 0.2) * v,
        lambda x, y, v: torch.where(x > v, x, y),
        lambda x, y, v: torch.where(x > y, x, v),
        lambda x, y, v: torch.maximum(x, y).mul(v),
        lambda x, y, v: torch.full_like(x, v),
        lambda x, y, v: x.clone().fill_(v),
        lambda x, y, v: torch._foreach_mul([x, y], v)[1],
        lambda x, y, v: torch._foreach_add([x], [y], alpha=v)[0],
        lambda x, y, v: torch._foreach_addcdiv([x], [x], [y], value=v)[0],
        lambda x, y, v: (x >= v).to(x.dtype),
    ],
)
def test_where_it_meets_a_tensor_each_lane_gets_its_own(use: Any, dtype: torch.dtype) -> None:
    source = torch.Generator().manual_seed(1)
    x, y = (torch.rand(3, 2, 4, generator=source, dtype=dtype) + 0.1 for _ in range(2))
    values = [0.3, 0.6, 0.9]
    mine = lanes(values)
    with LaneFunctions(3, mine.refusals, in_vmap=False):
        found = use(x, y, mine)
    assert found.dtype == dtype
    for lane, value in enumerate(values):
        own = use(x[lane], y[lane], value)
        tolerance = 4 * torch.finfo(dtype).eps
        torch.testing.assert_close(found[lane], own, rtol=tolerance, atol=tolerance)
