"""Recipes held against constructors, schedulers and objectives: each mistake at its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import marked

from harness.engine import validate
from harness.errors import Problem
from harness.plan.builder import Overrides, draft
from harness.plan.model import Plan
from harness.results import CheckedSuite
from harness.spec.validation import check
from harness.spec.yaml_source import parse

OPTIMIZERS = """
import torch

class Sam(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        super().__init__(params, {"rho": rho, **kwargs})
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups

class Lookahead:
    def __init__(self, optimizer, k=5):
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups
    def step(self, closure=None):
        return self.optimizer.step(closure)

class NoRate(torch.optim.Optimizer):
    def __init__(self, params, rate=0.1):
        super().__init__(params, {"rate": rate})
    def step(self, closure=None): ...

class ByGroups(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})
    def step(self, closure=None): ...

def halves(t): return 0.5
"""

OBJECTIVES = """
import torch
from harness import Objective

class Network(Objective):
    shapes = {"embed": (5, 2), "a.weight": (2, 2), "a.bias": (2,)}
    def init(self, generator):
        return {name: torch.zeros(shape) for name, shape in self.shapes.items()}
    def loss(self, params, batch):
        return sum(value.square().sum() for value in params.values())

class Flat(Network):
    shapes = {"x": (3,)}
"""

BASE = """\
suite: s
recipe: {RECIPE}
objectives:
  net: {class: Network, steps: 20}
optimizers:
  o: {OPTIMIZER}
"""
SGD = "class: 'torch.optim:SGD', hyperparameters: {lr: 0.1}"
LR = "torch.optim.lr_scheduler"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    for section, text in (("optimizers", OPTIMIZERS), ("objectives", OBJECTIVES)):
        (folder / section).mkdir()
        (folder / section / "all.py").write_text(text)
    return folder


def looked_at(text: str, folder: Path) -> tuple[Plan, tuple[Problem, ...], CheckedSuite]:
    source = parse(text.encode(), str(folder / "spec.yaml"))
    plan, problems = draft(check(source), Overrides())
    assert plan is not None
    checked = validate.validate_plan(plan)
    found = tuple(source.problem(f.path, f.message, at_key=f.at_key) for f in checked.findings)
    return plan, (*problems, *found), checked


def spec(optimizer: str, recipe: str = "") -> str:
    return BASE.replace("RECIPE", recipe).replace("OPTIMIZER", optimizer)


def stages(*entries: str) -> str:
    """An optimizer with schedulers; ``LR:`` stands for torch's module of them."""
    return f"{SGD}, schedule: [{', '.join(entries)}]".replace("LR:", f"{LR}:")


def groups(*entries: str, of: str = SGD) -> str:
    """An optimizer with parameter groups."""
    return f"{of}, groups: [{', '.join(entries)}]"


ADAM = "class: 'torch.optim:Adam'"
MUON = "class: 'torch.optim:Muon'"
MATRICES = "{parameters: {ndim: 2}}"

VALID = [
    (SGD, "schedule: {warmup: 20, then: cosine}, clip_grad_norm: 1"),
    (stages("{class: 'LR:LinearLR', steps: 5%}", "{class: 'LR:CosineAnnealingLR'}"), ""),
    (stages("{class: 'LR:OneCycleLR', max_lr: 0.2, cycle_momentum: false}"), ""),
    (stages("{class: 'LR:LambdaLR', lr_lambda: 'optimizers/all.py:halves'}"), ""),
    (groups("{parameters: {ndim: 2, not: embed}, momentum: 0.9}"), ""),
    (groups(MATRICES, f"{{{ADAM}}}", of=MUON), ""),
    ("class: Sam, base: {class: 'torch.optim:SGD', lr: 0.1}", "schedule: cosine"),
    ("class: Lookahead, base: {class: 'torch.optim:Adam'}", "schedule: cosine"),
    (groups("{parameters: a.bias, use_muon: true}", of="class: ByGroups"), ""),
    ("class: NoRate", "clip_grad_norm: 1"),
    # What groups before take, and what another network has, is no mistake.
    (groups("{parameters: '*bias'}", "{parameters: {ndim: [0, 1]}, lr: 1}", "{lr: 2}"), ""),
    (groups("{parameters: {ndim: 2, not: ['embed*', 'head*']}, lr: 1}"), ""),
]


