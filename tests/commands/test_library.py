"""The harness as a library: what it promises, and that it does what the commands do."""

from __future__ import annotations

import ast
import html
import inspect
import json
import os
import pkgutil
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import nbformat
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from nbclient import NotebookClient

import harness
from harness import api, cli
from harness.errors import BadInput
from harness.reporting import objects as report_objects
from harness.reporting import write as report_writer
from harness.store import read
from harness.store.database import FILE_NAME

ROOT = Path(__file__).resolve().parents[2]

SIGNATURES = """\
Check.exit_status: int
Check.folder: Path
Check.table: Table
Comparison.beside: SideBySide
Comparison.between: tuple[str, ...]
Comparison.checks: None
Comparison.figures: Figures
Comparison.headline: str
Comparison.sentences: tuple[str, ...]
Comparison.tables: Named[Table]
Dataset(features: NDArray[Any], labels: NDArray[Any], feature_names: tuple[str, \
...] = (), label_name: str = label, source: str = , standardized: bool = False, \
classes: int | None = None, train: Dataset | None = None) -> None
Figure.drawing: Drawing
Figure.name: str
Figure.pdf: bytes
Figure.png: bytes
Figure.svg: str
History.remarks: list[str]
ModuleObjective(dataset: Dataset) -> None
PartReport.exit_status: int
PartReport.wrong: tuple[PartFinding, ...]
Report.analysis: Analysis
Report.checks: Checks | None
Report.curves: pd.DataFrame
Report.figures: Figures
Report.findings: Findings
Report.folder: Path
Report.headline: str
Report.page: Path
Report.printed: Printed
Report.results: Results
Report.sentences: tuple[str, ...]
Report.tables: Named[Table]
Report.timings: pd.DataFrame
Report.title: str
Report.trials: pd.DataFrame
Run.failed: bool
Table.best: list[bool]
Table.numeric: list[bool]
Table.texts: list[list[str]]
Validation.notes: tuple[str, ...]
check(spec: StrPath, *, baseline: StrPath | None = None, base: str | None = None, only: Texts = \
(), devices: Texts | None = None, seeds: int | None = None, warn: Texts = (), allow_new: bool = \
False, workers: int | None = None, output: StrPath | None = None, progress: bool = True) -> Check
compare(*results: StrPath, formats: Texts = (), output: StrPath | None = None) -> Comparison
diagnose(optimizer: str, *, search: Mapping[str, Any] | None = None, hyperparameters: \
Mapping[str, Any] | None = None, folder: StrPath | None = None, **options: Any) -> Run
history(results: StrPath = 'benchmarks.yaml', *, output: StrPath | None = None) -> History
init(folder: StrPath, *, template: str = comparison) -> tuple[Path, ...]
load_optimizer(name: str, folder: StrPath = '.') -> Callable[..., torch.optim.Optimizer]
names(suite: StrPath = '.') -> Names
preview(spec: SpecLike, *, only: Texts = (), devices: Texts | None = None, seeds: int | None = \
None, seed: int | Sequence[int] = (), override: Mapping[str, Any] | Sequence[str] = (), timing: \
bool = True, fresh: bool = False, output: StrPath | None = None, folder: StrPath | None = None) \
-> Preview
read(results: StrPath = 'benchmarks.yaml') -> Report
report(results: StrPath = 'benchmarks.yaml', *, formats: Texts = ()) -> Report
run(spec: SpecLike, *, only: Texts = (), devices: Texts | None = None, seeds: int | None = None, \
seed: int | Sequence[int] = (), override: Mapping[str, Any] | Sequence[str] = (), timing: bool = \
True, fresh: bool = False, workers: int | None = None, executor: Executor | None = None, \
scheduler: StrPath | None = None, output: StrPath | None = None, folder: StrPath | None = None, \
progress: bool = True) -> Run
schema() -> dict[str, Any]
test_suite(suite: StrPath = '.', *, seconds: float = 30.0, workers: int | None = None, progress: \
bool = True) -> PartReport
validate(spec: SpecLike, *, only: Texts = (), devices: Texts | None = None, seeds: int | None = \
None, folder: StrPath | None = None) -> Validation
write_baseline(spec: StrPath, baseline: StrPath, *, only: Texts = (), devices: Texts | None = \
None, seeds: int | None = None, processes: int = 5, workers: int | None = None, output: StrPath | \
None = None, progress: bool = True) -> Written
"""
"""What may be relied on; a change here is one that the changelog tells."""

