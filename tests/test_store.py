"""The store keeps what it is given, to the bit, and refuses what isn't its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from harness import frames
from harness.plan import Plan, make_plan
from harness.problems import BadInput
from harness.results import Footprint, Timing, TrialResult, Verdict
from harness.spec import load
from harness.store import APPLICATION_ID, Store

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def plan() -> Plan:
    whole = make_plan(load(ROOT / "benchmarks.yaml"))
    cases = tuple(case for case in whole.cases if case.device == "cpu")
    return Plan(whole.suite, whole.spec, cases, (0, 1, 2))


def begin(store: Store, plan: Plan) -> None:
    description = {
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
    }
    store.begin_run(
        plan,
        command="test",
        spec_file="s.yaml",
        spec_text="text",
        settings={"seeds": list(plan.seeds), "missing": {}, "machine": "m"},
        environment={"python": "3"},
        descriptions={planned.name: description for planned in plan.objectives},
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


def test_what_is_stored_comes_back_to_the_bit(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "r.sqlite"
    kept = [result_of(plan, seed) for seed in plan.seeds]
    with Store(path, create=True) as store:
        begin(store, plan)
        store.save_trials(kept, "m")
        seconds = np.random.default_rng(9).random(5)
        first, second = (case.key for case in plan.cases[:2])
        footprint = Footprint(steps=19, operators=380, calls=1615, state_bytes=2**40)
        timings = [
            Timing(first, 10, 2, seconds, seconds / 2, footprint, 2**41),
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
    known, unknown = results.footprints.to_dict("records")
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


def test_verdicts_are_remembered(tmp_path: Path, plan: Plan) -> None:
    verdict = Verdict("alone", False, "it mixes lanes", 17, 0.25)
    with Store(tmp_path / "r.sqlite", create=True) as store:
        begin(store, plan)
        store.save_verdict("f", plan.cases[:2], verdict)
        assert store.verdicts() == {"f": verdict}
        assert store.calls_closure() == {case.key: False for case in plan.cases[:2]}
    cases = frames.read(tmp_path / "r.sqlite").cases
    assert [case.why_alone for case in cases[:3]] == ["it mixes lanes", "it mixes lanes", ""]


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


TIMINGS_1 = """
CREATE TABLE timings (
    case_id INTEGER NOT NULL REFERENCES cases(id),
    machine TEXT NOT NULL,
    settings TEXT NOT NULL,
    taken TEXT NOT NULL,
    steps INTEGER NOT NULL,
    steps_per_epoch INTEGER NOT NULL,
    seconds BLOB NOT NULL,
    PRIMARY KEY (case_id, machine)
) WITHOUT ROWID
"""


def version_1(path: Path, plan: Plan) -> None:
    """A store as the first version of the schema left it, with a trial and a timing."""
    with Store(path, create=True) as store:
        begin(store, plan)
        store.save_trials([result_of(plan, 0)], "m")
        store.finish_run()
        store.db.execute("DROP TABLE timings")
        store.db.execute(TIMINGS_1)
        store.db.execute(
            "INSERT INTO timings VALUES (1, 'm', 'settings', 'then', 10, 2, ?)",
            (np.ones(3).tobytes(),),
        )
        store.db.execute("ALTER TABLE run_cases DROP COLUMN role")
        store.db.execute("PRAGMA user_version = 1")


def version_2(path: Path, plan: Plan) -> None:
    """A store as the second version of the schema left it, with a trial and a timing."""
    with Store(path, create=True) as store:
        begin(store, plan)
        store.save_trials([result_of(plan, 0)], "m")
        timing = Timing(plan.cases[0].key, 10, 2, np.ones(3), np.ones(3))
        store.save_timings([timing], "m", "settings")
        store.finish_run()
        store.db.execute("ALTER TABLE run_cases DROP COLUMN role")
        store.db.execute("PRAGMA user_version = 2")


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    db = sqlite3.connect(path)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    db.close()
    return rows


@pytest.mark.parametrize("create", [True, False], ids=["to write", "to read"])
def test_a_file_of_version_1_is_upgraded_and_loses_its_timings_alone(
    tmp_path: Path, plan: Plan, *, create: bool
) -> None:
    path = tmp_path / "r.sqlite"
    version_1(path, plan)
    before = rows_of(path)
    assert len(before.pop("timings")) == 1
    with Store(path, create=create) as store:
        assert store.db.execute("PRAGMA user_version").fetchone() == (3,)
        assert store.timed("m", "settings") == set()
        timing = Timing(plan.cases[0].key, 10, 2, np.ones(3), np.ones(3))
        store.save_timings([timing], "m", "settings")
        assert store.timed("m", "settings") == {plan.cases[0].key}
    after = rows_of(path)
    assert len(after.pop("timings")) == 1
    before["run_cases"] = [(*row, "given") for row in before["run_cases"]]
    assert after == before
    assert len(frames.read(path).timings) == 3  # and it can be opened again


@pytest.mark.parametrize("create", [True, False], ids=["to write", "to read"])
def test_a_file_of_version_2_is_upgraded_and_loses_nothing(
    tmp_path: Path, plan: Plan, *, create: bool
) -> None:
    path = tmp_path / "r.sqlite"
    version_2(path, plan)
    before = rows_of(path)
    with Store(path, create=create) as store:
        assert store.db.execute("PRAGMA user_version").fetchone() == (3,)
        assert store.timed("m", "settings") == {plan.cases[0].key}
    before["run_cases"] = [(*row, "given") for row in before["run_cases"]]
    assert rows_of(path) == before
    assert [case.role for case in frames.read(path).cases] == ["given"] * len(plan.cases)


def test_an_upgrade_that_fails_changes_nothing(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.sqlite"
    version_1(path, plan)
    before = rows_of(path)
    monkeypatch.setattr("harness.store._TIMINGS", "CREATE TABLE timings (")
    with pytest.raises(BadInput):
        Store(path, create=True)
    assert rows_of(path) == before
    monkeypatch.undo()
    with Store(path, create=True) as store:
        assert store.timed("m", "settings") == set()


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE precious (x)")
    db.close()


def newer(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 99")
    db.execute("CREATE TABLE runs (x)")
    db.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign, "SQLite file of something else"),
        (newer, "schema version 99, this harness reads version 3"),
        (lambda path: path.write_bytes(b"not a database at all" * 50), "not a database"),
        (lambda path: path.mkdir(), "can't be used|is a directory"),
    ],
    ids=["foreign", "newer", "garbage", "folder"],
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
