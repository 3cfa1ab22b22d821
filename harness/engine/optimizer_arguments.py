"""The hyperparameters of a case, held against the constructors that are to take them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.engine.constructors import Constructor, Refused, mistaken
from harness.engine.recipe_factory import Built, OptimizerFactory, RecipeFactory, recipe_of
from harness.engine.schedules import LENGTHS, LoadedStage, UnfitSchedule, try_schedule
from harness.engine.spec_places import SpecPlaces
from harness.errors import join, nearest
from harness.formatting import as_text
from harness.plan.model import TRIED, Case, Hyperparameters, Plan
from harness.plan.recipe import Parts, Selection, parts_of
from harness.results import Finding
from harness.spec.fields import meant, mistaken_word
from harness.spec.fields import shown as shown_value
from harness.spec.recipe_values import is_of_recipe
from harness.suite.locate import last_line, place_of

_STAND_INS: tuple[Any, ...] = (0.1, 0.9, 1, 2, True, [0.9, 0.99], None)
"""Values to put in place of one that may be refused, where there is no default."""


def says(message: str, name: str) -> bool:
    """Return whether a message names an argument."""
    return re.search(rf"\b{re.escape(name)}\b", message, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Sample:
    """Parameters to construct an optimizer for.

    Attributes:
        tensors: By name; of an objective, or some that stand in for one that is faulty.
        steps: Updates of a trial.
        is_known: Whether they are an objective's.
    """

    tensors: Mapping[str, torch.Tensor]
    steps: int
    is_known: bool = True

    @classmethod
    def stand_in(cls, steps: int = 1000) -> Sample:
        """Parameters for want of an objective's."""
        return cls({"": torch.zeros(2, 2, requires_grad=True)}, steps, is_known=False)


@dataclass(frozen=True)
class _Section:
    """A constructor of a case's recipe, and what it is given.

    Attributes:
        name: As dotted names call it: empty for the optimizer, ``groups.0``, ``base``.
        owner: The name of what is constructed.
        constructor: Its parameters.
        given: Its arguments.
        needed: Parameters that must be given.
        also: Names that are taken though no parameter is called so.
    """

    name: str
    owner: str
    constructor: Constructor
    given: Mapping[str, Any]
    needed: Sequence[str] = ()
    also: frozenset[str] = frozenset()

    def dotted(self, name: str) -> str:
        """An argument among the case's hyperparameters."""
        return f"{self.name}.{name}" if self.name else name


