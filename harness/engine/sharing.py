"""The decision on how trials share a run: by their first steps, and one of them run alone.

Three ways are certain without a look at numbers: op by op, where every operator of every step is
seen to work element by element; lane by lane, where the optimizer's own code runs inside ``vmap``;
and own optimizers, where each lane has an object of its own. What the first can't show is a rule
that goes by shape or by how many there are, as a stack of lanes has one dimension more than a
trial. Such a rule does the same wrong thing to all lanes, so it is caught by comparing some: over
the first steps, fed with the same gradients, with as many lanes as the run will have; and, in
whatever way trials share a run, over the whole of it, by one trial that is run alone to its end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from harness.engine.isolation import restore_classes, seed_globals
from harness.engine.lane_values import NotShareable, describe_error
from harness.engine.lanes import Lane, Lanes
from harness.engine.memory import lane_bytes
from harness.engine.recipe_factory import OptimizerFactory, recipe_of
from harness.engine.recording import Outcome
from harness.engine.stepper import Stepper
from harness.engine.training_loop import TrialError, train
from harness.engine.ways import uncompiled
from harness.engine.workload import Workload
from harness.plan.model import Hyperparameters
from harness.results import Sharing, Way

SharedWay = Literal["pointwise", "vmapped", "own_optimizers"]

FIRST_STEPS = 3
"""Steps that are compared to those of runs of their own, and timed."""

ULPS = 64
"""Roundings that a parameter may be off after the first steps."""

FEWEST = 4
"""Trials that gain from sharing a run, one of which is run alone as well."""

FASTER_ALONE = 1.0
"""The share of the time of all trials alone that a shared run may take, that of the trial which is
run alone to compare them included."""

SHARED_WAYS: tuple[SharedWay, ...] = ("pointwise", "vmapped", "own_optimizers")
"""The ways to share a run, in the order in which they are tried."""

TRIED_OBJECTS = 32
"""Lanes with an optimizer each by which the time of more is told."""

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Difference of a recorded loss, relative to its size, that is taken for rounding unseen."""

ROUNDING_FACTOR = 10.0
"""Multiple of the effect of one rounding in every step that is still taken for rounding."""


def decide(
    workload: Workload,
    factory: OptimizerFactory,
    settings: Sequence[Hyperparameters],
    seeds: Sequence[int],
    *,
    create_graph: bool = False,
    fewest: int = 2,
    on_step: Callable[[int], None] | None = None,
) -> Sharing:
    """Find out how some trials may run: every setting with every seed.

    Args:
        workload: What they minimise.
        factory: The optimizer's class.
        settings: Hyperparameters that differ by floats alone.
        seeds: At least one.
        create_graph: Whether gradients keep their graph.
        fewest: How many trials may share a run at least; fewer run alone.
        on_step: Called with a number that changes as long as it gets on.
    """
    trial = _Trial(workload, factory, settings, create_graph, on_step)
    # Where not all settings can, each by itself may be able to share a run with other seeds.
    else_way: Literal["apart", "alone"] = "apart" if len(settings) > 1 else "alone"
    try:
        alone_seconds = trial.step_seconds([Lane(0, seeds[0])], "alone")
    except Exception as error:
        return Sharing(else_way, f"a trial alone fails: {describe_error(error)}")
    if why := _why_alone(factory, len(settings) * len(seeds), fewest, create_graph=create_graph):
        return Sharing("alone", why, 0, alone_seconds)
    reasons: list[str] = []
    for way in SHARED_WAYS:
        if way == "own_optimizers" and trial.is_better_apart(seeds, alone_seconds, fewest):
            break
        try:
            return trial.shared(way, seeds, alone_seconds, reasons)
        except Exception as error:
            reasons.append(f"{WORDS[way]}: {describe_error(error)}")
            if isinstance(error, _NoFaster):
                else_way = "alone"
                if way == "pointwise":  # nor is any other way, as loss and gradients are the same
                    break
    return Sharing(else_way, "; ".join(reasons), 0, alone_seconds)


