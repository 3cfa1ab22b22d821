"""The recipe of a case: what it is made of, and its numbers among the case's hyperparameters.

What is made of classes and selections is a :class:`Recipe`. The numbers are hyperparameters under
dotted names (``schedule.warmup``, ``clip_grad_norm``, ``groups.0.lr``, ``base.lr``), so that
they are searched, gridded, shown and shared as any other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.provenance import fingerprint
from harness.provenance.opened_files import Opened
from harness.spec.fields import REFERENCE_PATTERN
from harness.spec.recipe import GroupSpec, SelectionSpec, StageSpec
from harness.spec.recipe_values import CLIPPING, MergedRecipe
from harness.spec.yaml_source import KeyPath
from harness.suite.locate import ImportTarget

TORCH_SCHEDULERS = frozenset(
    (
        *("ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts"),
        *("CyclicLR", "ExponentialLR", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR"),
        *("OneCycleLR", "PolynomialLR", "ReduceLROnPlateau", "SequentialLR", "StepLR"),
    )
)
"""Schedulers in ``torch.optim.lr_scheduler``, for hints; no torch is loaded here."""

Locate = Callable[[str, KeyPath], ImportTarget | None]
"""Finds what a spec names at a key path; None where it isn't there, which is noted."""


@dataclass(frozen=True)
class Selection:
    """Parameters of an objective, by names and by the shapes of one trial.

    Attributes:
        names: Patterns, of which one must match.
        excluded: Patterns, of which none may.
        ndim: Numbers of dimensions, of which one must be its own; None for any.
        min_size: The fewest elements; None for any.
        max_size: The most elements; None for any.
    """

    names: tuple[str, ...] = ("*",)
    excluded: tuple[str, ...] = ()
    ndim: tuple[int, ...] | None = None
    min_size: int | None = None
    max_size: int | None = None

    @property
    def words(self) -> str:
        """What it selects: ``*.bias``, ``2 dimensions, not embed*``."""
        found = [", ".join(self.names)] if self.names != ("*",) else []
        if self.ndim is not None:
            found.append(f"{' or '.join(map(str, self.ndim))} dimensions")
        found += [f"at least {self.min_size:,} elements"] if self.min_size else []
        found += [f"at most {self.max_size:,} elements"] if self.max_size else []
        found += [f"not {', '.join(self.excluded)}"] if self.excluded else []
        return ", ".join(found) or "*"


@dataclass(frozen=True)
class Group:
    """A parameter group.

    Attributes:
        label: What dotted names call it: its name, else its number.
        selection: What it takes of what groups before it have left; None for all of it.
        located: Where its own optimizer's class is; None for the optimizer's.
    """

    label: str
    selection: Selection | None
    located: ImportTarget | None = None


@dataclass(frozen=True)
class Stage:
    """A scheduler of a schedule.

    Attributes:
        located: Where its class is.
        inner: Schedulers that it combines; None where it takes none.
    """

    located: ImportTarget
    inner: tuple[Stage, ...] | None = None


@dataclass(frozen=True)
class Base:
    """The optimizer that another one wraps.

    Attributes:
        located: Where its class is.
        given: Whether the wrapper takes the class or an instance; None for what its signature says.
    """

    located: ImportTarget
    given: Literal["class", "instance"] | None = None


@dataclass(frozen=True)
class Recipe:
    """All of a recipe but its numbers.

    Attributes:
        stages: Schedulers, one after the other; empty of a schedule in its short form, and of none.
        groups: Parameter groups; the first that matches counts.
        base: The optimizer that the case's wraps.
        named: Whether the optimizer gets names with the parameters.
        objects: What arguments of schedulers name (``mymodule:rule``), by that name.
    """

    stages: tuple[Stage, ...] = ()
    groups: tuple[Group, ...] = ()
    base: Base | None = None
    named: bool = False
    objects: Mapping[str, ImportTarget] = field(default_factory=dict, hash=False)

    def located(self) -> Iterator[ImportTarget]:
        """Everything that it names."""
        yield from _located(self.stages)
        yield from (group.located for group in self.groups if group.located is not None)
        if self.base is not None:
            yield self.base.located
        yield from self.objects.values()

    def structure(self, opened: Opened = fingerprint.NOTHING) -> dict[str, Any]:
        """What it is made of, as plain data for a digest, with the sources of what it names."""
        groups = [
            {
                "selection": dataclasses.asdict(group.selection) if group.selection else None,
                "class": group.located.attribute if group.located else None,
                "label": group.label,
            }
            for group in self.groups
        ]
        return {
            "stages": _structure(self.stages),
            "groups": groups,
            "base": [self.base.located.attribute, self.base.given] if self.base else None,
            "named": self.named,
            "objects": {name: located.attribute for name, located in self.objects.items()},
            "sources": [fingerprint.of(located, opened=opened) for located in self.located()],
        }

    def words(self) -> dict[str, str]:
        """What it is made of, in words, by dotted names such as ``groups.0.class``."""
        found = _stage_words("schedule", self.stages)
        for group in self.groups:
            name = f"groups.{group.label}"
            found[f"{name}.parameters"] = group.selection.words if group.selection else "the rest"
            if group.located is not None:
                found[f"{name}.class"] = group.located.attribute
        if self.base is not None:
            found["base.class"] = self.base.located.attribute
        return found

    @property
    def is_empty(self) -> bool:
        """True of a recipe that has nothing but, perhaps, numbers."""
        return self == Recipe()


