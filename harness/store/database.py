"""The store: one SQLite file with everything a run found and how it was made.

The only module that knows the schema. Arrays are blobs of little-endian float64.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from harness.errors import BadInput
from harness.plan.model import Case, Plan, Role
from harness.results import Absent, Comparison, Description, Sharing, Timing, TrialResult
from harness.store.records import RunRecord, RunSettings, RunSummary

FILE_NAME = "results.sqlite"
APPLICATION_ID = 0x68726E73
SCHEMA_VERSION = 4

_NO_RESULTS = "no results here yet; 'python -m harness run SPEC' makes them"

_SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started TEXT NOT NULL,          -- UTC, ISO 8601
    finished TEXT,                  -- NULL while it runs, or where it was cut short
    command TEXT NOT NULL,
    suite TEXT NOT NULL,
    spec_file TEXT NOT NULL,
    spec_text TEXT NOT NULL,
    settings TEXT NOT NULL,         -- JSON: title, seeds, targets, claims, what is absent, ...
    environment TEXT NOT NULL,      -- JSON: versions, processor, threads, git state
    report TEXT                     -- digest of what the report was last made with
);
CREATE TABLE objectives (
    key TEXT PRIMARY KEY,           -- digest of all that decides it
    description TEXT NOT NULL       -- JSON: formula, rows, steps, recorded steps, optimum, ...
);
CREATE TABLE cases (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,       -- digest of all that decides its trials but the seed
    objective_key TEXT NOT NULL,
    optimizer_class TEXT NOT NULL,
    hyperparameters TEXT NOT NULL,  -- JSON, as the spec gives them
    defaults TEXT NOT NULL,         -- JSON, as the constructor completed them
    dtype TEXT NOT NULL,
    family TEXT                     -- of the cases that may share a run; NULL while unknown
);
CREATE TABLE run_cases (            -- what a run compares, in order
    run_id INTEGER NOT NULL REFERENCES runs(id),
    position INTEGER NOT NULL,
    case_id INTEGER NOT NULL REFERENCES cases(id),
    objective TEXT NOT NULL,
    optimizer TEXT NOT NULL,
    setting TEXT NOT NULL,
    device TEXT NOT NULL,
    role TEXT NOT NULL DEFAULT 'given',  -- given, tuned, defaults; tuning, sweep: only tried
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID;
CREATE TABLE trials (
    case_id INTEGER NOT NULL REFERENCES cases(id),
    seed INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok','diverged','timeout','error','unavailable')),
    step INTEGER NOT NULL,
    reason TEXT NOT NULL,
    final_loss REAL,                -- NULL unless the status is ok
    seconds REAL NOT NULL,
    machine TEXT NOT NULL,          -- digest of the machine it ran on
    evaluations INTEGER,            -- of loss and gradients, in all; NULL where not known
    way INTEGER REFERENCES ways(id),  -- how it ran; NULL where it didn't
    PRIMARY KEY (case_id, seed)
) WITHOUT ROWID;
CREATE TABLE curves (
    case_id INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    losses BLOB NOT NULL,           -- at the objective's recorded steps, as far as it got
    evaluations BLOB,               -- until each; NULL where a step took one, or not known
    PRIMARY KEY (case_id, seed)
) WITHOUT ROWID;
CREATE TABLE trajectories (
    case_id INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    points BLOB NOT NULL,           -- x1, x2 after every step, row by row
    step_sizes BLOB,                -- effective step size of each, where the optimizer tells
    PRIMARY KEY (case_id, seed)
) WITHOUT ROWID;
CREATE TABLE ways (                 -- how trials run
    id INTEGER PRIMARY KEY,
    way TEXT NOT NULL,              -- pointwise, vmapped or alone (vmap: of an older version)
    reason TEXT NOT NULL,           -- what kept them from the way before
    UNIQUE (way, reason)
);
CREATE TABLE sharings (             -- how trials may run, found out once
    family TEXT PRIMARY KEY,        -- digest of the cases that may share a run
    way TEXT NOT NULL,              -- pointwise, vmapped, alone, or apart: each case for itself
    reason TEXT NOT NULL,           -- what kept them from the way before
    lane_bytes INTEGER NOT NULL,
    step_seconds REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE comparisons (          -- trials of shared runs that were run alone as well
    case_id INTEGER NOT NULL REFERENCES cases(id),
    seed INTEGER NOT NULL,
    lanes INTEGER NOT NULL,         -- trials that shared the run
    way TEXT NOT NULL,
    difference REAL NOT NULL,       -- largest of a recorded loss, relative to its size
    rounding REAL NOT NULL,         -- the largest that rounding may make
    PRIMARY KEY (case_id, seed)
) WITHOUT ROWID;
"""

