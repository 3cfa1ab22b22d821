"""Survey: other people's optimizers through the harness, held against plain loops of PyTorch.

    PYTHONPATH=CHECKOUT python -P tests/engine/survey_optimizers.py --output FOLDER

Needs those of ``PACKAGES`` that are to be surveyed beside the harness, which is the one that Python
finds: installed, or of a checkout on ``PYTHONPATH``. Not a test: the project depends on none of
these packages. Every optimizer that runs by itself is run on three small problems, by plain loops
for a few seeds and by the harness with 3, 24 and 200 seeds (what has runs of its own with 24 as
well is not run with more). ``table.csv`` has a row for each optimizer, problem and number of seeds:
how its trials went, how far their recorded losses are from the plain loops', and as a yardstick how
far plain loops are from each other when start and gradients are changed by one rounding. A
difference far above that is a wrong result. Plain loops are kept in ``plain.jsonl``, so the same
folder serves for another checkout, whose trials alone are then run; delete it where this script,
its suite or a package has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import functools
import importlib
import inspect
import json
import multiprocessing
import os
import random
import runpy
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import harness
from harness.commands import run as running
from harness.objectives.base import Objective
from harness.objectives.linear_regression import LinearRegression

SUITE = Path(__file__).resolve().with_name("survey_suite")

CONTROLS = ("ClippedByNorm", "NormLate", "BySize", "ByDimensions", "ByLoss", "Counting")
"""The suite's own, each of which mixes lanes in a way that an engine may fail to notice."""

FACTORIES = ("sam", "lookahead", "muon")
"""Functions of the suite that make optimizers which need more than a list of parameters."""

PACKAGES = (
    *("torch.optim", "pytorch_optimizer", "schedulefree", "timm.optim", "prodigyopt"),
    *("bitsandbytes.optim", "heavyball", "torch_optimizer", "lion_pytorch"),
)

ARGUMENTS: tuple[dict[str, Any], ...] = (
    *({}, {"lr": 0.01}, {"lr": 0.01, "momentum": 0.9}, {"num_data": 1500}),
    {"num_iterations": 40},
)
"""What constructors are tried with, in this order; the first that works is taken."""

LANES = (3, 24, 200)
"""Numbers of seeds."""

SEEDS = (0, 1, 2, 23, 199)
"""The seeds of the plain loops: the first, and the last of each number of seeds."""

NUDGED = SEEDS[:2]
"""Those that the yardstick is taken from."""

FAR, CLOSE = 30.0, 1e-5
"""Wrong: more yardsticks than ``FAR`` away, and relatively more than ``CLOSE``."""

UNCLEAR = 0.03
"""A yardstick (relative) from which on nothing can be told: a rounding decides where it ends."""

SECONDS, PLAIN_SECONDS = 60.0, 300.0
"""What one trial may take in the harness, and all plain loops of one optimizer."""

NOT_A_WAY = frozenset(
    (
        *("position", "objective", "optimizer", "setting", "label", "device"),
        *("seed", "status", "step", "reason", "seconds", "final_loss"),
    )
)
"""Columns of trials that don't say which way they went; the others do, and go into the table."""

Curve = list[float]
"""Losses over all data, at the recorded steps."""

Place = tuple[str, str]
"""Names of an optimizer and a problem."""


@dataclass(frozen=True)
class Problem:
    """One problem, as the spec names it and as the plain loop runs it."""

    name: str
    dataset: str
    objective: Objective
    batch_size: int
    steps: int
    every: int = 8

    @property
    def records(self) -> tuple[int, ...]:
        """The steps after which the loss over all data is recorded."""
        return (*range(0, self.steps, self.every), self.steps)


@dataclass(frozen=True)
class Candidate:
    """One optimizer, what it is constructed with, and whether gradients need graphs."""

    name: str
    reference: str
    factory: Callable[..., torch.optim.Optimizer]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    create_graph: bool = False


@functools.cache
def problems() -> tuple[Problem, ...]:
    """What is minimised."""
    data = runpy.run_path(str(SUITE / "datasets" / "airfoil.py"))
    networks = runpy.run_path(str(SUITE / "objectives" / "networks.py"))
    few = data["few"]()
    return (
        Problem("linear_regression", "airfoil", LinearRegression(data["airfoil"]()), 10, 48),
        Problem("Perceptron", "few", networks["Perceptron"](few), 16, 32),
        Problem("Transformer", "few", networks["Transformer"](few), 16, 24),
    )


