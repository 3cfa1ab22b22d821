"""What a check found, for people and for CI: terminal, Markdown, annotations, JUnit, JSON.

Every function takes a report and returns text. Names come from the user and may hold anything;
whatever can't be printed is escaped as in a Python string, so that no text spills into a line,
a cell or a tag that isn't its own.
"""

# No ``from __future__ import annotations``: a function here has that name.
import json
import math
import re
import statistics
import textwrap
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal
from xml.etree import ElementTree

from rich.cells import cell_len

from harness.errors import printable
from harness.gate.report import (
    EXIT_FINE,
    WORDS,
    Blocks,
    CellVerdict,
    GateReport,
    Judgement,
    Metric,
)

DASH = "–"

MARKDOWN_ROWS, MARKDOWN_SENTENCES = 1000, 200
"""How much of a report Markdown shows: GitHub takes at most a mebibyte of it."""

SPELT_OUT = 3
"""Cells that can't be compared for the same reason and still get a line each."""

PYTEST_BENCHMARK = "5.3.1"
"""The version of pytest-benchmark whose JSON is written."""

_Kind = Literal[
    "regressed",
    "missing",
    "failed",
    "inconclusive",
    "not comparable",
    "with warnings",
    "better",
    "fine",
]
_KINDS: tuple[_Kind, ...] = (
    *("regressed", "missing", "failed", "inconclusive", "not comparable"),
    *("with warnings", "better", "fine"),
)
"""What can be said of a judgement or a cell in a word, gravest first."""

_COLOURS: dict[_Kind, int] = {
    **dict.fromkeys(_KINDS[:3], 31),
    **dict.fromkeys(_KINDS[3:6], 33),
    **dict.fromkeys(_KINDS[6:], 32),
}
_LEVELS: dict[_Kind, str] = {
    **dict.fromkeys(_KINDS[:3], "error"),
    **dict.fromkeys(_KINDS[3:6], "warning"),
    **dict.fromkeys(_KINDS[6:], "notice"),
}
"""What GitHub calls how grave something is."""

_UNITS: dict[Metric, str] = {
    "time": " times the reference loop",
    "loss": "",
    "operators": " operators",
    "calls": " Python calls",
    "state": " bytes of state",
}


