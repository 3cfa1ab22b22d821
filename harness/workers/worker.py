"""The process that runs torch: reads requests from its standard input, answers on its output.

Everything of a suite is loaded in here and nowhere else, so that whatever it does, the
coordinator (which owns the store) is another process.
"""

from __future__ import annotations

import atexit
import gc
import mmap
import os
import pickle
import sys
import traceback
from typing import Any, BinaryIO, NoReturn

from harness.provenance import opened_files
from harness.workers.memory_limit import MemoryLimit
from harness.workers.parent_death import die_with
from harness.workers.pool import STEP


def main() -> None:
    """Load torch and serve requests until the input ends."""
    die_with(int(sys.argv[3]))  # before torch is loaded, which takes seconds
    streams = take_streams()
    load()
    serve(*streams, int(sys.argv[1]), int(sys.argv[2]))


def load() -> None:
    """Load all that no suite is needed for; a process may be forked afterwards."""
    gc.disable()  # looking through what is loaded, again and again, takes a third of the time
    import torch

    import harness.workers.tasks  # noqa: F401 - for its imports

    # The first optimizer loads a good part of torch; better now than on a trial's clock.
    torch.optim.SGD([torch.zeros(1)], lr=1.0)
    gc.freeze()
    gc.enable()


def serve(requests: BinaryIO, replies: BinaryIO, file: int, limit: int) -> NoReturn:
    """Serve requests until the input ends.

    Args:
        requests: Stream of requests.
        replies: Stream for answers.
        file: The descriptor of the file in which to tell the step.
        limit: Bytes that may be allocated from now on; 0 for no limit.
    """
    from harness.workers.tasks import WorkerTasks

    watch = opened_files.watch()
    step = mmap.mmap(file, STEP.size)
    memory = MemoryLimit(limit)

    def on_step(number: int) -> None:
        step[:] = STEP.pack(number)

    tasks = WorkerTasks(
        send=lambda answer: _send(replies, ("sent", answer)),
        start_clock=lambda: _send(replies, ("clock", None)),
        on_step=on_step,
        memory=memory,
    )
    _send(replies, ("up", os.getpid()))
    while True:
        try:
            request = pickle.load(requests)
        except (EOFError, pickle.UnpicklingError):
            _leave()
        try:
            message = ("done", tasks.perform(request))
        except BaseException:  # sys.exit() as well: this is somebody else's code
            message = ("raised", traceback.format_exc())
        if watch.has_more:
            _send(replies, ("opened", watch.seen()))
        if memory.is_short():
            _send(replies, ("retire", None))
        _send(replies, message)


def _leave() -> NoReturn:
    """End the process without taking torch apart piece by piece, which takes a second."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take standard input and output for the protocol; what a suite prints goes to the error."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - descriptor 0, for the suite's code
    return requests, replies


def _send(replies: BinaryIO, message: tuple[str, Any]) -> None:
    pickle.dump(message, replies, protocol=pickle.HIGHEST_PROTOCOL)
    replies.flush()


if __name__ == "__main__":
    main()
