"""A Dask worker's side of a run: processes of its own do the run's tasks.

These are the workers of :mod:`harness.workers.pool`, so a trial that hangs, crashes or eats all
memory is ended there as it would be on one machine, and the Dask worker lives on.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from harness.provenance import environment, fingerprint
from harness.provenance.opened_files import Opened
from harness.results import TrialResult
from harness.suite.locate import ImportTarget
from harness.workers.dask import suite_archive
from harness.workers.executor import Done, Lost, Sent, Task
from harness.workers.pool import Pool
from harness.workers.requests import Request


@dataclass(frozen=True)
class Performed:
    """A task that was done to its end, whatever that is.

    Attributes:
        answers: The answers that it sent on its way.
        ending: The event that ended it.
        machine: Digest of the machine.
        opened: Files of the suite that its code was seen to read, by their paths where the run
            was started.
    """

    answers: tuple[Any, ...]
    ending: Done | Lost
    machine: str
    opened: Opened


@dataclass(frozen=True)
class Excluded:
    """A worker can't do what it was asked: results of its would not be the run's.

    Attributes:
        reason: Why, in words.
        worker: Its address.
    """

    reason: str
    worker: str


@dataclass(frozen=True)
class Requirements:
    """Versions that have to be the same on every machine, for results to be the same.

    Attributes:
        engine: Digest of the engine.
        torch: Version of torch.
        sources: Everything that the spec names, with what it depends on.
    """

    engine: str
    torch: str
    sources: tuple[tuple[ImportTarget, Mapping[str, str]], ...]

    @classmethod
    def here(cls, named: Sequence[ImportTarget]) -> Requirements:
        """Versions on this machine."""
        sources = tuple((located, fingerprint.of(located)) for located in named)
        return cls(fingerprint.engine(), fingerprint.version_of("torch"), sources)

    def difference(self) -> str:
        """The first version that is another on this machine, in words; empty if none is."""
        if (here := fingerprint.version_of("torch")) != self.torch:
            return f"it has torch {here or '(none)'}, and this run {self.torch}"
        if fingerprint.engine() != self.engine:
            return "it has another version of the harness"
        for located, wanted in self.sources:
            found = fingerprint.of(located)
            for name in sorted(wanted.keys() | found.keys()):
                if wanted.get(name) != found.get(name):
                    return (
                        f"{name}, which {located.reference!r} depends on, is "
                        f"{found.get(name) or '(not there)'} on it, and "
                        f"{wanted.get(name) or '(not there)'} in this run"
                    )
        return ""


class SuitePlugin(WorkerPlugin):
    """Brings a suite to every worker, those that join later as well.

    Args:
        name: Name under which the plugin is registered.
        files: The suite's files, packed.
        requirements: Versions that have to be the same here, as a message of ``suite_archive``.
        origin: The suite's folder where the run was started; reasons tell of it.
        memory: Bytes that a process may allocate; None for no limit.
        threads: Threads that torch may use.
    """

    def __init__(
        self,
        name: str,
        files: bytes,
        requirements: bytes,
        origin: str,
        memory: int | None,
        threads: int,
    ) -> None:
        self.name = name
        self._files = files
        self._requirements = requirements
        self._origin = origin
        self._memory = memory
        self._threads = threads

    def setup(self, worker: Worker) -> None:
        """Unpack the suite, and see whether this worker is fit for it."""
        self._lock = threading.Lock()
        self._idle: list[Pool] = []
        self._busy: set[Pool] = set()
        self._closed = False
        self._address = worker.address
        self._machine = environment.machine_key(self._threads)
        self._folder = Path(worker.local_directory) / self.name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            suite_archive.unpack(self._files, self._folder)
            requirements: Requirements = suite_archive.loads(self._requirements, self._folder)
            self.exclusion_reason = requirements.difference()
        except Exception:  # the run shall hear of it, not only this worker's log
            self.exclusion_reason = traceback.format_exc().strip().rpartition("\n")[2]

    def teardown(self, worker: Worker) -> None:
        """End all processes and remove the suite."""
        del worker
        with self._lock:
            self._closed = True
            for pool in (*self._idle, *self._busy):
                pool.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def perform(self, message: bytes) -> Performed | Excluded:
        """Do a task to its end, whatever that is."""
        if self.exclusion_reason:
            return Excluded(self.exclusion_reason, self._address)
        task: Task[Any] = suite_archive.loads(message, self._folder)
        with self._pool() as pool:
            pool.submit(task)
            *sent, ending = pool.events()
            opened = pool.opened.moved(self._folder, Path(self._origin))
        answers = [answer for event in sent if isinstance(event, Sent) for answer in event.answers]
        assert not isinstance(ending, Sent)
        # The task is known where the run was started, and this folder is not.
        ending = replace(ending, task=_NO_TASK)
        if isinstance(ending, Lost):
            ending = replace(ending, reason=self._by_origin(ending.reason))
        return Performed(tuple(map(self._answer, answers)), ending, self._machine, opened)

    def _answer(self, answer: Any) -> Any:
        if isinstance(answer, TrialResult):
            return replace(answer, reason=self._by_origin(answer.reason))
        return answer

    def _by_origin(self, reason: str) -> str:
        return reason.replace(str(self._folder), self._origin)

    @contextlib.contextmanager
    def _pool(self) -> Iterator[Pool]:
        """A process for this thread's task; the next task finds it again."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the run that this task is of has ended")
            pool = self._idle.pop() if self._idle else Pool(1, self._memory)
            self._busy.add(pool)
        try:
            yield pool
        finally:
            with self._lock:
                self._busy.discard(pool)
                self._idle.append(pool)


_NO_TASK: Task[Any] = Task(Request(), 0.0)


def perform(name: str, message: bytes) -> Performed | Excluded:
    """Do a task of the run whose suite goes by a name."""
    plugin = _plugin(name)
    return plugin if isinstance(plugin, Excluded) else plugin.perform(message)


def exclusion_reason(name: str) -> str:
    """Say why this worker can't do tasks of a run; empty if it can."""
    plugin = _plugin(name)
    return plugin.reason if isinstance(plugin, Excluded) else plugin.exclusion_reason


def _plugin(name: str) -> SuitePlugin | Excluded:
    worker = get_worker()
    plugin = worker.plugins.get(name)
    if not isinstance(plugin, SuitePlugin):
        return Excluded("the suite has not reached it", worker.address)
    return plugin
