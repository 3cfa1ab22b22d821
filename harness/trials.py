"""A chunk of trials from start to end: side by side where that is proven, else one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.engine import OptimizerFactory, Outcome, TrialError, train
from harness.lanes import Lane
from harness.plan import Hyperparameters
from harness.proof import Verdict
from harness.results import Chunk, TrialResult
from harness.suite import last_line, place_of
from harness.workload import Workload

Progress = Callable[[int], None]


def run_chunk(
    chunk: Chunk,
    workload: Workload,
    factory: OptimizerFactory,
    verdict: Verdict,
    progress: Progress,
) -> list[TrialResult]:
    """Run a chunk.

    Args:
        chunk: Which trials.
        workload: What they minimise.
        factory: Their optimizer.
        verdict: How they may run.
        progress: Called with the number of trials just finished.

    Returns:
        One result per trial, in order of cases, then seeds. A trial that raises costs that
        trial only.
    """
    settings = [case.hyperparameters for case in chunk.cases]
    lanes = [Lane(i, seed) for i in range(len(settings)) for seed in chunk.seeds]
    if verdict.mode == "grouped":
        runs = [lanes]
    elif verdict.mode == "stacked":
        runs = [[lane for lane in lanes if lane.setting == i] for i in range(len(settings))]
    else:
        runs = [[lane] for lane in lanes]
    results: list[TrialResult] = []
    for run in runs:
        stacked = verdict.mode != "alone"
        results += _run(chunk, workload, factory, settings, run, verdict, stacked)
        progress(len(run))
    return results


def _run(
    chunk: Chunk,
    workload: Workload,
    factory: OptimizerFactory,
    settings: Sequence[Hyperparameters],
    lanes: Sequence[Lane],
    verdict: Verdict,
    stacked: bool,
) -> list[TrialResult]:
    try:
        outcome = train(
            workload,
            factory,
            settings,
            lanes,
            stacked=stacked,
            calls_closure=verdict.calls_closure,
        )
    except Exception as error:
        if stacked:
            # Somebody raised: one by one, it costs only the trial it belongs to.
            return [
                result
                for lane in lanes
                for result in _run(chunk, workload, factory, settings, [lane], verdict, False)
            ]
        return [_failed(chunk, lanes[0], error)]
    mode = "vmap" if stacked else "alone"
    return [
        _result(chunk, lane, outcome, i, workload, mode, outcome.seconds / len(lanes))
        for i, lane in enumerate(lanes)
    ]


def _result(
    chunk: Chunk,
    lane: Lane,
    outcome: Outcome,
    i: int,
    workload: Workload,
    mode: str,
    seconds: float,
) -> TrialResult:
    diverged_at = int(outcome.diverged_at[i])
    diverged = diverged_at >= 0
    reason = ""
    if diverged:
        last = outcome.losses[i][~np.isnan(outcome.losses[i])]
        finite = len(last) > 0 and np.isfinite(last[-1])
        what = f"loss {last[-1]:.6g}" if finite else "loss not finite"
        reason = f"{what} after step {diverged_at}"
    return TrialResult(
        case_key=chunk.cases[lane.setting].key,
        seed=lane.seed,
        status="diverged" if diverged else "ok",
        step=diverged_at if diverged else workload.steps,
        reason=reason,
        seconds=seconds,
        mode=mode,
        losses=_reached(outcome.losses[i]),
        trajectory=_points(outcome.trajectory, i),
        step_sizes=_points(outcome.step_sizes, i),
    )


def _failed(chunk: Chunk, lane: Lane, error: Exception) -> TrialResult:
    case = chunk.cases[lane.setting]
    cause = error.error if isinstance(error, TrialError) else error
    losses: NDArray[np.float64] = np.empty(0)
    trajectory = step_sizes = None
    if isinstance(error, TrialError):
        partial = error.recorded.outcome(0.0)
        losses = _reached(partial.losses[0])
        trajectory = _points(partial.trajectory, 0)
        step_sizes = _points(partial.step_sizes, 0)
    return TrialResult(
        case_key=case.key,
        seed=lane.seed,
        status="error",
        step=error.step if isinstance(error, TrialError) else 0,
        reason=f"{last_line(cause)}{place_of(cause, case.located.folder)}",
        seconds=0.0,
        mode="alone",
        losses=losses,
        trajectory=trajectory,
        step_sizes=step_sizes,
    )


def _reached(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The recorded losses up to the last; what comes after was never reached."""
    seen = np.flatnonzero(~np.isnan(losses))
    return losses[: seen[-1] + 1] if len(seen) else losses[:0]


def _points(values: NDArray[np.float64] | None, i: int) -> NDArray[np.float64] | None:
    if values is None:
        return None
    seen = np.flatnonzero(~np.isnan(values[i]).all(axis=1))
    return values[i, : seen[-1] + 1] if len(seen) else values[i, :0]
