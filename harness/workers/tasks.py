"""What a worker can be asked for. Loads torch, and everything of a suite."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch

from harness.engine import trials, validate
from harness.engine.sharing import FEWEST, decide
from harness.engine.training_loop import OptimizerFactory
from harness.engine.workload import Workload, load_objective, prepare
from harness.plan.model import Case, Plan
from harness.results import Checked, Chunk, MeasuredRatios, Sharing, StepCounts, Timing, Together
from harness.spec.model import CheckSpec, TimingSpec
from harness.timing import timing
from harness.timing.reference_ratio import RatioMeasurement
from harness.workers.memory_limit import Memory

if TYPE_CHECKING:
    from harness.conformance.records import Part


class Session:
    """Does what is asked, and remembers what the next request may need.

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
        self._ratios: RatioMeasurement

    def check(self, plan: Plan, deadly: Collection[str]) -> Checked:
        """Load and construct everything a plan names; the step is the objective's number."""
        torch.set_num_threads(plan.spec.threads)
        self._start_clock()
        return validate.check(plan, deadly, self._on_step)

    def decide(self, cases: Sequence[Case], seeds: Sequence[int], threads: int) -> Sharing:
        """Find out how the trials of some cases may run."""
        torch.set_num_threads(threads)
        settings = [case.hyperparameters for case in cases]
        ready = self._ready(cases[0])
        self._start_clock()
        return decide(
            *ready,
            settings,
            seeds,
            create_graph=cases[0].create_graph,
            fewest=FEWEST,
            on_step=self._on_step,
        )

    def together(self, chunk: Chunk, sharing: Sharing, threads: int) -> Together:
        """Run a chunk side by side; raises if any of its trials does."""
        torch.set_num_threads(threads)
        ready = self._ready(chunk.cases[0])
        return trials.together(chunk, *ready, sharing, self._start_clock, self._on_step)

    def alone(self, todo: Sequence[tuple[Case, int]], reason: str, threads: int) -> None:
        """Run trials one by one and send each result; a trial that raises costs itself only.

        Stops early where a trial left so much behind that the next might want for memory.
        """
        torch.set_num_threads(threads)
        for case, seed in todo:
            ready = self._ready(case)
            self._on_step(0)
            self._start_clock()
            self._send(trials.alone(case, seed, *ready, reason, self._on_step))
            if self._memory.is_short():
                return

    def time(
        self,
        cases: Sequence[Case],
        spec: TimingSpec,
        seed: int,
        threads: int,
    ) -> tuple[list[Timing], dict[str, str]]:
        """Time cases of one objective and device."""
        torch.set_num_threads(threads)
        timed = [timing.TimedCase(case, *self._ready(case), seed) for case in cases]
        self._start_clock()
        return timing.time_cases(timed, spec, self._on_step)

    def count_steps(self, case: Case, seed: int, threads: int) -> StepCounts:
        """What a case's steps take beside time."""
        torch.set_num_threads(threads)
        timed = timing.TimedCase(case, *self._ready(case), seed)
        self._start_clock()
        return timing.count(timed)

    def prepare_ratios(
        self, cases: Sequence[Case], spec: CheckSpec, seed: int, threads: int
    ) -> None:
        """Make cells ready to be measured."""
        torch.set_num_threads(threads)
        timed = [timing.TimedCase(case, *self._ready(case), seed) for case in cases]
        self._start_clock()
        self._ratios = RatioMeasurement(timed, spec, threads, self._on_step)

    def measure_ratios(self, count: int) -> None:
        """Measure some more rounds of the cells made ready."""
        self._start_clock()
        self._ratios.rounds(count)

    def measured_ratios(self) -> MeasuredRatios:
        """What was measured."""
        self._start_clock()
        return self._ratios.result()

    def test_part(self, part: Part, after: int, seconds: float) -> None:
        """Try a part of a suite and send what is found; ``after`` so many tests begun before."""
        # No run needs these, and each worker would load them.
        from harness.conformance import datasets as dataset_tests
        from harness.conformance import objectives as objective_tests
        from harness.conformance import optimizers as optimizer_tests
        from harness.conformance import runner as part_runner
        from harness.conformance.records import DatasetPart, ObjectivePart, OptimizerPart

        torch.set_num_threads(1)
        self._start_clock()
        match part:
            case OptimizerPart():
                tests, folder = optimizer_tests.tests_of(part), part.case.located.folder
            case ObjectivePart():
                tests, folder = objective_tests.tests_of(part), part.planned.located.folder
            case DatasetPart():
                tests, folder = dataset_tests.tests_of(part), part.located.folder
        part_runner.run(tests, folder, after, seconds, self._send, self._on_step)

    def _ready(self, case: Case) -> tuple[Workload, OptimizerFactory]:
        key = (case.objective.key, case.device)
        if key not in self._workloads:
            with self._memory.meant_to_stay():
                objective, _ = load_objective(case.objective)
                self._workloads[key] = prepare(case.objective, objective, case.device)
        return self._workloads[key], validate.load_optimizer(case.located)
