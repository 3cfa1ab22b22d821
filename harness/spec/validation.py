"""Validation of a spec: all its mistakes at once, each at its place. Loads none of a suite's code.

Types and ranges of values come first, by the models; then names that one part uses and another
defines, of the parts that are valid.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import Problem, join, nearest
from harness.spec.extends import extended
from harness.spec.fields import Name, ObjectiveName, shown
from harness.spec.measure_validation import measure_mistakes
from harness.spec.measures import KeepSpec, SplitSpec, StopSpec
from harness.spec.model import (
    CellSpec,
    CheckSpec,
    ClaimSpec,
    CounterpartSpec,
    LimitsSpec,
    Match,
    ObjectiveSpec,
    OptimizerSpec,
    SpaceSpec,
    Spec,
    TimingSpec,
    TuningSpec,
    matches,
)
from harness.spec.recipe_validation import keys_at as recipe_keys_at
from harness.spec.recipe_validation import recipe_mistakes
from harness.spec.recipe_values import merged
from harness.spec.variants import Variant, entry_of, expanded
from harness.spec.yaml_source import KeyPath, YamlSource, read, suite_folder

T = TypeVar("T")


@dataclass(frozen=True)
class LoadedSpec:
    """A spec with where it came from and what was wrong with it.

    Attributes:
        spec: The valid part, or None where too little is valid to go on.
        source: The file, its text, and the place of each key.
        problems: Every mistake found so far; the spec may be run only when there is none.
        partial: Key paths of objectives and optimizers in the valid part that lack some of their
            arguments, which are wrong.
        variants: Objectives that are variants of an entry, by name.
    """

    spec: Spec | None
    source: YamlSource
    problems: tuple[Problem, ...]
    partial: frozenset[KeyPath] = frozenset()
    variants: Mapping[str, Variant] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The suite's folder: where the spec lies, or around the ``specs/`` that it lies in."""
        if self.source.folder is not None:
            return self.source.folder.resolve()
        return suite_folder(Path(self.source.file))


class _ValidPart(Spec):
    """The part of a spec that has no mistakes; it may be nothing."""

    objectives: dict[ObjectiveName, ObjectiveSpec] = Field(default_factory=dict)
    optimizers: dict[Name, OptimizerSpec] = Field(default_factory=dict)


def load(path: Path) -> LoadedSpec:
    """Read and validate a spec.

    Args:
        path: The YAML file.

    Returns:
        The spec and all mistakes found. Where there are mistakes, ``spec`` holds the valid parts,
        so that later checks can report theirs as well.

    Raises:
        BadInput: If the file cannot be read or is not YAML.
    """
    return check(read(path))


