"""What a suite's code really reads is part of what makes a result known, and nothing else is."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.commands import run as running
from harness.commands.run import RunOptions
from harness.progress import NullProgress
from harness.provenance import opened_files
from harness.provenance.opened_files import Opened

SGD = "(torch.optim.SGD): pass\n"
FILES = {
    # Each optimizer reads something in a way of its own.
    "optimizers/beside.py": f"""
import json, torch
from pathlib import Path
RATE = json.loads(Path(__file__).with_suffix(".json").read_text())
class Beside{SGD}""",
    "optimizers/beside.json": "1",
    "optimizers/absolute.py": f"import torch\nfrom optimizers.helper import X\nclass Absolute{SGD}",
    "optimizers/helper.py": "X = 1\n",
    "optimizers/path.py": f"""
import sys, torch
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent.parent / "hidden"))
import hidden_helper
class Path1{SGD}""",
    "optimizers/path_again.py": f"""
import sys, torch
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent.parent / "hidden"))
import hidden_helper
class Path2{SGD}""",
    "hidden/hidden_helper.py": "import hidden_deeper\n",
    "hidden/hidden_deeper.py": "X = 1\n",
    "optimizers/dynamic.py": f"""
import importlib, torch
importlib.import_module("of_a_name_made" + "_up")
class Dynamic{SGD}""",
    "lib/of_a_name_made_up.py": "X = 1\n",
    "optimizers/executed.py": f"""
import torch
from pathlib import Path
exec((Path(__file__).parent / "code.txt").read_text())
class Executed{SGD}""",
    "optimizers/code.txt": "X = 1\n",
    "optimizers/optional.py": f"""
import torch
from pathlib import Path
try:
    open(Path(__file__).with_suffix(".cfg"))
except OSError:
    pass
class Optional{SGD}""",
    "optimizers/nothing.py": f"import torch\nclass Nothing{SGD}",
    "lib/spaced/inner.py": f"import torch\nclass Spaced{SGD}",
    "lib/spaced/other.py": "X = 1\n",
    "lib/sibling.py": f"import torch, sibling_helper\nclass Sibling{SGD}",
    "lib/sibling_helper.py": "X = 1\n",
    "lib/one/__init__.py": "",
    "lib/one/opt.py": f"""
import torch, two.const
from pathlib import Path
(Path(__file__).parent / "rates.txt").read_text()
class Packaged{SGD}""",
    "lib/one/rates.txt": "1",
    "lib/two/__init__.py": "",
    "lib/two/const.py": "X = 1\n",
    "objectives/fit.py": """
from harness import Objective
import torch
class Fit(Objective):
    def __init__(self, dataset):
        self.data = (torch.from_numpy(dataset.features),)
    def init(self, generator):
        return {"w": torch.randn(2, generator=generator)}
    def loss(self, params, batch):
        return (batch[0].to(params["w"].dtype) @ params["w"]).square().mean()
""",
    "datasets/far.py": """
import sqlite3
from pathlib import Path
import numpy as np
from harness import Dataset
HERE = Path(__file__).parent.parent / "elsewhere"
def far():
    sum(len(p.name) for p in HERE.glob("*.part"))
    sqlite3.connect(HERE / "table.sqlite").execute("select * from t").fetchall()
    table = np.load(HERE / "table.npy")
    mapped = np.memmap(HERE / "mapped.bin", dtype=np.float64, mode="r")
    (HERE / "scratch.txt").write_text("1")
    (HERE / "scratch.txt").read_text()
    return Dataset(table, np.asarray(mapped), ("a", "b"), "c", "")
""",
}
SPEC = """\
suite: s
seeds: 1
timing: {enabled: false}
objectives:
  bowl: {class: sphere, steps: 2}
  Fit: {dataset: far, steps: 2}
optimizers:
  beside: {class: Beside}
  absolute: {class: Absolute}
  path1: {class: Path1}
  path2: {class: Path2}
  dynamic: {class: Dynamic}
  executed: {class: Executed}
  optional: {class: Optional}
  nothing: {class: Nothing}
  spaced: {class: "spaced.inner:Spaced"}
  sibling: {class: "sibling:Sibling"}
  packaged: {class: "one.opt:Packaged"}
include: [{objective: bowl}, {optimizer: nothing}]
"""
EVERYONE = {
    *("beside", "absolute", "path1", "path2", "dynamic", "executed", "optional", "nothing"),
    *("spaced", "sibling", "packaged"),
}


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    far = tmp_path / "elsewhere"
    far.mkdir()
    (far / "a.part").touch()
    np.save(far / "table.npy", np.ones((3, 2)))
    np.arange(3.0).tofile(far / "mapped.bin")
    with sqlite3.connect(far / "table.sqlite") as table:
        table.execute("create table t (x)")
    table.close()
    (tmp_path / "spec.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def keys(suite: Path) -> dict[str, str]:
    """The key of each optimizer's case on the bowl; and of the objective that has data."""
    plan, _ = running.validate(suite / "spec.yaml")
    found = {c.optimizer: c.key for c in plan.cases if c.objective.name == "bowl"}
    (fit,) = (o for o in plan.objectives if o.name == "Fit")
    return {**found, "Fit": fit.key}


