"""Tables and sentences against numbers worked out here from the same trials."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from results_builders import (
    make_blocks,
    make_case,
    make_objective,
    make_results,
    make_run,
    make_trials,
)

from harness import formatting
from harness.analysis.comparison import mean_losses
from harness.analysis.summary import analyse
from harness.plan.model import Role
from harness.reporting.tables import sentences
from harness.reporting.tables import trials as trial_tables
from harness.reporting.tables.model import Table
from harness.store.read import Results, Tried
from harness.store.records import RunSettings


def results_of_finals(
    finals: Mapping[str, Sequence[float | str]],
    *,
    optimum: float | None = None,
    seconds: Mapping[str, Sequence[float]] | None = None,
    cpu: Mapping[str, Sequence[float]] | None = None,
    step_counts: Sequence[tuple[float, ...]] = (),
    device: str = "cpu",
    threads: str = "1",
    ends: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Results:
    """Results by hand: by optimizer, a final loss per seed, or the status it ended with."""
    cases, blocks = [], []
    for position, (name, values) in enumerate(finals.items()):
        points = dict(enumerate((ends or {}).get(name, ())))
        case = make_case(
            optimizer=name,
            curves={s: [1.0, v] for s, v in enumerate(values) if not isinstance(v, str)},
            position=position,
            device=device,
            trajectories={s: np.array([(1.0, 1.0), p]) for s, p in points.items()},
        )
        cases.append(case)
        walls = (seconds or {}).get(name, ())
        blocks += make_blocks(position, walls, steps_per_epoch=2, cpu_seconds=(cpu or {}).get(name))
    trials = make_trials(cases, [dict(enumerate(values)) for values in finals.values()])
    failed = trials["status"] != "ok"
    trials.loc[failed, "step"] = 3 + trials["seed"]
    trials.loc[failed, "reason"] = "boom"
    info = make_objective(
        dimension=2 if ends else 5,
        steps_per_epoch=2,
        optimum=optimum,
        minimizers=((0.0, 0.0),) if ends else (),
    )
    counted = ["position", "operators", "calls", "counted_steps", "state_bytes", "peak_bytes"]
    return make_results(
        cases,
        trials,
        objectives={"bowl": info},
        blocks=blocks,
        step_counts=pd.DataFrame(step_counts, columns=counted, dtype=float),
        run=make_run(environment={"threads": threads}),
    )


def row(table: Table | None, optimizer: str) -> dict[str, Any]:
    assert table is not None
    found = table.frame[table.frame["optimizer"] == optimizer].to_dict("records")
    assert len(found) == 1
    return {str(key): value for key, value in found[0].items()}


def final_loss_of(results: Results) -> Table:
    table = trial_tables.final_loss(results, mean_losses(results))
    assert table is not None
    return table


def test_final_loss_counts_what_failed_and_takes_no_number_from_it() -> None:
    values: list[float | str] = [0.5, 0.7, "diverged", 0.6, "error", 0.9, "timeout"]
    table = final_loss_of(results_of_finals({"a": values}, optimum=0.1))
    found = row(table, "a")
    ok = np.array([0.5, 0.7, 0.6, 0.9])
    expected = {
        "mean": ok.mean(),
        "sd": ok.std(ddof=1),
        "median": np.median(ok),
        "best": 0.5,
        "worst": 0.9,
        "gap_to_optimum": np.median(ok) - 0.1,
    }
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-12), key
    assert found["n"] == 4
    assert found["statuses"] == "ok:4 diverged:1 timeout:1 error:1"


def test_a_case_of_which_no_trial_ended_well_has_no_number_at_all() -> None:
    table = final_loss_of(results_of_finals({"a": ["diverged", "error"]}))
    found = row(table, "a")
    numbers = ("mean", "sd", "ci_low", "ci_high", "median", "best", "worst", "gap_to_optimum")
    assert all(math.isnan(found[key]) for key in numbers)
    assert found["n"] == 0
    assert set(table.shown.loc[0, ["loss", "95% interval", "best", "worst"]]) == {formatting.DASH}


def test_seeds_that_end_alike_have_no_interval() -> None:
    table = final_loss_of(results_of_finals({"a": [0.25] * 5}))
    assert row(table, "a")["sd"] == 0
    assert table.shown.loc[0, "95% interval"] == formatting.DASH
    table = final_loss_of(results_of_finals({"a": [0.25] * 7}, optimum=0.0))
    for name in ("95% interval", "95% interval of gap"):
        assert table.shown.loc[0, name] == formatting.DASH


def test_where_the_optimum_is_known_the_median_gap_stands_for_the_losses() -> None:
    """A mean's interval would reach below the optimum, where no loss can be."""
    values = 0.5 + np.random.default_rng(4).lognormal(-8, 3, size=20)
    unknown = row(final_loss_of(results_of_finals({"a": values.tolist()})), "a")
    assert unknown["ci_low"] < unknown["mean"] < unknown["ci_high"]
    assert math.isnan(unknown["gap_to_optimum"])
    table = final_loss_of(results_of_finals({"a": values.tolist()}, optimum=0.5))
    found = row(table, "a")
    assert math.isnan(found["ci_low"])
    gaps = np.sort(values) - 0.5
    # Of twenty values, the sixth and the fifteenth cover a median in 95.9%.
    expected = (np.median(gaps), gaps[5], gaps[14])
    assert (found["gap_to_optimum"], found["gap_ci_low"], found["gap_ci_high"]) == pytest.approx(
        expected
    )
    # The loss that is shown is the median with its own interval, not the mean.
    shown = [float(str(table.shown.loc[0, "loss"]))]
    shown += map(float, str(table.shown.loc[0, "95% interval"]).split(" to "))
    assert shown == pytest.approx([value + 0.5 for value in expected], rel=1e-2)
    assert shown[0] < found["mean"] - 0.01
    text = sentence(
        results_of_finals({"a": values.tolist(), "b": (values + 9).tolist()}, optimum=0.5)
    )
    low, median, high = (
        formatting.significant(float(v), 3) for v in (gaps[5], np.median(gaps), gaps[14])
    )
    assert (
        f"a has the lowest median gap to the optimum, {median} (95% CI {low} to {high}, 20 seeds)"
    ) in text


