"""A hyperparameter that has one value per lane, and goes through an optimizer's own arithmetic.

``1 - beta1 ** t`` of a :class:`LaneFloat` is a :class:`LaneFloat`; where it meets a tensor,
``lane_functions`` spreads it over the lanes. What can't carry it raises :class:`NotShareable`, and
the settings run apart. Code written in C that takes a float without asking (``math.sqrt``) would
read the number behind it, which is NaN, so that nothing plausible could come of it;
:func:`lane_arithmetic` lets the functions of ``math`` carry it or refuse.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from harness.engine.isolation import kinds_of
from harness.suite.locate import last_line

_NUMPY = torch.Tensor.numpy
"""As it is before anybody watches it."""


class NotShareable(Exception):
    """Trials can't share a run, or not in the way that was tried; says why."""


class Unequal(NotShareable):
    """Settings can't share a run, as a vector of values can't be carried; says why."""


def describe_error(error: Exception) -> str:
    """Put an error in words that need no knowledge of vmap's switches."""
    text = str(error)
    if isinstance(error, NotShareable):
        return text
    if "randomness error mode" in text or "random operation" in text:
        return "it draws random numbers, which are a trial's own"
    if ".item() on a Tensor" in text:
        return "it takes a value out of a tensor (.item())"
    if "data-dependent control flow" in text:
        return "what it does depends on values"
    if "accessing `data` under vmap" in text:
        return "it replaces the data of a parameter"
    return last_line(error).removeprefix("RuntimeError: ")


