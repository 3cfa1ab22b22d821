"""The baseline: losses, times and counts of a suite, a small sorted file to review in a diff."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import ErrorDetails

from harness.errors import BadInput, Problem
from harness.measures import TRAIN_LOSS, Measure
from harness.provenance import environment, fingerprint
from harness.results import StepCounts
from harness.spec.fields import INTEGER_LIMIT
from harness.spec.model import CheckSpec

FORMAT = 1

PROTOCOL = 2
"""Version of ``timing/reference_ratio.py``; raised with every change that could move a ratio."""

DECIMALS = 5
"""Of the ratios; a process is off by more than the third."""

COUNTS = ("counted_steps", "operators", "calls", "state_bytes")

Count = Annotated[int, Field(ge=0, le=INTEGER_LIMIT)]
Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _BaselineModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Loss(_BaselineModel):
    """The ends of a cell's trials: losses, or values of another measure that is reported.

    Attributes:
        mean: Mean final value of the trials that ended ok; None where none did.
        start: Mean value before the first step.
        ok: Trials that ended ok.
        diverged: Trials whose loss was not finite, or much too large, or whose value at the end is
            not finite.
        failed: Trials that ended in an error or at a limit.
        bits: Digest of every seed's final value, to the bit.
        measure: What they are values of; a file says it only where it is not the loss on train.
    """

    mean: float | None = Field(allow_inf_nan=False)
    start: float | None = Field(allow_inf_nan=False)
    ok: Count
    diverged: Count
    failed: Count
    bits: str
    measure: str = TRAIN_LOSS.name

    @model_serializer(mode="wrap")
    def _without_default(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = whole(self)
        if self.measure == TRAIN_LOSS.name:
            del found["measure"]
        return found


class Cell(_BaselineModel):
    """Losses, times and counts of one cell.

    Attributes:
        loss: The ends of its trials.
        clock: What its time was taken by; None where it was not.
        times: A step's time as a ratio to the reference loop's, one per process.
        counted_steps: Steps over which the following were counted; None where they could not
            be, and then they are None too.
        operators: Operators dispatched.
        calls: Python functions called.
        state_bytes: Bytes of optimizer state.
    """

    loss: Loss
    clock: Literal["cpu", "wall"] | None = None
    times: tuple[Ratio, ...] = Field(strict=False, default=())
    counted_steps: Count | None = None
    operators: Count | None = None
    calls: Count | None = None
    state_bytes: Count | None = None

    def with_counts(self, found: StepCounts) -> Cell:
        """The same cell, with its counts."""
        counts = vars(found) | {"counted_steps": found.steps}
        return self.model_copy(update={name: counts[name] for name in COUNTS})


class Baseline(_BaselineModel):
    """The cells of a suite, and what their numbers hold for.

    Attributes:
        harness_baseline: Version of the format.
        suite: The suite's name.
        seeds: The seeds, as text.
        protocol: Digest of the reference loop and of how times are measured.
        machine: What times hold for; see :func:`machine`.
        cells: By id: ``objective/optimizer[setting]/device``.
    """

    harness_baseline: Literal[1]
    suite: str
    seeds: str
    protocol: str
    machine: dict[str, str]
    cells: dict[str, Cell]


def machine(threads: int) -> dict[str, str]:
    """Everything that a time depends on beside the code, by name."""
    return {
        "cpu": environment.cpu_model(),
        "cores": str(environment.cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "torch": fingerprint.version_of("torch"),
        "threads": str(threads),
        "accelerator": environment.accelerator() or "none",
    }


def protocol(spec: CheckSpec) -> str:
    """A digest of the reference loop and of how times are measured against it."""
    reference = Path(__file__).parents[1] / "timing" / "reference_loop.py"
    parts = [fingerprint.of_files([reference]), str(PROTOCOL), str(spec.block_steps)]
    return fingerprint.digest(parts)[:12]


def time_differs(before: Baseline, now: Baseline) -> list[str]:
    """Reasons why times can't be compared; a sentence each, none where they can be."""
    found = _differences(before, now, dict.fromkeys({**before.machine, **now.machine}, ".*"))
    if before.protocol != now.protocol:
        found.append(f"protocol: {before.protocol} then, {now.protocol} now")
    return found