_TIMINGS = """
CREATE TABLE timings (
    case_id INTEGER NOT NULL REFERENCES cases(id),
    machine TEXT NOT NULL,
    settings TEXT NOT NULL,         -- digest of how it was timed, and against which cases
    taken TEXT NOT NULL,
    steps INTEGER NOT NULL,         -- optimizer steps per block
    steps_per_epoch INTEGER NOT NULL,
    seconds BLOB NOT NULL,          -- wall seconds per block, by round
    cpu_seconds BLOB NOT NULL,      -- processor seconds per block, by round
    operators INTEGER,              -- dispatched in the counted steps; NULL where not known
    calls INTEGER,                  -- Python functions called in them
    counted_steps INTEGER,
    state_bytes INTEGER,            -- of the optimizer, after them
    peak_bytes INTEGER,             -- most memory held at once on a GPU
    evaluations BLOB,               -- of loss and gradients per block; NULL where not known
    PRIMARY KEY (case_id, machine)
) WITHOUT ROWID
"""


class NoResults(BadInput):
    """There is no store yet, or an empty file that a killed run left as it began."""


class Store:
    """An open store. Only the coordinator writes to it.

    Args:
        path: The SQLite file.
        create: Whether to make one where there is none.

    Raises:
        NoResults: If there is none, and none is to be made.
        BadInput: If it can't be opened, isn't a store, or has another schema.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        if not create and not path.is_file():
            raise NoResults.of_file(str(path), _NO_RESULTS)
        try:
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(path, isolation_level=None, timeout=10)
            self._identify(create=create)
            if create:
                # Commits then cost no disk flush each; a killed process loses nothing.
                self.db.execute("PRAGMA journal_mode = WAL")
                self.db.execute("PRAGMA synchronous = NORMAL")
        except (sqlite3.DatabaseError, OSError) as error:
            raise BadInput.of_file(str(path), _why(error)) from None

    @classmethod
    def copy_of(cls, path: Path) -> Store:
        """A store as it is now, in memory: what is done to it, no file ever sees.

        So other people's results are read, older schemas too, and stay as they are.

        Raises:
            NoResults: If there is none.
            BadInput: As by opening it.
        """
        if not path.is_file():
            raise NoResults.of_file(str(path), _NO_RESULTS)
        copy = cls.__new__(cls)
        copy.path = path
        try:
            copy.db = sqlite3.connect(":memory:", isolation_level=None)
            with contextlib.closing(_read_only(path)) as db:
                db.backup(copy.db)
            copy._identify(create=False)
        except sqlite3.DatabaseError as error:
            raise BadInput.of_file(str(path), _why(error)) from None
        except OSError as error:
            raise BadInput.of_file(str(path), f"can't be read: {error.strerror}") from None
        return copy

    def close(self) -> None:
        """Close the file, and leave one file."""
        with contextlib.suppress(sqlite3.Error):
            self.db.execute("PRAGMA journal_mode = DELETE")
        self.db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, sqlite3.Error):
            raise BadInput.of_file(str(self.path), _why(error)) from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing.

        Raises:
            BadInput: If the file can't be written (disk full, say).
        """
        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")
            raise BadInput.of_file(str(self.path), _why(error)) from None

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read in the block is of one moment, whatever is written meanwhile."""
        self.db.execute("BEGIN")
        try:
            yield
        finally:
            self.db.execute("ROLLBACK")

    def finished_seeds(
        self, keys: Iterable[str], machine: str, *, only_here: bool = False
    ) -> dict[str, set[int]]:
        """By case key, the seeds that need not run again.

        A trial that was ok or diverged is done for good (``only_here``: where that was on this
        machine); one whose device was missing is done as far as this machine goes; one that
        failed is due again.
        """
        done: dict[str, set[int]] = {key: set() for key in keys}
        rows = self.db.execute(
            "SELECT key, seed FROM trials JOIN cases ON cases.id = case_id "
            "WHERE status IN ('ok', 'diverged', 'unavailable') AND (machine = ? OR NOT ? "
            "AND status <> 'unavailable')",
            (machine, only_here),
        )
        for key, seed in rows:
            if key in done:
                done[key].add(seed)
        return done

    def timed(self, machine: str, settings: str) -> set[str]:
        """Keys of the cases timed on a machine under the given settings."""
        rows = self.db.execute(
            "SELECT key FROM timings JOIN cases ON cases.id = case_id "
            "WHERE machine = ? AND settings = ?",
            (machine, settings),
        )
        return {key for (key,) in rows}

    def absent(self) -> Absent:
        """What could not be run in the latest run."""
        if not self.has_run():
            return Absent()
        settings = self.last_run().settings
        return Absent(settings.missing, settings.without_default)

    def sharings(self) -> dict[str, Sharing]:
        """How trials may run, by family key."""
        rows = self.db.execute("SELECT family, way, reason, lane_bytes, step_seconds FROM sharings")
        return {row[0]: Sharing(*row[1:]) for row in rows}

    def save_sharing(self, family: str, cases: Iterable[Case], sharing: Sharing) -> None:
        """Remember how the trials of some cases may run."""
        with self.transaction():
            self.db.execute(
                "INSERT OR REPLACE INTO sharings VALUES (?, ?, ?, ?, ?)",
                (family, *dataclasses.astuple(sharing)),
            )
            for case in cases:
                self.db.execute("UPDATE cases SET family = ? WHERE key = ?", (family, case.key))

    def save_comparison(self, found: Comparison) -> None:
        """Keep what came of running a trial of a shared run alone."""
        with self.transaction():
            self._put_comparison(found)

    def _put_comparison(self, found: Comparison) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO comparisons VALUES (?, ?, ?, ?, ?, ?)",
            (
                *(self._case_id(found.case_key), found.seed, found.lanes, found.way),
                *(found.difference, found.rounding),
            ),
        )

    def failing(self) -> set[str]:
        """Keys of the cases of which some trial failed."""
        rows = self.db.execute(
            "SELECT DISTINCT key FROM trials JOIN cases ON cases.id = case_id "
            "WHERE status IN ('error', 'timeout')"
        )
        return {key for (key,) in rows}

    def step_seconds(self) -> dict[str, float]:
        """By case key, about what a step of a trial on its own takes, where known."""
        rows = self.db.execute("SELECT key, step_seconds FROM cases JOIN sharings USING (family)")
        return dict(rows.fetchall())

    def knows_objectives(self, keys: Iterable[str]) -> bool:
        """Whether every objective is described."""
        known = {key for (key,) in self.db.execute("SELECT key FROM objectives")}
        return set(keys) <= known

    def begin_run(
        self,
        plan: Plan,
        *,
        command: str,
        spec_file: str,
        spec_text: str,
        settings: RunSettings,
        environment: Mapping[str, str],
        descriptions: Mapping[str, Description],
        defaults: Mapping[str, Mapping[str, Any]],
    ) -> int:
        """Note what a run will do, and how it is made; returns its number.

        Args:
            plan: What it will do.
            command: The command line.
            spec_file: The spec as the user named it.
            spec_text: Its whole text.
            settings: See :class:`RunRecord`.
            environment: See :class:`RunRecord`.
            descriptions: By objective name; may lack those that are known already.
            defaults: By case key; likewise.
        """
        with self.transaction():
            cursor = self.db.execute(
                "INSERT INTO runs (started, command, suite, spec_file, spec_text, settings, "
                "environment) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    _now(),
                    command,
                    plan.suite,
                    spec_file,
                    spec_text,
                    json.dumps(settings.model_dump(mode="json")),
                    json.dumps(environment),
                ),
            )
            run_id = int(cursor.lastrowid or 0)
            self._put_plan(plan, descriptions, defaults)
            self._put_run_cases(run_id, plan)
        return run_id

    def complete_plan(self, plan: Plan, defaults: Mapping[str, Mapping[str, Any]]) -> None:
        """Note what the latest run compares, now that tuning has found it.

        Args:
            plan: The plan, completed.
            defaults: By case key; see :meth:`begin_run`.
        """
        with self.transaction():
            self._put_plan(plan, {}, defaults)
            run_id = self.db.execute("SELECT max(id) FROM runs").fetchone()[0]
            self.db.execute("DELETE FROM run_cases WHERE run_id = ?", (run_id,))
            self._put_run_cases(run_id, plan)

    def rename_cases(self, before: Plan, now: Plan) -> None:
        """Give a plan's cases the keys that they have now that more is known of what they read."""
        pairs = zip(before.everything, now.everything, strict=True)
        changed = [
            (new.key, new.objective.key, old.key) for old, new in pairs if new.key != old.key
        ]
        objectives = zip(before.objectives, now.objectives, strict=True)
        with self.transaction():
            self.db.executemany(
                "UPDATE OR REPLACE objectives SET key = ? WHERE key = ?",
                ((new.key, old.key) for old, new in objectives),
            )
            self.db.executemany(
                "UPDATE OR IGNORE cases SET key = ?, objective_key = ? WHERE key = ?", changed
            )

    def _put_run_cases(self, run_id: int, plan: Plan) -> None:
        self.db.executemany(
            "INSERT INTO run_cases SELECT ?, ?, id, ?, ?, ?, ?, ? FROM cases WHERE key = ?",
            (
                (run_id, position, *_as_compared(case), case.key)
                for position, case in enumerate(plan.everything)
            ),
        )

    def put_plan(
        self,
        plan: Plan,
        descriptions: Mapping[str, Description],
        defaults: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Make a plan's cases known, without a run; see :meth:`begin_run`."""
        with self.transaction():
            self._put_plan(plan, descriptions, defaults)

    def _put_plan(
        self,
        plan: Plan,
        descriptions: Mapping[str, Description],
        defaults: Mapping[str, Mapping[str, Any]],
    ) -> None:
        for planned in plan.objectives:
            if planned.name in descriptions:
                self.db.execute(
                    "INSERT OR REPLACE INTO objectives VALUES (?, ?)",
                    (planned.key, json.dumps(dataclasses.asdict(descriptions[planned.name]))),
                )
        for case in plan.everything:
            self._put_case(case, defaults.get(case.key))

    def outcomes(
        self, keys: Iterable[str], seeds: Iterable[int]
    ) -> dict[str, list[tuple[int, str, str, float | None, float | None]]]:
        """By case key, how the trials of some seeds ended.

        Each is a seed, a status, its reason, the final loss, and the loss at the start.
        """
        found: dict[str, list[tuple[int, str, str, float | None, float | None]]] = {
            key: [] for key in keys
        }
        wanted = set(seeds)
        rows = self.db.execute(
            "SELECT key, seed, status, reason, final_loss, substr(losses, 1, 8) FROM trials "
            "JOIN cases ON cases.id = case_id LEFT JOIN curves USING (case_id, seed)"
        )
        for key, seed, status, reason, final, first in rows:
            if key in found and seed in wanted:
                start = float(from_blob(first)[0]) if first else None
                found[key].append((seed, status, reason, final, start))
        return found

    def courses(
        self, keys: Iterable[str], seeds: Iterable[int]
    ) -> dict[str, list[tuple[int, NDArray[np.float64]]]]:
        """By case key, how many steps the trials of some seeds took, and their recorded losses.

        The losses are those at the objective's recorded steps, as far as a trial got.
        """
        found: dict[str, list[tuple[int, NDArray[np.float64]]]] = {key: [] for key in keys}
        wanted = set(seeds)
        rows = self.db.execute(
            "SELECT key, seed, step, losses FROM trials JOIN cases ON cases.id = case_id "
            "LEFT JOIN curves USING (case_id, seed) ORDER BY seed"
        )
        for key, seed, step, losses in rows:
            if key in found and seed in wanted:
                found[key].append((step, from_blob(losses) if losses else np.empty(0)))
        return found

    def description(self, objective_key: str) -> Description:
        """Describe an objective by its key."""
        row = self.db.execute(
            "SELECT description FROM objectives WHERE key = ?", (objective_key,)
        ).fetchone()
        return Description(**json.loads(row[0]))

    def has_run(self) -> bool:
        """Whether there is a run to report."""
        return bool(self.db.execute("SELECT EXISTS (SELECT 1 FROM runs)").fetchone()[0])

    def finish_run(self) -> None:
        """Note that the latest run came to its end."""
        with self.transaction():
            self.db.execute(
                "UPDATE runs SET finished = ? WHERE id = (SELECT max(id) FROM runs)", (_now(),)
            )

    def save_trials(
        self,
        results: Sequence[TrialResult],
        machine: str,
        comparison: Comparison | None = None,
    ) -> None:
        """Keep some trials, all or none, with the comparison of the run that they shared."""
        ids = {key: self._case_id(key) for key in {r.case_key for r in results}}
        keyed = [(ids[r.case_key], r) for r in results]
        with self.transaction():
            if comparison is not None:
                self._put_comparison(comparison)
            ways = {(str(r.way), r.way_reason): 0 for r in results if r.way}
            for way in ways:
                self.db.execute("INSERT OR IGNORE INTO ways (way, reason) VALUES (?, ?)", way)
                sql = "SELECT id FROM ways WHERE way = ? AND reason = ?"
                ways[way] = self.db.execute(sql, way).fetchone()[0]
            self.db.executemany(
                "INSERT OR REPLACE INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        *(case_id, r.seed, r.status, r.step, r.reason),
                        float(r.losses[-1]) if r.status == "ok" else None,
                        *(r.seconds, machine, r.evaluations),
                        ways.get((str(r.way), r.way_reason)),
                    )
                    for case_id, r in keyed
                ),
            )
            self.db.executemany(
                "INSERT OR REPLACE INTO curves VALUES (?, ?, ?, ?)",
                (
                    (case_id, r.seed, to_blob(r.losses), _blob_or_null(r.evaluations_at))
                    for case_id, r in keyed
                ),
            )
            self.db.executemany(
                "INSERT OR REPLACE INTO trajectories VALUES (?, ?, ?, ?)",
                (
                    (
                        *(case_id, r.seed, to_blob(r.trajectory)),
                        _blob_or_null(r.step_sizes),
                    )
                    for case_id, r in keyed
                    if r.trajectory is not None
                ),
            )

    def save_timings(self, timings: Iterable[Timing], machine: str, settings: str) -> None:
        """Keep the timing pass's findings, all or none."""
        with self.transaction():
            for t in timings:
                counted = t.counts
                values = (
                    *(machine, settings, _now(), t.steps, t.steps_per_epoch),
                    *(to_blob(t.seconds), to_blob(t.cpu_seconds)),
                    counted and counted.operators,
                    counted and counted.calls,
                    counted and counted.steps,
                    counted and counted.state_bytes,
                    t.peak_bytes,
                    _blob_or_null(t.evaluations),
                )
                self.db.execute(
                    "INSERT OR REPLACE INTO timings SELECT id, "
                    f"{', '.join('?' * len(values))} FROM cases WHERE key = ?",
                    (*values, t.case_key),
                )

    def statuses(self) -> dict[str, int]:
        """How many trials of the latest run ended how."""
        run = self.last_run()
        rows = self.db.execute(
            "SELECT role, seed, status FROM run_cases JOIN trials USING (case_id) WHERE run_id = ?",
            (run.id,),
        )
        seeds = {role: run.seeds_of(role) for role in get_args(Role)}
        return dict(Counter(status for role, seed, status in rows if seed in seeds[role]))

    def is_current(self, plan: Plan, spec_text: str, report: str) -> bool:
        """Whether the latest run came to its end, was of this plan, and has its report."""
        row = self.db.execute(
            "SELECT id, spec_text, settings, report FROM runs WHERE finished IS NOT NULL "
            "AND id = (SELECT max(id) FROM runs)"
        ).fetchone()
        if row is None or row[1] != spec_text or row[3] != report:
            return False
        if json.loads(row[2])["seeds"] != list(plan.seeds):
            return False
        compared = self.db.execute(
            "SELECT key, objective, optimizer, setting, device, role FROM run_cases "
            "JOIN cases ON cases.id = case_id WHERE run_id = ? ORDER BY position",
            (row[0],),
        ).fetchall()
        return compared == [(case.key, *_as_compared(case)) for case in plan.everything]

    def note_report(self, report: str) -> None:
        """Note what the latest run's report was made with."""
        with self.transaction():
            self.db.execute(
                "UPDATE runs SET report = ? WHERE id = (SELECT max(id) FROM runs)", (report,)
            )

    def last_run(self) -> RunRecord:
        """The latest run.

        Raises:
            BadInput: If there is none.
        """
        return self.run(None)

    def run(self, number: int | None) -> RunRecord:
        """A run by its number; None for the latest.

        Raises:
            BadInput: If there is none.
        """
        row = self.db.execute(
            "SELECT id, started, finished, command, suite, spec_file, spec_text, settings, "
            "environment FROM runs WHERE id = COALESCE(?, (SELECT max(id) FROM runs))",
            (number,),
        ).fetchone()
        if row is None:
            raise BadInput.of_file(str(self.path), "holds no run")
        return RunRecord(
            id=row[0],
            started=row[1],
            finished=row[2],
            command=row[3],
            suite=row[4],
            spec_file=row[5],
            spec_text=row[6],
            settings=RunSettings.model_validate_json(row[7]),
            environment=json.loads(row[8]),
        )

    def _case_id(self, key: str) -> int:
        row = self.db.execute("SELECT id FROM cases WHERE key = ?", (key,)).fetchone()
        return int(row[0])

    def _put_case(self, case: Case, defaults: Mapping[str, Any] | None) -> None:
        known = json.dumps(defaults) if defaults is not None else json.dumps(case.hyperparameters)
        self.db.execute(
            "INSERT OR IGNORE INTO cases (key, objective_key, optimizer_class, hyperparameters, "
            "defaults, dtype) VALUES (?, ?, ?, ?, ?, ?)",
            (
                case.key,
                case.objective.key,
                case.located.reference,
                json.dumps(case.hyperparameters),
                known,
                case.objective.dtype,
            ),
        )

    def _identify(self, *, create: bool) -> None:
        """Make the schema in an empty file where asked to; refuse what isn't ours."""
        application, version, is_empty = _identity(self.db)
        if is_empty and create:
            self._make()
            application, version, is_empty = _identity(self.db)
        if is_empty:
            self.db.close()
            raise NoResults.of_file(str(self.path), _NO_RESULTS)
        if application != APPLICATION_ID:
            self.db.close()
            raise BadInput.of_file(
                str(self.path), "is an SQLite file of something else; give another --output"
            )
        if version in range(1, SCHEMA_VERSION):
            self._upgrade()
            return
        if version != SCHEMA_VERSION:
            self.db.close()
            raise _of_another_version(self.path, version)

    def _make(self) -> None:
        """Make the schema, all of it or nothing, unless another process was faster."""
        with self.transaction():
            if self.db.execute("SELECT 1 FROM sqlite_master").fetchone():
                return
            self.db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self.db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            for statement in (*_SCHEMA.split(";\n"), _TIMINGS):
                self.db.execute(statement)

    def _upgrade(self) -> None:
        """Make an older version the current one.

        Version 1 lacks what is now kept with each timing: they are dropped, for the next run takes
        them again in seconds. Version 2 knows no tuning. Version 3 doesn't say why trials ran as
        they did, nor how often they evaluated the loss. All else stays.
        """
        with self.transaction():
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
            if version == 1:
                self.db.execute("DROP TABLE timings")
                self.db.execute(_TIMINGS)
            elif version < SCHEMA_VERSION:
                self.db.execute("ALTER TABLE timings ADD COLUMN evaluations BLOB")
            if version < 3:
                self.db.execute(
                    "ALTER TABLE run_cases ADD COLUMN role TEXT NOT NULL DEFAULT 'given'"
                )
            if version < SCHEMA_VERSION:  # nobody was faster
                for table in ("ways", "sharings", "comparisons"):
                    self.db.execute(_statement(table))
                self.db.execute("DROP TABLE verdicts")
                self.db.execute("ALTER TABLE curves ADD COLUMN evaluations BLOB")
                self.db.execute("ALTER TABLE trials ADD COLUMN evaluations INTEGER")
                self.db.execute("ALTER TABLE trials ADD COLUMN way INTEGER REFERENCES ways(id)")
                self.db.execute(
                    "INSERT INTO ways (way, reason) "
                    "SELECT DISTINCT mode, '' FROM trials WHERE mode <> ''"
                )
                self.db.execute(
                    "UPDATE trials SET way = (SELECT id FROM ways WHERE ways.way = trials.mode)"
                )
                self.db.execute("ALTER TABLE trials DROP COLUMN mode")
                self.db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _statement(table: str) -> str:
    """The statement of the schema that makes a table."""
    start = f"CREATE TABLE {table} ("
    return next(text for text in _SCHEMA.split(";\n") if text.lstrip().startswith(start))


