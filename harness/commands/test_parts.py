"""Try a suite's parts before a long run: the coordinator's side.

Which parts there are, and what became of each. Imports no torch and runs none of a suite's code; a
worker does, in :mod:`harness.conformance`.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.conformance.records import (
    Begun,
    DatasetPart,
    ObjectivePart,
    Observation,
    OptimizerPart,
    Part,
    PartFinding,
    PartReport,
    Stuck,
)
from harness.errors import BadInput
from harness.formatting import as_text
from harness.plan.builder import Overrides, draft
from harness.plan.model import Case, Hyperparameters, Plan, named_by
from harness.plan.recipe import without_training
from harness.progress import NullProgress, Progress, relative
from harness.results import Finding
from harness.spec.validation import LoadedSpec, load
from harness.spec.yaml_source import SPECS, SUFFIXES, KeyPath, YamlSource
from harness.suite.locate import SECTIONS, Section, absolute, names_in
from harness.workers.executor import Done, Lost, Sent, Task
from harness.workers.pool import Pool
from harness.workers.requests import TryPart
from harness.workers.suite_log import suite_log

TEST_SECONDS = 30.0
"""Time limit of one test of a part."""

LOSSES = 2
"""Tests of a part that may hang or end the process before the others are left out."""


def test_suite(
    suite: Path,
    *,
    seconds: float = TEST_SECONDS,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PartReport:
    """Try every optimizer, objective and dataset that a suite's specs name.

    Args:
        suite: A spec, or a folder with some.
        seconds: How long each test of a part may take.
        workers: Worker processes at most; None for one per core.
        progress: Who is told how it goes.

    Returns:
        All that was found.

    Raises:
        BadInput: If there is no spec, or one has mistakes that show before its parts are loaded.
    """
    specs = _specs(suite)
    drafts = [draft(loaded, Overrides()) for loaded in specs]
    if problems := [problem for _, found in drafts for problem in found]:
        raise BadInput(problems)
    plans = [plan for plan, _ in drafts if plan is not None]
    parts = _parts(list(zip(specs, plans, strict=True)))
    memory = round(max(plan.spec.limits.memory_gib for plan in plans) * 2**30)
    size = min(workers or os.cpu_count() or 1, len(parts))
    progress = progress or NullProgress()
    with (
        suite_log(progress),
        Pool(size, memory, printed=progress.printed) as pool,
        progress.stage("testing", len(parts), "parts"),
    ):
        _run(pool, parts, seconds, progress)
    findings = tuple(finding for part in parts for finding in part.findings)
    folders = {loaded.folder for loaded in specs} if suite.is_dir() else set()
    return PartReport(findings, tuple(_untested(folders, plans)))


def _run(pool: Pool, parts: Sequence[_Trying], seconds: float, progress: Progress) -> None:
    """Have workers test all parts; a part goes on with its next test where one lost its worker."""
    running = {part.task(seconds): part for part in parts}
    for task in running:
        pool.submit(task)
    pool.grow()
    for event in pool.events():
        part = running[event.task]
        match event:
            case Sent():
                for answer in event.answers:
                    part.hear(answer)
            case Lost() if part.lose(event):
                task = part.task(seconds)
                running[task] = part
                pool.submit(task, first=True)
            case Done() | Lost():
                progress.advance(1)


@dataclass
class _Trying:
    """A part under test."""

    part: Part
    section: Section
    name: str
    source: YamlSource
    path: KeyPath
    findings: list[PartFinding] = field(default_factory=list)
    begun: Begun = field(default=Begun("loads", 0, None))
    stuck: Stuck | None = None
    losses: int = 0

    def task(self, seconds: float) -> Task[None]:
        """The tests after those that were begun, for a worker."""
        return Task(TryPart(self.part, self.begun.number, seconds), seconds)

    def hear(self, answer: Begun | Stuck | Observation) -> None:
        """Take in an answer that the worker sends on its way."""
        match answer:
            case Begun():
                self.begun, self.stuck = answer, None
            case Stuck():
                self.stuck = answer
            case Observation():
                self._find(answer)

    def lose(self, lost: Lost) -> bool:
        """Note that the worker was lost in a test; returns whether to go on with the next."""
        self.losses += 1
        reason = lost.reason.strip().rpartition("\n")[2]
        if lost.kind == "timeout":
            reason = f"does not finish ({reason})"
        self._find(Observation("wrong", reason, (self.stuck or self.begun).place))
        gate = self.begun.number <= GATES
        if not gate and self.losses >= LOSSES:
            self._find(Observation("note", "the remaining tests are skipped"))
        return not gate and self.losses < LOSSES

    def _find(self, seen: Observation) -> None:
        message = seen.message
        if seen.fault is None and seen.place is not None:
            place = f"{_shown(seen.place.file)}:{seen.place.line}"
        else:
            fault = seen.fault or Finding(self.path, message, at_key=True)
            problem = self.source.problem(fault.path, fault.message, at_key=fault.at_key)
            message, place = problem.message, f"{problem.file}:{problem.line}:{problem.column}"
        finding = PartFinding(self.section, self.name, self.begun.test, seen.kind, message, place)
        self.findings.append(finding)


GATES = 3
"""The first tests of a part; the others make no sense where one of these fails."""


def _shown(file: Path) -> str:
    """A file as seen from here, or an installed package's as seen from where it is installed."""
    here = relative(file)
    if here != str(file):
        return here
    roots = [Path(entry) for entry in sys.path if entry and Path(entry) in file.parents]
    return str(file.relative_to(max(roots, key=lambda root: len(root.parts)))) if roots else here


