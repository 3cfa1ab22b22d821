"""A mistake that no error tells: a column against a row of the same rows gives a square."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Shape = tuple[int, ...]


class _Watch(TorchDispatchMode):
    """Notes each operation that spreads ``(rows, 1)`` against ``(rows,)`` to ``(rows, rows)``."""

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
        given = [tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]
        row, column, square = (self._rows,), (self._rows, 1), (self._rows, self._rows)
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and tuple(result.shape) == square:
            both = torch.Tag.pointwise in func.tags and {row, column} <= set(given)
            # A loss of torch.nn.functional spreads what it is given first.
            spread = func is torch.ops.aten.expand.default and given == [row]
            if both or spread:
                self.seen.append((column, row))
        return result


def watched(
    loss: Callable[[Any, Any], object],
    params: Callable[[], Any],
    rows: tuple[torch.Tensor, ...] | None,
) -> tuple[object, str]:
    """What a loss gives, and whether it spreads a column of numbers per row against a row of them.

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
    column, row = watch.seen[0]
    text = f"spreads {column} against {row} to ({count}, {count}); squeeze the one"
    return value, f"{text}, or where every pair is meant, unsqueeze(0) the other"
