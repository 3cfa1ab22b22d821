"""A search as one command beside Optuna and beside plain PyTorch, trial after trial: seconds.

    python -P tests/training/compare_searches.py --rounds 3

Ten optimizers of the zoo on one function of two variables: the command with 100 settings as lanes,
Optuna's default sampler with as many trials, and a plain loop over the same 100 settings, all with
the same steps and search spaces, one thread and one seed. Needs pytorch-optimizer, and optuna
beside it (``--optuna PYTHON`` names an interpreter that has both). Printed are medians over rounds
of whole processes (the command with its checks and its page) and of each optimizer's trials, with
the lowest loss found. It is run for a release, and is no test: seconds depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
NAMES = (
    *("SGD", "Adam", "Lion", "AdaBelief", "AdamP"),
    *("LARS", "Prodigy", "SAM", "ScheduleFreeAdamW", "Yogi"),
)
"""Optimizers that share runs op by op, lane by lane, and with own optimizers."""

TRIALS, STEPS = 100, 100


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a search with Optuna and plain loops.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objective", default="levy")
    parser.add_argument("--only", nargs="*", default=list(NAMES), help="optimizers")
    parser.add_argument("--optuna", default=sys.executable, help="a Python that has optuna")
    parser.add_argument("--loop", choices=["optuna", "plain"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    spec = _spec(asked.objective, asked.only)
    if asked.loop:
        print(json.dumps({name: _loop(asked.loop, name, spec) for name in asked.only}))
        return
    sides = {
        "command": lambda: _command(spec),
        "optuna": lambda: _in_process("optuna", asked.optuna, asked),
        "plain": lambda: _in_process("plain", sys.executable, asked),
    }
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for turn in range(asked.rounds):
        for side in reversed(sides) if turn % 2 else sides:
            found[side].append(sides[side]())
    print(f"{asked.objective}: {len(asked.only)} optimizers, {TRIALS} settings of {STEPS} steps")
    print(f"medians of {asked.rounds} rounds; load {os.getloadavg()[0]:.1f}")
    for side, rounds in found.items():
        cpu, wall = (statistics.median(one[key] for one in rounds) for key in ("cpu", "wall"))
        print(f"{side}: {cpu:.1f} s of processor time in all, {wall:.1f} s by the wall")
        for name in asked.only:
            seconds = statistics.median(one["each"][name]["seconds"] for one in rounds)
            print(f"    {name}: {seconds:.2f} s, lowest {rounds[0]['each'][name]['lowest']:.3g}")


def _spec(objective: str, names: list[str]) -> dict[str, Any]:
    from harness.spec import yaml_source

    zoo = ROOT / "specs" / "zoo.yaml"
    spec: dict[str, Any] = yaml_source.parse(zoo.read_bytes(), zoo.name).data
    own = {"suite": "searches", "seeds": 1, "timing": {"enabled": False}}
    own["tuning"] = {"trials": TRIALS, "seeds": 1, "sweep": 0, "defaults": False}
    own["objectives"] = {objective: {**spec["objectives"][objective], "steps": STEPS}}
    return own | {"optimizers": {name: spec["optimizers"][name] for name in names}}


def _timed(command: list[str]) -> tuple[dict[str, Any], str]:
    """Processor and wall seconds of a process and its children, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": wall}, done.stdout


def _in_process(side: str, python: str, asked: argparse.Namespace) -> dict[str, Any]:
    command = [python, "-P", __file__, "--loop", side, "--only", *asked.only]
    seconds, printed = _timed([*command, "--objective", asked.objective])
    return {**seconds, "each": json.loads(printed)}


def _command(spec: dict[str, Any]) -> dict[str, Any]:
    """The command with its page; of each optimizer the seconds of the trials of its search."""
    import yaml

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "searches.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        command = [sys.executable, "-P", "-m", "harness", "run", str(path), "--workers", "1"]
        seconds, _ = _timed([*command, "--quiet", "-o", folder])
        with sqlite3.connect(Path(folder) / "results.sqlite") as store:
            rows = store.execute(
                "SELECT r.optimizer, sum(t.seconds), min(t.final_loss) FROM run_cases r "
                "JOIN trials t ON t.case_id = r.case_id WHERE r.role = 'tuning' "
                "AND t.seed != 0 GROUP BY r.optimizer"
            ).fetchall()
    each = {name: {"seconds": took, "lowest": lowest} for name, took, lowest in rows}
    return {**seconds, "each": each}


def _loop(side: str, name: str, spec: dict[str, Any]) -> dict[str, float]:
    """Trial after trial, each as anybody would write it."""
    import torch

    torch.set_num_threads(1)
    from harness.objectives import functions_2d, rugged_2d
    from harness.seeds import FIRST_TUNING_SEED
    from harness.spec.model import SpaceSpec
    from harness.spec.search_space import draw
    from harness.suite.shipped import SHIPPED_OBJECTIVES

    ((objective, given),) = spec["objectives"].items()
    where, _, kind = SHIPPED_OBJECTIVES[objective].partition(":")
    module = rugged_2d if where.endswith("rugged_2d") else functions_2d
    function = getattr(module, kind)(**given["arguments"])
    entry = spec["optimizers"][name]
    start = function.init(torch.Generator().manual_seed(2 * FIRST_TUNING_SEED))["x"].float()

    def trial(setting: dict[str, Any]) -> float:
        x = start.clone().requires_grad_()
        optimizer = _made(name, entry, [x], setting)
        for _ in range(STEPS):

            def closure() -> torch.Tensor:
                optimizer.zero_grad()
                loss: torch.Tensor = function.loss({"x": x}, None)
                loss.backward()
                return loss

            closure()
            optimizer.step(closure)
        loss = float(function.loss({"x": x}, None))
        return loss if math.isfinite(loss) else 1e30

    if side == "optuna":
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))

        def objective_of(asked: Any) -> float:
            return trial({key: _suggested(asked, key, s) for key, s in entry["search"].items()})

        began = time.process_time()
        study.optimize(objective_of, n_trials=TRIALS)
        lowest = study.best_value
    else:
        spaces = {key: SpaceSpec.model_validate(s) for key, s in entry["search"].items()}
        settings = draw(spaces, TRIALS, 0)
        began = time.process_time()
        lowest = min(map(trial, settings))
    return {"seconds": time.process_time() - began, "lowest": lowest}


def _made(name: str, entry: dict[str, Any], params: list[Any], setting: dict[str, Any]) -> Any:
    import inspect

    import pytorch_optimizer
    import torch

    kind = getattr(pytorch_optimizer, name)
    given = {**entry.get("hyperparameters", {}), **setting}
    base = {key[5:]: given.pop(key) for key in list(given) if key.startswith("base.")}
    if not base:
        return kind(params, **given)
    if "optimizer" in inspect.signature(kind.__init__).parameters:
        return kind(torch.optim.SGD(params, **base), **given)
    return kind(params, torch.optim.SGD, **given, **base)


def _suggested(trial: Any, key: str, space: dict[str, Any]) -> Any:
    """The same space, in Optuna's words."""
    ((kind, value),) = space.items()
    if kind == "log_uniform":
        return trial.suggest_float(key, *value, log=True)
    if kind == "one_minus_log_uniform":
        low, high = value
        return 1 - trial.suggest_float(key, 1 - high, 1 - low, log=True)
    return json.loads(trial.suggest_categorical(key, [json.dumps(one) for one in value]))


if __name__ == "__main__":
    main()
