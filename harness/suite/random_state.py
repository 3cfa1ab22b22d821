"""The global random number generators, which belong to the whole process."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

GENERATORS = {
    "torch": "torch's global generator",
    "numpy": "numpy's global generator",
    "random": "Python's random module",
}
"""The global generators, in words."""


@contextlib.contextmanager
def kept_random_state(device: torch.device | None = None) -> Iterator[None]:
    """Leave every global generator as it was, that of a device among them."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    elsewhere = device is not None and device.type not in ("cpu", "meta")
    devices = [device] if device is not None and elsewhere else []
    kind = device.type if device is not None and elsewhere else "cuda"
    try:
        with torch.random.fork_rng(devices, device_type=kind):
            yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)


def random_state() -> dict[str, Any]:
    """The state of every global generator, comparable with ``==``."""
    _, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (np.asarray(keys).tobytes(), *rest),
        "random": random.getstate(),
    }


def drawn_from(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Names of the global generators whose state changed."""
    return {name for name, state in before.items() if state != after[name]}


def generators(names: Iterable[str]) -> str:
    """Generators in words."""
    return " and ".join(GENERATORS[name] for name in sorted(names))
