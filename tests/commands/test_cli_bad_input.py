"""Bad input through the command line: a clear line, exit status 2, nothing written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import InProcess, tree
from click.testing import CliRunner, Result

from harness.cli import main

ROOT = Path(__file__).resolve().parents[2]

SGD = """
import torch

class SGD(torch.optim.Optimizer):
    def __init__(self, params, lr):
        if not lr >= 0:
            raise ValueError(f"lr must be 0 or more, got {lr}")
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for x in group["params"]:
                    x -= group["lr"] * x.grad
"""
SPEC = """\
suite: s
seeds: 2
objectives:
  bowl: {class: quadratic_2d, steps: 3}
optimizers:
  o: {class: SGD, hyperparameters: {lr: 0.1}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "sgd.py").write_text(SGD)
    # Else run imports them in a thread that outlives the test.
    import harness.reporting.figures.draw
    import harness.reporting.write  # noqa: F401

    monkeypatch.setattr("harness.commands.run.Pool", InProcess)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(folder: Path, *arguments: str) -> Result:
    """Run the command line here; whatever it is, nothing may be written."""
    before = tree(folder)
    result = CliRunner().invoke(main, list(arguments))
    assert tree(folder) == before
    assert not (folder / "reports").exists()
    return result


def complaints(folder: Path, *arguments: str) -> list[str]:
    """What a command that must refuse says on standard error."""
    result = call(folder, *arguments)
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert lines
    assert all(line.isprintable() for line in lines)
    return lines


RAW: list[tuple[str, bytes, str]] = [
    ("empty", b"", "spec.yaml: the file is empty, expected a spec"),
    ("comments", b"# none\n# at all\n", "spec.yaml: the file is empty, expected a spec"),
    ("not UTF-8", b"suite: \xe9\n", "spec.yaml:1:8: is not valid UTF-8: byte 0xe9"),
    ("UTF-16", SPEC.encode("utf-16"), "spec.yaml:1:1: is not valid UTF-8: byte 0xff"),
    ("NUL bytes", b"suite: a\x00b\n", "spec.yaml:1:9: character U+0000 is not allowed"),
    ("binary", bytes(range(256)), "spec.yaml:"),
    ("broken", b"suite: [a\nseeds: 1\n", "spec.yaml:2:6: not valid YAML: expected ',' or ']'"),
    ("tabs", b"suite:\n\ta: 1\n", "spec.yaml:2:1: not valid YAML: a tab, expected spaces"),
    ("documents", b"a: 1\n---\nb: 1\n", "spec.yaml:2:1: not valid YAML: a second document begins"),
    ("duplicate", b"a: {b: 1, b: 2}\n", "spec.yaml:1:11: a.b: duplicate key, first at line 1"),
    (
        "python tag",
        b"suite: !!python/object/apply:os.system ['touch owned']\n",
        "spec.yaml:1:8: suite: tag '!!python/object/apply:os.system' is not allowed",
    ),
    ("own tag", b"suite: !include x.yaml\n", "spec.yaml:1:8: suite: tag '!include' is not allowed"),
    ("itself", b"a: &a [*a]\n", "spec.yaml:1:4: a.0.0.0: values nest deeper than 32 levels"),
    ("nesting", b"[" * 10_000, "values nest deeper than 32 levels"),
    ("2 MB", b"a: 1\n" * 400_000, "spec.yaml: too long, a spec has at most 500,000 bytes"),
    ("a list", b"- a\n- b\n", "spec.yaml:1:1: expected a mapping with 'suite', 'objectives' and"),
    ("a word", b"hello\n", "spec.yaml:1:1: expected a mapping with 'suite', 'objectives' and"),
    ("escapes", b'"\\e[31m": 1\n', r"spec.yaml:1:1: \x1b[31m: character U+001B is not allowed"),
    (
        "laughs",
        b"a: &a [x]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9))
            for i in range(9)
        ),
        "the file expands to more than 50,000 values",
    ),
]


@pytest.mark.parametrize("command", ["run", "validate"])
@pytest.mark.parametrize(("raw", "message"), [r[1:] for r in RAW], ids=[r[0] for r in RAW])
def test_a_file_that_is_no_spec_is_refused(
    folder: Path, command: str, raw: bytes, message: str
) -> None:
    (folder / "spec.yaml").write_bytes(raw)
    assert message in "\n".join(complaints(folder, command, "spec.yaml"))


