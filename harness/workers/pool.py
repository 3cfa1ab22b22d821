"""Worker processes: they have torch loaded, stay alive, and may die without harm.

The coordinator's side. Imports no torch, and runs none of a suite's code.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from harness.provenance import environment
from harness.provenance.environment import Machine
from harness.provenance.opened_files import Opened
from harness.workers import forkserver
from harness.workers.executor import Done, Event, Lost, Sent, T, Task, outcome
from harness.workers.forkserver import Forked

POLL_SECONDS = 0.2
"""How often time limits are looked at."""

READY_SECONDS = 120.0
"""How long a worker may take to start and to load what a task needs, before its clock starts."""

END_SECONDS = 5.0
"""How long a worker may take to end on its own once nobody needs it."""

STEP = struct.Struct("<q")
"""How a worker tells its current step: one number in a file that both map."""


class Pool:
    """Some worker processes and the tasks they share.

    Args:
        size: Workers at most. The first starts at once, others when :meth:`grow` is called.
        memory: Bytes that a worker may allocate beyond what it needs to start; None for no
            limit.
        search: Where workers look for packages before they look where this process does.
        fresh: Whether the first worker shall be a process of its own start, for tasks that are
            to come.
        printed: Descriptor of where workers print; standard error if left out.

    Attributes:
        opened: What the suite's code was seen to read.
    """

    def __init__(
        self,
        size: int,
        memory: int | None = None,
        search: Sequence[Path] = (),
        *,
        fresh: bool = False,
        printed: int = 2,
    ) -> None:
        self._printed = printed
        self.opened = Opened()
        self._size = max(1, size)
        self._memory = memory
        self._search = [str(folder) for folder in search]
        self._inbox: queue.SimpleQueue[tuple[_Worker, str, Any]] = queue.SimpleQueue()
        self._tasks: deque[Task[Any]] = deque()
        self._wanted = 1
        self._workers = [self._start(fresh=fresh)]

    @property
    def size(self) -> int:
        """Workers at most."""
        return self._size

    def machine(self, threads: int) -> Machine:
        """This machine."""
        return environment.machine(threads)

    def submit(self, task: Task[Any], *, first: bool = False) -> None:
        """Add a task; ``first`` puts it before those that wait."""
        if first:
            self._tasks.appendleft(task)
        else:
            self._tasks.append(task)

    def grow(self) -> None:
        """Let all workers start that there may be."""
        self._wanted = self._size

    def call(self, task: Task[T]) -> T:
        """Do one task, with nothing beside it.

        Raises:
            WorkerFailed: If it comes to nothing.
        """
        self.submit(task)
        return outcome(task, self.events())

    def events(self) -> Iterator[Event]:
        """What happens until there is no task left; tasks may be added meanwhile."""
        while True:
            self._assign()
            busy = [worker for worker in self._workers if worker.task is not None]
            if not busy:
                return
            try:
                worker, kind, answer = self._inbox.get(timeout=POLL_SECONDS)
            except queue.Empty:
                pass
            else:
                event = self._handle(worker, kind, answer)
                if event is not None:
                    yield event
            for worker in busy:
                if worker.overdue():
                    yield self._end(worker)

    def close(self) -> None:
        """Let the workers end, and wait for them."""
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.wait()
        self._workers.clear()

    def kill(self) -> None:
        """End the workers now."""
        for worker in self._workers:
            worker.kill()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.kill()
        self.close()

    def _start(self, *, fresh: bool) -> _Worker:
        return _Worker(self._inbox, self._memory, self._search, fresh=fresh, printed=self._printed)

    def _assign(self) -> None:
        while self._tasks:
            worker = self._free(fresh=self._tasks[0].request.fresh)
            if worker is None:
                return
            worker.begin(self._tasks.popleft())

    def _free(self, *, fresh: bool) -> _Worker | None:
        """A worker that has nothing to do, started if there may be one more."""
        idle = [worker for worker in self._workers if worker.task is None and worker.is_alive()]
        for worker in idle:
            if worker.is_fresh or not fresh:
                return worker
        if len(self._workers) >= self._wanted:
            if not idle:
                return None
            self._remove(idle[0])  # a fork, where none will do
        worker = self._start(fresh=fresh)
        self._workers.append(worker)
        return worker

    def _handle(self, worker: _Worker, kind: str, answer: Any) -> Event | None:
        task = worker.task
        match kind:
            case "up":
                worker.up()
            case "clock":
                worker.restart_clock()
            case "retire":
                worker.retiring = True
            case "opened":
                self.opened = self.opened.merged(answer)
            case "sent" if task is not None:
                if task.request.clock_restarts_at == "result":
                    worker.restart_clock()
                return Sent(task, (answer,))
            case "done" | "raised" if task is not None:
                lost = worker.lose("raised", answer) if kind == "raised" else None
                worker.task = None
                if worker.retiring:
                    self._remove(worker)
                return lost or Done(task, answer)
            case "exit" if worker in self._workers:
                self._workers.remove(worker)
                return None if task is None else worker.lose("died", _how_it_ended(answer))
        return None

    def _end(self, worker: _Worker) -> Lost:
        reason = worker.why_ended
        self._remove(worker)
        return worker.lose("timeout", reason)

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.kill()


class _Worker:
    """One process. Starting it returns at once; it imports while others go on.

    Attributes:
        task: What it does; None while it waits.
        retiring: Whether it asked to be replaced after this task.
    """

    def __init__(
        self,
        inbox: queue.SimpleQueue[tuple[_Worker, str, Any]],
        memory: int | None,
        search: Sequence[str],
        *,
        fresh: bool,
        printed: int,
    ) -> None:
        self.task: Task[Any] | None = None
        self.retiring = False
        self._inbox = inbox
        self._is_up = False
        self._began = 0.0
        self._ready = False
        self._seen_step = 0
        with tempfile.TemporaryFile() as file:
            file.write(STEP.pack(0))
            file.flush()
            self._step = mmap.mmap(file.fileno(), STEP.size)
            self._process = self._start(
                file.fileno(), memory or 0, search, fresh=fresh, printed=printed
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @staticmethod
    def _start(
        step: int, memory: int, search: Sequence[str], *, fresh: bool, printed: int
    ) -> subprocess.Popen[bytes] | Forked:
        inherited = environment.inherited(search)
        # A fork has what its zygote has loaded, the harness among it; a search may find another.
        if not fresh and not search and (found := forkserver.kept(inherited)):
            with contextlib.suppress(OSError):
                return found.fork(step, memory, inherited, printed)
        return subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "harness.workers.worker"),
                *(str(step), str(memory), str(os.getpid())),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            pass_fds=[step],
            start_new_session=True,  # Ctrl-C is the coordinator's to handle
            env=inherited,
        )

    @property
    def is_fresh(self) -> bool:
        """Whether the process is one of its own start, no fork."""
        return not isinstance(self._process, Forked)

    @property
    def step(self) -> int:
        """The step that the worker says it is at."""
        return int(STEP.unpack(self._step[:])[0])

    def begin(self, task: Task[Any]) -> None:
        """Give it a task; it is sent once the process listens."""
        self.task = task
        self._step[:] = STEP.pack(0)
        self._seen_step = 0
        self.restart_clock(ready=False)
        if self._is_up:
            self._send(task)

    def up(self) -> None:
        """The process listens. Before, a long message would have to wait for it in the pipe."""
        self._is_up = True
        if self.task is not None:
            self._send(self.task)

    def restart_clock(self, *, ready: bool = True) -> None:
        """Give the task its whole limit again."""
        self._began, self._ready = time.monotonic(), ready

    @property
    def limit(self) -> float:
        """Seconds that the task has from when the clock was last set back."""
        assert self.task is not None
        return self.task.limit if self._ready else READY_SECONDS

    def overdue(self) -> bool:
        """Whether there is a task and it has used up its limit."""
        if self.task is None:
            return False
        if (
            self._ready
            and self.task.request.clock_restarts_at == "step"
            and self.step != self._seen_step
        ):
            self._seen_step = self.step
            self.restart_clock()
        return time.monotonic() - self._began > self.limit

    @property
    def why_ended(self) -> str:
        """What there is to say of a task that used up its limit."""
        return f"{'no end' if self._ready else 'not ready'} after {self.limit:g} s"

    def lose(self, kind: Literal["raised", "died", "timeout"], reason: str) -> Lost:
        """The task came to nothing."""
        assert self.task is not None
        seconds = time.monotonic() - self._began
        lost = Lost(self.task, kind, reason, self.step, seconds)
        self.task = None
        return lost

    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def dismiss(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self) -> None:
        """Wait until the process has ended; not for long."""
        self._reader.join(timeout=END_SECONDS)
        if self._reader.is_alive():
            self.kill()
            self._reader.join(timeout=END_SECONDS)

    def kill(self) -> None:
        """End the process and what it started, now."""
        if self.is_alive():
            if isinstance(self._process, Forked):
                self._process.kill()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _send(self, task: Task[Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it is gone; the reader will say so
            pickle.dump(task.request, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as replies:
            while True:
                try:
                    kind, answer = pickle.load(replies)
                except Exception:  # the end, or the torn message of a process that died
                    break
                self._inbox.put((self, kind, answer))
            try:
                self._process.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:  # it closed its output and lives on
                self.kill()
        self.dismiss()
        self._inbox.put((self, "exit", self._process.wait()))


def _how_it_ended(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended itself with exit status {code}"
