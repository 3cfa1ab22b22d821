"""Your data: put a CSV (or anything that numpy reads) beside this file, and say how it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness import Dataset

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def plants() -> dict[str, Dataset]:
    """Read ``plants.csv``: the last column is the class, the others are measured.

    Returns:
        Its rows in three parts. Batches are of train; validation chooses settings; test is
        reported. Features are of shape ``(rows, columns)`` here; whatever shape your network
        takes is fine, rows first (images, tokens, ...).
    """
    with Path(__file__).with_name("plants.csv").open(encoding="utf-8") as lines:
        next(lines)  # the names of the columns
        table = np.loadtxt(lines, delimiter=",", dtype=str)
    features = table[:, :-1].astype(np.float64)
    labels = np.unique(table[:, -1], return_inverse=True)[1].reshape(-1)

    # At random, with a seed of the data's own: every trial has the same rows in each part.
    order = np.random.default_rng(0).permutation(len(labels))
    ends = np.cumsum([round(share * len(labels)) for share in SHARES.values()])
    parts = dict(zip(SHARES, np.split(order, ends[:-1]), strict=True))

    # Scaled by what the train rows are like, so that nothing is known of the others.
    train = features[parts["train"]]
    features = (features - train.mean(axis=0)) / train.std(axis=0)
    return {
        part: Dataset(features[rows], labels[rows], source="Invented, to be replaced")
        for part, rows in parts.items()
    }
