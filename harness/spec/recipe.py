"""The models of a recipe: schedule, clipping, parameter groups, base optimizer."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from harness.errors import join, nearest
from harness.spec.base import Model
from harness.spec.fields import (
    PARAMETER_PATTERN,
    Checked,
    Count,
    Fault,
    Grid,
    Items,
    Parameter,
    Patterns,
    Reference,
    is_number,
    refuse,
    refuse_all,
    shown,
    unfit,
)

SHAPES = ("constant", "linear", "cosine", "exponential", "inverse_sqrt", "step")
"""How a schedule in its short form goes on after the warm-up."""

GROUP_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"

_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?%")


def share_of(value: Any) -> float | None:
    """The share that a value such as ``5%`` or ``0.05`` stands for; None where it is none."""
    if isinstance(value, str):
        found = _PERCENT.fullmatch(value.strip())
        return float(found[1]) / 100 if found else None
    return value if isinstance(value, float) else None


def unfit_steps(value: Any) -> str:
    """The reason why a value can't be a number of steps; empty if it can be one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "" if value >= 0 else f"expected at least 0 steps, got {value}"
    share = share_of(value)
    if share is None:
        expected = "a share of the trial's steps (5% or 0.05) or a whole number of steps"
        return f"expected {expected}, got {shown(value)}"
    if not 0 <= share <= 1:
        return f"expected a share from 0 to 100%, got {shown(value)}"
    return ""


def unfit_threshold(value: Any) -> str:
    """The reason why a value can't be a threshold of clipping; empty if it can be one."""
    if value is None or (is_number(value) and value > 0 and math.isfinite(value)):
        return ""
    return f"expected a number above 0, or null for no clipping, got {shown(value)}"


def _unfit_shape(value: Any) -> str:
    if isinstance(value, str) and value in SHAPES:
        return ""
    hint = nearest(value, SHAPES) if isinstance(value, str) else ""
    hint = hint if "did you mean" in hint else ""
    return f"expected one of {join(SHAPES)}, got {shown(value)}{hint}"


def _unfit_final(value: Any) -> str:
    if is_number(value) and 0 <= value < math.inf:
        return ""
    return f"expected the last factor of the learning rate, at least 0, got {shown(value)}"


def _unfit_points(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return f"expected a list of shares of the trial's steps, or of steps, got {shown(value)}"
    return next(filter(None, map(unfit_steps, value)), "")


def _unfit_factor(value: Any) -> str:
    if is_number(value) and 0 < value < math.inf:
        return ""
    return f"expected a factor above 0, got {shown(value)}"


UNFIT = {
    "schedule.warmup": unfit_steps,
    "schedule.then": _unfit_shape,
    "schedule.final": _unfit_final,
    "schedule.at": _unfit_points,
    "schedule.factor": _unfit_factor,
    "clip_grad_norm": unfit_threshold,
    "clip_grad_value": unfit_threshold,
}
"""By name of a recipe's number in its short form, the reason why a value doesn't fit."""


def _one_or_grid(name: str, schema: dict[str, Any]) -> Checked:
    """A check of a value, or of each of a list of them."""
    is_list = name == "schedule.at"

    def check(value: Any) -> Any:
        grid = isinstance(value, list) and (not is_list or any(isinstance(v, list) for v in value))
        faults: list[Fault] = []
        for i, item in enumerate(value if grid else [value]):
            if message := UNFIT[name](item):
                faults.append((message, (i,) if grid else ()))
        if grid and not value:
            refuse("the list is empty, expected at least one value")
        if faults:
            refuse_all(faults)
        return value

    return Checked(check, {"anyOf": [schema, {"type": "array", "items": schema, "minItems": 1}]})


_STEPS_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "number", "minimum": 0, "maximum": 1},
        {
            "type": "string",
            "pattern": r"^(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?|\.[0-9]+) ?%$",
            "examples": ["5%"],
        },
    ]
}
_THRESHOLD_SCHEMA = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}


_TYPES = ["number", "string", "boolean", "null"]
_NOT_NEGATIVE = {"type": "integer", "minimum": 0}
_DIMENSIONS_SCHEMA = {
    "anyOf": [_NOT_NEGATIVE, {"type": "array", "items": _NOT_NEGATIVE, "minItems": 1}]
}


