"""The check of what is reported in place of the loss: judged in its direction, and named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from builders import git
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.gate import baseline as baselines
from harness.gate.baseline import Baseline, Cell, Loss
from harness.gate.judge import Limits, MeasurementComparison
from harness.gate.outputs import github, junit, markdown, terminal, wording
from harness.gate.report import CellVerdict, GateReport, Judgement
from harness.measures import TRAIN_LOSS, Measure
from harness.reporting.tables import check as tables

ID = "digits/sgd/cpu"
ACCURACY = Measure("accuracy", "test", higher=True)
SCORE = Measure("score", "test")
"""A metric of which lower is better, and which is no loss."""


def side(mean: float, measure: Measure = ACCURACY, bits: str = "", start: float = 0.1) -> Baseline:
    loss = Loss(
        mean=mean, start=start, ok=10, diverged=0, failed=0, bits=bits or repr(mean),
        measure=measure.name,
    )  # fmt: skip
    return Baseline(
        harness_baseline=1, suite="s", seeds="0-9", protocol="p", machine={}, cells={ID: Cell(
            loss=loss)},
    )  # fmt: skip


def judged(
    before: float, now: float, measure: Measure = ACCURACY, tolerance: float | None = 0.01
) -> Judgement:
    compared = MeasurementComparison(side(before, measure), side(now, measure))
    return compared.loss(ID, Limits(0.05, tolerance, "float64", measure))


def test_an_accuracy_that_falls_has_regressed_and_is_named() -> None:
    found = judged(0.971, 0.95)
    assert found.outcome == "regressed"
    assert found.why == "mean test accuracy fell from 0.971 to 0.950"
    assert found.change == pytest.approx(0.95 / 0.971 - 1)
    assert (found.metric, found.name) == ("loss", "test accuracy")
    assert judged(0.95, 0.971).outcome == "better"
    assert judged(0.971, 0.965).outcome == "fine"


@pytest.mark.parametrize("tolerance", [0.25, None])
@given(before=st.floats(-1e6, 1e6), now=st.floats(-1e6, 1e6), scale=st.sampled_from([1.0, 1e-7]))
def test_what_is_judged_of_a_value_is_judged_of_its_negative(
    tolerance: float | None, before: float, now: float, scale: float
) -> None:
    now = before + scale * (now - before)
    turned = Measure("score", "test", higher=True)
    one, other = judged(before, now, SCORE, tolerance), judged(-before, -now, turned, tolerance)
    assert one.outcome == other.outcome
    if one.change is not None and other.change is not None:
        assert one.change == -other.change


def test_the_same_values_are_fine_to_the_bit() -> None:
    found = judged(0.971, 0.971, tolerance=None)
    assert (found.outcome, found.why, found.change) == ("fine", "bit-identical", 0)


def test_on_another_machine_a_few_rows_may_tip_over() -> None:
    def outcome(now: float, machine: dict[str, str], measure: Measure = ACCURACY) -> str:
        there = side(now, measure).model_copy(update={"machine": machine})
        compared = MeasurementComparison(side(0.95, measure), there)
        return compared.loss(ID, Limits(0.05, None, "float64", measure)).outcome

    tipped = 0.95 - 3 / 3600  # three rows of ten seeds of 360
    assert outcome(tipped, {}) == "regressed"
    assert outcome(tipped, {"cpu": "another"}) == "fine"
    assert outcome(0.94, {"cpu": "another"}) == "regressed"
    assert outcome(0.951, {"cpu": "another"}, TRAIN_LOSS) == "regressed"


def test_another_measure_is_not_comparable_and_both_are_named() -> None:
    compared = MeasurementComparison(side(0.2, TRAIN_LOSS), side(0.97))
    found = compared.loss(ID, Limits(0.05, None, "float64", ACCURACY))
    assert (found.outcome, found.why) == ("not comparable", "train loss then, test accuracy now")


def test_a_start_hides_a_difference_of_losses_alone() -> None:
    def outcome(measure: Measure) -> str:
        sides = side(1e-12, measure, start=1e6), side(2e-12, measure, start=1e6)
        return (
            MeasurementComparison(*sides).loss(ID, Limits(0.05, None, "float64", measure)).outcome
        )

    assert outcome(Measure("loss", "test")) == "fine"
    assert outcome(SCORE) == "regressed"


def test_a_value_that_is_not_finite_counts_as_diverged() -> None:
    found = baselines.summarise([(0, "ok", 0.5, 0.1), (1, "ok", None, 0.1)], ACCURACY)
    assert (found.ok, found.diverged, found.failed) == (1, 1, 0)
    assert (found.mean, found.measure) == (0.5, "test accuracy")


def test_a_file_says_the_measure_only_where_it_is_not_the_loss(tmp_path: Path) -> None:
    for measure, keys in ((TRAIN_LOSS, set()), (ACCURACY, {"measure"})):
        path = tmp_path / f"{measure.metric}.json"
        baselines.write(side(0.5, measure), path)
        known = json.loads(path.read_text())["cells"][ID]["loss"]
        assert known.keys() - {"mean", "start", "ok", "diverged", "failed", "bits"} == keys
        assert baselines.read(path) == side(0.5, measure)


def report(*judgements: Judgement) -> GateReport:
    cell = CellVerdict(ID, "digits", "sgd", "", "cpu", "s.yaml:3:4", judgements)
    return GateReport("s", "s.yaml", "b.json", "now", 1.0, "", {}, "k", (), (), (cell,))


def outputs(found: GateReport) -> Iterator[str]:
    yield github.render(found)
    yield junit.render(found)
    yield markdown.render(found)
    yield terminal.render(found, 200)
    yield " ".join(wording.sentences(found))
    yield tables.against(found)
    yield " ".join(tables.check(found).shown.iloc[0].astype(str))


def test_every_output_names_the_measure_and_both_values() -> None:
    found = report(judged(0.971, 0.95), Judgement("time", "fine", "", 1.0, 1.0, 0.0))
    for text in outputs(found):
        assert "test accuracy" in text
        assert "0.971" in text
        assert "0.95" in text
    (line,) = wording.sentences(found)
    assert line == (
        "s.yaml:3:4: digits/sgd/cpu: test accuracy: regressed: -2.2 %, limit 1 %; "
        "mean test accuracy fell from 0.971 to 0.950"
    )
    assert tables.check(found).frame["loss_measure"].tolist() == ["test accuracy"]
    names = [
        test.get("name") for test in ElementTree.fromstring(junit.render(found)).iter("testcase")
    ]
    assert names == ["sgd: test accuracy", "sgd: time"]


def test_a_loss_is_called_a_loss() -> None:
    found = report(judged(1.0, 2.0, TRAIN_LOSS), Judgement("time", "fine", "", 1.0, 1.0, 0.0))
    assert wording.sentences(found) == [
        "s.yaml:3:4: digits/sgd/cpu: loss: regressed: 1.00000 → 2.00000, +100.0 %, limit 1 %; "
        "the mean over seeds rose"
    ]


SPEC = """\
suite: s
seeds: 4
objectives:
  lines:
    class: Lines
    dataset: rows
    steps: 20
    dtype: float64
    split: {train: 0.5, test: 0.5}
    metrics: [loss, {accuracy: higher}]
    report: test accuracy
