"""Arguments of the library's functions: checked, and turned into what the commands take."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.errors import BadInput, Problem, nearest
from harness.seeds import SEED_LIMIT

if TYPE_CHECKING:
    from harness.commands.check import GateOptions
    from harness.commands.run import RunOptions
    from harness.plan.builder import Overrides
    from harness.progress import Progress
    from harness.spec.validation import LoadedSpec

StrPath = str | os.PathLike[str]
"""A path."""

SpecLike = StrPath | Mapping[str, Any]
"""A spec: the path of a YAML file, or a mapping that says what the file would."""

Executor = Literal["processes", "dask"]
"""Kinds of executors that run trials."""

Texts = str | Sequence[str]
"""One text, or several."""


def load_spec(spec: SpecLike, folder: StrPath | None) -> LoadedSpec:
    """Load a spec from a file or a mapping."""
    from harness.spec import validation, yaml_source

    if isinstance(spec, Mapping):
        return validation.check(yaml_source.of_mapping(spec, Path(folder or ".")))
    if folder is not None:
        raise BadInput.of_file(
            "folder", "is for a mapping; a file's suite is the folder that it is in"
        )
    return validation.load(Path(spec))


def overrides_of(
    only: Texts,
    devices: Texts | None,
    seeds: int | None,
    seed: int | Sequence[int] = (),
    values: Mapping[str, Any] | Sequence[str] = (),
    *,
    timing: bool = True,
) -> Overrides:
    """Turn arguments into what stands in place of the spec's values."""
    from harness.plan.builder import Overrides, parse_devices

    chosen = tuple(seed) if isinstance(seed, Sequence) else (seed,)
    if seeds is not None and chosen:
        raise BadInput.of_file("seed", "expected either seeds or seed")
    if isinstance(values, Mapping):
        values = [f"{name}={as_json(name, value)}" for name, value in values.items()]
    return Overrides(
        seeds=None if seeds is None else whole_number("seeds", seeds, 1),
        devices=() if devices is None else parse_devices(",".join(several(devices))),
        only=several(only),
        chosen=tuple(whole_number("seed", one, 0, SEED_LIMIT - 1) for one in chosen),
        values=tuple(values),
        untimed=not timing,
    )


def run_options(
    overrides: Overrides,
    output: StrPath | None,
    workers: int | None = None,
    executor: Executor | None = None,
    scheduler: StrPath | None = None,
    *,
    fresh: bool,
) -> RunOptions:
    """Turn arguments into the options of a run."""
    from harness.commands.run import RunOptions

    if executor is not None:
        among("executor", executor, get_args(Executor))
    if scheduler is not None and executor == "processes":
        raise BadInput.of_file("scheduler", "is for the executor 'dask'")
    if scheduler is not None and workers is not None:
        message = "are of this machine; a scheduler has workers of its own"
        raise BadInput.of_file("workers", message)
    return RunOptions(
        overrides=overrides,
        output=None if output is None else Path(output),
        workers=workers_of(workers),
        executor=executor,
        scheduler=None if scheduler is None else os.fspath(scheduler),
        fresh=fresh,
    )


def gate_options(
    only: Texts,
    devices: Texts | None,
    seeds: int | None,
    workers: int | None,
    output: StrPath | None,
) -> GateOptions:
    """Turn arguments into the options of a check."""
    from harness.commands.check import GateOptions

    return GateOptions(
        overrides=overrides_of(only, devices, seeds),
        output=None if output is None else Path(output),
        workers=workers_of(workers),
    )


def progress_for(shown: bool) -> Progress:
    """Choose who is told of progress."""
    from harness import progress

    return progress.choose(quiet=not shown)


def workers_of(count: int | None) -> int | None:
    """Check a number of worker processes."""
    return None if count is None else whole_number("workers", count, 1, 1024)


def formats_of(formats: Texts) -> tuple[str, ...]:
    """Check the names of formats."""
    from harness.reporting.write import FORMATS

    return among("formats", formats, FORMATS)


def among(name: str, given: Texts, known: Sequence[str]) -> tuple[str, ...]:
    """Texts that an argument may give.

    Raises:
        BadInput: With every one that is none of these.
    """
    texts = several(given)
    wrong = [text for text in texts if text not in known]
    if wrong:
        problems = (f"there is no {text!r}{nearest(str(text), known)}" for text in wrong)
        raise BadInput(Problem(name, 0, 0, "", text) for text in problems)
    return texts


def several(given: Texts) -> tuple[str, ...]:
    """One text, or several, as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


def whole_number(name: str, value: int, least: int, most: int | None = None) -> int:
    """A number that an argument gives.

    Raises:
        BadInput: If it is not a whole number, or not within the bounds.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise BadInput.of_file(name, f"expected a whole number, got {value!r}")
    value = operator.index(value)  # numpy's are of other types
    if value < least or (most is not None and value > most):
        bounds = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"
        raise BadInput.of_file(name, f"expected a whole number {bounds}, got {value:,}")
    return value


def as_json(name: str, value: Any) -> str:
    """Write a value as JSON."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    try:
        return json.dumps(plain)
    except (TypeError, ValueError):
        what = f"{name!r} is a {type(value).__name__}, expected plain data"
        raise BadInput.of_file("override", what) from None
