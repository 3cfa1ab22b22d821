"""The wall time of a trial is limited alike, whether it shares a run or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import Call

from harness.store import read

SLEEPERS = """
import time, torch


class Sleepy(torch.optim.SGD):
    def step(self, closure=None):
        time.sleep(0.05)
        return super().step(closure)


class SleepyNormed(torch.optim.Optimizer):
    '''Mixes its elements by a look at their values, so each of its trials runs alone.'''

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        time.sleep(0.05)
        for group in self.param_groups:
            for p in group["params"]:
                size = float(p.grad.norm())
                p.add_(p.grad, alpha=-group["lr"] / (1 + size))
"""

SPEC = """
suite: hang
seeds: {seeds}
timing: {{enabled: false}}
limits: {{seconds: {limit}}}
objectives:
  rosenbrock_2d: {{steps: {steps}, dtype: float64}}
optimizers:
  shares: {{class: Sleepy, hyperparameters: {{lr: 1e-4}}}}
  alone: {{class: SleepyNormed, hyperparameters: {{lr: 1e-4}}}}
"""


@pytest.mark.parametrize("seeds", [1, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_an_optimizer_that_shares_runs_times_out_like_one_that_does_not(
    tmp_path: Path, command: Call, seeds: int
) -> None:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "sleepers.py").write_text(SLEEPERS)
    text = SPEC.format(seeds=seeds, limit=0.8, steps=60)  # 3 seconds of sleep a trial
    (tmp_path / "spec.yaml").write_text(text)
    done = command("run", "spec.yaml", "--output", "o", "--workers", "2", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    trials = read.read(tmp_path / "o" / "results.sqlite").trials
    assert trials["status"].tolist() == ["timeout"] * 2 * seeds
    assert trials["optimizer"].tolist() == ["shares"] * seeds + ["alone"] * seeds
    assert set(trials["way"]) == {"alone"}
