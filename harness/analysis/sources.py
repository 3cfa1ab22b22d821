"""Results of several runs, read together and combined into one, with the source beside the device.

Whatever is made of the results of one run, its tables, figures and sentences, can so be made of
several. Cases are only ever compared on one device, so they stay within their source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.errors import BadInput, Problem
from harness.formatting import listed
from harness.store import read as store_reader
from harness.store.database import FILE_NAME
from harness.store.read import CaseData, ObjectiveInfo, Results
from harness.store.records import RunRecord, RunSettings

NAME_LENGTH = 40
"""Characters of a source's name beyond which another name is looked for."""

OF_OBJECTIVES = ("targets", "reported", "tuned", "smallest_differences", "families")
"""Settings by the name of an objective."""

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Source:
    """The latest run of one results file.

    Attributes:
        name: Its name on the page; no two have the same.
        place: The file as the user named it.
        results: The results.
    """

    name: str
    place: str
    results: Results

    @property
    def machine(self) -> str:
        """Digest of the machine that it ran on; empty where that is not known."""
        return self.results.run.settings.machine

    def device(self, device: str) -> str:
        """The name of one of its devices among those of all sources."""
        return f"{device}, {self.name}"


def read(places: Sequence[tuple[str, Path]]) -> tuple[Source, ...]:
    """Read several results files, and leave them as they are.

    Args:
        places: Each as the user named it, and the store that it means.

    Raises:
        BadInput: With everything that can't be read, and every file that is given twice.
    """
    problems: list[Problem] = []
    found: list[tuple[str, Path, Results]] = []
    seen: dict[Path, str] = {}
    for place, path in places:
        if path.resolve() in seen:
            message = f"is the same results file as {seen[path.resolve()]}; give each once"
            problems.append(Problem(place, 0, 0, "", message))
            continue
        seen[path.resolve()] = place
        try:
            found.append((place, path, store_reader.read(path, untouched=True)))
        except BadInput as error:
            problems += error.problems
        except (KeyError, TypeError, ValueError) as error:
            message = f"holds a run that can't be read: {type(error).__name__}: {error}"
            problems.append(Problem(place, 0, 0, "", message))
    if problems:
        raise BadInput(problems)
    names = short_names([(results.run.suite, path) for _, path, results in found])
    return tuple(
        Source(name, place, results) for name, (place, _, results) in zip(names, found, strict=True)
    )


def short_names(known: Sequence[tuple[str, Path]]) -> list[str]:
    """Names for some results, so that no two have the same.

    The suites' names if they differ. Else whatever part of their paths differs, the one nearest
    the file that does. Else letters.

    Args:
        known: Suite and path of each.
    """
    paths = [list(path.absolute().parts) for _, path in known]
    parts = [p[:-1] if p[-1] == FILE_NAME else [*p[:-1], Path(p[-1]).stem] for p in paths]
    candidates = [[suite for suite, _ in known]]
    depths = range(1, min(map(len, parts), default=0) + 1)
    candidates += ([own[-depth] for own in parts] for depth in depths)
    for names in candidates:
        tidied = [" ".join(name.split()) for name in names]
        fit = all(0 < len(name) <= NAME_LENGTH and name.isprintable() for name in tidied)
        if fit and len({name.casefold() for name in tidied}) == len(known):
            return tidied
    return [_letter(i) for i in range(len(known))]


def _letter(index: int) -> str:
    if index < 26:
        return chr(ord("A") + index)
    return f"{_letter(index // 26 - 1)}{_letter(index % 26)}"


def combine(sources: Sequence[Source]) -> Results:
    """Combine the results of several sources into one, each source on devices of its own.

    Objectives of one name are one if they have the same data, steps and minima, and the same is
    reported of them; else each has the name of its source behind its own. Settings are kept where
    no two sources contradict.
    """
    objectives: dict[str, ObjectiveInfo] = {}
    renamed: list[Results] = []
    first = 0
    for source in sources:
        names: dict[str, str] = {}
        for name, info in source.results.objectives.items():
            clash = name in objectives and not _is_same(objectives[name], info)
            names[name] = f"{name} ({source.name})" if clash else name
            first_one = objectives.get(names[name], info)
            metrics = tuple(metric for metric in first_one.metrics if metric in info.metrics)
            objectives[names[name]] = replace(first_one, name=names[name], metrics=metrics)
        renamed.append(_renamed(source, names, first))
        first += 1 + max((case.position for case in source.results.cases), default=-1)
    run = _run(sources, [results.run.settings for results in renamed])
    return Results(
        run=run,
        objectives=objectives,
        cases=_in_order([case for results in renamed for case in results.cases]),
        trials=_stacked([results.trials for results in renamed]),
        timings=_stacked([results.timings for results in renamed]),
        step_counts=_stacked([results.step_counts for results in renamed]),
        tried=tuple(tried for results in renamed for tried in results.tried if run.settings.tuning),
        comparisons=_stacked([results.comparisons for results in renamed]),
    )


