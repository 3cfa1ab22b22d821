"""Random numbers of a loss, drawn for each lane as its trial alone would draw them.

Alone, dropout and the like draw from torch's global generator, which has the state of the trial's
seed (``isolation``). Side by side, ``vmap`` asks for the numbers of all lanes at once. Here each
lane's share is drawn by the very operator that was seen in a run of the loss alone, on tensors of
the same shape, order in memory and precision, from a state of the generator that is the lane's
own. So a trial gets the same bits, whoever it runs with. What isn't known for certain ends the
shared run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.engine.isolation import seed_of_torch
from harness.engine.lane_values import NotShareable

_FILLS = frozenset(
    (
        *("bernoulli_.float", "uniform_.default", "normal_.default", "exponential_.default"),
        *("random_.default", "random_.from", "random_.to", "cauchy_.default"),
        *("log_normal_.default", "geometric_.default"),
        *("rand_like.default", "randn_like.default", "bernoulli.p"),
        *("randint_like.default", "randint_like.low_dtype"),
    )
)
"""Fill a tensor, or one like it, whatever it holds."""

_OF_SIZES = frozenset(
    ("rand.default", "randn.default", "randint.default", "randint.low", "normal.float_float")
)
"""Make a tensor of a size."""

_OF_VALUES = frozenset(
    (
        *("bernoulli.default", "bernoulli_.Tensor", "multinomial.default", "poisson.default"),
        *("normal.Tensor_float", "normal.float_Tensor", "normal.Tensor_Tensor"),
        *("binomial.default", "_standard_gamma.default", "_sample_dirichlet.default"),
        *("native_dropout.default",),
    )
)
"""Draw by what is in a tensor, or compute with it."""

_MERGED = "multinomial.default"
"""Takes rows, of which ``vmap`` gives it those of all lanes together."""

_PERMUTATION = "randperm.default"
"""What ``vmap`` asks for lane by lane."""

_KNOWN = _FILLS | _OF_SIZES | _OF_VALUES | {_PERMUTATION}

_WITHOUT_EFFECT = frozenset(("generator", "pin_memory", "layout"))
"""Arguments that say nothing of the numbers; a generator among them is refused by itself."""


@dataclass(frozen=True)
class _Call:
    """An operator with its arguments, by name and with all defaults."""

    func: Any
    tensors: dict[str, torch.Tensor]
    size: tuple[int, ...] | None
    rest: dict[str, Any]

    @classmethod
    def of(cls, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> _Call:
        given = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
        given |= dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        tensors = {name: v for name, v in given.items() if isinstance(v, torch.Tensor)}
        size = given.get("size")
        rest = {
            name: value
            for name, value in given.items()
            if name not in tensors and name not in _WITHOUT_EFFECT and name != "size"
        }
        return cls(func, tensors, None if size is None else tuple(size), rest)

    @property
    def device(self) -> torch.device:
        for tensor in self.tensors.values():
            return tensor.device
        return torch.device(self.rest.get("device") or "cpu")


Order = tuple[int, ...]
"""Dimensions of a tensor without gaps, from the longest stride to the shortest."""


@dataclass(frozen=True)
class Draw:
    """An operator that drew random numbers in a run of the loss alone.

    Attributes:
        func: The operator.
        orders: How its tensors lie in memory, by the names of its arguments.
        rank: Number of dimensions of the size that it was given, if it was.
        rest: Its other arguments, by name.
    """

    func: Any
    orders: dict[str, Order]
    rank: int | None
    rest: dict[str, Any]


@dataclass(frozen=True)
class Draws:
    """What a loss draws from torch's global generators, in order.

    Attributes:
        calls: One per operator that draws.
        quiet: Operators that may draw, and did not.
        unknown: Why its numbers can't be drawn for lanes; empty if they can, or there are none.
    """

    calls: tuple[Draw, ...] = ()
    quiet: frozenset[Any] = frozenset()
    unknown: str = ""

    def __bool__(self) -> bool:
        return bool(self.calls or self.unknown)


def draws_of(loss: Callable[[], object]) -> Draws:
    """See what a loss draws.

    Args:
        loss: Evaluates it for one trial; if it raises, nothing is said. Generators are left as
            it leaves them.
    """
    seen = _Seen()
    try:
        with seen:
            loss()
    except Exception:
        return Draws()
    both = seen.quiet & {draw.func for draw in seen.calls}
    unknown = f"{next(iter(both))} draws random numbers at times" if both else ""
    return Draws(tuple(seen.calls), frozenset(seen.quiet), seen.unknown or unknown)


class _Seen(TorchDispatchMode):
    """Notes the operators that draw."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Draw] = []
        self.quiet: set[Any] = set()
        self.unknown = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        call = _Call.of(func, args, kwargs)
        orders = {name: _order(tensor) for name, tensor in call.tensors.items()}
        before = _generator(call.device).get_state()
        result = func(*args, **kwargs)
        why = ""
        if kwargs.get("generator") is not None:
            why = f"{func} draws from a generator of its own"
        elif torch.equal(before, _generator(call.device).get_state()):
            self.quiet.add(func)
            return result
        elif _name(func) not in _KNOWN:
            why = f"{func} draws random numbers"
        elif None in orders.values():
            why = f"{func} draws for a tensor with gaps"
        self.unknown = self.unknown or why
        known = {name: order for name, order in orders.items() if order is not None}
        rank = None if call.size is None else len(call.size)
        self.calls.append(Draw(func, known, rank, call.rest))
        return result


