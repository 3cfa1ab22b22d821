"""Worker processes: their clocks, their number, and what becomes of a task that is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from builders import make_plan, wait_until

from harness import progress
from harness.commands.quality_pass import QualityPass, chunks, family_key
from harness.plan.model import Case, Plan
from harness.results import Chunk, Description, Sharing, TrialResult, Unavailable
from harness.spec.validation import load
from harness.store.database import Store
from harness.store.records import RunSettings
from harness.workers.executor import Done, Event, Lost, Sent, Task, WorkerFailed
from harness.workers.pool import Pool
from harness.workers.requests import CountSteps, DecideSharing, Request, RunSingle, RunVectorized

OPTIMIZERS = {
    "steady.py": '''
import os, time
from pathlib import Path
import torch

HERE = Path(__file__).parent

class Steady(torch.optim.Optimizer):
    """Sleeps for some seconds in every step."""
    def __init__(self, params, seconds=0.0):
        super().__init__(params, {"seconds": seconds})
    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        time.sleep(self.param_groups[0]["seconds"])
        return loss

class Meets(Steady):
    """Goes on once two processes are here."""
    def step(self, closure):
        (HERE / f"{os.getpid()}.here").touch()
        while len(list(HERE.glob("*.here"))) < 2:
            time.sleep(0.01)
        return closure()

class Tells(Steady):
    """Says which process it is in."""
    def step(self, closure):
        (HERE / f"{os.getpid()}.here").touch()
        return closure()

class Exits(Steady):
    def step(self, closure):
        os._exit(9)

class Deaf(Steady):
    """Closes the way back, and lives on."""
    def step(self, closure):
        os.closerange(3, 100)
        time.sleep(1000)

class Parent(Steady):
    """Starts a process of its own, and waits for it."""
    def step(self, closure):
        child = os.fork()
        if not child:
            time.sleep(1000)
        (HERE / "child").write_text(str(child))
        os.waitpid(child, 0)
''',
    "slow.py": """
import time
import torch
time.sleep(2)

class Slow(torch.optim.SGD):
    pass
""",
}
SPEC = """
suite: pool
seeds: 4
timing: {enabled: false}
objectives:
  quadratic_2d: {steps: 5, dtype: float64}
optimizers:
  steady: {class: Steady, hyperparameters: {seconds: [0.0, 0.3, 1.0, 100.0]}}
  meets: {class: Meets}
  tells: {class: Tells}
  exits: {class: Exits}
  deaf: {class: Deaf}
  parent: {class: Parent}
  slow: {class: Slow, hyperparameters: {lr: 0.1}}
"""
ALONE = Sharing("alone", "for the test")
SHARED = Sharing("pointwise", "")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "optimizers").mkdir()
    for name, text in OPTIMIZERS.items():
        (tmp_path / "optimizers" / name).write_text(text)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return make_plan(load(tmp_path / "spec.yaml"))


def case_of(plan: Plan, optimizer: str, seconds: float | None = None) -> Case:
    return next(
        case
        for case in plan.cases
        if case.optimizer == optimizer and case.hyperparameters.get("seconds") == seconds
    )


def alone(case: Case, seeds: Sequence[int], limit: float) -> Task[None]:
    return Task(RunSingle([(case, seed) for seed in seeds], "for the test", 1), limit)


def finish(pool: Pool, *tasks: Task[Any]) -> list[Event]:
    for task in tasks:
        pool.submit(task)
    return list(pool.events())


def here(plan: Plan) -> set[str]:
    return {file.name for file in (plan.cases[0].located.folder / "optimizers").glob("*.here")}


def is_there(process: int) -> bool:
    """Whether a process exists and is more than a row in a table."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_clock_starts_when_all_is_loaded(plan: Plan) -> None:
    """Starting takes torch's seconds and loading this optimizer two; the limit is one."""
    with Pool(1) as pool:
        sent, done = finish(pool, alone(case_of(plan, "slow"), [0], 1.0))
    assert isinstance(sent, Sent)
    assert sent.answers[0].status == "ok"
    assert isinstance(done, Done)


