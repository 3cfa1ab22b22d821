"""The page's sections on what differs between the sources of its results."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.sources import Source
from harness.formatting import moment, or_dash, plural, seed_ranges
from harness.reporting.page.parts import Grid, counted, counts, plain_grid

DIFF_LINES = 2000
"""Lines of a difference of two specs that are shown."""


@dataclass(frozen=True)
class SpecDifference:
    """Differences between the text of a source's spec and the first's.

    Attributes:
        title: Of which spec, and how much it is.
        text: A unified diff; empty where there is nothing to show.
    """

    title: str
    text: str


@dataclass(frozen=True)
class Between:
    """Several sources, and what differs between them.

    Attributes:
        sources: The sources.
        sentences: Sentences on what differs; see ``tables.side_by_side.sentences``.
    """

    sources: Sequence[Source]
    sentences: Sequence[str]

    @property
    def grid(self) -> Grid:
        """The sources, one a row."""
        rows = [
            (
                source.name,
                source.place,
                source.results.run.suite,
                or_dash(source.results.run.settings.title),
                moment(source.results.run.started),
                seed_ranges(source.results.run.settings.seeds),
                f"{len(source.results.optimizers)} × {len(source.results.objectives)}",
                counted(counts(source.results.trials["status"])),
            )
            for source in self.sources
        ]
        headings = ("run", "results", "suite", "title", "started", "seeds")
        return plain_grid("sources", (*headings, "optimizers × objectives", "trials"), rows)

    @property
    def spec_differences(self) -> list[SpecDifference]:
        """Differences of each spec from the first one, for those that differ."""
        first, *others = self.sources
        text = first.results.run.spec_text
        return [
            _spec_difference(first, other)
            for other in others
            if other.results.run.spec_text != text
        ]


def _spec_difference(first: Source, other: Source) -> SpecDifference:
    runs = first.results.run, other.results.run
    old, new = (run.spec_text.replace("\r\n", "\n").split("\n") for run in runs)
    files = [
        f"{source.name}: {run.spec_file}" for source, run in zip((first, other), runs, strict=True)
    ]
    lines = list(difflib.unified_diff(old, new, files[0], files[1], lineterm=""))
    title = f"The spec of {other.name} against that of {first.name}"
    if not lines:
        return SpecDifference(f"{title}: other line endings, the same lines", "")
    gone = sum(line.startswith("-") for line in lines[2:])
    added = sum(line.startswith("+") for line in lines[2:])
    if len(lines) > DIFF_LINES:
        lines = [*lines[:DIFF_LINES], f"… {len(lines) - DIFF_LINES:,} more lines"]
    title += f": {plural(gone, 'line')} gone, {added:,} new"
    return SpecDifference(title, "\n".join(lines))
