"""Checks of what networks are given."""

from __future__ import annotations

from collections.abc import Sequence

from harness.objectives.dataset import Dataset


def check_whole(name: str, value: object) -> None:
    """Refuse anything but a whole number above zero."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number above zero, got {value!r}")


def check_widths(name: str, widths: object) -> None:
    """Refuse anything but a list of whole numbers above zero."""
    if isinstance(widths, str) or not isinstance(widths, Sequence) or not widths:
        raise ValueError(f"{name} must be a list of widths, got {widths!r}")
    if not all(isinstance(w, int) and not isinstance(w, bool) and w > 0 for w in widths):
        raise ValueError(f"{name} must be whole numbers above zero, got {widths!r}")


def check_probability(name: str, value: object) -> None:
    """Refuse anything but a probability below 1."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")


def check_classes(dataset: Dataset) -> None:
    """Refuse labels that are no classes."""
    outputs = 0 if dataset.labels.dtype.kind == "f" else dataset.classes or 0
    if outputs < 2 or dataset.labels.min() < 0:
        raise ValueError("labels must be classes numbered from 0, two of them or more")
