"""A check as the JSON of pytest-benchmark, for ``pytest-benchmark compare`` and other readers."""

from __future__ import annotations

import json
import math
from typing import Any

from harness.errors import printable
from harness.gate.outputs import wording
from harness.gate.report import Blocks, CellVerdict, GateReport


def render(report: GateReport) -> str:
    """A benchmark for each cell, a round for each block of the first process.

    An iteration is a step. Cells that were not measured are left out.
    """
    import pytest_benchmark

    benchmarks = [
        _benchmark(report, cell, blocks) for cell in report.cells if (blocks := _first(cell))
    ]
    data = {
        "machine_info": _machine_info(report),
        "commit_info": {
            "id": printable(report.git.partition(" ")[0]) or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": report.git.endswith("+ changes"),
            "project": printable(report.suite),
            "branch": "(unknown)",
        },
        "benchmarks": benchmarks,
        "datetime": report.taken,
        "version": pytest_benchmark.__version__,
    }
    return json.dumps(data, indent=4, allow_nan=False) + "\n"


def _first(cell: CellVerdict) -> Blocks | None:
    """The blocks that the first process measured of a cell as it is now, if they are of use."""
    for blocks in cell.blocks:
        if blocks.process == 0 and blocks.side == "now":
            usable = blocks.cell and blocks.steps > 0 and all(map(math.isfinite, blocks.cell))
            return blocks if usable else None
    return None


def _benchmark(report: GateReport, cell: CellVerdict, blocks: Blocks) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    name = printable(cell.id)
    names = ("objective", "optimizer", "setting", "device")
    stats = Stats()
    for seconds in blocks.cell:
        stats.update(seconds / blocks.steps)
    return {
        "group": printable(f"{cell.objective}/{cell.device}"),
        "name": name,
        "fullname": f"{printable(report.suite)}::{name}",
        "params": {key: printable(getattr(cell, key)) for key in names},
        "param": printable(cell.setting) or None,
        "extra_info": {
            "ratio_to_reference_loop": blocks.ratio if math.isfinite(blocks.ratio) else None,
            "clock": blocks.clock,
            "steps_per_epoch": cell.steps_per_epoch,
            "outcome": wording.outcome(cell),
        },
        "options": {"timer": blocks.clock, "min_rounds": len(stats.data)},
        "stats": {**stats.as_dict(), "data": stats.data, "iterations": blocks.steps},
    }


def _machine_info(report: GateReport) -> dict[str, Any]:
    machine = {printable(key): printable(value) for key, value in report.machine.items()}
    implementation, _, version = machine.get("python", "").partition(" ")
    system, *release = machine.get("system", "").split() or [""]
    kind = release.pop() if release else ""
    cores = machine.get("cores", "")
    count = int(cores) if cores.isdecimal() else 0
    return {
        **machine,
        "machine_key": printable(report.machine_key),
        "node": "",
        "processor": kind,
        "machine": kind,
        "python_compiler": "",
        "python_implementation": implementation,
        "python_implementation_version": version,
        "python_version": version,
        "python_build": [],
        "release": " ".join(release),
        "system": system,
        "cpu": {"brand_raw": machine.get("cpu", ""), "arch": kind, "count": count},
    }
