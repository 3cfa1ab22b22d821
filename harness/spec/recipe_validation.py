"""Mistakes of recipes that show without any code: names, groups and stages."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel

from harness.errors import Problem, join, nearest
from harness.spec.model import SPACES, OptimizerSpec, SpaceSpec, Spec
from harness.spec.recipe import (
    UNFIT,
    BaseSpec,
    GroupSpec,
    RecipeSpec,
    ScheduleSpec,
    SelectionSpec,
    StageSpec,
)
from harness.spec.recipe_values import CLIPPING, MergedRecipe, inner_stages, is_of_recipe, merged
from harness.spec.yaml_source import KeyPath, YamlSource


def recipe_mistakes(
    source: YamlSource, spec: Spec, places: Collection[KeyPath]
) -> Iterator[Problem]:
    """Find the mistakes in the recipes of a spec, of those that are valid by themselves."""
    wrong = {path[:1] for path in places}
    for name, optimizer in spec.optimizers.items():
        recipe = merged(spec, name)
        yield from _groups(source, recipe)
        yield from _stages(source, recipe)
        own = any(path[:2] == ("optimizers", name) for path in places)
        if ("recipe",) not in wrong and not own:
            yield from _names(source, name, optimizer, recipe)


def keys_at(path: KeyPath) -> type[BaseModel] | None:
    """The model of a recipe's part; None where the path is elsewhere."""
    match path:
        case ("recipe", *rest) | ("optimizers", _, *rest):
            pass
        case _:
            return None
    match rest:
        case ["groups", _, "parameters", *_]:
            return SelectionSpec
        case ["groups", _, *_]:
            return GroupSpec
        case ["base", *_]:
            return BaseSpec
        case ["schedule", int(), *_]:
            return StageSpec
        case ["schedule", *_]:
            return ScheduleSpec
    return RecipeSpec if path[0] == "recipe" else None


def _groups(source: YamlSource, recipe: MergedRecipe) -> Iterator[Problem]:
    """Groups that nothing can reach, names that are there twice, a class beside a base."""
    path = recipe.paths["groups"]
    seen: dict[str, int] = {}
    rest: int | None = None
    for i, group in enumerate(recipe.groups):
        if rest is not None:
            text = f"no parameter can reach it: group {rest} takes all that are left"
            yield source.problem((*path, i), text)
        elif group.parameters is None:
            rest = i
        if group.name is not None and seen.setdefault(group.name, i) != i:
            text = f"duplicate name: group {seen[group.name]} has it as well"
            yield source.problem((*path, i, "name"), text)
        if "params" in (group.model_extra or {}):
            text = "unknown key; did you mean 'parameters'?"
            yield source.problem((*path, i, "params"), text, at_key=True)
        if group.class_ is not None and recipe.keys.base is not None:
            text = "a group can't have a class of its own in an optimizer with a 'base'"
            yield source.problem((*path, i, "class"), text)


def _stages(source: YamlSource, recipe: MergedRecipe) -> Iterator[Problem]:
    """Several stages without a number of steps."""
    open_ended = [i for i, stage in enumerate(recipe.stages) if stage.steps is None]
    for i in open_ended[:-1]:
        text = "needs 'steps', such as 'steps: 10%': only one stage can take what is left"
        yield source.problem(recipe.stage_path(i), text, at_key=True)
    for i, stage in enumerate(recipe.stages):
        for inner in inner_stages(stage.schedulers or ()):
            if inner.steps is not None:
                text = "a scheduler within another runs as long as that; give 'steps' there"
                yield source.problem((*recipe.stage_path(i), "schedulers"), text)


def _names(
    source: YamlSource, name: str, optimizer: OptimizerSpec, recipe: MergedRecipe
) -> Iterator[Problem]:
    """Dotted names of nothing, values that don't fit them, and names for the same number."""
    path: KeyPath = ("optimizers", name)
    sections: list[tuple[KeyPath, dict[str, Any]]] = [
        ((*path, "hyperparameters"), optimizer.hyperparameters),
        ((*path, "search"), dict(optimizer.search)),
        *(
            ((*path, "per_objective", objective), values)
            for objective, values in optimizer.per_objective.items()
        ),
    ]
    for section, values in sections:
        seen: dict[str, str] = {}
        for key, value in values.items():
            other = seen.setdefault(recipe.canonical(key), key)
            if other != key:
                text = f"is another name for {other!r}, which has a value as well"
                yield source.problem((*section, key), text, at_key=True)
            if text := unknown_name(recipe, key):
                yield source.problem((*section, key), text, at_key=True)
            elif key in UNFIT:
                yield from _unfit(source, (*section, key), key, value)
    yield from _grids_beside_search(source, optimizer, recipe)


def unknown_name(recipe: MergedRecipe, name: str) -> str:
    """The reason why a dotted name is of nothing in a recipe; empty if it is of something."""
    if not is_of_recipe(name) or name in CLIPPING:
        return ""
    section, *rest = name.split(".")
    match section, rest:
        case "schedule", [key] if recipe.is_short:
            known = list(ScheduleSpec.model_fields)
            text = f"a schedule has no {key!r}{nearest(key, known)}"
            return "" if key in known else text
        case "schedule", [index, _, *_] if recipe.stages:
            text = f"the schedule has no stage {index}; they are numbered from 0"
            return "" if index in map(str, range(len(recipe.stages))) else text
        case "schedule", [*_] if recipe.stages:
            return "expected a stage and its argument, such as schedule.0.gamma"
        case "schedule", _:
            return "there is no schedule in its short form, such as {warmup: 5%, then: cosine}"
        case "groups", [label, _]:
            known = recipe.labels()
            numbers = list(map(str, range(len(known))))
            text = f"there is no group {label!r}"
            text += nearest(label, known) if known else ""
            return "" if label in (*known, *numbers) else text
        case "base", [_]:
            return "" if recipe.keys.base is not None else "there is no 'base'"
    known = ["schedule.warmup", "schedule.0.gamma", *CLIPPING, "groups.0.lr", "base.lr"]
    return f"is no number of a recipe, such as {join(known)}"


def _unfit(source: YamlSource, path: KeyPath, name: str, value: Any) -> Iterator[Problem]:
    """Values that a number of the recipe's short form can't have."""
    if isinstance(value, SpaceSpec):
        kind = next(key for key in SPACES if getattr(value, key) is not None)
        items, path = list(getattr(value, kind)), (*path, kind)
        if name == "schedule.warmup" and kind in ("uniform", "log_uniform"):
            items = list(map(float, items))  # a share, also where an end is written as 0 or 1
    else:
        is_list = name == "schedule.at" and isinstance(value, list)
        is_grid = isinstance(value, list) and (not is_list or isinstance(value[0], list))
        if not is_grid:
            if text := UNFIT[name](value):
                yield source.problem(path, text)
            return
        items = value
    for i, item in enumerate(items):
        if text := UNFIT[name](item):
            yield source.problem((*path, i), text)


def _grids_beside_search(
    source: YamlSource, optimizer: OptimizerSpec, recipe: MergedRecipe
) -> Iterator[Problem]:
    searched = set(map(recipe.canonical, optimizer.search))
    if not searched:
        return
    for name, given in recipe.values().items():
        if len(given.choices) > 1 and name not in searched:
            text = (
                "a grid beside a search would multiply the budget; "
                f"make it a part of the search, as {name}: {{choice: [...]}}"
            )
            yield source.problem(given.path, text)