CHANGES: list[dict[str, set[str]]] = [
    {
        "optimizers/beside.json": {"beside"},
        "optimizers/helper.py": {"absolute"},
        "hidden/hidden_helper.py": {"path1", "path2"},
        "lib/of_a_name_made_up.py": {"dynamic"},
        "elsewhere/table.npy": {"Fit"},
    },
    {
        "optimizers/code.txt": {"executed"},
        "optimizers/optional.cfg": {"optional"},
        "hidden/hidden_deeper.py": {"path1", "path2"},
        "lib/spaced/inner.py": {"spaced"},
        "elsewhere/mapped.bin": {"Fit"},
    },
    {
        "lib/sibling_helper.py": {"sibling"},
        "lib/one/rates.txt": {"packaged"},
        "elsewhere/table.sqlite": {"Fit"},
    },
    {"lib/two/const.py": {"packaged"}, "elsewhere/b.part": {"Fit"}},
    {"elsewhere/listed.txt": {"Fit"}},  # the folder's listing was read
    {"datasets/far.py": {"Fit"}},
    {name: set() for name in ("lib/spaced/other.py", "elsewhere/scratch.txt", "spec.md", "no.txt")},
]
"""Files that are changed at once, and the readers of each: no two have one in common."""


def test_a_change_of_what_is_read_changes_the_keys_of_its_readers_and_no_others(
    suite: Path,
) -> None:
    before = keys(suite)
    assert before.keys() == EVERYONE | {"Fit"}
    assert keys(suite) == before
    for readers in CHANGES:
        files = [suite / name for name in readers]
        earlier = [file.read_bytes() if file.exists() else None for file in files]
        for file in files:
            change(file)
        now = keys(suite)
        assert {name for name in before if now[name] != before[name]} == set().union(
            *readers.values()
        )
        for file, content in zip(files, earlier, strict=True):
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content)
    assert keys(suite) == before


def change(file: Path) -> None:
    if file.suffix == ".npy":
        np.save(file, np.zeros((3, 2)))
    elif file.suffix == ".bin":
        np.arange(1.0, 4.0).tofile(file)
    elif file.suffix == ".sqlite":
        with sqlite3.connect(file) as table:
            table.execute("insert into t values (1)")
        table.close()
    else:
        file.write_bytes((file.read_bytes() if file.exists() else b"") + b"\n")


def statuses(suite: Path) -> tuple[int, dict[str, float]]:
    """How many trials were run now, and the final losses."""
    done = running.run(suite / "spec.yaml", RunOptions(workers=1), NullProgress())
    table = done.curves.groupby("optimizer").loss.last()
    return done.trained, dict(table)


LAZY = """
import torch
from pathlib import Path
class Lazy(torch.optim.SGD):
    def step(self, closure=None):
        rate = float(Path(__file__).with_suffix(".txt").read_text())
        for group in self.param_groups:
            group["lr"] = rate
        return super().step(closure)
"""
LAZY_SPEC = """\
suite: s
seeds: 2
timing: {enabled: false}
objectives: {bowl: {class: sphere, steps: 3}}
optimizers: {lazy: {class: Lazy}, plain: {class: "torch.optim:SGD", hyperparameters: {lr: 0.1}}}
"""


def test_what_only_steps_read_is_seen_too_and_costs_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "write_report", lambda *_: tmp_path)
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "lazy.py").write_text(LAZY)
    rate = tmp_path / "optimizers" / "lazy.txt"
    rate.write_text("0.1")
    (tmp_path / "spec.yaml").write_text(LAZY_SPEC)
    trained, losses = statuses(tmp_path)
    assert trained == 4
    assert losses["lazy"] == pytest.approx(losses["plain"])
    assert statuses(tmp_path) == (0, losses)
    rate.write_text("0.2")
    trained, now = statuses(tmp_path)
    assert trained == 2
    assert now["plain"] == losses["plain"]
    assert now["lazy"] != losses["lazy"]
    rate.write_text("0.1")
    assert statuses(tmp_path) == (0, losses)  # which are known still


def test_what_can_not_be_watched_is_named(tmp_path: Path) -> None:
    (tmp_path / "optimizers").mkdir()
    code = "import subprocess, torch\nsubprocess.run(['true'])\nclass Asks(torch.optim.SGD): pass\n"
    (tmp_path / "optimizers" / "asks.py").write_text(code)
    (tmp_path / "spec.yaml").write_text(LAZY_SPEC.replace("Lazy", "Asks"))
    _, checked = running.validate(tmp_path / "spec.yaml")
    assert checked.notes == (
        "optimizers/asks.py starts a process, which the key of a stored result does not cover",
    )


def test_what_was_seen_is_kept_and_read_back(tmp_path: Path) -> None:
    seen = Opened(
        frozenset({("/s/optimizers/a.py", "12", "/s/a.json"), ("/lib/b.py", "34", "/d/x.csv")}),
        frozenset({("b", "/lib/b.py")}),
    ).of(Path("/s"))
    assert seen.by("optimizers/a.py", "12") == ["a.json"]
    assert seen.by("optimizers/a.py", "13") == []  # it is other code now
    opened_files.save(tmp_path, seen)
    assert opened_files.load(tmp_path) == seen
    (tmp_path / opened_files.FILE_NAME).write_text('{"edges": [[1]]}')
    assert opened_files.load(tmp_path) == Opened()
    opened_files.save(tmp_path, Opened())
    assert not (tmp_path / opened_files.FILE_NAME).exists()


def test_a_watch_notes_who_reads_and_not_what_the_process_wrote_itself(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from harness.provenance import opened_files as opened
watch = opened.watch()
import reader
assert watch.has_more and not watch.has_more
for reader_file, digest, read in sorted(watch.seen().edges):
    print(reader_file.rpartition("/")[2], len(digest), read.rpartition("/")[2])
"""
    (tmp_path / "reader.py").write_text(
        "from pathlib import Path\nimport json\nhere = Path(__file__).parent\n"
        "(here / 'made.txt').write_text('1')\n(here / 'made.txt').read_text()\n"
        "(here / 'given.txt').read_text()\nopen('/etc/hostname').read()\n"
    )
    (tmp_path / "given.txt").touch()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["reader.py 64 given.txt"]
