"""Tables: columns that are declared once, for machines and for readers, and what is made of them.

The CSV, the page, Markdown, LaTeX and the note that says what columns mean all come from one list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Generic, TypeVar

import pandas as pd

from harness.formatting import DASH, or_dash
from harness.reporting.tables import latex
from harness.store.read import CaseData

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column of a table.

    Attributes:
        key: Its name in the CSV; empty where readers alone see it.
        heading: Its heading, with the unit; empty where machines alone see it.
        value: The value that a row has here: in the CSV as it is, NaN where there is none.
        format: The value as a text.
        meaning: Its part of the table's note; may be empty.
        text: The text of a row, where that needs more than the value.
    """

    key: str
    heading: str
    value: Callable[[Row], Any] | None = None
    format: Callable[[Any], str] = str
    meaning: str = ""
    text: Callable[[Row], str] | None = None

    def values(self, rows: Iterable[Row]) -> list[Any]:
        """The numbers of the column."""
        assert self.value is not None
        return [self.value(row) for row in rows]

    def texts(self, rows: Iterable[Row]) -> list[str]:
        """The texts of the column."""
        if self.text is not None:
            return [self.text(row) for row in rows]
        return [self.format(value) for value in self.values(rows)]


def case_columns(case: Callable[[Row], CaseData]) -> tuple[Column[Row], ...]:
    """The columns that say which case a row is of."""
    return (
        Column("objective", "objective", lambda row: case(row).objective),
        Column("optimizer", "optimizer", lambda row: case(row).optimizer),
        Column("setting", "setting", lambda row: case(row).setting, or_dash),
        Column("device", "device", lambda row: case(row).device),
    )


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: File name without ending.
        title: Heading.
        note: Meaning of the columns, in a sentence or two.
        frame: The numbers; its columns are the CSV's. NaN where there is none.
        shown: The same cells as a person reads them; its columns are headings with units.
    """

    name: str
    title: str
    note: str
    frame: pd.DataFrame
    shown: pd.DataFrame

    @property
    def numeric(self) -> list[bool]:
        """For each column of ``shown``, whether it holds numbers."""
        one = r"([-+]?[0-9.]+(e[-+]?[0-9]+)?%?|-?∞)"
        none = ("", DASH)
        number = re.compile(rf"^{one}( (to|of) {one})?\*?$")
        return [
            all(cell in none or number.match(cell) for cell in cells)
            and any(cell not in none for cell in cells)
            for _, cells in self.shown.items()
        ]

    @property
    def best(self) -> list[bool]:
        """For each row, whether it is the best of its kind; none where that is not known."""
        if "outcome" not in self.frame:
            return []
        return [outcome in ("best", "tied") for outcome in self.frame["outcome"]]

    @property
    def texts(self) -> list[list[str]]:
        """The cells of ``shown``, row by row."""
        return [[str(cell) for cell in row] for row in self.shown.to_numpy().tolist()]

    def to_csv(self) -> str:
        """All digits, an empty cell where there is no number."""
        return str(self.frame.to_csv(index=False, lineterminator="\n"))

    def to_markdown(self) -> str:
        """Heading, table and note, in GitHub's Markdown."""
        rows = [[str(heading) for heading in self.shown.columns], *self.texts]
        columns = []
        for right, texts in zip(self.numeric, zip(*rows, strict=True), strict=True):
            cells = [text.replace("|", "\\|") for text in texts]
            width = max(3, *map(len, cells))
            cells.insert(1, "-" * (width - 1) + ":" if right else "-" * width)
            columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
        lines = (f"| {' | '.join(cells)} |" for cells in zip(*columns, strict=True))
        return f"## {self.title}\n\n" + "\n".join(lines) + f"\n\n{self.note}\n"

    def to_html(self) -> str:
        """Heading, table and note, for a page of somebody else's."""
        right = self.shown.columns[self.numeric]
        styler = self.shown.style.hide(axis="index").set_uuid(self.name).format(escape="html")
        styler.format_index(escape="html", axis="columns")
        styler.set_properties(subset=right, **{"text-align": "right"})
        table, title, note = styler.to_html(), escape(self.title), escape(self.note)
        return f"<h4>{title}</h4>{table}<p><small>{note}</small></p>"

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_latex(self) -> str:
        """The table with title and note as its caption, for a paper; see ``latex.table``."""
        headings = [str(heading) for heading in self.shown.columns]
        parts = headings, self.texts, self.numeric
        roles = latex.roles(*parts)
        left_out = [h for h, role in zip(headings, roles, strict=True) if role == "narrow"]
        content = latex.arranged(*parts, roles)
        return latex.table(self.name, self.title, self.note, content, left_out, self.best)


def table_of(
    name: str,
    title: str,
    columns: Sequence[Column[Row]],
    rows: Iterable[Row],
    before: str,
) -> Table | None:
    """A table of rows; None of no rows.

    Args:
        name: File name without ending.
        title: Heading.
        columns: From left to right.
        rows: Records that the columns take their values from.
        before: The note, before the meanings that columns have of their own.
    """
    rows = list(rows)
    if not rows:
        return None
    frame = pd.DataFrame({one.key: one.values(rows) for one in columns if one.key})
    shown = pd.DataFrame({one.heading: one.texts(rows) for one in columns if one.heading})
    note = " ".join([before, *(one.meaning for one in columns if one.meaning)])
    return Table(name, title, note, frame, shown)
