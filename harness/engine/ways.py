"""The ways in which an optimizer's code runs: alone, or for several lanes at once.

Alone, an optimizer has one trial's parameters, and runs as its author wrote it. Op by op
(``pointwise``), it has tensors with the lanes as their first dimension, and every operator is
watched. Lane by lane (``vmapped``), all of its code, constructor included, runs inside ``vmap``:
a tensor is a trial's own wherever the code looks, and what can't be done per lane raises. With own
optimizers, each lane has an object of its own, whose code runs as written (``own_optimizers``).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch._C import _functorch
from torch.utils._python_dispatch import _disable_current_modes
from typing_extensions import override

from harness.engine.lane_functions import LaneFunctions, lane_level, lanes_of
from harness.engine.lane_operators import Guard
from harness.engine.lane_values import NotShareable, lane_arithmetic
from harness.results import Way


def start(
    way: Way, leaves: Sequence[torch.Tensor], refusals: list[str], *, with_vectors: bool
) -> Surroundings:
    """Make the surroundings of an optimizer's code.

    Args:
        way: Which; but for own optimizers, see ``own_optimizers``.
        leaves: The parameters that are trained, lanes first unless alone.
        refusals: Where it is noted that something could not be shared.
        with_vectors: Whether some hyperparameters have a value per lane.
    """
    if way == "alone":
        return Surroundings(leaves)
    kind = Pointwise if way == "pointwise" else Vmapped
    return kind(leaves, refusals, with_vectors=with_vectors)


def uncompiled() -> AbstractContextManager[Any]:
    """Let compiled functions run as they are written.

    A mode that is on while a compiled function runs makes torch skip its compilation for good.
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


class Surroundings:
    """Surroundings of an optimizer's code; as they stand: alone.

    Args:
        leaves: The parameters that are trained.

    Attributes:
        params: The tensors that the optimizer is given.
    """

    def __init__(self, leaves: Sequence[torch.Tensor]) -> None:
        self.leaves = list(leaves)
        self.params: list[torch.Tensor] = self.leaves
        self._before: list[torch.Tensor] = []
        self._grads: list[torch.Tensor | None] = []
        self._versions: list[int] = []
        self._doubts: list[torch.Tensor] = []
        self._may_wait = all(leaf.device.type == "cpu" for leaf in leaves)

    def run(self, factory: Any) -> AbstractContextManager[Any]:
        """Be entered around a whole run of an optimizer's class."""
        del factory
        return nullcontext()

    def inside(self) -> AbstractContextManager[Any]:
        """Be entered around all of the optimizer's code."""
        return nullcontext()

    def outside(self) -> AbstractContextManager[Any]:
        """Be entered where the optimizer's code calls back, to evaluate its closure."""
        return nullcontext()

    def evaluated(self) -> None:
        """Note that the leaves have new gradients; give them to the optimizer."""
        self._grads = [leaf.grad for leaf in self.leaves]
        now = self._watched()
        if len(self._before) != len(now):
            self._before = [torch.empty_like(tensor) for tensor in now]
        with torch.no_grad():
            torch._foreach_copy_(self._before, now)
        self._versions = [tensor._version for tensor in now]

    def is_as_evaluated(self) -> bool:
        """Return whether parameters and gradients are what they were at the last evaluation.

        A gradient that was set aside (``zero_grad``) is put back. Values are compared: version
        counters miss what is written through ``.data``. On a device for which nobody waits, the
        counters are believed until :meth:`settle`.
        """
        now = self._watched()
        if self._may_wait:
            if not all(map(is_equal, now, self._before)):
                return False
        elif self._versions != [tensor._version for tensor in now]:
            return False
        else:
            self._doubts += [_differ(a, b) for a, b in zip(now, self._before, strict=True)]
        return self._gradients_restored()

    def _gradients_restored(self) -> bool:
        """Put back gradients that were set aside; always true."""
        for leaf, grad in zip(self.leaves, self._grads, strict=True):
            if leaf.grad is not grad:
                leaf.grad = grad
        return True

    def settle(self) -> None:
        """Wait for the device, and see whether the counters told the truth.

        Raises:
            RuntimeError: If a closure was answered with what was evaluated elsewhere.
        """
        if self._doubts and bool(torch.stack(self._doubts).any()):
            raise RuntimeError(
                "the optimizer changes parameters through .data before it evaluates its closure, "
                "which can't be seen on this device; change them under torch.no_grad()"
            )
        self._doubts.clear()

    def _watched(self) -> list[torch.Tensor]:
        grads = [g for g in self._grads if g is not None and g.layout == torch.strided]
        return [*self.leaves, *grads]

    def shown(self, losses: torch.Tensor) -> torch.Tensor:
        """The losses as a closure gives them to the optimizer."""
        return losses

    def plain(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Tensors that the optimizer's code has made, lanes first unless alone."""
        return list(tensors)

    def check(self) -> None:
        """Raise what an optimizer has caught and must not; called after its code has run."""


class Versions(Surroundings):
    """Alone, believing version counters: for steps that are timed, whose numbers nobody reads.

    So a step takes no longer than in a loop without a harness.
    """

    @override
    def evaluated(self) -> None:
        self._grads = [leaf.grad for leaf in self.leaves]
        self._versions = [tensor._version for tensor in self._watched()]

    @override
    def is_as_evaluated(self) -> bool:
        if self._versions != [tensor._version for tensor in self._watched()]:
            return False
        return self._gradients_restored()


def is_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Compare two tensors; NaN equals NaN."""
    return torch.equal(a, b) or (a.shape == b.shape and not bool(_differ(a, b)))


def _differ(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return ((a != b) & ~(a.isnan() & b.isnan())).any()


class _Shared(Surroundings):
    """Lanes share tensors."""

    def __init__(
        self, leaves: Sequence[torch.Tensor], refusals: list[str], *, with_vectors: bool
    ) -> None:
        super().__init__(leaves)
        self.refusals = refusals
        self.lanes = len(leaves[0])
        self.with_vectors = with_vectors

    @override
    @contextlib.contextmanager
    def run(self, factory: Any) -> Iterator[None]:
        with uncompiled(), lane_arithmetic(factory) if self.with_vectors else nullcontext():
            yield

    @override
    def check(self) -> None:
        if self.refusals:
            raise NotShareable(self.refusals[0])
        if any(map(has_hooks, self.params)):
            raise NotShareable("the optimizer hooks into the backward pass")


def has_hooks(tensor: torch.Tensor) -> bool:
    """Return whether something runs whenever a tensor's gradient is computed."""
    return bool(tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None))


