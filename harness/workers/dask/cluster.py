"""Trials on many machines: what ``pool`` is on one, by way of a Dask scheduler.

The coordinator's side, and the only one that writes. A task goes to any worker that is free; one
whose worker dies, falls silent or is much slower than the others is given to another as well, and
the first answer counts. That is safe, for a trial's result is the same wherever it runs.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from distributed import Client, Future, KilledWorker, as_completed

from harness.errors import BadInput, Problem
from harness.plan.model import Plan, named_by
from harness.progress import Progress
from harness.provenance import environment
from harness.provenance.environment import Machine
from harness.provenance.opened_files import Opened
from harness.workers.dask import cluster_worker, suite_archive
from harness.workers.dask.cluster_worker import Performed, Requirements, SuitePlugin, Unfit
from harness.workers.pool import Disturbed, Event, Lost, Moved, T, Task, WorkerFailed, outcome

POLL_SECONDS = 0.02
"""How often answers are looked for."""

LOOK_SECONDS = 1.0
"""How often the scheduler is asked who is there; with many workers less often."""

CONNECT_SECONDS = 15.0
"""How long a scheduler may take to answer, and a local cluster to start."""

SILENT_SECONDS = 30.0
"""A worker that the scheduler has heard nothing of for so long is given up."""

SLOW_FACTOR, SLOW_SECONDS = 3.0, 10.0
"""A task that takes so many times what the longest of its kind took, and so long, is slow."""

AHEAD = 2
"""Tasks given to the scheduler per thread: one to do, one that is there when that is done."""

CLOSE_SECONDS = 5.0
"""How long workers may take to say that they are rid of the suite."""

TELL_SECONDS = 10.0
"""After how long it is said what is waited for."""

QUIET_SECONDS, DISTURBED_TRIES = 600.0, 3
"""How long a machine is waited for that shall do one thing only, and how often that is tried."""

DISTURBED = "its machine did other work at the same time"


class ClusterLost(BadInput):
    """The scheduler is gone; what was finished is kept."""

    exit_status = 1


@dataclass(eq=False)
class _Flight:
    """A task on its way.

    Attributes:
        task: Which.
        message: The task in bytes.
        sent: When it was last given to the scheduler.
        copies: The answers that are waited for, by key; several where the first is late.
    """

    task: Task[Any]
    message: bytes
    sent: float = 0.0
    copies: dict[str, Future[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Remote:
    """A worker as it was last seen.

    Attributes:
        threads: Tasks that it does at a time.
        executing: Tasks that it was at, by its own last word.
        host: The machine's address.
        heard: The scheduler's note of its last word.
        since: Our time when that note was new.
    """

    threads: int
    executing: int
    host: str
    heard: float
    since: float

    @property
    def is_silent(self) -> bool:
        """Whether nothing was heard of it for too long."""
        return time.monotonic() - self.since > SILENT_SECONDS


class Cluster:
    """Dask workers and the tasks they share; stands where a ``Pool`` does.

    Args:
        folder: The suite's folder.
        plan: What there is to run.
        scheduler: Address of a scheduler, or the JSON file in which it stands; None for a cluster
            on this machine.
        size: Workers of a cluster on this machine.
        memory: Bytes that a process which runs trials may allocate; None for no limit.
        progress: Who is told what is waited for.

    Raises:
        BadInput: If no scheduler answers, or its workers can't do this run.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        *,
        scheduler: str | None,
        size: int,
        memory: int | None,
        progress: Progress,
    ) -> None:
        self.opened = Opened()
        self._folder = folder
        self._progress = progress
        self._tasks: deque[Task[Any]] = deque()
        self._flights: dict[str, _Flight] = {}
        self._late: dict[str, Future[Any]] = {}
        self._longest: dict[str, float] = {}
        self._remotes: dict[str, _Remote] = {}
        self._unfit: dict[str, str] = {}
        self._looked = -math.inf
        self._home = ""
        self._name = f"harness-{uuid.uuid4().hex}"
        self._numbers = itertools.count()
        self._own = _LocalCluster(size) if scheduler is None else None
        try:
            self._client = _connect(self._own.address if self._own else scheduler or "")
        except BaseException:
            self._close_own()
            raise
        try:
            self._completed = as_completed(
                loop=self._client.loop, with_results=True, raise_errors=False
            )
            self._register(plan, memory)
            self._home = self._settle("")
        except BaseException:
            self._leave(wait=False)
            raise

    @property
    def size(self) -> int:
        """Tasks that can be done at a time, as things are."""
        self._look()
        return max(1, sum(self._remotes[name].threads for name in self._fit()))

    def machine(self, threads: int, like: str = "") -> Machine:
        """Where :meth:`call` does its tasks from now on.

        Args:
            threads: As in the plan's spec.
            like: Digest of the machine that is preferred, if it is among the workers.
        """
        del threads  # the workers were told
        self._home = self._settle(like)
        return replace(self._at_home, description=self._described(self._at_home))

    def submit(self, task: Task[Any], *, first: bool = False) -> None:
        """Add a task; ``first`` puts it before those that wait."""
        if first:
            self._tasks.appendleft(task)
        else:
            self._tasks.append(task)

    def grow(self) -> None:
        """Do nothing: there are as many workers as there are."""

    def call(self, task: Task[T]) -> T:
        """Do one task at one worker; if it measures seconds, with nothing beside it there.

        Raises:
            WorkerFailed: If it comes to nothing.
            Moved: If the worker was lost; another one has been settled on.
            Disturbed: If its machine did something else again and again.
        """
        for _ in range(DISTURBED_TRIES if task.request.fresh else 1):
            if task.request.fresh:
                self._wait_until_quiet()
            answer, disturbed = self._at_one_place(task)
            if not (task.request.fresh and disturbed):
                found: T = outcome(replace(event, task=task) for event in answer.events)
                return found
        raise Disturbed(DISTURBED)

    def _at_one_place(self, task: Task[Any]) -> tuple[Performed, bool]:
        """What came of a task at the worker settled on, and whether its machine did more."""
        flight = self._send(_Flight(task, suite_archive.dumps(task, self._folder)), [self._home])
        own, disturbed = set(flight.copies), False
        while True:
            for flown, answer in self._arrived():
                match answer:
                    case _ if flown is not flight:
                        continue
                    case Performed():
                        return answer, disturbed or not answer.alone
                    case (_, Exception() as error, _) if not isinstance(error, KilledWorker):
                        raise WorkerFailed(Lost(task, "raised", _said(error), 0, 0.0))
                    case _:
                        self._move()
            if self._look():
                if self._home not in self._fit():
                    self._forget(flight)
                    self._move()
                disturbed = disturbed or bool(self._doing(self._home) - own)
            time.sleep(POLL_SECONDS)

    def events(self) -> Iterator[Event]:
        """What happens until there is no task left; tasks may be added meanwhile."""
        while self._tasks or self._flights:
            if self._look():
                self._help()
            self._fill()
            arrived = self._arrived()
            for flight, answer in arrived:
                yield from self._land(flight, answer)
            if not arrived:
                time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Rid the workers of the suite, and let a cluster of our own end."""
        self._leave(wait=True)

    def kill(self) -> None:
        """End what is under way now."""
        self._leave(wait=False)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._leave(wait=kind is None)

    # Tasks

    def _fill(self) -> None:
        """Give the scheduler as many tasks as keep all workers busy, and no more.

        So what is on its way doesn't grow with the run, nor does the scheduler's memory.
        """
        while self._tasks and len(self._flights) < AHEAD * self.size:
            task = self._tasks.popleft()
            self._send(_Flight(task, suite_archive.dumps(task, self._folder)), self._choice())

    def _send(self, flight: _Flight, workers: Collection[str] | None) -> _Flight:
        """Give a task to the scheduler, once more if it was given before."""
        key = f"{self._name}-{type(flight.task.request).__name__}-{next(self._numbers)}"
        future: Future[Any] = self._client.submit(
            cluster_worker.perform,
            self._name,
            flight.message,
            key=key,
            workers=workers and list(workers),
            pure=False,
        )
        flight.copies[key] = future
        flight.sent = time.monotonic()
        self._flights[key] = flight
        self._completed.add(future)
        return flight

    def _choice(self) -> Collection[str] | None:
        """The workers that may have a task; None where there is nothing to choose."""
        fit = self._fit()
        return fit if len(fit) < len(self._remotes) else None

    def _arrived(self) -> list[tuple[_Flight, Any]]:
        """What has come back of tasks that are not known to be done."""
        found = []
        for future, answer in self._completed.next_batch(block=False):
            self._late.pop(future.key, None)
            flight = self._flights.pop(future.key, None)
            if isinstance(answer, Performed):
                self.opened = self.opened.merged(answer.opened)
            if flight is not None and flight.copies.pop(future.key, None) is not None:
                found.append((flight, answer))
        if self._client.status in ("closed", "closing"):
            raise self._lost()
        return found

    def _land(self, flight: _Flight, answer: Any) -> Iterator[Event]:
        match answer:
            case Performed(events, machine, seconds):
                self._forget(flight)
                kind = type(flight.task.request).__name__
                self._longest[kind] = max(seconds, self._longest.get(kind, 0.0))
                for event in events:
                    yield replace(event, task=flight.task, machine=machine)
            case Unfit(reason, worker):
                self._leave_out(worker, reason)
                self._again(flight)
            case (_, KilledWorker() as error, _):
                self._forget(flight)
                reason = f"every worker that had it was lost; the last was {error.last_worker}"
                yield Lost(flight.task, "died", reason, 0, time.monotonic() - flight.sent)
            case (_, BaseException() as error, _):
                self._forget(flight)
                yield Lost(flight.task, "raised", _said(error), 0, time.monotonic() - flight.sent)
            case _:  # cancelled
                if self._client.status != "running":
                    raise self._lost()
                self._again(flight)

    def _again(self, flight: _Flight) -> None:
        """Do a task once more, unless a copy of it is under way."""
        if not flight.copies:
            self._send(flight, self._choice())

    def _forget(self, flight: _Flight) -> None:
        """Take no other answer to a task. What a worker has begun, it does to its end."""
        for key, future in flight.copies.items():
            self._flights.pop(key, None)
            self._late[key] = future
        flight.copies.clear()

    def _help(self) -> None:
        """Give a task whose worker is silent or slow to another one as well."""
        silent = {name for name, remote in self._remotes.items() if remote.is_silent}
        single = [flight for flight in self._flights.values() if len(flight.copies) == 1]
        late = [flight for flight in single if self._is_late(flight)]
        if not late and not silent:
            return
        doing = self._processing()
        for flight in single:
            holders = {name for name, keys in doing.items() if flight.copies.keys() & set(keys)}
            stuck = holders <= silent and (bool(holders) or flight in late)
            # What nobody has begun comes before what is slow.
            slow = flight in late and not self._tasks and len(self._flights) < self.size
            others = [name for name in self._fit() if name not in holders]
            if others and (stuck or slow):
                self._send(flight, others)

    def _is_late(self, flight: _Flight) -> bool:
        usual = self._longest.get(
            type(flight.task.request).__name__, flight.task.limit / SLOW_FACTOR
        )
        return time.monotonic() - flight.sent > max(SLOW_SECONDS, SLOW_FACTOR * usual)

    # Workers

    def _look(self) -> bool:
        """See who is there, now and then; whether that was now."""
        every = max(LOOK_SECONDS, len(self._remotes) / 100)
        now = time.monotonic()
        if now - self._looked < every:
            return False
        try:
            found = self._client.scheduler_info(n_workers=-1)["workers"]
        except OSError:
            raise self._lost() from None
        before, self._remotes = self._remotes, {}
        for name, about in found.items():
            heard = float(about.get("last_seen", 0.0))
            known = before.get(name)
            since = known.since if known and known.heard == heard else now
            executing = int(about.get("metrics", {}).get("executing", 0))
            self._remotes[name] = _Remote(
                int(about["nthreads"]), executing, about["host"], heard, since
            )
        self._looked = time.monotonic()
        return True

    def _fit(self) -> list[str]:
        """The workers that can do this run, as far as is known."""
        return [
            name
            for name, remote in self._remotes.items()
            if name not in self._unfit and not remote.is_silent
        ]

    def _leave_out(self, name: str, reason: str) -> None:
        """Use a worker no more; there has to be another one."""
        self._note_unfit(name, reason)
        if not self._fit():
            self._home = self._settle("")

    def _note_unfit(self, name: str, reason: str) -> None:
        if name not in self._unfit:
            self._progress.note(f"worker {name} is left out: {reason}")
        self._unfit[name] = reason

    def _ask(self, name: str) -> Machine | Unfit:
        """What machine a worker is on, or why it can't be used."""
        future: Future[Any] = self._client.submit(
            cluster_worker.machine, self._name, workers=[name], pure=False
        )
        try:
            answer: Machine | Unfit = future.result(timeout=CONNECT_SECONDS)
        except Exception as error:  # lost, silent, or without a harness
            return Unfit(_said(error), name)
        return answer

    def _settle(self, like: str) -> str:
        """Choose the worker that does what has to be done at one place.

        Waits until there is one, for a cluster may take its time to start.

        Raises:
            BadInput: If there are workers and none can do this run.
        """
        told = time.monotonic() + TELL_SECONDS
        while True:
            self._looked = -math.inf
            self._look()
            fit = self._fit()
            for name in sorted(fit, key=lambda name: (name != self._home, name)):
                answer = self._ask(name)
                if isinstance(answer, Unfit):
                    self._note_unfit(name, answer.reason)
                elif not like or answer.key == like:
                    self._at_home = answer
                    return name
            if like and fit:  # there is none like it
                like = ""
                continue
            if self._remotes and not self._fit():
                reason = next(iter(self._unfit.values()), "none has been heard of for a while")
                raise BadInput.of_file(self._where, f"no worker can do this run: {reason}")
            if time.monotonic() > told:
                self._progress.note("waiting for a worker to join the cluster")
                told = math.inf
            time.sleep(LOOK_SECONDS)

    def _move(self) -> None:
        """What was to be done at one place came to nothing there: settle on another."""
        before = self._at_home.key
        self._home = self._settle(before)
        raise Moved

    def _wait_until_quiet(self) -> None:
        """Wait until the machine settled on does nothing else."""
        began = time.monotonic()
        told = began + TELL_SECONDS
        while self._doing(self._home) or not self._is_idle(self._home):
            if time.monotonic() > told:
                self._progress.note("waiting until the machine for timing does nothing else")
                told = math.inf
            if time.monotonic() - began > QUIET_SECONDS:
                raise Disturbed(DISTURBED)
            if self._look() and self._home not in self._fit():
                self._move()
            time.sleep(LOOK_SECONDS / 10)

    def _beside(self, name: str) -> set[str]:
        """The workers on a worker's machine, itself included."""
        host = self._remotes[name].host if name in self._remotes else ""
        return {n for n, remote in self._remotes.items() if remote.host == host} | {name}

    def _is_idle(self, name: str) -> bool:
        """Whether the workers on a machine say that they do nothing.

        The scheduler doesn't know of tasks that were cancelled after they had begun.
        """
        return not any(self._remotes[n].executing for n in self._beside(name) if n in self._remotes)

    def _doing(self, name: str) -> set[str]:
        """Keys of what is to be done on a worker's machine, whoever asked for it."""
        doing = self._processing()
        return {key for n in self._beside(name) for key in doing.get(n, ())}

    def _processing(self) -> dict[str, Sequence[str]]:
        """By worker, the keys of what it has to do."""
        try:
            return dict(self._client.processing())
        except (OSError, TimeoutError):
            raise self._lost() from None

    @property
    def _where(self) -> str:
        """The scheduler's address, for messages."""
        return str(self._client.scheduler.address if self._client.scheduler else "the scheduler")

    def _described(self, machine: Machine) -> dict[str, str]:
        hosts = {remote.host for remote in self._remotes.values()}
        workers = len(self._remotes)
        told = (
            f"{workers} Dask worker{'s' * (workers != 1)} on {len(hosts)} "
            f"machine{'s' * (len(hosts) != 1)}"
        )
        return {**machine.description, "workers": told}

    # Beginning and end

    def _register(self, plan: Plan, memory: int | None) -> None:
        """Have the suite brought to all workers, those to come included."""
        named = named_by(plan.everything)
        plugin = SuitePlugin(
            self._name,
            suite_archive.pack(self._folder, named),
            suite_archive.dumps(Requirements.here(named), self._folder),
            str(self._folder),
            memory,
            plan.spec.threads,
        )
        try:
            self._client.register_plugin(plugin, name=self._name)
        except Exception as error:  # one that can't load the harness, or it is gone
            why = f"a worker can't take the suite: {_said(error)}; each needs the harness installed"
            raise BadInput.of_file(self._where, why) from None

    def _lost(self) -> ClusterLost:
        why = "the scheduler is gone; finished trials are kept, and the same command goes on"
        return ClusterLost([Problem(self._where, 0, 0, "", why)])

    def _leave(self, *, wait: bool) -> None:
        """Give up what is under way, and go."""
        for flight in list(self._flights.values()):
            self._forget(flight)
        with contextlib.suppress(Exception):
            self._client.cancel(list(self._late.values()), force=True)
        self._late.clear()
        self._tasks.clear()

        def unregister() -> None:
            with contextlib.suppress(Exception):  # there may be nobody left to tell
                self._client.unregister_worker_plugin(self._name)

        if self._client.status == "running":
            # A worker that is silent would be waited for without end.
            teller = threading.Thread(target=unregister, daemon=True)
            teller.start()
            teller.join(CLOSE_SECONDS)
        with contextlib.suppress(Exception):
            self._client.close(timeout=CLOSE_SECONDS)
        self._close_own(wait=wait)

    def _close_own(self, *, wait: bool = False) -> None:
        if self._own is not None:
            self._own.close(wait=wait)
            self._own = None


