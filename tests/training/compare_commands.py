"""The whole command beside plain PyTorch loops that record the same numbers: seconds and numbers.

    python -P tests/training/compare_commands.py specs/deeplearning.yaml --seeds 1 5 20

For each objective of the spec with a network and classes, both train it with SGD, AdamW, Muon and
AdamW, and Lion at fixed settings, with warm-up, cosine and clipping, and record loss and accuracy
of every part after each epoch. The command starts with nothing stored and writes its page; it
times no steps, as the loops don't. Each is a process of its own with one thread per operation, and
in each round both take their turn. Printed are medians over rounds, and the largest difference
between any two recorded numbers. It is run for a release, and is no test: seconds depend on the
machine.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

OUTER = ("embedding.weight", "position")
"""Matrices that are tables of vectors, which Muon isn't for."""

KEPT = ("class", "arguments", "dataset", "split", "batch_size", "epochs", "dtype")
"""Keys of an objective that say what is trained."""


@dataclass(frozen=True)
class Side:
    """What one of the two took and recorded.

    Attributes:
        seconds: Wall time.
        cpu: Processor time.
        curves: By optimizer, seed and measure.
        ways: By optimizer, how its trials ran and what they took.
    """

    seconds: float
    cpu: float
    curves: dict[tuple[str, int, str], np.ndarray[Any, Any]]
    ways: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the command with plain loops.")
    parser.add_argument("spec", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="objectives")
    parser.add_argument("--optimizers", nargs="*", default=[])
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.plain:
        _run_plainly(asked.spec, asked.seeds[0], asked.plain)
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, spec in _specs(asked.spec, asked.only, asked.optimizers, Path(folder)):
            for seeds in asked.seeds:
                print(_compared(name, spec, seeds, asked.rounds), flush=True)


def _specs(
    path: Path, only: Sequence[str], optimizers: Sequence[str], folder: Path
) -> Iterator[tuple[str, Path]]:
    """A suite in a folder of its own, with a spec for each objective."""
    from plain_training import PLAIN, RECIPE

    suite = path.resolve().parent
    suite = suite.parent if suite.name == "specs" else suite
    for part in ("optimizers", "objectives", "datasets"):
        if (suite / part).is_dir():
            shutil.copytree(suite / part, folder / part)
    for name, given in yaml.safe_load(path.read_text())["objectives"].items():
        if "accuracy" not in str(given.get("metrics")) or (only and name not in only):
            continue
        objective = {key: given[key] for key in KEPT if key in given}
        objective |= {"record_every": "epoch", "metrics": ["loss", "accuracy"]}
        objective.setdefault("class", name)
        used = {key: PLAIN[key] for key in optimizers or PLAIN}
        spec = {
            "suite": name,
            "recipe": RECIPE,
            "objectives": {name: objective},
            "optimizers": {key: plain.in_spec([]) for key, plain in used.items()},
        }
        if "muon" in used:
            spec["optimizers"]["muon"] = PLAIN["muon"].in_spec(_outer(spec, folder))
        written = folder / f"{name}.yaml"
        written.write_text(yaml.safe_dump(spec, sort_keys=False))
        yield name, written


def _loaded(spec: dict[str, Any], folder: Path) -> Any:
    """The objective of a spec."""
    from builders import make_plan

    from harness.engine.loading import load_objective
    from harness.spec import validation, yaml_source

    plan = make_plan(validation.check(yaml_source.of_mapping(spec, folder)))
    return load_objective(plan.cases[0].objective)[0]


def _outer(spec: dict[str, Any], folder: Path) -> list[str]:
    """The patterns that match something in a network."""
    import torch

    one = {**spec, "optimizers": {"sgd": spec["optimizers"]["muon"] | {"groups": []}}}
    names = [*_loaded(one, folder).init(torch.Generator())]
    return [name for name in OUTER if name in names]


