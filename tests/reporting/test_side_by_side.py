"""Results laid side by side: what matches, what differs, and what is said of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from playwright.sync_api import Browser, sync_playwright
from scipy import stats as reference

from harness import cli
from harness.analysis import sources
from harness.analysis.side_by_side import SideBySide, SourceDifference, compare
from harness.analysis.sources import Source, combine, short_names
from harness.commands import run as running
from harness.errors import BadInput
from harness.progress import NullProgress
from harness.reporting import write
from harness.reporting.figures import overlays
from harness.reporting.figures.draw import Drawing
from harness.reporting.figures.records import CURVES, FigureRecord
from harness.reporting.objects import Comparison, Report
from harness.reporting.page import index, parts
from harness.reporting.page.between import Between
from harness.reporting.tables import side_by_side as tables
from harness.store import read as frames
from harness.store.records import RunRecord, RunSettings

HOSTILE = (
    """</title></script><script>alert(1)</script><img src=x onerror="alert(1)">&lt;{{ 7*7 }}"""
)
NAN = float("nan")

Losses = Mapping[int, Any]
"""By seed, a final loss, or how else the trial ended."""

Cases = Mapping[Any, Losses]
"""By objective, optimizer and, where there are any, setting and device."""


def source(
    name: str,
    cases: Cases,
    *,
    keys: Mapping[Any, str] | None = None,
    machine: str = "m1",
    times: Mapping[Any, Sequence[float]] | None = None,
    curves: float = 0.0,
    hyperparameters: Mapping[str, Any] | None = None,
    **run: Any,
) -> Source:
    """A source whose cases are named (objective, optimizer[, setting[, device]])."""
    objectives, made, trials, blocks = {}, [], [], []
    for position, (names, losses) in enumerate(cases.items()):
        given = tuple[str, ...](names)
        objective, optimizer, setting, device = (*given, *("", "cpu")[len(given) - 2 :])
        objectives[objective] = frames.ObjectiveInfo(
            name=objective,
            formula="",
            dimension=2,
            rows=0,
            steps=4,
            steps_per_epoch=1,
            record_steps=np.arange(2),
            optimum=None,
            minimizers=(),
            window=None,
            landscape=None,
            data_source="",
        )
        finals = [NAN if isinstance(loss, str) else loss for loss in losses.values()]
        case = frames.CaseData(
            position=position,
            objective=objective,
            optimizer=optimizer,
            setting=setting,
            device=device,
            optimizer_class="SGD",
            hyperparameters=dict(hyperparameters or {"lr": 0.1}),
            defaults={},
            dtype="float64",
            seeds=np.array(list(losses), dtype=np.int64),
            losses=np.array([[1.0 + curves, final] for final in finals]).reshape(-1, 2),
            trajectories={},
            step_sizes={},
            key=(keys or {}).get(names, "/".join(names)),
            objective_key=objective,
        )
        made.append(case)
        labels = (position, objective, optimizer, setting, case.label, device)
        for (seed, loss), final in zip(losses.items(), finals, strict=True):
            status = loss if isinstance(loss, str) else "ok"
            reason = "" if status == "ok" else f"why it {status}"
            trials.append((*labels, seed, status, 4, reason, 0.1, "pointwise", "", final))
        for i, seconds in enumerate((times or {}).get(names, ())):
            blocks.append((position, i, 1, 1, seconds, seconds, seconds))
    seeds = sorted({seed for losses in cases.values() for seed in losses})
    settings = {"seeds": seeds, "machine": machine}
    record = RunRecord(
        **{
            "id": 1,
            "started": "2026-01-02T03:04:05+00:00",
            "finished": "2026-01-02T03:04:06+00:00",
            "command": "python -m harness run spec.yaml",
            "suite": name,
            "spec_file": "spec.yaml",
            "spec_text": "suite: sample\n",
            "environment": {"harness": "0.1.0", "engine": "e", "torch": "2.9.0", "cpu": "chip"},
            **run,
            "settings": RunSettings.model_validate(settings | run.get("settings", {})),
        }
    )
    trial_columns = [
        *("position", "objective", "optimizer", "setting", "label", "device", "seed"),
        *("status", "step", "reason", "seconds", "way", "way_reason", "final_loss"),
    ]
    block_columns = [
        *("position", "round", "steps", "steps_per_epoch"),
        *("seconds", "cpu_seconds", "epoch_seconds"),
    ]
    results = frames.Results(
        record,
        objectives,
        tuple(made),
        pd.DataFrame(trials, columns=trial_columns).astype({"final_loss": float}),
        pd.DataFrame(blocks, columns=block_columns),
    )
    return Source(name, f"{name}.sqlite", results)


def noisy(mean: float, seed: int, count: int = 20, first: int = 0) -> dict[int, float]:
    values = mean + 0.1 * np.random.default_rng(seed).standard_normal(count)
    return {first + i: float(value) for i, value in enumerate(values)}


def by_name(beside: SideBySide) -> dict[str, SourceDifference]:
    return {f"{d.match.case.objective}/{d.match.case.label}": d for d in beside.differences}


# Matching


def test_the_same_trials_twice_are_equal_to_the_bit() -> None:
    cases = {("bowl", "sgd"): noisy(1, 1), ("bowl", "adam"): noisy(2, 2)}
    beside = compare([source("a", cases), source("b", cases)])
    assert [(d.verdict, d.equal, d.largest, d.same_key) for d in beside.differences] == [
        ("bit-identical", 20, 0.0, True)
    ] * 2
    assert all(d.pair is None for d in beside.differences)
    [equal, matched, *_] = tables.sentences(beside)
    assert matched == (
        "Of 2 cases that ran anywhere, all ran in both; of 2 comparisons, all are of the same "
        "computation (one key); seeds in common: 0–19."
    )
    assert equal == "2 of 2 cases are bit-identical (40 trials)."


def test_a_recorded_loss_that_differs_is_not_equal_to_the_bit() -> None:
    cases = {("bowl", "sgd"): noisy(1, 1)}
    [found] = compare([source("a", cases), source("b", cases, curves=1e-16)]).differences
    assert found.equal == 20  # 1 + 1e-16 is 1
    [found] = compare([source("a", cases), source("b", cases, curves=1e-15)]).differences
    assert (found.equal, found.largest, found.verdict) == (0, 0.0, "equal but for rounding")


def test_only_seeds_that_both_ran_are_compared() -> None:
    whole = noisy(1, 1, count=12)
    other = {seed: whole[seed] + 1 for seed in range(4, 12)} | dict.fromkeys((20, 21), 9.0)
    beside = compare([source("a", {("bowl", "sgd"): whole}), source("b", {("bowl", "sgd"): other})])
    [match] = beside.matches
    assert match.seeds == tuple(range(4, 12))
    [found] = beside.differences
    assert found.pair is not None
    assert found.pair.n == 8
    assert found.pair.shift == pytest.approx(1)
    table = tables.between(beside)
    assert table is not None
    assert list(table.frame["seeds_in_common"]) == [8]


def test_without_a_seed_in_common_nothing_is_tested() -> None:
    one, other = noisy(1, 1), noisy(1, 2, first=100)
    beside = compare([source("a", {("bowl", "sgd"): one}), source("b", {("bowl", "sgd"): other})])
    [found] = beside.differences
    assert (found.verdict, found.pair, found.equal) == ("no seed in common", None, 0)
    assert "seeds in common: none" in tables.sentences(beside)[0]


def test_a_case_is_matched_by_its_key_whatever_it_is_called() -> None:
    losses = noisy(1, 1)
    beside = compare(
        [
            source("a", {("bowl", "sgd"): losses}, keys={("bowl", "sgd"): "k"}),
            source("b", {("bowl", "plain", "lr=1"): losses}, keys={("bowl", "plain", "lr=1"): "k"}),
        ]
    )
    [found] = beside.differences
    assert found.same_key
    assert tables.called_otherwise(found) == "plain (lr=1)"
    assert (
        "The same computation under another name: sgd on bowl, plain (lr=1) in b."
        in tables.sentences(beside)
    )


def test_key_and_name_together_come_before_the_key_and_the_key_before_the_name() -> None:
    a = source(
        "a",
        {("bowl", "x"): noisy(1, 1), ("bowl", "y"): noisy(1, 1), ("bowl", "z"): noisy(1, 2)},
        keys={("bowl", "x"): "k", ("bowl", "y"): "k", ("bowl", "z"): "other"},
    )
    b = source(
        "b",
        {("bowl", "y"): noisy(1, 1), ("bowl", "z"): noisy(1, 1)},
        keys={("bowl", "y"): "k", ("bowl", "z"): "k"},
    )
    labels = [
        tuple(place and place.case.label for place in match.places)
        for match in compare([a, b]).matches
    ]
    assert labels == [("x", "z"), ("y", "y"), ("z", None)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hyperparameters": {"lr": 0.2}}, ("hyperparameters (lr 0.1 / 0.2)",)),
        (
            {"hyperparameters": {"lr": 0.1, "momentum": 0.5}},
            ("hyperparameters (momentum not given / 0.5)",),
        ),
        (
            {"optimizer_class": "torch.optim:SGD"},
            ("the optimizer's class (SGD / torch.optim:SGD)",),
        ),
        ({}, ("the optimizer's source",)),
        ({"objective_key": "o"}, ("the objective's source, arguments or data",)),
        ({"objective_key": "o", "dtype": "float32"}, ("precision (float64 / float32)",)),
    ],
)
def test_a_case_of_one_name_and_another_key_is_told_with_what_differs(
    change: dict[str, Any], said: tuple[str, ...]
) -> None:
    cases = {("bowl", "sgd"): noisy(1, 1)}
    one, other = source("a", cases), source("b", cases)
    [case] = other.results.cases
    results = replace(other.results, cases=(replace(case, key="k", **change),))
    [found] = compare([one, replace(other, results=results)]).differences
    assert (found.same_key, found.differs) == (False, said)


def test_an_engine_and_a_torch_that_differ_are_named() -> None:
    cases = {("bowl", "sgd"): noisy(1, 1)}
    other = source("b", cases, environment={"engine": "f", "torch": "2.8.0"})
    [case] = other.results.cases
    results = replace(other.results, cases=(replace(case, key="k", objective_key="o"),))
    [found] = compare([source("a", cases), replace(other, results=results)]).differences
    assert found.differs == ("engine", "torch (2.9.0 / 2.8.0)")


def test_cases_that_are_not_everywhere_are_named_and_those_that_ran_nowhere_counted() -> None:
    gone: dict[int, float | str] = {0: "unavailable", 1: "unavailable"}
    a = source(
        "a",
        {
            ("bowl", "sgd"): noisy(1, 1),
            ("bowl", "old"): noisy(1, 1),
            ("bowl", "sgd", "", "cuda"): gone,
        },
    )
    b = source(
        "b",
        {("bowl", "sgd"): gone, ("bowl", "new"): noisy(1, 1), ("bowl", "sgd", "", "cuda"): gone},
    )
    beside = compare([a, b])
    assert beside.differences == ()
    assert (
        "Not in a: new on bowl; not in b: old on bowl; not run in b: sgd on bowl; 1 case ran in "
        "none of them." in tables.sentences(beside)
    )


def test_results_with_nothing_in_common_still_have_a_page_that_says_so() -> None:
    beside = compare(
        [source("a", {("x", "s"): noisy(1, 1)}), source("b", {("y", "s"): noisy(1, 1)})]
    )
    assert beside.differences == ()
    assert "Nothing to compare: no two runs have a case with the same key" in rendered(
        beside.sources
    )


# Tests and verdicts


def test_a_planted_difference_is_called_and_chance_is_not() -> None:
    names = [("bowl", f"o{i}") for i in range(20)]
    one = {name: noisy(1, i) for i, name in enumerate(names)}
    other = {name: noisy(1, 100 + i) for i, name in enumerate(names)}
    other[names[7]] = {seed: loss + 0.2 for seed, loss in one[names[7]].items()}
    keys = {name: "other" + name[1] for name in names}
    beside = compare([source("a", one), source("b", other, keys=keys)])
    verdicts = {d.match.case.optimizer: d.verdict for d in beside.differences}
    assert verdicts.pop("o7") == "higher"
    assert set(verdicts.values()) == {"not significantly different"}
    assert any(
        text.startswith(
            "Significantly different on the same seeds (Holm's correction for 20 comparisons): "
            "o7 on bowl is higher in b by 0.2"
        )
        for text in tables.sentences(beside)
    )


def test_p_values_are_those_of_wilcoxon_with_holms_correction_over_what_is_tested() -> None:
    names = [("bowl", f"o{i}") for i in range(5)]
    one = {name: noisy(1, i, 9) for i, name in enumerate(names)}
    other = {
        name: noisy(1 + 0.05 * i, 50 + i, 9) if i else one[name] for i, name in enumerate(names)
    }
    found = by_name(compare([source("a", one), source("b", other)]))
    raw = {
        name: reference.wilcoxon(
            [other[name][seed] - one[name][seed] for seed in range(9)], method="exact"
        ).pvalue
        for name in names[1:]
    }
    order = sorted(raw, key=lambda name: raw[name])
    least = 0.0
    for place, name in enumerate(order):
        least = max(least, min(1.0, (4 - place) * float(raw[name])))
        pair = found["/".join(name)].pair
        assert pair is not None
        assert pair.p == pytest.approx(raw[name])
        assert pair.adjusted == pytest.approx(least)
    assert found["bowl/o0"].pair is None  # bit-identical: no hypothesis


def test_a_shift_within_rounding_is_not_called_however_steady_it_is() -> None:
    one = noisy(1, 1)
    cases = ({("bowl", "sgd"): {s: v * (1 + d) for s, v in one.items()}} for d in (0, 1e-8))
    [found] = compare([source(n, c) for n, c in zip("ab", cases, strict=True)]).differences
    assert (found.verdict, found.pair, found.equal) == ("equal but for rounding", None, 0)
    assert found.largest == pytest.approx(1e-8, rel=1e-3)


def test_where_every_seed_ends_alike_or_there_is_one_nothing_is_tested() -> None:
    for seeds, verdict in ((9, "other, by no chance"), (1, "other, of one seed")):
        cases = ({("bowl", "sgd"): dict.fromkeys(range(seeds), loss)} for loss in (1.0, 2.0))
        [found] = compare([source(n, c) for n, c in zip("ab", cases, strict=True)]).differences
        assert (found.verdict, found.pair, found.largest) == (verdict, None, 0.5)


def test_trials_that_ended_otherwise_are_counted_and_the_worst() -> None:
    one = noisy(1, 1)
    other: Losses = {s: "diverged" if s < 7 else "timeout" if s == 7 else v for s, v in one.items()}
    beside = compare([source("a", {("bowl", "sgd"): one}), source("b", {("bowl", "sgd"): other})])
    [found] = beside.differences
    assert found.verdict == "higher"  # eight failed, twelve are equal
    assert found.equal == 12
    assert found.pair is not None
    assert (found.pair.both, found.pair.worse, found.pair.better) == (12, 8, 0)
    assert (found.pair.failed, found.pair.by_failures) == ((8, 0), True)
    assert (
        "8 matched trials had different outcomes (sgd on bowl); no value is imputed "
        "for them." in tables.sentences(beside)
    )
    shown = Comparison(beside.sources, Path()).tables["failures"].frame
    assert shown[
        ["device", "status", "trials", "seeds", "reason", "repeat"]
    ].to_numpy().tolist() == [
        ["cpu, b", "diverged", 7, "0–6", "why it diverged", ""],
        ["cpu, b", "timeout", 1, "7", "why it timeout", ""],
    ]


def test_where_no_trial_ended_ok_nothing_is_said_of_losses() -> None:
    lost: Losses = dict.fromkeys(range(9), "diverged")
    a, b = (source(name, {("bowl", "sgd"): lost}) for name in "ab")
    [found] = compare([a, b]).differences
    assert (found.verdict, found.equal) == ("bit-identical", 9)
    later = replace(b.results, trials=b.results.trials.assign(step=3))
    [found] = compare([a, replace(b, results=later)]).differences
    assert (found.verdict, found.equal, found.pair) == ("none ended ok", 0, None)
    assert np.isnan(found.largest)


def test_what_only_failed_trials_decide_is_not_given_the_others_mean() -> None:
    one = noisy(1, 1)
    other: Losses = {s: "diverged" if s < 15 else v - 0.5 for s, v in one.items()}
    beside = compare([source("a", {("bowl", "sgd"): one}), source("b", {("bowl", "sgd"): other})])
    [text] = [t for t in tables.sentences(beside) if t.startswith("Significantly different")]
    assert text.endswith("sgd on bowl is higher in b by its failures, in 15 of 20 seeds against 0.")


def test_of_three_each_is_compared_to_the_first_in_which_the_case_ran() -> None:
    shared, late = ("bowl", "sgd"), ("bowl", "late")
    a = source("a", {shared: noisy(1, 1)})
    b = source("b", {shared: noisy(1, 1, 15), late: noisy(1, 3)})
    c = source("c", {shared: noisy(1, 1, 10), late: noisy(1, 3)})
    beside = compare([a, b, c])
    pairs = [(d.match.case.optimizer, d.base, d.other) for d in beside.differences]
    assert pairs == [("sgd", 0, 1), ("sgd", 0, 2), ("late", 1, 2)]
    assert beside.matches[0].seeds == tuple(range(10))
    assert {d.verdict for d in beside.differences} == {"bit-identical"}
    [_, matched, *_] = tables.sentences(beside)
    assert matched.startswith(
        "Of 2 cases that ran anywhere, 1 ran in all of them, 1 more in several"
    )


# Speed


def timed(names: Sequence[tuple[str, ...]], *seconds: float) -> dict[tuple[str, ...], list[float]]:
    wobble = [0.99, 1.0, 1.01, 1.0, 0.98, 1.02, 1.0]
    return {name: [own * w for w in wobble] for name, own in zip(names, seconds, strict=True)}


@pytest.mark.parametrize("machines", [("m1", "m2"), ("m1", "m1")])
def test_times_are_ratios_within_a_source_and_across_only_on_one_machine(
    machines: tuple[str, str],
) -> None:
    names = [("bowl", "sgd"), ("bowl", "adam")]
    cases = {name: noisy(1, 1) for name in names}
    beside = compare(
        [
            source("a", cases, machine=machines[0], times=timed(names, 1.0, 3.0)),
            source("b", cases, machine=machines[1], times=timed(names, 5.0, 10.0)),
        ]
    )
    times_table = Comparison(beside.sources, Path()).tables["seconds_per_epoch"].frame
    ratios = dict(
        zip(
            zip(times_table["optimizer"], times_table["device"], strict=True),
            times_table["ratio"],
            strict=True,
        )
    )
    assert ratios == pytest.approx(
        {("sgd", "cpu, a"): 1, ("adam", "cpu, a"): 3, ("sgd", "cpu, b"): 1, ("adam", "cpu, b"): 2}
    )
    one_machine = machines[0] == machines[1]
    table = tables.between(beside)
    assert table is not None
    across = [5.0, 10 / 3] if one_machine else [NAN, NAN]
    assert list(table.frame["seconds_ratio"]) == pytest.approx(across, nan_ok=True)
    words = "one machine" if one_machine else "different machines"
    assert f"Seconds per epoch come from {words}" in tables.sentences(beside)[-1]


# One set of results


def test_every_source_keeps_its_numbers_on_devices_of_its_own() -> None:
    a = source("a", {("bowl", "sgd"): noisy(1, 1), ("bowl", "adam"): noisy(2, 2, 5)})
    b = source("b", {("bowl", "adam"): noisy(3, 3), ("line", "sgd"): {0: "diverged", 1: 2.0}})
    both = combine([a, b])
    assert [(c.objective, c.label, c.device) for c in both.cases] == [
        ("bowl", "sgd", "cpu, a"),
        ("bowl", "adam", "cpu, a"),
        ("bowl", "adam", "cpu, b"),
        ("line", "sgd", "cpu, b"),
    ]
    for one in (a, b):
        own = both.trials[both.trials["device"] == f"cpu, {one.name}"].reset_index(drop=True)
        columns = ["objective", "label", "seed", "status", "step", "reason", "final_loss"]
        pd.testing.assert_frame_equal(own[columns], one.results.trials[columns])
    by_position = {case.position: case.label for case in both.cases}
    assert len(by_position) == 4
    assert list(both.trials["position"].map(by_position)) == list(both.trials["label"])
    assert both.run.settings.seeds == tuple(range(20))


def test_tables_of_all_sources_say_of_each_what_its_own_table_says() -> None:
    names = [("bowl", "sgd"), ("bowl", "adam")]
    made = [
        source(name, {names[0]: noisy(i, i), names[1]: noisy(i + 1, i + 5)})
        for i, name in enumerate("ab")
    ]
    both = Comparison(made, Path()).tables
    for one in made:
        alone = Report(Path("results.sqlite"), results=one.results).tables
        for name in ("final_loss", "differences"):
            shown = both[name].frame
            own = shown[shown["device"] == f"cpu, {one.name}"].assign(device="cpu")
            pd.testing.assert_frame_equal(own.reset_index(drop=True), alone[name].frame)


def test_the_same_case_lies_on_itself_by_source() -> None:
    here = source("here", {("bowl", "a"): {0: 3.0, 1: 1.0, 2: 2.0}, ("bowl", "alone"): {0: 1.0}})
    there = source("there", {("bowl", "a"): {0: 5.0, 7: 6.0}}, keys={("bowl", "a"): "other"})
    [figure] = overlays.overlays(compare([here, there]))
    assert figure.name == "between-loss_bowl"
    [panel] = figure.panels
    assert panel.title == "a"
    drawn = {line.label: line for line in panel.lines}
    assert {name: line.y.tolist() for name, line in drawn.items()} == {
        "here": [1.0, 2.0],
        "there": [1.0, 5.5],
    }
    assert drawn["here"].low.tolist() == [1.0, 1.5]
    assert drawn["here"].style.optimizer == "a"
    assert drawn["here"].style.dashes != drawn["there"].style.dashes
    assert overlays.overlays(compare([here])) == []


def test_cases_that_differ_come_before_those_equal_to_the_bit() -> None:
    same = {("bowl", f"same{i}"): {0: 1.0} for i in range(CURVES)}
    one = source("one", same | {("bowl", "moved"): {0: 2.0}})
    other = source("other", same | {("bowl", "moved"): {0: 3.0}})
    [figure] = overlays.overlays(compare([one, other]))
    assert [panel.title for panel in figure.panels[:2]] == ["moved", "same0"]
    assert figure.note == f"Shown: {CURVES} of {CURVES + 1} cases."


def test_objectives_of_one_name_with_other_steps_stay_apart_and_settings_that_clash_go() -> None:
    a, b = (
        source(
            name,
            {("bowl", "sgd"): noisy(1, 1), ("line", "sgd"): noisy(1, 1)},
            settings={
                "targets": {"bowl": {"given": [{"value": target}]}},
                "correction": correction,
            },
        )
        for name, target, correction in (("a", 0.5, "page"), ("b", 0.7, "objective"))
    )
    longer = replace(b.results.objectives["line"], steps=5)
    b = replace(b, results=replace(b.results, objectives=b.results.objectives | {"line": longer}))
    both = combine([a, b])
    assert list(both.objectives) == ["bowl", "line", "line (b)"]
    assert [case.objective for case in both.cases if case.optimizer == "sgd"] == [
        *("bowl", "bowl", "line", "line (b)")
    ]
    assert both.run.settings.targets == {}
    assert both.run.settings.correction == "objective"  # what is given where nothing is


# How they were made


def test_what_differs_in_how_they_were_made_comes_first_and_is_marked_in_words() -> None:
    cases = {("bowl", "sgd"): noisy(1, 1)}
    a = source("a", cases, settings={"timing": {"rounds": 3}})
    b = source(
        "b",
        cases,
        settings={"timing": {"rounds": 5}, "missing": {"cuda": "none here"}},
        environment={"harness": "0.1.0", "engine": "e", "torch": "2.8.0", "cpu": "other"},
        machine="m2",
    )
    table = tables.how_made([a, b])
    assert table is not None
    marks = dict(zip(table.shown["what"], table.shown["same?"], strict=True))
    other = [name for name, mark in marks.items() if mark == "≠ differs"]
    assert list(table.shown["what"])[: len(other)] == other
    assert set(other) == {
        *("Suite", "Processor", "Machine digest", "Package torch", "Timing: rounds"),
        "Missing: cuda",
    }
    rows = {row["what"]: [row["in a"], row["in b"]] for row in table.shown.to_dict("records")}
    assert rows["Timing: rounds"] == ["3", "5"]
    assert rows["Missing: cuda"] == ["–", "none here"]


def test_specs_that_differ_are_shown_line_by_line() -> None:
    cases = {("bowl", "sgd"): noisy(1, 1)}
    a, same = source("a", cases), source("b", cases)
    assert Between([a, same], ()).spec_differences == []
    c = source("c", cases, spec_text="suite: other\nseeds: 3\n")
    d = source("d", cases, spec_text="suite: sample\r\n")
    other, ends = Between([a, c, d], ()).spec_differences
    assert other.title == "The spec of c against that of a: 1 line gone, 2 new"
    assert other.text.splitlines()[2:] == [
        *("@@ -1,2 +1,3 @@", "-suite: sample", "+suite: other", "+seeds: 3", " ")
    ]
    assert (ends.title, ends.text) == (
        "The spec of d against that of a: other line endings, the same lines",
        "",
    )


@pytest.mark.parametrize(
    ("known", "names"),
    [
        ([("s", "x/r/s/results.sqlite"), ("t", "y/r/t/results.sqlite")], ["s", "t"]),
        ([("s", "x/r/one/results.sqlite"), ("s", "x/r/two/results.sqlite")], ["one", "two"]),
        ([("s", "x/r/s/results.sqlite"), ("s", "y/r/s/results.sqlite")], ["x", "y"]),
        ([("s", "one.sqlite"), ("s", "two.sqlite")], ["one", "two"]),
        ([("s", "x/S/results.sqlite"), ("S", "x/s/results.sqlite")], ["A", "B"]),
        ([("s" * 99, "x/results.sqlite"), ("t", "y/results.sqlite")], ["x", "y"]),
        ([("a\nb", "x/results.sqlite"), ("a b", "y/results.sqlite")], ["x", "y"]),
    ],
)
def test_sources_are_called_by_what_tells_them_apart(
    known: list[tuple[str, str]], names: list[str]
) -> None:
    assert short_names([(suite, Path("/w") / path) for suite, path in known]) == names


def test_of_very_many_that_nothing_tells_apart_letters_do() -> None:
    names = short_names([("\x00", Path("/"))] * 30)
    assert (names[0], names[25], names[26], names[29]) == ("A", "Z", "AA", "AD")


# Figures and the page


DRAWN = '<svg width="504pt" height="252pt" viewBox="0 0 504 252"><g><path d="M0 0"/></g></svg>'


def sketch(records: Sequence[FigureRecord]) -> list[Drawing]:
    return [Drawing(record.name, DRAWN, b"\x89PNG") for record in records]


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that take no time to draw."""
    monkeypatch.setattr("harness.reporting.figures.draw.draw_all", sketch)


