"""Everything that shows what a check found, held against text by hand and the readers of others."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.cells import cell_len

from harness.gate import report as verdicts
from harness.gate.outputs import github, junit, markdown, pytest_benchmark, terminal, wording
from harness.gate.report import (
    METRICS,
    OUTCOMES,
    Blocks,
    CellVerdict,
    GateReport,
    Judgement,
    Metric,
    Outcome,
)

WEIRD = "a<b>&|\"c'%:,`d`*e*_f_[g](h)~~i~~$j$\\|é→漢\u200b\u0007"


def judgement(
    metric: Metric,
    outcome: Outcome = "fine",
    before: float | None = None,
    now: float | None = None,
    *,
    why: str = "",
    ends: tuple[float, float] | None = None,
    limit: float = 0.0,
    only_warns: bool = False,
) -> Judgement:
    change = now / before - 1 if before and now is not None else None
    low, high = ends or (None, None)
    return Judgement(metric, outcome, why, before, now, change, low, high, limit, only_warns)


def exact(
    before: tuple[int, int, int] = (23, 312, 48), now: tuple[int, int, int] = (23, 312, 48)
) -> list[Judgement]:
    """Judgements of the counts; more is worse."""
    metrics: tuple[Metric, ...] = ("operators", "calls", "state")
    return [
        judgement(metric, "fine" if a == b else "regressed" if b > a else "better", a, b)
        for metric, a, b in zip(metrics, before, now, strict=True)
    ]


def cell(
    optimizer: str,
    *judgements: Judgement,
    objective: str = "bowl",
    setting: str = "",
    device: str = "cpu",
    place: str = "benchmarks.yaml:12:7",
    blocks: Sequence[Blocks] = (),
) -> CellVerdict:
    name = f"{objective}/{optimizer}{f'[{setting}]' if setting else ''}/{device}"
    return CellVerdict(
        name,
        *(objective, optimizer, setting, device, place),
        judgements,
        steps_per_epoch=75,
        blocks=tuple(blocks),
    )


def measured(*seconds: float, process: int = 0, ratio: float = 2.0, steps: int = 10) -> Blocks:
    reference = tuple(0.5 * s for s in seconds)
    return Blocks("cpu", steps, 5, seconds, reference, ratio, process, "now")


def report(*cells: CellVerdict, **fields: object) -> GateReport:
    base = GateReport(
        suite="mine",
        spec_file="benchmarks.yaml",
        against="baseline.json",
        taken="2026-11-23T06:52:47+00:00",
        seconds=41.87,
        git="cf3114fa2be4 + changes",
        machine={"cpu": "Fast CPU", "cores": "2", "system": "Linux 6.1 x86_64", "threads": "1"},
        machine_key="abc",
        differs=(),
        controls=(1.002, 0.998),
        cells=cells,
    )
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


def slower(*, only_warns: bool = False) -> Judgement:
    return judgement(
        *("time", "regressed", 1.92, 2.15),
        why="confirmed in 3 processes",
        ends=(1.101, 1.146),
        limit=0.05,
        only_warns=only_warns,
    )


def mixed() -> GateReport:
    """A cell of each kind."""
    same = judgement("loss", "fine", 0.243712, 0.243712)
    quick = judgement("time", "fine", 1.1, 1.1044, ends=(0.99, 1.02), limit=0.05)
    return report(
        cell("sgd", quick, same, *exact(), blocks=[measured(0.11, 0.12)]),
        cell(
            "adagrad",
            *(slower(), same, *exact(now=(24, 312, 48))),
            setting="lr=0.1",
            blocks=[measured(0.21, 0.22), measured(0.2, 0.23, process=1, ratio=2.14)],
        ),
        cell(
            "momentum",
            judgement("time", "better", 1.5, 1.32, ends=(0.86, 0.9)),
            *(same, *exact()),
        ),
        cell(
            "gone",
            *(judgement(m, "missing", why="in the baseline, not here") for m in METRICS),
            place="benchmarks.yaml",
        ),
        cell("broken", *(judgement(m, "failed", why="ValueError: no") for m in METRICS)),
        cell(
            "shaky",
            judgement(
                *("time", "inconclusive", 1.92, 1.99),
                why="the interval holds the limit",
                ends=(0.95, 1.12),
                limit=0.05,
            ),
            judgement("loss", "regressed", 0.25, math.nan, only_warns=True),
            *exact(),
            objective="hills",
        ),
        cell(
            "moved",
            judgement("time", "not comparable", 1.92, why="measured on another machine"),
            *(judgement("loss", "fine", 0.243712, 0.243762), *exact()),
            objective="hills",
        ),
        cell("patient", slower(only_warns=True), same, *exact(), objective="hills"),
        differs=("The baseline was made with torch 2.5.1, this with 2.6.0",),
    )


SENTENCES = """\
benchmarks.yaml:12:7: bowl/adagrad[lr=0.1]/cpu: time: regressed: 1.92 → 2.15 times the \
reference loop, +12.0 % (+10.1 to +14.6), limit 5 %; confirmed in 3 processes
benchmarks.yaml:12:7: bowl/adagrad[lr=0.1]/cpu: operators: regressed: 23 → 24 operators, \
+4.3 %
benchmarks.yaml: bowl/gone/cpu: missing: in the baseline, not here
benchmarks.yaml:12:7: bowl/broken/cpu: failed: ValueError: no
benchmarks.yaml:12:7: hills/shaky/cpu: time: inconclusive: 1.92 → 1.99 times the reference \
loop, +3.6 % (-5.0 to +12.0), limit 5 %; the interval holds the limit
benchmarks.yaml:12:7: hills/moved/cpu: time: not comparable: was 1.92 times the reference \
loop; measured on another machine
benchmarks.yaml:12:7: hills/shaky/cpu: loss: regressed (warning only): 0.250000 → NaN, limit 0 %
benchmarks.yaml:12:7: hills/patient/cpu: time: regressed (warning only): 1.92 → 2.15 times the \
reference loop, +12.0 % (+10.1 to +14.6), limit 5 %; confirmed in 3 processes
"""


TABLE = """\
                       time                    loss     counts             outcome