def counts_differ(before: Baseline, now: Baseline) -> list[str]:
    """Reasons why exact counts can't be compared: another Python (x.y), torch or accelerator.

    What a build of torch has compiled in, and what it finds, decides which calls it makes.
    """
    compared = {"python": r"\w+ \d+\.\d+", "torch": ".*", "accelerator": ".*"}
    return _differences(before, now, compared)


def _differences(before: Baseline, now: Baseline, compared: Mapping[str, str]) -> list[str]:
    """Differences between machines, by name; of each, what a pattern matches is compared."""
    found = []
    for name, pattern in sorted(compared.items()):
        machines = (before.machine.get(name, ""), now.machine.get(name, ""))
        then, here = (matched[0] if (matched := re.match(pattern, m)) else "" for m in machines)
        if then != here:
            found.append(f"{name}: {then or 'unknown'} then, {here or 'unknown'} now")
    return found


def same_rounding(before: Baseline, now: Baseline) -> bool:
    """Tell whether losses should be bit-identical: the same kind of machine, the same torch."""
    names = ("cpu", "system", "torch", "accelerator", "threads")
    return all(before.machine.get(name) == now.machine.get(name) for name in names)


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds as a baseline names them: ``0-9``, or a digest where they are no range."""
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return f"{len(seeds)} seeds, {fingerprint.digest(list(seeds))[:12]}"


def summarise(
    trials: Iterable[tuple[int, str, float | None, float | None]], measure: Measure = TRAIN_LOSS
) -> Loss:
    """Sum up a case's trials.

    Args:
        trials: Seed, status, final value and value at the start of each; values may be missing.
        measure: What they are values of.
    """
    rows = sorted(trials)
    ended = [loss for _, status, loss, _ in rows if status == "ok"]
    final = np.array([loss for loss in ended if loss is not None], dtype="<f8")
    starts = [start for *_, start in rows if start is not None and np.isfinite(start)]
    statuses = [status for _, status, *_ in rows]
    diverged = statuses.count("diverged") + ended.count(None)
    with np.errstate(over="ignore"):
        mean = float(final.mean()) if len(final) else np.inf
    return Loss(
        mean=mean if np.isfinite(mean) else None,
        start=float(np.mean(starts)) if starts else None,
        ok=len(final),
        diverged=diverged,
        failed=len(rows) - len(final) - diverged,
        bits=hashlib.sha256(final.tobytes()).hexdigest()[:12],
        measure=measure.name,
    )


def read(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BadInput: If there is none, or it can't be used.
    """
    file = str(path)
    try:
        return Baseline.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        message = "no such baseline; the same command with --update writes one"
        raise BadInput.of_file(file, message) from None
    except OSError as error:
        raise BadInput.of_file(file, f"can't be read: {error.strerror}") from None
    except ValidationError as error:
        raise BadInput(_problems(file, error.errors(include_url=False))) from None


def _problems(file: str, details: Sequence[ErrorDetails]) -> list[Problem]:
    """Everything that is wrong with a file; where it is no baseline of this format, that alone."""
    for detail in details:
        kind, message = detail["type"], detail["msg"]
        if kind == "json_invalid":
            found = re.fullmatch(r"Invalid JSON: (.*) at line (\d+) column (\d+)", message)
            reason, line, column = found.groups() if found else (message, "0", "0")
            return [Problem(file, int(line), int(column), "", f"not JSON: {reason}")]
        if detail["loc"] in ((), ("harness_baseline",)):
            message = "not a baseline: it has no 'harness_baseline'"
            if kind == "literal_error" and detail["input"] is not None:
                message = f"has format {detail['input']!r}, this harness reads {FORMAT}; "
                message += "write it with --update"
            return [Problem(file, 0, 0, "", message)]
    return [Problem(file, 0, 0, ".".join(map(str, d["loc"])), d["msg"]) for d in details]


def write(baseline: Baseline, path: Path) -> None:
    """Write a baseline: sorted, a number to a line, the times of a cell on one.

    Raises:
        BadInput: If it can't be written; what was there before stays.
    """
    text = json.dumps(baseline.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    # Only the times are in brackets; those of a cell's name stay as they are.
    text = re.sub(r'(?<="times": )\[[^]]*\]', lambda found: " ".join(found[0].split()), text)
    temporary = path.parent / f".{path.name}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise BadInput.of_file(str(path), f"can't be written: {error.strerror}") from None
