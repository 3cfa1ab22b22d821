"""Trials from start to end, as results: side by side, or one by one."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.engine import stopping
from harness.engine.lane_values import NotShareable, Unequal
from harness.engine.lanes import Lane
from harness.engine.recipe_factory import OptimizerFactory
from harness.engine.recording import Outcome
from harness.engine.sharing import FEWEST, SHARED_WAYS, WORDS, FirstSteps, difference, rounding
from harness.engine.stepper import Limit
from harness.engine.training_loop import TrialError, train
from harness.engine.workload import Workload
from harness.measures import TRAIN_LOSS
from harness.plan.model import Case, Hyperparameters
from harness.results import (
    Chunk,
    SharedRunComparison,
    Sharing,
    Together,
    TrialResult,
    Way,
    above_limit,
)
from harness.suite.locate import last_line, place_of


def run_vectorized(
    chunk: Chunk,
    workload: Workload,
    factory: OptimizerFactory,
    sharing: Sharing,
    start_clock: Callable[[], None],
    on_step: Callable[[int], None],
    *,
    seconds: float = math.inf,
) -> Together:
    """Run one of a chunk's trials alone to its end, then all of them as lanes of one run.

    The trial alone has the limit of a trial: where it takes too long, so would each of the others.
    The shared run may take longer than that, as long as it gets on.

    Args:
        chunk: Which trials; more than one.
        workload: What they minimise.
        factory: Their optimizer.
        sharing: How they may run. Where some later step can't, they run in the way after that.
        start_clock: Sets the clock of the limit back to zero.
        on_step: Called with the number of every step that the shared run begins; with own
            optimizers also before each turn of one, with a number that changes.
        seconds: The limit of a trial, which none of own optimizers may exceed.

    Returns:
        One result per trial, in order of cases, then seeds; none if they can't share a run.

    Raises:
        TrialError: If any of them raises in the shared run; nobody knows which.
    """
    run = _Run(chunk, workload, factory, start_clock, seconds)
    start_clock()
    own = run.alone()
    reasons = [sharing.reason] if sharing.reason else []
    unequal = False
    for way in SHARED_WAYS[SHARED_WAYS.index(sharing.way) :]:
        if way == "own_optimizers" and unequal and len(chunk.seeds) >= FEWEST:
            break  # the seeds of each setting by itself may share more
        start_clock()
        try:
            outcome = run.shared(way, on_step)
        except NotShareable as error:
            reasons.append(f"{WORDS[way]}: {error}")
            unequal = unequal or (isinstance(error, Unequal) and len(chunk.cases) > 1)
            continue
        comparison = run.compared(own, outcome, way)
        if not comparison.is_equal:
            return Together((), comparison, _fault(comparison, way))
        return Together(tuple(run.results(outcome, way, "; ".join(reasons))), comparison)
    return Together((), None, "; ".join(reasons), apart=unequal)


@dataclass(frozen=True)
class _Run:
    """Some trials that may share a run."""

    chunk: Chunk
    workload: Workload
    factory: OptimizerFactory
    start_clock: Callable[[], None]
    seconds: float

    @functools.cached_property
    def lanes(self) -> list[Lane]:
        """The trials: by cases, then seeds."""
        chunk = self.chunk
        return [Lane(i, seed) for i in range(len(chunk.cases)) for seed in chunk.seeds]

    @functools.cached_property
    def chosen(self) -> int:
        """The lane that is run alone as well; always the same one."""
        names = "".join(case.key for case in self.chunk.cases) + str(self.chunk.seeds)
        return int(hashlib.sha256(names.encode()).hexdigest(), 16) % len(self.lanes)

    @property
    def settings(self) -> list[Hyperparameters]:
        """Hyperparameters by the lanes' setting index."""
        return [case.hyperparameters for case in self.chunk.cases]

    def alone(self) -> Outcome | None:
        """The chosen trial alone; None if it raises."""
        lane = self.lanes[self.chosen]
        setting = self.settings[lane.setting]
        try:
            return train(self.workload, self.factory, [setting], [Lane(0, lane.seed)], way="alone")
        except TrialError:
            return None

    def shared(self, way: Way, on_step: Callable[[int], None]) -> Outcome:
        """All trials in one run.

        Raises:
            NotShareable: If they can't share it in this way.
        """
        witness = FirstSteps(len(self.lanes)) if way == "pointwise" else None
        run = (self.workload, self.factory, self.settings, self.lanes)
        limit = None
        if way == "own_optimizers":
            numbers = itertools.count(self.workload.steps + 1)
            limit = Limit(self.seconds, lambda: on_step(next(numbers)))
        outcome = train(*run, way=way, on_step=on_step, witness=witness, limit=limit)
        if witness is not None:
            witness.compare(*run, on_step)
        return outcome

    def compared(self, own: Outcome | None, outcome: Outcome, way: Way) -> SharedRunComparison:
        """The chosen trial in the shared run beside the same trial alone."""
        lane = self.lanes[self.chosen]
        case = self.chunk.cases[lane.setting]
        found, allowed = math.inf, 0.0
        if own is not None:
            self.start_clock()
            found = difference(*_both_recorded(own, outcome, self.chosen))
            trial = (self.workload, self.factory, case.hyperparameters, lane.seed)
            allowed = rounding(*trial, own, found)
        return SharedRunComparison(case.key, lane.seed, len(self.lanes), way, found, allowed)

    def results(self, outcome: Outcome, way: Way, why: str) -> Iterator[TrialResult]:
        """The result of each trial."""
        share = outcome.seconds / len(self.lanes)
        for i, lane in enumerate(self.lanes):
            case = self.chunk.cases[lane.setting]
            yield _result(case, lane.seed, outcome, i, self.workload, way, share, why)


