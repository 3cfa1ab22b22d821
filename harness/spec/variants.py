"""Variants of an objective: one entry of a spec with several values of an argument.

``powers: {arguments: {power: {each: [2, 4]}}, ...}`` stands for the objectives ``powers.power=2``
and ``powers.power=4``. Variants of a single argument are difficulties of one task, in the order of
the list; of several arguments, all combinations are made, and none is harder than another.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import PydanticCustomError

from harness.errors import Problem
from harness.formatting import as_text
from harness.spec.fields import EACH, NAME_TEXT, each_value
from harness.spec.yaml_source import Home, KeyPath, YamlSource

VARIANT_LIMIT = 1000
"""Variants that an entry may have."""

_VALUE = re.compile(r"[A-Za-z0-9_.-]{1,40}")


@dataclass(frozen=True)
class Variant:
    """One of the objectives that an entry of a spec stands for.

    Attributes:
        entry: The entry's name.
        difficulty: Its place among the values of the entry's only varied argument, from 0; None
            where several arguments are varied.
        label: The arguments that set it apart, with their values: ``power=2``.
    """

    entry: str
    difficulty: int | None
    label: str


def entry_of(name: str) -> str:
    """The entry of a spec that an objective comes from: ``powers`` of ``powers.power=2``."""
    before, equals, _ = name.partition("=")
    return before.rpartition(".")[0] if equals else name


def expanded(source: YamlSource) -> tuple[YamlSource, dict[str, Variant], list[Problem]]:
    """Put the variants of each entry in its place.

    Args:
        source: A spec's file.

    Returns:
        The file as if it said all objectives, the variants by name, and what is wrong.
    """
    objectives = source.data.get("objectives")
    if not isinstance(objectives, dict):
        return source, {}, []
    found: dict[str, Any] = {}
    variants: dict[str, Variant] = {}
    homes: dict[KeyPath, Home] = {}
    problems: list[Problem] = []
    for name, entry in objectives.items():
        path: KeyPath = ("objectives", name)
        if "=" in str(name):
            problems.append(source.problem(path, f"expected {NAME_TEXT}", at_key=True))
            continue
        grids = _grids(entry)
        count = math.prod(len(values) for values in grids.values())
        if count > VARIANT_LIMIT:
            text = f"stands for {count:,} objectives, the limit is {VARIANT_LIMIT:,}"
            problems.append(source.problem((*path, "arguments"), text))
            continue
        if not grids:
            found[name] = entry
            continue
        for variant, own, places in _variants(name, entry, grids):
            made = _name(variant, grids, places)
            found[made], variants[made] = own, variant
            homes["objectives", made] = (source, path)
            for argument, place in places.items():
                argument_path: KeyPath = ("arguments", argument)
                home = (source, (*path, *argument_path, EACH, place))
                homes["objectives", made, *argument_path] = home
    data = {**source.data, "objectives": found}
    if isinstance(data.get("optimizers"), dict):
        data["optimizers"] = {
            optimizer: _with_variants(source, optimizer, entry, variants, homes)
            for optimizer, entry in data["optimizers"].items()
        }
    return replace(source, data=data, homes={**source.homes, **homes}), variants, problems


def _grids(entry: Any) -> dict[str, list[Any]]:
    """The arguments of an entry that have several values; none of those that are wrong."""
    arguments = entry.get("arguments") if isinstance(entry, dict) else None
    found: dict[str, list[Any]] = {}
    for name, value in arguments.items() if isinstance(arguments, dict) else ():
        if isinstance(value, dict):
            try:
                found[name] = each_value(value)
            except PydanticCustomError:
                continue  # which the models tell
    return found


def _variants(
    name: str, entry: dict[str, Any], grids: dict[str, list[Any]]
) -> Iterator[tuple[Variant, dict[str, Any], dict[str, int]]]:
    """Each variant, what it says, and the place of its value in each list."""
    places = (range(len(values)) for values in grids.values())
    for combination in itertools.product(*places):
        own = dict(zip(grids, combination, strict=True))
        values = {argument: grids[argument][place] for argument, place in own.items()}
        said = copy.deepcopy({k: v for k, v in entry.items() if k != "arguments"})
        said["arguments"] = {**copy.deepcopy(entry["arguments"]), **values}
        label = ", ".join(f"{argument}={as_text(value)}" for argument, value in values.items())
        yield Variant(name, combination[0] if len(grids) == 1 else None, label), said, own


def _name(variant: Variant, grids: dict[str, list[Any]], places: dict[str, int]) -> str:
    """The name of a variant, which can be a file's name."""
    parts = []
    for argument, place in places.items():
        texts = [_as_word(value) for value in grids[argument]]
        alike = len({text.lower() for text in texts}) < len(texts)
        is_fit = not alike and all(map(_VALUE.fullmatch, texts))
        parts.append(f"{argument}={texts[place] if is_fit else f'no{place + 1}'}")
    return ".".join([variant.entry, *parts])


def _as_word(value: Any) -> str:
    """A value without what a file's name can't have, if it is simple enough."""
    if isinstance(value, list):
        return "-".join(map(_as_word, value))
    text = as_text(value)
    return re.sub(r"e([+-])0*(\d)", lambda m: f"e{m[1].strip('+')}{m[2]}", text)


def _with_variants(
    source: YamlSource,
    optimizer: str,
    entry: Any,
    variants: dict[str, Variant],
    homes: dict[KeyPath, Home],
) -> Any:
    """An optimizer whose values for an entry are those for each of its variants."""
    given = entry.get("per_objective") if isinstance(entry, dict) else None
    if not isinstance(given, dict):
        return entry
    path: KeyPath = ("optimizers", optimizer, "per_objective")
    own: dict[str, Any] = {}
    for name, variant in variants.items():
        # What is said of a single variant goes before what is said of all.
        if variant.entry in given and name not in given:
            own[name] = copy.deepcopy(given[variant.entry])
            homes[*path, name] = (source, (*path, variant.entry))
    entries = {variant.entry for variant in variants.values()}
    own |= {name: values for name, values in given.items() if name not in entries}
    return {**entry, "per_objective": own}
