"""An optimizer's calls of torch, rewritten where lanes share them.

A :class:`LaneFloat` that meets a tensor is spread over its lanes. Inside ``vmap``, some calls that
it has no rule for are written another way: an ``out=`` argument, a mask as an index, ``.data``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import torch
from torch._C import _functorch
from torch.overrides import TorchFunctionMode

from harness.engine.lane_values import LaneFloat, NotShareable, Unequal, describe_error

_ELEMENTWISE = frozenset(
    (
        *("mul", "multiply", "div", "divide", "true_divide", "pow", "float_power", "rsub"),
        *("maximum", "minimum", "fmax", "fmin", "where", "copysign", "atan2", "hypot"),
        *("gt", "ge", "lt", "le", "eq", "ne", "greater", "less"),
        *("mul_", "div_", "pow_", "multiply_", "divide_", "true_divide_"),
        *("__mul__", "__rmul__", "__imul__", "__truediv__", "__rtruediv__", "__itruediv__"),
        *("__div__", "__rdiv__", "__idiv__", "__pow__", "__rpow__", "__ipow__", "__rsub__"),
        *("__add__", "__radd__", "__iadd__", "__sub__", "__isub__"),
        *("__gt__", "__ge__", "__lt__", "__le__", "__eq__", "__ne__"),
    )
)
"""Functions that take a tensor wherever they take a number."""

_SUMS = {"add": 1, "add_": 1, "sub": -1, "sub_": -1, "subtract": -1, "subtract_": -1}
_COMPOUNDS = frozenset(("addcmul", "addcmul_", "addcdiv", "addcdiv_", "lerp", "lerp_"))
_CLAMPS = frozenset(("clamp", "clamp_", "clip", "clip_"))
_CREATORS = frozenset(
    (
        *("zeros", "ones", "empty", "full", "eye", "arange", "linspace", "tensor", "as_tensor"),
        *("zeros_like", "ones_like", "empty_like", "full_like"),
        *("new_zeros", "new_ones", "new_empty", "new_full"),
    )
)
_LOW = (torch.bfloat16, torch.float16)

_DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined]


class LaneFunctions(TorchFunctionMode):
    """Rewrites calls of torch.

    Args:
        lanes: How many.
        refusals: Where it is noted what failed, for an optimizer may catch the exception.
        in_vmap: Whether the code runs inside ``vmap``, so that tensors have a trial's own shape;
            otherwise lanes are the first dimension.
    """

    def __init__(self, lanes: int, refusals: list[str], *, in_vmap: bool) -> None:
        super().__init__()
        self.lanes = lanes
        self.refusals = refusals
        self.in_vmap = in_vmap

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        try:
            if _has_lanes(args) or (kwargs and _has_lanes(kwargs.values())):
                return self._carry(func, args, kwargs)
            if self.in_vmap:
                return self._batched(func, args, kwargs)
            return func(*args, **kwargs)
        except Exception as error:
            self.refusals.append(describe_error(error))
            raise

    def _batched(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """A call inside ``vmap``."""
        name = func.__name__
        if name == "__get__":
            return args[0].detach() if func == _DATA else func(*args)
        if name == "__setitem__" and _is_mask(args):
            return args[0].masked_fill_(args[1], args[2])
        if name.startswith("_foreach_"):
            return self._one_by_one(name, args, kwargs)
        if name in _COMPOUNDS:
            return self._compound(name, args, kwargs)
        if isinstance(out := kwargs.get("out"), torch.Tensor):
            rest = {key: value for key, value in kwargs.items() if key != "out"}
            return out.copy_(func(*args, **rest))
        result = func(*args, **kwargs)
        if name in _CREATORS and result.dim() and not _functorch.is_batchedtensor(result):
            # Each lane has its own, for what is written into it is a lane's.
            each = result.expand(self.lanes, *result.shape).clone()
            return lanes_of(each)
        return result

    def _carry(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """A call with a hyperparameter that has a value per lane."""
        name = func.__name__
        if name.startswith("_foreach_"):
            return self._one_by_one(name, args, kwargs)
        tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
        if not tensors:
            return self._made(name, args, kwargs)
        # A number takes the precision of the tensors that it is computed with, not of a mask.
        floating = [tensor for tensor in tensors if tensor.is_floating_point()]
        beside = max(floating or tensors, key=torch.Tensor.dim)
        if not self.in_vmap and not (beside.numel() > 1 and beside.shape[0] == self.lanes):
            raise Unequal(f"{name} mixes a hyperparameter with a tensor that has no lanes")
        if name in _SUMS:
            return self._sum(func, name, args, kwargs)
        if name in _COMPOUNDS:
            return self._compound(name, args, kwargs)
        if name in _CLAMPS:
            return self._clamp(name, args, kwargs)
        if name in ("fill_", "full_like") or (name == "__setitem__" and _is_mask(args)):
            return self._fill(name, args, kwargs, beside)
        if name not in _ELEMENTWISE:
            _refuse(name)
        spread = [self._spread(a, beside) for a in args]
        result = func(*spread, **{key: self._spread(v, beside) for key, v in kwargs.items()})
        return _as(result, beside) if not name.endswith("_") or name.endswith("__") else result

    def _fill(self, name: str, args: Any, kwargs: dict[str, Any], beside: torch.Tensor) -> Any:
        """Elements set to a hyperparameter."""
        value = self._spread(args[-1], beside)
        if name == "fill_":
            return args[0].copy_(value.expand(args[0].shape))
        if name == "full_like":
            return torch.zeros_like(args[0], **kwargs).add_(value)
        return args[0].copy_(torch.where(args[1], value, args[0]))

    def _made(self, name: str, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
        """A tensor of a hyperparameter; it has a trial's own shape inside ``vmap`` only."""
        is_tensor = name in ("tensor", "as_tensor") and len(args) == 1
        if not (self.in_vmap and is_tensor and isinstance(args[0], LaneFloat)):
            _refuse(name)
        dtype = kwargs.get("dtype") or torch.get_default_dtype()
        device = torch.device(kwargs.get("device") or "cpu")
        return lanes_of(args[0].tensor(1, dtype, device))

    def _spread(self, value: Any, beside: torch.Tensor) -> Any:
        """A hyperparameter as a tensor that broadcasts over another; anything else as it is."""
        if not isinstance(value, LaneFloat):
            return value
        dtype = beside.dtype
        if dtype in _LOW:
            dtype = torch.float32  # as torch's kernels take numbers
        elif not dtype.is_floating_point:
            dtype = torch.get_default_dtype()
        if self.in_vmap:
            return lanes_of(value.tensor(1, dtype, beside.device))
        return value.tensor(beside.dim(), dtype, beside.device)

    def _sum(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """``t + alpha * other``."""
        first, other = args[0], args[1] if len(args) > 1 else kwargs["other"]
        alpha = kwargs.get("alpha", 1)
        beside = first if isinstance(first, torch.Tensor) else other
        if isinstance(other, torch.Tensor) and isinstance(first, torch.Tensor):
            beside = first if first.dim() >= other.dim() else other
        other = self._spread(other, beside)
        if not isinstance(alpha, int) or alpha != 1:
            other = other * self._spread(alpha, beside)
        result = func(self._spread(first, beside), other)
        return result if name.endswith("_") else _as(result, beside)

    def _compound(self, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """``addcmul``, ``addcdiv`` and ``lerp``, in the order in which torch computes them."""
        order = ("end", "weight") if name.startswith("lerp") else ("tensor1", "tensor2")
        given = [*args, *(kwargs[key] for key in order if key in kwargs)]
        target, a, *rest = given
        if name.startswith("lerp"):
            weight = rest[0]
            if isinstance(weight, LaneFloat):
                weight = self._spread(weight, target)
            change = (a - target) * weight
        else:
            b = rest[0]
            value = kwargs.get("value", rest[1] if len(rest) > 1 else 1)
            scaled = a if isinstance(value, int) and value == 1 else a * self._spread(value, target)
            change = scaled * b if "mul" in name else scaled / b
        return target.add_(change) if name.endswith("_") else _as(target + change, target)

    def _clamp(self, name: str, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
        target: torch.Tensor = args[0]
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        high = kwargs.get("max", args[2] if len(args) > 2 else None)
        result = target
        for bound, of_tensors, of_number in (
            (low, torch.maximum, torch.clamp_min),
            (high, torch.minimum, torch.clamp_max),
        ):
            if isinstance(bound, LaneFloat):
                result = of_tensors(result, self._spread(bound, target))
            elif bound is not None:
                result = of_number(result, bound)
        return target.copy_(result) if name.endswith("_") else _as(result, target)

    def _one_by_one(self, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """A function of lists of tensors, as a function of each."""
        method = getattr(torch.Tensor, name.removeprefix("_foreach_"), None)
        if method is None or not args or not isinstance(args[0], list | tuple):
            raise NotShareable(f"{name} isn't known for one tensor")
        results = []
        for i in range(len(args[0])):
            row = [a[i] if isinstance(a, list | tuple) else a for a in args]
            own = {k: v[i] if isinstance(v, list | tuple) else v for k, v in kwargs.items()}
            results.append(self.__torch_function__(method, (), tuple(row), own))
        return None if name.endswith("_") else results


@contextlib.contextmanager
def lane_level(lanes: int, *, may_draw: bool = False) -> Iterator[int]:
    """The inside of ``torch.func.vmap``, entered and left by hand; gives its level.

    Random numbers are refused, as those of a shared run are no trial's own, unless they are drawn
    for each lane (``lane_random``).
    """
    randomness = "different" if may_draw else "error"
    level: int = _functorch._vmap_increment_nesting(lanes, randomness)
    try:
        yield level
    finally:
        _functorch._vmap_decrement_nesting()


def lanes_of(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with the lanes first, as a trial's own inside ``vmap``."""
    level = _functorch.maybe_current_level()
    assert level is not None
    return _functorch._add_batch_dim(tensor, 0, level)


def _refuse(name: str) -> NoReturn:
    raise Unequal(f"{name} takes a hyperparameter, which needs a single number")


def _has_lanes(values: Iterable[Any]) -> bool:
    for value in values:
        kind = type(value)
        if kind is LaneFloat:
            return True
        if (kind is list or kind is tuple) and any(type(v) is LaneFloat for v in value):
            return True
    return False


def _is_mask(args: Sequence[Any]) -> bool:
    """Return whether a tensor's elements are set by a mask of its own shape to one number."""
    target, index, value = args
    return (
        isinstance(index, torch.Tensor)
        and index.dtype == torch.bool
        and index.shape == target.shape
        and (
            isinstance(value, int | float) or (isinstance(value, torch.Tensor) and not value.dim())
        )
    )


def _as(result: Any, beside: torch.Tensor) -> Any:
    """A result in the precision that a plain number would have left it in."""
    if beside.dtype in _LOW and isinstance(result, torch.Tensor) and result.is_floating_point():
        return result.to(beside.dtype)
    return result
