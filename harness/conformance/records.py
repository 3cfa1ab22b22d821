"""What is tried of a suite's parts, and what was found: sound, different or wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import printable
from harness.plan.model import Case, Plan, PlannedObjective
from harness.results import Finding
from harness.suite.locate import Located, Section

Kind = Literal["fine", "note", "wrong"]
KINDS: tuple[Kind, ...] = ("wrong", "note", "fine")


@dataclass(frozen=True)
class OptimizerPart:
    """An optimizer of a spec with one of its settings."""

    plan: Plan
    case: Case


@dataclass(frozen=True)
class ObjectivePart:
    """An objective of a spec."""

    plan: Plan
    planned: PlannedObjective


@dataclass(frozen=True)
class DatasetPart:
    """A dataset, and the name of the first objective that uses it."""

    located: Located
    objective: str


Part = OptimizerPart | ObjectivePart | DatasetPart


@dataclass(frozen=True)
class Place:
    """A line of source."""

    file: Path
    line: int


@dataclass(frozen=True)
class Observation:
    """What a test saw, as the worker tells it.

    Attributes:
        kind: ``wrong``: the part must be changed; ``note``: it is as it may be, and the reader
            wants to know; ``fine``: neither.
        message: In a sentence.
        place: The line that is at fault or that is meant.
        fault: The same where it is the spec's; in place of ``message`` and ``place``.
    """

    kind: Kind
    message: str = ""
    place: Place | None = None
    fault: Finding | None = None


@dataclass(frozen=True)
class Begun:
    """A test begins.

    Attributes:
        test: Its name.
        number: From 1; what the worker gives as its step meanwhile.
        place: What is tested.
    """

    test: str
    number: int
    place: Place | None


@dataclass(frozen=True)
class Stuck:
    """Where a test is that has nearly used up its time."""

    place: Place


@dataclass(frozen=True)
class PartFinding:
    """What one test found out about one part.

    Attributes:
        section: ``optimizers``, ``objectives`` or ``datasets``.
        part: As the spec calls it; with the setting or the spec, where there are several.
        test: What was tested; stands in docs/own-suite.md.
        kind: ``fine``, ``note`` (as it may be, and worth knowing) or ``wrong``.
        message: In a sentence.
        place: ``file:line``, with the column in a spec, as seen from the current folder.
    """

    section: Section
    part: str
    test: str
    kind: Kind
    message: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.section[:-1]} {self.part}: {self.test}: {self.message}"


@dataclass(frozen=True)
class PartReport:
    """What became of a suite's parts.

    Attributes:
        findings: By part, in the order of the specs, and in the order of the tests.
        untested: Suite files of which no spec here names anything.
    """

    findings: tuple[PartFinding, ...]
    untested: tuple[str, ...] = ()

    @property
    def wrong(self) -> tuple[PartFinding, ...]:
        """What must be changed."""
        return tuple(finding for finding in self.findings if finding.kind == "wrong")

    @property
    def exit_status(self) -> int:
        """0 if nothing is wrong, else 1."""
        return int(bool(self.wrong))

    def __str__(self) -> str:
        return terminal(self).rstrip("\n")


def terminal(report: PartReport, width: int = 80, *, colour: bool = False) -> str:
    """What was found, part by part: what is fine in a line, anything else in a sentence.

    Args:
        report: What was found.
        width: Columns of the terminal.
        colour: Whether kinds are coloured as well; they are always there in words.
    """
    parts: dict[tuple[Section, str], list[PartFinding]] = {}
    for finding in report.findings:
        parts.setdefault((finding.section, finding.part), []).append(finding)
    blocks = [
        [printable(f"{section[:-1]} {part}"), *_lines(found, width, colour=colour)]
        for (section, part), found in parts.items()
    ]
    if report.untested:
        text = f"Not tested, since no spec here names anything in it: {', '.join(report.untested)}"
        blocks.append(textwrap.wrap(printable(text), width))
    counts = {kind: sum(f.kind == kind for f in report.findings) for kind in KINDS}
    total = f"{len(parts):,} part{'s' * (len(parts) != 1)}: {counts['fine']:,} fine, "
    total += f"{counts['note']:,} note{'s' * (counts['note'] != 1)}, {counts['wrong']:,} wrong."
    blocks.append([total])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


_COLOURS: dict[Kind, int] = {"wrong": 31, "note": 33, "fine": 32}


def _lines(found: Sequence[PartFinding], width: int, *, colour: bool) -> Iterator[str]:
    fine = ", ".join(f.test for f in found if f.kind == "fine")
    texts: list[tuple[Kind, str, str]] = [("fine", fine, "")] if fine else []
    texts += [
        (f.kind, f"{f.test}: {f.message}", f.place)
        for kind in reversed(KINDS)
        for f in found
        if f.kind == kind != "fine"
    ]
    for kind, text, place in texts:
        lines = textwrap.wrap(printable(text), max(20, width - 9), break_long_words=False)
        mark = f"{kind:<5}"
        yield f"  {_painted(mark, _COLOURS[kind]) if colour else mark}  {lines[0]}"
        yield from (f"         {line}" for line in lines[1:])
        if place:
            yield f"         {printable(place)}"


def _painted(text: str, number: int) -> str:
    return f"\N{ESCAPE}[{number}m{text}\N{ESCAPE}[0m"
