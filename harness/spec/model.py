"""The models of a spec, and its JSON Schema for editors. Loads none of the suite's code."""

from __future__ import annotations

import fnmatch
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from harness.seeds import FIRST_TUNING_SEED, SEED_LIMIT
from harness.spec.fields import (
    Argument,
    Choices,
    Count,
    Device,
    Ends,
    EndsBelowOne,
    Grid,
    Items,
    Name,
    NonNegative,
    Numbers,
    Parameter,
    Patterns,
    Positive,
    PositiveEnds,
    Printed,
    Rate,
    Reference,
    Seeds,
    Shares,
    Tolerance,
    TuningSeeds,
    WholeEnds,
)


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


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

    class_: Reference | None = Field(None, alias="class")
    """The function to minimise: a shipped objective ('quadratic_2d'), a class of the suite's
    objectives/ folder, or something importable ('package.module:Class'). Left out, the entry's own
    name says it."""
    arguments: dict[Parameter, Argument] = Field(default_factory=dict)
    """Arguments of the objective's constructor."""
    dataset: Reference | None = None
    """A loader of the suite's datasets/ folder ('airfoil'), or importable."""
    batch_size: Count | None = None
    """Rows per step; all rows where left out. Needs data. Rows are drawn without replacement: every
    epoch is a new order of all rows, cut into batches, of which the last is short where they don't
    divide."""
    drop_last: bool = False
    """Leave out an epoch's last batch where it would be smaller than the others, for
    losses that can't take one (batch norm on one row)."""
    steps: Count | None = None
    """Updates per trial. Give this or epochs."""
    epochs: Count | None = None
    """Passes over the data per trial (without data, an epoch is one step). Give this or steps."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of parameters and data."""
    record_every: Count | None = None
    """Steps between two recorded losses (over all data). Left out: every step without data, else
    fifteen times per epoch."""
    divergence_factor: Positive = 1000.0
    """A trial has diverged if its loss is not finite at any step, or ends above its start by more
    than this many times the start's distance from the optimum (from zero where that is unknown)."""

    targets: Numbers = ()
    """Losses to reach: reports tell the steps and seconds until they are."""
    tolerances: Shares | None = None
    """Targets as shares of a trial's own way to the optimum that are left: 0.01 is reached once the
    loss is within 1% of the start's distance. Needs a known optimum; left out, 0.1, 0.01 and 0.001
    where that is known and no targets are given."""
    smallest_difference: NonNegative = 0.0
    """The smallest difference of final losses that matters: two that differ by no more are tied, in
    tests and in ranks. Differences below a loss's rounding always are."""
    family: Name | None = None
    """A name that related objectives share: over all objectives they then count as one. Left out,
    an objective is a family of its own."""


