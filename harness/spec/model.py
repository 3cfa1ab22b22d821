"""The spec: what a YAML file says, validated. Loads no torch and none of the suite's code.

The models below are also the source of the JSON Schema that editors use.
"""

from __future__ import annotations

import copy
import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from harness.errors import BadInput, Problem, nearest
from harness.seeds import FIRST_TUNING_SEED, SEED_LIMIT
from harness.spec.fields import (
    STEP_LIMIT,
    UNUSABLE,
    Argument,
    Choices,
    Device,
    Ends,
    EndsBelowOne,
    Grid,
    Name,
    Numbers,
    Parameter,
    Patterns,
    PositiveEnds,
    Printed,
    Reference,
    Seeds,
    Shares,
    TuningSeeds,
    WholeEnds,
    refuse,
    shown,
)
from harness.spec.yaml_source import KeyPath, YamlSource, read, suite_folder

ROUNDS = 20
"""How often what is wrong is taken out, at most, and the rest looked at again."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class ObjectiveSpec(_Model):
    """One objective: what is minimised, for how long, and what is recorded."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [key], "properties": {key: {"type": "integer"}}}
                for key in ("steps", "epochs")
            ]
        }
    )

    class_: Reference | None = Field(
        None,
        alias="class",
        description="What to minimise: a shipped objective ('quadratic_2d'), a class of the "
        "suite's objectives/ folder, or something importable ('package.module:Class'). "
        "Left out, the entry's own name says it.",
    )
    arguments: dict[Parameter, Argument] = Field(
        default_factory=dict, description="Arguments of the objective's constructor."
    )
    dataset: Reference | None = Field(
        None,
        description="A loader of the suite's datasets/ folder ('airfoil'), or importable.",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        le=STEP_LIMIT,
        description="Rows per step; all rows where left out. Needs "
        "data. Rows are drawn without replacement: every epoch is a new order of all rows, cut "
        "into batches, of which the last is short where they don't divide.",
    )
    drop_last: bool = Field(
        False,
        description="Whether to leave out an epoch's last batch where it would be smaller than "
        "the others, for losses that can't take one (batch norm on one row).",
    )
    steps: int | None = Field(
        None, ge=1, le=STEP_LIMIT, description="Updates per trial. Give this or epochs."
    )
    epochs: int | None = Field(
        None,
        ge=1,
        le=STEP_LIMIT,
        description="Passes over the data per trial (without data, an epoch is one step). "
        "Give this or steps.",
    )
    dtype: Literal["float32", "float64"] = Field(
        "float32", description="Precision of parameters and data."
    )
    record_every: int | None = Field(
        None,
        ge=1,
        le=STEP_LIMIT,
        description="Steps between two recorded losses (over all data). Left out: every step "
        "without data, else fifteen times per epoch.",
    )
    divergence_factor: float = Field(
        1000.0,
        gt=0,
        allow_inf_nan=False,
        description="A trial has diverged if its loss is not finite at any step, or ends above its "
        "start by more than this many times the start's distance from the optimum (from zero where "
        "that is unknown).",
    )

    targets: Numbers = Field(
        (), description="Losses to reach: reports tell the steps and seconds until they are."
    )
    tolerances: Shares | None = Field(
        None,
        description="Targets as shares of a trial's own way to the optimum that are left: 0.01 is "
        "reached once the loss is within 1% of the start's distance. Needs a known optimum; left "
        "out, 0.1, 0.01 and 0.001 where that is known and no targets are given.",
    )
    smallest_difference: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="The smallest difference of final losses that matters: two that differ by no "
        "more are tied, in tests and in ranks. Differences below a loss's rounding always are.",
    )
    family: Name | None = Field(
        None,
        description="A name that related objectives share: over all objectives they then count "
        "as one. Left out, an objective is a family of its own.",
    )

    @model_validator(mode="after")
    def _one_length(self) -> ObjectiveSpec:
        if (self.steps is None) == (self.epochs is None):
            both = "both are given" if self.steps else "neither is given"
            raise PydanticCustomError(
                "length", "expected either 'steps' or 'epochs', {both}", {"both": both}
            )
        return self


