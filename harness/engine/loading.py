"""Loading of an objective, of its data and of the parts that these are in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.engine.isolation import class_state
from harness.engine.workload import DTYPES, DoesNotFit, default_dtype
from harness.errors import nearest
from harness.measures import PARTS
from harness.objectives.base import Objective
from harness.objectives.dataset import Dataset, held_out, split
from harness.plan.model import PlannedObjective
from harness.suite import torch_settings
from harness.suite.locate import SuiteError, last_line, place_of


def load_objective(planned: PlannedObjective) -> tuple[Objective, str]:
    """Construct an objective with its data.

    Returns:
        The objective, and where its data come from (or an empty string).

    Raises:
        DoesNotFit: If something named can't be imported, isn't what it should be, or refuses
            its arguments.
    """
    try:
        factory = planned.located.load()
    except SuiteError as error:
        raise DoesNotFit("class", str(error)) from error
    if not callable(factory):
        raise DoesNotFit("class", f"{planned.located.reference!r} is not a class")
    parts: dict[str, Dataset] = {}
    if planned.dataset is not None:
        parts = _load_dataset(planned)
    elif planned.split is not None:
        raise DoesNotFit("split", "there is no dataset to split")
    train = parts.pop("train", None)
    objective = _constructed(planned, factory, train)
    for part, dataset in parts.items():
        rows = _constructed(planned, factory, dataset).data
        if rows is None:
            raise DoesNotFit("class", "keeps no data, so nothing can be held out")
        objective.held_out = {**objective.held_out, part: rows}
    return objective, train.source if train else ""


def _constructed(
    planned: PlannedObjective, factory: Callable[..., Any], dataset: Dataset | None
) -> Objective:
    """Construct an objective with a dataset, where it has one."""
    arguments: dict[str, Any] = dict(planned.arguments)
    if dataset is not None:
        arguments["dataset"] = dataset
    with torch_settings.kept(), default_dtype(DTYPES[planned.dtype]):
        try:
            objective = factory(**arguments)
        except Exception as error:
            place = place_of(error, planned.located.folder) if planned.located.file else ""
            raise DoesNotFit("arguments", f"refused: {last_line(error)}{place}") from error
    if not isinstance(objective, Objective):
        raise DoesNotFit(
            "class",
            f"{planned.located.reference!r} gives a {type(objective).__name__}, "
            "expected a harness.Objective",
        )
    class_state(type(objective))  # before anything is evaluated
    return objective


def _load_dataset(planned: PlannedObjective) -> dict[str, Dataset]:
    """The parts of an objective's data; train alone where nothing is held out."""
    assert planned.dataset is not None
    try:
        loader = planned.dataset.load()
        with torch_settings.kept():
            dataset = loader()
    except SuiteError as error:
        raise DoesNotFit("dataset", str(error)) from error
    except Exception as error:
        place = place_of(error, planned.dataset.folder)
        message = f"loading the data failed: {last_line(error)}{place}"
        raise DoesNotFit("dataset", message) from error
    return _parts_of(planned, dataset)


def _parts_of(planned: PlannedObjective, loaded: object) -> dict[str, Dataset]:
    """The parts of what a loader gives: a dataset, to be split or not, or the parts by name."""
    assert planned.dataset is not None
    name = planned.dataset.reference
    if isinstance(loaded, Dataset):
        if planned.split is None:
            return {"train": loaded}
        shares = planned.split.model_dump(exclude_none=True)
        try:
            return split(loaded, shares, shares.pop("seed"))
        except ValueError as error:
            raise DoesNotFit("split", str(error)) from error
    expected = "expected a harness.Dataset or a dict of them: train, validation, test"
    if not isinstance(loaded, dict):
        raise DoesNotFit("dataset", f"{name!r} gives a {type(loaded).__name__}, {expected}")
    for part, own in loaded.items():
        if part not in PARTS:
            hint = nearest(str(part), PARTS)
            raise DoesNotFit("dataset", f"{name!r} gives a part {part!r}{hint}")
        if not isinstance(own, Dataset):
            text = f"{name!r} gives a {type(own).__name__} as {part!r}, {expected}"
            raise DoesNotFit("dataset", text)
    if planned.split is not None:
        raise DoesNotFit("split", f"{name!r} gives the parts itself; leave 'split' out")
    try:
        return held_out(loaded)
    except ValueError as error:
        raise DoesNotFit("dataset", f"{name!r}: {error}") from error
