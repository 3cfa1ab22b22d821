"""Tuning: equal budgets, seeds of its own, and the best setting as if the spec had given it."""

from __future__ import annotations

import csv
import html
import itertools
import json
import math
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import InProcess, make_plan, tree
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from harness import api
from harness.cli import main
from harness.commands import tuning
from harness.commands.quality_pass import QualityPass
from harness.errors import BadInput
from harness.measures import TRAIN_LOSS
from harness.plan.builder import CASE_LIMIT, TRIAL_LIMIT, Overrides
from harness.plan.model import Case, Plan, Search
from harness.progress import NullProgress
from harness.results import Unavailable
from harness.spec.model import ObjectiveSpec
from harness.spec.validation import check
from harness.spec.yaml_source import parse
from harness.store import read as frames
from harness.store.database import Store

ROOT = Path(__file__).resolve().parents[2]
FIRST_TUNING_SEED = 2**29

FILES = {
    # Elementwise: a trial's numbers are the same in any company, to the bit.
    "objectives/bowl.py": """
import torch
from harness import Objective

class Bowl(Objective):
    optimum = 0.0
    def __init__(self, steep=2.0):
        self.steep = steep
    def init(self, generator):
        return {"x": torch.randn(2, generator=generator)}
    def loss(self, params, batch):
        x1, x2 = params["x"].unbind()
        return 0.1 * x1.square() + self.steep * x2.square()
""",
    "optimizers/heavy.py": """
import torch

class Heavy(torch.optim.Optimizer):
    # It has no default for its rate.
    def __init__(self, params, lr, momentum=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum})
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                v = self.state[p].setdefault("v", torch.zeros_like(p))
                v.mul_(group["momentum"]).add_(p.grad)
                p.sub_(v, alpha=group["lr"])
""",
    # It takes a norm, so its trials run one by one. Without a file "gate" beside the spec, each
    # waits at its 20th step, beyond those of the proof, and says so.
    "optimizers/turns.py": """
import time
from pathlib import Path
import torch

class Turns(torch.optim.Optimizer):
    def __init__(self, params, lr=0.02):
        super().__init__(params, {"lr": lr})
        self.steps = 0
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad / p.grad.norm(), alpha=group["lr"])
        self.steps += 1
        folder = Path(__file__).parent.parent
        while self.steps == 20 and not (folder / "gate").exists():
            (folder / "waits").touch()
            time.sleep(0.01)
""",
}
BASE = """\
suite: s
seeds: 2
tuning: {trials: 4}
objectives:
  bowl: {class: Bowl, steps: 30}
optimizers:
  a: {class: Heavy, search: {lr: {log_uniform: [0.01, 1]}}}
"""
SEARCH = "{log_uniform: [0.01, 1]}"


def write(folder: Path, spec: str) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shutil.copy(ROOT / "optimizers" / "momentum.py", folder / "optimizers")
    (folder / "spec.yaml").write_text(spec)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, BASE)


def marked(text: str) -> tuple[str, tuple[int, int]]:
    """A text without its mark, and the line and column where that stood."""
    before = text.partition("«")[0]
    assert text.count("«") == 1
    line = before.count("\n") + 1
    return text.replace("«", ""), (line, len(before) - (before.rfind("\n") + 1) + 1)


def a(entry: str) -> str:
    """The spec with other words about its optimizer."""
    return BASE.replace("search: {lr: {log_uniform: [0.01, 1]}}", entry)


def searched(where: str) -> str:
    return BASE.replace(SEARCH, where)


def tuned_by(entry: str) -> str:
    return BASE.replace("{trials: 4}", entry)


ONE_OF = "expected exactly one of 'uniform', 'log_uniform', 'one_minus_log_uniform', 'integer', "
LR = "optimizers.a.search.lr"
MISTAKES = [
    (
        BASE.replace("tuning: {trials: 4}\n", "").replace("search", "«search"),
        "optimizers.a.search",
        "a search needs 'tuning', such as 'tuning: {trials: 50}', for the whole spec",
    ),
    (
        a("hyperparameters: {lr: 1}").replace("tuning", "«tuning"),
        "tuning",
        "there is nothing to tune: no optimizer has a 'search'",
    ),
    (a("search: {}").replace("tuning", "«tuning"), "tuning", "there is nothing to tune"),
    (
        a("hyperparameters: {lr: 0.1}, search: {«lr: {uniform: [0, 1]}}"),
        LR,
        "also has a value under 'hyperparameters'; keep only one of the two",
    ),
    (
        a("hyperparameters: {momentum: «[0, 0.5]}, search: {lr: {uniform: [0, 1]}}"),
        "optimizers.a.hyperparameters.momentum",
        "a grid beside a search would multiply the budget; make it a part of the search, as "
        "momentum: {choice: [...]}",
    ),
    (
        a("per_objective: {bowl: {momentum: «[0, 0.5]}}, search: {lr: {uniform: [0, 1]}}"),
        "optimizers.a.per_objective.bowl.momentum",
        "a grid beside a search would multiply the budget",
    ),
    # Spaces
    (searched("«0.1"), LR, "expected a mapping, got 0.1"),
    (searched("«[0.1, 1]"), LR, "expected a mapping, got a list"),
    (searched("«{}"), LR, ONE_OF),
    (searched("«{uniform: [0, 1], choice: [1, 2]}"), LR, ONE_OF),
    (searched("{«loguniform: [1, 2]}"), f"{LR}.loguniform", "did you mean 'log_uniform'?"),
    (searched("{uniform: «1}"), f"{LR}.uniform", "a list of two numbers, [low, high], got 1"),
    (searched("{uniform: «[1]}"), f"{LR}.uniform", "expected a list of two numbers, [low, high]"),
    (searched("{uniform: «[0, x]}"), f"{LR}.uniform", "expected a list of two numbers"),
    (searched("{uniform: «[false, true]}"), f"{LR}.uniform", "expected a list of two numbers"),
    (searched("{uniform: «[1, 0]}"), f"{LR}.uniform", "the lower bound first, got [1, 0]"),
    (searched("{uniform: «[1, 1]}"), f"{LR}.uniform", "the lower bound first, got [1, 1]"),
    (searched("{uniform: [0, «.inf]}"), f"{LR}.uniform.1", "expected a finite number, got .inf"),
    (searched("{uniform: [«.nan, 1]}"), f"{LR}.uniform.0", "expected a finite number, got .nan"),
    (searched(f"{{uniform: [0, «{10**20}]}}"), f"{LR}.uniform.1", "a number of at most 63 bits"),
    (searched("{log_uniform: «[0, 1]}"), f"{LR}.log_uniform", "expected bounds above 0 for a log"),
    (searched("{log_uniform: «[-1, 1]}"), f"{LR}.log_uniform", "logarithmic scale, got -1"),
    (
        searched("{one_minus_log_uniform: «[0, 1]}"),
        f"{LR}.one_minus_log_uniform",
        "expected bounds below 1, for the scale is logarithmic in 1 - value, got 1",
    ),
    (searched("{integer: «[1.0, 3]}"), f"{LR}.integer", "expected two whole numbers"),
    (searched("{choice: «3}"), f"{LR}.choice", "expected a list of values, got 3"),
    (searched("{choice: «[3]}"), f"{LR}.choice", "expected at least two values to choose from"),
    (searched("{choice: «[]}"), f"{LR}.choice", "the list is empty"),
    (searched("{choice: [1, «1.0]}"), f"{LR}.choice.1", "duplicate entry: 1.0"),
    (searched("{choice: [1, «.nan]}"), f"{LR}.choice.1", "expected a finite number, got .nan"),
    # Budgets
    (tuned_by("{}").replace("tuning", "«tuning"), "tuning.trials", "is missing"),
    (tuned_by("«5"), "tuning", "expected a mapping, got 5"),
    (tuned_by("{trials: «0}"), "tuning.trials", "expected at least 1, got 0"),
    (tuned_by("{trials: «1.5}"), "tuning.trials", "expected a whole number, got 1.5"),
    (tuned_by("{trials: «100001}"), "tuning.trials", "expected at most 100,000, got 100001"),
    (tuned_by("{trials: 1, «budget: 3}"), "tuning.budget", "unknown key (known: defaults, draw"),
    (tuned_by("{trials: 1, sweep: «-1}"), "tuning.sweep", "expected at least 0, got -1"),
    (tuned_by("{trials: 1, sweep: «1001}"), "tuning.sweep", "expected at most 1,000, got 1001"),
    (tuned_by("{trials: 1, defaults: «1}"), "tuning.defaults", "expected true or false, got 1"),
    (tuned_by("{trials: 1, draw: «-1}"), "tuning.draw", "expected at least 0, got -1"),
    (tuned_by("{trials: 1, draw: «1073741823}"), "tuning.draw", "expected less than 1,073,741,823"),
    (tuned_by("{trials: 1, seeds: «0}"), "tuning.seeds", "expected at least 1 seed, got 0"),
    (tuned_by("{trials: 1, seeds: [5, «5]}"), "tuning.seeds.1", "duplicate entry: seed 5"),
    (
        tuned_by("{trials: 1, seeds: «[7, 1]}"),
        "tuning.seeds",
        "seed 1 is one of the spec's seeds; tuning needs seeds of its own",
    ),
    (
        BASE.replace("seeds: 2", "seeds: [0, 536870913]").replace("tuning", "«tuning"),
        "tuning.seeds",
        "seed 536870913 is one of the spec's seeds; tuning needs seeds of its own",
    ),
    # Relatives
    (a("search: {lr: {uniform: [0, 1]}}, generalizes: «sgd"), "optimizers.a.generalizes", "'sgd'"),
    (
        a("hyperparameters: {lr: 1}, generalizes: «[aa]").replace("tuning: {trials: 4}\n", "")
        + "  aaa: {class: Heavy, hyperparameters: {lr: 1}}\n",
        "optimizers.a.generalizes",
        "there is no optimizer 'aa'; did you mean 'aaa'?",
    ),
    (
        a("search: {lr: {uniform: [0, 1]}}, generalizes: «a"),
        "optimizers.a.generalizes",
        "'a' refers to itself",
    ),
    (
        a("search: {lr: {uniform: [0, 1]}}, counterpart: «b"),
        "optimizers.a.counterpart",
        "expected a mapping, got 'b'",
    ),
    (
        a("search: {lr: {uniform: [0, 1]}}, counterpart: {optimizer: «b}"),
        "optimizers.a.counterpart.optimizer",
        "there is no optimizer 'b'",
    ),
    (
        a("search: {lr: {uniform: [0, 1]}}, counterpart: {optimizer: «a}"),
        "optimizers.a.counterpart.optimizer",
        "'a' refers to itself",
    ),
    (
        a("search: {lr: {uniform: [0, 1]}}, counterpart: {«becase: x, optimizer: a}"),
        "optimizers.a.counterpart.becase",
        "unknown key; did you mean 'because'?",
    ),
    # Claims
    (
        BASE + "claims: [{value: 1, source: x, optimizer: «A, objective: bowl}]\n",
        "claims.0.optimizer",
        "there is no optimizer 'A'; did you mean 'a'?",
    ),
    (
        BASE + "claims: [{value: 1, source: x, optimizer: a, objective: «bow}]\n",
        "claims.0.objective",
        "there is no objective 'bow'; did you mean 'bowl'?",
    ),
    (
        BASE + "claims: [{value: «x, source: x, optimizer: a, objective: bowl}]\n",
        "claims.0.value",
        "expected",
    ),
    (
        BASE + "claims: [«{value: 1, source: x, optimizer: a, objective: bowl, seeds: 3}]\n",
        "claims.0",
        "expected both 'seeds' and 'sd' (of a mean), or neither",
    ),
]