@pytest.mark.exhaustive
def test_each_result_or_each_step_gives_a_task_its_limit_again_and_nothing_else_does(
    plan: Plan,
) -> None:
    """Five steps take 1.5 s: two trials are beyond 2.5 s, and so are a shared run's and a few more.

    A shared run's first steps are taken once more by some of its trials alone.
    """
    steady = case_of(plan, "steady", 0.3)
    chunk = Chunk((steady,), (0, 1))
    with Pool(1) as pool:
        by_result = finish(pool, alone(steady, [0, 1], 2.5))
        by_step = finish(pool, Task(RunVectorized(chunk, SHARED, 1), 2.5))
        by_nothing = finish(pool, Task(CountSteps(case_of(plan, "steady", 1.0), 0, 1), 2.5))
    assert [type(event) for event in by_result] == [Sent, Sent, Done]
    assert [type(event) for event in by_step] == [Done]
    (lost,) = by_nothing
    assert isinstance(lost, Lost)
    assert (lost.kind, lost.reason) == ("timeout", "not finished after 2.5 s")
    assert 0 <= lost.step <= 5


def test_a_task_without_end_is_lost_after_its_limit_and_the_next_goes_on(
    plan: Plan,
) -> None:
    stuck, fine = (case_of(plan, "steady", seconds) for seconds in (100.0, 0.0))
    with Pool(1) as pool:
        lost, sent, done = finish(
            pool,
            alone(stuck, [0], 0.5),
            alone(fine, [0], 60),
        )
    assert isinstance(lost, Lost)
    assert (lost.kind, lost.step) == ("timeout", 1)
    assert 0.5 <= lost.seconds < 50
    assert isinstance(sent, Sent)
    assert sent.answers[0].status == "ok"
    assert isinstance(done, Done)


def test_a_long_message_to_a_worker_that_starts_holds_no_clock_up(plan: Plan) -> None:
    """A pipe takes 64 kB; the rest would wait until torch is loaded."""
    stuck, fine = (case_of(plan, "steady", seconds) for seconds in (100.0, 0.0))
    with Pool(2) as pool:
        assert isinstance(finish(pool, alone(fine, [0], 60))[-1], Done)
        pool.grow()
        long = Task(RunVectorized(cast(Any, "x" * 2**20), ALONE, 1), 60)
        lost = next(
            event
            for event in finish(pool, alone(stuck, [0], 0.5), long)
            if isinstance(event, Lost) and event.kind == "timeout"
        )
    assert lost.seconds < 50


def test_a_pool_starts_with_one_worker_and_grows_when_it_is_told(plan: Plan) -> None:
    tells, meets = case_of(plan, "tells"), case_of(plan, "meets")
    with Pool(2) as pool:
        finish(pool, *[alone(tells, [seed], 60) for seed in range(4)])
        assert len(here(plan)) == 1
        pool.grow()
        events = finish(pool, alone(meets, [0], 60), alone(meets, [1], 60))
    assert len(here(plan)) == 2
    assert [type(event) for event in events].count(Done) == 2


@pytest.mark.parametrize("fresh", [True, False])
def test_a_lost_task_says_how_and_costs_no_other(plan: Plan, fresh: bool) -> None:
    exits, fine = case_of(plan, "exits"), case_of(plan, "steady", 0.0)
    with Pool(1, fresh=fresh) as pool:
        died, sent, done, raised, *rest = finish(
            pool,
            alone(exits, [0], 60),
            alone(fine, [0], 60),
            Task(Request[Any](), 60),
            alone(fine, [1], 60),
        )
        assert isinstance(died, Lost)
        assert (died.kind, died.step) == ("died", 1)
        assert died.reason == "the process exited with status 9"
        assert [type(event) for event in (sent, done, *rest)] == [Sent, Done, Sent, Done]
        assert isinstance(raised, Lost)
        assert raised.kind == "raised"
        assert "unreachable" in raised.reason
        with pytest.raises(WorkerFailed, match="unreachable"):
            pool.call(Task(Request[Any](), 60))


def test_tasks_wait_in_line_and_the_first_goes_before_them(plan: Plan) -> None:
    fine = case_of(plan, "steady", 0.0)
    with Pool(1) as pool:
        for seed in (1, 2):
            pool.submit(alone(fine, [seed], 60))
        pool.submit(alone(fine, [0], 60), first=True)
        order = [event.answers[0].seed for event in pool.events() if isinstance(event, Sent)]
    assert order == [0, 1, 2]


