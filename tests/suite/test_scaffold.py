"""The suite that `harness init` writes: all of it or nothing, and nothing of anybody else's."""

from __future__ import annotations

import errno
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from harness import cli
from harness.errors import BadInput
from harness.spec.validation import load
from harness.suite import scaffold

TARGETS = [file.target for file in scaffold.COMPARISON.files]
SOURCES = {
    file.target: scaffold.COMPARISON.folder / file.source for file in scaffold.COMPARISON.files
}


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", scaffold.TEMPLATES)
def test_it_writes_every_file_that_ships_and_no_other(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a new" / "suite"
    template = scaffold.TEMPLATES[name]
    targets = [file.target for file in template.files]
    sources = [template.folder / file.source for file in template.files]
    assert scaffold.init(folder, template) == tuple(folder / target for target in targets)
    for target, source in zip(targets, sources, strict=True):
        assert (folder / target).read_bytes() == source.read_bytes()
    there = {path for path in template.folder.rglob("*") if path.is_file()}
    assert {path for path in there if "__pycache__" not in path.parts} == set(sources)
    assert {path for path in everything(folder) if (folder / path).is_file()} == set(targets)


def test_a_folder_may_hold_other_files(tmp_path: Path) -> None:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "other.py").write_text("mine")
    (tmp_path / ".gitignore").write_text("mine")
    scaffold.init(tmp_path)
    assert (tmp_path / "optimizers" / "other.py").read_text() == "mine"
    assert (tmp_path / ".gitignore").read_text() == "mine"


def test_what_is_there_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "harvest.csv").write_text("mine")
    (tmp_path / scaffold.SPEC).symlink_to("nowhere")
    (tmp_path / "tests").write_text("a file")
    before = everything(tmp_path)
    result = CliRunner().invoke(cli.main, ["init", str(tmp_path)])
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        f"{tmp_path}/comparison.yaml: already exists, and is not overwritten",
        f"{tmp_path}/datasets/harvest.csv: already exists, and is not overwritten",
        f"{tmp_path}/tests: is not a directory, and one of that name is needed",
        "3 mistakes.",
    ]
    assert everything(tmp_path) == before
    assert (tmp_path / "datasets" / "harvest.csv").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "suite").write_text("a file")
    with pytest.raises(BadInput, match="suite: is not a directory"):
        scaffold.init(tmp_path / "suite")
    with pytest.raises(BadInput, match="suite: is not a directory"):
        scaffold.init(tmp_path / "suite" / "below")
    assert everything(tmp_path) == {"suite"}


@pytest.mark.parametrize("number", range(len(TARGETS)))
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_of_a_write_that_fails_midway_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException
) -> None:
    (tmp_path / "suite" / "optimizers").mkdir(parents=True)
    real = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path == SOURCES[TARGETS[number]]:
            raise error
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    expected = BadInput if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        scaffold.init(tmp_path / "suite")
    if isinstance(raised.value, BadInput):
        assert str(raised.value).endswith(f"{TARGETS[number]}: can't be written: No space left")
    assert everything(tmp_path) == {"suite", "suite/optimizers"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="can't be written"):
        scaffold.init(tmp_path / "suite")


def test_it_says_what_there_is_and_what_to_do_next(tmp_path: Path) -> None:
    folder = tmp_path / "my suite"
    result = CliRunner().invoke(cli.main, ["init", str(folder)])
    assert result.exit_code == 0
    for target in TARGETS:
        assert f"  {target} " in result.output
    *_, go, test, run = result.output.splitlines()
    assert shlex.split(go) == ["cd", str(folder)]
    assert test == "  python -m harness test ."
    assert run == "  python -m harness run comparison.yaml"