def test_end_points_are_of_the_trials_that_ended_well() -> None:
    results = results_of_finals(
        {"a": [0.1, "diverged", 0.3]}, ends={"a": [(3.0, 4.0), (1e9, 1e9), (5.0, 6.0)]}
    )
    found = row(trial_tables.end_points(results), "a")
    assert (found["x1"], found["x2"], found["n"]) == (4.0, 5.0, 2)
    assert found["x1_sd"] == pytest.approx(math.sqrt(2))
    assert found["distance_to_minimum"] == pytest.approx(math.hypot(4, 5))


def test_seconds_per_epoch_are_scaled_from_blocks_and_compared_round_by_round() -> None:
    first = [1.0, 2.0, 4.0, 1.0, 2.0, 4.0, 3.0]
    second = [value * ratio for value, ratio in zip(first, [2, 2, 2, 3, 2, 2, 1], strict=True)]
    results = results_of_finals({"a": [0.1], "b": [0.1]}, seconds={"a": first, "b": second})
    table = trial_tables.epoch_seconds(results)
    assert row(table, "a")["median_seconds"] == pytest.approx(2.0 / 5)
    assert row(table, "a")["ratio"] == 1
    assert row(table, "a")["n"] == 7
    # Medians alone would say 4.0 / 2.0 as well, but the interval is of paired ratios.
    found = row(table, "b")
    ends = [found["ratio"], found["ratio_ci_low"], found["ratio_ci_high"]]
    assert ends == pytest.approx([2.0, 1.0, 3.0])
    assert found["seconds_per_step"] == pytest.approx(np.median(second) / 10)


