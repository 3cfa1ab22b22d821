"""Any measure: what is concluded of accuracies is what is concluded of the errors 1 - accuracy.

Values are multiples of 1/64, so that one less them is exact and nothing differs by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from results_builders import make_case, make_objective, make_results, make_trials

from harness.analysis import comparison, elapsed, retuning, targets
from harness.analysis.comparison import ComparisonGroup, Pair, groups
from harness.analysis.summary import Analysis, analyse
from harness.measures import TRAIN_LOSS, Measure
from harness.spec.model import SpaceSpec
from harness.store.read import CaseData, Results, Tried

ACCURACY = Measure("accuracy", "test", higher=True)
ERROR = Measure("error", "test")
NAMES = ("sgd", "adam", "muon")
PLACES = ("p0", "p1", "p2", "p3", "p4")
TUNED_ON = 4

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Accuracies of three optimizers on five objectives, and of settings that were tried.

    Attributes:
        curves: ``(objectives, optimizers, seeds, records)``.
        failed: ``(objectives, optimizers, seeds)``.
        tried: Of settings by tuning, ``(settings, seeds)``; NaN where one failed.
    """

    curves: Array
    failed: NDArray[np.bool_]
    tried: Array

    def results(self, measure: Measure) -> Results:
        """The same as results that report the accuracy, or the error."""
        cases: list[CaseData] = []
        endings: list[Mapping[int, Any]] = []
        train = np.random.default_rng(5).normal(3, 1, size=self.curves.shape)
        for i, place in enumerate(PLACES):
            for j, name in enumerate(NAMES):
                values = as_measure(self.curves[i, j], measure)
                rows = dict(enumerate(values.tolist()))
                recorded = {TRAIN_LOSS.name: train[i, j], measure.name: values}
                role: Any = "tuned" if place == "p0" and name == "sgd" else "given"
                known: dict[str, Any] = {}
                if role == "tuned":
                    known = {"hyperparameters": {"lr": 0.5}, "setting": ""}
                made = make_case(place, name, rows, position=len(cases), role=role, **known)
                cases.append(replace(made, curves=recorded))
                endings.append(
                    {s: "error" if self.failed[i, j, s] else v[-1] for s, v in rows.items()}
                )
        info = {
            place: make_objective(
                place,
                record_steps=(0, 2, 4),
                measure=measure,
                metrics=(("loss", False), (measure.metric, measure.higher)),
                part_rows={"validation": 64, "test": 64},
            )
            for place in PLACES
        }
        target = {"value": float(as_measure(np.array(0.75), measure)), "measure": measure}
        value = f"{float(as_measure(np.array(0.9), measure)):.2f}"
        return make_results(
            cases,
            make_trials(cases, endings),
            objectives=info,
            tried=self.settings(measure),
            targets={place: {"given": [target]} for place in PLACES},
            searches={"sgd": {"lr": SpaceSpec(uniform=(0, 1))}},
            tuning={"trials": len(self.tried), "goal": "final_loss"},
            claims=[
                {"value": value, "source": "p", "optimizer": name, "objective": "p1", **more}
                for name in NAMES
                for more in ({}, {"quantity": measure.name})
            ],
        )

    def settings(self, measure: Measure) -> list[Tried]:
        """The settings that tuning tried, and a sweep over the same."""
        on = replace(measure, part="validation")
        return [
            Tried(
                role, "p0", "sgd", "cpu", {"lr": lr}, "lr" if role == "sweep" else "",
                tuple("ok" if math.isfinite(v) else "error" for v in row), row, on,
            )
            for role in ("tuning", "sweep")
            for lr, row in zip(
                np.linspace(0, 1, len(self.tried)).tolist(),
                as_measure(self.tried, measure),
                strict=True,
            )
        ]  # fmt: skip