def _why_alone(factory: OptimizerFactory, trials: int, fewest: int, *, create_graph: bool) -> str:
    """Say why trials run alone, whatever their code does; empty where that depends on it."""
    if trials == 1:
        return "there is no other trial to share a run with"
    if looks := recipe_of(factory).looks_at_loss:
        return f"its schedule looks at a loss ({looks})"
    if trials < fewest:
        return f"fewer than {fewest} trials gain nothing from sharing a run"
    return "its gradients keep their graph" if create_graph else ""


class _NoFaster(NotShareable):
    """A shared run is no faster than trials alone."""


def ran(sharing: Sharing) -> str:
    """Say how trials run: ``lane by lane: not op by op: ...``."""
    if sharing.way == "pointwise":
        return ""
    by = "with own optimizers" if sharing.way == "own_optimizers" else "lane by lane"
    how = "one at a time" if sharing.way == "alone" else f"side by side, {by}"
    return f"trials run {how}: {sharing.reason}"


SHARING_SEEDS = 100
"""Seeds with which a part is tried: about as many as it will run with."""

WORDS: dict[Way, str] = {
    "pointwise": "not op by op",
    "vmapped": "not lane by lane",
    "own_optimizers": "not with own optimizers",
    "alone": "not alone",
}


@dataclasses.dataclass
class _Trial:
    """Tries the first steps of some trials."""

    workload: Workload
    factory: OptimizerFactory
    settings: Sequence[Hyperparameters]
    create_graph: bool
    on_step: Callable[[int], None] | None
    steps: int = 0

    def shared(
        self,
        way: SharedWay,
        seeds: Sequence[int],
        alone_seconds: float,
        reasons: Sequence[str],
    ) -> Sharing:
        """Try one way, and say how the trials run if it is open.

        Raises:
            NotShareable: If it isn't.
        """
        size = lane_bytes(self.workload, self.factory, self.settings[0], way, self._next)
        sharing = Sharing(way, "; ".join(reasons), size, alone_seconds)
        count = sharing.lanes_at_once
        per_setting = max(1, count // len(self.settings))
        lanes = [
            Lane(i, seed)
            for i in range(min(count, len(self.settings)))
            for seed in seeds[:per_setting]
        ]
        if way == "pointwise":
            exact, witness = self._exact(), FirstSteps(len(lanes))
            self._run(exact, lanes, way, self._next, witness)
            witness.compare(exact, self.factory, self.settings, lanes, self._next)
        timed = lanes[:TRIED_OBJECTS] if way == "own_optimizers" else lanes
        seconds = self.step_seconds(timed, way) / len(timed)
        # One of the trials is run alone as well.
        share = seconds / alone_seconds + 1 / len(lanes)
        if share > FASTER_ALONE:
            raise _NoFaster(
                f"a shared run is no faster ({share:.2f} times the seconds of trials alone)"
            )
        return sharing

    def is_better_apart(self, seeds: Sequence[int], alone_seconds: float, fewest: int) -> bool:
        """Tell whether the seeds of one setting can share the optimizer's steps as well.

        Where the values of several settings are all that stands in the way, the seeds of each by
        itself may run op by op or lane by lane, which is faster than an optimizer for each.
        """
        if len(self.settings) == 1 or len(seeds) < fewest:
            return False
        one = dataclasses.replace(self, settings=self.settings[:1])
        for way in ("pointwise", "vmapped"):
            with contextlib.suppress(Exception):
                one.shared(way, seeds, alone_seconds, [])
                return True
        return False

    def step_seconds(self, lanes: Sequence[Lane], way: Way) -> float:
        """Seconds of a step: the least of the first steps, the very first left out."""
        clock = _Clock(self.workload, self._next)
        self._run(self.workload, lanes, way, clock)
        return clock.least

    def _run(
        self,
        workload: Workload,
        lanes: Sequence[Lane],
        way: Way,
        on_step: Callable[[int], None],
        witness: FirstSteps | None = None,
    ) -> None:
        steps = min(FIRST_STEPS, workload.steps)
        few = dataclasses.replace(
            workload,
            steps=steps,
            record_steps=(),
            held_out={},
            metrics=(),
            stop=None,
            steps_of_schedule=workload.scheduled_steps,
        )
        try:
            train(
                few,
                self.factory,
                self.settings,
                lanes,
                way=way,
                create_graph=self.create_graph,
                on_step=on_step,
                witness=witness,
            )
        except TrialError as error:
            raise error.error from error

    def _exact(self) -> Workload:
        """The workload in double precision, in which a rule of small effect stands out."""
        workload = self.workload
        if workload.dtype == torch.float64 or workload.device.type == "mps":
            return workload
        data = workload.data and tuple(
            tensor.double() if tensor.is_floating_point() else tensor for tensor in workload.data
        )
        exact = dataclasses.replace(workload, dtype=torch.float64, data=data)
        try:
            self._run(exact, [Lane(0, 0)], "alone", self._next)
        except Exception:
            return workload  # the objective or the optimizer has a precision of its own
        return exact

    def _next(self, step: int) -> None:
        del step
        self.steps += 1
        if self.on_step is not None:
            self.on_step(self.steps)


class _Clock:
    """Times steps, from the beginning of one to that of the next.

    Where one thread does all the work, by the seconds that a processor works for it: what else a
    machine does must not decide how trials run.
    """

    def __init__(self, workload: Workload, beside: Callable[[int], None]) -> None:
        is_one = workload.device.type == "cpu" and torch.get_num_threads() == 1
        self._now = time.process_time if is_one else time.perf_counter
        self._beside = beside
        self._last = 0.0
        self.least = math.inf

    def __call__(self, step: int) -> None:
        now = self._now()
        if step > 1:
            self.least = min(self.least, now - self._last)
        self._beside(step)
        self._last = self._now()


Given = tuple[list[torch.Tensor | None], torch.Tensor]
"""The gradients and the loss that a step is taken with."""


class FirstSteps:
    """The first steps of a shared run, as they were for some of its lanes.

    Args:
        lanes: How many lanes it has.
        steps: How many steps are noted.
    """

    def __init__(self, lanes: int, steps: int = FIRST_STEPS) -> None:
        self.positions = sorted({0, lanes // 2, lanes - 1})
        self._steps = steps
        self._given: list[list[Given]] = []
        self._made: list[list[list[torch.Tensor]]] = []

    def note_gradients(self, leaves: Sequence[torch.Tensor], losses: torch.Tensor) -> None:
        """Note what a step is about to be taken with."""
        if len(self._given) < self._steps:
            grads = [leaf.grad for leaf in leaves]
            self._given.append(
                [
                    ([None if g is None else g[i].clone() for g in grads], losses[i].clone())
                    for i in self.positions
                ]
            )

    def note_parameters(self, leaves: Sequence[torch.Tensor]) -> None:
        """Note what it made of the parameters."""
        if len(self._made) < self._steps:
            self._made.append(
                [[leaf[i].detach().clone() for leaf in leaves] for i in self.positions]
            )

    def compare(
        self,
        workload: Workload,
        factory: OptimizerFactory,
        settings: Sequence[Hyperparameters],
        lanes: Sequence[Lane],
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        """Take the same steps alone, with the same gradients.

        Args:
            workload: What the trials minimise.
            factory: Their optimizer.
            settings: Hyperparameters, by the lanes' setting index.
            lanes: All lanes of the shared run.
            on_step: Called with the number of every step begun.

        Raises:
            NotShareable: If a parameter is not where it was in the shared run, but for rounding.
        """
        for place, position in enumerate(self.positions):
            lane = lanes[position]
            restore_classes(factory)
            seed_globals(lane.seed)
            alone = Lanes(workload, [lane], stacked=False)
            stepper = _Fed(alone, factory, settings, "alone")
            for step, batch in zip(range(len(self._given)), alone.batches(), strict=False):
                before = [leaf.detach().clone() for leaf in alone.leaves()]
                if on_step is not None:
                    on_step(place * len(self._given) + step + 1)
                stepper.train()
                stepper.feed(*self._given[step][place])
                stepper.step(batch)
                for old, leaf, made in zip(
                    before, alone.leaves(), self._made[step][place], strict=True
                ):
                    if not _is_rounding(old, leaf.detach(), made):
                        raise NotShareable(
                            f"a trial differs from the same trial alone after step {step + 1}, "
                            "as its step goes by the shape or size of its tensors"
                        )


class _Fed(Stepper):
    """Takes a step with gradients that it is given; evaluates only what is asked for beyond."""

    _fed: Given | None = None

    def feed(self, grads: list[torch.Tensor | None], loss: torch.Tensor) -> None:
        """Give the gradients and the loss of the next step."""
        self._fed = (grads, loss)

    def _evaluate(self) -> torch.Tensor:
        if self._fed is None:
            return super()._evaluate()
        grads, self._losses = self._fed
        self._fed = None
        for leaf, grad in zip(self._leaves, grads, strict=True):
            leaf.grad = None if grad is None else grad.clone()
        self.around.evaluated()
        return self._losses


def _is_rounding(before: torch.Tensor, own: torch.Tensor, shared: torch.Tensor) -> bool:
    size = torch.maximum(before.abs(), own.abs()).nan_to_num(0, 0, 0).max()
    same = (own == shared) | (own.isnan() & shared.isnan())
    gap = torch.where(same, 0, own - shared).abs().max()
    return bool(gap <= ULPS * torch.finfo(own.dtype).eps * size) if own.numel() else True


def difference(own: NDArray[np.float64], shared: NDArray[np.float64]) -> float:
    """The largest difference of two curves of losses, relative to the losses' size.

    Args:
        own: Losses at the recorded steps; NaN after a divergence.
        shared: The same trial's from another run.
    """
    a, b = np.asarray(own, float), np.asarray(shared, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.maximum(np.abs(a), np.abs(b))
        gap = np.abs(a - b) / np.where(size > 0, size, 1.0)
    gap[(a == b) | (~np.isfinite(a) & ~np.isfinite(b))] = 0.0
    return float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0))


def rounding(
    workload: Workload,
    factory: OptimizerFactory,
    setting: Hyperparameters,
    seed: int,
    own: Outcome,
    found: float,
) -> float:
    """The difference that rounding alone may make between two runs of a trial.

    Where the difference that was found is more than what is never worth a look, the trial is run
    once more, with every parameter changed by one rounding after every step, and whatever is cast
    to a lower precision by one of that: some dynamics make much of it.

    Args:
        workload: What the trial minimises.
        factory: Its optimizer.
        setting: Its hyperparameters.
        seed: Its seed.
        own: The trial alone.
        found: The difference found, see :func:`difference`.
    """
    allowed = TOLERANCE[workload.dtype]
    if found <= allowed:
        return allowed
    source = torch.Generator().manual_seed(seed)
    eps = torch.finfo(workload.dtype).eps

    @torch.no_grad()
    def disturb(lanes: Lanes) -> None:
        for leaf in lanes.leaves():
            signs = torch.randint(0, 2, leaf.shape, generator=source) * 2 - 1
            leaf.mul_(1 + eps * signs.to(leaf.device, leaf.dtype))

    with uncompiled(), _RoundedCasts(source):
        outcome = train(workload, factory, [setting], [Lane(0, seed)], way="alone", disturb=disturb)
    return max(allowed, ROUNDING_FACTOR * difference(own.losses[0], outcome.losses[0]))


class _RoundedCasts(TorchDispatchMode):
    """Changes what is cast to a lower precision by one rounding of that."""

    def __init__(self, source: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._source = source

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        if func is not torch.ops.aten._to_copy.default or not result.is_floating_point():
            return result
        eps = torch.finfo(result.dtype).eps
        if not args[0].is_floating_point() or eps <= torch.finfo(args[0].dtype).eps:
            return result
        signs = torch.randint(0, 2, result.shape, generator=self._source) * 2 - 1
        return result * (1 + eps * signs.to(result.device, result.dtype))
