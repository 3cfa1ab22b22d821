"""The worker's side of each request. Loads torch, and everything of a suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

import torch

from harness.engine import trials, validate
from harness.engine.loading import load_objective
from harness.engine.recipe_factory import OptimizerFactory
from harness.engine.sharing import FEWEST, decide
from harness.engine.workload import Workload, prepare
from harness.plan.model import Case
from harness.results import MeasuredRatios, Sharing, StepCounts, Timing, Together
from harness.timing import counts, timing
from harness.timing.reference_ratio import RatioMeasurement
from harness.timing.timed_case import TimedCase
from harness.workers.memory_limit import MemoryLimit
from harness.workers.requests import (
    AnyRequest,
    CollectRatios,
    CountSteps,
    DecideSharing,
    MeasureRatios,
    PrepareRatios,
    RunSingle,
    RunVectorized,
    TimeCases,
    TryPart,
    ValidatePlan,
)


class WorkerTasks:
    """Does what is asked, and keeps what the next request may need.

    Args:
        send: Sends something on the way.
        start_clock: Says that all is loaded and the time limit holds from now.
        on_step: Notes the current step where the coordinator can see it.
        memory: The limit on this process's memory.
    """

    def __init__(
        self,
        send: Callable[[Any], None],
        start_clock: Callable[[], None],
        on_step: Callable[[int], None],
        memory: MemoryLimit,
    ) -> None:
        self._send = send
        self._start_clock = start_clock
        self._on_step = on_step
        self._memory = memory
        self._workloads: dict[tuple[str, str], Workload] = {}
        self._ratios: RatioMeasurement

    def perform(self, request: AnyRequest) -> object:
        """Do what is asked; the answer has the type that the request names."""
        match request:
            case ValidatePlan(plan, deadly):
                torch.set_num_threads(plan.spec.threads)
                self._start_clock()
                return validate.validate_plan(plan, deadly, self._on_step)
            case DecideSharing():
                return self._decide_sharing(request)
            case RunVectorized():
                return self._run_vectorized(request)
            case RunSingle():
                self._run_single(request)
            case TimeCases():
                return self._time_cases(request)
            case CountSteps():
                return self._count_steps(request)
            case PrepareRatios() | MeasureRatios() | CollectRatios():
                return self._ratio(request)
            case TryPart():
                self._try_part(request)
            case _:
                assert_never(request)
        return None

    def _decide_sharing(self, request: DecideSharing) -> Sharing:
        torch.set_num_threads(request.threads)
        first = request.cases[0]
        workload, factory = self._loaded(first)
        self._start_clock()
        return decide(
            workload,
            factory,
            [case.hyperparameters for case in request.cases],
            request.seeds,
            create_graph=first.create_graph,
            fewest=FEWEST,
            on_step=self._on_step,
        )

    def _run_vectorized(self, request: RunVectorized) -> Together:
        torch.set_num_threads(request.threads)
        loaded = self._loaded(request.chunk.cases[0])
        return trials.run_vectorized(
            request.chunk,
            *loaded,
            request.sharing,
            self._start_clock,
            self._on_step,
            seconds=request.seconds,
        )

    def _run_single(self, request: RunSingle) -> None:
        torch.set_num_threads(request.threads)
        for case, seed in request.trials:
            loaded = self._loaded(case)
            self._on_step(0)
            self._start_clock()
            self._send(trials.run_single(case, seed, *loaded, request.reason, self._on_step))
            if self._memory.is_short():
                return

    def _time_cases(self, request: TimeCases) -> tuple[list[Timing], dict[str, str]]:
        torch.set_num_threads(request.threads)
        timed = [TimedCase(case, *self._loaded(case), request.seed) for case in request.cases]
        self._start_clock()
        return timing.time_cases(timed, request.spec, self._on_step)

    def _count_steps(self, request: CountSteps) -> StepCounts:
        torch.set_num_threads(request.threads)
        timed = TimedCase(request.case, *self._loaded(request.case), request.seed)
        self._start_clock()
        return counts.count_steps(timed)

    def _ratio(
        self, request: PrepareRatios | MeasureRatios | CollectRatios
    ) -> MeasuredRatios | None:
        match request:
            case PrepareRatios(cases, spec, seed, threads):
                torch.set_num_threads(threads)
                timed = [TimedCase(case, *self._loaded(case), seed) for case in cases]
                self._start_clock()
                self._ratios = RatioMeasurement(timed, spec, threads, self._on_step)
            case MeasureRatios(rounds):
                self._start_clock()
                self._ratios.rounds(rounds)
            case CollectRatios():
                self._start_clock()
                return self._ratios.result()
        return None

    def _try_part(self, request: TryPart) -> None:
        # No run needs these, and each worker would load them.
        from harness.conformance import datasets as dataset_tests
        from harness.conformance import objectives as objective_tests
        from harness.conformance import optimizers as optimizer_tests
        from harness.conformance import runner
        from harness.conformance.records import DatasetPart, ObjectivePart, OptimizerPart

        torch.set_num_threads(1)
        self._start_clock()
        match request.part:
            case OptimizerPart(case=case) as part:
                tests, folder = optimizer_tests.tests_of(part), case.located.folder
            case ObjectivePart(planned=planned) as part:
                tests, folder = objective_tests.tests_of(part), planned.located.folder
            case DatasetPart(located=located) as part:
                tests, folder = dataset_tests.tests_of(part), located.folder
        runner.run(tests, folder, request.after, request.seconds, self._send, self._on_step)

    def _loaded(self, case: Case) -> tuple[Workload, OptimizerFactory]:
        key = (case.objective.key, case.device)
        if key not in self._workloads:
            with self._memory.meant_to_stay():
                objective, _ = load_objective(case.objective)
                self._workloads[key] = prepare(case.objective, objective, case.device)
        workload = self._workloads[key]
        workload = workload if case.sees_test else workload.without_test()
        return workload, validate.load_case(case)