def _compared(name: str, spec: Path, seeds: int, rounds: int) -> str:
    """Both sides, in turns, in a few lines."""
    plain: list[Side] = []
    ours: list[Side] = []
    for turn in range(rounds):
        for side in (plain, ours) if turn % 2 else (ours, plain):
            side.append(_plain(spec, seeds) if side is plain else _command(spec, seeds))
    a, b = (statistics.median(side.seconds for side in sides) for sides in (plain, ours))
    c, d = (statistics.median(side.cpu for side in sides) for sides in (plain, ours))
    loss, accuracy = _differences(plain[0], ours[0])
    ways = "; ".join(f"{key}: {way}" for key, way in ours[0].ways.items())
    return (
        f"{name:14} {seeds:3} seeds  plain {a:7.2f} s  command {b:7.2f} s  {a / b:5.2f} times as "
        f"fast (processor: {c:.2f} s, {d:.2f} s, {c / d:.2f})  largest difference: loss "
        f"{loss:.1e} of itself, accuracy {accuracy:.1e}\n    {ways}"
    )


def _differences(plain: Side, ours: Side) -> tuple[float, float]:
    assert plain.curves.keys() == ours.curves.keys()
    loss = accuracy = 0.0
    for (optimizer, seed, measure), values in plain.curves.items():
        found = ours.curves[optimizer, seed, measure]
        assert found.shape == values.shape, (optimizer, seed, measure)
        off = np.abs(found - values)
        if measure.endswith("loss"):
            loss = max(loss, float((off / np.abs(values)).max()))
        else:
            accuracy = max(accuracy, float(off.max()))
    return loss, accuracy


def _timed(command: list[str]) -> tuple[float, float, str]:
    """Wall and processor time of a process, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, done.stdout


def _command(spec: Path, seeds: int) -> Side:
    import harness

    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-P", "-m", "harness", "run", str(spec)]
        options = ["--seeds", str(seeds), "--no-timing", "--fresh", "--quiet", "-o", output]
        seconds, cpu, _ = _timed([*command, *options])
        report = harness.read(output)
        curves = {
            (case.optimizer, int(seed), measure): values
            for case in report.results.cases
            for measure, of_seeds in case.curves.items()
            for seed, values in zip(case.seeds, of_seeds, strict=True)
        }
        ways = {
            str(name): f"{'/'.join(sorted(set(own['way'])))} {own['seconds'].sum():.2f} s"
            for name, own in report.trials.groupby("optimizer", sort=False)
        }
        return Side(seconds, cpu, curves, ways)


def _plain(spec: Path, seeds: int) -> Side:
    with tempfile.TemporaryDirectory() as output:
        numbers = Path(output) / "curves.npz"
        command = [sys.executable, "-P", __file__, str(spec), "--seeds", str(seeds)]
        seconds, cpu, printed = _timed([*command, "--plain", str(numbers)])
        unlike_a_loop = json.loads(printed)
        stored = np.load(numbers)
        curves = {}
        for key in stored.files:
            optimizer, seed, measure = key.split(":")
            curves[optimizer, int(seed), measure] = stored[key]
        wall, processor = unlike_a_loop["seconds"], unlike_a_loop["cpu"]
        return Side(seconds - wall, cpu - processor, curves, {})


def _made(name: str, outer: Sequence[str], model: nn.Module) -> list[Optimizer]:
    from plain_training import PLAIN

    return PLAIN[name].make(model, outer)


def _run_plainly(path: Path, seeds: int, output: Path) -> None:
    """The plain loops, one after the other; prints what reading the spec took."""
    import torch

    began = time.perf_counter(), time.process_time()
    from plain_training import train_plainly

    spec = yaml.safe_load(path.read_text())
    objective = _loaded(spec, path.parent)
    (given,) = spec["objectives"].values()
    outer = [
        pattern
        for group in spec["optimizers"].get("muon", {}).get("groups", [])
        for pattern in group.get("parameters", {}).get("not", [])
    ]
    took = {"seconds": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name in spec["optimizers"]:
        make = functools.partial(_made, name, outer)
        for seed in range(seeds):
            size = {"epochs": given["epochs"], "batch_size": given["batch_size"]}
            for measure, values in train_plainly(objective, make, seed, **size).items():
                found[f"{name}:{seed}:{measure}"] = values
    np.savez(output, **found)
    print(json.dumps(took))


if __name__ == "__main__":
    main()
