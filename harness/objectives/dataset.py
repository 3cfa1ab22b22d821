"""Datasets, and the parts that they are cut into. Plain numpy: reading data needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.measures import PARTS

IGNORED_LABEL = -100
"""The label of what counts in no loss: ``ignore_index`` of torch's cross entropy."""


@dataclass(frozen=True)
class Dataset:
    """Rows for supervised learning, already scaled as their loader documents.

    Attributes:
        features: Rows first, and any shape behind: ``(rows, columns)`` of a table, ``(rows,
            channels, height, width)`` of images, ``(rows, length)`` of texts. Float64 or float32;
            whole numbers are tokens and stay such.
        labels: Shape ``(rows,)`` or ``(rows, ...)``: float64 for regression, whole numbers for
            classification.
        feature_names: One name (with its unit) per column of a table; may be left out.
        label_name: Name (with its unit) of the label.
        source: Where the numbers come from, for the report.
        standardized: Whether features (and labels, where they are real) were scaled to mean 0 and
            standard deviation 1 over all rows. A split then scales anew, by the train rows.
        classes: Number of classes; by default, of whole numbers, the largest label and one, or
            None where some are negative. Parts keep that of the whole, whichever labels they lack.
        train: The train rows, where these are held out from them; for what an objective takes
            from its data beside the rows, such as a threshold.

    Raises:
        ValueError: If shapes disagree, there are no rows, or a value is not finite, no number or
            no class.
    """

    features: NDArray[Any]
    labels: NDArray[Any]
    feature_names: tuple[str, ...] = ()
    label_name: str = "label"
    source: str = ""
    standardized: bool = False
    classes: int | None = None
    train: Dataset | None = None

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_values()
        found = _classes(self.labels)
        if self.classes is None:
            object.__setattr__(self, "classes", found)
        elif found is not None and found > self.classes:
            raise ValueError(f"label {found - 1} is outside the {self.classes} classes")

    def _check_shapes(self) -> None:
        shape = self.features.shape
        if not shape or shape[0] == 0:
            raise ValueError(
                f"features must have rows first, with at least one row, got shape {shape}"
            )
        if self.labels.shape[:1] != shape[:1]:
            expected = f"({shape[0]},) or ({shape[0]}, ...)"
            raise ValueError(f"labels must have shape {expected}, got {self.labels.shape}")
        if self.feature_names and len(shape) != 2:
            raise ValueError(f"only columns of a table have names, got features of shape {shape}")
        if self.feature_names and len(self.feature_names) != shape[1]:
            raise ValueError(f"{shape[1]} columns but {len(self.feature_names)} feature names")

    def _check_values(self) -> None:
        for name, values in (("features", self.features), ("labels", self.labels)):
            if values.dtype.kind not in "biuf":
                raise ValueError(f"{name} must be numbers, got {values.dtype}")
        if not (np.isfinite(self.features).all() and np.isfinite(self.labels).all()):
            raise ValueError("features and labels must be finite")
        if self.standardized and self.features.dtype.kind != "f":
            raise ValueError(f"standardized features must be real, got {self.features.dtype}")


def _classes(labels: NDArray[Any]) -> int | None:
    """One more than the largest label; None where labels are not classes numbered from 0."""
    if labels.dtype.kind == "f":
        return None
    known = labels[labels != IGNORED_LABEL]
    if not known.size or known.min() < 0:
        return None
    return int(known.max()) + 1