SPEC = """\
suite: small
seeds: 3
devices: [cpu]
objectives:
  quadratic_2d: {steps: 20, dtype: float64}
  linear: {class: linear_regression, dataset: rows, batch_size: 4, epochs: 2}
optimizers:
  sgd: {class: SGD, hyperparameters: {lr: [0.01, 0.02]}}
  adam: {class: "torch.optim:Adam", hyperparameters: {lr: 0.1}}
limits: {seconds: 60}
"""

DATASET = '''
import numpy as np
from harness import Dataset

def rows():
    """Eight points on a line."""
    x = np.linspace(-1, 1, 8)
    return Dataset(x[:, None], 2 * x + 1, ("x",), "y", "made up")
'''


def make_suite(folder: Path, spec: str = SPEC) -> Path:
    (folder / "optimizers").mkdir(parents=True)
    shutil.copy(ROOT / "optimizers" / "sgd.py", folder / "optimizers")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "rows.py").write_text(DATASET)
    (folder / "spec.yaml").write_text(spec)
    return folder


def python(code: str, folder: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a script, as its user would, of a file that has no ``if __name__ == "__main__"``."""
    (folder / "script.py").write_text(code)
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **more,
    )


def text_of(name: str, function: Any) -> str:
    return (
        f"{name}{inspect.signature(function)}".replace("'", "")
        .replace("= benchmarks.yaml", "= 'benchmarks.yaml'")
        .replace("= .)", "= '.')")
        .replace("= .,", "= '.',")
    )


def promised() -> Iterator[str]:
    for name in harness.__all__:
        thing = getattr(harness, name)
        if name in ("Batch", "Parameters", "Window"):  # of types alone
            continue
        if not isinstance(thing, type):
            yield text_of(name, thing)
            continue
        if name in ("Dataset", "ModuleObjective"):  # what users make
            init = inspect.signature(vars(thing)["__init__"])
            own = init.replace(parameters=list(init.parameters.values())[1:])
            yield f"{name}{own}".replace("'", "")
        for member, value in vars(thing).items():
            if member.startswith("_"):
                continue
            getter = getattr(value, "fget", None) or getattr(value, "func", None)
            if getter is not None:
                kind = inspect.signature(getter).return_annotation
                yield f"{name}.{member}: {kind}"


def test_the_promised_names_keep_their_signatures() -> None:
    assert sorted(promised()) == sorted(SIGNATURES.splitlines())


def test_every_promised_name_has_a_docstring_that_tells_of_each_argument() -> None:
    for name in set(harness.__all__) - {"Batch", "Parameters", "Window"}:
        thing = getattr(harness, name)
        said = inspect.getdoc(thing)
        assert said, name
        if inspect.isfunction(thing) and name != "preview":  # all as of run
            for argument in inspect.signature(thing).parameters:
                assert f"{argument}: " in said, (name, argument)


def test_no_promised_name_is_that_of_a_module() -> None:
    # Importing the module would put it in the function's place.
    modules = {module.name for module in pkgutil.iter_modules(harness.__path__)}
    assert not modules & {*harness.__all__}
    assert set(harness.__all__) <= set(dir(harness))
    with pytest.raises(AttributeError, match="no attribute 'runs'"):
        harness.runs  # noqa: B018


def test_importing_the_harness_loads_nothing_that_takes_time(tmp_path: Path) -> None:
    done = python(
        "import sys; before = set(sys.modules); import harness; harness.__version__\n"
        "print(sorted(m for m in set(sys.modules) - before if '.' not in m))\n"
        "harness.schema, harness.run, harness.BadInput\n"
        "heavy = ('torch', 'pandas', 'numpy', 'matplotlib', 'pydantic', 'click', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])\n",
        tmp_path,
    )
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert set(ast.literal_eval(first)) <= {"harness", "typing", "importlib", "warnings", *OWN}
    assert second == "[]"


OWN = ("_typing", "collections", "functools", "re", "contextlib", "operator", "keyword", "reprlib")
"""What typing may load."""


# The commands


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "run s.yaml --only optimizer=a* --only device=cpu --devices cpu --seeds 7 --set lr=0.5 "
        "--no-timing --fresh --quiet --open --workers 3 --executor dask --output o",
        "run",
        {
            "spec": Path("s.yaml"),
            "only": ("optimizer=a*", "device=cpu"),
            "devices": "cpu",
            "seeds": 7,
            "seed": (),
            "override": ("lr=0.5",),
            "timing": False,
            "fresh": True,
            "workers": 3,
            "executor": "dask",
            "scheduler": None,
            "output": Path("o"),
            "progress": False,
        },
    ),
    (
        "run s.yaml --scheduler tcp://host:1",
        "run",
        {
            "spec": Path("s.yaml"),
            "only": (),
            "devices": None,
            "seeds": None,
            "seed": (),
            "override": (),
            "timing": True,
            "fresh": False,
            "workers": None,
            "executor": None,
            "scheduler": "tcp://host:1",
            "output": None,
            "progress": True,
        },
    ),
    (
        "run s.yaml --seed 4 --seed 5 --dry-run --output o",
        "preview",
        {
            "spec": Path("s.yaml"),
            "only": (),
            "devices": None,
            "seeds": None,
            "seed": (4, 5),
            "override": (),
            "timing": True,
            "fresh": False,
            "output": Path("o"),
        },
    ),
    (
        "check s.yaml --base HEAD --warn time --allow-new -q --only optimizer=a --devices cpu "
        "--seeds 2 --workers 1 --output o",
        "check",
        {
            "spec": Path("s.yaml"),
            "baseline": None,
            "base": "HEAD",
            "only": ("optimizer=a",),
            "devices": "cpu",
            "seeds": 2,
            "warn": ("time",),
            "allow_new": True,
            "workers": 1,
            "output": Path("o"),
            "progress": False,
        },
    ),
    (
        "check s.yaml --baseline b.json --update --processes 4",
        "write_baseline",
        {
            "spec": Path("s.yaml"),
            "baseline": Path("b.json"),
            "only": (),
            "devices": None,
            "seeds": None,
            "processes": 4,
            "workers": None,
            "output": None,
            "progress": True,
        },
    ),
    ("report", "report", {"formats": ()}),
    (
        "report a --format tex --format csv --format html --open",
        "report",
        {"results": Path("a"), "formats": ("tex", "csv", "html")},
    ),
    (
        "report a b --output o --format md",
        "compare",
        {"results": (Path("a"), Path("b")), "formats": ("md",), "output": Path("o")},
    ),
    (
        "history a --output h.svg",
        "history",
        {"results": Path("a"), "output": Path("h.svg")},
    ),
    ("history", "history", {"results": Path("benchmarks.yaml"), "output": None}),
    (
        "validate s.yaml --only optimizer=a --devices cpu --seeds 9",
        "validate",
        {"spec": Path("s.yaml"), "only": ("optimizer=a",), "devices": "cpu", "seeds": 9},
    ),
    (
        "init folder --template training",
        "init",
        {"folder": Path("folder"), "template": "training"},
    ),
    (
        "test suite --seconds 2 --workers 3 --quiet",
        "test_suite",
        {"suite": Path("suite"), "seconds": 2.0, "workers": 3, "progress": False},
    ),
    (
        "diagnose m:C --search lr=[0.1,1] --set b=2 --only objective=a* --devices cpu --seeds 7 "
        "--output o --open --fresh --quiet --workers 3",
        "diagnose",
        {
            "optimizer": "m:C",
            "search": {"lr": [0.1, 1]},
            "hyperparameters": {"b": 2},
            "options": {
                "only": ("objective=a*",),
                "devices": "cpu",
                "seeds": 7,
                "output": Path("o"),
                "fresh": True,
                "workers": 3,
                "progress": False,
            },
        },
    ),
    ("list folder", "names", {"suite": Path("folder")}),
    ("schema", "schema", {}),
]


@pytest.mark.parametrize(("line", "name", "expected"), CALLS)
def test_a_command_hands_all_that_it_was_told_to_the_function_of_its_name(
    line: str, name: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {}
    signature = inspect.signature(getattr(api, name))

    def stand_in(*args: Any, **kwargs: Any) -> None:
        told.update(signature.bind(*args, **kwargs).arguments)
        raise BadInput.of_file("here", "nothing is done")

    monkeypatch.setattr(api, name, stand_in)
    before = signal.getsignal(signal.SIGTERM)
    try:
        done = CliRunner().invoke(cli.main, line.split())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (done.exit_code, done.stderr) == (2, "here: nothing is done\n"), done.output
    assert told == expected


def test_every_command_is_tried_and_hands_on_each_of_its_options() -> None:
    tried: dict[str, set[str]] = {}
    for line, _, _ in CALLS:
        words = line.split()
        tried.setdefault(words[0], set()).update(word for word in words if word.startswith("-"))
    assert set(tried) == set(cli.main.commands)
    for name, command in cli.main.commands.items():
        for option in command.params:
            if isinstance(option, click.Option):
                assert tried[name] & {*option.opts}, (name, option.opts)


# A run


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, report_objects.Run]:
    """One suite, run by a command in one folder and by the library in another."""
    by_command = make_suite(tmp_path_factory.mktemp("command") / "suite")
    by_call = make_suite(tmp_path_factory.mktemp("call") / "suite")
    words = ["run", "spec.yaml", "--no-timing", "--quiet"]
    subprocess.run(
        [sys.executable, "-P", "-m", "harness", *words],
        cwd=by_command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        timeout=120,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(by_call)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        done = harness.run("spec.yaml", timing=False, progress=False)
        assert {number: signal.getsignal(number) for number in before} == before
    done.store = done.store.absolute()
    return by_command, by_call, done


UNLIKE = {"started", "finished", "seconds", "environment"}
"""Columns of what no two runs have alike."""


def stored(folder: Path) -> dict[str, list[dict[str, Any]]]:
    db = sqlite3.connect(folder / "reports" / "small" / FILE_NAME)
    db.row_factory = sqlite3.Row
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {
        table: [
            {key: row[key] for key in row.keys() if key not in UNLIKE}  # noqa: SIM118
            for row in db.execute(f"SELECT * FROM {table}")
        ]
        for table in tables
    }
    db.close()
    for sharing in found["sharings"]:
        del sharing["step_seconds"]
    return found


def test_a_call_leaves_what_the_command_leaves(both: tuple[Path, Path, report_objects.Run]) -> None:
    by_command, by_call, done = both
    one, other = stored(by_command), stored(by_call)
    assert len(one["trials"]) == 2 * 3 * 3
    assert one == other
    assert one["runs"][0]["command"] == "python -m harness run spec.yaml --no-timing"
    for kind in ("tables", "figures"):
        files = sorted(path.name for path in (by_command / "reports/small" / kind).iterdir())
        assert files == sorted(path.name for path in (by_call / "reports/small" / kind).iterdir())
        for name in files:
            content = (by_command / "reports/small" / kind / name).read_bytes()
            assert content == (by_call / "reports/small" / kind / name).read_bytes(), name
    assert done.page == by_call / "reports/small/index.html"
    assert (done.trained, done.timed, done.statuses, done.failed) == (18, 0, {"ok": 18}, False)


def test_a_run_has_frames_tables_sentences_and_figures_as_the_page_has_them(
    both: tuple[Path, Path, report_objects.Run],
) -> None:
    _, _, done = both
    results = read.read(done.store)
    pd.testing.assert_frame_equal(done.trials, results.trials)
    curves = done.curves
    assert len(curves) == sum(case.losses.size for case in results.cases)
    last = curves.groupby(["position", "seed"])["loss"].last().to_numpy()
    np.testing.assert_array_equal(last, done.trials["final_loss"].to_numpy())
    linear = curves[curves["objective"] == "linear"]
    assert sorted(linear["step"].unique()) == list(results.objectives["linear"].record_steps)
    assert linear["epoch"].max() == 2
    assert done.timings.empty
    folder = done.page.parent
    assert {path.stem for path in (folder / "tables").iterdir()} == set(done.tables)
    for name, table in done.tables.items():
        assert (folder / "tables" / f"{name}.csv").read_text() == table.to_csv()
        assert (folder / "tables" / f"{name}.tex").read_text() == table.to_latex()
    assert {path.stem for path in (folder / "figures").iterdir()} == set(done.figures)
    for name, figure in done.figures.items():
        assert (folder / "figures" / f"{name}.svg").read_text() == figure.svg
        assert (folder / "figures" / f"{name}.png").read_bytes() == figure.png
        assert (folder / "figures" / f"{name}.pdf").read_bytes() == figure.pdf
    page = html.unescape(done.page.read_text())
    assert done.sentences
    assert all(sentence in page for sentence in done.sentences)
    with pytest.raises(KeyError, match="no table 'final_los'; did you mean 'final_loss'"):
        done.tables["final_los"]


def test_stored_results_are_read_without_a_run_and_stay_as_they_are(
    both: tuple[Path, Path, report_objects.Run], tmp_path: Path
) -> None:
    _, by_call, done = both
    folder = tmp_path / "copy"
    shutil.copytree(by_call / "reports/small", folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for place in (folder, str(folder / FILE_NAME)):
        known = harness.read(place)
        pd.testing.assert_frame_equal(known.trials, done.trials)
        assert known.sentences == done.sentences
        assert known.figures["overview"].svg == done.figures["overview"].svg
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    beside = harness.compare(folder, by_call / "reports/small", output=tmp_path / "beside")
    assert "(18 trials)" in " ".join(beside.sentences)
    assert all(sentence in html.unescape(beside.page.read_text()) for sentence in beside.sentences)
    assert str(tmp_path / "beside") in str(beside)
    with pytest.raises(BadInput, match="results: expected two or more"):
        harness.compare(folder)


def test_a_run_stays_the_one_that_it_was_when_others_follow(
    both: tuple[Path, Path, report_objects.Run], tmp_path: Path
) -> None:
    _, by_call, _ = both
    suite = tmp_path / "suite"
    shutil.copytree(by_call, suite)
    spec = suite / "spec.yaml"
    one = harness.run(spec, only="objective=quad*", timing=False, progress=False)
    two = harness.run(spec, only="optimizer=adam", seeds=1, timing=False, progress=False)
    assert (one.trained, two.trained) == (0, 0)
    assert (len(one.trials), len(two.trials)) == (9, 2)
    assert set(one.trials["objective"]) == {"quadratic_2d"}


# A mapping for a spec


MAPPING: dict[str, Any] = {
    "suite": "mapped",
    "seeds": np.arange(2),
    "devices": ["cpu"],
    "objectives": {"quadratic_2d": {"steps": np.int64(4)}},
    "optimizers": {"sgd": {"class": "SGD", "hyperparameters": {"lr": (0.1, np.float64(1e-6))}}},
    "timing": {"enabled": False},
}


def test_a_mapping_is_run_as_the_file_that_says_it_and_its_page_tells_calls(tmp_path: Path) -> None:
    suite = make_suite(tmp_path / "suite")
    (suite / "optimizers" / "tripping.py").write_text(
        "import torch\n"
        "class Tripping(torch.optim.SGD):\n"
        "    def step(self, closure=None):\n"
        "        raise RuntimeError('tripped')\n"
    )
    trips = {"class": "Tripping", "hyperparameters": {"lr": [0.1, 0.2]}}
    mapping = MAPPING | {"optimizers": MAPPING["optimizers"] | {"trips": trips}}
    done = harness.run(mapping, folder=suite, only=["device=cpu"], progress=False)
    assert (done.failed, done.trained) == (True, 8)
    told = f"harness.run(spec, folder={str(suite)!r}, only=['device=cpu'])"
    assert done.results.run.command == told
    settings = done.trials[done.trials["status"] == "ok"]["setting"]
    assert settings.unique().tolist() == ["lr=0.1", "lr=1e-06"]

    repeat = done.tables["failures"].frame["repeat"][1]
    assert "setting=lr=0.2" in repeat
    again = eval(repeat, {"harness": harness, "spec": mapping})
    assert again.page == suite / "reports/mapped/repeat/index.html"
    assert again.trials[["status", "setting", "seed"]].to_numpy().tolist() == [
        ["error", "lr=0.2", 0]
    ]
    page = html.unescape(done.page.read_text())
    assert f"harness.preview(spec, folder={str(suite)!r})" in page
    assert f"python -m harness report {suite}/reports/mapped" in page

    (suite / "same.yaml").write_text(done.results.run.spec_text)
    same = harness.run(suite / "same.yaml", only="optimizer=sgd", progress=False)
    assert (same.trained, same.store) == (0, done.store)
    assert same.trials["final_loss"].tolist() == done.trials["final_loss"].dropna().tolist()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"seeds": "many", "sedes": 3},
            "spec: sedes: unknown key; did you mean 'seeds'?\n"
            "spec: seeds: expected a number of seeds or a list of seeds, got 'many'",
        ),
        (
            {"optimizers": {"a": {"class": "SDG", "hyperparameters": {"lr": 1}}}},
            "spec: optimizers.a.class: no optimizer 'SDG' in optimizers/; did you mean 'SGD'?",
        ),
        (
            {"optimizers": {"a": {"class": object(), "hyperparameters": {"lr": {1, 2}}}}},
            "spec: optimizers.a.class: expected plain data, got a value of type object\n"
            "spec: optimizers.a.hyperparameters.lr: expected plain data, got a value of type set",
        ),
        ({7: 1}, "spec: the key 7 is not a string"),
        ({"title": "\x07"}, "spec: title: character U+0007 is not allowed in a spec"),
    ],
)
def test_a_mistake_in_a_mapping_is_told_by_its_key(
    change: dict[Any, Any], complaint: str, tmp_path: Path
) -> None:
    suite = make_suite(tmp_path / "suite")
    with pytest.raises(BadInput) as caught:
        harness.run(MAPPING | change, folder=suite, progress=False)
    assert str(caught.value).startswith(complaint), str(caught.value)
    assert not (suite / "reports").exists()
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(BadInput, match="nest deeper than 32 levels"):
        harness.validate(MAPPING | {"seeds": loop}, folder=suite)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"seeds": 0}, "seeds: expected a whole number of at least 1, got 0"),
        ({"seeds": True}, "seeds: expected a whole number, got True"),
        ({"seeds": 2.0}, "seeds: expected a whole number, got 2.0"),
        ({"seed": [-1]}, "seed: expected a whole number from 0 to 1,073,741,822, got -1"),
        ({"seed": 1, "seeds": 2}, "seed: expected either seeds or seed"),
        ({"workers": 0}, "workers: expected a whole number from 1 to 1,024, got 0"),
        ({"devices": "gpu"}, "--devices: 'gpu' is not a device; did you mean 'cuda'?"),
        ({"override": {"lr": object()}}, "override: 'lr' is a object, expected plain data"),
        ({"folder": "."}, "folder: is for a mapping; a file's suite is the folder that it is in"),
    ],
)
def test_a_wrong_argument_is_told_by_its_name(
    given: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    suite = make_suite(tmp_path / "suite")
    with pytest.raises(BadInput) as caught:
        harness.run(suite / "spec.yaml", **given, progress=False)
    assert str(caught.value).startswith(complaint), str(caught.value)
    assert not (suite / "reports").exists()


def test_formats_and_warnings_are_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"formats: there is no 'eps' \(known: csv, html"):
        harness.report(tmp_path, formats="eps")
    with pytest.raises(BadInput, match=r"warn: there is no 'times'; did you mean 'time'"):
        harness.check(tmp_path / "s.yaml", base="HEAD", warn=["times"])
    with pytest.raises(BadInput, match="baseline: expected either a baseline or a base"):
        harness.check(tmp_path / "s.yaml")
    assert set(report_writer.FORMATS) == {"csv", "md", "tex", "svg", "pdf", "png", "html"}


# Where it runs


@pytest.mark.exhaustive
def test_a_script_needs_no_main_guard_and_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    suite = make_suite(tmp_path / "suite")
    code = """
import os, pathlib, signal, sqlite3, threading, time
import harness

spec = {
    "suite": "long", "seeds": 6, "timing": {"enabled": False},
    "objectives": {"quadratic_2d": {"steps": 150}},
    "optimizers": {"l": {"class": "torch.optim:LBFGS", "hyperparameters": {"lr": [0.1, 0.2]}}},
}

def interrupt():
    store = pathlib.Path("reports/long/results.sqlite")
    while True:
        time.sleep(0.02)
        try:
            db = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
            done = db.execute("SELECT count(*) FROM trials").fetchone()[0]
            db.close()
        except sqlite3.Error:
            continue
        if done:
            os.kill(os.getpid(), signal.SIGINT)
            return

threading.Thread(target=interrupt, daemon=True).start()
try:
    harness.run(spec, workers=1)
except KeyboardInterrupt:
    done = harness.run(spec, progress=False)
    assert 0 < done.trained < 12, done.trained
    assert done.statuses == {"ok": 12}
    print("went on")
"""
    done = python(code, suite)
    assert done.stdout == "went on\n", done.stderr
    assert "training: cut short" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.exhaustive
def test_a_notebook_shows_the_answer_and_the_figures_in_place(
    both: tuple[Path, Path, report_objects.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, by_call, _ = both
    suite = tmp_path / "suite"
    shutil.copytree(by_call, suite)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(suite)
    cells = [
        "import harness\n\nresult = harness.run(\n"
        '    "spec.yaml", seeds=4, only="objective=quad*", timing=False\n)\nresult',
        'result.figures["overview"]',
        "result.curves.tail(3)",
        'result.tables["final_loss"]',
        "harness.names()",
        'harness.run("spec.yml")',
    ]
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    )
    NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    ran, figure, frame, table, names, wrong = ([*cell.outputs] for cell in notebook.cells)
    told, shown = ran  # nothing on standard error
    assert told.output_type == "display_data"
    assert "training 3 trials in" in told.data["text/plain"]
    assert "<small>checking 3 cases in" in told.data["text/html"]
    answer = shown.data["text/html"]
    stored = harness.read(suite / "spec.yaml")
    assert answer.count("data:image/svg+xml;base64,") == len(stored.figures) > 5
    assert all(sentence.split("'")[0] in answer for sentence in stored.sentences)
    assert "<h4>Summary</h4>" in answer
    assert figure[0].data["image/svg+xml"] == stored.figures["overview"].svg
    assert "<table" in frame[0].data["text/html"]
    assert table[0].data["text/html"] == stored.tables["final_loss"].to_html()
    assert "quadratic_2d" in names[0].data["text/plain"]
    assert wrong[0].output_type == "error"
    assert wrong[0].traceback == ["BadInput: spec.yml: no such file; did you mean 'spec.yaml'?"]
    for outputs in (ran, figure, frame, table, names):
        assert all(output.output_type != "stream" for output in outputs)


def test_the_schema_is_that_of_the_file_and_names_are_those_of_the_suite(tmp_path: Path) -> None:
    assert harness.schema() == json.loads((ROOT / "harness/spec/schema.json").read_text())
    known = harness.names(make_suite(tmp_path / "suite"))
    assert list(known.optimizers) == ["SGD"]
    assert known.datasets == {"rows": "Eight points on a line."}
    assert "quadratic_2d" in known.shipped
    assert "Adam" in known.torch


@pytest.mark.parametrize("width", [80, 100])
def test_no_help_is_cut(width: int) -> None:
    context = click.Context(cli.main, terminal_width=width)
    for command in (cli.main, *cli.main.commands.values()):
        text = command.get_help(click.Context(command, info_name=command.name, parent=context))
        lines = [line for line in text.splitlines() if not line.startswith("Usage: ")]
        assert not [line for line in lines if line.rstrip().endswith("...")]
        assert max(map(len, lines)) <= width
        for option in command.params:
            if isinstance(option, click.Option) and option.help:
                assert option.help.split()[-1] in text


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = "{'torch', 'numpy', 'pandas', 'matplotlib', 'pydantic', 'yaml'} & {*sys.modules}"
    code = f"import sys, harness.cli; print(sorted({heavy}))"
    assert python(code, tmp_path).stdout == "[]\n"


@pytest.mark.parametrize("screen", ["", ":0"])
def test_a_page_is_opened_where_there_is_a_screen(
    screen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []

    def opens(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", opens)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    if screen:
        monkeypatch.setenv("DISPLAY", screen)
    cli._open(Path("/a page.html"))
    assert opened == (["file:///a%20page.html"] if screen else [])
    assert capsys.readouterr().err == ("" if screen else "note: no browser could be opened\n")