@dataclass(frozen=True)
class OptimizerArguments:
    """A case's hyperparameters, and the class that is to take them."""

    plan: Plan
    case: Case
    factory: OptimizerFactory | RecipeFactory

    @property
    def _recipe(self) -> RecipeFactory:
        return recipe_of(self.factory)

    @property
    def _places(self) -> SpecPlaces:
        return SpecPlaces(self.plan, self.case)

    @property
    def _parts(self) -> Parts:
        return parts_of(self.case.hyperparameters)

    @property
    def _constructor(self) -> Constructor:
        return Constructor.of(self._recipe.kind, skip=1)

    def _needed(self) -> list[str]:
        """What the optimizer's constructor must be given by the spec."""
        recipe = self._recipe
        wraps_class = recipe.base_kind is not None and recipe.base_form == "class"
        base = recipe.base_name if wraps_class else ""
        return [name for name in self._constructor.needed if name != base]

    def without_default(self) -> str:
        """Say why there is no case at the constructor's defaults; empty if there is."""
        searched = self.plan.spec.optimizers[self.case.optimizer].search
        needed = [
            section.dotted(name)
            for section in self._sections()
            for name in section.needed
            if section.dotted(name) in map(self._places.recipe.canonical, searched)
            and section.dotted(name) not in self.case.hyperparameters
        ]
        if not needed:
            return ""
        return f"{self.case.located.attribute} has no default for {join([*map(repr, needed)])}"

    def names(self) -> Iterator[Finding]:
        """Arguments that constructors don't have, or that they need and don't get."""
        for section in self._sections():
            if section.constructor.is_known:
                yield from self._names_of(section)

    def _names_of(self, section: _Section) -> Iterator[Finding]:
        constructor, case, places = section.constructor, self.case, self._places
        named = {name: p for name, p in constructor.named.items() if not _is_base(p, self._recipe)}
        for name in sorted(section.given.keys() - named.keys() - section.also):
            if not constructor.takes_any:
                text = f"{section.owner} takes no argument {name!r}{nearest(name, named)}"
                yield Finding(places.key(section.dotted(name)), text, at_key=True)
        if case.is_partial:
            return
        for name in sorted(section.given.keys() & named.keys()):
            if text := mistaken(section.given[name], named[name]):
                yield Finding(places.path(section.dotted(name)), text)
        others = self.plan.spec.optimizers[case.optimizer].per_objective.values()
        for name in section.needed:
            if name not in section.given:
                text = f"{section.owner} needs {name!r}, which is not given"
                if any(section.dotted(name) in values for values in others):
                    text += f" for objective {case.objective.name!r}"
                yield Finding(places.section(section.name), text, at_key=True)

    def _sections(self) -> Iterator[_Section]:
        """The constructors, with what each is given."""
        recipe, parts, planned = self._recipe, self._parts, self.case.recipe
        constructor, owner = self._constructor, self.case.located.attribute
        base = None
        if recipe.base_kind is not None and planned.base is not None:
            base = Constructor.of(recipe.base_kind, skip=1)
        yield _Section("", owner, constructor, parts.own, self._needed())
        if base is not None and planned.base is not None:
            also = constructor if recipe.base_form == "class" else base  # SAM(..., **kwargs)
            known = frozenset(also.named)
            name = planned.base.located.attribute
            yield _Section("base", name, base, parts.base, base.needed, known)
        for group, kind in zip(planned.groups, recipe.group_kinds, strict=True):
            values, section = parts.groups.get(group.label, {}), f"groups.{group.label}"
            if kind is not None and group.located is not None:
                own = Constructor.of(kind, skip=1)
                yield _Section(section, group.located.attribute, own, values, own.needed)
            elif constructor.named or base is not None:  # else keys of groups are all it takes
                known = frozenset(base.named if base is not None else ())
                yield _Section(section, owner, constructor, values, (), known)
        for i, (stage, loaded) in enumerate(zip(planned.stages, recipe.stages, strict=True)):
            yield _of_stage(f"schedule.{i}", stage.located.attribute, loaded, parts.schedule)

    def values(self, sample: Sample, defaults: dict[str, dict[str, Any]]) -> Iterator[Finding]:
        """Values that a constructor refuses.

        Args:
            sample: Parameters to construct the optimizer for.
            defaults: Where the values that the constructor completed are noted, by case key.
        """
        case = self.case
        built, error = self._construct(sample, case.hyperparameters)
        if error is not None:
            yield from self._refusals(sample, error)
            return
        words = list(self._hidden_words(sample))
        yield from words
        if words:
            return
        assert built is not None
        optimizer = built.optimizer
        if not callable(getattr(optimizer, "step", None)):
            text = f"gives a {type(optimizer).__name__}, expected a torch.optim.Optimizer"
            yield Finding(("optimizers", case.optimizer, "class"), text)
            return
        if case.key:
            made_of = case.recipe.words()
            defaults[case.key] = {**_completed(built), **made_of, **case.hyperparameters}

    def _hidden_words(self, sample: Sample) -> Iterator[Finding]:
        """Words for what a constructor passes on as ``**settings``, with hidden defaults."""
        setting = self.case.hyperparameters
        for name, value in self._parts.own.items():
            if name in self._constructor.all_names or not isinstance(value, str | list):
                continue
            built, _ = self._construct(sample, _without(setting, name))
            defaults = getattr(built.optimizer, "defaults", {}) if built else {}
            known = isinstance(defaults, dict) and name in defaults
            if known and (text := mistaken_word(value, defaults[name])):
                yield Finding(self._places.path(name), text)

    def _construct(
        self, sample: Sample, setting: Hyperparameters
    ) -> tuple[Built | None, BaseException | None]:
        """Construct the optimizer and its schedule: them, or what was raised."""
        recipe, tensors = self._recipe, dict(sample.tensors)
        if not sample.is_known and recipe.recipe.groups:
            recipe, tensors = _one_each(recipe)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        parts = parts_of(setting)
        try:
            built = recipe.build(tensors, shapes, parts)
            schedule = recipe.schedule(parts.schedule, sample.steps)
            if schedule is not None:
                is_shown = self.case.role not in TRIED
                for optimizer in built.scheduled:
                    try_schedule(schedule, optimizer, all_steps=is_shown)
        except BaseException as error:
            return None, error
        return built, None

    def _refusals(self, sample: Sample, error: BaseException | None) -> Iterator[Finding]:
        """Every value that a constructor refuses: one, then what it says without that one."""
        case, setting, blamed = self.case, self.case.hyperparameters, set[str]()
        while error is not None:
            if isinstance(error, UnfitSchedule):
                yield self._unfit(error)
                return
            section, owner, cause = _cause(error, case.located.attribute)
            text = f"{owner} refuses this: {last_line(cause)}"
            if case.located.file:
                text += place_of(cause, case.located.folder)
            name, others = self._blamed(sample, setting, error)
            if name in blamed or (blamed and not name):
                return
            if not name:
                yield Finding(self._places.section(section), text, at_key=True)
                return
            text += self._hint(sample, name, setting[name], others)
            yield Finding(self._places.path(name), text)
            blamed.add(name)
            setting = others
            error = self._construct(sample, setting)[1]

    def _unfit(self, error: UnfitSchedule) -> Finding:
        """A schedule that doesn't fit the objective's number of steps."""
        text = f"on {self.case.objective.name!r}, {error}" if error.name else str(error)
        if error.name in self.case.hyperparameters:
            return Finding(self._places.path(error.name), text)
        return Finding(self._places.section(error.name or "schedule"), text)

    def _hint(self, sample: Sample, name: str, value: Any, others: Hyperparameters) -> str:
        """A hint at what was meant by a value that is refused, as the end of a sentence."""
        text = ""
        if isinstance(value, str):
            likely = meant(value)
            text = f"; {shown_value(value)} is a string"
            text += "" if isinstance(likely, str) else f", write {json.dumps(likely)}"
        if isinstance(value, list) and name.startswith("schedule."):
            return f"; a list is one value here: a grid is {name}: [...] under 'hyperparameters'"
        whole = self._places.given(name)
        as_value = {**others, name: whole}
        if isinstance(whole, list) and self._construct(sample, as_value)[1] is None:
            items = ", ".join(as_text(item) for item in whole)
            text += f"; a list is a grid: for one value that is a list write [[{items}]]"
        return text

    def _blamed(
        self, sample: Sample, setting: Hyperparameters, error: BaseException
    ) -> tuple[str, Hyperparameters]:
        """The hyperparameter that a constructor refuses, and a setting without that mistake.

        Without it, or with another value in its place, the constructor says nothing, or something
        else. The name is empty where there is none such.
        """
        message = str(error)
        section = _cause(error, "")[0]
        own = [name for name in setting if _is_in(name, section)]
        named = [name for name in own if says(message, name.rpartition(".")[2])]
        named += ["lr"] if "learning rate" in message.lower() and "lr" in own else []
        names = list(dict.fromkeys([*named, *own]))
        for name in names:
            others = _without(setting, name)
            other = self._construct(sample, others)[1]
            if other is None or (str(other) != message and "missing" not in str(other)):
                return name, others
        for name, value in itertools.product(names, _STAND_INS):
            others = {**setting, name: value}
            other = self._construct(sample, others)[1]
            if other is None or (name in named and name not in str(other)):
                return name, others
        return "", setting