class LaneFloat(float):
    """A float that stands for one value per lane.

    Args:
        values: The values, shape ``(lanes,)``, float64.
        refusals: Where it is noted that something could not be carried, for an optimizer may
            catch the exception that says so. What is computed from this notes it there as well.
    """

    __slots__ = ("_negative", "_tensors", "refusals", "values")

    values: NDArray[np.float64]
    refusals: list[str]
    _tensors: dict[tuple[int, torch.dtype, torch.device], torch.Tensor]
    _negative: LaneFloat | None

    def __new__(cls, values: NDArray[np.float64], refusals: list[str]) -> LaneFloat:
        """Make one; what reads it as a plain number gets NaN."""
        self = super().__new__(cls, math.nan)
        self.values = values
        self.refusals = refusals
        self._tensors = {}
        self._negative = None
        return self

    def tensor(self, rank: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """The values as a tensor of shape ``(lanes, 1, ...)`` with so many dimensions."""
        key = (rank, dtype, device)
        found = self._tensors.get(key)
        if found is None:
            shape = (len(self.values),) + (1,) * (rank - 1)
            pinned = device.type == "cuda"  # so that nobody waits until it is there
            made = torch.empty(shape, dtype=dtype, pin_memory=pinned)
            _NUMPY(made)[...] = self.values.reshape(shape)
            found = self._tensors[key] = made.to(device, non_blocking=pinned)
        return found

    def refuse(self, why: str) -> NoReturn:
        """Note that this can't be carried, and raise.

        Raises:
            Unequal: Always.
        """
        self.refusals.append(why)
        raise Unequal(why)

    def agreed(self, answers: NDArray[np.bool_], what: str) -> bool:
        """The answer that all lanes give.

        Raises:
            Unequal: If they don't all give the same.
        """
        if answers.all():
            return True
        if answers.any():
            self.refuse(f"settings differ in the answer to {what}")
        return False

    def computed(self, of: Callable[..., Any], *arguments: Any) -> LaneFloat:
        """The result of a function of numpy's, or an operator, for arrays and numbers.

        Raises:
            Unequal: If some setting's arithmetic fails: Python raises where numpy warns.
        """
        try:
            with np.errstate(all="raise", under="ignore"):
                return LaneFloat(np.asarray(of(*arguments), dtype=np.float64), self.refusals)
        except (ArithmeticError, TypeError, ValueError) as error:
            self.refuse(f"arithmetic of some setting fails: {error}")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Carry one of numpy's functions, or refuse it."""
        values = [_values(value) for value in inputs]
        if method != "__call__" or kwargs or any(value is None for value in values):
            self.refuse(f"a hyperparameter is taken by numpy's {ufunc.__name__}")
        if ufunc in (np.isnan, np.isinf, np.isfinite) or ufunc.__name__ in _COMPARISONS:
            return self.agreed(ufunc(*values), "a comparison of hyperparameters")
        return self.computed(ufunc, *values)

    def __bool__(self) -> bool:
        return self.agreed(self.values != 0, "whether a hyperparameter is 0")

    def __neg__(self) -> LaneFloat:
        # Steps are taken by -lr: made once, it is sent to a device once.
        if self._negative is None:
            self._negative = LaneFloat(-self.values, self.refusals)
        return self._negative

    def __pos__(self) -> LaneFloat:
        return self

    def __abs__(self) -> LaneFloat:
        return LaneFloat(np.abs(self.values), self.refusals)

    def __hash__(self) -> int:
        return id(self)

    def __copy__(self) -> LaneFloat:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> LaneFloat:
        return self


_COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")


def _values(other: object) -> Any:
    """The numbers of something that arithmetic is done with; None if they aren't numbers."""
    if isinstance(other, LaneFloat):
        return other.values
    if isinstance(other, int | float | np.number):
        return other
    return None


def _arithmetic(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    of = getattr(operator, name)

    def forward(self: LaneFloat, other: object) -> Any:
        values = _values(other)
        return NotImplemented if values is None else self.computed(of, self.values, values)

    def backward(self: LaneFloat, other: object) -> Any:
        values = _values(other)
        return NotImplemented if values is None else self.computed(of, values, self.values)

    return forward, backward


def _comparison(name: str) -> Callable[..., Any]:
    of = getattr(operator, name)

    def compare(self: LaneFloat, other: object) -> Any:
        values = _values(other)
        if values is None:
            return NotImplemented
        return self.agreed(np.asarray(of(self.values, values)), "a comparison of hyperparameters")

    return compare


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(self: LaneFloat, *_: object, **__: object) -> NoReturn:
        self.refuse(f"a hyperparameter is taken by {name}, which needs a single number")

    return refuse


for _name in ("add", "sub", "mul", "truediv", "pow"):
    _forward, _backward = _arithmetic(_name)
    setattr(LaneFloat, f"__{_name}__", _forward)
    setattr(LaneFloat, f"__r{_name}__", _backward)
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(LaneFloat, f"__{_name}__", _comparison(_name))
for _name in (
    *("__float__", "__int__", "__trunc__", "__round__", "__floor__", "__ceil__", "__complex__"),
    *("__floordiv__", "__rfloordiv__", "__mod__", "__rmod__", "__divmod__", "__rdivmod__"),
    *("__array__", "__reduce_ex__", "__reduce__", "__getnewargs__"),
    *("__repr__", "__str__", "__format__"),  # a text may be a name, a key, a file
    *("as_integer_ratio", "hex", "is_integer", "conjugate"),
):
    setattr(LaneFloat, _name, _refusal(_name.strip("_")))


_CARRIED: dict[str, Any] = {
    **{name: getattr(np, name) for name in ("sqrt", "exp", "log", "log2", "log10", "expm1")},
    **{name: getattr(np, name) for name in ("log1p", "cos", "sin", "tan", "tanh", "cosh", "sinh")},
    **{"fabs": np.abs, "pow": np.power, "hypot": np.hypot, "atan": np.arctan},
}
_ASKED: dict[str, Any] = {"isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite}


def _lane_float_in(values: Sequence[Any]) -> LaneFloat | None:
    """The first value per lane among some arguments, or in a list that is one of them."""
    for value in values:
        if isinstance(value, LaneFloat):
            return value
        if isinstance(value, list | tuple) and (found := _lane_float_in(value)) is not None:
            return found
    return None


def _of_math(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of ``math`` that carries a :class:`LaneFloat`, or refuses it."""

    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        lanes = _lane_float_in((*args, *kwargs.values()))
        if lanes is None:
            return original(*args, **kwargs)
        if name in _ASKED:
            return lanes.agreed(_ASKED[name](lanes.values), f"math.{name}")
        if name not in _CARRIED or kwargs or any(_values(a) is None for a in args):
            lanes.refuse(f"a hyperparameter is taken by math.{name}, which needs a single number")
        return lanes.computed(_CARRIED[name], *map(_values, args))

    return function


@contextlib.contextmanager
def lane_arithmetic(factory: Any) -> Iterator[None]:
    """Let the functions of ``math`` carry a :class:`LaneFloat`, or refuse it.

    Also those that an optimizer's modules have imported by name (``from math import sqrt``).

    Args:
        factory: The optimizer's class, or what makes one.
    """
    functions = {
        name: function
        for name, function in vars(math).items()
        if callable(function) and not name.startswith("_")
    }
    made = {name: _of_math(name, function) for name, function in functions.items()}
    by_original = {id(function): made[name] for name, function in functions.items()}
    places: list[tuple[ModuleType, str, Any]] = [
        (module, name, value)
        for module in (math, *_modules_of(factory))
        for name, value in list(vars(module).items())
        if id(value) in by_original
    ]
    for module, name, value in places:
        setattr(module, name, by_original[id(value)])
    try:
        yield
    finally:
        for module, name, value in places:
            setattr(module, name, value)


def _modules_of(factory: Any) -> Sequence[ModuleType]:
    """The modules that an optimizer's code is in: those of its classes, with their packages."""
    kinds = kinds_of(factory)
    classes = [c for k in kinds for c in (k.__mro__ if isinstance(k, type) else (k,))]
    names = {getattr(c, "__module__", "") or "" for c in classes} - {"builtins", "math"}
    tops = {name.partition(".")[0] for name in names} - {"torch", ""}
    return [
        module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType)
        and (name in names or name.startswith("torch.optim.") or name.partition(".")[0] in tops)
    ]
