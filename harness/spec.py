"""The spec: what a YAML file says, validated. Loads no torch and none of the suite's code.

The models below are also the source of the JSON Schema that editors use.
"""

from __future__ import annotations

import copy
import fnmatch
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from harness.problems import BadInput, Problem, nearest
from harness.yaml_source import KeyPath, YamlSource, read

SEED_LIMIT = 2**31
"""Seeds are below this, so that each stream of random numbers has a seed of its own."""

STEP_LIMIT = 100_000_000
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
DEVICE_PATTERN = r"^(cpu|cuda(:[0-9]{1,2})?|mps|xpu(:[0-9]{1,2})?)$"
REFERENCE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$|^[A-Za-z0-9_./-]+\.py:[A-Za-z_][A-Za-z0-9_]*$|" + (
    r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$"
)

Scalar = bool | int | float | str | None


def _name(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(NAME_PATTERN, value) and not value.endswith("."):
        return value
    raise PydanticCustomError(
        "name",
        "expected a name of at most 64 letters, digits, '.', '_' and '-' that starts with a "
        "letter or digit, got {value}",
        {"value": _shown(value)},
    )


def _seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= SEED_LIMIT:
            raise PydanticCustomError(
                "seeds", "expected at least 1 seed, got {value}", {"value": value}
            )
        return tuple(range(value)) if value <= 10_000_000 else _too_many_seeds(value)
    if isinstance(value, list | tuple):
        wrong = [
            s
            for s in value
            if not isinstance(s, int) or isinstance(s, bool) or not 0 <= s < SEED_LIMIT
        ]
        if wrong:
            raise PydanticCustomError(
                "seeds",
                "a seed is a whole number from 0 to {limit}, got {value}",
                {"limit": SEED_LIMIT - 1, "value": _shown(wrong[0])},
            )
        if not value:
            raise PydanticCustomError("seeds", "the list is empty, expected at least one seed")
        if len(set(value)) < len(value):
            twice = next(s for s in value if value.count(s) > 1)
            raise PydanticCustomError(
                "seeds", "seed {value} stands in the list twice", {"value": twice}
            )
        return tuple(value)
    raise PydanticCustomError(
        "seeds", "expected how many seeds, or a list of them, got {value}", {"value": _shown(value)}
    )


def _too_many_seeds(value: int) -> tuple[int, ...]:
    raise PydanticCustomError(
        "seeds", "{value} seeds are more than the limit of 10,000,000", {"value": f"{value:,}"}
    )


def _check_scalar(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError(
            "finite", "expected a finite number, got {value}", {"value": _shown(value)}
        )
    if isinstance(value, list):
        for item in value:
            _check_scalar(item)
    elif not isinstance(value, bool | int | float | str | None):
        raise PydanticCustomError(
            "value",
            "expected a number, a word, true, false, null or a list of these, got {value}",
            {"value": _shown(value)},
        )


def _argument(value: Any) -> Any:
    _check_scalar(value)
    return value


def _grid(value: Any) -> Any:
    _check_scalar(value)
    if isinstance(value, list):
        if not value:
            raise PydanticCustomError("grid", "the list is empty, expected at least one value")
        if any(value[i] == v and type(value[i]) is type(v) for v, i in _earlier(value)):
            raise PydanticCustomError("grid", "a value stands in this list twice")
    return value


def _earlier(values: list[Any]) -> Iterable[tuple[Any, int]]:
    return ((values[j], i) for i in range(len(values)) for j in range(i))


def _device(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(DEVICE_PATTERN, value):
        return value
    raise PydanticCustomError(
        "device",
        "expected a device such as 'cpu', 'cuda' or 'cuda:1', got {value}{hint}",
        {
            "value": _shown(value),
            "hint": nearest(str(value), ["cpu", "cuda", "mps", "xpu"]) if value else "",
        },
    )


def _reference(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(REFERENCE_PATTERN, value) and ".." not in value:
        return value
    raise PydanticCustomError(
        "reference",
        "expected a name of the suite ('AdaGrad'), a file of it ('optimizers/adagrad.py:AdaGrad') "
        "or something importable ('torch.optim:Adagrad'), got {value}",
        {"value": _shown(value)},
    )


def _texts(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Name = Annotated[
    str, BeforeValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})
]
Reference = Annotated[
    str,
    BeforeValidator(_reference),
    WithJsonSchema({"type": "string", "pattern": REFERENCE_PATTERN}),
]
Device = Annotated[
    str,
    BeforeValidator(_device),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["cpu", "cuda", "mps", "xpu"]},
                {"type": "string", "pattern": DEVICE_PATTERN},
            ]
        }
    ),
]
_ANY_SCALAR = {"type": ["number", "string", "boolean", "null"]}
_ANY_VALUE = {"anyOf": [_ANY_SCALAR, {"type": "array"}]}
Seeds = Annotated[
    tuple[int, ...],
    BeforeValidator(_seeds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0},
                    "minItems": 1,
                    "uniqueItems": True,
                },
            ]
        }
    ),
]
Argument = Annotated[Any, BeforeValidator(_argument), WithJsonSchema(_ANY_VALUE)]
Grid = Annotated[
    Any,
    BeforeValidator(_grid),
    WithJsonSchema({"anyOf": [_ANY_SCALAR, {"type": "array", "minItems": 1}]}),
]
Patterns = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda v: tuple(v) if isinstance(v := _texts(v), list) else v),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class ObjectiveSpec(_Model):
    """One objective: what is minimised, for how long, and what is recorded."""

    class_: Reference | None = Field(
        None,
        alias="class",
        description="What to minimise: a shipped objective ('quadratic_2d'), a class of the "
        "suite's objectives/ folder, or something importable ('package.module:Class'). "
        "Left out, the entry's own name says it.",
    )
    arguments: dict[str, Argument] = Field(
        default_factory=dict, description="Arguments of the objective's constructor."
    )
    dataset: Reference | None = Field(
        None,
        description="A loader of the suite's datasets/ folder ('airfoil'), or importable.",
    )
    batch_size: int | None = Field(
        None, ge=1, description="Rows per step; all rows where left out. Needs data."
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
        description="Steps between two recorded losses (over all data). Left out: every step "
        "without data, else fifteen times per epoch.",
    )
    divergence_factor: float = Field(
        1000.0,
        gt=0,
        allow_inf_nan=False,
        description="A trial has diverged once its loss is above its start by this many times "
        "the start's distance from the optimum (from zero where that is unknown).",
    )

    @model_validator(mode="after")
    def _one_length(self) -> ObjectiveSpec:
        if (self.steps is None) == (self.epochs is None):
            both = "both are given" if self.steps else "neither is given"
            raise PydanticCustomError(
                "length", "expected either 'steps' or 'epochs', {both}", {"both": both}
            )
        return self


