"""Commands that a report tells its reader to run: the run again, a part of it, one trial."""

from __future__ import annotations

import glob
import itertools
import json
import shlex
from collections.abc import Iterator
from pathlib import PurePath

from harness.frames import CaseData, Results
from harness.store import RunRecord

PROGRAM = ("python", "-m", "harness")

REPEATS = "repeat"
"""Folder below a run's results for what repeats its trials, so that these stay as they are."""


def again(results: Results) -> dict[str, str]:
    """Commands to run and to report again."""
    run = results.run
    first = results.optimizers[0] if results.cases else "*"
    return {
        "run": run.command if run.spec_file in _words(run) else _joined("run", run.spec_file),
        "report": _joined("report", _output(run) or run.spec_file),
        "seeds": _joined("run", run.spec_file, "--seeds", "100"),
        "only": _joined("run", run.spec_file, "--only", f"optimizer={first}"),
        "dry": _joined("run", run.spec_file, "--dry-run"),
    }


def repeat(run: RunRecord, case: CaseData, seed: int) -> str:
    """The command that runs one trial of a run once more, on its own and somewhere else.

    A setting that tuning found is given as it is, so that nothing is tuned for it.
    """
    output = _output(run)
    folder = PurePath(output) if output else PurePath(run.spec_file).parent / "reports" / run.suite
    return _joined(
        *("run", run.spec_file),
        *("--only", f"optimizer={glob.escape(case.optimizer)}"),
        *("--only", f"objective={glob.escape(case.objective)}"),
        *_setting(run, case),
        *("--devices", case.device, "--seed", str(seed)),
        *("--no-timing", "--fresh", "--output", str(folder / REPEATS)),
    )


def _setting(run: RunRecord, case: CaseData) -> Iterator[str]:
    """What picks a case's setting among those of its optimizer."""
    if case.role == "tuned":
        searched = run.settings.get("searches", {}).get(case.optimizer, ())
        for name in (name for name in searched if name in case.hyperparameters):
            yield from ("--set", f"{name}={json.dumps(case.hyperparameters[name])}")
    elif case.setting:
        yield from ("--only", f"setting={glob.escape(case.setting)}")


def _joined(*words: str) -> str:
    return shlex.join([*PROGRAM, *words])


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