@pytest.mark.parametrize("command", ["run", "validate"])
def test_a_path_that_is_no_file_is_refused(folder: Path, command: str) -> None:
    assert complaints(folder, command, "nope.yaml") == ["nope.yaml: no such file"]
    assert complaints(folder, command, "no/such/folder.yaml") == [
        "no/such/folder.yaml: no such file"
    ]
    assert complaints(folder, command, "optimizers") == [
        "optimizers: this is a directory, expected a YAML file"
    ]
    assert "can't be read" in complaints(folder, command, "x" * 300)[0]
    (folder / "spec.yaml").write_text(SPEC)
    assert complaints(folder, command, "sepc.yaml") == [
        "sepc.yaml: no such file; did you mean 'spec.yaml'?"
    ]
    assert complaints(folder, command, "bad\x1b[31m.yaml") == [r"bad\x1b[31m.yaml: no such file"]


@pytest.mark.parametrize("command", [["run", "-q"], ["run", "--dry-run"], ["validate"]])
def test_all_mistakes_are_printed_in_the_files_order_and_counted(
    folder: Path, command: list[str]
) -> None:
    (folder / "spec.yaml").write_text(
        SPEC.replace("seeds: 2", "sedes: 2")
        .replace("steps: 3", "steps: .nan")
        .replace("lr: 0.1", "lr: -1")
        + "  p: {class: Sgd}\n  '<b>': {class: SGD}\n"
    )
    lines = complaints(folder, *command, "spec.yaml")
    assert lines == [
        "spec.yaml:2:1: sedes: unknown key; did you mean 'seeds'?",
        "spec.yaml:4:38: objectives.bowl.steps: expected a whole number, got .nan",
        "spec.yaml:6:41: optimizers.o.hyperparameters.lr: SGD refuses this: ValueError: "
        "lr must be 0 or more, got -1 (optimizers/sgd.py:7)",
        "spec.yaml:7:14: optimizers.p.class: no optimizer 'Sgd' in optimizers/; "
        "did you mean 'SGD'?",
        "spec.yaml:8:3: optimizers.<b>: expected a name that can be a file name: at most 64 "
        "letters, digits, '.', '_' and '-', starting with a letter or digit, not ending with '.', "
        "got '<b>'",
        "5 mistakes.",
    ]


@pytest.mark.parametrize("command", [["run", "-q"], ["run", "--dry-run"], ["validate"]])
def test_a_spec_of_which_every_objective_is_wrong_is_refused_like_any_other(
    folder: Path, command: list[str]
) -> None:
    (folder / "datasets").mkdir()
    (folder / "datasets" / "rows.py").write_text("def load():\n    return None\n")
    bowl = "bowl: {class: linear_regression, dataset: rows, steps: 3}"
    text = SPEC.replace("bowl: {class: quadratic_2d, steps: 3}", bowl)
    (folder / "spec.yaml").write_text(text)
    assert complaints(folder, command[0], "spec.yaml", *command[1:])[0] == (
        "spec.yaml:4:45: objectives.bowl.dataset: no dataset 'rows' in datasets/ (known: load)"
    )


def test_what_yaml_alone_shows_hides_no_other_mistake(folder: Path) -> None:
    (folder / "spec.yaml").write_text(
        """\
suite: s
seeds: 2
seeds: 0
devices: [cpu, tpu, cpu]
objectives:
  bowl: {class: quadratic2d, steps: 1e400}
optimizers:
  o: {class: SGD, hyperparameters: {lr: -1}}
  p: {class: SGD, hyperparameters: {lr: 0.1, momntum: 0.9}}
  q: {class: !own SGD, hyperparameters: {lr: [0.1, 0.1, .nan, 0.1]}}
claims:
  - {value: "1", source: "", optimizer: pp, objective: bowl}
"""
    )
    lines = complaints(folder, "validate", "spec.yaml")
    assert [line.removeprefix("spec.yaml:").partition(": ")[0] for line in lines[:-1]] == [
        *("3:1", "4:16", "4:21", "6:17", "6:37", "8:41", "9:46", "10:14", "10:52", "10:57"),
        *("10:63", "12:26", "12:41"),
    ]
    assert lines[6] == (
        "spec.yaml:9:46: optimizers.p.hyperparameters.momntum: SGD takes no argument 'momntum' "
        "(known: lr)"
    )