@pytest.mark.parametrize(("text", "key", "message"), MISTAKES)
def test_a_mistake_about_tuning_is_found_at_its_place(text: str, key: str, message: str) -> None:
    plain, place = marked(text)
    problems = check(parse(plain.encode(), "spec.yaml")).problems
    assert message in str(problems[0])
    assert [((p.line, p.column), p.key) for p in problems if p.key == key] == [(place, key)]
    beyond = [p for p in problems if p.key != key]
    assert not [p for p in beyond if p.key != "optimizers.a.counterpart.optimizer"]


def test_all_mistakes_about_tuning_are_found_at_once() -> None:
    text = (
        tuned_by("{trials: 0, seeds: [1]}").replace("a:", "b: {class: Heavy, search: 3}\n  a:")
        + "  c: {class: Heavy, search: {lr: {uniform: [3, 1]}}, generalizes: d}\n"
    )
    keys = [problem.key for problem in check(parse(text.encode(), "spec.yaml")).problems]
    assert keys == [
        *("tuning.trials", "tuning.seeds", "optimizers.b.search"),
        *("optimizers.c.search.lr.uniform", "optimizers.c.generalizes"),
    ]


TWO = """\
suite: s
seeds: 2
tuning: {trials: 5, seeds: 3, sweep: 4}
objectives:
  bowl: {class: Bowl, steps: 30}
  dish: {class: Bowl, steps: 30, arguments: {steep: 1.0}}
optimizers:
  one: {class: Heavy, search: {lr: {log_uniform: [0.01, 1]}}}
  two:
    class: Heavy
    search: {lr: {log_uniform: [0.01, 1]}, momentum: {one_minus_log_uniform: [0, 0.99]}}
  set: {class: Heavy, hyperparameters: {lr: [0.1, 0.2]}}
"""


def plan_of(text: str, folder: Path, **overrides: Any) -> Plan:
    return make_plan(check(parse(text.encode(), str(folder / "spec.yaml"))), Overrides(**overrides))


def refusal(text: str, folder: Path, **overrides: Any) -> list[str]:
    with pytest.raises(BadInput) as caught:
        plan_of(text, folder, **overrides)
    return [str(problem).replace(str(folder) + "/", "") for problem in caught.value.problems]


def completed(plan: Plan) -> Plan:
    """A plan whose searches all found their first setting best."""
    return plan.completed([_values(search, search.settings[0]) for search in plan.searches])


def _values(search: Search, case: Case) -> dict[str, Any]:
    return {name: case.hyperparameters[name] for name in search.spaces}


def test_what_tuning_found_is_the_same_case_when_its_values_are_given(folder: Path) -> None:
    tuned = completed(plan_of(TWO, folder))
    for case in (case for case in tuned.cases if case.role == "tuned"):
        search = next(s for s in tuned.searches if s.tuned().id == case.id)
        given = plan_of(
            TWO,
            folder,
            only=(f"optimizer={case.optimizer}", f"objective={case.objective.name}"),
            values=tuple(f"{name}={case.hyperparameters[name]!r}" for name in search.spaces),
        )
        assert [(c.key, c.role) for c in given.cases] == [(case.key, "given")]
        assert not given.searches


def test_a_filter_of_settings_leaves_out_the_search_or_the_defaults(folder: Path) -> None:
    only = ("optimizer=one", "objective=bowl")
    defaults = plan_of(TWO, folder, only=(*only, "setting=defaults"))
    assert [case.role for case in defaults.cases] == ["defaults"]
    assert not defaults.searches
    tuned = completed(plan_of(TWO, folder, only=(*only, "setting=tuned")))
    assert [case.role for case in tuned.cases] == ["tuned"]


CLAIM = "claims:\n  - «{{value: 1, source: x, optimizer: {}, objective: bowl{}}}\n"
TUNED_OR_DEFAULTS = "fits the tuned setting and the defaults; choose one, as 'setting: tuned'"


