"""The global random number generators, which belong to the whole process."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


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