def test_beside_the_seconds_stand_processor_time_and_what_a_step_takes() -> None:
    results = results_of_finals(
        {"a": [0.1], "b": [0.1]},
        seconds={"a": [1.0, 2.0, 4.0], "b": [1.0, 1.0, 1.0]},
        cpu={"a": [0.5, 2.0, 3.0], "b": [1.0, 1.0, 1.0]},
        step_counts=[(0, 380, 1615, 20, 16, math.nan)],
    )
    table = trial_tables.epoch_seconds(results)
    found = row(table, "a")
    assert found["median_cpu_seconds"] == pytest.approx(2.0 / 5)
    assert found["cpu_share"] == pytest.approx(5.5 / 7)
    assert (found["operators_per_step"], found["calls_per_step"]) == (19, 80.75)
    assert found["state_bytes"] == 16
    assert table is not None
    back = table.to_csv().splitlines()
    cells = dict(zip(back[0].split(","), back[1].split(","), strict=True))
    assert (cells["state_bytes"], cells["peak_bytes"]) == ("16", "")
    shown = table.shown[["operators/step", "state (bytes)"]].to_numpy().tolist()
    assert shown == [["19", "16"], [formatting.DASH, formatting.DASH]]  # b's are not known
    assert "with 1 thread" in table.note


def test_peak_memory_is_a_column_where_some_case_has_it() -> None:
    times = {"a": [1.0] * 3, "b": [1.0] * 3}
    counts = [(0, 1, 1, 1, 0, 3 * 2**20), (1, 1, 1, 1, 0, math.nan)]
    table = trial_tables.epoch_seconds(
        results_of_finals(
            {"a": [0.1], "b": [0.1]}, seconds=times, step_counts=counts, device="cuda"
        )
    )
    assert table is not None
    assert table.shown["peak memory (MiB)"].tolist() == ["3.00", formatting.DASH]
    assert row(table, "a")["peak_bytes"] == 3 * 2**20
    without = trial_tables.epoch_seconds(results_of_finals({"a": [0.1]}, seconds=times))
    assert without is not None
    assert "peak memory (MiB)" not in without.shown
    assert "Peak" in table.note
    assert "Peak" not in without.note


STEADY = [1.0, 1.0, 1.0, 1.0, 1.0]
UNEVEN = [0.7, 0.9, 1.0, 1.2, 1.4]
"""Quartiles 0.9 and 1.2, median 1: spread by 0.3 of it."""


@pytest.mark.parametrize(
    ("wall", "cpu", "device", "threads", "noise", "shown"),
    [
        (STEADY, STEADY, "cpu", "1", 0.0, "0%"),
        (STEADY, [0.75, 1.0, 1.0, 1.0, 1.0], "cpu", "1", 0.05, "5%"),
        (STEADY, [0.0, 1.0, 1.0, 1.0, 1.0], "cpu", "1", 0.2, "noisy: 20%"),
        (STEADY, [1.25] * 5, "cpu", "1", 0.0, "0%"),
        (UNEVEN, UNEVEN, "cpu", "1", 0.3, "noisy: 30%"),
        (UNEVEN, [0.0] * 5, "cpu", "1", 1.0, "noisy: 100%"),
        (UNEVEN, [0.0] * 5, "cpu", "4", 0.3, "noisy: 30%"),
        (STEADY, [0.0] * 5, "cuda", "1", 0.0, "0%"),
    ],
)
def test_noise_is_the_spread_or_the_share_of_time_that_was_not_ours(
    wall: list[float], cpu: list[float], device: str, threads: str, noise: float, shown: str
) -> None:
    results = results_of_finals(
        {"a": [0.1]}, seconds={"a": wall}, cpu={"a": cpu}, device=device, threads=threads
    )
    table = trial_tables.epoch_seconds(results)
    found = row(table, "a")
    assert found["noise"] == pytest.approx(noise)
    assert found["noisy"] == ("yes" if noise > 0.1 else "no")
    assert table is not None
    assert table.shown["noise"].tolist() == [shown]


