"""What is tested of an optimizer before a long run. Everything here runs a suite's code.

Each test is one that every optimizer of ``torch.optim`` passes, or to which it does not apply.
"""

from __future__ import annotations

import copy
import functools
import inspect
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch.nn import functional

from harness.conformance.records import Observation, OptimizerPart, Place
from harness.conformance.runner import (
    PartTest,
    class_of,
    copied,
    distance,
    place_of_code,
    seed_everything,
    touched,
)
from harness.engine.isolation import seed_globals
from harness.engine.lanes import Lane, Lanes
from harness.engine.sharing import SHARING_SEEDS, decide, ran
from harness.engine.training_loop import OptimizerFactory, modes, takes_closure
from harness.engine.validate import optimizer_findings
from harness.engine.ways import Surroundings
from harness.engine.workload import Workload
from harness.objectives.base import Batch, Objective, Parameters
from harness.plan.model import Hyperparameters
from harness.suite.locate import last_line
from harness.suite.random_state import generators

STEPS = 12
"""Steps of a run: enough for what only starts after a few (RAdam's sixth, say)."""

SAVED_AFTER = 7
"""Steps before the state is saved: beyond those, and not a multiple of anything likely."""

ORDER_TOLERANCE, AMPLIFIED = 1e-6, 1e3
"""How far two orders of parameters may lead apart in double precision, relative to the parameters:
so far, or so many times as far as a start that is one rounding away.

Sums over all parameters (LBFGS, a clipped norm) are rounded in their order, which steps amplify.
What depends on the order is off by a good part of a step, and from the first on.
"""

ROWS, BATCH_SIZE, INPUTS = 32, 8, 4


class StandIn(Objective):
    """A small smooth objective whose gradient never grows, so that no learning rate overflows.

    Args:
        shapes: Of the parameters, by name.
        output: What the parameters make of rows of features, shape ``(rows, 2)``.
    """

    def __init__(
        self,
        shapes: dict[str, tuple[int, ...]],
        output: Callable[[Parameters, torch.Tensor], torch.Tensor],
    ) -> None:
        numbers = torch.Generator().manual_seed(0)
        draw = {"generator": numbers, "dtype": torch.float64}
        features = torch.randn(ROWS, INPUTS, **draw)  # type: ignore[call-overload]
        labels = torch.randn(ROWS, 2, **draw)  # type: ignore[call-overload]
        self.data = (features, labels)
        self._shapes, self._output = shapes, output

    def init(self, generator: torch.Generator) -> Parameters:
        """Normal numbers."""
        return {
            name: torch.randn(shape, generator=generator, dtype=torch.float64)
            for name, shape in self._shapes.items()
        }

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        """The mean of ``log cosh`` of the residuals."""
        features, labels = batch
        residuals = self._output(params, features) - labels
        # log cosh r without overflow: r + log((1 + exp(-2 r)) / 2).
        losses: torch.Tensor = residuals + functional.softplus(-2 * residuals) - math.log(2)
        return losses.mean()


def _network(params: Parameters, features: torch.Tensor) -> torch.Tensor:
    hidden = torch.tanh(features @ params["weight"] + params["bias"])
    return hidden * params["scale"]


def _matrices(params: Parameters, features: torch.Tensor) -> torch.Tensor:
    hidden = torch.tanh(features @ params["first"])
    return hidden.mm(params["second"])


def _tables(params: Parameters, features: torch.Tensor) -> torch.Tensor:
    rows = (features[:, 0] > 0).long()
    first = functional.embedding(rows, params["first"], sparse=True)
    return first + functional.embedding(1 - rows, params["second"], sparse=True)


STAND_INS: dict[str, tuple[dict[str, tuple[int, ...]], Any]] = {
    "": ({"weight": (INPUTS, 2), "bias": (2,), "scale": ()}, _network),
    "takes matrices only": ({"first": (INPUTS, 3), "second": (3, 2)}, _matrices),
    "takes sparse gradients only": ({"first": (2, 2), "second": (2, 2)}, _tables),
}
"""What an optimizer is tried on: the first on which it takes a step."""


def workload_of(name: str, dtype: torch.dtype = torch.float64) -> Workload:
    """One of the stand-ins, made ready."""
    objective = StandIn(*STAND_INS[name])
    assert objective.data is not None
    return Workload(
        objective=objective,
        data=tuple(tensor.to(dtype) for tensor in objective.data),
        dtype=dtype,
        device=torch.device("cpu"),
        steps=STEPS,
        steps_per_epoch=ROWS // BATCH_SIZE,
        batch_size=BATCH_SIZE,
        record_steps=(0, STEPS),
        divergence_factor=1e3,
    )


