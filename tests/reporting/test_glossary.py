"""The glossary: one place for every term, from which the docs come, and that headings rest on."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.reporting.glossary import GLOSSARY, as_markdown, definition, term_of

ROOT = Path(__file__).resolve().parents[2]

PLAIN = {
    "against",
    "also run alone",
    "at",
    "better in",
    "by",
    "better",
    "calls",
    "compared",
    "computed",
    "cost",
    "fails at",
    "key",
    "of",
    "ours",
    "points",
    "quantity",
    "reason",
    "relative",
    "repeat with",
    "same?",
    "time (% change)",
    "what",
    "worse",
}
"""Headings that say what they mean."""


def headings() -> Iterator[tuple[str, str]]:
    """Every heading that the tables' modules write out, with its place."""
    for file in sorted((ROOT / "harness/reporting/tables").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Column":
                match node.args:
                    case [_, ast.Constant(value=str(heading)), *_] if heading:
                        yield f"{file.name}:{node.lineno}", heading


def test_every_heading_of_a_table_is_plain_or_defined() -> None:
    found = list(headings())
    assert len(found) > 80
    assert [one for one in found if one[1] not in PLAIN and not definition(one[1])] == []
    assert {heading for _, heading in found} >= PLAIN


def test_the_docs_say_the_same() -> None:
    assert (ROOT / "docs/glossary.md").read_text() == as_markdown()


def test_each_definition_is_one_sentence() -> None:
    for term, text in GLOSSARY.items():
        assert text[0].isupper(), term
        assert text.endswith("."), term
        assert not any(mark in text for mark in (". ", "\n", "|")), term
        assert 3 <= len(text.split()) <= 30, term


@pytest.mark.parametrize(
    ("heading", "term"),
    [
        ("seed", "seed"),
        ("Seeds", "seed"),
        ("ERT (evaluations)", "ERT"),
        ("p (Holm)", "p (Holm)"),
        ("p (all alike)", "p"),
        ("95% interval of mean", "95% interval"),
        ("median gap to optimum", "gap to optimum"),
        ("ratio of seconds", "time ratio"),
        ("loss in tuning", "loss"),
        ("best or tied", "best"),
        ("state (bytes)", "state"),
        ("no such thing", ""),
    ],
)
def test_a_heading_finds_its_term(heading: str, term: str) -> None:
    assert term_of(heading) == term


def test_it_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'pandas', 'matplotlib'} & {*sys.modules}"
    code = f"import sys, harness.reporting.glossary; print(len({heavy}))"
    found = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert found.strip() == "0"
