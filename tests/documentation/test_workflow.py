"""The workflows that are there to be copied parse, and what they run exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from harness import cli
from harness.gate import history
from harness.reporting import objects as report_objects
from harness.spec.validation import load

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "docs" / "ci").glob("*.yml"))
GITHUB = ROOT / "docs" / "ci" / "github-actions.yml"
SHOWN = [*WORKFLOWS, ROOT / "README.md", ROOT / "Makefile", ROOT / "benchmarks.yaml"]


def commands(path: Path) -> list[list[str]]:
    """What a file runs of the harness, in comments and text as well; without the names before."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"-m harness +([^\n`|;#]*)", text)
    return [[word.rstrip(".") for word in shlex.split(line.replace("|", ""))] for line in found]


def github() -> tuple[dict[Any, Any], list[dict[str, Any]]]:
    workflow = yaml.safe_load(GITHUB.read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    return workflow, job["steps"]


def step(name: str) -> dict[str, Any]:
    return next(step for step in github()[1] if step.get("name") == name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param(path, words, id=f"{path.name}: {' '.join(words)}")
        for path in SHOWN
        for words in commands(path)
    ],
)
def test_every_command_that_is_shown_is_one(path: Path, words: list[str]) -> None:
    name, *arguments = words
    command = cli.main.commands[name]
    assert isinstance(command, click.Command), path
    with command.make_context(name, arguments) as context:  # parses, and runs nothing
        if name == "check":
            assert (context.params["base"] is None) != (context.params["baseline"] is None)


def test_commands_are_found_in_every_workflow() -> None:
    assert [path.name for path in WORKFLOWS] == ["github-actions.yml", "gitlab-ci.yml"]
    for path in WORKFLOWS:
        assert {"run", "check"} <= {words[0] for words in commands(path)}


def test_actions_are_pinned_to_a_major_version() -> None:
    used = [step["uses"] for step in github()[1] if "uses" in step]
    assert len(used) == 5
    for action in used:
        assert re.fullmatch(r"actions/[a-z-]+(/[a-z]+)?@v[0-9]+", action), action


def test_it_checks_pull_requests_and_the_default_branch_with_all_history() -> None:
    workflow, steps = github()
    assert set(workflow[True]) == {"pull_request", "push"}  # YAML 1.1 takes `on` for a truth
    assert workflow["permissions"] == {"contents": "read"}
    assert steps[0]["with"]["fetch-depth"] == 0
    assert "base_ref" in step("Check")["env"]["BASE"]


def test_results_are_published_whatever_came_out() -> None:
    published = step("Publish")
    assert published["if"] == "always()"
    paths = published["with"]["path"].splitlines()
    for name in ("index.html", f"{report_objects.CHECK_FOLDER}/", history.FILE_NAME):
        assert f"${{{{ env.RESULTS }}}}/{name}" in paths


def test_the_history_is_saved_under_the_key_that_the_next_run_looks_for() -> None:
    saved, restored = step("Save the history")["with"], step("Restore the history")["with"]
    assert saved["key"] == restored["key"]
    assert saved["key"].startswith(restored["restore-keys"])
    assert saved["path"] == restored["path"]
    assert saved["path"].endswith(f"/{history.FILE_NAME}")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_its_spec_and_its_results_are_those_of_this_repository(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    own = workflow["env"] if path == GITHUB else workflow["optimizers"]["variables"]
    suite = load(ROOT / own["SPEC"]).source.data["suite"]
    assert own["RESULTS"] == f"reports/{suite}"


@pytest.mark.parametrize(("status", "ends_with"), [(0, 0), (1, 1), (2, 2), (3, 0), (4, 4)])
def test_an_undecided_check_passes_with_a_warning(
    tmp_path: Path, status: int, ends_with: int
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@"\nexit {status}\n')
    python.chmod(0o755)
    ran = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step("Check")["run"]],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SPEC": "a b", "BASE": "x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == ends_with
    assert ran.stdout.startswith("-m harness check a b --base x\n")
    assert ("::warning::" in ran.stdout) == (status == 3)


def test_gitlab_lets_an_undecided_check_pass() -> None:
    job = yaml.safe_load((ROOT / "docs" / "ci" / "gitlab-ci.yml").read_text())["optimizers"]
    assert job["allow_failure"] == {"exit_codes": 3}
    assert job["artifacts"]["when"] == "always"
    assert (
        job["artifacts"]["reports"]["junit"] == f"$RESULTS/{report_objects.CHECK_FOLDER}/junit.xml"
    )