@pytest.mark.parametrize(
    ("how", "fresh"),
    [
        ("deaf", True),
        ("parent", False),
        pytest.param("deaf", False, marks=pytest.mark.exhaustive),
        pytest.param("parent", True, marks=pytest.mark.exhaustive),
    ],
)
def test_an_ended_worker_takes_with_it_what_it_started_and_what_it_hides(
    plan: Plan, how: str, fresh: bool
) -> None:
    with Pool(1, fresh=fresh) as pool:
        finish(pool, alone(case_of(plan, "steady", 0.0), [0], 60))
        (process,) = (worker.pid for worker in pool._workers)
        (lost,) = finish(pool, alone(case_of(plan, how), [0], 1.0))
    assert isinstance(lost, Lost)
    assert lost.kind == "timeout"
    assert lost.seconds < 50
    gone = [process]
    if how == "parent":
        gone.append(int((plan.cases[0].located.folder / "optimizers" / "child").read_text()))
    wait_until(lambda: not any(map(is_there, gone)))


def test_a_pool_left_in_a_hurry_ends_its_workers_at_once(plan: Plan) -> None:
    fine, stuck = (case_of(plan, "steady", seconds) for seconds in (0.0, 100.0))
    pool = Pool(1)
    pool.submit(Task(RunSingle([(fine, 0), (stuck, 0)], "for the test", 1), 600))
    with pytest.raises(KeyboardInterrupt) as left:
        leave_in_a_hurry(pool)
    (process,) = left.value.args
    assert not is_there(process)


def leave_in_a_hurry(pool: Pool) -> None:
    """By Ctrl-C as the first result comes in; the next would take minutes."""
    with pool:
        for event in pool.events():
            assert isinstance(event, Sent)
            raise KeyboardInterrupt(*(worker.pid for worker in pool._workers))


# What the quality pass makes of such events -----------------------------------------------------


class Script:
    """Stands for a pool: answers each task with the next events that a test has written."""

    size = 1

    def __init__(self, *answers: Callable[[Task[Any]], list[Event]]) -> None:
        self.answers = list(answers)
        self.tasks: list[Task[Any]] = []
        self.seen: list[Task[Any]] = []
        self.grown = False

    def submit(self, task: Task[Any], *, first: bool = False) -> None:
        self.tasks.insert(0 if first else len(self.tasks), task)

    def grow(self) -> None:
        self.grown = True

    def events(self) -> Iterator[Event]:
        while self.tasks:
            task = self.tasks.pop(0)
            self.seen.append(task)
            yield from self.answers.pop(0)(task)
        assert not self.answers


def ok(case: Case, seed: int) -> TrialResult:
    return TrialResult(case.key, seed, "ok", 5, "", 0.1, "alone", np.zeros(6))


def sends(*seeds: int, then: Callable[[Task[Any]], Event]) -> Callable[[Task[Any]], list[Event]]:
    """Results of a batch's trials with these seeds, and how the batch ends."""

    def answer(task: Task[Any]) -> list[Event]:
        assert isinstance(task.request, RunSingle)
        todo = {seed: case for case, seed in task.request.trials}
        return [*(Sent(task, (ok(todo[seed], seed),)) for seed in seeds), then(task)]

    return answer


def done(answer: Any = None) -> Callable[[Task[Any]], Event]:
    return lambda task: Done(task, answer)


def lost(kind: str, reason: str = "it went") -> Callable[[Task[Any]], Event]:
    return lambda task: Lost(task, cast(Any, kind), reason, 3, 1.25)


def run_script(plan: Plan, folder: Path, *answers: Callable[[Task[Any]], list[Event]]) -> Script:
    """Run the quality pass of the first case against a script; check that all is stored."""
    case = plan.cases[0]
    small = Plan(plan.suite, plan.spec, (case,), plan.seeds)
    script = Script(*answers)
    with Store(folder / "results.sqlite", create=True) as store:
        store.begin_run(
            small,
            command="",
            spec_file="",
            spec_text="",
            settings=RunSettings(seeds=small.seeds, machine="m"),
            environment={},
            descriptions={case.objective.name: Description("", 1, 0, 5, 1, (0, 5))},
            defaults={},
        )
        quality = QualityPass(
            cast(Pool, script), store, small, "m", Unavailable(), progress.NullProgress()
        )
        assert quality.run({case.key: set()}) == 4
        assert sum(store.statuses().values()) == 4
        script.statuses = {  # type: ignore[attr-defined]
            seed: (status, step, reason)
            for seed, status, step, reason in store.db.execute(
                "SELECT seed, status, step, reason FROM trials"
            )
        }
    return script


