"""The project's airfoil table, whole and a part of it."""

from __future__ import annotations

import runpy
from pathlib import Path

from harness.objectives.dataset import Dataset

PROJECT = Path(__file__).resolve().parents[4]


def airfoil(rows: int = 1500) -> Dataset:
    """As the project loads it."""
    whole: Dataset = runpy.run_path(str(PROJECT / "datasets" / "airfoil.py"))["airfoil"](rows)
    return whole


def few() -> Dataset:
    """Its first rows."""
    return airfoil(96)
