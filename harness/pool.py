"""Worker processes: they import torch once, stay alive, and may die without harm.

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

POLL_SECONDS = 0.2
"""How often time limits are looked at."""

READY_SECONDS = 120.0
"""How long a worker may take to start and to load what a task needs, before its clock starts."""

STEP = struct.Struct("<q")
"""How a worker tells its current step: one number in a file that both map."""


@dataclass(frozen=True, eq=False)
class Task:
    """Something for one worker to do.

    Attributes:
        name: A method of ``worker.Session``.
        arguments: Its arguments.
        limit: Seconds it may take, from when the worker says that it is ready.
        restarts: What sets its clock back to zero: every result it sends (the limit is then one
            for each), or every step it takes (then one for a standstill), or nothing.
    """

    name: str
    arguments: tuple[Any, ...]
    limit: float
    restarts: Literal["result", "step", "nothing"] = "nothing"


@dataclass(frozen=True)
class Sent:
    """A task sent something on its way."""

    task: Task
    answer: Any


@dataclass(frozen=True)
class Done:
    """A task is finished."""

    task: Task
    answer: Any


@dataclass(frozen=True)
class Lost:
    """A task came to nothing.

    Attributes:
        task: Which.
        kind: ``raised``: the worker is well and says what happened; ``died``: the process is
            gone; ``timeout``: it was ended.
        reason: In words.
        step: The step it had reached.
        seconds: Since its clock was last set back.
    """

    task: Task
    kind: Literal["raised", "died", "timeout"]
    reason: str
    step: int
    seconds: float


Event = Sent | Done | Lost


class WorkerFailed(Exception):
    """A task came to nothing; carries how."""

    def __init__(self, lost: Lost) -> None:
        self.lost = lost
        super().__init__(lost.reason)


class Pool:
    """Some worker processes and the tasks they share.

    Args:
        size: Workers at most. The first starts at once, others when :meth:`grow` is called.
        memory: Bytes that a worker may allocate beyond what it needs to start; None for no
            limit.
    """

    def __init__(self, size: int, memory: int | None = None) -> None:
        self.size = max(1, size)
        self._memory = memory
        self._inbox: queue.SimpleQueue[tuple[_Worker, str, Any]] = queue.SimpleQueue()
        self._tasks: deque[Task] = deque()
        self._wanted = 1
        self._workers = [self._start()]

    def submit(self, task: Task, *, first: bool = False) -> None:
        """Add a task; ``first`` puts it before those that wait."""
        if first:
            self._tasks.appendleft(task)
        else:
            self._tasks.append(task)

    def grow(self) -> None:
        """Let all workers start that there may be."""
        self._wanted = self.size

    def call(self, task: Task) -> Any:
        """Do one task, with nothing beside it.

        Raises:
            WorkerFailed: If it comes to nothing.
        """
        self.submit(task)
        for event in self.events():
            if isinstance(event, Lost):
                raise WorkerFailed(event)
            if isinstance(event, Done):
                return event.answer
        raise AssertionError("a task ended without an event")

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
                if worker.task is not None and worker.overdue():
                    yield self._end(worker)

    def close(self) -> None:
        """Let the workers end, and wait for them."""
        for worker in self._workers:
            worker.close()
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

    def _start(self) -> _Worker:
        return _Worker(self._inbox, self._memory)

    def _assign(self) -> None:
        while self._tasks:
            idle = next((w for w in self._workers if w.task is None), None)
            if idle is None and len(self._workers) < self._wanted:
                idle = self._start()
                self._workers.append(idle)
            if idle is None:
                return
            idle.begin(self._tasks.popleft())

    def _handle(self, worker: _Worker, kind: str, answer: Any) -> Event | None:
        task = worker.task
        match kind:
            case "clock":
                worker.restart_clock(ready=True)
            case "sent" if task is not None:
                if task.restarts == "result":
                    worker.restart_clock()
                return Sent(task, answer)
            case "done" if task is not None:
                worker.task = None
                return Done(task, answer)
            case "raised" if task is not None:
                return worker.lose("raised", answer)
            case "exit" if worker in self._workers:
                self._workers.remove(worker)
                code = worker.wait()
                return None if task is None else worker.lose("died", _how_it_ended(code))
        return None

    def _end(self, worker: _Worker) -> Lost:
        self._workers.remove(worker)
        lost = worker.lose("timeout", f"no end after {worker.limit:g} s")
        worker.kill()
        return lost


class _Worker:
    """One process. Starting it returns at once; it imports while others go on."""

    def __init__(self, inbox: queue.SimpleQueue[tuple[_Worker, str, Any]], memory: int | None):
        self.task: Task | None = None
        self._inbox = inbox
        self._began = 0.0
        self._ready = False
        self._seen_step = 0
        with tempfile.TemporaryFile() as file:
            file.write(STEP.pack(0))
            file.flush()
            self._step = mmap.mmap(file.fileno(), STEP.size)
            paths = [str(Path(__file__).resolve().parent.parent), *sys.path]
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "harness.worker",
                    str(file.fileno()),
                    str(memory or 0),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[file.fileno()],
                start_new_session=True,  # Ctrl-C is the coordinator's to handle
                env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))},
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def step(self) -> int:
        """The step that the worker says it is at."""
        return int(STEP.unpack(self._step[:])[0])

    def begin(self, task: Task) -> None:
        """Send a task."""
        self.task = task
        self._step[:] = STEP.pack(0)
        self.restart_clock(ready=False)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            message = (task.name, task.arguments)
            pickle.dump(message, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()

    def restart_clock(self, *, ready: bool = True) -> None:
        """Give the task its whole limit again."""
        self._began, self._ready = time.monotonic(), ready

    @property
    def limit(self) -> float:
        """Seconds that the task has from when the clock was last set back."""
        assert self.task is not None
        return self.task.limit if self._ready else READY_SECONDS

    def overdue(self) -> bool:
        """Whether the task has used up its limit."""
        assert self.task is not None
        if self.task.restarts == "step" and self.step != self._seen_step:
            self._seen_step = self.step
            self.restart_clock()
        return time.monotonic() - self._began > self.limit

    def lose(self, kind: Literal["raised", "died", "timeout"], reason: str) -> Lost:
        """The task came to nothing."""
        assert self.task is not None
        seconds = time.monotonic() - self._began
        lost = Lost(self.task, kind, reason, self.step, seconds)
        self.task = None
        return lost

    def wait(self) -> int:
        """The exit status of a process that is ending."""
        return self._process.wait()

    def close(self) -> None:
        """Let the process end, and wait for it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(timeout=5)

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as replies:
            while True:
                try:
                    kind, answer = pickle.load(replies)
                except Exception:  # the end, or the torn message of a process that died
                    self._inbox.put((self, "exit", None))
                    return
                self._inbox.put((self, kind, answer))


def _how_it_ended(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended itself with exit status {code}"