def check(source: YamlSource) -> LoadedSpec:
    """Validate parsed YAML; see :func:`load`."""
    if not isinstance(source.data, dict) and source.problems:
        return LoadedSpec(None, source, source.problems)
    if not isinstance(source.data, dict):
        keys = "'suite', 'objectives' and 'optimizers'"
        message = f"expected a mapping with {keys}, got {shown(source.data)}"
        return LoadedSpec(None, source, (source.problem((), message),))
    source, wrong_references = extended(source)
    source, variants, wrong_entries = expanded(source)
    details: list[ErrorDetails] = []
    spec: Spec | None = None
    try:
        spec = Spec.model_validate(source.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    places = {_path(detail) for detail in details}
    # Entries that are wrong count as well: a list of them alone is not too short.
    within = {place[:-1] for place in places}
    details = [d for d in details if d["type"] != "too_short" or _path(d) not in within]
    if wrong_references:  # the file that isn't there may say what is missing
        details = [d for d in details if d["type"] != "missing" or len(_path(d)) > 1]
    problems = [*source.problems, *wrong_references, *wrong_entries]
    problems += (p for d in details for p in _problems(source, d))
    lengths = list(_wrong_lengths(source))
    if spec is None or lengths:
        spec = _ValidPart.model_validate(_valid_data(source.data, places))
    problems += lengths
    problems += _names_alike(source)
    problems += _repeated_devices(source)
    if not wrong_references:  # or nobody knows what else there is
        problems += _unknown_names(source, spec, variants)
        problems += _unknown_entries(source, spec, places)
        problems += _tuning_mistakes(source, spec)
        problems += recipe_mistakes(source, spec, places)
        problems += measure_mistakes(source, spec, places)
    partial = {path[:2] for path in places if _is_argument(path)}
    if any(path[:1] == ("recipe",) for path in places):
        partial |= {("optimizers", name) for name in spec.optimizers}
    return LoadedSpec(spec, source, tuple(sorted(set(problems))), frozenset(partial), variants)


def _path(detail: ErrorDetails) -> KeyPath:
    # In brackets are pydantic's own: a key that is wrong, the branch of a union.
    return tuple(part for part in detail["loc"] if not str(part).startswith("["))


def _is_argument(path: KeyPath) -> bool:
    """Tell mistakes that leave an argument of an objective or optimizer open."""
    if path[:1] == ("optimizers",):
        return len(path) > 2
    return path[:1] == ("objectives",) and path[2:3] in (("class",), ("dataset",), ("arguments",))


def _valid_data(data: dict[str, Any], places: Collection[KeyPath]) -> dict[str, Any]:
    """A copy of a spec's data without the smallest parts that hold mistakes."""
    data = copy.deepcopy(data)
    for *parents, key in sorted({_part(path) for path in places}, reverse=True):
        within: Any = data
        for parent in parents:
            within = within[parent]
        if isinstance(within, dict):
            within.pop(key, None)
        else:
            del within[key]
    data.setdefault("suite", "unnamed")
    if isinstance(data.get("tuning"), dict):
        data["tuning"].setdefault("trials", 1)
    elif ("tuning",) in places:
        data["tuning"] = {"trials": 1}
    for entry in _mapping(data, "objectives").values():
        if (entry.get("steps") is None) == (entry.get("epochs") is None):
            entry.update(steps=1, epochs=None)
    return data


def _part(path: KeyPath) -> KeyPath:
    """The smallest part around a mistake that the rest of a spec can do without."""
    match path:
        case ("optimizers", _, "class", *_):
            return path[:2]
        case ("optimizers", _, "per_objective", *_):
            return path[:5]
        case ("optimizers", _, "hyperparameters", *_):
            return path[:4]
        case ("objectives" | "optimizers", *_) | ("check", "cells", *_):
            return path[:3]
        case ("include" | "exclude" | "claims" | "check" | "tuning" | "recipe", *_):
            return path[:2]
    return path[:1]


def _problems(source: YamlSource, detail: ErrorDetails) -> Iterator[Problem]:
    """The mistakes of a value; nothing more of one that can't be read."""
    path = _path(detail)
    is_key = "[key]" in detail["loc"] or (
        detail["type"] == "value" and detail["input"] in path[-1:]
    )
    at_key = detail["type"] in ("extra_forbidden", "missing") or is_key
    if any(path[:length] in source.unreadable for length in range(len(path) + 1)):
        return
    faults = (detail.get("ctx") or {}).get("faults")
    for message, below in faults or [(_message(path, detail), ())]:
        yield source.problem((*path, *below), message, at_key=at_key)


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than": "less than {lt:,}",
    "less_than_equal": "at most {le:,}",
}
"""By pydantic's type of error, what was expected."""