@pytest.mark.parametrize(
    ("optimizer", "more", "message"),
    [
        ("one", "", TUNED_OR_DEFAULTS),
        ("set", "", "fits several settings (lr=0.1, lr=0.2); choose by 'hyperparameters'"),
        ("set", ", hyperparameters: {lr: 0.3}", "no case of 'set' on 'bowl' has this setting"),
        ("set", ", setting: tuned", "no case of 'set' on 'bowl' has this setting"),
        ("one", ", hyperparameters: {lr: 0.1}", "no case of 'one' on 'bowl' has this setting"),
    ],
)
def test_a_claim_must_be_of_one_setting(
    folder: Path, optimizer: str, more: str, message: str
) -> None:
    text, (line, column) = marked(TWO + CLAIM.format(optimizer, more))
    assert refusal(text, folder) == [f"spec.yaml:{line}:{column}: claims.0: {message}"]


@pytest.mark.parametrize(
    ("optimizer", "more"),
    [
        ("one", ", setting: tuned"),
        ("one", ", setting: defaults"),
        ("set", ", hyperparameters: {lr: 0.2}"),
    ],
)
def test_a_claim_that_says_which_setting_is_fine(folder: Path, optimizer: str, more: str) -> None:
    text = TWO + CLAIM.format(optimizer, more).replace("«", "")
    assert plan_of(text, folder).spec.claims[0].optimizer == optimizer
    assert plan_of(text, folder, devices=("cpu", "cuda"))  # of both
    assert plan_of(text, folder, only=("optimizer=two",))  # of none that is run now


def test_there_is_nothing_to_claim_of_defaults_that_are_not_run(folder: Path) -> None:
    bare = TWO.replace("sweep: 4", "defaults: false")
    claim = CLAIM.format("one", ", setting: defaults").replace("«", "")
    (said,) = refusal(bare + claim, folder)
    assert "no case of 'one' on 'bowl' has this setting" in said
    # Then the tuned setting is the only one, and need not be named.
    assert plan_of(bare + CLAIM.format("one", "").replace("«", ""), folder)


def test_every_optimizer_gets_as_many_settings_on_every_objective(folder: Path) -> None:
    space = "{uniform: [0, 1]}"
    names = [f"x{i}" for i in range(6)]
    many = "".join(
        f"  o{i}: {{class: Heavy, search: {{{', '.join(f'{n}: {space}' for n in names[:i])}}}}}\n"
        for i in range(1, 7)
    )
    plan = plan_of(TWO + many, folder, devices=("cpu", "cuda"))
    assert [(s.base.objective.name, s.base.optimizer, s.base.device) for s in plan.searches] == [
        *itertools.product(
            ("bowl", "dish"), ("one", "two", *(f"o{i}" for i in range(1, 7))), ("cpu", "cuda")
        )
    ]
    assert {len(search.settings) for search in plan.searches} == {5}
    assert plan.tuning_seeds == tuple(FIRST_TUNING_SEED + i for i in range(3))
    for search in plan.searches:
        assert {case.role for case in search.settings} == {"tuning"}
        assert all(list(case.hyperparameters) == list(search.spaces) for case in search.settings)
    assert plan.tuning.trials == len(plan.tuning.cases) * 3 == 2 * 8 * 2 * 5 * 3


def test_an_optimizer_with_the_same_space_is_tried_at_the_same_settings(folder: Path) -> None:
    text = TWO + "  same: {class: torch.optim:SGD, search: {lr: {log_uniform: [0.01, 1]}}}\n"
    tried = {
        (s.base.optimizer, s.base.objective.name): [c.hyperparameters for c in s.settings]
        for s in plan_of(text, folder).searches
    }
    assert tried["one", "bowl"] == tried["same", "bowl"] == tried["one", "dish"]
    again = plan_of(text.replace("sweep: 4", "draw: 1"), folder).searches[0]
    assert [case.hyperparameters for case in again.settings] != tried["one", "bowl"]


def test_values_of_one_objective_win_over_the_search_there(folder: Path) -> None:
    text = TWO.replace("    search:", "    per_objective: {dish: {momentum: 0.5}}\n    search:")
    on = {(s.base.objective.name, s.base.optimizer): s for s in plan_of(text, folder).searches}
    assert list(on["bowl", "two"].spaces) == ["lr", "momentum"]
    assert list(on["dish", "two"].spaces) == ["lr"]
    assert {c.hyperparameters["momentum"] for c in on["dish", "two"].settings} == {0.5}
    assert len(on["dish", "two"].settings) == 5
    # Nothing left to search: the settings are given, and may be several.
    text = TWO.replace("Heavy, search", "Heavy, per_objective: {dish: {lr: [1, 2]}}, search")
    plan = plan_of(text, folder)
    assert ("dish", "one") not in {(s.base.objective.name, s.base.optimizer) for s in plan.searches}
    given = [case for case in plan.cases if case.id.startswith("dish/one")]
    assert [(case.id, case.role) for case in given] == [
        ("dish/one[lr=1]/cpu", "given"),
        ("dish/one[lr=2]/cpu", "given"),
    ]


def test_the_tuned_case_stands_before_the_defaults_in_the_specs_order(folder: Path) -> None:
    plan = completed(plan_of(TWO, folder, devices=("cpu", "cuda")))
    expected = [
        f"{objective}/{case}"
        for objective in ("bowl", "dish")
        for case in (
            *(f"one[{role}]/{d}" for d in ("cpu", "cuda") for role in ("tuned", "defaults")),
            *(f"two[{role}]/{d}" for d in ("cpu", "cuda") for role in ("tuned", "defaults")),
            *(f"set[lr={lr}]/{d}" for d in ("cpu", "cuda") for lr in ("0.1", "0.2")),
        )
    ]
    assert [case.id for case in plan.cases] == expected
    tuned, defaults = plan.cases[:2]
    assert tuned.hyperparameters == plan.searches[0].settings[0].hyperparameters
    assert (defaults.hyperparameters, defaults.role) == ({}, "defaults")


def test_a_sweep_varies_one_hyperparameter_about_the_best(folder: Path) -> None:
    plan = plan_of(TWO, folder)
    best = [_values(search, search.settings[2]) for search in plan.searches]
    plan = plan.completed(best)
    sweeps = [c for c in plan.sweeps if (c.objective.name, c.optimizer) == ("bowl", "two")]
    lr, momentum = best[1]["lr"], best[1]["momentum"]
    rates = [0.01, 0.0464159, 0.215443, 1.0]
    assert [c.hyperparameters for c in sweeps] == [
        *({"lr": rate, "momentum": momentum} for rate in rates),
        *({"lr": lr, "momentum": m} for m in (0.0, 0.784557, 0.9535841, 0.99)),
    ]
    assert [c.varied for c in sweeps] == [("lr",)] * 4 + [("momentum",)] * 4
    assert {c.role for c in plan.sweeps} == {"sweep"}
    assert plan.sweeping.seeds == plan.tuning.seeds
    assert not plan_of(TWO.replace("sweep: 4", "sweep: 0"), folder).completed(best).sweeps


def test_ids_are_unique_and_change_with_nothing_that_does_not_concern_them(folder: Path) -> None:
    def known(text: str, **overrides: Any) -> dict[tuple[str, str], str]:
        plan = completed(plan_of(text, folder, **overrides))
        for part in (plan.cases, plan.tuning.cases, plan.sweeps):
            assert len({case.id for case in part}) == len(part)
        return {(case.role, case.id): case.key for case in plan.everything}

    base = known(TWO)
    more = TWO.replace("suite: s", "suite: other\ntitle: Words").replace("seeds: 2", "seeds: [9]")
    more = more.replace("optimizers:", "optimizers:\n  new: {class: Turns}")
    assert base.items() <= known(more).items()
    assert base.items() <= known(TWO.replace("trials: 5", "trials: 8")).items()
    assert base.items() <= known(TWO, devices=("cpu", "cuda")).items()
    assert known(TWO, only=("objective=dish",)).items() <= base.items()


CHOSEN = "  few: {class: Turns, search: {lr: {choice: [0.1, 0.2, 0.4, 0.5, 0.6, 0.7]}}}\n"
COUNTED = "  few: {class: Turns, search: {lr: {integer: [1, 2]}}}\n"