def _both_recorded(
    own: Outcome, outcome: Outcome, lane: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The losses of a trial alone and in a shared run, up to where a rule ended either."""
    alone, shared = own.losses[0], outcome.losses[lane]
    if own.stopped_at[0] >= 0 or outcome.stopped_at[lane] >= 0:
        records = min(len(_reached(alone)), len(_reached(shared)))
        return alone[:records], shared[:records]
    return alone, shared


def _fault(comparison: SharedRunComparison, way: Way) -> str:
    """The reason that sends trials alone which could have shared a run."""
    return (
        f"{WORDS[way]}: seed {comparison.seed} alone differs by {comparison.difference:.1e} from "
        f"its run with {comparison.lanes - 1:,} others, more than rounding explains"
    )


def run_single(
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
        return _failed(case, seed, error, workload, reason)
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
    measures = _others(outcome, lane, len(losses))
    step, stopped_at = workload.steps, int(outcome.stopped_at[lane])
    reason = "loss not finite" if diverged else ""
    end = stopped_at if stopped_at >= 0 else workload.steps
    if diverged:
        step = diverged_at
    elif workload.stop is not None and end < workload.steps:
        step = end
        reason = stopping.reason(workload.stop, {TRAIN_LOSS.name: losses, **measures})
    # A loss on a batch is never that of the last step, so what diverged there ended so.
    last = int(np.searchsorted(workload.record_steps, end))
    if diverged_at == end and np.isfinite(outcome.losses[lane, last]):
        reason = above_limit(workload.divergence_factor)
    return TrialResult(
        case_key=case.key,
        seed=seed,
        status="diverged" if diverged else "ok",
        step=step,
        reason=reason,
        seconds=seconds,
        way=way,
        losses=losses,
        trajectory=_points(outcome.trajectory, lane),
        step_sizes=_points(outcome.step_sizes, lane),
        way_reason=why,
        evaluations=int(outcome.evaluations[step]),
        evaluations_at=_evaluations(outcome, workload, len(losses)),
        measures=measures,
        parameters=outcome.parameters[lane] if outcome.parameters else None,
    )


def _failed(case: Case, seed: int, error: Exception, workload: Workload, why: str) -> TrialResult:
    cause = error.error if isinstance(error, TrialError) else error
    result = TrialResult(
        case_key=case.key,
        seed=seed,
        status="error",
        step=0,
        reason=f"{last_line(cause)}{place_of(cause, case.located.folder)}",
        seconds=0.0,
        way="alone",
        way_reason=why,
    )
    if not isinstance(error, TrialError):
        return result
    outcome = error.recorder.outcome(error.seconds)
    losses = _reached(outcome.losses[0])
    return replace(
        result,
        step=error.step,
        seconds=outcome.seconds,
        losses=losses,
        trajectory=_points(outcome.trajectory, 0),
        step_sizes=_points(outcome.step_sizes, 0),
        evaluations=int(outcome.evaluations[-1]),
        evaluations_at=_evaluations(outcome, workload, len(losses)),
        measures=_others(outcome, 0, len(losses)),
    )


def _others(outcome: Outcome, lane: int, records: int) -> dict[str, NDArray[np.float64]]:
    """By measure, what was recorded beside the loss on train."""
    return {
        name: values[lane, :records]
        for name, values in outcome.values.items()
        if name != TRAIN_LOSS.name
    }


def _evaluations(outcome: Outcome, workload: Workload, records: int) -> NDArray[np.int64] | None:
    """Evaluations at the first recorded steps; None where each step took one."""
    steps = np.asarray(workload.record_steps[:records], dtype=np.int64)
    found = outcome.evaluations[steps]
    return None if np.array_equal(found, steps) else found


def _reached(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The recorded losses up to the last; what comes after was never reached."""
    seen = np.flatnonzero(~np.isnan(losses))
    return losses[: seen[-1] + 1] if len(seen) else losses[:0]


def _points(values: NDArray[np.float64] | None, lane: int) -> NDArray[np.float64] | None:
    if values is None:
        return None
    seen = np.flatnonzero(~np.isnan(values[lane]).all(axis=1))
    return values[lane, : seen[-1] + 1] if len(seen) else values[lane, :0]
