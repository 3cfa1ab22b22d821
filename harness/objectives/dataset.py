"""The table that a dataset loader returns. Plain numpy: reading data needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Dataset:
    """A table for supervised learning, already scaled as its loader documents.

    Attributes:
        features: Float64, shape ``(rows, columns)``.
        labels: Shape ``(rows,)``: float64 for regression, int64 for classification.
        feature_names: One name (with its unit) per column of ``features``.
        label_name: Name (with its unit) of the label.
        source: Where the numbers come from, for the report.

    Raises:
        ValueError: If shapes disagree, a table is empty, or a value is not finite.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.generic]
    feature_names: tuple[str, ...]
    label_name: str
    source: str

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.features.shape[0] == 0:
            raise ValueError(
                f"features must have shape (rows, columns) with at least one row, "
                f"got {self.features.shape}"
            )
        if self.labels.shape != self.features.shape[:1]:
            raise ValueError(
                f"labels must have shape ({self.features.shape[0]},), got {self.labels.shape}"
            )
        if len(self.feature_names) != self.features.shape[1]:
            raise ValueError(
                f"{self.features.shape[1]} columns but {len(self.feature_names)} feature names"
            )
        if not (np.isfinite(self.features).all() and np.isfinite(self.labels).all()):
            raise ValueError("features and labels must be finite")
