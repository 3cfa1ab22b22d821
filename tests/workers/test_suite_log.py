"""What a suite's code prints goes to a log that is named, whoever prints it and how."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest
from builders import Call

from harness.progress import NullProgress
from harness.workers.suite_log import NAME, suite_log

NOISY = """
import os, sys, torch
for i in range(1450):
    print("deprecated", i)
    print("warning", i, file=sys.stderr)

class Noisy(torch.optim.SGD):
    def step(self, closure=None):
        os.write(2, b"raw\\n")
        return super().step(closure)
"""
SPEC = """\
suite: s
seeds: 1
timing: {enabled: false}
objectives:
  bowl: {class: sphere, steps: 2}
  dish: {class: booth, steps: 2}
optimizers:
  o: {class: Noisy, hyperparameters: {lr: 1e-4}}
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "noisy.py").write_text(NOISY)
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def test_a_run_keeps_the_log_among_its_results_and_says_where(suite: Path, command: Call) -> None:
    done = command("run", "spec.yaml", cwd=suite)
    assert done.returncode == 0, done.stderr
    log = suite / "reports" / "s" / NAME
    lines = log.read_text().splitlines()
    assert {line.partition(" ")[0] for line in lines} == {"deprecated", "warning", "raw"}
    assert f"note: the suite's code printed {len(lines):,} lines: reports/s/{NAME}" in done.stderr
    for output in (done.stdout, done.stderr):
        assert "deprecated" not in output
    assert not list((suite / "tmp").glob("harness-*"))
    # A run that prints nothing leaves none of the run before.
    quiet = SPEC.replace("Noisy", '"torch.optim:SGD"')
    (suite / "spec.yaml").write_text(quiet)
    assert command("run", "spec.yaml", "--quiet", cwd=suite).stderr == ""
    assert not log.exists()


def test_validation_names_the_log_and_says_nothing_else(suite: Path, command: Call) -> None:
    done = command("validate", "spec.yaml", cwd=suite)
    found = re.fullmatch(
        r"spec.yaml: no mistakes; 2 cases, 1 seed: 2 trials.\n"
        rf"note: the suite's code printed 2,900 lines: ({tempfile.gettempprefix()}/\S+|tmp/\S+)\n",
        done.stdout,
    )
    assert found, done.stdout
    assert done.stderr == ""
    assert len((suite / found[1]).read_text().splitlines()) == 2900


def test_a_failure_is_one_line_and_where_the_log_is(suite: Path, command: Call) -> None:
    (suite / "spec.yaml").write_text(SPEC.replace("1e-4", "-1"))
    done = command("validate", "spec.yaml", cwd=suite)
    mistake, note = sorted(done.stderr.splitlines(), reverse=True)
    assert mistake.startswith("spec.yaml:8:43: optimizers.o.hyperparameters.lr: Noisy refuses")
    assert note.startswith("note: the suite's code printed 2,900 lines: tmp/harness-")


@pytest.mark.parametrize("entry", ["{class: Needs}", "{class: Refuses}"])
def test_a_mistake_is_said_once_however_many_objectives_there_are(
    suite: Path, entry: str, command: Call
) -> None:
    code = """
import torch
class Needs(torch.optim.SGD):
    def __init__(self, params, rate):
        super().__init__(params, rate)
class Refuses(torch.optim.SGD):
    def __init__(self, params):
        raise ValueError([p.mean() for p in params])
"""
    (suite / "optimizers" / "noisy.py").write_text(code)
    spec = SPEC.replace("{class: Noisy, hyperparameters: {lr: 1e-4}}", entry)
    (suite / "spec.yaml").write_text(spec)
    (line,) = command("validate", "spec.yaml", cwd=suite).stderr.splitlines()
    assert line.startswith("spec.yaml:8:3: optimizers.o: ")


def test_a_log_of_nothing_is_no_file_and_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = NullProgress()
    with suite_log(told, tmp_path / "none", keep=True) as log:
        assert told.printed != NullProgress.printed
    assert (told.printed, log.note) == (NullProgress.printed, "")
    assert not list(tmp_path.iterdir())


def test_what_is_printed_before_a_failure_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = NullProgress()

    def fails() -> None:
        os.write(told.printed, b"one\n")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), suite_log(told, tmp_path) as log:
        fails()
    assert log.path is not None
    assert log.path.read_text() == "one\n"
    assert capsys.readouterr().err == f"note: the suite's code printed 1 line: {log.path}\n"
