"""Workers are forked from one process that has loaded torch, and are none the worse for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from builders import make_plan, wait_until

from harness import progress
from harness.commands import measure_revision, run
from harness.spec.validation import load
from harness.workers import forkserver
from harness.workers.executor import Task, WorkerFailed
from harness.workers.pool import Pool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers fork on Linux only")


class Runs:
    """A request that runs some code where it is unpacked, and is none that a worker knows."""

    fresh: ClassVar[bool] = False

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.code, {})


def do(pool: Pool, code: str) -> str:
    """Run code in a worker; why the worker says that it can do no such task."""
    with pytest.raises(WorkerFailed) as failed:
        pool.call(Task(cast(Any, Runs(code)), 30))
    return str(failed.value)


def ask(pool: Pool, tmp_path: Path, expression: str, imports: str = "os") -> Any:
    """The value of an expression in a worker."""
    answer = tmp_path / "answer.json"
    code = f"import json, {imports}\nopen({str(answer)!r}, 'w').write(json.dumps({expression}))"
    assert "unreachable" in do(pool, code)
    return json.loads(answer.read_text())


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def warm() -> None:
    """Have a process here that forks."""
    while forkserver.fork_server(environment()) is None:
        pass


def environment() -> dict[str, str]:
    """What a worker's environment would be."""
    told: dict[str, str] = {}

    def note(environment: dict[str, str]) -> None:
        told.update(environment)
        raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.workers.pool.fork_server", note)
        with pytest.raises(InterruptedError):
            Pool(1)
    return told


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def parent(pool: Pool, tmp_path: Path) -> int:
    """The process that a worker is forked from, by way of its supervisor; or this one."""
    parent = int(ask(pool, tmp_path, "os.getppid()"))
    return parent if parent == os.getpid() else parent_of(parent)


def test_after_the_first_worker_all_are_forked_of_one_process_while_the_environment_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends neither with the thread that wanted it nor before its last fork."""
    monkeypatch.setattr(forkserver, "_keeper", forkserver._Keeper())
    parents = []

    def use() -> None:
        with Pool(1) as pool:
            parents.append(parent(pool, tmp_path))

    for _ in range(2):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    with Pool(1) as pool:
        parents.append(parent(pool, tmp_path))
        assert parents[0] == os.getpid()
        assert parents[1] == parents[2] != os.getpid()
        assert parent_of(parents[1]) == os.getpid()
        monkeypatch.setenv("HARNESS_TEST_SERVER", "another")
        assert forkserver.fork_server(environment()) is None
        assert parent(pool, tmp_path) == parents[1]
    wait_until(lambda: not alive(parents[1]))


def test_a_fork_has_the_environment_the_folder_and_the_error_stream_of_its_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("COLUMNS", name)
        with Pool(1) as pool:
            found = ask(pool, tmp_path, "[os.getcwd(), os.environ['COLUMNS'], os.getppid()]")
            do(pool, "import sys; print('out', flush=True); print('err', file=sys.stderr)")
        assert found[:2] == [str(tmp_path / name), name]
        assert found[2] != os.getpid()
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("", "out\nerr\n")


def test_forks_have_nothing_of_each_other_but_what_they_have_loaded(tmp_path: Path) -> None:
    """No descriptors, no threads, no CUDA, no random numbers; and each leads a group of its own."""
    facts = []
    for _ in range(2):
        with Pool(1) as pool:
            facts.append(
                ask(
                    pool,
                    tmp_path,
                    "[{os.readlink(f'/proc/self/fd/{n}'): n for n in range(3, 30)"
                    " if os.path.exists(f'/proc/self/fd/{n}')},"
                    "random.random(), numpy.random.random(), torch.initial_seed(),"
                    "len(os.listdir('/proc/self/task')),"
                    "os.getpgid(0) == os.getsid(0) == os.getpid(),"
                    "torch.cuda.is_initialized() or torch.cuda._is_in_bad_fork(), gc.isenabled()]",
                    "os, random, numpy, torch, gc",
                )
            )
    (one, *drawn), (two, *also_drawn) = facts
    for what in ("pipe", "socket"):  # requests and replies
        assert [sum(what in name for name in files) for files in (one, two)] == [1, 1]
    assert not any("eventpoll" in name for name in (*one, *two))
    assert drawn[0] != also_drawn[0]
    assert drawn[1] != also_drawn[1]
    assert drawn[2] != also_drawn[2]
    assert drawn[3:] == also_drawn[3:] == [1, True, False, True]


def test_a_fork_may_allocate_no_more_than_its_limit_and_the_next_has_a_limit_of_its_own() -> None:
    code = "try:\n bytearray(2**28)\nexcept MemoryError: pass\nelse: import os; os._exit(3)"
    with Pool(1, 2**27) as pool:
        assert "unreachable" in do(pool, code)
    with Pool(1, 2**29) as pool:
        assert do(pool, code) == "the process exited with status 3"
    with Pool(1) as pool:
        assert do(pool, code) == "the process exited with status 3"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os._exit(9)", "the process exited with status 9"),
        ("import ctypes; ctypes.string_at(0)", "the process was killed by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 15)", "the process was killed by SIGTERM"),
    ],
)
def test_how_a_fork_ended_is_told_and_the_next_task_goes_on(
    pool: Pool, tmp_path: Path, code: str, reason: str
) -> None:
    assert parent(pool, tmp_path) != os.getpid()
    assert do(pool, code) == reason
    assert parent(pool, tmp_path) != os.getpid()


def test_where_the_process_is_gone_so_are_its_forks_and_there_is_another(tmp_path: Path) -> None:
    """While it loads torch nobody waits for it: Ctrl-C may come just then."""
    with Pool(1) as pool:
        old = parent(pool, tmp_path)
        code = f"import os, time; os.kill({old}, 9); time.sleep(60)"
        assert do(pool, code) == "the process was killed by SIGKILL"
    with Pool(1) as pool:
        (worker,) = pool._workers
        assert not worker.is_fresh
        pool.kill()
        pool.close()
        assert worker._process.poll() == -signal.SIGKILL
    with Pool(1) as pool:
        assert parent(pool, tmp_path) not in (old, os.getpid())


SPEC = """
suite: timed
seeds: 2
timing: {seconds: 0.1, warmup_rounds: 1, rounds: 3, block_steps: 1}
objectives:
  quadratic_2d: {steps: 2}