@pytest.mark.parametrize("more", ["", CHOSEN, COUNTED], ids=["ranges", "choice", "integer"])
@pytest.mark.parametrize("sweep", [0, 4])
def test_the_trials_that_are_told_before_are_those_that_are_run(
    folder: Path, more: str, sweep: int
) -> None:
    text = TWO.replace("sweep: 4", f"sweep: {sweep}") + more
    plan = plan_of(text, folder, devices=("cpu", "cuda"))
    done = completed(plan)
    run = [(case.id, s) for part in (done, done.tuning, done.sweeping) for case in part.cases
           for s in part.seeds]  # fmt: skip
    assert done.trials == len(run)
    assert plan.trials == len(run)


def test_the_command_lines_filters_and_devices_hold_for_searches(folder: Path) -> None:
    plan = plan_of(TWO, folder, only=("optimizer=two", "objective=b*"))
    assert [(s.base.optimizer, s.base.objective.name) for s in plan.searches] == [("two", "bowl")]
    assert [case.id for case in completed(plan).cases] == [
        *("bowl/two[tuned]/cpu", "bowl/two[defaults]/cpu")
    ]
    plan = plan_of(TWO, folder, only=("optimizer=set",))
    assert not plan.searches
    assert not plan.tuning_seeds
    assert plan.trials == 2 * 2 * 2
    plan = plan_of(TWO, folder, devices=("mps",))
    assert {case.device for case in completed(plan).everything} == {"mps"}
    plan = plan_of(TWO, folder, seeds=7)
    assert plan.seeds == tuple(range(7))
    assert plan.tuning_seeds == tuple(FIRST_TUNING_SEED + i for i in range(3))


def test_include_and_exclude_hold_for_searches(folder: Path) -> None:
    plan = plan_of(TWO + "exclude: [{optimizer: one}, {objective: dish}]\n", folder)
    assert [(s.base.optimizer, s.base.objective.name) for s in plan.searches] == [("two", "bowl")]
    # What is fixed beside the search is a value that the setting has.
    fixed = TWO.replace("Heavy, search", "Heavy, hyperparameters: {momentum: 0.5}, search")
    match = "{hyperparameters: {momentum: 0.5}}"
    plan = plan_of(fixed + f"exclude: [{match}]\n", folder)
    assert {search.base.optimizer for search in plan.searches} == {"two"}
    plan = plan_of(fixed + f"include: [{match}]\n", folder)
    assert {search.base.optimizer for search in plan.searches} == {"one"}


def test_seeds_of_the_command_line_may_not_be_those_of_tuning(folder: Path) -> None:
    text = TWO.replace("seeds: 3", "seeds: [5, 6, 7]")
    assert plan_of(text, folder, seeds=5).tuning_seeds == (5, 6, 7)
    assert refusal(text, folder, seeds=6) == [
        "spec.yaml:3:28: tuning.seeds: some of these are also seeds of --seeds, "
        "but tuning needs seeds of its own"
    ]
    assert plan_of(text, folder, seeds=6, only=("optimizer=set",)).trials == 24


def test_a_plan_may_be_of_searches_alone(folder: Path) -> None:
    text = TWO.replace("sweep: 4", "sweep: 4, defaults: false")
    plan = completed(plan_of(text, folder, only=("optimizer=one",)))
    assert [case.id for case in plan.cases] == ["bowl/one[tuned]/cpu", "dish/one[tuned]/cpu"]


def test_an_objective_may_be_of_searches_alone(folder: Path) -> None:
    # Where it is described, and its steps are counted, before anything is tuned.
    text = TWO.replace("sweep: 4", "sweep: 4, defaults: false")
    plan = plan_of(text + "exclude: [{optimizer: set, objective: dish}]\n", folder)
    assert [planned.name for planned in plan.objectives] == ["bowl", "dish"]


def test_a_budget_beyond_what_a_plan_may_have_is_refused_before_it_is_drawn(folder: Path) -> None:
    assert refusal(TWO.replace("trials: 5", "trials: 90000"), folder) == [
        f"spec.yaml:{line}:3: optimizers.{name}: its grid on {objective!r} has 90,000 settings, "
        f"a plan has at most {CASE_LIMIT:,} cases"
        for line, name in ((8, "one"), (9, "two"))
        for objective in ("bowl", "dish")
    ]
    text = TWO.replace("trials: 5, seeds: 3", "trials: 10000, seeds: 500")
    (said,) = refusal(text, folder)
    assert said.startswith("spec.yaml:1:1: ")
    # 4 searches of 10,000 settings, 6 ranges of 4 points, and 12 compared, with 2 seeds each.
    trials = (4 * 10_000 + 6 * 4) * 500 + 12 * 2
    assert f"{trials:,} trials, the limit is {TRIAL_LIMIT:,}" in said


def a_search(folder: Path, trials: int = 5) -> Search:
    plan = plan_of(TWO.replace("trials: 5", f"trials: {trials}"), folder)
    return plan.searches[1]


def test_the_lowest_mean_of_the_final_losses_is_best(folder: Path) -> None:
    search = a_search(folder)
    losses: list[list[float | None]] = [[3, 3, 3], [0, 0, 9], [1, 1, 2], [4, 1, 1], [9, 9, 9]]
    assert tuning.best(search, _by_key(search, losses)) == _values(search, search.settings[2])


def test_a_setting_of_which_a_trial_failed_is_worse_than_any_of_which_none_did(
    folder: Path,
) -> None:
    search = a_search(folder)
    losses: list[list[float | None]] = [
        [0, 0, None],
        [None, None, None],
        [1e300, 1e300, 1e300],
        [None, 0, None],
        [None, -5, -5],
    ]
    assert tuning.best(search, _by_key(search, losses)) == _values(search, search.settings[2])
    losses[2] = [None, 1, None]
    # Of those that failed, fewer failures come first, then the mean of the rest.
    assert tuning.best(search, _by_key(search, losses)) == _values(search, search.settings[4])


def test_of_equal_settings_the_first_drawn_is_best(folder: Path) -> None:
    search = a_search(folder)
    losses: list[list[float | None]] = [[2, 2], [1, 3 - 2], [0, 2], [1, 1], [2, 0]]
    assert tuning.best(search, _by_key(search, losses)) == _values(search, search.settings[1])


def test_where_every_trial_failed_there_is_a_setting_still(folder: Path) -> None:
    search = a_search(folder)
    losses: list[list[float | None]] = [[None, None]] * 5
    assert tuning.best(search, _by_key(search, losses)) == _values(search, search.settings[0])


def test_a_score_by_targets_counts_misses_and_then_the_steps_a_miss_costing_all_there_are() -> None:
    steps = np.array([0, 10, 20, 40])
    wanted = tuning.targets_of(
        ObjectiveSpec.model_validate({"steps": 40, "targets": [2.0, 1.0]}), None
    )
    quick = np.array([4.0, 2.0, 1.0, 9.0])
    slow = np.array([4.0, 4.0, 4.0, 2.0])
    diverged = np.array([4.0, 1.5])
    lost = np.empty(0)

    def scored(*losses: Any, by: Any = wanted, optimum: Any = None) -> Any:
        return tuning.target_score({TRAIN_LOSS: losses}, by, optimum, steps)

    assert scored(quick) == (0, 10 + 20)
    assert scored(slow) == (1, 40 + 40)
    assert scored(diverged) == (1, 10 + 40)
    assert scored(lost) == (2, 40 + 40)
    assert scored(quick, slow) == (1, 30 + 80)
    # A tenth of the way to the optimum, 0, is left at 0.4.
    shares = tuning.targets_of(
        ObjectiveSpec.model_validate({"steps": 40, "tolerances": [0.1]}), 0.0
    )
    assert scored(np.array([4.0, 1.0, 0.4, 0.3]), by=shares, optimum=0.0) == (0, 20)
    assert tuning.targets_of(ObjectiveSpec.model_validate({"steps": 40}), None) == ()


