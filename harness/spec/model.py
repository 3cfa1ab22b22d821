"""The models of a spec, and its JSON Schema for editors. Loads none of the suite's code."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from harness.seeds import FIRST_TUNING_SEED, SEED_LIMIT
from harness.spec.base import Model as _Model
from harness.spec.fields import (
    Argument,
    ArgumentOrEach,
    Choices,
    Count,
    Device,
    Ends,
    EndsBelowOne,
    FinalistSeeds,
    Grid,
    Items,
    Name,
    NonNegative,
    ObjectiveName,
    Parameter,
    Patterns,
    Positive,
    PositiveEnds,
    Printed,
    Rate,
    Reference,
    Seeds,
    Setting,
    Shares,
    Tolerance,
    TuningSeeds,
    WholeEnds,
)
from harness.spec.measures import (
    COORDINATES,
    FINAL,
    KeepSpec,
    MeasureName,
    Metrics,
    Quantity,
    RecordEvery,
    SplitSpec,
    StopSpec,
    Targets,
    TunedMeasure,
)
from harness.spec.recipe import RecipeSpec


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
    """The function to minimise: an objective of the harness ('quadratic_2d'), a class in the
    suite's objectives/ folder, or an import ('package.module:Class'). By default the entry's own
    name."""
    arguments: dict[Parameter, ArgumentOrEach] = Field(default_factory=dict)
    """Arguments of the objective's constructor. With {power: {each: [2, 4, 8]}} the entry stands
    for several objectives, powers.power=2 and so on: difficulties of one task, from the easiest to
    the hardest."""
    dataset: Reference | None = None
    """A loader in the suite's datasets/ folder ('airfoil'), or an import."""
    batch_size: Count | None = None
    """Rows per step; by default all rows. Needs data. Rows are drawn without replacement: every
    epoch shuffles all rows and cuts them into batches, of which the last may be smaller."""
    drop_last: bool = False
    """Skip an epoch's last batch if it is smaller than the others, for losses that can't take one
    (batch norm on one row)."""
    steps: Count | None = None
    """Updates per trial. Give this or epochs."""
    epochs: Count | None = None
    """Passes over the data per trial (without data, an epoch is one step). Give this or steps."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of parameters and data."""
    split: SplitSpec | None = None
    """Shares of the dataset's rows for train, validation and test, such as {train: 0.7, validation:
    0.1, test: 0.2}. Not for a loader that returns the parts itself."""
    evaluation_batch_size: Count | None = None
    """Rows that are evaluated at once; by default all rows of a part."""
    record_every: RecordEvery | None = None
    """Steps between two records of the metrics (over all rows of each part): a number of steps,
    'epoch', or a share of the trial such as '5%'. By default every step without data; with data
    as often as evaluation takes no more than a fifth of the work."""
    metrics: Metrics = (("loss", False),)
    """What is recorded on each part: always the loss, and metrics that the objective computes, each
    with the direction that is better, as [loss, {accuracy: higher}]."""
    tune: TunedMeasure | None = None
    """What tuning goes by: part and metric, such as 'validation accuracy'. By default the loss on
    validation if there is such a part, else on train. Never on test."""
    report: MeasureName | None = None
    """What tables, tests and ranks are of: part and metric, such as 'test accuracy'. By default the
    loss on train."""
    stop: StopSpec | None = None
    """End a trial before its last step: {at: all targets}, or {after: 5 records without a lower
    validation loss}."""
    keep: KeepSpec | None = None
    """Keep {parameters: last} of every trial in the results file."""
    divergence_factor: Positive = 1000.0
    """A trial has diverged if its loss is not finite at any step, or ends above its start by more
    than this many times the start's distance from the optimum (from zero where that is unknown)."""

    targets: Targets = ()
    """Values to reach, of what is reported or of another measure, as [0.25, {test accuracy: 0.97}]:
    reports give the steps and seconds until then."""
    tolerances: Shares | None = None
    """Targets as the fraction of a trial's initial gap to the optimum that remains: 0.01 is reached
    once 99% of the gap is closed. Needs a known optimum; by default 0.1, 0.01 and 0.001 if the
    optimum is known and no targets are given."""
    smallest_difference: NonNegative = 0.0
    """The smallest difference of final losses that matters: losses that differ by no more are tied
    in tests and ranks. Differences below the rounding of a loss are always ties."""
    family: Name | None = None
    """A name that objectives of a kind share, so that they count as one in statistics over all
    objectives. By default each objective, with its variants, is a family of its own."""

    def named_measures(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """The measures that keys name, each with its place below the objective."""
        for key, value in (("tune", self.tune), ("report", self.report)):
            if value:
                yield (key,), value
        for i, target in enumerate(self.targets):
            if target.measure:
                yield ("targets", i), target.measure
        if self.stop is not None and self.stop.after is not None:
            yield ("stop", "after"), self.stop.after.measure.name


class SpaceSpec(_Model):
    """The search space of one hyperparameter: one range, or a choice."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    uniform: Ends | None = None
    """[low, high], uniform."""
    log_uniform: PositiveEnds | None = None
    """[low, high], uniform on a logarithmic scale."""
    one_minus_log_uniform: EndsBelowOne | None = None
    """[low, high] below 1, with 1 - value uniform on a logarithmic scale; for momentum and decay
    rates."""
    integer: WholeEnds | None = None
    """[low, high], whole numbers, both included."""
    choice: Choices | None = None
    """Any of these values, without an order."""

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
    """The same optimizer in other code, and the convention by which the two differ."""

    optimizer: str
    """Its name in this spec."""
    because: str = Field("", max_length=500)
    """The convention by which they differ, for the parity table."""


class _OptimizerKeys(_Model):
    """The keys of an optimizer beside those of its recipe."""

    class_: Reference = Field(alias="class")
    """The optimizer: a class in the suite's optimizers/ folder ('AdaGrad'), or an import with the
    interface of torch.optim.Optimizer ('torch.optim:Adagrad')."""
    hyperparameters: dict[Setting, Grid] = Field(default_factory=dict)
    """Arguments of the constructor, on every objective. A list of values is a grid: each is run.
    Put a value that is itself a list into a list: [[0.9, 0.999]]. Numbers of the recipe have dotted
    names: schedule.warmup, clip_grad_norm, groups.0.lr, base.lr."""
    per_objective: dict[str, dict[Setting, Grid]] = Field(default_factory=dict)
    """Hyperparameters for one objective; they override those above, the recipe and the search."""
    create_graph: bool = False
    """Keep the graph of gradients (backward(create_graph=True)), for optimizers that need second
    derivatives, such as AdaHessian."""
    search: dict[Setting, SpaceSpec] = Field(default_factory=dict)
    """Hyperparameters to tune, each with its search space; of the recipe as well
    (schedule.warmup). Needs 'tuning'."""
    generalizes: Patterns | None = None
    """Optimizers of this spec that are special cases of this one (gradient descent is one of
    momentum). A tuned optimizer that is worse than its special case is flagged."""
    counterpart: CounterpartSpec | None = None
    """The same optimizer in other code; the parity table compares them."""


class OptimizerSpec(RecipeSpec, _OptimizerKeys):
    """One optimizer with its hyperparameters and its recipe."""


class Match(_Model):
    """Selects combinations. Every key that is given must match."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    optimizer: Patterns | None = None
    """Names or patterns such as 'ada*'."""
    objective: Patterns | None = None
    """Names or patterns."""
    device: Patterns | None = None
    """Devices or patterns such as 'cuda*'."""
    hyperparameters: dict[Setting, Argument] = Field(default_factory=dict)
    """Values that the setting must have."""

    @model_validator(mode="after")
    def _something(self) -> Match:
        if not (self.optimizer or self.objective or self.device or self.hyperparameters):
            raise PydanticCustomError(
                "match",
                "matches everything; expected 'optimizer', 'objective', 'device' or "
                "'hyperparameters'",
            )
        return self


class FinalistsSpec(_Model):
    """The best settings of each search, which are tried again before one is chosen."""

    settings: int = Field(ge=2, le=100_000)
    """Number of settings to try again."""
    seeds: FinalistSeeds
    """Further seeds to run each of them with: a number or a list. They must differ from the spec's
    seeds and from tuning's others."""


class TuningSpec(_Model):
    """How hyperparameters are tuned, with the same number of settings for every optimizer."""

    trials: int = Field(ge=1, le=100_000)
    """Number of settings to draw for each optimizer with a search, on each objective."""
    seeds: TuningSeeds = Field(
        default=tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + 5)), validate_default=False
    )
    """Seeds to run each setting with: a number or a list. They must differ from the spec's seeds,
    with which only the chosen settings are run."""
    draw: int = Field(0, ge=0, lt=SEED_LIMIT)
    """Seed of the scrambled Halton sequence from which settings are drawn."""
    finalists: FinalistsSpec | None = None
    """A second round, in which the best settings of the first are run with further seeds; the best
    by all of their seeds is chosen. A setting that was lucky with few seeds is found out at a
    fraction of what more seeds for all settings take."""
    goal: Literal["final_loss", "time_to_target"] = "final_loss"
    """What makes a setting the best: the fewest failures, then the lowest mean final loss; or the
    most targets reached, then the fewest steps (a missed target costs all there are), then the best
    final values."""
    sweep: int = Field(15, ge=0, le=1000)
    """Number of points over each searched range, the other hyperparameters held at the best
    setting, that show how sensitive the loss is. 0 for none."""
    defaults: bool = True
    """Also run tuned optimizers with their constructors' defaults."""


