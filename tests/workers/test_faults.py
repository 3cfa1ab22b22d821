"""Whatever an optimizer, an objective or a disk does, its own trials pay for it and no others."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from harness import progress
from harness.commands import run, validation
from harness.errors import BadInput
from harness.store import read
from harness.store.database import NoResults, Store
from harness.store.schema import SCHEMA_VERSION

Command = Callable[..., subprocess.CompletedProcess[str]]

LIMIT = 1.5
SEEDS, FAULTY = (2, 0, 3), 0
"""The second of the three starts on the right, which is where the faults lie in wait."""

OBJECTIVES = '''
import ctypes, os, time
import torch
from harness import Objective

class Bowl(Objective):
    """Elementwise, so that a trial's numbers are the same in any company, to the bit."""
    optimum = 0.0
    def init(self, generator):
        return {"x": torch.randn(2, generator=generator)}
    def loss(self, params, batch):
        x1, x2 = params["x"].unbind()
        return 0.1 * x1.square() + 2 * x2.square()

class NoLoss(Bowl):
    def loss(self, params, batch):
        raise ArithmeticError("there is no ground here")

class NoStart(Bowl):
    def init(self, generator):
        raise LookupError("nowhere to start")

class LossExits(Bowl):
    def loss(self, params, batch):
        os._exit(5)

class StartSegfaults(Bowl):
    def init(self, generator):
        ctypes.string_at(0)

class LossHoards(Bowl):
    def loss(self, params, batch):
        kept = []
        while True:
            kept.append(torch.ones(2**22))

class LossSleeps(Bowl):
    def loss(self, params, batch):
        time.sleep(1000)
