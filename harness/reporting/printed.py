"""Results as a terminal or a log shows them: the headline, a table, what failed or was skipped."""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import printable
from harness.formatting import device_name, duration, listed, plural
from harness.reporting import wording
from harness.terminal import UNLIMITED, aligned

if TYPE_CHECKING:
    import pandas as pd
    from rich.text import Text

    from harness.reporting.objects import Report, Run

MARK = "harness-results"
"""Name of what the head of a page holds."""

ROWS = 20
"""Rows of the table at most."""

FAILURES = 5
"""Kinds of failures that are listed at most."""

LEAST_COLUMNS = 60
"""Columns that the table takes at least, on however narrow a terminal."""

_WORDS = {"timeout": "timed out", "error": "ended in an error"}
"""Words for outcomes, where they differ from those that are stored."""

_COLOURS = {"best": "green", "tied": "green", "worse": "yellow", "failed": "red"}


@dataclass(frozen=True)
class Row:
    """An optimizer in its best setting on an objective, as texts."""

    objective: str
    optimizer: str
    loss: str  # or whatever else is reported
    verdict: str
    time_ratio: str
    outcome: str


@dataclass(frozen=True)
class Printed:
    """Results as texts.

    Attributes:
        run: Number of the run among those stored.
        headline: The answer in a sentence.
        rows: Of each objective the best first.
        more: How many rows are left out.
        troubles: What failed and what was skipped, a line each.
        words: What is reported of all objectives; ``value`` where that differs.
        maps: Of each map the cells won by optimizer; the headings first.
        said: Sentences on the families at which an optimizer fails.
    """

    run: int
    headline: str
    rows: tuple[Row, ...]
    more: int
    troubles: tuple[str, ...]
    words: str = wording.LOSS
    maps: tuple[tuple[tuple[str, ...], ...], ...] = ()
    said: tuple[str, ...] = ()

    @property
    def heading(self) -> tuple[str, ...]:
        """The headings after the objective."""
        return ("optimizer", f"{self.words} (95% interval)", "verdict", "time ratio")


def of(report: Report) -> Printed:
    """The texts that are printed of a report."""
    rows: tuple[Row, ...] = ()
    more = 0
    words = wording.LOSS
    if "summary" in report.tables:
        table = report.tables["summary"]
        frame, shown = table.frame.reset_index(drop=True), table.shown.reset_index(drop=True)
        kept = _kept(frame)
        infos = report.results.objectives
        words = wording.common(infos[name] for name in frame["objective"].unique())
        several = frame["device"].nunique() > 1
        rows = tuple(_row(frame.iloc[i], shown.iloc[i], words, several=several) for i in kept)
        more = len(frame) - len(kept)
    maps, said = _maps(report)
    known = (report.results.run.id, report.headline, rows, more, tuple(_troubles(report)), words)
    return Printed(*known, maps, said)


def _maps(report: Report) -> tuple[tuple[tuple[tuple[str, ...], ...], ...], tuple[str, ...]]:
    """Cells won of each map, and the sentences on its families."""
    from harness.reporting.tables import win_map, win_sentences

    known = report.analysis.maps
    tables = (report.tables[name] for name in win_map.summaries(known))
    shown = tuple(
        (tuple(map(str, table.shown.columns)), *map(tuple, table.texts)) for table in tables
    )
    return shown, tuple(text for one in known for text in win_sentences.families(one))


def work_done(run: Run, seconds: float) -> str:
    """The number of trials that were run now, and the seconds they took."""
    if not run.trained:
        return "Nothing new to run: every trial is stored already"
    stored = sum(run.statuses.values()) - run.statuses.get("unavailable", 0) - run.trained
    others = f"; {stored:,} were stored already" if stored > 0 else ""
    return f"{plural(run.trained, 'trial')} run in {duration(seconds)}{others}"


def to_json(shown: Printed) -> str:
    """Results as their page holds them, so that they need not be worked out again."""
    from pydantic import TypeAdapter

    return TypeAdapter(Printed).dump_json(shown).decode()


def from_page(page: Path, run: int) -> Printed | None:
    """The results of a run as a page holds them; None where it has none, or those of another."""
    from pydantic import TypeAdapter, ValidationError

    from harness.reporting.page import parts

    try:
        found = TypeAdapter(Printed).validate_json(parts.head_of(page, MARK))
    except ValidationError:
        return None
    return found if found.run == run else None


def render(
    shown: Printed, last: str = "", width: int | None = None, *, colour: bool = False
) -> str:
    """The headline, every optimizer's best setting on each objective, and what failed.

    Args:
        shown: The results.
        last: A line to end with.
        width: Columns of the terminal; None where lines may be as long as they need.
        colour: Whether verdicts are coloured as well; they are always there in words.
    """
    columns = width or UNLIMITED
    lines = [*shown.troubles, *filter(None, [last])]
    paragraphs = [
        _wrapped(shown.headline, columns),
        *(_map(rows, max(LEAST_COLUMNS, columns)) for rows in shown.maps),
        [line for text in shown.said for line in _wrapped(text, columns)],
        _table(shown, max(LEAST_COLUMNS, columns), colour=colour) if shown.rows else [],
        [line for text in lines for line in _wrapped(text, columns)],
    ]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + "\n"