class LaneRandom(TorchDispatchMode):
    """Draws the numbers of each lane from a state of the generator that is its own.

    To be entered around a ``vmap`` that lets lanes have different random numbers.

    Args:
        draws: What the loss draws alone.
        seeds: Of the lanes' trials.
    """

    def __init__(self, draws: Draws, seeds: Sequence[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._draws = draws
        # Lanes of one seed draw the same, unless it depends on what they hold.
        alike = not any(_name(draw.func) in _OF_VALUES for draw in draws.calls)
        own = list(dict.fromkeys(seeds)) if alike else list(seeds)
        self._seeds = own
        self._all = [own.index(seed) for seed in seeds] if alike else [*range(len(seeds))]
        self._states: dict[torch.device, list[torch.Tensor]] = {}
        self._refusal = ""
        self._next = self._turn = 0
        self._ready: dict[int, Any] = {}
        self.go_on_with(range(len(seeds)))

    def go_on_with(self, lanes: Sequence[int]) -> None:
        """Draw from now on for some of the lanes alone, by their places among all."""
        self._source = [self._all[lane] for lane in lanes]
        self._first = {source: self._source.index(source) for source in self._source}
        order = {source: place for place, source in enumerate(self._first)}
        self._places = torch.tensor([order[source] for source in self._source])

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Be entered around one evaluation of the loss of all lanes.

        Raises:
            NotShareable: If it does not draw what it draws alone.
        """
        self._next = self._turn = 0
        with self:
            yield
        if self._refusal:  # which the objective may have caught
            raise NotShareable(self._refusal)
        if self._next != len(self._draws.calls):
            self._refuse("side by side, the loss draws fewer random numbers than alone")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or func in self._draws.quiet:
            return func(*args, **kwargs)
        if self._draws.unknown:
            self._refuse(f"{self._draws.unknown}, which only a trial alone can")
        if self._next == len(self._draws.calls):
            self._refuse(f"side by side, the loss draws more random numbers than alone ({func})")
        draw = self._draws.calls[self._next]
        call = _Call.of(func, args, kwargs)
        # Side by side, vmap takes the one for the other.
        is_dropout = (_name(func), _name(draw.func)) == ("bernoulli.p", "bernoulli_.float")
        if (func != draw.func and not is_dropout) or call.rest != draw.rest:
            self._refuse(f"side by side, the loss draws otherwise than alone ({func})")
        if _name(func) == _PERMUTATION:
            return self._permutation(call)
        self._next += 1
        return self._drawn(draw, call)

    def _permutation(self, call: _Call) -> torch.Tensor:
        """The next lane's permutation."""
        if self._turn == 0:
            self._ready = self._each(call.device, lambda _: call.func(**call.rest))
        result: torch.Tensor = self._ready[self._source[self._turn]]
        self._turn = (self._turn + 1) % len(self._source)
        self._next += self._turn == 0
        return result.clone()

    def _drawn(self, draw: Draw, call: _Call) -> Any:
        """What an operator draws for all lanes, lanes first."""
        lanes = len(self._source)
        merged = _name(draw.func) == _MERGED and len(draw.orders["self"]) == 2
        tensors = call.tensors
        if merged:
            tensors = {name: t.unflatten(0, (lanes, -1)) for name, t in tensors.items()}
        ranks = {name: len(order) for name, order in draw.orders.items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if call.size is not None and draw.rank is not None:
            ranks["size"], shapes["size"] = draw.rank, call.size
        if {k: (len(s) - 1, s[:1]) for k, s in shapes.items()} != {
            k: (rank, (lanes,)) for k, rank in ranks.items()
        }:
            self._refuse(f"side by side, the loss draws otherwise than alone ({draw.func})")
        keeps = _name(draw.func) in _OF_VALUES

        def of_lane(lane: int) -> Any:
            own = {}
            for name, tensor in tensors.items():
                value, order = tensor[lane], draw.orders[name]
                fits = call.func is draw.func and _lies_so(value, order)
                own[name] = value if fits else _in_order(value, order, keeps=keeps)
            size = {} if call.size is None else {"size": call.size[1:]}
            return draw.func(**own, **size, **draw.rest)

        drawn = self._each(call.device, of_lane)
        if _name(call.func).partition(".")[0].endswith("_"):
            for lane, source in enumerate(self._source):
                tensors["self"][lane].copy_(drawn[source])
            return tensors["self"]
        own = list(drawn.values())
        if isinstance(own[0], tuple):
            return tuple(map(self._together, zip(*own, strict=True)))
        return self._together(own).flatten(0, 1) if merged else self._together(own)

    def _together(self, drawn: Sequence[torch.Tensor]) -> torch.Tensor:
        """Tensors of the states in use as those of all lanes."""
        stacked = torch.stack(list(drawn))
        if len(self._source) == len(drawn):
            return stacked
        return stacked.index_select(0, self._places.to(stacked.device))

    def _each(self, device: torch.device, draw: Callable[[int], Any]) -> dict[int, Any]:
        """What is drawn from each state in use; the global generator keeps its own."""
        generator = _generator(device)
        if device not in self._states:
            self._states[device] = [
                torch.Generator(device).manual_seed(seed_of_torch(seed)).get_state()
                for seed in self._seeds
            ]
        states, before, drawn = self._states[device], generator.get_state(), {}
        try:
            for source, lane in self._first.items():
                generator.set_state(states[source])
                drawn[source] = draw(lane)
                states[source] = generator.get_state()
        finally:
            generator.set_state(before)
        return drawn

    def _refuse(self, why: str) -> NoReturn:
        self._refusal = self._refusal or why
        raise NotShareable(why)


def _name(func: Any) -> str:
    """An operator's name and overload."""
    return str(func).removeprefix("aten.")


def _generator(device: torch.device) -> torch.Generator:
    """The global generator of a device."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        of_device: torch.Generator = torch.cuda.default_generators[index]
        return of_device
    return torch.default_generator


def _order(tensor: torch.Tensor) -> Order | None:
    """How a tensor lies in memory; None if it has gaps, or elements in one place."""
    strides = tensor.stride()
    order = tuple(sorted(range(tensor.dim()), key=lambda i: (-strides[i], i)))
    return order if _lies_so(tensor, order) else None


def _strides(shape: Sequence[int], order: Order) -> list[int]:
    """Strides of a tensor without gaps."""
    strides, step = [0] * len(shape), 1
    for dimension in reversed(order):
        strides[dimension] = step
        step *= max(shape[dimension], 1)
    return strides


def _lies_so(tensor: torch.Tensor, order: Order) -> bool:
    wanted = _strides(tensor.shape, order)
    of_each = zip(tensor.shape, tensor.stride(), wanted, strict=True)
    return all(size <= 1 or own == stride for size, own, stride in of_each)


def _in_order(tensor: torch.Tensor, order: Order, *, keeps: bool) -> torch.Tensor:
    """A tensor like another, in an order in memory; with the same numbers where they count."""
    own = torch.empty_strided(
        tensor.shape, _strides(tensor.shape, order), dtype=tensor.dtype, device=tensor.device
    )
    return own.copy_(tensor) if keeps else own