def _dimensions(value: Any) -> tuple[int, ...]:
    numbers = value if isinstance(value, list | tuple) else [value]
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            refuse(f"expected a number of dimensions, or a list of them, got {shown(value)}")
    if not numbers:
        refuse("the list is empty, expected at least one number of dimensions")
    return tuple(numbers)


def _group_name(value: Any) -> Any:
    if value is not None and not (
        isinstance(value, str) and re.fullmatch(GROUP_NAME_PATTERN, value)
    ):
        expected = "a name of letters, digits, '_' and '-' that starts with a letter"
        refuse(f"expected {expected}, got {shown(value)}")
    return value


_GROUP_NAME_SCHEMA = {"type": "string", "pattern": GROUP_NAME_PATTERN}


def _steps(value: Any) -> Any:
    if value is not None and (message := unfit_steps(value)):
        refuse(message)
    return value


def _value(value: Any) -> Any:
    """An argument of a scheduler: a list is one value, a list of lists a grid."""
    if message := unfit(value):
        refuse(message)
    return value


def _further_keys(schema: dict[str, Any]) -> None:
    """Let further keys of a JSON Schema be arguments' names."""
    own = "|".join(schema["properties"])
    pattern = f"^(?!(?:{own})$){PARAMETER_PATTERN.removeprefix('^')}"
    schema["patternProperties"] = {pattern: schema.pop("additionalProperties")}


class ScheduleSpec(Model):
    """A schedule in its short form: warm-up, then a shape. Factors of the learning rate."""

    warmup: Annotated[Any, _one_or_grid("schedule.warmup", _STEPS_SCHEMA)] = 0
    """Steps over which the learning rate rises linearly: a share of the trial's steps (5% or 0.05)
    or a whole number of steps. With W of them the factor at update t, from 0, is (t + 1) / W."""
    then: Annotated[Any, _one_or_grid("schedule.then", {"enum": list(SHAPES)})] = "constant"
    """How it goes on over the other steps: constant, linear, cosine, exponential (all three from 1
    to 'final'), inverse_sqrt (sqrt(W / (t + 1))) or step ('factor' at each of 'at')."""
    final: Annotated[Any, _one_or_grid("schedule.final", {"type": "number", "minimum": 0})] = 0.0
    """The last factor, of linear, cosine and exponential (0 by default; 0.01 for exponential)."""
    at: Annotated[Any, _one_or_grid("schedule.at", {"type": "array", "items": _STEPS_SCHEMA})] = (
        "50%",
        "75%",
    )
    """For step: the places, as shares of the trial's steps or in steps."""
    factor: Annotated[
        Any, _one_or_grid("schedule.factor", {"type": "number", "exclusiveMinimum": 0})
    ] = 0.1
    """For step: the factor at each of them."""


class StageSpec(Model):
    """A scheduler of a schedule, and its arguments as further keys."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_further_keys)
    __pydantic_extra__: dict[
        Parameter, Annotated[Any, Checked(_value, {"type": [*_TYPES, "array"]})]
    ] = Field(init=False)

    class_: Reference = Field(alias="class")
    """The scheduler: an import ('torch.optim.lr_scheduler:CosineAnnealingLR'), or a class in the
    suite's optimizers/ folder. Every further key is an argument. The word 'steps' stands for the
    stage's own number of steps, '5%' for a number of steps of the trial."""
    steps: Annotated[Any, Checked(_steps, _STEPS_SCHEMA)] = None
    """How long: a share of the trial's steps (5% or 0.05), or a number of steps. The stage that
    doesn't say so takes what is left."""
    schedulers: Items[StageSpec] | None = None
    """Schedulers that this one combines, such as ChainedScheduler."""