bowl on cpu
  sgd                +0.4 %  (-1.0 to +2.0)    equal    equal              fine
  adagrad (lr=0.1)  +12.0 %  (+10.1 to +14.6)  equal    operators 23 → 24  time, operators regressed
  momentum          -12.0 %  (-14.0 to -10.0)  equal    equal              time better
  gone                    –                    –        –                  missing
  broken                  –                    –        –                  failed
hills on cpu
  shaky              +3.6 %  (-5.0 to +12.0)   NaN      equal              \
time inconclusive; loss regressed (warning)
  moved                   –                    +0.02 %  equal              time not comparable
  patient           +12.0 %  (+10.1 to +14.6)  equal    equal              time regressed (warning)
"""


def test_a_terminal() -> None:
    assert terminal.render(mixed(), 140) == (
        "Check of mine against baseline.json\n\n"
        "note: The baseline was made with torch 2.5.1, this with 2.6.0\n\n"
        f"{TABLE}\n{SENTENCES}"
        """
8 cells: 1 regressed, 1 missing, 1 failed, 1 inconclusive, 1 not comparable, 1 with warnings, 1 \
better, 1 fine; 41.9 s.
1 cell is better than the baseline: write a new one with --update.
Exit status 1: something regressed.
"""
    )


def test_columns_line_up_and_a_table_is_never_too_wide() -> None:
    names = ("漢字", "sgd", "é" * 20, "x\u0301y")
    found = report(*(cell(name, slower(), *exact()) for name in names))

    def table(width: int) -> list[str]:
        return terminal.render(found, width).split("\n\n")[1].splitlines()

    head, _, *rows = table(200)
    starts = {cell_len(row[: row.index("time regressed")]) for row in rows}
    assert starts == {cell_len(head[: head.index("outcome")])}
    width = max(map(cell_len, rows))
    assert table(width) == [head, "bowl on cpu", *rows]
    for narrow in (width - 1, 60):
        assert max(map(cell_len, table(narrow))) <= narrow
        letters = (Counter("".join(table(w)).replace(" ", "")) for w in (narrow, 200))
        assert next(letters) == next(letters)


def test_colour_only_adds_to_the_words() -> None:
    for width in (80, 140):
        plain = terminal.render(mixed(), width)
        coloured = terminal.render(mixed(), width, colour=True)
        assert re.sub("\x1b\\[[0-9]+m", "", coloured) == plain
        assert "\x1b" not in plain
    assert "\x1b[31mtime, operators regressed\x1b[0m" in coloured
    assert "\x1b[32mfine\x1b[0m" in coloured
    assert "\x1b[33mtime regressed (warning)\x1b[0m" in coloured


def test_a_check_without_cells() -> None:
    assert terminal.render(report()) == (
        "Check of mine against baseline.json\n\n"
        "0 cells; 41.9 s.\nExit status 0: nothing is worse than it was.\n"
    )
    assert "passed" in markdown.render(report())
    assert github.render(report()) == ""
    assert 'tests="0"' in junit.render(report())
    assert json.loads(pytest_benchmark.render(report()))["benchmarks"] == []


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("only_warns", [False, True])
def test_the_summary_says_what_the_exit_status_means(outcome: Outcome, only_warns: bool) -> None:
    found = report(
        cell("a", judgement("time", outcome, only_warns=only_warns)),
        cell("b", judgement("time")),
        cell("c", judgement("time")),
    )
    first, *_, last = wording.summary(found)
    harmless = outcome in ("better", "fine")
    kind = outcome if harmless or not only_warns else "with warnings"
    assert first == (
        "3 cells: 3 fine; 41.9 s." if outcome == "fine" else f"3 cells: 1 {kind}, 2 fine; 41.9 s."
    )
    words = {
        0: "nothing is worse than it was",
        1: "something regressed",
        3: "something could not be judged",
        4: "something is missing or failed",
    }
    warned = ", with warnings" if only_warns and not harmless else ""
    assert last == f"Exit status {found.exit_status}: {words[found.exit_status]}{warned}."
    heading = markdown.render(found).splitlines()[0]
    verdict = {0: "passed", 1: "regressed", 3: "undecided", 4: "incomplete"}
    assert heading == f"## Check of mine: {verdict[found.exit_status]}{warned}"


def test_a_better_cell_asks_for_a_new_baseline_but_not_of_a_revision() -> None:
    better = [cell(name, judgement("time", "better", 2.0, 1.5)) for name in "ab"]
    worse = cell("c", judgement("time", "better"), judgement("loss", "regressed", 1.0, 2.0))
    text = "2 cells are better than"
    found = report(*better, worse)
    assert f"{text} the baseline: write a new one with --update." in wording.summary(found)
    found = report(*better, worse, against="revision abc123")
    assert f"{text} revision abc123." in wording.summary(found)
    assert not any("better than" in line for line in wording.summary(report(worse)))


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        (judgement("time", "regressed", 0.98765, 12.3456), "0.988 → 12.3 times"),
        (judgement("time", "regressed", 100.0, 1234.5), "100 → 1,234 times"),
        (judgement("time", "regressed", 1.0, 1.0 + 1e-9, limit=0.07), ", +0.0 %, limit 7 %"),
        (judgement("time", "regressed", 1.0, 1.0 - 1e-9), ", +0.0 %, limit 0 %"),
        (judgement("time", "regressed", 1.0, 13.0), ", +1,200.0 %,"),
        (judgement("time", "regressed", 1.0, 1.2, ends=(math.nan, 1.3)), "(NaN to +30.0)"),
        (judgement("loss", "regressed", 0.2437123, 0.25), "0.243712 → 0.250000, +2.6 %,"),
        (judgement("loss", "regressed", 1e-9, 3e-9), "1.00000e-09 → 3.00000e-09, +200.0 %,"),
        (judgement("loss", "regressed", 1.0, 1.0 + 3e-9), "1.00000 → 1.00000, +3e-07 %,"),
        (judgement("loss", "regressed", 123456.7, 1234567.8), "123,457 → 1,234,568, "),
        (judgement("loss", "regressed", 12345.67, 12345.68), "12,345.7 → 12,345.7, +8e-05 %"),
        (judgement("loss", "regressed", 0.0, 0.1), ": 0 → 0.100000, limit 0 %"),
        (judgement("loss", "regressed", 0.5, math.inf), ": 0.500000 → inf, limit 0 %"),
        (judgement("state", "regressed", 48, 1_234_567), "48 → 1,234,567 bytes of state,"),
        (judgement("calls", "regressed", 31.5, 32), "31.5 → 32 Python calls,"),
        (judgement("operators", "regressed", None, 12), ": is 12 operators"),
        (judgement("operators", "regressed", 12, None, why="no"), ": was 12 operators; no"),
        (judgement("operators", "regressed"), "operators: regressed"),
    ],
)
def test_numbers_have_sensible_digits(given_: Judgement, text: str) -> None:
    (sentence,) = wording.sentences(report(cell("sgd", given_)))
    assert text in sentence


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        (0.5, 0.5, "equal"),
        (0.0, 0.0, "equal"),
        (0.5, 0.5001, "+0.02 %"),
        (0.5, 0.49, "-2.0 %"),
        (0.5, math.nan, "NaN"),
        (math.nan, math.nan, "NaN"),
        (0.5, math.inf, "inf"),
        (math.nan, 0.5, "NaN → 0.500000"),
        (0.0, 0.5, "0 → 0.500000"),
        (None, 0.5, "–"),
        (0.5, None, "–"),
    ],
)
def test_the_table_says_how_the_loss_changed(
    before: float | None, now: float | None, text: str
) -> None:
    found = report(
        cell("sgd", judgement("time", "fine", 1.0, 1.0), judgement("loss", "fine", before, now))
    )
    row = terminal.render(found, 80).split("\n\n")[1].splitlines()[-1]
    assert re.split(" {2,}", row) == ["", "sgd", "+0.0 %", text, "–", "fine"]


def test_metrics_of_which_different_things_are_said_keep_their_lines() -> None:
    found = report(
        cell(
            "a",
            judgement("time", "failed", why="no clock"),
            judgement("loss", "failed", why="no clock"),
            judgement("operators", "failed", why="no counts"),
            judgement("calls", "failed"),
            judgement("state"),
        )
    )
    head = "benchmarks.yaml:12:7: bowl/a/cpu: "
    assert wording.sentences(found) == [
        f"{head}time, loss: failed: no clock",
        f"{head}operators: failed: no counts",
        f"{head}calls: failed",
    ]


def test_many_cells_that_cannot_be_compared_for_one_reason_share_a_line() -> None:
    def found(count: int) -> list[str]:
        other = [
            judgement("time", "not comparable", 1.0 + i, 2.0, why="another machine")
            for i in range(count)
        ]
        return wording.sentences(
            report(
                cell("noisy", judgement("time", "inconclusive", why="noise")),
                *(cell(f"o{i}", each, *exact()) for i, each in enumerate(other)),
                cell("late", judgement("time", "regressed", 1.0, 2.0), *exact()),
            )
        )

    assert len(found(3)) == 5
    late, noisy, all_of_them = found(24)
    assert ": bowl/late/cpu: time: regressed: " in late
    assert noisy.endswith(": bowl/noisy/cpu: time: inconclusive: noise")
    assert all_of_them == "24 cells: time: not comparable: another machine"


# Markdown.


def test_markdown() -> None:
    assert markdown.render(mixed()).startswith(
        """\