TIMED = """\
suite: timed
seeds: 3
timing: {enabled: false}
tuning: {trials: 12, seeds: 2, sweep: 0, defaults: false, goal: GOAL}
objectives:
  bowl: {class: quadratic_2d, steps: 60, dtype: float64, tolerances: [0.3],
         arguments: {coefficients: [0.1, 2]}}
optimizers:
  momentum:
    class: torch.optim:SGD
    hyperparameters: {momentum: 0.9}
    search: {lr: {log_uniform: [1e-3, 0.5]}}
"""


def test_a_spec_can_tune_for_the_time_to_a_target_and_finds_another_setting(
    tmp_path: Path,
) -> None:
    best: dict[str, float] = {}
    for goal in ("final_loss", "time_to_target"):
        path = tmp_path / f"{goal}.yaml"
        path.write_text(TIMED.replace("GOAL", goal))
        api.run(path, output=tmp_path / goal)
        results = frames.read(tmp_path / goal / "results.sqlite")
        (case,) = results.cases
        best[goal] = case.hyperparameters["lr"]

    # On the quadratic 0.1 x1^2 + 2 x2^2 from (-5, -2), by hand: no seed changes anything.
    def course(lr: float) -> list[float]:
        x, v, losses = np.array([-5.0, -2.0]), np.zeros(2), []
        for _ in range(61):
            losses.append(float(0.1 * x[0] ** 2 + 2 * x[1] ** 2))
            v = 0.9 * v + np.array([0.2, 4.0]) * x
            x = x - lr * v
        return losses

    tried = [one.hyperparameters["lr"] for one in results.tried]
    courses = {lr: course(lr) for lr in tried}
    hits = {
        lr: next((i for i, v in enumerate(c) if v <= 0.3 * c[0]), math.inf)
        for lr, c in courses.items()
    }
    assert best["final_loss"] == min(tried, key=lambda lr: courses[lr][-1])
    assert best["time_to_target"] == min(tried, key=lambda lr: hits[lr])
    assert best["final_loss"] != best["time_to_target"]


def test_where_no_setting_reaches_a_target_the_nearest_is_best_and_not_the_first_to_diverge(
    tmp_path: Path,
) -> None:
    """Above a learning rate of 0.95 the quadratic 0.1 x1^2 + 2 x2^2 makes momentum diverge."""
    path = tmp_path / "missed.yaml"
    text = TIMED.replace("GOAL", "time_to_target").replace("[0.3]", "[1.0e-12]")
    path.write_text(text.replace("[1e-3, 0.5]", "[1e-3, 100]"))
    api.run(path, output=tmp_path / "missed")
    results = frames.read(tmp_path / "missed" / "results.sqlite")
    (case,) = results.cases
    ended = {one.hyperparameters["lr"]: one for one in results.tried}
    assert any("diverged" in one.statuses for one in ended.values())
    assert not any(any(one.won or ()) for one in ended.values())
    lasting = {lr: one.losses.mean() for lr, one in ended.items() if set(one.statuses) == {"ok"}}
    assert case.hyperparameters["lr"] == min(lasting, key=lasting.__getitem__)


def test_an_objective_without_a_target_cannot_be_tuned_for_one() -> None:
    spec = {
        "suite": "untargeted",
        "tuning": {"trials": 3, "goal": "time_to_target"},
        "objectives": {
            "spirals": {"class": "multilayer_perceptron", "dataset": "spirals", "steps": 5},
            "bowl": {"class": "quadratic_2d", "steps": 5},
        },
        "optimizers": {"sgd": {"class": "SGD", "search": {"lr": {"uniform": [0.01, 0.1]}}}},
    }
    with pytest.raises(BadInput, match=r"goal: 'spirals' has no target to tune for") as error:
        api.validate(spec, folder=ROOT)
    assert len(error.value.problems) == 1
    spec["objectives"]["spirals"]["targets"] = [0.5]  # type: ignore[index]
    api.validate(spec, folder=ROOT)


LOSS = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(st.lists(LOSS, min_size=1, max_size=4), min_size=2, max_size=6), st.randoms())
def test_a_score_orders_settings_by_failures_then_by_mean(
    losses: list[list[float | None]], shuffler: Any
) -> None:
    best = min(losses, key=tuning.score)
    failures = [sum(loss is None for loss in trials) for trials in losses]
    assert sum(loss is None for loss in best) == min(failures)
    rivals = [t for t, failed in zip(losses, failures, strict=True) if failed == min(failures)]
    means = [np.mean([loss for loss in t if loss is not None] or [math.inf]) for t in rivals]
    ok = [loss for loss in best if loss is not None]
    assert (np.mean(ok) if ok else math.inf) <= min(means) + 1e-9 * max(map(abs, [*ok, 1]))
    mixed = list(best)
    shuffler.shuffle(mixed)
    assert tuning.score(mixed) == tuning.score(best)  # to the bit, in whatever order they come


def _by_key(search: Search, losses: list[list[float | None]]) -> dict[str, list[float | None]]:
    return {case.key: own for case, own in zip(search.settings, losses, strict=True)}


class Nowhere:
    """Stands in for the pool of workers: takes tasks, and is never done with any."""

    size = 1

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    def submit(self, task: Any, *, first: bool = False) -> None:  # noqa: ARG002
        self.tasks.append(task)

    def grow(self) -> None: ...

    def events(self) -> Iterator[Any]:
        return iter(())


def test_a_setting_that_is_drawn_twice_is_run_once(folder: Path) -> None:
    # Of two choices, at least three of five settings are drawn again.
    text = TWO + "  few: {class: Turns, search: {lr: {choice: [0.1, 0.2]}}}\n"
    part = plan_of(text, folder, only=("optimizer=few", "objective=bowl")).tuning
    assert len(part.cases) == 5
    pool: Any = Nowhere()
    with Store(folder / "results.sqlite", create=True) as store:
        store.put_plan(part, {}, {})
        quality = QualityPass(pool, store, part, "here", Unavailable(), NullProgress())
        trials = quality.run({case.key: set() for case in part.cases})
    (task,) = pool.tasks
    keys = [case.key for case in task.request.cases]
    assert len(keys) == len(set(keys)) == 2
    assert trials == 2 * 3


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite's folder, to stand in; commands run in this process and train nothing."""
    # Else run imports them in a thread that outlives the test.
    import harness.reporting.figures.draw
    import harness.reporting.write  # noqa: F401

    monkeypatch.setattr("harness.commands.run.Pool", InProcess)
    monkeypatch.chdir(folder)
    return folder


def call(folder: Path, *arguments: str) -> Result:
    """Run a command here that may write nothing."""
    before = tree(folder)
    result = CliRunner().invoke(main, list(arguments))
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert tree(folder) == before
    return result