class TimingSpec(_Model):
    """The measurement of seconds per epoch."""

    enabled: bool = True
    """Whether to measure."""
    rounds: int = Field(40, ge=3, le=100_000)
    """Maximum number of timed blocks per case; optimizers take turns."""
    warmup_rounds: int = Field(3, ge=1, le=1000)
    """Rounds to run first and discard."""
    block_steps: int = Field(20, ge=1, le=1_000_000)
    """Maximum number of steps per block."""
    seconds: Positive = 20.0
    """Approximate seconds for all cases together: with many cases, blocks are shorter and rounds
    are fewer, but each case has at least 1 to warm up and 3 that count."""


class LimitsSpec(_Model):
    """Limits of one trial, beyond which it is stopped."""

    seconds: Positive = 600.0
    """Wall time of one trial."""
    memory_gib: Positive = 8.0
    """Memory that each worker process may allocate beyond what it starts with (Linux; memory on a
    GPU is not counted)."""


class CellSpec(Match):
    """Other limits for some cells of the check."""

    threshold: Rate | None = None
    """As in check, for these cells."""
    loss_tolerance: Tolerance | None = None
    """As in check, for these cells."""


class CheckSpec(_Model):
    """Limits beyond which a change is a regression, and how the check measures."""

    threshold: Rate = 0.05
    """A cell has regressed if a step takes longer than before by more than this fraction (0.05 is
    5%)."""
    loss_tolerance: Tolerance | None = None
    """By how much the mean of what is reported may get worse, relative to before: a loss may rise,
    an accuracy fall. By default only by rounding: 1e-6 in float32 and 1e-12 in float64, or 1e-4 and
    1e-9 if the baseline is from another kind of machine or version of torch (5e-3 for anything but
    the loss on train)."""
    rounds: int = Field(120, ge=20, le=100_000)
    """Maximum number of blocks of each cell that a process measures."""
    block_steps: int = Field(10, ge=1, le=1_000_000)
    """Maximum number of steps per block."""
    seconds: Positive = 30.0
    """Seconds of measurement in one process: with slow or many cells, blocks are shorter, then
    fewer."""
    cells: Items[CellSpec] = ()
    """Other limits for some cells; if several match, the last one counts."""


