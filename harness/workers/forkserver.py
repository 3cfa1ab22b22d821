"""A process that has loaded torch and does nothing else but fork workers, each within milliseconds.

This half runs where the pool does; ``zygote_process`` is the other one. A fork shares the memory
layout of every other fork, so what measures seconds gets a process of its own start instead.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO

FORK, KILL = b"f", b"k"
REQUEST = struct.Struct("<cq")
"""What is asked of the process: what to do, and with which of its children, by number."""

STARTED, ENDED = b"s", b"e"
REPORT = struct.Struct("<cqq")
"""What it tells: what happened, to which child, and that one's process id or exit status."""

PASSING = {"COLUMNS", "LINES", "OLDPWD", "PWD", "PYTEST_CURRENT_TEST"}
"""Variables of the environment that may change without a new process: no library reads them when
it is loaded. Forks get them as they are at the time, like the working directory."""

DESCRIPTORS = 6
"""Files that come with the request for a fork: see :meth:`Zygote.fork`."""


class Forked:
    """A forked worker, seen from the pool; offers what it needs of ``subprocess.Popen``.

    Attributes:
        stdin: What it reads from.
        stdout: What it writes to.
    """

    def __init__(self, stdin: int, replies: socket.socket, kill: Callable[[], None]) -> None:
        self.stdin: IO[bytes] = os.fdopen(stdin, "wb")
        self.stdout: IO[bytes] = replies.makefile("rb")
        self._replies = replies
        replies.close()  # with the last that reads from it
        self._kill = kill
        self._pid = 0
        self._code = 0
        self._started, self._ended = threading.Event(), threading.Event()

    @property
    def pid(self) -> int:
        """Its process id; waits until there is one. 0 if there never is."""
        self._started.wait()
        return self._pid

    def poll(self) -> int | None:
        """How it ended, as ``Popen.returncode``; None while it lives."""
        return self._code if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            TimeoutExpired: If it lives on.
        """
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("a forked worker", timeout or 0.0)
        return self._code

    def kill(self) -> None:
        """Have it and the group of processes that it leads killed."""
        self._kill()
        if not self._started.is_set():  # torch is being loaded, which nobody should wait for
            self.end(-signal.SIGKILL)
            with contextlib.suppress(OSError):  # the other end is on its way still, and open
                self._replies.shutdown(socket.SHUT_RDWR)

    def start(self, pid: int) -> None:
        """Note that it has started."""
        self._pid = pid
        self._started.set()

    def end(self, code: int) -> None:
        """Note how it ended."""
        if not self._ended.is_set():
            self._code = code
        self._started.set()
        self._ended.set()


class Zygote:
    """The process, seen from the pool. It ends with this process, and so do its forks.

    Args:
        environment: Its environment.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._children: dict[int, Forked] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._gone = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The system ends the process with the thread that started it, so that one stays.
        threading.Thread(target=self._run, args=(theirs, environment), daemon=True).start()

    @property
    def is_gone(self) -> bool:
        """Whether the process is there no more."""
        return self._gone

    def fork(
        self, step: int, memory: int, environment: Mapping[str, str], printed: int = 2
    ) -> Forked:
        """Fork a worker, in this process's working directory of now.

        Returns at once; if torch is still being loaded, the fork waits for that.

        Args:
            step: The descriptor of the file in which it tells its step.
            memory: Bytes that it may allocate; 0 for no limit.
            environment: Its environment.
            printed: The descriptor of where it prints.

        Raises:
            OSError: If the process is gone.
        """
        with contextlib.ExitStack() as stack:

            def passed(descriptor: int) -> int:
                stack.callback(os.close, descriptor)
                return descriptor

            told = stack.enter_context(tempfile.TemporaryFile())
            pickle.dump((dict(environment), memory), told)
            told.flush()
            here = passed(os.open(".", os.O_RDONLY))
            requests, stdin = os.pipe()
            replies, theirs = socket.socketpair()
            stack.enter_context(theirs)
            files = [passed(requests), theirs.fileno(), printed, step, told.fileno(), here]
            with self._lock:
                number = self._count
                self._count += 1
                child = Forked(stdin, replies, lambda: self._ask(KILL, number))
                if self._gone:
                    child.end(-signal.SIGKILL)
                    raise OSError("the process that forks workers is gone")
                self._children[number] = child
            socket.send_fds(self._socket, [REQUEST.pack(FORK, number)], files)
        return child

    def dismiss(self) -> None:
        """Fork no more; the process ends once its last fork has."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def _ask(self, what: bytes, number: int) -> None:
        with contextlib.suppress(OSError):  # it is gone, and its forks with it
            self._socket.send(REQUEST.pack(what, number))

    def _run(self, theirs: socket.socket, environment: Mapping[str, str]) -> None:
        try:
            with theirs:
                process = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-m", "harness.workers.forkserver_process"),
                        *(str(theirs.fileno()), str(os.getpid())),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C is the coordinator's to handle
                    env=environment,
                )
            while report := self._socket.recv(REPORT.size):
                kind, number, value = REPORT.unpack(report)
                with self._lock:
                    child = self._children[number]
                    if kind == ENDED:
                        del self._children[number]
                if kind == STARTED:
                    child.start(value)
                else:
                    child.end(value)
            process.wait()
        except OSError:  # it could not be started, or its end tore the connection
            pass
        finally:
            with self._lock:
                self._gone = True
                self._socket.close()
                for child in self._children.values():
                    child.end(-signal.SIGKILL)


@dataclass
class _Keeper:
    """Keeps at most one zygote for this process, for whichever pool wants a worker next."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _like: tuple[object, ...] = ()
    _zygote: Zygote | None = None

    def find(self, environment: Mapping[str, str]) -> Zygote | None:
        lasting = {name: value for name, value in environment.items() if name not in PASSING}
        like = (os.getpid(), sys.executable, lasting)
        with self._lock:
            if self._like != like:
                if self._zygote is not None and self._like[0] == os.getpid():
                    self._zygote.dismiss()
                self._like, self._zygote = like, None
                return None
            if self._zygote is None or self._zygote.is_gone:
                self._zygote = Zygote(environment)
            return self._zygote


_keeper = _Keeper()
"""Of the whole process, since pools come and go: the second run in a notebook starts at once."""


def kept(environment: Mapping[str, str]) -> Zygote | None:
    """This process's zygote, which is started when a second worker is wanted.

    So a process that needs one worker, once, loads torch once.

    Args:
        environment: What the worker's environment shall be; with another, there is another zygote.

    Returns:
        The zygote; None if the worker shall be a process of its own start.
    """
    # Elsewhere, system libraries that are loaded don't take a fork well.
    return _keeper.find(environment) if sys.platform == "linux" else None
