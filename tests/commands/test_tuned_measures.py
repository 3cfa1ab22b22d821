"""Tuning by one part and report of another, with planted settings: each part prefers its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.analysis.summary import analyse
from harness.cli import main
from harness.measures import Measure
from harness.store import read

LEARNING_RATES = (0.001, 0.01, 0.1)
STEPS = 10
ROWS = {"train": 5, "validation": 3, "test": 2}
CENTRES = {"train": 1.0, "validation": 0.1, "test": 0.01}

FILES = {
    # Every step adds lr to the one weight. A part's rows say where it is best.
    "objectives/planted.py": """
import json
from pathlib import Path
import torch
from harness import Objective

SEEN = Path(__file__).with_name("seen.jsonl")

class Planted(Objective):
    def __init__(self, dataset):
        self.data = (torch.as_tensor(dataset.features), torch.as_tensor(dataset.labels))
    def init(self, generator):
        return {"w": torch.zeros(1) + 0 * torch.rand(1, generator=generator)}
    def loss(self, params, batch):
        return -params["w"].sum()
    def evaluate(self, params, batch):
        weight = float(params["w"])  # so that trials run alone, and are told apart
        with SEEN.open("a") as file:
            file.write(json.dumps([len(batch[0]), weight]) + chr(10))
        return (params["w"] - batch[0].mean()).square().sum()
    def metrics(self, params, batch):
        return {"accuracy": 1 - (params["w"] - batch[0].mean()).abs().sum()}
""",
    "datasets/parts.py": f"""
import numpy as np
from harness import Dataset

ROWS, CENTRES = {ROWS!r}, {CENTRES!r}

def parts():
    return {{
        part: Dataset(np.full((count, 1), CENTRES[part]), np.zeros(count))
        for part, count in ROWS.items()
    }}
""",
}

SPEC = """\
suite: planted
seeds: [1, 2]
objectives:
  planted:
    class: Planted
    dataset: parts
    steps: 10
    dtype: float64
    record_every: 1
    metrics: [loss, {accuracy: higher}]
    report: test accuracy
    KEYS
optimizers:
  sgd: {class: "torch.optim:SGD", search: {lr: {choice: [0.001, 0.01, 0.1]}}}
tuning: {trials: 6, seeds: [7, 8], defaults: false, GOAL}
timing: {enabled: false}
"""


def run(folder: Path, keys: str, goal: str = "sweep: 0", search: str = "") -> read.Results:
    """Run the planted suite with more keys of its objective; its results."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    spec = folder / "spec.yaml"
    choice = "{choice: [0.001, 0.01, 0.1]}"
    text = SPEC.replace("KEYS", keys).replace("GOAL", goal)
    spec.write_text(text.replace(choice, search or choice))
    done = CliRunner().invoke(main, ["run", str(spec), "-q", "--workers", "1"])
    assert done.exit_code == 0, done.output
    return read.read(folder / "reports" / "planted" / "results.sqlite")


def weights_seen(folder: Path, part: str) -> set[float]:
    """The weights at which the rows of a part were evaluated."""
    lines = (folder / "objectives" / "seen.jsonl").read_text().splitlines()
    return {round(weight, 9) for rows, weight in map(json.loads, lines) if rows == ROWS[part]}


def along(lr: float) -> set[float]:
    return {round(step * lr, 9) for step in range(STEPS + 1)}


@pytest.mark.parametrize(
    ("keys", "goal", "best"),
    [
        ("tune: train loss", "sweep: 0", 0.1),
        ("tune: train accuracy", "sweep: 0", 0.1),
        ("tune: validation accuracy", "sweep: 0", 0.01),
        ("", "sweep: 0", 0.01),  # by default the loss on validation
        # At steps of 0.1 the weight is within 0.05 of 0.1 after one step; of 0.01, after five.
        ("targets: [{validation accuracy: 0.95}]", "goal: time_to_target, sweep: 0", 0.1),
        # Only steps of 0.001 and 0.01 come within 0.02 of 0.01, and tuning never knows.
        (
            "targets: [{validation accuracy: 0.95}, {test accuracy: 0.98}]",
            "goal: time_to_target, sweep: 0",
            0.1,
        ),
        # A loss on train of at most 0.9: the weight is to pass 0.0514.
        ("targets: [{train loss: 0.9}]", "goal: time_to_target, sweep: 0", 0.1),
        ("targets: [{validation accuracy: 0.995}]", "goal: time_to_target, sweep: 0", 0.1),
        ("stop: {after: 3 records without a higher test accuracy}", "sweep: 0", 0.01),
    ],
)
def test_each_part_prefers_its_own_setting_and_tuning_never_sees_test(
    tmp_path: Path, keys: str, goal: str, best: float
) -> None:
    results = run(tmp_path, keys, goal)
    (case,) = results.cases
    assert case.hyperparameters == {"lr": best}
    tried = [one.hyperparameters["lr"] for one in results.tried if one.role == "tuning"]
    assert set(tried) == set(LEARNING_RATES)
    # What is looked at on test is the start, to learn what is computed, and the chosen setting.
    seen = weights_seen(tmp_path, "test")
    assert max(seen) > 0
    assert seen <= along(best)
    assert weights_seen(tmp_path, "train") > along(best)
    reported = Measure("accuracy", "test", higher=True)
    assert results.objectives["planted"].measure == reported
    finals = results.trials["final_loss"].to_numpy(dtype=float)
    np.testing.assert_allclose(finals, case.finals)


def test_the_best_so_far_is_of_what_is_tuned(tmp_path: Path) -> None:
    results = run(tmp_path, "tune: validation accuracy", "sweep: 0")
    found = analyse(results)
    (tuned,) = found.tuned
    measure = Measure("accuracy", "validation", higher=True)
    assert tuned.measure == tuned.shown == measure
    assert tuned.best == {"lr": 0.01}
    means = {t.hyperparameters["lr"]: float(t.losses.mean()) for t in tuned.settings}
    for lr in LEARNING_RATES:
        assert means[lr] == pytest.approx(1 - abs(STEPS * lr - CENTRES["validation"]))
    (so_far,) = found.best_so_far
    assert so_far.measure == measure
    assert so_far.band(0.25)[0][-1] == pytest.approx(max(means.values()))


def test_a_sweep_is_of_what_is_tuned_and_best_where_that_is_best(tmp_path: Path) -> None:
    keys, search = "tune: validation accuracy", "{log_uniform: [0.001, 0.1]}"
    results = run(tmp_path, keys, "sweep: 9", search)
    (curve,) = analyse(results).curves
    assert curve.measure == Measure("accuracy", "validation", higher=True)
    for point in curve.points:
        away = abs(STEPS * point.value - CENTRES["validation"])
        assert point.mean == pytest.approx(1 - away)
    best = min(curve.points, key=lambda p: abs(STEPS * p.value - CENTRES["validation"]))
    assert curve.best_point == best