class ClaimSpec(_Model):
    """A published number, to be compared with the distribution over seeds."""

    value: Printed
    """As printed; in quotes, so that trailing zeros count as digits."""
    source: str = Field(min_length=1, max_length=500)
    """Where it was published."""
    optimizer: str
    """Name of the optimizer in this spec."""
    objective: str
    """Name of the objective in this spec."""
    hyperparameters: dict[Setting, Argument] = Field(default_factory=dict)
    """The setting, if there are several."""
    setting: Literal["tuned", "defaults"] | None = None
    """The setting of an optimizer with a search."""
    quantity: Quantity = FINAL
    """What is reported of the objective after the last step (by default), another measure of it
    such as 'test accuracy', or a coordinate of the end point (x1, x2)."""
    seeds: int | None = Field(None, ge=2, le=1_000_000)
    """Number of runs that the value is a mean of. Needs sd."""
    sd: NonNegative | None = None
    """Standard deviation over those runs."""

    @property
    def measure(self) -> str:
        """The measure that the quantity names; empty where it is none of these."""
        return "" if self.quantity in (FINAL, *COORDINATES) else self.quantity

    @model_validator(mode="after")
    def _mean_with_deviation(self) -> ClaimSpec:
        if (self.seeds is None) != (self.sd is None):
            raise PydanticCustomError(
                "mean", "expected both 'seeds' and 'sd' (of a mean), or neither"
            )
        return self