def test_failures_share_a_row_where_they_are_alike() -> None:
    table = trial_tables.failures(
        results_of_finals({"a": [0.1, "error", "error", "diverged"], "b": [0.1] * 4})
    )
    assert table is not None
    found = table.frame.set_index("status")
    assert found.loc["error", "trials"] == 2
    assert found.loc["error", "seeds"] == "1–2"
    assert (found.loc["error", "first_step"], found.loc["error", "last_step"]) == (4, 5)
    assert set(table.frame["optimizer"]) == {"a"}
    assert trial_tables.failures(results_of_finals({"a": [0.1]})) is None


def test_a_csv_gives_the_numbers_back_whole_and_markdown_has_every_row() -> None:
    table = final_loss_of(results_of_finals({"a": [1 / 3, 2 / 3], "b": [0.1, "error"]}))
    back = pd.read_csv(io.StringIO(table.to_csv()))
    pd.testing.assert_series_equal(back["mean"], table.frame["mean"], rtol=0, atol=0)
    assert back["sd"].isna().tolist() == [False, True]
    lines = [line for line in table.to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0"),
        (0.00012345, 3, "0.000123"),
        (5.27e-7, 3, "5.27e-07"),
        (1234.5, 3, "1234"),
        (12.3456, 3, "12.3"),
        (-0.5, 3, "-0.500"),
        (math.nan, 3, formatting.DASH),
    ],
)
def test_significant_digits(value: float, digits: int, text: str) -> None:
    assert formatting.significant(value, digits) == text


def told(results: Results) -> list[str]:
    said = sentences.summarise(results, analyse(results))
    return [*said.outcome, *said.certainty, *said.speed, *said.trouble]


def sentence(results: Results) -> str:
    return told(results)[0]


def test_a_difference_that_the_paired_interval_supports_is_given_with_the_interval() -> None:
    random = np.random.default_rng(0)
    base = 1 + random.normal(size=20)
    # Seeds vary far more than the optimizers do: only the paired comparison sees it.
    other = base + 0.01 + 0.001 * random.normal(size=20)
    text = sentence(results_of_finals({"low": base.tolist(), "high": other.tolist()}))
    difference = other - base
    averages = np.sort([(a + b) / 2 for i, a in enumerate(difference) for b in difference[i:]])
    assert "low has the lowest mean final loss, " in text
    found = re.search(r"high is worse by (\S+) \(95% CI (\S+) to (\S+), p = (\S+)\)\.$", text)
    assert found is not None
    assert float(found[1]) == pytest.approx(np.median(averages), abs=5e-6)
    # Tables of the test have 52 as the critical value of 20 differences at 5%.
    assert float(found[2]) == pytest.approx(averages[52], abs=5e-6)
    assert float(found[3]) == pytest.approx(averages[-53], abs=5e-6)
    assert float(found[4]) == pytest.approx(scipy.stats.wilcoxon(difference).pvalue, rel=0.05)


def test_no_winner_is_named_where_the_interval_holds_zero() -> None:
    random = np.random.default_rng(1)
    base = random.normal(size=10)
    other = base + random.normal(size=10)
    text = sentence(results_of_finals({"a": base.tolist(), "b": other.tolist()}))
    p = scipy.stats.wilcoxon(base - other).pvalue
    assert re.search(rf"is not significantly different from [ab] \(p = {p:.2g}\)\.$", text)
    assert "worse" not in text


def test_several_comparisons_share_one_level() -> None:
    """A difference that one pair would call real is not, among forty-five."""
    shift = np.array([0.4, 0.1, 0.5, 0.2, -0.1, 0.3, 0.25, -0.05, 0.45, 0.0])
    scaled = 1 + shift
    base = np.ones(10)
    pair = scipy.stats.ttest_1samp(shift, 0)
    assert 0.05 / 45 < pair.pvalue < 0.05
    assert "worse" in sentence(results_of_finals({"a": base.tolist(), "b": scaled.tolist()}))
    many = {"a": base.tolist()} | {f"b{i}": scaled.tolist() for i in range(9)}
    assert "worse" not in sentence(results_of_finals(many))


def test_where_all_seeds_give_the_same_result_the_sentence_has_it() -> None:
    text = sentence(results_of_finals({"a": [0.5] * 3, "b": [0.25] * 3, "c": [0.25] * 3}))
    assert text == (
        "On bowl (all seeds give the same result), b and c have, tied, the lowest loss after 4 "
        "steps, 0.250; a the highest, 0.500."
    )


