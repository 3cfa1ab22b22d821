"""Several runs side by side that report an accuracy, or not all of them the same."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from results_builders import make_case, make_objective, make_results, make_run

from harness.analysis.side_by_side import compare
from harness.analysis.sources import Source, combine
from harness.measures import TRAIN_LOSS, Measure
from harness.reporting.tables import side_by_side as tables

ACCURACY = Measure("accuracy", "test", higher=True)
ERROR = Measure("error", "test")
SEEDS = 12
BASE = np.random.default_rng(3).integers(40, 60, size=SEEDS) / 64
GAIN = np.arange(1, SEEDS + 1) / 64


def source(
    name: str,
    values: NDArray[np.float64],
    measure: Measure = ACCURACY,
    key: str = "k",
    also: tuple[tuple[str, bool], ...] = (),
    **settings: Any,
) -> Source:
    """A run of one case, by its final values."""
    rows = {seed: [0.0, value] for seed, value in enumerate(values.tolist())}
    case = make_case("digits", "sgd", rows, key=f"{key}-{name}", objective_key="o")
    curves = {measure.name: case.losses, TRAIN_LOSS.name: np.ones_like(case.losses)}
    info = make_objective(
        "digits", measure=measure, part_rows={"test": 64},
        metrics=(("loss", False), *({(measure.metric, measure.higher)} - {("loss", False)}), *also),
    )  # fmt: skip
    run = make_run({"reported": {"digits": measure}, "seeds": range(SEEDS), **settings})
    results = make_results([replace(case, curves=curves)], objectives={"digits": info}, run=run)
    return Source(name, f"{name}.sqlite", results)


def test_what_is_called_of_two_runs_are_values_and_not_costs() -> None:
    sources = source("a", BASE), source("b", BASE + GAIN)
    beside = compare(sources)
    (found,) = beside.differences
    assert found.verdict == "higher"
    assert found.pair is not None
    assert found.pair.called == "better"
    assert found.seeds_at == {"lower": 0, "higher": SEEDS}
    assert found.pair.p == pytest.approx(scipy.stats.wilcoxon(GAIN).pvalue)
    shift, low, high = found.shift
    assert shift == pytest.approx(np.median((GAIN[:, None] + GAIN)[np.triu_indices(SEEDS)] / 2))
    assert 0 < low < shift < high
    text = " ".join(tables.sentences(beside))
    assert f"sgd on digits is higher in b by {shift:.3g}" in text
    table = tables.between(beside)
    assert table is not None
    assert table.frame["shift"].tolist() == [shift]
    assert "higher in b" in table.shown.iloc[0].tolist()


def test_of_errors_the_same_is_lower_by_as_much() -> None:
    of_accuracy = compare([source("a", BASE), source("b", BASE + GAIN)]).differences[0]
    of_error = compare(
        [source("a", 1 - BASE, ERROR), source("b", 1 - BASE - GAIN, ERROR)]
    ).differences[0]
    assert of_error.verdict == "lower"
    assert of_error.seeds_at == {"lower": SEEDS, "higher": 0}
    shift, low, high = of_accuracy.shift
    assert of_error.shift == pytest.approx((-shift, -high, -low))
    assert of_error.pair is not None
    assert of_accuracy.pair is not None
    assert of_error.pair.adjusted == of_accuracy.pair.adjusted


@pytest.mark.parametrize("key", ["same", ""])
def test_runs_that_report_other_measures_are_not_compared_and_that_is_said(key: str) -> None:
    one, other = source("a", BASE), source("b", BASE, replace(ACCURACY, part="validation"))
    if key:
        for made in (one, other):
            object.__setattr__(made.results.cases[0], "key", key)
    beside = compare([one, other])
    (found,) = beside.differences
    assert found.verdict == "another measure"
    assert found.pair is None
    assert math.isnan(found.shift[0])
    text = " ".join(tables.sentences(beside))
    said = "Not compared, as another measure is reported: sgd on digits (test accuracy / "
    assert f"{said}validation accuracy)." in text
    assert "bit-identical" not in text
    assert "not equal" not in text
    # Put together, they are two objectives.
    together = combine([one, other])
    assert list(together.objectives) == ["digits", "digits (b)"]
    measures = [info.measure.name for info in together.objectives.values()]
    assert measures == ["test accuracy", "validation accuracy"]
    reported = together.run.settings.reported
    assert {name: m.name for name, m in reported.items()} == dict(
        zip(together.objectives, measures, strict=True)
    )


def test_of_runs_that_record_more_than_each_other_what_both_have_is_kept() -> None:
    one, other = source("a", BASE, also=(("f1", True),)), source("b", BASE, also=(("auc", True),))
    together = combine([one, other])
    (info,) = together.objectives.values()
    assert info.metrics == (("loss", False), ("accuracy", True))
