"""A suite's files go elsewhere by content, and paths in messages mean the same there."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders import make_plan
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BadInput
from harness.provenance import fingerprint
from harness.spec.validation import load
from harness.suite.locate import ImportTarget
from harness.workers.dask import suite_archive

ROOT = Path(__file__).resolve().parents[2]


def named(folder: Path) -> list[ImportTarget]:
    """What the shipped spec names, of a suite in some folder."""
    found = []
    for case in make_plan(load(folder / "benchmarks.yaml")).cases:
        found += [case.located, case.objective.located]
        found += [case.objective.dataset] if case.objective.dataset else []
    return found


def suite(folder: Path) -> Path:
    for name in ("optimizers", "datasets"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "benchmarks.yaml", folder)
    return folder


def test_what_arrives_has_the_digests_of_what_was_sent(tmp_path: Path) -> None:
    here, there = suite(tmp_path / "here"), tmp_path / "there"
    suite_archive.unpack(suite_archive.pack(here, named(here)), there)
    for mine in named(here):
        theirs: ImportTarget = suite_archive.loads(suite_archive.dumps(mine, here), there)
        assert (theirs.folder, theirs.reference) == (there, mine.reference)
        assert theirs.file is None or theirs.file.is_file()
        assert fingerprint.of(theirs, data=True) == fingerprint.of(mine, data=True)


def test_the_same_content_is_the_same_archive(tmp_path: Path) -> None:
    one, two = suite(tmp_path / "one"), suite(tmp_path / "two")
    for file in two.rglob("*.py"):
        os.utime(file, (10**9, 10**9))
    (two / "optimizers" / "__pycache__").mkdir()
    (two / "optimizers" / "__pycache__" / "sgd.pyc").write_bytes(b"compiled")
    (two / "optimizers" / ".sgd.py.swp").write_bytes(b"an editor's")
    (two / "reports").mkdir()
    (two / "reports" / "results.sqlite").write_bytes(b"large")
    assert suite_archive.pack(one, named(one)) == suite_archive.pack(two, named(two))
    (two / "optimizers" / "sgd.py").write_text("changed")
    assert suite_archive.pack(one, []) != suite_archive.pack(two, [])


def test_files_beside_the_sections_go_along_if_they_are_used(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "lion.py").write_text("from .common import Base\nclass Lion(Base): ...\n")
    (tmp_path / "own" / "common.py").write_text("class Base: ...\n")
    (tmp_path / "own" / "notes.py").write_text("")
    lion = ImportTarget(
        "own/lion.py:Lion", tmp_path, "own.lion", "Lion", tmp_path / "own" / "lion.py"
    )
    suite_archive.unpack(suite_archive.pack(tmp_path, [lion]), tmp_path / "there")
    assert sorted(f.name for f in (tmp_path / "there").rglob("*.py")) == ["common.py", "lion.py"]


def test_too_much_to_send_is_told_with_the_largest_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = suite(tmp_path / "suite")
    monkeypatch.setattr(suite_archive, "MAX_BYTES", 30_000)
    with pytest.raises(BadInput, match=r"datasets/airfoil\.csv the most.*machines share"):
        suite_archive.pack(folder, named(folder))


@dataclass(frozen=True)
class Message:
    path: Path
    others: tuple[Path, ...]
    number: float


parts = st.lists(st.sampled_from(["a", "b.py", "c d", "é"]), max_size=3)


@given(inside=parts, outside=parts, number=st.floats(allow_nan=False))
def test_only_paths_in_the_folder_are_moved(
    inside: list[str], outside: list[str], number: float
) -> None:
    here, there = Path("/suite/one"), Path("/elsewhere")
    away = Path("/suite/one more").joinpath(*outside)
    message = Message(here.joinpath(*inside), (away, here, Path("relative")), number)
    moved = suite_archive.loads(suite_archive.dumps(message, here), there)
    assert moved == Message(there.joinpath(*inside), (away, there, Path("relative")), number)
