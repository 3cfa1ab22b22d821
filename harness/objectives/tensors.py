"""A dataset's rows as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.objectives.dataset import Dataset


def tensors_of(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and labels, in the shapes that the dataset has them.

    Real features keep their precision and real labels are float64 (the engine casts both to the
    objective's); whole numbers are int64, as embeddings and cross entropy want them.
    """
    features, labels = dataset.features, dataset.labels
    labels = labels.astype(np.float64) if labels.dtype.kind == "f" else labels
    return _tensor(features), _tensor(labels)


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    if values.dtype.kind in "iu":
        values = values.astype(np.int64)
    if not (values.flags.c_contiguous and values.flags.writeable):
        values = values.copy()  # what torch can't share, or warns of
    return torch.from_numpy(values)


def table_of(dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features as a table and labels as a column, both float64.

    Returns:
        Features of shape ``(rows, columns)``, in which a row's numbers stand one after the other;
        labels of shape ``(rows,)``.

    Raises:
        ValueError: If labels have another shape.
    """
    rows = len(dataset.features)
    if dataset.labels.ndim != 1:
        raise ValueError(f"labels must have shape ({rows},), got {dataset.labels.shape}")
    features = dataset.features.reshape(rows, -1).astype(np.float64, copy=False)
    return features, dataset.labels.astype(np.float64)
