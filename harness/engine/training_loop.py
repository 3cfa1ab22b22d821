"""The training loop. One trial is one lane; a thousand trials are a thousand lanes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from harness.engine.isolation import restore_classes, seed_globals
from harness.engine.lane_values import NotShareable
from harness.engine.lanes import Lane, Lanes
from harness.engine.own_optimizers import stepper_for
from harness.engine.recipe_factory import OptimizerFactory
from harness.engine.recording import Outcome, Recorder
from harness.engine.stepper import Limit, Witness
from harness.engine.workload import Workload
from harness.plan.model import Hyperparameters
from harness.results import Way
from harness.suite import torch_settings
from harness.suite.random_state import drawn_from, generators, random_state

WATCH_STEPS = 64
"""Steps between two looks at the losses of the steps (a look waits for the device)."""


class TrialError(Exception):
    """An optimizer or objective raised; carries the step, the time and what was recorded."""

    def __init__(self, step: int, error: Exception, recorder: Recorder, seconds: float) -> None:
        self.step = step
        self.error = error
        self.recorder = recorder
        self.seconds = seconds
        super().__init__(str(error))


@torch_settings.settings_kept()
def train(
    workload: Workload,
    factory: OptimizerFactory,
    settings: Sequence[Hyperparameters],
    lanes: Sequence[Lane],
    *,
    way: Way,
    create_graph: bool = False,
    on_step: Callable[[int], None] | None = None,
    disturb: Callable[[Lanes], None] | None = None,
    witness: Witness | None = None,
    limit: Limit | None = None,
) -> Outcome:
    """Run some trials from start to end.

    Args:
        workload: What to minimise, and for how long.
        factory: The optimizer's class.
        settings: Hyperparameters, by the lanes' setting index.
        lanes: The trials; one alone.
        way: How the optimizer's code runs.
        create_graph: See :class:`~harness.engine.stepper.Stepper`.
        on_step: Called with the number of every step begun.
        disturb: Called after every step, to change the parameters.
        witness: Notes what the first steps do.
        limit: Of a lane's time, where each has an optimizer of its own.

    Returns:
        What became of each lane, in the order given.

    Raises:
        TrialError: If the optimizer or the objective raises.
        NotShareable: If the trials can't share a run in that way.
    """
    shared = way != "alone"
    for kind in (factory, type(workload.objective)):
        restore_classes(kind)
    seed_globals(None if shared else lanes[0].seed)
    before = random_state() if shared else None
    began = time.perf_counter()
    trials = Lanes(workload, lanes, stacked=shared)
    stepper = stepper_for(way)(trials, factory, settings, way, create_graph=create_graph)
    stepper.limit = limit
    recorder = Recorder(stepper)
    step = 0
    with stepper.running():
        try:
            recorder.record(0)
            for step, batch in zip(range(1, workload.steps + 1), trials.batches(), strict=False):
                if on_step is not None:
                    on_step(step)
                recorder.watch(stepper.step(batch, witness))
                if disturb is not None:
                    disturb(trials)
                recorder.record(step)
                if stepper.schedule is not None and stepper.schedule.looks_at_loss:
                    stepper.schedule.look(recorder.latest(step))
                looks = step % WATCH_STEPS == 0
                if (recorder.has_news or looks) and recorder.all_ended(looks=looks):
                    break
        except NotShareable:
            raise
        except Exception as error:
            stepper.around.check()  # what can't be shared may end in another error
            raise TrialError(step, error, recorder, time.perf_counter() - began) from error
    if before is not None and (drawn := drawn_from(before, random_state())):
        raise NotShareable(f"it draws from {generators(drawn)}, whose numbers are a trial's own")
    recorder.look()  # so that the seconds are those of the device, which may be far behind
    return recorder.outcome(time.perf_counter() - began)