def test_failures_are_said_and_a_failed_optimizer_is_not_ranked() -> None:
    said = told(results_of_finals({"a": [0.5, 0.6], "b": ["diverged", "error"]}))
    assert said[0].startswith("On bowl, a has a mean final loss of 0.55")
    assert said[0].endswith("; b fails in all 2 seeds.")
    assert said[-1].startswith("Of 4 trials, 1 diverged and 1 stopped with an error;")


def test_nothing_is_said_of_nothing() -> None:
    assert told(results_of_finals({"a": ["unavailable", "unavailable"]})) == []


def test_the_sentence_on_speed_says_where_times_are_noisy() -> None:
    def said(**seconds: list[float]) -> str:
        results = results_of_finals({name: ["error"] for name in seconds}, seconds=seconds)
        return next(text for text in told(results) if "per epoch" in text)

    assert "busy" not in said(a=STEADY, b=STEADY)
    busy = "; the machine was busy (noise up to 30%): compare ratios, not seconds."
    assert said(a=STEADY, b=UNEVEN).endswith(busy)
    assert said(a=UNEVEN, b=UNEVEN).endswith(busy)
    # Of one time there is no ratio.
    assert said(a=UNEVEN).endswith(
        "; the machine was busy (noise 30%), so this time is only approximate."
    )


def test_the_sentence_on_speed_is_of_the_objective_with_most_optimizers() -> None:
    def timed(**seconds: float) -> Results:
        return results_of_finals(
            {n: ["error"] for n in seconds}, seconds={n: [s] * 5 for n, s in seconds.items()}
        )

    several, alone = timed(a=0.001, b=0.002), timed(a=100.0)
    results = both(several, alone, "slow")
    shift = len(several.cases)
    moved = alone.timings.assign(position=alone.timings["position"] + shift)
    timings = pd.concat([several.timings, moved], ignore_index=True)
    said = told(replace(results, timings=timings))
    text = next(text for text in said if "per epoch" in text)
    assert text.startswith("On bowl, a takes 200 µs per epoch")
    assert "b 2.00 times as long" in text


def with_settings(results: Results, **settings: Any) -> Results:
    run = replace(
        results.run, settings=RunSettings.model_validate(dict(results.run.settings) | settings)
    )
    return replace(results, run=run)


def with_roles(
    results: Results, roles: Mapping[str, tuple[str, Role]], *, seeds: int = 20, **settings: Any
) -> Results:
    """The same, with cases as tuning has them: by the name given, optimizer and role."""
    cases = []
    for case in results.cases:
        optimizer, role = roles.get(case.optimizer, (case.optimizer, "given"))
        setting = role if role != "given" else ""
        given = {"lr": 0.1} if role == "tuned" else {}
        cases.append(
            replace(case, optimizer=optimizer, role=role, setting=setting, hyperparameters=given)
        )
    told = {"seeds": list(range(seeds)), "tuning": {"trials": 3}, **settings}
    return with_settings(replace(results, cases=tuple(cases)), **told)


def both(bowl: Results, line: Results, name: str = "line") -> Results:
    """Two results as one, the second on an objective of another name."""
    shift = len(bowl.cases)
    moved = tuple(
        replace(case, position=case.position + shift, objective=name) for case in line.cases
    )
    trials = line.trials.assign(objective=name, position=line.trials["position"] + shift)
    return replace(
        bowl,
        objectives={**bowl.objectives, name: replace(line.objectives["bowl"], name=name)},
        cases=bowl.cases + moved,
        trials=pd.concat([bowl.trials, trials], ignore_index=True),
    )


UNEQUAL = np.random.default_rng(3).normal(size=20) / 10
"""How twenty seeds differ; less than 1 by far."""


def losses_at(level: float, **failed: str) -> list[float | str]:
    """Twenty losses about a level; by seed as ``s3``, the status of those that failed."""
    values: list[float | str] = [float(v) for v in level + UNEQUAL]
    for seed, status in failed.items():
        values[int(seed[1:])] = status
    return values


