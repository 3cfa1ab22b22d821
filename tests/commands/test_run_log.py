"""The log of a run lies among its results, and nobody sees its records who has not asked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from harness.commands import run as running
from harness.commands.run_log import run_log
from harness.progress import NullProgress

SPEC = """
suite: logged
seeds: 3
devices: [cpu]
objectives:
  sphere: {steps: 3}
optimizers:
  dies: {class: Dies}
timing: {enabled: false}
"""

DIES = """
import os
import torch

class Dies(torch.optim.SGD):
    def step(self, closure):
        os._exit(7)
"""


def test_a_run_logs_workers_lost_tasks_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "write_report", lambda *_: None)
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "dies.py").write_text(DIES)
    (tmp_path / "spec.yaml").write_text(SPEC)
    options = running.RunOptions(output=tmp_path / "out", workers=1)
    summary = running.run(tmp_path / "spec.yaml", options, NullProgress())
    assert summary.statuses == {"error": 3}
    log = (tmp_path / "out" / "harness.log").read_text()
    assert "has started" in log.splitlines()[0]  # before the folder was known to be wanted
    assert "RunSingle of worker" in log
    assert "lost at step 1: the process exited with status 7" in log
    assert capfd.readouterr() == ("", "")


def test_records_that_somebody_asked_for_reach_them_as_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("harness.workers.pool")
    with run_log() as write_log_to:
        logger.info("before")
        write_log_to(tmp_path)
    assert not caplog.records
    caplog.set_level(logging.INFO, "harness")
    with run_log() as write_log_to:
        write_log_to(tmp_path)
        logger.info("after")
    assert [record.message for record in caplog.records] == ["after"]
    lines = (tmp_path / "harness.log").read_text().splitlines()
    assert [line.split("INFO ")[1] for line in lines] == [
        "harness.workers.pool: before",
        "harness.workers.pool: after",
    ]
    assert not any(
        isinstance(h, logging.FileHandler) for h in logging.getLogger("harness").handlers
    )