class Spec(_Model):
    """A comparison of optimizers: every optimizer on every objective on every device."""

    suite: Name
    """Name of the comparison and of its folder under reports/."""
    extends: str | None = Field(None, max_length=500)
    """Another spec, whose keys stand here where this one lacks them: 'diagnostics', which comes
    with the harness, or a file such as 'base.yaml'. The classes that it names are looked for beside
    this one."""
    title: str = Field("", max_length=200)
    """Heading of the page."""
    description: str = Field("", max_length=5000)
    """A paragraph for the page."""
    seeds: Seeds = Field(default=tuple(range(10)), validate_default=False)
    """The number of seeds (0, 1, ...), or a list of seeds."""
    devices: Items[Device] = Field(("cpu",), min_length=1, json_schema_extra={"uniqueItems": True})
    """Devices to run on. Trials on a device that is not available are skipped, and reported so."""
    threads: int = Field(1, ge=1, le=1024)
    """Number of threads that PyTorch may use within one operation."""
    objectives: dict[ObjectiveName, ObjectiveSpec] = Field(min_length=1)
    """The objectives, by name."""
    optimizers: dict[Name, OptimizerSpec] = Field(min_length=1)
    """The optimizers to compare, by name; the first is the reference."""
    recipe: RecipeSpec = Field(default_factory=lambda: RecipeSpec.model_validate({}))
    """How every optimizer trains, unless it says otherwise key by key."""
    tuning: TuningSpec | None = None
    """How optimizers with a search are tuned; the same for all of them."""
    correction: Literal["objective", "page"] = "objective"
    """The family of tests that Holm's correction is for: all pairs of one objective (on one
    device), or all pairs of the whole page."""
    claims: Items[ClaimSpec] = ()
    """Published numbers to compare with the results."""
    include: Items[Match] = ()
    """Run only combinations that match one of these."""
    exclude: Items[Match] = ()
    """Skip combinations that match one of these."""
    limits: LimitsSpec = Field(default_factory=lambda: LimitsSpec.model_validate({}))
    """Limits of one trial, beyond which it is stopped."""
    timing: TimingSpec = Field(default_factory=lambda: TimingSpec.model_validate({}))
    """How seconds per epoch are measured."""
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
    needed = [key for key in schema["required"] if key != "suite"]
    schema["required"] = ["suite"]
    schema["anyOf"] = [{"required": needed}, {"required": ["extends"]}]
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