## Check of mine: regressed

Compared with baseline.json.

- 8 cells: 1 regressed, 1 missing, 1 failed, 1 inconclusive, 1 not comparable, 1 with warnings, \
1 better, 1 fine; 41.9 s.
- 1 cell is better than the baseline: write a new one with --update.
- Exit status 1: something regressed.

Note: The baseline was made with torch 2.5.1, this with 2.6.0

What is wrong, gravest first:

- benchmarks.yaml:12:7: bowl/adagrad\\[lr=0.1\\]/cpu: time: regressed: 1.92 → 2.15 times the \
reference loop, +12.0 % (+10.1 to +14.6), limit 5 %; confirmed in 3 processes
"""
    )
    assert markdown.render(mixed()).endswith(
        """\

| objective | optimizer | setting | device | time | loss | counts | outcome |
| --- | --- | --- | --- | --- | --- | --- | --- |
| bowl | adagrad | lr=0.1 | cpu | +12.0 % (+10.1 to +14.6) | equal | operators 23 → 24 | \
time, operators regressed |
| bowl | gone | – | cpu | – | – | – | missing |
| bowl | broken | – | cpu | – | – | – | failed |
| hills | shaky | – | cpu | +3.6 % (-5.0 to +12.0) | NaN | equal | \
time inconclusive; loss regressed (warning) |
| hills | moved | – | cpu | – | +0.02 % | equal | time not comparable |
| hills | patient | – | cpu | +12.0 % (+10.1 to +14.6) | equal | equal | \
time regressed (warning) |
| bowl | momentum | – | cpu | -12.0 % (-14.0 to -10.0) | equal | equal | time better |
| bowl | sgd | – | cpu | +0.4 % (-1.0 to +2.0) | equal | equal | fine |