optimizers:
  notes: {class: Notes}
"""
NOTES = """
import os
from pathlib import Path
import torch

NOTES = Path(__file__).with_name("notes")

class Notes(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})
    def step(self, closure):
        first = not NOTES.exists()
        with NOTES.open("a") as file:
            print(os.getppid(), file=file)
        if first:
            os._exit(1)
        return closure()
"""


def test_a_run_trains_in_forks_and_times_in_a_process_of_its_own_start(tmp_path: Path) -> None:
    """The first process, which was started for the timing, dies as it trains."""
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "notes.py").write_text(NOTES)
    (tmp_path / "spec.yaml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_report", lambda *_: tmp_path)
        summary = run.run(
            tmp_path / "spec.yaml", run.RunOptions(workers=1), progress.NullProgress()
        )
    assert (summary.statuses, summary.timed) == ({"ok": 2}, 1)
    parents = [int(line) for line in (tmp_path / "optimizers" / "notes").read_text().split()]
    (forks,) = set(parents) - {os.getpid()}
    changes = [at for at in range(1, len(parents)) if parents[at] != parents[at - 1]]
    assert [parents[0], *(parents[at] for at in changes)] == [os.getpid(), forks, os.getpid()]
    assert len(parents) - changes[-1] >= 3  # the blocks


def test_a_check_measures_in_processes_of_their_own_start(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace("Notes", "torch.optim:SGD"))
    pool = measure_revision.waiting(
        make_plan(load(tmp_path / "spec.yaml")), progress.NullProgress()
    )
    pool.kill()
    assert [worker.is_fresh for worker in pool._workers] == [True]
    pool.close()


COORDINATOR = """
import time
from harness.workers.pool import Pool
if __name__ == "__main__":
    pools = [Pool(1) for _ in range(3)]
    print(*(pool._inbox.get()[2] for pool in pools), flush=True)
    time.sleep(1000)
"""


def test_with_a_coordinator_that_is_killed_its_server_and_all_forks_end(tmp_path: Path) -> None:
    script = tmp_path / "coordinator.py"
    script.write_text(COORDINATOR)
    with subprocess.Popen(
        [sys.executable, "-P", str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        supervisors = [parent_of(worker) for worker in workers[1:]]
        servers = {parent_of(supervisor) for supervisor in supervisors}
        assert parent_of(workers[0]) == process.pid
        assert len(servers) == 1
        assert [parent_of(server) for server in servers] == [process.pid]
        process.kill()
    wait_until(lambda: not any(map(alive, {*workers, *supervisors, *servers})))