def candidates() -> Iterator[Candidate]:
    """Every optimizer there is, whether it runs or not."""
    own = runpy.run_path(str(SUITE / "optimizers" / "controls.py"))
    for name in CONTROLS + FACTORIES:
        yield Candidate(f"own-{name}", name, own[name])
    for package in PACKAGES:
        try:
            module = importlib.import_module(package)
        except ImportError as error:
            print(f"{package} is left out: {error}", file=sys.stderr)
            continue
        for name, value in vars(module).items():
            is_class = inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
            if not is_class or value is torch.optim.Optimizer:
                continue
            if package == "torch.optim" or not value.__module__.startswith("torch."):
                short = package.removesuffix(".optim")
                yield Candidate(f"{short}-{name}", f"{package}:{name}", value)


def plain_loop(candidate: Candidate, problem: Problem, seed: int, nudge: int = 0) -> Curve:
    """A trial as anybody would write it.

    Args:
        candidate: The optimizer.
        problem: What it minimises.
        seed: Of the trial.
        nudge: If not 0, start and gradients are changed by one rounding; which way, it decides.

    Returns:
        The loss over all data at the recorded steps.
    """
    torch.manual_seed(2**31 + seed)  # as docs/methods.md has it
    np.random.seed(3 * 2**30 + seed)
    random.seed(f"trial {seed}")
    roundings = torch.Generator().manual_seed(nudge)

    def rounded(value: torch.Tensor) -> torch.Tensor:
        up = torch.randint(2, value.shape, generator=roundings) * 2 - 1
        return value * (1 + up * torch.finfo(value.dtype).eps) if nudge else value

    assert problem.objective.data is not None
    data = [t.float() if t.is_floating_point() else t for t in problem.objective.data]
    drawn = problem.objective.init(torch.Generator().manual_seed(2 * seed))
    params = {name: rounded(value.float()).requires_grad_() for name, value in drawn.items()}
    optimizer: Any = candidate.factory(list(params.values()), **candidate.arguments)
    order = torch.Generator().manual_seed(2 * seed + 1)
    losses: list[float] = []

    def record() -> None:
        # Before its first step an optimizer has nothing of its own to evaluate at; SPlus raises.
        if losses and callable(getattr(optimizer, "eval", None)):
            optimizer.eval()
        with torch.no_grad():
            losses.append(float(problem.objective.evaluate(params, data)))
        if callable(getattr(optimizer, "train", None)):
            optimizer.train()

    record()
    rows = torch.empty(0, dtype=torch.int64)
    for step in range(1, problem.steps + 1):
        if not len(rows):
            rows = torch.randperm(len(data[0]), generator=order)
        batch = tuple(t[rows[: problem.batch_size]] for t in data)
        rows = rows[problem.batch_size :]

        def closure(batch: tuple[torch.Tensor, ...] = batch) -> torch.Tensor:
            for value in params.values():
                value.grad = None
            with torch.enable_grad():
                loss = problem.objective.loss(params, batch)
                loss.backward(create_graph=candidate.create_graph)
            for value in params.values() if nudge else ():
                if value.grad is not None and not candidate.create_graph:
                    value.grad = rounded(value.grad)
            return loss.detach()

        closure()
        optimizer.step(closure)
        if step in problem.records:
            record()
    return losses


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own, which begins with this one's state.

    Raises:
        RuntimeError: If the function raises, or is not done after ``PLAIN_SECONDS``.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def work() -> None:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            try:
                there.send((function(*arguments), ""))
            except Exception as error:
                there.send((None, f"{type(error).__name__}: {error}".splitlines()[0][:160]))

    process = context.Process(target=work)
    process.start()
    there.close()
    try:
        there_is = here.poll(PLAIN_SECONDS)
        value, reason = here.recv() if there_is else (None, f"takes over {PLAIN_SECONDS:g} s")
    except EOFError:
        value, reason = None, "its process died"
    process.kill()
    process.join()
    if reason:
        raise RuntimeError(reason)
    return value


def runnable(candidate: Candidate, problem: Problem) -> tuple[dict[str, Any], bool]:
    """The arguments with which an optimizer runs, and whether it needs graphs of gradients.

    Raises:
        RuntimeError: If there are none.
    """
    reasons: dict[str, None] = {}
    for create_graph in (False, True):
        for arguments in ARGUMENTS:
            made = replace(candidate, arguments=arguments, create_graph=create_graph)
            try:
                plain_loop(made, problem, 0)
            except Exception as error:
                reasons[f"{type(error).__name__}: {error}".splitlines()[0]] = None
            else:
                return arguments, create_graph
    raise RuntimeError(" | ".join(reasons))


