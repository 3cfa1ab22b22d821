"""The store is a cache: what is known is not run again, and what changed is, and nothing else."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import progress
from harness.commands import run
from harness.store import read

Command = Callable[..., subprocess.CompletedProcess[str]]

OPTIMIZERS = {
    "descent.py": '''
import torch
from ._rates import scale

class Descent(torch.optim.Optimizer):
    """Gradient descent; its rate is scaled by a helper module."""
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=scale(group["lr"]))
''',
    "_rates.py": """
def scale(lr):
    return lr
""",
    "signs.py": '''
import torch

class Signs(torch.optim.Optimizer):
    """Steps of one size."""
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad.sign(), alpha=group["lr"])
''',
}
OBJECTIVES = {
    "bowl.py": '''
import torch
from harness import Objective

class Bowl(Objective):
    """Elementwise: a trial's numbers are the same in any company, to the bit."""
    optimum = 0.0
    def __init__(self, steep=2.0):
        self.steep = steep
    def init(self, generator):
        return {"x": torch.randn(2, generator=generator)}
    def loss(self, params, batch):
        x1, x2 = params["x"].unbind()
        return 0.1 * x1.square() + self.steep * x2.square()
'''
}
DATASETS = {
    "points.py": '''
from pathlib import Path
import numpy as np
from harness import Dataset

def points():
    """A line with noise."""
    table = np.loadtxt(Path(__file__).with_name("points.csv"), delimiter=",")
    return Dataset(table[:, :1], table[:, 1], ("x",), "y", "made up")
