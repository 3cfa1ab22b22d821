"""Cells of a map of tasks by optimizers: what the trials of one task at one difficulty came to.

A cell is all that the statistics of :mod:`harness.analysis.wins` need, so cells can be kept in a
small file without the results that they come of, and be laid beside those of another run.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.analysis.targets import Reached, targets_of
from harness.errors import BadInput
from harness.store.read import Results

FORMAT = 1
"""Version of the file that cells are kept in."""

OF_ORIGIN = ("harness", "torch", "python")
"""What of an environment the cells' file names."""


@dataclass(frozen=True)
class Cell:
    """One optimizer on one task at one difficulty.

    Attributes:
        family: The family of the task; empty where the spec puts it in none.
        task: The task.
        difficulty: Its place among the task's difficulties, 0 the easiest.
        label: The difficulty as the spec has it (``condition_number=1000.0``); empty where the
            task has but one.
        optimizer: The optimizer, with its setting where that is not its only one.
        device: Where it ran.
        seeds: Seeds of its trials.
        steps: By seed, the first recorded step by which all targets had been reached; infinite
            for a miss.
        used: By seed, the steps that the trial took in all, until it failed if it did.
        failed: By seed, whether the trial failed (a trial that won before has won).
        budget: Steps that a trial may take.
        copies: Whether all seeds take the same course, so that they are one run.
        draws: Of tuning, how many settings won with which of its seeds: ``("10", 7)`` are seven
            that won with the first of two. Ascending; none where nothing was tuned.
        digest: Of what defines the task at this difficulty: its code, arguments, steps, precision
            and targets.
        role: Where its setting comes from: ``given``, ``tuned`` or ``defaults``.
    """

    family: str
    task: str
    difficulty: int
    label: str
    optimizer: str
    device: str
    seeds: tuple[int, ...]
    steps: tuple[float, ...]
    used: tuple[int, ...]
    failed: tuple[bool, ...]
    budget: int
    copies: bool = False
    draws: tuple[tuple[str, int], ...] = ()
    digest: str = ""
    role: str = "given"

    @property
    def won(self) -> NDArray[np.bool_]:
        """By seed, whether all targets were reached."""
        return np.isfinite(self.steps)

    @property
    def settings(self) -> int:
        """The number of settings that tuning drew; 0 where nothing was tuned."""
        return sum(count for _, count in self.draws)


@dataclass(frozen=True)
class Cells:
    """Cells of one origin, or of several.

    Attributes:
        cells: In the order of the spec: by task, difficulty, then optimizer.
        origin: Of these cells, in words: ``this run``, ``shipped: harness 1.2, torch 2.13``.
        versions: Versions of what they were made with, and when (``date``), where known.
        origins: By optimizer, the origin of its cells where it is another.
        left_out: How many cells of another origin stayed out, as their tasks are defined otherwise.
    """

    cells: tuple[Cell, ...]
    origin: str = "this run"
    versions: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0

    def origin_of(self, optimizer: str) -> str:
        """The origin of an optimizer's cells."""
        return self.origins.get(optimizer, self.origin)

    def beside(self, others: Cells) -> Cells:
        """These cells and, in the same rows, others.

        A cell of the others stays out where an optimizer has the same name here, and where there
        is no such task at that difficulty here, or it is defined otherwise.
        """
        own = {cell.optimizer for cell in self.cells}
        known = {_row(cell): cell.digest for cell in self.cells}
        same_row = [c for c in others.cells if c.optimizer not in own and _row(c) in known]
        kept = [cell for cell in same_row if known[_row(cell)] == cell.digest]
        devices = dict.fromkeys(cell.device for cell in self.cells)
        placed = (replace(cell, device=device) for device in devices for cell in kept)
        names = dict.fromkeys(cell.optimizer for cell in kept)
        return replace(
            self,
            cells=in_order((*self.cells, *placed)),
            origins={**self.origins, **{name: others.origin_of(name) for name in names}},
            left_out=self.left_out + len(same_row) - len(kept),
        )


def _row(cell: Cell) -> tuple[str, int]:
    return cell.task, cell.difficulty


