"""Tests of a dataset before a long run. Runs a suite's code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.conformance.records import FINE, DatasetPart, Observation, SourceLocation, note, wrong
from harness.conformance.runner import PartTest, place_of_code, seed_everything
from harness.objectives.dataset import Dataset
from harness.results import Finding
from harness.suite.locate import SuiteError
from harness.suite.random_state import generators, random_state


def tests_of(part: DatasetPart) -> list[PartTest]:
    """The tests of a dataset that a spec names."""
    return _DatasetTests(part).all()


@dataclass
class _DatasetTests:
    """The tests of a dataset."""

    part: DatasetPart
    factory: Any = None
    loaded: list[Dataset] = field(default_factory=list)

    def all(self) -> list[PartTest]:
        return [
            PartTest("loads", self.loads, self.place, gate=True),
            PartTest("repeatable", self.repeatable, self.place, gate=True),
            PartTest("random state", self.random_state, self.place),
            PartTest("columns", self.columns, self.place),
        ]

    def place(self) -> SourceLocation | None:
        return place_of_code(self.factory) if self.factory is not None else None

    def loads(self) -> Observation:
        """Expect a dataset: finite, with shapes that fit (which ``Dataset`` sees to)."""
        try:
            self.factory = self.part.located.load()
        except SuiteError as error:
            path = ("objectives", self.part.objective, "dataset")
            return Observation("wrong", fault=Finding(path, str(error)))
        loaded = self.factory()
        if not isinstance(loaded, Dataset):
            return wrong(f"gives a {type(loaded).__name__}, expected a harness.Dataset")
        self.loaded = [loaded]
        return FINE

    def repeatable(self) -> Observation:
        """Expect the same rows every time, whatever the global random numbers."""
        (first,) = self.loaded
        seed_everything(1)
        again = self.factory()
        for name in ("features", "labels"):
            if not np.array_equal(getattr(first, name), getattr(again, name)):
                text = f"{name} change when it is loaded again; use a fixed seed"
                return wrong(text)
        return FINE

    def random_state(self) -> Observation:
        """Expect that it leaves the global random numbers alone."""
        before = random_state()
        self.factory()
        after = random_state()
        changed = [name for name in before if before[name] != after[name]]
        if not changed:
            return FINE
        text = f"draws from or seeds {generators(changed)}; use "
        return note(f"{text}numpy.random.default_rng(seed) instead")

    def columns(self) -> Observation:
        """Expect the documented types, and columns that say something."""
        (data,) = self.loaded
        if data.features.dtype != np.float64:
            return wrong(f"features are {data.features.dtype}, expected float64")
        labels = data.labels.dtype
        if labels != np.float64 and not np.issubdtype(labels, np.integer):
            text = f"labels are {labels}, expected float64, or whole numbers for classes"
            return wrong(text)
        for name, column in zip(data.feature_names, data.features.T, strict=True):
            if len(column) > 1 and (column == column[0]).all():
                return note(f"{name!r} is the same in every row")
        return FINE