UNREADABLE = [
    ("seeds:2\na: 1\n", "1:7: not valid YAML: expected a space after the ':'"),
    ("a:\n  b:1\n  c: 2\n", "2:5: not valid YAML: expected a space after the ':'"),
    ("a: {b: 1\nc: 2\n", "2:2: not valid YAML: expected ',' or '}' to continue the mapping that "),
    ("a: [1, 2\n", "1:4: not valid YAML: the bracket that starts here is never closed"),
    ("a: 1\n b: 2\n", "2:3: not valid YAML: this ':' can't be here"),
    ("a:\n  b: 1\n   c: 2\n", "3:5: not valid YAML: this ':' can't be here"),
    ("a:\n  b: 1\n c: 2\n", "3:2: not valid YAML: not aligned with the block that begins at "),
    ("a: @b\n", "1:4: not valid YAML: text that starts with this character needs quotes"),
]


@pytest.mark.parametrize(("text", "message"), UNREADABLE)
def test_what_is_no_yaml_is_explained_in_plain_words(folder: Path, text: str, message: str) -> None:
    (folder / "spec.yaml").write_text(text)
    (line,) = complaints(folder, "validate", "spec.yaml")
    assert line.startswith(f"spec.yaml:{message}")


def test_what_the_command_line_gives_wrongly_is_placed_there(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC)
    lines = complaints(folder, "run", "spec.yaml", "-q", "--set", "lr=-1")
    assert lines == [
        "--set lr=-1: SGD refuses this: ValueError: lr must be 0 or more, got -1 "
        "(optimizers/sgd.py:7)"
    ]


@pytest.mark.parametrize(
    "name", ["../x", "/abs", "a/b", "..", "CON", "a.", "x" * 300, "<script>", "a\x1bb"]
)
def test_a_suites_name_can_not_leave_the_output_folder(folder: Path, name: str) -> None:
    (folder / "spec.yaml").write_text(
        SPEC.replace("suite: s", f'suite: "{name}"'.replace("\x1b", r"\e"))
    )
    (line,) = complaints(folder, "run", "-q", "spec.yaml")
    assert line.startswith("spec.yaml:1:8: suite: ")


def test_a_grid_without_bound_is_refused_soon(folder: Path) -> None:
    grid = ", ".join(f"h{i}: [0, 1]" for i in range(50))
    (folder / "spec.yaml").write_text(SPEC.replace("lr: 0.1", grid))
    (line,) = complaints(folder, "run", "spec.yaml")
    assert "optimizers.o: its grid on 'bowl' has 1,125,899,906,842,624 settings" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0"], "--seeds"),
        (["--seeds", "-1"], "--seeds"),
        (["--seeds", "many"], "--seeds"),
        (["--seeds", "1.5"], "--seeds"),
        (["--devices", ""], "--devices: '' is not a device"),
        (["--devices", "gpu"], "--devices: 'gpu' is not a device"),
        (["--devices", "cpu,\x1b[2J"], r"--devices: '\x1b[2J' is not a device"),
        (["--only", "o"], "--only o: expected optimizer=, objective=, setting= or device="),
        (["--only", "optimizer=x"], "--only optimizer=x: 'x' matches no optimizer (known: o)"),
        (["--only", "optimzer=o"], "did you mean 'optimizer'?"),
        (["--nonsense"], "No such option"),
        (["another.yaml"], "unexpected extra argument"),
    ],
)
@pytest.mark.parametrize("command", ["run", "validate"])
def test_options_that_make_no_sense_are_refused(
    folder: Path, command: str, options: list[str], message: str
) -> None:
    (folder / "spec.yaml").write_text(SPEC)
    assert message in "\n".join(complaints(folder, command, "spec.yaml", *options))


@pytest.mark.parametrize("output", ["taken", "taken/below"])
def test_an_output_that_is_a_file_is_refused_and_left_as_it_is(folder: Path, output: str) -> None:
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "taken").write_text("mine")
    (line,) = complaints(folder, "run", "-q", "spec.yaml", "--output", output)
    assert line.startswith(f"{output}: ")


def test_a_command_without_its_spec_says_so(folder: Path) -> None:
    for command in ("run", "validate"):
        assert "Missing argument 'SPEC'" in "\n".join(complaints(folder, command))
    assert call(folder, "nonsense").exit_code == 2


