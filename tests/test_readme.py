"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import cli
from harness.checking import check
from harness.plan import make_plan
from harness.proof import prove
from harness.results import Chunk, Verdict
from harness.spec import load
from harness.trials import together
from harness.workload import load_objective, prepare

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite with the files that the README shows, beside those that ship."""
    for name in ("optimizers", "datasets"):
        shutil.copytree(ROOT / name, tmp_path / name)
    optimizer, objective, module = blocks("python")
    (tmp_path / "optimizers" / "sign_descent.py").write_text(optimizer)
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "rosenbrock.py").write_text(objective)
    (tmp_path / "objectives" / "small_net.py").write_text(module)
    return tmp_path


def test_the_spec_it_explains_is_valid_and_constructs(suite: Path) -> None:
    (suite / "spec.yaml").write_text(blocks("yaml")[0])
    plan = make_plan(load(suite / "spec.yaml"))
    assert check(plan).findings == ()
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


def test_the_fair_comparison_it_shows_is_valid_and_has_equal_budgets(suite: Path) -> None:
    _, text = blocks("yaml")
    (suite / "fair.yaml").write_text(text)
    plan = make_plan(load(suite / "fair.yaml"))
    checked = check(plan)
    assert checked.findings == ()
    assert {len(search.settings) for search in plan.searches} == {100}
    assert len(plan.searches) == 2 * 4
    # From scratch, gradient descent and momentum have no learning rate of their own.
    assert sorted(set(checked.absent.cases.values())) == [
        "Momentum has no default for 'lr', 'momentum'",
        "SGD has no default for 'lr'",
    ]


@pytest.mark.parametrize("spec", sorted(ROOT.glob("*.yaml")), ids=lambda path: path.name)
def test_every_spec_that_ships_is_valid_and_named(spec: Path) -> None:
    plan = make_plan(load(spec))
    assert check(plan).findings == ()
    assert f"({spec.name})" in README


def test_its_module_becomes_an_objective_that_shares_runs(suite: Path) -> None:
    (suite / "net.yaml").write_text(
        "suite: net\n"
        "objectives: {SmallNet: {dataset: airfoil, batch_size: 50, steps: 30}}\n"
        "optimizers: {adam: {class: Adam, hyperparameters: {lr: 0.01}}}\n"
    )
    plan = make_plan(load(suite / "net.yaml"))
    assert check(plan).findings == ()
    (case,) = plan.cases
    workload = prepare(case.objective, load_objective(case.objective)[0], "cpu")
    factory = case.located.load()
    verdict = prove(workload, factory, [case.hyperparameters], [0, 1])
    assert verdict.mode == "grouped"
    steps: list[int] = []
    results = together(Chunk(plan.cases, (0, 1)), workload, factory, verdict, steps.append)
    for result in results:
        assert result.status == "ok"
        assert result.losses[-1] < result.losses[0]


def test_its_ten_line_optimizer_and_its_objective_run(suite: Path) -> None:
    (suite / "own.yaml").write_text(
        "suite: own\n"
        "objectives: {Rosenbrock: {steps: 200, dtype: float64}}\n"
        "optimizers: {mine: {class: SignDescent, hyperparameters: {lr: 0.01}}}\n"
    )
    plan = make_plan(load(suite / "own.yaml"))
    assert check(plan).findings == ()
    (case,) = plan.cases
    workload = prepare(case.objective, load_objective(case.objective)[0], "cpu")
    steps: list[int] = []
    results = together(
        Chunk(plan.cases, (0, 1)),
        workload,
        case.located.load(),
        Verdict("grouped", None, ""),
        steps.append,
    )
    assert steps == list(range(1, 201))
    for result in results:
        assert result.status == "ok"
        assert result.trajectory is not None
        assert abs(abs(result.trajectory[1] - result.trajectory[0]) - 0.01).max() < 1e-12


def test_every_option_it_names_exists() -> None:
    table = README[README.index("| command |") : README.index("Exit status:")]
    runner = CliRunner()
    rows = [line for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(rows) > 5
    for line in rows:
        command = re.findall(r"`(\w+)", line)[0]
        shown = runner.invoke(cli.main, [command, "--help"])
        assert shown.exit_code == 0
        for option in re.findall(r"--[a-z-]+", line):
            assert option in shown.output, (command, option)


def test_every_module_it_lists_is_there_and_none_is_left_out() -> None:
    table = README[README.index("| file in `harness/`") : README.index("## Licence")]
    named = {name for cell in re.findall(r"^\| (.*?) \|", table, re.M) for name in cell.split(", ")}
    named = {name.strip("`").rstrip("/") for name in named}
    files = {p.stem for p in (ROOT / "harness").glob("*.py") if not p.stem.startswith("__")}
    assert files - {"progress", "results", "environment"} <= named
    assert {name for name in named if " " not in name and "-" not in name} <= files | {"objectives"}


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_every_file_it_links_to_is_there(link: str) -> None:
    assert (ROOT / link).is_file()
