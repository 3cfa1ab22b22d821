"""The store: one SQLite file with everything a run found and how it was made."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from harness.errors import BadInput, Problem
from harness.plan.model import Case, Plan, Role
from harness.results import (
    Description,
    SharedRunComparison,
    Sharing,
    Timing,
    TrialResult,
    Unavailable,
)
from harness.store import schema
from harness.store.records import RunRecord, RunSettings
from harness.store.rows import (
    blob_or_null,
    measure_rows,
    parameter_rows,
    timing_values,
    to_blob,
    trial_row,
)
from harness.store.schema import APPLICATION_ID, SCHEMA_VERSION

FILE_NAME = "results.sqlite"

_log = logging.getLogger(__name__)

Defaults = Mapping[str, Mapping[str, Any]]  # by case key, as the constructor completed them
Descriptions = Mapping[str, Description]  # by objective name, of those not known already

_LATEST = "(SELECT max(id) FROM runs)"


class NoResults(BadInput):
    """There is no store yet, or an empty file that a killed run left as it began."""


class Store:
    """An open store. Only the coordinator writes to it.

    Args:
        path: The SQLite file.
        create: Whether to make one where there is none.
        untouched: Whether it is only read, so that the file and its folder stay as they are.

    Raises:
        NoResults: If there is none, and none is to be made.
        BadInput: If it can't be opened, isn't a store, or has another schema.
    """

    def __init__(self, path: Path, *, create: bool = False, untouched: bool = False) -> None:
        self.path = path
        self._is_written = not untouched
        if not create and not path.is_file():
            raise self._no_results()
        try:
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    schema.create(path)
            if untouched:
                self.db = schema.read_only(path)
            else:
                self.db = sqlite3.connect(path, isolation_level=None, timeout=10)
            self._identify(create=create)
            if create:
                # Commits then cost no disk flush each; a killed process loses nothing.
                self.db.execute("PRAGMA journal_mode = WAL")
                self.db.execute("PRAGMA synchronous = NORMAL")
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._unusable(error) from None

    def close(self) -> None:
        """Close the file, and leave one file."""
        if self._is_written:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("PRAGMA journal_mode = DELETE")
        self.db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, sqlite3.Error):
            raise self._unusable(error) from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; raises BadInput if the file can't be written (disk full, say)."""
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
            raise self._unusable(error) from None

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read in the block as of one moment, whatever is written meanwhile."""
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
        return self._keys("timings WHERE machine = ? AND settings = ?", machine, settings)

    def failing(self) -> set[str]:
        """Keys of the cases of which some trial failed."""
        return self._keys("trials WHERE status IN ('error', 'timeout')")

    def _keys(self, rows: str, *values: object) -> set[str]:
        sql = f"SELECT key FROM cases WHERE id IN (SELECT case_id FROM {rows})"
        return {key for (key,) in self.db.execute(sql, values)}

    def absent(self) -> Unavailable:
        """Devices and cases that the latest run could not run."""
        if not self.has_run():
            return Unavailable()
        settings = self.last_run().settings
        return Unavailable(settings.missing, settings.without_default)

    def sharings(self) -> dict[str, Sharing]:
        """Findings on how trials may run, by family key."""
        rows = self.db.execute("SELECT family, way, reason, lane_bytes, step_seconds FROM sharings")
        return {row[0]: Sharing(*row[1:]) for row in rows}

    def save_sharing(self, family: str, cases: Iterable[Case], sharing: Sharing) -> None:
        """Keep how the trials of some cases may run."""
        with self.transaction():
            self._put("sharings", [(family, *dataclasses.astuple(sharing))])
            self.db.executemany(
                "UPDATE cases SET family = ? WHERE key = ?", ((family, case.key) for case in cases)
            )

    def _put(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows of a table, in place of those with the same key."""
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self.db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)

    def step_seconds(self) -> dict[str, float]:
        """By case key, about the seconds of a step of a trial on its own, where known."""
        rows = self.db.execute("SELECT key, step_seconds FROM cases JOIN sharings USING (family)")
        return dict(rows.fetchall())

    def description(self, objective_key: str) -> Description:
        """Describe an objective by its key."""
        row = self.db.execute(
            "SELECT description FROM objectives WHERE key = ?", (objective_key,)
        ).fetchone()
        known = json.loads(row[0])
        known["minimizers"] = tuple(map(tuple, known["minimizers"]))
        known["metrics"] = tuple(map(tuple, known["metrics"]))
        known["window"] = known["window"] and tuple(map(tuple, known["window"]))
        return Description(**known)

    def knows_objectives(self, keys: Iterable[str]) -> bool:
        """True where every objective is described."""
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
        descriptions: Descriptions,
        defaults: Defaults,
    ) -> int:
        """Note a run of a plan that begins, and how it is made (see :class:`RunRecord`).

        Returns:
            Its number.
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

    def complete_plan(self, plan: Plan, defaults: Defaults) -> None:
        """Note all that the latest run compares, now that tuning has found it."""
        with self.transaction():
            self._put_plan(plan, {}, defaults)
            run_id = self.db.execute(f"SELECT {_LATEST}").fetchone()[0]
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

    def put_plan(self, plan: Plan, descriptions: Descriptions, defaults: Defaults) -> None:
        """Make a plan's cases known, without a run; see :meth:`begin_run`."""
        with self.transaction():
            self._put_plan(plan, descriptions, defaults)

    def _put_plan(self, plan: Plan, descriptions: Descriptions, defaults: Defaults) -> None:
        self._put(
            "objectives",
            [
                (planned.key, json.dumps(dataclasses.asdict(descriptions[planned.name])))
                for planned in plan.objectives
                if planned.name in descriptions
            ],
        )
        self.db.executemany(
            "INSERT OR IGNORE INTO cases (key, objective_key, optimizer_class, hyperparameters, "
            "defaults, dtype) VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    case.key,
                    case.objective.key,
                    case.located.reference,
                    json.dumps(case.hyperparameters),
                    json.dumps(defaults.get(case.key, case.hyperparameters)),
                    case.objective.dtype,
                )
                for case in plan.everything
            ),
        )

    def _put_run_cases(self, run_id: int, plan: Plan) -> None:
        self.db.executemany(
            "INSERT INTO run_cases SELECT ?, ?, id, ?, ?, ?, ?, ? FROM cases WHERE key = ?",
            (
                (run_id, position, *_names(case), case.key)
                for position, case in enumerate(plan.everything)
            ),
        )

    def has_run(self) -> bool:
        """True where there is a run to report."""
        return bool(self.db.execute("SELECT EXISTS (SELECT 1 FROM runs)").fetchone()[0])

    def finish_run(self) -> None:
        """Note that the latest run came to its end."""
        self._note("finished", _now())

    def note_report(self, report: str) -> None:
        """Note what the latest run's report was made with."""
        self._note("report", report)

    def _note(self, column: str, value: str) -> None:
        with self.transaction():
            self.db.execute(f"UPDATE runs SET {column} = ? WHERE id = {_LATEST}", (value,))

    def save_trials(
        self,
        results: Sequence[TrialResult],
        machine: str,
        comparison: SharedRunComparison | None = None,
    ) -> None:
        """Keep some trials, all or none, with the comparison of the run that they shared."""
        ids = {key: self._case_id(key) for key in {r.case_key for r in results}}
        keyed = [(ids[r.case_key], r) for r in results]
        with self.transaction():
            if comparison is not None:
                case_id = self._case_id(comparison.case_key)
                self._put("comparisons", [(case_id, *dataclasses.astuple(comparison)[1:])])
            ways = self._way_ids(results)
            self._put("trials", [trial_row(i, r, machine, ways) for i, r in keyed])
            self._put(
                "curves",
                [(i, r.seed, to_blob(r.losses), blob_or_null(r.evaluations_at)) for i, r in keyed],
            )
            self._put("measures", [row for i, r in keyed for row in measure_rows(i, r)])
            self._put("parameters", [row for i, r in keyed for row in parameter_rows(i, r)])
            self._put(
                "trajectories",
                [
                    (i, r.seed, to_blob(r.trajectory), blob_or_null(r.step_sizes))
                    for i, r in keyed
                    if r.trajectory is not None
                ],
            )
        if results:
            level = logging.INFO if len(results) > 1 else logging.DEBUG
            _log.log(level, "%d trials stored, the last of seed %d", len(results), results[-1].seed)

    def _way_ids(self, results: Sequence[TrialResult]) -> dict[tuple[str, str], int]:
        """Make known how trials ran, and why; return the number of each way."""
        found: dict[tuple[str, str], int] = {}
        for way in dict.fromkeys((str(r.way), r.way_reason) for r in results if r.way):
            self.db.execute("INSERT OR IGNORE INTO ways (way, reason) VALUES (?, ?)", way)
            sql = "SELECT id FROM ways WHERE way = ? AND reason = ?"
            found[way] = self.db.execute(sql, way).fetchone()[0]
        return found

    def save_timings(self, timings: Iterable[Timing], machine: str, settings: str) -> None:
        """Keep the timing pass's findings, all or none."""
        with self.transaction():
            self._put(
                "timings",
                [
                    (self._case_id(t.case_key), machine, settings, _now(), *timing_values(t))
                    for t in timings
                ],
            )

    def statuses(self) -> dict[str, int]:
        """Number of trials of the latest run by how they ended."""
        run = self.last_run()
        rows = self.db.execute(
            "SELECT role, seed, status FROM run_cases JOIN trials USING (case_id) WHERE run_id = ?",
            (run.id,),
        )
        seeds = {role: run.seeds_of(role) for role in get_args(Role)}
        return dict(Counter(status for role, seed, status in rows if seed in seeds[role]))

    def is_current(self, plan: Plan, spec_text: str, report: str) -> bool:
        """True where the latest run came to its end, was of this plan, and has its report."""
        row = self.db.execute(
            f"SELECT id, spec_text, report FROM runs WHERE finished IS NOT NULL AND id = {_LATEST}"
        ).fetchone()
        if row is None or row[1:] != (spec_text, report):
            return False
        if self.last_run().settings.seeds != plan.seeds:
            return False
        compared = self.db.execute(
            "SELECT key, objective, optimizer, setting, device, role FROM run_cases "
            "JOIN cases ON cases.id = case_id WHERE run_id = ? ORDER BY position",
            (row[0],),
        ).fetchall()
        return compared == [(case.key, *_names(case)) for case in plan.everything]

    def last_run(self) -> RunRecord:
        """The latest run; see :meth:`run`."""
        return self.run(None)

    def run(self, number: int | None) -> RunRecord:
        """A run by its number; None for the latest.

        Raises:
            BadInput: If there is none.
        """
        row = self.db.execute(
            "SELECT id, started, finished, command, suite, spec_file, spec_text, settings, "
            f"environment FROM runs WHERE id = COALESCE(?, {_LATEST})",
            (number,),
        ).fetchone()
        if row is None:
            raise BadInput.of_file(str(self.path), "holds no run")
        *_, settings, environment = row
        try:
            known = RunSettings.model_validate(json.loads(settings))
        except ValueError as error:
            why = f"holds a run that can't be read: {type(error).__name__}: {error}"
            raise BadInput.of_file(str(self.path), why) from None
        number, started, finished, command, suite, file, text = row[:7]
        made_on = json.loads(environment)
        return RunRecord(number, started, finished, command, suite, file, text, known, made_on)

    def _case_id(self, key: str) -> int:
        row = self.db.execute("SELECT id FROM cases WHERE key = ?", (key,)).fetchone()
        return int(row[0])

    def _identify(self, *, create: bool) -> None:
        """Make the schema in an empty file where asked to; refuse what isn't ours."""
        application, version, is_empty = schema.identity(self.db)
        if is_empty and create:
            with self.transaction():
                if not self.db.execute("SELECT 1 FROM sqlite_master").fetchone():
                    schema.make(self.db)
            application, version, is_empty = schema.identity(self.db)
        if not is_empty and (application, version) == (APPLICATION_ID, SCHEMA_VERSION):
            return
        self.db.close()
        if is_empty:
            raise self._no_results()
        text = "is an SQLite file of something else; give another --output"
        if application == APPLICATION_ID:
            text = (
                f"has schema version {version}, this harness reads version {SCHEMA_VERSION}; "
                "move it away or give another --output, and run again"
            )
        raise BadInput.of_file(str(self.path), text)

    def _no_results(self) -> NoResults:
        text = "no results here yet; 'python -m harness run SPEC' makes them"
        return NoResults([Problem(str(self.path), 0, 0, "", text)])

    def _unusable(self, error: Exception) -> BadInput:
        text = str(error)
        if "not a database" in text or "malformed" in text:
            text = f"is not a usable results file ({text}); move it away or give another --output"
        elif isinstance(error, OSError):
            text = f"can't be {'written' if self._is_written else 'read'}: {error.strerror}"
        else:
            text = f"can't be used: {text}"
        return BadInput.of_file(str(self.path), text)


def _names(case: Case) -> tuple[str, str, str, str, str]:
    """A case's columns in a run's rows."""
    return case.objective.name, case.optimizer, case.setting, case.device, case.role


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
