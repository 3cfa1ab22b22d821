"""Cells that come along with the harness: those of the optimizers of ``diagnostics.yaml``.

They are made from a finished run of it::

    from pathlib import Path
    import harness
    from harness.analysis.shipped_cells import keep

    keep(harness.read("diagnostics.yaml").analysis, Path("harness/analysis"))
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.cells import Cells, cells_from_file, cells_to_file
from harness.store.read import Results

if TYPE_CHECKING:
    from harness.analysis.summary import Analysis

NAME = "diagnostics"
"""The spec that the cells are of."""

ORIGIN = "shipped"


def shipped(folder: Path | None = None) -> Cells | None:
    """The cells that come along; None where there are none.

    Args:
        folder: Where their file is; by default in this package.
    """
    with resources.as_file(resources.files(__package__)) as package:
        path = (folder or package) / f"{NAME}_cells.json"
        return cells_from_file(path, ORIGIN) if path.is_file() else None


def beside(results: Results, cells: Cells, folder: Path | None = None) -> Cells:
    """The cells of a run and, where its spec extends ``diagnostics``, those that come along.

    Args:
        results: The run.
        cells: Its cells.
        folder: As of :func:`shipped`.
    """
    if results.run.settings.extends != NAME:
        return cells
    known = shipped(folder)
    return cells if known is None else cells.beside(known)


def keep(analysis: Analysis, folder: Path) -> Path:
    """Write the cells of a run's map on one device as those that come along.

    Args:
        analysis: Of the run.
        folder: Where their file goes.

    Returns:
        The file.

    Raises:
        ValueError: If there is no map, or several.
    """
    (known,) = analysis.maps
    path = folder / f"{NAME}_cells.json"
    cells_to_file(known.cells, path)
    return path
