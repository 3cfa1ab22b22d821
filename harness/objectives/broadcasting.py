"""A mistake that no error tells: a column against a row of the same rows gives a square."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Shape = tuple[int, ...]


class _Watch(TorchDispatchMode):
    """Notes operations that spread rows against rows: ``(rows, 1)`` and ``(rows,)``, say."""

    def __init__(self, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rows = rows
        self.seen: list[tuple[Shape, Shape]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]
        if isinstance(result, torch.Tensor) and torch.Tag.pointwise in func.tags:
            for one, other in itertools.permutations(given, 2):
                self._note(one, other, tuple(result.shape))
        elif func is torch.ops.aten.expand.default:
            # A loss of torch.nn.functional spreads what it is given first.
            shape = tuple(args[1])
            spread = len(shape) - len(given[0])
            self._note((*shape[:spread], 1, *shape[spread + 1 :]), given[0], shape)
        return result

    def _note(self, long: Shape, short: Shape, result: Shape) -> None:
        """Note two shapes whose rows are led into different dimensions of the result."""
        place = len(long) - len(short)
        if (
            place > 0
            and long[:1] == short[:1] == result[:1] == (self._rows,)
            and long[place] == 1
            and result[place] == self._rows
        ):
            self.seen.append((long, short))


def watched(
    loss: Callable[[Any, Any], object],
    params: Callable[[], Any],
    rows: tuple[torch.Tensor, ...] | None,
) -> tuple[object, str]:
    """Evaluate a loss, and say if it spreads a column of numbers per row against a row of them.

    ``(output - labels).square().mean()`` of shapes ``(rows, 1)`` and ``(rows,)`` is a number, and
    the wrong one. To be sure that the dimensions are those of the rows, and alike by no accident,
    a second number of rows must show it.

    Args:
        loss: What is tried, with parameters and rows; it may raise.
        params: Gives parameters anew.
        rows: The rows to try it on, of which there may be none.

    Returns:
        What it gives, and the end of a sentence; empty where it does not.
    """
    if rows is None:
        return loss(params(), rows), ""
    count = len(rows[0])
    fewer = tuple(tensor[: count - 1].clone() for tensor in rows)
    watch = _Watch(count)
    with watch:
        value = loss(params(), rows)
    if not watch.seen or count < 3:
        return value, ""
    again = _Watch(count - 1)
    with contextlib.suppress(Exception), again:
        loss(params(), fewer)
    if not again.seen:
        return value, ""
    long, short = watch.seen[0]
    text = f"broadcasts {long} against {short}, every row with every other; squeeze the one"
    return value, f"{text}, or unsqueeze(0) the other if that is intended"
