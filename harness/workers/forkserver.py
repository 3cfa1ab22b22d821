"""A process that has loaded torch and does nothing but fork workers, each within milliseconds.

The pool's side; :mod:`harness.workers.forkserver_process` is the other one. A fork shares the
memory layout of every other fork, so what measures seconds gets a process that was started.

Between a worker and the process that forks is a supervisor, one for each. It holds a socket: it
sends the worker's exit status there, and once the socket is shut it kills the worker. So no process
id is used after its process is gone, and no worker outlives the pool.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

EXIT_STATUS = struct.Struct("<q")
"""The supervisor's one message: the worker's exit status as in ``Popen.returncode``."""

FILES = 7
"""Files that come with the request for a fork: see :meth:`ForkServer.fork`."""

PASSING = {"COLUMNS", "LINES", "OLDPWD", "PWD", "PYTEST_CURRENT_TEST"}
"""Variables of the environment that may change without a new process: no library reads them when
it is loaded. Forks get them as they are at the time, like the working directory."""


class ForkedProcess:
    """A forked worker, seen from the pool; offers what it needs of ``subprocess.Popen``.

    Attributes:
        stdin: The stream that it reads.
        stdout: The stream that it writes.
        returncode: Its exit status, as of ``Popen``; None while it lives.
    """

    def __init__(
        self, server: ForkServer, stdin: int, replies: socket.socket, status: socket.socket
    ) -> None:
        self.stdin: IO[bytes] = os.fdopen(stdin, "wb")
        self.stdout: IO[bytes] = replies.makefile("rb")
        self.returncode: int | None = None
        self._replies = replies
        replies.close()  # with the last that reads from it
        self._server = server
        self._status = status
        self._lock = threading.Lock()
        weakref.finalize(self, status.close)

    def poll(self) -> int | None:
        """The exit status, as from ``Popen.poll``; None while it lives."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            TimeoutExpired: If it lives on.
        """
        if self.returncode is None:
            ended, _, _ = select.select([self._status], [], [], timeout)
            if not ended and self.returncode is None:
                raise subprocess.TimeoutExpired("a forked worker", timeout or 0.0)
        with self._lock:
            if self.returncode is None:
                message = self._status.recv(EXIT_STATUS.size)
                # Without a message the supervisor was killed, and the worker with it.
                self.returncode = EXIT_STATUS.unpack(message)[0] if message else -signal.SIGKILL
        return self.returncode

    def kill(self) -> None:
        """Have it and the group of processes that it leads killed."""
        with contextlib.suppress(OSError):
            self._status.shutdown(socket.SHUT_WR)
        if not self._server.is_loaded:  # torch is being loaded, which nobody should wait for
            self.returncode = -signal.SIGKILL
            with contextlib.suppress(OSError):  # the other end is on its way still, and open
                self._replies.shutdown(socket.SHUT_RDWR)


class ForkServer:
    """The process that forks, seen from the pool. It ends with this process.

    Args:
        environment: Its environment.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        module, file = "harness.workers.forkserver_process", theirs.fileno()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[file],
                start_new_session=True,  # Ctrl-C is the coordinator's to handle
                env=environment,
            )
        threading.Thread(target=self._process.wait, daemon=True).start()
        weakref.finalize(self, self._socket.close)

    @property
    def is_loaded(self) -> bool:
        """True once it has loaded torch, or is gone: from then on it says something."""
        return bool(select.select([self._socket], [], [], 0.0)[0])

    @property
    def is_gone(self) -> bool:
        """True if it forks no more."""
        return self._process.poll() is not None

    def fork(
        self, step: int, memory: int, environment: Mapping[str, str], printed: int = 2
    ) -> ForkedProcess:
        """Fork a worker, in this process's working directory of now.

        Returns at once; if torch is still being loaded, the fork waits for that.

        Args:
            step: Descriptor of the file in which it tells its step.
            memory: Bytes that it may allocate; 0 for no limit.
            environment: Its environment.
            printed: Descriptor of where it prints.

        Raises:
            OSError: If the process is gone.
        """
        with contextlib.ExitStack() as stack:
            setup = stack.enter_context(tempfile.TemporaryFile())
            pickle.dump((dict(environment), memory), setup)
            setup.flush()
            directory = os.open(".", os.O_RDONLY)
            stack.callback(os.close, directory)
            requests, stdin = os.pipe()
            stack.callback(os.close, requests)
            replies, their_replies = socket.socketpair()
            stack.enter_context(their_replies)
            status, their_status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(their_status)
            worker = ForkedProcess(self, stdin, replies, status)
            streams = [requests, their_replies.fileno(), printed]
            files = [*streams, step, setup.fileno(), directory, their_status.fileno()]
            try:
                socket.send_fds(self._socket, [b"f"], files)
            except OSError:
                worker.stdin.close()
                worker.stdout.close()
                raise
        return worker

    def dismiss(self) -> None:
        """Fork no more; the process ends once its last fork has."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)


@dataclass
class _Keeper:
    """Keeps at most one server for this process, for whichever pool wants a worker next."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _like: tuple[object, ...] = ()
    _server: ForkServer | None = None

    def find(self, environment: Mapping[str, str]) -> ForkServer | None:
        lasting = {name: value for name, value in environment.items() if name not in PASSING}
        like = (os.getpid(), sys.executable, lasting)
        with self._lock:
            if self._like != like:
                if self._server is not None and self._like[0] == os.getpid():
                    self._server.dismiss()
                self._like, self._server = like, None
                return None
            if self._server is None or self._server.is_gone:
                self._server = ForkServer(environment)
            return self._server


_keeper = _Keeper()
"""Of the whole process, since pools come and go: the second run in a notebook starts at once."""


def fork_server(environment: Mapping[str, str]) -> ForkServer | None:
    """This process's server, which is started when a second worker is wanted.

    So a process that needs one worker, once, loads torch once.

    Args:
        environment: Environment of the worker; with another, there is another server.

    Returns:
        The server; None if the worker shall be a process that is started.
    """
    # Elsewhere, system libraries that are loaded don't take a fork well.
    return _keeper.find(environment) if sys.platform == "linux" else None
