"""The baseline: what a suite's cells do, as a small sorted file that is reviewed in a diff."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import BadInput, Problem
from harness.provenance import environment, fingerprint
from harness.results import StepCounts
from harness.spec.fields import INTEGER_LIMIT
from harness.spec.model import CheckSpec

FORMAT = 1

PROTOCOL = 2
"""Version of ``timing/reference_ratio.py``; raised with every change that could move a ratio."""

DECIMALS = 5
"""Of the ratios; a process is off by more than the third."""


Count = Annotated[int, Field(ge=0, le=INTEGER_LIMIT)]
Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Loss(_Model):
    """How a cell's trials ended.

    Attributes:
        mean: Mean final loss of the trials that ended ok; None where none did.
        start: Mean loss before the first step.
        ok: Trials that ended ok.
        diverged: Trials whose loss was not finite, or much too large.
        failed: Trials that ended in an error or at a limit.
        bits: Digest of every seed's final loss, to the bit.
    """

    mean: float | None = Field(allow_inf_nan=False)
    start: float | None = Field(allow_inf_nan=False)
    ok: Count
    diverged: Count
    failed: Count
    bits: str


class Cell(_Model):
    """What one cell does.

    Attributes:
        loss: How its trials ended.
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
        """The same cell, with what its steps take beside time."""
        counts = {
            "counted_steps": found.steps,
            "operators": found.operators,
            "calls": found.calls,
            "state_bytes": found.state_bytes,
        }
        return self.model_copy(update=counts)


class Baseline(_Model):
    """What a suite's cells do, and what that holds for.

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
    """What a time depends on beside the code, by name."""
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
    """Why times can't be compared; a sentence each, none where they can be."""
    found = [
        f"{name}: {then or 'unknown'} then, {here or 'unknown'} now"
        for name in sorted(before.machine.keys() | now.machine.keys())
        if (then := before.machine.get(name, "")) != (here := now.machine.get(name, ""))
    ]
    if before.protocol != now.protocol:
        found.append(f"protocol: {before.protocol} then, {now.protocol} now")
    return found


def counts_differ(before: Baseline, now: Baseline) -> list[str]:
    """Why exact counts can't be compared: another Python (x.y), torch or accelerator.

    What a build of torch has compiled in, and what it finds, decides which calls it makes.
    """
    found = []
    for name, pattern in (("python", r"\w+ \d+\.\d+"), ("torch", ".*"), ("accelerator", ".*")):
        then, here = (
            match[0] if (match := re.match(pattern, side.machine.get(name, ""))) else ""
            for side in (before, now)
        )
        if then != here:
            found.append(f"{name}: {then or 'unknown'} then, {here or 'unknown'} now")
    return found


def rounds_alike(before: Baseline, now: Baseline) -> bool:
    """Whether losses should be equal to the bit: the same kind of machine, the same torch."""
    names = ("cpu", "system", "torch", "accelerator", "threads")
    return all(before.machine.get(name) == now.machine.get(name) for name in names)


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds as a baseline names them: ``0-9``, or a digest where they are no range."""
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return f"{len(seeds)} seeds, {fingerprint.digest(list(seeds))[:12]}"


def summarise(trials: Iterable[tuple[int, str, float | None, float | None]]) -> Loss:
    """Sum up a case's trials.

    Args:
        trials: Seed, status, final loss and loss at the start of each; losses may be missing.
    """
    rows = sorted(trials)
    final = np.array([loss for _, status, loss, _ in rows if status == "ok"], dtype="<f8")
    starts = [start for *_, start in rows if start is not None and np.isfinite(start)]
    statuses = [status for _, status, *_ in rows]
    diverged = statuses.count("diverged")
    with np.errstate(over="ignore"):
        mean = float(final.mean()) if len(final) else np.inf
    return Loss(
        mean=mean if np.isfinite(mean) else None,
        start=float(np.mean(starts)) if starts else None,
        ok=len(final),
        diverged=diverged,
        failed=len(rows) - len(final) - diverged,
        bits=hashlib.sha256(final.tobytes()).hexdigest()[:12],
    )


def read(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BadInput: If there is none, or it can't be used.
    """
    file = str(path)
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        message = "no such baseline; the same command with --update writes one"
        raise BadInput.of_file(file, message) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise BadInput.of_file(file, f"can't be read: {why}") from None
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        problem = Problem(file, error.lineno, error.colno, "", f"not JSON: {error.msg}")
        raise BadInput([problem]) from None
    except UnicodeEncodeError:
        raise BadInput.of_file(file, "not a baseline: half of a character stands in it") from None
    except ValueError:
        raise BadInput.of_file(file, "not a baseline: a number in it is too long") from None
    except RecursionError:
        raise BadInput.of_file(file, "not a baseline: nested too deeply") from None
    version = data.get("harness_baseline") if isinstance(data, dict) else None
    if version is None:
        raise BadInput.of_file(file, "not a baseline: it has no 'harness_baseline'")
    if version != FORMAT:
        message = f"has format {version!r}, this harness reads {FORMAT}; write it with --update"
        raise BadInput.of_file(file, message)
    try:
        return Baseline.model_validate(data)
    except ValidationError as error:
        raise BadInput(
            Problem(file, 0, 0, ".".join(map(str, detail["loc"])), detail["msg"])
            for detail in error.errors(include_url=False)
        ) from None


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
