"""The schema of the store, and what tells a store from another file.

Arrays are blobs of little-endian float64.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from pathlib import Path

APPLICATION_ID = 0x68726E73
SCHEMA_VERSION = 5

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
    role TEXT NOT NULL DEFAULT 'given',  -- given, tuned, defaults; tuning, finalist, sweep
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID;
CREATE TABLE trials (
    case_id INTEGER NOT NULL REFERENCES cases(id),
    seed INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok','diverged','timeout','error','unavailable')),
    step INTEGER NOT NULL,
    reason TEXT NOT NULL,
    final_loss REAL,                -- on train; NULL unless the status is ok
    seconds REAL NOT NULL,
    machine TEXT NOT NULL,          -- digest of the machine it ran on
    evaluations INTEGER,            -- of loss and gradients, in all; NULL where not known
    way INTEGER REFERENCES ways(id),  -- how it ran; NULL where it didn't
    PRIMARY KEY (case_id, seed)
) WITHOUT ROWID;
CREATE TABLE curves (
    case_id INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    losses BLOB NOT NULL,           -- on train, at the objective's recorded steps, as far as it got
    evaluations BLOB,               -- until each; NULL where a step took one, or not known
    PRIMARY KEY (case_id, seed)
) WITHOUT ROWID;
CREATE TABLE measures (             -- what else was recorded, as the curves
    case_id INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    measure TEXT NOT NULL,          -- part and metric: 'test accuracy'
    recorded BLOB NOT NULL,
    PRIMARY KEY (case_id, seed, measure)
) WITHOUT ROWID;
CREATE TABLE parameters (           -- after the last step, where the spec keeps them
    case_id INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    place INTEGER NOT NULL,         -- among the trial's parameters
    name TEXT NOT NULL,
    dtype TEXT NOT NULL,            -- numpy's, little-endian
    shape TEXT NOT NULL,            -- JSON
    numbers BLOB NOT NULL,
    PRIMARY KEY (case_id, seed, place)
) WITHOUT ROWID;
CREATE TABLE trajectories (
    case_id INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    points BLOB NOT NULL,           -- all parameters after every step, row by row
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
) WITHOUT ROWID;
"""


def create(path: Path) -> None:
    """Make a store in a file of another name first, so that no reader finds it without tables.

    Where another process is faster, or there are no hard links, nothing is made.
    """
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            make(db)
            db.execute("COMMIT")
        with contextlib.suppress(OSError):
            os.link(made, path)
    finally:
        made.unlink(missing_ok=True)
        made.with_name(f"{made.name}-journal").unlink(missing_ok=True)


def make(db: sqlite3.Connection) -> None:
    """Make the schema in an empty file, within a transaction of the caller's."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    for statement in _SCHEMA.split(";\n"):
        db.execute(statement)


def identity(db: sqlite3.Connection) -> tuple[int, int, bool]:
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


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that leaves the file, and the folder it is in, as they are.

    A file that a killed process left in WAL mode makes even a reader put files beside it, unless
    it is told that nobody writes. Nobody does where there is no log to write to.
    """
    with path.open("rb") as file:
        in_wal_mode = file.read(20)[18:] == b"\x02\x02"
    alone = in_wal_mode and not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?{'immutable=1' if alone else 'mode=ro'}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