def test_failed_trials_stand_beside_the_case_that_they_are_of() -> None:
    text = sentence(
        results_of_finals(
            {
                "a": losses_at(1, s3="diverged"),
                "b": losses_at(2, s3="error", s4="error"),
                "c": losses_at(5, s0="timeout", s1="error", s2="error"),
            }
        )
    )
    assert "a (1 of 20 failed) has the lowest mean final loss, 0.9" in text
    assert re.search(r"b is worse by [0-9.]+ \(95% CI [^)]*, 2 of 20 failed\)", text)
    assert re.search(r"c is worse by [0-9.]+ \(95% CI [^)]*, 3 of 20 failed\)", text)


def test_a_case_that_fails_more_often_does_not_lead_whatever_its_mean() -> None:
    results = results_of_finals({"low": losses_at(1, s3="diverged"), "high": losses_at(2)})
    text = sentence(results)
    assert "high has the fewest failures (0 of 20), then the lowest mean final loss, " in text
    # At nineteen seeds of twenty it is lower.
    assert "; yet low is better by " in text


def test_a_case_that_failed_at_every_seed_of_the_others_is_higher_without_a_difference() -> None:
    halves = losses_at(1, **{f"s{seed}": "error" for seed in range(10)})
    other = losses_at(1, **{f"s{seed}": "error" for seed in range(10, 20)})
    worse = ["error" if seed else 1.0 for seed in range(20)]
    text = sentence(results_of_finals({"best": losses_at(1), "a": halves, "b": other, "c": worse}))
    assert re.search(r"c fails in 19 of 20 seeds, against 0 \(p = \S+\)", text)
    assert "a fails in 10 of 20 seeds, against 0" in text
    assert "nan" not in text.lower()


def test_too_few_seeds_for_so_many_cases_are_said() -> None:
    few = {name: [level + 0.1 * seed for seed in range(5)] for level, name in enumerate("abc", 1)}
    text = sentence(results_of_finals(few))
    # Two to the minus fourth, by three pairs, is above 5%, however the losses fall.
    assert "b and c are not significantly different from a (p ≥ 0.19)" in text
    assert "for 5 seeds are too few to tell 3 cases" in text
    enough = {name: losses_at(level) for level, name in enumerate("abc", 1)}
    assert "too few" not in sentence(results_of_finals(enough))
    alike = {"a": losses_at(1), "b": losses_at(1)}
    assert "a and b have, tied, the lowest mean" in sentence(results_of_finals(alike))
    assert "too few" not in sentence(results_of_finals(alike))


def test_defaults_are_not_in_the_sentence_on_what_was_tuned() -> None:
    results = with_roles(
        results_of_finals({"x": losses_at(2), "y": losses_at(1), "b": losses_at(3)}),
        {"x": ("a", "tuned"), "y": ("a", "defaults")},
    )
    text = sentence(results)
    assert "a (tuned) has the lowest mean final loss, " in text
    assert "defaults" not in text


def tuned_and_defaults(tuned: Mapping[str, float], defaults: Mapping[str, float]) -> str:
    """The sentence that compares each optimizer's tuned setting with its defaults."""
    finals = {f"{name} tuned": losses_at(level) for name, level in tuned.items()}
    finals |= {f"{name} defaults": losses_at(level) for name, level in defaults.items()}
    roles: dict[str, tuple[str, Role]] = {f"{name} tuned": (name, "tuned") for name in tuned}
    roles |= {f"{name} defaults": (name, "defaults") for name in defaults}
    said = [t for t in told(with_roles(results_of_finals(finals), roles)) if "constructor's" in t]
    assert len(said) <= 1
    return said[0] if said else ""


