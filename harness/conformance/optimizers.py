"""Tests of an optimizer before a long run. Everything here runs a suite's code.

Each test is one that every optimizer of ``torch.optim`` passes, or to which it does not apply.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch

from harness.conformance.records import (
    FINE,
    Observation,
    OptimizerPart,
    SourceLocation,
    note,
    wrong,
)
from harness.conformance.runner import (
    PartTest,
    class_of,
    copied,
    distance,
    place_of_code,
    seed_everything,
    touched,
)
from harness.conformance.stand_ins import STAND_INS, STEPS, workload_of
from harness.engine.isolation import seed_globals
from harness.engine.lanes import Lane, Lanes
from harness.engine.recipe_factory import OptimizerFactory, takes_closure
from harness.engine.sharing import SHARING_SEEDS, decide, ran
from harness.engine.stepper import modes
from harness.engine.validate import optimizer_findings
from harness.engine.ways import Surroundings
from harness.engine.workload import Workload
from harness.objectives.base import Batch, Parameters
from harness.plan.model import Hyperparameters
from harness.plan.recipe import without_training
from harness.suite.locate import last_line
from harness.suite.random_state import generators

SAVED_AFTER = 7
"""Steps before the state is saved: beyond those, and not a multiple of anything likely."""

ORDER_TOLERANCE, AMPLIFIED = 1e-6, 1e3
"""Largest distance to which two orders of parameters may lead in double precision, relative to the
parameters: so far, or so many times as far as a start that is one rounding away.