<details>
<summary>Machine, noise and processes</summary>

- cpu: Fast CPU
- cores: 2
- system: Linux 6.1 x86_64
- threads: 1
- commit: cf3114fa2be4 + changes
- taken: 2026-11-23T06:52:47+00:00
- reference loop against itself, by process (1 on a quiet machine): 1.002, 0.998

Times the reference loop, by process:

| cell | clock | steps in a block | blocks | before | now |
| --- | --- | --- | --- | --- | --- |
| bowl/sgd/cpu | cpu | 10 | 2 | – | 2.00 |
| bowl/adagrad\\[lr=0.1\\]/cpu | cpu | 10 | 4 | – | 2.00, 2.14 |

</details>
"""
    )


def rendered(text: str) -> tuple[list[list[str]], list[str]]:
    """By a reader of Markdown: cells of the rows of all tables, and items of all lists."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    rows: list[list[str]] = []
    items: list[str] = []
    for before, token in itertools.pairwise(tokens):
        if before.type == "tr_open":
            rows.append([])
        if token.type != "inline":
            assert token.type != "html_block" or re.match("</?details>", token.content)
            continue
        children = token.children or []
        assert {child.type for child in children} <= {"text", "text_special"}, token.content
        content = "".join(child.content for child in children)
        if before.type in ("th_open", "td_open"):
            rows[-1].append(content)
        elif before.type == "paragraph_open" and before.hidden:
            items.append(content)
    return rows, items


