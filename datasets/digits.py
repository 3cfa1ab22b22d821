"""Handwritten digits of 8 by 8 pixels, as scikit-learn ships them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness import Dataset


def digits() -> Dataset:
    """Load 1797 images of the digits 0 to 9.

    Each pixel counts the dark ones among 4 by 4 of the scan, 0 to 16, and is divided by 16 here.
    Nothing is fitted to the rows, so nothing is scaled anew where some are held out.

    Returns:
        Features of shape ``(1797, 1, 8, 8)``, float64: one channel, rows of pixels from the top;
        labels of shape ``(1797,)``, int64, 0 to 9.
    """
    table = np.loadtxt(
        Path(__file__).with_name("digits.csv.gz"), dtype=np.int64, delimiter=",", skiprows=1
    )
    return Dataset(
        features=table[:, :-1].reshape(-1, 1, 8, 8) / 16,
        labels=table[:, -1].copy(),
        label_name="digit",
        source=(
            "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, 1998 (its test part); "
            "UCI Machine Learning Repository, doi 10.24432/C50P49; CC BY 4.0"
        ),
    )