class SelectionSpec(Model):
    """Parameters of the objective, by the shapes of one trial and by names."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    ndim: Annotated[tuple[int, ...] | None, Checked(_dimensions, _DIMENSIONS_SCHEMA)] = None
    """The number of dimensions, or several: [0, 1]."""
    name: Patterns | None = None
    """Names or patterns such as '*.bias'."""
    not_: Patterns | None = Field(None, alias="not")
    """Names or patterns to leave out."""
    min_size: Count | None = None
    """The fewest elements."""
    max_size: Count | None = None
    """The most elements."""

    @model_validator(mode="after")
    def _something(self) -> SelectionSpec:
        if not self.model_fields_set:
            keys = "'ndim', 'name', 'not', 'min_size' or 'max_size'"
            raise PydanticCustomError("selection", "selects everything; expected {k}", {"k": keys})
        return self


def _selects_by(value: Any) -> str | None:
    if isinstance(value, str | list | tuple):
        return "[names]"
    return "[selection]" if isinstance(value, dict | SelectionSpec) else None


Parameters = Annotated[
    Annotated[Patterns, Tag("[names]")] | Annotated[SelectionSpec, Tag("[selection]")],
    Discriminator(
        _selects_by,
        custom_error_type="parameters",
        custom_error_message="expected names or patterns of parameters, or a mapping such as "
        "{ndim: 2}",
    ),
]


class GroupSpec(Model):
    """A group of parameters with hyperparameters of its own, as further keys."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_further_keys)
    __pydantic_extra__: dict[Parameter, Grid] = Field(init=False)

    parameters: Parameters | None = None
    """The objective's parameters: a name, a pattern such as '*.bias', a list of them, or a mapping
    of shapes and names. By default all that are left. The first group that matches counts."""
    class_: Reference | None = Field(None, alias="class")
    """Another optimizer for this group; it gets the group's hyperparameters only."""
    name: Annotated[str | None, Checked(_group_name, _GROUP_NAME_SCHEMA)] = None
    """A name for dotted names: groups.NAME.lr in place of groups.0.lr."""


class BaseSpec(Model):
    """The optimizer that another one wraps; its hyperparameters are further keys."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_further_keys)
    __pydantic_extra__: dict[Parameter, Grid] = Field(init=False)

    class_: Reference = Field(alias="class")
    """The base optimizer, as an optimizer's class."""
    as_: Literal["class", "instance"] | None = Field(None, alias="as")
    """How the wrapper takes it: its class, with its hyperparameters as further arguments
    (SAM(params, SGD, lr=0.1)), or an instance (Lookahead(SGD(params, lr=0.1))). By default as the
    wrapper's signature says."""


def _scheduled_by(value: Any) -> str | None:
    if value is None or value == "constant":
        return "[off]"
    if isinstance(value, str):
        return "[shape]"
    if isinstance(value, list | tuple):
        return "[stages]"
    if isinstance(value, dict):
        return "[stage]" if "class" in value else "[short]"
    if isinstance(value, ScheduleSpec):
        return "[short]"
    return "[stage]" if isinstance(value, StageSpec) else None


def _off(value: Any) -> None:
    del value


Schedule = Annotated[
    Annotated[None, Checked(_off, {"enum": ["constant", None]}), Tag("[off]")]
    | Annotated[Literal["linear", "cosine", "exponential", "inverse_sqrt", "step"], Tag("[shape]")]
    | Annotated[ScheduleSpec, Tag("[short]")]
    | Annotated[StageSpec, Tag("[stage]")]
    | Annotated[
        Items[StageSpec], Field(min_length=1, json_schema_extra={"minItems": 1}), Tag("[stages]")
    ],
    Discriminator(
        _scheduled_by,
        custom_error_type="schedule",
        custom_error_message="expected a schedule such as cosine, {warmup: 5%, then: cosine} or "
        "a list of schedulers",
    ),
]


class RecipeSpec(Model):
    """The way in which an optimizer trains: schedule, clipping, parameter groups, base."""

    schedule: Schedule = None
    """How the learning rate goes over a trial, stepped after every update: a word (cosine), the
    short form {warmup: 5%, then: cosine, final: 0}, or a list of schedulers of torch or of one's
    own. 'constant' turns a recipe's off."""
    clip_grad_norm: Annotated[Any, _one_or_grid("clip_grad_norm", _THRESHOLD_SCHEMA)] = None
    """Clip the norm of each trial's gradient, over all its parameters, before every update
    (torch.nn.utils.clip_grad_norm_). null turns a recipe's off."""
    clip_grad_value: Annotated[Any, _one_or_grid("clip_grad_value", _THRESHOLD_SCHEMA)] = None
    """Clip each element of the gradient (torch.nn.utils.clip_grad_value_), before its norm is."""
    groups: Items[GroupSpec] | None = None
    """Parameter groups; the first that matches counts. What none matches has the optimizer's own
    hyperparameters."""
    base: BaseSpec | None = None
    """The optimizer that this one wraps, such as SAM's or Lookahead's."""
    named: bool = False
    """Give the optimizer (name, parameter) pairs, for those that want named parameters."""


RECIPE_KEYS: tuple[str, ...] = tuple(RecipeSpec.model_fields)
"""The keys of a recipe, which an optimizer may give as well."""