def terminal(report: GateReport, width: int = 80, *, colour: bool = False) -> str:
    """A table of all cells, a sentence on each thing that is wrong, and what it comes to.

    Args:
        report: What was found.
        width: Columns of the terminal. Where the table is wider, each cell gets lines of its own.
        colour: Whether outcomes are coloured as well; they are always there in words.
    """
    blocks = [
        [f"Check of {printable(report.suite)} against {printable(report.against)}"],
        [f"note: {printable(text)}" for text in report.differs],
        _table(report.cells, width, colour=colour) if report.cells else [],
        sentences(report),
        [line for text in summary(report) for line in _wrapped(text, width)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def summary(report: GateReport) -> list[str]:
    """How many cells came out how, what to do where some are better, and the exit status.

    A cell counts once, as the gravest thing that is said of it.
    """
    kinds = [_cell_kind(cell) for cell in report.cells]
    counts = ", ".join(f"{kinds.count(k):,} {k}" for k in _KINDS if k in kinds)
    found = [f"{_cells(len(kinds))}{': ' if counts else ''}{counts}; {report.seconds:,.1f} s."]
    if better := kinds.count("better"):
        text = f"{_cells(better)} {'is' if better == 1 else 'are'} better than"
        revision = report.against.startswith("revision ")
        found.append(
            f"{text} {printable(report.against)}."
            if revision
            else f"{text} the baseline: write a new one with --update."
        )
    status = report.exit_status
    return [*found, f"Exit status {status}: {WORDS[status][1]}{_with_warnings(report)}."]


def sentences(report: GateReport) -> list[str]:
    """A line on each thing that is wrong, with its place, gravest first.

    Metrics of a cell of which the same is said, without a number, share a line. So do cells that
    can't be compared for the same reason, where they are many: all of them, on another machine.
    """
    groups: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for cell in report.cells:
        for judgements in _alike(cell):
            first = judgements[0]
            if (kind := _kind(first)) in ("better", "fine"):
                continue
            metrics = _metrics(cell, judgements)
            text = _said(first, numbers=len(judgements) == 1)
            line = _line(cell.place, cell.id, metrics, text)
            shared = (metrics, _said(first, numbers=False))
            key = shared if first.outcome == "not comparable" and first.why else (line,)
            groups.setdefault((_KINDS.index(kind), key), []).append(line)
    lines = []
    for (rank, said), same in groups.items():
        fold = len(said) == 2 and len(same) > SPELT_OUT
        lines += [(rank, _line(_cells(len(same)), *said))] if fold else [(rank, x) for x in same]
    return [line for _, line in sorted(lines, key=lambda ranked: ranked[0])]


def markdown(report: GateReport) -> str:
    """A CI job's summary in GitHub's Markdown: the verdict, a table, and details to unfold."""
    verdict = WORDS[report.exit_status][0] + _with_warnings(report)
    wrong = sentences(report)
    blocks = [
        f"## Check of {_markdown(report.suite)}: {verdict}",
        f"Compared with {_markdown(report.against)}.",
        _bullets(summary(report)),
        *(f"Note: {_markdown(text)}" for text in report.differs),
        "What is wrong, gravest first:" if wrong else "",
        _bullets(wrong[:MARKDOWN_SENTENCES]),
        _and_more(len(wrong) - MARKDOWN_SENTENCES, "line"),
        *_markdown_cells(report),
        "<details>\n<summary>Machine, noise and processes</summary>",
        _bullets(_circumstances(report)),
        *_markdown_processes(report),
        "</details>",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def annotations(report: GateReport) -> str:
    """GitHub's workflow commands, one line for each thing that isn't fine, gravest first.

    Metrics of a cell of which the same is said, without a number, share a line: GitHub shows
    only ten errors, ten warnings and ten notices of a step.
    """
    lines = []
    for cell in report.cells:
        for judgements in _alike(cell):
            first = judgements[0]
            kind = _kind(first)
            if kind == "fine":
                continue
            metrics = _metrics(cell, judgements)
            title = f"{cell.id}: {metrics} {first.outcome}" if metrics else ""
            title = title or f"{cell.id}: {first.outcome}"
            properties = ",".join(
                f"{name}={_github_property(value)}"
                for name, value in (*_place(cell.place), ("title", title))
            )
            said = ": ".join(part for part in (cell.id, metrics, _said(first)) if part)
            line = f"::{_LEVELS[kind]} {properties}::{_github(said)}\n"
            lines.append((_KINDS.index(kind), line))
    return "".join(line for _, line in sorted(lines, key=lambda ranked: ranked[0]))


def junit(report: GateReport) -> str:
    """JUnit's XML: a suite for the check, a test for each metric of each cell.

    What regressed is a failure, what is missing or failed an error, what can't be judged skipped.
    What only warns passes, with the warning as its output.
    """
    tests = [_testcase(report, cell, judgement) for cell, judgement in report]
    counts = {
        "tests": str(len(tests)),
        "failures": str(sum(test.find("failure") is not None for test in tests)),
        "errors": str(sum(test.find("error") is not None for test in tests)),
        "skipped": str(sum(test.find("skipped") is not None for test in tests)),
        "time": f"{report.seconds:.6f}",
    }
    name = _xml(report.suite)
    root = ElementTree.Element("testsuites", {"name": "harness check", **counts})
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": name, **counts, "timestamp": _xml(report.taken)}
    )
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in [
        ("spec", report.spec_file),
        ("against", report.against),
        ("git", report.git),
        *((f"machine.{key}", value) for key, value in report.machine.items()),
        ("machine_key", report.machine_key),
        *((f"control.{process}", f"{ratio:.6g}") for process, ratio in enumerate(report.controls)),
        *((f"differs.{number}", text) for number, text in enumerate(report.differs)),
    ]:
        ElementTree.SubElement(properties, "property", name=_xml(key), value=_xml(value))
    suite.extend(tests)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def benchmark_json(report: GateReport) -> str:
    """The JSON of pytest-benchmark, for ``pytest-benchmark compare`` and what else reads it.

    A benchmark is a cell, a round a block of the first process, an iteration a step. Cells that
    were not measured are left out.
    """
    benchmarks = [
        _benchmark(report, cell, blocks) for cell in report.cells if (blocks := _first(cell))
    ]
    data = {
        "machine_info": _machine_info(report),
        "commit_info": {
            "id": printable(report.git.partition(" ")[0]) or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": report.git.endswith("+ changes"),
            "project": printable(report.suite),
            "branch": "(unknown)",
        },
        "benchmarks": benchmarks,
        "datetime": report.taken,
        "version": PYTEST_BENCHMARK,
    }
    return json.dumps(data, indent=4, allow_nan=False) + "\n"


# What is said of a judgement, whoever shows it.


def _kind(judgement: Judgement) -> _Kind:
    outcome = judgement.outcome
    if judgement.only_warns and outcome not in ("better", "fine"):
        return "with warnings"
    return outcome


def _cell_kind(cell: CellVerdict) -> _Kind:
    return min((_kind(j) for j in cell.judgements), key=_KINDS.index, default="fine")


def _with_warnings(report: GateReport) -> str:
    warned = any(_kind(judgement) == "with warnings" for _, judgement in report)
    return ", with warnings" if warned and report.exit_status == EXIT_FINE else ""


def _outcome(cell: CellVerdict) -> str:
    """``time regressed; loss better``; an outcome alone where all metrics have it."""
    metrics: dict[str, list[str]] = {}
    for judgement in sorted(cell.judgements, key=lambda j: _KINDS.index(_kind(j))):
        warns = " (warning)" if _kind(judgement) == "with warnings" else ""
        metrics.setdefault(judgement.outcome + warns, []).append(judgement.metric)
    if len(metrics) < 2:
        return next(iter(metrics), "fine")
    return "; ".join(
        f"{', '.join(names)} {outcome}" for outcome, names in metrics.items() if outcome != "fine"
    )


def _alike(cell: CellVerdict) -> Iterable[list[Judgement]]:
    """A cell's judgements, those together of which the same is said and that have no number."""
    groups: dict[tuple[object, ...], list[Judgement]] = {}
    for judgement in cell.judgements:
        said = (judgement.outcome, judgement.why, judgement.only_warns)
        own = () if judgement.now is None and judgement.why else (judgement.metric,)
        groups.setdefault((*said, *own), []).append(judgement)
    return groups.values()


def _metrics(cell: CellVerdict, judgements: Sequence[Judgement]) -> str:
    """The metrics of which something is said; nothing where that is all of them."""
    alone = len(judgements) == len(cell.judgements) > 1
    return "" if alone else ", ".join(judgement.metric for judgement in judgements)


def _said(judgement: Judgement, *, numbers: bool = True) -> str:
    """``regressed: 1.92 → 2.15 times the reference loop, +12.0 %, limit 5 %; why``."""
    warning = " (warning only)" if _kind(judgement) == "with warnings" else ""
    parts = [_numbers(judgement) if numbers else "", judgement.why]
    said = "; ".join(part for part in parts if part)
    return f"{judgement.outcome}{warning}" + (f": {said}" if said else "")


def _line(*parts: str) -> str:
    return ": ".join(printable(part) for part in parts if part)


def _numbers(judgement: Judgement) -> str:
    before, now = judgement.before, judgement.now
    unit = _UNITS[judgement.metric]
    if before is None or now is None:
        had = (("was", before), ("is", now))
        return "".join(
            f"{verb} {_value(judgement.metric, value)}{unit}"
            for verb, value in had
            if value is not None
        )
    parts = [f"{_value(judgement.metric, before)} → {_value(judgement.metric, now)}{unit}"]
    if _finite(judgement.change):
        parts.append(_change(judgement))
    has_limit = judgement.metric in ("time", "loss")
    if has_limit and judgement.outcome in ("regressed", "inconclusive"):
        parts.append(f"limit {judgement.limit * 100:g} %")
    return ", ".join(parts)


def _value(metric: Metric, value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{value:g}"
    if metric == "time":
        return _significant(value, 3)
    if metric == "loss":
        return _significant(value, 6)
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def _change(judgement: Judgement) -> str:
    """``+12.3 % (+10.1 to +14.6)`` of a time, ``+0.02 %`` of another metric."""
    change = judgement.change
    if change is None:
        return ""
    if judgement.metric != "time":
        percent = 100 * change
        return f"{percent:+.1g} %" if 0 < abs(percent) < 0.05 else f"{_percent(change)} %"
    text = f"{_percent(change)} %"
    if judgement.low is None or judgement.high is None:
        return text
    return f"{text} ({_percent(judgement.low - 1)} to {_percent(judgement.high - 1)})"


def _percent(change: float) -> str:
    """A change in percent, without the sign: ``+12.3``; no change is ``+0.0``, never ``-0.0``."""
    if math.isnan(change):
        return "NaN"
    text = f"{100 * change:+,.1f}"
    return "+0.0" if text == "-0.0" else text


def _significant(value: float, digits: int) -> str:
    """A number with so many significant digits, all of them shown; more where it is large."""
    if value == 0:
        return "0"
    if 10**digits <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:#,.{digits}g}".rstrip(".")


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _time(cell: CellVerdict) -> tuple[str, str]:
    """The change of a cell's time, and its interval."""
    judgement = cell.of("time")
    if judgement is None or judgement.change is None:
        return DASH, ""
    if not math.isfinite(judgement.change):
        return _value("time", judgement.change), ""
    change, _, interval = _change(judgement).partition(" (")
    return change, f"({interval}" if interval else ""


def _loss(cell: CellVerdict) -> str:
    """``equal``, ``+0.02 %``, ``NaN``, or both losses where no percentage says it."""
    judgement = cell.of("loss")
    if judgement is None or judgement.before is None or judgement.now is None:
        return DASH
    before, now = judgement.before, judgement.now
    if not math.isfinite(now):
        return _value("loss", now)
    if before == now or judgement.change == 0:
        return "equal"
    if _finite(judgement.change):
        return _change(judgement)
    return f"{_value('loss', before)} → {_value('loss', now)}"


def _counts(cell: CellVerdict) -> str:
    """``operators 23 → 24``, every count that changed; ``equal`` where none did."""
    exact: tuple[Metric, ...] = ("operators", "calls", "state")
    judged = [j for metric in exact if (j := cell.of(metric))]
    known = [j for j in judged if j.before is not None and j.now is not None]
    changed = [
        f"{j.metric} {_value(j.metric, j.before)} → {_value(j.metric, j.now)}"
        for j in known
        if j.before is not None and j.now is not None and j.before != j.now
    ]
    return ", ".join(changed) or ("equal" if known else DASH)


def _cells(count: int) -> str:
    return f"{count:,} cell{'s' * (count != 1)}"


# Terminal.


def _table(cells: Sequence[CellVerdict], width: int, *, colour: bool) -> list[str]:
    groups: dict[tuple[str, str], list[CellVerdict]] = {}
    for cell in cells:
        groups.setdefault((cell.objective, cell.device), []).append(cell)
    widest = max(len(_time(cell)[0]) for cell in cells)
    rows = {id(cell): _row(cell, widest) for cell in cells}
    head = ["", "time".rjust(widest), "loss", "counts"]
    columns = list(zip(head, *(row[:-1] for row in rows.values()), strict=True))
    widths = [max(cell_len(text) for text in column) for column in columns]
    last = max(cell_len(row[-1]) for row in rows.values())
    fits = 2 + sum(widths) + 2 * len(widths) + last <= width
    lines = ["  " + _aligned([*head, "outcome"], widths)] if fits else []
    for (objective, device), members in groups.items():
        lines.append(f"{printable(objective)} on {printable(device)}")
        for cell in members:
            *texts, outcome = rows[id(cell)]
            said = _painted(outcome, _cell_kind(cell)) if colour else outcome
            if fits:
                lines.append("  " + _aligned([*texts, said], widths))
                continue
            lines.append(f"  {texts[0]}: {said}")
            change, loss, counts = (text.strip() for text in texts[1:])
            if {change, loss, counts} != {DASH}:
                counts = counts if " " in counts else f"counts {counts}"
                lines += _wrapped(f"time {change}, loss {loss}, {counts}", width, " " * 6)
    return lines


def _row(cell: CellVerdict, widest: int) -> list[str]:
    change, interval = _time(cell)
    time = f"{change:>{widest}} {interval}".rstrip()
    return [printable(cell.label), time, _loss(cell), _counts(cell), _outcome(cell)]


def _aligned(texts: Sequence[str], widths: Sequence[int]) -> str:
    """Texts in columns; the last one ends the line."""
    padded = [
        text + " " * (width - cell_len(text))
        for text, width in zip(texts[:-1], widths, strict=True)
    ]
    return "  ".join([*padded, texts[-1]])


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Lines no longer than the terminal is wide; words, and numbers with a sign, stay whole."""
    return textwrap.wrap(
        text,
        max(40, width),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _painted(text: str, kind: _Kind) -> str:
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m"


# Markdown.


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a cell of a table as well."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An underscore inside a word is one; escaped, it would only be hard to read.
    return re.sub(r"([\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def _bullets(texts: Iterable[str]) -> str:
    """A list; no item begins a heading or another list."""
    start = re.compile(r"^(\d*)([-+#.)=:])")
    return "\n".join("- " + start.sub(r"\1\\\2", _markdown(text).strip()) for text in texts)


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_markdown(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_cells(report: GateReport) -> Iterator[str]:
    """The table, what is wrong first."""
    cells = sorted(report.cells, key=lambda cell: _KINDS.index(_cell_kind(cell)))
    if cells:
        yield _markdown_table(
            ["objective", "optimizer", "setting", "device", "time", "loss", "counts", "outcome"],
            (
                [
                    *(cell.objective, cell.optimizer, cell.setting or DASH, cell.device),
                    *(" ".join(_time(cell)).strip(), _loss(cell), _counts(cell), _outcome(cell)),
                ]
                for cell in cells[:MARKDOWN_ROWS]
            ),
        )
    yield _and_more(len(cells) - MARKDOWN_ROWS, "cell")


def _circumstances(report: GateReport) -> list[str]:
    found = [f"{key}: {value}" for key, value in report.machine.items()]
    found += [f"commit: {report.git}"] if report.git else []
    found.append(f"taken: {report.taken}")
    if report.controls:
        ratios = ", ".join(f"{ratio:.3f}" for ratio in report.controls)
        found.append(f"reference loop against itself, by process (1 on a quiet machine): {ratios}")
    return found


def _markdown_processes(report: GateReport) -> Iterator[str]:
    """A table of what each process measured."""
    measured = [cell for cell in report.cells if cell.blocks]
    if measured:
        yield "Times the reference loop, by process:"
        yield _markdown_table(
            ["cell", "clock", "steps in a block", "blocks", "before", "now"],
            (_processes(cell) for cell in measured[:MARKDOWN_ROWS]),
        )
    yield _and_more(len(measured) - MARKDOWN_ROWS, "cell")


def _processes(cell: CellVerdict) -> list[str]:
    def ratios(side: str) -> str:
        own = [block.ratio for block in cell.blocks if block.side == side]
        return ", ".join(_value("time", ratio) for ratio in own) or DASH

    first = cell.blocks[0]
    return [
        *(cell.id, first.clock, f"{first.steps:,}"),
        *(f"{sum(len(block.cell) for block in cell.blocks):,}", ratios("before"), ratios("now")),
    ]


def _and_more(count: int, what: str) -> str:
    return f"And {count:,} more {what}{'s' * (count != 1)}." if count > 0 else ""


# Annotations.


def _place(place: str) -> list[tuple[str, str]]:
    """File, line and column of ``file:line:col``; the file of a file alone."""
    found = re.fullmatch(r"(.+):([0-9]+):([0-9]+)", place, re.DOTALL)
    if found:
        return list(zip(("file", "line", "col"), found.groups(), strict=True))
    return [("file", place)] if place else []


def _github(text: str) -> str:
    """A message as a workflow command holds it."""
    text = printable(text, keep="\r\n")
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github(text).replace(":", "%3A").replace(",", "%2C")


# JUnit.


def _testcase(
    report: GateReport, cell: CellVerdict, judgement: Judgement
) -> "ElementTree.Element[str]":
    setting = f"[{cell.setting}]" if cell.setting else ""
    measured = judgement.metric == "time"
    seconds = sum(sum(block.cell) for block in cell.blocks) if measured else 0.0
    test = ElementTree.Element(
        "testcase",
        {
            "classname": _xml(f"{report.suite}.{cell.objective}.{cell.device}"),
            "name": _xml(f"{cell.optimizer}{setting}: {judgement.metric}"),
            "time": f"{seconds:.6f}",
        },
    )
    said = _xml(_said(judgement))
    place = _xml(f"{cell.place}: {cell.id}: {judgement.metric}: {_said(judgement)}")
    kind = _kind(judgement)
    if kind == "regressed":
        child = ElementTree.SubElement(test, "failure", message=said, type=kind)
    elif kind in ("missing", "failed"):
        child = ElementTree.SubElement(test, "error", message=said, type=kind)
    elif judgement.outcome in ("inconclusive", "not comparable"):
        child = ElementTree.SubElement(test, "skipped", message=said)
    elif kind == "fine":
        return test
    else:
        child = ElementTree.SubElement(test, "system-out")
        place = f"warning: {place}" if kind == "with warnings" else place
    child.text = place
    return test


def _xml(text: str) -> str:
    r"""Text without what XML 1.0 forbids, nor a ``\r``, which readers turn into ``\n``."""
    forbidden = "[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return re.sub(forbidden, lambda c: c[0].encode("unicode_escape").decode(), text)


# pytest-benchmark.


def _first(cell: CellVerdict) -> Blocks | None:
    """What the first process measured of a cell as it is now, if that is of use."""
    for blocks in cell.blocks:
        if blocks.process == 0 and blocks.side == "now":
            usable = blocks.cell and blocks.steps > 0 and all(map(math.isfinite, blocks.cell))
            return blocks if usable else None
    return None


def _benchmark(report: GateReport, cell: CellVerdict, blocks: Blocks) -> dict[str, Any]:
    name = printable(cell.id)
    own = {
        "objective": cell.objective,
        "optimizer": cell.optimizer,
        "setting": cell.setting,
        "device": cell.device,
    }
    data = [seconds / blocks.steps for seconds in blocks.cell]
    return {
        "group": printable(f"{cell.objective}/{cell.device}"),
        "name": name,
        "fullname": f"{printable(report.suite)}::{name}",
        "params": {key: printable(value) for key, value in own.items()},
        "param": printable(cell.setting) or None,
        "extra_info": {
            "ratio_to_reference_loop": blocks.ratio if math.isfinite(blocks.ratio) else None,
            "clock": blocks.clock,
            "steps_per_epoch": cell.steps_per_epoch,
            "outcome": _outcome(cell),
        },
        "options": {"timer": blocks.clock, "min_rounds": len(data)},
        "stats": {**_statistics(data), "data": data, "iterations": blocks.steps},
    }


def _statistics(data: Sequence[float]) -> dict[str, float | str]:
    """What pytest-benchmark tells of a benchmark's rounds, by its definitions."""
    ordered = sorted(data)
    mean, total = statistics.mean(data), sum(data)
    sd = statistics.stdev(data) if len(data) > 1 else 0
    q1, q3 = _quartiles(ordered)
    iqr = q3 - q1
    low, high = q1 - 1.5 * iqr, q3 + 1.5 * iqr
    sd_outliers = sum(x < mean - sd or x > mean + sd for x in data)
    iqr_outliers = sum(x < low or x > high for x in data)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": sd,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": iqr_outliers,
        "stddev_outliers": sd_outliers,
        "outliers": f"{sd_outliers};{iqr_outliers}",
        "ld15iqr": ordered[bisect_left(ordered, low)],
        "hd15iqr": ordered[bisect_right(ordered, high) - 1],
        "ops": len(data) / total if total else 0,
        "total": total,
    }


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    """Of an even number the medians of both halves; of an odd one, values between two ranks."""
    n = len(ordered)
    if n == 1:
        return ordered[0], ordered[0]
    if n % 2 == 0:
        return statistics.median(ordered[: n // 2]), statistics.median(ordered[n // 2 :])
    k = n // 4
    if n % 4 == 1:
        low = 0.25 * ordered[k - 1] + 0.75 * ordered[k]
        return low, 0.75 * ordered[3 * k] + 0.25 * ordered[3 * k + 1]
    low = 0.75 * ordered[k] + 0.25 * ordered[k + 1]
    return low, 0.25 * ordered[3 * k + 1] + 0.75 * ordered[3 * k + 2]


def _machine_info(report: GateReport) -> dict[str, Any]:
    machine = {printable(key): printable(value) for key, value in report.machine.items()}
    implementation, _, version = machine.get("python", "").partition(" ")
    system, *release = machine.get("system", "").split() or [""]
    kind = release.pop() if release else ""
    cores = machine.get("cores", "")
    return {
        **machine,
        "machine_key": printable(report.machine_key),
        "node": "",
        "processor": kind,
        "machine": kind,
        "python_compiler": "",
        "python_implementation": implementation,
        "python_implementation_version": version,
        "python_version": version,
        "python_build": [],
        "release": " ".join(release),
        "system": system,
        "cpu": {
            "brand_raw": machine.get("cpu", ""),
            "arch": kind,
            "count": int(cores) if cores.isdecimal() else 0,
        },
    }