def escaped(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


names = st.text(st.characters(exclude_categories=()), min_size=1, max_size=12)
marked_names = names | st.text("`|\\<>&*_[]()~$#-+1.!=: a", min_size=1, max_size=12)


@given(marked_names, marked_names, marked_names, marked_names)
def test_markdown_shows_names_as_they_are(a: str, b: str, c: str, d: str) -> None:
    found = report(
        cell(a, slower(), setting=b, objective=c, place=d, blocks=[measured(1.0)]),
        cell("x", judgement("time", "failed", why=d), objective=b, device=a),
        machine={c: d},
        git="",
    )
    text = markdown.render(found)
    for line in text.splitlines():
        if line.startswith("|"):
            columns = 6 if line.count(" | ") < 7 else 8
            assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == columns + 1
    rows, items = rendered(text)
    shown = [escaped(name).strip() for name in (c, a, b)]
    assert [cell_.strip() for cell_ in rows[1][:3]] == shown
    assert rows[2][:4] == [escaped(b).strip(), "x", "–", escaped(a).strip()]
    assert [len(row) for row in rows] == [8, 8, 8, 6, 6]
    assert rows[4][0] == escaped(found.cells[0].id).strip()
    sentences = [line.strip() for line in wording.sentences(found)]
    facts = [f"{escaped(c)}: {escaped(d)}".strip()]
    assert items[-3 - len(sentences) : -2] == sentences + facts


def test_markdown_of_many_cells_stays_within_a_mebibyte() -> None:
    many = [
        cell(
            f"optimizer_{i:06}",
            judgement("time", "fine", 1.0, 1.01, ends=(0.99, 1.02)),
            judgement("loss", "regressed", 0.1, 0.2, why="w" * 1000),
            *exact(),
            blocks=[measured(1.0)] * 3,
        )
        for i in range(3000)
    ]
    text = markdown.render(report(*many))
    assert len(text.encode()) < 2**20
    assert "And 2,800 more lines." in text
    assert text.count("And 2,000 more cells.") == 2


# Annotations.


def test_annotations() -> None:
    lines = github.render(mixed()).splitlines()
    place = "file=benchmarks.yaml,line=12,col=7"
    assert lines[0] == (
        f"::error {place},title=bowl/adagrad[lr=0.1]/cpu%3A time regressed::"
        "bowl/adagrad[lr=0.1]/cpu: time: regressed: 1.92 → 2.15 times the reference loop, "
        "+12.0 %25 (+10.1 to +14.6), limit 5 %25; confirmed in 3 processes"
    )
    assert lines[2] == (
        "::error file=benchmarks.yaml,title=bowl/gone/cpu%3A missing::"
        "bowl/gone/cpu: missing: in the baseline, not here"
    )
    assert lines[-1] == (
        f"::notice {place},title=bowl/momentum/cpu%3A time better::"
        "bowl/momentum/cpu: time: better: 1.50 → 1.32 times the reference loop, "
        "-12.0 %25 (-14.0 to -10.0)"
    )
    levels = [line.split()[0].strip(":") for line in lines]
    assert levels == ["error"] * 4 + ["warning"] * 4 + ["notice"]


@pytest.mark.parametrize(
    ("place", "properties"),
    [
        ("benchmarks.yaml:12:7", "file=benchmarks.yaml,line=12,col=7,"),
        ("benchmarks.yaml", "file=benchmarks.yaml,"),
        ("a:1:2:3.yaml:12:7", "file=a%3A1%3A2%3A3.yaml,line=12,col=7,"),
        ("50%,a.yaml:1:2", "file=50%25%2Ca.yaml,line=1,col=2,"),
        ("a:b", "file=a%3Ab,"),
        ("", ""),
    ],
)
def test_a_place_is_read_from_the_right(place: str, properties: str) -> None:
    found = report(cell("a", judgement("time", "failed"), place=place))
    assert github.render(found) == (
        f"::error {properties}title=bowl/a/cpu%3A time failed::bowl/a/cpu: time: failed\n"
    )


def read_back(text: str) -> str:
    """As the runner does it."""
    for code, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, character)
    return text


