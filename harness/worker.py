"""The process that runs torch: reads requests from its standard input, answers on its output.

Everything of a suite is imported here and nowhere else, so that whatever it does, the
coordinator (which owns the store) is another process.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from harness import checking, timing, trials
from harness.engine import OptimizerFactory
from harness.plan import Case, Plan
from harness.proof import Verdict, prove
from harness.results import Checked, Chunk, Timing, TrialResult
from harness.spec import TimingSpec
from harness.workload import Workload, load_objective, prepare

Progress = Callable[[int], None]


class Session:
    """What a worker remembers between requests."""

    def __init__(self) -> None:
        self._workloads: dict[tuple[str, str], Workload] = {}
        self._verdicts: dict[tuple[str, ...], Verdict] = {}

    def check(self, progress: Progress, plan: Plan) -> Checked:
        """Load and construct everything a plan names."""
        del progress
        torch.set_num_threads(plan.spec.threads)
        return checking.check(plan)

    def train(self, progress: Progress, chunk: Chunk, threads: int) -> list[TrialResult]:
        """Run a chunk of trials."""
        torch.set_num_threads(threads)
        case = chunk.cases[0]
        workload = self._workload(case)
        factory = checking.load_optimizer(case.located)
        verdict = self._verdict(chunk.cases, workload, factory, chunk.seeds)
        return trials.run_chunk(chunk, workload, factory, verdict, progress)

    def time(
        self, progress: Progress, cases: tuple[Case, ...], spec: TimingSpec, seed: int, threads: int
    ) -> tuple[list[Timing], dict[str, str]]:
        """Time cases of one objective and device against each other."""
        del progress
        torch.set_num_threads(threads)
        timed: list[timing.TimedCase] = []
        for case in cases:
            workload = self._workload(case)
            factory = checking.load_optimizer(case.located)
            verdict = self._verdict((case,), workload, factory, (seed,))
            timed.append(timing.TimedCase(case, workload, factory, verdict.calls_closure, seed))
        return timing.time_cases(timed, spec)

    def _workload(self, case: Case) -> Workload:
        key = (case.objective.key, case.device)
        if key not in self._workloads:
            objective, _ = load_objective(case.objective)
            self._workloads[key] = prepare(case.objective, objective, case.device)
        return self._workloads[key]

    def _verdict(
        self,
        cases: tuple[Case, ...],
        workload: Workload,
        factory: OptimizerFactory,
        seeds: tuple[int, ...],
    ) -> Verdict:
        for known, verdict in self._verdicts.items():
            if {case.key for case in cases} <= set(known):
                return verdict
        settings = [case.hyperparameters for case in cases]
        verdict = prove(workload, factory, settings, seeds)
        self._verdicts[tuple(case.key for case in cases)] = verdict
        return verdict


def main() -> None:
    """Serve requests until the input ends."""
    requests, replies = _streams()
    _die_with_parent()
    session = Session()

    def progress(count: int) -> None:
        _send(replies, ("progress", count))

    while True:
        try:
            name, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: Any = getattr(session, name)(progress, *arguments)
        except Exception:
            _send(replies, ("failed", traceback.format_exc()))
        else:
            _send(replies, ("done", answer))


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