optimizers:
  sgd: {class: "torch.optim:SGD", hyperparameters: {lr: 0.5}}
check: {rounds: 20, block_steps: 2, seconds: 1}
"""
LINES = """
import torch
from harness import Objective

class Lines(Objective):
    def __init__(self, dataset):
        self.data = (torch.as_tensor(dataset.features), torch.as_tensor(dataset.labels).double())
    def init(self, generator):
        return {"w": 0.1 * torch.randn(2, generator=generator)}
    def loss(self, params, batch):
        rows, labels = batch
        outputs = rows @ params["w"]
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs, labels)
    def metrics(self, params, batch):
        rows, labels = batch
        return {"accuracy": ((rows @ params["w"] > 0) == (labels > 0.5)).to(rows.dtype).mean()}
"""
ROWS = """
import numpy as np
from harness import Dataset

def rows():
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 2))
    return Dataset(features, (features @ [1.0, -2.0] + random.normal(size=200) > 0).astype(int))
"""


def test_a_check_of_an_accuracy_is_quiet_until_it_falls(tmp_path: Path) -> None:
    for name, text in (("objectives/lines.py", LINES), ("datasets/rows.py", ROWS)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    git(tmp_path, "init", "-q")

    def call(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["check", str(spec), "--baseline", str(tmp_path / "b.json"),
                                         *words])  # fmt: skip
        return done.exit_code, done.output

    code, text = call("--update", "--processes", "3")
    if code == 3:
        pytest.skip("the machine is too busy for a baseline")
    assert code == 0, text
    cell = baselines.read(tmp_path / "b.json").cells["lines/sgd/cpu"]
    assert cell.loss.measure == "test accuracy"
    assert cell.loss.mean is not None
    assert 0.7 < cell.loss.mean < 1
    same = ("--warn", "time")
    code, text = call(*same)
    assert (code, "regressed" in text) == (0, False), text
    # Steps in the wrong direction: the accuracy falls, and so says the check.
    spec.write_text(SPEC.replace("lr: 0.5", "lr: 0.5, maximize: true"))
    code, text = call(*same)
    assert code == 1
    assert "mean test accuracy fell from" in " ".join(text.split())
    # What is reported is the loss now: that can't be compared.
    spec.write_text(SPEC.replace("    report: test accuracy\n", ""))
    code, text = call(*same)
    assert "test accuracy then, train loss now" in " ".join(text.split())
    assert code == 3
