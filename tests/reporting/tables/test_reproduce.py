"""The commands that a report gives work as they stand there."""

from __future__ import annotations

import csv
import json
import shlex
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from results_builders import make_case, make_run

from harness.reporting.tables import reproduce

OBJECTIVES = """
import torch
from harness import Objective

class Bowl(Objective):
    optimum = 0.0
    def init(self, generator):
        return {"x": torch.randn(2, generator=generator)}
    def loss(self, params, batch):
        return params["x"].square().sum()

class Cliff(Bowl):
    # Seeds that start on the right fall off.
    def init(self, generator):
        return {"x": torch.randn(2, generator=generator)}
    def loss(self, params, batch):
        if float(params["x"][0]) > 0:
            raise ArithmeticError("there's no ground, \\"none\\" | here")
        return params["x"].square().sum()
"""

OPTIMIZERS = """
import torch

class Descent(torch.optim.Optimizer):
    def __init__(self, params, lr=0.01, mode=""):
        super().__init__(params, {"lr": lr})
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.move(p, group["lr"])
    def move(self, p, lr):
        p.sub_(p.grad, alpha=lr)

class Trips(Descent):
    steps = 0
    def move(self, p, lr):
        self.steps += 1
        if self.steps == 7 and p.reshape(-1, 2)[:, 0].gt(0).any():
            raise RuntimeError("tripped")
        super().move(p, lr)
"""

SPEC = """
suite: failing
seeds: [3, 5, 8, 11, 20]
tuning: {trials: 3, seeds: 2, sweep: 3}
timing: {enabled: false}
objectives:
  bowl: {class: Bowl, steps: 60, dtype: float64}
  cliff: {class: Cliff, steps: 5, dtype: float64}
optimizers:
  "ada":
    class: Descent
    hyperparameters: {lr: [0.1, 7.5], mode: ["a=b, [c]*?", "it's \\"so\\" $HOME"]}
  adax: {class: Descent, hyperparameters: {lr: 7.5}}
  trips: {class: Trips, search: {lr: {log_uniform: [0.001, 0.1]}}}
exclude:
  - {optimizer: adax, objective: cliff}
"""


@dataclass(frozen=True)
class Place:
    """A suite's folder, in which its commands are run."""

    folder: Path
    command: Callable[..., subprocess.CompletedProcess[str]]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert words[:2] == ("-m", "harness")
        return self.command(*words[2:], cwd=self.folder)

    def trials(self, output: str) -> list[tuple[Any, ...]]:
        """The trials of the latest run: objective, optimizer, seed, and how each ended."""
        db = sqlite3.connect(f"file:{self.folder / output / 'results.sqlite'}?mode=ro", uri=True)
        found = db.execute(
            "SELECT objective, optimizer, device, seed, status, step, reason, hyperparameters "
            "FROM run_cases JOIN cases ON id = run_cases.case_id JOIN trials USING (case_id) "
            "WHERE run_id = (SELECT max(id) FROM runs) ORDER BY position, seed"
        ).fetchall()
        db.close()
        return [(*row[:-1], json.loads(row[-1])) for row in found]


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> Place:
    """A suite, run, of which many a trial did not end well."""
    folder = tmp_path_factory.mktemp("with space") / "suite"
    for name, source in (("objectives", OBJECTIVES), ("optimizers", OPTIMIZERS)):
        (folder / name).mkdir(parents=True)
        (folder / name / "made.py").write_text(source)
    (folder / "spec.yaml").write_text(SPEC)
    found = Place(folder, command)
    done = found.call("-m", "harness", "run", "spec.yaml", "--quiet")
    assert done.returncode == 1, done.stderr
    return found


def failures(place: Place, output: str = "reports/failing") -> list[dict[str, str]]:
    with (place.folder / output / "tables" / "failures.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_of_a_row_repeats_just_its_first_trial_and_it_ends_alike(place: Place) -> None:
    rows = failures(place)
    before = (place.folder / "reports/failing/results.sqlite").read_bytes()
    whole = place.trials("reports/failing")
    kinds = {
        (row["optimizer"], row["objective"], row["status"], row["setting"]): row for row in rows
    }
    awkward = "lr=7.5, mode=a=b, [c]*?", 'lr=7.5, mode=it\'s "so" $HOME'
    chosen = [
        ("ada", "bowl", "diverged", awkward[0]),
        ("ada", "bowl", "diverged", awkward[1]),
        ("ada", "cliff", "error", awkward[1].replace("7.5", "0.1")),
        ("adax", "bowl", "diverged", ""),
        ("trips", "bowl", "error", "tuned"),
        ("trips", "bowl", "error", "defaults"),
    ]
    for name in chosen:
        row = kinds[name]
        program, *words = shlex.split(row["repeat"])
        assert program == "python"
        done = place.call(*words)
        assert done.returncode == (1 if row["status"] == "error" else 0), (name, done.stderr)
        (trial,) = place.trials("reports/failing/repeat")
        assert trial in whole
        objective, optimizer, device, seed, status, step, reason, _ = trial
        assert (optimizer, objective, status) == name[:3]
        assert (device, reason) == (row["device"], row["reason"])
        assert seed == int(row["seeds"].replace("–", ",").split(",")[0])
        assert int(row["first_step"]) <= step <= int(row["last_step"])
        (again,) = failures(place, "reports/failing/repeat")
        if name[3] != "tuned":
            assert again["setting"] == row["setting"]
    assert (place.folder / "reports/failing/results.sqlite").read_bytes() == before


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("python -m harness run specs/s.yaml", "reports/s/repeat"),
        ("python -m harness run specs/s.yaml -o out", "out/repeat"),
        ("python -m harness run specs/s.yaml '--output=my out'", "my out/repeat"),
        ("not a 'command", "reports/s/repeat"),
    ],
)
def test_what_repeats_a_trial_has_its_results_below_those_of_the_run(
    command: str, folder: str
) -> None:
    case = make_case("bowl", "sgd", setting="lr=[1, 2]", device="cuda:1")
    run = make_run(command=command, spec_file="specs/s.yaml")
    words = shlex.split(reproduce.repeat(run, case, 17))
    assert words[words.index("--output") + 1] == folder
    assert words[words.index("--seed") + 1] == "17"
    assert words[words.index("--devices") + 1] == "cuda:1"
    assert "setting=lr=[[]1, 2]" in words


def test_a_number_of_seeds_and_a_seed_exclude_each_other(place: Place) -> None:
    done = place.call("-m", "harness", "run", "spec.yaml", "--seeds", "3", "--seed", "4")
    assert done.returncode == 2
    assert "--seeds and --seed exclude each other" in done.stderr


def test_a_spec_in_specs_is_of_the_suite_around_it_and_so_are_its_results(
    tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "descent.py").write_text(OPTIMIZERS)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "short.yaml").write_text(
        "suite: short\nseeds: 2\ntiming: {enabled: false}\nobjectives: {sphere: {steps: 3}}\n"
        "optimizers: {descent: {class: Descent}}\n"
    )
    done = command("run", "specs/short.yaml", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reports" / "short" / "index.html").is_file()
    again = command("run", "short.yaml", "--quiet", "--fresh", cwd=tmp_path / "specs")
    assert again.returncode == 0, again.stderr
    assert not (tmp_path / "specs" / "reports").exists()