@given(names | st.text("%:,\r\n25A0D ", max_size=12), names, names)
def test_an_annotation_is_a_line_that_reads_back(why: str, name: str, file: str) -> None:
    found = report(cell(name, judgement("time", "failed", why=why), place=f"{file}:3:4"))
    lines = github.render(found).splitlines()
    assert len(lines) == 1
    _, command, message = lines[0].split("::", 2)
    level, _, properties = command.partition(" ")
    assert level == "error"

    def kept(text: str) -> str:
        return re.sub("[^\r\n]+", lambda part: escaped(part[0]), text)

    values = dict(each.split("=", 1) for each in properties.split(","))
    assert {key: read_back(value) for key, value in values.items()} == {
        "file": kept(file),
        "line": "3",
        "col": "4",
        "title": kept(f"bowl/{name}/cpu: time failed"),
    }
    said = f"failed: {why}" if why else "failed"
    assert read_back(message) == kept(f"bowl/{name}/cpu: time: {said}")


# JUnit.


def test_junit() -> None:
    root = ElementTree.fromstring(junit.render(mixed()))
    (suite,) = root
    assert root.tag == "testsuites"
    counts = {"tests": "40", "failures": "2", "errors": "10", "skipped": "2", "time": "41.870000"}
    assert suite.attrib == {"name": "mine", **counts, "timestamp": "2026-11-23T06:52:47+00:00"}
    assert root.attrib == {"name": "harness check", **counts}
    properties, *tests = suite
    values = {each.attrib["name"]: each.attrib["value"] for each in properties}
    assert values["machine.cpu"] == "Fast CPU"
    assert (values["control.0"], values["control.1"]) == ("1.002", "0.998")
    assert len(tests) == 40
    time, loss, *_ = (test for test in tests if test.attrib["name"].startswith("adagrad[lr=0.1]: "))
    assert time.attrib == {
        "classname": "mine.bowl.cpu",
        "name": "adagrad[lr=0.1]: time",
        "time": "0.860000",
    }
    assert loss.attrib["time"] == "0.000000"
    (failure,) = time
    assert failure.tag == "failure"
    assert failure.attrib == {
        "type": "regressed",
        "message": "regressed: 1.92 → 2.15 times the reference loop, +12.0 % (+10.1 to +14.6), "
        "limit 5 %; confirmed in 3 processes",
    }
    assert failure.text == SENTENCES.splitlines()[0]
    assert not list(loss)


@pytest.mark.parametrize(
    ("outcome", "only_warns", "tag"),
    [
        ("fine", False, None),
        ("better", False, "system-out"),
        ("better", True, "system-out"),
        ("regressed", False, "failure"),
        ("missing", False, "error"),
        ("failed", False, "error"),
        ("inconclusive", False, "skipped"),
        ("inconclusive", True, "skipped"),
        ("not comparable", True, "skipped"),
        ("regressed", True, "system-out"),
        ("missing", True, "system-out"),
        ("failed", True, "system-out"),
    ],
)
def test_junit_has_an_element_for_each_outcome(
    outcome: Outcome, only_warns: bool, tag: str | None
) -> None:
    found = report(cell("a", judgement("loss", outcome, why="so", only_warns=only_warns)))
    root = ElementTree.fromstring(junit.render(found))
    (test,) = root.iter("testcase")
    assert [child.tag for child in test] == ([tag] if tag else [])
    for counted, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert root.attrib[name] == str(int(tag == counted))
    warns = tag == "system-out" and outcome != "better"
    text = test.findtext("system-out") or ""
    assert text.startswith("warning: benchmarks.yaml:12:7: bowl/a/cpu: loss: ") == warns


