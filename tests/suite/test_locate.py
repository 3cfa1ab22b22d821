"""A suite is a folder: loaded by path, under private names, beside anybody's packages."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from harness.errors import BadInput
from harness.objectives.dataset import Dataset
from harness.suite import locate as suite
from harness.suite.listing import names
from harness.suite.locate import ImportTarget, NotFound, Section, SuiteError, locate

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(textwrap.dedent(text))
    return folder


def load_error(reference: str, folder: Path, section: Section = "optimizers") -> str:
    with pytest.raises(SuiteError) as caught:
        locate(reference, folder, section).load()
    return str(caught.value)


def not_found(reference: str, folder: Path, section: Section = "optimizers") -> str:
    with pytest.raises(NotFound) as caught:
        locate(reference, folder, section)
    return str(caught.value)


def python(code: str, *, cwd: Path, path: list[Path]) -> str:
    """Run code in a fresh interpreter whose import path starts with some folders."""
    completed = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        cwd=cwd,
        env={"PYTHONPATH": ":".join(map(str, [*path, ROOT])), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_the_three_ways_to_name_a_thing_find_the_same_class(tmp_path: Path) -> None:
    write(tmp_path, {"optimizers/plain.py": "class Plain:\n    pass\n"})
    by_name = locate("Plain", tmp_path, "optimizers")
    by_file = locate("optimizers/plain.py:Plain", tmp_path, "optimizers")
    assert by_name.file == by_file.file == tmp_path / "optimizers" / "plain.py"
    assert by_name.load() is by_file.load()
    assert locate("./optimizers/plain.py:Plain", tmp_path, "optimizers").load() is by_name.load()
    by_module = locate("collections.abc:Mapping", tmp_path, "optimizers")
    assert by_module.load() is __import__("collections").abc.Mapping
    assert locate("json:decoder.JSONDecoder", tmp_path, "optimizers").load().__module__


def test_finding_a_name_runs_none_of_the_suites_code(tmp_path: Path) -> None:
    write(tmp_path, {"optimizers/bomb.py": "raise SystemExit('ran')\nclass Bomb: ...\n"})
    assert locate("Bomb", tmp_path, "optimizers").attribute == "Bomb"
    assert suite.names_in(tmp_path, "optimizers").keys() == {"Bomb"}


def test_files_of_a_suite_import_each_other_relatively(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "optimizers/common.py": "x = 1\n",
            "optimizers/deep/inner.py": "y = 2\n",
            "optimizers/user.py": """
                from . import common
                from .common import x
                from .deep.inner import y
                from ..datasets.table import table
                class User:
                    parts = (common.x, x, y, table())
            """,
            "datasets/table.py": "def table(): return 'rows'\n",
        },
    )
    assert locate("User", tmp_path, "optimizers").load().parts == (1, 1, 2, "rows")


def test_a_suites_folders_never_become_top_level_packages(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "optimizers/own.py": "from ..datasets.own import value\nclass Own: value = value\n",
            "datasets/own.py": "value = 5\n",
        },
    )
    out = python(
        f"""
        import sys
        from pathlib import Path
        from harness.suite.locate import locate
        print(locate("Own", Path({str(tmp_path)!r}), "optimizers").load().value)
        names = ("datasets", "optimizers", "objectives")
        print([m for m in sys.modules if m.partition(".")[0] in names])
        print([m for m in sys.modules if "own" == m.rpartition(".")[2] and m[:7] != "_suite_"])
        """,
        cwd=tmp_path,
        path=[],
    )
    assert out.split("\n")[:3] == ["5", "[]", "[]"]


def test_an_installed_package_of_the_same_name_is_not_shadowed(tmp_path: Path) -> None:
    site = write(
        tmp_path / "site",
        {"datasets/__init__.py": "origin = 'installed'\n", "optimizers/__init__.py": "o = 1\n"},
    )
    folder = write(
        tmp_path / "suite",
        {
            "optimizers/own.py": """
                import datasets
                import optimizers
                from ..datasets.table import origin as own
                class Own: origins = (datasets.origin, optimizers.o, own)
            """,
            "datasets/table.py": "origin = 'suite'\n",
        },
    )
    out = python(
        f"""
        from pathlib import Path
        from harness.suite.locate import locate
        folder = Path({str(folder)!r})
        print(locate("Own", folder, "optimizers").load().origins)
        print(locate("datasets:origin", folder, "datasets").load())
        """,
        cwd=folder,
        path=[site],
    )
    assert out == "('installed', 1, 'suite')\ninstalled\n"


def test_two_suites_with_the_same_files_do_not_clash(tmp_path: Path) -> None:
    loaded = []
    for name in ("one", "two"):
        folder = write(
            tmp_path / name,
            {
                "optimizers/same.py": "from .helper import word\nclass Same: said = word\n",
                "optimizers/helper.py": f"word = {name!r}\n",
            },
        )
        loaded.append(locate("Same", folder, "optimizers").load())
    assert [cls.said for cls in loaded] == ["one", "two"]
    assert loaded[0].__module__ != loaded[1].__module__


def test_loading_leaves_nothing_in_the_suites_folders(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"optimizers/a.py": "from .b import x\nclass A: ...\n", "optimizers/b.py": "x = 1\n"},
    )
    before = sorted(tmp_path.rglob("*"))
    flag = sys.dont_write_bytecode
    locate("A", tmp_path, "optimizers").load()
    assert sorted(tmp_path.rglob("*")) == before
    assert sys.dont_write_bytecode is flag


FAILING = [
    ("import nowhere_at_all\nclass X: ...\n", "ModuleNotFoundError: No module named", ":1"),
    ("\n\nraise ValueError('first\\nlast')\nclass X: ...\n", "last", ":3"),
    ("def f(): 1 / 0\n\nf()\nclass X: ...\n", "ZeroDivisionError: division by zero", ":1"),
    ("import sys\nsys.exit(3)\nclass X: ...\n", "SystemExit: 3", ":2"),
    ("raise KeyboardInterrupt\nclass X: ...\n", "KeyboardInterrupt", ":1"),
    ("class E(BaseException): ...\nraise E('own')\nclass X: ...\n", "E: own", ":2"),
    ("import json\njson.loads('{')\nclass X: ...\n", "JSONDecodeError: Expecting property", ":2"),
    ("def f(): f()\nf()\nclass X: ...\n", "RecursionError: maximum recursion depth", ":1"),
    ("from .missing import y\nclass X: ...\n", "ModuleNotFoundError: No module named", ":1"),
    ("from . import missing\nclass X: ...\n", "ImportError: cannot import name 'missing'", ":1"),
    ("import ast\nast.literal_eval('1 +')\nclass X: ...\n", "SyntaxError: invalid syntax", ":2"),
    (
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E\nclass X: ...\n",
        "<exception str() failed>",
        ":3",
    ),
]


@pytest.mark.parametrize(("source", "message", "line"), FAILING)
def test_a_file_that_fails_to_import_says_its_last_line_and_its_place(
    tmp_path: Path, source: str, message: str, line: str
) -> None:
    write(tmp_path, {"optimizers/x.py": source})
    said = load_error("X", tmp_path)
    assert said.startswith("can't be imported: ")
    assert message in said
    assert said.endswith(f"(optimizers/x.py{line})")


def test_an_error_in_a_helper_is_placed_in_the_helper(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "optimizers/x.py": "from .helper import y\nclass X: ...\n",
            "optimizers/helper.py": "a = 1\nb = a +\n",
        },
    )
    assert load_error("X", tmp_path).endswith("invalid syntax (optimizers/helper.py:2)")


BROKEN: list[tuple[str | bytes, str]] = [
    ("class X:\n  pass\nclass Y(:\n", "optimizers/x.py:3: SyntaxError: invalid syntax"),
    (b"class X: ...\nx = '\xff'\n", "optimizers/x.py:2: SyntaxError"),
    (b"class X: ...\x00\n", "optimizers/x.py:1: "),
    ("x = " + "(" * 5000 + "\n", "optimizers/x.py:1: "),
]


@pytest.mark.parametrize(("source", "message"), BROKEN)
def test_a_file_that_is_no_python_is_named_where_its_name_is_missed(
    tmp_path: Path, source: str | bytes, message: str
) -> None:
    write(tmp_path, {"optimizers/x.py": source})
    said = not_found("X", tmp_path)
    assert said.startswith("no optimizer 'X' in optimizers/; ")
    assert message in said
    assert suite.names_in(tmp_path, "optimizers") == {}


def test_of_several_files_that_are_no_python_the_one_with_the_name_is_told(tmp_path: Path) -> None:
    broken: dict[str, str | bytes] = {
        "optimizers/a.py": "x = (\n",
        "optimizers/typo.py": "class Typo\n    pass\n",
    }
    write(tmp_path, broken)
    assert "optimizers/typo.py:1: SyntaxError" in (said := not_found("Typo", tmp_path))
    assert "a.py" not in said
    said = not_found("Other", tmp_path)
    assert "optimizers/a.py:1: " in said
    assert "optimizers/typo.py:1: " in said


def test_code_without_a_file_is_of_no_suite_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "def f():\n    exec('def g():\\n    1 / 0\\ng()')\nf()\n"
    write(tmp_path, {"optimizers/x.py": code + "class X: ...\n"})
    monkeypatch.chdir(tmp_path)  # where "<string>" would be a file of the suite
    said = load_error("X", tmp_path)
    assert said == "can't be imported: ZeroDivisionError: division by zero (optimizers/x.py:2)"


def test_a_misfit_is_placed_at_the_suites_class_where_its_method_is_the_harnesss(
    tmp_path: Path,
) -> None:
    code = """