def test_tuned_settings_are_compared_with_defaults() -> None:
    better = "Tuned settings do better than the constructor's defaults"
    assert tuned_and_defaults({"a": 1, "b": 1}, {"a": 2.5, "b": 2}) == f"{better} in all 2 cases."
    assert tuned_and_defaults({"a": 1, "b": 1}, {"a": 2.5}) == f"{better} in the one case."
    assert tuned_and_defaults({"a": 1, "b": 3}, {"a": 2.5, "b": 2}) == (
        f"{better} in 1 of 2 cases; worse: b on bowl."
    )
    # The same losses are no better; without defaults nothing is said.
    assert tuned_and_defaults({"a": 2}, {"a": 2}) == (f"{better} in 0 of 1 cases; tied: a on bowl.")
    assert tuned_and_defaults({"a": 1, "b": 2}, {}) == ""


def test_a_tuned_optimizer_that_is_worse_than_its_special_case_is_named() -> None:
    def said(general: float, special: float, role: Role = "tuned", **more: Any) -> list[str]:
        results = with_roles(
            results_of_finals(
                {"m": losses_at(general), "s": losses_at(special), "x": losses_at(0)}
            ),
            {"m": ("momentum", "tuned"), "s": ("sgd", role)},
            **{"generalizes": {"momentum": ["sgd"]}, **more},
        )
        return [text for text in told(results) if "special case" in text]

    assert said(2, 1) == [
        "Worse than its own special case, which a well-tuned optimizer can't be: "
        "momentum against sgd (tuned) on bowl."
    ]
    assert "momentum against sgd on bowl." in said(2, 1, "given")[0]
    # A little worse on these seeds, by chance.
    unsure = (1.01 + UNEQUAL[::-1]).tolist()
    results = with_roles(
        results_of_finals({"m": unsure, "s": losses_at(1)}),
        {"m": ("momentum", "tuned"), "s": ("sgd", "tuned")},
        generalizes={"momentum": ["sgd"]},
    )
    pair = analyse(results).compared[0].between(0, 1)
    assert pair is not None
    assert pair.effect > 0
    assert not any("special case" in text for text in told(results))
    # It may be better, or as good, or worse than defaults or than what it does not generalize.
    assert said(1, 2) == []
    assert said(1, 1) == []
    assert said(2, 1, "defaults") == []
    assert said(2, 1, generalizes={}) == []
    assert said(2, 1, generalizes={"sgd": ["momentum"]}) == []


def test_a_best_setting_at_an_edge_is_said_with_the_range() -> None:
    def said(*rates: float) -> list[str]:
        results = with_roles(
            results_of_finals({"m": losses_at(1), "b": losses_at(2)}),
            {"m": ("a", "tuned")},
            searches={"a": {"lr": {"log_uniform": [0.001, 1.0]}}},
        )
        tried = [
            Tried("tuning", "bowl", "a", "cpu", {"lr": lr}, "", ("ok",), np.array([1.0]))
            for lr in rates
        ]
        found = told(replace(results, tried=tuple(tried)))
        return [text for text in found if "edge" in text]

    assert said(0.01, 0.1, 0.5) == []
    assert said(0.01, 0.1) == [
        "Tuned to the edge of the search space, so a wider one may contain better settings: "
        "a on bowl (lr 0.1 is at the upper edge of its range (0.001 to 1))."
    ]


def test_fewer_than_ten_seeds_of_what_was_tuned_are_said() -> None:
    def said(seeds: int, **settings: Any) -> list[str]:
        results = results_of_finals({"m": losses_at(1), "b": losses_at(2)})
        results = with_roles(results, {"m": ("a", "tuned")}, seeds=seeds, **settings)
        return [text for text in told(results) if "at least 10" in text]

    assert said(9) == [
        "The tuned settings are compared on only 9 seeds; a comparison should have at least 10."
    ]
    assert said(10) == []
    assert said(9, tuning=None) == []


def on_claims(*values: str, seeds: int = 20) -> str:
    claims = [
        {"value": value, "source": "p. 1", "optimizer": "a", "objective": "bowl"}
        for value in values
    ]
    results = results_of_finals({"a": losses_at(1)[:seeds]})
    said = [text for text in told(with_settings(results, claims=claims)) if "published" in text]
    assert len(said) <= 1
    return said[0] if said else ""