@given(names, names, names)
def test_junit_reads_back(why: str, name: str, value: str) -> None:
    def legal(text: str) -> str:
        allowed = re.compile("[\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
        return "".join(c if allowed.match(c) else ascii(c)[1:-1] for c in text)

    found = report(
        cell(name, judgement("time", "failed", why=why), objective=value), machine={name: value}
    )
    text = junit.render(found)
    root = ElementTree.fromstring(text.encode())
    (test,) = root.iter("testcase")
    assert test.attrib["name"] == legal(f"{name}: time")
    assert test.attrib["classname"] == legal(f"mine.{value}.cpu")
    (error,) = test
    assert error.attrib["message"] == legal(f"failed: {why}")
    assert error.text == legal(f"benchmarks.yaml:12:7: {value}/{name}/cpu: time: failed: {why}")
    machine = {p.attrib["name"]: p.attrib["value"] for p in root.iter("property")}
    assert machine[legal(f"machine.{name}")] == legal(value)


# pytest-benchmark.


def test_benchmark_json() -> None:
    before = dataclasses.replace(measured(9.0), side="before")
    found = report(
        cell(
            "adagrad",
            slower(),
            setting="lr=0.1",
            blocks=[before, measured(0.2, 0.4), measured(7.0, process=1)],
        ),
        cell("unmeasured", judgement("time", "failed")),
        cell("empty", judgement("time", "failed"), blocks=[measured()]),
        cell("endless", judgement("time", "failed"), blocks=[measured(math.inf)]),
    )
    data = json.loads(pytest_benchmark.render(found))
    (benchmark,) = data.pop("benchmarks")
    stats = benchmark.pop("stats")
    assert (stats["data"], stats["iterations"], stats["rounds"]) == ([0.02, 0.04], 10, 2)
    assert (stats["min"], stats["max"], stats["ops"]) == (0.02, 0.04, pytest.approx(1 / 0.03))
    assert (stats["median"], stats["stddev"]) == pytest.approx((0.03, 0.01 * math.sqrt(2)))
    assert benchmark == {
        "group": "bowl/cpu",
        "name": "bowl/adagrad[lr=0.1]/cpu",
        "fullname": "mine::bowl/adagrad[lr=0.1]/cpu",
        "params": {
            "objective": "bowl",
            "optimizer": "adagrad",
            "setting": "lr=0.1",
            "device": "cpu",
        },
        "param": "lr=0.1",
        "extra_info": {
            "ratio_to_reference_loop": 2.0,
            "clock": "cpu",
            "steps_per_epoch": 75,
            "outcome": "regressed",
        },
        "options": {"timer": "cpu", "min_rounds": 2},
    }
    assert data["commit_info"]["id"] == "cf3114fa2be4"
    assert data["commit_info"]["dirty"] is True
    assert data["machine_info"]["cpu"] == {"brand_raw": "Fast CPU", "arch": "x86_64", "count": 2}
    assert (data["datetime"], data["version"]) == (found.taken, version("pytest-benchmark"))


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("Linux 6.1.0 x86_64", ["Linux", "6.1.0", "x86_64"]),
        ("Linux x86_64", ["Linux", "", "x86_64"]),
        ("Linux", ["Linux", "", ""]),
        ("", ["", "", ""]),
    ],
)
def test_benchmark_json_tells_the_machine(system: str, words: list[str]) -> None:
    found = report(machine={"system": system, "python": "CPython 3.11.7"})
    info = json.loads(pytest_benchmark.render(found))["machine_info"]
    assert [info["system"], info["release"], info["machine"]] == words
    assert (info["python_implementation"], info["python_version"]) == ("CPython", "3.11.7")


