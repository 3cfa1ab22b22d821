"""A check as GitHub's workflow commands, which annotate lines of the spec."""

from __future__ import annotations

import re

from harness.errors import printable
from harness.gate.outputs import wording
from harness.gate.report import GateReport


def render(report: GateReport) -> str:
    """A line for each thing that isn't fine, gravest first.

    Metrics of a cell of which the same is said, without a number, share one: GitHub shows only ten
    errors, ten warnings and ten notices of a step.
    """
    lines = []
    for remark in wording.remarks(report):
        cell_id, outcome = remark.cell.id, remark.judgements[0].outcome
        title = f"{cell_id}: {remark.metrics} {outcome}" if remark.metrics else ""
        properties = {**_place(remark.cell.place), "title": title or f"{cell_id}: {outcome}"}
        shown = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
        text = ": ".join(part for part in (cell_id, remark.metrics, remark.text) if part)
        lines.append(f"::{wording.SEVERITIES[remark.kind]} {shown}::{_escaped(text)}\n")
    return "".join(lines)


def _place(place: str) -> dict[str, str]:
    """File, line and column of ``file:line:col``; the file of a file alone."""
    found = re.fullmatch(r"(?P<file>.+):(?P<line>[0-9]+):(?P<col>[0-9]+)", place, re.DOTALL)
    if found:
        return found.groupdict()
    return {"file": place} if place else {}


def _escaped(message: str) -> str:
    message = printable(message, keep="\r\n")
    return message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _escaped(value).replace(":", "%3A").replace(",", "%2C")
