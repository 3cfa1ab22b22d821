"""What a command finds around it: a closed output, a folder that is gone, other tools' settings."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = [sys.executable, "-P", "-m", "harness"]
SPEC = """\
suite: s
seeds: 1
timing: {enabled: false}
objectives:
  rosenbrock_2d: {steps: 2}
optimizers:
  o: {class: Plain, hyperparameters: {lr: 1e-4}}
"""
PLAIN = "import torch\nclass Plain(torch.optim.SGD):\n    pass\n"


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell's line in a folder; ``harness`` stands for the command."""
    command = line.replace("harness", shlex.join(HARNESS), 1)
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=folder,
        env={**os.environ, **environment},
        check=False,
        timeout=120,
    )


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "plain.py").write_text(PLAIN)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("command", ["list .", "schema", "--help", "--version"])
def test_a_full_standard_output_is_said_and_not_called_fine(suite: Path, command: str) -> None:
    done = shell(f"harness {command} > /dev/full", suite)
    assert done.returncode == 1
    said = "error: standard output can't be written: No space left on device\n"
    assert done.stderr == said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_an_exit_status_stands_where_no_message_can_be_written(suite: Path) -> None:
    assert shell("harness validate nothing.yaml 2> /dev/full", suite).returncode == 2


def test_closed_streams_are_as_good_as_dev_null(suite: Path) -> None:
    done = shell("harness run spec.yaml <&- >&- 2>&-", suite)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (suite / "reports" / "s" / "index.html").is_file()


def test_a_current_folder_that_is_gone_is_bad_input(suite: Path) -> None:
    gone = suite / "gone"
    gone.mkdir()
    spec = shlex.quote(str(suite / "spec.yaml"))
    done = shell(f"rmdir ../gone && harness validate {spec}", gone)
    assert done.returncode == 2
    assert done.stderr == "error: the current folder no longer exists\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are UTF-8")
@pytest.mark.exhaustive
def test_a_suite_lives_in_a_folder_whose_name_is_not_utf_8(suite: Path) -> None:
    folder = suite / os.fsdecode(b"gr\xf6sse")
    folder.mkdir()
    (suite / "optimizers").rename(folder / "optimizers")
    (suite / "spec.yaml").rename(folder / "spec.yaml")
    done = shell("harness run *sse/spec.yaml --quiet", suite)
    assert done.returncode == 0, done.stderr
    assert (folder / "reports" / "s" / "index.html").is_file()


def load_matplotlib(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import os, harness.reporting.figures.plotting as f\n"
        "print(os.environ.get('MPLBACKEND'), f.mpl.__name__)"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
        check=False,
    )


def test_a_backend_that_only_jupyter_has_keeps_nothing_from_being_drawn(tmp_path: Path) -> None:
    backend = "module://of_no_package.backend_inline"
    done = load_matplotlib(tmp_path, MPLBACKEND=backend)
    assert done.stdout == f"{backend} matplotlib\n", done.stderr  # which others find as it was


def test_settings_of_matplotlib_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    done = load_matplotlib(tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("harness.errors.BadInput: matplotlibrc: matplotlib can't be loaded")
    assert "can't decode byte 0xff" in last
