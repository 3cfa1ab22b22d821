"""What the objects of an optimizer's classes have in common, seen to stay as it is.

Trials alone get it back as it was (``isolation``). Where an object for each lane takes its turn,
what one writes there is seen by the next, so nothing may be written: on the classes, in their
modules and those of the suite that these use, in closures and defaults of their functions. What is
torch's, Python's or the harness's own is not looked at.
"""

from __future__ import annotations

import functools
import itertools
import random
import sys
import warnings
import weakref
from collections.abc import (
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
)
from dataclasses import dataclass
from types import (
    CellType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np
import torch

from harness.engine.isolation import CONTAINERS, COPIED_ELEMENTS, PLAIN, kinds_of
from harness.suite.locate import is_of_a_suite

FOREIGN = frozenset(("torch", "numpy", "harness", "builtins", *sys.stdlib_module_names))
"""Packages whose state is not looked at."""

FEW = 100
"""Elements of what is compared after each turn; what has more is after all turns of a step."""

DEPTH = 8
"""Containers within containers that are looked into."""

_ABSENT = object()
_HOLDERS = (*CONTAINERS, MutableMapping, MutableSequence, MutableSet, weakref.WeakSet)
_SOURCES = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_CODE = (FunctionType, type, ModuleType, staticmethod, classmethod, property)


@dataclass(frozen=True)
class _Kept:
    """A piece of state: where it is, and what it was."""

    name: str
    now: Callable[[], Any]
    original: Any
    seen: Any
    is_small: bool

    @classmethod
    def of(cls, name: str, now: Callable[[], Any]) -> _Kept:
        value = now()
        return cls(name, now, value, snapshot(value), _size(value) <= FEW)

    def has_changed(self) -> bool:
        value = self.now()
        if value is self.original and isinstance(value, PLAIN):
            return False
        return bool(snapshot(value) != self.seen)


@dataclass
class _Space:
    """The names of a class, a module or a function, and how many there are."""

    owner: str
    names: Mapping[str, Any]
    count: int


class CommonState:
    """The state that objects of some classes have in common, as it is now.

    Args:
        factory: The class, one with a recipe, or what makes an object.
    """

    def __init__(self, factory: Any) -> None:
        self._spaces: list[_Space] = []
        self._functions: list[_Space] = []
        self._kept: list[_Kept] = []
        self._seen: set[int] = set()
        for kind in kinds_of(factory):
            for owner in _code_of(kind):
                self._look_at(owner)
        for name, thing in (getattr(factory, "objects", None) or {}).items():
            self._look_at(thing)
            if _is_state(name, thing):
                self._kept.append(_Kept.of(name, lambda value=thing: value))  # type: ignore[misc]
        self._small: list[_Kept] = []
        self._names: set[str] = set()
        self._sort()

    def look_at_also(self, made: Any) -> None:
        """Keep the state of the classes of an object as well, and of optimizers within it."""
        inner = [v for v in vars(made).values() if isinstance(v, torch.optim.Optimizer)]
        for one in (made, *getattr(made, "members", ()), *inner):
            for owner in _code_of(type(one)):
                self._look_at(owner)
        self._sort()

    def _sort(self) -> None:
        self._small = [kept for kept in self._kept if kept.is_small]
        self._names = {kept.name for kept in self._kept}

    def changed(self, *, all_of_it: bool) -> str:
        """Name what has changed; empty where nothing has.

        Args:
            all_of_it: Whether large containers and tensors are compared as well.
        """
        for space in (*self._spaces, *self._functions) if all_of_it else self._spaces:
            if len(space.names) != space.count and (added := self._added(space)):
                return added
        for kept in self._kept if all_of_it else self._small:
            if kept.has_changed():
                return kept.name
        return ""

    def _added(self, space: _Space) -> str:
        """Name a piece of state that is new; empty where there is none."""
        for name, value in space.names.items():
            known = f"{space.owner}.{name}"
            if known not in self._names and _is_state(name, value):
                return known
        space.count = len(space.names)  # such as a method that torch has wrapped
        return ""

    def _look_at(self, thing: Any) -> None:
        """Keep the state of a class, a function or a module, and of what these use."""
        module = thing.__name__ if isinstance(thing, ModuleType) else _module(thing)
        if id(thing) in self._seen or module.partition(".")[0] in FOREIGN:
            return
        self._seen.add(id(thing))
        if isinstance(thing, FunctionType):
            self._look_at_function(thing)
        elif isinstance(thing, type | ModuleType):
            self._look_into(thing, module)
        if not isinstance(thing, ModuleType) and module in sys.modules:
            self._look_at(sys.modules[module])

    def _look_into(self, thing: type | ModuleType, module: str) -> None:
        space = vars(thing)
        owner = thing.__name__.rpartition(".")[2]
        self._spaces.append(_Space(owner, space, len(space)))
        for name, value in list(space.items()):
            if _is_state(name, value):
                self._keep(f"{owner}.{name}", space, name)
            for used in _code_of(value):
                if _belongs(used, module):
                    self._look_at(used)

    def _look_at_function(self, function: FunctionType) -> None:
        name = function.__qualname__
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for variable, cell in cells:
            value = _content(cell)
            for used in _code_of(value):
                self._look_at(used)
            if _is_state(variable, value):
                self._kept.append(_Kept.of(f"{variable} of {name}", lambda c=cell: _content(c)))  # type: ignore[misc]
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for value in defaults:
            if not isinstance(value, PLAIN) and _is_state("", value):
                self._kept.append(_Kept.of(f"a default of {name}", lambda v=value: v))  # type: ignore[misc]
        own = vars(function)
        self._functions.append(_Space(name, own, len(own)))
        for key, value in own.items():
            if _is_state(key, value):
                self._keep(f"{name}.{key}", own, key)

    def _keep(self, name: str, space: Mapping[str, Any], key: str) -> None:
        self._kept.append(_Kept.of(name, lambda: space.get(key, _ABSENT)))


def snapshot(value: Any, depth: int = DEPTH) -> Any:
    """A copy of a value that equals another with ``==`` where the values are alike.

    Tensors and arrays are told by their bytes, unless they are as large as data; objects by their
    attributes; what can't be looked into by what it is.
    """
    if isinstance(value, (*PLAIN, range)):
        return type(value), value
    if depth == 0:
        return id(value)
    if isinstance(value, torch.Tensor | np.ndarray):
        return _bytes(value)
    if isinstance(value, Mapping):
        items = [(snapshot(k, depth - 1), snapshot(v, depth - 1)) for k, v in value.items()]
        return id(value), items
    if isinstance(value, _HOLDERS):
        return type(value), [snapshot(item, depth - 1) for item in value]
    if isinstance(value, _SOURCES):
        return _state_of_source(value)
    if _is_iterator(value):
        return snapshot(_state_of_iterator(value), depth - 1)
    if _is_own_object(value):
        return type(value), snapshot(vars(value), depth - 1)
    return id(value)


def _bytes(value: torch.Tensor | np.ndarray[Any, Any]) -> Any:
    if isinstance(value, np.ndarray):
        if value.size > COPIED_ELEMENTS or value.dtype.hasobject:
            return id(value)
        return value.shape, value.dtype, value.tobytes()
    if value.numel() > COPIED_ELEMENTS or value.layout is not torch.strided:
        return id(value), value._version
    flat = value.detach().reshape(-1).cpu()
    return value.shape, value.dtype, value._version, flat.view(torch.uint8).numpy().tobytes()


def _state_of_source(value: Any) -> Any:
    """The state of what gives another number each time it is asked."""
    match value:
        case torch.Generator():
            return value.get_state().numpy().tobytes()
        case np.random.Generator():
            return str(value.bit_generator.state)
        case np.random.RandomState():
            return snapshot(value.get_state(legacy=False))
        case random.Random():
            return value.getstate()
    raise TypeError(value)


def _state_of_iterator(value: Any) -> Any:
    """How far an iterator is; where that can't be told, something that equals nothing."""
    if isinstance(value, itertools.count):
        return repr(value)
    if isinstance(value, GeneratorType):
        frame = value.gi_frame
        return None if frame is None else (frame.f_lasti, [*frame.f_locals.items()])
    with warnings.catch_warnings(action="ignore"):  # it goes away in newer versions
        try:
            return value.__reduce__()
        except Exception:
            return object()


def _size(value: Any, depth: int = DEPTH) -> int:
    """How many elements a value has."""
    if isinstance(value, torch.Tensor):
        return value.numel()
    if isinstance(value, np.ndarray):
        return value.size
    if depth and isinstance(value, Mapping):
        return sum(1 + _size(item, depth - 1) for item in value.values())
    if depth and isinstance(value, _HOLDERS):
        return sum(1 + _size(item, depth - 1) for item in value)
    if isinstance(value, _SOURCES):
        return 1000
    if depth and _is_own_object(value):
        return _size(vars(value), depth - 1)
    return 1


def _is_state(name: str, value: Any) -> bool:
    if (name.startswith("__") and name.endswith("__")) or isinstance(value, _CODE):
        return False
    kinds = (*PLAIN, *_HOLDERS, *_SOURCES, torch.Tensor, np.ndarray)
    return isinstance(value, kinds) or _is_iterator(value) or _is_own_object(value)


def _is_iterator(value: Any) -> bool:
    return hasattr(type(value), "__next__")


def _is_own_object(value: Any) -> bool:
    """Tell an object that is neither code nor of a package whose state is not looked at."""
    if isinstance(value, SimpleNamespace):
        return True
    package = _module(type(value)).partition(".")[0]
    has_attributes = isinstance(getattr(value, "__dict__", None), dict)
    return has_attributes and not isinstance(value, _CODE) and package not in FOREIGN


def _module(thing: Any) -> str:
    found = getattr(thing, "__module__", None)
    return found if isinstance(found, str) else ""


def _belongs(thing: Any, module: str) -> bool:
    """Tell what is a module's own, or of another file of a suite."""
    own = thing.__name__ if isinstance(thing, ModuleType) else _module(thing)
    return own == module or is_of_a_suite(own)


def _code_of(value: Any) -> Iterator[Any]:
    """The functions, classes and modules that a value is or stands for."""
    if isinstance(value, type):
        yield from value.__mro__
    elif isinstance(value, FunctionType | ModuleType):
        yield value
    elif isinstance(value, functools.partial):
        yield from _code_of(value.func)
    elif isinstance(value, MethodType):
        yield value.__func__
        yield from type(value.__self__).__mro__
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif isinstance(value, property):
        yield from (f for f in (value.fget, value.fset) if f is not None)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return _ABSENT
