"""The list of the reports that lie in one folder, made anew with each of them.

It is made of what each report's page says of itself in its head; no results are read.
"""

from __future__ import annotations

import contextlib
import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.formatting import moment
from harness.gate import report as gate_report
from harness.reporting.page import parts
from harness.store.database import FILE_NAME

FOLDER = "reports"
"""Name of a folder in which reports lie, unless somebody says otherwise."""

PAGE_NAME, CHECK_NAME = "index.html", "check/check.json"

LIST_MARK, SUMMARY_MARK, THUMBNAIL_MARK = "harness-list", "harness-summary", "harness-thumbnail"
"""Names of what the heads of the list and of a report's page hold."""

THUMBNAIL = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/]+=*")


class RunSummary(BaseModel):
    """A summary of a report, as its page holds it.

    Attributes:
        title: Title of the run, or name of its suite; empty where neither is known.
        suite: Name of the suite, or the names of several sources.
        started: UTC, ISO 8601; empty where it is not known.
        finished: Whether the run has come to its end.
        sources: How many runs it is a report of; 0 where the page tells nothing of itself.
        size: Optimizers × objectives.
        trials: How many trials ended in which status.
        missing: How many of the trials planned have no result.
        finding: The result in a sentence.
    """

    model_config = ConfigDict(frozen=True)

    title: str = ""
    suite: str = ""
    started: str = ""
    finished: bool = True
    sources: int = 0
    size: str = ""
    trials: tuple[tuple[str, int], ...] = ()
    missing: int = 0
    finding: str = ""


@dataclass(frozen=True)
class ListedReport:
    """A row of the list.

    Attributes:
        folder: Name of the report's folder.
        summary: Summary of the report.
        checked: Outcome of its latest check, in words; empty without one.
        passed: Whether nothing failed in that check.
        thumbnail: Its key figure, small, as a ``data:`` URI; empty without one.
        link: Its page, relative to the list; empty where there is none.
        trouble: Why it can't be read, or what is to be known of it; empty if nothing is.
    """

    folder: str
    summary: RunSummary
    checked: str
    link: str
    trouble: str
    passed: bool = True
    thumbnail: str = ""


def update(report: Path) -> str:
    """Write the list anew of the folder in which a report's folder lies, if that is ours.

    It is ours if the list there is, or if it is called ``reports`` and holds no ``index.html``
    and no results itself. A page that somebody else put there stays.

    Returns:
        Why the list could not be written; empty if it could, or if there is none to write.
    """
    folder = report.absolute().parent
    page = folder / PAGE_NAME
    try:
        if not is_ours(folder):
            return ""
        html = render(reports_in(folder), folder.name)
        temporary = page.with_name(f".{PAGE_NAME}.{os.getpid()}.tmp")
        try:
            temporary.write_text(html, encoding="utf-8")
            temporary.replace(page)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        return f"{page}: the list of reports can't be written: {error.strerror or error}"
    except Exception as error:  # the report stands; no list is worth a run that ends in an error
        return f"{page}: the list of reports can't be written: {type(error).__name__}: {error}"
    return ""


def is_ours(folder: Path) -> bool:
    """Return True where the list of a folder's reports may be written there."""
    page = folder / PAGE_NAME
    if page.is_symlink() or page.exists():
        # Lists of older versions have another mark.
        marks = (LIST_MARK, "harness-shelf")
        is_list = any(parts.head_of(page, mark) for mark in marks)
        return page.is_file() and not page.is_symlink() and is_list
    return folder.name == FOLDER and not (folder / FILE_NAME).exists()


def summary_of(page: Path) -> RunSummary:
    """The summary in the head of a report's page; without sources where it holds none."""
    text = parts.head_of(page, SUMMARY_MARK)
    try:
        return RunSummary.model_validate_json(text) if text else RunSummary()
    except ValidationError:
        return RunSummary()


def reports_in(folder: Path) -> list[ListedReport]:
    """The reports in a folder, newest first; those without a date come last."""
    found = [
        _listed(path)
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".") and _is_report(path)
    ]
    return sorted(found, key=lambda one: one.summary.started, reverse=True)


def _is_report(path: Path) -> bool:
    if parts.head_of(path / PAGE_NAME, "harness-files"):
        return True
    return (path / FILE_NAME).exists() or (path / CHECK_NAME).is_file()


def _listed(path: Path) -> ListedReport:
    page = path / PAGE_NAME
    summary = summary_of(page)
    checked, passed = _checked(path)
    thumbnail = THUMBNAIL.fullmatch(parts.head_of(page, THUMBNAIL_MARK))
    trouble = ""
    if not summary.sources:
        trouble = "its page is of an older version" if page.is_file() else "no page yet"
        trouble += f"; harness report {path.name} makes it anew" if page.is_file() else ""
    elif not summary.finished:
        trouble = "not finished: still running, or cut short"
    return ListedReport(
        folder=path.name,
        summary=summary,
        checked=checked,
        passed=passed,
        thumbnail=thumbnail[0] if thumbnail else "",
        link=f"./{urllib.parse.quote(path.name)}/{PAGE_NAME}" if page.is_file() else "",
        trouble=trouble,
    )


def _checked(path: Path) -> tuple[str, bool]:
    """The outcome of a folder's latest check, empty without one; whether nothing failed in it."""
    try:
        latest = gate_report.from_json((path / CHECK_NAME).read_bytes())
    except FileNotFoundError:
        return "", True
    except (OSError, ValueError):
        return "can't be read", False
    word = gate_report.WORDS[latest.exit_status][0]
    passed = latest.exit_status not in (gate_report.EXIT_REGRESSED, gate_report.EXIT_MISSING)
    return f"{word} against {latest.against}, {moment(latest.taken)}", passed


def render(found: list[ListedReport], name: str) -> str:
    """The list as HTML.

    Args:
        found: Its rows.
        name: Name of the folder.
    """
    return parts.document(
        "index.html.j2",
        [],
        title=f"Reports in {name}" if name != FOLDER else "Reports",
        reports=found,
        moment=moment,
        counted=parts.counted,
    )