def test_the_template_for_training_says_what_to_do_next(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    result = CliRunner().invoke(cli.main, ["init", str(folder), "--template", "training"])
    assert result.exit_code == 0
    *_, test, run = result.output.splitlines()
    assert test == "  python -m harness test ."
    assert run == "  python -m harness run training.yaml"
    assert everything(folder) >= {file.target for file in scaffold.TRAINING.files}


def test_a_template_that_is_unknown_is_named_with_the_nearest(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["init", str(tmp_path / "x"), "--template", "trainig"])
    assert result.exit_code == 2
    assert result.output.startswith(
        "template: there is no template 'trainig'; did you mean 'training'?"
    )
    assert everything(tmp_path) == set()


def test_its_specs_have_no_mistakes_and_tens_of_seeds(tmp_path: Path) -> None:
    scaffold.init(tmp_path)
    for name in (scaffold.SPEC, scaffold.GATE):
        loaded = load(tmp_path / name)
        assert loaded.problems == ()
        assert loaded.spec is not None
        assert len(loaded.spec.seeds) >= 10
        assert loaded.spec.optimizers["signum"].class_ == "Signum"


def test_what_ci_holds_against_each_change_can_be_checked(tmp_path: Path) -> None:
    """A check takes no search; all of it runs in seconds elsewhere."""
    scaffold.init(tmp_path)
    spec = load(tmp_path / scaffold.GATE).spec
    assert spec is not None
    assert spec.tuning is None
    assert not any(optimizer.search for optimizer in spec.optimizers.values())
    assert "loss_tolerance" in (tmp_path / scaffold.GATE).read_text()


def workflow() -> dict[Any, Any]:
    text = SOURCES[".github/workflows/optimizers.yml"].read_text(encoding="utf-8")
    parsed: dict[Any, Any] = yaml.safe_load(text)
    return parsed


def step(name: str) -> dict[str, Any]:
    (job,) = workflow()["jobs"].values()
    return next(step for step in job["steps"] if step.get("name") == name)


def test_every_command_of_its_workflow_is_one() -> None:
    text = SOURCES[".github/workflows/optimizers.yml"].read_text(encoding="utf-8")
    found = [shlex.split(line) for line in re.findall(r"-m harness +([^\n|;]*)", text)]
    assert [words[0] for words in found] == ["test", "run", "check"]
    for name, *arguments in found:
        command = cli.main.commands[name]
        assert isinstance(command, click.Command)
        with command.make_context(name, arguments):  # parses, and runs nothing
            pass


def test_its_workflow_names_the_spec_and_the_results_of_the_suite() -> None:
    env = workflow()["env"]
    for spec, results in (("SPEC", "RESULTS"), ("GATE", "CHECKED")):
        suite = load(scaffold.COMPARISON.folder / env[spec]).source.data["suite"]
        assert env[results] == f"reports/{suite}"
    assert (env["SPEC"], env["GATE"]) == (scaffold.SPEC, scaffold.GATE)
    assert workflow()["permissions"] == {"contents": "read"}
    assert step("Publish")["if"] == "always()"


def in_bash(script: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a step as GitHub does, with a `python` that says what it is asked and ends as told."""
    python = folder / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.write_text('#!/bin/sh\necho "$@"\nexit ${STATUS:-0}\n')
    python.chmod(0o755)
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_its_workflow_stops_where_nobody_said_what_to_install(tmp_path: Path) -> None:
    script = step("Install")["run"]
    ran = in_bash(script, tmp_path, HARNESS=workflow()["env"]["HARNESS"])
    assert ran.returncode != 0
    assert "name in this file what installs the harness" in ran.stderr
    ran = in_bash(script, tmp_path, HARNESS="git+https://example.org/harness@v1")
    assert ran.stdout == "-m pip install git+https://example.org/harness@v1 pytest\n"


@pytest.mark.parametrize(("status", "ends_with"), [(0, 0), (1, 1), (2, 2), (3, 0), (4, 4)])
def test_its_workflow_compares_with_a_base_that_has_the_suite(
    tmp_path: Path, status: int, ends_with: int
) -> None:
    script = step("Check")["run"]
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    (tmp_path / "other").write_text("")
    for words in (["init", "-q"], ["add", "other"], ["commit", "-qm", "before"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    variables = {"GATE": scaffold.GATE, "BASE": "HEAD", "STATUS": str(status)}
    ran = in_bash(script, tmp_path, **variables)
    assert (ran.returncode, ran.stdout) == (0, "Nothing to compare with.\n")

    scaffold.init(tmp_path)
    for words in (["add", scaffold.GATE], ["commit", "-qm", "a suite"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    ran = in_bash(script, tmp_path, **variables)
    assert ran.returncode == ends_with
    assert ran.stdout.startswith("-m harness check gate.yaml --base HEAD --allow-new\n")
    assert ("::warning::" in ran.stdout) == (status == 3)


def test_results_stay_out_of_git_and_nothing_else_does(tmp_path: Path) -> None:
    scaffold.init(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "reports" / "comparison").mkdir()
    (tmp_path / "reports" / "comparison" / "index.html").write_text("")
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    listed = subprocess.run(
        ["git", "ls-files"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert sorted(listed.stdout.splitlines()) == sorted(TARGETS)