''',
    "points.csv": "".join(
        f"{x:.17g},{y:.17g}\n"
        for x, y in (lambda g, x: zip(x, 3 * x + g.normal(size=60), strict=True))(
            np.random.default_rng(0), np.linspace(-1, 1, 60)
        )
    ),
}
SPEC = """
suite: cached
title: Before
seeds: 3
timing: {enabled: false}
objectives:
  bowl: {class: Bowl, steps: 20, dtype: float64}
  dish: {class: Bowl, steps: 20, dtype: float64, arguments: {steep: 1.0}}
  line: {class: linear_regression, dataset: points, batch_size: 7, epochs: 2}
optimizers:
  descent: {class: Descent, hyperparameters: {lr: [0.05, 0.1]}}
  signs: {class: Signs, hyperparameters: {lr: 0.1}}
  lbfgs: {class: torch.optim:LBFGS, hyperparameters: {lr: 0.5}}
"""
PLANNED = 3 * 4 * 3


class Suite:
    """A suite in a folder, with its runs."""

    def __init__(self, folder: Path, spec: str = SPEC) -> None:
        self.folder = folder
        if not folder.exists():
            sections = {"optimizers": OPTIMIZERS, "objectives": OBJECTIVES, "datasets": DATASETS}
            for section, files in sections.items():
                (folder / section).mkdir(parents=True)
                for name, text in files.items():
                    (folder / section / name).write_text(text)
            self.write(spec)

    @property
    def output(self) -> Path:
        return self.folder / "reports" / "cached"

    def write(self, spec: str) -> None:
        (self.folder / "spec.yaml").write_text(spec)

    def edit(self, file: str, old: str, new: str) -> None:
        """Change a file in one place."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def run(
        self, command: Command, *options: str, status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        done = command("run", self.folder / "spec.yaml", *options)
        assert done.returncode == status, done.stderr
        return done

    def train(self, *, workers: int | None = None, fresh: bool = False) -> int:
        """Run it from here, all but the report, which takes the longest; how many trials ran."""
        options = run.RunOptions(workers=workers, fresh=fresh)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "write_report", lambda *_: self.output / "index.html")
            summary = run.run(self.folder / "spec.yaml", options, progress.NullProgress())
        assert not summary.failed
        return summary.trained

    def trials(self) -> dict[tuple[str, str, str, int], tuple[Any, ...]]:
        """By objective, optimizer, setting and seed: the stored row with its curve.

        Its wall time is among it, which no trial that ran again would have the same.
        """
        db = sqlite3.connect(f"file:{self.output / 'results.sqlite'}?mode=ro", uri=True)
        rows = db.execute(
            "SELECT objective, optimizer, setting, seed, status, final_loss, losses, points, "
            "seconds FROM run_cases JOIN trials USING (case_id) "
            "JOIN curves USING (case_id, seed) LEFT JOIN trajectories USING (case_id, seed) "
            "WHERE run_id = (SELECT max(id) FROM runs)"
        ).fetchall()
        db.close()
        return {row[:4]: row[4:] for row in rows}

    def numbers(self) -> dict[tuple[str, str, str, int], tuple[Any, ...]]:
        """The same without the wall time."""
        return {name: row[:-1] for name, row in self.trials().items()}


def run_now(done: subprocess.CompletedProcess[str]) -> int:
    """How many trials a run says that it ran."""
    if "Nothing new to run" in done.stdout:
        return 0
    found = re.search(r"^([\d,]+) trials? run in ", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return int(found[1].replace(",", ""))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Suite:
    """A suite after its first run; to be copied."""
    suite = Suite(tmp_path_factory.mktemp("first") / "suite")
    assert run_now(suite.run(command)) == PLANNED
    return suite


@pytest.fixture
def suite(first: Suite, tmp_path: Path) -> Suite:
    return Suite(shutil.copytree(first.folder, tmp_path / "suite"))


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Top-level packages that a run under ``-X importtime`` imported."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def with_import_times(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """``python -m harness`` in a process of its own, which tells what it imports."""
    return subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-m", "harness", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_unchanged_spec_trains_nothing_loads_no_torch_and_leaves_the_page(suite: Suite) -> None:
    page = suite.output / "index.html"
    before, trials = page.stat(), suite.trials()
    done = suite.run(with_import_times)
    assert run_now(done) == 0
    packages = imported(done)
    assert "harness" in packages
    assert "torch" not in packages
    assert suite.trials() == trials
    assert (page.stat().st_mtime_ns, page.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


Names = set[tuple[str, str]]
SETTINGS = {"descent": 2, "signs": 1, "lbfgs": 1}
EVERYTHING: Names = {(o, c) for o in ("bowl", "dish", "line") for c in SETTINGS}
SIGNS, DESCENT = ({(o, c) for o, c in EVERYTHING if c == name} for name in ("signs", "descent"))
BOWL, DISH, LINE = ({(o, c) for o, c in EVERYTHING if o == n} for n in ("bowl", "dish", "line"))

Change = tuple[str, str, str]
SOURCE: Change = ("optimizers/signs.py", ".sign()", ".sign() * 1.0")
HELPER: Change = ("optimizers/_rates.py", "lr\n", "lr * 1.0\n")
HYPERPARAMETER: Change = ("spec.yaml", "{lr: 0.1}", "{lr: 0.2}")
ARGUMENT: Change = ("spec.yaml", "steep: 1.0", "steep: 1.5")
DTYPE: Change = ("spec.yaml", "float64, arguments", "float32, arguments")
OBJECTIVE: Change = ("objectives/bowl.py", "randn(2", "rand(2")
EPOCHS: Change = ("spec.yaml", "epochs: 2", "epochs: 3")
DATA: Change = ("datasets/points.csv", "-1,", "-1.5,")


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        pytest.param((SOURCE, ARGUMENT), SIGNS | DISH, id="optimizer and argument"),
        pytest.param((HELPER, DTYPE), DESCENT | DISH, id="helper module and dtype"),
        pytest.param((HYPERPARAMETER, DATA), SIGNS | LINE, id="hyperparameter and data"),
        pytest.param((OBJECTIVE,), BOWL | DISH, id="objective"),
        pytest.param((EPOCHS,), LINE, id="epochs"),
    ],
)
def test_a_change_runs_what_depends_on_it_and_nothing_else(
    suite: Suite, changes: tuple[Change, ...], runs: Names
) -> None:
    before = suite.trials()
    for change in changes:
        suite.edit(*change)
    trained = suite.train(workers=1)
    after = suite.trials()
    assert trained == 3 * sum(SETTINGS[optimizer] for _, optimizer in runs)
    assert len(after) == PLANNED
    kept = {name[:2] for name, row in after.items() if before.get(name) == row}
    assert kept == EVERYTHING - runs
    assert all((name[:2] in kept) == (before.get(name) == row) for name, row in after.items())


def test_names_and_titles_are_no_part_of_a_trial(suite: Suite, command: Command) -> None:
    before = sorted(suite.trials().values())
    suite.edit("spec.yaml", "title: Before", "title: After")
    suite.edit("spec.yaml", "signs:", "of_one_size:")
    suite.edit("spec.yaml", "bowl:", "pan:")
    assert run_now(suite.run(command)) == 0
    assert sorted(suite.trials().values()) == before
    assert {name[1] for name in suite.trials()} == {"descent", "of_one_size", "lbfgs"}
    page = (suite.output / "index.html").read_text()
    assert "After" in page
    assert "of_one_size" in page


def test_more_seeds_run_only_the_new_ones_and_end_as_if_run_at_once(
    suite: Suite, tmp_path: Path
) -> None:
    """A shared run is computed as a whole, so that its numbers are those of the whole plan."""
    before = suite.numbers()
    suite.edit("spec.yaml", "seeds: 3", "seeds: 5")
    assert suite.train(workers=1) == 2 * 12
    after = suite.numbers()
    for name, row in before.items():
        if name[0] != "line" or name[1] == "lbfgs":
            assert after[name] == row
        assert after[name][1] == pytest.approx(row[1], rel=1e-6)
    at_once = Suite(tmp_path / "at_once", SPEC.replace("seeds: 3", "seeds: 5"))
    at_once.train(workers=1)
    assert after == at_once.numbers()


def test_fewer_seeds_are_all_known(suite: Suite, command: Command) -> None:
    before = suite.trials()
    assert run_now(suite.run(command, "--seeds", "2")) == 0
    assert suite.trials() == before
    assert set(read.read(suite.output / "results.sqlite").trials["seed"]) == {0, 1}


def test_fresh_runs_everything_again_and_finds_the_same(suite: Suite) -> None:
    before, numbers = suite.trials(), suite.numbers()
    assert suite.train(fresh=True) == PLANNED
    after = suite.trials()
    assert suite.numbers() == numbers
    assert all(after[name] != before[name] for name in before)


def test_results_depend_neither_on_workers_nor_on_order_nor_on_namesakes(
    first: Suite, tmp_path: Path
) -> None:
    """The same case under two names is one: else whichever ran last would decide its numbers."""
    *head, descent, signs, lbfgs = SPEC.strip().splitlines()
    twin = "  twin: {class: Descent, hyperparameters: {lr: 0.1}}"
    turned = Suite(tmp_path / "turned", "\n".join([*head, lbfgs, signs, descent, twin, ""]))
    assert turned.train(workers=1) == PLANNED
    numbers = turned.numbers()
    assert list(dict.fromkeys(name[1] for name in numbers)) == ["lbfgs", "signs", "descent", "twin"]
    assert {name: row for name, row in numbers.items() if name[1] != "twin"} == first.numbers()
    for objective, optimizer, _, seed in numbers:
        if optimizer == "twin":
            same = numbers[objective, "descent", "lr=0.1", seed]
            assert numbers[objective, "twin", "", seed] == same


def test_results_do_not_depend_on_which_trials_were_known(
    first: Suite, tmp_path: Path, command: Command
) -> None:
    """Every other row is lost; what is left stands, and the rest is run again beside it."""
    suite = Suite(shutil.copytree(first.folder, tmp_path / "suite"))
    numbers = suite.numbers()
    for table in ("trials", "curves", "trajectories"):
        delete(suite, f"DELETE FROM {table} WHERE (case_id + seed) % 2 = 0")
    left = delete(suite, "SELECT count(*) FROM trials")
    assert run_now(suite.run(command)) == PLANNED - left == PLANNED // 2
    assert suite.numbers() == numbers


def delete(suite: Suite, statement: str) -> int:
    """Execute a statement on a store; the first number of its answer."""
    db = sqlite3.connect(suite.output / "results.sqlite", isolation_level=None)
    row = db.execute(statement).fetchone()
    db.close()
    return int(row[0]) if row else 0


def test_failed_trials_are_due_again_and_diverged_ones_are_not(
    tmp_path: Path, command: Command
) -> None:
    """As long as there is a file, one optimizer raises."""
    suite = Suite(
        tmp_path / "suite",
        SPEC.replace("  lbfgs", "  broken: {class: Signs, hyperparameters: {lr: 0.3}}\n  lbfgs")
        .replace("lr: [0.05, 0.1]", "lr: [0.05, 0.6]")
        .replace("  line: ", "  # line: ")
        .replace("  dish: ", "  # dish: "),
    )
    suite.edit(
        "optimizers/signs.py",
        "        for group in self.param_groups:\n",
        "        for group in self.param_groups:\n"
        "            if group['lr'] == 0.3 and OUT.exists():\n"
        "                raise RuntimeError('out of order')\n",
    )
    suite.edit(
        "optimizers/signs.py",
        "import torch\n",
        "import torch\nfrom pathlib import Path\nOUT = Path(__file__).with_name('out_of_order')\n",
    )
    sign = suite.folder / "optimizers" / "out_of_order"
    sign.touch()
    assert run_now(suite.run(command, status=1)) == 15
    statuses = {name[1:3]: row[0] for name, row in suite.trials().items()}
    assert statuses["descent", "lr=0.6"] == "diverged"
    assert statuses["broken", ""] == "error"
    before = suite.trials()
    sign.unlink()
    assert run_now(suite.run(command)) == 3
    after = suite.trials()
    changed = {name[1] for name in after if after[name] != before[name]}
    assert changed == {"broken"}
    assert {row[0] for name, row in after.items() if name[1] == "broken"} == {"ok"}