FINE = ("ok", 5, "")


def statuses(script: Script) -> dict[int, tuple[str, int, str]]:
    return cast(dict[int, tuple[str, int, str]], vars(script)["statuses"])


def test_a_batch_that_dies_after_its_last_result_costs_no_trial(plan: Plan, tmp_path: Path) -> None:
    script = run_script(
        plan,
        tmp_path,
        lambda task: [Done(task, ALONE)],
        *[sends(seed, then=lost("died")) for seed in range(4)],
    )
    assert statuses(script) == dict.fromkeys(range(4), FINE)


def test_what_a_batch_leaves_undone_is_done_elsewhere(plan: Plan, tmp_path: Path) -> None:
    """A worker that is short of memory stops early."""
    sharing = Sharing("alone", "")
    plan = Plan(plan.suite, plan.spec, plan.cases, tuple(range(4)))
    script = run_script(
        plan,
        tmp_path,
        lambda task: [Done(task, sharing)],
        sends(then=done()),
        *[sends(seed, then=done()) for seed in range(4)],
    )
    assert statuses(script) == dict.fromkeys(range(4), FINE)


def test_a_probe_that_is_lost_leaves_each_trial_to_itself(plan: Plan, tmp_path: Path) -> None:
    script = run_script(
        plan,
        tmp_path,
        lambda task: [lost("timeout")(task)],
        sends(0, then=done()),
        sends(then=lost("timeout", "not finished after 1 s")),
        sends(then=lost("raised", "Traceback\nValueError: no")),
        sends(3, then=done()),
    )
    assert script.grown
    assert statuses(script) == {
        0: FINE,
        1: ("timeout", 3, "not finished after 1 s"),
        2: ("error", 3, "ValueError: no"),
        3: FINE,
    }


def test_a_shared_run_that_is_lost_is_run_one_by_one(plan: Plan, tmp_path: Path) -> None:
    script = run_script(
        plan,
        tmp_path,
        lambda task: [Done(task, Sharing("pointwise", "", 100, 1e-3))],
        lambda task: [lost("died")(task)],
        sends(3, then=done()),
        sends(2, then=done()),
        sends(then=lost("died", "the process was killed by SIGSEGV")),
        sends(0, then=done()),
    )
    requests = [type(task.request) for task in script.seen]
    assert requests == [DecideSharing, RunVectorized, *[RunSingle] * 4]
    assert not script.grown
    assert {seed: status for seed, (status, *_) in statuses(script).items()} == {
        0: "ok",
        1: "error",
        2: "ok",
        3: "ok",
    }


@pytest.mark.parametrize("way", ["pointwise", "vmapped"])
@pytest.mark.parametrize("lane_bytes", [1, 2**20, 3 * 2**25, 2**40])
def test_chunks_hold_every_trial_once_and_no_more_than_memory_allows(
    plan: Plan, way: Any, lane_bytes: int
) -> None:
    family = plan.cases[:3]
    cut = list(chunks(family, range(5000), Sharing(way, "", lane_bytes)))
    trials = [(case.key, seed) for chunk in cut for case in chunk.cases for seed in chunk.seeds]
    assert sorted(trials) == sorted((c.key, s) for c in family for s in range(5000))
    # Two share a run at least: less is no sharing.
    assert all(len(chunk) <= 2 or len(chunk) * lane_bytes <= 2**28 for chunk in cut)
    assert all(len(chunk) <= 2048 for chunk in cut)


def test_a_family_is_known_by_its_cases_in_any_order(plan: Plan) -> None:
    assert family_key(plan.cases[:3], range(4)) == family_key(plan.cases[2::-1], range(4))
    assert family_key(plan.cases[:3], range(4)) != family_key(plan.cases[:2], range(4))
    assert os.path.sep not in family_key(plan.cases[:1], range(4))
