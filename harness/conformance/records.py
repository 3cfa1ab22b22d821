"""Parts of a suite to be tested, and findings about them: fine, worth a note, or wrong."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import printable
from harness.formatting import plural
from harness.plan.model import Case, Plan, PlannedObjective
from harness.results import Finding
from harness.suite.locate import ImportTarget, Section
from harness.terminal import aligned

Kind = Literal["fine", "note", "wrong"]


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

    located: ImportTarget
    objective: str


Part = OptimizerPart | ObjectivePart | DatasetPart


@dataclass(frozen=True)
class SourceLocation:
    """A line of source."""

    file: Path
    line: int


@dataclass(frozen=True)
class Observation:
    """One thing that a test saw, as the worker sends it.

    Attributes:
        kind: ``wrong``: the part must be changed; ``note``: it is as it may be, and the reader
            wants to know; ``fine``: neither.
        message: In a sentence.
        place: The line that is at fault or that is meant.
        fault: The same where it is the spec's; in place of ``message`` and ``place``.
    """

    kind: Kind
    message: str = ""
    place: SourceLocation | None = None
    fault: Finding | None = None


FINE = Observation("fine")


def wrong(message: str, place: SourceLocation | None = None) -> Observation:
    """Say that a part must be changed."""
    return Observation("wrong", message, place)


def note(message: str) -> Observation:
    """Say what is as it may be, and worth knowing."""
    return Observation("note", message)


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
    place: SourceLocation | None


@dataclass(frozen=True)
class Stuck:
    """The line at which a test is that has nearly used up its time."""

    place: SourceLocation


@dataclass(frozen=True)
class PartFinding:
    """A finding of one test about one part.

    Attributes:
        section: ``optimizers``, ``objectives`` or ``datasets``.
        part: As the spec calls it; with the setting or the spec, where there are several.
        test: Its name, as in docs/own-suite.md.
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
    """The findings about a suite's parts.

    Attributes:
        findings: By part, in the order of the specs, and in the order of the tests.
        untested: Suite files of which no spec here names anything.
    """

    findings: tuple[PartFinding, ...]
    untested: tuple[str, ...] = ()

    @property
    def wrong(self) -> tuple[PartFinding, ...]:
        """Everything that must be changed."""
        return tuple(finding for finding in self.findings if finding.kind == "wrong")

    @property
    def exit_status(self) -> int:
        """0 if nothing is wrong, else 1."""
        return int(bool(self.wrong))

    def __str__(self) -> str:
        return terminal(self).rstrip("\n")


_COLOURS: dict[Kind, str] = {"wrong": "red", "note": "yellow", "fine": "green"}


def terminal(report: PartReport, width: int = 80, *, colour: bool = False) -> str:
    """The findings part by part: all that is fine in a line, anything else in a sentence.

    Args:
        report: The findings.
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
        text = f"Not tested, because no spec here uses it: {', '.join(report.untested)}"
        blocks.append(textwrap.wrap(printable(text), width))
    counts = Counter(finding.kind for finding in report.findings)
    notes = plural(counts["note"], "note")
    total = f"{counts['fine']:,} fine, {notes}, {counts['wrong']:,} wrong."
    blocks.append([f"{plural(len(parts), 'part')}: {total}"])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _lines(found: Sequence[PartFinding], width: int, *, colour: bool) -> Iterator[str]:
    from rich.text import Text

    fine = ", ".join(f.test for f in found if f.kind == "fine")
    texts: list[tuple[Kind, str, str]] = [("fine", fine, "")] if fine else []
    for kind in ("note", "wrong"):
        texts += [(f.kind, f"{f.test}: {f.message}", f.place) for f in found if f.kind == kind]
    for kind, text, place in texts:
        row = (Text(f"{kind:<5}", _COLOURS[kind]), text)
        yield from aligned([row], indent=2, width=max(30, width), colour=colour)
        if place:
            yield f"         {printable(place)}"