def as_measure(accuracies: Array, measure: Measure) -> Array:
    return accuracies if measure.higher else 1 - accuracies


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    seeds, few = draw(st.integers(6, 9)), draw(st.sampled_from([4, 64]))
    shape = (len(PLACES), len(NAMES), seeds, 3)
    curves = random.integers(0, few, size=shape) * (64 // few) / 64
    # Some optimizer is better than the others, so that something is called.
    curves[:, 0, :, 2] = np.minimum(1, curves[:, 0, :, 2] + random.choice([0, 0.25, 0.5]))
    failed = random.random(shape[:3]) < draw(st.sampled_from([0.0, 0.1, 0.5]))
    tried = random.integers(0, few, size=(6, TUNED_ON)) * (64 // few) / 64
    tried[random.random(tried.shape) < draw(st.sampled_from([0.0, 0.1]))] = math.nan
    tried[3] = np.where(np.isnan(tried[3]), 0.5, tried[3])
    return Drawn(curves, failed, tried)


def both(made: Drawn) -> tuple[Analysis, Analysis]:
    found = analyse(made.results(ACCURACY)), analyse(made.results(ERROR))
    for one in found:
        counts = [len(one.compared), len(one.verdicts), len(one.reached), len(one.ranked)]
        counts += [len(one.claims), len(one.tuned), len(one.retuned), len(one.curves)]
        assert counts == [5, 5, 5, 1, 6, 1, 1, 1]
    return found


def fields(pair: Pair) -> list[float]:
    return [float(v) for name, v in vars(pair).items() if name != "failed"]


@settings(max_examples=8, deadline=None)
@given(drawn())
def test_pairs_ranks_and_verdicts_are_those_of_the_errors(made: Drawn) -> None:
    of_accuracy, of_error = both(made)
    for one, other in zip(of_accuracy.compared, of_error.compared, strict=True):
        assert one.group.order() == other.group.order()
        np.testing.assert_array_equal(one.group.alike, other.group.alike)
        for pair, same in zip(one.pairs, other.pairs, strict=True):
            np.testing.assert_allclose(fields(pair), fields(same), atol=1e-12)
            assert (pair.called, pair.by_failures) == (same.called, same.by_failures)
            shift, low, high = one.group.shown_shift(pair)
            turned = other.group.shown_shift(same)
            np.testing.assert_allclose((-shift, -high, -low), turned, atol=1e-12)
        assert one.ranks == other.ranks
        assert one.friedman == pytest.approx(other.friedman, nan_ok=True)
    for verdict, same_verdict in zip(of_accuracy.verdicts, of_error.verdicts, strict=True):
        assert verdict.by_failures == same_verdict.by_failures
        for entry, same_entry in zip(verdict.entries, same_verdict.entries, strict=True):
            assert entry.optimizer == same_entry.optimizer
            assert entry.outcome == same_entry.outcome
            assert entry.behind == pytest.approx(same_entry.behind, nan_ok=True)
            assert math.isnan(entry.factor)
            # The interval of an accuracy ends at 0 and 1, that of a loss does not.
            ends = np.clip([1 - same_entry.high, 1 - same_entry.low], 0, 1)
            turned_ends = (1 - same_entry.loss, *ends)
            found = (entry.loss, entry.low, entry.high)
            assert found == pytest.approx(turned_ends, nan_ok=True, abs=1e-9)
    for ranked, same_ranked in zip(of_accuracy.ranked, of_error.ranked, strict=True):
        assert ranked.optimizers == same_ranked.optimizers
        np.testing.assert_array_equal(ranked.ranks, same_ranked.ranks)


@settings(max_examples=8, deadline=None)
@given(drawn())
def test_targets_claims_tuning_and_sensitivity_are_those_of_the_errors(made: Drawn) -> None:
    of_accuracy, of_error = both(made)
    for one, other in zip(of_accuracy.reached, of_error.reached, strict=True):
        np.testing.assert_array_equal(one.steps, other.steps)
        np.testing.assert_array_equal(one.expected_steps(), other.expected_steps())
    for claim, same_claim in zip(of_accuracy.claims, of_error.claims, strict=True):
        assert claim.verdict == same_claim.verdict
        assert claim.p == pytest.approx(same_claim.p, nan_ok=True)
        assert claim.percentile == pytest.approx(100 - same_claim.percentile, nan_ok=True)
        noticed = [1 - end for end in same_claim.noticed[::-1]]
        assert claim.noticed == pytest.approx(noticed, nan_ok=True, abs=1e-9)
        assert claim.failed == same_claim.failed
    for a, b in zip(of_accuracy.retuned, of_error.retuned, strict=True):
        np.testing.assert_allclose(a.losses, b.losses - 1, atol=1e-12)
        bands = a.band(0.25), b.band(0.25)
        for value, turned in zip(bands[0], (bands[1][0], bands[1][2], bands[1][1]), strict=True):
            np.testing.assert_allclose(value, 1 - turned, atol=1e-12)
    for so_far, same_so_far in zip(of_accuracy.best_so_far, of_error.best_so_far, strict=True):
        np.testing.assert_allclose(so_far.losses, same_so_far.losses - 1, atol=1e-12)
    for curve, same_curve in zip(of_accuracy.curves, of_error.curves, strict=True):
        assert (curve.best_point is None) == (same_curve.best_point is None)
        if curve.best_point and same_curve.best_point:
            assert curve.best_point.value == same_curve.best_point.value
        # Of an error of 0 and no known optimum a multiple says nothing, nor of an accuracy of 1.
        assert curve.near() == pytest.approx(same_curve.near(), nan_ok=True)
    for found, same_found in zip(of_accuracy.tuned, of_error.tuned, strict=True):
        assert (found.best, found.edges) == (same_found.best, same_found.edges)


def group_of(values: Array, measure: Measure, results: Results | None = None) -> ComparisonGroup:
    """The group of some final values, ``(cases, seeds)``, of one objective."""
    random = np.random.default_rng(0)
    cases = []
    for i, row in enumerate(values):
        ends = {seed: [0.0, v] for seed, v in enumerate(row.tolist())}
        curves = {TRAIN_LOSS.name: random.normal(size=(len(row), 2)), measure.name: np.array(
            [[0.0, v] for v in row])}  # fmt: skip
        cases.append(replace(make_case("o", NAMES[i], ends, position=i), curves=curves))
    info = make_objective("o", measure=measure, part_rows={"test": 9}, optimum=0.0)
    (group,) = groups(results or make_results(cases, objectives={"o": info}))
    return group


def test_pairs_of_accuracies_are_wilcoxons_test_of_them() -> None:
    values = np.random.default_rng(1).normal([[0.8], [0.9], [0.85]], 0.05, size=(3, 12))
    group = group_of(values, ACCURACY)
    assert group.optimum is None
    assert [group.cases[i].optimizer for i in group.order()] == ["adam", "muon", "sgd"]
    for pair in comparison.pairs(group):
        less = values[pair.first] - values[pair.second]
        assert pair.p == pytest.approx(scipy.stats.wilcoxon(less).pvalue)
        assert pair.better == (less > 0).sum()
        means = (less[:, None] + less[None])[np.triu_indices(12)] / 2
        shift, low, high = group.shown_shift(pair)
        assert shift == pytest.approx(np.median(means))
        assert low <= shift <= high
    assert comparison.pairs(group)[0].called == "worse"
    ranks = scipy.stats.rankdata(-values, axis=0)
    np.testing.assert_array_equal(group.ranks(), ranks)


def test_a_failed_trial_is_the_worst_whatever_the_direction() -> None:
    values = np.array([[0.1, 0.2, math.nan, math.inf], [0.0, -5.0, -9.0, -7.0]])
    group = group_of(values, ACCURACY)
    assert group.losses[0].tolist() == [-0.1, -0.2, math.inf, math.inf]
    assert group.failures.tolist() == [2, 0]
    assert group.order() == [1, 0]
    assert group.ranks()[:, 2:].tolist() == [[2, 2], [1, 1]]


def test_equal_counts_are_ties_and_the_next_count_is_none() -> None:
    counts = np.array([[97, 98, 99, 96], [97, 99, 99, 95]])
    group = group_of(counts / 100, ACCURACY)
    assert np.sign(group.differences(0, 1)).tolist() == [0, 1, 0, -1]
    # A loss at the start may hide a difference of losses; an accuracy's start says nothing.
    assert group.rounding_floor == 0


def test_seeds_that_share_an_accuracy_by_chance_are_tested_and_copies_are_not() -> None:
    values = np.array([[1.0] * 6, [0.9] * 6])
    (pair,) = comparison.pairs(group_of(values, ACCURACY))
    assert (pair.p, pair.called) == (2 / 2**6, "better")
    cases = [
        replace(
            make_case("o", name, {s: [0.0, v] for s in range(6)}, position=i),
            curves={TRAIN_LOSS.name: np.full((6, 2), 0.5), ACCURACY.name: np.full((6, 2), v)},
        )
        for i, (name, v) in enumerate(zip(NAMES, (1.0, 0.9), strict=False))
    ]
    info = make_objective("o", measure=ACCURACY, part_rows={"test": 9})
    (group,) = groups(make_results(cases, objectives={"o": info}))
    assert group.alike.all()
    (copied,) = comparison.pairs(group)
    assert (copied.is_tested, copied.called) == (False, "better")


def test_the_front_of_an_accuracy_is_above() -> None:
    times, values = [1.0, 2.0, 3.0, 4.0], [0.5, 0.4, 0.9, 0.8]
    assert elapsed.pareto_front(times, values, ACCURACY) == [0, 2]
    assert elapsed.pareto_front(times, values) == [0, 1]
    assert elapsed.pareto_front([1.0, 1.0], [0.5, 0.5], ACCURACY) == [0, 1]


def test_a_trial_that_a_rule_stopped_ends_there_and_used_so_many_steps() -> None:
    """Stopped at step 2 of 4 by its accuracy; the other seed never gets there."""
    values = np.array([[0.1, 0.9, math.nan], [0.2, 0.3, 0.4]])
    case = replace(
        make_case("o", "sgd", dict(enumerate(values.tolist()))),
        curves={TRAIN_LOSS.name: np.where(np.isnan(values), np.nan, 1.0), ACCURACY.name: values},
    )
    info = make_objective(
        "o", record_steps=(0, 2, 4), measure=ACCURACY, part_rows={"test": 9},
        metrics=(("loss", False), ("accuracy", True)),
    )  # fmt: skip
    assert case.finals.tolist() == [0.9, 0.4]
    trials = make_trials([case], [{0: 0.9, 1: 0.4}])
    trials["step"] = [2, 4]
    given = [{"value": v, "measure": ACCURACY} for v in (0.85, 0.35, 0.95)]
    results = make_results([case], trials, objectives={"o": info}, targets={"o": {"given": given}})
    (group,) = groups(results)
    found = targets.reached(results, group)
    assert found is not None
    assert found.steps[:, 0].tolist() == [[2, math.inf], [2, 4], [math.inf, math.inf]]
    assert found.used.tolist() == [[2, 4]]
    # Both trials that missed 0.95 cost what they used: 2 and 4 steps; 0.85 cost 2 + 4 for one hit.
    assert found.expected_steps()[:, 0].tolist() == [6, 3, math.inf]


def test_retuning_chooses_by_what_is_tuned_and_tells_what_is_reported() -> None:
    """Settings by validation loss, reported by the accuracy on train: the best has the least."""
    tuned_by, reported = Measure(part="validation"), Measure("accuracy", "train", higher=True)
    settings_tried = [
        Tried(
            "tuning", "o", "sgd", "cpu", {"lr": float(i)}, "", ("ok",) * 3,
            np.full(3, float(i)), tuned_by, reported=np.full(3, 0.1 * (i + 1)),
        )
        for i in range(5)
    ]  # fmt: skip
    case = make_case("o", "sgd", {0: [1.0, 0.1]}, role="tuned", hyperparameters={"lr": 0.0})
    info = make_objective("o", measure=reported, part_rows={"validation": 3})
    results = make_results(
        [case], objectives={"o": info}, tried=settings_tried, tuning={"trials": 5},
        searches={"sgd": {"lr": SpaceSpec(uniform=(0, 4))}},
    )  # fmt: skip
    found = analyse(results)
    (so_far,) = found.best_so_far
    assert so_far.measure == reported
    middle, low, high = so_far.band(0.25)
    # Of all five the first is chosen, which has the lowest accuracy; of one, any.
    assert (middle[-1], low[-1], high[-1]) == pytest.approx((0.1, 0.1, 0.1))
    assert middle[0] == pytest.approx(0.3)
    assert (low <= middle).all()
    assert (middle <= high).all()
    (again,) = found.retuned
    assert again.measure == reported
    values = -again.losses
    assert np.isin(np.round(values, 9), np.round(0.1 * np.arange(1, 6), 9)).all()
    assert np.median(values[:, -1]) == pytest.approx(0.1)
    # Where what is reported is never seen by tuning, it tells what it went by.
    unseen = [replace(tried, reported=None) for tried in settings_tried]
    hidden = analyse(replace(results, tried=tuple(unseen)))
    assert hidden.best_so_far[0].measure == tuned_by
    assert hidden.best_so_far[0].quantile(1.0)[-1] == 0
    assert len(hidden.retuned[0].losses) == retuning.RESAMPLES
