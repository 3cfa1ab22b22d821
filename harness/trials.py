"""Trials from start to end, as results: side by side, or one by one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.engine import OptimizerFactory, Outcome, TrialError, train
from harness.lane_values import NotShareable
from harness.lanes import Lane
from harness.plan import Case
from harness.results import Chunk, Comparison, Sharing, Together, TrialResult, Way
from harness.sharing import WORDS, FirstSteps, difference, rounding
from harness.suite import last_line, place_of
from harness.workload import Workload


def together(
    chunk: Chunk,
    workload: Workload,
    factory: OptimizerFactory,
    sharing: Sharing,
    on_step: Callable[[int], None],
) -> Together:
    """Run a chunk's trials as lanes of one run, and one of them alone to its end.

    Args:
        chunk: Which trials; more than one.
        workload: What they minimise.
        factory: Their optimizer.
        sharing: How they may run. Op by op, if some later step isn't, they run lane by lane.
        on_step: Called with the number of every step begun.

    Returns:
        One result per trial, in order of cases, then seeds; none if they can't share a run.

    Raises:
        TrialError: If any of them raises; nobody knows which.
    """
    lanes = [Lane(i, seed) for i in range(len(chunk.cases)) for seed in chunk.seeds]
    settings = [case.hyperparameters for case in chunk.cases]
    reasons = [sharing.reason] if sharing.reason else []
    for way in SHARED_WAYS[SHARED_WAYS.index(sharing.way) :]:
        witness = FirstSteps(len(lanes)) if way == "pointwise" else None
        try:
            outcome = train(
                workload, factory, settings, lanes, way=way, on_step=on_step, witness=witness
            )
            if witness is not None:
                witness.compare(workload, factory, settings, lanes, on_step)
        except NotShareable as error:
            reasons.append(f"{WORDS[way]}: {error}")
            continue
        why = "; ".join(reasons)
        comparison = _compared(chunk, lanes, outcome, workload, factory, way, on_step)
        if not comparison.is_equal:
            return Together((), comparison, _fault(comparison, way))
        share = outcome.seconds / len(lanes)
        results = (
            _result(chunk.cases[lane.setting], lane.seed, outcome, i, workload, way, share, why)
            for i, lane in enumerate(lanes)
        )
        return Together(tuple(results), comparison)
    return Together((), None, "; ".join(reasons))


SHARED_WAYS: tuple[Literal["pointwise", "vmapped"], ...] = ("pointwise", "vmapped")


def _compared(
    chunk: Chunk,
    lanes: Sequence[Lane],
    outcome: Outcome,
    workload: Workload,
    factory: OptimizerFactory,
    way: Way,
    on_step: Callable[[int], None],
) -> Comparison:
    """Run one of a shared run's trials alone to its end, and compare; always the same one."""
    names = "".join(case.key for case in chunk.cases) + str(chunk.seeds)
    position = int(hashlib.sha256(names.encode()).hexdigest(), 16) % len(lanes)
    lane = lanes[position]
    case = chunk.cases[lane.setting]
    found = allowed = math.inf
    try:
        own = train(
            *(workload, factory, [case.hyperparameters], [Lane(0, lane.seed)]),
            way="alone",
            on_step=on_step,
        )
    except TrialError:
        allowed = 0.0
    else:
        found = difference(own.losses[0], outcome.losses[position])
        allowed = rounding(workload, factory, case.hyperparameters, lane.seed, own, found, on_step)
    return Comparison(case.key, lane.seed, len(lanes), way, found, allowed)


def _fault(comparison: Comparison, way: Way) -> str:
    """What sends a run's trials alone that could have shared it."""
    return (
        f"{WORDS[way]}: seed {comparison.seed} alone differs by {comparison.difference:.1e} from "
        f"its run with {comparison.lanes - 1:,} others, a fault of the harness"
    )


def alone(
    case: Case,
    seed: int,
    workload: Workload,
    factory: OptimizerFactory,
    reason: str,
    on_step: Callable[[int], None],
) -> TrialResult:
    """Run one trial on its own. One that raises has the status ``error``, with its reason."""
    try:
        outcome = train(
            workload,
            factory,
            [case.hyperparameters],
            [Lane(0, seed)],
            way="alone",
            create_graph=case.create_graph,
            on_step=on_step,
        )
    except Exception as error:
        return _failed(case, seed, error, reason)
    return _result(case, seed, outcome, 0, workload, "alone", outcome.seconds, reason)


def _result(
    case: Case,
    seed: int,
    outcome: Outcome,
    lane: int,
    workload: Workload,
    way: Way,
    seconds: float,
    why: str,
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
        way=way,
        losses=losses,
        trajectory=_points(outcome.trajectory, lane),
        step_sizes=_points(outcome.step_sizes, lane),
        way_reason=why,
    )


def _failed(case: Case, seed: int, error: Exception, why: str) -> TrialResult:
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
        way="alone",
        way_reason=why,
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