class SpaceSpec(_Model):
    """The search space of one hyperparameter: one range, or a choice."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    uniform: Ends | None = None
    """[low, high], evenly."""
    log_uniform: PositiveEnds | None = None
    """[low, high], evenly on a scale of logarithms."""
    one_minus_log_uniform: EndsBelowOne | None = None
    """[low, high] below 1, such that 1 less the value is even on a scale of logarithms; for
    momentum and the like."""
    integer: WholeEnds | None = None
    """[low, high], whole numbers, both ends in."""
    choice: Choices | None = None
    """Any of these, in no order."""

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

    optimizer: str
    """Its name in this spec."""
    because: str = Field("", max_length=500)
    """The convention that parts them, for the parity table."""


class OptimizerSpec(_Model):
    """One optimizer with its hyperparameters."""

    class_: Reference = Field(alias="class")
    """The optimizer: a class of the suite's optimizers/ folder ('AdaGrad'), or anything importable
    with the torch.optim.Optimizer interface ('torch.optim:Adagrad')."""
    hyperparameters: dict[Parameter, Grid] = Field(default_factory=dict)
    """Arguments of the constructor, on every objective. A list of values is a grid: each is run. A
    value that is itself a list stands in a list: [[0.9, 0.999]]."""
    per_objective: dict[str, dict[Parameter, Grid]] = Field(default_factory=dict)
    """Hyperparameters for one objective; they win over those above, and over the search."""
    create_graph: bool = False
    """Keep the graph of gradients (backward(create_graph=True)), for an optimizer that
    differentiates them once more, such as AdaHessian."""
    search: dict[Parameter, SpaceSpec] = Field(default_factory=dict)
    """Hyperparameters to tune, each with its space. Needs 'tuning'."""
    generalizes: Patterns | None = None
    """Optimizers of this spec that are special cases of this one (momentum's is gradient descent).
    A tuned one that loses to its own special case is flagged."""
    counterpart: CounterpartSpec | None = None
    """The same optimizer by other code; the parity table compares them."""


class Match(_Model):
    """Picks combinations of the matrix. Every key given must match."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    optimizer: Patterns | None = None
    """Names or patterns such as 'ada*'."""
    objective: Patterns | None = None
    """Names or patterns."""
    device: Patterns | None = None
    """Devices or patterns such as 'cuda*'."""
    hyperparameters: dict[Parameter, Argument] = Field(default_factory=dict)
    """Values that a setting must have."""

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
    """The rule for tuning hyperparameters: as many settings for every optimizer."""

    trials: int = Field(ge=1, le=100_000)
    """Settings drawn for each optimizer with a search, on each objective."""
    seeds: TuningSeeds = Field(
        default=tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + 5)), validate_default=False
    )
    """Seeds that each setting is run with: how many, or a list. None of them is among the spec's
    seeds, which only the chosen settings are run with."""
    draw: int = Field(0, ge=0, lt=SEED_LIMIT)
    """Seed of the scrambled sequence that settings come from."""
    goal: Literal["final_loss", "time_to_target"] = "final_loss"
    """The measure of the best setting: fewest failures, then the lowest mean final loss; or the
    most targets reached, then the fewest steps until they are, a miss costing all steps that its
    trial took."""
    sweep: int = Field(15, ge=0, le=1000)
    """Points of each searched range, the others held at the best setting, that show how sensitive
    the loss is. 0 for none."""
    defaults: bool = True
    """Run what is tuned at its constructor's defaults as well."""


class TimingSpec(_Model):
    """The measurement of seconds per epoch."""

    enabled: bool = True
    """Measure at all."""
    rounds: int = Field(40, ge=3, le=100_000)
    """Blocks timed per case, at most; optimizers take turns."""
    warmup_rounds: int = Field(3, ge=1, le=1000)
    """Rounds run first and dropped."""
    block_steps: int = Field(20, ge=1, le=1_000_000)
    """Steps per block, at most."""
    seconds: Positive = 20.0
    """Seconds of the whole pass, about: with many cases, blocks are shorter, and no round begins
    once a case's share is used, after 1 to warm up and 3 that count."""


class LimitsSpec(_Model):
    """Limits of one trial, beyond which it is ended."""

    seconds: Positive = 600.0
    """Wall time of one trial; hard."""
    memory_gib: Positive = 8.0
    """Memory that each worker process may allocate beyond what it starts with (Linux; memory on a
    GPU is not counted)."""


class CellSpec(Match):
    """Limits for some cells of the check, in place of those for all."""

    threshold: Rate | None = None
    """As in check, for these cells."""
    loss_tolerance: Tolerance | None = None
    """As in check, for these cells."""


class CheckSpec(_Model):
    """Limits of the check, beyond which a change is a regression, and its measurement."""

    threshold: Rate = 0.05
    """A cell has regressed where a step takes longer than before by more than this share: 0.05 is
    5%."""
    loss_tolerance: Tolerance | None = None
    """By how much the mean final loss may rise, as a share of what it was. Left out, rounding: 1e-6
    in float32 and 1e-12 in float64; 1e-4 and 1e-9 where the baseline is from another kind of
    machine or of torch."""
    rounds: int = Field(120, ge=20, le=100_000)
    """Blocks of each cell that a process measures, at most."""
    block_steps: int = Field(10, ge=1, le=1_000_000)
    """Steps per block, at most."""
    seconds: Positive = 30.0
    """Seconds of the measurement in one process: with slow or many cells, blocks are shorter,
    then fewer."""
    cells: Items[CellSpec] = ()
    """Other limits for some cells; of several that match, the last one holds."""


