"""The page's section on the latest check against a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.formatting import moment
from harness.gate import history
from harness.gate.history import Change, Series
from harness.reporting.page.facts import Facts
from harness.reporting.tables.check import against, summary

if TYPE_CHECKING:
    from harness.reporting.objects import Checks


@dataclass(frozen=True)
class CheckSection:
    """The latest check, beside its table and figures.

    Attributes:
        verdict: Its outcome, in a sentence; empty where it can't be read.
        facts: Facts on how it was made, term by term.
        remarks: What to know when reading it, a sentence each.
        changes: Where times moved to a new level, a sentence each, numbered as in the figure.
        changes_note: A note in place of such sentences; may be empty.
        outcome: ``failed`` or ``inconclusive``; empty where it passed or can't be read.
        brief: The outcome in a few words.
    """

    verdict: str
    facts: Facts = ()
    remarks: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    changes_note: str = ""
    outcome: str = ""
    brief: str = ""


def check_section(checks: Checks, file_name: str) -> CheckSection:
    """The section on some checks, the latest of which lies in a file of that name."""
    latest = checks.latest
    if latest is None:
        return CheckSection("", remarks=(f"{file_name} is left out: {checks.why}.",))
    facts = [("Checked", moment(latest.taken, to_the_minute=True)), ("Against", latest.against)]
    if latest.git:
        facts.append(("Git commit", latest.git))
    facts.append(("Took", f"{latest.seconds:.1f} s"))
    if latest.controls:
        ratios = ", ".join(f"{ratio:.4f}" for ratio in latest.controls)
        facts.append(("Reference loop to itself, 1 on a quiet machine", ratios))
    facts.append(("Machine", ", ".join(f"{k} {v}" for k, v in latest.machine.items())))
    return CheckSection(
        verdict=against(latest),
        facts=tuple(facts),
        remarks=(*latest.differs, *checks.remarks),
        changes=tuple(map(str, checks.changes)),
        changes_note=_changes_note(checks.series, checks.changes),
        outcome={0: "", 3: "inconclusive"}.get(latest.exit_status, "failed"),
        brief=summary(latest, most=1),
    )


def _changes_note(known: Sequence[Series], changes: Sequence[Change]) -> str:
    """Say why there are no change points; empty where there are, or nothing to say."""
    most = max((len(one.ratios) for one in known), default=0)
    if most < 2 or changes:
        return ""
    if most < 2 * history.SHORTEST:
        return f"Change points are looked for from {2 * history.SHORTEST} checks on."
    if not history.can_find_changes():
        return history.NEEDS
    return f"No change point in {most:,} checks on this machine."
