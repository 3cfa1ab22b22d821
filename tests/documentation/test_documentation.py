"""What the README and the pages in docs/ show works as it stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import git, make_plan
from click.testing import CliRunner
from markdown_it import MarkdownIt

import harness
from harness import cli
from harness.engine.loading import load_objective
from harness.engine.sharing import decide
from harness.engine.trials import run_vectorized
from harness.engine.validate import validate_plan
from harness.engine.workload import prepare
from harness.results import Chunk, Sharing
from harness.spec import validation as specs
from harness.spec import yaml_source

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
SPECS = ["benchmarks.yaml", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("specs/*.yaml"))]
ALWAYS = {"README.md", "docs/tutorial.md", "docs/spec.md"}
"""Pages that `make test` runs; the others are exhaustive."""

SHOWN = {"text"}
"""Languages of blocks that are there to be read: trees of files."""

BASE: dict[str, Any] = {
    "suite": "base",
    "devices": ["cpu", "cuda"],
    "objectives": {"quadratic_2d": {"steps": 3}, "noisy": {"class": "quadratic_2d", "steps": 3}},
    "optimizers": {
        "momentum": {"class": "Momentum", "hyperparameters": {"lr": 0.1}},
        "torch_sgd": {"class": "torch.optim:SGD", "search": {"lr": {"uniform": [0.1, 0.2]}}},
    },
    "tuning": {"trials": 2},
}
"""The spec of which a block that shows a part is a part."""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: Where it stands.
        line: Number of its first line.
        language: The first word after the fence.
        options: The others: what a file of it is called, of what it is a part, why it isn't run.
        text: What stands in it.
    """

    page: str
    line: int
    language: str
    options: dict[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    found = []
    for token in MarkdownIt("commonmark").parse((ROOT / page).read_text()):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            words = shlex.split(token.info)
            options = {key: value for key, _, value in (w.partition("=") for w in words[1:])}
            language = words[0] if words else ""
            found.append(Block(page, token.map[0] + 1, language, options, token.content))
    return found


BLOCKS = {page: blocks_of(page) for page in PAGES}


def shown(page: str, name: str) -> str:
    """What a page shows of a file."""
    (block,) = [b for b in BLOCKS[page] if b.options.get("file") == name]
    return block.text


# Every block


def test_every_block_says_what_it_is_and_why_if_it_is_not_run() -> None:
    known = {"sh", "python", "yaml", *SHOWN}
    directives = {"{toctree}", "{eval-rst}"}  # the site is built from them
    for block in (block for blocks in BLOCKS.values() for block in blocks):
        assert block.language, f"{block}: no language, or indented rather than fenced"
        assert set(block.options) <= {"file", "part", "part-of", "no-run"}, str(block)
        if "no-run" in block.options:
            assert len(block.options["no-run"].split()) >= 3, f"{block}: no reason"
        else:
            assert block.language in known | directives, f"{block}: nobody tries {block.language}"
    untried = [block for blocks in BLOCKS.values() for block in blocks if "no-run" in block.options]
    assert len(untried) <= 8, [str(block) for block in untried]


def smaller(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec with all that it compares, but fewer seeds, settings and seconds."""
    spec = {**spec, "seeds": 3}
    spec["timing"] = {"rounds": 3, "block_steps": 2, "seconds": 0.2}
    if "tuning" in spec:
        spec["tuning"] = {"trials": 3, "seeds": 2, "sweep": 0, "defaults": False}
    return spec


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has, with smaller specs, and an environment in which all is installed."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("optimizers", "datasets"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / "specs").mkdir()
    for spec in (*SPECS, "diagnostics.yaml"):
        # As it stands: a spec that was read has an objective for each difficulty of a task.
        small = smaller(yaml.safe_load((ROOT / spec).read_text()))
        (folder / spec).write_text(yaml.safe_dump(small, sort_keys=False))
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for stamp in (".harness-installed", ".harness-installed-test"):
        (folder / ".venv" / stamp).touch()  # nothing is installed into what runs the tests
    (folder / ".gitignore").write_text(".venv\nreports\n__pycache__\n")
    for command in ("init -q", "add .", "commit -q -m begin"):
        git(folder, *command.split())
    return folder


@pytest.fixture
def folder(clone: Path) -> Iterator[Path]:
    """The clone as it is at first; what was computed for one page, the next one finds known."""
    yield clone
    git(clone, "checkout", "-q", ".")
    git(clone, "clean", "-f", "-d", "-q")


def run(block: Block, folder: Path, words: list[str]) -> None:
    """Run a block as its reader would; it must end well."""
    path = os.pathsep.join([str(folder / ".venv" / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{block}: status {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, f"{block}\n{done.stderr}"


def as_part(block: Block) -> dict[str, Any]:
    """The base spec with a part that a block shows in its place."""
    whole: dict[str, Any] = json.loads(json.dumps(BASE))
    place = whole
    for name in filter(None, block.options.get("part-of", "").split(".")):
        place = place[name]
    place |= yaml_source.parse(block.text.encode(), str(block)).data
    return whole


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page in ALWAYS else pytest.mark.exhaustive)
        for page in PAGES
        if BLOCKS[page]
    ],
)
def test_every_block_of_a_page_runs_in_their_order(page: str, folder: Path) -> None:
    for number, block in enumerate(BLOCKS[page]):
        if "no-run" in block.options or block.language in SHOWN or block.language[0] == "{":
            continue
        name = block.options.get("file")
        if name:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(block.text)
        if block.language == "yaml":
            if name:
                loaded = specs.load(folder / name)
                plan = make_plan(loaded)
                assert validate_plan(plan).findings == (), str(block)
                small = yaml.safe_dump(smaller(yaml.safe_load(block.text)), sort_keys=False)
                (folder / name).write_text(small)
            else:
                assert {"part", "part-of"} & set(block.options), f"{block}: neither file nor part"
                found = specs.check(yaml_source.of_mapping(as_part(block), folder))
                assert found.problems == (), str(block)
        elif block.language == "sh":
            run(block, folder, ["bash", "-euo", "pipefail", "-c", block.text])
        elif not name:
            (folder / f"block_{number}.py").write_text(block.text)
            run(block, folder, ["python", f"block_{number}.py"])


def test_what_a_page_changes_with_sed_stands_in_the_spec_that_ships() -> None:
    changes = [
        (pattern, file)
        for blocks in BLOCKS.values()
        for block in blocks
        for pattern, file in re.findall(r"sed -i\S* 's/(.*?)/.*?' (\S+)", block.text)
    ]
    assert changes
    for pattern, file in changes:
        text = (ROOT / file).read_text()
        small = yaml.safe_dump(smaller(yaml.safe_load(text)))
        assert text.count(pattern) == small.count(pattern) == 1


# What the blocks say of themselves


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite with the files that the pages show, beside those that ship."""
    for name in ("optimizers", "datasets"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "objectives").mkdir()
    for name in ("optimizers/sign_descent", "objectives/rosenbrock", "objectives/small_net"):
        (tmp_path / f"{name}.py").write_text(shown("docs/optimizers.md", f"{name}.py"))
    return tmp_path


def test_the_spec_that_is_explained_has_the_cases_that_it_says(suite: Path) -> None:
    (suite / "spec.yaml").write_text(shown("docs/spec.md", "my-comparison.yaml"))
    plan = make_plan(specs.load(suite / "spec.yaml"))
    on_cpu = [case.id for case in plan.cases if case.device == "cpu"]
    assert on_cpu == [
        "quadratic_2d/sgd/cpu",
        "quadratic_2d/adagrad[lr=0.4]/cpu",
        "quadratic_2d/adagrad[lr=2]/cpu",
        "airfoil_regression/sgd/cpu",
        "airfoil_regression/adagrad[lr=0.05]/cpu",
        "airfoil_regression/adagrad[lr=0.1]/cpu",
    ]
    assert len(plan.cases) == 6 + 4


def test_the_fair_comparison_has_equal_budgets(suite: Path) -> None:
    (suite / "fair.yaml").write_text(shown("docs/methods.md", "fair.yaml"))
    plan = make_plan(specs.load(suite / "fair.yaml"))
    assert {len(search.settings) for search in plan.searches} == {100}
    assert len(plan.searches) == 2 * 4
    # From scratch, gradient descent and momentum have no learning rate of their own.
    assert sorted(set(validate_plan(plan).absent.cases.values())) == [
        "Momentum has no default for 'lr', 'momentum'",
        "SGD has no default for 'lr'",
    ]


@pytest.mark.parametrize("spec", SPECS)
def test_every_spec_that_ships_is_valid_and_named(spec: str) -> None:
    loaded = specs.load(ROOT / spec)
    if spec == "specs/zoo.yaml":
        pytest.importorskip("pytorch_optimizer")
        assert loaded.spec is not None
        assert loaded.spec.tuning is not None
        few = loaded.spec.tuning.model_copy(update={"trials": 3})
        loaded = replace(loaded, spec=loaded.spec.model_copy(update={"tuning": few}))
    plan = make_plan(loaded)
    assert validate_plan(plan).findings == ()
    assert f"({spec})" in (ROOT / "README.md").read_text()


@pytest.mark.exhaustive
def test_the_readme_shows_what_the_run_prints(tmp_path: Path) -> None:
    """All but the seconds, which are another machine's."""
    (block,) = [block for block in BLOCKS["README.md"] if block.language == "text"]
    command, headline, *rows = filter(None, block.text.splitlines())
    results = harness.run(
        ROOT / "benchmarks.yaml", devices=["cpu"], timing=False, output=tmp_path, progress=False
    )
    assert command == "$ python -m harness run benchmarks.yaml"
    assert headline.startswith(results.printed.headline.rstrip("."))
    printed = [
        [row.objective, row.optimizer, row.loss, row.verdict] for row in results.printed.rows
    ]
    cells = [re.split(r" {2,}", row)[:4] for row in rows[1:]]
    assert cells[: len(printed)] == printed
    assert rows[-1].startswith("Page: file://")


@pytest.mark.usefixtures("shared_though_slower")
def test_the_module_becomes_an_objective_that_shares_runs(suite: Path) -> None:
    (suite / "net.yaml").write_text(
        "suite: net\n"
        "objectives: {SmallNet: {dataset: airfoil, batch_size: 50, steps: 30}}\n"
        "optimizers: {adam: {class: Adam, hyperparameters: {lr: 0.01}}}\n"
    )
    plan = make_plan(specs.load(suite / "net.yaml"))
    assert validate_plan(plan).findings == ()
    (case,) = plan.cases
    workload = prepare(case.objective, load_objective(case.objective)[0], "cpu")
    factory = case.located.load()
    sharing = decide(workload, factory, [case.hyperparameters], [0, 1])
    assert sharing.way == "pointwise"
    steps: list[int] = []
    results = run_vectorized(
        Chunk(plan.cases, (0, 1)), workload, factory, sharing, lambda: None, steps.append
    ).results
    for result in results:
        assert result.status == "ok"
        assert result.losses[-1] < result.losses[0]


def test_the_ten_line_optimizer_steps_as_its_name_says(suite: Path) -> None:
    assert shown("README.md", "optimizers/sign_descent.py") == (
        shown("docs/optimizers.md", "optimizers/sign_descent.py")
    )
    (suite / "own.yaml").write_text(
        "suite: own\n"
        "objectives: {Rosenbrock: {steps: 200, dtype: float64}}\n"
        "optimizers: {mine: {class: SignDescent, hyperparameters: {lr: 0.01}}}\n"
    )
    plan = make_plan(specs.load(suite / "own.yaml"))
    assert validate_plan(plan).findings == ()
    (case,) = plan.cases
    workload = prepare(case.objective, load_objective(case.objective)[0], "cpu")
    steps: list[int] = []
    results = run_vectorized(
        Chunk(plan.cases, (0, 1)),
        workload,
        case.located.load(),
        Sharing("pointwise", ""),
        lambda: None,
        steps.append,
    ).results
    assert steps[:200] == list(range(1, 201))  # and a few alone, which are compared
    for result in results:
        assert result.status == "ok"
        assert result.trajectory is not None
        assert abs(abs(result.trajectory[1] - result.trajectory[0]) - 0.01).max() < 1e-12


# What the pages list


def test_every_command_and_every_option_that_is_named_exists() -> None:
    page = (ROOT / "docs/command-line.md").read_text()
    table = page[page.index("| command |") : page.index("Exit status:")]
    runner = CliRunner()
    rows = [line for line in table.splitlines()[2:] if line.startswith("|")]
    named = [re.findall(r"`(\w+)", line)[0] for line in rows]
    assert set(named) == set(cli.main.commands)
    for command, line in zip(named, rows, strict=True):
        help_text = runner.invoke(cli.main, [command, "--help"])
        assert help_text.exit_code == 0
        for option in re.findall(r"--[a-z-]+", line):
            assert option in help_text.output, (command, option)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_to_is_there(page: str) -> None:
    for link in re.findall(r"\]\(((?!http)[^)#]+)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / link).is_file(), link
