"""A guard that sees every operator of a shared step, and ends the run at one that may mix lanes.

Lanes are the first dimension of every tensor. An operator that works element by element can't mix
them; nor can one that only makes a tensor, or copies one. Whatever else is done with a tensor that
holds lanes (a norm, a sum, a matrix product, a look at a value) ends the shared run. No numbers
are compared, so nothing depends on how many lanes there are or how many steps were tried.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.engine.lane_values import NotShareable

_POINTWISE = frozenset(
    ("copy", "fill", "zero", "addcdiv", "addcmul", "lerp", "clone", "_to_copy", "_conj_physical")
)
"""Element by element, beside those that torch tags so."""

_FUSED = frozenset(f"_fused_{name}" for name in ("adam", "adamw", "sgd", "adagrad"))
"""torch's kernels of a whole step, which work element by element as well."""

_LIKE = frozenset(
    (
        *("zeros_like", "ones_like", "empty_like", "full_like"),
        *("zeros", "ones", "empty", "full", "empty_strided", "scalar_tensor"),
        *("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided"),
    )
)
"""Make a tensor that is the same everywhere, whatever is in another."""

_VIEWS = frozenset(
    ("view", "_unsafe_view", "_reshape_alias", "expand", "slice", "alias", "detach", "squeeze")
)
"""Views; they leave the lanes where they are if they leave the shape as it is."""

_FOREACH_REDUCTIONS = frozenset(("norm", "max", "min", "sum", "powsum", "mean"))

_ESCAPES = (
    *("numpy", "tolist", "data_ptr", "untyped_storage", "storage", "_typed_storage"),
    *("__array__", "__dlpack__", "__reduce_ex__", "apply_", "map_", "map2_", "const_data_ptr"),
    *("mutable_data_ptr", "share_memory_"),
    *("item", "__float__", "__int__", "__bool__", "__index__", "__complex__"),
)
"""Ways out of a tensor that no operator shows."""

Check = Callable[["Guard", Sequence[Any], dict[str, Any], Any], bool]


