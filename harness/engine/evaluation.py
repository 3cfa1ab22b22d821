"""The size of an evaluation: how many lanes see all rows of a part together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CACHE_BYTES = 2**20
"""Bytes of an intermediate result that a core's cache holds."""

FEWEST = 4
"""Lanes that are faster evaluated together than one by one, if they fit into the cache."""


def lanes_at_once(evaluate: Callable[[], object], numbers: int) -> int:
    """The number of lanes whose largest intermediate result fits into the cache together.

    It goes by sizes alone, so it is the same on every machine.

    Args:
        evaluate: Evaluates one lane.
        numbers: The bytes of one number for each row, the least that there is.

    Returns:
        1 where lanes are faster evaluated one by one.
    """
    largest = _Largest()
    with largest, torch.no_grad():
        evaluate()
    count = CACHE_BYTES // max(1, numbers, largest.nbytes)
    return count if count >= FEWEST else 1


class _Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that an operator makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    self.nbytes = max(self.nbytes, leaf.numel() * leaf.element_size())
        return result