def _map(rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    """The cells won by optimizer; without the last columns where the terminal is narrow."""
    kept = len(rows[0])
    while True:
        lines = aligned([list(row[:kept]) for row in rows])
        if kept <= 3 or max(map(len, lines)) <= columns:
            return lines
        kept -= 1


def _wrapped(text: str, columns: int) -> list[str]:
    indent = "    " if text.startswith(" ") else ""
    return textwrap.wrap(printable(text), columns, subsequent_indent=indent, break_on_hyphens=False)


def _table(shown: Printed, columns: int, *, colour: bool) -> list[str]:
    """The rows in columns; those of an objective below its name where that is narrower."""
    cells = [(row.objective, _cells(row)) for row in shown.rows]
    rows: list[list[str | Text]] = [["objective", *shown.heading]]
    rows += ([objective, *own] for objective, own in cells)
    whole: list[int] = []
    if max(map(len, aligned(rows))) > columns:
        rows, whole = [["", *shown.heading[1:]]], [0]
        for objective, group in itertools.groupby(cells, key=lambda one: one[0]):
            rows.append([objective, "", "", ""])
            rows += ([f"  {own[0]}", *own[1:]] for _, own in group)
    lines = aligned(rows, whole=whole, width=columns, colour=colour)
    more = [f"and {plural(shown.more, 'more row')} in the report"] if shown.more else []
    return [*lines, *more]


def _cells(row: Row) -> list[str | Text]:
    from rich.text import Text

    verdict = Text(printable(row.verdict), _COLOURS.get(row.outcome, ""))
    return [row.optimizer, row.loss, verdict, row.time_ratio]


def _kept(frame: pd.DataFrame) -> list[int]:
    """The rows that are shown: of every objective and device as many of the best as fit."""
    place = frame.groupby(["objective", "device"], sort=False).cumcount()
    return sorted(place.sort_values(kind="stable").index[:ROWS])


def _row(row: pd.Series, text: pd.Series, words: str, *, several: bool) -> Row:
    """A row of the summary under a heading; ``several``: on more than one device."""
    setting, ends = str(row["setting"]), str(text["95% interval"])
    has_ends = any(map(str.isdigit, ends))
    name, value = str(row["objective"]), str(text[words])
    if words == wording.ANY:
        name += f": {row['measure']}"
    return Row(
        objective=f"{name} on {row['device']}" if several else name,
        optimizer=f"{row['optimizer']} ({setting})" if setting else str(row["optimizer"]),
        loss=f"{value} ({ends})" if has_ends else value,
        verdict=str(text["verdict"]),
        time_ratio=str(text["time ratio"]),
        outcome=str(row["outcome"]),
    )


def _troubles(report: Report) -> Iterator[str]:
    """Lines on what failed and what was skipped."""
    trials = report.trials
    tried = Counter((t.device, status) for t in report.results.tried for status in t.statuses)
    in_tuning = _failed(Counter(status for _, status in tried.elements()), " in tuning and sweeps")
    if parts := [part for part in (_failed(Counter(trials["status"])), in_tuning) if part]:
        yield f"Failed: {'; '.join(parts)}"
    yield from _failures(trials)
    yield from _skipped(trials, tried)


def _failed(statuses: Counter[str], where: str = "") -> str:
    """Counts of failures, by kind: ``10 of 200 trials diverged, 2 timed out``."""
    kinds = [(kind, n) for kind, n in statuses.items() if kind not in ("ok", "unavailable")]
    if not kinds:
        return ""
    (kind, first), *others = sorted(kinds, key=lambda counted: -counted[1])
    texts = [f"{first:,} of {plural(statuses.total(), 'trial')}{where} {_word(kind)}"]
    return ", ".join([*texts, *(f"{n:,} {_word(kind)}" for kind, n in others)])


def _failures(trials: pd.DataFrame) -> Iterator[str]:
    """Lines on the kinds of failures among what is compared, the most frequent first."""
    wrong = trials[~trials["status"].isin(["ok", "unavailable"])]
    groups = wrong.groupby(["label", "status", "reason"], sort=False)
    kinds = sorted(groups, key=lambda group: -len(group[1]))
    for (label, status, reason), own in kinds[:FAILURES]:
        where = listed(list(dict.fromkeys(own["objective"])))
        count = plural(len(own), "trial")
        yield f"  {label} on {where} {_word(str(status))}: {reason or 'reason unknown'} ({count})"
    if len(kinds) > FAILURES:
        yield f"  and {plural(len(kinds) - FAILURES, 'more kind')} in the report"


def _skipped(trials: pd.DataFrame, tried: Counter[tuple[str, str]]) -> Iterator[str]:
    """Lines on devices that are not there, and on defaults that do not exist."""
    total = f"of {plural(len(trials) + tried.total(), 'trial')} skipped"
    absent = trials[trials["status"] == "unavailable"]
    for device, own in absent.groupby("device", sort=False):
        if len(own) == (trials["device"] == device).sum():
            count = len(own) + tried[str(device), "unavailable"]
            yield f"{device_name(str(device))} is not available: {count:,} {total}"
        else:
            for reason, some in own.groupby("reason", sort=False):
                yield f"{reason}: {len(some):,} {total}"


def _word(status: str) -> str:
    """A status as a verb."""
    return _WORDS.get(status, status)
