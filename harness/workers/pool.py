"""Worker processes of this machine: they have torch loaded, stay alive, and may die without harm.

The coordinator's side. Imports no torch, and runs none of a suite's code.
"""

from __future__ import annotations

import contextlib
import logging
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
from harness.workers.executor import Done, Event, Lost, Sent, T, Task, outcome
from harness.workers.forkserver import ForkedProcess, fork_server

POLL_SECONDS = 0.2
"""Seconds between two looks at time limits."""

READY_SECONDS = 120.0
"""Seconds in which a worker has to start and load what a task needs, before its clock starts."""

END_SECONDS = 5.0
"""Seconds in which a worker has to end on its own once nobody needs it."""

STEP = struct.Struct("<q")
"""The current step of a worker: one number in a file that both map."""

_log = logging.getLogger(__name__)

Process = subprocess.Popen[bytes] | ForkedProcess


class Pool:
    """Some worker processes and the tasks they share: an executor on this machine.

    Args:
        size: Workers at most. The first starts at once, others when :meth:`grow` is called.
        memory: Bytes that a worker may allocate beyond what it needs to start; None for no
            limit.
        search: Folders in which workers look for packages first.
        fresh: Start the first worker, rather than fork it, for tasks to come that need that.
        printed: Descriptor of where workers print; standard error if left out.

    Attributes:
        opened: Files that the suite's code was seen to read.
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
        self.opened = Opened()
        self._size = max(1, size)
        self._memory = memory or 0
        self._search = [str(folder) for folder in search]
        self._printed = printed
        self._inbox: queue.SimpleQueue[tuple[_Worker, str, Any]] = queue.SimpleQueue()
        self._tasks: deque[Task[Any]] = deque()
        self._wanted = 1
        self._workers: list[_Worker] = []
        self._start(fresh=fresh)

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
        """Yield what happens until no task is left; tasks may be added meanwhile."""
        while True:
            self._assign()
            busy = [worker for worker in self._workers if worker.task is not None]
            if not busy:
                return
            with contextlib.suppress(queue.Empty):
                event = self._handle(*self._inbox.get(timeout=POLL_SECONDS))
                if event is not None:
                    yield event
            for worker in busy:
                if reason := worker.why_overdue():
                    self._end(worker, reason)
                    yield worker.lose("timeout", reason)

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
        with tempfile.TemporaryFile() as file:
            file.write(STEP.pack(0))
            file.flush()
            step = mmap.mmap(file.fileno(), STEP.size)
            process = _start_process(
                file.fileno(), self._memory, self._search, fresh=fresh, printed=self._printed
            )
        worker = _Worker(process, step, self._inbox)
        self._workers.append(worker)
        return worker

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
            self._end(idle[0], "the next task needs a worker that was started, not forked")
        return self._start(fresh=fresh)

    def _handle(self, worker: _Worker, kind: str, answer: Any) -> Event | None:
        """Take a message of a worker."""
        task = worker.task
        match kind:
            case "up":
                worker.up(answer)
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
                    self._end(worker, "it is short of memory")
                return lost or Done(task, answer)
            case "exit" if worker in self._workers:
                self._workers.remove(worker)
                reason = _exit_reason(answer)
                _log.warning("worker %d is gone: %s", worker.pid, reason)
                return None if task is None else worker.lose("died", reason)
        return None

    def _end(self, worker: _Worker, reason: str) -> None:
        """End a worker now; another one takes its place when there is a task for it."""
        _log.info("worker %d is ended: %s", worker.pid, reason)
        self._workers.remove(worker)
        worker.kill()


class _Worker:
    """One process. It imports while others go on.

    Attributes:
        task: Its task; None while it waits.
        pid: Its process id; 0 until it listens.
        retiring: True once it has asked to be replaced after this task.
    """

    def __init__(
        self,
        process: Process,
        step: mmap.mmap,
        inbox: queue.SimpleQueue[tuple[_Worker, str, Any]],
    ) -> None:
        self.task: Task[Any] | None = None
        self.pid = 0
        self.retiring = False
        self._process = process
        self._step = step
        self._inbox = inbox
        self._clock_start = 0.0
        self._is_ready = False
        self._seen_step = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def is_fresh(self) -> bool:
        """True if the process was started, not forked."""
        return not isinstance(self._process, ForkedProcess)

    def is_alive(self) -> bool:
        """True while the process is there."""
        return self._process.poll() is None

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
        if self.pid:
            self._send(task)

    def up(self, pid: int) -> None:
        """Note that the process listens.

        A long message before would have to wait for it in the pipe.
        """
        self.pid = pid
        _log.info("worker %d has started (%s)", pid, "fresh" if self.is_fresh else "forked")
        if self.task is not None:
            self._send(self.task)

    def restart_clock(self, *, ready: bool = True) -> None:
        """Give the task its whole limit again."""
        self._clock_start, self._is_ready = time.monotonic(), ready

    def why_overdue(self) -> str:
        """Say in what way the task has used up its limit; empty if it has not."""
        if self.task is None:
            return ""
        by_step = self._is_ready and self.task.request.clock_restarts_at == "step"
        if by_step and self.step != self._seen_step:
            self._seen_step = self.step
            self.restart_clock()
        limit = self.task.limit if self._is_ready else READY_SECONDS
        if time.monotonic() - self._clock_start <= limit:
            return ""
        return f"{'not finished' if self._is_ready else 'not ready'} after {limit:g} s"

    def lose(self, kind: Literal["raised", "died", "timeout"], reason: str) -> Lost:
        """Take the task away, which came to nothing."""
        assert self.task is not None
        seconds = time.monotonic() - self._clock_start
        lost = Lost(self.task, kind, reason, self.step, seconds)
        self.task = None
        name, last = type(lost.task.request).__name__, reason.strip().rpartition("\n")[2]
        _log.warning("%s of worker %d lost at step %d: %s", name, self.pid, lost.step, last)
        return lost

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
            if isinstance(self._process, ForkedProcess):
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


def _start_process(
    step: int, memory: int, search: Sequence[str], *, fresh: bool, printed: int
) -> Process:
    """Fork or start a worker; returns at once."""
    inherited = environment.inherited(search)
    # A fork has what its server has loaded, the harness among it; a search may find another.
    if not fresh and not search and (server := fork_server(inherited)):
        with contextlib.suppress(OSError):
            return server.fork(step, memory, inherited, printed)
    arguments = [str(step), str(memory), str(os.getpid())]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "harness.workers.worker", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=printed,
        pass_fds=[step],
        start_new_session=True,  # Ctrl-C is the coordinator's to handle
        env=inherited,
    )


def _exit_reason(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the process was killed by {signal.Signals(-code).name}"
    return f"the process exited with status {code}"