def test_list_and_report_refuse_what_is_not_there(folder: Path) -> None:
    assert complaints(folder, "list", "nowhere") == ["nowhere: no such folder or spec"]
    for results in ("nowhere", "nowhere.yaml", "optimizers"):
        assert complaints(folder, "report", results)


def test_a_good_spec_passes_all_of_these_checks(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC)
    result = call(folder, "validate", "spec.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "spec.yaml: no mistakes; 1 case, 2 seeds: 2 trials.\n"
    result = call(folder, "run", "--dry-run", "spec.yaml", "--seeds", "5", "--only", "optimizer=o")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1 case, 5 seeds: 5 trials." in result.stdout
    assert "\nTiming: 1 case, 40 rounds of up to 20 steps, at most" in result.stdout


WAYS_OUT = {
    "fine.py": SGD.replace("class SGD", "class Fine"),
    "raises.py": "\nraise ValueError('own\\nlast line')\nclass Raises: ...\n",
    "imports.py": "import nowhere_at_all\nclass Imports: ...\n",
    "syntax.py": "class Syntax:\n    pass\nclass (\n",
    "leaves.py": "import sys\nsys.exit('bye')\nclass Leaves: ...\n",
    "stops.py": "raise KeyboardInterrupt\nclass Stops: ...\n",
    "prints.py": "print('to standard output')\n" + SGD.replace("class SGD", "class Prints"),
    "twice.py": "class Twice: ...\n",
    "again.py": "class Twice: ...\n",
    "dies.py": "import os\nos._exit(7)\nclass Dies: ...\n",
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    (folder / "optimizers").mkdir()
    for name, text in WAYS_OUT.items():
        (folder / "optimizers" / name).write_text(text)
    return folder


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a process with a real worker."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_suite_whose_files_fail_to_import_is_refused_with_the_place_of_each(real: Path) -> None:
    text = SPEC.replace("o: {class: SGD, hyperparameters: {lr: 0.1}}", "o: {class: Raises}")
    for name in ("Imports", "Syntax", "Leaves", "Stops", "Twice"):
        text += f"  {name}: {{class: {name}}}\n"
    text += "  p: {class: Prints, hyperparameters: {lr: -1}}\n"
    (real / "spec.yaml").write_text(text)
    before = tree(real)
    result = harness(real, "run", "-q", "spec.yaml")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    note, *lines = result.stderr.splitlines()
    assert note.startswith("note: the suite's code printed 1 line: ")
    assert Path(note.rpartition(" ")[2]).read_text() == "to standard output\n"
    assert lines == [
        "spec.yaml:6:14: optimizers.o.class: can't be imported: ValueError: own\\nlast line "
        "(optimizers/raises.py:2)",
        "spec.yaml:7:20: optimizers.Imports.class: can't be imported: ModuleNotFoundError: "
        "No module named 'nowhere_at_all' (optimizers/imports.py:1)",
        "spec.yaml:8:19: optimizers.Syntax.class: no optimizer 'Syntax' in optimizers/ (known: "
        "Dies, Fine, Imports, Leaves, Prints, Raises, Stops, Twice); "
        "optimizers/syntax.py:3: SyntaxError: invalid syntax",
        "spec.yaml:9:19: optimizers.Leaves.class: can't be imported: SystemExit: bye "
        "(optimizers/leaves.py:2)",
        "spec.yaml:10:18: optimizers.Stops.class: can't be imported: KeyboardInterrupt "
        "(optimizers/stops.py:1)",
        "spec.yaml:11:18: optimizers.Twice.class: 'Twice' is in several files; "
        "choose one: optimizers/again.py:Twice, optimizers/twice.py:Twice",
        "spec.yaml:12:44: optimizers.p.hyperparameters.lr: Prints refuses this: ValueError: "
        "lr must be 0 or more, got -1 (optimizers/prints.py:8)",
        "7 mistakes.",
    ]
    assert tree(real) == before


def test_a_suite_that_ends_its_process_is_refused(real: Path) -> None:
    (real / "spec.yaml").write_text(
        SPEC.replace("SGD", "Dies").replace("seeds: 2", "seeds: 0").replace("lr: 0.1", "")
    )
    before = tree(real)
    result = harness(real, "run", "-q", "spec.yaml")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert lines[1] == "spec.yaml:2:8: seeds: expected at least 1 seed, got 0"
    assert re.match(r"spec\.yaml:1:1: loading the suite's code failed: .*status 7$", lines[0])
    assert tree(real) == before