def _of_stage(name: str, owner: str, stage: LoadedStage, numbers: Mapping[str, Any]) -> _Section:
    """A scheduler with its arguments."""
    prefix = f"{name.removeprefix('schedule.')}."
    given = {
        key.removeprefix(prefix): value
        for key, value in numbers.items()
        if key.startswith(prefix) and "." not in key.removeprefix(prefix)
    }
    constructor = stage.constructor
    needed = [key for key in constructor.needed if key not in (*LENGTHS, "schedulers")]
    return _Section(name, owner, constructor, given, needed, frozenset(("steps",)))


def _is_base(parameter: Any, recipe: RecipeFactory) -> bool:
    """Tell the parameter that takes a base's class."""
    wraps_class = recipe.base_kind is not None and recipe.base_form == "class"
    return wraps_class and parameter.name == recipe.base_name


def _is_in(name: str, section: str) -> bool:
    """Tell whether a hyperparameter may be to blame for what a section refuses."""
    if not section:
        return not is_of_recipe(name) or name.startswith("base.")
    return name.startswith(f"{section}.")


def _cause(error: BaseException, owner: str) -> tuple[str, str, BaseException]:
    """The section and the name of what refuses something, and what it raised."""
    if not isinstance(error, Refused):
        return "", owner, error
    name = owner if not error.section else getattr(error.owner, "__name__", str(error.owner))
    return error.section, name, error.error


def _one_each(recipe: RecipeFactory) -> tuple[RecipeFactory, dict[str, torch.Tensor]]:
    """A recipe with a stand-in for a parameter in each group, and these."""
    groups = tuple(
        dataclasses.replace(group, selection=Selection((str(i),)))
        for i, group in enumerate(recipe.recipe.groups)
    )
    names = [*map(str, range(len(groups))), "rest"]
    tensors = {name: torch.zeros(2, 2, requires_grad=True) for name in names}
    changed = dataclasses.replace(recipe.recipe, groups=groups)
    return dataclasses.replace(recipe, recipe=changed), tensors


def _completed(built: Built) -> Hyperparameters:
    """The hyperparameters as the constructor completed them, as far as they are plain data."""
    members = getattr(built.optimizer, "members", [built.optimizer])
    known = getattr(members[0], "defaults", None)
    plain = {k: _plain(v) for k, v in known.items()} if isinstance(known, dict) else {}
    return {k: v for k, v in plain.items() if v is not NotImplemented}


def _without(setting: Hyperparameters, name: str) -> Hyperparameters:
    return {key: value for key, value in setting.items() if key != name}


def _plain(value: Any) -> Any:
    """A default as plain data; NotImplemented where it is more than that."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, tuple | list):
        items = [_plain(item) for item in value]
        return NotImplemented if any(item is NotImplemented for item in items) else items
    return NotImplemented