def _specs(suite: Path) -> list[LoadedSpec]:
    """The specs of a folder, or the one that is given."""
    if not suite.is_dir():
        return [load(suite)]
    found = [*sorted(suite.glob("[!.]*")), *sorted((suite / SPECS).glob("[!.]*"))]
    files = [p for p in found if p.suffix in SUFFIXES and p.is_file()]
    specs = [load(file) for file in files if _is_spec(file)]
    if not specs:
        raise BadInput.of_file(str(suite), "no spec (*.yaml) in this folder")
    return specs


def _is_spec(file: Path) -> bool:
    """Tell a file that is meant as a spec, even one with mistakes, from those of other tools."""
    text = file.read_bytes().decode(errors="replace")
    return re.search(r"^\W*(suite|objectives|optimizers)\W*:", text, re.MULTILINE) is not None


def _cases(plan: Plan) -> list[Case]:
    """The cases that a spec gives, and those at the ends of what it searches."""
    given = [case for case in plan.cases if case.role == "given"]
    return [*given, *(case for search in plan.searches for case in search.corners())]


def _parts(plans: Iterable[tuple[LoadedSpec, Plan]]) -> list[_Trying]:
    """Every part once, whichever and how many specs name it: optimizers first."""
    found: dict[object, _Trying] = {}
    for loaded, plan in plans:
        source = loaded.source
        for name in plan.spec.optimizers:
            cases: dict[object, Case] = {}
            for case in _cases(plan):
                if case.optimizer == name:
                    setting = without_training(case.hyperparameters)
                    cases.setdefault((case.located, case.recipe.base, _kind_of(setting)), case)
            for key, case in cases.items():
                setting = without_training(case.hyperparameters)
                label = f"{name} ({_setting(setting)})" if len(cases) > 1 else name
                part = OptimizerPart(plan, case)
                path: KeyPath = ("optimizers", name)
                found.setdefault(key, _Trying(part, "optimizers", label, source, path))
        for planned in plan.objectives:
            name, path = planned.name, ("objectives", planned.name)
            objective = ObjectivePart(plan, planned)
            found.setdefault(planned.key, _Trying(objective, "objectives", name, source, path))
            if (located := planned.dataset) is not None:
                rows = DatasetPart(located, name)
                trying = _Trying(rows, "datasets", located.reference, source, (*path, "dataset"))
                found.setdefault(("dataset", located), trying)
    parts = sorted(found.values(), key=lambda trying: SECTIONS.index(trying.section))
    names = Counter((trying.section, trying.name) for trying in parts)
    for trying in parts:
        if names[trying.section, trying.name] > 1:
            trying.name += f" of {Path(trying.source.file).name}"
    return parts


def _kind_of(setting: Hyperparameters) -> tuple[tuple[str, str], ...]:
    """All of a setting but the size of numbers above zero.

    An optimizer has a branch for a momentum of 0 or for ``nesterov``, not for each learning rate.
    """

    def kind(value: Any) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return "a number" if number and value > 0 else as_text(value)

    return tuple((name, kind(value)) for name, value in sorted(setting.items()))


def _setting(setting: Hyperparameters) -> str:
    return ", ".join(f"{name}={as_text(value)}" for name, value in setting.items()) or "defaults"


def _untested(folders: Iterable[Path], plans: Iterable[Plan]) -> Iterator[str]:
    """Files of suites of which no plan names anything."""
    used = {
        absolute(located.file)
        for plan in plans
        for located in named_by(_cases(plan))
        if located.file is not None
    }
    for folder in sorted(folders):
        for section in SECTIONS:
            files = dict.fromkeys(file for file, _ in names_in(folder, section).values())
            yield from (relative(f) for f in files if absolute(f) not in used)
