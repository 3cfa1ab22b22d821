"""The process that runs torch: reads requests from its standard input, answers on its output.

Everything of a suite is imported here and nowhere else, so that whatever it does, the
coordinator (which owns the store) is another process.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import mmap
import os
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch

from harness import checking, timing, trials
from harness.engine import OptimizerFactory
from harness.plan import Case, Plan
from harness.pool import STEP
from harness.proof import prove
from harness.results import Checked, Chunk, Timing, TrialResult, Verdict
from harness.spec import TimingSpec
from harness.workload import Workload, load_objective, prepare


class Session:
    """What a worker can be asked for, and what it remembers between requests.

    Args:
        send: Sends something on the way.
        start_clock: Says that all is loaded and the time limit holds from now.
        on_step: Notes the current step where the coordinator can see it.
        memory: What this process has allocated.
    """

    def __init__(
        self,
        send: Callable[[Any], None],
        start_clock: Callable[[], None],
        on_step: Callable[[int], None],
        memory: Memory,
    ) -> None:
        self._send = send
        self._start_clock = start_clock
        self._on_step = on_step
        self._memory = memory
        self._workloads: dict[tuple[str, str], Workload] = {}

    def check(self, plan: Plan) -> Checked:
        """Load and construct everything a plan names."""
        torch.set_num_threads(plan.spec.threads)
        self._start_clock()
        return checking.check(plan)

    def prove(self, cases: Sequence[Case], seeds: Sequence[int], threads: int) -> Verdict:
        """Find out how the trials of some cases may run."""
        torch.set_num_threads(threads)
        settings = [case.hyperparameters for case in cases]
        ready = self._ready(cases[0])
        self._start_clock()
        return prove(*ready, settings, seeds, self._on_step)

    def together(self, chunk: Chunk, verdict: Verdict, threads: int) -> list[TrialResult]:
        """Run a chunk side by side; raises if any of its trials does."""
        torch.set_num_threads(threads)
        ready = self._ready(chunk.cases[0])
        self._start_clock()
        return trials.together(chunk, *ready, verdict, self._on_step)

    def alone(self, todo: Sequence[tuple[Case, int]], verdict: Verdict, threads: int) -> None:
        """Run trials one by one and send each result; a trial that raises costs itself only.

        Stops early where a trial left so much behind that the next might want for memory.
        """
        torch.set_num_threads(threads)
        for case, seed in todo:
            ready = self._ready(case)
            self._on_step(0)
            self._start_clock()
            self._send(trials.alone(case, seed, *ready, verdict, self._on_step))
            if self._memory.is_short():
                return

    def time(
        self,
        cases: Sequence[tuple[Case, bool | None]],
        spec: TimingSpec,
        seed: int,
        threads: int,
    ) -> tuple[list[Timing], dict[str, str]]:
        """Time cases of one objective and device; each comes with whether it calls closures."""
        torch.set_num_threads(threads)
        timed = [timing.TimedCase(case, *self._ready(case), calls, seed) for case, calls in cases]
        self._start_clock()
        return timing.time_cases(timed, spec, self._on_step)

    def _ready(self, case: Case) -> tuple[Workload, OptimizerFactory]:
        key = (case.objective.key, case.device)
        if key not in self._workloads:
            with self._memory.meant_to_stay():
                objective, _ = load_objective(case.objective)
                self._workloads[key] = prepare(case.objective, objective, case.device)
        return self._workloads[key], checking.load_optimizer(case.located)


class Memory:
    """What this process has allocated: memory of its own that it may write (Linux).

    Address space that is only reserved, as CUDA does by the terabyte, is not among it.

    Args:
        allowance: Bytes beyond what is allocated now after which allocations fail; 0 for no
            limit.
    """

    def __init__(self, allowance: int) -> None:
        self._allowance = allowance
        self._stays = self._now()
        if allowance and self._stays:
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (self._stays + allowance, hard))

    @contextlib.contextmanager
    def meant_to_stay(self) -> Iterator[None]:
        """Have what is allocated in the block not count as left behind."""
        before = self._now()
        try:
            yield
        finally:
            self._stays += max(0, self._now() - before)

    def is_short(self) -> bool:
        """Whether half the allowance is gone to what was left behind."""
        if not self._allowance or self._left_behind() <= self._allowance / 2:
            return False
        gc.collect()
        return self._left_behind() > self._allowance / 2

    def _left_behind(self) -> int:
        return self._now() - self._stays

    @staticmethod
    def _now() -> int:
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[5])
        except OSError:
            return 0
        return pages * resource.getpagesize()


def main() -> None:
    """Serve requests until the input ends."""
    requests, replies = _streams()
    _die_with_parent()  # before the coordinator, told "up", sends anything to do
    step = mmap.mmap(int(sys.argv[1]), STEP.size)
    # The first optimizer loads a good part of torch; better now than on a trial's clock.
    torch.optim.SGD([torch.zeros(1)], lr=1.0)
    memory = Memory(int(sys.argv[2]))

    def on_step(number: int) -> None:
        step[:] = STEP.pack(number)

    session = Session(
        send=lambda answer: _send(replies, ("sent", answer)),
        start_clock=lambda: _send(replies, ("clock", None)),
        on_step=on_step,
        memory=memory,
    )
    _send(replies, ("up", None))
    while True:
        try:
            name, arguments = pickle.load(requests)
        except (EOFError, pickle.UnpicklingError):
            _leave()
        try:
            message = ("done", getattr(session, name)(*arguments))
        except BaseException:  # sys.exit() as well: this is somebody else's code
            message = ("raised", traceback.format_exc())
        if memory.is_short():
            _send(replies, ("retire", None))
        _send(replies, message)


def _leave() -> NoReturn:
    """End the process without taking torch apart piece by piece, which takes a second."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _streams() -> tuple[BinaryIO, BinaryIO]:
    """Take standard input and output for the protocol; what a suite prints goes to the error."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - descriptor 0, for the suite's code
    return requests, replies


def _die_with_parent() -> None:
    """Have the system end this process when the coordinator is gone, however it went (Linux)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _send(replies: BinaryIO, message: tuple[str, Any]) -> None:
    pickle.dump(message, replies, protocol=pickle.HIGHEST_PROTOCOL)
    replies.flush()


if __name__ == "__main__":
    main()
