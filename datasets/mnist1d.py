"""MNIST-1D: digits as noisy signals. Made, not measured: a fixed seed gives the same rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from harness import Dataset

SEED = 42
LENGTH = 40
SCALE = 6.5
"""About one over the standard deviation of the signals, which have it at 1 so."""

PADDED, PADDING = 72, (36, 60)
SCALED, SHIFTED, SHEARED = 0.4, 48, 0.75
CORRELATED_NOISE, NOISE = 0.25, 0.02

TEMPLATES = np.array(
    [
        (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
        (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
        (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
        (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
        (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
        (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
        (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
        (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
        (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
        (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
    ]
)
"""Heights of the pen, from the top of each digit to its bottom."""


def mnist1d(rows: int = 4000) -> Dataset:
    """Make signals of ten classes that look like the strokes of digits.

    The recipe is that of S. Greydanus, "Scaling down deep learning", 2020 (arXiv 2011.14439): a
    template of 12 points is padded with 36 to 60 zeros and drawn out to 72 points, made up to 20%
    higher or lower, turned round by up to 47 points, filled with smooth noise where it is zero,
    covered with white noise, sheared, and taken at 40 points. The numbers drawn are this file's
    own, so rows are not those of the published file. Classes are equally frequent, in random
    order.

    Args:
        rows: How many to make, from 10.

    Returns:
        Features of shape ``(rows, 1, 40)``, float64, with a standard deviation of about 1; labels
        of shape ``(rows,)``, int64, 0 to 9.

    Raises:
        ValueError: If there are fewer than 10 rows.
    """
    if rows < len(TEMPLATES):
        raise ValueError(f"mnist1d: rows must be at least 10, got {rows}")
    random = np.random.default_rng(SEED)
    strokes = TEMPLATES - TEMPLATES.mean(axis=1, keepdims=True)
    strokes /= strokes.std(axis=1, keepdims=True)
    strokes = (strokes - strokes[:, :1]) / 6  # begin and end at 0
    labels = random.permutation(np.arange(rows, dtype=np.int64) % len(TEMPLATES))
    signals = np.stack([_signal(strokes[label], random) for label in labels])
    return Dataset(
        features=SCALE * signals[:, None, :],
        labels=labels,
        label_name="digit",
        source='Generated, after S. Greydanus, "Scaling down deep learning", 2020',
    )


def _signal(stroke: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """One row, shape ``(40,)``."""
    low, high = PADDING
    padded = np.concatenate([stroke + 1e-8, np.zeros(random.integers(low, high + 1))])
    drawn = _resampled(padded, PADDED) * (1 + SCALED * (random.random() - 0.5))
    drawn = np.roll(drawn, random.integers(SHIFTED))
    smooth = gaussian_filter1d(CORRELATED_NOISE * random.normal(size=PADDED), 2, mode="reflect")
    drawn = np.where(drawn != 0, drawn, smooth) + NOISE * random.normal(size=PADDED)
    slope = SHEARED * (random.random() - 0.5)
    return _resampled(drawn - slope * np.linspace(-0.5, 0.5, PADDED), LENGTH)


def _resampled(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Values at evenly spaced points from the first to the last, linear in between."""
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(values)), values)
