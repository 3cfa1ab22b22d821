"""Seconds to a target: evaluations that were counted, at the seconds that one was timed to take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from builders import Call, make_plan, make_workload
from results_builders import make_blocks, make_case, make_objective, make_results, make_trials

from harness.analysis.comparison import groups, mean_losses
from harness.analysis.targets import Reached, reached
from harness.engine.lanes import Lane
from harness.engine.loading import load_objective
from harness.engine.training_loop import train
from harness.engine.workload import Workload, describe, prepare
from harness.objectives.rosenbrock import Rosenbrock
from harness.reporting.figures import trials as trial_figures
from harness.reporting.page import charts
from harness.reporting.tables import comparison as comparison_tables
from harness.results import Description, Timing, TrialResult, Way
from harness.spec.validation import load
from harness.store import read
from harness.store.database import Store
from harness.store.read import Results
from harness.store.records import RunSettings
from harness.timing.timed_case import TimedCase
from harness.timing.timing import Runner

INF, NAN = math.inf, math.nan
LBFGS: dict[str, Any] = {"lr": 1, "max_iter": 20, "line_search_fn": "strong_wolfe"}
SPREAD = 0.2


def rosenbrock(steps: int, every: int = 1) -> Workload:
    return make_workload(
        Rosenbrock(dimension=2, start_spread=SPREAD),
        steps=steps,
        record_steps=(*range(0, steps, every), steps),
    )


def by_hand(seed: int, steps: int) -> tuple[list[int], list[float]]:
    """Evaluations after each step of LBFGS in a plain loop, and the losses there."""
    objective = Rosenbrock(dimension=2, start_spread=SPREAD)
    start = objective.init(torch.Generator().manual_seed(2 * seed))
    params = {k: v.double().clone().requires_grad_() for k, v in start.items()}
    optimizer = torch.optim.LBFGS(list(params.values()), **LBFGS)
    counts = [0]

    def closure() -> torch.Tensor:
        counts[-1] += 1
        optimizer.zero_grad()
        loss = objective.loss(params, None)
        loss.backward()
        return loss

    losses = [float(objective.loss(params, None).detach())]
    for _ in range(steps):
        counts.append(counts[-1])
        optimizer.step(closure)
        losses.append(float(objective.loss(params, None).detach()))
    return counts, losses


class LooksAhead(torch.optim.SGD):
    """Steps by the gradient found a little further on: two evaluations a step."""

    def step(self, closure: Any = None) -> Any:
        params = self.param_groups[0]["params"]
        grads = [p.grad.clone() for p in params]
        with torch.no_grad():
            for p, g in zip(params, grads, strict=True):
                p.sub_(1e-4 * g)
        with torch.enable_grad():
            loss = closure()
        with torch.no_grad():
            for p, g in zip(params, grads, strict=True):
                p.add_(1e-4 * g)
        super().step()
        return loss


@pytest.mark.parametrize("seed", [0, 3])
def test_evaluations_of_lbfgs_are_those_of_a_plain_loop(seed: int) -> None:
    expected, losses = by_hand(seed, 8)
    assert expected[1] > 20  # one step that a count of steps would take for one evaluation
    found = train(rosenbrock(8), torch.optim.LBFGS, [LBFGS], [Lane(0, seed)], way="alone")
    assert found.evaluations.tolist() == expected
    np.testing.assert_allclose(found.losses[0], losses, rtol=1e-12, atol=1e-25)


@pytest.mark.parametrize("way", ["alone", "pointwise", "vmapped"])
@pytest.mark.parametrize(("factory", "each"), [(torch.optim.SGD, 1), (LooksAhead, 2)])
def test_a_shared_run_counts_what_each_of_its_trials_would(
    way: Way, factory: Any, each: int
) -> None:
    lanes = [Lane(0, seed) for seed in range(1 if way == "alone" else 3)]
    found = train(rosenbrock(6, 2), factory, [{"lr": 1e-4}], lanes, way=way)
    assert found.evaluations.tolist() == [each * step for step in range(7)]


# ---- by hand, from results


RECORDS = np.array([0, 10, 20, 40])
CURVES = {0: [4.0, 1, 1, 1], 1: [4.0, 4, 0.5, 0.5], 2: [4.0, 4, 4, 4]}
COUNTS = {0: [0.0, 100, 110, 130], 1: [0.0, 80, 150, 170], 2: [0.0, 60, 90, 130]}


def counted_results(
    counts: dict[int, list[float]] | None = COUNTS,
    in_all: dict[int, float] | None = None,
    blocks: tuple[tuple[float, float], ...] = ((2.0, 100), (9.0, 100), (3.0, 100)),
) -> Results:
    """Optimizer a on the bowl; blocks of 50 steps as seconds and evaluations."""
    seeds = sorted(CURVES)
    evaluations = None if counts is None else np.array([counts[seed] for seed in seeds])
    case = make_case(curves=CURVES, evaluations=evaluations)
    known = {seed: values[-1] for seed, values in (counts or {}).items()} | (in_all or {})
    results = make_results(
        [case],
        make_trials([case], step=40, evaluations=[known.get(seed, 40.0) for seed in seeds]),
        objectives={"bowl": make_objective(steps=40, record_steps=RECORDS, optimum=0.0)},
        blocks=make_blocks(0, [seconds for seconds, _ in blocks], steps=50),
        targets={"bowl": {"given": [{"value": 1.0}, {"value": 0.5}]}},
    )
    results.timings["evaluations"] = [float(count) for _, count in blocks]
    return results


def only(results: Results) -> Reached:
    [field] = groups(results)
    found = reached(results, field)
    assert found is not None
    return found


def test_seconds_are_the_evaluations_so_far_at_the_median_time_of_one() -> None:
    found = only(counted_results())
    assert found.evaluation_seconds.tolist() == pytest.approx([0.03])  # of 0.02, 0.09 and 0.03
    assert found.evaluations.tolist() == [[[100, 150, INF]], [[INF, 150, INF]]]
    assert found.seconds is not None
    np.testing.assert_allclose(found.seconds, [[[3, 4.5, INF]], [[INF, 4.5, INF]]])
    # A miss costs all that it took: (100 + 150 + 130) / 2 and (130 + 150 + 130) / 1.
    assert found.expected_evaluations().tolist() == [[190.0], [410.0]]
    assert found.expected_steps().tolist() == [[35.0], [100.0]]
    table = comparison_tables.reached([found])
    assert table is not None
    np.testing.assert_allclose(table.frame["ert_seconds"], [0.03 * 190, 0.03 * 410])
    assert table.shown["ERT (evaluations)"].tolist() == ["190", "410"]


def test_where_each_step_evaluates_once_steps_and_their_times_say_it_all() -> None:
    found = only(counted_results(None, blocks=((2.0, NAN), (9.0, NAN), (3.0, NAN))))
    assert found.evaluation_seconds.tolist() == pytest.approx([0.06])
    assert found.evaluations.tolist() == found.steps.tolist()
    table = comparison_tables.reached([found])
    assert table is not None
    np.testing.assert_allclose(table.frame["ert_seconds"], 0.06 * table.frame["ert_steps"])
    assert "ERT (evaluations)" not in table.shown


@pytest.mark.parametrize("what", ["evaluations of a trial that hits", "of blocks", "of a miss"])
def test_seconds_are_not_told_where_evaluations_are_not_known(what: str) -> None:
    if what == "of blocks":
        found = only(counted_results(blocks=((2.0, NAN), (3.0, NAN))))
    elif what == "of a miss":
        found = only(counted_results(in_all={2: NAN}))
        assert found.seconds is not None  # a miss has none
    else:
        found = only(counted_results({**COUNTS, 0: [NAN] * 4}))
    seconds = found.expected_evaluations() * found.evaluation_seconds
    assert np.isnan(seconds[0]).all()
    if what != "of a miss":
        assert found.seconds is None
    assert found.expected_steps().tolist() == [[35.0], [100.0]]


# ---- kept


SPEC = """
suite: s
seeds: 2
timing: {seconds: 1, rounds: 3, warmup_rounds: 1, block_steps: 4}
objectives:
  rosenbrock: {arguments: {dimension: 2, start_spread: 0.2}, steps: 6, dtype: float64}