class Guard(TorchDispatchMode):
    """Watches the operators of some code that must keep lanes apart.

    Args:
        lanes: How many; at least 2, so that no tensor of one element holds lanes.
        refusals: Where it is noted why the run must not go on, for an optimizer may catch the
            exception that says so.

    Attributes:
        has_written: Whether anything was changed in place since this was last set to False.
    """

    def __init__(self, lanes: int, refusals: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if lanes < 2:
            raise ValueError(f"there is nothing to keep apart in {lanes} lanes")
        self.lanes = lanes
        self.refusals = refusals
        self.has_written = False
        self.is_watching = False
        self._rules: dict[Any, tuple[Check, bool]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not to be wrapped against being compiled: nothing is, while lanes are shared."""
        return False

    def __enter__(self) -> Guard:
        self.is_watching = True
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *exc: Any) -> None:
        self.is_watching = False
        super().__exit__(*exc)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = self._rules.get(func)
        if rule is None:
            rule = self._rules[func] = (_check_of(func), func._schema.is_mutable)
        check, writes = rule
        kwargs = kwargs or {}
        if writes:
            self.has_written = True
        if check is _pointwise and not _pointwise(self, args, kwargs, None):
            # Before it may fail on shapes that no trial has.
            self.refuse(_name(func), " on tensors that aren't aligned lane by lane")
        self.is_watching = False
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            self.refusals.append(f"{_name(func)} fails: {error}")
            raise
        finally:
            self.is_watching = True
        if check is not _pointwise and not check(self, args, kwargs, result):
            if check is _random:
                self.refuse(_name(func), ", which draws random numbers")
            self.refuse(_name(func))
        return result

    def refuse(self, name: str, why: str = ", which isn't element by element") -> NoReturn:
        """End the run.

        Args:
            name: What was about to happen.
            why: Why that won't do.

        Raises:
            NotShareable: Always.
        """
        self.refusals.append(f"step uses {name}{why}")
        raise NotShareable(self.refusals[-1])

    @contextlib.contextmanager
    def escapes_watched(self) -> Iterator[None]:
        """Refuse what reads or changes a tensor behind the operators' back, while watching."""
        guard = self

        def watched(name: str, original: Any) -> Any:
            def method(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
                if guard.is_watching and tensor.numel() > 1:
                    guard.refuse(f"Tensor.{name}", ", which takes values out of a tensor")
                return original(tensor, *args, **kwargs)

            return method

        names = [name for name in _ESCAPES if hasattr(torch.Tensor, name)]
        own = {name: vars(torch.Tensor).get(name) for name in names}
        for name in names:
            setattr(torch.Tensor, name, watched(name, getattr(torch.Tensor, name)))
        try:
            yield
        finally:
            for name, method in own.items():
                if method is None:
                    delattr(torch.Tensor, name)
                else:
                    setattr(torch.Tensor, name, method)


def _name(func: Any) -> str:
    return str(func._schema.name.partition("::")[2])


def _check_of(func: Any) -> Check:
    name = _name(func)
    base = name.rstrip("_")
    if torch.Tag.nondeterministic_seeded in func.tags:
        return _random
    if not func._schema.name.startswith("aten::"):
        return _constant
    if base in _LIKE:
        return _always
    if base in _VIEWS:
        return _same_shape
    if base == "index_put":
        return _masked
    if base in _FUSED:
        return _pointwise
    if base.startswith("_foreach_"):
        base = base.removeprefix("_foreach_")
        if base in _FOREACH_REDUCTIONS:
            return _constant
        packet = getattr(torch.ops.aten, base, None)
        tagged = packet is not None and any(
            torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
        )
    else:
        # torch tags `equal` so as well, which gives one answer for all elements.
        tagged = torch.Tag.pointwise in func.tags and _gives_tensors(func)
    return _pointwise if tagged or base in _POINTWISE else _constant


def _gives_tensors(func: Any) -> bool:
    """Return whether an operator gives tensors alone, of a shape that doesn't depend on values."""
    unforeseen = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return not unforeseen & set(func.tags) and all(
        isinstance(returned.type, torch.TensorType) for returned in func._schema.returns
    )


def _pointwise(guard: Guard, args: Sequence[Any], kwargs: dict[str, Any], _result: Any) -> bool:
    """Return whether all tensors that may hold lanes have them first, and are aligned."""
    lanes, rank, lists = guard.lanes, 0, None
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, torch.Tensor):
            shape = value.shape
            if len(shape) and value.numel() > 1:
                if shape[0] != lanes or (rank and rank != len(shape)):
                    return False
                rank = len(shape)
        elif isinstance(value, list | tuple) and value and isinstance(value[0], torch.Tensor):
            lists = [*(lists or ()), value]
    if lists is None:
        return True
    return all(_pointwise(guard, row, {}, None) for row in zip(*lists, strict=False)) and (
        not rank  # a tensor beside lists is a number for all of them
    )


def _always(_guard: Guard, _args: Any, _kwargs: Any, _result: Any) -> bool:
    return True


def _random(_guard: Guard, _args: Any, _kwargs: Any, _result: Any) -> bool:
    """Never: random numbers of a shared run are not those of a seed's own."""
    return False


def _same_shape(_guard: Guard, args: Sequence[Any], _kwargs: Any, result: Any) -> bool:
    return bool(args[0].numel() == 1 or result.shape == args[0].shape)


def _masked(guard: Guard, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> bool:
    """Return whether it is ``t[mask] = number``, with a mask of the tensor's own shape."""
    if len(args) < 3 or len(args[1]) != 1 or args[1][0] is None:
        return _constant(guard, args, kwargs, result)
    mask = args[1][0]
    return bool(
        mask.dtype == torch.bool
        and mask.shape == args[0].shape
        and args[2].numel() == 1
        and _pointwise(guard, args[:1], {}, None)
    )


def _constant(_guard: Guard, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> bool:
    """Return whether no tensor of several elements is involved: only those hold lanes."""
    return all(
        leaf.numel() <= 1
        for leaf in tree_leaves((list(args), kwargs, result))
        if isinstance(leaf, torch.Tensor)
    )
