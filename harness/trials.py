"""Trials from start to end, as results: side by side, or one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness.engine import OptimizerFactory, Outcome, TrialError, train
from harness.lanes import Lane
from harness.plan import Case
from harness.proof import calls_closure
from harness.results import Chunk, TrialResult, Verdict
from harness.suite import last_line, place_of
from harness.workload import Workload


def together(
    chunk: Chunk,
    workload: Workload,
    factory: OptimizerFactory,
    verdict: Verdict,
    on_step: Callable[[int], None],
) -> list[TrialResult]:
    """Run a chunk's trials as lanes of one run.

    Args:
        chunk: Which trials.
        workload: What they minimise.
        factory: Their optimizer.
        verdict: How they may run.
        on_step: Called with the number of every step begun.

    Returns:
        One result per trial, in order of cases, then seeds.

    Raises:
        TrialError: If any of them raises; nobody knows which.
    """
    lanes = [Lane(i, seed) for i in range(len(chunk.cases)) for seed in chunk.seeds]
    outcome = train(
        workload,
        factory,
        [case.hyperparameters for case in chunk.cases],
        lanes,
        stacked=True,
        calls_closure=_calls_closure(verdict, workload, factory, chunk.cases[0]),
        on_step=on_step,
    )
    share = outcome.seconds / len(lanes)
    return [
        _result(chunk.cases[lane.setting], lane.seed, outcome, i, workload, "vmap", share)
        for i, lane in enumerate(lanes)
    ]


def alone(
    case: Case,
    seed: int,
    workload: Workload,
    factory: OptimizerFactory,
    verdict: Verdict,
    on_step: Callable[[int], None],
) -> TrialResult:
    """Run one trial on its own. One that raises has the status ``error``, with its reason."""
    try:
        outcome = train(
            workload,
            factory,
            [case.hyperparameters],
            [Lane(0, seed)],
            stacked=False,
            calls_closure=_calls_closure(verdict, workload, factory, case),
            on_step=on_step,
        )
    except Exception as error:
        return _failed(case, seed, error)
    return _result(case, seed, outcome, 0, workload, "alone", outcome.seconds)


def _result(
    case: Case,
    seed: int,
    outcome: Outcome,
    lane: int,
    workload: Workload,
    mode: str,
    seconds: float,
) -> TrialResult:
    diverged_at = int(outcome.diverged_at[lane])
    diverged = diverged_at >= 0
    losses = _reached(outcome.losses[lane])
    reason = ""
    if diverged:
        at = np.flatnonzero(np.asarray(workload.record_steps) == diverged_at)
        large = len(at) > 0 and np.isfinite(outcome.losses[lane, at[0]])
        reason = "loss not finite"
        if large:
            reason = f"loss more than {workload.divergence_factor:g} times above its start"
    return TrialResult(
        case_key=case.key,
        seed=seed,
        status="diverged" if diverged else "ok",
        step=diverged_at if diverged else workload.steps,
        reason=reason,
        seconds=seconds,
        mode=mode,
        losses=losses,
        trajectory=_points(outcome.trajectory, lane),
        step_sizes=_points(outcome.step_sizes, lane),
    )


def _calls_closure(
    verdict: Verdict, workload: Workload, factory: OptimizerFactory, case: Case
) -> bool:
    if verdict.calls_closure is not None:
        return verdict.calls_closure
    return calls_closure(workload, factory, case.hyperparameters)


def _failed(case: Case, seed: int, error: Exception) -> TrialResult:
    cause, step, partial = error, 0, None
    if isinstance(error, TrialError):
        cause, step = error.error, error.step
        partial = error.recorder.outcome(error.seconds)
    return TrialResult(
        case_key=case.key,
        seed=seed,
        status="error",
        step=step,
        reason=f"{last_line(cause)}{place_of(cause, case.located.folder)}",
        seconds=partial.seconds if partial else 0.0,
        mode="alone",
        losses=_reached(partial.losses[0]) if partial else np.empty(0),
        trajectory=_points(partial.trajectory, 0) if partial else None,
        step_sizes=_points(partial.step_sizes, 0) if partial else None,
    )


def _reached(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The recorded losses up to the last; what comes after was never reached."""
    seen = np.flatnonzero(~np.isnan(losses))
    return losses[: seen[-1] + 1] if len(seen) else losses[:0]


def _points(values: NDArray[np.float64] | None, lane: int) -> NDArray[np.float64] | None:
    if values is None:
        return None
    seen = np.flatnonzero(~np.isnan(values[lane]).all(axis=1))
    return values[lane, : seen[-1] + 1] if len(seen) else values[lane, :0]
