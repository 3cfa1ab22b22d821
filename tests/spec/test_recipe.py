"""Recipes in a spec: merged key by key, their numbers by dotted name, mistakes at their places."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from builders import marked

from harness.spec.model import json_schema
from harness.spec.recipe_values import merged
from harness.spec.validation import check
from harness.spec.yaml_source import parse

BASE = """\
suite: s
recipe: {RECIPE}
objectives:
  bowl: {class: quadratic_2d, steps: 3}
optimizers:
  o: {class: SGD, OPTIMIZER}
"""
LR = "torch.optim.lr_scheduler"
STAGE = f'{{class: "{LR}:LinearLR", steps: 5%}}'


def spec(recipe: str = "", optimizer: str = "") -> str:
    return BASE.replace("RECIPE", recipe).replace("OPTIMIZER", optimizer)


VALID = [
    ("schedule: cosine", ""),
    ("schedule: constant", "schedule: null"),
    ("schedule: {warmup: 5%, then: cosine, final: 0}", "clip_grad_norm: 1"),
    ("schedule: {warmup: [0, 5%, 10], then: [linear, step], at: [50%, 0.7]}", "groups: null"),
    ("clip_grad_norm: [0.5, 1, null], clip_grad_value: 2.5", "clip_grad_norm: null"),
    ("", f"schedule: [{STAGE}, {{class: '{LR}:CosineAnnealingLR', T_max: steps}}]"),
    ("", f"schedule: {{class: '{LR}:MultiStepLR', milestones: [30%, 2]}}"),
    ("", f"schedule: [{{class: '{LR}:ChainedScheduler', schedulers: [{{class: A}}]}}]"),
    ("groups: [{parameters: '*.bias', weight_decay: 0}]", "named: true"),
    ("", "groups: [{parameters: {ndim: 2, not: [a*]}, name: m}, {class: 'torch.optim:AdamW'}]"),
    ("", "groups: [{parameters: [a, b], lr: [0.1, 0.2], betas: [[0.9, 0.99]]}]"),
    ("", "base: {class: 'torch.optim:SGD', lr: 0.1, as: instance}"),
    ("clip_grad_norm: 1", "hyperparameters: {clip_grad_norm: [1, 2]}, search: {}"),
    ("schedule: cosine", "hyperparameters: {schedule.warmup: [5%, 10]}"),
    ("schedule: cosine", "per_objective: {bowl: {schedule.final: 0.5}}"),
]


@pytest.mark.parametrize(("recipe", "optimizer"), VALID)
def test_recipes_are_taken_by_loader_and_schema(recipe: str, optimizer: str) -> None:
    source = parse(spec(recipe, optimizer).encode(), "f")
    assert check(source).problems == ()
    jsonschema.Draft202012Validator(json_schema()).validate(source.data)


MISTAKES = [
    # of values
    ("schedule: «cosinus", "", "did you mean 'cosine'?", True),
    ("schedule: «5", "", "expected a schedule such as cosine", True),
    ("schedule: «[]", "", "is empty", True),
    ("schedule: {warmup: «105%}", "", "expected a share from 0 to 100%", True),
    ("schedule: {warmup: «fast}", "", "(5% or 0.05) or a whole number of steps", True),
    ("schedule: {warmup: [0, «-1]}", "", "at least 0 steps", True),
    ("schedule: {then: «cosin}", "", "did you mean 'cosine'?", True),
    ("schedule: {«warmpu: 5%}", "", "unknown key; did you mean 'warmup'?", True),
    ("schedule: {final: «-1}", "", "at least 0", True),
    ("clip_grad_norm: «0", "", "above 0, or null", True),
    ("clip_grad_norm: [1, «yes]", "", "above 0, or null", True),
    ("«clip_norm: 1", "", "unknown key; did you mean 'clip_grad_norm'", True),
    ("", "groups: «5", "expected a list, got 5", True),
    ("", "groups: [{parameters: {«ndims: 2}}]", "did you mean 'ndim'?", True),
    ("", "groups: [{parameters: «{}}]", "selects everything", True),
    ("", "groups: [{parameters: {ndim: «two}}]", "expected a number of dimensions", True),
    ("", "groups: [{parameters: «3}]", "expected names or patterns", True),
    ("", "groups: [{name: «1st}]", "expected a name of letters", True),
    ("", "groups: [{parameters: a, «'x y': 1}]", "expected an argument's name", True),
    ("", "«base: {lr: 0.1}", "is missing", True),
    ("", "base: {class: A, as: «klass}", "did you mean 'class'?", True),
    ("", "schedule: [«{steps: 5}]", "is missing", True),
    ("", "schedule: [{class: A, steps: «long}]", "or a whole number of steps", True),
    ("", "schedule: [{class: A, gamma: «{a: 1}}]", "got a mapping", True),
    # of one part against another
    ("", "groups: [{lr: 1}, «{parameters: a}]", "group 0 takes all that are left", False),
    ("", "groups: [{parameters: a, name: x}, {name: «x}]", "group 0 has it as well", False),
    ("", "groups: [{«params: a}]", "did you mean 'parameters'?", False),
    ("", "base: {class: A}, groups: [{class: «B}]", "can't have a class of its own", False),
    ("", "schedule: [«{class: A}, {class: B}]", "only one stage can take what is left", False),
    ("", "hyperparameters: {«schedule.warmup: 5%}", "there is no schedule", False),
    ("schedule: cosine", "hyperparameters: {«schedule.warmpu: 5%}", "'warmup'?", False),
    ("schedule: cosine", "hyperparameters: {schedule.warmup: «200%}", "0 to 100%", False),
    ("schedule: cosine", "hyperparameters: {schedule.warmup: [0, «-2]}", "at least 0", False),
    ("", f"schedule: [{STAGE}], hyperparameters: {{«schedule.1.gamma: 1}}", "no stage 1", False),
    ("", f"schedule: [{STAGE}], hyperparameters: {{«schedule.gamma: 1}}", "schedule.0", False),
    ("", "hyperparameters: {«groups.0.lr: 1}", "there is no group '0'", False),
    ("", "groups: [{name: head}], hyperparameters: {«groups.heads.lr: 1}", "'head'?", False),
    ("", "hyperparameters: {«base.lr: 1}", "there is no 'base'", False),
    ("", "hyperparameters: {«shedule.warmup: 1}", "is no number of a recipe", False),
    (
        "",
        "groups: [{name: a}], hyperparameters: {groups.a.lr: 1, «groups.0.lr: 2}",
        "another name for 'groups.a.lr'",
        False,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "optimizer", "message", "in_schema"), MISTAKES)
def test_a_mistake_is_reported_once_at_its_place(
    recipe: str, optimizer: str, message: str, in_schema: bool
) -> None:
    text, [place] = marked(spec(recipe, optimizer))
    source = parse(text.encode(), "f")
    [problem] = check(source).problems
    assert (problem.line, problem.column) == place
    assert message in problem.message
    schema = jsonschema.Draft202012Validator(json_schema())
    assert schema.is_valid(source.data) != in_schema


TUNED = "tuning: {trials: 3}\n"


@pytest.mark.parametrize(
    ("recipe", "optimizer", "message"),
    [
        ("clip_grad_norm: «[1, 2]", "search: {lr: {uniform: [0, 1]}}", "multiply the budget"),
        ("schedule: cosine", "search: {schedule.warmup: {uniform: [0, «2]}}", "0 to 100%"),
        ("", "search: {«schedule.warmup: {uniform: [0, 1]}}", "there is no schedule"),
        ("schedule: cosine", "search: {schedule.then: {choice: [linear, «cos]}}", "'cos'"),
    ],
)
def test_searches_of_a_recipe_are_checked(recipe: str, optimizer: str, message: str) -> None:
    text, [place] = marked(spec(recipe, optimizer) + TUNED)
    [problem] = check(parse(text.encode(), "f")).problems
    assert (problem.line, problem.column) == place
    assert message in problem.message


def values(recipe: str, optimizer: str) -> dict[str, list[Any]]:
    loaded = check(parse(spec(recipe, optimizer).encode(), "f")).spec
    assert loaded is not None
    return {name: given.choices for name, given in merged(loaded, "o").values().items()}


def test_an_optimizers_key_stands_for_the_recipes_whole_key() -> None:
    recipe = "schedule: {warmup: 5%, then: cosine}, clip_grad_norm: 1"
    assert values(recipe, "") == {
        "schedule.warmup": ["5%"],
        "schedule.then": ["cosine"],
        "clip_grad_norm": [1],
    }
    own = values(recipe, "schedule: {then: linear, final: [0, 0.1]}")
    assert own["schedule.warmup"] == [0]
    assert own["schedule.final"] == [0, 0.1]
    assert own["clip_grad_norm"] == [1]
    assert values(recipe, "schedule: constant, clip_grad_norm: null") == {}


def test_numbers_have_dotted_names() -> None:
    milestones = f"{{class: '{LR}:MultiStepLR', milestones: [30%, 2], gamma: 0.1}}"
    assert values("", f"schedule: [{STAGE}, {milestones}]") == {
        "schedule.0.steps": ["5%"],
        "schedule.1.milestones": [["30%", 2]],
        "schedule.1.gamma": [0.1],
    }
    groups = "groups: [{parameters: a, lr: [1, 2]}, {name: rest, class: A, betas: [[0.9, 0.99]]}]"
    assert values("", f"{groups}, base: null") == {
        "groups.0.lr": [1, 2],
        "groups.rest.betas": [[0.9, 0.99]],
    }
    assert values("base: {class: A, lr: 0.1}", "") == {"base.lr": [0.1]}