def summarize(path: Path) -> RunSummary | None:
    """Look at a store's latest run, of any schema there was, and change nothing.

    Returns:
        What it came to; None where the store holds no run.

    Raises:
        NoResults: If there is no store.
        BadInput: If it can't be read, or isn't one of ours.
    """
    if not path.is_file():
        raise NoResults.of_file(str(path), _NO_RESULTS)
    try:
        with contextlib.closing(_read_only(path)) as db:
            application, version, is_empty = _identity(db)
            if is_empty:
                raise NoResults.of_file(str(path), _NO_RESULTS)
            if application != APPLICATION_ID:
                raise BadInput.of_file(str(path), "is an SQLite file of something else")
            if version not in range(1, SCHEMA_VERSION + 1):
                raise _of_another_version(path, version)
            return _summarize(db, version)
    except sqlite3.DatabaseError as error:
        raise BadInput.of_file(str(path), _why(error)) from None
    except OSError as error:
        raise BadInput.of_file(str(path), f"can't be read: {error.strerror}") from None


def _summarize(db: sqlite3.Connection, version: int) -> RunSummary | None:
    run = db.execute(
        "SELECT id, suite, started, finished, settings FROM runs ORDER BY id DESC LIMIT 1"
    ).fetchone()
    if run is None:
        return None
    settings: dict[str, Any] = json.loads(run[4])
    seeds = set(settings["seeds"])
    # Before version 3 nothing was tuned: all there is was compared.
    compared = "run_id = ?" + (" AND role NOT IN ('tuning', 'sweep')" if version >= 3 else "")
    counts = db.execute(
        "SELECT count(*), count(DISTINCT optimizer), count(DISTINCT objective), "
        f"count(DISTINCT device) FROM run_cases WHERE {compared}",
        (run[0],),
    ).fetchone()
    statuses: Counter[str] = Counter()
    for seed, status, count in db.execute(
        "SELECT seed, status, count(*) FROM run_cases JOIN trials USING (case_id) "
        f"WHERE {compared} GROUP BY seed, status",
        (run[0],),
    ):
        if seed in seeds:
            statuses[status] += count
    return RunSummary(
        suite=run[1],
        title=str(settings.get("title") or ""),
        started=run[2],
        finished=run[3],
        optimizers=counts[1],
        objectives=counts[2],
        devices=counts[3],
        seeds=len(seeds),
        cases=counts[0],
        statuses=dict(statuses),
    )