class OptimizerSpec(_Model):
    """One optimizer with its hyperparameters."""

    class_: Reference = Field(
        alias="class",
        description="The optimizer: a class of the suite's optimizers/ folder ('AdaGrad'), or "
        "anything importable with the torch.optim.Optimizer interface ('torch.optim:Adagrad').",
    )
    hyperparameters: dict[str, Grid] = Field(
        default_factory=dict,
        description="Arguments of the constructor, on every objective. A list of values is a "
        "grid: each is run. A value that is itself a list stands in a list: [[0.9, 0.999]].",
    )
    per_objective: dict[str, dict[str, Grid]] = Field(
        default_factory=dict,
        description="Hyperparameters for one objective; they win over those above.",
    )


class Match(_Model):
    """Picks combinations of the matrix. Every key given must match."""

    optimizer: Patterns | None = Field(None, description="Names or patterns such as 'ada*'.")
    objective: Patterns | None = Field(None, description="Names or patterns.")
    device: Patterns | None = Field(None, description="Devices or patterns such as 'cuda*'.")
    hyperparameters: dict[str, Argument] = Field(
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


class TimingSpec(_Model):
    """How seconds per epoch are measured."""

    enabled: bool = Field(True, description="Whether to measure at all.")
    rounds: int = Field(
        30, ge=3, le=100_000, description="Blocks timed per case; optimizers take turns."
    )
    warmup_rounds: int = Field(3, ge=1, le=1000, description="Rounds run first and dropped.")
    block_steps: int = Field(50, ge=1, le=1_000_000, description="Steps per block, at most.")


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
    include: tuple[Match, ...] = Field(
        (), description="Run only combinations that match one of these."
    )
    exclude: tuple[Match, ...] = Field(
        (), description="Leave out combinations that match one of these."
    )
    timing: TimingSpec = Field(
        default_factory=lambda: TimingSpec.model_validate({}),
        description="The timing pass: seconds per epoch.",
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_to_tuples(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in ("devices", "include", "exclude"):
                if isinstance(data.get(key), list):
                    data = {**data, key: tuple(data[key])}
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
        """The suite's folder: where the spec stands."""
        return Path(self.source.file).resolve().parent


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
        message = f"expected a mapping with {keys}, got {_shown(source.data)}"
        return LoadedSpec(None, source, (source.problem((), message),))
    data = copy.deepcopy(source.data)
    spec: Spec | None = None
    for _ in range(50):
        try:
            spec = Spec.model_validate(data)
            break
        except ValidationError as error:
            details = error.errors(include_url=False)
        problems += (_problem(source, detail) for detail in details)
        dropped = [_drop(data, detail) for detail in reversed(details)]
        if not all(dropped):
            break
    problems += _names_alike(source)
    if spec is not None:
        problems += _unknown_names(source, spec)
    return LoadedSpec(spec, source, tuple(sorted(set(problems))))


def _drop(data: Any, detail: ErrorDetails) -> bool:
    """Remove what a mistake is about, so that the rest can be checked. False if nothing is left."""
    path = [part for part in detail["loc"] if part != "[key]"]
    if detail["type"] == "missing":
        path = path[:-1]
    if not path:
        return False
    for depth in range(len(path), 0, -1):
        parent = data
        for part in path[: depth - 1]:
            parent = _child(parent, part)
        key = path[depth - 1]
        if isinstance(parent, dict) and key in parent:
            del parent[key]
            if depth == 1 and key in ("objectives", "optimizers"):
                return False
            if key == "suite":
                parent["suite"] = "unnamed"
            return True
        if isinstance(parent, list) and isinstance(key, int) and key < len(parent):
            parent.pop(key)
            return True
    return True


def _child(parent: Any, part: str | int) -> Any:
    try:
        return parent[part]
    except (KeyError, IndexError, TypeError):
        return None


def _problem(source: YamlSource, detail: ErrorDetails) -> Problem:
    at_key = detail["type"] in ("extra_forbidden", "missing") or "[key]" in detail["loc"]
    path: KeyPath = tuple(part for part in detail["loc"] if part != "[key]")
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
        return f"expected {_EXPECTED[kind]}, got {_shown(value)}"
    match kind:
        case "extra_forbidden":
            return f"unknown key{nearest(str(path[-1]), _keys_at(path[:-1]))}"
        case "missing":
            return "is missing"
        case "literal_error":
            hint = nearest(str(value), re.findall(r"'([^']*)'", context["expected"]))
            return f"expected {context['expected']}, got {_shown(value)}{hint}"
        case "greater_than_equal":
            return f"expected at least {context['ge']}, got {_shown(value)}"
        case "greater_than":
            return f"expected more than {context['gt']:g}, got {_shown(value)}"
        case "less_than_equal":
            return f"expected at most {context['le']:,}, got {_shown(value)}"
        case "too_short":
            return "is empty, expected at least one entry"
        case "string_too_long":
            return f"expected at most {context['max_length']} characters, got {len(str(value))}"
    return detail["msg"]


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that the model at a path has."""
    model: type[BaseModel] = Spec
    if path:
        models: dict[str, type[BaseModel]] = {
            "objectives": ObjectiveSpec,
            "optimizers": OptimizerSpec,
            "include": Match,
            "exclude": Match,
            "timing": TimingSpec,
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
    objectives = list(raw["objectives"])
    optimizers = list(raw["optimizers"])
    devices = list(raw["devices"]) if isinstance(raw.get("devices"), list) else list(spec.devices)
    for name, optimizer in spec.optimizers.items():
        for objective in optimizer.per_objective:
            if objective not in objectives:
                yield source.problem(
                    ("optimizers", name, "per_objective", objective),
                    f"no objective of this name{nearest(objective, objectives)}",
                    at_key=True,
                )
    known = {"optimizer": optimizers, "objective": objectives, "device": devices}
    for section in ("include", "exclude"):
        for i, match in enumerate(getattr(spec, section)):
            for key, names in known.items():
                for pattern in getattr(match, key) or ():
                    if not any(matches(str(name), pattern) for name in names):
                        yield source.problem(
                            (section, i, key),
                            f"{pattern!r} matches no {key}{nearest(pattern, map(str, names))}",
                        )


def matches(name: str, pattern: str) -> bool:
    """Whether a name is what a pattern asks for; ``*`` and ``?`` are wildcards."""
    return fnmatch.fnmatchcase(name, pattern)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a spec, for editors."""
    schema = Spec.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Spec of an optimizer comparison"
    return schema


def require(loaded: LoadedSpec, more: Iterable[Problem] = ()) -> Spec:
    """Return the spec.

    Raises:
        BadInput: If there is any mistake.
    """
    problems = (*loaded.problems, *more)
    if problems or loaded.spec is None:
        raise BadInput(problems)
    return loaded.spec


def _shown(value: Any) -> str:
    """A value as a message shows it: short, on one line."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}[str(value)]
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
