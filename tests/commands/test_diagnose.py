"""One's own optimizer on the diagnostic tasks by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import require
from click.testing import CliRunner

import harness
from harness.cli import main
from harness.commands.diagnose import BETAS, default_search, spec_of
from harness.spec.extends import shipped_spec
from harness.spec.validation import check, load
from harness.spec.yaml_source import of_mapping

MINE = """\
import torch

class Mine(torch.optim.SGD):
    def __init__(self, params, lr=0.01, momentum=0.9):
        super().__init__(params, lr=lr, momentum=momentum)
"""


class NoDefault(torch.optim.SGD):
    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)


class NoRate(torch.optim.SGD):
    def __init__(self, params: Any, rho: float = 0.9) -> None:
        super().__init__(params, lr=rho)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_optimizers.py").write_text(MINE)
    return tmp_path


@pytest.mark.parametrize("reference", ["my_optimizers:Mine", "my_optimizers.py:Mine"])
def test_the_spec_is_of_five_lines_and_valid(reference: str, folder: Path) -> None:
    spec = spec_of(reference, folder, {}, {})
    assert spec == {
        "suite": "diagnostics-Mine",
        "extends": "diagnostics",
        "title": "Where Mine fails",
        "optimizers": {
            "Mine": {
                "class": "my_optimizers.py:Mine",
                "search": {
                    "lr": {"log_uniform": [1e-5, 10.0]},
                    "momentum": {"one_minus_log_uniform": [0.5, 0.999]},
                },
            }
        },
    }
    assert check(of_mapping(spec, folder)).problems == ()


def test_what_is_given_is_not_searched_and_a_space_goes_before_the_default(folder: Path) -> None:
    entry = spec_of("my_optimizers:Mine", folder, {"lr": [0.1, 1.0]}, {"momentum": 0.5})
    assert entry["optimizers"]["Mine"] == {
        "class": "my_optimizers.py:Mine",
        "hyperparameters": {"momentum": 0.5},
        "search": {"lr": {"log_uniform": [0.1, 1.0]}},
    }


def test_an_optimizer_without_anything_to_search_runs_as_it_is(folder: Path) -> None:
    spec = spec_of("my_optimizers:Mine", folder, {}, {"lr": 0.1, "momentum": 0.0})
    assert spec["tuning"] is None
    loaded = check(of_mapping(spec, folder))
    assert loaded.problems == ()


@pytest.mark.parametrize(
    ("factory", "spaces"),
    [
        (torch.optim.Adam, {"lr": {"log_uniform": [1e-6, 1.0]}, "betas": {"choice": [*BETAS]}}),
        (torch.optim.Adagrad, {"lr": {"log_uniform": [1e-5, 10.0]}}),
        (torch.optim.Adadelta, {"lr": {"log_uniform": [1e-3, 1e3]}}),
        (NoDefault, {"lr": {"log_uniform": [1e-5, 10.0]}}),
        (NoRate, {}),
    ],
)
def test_search_spaces_follow_from_the_constructor(factory: Any, spaces: dict[str, Any]) -> None:
    assert default_search(factory) == spaces


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my_optimizers:Mime"], "my_optimizers.py:Mime: 'my_optimizers' has no 'Mime'; did you "),
        (["my_optimiser:Mine"], "my_optimiser:Mine: no package 'my_optimiser' is installed"),
        (["my_optimizers:Mine", "--search", "lr"], "expected NAME=VALUE with the value in JSON"),
        (["my_optimizers:Mine", "--search", "lr=[1,0]"], "expected the lower bound first, got [1"),
        (["my_optimizers:Mine", "--search", "ls=[1,2]"], "Mine takes no argument 'ls'"),
        (["my_optimizers:Mine", "--set", "momentum=many"], "expected NAME=VALUE with the value"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(
    arguments: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(main, ["diagnose", *arguments])
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (folder / "reports").exists()


def test_it_runs_the_tasks_and_writes_a_page(folder: Path) -> None:
    easiest = next(iter(require(load(shipped_spec("diagnostics"))).objectives))
    done = harness.diagnose(
        "my_optimizers:Mine",
        search={"lr": [0.05, 0.5]},
        hyperparameters={"momentum": 0.9},
        only=f"objective={easiest}",
        seeds=3,
        folder=folder,
        progress=False,
    )
    assert done.page == folder / "reports" / "diagnostics-Mine" / "index.html"
    assert done.page.is_file()
    trials = done.trials
    assert {*trials["optimizer"]} == {"Mine"}
    assert {*trials["objective"]} == {easiest}