class Pointwise(_Shared):
    """Op by op: lanes are the first dimension of every tensor, and each operator is watched."""

    def __init__(
        self, leaves: Sequence[torch.Tensor], refusals: list[str], *, with_vectors: bool
    ) -> None:
        super().__init__(leaves, refusals, with_vectors=with_vectors)
        self._guard = Guard(self.lanes, refusals)
        self._memory: list[int] = []
        self._functions = None
        if with_vectors:
            self._functions = LaneFunctions(self.lanes, refusals, in_vmap=False)

    @override
    @contextlib.contextmanager
    def run(self, factory: Any) -> Iterator[None]:
        with super().run(factory), self._guard.escapes_watched():
            yield

    @override
    def inside(self) -> AbstractContextManager[Any]:
        if self._functions is None:
            return self._guard
        stack = ExitStack()
        stack.enter_context(self._functions)
        stack.enter_context(self._guard)
        return stack

    @override
    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        watching, self._guard.is_watching = self._guard.is_watching, False
        try:
            with torch._C.DisableTorchFunction(), _disable_current_modes():
                yield
        finally:
            self._guard.is_watching = watching

    @override
    def evaluated(self) -> None:
        self._grads = [leaf.grad for leaf in self.leaves]
        self._memory = self._places()
        self._guard.has_written = False

    @override
    def is_as_evaluated(self) -> bool:
        # `p.data = ...` is no operator, but gives a parameter other memory.
        if self._guard.has_written or self._memory != self._places():
            return False
        return self._gradients_restored()

    def _places(self) -> list[int]:
        grads = (g for g in self._grads if g is not None)
        with torch._C.DisableTorchFunction():  # the one that is watched
            return [torch._C.TensorBase.data_ptr(tensor) for tensor in (*self.leaves, *grads)]


class Vmapped(_Shared):
    """Lane by lane: inside ``vmap``, which is entered and left around each of the code's turns.

    What the optimizer keeps between two turns stays as it is: a tensor of a level of ``vmap`` is
    the same tensor when that level, with the same lanes, is entered again.
    """

    def __init__(
        self, leaves: Sequence[torch.Tensor], refusals: list[str], *, with_vectors: bool
    ) -> None:
        super().__init__(leaves, refusals, with_vectors=with_vectors)
        self._functions = LaneFunctions(self.lanes, refusals, in_vmap=True)
        self._has_new_gradients = False
        with lane_level(self.lanes):
            self.params = [torch.nn.Parameter(lanes_of(leaf.detach())) for leaf in leaves]

    @override
    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        with lane_level(self.lanes), self._functions:
            self._give_gradients()
            yield

    @override
    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        _functorch._vmap_decrement_nesting()
        try:
            with torch._C.DisableTorchFunction():
                yield
        finally:
            _functorch._vmap_increment_nesting(self.lanes, "error")
            self._give_gradients()

    @override
    def evaluated(self) -> None:
        super().evaluated()
        self._has_new_gradients = True

    @override
    def is_as_evaluated(self) -> bool:
        if not super().is_as_evaluated():
            return False
        self._has_new_gradients = True
        self._give_gradients()
        return True

    def _give_gradients(self) -> None:
        if not self._has_new_gradients:
            return
        self._has_new_gradients = False
        for param, leaf in zip(self.params, self.leaves, strict=True):
            param.grad = None if leaf.grad is None else lanes_of(leaf.grad)

    @override
    def shown(self, losses: torch.Tensor) -> torch.Tensor:
        return lanes_of(losses)

    @override
    def plain(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        found = []
        for tensor in tensors:
            if _functorch.is_batchedtensor(tensor):
                place = _functorch.maybe_get_bdim(tensor)
                found.append(_functorch.get_unwrapped(tensor).movedim(place, 0))
            else:
                found.append(tensor.expand(self.lanes, *tensor.shape))
        return found