@pytest.mark.parametrize(("optimizer", "recipe"), VALID)
def test_what_is_right_is_not_found_wrong(optimizer: str, recipe: str, folder: Path) -> None:
    assert looked_at(spec(optimizer, recipe), folder)[1] == ()


SCHEDULES = [
    ("{warmup: «21}", "on 'net', a warm-up of 21 steps is longer than the trial's 20"),
    ("{then: step, at: «[0.5, 30]}", "step 30 is beyond the end of the trial"),
    ("{then: exponential, final: «0}", "above 0 for exponential"),
]
STAGES = [
    (("{class: 'LR:ConstantLR', steps: «30}",), "30 steps, more than the trial's 20"),
    (("{class: 'LR:ConstantLR', steps: «50%}",), "10 steps, fewer than the trial's 20"),
    (
        ("{class: 'LR:ConstantLR', steps: 50%}", "{class: 'LR:ConstantLR', steps: «60%}"),
        "22 steps, more than the trial's 20",
    ),
    (("{class: 'LR:ConstantLR', «factr: 0.5}",), "takes no argument 'factr'; did you mean"),
    (("{class: 'LR:ConstantLR', factor: «2.0}",), "ConstantLR refuses this"),
    (("{class: 'LR:ConstantLR', factor: «'0.5'}",), "expected a number"),
    (("{class: «'LR:CosineLR'}",), "has no 'CosineLR'"),
    (("{class: «'torch:tensor'}",), "has no method 'step', expected a scheduler"),
    (("{class: 'LR:ExponentialLR', gamma: «[0.5, 0.9]}",), "a grid is schedule.0.gamma: [...]"),
    (("{class: 'LR:MultiStepLR', milestones: «5}",), "MultiStepLR refuses this"),
    (("{class: «CosineAnnealingLR}",), "did you mean 'torch.optim.lr_scheduler:Cosine"),
    (("«{class: 'LR:StepLR'}",), "StepLR needs 'step_size'"),
    (("{class: 'LR:OneCycleLR', max_lr: 1, total_steps: «10}",), "before the stage, of 20"),
    (("{class: 'LR:LambdaLR', lr_lambda: «'optimizers/all.py:halve'}",), "has no 'halve'"),
    (("{class: 'LR:LambdaLR', lr_lambda: «'absent:rule'}",), "absent"),
]
GROUPS = [
    (("{parameters: «'*.biass', lr: 1}",), "of objective 'net'; did you mean 'a.bias'?"),
    (("{parameters: [a.bias, «b*], lr: 1}",), "'b*' matches no parameter"),
    (("{parameters: {ndim: 2, not: «head}, lr: 1}",), "'head' matches no parameter"),
    (("{parameters: «{ndim: 3}, lr: 1}",), "of objective 'net' (known: embed of shape (5, 2)"),
    (("{parameters: {ndim: 2, not: [embed, «a.bais]}, lr: 1}",), "did you mean 'a.bias'?"),
    (("{parameters: a.bias, «momentm: 1}",), "SGD takes no argument 'momentm'; did you mean"),
    ((f"{{parameters: a.bias, {ADAM}, «momentum: 1}}",), "Adam takes no argument 'momentum'"),
    ((f"{{parameters: a.bias, {ADAM}, betas: [«[2, 3]]}}",), "Adam refuses this"),
    ((f"{{parameters: a.bias, {ADAM}, lr: [0.1, «-1]}}",), "Adam refuses this"),
    (("{parameters: a.bias, class: «'torch.optim:Adm'}",), "did you mean 'Adam'?"),
]
BASES = [
    ("class: Sam, base: {class: 'torch.optim:SGD', «lrr: 0.1}", "'lrr'; did you mean 'lr'?"),
    ("class: Sam, base: {class: 'torch.optim:SGD', lr: «-1}", "refuses this"),
    ("class: Lookahead, base: {class: 'torch.optim:SGD', lr: «-1}", "SGD refuses this"),
    ("class: Sam, base: {class: «'torch.optim:SDG'}", "did you mean 'SGD'?"),
]
MISTAKES = [
    *((f"{SGD}, schedule: {entry}", "", message) for entry, message in SCHEDULES),
    *((SGD, f"schedule: {entry}", message) for entry, message in SCHEDULES),
    ("class: NoRate", "schedule: «cosine", "NoRate has no 'lr' in its groups"),
    *((stages(*entries), "", message) for entries, message in STAGES),
    *((groups(*entries), "", message) for entries, message in GROUPS),
    (SGD, "groups: [{parameters: a.bias, «wd: 0}]", "SGD takes no argument 'wd'"),
    *((entry, "", message) for entry, message in BASES),
]


