"""Recipes in a plan: their numbers are hyperparameters, their structure is in the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import make_plan

from harness.errors import BadInput
from harness.plan.builder import Overrides
from harness.plan.model import Plan, named_by
from harness.plan.recipe import parts_of
from harness.spec.validation import check
from harness.spec.yaml_source import parse

BASE = """\
suite: s
seeds: 3
recipe: {RECIPE}
objectives:
  bowl: {class: quadratic_2d, steps: 20}
  other: {class: quadratic_2d, steps: 20}
optimizers:
  o: {class: 'torch.optim:SGD'OPTIMIZER}
"""
LR = "torch.optim.lr_scheduler"
COSINE = "schedule: {warmup: 5%, then: cosine}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "own.py").write_text(
        "class Own:\n    def step(self): ...\n\ndef rule(t): return 1.0\n"
    )
    return tmp_path


def plan_of(folder: Path, recipe: str = "", optimizer: str = "", **overrides: Any) -> Plan:
    text = BASE.replace("RECIPE", recipe)
    text = text.replace("OPTIMIZER", f", {optimizer}" if optimizer else "")
    if "search" in optimizer:
        text += "tuning: {trials: 4, sweep: 3}\n"
    source = parse(text.encode(), str(folder / "spec.yaml"))
    return make_plan(check(source), Overrides(only=("objective=bowl",), **overrides))


def test_a_grid_of_a_recipes_numbers_gives_a_setting_each(folder: Path) -> None:
    plan = plan_of(folder, "schedule: {warmup: [0, 5%], then: cosine}", "clip_grad_norm: [1, 2.5]")
    assert [case.setting for case in plan.cases] == [
        "schedule.warmup=0, clip_grad_norm=1",
        "schedule.warmup=0, clip_grad_norm=2.5",
        "schedule.warmup=5%, clip_grad_norm=1",
        "schedule.warmup=5%, clip_grad_norm=2.5",
    ]
    assert len({case.key for case in plan.cases}) == 4


def test_what_differs_in_schedule_and_thresholds_may_share_a_run(folder: Path) -> None:
    recipe = "schedule: {warmup: [0, 3, 5%, 0.1], then: [linear, cosine]}"
    plan = plan_of(folder, recipe, "clip_grad_norm: [1, 2.5], hyperparameters: {lr: [0.1, 0.2]}")
    assert [len(family) for family in plan.families()] == [32]
    # Clipping that is turned off, and a group's 0, are other kinds.
    plan = plan_of(folder, "clip_grad_norm: [1, 2, null]")
    assert sorted(len(family) for family in plan.families()) == [1, 2]
    plan = plan_of(folder, "", "groups: [{parameters: x, momentum: [0.0, 0.5, 0.9]}]")
    assert sorted(len(family) for family in plan.families()) == [1, 2]


def test_hyperparameters_and_objectives_override_the_recipe_by_dotted_name(folder: Path) -> None:
    more = "hyperparameters: {schedule.warmup: 3}, per_objective: {bowl: {schedule.final: 0.5}}"
    [case] = plan_of(folder, COSINE, more).cases
    assert case.hyperparameters == {
        "schedule.warmup": 3,
        "schedule.final": 0.5,
        "schedule.then": "cosine",
    }


def test_the_command_line_sets_a_recipes_numbers(folder: Path) -> None:
    [case] = plan_of(folder, COSINE, values=("schedule.warmup=0.2", 'schedule.then="linear"')).cases
    assert case.hyperparameters == {"schedule.warmup": 0.2, "schedule.then": "linear"}
    groups = "groups: [{parameters: x, name: first, lr: 1}]"
    for name in ("groups.first.lr", "groups.0.lr"):
        [case] = plan_of(folder, "", groups, values=(f"{name}=2",)).cases
        assert case.hyperparameters == {"groups.first.lr": 2}
    with pytest.raises(BadInput, match=r"did you mean 'schedule\.warmup'"):
        plan_of(folder, COSINE, values=("schedule.warmpu=0.2",))
    with pytest.raises(BadInput, match="0 to 100%"):
        plan_of(folder, COSINE, values=("schedule.warmup=1.5",))


def test_a_named_group_goes_by_its_number_as_well(folder: Path) -> None:
    groups = "groups: [{parameters: x, name: first, lr: 1}], hyperparameters: {groups.0.lr: 2}"
    [case] = plan_of(folder, "", groups).cases
    assert case.hyperparameters == {"groups.first.lr": 2}


def test_defaults_of_a_searched_number_are_the_recipes(folder: Path) -> None:
    search = "search: {schedule.warmup: {uniform: [0, 0.2]}, lr: {uniform: [0, 1]}}"
    plan = plan_of(folder, f"{COSINE}, clip_grad_norm: 1", search)
    [defaults] = plan.cases
    assert defaults.role == "defaults"
    assert defaults.hyperparameters == {
        "schedule.then": "cosine",
        "clip_grad_norm": 1,
        "schedule.warmup": "5%",
    }
    [tuning] = plan.searches
    assert tuning.base.hyperparameters == {"schedule.then": "cosine", "clip_grad_norm": 1}
    for case in tuning.settings:
        assert 0 <= case.hyperparameters["schedule.warmup"] <= 0.2
        assert case.varied == ("schedule.warmup", "lr")
    assert [len(family) for family in plan.tuning.families()] == [4]


def test_match_filters_go_by_dotted_names(folder: Path) -> None:
    text = BASE.replace("RECIPE", "schedule: {warmup: [0, 5%], then: cosine}")
    text = text.replace("OPTIMIZER", "") + "exclude: [{hyperparameters: {schedule.warmup: 5%}}]\n"
    plan = make_plan(check(parse(text.encode(), str(folder / "spec.yaml"))))
    assert {case.hyperparameters["schedule.warmup"] for case in plan.cases} == {0}


STRUCTURES = [
    ("", ""),
    (f"schedule: {{class: '{LR}:LinearLR'}}", ""),
    (f"schedule: {{class: '{LR}:ConstantLR'}}", ""),
    (f"schedule: [{{class: '{LR}:LinearLR', steps: 5}}, {{class: '{LR}:ConstantLR'}}]", ""),
    (f"schedule: {{class: '{LR}:ChainedScheduler', schedulers: [{{class: '{LR}:LinearLR'}}]}}", ""),
    ("", "groups: [{parameters: x}]"),
    ("", "groups: [{parameters: y}]"),
    ("", "groups: [{parameters: {name: x, ndim: 1}}]"),
    ("", "groups: [{parameters: {name: x, not: y}}]"),
    ("", "groups: [{parameters: x, class: 'torch.optim:Adam'}]"),
    ("", "base: {class: 'torch.optim:SGD'}"),
    ("", "base: {class: 'torch.optim:SGD', as: instance}"),
    ("named: true", ""),
]


def test_whatever_a_recipe_is_made_of_is_in_the_key(folder: Path) -> None:
    keys = [plan_of(folder, *structure).cases[0].key for structure in STRUCTURES]
    assert len(set(keys)) == len(STRUCTURES)


def test_a_recipe_of_all_and_an_optimizers_own_are_the_same_recipe(folder: Path) -> None:
    for entry in (
        COSINE,
        "groups: [{parameters: x, lr: 2}]",
        f"schedule: {{class: '{LR}:LinearLR'}}",
    ):
        [one], [other] = plan_of(folder, entry).cases, plan_of(folder, "", entry).cases
        assert (one.key, one.hyperparameters) == (other.key, other.hyperparameters)


OWN = "optimizers/own.py"


@pytest.mark.parametrize(
    "optimizer",
    [
        f"schedule: {{class: '{OWN}:Own'}}",
        f"schedule: {{class: '{LR}:LambdaLR', lr_lambda: '{OWN}:rule'}}",
        f"groups: [{{class: '{OWN}:Own', parameters: x}}]",
        f"base: {{class: '{OWN}:Own'}}",
    ],
)
def test_an_edited_file_of_a_recipe_changes_the_key(folder: Path, optimizer: str) -> None:
    before = plan_of(folder, "", optimizer)
    assert [located.file for located in named_by(before.cases) if located.file] == [folder / OWN]
    (folder / OWN).write_text((folder / OWN).read_text() + "# edited\n")
    assert plan_of(folder, "", optimizer).cases[0].key != before.cases[0].key


def test_what_a_recipe_names_and_is_not_there_is_found(folder: Path) -> None:
    with pytest.raises(BadInput, match="did you mean 'Own'") as raised:
        plan_of(folder, "", "groups: [{class: Onw}], schedule: {class: Linar}")
    assert {problem.key for problem in raised.value.problems} == {
        "optimizers.o.groups.0.class",
        "optimizers.o.schedule.class",
    }


def test_hyperparameters_are_sorted_by_what_they_are_for() -> None:
    parts = parts_of(
        {
            "lr": 1,
            "clip_grad_norm": 2,
            "schedule.0.gamma": 3,
            "schedule.warmup": 4,
            "groups.rest.lr": 5,
            "base.lr": 6,
        }
    )
    assert parts.own == {"lr": 1}
    assert parts.clipping == {"clip_grad_norm": 2}
    assert parts.schedule == {"0.gamma": 3, "warmup": 4}
    assert parts.groups == {"rest": {"lr": 5}}
    assert parts.base == {"lr": 6}