'''

OPTIMIZERS = """
import ctypes, os, sys, time
import torch

class Fine(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, at=10**9):
        super().__init__(params, {"lr": lr})
        self.at, self.steps = at, 0
    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                if self.steps == self.at and p.reshape(-1, 2)[:, 0].gt(0).any():
                    self.fault()
                p.sub_(p.grad, alpha=group["lr"])
        return loss

class Same(Fine):
    pass

class Mixes(Fine):
    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        for p in self.param_groups[0]["params"]:
            p.sub_(p.grad / p.grad.norm(), alpha=0.1)
        return loss

class Raises(Fine):
    def fault(self):
        raise RuntimeError("boom")

class NaN(Fine):
    def fault(self):
        for p in self.param_groups[0]["params"]:
            x = p.reshape(-1, 2)
            x[x[:, 0] > 0] = float("nan")

class Sleeps(Fine):
    def fault(self):
        time.sleep(1000)

class Loops(Fine):
    def fault(self):
        while True:
            pass

class Exits(Fine):
    def fault(self):
        os._exit(7)

class SysExits(Fine):
    def fault(self):
        sys.exit(3)

class Segfaults(Fine):
    def fault(self):
        ctypes.string_at(0)

HOARD = []

class Hoards(Fine):
    def fault(self):
        while True:
            HOARD.append(torch.ones(2**22))

class HoardsBytes(Fine):
    def fault(self):
        kept = []
        while True:
            kept.append(bytearray(2**24))

class Deaf(Fine):
    def fault(self):
        os.closerange(3, 100)
        time.sleep(1000)
"""

FAULTS = {
    "raises": ("Raises", 3),
    "raises_late": ("Raises", 20),
    "nan": ("NaN", 5),
    "sleeps": ("Sleeps", 4),
    "loops": ("Loops", 20),
    "exits": ("Exits", 6),
    "sys_exits": ("SysExits", 7),
    "segfaults": ("Segfaults", 20),
    "hoards": ("Hoards", 8),
    "hoards_bytes": ("HoardsBytes", 9),
    "deaf": ("Deaf", 18),
}
SOUND = """
  fine: {class: Fine}
  mixes: {class: Mixes}
  lbfgs: {class: torch.optim:LBFGS}
  adam: {class: torch.optim:Adam, hyperparameters: {lr: [0.1, 0.5]}}
"""


def spec(optimizers: str, objectives: str = "") -> str:
    return f"""
suite: faults
seeds: {list(SEEDS)}
limits: {{seconds: {LIMIT}, memory_gib: 0.25}}
timing: {{enabled: false}}
objectives:
  bowl: {{class: Bowl, steps: 25, dtype: float64}}
{objectives}
optimizers:
{optimizers}
"""


def harness(
    *arguments: str | Path, limit_file: int | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m harness`` in a process of its own, perhaps with a limit on its files' sizes."""
    command = [sys.executable, "-P", "-m", "harness", *map(str, arguments)]
    if limit_file is not None:
        set_limit = (
            "import os, resource, sys; "
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_file}, {limit_file})); "
            "os.execv(sys.executable, sys.argv[1:])"
        )
        command = [sys.executable, "-c", set_limit, *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def write_suite(folder: Path, text: str) -> Path:
    for name, source in (("objectives", OBJECTIVES), ("optimizers", OPTIMIZERS)):
        (folder / name).mkdir(parents=True)
        (folder / name / "made.py").write_text(source)
    file = folder / "spec.yaml"
    file.write_text(text)
    return file


@dataclass(frozen=True)
class Ran:
    """A finished run."""

    done: subprocess.CompletedProcess[str]
    results: read.Results

    def row(self, optimizer: str, seed: int, objective: str = "bowl") -> dict[str, object]:
        """A trial."""
        trials = self.results.trials
        mine = trials[
            (trials["optimizer"] == optimizer)
            & (trials["seed"] == seed)
            & (trials["objective"] == objective)
        ]
        assert len(mine) == 1
        return dict(mine.iloc[0])

    def numbers(self, optimizer: str, seed: int) -> list[tuple[str, bytes, bytes]]:
        """Losses and trajectory of every setting, to the bit."""
        return [
            (
                case.setting,
                case.losses[list(case.seeds).index(seed)].tobytes(),
                case.trajectories[seed].tobytes(),
            )
            for case in self.results.cases
            if case.optimizer == optimizer and case.objective == "bowl"
        ]


def run_suite(folder: Path, text: str, command: Command) -> Ran:
    done = command("run", write_suite(folder, text), "-o", folder / "out")
    return Ran(done, read.read(folder / "out" / "results.sqlite"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Ran:
    """A run of what is sound, alone."""
    return run_suite(tmp_path_factory.mktemp("sound"), spec(SOUND), command)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of the same among every fault there is."""
    first, rest = list(FAULTS.items())[:5], list(FAULTS.items())[5:]

    def entries(faults: list[tuple[str, tuple[str, int]]]) -> str:
        return "".join(
            f"  {name}: {{class: {made}, hyperparameters: {{at: {at}}}}}\n"
            for name, (made, at) in faults
        )

    return run_suite(
        tmp_path_factory.mktemp("faulty"),
        spec(
            entries(first) + SOUND.strip("\n") + "\n" + entries(rest),
            "".join(
                f"  {name}: {{class: {made}, steps: 5}}\n"
                for name, made in {
                    "no_loss": "NoLoss",
                    "no_start": "NoStart",
                    "no_loss_exits": "LossExits",
                    "no_start_segfaults": "StartSegfaults",
                    "no_loss_hoards": "LossHoards",
                }.items()
            ),
        )
        + "include: [{objective: bowl}, {objective: no_*, optimizer: [fine, mixes]}]\n"
        + "exclude: [{objective: no_*_*, optimizer: mixes}]\n",
        harness,
    )


@pytest.mark.timeout(300)
def test_a_run_with_failed_trials_ends_with_status_1_and_a_whole_report(faulty: Ran) -> None:
    assert faulty.done.returncode == 1, faulty.done.stderr
    assert "Traceback" not in faulty.done.stderr
    assert "\nFailed: " in faulty.done.stdout
    names = {file.name for file in faulty_output(faulty).rglob("*.*")}
    assert {"index.html", "failures.csv", "final_loss.csv"} <= names
    assert len(faulty.results.trials) == 3 * (len(FAULTS) + 5 + 4 + 3)


def faulty_output(ran: Ran) -> Path:
    return Path(ran.done.args[ran.done.args.index("-o") + 1])


ROWS = {
    "raises": ("error", "RuntimeError: boom (optimizers/made.py:"),
    "raises_late": ("error", "RuntimeError: boom (optimizers/made.py:"),
    "nan": ("diverged", "not finite"),
    "sleeps": ("timeout", "not finished after 1.5 s"),
    "loops": ("timeout", "not finished after 1.5 s"),
    "exits": ("error", "exited with status 7"),
    "sys_exits": ("error", "SystemExit: 3"),
    "segfaults": ("error", "SIGSEGV"),
    "hoards": ("error", "can't allocate memory"),
    "hoards_bytes": ("error", "MemoryError (optimizers/made.py:"),
    "deaf": ("timeout", "not finished after 1.5 s"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_trial_has_its_row_with_step_and_reason(faulty: Ran, name: str) -> None:
    row = faulty.row(name, FAULTY)
    status, reason = ROWS[name]
    assert (row["status"], row["step"]) == (status, FAULTS[name][1])
    assert reason in str(row["reason"])
    assert np.isnan(float(str(row["final_loss"])))


@pytest.mark.parametrize("name", FAULTS)
def test_the_other_seeds_of_a_faulty_optimizer_are_untouched_to_the_bit(
    faulty: Ran, sound: Ran, name: str
) -> None:
    for seed in SEEDS:
        if seed != FAULTY:
            assert faulty.row(name, seed)["status"] == "ok"
            ours = [numbers[1:] for numbers in faulty.numbers(name, seed)]
            assert ours == [numbers[1:] for numbers in sound.numbers("fine", seed)]


@pytest.mark.parametrize("name", ["fine", "mixes", "lbfgs", "adam"])
def test_the_neighbours_of_faulty_optimizers_are_untouched_to_the_bit(
    faulty: Ran, sound: Ran, name: str
) -> None:
    assert sound.done.returncode == 0, sound.done.stderr
    for seed in SEEDS:
        assert faulty.numbers(name, seed) == sound.numbers(name, seed)
        assert len(sound.numbers(name, seed)) == 1 + (name == "adam")


@pytest.mark.parametrize("name", ["sleeps", "loops"])
def test_an_optimizer_without_end_is_ended_within_a_second_of_its_limit(
    faulty: Ran, name: str
) -> None:
    assert LIMIT <= float(str(faulty.row(name, FAULTY)["seconds"])) < LIMIT + 1


def test_what_a_trial_recorded_before_it_raised_is_kept(faulty: Ran) -> None:
    case = next(c for c in faulty.results.cases if c.optimizer == "raises_late")
    assert len(case.trajectories[FAULTY]) == FAULTS["raises_late"][1]
    losses = case.losses[list(case.seeds).index(FAULTY)]
    assert np.isfinite(losses[: FAULTS["raises_late"][1]]).all()


@pytest.mark.parametrize("optimizer", ["fine", "mixes"])
@pytest.mark.parametrize(
    ("objective", "reason"),
    [("no_loss", "ArithmeticError: there is no ground"), ("no_start", "LookupError: nowhere")],
)
def test_an_objective_that_raises_costs_its_own_trials_only(
    faulty: Ran, objective: str, reason: str, optimizer: str
) -> None:
    for seed in SEEDS:
        row = faulty.row(optimizer, seed, objective)
        assert (row["status"], row["step"]) == ("error", 0)
        assert reason in str(row["reason"])
        assert "objectives/made.py:" in str(row["reason"])


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        ("no_loss_exits", "the process exited with status 5"),
        ("no_start_segfaults", "the process was killed by SIGSEGV"),
        ("no_loss_hoards", "can't allocate memory"),
    ],
)
def test_an_objective_that_ends_its_process_costs_its_own_trials_only(
    faulty: Ran, objective: str, reason: str
) -> None:
    for seed in SEEDS:
        row = faulty.row("fine", seed, objective)
        assert (row["status"], row["step"]) == ("error", 0)
        assert reason in str(row["reason"])


@pytest.mark.exhaustive
def test_an_objective_without_end_costs_its_own_trials_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds up the look at the suite's code first, for longer than anyone would wait here."""
    monkeypatch.setattr(validation, "LOAD_SECONDS", 2.0)
    text = spec("  fine: {class: Fine}", "  sleeps: {class: LossSleeps, steps: 5}")
    file = write_suite(tmp_path, text.replace(str(list(SEEDS)), "1"))
    summary = run.run(file, run.RunOptions(output=tmp_path / "out"), progress.NullProgress())
    assert summary.statuses == {"ok": 1, "timeout": 1}
    assert summary.failed


def test_a_trial_that_ends_far_above_its_start_has_diverged_and_is_no_failure(
    tmp_path: Path, command: Command
) -> None:
    """f = 0.1 x1² + 2 x2² from (-5, -2): x2 doubles in size but for its sign, 1.4 times a step."""
    alone = "\n  alone: {class: Same, hyperparameters: {lr: 0.4}}\n"
    both = run_suite(tmp_path, quadratic("[0.4, 0.6]") + alone, command)
    assert both.done.returncode == 0, both.done.stderr
    *_, other = both.results.cases
    cases = {case.hyperparameters["lr"]: case for case in both.results.cases[:2]}
    losses = cases[0.6].losses[0]
    start = 0.1 * 25 + 2 * 4
    expected = [0.1 * (5 * (1 - 0.12) ** k) ** 2 + 2 * (2 * (1 - 2.4) ** k) ** 2 for k in range(21)]
    assert expected[-1] > start + 1000 * start
    trials = both.results.trials
    bad = trials[trials["position"] == cases[0.6].position]
    assert set(bad["status"]) == {"diverged"}
    assert set(bad["step"]) == {20}
    assert set(bad["reason"]) == {
        "final loss finite, but above the limit of divergence_factor (1000)"
    }
    assert losses == pytest.approx(expected, rel=1e-12)
    # Beside another setting, a rate is one of a vector, and is rounded as one.
    np.testing.assert_allclose(cases[0.4].losses, other.losses, rtol=1e-13)
    np.testing.assert_allclose(cases[0.4].trajectories[1], other.trajectories[1], rtol=1e-13)


def quadratic(lr: str) -> str:
    return f"""
suite: quadratic
seeds: 2
timing: {{enabled: false}}
objectives:
  quadratic_2d: {{steps: 20, dtype: float64, divergence_factor: 1000}}
optimizers:
  descent: {{class: Fine, hyperparameters: {{lr: {lr}}}}}
"""


# What is on the disk --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A suite with a finished run, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    done = command("run", write_suite(folder, quadratic("0.4")), "-o", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def suite(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "suite")


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Bad input, said in one line and with nothing else."""
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != ".lock"
    }


def truncated(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(50_000))


def text(path: Path) -> None:
    path.write_text("not a store\n" * 1000)


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
        db.execute("INSERT INTO recipes VALUES ('bread')")
    db.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (truncated, "is not a usable results file"),
        (garbage, "is not a usable results file"),
        (text, "is not a usable results file"),
        (foreign, "is an SQLite file of something else"),
        (newer, f"has schema version {SCHEMA_VERSION + 1}"),
    ],
)
def test_a_results_file_that_cannot_be_used_is_refused_and_left_as_it_is(
    suite: Path, spoil: object, says: str, command: Command
) -> None:
    path = suite / "out" / "results.sqlite"
    assert callable(spoil)
    spoil(path)
    before = files_below(suite)
    refused(command("run", suite / "spec.yaml", "-o", suite / "out", "-q"), str(path), says)
    refused(command("report", suite / "out"), str(path), says)
    with pytest.raises(BadInput, match=says):
        Store(path, create=True)  # as with --fresh
    assert files_below(suite) == before


def test_an_empty_results_file_is_filled_by_a_run_and_left_alone_by_a_report(
    suite: Path, command: Command
) -> None:
    """A run that is killed as it begins may leave one."""
    path = suite / "out" / "results.sqlite"
    whole = read.read(path)
    path.write_bytes(b"")
    refused(command("report", suite / "out"), str(path), "no results")
    assert path.read_bytes() == b""
    assert command("run", suite / "spec.yaml", "-o", suite / "out").returncode == 0
    assert read.read(path).cases[0].losses.tobytes() == whole.cases[0].losses.tobytes()


def test_a_folder_in_place_of_the_results_file_is_refused(suite: Path, command: Command) -> None:
    path = suite / "out" / "results.sqlite"
    path.unlink()
    path.mkdir()
    refused(command("report", suite / "out"), str(path))
    with pytest.raises(BadInput, match=str(path)):
        Store(path, create=True)
    assert list(path.iterdir()) == []


def test_a_file_in_place_of_the_output_folder_is_refused(suite: Path, command: Command) -> None:
    place = suite / "taken"
    place.write_text("mine")
    done = command("run", suite / "spec.yaml", "-o", place / "deeper", "-q")
    refused(done, str(place), "can't be written")
    assert place.read_text() == "mine"


def test_a_full_disk_is_said_and_what_was_stored_is_whole(
    suite: Path, finished: Path, command: Command
) -> None:
    """A limit on the size of a file stands for the disk's: writes beyond it fail."""
    output = suite / "small"
    many = (suite / "spec.yaml").read_text().replace("seeds: 2", "seeds: 200")
    (suite / "spec.yaml").write_text(many)
    done = harness("run", suite / "spec.yaml", "-o", output, "-q", limit_file=90_000)
    refused(done, str(output / "results.sqlite"))
    endings = {file.name.removeprefix("results.sqlite") for file in output.iterdir()}
    assert endings <= {".lock", "harness.log", "", "-wal", "-shm", "-journal"}
    again = command("run", suite / "spec.yaml", "-o", output)
    assert again.returncode == 0, again.stderr
    with Store(output / "results.sqlite", create=False) as store:
        assert store.db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert store.statuses() == {"ok": 200}
    ours, theirs = (
        read.read(folder / "results.sqlite").cases[0] for folder in (output, finished / "out")
    )
    assert ours.losses[:2].tobytes() == theirs.losses.tobytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with next to no room."""
    place = tmp_path / "disk"
    place.mkdir()
    if mount("-t", "tmpfs", "-o", "size=32k", "none", place):
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def mount(*arguments: str | Path) -> int:
    """Try to mount something; the exit status."""
    if shutil.which("mount") is None:
        return 1
    command = ["mount", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_a_disk_without_room_for_a_store_is_said_and_holds_nothing_half_written(
    suite: Path, small_disk: Path, command: Command
) -> None:
    output = small_disk / "out"
    done = command("run", suite / "spec.yaml", "-o", output, "-q")
    refused(done, str(output / "results.sqlite"), "full")
    assert {file.name for file in output.iterdir()} <= {".lock", "results.sqlite", "harness.log"}
    with pytest.raises(NoResults):
        read.read(output / "results.sqlite")


@pytest.fixture
def read_only(suite: Path) -> Iterator[Path]:
    """A suite whose output folder can't be written."""
    output = suite / "out"
    if os.geteuid() != 0:
        output.chmod(0o555)
        yield suite
        output.chmod(0o755)
        return
    if mount("--bind", output, output) or mount("-o", "remount,bind,ro", output):
        pytest.skip("root may write everywhere, and may mount nothing here")
    yield suite
    subprocess.run(["umount", "-l", str(output)], check=True)


def test_a_read_only_folder_is_refused_before_anything_runs(
    read_only: Path, command: Command
) -> None:
    output = read_only / "out"
    before = files_below(output)
    refused(command("report", output), str(output), "can't be written")
    spec_file = read_only / "spec.yaml"
    spec_file.write_text(spec_file.read_text().replace("seeds: 2", "seeds: 3"))
    refused(command("run", spec_file, "-o", output, "-q"), str(output), "can't be written")
    assert files_below(output) == before
