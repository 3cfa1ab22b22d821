"""A recipe is on the clock: timed steps clip, and step the schedulers, as a loop by hand would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import make_plan

from harness.engine.loading import load_objective
from harness.engine.validate import load_case
from harness.engine.workload import prepare
from harness.spec.validation import check
from harness.spec.yaml_source import parse
from harness.timing.counts import count_steps
from harness.timing.timed_case import TimedCase

SPEC = """\
suite: s
objectives: {bowl: {class: quadratic_2d, steps: 20}}
optimizers:
  plain: {class: 'torch.optim:SGD', hyperparameters: {lr: 0.1}}
  short:
    class: torch.optim:SGD
    hyperparameters: {lr: 0.1}
    schedule: {warmup: 4, then: linear}
    clip_grad_norm: 0.5
  stages:
    class: torch.optim:SGD
    hyperparameters: {lr: 0.1}
    schedule: {class: 'torch.optim.lr_scheduler:ExponentialLR', gamma: 0.5}
"""


@pytest.fixture(scope="module")
def timed() -> dict[str, TimedCase]:
    found = {}
    for case in make_plan(check(parse(SPEC.encode(), str(Path("spec.yaml"))))).cases:
        objective, _ = load_objective(case.objective)
        workload = prepare(case.objective, objective, "cpu")
        found[case.optimizer] = TimedCase(case, workload, load_case(case), 0)
    return found


def rates(timed: TimedCase, steps: int) -> list[float]:
    stepper, batches = timed.start()
    found = []
    for _ in range(steps):
        stepper.step(next(batches))
        found.append(float(stepper.optimizer.param_groups[0]["lr"]))  # of the step just taken
    return found


def test_timed_steps_follow_the_schedule(timed: dict[str, TimedCase]) -> None:
    warmup = [0.025, 0.05, 0.075, 0.1]
    assert rates(timed["short"], 6) == pytest.approx([*warmup, 0.1, 0.1 * 15 / 16])
    assert rates(timed["stages"], 3) == pytest.approx([0.1, 0.05, 0.025])
    assert rates(timed["plain"], 3) == [0.1, 0.1, 0.1]


def test_timed_steps_clip(timed: dict[str, TimedCase]) -> None:
    norms = {}
    for name, case in timed.items():
        stepper, batches = case.start()
        stepper.step(next(batches))
        grads = [leaf.grad for leaf in stepper.lanes.leaves() if leaf.grad is not None]
        norms[name] = float(torch.cat([grad.flatten() for grad in grads]).norm())
    assert norms["plain"] == norms["stages"] > 1
    assert norms["short"] == pytest.approx(0.5, rel=1e-5)


def test_what_a_recipe_adds_to_a_step_is_counted(timed: dict[str, TimedCase]) -> None:
    plain, short, stages = (count_steps(timed[name]) for name in ("plain", "short", "stages"))
    assert short.operators > plain.operators  # of the norm and the product
    assert stages.operators == plain.operators
    assert stages.calls > plain.calls  # of the scheduler
