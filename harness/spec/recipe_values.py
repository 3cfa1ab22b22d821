"""An optimizer's recipe, key by key its own or the spec's, and its numbers by dotted name.

A number of a recipe is a hyperparameter like any other (searched, gridded, shown in labels), under
the name ``schedule.warmup``, ``schedule.0.gamma``, ``clip_grad_norm``, ``groups.0.lr``,
``groups.embed.lr`` or ``base.lr``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.spec.model import Spec
from harness.spec.recipe import (
    RECIPE_KEYS,
    GroupSpec,
    RecipeSpec,
    ScheduleSpec,
    StageSpec,
)
from harness.spec.yaml_source import KeyPath

CLIPPING = ("clip_grad_norm", "clip_grad_value")
"""Names of numbers of a recipe that have no dot."""


@dataclass(frozen=True)
class GivenValue:
    """A number of a recipe as a spec gives it.

    Attributes:
        path: Where.
        as_given: The value, or the list of them.
        choices: The values, one unless it is a grid.
    """

    path: KeyPath
    as_given: Any
    choices: list[Any]


@dataclass(frozen=True)
class MergedRecipe:
    """The recipe of one optimizer: each key its own, or the spec's.

    Attributes:
        keys: The values of the keys.
        paths: Where each key is given.
    """

    keys: RecipeSpec
    paths: dict[str, KeyPath]

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        """The schedulers of a schedule in its long form; empty of any other."""
        schedule = self.keys.schedule
        if isinstance(schedule, StageSpec):
            return (schedule,)
        return schedule if isinstance(schedule, tuple) else ()

    def stage_path(self, index: int) -> KeyPath:
        """The place of a scheduler."""
        path = self.paths["schedule"]
        return path if isinstance(self.keys.schedule, StageSpec) else (*path, index)

    @property
    def is_short(self) -> bool:
        """True of a schedule in its short form."""
        return isinstance(self.keys.schedule, str | ScheduleSpec)

    @property
    def groups(self) -> tuple[GroupSpec, ...]:
        """The parameter groups."""
        return self.keys.groups or ()

    def labels(self) -> list[str]:
        """What dotted names call each group: its name, else its number."""
        return [group.name or str(i) for i, group in enumerate(self.groups)]

    def canonical(self, name: str) -> str:
        """A dotted name with the name of a group in place of its number."""
        section, _, rest = name.partition(".")
        label, dot, parameter = rest.partition(".")
        if section == "groups" and dot and label.isdecimal() and int(label) < len(self.groups):
            return f"groups.{self.labels()[int(label)]}.{parameter}"
        return name

    def with_numbers(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """A setting in which groups that have a name go by their number as well."""
        numbers = {
            f"groups.{group.name}.": f"groups.{i}."
            for i, group in enumerate(self.groups)
            if group.name is not None
        }
        aliases = {
            number + key.removeprefix(label): value
            for key, value in setting.items()
            for label, number in numbers.items()
            if key.startswith(label)
        }
        return {**setting, **aliases}

    def values(self) -> dict[str, GivenValue]:
        """The numbers that the recipe gives, by dotted name."""
        found = dict(self._schedule())
        for key in CLIPPING:
            value = getattr(self.keys, key)
            if value is not None:
                found[key] = _given(self.paths[key], value)
        for i, (label, group) in enumerate(zip(self.labels(), self.groups, strict=True)):
            path = (*self.paths["groups"], i)
            for name, value in (group.model_extra or {}).items():
                found[f"groups.{label}.{name}"] = _given((*path, name), value)
        if self.keys.base is not None:
            for name, value in (self.keys.base.model_extra or {}).items():
                path = (*self.paths["base"], name)
                found[f"base.{name}"] = _given(path, value)
        return found

    def _schedule(self) -> Iterator[tuple[str, GivenValue]]:
        schedule, path = self.keys.schedule, self.paths["schedule"]
        if isinstance(schedule, str):
            yield "schedule.warmup", GivenValue(path, 0, [0])
            yield "schedule.then", GivenValue(path, schedule, [schedule])
        elif isinstance(schedule, ScheduleSpec):
            names = {"warmup", "then", *schedule.model_fields_set}
            for name in ScheduleSpec.model_fields:
                if name in names:
                    value = getattr(schedule, name)
                    choices = _lists(value) if name == "at" else _choices(value)
                    yield f"schedule.{name}", GivenValue((*path, name), value, choices)
        for i, stage in enumerate(self.stages):
            yield from _of_stage(f"schedule.{i}", stage, self.stage_path(i))


def merged(spec: Spec, optimizer: str) -> MergedRecipe:
    """The recipe of an optimizer of a spec."""
    own = spec.optimizers[optimizer]
    given = own.model_fields_set
    keys = {
        key: getattr(own if key in given else spec.recipe, key)
        for key in RECIPE_KEYS
        if key in given or key in spec.recipe.model_fields_set
    }
    paths: dict[str, KeyPath] = {
        key: ("optimizers", optimizer, key) if key in given else ("recipe", key)
        for key in RECIPE_KEYS
    }
    return MergedRecipe(RecipeSpec.model_construct(**keys), paths)


def _of_stage(name: str, stage: StageSpec, path: KeyPath) -> Iterator[tuple[str, GivenValue]]:
    if stage.steps is not None:
        yield f"{name}.steps", GivenValue((*path, "steps"), stage.steps, [stage.steps])
    for argument, value in (stage.model_extra or {}).items():
        yield f"{name}.{argument}", GivenValue((*path, argument), value, _lists(value))
    for i, inner in enumerate(stage.schedulers or ()):
        yield from _of_stage(f"{name}.schedulers.{i}", inner, (*path, "schedulers", i))


def _choices(value: Any) -> list[Any]:
    """The values of a hyperparameter, of which a list is a grid."""
    return value if isinstance(value, list) else [value]


def _given(path: KeyPath, value: Any) -> GivenValue:
    return GivenValue(path, value, _choices(value))


def _lists(value: Any) -> list[Any]:
    """The values of an argument that may be a list; a grid is a list of lists."""
    is_grid = isinstance(value, list) and value and all(isinstance(v, list) for v in value)
    return value if is_grid else [value]


def is_of_recipe(name: str) -> bool:
    """Tell a number of a recipe from an argument of an optimizer's constructor."""
    return "." in name or name in CLIPPING


def inner_stages(stages: Sequence[StageSpec]) -> Iterator[StageSpec]:
    """Stages, and those within them."""
    for stage in stages:
        yield stage
        yield from inner_stages(stage.schedulers or ())