def split(dataset: Dataset, shares: Mapping[str, float], seed: int = 0) -> dict[str, Dataset]:
    """Cut a dataset into parts at random.

    ``numpy.random.default_rng(seed).permutation(rows)`` says in which order rows are taken: the
    test rows from its end, the validation rows from before them, and the train rows are the
    others. A part has ``round(share * rows)`` rows. So the test rows are the same whether there
    are validation rows or not.

    A standardized dataset is scaled anew: every column, and real labels, to mean 0 and population
    standard deviation 1 over the train rows. A column that is the same in all of them is centred.

    Args:
        dataset: What to cut.
        shares: By name (``train``, and ``validation`` or ``test``), above 0; they add up to 1.
        seed: Of the permutation, 0 or above.

    Returns:
        The parts, train first. They have the whole's classes, and those held out know the train
        rows.

    Raises:
        ValueError: If a name is unknown or ``train`` is missing, shares do not add up to 1, or a
            part would have no rows.
    """
    if unknown := [name for name in shares if name not in PARTS]:
        raise ValueError(f"expected shares of {', '.join(PARTS)}, got one of {unknown[0]!r}")
    if "train" not in shares:
        raise ValueError("there is no share of train rows")
    for name, share in shares.items():
        if not (math.isfinite(share) and share > 0):
            raise ValueError(f"the share of {name} must be above 0, got {share!r}")
    total = math.fsum(shares.values())
    if abs(total - 1) > 1e-9:
        raise ValueError(f"shares must add up to 1, got {total:.12g}")
    rows = len(dataset.features)
    order = np.random.default_rng(seed).permutation(rows)
    taken: dict[str, NDArray[np.int64]] = {}
    for name in ("test", "validation"):
        if name in shares:
            count = round(shares[name] * rows)
            order, taken[name] = order[: len(order) - count], order[len(order) - count :]
    taken["train"] = order
    for name, places in taken.items():
        if not len(places):
            raise ValueError(f"{shares[name]!r} of {rows:,} rows leaves {name} without any")
    return held_out({name: _part(dataset, taken, name) for name in PARTS if name in taken})


def held_out(parts: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Parts that know what they have in common, whether they were cut or loaded so.

    Args:
        parts: By name, ``train`` among them.

    Returns:
        The same, train first, with the classes of all of them, and the train rows known to those
        held out.

    Raises:
        ValueError: If ``train`` is missing, a name is unknown, or rows differ in shape or kind.
    """
    if unknown := [name for name in parts if name not in PARTS]:
        raise ValueError(f"expected the parts {', '.join(PARTS)}, got {unknown[0]!r}")
    if "train" not in parts:
        raise ValueError("there is no part 'train'")
    train = parts["train"]
    for name, part in parts.items():
        for what in ("features", "labels"):
            own, its = getattr(train, what), getattr(part, what)
            if own.shape[1:] != its.shape[1:] or (own.dtype.kind == "f") != (its.dtype.kind == "f"):
                raise ValueError(
                    f"{what} of {name} are rows of shape {its.shape[1:]} and {its.dtype}, "
                    f"those of train of {own.shape[1:]} and {own.dtype}"
                )
    known = [part.classes for part in parts.values() if part.classes is not None]
    classes = max(known) if known else None
    train = replace(train, classes=classes, train=None)
    others = [name for name in PARTS[1:] if name in parts]
    return {
        "train": train,
        **{name: replace(parts[name], classes=classes, train=train) for name in others},
    }


def _part(dataset: Dataset, taken: Mapping[str, NDArray[np.int64]], name: str) -> Dataset:
    """The rows of one part, scaled by those of train where the whole is standardized."""
    features, labels = dataset.features, dataset.labels
    if dataset.standardized:
        features = _scaled(features, taken["train"])
        if labels.dtype.kind == "f":
            labels = _scaled(labels, taken["train"])
    return replace(dataset, features=features[taken[name]], labels=labels[taken[name]])


def _scaled(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Values with mean 0 and population standard deviation 1 over some rows, where they vary."""
    over = np.asarray(values, dtype=np.float64)[rows]
    varies = over.max(axis=0) > over.min(axis=0)
    scaled: NDArray[np.float64] = (values - over.mean(axis=0)) / np.where(
        varies, over.std(axis=0), 1.0
    )
    return scaled.astype(values.dtype)
