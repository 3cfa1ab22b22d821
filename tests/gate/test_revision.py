"""Another revision is laid out as git knows it, and the repository isn't touched."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.errors import BadInput, Problem
from harness.gate import revision
from harness.gate.revision import Revision, laid_out

FILES = {
    "suite/spec.yaml": b"suite: old\n",
    "suite/optimizers/own.py": b"# old\n",
    "suite/with space/naïve →.txt": b"odd name\n",
    "src/mypkg/__init__.py": b"# old\n",
    "lib/mytool.py": b"# old\n",
    "data.bin": bytes(range(256)),
    "no newline at the end": b"a\r\nb",
    "gone.txt": b"gone\n",
    "private/notes.txt": b"$Format:%H$\n",
    ".gitattributes": b"private export-ignore\n*.txt export-subst\n",
    "run.sh": b"#!/bin/sh\n",
}
"""What stands in the first commit."""


@pytest.fixture(autouse=True)
def _own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests matters, nor does a hook that runs them."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))


def git(folder: Path, *arguments: str) -> bytes:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def commit(root: Path, message: str) -> str:
    git(root, "add", "--all", "--force")
    git(root, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "HEAD").decode().strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with two commits, and changes that are in none, some of them staged."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    write(root, FILES)
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("data.bin")
    commit(root, "old")
    git(root, "tag", "-a", "v1.0", "-m", "annotated")
    git(root, "branch", "feature/x")
    (root / "gone.txt").unlink()
    write(root, {"suite/spec.yaml": b"suite: new\n", "suite/later.yaml": b"suite: later\n"})
    (root / "run.sh").chmod(0o644)
    commit(root, "new")
    write(root, {"suite/spec.yaml": b"suite: changed\n", "untracked.txt": b"", "data.bin": b"x"})
    git(root, "add", "data.bin")
    return root


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder: a digest of its content and its mode, links unfollowed."""
    return {
        str(path.relative_to(folder)): f"{path.lstat().st_mode:o} "
        + (
            str(path.readlink())
            if path.is_symlink()
            else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def files_in(root: Path, name: str) -> list[str]:
    listed = git(root, "ls-tree", "-r", "-z", "--name-only", name).decode()
    return listed.rstrip("\0").split("\0")


@pytest.mark.parametrize("name", ["HEAD", "HEAD~1", "feature/x", "v1.0"])
def test_the_files_are_those_that_git_shows(root: Path, name: str) -> None:
    with laid_out(name, root / "suite" / "spec.yaml", ()) as there:
        assert git(root, "rev-parse", f"{name}^{{commit}}").decode().startswith(there.name)
        assert len(there.name) == 12
        found = {f for f in contents(there.folder) if f != "link"}
        assert found == {f for f in files_in(root, name) if f != "link"}
        for file in found:
            assert (there.folder / file).read_bytes() == git(root, "show", f"{name}:{file}"), file
        assert there.spec == there.folder / "suite" / "spec.yaml"
        old = name != "HEAD"
        assert there.spec.read_bytes() == (b"suite: old\n" if old else b"suite: new\n")
        assert (there.folder / "link").readlink() == Path("data.bin")
        assert os.access(there.folder / "run.sh", os.X_OK) == old
        assert (there.folder / "gone.txt").exists() == old
        assert (there.folder / "suite" / "later.yaml").exists() != old
        # What `git archive` would leave out or fill in is there as it is.
        assert (there.folder / "private" / "notes.txt").read_bytes() == b"$Format:%H$\n"


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_it_is_left_and_nothing_of_the_repository_is_touched(
    root: Path, tmp_path: Path, fails: bool
) -> None:
    before, status = contents(root), git(root, "status", "--porcelain=v2")
    expected = pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext()
    with expected:  # noqa: SIM117 - it is over when the folder is gone
        with laid_out("HEAD~1", root / "suite" / "spec.yaml", ()) as there:
            (there.folder / "suite" / "made here").mkdir()
            assert git(root, "worktree", "list").count(b"\n") == 1
            if fails:
                raise ZeroDivisionError
    assert not there.folder.parent.exists()
    assert list((tmp_path / "temporary").iterdir()) == []
    assert contents(root) == before
    assert git(root, "status", "--porcelain=v2") == status


def test_a_spec_may_be_named_by_any_path(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(root / "suite")
    with laid_out("HEAD~1", link / "spec.yaml", ()) as there:
        assert there.spec == there.folder / "suite" / "spec.yaml"
    monkeypatch.chdir(root / "src")
    with laid_out("HEAD~1", Path("../suite/spec.yaml"), ()) as there:
        assert there.spec.read_bytes() == b"suite: old\n"


def test_a_linked_work_tree_has_revisions_too(root: Path, tmp_path: Path) -> None:
    git(root, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), "HEAD")
    before = contents(root)
    with laid_out("HEAD~1", tmp_path / "linked" / "suite" / "spec.yaml", ()) as there:
        assert there.spec.read_bytes() == b"suite: old\n"
    assert contents(root) == before


@pytest.mark.parametrize("relative", [False, True])
def test_what_git_tells_a_hook_is_not_taken_for_the_suites_repository(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    """Git runs hooks with its folder and index in the environment, as paths from the root."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    write(other, {"a.txt": b"a\n"})
    commit(other, "other")
    monkeypatch.chdir(root)
    folder = ".git" if relative else str(other / ".git")
    monkeypatch.setenv("GIT_DIR", folder)
    monkeypatch.setenv("GIT_INDEX_FILE", f"{folder}/index")
    with laid_out("main~1", root / "suite" / "spec.yaml", ()) as there:
        assert there.spec.read_bytes() == b"suite: old\n"


def refused(name: str, spec: Path) -> str:
    with pytest.raises(BadInput) as caught, laid_out(name, spec, ()):
        pass
    (problem,) = caught.value.problems
    assert problem.file == f"--base {name}"
    return problem.message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("feature/y", "no such revision; did you mean 'feature/x'?; a shallow clone"),
        ("HEAD~7", "no such revision"),
        ("HEAD:suite", "no such revision"),
        ("", "no such revision"),
        ("-n1", "no such revision"),
        ("--all", "no such revision"),
        ("0123456789abcdef0123456789abcdef01234567", "no such revision"),
    ],
)
def test_what_is_no_revision_is_refused(root: Path, name: str, said: str) -> None:
    assert said in refused(name, root / "suite" / "spec.yaml")


def test_a_spec_that_is_in_no_repository_or_not_in_the_revision_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused("HEAD~1", root / "suite" / "later.yaml") == "suite/later.yaml is not in it"
    assert refused("HEAD", root / "untracked.txt") == "untracked.txt is not in it"
    (tmp_path / "spec.yaml").touch()
    assert "not a git repository" in refused("HEAD", tmp_path / "spec.yaml")
    assert list((tmp_path / "temporary").iterdir()) == []
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet")
    assert "no such revision" in refused("HEAD", empty / "spec.yaml")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused("HEAD", root / "suite" / "spec.yaml") == "git is not installed"


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """This process's search path, to be changed."""
    found = list(sys.path)
    monkeypatch.setattr(sys, "path", found)
    yield found
    importlib.invalidate_caches()


def search(root: Path, *packages: str, name: str = "HEAD~1") -> list[str]:
    """Where packages are found in a revision's files, as seen from its root."""
    with laid_out(name, root / "suite" / "spec.yaml", packages) as there:
        assert all(folder.is_dir() for folder in there.search)
        return [str(folder.relative_to(there.folder)) for folder in there.search]


def test_the_search_path_is_this_processs_inside_the_repository(
    root: Path, path: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert search(root) == []
    inside = root / ".venv" / "lib" / "python3.11" / "site-packages"
    write(root, {"new/mod.py": b"", str(inside.relative_to(root) / "x.py"): b""})
    commit(root, "an environment inside, and a new folder")
    alias = tmp_path / "alias"
    alias.symlink_to(root / "lib")
    monkeypatch.chdir(root / "suite")
    places = [root / "src", tmp_path, root / "new", inside, alias, root / "src", root, root / "no"]
    path += ["../lib", *map(str, places)]
    assert search(root, name="HEAD~1") == ["lib", "src", "."]
    assert search(root, name="HEAD") == ["lib", "src", "new", "."]


class Finder(importlib.abc.MetaPathFinder):
    """Finds packages where an installation for editing says; their folder is on no path."""

    def __init__(self, places: dict[str, Path]) -> None:
        self._places = places

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        place = self._places.get(name)
        return importlib.util.spec_from_file_location(name, place) if place else None


def test_a_package_installed_for_editing_is_found_in_the_revision(
    root: Path, path: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"outside.py": b""})
    places = {
        "mypkg": root / "src" / "mypkg" / "__init__.py",
        "mytool": root / "lib" / "mytool.py",
        "outside": tmp_path / "outside.py",
    }
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder(places)])
    assert search(root) == []
    assert search(root, "mypkg") == ["src"]
    assert search(root, "mytool", "mypkg", "outside", "json", "sys", "not_there", "") == [
        "lib",
        "src",
    ]
    path.append(str(root / "src"))
    assert search(root, "mypkg") == ["src"]


def test_a_package_without_an_init_file_is_found_in_the_revision(
    root: Path, path: list[str]
) -> None:
    write(root, {"spaces/myspace/thing.py": b""})
    commit(root, "a namespace")
    path.append(str(root / "spaces"))
    importlib.invalidate_caches()
    assert search(root, "myspace", name="HEAD") == ["spaces"]


def test_mistakes_name_the_revision_and_not_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    there = Revision("0123456789ab", folder / "spec.yaml", folder, ())
    error = BadInput(
        [
            Problem(str(folder / "a" / "spec.yaml"), 3, 7, "seeds", "expected a number"),
            Problem(str(folder / "spec.yaml"), 0, 0, "", f"no such file: {folder}/datasets/x.csv"),
            Problem("elsewhere.yaml", 1, 1, "", f"{tmp_path}/tree2/b stays"),
        ]
    )
    assert list(map(str, revision.as_named(error, there, "HEAD~1").problems)) == [
        "HEAD~1:a/spec.yaml:3:7: seeds: expected a number",
        "HEAD~1:spec.yaml: no such file: HEAD~1:datasets/x.csv",
        f"elsewhere.yaml:1:1: {tmp_path}/tree2/b stays",
    ]