def test_pytest_benchmark_compares_the_files(tmp_path: Path) -> None:
    weird = WEIRD.replace("/", "")
    for name, factor in (("a", 1.0), ("b", 1.5)):
        found = report(
            cell(weird, judgement("time"), blocks=[measured(0.1 * factor, 0.2 * factor)]),
            cell("sgd", judgement("time"), setting="lr=0.1", blocks=[measured(0.1 * factor)]),
        )
        (tmp_path / f"{name}.json").write_text(pytest_benchmark.render(found), "utf-8")
    for extra in (["--csv=out.csv"], ["--between=min,mean"], ["--group-by=param:optimizer"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pytest_benchmark", "compare", "a.json", "b.json", *extra],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            env={"PYTHONUTF8": "1", "COLUMNS": "200"},
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Failed to load" not in done.stderr
        assert "bowl/sgd[lr=0.1]/cpu" in done.stdout
        assert f"bowl/{escaped(weird)}/cpu" in done.stdout
        assert ("+50.0%" in done.stdout) == ("--between=min,mean" in extra)
    csv = (tmp_path / "out.csv").read_text("utf-8").splitlines()
    assert csv[0].startswith("name,param:device,param:objective,param:optimizer,param:setting,min")
    assert sum(line.startswith("mine::bowl/sgd[lr=0.1]/cpu,cpu,bowl,sgd,") for line in csv) == 2


def test_pytest_compares_a_run_with_the_file(tmp_path: Path) -> None:
    """A benchmark whose full name is a cell's is held against it."""
    slow = cell("sgd", judgement("time"), blocks=[measured(1e4)])
    found = report(dataclasses.replace(slow, id="test_it"), suite="test_bench.py")
    (tmp_path / "a.json").write_text(pytest_benchmark.render(found), "utf-8")
    source = "def test_it(benchmark):\n    benchmark.pedantic(int, rounds=2)\n"
    (tmp_path / "test_bench.py").write_text(source, "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "test_bench.py"),
            "--rootdir=.",
            "--benchmark-compare=a.json",
        ],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONUTF8": "1"},
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^test_it \(a\) .*\n?", done.stdout, re.M), done.stdout
    assert re.search(r"^test_it \(NOW\) ", done.stdout, re.M), done.stdout


# All of it at once.

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=8) | st.sampled_from([WEIRD, "", "\u2028", "\x85"])
judgements = st.builds(
    Judgement,
    metric=st.sampled_from(METRICS),
    outcome=st.sampled_from(OUTCOMES),
    why=texts,
    before=numbers,
    now=numbers,
    change=numbers,
    low=numbers,
    high=numbers,
    limit=st.floats(0, 1),
    only_warns=st.booleans(),
)
finite = st.just(0.0) | st.floats(1e-9, 1e6)
some_blocks = st.builds(
    Blocks,
    process=st.integers(0, 3),
    side=st.sampled_from(["now", "before"]),
    clock=st.sampled_from(["cpu", "wall"]),
    steps=st.integers(1, 100),
    reference_steps=st.integers(1, 100),
    cell=st.lists(finite, max_size=4).map(tuple),
    reference=st.lists(finite, max_size=4).map(tuple),
    ratio=finite,
)
reports = st.builds(
    GateReport,
    suite=texts,
    spec_file=texts,
    against=texts,
    taken=texts,
    seconds=finite,
    git=texts,
    machine=st.dictionaries(texts, texts, max_size=3),
    machine_key=texts,
    differs=st.lists(texts, max_size=2).map(tuple),
    controls=st.lists(finite, max_size=3).map(tuple),
    cells=st.lists(
        st.builds(
            CellVerdict,
            id=texts,
            objective=texts,
            optimizer=texts,
            setting=texts,
            device=texts,
            place=texts,
            judgements=st.lists(judgements, max_size=5).map(tuple),
            steps_per_epoch=st.integers(1, 1000),
            blocks=st.lists(some_blocks, max_size=3).map(tuple),
        ),
        max_size=4,
    ).map(tuple),
)


@given(reports)
def test_json_reads_back(found: GateReport) -> None:
    text = verdicts.to_json(found)
    assert verdicts.from_json(text) == found
    assert verdicts.from_json(text.encode()) == found


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_keeps_what_is_not_finite(value: float) -> None:
    found = report(cell("a", Judgement("loss", "regressed", "", 0.5, value, value)))
    again = verdicts.from_json(verdicts.to_json(found)).cells[0].judgements[0]
    assert repr((again.now, again.change)) == repr((value, value))


@given(reports, st.integers(20, 200), st.booleans())
def test_everything_can_be_shown(found: GateReport, width: int, colour: bool) -> None:
    shown = terminal.render(found, width, colour=colour)
    assert all(line.replace("\x1b", "").isprintable() for line in shown.split("\n"))
    lines = github.render(found).splitlines()
    assert len(lines) <= sum(j.outcome != "fine" for _, j in found)
    assert len(lines) >= sum(any(j.outcome != "fine" for j in c.judgements) for c in found.cells)
    assert markdown.render(found).count("<details>") == 1
    root = ElementTree.fromstring(junit.render(found))
    assert len(list(root.iter("testcase"))) == len(list(found))
    assert len(list(root.iter("failure"))) == sum(
        j.outcome == "regressed" and not j.only_warns for _, j in found
    )
    for benchmark in json.loads(pytest_benchmark.render(found))["benchmarks"]:
        assert benchmark["stats"]["rounds"] == len(benchmark["stats"]["data"])