def tests_of(part: OptimizerPart) -> list[PartTest]:
    """The tests of an optimizer that a spec names."""
    return _Tests(part.case.hyperparameters, part=part).all()


def tests_of_class(factory: OptimizerFactory, setting: Hyperparameters) -> list[PartTest]:
    """The tests of an optimizer's class with some hyperparameters."""
    return _Tests(setting, factory=factory).all()


@dataclass
class _Tests:
    """The tests, and what the first of them find out for the others."""

    setting: Hyperparameters
    part: OptimizerPart | None = None
    factory: OptimizerFactory | None = None
    needs: str = ""
    draws: bool = False
    made: Any = None
    workload: Workload = field(default_factory=lambda: workload_of(""))

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

    def of_class(self) -> Place | None:
        return place_of_code(class_of(self.factory, self.made)) if self.factory else None

    def of_step(self) -> Place | None:
        if self.factory is None:
            return None
        return place_of_code(class_of(self.factory, self.made), "step")

    def loads(self) -> Iterator[Observation]:
        """Whether it can be imported, and its constructor takes the hyperparameters."""
        if self.part is not None:
            findings, self.factory = optimizer_findings(self.part.plan, self.part.case)
            yield from (Observation("wrong", fault=finding) for finding in findings)
            if findings:
                return
            if note := self.part.case.located.note:
                yield Observation("note", note)
                return
        yield Observation("fine")

    def steps(self) -> Iterator[Observation]:
        """Whether it takes steps, and on which parameters."""
        assert self.factory is not None
        first_error: BaseException | None = None
        for needs in STAND_INS:
            self.workload = workload_of(needs)
            self.__dict__.pop("batches", None)
            try:
                tried = self.begin()
                start = copied(tried.params)
                tried.go()
            except Exception as error:  # it may be the parameters that it can't take
                first_error = first_error or error
                continue
            self.made = tried.optimizer
            self.needs = needs
            yield from self._moved(tried, start, first_error)
            return
        assert first_error is not None
        raise first_error

    def _moved(
        self, tried: _Run, start: Parameters, error: BaseException | None
    ) -> Iterator[Observation]:
        moved, _ = distance(start, tried.params)
        if moved == 0:
            yield Observation("wrong", f"no parameter has moved after {STEPS} steps")
        elif moved == torch.inf or not all(v.isfinite().all() for v in tried.params.values()):
            yield Observation(
                "wrong", f"parameters aren't finite after {STEPS} steps, though all gradients are"
            )
        elif error is not None:
            yield Observation("note", f"{self.needs}; of others it says: {last_line(error)}")
        else:
            yield Observation("fine")

    def begin(
        self,
        *,
        order: Sequence[str] = (),
        given: Parameters | None = None,
        changed: Hyperparameters | None = None,
    ) -> _Run:
        """A new optimizer at the start of a run, or with the parameters that are given."""
        assert self.factory is not None
        params = copied(given or self.workload.start(0))
        leaves = [params[name] for name in order or params]
        optimizer = self.factory(leaves, **{**self.setting, **(changed or {})})
        return _Run(self, params, optimizer)

    def deterministic(self) -> Iterator[Observation]:
        """Whether two runs from the same state are equal to the bit."""
        runs = []
        for seed in (1, 2):
            seed_everything(seed)
            seed_globals(0)  # as the harness does before every trial
            runs.append(self.begin())
            runs[-1].go()
        apart, name = distance(runs[0].params, runs[1].params)
        if apart == 0:
            yield Observation("fine")
            return
        why = "; is something kept outside the instance?"
        text = f"two runs from the same state differ: {name!r} by {apart:.1e} of its size{why}"
        yield Observation("wrong", text)

    def random_state(self) -> Iterator[Observation]:
        """Whether it leaves the global random numbers alone."""
        drawn, seeded = touched(lambda: self.begin().go())
        self.draws = bool(drawn)
        if seeded:
            text = f"seeds {generators(seeded)}, so whatever else draws from it repeats itself"
            yield Observation("wrong", text)
        elif drawn:
            yield Observation(
                "note",
                f"draws from {generators(drawn)}, which the harness seeds for each trial that "
                "runs alone; so its trials do",
            )
        else:
            yield Observation("fine")

    def state(self) -> Iterator[Observation]:
        """Whether a saved and restored state goes on to the bit, hyperparameters included.

        In single precision: torch itself casts what it restores to the parameters' type, and keeps
        some of its states (NAdam's ``mu_product``) in single precision.
        """
        single = replace(self, workload=workload_of(self.needs, torch.float32))
        whole = single.begin()
        if not (hasattr(whole.optimizer, "state_dict") and self._has_groups(whole)):
            yield Observation("note", "not applicable: it has no state_dict or no param_groups")
            return
        whole.go(0, SAVED_AFTER)
        for group in whole.optimizer.param_groups:  # as a schedule does
            if isinstance(group.get("lr"), float):
                group["lr"] *= 0.5
        file = io.BytesIO()
        torch.save(whole.optimizer.state_dict(), file)
        file.seek(0)
        resumed = single.begin(given=whole.params)
        resumed.optimizer.load_state_dict(torch.load(file, weights_only=False))
        for was, group in zip(
            whole.optimizer.param_groups, resumed.optimizer.param_groups, strict=True
        ):
            for name in sorted(was.keys() - {"params"}):
                if name not in group or not _equal(was[name], group[name]):
                    is_now = group.get(name, "missing")
                    text = f"a group's {name!r} is {was[name]!r} when saved, {is_now!r} restored"
                    yield Observation("wrong", text)
                    return
        for run in (whole, resumed):
            seed_globals(3)
            run.go(SAVED_AFTER, STEPS)
        apart, name = distance(whole.params, resumed.params)
        if apart:
            text = (
                f"a run that is saved after {SAVED_AFTER} steps and restored into a new instance "
                f"goes on differently: {name!r} by {apart:.1e} of its size; what is not in "
                "self.state or the groups is lost"
            )
            yield Observation("wrong", text)
        else:
            yield Observation("fine")

    def order(self) -> Iterator[Observation]:
        """Whether the order in which parameters are given decides anything."""
        if self._draws():
            text = "not applicable: it draws random numbers in the order of its parameters"
            yield Observation("note", text)
            return
        start = self.workload.start(0)
        near = {name: value * (1 + torch.finfo(value.dtype).eps) for name, value in start.items()}
        forth, back = self.begin(), self.begin(order=[*start][::-1])
        rounded = self.begin(given=near)
        for step in range(STEPS):
            for run in (forth, back, rounded):
                run.go(step, step + 1)
            apart, name = distance(forth.params, back.params)
            if apart > max(ORDER_TOLERANCE, AMPLIFIED * distance(forth.params, rounded.params)[0]):
                text = "parameters given in another order go elsewhere: "
                text += f"{name!r} is {apart:.1e} of its size away after step {step + 1}"
                yield Observation("wrong", text)
                return
        yield Observation("fine")

    def missing_gradient(self) -> Iterator[Observation]:
        """Whether a parameter without a gradient stays where it is."""
        run = self.begin()
        name = [*run.params][-1]
        before = run.params[name].detach().clone()
        try:
            run.go(0, 3, without=name)
        except Exception as error:
            text = f"can't take a parameter without a gradient: {last_line(error)}"
            yield Observation("note", text)
            return
        if torch.equal(run.params[name], before):
            yield Observation("fine")
        else:
            yield Observation("wrong", "moves a parameter that has no gradient")

    def closure(self) -> Iterator[Observation]:
        """Whether ``step`` evaluates a closure with gradients on, and returns its loss."""
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
            yield Observation("wrong", text)
            return
        except TypeError as error:
            if losses:
                raise
            yield Observation("note", f"takes no closure: {last_line(error)}")
            return
        if not losses:
            yield Observation("note", "leaves the closure alone; the harness evaluates before")
            return
        value = returned.detach() if isinstance(returned, torch.Tensor) else returned
        if value is None or float(value) not in losses:
            shown = "nothing" if value is None else f"{float(value):.6g}"
            text = f"evaluates the closure, whose loss is {losses[0]:.6g}, and returns {shown}"
            yield Observation("wrong", text)
        else:
            yield Observation("fine")

    def groups(self) -> Iterator[Observation]:
        """Whether parameter groups, with settings of their own or added later, are heeded."""
        if not self._has_groups(self.begin()):
            yield Observation("note", "not applicable: it has no param_groups")
            return
        for name, value in self._numbers().items():
            other = value / 2
            plain = self.begin(changed={name: other})
            if name in self._deriving(plain):
                continue  # a group's own value comes after the constructor has used it
            # As the constructor keeps it: a rate that it makes a tensor of, say.
            kept = copy.deepcopy(plain.optimizer.param_groups[0].get(name, other))
            try:
                grouped = self.begin_grouped({name: kept})
            except Exception as error:
                yield Observation("note", f"not applicable: it takes no groups: {last_line(error)}")
                return
            for run in (plain, grouped):
                seed_globals(0)
                run.go()
            if distance(plain.params, grouped.params)[0]:
                text = f"a group's own {name!r} is not what its parameters are updated with"
                yield Observation("wrong", text)
                return
        yield from self._added()

    def begin_grouped(self, own: Hyperparameters) -> _Run:
        """A run whose only group has settings of its own."""
        assert self.factory is not None
        params = copied(self.workload.start(0))
        group = {"params": list(params.values()), **own}
        return _Run(self, params, self.factory([group], **self.setting))

    def _added(self) -> Iterator[Observation]:
        assert self.factory is not None
        params = copied(self.workload.start(0))
        *first, last = params.values()
        try:
            self.factory([{"params": first}, {"params": [last]}], **self.setting)
        except Exception as error:
            text = f"not applicable: it takes one group only: {last_line(error)}"
            yield Observation("note", text)
            return
        run = _Run(self, params, self.factory(first, **self.setting))
        run.go(0, 3)
        before = copied(params)
        run.optimizer.add_param_group({"params": [last]})
        run.go(3, STEPS)
        still = [name for name, v in params.items() if torch.equal(v, before[name])]
        if still:
            text = f"after add_param_group, {still[0]!r} doesn't move any more"
            yield Observation("wrong", text)
        else:
            yield Observation("fine")

    def hyperparameters(self) -> Iterator[Observation]:
        """Whether steps leave the hyperparameters of the groups as they are.

        What is in a group and no argument of the constructor is the optimizer's own state.
        """
        run = self.begin()
        if not self._has_groups(run):
            yield Observation("note", "not applicable: it has no param_groups")
            return
        own = self._arguments(run)
        before = [copy.deepcopy({**group, "params": None}) for group in run.optimizer.param_groups]
        run.go()
        for was, group in zip(before, run.optimizer.param_groups, strict=True):
            for name in sorted(own & was.keys()):
                if not _equal(was[name], group[name]):
                    text = f"steps change {name!r} of their group from {was[name]!r} to "
                    yield Observation("note", f"{text}{group[name]!r}: a schedule of its own?")
                    return
        yield Observation("fine")

    def lanes(self) -> Iterator[Observation]:
        """Whether its trials may share a run, as the harness finds out."""
        assert self.factory is not None
        if "sparse" in self.needs:
            text = "not applicable: sparse gradients can't share a run; trials run one at a time"
            yield Observation("note", text)
            return
        sharing = decide(self.workload, self.factory, [self.setting], range(SHARING_SEEDS))
        yield Observation("note" if sharing.way != "pointwise" else "fine", ran(sharing))

    def _numbers(self) -> dict[str, float]:
        """Hyperparameters that are numbers above zero and that the constructor takes halved."""
        run = self.begin()
        known = {**getattr(run.optimizer, "defaults", {}), **self.setting}
        return {
            name: float(value)
            for name, value in known.items()
            if name in self._arguments(run)
            and (isinstance(value, float) or (torch.is_tensor(value) and value.numel() == 1))
            and value > 0
            and self._constructs({name: float(value) / 2})
        }

    def _arguments(self, run: _Run) -> set[str]:
        """What the constructor can be given; whatever else is in a group is state."""
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
        """Whether a constructor does something with what it takes by any name."""
        if not isinstance(value, float):
            return name in self.setting
        try:
            groups = self.begin(changed={name: value / 2}).optimizer.param_groups
        except Exception:
            return False
        return bool(groups[0].get(name) == value / 2)

    def _deriving(self, changed: _Run) -> set[str]:
        """The arguments that differ, where the constructor makes other defaults of one of them."""
        was, now = (getattr(r.optimizer, "defaults", {}) for r in (self.begin(), changed))
        differing = {n for n in was.keys() | now.keys() if not _equal(was.get(n), now.get(n))}
        return differing if len(differing) > 1 else set()

    def _constructs(self, changed: Hyperparameters) -> bool:
        try:
            self.begin(changed=changed)
        except Exception:
            return False
        return True

    def _draws(self) -> bool:
        """Whether it draws random numbers; asked anew where another process found it out."""
        return self.draws or bool(touched(lambda: self.begin().go(0, 2))[0])

    @staticmethod
    def _has_groups(run: _Run) -> bool:
        return isinstance(getattr(run.optimizer, "param_groups", None), list)


class _GradientsOff(Exception):
    """A closure was evaluated where no gradient is recorded."""


@dataclass
class _Run:
    """An optimizer on its way."""

    tests: _Tests
    params: Parameters
    optimizer: torch.optim.Optimizer

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


def _equal(a: Any, b: Any) -> bool:
    """Whether two hyperparameters are the same; one may be a tensor."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    return type(a) is type(b) and bool(a == b)