class SpaceSpec(_Model):
    """Where values of one hyperparameter are searched: one range, or a choice."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    uniform: Ends | None = Field(None, description="[low, high], evenly.")
    log_uniform: PositiveEnds | None = Field(
        None, description="[low, high], evenly on a scale of logarithms."
    )
    one_minus_log_uniform: EndsBelowOne | None = Field(
        None,
        description="[low, high] below 1, such that 1 less the value is even on a scale of "
        "logarithms; for momentum and the like.",
    )
    integer: WholeEnds | None = Field(None, description="[low, high], whole numbers, both ends in.")
    choice: Choices | None = Field(None, description="Any of these, in no order.")

    @model_validator(mode="after")
    def _one_kind(self) -> SpaceSpec:
        given = [name for name in SPACES if getattr(self, name) is not None]
        if len(given) != 1:
            kinds = ", ".join(f"'{name}'" for name in SPACES)
            raise PydanticCustomError("space", "expected exactly one of {kinds}", {"kinds": kinds})
        return self


SPACES = ("uniform", "log_uniform", "one_minus_log_uniform", "integer", "choice")
"""The kinds of search spaces."""


class CounterpartSpec(_Model):
    """The optimizer that does the same by other code, and by what conventions it differs."""

    optimizer: str = Field(description="Its name in this spec.")
    because: str = Field(
        "", max_length=500, description="What convention parts them, for the parity table."
    )


class OptimizerSpec(_Model):
    """One optimizer with its hyperparameters."""

    class_: Reference = Field(
        alias="class",
        description="The optimizer: a class of the suite's optimizers/ folder ('AdaGrad'), or "
        "anything importable with the torch.optim.Optimizer interface ('torch.optim:Adagrad').",
    )
    hyperparameters: dict[Parameter, Grid] = Field(
        default_factory=dict,
        description="Arguments of the constructor, on every objective. A list of values is a "
        "grid: each is run. A value that is itself a list stands in a list: [[0.9, 0.999]].",
    )
    per_objective: dict[str, dict[Parameter, Grid]] = Field(
        default_factory=dict,
        description="Hyperparameters for one objective; they win over those above, and over the "
        "search.",
    )
    create_graph: bool = Field(
        False,
        description="Whether gradients keep their graph (backward(create_graph=True)), for an "
        "optimizer that differentiates them once more, such as AdaHessian.",
    )
    search: dict[Parameter, SpaceSpec] = Field(
        default_factory=dict,
        description="Hyperparameters to tune, each with its space. Needs 'tuning'.",
    )
    generalizes: Patterns | None = Field(
        None,
        description="Optimizers of this spec that are special cases of this one (momentum's is "
        "gradient descent). A tuned one that loses to its own special case is flagged.",
    )
    counterpart: CounterpartSpec | None = Field(
        None, description="The same optimizer by other code; the parity table compares them."
    )


class Match(_Model):
    """Picks combinations of the matrix. Every key given must match."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    optimizer: Patterns | None = Field(None, description="Names or patterns such as 'ada*'.")
    objective: Patterns | None = Field(None, description="Names or patterns.")
    device: Patterns | None = Field(None, description="Devices or patterns such as 'cuda*'.")
    hyperparameters: dict[Parameter, Argument] = Field(
        default_factory=dict, description="Values that a setting must have."
    )

    @model_validator(mode="after")
    def _something(self) -> Match:
        if not (self.optimizer or self.objective or self.device or self.hyperparameters):
            raise PydanticCustomError(
                "match",
                "matches everything; expected 'optimizer', 'objective', 'device' or "
                "'hyperparameters'",
            )
        return self


class TuningSpec(_Model):
    """How hyperparameters are tuned: as many settings for every optimizer."""

    trials: int = Field(
        ge=1,
        le=100_000,
        description="Settings drawn for each optimizer with a search, on each objective.",
    )
    seeds: TuningSeeds = Field(
        default=tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + 5)),
        description="Seeds that each setting is run with: how many, or a list. None of them is "
        "among the spec's seeds, which only the chosen settings are run with.",
        validate_default=False,
    )
    draw: int = Field(
        0,
        ge=0,
        lt=SEED_LIMIT,
        description="Seed of the scrambled sequence that settings come from.",
    )
    goal: Literal["final_loss", "time_to_target"] = Field(
        "final_loss",
        description="What the best setting is best by: fewest failures, then the lowest mean final "
        "loss; or the most targets reached, then the fewest steps until they are, a miss costing "
        "all steps that its trial took.",
    )
    sweep: int = Field(
        15,
        ge=0,
        le=1000,
        description="Points of each searched range, the others held at the best setting, that "
        "show how sensitive the loss is. 0 for none.",
    )
    defaults: bool = Field(
        True, description="Whether to run what is tuned at its constructor's defaults as well."
    )


