"""Small data of the shapes that networks take: images, series, texts. Drawn, not measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness import Dataset

ROWS = 160


def _classes(features: NDArray[np.float64]) -> NDArray[np.int64]:
    """Four classes, by a fixed random function of the features."""
    generator = np.random.default_rng(1)
    flat = features.reshape(len(features), -1)
    hidden = np.tanh(flat @ generator.normal(size=(flat.shape[1], 8)))
    return np.asarray((hidden @ generator.normal(size=(8, 4))).argmax(1))


def _drawn(*shape: int) -> Dataset:
    features = np.random.default_rng(0).normal(size=(ROWS, *shape))
    return Dataset(features, _classes(features), classes=4)


def table() -> Dataset:
    """Rows of 12 columns, features of shape ``(160, 12)``."""
    return _drawn(12)


def images() -> Dataset:
    """One channel of 8 by 8, features of shape ``(160, 1, 8, 8)``."""
    return _drawn(1, 8, 8)


def series() -> Dataset:
    """One channel of 40, features of shape ``(160, 1, 40)``."""
    return _drawn(1, 40)


def texts() -> Dataset:
    """Tokens of shape ``(160, 12)``; the label of each is the next one."""
    tokens = np.random.default_rng(0).integers(0, 9, size=(ROWS, 13))
    tokens[:, 1::2] = (tokens[:, ::2][:, : tokens[:, 1::2].shape[1]] + 1) % 9  # to be learnt
    return Dataset(tokens[:, :-1], tokens[:, 1:], classes=9)
