"""docs/diagnostics.md says of the map what the map is, and its pictures show what they say."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.analysis.cells import Cell, Cells
from harness.spec import yaml_source
from harness.suite.shipped import TASKS, objective_references

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "diagnostics.md"
SPEC: dict[str, Any] = yaml_source.parse((ROOT / "diagnostics.yaml").read_bytes(), "map").data
FAMILIES = list(TASKS)


def script(name: str) -> ModuleType:
    """A script of the site."""
    sys.path.insert(0, str(ROOT / "docs" / "_site"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def tasks() -> Iterator[ModuleType]:
    yield script("tasks")
    sys.modules.pop("tasks")


@pytest.fixture(scope="module")
def lightbench() -> Iterator[ModuleType]:
    yield script("lightbench")
    sys.modules.pop("lightbench")


# Lists


def test_the_lists_have_every_task_with_its_difficulties(tasks: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == tasks.filled(page), "run python docs/_site/tasks.py"
    rows = re.findall(r"^\| `(\w+)` \| .* \| `(\w+)`: ([^|]*) \| ([^|]+) \|$", page, re.M)
    entries = SPEC["objectives"]
    assert [name for name, *_ in rows] == sorted(
        entries, key=lambda name: FAMILIES.index(entries[name]["family"])
    )
    for name, argument, values, source in rows:
        each = entries[name]["arguments"][argument]["each"]
        assert [float(value) for value in values.partition(";")[0].split(", ")] == pytest.approx(
            each
        )
        assert source.strip()


def test_every_source_stands_in_full_where_the_task_is_defined(tasks: ModuleType) -> None:
    references = objective_references()
    for name in SPEC["objectives"]:
        source = tasks.SOURCES[name]
        module, _, found = references[SPEC["objectives"][name].get("class", name)].partition(":")
        defined = getattr(importlib.import_module(module), found)
        bases = [base for base in inspect.getmro(defined) if base.__module__.startswith("harness")]
        texts = [
            text for base in bases for text in (base.__doc__, sys.modules[base.__module__].__doc__)
        ]
        said = " ".join(filter(None, texts))
        for word in re.findall(r"[A-Z][\w-]+|\d{4}", source.replace("(COCO)", "")):
            assert word in said, (name, word)


# Pictures


def lines_of(path: Path) -> str:
    """All text of a picture."""
    texts = ET.fromstring(path.read_text(encoding="utf-8")).iter("{http://www.w3.org/2000/svg}text")
    return " | ".join("".join(text.itertext()).strip() for text in texts)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_a_picture_of_one_of_its_tasks(family: str) -> None:
    pictures = script("diagnostics").PICTURES
    picture = pictures[family]
    entry = SPEC["objectives"][picture.task]
    assert entry["family"] == family
    (argument,) = (key for key, value in entry["arguments"].items() if isinstance(value, dict))
    values = entry["arguments"][argument]["each"]
    easy, hard = picture.difficulties
    assert 0 <= easy < hard < len(values)
    shown = lines_of(ROOT / "docs" / f"diagnostics-{family}.svg")
    for word, at in (("easy", easy), ("hard", hard)):
        match = re.search(rf"{word}: {argument} = (\S+)", shown)
        assert match, shown
        assert float(match[1]) == pytest.approx(values[at])
    for optimizer in picture.optimizers:
        assert optimizer in SPEC["optimizers"]
        assert len(re.findall(rf"\b{optimizer}: \d+ of {SPEC['seeds']} seeds win", shown)) == 2
    assert "step" in shown.split(" | ")
    text = PAGE.read_text(encoding="utf-8")
    assert f"(diagnostics-{family}.svg)" in text
    section = text[text.index(f"## {family.capitalize()}") :]
    assert f"`{picture.task}`" in section[: section.index("<!-- tasks")], "the caption names it"


# Beside LightBench


def test_published_wins_add_up_to_what_lightbench_says(lightbench: ModuleType) -> None:
    """107, 78 and 85 cells are in the summary of its benchmark_results.md."""
    sums = [sum(pair.published[i] for pair in lightbench.PAIRS) for i in range(3)]
    assert dict(zip(lightbench.OPTIMIZERS, sums, strict=True)) == {
        "AdamW": 107,
        "Muon": 78,
        "RMSprop": 85,
    }
    assert all(max(pair.published) <= pair.difficulties for pair in lightbench.PAIRS)


def test_every_pair_is_of_a_task_of_the_map_and_says_how_it_differs(lightbench: ModuleType) -> None:
    for pair in lightbench.PAIRS:
        if pair.ours:
            assert pair.ours in SPEC["objectives"], pair
            assert len(pair.differs.split()) >= 8, pair
    assert set(lightbench.OPTIMIZERS.values()) <= set(SPEC["optimizers"])


def cell(task: str, difficulty: int, optimizer: str, won: int) -> Cell:
    """A cell in which some of ten seeds won."""
    return Cell(
        family="",
        task=task,
        difficulty=difficulty,
        label="",
        optimizer=optimizer,
        device="cpu",
        seeds=tuple(range(10)),
        steps=tuple(7.0 if i < won else float("inf") for i in range(10)),
        used=(10,) * 10,
        failed=(False,) * 10,
        budget=10,
    )


def test_verdicts_differ_where_all_some_and_none_do(lightbench: ModuleType) -> None:
    """Won is a cell of which half the seeds are; four of ten are not."""
    cells = Cells(
        (
            *(cell("plateau", i, "adamw", won) for i, won in enumerate((10, 5, 4))),
            *(cell("plateau", i, "muon", won) for i, won in enumerate((10, 10, 10))),
            *(cell("plateau", i, "rmsprop", won) for i, won in enumerate((4, 0, 0))),
        )
    )
    assert lightbench.won_here(cells, "plateau", "adamw") == (2, 3)
    (row,) = (line for line in lightbench.table(cells).splitlines() if "`plateau`" in line)
    shown = [part.strip() for part in row.strip("|").split("|")]
    assert shown[:5] == [
        "`plateau_navigation`",
        "`plateau`",
        "4/6, 2/3",
        "**2/6, 3/3**",
        "**4/6, 0/3**",
    ]