@pytest.mark.parametrize(("optimizer", "recipe", "message"), MISTAKES)
def test_a_mistake_is_reported_once_at_its_place(
    optimizer: str, recipe: str, message: str, folder: Path
) -> None:
    text, [place] = marked(spec(optimizer, recipe))
    _, [problem], _ = looked_at(text, folder)
    assert (problem.line, problem.column) == place, problem
    assert message in problem.message


def two_objectives(optimizer: str, more: str = "") -> str:
    text = spec(optimizer).replace("steps: 20}\n", "steps: 20}\n  flat: {class: Flat, steps: 20}\n")
    return text + more


def test_a_pattern_may_match_on_some_of_the_objectives_only(folder: Path) -> None:
    text = two_objectives(f"{SGD}, groups: [{{parameters: '*.bias', momentum: 0.5}}]")
    assert looked_at(text, folder)[1] == ()
    text, [place] = marked(two_objectives(f"{SGD}, groups: [{{parameters: «'*.bia', lr: 1}}]"))
    _, [problem], _ = looked_at(text, folder)
    assert (problem.line, problem.column) == place
    assert "of 'net', 'flat'" in problem.message


def test_an_objective_that_is_left_out_may_have_what_a_pattern_matches(folder: Path) -> None:
    text = two_objectives(f"{SGD}, groups: [{{parameters: '*.bias', momentum: 0.5}}]")
    assert looked_at(f"{text}exclude: [{{objective: net}}]\n", folder)[1] == ()


def test_an_optimizer_must_keep_something_on_one_of_the_objectives(folder: Path) -> None:
    text = two_objectives(groups(MATRICES, f"{{{ADAM}}}", of=MUON))
    assert looked_at(text, folder)[1] == ()
    # On the other alone, as with --only, it is what AdamW makes of it, and no mistake.
    assert looked_at(f"{text}exclude: [{{objective: net}}]\n", folder)[1] == ()
    everything = two_objectives(groups(f"{{{ADAM}}}", of=MUON))
    _, [problem], _ = looked_at(everything, folder)
    assert "parameter of 'net', 'flat', so nothing is left for Muon" in problem.message


def test_a_schedule_that_goes_by_a_loss_is_told(folder: Path) -> None:
    text = spec(f"{SGD}, schedule: {{class: '{LR}:ReduceLROnPlateau'}}")
    plan, problems, checked = looked_at(text, folder)
    assert problems == ()
    assert checked.notes == (
        "o: its trials run one at a time, as ReduceLROnPlateau looks at a loss",
    )
    assert len(plan.cases) == 1


def test_the_record_of_a_case_says_what_its_recipe_is_made_of(folder: Path) -> None:
    groups = "{parameters: {ndim: [0, 1], not: [embed]}, lr: 1}, {class: 'torch.optim:Adam'}"
    text = spec(
        f"class: 'torch.optim:SGD', groups: [{groups}]",
        f"schedule: {{class: '{LR}:StepLR', step_size: 3}}",
    )
    plan, _, checked = looked_at(text, folder)
    known: dict[str, Any] = checked.defaults[plan.cases[0].key]
    assert known["groups.0.parameters"] == "0 or 1 dimensions, not embed"
    assert known["groups.1.class"] == "Adam"
    assert known["groups.1.parameters"] == "the rest"
    assert known["schedule.0.class"] == "StepLR"
    assert (known["groups.0.lr"], known["schedule.0.step_size"], known["momentum"]) == (1, 3, 0)
