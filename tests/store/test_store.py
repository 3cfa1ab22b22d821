"""The store keeps what it is given, to the bit, and refuses what isn't its own."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import make_plan

from harness.errors import BadInput
from harness.measures import Measure
from harness.plan.model import Plan
from harness.results import (
    Description,
    SharedRunComparison,
    Sharing,
    StepCounts,
    Timing,
    TrialResult,
)
from harness.spec.validation import load
from harness.store import read as frames
from harness.store import recorded
from harness.store.database import NoResults, Store
from harness.store.records import RunSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def plan() -> Plan:
    whole = make_plan(load(ROOT / "benchmarks.yaml"))
    cases = tuple(case for case in whole.cases if case.device == "cpu")
    return Plan(whole.suite, whole.spec, cases, (0, 1, 2))


def begin(store: Store, plan: Plan, seeds: Sequence[int] = (), **described: Any) -> None:
    description: dict[str, Any] = {
        "formula": "f",
        "dimension": 2,
        "rows": 0,
        "steps": 2,
        "steps_per_epoch": 1,
        "record_steps": [0, 1, 2],
        "optimum": 0.0,
        "minimizers": [[0.0, 0.0]],
        "window": [[-1, 1], [-2, 2]],
        "landscape": [1.0, 2.0, 3.0, 4.0],
        "data_source": "",
    } | described
    reported = description.pop("reported", {})
    store.begin_run(
        plan,
        command="test",
        spec_file="s.yaml",
        spec_text="text",
        settings=RunSettings(seeds=tuple(seeds or plan.seeds), machine="m", reported=reported),
        environment={"python": "3"},
        descriptions={planned.name: Description(**description) for planned in plan.objectives},
        defaults={},
    )


def result_of(plan: Plan, seed: int, status: str = "ok", case: int = 0) -> TrialResult:
    random = np.random.default_rng(seed)
    return TrialResult(
        case_key=plan.cases[case].key,
        seed=seed,
        status=status,  # type: ignore[arg-type]
        step=2,
        reason="" if status == "ok" else "why",
        seconds=0.5,
        way="pointwise",
        losses=random.normal(size=3),
        trajectory=random.normal(size=(3, 2)),
        step_sizes=random.normal(size=(3, 2)),
    )


def test_trajectories_of_one_parameter_come_back_too(tmp_path: Path, plan: Plan) -> None:
    result = replace(
        result_of(plan, 0), trajectory=np.array([[3.0], [2.0], [1.0]]), step_sizes=np.ones((3, 1))
    )
    with Store(tmp_path / "r.sqlite", create=True) as store:
        begin(store, plan, dimension=1, window=[[-1, 1]], landscape=[1.0, 2.0, 5.0])
        store.save_trials([result], "m")
    known = frames.read(tmp_path / "r.sqlite")
    info = known.objectives[known.cases[0].objective]
    assert info.window == ((-1, 1),)
    assert info.landscape is not None
    assert info.landscape.tolist() == [1.0, 2.0, 5.0]
    assert known.cases[0].trajectories[0].tolist() == [[3.0], [2.0], [1.0]]
    assert known.cases[0].step_sizes[0].shape == (3, 1)


def test_what_is_stored_comes_back_to_the_bit(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "r.sqlite"
    kept = [result_of(plan, seed) for seed in plan.seeds]
    with Store(path, create=True) as store:
        begin(store, plan)
        store.save_trials(kept, "m")
        seconds = np.random.default_rng(9).random(5)
        first, second = (case.key for case in plan.cases[:2])
        counts = StepCounts(steps=19, operators=380, calls=1615, state_bytes=2**40)
        timings = [
            Timing(first, 10, 2, seconds, seconds / 2, counts, 2**41),
            Timing(second, 10, 2, seconds[:3], seconds[:3]),
        ]
        store.save_timings(timings, "m", "settings")
        assert store.timed("m", "settings") == {first, second}
        store.finish_run()
    results = frames.read(path)
    case = results.cases[0]
    assert np.array_equal(case.losses, np.stack([r.losses for r in kept]))
    for r in kept:
        assert r.trajectory is not None
        assert r.step_sizes is not None
        assert np.array_equal(case.trajectories[r.seed], r.trajectory)
        assert np.array_equal(case.step_sizes[r.seed], r.step_sizes)
    assert results.trials["final_loss"].tolist() == [r.losses[-1] for r in kept]
    blocks = results.timings[results.timings["position"] == 0]
    assert np.array_equal(blocks["seconds"], seconds)
    assert np.array_equal(blocks["cpu_seconds"], seconds / 2)
    assert np.array_equal(blocks["epoch_seconds"], seconds / 10 * 2)
    assert results.timings["position"].tolist() == [0] * 5 + [1] * 3
    known, unknown = results.step_counts.to_dict("records")
    assert known == {
        "position": 0,
        "operators": 380,
        "calls": 1615,
        "counted_steps": 19,
        "state_bytes": 2**40,
        "peak_bytes": 2**41,
    }
    assert unknown.pop("position") == 1
    assert all(np.isnan(value) for value in unknown.values())
    assert results.objectives["quadratic_2d"].landscape is not None
    assert results.objectives["quadratic_2d"].landscape.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert results.run.finished is not None
    assert list(tmp_path.iterdir()) == [path]  # no journal is left behind


def test_measures_and_parameters_come_back_to_the_bit(tmp_path: Path, plan: Plan) -> None:
    path, accuracy = tmp_path / "r.sqlite", Measure("accuracy", "test", higher=True)
    random = np.random.default_rng(4)
    measured = {
        seed: {"test accuracy": random.random(3), "test loss": random.random(3)}
        for seed in plan.seeds
    }
    numbers = {
        "w": random.normal(size=(2, 3)).astype(np.float32),
        "b": np.array(0.1),
        "z": np.array([1 + 2j]),
    }
    kept = [
        replace(result_of(plan, seed), measures=measured[seed], parameters=numbers)
        for seed in plan.seeds
    ]
    kept[1] = replace(kept[1], status="diverged", measures={"test accuracy": np.array([0.5])})
    name = plan.cases[0].objective.name
    with Store(path, create=True) as store:
        begin(
            store, plan,
            reported={name: accuracy},
            metrics=(("loss", False), ("accuracy", True)),
            part_rows={"test": 7},
        )  # fmt: skip
        store.save_trials(kept, "m")
        own = recorded.parameters(store, plan.cases[0].key, 2)
        assert recorded.parameters(store, plan.cases[0].key, 99) == {}
        (trials,) = recorded.endings(store, {plan.cases[0].key: accuracy}, plan.seeds).values()
    assert [*own] == ["w", "b", "z"]
    for key, value in own.items():
        assert value.dtype == numbers[key].dtype
        assert np.array_equal(value, numbers[key])
    assert [t.final for t in trials] == [measured[0]["test accuracy"][-1], None,
                                         measured[2]["test accuracy"][-1]]  # fmt: skip
    results = frames.read(path)
    case, info = results.cases[0], results.objectives[name]
    assert info.measure == accuracy
    assert info.optimum is None
    assert [m.name for m in info.measures] == [
        "train loss", "train accuracy", "test loss", "test accuracy"
    ]  # fmt: skip
    assert np.array_equal(case.losses, case.curves["test accuracy"], equal_nan=True)
    assert np.array_equal(case.curves["train loss"], np.stack([r.losses for r in kept]))
    assert np.isnan(case.curves["test accuracy"][1, 1:]).all()
    assert case.finals.tolist() == [measured[0]["test accuracy"][-1], 0.5,
                                    measured[2]["test accuracy"][-1]]  # fmt: skip
    finals = results.trials[results.trials["position"] == 0]["final_loss"]
    assert np.array_equal(
        finals,
        [measured[0]["test accuracy"][-1], np.nan, measured[2]["test accuracy"][-1]],
        equal_nan=True,
    )


def test_only_ok_has_a_final_loss_and_a_partial_curve_stays_partial(
    tmp_path: Path, plan: Plan
) -> None:
    path = tmp_path / "r.sqlite"
    gone = result_of(plan, 1, "diverged")
    short = TrialResult(**{**vars(gone), "losses": gone.losses[:2]})
    with Store(path, create=True) as store:
        begin(store, plan)
        store.save_trials([result_of(plan, 0), short], "m")
    results = frames.read(path)
    assert results.trials["final_loss"].notna().tolist() == [True, False]
    assert np.isnan(results.cases[0].losses[1]).tolist() == [False, False, True]


def test_done_for_good_is_what_ended_ok_or_diverged(tmp_path: Path, plan: Plan) -> None:
    statuses = ["ok", "diverged", "timeout", "error", "unavailable"]
    with Store(tmp_path / "r.sqlite", create=True) as store:
        begin(store, plan)
        store.save_trials([result_of(plan, i, s) for i, s in enumerate(statuses)], "here")
        key = plan.cases[0].key
        assert store.finished_seeds([key, "other"], "here") == {key: {0, 1, 4}, "other": set()}
        assert store.finished_seeds([key], "elsewhere") == {key: {0, 1}}
        assert store.failing() == {key}


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path, plan: Plan) -> None:
    with Store(tmp_path / "r.sqlite", create=True) as store:
        begin(store, plan)
        unknown = TrialResult(**{**vars(result_of(plan, 1)), "status": "perfect"})
        with pytest.raises(BadInput, match="constraint"):
            store.save_trials([result_of(plan, 0), unknown], "m")
        assert store.db.execute("SELECT count(*) FROM trials").fetchone() == (0,)
        assert store.db.execute("SELECT count(*) FROM curves").fetchone() == (0,)


def test_how_trials_may_share_runs_is_remembered(tmp_path: Path, plan: Plan) -> None:
    first = Sharing("vmapped", "not op by op: step uses sum", 17, 0.25)
    second = Sharing("apart", "settings differ", 0, 0.5)
    path = tmp_path / "r.sqlite"
    with Store(path, create=True) as store:
        begin(store, plan)
        store.save_sharing("f", plan.cases[:2], Sharing("alone", "at first", 0, 1.0))
        store.save_sharing("f", plan.cases[:2], first)
        store.save_sharing("g", plan.cases[2:3], second)
    with Store(path, create=False) as store:
        assert store.sharings() == {"f": first, "g": second}
        seconds = {case.key: s for case, s in zip(plan.cases[:3], (0.25, 0.25, 0.5), strict=True)}
        assert store.step_seconds() == seconds


def test_how_each_trial_ran_and_why_comes_back_with_it(tmp_path: Path, plan: Plan) -> None:
    ways = [("pointwise", ""), ("vmapped", "uses sum"), ("vmapped", "uses norm"), ("alone", "")]
    kept = [
        replace(result_of(plan, seed, case=seed % 2), way=way, way_reason=why)  # type: ignore[arg-type]
        for seed, (way, why) in enumerate(ways)
    ]
    gone = replace(result_of(plan, 9, "unavailable"), way="")
    with Store(tmp_path / "r.sqlite", create=True) as store:
        begin(store, plan, seeds=range(10))
        store.save_trials([*kept, gone], "m")
        store.save_trials(kept, "m")  # once more, as an uninterrupted run would
        assert store.db.execute("SELECT count(*) FROM ways").fetchone() == (4,)
    trials = frames.read(tmp_path / "r.sqlite").trials.sort_values("seed")
    assert list(zip(trials["way"], trials["way_reason"], strict=True)) == [*ways, ("", "")]


def test_a_comparison_is_kept_with_the_results_of_its_run_or_not_at_all(
    tmp_path: Path, plan: Plan
) -> None:
    key = plan.cases[1].key
    found = SharedRunComparison(key, 1, 2048, "pointwise", 3e-7, 1e-4)
    with Store(tmp_path / "r.sqlite", create=True) as store:
        begin(store, plan)
        unknown = replace(result_of(plan, 1), status="perfect")  # type: ignore[arg-type]
        with pytest.raises(BadInput, match="constraint"):
            store.save_trials([unknown], "m", found)
        assert store.db.execute("SELECT count(*) FROM comparisons").fetchone() == (0,)
        store.save_trials([result_of(plan, 0)], "m", found)
        sql = "SELECT key, seed, lanes, way, difference, rounding FROM comparisons JOIN cases "
        sql += "ON cases.id = case_id"
        assert store.db.execute(sql).fetchall() == [(key, 1, 2048, "pointwise", 3e-7, 1e-4)]
        store.save_trials((), "m", replace(found, difference=0.5))
        assert store.db.execute(sql).fetchall() == [(key, 1, 2048, "pointwise", 0.5, 1e-4)]


def test_a_report_is_current_until_the_plan_or_what_makes_it_changes(
    tmp_path: Path, plan: Plan
) -> None:
    with Store(tmp_path / "r.sqlite", create=True) as store:
        begin(store, plan)
        assert not store.is_current(plan, "text", "digest")
        store.finish_run()
        store.note_report("digest")
        assert store.is_current(plan, "text", "digest")
        assert not store.is_current(plan, "other text", "digest")
        assert not store.is_current(plan, "text", "other digest")
        fewer = Plan(plan.suite, plan.spec, plan.cases[1:], plan.seeds)
        assert not store.is_current(fewer, "text", "digest")
        other = Plan(plan.suite, plan.spec, plan.cases, (0, 1))
        assert not store.is_current(other, "text", "digest")


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE precious (x)")
    db.close()


def of_version(version: int, path: Path) -> None:
    Store(path, create=True).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign, "SQLite file of something else"),
        (partial(of_version, 99), "schema version 99, this harness reads version 5"),
        (partial(of_version, 3), "schema version 3, this harness reads version 5; move it away"),
        (lambda path: path.write_bytes(b"not a database at all" * 50), "not a database"),
        (lambda path: path.mkdir(), "can't be used|is a directory"),
    ],
    ids=["foreign", "newer", "older", "garbage", "folder"],
)
def test_a_file_that_is_not_ours_is_refused_by_name_and_left_alone(
    tmp_path: Path, make: object, message: str
) -> None:
    path = tmp_path / "r.sqlite"
    make(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(BadInput, match=message) as caught:
        Store(path, create=True)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_reading_where_nothing_was_run_says_how_to_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no results here yet"):
        frames.read(tmp_path / "r.sqlite")
    assert not list(tmp_path.iterdir())


class Between:
    """Does something once, before a query that holds some words, and waits for no lock."""

    def __init__(self, words: str, then: Callable[[], object]) -> None:
        self.words, self.then, self.done = words, then, False

    def connect(self, *given: Any, **options: Any) -> sqlite3.Connection:
        between = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                if between.words in sql and not between.done:
                    between.done = True
                    between.then()
                return super().execute(sql, *values)

        return Connection(*given, **options | {"timeout": 0})


@pytest.mark.parametrize("untouched", [False, True])
def test_a_store_that_another_process_makes_meanwhile_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untouched: bool
) -> None:
    path = tmp_path / "r.sqlite"
    path.touch()

    def make() -> None:
        with contextlib.suppress(BadInput):  # it may have to wait until the reader is done
            Store(path, create=True).close()

    between = Between("user_version", make)
    monkeypatch.setattr(sqlite3, "connect", between.connect)
    with pytest.raises(NoResults):
        Store(path, create=False, untouched=untouched)
    assert between.done


def test_a_store_that_another_process_made_first_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan
) -> None:
    """The other one is faster after this one has found nothing there."""
    path = tmp_path / "r.sqlite"

    def make() -> None:
        with Store(path, create=True) as store:
            begin(store, plan)

    between = Between("BEGIN IMMEDIATE", make)
    monkeypatch.setattr(sqlite3, "connect", between.connect)
    with Store(path, create=True) as store:
        assert store.has_run()
    assert between.done