def _identity(db: sqlite3.Connection) -> tuple[int, int, bool]:
    """Application, schema version, and whether the file is empty, all as of one moment.

    Another process may be making the store: read one by one, an application from before that and
    tables from after it would look like a file of something else.
    """
    db.execute("BEGIN")
    try:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    finally:
        db.execute("ROLLBACK")
    return application, version, not tables and not application


def _read_only(path: Path) -> sqlite3.Connection:
    """A connection that leaves the file, and the folder it is in, as they are.

    A file that a killed process left in WAL mode makes even a reader put files beside it, unless
    it is told that nobody writes. Nobody does where there is no log to write to.
    """
    with path.open("rb") as file:
        in_wal_mode = file.read(20)[18:] == b"\x02\x02"
    alone = in_wal_mode and not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?{'immutable=1' if alone else 'mode=ro'}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)


def _of_another_version(path: Path, version: int) -> BadInput:
    return BadInput.of_file(
        str(path),
        f"has schema version {version}, this harness reads version {SCHEMA_VERSION}; "
        "move it away or give another --output",
    )


def _as_compared(case: Case) -> tuple[str, str, str, str, str]:
    """What a run's row says of a case."""
    return case.objective.name, case.optimizer, case.setting, case.device, case.role


def _blob_or_null(values: NDArray[np.float64] | NDArray[np.int64] | None) -> bytes | None:
    return None if values is None else to_blob(values)


def to_blob(values: NDArray[np.float64] | NDArray[np.int64]) -> bytes:
    """An array as the store keeps it."""
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def from_blob(blob: bytes) -> NDArray[np.float64]:
    """An array as it was kept, flat."""
    return np.frombuffer(blob, dtype="<f8").astype(np.float64)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _why(error: Exception) -> str:
    text = str(error)
    if "not a database" in text or "malformed" in text:
        return f"is not a usable results file ({text}); move it away or give another --output"
    if isinstance(error, OSError):
        return f"can't be written: {error.strerror}"
    return f"can't be used: {text}"