Sums over all parameters (LBFGS, a clipped norm) are rounded in their order, which steps amplify.
What depends on the order is off by a good part of a step, and from the first on.
"""


def tests_of(part: OptimizerPart) -> list[PartTest]:
    """The tests of an optimizer that a spec names."""
    return _OptimizerTests(part).all()


@dataclass
class _OptimizerTests:
    """The tests, and what the first of them find out for the others."""

    part: OptimizerPart
    factory: OptimizerFactory | None = None
    needs: str = ""
    draws: bool = False
    made: Any = None
    workload: Workload = field(default_factory=lambda: workload_of(""))

    @property
    def setting(self) -> Hyperparameters:
        """The hyperparameters that the spec gives, but those of schedules, clipping and groups."""
        return without_training(self.part.case.hyperparameters)

    @functools.cached_property
    def batches(self) -> list[Batch]:
        """The batches of a run."""
        lanes = Lanes(self.workload, [Lane(0, 0)], stacked=False)
        return list(islice(lanes.batches(), STEPS))

    def all(self) -> list[PartTest]:
        return [
            PartTest("loads", self.loads, self.of_class, gate=True),
            PartTest("steps", self.steps, self.of_step, gate=True),
            PartTest("deterministic", self.deterministic, self.of_step, gate=True),
            PartTest("random state", self.random_state, self.of_step),
            PartTest("state", self.state, self.of_step),
            PartTest("order", self.order, self.of_step),
            PartTest("missing gradient", self.missing_gradient, self.of_step),
            PartTest("closure", self.closure, self.of_step),
            PartTest("groups", self.groups, self.of_step),
            PartTest("hyperparameters", self.hyperparameters, self.of_step),
            PartTest("lanes", self.lanes, self.of_step),
        ]

    def of_class(self) -> SourceLocation | None:
        return place_of_code(class_of(self.factory, self.made)) if self.factory else None

    def of_step(self) -> SourceLocation | None:
        if self.factory is None:
            return None
        return place_of_code(class_of(self.factory, self.made), "step")

    def loads(self) -> list[Observation] | Observation:
        """Import it, and have its constructor take the hyperparameters."""
        findings, self.factory = optimizer_findings(self.part.plan, self.part.case)
        if findings:
            return [Observation("wrong", fault=finding) for finding in findings]
        remark = self.part.case.located.note
        return note(remark) if remark else FINE

    def steps(self) -> Observation:
        """Find out on which parameters it takes steps, if it takes any."""
        errors = []
        for self.needs in STAND_INS:
            self.workload = workload_of(self.needs)
            self.__dict__.pop("batches", None)
            try:
                tried = self.begin()
                start = copied(tried.params)
                tried.go()
            except Exception as error:  # it may be the parameters that it can't take
                errors.append(error)
                continue
            self.made = tried.optimizer
            if distance(start, tried.params)[0] == 0:
                return wrong(f"no parameter has moved after {STEPS} steps")
            if not all(value.isfinite().all() for value in tried.params.values()):
                text = f"parameters aren't finite after {STEPS} steps, though all gradients are"
                return wrong(text)
            if errors:
                return note(f"{self.needs}; with other parameters: {last_line(errors[0])}")
            return FINE
        raise errors[0]

    def begin(
        self,
        *,
        order: Sequence[str] = (),
        given: Parameters | None = None,
        changed: Hyperparameters | None = None,
        group: Hyperparameters | None = None,
    ) -> _OptimizerRun:
        """Make a new optimizer, at the start of a run if not of the parameters that are given.

        Args:
            order: Of the parameters' names.
            given: Values of the parameters.
            changed: Hyperparameters that differ from the setting.
            group: Hyperparameters of the only group.
        """
        assert self.factory is not None
        params = copied(given or self.workload.start(0))
        leaves: list[Any] = [params[name] for name in order or params]
        if group is not None:
            leaves = [{"params": leaves, **group}]
        optimizer = self.factory(leaves, **{**self.setting, **(changed or {})})
        return _OptimizerRun(self, params, optimizer)

    def deterministic(self) -> Observation:
        """Expect two runs from the same state to be bit-identical."""
        runs = []
        for seed in (1, 2):
            seed_everything(seed)
            seed_globals(0)  # as the harness does before every trial
            runs.append(self.begin())
            runs[-1].go()
        apart, name = distance(runs[0].params, runs[1].params)
        if apart == 0:
            return FINE
        text = f"two runs from the same state differ: {name!r} by {apart:.1e} of its size"
        return wrong(f"{text}; is state kept outside the instance?")

    def random_state(self) -> Observation:
        """Expect that it leaves the global random numbers alone."""
        drawn, seeded = touched(lambda: self.begin().go())
        self.draws = bool(drawn)
        if seeded:
            text = f"seeds {generators(seeded)}, so whatever else draws from it repeats itself"
            return wrong(text)
        if not drawn:
            return FINE
        text = f"draws from {generators(drawn)}, which the harness seeds for each trial that runs "
        return note(f"{text}alone; so its trials do")

    def state(self) -> Observation:
        """Expect a saved and restored state to go on to the bit, hyperparameters included.

        In single precision: torch itself casts what it restores to the parameters' type, and keeps
        some of its states (NAdam's ``mu_product``) in single precision.
        """
        single = replace(self, workload=workload_of(self.needs, torch.float32))
        whole = single.begin()
        if not (hasattr(whole.optimizer, "state_dict") and whole.has_groups):
            return note("not applicable: it has no state_dict or no param_groups")
        whole.go(0, SAVED_AFTER)
        groups = whole.optimizer.param_groups
        for group in groups:  # as a schedule does
            if isinstance(group.get("lr"), float):
                group["lr"] *= 0.5
        file = io.BytesIO()
        torch.save(whole.optimizer.state_dict(), file)
        file.seek(0)
        resumed = single.begin(given=whole.params)
        resumed.optimizer.load_state_dict(torch.load(file, weights_only=False))
        if found := _changed(groups, resumed.optimizer.param_groups):
            name, was, now = found
            return wrong(f"a group's {name!r} is {was!r} when saved, {now!r} restored")
        for run in (whole, resumed):
            seed_globals(3)
            run.go(SAVED_AFTER, STEPS)
        apart, name = distance(whole.params, resumed.params)
        if not apart:
            return FINE
        return wrong(
            f"a run that is saved after {SAVED_AFTER} steps and restored into a new instance "
            f"continues differently: {name!r} by {apart:.1e} of its size; state outside self.state "
            "and the groups is lost"
        )

    def order(self) -> Observation:
        """Expect that the order in which parameters are given decides nothing."""
        if self._draws():
            return note("not applicable: it draws random numbers in the order of its parameters")
        start = self.workload.start(0)
        near = {name: value * (1 + torch.finfo(value.dtype).eps) for name, value in start.items()}
        forth, back = self.begin(), self.begin(order=[*start][::-1])
        rounded = self.begin(given=near)
        for step in range(STEPS):
            for run in (forth, back, rounded):
                run.go(step, step + 1)
            apart, name = distance(forth.params, back.params)
            if apart > max(ORDER_TOLERANCE, AMPLIFIED * distance(forth.params, rounded.params)[0]):
                text = f"{name!r} is {apart:.1e} of its size away after step {step + 1}"
                return wrong(f"the order of the parameters matters: {text}")
        return FINE

    def missing_gradient(self) -> Observation:
        """Expect a parameter without a gradient to stay where it is."""
        run = self.begin()
        name = [*run.params][-1]
        before = run.params[name].detach().clone()
        try:
            run.go(0, 3, without=name)
        except Exception as error:
            return note(f"can't take a parameter without a gradient: {last_line(error)}")
        same = torch.equal(run.params[name], before)
        return FINE if same else wrong("moves a parameter that has no gradient")

    def closure(self) -> Observation:
        """Expect ``step`` to evaluate a closure with gradients on, and to return its loss."""
        run = self.begin()
        losses: list[float] = []

        def closure() -> torch.Tensor:
            run.zero_grad()
            loss = run.loss(self.batches[0])
            if not loss.requires_grad:
                raise _GradientsOff
            loss.backward()
            losses.append(float(loss.detach()))
            return loss

        run.evaluate(self.batches[0])
        try:
            returned = run.optimizer.step(closure)  # type: ignore[arg-type]
        except _GradientsOff:
            text = "evaluates the closure with gradients turned off; torch.enable_grad() is missing"
            return wrong(text)
        except TypeError as error:
            if losses:
                raise
            return note(f"takes no closure: {last_line(error)}")
        if not losses:
            return note(
                "does not call the closure; the harness evaluates the loss before each step"
            )
        value = returned.detach() if isinstance(returned, torch.Tensor) else returned
        if value is not None and float(value) in losses:
            return FINE
        shown = "nothing" if value is None else f"{float(value):.6g}"
        return wrong(f"evaluates the closure, whose loss is {losses[0]:.6g}, and returns {shown}")

    def groups(self) -> Observation:
        """Expect parameter groups, with settings of their own or added later, to be heeded."""
        if not self.begin().has_groups:
            return note("not applicable: it has no param_groups")
        for name, value in self._numbers().items():
            other = value / 2
            plain = self.begin(changed={name: other})
            if name in self._deriving(plain):
                continue  # a group's own value comes after the constructor has used it
            # As the constructor keeps it: a rate that it makes a tensor of, say.
            kept = copy.deepcopy(plain.optimizer.param_groups[0].get(name, other))
            try:
                grouped = self.begin(group={name: kept})
            except Exception as error:
                return note(f"not applicable: it takes no groups: {last_line(error)}")
            for run in (plain, grouped):
                seed_globals(0)
                run.go()
            if distance(plain.params, grouped.params)[0]:
                return wrong(f"a group's own {name!r} is not used for its parameters")
        return self._added()

    def _added(self) -> Observation:
        assert self.factory is not None
        params = copied(self.workload.start(0))
        *first, last = params.values()
        try:
            self.factory([{"params": first}, {"params": [last]}], **self.setting)
        except Exception as error:
            return note(f"not applicable: it takes one group only: {last_line(error)}")
        run = _OptimizerRun(self, params, self.factory(first, **self.setting))
        run.go(0, 3)
        before = copied(params)
        run.optimizer.add_param_group({"params": [last]})
        run.go(3, STEPS)
        still = [name for name, value in params.items() if torch.equal(value, before[name])]
        return (
            wrong(f"after add_param_group, {still[0]!r} doesn't move any more") if still else FINE
        )

    def hyperparameters(self) -> Observation:
        """Expect steps to leave the hyperparameters of the groups as they are.

        What is in a group and no argument of the constructor is the optimizer's own state.
        """
        run = self.begin()
        if not run.has_groups:
            return note("not applicable: it has no param_groups")
        own = self._arguments(run)
        before = [copy.deepcopy({**group, "params": None}) for group in run.optimizer.param_groups]
        run.go()
        if found := _changed(before, run.optimizer.param_groups, own):
            name, was, now = found
            text = f"steps change {name!r} of their group from {was!r} to {now!r}"
            return note(f"{text}: a schedule of its own?")
        return FINE

    def lanes(self) -> Observation:
        """Find out whether its trials may share a run."""
        assert self.factory is not None
        if "sparse" in self.needs:
            text = "not applicable: sparse gradients can't share a run; trials run one at a time"
            return note(text)
        sharing = decide(self.workload, self.factory, [self.setting], range(SHARING_SEEDS))
        return Observation("note" if sharing.way != "pointwise" else "fine", ran(sharing))

    def _numbers(self) -> dict[str, float]:
        """Hyperparameters that are numbers above zero and that the constructor takes halved."""
        run = self.begin()
        known = {**getattr(run.optimizer, "defaults", {}), **self.setting}
        found = {}
        for name in self._arguments(run) & known.keys():
            value = known[name]
            if isinstance(value, float) or (torch.is_tensor(value) and value.numel() == 1):
                with contextlib.suppress(Exception):
                    self.begin(changed={name: float(value) / 2})
                    found[name] = float(value)
        return {name: found[name] for name in known if found.get(name, 0) > 0}

    def _arguments(self, run: _OptimizerRun) -> set[str]:
        """Everything that the constructor can be given; whatever else is in a group is state."""
        known = {**getattr(run.optimizer, "defaults", {}), **self.setting}
        try:
            given = inspect.signature(self.factory or type(run.optimizer)).parameters.values()
        except (TypeError, ValueError):
            return {*known}
        named = {parameter.name for parameter in given} - {"params"}
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in given):
            named |= {name for name in known.keys() - named if self._takes(name, known[name])}
        return named

    def _takes(self, name: str, value: Any) -> bool:
        """Tell whether a constructor does something with what it takes by any name."""
        if not isinstance(value, float):
            return name in self.setting
        try:
            groups = self.begin(changed={name: value / 2}).optimizer.param_groups
        except Exception:
            return False
        return bool(groups[0].get(name) == value / 2)

    def _deriving(self, changed: _OptimizerRun) -> set[str]:
        """The arguments that differ, where the constructor makes other defaults of one of them."""
        was, now = (getattr(r.optimizer, "defaults", {}) for r in (self.begin(), changed))
        differing = {n for n in was.keys() | now.keys() if not _equal(was.get(n), now.get(n))}
        return differing if len(differing) > 1 else set()

    def _draws(self) -> bool:
        """Tell whether it draws random numbers; asked anew where another process found it out."""
        return self.draws or bool(touched(lambda: self.begin().go(0, 2))[0])


class _GradientsOff(Exception):
    """A closure was evaluated where no gradient is recorded."""


@dataclass
class _OptimizerRun:
    """An optimizer on its way."""

    tests: _OptimizerTests
    params: Parameters
    optimizer: torch.optim.Optimizer

    @property
    def has_groups(self) -> bool:
        """Tell whether its optimizer has parameter groups."""
        return isinstance(getattr(self.optimizer, "param_groups", None), list)

    def go(self, first: int = 0, last: int = STEPS, without: str = "") -> None:
        """Take the steps of the batches from ``first`` on; ``without`` a parameter's gradient."""
        around = Surroundings(list(self.params.values()))
        if (mode := modes(self.optimizer)) is not None:
            mode[0]()
        for batch in self.tests.batches[first:last]:
            loss = self.evaluate(batch, without)
            around.evaluated()

            def closure(batch: Batch = batch, loss: torch.Tensor = loss) -> torch.Tensor:
                return loss if around.is_as_evaluated() else self.evaluate(batch, without)

            if takes_closure(self.optimizer):
                self.optimizer.step(closure)  # type: ignore[arg-type]
            else:
                self.optimizer.step()

    def evaluate(self, batch: Batch, without: str = "") -> torch.Tensor:
        """Loss and gradients on a batch."""
        self.zero_grad()
        with torch.enable_grad():
            loss = self.loss(batch)
            loss.backward()
        if without:
            self.params[without].grad = None
        return loss.detach()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for value in self.params.values():
            value.grad = None

    def loss(self, batch: Batch) -> torch.Tensor:
        """The loss on a batch."""
        return self.tests.workload.objective.loss(self.params, batch)


def _changed(
    before: Sequence[Mapping[str, Any]],
    now: Sequence[Mapping[str, Any]],
    names: Collection[str] | None = None,
) -> tuple[str, Any, Any] | None:
    """The first entry of groups that has changed: its name, what it was, what it is."""
    for was, group in zip(before, now, strict=True):
        for name in sorted(was.keys() - {"params"}):
            if names is not None and name not in names:
                continue
            if name not in group or not _equal(was[name], group[name]):
                return name, was[name], group.get(name, "missing")
    return None


def _equal(a: Any, b: Any) -> bool:
    """Tell whether two hyperparameters are the same; one may be a tensor."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    return type(a) is type(b) and bool(a == b)