class _LocalCluster:
    """A cluster on this machine, in a process that ends with this one."""

    def __init__(self, size: int) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the cluster
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "harness.workers.dask.local_cluster",
                str(os.getpid()),
                str(size),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is the coordinator's to handle
            env=environment.inherited(),
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().decode().strip()
        if not self.address:
            self._process.wait()
            self._log.seek(0)
            last = self._log.read().decode(errors="replace").strip().rpartition("\n")[2]
            self._log.close()
            raise BadInput.of_file("dask", f"a cluster can't be started here: {last}")

    def close(self, *, wait: bool) -> None:
        """Let it end, and wait for that, or end it now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if wait:
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2 * CLOSE_SECONDS)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._log.close()


def _connect(scheduler: str) -> Client:
    """A client of a scheduler.

    Raises:
        BadInput: If none answers.
    """
    from_file = scheduler.endswith(".json")
    if from_file and not Path(scheduler).is_file():
        raise BadInput.of_file(scheduler, "no such file; a scheduler writes it when it has started")
    try:
        return Client(
            None if from_file else scheduler,
            scheduler_file=scheduler if from_file else None,
            timeout=CONNECT_SECONDS,
            set_as_default=False,
        )
    except (OSError, ValueError, TimeoutError) as error:
        last = str(error).strip().partition("\n")[0]
        raise BadInput.of_file(scheduler, f"no scheduler answers there: {last}") from None


def _said(error: BaseException) -> str:
    """An error in a line."""
    return traceback.format_exception_only(error)[-1].strip()
