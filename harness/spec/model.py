"""The models of a spec, and its JSON Schema for editors. Loads none of the suite's code."""

from __future__ import annotations

import fnmatch
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from harness.seeds import FIRST_TUNING_SEED, SEED_LIMIT
from harness.spec.fields import (
    STEP_LIMIT,
    Argument,
    Choices,
    Device,
    Ends,
    EndsBelowOne,
    Grid,
    Items,
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
)


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
    cells: Items[CellSpec] = Field(
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
    devices: Items[Device] = Field(
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
    claims: Items[ClaimSpec] = Field(
        (), description="Published numbers, to be held against what comes out."
    )
    include: Items[Match] = Field((), description="Run only combinations that match one of these.")
    exclude: Items[Match] = Field((), description="Leave out combinations that match one of these.")
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
                refuse(f"duplicate entry: {device!r}", i)
        return devices


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
