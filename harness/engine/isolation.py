"""Isolation of trials from each other: of global random numbers, and of state on classes.

A trial's own randomness comes from generators of its own (``workload.generator``). Code that draws
from Python's, numpy's or torch's global generator gets numbers that the trial's seed decides as
well, and no others.
"""

from __future__ import annotations

import copy
import functools
import random
import sys
from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from typing import Any

import numpy as np
import torch

from harness.seeds import NUMPY_STREAM, SEED_LIMIT, TORCH_STREAM
from harness.suite.locate import is_of_a_suite

PLAIN = (bool, int, float, complex, str, bytes, type(None))
CONTAINERS = (dict, list, set, tuple, frozenset)
COPIED_ELEMENTS = 1_000_000
"""Tensors and arrays on a class or in a module that are larger than this are taken for data."""


def seed_globals(seed: int | None) -> None:
    """Put every global generator in the state that belongs to a trial's seed.

    No two of the streams are the same, nor is any that of a trial's own generators.

    Args:
        seed: The trial's; None for a shared run, whose numbers belong to no trial.
    """
    place = SEED_LIMIT if seed is None else seed
    _seed_torch(seed_of_torch(place))
    np.random.seed(NUMPY_STREAM + place)
    random.seed(f"trial {place}")


def seed_of_torch(seed: int) -> int:
    """The seed of torch's global generators, given that of a trial."""
    return TORCH_STREAM + seed


def _seed_torch(seed: int) -> None:
    """As ``torch.manual_seed``, which walks through the stack for each device that isn't used."""
    torch.default_generator.manual_seed(seed)
    for device in (torch.cuda, torch.xpu):
        if device.is_initialized():
            device.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


class ClassState:
    """State of the classes and modules of an optimizer or an objective, before any trial.

    A counter on the class, or a list that all its objects share, would hand something of one trial
    to the next. Numbers, texts, containers, tensors and arrays are kept and put back; anything
    else is left alone.

    Args:
        factory: The class, or what makes an object of one.
    """

    def __init__(self, factory: Any) -> None:
        self._holders = [
            (holder, {k: (v, _copied(v)) for k, v in _namespace(holder).items() if _is_state(k, v)})
            for holder in _holders(factory)
        ]

    def restore(self) -> None:
        """Put everything back."""
        for holder, kept in self._holders:
            now = _namespace(holder)
            for name in [k for k, v in now.items() if k not in kept and _is_state(k, v)]:
                delattr(holder, name)
            for name, (original, copied) in kept.items():
                if now.get(name, kept) is not original:
                    setattr(holder, name, original)
                if not isinstance(original, PLAIN) and not _is_same(original, copied):
                    _refill(holder, name, original, copied)


def kinds_of(factory: Any) -> tuple[Any, ...]:
    """The classes behind an optimizer's or objective's: several where it has a recipe."""
    kinds = getattr(factory, "kinds", None) if not isinstance(factory, type) else None
    return kinds if isinstance(kinds, tuple) else (factory,)


def restore_classes(factory: Any) -> None:
    """Put back the state of all classes of an optimizer or objective."""
    for kind in kinds_of(factory):
        class_state(kind).restore()


@functools.cache
def class_state(factory: Any) -> ClassState:
    """The state of its classes and modules, as it was when first asked for."""
    return ClassState(factory)


def _holders(factory: Any) -> Iterator[Any]:
    """The classes of something, but torch's and Python's own, and their suite's modules."""
    classes = factory.__mro__ if isinstance(factory, type) else ()
    own = [c for c in classes if c.__module__.partition(".")[0] not in ("torch", "builtins")]
    yield from own
    names = {getattr(c, "__module__", None) or "" for c in (*own, factory)}
    yield from (sys.modules[n] for n in sorted(names) if is_of_a_suite(n) and n in sys.modules)


def _namespace(holder: Any) -> dict[str, Any]:
    return dict(vars(holder))


def _is_state(name: str, value: Any) -> bool:
    if name.startswith("__") and name.endswith("__"):
        return False
    if isinstance(value, torch.Tensor):
        return value.numel() <= COPIED_ELEMENTS
    if isinstance(value, np.ndarray):
        return value.size <= COPIED_ELEMENTS
    return isinstance(value, PLAIN + CONTAINERS + (MutableMapping, MutableSequence, MutableSet))


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:
        return value  # can't be copied, so can't be put back


def _is_same(value: Any, copied: Any) -> bool:
    try:
        if isinstance(value, torch.Tensor):
            return bool(torch.equal(value, copied))
        if isinstance(value, np.ndarray):
            return bool(np.array_equal(value, copied, equal_nan=value.dtype.kind in "fc"))
        return bool(value == copied)
    except Exception:
        return False  # holds tensors or arrays: put back in any case


def _refill(holder: Any, name: str, value: Any, copied: Any) -> None:
    """Give something its content back, in place where others may hold it as well."""
    fresh = _copied(copied)
    if isinstance(value, torch.Tensor):
        with torch.no_grad():
            value.data.copy_(fresh)
    elif isinstance(value, dict | MutableMapping):
        value.clear()
        value.update(fresh)
    elif isinstance(value, list | MutableSequence):
        value[:] = fresh
    elif isinstance(value, set | MutableSet):
        value.clear()
        for item in fresh:
            value.add(item)
    elif isinstance(value, np.ndarray):
        value[...] = fresh
    else:
        setattr(holder, name, fresh)
