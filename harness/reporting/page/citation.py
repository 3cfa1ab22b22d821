"""Citations of the harness, a run and the data in it."""

from __future__ import annotations

import datetime
import hashlib
import re

from harness import __version__
from harness.errors import join
from harness.store.read import Results
from harness.store.records import RunRecord

DIGITS = 12
"""Of a spec's digest, as many as are told."""


def bibtex(run: RunRecord) -> str:
    """An entry for the harness that made a run, of a type that every style knows."""
    fields = {
        "author": "{The harness authors}",
        "title": "Optimizer harness: {A} declarative harness that compares optimizers",
        "year": _day(run)[:4],
        "note": f"Computer software, version {_version(run)}",
    }
    lines = [f"  {name:<6} = {{{text}}}," for name, text in fields.items() if text]
    return "\n".join(["@misc{harness,", *lines, "}"])


def sentence(run: RunRecord) -> str:
    """A run in a sentence: what was run, when, with what, and digests of both."""
    when = f", run on {_day(run)}" if _day(run) else ""
    digest = hashlib.sha256(run.spec_text.encode()).hexdigest()[:DIGITS]
    known = f"SHA-256 of the spec: {digest}"
    if git := run.environment.get("git"):
        known += f"; git commit: {git}"
    return f"Suite “{run.suite}”{when} with Optimizer harness {_version(run)} ({known})."


def sources(results: Results) -> list[tuple[str, str]]:
    """For each source of data in a run, the objectives that have it, and the source."""
    found: dict[str, list[str]] = {}
    for info in results.objectives.values():
        if info.data_source:
            found.setdefault(info.data_source, []).append(info.name)
    return [(join(names, len(names)), source) for source, names in found.items()]


def _version(run: RunRecord) -> str:
    """The version that made the run; braces and the like would end a BibTeX field."""
    return re.sub(r"[^\w.+-]", "", run.environment.get("harness", "")) or __version__


def _day(run: RunRecord) -> str:
    """The day on which a run began; empty where that can't be read."""
    try:
        return datetime.datetime.fromisoformat(run.started).date().isoformat()
    except ValueError:
        return ""
