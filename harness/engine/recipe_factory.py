"""A case's optimizer with its recipe: classes loaded, parameter groups, a base, a schedule."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from typing_extensions import override

from harness.engine.constructors import Refused, needs_argument
from harness.engine.groups import Shapes, assigned
from harness.engine.schedules import (
    AnySchedule,
    LoadedStage,
    LongSchedule,
    ShortSchedule,
)
from harness.plan.recipe import NOTHING, Group, Parts, Recipe, parts_of

OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""An optimizer's class, or anything called like one: parameters first, then hyperparameters."""

Tensors = Mapping[str, torch.Tensor]
"""Parameters by name, in the objective's order."""


@dataclass(frozen=True, eq=False)
class RecipeFactory:
    """An optimizer's class with the recipe of a case, loaded.

    Attributes:
        kind: The optimizer's class.
        recipe: The recipe.
        group_kinds: The class of each group; None for the optimizer's.
        base_kind: The class of the optimizer that it wraps.
        stages: The schedulers of a schedule in its long form.
        objects: What their arguments name, loaded, by name.
    """

    kind: OptimizerFactory
    recipe: Recipe = NOTHING
    group_kinds: tuple[OptimizerFactory | None, ...] = ()
    base_kind: OptimizerFactory | None = None
    stages: tuple[LoadedStage, ...] = ()
    objects: Mapping[str, Any] | None = None

    def __call__(self, params: Any, **hyperparameters: Any) -> torch.optim.Optimizer:
        """The optimizer with its base, of parameters or groups; nothing else of the recipe.

        Args:
            params: What is given to its class; parameters get names where it wants them.
            hyperparameters: Its own, and ``base.lr`` and so on.
        """
        given = _with_names(params) if self.recipe.named else params
        made: torch.optim.Optimizer = self._own(given, parts_of(hyperparameters))[0]
        return made

    @property
    def __signature__(self) -> inspect.Signature:
        """The parameters of the class, but that which takes its base."""
        found = _parameters(self.kind)
        wraps_class = self.base_kind is not None and self.base_form == "class"
        kept = [p for p in found if not (wraps_class and p.name == self.base_name)]
        return inspect.Signature(kept)

    @property
    def kinds(self) -> tuple[Any, ...]:
        """Every class of it."""
        others = (*self.group_kinds, self.base_kind, *(stage.kind for stage in self.stages))
        return (self.kind, *(kind for kind in others if kind is not None))

    @property
    def looks_at_loss(self) -> str:
        """The scheduler that goes by a loss; empty where none does."""
        found = (stage.kind.__name__ for stage in self.stages if stage.looks_at_loss)
        return next(found, "")

    def build(self, tensors: Tensors, shapes: Shapes, parts: Parts) -> Built:
        """Construct the optimizer.

        Args:
            tensors: The parameters.
            shapes: Their shapes in one trial, by which groups select.
            parts: The hyperparameters, by what they are for.

        Raises:
            Refused: If a constructor refuses what it is given.
        """
        found, rest = assigned(self.recipe.groups, shapes)
        own: list[dict[str, Any]] = []
        others: list[tuple[Group, OptimizerFactory, list[str]]] = []
        for group, kind, names in zip(self.recipe.groups, self.group_kinds, found, strict=True):
            if not names:
                continue
            if kind is not None:
                others.append((group, kind, names))
            else:
                values = parts.groups.get(group.label, {})
                own.append({"params": self._given(tensors, names), **values})
        if rest and self.recipe.groups:
            own.append({"params": self._given(tensors, rest)})
        given: Any = own if self.recipe.groups else self._given(tensors, rest)
        members: list[Any] = []
        base: Any = None
        if given:
            made, base = self._own(given, parts)
            members.append(made)
        for group, kind, names in others:
            values = parts.groups.get(group.label, {})
            members.append(
                _made(f"groups.{group.label}", kind, self._given(tensors, names), values)
            )
        scheduled = [base if _is_scheduled_by_base(member, base) else member for member in members]
        if len(members) == 1:
            return Built(members[0], scheduled)
        return Built(Composite(members), scheduled)

    def _given(self, tensors: Tensors, names: Sequence[str]) -> list[Any]:
        """Parameters as the optimizer takes them: alone, or with their names."""
        if self.recipe.named:
            return [(name, tensors[name]) for name in names]
        return [tensors[name] for name in names]

    def _own(self, given: Any, parts: Parts) -> tuple[Any, Any]:
        """The optimizer, and the instance that it wraps, if it does."""
        if self.base_kind is None:
            return _made("", self.kind, given, parts.own), None
        if self.base_form == "instance":
            base = _made("base", self.base_kind, given, parts.base)
            return _made("", self.kind, base, parts.own), base
        name = self.base_name
        wrapper = {**parts.base, **parts.own}
        if name:
            wrapper[name] = self.base_kind
            return _made("", self.kind, given, wrapper), None
        return _made("", self.kind, given, wrapper, self.base_kind), None

    @property
    def base_form(self) -> Literal["class", "instance"]:
        """How the optimizer takes its base: as a class, or as an instance."""
        assert self.recipe.base is not None
        if self.recipe.base.given is not None:
            return self.recipe.base.given
        names = [p.name for p in _parameters(self.kind)]
        first = names[0] if names else ""
        takes_parameters = "param" in first.lower() or first.startswith("*")
        return "class" if takes_parameters else "instance"

    @property
    def base_name(self) -> str:
        """The parameter that takes the base's class; empty where only its place is known."""
        found = _parameters(self.kind)[1:]
        named = [p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        likely = [p.name for p in named if "optim" in p.name.lower() or "base" in p.name.lower()]
        needed = [p.name for p in named if p.default is p.empty]
        return (likely or needed or [""])[0]

    def schedule(self, numbers: Mapping[str, Any], steps: int) -> AnySchedule | None:
        """The schedule for a number of steps; None where the recipe has none.

        Raises:
            UnfitSchedule: If it doesn't fit the number of steps.
        """
        if self.stages:
            return LongSchedule(self.stages, numbers, self.objects or {}, steps)
        if not numbers:
            return None
        return ShortSchedule.of(numbers, steps)


@dataclass(frozen=True)
class Built:
    """An optimizer as a recipe makes it.

    Attributes:
        optimizer: The optimizer; whatever the class makes, which may be none of torch's.
        scheduled: The optimizers that have a scheduler each: this one, what it wraps, or the
            optimizers that it is composed of.
    """

    optimizer: Any
    scheduled: list[Any]


class Composite(torch.optim.Optimizer):
    """Several optimizers, of parameters of their own, that step together.

    Args:
        members: The optimizers; the first is given a closure, the others only if they need one.
    """

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__([torch.zeros(1)], {})
        self.members = list(members)
        # Seen now: a scheduler puts another `step` in place of a member's.
        first, *others = self.members
        self._steps = [(first, takes_closure(first))]
        # Those that need one come last, as a closure replaces the gradients of all.
        self._steps += [(m, needs_closure(m)) for m in sorted(others, key=needs_closure)]
        self.param_groups = [group for member in members for group in member.param_groups]
        for name in ("train", "eval"):
            methods = [m for o in members if callable(m := getattr(o, name, None))]
            if methods:
                setattr(self, name, _All(methods))

    @property
    def state(self) -> defaultdict[torch.Tensor, Any]:
        """The state of all members."""
        found: defaultdict[torch.Tensor, Any] = defaultdict(dict)
        for member in self.members:
            found.update(member.state)
        return found

    @state.setter
    def state(self, value: Any) -> None:
        del value  # members have their own

    @override
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Let every member take its step; return the loss that the first one gives."""
        losses = [m.step(closure) if is_given else m.step() for m, is_given in self._steps]
        return losses[0]


@dataclass(frozen=True)
class _All:
    """Several functions as one."""

    functions: Sequence[Callable[[], Any]]

    def __call__(self) -> None:
        for function in self.functions:
            function()


def recipe_of(factory: OptimizerFactory | RecipeFactory) -> RecipeFactory:
    """A factory as one with a recipe, which may be of nothing."""
    return factory if isinstance(factory, RecipeFactory) else RecipeFactory(factory)


def parts_for(factory: OptimizerFactory | RecipeFactory, setting: Mapping[str, Any]) -> Parts:
    """The hyperparameters of a setting, by what they are for; all its own without a recipe."""
    if isinstance(factory, RecipeFactory):
        return parts_of(setting)
    return Parts(dict(setting), {}, {}, {}, {})


def takes_closure(optimizer: Any) -> bool:
    """Return whether ``step`` can be given a closure: it names one, or takes any argument."""
    try:
        parameters = inspect.signature(optimizer.step).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(
        p.kind == p.VAR_POSITIONAL or (p.name == "closure" and p.kind != p.KEYWORD_ONLY)
        for p in parameters
    ) or any(p.kind != p.KEYWORD_ONLY and p.default is p.empty for p in parameters)


def needs_closure(optimizer: Any) -> bool:
    """Return whether ``step`` has to be given a closure."""
    return needs_argument(optimizer.step)


def _is_scheduled_by_base(optimizer: Any, base: Any) -> bool:
    """Tell a wrapper that torch's schedulers don't take, and that has its base's groups."""
    return base is not None and not isinstance(optimizer, torch.optim.Optimizer)


def _made(
    section: str, kind: OptimizerFactory, given: Any, values: Mapping[str, Any], *more: Any
) -> Any:
    try:
        return kind(given, *more, **values)
    except BaseException as error:  # sys.exit() as well: this may be the suite's code
        raise Refused(section, kind, error) from error


def _with_names(params: Any) -> Any:
    """Parameters, or groups of them, with names for those that have none."""
    if isinstance(params, torch.Tensor):
        params = [params]
    return [
        {**item, "params": _with_names(item["params"])}
        if isinstance(item, dict)
        else (str(i), item)
        for i, item in enumerate(params)
    ]


def _parameters(kind: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(kind).parameters.values())
    except (TypeError, ValueError):
        return []