def _message(path: KeyPath, detail: ErrorDetails) -> str:
    kind, context, value = detail["type"], detail.get("ctx") or {}, detail["input"]
    if kind in _EXPECTED:
        expected = _EXPECTED[kind].format(**context)
        if expected == "a mapping" and path[0] in _EXAMPLES and len(path) < 3:
            expected += f" such as {_EXAMPLES[str(path[0])][len(path) - 1]}"
        dashes = isinstance(value, str) and value.startswith("-") and expected == "a list"
        return f"expected {expected}, got {shown(value)}" + "; write '- ' before items" * dashes
    match kind:
        case "extra_forbidden":
            return f"unknown key{nearest(str(path[-1]), _keys_at(path[:-1]))}"
        case "missing":
            return "is missing"
        case "literal_error":
            hint = nearest(str(value), re.findall(r"'([^']*)'", context["expected"]))
            hint = hint if "did you mean" in hint else ""
            return f"expected {context['expected']}, got {shown(value)}{hint}"
        case "string_too_short":
            return "is empty, expected some text"
        case "too_short":
            return "is empty, expected at least one entry"
        case "string_too_long":
            return f"expected at most {context['max_length']} characters, got {len(str(value))}"
    return detail["msg"]


_EXAMPLES = {
    "objectives": ("'quadratic_2d: {steps: 20}'", "{class: quadratic_2d, steps: 20}"),
    "optimizers": ("'sgd: {class: SGD}'", "{class: SGD}"),
}
"""What a section, and an entry of it, may look like."""

_MODELS: dict[str, type[BaseModel]] = {
    "objectives": ObjectiveSpec,
    "optimizers": OptimizerSpec,
    "include": Match,
    "exclude": Match,
    "tuning": TuningSpec,
    "claims": ClaimSpec,
    "timing": TimingSpec,
    "limits": LimitsSpec,
    "check": CheckSpec,
}


