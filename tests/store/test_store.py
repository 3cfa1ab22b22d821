"""The store keeps what it is given, to the bit, and refuses what isn't its own."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import make_plan
from older_stores import to_version_3

from harness.errors import BadInput
from harness.plan.model import Plan
from harness.results import Comparison, Description, Sharing, StepCounts, Timing, TrialResult
from harness.spec.validation import load
from harness.store import read as frames
from harness.store.database import APPLICATION_ID, SCHEMA_VERSION, NoResults, Store, summarize
from harness.store.records import RunSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def plan() -> Plan:
    whole = make_plan(load(ROOT / "benchmarks.yaml"))
    cases = tuple(case for case in whole.cases if case.device == "cpu")
    return Plan(whole.suite, whole.spec, cases, (0, 1, 2))


def begin(store: Store, plan: Plan, seeds: Sequence[int] = ()) -> None:
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
    }
    store.begin_run(
        plan,
        command="test",
        spec_file="s.yaml",
        spec_text="text",
        settings=RunSettings(seeds=tuple(seeds or plan.seeds), machine="m"),
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
    found = Comparison(key, 1, 2048, "pointwise", 3e-7, 1e-4)
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
        store.save_comparison(replace(found, difference=0.5))
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
        to_version_3(store.db)
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
        to_version_3(store.db)
        store.db.execute("ALTER TABLE run_cases DROP COLUMN role")
        store.db.execute("PRAGMA user_version = 2")


def version_3(path: Path, plan: Plan) -> None:
    """A store as the third version of the schema left it: trials that ran in every way it knew."""
    with Store(path, create=True) as store:
        begin(store, plan, seeds=range(5))
        alone = replace(result_of(plan, 1), way="alone")
        gone = replace(result_of(plan, 2, "unavailable"), way="")
        store.save_trials([result_of(plan, 0), alone, gone, result_of(plan, 3)], "m")
        store.save_timings([Timing(plan.cases[0].key, 10, 2, np.ones(3), np.ones(3))], "m", "s")
        store.finish_run()
        to_version_3(store.db)


def upgraded(rows: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """What a store of version 3 holds after its upgrade."""
    modes = list(dict.fromkeys(str(row[7]) for row in rows["trials"] if row[7]))
    ids = {mode: i for i, mode in enumerate(sorted(modes, reverse=True), 1)}
    new = {name: table for name, table in rows.items() if name != "verdicts"}
    new["trials"] = [(*row[:7], row[8], None, ids.get(str(row[7]))) for row in rows["trials"]]
    new["curves"] = [(*row, None) for row in rows["curves"]]
    if "timings" in rows:
        new["timings"] = [(*row, None) for row in rows["timings"]]
    new["ways"] = [(i, mode, "") for mode, i in ids.items()]
    return new | {"sharings": [], "comparisons": []}


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
        assert store.db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert store.timed("m", "settings") == set()
        timing = Timing(plan.cases[0].key, 10, 2, np.ones(3), np.ones(3))
        store.save_timings([timing], "m", "settings")
        assert store.timed("m", "settings") == {plan.cases[0].key}
    after = rows_of(path)
    assert len(after.pop("timings")) == 1
    before["run_cases"] = [(*row, "given") for row in before["run_cases"]]
    assert after == upgraded(before)
    assert len(frames.read(path).timings) == 3  # and it can be opened again


@pytest.mark.parametrize("create", [True, False], ids=["to write", "to read"])
def test_a_file_of_version_2_is_upgraded_and_loses_nothing(
    tmp_path: Path, plan: Plan, *, create: bool
) -> None:
    path = tmp_path / "r.sqlite"
    version_2(path, plan)
    before = rows_of(path)
    with Store(path, create=create) as store:
        assert store.db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert store.timed("m", "settings") == {plan.cases[0].key}
    before["run_cases"] = [(*row, "given") for row in before["run_cases"]]
    assert rows_of(path) == upgraded(before)
    assert [case.role for case in frames.read(path).cases] == ["given"] * len(plan.cases)


@pytest.mark.parametrize("create", [True, False], ids=["to write", "to read"])
def test_a_file_of_version_3_is_upgraded_and_keeps_how_its_trials_ran(
    tmp_path: Path, plan: Plan, *, create: bool
) -> None:
    path = tmp_path / "r.sqlite"
    version_3(path, plan)
    before = rows_of(path)
    with Store(path, create=create) as store:
        assert store.db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert store.sharings() == {}  # of its verdicts nothing follows
        assert store.timed("m", "s") == {plan.cases[0].key}
    after, expected = rows_of(path), upgraded(before)
    ran = {tuple(row[1:]): row[0] for row in after.pop("ways")}
    assert set(ran) == {("vmap", ""), ("alone", "")}
    ways = [(*row[:-1], {v: k for k, v in ran.items()}.get(row[-1])) for row in after["trials"]]
    assert [row[-1] for row in ways] == [("vmap", ""), ("alone", ""), None, ("vmap", "")]
    assert [row[:-1] for row in after.pop("trials")] == [row[:-1] for row in expected["trials"]]
    assert after == {k: v for k, v in expected.items() if k not in ("ways", "trials")}
    trials = frames.read(path).trials
    assert trials["way"].tolist() == ["vmap", "alone", "", "vmap"]
    with Store(path, create=True) as store:  # and it can be written to
        store.save_trials([replace(result_of(plan, 4), way="vmapped", way_reason="why")], "m")
    assert frames.read(path).trials["way"].tolist() == ["vmap", "alone", "", "vmap", "vmapped"]


def test_an_upgraded_file_has_the_tables_of_a_new_one(tmp_path: Path, plan: Plan) -> None:
    def columns(path: Path) -> dict[str, list[tuple[object, ...]]]:
        db = sqlite3.connect(path)
        names = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
        db.close()
        return found

    new, *old = (tmp_path / f"{version}.sqlite" for version in (4, 1, 2, 3))
    Store(new, create=True).close()
    for path, make in zip(old, (version_1, version_2, version_3), strict=True):
        make(path, plan)
        Store(path, create=True).close()
        assert columns(path) == columns(new)


def test_an_upgrade_that_fails_changes_nothing(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.sqlite"
    version_1(path, plan)
    before = rows_of(path)
    monkeypatch.setattr("harness.store.database._TIMINGS", "CREATE TABLE timings (")
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
        (newer, "schema version 99, this harness reads version 4"),
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


@pytest.mark.parametrize(
    "read", [lambda path: Store(path, create=False), summarize], ids=["opened", "glanced at"]
)
def test_a_store_that_another_process_makes_meanwhile_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "r.sqlite"
    path.touch()

    def make() -> None:
        with contextlib.suppress(BadInput):  # it may have to wait until the reader is done
            Store(path, create=True).close()

    between = Between("user_version", make)
    monkeypatch.setattr(sqlite3, "connect", between.connect)
    with pytest.raises(NoResults):
        read(path)
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