def complaints(folder: Path, spec: str, *command: str) -> list[str]:
    (folder / "spec.yaml").write_text(spec)
    result = call(folder, *command, "spec.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()


COMMANDS = pytest.mark.parametrize(
    "command", [["run", "-q"], ["run", "--dry-run"], ["validate"]], ids="-".join
)
MOMENTUM = a("search: {lr: {log_uniform: [0.01, 1]}, momentum: {uniform: [0, 1.5]}}").replace(
    "Heavy", "Momentum"
)


@COMMANDS
def test_a_searched_hyperparameter_that_the_constructor_lacks_is_found_first(
    here: Path, command: list[str]
) -> None:
    text, (line, column) = marked(
        a("search: {lr: {uniform: [0, 1]}, «momentun: {uniform: [0, 0.9]}}")
    )
    assert complaints(here, text, *command) == [
        f"spec.yaml:{line}:{column}: optimizers.a.search.momentun: Heavy takes no argument "
        "'momentun'; did you mean 'momentum'?"
    ]


@COMMANDS
def test_an_end_of_a_range_that_the_constructor_refuses_is_found_first(
    here: Path, command: list[str]
) -> None:
    # Whatever was drawn of it, and once.
    text = MOMENTUM.replace("trials: 4", "trials: 1")
    text, (line, column) = marked(text.replace("momentum: {", "momentum: «{"))
    (said,) = complaints(here, text, *command)
    assert said.startswith(
        f"spec.yaml:{line}:{column}: optimizers.a.search.momentum: Momentum refuses this: "
        "ValueError: Momentum: momentum must be at least 0 and less than 1, got 1.5"
    )


def test_a_range_of_which_many_settings_are_refused_is_one_mistake(here: Path) -> None:
    text = MOMENTUM.replace("trials: 4", "trials: 30")
    assert len(complaints(here, text, "validate")) == 1


def test_a_lower_end_and_a_choice_that_the_constructor_refuses_are_found(here: Path) -> None:
    text = MOMENTUM.replace("{uniform: [0, 1.5]}", "{choice: [0, 0.5, -1]}").replace(
        "{log_uniform: [0.01, 1]}", "{uniform: [-0.001, 1]}"
    )
    lines = complaints(here, text.replace("trials: 4", "trials: 1"), "validate")
    found = {line.split(": ")[1] for line in lines if line.startswith("spec.yaml:7:")}
    assert found == {"optimizers.a.search.lr", "optimizers.a.search.momentum.choice.2"}


def test_every_choice_is_tried_on_the_constructor_before_anything_runs(here: Path) -> None:
    # The third one is neither first nor last and is not drawn; a sweep would run it.
    text = MOMENTUM.replace("{uniform: [0, 1.5]}", "{choice: [0, 0.5, -1, 0.9]}")
    (said,) = complaints(here, text.replace("trials: 4", "trials: 1"), "validate")
    assert "momentum must be at least 0 and less than 1, got -1" in said


@COMMANDS
def test_mistakes_of_a_spec_are_printed_with_status_2(here: Path, command: list[str]) -> None:
    text, (line, column) = marked(searched("{uniform: «[1, 0]}"))
    assert complaints(here, text, *command) == [
        f"spec.yaml:{line}:{column}: optimizers.a.search.lr.uniform: "
        "expected the lower bound first, got [1, 0]"
    ]


def test_a_check_of_what_is_searched_is_refused(here: Path) -> None:
    text, (line, column) = marked(BASE.replace("search", "«search"))
    for more in (["--baseline", "b.json", "--update"], ["--base", "nothing"]):
        assert complaints(here, text, "check", *more) == [
            f"spec.yaml:{line}:{column}: optimizers.a.search: a check needs fixed settings: "
            "give values instead of a search"
        ]


def test_a_look_ahead_tells_what_is_tuned_and_writes_nothing(here: Path) -> None:
    (here / "spec.yaml").write_text(SPEC)
    result = call(here, "run", "--dry-run", "spec.yaml")
    assert result.exit_code == 0
    rows = [re.split(r"\s{2,}", line.strip()) for line in result.stdout.splitlines()]
    assert rows[1:8] == [
        ["bowl", "turns", "defaults", "cpu", "3", "30"],
        ["bowl", "adam", "defaults", "cpu", "3", "30"],
        ["bowl", "plain", "-", "cpu", "3", "30"],
        ["bowl", "heavy", "6 tried", "cpu", "2", "30"],
        ["bowl", "turns", "6 tried", "cpu", "2", "30"],
        ["bowl", "adam", "6 tried", "cpu", "2", "30"],
        [""],
    ]
    steps = 30 * (3 * 3 + 3 * 6 * 2)  # all but what is skipped, the tuned ones, and the sweeps
    assert (
        f"7 cases, 3 seeds: {TRIALS} trials, including tuning and sweeps.\n"
        f"3 of {TRIALS} trials skipped: Heavy has no default for 'lr'.\n"
        f"About {steps:,} optimizer steps in all, without those that depend on tuning.\n"
    ) in result.stdout


def test_validation_counts_tuning_and_sweeps(here: Path) -> None:
    (here / "spec.yaml").write_text(SPEC)
    result = call(here, "validate", "spec.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"spec.yaml: no mistakes; 7 cases, 3 seeds: {TRIALS} trials, including tuning and sweeps.\n"
    )


# The widest range holds rates that diverge; Heavy has no default for its rate.
SPEC = """\
suite: tuned
title: Before
seeds: 3
timing: {enabled: false}
tuning: {trials: 6, seeds: 2, sweep: 3}
objectives:
  bowl: {class: Bowl, steps: 30, dtype: float64}
optimizers:
  heavy: {class: Heavy, search: {lr: {log_uniform: [0.001, 100]}, momentum: {uniform: [0, 0.9]}}}
  turns: {class: Turns, search: {lr: {log_uniform: [0.001, 1]}}}
  adam: {class: "torch.optim:Adam", search: {lr: {log_uniform: [0.001, 1]}}}
  plain: {class: "torch.optim:SGD", hyperparameters: {lr: 0.1}}
"""
Command = Callable[..., subprocess.CompletedProcess[str]]

SEEDS, TUNING_SEEDS = {0, 1, 2}, {2**29, 2**29 + 1}
COMPARED, TRIED, SWEPT = 7 * 3, 3 * 6 * 2, 4 * 3 * 2
TRIALS = COMPARED + TRIED + SWEPT


@dataclass(frozen=True)
class Row:
    """A trial of a case of the latest run, as the store has it."""

    optimizer: str
    role: str
    setting: str
    key: str
    hyperparameters: dict[str, Any]
    seed: int
    status: str
    reason: str
    final: float | None
    curve: bytes
    seconds: float

    @property
    def named(self) -> tuple[Any, ...]:
        """All but the wall time, which no trial that ran again would have the same."""
        return (
            *(self.optimizer, self.role, self.setting, self.key, self.seed),
            *(self.status, self.reason, self.final, self.curve),
        )


@dataclass(frozen=True)
class Suite:
    """A suite in a folder, with its runs."""

    folder: Path
    command: Command

    @property
    def output(self) -> Path:
        return self.folder / "reports" / "tuned"

    @property
    def words(self) -> list[str]:
        return ["run", str(self.folder / "spec.yaml"), "--workers", "2"]

    def run(self, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = self.command(*self.words)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def edit(self, file: str, old: str, new: str) -> None:
        """Change a file in one place."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def copied(self, folder: Path) -> Suite:
        return replace(self, folder=shutil.copytree(self.folder, folder))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        path = self.output / "results.sqlite"
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def rows(self) -> list[Row]:
        """Every trial of every case of the latest run, whatever its seed, in order."""
        found = self.query(
            "SELECT optimizer, role, setting, key, hyperparameters, seed, status, reason, "
            "final_loss, losses, seconds FROM run_cases JOIN cases ON cases.id = case_id "
            "JOIN trials USING (case_id) LEFT JOIN curves USING (case_id, seed) "
            "WHERE run_id = (SELECT max(id) FROM runs) ORDER BY position, seed"
        )
        return [
            Row(*[*row[:4], json.loads(row[4]), *row[5:9], row[9] or b"", row[10]]) for row in found
        ]

    def stored(self) -> int:
        """How many trials are stored."""
        try:
            return int(self.query("SELECT count(*) FROM trials")[0][0])
        except sqlite3.OperationalError:
            return 0

    def tables(self) -> dict[str, bytes]:
        """Every table's bytes, without where the suite lies."""
        here = str(self.folder).encode()
        return {
            path.name: path.read_bytes().replace(here, b"")
            for path in (self.output / "tables").glob("*.csv")
        }

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.output / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def tuned(self) -> dict[str, dict[str, Any]]:
        """By optimizer, the setting that was found best."""
        return {row.optimizer: row.hyperparameters for row in self.rows() if row.role == "tuned"}


def recomputed(rows: list[Row], optimizer: str) -> dict[str, Any]:
    """The best setting of an optimizer, from its tuning trials alone."""
    trials: dict[str, list[Row]] = {}
    for row in rows:
        if (row.optimizer, row.role) == (optimizer, "tuning") and row.seed in TUNING_SEEDS:
            trials.setdefault(row.setting, []).append(row)
    ranked = []
    for number, own in enumerate(trials.values()):
        finals = [row.final for row in own if row.status == "ok" and row.final is not None]
        mean = sum(finals) / len(finals) if finals else math.inf
        ranked.append((len(own) - len(finals), mean, number, own[0].hyperparameters))
    return dict(min(ranked, key=lambda entry: entry[:3])[3])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Iterator[Suite]:
    """A suite after its first run; to be looked at, or copied."""
    suite = Suite(write(tmp_path_factory.mktemp("first") / "suite", SPEC), command)
    (suite.folder / "gate").touch()
    done = suite.run()
    assert re.search(rf"^{TRIALS - 3} trials run in [\d.]+ s$", done.stdout, re.MULTILINE)
    before = tree(suite.folder)
    yield suite
    assert tree(suite.folder) == before


@pytest.fixture
def suite(first: Suite, tmp_path: Path) -> Suite:
    return first.copied(tmp_path / "suite")


def in_role(suite: Suite, *roles: str) -> list[Row]:
    """Trials of cases with some roles, with the seeds that those have."""
    seeds = TUNING_SEEDS if set(roles) & {"tuning", "sweep"} else SEEDS
    return [row for row in suite.rows() if row.role in roles and row.seed in seeds]


def test_every_optimizer_was_given_the_same_budget(first: Suite) -> None:
    tried = Counter(row.optimizer for row in in_role(first, "tuning"))
    assert tried == {"heavy": 6 * 2, "turns": 6 * 2, "adam": 6 * 2}
    settings = Counter({(row.optimizer, row.setting): 1 for row in in_role(first, "tuning")})
    assert Counter(optimizer for optimizer, _ in settings) == dict.fromkeys(tried, 6)
    assert len(in_role(first, "sweep")) == SWEPT
    assert len(in_role(first, "tuned", "defaults", "given")) == COMPARED
    counts = first.query("SELECT count(*), count(DISTINCT case_id || '/' || seed) FROM trials")
    # The tuned settings are among those tried, and no other trial is of two cases.
    assert counts == [(TRIALS, TRIALS)]


def test_the_tuned_setting_is_the_best_of_those_that_were_tried(first: Suite) -> None:
    rows = first.rows()
    assert first.tuned() == {name: recomputed(rows, name) for name in ("heavy", "turns", "adam")}
    # Some that were tried diverged, which is no error; none of them is best.
    statuses = Counter(row.status for row in rows if row.role == "tuning")
    assert statuses["diverged"] > 0
    assert statuses["error"] == 0
    assert {row.status for row in in_role(first, "tuned")} == {"ok"}


def test_seeds_that_are_reported_see_no_tuning_and_the_other_way_round(first: Suite) -> None:
    rows = first.rows()
    compared = {row.key for row in rows if row.role in ("tuned", "defaults", "given")}
    tried = {row.key for row in rows if row.role in ("tuning", "sweep")}
    by_key: dict[str, set[int]] = {}
    for row in rows:
        by_key.setdefault(row.key, set()).add(row.seed)
    # The tuned settings are both: they were tried first. All others have seeds of one kind.
    tuned = {row.key for row in rows if row.role == "tuned"}
    assert compared & tried == tuned
    for key, seeds in by_key.items():
        expected = SEEDS | TUNING_SEEDS if key in tuned else SEEDS if key in compared else None
        assert seeds == (expected or TUNING_SEEDS)
    read = frames.read(first.output / "results.sqlite")
    assert set(read.trials["seed"]) == SEEDS
    assert {seed for case in read.cases for seed in case.seeds} <= SEEDS


def test_tables_report_what_was_tuned_on_the_reporting_seeds_alone(first: Suite) -> None:
    told = {(row["optimizer"], row["setting"]): row for row in first.table("final_loss")}
    # The constructor of heavy has no defaults, so that they were not run.
    assert set(told) == {
        *(("heavy", "tuned"), ("turns", "tuned"), ("turns", "defaults")),
        *(("adam", "tuned"), ("adam", "defaults"), ("plain", "")),
    }
    assert {row["statuses"] for row in told.values()} == {"ok:3"}
    for optimizer in ("heavy", "turns", "adam"):
        finals = [r.final for r in in_role(first, "tuned") if r.optimizer == optimizer]
        assert len(finals) == 3
        mean = sum(final for final in finals if final is not None) / 3
        assert float(told[optimizer, "tuned"]["mean"]) == pytest.approx(mean, rel=1e-12)


def test_the_tuning_table_and_the_store_name_the_same_setting(first: Suite) -> None:
    told: dict[str, dict[str, float]] = {}
    for row in first.table("tuning"):
        told.setdefault(row["optimizer"], {})[row["hyperparameter"]] = float(row["best"])
        own = [r for r in in_role(first, "tuning") if r.optimizer == row["optimizer"]]
        assert int(row["settings"]) == 6
        assert int(row["tuning_trials"]) == len(own) == 12
        assert int(row["failed"]) == sum(r.status != "ok" for r in own)
        finals = [r.final for r in own if r.hyperparameters == first.tuned()[row["optimizer"]]]
        mean = sum(final for final in finals if final is not None) / 2
        assert float(row["tuning_loss"]) == pytest.approx(mean, rel=1e-12)
    assert told == first.tuned()


def test_sweeps_go_over_each_range_with_the_others_at_the_best(first: Suite) -> None:
    swept: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in in_role(first, "sweep"):
        if row.seed == min(TUNING_SEEDS):
            name = row.setting.partition("=")[0]
            swept.setdefault((row.optimizer, name), []).append(row.hyperparameters)
    best = first.tuned()
    rates = {"heavy": [0.001, 0.316228, 100.0]}
    assert swept == {
        ("heavy", "momentum"): [{**best["heavy"], "momentum": m} for m in (0.0, 0.45, 0.9)],
        **{
            (name, "lr"): [{**own, "lr": r} for r in rates.get(name, [0.001, 0.0316228, 1.0])]
            for name, own in best.items()
        },
    }


def test_what_was_tried_can_be_read_with_its_trials_in_the_order_of_their_seeds(
    first: Suite,
) -> None:
    tried = frames.read(first.output / "results.sqlite").tried
    assert Counter((one.role, one.optimizer) for one in tried) == {
        **{("tuning", name): 6 for name in ("heavy", "turns", "adam")},
        **{("sweep", name): 3 for name in ("turns", "adam")},
        ("sweep", "heavy"): 6,
    }
    rows = {(r.role, r.optimizer, r.setting, r.seed): r for r in first.rows()}
    for role, seeds in (("tuning", TUNING_SEEDS), ("sweep", TUNING_SEEDS)):
        mine = [r for r in rows.values() if r.role == role and r.seed in seeds]
        finals = [math.nan if r.final is None else r.final for r in mine]
        own = [one for one in tried if one.role == role]
        assert np.array_equal(np.concatenate([one.losses for one in own]), finals, equal_nan=True)
        assert [status for one in own for status in one.statuses] == [r.status for r in mine]
        assert all(bool(one.varied) == (role == "sweep") for one in own)


def test_defaults_that_a_constructor_lacks_are_unavailable_with_the_reason(first: Suite) -> None:
    rows = [row for row in first.rows() if row.role == "defaults"]
    told = {(row.optimizer, row.status, row.reason) for row in rows}
    reason = "Heavy has no default for 'lr'"
    assert told == {("heavy", "unavailable", reason), ("turns", "ok", ""), ("adam", "ok", "")}
    (row,) = [r for r in first.table("failures") if r["status"] == "unavailable"]
    assert (row["optimizer"], row["trials"], row["reason"]) == ("heavy", "3", reason)
    assert reason in html.unescape((first.output / "index.html").read_text())


def test_the_store_knows_every_hyperparameter_that_each_setting_ran_with(first: Suite) -> None:
    rows = first.query(
        "SELECT optimizer, role, setting, hyperparameters, defaults FROM run_cases "
        "JOIN cases ON cases.id = case_id WHERE role <> 'defaults'"
    )
    wrong = [
        (optimizer, role, setting)
        for optimizer, role, setting, given, whole in rows
        if not json.loads(given).items() <= json.loads(whole).items()
    ]
    assert not wrong
    assert {json.loads(row[4])["eps"] for row in rows if row[0] == "adam"} == {1e-8}


def test_a_second_run_trains_nothing_and_writes_the_same_tables(suite: Suite) -> None:
    rows, tables = suite.rows(), suite.tables()
    page = (suite.output / "index.html").stat()
    done = suite.run()
    assert "\nNothing new to run: every trial is stored already\n" in done.stdout
    assert suite.rows() == rows
    assert suite.tables() == tables
    again = (suite.output / "index.html").stat()
    assert (again.st_mtime_ns, again.st_ino) == (page.st_mtime_ns, page.st_ino)


def test_a_look_at_what_is_known_tells_the_tuned_settings(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.commands.run.Pool", InProcess)
    result = call(suite.folder, "run", "--dry-run", str(suite.folder / "spec.yaml"))
    assert result.exit_code == 0
    rows = [re.split(r"\s{2,}", line.strip()) for line in result.stdout.splitlines()]
    assert rows[1] == ["bowl", "heavy", "tuned", "cpu", "3", "30"]
    assert [row[2] for row in rows[1:10]] == [
        *("tuned", "tuned", "defaults", "tuned", "defaults"),  # heavy has no defaults
        *("-", "6 tried", "6 tried", "6 tried"),
    ]
    steps = (TRIALS - 3) * 30
    assert (
        f"7 cases, 3 seeds: {TRIALS} trials, including tuning and sweeps; "
        f"{TRIALS} of them need not run again.\n"
    ) in result.stdout
    assert f"\nAbout {steps:,} optimizer steps in all.\n" in result.stdout


@pytest.mark.parametrize(
    ("options", "old", "new", "known", "trials"),
    [
        # More seeds for the report: every setting stays, and what was tuned is tuned.
        (["--seeds", "5"], "", "", TRIALS, TRIALS + 7 * 2),
        # A larger budget begins with the settings of the smaller one; which is best is open.
        ([], "trials: 6", "trials: 8", TRIED + 4 * 3, TRIALS + 3 * 2 * 2),
        ([], "sweep: 3", "sweep: 2", TRIALS - 4 * 2, TRIALS - 4 * 2),
        (["--only", "optimizer=adam"], "", "", 12 + 6 + 6, 12 + 6 + 6),
        (["--fresh"], "", "", 0, TRIALS),
    ],
    ids=["seeds", "trials", "sweep", "only", "fresh"],
)
def test_what_is_known_is_known_under_other_options(
    suite: Suite,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    old: str,
    new: str,
    known: int,
    trials: int,
) -> None:
    monkeypatch.setattr("harness.commands.run.Pool", InProcess)
    if old:
        suite.edit("spec.yaml", old, new)
    spec = str(suite.folder / "spec.yaml")
    result = call(suite.folder, "run", "--dry-run", spec, *options)
    assert result.exit_code == 0
    said = f"{trials:,} trials, including tuning and sweeps"
    said += f"; {known} of them need not run again." if known else "."
    assert said in result.stdout


def test_a_tuned_setting_gives_what_it_would_if_the_spec_had_said_it(
    first: Suite, tmp_path: Path
) -> None:
    spec = SPEC.replace("tuning: {trials: 6, seeds: 2, sweep: 3}\n", "")
    for line in SPEC.splitlines():
        if "search" in line:
            name = line.split(":")[0].strip()
            values = json.dumps(first.tuned()[name])
            head = line.partition("search")[0]
            spec = spec.replace(line, f"{head}hyperparameters: {values}}}")
    assert "search" not in spec
    plain = replace(first, folder=write(tmp_path / "plain", spec))
    (plain.folder / "gate").touch()
    plain.run()

    def curves(suite: Suite, role: str) -> dict[tuple[str, int], tuple[Any, ...]]:
        return {
            (row.optimizer, row.seed): (row.key, row.status, row.final, row.curve)
            for row in in_role(suite, role)
            if row.optimizer != "plain"
        }

    assert len(curves(first, "tuned")) == 9
    assert curves(plain, "given") == curves(first, "tuned")


def test_a_changed_optimizer_is_tuned_anew_alone_and_errors_cost_their_own_settings_only(
    suite: Suite,
) -> None:
    before = suite.rows()
    fails = 'if group["lr"] > 0.5:\n                    raise ValueError("too fast")\n'
    suite.edit("optimizers/heavy.py", "v.mul_(", f"{fails}                v.mul_(")
    done = suite.run(status=1)
    assert f"\n{6 * 2 + 3 + 6 * 2} trials run in " in done.stdout
    assert re.search(
        r"^Failed: .*\d of \d+ trials in tuning and sweeps .*ended in an error$",
        done.stdout,
        re.MULTILINE,
    )
    after = suite.rows()
    others = [row for row in after if row.optimizer != "heavy"]
    assert others == [row for row in before if row.optimizer != "heavy"]  # wall times and all

    def results(rows: list[Row]) -> dict[tuple[str, str, int], Any]:
        return {
            (row.role, row.setting, row.seed): (row.status, np.frombuffer(row.curve, "<f8"))
            for row in rows
            if row.optimizer == "heavy" and row.hyperparameters.get("lr", 1) <= 0.5
        }

    fast = [row for row in after if row.hyperparameters.get("lr", 0) > 0.5]
    fast = [row for row in fast if row.optimizer == "heavy"]
    assert {row.role for row in fast} == {"tuning", "sweep"}
    assert {(row.status, row.reason.partition(" (")[0]) for row in fast} == {
        ("error", "ValueError: too fast")
    }
    best = recomputed(after, "heavy")
    assert best["lr"] <= 0.5
    assert suite.tuned() == {**suite.tuned(), "heavy": best}
    # The best was among the slow ones before, so it and all about it came out as they were; but
    # for rounding, as settings that disagree on a comparison can't be lanes of one run any more.
    found, known = results(after), results(before)
    assert found.keys() == known.keys()
    for name, (status, curve) in found.items():
        assert status == known[name][0]
        np.testing.assert_allclose(curve, known[name][1], rtol=1e-5)
    assert {row.status for row in after if row.role == "tuned"} == {"ok"}


def wait_for(process: subprocess.Popen[str], suite: Suite, trials: int) -> None:
    """Wait until a trial stands at the gate and some others are stored."""
    end = time.monotonic() + 60
    while not ((suite.folder / "waits").exists() and suite.stored() >= trials):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.exhaustive
def test_a_run_killed_while_it_tunes_can_be_reported_and_ends_as_if_it_had_not_been(
    first: Suite, tmp_path: Path
) -> None:
    suite = replace(first, folder=write(tmp_path / "suite", SPEC))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "harness", *suite.words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(process, suite, 12)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    kept = {(row.optimizer, row.setting, row.seed): row for row in suite.rows()}
    assert 12 <= len(kept) < TRIED
    assert {row.role for row in kept.values()} == {"tuning"}

    result = CliRunner().invoke(main, ["report", str(suite.output)])
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code == 0
    page = (suite.output / "index.html").read_text()
    assert "Traceback" not in page
    # Nothing that is compared has been run yet.
    assert not (suite.output / "tables" / "final_loss.csv").exists()

    (suite.folder / "gate").touch()
    done = suite.run()
    assert f"\n{TRIALS - 3 - len(kept)} trials run in " in done.stdout
    assert [row.named for row in suite.rows()] == [row.named for row in first.rows()]
    # What was known is kept as it was, wall times and all.
    again = {(r.optimizer, r.setting, r.seed): r for r in suite.rows() if r.role == "tuning"}
    assert kept.items() <= again.items()
    assert suite.tables() == first.tables()
