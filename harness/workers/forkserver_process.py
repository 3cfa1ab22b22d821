"""The process that forks workers: what ``zygote`` starts and asks."""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

from harness.workers.forkserver import DESCRIPTORS, ENDED, FORK, REPORT, REQUEST, STARTED
from harness.workers.parent_death import die_with


def main() -> None:
    """Load torch, then fork a worker whenever one is asked for."""
    control = socket.socket(fileno=int(sys.argv[1]))
    die_with(int(sys.argv[2]))  # before torch is loaded, which takes seconds
    from harness.workers import worker

    worker.load()
    _Server(control).run()


class _Server:
    """Forks and kills as it is asked to, and tells how its children end.

    One thread does it all, so a child's number stays its own until nobody may want to kill it.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}
        self._asleep, self._awake = os.pipe()
        os.set_blocking(self._asleep, False)
        os.set_blocking(self._awake, False)
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Serve until nobody can ask any more and the last child has ended."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._awake)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._asleep, selectors.EVENT_READ)
        asked = True
        while asked or self._children:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    asked = self._serve()
                    if not asked:
                        self._selector.unregister(self._control)
                else:
                    os.read(self._asleep, 4096)
            self._reap()

    def _serve(self) -> bool:
        """Do what is asked; False if nobody is there to ask any more."""
        message, files, *_ = socket.recv_fds(self._control, REQUEST.size, DESCRIPTORS)
        if not message:
            return False
        what, number = REQUEST.unpack(message)
        if what == FORK:
            self._fork(number, files)
        else:
            for process, child in self._children.items():
                if child == number:
                    _kill(process)
        return True

    def _fork(self, number: int, files: Sequence[int]) -> None:
        try:
            with warnings.catch_warnings(action="ignore"):  # of threads, which BLAS ends by itself
                process = os.fork()
        except OSError:
            self._tell(ENDED, number, os.EX_OSERR)
        else:
            if not process:
                self._become(files)
            self._children[process] = number
            self._tell(STARTED, number, process)
        for file in files:
            os.close(file)

    def _become(self, files: Sequence[int]) -> NoReturn:
        """Be the child, whatever happens."""
        import numpy
        import torch

        from harness.workers import worker

        try:
            zygote = os.getppid()
            os.setsid()
            die_with(zygote)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            self._control.close()
            os.close(self._asleep)
            os.close(self._awake)
            *streams, step, told, here = files
            for number, file in enumerate(streams):
                os.dup2(file, number)
                os.close(file)
            os.fchdir(here)
            os.close(here)
            with os.fdopen(told, "rb") as setup:
                setup.seek(0)
                environment, memory = pickle.load(setup)
            os.environ.clear()
            os.environ.update(environment)
            numpy.random.seed()  # else the same in every fork; Python's own sees to itself
            torch.default_generator.seed()
            worker.serve(*worker.take_streams(), step, memory)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while self._children:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            if process in self._children:
                code = os.waitstatus_to_exitcode(status)
                self._tell(ENDED, self._children.pop(process), code)

    def _tell(self, what: bytes, number: int, value: int) -> None:
        with contextlib.suppress(OSError):  # nobody is there to hear it any more
            self._control.send(REPORT.pack(what, number, value))


def _kill(process: int) -> None:
    """Kill a child and the group that it leads, or is about to."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