optimizers:
  adam: {class: "torch.optim:Adam", hyperparameters: {lr: 0.3}}
  lbfgs:
    class: "torch.optim:LBFGS"
    hyperparameters: {lr: 1, max_iter: 20, line_search_fn: strong_wolfe}
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, command: Call) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    (folder / "spec.yaml").write_text(SPEC)
    done = command("run", "spec.yaml", "--output", "o", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_what_was_counted_and_timed_is_stored_and_makes_the_table(ran: Path) -> None:
    results = read.read(ran / "o" / "results.sqlite")
    adam, lbfgs = results.cases
    assert adam.evaluations is None
    expected = np.array([by_hand(seed, 6)[0] for seed in (0, 1)], dtype=float)
    np.testing.assert_array_equal(lbfgs.evaluations, expected)
    own = results.trials.set_index(["optimizer", "seed"])["evaluations"]
    assert own["adam"].tolist() == [6, 6]
    assert own["lbfgs"].tolist() == expected[:, -1].tolist()
    timed = results.timings
    assert (timed.loc[timed["position"] == 0, "evaluations"] == 4).all()
    blocks = timed[timed["position"] == 1]
    # The first step is off the clock; seed 0 is timed.
    assert set(blocks["evaluations"]) == {expected[0, 5] - expected[0, 1]}
    one = float(np.median(blocks["seconds"] / blocks["evaluations"]))
    table = pd.read_csv(ran / "o" / "tables" / "targets.csv")
    rows = table[table["optimizer"] == "lbfgs"]
    assert len(rows) == 3
    for share, row in zip((0.1, 0.01, 0.001), rows.to_dict("records"), strict=True):
        hits = []
        for seed in (0, 1):
            counts, losses = by_hand(seed, 6)
            first = next(i for i, loss in enumerate(losses) if loss <= share * losses[0])
            hits.append(counts[first])
        assert row["ert_evaluations"] == np.mean(hits)
        assert row["ert_seconds"] == pytest.approx(one * np.mean(hits))


def test_curves_along_seconds_follow_the_evaluations(ran: Path) -> None:
    results = read.read(ran / "o" / "results.sqlite")
    [_, lbfgs] = results.cases
    blocks = results.timings[results.timings["position"] == 1]
    one = float(np.median(blocks["seconds"] / blocks["evaluations"]))
    figures = {f.name: f for f in trial_figures.build(results, mean_losses(results))}
    figure = figures["loss_rosenbrock"]
    said = charts.plain(figure)
    assert said is not None
    panel = said["panels"][0]
    mean = next(line for line in panel["lines"] if line["label"].startswith("lbfgs"))
    assert lbfgs.evaluations is not None
    np.testing.assert_allclose(mean["seconds"], one * lbfgs.evaluations.mean(axis=0), rtol=1e-4)
    own = next(line for line in panel["seedLines"] if line["label"] == "lbfgs")
    expected = one * lbfgs.evaluations[own["seed"]]
    np.testing.assert_allclose(own["seconds"], expected, rtol=1e-4)
    adam = next(line for line in panel["lines"] if line["label"].startswith("adam"))
    blocks = results.timings[results.timings["position"] == 0]
    step = float(np.median(blocks["seconds"] / blocks["steps"]))
    assert adam["secondsPerX"] == pytest.approx(step, rel=1e-4)
    assert "seconds" not in adam


def test_evaluations_come_back_as_they_were_stored_and_unknown_ones_stay_unknown(
    tmp_path: Path,
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace("seeds: 2", "seeds: 3"))
    plan = make_plan(load(tmp_path / "spec.yaml"))
    planned = plan.objectives[0]
    workload = prepare(planned, load_objective(planned)[0], "cpu")
    description = vars(describe(workload, "", run_it=False))
    losses = np.arange(7, 0, -1.0)
    counted = np.array([0, 20, 30, 31, 32, 33, 34])
    results = [
        TrialResult(plan.cases[0].key, 0, "ok", 6, "", 1.0, "alone", losses, evaluations=6),
        TrialResult(plan.cases[0].key, 1, "ok", 6, "", 1.0, "alone", losses, evaluations=6),
        TrialResult(
            *(plan.cases[1].key, 0, "ok", 6, "", 1.0, "alone", losses),
            evaluations=34,
            evaluations_at=counted,
        ),
        TrialResult(
            *(plan.cases[1].key, 1, "diverged", 4, "why", 1.0, "alone", losses[:3]),
            evaluations=40,
            evaluations_at=counted[:3],
        ),
        TrialResult(plan.cases[1].key, 2, "timeout", 4, "why", 1.0, "alone"),
    ]
    path = tmp_path / "r.sqlite"
    with Store(path, create=True) as store:
        store.begin_run(
            plan,
            command="c",
            spec_file="spec.yaml",
            spec_text="",
            settings=RunSettings(seeds=(0, 1, 2), machine="m"),
            environment={},
            descriptions={planned.name: Description(**description)},
            defaults={},
        )
        store.save_trials(results, "m")
        store.save_timings(
            [
                Timing(plan.cases[0].key, 4, 1, np.ones(2), np.ones(2)),
                Timing(
                    *(plan.cases[1].key, 4, 1, np.ones(2), np.ones(2)),
                    evaluations=np.array([9, 8]),
                ),
            ],
            "m",
            "s",
        )
    found = read.read(path)
    one, other = found.cases
    assert one.evaluations is None
    expected = [counted, [*counted[:3], *[NAN] * 4], [NAN] * 7]
    np.testing.assert_array_equal(other.evaluations, expected)
    assert found.trials["evaluations"].tolist()[:4] == [6, 6, 34, 40]
    assert math.isnan(found.trials["evaluations"].iloc[4])
    assert found.timings["evaluations"].tolist()[2:] == [9, 8]
    assert found.timings["evaluations"].isna().tolist() == [True, True, False, False]


def test_a_block_counts_the_evaluations_of_its_own_steps(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    [_, case] = make_plan(load(tmp_path / "spec.yaml")).cases
    expected, _ = by_hand(1, 6)
    runner = Runner(TimedCase(case, rosenbrock(6), torch.optim.LBFGS, 1), 2)
    found = [runner.block().evaluations for _ in range(3)]
    first = [expected[3] - expected[1], expected[5] - expected[3]]
    assert found == [*first, first[0]]  # from the start again once its steps are used up
