"""Digests of the harness itself: what is known is known of this code, and of no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import grimp
import pytest

from harness.provenance import fingerprint

PACKAGE = Path(fingerprint.__file__).parents[1]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the harness, of which the digests are taken."""
    ignored = shutil.ignore_patterns("__pycache__")
    copied = shutil.copytree(PACKAGE, tmp_path / "harness", ignore=ignored)
    monkeypatch.setattr(fingerprint, "_HERE", copied)
    return copied


def counted(copy: Path, take_digest: Callable[[], str]) -> set[str]:
    """The files whose content changes a digest."""
    before, found = take_digest(), set()
    for file in filter(Path.is_file, copy.rglob("*")):
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        if take_digest() != before:
            found.add(str(file.relative_to(copy)))
        file.write_bytes(content)
    assert take_digest() == before
    return found


def imported_by(package: str) -> set[str]:
    """The files of the harness that a package's modules import, and what they import in turn."""
    graph = grimp.build_graph("harness", exclude_type_checking_imports=True, cache_dir=None)
    names = graph.find_upstream_modules(package, as_package=True)
    return {
        str(file.relative_to(PACKAGE))
        for name in names
        if (file := PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py")).is_file()
    }


def files_of(package: str) -> set[str]:
    files = filter(Path.is_file, (PACKAGE / package).rglob("*"))
    return {str(f.relative_to(PACKAGE)) for f in files if "__pycache__" not in f.parts}


def test_a_page_depends_on_every_file_that_its_code_imports_and_on_its_templates(
    copy: Path,
) -> None:
    found = counted(copy, fingerprint.report.__wrapped__)
    assert files_of("reporting") <= found
    # Who draws decides nothing of what is drawn.
    assert imported_by("harness.reporting") - files_of("workers") <= found


def test_a_trial_depends_on_every_file_of_the_engine_and_of_the_objectives(copy: Path) -> None:
    found = counted(copy, fingerprint.engine.__wrapped__)
    assert files_of("engine") | files_of("objectives") | {"seeds.py", "measures.py"} <= found
    assert {"plan/recipe.py", "spec/recipe.py", "spec/recipe_values.py"} <= found
    assert not found & files_of("reporting")
