"""The process that forks workers: :mod:`harness.workers.forkserver` starts and asks it."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from harness.workers.forkserver import EXIT_STATUS, FILES
from harness.workers.parent_death import die_with


def main() -> None:
    """Load torch, then fork a worker whenever one is asked for, until nobody can ask any more."""
    from harness.workers import worker

    control = socket.socket(fileno=int(sys.argv[1]))
    worker.load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors leave nothing to wait for
    with contextlib.suppress(OSError):  # nobody is there
        control.send(b"l")
        while request := socket.recv_fds(control, 1, FILES):
            if not request[0]:
                break
            _fork(control, request[1])
    with contextlib.suppress(ChildProcessError):
        os.wait()  # for the last supervisor


def _fork(control: socket.socket, files: Sequence[int]) -> None:
    server = os.getpid()
    # BLAS ends its threads by itself; without a supervisor, the pool sees a closed socket.
    with warnings.catch_warnings(action="ignore"), contextlib.suppress(OSError):
        if not os.fork():
            _child(_supervise, control, files, server)
    for file in files:
        os.close(file)


def _supervise(control: socket.socket, files: Sequence[int], server: int) -> None:
    """Fork the worker, tell how it ends, and kill it once the pool wants that or is gone."""
    die_with(server)
    control.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *files, status = files
    supervisor = os.getpid()
    with warnings.catch_warnings(action="ignore"):
        process = os.fork()
    if not process:
        os.close(status)
        _child(_work, files, supervisor)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(process)
    wanted, _, _ = select.select([status, ended], [], [])
    if status in wanted:
        for kill in (os.killpg, os.kill):  # it may not lead its group yet
            with contextlib.suppress(ProcessLookupError):
                kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with socket.socket(fileno=status) as pool, contextlib.suppress(OSError):
        pool.send(EXIT_STATUS.pack(code))


def _work(files: Sequence[int], supervisor: int) -> None:
    import numpy
    import torch

    from harness.workers import worker

    os.setsid()
    die_with(supervisor)
    *streams, step, setup, directory = files
    for number, file in enumerate(streams):
        os.dup2(file, number)
        os.close(file)
    os.fchdir(directory)
    os.close(directory)
    with os.fdopen(setup, "rb") as written:
        written.seek(0)
        environment, memory = pickle.load(written)
    os.environ.clear()
    os.environ.update(environment)
    numpy.random.seed()  # else the same in every fork; Python's own sees to itself
    torch.default_generator.seed()
    worker.serve(*worker.take_streams(), step, memory)


def _child(act: Callable[..., None], *arguments: object) -> NoReturn:
    """Be a fork that does one thing, whatever happens, and never return to what it forked from."""
    code = 1
    try:
        act(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