class ClaimSpec(_Model):
    """A published number, to be held against the distribution over seeds."""

    value: Printed
    """As it was printed; in quotes, so that zeros at its end count as digits."""
    source: str = Field(min_length=1, max_length=500)
    """Its publication."""
    optimizer: str
    """The optimizer that it is of, by its name in this spec."""
    objective: str
    """The objective that this minimised, by its name in this spec."""
    hyperparameters: dict[Parameter, Argument] = Field(default_factory=dict)
    """The setting, where there are several."""
    setting: Literal["tuned", "defaults"] | None = None
    """The setting of an optimizer that is searched."""
    quantity: Literal["final_loss", "x1", "x2"] = "final_loss"
    """The loss after the last step, or a coordinate of the end point."""
    seeds: int | None = Field(None, ge=2, le=1_000_000)
    """The value is a mean over so many runs. Needs sd."""
    sd: NonNegative | None = None
    """Standard deviation over those runs."""

    @model_validator(mode="after")
    def _mean_with_deviation(self) -> ClaimSpec:
        if (self.seeds is None) != (self.sd is None):
            raise PydanticCustomError(
                "mean", "of a mean both 'seeds' and 'sd' are to be given, or neither"
            )
        return self


class Spec(_Model):
    """A comparison of optimizers: every optimizer on every objective on every device."""

    suite: Name
    """Name of the comparison, and of its folder under reports/."""
    title: str = Field("", max_length=200)
    """Heading of the page."""
    description: str = Field("", max_length=5000)
    """A paragraph for the page."""
    seeds: Seeds = Field(default=tuple(range(10)), validate_default=False)
    """The number of seeds (0, 1, ...), or the list of them."""
    devices: Items[Device] = Field(("cpu",), min_length=1, json_schema_extra={"uniqueItems": True})
    """Devices to run on. One that is absent gives rows that say so."""
    threads: int = Field(1, ge=1, le=1024)
    """Threads that torch may use within one operation."""
    objectives: dict[Name, ObjectiveSpec] = Field(min_length=1)
    """The objectives, by name."""
    optimizers: dict[Name, OptimizerSpec] = Field(min_length=1)
    """The optimizers to compare, by name; the first is the reference."""
    tuning: TuningSpec | None = None
    """The rule for tuning optimizers with a search; the same for all of them."""
    correction: Literal["objective", "page"] = "objective"
    """Comparisons that share the 5% at which any difference is called by chance: the pairs of one
    objective (on one device), or those of the whole page."""
    claims: Items[ClaimSpec] = ()
    """Published numbers, to be held against what comes out."""
    include: Items[Match] = ()
    """Run only combinations that match one of these."""
    exclude: Items[Match] = ()
    """Leave out combinations that match one of these."""
    limits: LimitsSpec = Field(default_factory=lambda: LimitsSpec.model_validate({}))
    """Limits of one trial, beyond which it is ended."""
    timing: TimingSpec = Field(default_factory=lambda: TimingSpec.model_validate({}))
    """The timing pass: seconds per epoch."""
    check: CheckSpec = Field(default_factory=lambda: CheckSpec.model_validate({}))
    """The check against a baseline or another revision."""


def matches(name: str, pattern: str) -> bool:
    """Test a name against a pattern; ``*`` and ``?`` are wildcards."""
    return fnmatch.fnmatchcase(name, pattern)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a spec, for editors."""
    schema = Spec.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Spec of an optimizer comparison"
    _close(schema)
    return schema


def _close(schema: Any) -> None:
    """Close mappings whose keys follow a pattern to other keys; put texts on one line."""
    if isinstance(schema, dict) and isinstance(schema.get("description"), str):
        schema["description"] = " ".join(schema["description"].split())
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            _close(part)
    if isinstance(schema, dict) and "patternProperties" in schema:
        schema["additionalProperties"] = False
