"""A report on disk: tables, figures and the page, each file whole or not written at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.reporting import printed
from harness.reporting.objects import CHECK_NAME, PAGE_NAME, Comparison, Report
from harness.reporting.page import index, parts
from harness.reporting.page import run as run_page
from harness.reporting.page.between import Between
from harness.reporting.page.check import check_section
from harness.reporting.page.matrix import matrix
from harness.reporting.tables.model import Table
from harness.store.database import FILE_NAME
from harness.store.read import Results

if TYPE_CHECKING:
    from harness.reporting.figures.draw import Drawing

FORMATS = (*parts.TABLE_FORMATS, *parts.FIGURE_FORMATS, "html")
"""Formats of a report's files; each is a file's ending."""


def write(
    results: Results,
    output: Path,
    formats: Collection[str] = FORMATS,
) -> Path:
    """Write the report of a run, with the latest check of its suite if the folder has one.

    Everything is made before anything is written, and everything is written beside its place
    before anything is put there, the page last. So a full disk leaves the report that was there.
    What an earlier page lists and this run has no more is removed, but only files in the formats
    that are written; with the page, all of them, for the new one doesn't list them.

    Args:
        results: The run.
        output: Folder of the report; made where there is none.
        formats: Which of ``FORMATS`` to write; what is of another is left as it is.

    Returns:
        The page: ``output/index.html``. Beside it are ``tables/<name>.csv``, ``.md`` and ``.tex``,
        and ``figures/<name>.svg``, ``.pdf`` and ``.png``. It is not there if ``formats`` lacks it.

    Raises:
        BadInput: If something can't be written.
    """
    report = Report(output / FILE_NAME, results.run.id, results)
    return write_report(report, formats)


def write_report(report: Report, formats: Collection[str] = FORMATS) -> Path:
    """Write a report beside its store; see :func:`write`."""
    return _put(_make(report, frozenset(formats)), report.page.parent, formats)


def write_side_by_side(beside: Comparison, formats: Collection[str] = FORMATS) -> Path:
    """Write the report of several results laid side by side, as :func:`write` does that of one.

    Args:
        beside: The results, and the folder of the report, which is made where there is none.
        formats: Which of ``FORMATS`` to write.

    Raises:
        BadInput: If something can't be written, or something else is there already.
    """
    output, page_path = beside.folder, beside.page
    if (output / FILE_NAME).exists():
        message = "has results of its own, whose page it is; give another --output"
        raise BadInput.of_file(str(output), message)
    if page_path.exists() and index.summary_of(page_path).sources < 2:
        message = "is not a page of results side by side; give another --output"
        raise BadInput.of_file(str(page_path), message)
    return write_report(beside, formats)


def _put(made: Mapping[str, bytes], output: Path, formats: Collection[str]) -> Path:
    """Put files in their places, as :func:`write` says; returns the page."""
    old = _listed(output / PAGE_NAME)
    current = {*made, *parts.listed_files(made.get(PAGE_NAME, b"").decode())}
    if PAGE_NAME not in made:
        old = [name for name in old if name.rpartition(".")[2] in formats]
    staged: dict[Path, Path] = {}
    path = output
    try:
        for name, content in made.items():
            path = output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            staged[path] = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            staged[path].write_bytes(content)
        page_path = output / PAGE_NAME
        for path in [path for path in staged if path != page_path]:
            staged[path].replace(path)
        for path in [output / name for name in old if name not in current]:
            path.unlink(missing_ok=True)
        if page_path in staged:
            path = page_path
            staged[path].replace(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInput.of_file(str(path), f"can't be written: {why}") from None
    finally:
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    return output / PAGE_NAME


def _make(report: Report, formats: frozenset[str]) -> dict[str, bytes]:
    """Every file's content by its path below the report's folder; the page comes last."""
    made = _table_files(report.tables.values(), formats)
    if formats.isdisjoint((*parts.FIGURE_FORMATS, "html")):
        return made
    drawings = report.figures.drawings()
    made |= _figure_files(drawings, formats)
    if "html" in formats:
        html = run_page.render(
            results=report.results,
            tables=list(report.tables.values()),
            records=report.figures.records,
            drawings=drawings,
            said=report.findings,
            check=check_section(report.checks, CHECK_NAME) if report.checks else None,
            between=_between(report),
            matrix=matrix(report.results, report.analysis),
            maps=report.analysis.maps,
            is_map_alone=report.analysis.is_map_alone,
            printed=printed.to_json(report.printed),
        )
        made[PAGE_NAME] = html.encode()
    return made


def _between(report: Report) -> Between | None:
    if not isinstance(report, Comparison):
        return None
    return Between(report.sources, report.between)


def _table_files(built: Iterable[Table], formats: Collection[str]) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for table in built:
        texts = {"csv": table.to_csv, "md": table.to_markdown, "tex": table.to_latex}
        for ending in parts.TABLE_FORMATS:
            if ending in formats:
                made[f"tables/{table.name}.{ending}"] = texts[ending]().encode()
    return made


def _figure_files(drawings: Iterable[Drawing], formats: Collection[str]) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for drawing in drawings:
        contents = {"svg": drawing.svg.encode(), "pdf": drawing.pdf, "png": drawing.png}
        for ending in parts.FIGURE_FORMATS:
            if ending in formats:
                made[f"figures/{drawing.name}.{ending}"] = contents[ending]
    return made


def _listed(old_page: Path) -> list[str]:
    """Files of an earlier report; only what it lists as its own is ever removed."""
    try:
        return parts.listed_files(old_page.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []
