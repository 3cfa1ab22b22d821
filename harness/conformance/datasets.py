"""Tests of a dataset before a long run. Runs a suite's code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.conformance.records import FINE, DatasetPart, Observation, SourceLocation, note, wrong
from harness.conformance.runner import PartTest, place_of_code, seed_everything
from harness.objectives.dataset import Dataset, held_out
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
    loaded: Mapping[str, Dataset] = field(default_factory=dict)

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
        """Expect a dataset, or parts: finite, with shapes that fit (which ``Dataset`` sees to)."""
        try:
            self.factory = self.part.located.load()
        except SuiteError as error:
            path = ("objectives", self.part.objective, "dataset")
            return Observation("wrong", fault=Finding(path, str(error)))
        loaded = self.factory()
        for name, part in _parts(loaded).items():
            if not isinstance(part, Dataset):
                which = f" as {name}" if name else ""
                text = f"gives a {type(part).__name__}{which}, expected a harness.Dataset"
                return wrong(text)
        self.loaded = held_out(loaded) if isinstance(loaded, Mapping) else _parts(loaded)
        return FINE

    def repeatable(self) -> Observation:
        """Expect the same rows every time, whatever the global random numbers."""
        seed_everything(1)
        again = _parts(self.factory())
        for part, first in self.loaded.items():
            for name in ("features", "labels"):
                if not np.array_equal(getattr(first, name), getattr(again[part], name)):
                    text = f"{name} change when it is loaded again; use a fixed seed"
                    return wrong(_of(part, text))
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
        found = [self._columns(part, data) for part, data in self.loaded.items()]
        unusual = [observation for observation in found if observation is not FINE]
        return min(unusual, key=lambda o: o.kind != "wrong", default=FINE)

    def _columns(self, part: str, data: Dataset) -> Observation:
        features, labels = data.features, data.labels.dtype
        if features.dtype not in (np.float64, np.float32) and features.dtype.kind not in "iu":
            text = "expected float64, float32, or whole numbers for tokens"
            return wrong(_of(part, f"features are {features.dtype}, {text}"))
        if labels != np.float64 and not np.issubdtype(labels, np.integer):
            text = f"labels are {labels}, expected float64, or whole numbers for classes"
            return wrong(_of(part, text))
        if not data.feature_names:
            return FINE  # of images or texts, some places may well be the same in every row
        for name, column in zip(data.feature_names, features.T, strict=True):
            if len(column) > 1 and (column == column[0]).all():
                return note(_of(part, f"{name!r} is the same in every row"))
        return FINE


def _parts(loaded: Any) -> Mapping[str, Any]:
    """What a loader gives, by part; the whole has no name."""
    return loaded if isinstance(loaded, Mapping) else {"": loaded}


def _of(part: str, text: str) -> str:
    return f"{part}: {text}" if part else text