def in_order(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Cells row by row: by family, task and difficulty, each in the order of first cells."""
    families: dict[str, int] = {}
    tasks: dict[str, int] = {}
    for cell in cells:
        families.setdefault(cell.family, len(families))
        tasks.setdefault(cell.task, len(tasks))
    return tuple(sorted(cells, key=lambda c: (families[c.family], tasks[c.task], c.difficulty)))


def is_map(results: Results) -> bool:
    """True where some objective came of a grid of difficulties and has targets."""
    return any(
        info.variant is not None and info.variant.difficulty is not None
        for info in results.objectives.values()
        if targets_of(results, info)
    )


def cells_of(results: Results, reached: Sequence[Reached]) -> Cells:
    """Cells of a run: of every objective that has targets.

    Args:
        results: The run.
        reached: When trials reached their targets, by objective and device.
    """
    drawn = _draws(results)
    names = _names(results)
    endings = _endings(results)
    found = []
    for one in reached:
        about = _about(results, one)
        # The last of all targets decides.
        steps = one.steps.max(axis=0)
        for i, case in enumerate(one.group.cases):
            key = (case.objective, case.optimizer, case.device)
            cell = replace(
                about,
                optimizer=names[case.optimizer, case.setting],
                steps=tuple(steps[i].tolist()),
                used=tuple(int(used) for used in one.used[i]),
                failed=tuple(endings[case.position, seed] != "ok" for seed in about.seeds),
                copies=bool(one.copies[i]),
                draws=drawn.get(key, ()) if case.role == "tuned" else (),
                role=case.role,
            )
            found.append(cell)
    run = results.run
    versions = {key: run.environment[key] for key in OF_ORIGIN if key in run.environment}
    if run.started:
        versions["date"] = run.started[:10]
    return Cells(in_order(found), versions=versions)


def _names(results: Results) -> dict[tuple[str, str], str]:
    """By optimizer and setting, what a cell calls them: the optimizer, where that is enough.

    That is where it is tuned, or has the same single setting on all objectives.
    """
    settings: dict[str, set[str]] = {}
    tuned = {case.optimizer for case in results.cases if case.role == "tuned"}
    for case in results.cases:
        settings.setdefault(case.optimizer, set()).add(case.setting)
    return {
        (case.optimizer, case.setting): case.optimizer
        if case.role == "tuned"
        or (
            case.role == "given"
            and len(settings[case.optimizer]) == 1
            and case.optimizer not in tuned
        )
        else case.label
        for case in results.cases
    }


def _endings(results: Results) -> dict[tuple[int, int], str]:
    """By a case's position and a seed, how the trial ended."""
    trials = results.trials
    ended = zip(trials["position"], trials["seed"], trials["status"], strict=True)
    return {(int(position), int(seed)): str(status) for position, seed, status in ended}


def _about(results: Results, one: Reached) -> Cell:
    """A cell with all that those of an objective on a device share."""
    info = results.objectives[one.group.objective]
    variant = info.variant
    # Of several arguments that are varied none makes a task harder: each is a task of its own.
    is_graded = variant is not None and variant.difficulty is not None
    task = variant.entry if variant is not None and is_graded else info.name
    family = results.run.settings.families.get(info.name, "")
    return Cell(
        family="" if family == task else family,
        task=task,
        difficulty=variant.difficulty or 0 if variant is not None else 0,
        label=variant.label if variant is not None and is_graded else "",
        optimizer="",
        device=one.group.device,
        seeds=tuple(one.group.seeds.tolist()),
        steps=(),
        used=(),
        failed=(),
        budget=info.steps,
        digest=results.run.settings.definitions.get(info.name, "")[:12],
    )


def _draws(results: Results) -> dict[tuple[str, str, str], tuple[tuple[str, int], ...]]:
    """By objective, optimizer and device, how many settings of tuning won with which seeds."""
    seeds = len(results.run.settings.tuning_seeds)
    counted: dict[tuple[str, str, str], Counter[str]] = {}
    for tried in results.tried:
        # What has not run with every seed yet says nothing.
        if tried.role == "tuning" and tried.won is not None and len(tried.won) == seeds:
            key = (tried.objective, tried.optimizer, tried.device)
            counted.setdefault(key, Counter())["".join("01"[won] for won in tried.won)] += 1
    return {key: tuple(sorted(own.items())) for key, own in counted.items()}


# The file


def cells_to_file(cells: Cells, path: Path) -> None:
    """Write cells to a file: JSON, a line for each cell.

    What several cells share stands once: the tasks at their difficulties, the seeds. Of a trial
    there is a word: ``420`` won at step 420; ``-`` used all its steps; ``-37`` ended at step 37;
    ``x37`` failed there; ``420x900`` won before it failed.
    """
    rows: dict[tuple[str, str, int, str, str, int], int] = {}
    seeds: dict[tuple[int, ...], int] = {}
    lines = []
    for cell in cells.cells:
        about = (cell.family, cell.task, cell.difficulty, cell.label, cell.digest, cell.budget)
        trials = zip(cell.steps, cell.used, cell.failed, strict=True)
        words = " ".join(_word(*trial, budget=cell.budget) for trial in trials)
        draws = " ".join(f"{pattern}:{count}" for pattern, count in cell.draws)
        lines.append(
            [
                rows.setdefault(about, len(rows)),
                cell.optimizer,
                cell.device,
                cell.role,
                seeds.setdefault(cell.seeds, len(seeds)),
                int(cell.copies),
                words,
                draws,
            ]
        )
    head = {
        "format": FORMAT,
        "versions": dict(cells.versions),
        "seeds": list(map(list, seeds)),
    }
    text = json.dumps(head, ensure_ascii=False)[:-1]
    for name, known in (("rows", list(map(list, rows))), ("cells", lines)):
        body = ",\n".join(json.dumps(one, ensure_ascii=False) for one in known)
        text += f',\n"{name}": [\n{body}\n]'
    path.write_text(text + "\n}\n", encoding="utf-8")


def _word(step: float, used: int, failed: bool, *, budget: int) -> str:
    """A trial as a word; see :func:`cells_to_file`."""
    won = f"{step:.0f}" if math.isfinite(step) else ""
    if failed:
        return f"{won}x{used}"
    if won:
        return won if used == step else f"{won}-{used}"
    return "-" if used == budget else f"-{used}"


def cells_from_file(path: Path, origin: str = "") -> Cells:
    """Read cells from a file.

    Args:
        path: A file that :func:`cells_to_file` wrote.
        origin: What goes before the versions in :attr:`Cells.origin`: ``shipped``.

    Raises:
        BadInput: If the file can't be read, or holds no cells.
    """
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["format"] != FORMAT:
            text = f"holds cells in format {known['format']}, this harness reads format {FORMAT}"
            raise BadInput.of_file(str(path), text)
        versions = {str(name): str(text) for name, text in known["versions"].items()}
        seeds = [tuple(map(int, own)) for own in known["seeds"]]
        cells = tuple(_cell(known["rows"], seeds, line) for line in known["cells"])
    except OSError as error:
        raise BadInput.of_file(str(path), f"can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        text = f"is no file of cells: {type(error).__name__}: {error}"
        raise BadInput.of_file(str(path), text) from None
    told = ", ".join(f"{name} {versions[name]}" for name in OF_ORIGIN if name in versions)
    if "date" in versions:
        told = ", ".join(filter(None, [told, versions["date"]]))
    return Cells(cells, ": ".join(filter(None, [origin, told])) or str(path.name), versions)


def _cell(
    rows: Sequence[tuple[str, str, int, str, str, int]],
    seeds: Sequence[tuple[int, ...]],
    line: tuple[int, str, str, str, int, int, str, str],
) -> Cell:
    at, optimizer, device, role, of_seeds, copies, words, draws = line
    family, task, difficulty, label, digest, budget = rows[at]
    trials = [_trial(word, int(budget)) for word in words.split()]
    if len(trials) != len(seeds[of_seeds]):
        raise ValueError(f"{len(trials)} trials of {len(seeds[of_seeds])} seeds")
    patterns = (part.partition(":") for part in draws.split())
    return Cell(
        family=family,
        task=task,
        difficulty=int(difficulty),
        label=label,
        optimizer=optimizer,
        device=device,
        seeds=seeds[of_seeds],
        steps=tuple(step for step, _, _ in trials),
        used=tuple(used for _, used, _ in trials),
        failed=tuple(failed for _, _, failed in trials),
        budget=int(budget),
        copies=bool(copies),
        draws=tuple((pattern, int(count)) for pattern, _, count in patterns),
        digest=digest,
        role=role,
    )


def _trial(word: str, budget: int) -> tuple[float, int, bool]:
    """The step at which a trial won, the steps it took, and whether it failed."""
    won, ended, used = word.partition("x" if "x" in word else "-")
    step = float(won) if won else math.inf
    if not ended:
        return step, int(step), False
    return step, int(used) if used else budget, ended == "x"