def rendered(given: Sequence[Source]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.reporting.figures.draw.draw_all", sketch)
        made = write._make(Comparison(given, Path()), frozenset({"html"}))
    return made["index.html"].decode()


class Parsed(HTMLParser):
    """A page's tags with their attributes, and its text; complains where tags don't balance."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "input"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def full_page(hostile: str = "") -> str:
    """A page with something in every section."""
    names = [("bowl", f"sgd{hostile}", hostile), ("line", "adam", "")]
    one = {names[0]: noisy(1, 1), names[1]: noisy(1, 2), ("bowl", "gone"): noisy(1, 1)}
    other: dict[tuple[str, ...], Losses] = {
        names[0]: noisy(2, 3),
        names[1]: {**noisy(1, 2), 3: "diverged"},
    }
    times = timed(names, 1.0, 2.0)
    b = source("b", other, spec_text=f"suite: {hostile}\n", times=times, machine=hostile or "m2")
    described = {"title": hostile, "seeds": tuple(range(20))}
    settings = b.results.run.settings.model_copy(update=described)
    run = replace(b.results.run, settings=settings, spec_file=hostile, command=hostile)
    b = replace(b, name=f"b{hostile}", place=hostile, results=replace(b.results, run=run))
    return rendered([source("a", one, times=times), b])


@pytest.mark.parametrize("hostile", ["", HOSTILE])
def test_the_page_is_well_formed_and_whatever_is_named_stays_text(hostile: str) -> None:
    text = full_page(hostile)
    parsed = Parsed(text)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in parsed.tags:
        for name in ("href", "aria-labelledby", "data-note"):
            target = attributes.get(name, "")
            if name != "href" or target.startswith("#"):
                assert not target or target.removeprefix("#") in ids, target
            else:
                assert target == "" or target.startswith("data:")
    scripts = [attributes.get("type", "") for tag, attributes in parsed.tags if tag == "script"]
    assert scripts.count("") == 1  # the others hold data
    assert set(scripts) <= {"", "application/json", "text/plain"}
    assert "img" not in [tag for tag, _ in parsed.tags]
    assert ">49<" not in text
    if hostile:
        assert parsed.text.count(hostile) > 10


def test_the_page_tells_the_list_of_reports_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(full_page(HOSTILE))
    summary = index.summary_of(tmp_path / "index.html")
    assert (summary.sources, summary.suite) == (2, f"a, b{HOSTILE}")
    assert summary.trials == (("ok", 99), ("diverged", 1))


# On disk and on the command line

SPEC = """\
suite: small
seeds: {seeds}
timing: {{enabled: false}}
objectives:
  noisy: {{class: noisy_quadratic, batch_size: 10, steps: 20}}
  still: {{class: rosenbrock_2d, steps: {steps}}}
optimizers:
  sgd: {{class: "torch.optim:SGD", hyperparameters: {{lr: {lr}}}}}
  own: {{class: Own, hyperparameters: {{lr: 0.001}}}}
"""
OWN = """\
import torch


class Own(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * p.grad
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three real runs: of one spec twice, and of one with changes."""
    folder = tmp_path_factory.mktemp("stored")
    for name, given, code in (
        ("one", {"seeds": 4, "steps": 5, "lr": 0.01}, OWN),
        ("two", {"seeds": 4, "steps": 5, "lr": 0.01}, OWN),
        ("three", {"seeds": "[2, 3, 4, 5]", "steps": 6, "lr": 0.02}, OWN + "# changed\n"),
    ):
        suite = folder / name
        (suite / "optimizers").mkdir(parents=True)
        (suite / "optimizers" / "own.py").write_text(code)
        (suite / "spec.yaml").write_text(SPEC.format(**given))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("harness.reporting.figures.draw.draw_all", sketch)
            running.run(suite / "spec.yaml", running.RunOptions(), NullProgress())
    return folder


@pytest.fixture
def runs(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(stored, tmp_path / "w"))
    monkeypatch.chdir(folder)
    return folder


def read(*folders: Path) -> SideBySide:
    places = [(str(folder), folder / "reports" / "small" / "results.sqlite") for folder in folders]
    return compare(sources.read(places))


def test_the_same_spec_run_twice_is_equal_to_the_bit(stored: Path) -> None:
    beside = read(stored / "one", stored / "two")
    assert [source.name for source in beside.sources] == ["one", "two"]
    assert len(beside.differences) == 4
    assert {(d.verdict, d.same_key, d.equal) for d in beside.differences} == {
        ("bit-identical", True, 4)
    }


def test_what_was_changed_between_two_runs_is_what_is_said_to_differ(stored: Path) -> None:
    beside = read(stored / "one", stored / "three")
    assert {name: found.differs for name, found in by_name(beside).items()} == {
        "noisy/sgd": ("hyperparameters (lr 0.01 / 0.02)",),
        "noisy/own": ("the optimizer's source",),
        "still/sgd": ("hyperparameters (lr 0.01 / 0.02)", "steps (5 / 6)"),
        "still/own": ("steps (5 / 6)",),
    }
    assert {match.seeds for match in beside.matches} == {(2, 3)}
    assert by_name(beside)["noisy/own"].verdict in ("bit-identical", "equal but for rounding")


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.main, ["report", *arguments])
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.output
    return result


@pytest.mark.usefixtures("sketched")
def test_a_page_of_its_own_is_written_and_the_results_stay_as_they_are(runs: Path) -> None:
    before = {name: tree(runs / name) for name in ("two", "three")}
    stayed = tree(runs / "one" / "reports" / "small")
    done = call("one/spec.yaml", "two/reports/small", "three/reports/small/results.sqlite")
    folder = runs / "one" / "reports" / "side-by-side"
    assert done.exit_code == 0
    assert done.output.endswith(f"Page: {(folder / 'index.html').as_uri()}\n")
    text = (folder / "index.html").read_text()
    assert set(tree(folder)) == {"index.html", *parts.listed_files(text)}
    assert {path.partition("/")[0] for path in tree(folder)} == {"index.html", "tables", "figures"}
    assert {name: tree(runs / name) for name in before} == before
    assert tree(runs / "one" / "reports" / "small") == stayed
    assert (
        "three: 2 optimizers × 2 objectives × 1 device (cpu): 4 cases with 4 seeds each (2–5)"
        in text
    )


@pytest.mark.usefixtures("sketched")
def test_only_the_formats_that_are_asked_for_are_written_where_they_are_asked_for(
    runs: Path,
) -> None:
    done = call("one/spec.yaml", "two/spec.yaml", "-o", "out", "--format", "csv", "--format", "md")
    assert (done.exit_code, done.output) == (0, "Written to out: csv, md.\n")
    assert {name.rpartition(".")[2] for name in tree(runs / "out")} == {"csv", "md"}
    assert not (runs / "index.html").exists()
    back = pd.read_csv(runs / "out" / "tables" / "between_sources.csv")
    assert set(back["verdict"]) == {"bit-identical"}


def test_results_outside_of_a_folder_called_reports_lie_side_by_side_here(
    runs: Path,
) -> None:
    for name in ("one", "two"):
        shutil.copy(f"{name}/reports/small/results.sqlite", f"{name}.sqlite")
    done = call("one.sqlite", "two.sqlite", "--format", "csv")
    assert done.output == "Written to reports/side-by-side: csv.\n"
    assert sorted(path.name for path in runs.glob("*.sqlite")) == ["one.sqlite", "two.sqlite"]


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_written(runs: Path) -> None:
    (runs / "text.sqlite").write_text("no database at all")
    before = tree(runs)
    done = call(
        *("one/spec.yaml", "one/reports/small", "two/reports/smal", "nowhere.sqlite", "text.sqlite")
    )
    assert done.exit_code == 2
    assert done.output.splitlines() == [
        "nowhere.sqlite: no such spec, folder or results file",
        "two/reports/smal: no such spec, folder or results file; did you mean 'small'?",
        "2 mistakes.",
    ]
    done = call("one/spec.yaml", "one/reports/small", "text.sqlite")
    assert done.exit_code == 2
    first, second, _ = done.output.splitlines()
    assert first == ("one/reports/small: is the same results file as one/spec.yaml; give each once")
    assert second.startswith("text.sqlite: is not a usable results file (file is not a database)")
    assert tree(runs) == before


def test_no_page_of_others_is_written_over(runs: Path) -> None:
    (runs / "mine").mkdir()
    (runs / "mine" / "index.html").write_text("<title>mine</title>")
    before = tree(runs)
    for output, said in (
        ("mine", "mine/index.html: is not a page of results side by side; give another --output"),
        ("two/reports/small", "two/reports/small: has results of its own, whose page it is; "),
    ):
        done = call("one/spec.yaml", "two/spec.yaml", "-o", output)
        assert done.exit_code == 2
        assert done.output.startswith(said)
    assert tree(runs) == before


def test_an_output_for_the_report_of_one_is_refused(runs: Path) -> None:
    done = call("one/spec.yaml", "-o", "out")
    assert done.exit_code == 2
    assert "--output is for several RESULTS; the report of one stays beside it" in done.output
    assert not (runs / "out").exists()


def test_a_store_of_a_newer_schema_is_refused(runs: Path) -> None:
    path = runs / "two" / "reports" / "small" / "results.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    done = call("one/spec.yaml", "two/spec.yaml")
    assert done.exit_code == 2
    assert "has schema version 99, this harness reads version 5" in done.output


def test_a_store_with_a_run_that_is_none_is_refused_without_a_traceback(runs: Path) -> None:
    path = runs / "two" / "reports" / "small" / "results.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE runs SET settings = 'no JSON'")
    done = call("one/spec.yaml", "two/spec.yaml")
    assert done.exit_code == 2
    assert "results.sqlite: holds a run that can't be read: JSONDecodeError: " in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("log", [False, True])
def test_what_a_killed_run_left_is_read_and_nothing_is_put_beside_it(runs: Path, log: bool) -> None:
    folder = runs / "two" / "reports" / "small"
    path = folder / "results.sqlite"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("UPDATE trials SET seconds = 7")
    left = runs / "left" / "reports" / "small"
    left.mkdir(parents=True)
    if not log:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for file in folder.glob("results.sqlite*"):
        if log or file == path:
            shutil.copy(file, left)
    db.close()
    before = {name: content for name, (content, _) in tree(left).items()}
    assert ("results.sqlite-wal" in before) == log
    beside = read(runs / "one", runs / "left")
    assert set(beside.sources[1].results.trials["seconds"]) == {7}
    after = {name: content for name, (content, _) in tree(left).items()}
    assert set(after) == set(before)
    assert after["results.sqlite"] == before["results.sqlite"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_results_in_a_folder_that_cannot_be_written_are_read(runs: Path) -> None:
    folder = runs / "two" / "reports" / "small"
    folder.chmod(0o555)
    try:
        assert len(read(runs / "one", runs / "two").differences) == 4
    finally:
        folder.chmod(0o755)


def test_what_is_read_untouched_is_what_is_read_otherwise(stored: Path) -> None:
    path = stored / "one" / "reports" / "small" / "results.sqlite"
    one, other = frames.read(path), frames.read(path, untouched=True)
    pd.testing.assert_frame_equal(one.trials, other.trials)
    assert [case.key for case in one.cases] == [case.key for case in other.cases]
    assert len({case.key for case in one.cases}) == 4


def test_a_source_that_is_not_there_has_no_results(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no results here yet"):
        sources.read([("x", tmp_path / "x.sqlite")])


# In a browser

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
browsing = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.mark.browser
@browsing
@pytest.mark.parametrize(
    ("scheme", "width", "hostile"), [("light", 1440, ""), ("dark", 390, HOSTILE)]
)
def test_a_browser_shows_the_page_and_has_nothing_to_say(
    browser: Browser,
    tmp_path: Path,
    scheme: Literal["light", "dark"],
    width: int,
    hostile: str,
) -> None:
    path = tmp_path / "index.html"
    path.write_text(full_page(hostile), encoding="utf-8")
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    said: list[str] = []
    asked: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(path.as_uri())
    for summary in opened.locator("summary").all():
        summary.click()
    if width > 640:  # below, each row is a block, and has no headings
        opened.locator("th button").first.click()
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    context.close()