def test_the_sentence_on_published_numbers_says_how_many_hold_and_which_do_not() -> None:
    assert on_claims() == ""
    least = re.compile(
        r"; a deviation below ([0-9.]+) standard deviations could not have been detected\."
    )
    both = on_claims("1.0", "1.00")
    assert least.sub("", both) == "Of 2 published numbers, all are consistent with these results"
    alone = on_claims("1.0")
    assert least.sub("", alone) == "The one published number is consistent with these results"
    # Twenty normal losses: Student's prediction interval at 1e-5, and farther on a log scale.
    noticed = least.search(alone)
    assert noticed is not None
    assert 6.0 < float(noticed[1]) < 8.0
    some = on_claims("1.0", "1.4", "1.00")
    assert some.startswith("Of 3 published numbers, 2 are consistent with these results; ")
    # Twenty-one places: the outermost on either side has a probability of 2/21.
    assert "; borderline: " in some
    assert ": 1.4 of a on bowl (p = 0.095); " in some
    absurd = on_claims("9.0", seeds=10)
    assert re.search(
        r"; not consistent: 9.0 of a on bowl \([0-9.]+ standard deviations away\)", absurd
    )
    many = results_of_finals({"a": (1 + np.arange(500) / 1000).tolist()})
    claims = [{"value": "9.0", "source": "p. 1", "optimizer": "a", "objective": "bowl"}]
    text = next(t for t in told(with_settings(many, claims=claims)) if "published" in t)
    assert text == (
        "The one published number is not consistent with these results; not consistent: "
        "9.0 of a on bowl (p = 0.004); a deviation below 2.1 standard deviations could not have "
        "been detected."
    )


def test_what_so_few_seeds_cannot_tell_is_not_called_anything_else() -> None:
    text = on_claims("1.3", seeds=5)
    assert "; undecided with so few seeds: 1.3 of a on bowl" in text
    assert "not consistent" not in text


PLACES = ("bowl", "line", "c", "d", "e")
TARGET = {name: {"given": [{"value": 0.5}], "tolerances": None} for name in PLACES}


def over_all(*objectives: Mapping[str, list[float]], **more: Any) -> str:
    """What is said over all objectives, given the final losses on each."""
    results = results_of_finals(objectives[0])
    for name, finals in zip(PLACES[1:], objectives[1:], strict=False):
        results = both(results, results_of_finals(finals), name)
    results = with_settings(results, targets=TARGET, **more)
    said = [text for text in told(results) if text.startswith("Over ")]
    assert len(said) <= 1
    return said[0] if said else ""


A_FEW = {"a": [0.1, 0.2, 0.3, 0.9], "b": [0.1, 0.4, 0.4, 0.4]}
SOME = {"a": [0.1, 0.1, 0.8, 0.9], "b": [0.2, 0.1, 0.3, 0.7]}


def test_over_five_objectives_shares_are_given_and_which_is_better_depends() -> None:
    # Of five targets and four seeds, a reaches 13 and b 18; all at the same step.
    text = over_all(A_FEW, SOME, A_FEW, SOME, A_FEW)
    assert text == (
        "Over 5 objectives, the largest share of targets is reached by b (90%), and the fewest "
        "steps to a target are most often taken by b (90%); which is better depends on the "
        "objective."
    )


def test_over_fewer_than_five_objectives_or_families_nothing_is_said() -> None:
    assert over_all(A_FEW, SOME, A_FEW, SOME) == ""
    assert over_all(A_FEW) == ""
    # Two of the five are related, and count as one.
    related = {"bowl": "simple", "line": "simple"}
    assert over_all(A_FEW, SOME, A_FEW, SOME, A_FEW, families=related) == ""


def test_where_several_reach_as_many_targets_none_is_named_alone() -> None:
    losses = {"a": [0.1, 0.2, 0.3], "b": [0.2, 0.1, 0.4]}
    text = over_all(*[losses] * 5)
    assert "reached by a and b (100%)" in text
    assert "the fewest steps to a target are most often taken by a and b (100%)" in text
