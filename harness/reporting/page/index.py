"""The list of the reports that lie in one folder: a page over the pages, made anew with each.

What it says of a run it reads in one look, without the losses.
"""

from __future__ import annotations

import contextlib
import json
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import BadInput
from harness.formatting import moment
from harness.gate import report as verdicts
from harness.reporting.page import parts
from harness.results import STATUSES
from harness.store import database
from harness.store.database import FILE_NAME, NoResults
from harness.store.records import RunSummary

FOLDER = "reports"
"""What a folder is called in which reports lie, unless somebody says otherwise."""

PAGE_NAME, CHECK_NAME = "index.html", "check/check.json"

MARK = "harness-shelf"
"""What the head of the page is known by."""

Kind = Literal["run", "side by side"]


@dataclass(frozen=True)
class Entry:
    """One folder with a report, or with what is left of one.

    Attributes:
        folder: Its name.
        kind: Whether of one run or of several.
        title: What it is called.
        suite: The suite's name, or the names of what lies side by side; may be empty.
        started: UTC, ISO 8601; empty where that is not known.
        trials: How many trials ended how, or how many cases are shared.
        lacking: How many of the trials planned have no result.
        size: Optimizers × objectives; empty where that is not known.
        finding: What its page says first; may be empty.
        checked: What its latest check came to, in words; empty without one.
        link: Where its page is, relative to the list; empty where there is none.
        trouble: Why it can't be read, or what is to be known of it; empty if nothing is.
    """

    folder: str
    kind: Kind
    title: str
    suite: str = ""
    started: str = ""
    trials: tuple[tuple[str, int], ...] = ()
    lacking: int = 0
    size: str = ""
    finding: str = ""
    checked: str = ""
    link: str = ""
    trouble: str = ""


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
        html = render(entries(folder), folder.name)
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
    """Whether the list of a folder's reports may be written there."""
    page = folder / PAGE_NAME
    if page.is_symlink() or page.exists():
        return page.is_file() and not page.is_symlink() and bool(parts.told(page, MARK))
    return folder.name == FOLDER and not (folder / FILE_NAME).exists()


def entries(folder: Path) -> list[Entry]:
    """What lies in a folder, newest first; what has no date comes last."""
    found: list[Entry] = []
    for path in sorted(folder.iterdir()):
        try:
            found += _entries(path)
        except OSError as error:
            trouble = f"can't be read: {error.strerror}"
            found.append(Entry(path.name, "run", path.name, trouble=trouble))
    return sorted(found, key=lambda entry: entry.started, reverse=True)


def _entries(path: Path) -> Iterator[Entry]:
    """The entry of one folder; nothing of what holds no report."""
    if path.name.startswith(".") or not path.is_dir():
        return
    page = path / PAGE_NAME
    link = f"./{urllib.parse.quote(path.name)}/{PAGE_NAME}" if page.is_file() else ""
    about = parts.told(page, "harness-side-by-side")
    if about:
        yield _of_several(path, link, about)
    elif (path / FILE_NAME).exists():
        yield _of_run(path, link)
    elif (path / CHECK_NAME).is_file() or parts.told(page, "harness-files"):
        trouble = f"no {FILE_NAME} here"
        yield Entry(path.name, "run", path.name, checked=_checked(path), link=link, trouble=trouble)


def _of_several(path: Path, link: str, about: str) -> Entry:
    finding = parts.told(path / PAGE_NAME, "description")
    try:
        known = json.loads(about)
        names = [str(name) for name in known["sources"]]
        size = f"{known['shared']:,} of {known['cases']:,} cases in several"
        started = str(known["started"])
    except (ValueError, KeyError, TypeError):
        return Entry(path.name, "side by side", path.name, link=link, trouble="can't be read")
    return Entry(
        folder=path.name,
        kind="side by side",
        title=", ".join(names),
        suite=", ".join(names),
        started=started,
        size=size,
        finding=finding,
        link=link,
    )


def _of_run(path: Path, link: str) -> Entry:
    checked = _checked(path)
    try:
        seen = database.summarize(path / FILE_NAME)
    except NoResults:
        trouble = "no results here yet"
        return Entry(path.name, "run", path.name, checked=checked, link=link, trouble=trouble)
    except BadInput as error:
        why = error.problems[0].message.partition(";")[0]  # what to do is said to who opens it
        trouble = f"can't be read: {FILE_NAME} {why}"
        return Entry(path.name, "run", path.name, checked=checked, link=link, trouble=trouble)
    except Exception as error:  # whatever a file holds that isn't what we wrote: a row says so
        trouble = f"can't be read: {type(error).__name__}: {error}"
        return Entry(path.name, "run", path.name, checked=checked, link=link, trouble=trouble)
    if seen is None:
        trouble = "holds no run, only what checks measured" if checked else "holds no run"
        return Entry(path.name, "run", path.name, checked=checked, link=link, trouble=trouble)
    return Entry(
        folder=path.name,
        kind="run",
        title=seen.title or seen.suite,
        suite=seen.suite,
        started=seen.started,
        trials=tuple((s, seen.statuses[s]) for s in STATUSES if s in seen.statuses),
        lacking=max(0, seen.cases * seen.seeds - sum(seen.statuses.values())),
        size=_size(seen),
        finding=parts.told(path / PAGE_NAME, "description"),
        checked=checked,
        link=link,
        trouble="" if seen.finished else "still running, or cut short",
    )


def _size(seen: RunSummary) -> str:
    text = f"{seen.optimizers} × {seen.objectives}"
    return f"{text}, on {seen.devices} devices" if seen.devices > 1 else text


def _checked(path: Path) -> str:
    """What a folder's latest check came to; empty without one."""
    try:
        latest = verdicts.from_json((path / CHECK_NAME).read_bytes())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return "can't be read"
    word = verdicts.WORDS[latest.exit_status][0]
    return f"{word} against {latest.against}, {moment(latest.taken)}"


def render(found: list[Entry], name: str) -> str:
    """The list as HTML.

    Args:
        found: What it lists.
        name: What the folder is called.
    """
    return parts.document(
        "shelf.html.j2",
        [],
        title=f"Reports in {name}" if name != FOLDER else "Reports",
        runs=[entry for entry in found if entry.kind == "run"],
        several=[entry for entry in found if entry.kind == "side by side"],
        moment=moment,
        counted=parts.counted,
    )