def _in_order(cases: Sequence[CaseData]) -> tuple[CaseData, ...]:
    """Cases in the order of the first source, each with the same of other sources behind it."""
    first: dict[tuple[str, str], int] = {}
    for case in cases:
        first.setdefault((case.objective, case.label), len(first))
    return tuple(sorted(cases, key=lambda case: first[case.objective, case.label]))


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames one below the other; empty ones would decide the types of columns."""
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


def _is_same(one: ObjectiveInfo, other: ObjectiveInfo) -> bool:
    """Return True where losses of both can be compared, but for other machines."""
    exact = ("dimension", "rows", "part_rows", "steps", "steps_per_epoch", "window", "measure")
    if any(getattr(one, name) != getattr(other, name) for name in exact):
        return False
    if not np.array_equal(one.record_steps, other.record_steps):
        return False
    return _is_close(one.optimum, other.optimum) and _is_close(one.landscape, other.landscape)


def _is_close(one: npt.ArrayLike | None, other: npt.ArrayLike | None) -> bool:
    if one is None or other is None:
        return one is other
    a, b = np.asarray(one), np.asarray(other)
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, equal_nan=True)


def _renamed(source: Source, names: Mapping[str, str], first: int) -> Results:
    """The results of a source under names that are its own, with positions from ``first`` on."""
    results = source.results

    def frame(known: pd.DataFrame) -> pd.DataFrame:
        known = known.copy()
        if "position" in known:
            known["position"] += first
        if "device" in known:
            known["device"] = [source.device(device) for device in known["device"]]
            known["objective"] = [names.get(name, name) for name in known["objective"]]
        return known

    settings = results.run.settings
    update = {
        field: {names.get(name, name): value for name, value in getattr(settings, field).items()}
        for field in OF_OBJECTIVES
    }
    update["missing"] = {source.device(name): why for name, why in settings.missing.items()}
    return Results(
        run=replace(results.run, settings=settings.model_copy(update=update)),
        objectives=results.objectives,
        cases=tuple(
            replace(
                case,
                position=case.position + first,
                objective=names[case.objective],
                device=source.device(case.device),
            )
            for case in results.cases
        ),
        trials=frame(results.trials),
        timings=frame(results.timings),
        step_counts=frame(results.step_counts),
        tried=tuple(
            replace(
                tried,
                objective=names.get(tried.objective, tried.objective),
                device=source.device(tried.device),
            )
            for tried in results.tried
        ),
        comparisons=frame(results.comparisons),
    )


def _run(sources: Sequence[Source], settings: Sequence[RunSettings]) -> RunRecord:
    """Return how the sources were made, as far as it is the same for all of them."""
    runs = [source.results.run for source in sources]
    known = {name: [getattr(own, name) for own in settings] for name in RunSettings.model_fields}
    common: dict[str, Any] = {
        name: _agreed(values) if isinstance(values[0], dict) else values[0]
        for name, values in known.items()
        if isinstance(values[0], dict) or all(value == values[0] for value in values)
    }
    common |= {
        "title": f"{listed([source.name for source in sources])}, side by side",
        "seeds": tuple(sorted({seed for own in settings for seed in own.seeds})),
        "trials": sum(own.trials for own in settings),
    }
    # Searches that differ can't be shown as those of one optimizer.
    if not all(
        own.searches == settings[0].searches and own.fixed == settings[0].fixed for own in settings
    ):
        common["tuning"] = None
    return RunRecord(
        id=0,
        started=max(run.started for run in runs),
        finished=_if_all([run.finished for run in runs], max),
        command="",
        suite=", ".join(source.name for source in sources),
        spec_file="",
        spec_text="",
        settings=RunSettings.model_construct(**common),
        environment=_agreed([run.environment for run in runs], everywhere=True),
    )


def _agreed(values: Sequence[Mapping[str, Any]], *, everywhere: bool = False) -> dict[str, Any]:
    """Return the values of several mappings by key, where none contradicts another."""
    found = {key: value for own in values for key, value in own.items()}
    return {
        key: value
        for key, value in found.items()
        if all((own.get(key) if everywhere else own.get(key, value)) == value for own in values)
    }


def _if_all(
    values: Sequence[Value | None], choose: Callable[[Sequence[Value]], Value]
) -> Value | None:
    known = [value for value in values if value is not None]
    return choose(known) if len(known) == len(values) else None
