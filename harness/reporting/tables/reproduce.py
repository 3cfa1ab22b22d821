"""Commands that a report tells its reader to run: the run again, a part of it, one trial.

A run that began with a file is told as a command line; one that began with a mapping, which no
command line can name, as the call in Python that it was.
"""

from __future__ import annotations

import ast
import glob
import itertools
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from harness.spec.yaml_source import suite_folder

if TYPE_CHECKING:
    from harness.commands.run import RunOptions
    from harness.spec.yaml_source import YamlSource
    from harness.store.read import CaseData, Results
    from harness.store.records import RunRecord

PROGRAM = ("python", "-m", "harness")

CALL = "harness.run(spec"
"""The beginning of the command of a run whose spec is a mapping."""

REPEATS = "repeat"
"""Folder below a run's results for what repeats its trials, so that these stay as they are."""


def line(*words: str, **options: Any) -> str:
    """A command line.

    Args:
        words: The command and its arguments.
        options: By their names, with ``_`` for ``-``: a text or number, which is given as it is;
            a list, for an option that is given so often; or whether a flag is given.
    """
    given = [word for name, value in options.items() for word in _option(name, value)]
    return shlex.join([*PROGRAM, *words, *given])


def _option(name: str, value: Any) -> Iterator[str]:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, list | tuple):
        for one in value:
            yield from (option, str(one))
    elif value is True:
        yield option
    elif value not in (None, False):
        yield from (option, str(value))


def call(**arguments: Any) -> str:
    """The call in Python that runs a mapping."""
    return ", ".join([CALL, *(f"{name}={value!r}" for name, value in arguments.items())]) + ")"


def of_run(source: YamlSource, options: RunOptions) -> str:
    """The command that makes a run, or the call if its spec is a mapping."""
    overrides = options.overrides
    given: dict[str, Any] = {
        "only": list(overrides.only),
        "devices": ",".join(overrides.devices) or None,
        "seeds": overrides.seeds,
        "seed": list(overrides.chosen),
        "set": list(overrides.values),
        "no_timing": overrides.untimed,
        "fresh": options.fresh,
        "workers": options.workers,
        "executor": options.executor,
        "scheduler": options.scheduler,
        "output": None if options.output is None else str(options.output),
    }
    if source.folder is None:
        return line("run", source.file, **given)
    given["timing"], given["override"] = not given.pop("no_timing"), given.pop("set")
    defaults = {"timing": True, "fresh": False}
    chosen = {k: v for k, v in given.items() if v not in (None, []) and v is not defaults.get(k)}
    folder = str(source.folder)
    return call(**({"folder": folder} if folder != "." else {}), **chosen)


def again(results: Results) -> dict[str, str]:
    """Commands to run and to report again."""
    run = results.run
    first = f"optimizer={results.optimizers[0]}" if results.cases else "optimizer=*"
    if _is_call(run):
        given = _arguments(run)
        place = {name: given[name] for name in ("folder", "output") if name in given}
        return {
            "how": "The call",
            "run": run.command,
            "report": line("report", _folder(run)),
            "seeds": call(**place, seeds=100),
            "only": call(**place, only=first),
            "dry": call(**place).replace("harness.run", "harness.preview", 1),
        }
    return {
        "how": "The command line",
        "run": run.command if run.spec_file in _words(run) else line("run", run.spec_file),
        "report": line("report", _output(run) or run.spec_file),
        "seeds": line("run", run.spec_file, seeds=100),
        "only": line("run", run.spec_file, only=first),
        "dry": line("run", run.spec_file, dry_run=True),
    }


def repeat(run: RunRecord, case: CaseData, seed: int) -> str:
    """The command that runs one trial of a run once more, on its own and somewhere else.

    A setting that tuning found is given as it is, so that nothing is tuned for it. Empty for
    results of several runs.
    """
    if not run.spec_file:
        return ""
    only = [
        f"optimizer={glob.escape(case.optimizer)}",
        f"objective={glob.escape(case.objective)}",
    ]
    values: dict[str, Any] = {}
    if case.role == "tuned":
        searched = run.settings.searches.get(case.optimizer, ())
        known = (name for name in searched if name in case.hyperparameters)
        values = {name: case.hyperparameters[name] for name in known}
    elif case.setting:
        only.append(f"setting={glob.escape(case.setting)}")
    output = str(PurePath(_folder(run)) / REPEATS)
    if _is_call(run):
        given: dict[str, Any] = {"only": only} | ({"override": values} if values else {})
        given |= {"devices": case.device, "seed": seed, "timing": False, "fresh": True}
        folder = {name: value for name, value in _arguments(run).items() if name == "folder"}
        return call(**folder, **given, output=output)
    return line(
        "run",
        run.spec_file,
        only=only,
        set=[f"{name}={json.dumps(value)}" for name, value in values.items()],
        devices=case.device,
        seed=seed,
        no_timing=True,
        fresh=True,
        output=output,
    )


def _folder(run: RunRecord) -> str:
    """The folder of a run's results."""
    if _is_call(run):
        given = _arguments(run)
        own = PurePath(str(given.get("folder", "."))) / "reports" / run.suite
        return str(given.get("output") or own)
    if output := _output(run):
        return output
    written, found = PurePath(run.spec_file).parent, suite_folder(Path(run.spec_file))
    folder = written if found == Path(written).resolve() else PurePath(os.path.relpath(found))
    return str(folder / "reports" / run.suite)


def _is_call(run: RunRecord) -> bool:
    return run.command.startswith(CALL)


def _arguments(run: RunRecord) -> Mapping[str, Any]:
    """The arguments of a call beside the mapping; none where it can't be read."""
    try:
        tree = ast.parse(run.command, mode="eval").body
        given = tree.keywords if isinstance(tree, ast.Call) else []
        return {str(one.arg): ast.literal_eval(one.value) for one in given}
    except (SyntaxError, ValueError):
        return {}


def _words(run: RunRecord) -> list[str]:
    """A run's command line in words; none where it can't be read."""
    try:
        return shlex.split(run.command)
    except ValueError:
        return []


def _output(run: RunRecord) -> str:
    """The folder that a run's command line gave for its results; empty where it gave none."""
    found = ""
    for word, following in itertools.pairwise([*_words(run), ""]):
        if word in ("-o", "--output"):
            found = following
        elif word.startswith("--output="):
            found = word.removeprefix("--output=")
    return found