NOTHING = Recipe()
"""A recipe of nothing but numbers, if any."""


@dataclass(frozen=True)
class Parts:
    """A case's hyperparameters by what they are for.

    Attributes:
        own: Arguments of the optimizer's constructor.
        schedule: By name below ``schedule.``: ``warmup``, ``0.gamma``.
        clipping: ``clip_grad_norm`` and ``clip_grad_value``, where they are given.
        groups: By label, then by hyperparameter.
        base: Arguments of the base's constructor.
    """

    own: dict[str, Any]
    schedule: dict[str, Any]
    clipping: dict[str, Any]
    groups: dict[str, dict[str, Any]]
    base: dict[str, Any]


def parts_of(hyperparameters: Mapping[str, Any]) -> Parts:
    """Sort a case's hyperparameters by what they are for."""
    parts = Parts({}, {}, {}, {}, {})
    for name, value in hyperparameters.items():
        section, dot, rest = name.partition(".")
        if name in CLIPPING:
            parts.clipping[name] = value
        elif not dot:
            parts.own[name] = value
        elif section == "groups":
            label, _, parameter = rest.partition(".")
            parts.groups.setdefault(label, {})[parameter] = value
        else:
            (parts.schedule if section == "schedule" else parts.base)[rest] = value
    return parts


def without_training(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that make an optimizer: its own and its base's."""
    return {
        name: value
        for name, value in hyperparameters.items()
        if name not in CLIPPING and not name.startswith(("schedule.", "groups."))
    }


def comparable(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters whose kinds decide which settings may share a run.

    Not those of a schedule, which is computed by setting, whatever it is made of; a threshold of
    clipping is a float, however it is written.
    """
    return {
        name: float(value) if name in CLIPPING and value is not None else value
        for name, value in hyperparameters.items()
        if not name.startswith("schedule.")
    }


def plan_recipe(merged: MergedRecipe, locate: Locate) -> Recipe | None:
    """The recipe of an optimizer; None where something that it names isn't there."""
    path = merged.paths["groups"]
    groups = [
        Group(
            label,
            _selection(group),
            locate(group.class_, (*path, i, "class")) if group.class_ else None,
        )
        for i, (label, group) in enumerate(zip(merged.labels(), merged.groups, strict=True))
    ]
    missing = any(g.class_ and not p.located for g, p in zip(merged.groups, groups, strict=True))
    stages = [_stage(s, merged.stage_path(i), locate) for i, s in enumerate(merged.stages)]
    objects = {
        value: locate(value, given.path)
        for name, given in merged.values().items()
        if name.startswith("schedule.")
        for value in given.choices
        if isinstance(value, str) and ":" in value and re.fullmatch(REFERENCE_PATTERN, value)
    }
    base = merged.keys.base
    located = locate(base.class_, (*merged.paths["base"], "class")) if base else None
    if missing or None in stages or None in objects.values() or (base and not located):
        return None
    return Recipe(
        stages=tuple(stage for stage in stages if stage),
        groups=tuple(groups),
        base=Base(located, base.as_) if base and located else None,
        named=merged.keys.named,
        objects={name: target for name, target in objects.items() if target},
    )


def _selection(group: GroupSpec) -> Selection | None:
    wanted = group.parameters
    if wanted is None:
        return None
    if not isinstance(wanted, SelectionSpec):
        return Selection(wanted)
    return Selection(
        wanted.name or ("*",), wanted.not_ or (), wanted.ndim, wanted.min_size, wanted.max_size
    )


def _stage(stage: StageSpec, path: KeyPath, locate: Locate) -> Stage | None:
    located = locate(stage.class_, (*path, "class"))
    if stage.schedulers is None:
        return Stage(located) if located else None
    inner = [_stage(s, (*path, "schedulers", i), locate) for i, s in enumerate(stage.schedulers)]
    if located is None or None in inner:
        return None
    return Stage(located, tuple(stage for stage in inner if stage))


def _located(stages: tuple[Stage, ...]) -> Iterator[ImportTarget]:
    for stage in stages:
        yield stage.located
        yield from _located(stage.inner or ())


def _stage_words(name: str, stages: tuple[Stage, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for i, stage in enumerate(stages):
        found[f"{name}.{i}.class"] = stage.located.attribute
        found |= _stage_words(f"{name}.{i}.schedulers", stage.inner or ())
    return found


def _structure(stages: tuple[Stage, ...]) -> list[Any]:
    return [[stage.located.attribute, _structure(stage.inner or ())] for stage in stages]