class TimingSpec(_Model):
    """How seconds per epoch are measured."""

    enabled: bool = Field(True, description="Whether to measure at all.")
    rounds: int = Field(
        40, ge=3, le=100_000, description="Blocks timed per case, at most; optimizers take turns."
    )
    warmup_rounds: int = Field(3, ge=1, le=1000, description="Rounds run first and dropped.")
    block_steps: int = Field(20, ge=1, le=1_000_000, description="Steps per block, at most.")
    seconds: float = Field(
        20.0,
        gt=0,
        allow_inf_nan=False,
        description="What the whole pass may take, about: with many cases, blocks are shorter, "
        "and no round begins once a case's share is used, after 1 to warm up and 3 that count.",
    )


class LimitsSpec(_Model):
    """What one trial may take before it is ended."""

    seconds: float = Field(
        600.0, gt=0, allow_inf_nan=False, description="Wall time of one trial; hard."
    )
    memory_gib: float = Field(
        8.0,
        gt=0,
        allow_inf_nan=False,
        description="What each worker process may allocate beyond what it starts with "
        "(Linux; memory on a GPU is not counted).",
    )


class CellSpec(Match):
    """What holds for some cells of the check, in place of what holds for all."""

    threshold: float | None = Field(
        None, gt=0, le=10, allow_inf_nan=False, description="As in check, for these cells."
    )
    loss_tolerance: float | None = Field(
        None, ge=0, le=10, allow_inf_nan=False, description="As in check, for these cells."
    )


class CheckSpec(_Model):
    """What the check calls a regression, and how it measures."""

    threshold: float = Field(
        0.05,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="A cell has regressed where a step takes longer than before by more than "
        "this share: 0.05 is 5%.",
    )
    loss_tolerance: float | None = Field(
        None,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="By how much the mean final loss may rise, as a share of what it was. Left "
        "out, rounding: 1e-6 in float32 and 1e-12 in float64; 1e-4 and 1e-9 where the baseline "
        "is from another kind of machine or of torch.",
    )
    rounds: int = Field(
        120, ge=20, le=100_000, description="Blocks of each cell that a process measures, at most."
    )
    block_steps: int = Field(10, ge=1, le=1_000_000, description="Steps per block, at most.")
    seconds: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="What the measurement may take in one process: with slow or many cells, "
        "blocks are shorter, then fewer.",
    )
    cells: tuple[CellSpec, ...] = Field(
        (), description="Other limits for some cells; of several that match, the last one holds."
    )


class ClaimSpec(_Model):
    """A published number, to be held against the distribution over seeds."""

    value: Printed = Field(
        description="As it was printed; in quotes, so that zeros at its end count as digits."
    )
    source: str = Field(min_length=1, max_length=500, description="Where it was published.")
    optimizer: str = Field(description="What it is of, by its name in this spec.")
    objective: str = Field(description="What that minimised, by its name in this spec.")
    hyperparameters: dict[Parameter, Argument] = Field(
        default_factory=dict, description="Which setting, where there are several."
    )
    setting: Literal["tuned", "defaults"] | None = Field(
        None, description="Which setting of an optimizer that is searched."
    )
    quantity: Literal["final_loss", "x1", "x2"] = Field(
        "final_loss", description="The loss after the last step, or a coordinate of the end point."
    )
    seeds: int | None = Field(
        None, ge=2, le=1_000_000, description="The value is a mean over so many runs. Needs sd."
    )
    sd: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Standard deviation over those runs."
    )

    @model_validator(mode="after")
    def _mean_with_deviation(self) -> ClaimSpec:
        if (self.seeds is None) != (self.sd is None):
            raise PydanticCustomError(
                "mean", "of a mean both 'seeds' and 'sd' are to be given, or neither"
            )
        return self