def plain_trials(candidate: Candidate) -> list[dict[str, Any]]:
    """Run an optimizer's plain loops in this process, on all problems.

    Returns:
        For each problem a line of JSON: what the optimizer needs, its curves by seed and those
        with other roundings; or the reason why it doesn't run. ``again`` is the first curve once
        more, which differs where a loop changes those that follow.
    """
    lines = []
    for problem in problems():
        line: dict[str, Any] = {"optimizer": candidate.name, "problem": problem.name}
        try:
            line["arguments"], line["create_graph"] = needs = runnable(candidate, problem)
            made = replace(candidate, arguments=needs[0], create_graph=needs[1])
            line["curves"] = {seed: plain_loop(made, problem, seed) for seed in SEEDS}
            line["nudged"] = {seed: plain_loop(made, problem, seed, 1) for seed in NUDGED}
            line["again"] = plain_loop(made, problem, SEEDS[0])
        except Exception as error:
            line["reason"] = str(error)
        lines.append(line)
    return lines


def by_themselves(candidate: Candidate, line: dict[str, Any]) -> None:
    """Run plain loops anew, each in a process of its own, if one changes those that follow."""
    if "reason" in line or np.array_equal(line["again"], line["curves"][SEEDS[0]], equal_nan=True):
        return
    problem = next(problem for problem in problems() if problem.name == line["problem"])
    made = replace(candidate, arguments=line["arguments"], create_graph=line["create_graph"])
    line["curves"] = {seed: forked(plain_loop, made, problem, seed) for seed in SEEDS}
    line["nudged"] = {seed: forked(plain_loop, made, problem, seed, 1) for seed in NUDGED}


def plain_loops(file: Path, wanted: Sequence[Candidate]) -> dict[Place, dict[str, Any]]:
    """The plain loops of some optimizers, by optimizer and problem.

    Args:
        file: Has what is known of them, in lines of JSON; what isn't is added.
        wanted: The optimizers.
    """
    lines = file.read_text().splitlines() if file.exists() else []
    known = {(line["optimizer"], line["problem"]): line for line in map(json.loads, lines)}
    for candidate in wanted:
        if any((candidate.name, problem.name) not in known for problem in problems()):
            try:
                found = forked(plain_trials, candidate)
                for line in found:
                    by_themselves(candidate, line)
            except RuntimeError as error:
                where = [{"optimizer": candidate.name, "problem": p.name} for p in problems()]
                found = [{**place, "reason": str(error)} for place in where]
            with file.open("a") as log:
                for line in map(json.dumps, found):
                    print(line, file=log)
                    known[candidate.name, json.loads(line)["problem"]] = json.loads(line)
    names = {candidate.name for candidate in wanted}
    return {place: line for place, line in known.items() if place[0] in names}


def through_the_harness(
    wanted: Sequence[Candidate],
    ran: Mapping[Place, dict[str, Any]],
    seeds: int,
    output: Path,
) -> harness.Report:
    """Run the trials of some optimizers and problems with so many seeds."""
    takes_graphs = "create_graph" in json.dumps(harness.schema())
    needs = {name: line for (name, _), line in ran.items()}
    spec = {
        "suite": "survey",
        "seeds": seeds,
        "timing": {"enabled": False},
        "limits": {"seconds": SECONDS},
        "objectives": {
            problem.name: {
                "dataset": problem.dataset,
                "batch_size": problem.batch_size,
                "steps": problem.steps,
                "record_every": problem.every,
                "dtype": "float32",
            }
            for problem in problems()
        },
        "optimizers": {
            one.name: {
                "class": one.reference,
                "hyperparameters": needs[one.name]["arguments"],
                **(
                    {"create_graph": True}
                    if takes_graphs and needs[one.name]["create_graph"]
                    else {}
                ),
            }
            for one in wanted
            if one.name in needs
        },
        "include": [{"optimizer": name, "objective": problem} for name, problem in ran],
    }
    shutil.rmtree(output, ignore_errors=True)
    harness.run(spec, folder=SUITE, output=output, workers=1, progress=False)
    return harness.read(output)


def farthest(curve: Curve, plain_curve: Curve, *, diverged: bool = False) -> float:
    """The largest relative difference of two trials' losses; infinite where only one diverged.

    Args:
        curve: Of a trial that may have been cut short where it diverged.
        plain_curve: Of a plain loop, which goes on to its end.
        diverged: Whether the former was.
    """
    ours, theirs = np.asarray(curve), np.asarray(plain_curve)
    if diverged:
        beyond = ~np.isfinite(theirs) | (theirs > 100 * theirs[0])
        if not beyond.any():
            return float("inf")
        ours, theirs = ours[: beyond.argmax()], theirs[: beyond.argmax()]
    if len(ours) != len(theirs):
        return float("inf")
    with np.errstate(all="ignore"):
        apart = np.abs(ours - theirs) / np.abs(theirs)
    apart[(ours == theirs) | (np.isnan(ours) & np.isnan(theirs))] = 0.0
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))