_WITHIN: dict[str, type[BaseModel]] = {"split": SplitSpec, "stop": StopSpec, "keep": KeepSpec}


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that the model at a path has."""
    model: type[BaseModel] = recipe_keys_at(path) or Spec
    match path:
        case _ if model is not Spec:
            pass
        case ("optimizers", _, "search", *_):
            model = SpaceSpec
        case ("optimizers", _, "counterpart", *_):
            model = CounterpartSpec
        case ("check", "cells", *_):
            model = CellSpec
        case ("objectives", _, "split" | "stop" | "keep" as key, *_):
            model = _WITHIN[key]
        case (str(section), *_):
            model = _MODELS.get(section, Spec)
    return [field.alias or name for name, field in model.model_fields.items()]


def _mapping(data: Any, key: str) -> dict[str, Any]:
    """The mapping at a key; an empty one where there is anything else."""
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def _wrong_lengths(source: YamlSource) -> Iterator[Problem]:
    """Objectives with both 'steps' and 'epochs', or with neither."""
    for name, entry in _mapping(source.data, "objectives").items():
        if isinstance(entry, dict):
            given = [entry.get(key) is not None for key in ("steps", "epochs")]
            if sum(given) != 1:
                both = "both are given" if all(given) else "neither is given"
                text = f"expected either 'steps' or 'epochs', {both}"
                yield source.problem(("objectives", name), text)


def _names_alike(source: YamlSource) -> Iterator[Problem]:
    """Names that differ by case only, and so share a file on some systems."""
    for section in ("objectives", "optimizers"):
        seen: dict[str, str] = {}
        for name in _mapping(source.data, section):
            other = seen.setdefault(name.lower(), name)
            if other != name:
                text = f"differs from {other!r} by case only"
                yield source.problem((section, name), text, at_key=True)


def _repeated_devices(source: YamlSource) -> Iterator[Problem]:
    """Devices that are listed more than once."""
    devices = source.data.get("devices")
    seen: set[str] = set()
    for i, device in enumerate(devices if isinstance(devices, list) else ()):
        if isinstance(device, str) and device in seen:
            yield source.problem(("devices", i), f"duplicate entry: {device!r}")
        elif isinstance(device, str):
            seen.add(device)


def _names(data: dict[str, Any], section: str) -> list[str] | None:
    """The names in a section; None where it is no mapping, so that no name is known."""
    return list(data[section]) if isinstance(data.get(section), dict) else None


def _unknown_names(
    source: YamlSource, spec: Spec, variants: Mapping[str, Variant]
) -> Iterator[Problem]:
    """Objectives and optimizers that optimizers and claims name, and that are not there."""
    objectives, optimizers = (_names(source.data, key) for key in ("objectives", "optimizers"))
    for name, entry in _mapping(source.data, "optimizers").items():
        for objective in _mapping(entry, "per_objective"):
            if objectives is not None and objective not in objectives:
                path: KeyPath = ("optimizers", name, "per_objective", objective)
                text = f"there is no objective {objective!r}{nearest(objective, objectives)}"
                yield source.problem(path, text, at_key=True)
    if optimizers is not None:
        for name, optimizer in spec.optimizers.items():
            yield from _unknown_relatives(source, name, optimizer, optimizers)
    claims = source.data.get("claims")
    for i, claim in enumerate(claims if isinstance(claims, list) else ()):
        for key, names in (("optimizer", optimizers), ("objective", objectives)):
            named = claim.get(key) if isinstance(claim, dict) else None
            if names is not None and isinstance(named, str) and named not in names:
                own = [name for name, variant in variants.items() if variant.entry == named]
                text = f"there is no {key} {named!r}{nearest(named, names)}"
                if key == "objective" and own:
                    text = f"{named!r} has several variants; choose one: {join(own)}"
                yield source.problem(("claims", i, key), text)


def _unknown_relatives(
    source: YamlSource, name: str, optimizer: OptimizerSpec, known: list[str]
) -> Iterator[Problem]:
    """Other optimizers that an entry names and that are not there, or are itself."""
    path: KeyPath = ("optimizers", name)
    others: list[tuple[KeyPath, str]] = [
        ((*path, "generalizes"), other) for other in optimizer.generalizes or ()
    ]
    if optimizer.counterpart is not None:
        others.append(((*path, "counterpart", "optimizer"), optimizer.counterpart.optimizer))
    for place, other in others:
        if other == name:
            yield source.problem(place, f"{name!r} refers to itself")
        elif other not in known:
            hint = nearest(other, [entry for entry in known if entry != name])
            yield source.problem(place, f"there is no optimizer {other!r}{hint}")


def _numbered(
    section: KeyPath, entries: Iterable[T], places: Collection[KeyPath]
) -> Iterator[tuple[KeyPath, T]]:
    """The valid entries of a list with their key paths in the file."""
    wrong = {path[: len(section) + 1] for path in places}
    paths = ((*section, i) for i in itertools.count())
    valid = (path for path in paths if path not in wrong)
    return ((path, entry) for entry, path in zip(entries, valid, strict=False))


def _unknown_entries(
    source: YamlSource, spec: Spec, places: Collection[KeyPath]
) -> Iterator[Problem]:
    """Patterns and hyperparameters of matches that nothing in the spec has."""
    raw = source.data.get("devices")
    objectives = map(str, _names(source.data, "objectives") or ())
    known = {
        "optimizer": _names(source.data, "optimizers"),
        "objective": [*dict.fromkeys(n for name in objectives for n in (name, entry_of(name)))],
        "device": raw if isinstance(raw, list) else list(spec.devices),
    }
    sections: dict[KeyPath, tuple[Match, ...]] = {
        ("include",): spec.include,
        ("exclude",): spec.exclude,
        ("check", "cells"): spec.check.cells,
    }
    given = _given_values(spec)
    for section, entries in sections.items():
        for path, match in _numbered(section, entries, places):
            for key, names in known.items():
                for pattern in getattr(match, key) or ():
                    if names and not any(matches(str(name), pattern) for name in names):
                        text = f"{pattern!r} matches no {key}{nearest(pattern, map(str, names))}"
                        yield source.problem((*path, key), text)
            if not any(place[:1] == ("optimizers",) for place in places):
                yield from _unknown_values(source, given, path, match)


def _given_values(spec: Spec) -> dict[str, list[Any]]:
    """By hyperparameter, all values that optimizers are given."""
    given: dict[str, list[Any]] = {}
    for key, optimizer in spec.optimizers.items():
        recipe = merged(spec, key)
        for name, found in recipe.values().items():
            given.setdefault(name, []).extend(found.choices)
        for values in (optimizer.hyperparameters, *optimizer.per_objective.values()):
            for name, value in values.items():
                choices = value if isinstance(value, list) else [value]
                given.setdefault(recipe.canonical(name), []).extend(choices)
                given.setdefault(name, []).extend(choices)
    return given


def _unknown_values(
    source: YamlSource, given: dict[str, list[Any]], path: KeyPath, match: Match
) -> Iterator[Problem]:
    """Hyperparameters that a match asks for and no optimizer has."""
    for name, wanted in match.hyperparameters.items():
        place = (*path, "hyperparameters", name)
        if name not in given:
            text = f"no optimizer has a hyperparameter {name!r}{nearest(name, given)}"
            yield source.problem(place, text, at_key=True)
        elif wanted not in given[name]:
            text = f"no optimizer has this value of {name!r}"
            if isinstance(wanted, list):
                text += f"; a match asks for one value: write one entry of {path[0]!r} for each"
            yield source.problem(place, text)


def _tuning_mistakes(source: YamlSource, spec: Spec) -> Iterator[Problem]:
    """Searches and budgets that do not fit together."""
    searched = {name: o for name, o in spec.optimizers.items() if o.search}
    if spec.tuning is None:
        for name in searched:
            text = "a search needs 'tuning', such as 'tuning: {trials: 50}', for the whole spec"
            yield source.problem(("optimizers", name, "search"), text, at_key=True)
    else:
        raw = _mapping(source.data, "optimizers").values()
        if not any(isinstance(entry, dict) and entry.get("search") for entry in raw):
            text = "there is nothing to tune: no optimizer has a 'search'"
            yield source.problem(("tuning",), text, at_key=True)
        yield from _tuning_seed_mistakes(source, spec, spec.tuning)
    for name, optimizer in searched.items():
        yield from _search_mistakes(source, ("optimizers", name), optimizer)


def _tuning_seed_mistakes(source: YamlSource, spec: Spec, tuning: TuningSpec) -> Iterator[Problem]:
    """Seeds with which tuning would see what is reported, or the same again; too few settings."""
    again = tuning.finalists
    place = ("tuning", "finalists", "seeds")
    rounds: dict[KeyPath, tuple[int, ...]] = {("tuning", "seeds"): tuning.seeds}
    if again is not None:
        rounds[place] = again.seeds
    for path, seeds in rounds.items():
        if shared := sorted(set(seeds) & set(spec.seeds)):
            text = f"seed {shared[0]} is one of the spec's seeds; tuning needs seeds of its own"
            yield source.problem(path, text)
    if again is None:
        return
    if shared := sorted(set(again.seeds) & set(tuning.seeds)):
        text = f"seed {shared[0]} is one of tuning's seeds already; finalists need further ones"
        yield source.problem(place, text)
    if again.settings >= tuning.trials:
        text = f"expected fewer than the {tuning.trials:,} settings that are tried in all"
        yield source.problem(("tuning", "finalists", "settings"), text)


def _search_mistakes(
    source: YamlSource, path: KeyPath, optimizer: OptimizerSpec
) -> Iterator[Problem]:
    """Values and grids that an optimizer is given beside its search."""
    for parameter in optimizer.search.keys() & optimizer.hyperparameters.keys():
        text = "also has a value under 'hyperparameters'; keep only one of the two"
        yield source.problem((*path, "search", parameter), text, at_key=True)
    given: dict[KeyPath, dict[str, Any]] = {("hyperparameters",): optimizer.hyperparameters}
    for objective, values in optimizer.per_objective.items():
        if optimizer.search.keys() - values.keys():  # else nothing is searched there
            given["per_objective", objective] = values
    for where, values in given.items():
        for parameter, value in values.items():
            if isinstance(value, list) and len(value) > 1:
                text = (
                    "a grid beside a search would multiply the budget; "
                    f"make it a part of the search, as {parameter}: {{choice: [...]}}"
                )
                yield source.problem((*path, *where, parameter), text)
