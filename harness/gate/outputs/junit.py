"""A check as JUnit's XML."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from harness.gate.outputs import wording
from harness.gate.report import CellVerdict, GateReport, Judgement


def render(report: GateReport) -> str:
    """A suite for the check, a test for each metric of each cell.

    What regressed is a failure, what is missing or failed an error, what can't be judged skipped.
    What only warns passes, with the warning as its output.
    """
    tests = [_testcase(report, cell, judgement) for cell, judgement in report]
    counts = {"tests": str(len(tests))}
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        counts[name] = str(sum(test.find(tag) is not None for test in tests))
    counts["time"] = f"{report.seconds:.6f}"
    root = ElementTree.Element("testsuites", {"name": "harness check", **counts})
    attributes = {"name": _legal(report.suite), **counts, "timestamp": _legal(report.taken)}
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in {
        "spec": report.spec_file,
        "against": report.against,
        "git": report.git,
        **{f"machine.{key}": value for key, value in report.machine.items()},
        "machine_key": report.machine_key,
        **{f"control.{i}": f"{ratio:.6g}" for i, ratio in enumerate(report.controls)},
        **{f"differs.{i}": sentence for i, sentence in enumerate(report.differs)},
    }.items():
        ElementTree.SubElement(properties, "property", name=_legal(key), value=_legal(value))
    suite.extend(tests)
    ElementTree.indent(root)
    shown = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{shown}\n'


def _testcase(
    report: GateReport, cell: CellVerdict, judgement: Judgement
) -> ElementTree.Element[str]:
    setting = f"[{cell.setting}]" if cell.setting else ""
    measured = cell.blocks if judgement.metric == "time" else ()
    attributes = {
        "classname": _legal(f"{report.suite}.{cell.objective}.{cell.device}"),
        "name": _legal(f"{cell.optimizer}{setting}: {judgement.name}"),
        "time": f"{sum(sum(blocks.cell) for blocks in measured):.6f}",
    }
    test = ElementTree.Element("testcase", attributes)
    message = _legal(wording.describe(judgement))
    content = _legal(f"{cell.place}: {cell.id}: {judgement.name}: {wording.describe(judgement)}")
    kind = wording.kind_of(judgement)
    if kind == "regressed":
        child = ElementTree.SubElement(test, "failure", message=message, type=kind)
    elif kind in ("missing", "failed"):
        child = ElementTree.SubElement(test, "error", message=message, type=kind)
    elif judgement.outcome in ("inconclusive", "not comparable"):
        child = ElementTree.SubElement(test, "skipped", message=message)
    elif kind == "fine":
        return test
    else:
        child = ElementTree.SubElement(test, "system-out")
        content = f"warning: {content}" if kind == "with warnings" else content
    child.text = content
    return test


def _legal(value: str) -> str:
    r"""Text without what XML 1.0 forbids, nor a ``\r``, which readers turn into ``\n``."""
    forbidden = "[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return re.sub(forbidden, lambda found: found[0].encode("unicode_escape").decode(), value)