from torch import nn
from harness import ModuleObjective

class Own(ModuleObjective):
    def module(self):
        return nn.Linear(2, 1)
    def criterion(self, output, labels):
        return output

class Loss(Own):
    def loss(self, params, batch):
        return 1.0
"""
    write(tmp_path, {"objectives/x.py": code})
    data = Dataset(np.ones((3, 2)), np.ones(3), ("a", "b"), "c", "")
    for name, line in (("Own", 5), ("Loss", 12)):
        made = suite.locate(name, tmp_path, "objectives").load()(data)
        error = suite.Misfit(made.loss, "no")
        assert suite.place_of(error, tmp_path) == f" (objectives/x.py:{line})"


def test_an_environment_in_a_suites_folder_is_not_the_suites_own(tmp_path: Path) -> None:
    library = ".venv/lib/python3/site-packages/boom_library.py"
    write(tmp_path, {library: "def boom():\n    1 / 0\n"})
    write(tmp_path, {"optimizers/x.py": "from boom_library import boom\nboom()\nclass X: ...\n"})
    sys.path.insert(0, str((tmp_path / library).parent))
    try:
        said = load_error("X", tmp_path)
    finally:
        sys.path.pop(0)
    assert said.endswith("division by zero (optimizers/x.py:2)")


def test_a_name_in_two_files_is_refused_with_both_ways_to_say_it(tmp_path: Path) -> None:
    write(tmp_path, {f"optimizers/{n}.py": "class X: ...\n" for n in ("a", "b")})
    assert not_found("X", tmp_path) == (
        "'X' is in several files; choose one: optimizers/a.py:X, optimizers/b.py:X"
    )
    assert locate("optimizers/b.py:X", tmp_path, "optimizers").load().__module__.endswith(".b")


def test_what_is_not_there_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "optimizers/sgd.py": "class SGD: ...\n",
            "datasets/d.py": "def airfoil(): ...\n",
            "objectives/o.py": "class Rosenbrock: ...\n",
        },
    )
    assert not_found("Sgd", tmp_path) == ("no optimizer 'Sgd' in optimizers/; did you mean 'SGD'?")
    assert not_found("airfol", tmp_path, "datasets").endswith("did you mean 'airfoil'?")
    assert not_found("quadratic2d", tmp_path, "objectives").endswith("mean 'quadratic_2d'?")
    assert not_found("rosenbrok", tmp_path, "objectives").endswith("did you mean 'Rosenbrock'?")
    assert not_found("optimizers/sdg.py:SGD", tmp_path).endswith("mean 'optimizers/sgd.py'?")
    assert not_found("sgd:SGD", tmp_path) == "no package 'sgd' is installed; did you mean 'SGD'?"
    assert not_found("__main__:X", tmp_path) == "no package '__main__' is installed"
    assert not_found("harness.objectives:Q", tmp_path).startswith("no module 'harness.objectives'")
    assert load_error("optimizers/sgd.py:Sgd", tmp_path) == (
        "'optimizers.sgd' has no 'Sgd'; did you mean 'SGD'?"
    )
    assert load_error("json:decoder.JSONDecode", tmp_path) == (
        "'json' has no 'JSONDecode'; did you mean 'JSONDecoder'?"
    )
    assert load_error("json.nope:X", tmp_path) == (
        "can't be imported: ModuleNotFoundError: No module named 'json.nope'"
    )


def test_a_file_outside_the_suite_is_refused_unless_a_link_in_it_leads_there(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "suite", {"optimizers/a.py": "class A: ...\n"})
    write(tmp_path, {"outside.py": "class B: ...\n"})
    for path in (f"{tmp_path}/outside.py", "x/../../outside.py", "../outside.py"):
        assert not_found(f"{path}:B", folder) == f"{path!r} is outside the suite's folder"
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    assert locate("link.py:B", folder, "optimizers").load().__name__ == "B"


def test_a_file_name_that_is_no_modules_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"optimizers/v1.2.py": "class A: ...\n"})
    why = "a module's name can't contain a dot"
    assert not_found("A", tmp_path) == f"'A' is in 'optimizers/v1.2.py'; {why}"
    assert not_found("optimizers/v1.2.py:A", tmp_path) == f"'optimizers/v1.2.py': {why}"


def test_a_modules_own_getattr_that_fails_is_reported(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"optimizers/lazy.py": "def __getattr__(name):\n    raise OSError('no disk')\n"},
    )
    assert load_error("optimizers/lazy.py:X", tmp_path) == (
        "'X' cannot be loaded: OSError: no disk (optimizers/lazy.py:2)"
    )


def test_hidden_files_and_odd_entries_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"optimizers/._a.py": b"\x00\x05", "optimizers/a.py": "class A: ...\n"})
    (tmp_path / "optimizers" / ".#a.py").symlink_to("nobody@nowhere")
    (tmp_path / "optimizers" / "folder.py").mkdir()
    assert suite.names_in(tmp_path, "optimizers").keys() == {"A"}
    assert not_found("B", tmp_path) == "no optimizer 'B' in optimizers/ (known: A)"


def test_a_string_that_python_warns_of_is_read_without_a_warning(tmp_path: Path) -> None:
    write(tmp_path, {"optimizers/a.py": 'PATTERN = "\\d"\nclass A:\n    """Does \\d."""\n'})
    assert suite.names_in(tmp_path, "optimizers").keys() == {"A"}


def test_what_a_file_imports_is_found_by_reading(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "optimizers/a.py": """
                import os.path, numpy as np
                from torch.optim import Adam
                from . import b
                from .deep import c
                from ..datasets.d import rows
                def f():
                    from .late import z
            """,
            "optimizers/b.py": "",
            "optimizers/late.py": "",
            "optimizers/deep/c.py": "",
            "datasets/d.py": "",
        },
    )
    files, packages = suite.imports_of(tmp_path / "optimizers" / "a.py", tmp_path)
    names = {str(f.relative_to(tmp_path)) for f in files}
    assert names == {
        "optimizers/b.py",
        "optimizers/late.py",
        "optimizers/deep/c.py",
        "datasets/d.py",
    }
    assert packages.keys() == {"os", "numpy", "torch"}


def test_the_list_names_what_a_spec_can_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "optimizers/a.py": 'class Mine:\n    """What it is.\n\n    More."""\n'
            "class _Hidden: ...\n",
            "datasets/d.py": "def rows():\n    '''Some rows.'''\n",
            "optimizers/broken.py": "class (",
            "s.yaml": "suite: s\n",
        },
    )
    text = str(names(tmp_path / "s.yaml"))
    assert text == str(names(tmp_path))
    lines = {" ".join(line.split()) for line in text.split("\n")}
    assert {"Mine What it is.", "rows Some rows."} <= lines
    assert any(line.startswith("quadratic_2d ") for line in lines)
    assert any(line.startswith("linear_regression ") for line in lines)
    assert "_Hidden" not in text
    assert {"Adagrad", "SGD", "LBFGS"} <= set(text.replace(",", " ").split())
    with pytest.raises(BadInput, match="no such folder or spec"):
        str(names(tmp_path / "none"))


def test_listing_imports_neither_torch_nor_the_suite(tmp_path: Path) -> None:
    write(tmp_path, {"optimizers/a.py": "raise SystemExit\nclass A: ...\n"})
    out = python(
        f"""
        import sys
        from pathlib import Path
        from harness.suite.listing import names
        names(Path({str(tmp_path)!r}))
        print("torch" in sys.modules)
        """,
        cwd=tmp_path,
        path=[],
    )
    assert out == "False\n"


def test_a_located_thing_can_be_sent_to_another_process(tmp_path: Path) -> None:
    import pickle

    write(tmp_path, {"optimizers/a.py": "class A: ...\n"})
    located = locate("A", tmp_path, "optimizers")
    again: ImportTarget = pickle.loads(pickle.dumps(located))
    assert again == located
    assert again.load() is located.load()
