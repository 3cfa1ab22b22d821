"""Settings of a whole process, which a suite's file or a trial must not leave to the next."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.suite.random_state import kept_random_state


@dataclass(frozen=True)
class _Setting:
    """One setting: what it is called, how it is read and how it is put back."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _attribute(of: Any, name: str, called: str) -> _Setting:
    return _Setting(called, lambda: getattr(of, name), lambda value: setattr(of, name, value))


def _autocast(device: str) -> _Setting:
    return _Setting(
        f"autocast on {device}",
        lambda: torch.is_autocast_enabled(device),
        lambda value: torch.set_autocast_enabled(device, value),
    )


def _settings() -> Iterator[_Setting]:
    yield _Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield _Setting(
        "torch's default device",
        torch.get_default_device,
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    )
    yield _Setting("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled)
    yield _Setting(
        "torch's anomaly detection",
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda value: torch.set_anomaly_enabled(*value),
    )
    yield _Setting("torch's threads", torch.get_num_threads, torch.set_num_threads)
    yield _Setting(
        "torch's deterministic algorithms",
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    )
    yield _Setting(
        "torch's precision of matrix products",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    )
    yield from map(_autocast, ("cpu", "cuda"))
    for name in ("enabled", "benchmark", "deterministic"):
        yield _attribute(torch.backends.cudnn, name, f"cuDNN's {name!r}")
    yield _attribute(torch.backends.mkldnn, "enabled", "oneDNN's 'enabled'")
    yield _attribute(torch, "default_generator", "torch's default generator")
    yield _Setting("numpy's handling of errors", np.geterr, lambda value: np.seterr(**value))


def as_they_are() -> dict[str, Any]:
    """The settings of torch and numpy by name."""
    return {setting.name: setting.read() for setting in _settings()}


@contextlib.contextmanager
def settings_kept() -> Iterator[list[str]]:
    """Put back settings of torch and numpy.

    Yields:
        A list that has the names of what was changed, once the block is left.
    """
    before = [(setting, setting.read()) for setting in _settings()]
    changed: list[str] = []
    try:
        yield changed
    finally:
        for setting, value in before:
            if setting.read() != value:
                setting.write(value)
                changed.append(setting.name)
        torch.set_flush_denormal(False)  # which can't be read, and is so from the start


@contextlib.contextmanager
def kept() -> Iterator[list[str]]:
    """Put back what holds for the whole process: settings, random numbers, filters of warnings.

    Yields:
        A list that has the names of settings that were changed, once the block is left. Random
        numbers and filters are not among them: most seeds and filters mean nobody else.
    """
    with kept_random_state(), warnings.catch_warnings(), settings_kept() as changed:
        yield changed
