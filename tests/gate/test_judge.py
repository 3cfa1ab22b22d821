"""The judge against hand computations, and what holds whatever the numbers are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.gate import judge
from harness.gate.baseline import Baseline, Cell, Loss
from harness.gate.judge import Limits, MeasurementComparison
from harness.gate.report import METRICS, OUTCOMES, CellVerdict, GateReport, Judgement, Metric

MACHINE = {
    "cpu": "A",
    "cores": "2",
    "system": "Linux x86_64",
    "python": "CPython 3.11.7",
    "torch": "2.13.0+cpu",
    "threads": "1",
    "accelerator": "none",
}
ID = "quadratic/sgd/cpu"


def loss_of(mean: float | None = 4.0, **fields: Any) -> Loss:
    known: dict[str, Any] = {"start": None, "ok": 10, "diverged": 0, "failed": 0}
    return Loss(mean=mean, **{**known, "bits": repr(mean), **fields})


def cell_of(*times: float, **fields: Any) -> Cell:
    known: dict[str, Any] = {
        "loss": loss_of(),
        "clock": "cpu",
        "counted_steps": 20,
        "operators": 100,
        "calls": 200,
        "state_bytes": 300,
    }
    return Cell(times=times, **{**known, **fields})


def side_of(
    cell: Cell,
    machine: dict[str, str] | None = None,
    others: Sequence[Cell] = (),
    **fields: Any,
) -> Baseline:
    """A side whose cells are one that is judged and some others."""
    cells = {ID: cell, **{f"quadratic/other{i}/cpu": other for i, other in enumerate(others)}}
    known = {"harness_baseline": 1, "suite": "s", "seeds": "0-9", "protocol": "p"}
    return Baseline(
        **{**known, "machine": {**MACHINE, **(machine or {})}, "cells": cells, **fields}
    )


def limits_of(
    threshold: float = 0.25, tolerance: float | None = None, dtype: str = "float64"
) -> Limits:
    return Limits(threshold, tolerance, dtype)


def time_of(
    before: Sequence[float], now: Sequence[float], threshold: float = 0.25, **fields: bool
) -> Judgement:
    compared = MeasurementComparison(side_of(cell_of(*before)), side_of(cell_of(*now)), **fields)
    return compared.time(ID, limits_of(threshold))


def judged_loss(
    before: Loss,
    now: Loss,
    tolerance: float | None = None,
    dtype: str = "float64",
    machine: dict[str, str] | None = None,
) -> Judgement:
    compared = MeasurementComparison(
        side_of(cell_of(loss=before)), side_of(cell_of(loss=now), machine)
    )
    return compared.loss(ID, limits_of(tolerance=tolerance, dtype=dtype))


def just_above(value: float) -> float:
    return math.nextafter(value, math.inf)


def just_below(value: float) -> float:
    return math.nextafter(value, -math.inf)


# Time


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (2.5, "fine"),  # by a quarter, exactly
        (just_above(2.5), "regressed"),
        (2.0, "fine"),
        (1.5, "fine"),
        (just_below(1.5), "better"),
        (100.0, "regressed"),
        (0.01, "better"),
    ],
)
def test_a_change_by_the_threshold_itself_passes_either_way(
    now: float, outcome: str, paired: bool
) -> None:
    found = time_of([2.0], [now], paired=paired)
    assert found.outcome == outcome
    assert (found.before, found.now, found.limit) == (2.0, now, 0.25)
    assert found.change == now / 2.0 - 1
    assert found.why == ("" if outcome == "fine" else "one process")


def test_the_median_of_three_decides_and_not_their_mean() -> None:
    assert time_of([1.0], [1.1, 9.0, 1.2]).outcome == "fine"
    found = time_of([1.0], [0.1, 1.3, 1.3])
    assert (found.outcome, found.now, found.why) == ("regressed", 1.3, "median of 3 processes")
    assert time_of([0.1, 1.3, 1.3], [1.0]).before == 1.3
    assert time_of([1.0, 1.0, 0.1], [1.3, 0.1, 1.3]).outcome == "regressed"


def test_side_by_side_the_median_is_of_ratios_and_otherwise_the_ratio_is_of_medians() -> None:
    # The machine got slower from process to process, and both sides with it.
    before, now = [1.0, 2.0, 4.0], [1.5, 2.0, 4.0]
    paired, unpaired = time_of(before, now, paired=True), time_of(before, now)
    assert (paired.change, unpaired.change) == (0.0, 0.0)
    before, now = [1.0, 2.0, 4.0], [1.5, 3.0, 1.0]  # ratios 1.5, 1.5, 0.25; medians 2 and 1.5
    paired, unpaired = time_of(before, now, paired=True), time_of(before, now)
    assert (paired.change, paired.outcome) == (0.5, "regressed")
    assert (unpaired.change, unpaired.outcome) == (-0.25, "fine")
    assert (paired.before, paired.now) == (unpaired.before, unpaired.now) == (2.0, 1.5)


def test_side_by_side_a_process_that_only_one_side_has_is_no_pair() -> None:
    for before, now in (([1.0, 1.0, 1.0], [1.0]), ([1.0], [1.0, 1.0, 1.0])):
        found = time_of(before, now, paired=True)
        assert (found.outcome, found.why) == ("failed", "could not be measured in every process")
        compared = MeasurementComparison(
            side_of(cell_of(*before)), side_of(cell_of(*now)), paired=True
        )
        assert compared.suspects({ID: limits_of(1e-9)}) == set()


def by_hand(
    before: Sequence[float], now: Sequence[float], others: Sequence[Sequence[float]]
) -> tuple[float, int]:
    """How many times the ratio its interval reaches up, and the degrees of freedom."""
    known = judge.PROCESS_DF
    squares, degrees = known * judge.PROCESS_SD**2, known
    for times in (before, now, *others):
        logs = np.log(times)
        squares += float(((logs - logs.mean()) ** 2).sum())
        degrees += len(times) - 1
    sd = math.sqrt(squares / degrees)
    errors = [sd * (1.25 if len(t) > 2 else 1.0) / math.sqrt(len(t)) for t in (before, now)]
    quantile = scipy.stats.t.ppf(0.975, degrees)
    return math.exp(quantile * math.sqrt(errors[0] ** 2 + errors[1] ** 2)), degrees


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([1.0], [1.02]),
        ([1.0, 1.01], [1.03, 1.0]),
        ([1.0, 1.01, 0.99], [1.2, 1.22, 1.19]),
        ([1.0, 1.01, 0.99, 1.02, 1.0], [1.2]),
        ([1.0, 1.01, 0.99, 1.02, 1.0], [1.2, 1.22, 1.17]),
    ],
)
@pytest.mark.parametrize("others", [[], [[3.0, 3.1, 2.9], [0.5], [7.0, 7.2]]])
def test_the_interval_is_students_t_on_the_logarithm_with_what_all_cells_spread(
    before: list[float], now: list[float], others: list[list[float]], paired: bool
) -> None:
    if paired:  # processes run two by two
        before, now = before[: len(now)], now[: len(before)]
    # The other cells stand half on one side, half on the other.
    there, here = (
        side_of(cell_of(*times), others=[cell_of(*other) for other in others[i::2]])
        for i, times in enumerate((before, now))
    )
    compared = MeasurementComparison(there, here, paired=paired)
    found = compared.time(ID, limits_of())
    reach, degrees = by_hand(before, now, others)
    ratio = (
        float(np.median(np.divide(now, before)))
        if paired
        else float(np.median(now) / np.median(before))
    )
    assert compared.spread[1] == degrees
    assert found.change == pytest.approx(ratio - 1)
    assert found.low == pytest.approx(ratio / reach)
    assert found.high == pytest.approx(ratio * reach)


def test_with_one_process_each_the_spread_is_what_was_measured_once() -> None:
    compared = MeasurementComparison(side_of(cell_of(1.0)), side_of(cell_of(1.0)))
    assert compared.spread[0] == pytest.approx(judge.PROCESS_SD)
    assert compared.spread[1] == judge.PROCESS_DF


@pytest.mark.parametrize("processes", [1, 3])
def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says(processes: int) -> None:
    random = np.random.default_rng(processes)
    trials = 1000
    held = 0
    for _ in range(trials):
        logs = random.normal(0.0, judge.PROCESS_SD, (2, processes))
        before, now = np.exp(logs[0]).tolist(), (1.1 * np.exp(logs[1])).tolist()
        found = time_of(before, now)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.1 <= found.high
    assert 0.935 <= held / trials <= 0.99


def test_another_machine_or_protocol_is_named_and_losses_are_judged_all_the_same() -> None:
    there = side_of(cell_of(1.0), {"cpu": "B", "system": ""}, protocol="q")
    here = side_of(cell_of(9.0, loss=loss_of(5.0)), {"threads": "2"})
    compared = MeasurementComparison(there, here)
    found = compared.time(ID, limits_of())
    assert found.outcome == "not comparable"
    assert found.why == (
        "cpu: B then, A now; system: unknown then, Linux x86_64 now; threads: 1 then, 2 now; "
        "protocol: q then, p now"
    )
    assert (found.before, found.now) == (1.0, 9.0)
    assert (found.change, found.low, found.high) == (None, None, None)
    assert compared.loss(ID, limits_of()).outcome == "regressed"
    assert compared.count("calls", ID).outcome == "fine"
    assert compared.suspects({ID: limits_of()}) == set()


def test_what_only_one_side_names_of_a_machine_is_unknown_on_the_other() -> None:
    there, here = side_of(cell_of(1.0)), side_of(cell_of(1.0))
    older = there.model_copy(update={"machine": {"cpu": "A"}})
    reasons = MeasurementComparison(older, here).time_differs
    assert "cores: unknown then, 2 now" in reasons
    assert len(reasons) == len(MACHINE) - 1
    assert "torch: 2.13.0+cpu then, unknown now" in MeasurementComparison(here, older).time_differs


def test_a_time_that_is_missing_on_one_side_says_on_which() -> None:
    now, before = time_of([1.0], []), time_of([], [1.0])
    assert (now.outcome, now.why) == ("failed", "could not be measured")
    assert (before.outcome, before.why) == ("missing", "the other side has no time")
    assert time_of([], []).outcome == "failed"
    assert (now.before, now.now, before.before, before.now) == (1.0, None, None, 1.0)


def test_two_clocks_are_not_compared() -> None:
    compared = MeasurementComparison(side_of(cell_of(1.0, clock="wall")), side_of(cell_of(9.0)))
    found = compared.time(ID, limits_of())
    assert found.outcome == "not comparable"
    assert found.why == "measured by the wall clock then, by the cpu clock now"


ratios = st.floats(1e-3, 1e3)
processes = st.lists(ratios, min_size=1, max_size=5)
maybe_none = st.lists(ratios, max_size=5)
thresholds = st.floats(1e-3, 10)


@given(maybe_none, maybe_none, thresholds, st.booleans())
def test_on_a_machine_that_strayed_a_time_is_never_judged(
    before: list[float], now: list[float], threshold: float, paired: bool
) -> None:
    found = time_of(before, now, threshold, unstable_reference=True, paired=paired)
    usual = time_of(before, now, threshold, paired=paired)
    assert found.outcome in {"inconclusive", "failed", "missing"}
    if found.outcome == "inconclusive":
        assert "unstable" in found.why
        assert (found.change, found.low, found.high) == (usual.change, usual.low, usual.high)
    else:
        assert found == usual


@given(processes, processes, thresholds)
def test_of_a_starved_process_no_change_is_believed_and_no_change_is(
    before: list[float], now: list[float], threshold: float
) -> None:
    usual = time_of(before, now, threshold)
    found = time_of(before, now, threshold, cpu_starved=True)
    assert found.outcome == ("fine" if usual.outcome == "fine" else "inconclusive")
    assert found.change == usual.change


def test_straying_bears_on_times_alone() -> None:
    sides = side_of(cell_of(1.0)), side_of(cell_of(9.0, loss=loss_of(5.0), operators=101))
    found = {
        j.metric: j.outcome
        for j in MeasurementComparison(*sides, unstable_reference=True).cell(ID, limits_of())
    }
    assert found == {
        "time": "inconclusive",
        "loss": "regressed",
        "operators": "regressed",
        "calls": "fine",
        "state": "fine",
    }


@given(processes, processes, thresholds)
def test_what_regressed_is_fine_or_better_the_other_way_round(
    before: list[float], now: list[float], threshold: float
) -> None:
    there, back = time_of(before, now, threshold), time_of(now, before, threshold)
    if there.outcome == "regressed":
        assert back.outcome in {"fine", "better"}
    if there.outcome == "better":
        assert back.outcome == "regressed"  # a fall by a share is a rise by more than that


@given(st.lists(st.tuples(ratios, ratios), min_size=1, max_size=3), thresholds)
def test_so_it_is_side_by_side_with_an_odd_number_of_processes(
    pairs: list[tuple[float, float]], threshold: float
) -> None:
    assume(len(pairs) % 2)
    before, now = ([pair[i] for pair in pairs] for i in (0, 1))
    there = time_of(before, now, threshold, paired=True)
    back = time_of(now, before, threshold, paired=True)
    if there.outcome == "regressed":
        assert back.outcome in {"fine", "better"}
    if there.outcome == "better":
        assert back.outcome == "regressed"


@given(processes, processes, thresholds, st.integers(-20, 20), st.booleans())
def test_a_machine_as_many_times_slower_on_both_sides_changes_no_verdict(
    before: list[float], now: list[float], threshold: float, power: int, paired: bool
) -> None:
    if paired:
        before, now = before[: len(now)], now[: len(before)]
    # By powers of two, which change no digit.
    slower = [time * 2.0**power for time in before]
    slower_now = [time * 2.0**power for time in now]
    usual = time_of(before, now, threshold, paired=paired)
    found = time_of(slower, slower_now, threshold, paired=paired)
    assert (found.outcome, found.change, found.why) == (usual.outcome, usual.change, usual.why)
    assert found.low == pytest.approx(usual.low, rel=1e-9)
    assert found.high == pytest.approx(usual.high, rel=1e-9)


@given(processes, processes)
def test_the_ratio_lies_in_its_interval(before: list[float], now: list[float]) -> None:
    found = time_of(before, now)
    assert found.change is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1 + found.change < found.high


# What is measured again


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    ("now", "is_suspect"),
    [
        (1.125, False),  # half of a quarter, exactly
        (just_above(1.125), True),
        (0.875, False),
        (just_below(0.875), True),
        (1.0, False),
        (2.0, True),
    ],
)
def test_a_change_by_more_than_half_the_threshold_is_suspect_either_way(
    now: float, is_suspect: bool, paired: bool
) -> None:
    compared = MeasurementComparison(side_of(cell_of(1.0)), side_of(cell_of(now)), paired=paired)
    assert compared.suspects({ID: limits_of(0.25)}) == ({ID} if is_suspect else set())


def test_each_suspect_has_its_own_threshold_and_what_is_on_one_side_only_is_none() -> None:
    slow, strange = cell_of(1.2), cell_of()
    there = side_of(cell_of(1.0), others=[cell_of(1.0), cell_of(1.0), strange])
    here = side_of(slow, others=[slow, strange])
    names = ["quadratic/other0/cpu", "quadratic/other1/cpu", "quadratic/other2/cpu"]
    limits = dict.fromkeys([ID, *names, "gone"], limits_of(0.1))
    compared = MeasurementComparison(there, here)
    assert compared.suspects(limits) == {ID, names[0]}
    assert compared.suspects({**limits, ID: limits_of(0.5)}) == {names[0]}
    assert compared.suspects({}) == set()


@given(processes, processes, thresholds)
def test_whatever_regressed_or_got_better_was_suspect(
    before: list[float], now: list[float], threshold: float
) -> None:
    compared = MeasurementComparison(side_of(cell_of(*before)), side_of(cell_of(*now)))
    limits = limits_of(threshold)
    if compared.time(ID, limits).outcome != "fine":
        assert compared.suspects({ID: limits}) == {ID}


# Loss


def test_a_loss_that_is_equal_to_the_bit_is_fine_whatever_may_be() -> None:
    found = judged_loss(loss_of(4.0, bits="x"), loss_of(4.0, bits="x"), tolerance=0.0)
    assert (found.outcome, found.why, found.change) == ("fine", "bit-identical", 0.0)


@pytest.mark.parametrize(
    ("now", "outcome", "why"),
    [
        (5.0, "fine", ""),
        (just_above(5.0), "regressed", "the mean over seeds rose"),
        (3.0, "fine", ""),
        (just_below(3.0), "better", "the mean over seeds fell"),
        (4.0, "fine", ""),
    ],
)
def test_a_loss_may_rise_by_the_specs_own_tolerance_and_no_more(
    now: float, outcome: str, why: str
) -> None:
    found = judged_loss(loss_of(4.0, bits="x"), loss_of(now), tolerance=0.25)
    assert (found.outcome, found.why, found.limit) == (outcome, why, 0.25)
    assert (found.before, found.now) == (4.0, now)
    assert found.change == pytest.approx(now / 4.0 - 1, abs=1e-15)
    # Whichever machine it is: the user said so.
    there = judged_loss(loss_of(4.0, bits="x"), loss_of(now), 0.25, machine={"cpu": "B"})
    assert there == found


@pytest.mark.parametrize(
    ("dtype", "other", "tolerance"),
    [
        ("float32", False, 1e-6),
        ("float64", False, 1e-12),
        ("float32", True, 1e-4),
        ("float64", True, 1e-9),
    ],
)
def test_without_a_tolerance_rounding_decides(dtype: str, other: bool, tolerance: float) -> None:
    machine = {"cpu": "B"} if other else None

    def judged(now: float) -> Judgement:
        return judged_loss(loss_of(4.0), loss_of(now), dtype=dtype, machine=machine)

    assert judged(4.0 * (1 + 0.9 * tolerance)).outcome == "fine"
    assert judged(4.0 * (1 + 1.1 * tolerance)).outcome == "regressed"
    assert judged(4.0 * (1 - 0.9 * tolerance)).outcome == "fine"
    assert judged(4.0 * (1 - 1.1 * tolerance)).outcome == "better"
    assert judged(4.0).limit == tolerance


@pytest.mark.parametrize("name", sorted(MACHINE))
def test_what_rounds_otherwise_is_another_machine_torch_or_number_of_threads(name: str) -> None:
    found = judged_loss(loss_of(4.0), loss_of(4.1), machine={name: "another"})
    rounds_alike = name in ("python", "cores")
    assert found.limit == (1e-12 if rounds_alike else 1e-9)


@pytest.mark.parametrize(("dtype", "epsilon"), [("float32", 2.0**-23), ("float64", 2.0**-52)])
def test_a_loss_below_the_rounding_of_the_start_is_no_loss_to_speak_of(
    dtype: str, epsilon: float
) -> None:
    assert epsilon == (np.finfo(np.float32) if dtype == "float32" else np.finfo(np.float64)).eps
    floor = 8 * epsilon
    zero = loss_of(0.0, start=8.0)

    def judged(before: Loss, now: float) -> tuple[str, float | None]:
        found = judged_loss(before, loss_of(now, start=8.0), tolerance=0.0, dtype=dtype)
        return found.outcome, found.change

    assert judged(zero, floor) == ("fine", None)
    assert judged(zero, just_above(floor)) == ("regressed", None)
    assert judged(zero, -floor) == ("fine", None)
    assert judged(zero, just_below(-floor)) == ("better", None)
    tiny = loss_of(floor / 2, start=-8.0)
    assert judged(tiny, floor) == ("fine", 1.0)
    assert judged(loss_of(0.0), just_above(0.0))[0] == "regressed"  # no start, no floor


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        (-64.1891, -40.5183, 0.36877),
        (-40.5183, -64.1891, -0.58420),
        (-1.0, 2.0, 3.0),
        (2.0, -1.0, -1.5),
        (1e308, -1e308, -2.0),
    ],
)
def test_a_loss_that_rises_has_a_positive_change_whatever_its_sign(
    before: float, now: float, change: float
) -> None:
    found = judged_loss(loss_of(before, bits="x"), loss_of(now), tolerance=0.01)
    assert found.change == pytest.approx(change, abs=1e-5)
    assert found.outcome == ("regressed" if change > 0 else "better")


def test_a_loss_below_zero_may_rise_by_a_share_of_its_size() -> None:
    before = loss_of(-4.0, bits="x")
    outcomes = [
        judged_loss(before, loss_of(now), tolerance=0.25).outcome
        for now in (-3.0, just_above(-3.0), -5.0, just_below(-5.0))
    ]
    assert outcomes == ["fine", "regressed", "fine", "better"]


@pytest.mark.parametrize(
    ("before", "now", "why"),
    [
        (loss_of(), loss_of(ok=9, diverged=1), "1 trial diverged"),
        (loss_of(), loss_of(None, ok=0, diverged=1000), "1,000 trials diverged"),
        (
            loss_of(ok=8, diverged=2),
            loss_of(ok=9, diverged=1),
            "1 trial diverged; 2 did before",
        ),
        # Equal to the bit in the others, and the same number: still no way to end.
        (loss_of(ok=9, diverged=1), loss_of(ok=9, diverged=1), "1 trial diverged; 1 did before"),
    ],
)
def test_what_diverges_has_regressed_also_if_it_did_before(
    before: Loss, now: Loss, why: str
) -> None:
    found = judged_loss(before, now, tolerance=10.0)
    assert (found.outcome, found.why, found.change) == ("regressed", why, None)


def test_a_trial_that_failed_comes_before_everything_else() -> None:
    found = judged_loss(loss_of(failed=3), loss_of(ok=7, diverged=1, failed=2))
    assert (found.outcome, found.why) == ("failed", "2 trials ended in an error")


def test_other_seeds_are_another_sample() -> None:
    there, here = side_of(cell_of(), seeds="0-9"), side_of(cell_of(), seeds="0-99")
    found = MeasurementComparison(there, here).loss(ID, limits_of())
    assert (found.outcome, found.why) == ("not comparable", "seeds 0-9 then, 0-99 now")
    bad = side_of(cell_of(loss=loss_of(None, ok=0, diverged=10)), seeds="0-99")
    assert MeasurementComparison(there, bad).loss(ID, limits_of()).outcome == "regressed"


@pytest.mark.parametrize(("ok", "mean"), [(0, None), (9, 0.001)])
def test_where_more_trials_end_ok_than_before_it_is_better_whatever_their_mean(
    ok: int, mean: float | None
) -> None:
    found = judged_loss(loss_of(mean, ok=ok, diverged=10 - ok), loss_of(4.0))
    assert (found.outcome, found.before, found.now) == ("better", mean, 4.0)
    assert found.why == f"10 trials ok, {ok} before"


finite = st.floats(-1e300, 1e300)


@given(finite, finite, st.floats(0, 10), st.one_of(st.none(), finite))
def test_a_loss_never_regresses_both_ways(
    before: float, now: float, tolerance: float, start: float | None
) -> None:
    old, new = loss_of(before, start=start), loss_of(now, start=start)
    there = judged_loss(old, new, tolerance=tolerance)
    back = judged_loss(new, old, tolerance=tolerance)
    if there.outcome == "regressed":
        assert now > before
        assert back.outcome in {"fine", "better"}
    assert there.limit == tolerance


@given(st.floats(1e-30, 1e30), st.floats(1e-30, 1e30), st.integers(-60, 60))
def test_the_unit_of_a_loss_changes_no_verdict(before: float, now: float, power: int) -> None:
    unit = 2.0**power
    usual = judged_loss(loss_of(before, start=1.0), loss_of(now))
    found = judged_loss(loss_of(before * unit, start=unit), loss_of(now * unit))
    assert (found.outcome, found.change) == (usual.outcome, usual.change)


# Counts

COUNTS: tuple[tuple[Metric, str], ...] = (
    ("operators", "operators"),
    ("calls", "calls"),
    ("state", "state_bytes"),
)


def counted(metric: Metric, before: Cell, now: Cell, **there: str) -> Judgement:
    return MeasurementComparison(side_of(before, there), side_of(now)).count(metric, ID)


@pytest.mark.parametrize(("metric", "name"), COUNTS)
def test_a_count_is_exact(metric: Metric, name: str) -> None:
    before = cell_of(**{name: 1_000_000})
    for now, outcome in ((1_000_000, "fine"), (1_000_001, "regressed"), (999_999, "better")):
        found = counted(metric, before, cell_of(**{name: now}))
        assert (found.metric, found.outcome, found.why) == (metric, outcome, "")
        assert (found.before, found.now, found.limit) == (1_000_000, now, 0.0)
        assert found.change == pytest.approx(now / 1_000_000 - 1)
    assert counted(metric, cell_of(), cell_of(**{name: 100_000})).metric == metric


def test_a_count_that_was_nothing_has_no_share_to_rise_by() -> None:
    found = counted("state", cell_of(state_bytes=0), cell_of(state_bytes=8))
    assert (found.outcome, found.change) == ("regressed", None)
    assert counted("state", cell_of(state_bytes=0), cell_of(state_bytes=0)).outcome == "fine"


@pytest.mark.parametrize(("metric", "name"), COUNTS)
def test_a_count_that_is_missing_says_on_which_side(metric: Metric, name: str) -> None:
    known, unknown = cell_of(), cell_of(**{name: None})
    now, before = counted(metric, known, unknown), counted(metric, unknown, known)
    assert (now.outcome, now.why) == ("failed", "could not be counted")
    assert (before.outcome, before.why) == ("missing", "the other side has no count")


@pytest.mark.parametrize(("metric", "name"), COUNTS)
def test_counts_over_other_steps_are_not_compared(metric: Metric, name: str) -> None:
    found = counted(metric, cell_of(**{name: 1}), cell_of(counted_steps=5))
    assert (found.outcome, found.why) == ("not comparable", "counted over 20 steps then, 5 now")


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({"python": "CPython 3.11.99"}, ""),
        ({"python": "CPython 3.12.7"}, "python: CPython 3.12 then, CPython 3.11 now"),
        ({"python": "CPython 3.1.7"}, "python: CPython 3.1 then, CPython 3.11 now"),
        ({"python": "PyPy 3.11.7"}, "python: PyPy 3.11 then, CPython 3.11 now"),
        ({"python": ""}, "python: unknown then, CPython 3.11 now"),
        ({"torch": "2.13.0+cu126"}, "torch: 2.13.0+cu126 then, 2.13.0+cpu now"),
        ({"accelerator": "NVIDIA H200"}, "accelerator: NVIDIA H200 then, none now"),
        ({"torch": "2.13.1+cpu"}, "torch: 2.13.1+cpu then, 2.13.0+cpu now"),
        ({"torch": "2.6.0"}, "torch: 2.6.0 then, 2.13.0+cpu now"),
        ({"torch": ""}, "torch: unknown then, 2.13.0+cpu now"),
        ({"cpu": "B", "cores": "64", "system": "Darwin arm64", "threads": "8"}, ""),
        (
            {"python": "CPython 3.12.7", "torch": "2.6.0"},
            "python: CPython 3.12 then, CPython 3.11 now; torch: 2.6.0 then, 2.13.0+cpu now",
        ),
    ],
)
@pytest.mark.parametrize(("metric", "name"), COUNTS)
def test_counts_hold_for_a_python_and_a_torch_and_for_any_machine(
    metric: Metric, name: str, there: dict[str, str], why: str
) -> None:
    found = counted(metric, cell_of(**{name: 1}), cell_of(), **there)
    assert (found.outcome, found.why) == ("not comparable" if why else "regressed", why)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_counts_are_ordered_as_numbers_are(before: int, now: int) -> None:
    found = counted("calls", cell_of(calls=before), cell_of(calls=now))
    expected = "regressed" if now > before else "better" if now < before else "fine"
    assert found.outcome == expected
    back = counted("calls", cell_of(calls=now), cell_of(calls=before))
    assert {found.outcome, back.outcome} in ({"fine"}, {"regressed", "better"})


# A whole check


def test_a_cell_has_a_judgement_per_metric_in_order() -> None:
    side = side_of(cell_of(1.0))
    found = MeasurementComparison(side, side).cell(ID, limits_of())
    assert tuple(judged.metric for judged in found) == METRICS
    assert {judged.outcome for judged in found} == {"fine"}


def test_what_only_warns_is_as_it_was_and_never_fails() -> None:
    compared = MeasurementComparison(side_of(cell_of(1.0)), side_of(cell_of(9.0, calls=201)))
    judged = compared.cell(ID, limits_of())
    found = judge.warn_only(judged, {"time", "state"})
    assert [j.only_warns for j in found] == [True, False, False, False, True]
    assert [j.outcome for j in found] == [j.outcome for j in judged]
    assert [j.exit_status for j in judged] == [1, 0, 0, 1, 0]
    assert [j.exit_status for j in found] == [0, 0, 0, 1, 0]
    assert judge.warn_only(judged, ()) == judged


def report_of(cells: Sequence[Sequence[Judgement]]) -> GateReport:
    verdicts = [
        CellVerdict(ID, "quadratic", "sgd", "", "cpu", "spec.yaml", tuple(found)) for found in cells
    ]
    return GateReport(
        suite="s",
        spec_file="spec.yaml",
        against="baseline.json",
        taken="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        git="",
        machine=MACHINE,
        machine_key="k",
        differs=(),
        controls=(1.0,),
        cells=tuple(verdicts),
    )


EXITS = {
    "fine": 0,
    "better": 0,
    "regressed": 1,
    "missing": 4,
    "failed": 4,
    "inconclusive": 3,
    "not comparable": 3,
}
judgements = st.builds(
    Judgement,
    metric=st.sampled_from(METRICS),
    outcome=st.sampled_from(OUTCOMES),
    only_warns=st.booleans(),
)


@given(st.lists(st.lists(judgements, max_size=5), max_size=4))
def test_a_check_ends_with_the_gravest_of_what_it_found(cells: list[list[Judgement]]) -> None:
    report = report_of(cells)
    counting = {j.outcome for found in cells for j in found if not j.only_warns}
    statuses = {EXITS[outcome] for outcome in counting}
    expected = next((status for status in (1, 4, 3) if status in statuses), 0)
    assert report.exit_status == expected
    assert all(cell.exit_status in {0, *statuses} for cell in report.cells)
    silent = report_of([judge.warn_only(found, METRICS) for found in cells])
    assert silent.exit_status == 0
    assert [j.outcome for _, j in silent] == [j.outcome for _, j in report]


def test_every_outcome_has_an_exit_status() -> None:
    assert set(EXITS) == set(OUTCOMES)
    assert {o: Judgement("loss", o).exit_status for o in OUTCOMES} == EXITS
