"""A spec that extends another has all that it doesn't say itself from there."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from builders import make_plan, require

from harness.spec.extends import SHIPPED_SPECS, shipped_spec
from harness.spec.model import json_schema
from harness.spec.validation import check, load
from harness.spec.yaml_source import of_mapping

BASE = """\
suite: base
seeds: 3
objectives:
  valley: {class: rosenbrock, arguments: {dimension: {each: [2, 5]}}, steps: 3, targets: [0.5]}
optimizers:
  sgd: {class: 'torch.optim:SGD', hyperparameters: {lr: 0.1}}
tuning: {trials: 4, seeds: 2}
"""
OWN = """\
suite: own
extends: base.yaml
optimizers:
  adam: {class: 'torch.optim:Adam', search: {lr: {log_uniform: [0.001, 0.1]}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "own.yaml").write_text(OWN)
    return tmp_path


def mistakes(folder: Path) -> list[str]:
    told = [str(problem) for problem in load(folder / "own.yaml").problems]
    return [text.replace(f"{folder}/", "") for text in told]


def test_keys_come_from_the_other_where_it_has_none(folder: Path) -> None:
    spec = require(load(folder / "own.yaml"))
    assert spec.suite == "own"
    assert [*spec.objectives] == ["valley.dimension=2", "valley.dimension=5"]
    assert [*spec.optimizers] == ["adam"]
    assert spec.seeds == (0, 1, 2)
    assert spec.tuning is not None
    assert spec.tuning.trials == 4


def test_what_it_says_itself_stands_whole(folder: Path) -> None:
    (folder / "own.yaml").write_text(OWN + "tuning: {trials: 9}\nseeds: 2\n")
    spec = require(load(folder / "own.yaml"))
    assert spec.tuning is not None
    assert (spec.tuning.trials, len(spec.tuning.seeds), len(spec.seeds)) == (9, 5, 2)


def test_trials_are_those_of_the_same_spec_written_out(folder: Path) -> None:
    whole = yaml.safe_load(BASE) | {k: v for k, v in yaml.safe_load(OWN).items() if k != "extends"}
    mine = make_plan(load(folder / "own.yaml"))
    own = make_plan(check(of_mapping(whole, folder)))
    assert [case.key for case in mine.everything] == [case.key for case in own.everything]


def test_one_may_extend_one_that_extends(folder: Path) -> None:
    (folder / "third.yaml").write_text("suite: third\nextends: own.yaml\nseeds: 7\n")
    spec = require(load(folder / "third.yaml"))
    assert ([*spec.optimizers], len(spec.seeds), len(spec.objectives)) == (["adam"], 7, 2)


def test_the_text_that_is_stored_has_both(folder: Path) -> None:
    text = load(folder / "own.yaml").source.text
    assert text.startswith(OWN)
    assert text.endswith(BASE)


def test_mistakes_are_told_where_they_are(folder: Path) -> None:
    (folder / "base.yaml").write_text(BASE.replace("steps: 3", "stepz: 3") + "seedz: 1\n")
    (folder / "own.yaml").write_text(OWN + "devicez: cpu\n")
    told = mistakes(folder)
    places = [text.partition(": ")[0] for text in told]
    assert places == ["base.yaml:4:11", "base.yaml:4:71", "base.yaml:8:1", "own.yaml:5:1"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "diagnostic",
            "own.yaml:2:10: extends: expected a spec that ships (diagnostics) or a file "
            "such as 'base.yaml', got 'diagnostic'; did you mean 'diagnostics'?",
        ),
        ("bace.yaml", "own.yaml:2:10: extends: bace.yaml: no such file; did you mean 'base.yaml'?"),
        (
            "7",
            "own.yaml:2:10: extends: expected a spec that ships (diagnostics) or a file such as "
            "'base.yaml', got 7",
        ),
        ("own.yaml", "own.yaml:2:10: extends: own.yaml: extends itself"),
    ],
)
def test_a_reference_that_leads_nowhere_is_told(folder: Path, reference: str, message: str) -> None:
    (folder / "own.yaml").write_text(OWN.replace("base.yaml", reference))
    told = mistakes(folder)
    assert len(told) == 1, told
    assert told[0].startswith(message)


def test_two_that_extend_each_other_are_told(folder: Path) -> None:
    (folder / "base.yaml").write_text(BASE + "extends: own.yaml\n")
    told = mistakes(folder)
    assert len(told) == 1, told
    (text,) = told
    assert text.startswith("base.yaml:8:10: extends: own.yaml: extends itself")


def test_a_way_around_to_itself_is_told(folder: Path) -> None:
    around = f"../{folder.name}/own.yaml"  # a longer name with every turn
    (folder / "own.yaml").write_text(OWN.replace("base.yaml", around))
    told = mistakes(folder)
    assert len(told) == 1, told
    assert told[0].endswith("extends itself")


def test_a_file_that_is_no_yaml_is_told_at_its_place(folder: Path) -> None:
    (folder / "base.yaml").write_text("suite: s\nobjectives: [\n")
    told = mistakes(folder)
    assert len(told) == 1, told
    (text,) = told
    assert text.startswith("base.yaml:3:1: not valid YAML")


@pytest.mark.parametrize("name", SHIPPED_SPECS)
def test_what_ships_is_extended_from_anywhere(name: str, tmp_path: Path) -> None:
    assert shipped_spec(name).is_file()
    data = {
        "suite": "mine",
        "extends": name,
        "optimizers": {
            "mine": {"class": "torch.optim:Adam", "search": {"lr": {"log_uniform": [1e-4, 1.0]}}}
        },
    }
    jsonschema.validate(data, json_schema())
    plan = make_plan(check(of_mapping(data, tmp_path)))
    own = make_plan(load(shipped_spec(name)))
    assert [o.key for o in plan.objectives] == [o.key for o in own.objectives]
    assert plan.seeds == own.seeds
    assert len(plan.searches) == len(plan.objectives)
