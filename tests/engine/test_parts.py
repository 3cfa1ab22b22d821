"""Parts of the data, metrics, stopping and kept parameters, against a loop written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_plan, make_workload
from torch.nn import functional

from harness.engine import evaluation
from harness.engine import lanes as lanes_module
from harness.engine.lane_functions import lane_level
from harness.engine.lanes import Lane, Lanes
from harness.engine.recording import Outcome
from harness.engine.stopping import Stopping, reason
from harness.engine.training_loop import train
from harness.engine.trials import run_single
from harness.engine.workload import BATCH_STREAM, INIT_STREAM, Workload, generator, schedule
from harness.measures import Measure, StopRule, Target, measures_of
from harness.objectives.base import Batch, Objective, Parameters
from harness.plan.model import PlannedObjective
from harness.spec.validation import load
from harness.suite.locate import Misfit

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = {"train": 24, "validation": 7, "test": 10}
ACCURACY = Measure("accuracy", "validation", higher=True)


class Classes(Objective):
    """Logistic regression on three classes, that notes which rows are evaluated."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)

        def part(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
            x = torch.from_numpy(random.normal(size=(rows, 4)))
            return x, (x[:, :3] + 0.5 * torch.from_numpy(random.normal(size=(rows, 3)))).argmax(1)

        parts = {name: part(rows) for name, rows in ROWS.items()}
        self.data = parts["train"]
        self.held_out = {name: parts[name] for name in ("validation", "test")}
        self.seen: list[int] = []

    def init(self, generator: torch.Generator) -> Parameters:
        return {"w": torch.randn(3, 4, generator=generator, dtype=torch.float64)}

    def loss(self, params: Parameters, batch: Batch) -> torch.Tensor:
        x, y = batch
        return functional.cross_entropy(x @ params["w"].mT, y)

    def metrics(self, params: Parameters, batch: Batch) -> dict[str, torch.Tensor]:
        x, y = batch
        self.seen.append(len(x))
        right = (x @ params["w"].mT).argmax(-1) == y
        return {"accuracy": right.double().mean()}


def workload_of(objective: Classes, **fields: Any) -> Workload:
    known: dict[str, Any] = {
        "steps": 12,
        "batch_size": 8,
        "steps_per_epoch": 3,
        "record_steps": (0, 3, 6, 9, 12),
        "held_out": dict(objective.held_out),
        "metrics": (("loss", False), ("accuracy", True)),
    }
    return make_workload(objective, **known | fields)


def by_hand(seed: int, lr: float = 0.5, steps: int = 12) -> dict[str, list[float]]:
    """The same trial in numpy: softmax regression with plain gradient descent."""
    objective = Classes()
    assert objective.data is not None
    parts = {"train": objective.data, **objective.held_out}
    w = torch.randn(3, 4, generator=generator(seed, INIT_STREAM), dtype=torch.float64).numpy()
    batches = generator(seed, BATCH_STREAM)
    found: dict[str, list[float]] = {}

    def probabilities(x: Any) -> Any:
        e = np.exp(x @ w.T - (x @ w.T).max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def record() -> None:
        for name, (x, y) in parts.items():
            p = probabilities(x.numpy())
            loss = -np.log(p[np.arange(len(p)), y.numpy()]).mean()
            found.setdefault(f"{name} loss", []).append(loss)
            found.setdefault(f"{name} accuracy", []).append((p.argmax(1) == y.numpy()).mean())

    record()
    x, y = (tensor.numpy() for tensor in objective.data)
    for step in range(steps):
        if step % 3 == 0:
            order = torch.randperm(24, generator=batches).numpy()
        rows = order[8 * (step % 3) : 8 * (step % 3 + 1)]
        p = probabilities(x[rows])
        p[np.arange(8), y[rows]] -= 1
        w = w - lr * p.T @ x[rows] / 8
        if step % 3 == 2:
            record()
    return found


def run(workload: Workload, seeds: list[int], way: Any, **hyperparameters: float) -> Outcome:
    setting = {"lr": 0.5, **hyperparameters}
    return train(workload, torch.optim.SGD, [setting], [Lane(0, s) for s in seeds], way=way)


@pytest.mark.parametrize(
    ("way", "seeds"),
    [("alone", [3]), ("pointwise", [3, 8, 1, 5]), ("own_optimizers", [3, 8, 1, 5])],
)
@pytest.mark.parametrize("size", [None, 4])
def test_every_metric_of_every_part_equals_a_loop_by_hand(
    way: str, seeds: list[int], size: int | None
) -> None:
    workload = workload_of(Classes(), evaluation_batch_size=size)
    outcome = run(workload, seeds, way)
    expected = [by_hand(seed) for seed in seeds]
    assert [*outcome.values] == [m.name for m in workload.measures]
    assert set(outcome.values) == set(expected[0])
    for name, values in outcome.values.items():
        np.testing.assert_allclose(
            values, [own[name] for own in expected], rtol=1e-12, err_msg=name
        )


def test_tuning_evaluates_no_row_of_the_test_part() -> None:
    objective = Classes()
    run(workload_of(objective).without_test(), [1], "alone")
    assert set(objective.seen) == {ROWS["train"], ROWS["validation"]}
    objective.seen.clear()
    run(workload_of(objective), [1], "alone")
    assert set(objective.seen) == set(ROWS.values())


def test_a_metric_that_nobody_computes_names_the_nearest() -> None:
    workload = workload_of(Classes(), metrics=(("loss", False), ("acuracy", True)))
    lanes = Lanes(workload, [Lane(0, 0)], stacked=False)
    with pytest.raises(Misfit, match=r"no metric 'acuracy'; did you mean 'accuracy'\?"):
        lanes.measured("train")


@pytest.mark.parametrize(
    ("way", "others"), [("alone", []), ("pointwise", [8, 1, 5]), ("own_optimizers", [8, 1, 5])]
)
def test_a_trial_stops_at_the_first_record_that_reaches_its_target(
    way: str, others: list[int]
) -> None:
    seeds = [3, *others]
    level = 0.7
    rule = StopRule((Target(level, measure=ACCURACY),))
    outcome = run(workload_of(Classes(), stop=rule, keeps_parameters=True), seeds, way)
    for lane, seed in enumerate(seeds):
        expected = by_hand(seed)
        hits = [i for i, v in enumerate(expected[ACCURACY.name]) if v >= level]
        last = hits[0] if hits else 4
        assert outcome.stopped_at[lane] == (3 * last if hits else -1)
        for name, values in outcome.values.items():
            np.testing.assert_allclose(values[lane, : last + 1], expected[name][: last + 1])
            assert np.isnan(values[lane, last + 1 :]).all()
        short = run(workload_of(Classes(), steps=max(1, 3 * last), keeps_parameters=True), [seed],
                    "alone")  # fmt: skip
        if last:
            assert outcome.parameters is not None
            assert short.parameters is not None
            own, other = outcome.parameters[lane]["w"], short.parameters[0]["w"]
            np.testing.assert_allclose(own, other, rtol=1e-12)


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("way", ["pointwise", "vmapped", "own_optimizers"])
def test_lanes_that_have_ended_are_evaluated_no_more_and_change_no_other(
    way: str, one_by_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if one_by_one:
        monkeypatch.setattr(evaluation, "CACHE_BYTES", 1)
    sizes: list[int] = []

    def noted(count: int, **more: Any) -> Any:
        sizes.append(count)
        return lane_level(count, **more)

    monkeypatch.setattr(lanes_module, "lane_level", noted)
    rule, seeds = StopRule((Target(0.75, measure=ACCURACY),)), list(range(12))
    workload = workload_of(Classes(), stop=rule, steps=60, record_steps=tuple(range(0, 61, 3)))
    momentum = {"momentum": 0.9}
    outcome = run(workload, seeds, way, **momentum)
    assert min(sizes) <= 3 < 12 == max(sizes)
    monkeypatch.setattr(lanes_module, "LEFT", 0.0)
    sizes.clear()
    whole = run(workload, seeds, way, **momentum)
    assert set(sizes) == {12}
    assert outcome.stopped_at.tolist() == whole.stopped_at.tolist()
    assert len(set(outcome.stopped_at)) > 3
    for name, values in outcome.values.items():
        np.testing.assert_allclose(values, whole.values[name], rtol=1e-12)


def test_the_row_of_a_stopped_trial_says_when_and_why(case: Any) -> None:
    rule = StopRule((Target(0.7, measure=ACCURACY),))
    workload = workload_of(Classes(), stop=rule)
    seed = next(s for s in range(20) if max(by_hand(s)[ACCURACY.name][1:4]) >= 0.7
                and by_hand(s)[ACCURACY.name][0] < 0.7)  # fmt: skip
    result = run_single(case, seed, workload, torch.optim.SGD, "", lambda _: None)
    assert (result.status, result.reason) == ("ok", "stopped: all targets are reached")
    assert 0 < result.step < 12
    assert len(result.losses) == result.step // 3 + 1 == len(result.measures[ACCURACY.name])


@pytest.fixture
def case() -> Any:
    spec = Path(__file__).resolve().parents[2] / "benchmarks.yaml"
    plan = make_plan(load(spec))
    return replace(plan.cases[0], hyperparameters={"lr": 0.5}, key="k")


def test_patience_counts_records_that_are_no_better_than_the_best_before() -> None:
    measures = measures_of([("loss", False), ("accuracy", True)], ["train", "validation"])
    rule = StopRule(patience=2, watched=ACCURACY)
    stopping = Stopping(rule, measures, 3)
    courses = {"a": [0.1, 0.5, 0.5, 0.6, 0.6, 0.2], "b": [0.9, 0.1, 0.2, 1, 1, 1],
               "c": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}  # fmt: skip
    for step, values in enumerate(zip(*courses.values(), strict=True)):
        known = {m.name: np.zeros(3) for m in measures}
        stopping.see(10 * step, known | {ACCURACY.name: np.array(values)})
    assert stopping.stopped_at.tolist() == [50, 20, -1]
    text = reason(rule, {ACCURACY.name: np.array([0.1, 0.5])})
    assert text == "stopped: 2 records without a higher validation accuracy"


def test_a_share_of_the_way_to_the_optimum_is_of_each_trials_own_start() -> None:
    rule = StopRule((Target(tolerance=0.1),), optimum=1.0)
    stopping = Stopping(rule, measures_of([("loss", False)], ["train"]), 2)
    assert stopping.see(0, {"train loss": np.array([11.0, 3.0])}).tolist() == []
    assert stopping.see(1, {"train loss": np.array([2.0, 1.3])}).tolist() == [0]
    assert stopping.see(2, {"train loss": np.array([9.0, 1.2])}).tolist() == [1]


def planned(**fields: Any) -> PlannedObjective:
    known: dict[str, Any] = {
        "name": "x", "located": None, "arguments": {}, "dataset": None, "batch_size": None,
        "steps": None, "epochs": None, "dtype": "float32", "record_every": None,
        "divergence_factor": 1e3,
    }  # fmt: skip
    return PlannedObjective(**known | fields)


@pytest.mark.parametrize("rows", [24, 1000, 1257])
@pytest.mark.parametrize("size", [None, 1, 7, 64, 500])
@pytest.mark.parametrize("held", [0, 100, 5000])
def test_evaluation_takes_a_fifth_of_the_work_at_most(
    rows: int, size: int | None, held: int
) -> None:
    steps, per_epoch, every = schedule(planned(batch_size=size, epochs=100), rows, rows + held)
    batch = min(size or rows, rows)
    assert steps == 100 * per_epoch == 100 * -(-rows // batch)
    # A row's loss costs 1, with its gradients 3; the two records at both ends are always there.
    work, evaluation = 3 * batch * every, rows + held
    assert evaluation <= 0.2 * (work + evaluation) or every == steps
    assert every % per_epoch == 0 or per_epoch % every < every


def test_records_are_as_often_as_the_spec_says() -> None:
    known = {"batch_size": 10, "epochs": 4}
    assert schedule(planned(**known, record_every="epoch"), 95, 95) == (40, 10, 10)
    assert schedule(planned(**known, record_every="5%"), 95, 95) == (40, 10, 2)
    assert schedule(planned(**known, record_every=7), 95, 95) == (40, 10, 7)
    assert schedule(planned(steps=9), 0, 0) == (9, 1, 1)