class Spec(_Model):
    """A comparison of optimizers: every optimizer on every objective on every device."""

    suite: Name = Field(description="Name of the comparison, and of its folder under reports/.")
    title: str = Field("", max_length=200, description="Heading of the page.")
    description: str = Field("", max_length=5000, description="A paragraph for the page.")
    seeds: Seeds = Field(
        default=tuple(range(10)),
        description="How many seeds (0, 1, ...), or the list of them.",
        validate_default=False,
    )
    devices: tuple[Device, ...] = Field(
        ("cpu",),
        min_length=1,
        description="Where to run. One that is absent gives rows that say so.",
        json_schema_extra={"uniqueItems": True},
    )
    threads: int = Field(
        1, ge=1, le=1024, description="Threads that torch may use within one operation."
    )
    objectives: dict[Name, ObjectiveSpec] = Field(
        min_length=1, description="What is minimised, by name."
    )
    optimizers: dict[Name, OptimizerSpec] = Field(
        min_length=1, description="What is compared, by name; the first is the reference."
    )
    tuning: TuningSpec | None = Field(
        None, description="How optimizers with a search are tuned; the same for all of them."
    )
    correction: Literal["objective", "page"] = Field(
        "objective",
        description="Which comparisons share the 5% at which any difference is called by chance: "
        "the pairs of one objective (on one device), or those of the whole page.",
    )
    claims: tuple[ClaimSpec, ...] = Field(
        (), description="Published numbers, to be held against what comes out."
    )
    include: tuple[Match, ...] = Field(
        (), description="Run only combinations that match one of these."
    )
    exclude: tuple[Match, ...] = Field(
        (), description="Leave out combinations that match one of these."
    )
    limits: LimitsSpec = Field(
        default_factory=lambda: LimitsSpec.model_validate({}),
        description="What one trial may take before it is ended.",
    )
    timing: TimingSpec = Field(
        default_factory=lambda: TimingSpec.model_validate({}),
        description="The timing pass: seconds per epoch.",
    )
    check: CheckSpec = Field(
        default_factory=lambda: CheckSpec.model_validate({}),
        description="The check against a baseline or another revision.",
    )

    @field_validator("devices")
    @classmethod
    def _each_once(cls, devices: tuple[str, ...]) -> tuple[str, ...]:
        for i, device in enumerate(devices):
            if device in devices[:i]:
                refuse("devices", f"{device!r} stands in this list twice", (i,))
        return devices

    @model_validator(mode="before")
    @classmethod
    def _lists_to_tuples(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in ("devices", "include", "exclude", "claims"):
                if isinstance(data.get(key), list):
                    data = {**data, key: tuple(data[key])}
            check = data.get("check")
            if isinstance(check, dict) and isinstance(check.get("cells"), list):
                data = {**data, "check": {**check, "cells": tuple(check["cells"])}}
        return data


@dataclass(frozen=True)
class LoadedSpec:
    """A spec with where it came from and what was wrong with it.

    Attributes:
        spec: The valid part, or None where too little is valid to go on.
        source: The file, its text, and the place of each key.
        problems: Every mistake found so far; the spec may be run only when there is none.
    """

    spec: Spec | None
    source: YamlSource
    problems: tuple[Problem, ...]

    @property
    def folder(self) -> Path:
        """The suite's folder: where the spec lies, or around the ``specs/`` that it lies in."""
        if self.source.folder is not None:
            return self.source.folder.resolve()
        return suite_folder(Path(self.source.file))


def load(path: Path) -> LoadedSpec:
    """Read and validate a spec.

    Args:
        path: The YAML file.

    Returns:
        The spec and all mistakes found. Where there are mistakes, ``spec`` holds what remains
        without the parts in question, so that later checks can report theirs as well.

    Raises:
        BadInput: If the file can't be read or is not YAML.
    """
    return check(read(path))


def check(source: YamlSource) -> LoadedSpec:
    """Validate parsed YAML; see :func:`load`."""
    problems: list[Problem] = []
    if not isinstance(source.data, dict):
        keys = "'suite', 'objectives' and 'optimizers'"
        message = f"expected a mapping with {keys}, got {shown(source.data)}"
        return LoadedSpec(None, source, (source.problem((), message),))
    data = copy.deepcopy(source.data)
    model, spec = Spec, None
    places: set[KeyPath] = set()
    for _ in range(ROUNDS):
        try:
            spec = model.model_validate(data)
            break
        except ValidationError as error:
            details = error.errors(include_url=False)
        now = places | {_path(detail) for detail in details}
        problems += (_problem(source, d) for d in details if not _is_echo(d, places, now))
        places = now
        for detail in reversed(details):
            _mend(data, detail)
        model = _Remains
    problems += _names_alike(source)
    if spec is not None:
        problems += _unknown_names(source, spec)
        problems += _tuning_mistakes(source, spec)
    return LoadedSpec(spec, source, tuple(sorted(set(problems))))


class _Remains(Spec):
    """What is left of a spec without its mistakes; it may be nothing."""

    objectives: dict[Name, ObjectiveSpec] = Field(default_factory=dict)
    optimizers: dict[Name, OptimizerSpec] = Field(default_factory=dict)


def _path(detail: ErrorDetails) -> KeyPath:
    return tuple(part for part in detail["loc"] if part != "[key]")


def _is_echo(detail: ErrorDetails, before: set[KeyPath], now: set[KeyPath]) -> bool:
    """Whether a mistake only shows because another one was taken out.

    Args:
        detail: The mistake.
        before: Where mistakes were taken out before this one showed.
        now: Where they are known now.
    """
    path = _path(detail)
    match detail["type"]:
        case "length":
            return False
        case "too_short":  # entries that are wrong don't count
            return any(place[:-1] == path for place in now)
    return any(place[: len(path)] == path for place in before)


def _mend(data: Any, detail: ErrorDetails) -> None:
    """Take out what a mistake is about, so that the rest can be checked.

    What is taken out must not show as a mistake of its own: an optimizer that lost a
    hyperparameter, or an objective that lost its class, is marked with ``UNUSABLE``.
    """
    match _path(detail):
        case ("suite",):
            data["suite"] = "unnamed"
        case ("objectives" | "optimizers" as section,):
            data[section] = {}
        case ("objectives", name) if detail["type"] == "length":
            data["objectives"][name] |= {"steps": 1, "epochs": None}
        case ("objectives", name, *rest) if rest:
            _mend_objective(data["objectives"].get(name, {}), tuple(rest))
        case (
            "optimizers",
            name,
            "hyperparameters" | "per_objective" | "search" as key,
            *_,
        ) as path:
            # A search is taken out whole: what is left of one would draw other settings.
            _remove(data, path[:3] if key == "search" else path)
            entry = data["optimizers"].get(name, {})
            known = entry.get("hyperparameters")
            entry["hyperparameters"] = {
                **(known if isinstance(known, dict) else {}),
                UNUSABLE: UNUSABLE,
            }
        case ("optimizers", name, "counterpart", *_):
            _remove(data, ("optimizers", name, "counterpart"))
        case ("optimizers", name, "class"):
            _remove(data, ("optimizers", name))
        case ("include", int(i), *_):
            data["include"][i] = {"optimizer": "*"}
        case ("exclude", int(i), *_):
            data["exclude"][i] = {"hyperparameters": {UNUSABLE: UNUSABLE}}
        case ("tuning", *_):
            data["tuning"] = {"trials": 1}
        case ("claims", int(i), *_):
            # In its place, not gone: those after it keep their numbers, and so their lines.
            data["claims"][i] = dict.fromkeys(("source", "optimizer", "objective"), UNUSABLE)
            data["claims"][i]["value"] = 0
        case ("check", "cells", int(i), *_):
            data["check"]["cells"][i] = {"hyperparameters": {UNUSABLE: UNUSABLE}}
        case path:
            _remove(data, path)


def _mend_objective(entry: dict[str, Any], path: KeyPath) -> None:
    match path:
        case ("steps" | "epochs" as key,):
            entry[key] = 1
        case ("class" | "dataset" | "arguments" as key, *_):
            entry.pop(key, None)
            entry["arguments"] = {UNUSABLE: UNUSABLE}
            if key == "class":
                entry["class"] = "quadratic_2d"
        case _:
            _remove(entry, path)


def _remove(data: Any, path: KeyPath) -> None:
    """Remove what stands at a path, or what encloses the place where nothing stands."""
    for part in path[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return
    key: Any = path[-1]
    if isinstance(data, dict):
        data.pop(key, None)
    elif isinstance(data, list) and isinstance(key, int) and key < len(data):
        data.pop(key)


def _problem(source: YamlSource, detail: ErrorDetails) -> Problem:
    at_key = detail["type"] in ("extra_forbidden", "missing") or "[key]" in detail["loc"]
    path = (*_path(detail), *(detail.get("ctx") or {}).get("below", ()))
    return source.problem(path, _message(path, detail), at_key=at_key)


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a word",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "finite_number": "a finite number",
}


def _message(path: KeyPath, detail: ErrorDetails) -> str:
    kind, context, value = detail["type"], detail.get("ctx") or {}, detail["input"]
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {shown(value)}"
    match kind:
        case "extra_forbidden":
            return f"unknown key{nearest(str(path[-1]), _keys_at(path[:-1]))}"
        case "missing":
            return "is missing"
        case "literal_error":
            hint = nearest(str(value), re.findall(r"'([^']*)'", context["expected"]))
            return f"expected {context['expected']}, got {shown(value)}{hint}"
        case "greater_than_equal":
            return f"expected at least {context['ge']}, got {shown(value)}"
        case "greater_than":
            return f"expected more than {context['gt']:g}, got {shown(value)}"
        case "less_than":
            return f"expected less than {context['lt']:,}, got {shown(value)}"
        case "less_than_equal":
            return f"expected at most {context['le']:,}, got {shown(value)}"
        case "too_short":
            return "is empty, expected at least one entry"
        case "string_too_long":
            return f"expected at most {context['max_length']} characters, got {len(str(value))}"
    return detail["msg"]


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that the model at a path has."""
    model: type[BaseModel] = Spec
    if path[:1] == ("optimizers",) and path[2:3] == ("search",):
        model = SpaceSpec
    elif path[:1] == ("optimizers",) and path[2:3] == ("counterpart",):
        model = CounterpartSpec
    elif path:
        models: dict[str, type[BaseModel]] = {
            "objectives": ObjectiveSpec,
            "optimizers": OptimizerSpec,
            "include": Match,
            "exclude": Match,
            "tuning": TuningSpec,
            "claims": ClaimSpec,
            "timing": TimingSpec,
            "limits": LimitsSpec,
            "check": CellSpec if path[1:2] == ("cells",) else CheckSpec,
        }
        model = models.get(str(path[0]), Spec)
    return [field.alias or name for name, field in model.model_fields.items()]


def _names_alike(source: YamlSource) -> Iterable[Problem]:
    """Names that differ by case only, and so share a file on some systems."""
    for section in ("objectives", "optimizers"):
        entries = source.data.get(section)
        seen: dict[str, str] = {}
        for name in entries if isinstance(entries, dict) else ():
            other = seen.setdefault(name.lower(), name)
            if other != name:
                yield source.problem(
                    (section, name), f"differs from {other!r} by case only", at_key=True
                )


def _unknown_names(source: YamlSource, spec: Spec) -> Iterable[Problem]:
    """Names that one part of the spec uses and no other part defines."""
    raw = source.data
    objectives, optimizers = (
        list(section) if isinstance(section := raw.get(key), dict) else None
        for key in ("objectives", "optimizers")
    )
    devices = list(raw["devices"]) if isinstance(raw.get("devices"), list) else list(spec.devices)
    for name, optimizer in spec.optimizers.items():
        for objective in optimizer.per_objective:
            if objectives is not None and objective not in objectives:
                yield source.problem(
                    ("optimizers", name, "per_objective", objective),
                    f"no objective of this name{nearest(objective, objectives)}",
                    at_key=True,
                )
        if optimizers is not None:
            yield from _unknown_relatives(source, name, optimizer, optimizers)
    for i, claim in enumerate(spec.claims):
        for key, names in (("optimizer", optimizers), ("objective", objectives)):
            named = getattr(claim, key)
            if names is not None and named not in (*names, UNUSABLE):
                text = f"no {key} of this name{nearest(named, names)}"
                yield source.problem(("claims", i, key), text)
    known = {"optimizer": optimizers, "objective": objectives, "device": devices}
    sections: dict[KeyPath, tuple[Match, ...]] = {
        ("include",): spec.include,
        ("exclude",): spec.exclude,
        ("check", "cells"): spec.check.cells,
    }
    for section, entries in sections.items():
        for i, match in enumerate(entries):
            for key, names in known.items():
                for pattern in getattr(match, key) or ():
                    if names and not any(matches(str(name), pattern) for name in names):
                        yield source.problem(
                            (*section, i, key),
                            f"{pattern!r} matches no {key}{nearest(pattern, map(str, names))}",
                        )
            yield from _unknown_values(source, spec, (*section, i, "hyperparameters"), match)


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
            yield source.problem(place, "names itself")
        elif other not in known:
            hint = nearest(other, [entry for entry in known if entry != name])
            yield source.problem(place, f"no optimizer is called {other!r}{hint}")


def _tuning_mistakes(source: YamlSource, spec: Spec) -> Iterator[Problem]:
    """Searches and budgets that don't fit together."""
    searched = [name for name, optimizer in spec.optimizers.items() if optimizer.search]
    if searched and spec.tuning is None:
        for name in searched:
            message = "a search needs 'tuning', such as 'tuning: {trials: 50}', for the whole spec"
            yield source.problem(("optimizers", name, "search"), message, at_key=True)
    raw = source.data["optimizers"] if isinstance(source.data.get("optimizers"), dict) else {}
    asked = any(isinstance(entry, dict) and entry.get("search") for entry in raw.values())
    if spec.tuning is not None and "tuning" in source.data and not asked:
        text = "there is nothing to tune: no optimizer has a 'search'"
        yield source.problem(("tuning",), text, at_key=True)
    if spec.tuning is not None:
        shared = sorted(set(spec.tuning.seeds) & set(spec.seeds))
        if shared:
            text = f"seed {shared[0]} is among the spec's seeds, which must see no tuning"
            yield source.problem(("tuning", "seeds"), text)
    for name in searched:
        optimizer = spec.optimizers[name]
        for parameter in optimizer.search.keys() & optimizer.hyperparameters.keys():
            text = "is given a value under 'hyperparameters' too; only one of the two can hold"
            path = ("optimizers", name, "search", parameter)
            yield source.problem(path, text, at_key=True)
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
                    yield source.problem(("optimizers", name, *where, parameter), text)


def _unknown_values(
    source: YamlSource, spec: Spec, path: KeyPath, match: Match
) -> Iterator[Problem]:
    """Hyperparameters that a match asks for and no optimizer has."""
    given: dict[str, list[Any]] = {}
    for optimizer in spec.optimizers.values():
        for values in (optimizer.hyperparameters, *optimizer.per_objective.values()):
            for name, value in values.items():
                given.setdefault(name, []).extend(value if isinstance(value, list) else [value])
    if UNUSABLE in given:
        return
    for name, wanted in match.hyperparameters.items():
        if name not in given and name != UNUSABLE:
            hint = nearest(name, given)
            message = f"no optimizer is given a hyperparameter of this name{hint}"
            yield source.problem((*path, name), message, at_key=True)
        elif name in given and wanted not in given[name]:
            message = f"no optimizer is given this value of {name!r}"
            if isinstance(wanted, list):
                message += f"; a match asks for one value: write one entry of {path[0]!r} for each"
            yield source.problem((*path, name), message)


def matches(name: str, pattern: str) -> bool:
    """Whether a name is what a pattern asks for; ``*`` and ``?`` are wildcards."""
    return fnmatch.fnmatchcase(name, pattern)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a spec, for editors."""
    schema = Spec.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Spec of an optimizer comparison"
    _close(schema)
    return schema


def _close(schema: Any) -> None:
    """Have every mapping whose keys follow a pattern refuse all other keys."""
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            _close(part)
    if isinstance(schema, dict) and "patternProperties" in schema:
        schema["additionalProperties"] = False


def require(loaded: LoadedSpec, more: Iterable[Problem] = ()) -> Spec:
    """Return the spec.

    Raises:
        BadInput: If there is any mistake.
    """
    problems = (*loaded.problems, *more)
    if problems or loaded.spec is None:
        raise BadInput(problems)
    return loaded.spec