def verdict(difference: float, yardstick: float) -> str:
    """What a difference is, given how far roundings take a plain loop."""
    if difference <= CLOSE:
        return "same"
    if yardstick > UNCLEAR:
        return "can't be told"
    return "same" if difference <= FAR * yardstick else "WRONG"


def rows_of(
    report: harness.Report, lanes: int, plain_of: Mapping[Place, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """A row of the table for every optimizer and problem of a run."""
    trials, losses = report.trials, report.curves
    compared = losses[losses["seed"].isin(SEEDS)]
    by = ["optimizer", "objective", "seed"]
    curve_of = {at: list(some["loss"]) for at, some in compared.groupby(by)}
    ways = [name for name in trials.columns if name not in NOT_A_WAY]
    for (optimizer, problem), some in trials.groupby(by[:2], sort=False):
        status_of = some.set_index("seed")["status"]
        plain = plain_of[str(optimizer), str(problem)]
        curves, nudged = plain["curves"], plain["nudged"]
        yardstick = max(farthest(nudged[seed], curves[seed]) for seed in nudged)
        differences = [
            farthest(
                curve_of.get((optimizer, problem, int(seed)), []),
                curve,
                diverged=status_of[int(seed)] == "diverged",
            )
            for seed, curve in curves.items()
            if status_of.get(int(seed)) in ("ok", "diverged")
        ]
        difference = max(differences, default=float("nan"))
        failed = some[~some["status"].isin(["ok", "diverged"])]
        yield {
            "optimizer": optimizer,
            "problem": problem,
            "lanes": lanes,
            **{name: ", ".join(some[name].dropna().astype(str).unique()) for name in ways},
            "verdict": verdict(difference, yardstick) if differences else "no result",
            "difference": difference,
            "yardstick": yardstick,
            "seconds": some["seconds"].sum(),
            "diverged": int((some["status"] == "diverged").sum()),
            "failed": len(failed),
            "why failed": failed["reason"].iloc[0] if len(failed) else "",
        }


def check_of_itself() -> None:
    """See that a trial whose gradients are clipped as those of 200 lanes would be is wrong."""
    cls = runpy.run_path(str(SUITE / "optimizers" / "controls.py"))["ClippedByNorm"]
    for problem in problems():
        right, mixed = (Candidate("", "", cls, {"limit": limit}) for limit in (2, 2 / 200**0.5))
        curve = plain_loop(right, problem, 0)
        yardstick = farthest(plain_loop(right, problem, 0, 1), curve)
        if verdict(farthest(plain_loop(mixed, problem, 0), curve), yardstick) != "WRONG":
            raise RuntimeError(f"on {problem.name}, wrong results aren't found wrong")


def main() -> None:
    """Run the survey, write ``table.csv`` and print what it comes to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder that is the survey's")
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns such as 'timm-*'")
    parser.add_argument("--all", action="store_true", help="most seeds for runs of their own too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    # Compiling would take longer than all of this.
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    # So would a page of all these optimizers.
    running.write_report = lambda *_: None
    forked(check_of_itself)
    folder: Path = options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [c for c in candidates() if any(fnmatch.fnmatch(c.name, p) for p in options.only)]
    began = time.monotonic()
    plain_of = plain_loops(folder / "plain.jsonl", wanted)
    print(f"plain loops of {len(wanted)} optimizers: {time.monotonic() - began:.0f} s", flush=True)
    for place, line in plain_of.items():
        if "reason" in line:
            print(f"{' on '.join(place)} doesn't run: {line['reason'][:120]}")
    rows: list[dict[str, Any]] = []
    which = [place for place, line in plain_of.items() if "reason" not in line]
    for lanes in LANES:
        began = time.monotonic()
        ran = {place: plain_of[place] for place in which}
        report = through_the_harness(wanted, ran, lanes, folder / f"lanes-{lanes}")
        found = list(rows_of(report, lanes, plain_of))
        rows += found
        pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
        print(f"the harness, {lanes} seeds: {time.monotonic() - began:.0f} s", flush=True)
        if lanes > LANES[0] and not options.all:
            which = [(r["optimizer"], r["problem"]) for r in found if r.get("way") != "alone"]
            if not which:
                break
    table = pd.DataFrame(rows)
    print(table.groupby(["problem", "lanes", "way", "verdict"]).size().to_string())
    for kind in ("WRONG", "can't be told", "no result"):
        some = table[table["verdict"] == kind].drop(columns="seconds")
        print(f"\n{kind}: {len(some)}")
        if len(some):
            print(some.to_string(index=False, max_colwidth=90))


if __name__ == "__main__":
    main()
