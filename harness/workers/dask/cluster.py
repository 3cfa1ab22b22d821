"""Trials on many machines, by way of a Dask scheduler.

The coordinator's side, and the only one that writes. Dask gives tasks to workers, moves them from
busy workers to idle ones, and repeats what was lost with a worker. That is safe, for a trial's
result is the same wherever it runs. What measures seconds is done on this machine.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
import traceback
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker, as_completed

from harness.errors import BadInput, Problem
from harness.formatting import plural
from harness.plan.model import Plan, named_by
from harness.progress import Progress
from harness.provenance import environment
from harness.provenance.environment import Machine
from harness.provenance.opened_files import Opened
from harness.workers.dask import cluster_worker, suite_archive
from harness.workers.dask.cluster_worker import Excluded, Performed, Requirements, SuitePlugin
from harness.workers.dask.local_cluster import local_cluster
from harness.workers.executor import Event, Lost, Sent, T, Task, outcome
from harness.workers.pool import Pool

POLL_SECONDS = 0.02
"""Seconds between two looks for answers."""

LOOK_SECONDS = 1.0
"""Seconds between two looks for workers; with many workers more."""

CONNECT_SECONDS = 15.0
"""Seconds in which a scheduler and a worker have to answer."""

QUEUED_PER_THREAD = 2
"""Tasks given to the scheduler per thread: one to do, one that is there when that is done."""

RETRIES = 2
"""Times that Dask repeats a task which failed on the way to the process that does it."""

CLOSE_SECONDS = 5.0
"""Seconds that workers may take to remove the suite."""

WAITING_SECONDS = 10.0
"""Seconds of waiting for a worker until the user is told."""

_log = logging.getLogger(__name__)


class ClusterLost(BadInput):
    """The scheduler is gone; what was finished is kept."""

    exit_status = 1


@dataclass(eq=False)
class InFlightTask:
    """A task that the scheduler has.

    Attributes:
        task: The task.
        message: The task in bytes.
        workers: Addresses of the workers that may have it; None for all.
        future: Its answer to come.
        submitted: Time at which it was last given to the scheduler.
    """

    task: Task[Any]
    message: bytes
    workers: set[str] | None
    future: Future[Any]
    submitted: float


class Cluster:
    """Dask workers and the tasks they share: an :class:`~harness.workers.executor.Executor`.

    Args:
        folder: The suite's folder.
        plan: The plan to run.
        scheduler: Address of a scheduler, or the JSON file in which it stands; None for a cluster
            on this machine.
        size: Workers of a cluster on this machine.
        memory: Bytes that a process which runs trials may allocate; None for no limit.
        progress: Is told what is waited for.

    Attributes:
        opened: Files that the suite's code was seen to read.

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
        self._memory = memory
        self._timing_pool: Pool | None = None
        self._tasks: deque[Task[Any]] = deque()
        self._in_flight: dict[str, InFlightTask] = {}
        self._threads: dict[str, int] = {}
        self._hosts: set[str] = set()
        self._excluded: dict[str, str] = {}
        self._looked = -math.inf
        self._name = f"harness-{uuid.uuid4().hex}"
        self._numbers = itertools.count()
        with contextlib.ExitStack() as started:
            address = scheduler or started.enter_context(local_cluster(size))
            self._client = _connect(address)
            started.callback(self._disconnect)
            self._completed = as_completed(
                loop=self._client.loop, with_results=True, raise_errors=False
            )
            self._register(plan)
            self._wait_for_a_worker()
            self._started = started.pop_all()

    @property
    def size(self) -> int:
        """Tasks that can be done at a time, as things are."""
        self._look()
        return max(1, sum(self._threads[name] for name in self._usable()))

    def machine(self, threads: int) -> Machine:
        """This machine, which measures seconds, and the number of workers."""
        self._look()
        here = environment.machine(threads)
        workers, hosts = len(self._threads), len(self._hosts)
        text = f"{plural(workers, 'Dask worker')} on {plural(hosts, 'machine')}"
        return replace(here, description={**here.description, "workers": text})

    def submit(self, task: Task[Any], *, first: bool = False) -> None:
        """Add a task; ``first`` puts it before those that wait."""
        if first:
            self._tasks.appendleft(task)
        else:
            self._tasks.append(task)

    def grow(self) -> None:
        """Do nothing: there are as many workers as there are."""

    def call(self, task: Task[T]) -> T:
        """Do one task while there is no other: here if it measures seconds, else on some worker.

        Raises:
            WorkerFailed: If it comes to nothing.
        """
        if not task.request.fresh:
            self.submit(task)
            return outcome(task, self.events())
        if self._timing_pool is None:
            self._timing_pool = self._started.enter_context(
                Pool(1, self._memory, fresh=True, printed=self._progress.printed)
            )
        try:
            return self._timing_pool.call(task)
        finally:
            self.opened = self.opened.merged(self._timing_pool.opened)

    def events(self) -> Iterator[Event]:
        """Yield what happens until no task is left; tasks may be added meanwhile."""
        while self._tasks or self._in_flight:
            # No more than keeps all workers busy, so that the scheduler's memory doesn't grow.
            while self._tasks and len(self._in_flight) < QUEUED_PER_THREAD * self.size:
                task = self._tasks.popleft()
                self._send(task, suite_archive.dumps(task, self._folder))
            arrived = self._arrived()
            for known, answer in arrived:
                yield from self._finish(known, answer)
            if not arrived:
                self._look()
                time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Give up what is under way, remove the suite from the workers, and disconnect."""
        self._started.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Tasks

    def _send(self, task: Task[Any], message: bytes) -> None:
        key = f"{self._name}-{type(task.request).__name__}-{next(self._numbers)}"
        usable = self._usable()
        workers = usable if len(usable) < len(self._threads) else None
        future: Future[Any] = self._client.submit(
            cluster_worker.perform,
            self._name,
            message,
            key=key,
            workers=workers and list(workers),
            retries=RETRIES,
            pure=False,
        )
        self._in_flight[key] = InFlightTask(task, message, workers, future, time.monotonic())
        self._completed.add(future)

    def _arrived(self) -> list[tuple[InFlightTask, Any]]:
        """Tasks that have come back since, with what came back."""
        found = []
        for future, answer in self._completed.next_batch(block=False):
            known = self._in_flight.pop(future.key, None)
            if known is not None:
                found.append((known, answer))
        if self._client.status in ("closed", "closing"):
            raise self._lost()
        return found

    def _finish(self, known: InFlightTask, answer: Any) -> Iterator[Event]:
        task, seconds = known.task, time.monotonic() - known.submitted
        match answer:
            case Performed(answers, ending, machine, opened):
                self.opened = self.opened.merged(opened)
                if answers:
                    yield Sent(task, answers, machine)
                yield replace(ending, task=task, machine=machine)
            case Excluded(reason, worker):
                self._exclude(worker, reason)
                self._send(task, known.message)
            case (_, KilledWorker() as error, _):
                reason = f"every worker that had it was lost; the last was {error.last_worker}"
                _log.warning("%s lost: %s", type(task.request).__name__, reason)
                yield Lost(task, "died", reason, 0, seconds)
            case (_, BaseException() as error, _):
                yield Lost(task, "raised", _last_line(error), 0, seconds)
            case _:  # cancelled by somebody else, or with the connection
                if self._client.status != "running":
                    raise self._lost()
                self._send(task, known.message)

    # Workers

    def _look(self) -> None:
        """Ask for the workers, now and then; send again what none of them may have."""
        now = time.monotonic()
        if now - self._looked < max(LOOK_SECONDS, len(self._threads) / 100):
            return
        self._looked = now
        try:
            found = self._client.scheduler_info(n_workers=-1)["workers"]
        except OSError:
            raise self._lost() from None
        for name in found.keys() - self._threads.keys():
            _log.info("worker %s has joined", name)
        for name in self._threads.keys() - found.keys():
            _log.warning("worker %s has left; its work is repeated elsewhere", name)
        self._threads = {name: int(about["nthreads"]) for name, about in found.items()}
        self._hosts = {about["host"] for about in found.values()}
        for key, known in list(self._in_flight.items()):
            if known.workers and self._threads and not known.workers & self._threads.keys():
                del self._in_flight[key]
                known.future.cancel()
                self._send(known.task, known.message)

    def _usable(self) -> set[str]:
        """The workers that can do this run, as far as is known."""
        return self._threads.keys() - self._excluded.keys()

    def _exclude(self, name: str, reason: str) -> None:
        """Use a worker no more.

        Raises:
            BadInput: If there is no other.
        """
        if name not in self._excluded:
            self._progress.note(f"worker {name} is excluded: {reason}")
            _log.warning("worker %s is excluded: %s", name, reason)
        self._excluded[name] = reason
        if not self._usable():
            raise BadInput.of_file(self._where, f"no worker can do this run: {reason}")

    def _wait_for_a_worker(self) -> None:
        """Wait until a worker has joined that can do this run.

        Raises:
            BadInput: If there are workers and none can.
        """
        warn_at = time.monotonic() + WAITING_SECONDS
        while True:
            self._looked = -math.inf
            self._look()
            for name in sorted(self._usable()):
                reason = self._exclusion_reason(name)
                if not reason:
                    return
                self._exclude(name, reason)
            if time.monotonic() > warn_at:
                self._progress.note("waiting for a worker to join the cluster")
                warn_at = math.inf
            time.sleep(LOOK_SECONDS)

    def _exclusion_reason(self, name: str) -> str:
        """Say why a worker can't do this run; empty if it can."""
        future: Future[str] = self._client.submit(
            cluster_worker.exclusion_reason, self._name, workers=[name], pure=False
        )
        try:
            return future.result(timeout=CONNECT_SECONDS)
        except TimeoutError:  # busy; its first task finds out
            return ""
        except Exception as error:  # lost, or without a harness
            return _last_line(error)

    @property
    def _where(self) -> str:
        """The scheduler's address, for messages."""
        return str(self._client.scheduler.address if self._client.scheduler else "the scheduler")

    def _lost(self) -> ClusterLost:
        why = "the scheduler is gone; finished trials are stored, and the same command continues"
        return ClusterLost([Problem(self._where, 0, 0, "", why)])

    # Beginning and end

    def _register(self, plan: Plan) -> None:
        """Have the suite brought to all workers, those to come included."""
        named = named_by(plan.everything)
        plugin = SuitePlugin(
            self._name,
            suite_archive.pack(self._folder, named),
            suite_archive.dumps(Requirements.here(named), self._folder),
            str(self._folder),
            self._memory,
            plan.spec.threads,
        )
        try:
            self._client.register_plugin(plugin, name=self._name)
        except Exception as error:  # one that can't load the harness, or it is gone
            why = f"a worker can't take the suite: {_last_line(error)}; "
            why += "each needs the harness installed"
            raise BadInput.of_file(self._where, why) from None

    def _disconnect(self) -> None:
        with contextlib.suppress(Exception):  # there may be nobody left to tell
            futures = [known.future for known in self._in_flight.values()]
            self._client.cancel(futures, force=True)
            assert self._client.scheduler is not None
            # A worker that is silent would be waited for without end.
            self._client.sync(
                self._client.scheduler.unregister_worker_plugin,
                name=self._name,
                callback_timeout=CLOSE_SECONDS,
            )
        with contextlib.suppress(Exception):
            self._client.close(timeout=CLOSE_SECONDS)
        self._tasks.clear()
        self._in_flight.clear()


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


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()
