"""Measures, targets and rules for stopping as a spec writes them: ``test accuracy``, ``epoch``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from harness.errors import join, nearest
from harness.measures import HIGHER, LOWER, PARTS, Measure, Part
from harness.seeds import SEED_LIMIT
from harness.spec.base import Model
from harness.spec.fields import (
    INTEGER_LIMIT,
    PARAMETER_PATTERN,
    STEP_LIMIT,
    Checked,
    Fault,
    Share,
    refuse,
    refuse_all,
    shown,
)

_NAME = PARAMETER_PATTERN.strip("^$")
MEASURE_PATTERN = rf"^({'|'.join(PARTS)}) {_NAME}$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)?%$"
FINAL, COORDINATES = "final_loss", ("x1", "x2")
"""What a claim is of where it names no measure: the last value of what is reported, or a coordinate
of the end point."""
PATIENCE_PATTERN = rf"^[1-9][0-9]* records? without a (lower|higher) ({'|'.join(PARTS)}) {_NAME}$"


@dataclass(frozen=True)
class GivenTarget:
    """A value to be reached.

    Attributes:
        value: The value.
        measure: Part and metric, as the spec names them; empty for what is reported.
    """

    value: float
    measure: str = ""


@dataclass(frozen=True)
class Patience:
    """A rule that stops a trial which gets no better.

    Attributes:
        records: Recorded values that may be no better than the best before, one after the other.
        measure: What is recorded.
    """

    records: int
    measure: Measure


def percent(text: str) -> float:
    """A share from its text: 0.05 of ``5%``."""
    return float(text.rstrip("%")) / 100


def _metrics(value: Any) -> tuple[tuple[str, bool], ...]:
    """Metrics with whether higher is better, from a list of names and of ``{name: higher}``."""
    if isinstance(value, str | dict):
        value = [value]
    if not isinstance(value, list | tuple) or not value:
        refuse(f"expected a list such as [loss, {{accuracy: higher}}], got {shown(value)}")
    found: dict[str, bool] = {}
    faults: list[Fault] = []
    for i, item in enumerate(value):
        try:
            name, higher = _metric(item)
        except ValueError as error:
            faults.append((str(error), (i,)))
            continue
        if name in found:
            faults.append((f"duplicate entry: {name!r}", (i,)))
        found[name] = higher
    if faults:
        refuse_all(faults)
    # The loss is always recorded, and first.
    return tuple(({"loss": False} | found).items())


def _metric(item: Any) -> tuple[str, bool]:
    if isinstance(item, tuple):
        return item
    if isinstance(item, dict) and len(item) == 1:
        ((name, way),) = item.items()
        if not isinstance(name, str) or not re.fullmatch(PARAMETER_PATTERN, name):
            raise ValueError(f"expected a metric's name, got {shown(name)}")
        if way not in ("higher", "lower"):
            hint = nearest(str(way), ["higher", "lower"])
            raise ValueError(f"expected which is better, higher or lower, got {shown(way)}{hint}")
        known = "lower" if name in LOWER else "higher" if name in HIGHER else way
        if way != known:
            raise ValueError(f"of {name!r}, {known} is better")
        return name, way == "higher"
    if not isinstance(item, str) or not re.fullmatch(PARAMETER_PATTERN, item):
        raise ValueError(
            f"expected a metric's name, or which way is better as {{accuracy: higher}}, "
            f"got {shown(item)}"
        )
    if item in HIGHER or item in LOWER:
        return item, item in HIGHER
    raise ValueError(f"say which is better: {{{item}: higher}} or {{{item}: lower}}")


def _measure(value: Any) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not re.fullmatch(MEASURE_PATTERN, text):
        hint = ""
        if text:
            first, _, rest = text.partition(" ")
            hint = nearest(first, PARTS) if rest else f"; of which part? {join(PARTS)}"
        refuse(f"expected a part and a metric, such as 'test accuracy', got {shown(value)}{hint}")
    return text


def _quantity(value: Any) -> str:
    if value in (FINAL, *COORDINATES):
        return str(value)
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not re.fullmatch(MEASURE_PATTERN, text):
        known = (FINAL, *COORDINATES, *(f"{part} accuracy" for part in PARTS))
        expected = f"expected {join([FINAL, *COORDINATES])}, or a measure such as 'test accuracy'"
        refuse(f"{expected}, got {shown(value)}{nearest(text, known) if text else ''}")
    return text


def _targets(value: Any) -> tuple[GivenTarget, ...]:
    if not isinstance(value, list | tuple):
        refuse(f"expected a list of numbers or of {{test accuracy: 0.97}}, got {shown(value)}")
    found: list[GivenTarget] = []
    faults: list[Fault] = []
    for i, item in enumerate(value):
        if isinstance(item, GivenTarget):
            found.append(item)
            continue
        number, measure = item, ""
        if isinstance(item, dict) and len(item) == 1:
            ((name, number),) = item.items()
            measure = " ".join(name.split()) if isinstance(name, str) else ""
            if not re.fullmatch(MEASURE_PATTERN, measure):
                expected = "expected a part and a metric, as {test accuracy: 0.97}"
                faults.append((f"{expected}, got {shown(name)}", (i,)))
                continue
        if not _is_finite(number):
            faults.append((f"expected a finite number, got {shown(number)}", (i,)))
            continue
        found.append(GivenTarget(float(number), measure))
    if faults:
        refuse_all(faults)
    return tuple(found)


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= INTEGER_LIMIT and not math.isnan(value)


def _record_every(value: Any) -> int | str:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    is_share = isinstance(value, str) and re.fullmatch(PERCENT_PATTERN, value)
    if is_number and not 1 <= value <= STEP_LIMIT:
        refuse(f"expected at least 1 and at most {STEP_LIMIT:,} steps, got {shown(value)}")
    if is_share and not 0 < percent(value) <= 1:
        refuse(f"expected more than 0% and at most 100%, got {shown(value)}")
    if not (is_number or is_share or value == "epoch"):
        expected = "a number of steps, 'epoch' or a share of the trial such as '5%'"
        hint = nearest(value, ["epoch"]) if isinstance(value, str) else ""
        refuse(f"expected {expected}, got {shown(value)}{hint}")
    found: int | str = value
    return found


def _patience(value: Any) -> Patience:
    if isinstance(value, Patience):
        return value
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not re.fullmatch(PATIENCE_PATTERN, text):
        example = "'5 records without a lower validation loss'"
        refuse(f"expected words such as {example}, got {shown(value)}")
    words = text.split()
    part: Part = words[-2]  # type: ignore[assignment]
    return Patience(int(words[0]), Measure(words[-1], part, words[-3] == "higher"))


_METRICS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            {"type": "string", "pattern": PARAMETER_PATTERN},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "patternProperties": {PARAMETER_PATTERN: {"enum": ["higher", "lower"]}},
            },
        ]
    },
}
_TARGETS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "anyOf": [
            {"type": "number"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "patternProperties": {MEASURE_PATTERN: {"type": "number"}},
            },
        ]
    },
}
_MEASURE_SCHEMA = {
    "anyOf": [
        {"enum": [f"{part} {metric}" for part in PARTS for metric in ("loss", "accuracy")]},
        {"type": "string", "pattern": MEASURE_PATTERN},
    ]
}
_QUANTITY_SCHEMA = {"anyOf": [{"enum": [FINAL, *COORDINATES]}, *_MEASURE_SCHEMA["anyOf"]]}
_TUNE_SCHEMA = {
    "anyOf": [
        {"enum": [f"{part} {metric}" for part in PARTS[:2] for metric in ("loss", "accuracy")]},
        {"type": "string", "pattern": MEASURE_PATTERN.replace("|test", "")},
    ]
}
_RECORD_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": STEP_LIMIT},
        {"enum": ["epoch"]},
        {"type": "string", "pattern": PERCENT_PATTERN},
    ]
}
_PATIENCE_SCHEMA = {"type": "string", "pattern": PATIENCE_PATTERN}

Metrics = Annotated[tuple[tuple[str, bool], ...], Checked(_metrics, _METRICS_SCHEMA)]
MeasureName = Annotated[str, Checked(_measure, _MEASURE_SCHEMA)]
Quantity = Annotated[str, Checked(_quantity, _QUANTITY_SCHEMA)]
TunedMeasure = Annotated[str, Checked(_measure, _TUNE_SCHEMA)]
Targets = Annotated[tuple[GivenTarget, ...], Checked(_targets, _TARGETS_SCHEMA)]
RecordEvery = Annotated[int | str, Checked(_record_every, _RECORD_SCHEMA)]
PatienceRule = Annotated[Patience, Checked(_patience, _PATIENCE_SCHEMA)]
StopAt = Literal["all targets", "first target"]


class SplitSpec(Model):
    """The shares of a dataset's rows that are for training, tuning and reporting."""

    train: Share
    """Share of the rows that steps see."""
    validation: Share | None = None
    """Share by which settings are tuned."""
    test: Share | None = None
    """Share that nothing but the report sees."""
    seed: int = Field(0, ge=0, lt=SEED_LIMIT)
    """Seed of the order in which rows are dealt out; the same for every trial."""

    @model_validator(mode="after")
    def _whole(self) -> SplitSpec:
        shares = [self.train, self.validation or 0.0, self.test or 0.0]
        if abs(math.fsum(shares) - 1) > 1e-9:
            total = f"{math.fsum(shares):.6g}"
            text = "expected shares that add up to 1, got {total}"
            raise PydanticCustomError("split", text, {"total": total})
        if self.train == 1:
            raise PydanticCustomError("split", "leaves nothing for validation or test")
        return self

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that there are."""
        return tuple(part for part in PARTS if getattr(self, part) is not None)


class StopSpec(Model):
    """When a trial ends before its last step."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    at: StopAt | None = None
    """Stop once all targets (or the first of them) are reached, at a recorded step."""
    after: PatienceRule | None = None
    """Stop after so many recorded values that are no better than the best before them, such as
    '5 records without a lower validation loss'."""

    @model_validator(mode="after")
    def _something(self) -> StopSpec:
        if self.at is None and self.after is None:
            raise PydanticCustomError("stop", "never stops; expected 'at' or 'after'")
        return self


class KeepSpec(Model):
    """What of a trial is kept for whoever wants to look at it afterwards."""

    parameters: Literal["last"] | None = None
    """Keep the parameters after the last step."""
